package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// Most of these tests wait for a server's deadlines: more of them than there are processors can run at once.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must come.
const patience = 40 * time.Second

// plenty are limits of frames that no test reaches by accident.
func plenty(l gateway.Limits) gateway.Limits {
	l.FramesPerMinute, l.FrameBurst = 1e6, 1e6
	return l
}

// node is a server under attack.
type node struct {
	*testkit.Server
	secure bool
}

// attack runs a test against a server of either kind, in parallel, with a well-behaved session of another organization beside it:
// that one must be alive afterwards, nothing else may be left, and the log must be clean.
func attack(t *testing.T, limits gateway.Limits, test func(t *testing.T, n node)) {
	t.Helper()
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &testkit.Log{}
			n := node{testkit.Start(t, testkit.Config{TLS: secure, Gateway: limits, Log: log,
				Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}}), secure}
			w := n.witness(t)
			t.Run("attack", func(t *testing.T) { test(t, n) }) // its connections are closed when this returns
			w.check(t)
			eventually(t, "nothing is left behind", func() bool {
				return n.live(t, testkit.Key, testkit.Number) == 0 && n.metric(t, "rollcall_gateway_connections") == 1
			})
			if total := n.live(t, testkit.OtherKey, testkit.OtherNumber); total != 1 {
				t.Errorf("%d sessions beside the attack, want 1", total)
			}
			n.Stop(t)
			checkLog(t, log)
		})
	}
}

// eventually is testkit.Eventually for what is asked over HTTP by many tests at once: it asks seldom.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}

// live returns the live sessions of an application.
func (n node) live(t testing.TB, key, number string) int {
	t.Helper()
	var list api.LiveList
	n.Get(t, key, api.LivePath+"?applicationId="+number, &list)
	return list.Total
}

