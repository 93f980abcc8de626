package tenant

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var (
	_, issuerEd, _ = ed25519.GenerateKey(rand.Reader)
	issuerRSA      = must(rsa.GenerateKey(rand.Reader, 2048))
	issuerEC       = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	issuerEC384    = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const issuerURL = "https://id.example/jwks"

// issuer serves a JWK Set at every address.
type issuer struct {
	mu    sync.Mutex
	text  string // "" = 503
	asked int
}

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	resp := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(i.text)), Request: req}
	if i.text == "" {
		resp.StatusCode = http.StatusServiceUnavailable
	}
	return resp, nil
}

func (i *issuer) serve(keys map[string]crypto.Signer) {
	var all []string
	for kid, key := range keys {
		all = append(all, string(must(jose.JSONWebKey{Key: key.Public(), KeyID: kid}.MarshalJSON())))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.text = ""; keys != nil {
		i.text = `{"keys":[` + strings.Join(all, ",") + `]}`
	}
}

// newIssuerWorld is a world in which the example's application gets its keys from an issuer.
func newIssuerWorld(t *testing.T) (*world, *issuer) {
	t.Helper()
	i := new(issuer)
	w := newWorldWith(t, Config{Issuers: i})
	i.serve(map[string]crypto.Signer{"r": issuerRSA, "e": issuerEC, "e384": issuerEC384, "d": issuerEd})
	w.patch(appID, ApplicationInput{Tokens: &TokensInput{JWKSURL: issuerURL, Issuer: "https://id", Audience: "https://api"}})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = w.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return w, i
}

// settle verifies, and again as long as keys are being fetched.
func (w *world) settle(c Credential) (Grant, error) {
	w.t.Helper()
	time.Sleep(time.Nanosecond) // a bubble's clock stands still, and what was fetched at this instant may be older than the token
	for {
		grant, err := w.Verify(w.t.Context(), c)
		pending, ok := errors.AsType[*KeysPending](err)
		if !ok {
			return grant, err
		}
		if api.CodeOf(err) != api.CodeUnavailable {
			w.t.Fatalf("to who cannot wait it is %v", err)
		}
		<-pending.Done
		c.Presented = pending.Since
	}
}

// theirs signs claims that the application accepts, with a kid.
func theirs(t *testing.T, method jwt.SigningMethod, key any, kid string, claims m) string {
	all := m{"iss": "https://id", "aud": []string{"https://api", appText}}
	maps.Copy(all, claims)
	return signWith(t, method, key, m{"kid": kid}, all)
}

func TestTokensOfAnIssuer(t *testing.T) {
	w, i := newIssuerWorld(t)
	const invalid = api.CodeTokenInvalid
	now := noon.Unix()
	rs, es, ed := jwt.SigningMethodRS256, jwt.SigningMethodES256, jwt.SigningMethodEdDSA
	_, strange, _ := ed25519.GenerateKey(rand.Reader)
	strangeJWK := string(must(jose.JSONWebKey{Key: strange.Public(), KeyID: "d"}.MarshalJSON()))
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(issuerRSA.Public()))})
	with := func(header m) string {
		return signWith(t, ed, strange, merged(header, m{"kid": "d"}), m{"iss": "https://id", "aud": "https://api"})
	}
	for name, tc := range map[string]struct {
		token string
		code  api.Code
		text  string
	}{
		"RS256":                     {theirs(t, rs, issuerRSA, "r", nil), "", ""},
		"RS512":                     {theirs(t, jwt.SigningMethodRS512, issuerRSA, "r", nil), "", ""},
		"PS256":                     {theirs(t, jwt.SigningMethodPS256, issuerRSA, "r", nil), "", ""},
		"ES256":                     {theirs(t, es, issuerEC, "e", nil), "", ""},
		"ES384":                     {theirs(t, jwt.SigningMethodES384, issuerEC384, "e384", nil), "", ""},
		"EdDSA":                     {theirs(t, ed, issuerEd, "d", nil), "", ""},
		"without kid":               {signWith(t, ed, issuerEd, nil, m{"iss": "https://id", "aud": "https://api"}), "", ""},
		"kid empty":                 {theirs(t, ed, issuerEd, "", nil), "", ""},
		"kid of another key":        {theirs(t, ed, issuerEd, "r", nil), invalid, "no key of that kid and alg"},
		"kid in capitals":           {theirs(t, ed, issuerEd, "D", nil), invalid, "no key of that kid and alg"},
		"kid a number":              {signWith(t, ed, issuerEd, m{"kid": 7}, nil), invalid, "kid must be a string"},
		"kid null":                  {signWith(t, ed, issuerEd, m{"kid": (*string)(nil)}, nil), invalid, "kid must be a string"},
		"kid a path":                {theirs(t, ed, issuerEd, "../../etc/passwd", nil), invalid, "no key"},
		"kid huge":                  {theirs(t, ed, issuerEd, strings.Repeat("k", 5000), nil), invalid, "no key"},
		"a stranger's key":          {theirs(t, ed, strange, "d", nil), invalid, "signature"},
		"a stranger's, without kid": {signWith(t, ed, strange, nil, nil), invalid, "signature"},
		"jwk in the header":         {with(m{"jwk": m{"kty": "OKP"}}), invalid, "signature"},
		"jku in the header":         {with(m{"jku": issuerURL + "/strange"}), invalid, "signature"},
		"x5u in the header":         {with(m{"x5u": issuerURL + "/strange"}), invalid, "signature"},
		"crit":                      {signWith(t, ed, issuerEd, m{"kid": "d", "crit": []string{"b64"}, "b64": false}, nil), invalid, "crit"},
		"alg none":                  {signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, m{"kid": "r"}, nil), invalid, "alg must be"},
		"HS256 with the public key": {theirs(t, jwt.SigningMethodHS256, publicPEM, "r", nil), invalid, "alg must be one of RS256"},
		"HS256 with the modulus":    {theirs(t, jwt.SigningMethodHS256, issuerRSA.N.Bytes(), "r", nil), invalid, "alg must be one of RS256"},
		"HS256 with a secret":       {sign(t, nil, nil), invalid, "alg must be one of RS256"},
		"HS256 with the Ed key":     {theirs(t, jwt.SigningMethodHS256, []byte(issuerEd.Public().(ed25519.PublicKey)), "d", nil), invalid, "alg must be one of"},
		"HS256 without kid":         {signWith(t, jwt.SigningMethodHS256, []byte{}, nil, nil), invalid, "alg must be one of"},
		"kid of Rollcall":           {theirs(t, rs, issuerRSA, "rollcall", nil), invalid, "alg must be HS256"},
		"issued by Rollcall":        {w.issue(appID, api.TokenInput{}), "", ""},
		"iss missing":               {theirs(t, rs, issuerRSA, "r", m{"iss": nil}), invalid, "iss"},
		"iss another":               {theirs(t, rs, issuerRSA, "r", m{"iss": "https://id/"}), invalid, "iss"},
		"aud another":               {theirs(t, rs, issuerRSA, "r", m{"aud": "https://app"}), invalid, "aud"},
		"exp missing":               {theirs(t, rs, issuerRSA, "r", m{"exp": nil}), invalid, "exp is required"},
		"iat missing":               {theirs(t, rs, issuerRSA, "r", m{"iat": nil}), invalid, "iat is required"},
		"expired this second":       {theirs(t, rs, issuerRSA, "r", m{"exp": now}), api.CodeTokenExpired, ""},
		"expired by a second":       {theirs(t, rs, issuerRSA, "r", m{"exp": now - 1}), api.CodeTokenExpired, ""},
		"expires in a second":       {theirs(t, rs, issuerRSA, "r", m{"exp": now + 1}), "", ""},
		"from the future":           {theirs(t, rs, issuerRSA, "r", m{"iat": now + 6}), invalid, "iat lies in the future"},
		"from 5 s ahead":            {theirs(t, rs, issuerRSA, "r", m{"iat": now + 5}), "", ""},
		"huge claims":               {theirs(t, ed, issuerEd, "d", m{"x": strings.Repeat("x", 8192)}), invalid, "at most 8192 bytes"},
		"large claims":              {theirs(t, ed, issuerEd, "d", m{"x": strings.Repeat("x", 5000)}), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.settle(Credential{Token: tc.token, Application: appText, Presented: time.Unix(1, 0)})
			want(t, err, tc.code, tc.text)
		})
	}
	if i.asked != 1 {
		t.Errorf("the issuer was asked %d times", i.asked)
	}
	if strings.Contains(w.log.String(), strangeJWK) {
		t.Error("logged")
	}
	// Another application does not accept this one's issuer.
	_, err := w.settle(Credential{Token: theirs(t, rs, issuerRSA, "r", nil), Application: otherApp})
	want(t, err, invalid, "")
}

