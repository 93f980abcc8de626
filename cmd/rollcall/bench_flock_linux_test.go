package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
)

// flockServer answers connections with the acts, in turn, and keeps what it was sent.
type flockServer struct {
	net.Listener
	work sync.WaitGroup

	mu   sync.Mutex
	acts []func(t *testing.T, conn net.Conn)
}

func newFlockServer(t *testing.T, acts ...func(*testing.T, net.Conn)) *flockServer {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &flockServer{Listener: listener, acts: acts}
	s.work.Go(func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			act := s.acts[0]
			s.acts = s.acts[1:]
			s.mu.Unlock()
			s.work.Go(func() {
				defer conn.Close()
				act(t, conn)
			})
		}
	})
	t.Cleanup(func() {
		s.Close()
		s.work.Wait()
	})
	return s
}

// upgraded does the handshake and returns the hello.
func upgraded(t *testing.T, conn net.Conn) string {
	up := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == api.Subprotocol }}
	hs, err := up.Upgrade(conn)
	if err != nil || hs.Protocol != api.Subprotocol {
		t.Errorf("the handshake: %+v, %v", hs, err)
	}
	f, err := ws.ReadFrame(conn) //nolint:staticcheck // deprecated for its missing bound; the peer is this test
	if err != nil || !f.Header.Masked {
		t.Errorf("the hello: %+v, %v", f.Header, err)
	}
	return string(ws.UnmaskFrameInPlace(f).Payload)
}

func serverFrames(t *testing.T, frames ...ws.Frame) []byte {
	var out bytes.Buffer
	for _, f := range frames {
		if err := ws.WriteFrame(&out, f); err != nil {
			t.Error(err)
		}
	}
	return out.Bytes()
}

// TestStormersComeBack: one client meets all that a server may answer with, does each time as page 3 says, and is counted once.
func TestStormersComeBack(t *testing.T) {
	var mu sync.Mutex
	var at []time.Time
	seen := func(act func(*testing.T, net.Conn)) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			act(t, conn)
		}
	}
	welcome := ws.NewTextFrame([]byte(`{"type":"welcome","padding":"` + strings.Repeat("x", 300) + `"}`))
	held := make(chan string, 1)
	srv := newFlockServer(t,
		seen(func(t *testing.T, conn net.Conn) { // it opens the session, which the storm cuts
			upgraded(t, conn)
			_, _ = conn.Write(serverFrames(t, welcome))
			if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
				t.Errorf("a session that is cut sent %d bytes and ended with %v", n, err)
			}
		}),
		seen(func(t *testing.T, conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			fmt.Fprint(conn, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}")
		}),
		seen(func(t *testing.T, conn net.Conn) {
			upgraded(t, conn)
			_, _ = conn.Write(serverFrames(t, ws.NewTextFrame([]byte(`{"type":"disconnect","code":1013,"retryAfterMs":300}`)),
				ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "x"))))
		}),
		seen(func(_ *testing.T, conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }), // a reset
		seen(func(t *testing.T, conn net.Conn) { // in pieces, a ping before and after
			hello := upgraded(t, conn)
			for _, piece := range bytes.SplitAfter(serverFrames(t, ws.NewPingFrame([]byte("one")), welcome, ws.NewPingFrame([]byte("two"))), []byte("x")) {
				_, _ = conn.Write(piece)
				time.Sleep(time.Millisecond)
			}
			for _, want := range []string{"one", "two"} {
				f, err := ws.ReadFrame(conn) //nolint:staticcheck // as above
				if err != nil || f.Header.OpCode != ws.OpPong || string(ws.UnmaskFrameInPlace(f).Payload) != want {
					t.Errorf("a ping was answered with %+v, %v", f, err)
				}
			}
			held <- hello
			_, _ = io.Copy(io.Discard, conn)
		}))
	f, err := newFlock("http://"+srv.Addr().String(), [][]byte{[]byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	s := &stormers{flock: f, clients: make([]stormer, 1)}
	opened, err := s.openAll(t.Context(), 1)
	if err != nil || len(opened.Latency) != 1 || opened.Failed != 0 {
		t.Fatalf("%+v, %v", opened, err)
	}
	r, err := s.rage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Dials != 4 || len(r.Cut) != 1 || len(r.Welcome) != 1 || !maps.Equal(r.Told, map[string]int{"503": 1, "1013": 1, "broken": 1}) {
		t.Errorf("%+v", r)
	}
	stop := s.hold()
	if hello := <-held; hello != "hello" {
		t.Errorf("the server heard %q", hello)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []time.Duration{0, 0, time.Second, 300 * time.Millisecond, 2 * time.Second} {
		// The broken one is the third that was refused: it waits between half of four seconds and four.
		if got := at[i].Sub(at[max(0, i-1)]); got < want {
			t.Errorf("dial %d came %s after the one before, want %s or more", i, got, want)
		}
	}
	if took := at[4].Sub(at[1]); r.Welcome[0] < took || r.Welcome[0] > took+5*time.Second {
		t.Errorf("the client was welcome %s after its cut; it took %s or more", r.Welcome[0], took)
	}
}

// TestLateBirdsAreLost: a server that takes connections and says nothing keeps nobody waiting for ever.
func TestLateBirdsAreLost(t *testing.T) {
	srv := newFlockServer(t, func(_ *testing.T, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	f, err := newFlock("http://"+srv.Addr().String(), [][]byte{nil})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var lost error
	f.heard = func(_ int, err error) { lost = err }
	f.dial(0)
	for f.birds[0].state == birdDials {
		if err := f.turn(time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if f.late(time.Now()); lost != nil {
		t.Fatal(lost)
	}
	if f.late(time.Now().Add(wireTimeout + time.Second)); lost == nil || !strings.Contains(lost.Error(), "handshake") {
		t.Errorf("lost with %v", lost)
	}
}
