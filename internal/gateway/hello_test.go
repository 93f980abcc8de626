package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

func TestHTTPRefusals(t *testing.T) {
	f := newFixture(t, Limits{ConnectionsPerAddress: 1})
	tests := []struct {
		name   string
		method string
		raw    func(string) string
		status int
		code   api.Code
		header string
	}{
		{"POST", "POST", nil, 405, api.CodeMethodNotAllowed, "Allow"},
		{"PUT", "PUT", nil, 405, api.CodeMethodNotAllowed, "Allow"},
		{"no upgrade", "GET", func(s string) string { return strings.ReplaceAll(s, "Upgrade: websocket\r\n", "") }, 400, api.CodeValidation, ""},
		{"old version", "GET", func(s string) string { return strings.ReplaceAll(s, "Version: 13", "Version: 8") }, 400, api.CodeValidation,
			"Sec-Websocket-Version"},
		{"bad key", "GET", func(s string) string { return strings.ReplaceAll(s, "dGhlIHNhbXBsZSBub25jZQ==", "x") }, 400, api.CodeValidation, ""},
		{"with a body", "GET", func(s string) string {
			return strings.ReplaceAll(s, "Host: h\r\n", "Host: h\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n"
		}, 400, api.CodeValidation, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &client{TB: t, Conn: f.dial()}
			defer c.Close()
			wantHTTP(t, c.rawRequest(tt.method, tt.raw), tt.status, tt.code, tt.header)
		})
	}
	f.connect()
	c := &client{TB: t, Conn: f.dial()}
	defer c.Close()
	wantHTTP(t, c.rawRequest("GET", nil), 429, api.CodeRateLimited, "Retry-After")

	f = newFixture(t, Limits{})
	f.g.Drain(t.Context(), 0)
	c = &client{TB: t, Conn: f.dial()}
	defer c.Close()
	wantHTTP(t, c.rawRequest("GET", nil), 503, api.CodeUnavailable, "Retry-After")
}

func (c *client) rawRequest(method string, edit func(string) string) *http.Response {
	if edit != nil {
		c.Conn = editing{c.Conn, edit}
	}
	c.br = newReader(c.Conn)
	return c.request(method)
}

func wantHTTP(t *testing.T, resp *http.Response, status int, code api.Code, header string) {
	t.Helper()
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/json" ||
		!strings.Contains(string(body), fmt.Sprintf(`"statusCode":%d,"code":%q`, status, code)) || header != "" && resp.Header.Get(header) == "" {
		t.Errorf("got %d %v %s", resp.StatusCode, resp.Header, body)
	}
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	item := doc.Paths.Value(api.ConnectPath)
	if item == nil {
		t.Fatal("the route is not described")
	}
	described := &openapi3filter.RequestValidationInput{Request: httptest.NewRequest(http.MethodGet, api.ConnectPath, nil),
		Route: &routers.Route{Spec: doc, Path: api.ConnectPath, PathItem: item, Method: http.MethodGet, Operation: item.Get}}
	if err := openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: described,
		Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}); err != nil {
		t.Errorf("what is not described: %v", err)
	}
}

// TestMaxFrame: the limit is configurable, exact, and named to the client.
func TestMaxFrame(t *testing.T) {
	for _, limit := range []int{1000, 2 * api.MaxFrame} {
		f := newFixture(t, Limits{MaxFrame: limit})
		c := f.openKey()
		frame := `{"type":"activity","x":"` // unknown fields are ignored
		frame += strings.Repeat("x", limit-len(frame)-2) + `"}`
		c.text(frame)
		c.send(0x89, "still here")
		if got := c.next(); got != "pong still here" {
			t.Errorf("a message of %d bytes: %s", limit, got)
		}
		c.text(frame + " ")
		want := fmt.Sprintf("message is larger than %d bytes", limit)
		if got := c.rest(); len(got) != 2 || !strings.Contains(got[0], want) || got[1] != "close 1009 "+want {
			t.Error(got)
		}
	}
}

