package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// issuer is an operator's own token issuer: it signs, and serves its public keys.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	keys  map[string]crypto.Signer // by kid; nil = 503
	asked int
	hold  chan struct{} // requests wait until it is closed; nil = none does
}

var issuerKeys = sync.OnceValue(func() map[string]crypto.Signer {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err, err2, err3); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"rsa": r, "ec": e, "ed": d}
})

// startIssuer starts one with an RSA, an EC and an Ed25519 key, and has App trust it.
func startIssuer(t *testing.T, s *testkit.Server) *issuer {
	i := &issuer{keys: issuerKeys()}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	status, body := s.Do(t, testkit.Key, http.MethodPatch, api.RoutePrefix+"/applications/"+testkit.App.String(), map[string]any{
		"tokens": map[string]any{"jwksUrl": i.URL + "/jwks.json", "issuer": "https://id", "audience": "https://api"}})
	if status != http.StatusOK {
		t.Fatalf("PATCH: %d %s", status, body)
	}
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked++
	var set jose.JSONWebKeySet
	for kid, key := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"})
	}
	hold := i.hold
	i.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	if set.Keys == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(set)
}

func (i *issuer) set(change func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

// token signs a token of the issuer's, with the claims added.
func (i *issuer) token(t testing.TB, kid string, key crypto.Signer, claims jwt.MapClaims) string {
	t.Helper()
	var method jwt.SigningMethod = jwt.SigningMethodRS256
	switch key.(type) {
	case *ecdsa.PrivateKey:
		method = jwt.SigningMethodES256
	case ed25519.PrivateKey:
		method = jwt.SigningMethodEdDSA
	}
	all := jwt.MapClaims{"iss": "https://id", "aud": []string{"https://api"}, "sub": "john@example.com", "iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	token := jwt.NewWithClaims(method, all)
	token.Header["kid"] = kid
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// tried says hello and returns the last frame before the end and the close code; "" and 0 when it was welcomed.
func tried(t testing.TB, s *testkit.Server, token string) (string, websocket.StatusCode) {
	t.Helper()
	c, err := open(t.Context(), s, hello(token, nil))
	refused, ok := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		c.conn.CloseNow()
		return "", 0
	case !ok:
		t.Fatal(err)
	}
	return fmt.Sprint(refused.last.Code), websocket.CloseStatus(refused.err)
}

// TestTokensOfAnIssuer: sessions are opened with tokens that the keys at jwksUrl verify, outlive the rotation of these keys, and are
// renewed with the new one.
func TestTokensOfAnIssuer(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := testkit.Start(t, testkit.Config{})
	i := startIssuer(t, s)
	keys := issuerKeys()
	sessions := map[string]*session{}
	for kid, key := range keys {
		if sessions[kid] = mustOpen(t, s, hello(i.token(t, kid, key, nil), nil)); !sessions[kid].last.Authorized {
			t.Errorf("%s: %+v", kid, sessions[kid].last)
		}
	}
	if i.asked != 1 {
		t.Errorf("the issuer was asked %d times", i.asked)
	}

	_, fresh, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.set(func(i *issuer) { i.keys = map[string]crypto.Signer{"new": fresh} })
	for kid, c := range sessions {
		if err := c.send(t.Context(), map[string]any{"type": api.TypeAuthorize, "token": i.token(t, "new", fresh, nil)}); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, kid+" is renewed with the new key", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.frames) > 0 && c.frames[0].Type == api.TypeAuthorized
		})
	}
	if total := list(t, s, url.Values{}).Total; total != len(keys) {
		t.Errorf("%d sessions are left of %d", total, len(keys))
	}
	if code, closed := tried(t, s, i.token(t, "rsa", keys["rsa"], nil)); closed != 4203 {
		t.Errorf("a key that was taken out is answered with %s and %d", code, closed)
	}
	// What an issuer's trouble leaves here goes on serving.
	i.set(func(i *issuer) { i.keys = nil })
	if code, closed := tried(t, s, i.token(t, "new", fresh, nil)); closed != 0 {
		t.Errorf("with the issuer away: %s, %d", code, closed)
	}
	// Revoke-all is judged by iat.
	var revoked api.DisconnectResult
	status, body := s.Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, ""), nil)
	if err := json.Unmarshal(body, &revoked); status != http.StatusOK || err != nil {
		t.Fatalf("revoke-all: %d %s", status, body)
	}
	for _, c := range sessions {
		c.end(t, 4103)
	}
	ahead := i.token(t, "new", fresh, jwt.MapClaims{"iat": time.Now().Unix() + 4})
	for _, token := range []string{i.token(t, "new", fresh, jwt.MapClaims{"iat": time.Now().Unix() - 1}), ahead} {
		if code, closed := tried(t, s, token); closed != 4203 {
			t.Errorf("from before the revocation: %s, %d", code, closed)
		}
	}
}

