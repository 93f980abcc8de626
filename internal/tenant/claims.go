package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
)

// claims are what Rollcall reads of a token (page 3, "Session tokens").
type claims struct {
	id                             string
	expiresAt                      api.Millis
	issuedAt                       api.Millis // in whole seconds
	early                          bool       // it said that it was issued after it was presented
	epoch                          uint64
	login, license, clientID, name string
}

// checkTokenForm refuses what cannot be a JWT before anything is decoded. The alphabet is checked because Go's base64 decoder
// skips line breaks: a token with one added would verify, but not be the token that was denied.
func checkTokenForm(token string) error {
	if len(token) > api.MaxToken {
		return tokenInvalid("the token must be at most %d bytes", api.MaxToken)
	}
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return tokenInvalid("the token is not a JWT: it has a character that is not of base64url")
		}
	}
	return nil
}

// readClaims reads the claims of an authentic token. The errors name the claim and never its value.
func readClaims(token string, in jwt.MapClaims, now api.Millis, rollcall bool) (claims, error) {
	var c claims
	signed := token[:strings.LastIndexByte(token, '.')]
	payload, err := jwtParser.DecodeSegment(signed[strings.IndexByte(signed, '.')+1:])
	if err != nil || !utf8.Valid(payload) { // the JSON decoder replaces what is not UTF-8
		return c, tokenInvalid("the token's claims must be valid UTF-8")
	}
	exp, err := readTime(in, "exp")
	if err != nil {
		return c, err
	}
	iat, err := readTime(in, "iat")
	if err != nil {
		return c, err
	}
	c.expiresAt, c.issuedAt = api.Millis(math.Round(exp*1000)), api.Millis(math.Floor(iat)*1000)
	if !rollcall && iat*1000 > float64(now.Add(api.IssuedAtSkew)) {
		return c, tokenInvalid("the token's claim iat lies in the future")
	}
	c.early = !rollcall && iat*1000 > float64(now)
	if rollcall {
		number, _ := in["epoch"].(json.Number)
		if c.epoch, err = strconv.ParseUint(number.String(), 10, 64); err != nil {
			return c, tokenInvalid("the token's claim epoch must be a number")
		}
	}
	var jti string
	for _, claim := range []struct {
		name string
		to   *string
	}{{"sub", &c.login}, {"license", &c.license}, {"name", &c.name}, {"cid", &c.clientID}, {"jti", &jti}} {
		if *claim.to, err = readText(in, claim.name); err != nil {
			return c, err
		}
	}
	if _, has := in["cid"]; has {
		if p := checkClientID("cid", c.clientID); p != nil {
			return c, tokenInvalid("the token's claim %s", p)
		}
	}
	c.id = "jti:" + jti
	if jti == "" {
		// The hash of what is signed, not of the signature: an ECDSA signature has more than one valid form.
		sum := sha256.Sum256([]byte(signed))
		c.id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return c, nil
}

// readTime reads a required NumericDate (RFC 7519, section 2), in seconds.
func readTime(in jwt.MapClaims, claim string) (float64, error) {
	value, has := in[claim]
	if !has {
		return 0, tokenInvalid("the token's claim %s is required", claim)
	}
	number, _ := value.(json.Number)
	seconds, err := number.Float64()
	if err != nil || math.Abs(seconds) > float64(maxMillis)/1000 {
		return 0, tokenInvalid("the token's claim %s must be a number of seconds since 1970, before the year 10000", claim)
	}
	return seconds, nil
}

func readText(in jwt.MapClaims, claim string) (string, error) {
	value, has := in[claim]
	if !has {
		return "", nil
	}
	text, ok := value.(string)
	if !ok {
		return "", tokenInvalid("the token's claim %s must be a string", claim)
	}
	if p := checkText(claim, text); p != nil {
		return "", tokenInvalid("the token's claim %s", p)
	}
	return text, nil
}

// readAudience reads `aud`: a string or a list of strings (RFC 7519, section 4.1.3); none when it is not there.
func readAudience(in jwt.MapClaims) ([]string, error) {
	var audience []string
	switch value := in["aud"].(type) {
	case string:
		return []string{value}, nil
	case []any:
		for _, item := range value {
			if text, ok := item.(string); ok {
				audience = append(audience, text)
			}
		}
		if len(audience) == len(value) {
			return audience, nil
		}
	case nil:
		if _, has := in["aud"]; !has {
			return nil, nil
		}
	}
	return nil, tokenInvalid("the token's claim aud must be a string or a list of strings")
}

// audienceIs checks a Rollcall token's `aud`.
func audienceIs(in jwt.MapClaims, app api.ApplicationID) error {
	audience, err := readAudience(in)
	if err != nil {
		return err
	}
	if !slices.Contains(audience, app.String()) {
		return tokenInvalid("the token is for another application")
	}
	return nil
}

// checkForeign checks what only an operator's own issuer sets: `nbf`, and `iss` and `aud` where the application has them
// configured. Without a configured audience, `aud` matters only when it had to name the application, and then it did.
func checkForeign(in jwt.MapClaims, app Application, now api.Millis) error {
	if _, has := in["nbf"]; has {
		nbf, err := readTime(in, "nbf")
		if err != nil {
			return err
		}
		if nbf*1000 > float64(now.Add(api.IssuedAtSkew)) {
			return tokenInvalid("the token's claim nbf lies in the future")
		}
	}
	if app.Issuer != "" && in["iss"] != app.Issuer {
		return tokenInvalid("the token's claim iss is not the application's issuer")
	}
	if app.Audience == "" {
		return nil
	}
	audience, err := readAudience(in)
	if err != nil {
		return err
	}
	if !slices.Contains(audience, app.Audience) {
		return tokenInvalid("the token's claim aud does not have the application's audience")
	}
	return nil
}
