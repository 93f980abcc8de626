package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// http returns a client of the fixture's server, whose connections end with the test.
func (f *fixture) http() *http.Client {
	f.Helper()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.dial(), nil }}
	f.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any // nil unless it is JSON
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.text) }

// is tells whether an answer is an error with that status and code.
func (r reply) is(status int, code api.Code) bool {
	return r.status == status && r.body["code"] == string(code) && (r.status < 400 || r.body["statusCode"] == float64(status) && r.body["message"] != "")
}

// call makes a request; the credential "" is none, the body "" is none.
func (f *fixture) call(c *http.Client, method, path, credential, body string, headers ...string) reply {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), f.patience) // a stream where none was expected ends there
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://h"+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header, text: strings.TrimSpace(string(text))}
	_ = json.Unmarshal(text, &r.body)
	holdTo(f.TB, req, r)
	if resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("Cache-Control") != "no-store" {
		f.Errorf("%s %s: headers %v", method, path, resp.Header)
	}
	return r
}

var description = sync.OnceValue(func() routers.Router {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		panic(err)
	}
	doc.Servers = nil // any host
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return router
})

// holdTo holds an answer to the OpenAPI description.
func holdTo(t testing.TB, req *http.Request, r reply) {
	t.Helper()
	route, params, err := description().FindRoute(req)
	if err != nil {
		if r.status != 404 && r.status != 405 {
			t.Errorf("%s %s is not described, and answers %v", req.Method, req.URL, r)
		}
		return
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(r.text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		t.Errorf("%s %s answers what is not described: %v\n%v", req.Method, req.URL, err, r)
	}
}

// holder is a client that holds a lease.
type holder struct {
	*fixture
	c     *http.Client
	id    api.SessionID
	token string
}

// lease opens a lease with a token, or with the publishable key when it is "".
func (f *fixture) lease(token, fields string) *holder {
	f.Helper()
	h := &holder{fixture: f, c: f.http(), token: token}
	body := `{"application":"123456789"`
	if token == "" {
		h.token = pubKey
	}
	if fields != "" {
		body += "," + fields
	}
	r := f.call(h.c, "POST", api.SessionsPath, h.token, body+"}")
	if r.status != http.StatusCreated {
		f.Fatalf("not opened: %v", r)
	}
	h.id = api.MustID[api.Session](r.body["session"].(map[string]any)["id"].(string))
	return h
}

func (h *holder) path(rest string) string { return api.SessionsPath + "/" + h.id.String() + rest }

func (h *holder) beat() reply {
	h.Helper()
	return h.call(h.c, "POST", h.path("/heartbeat"), h.token, "")
}

func (h *holder) bye() reply { h.Helper(); return h.call(h.c, "DELETE", h.path(""), h.token, "") }

// wantGone checks that the session is gone, for its client.
func (h *holder) wantGone(reason api.EndReason, reauthenticate bool) {
	h.Helper()
	for _, r := range []reply{h.beat(), h.call(h.c, "GET", h.path("/events"), h.token, "")} {
		if !r.is(410, api.CodeSessionEnded) || r.body["reason"] != string(reason) || r.body["reauthenticate"] != reauthenticate || len(r.body) != 5 {
			h.Errorf("want %s: %v", reason, r)
		}
	}
	if r := h.bye(); r.status != http.StatusNoContent || r.text != "" {
		h.Errorf("DELETE of a session that has ended: %v", r)
	}
}

var stamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)

func masked(s string) string { return stamps.ReplaceAllString(golden(s), "TIME") }

