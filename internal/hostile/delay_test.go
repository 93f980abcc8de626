package hostile

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// The tests that take longest come first.

// TestNeverReading: a client that asks and does not read the answers ends, and neither the others nor an operator wait for it. What
// it costs is bounded by what was taken from it: some megabytes, which are in the kernel's buffers.
func TestNeverReading(t *testing.T) {
	t.Parallel()
	attack(t, plenty(gateway.Limits{PingInterval: time.Second, PongTimeout: 8 * time.Second}), func(t *testing.T, n node) {
		flood := map[string]string{
			"pings":  strings.Repeat(frame(0x89, strings.Repeat("x", 125)), 500),
			"errors": strings.Repeat(frame(0x81, unknown(20)), 500),
		}
		var peers []*peer
		for name, frames := range flood {
			for range 2 {
				p := n.open(t)
				p.SetDeadline(time.Now().Add(time.Minute))
				p.tcp().SetReadBuffer(4096)
				peers = append(peers, p)
				stuck := make(chan struct{})
				var sent int
				go func() { // ends when the connection is closed
					defer close(stuck)
					for err := error(nil); err == nil && sent < 64<<20; {
						var k int
						k, err = io.WriteString(p.Conn, frames)
						sent += k
					}
				}()
				t.Cleanup(func() {
					p.Close()
					<-stuck
					t.Logf("%s: %d KiB were taken", name, sent>>10)
					if sent >= 64<<20 {
						t.Errorf("%s: the server read on and on, although its answers were not read", name)
					}
				})
			}
		}
		victim := peers[0]
		began := time.Now()
		status, body := n.Do(t, testkit.Key, http.MethodDelete, "/api/v1/applications/"+testkit.App.String()+"/sessions/"+victim.id, nil)
		if took := time.Since(began); status != http.StatusOK || took > 5*time.Second {
			t.Errorf("disconnect of a client that does not read: %d %s after %s", status, body, took)
		}
		n.wantEnd(t, victim.id, api.EndDisconnected)
		other := n.open(t) // others come and are answered meanwhile
		for range 20 {
			other.alive()
		}
		for _, p := range peers[1:] { // whichever comes first: the answer to a ping is missing, or a write takes too long
			n.wantEnd(t, p.id, api.EndPingTimeout, api.EndConnectionLost)
		}
	})
}

// TestSlowHead: a request whose head does not end is not waited for, and costs nobody else.
func TestSlowHead(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		began := time.Now()
		var slow sync.WaitGroup
		for name, start := range map[string]string{
			"nothing": "", "a request line": "GET " + api.ConnectPath + " HTT", "half a head": strings.TrimSuffix(request(), "\r\n"),
		} {
			slow.Go(func() {
				p := n.dial(t)
				p.SetDeadline(time.Now().Add(time.Minute))
				p.write(start)
				slow.Go(func() { // a byte now and then
					for time.Since(began) < 30*time.Second {
						if _, err := io.WriteString(p.Conn, "X"); name == "nothing" || err != nil {
							return
						}
						time.Sleep(500 * time.Millisecond)
					}
				})
				// Closed with or without an answer. A reset is as good: the client was still sending.
				resp, err := http.ReadResponse(bufio.NewReader(p.Conn), nil)
				if err == nil {
					resp.Body.Close()
				}
				if took := time.Since(began); took > 25*time.Second {
					t.Errorf("%s: it took %s to be rid of it", name, took)
				}
				if isTimeout(err) {
					t.Errorf("%s: %v", name, err)
				}
				p.Close()
			})
		}
		n.open(t).alive()
		slow.Wait()
	})
}

