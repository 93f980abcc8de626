package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pipes is a listener of pipes, so that a server runs in a synctest bubble. It fails with each of errs first.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
	errs   atomic.Int64 // how many Accepts fail still
	failed atomic.Int64
}

func (p *pipes) Accept() (net.Conn, error) {
	if p.errs.Add(-1) >= 0 {
		p.failed.Add(1)
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.close.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// patientPipes can be asked whether there is somebody.
type patientPipes struct {
	*pipes
	deadline time.Time
}

func patient(p *pipes) net.Listener { return &patientPipes{pipes: p} }

func (p *patientPipes) SetDeadline(t time.Time) error {
	p.deadline = t
	return nil
}

func (p *patientPipes) Accept() (net.Conn, error) {
	if p.deadline.IsZero() || p.errs.Load() > 0 {
		return p.pipes.Accept()
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-time.After(time.Until(p.deadline)):
		return nil, os.ErrDeadlineExceeded
	}
}

// doorFixture is an HTTP server behind a door. Its handler answers "ok" to everything, without reading bodies; but /read reads
// them, /big answers much, /long takes 2 s, and /busy answers when the test ends.
type doorFixture struct {
	*testing.T
	*pipes
	reg  *prometheus.Registry
	log  *strings.Builder
	door *door
	slow prometheus.Counter // bodies
}

func newDoorFixture(t *testing.T, n int, kept func() int) *doorFixture {
	return newDoorFixtureOf(t, func(p *pipes) net.Listener { return p }, n, kept)
}

func newDoorFixtureOf(t *testing.T, listener func(*pipes) net.Listener, n int, kept func() int) *doorFixture {
	f := &doorFixture{T: t, pipes: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, reg: prometheus.NewRegistry(),
		log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	heads := prometheus.NewCounter(prometheus.CounterOpts{Name: "heads"})
	f.slow = prometheus.NewCounter(prometheus.CounterOpts{Name: "bodies"})
	f.reg.MustRegister(heads, f.slow)
	f.door = newDoor(listener(f.pipes), "connections", n, kept, heads, f.reg, log)
	over := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/read":
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/big": // more than waits for the handler's end
			_, _ = io.WriteString(w, strings.Repeat("x", 64<<10))
		case "/long":
			time.Sleep(2 * time.Second)
		case "/busy":
			<-over
		}
		_, _ = io.WriteString(w, "ok")
	})
	srv := httpServer(bounded(handler, f.slow), f.door, log)
	var wg sync.WaitGroup
	wg.Go(func() { _ = serve(srv, f.door) })
	t.Cleanup(func() {
		close(over)
		_ = srv.Close()
		wg.Wait()
	})
	return f
}

// peer is a client's end.
type peer struct {
	net.Conn
	br *bufio.Reader
}

func (f *doorFixture) dial() *peer {
	ours, theirs := net.Pipe()
	f.conns <- ours
	f.Cleanup(func() { _ = theirs.Close() })
	synctest.Wait()
	return &peer{theirs, bufio.NewReader(theirs)}
}

// send writes what it can: a server that closes takes no more.
func (p *peer) send(s string) *peer {
	_, _ = io.WriteString(p, s)
	synctest.Wait()
	return p
}

// answer returns the status of the response, 0 when the connection ends instead.
func (p *peer) answer() int {
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	synctest.Wait()
	return resp.StatusCode
}

func (p *peer) get(path string) int {
	return p.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n").answer()
}

