package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// unparked runs the tests on TCP with a goroutine a connection. What runs on pipes always does.
var unparked = flag.Bool("unparked", false, "give every connection a goroutine")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "at-least-32-bytes-of-secret-------"
	pubKey = "rca_0123456789abcdef"
	number = "123456789"
)

var (
	appID   = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	otherID = api.MustID[api.Application]("660e8400-e29b-41d4-a716-446655440000")
	orgID   = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
)

const bootstrap = `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    plan: {name: Pro, maxAuthorizedSessions: 1000, liveSessionsOverview: true, historyRetention: 720h}
    applications:
      - {id: 550e8400-e29b-41d4-a716-446655440000, number: "123456789", name: Desktop, publishableKey: rca_0123456789abcdef,
         tokens: {hs256Secret: "at-least-32-bytes-of-secret-------"}}
      - {id: 660e8400-e29b-41d4-a716-446655440000, number: "987654321", name: Web, publishableKey: rca_0123456789abcdeg,
         allowedOrigins: ["https://app.example.com"], tokens: {hs256Secret: "another-32-bytes-of-secret--------"}}
`

// fixture is a gateway with its real neighbours, on an HTTP server whose sockets are TCP or pipes.
type fixture struct {
	testing.TB
	g        *Gateway
	tenants  *tenant.Directory
	registry *registry.Registry
	records  *store.Recorder
	metrics  *prometheus.Registry
	log      *syncBuffer
	db       store.DB
	node     int64       // incarnation
	name     string      // "" = srv-01
	full     atomic.Bool // the node has no room for connections
	dial     func() net.Conn
	patience time.Duration // of a client
}

// silentIssuer never answers.
type silentIssuer struct{}

func (silentIssuer) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// newFixture serves on loopback.
func newFixture(t testing.TB, limits Limits) *fixture {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureOn(t, limits, l, *unparked, nil)
	f.patience = 20 * time.Second
	f.dial = func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return f
}

// newPipeFixture serves on pipes, so that it runs in a synctest bubble.
func newPipeFixture(t testing.TB, limits Limits) *fixture {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	f := newFixtureOn(t, limits, l, true, nil)
	f.dial, f.patience = l.dial, 24*time.Hour
	return f
}

// next returns a later life of the node, on pipes, with the same database. The earlier one goes on, as one that is cut off does.
func (f *fixture) next() *fixture {
	f.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	n := newFixtureOn(f.TB, f.g.cfg.Limits, l, true, f)
	n.dial, n.patience = l.dial, f.patience
	return n
}

func newFixtureOn(t testing.TB, limits Limits, l net.Listener, unparked bool, before *fixture) *fixture {
	t.Helper()
	f := &fixture{TB: t, registry: registry.New(registry.Config{}), metrics: prometheus.NewRegistry(), log: &syncBuffer{}}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if before != nil {
		f.db = before.db
	} else if f.db, err = store.Open(t.Context(), "sqlite::memory:"); err != nil {
		t.Fatal(err)
	}
	db := f.db
	f.name = "srv-01"
	if before != nil {
		f.name = before.name
	}
	if f.node, err = db.Nodes().Claim(t.Context(), f.name); err != nil {
		t.Fatal(err)
	}
	if f.tenants, err = tenant.New(t.Context(), tenant.Config{Store: db.Config(), Log: log, Issuers: silentIssuer{}}); err != nil {
		t.Fatal(err)
	}
	if err := f.tenants.Bootstrap(t.Context(), strings.NewReader(bootstrap)); err != nil {
		t.Fatal(err)
	}
	f.records = store.NewRecorder(store.RecorderConfig{Records: db.Records(), Log: log, Incarnation: f.node})
	f.g = New(Config{Node: f.name, Registry: f.registry, Tenants: f.tenants, Records: f.records, Log: log,
		Metrics: f.metrics, Limits: limits, Unparked: unparked, Room: func() bool { return !f.full.Load() }})
	f.tenants.OnApplication(f.g.Apply)

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := "0.0.0.0" // as package server resolves a pipe
		if tcp, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			addr = tcp.Addr().String()
		}
		r.RemoteAddr = addr
		f.g.ServeHTTP(w, r)
	})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	wg.Go(func() { _ = f.records.Run(ctx) })
	wg.Go(func() { _ = f.g.Run(ctx) })
	t.Cleanup(func() {
		cut, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = srv.Close()
		f.g.Drain(cut, 0)
		stop()
		wg.Wait()
		if before == nil {
			_ = db.Close()
		}
	})
	return f
}

// whenIdle does something while no worker serves a session, and none begins to.
func (f *fixture) whenIdle(do func()) {
	l := f.g.lot
	for busy := true; busy; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		if busy = l.lines[lineOpen].workers+l.lines[lineHello].workers > 0; !busy {
			do()
		}
		l.mu.Unlock()
	}
}

// record returns the session's record as readers see it.
func (f *fixture) record(id api.SessionID) store.Record {
	f.Helper()
	found, err := f.records.Get(f.Context(), appID, []api.SessionID{id})
	if err != nil || len(found) != 1 {
		f.Fatalf("record of %s: %d found, %v", id, len(found), err)
	}
	return found[id]
}

// live returns how many rows the registry has.
func (f *fixture) live() int { return f.registry.Stats().Sessions }

