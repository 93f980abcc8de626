package manage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v4"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
)

func TestUnknownPaths(t *testing.T) {
	k := newKit(t, unlimited)
	for _, path := range []string{
		"/", "/api", "/api/v1", "/api/v1/", "/api/v1/nosuch", "/api/v1/applications/", "/api/v1/wss/nosuch", "/api/v1/wss/",
		api.LivePath + "/", "/api/v1//applications", "/api/v1/./applications", "/api/v1/x/../applications", "/api/v2/applications",
		sessionsPath(desktop) + "/", "/api/v1/APPLICATIONS", "/api/v1/admin", "/openapi.yaml/", "/openapi.json",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			k.refusal(request{method: method, path: path, key: "-"}, api.CodeNotFound)
		}
	}
}

// TestEveryRouteIsDescribed holds the tables of routes and the description to one another.
func TestEveryRouteIsDescribed(t *testing.T) {
	k := newKit(t, unlimited)
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	routes := k.api.Routes()
	one := api.SessionsPath + "/{sessionId}" // the gateway's, as is the next
	routes[api.ConnectPath], routes[one+"/events"] = []string{"GET"}, []string{"GET"}
	routes[api.SessionsPath], routes[one+"/heartbeat"], routes[one] = []string{"POST"}, []string{"POST"}, []string{"DELETE"}
	for _, path := range manage.OpsRoutes() {
		routes[path] = []string{"GET"}
	}
	described := map[string][]string{}
	for path, item := range doc.Paths.Map() {
		described[path] = slices.Sorted(maps.Keys(item.Operations()))
	}
	for _, methods := range routes {
		slices.Sort(methods)
	}
	if diff := cmp.Diff(described, routes); diff != "" {
		t.Errorf("described (-) and served (+):\n%s", diff)
	}
}

// TestMethods asks every described path with every method: what is described is taken, everything else is 405 with Allow.
func TestMethods(t *testing.T) {
	k := newKit(t, unlimited)
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	for pattern, item := range doc.Paths.Map() {
		if pattern == api.ConnectPath || strings.HasPrefix(pattern, api.SessionsPath) || len(item.Servers) > 0 {
			continue // served by others
		}
		path := strings.NewReplacer("{applicationId}", nowhere.String(), "{sessionId}", unopened.String(),
			"{organizationId}", acme.String(), "{publicId}", "0000000000000000").Replace(pattern)
		var allow []string
		for method := range item.Operations() {
			allow = append(allow, method)
		}
		if slices.Contains(allow, "GET") {
			allow = append(allow, "HEAD")
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} {
			a := k.do(request{method: method, path: path, key: "-"})
			if slices.Contains(allow, method) == (a.status == http.StatusMethodNotAllowed) {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
			if a.status != http.StatusMethodNotAllowed {
				continue
			}
			got := strings.Split(a.header.Get("Allow"), ", ")
			slices.Sort(got)
			slices.Sort(allow)
			if !slices.Equal(got, allow) {
				t.Errorf("%s: Allow %v, described %v", path, got, allow)
			}
			if method != "HEAD" {
				k.refusal(request{method: method, path: path, key: "-"}, api.CodeMethodNotAllowed)
			}
		}
	}
}

func TestHead(t *testing.T) {
	k := newKit(t, unlimited)
	for _, path := range []string{livePath, sessionsPath(desktop), applicationsPath, "/openapi.yaml"} {
		get, head := k.do(request{path: path}), k.do(request{method: "HEAD", path: path})
		if head.status != get.status || len(head.body) > 0 || head.header.Get("Content-Length") != get.header.Get("Content-Length") {
			t.Errorf("%s: %d %v, GET %d %v", path, head.status, head.header, get.status, get.header)
		}
	}
}

func TestDescriptions(t *testing.T) {
	k := newKit(t, unlimited)
	for path, want := range map[string][]byte{"/openapi.yaml": api.OpenAPI, "/asyncapi.yaml": api.AsyncAPI} {
		a := k.do(request{path: path, key: "-"})
		if a.status != http.StatusOK || string(a.body) != string(want) || a.header.Get("Content-Type") != "text/yaml; charset=utf-8" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
		var v map[string]any
		if err := yaml.Load(a.body, &v); err != nil {
			t.Error(err)
		}
	}
}

func TestRequestID(t *testing.T) {
	k := newKit(t, unlimited)
	for given, kept := range map[string]bool{
		"": false, "abc-DEF_1.2:3": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "a\"b": false,
		"ünï": false, "<script>": false,
	} {
		a := k.do(request{path: livePath, header: http.Header{"X-Request-Id": {given}}})
		if got := a.header.Get("X-Request-Id"); (got == given) != kept || len(got) == 0 || len(got) > 64 {
			t.Errorf("%q becomes %q", given, got)
		}
	}
	a := k.do(request{path: api.LivePath + "?applicationId=%zz", header: http.Header{"X-Request-Id": {"find-me"}}})
	if a.status != http.StatusBadRequest {
		t.Error(a.status)
	}
	want := `requestId=find-me method=GET route=/api/v1/wss/get-application-sessions status=400`
	if log := k.log.String(); !strings.Contains(log, want) || !strings.Contains(log, "key=fullfullfullfull") || strings.Contains(log, "rck_") {
		t.Errorf("the log lacks %s, or has a key:\n%s", want, log)
	}
}

// TestPanic: whatever goes wrong inside, the caller is told nothing of it, and the next request is served.
func TestPanic(t *testing.T) {
	k := newKit(t, unlimited)
	broken := manage.New(manage.Config{Tenants: k.tenants, Records: k.recorder, Owner: k.owner}) // without a registry
	server := httptest.NewServer(broken)
	defer server.Close()
	k.server = server
	if msg := k.refusal(request{path: livePath}, api.CodeInternal); strings.Contains(msg, "nil") || strings.Contains(msg, "panic") {
		t.Errorf("tells %q", msg)
	}
	k.refusal(request{path: sessionsPath(desktop)}, api.CodeInternal)
	ask[api.TokenReply](k, request{method: "POST", path: appPath(desktop) + "/session-tokens", body: `{"expiresIn":60}`}, http.StatusCreated)
}

// TestHostileHTTP writes what no client library would.
func TestHostileHTTP(t *testing.T) {
	k := newKit(t, unlimited)
	auth := "Host: x\r\nAuthorization: Bearer " + fullKey + "\r\n"
	upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, tt := range []struct {
		request string
		status  int
	}{
		{"GET " + livePath + " HTTP/1.1\r\n" + auth + strings.Replace(upgrade, "13", "8", 1), 400},
		{"GET " + livePath + " HTTP/1.1\r\n" + auth + strings.Replace(upgrade, "dGhlIHNhbXBsZSBub25jZQ==", "short", 1), 400},
		{"GET " + livePath + " HTTP/1.1\r\n" + auth + upgrade + "Content-Length: 5\r\n\r\nhello", 400},
		{"POST " + livePath + " HTTP/1.1\r\n" + auth + upgrade, 405},
		{"HEAD " + livePath + " HTTP/1.1\r\n" + auth + upgrade, 400},
		{"GET " + livePath + " HTTP/1.0\r\n" + auth + upgrade, 400},
		{"GET " + sessionsPath(desktop) + " HTTP/1.1\r\n" + auth + upgrade, 200}, // not a stream's path: the upgrade is ignored
		{"GET " + livePath + " HTTP/1.1\r\nHost: x\r\n" + upgrade, 401},
		{"GET " + livePath + "&page=0 HTTP/1.1\r\n" + auth + upgrade, 400},
		{"CONNECT /api/v1/applications HTTP/1.1\r\n" + auth, 405},
		{"GET http://elsewhere/api/v1/applications HTTP/1.1\r\n" + auth, 200},
		{"POST " + applicationsPath + " HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 99999999\r\n", 413},
	} {
		conn, err := net.Dial("tcp", k.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "%s\r\n", tt.request); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(tt.request, " ")
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%.60s: %v", tt.request, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != tt.status || method != "HEAD" && method != "CONNECT" && !json.Valid(body) {
			t.Errorf("%.60q: %d %s, want %d", tt.request, resp.StatusCode, body, tt.status)
		}
		_ = conn.Close()
	}
}

