package tenant

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// The objects of the specification's example (page 2, "Declarative start").
const (
	orgText    = "11111111-1111-4111-8111-111111111111"
	appText    = "550e8400-e29b-41d4-a716-446655440000"
	appNumber  = "123456789"
	pubKey     = "rca_0123456789abcdef"
	hsSecret   = "at-least-32-bytes-of-secret-------"
	keyPublic  = "0123456789abcdef"
	keySecret  = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
	plainKey   = "rck_" + keyPublic + "_" + keySecret
	otherApp   = "550e8400-e29b-41d4-a716-446655440001"
	strangeApp = "550e8400-e29b-41d4-a716-44665544000f" // of another organization
)

const exampleFile = `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    plan: {name: Pro, maxAuthorizedSessions: 1000, liveSessionsOverview: true, historyRetention: 720h}
    applications:
      - id: 550e8400-e29b-41d4-a716-446655440000
        number: "123456789"
        name: Desktop Client
        publishableKey: rca_0123456789abcdef      # rca_ + 16 of [a-z0-9]; lets a client open an unauthorized session
        idleAfter: 5m
        allowedOrigins: []                        # browsers' origins that may connect; empty = any
        tokens: {hs256Secret: "at-least-32-bytes-of-secret-------"}   # or {jwksUrl, issuer, audience}
    apiKeys:
      - name: Backend sync
        key: rck_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL
        scopes: [sessions:read, sessions:disconnect]
        applications: all            # or a list of ids
        expiresAt: 2027-01-01T00:00:00Z   # optional
`

// moreFile adds a second application, a second organization, and restricted keys.
const moreFile = `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    applications:
      - {id: 550e8400-e29b-41d4-a716-446655440001, number: "77", name: Second}
    apiKeys:
      - name: Restricted
        key: rck_restricted000001_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL
        scopes: [sessions:read]
        applications: [550e8400-e29b-41d4-a716-446655440001]
      - name: None
        key: rck_nothing000000001_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL
        applications: []
  - id: 22222222-2222-4222-8222-222222222222
    name: Other
    applications:
      - {id: 550e8400-e29b-41d4-a716-44665544000f, number: "88", name: Strange, publishableKey: rca_ffffffffffffffff}
`

var (
	orgID     = api.MustID[api.Organization](orgText)
	appID     = api.MustID[api.Application](appText)
	otherID   = api.MustID[api.Application](otherApp)
	strangeID = api.MustID[api.Application](strangeApp)
	noon      = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	somewhere = netip.MustParseAddr("203.0.113.10")
)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// flaky is a database that can be told to fail.
type flaky struct {
	store.Config
	mu         sync.Mutex
	down       error // everything fails with it
	failCommit error // Edit commits, and fails with it all the same
	failSince  int   // how many reads of changes fail
	onCommit   func()
}

func (f *flaky) set(change func(*flaky)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *flaky) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

func (f *flaky) Version(ctx context.Context) (int64, error) {
	if err := f.err(); err != nil {
		return 0, err
	}
	return f.Config.Version(ctx)
}

func (f *flaky) Since(ctx context.Context, version int64) (store.Changes, error) {
	if err := f.err(); err != nil {
		return store.Changes{}, err
	}
	f.mu.Lock()
	fail := f.failSince > 0
	f.failSince--
	f.mu.Unlock()
	if fail {
		return store.Changes{}, errDown
	}
	return f.Config.Since(ctx, version)
}

func (f *flaky) Edit(ctx context.Context, fn func(store.Tx) error) error {
	if err := f.err(); err != nil {
		return err
	}
	if err := f.Config.Edit(ctx, fn); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onCommit != nil {
		f.onCommit()
	}
	return f.failCommit
}

func (f *flaky) TouchKeys(ctx context.Context, uses []store.KeyUse) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Config.TouchKeys(ctx, uses)
}

func (f *flaky) Deny(ctx context.Context, denials []store.Denial) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Config.Deny(ctx, denials)
}

var errDown = errors.New("connection refused")

// world is a directory with the example and more in it, on a database of its own.
type world struct {
	*Directory
	t     *testing.T
	db    *flaky
	clock *clock
	log   *bytes.Buffer
}

func newDB(t *testing.T) store.Config {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db.Config()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, Config{})
}

func newWorldWith(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, db: &flaky{Config: newDB(t)}, clock: &clock{t: noon}, log: new(bytes.Buffer)}
	var err error
	cfg.Store, cfg.Now = w.db, w.clock.now
	cfg.Log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.Directory, err = New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.bootstrap(exampleFile)
	w.bootstrap(moreFile)
	return w
}

func (w *world) bootstrap(file string) {
	w.t.Helper()
	if err := w.Bootstrap(w.t.Context(), strings.NewReader(file)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) app(id api.ApplicationID) Application {
	w.t.Helper()
	app, ok := w.Application(id)
	if !ok {
		w.t.Fatalf("no application %s", id)
	}
	return app
}

func (w *world) key(plaintext string) Key {
	w.t.Helper()
	k, err := w.Authenticate("Bearer "+plaintext, somewhere)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) issue(id api.ApplicationID, in api.TokenInput) string {
	w.t.Helper()
	if in.ExpiresIn == 0 {
		in.ExpiresIn = 3600
	}
	reply, err := w.IssueToken(w.app(id), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Token
}

func (w *world) patch(id api.ApplicationID, in ApplicationInput) {
	w.t.Helper()
	if _, err := w.PatchApplication(w.t.Context(), id, in, Admin); err != nil {
		w.t.Fatal(err)
	}
}

// want fails unless err has the code ("" = no error) and its message has the text.
func want(t *testing.T, err error, code api.Code, text string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("got %v, want %q", err, code)
	}
	if err != nil && !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want a message with %q", err, text)
	}
}

type m = map[string]any

// sign signs claims with the example's secret; nil values take a claim or header away.
func sign(t *testing.T, header, claims m) string {
	t.Helper()
	return signWith(t, jwt.SigningMethodHS256, []byte(hsSecret), header, claims)
}

// standard are the claims of a good foreign token at noon.
func standard(more m) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": "john@example.com", "iat": noon.Unix(), "exp": noon.Unix() + 3600, "aud": appText}
	return merged(claims, more)
}

func merged(into, more m) m {
	maps.Copy(into, more)
	maps.DeleteFunc(into, func(_ string, v any) bool { return v == nil })
	return into
}

func signWith(t *testing.T, method jwt.SigningMethod, key any, header, claims m) string {
	t.Helper()
	token := jwt.NewWithClaims(method, standard(claims))
	merged(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
