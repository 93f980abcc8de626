package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/limit"
)

// door bounds the connections that a listener accepts. When all places are taken it makes room: the connection that has been
// without a handler for longest is closed, whether it is idle, slow to send a request, or slow to send the rest of one that was
// answered. So whoever holds connections open without asking for anything keeps nobody out. Only when all have a handler at work
// or were taken over is the newcomer closed, at once.
//
// It lets newcomers in no faster than they are served, while those that it has let in are seen to work: of thousands that come at
// once each would have a goroutine ready to run, and open sessions and operators would wait behind all of them. The others stand in
// line here, as long as there are places for them, and only then in the kernel: its line is 4096 long on most systems, and whoever
// finds it full tries again after one second, then three, seven and fifteen. Who is let in and asks for nothing is not waited for.
//
// It counts plain HTTP connections by what net/http reports of them; those that were taken over are counted by who has them, so
// that connections need no wrapping, which would hide from them what TCP can do.
type door struct {
	net.Listener
	secure *tls.Config // of connections that are let in; nil = plain
	places int         // at once
	kept   func() int  // how many were taken over and are open
	log    *slog.Logger
	rushed func() // called when a newcomer has to wait for others; nil = nobody cares

	refused, slow, acceptErrors prometheus.Counter
	failing                     atomic.Bool // the last Accept failed
	closed                      atomic.Bool

	mu      sync.Mutex
	line    list.List           // of net.Conn: accepted and not let in, the first one first
	plain   map[net.Conn]*visit // every connection that is not taken over
	waiting list.List           // of net.Conn: those of plain without a handler, the longest first
	fresh   list.List           // of *visit: those whose first request is not dealt with and that are not older than freshFor, or nearly

	served chan struct{} // holds one: fresh has become shorter
}

const (
	// freshLimit is how many newcomers are dealt with at once; more of them make nothing faster.
	freshLimit = 32
	// freshFor is how long a newcomer is waited for: silent ones slow the door down to freshLimit in this time.
	freshFor = 10 * time.Millisecond
	// lineLook is how long a newcomer who has been served may go unnoticed while the door waits for others to stand in line.
	lineLook = time.Millisecond
)

// visit is one plain connection.
type visit struct {
	since time.Time     // accepted
	asked bool          // a request has come
	place *list.Element // in waiting; nil while a handler is at work
	fresh *list.Element // in door.fresh; nil once it is dealt with, or not waited for
}

// newDoor returns the door of a listener, whose bound of n connections shows in the metrics under the given name. slow counts
// those whose first request did not come in time.
func newDoor(l net.Listener, name string, n int, kept func() int, slow prometheus.Counter, reg prometheus.Registerer, log *slog.Logger) *door {
	d := &door{Listener: l, places: places(n), kept: kept, log: log, slow: slow, plain: map[net.Conn]*visit{},
		served: make(chan struct{}, 1)}
	label := prometheus.Labels{"limit": name}
	d.acceptErrors = prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_http_accept_errors_total", ConstLabels: label,
		Help: "Connections that could not be accepted, such as for want of file descriptors."})
	d.refused = limit.Register(reg, name, float64(n))
	reg.MustRegister(d.acceptErrors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_http_connections",
		ConstLabels: label, Help: "Open HTTP connections, without those that became sessions or streams."}, func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.plain) + d.line.Len())
	}))
	return d
}

// Accept returns the next connection for which there is room. An error of the system, such as EMFILE, is the caller's: http.Server
// waits, for up to a second, and tries again. It is called by one goroutine at a time.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.next()
		if err != nil {
			d.noteFailure(err)
			return nil, err
		}
		d.failing.Store(false)
		switch {
		case !d.makeRoom():
			abort(conn)
		case d.secure != nil:
			return tls.Server(conn, d.secure), nil
		default:
			return conn, nil
		}
	}
}

// next returns the first newcomer, when there is time for one more.
func (d *door) next() (net.Conn, error) {
	for !d.closed.Load() {
		wait := d.untilFree(time.Now())
		if wait <= 0 {
			if conn := d.first(); conn != nil {
				return conn, nil
			}
			if l, ok := d.Listener.(deadliner); ok {
				_ = l.SetDeadline(time.Time{}) // it is closed, which Accept tells
			}
			return d.Listener.Accept()
		}
		if d.rushed != nil {
			d.rushed()
		}
		if !d.lineUp(min(wait, lineLook)) {
			d.pause(wait)
		}
	}
	for conn := d.first(); conn != nil; conn = d.first() {
		abort(conn)
	}
	return nil, net.ErrClosed
}

