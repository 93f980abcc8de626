package mcp

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func sign(t testing.TB, secret, subject string, iat, exp time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": subject, "iat": iat.Unix(), "exp": exp.Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestVerify(t *testing.T) {
	secret := strings.Repeat("s", 32)
	now := time.Now()
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"sub": "jo", "iss": "https://issuer", "aud": []string{"a", "https://mcp"}, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
			"plan": "pro", "client_id": "cli", "email": "jo@example.com"}
	}
	v := newVerifier(Tokens{HS256Secret: secret, Issuer: "https://issuer", Audience: "https://mcp", LoginClaim: "email", LicenseClaim: "plan"}, nil)
	for name, tc := range map[string]struct {
		change func(jwt.MapClaims, *jwt.Token)
		key    string
		bad    bool
	}{
		"good":                  {func(jwt.MapClaims, *jwt.Token) {}, secret, false},
		"another secret":        {func(jwt.MapClaims, *jwt.Token) {}, strings.Repeat("x", 32), true},
		"expired now":           {func(c jwt.MapClaims, _ *jwt.Token) { c["exp"] = now.Unix() }, secret, true},
		"no exp":                {func(c jwt.MapClaims, _ *jwt.Token) { delete(c, "exp") }, secret, true},
		"exp is text":           {func(c jwt.MapClaims, _ *jwt.Token) { c["exp"] = "never" }, secret, true},
		"no iat":                {func(c jwt.MapClaims, _ *jwt.Token) { delete(c, "iat") }, secret, true},
		"from the future":       {func(c jwt.MapClaims, _ *jwt.Token) { c["iat"] = now.Add(time.Minute).Unix() }, secret, true},
		"not yet":               {func(c jwt.MapClaims, _ *jwt.Token) { c["nbf"] = now.Add(time.Minute).Unix() }, secret, true},
		"another issuer":        {func(c jwt.MapClaims, _ *jwt.Token) { c["iss"] = "https://evil" }, secret, true},
		"another audience":      {func(c jwt.MapClaims, _ *jwt.Token) { c["aud"] = "b" }, secret, true},
		"no audience":           {func(c jwt.MapClaims, _ *jwt.Token) { delete(c, "aud") }, secret, true},
		"critical":              {func(_ jwt.MapClaims, t *jwt.Token) { t.Header["crit"] = []string{"x"} }, secret, true},
		"another algorithm":     {func(_ jwt.MapClaims, t *jwt.Token) { t.Method = jwt.SigningMethodHS512; t.Header["alg"] = "HS512" }, secret, true},
		"an embedded key":       {func(_ jwt.MapClaims, t *jwt.Token) { t.Header["jwk"] = map[string]string{"kty": "oct"} }, secret, false},
		"a login of wrong type": {func(c jwt.MapClaims, _ *jwt.Token) { c["email"] = 5 }, secret, false},
	} {
		claims := good()
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
		tc.change(claims, token)
		signed, err := token.SignedString([]byte(tc.key))
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.judge(t.Context(), signed, now)
		if (err != nil) != tc.bad {
			t.Errorf("%s: %v", name, err)
		}
		if name == "good" && (got.login != "jo@example.com" || got.license != "pro" || got.principal != `"https://issuer" "jo" "cli"`) {
			t.Errorf("read %+v", got)
		}
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"jo"}`)) + "."
	for _, token := range []string{"", "opaque", "a.b.c", none, strings.Repeat("a", 9000), sign(t, secret, "jo", now, now.Add(time.Hour)) + "\n"} {
		if _, err := v.judge(t.Context(), token, now); err == nil {
			t.Errorf("%.40q verified", token)
		}
	}
}

// TestJWKS: tokens are verified by the issuer's keys, a key that is new is fetched while the request waits, and a public key is no
// HMAC secret.
func TestJWKS(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := base64.RawURLEncoding.EncodeToString(public)
	var fetched atomic.Int32
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","alg":"EdDSA","x":%q}]}`, x)
	}))
	defer issuer.Close()
	v := newVerifier(Tokens{JWKSURL: issuer.URL, LoginClaim: "sub", LicenseClaim: "license"}, nil)
	ctx := t.Context()
	done := make(chan struct{})
	run, stop := context.WithCancel(t.Context())
	go func() { defer close(done); v.keys.Run(run) }()
	defer func() { stop(); <-done }()
	issue := func(method jwt.SigningMethod, key any, kid string) string {
		token := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "jo", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
		token.Header["kid"] = kid
		signed, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	if got, err := v.verify(ctx, issue(jwt.SigningMethodEdDSA, private, "k1")); err != nil || got.login != "jo" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := v.verify(ctx, issue(jwt.SigningMethodHS256, []byte(public), "k1")); err == nil {
		t.Error("the public key was taken for a secret")
	}
	if _, err := v.verify(ctx, issue(jwt.SigningMethodEdDSA, private, "k2")); err == nil {
		t.Error("a key that the issuer does not have verified")
	}
	if n := fetched.Load(); n == 0 || n > 2 {
		t.Errorf("the issuer was asked %d times", n)
	}
}