// TestWelcome holds hello and welcome to the letter, and the row and the record to what was said.
func TestWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		c := f.connect("User-Agent: from-the-header/1", "Sec-WebSocket-Protocol: rollcall.session.v1")
		c.text(`{"type":"hello","token":"` + token(time.Hour, "license", "ABC-1") + `","application":"123456789","clientId":"client-001",` +
			`"name":"Jo's laptop","hostname":"mbp-14","clientInfo": {"b" : 1, "a":"<x>"} ,"future":true}`)
		got := golden(c.next())
		want := `{"type":"welcome","sessionId":"ID","serverId":"srv-01:ID","authorized":true,` +
			`"tokenExpiresAt":"2000-01-01T01:00:00.000Z","pingIntervalMs":25000}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		rows := f.registry.Sessions(appID, nil, 10, 0, 0)
		if len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
		r := f.record(rows[0].Session)
		rec := []any{r.ServerID == rows[0].ServerID, r.Organization == orgID, r.Incarnation, r.ClientID, r.Login, r.License, r.Authorized,
			r.Name, r.Hostname, r.UserAgent, string(r.ClientInfo), r.IP, r.EndedAt, r.TokenExpiresAt.Time().Format(time.TimeOnly)}
		if diff := cmp.Diff([]any{true, true, int64(1), "client-001", "john@example.com", "ABC-1", true, "Jo's laptop", "mbp-14",
			"from-the-header/1", `{"b" : 1, "a":"<x>"}`, "0.0.0.0", api.Millis(0), "01:00:00"}, rec); diff != "" {
			t.Error(diff)
		}
		row := []any{rows[0].ClientID, rows[0].Login, rows[0].License, rows[0].Authorized, rows[0].CreatedAt == r.CreatedAt, rows[0].IP}
		if diff := cmp.Diff([]any{"client-001", "john@example.com", "ABC-1", true, true, "0.0.0.0"}, row); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWelcomeOfAnUnauthorizedSession(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.connect()
	c.text(`{"type":"hello","publishableKey":"` + pubKey + `","token":null,"name":null,"clientInfo":null}`)
	if got, want := golden(c.next()), `{"type":"welcome","sessionId":"ID","serverId":"srv-01:ID","authorized":false,"pingIntervalMs":25000}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	row := f.registry.Sessions(appID, nil, 10, 0, 0)[0]
	if row.ClientID != row.Session.String() || row.Login != "" || row.Authorized || row.IP != "127.0.0.1" || row.TokenExpiresAt != 0 {
		t.Errorf("row %+v", row)
	}
}

// TestWelcomeIsDurable reads the database itself: what was welcomed is there.
func TestWelcomeIsDurable(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.openToken(time.Hour)
	if !f.records.Flush(t.Context()) || f.records.Status().Queued != 0 {
		t.Errorf("after welcome: %+v", f.records.Status())
	}
	if f.record(c.id).CreatedAt == 0 {
		t.Error("no record")
	}
}