// open tells whether the server has the connection open still; the server must not have sent anything.
func (p *peer) open() bool {
	_ = p.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer p.SetReadDeadline(time.Time{})
	_, err := p.br.Peek(1)
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func (f *doorFixture) metric(name string) float64 {
	f.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	f.Fatalf("no metric %s", name)
	return 0
}

func (f *doorFixture) want(metrics map[string]float64) {
	f.Helper()
	for name, want := range metrics {
		if got := f.metric(name); got != want {
			f.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestDoorMakesRoom: who has been without a request for longest goes, whether new or idle; who has one under way stays.
func TestDoorMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixture(t, 4, func() int { return 0 })
		busy := f.dial().send("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n")
		idle := f.dial()
		silent := f.dial()
		slow := f.dial().send("GET / HTTP/1.1\r\nHo")
		if idle.get("/") != 200 { // now the youngest without a request
			t.Fatal("no answer")
		}
		for i, want := range []struct {
			name string
			gone *peer
		}{{"silent", silent}, {"slow", slow}, {"idle", idle}} {
			if !want.gone.open() {
				t.Fatalf("%s is gone already", want.name)
			}
			fresh := f.dial()
			if want.gone.open() {
				t.Fatalf("%s has not made room", want.name)
			}
			fresh.send("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n")
			f.want(map[string]float64{"rollcall_limit_refusals_total": float64(i + 1), "rollcall_http_connections": 4})
		}
		if f.dial().open() {
			t.Error("a newcomer was taken although all are busy")
		}
		if !busy.open() {
			t.Error("a busy connection was closed")
		}
		f.want(map[string]float64{"rollcall_limit_refusals_total": 4, "rollcall_http_connections": 4, "heads": 0})
	})
}

// TestDoorPaces: newcomers that ask are let in as fast as they are served; those that are silent hold the others up for a moment,
// and only a moment.
func TestDoorPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixture(t, 100*freshLimit, func() int { return 0 })
		start := time.Now()
		took := func(what string, want time.Duration) {
			t.Helper()
			if d := time.Since(start); d != want {
				t.Errorf("%s: %s have passed, want %s", what, d, want)
			}
		}
		for range 3 * freshLimit {
			f.dial().get("/")
		}
		took("served", 0)
		for range freshLimit {
			f.dial()
		}
		took("silent, as many as may", 0)
		f.dial()
		took("one more", freshFor)
		for range freshLimit {
			f.dial().send("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n")
		}
		took("at work", 2*freshFor)
		f.want(map[string]float64{"rollcall_http_connections": 5*freshLimit + 1, "rollcall_limit_refusals_total": 0})
	})
}

// TestDoorLinesUp: newcomers that come faster than they are served are accepted as long as there are places, let in in the order in
// which they came, and leave when the door closes.
func TestDoorLinesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const inLine = freshLimit + 10 // as many as are let in at once, and ten who ask
		f := newDoorFixtureOf(t, patient, freshLimit+inLine, func() int { return 0 })
		start := time.Now()
		var all []*peer
		for range freshLimit + inLine {
			all = append(all, f.dial())
		}
		if took := time.Since(start); took > 0 {
			t.Fatalf("standing in line took %s", took)
		}
		outside, theirs := net.Pipe()
		var dialling sync.WaitGroup
		dialling.Go(func() { f.conns <- theirs })
		synctest.Wait()
		f.want(map[string]float64{"rollcall_http_connections": freshLimit + inLine, "rollcall_limit_refusals_total": 0})
		for i, p := range all[2*freshLimit:] {
			if got := p.get("/"); got != 200 || time.Since(start) != 2*freshFor {
				t.Errorf("number %d of those who ask was answered %d after %s, want 200 after %s", i, got, time.Since(start), 2*freshFor)
			}
		}
		dialling.Wait()
		if last := (&peer{outside, bufio.NewReader(outside)}); last.get("/") != 200 {
			t.Error("who found no place in line was not let in")
		}
		if all[0].open() || !all[1].open() {
			t.Error("the one that was silent for longest has not made room, alone")
		}
		f.want(map[string]float64{"rollcall_http_connections": freshLimit + inLine, "rollcall_limit_refusals_total": 1})
	})
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixtureOf(t, patient, 100, func() int { return 0 })
		for range freshLimit {
			f.dial()
		}
		inLine := f.dial()
		f.errs.Store(3) // it goes on with those who stand in line, and does not spin
		time.Sleep(2 * time.Millisecond)
		if failed := f.failed.Load(); failed != 1 || !inLine.open() {
			t.Errorf("%d Accepts failed while the door was waiting, want 1; the line stands: %v", failed, inLine.open())
		}
		_ = f.door.Close()
		time.Sleep(freshFor)
		if inLine.open() {
			t.Error("who stands in line was not sent away when the door closed")
		}
	})
}

// TestClosedDoorKeepsNobody: who stands in line when the door closes is sent away, also while others are waited for.
func TestClosedDoorKeepsNobody(t *testing.T) {
	d := newDoor(patient(&pipes{closed: make(chan struct{})}), "connections", 100, func() int { return 0 },
		prometheus.NewCounter(prometheus.CounterOpts{Name: "heads"}), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for range freshLimit {
		ours, _ := net.Pipe()
		d.connState(ours, http.StateNew)
	}
	ours, theirs := net.Pipe()
	d.line.PushBack(ours)
	_ = d.Close()
	if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed door returned %v", err)
	}
	_ = theirs.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who stood in line was not sent away: %v", err)
	}
}