// TestSlowIssuerHoldsUpNobody: while an issuer does not answer, its own application's clients wait, and nobody else.
func TestSlowIssuerHoldsUpNobody(t *testing.T) {
	s := testkit.Start(t, testkit.Config{Gateway: gateway.Limits{HellosInFlight: 1}})
	i := startIssuer(t, s)
	release := make(chan struct{})
	i.set(func(i *issuer) { i.hold = release })
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if _, closed := tried(t, s, i.token(t, "ed", issuerKeys()["ed"], nil)); closed != 0 {
				t.Errorf("one that waited is refused with %d", closed)
			}
		})
	}
	// More authorizes than there are workers: they keep nobody from being served either.
	var opened []*session
	for range 300 {
		c := mustOpen(t, s, map[string]any{"type": "hello", "publishableKey": testkit.PublishableKey})
		if err := c.send(t.Context(), map[string]any{"type": api.TypeAuthorize, "token": i.token(t, "ed", issuerKeys()["ed"], nil)}); err != nil {
			t.Fatal(err)
		}
		opened = append(opened, c)
	}
	testkit.Eventually(t, "the issuer is asked", func() bool { i.mu.Lock(); defer i.mu.Unlock(); return i.asked > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // less than a fetch may take
	defer cancel()
	for range 20 {
		c, err := open(ctx, s, map[string]any{"type": "hello", "application": testkit.Second.String(),
			"token": testkit.Token(t, map[string]any{"aud": testkit.Second.String()})})
		if err != nil {
			t.Fatalf("another application's client: %v", err)
		}
		c.conn.CloseNow()
	}
	unauthorized, err := open(ctx, s, map[string]any{"type": "hello", "publishableKey": testkit.PublishableKey})
	if err != nil {
		t.Fatalf("one that presents no token: %v", err)
	}
	unauthorized.conn.CloseNow()
	close(release)
	waiting.Wait()
	for _, c := range opened {
		testkit.Eventually(t, "authorize is answered", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.frames) == 1 && c.frames[0].Type == api.TypeAuthorized
		})
	}
	if i.asked != 1 {
		t.Errorf("the issuer was asked %d times", i.asked)
	}
}

// TestIssuerAway: a token that cannot be judged is not called invalid: its client is told to come back with it.
func TestIssuerAway(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := testkit.Start(t, testkit.Config{})
	i := startIssuer(t, s)
	keys := issuerKeys()
	i.set(func(i *issuer) { i.keys = nil })
	token := i.token(t, "ec", keys["ec"], nil)
	if _, closed := tried(t, s, token); closed != 1013 {
		t.Errorf("closed with %d", closed)
	}
	for _, bad := range []string{"garbage", testkit.Token(t, nil)} {
		if code, closed := tried(t, s, bad); closed != 4203 {
			t.Errorf("what no key would verify is answered with %s and %d", code, closed)
		}
	}
	c := mustOpen(t, s, map[string]any{"type": "hello", "publishableKey": testkit.PublishableKey})
	if err := c.send(t.Context(), map[string]any{"type": api.TypeAuthorize, "token": token}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "authorize is answered", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.frames) == 1 && c.frames[0].Type == api.TypeError && c.frames[0].Code == string(api.CodeUnavailable)
	})
	i.set(func(i *issuer) { i.keys = keys })
	testkit.Eventually(t, "the issuer is back", func() bool { _, closed := tried(t, s, token); return closed == 0 })

	resp, err := http.Get(s.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), `rollcall_jwks_fetches_total{result="ok"} 1`) ||
		!strings.Contains(string(text), `rollcall_jwks_fetches_total{result="status"} 2`) {
		t.Errorf("metrics lack the fetches: %v", err)
	}
}