// deadliner is a listener that can be asked whether there is somebody; *net.TCPListener is.
type deadliner interface{ SetDeadline(time.Time) error }

// first takes the first one out of the line; nil when there is none.
func (d *door) first() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.line.Len() == 0 {
		return nil
	}
	conn, _ := d.line.Remove(d.line.Front()).(net.Conn)
	return conn
}

// lineUp waits for a newcomer to stand in line; false when there is no place for one, or none can come.
func (d *door) lineUp(wait time.Duration) bool {
	l, ok := d.Listener.(deadliner)
	if !ok || !d.hasPlace() || l.SetDeadline(time.Now().Add(wait)) != nil {
		return false
	}
	conn, err := d.Listener.Accept()
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded) // what else there is, is told when the line has come to its end
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line.PushBack(conn)
	return true
}

func (d *door) hasPlace() bool {
	kept := d.kept()
	d.mu.Lock()
	defer d.mu.Unlock()
	return kept+len(d.plain)+d.line.Len() < d.places
}

// pause returns when somebody was served, or the time is over.
func (d *door) pause(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-d.served:
	case <-timer.C:
	}
}

// Close has Accept fail, and whoever stands in line leave.
func (d *door) Close() error {
	d.closed.Store(true)
	return d.Listener.Close()
}

// untilFree returns how long it is until the newcomers are fewer than freshLimit, if none of them is served.
func (d *door) untilFree(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		oldest := d.fresh.Front()
		if oldest == nil || d.fresh.Len() < freshLimit {
			return 0
		}
		v, _ := oldest.Value.(*visit)
		if wait := freshFor - now.Sub(v.since); wait > 0 {
			return wait
		}
		d.servedLocked(v)
	}
}

func (d *door) servedLocked(v *visit) {
	if v.fresh == nil {
		return
	}
	d.fresh.Remove(v.fresh)
	v.fresh = nil
	select {
	case d.served <- struct{}{}:
	default:
	}
}

// noteFailure logs the first of a series of errors; the counter has them all.
func (d *door) noteFailure(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	d.acceptErrors.Inc()
	if !d.failing.Swap(true) {
		d.log.Warn("connections cannot be accepted; trying again", "err", err)
	}
}

// makeRoom returns whether one more connection has a place; for that it may close one.
func (d *door) makeRoom() bool {
	kept := d.kept()
	d.mu.Lock()
	if kept+len(d.plain) < d.places {
		d.mu.Unlock()
		return true
	}
	var victim net.Conn
	if front := d.waiting.Front(); front != nil {
		victim, _ = d.waiting.Remove(front).(net.Conn)
		d.servedLocked(d.plain[victim])
		delete(d.plain, victim)
	}
	d.mu.Unlock()
	d.refused.Inc()
	if victim == nil {
		return false
	}
	abort(victim)
	return true
}

// abort closes without a word: TLS would first try to say goodbye, to a peer that may not read.
func abort(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	_ = conn.Close()
}

// connState is for http.Server.ConnState.
func (d *door) connState(conn net.Conn, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.plain[conn]
	switch {
	case state == http.StateNew:
		v = &visit{since: time.Now(), place: d.waiting.PushBack(conn)}
		v.fresh = d.fresh.PushBack(v)
		d.plain[conn] = v
	case v == nil: // it made room
	case state == http.StateIdle:
		d.servedLocked(v)
		d.restLocked(conn, v)
	case state == http.StateHijacked, state == http.StateClosed:
		if !v.asked && time.Since(v.since) >= headerTimeout {
			d.slow.Inc()
		}
		d.servedLocked(v)
		d.workLocked(v)
		delete(d.plain, conn)
	}
}

func (d *door) restLocked(conn net.Conn, v *visit) {
	d.workLocked(v)
	v.place = d.waiting.PushBack(conn)
}

func (d *door) workLocked(v *visit) {
	if v.place != nil {
		d.waiting.Remove(v.place)
		v.place = nil
	}
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// connContext is for http.Server.ConnContext.
func (*door) connContext(ctx context.Context, conn net.Conn) context.Context {
	return gateway.ConnContext(context.WithValue(ctx, connKey{}, conn), conn)
}

// watch tells the door when a handler is at work.
func (d *door) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		d.handler(conn, true)
		defer d.handler(conn, false)
		next.ServeHTTP(w, r)
	})
}

func (d *door) handler(conn net.Conn, atWork bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.plain[conn]
	switch {
	case v == nil: // it made room, or was taken over
	case atWork:
		v.asked = true
		d.workLocked(v)
	default:
		d.restLocked(conn, v)
	}
}