func TestLease(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.http()
	r := f.call(h, "POST", api.SessionsPath, token(time.Hour, "license", "ABC-1", "cid", "client-001"),
		`{"application":"123456789","hostname":"mbp-14","clientInfo":{"a":[1, 2]},"leaseSeconds":30}`, "User-Agent", "curl/8")
	want := `{"session":{"id":"ID","name":"john@example.com on mbp-14","status":"active","derivedStatus":"active","tokenExpiresAt":"TIME",` +
		`"lastActiveAt":"TIME","connectedAt":"TIME","createdAt":"TIME","agentId":"550e8400-e29b-41d4-a716-446655440000",` +
		`"organizationId":"11111111-1111-4111-8111-111111111111","hostname":"mbp-14","userAgent":"curl/8","clientInfo":{"a":[1,2]}},"heartbeatSeconds":10}`
	if diff := cmp.Diff(want, masked(r.text)); r.status != 201 || diff != "" {
		t.Fatalf("%v\n%s", r, diff)
	}
	id := api.MustID[api.Session](r.body["session"].(map[string]any)["id"].(string))
	rec := f.record(id)
	if rec.Login != "john@example.com" || rec.License != "ABC-1" || rec.ClientID != "client-001" || !rec.Authorized || rec.Lease.Seconds != 30 ||
		string(rec.ClientInfo) != `{"a":[1, 2]}` || len(rec.Lease.Tokens) != 1 || rec.IP != "127.0.0.1" || rec.Lease.CID != "client-001" {
		t.Errorf("record %+v, lease %+v", rec, rec.Lease)
	}
	if row, there := f.registry.Get(appID, id); !there || row.ServerID != api.NewServerID("srv-01", id) {
		t.Errorf("row %+v", row)
	}
}

// TestLeaseHeartbeat: a heartbeat keeps the lease, counts as activity unless it says that it is none, and changes what is shown.
func TestLeaseHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		h := f.lease(token(24*time.Hour), "")
		for i := range 5 {
			time.Sleep(80 * time.Second)
			body := ""
			if i > 0 {
				body = `{"active":false}`
			}
			if r := f.call(h.c, "POST", h.path("/heartbeat"), h.token, body); r.status != 200 {
				t.Fatalf("heartbeat %d: %v", i, r)
			}
		}
		if r := h.beat(); r.body["session"].(map[string]any)["derivedStatus"] != "active" {
			t.Error(r)
		}
		time.Sleep(80 * time.Second)
		r := f.call(h.c, "POST", h.path("/heartbeat"), h.token, `{"name":"n","hostname":"h","clientInfo":{"v":2}}`)
		if s := r.body["session"].(map[string]any); s["name"] != "n" || s["hostname"] != "h" || fmt.Sprint(s["clientInfo"]) != "map[v:2]" {
			t.Error(r)
		}
		if rec := f.record(h.id); rec.Name != "n" || rec.Hostname != "h" || string(rec.ClientInfo) != `{"v":2}` || !rec.Lease.Named {
			t.Errorf("%+v", rec)
		}
		time.Sleep(89 * time.Second)
		if f.live() != 1 {
			t.Error("it ran out early")
		}
		time.Sleep(2 * time.Second)
		f.wantEnd(h.id, api.EndLeaseExpired)
		h.wantGone(api.EndLeaseExpired, false)
		time.Sleep(2 * rememberEnded)
		synctest.Wait()
		if n := len(f.g.leases) + len(f.g.own) + len(f.g.live); n != 0 {
			t.Errorf("%d leases are remembered", n)
		}
		h.wantGone(api.EndLeaseExpired, false) // the record knows
	})
}

func TestLeaseIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		h := f.lease(token(24*time.Hour), `"leaseSeconds":3600`)
		time.Sleep(10 * time.Minute)
		r := f.call(h.c, "POST", h.path("/heartbeat"), h.token, `{"active":false}`)
		if s := r.body["session"].(map[string]any); s["derivedStatus"] != "idle" {
			t.Error(r)
		}
	})
}

func TestLeaseEndsByDelete(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	stream := h.watch()
	for range 2 {
		if r := h.bye(); r.status != 204 {
			t.Error(r)
		}
	}
	f.wantEnd(h.id, api.EndClientClosed)
	h.wantGone(api.EndClientClosed, false)
	if got := stream.rest(); len(got) != 0 {
		t.Errorf("events %v", got)
	}
	if f.live() != 0 {
		t.Error("the row is still there")
	}
}

// stream reads a lease's events.
type sseStream struct {
	testing.TB
	resp     *http.Response
	br       *bufio.Reader
	patience time.Duration
}

// watch opens an event stream.
func (h *holder) watch() *sseStream {
	h.Helper()
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "http://h"+h.path("/events"), nil)
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	resp, err := h.http().Do(req)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = resp.Body.Close() })
	s := &sseStream{h.TB, resp, bufio.NewReader(resp.Body), h.patience}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		h.Fatalf("no stream: %s %s", resp.Status, b)
	}
	if got := s.next(); got != "retry: 2000" {
		h.Errorf("the stream begins with %q", got)
	}
	return s
}

// next returns the next event, its lines joined with "|"; "EOF" at the end.
func (s *sseStream) next() string {
	var lines []string
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return "EOF"
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return strings.Join(lines, "|")
		}
		lines = append(lines, line)
	}
}

