package mcp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

const (
	legacyInit = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"raw-client","version":"3"}}}`
	legacyTools = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	ping        = `{"jsonrpc":"2.0","id":3,"method":"ping"}`
)

// modernTools is a request of a client named name.
func modernTools(name string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientInfo":{"name":%q,"version":"3"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, name)
}

// rawServer is an MCP server that believes everything: any session id, any token. It is what an attacker would wish for.
type rawServer struct {
	mu       sync.Mutex
	sessions int
	strict   bool // ids that it did not give are 404, and the token "bad" is 401
	given    map[string]bool
	last     *http.Request
	body     []byte
	stream   func(http.ResponseWriter, *http.Request) // answers GET
}

func (s *rawServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	s.last, s.body = r, body
	id := r.Header.Get("Mcp-Session-Id")
	unknown := id != "" && !s.given[id]
	if bytes.Contains(body, []byte(`"initialize"`)) && json.Valid(body) {
		s.sessions++
		given := fmt.Sprintf("session-%d", s.sessions)
		if s.given == nil {
			s.given = map[string]bool{}
		}
		s.given[given] = true
		w.Header().Set("Mcp-Session-Id", given)
		unknown = false
	}
	strict, stream := s.strict, s.stream
	s.mu.Unlock()
	switch {
	case strict && r.Header.Get("Authorization") == "Bearer bad":
		w.WriteHeader(http.StatusUnauthorized)
	case strict && unknown:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet && stream != nil:
		stream(w, r)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case !json.Valid(body) && len(body) > 0:
		w.WriteHeader(http.StatusBadRequest)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}
}

// seen returns the last request that reached the server.
func (s *rawServer) seen() (*http.Request, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.body
}

// post sends tools/list with a token and an Mcp-Session-Id, both optional, and returns the status and the challenge.
func (f *fixture) post(token, id string) (status int, challenge string) {
	f.t.Helper()
	r := f.request(http.MethodPost, legacyTools, token, id)
	return r.StatusCode, r.Header.Get("WWW-Authenticate")
}

// request sends one request and reads the answer to its end.
func (f *fixture) request(method, body, token, id string, headers ...string) *http.Response {
	f.t.Helper()
	resp := f.open(f.t.Context(), method, body, token, id, headers...)
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		f.t.Fatal(err)
	}
	return resp
}

func (f *fixture) open(ctx context.Context, method, body, token, id string, headers ...string) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, f.gateway, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if id != "" {
		r.Header.Set("Mcp-Session-Id", id)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp
}

// initialize returns the id of a new session of the token's client.
func (f *fixture) initialize(token string) string {
	f.t.Helper()
	resp := f.request(http.MethodPost, legacyInit, token, "")
	id := resp.Header.Get("Mcp-Session-Id")
	if resp.StatusCode != http.StatusOK || id == "" {
		f.t.Fatalf("initialize: %s, session %q", resp.Status, id)
	}
	return id
}

func startRaw(t *testing.T, s *rawServer, configure ...func(*mcp.Config)) *fixture {
	t.Helper()
	return start(t, serve(t, s)+"/mcp", configure...)
}

// TestBytes: what the server reads is what the client sent, and what it answers is what the client gets.
func TestBytes(t *testing.T) {
	s := &rawServer{}
	f := startRaw(t, s)
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	huge := []byte(strings.TrimSuffix(modernTools("huge"), "}}") + `},"arguments":"` + strings.Repeat("x", 5<<20) + `"}}`)
	for name, body := range map[string][]byte{
		"none": nil, "one": {'x'}, "at the bound": random(256 << 10), "below": random(256<<10 - 1), "above": random(256<<10 + 1),
		"large": random(5 << 20), "JSON": []byte(" \n" + legacyTools + "\r\n "), "large JSON": huge,
	} {
		for _, chunked := range []bool{false, true} {
			var reader io.Reader = bytes.NewReader(body)
			if chunked {
				reader = io.MultiReader(reader) // its length cannot be seen
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.gateway+"?a=%zz&b=1;2", reader)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Odd", "\tkept as it is  x ")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			got, read := s.seen()
			if sha256.Sum256(read) != sha256.Sum256(body) {
				t.Errorf("%s, chunked %t: %d bytes arrived, not those that were sent", name, chunked, len(read))
			}
			if want := int64(len(body)); !chunked && got.ContentLength != want || chunked && len(body) > 0 && got.ContentLength != -1 {
				t.Errorf("%s, chunked %t: it arrived with length %d", name, chunked, got.ContentLength)
			}
			if got.URL.RawQuery != "a=%zz&b=1;2" || got.Header.Get("X-Odd") != "kept as it is  x" || got.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("%s: query %q, headers %v", name, got.URL.RawQuery, got.Header)
			}
		}
	}
	if got := f.list(); len(got) == 0 || got[len(got)-1].Details.ClientID == "" {
		t.Errorf("of the JSON bodies, none was listed: %+v", got)
	}
}

// TestNobodyIsTakenForAnother: spoofed ids, ids of others, and what is no MCP at all.
func TestNobodyIsTakenForAnother(t *testing.T) {
	s := &rawServer{}
	f := startRaw(t, s)
	id := f.initialize("alice")
	alice := f.one()

	t.Run("another's id", func(t *testing.T) {
		time.Sleep(5 * time.Millisecond) // so that activity would show
		if got, _ := f.post("mallory", id); got != http.StatusOK {
			t.Fatalf("the server accepted it, and the client got %d", got)
		}
		f.request(http.MethodDelete, "", "mallory", id)
		f.post("", id)
		f.request(http.MethodPost, modernTools("raw-client"), "mallory", id)
		for _, l := range f.list() {
			if l.ID == alice.ID {
				if *l.LastActiveAt != *alice.LastActiveAt {
					t.Error("another's request is alice's activity")
				}
			} else if string(l.ClientInfo) != "null" && l.Details.ClientID != "raw-client" {
				t.Errorf("what alice said is shown of another: %+v", l)
			}
		}
		if n := slices.IndexFunc(f.list(), func(l api.Session) bool { return l.ID == alice.ID }); n < 0 {
			t.Error("another's DELETE ended alice's session")
		}
	})
	t.Run("ids that nobody gave", func(t *testing.T) {
		f.revokeAll()
		s.mu.Lock()
		s.strict = true
		s.mu.Unlock()
		for range 20 {
			if got, _ := f.post("eve", fmt.Sprintf("guess-%d", rand.Uint64())); got != http.StatusNotFound {
				t.Errorf("the server's 404 became %d", got)
			}
		}
		if got, _ := f.post("bad", ""); got != http.StatusUnauthorized {
			t.Errorf("the server's 401 became %d", got)
		}
		if l := f.list(); len(l) != 0 {
			t.Errorf("listed: %+v", l)
		}
	})
	t.Run("no JSON-RPC", func(t *testing.T) {
		for _, body := range []string{"", "{", `"initialize"`, "[]", "[[[[", "null", `{"jsonrpc":"1.0","method":"initialize"}`, `{"method":5,"id":1}`,
			strings.Repeat("[", 100_000), strings.Repeat(`{"params":`, 20_000), `{"jsonrpc":["2.0"],"method":{"a":1}}`, "\x00\xff",
			`{"JSONRPC":"2.0","METHOD":"initialize"}`} {
			f.request(http.MethodPost, body, "", "")
			if _, got := s.seen(); string(got) != body {
				t.Errorf("%.40q arrived as %.40q", body, got)
			}
		}
		f.request(http.MethodGet, "", "", "")
		f.request(http.MethodPut, legacyTools, "", "")
		f.request(http.MethodOptions, "", "", "")
		for _, l := range f.list() {
			t.Errorf("listed: %+v", l)
		}
	})
	t.Run("headers", func(t *testing.T) {
		for name, h := range map[string][]string{
			"two tokens": {"Authorization", "Bearer a", "Authorization", "Bearer b"}, "two ids": {"Mcp-Session-Id", "a", "Mcp-Session-Id", "b"},
			"a token for the proxy":      {"Authorization", "Bearer a", "Connection", "close, authorization"},
			"a session id for the proxy": {"Mcp-Session-Id", "a", "Connection", "mcp-session-id"},
		} {
			if got := f.request(http.MethodPost, legacyTools, "", "", h...); got.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", name, got.Status)
			}
		}
		f.request(http.MethodPost, legacyTools, "", "", "X-Forwarded-For", "203.0.113.7", "Forwarded", "for=203.0.113.8", "X-Forwarded-Host", "evil.example",
			"X-Forwarded-Proto", "https", "User-Agent", strings.Repeat("ü", 300), "X-Client-Hostname", "mbp\u202e<img src=x>")
		got, _ := s.seen()
		if h := got.Header; h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("Forwarded") != "" || strings.Contains(h.Get("X-Forwarded-Host"), "evil") ||
			h.Get("X-Forwarded-Proto") != "http" {
			t.Errorf("a client's word of proxies reached the server: %v", h)
		}
		l := f.one()
		if l.Details.IPAddress != "127.0.0.1" || len(*l.UserAgent) > 256 || *l.Hostname != "mbp\u202e<img src=x>" {
			t.Errorf("listed: %+v", l)
		}
	})
}

// TestTrustedProxy: behind a proxy that is trusted, the client is who it says; the server learns of both.
func TestTrustedProxy(t *testing.T) {
	s := &rawServer{}
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	f := startRaw(t, s, func(c *mcp.Config) { c.TrustedProxies = trusted })
	to, err := url.Parse(f.upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := mcp.NewProxy(mcp.ProxyConfig{Upstream: to, TrustedProxies: trusted, PreserveHost: true})
	if err != nil {
		t.Fatal(err)
	}
	f.gateway = serve(t, f.tracker.Middleware(proxy)) + "/mcp"
	id := ""
	for _, addr := range []string{"203.0.113.7", "203.0.113.8"} { // without a token the address is who it is
		resp := f.request(http.MethodPost, legacyInit, "", "", "X-Forwarded-For", addr, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "mcp.example.com")
		got, _ := s.seen()
		if h := got.Header; h.Get("X-Forwarded-For") != addr+", 127.0.0.1" || h.Get("X-Forwarded-Proto") != "https" ||
			h.Get("X-Forwarded-Host") != "mcp.example.com" || got.Host != strings.TrimSuffix(strings.TrimPrefix(f.gateway, "http://"), "/mcp") {
			t.Errorf("the server saw %s %v", got.Host, h)
		}
		if l := f.list(); l[0].Details.IPAddress != addr {
			t.Errorf("listed from %s", l[0].Details.IPAddress)
		}
		if id == "" {
			id = resp.Header.Get("Mcp-Session-Id")
		}
	}
	f.request(http.MethodPost, legacyTools, "", id, "X-Forwarded-For", "203.0.113.9")
	if l := f.list(); len(l) != 3 || string(l[0].ClientInfo) != "null" {
		t.Errorf("another address with the id of the first: %+v", l)
	}
}

// TestHostileClientInfo: whatever a client says of itself, it is listed, and so are those who are reported in the same call.
func TestHostileClientInfo(t *testing.T) {
	f := startRaw(t, &rawServer{})
	infos := []string{
		`{"name":"twice","name":"again"}`, `{"name":"\ud800","version":"1"}`, `{"name":"` + strings.Repeat("n", 5000) + `"}`, `{"a":{"b":{"c":{"d":{}}}}}`,
		`{"name":7,"version":{"x":[]}}`, `{"name":"nul\u0000","icons":[{"src":"data:` + strings.Repeat("A", 9000) + `"}]}`, `{}`, `[]`, `"text"`, `null`,
		`{"name":"<script>alert(1)</script>","title":"` + strings.Repeat("&<>", 1300) + `"}`, "{\"name\":\"\xff\xfe broken\"}", `{"hostname":"` + strings.Repeat("ä", 200) + `"}`,
	}
	for i, info := range infos {
		body := strings.Replace(legacyInit, `{"name":"raw-client","version":"3"}`, info, 1)
		if got := f.request(http.MethodPost, body, fmt.Sprintf("client-%d", i), ""); got.StatusCode >= 500 {
			t.Errorf("%.60s: %s", info, got.Status)
		}
	}
	eventually(t, "all are listed", func() bool { return len(f.list()) == len(infos) })
	for _, l := range f.list() {
		if l.ClientInfo != nil && !json.Valid(l.ClientInfo) {
			t.Errorf("clientInfo is %s", l.ClientInfo)
		}
	}
}

// TestRevocation: 401 for a token, 404 for an id, until there is another.
func TestRevocation(t *testing.T) {
	f := startRaw(t, &rawServer{}, func(c *mcp.Config) { c.Challenge.Scope = "tools:read" })
	id := f.initialize("t-1")
	f.disconnect(f.one().ID)
	eventually(t, "the token is refused", func() bool { got, _ := f.post("t-1", ""); return got == http.StatusUnauthorized })
	resp := f.request(http.MethodPost, legacyInit, "t-1", "")
	want := `Bearer error="invalid_token", error_description="the session was ended by an operator: authorize again", resource_metadata="` +
		strings.TrimSuffix(f.gateway, "/mcp") + `/.well-known/oauth-protected-resource/mcp", scope="tools:read"`
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != want {
		t.Errorf("%s\n%s\nwant\n%s", resp.Status, got, want)
	}
	for _, body := range []string{legacyTools, modernTools("raw-client"), ping, "{"} {
		if got := f.request(http.MethodPost, body, "t-2", id); got.StatusCode != http.StatusNotFound {
			t.Errorf("the ended session's id with a new token and %.30s: %s", body, got.Status)
		}
	}
	if got := f.request(http.MethodGet, "", "t-2", id); got.StatusCode != http.StatusNotFound {
		t.Errorf("GET: %s", got.Status)
	}
	f.initialize("t-2")
	f.one()

	t.Run("a JWT is its signed part", func(t *testing.T) {
		f.initialize("head.payload.signature")
		for _, l := range f.list() {
			f.disconnect(l.ID)
		}
		eventually(t, "the token is refused", func() bool { got, _ := f.post("head.payload.signature", ""); return got == http.StatusUnauthorized })
		if got, _ := f.post("head.payload.another", ""); got != http.StatusUnauthorized {
			t.Errorf("with another signature: %d", got)
		}
	})
	t.Run("without a token", func(t *testing.T) {
		id := f.initialize("")
		f.disconnect(f.one().ID)
		eventually(t, "404", func() bool { got, _ := f.post("", id); return got == http.StatusNotFound })
		f.initialize("")
		f.revokeAll()
		f.request(http.MethodPost, modernTools("anonymous"), "", "")
		f.disconnect(f.one().ID)
		eventually(t, "401", func() bool {
			return f.request(http.MethodPost, modernTools("anonymous"), "", "").StatusCode == http.StatusUnauthorized
		})
		if got := f.request(http.MethodPost, modernTools("another"), "", ""); got.StatusCode != http.StatusOK {
			t.Errorf("another client: %s", got.Status)
		}
	})
}