// metric returns a gauge or counter without labels.
func (n node) metric(t testing.TB, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.Ops+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// session returns a session as the Sessions dialect shows it, with details.
func (n node) session(t testing.TB, id string) api.Session {
	t.Helper()
	var reply api.SessionReply
	n.Get(t, testkit.Key, "/api/v1/applications/"+testkit.App.String()+"/sessions/"+id+"?details=true", &reply)
	return reply.Session
}

// wantEnd waits until a session is recorded as ended, for one of the reasons.
func (n node) wantEnd(t testing.TB, id string, reasons ...api.EndReason) {
	t.Helper()
	var s api.Session
	eventually(t, "session "+id+" has ended", func() bool {
		s = n.session(t, id)
		return s.Status == api.StatusDisconnected
	})
	if slices.Contains(reasons, s.Details.EndReason) {
		return
	}
	t.Errorf("session %s ended as %s, want %v", id, s.Details.EndReason, reasons)
}

// witness is a session of an independent WebSocket implementation, which answers pings on its own.
type witness struct {
	conn *websocket.Conn
	run  sync.WaitGroup
	err  error // why reading ended; valid after run
	last string
}

func (n node) witness(t testing.TB) *witness {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), n.WebSocket(api.ConnectPath), &websocket.DialOptions{HTTPClient: n.Client()})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{conn: conn}
	t.Cleanup(func() { _ = conn.CloseNow(); w.run.Wait() })
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"hello","publishableKey":"rca_other00123456789"}`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := conn.Read(t.Context()); err != nil || !bytes.Contains(b, []byte("welcome")) {
		t.Fatalf("the witness is not welcome: %s %v", b, err)
	}
	w.run.Go(func() {
		for {
			_, b, err := conn.Read(context.WithoutCancel(t.Context()))
			if err != nil {
				w.err = err
				return
			}
			w.last = string(b)
		}
	})
	return w
}

// check asks for a pong.
func (w *witness) check(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.conn.Ping(ctx); err != nil {
		_ = w.conn.CloseNow()
		w.run.Wait()
		t.Errorf("the session beside the attack is gone: %v; its reading ended with %v after %q", err, w.err, w.last)
	}
}

// checkLog holds it to one line an event, printable, without faults and secrets.
func checkLog(t testing.TB, log *testkit.Log) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		line = strings.TrimSuffix(line, "\n")
		unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
		switch {
		case !strings.HasPrefix(line, "time="):
			t.Errorf("an event has more than one line in the log: %.300q", line)
		case strings.ContainsFunc(line, unprintable):
			t.Errorf("an unprintable character in the log: %.300q", line)
		case strings.Contains(line, "level=ERROR"), strings.Contains(line, "panic"):
			t.Errorf("a fault in the log: %.300s", line)
		case strings.Contains(line, "eyJ"), strings.Contains(line, "rck_"), strings.Contains(line, testkit.Secret):
			t.Errorf("a secret in the log: %.300s", line)
		}
	}
}

// peer is a client made of bytes. What it is told to write is written as it is; what it reads must be frames that a server may send.
type peer struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
	id string // of its session

	// silent leaves pings unanswered, and returns them from next.
	silent bool
}

// dial opens a connection and says nothing.
func (n node) dial(t testing.TB) *peer {
	t.Helper()
	return newPeer(t, n.Dial(t))
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &peer{Conn: conn, t: t, in: bufio.NewReader(conn)}
}

// request is a correct upgrade, with more header lines.
func request(headers ...string) string {
	head := "GET " + api.ConnectPath + " HTTP/1.1\r\nHost: rollcall.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	return head + "\r\n"
}

// connect opens a connection and upgrades it.
func (n node) connect(t testing.TB, headers ...string) *peer {
	t.Helper()
	p := n.dial(t)
	p.write(request(headers...))
	p.upgraded()
	return p
}

// open opens an unauthorized session.
func (n node) open(t testing.TB) *peer {
	t.Helper()
	return n.openWith(t, keyHello)
}

// openToken opens an authorized one.
func (n node) openToken(t testing.TB, token string) *peer {
	t.Helper()
	return n.openWith(t, hello(`"token":"`+token+`","application":"`+testkit.Number+`"`))
}

func (n node) openWith(t testing.TB, hello string) *peer {
	t.Helper()
	p := n.connect(t)
	p.text(hello)
	p.welcomed()
	return p
}

// keyHello opens an unauthorized session.
const keyHello = `{"type":"hello","publishableKey":"` + testkit.PublishableKey + `"}`

func hello(fields string) string { return `{"type":"hello",` + fields + `}` }

// write writes; a server that has closed by then is not the test's concern, for what it said before can be read.
func (p *peer) write(s string) { _, _ = io.WriteString(p.Conn, s) }

// text writes a text message.
func (p *peer) text(s string) { p.write(frame(0x81, s)) }

// upgraded reads the answer to an upgrade and holds it to RFC 6455, section 4.2.2.
func (p *peer) upgraded() {
	p.t.Helper()
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	// The key is the RFC's example, so its answer is too.
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
		resp.Header["Sec-Websocket-Extensions"] != nil {
		body, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("upgrade: %d %v %s", resp.StatusCode, resp.Header, body)
	}
}

// refused reads the answer to a request that must not upgrade, and returns its status and whether the connection is closed then.
func (p *peer) refused() (status int, closed bool) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Close
}

// welcomed reads the welcome.
func (p *peer) welcomed() {
	p.t.Helper()
	got := p.next()
	var w struct{ Type, SessionID string }
	if err := json.Unmarshal([]byte(got), &w); err != nil || w.Type != api.TypeWelcome {
		p.t.Fatalf("not welcome: %s", got)
	}
	p.id = w.SessionID
}

// next reads a frame: a text as it is, others as their name and payload, and the end as "EOF", or "reset". A ping is answered first,
// and skipped, unless the peer is silent.
func (p *peer) next() string {
	p.t.Helper()
	for {
		op, payload, err := p.read()
		switch {
		case errors.Is(err, io.EOF):
			return "EOF"
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF):
			return "reset"
		case err != nil:
			p.t.Fatal(err)
		}
		switch op {
		case 0x1:
			return string(payload)
		case 0x8:
			if len(payload) < 2 {
				return "close"
			}
			return strings.TrimSpace(fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:]))
		case 0x9:
			if p.silent {
				return "ping " + string(payload)
			}
			p.write(frame(0x8a, string(payload)))
		case 0xa:
			return "pong " + string(payload)
		default:
			p.t.Fatalf("the server sent opcode %x", op)
		}
	}
}

// read reads a frame and holds it to what a server may send: whole, unmasked, of a known kind, its length in the shortest form.
func (p *peer) read() (op byte, payload []byte, err error) {
	p.t.Helper()
	first, err := p.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	second, err := p.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	length := int(second)
	if length == 126 {
		var ext [2]byte
		if _, err := io.ReadFull(p.in, ext[:]); err != nil {
			return 0, nil, err
		}
		length = int(binary.BigEndian.Uint16(ext[:]))
	}
	if first&0xf0 != 0x80 || second > 126 || second == 126 && length < 126 || first&0x8 != 0 && length > 125 {
		p.t.Fatalf("the server sent a frame that begins with %x %x", first, second)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(p.in, payload)
	return first & 0x0f, payload, err
}

// rest reads to the end of the connection. Having read the close frame it closes, as a client should, and reads on.
func (p *peer) rest() []string {
	p.t.Helper()
	var got []string
	for {
		f := p.next()
		got = append(got, f)
		if f == "EOF" || f == "reset" {
			return got
		}
	}
}

// ends reads to the end of the connection, which must be a disconnect frame with the code, a close frame with it, and no reset.
func (p *peer) ends(code int) {
	p.t.Helper()
	got := p.rest()
	n := len(got)
	if n < 3 || !strings.HasPrefix(got[n-3], fmt.Sprintf(`{"type":"disconnect","code":%d,`, code)) ||
		!strings.HasPrefix(got[n-2], fmt.Sprintf("close %d ", code)) || got[n-1] != "EOF" {
		p.t.Errorf("the connection ended with %.400q, want disconnect and close with %d", got[max(0, n-4):], code)
	}
}

// alive shows that the session goes on: a ping is answered, in its turn.
func (p *peer) alive() {
	p.t.Helper()
	mark := "alive-" + rand.Text()[:6]
	p.write(frame(0x89, mark))
	if got := p.next(); got != "pong "+mark {
		p.t.Fatalf("instead of an answer to a ping: %s", got)
	}
}

// halfClose ends what the client sends; it can still read.
func (p *peer) halfClose() {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// tcp returns the connection below TLS.
func (p *peer) tcp() *net.TCPConn {
	conn := p.Conn
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	return conn.(*net.TCPConn)
}

// abort closes with a reset.
func (p *peer) abort() {
	_ = p.tcp().SetLinger(0)
	_ = p.tcp().Close()
}

// frame makes a client's frame: masked, its length in the shortest form.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d} // that of RFC 6455, section 5.7
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// isTimeout tells whether a read ended at its deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