// rest returns the events up to the end, comments left out.
func (s *sseStream) rest() (all []string) {
	late := time.AfterFunc(s.patience, func() {
		s.Errorf("the stream has not ended after %s", s.patience)
		_ = s.resp.Body.Close()
	})
	defer late.Stop()
	for {
		e := s.next()
		if e == "EOF" {
			return all
		}
		if !strings.HasPrefix(e, ":") {
			all = append(all, e)
		}
	}
}

// TestLeaseTokenLife: the notice comes on the stream, the session is listed as expired, and ends at the grace; a renewed token, in a
// heartbeat, starts anew.
func TestLeaseTokenLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		begin := time.Now()
		h := f.lease(token(5*time.Minute), "")
		s := h.watch()
		events := make(chan string, 10)
		var reader sync.WaitGroup
		reader.Go(func() { // a pipe that is not read looks like a client that is gone
			defer close(events)
			for e := s.next(); e != "EOF"; e = s.next() {
				if !strings.HasPrefix(e, ":") {
					events <- e
				}
			}
		})
		notice := <-events
		if want := `event: token_expiring|data: {"type":"token_expiring","tokenExpiresAt":"TIME"}`; masked(notice) != want || time.Since(begin) != 4*time.Minute {
			t.Errorf("after %v: %s", time.Since(begin), notice)
		}
		for _, bad := range []struct{ token, code string }{
			{token(time.Hour, "sub", "eve"), "token_mismatch"},
			{token(time.Hour, "cid", "client-001"), "token_mismatch"},
			{token(-time.Second), "token_expired"},
			{token(time.Hour, "exp", ""), "token_invalid"},
			{pubKey, "token_mismatch"},
		} {
			if r := f.call(h.c, "POST", h.path("/heartbeat"), bad.token, ""); !r.is(401, api.Code(bad.code)) || r.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("want %s: %v", bad.code, r)
			}
		}
		first := h.token
		h.token = token(10 * time.Minute)
		if r := h.beat(); r.status != 200 {
			t.Fatal(r)
		}
		if rec := f.record(h.id); len(rec.Lease.Tokens) != 2 || rec.TokenExpiresAt.Time().Before(time.Now().Add(9*time.Minute)) {
			t.Errorf("%+v", rec.Lease)
		}
		time.Sleep(2 * time.Minute)
		if r := f.call(h.c, "POST", h.path("/heartbeat"), first, ""); !r.is(401, api.CodeTokenExpired) {
			t.Errorf("the first token, expired: %v", r)
		}
		time.Sleep(8*time.Minute + 10*time.Second)
		if row, _ := f.registry.Get(appID, h.id); row.Derived(api.MillisOf(time.Now()), time.Hour) != api.DerivedExpired {
			t.Errorf("%+v", row)
		}
		if r := h.beat(); !r.is(401, api.CodeTokenExpired) {
			t.Error(r)
		}
		time.Sleep(30 * time.Second)
		reader.Wait()
		var got []string
		for e := range events {
			got = append(got, masked(e))
		}
		want := []string{`event: token_expiring|data: {"type":"token_expiring","tokenExpiresAt":"TIME"}`,
			`event: disconnect|data: {"type":"disconnect","code":4105,"reason":"token expired","reauthenticate":true,"reconnect":true}`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		f.wantEnd(h.id, api.EndTokenExpired)
		h.wantGone(api.EndTokenExpired, true)
	})
}