// TestSlowHello: a hello that does not come, or comes byte by byte for ever, is waited for once and not a byte longer.
func TestSlowHello(t *testing.T) {
	t.Parallel()
	attack(t, plenty(gateway.Limits{HelloTimeout: time.Second}), func(t *testing.T, n node) {
		for name, send := range map[string]func(p *peer, i int) string{
			"nothing":               func(*peer, int) string { return "" },
			"a hello byte by byte":  func(_ *peer, i int) string { return frame(0x81, keyHello+strings.Repeat(" ", 10000))[i : i+1] },
			"half a header":         func(_ *peer, i int) string { return "\x81"[min(i, 1):] },
			"a header byte by byte": func(_ *peer, i int) string { return "\x81\xff\x00\x00\x00\x00\x00\x00"[min(i, 8):min(i+1, 8)] },
			"fragments of a byte":   func(_ *peer, i int) string { return frame([]byte{0, 1}[1-min(i, 1)], " ") },
			"pings":                 func(*peer, int) string { return frame(0x89, "") },
			"pongs":                 func(*peer, int) string { return frame(0x8a, "") },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.connect(t)
				began := time.Now()
				var drip sync.WaitGroup
				done := make(chan struct{})
				drip.Go(func() {
					for i := 0; ; i++ {
						p.write(send(p, i))
						select {
						case <-done:
							return
						case <-time.After(20 * time.Millisecond):
						}
					}
				})
				var got []string
				for _, f := range p.rest() {
					if !strings.HasPrefix(f, "pong") {
						got = append(got, f)
					}
				}
				close(done)
				drip.Wait()
				want := []string{`{"type":"disconnect","code":4202,"reason":"no hello within 15 s","reauthenticate":false,"reconnect":true}`,
					"close 4202 no hello within 15 s", "EOF"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(began); took < 900*time.Millisecond || took > 10*time.Second {
					t.Errorf("ended after %s", took)
				}
			})
		}
	})
}

// impatient are short deadlines of liveness. A pong timeout much shorter would take a busy machine for a starved one.
var impatient = plenty(gateway.Limits{PingInterval: 400 * time.Millisecond, PongTimeout: 2500 * time.Millisecond})

// TestSlowFrames: a frame that comes byte by byte does not stand in for the answer to a ping, which cannot be sent inside it.
func TestSlowFrames(t *testing.T) {
	t.Parallel()
	attack(t, impatient, func(t *testing.T, n node) {
		for name, send := range map[string]string{
			"a frame byte by byte":          frame(0x81, unknown(10000)),
			"nothing":                       "",
			"pings, and no pong":            strings.Repeat(frame(0x89, "x"), 1000),
			"frames, and no pong":           strings.Repeat(frame(0x81, `{"type":"activity"}`), 1000),
			"fragments, and no pong":        frame(0x01, " ") + strings.Repeat(frame(0x00, " "), 1000),
			"a ping's header, then nothing": "\x89",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.open(t)
				p.silent = true
				var drip sync.WaitGroup
				done := make(chan struct{})
				drip.Go(func() {
					for i := range len(send) {
						p.write(send[i : i+1])
						select {
						case <-done:
							return
						case <-time.After(2 * time.Millisecond):
						}
					}
				})
				got := p.rest() // it is cut off without a word: nobody is there to hear one
				close(done)
				drip.Wait()
				if pings := strings.Count(strings.Join(got, "\n"), "ping "); pings == 0 || strings.Contains(strings.Join(got, "\n"), "close") {
					t.Errorf("got %.300q", got)
				}
				n.wantEnd(t, p.id, api.EndPingTimeout)
			})
		}
	})
}

// TestUnfinishedMessage: a message may stay unfinished for as long as its client answers pings, and is read once it is complete.
func TestUnfinishedMessage(t *testing.T) {
	t.Parallel()
	attack(t, impatient, func(t *testing.T, n node) {
		p := n.open(t)
		p.silent = true
		whole := `{"type":"update","name":"` + strings.Repeat("n", 100) + `"}`
		p.write(frame(0x01, whole[:40]))
		for i := range 5 {
			if got := p.next(); got != "ping " {
				t.Fatalf("got %s", got)
			}
			p.write(frame(0x8a, "") + frame(0x00, whole[40+i:41+i]))
		}
		p.write(frame(0x80, whole[45:]))
		p.silent = false
		p.alive()
		if s := n.session(t, p.id); s.Name != strings.Repeat("n", 100) {
			t.Errorf("name %q", s.Name)
		}
	})
}

// TestPongsAreJudged: a pong need not repeat the ping, for ours are empty; but it must be one.
func TestPongsAreJudged(t *testing.T) {
	t.Parallel()
	attack(t, impatient, func(t *testing.T, n node) {
		p := n.open(t)
		p.silent = true
		for range 4 {
			if got := p.next(); got != "ping " {
				t.Fatalf("got %s", got)
			}
			p.write(frame(0x8a, "something else"))
		}
		p.silent = false
		p.alive()
	})
}

