package manage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// What the bootstrap file of every test describes. Acme has two applications that take sessions; Globex must never be met.
const (
	secret    = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
	adminWord = "admin-token-of-the-tests"

	fullKey       = "rck_fullfullfullfull" + secret // every scope
	otherKey      = "rck_otherotherother0" + secret // every scope of Globex
	readKey       = "rck_readreadreadread" + secret // sessions:read
	noneKey       = "rck_nonenonenonenone" + secret // no scope
	restrictedKey = "rck_restrictedrestri" + secret // every scope, Desktop alone
	expiredKey    = "rck_expiredexpired00" + secret
	revokedKey    = "rck_revokedrevoked00" + secret
	freeKey       = "rck_freefreefreefree" + secret // of an organization whose plan has no overview
	freeNoneKey   = "rck_freenonefreenone" + secret // the same without a scope
)

var (
	acme     = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	desktop  = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	web      = api.MustID[api.Application]("660e8400-e29b-41d4-a716-446655440000")
	others   = api.MustID[api.Application]("770e8400-e29b-41d4-a716-446655440000")
	freeApp  = api.MustID[api.Application]("880e8400-e29b-41d4-a716-446655440000")
	nowhere  = api.MustID[api.Application]("990e8400-e29b-41d4-a716-446655440000")
	unopened = api.MustID[api.Session]("99999999-9999-4999-8999-999999999999")
)

const bootstrap = `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    plan: {name: Pro, maxAuthorizedSessions: 1000, liveSessionsOverview: true, historyRetention: 720h}
    applications:
      - {id: 550e8400-e29b-41d4-a716-446655440000, number: "123456789", name: Desktop, publishableKey: rca_0123456789abcdef,
         tokens: {hs256Secret: "at-least-32-bytes-of-secret-------"}}
      - {id: 660e8400-e29b-41d4-a716-446655440000, number: "123456790", name: Web}
    apiKeys:
      - name: full
        key: rck_fullfullfullfull` + secret + `
        applications: all
        scopes: ` + allScopes + `
      - name: read
        key: rck_readreadreadread` + secret + `
        applications: all
        scopes: [sessions:read]
      - name: none
        key: rck_nonenonenonenone` + secret + `
        applications: all
        scopes: []
      - name: restricted
        key: rck_restrictedrestri` + secret + `
        applications: [550e8400-e29b-41d4-a716-446655440000]
        scopes: ` + allScopes + `
      - name: expired
        key: rck_expiredexpired00` + secret + `
        applications: all
        expiresAt: 2020-01-01T00:00:00Z
        scopes: ` + allScopes + `
      - name: revoked
        key: rck_revokedrevoked00` + secret + `
        applications: all
        scopes: ` + allScopes + `
  - id: 22222222-2222-4222-8222-222222222222
    name: Globex
    plan: {name: Pro, liveSessionsOverview: true}
    applications:
      - {id: 770e8400-e29b-41d4-a716-446655440000, number: "987654321", name: Other, publishableKey: rca_other00123456789}
    apiKeys:
      - name: full
        key: rck_otherotherother0` + secret + `
        applications: all
        scopes: ` + allScopes + `
  - id: 33333333-3333-4333-8333-333333333333
    name: Initech
    plan: {name: Free, liveSessionsOverview: false}
    applications:
      - {id: 880e8400-e29b-41d4-a716-446655440000, number: "555555555", name: Free}
    apiKeys:
      - name: full
        key: rck_freefreefreefree` + secret + `
        applications: all
        scopes: ` + allScopes + `
      - name: none
        key: rck_freenonefreenone` + secret + `
        applications: all
        scopes: []
`

const allScopes = `[sessions:read, sessions:disconnect, sessions:create, applications:read, applications:write, account:read, audit:read]`

// kit is the management API over real siblings, and HTTP.
type kit struct {
	t        testing.TB
	db       store.DB
	records  *flaky
	recorder *store.Recorder
	tenants  *tenant.Directory
	registry *registry.Registry
	owner    *owner
	leases   *reports
	api      *manage.API
	metrics  *prometheus.Registry
	server   *httptest.Server
	log      *testkit.Log
	full     atomic.Bool // the node has no room for streams
	stop     func()      // ends API.Run and waits for it
	spec     routers.Router
}

func newKit(t testing.TB, limits manage.Limits) *kit {
	t.Helper()
	return newKitWith(t, limits, nil)
}