// TestLeaseEndedByOperators: every end of an operator's reaches the stream at once, and then the requests (G3, G4).
func TestLeaseEndedByOperators(t *testing.T) {
	paused := api.ApplicationPaused
	for _, tt := range []struct {
		name   string
		act    func(f *fixture, id api.ServerID) int
		event  string
		reason api.EndReason
		again  bool
	}{
		{"disconnect", func(f *fixture, id api.ServerID) int {
			if !f.g.Disconnect(f.Context(), appID, id, "key1", "stolen") {
				return 0
			}
			return 1
		}, `"code":4100,"reason":"stolen","reauthenticate":true,"reconnect":true`, api.EndDisconnected, true},
		{"revoke", func(f *fixture, _ api.ServerID) int {
			_, n, _ := f.tenants.Revoke(f.Context(), appID, "key1", "")
			return n
		}, `"code":4103,"reason":"all sessions revoked","reauthenticate":true,"reconnect":true`, api.EndRevoked, true},
		{"pause", func(f *fixture, _ api.ServerID) int {
			_, _ = f.tenants.PatchApplication(f.Context(), appID, tenant.ApplicationInput{State: &paused}, "key1")
			return 1
		}, `"code":4101,"reason":"application paused","reauthenticate":false,"reconnect":false`, api.EndApplicationPaused, false},
		{"archive", func(f *fixture, _ api.ServerID) int {
			_, _ = f.tenants.ArchiveApplication(f.Context(), appID, "key1")
			return 1
		}, `"code":4102,"reason":"application archived","reauthenticate":false,"reconnect":false`, api.EndApplicationArchived, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, Limits{})
			tok := token(time.Hour)
			h := f.lease(tok, "")
			s := h.watch()
			if n := tt.act(f, f.record(h.id).ServerID); n != 1 {
				t.Errorf("count %d", n)
			}
			if f.live() != 0 {
				t.Error("the row is still there")
			}
			if diff := cmp.Diff([]string{`event: disconnect|data: {"type":"disconnect",` + tt.event + `}`}, s.rest()); diff != "" {
				t.Error(diff)
			}
			if r := f.wantEnd(h.id, tt.reason); r.EndedBy != "key1" {
				t.Errorf("%+v", r)
			}
			h.wantGone(tt.reason, tt.again)
			stranger := f.call(h.c, "POST", h.path("/heartbeat"), token(time.Hour, "sub", "eve"), "")
			if stranger.body["code"] == "session_ended" {
				t.Errorf("a stranger is told of the end: %v", stranger)
			}
			if !tt.again {
				if r := f.call(h.c, "POST", api.SessionsPath, tok, `{"application":"123456789"}`); !r.is(403, api.Code(tt.reason)) {
					t.Errorf("opened again: %v", r)
				}
				return
			}
			if r := f.call(h.c, "POST", api.SessionsPath, tok, `{"application":"123456789"}`); !r.is(401, api.CodeTokenRevoked) {
				t.Errorf("opened again with the same token: %v", r)
			}
		})
	}
}

// TestLeaseStays: a token that the end of another session has denied does not end a lease that presented it (page 3).
func TestLeaseStays(t *testing.T) {
	f := newFixture(t, Limits{})
	tok := token(time.Hour)
	h, other := f.lease(tok, ""), f.lease(tok, "")
	f.g.Disconnect(t.Context(), appID, f.record(other.id).ServerID, "key1", "")
	if r := h.beat(); r.status != 200 {
		t.Errorf("%v", r)
	}
	third := f.lease(token(time.Hour, "jti", "3"), "")
	if r := f.call(h.c, "POST", third.path("/heartbeat"), tok, ""); !r.is(401, api.CodeTokenRevoked) {
		t.Errorf("renewed with a denied token: %v", r)
	}
	if r := h.bye(); r.status != 204 {
		t.Error(r)
	}
}

func TestLeaseWithPublishableKey(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease("", "")
	if rec := f.record(h.id); rec.Authorized {
		t.Errorf("%+v", rec)
	}
	if r := h.beat(); r.status != 200 {
		t.Error(r)
	}
	if r := f.call(h.c, "POST", h.path("/heartbeat"), "rca_0123456789abcdeg", ""); !r.is(404, api.CodeSessionNotFound) {
		t.Errorf("another application's key: %v", r)
	}
	if r := f.call(h.c, "POST", h.path("/heartbeat"), "rca_zzzzzzzzzzzzzzzz", ""); !r.is(401, api.CodePublishableKeyInvalid) {
		t.Error(r)
	}
	tok := token(time.Hour)
	if r := f.call(h.c, "POST", h.path("/heartbeat"), tok, ""); r.status != 200 || r.body["session"].(map[string]any)["tokenExpiresAt"] == nil {
		t.Errorf("authorize: %v", r)
	}
	if rec := f.record(h.id); !rec.Authorized || rec.Login != "john@example.com" {
		t.Errorf("%+v", rec)
	}
	if r := h.beat(); !r.is(401, api.CodeTokenMismatch) {
		t.Errorf("the key, once authorized: %v", r)
	}
	other := f.call(h.c, "POST", api.SessionsPath, "", `{"publishableKey":"`+pubKey+`"}`)
	if other.status != 201 {
		t.Error(other)
	}
}

