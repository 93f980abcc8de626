package js_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/clients/js"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// stand is a real server, and in front of it a proxy whose connections can be cut, which also serves the client's modules, so that
// pages have one origin with the API.
type stand struct {
	t    *testing.T
	data string
	url  string // of the proxy

	mu     sync.Mutex
	server *testkit.Server
	conns  map[net.Conn]struct{} // that the proxy has accepted
}

func start(t *testing.T) *stand {
	t.Helper()
	s := &stand{t: t, data: t.TempDir(), conns: map[net.Conn]struct{}{}}
	s.server = testkit.Start(t, testkit.Config{Data: s.data})
	mux := http.NewServeMux()
	mux.Handle("/src/", http.StripPrefix("/src/", http.FileServerFS(js.Source())))
	mux.Handle("/test/", http.StripPrefix("/test/", http.FileServerFS(os.DirFS("test"))))
	proxy := &httputil.ReverseProxy{Rewrite: s.rewrite}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	mux.Handle("/", proxy)
	mux.HandleFunc("POST /token", s.token)
	mux.Handle("/signed/", http.StripPrefix("/signed", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+testkit.Key)
		proxy.ServeHTTP(w, r)
	})))
	front := httptest.NewUnstartedServer(mux)
	front.Listener = listener{front.Listener, s}
	front.Start()
	t.Cleanup(func() {
		s.cut()
		front.Close()
	})
	s.url = front.URL
	return s
}

func (s *stand) rewrite(r *httputil.ProxyRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := url.Parse(s.server.URL)
	if err != nil {
		panic(err)
	}
	r.SetURL(target)
	r.Out.Host = r.In.Host // the origin that pages have
}

// listener notes what it accepts.
type listener struct {
	net.Listener
	s *stand
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.s.mu.Lock()
		l.s.conns[conn] = struct{}{}
		l.s.mu.Unlock()
	}
	return conn, err
}

// cut ends every connection through the proxy, without a word.
func (s *stand) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	clear(s.conns)
}

// restart drains the server and starts another on the same data.
func (s *stand) restart() {
	s.server.Stop(s.t)
	server := testkit.Start(s.t, testkit.Config{Data: s.data})
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
}

// control is what the scripts may ask of this test.
func (s *stand) control() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cut", func(http.ResponseWriter, *http.Request) { s.cut() })
	mux.HandleFunc("POST /restart", func(http.ResponseWriter, *http.Request) { s.restart() })
	mux.HandleFunc("POST /token", s.token)
	srv := httptest.NewServer(mux)
	s.t.Cleanup(srv.Close)
	return srv
}

// token issues a session token with the claims of the query; ttl is in seconds.
func (s *stand) token(w http.ResponseWriter, r *http.Request) {
	claims := map[string]any{"jti": rand.Text()} // what was issued in one second would be one token otherwise
	for name := range r.URL.Query() {
		claims[name] = r.URL.Query().Get(name)
	}
	if ttl, err := strconv.Atoi(r.URL.Query().Get("ttl")); err == nil {
		claims["exp"] = float64(time.Now().UnixMilli())/1000 + float64(ttl)
	}
	_, _ = io.WriteString(w, testkit.Token(s.t, claims))
}

// program returns the path of a program that the test needs: without it the test is skipped, or fails where everything must run.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", names[0])
	}
	t.Skipf("%s is not installed", names[0])
	return ""
}

// node runs test files with Node, and fails with what they say.
func node(t *testing.T, env []string, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests at %s: %v", pattern, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := append([]string{"--test", "--test-concurrency=1", "--test-timeout=30000", "--test-reporter=spec"}, files...)
	if only := os.Getenv("ROLLCALL_ONLY"); only != "" { // tests by name
		args = append([]string{"--test-name-pattern=" + only}, args...)
	}
	cmd := exec.CommandContext(ctx, program(t, "node"), args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// TestUnits runs what needs no server.
func TestUnits(t *testing.T) { node(t, nil, "test/*.test.js") }

// TestServer runs the client in Node against a real server.
func TestServer(t *testing.T) {
	program(t, "node")
	s := start(t)
	node(t, []string{
		"ROLLCALL_URL=" + s.url, "ROLLCALL_CONTROL=" + s.control().URL,
		"ROLLCALL_KEY=" + testkit.Key, "ROLLCALL_READ_KEY=" + testkit.ReadKey,
		fmt.Sprintf("ROLLCALL_APPLICATION=%s", testkit.App), "ROLLCALL_NUMBER=" + testkit.Number,
		"ROLLCALL_OTHER_NUMBER=" + testkit.OtherNumber, "ROLLCALL_PUBLISHABLE_KEY=" + testkit.PublishableKey,
	}, "test/server/*.test.js")
}