// TestHelloRefusals has every way in which a hello fails: the frames to the end of the connection, golden.
func TestHelloRefusals(t *testing.T) {
	f := newFixture(t, Limits{})
	other, _ := f.tenants.Application(otherID)
	issued, err := f.tenants.IssueToken(other, api.TokenInput{ExpiresIn: 60})
	if err != nil {
		t.Fatal(err)
	}
	disconnect := func(code int, reason string, reauthenticate, reconnect bool) []string {
		return []string{fmt.Sprintf(`{"type":"disconnect","code":%d,"reason":%q,"reauthenticate":%v,"reconnect":%v}`, code, reason,
			reauthenticate, reconnect), fmt.Sprintf("close %d %s", code, reason)}
	}
	refused := func(code api.Code, message string) []string {
		return append([]string{fmt.Sprintf(`{"type":"error","code":%q,"message":%q}`, code, message)},
			disconnect(4203, "credential refused", true, true)...)
	}
	good := token(time.Hour)
	hello := func(fields string) string { return `{"type":"hello",` + fields + `}` }
	text := func(s string) func(*client) { return func(c *client) { c.text(s) } }
	expired := "the token has expired"
	tests := []struct {
		name    string
		headers string
		send    func(*client)
		want    []string
	}{
		{"not JSON", "", text("hello"), disconnect(4300, "frame is not a JSON object with a type", false, false)},
		{"empty", "", text(""), disconnect(4300, "frame is not a JSON object with a type", false, false)},
		{"no type", "", text(`{"token":"x"}`), disconnect(4300, "frame is not a JSON object with a type", false, false)},
		{"another type", "", text(`{"type":"activity"}`), disconnect(4200, "first frame is not hello", false, true)},
		{"type in another case", "", text(`{"type":"Hello"}`), disconnect(4200, "first frame is not hello", false, true)},
		{"bye", "", text(`{"type":"bye"}`), disconnect(4200, "first frame is not hello", false, true)},
		{"binary", "", func(c *client) { c.send(0x82, `{"type":"hello"}`) }, disconnect(4304, "binary frames are not accepted", false, false)},
		{"too large", "", text(strings.Repeat(" ", api.MaxFrame+1)), disconnect(1009, "message is larger than 16384 bytes", false, false)},
		{"not UTF-8", "", text("{\"type\":\"hello\xff\"}"), disconnect(1007, "text is not valid UTF-8", false, false)},
		{"reserved opcode", "", func(c *client) { c.send(0x83, "") }, disconnect(1002, "reserved opcode", false, false)},
		{"client closes", "", func(c *client) { c.send(0x88, "\x03\xe8bye") }, []string{"close 1000"}},
		{"client closes without a code", "", func(c *client) { c.send(0x88, "") }, []string{"close"}},
		{"token of another type", "", text(hello(`"token":5`)), disconnect(4302, "hello: token must be a string", false, false)},
		{"clientId too short", "", text(hello(`"token":"x","clientId":"abc"`)),
			disconnect(4302, "hello: clientId must be a string of 4 to 64 printable characters", false, false)},
		{"clientInfo no object", "", text(hello(`"token":"x","clientInfo":[]`)),
			disconnect(4302, "hello: clientInfo must be an object of at most 4096 bytes and 4 levels", false, false)},
		{"name twice", "", text(hello(`"token":"x","name":"a","name":"b"`)), disconnect(4302, "hello: name must be given once", false, false)},
		{"no credential", "", text(hello(`"application":"123456789"`)), refused("token_invalid", "token or publishableKey is required")},
		{"null credential", "", text(hello(`"token":null`)), refused("token_invalid", "token or publishableKey is required")},
		{"empty token", "", text(hello(`"token":""`)), refused("token_invalid", "the token is empty")},
		{"empty token beside a key", "", text(hello(`"token":"","publishableKey":"` + pubKey + `"`)),
			refused("token_invalid", "the token is empty")},
		{"empty publishable key", "", text(hello(`"publishableKey":""`)), refused("publishable_key_invalid", "the publishable key is empty")},
		{"unknown publishable key", "", text(hello(`"publishableKey":"rca_zzzzzzzzzzzzzzzz"`)),
			refused("publishable_key_invalid", "the publishable key is not valid")},
		{"empty application", "", text(hello(`"token":"x","application":""`)), refused("application_unknown", "the application is empty")},
		{"cid of another client", "", text(hello(`"application":"123456789","clientId":"client-002","token":"` + token(time.Hour, "cid", "client-001") + `"`)),
			refused("client_id_mismatch", "clientId is not the one that the token was issued for")},
		{"expired token", "", text(hello(`"application":"123456789","token":"` + token(-time.Second) + `"`)), refused("token_expired", expired)},
		{"expired token in the header", "Authorization: bearer " + token(-time.Second), text(hello(`"application":"123456789"`)),
			refused("token_expired", expired)},
		{"hello's token before the header's", "Authorization: Bearer " + good,
			text(hello(`"application":"123456789","token":"` + token(-time.Second) + `"`)), refused("token_expired", expired)},
		{"forbidden origin", "Origin: https://evil.example", text(hello(`"token":"` + issued.Token + `"`)),
			refused("origin_forbidden", "the application does not allow this origin")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var headers []string
			if tt.headers != "" {
				headers = []string{tt.headers}
			}
			c := f.connect(headers...)
			c.TB = t
			tt.send(c)
			if diff := cmp.Diff(tt.want, c.rest()); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, credential := range []string{"garbage", "a.b.c", strings.Repeat("x", 10_000), `\u0000`, `\ud800`, good + "x"} {
		c := f.connect()
		c.text(hello(`"application":"123456789","token":"` + credential + `"`))
		if got := c.rest(); len(got) != 3 || !strings.Contains(got[0], `"code":"token_invalid"`) || got[2] != "close 4203 credential refused" {
			t.Errorf("token %.20q: %v", credential, got)
		}
	}
	for _, application := range []string{"1", "nope", "999999999999999999999999", "11111111-1111-4111-8111-111111111111", "123456789 ", `\u0000`} {
		c := f.connect()
		c.text(hello(`"token":"` + good + `","application":"` + application + `"`))
		if got := c.rest(); len(got) != 3 || !strings.Contains(got[0], `"code":"application_unknown"`) {
			t.Errorf("application %q: %v", application, got)
		}
	}
	if f.live() != 0 {
		t.Errorf("%d rows are left", f.live())
	}
	if log := f.log.String(); strings.Contains(log, good) || strings.Contains(log, issued.Token) {
		t.Error("a token is in the log")
	}
}

func TestOrigins(t *testing.T) {
	f := newFixture(t, Limits{})
	for origin, ok := range map[string]bool{"": true, "Origin: https://app.example.com": true, "Origin: HTTPS://App.example.com": true,
		"Origin: http://app.example.com": false, "Origin: null": false, "Origin: https://app.example.com.evil.org": false,
		"Origin: https://app.example.com\r\nOrigin: https://app.example.com": false} {
		var headers []string
		if origin != "" {
			headers = []string{origin}
		}
		c := f.connect(headers...)
		c.text(`{"type":"hello","publishableKey":"rca_0123456789abcdeg"}`)
		if got := c.object()["type"]; (got == "welcome") != ok {
			t.Errorf("%s: %v", origin, got)
		}
	}
	f.connect("Origin: https://anywhere").text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
}

// TestApplicationRefuses: paused and archived have close codes of their own, without an error frame.
func TestApplicationRefuses(t *testing.T) {
	f := newFixture(t, Limits{})
	try := func() []string {
		c := f.connect()
		c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
		return c.rest()
	}
	paused := api.ApplicationPaused
	if _, err := f.tenants.PatchApplication(t.Context(), appID, tenant.ApplicationInput{State: &paused}, tenant.Admin); err != nil {
		t.Fatal(err)
	}
	want := []string{`{"type":"disconnect","code":4101,"reason":"application paused","reauthenticate":false,"reconnect":false}`,
		"close 4101 application paused"}
	if diff := cmp.Diff(want, try()); diff != "" {
		t.Error(diff)
	}
	if _, err := f.tenants.ArchiveApplication(t.Context(), appID, tenant.Admin); err != nil {
		t.Fatal(err)
	}
	want = []string{`{"type":"disconnect","code":4102,"reason":"application archived","reauthenticate":false,"reconnect":false}`,
		"close 4102 application archived"}
	if diff := cmp.Diff(want, try()); diff != "" {
		t.Error(diff)
	}
}

func (f *fixture) limitTo(n int) {
	plan := tenant.PlanInput{Name: "Small", MaxAuthorizedSessions: &n}
	if _, err := f.tenants.PatchOrganization(f.Context(), orgID, tenant.OrganizationInput{Plan: &plan}); err != nil {
		f.Fatal(err)
	}
}

func TestQuota(t *testing.T) {
	f := newFixture(t, Limits{})
	f.limitTo(1)
	first := f.openToken(time.Hour)
	c := f.connect()
	c.text(`{"type":"hello","application":"123456789","token":"` + token(time.Hour) + `"}`)
	want := []string{`{"type":"disconnect","code":4206,"reason":"sessions_quota_exceeded","reauthenticate":false,"reconnect":true}`,
		"close 4206 sessions_quota_exceeded"}
	if diff := cmp.Diff(want, c.rest()); diff != "" {
		t.Error(diff)
	}
	unauthorized := f.openKey() // does not count
	unauthorized.text(`{"type":"authorize","token":"` + token(time.Hour, "sub", "jane") + `"}`)
	if got := unauthorized.next(); got != `{"type":"error","code":"sessions_quota_exceeded","message":"the plan's authorized sessions are used up"}` {
		t.Error(got)
	}
	if r := f.record(unauthorized.id); r.Authorized || r.Login != "" {
		t.Errorf("refused, but recorded: %+v", r)
	}
	first.text(`{"type":"bye"}`)
	first.rest()
	unauthorized.text(`{"type":"authorize","token":"` + token(time.Hour, "sub", "jane") + `"}`)
	if got := unauthorized.object()["type"]; got != "authorized" {
		t.Error(got)
	}
}