func TestLeaseRefusals(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.http()
	tok := token(time.Hour)
	h := f.lease(tok, "")
	socket := f.openToken(time.Hour)
	one := api.SessionsPath + "/" + h.id.String()
	nobody := api.NewSessionID().String()
	app := `"application":"123456789"`
	long := strings.Repeat("x", 257)
	for _, tt := range []struct {
		method, path, token, body string
		status                    int
		code                      api.Code
		message                   string // a part of it
	}{
		{"POST", api.SessionsPath, "", `{` + app + `}`, 401, "token_invalid", "Bearer"},
		{"POST", api.SessionsPath, "", `x`, 401, "token_invalid", ""},
		{"POST", api.SessionsPath, "nonsense", `{` + app + `}`, 401, "token_invalid", ""},
		{"POST", api.SessionsPath, token(time.Hour, "exp", ""), `{` + app + `}`, 401, "token_invalid", ""},
		{"POST", api.SessionsPath, token(-time.Second), `{` + app + `}`, 401, "token_expired", ""},
		{"POST", api.SessionsPath, tok, ``, 401, "application_unknown", ""},
		{"POST", api.SessionsPath, tok, `{"application":"999"}`, 401, "application_unknown", ""},
		{"POST", api.SessionsPath, tok, `{"application":"987654321"}`, 401, "token_invalid", ""},
		{"POST", api.SessionsPath, token(time.Hour, "cid", "client-001"), `{` + app + `,"clientId":"client-002"}`, 401, "client_id_mismatch", ""},
		{"POST", api.SessionsPath, "", `{"publishableKey":"rca_zzzzzzzzzzzzzzzz"}`, 401, "publishable_key_invalid", ""},
		{"POST", api.SessionsPath, tok, `{"token":"",` + app + `}`, 401, "token_invalid", ""},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":14}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":3601}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":"90"}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":90.5}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":1e2}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"leaseSeconds":-1}`, 400, "validation_error", "leaseSeconds"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"clientId":"abc"}`, 400, "validation_error", "clientId"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"clientId":7}`, 400, "validation_error", "clientId"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"name":"` + long + `"}`, 400, "validation_error", "name"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"hostname":7}`, 400, "validation_error", "hostname"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"userAgent":[]}`, 400, "validation_error", "userAgent"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"clientInfo":{"a":{"b":{"c":{"d":{}}}}}}`, 400, "validation_error", "clientInfo"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"type":"bye"}`, 400, "validation_error", "type"},
		{"POST", api.SessionsPath, tok, `{` + app + `,"extra":1}`, 400, "validation_error", "extra"},
		{"POST", api.SessionsPath, tok, `{` + app + `,` + app + `}`, 400, "validation_error", "twice"},
		{"POST", api.SessionsPath, tok, `{` + app + `}{}`, 400, "validation_error", "after"},
		{"POST", api.SessionsPath, tok, `[]`, 400, "validation_error", "object"},
		{"POST", api.SessionsPath, tok, `null`, 400, "validation_error", "object"},
		{"POST", api.SessionsPath, tok, `{` + app, 400, "validation_error", "JSON"},
		{"POST", api.SessionsPath, tok, "{\"name\":\"\xff\"}", 400, "validation_error", "UTF-8"},
		{"POST", api.SessionsPath, tok, `{"name":"\ud800"}`, 400, "validation_error", "surrogate"},
		{"POST", api.SessionsPath, tok, `{"name":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "body_too_large", ""},
		{"GET", api.SessionsPath, tok, ``, 405, "method_not_allowed", ""},
		{"PUT", one, tok, ``, 405, "method_not_allowed", ""},
		{"GET", one, tok, ``, 405, "method_not_allowed", ""},
		{"GET", one + "/heartbeat", tok, ``, 405, "method_not_allowed", ""},
		{"POST", one + "/events", tok, ``, 405, "method_not_allowed", ""},
		{"POST", one + "/other", tok, ``, 404, "not_found", ""},
		{"DELETE", api.SessionsPath + "/", tok, ``, 404, "not_found", ""},
		{"DELETE", api.SessionsPath + "/../sessions/x", tok, ``, 404, "not_found", ""},
		{"POST", one + "/heartbeat", "", ``, 401, "token_invalid", ""},
		{"POST", one + "/heartbeat", "nonsense", ``, 401, "token_invalid", ""},
		{"POST", one + "/heartbeat", tok[:len(tok)-4] + "AAAA", ``, 401, "token_invalid", ""},
		{"POST", one + "/heartbeat", tok, `{"extra":1}`, 400, "validation_error", "extra"},
		{"POST", one + "/heartbeat", tok, `{"active":"yes"}`, 400, "validation_error", "active"},
		{"POST", one + "/heartbeat", tok, `{"name":5}`, 400, "validation_error", "name"},
		{"POST", api.SessionsPath + "/x/heartbeat", tok, ``, 400, "validation_error", "sessionId"},
		{"GET", api.SessionsPath + "/x/events", tok, ``, 400, "validation_error", "sessionId"},
		{"DELETE", api.SessionsPath + "/x", tok, ``, 400, "validation_error", "sessionId"},
		{"POST", api.SessionsPath + "/" + nobody + "/heartbeat", tok, ``, 404, "session_not_found", ""},
		{"GET", api.SessionsPath + "/" + nobody + "/events", tok, ``, 404, "session_not_found", ""},
		{"DELETE", api.SessionsPath + "/" + nobody, tok, ``, 404, "session_not_found", ""},
		{"DELETE", one, "nonsense", ``, 401, "token_invalid", ""},
		{"DELETE", one, token(time.Hour, "sub", "eve"), ``, 401, "token_mismatch", ""},
		{"GET", one + "/events", token(time.Hour, "sub", "eve"), ``, 401, "token_mismatch", ""},
		{"POST", api.SessionsPath + "/" + socket.id.String() + "/heartbeat", tok, ``, 404, "session_not_found", ""},
	} {
		r := f.call(c, tt.method, tt.path, tt.token, tt.body)
		if !r.is(tt.status, tt.code) || !strings.Contains(fmt.Sprint(r.body["message"]), tt.message) {
			t.Errorf("%s %s %.80s: want %d %s %s, got %v", tt.method, tt.path, tt.body, tt.status, tt.code, tt.message, r)
		}
		if tt.status == 405 && r.header.Get("Allow") == "" {
			t.Error("no Allow")
		}
	}
	if r := f.call(c, "POST", api.SessionsPath, tok, "", "Content-Type", "text/plain"); r.status != 401 { // no body: no type
		t.Error(r)
	}
	if r := f.call(c, "POST", api.SessionsPath, tok, "{}", "Content-Type", "text/plain"); !r.is(415, api.CodeUnsupportedMediaType) {
		t.Error(r)
	}
	if r := f.call(c, "POST", api.SessionsPath, tok, "{}", "Authorization", "Bearer x"); !r.is(401, api.CodeTokenInvalid) {
		t.Errorf("two credentials: %v", r)
	}
	if r := f.call(c, "POST", api.SessionsPath, tok, `{`+app+`,"type":"hello","name":null,"leaseSeconds":null}`); r.status != 201 {
		t.Errorf("null is the same as leaving a field out: %v", r)
	}
	if r := f.call(c, "POST", api.SessionsPath, "", `{"publishableKey":"rca_0123456789abcdeg"}`, "Origin", "https://evil.example"); !r.is(403, api.CodeOriginForbidden) {
		t.Error(r)
	}
	if r := h.beat(); r.status != 200 {
		t.Errorf("after all that: %v", r)
	}
}

func TestLeaseQuota(t *testing.T) {
	f := newFixture(t, Limits{})
	if _, err := f.tenants.PatchOrganization(t.Context(), orgID, tenant.OrganizationInput{
		Plan: &tenant.PlanInput{Name: "P", MaxAuthorizedSessions: new(1)}}); err != nil {
		t.Fatal(err)
	}
	h := f.lease(token(time.Hour), "")
	r := f.call(h.c, "POST", api.SessionsPath, token(time.Hour), `{"application":"123456789"}`)
	if !r.is(429, api.CodeQuotaExceeded) || r.header.Get("Retry-After") == "" {
		t.Error(r)
	}
	if f.records.Status().Bytes != 0 {
		t.Error("the refused record is kept")
	}
}

// TestLeaseLimits: requests for a session, leases of a node, and streams are bounded, and refusals say when to come back.
func TestLeaseLimits(t *testing.T) {
	f := newFixture(t, Limits{FrameBurst: 5, MaxLeases: 2, EventStreams: 5})
	h := f.lease(token(time.Hour), "")
	var last reply
	for range 6 {
		last = h.beat()
	}
	if !last.is(429, api.CodeRateLimited) || last.header.Get("Retry-After") == "" {
		t.Errorf("the sixth request: %v", last)
	}
	if f.live() != 1 {
		t.Error("it ended")
	}
	other := f.lease(token(time.Hour), "")
	if r := f.call(h.c, "POST", api.SessionsPath, token(time.Hour), `{"application":"123456789"}`); !r.is(503, api.CodeUnavailable) || r.header.Get("Retry-After") == "" {
		t.Errorf("the third lease: %v", r)
	}
	var streams []*sseStream
	for range 5 {
		streams = append(streams, other.watch())
	}
	if got := streams[0].rest(); len(got) != 0 { // the fifth ended the first
		t.Errorf("%v", got)
	}
	f.g.watched.Add(1)
	if r := f.call(h.c, "GET", other.path("/events"), other.token, ""); !r.is(503, api.CodeUnavailable) {
		t.Errorf("one stream too many: %v", r)
	}
	f.g.watched.Add(-1)
}

// TestLeasesOfAnAddress: a lease counts as a connection of its client's address, until it ends.
func TestLeasesOfAnAddress(t *testing.T) {
	f := newFixture(t, Limits{ConnectionsPerAddress: 2})
	first := f.lease(token(time.Hour), "")
	c := f.openKey()
	if r := f.call(first.c, "POST", api.SessionsPath, pubKey, "{}"); !r.is(429, api.CodeRateLimited) || r.header.Get("Retry-After") == "" {
		t.Errorf("the third: %v", r)
	}
	if r := f.call(first.c, "POST", api.SessionsPath, "nonsense", "{}"); r.status != 429 {
		t.Error(r)
	}
	first.bye()
	for range 3 { // refused ones leave nothing behind
		if r := f.call(first.c, "POST", api.SessionsPath, "nonsense", "{}"); r.status != 401 {
			t.Error(r)
		}
	}
	f.lease("", "")
	c.text(`{"type":"bye"}`)
	c.rest()
}

// TestLeaseStreamKeeps: an open stream keeps the lease, and for its length after.
func TestLeaseStreamKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		h := f.lease(token(24*time.Hour), `"leaseSeconds":20`)
		s := h.watch()
		var comments int
		var reader sync.WaitGroup
		reader.Go(func() {
			for s.next() == ": alive" {
				comments++
			}
		})
		time.Sleep(time.Hour)
		if f.live() != 1 {
			t.Error("it ended")
		}
		_ = s.resp.Body.Close()
		reader.Wait()
		if comments < 120 || comments > 180 {
			t.Errorf("%d comments in an hour", comments)
		}
		time.Sleep(19 * time.Second)
		if f.live() != 1 {
			t.Error("it ran out early")
		}
		time.Sleep(2 * time.Second)
		f.wantEnd(h.id, api.EndLeaseExpired)
	})
}

// TestLeaseSlowReader: a client that does not read its stream loses it, costs no more, and keeps nobody waiting.
func TestLeaseSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		h := f.lease(token(24*time.Hour), `"leaseSeconds":3600`)
		_ = h.watch() // a pipe: what is not read blocks the writer
		time.Sleep(time.Minute)
		synctest.Wait()
		f.g.mu.Lock()
		l := f.g.own[h.id]
		f.g.mu.Unlock()
		l.mu.Lock()
		n := len(l.streams)
		l.mu.Unlock()
		if n != 0 || f.g.watched.Load() != 0 {
			t.Errorf("%d streams", n)
		}
		if f.live() != 1 {
			t.Error("it ended")
		}
	})
}

// TestLeaseStreamOutlastsRequests: the deadlines of plain requests do not cut an event stream off.
func TestLeaseStreamOutlastsRequests(t *testing.T) {
	f := newFixture(t, Limits{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f.g, ReadTimeout: 200 * time.Millisecond, WriteTimeout: 200 * time.Millisecond, ConnContext: ConnContext}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = srv.Close() })
	h := f.lease(token(time.Hour), "")
	plain := f.dial
	f.dial = func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		return conn
	}
	s := h.watch()
	f.dial = plain
	time.Sleep(600 * time.Millisecond)
	f.g.Disconnect(t.Context(), appID, f.record(h.id).ServerID, "key1", "")
	if got := s.rest(); len(got) != 1 || !strings.Contains(got[0], "4100") {
		t.Errorf("%v", got)
	}
}

// TestPublishIsBounded: events for a stream that nobody serves do not pile up.
func TestPublishIsBounded(t *testing.T) {
	f := newFixture(t, Limits{})
	l := f.g.newLease("", 90)
	e := l.attach()
	for range 10_000 {
		l.publish("x", bytes.Repeat([]byte("y"), 100))
	}
	if out, over := l.next(e); len(out) > maxPending || !over {
		t.Errorf("%d bytes, over %v", len(out), over)
	}
}

// TestLeaseDrain: a drain ends no lease: it leaves the list, its stream is told when to come back, and the next life takes it up.
func TestLeaseDrain(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), `"clientId":"client-001"`)
	s := h.watch()
	f.g.Drain(t.Context(), 10*time.Second)
	if got := s.rest(); len(got) != 1 || !strings.HasPrefix(got[0], "retry: ") {
		t.Errorf("last words %v", got)
	}
	if f.live() != 0 {
		t.Error("it is still listed")
	}
	for _, r := range []reply{h.beat(), h.bye(), f.call(h.c, "POST", api.SessionsPath, h.token, `{"application":"123456789"}`)} {
		if !r.is(503, api.CodeUnavailable) || r.header.Get("Retry-After") != "1" {
			t.Errorf("while draining: %v", r)
		}
	}
	f.records.Flush(t.Context())
	if rec := f.record(h.id); rec.EndedAt != 0 {
		t.Errorf("it ended: %+v", rec)
	}
	next := f.next()
	again := &holder{fixture: next, c: next.http(), id: h.id, token: h.token}
	if r := again.beat(); r.status != 200 {
		t.Fatal(r)
	}
	row, _ := next.registry.Get(appID, h.id)
	if row.ClientID != "client-001" || row.CreatedAt != f.record(h.id).CreatedAt {
		t.Errorf("%+v", row)
	}
}

// TestLeaseRaces: whatever happens at the same time, a session ends once, and no request is left without an answer.
func TestLeaseRaces(t *testing.T) {
	f := newFixture(t, Limits{FramesPerMinute: 1e6, FrameBurst: 1e6})
	for range 20 {
		h := f.lease(token(time.Hour, "jti", api.NewSessionID().String()), "")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					r := f.call(h.c, "POST", h.path("/heartbeat"), token(time.Hour, "jti", api.NewSessionID().String()), "")
					if r.status == 410 || r.status == 401 {
						return
					}
					if r.status != 200 {
						t.Errorf("%v", r)
						return
					}
				}
			})
		}
		stream := h.watch()
		wg.Go(func() { stream.rest() })
		time.Sleep(5 * time.Millisecond)
		id := f.record(h.id).ServerID
		for range 2 {
			wg.Go(func() { f.g.Disconnect(t.Context(), appID, id, "key1", "") })
		}
		wg.Go(func() { h.bye() })
		wg.Wait()
		if rec := f.record(h.id); rec.EndReason != api.EndDisconnected && rec.EndReason != api.EndClientClosed {
			t.Errorf("%+v", rec)
		}
	}
	if f.live() != 0 || len(f.g.live) != 0 {
		t.Error("rows are left")
	}
}

// awayRecords is a table whose database can go away.
type awayRecords struct {
	store.Records
	mu   sync.Mutex
	away bool
}

func (a *awayRecords) set(away bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = away
}

func (a *awayRecords) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return fmt.Errorf("away")
	}
	return nil
}

func (a *awayRecords) Get(ctx context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]store.Record, error) {
	if err := a.err(); err != nil {
		return nil, err
	}
	return a.Records.Get(ctx, app, ids)
}

func (a *awayRecords) FindLease(ctx context.Context, id api.SessionID) (api.ApplicationID, error) {
	if err := a.err(); err != nil {
		return api.ApplicationID{}, err
	}
	return a.Records.FindLease(ctx, id)
}

func (a *awayRecords) Adopt(ctx context.Context, inc int64, leases []store.Record) ([]store.Record, error) {
	if err := a.err(); err != nil {
		return nil, err
	}
	return a.Records.Adopt(ctx, inc, leases)
}

func (a *awayRecords) Write(ctx context.Context, records []store.Record, denials []store.Denial, audits ...store.Audit) error {
	if err := a.err(); err != nil {
		return err
	}
	return a.Records.Write(ctx, records, denials, audits...)
}