// TestRestart: another process in front of the same server knows the sessions, and what was cut off.
func TestRestart(t *testing.T) {
	s := &rawServer{}
	f := startRaw(t, s)
	id := f.initialize("r-1")
	first := f.one()
	again := startAt(t, f.server, f.upstream)
	if got, _ := again.post("r-1", id); got != http.StatusOK {
		t.Fatal(got)
	}
	again.request(http.MethodPost, modernTools("modern"), "r-2", "")
	f.request(http.MethodPost, modernTools("modern"), "r-2", "")
	if l := f.list(); len(l) != 2 || l[1].ID != first.ID {
		t.Errorf("two processes in front of one server list %+v", l)
	}
	f.revokeAll()
	fresh := startAt(t, f.server, f.upstream)
	if got := fresh.request(http.MethodPost, modernTools("modern"), "r-2", ""); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a revoked token at a new process: %s", got.Status)
	}
	if got, _ := fresh.post("r-9", id); got != http.StatusOK { // another's credential: another session, as far as is known
		t.Errorf("%d", got)
	}
	if got, _ := fresh.post("r-1", id); got != http.StatusNotFound && got != http.StatusUnauthorized {
		t.Errorf("a revoked session at a new process: %d", got)
	}
	if got, _ := fresh.post("r-1", ""); got != http.StatusUnauthorized {
		t.Errorf("a revoked token at a new process: %d", got)
	}
	if l := f.list(); len(l) != 1 {
		t.Errorf("listed: %+v", l)
	}
}

