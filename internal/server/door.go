package server

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/limit"
)

// door bounds the connections that a listener accepts. When all places are taken it makes room: the connection that has been
// without a request for longest is closed, whether it is idle or slow to send its first. So whoever holds connections open without
// asking for anything keeps nobody out. Only when all have a request under way or were taken over is the newcomer closed, at once.
//
// It counts plain HTTP connections by what net/http reports of them; those that were taken over are counted by who has them, so
// that connections need no wrapping, which would hide from them what TCP can do.
type door struct {
	net.Listener
	places int        // at once
	kept   func() int // how many were taken over and are open
	log    *slog.Logger

	refused, slow, acceptErrors prometheus.Counter
	failing                     atomic.Bool // the last Accept failed

	mu      sync.Mutex
	plain   map[net.Conn]*visit // every connection that is not taken over
	waiting list.List           // of net.Conn: those of plain without a request, the longest first
}

// visit is one plain connection.
type visit struct {
	since time.Time     // accepted
	first bool          // its first request has not come
	place *list.Element // in waiting; nil while a request is under way
}

// newDoor returns the door of a listener, whose bound of n connections shows in the metrics under the given name. slow counts
// those whose first request did not come in time.
func newDoor(l net.Listener, name string, n int, kept func() int, slow prometheus.Counter, reg prometheus.Registerer, log *slog.Logger) *door {
	d := &door{Listener: l, places: places(n), kept: kept, log: log, slow: slow, plain: map[net.Conn]*visit{}}
	label := prometheus.Labels{"limit": name}
	d.acceptErrors = prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_http_accept_errors_total", ConstLabels: label,
		Help: "Connections that could not be accepted, such as for want of file descriptors."})
	d.refused = limit.Register(reg, name, float64(n))
	reg.MustRegister(d.acceptErrors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_http_connections",
		ConstLabels: label, Help: "Open HTTP connections, without those that became sessions or streams."}, func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.plain))
	}))
	return d
}

// Accept returns the next connection for which there is room. An error of the system, such as EMFILE, is the caller's: http.Server
// waits, for up to a second, and tries again.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			d.noteFailure(err)
			return nil, err
		}
		d.failing.Store(false)
		if d.makeRoom() {
			return conn, nil
		}
		abort(conn)
	}
}

// noteFailure logs the first of a series of errors; the counter has them all.
func (d *door) noteFailure(err error) {
	//nolint:staticcheck // it is what http.Server asks
	if temporary, ok := err.(net.Error); !ok || !temporary.Temporary() {
		return // the listener was closed
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

// connState is for http.Server.ConnState. A connection becomes active when its request's head is complete, or has failed.
func (d *door) connState(conn net.Conn, state http.ConnState) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if state == http.StateNew {
		d.plain[conn] = &visit{since: now, first: true, place: d.waiting.PushBack(conn)}
		return
	}
	v := d.plain[conn]
	if v == nil {
		return // it made room
	}
	if v.first && now.Sub(v.since) >= headerTimeout {
		d.slow.Inc()
	}
	v.first = false
	if v.place != nil {
		d.waiting.Remove(v.place)
		v.place = nil
	}
	switch state {
	case http.StateIdle:
		v.place = d.waiting.PushBack(conn)
	case http.StateHijacked, http.StateClosed:
		delete(d.plain, conn)
	case http.StateNew, http.StateActive:
	}
}