func TestMetrics(t *testing.T) {
	k := newKit(t, unlimited)
	k.do(request{path: livePath})
	k.refusal(request{path: sessionPath(desktop, unopened)}, api.CodeSessionNotFound)
	k.refusal(request{method: "BREW", path: "/nowhere/" + strings.Repeat("x", 50), key: "-"}, api.CodeNotFound)
	p := k.watch(fullKey, query)
	p.quiet(t)
	w := httptest.NewRecorder()
	manage.Ops(func() manage.Readiness { return manage.Readiness{Status: "ready"} }, k.metrics).ServeHTTP(w,
		httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`rollcall_manage_requests_total{method="GET",route="/api/v1/wss/get-application-sessions",status="200"} 1`,
		`rollcall_manage_requests_total{method="GET",route="/api/v1/applications/{applicationId}/sessions/{sessionId}",status="404"} 1`,
		`rollcall_manage_requests_total{method="other",route="",status="404"} 1`,
		`rollcall_manage_refusals_total{code="session_not_found"} 1`,
		`rollcall_manage_streams 1`,
		`rollcall_manage_flush_duration_seconds_count 1`,
		`rollcall_manage_slow_flushes_total 0`,
	} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("metrics lack %s", line)
		}
	}
}

func TestOps(t *testing.T) {
	var state manage.Readiness
	ops := manage.Ops(func() manage.Readiness { return state }, prometheus.NewRegistry())
	spec := openAPIRouter(t)
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.Background(), method, path, nil)
		ops.ServeHTTP(w, r)
		if !strings.HasPrefix(path, "/debug/") && path != "/" {
			r.Method = http.MethodGet // where 405 is described as well
			holdTo(t, spec, r, answer{w.Code, w.Header(), w.Body.Bytes()})
		}
		return w
	}
	for _, tt := range []struct {
		state  manage.Readiness
		status int
		body   string
	}{
		{manage.Readiness{Status: "ready"}, 200, `{"status":"ready"}`},
		{manage.Readiness{Status: "starting"}, 503, `{"status":"starting"}`},
		{manage.Readiness{Status: "draining"}, 503, `{"status":"draining"}`},
		{manage.Readiness{Status: "degraded", Reasons: []string{"store: away", "nodes: srv-02 missing"}}, 200,
			`{"status":"degraded","reasons":["store: away","nodes: srv-02 missing"]}`},
	} {
		state = tt.state
		if w := ask("GET", "/readyz"); w.Code != tt.status || w.Body.String() != tt.body+"\n" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w := ask("GET", "/healthz"); w.Code != 200 {
			t.Errorf("healthz while %s: %d", tt.state.Status, w.Code)
		}
	}
	for path, status := range map[string]int{"/metrics": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, "/debug/pprof/cmdline": 200, "/": 404} {
		if w := ask("GET", path); w.Code != status {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := ask("POST", "/readyz"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