// TestRevokeAllEndsStreams: every open stream ends, and the server's handlers with it.
func TestRevokeAllEndsStreams(t *testing.T) {
	const streams = 200
	var handlers sync.WaitGroup
	s := &rawServer{stream: func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}}
	f := startRaw(t, s)
	var readers sync.WaitGroup
	for i := range streams {
		resp := f.open(t.Context(), http.MethodGet, "", fmt.Sprintf("s-%d", i), "")
		readers.Go(func() {
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Errorf("the stream broke: %v", err)
			}
		})
	}
	eventually(t, "all are listed", func() bool { return len(f.list()) == streams })
	at := time.Now()
	n, err := f.manage.RevokeAll(t.Context(), testkit.App, "")
	if err != nil || n != streams {
		t.Errorf("revoked %d: %v", n, err)
	}
	readers.Wait()
	t.Logf("%d streams ended within %v", streams, time.Since(at))
	handlers.Wait()
}

// TestBackPressure: a client that does not read stops its server, fills nobody's memory, and can be cut off all the same.
func TestBackPressure(t *testing.T) {
	var wrote atomic.Int64
	ended := make(chan struct{})
	s := &rawServer{stream: func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Type", "text/event-stream")
		line := []byte("data: " + strings.Repeat("x", 64<<10) + "\n\n")
		for {
			n, err := w.Write(line)
			wrote.Add(int64(n))
			if err != nil {
				return
			}
		}
	}}
	f := startRaw(t, s)
	resp := f.open(t.Context(), http.MethodGet, "", "reader", "")
	defer resp.Body.Close()
	for last := int64(-1); last != wrote.Load(); time.Sleep(200 * time.Millisecond) {
		if last = wrote.Load(); last > 256<<20 {
			t.Fatalf("%d MiB went to a client that reads nothing", last>>20)
		}
	}
	f.disconnect(f.one().ID)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the server goes on writing to a session that was ended")
	}
}