func TestIssuerRotates(t *testing.T) { synctest.Test(t, testIssuerRotates) }

func testIssuerRotates(t *testing.T) {
	w, i := newIssuerWorld(t)
	old, fresh := theirs(t, jwt.SigningMethodRS256, issuerRSA, "r", nil), theirs(t, jwt.SigningMethodES256, issuerEC, "new", nil)
	_, err := w.settle(Credential{Token: old})
	want(t, err, "", "")
	i.serve(map[string]crypto.Signer{"new": issuerEC})
	_, err = w.settle(Credential{Token: old}) // until somebody needs the new set
	want(t, err, "", "")
	grant, err := w.settle(Credential{Token: fresh})
	want(t, err, "", "")
	if !grant.Authorized || grant.Rollcall || grant.Login != "john@example.com" {
		t.Errorf("granted %+v", grant)
	}
	_, err = w.settle(Credential{Token: old})
	want(t, err, api.CodeTokenInvalid, "no key")
}

func TestIssuerAway(t *testing.T) { synctest.Test(t, testIssuerAway) }

func testIssuerAway(t *testing.T) {
	w, i := newIssuerWorld(t)
	i.serve(nil)
	token := theirs(t, jwt.SigningMethodRS256, issuerRSA, "r", nil)
	_, err := w.settle(Credential{Token: token})
	want(t, err, api.CodeUnavailable, "cannot be fetched")
	// What no key would make good is refused all the same, and what needs none of these keys is not.
	_, err = w.Verify(t.Context(), Credential{Token: "x.y.z", Application: appText})
	want(t, err, api.CodeTokenInvalid, "")
	_, err = w.Verify(t.Context(), Credential{Token: w.issue(appID, api.TokenInput{})})
	want(t, err, "", "")
	_, err = w.Verify(t.Context(), Credential{PublishableKey: pubKey})
	want(t, err, "", "")
	i.serve(map[string]crypto.Signer{"r": issuerRSA})
	_, err = w.settle(Credential{Token: token})
	want(t, err, "", "")
	i.serve(nil)
	_, err = w.settle(Credential{Token: token})
	want(t, err, "", "")
	_, err = w.settle(Credential{Token: theirs(t, jwt.SigningMethodRS256, issuerRSA, "unknown", nil)})
	want(t, err, api.CodeUnavailable, "")
}

