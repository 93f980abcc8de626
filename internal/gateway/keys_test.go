package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// TestWaitingForKeys: a token is judged again whenever a fetch has ended, with the time of its first presentation, and not for
// longer than keysWait, nor past the start of a drain.
func TestWaitingForKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Now()
		for _, tc := range []struct {
			name    string
			pending int           // how often it says so
			fetch   time.Duration // how long each takes
			calls   int
			took    time.Duration
		}{
			{"known", 0, 0, 1, 0},
			{"after a fetch", 1, time.Second, 2, time.Second},
			{"after the next one", 2, 2 * time.Second, 3, 4 * time.Second},
			{"never", 100, time.Hour, 2, keysWait},
			{"never, again and again", 100, 3 * time.Second, 4, keysWait},
		} {
			s := &session{gateway: &Gateway{stopping: make(chan struct{})}}
			began, calls, left := time.Now(), 0, tc.pending
			var last error
			var ask func(question)
			ask = func(q question) {
				if calls++; q.presented.IsZero() != (calls == 1) || calls > 1 && !q.presented.Equal(first) {
					t.Errorf("%s: call %d is told %s", tc.name, calls, q.presented)
				}
				if last = nil; left > 0 {
					left--
					fetched := make(chan struct{})
					time.AfterFunc(tc.fetch, func() { close(fetched) })
					last = &tenant.KeysPending{Done: fetched, Since: first}
				}
				s.postpone(q, last, ask)
			}
			for ask(question{}); s.postponed != nil; s.resume() {
				s.postponed.await(s.gateway.stopping)
			}
			_, pending := errors.AsType[*tenant.KeysPending](last)
			if took := time.Since(began); took != tc.took || calls != tc.calls || pending != (tc.pending == 100) {
				t.Errorf("%s: %v after %s and %d calls", tc.name, last, took, calls)
			}
		}
		stopping := make(chan struct{})
		close(stopping)
		began := time.Now()
		(&postponed{question: question{by: began.Add(time.Hour)}}).await(stopping)
		if took := time.Since(began); took != 0 {
			t.Errorf("a drain waits for %s", took)
		}
	})
}

// trustIssuer has the application get its keys from an issuer that never answers, and returns a token that it may have signed.
func (f *fixture) trustIssuer() string {
	in := tenant.ApplicationInput{Tokens: &tenant.TokensInput{JWKSURL: "https://id.example/jwks"}}
	if _, err := f.tenants.PatchApplication(f.Context(), appID, in, tenant.Admin); err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(f.Context()))
	var run sync.WaitGroup
	run.Go(func() { _ = f.tenants.Run(ctx) })
	f.Cleanup(func() { stop(); run.Wait() })
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "john", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	t.Header["kid"] = "a"
	signed, err := t.SignedString(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	return signed
}

// TestIssuerDoesNotAnswer: hello is told to come back, and authorize too, while the session goes on: what it sent and what it is due
// meanwhile comes after the answer.
func TestIssuerDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{PongTimeout: 2 * time.Second})
		token := f.trustIssuer()
		began := time.Now()
		c := f.connect()
		c.text(`{"type":"hello","application":"123456789","token":"` + token + `"}`)
		if got := c.rest(); len(got) != 2 || !strings.HasPrefix(got[1], "close 1013") {
			t.Errorf("hello: %v", got)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %s", took)
		}
		c = f.openKey()
		for range 12 { // pings fall within
			c.text(`{"type":"authorize","token":"` + token + `"}`)
			var behind sync.WaitGroup // a pipe takes it when it is read
			behind.Go(func() { c.text(`{"type":"nonsense"}`) })
			for _, code := range []string{"unavailable", "validation_error"} {
				got := c.next()
				for ; strings.HasPrefix(got, "ping"); got = c.next() {
					behind.Go(func() { c.send(0x8a, "") })
				}
				if !strings.Contains(got, `"code":"`+code+`"`) {
					t.Fatalf("authorize: %s, want %s", got, code)
				}
			}
			behind.Wait()
		}
	})
}

// TestFramesBehindAKeyFetch: what came in one piece with a frame that waits is not mixed up with what others send meanwhile.
func TestFramesBehindAKeyFetch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{FramesPerMinute: 1e6, FrameBurst: 1e6})
	token := f.trustIssuer()
	waits, other := f.openKey(), f.openKey()
	_, _ = waits.Write(append(frameOf(0x81, `{"type":"authorize","token":"`+token+`"}`), frameOf(0x81, `{"type":"hello"}`)...))
	for range 100 {
		other.text(`{"type":"` + strings.Repeat("x", 3000) + `"}`)
		other.next()
	}
	for _, want := range []string{`"code":"unavailable"`, `must not be hello`} {
		if got := waits.next(); !strings.Contains(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// TestEndsWhileAnIssuerIsAwaited: neither an operator's end nor a drain waits for an issuer.
func TestEndsWhileAnIssuerIsAwaited(t *testing.T) {
	f := newFixture(t, Limits{})
	token := f.trustIssuer()
	ended, drained, greeting := f.openKey(), f.openKey(), f.connect()
	for _, c := range []*client{ended, drained} {
		c.text(`{"type":"authorize","token":"` + token + `"}`)
	}
	greeting.text(`{"type":"hello","application":"123456789","token":"` + token + `"}`)
	began := time.Now()
	f.g.Disconnect(t.Context(), appID, api.NewServerID("srv-01", ended.id), tenant.Admin, "")
	if got := ended.rest(); !strings.HasPrefix(got[len(got)-1], "close 4100") {
		t.Errorf("disconnected: %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var drain sync.WaitGroup
	drain.Go(func() { f.g.Drain(ctx, 0) })
	for _, c := range []*client{drained, greeting} {
		if got := c.rest(); !strings.HasPrefix(got[len(got)-1], "close 1001") {
			t.Errorf("drained: %v", got)
		}
	}
	drain.Wait()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
}