// TestQuotaAndPause: what Rollcall would not admit is not admitted, and comes in when it would.
func TestQuotaAndPause(t *testing.T) {
	server := testkit.Start(t, testkit.Config{MaxAuthorized: 1})
	s := &rawServer{}
	f := startAt(t, server, serve(t, s)+"/mcp")
	f.initialize("q-1")
	if got := f.request(http.MethodPost, legacyInit, "q-2", ""); got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("over the quota: %s %v", got.Status, got.Header)
	}
	paused, active := api.ApplicationPaused, api.ApplicationActive
	if _, err := f.manage.PatchApplication(t.Context(), testkit.App, client.ApplicationInput{State: &paused}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "403", func() bool {
		return f.request(http.MethodPost, legacyTools, "q-3", "").StatusCode == http.StatusForbidden
	})
	if _, err := f.manage.PatchApplication(t.Context(), testkit.App, client.ApplicationInput{State: &active}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "200", func() bool { return f.request(http.MethodPost, legacyTools, "q-3", "").StatusCode == http.StatusOK })
	for range 3 { // once it is known, it is refused before it is passed on
		s.mu.Lock()
		s.last = nil
		s.mu.Unlock()
		if got := f.request(http.MethodPost, legacyTools, "q-4", ""); got.StatusCode != http.StatusTooManyRequests {
			t.Errorf("over the quota: %s", got.Status)
		}
	}
	if got, _ := s.seen(); got != nil {
		t.Error("a request of a client that was refused reached the server")
	}
}