// newKitWith returns a kit of a node that has others, unless missing is nil.
func newKitWith(t testing.TB, limits manage.Limits, missing func() []string) *kit {
	t.Helper()
	k := &kit{t: t, metrics: prometheus.NewRegistry(), log: &testkit.Log{}}
	var err error
	if k.db, err = store.Open(t.Context(), "sqlite::memory:"); err != nil {
		t.Fatal(err)
	}
	incarnation, err := k.db.Nodes().Claim(t.Context(), "srv-01")
	if err != nil {
		t.Fatal(err)
	}
	if k.tenants, err = tenant.New(t.Context(), tenant.Config{Store: k.db.Config()}); err != nil {
		t.Fatal(err)
	}
	if err := k.tenants.Bootstrap(t.Context(), strings.NewReader(bootstrap)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.tenants.RevokeKey(t.Context(), "revokedrevoked00"); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(k.log, nil))
	k.records = &flaky{Records: k.db.Records()}
	k.recorder = store.NewRecorder(store.RecorderConfig{Records: k.records, Audits: flakyAudits{k.db.Audits(), k.records}, MaxWait: 50 * time.Millisecond, Incarnation: incarnation})
	k.registry = registry.New(registry.Config{})
	k.owner = &owner{kit: k}
	k.leases = &reports{ends: make(chan []api.LeaseEnded, 10)}
	k.tenants.OnApplication(k.owner.apply)
	k.api = manage.New(manage.Config{
		Registry: k.registry, Tenants: k.tenants, Records: k.recorder, Owner: k.owner, Leases: k.leases, AdminToken: adminWord, Log: log,
		Metrics: k.metrics, Limits: limits, Room: func() bool { return !k.full.Load() }, Missing: missing,
	})
	k.server = httptest.NewServer(resolved(k.api))
	k.spec = openAPIRouter(t)
	ctx, cancel := context.WithCancel(context.Background())
	apiCtx, stopAPI := context.WithCancel(ctx)
	var engine, manager sync.WaitGroup
	engine.Go(func() { _ = k.tenants.Run(ctx) })
	engine.Go(func() { _ = k.recorder.Run(ctx) })
	run := k.api.Run
	manager.Go(func() { _ = run(apiCtx) })
	k.stop = func() { stopAPI(); manager.Wait() }
	t.Cleanup(func() {
		k.stop()
		k.server.Close()
		k.records.fail(nil)
		cancel()
		engine.Wait()
		if err := k.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// restart serves the same API on another listener.
func (k *kit) restart(wrap func(net.Listener) net.Listener) {
	k.t.Helper()
	k.server = httptest.NewUnstartedServer(resolved(k.api))
	k.server.Listener = wrap(k.server.Listener)
	k.server.Start()
	k.t.Cleanup(k.server.Close)
}

// owner ends sessions in the registry and the recorder, as the gateway does, without clients.
type owner struct {
	kit     *kit
	records sync.Map // api.SessionID → store.Record, of sessions that are live

	mu    sync.Mutex
	calls []string
	err   error
	gate  chan struct{} // Disconnect waits for it to close, when set
}

func (o *owner) Disconnect(_ context.Context, app api.ApplicationID, id api.ServerID, by tenant.Actor, reason string) (bool, error) {
	o.mu.Lock()
	o.calls = append(o.calls, string(id)+" by "+string(by)+" for "+reason)
	err, gate := o.err, o.gate
	o.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if err != nil {
		return false, err
	}
	_, session, ok := id.Split()
	row, live := o.kit.registry.Get(app, session)
	if !ok || !live {
		return false, nil
	}
	return o.end(row, api.EndDisconnected, string(by), reason), nil
}

func (o *owner) DisconnectMatching(_ context.Context, q registry.Query, at api.Millis, by tenant.Actor,
	reason string) (n int, whole bool, err error) {
	ids, _ := o.kit.registry.Matching(q, at)
	for _, id := range ids {
		_, session, _ := id.Split()
		if row, live := o.kit.registry.Get(q.Application, session); live && o.end(row, api.EndDisconnected, string(by), reason) {
			n++
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return n, o.err == nil, nil
}

func (o *owner) Revoke(ctx context.Context, app api.ApplicationID, by tenant.Actor, reason string) (int, bool, error) {
	_, n, err := o.kit.tenants.Revoke(ctx, app, by, reason)
	return n, true, err
}

func (o *owner) apply(app tenant.Application) int {
	rows := o.kit.registry.SetApplication(app.Organization, app.ID,
		registry.Gate{State: app.State, Epoch: app.Epoch, RevokedAt: app.RevokedAt}, app.LastConnection)
	for _, row := range rows {
		o.end(row, api.EndRevoked, app.RevokedBy, app.RevokedReason)
	}
	return len(rows)
}

func (o *owner) end(row registry.Row, why api.EndReason, by, reason string) bool {
	k := o.kit
	kept, ok := o.records.Load(row.Session)
	if !ok { // it only appeared
		_, ok = k.registry.Remove(row.Application, row.ServerID)
		return ok
	}
	rec := kept.(store.Record)
	rec.EndedAt, rec.EndReason, rec.EndedBy, rec.EndText = api.MillisOf(time.Now()), why, by, reason
	k.recorder.End(rec)
	_, ok = k.registry.Remove(row.Application, row.ServerID)
	return ok
}

func (o *owner) called() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

// flaky is the table of records, whose database can go away.
type flaky struct {
	store.Records
	mu     sync.Mutex
	err    error // of everything
	writes error // of writes alone

	minutes atomic.Int64 // that Minutes was asked for
}

var errAway = errors.New("disk of the secret place /var/lib is gone")

func (f *flaky) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.writes = err, err
}

func (f *flaky) failWrites(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = err
}

// flakyAudits are read from the same database.
type flakyAudits struct {
	store.AuditLog
	*flaky
}

func (f flakyAudits) List(ctx context.Context, q store.AuditQuery) ([]store.Audit, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.AuditLog.List(ctx, q)
}

func (f *flaky) away() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *flaky) Write(ctx context.Context, records []store.Record, denials []store.Denial, audits ...store.Audit) error {
	f.mu.Lock()
	err := f.writes
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Records.Write(ctx, records, denials, audits...)
}

func (f *flaky) Get(ctx context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]store.Record, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Records.Get(ctx, app, ids)
}

func (f *flaky) Ended(ctx context.Context, app api.ApplicationID, filter store.EndFilter, after *api.Position,
	limit int) ([]store.Record, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Records.Ended(ctx, app, filter, after, limit)
}

func (f *flaky) CountEnded(ctx context.Context, app api.ApplicationID, since api.Millis, also ...api.SessionID) (int, error) {
	if err := f.away(); err != nil {
		return 0, err
	}
	return f.Records.CountEnded(ctx, app, since, also...)
}

func (f *flaky) Minutes(ctx context.Context, app api.ApplicationID, starts []api.Millis, until api.Millis,
	also ...api.SessionID) ([]store.Minute, error) {
	f.minutes.Add(int64(len(starts)))
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Records.Minutes(ctx, app, starts, until, also...)
}

// row makes a session of the application.
func (k *kit) row(app api.ApplicationID, created api.Millis) registry.Row {
	k.t.Helper()
	a, ok := k.tenants.Application(app)
	if !ok {
		k.t.Fatalf("no application %s", app)
	}
	id := api.NewSessionID()
	return registry.Row{
		Organization: a.Organization, Application: app, Session: id, ServerID: api.NewServerID("srv-01", id), CreatedAt: created,
		IP: "203.0.113.10", ClientID: "client-001", Login: "john@example.com", License: "ABCDEF-123456", Authorized: true,
		LastActiveAt: created,
	}
}

// appear puts a session into the registry alone: for tests of streams, which know no records.
func (k *kit) appear(row registry.Row) registry.Row {
	k.t.Helper()
	if err := k.registry.Insert(row, registry.Unlimited); err != nil {
		k.t.Fatal(err)
	}
	return row
}

func (k *kit) vanish(row registry.Row) { k.registry.Remove(row.Application, row.ServerID) }

// open opens a session: its record, then its row. change may be nil.
func (k *kit) open(app api.ApplicationID, created api.Millis, change func(*registry.Row, *store.Record)) registry.Row {
	k.t.Helper()
	row := k.row(app, created)
	rec := store.Record{Hostname: "mbp-14", UserAgent: "agent/1", ClientInfo: json.RawMessage(`{"name":"<x>","version":"1"}`)}
	if change != nil {
		change(&row, &rec)
	}
	rec.ID, rec.ServerID, rec.Organization, rec.Application, rec.CreatedAt = row.Session, row.ServerID, row.Organization, app, row.CreatedAt
	rec.IP, rec.ClientID, rec.Login, rec.License, rec.Authorized = row.IP, row.ClientID, row.Login, row.License, row.Authorized
	rec.TokenExpiresAt = row.TokenExpiresAt
	k.owner.records.Store(row.Session, rec)
	ticket, err := k.recorder.Stage(rec)
	if err != nil {
		k.t.Fatal(err)
	}
	k.appear(row)
	if err := ticket.Commit(context.Background()); err != nil {
		k.t.Fatal(err)
	}
	return row
}

// end ends a session as its client would.
func (k *kit) end(row registry.Row) { k.owner.end(row, api.EndClientClosed, "", "") }

func ms() api.Millis { return api.MillisOf(time.Now()) }

// request is one HTTP request. The zero value of a field leaves it to do.
type request struct {
	method string // "" = GET
	path   string
	key    string // "" = fullKey; "-" = none
	body   string
	header http.Header
}

// answer is what came back; it has been held to the OpenAPI description.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (k *kit) do(r request) answer {
	k.t.Helper()
	if r.method == "" {
		r.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(context.Background(), r.method, k.server.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		k.t.Fatal(err)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	switch r.key {
	case "":
		req.Header.Set("Authorization", "Bearer "+fullKey)
	case "-":
	default:
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	maps.Copy(req.Header, r.header)
	resp, err := k.server.Client().Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, body}
	k.hold(req, a)
	return a
}

// hold holds a response to the OpenAPI description, and to what every response promises.
func (k *kit) hold(req *http.Request, a answer) {
	k.t.Helper()
	where := req.Method + " " + req.URL.RequestURI()
	if a.header.Get("X-Request-Id") == "" || a.header.Get("Cache-Control") != "no-store" {
		k.t.Errorf("%s: headers %v", where, a.header)
	}
	if req.Method == http.MethodHead {
		return // described as GET
	}
	bare := req.Clone(context.Background())
	bare.URL.RawQuery = ""
	route, params, err := k.spec.FindRoute(bare)
	if err != nil {
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			k.t.Errorf("%s is not described, and answers %d", where, a.status)
		}
		return
	}
	holdRoute(k.t, &openapi3filter.RequestValidationInput{Request: bare, PathParams: params, Route: route}, a)
}

// holdTo holds a response to what is described of its request, which must be there.
func holdTo(t testing.TB, spec routers.Router, r *http.Request, a answer) {
	t.Helper()
	route, params, err := spec.FindRoute(r)
	if err != nil {
		t.Errorf("%s is not described: %v", r.URL, err)
		return
	}
	holdRoute(t, &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route}, a)
}

func holdRoute(t testing.TB, r *openapi3filter.RequestValidationInput, a answer) {
	t.Helper()
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: r,
		Status:                 a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		t.Errorf("%s %s answers what is not described: %v\n%d %s", r.Request.Method, r.Request.URL.RequestURI(), err, a.status, a.body)
	}
}