// proxy forwards connections to a server until it is frozen: then nothing arrives any more, in either direction, and nothing is
// closed. A dropped network looks the same to the server but for the kernel's acknowledgements, which it does not see. (A network
// namespace whose link is taken down would have those too, but takes privileges that CI need not have; nft is not in the images.)
type proxy struct {
	net.Listener
	frozen chan struct{}
	run    sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{Listener: listener, frozen: make(chan struct{})}
	x.run.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			x.mu.Lock()
			x.conns = append(x.conns, client, server)
			x.mu.Unlock()
			x.run.Go(func() { x.forward(client, server) })
			x.run.Go(func() { x.forward(server, client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		x.mu.Lock()
		for _, c := range x.conns {
			c.Close()
		}
		x.mu.Unlock()
		x.run.Wait()
	})
	return x
}

func (x *proxy) forward(from, to net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		select {
		case <-x.frozen:
			return // what was read is lost, and nothing more is read
		default:
		}
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestHalfOpen: peers that vanished without a word are gone within the ping interval and the pong timeout (G5), in every phase; what
// an operator does to them meanwhile waits for nothing.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	limits := impatient
	limits.HelloTimeout, limits.PingInterval = 2*time.Second, 2*time.Second // all are opened before the first has to answer
	attack(t, limits, func(t *testing.T, n node) {
		x := newProxy(t, n.Addr())
		seen := node{n.At(x.Addr().String()), n.secure}
		var held []*peer
		for i := range 10 {
			p := seen.open(t)
			if i%2 == 0 {
				p.write(frame(0x01, `{"type":`)) // in the middle of a message
			}
			held = append(held, p)
		}
		seen.connect(t)   // before its hello
		seen.dial(t)      // before its request
		kicked := held[9] // for an operator
		held[8].alive()
		close(x.frozen)
		began := time.Now()

		status, body := n.Do(t, testkit.Key, http.MethodDelete, "/api/v1/applications/"+testkit.App.String()+"/sessions/"+kicked.id, nil)
		var result api.DisconnectResult
		if err := json.Unmarshal(body, &result); err != nil || status != http.StatusOK || result.DisconnectedCount != 1 {
			t.Errorf("disconnect of a peer that has vanished: %d %s", status, body)
		}
		n.wantEnd(t, kicked.id, api.EndDisconnected)
		for _, p := range held[:9] {
			n.wantEnd(t, p.id, api.EndPingTimeout)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("they were gone after %s", took)
		}
		eventually(t, "the connections are gone too", func() bool { return n.metric(t, "rollcall_gateway_connections") == 1 })
	})
}

// TestAbruptEnds: a reset, a FIN and a half-close in every phase leave nothing behind; a session that ends so is recorded as
// connection_lost.
func TestAbruptEnds(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for how, end := range map[string]func(*peer){
			"reset": (*peer).abort, "FIN": func(p *peer) { p.Close() }, "half-close": (*peer).halfClose,
		} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				for i := range len(request()) / 20 {
					p := n.dial(t)
					p.write(request()[:i*20])
					end(p)
				}
				first := frame(0x81, keyHello)
				for i := range len(first) / 10 {
					p := n.connect(t)
					p.write(first[:i*10])
					end(p)
				}
				for i, more := range []string{"", "\x81", frame(0x81, unknown(100))[:50], frame(0x01, "x"), frame(0x81, unknown(100)), frame(0x89, "")} {
					p := n.open(t)
					p.write(more)
					end(p)
					if how == "half-close" {
						if got := p.rest(); got[len(got)-1] == "reset" {
							t.Errorf("%d: %q", i, got)
						}
					}
					n.wantEnd(t, p.id, api.EndConnectionLost)
				}
			})
		}
	})
}

// TestChurnOfGarbage: many that come with something broken and go at once, beside those that behave.
func TestChurnOfGarbage(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		broken := []string{
			"", "\x00", "GET / HTTP/1.1\r\n", request()[:80], request(), request() + "\xff\xff", request() + frame(0x81, "{"),
			request() + frame(0x81, hello(`"token":"x"`)), request() + frame(0x82, "x"), request() + frame(0x88, ""), request() + frame(0x81, keyHello)[:30],
		}
		var crowd sync.WaitGroup
		for i := range 8 {
			crowd.Go(func() {
				for j := range 40 {
					p := n.dial(t)
					p.write(broken[(i+j)%len(broken)])
					if (i+j)%2 == 0 {
						p.abort()
					} else {
						p.Close()
					}
				}
			})
		}
		for range 40 {
			p := n.open(t)
			p.alive()
			p.write(frame(0x88, ""))
			if diff := cmp.Diff([]string{"close", "EOF"}, p.rest()); diff != "" {
				t.Error(diff)
			}
			p.Close()
		}
		crowd.Wait()
	})
}
