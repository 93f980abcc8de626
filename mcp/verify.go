package mcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/jwks"
)

// verifier judges JWTs as page 3 has it: HS256 with the secret, or the issuer's keys, never what the token brings along.
type verifier struct {
	cfg    Tokens
	keys   *jwks.Cache
	parser *jwt.Parser
}

// claims are what is read of a token that verified.
type claims struct {
	principal      string // issuer, subject and client; "" without a subject
	issuedAt       time.Time
	login, license string
}

func newVerifier(cfg Tokens, log *slog.Logger) *verifier {
	methods := jwks.Algorithms
	if cfg.HS256Secret != "" {
		methods = []string{jwt.SigningMethodHS256.Alg()}
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(),
	}
	return &verifier{cfg: cfg, keys: jwks.New(jwks.Config{Log: log}), parser: jwt.NewParser(options...)}
}

// judge verifies a token at a time, and waits for the issuer's keys until ctx ends.
func (v *verifier) judge(ctx context.Context, token string, now time.Time) (claims, error) {
	if len(token) > api.MaxToken || strings.ContainsAny(token, "\r\n") {
		return claims{}, errors.New("not a token")
	}
	var presented time.Time
	for {
		read := jwt.MapClaims{}
		_, err := v.parser.ParseWithClaims(token, read, func(t *jwt.Token) (any, error) { return v.key(t, presented) })
		pending, wait := errors.AsType[*jwks.Pending](err)
		if !wait {
			if err != nil {
				return claims{}, err
			}
			return v.read(read, now)
		}
		presented = pending.Since
		select {
		case <-pending.Done:
		case <-ctx.Done():
			return claims{}, ctx.Err()
		}
	}
}

// key picks the key for a token. What the header says of keys (jku, jwk, x5u) is not read.
func (v *verifier) key(t *jwt.Token, presented time.Time) (any, error) {
	if _, critical := t.Header["crit"]; critical { // RFC 7515, section 4.1.11
		return nil, errors.New("the header's crit is not understood")
	}
	if v.cfg.HS256Secret != "" {
		return []byte(v.cfg.HS256Secret), nil
	}
	kid, isText := t.Header["kid"].(string)
	if _, has := t.Header["kid"]; has && !isText {
		return nil, errors.New("the header's kid must be a string")
	}
	found, err := v.keys.Find(jwks.Group{}, v.cfg.JWKSURL, kid, t.Method.Alg(), presented)
	if err != nil {
		return nil, err
	}
	var set jwt.VerificationKeySet
	for _, key := range found {
		set.Keys = append(set.Keys, key)
	}
	return set, nil
}

// read checks the claims: exp and iat are required; exp has no leeway, the others 5 s (page 3).
func (v *verifier) read(in jwt.MapClaims, now time.Time) (claims, error) {
	var c claims
	exp, err := in.GetExpirationTime()
	if err != nil || exp == nil || !now.Before(exp.Time) {
		return c, errors.New("exp is missing or has passed")
	}
	iat, err := in.GetIssuedAt()
	if err != nil || iat == nil || iat.After(now.Add(api.IssuedAtSkew)) {
		return c, errors.New("iat is missing or lies in the future")
	}
	if nbf, err := in.GetNotBefore(); err != nil || nbf != nil && nbf.After(now.Add(api.IssuedAtSkew)) {
		return c, errors.New("nbf lies in the future")
	}
	issuer, err := in.GetIssuer()
	if err != nil || v.cfg.Issuer != "" && issuer != v.cfg.Issuer {
		return c, errors.New("iss is another issuer")
	}
	if err := v.checkAudience(in); err != nil {
		return c, err
	}
	c.issuedAt = iat.Time
	c.login, c.license = claimText(in, v.cfg.LoginClaim), claimText(in, v.cfg.LicenseClaim)
	if subject := claimText(in, "sub"); subject != "" {
		client := claimText(in, "client_id") // RFC 9068, section 2.2
		if client == "" {
			client = claimText(in, "azp")
		}
		c.principal = fmt.Sprintf("%q %q %q", issuer, subject, client)
	}
	return c, nil
}

func (v *verifier) checkAudience(in jwt.MapClaims) error {
	audience, err := in.GetAudience()
	if err != nil {
		return err
	}
	if v.cfg.Audience == "" {
		return nil
	}
	if slices.Contains(audience, v.cfg.Audience) {
		return nil
	}
	return errors.New("aud is another audience")
}

func claimText(in jwt.MapClaims, name string) string {
	s, _ := in[name].(string)
	return s
}