func TestApplicationsShareAnIssuer(t *testing.T) { synctest.Test(t, testApplicationsShareAnIssuer) }

func testApplicationsShareAnIssuer(t *testing.T) {
	w, i := newIssuerWorld(t)
	w.patch(otherID, ApplicationInput{Tokens: &TokensInput{JWKSURL: issuerURL}})
	for _, app := range []string{appText, otherApp} {
		aud := []string{"https://api", app}
		_, err := w.settle(Credential{Token: theirs(t, jwt.SigningMethodEdDSA, issuerEd, "d", m{"aud": aud}), Application: app})
		want(t, err, "", "")
	}
	if i.asked != 1 {
		t.Errorf("the issuer was asked %d times", i.asked)
	}
	// An application that is given another address has no use for the keys of the first.
	w.patch(otherID, ApplicationInput{Tokens: &TokensInput{JWKSURL: issuerURL + "/2"}})
	i.serve(map[string]crypto.Signer{"other": issuerEd})
	_, err := w.settle(Credential{Token: theirs(t, jwt.SigningMethodRS256, issuerRSA, "r", m{"aud": otherApp})})
	want(t, err, api.CodeTokenInvalid, "no key")
	if !w.usesIssuer(issuerURL) || !w.usesIssuer(issuerURL+"/2") || w.usesIssuer(issuerURL+"/3") {
		t.Error("which addresses are in use")
	}
}

// TestTokensDatedAhead: a foreign token may say that it was issued up to 5 s from now; that does not let one from before a
// revocation in (G4), whether it is presented before its date, or was being verified meanwhile.
func TestTokensDatedAhead(t *testing.T) {
	revoke := func(w *world, at time.Duration) {
		changed := w.app(appID).Application
		changed.RevokedAt, changed.Epoch = api.MillisOf(noon.Add(at)), changed.Epoch+1
		w.mu.Lock()
		w.mem.take(store.Changes{Version: w.mem.version, Applications: []store.Application{changed}})
		w.mu.Unlock()
	}
	verify := func(w *world, token string) error {
		_, err := w.Verify(t.Context(), Credential{Token: token})
		return err
	}
	for name, tc := range map[string]struct {
		iat       int64         // after noon
		presented time.Duration // after noon, when it was revoked half a second ago
		code      api.Code
	}{
		"dated before, presented at once":  {-1, 0, api.CodeTokenRevoked},
		"dated ahead, presented at once":   {4, 0, api.CodeTokenRevoked},
		"dated 5 s ahead, presented later": {5, 3 * time.Second, ""}, // 5.5 s after the revocation: it can only be from after
		"dated ahead, presented later":     {4, 3 * time.Second, api.CodeTokenRevoked},
		"dated now":                        {0, 0, ""},
		"dated now, presented later":       {0, 3 * time.Second, ""},
		"dated after, presented later":     {2, 3 * time.Second, ""},
		"dated after, presented then":      {2, 2 * time.Second, ""},
		"fresh after a while":              {60, 58 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			revoke(w, -500*time.Millisecond)
			token := sign(t, nil, m{"iat": noon.Unix() + tc.iat})
			w.clock.set(noon.Add(tc.presented))
			want(t, verify(w, token), tc.code, "")
			w.clock.set(noon.Add(time.Minute)) // once refused, always refused
			want(t, verify(w, token), tc.code, "")
		})
	}
	w := newWorld(t)
	w.clock.set(noon.Add(1700 * time.Millisecond))
	grant, err := w.Verify(t.Context(), Credential{Token: sign(t, nil, m{"iat": noon.Unix() + 5})})
	want(t, err, "", "")
	if grant.IssuedAt != api.MillisOf(noon.Add(time.Second)) {
		t.Errorf("to the registry it was issued at %s", grant.IssuedAt.Time())
	}
}
