// Package testkit runs a whole server inside a test: real listeners on loopback, a real database in the test's directory, and two
// organizations that must never meet. Nothing in it is a fake.
package testkit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/server"
)

// What the bootstrap file of every test server describes.
const (
	Number         = "123456789" // of App
	OtherNumber    = "987654321" // of OtherApp
	PublishableKey = "rca_0123456789abcdef"
	Secret         = "at-least-32-bytes-of-secret-------" // HS256, of App

	Key         = "rck_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL" // every scope of Org
	ReadKey     = "rck_readreadreadread_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL" // sessions:read only
	OtherKey    = "rck_otherotherother0_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL" // every scope of OtherOrg
	OtherSecret = "another-32-bytes-of-secret--------"
)

// Ids of the same file. Second is another application of Org; OtherApp belongs to OtherOrg.
var (
	Org      = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	OtherOrg = api.MustID[api.Organization]("22222222-2222-4222-8222-222222222222")
	App      = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	Second   = api.MustID[api.Application]("660e8400-e29b-41d4-a716-446655440000")
	OtherApp = api.MustID[api.Application]("770e8400-e29b-41d4-a716-446655440000")
)

const bootstrap = `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    plan: {name: Pro, liveSessionsOverview: true, historyRetention: 720h%s}
    applications:
      - {id: 550e8400-e29b-41d4-a716-446655440000, number: "123456789", name: Desktop Client, publishableKey: rca_0123456789abcdef,
         idleAfter: %s, tokens: {hs256Secret: "at-least-32-bytes-of-secret-------"}}
      - {id: 660e8400-e29b-41d4-a716-446655440000, number: "123456790", name: Web Client, publishableKey: rca_0123456789abcdeg,
         tokens: {hs256Secret: "at-least-32-bytes-of-secret-------"}}
    apiKeys:
      - {name: everything, key: rck_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL, applications: all,
         scopes: [sessions:read, sessions:disconnect, sessions:create, applications:read, applications:write, account:read, audit:read]}
      - {name: reader, key: rck_readreadreadread_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL, applications: all, scopes: [sessions:read]}
  - id: 22222222-2222-4222-8222-222222222222
    name: Globex
    plan: {name: Free, liveSessionsOverview: true}
    applications:
      - {id: 770e8400-e29b-41d4-a716-446655440000, number: "987654321", name: Other, publishableKey: rca_other00123456789,
         tokens: {hs256Secret: "another-32-bytes-of-secret--------"}}
    apiKeys:
      - {name: everything, key: rck_otherotherother0_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL, applications: all,
         scopes: [sessions:read, sessions:disconnect, sessions:create, applications:read, applications:write, account:read, audit:read]}
`

// Config changes what Start starts. The zero value is a server with the product's defaults.
type Config struct {
	Data          string // "" = the test's own directory; give one to restart on it
	Database      string // "" = SQLite in Data
	Node          string // "" = srv-01
	Cluster       server.ClusterConfig
	MaxAuthorized int // of Org's plan; 0 = unlimited
	IdleAfter     time.Duration
	Gateway       gateway.Limits
	Manage        manage.Limits
	Log           io.Writer // nil = none
	Now           func() time.Time
	TLS           bool // serve TLS with a certificate made for the test
}

// Server is a running server.
type Server struct {
	URL        string // http://127.0.0.1:port; https: with Config.TLS
	Ops        string // the same of the ops listener
	Data       string
	AdminToken string

	client *http.Client // trusts the certificate of a TLS server
	stop   context.CancelFunc
	run    sync.WaitGroup
	err    error // of Run, once it has returned
}