// TestDoorCountsTheKept: connections that were taken over take places, and never make room.
func TestDoorCountsTheKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := 2
		f := newDoorFixture(t, 3, func() int { return kept })
		first := f.dial()
		second := f.dial()
		if first.open() || second.get("/") != 200 {
			t.Error("the first of two did not make room")
		}
		kept = 3
		if third := f.dial(); second.open() || third.get("/") != 200 {
			t.Error("at the bound the newcomer takes the place of who waits")
		}
		kept = 0
		f.dial()
		f.dial()
		f.want(map[string]float64{"rollcall_limit_refusals_total": 2, "rollcall_http_connections": 3, "rollcall_limit": 3})
	})
}

// TestSlowHeads: a head that takes longer than headerTimeout ends the connection, at any pace of bytes, and is counted.
func TestSlowHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixture(t, 100, func() int { return 0 })
		silent, drip := f.dial(), f.dial()
		for _, b := range []byte("GET / HT") {
			drip.send(string(b))
			time.Sleep(time.Second)
		}
		if !silent.open() || !drip.open() {
			t.Error("ended too early")
		}
		time.Sleep(headerTimeout - 8*time.Second + 50*time.Millisecond)
		if silent.open() || drip.open() {
			t.Error("still open")
		}
		synctest.Wait()
		f.want(map[string]float64{"heads": 2, "rollcall_http_connections": 0})
		again := f.dial()
		if again.get("/") != 200 {
			t.Error("no answer")
		}
		time.Sleep(headerTimeout + time.Second) // idle: its first request was in time
		if again.get("/") != 200 {
			t.Error("an idle connection was ended")
		}
		again.Close()
		synctest.Wait()
		f.want(map[string]float64{"heads": 2, "rollcall_http_connections": 0})
	})
}

// TestSlowBodies: a body that is wanted has bodyTimeout, one that is not delays the answer by no more than dawdle; both end the
// connection. What arrives with the head costs nothing.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixture(t, 100, func() int { return 0 })
		for _, framing := range []string{"Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n64\r\n"} {
			start := time.Now()
			if got := f.dial().send("POST /read HTTP/1.1\r\nHost: h\r\n" + framing + "x").answer(); got != 400 {
				t.Errorf("a body that stops: %d", got)
			}
			if took := time.Since(start); took != bodyTimeout {
				t.Errorf("a body that stops took %s", took)
			}
			start = time.Now()
			if got := f.dial().send("POST /big HTTP/1.1\r\nHost: h\r\n" + framing + "x").answer(); got != 200 || time.Since(start) > dawdle {
				t.Errorf("a large answer to a body that nobody reads: %d after %s", got, time.Since(start))
			}
			start = time.Now()
			unread := f.dial().send("POST / HTTP/1.1\r\nHost: h\r\n" + framing + "x")
			if got, took := unread.answer(), time.Since(start); got != 200 || took > dawdle {
				t.Errorf("a body that nobody reads: %d after %s", got, took)
			}
			time.Sleep(time.Second)
			if unread.open() {
				t.Error("the connection is open with half a body on it")
			}
		}
		if v := f.metric("bodies"); v != 2 {
			t.Errorf("%v slow bodies were counted, want 2", v)
		}
		late := f.dial().send("POST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n")
		time.Sleep(2*time.Second + dawdle/2)
		if got := late.send("{}").answer(); got != 200 || late.get("/") != 200 {
			t.Errorf("the rest of a body, soon after its handler: %d", got)
		}
		whole := f.dial()
		for _, path := range []string{"/read", "/", "/read"} {
			start := time.Now()
			got := whole.send(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", path)).answer()
			if took := time.Since(start); got != 200 || took != 0 {
				t.Errorf("%s with a whole body: %d after %s", path, got, took)
			}
			time.Sleep(time.Minute) // no deadline of a body reaches beyond its request
		}
	})
}

// TestAcceptErrors: for want of descriptors the server waits and tries again, does not spin, says so once, and goes on after.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newDoorFixture(t, 100, func() int { return 0 })
		synctest.Wait() // for the first Accept
		f.errs.Store(1000)
		f.dial() // the Accept under way
		time.Sleep(10 * time.Second)
		if n := f.failed.Load(); n < 5 || n > 20 {
			t.Errorf("%d attempts in 10 s", n)
		}
		f.want(map[string]float64{"rollcall_http_accept_errors_total": float64(f.failed.Load())})
		if n := strings.Count(f.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, f.log)
		}
		f.errs.Store(0)
		time.Sleep(time.Second) // of its wait
		if got := f.dial().get("/"); got != 200 {
			t.Errorf("afterwards: %d", got)
		}
	})
}