// wantEnd waits for the session's end and checks why it ended.
func (f *fixture) wantEnd(id api.SessionID, reason api.EndReason) store.Record {
	f.Helper()
	for range 500 {
		if r := f.record(id); r.EndedAt != 0 {
			if r.EndReason != reason {
				f.Errorf("ended as %s, want %s", r.EndReason, reason)
			}
			return r
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Fatalf("session %s did not end", id)
	return store.Record{}
}

// token signs claims for the application; life is from now.
func token(life time.Duration, claims ...string) string {
	now := time.Now()
	m := jwt.MapClaims{"sub": "john@example.com", "iat": now.Unix(), "exp": now.Add(life).Unix()}
	for i := 0; i+1 < len(claims); i += 2 {
		m[claims[i]] = claims[i+1]
		if claims[i+1] == "" {
			delete(m, claims[i])
		}
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString([]byte(secret))
	if err != nil {
		panic(err)
	}
	return signed
}

// client speaks raw bytes: it shares no code with the server's side.
type client struct {
	testing.TB
	net.Conn
	br *bufio.Reader
	id api.SessionID
}

// connect upgrades; headers are whole lines.
func (f *fixture) connect(headers ...string) *client {
	f.Helper()
	c := &client{TB: f.TB, Conn: f.dial()}
	f.Cleanup(func() { _ = c.Close() })
	c.br = bufio.NewReader(c.Conn)
	_ = c.SetDeadline(time.Now().Add(f.patience)) // a hang ends there
	resp := c.request("GET", headers...)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		f.Fatalf("upgrade: %s", resp.Status)
	}
	return c
}

func (c *client) request(method string, headers ...string) *http.Response {
	c.Helper()
	head := method + " /api/v1/connect HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(c.Conn, head+"\r\n"); err != nil {
		c.Fatal(err)
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		c.Fatal(err)
	}
	return resp
}

// send sends one masked frame; first is its first byte.
func (c *client) send(first byte, payload string) {
	c.Helper()
	if _, err := c.Write(frameOf(first, payload)); err != nil {
		c.Logf("send: %v", err)
	}
}

func frameOf(first byte, payload string) []byte {
	out := []byte{first}
	if n := len(payload); n <= 125 {
		out = append(out, 0x80|byte(n))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	}
	out = append(out, 0, 0, 0, 0) // a mask that changes nothing
	return append(out, payload...)
}

func (c *client) text(s string) { c.Helper(); c.send(0x81, s) }

// next returns the next frame: text as it is, control frames as "ping …", "pong …", "close 1000 reason", and "EOF" at the end.
// Pings are answered.
func (c *client) next() string {
	c.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return "EOF"
		}
		return "error " + err.Error()
	}
	n := int(head[1])
	if n == 126 {
		var ext [2]byte
		if _, err := io.ReadFull(c.br, ext[:]); err != nil {
			c.Fatal(err)
		}
		n = int(binary.BigEndian.Uint16(ext[:]))
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.br, body); err != nil {
		c.Fatal(err)
	}
	switch head[0] {
	case 0x81:
		return string(body)
	case 0x88:
		if n == 0 {
			return "close"
		}
		return strings.TrimSpace(fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(body), body[2:]))
	case 0x89:
		return "ping " + string(body)
	case 0x8a:
		return "pong " + string(body)
	}
	c.Fatalf("frame %x", head)
	return ""
}

// object returns the next text frame, decoded.
func (c *client) object() map[string]any {
	c.Helper()
	s := c.next()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		c.Fatalf("%q is not an object", s)
	}
	return m
}

// rest returns the frames up to the end of the connection, without pings.
func (c *client) rest() []string {
	c.Helper()
	var all []string
	for {
		s := c.next()
		if s == "EOF" || strings.HasPrefix(s, "error ") {
			return all
		}
		if !strings.HasPrefix(s, "ping") {
			all = append(all, s)
		}
		if strings.HasPrefix(s, "close") {
			_ = c.Close() // as clients do
			return all
		}
	}
}

// open opens a session.
func (f *fixture) open(fields string) *client {
	f.Helper()
	c := f.connect()
	c.text(`{"type":"hello",` + fields + `}`)
	w := c.object()
	if w["type"] != api.TypeWelcome {
		f.Fatalf("no welcome but %v", w)
	}
	c.id = api.MustID[api.Session](w["sessionId"].(string))
	return c
}

func (f *fixture) openToken(life time.Duration, claims ...string) *client {
	f.Helper()
	return f.open(fmt.Sprintf(`"token":%q,"application":%q`, token(life, claims...), number))
}

func (f *fixture) openKey() *client { f.Helper(); return f.open(`"publishableKey":"` + pubKey + `"`) }

var uuidForm = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// golden replaces what differs from run to run.
func golden(s string) string { return uuidForm.ReplaceAllString(s, "ID") }

// pipes is a listener of net.Pipe connections.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- ours:
	case <-p.closed:
		_ = ours.Close()
	}
	return theirs
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// editing changes what is written.
type editing struct {
	net.Conn
	edit func(string) string
}

func (e editing) Write(p []byte) (int, error) {
	_, err := e.Conn.Write([]byte(e.edit(string(p))))
	return len(p), err
}

// metric returns a series by name and labels, as the text format has them; of a histogram the count. -1 when there is none.
func (f *fixture) metric(series string) float64 {
	f.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		f.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if family.GetName()+"{"+strings.Join(labels, ",")+"}" == series {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}