// Start starts a server and stops it when the test ends. A drain that fails, fails the test.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Data == "" {
		cfg.Data = t.TempDir()
	}
	log := slog.New(slog.DiscardHandler)
	if cfg.Log != nil {
		log = slog.New(slog.NewTextHandler(cfg.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	file := filepath.Join(cfg.Data, "bootstrap.yaml")
	if err := os.WriteFile(file, []byte(Bootstrap(cfg)), 0o600); err != nil {
		t.Fatal(err)
	}
	scheme, cert, key, client := "http://", "", "", http.DefaultClient
	if cfg.TLS {
		scheme = "https://"
		cert, key, client = Certificate(t)
	}
	srv, err := server.New(t.Context(), server.Config{
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Data: cfg.Data, Database: cfg.Database, Node: cmp.Or(cfg.Node, "srv-01"),
		Bootstrap: file, Cluster: cfg.Cluster,
		TLSCert: cert, TLSKey: key,
		Drain: 10 * time.Second, Gateway: cfg.Gateway, Manage: cfg.Manage, Log: log, Now: cfg.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &Server{
		URL: scheme + srv.Addr(), Ops: "http://" + srv.OpsAddr(), Data: cfg.Data, AdminToken: srv.AdminToken(),
		client: client, stop: stop,
	}
	s.run.Go(func() { s.err = srv.Run(ctx) })
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// Bootstrap returns the YAML that Start applies.
func Bootstrap(cfg Config) string {
	limit := ""
	if cfg.MaxAuthorized > 0 {
		limit = fmt.Sprintf(", maxAuthorizedSessions: %d", cfg.MaxAuthorized)
	}
	idle := cfg.IdleAfter
	if idle == 0 {
		idle = api.DefaultIdleAfter
	}
	return fmt.Sprintf(bootstrap, limit, idle)
}

// Stop drains the server and waits. It may be called again.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop()
	s.run.Wait()
	if s.err != nil {
		t.Errorf("the server stopped with: %v", s.err)
	}
}

// Certificate makes a certificate for 127.0.0.1 in the test's directory, and returns its PEM files and a client that trusts it.
func Certificate(t testing.TB) (cert, key string, client *http.Client) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, key, &http.Client{Transport: transport}
}

// WebSocket returns the ws:// address of a path with its query; wss: with Config.TLS.
func (s *Server) WebSocket(path string) string { return "ws" + s.URL[len("http"):] + path }

// Client returns an HTTP client that trusts the server's certificate, if it has one.
func (s *Server) Client() *http.Client {
	if s.client == nil { // a Server that a test made of an address
		return http.DefaultClient
	}
	return s.client
}

// At returns the server as it is reached at another host:port, a proxy's.
func (s *Server) At(addr string) *Server {
	scheme, _, _ := strings.Cut(s.URL, "://")
	return &Server{URL: scheme + "://" + addr, Ops: s.Ops, Data: s.Data, AdminToken: s.AdminToken, client: s.client}
}

// Addr returns host:port of the main listener.
func (s *Server) Addr() string {
	_, addr, _ := strings.Cut(s.URL, "://")
	return addr
}

// Dial opens a connection to the main listener, over TLS when the server has it. It ends with the test at the latest.
func (s *Server) Dial(t testing.TB) net.Conn {
	t.Helper()
	addr := s.Addr()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil && strings.HasPrefix(s.URL, "https:") {
		transport, _ := s.Client().Transport.(*http.Transport)
		config := transport.TLSClientConfig.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
		secured := tls.Client(conn, config)
		conn, err = secured, secured.HandshakeContext(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Do makes a request with a key and returns the status and the body. A body that is not nil is sent as JSON.
func (s *Server) Do(t testing.TB, key, method, path string, body any) (int, []byte) {
	t.Helper()
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, payload)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// Get makes a GET request with a key and decodes the answer, which must be a 200, into out.
func (s *Server) Get(t testing.TB, key, path string, out any) {
	t.Helper()
	status, body := s.Do(t, key, http.MethodGet, path, nil)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// Token signs a foreign session token for App, issued now and valid for an hour, with the claims added or, when nil, taken out.
func Token(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := jwt.MapClaims{"sub": "john@example.com", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "aud": App.String()}
	for k, v := range claims {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(Secret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Log is output that is read while it is written. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text []byte
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

// String returns what was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// FreeAddress is Free for tests.
func FreeAddress(t testing.TB) string {
	t.Helper()
	addr, err := Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// nextPort is counted up, so that no two calls of Free in a process return the same.
var nextPort atomic.Uint32

func init() { nextPort.Store(mathrand.Uint32()) }

// Free returns a host:port of loopback where nobody listens, below the ports that systems give to connections and to who listens on
// port 0: nobody takes it by chance before it is used.
func Free(ctx context.Context) (addr string, err error) {
	for range 100 {
		addr = fmt.Sprintf("127.0.0.1:%d", 10_000+nextPort.Add(1)%20_000)
		var l net.Listener
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}

// Eventually polls until ok returns true, and fails the test with what it was waiting for after a generous time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 15 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