func openAPIRouter(t testing.TB) routers.Router {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	doc.Servers = nil // any host
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	openapi3filter.RegisterBodyDecoder("text/yaml", openapi3filter.FileBodyDecoder)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// get decodes a 200 answer.
func get[T any](k *kit, path string) T {
	k.t.Helper()
	return ask[T](k, request{path: path}, http.StatusOK)
}

func ask[T any](k *kit, r request, status int) (out T) {
	k.t.Helper()
	a := k.do(r)
	if a.status != status {
		k.t.Fatalf("%s %s: %d %s", r.method, r.path, a.status, a.body)
	}
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		k.t.Fatalf("%s: %v in %s", r.path, err, a.body)
	}
	return out
}

// refusal checks an error answer, in the dialect of the path, and returns its message.
func (k *kit) refusal(r request, code api.Code) string {
	k.t.Helper()
	a := k.do(r)
	var both struct {
		Success    *bool    `json:"success"`
		Message    string   `json:"message"`
		StatusCode *int     `json:"statusCode"`
		Code       api.Code `json:"code"`
	}
	if err := json.Unmarshal(a.body, &both); err != nil {
		k.t.Fatalf("%s %s: %d %q", r.method, r.path, a.status, a.body)
	}
	live := strings.HasPrefix(r.path, api.RoutePrefix+"/wss/")
	if both.Code != code || a.status != code.Status() || both.Message == "" || (both.Success != nil) != live ||
		(both.StatusCode != nil) == live || both.StatusCode != nil && *both.StatusCode != a.status {
		k.t.Errorf("%s %s %s: %d %s, want %s", r.method, r.path, r.body, a.status, a.body, code)
	}
	return both.Message
}

// resolved stands for package server, which puts the client's address into RemoteAddr.
func resolved(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "127.0.0.1"
		next.ServeHTTP(w, r)
	})
}
