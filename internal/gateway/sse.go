package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// events is one open event stream of a lease (text/event-stream, WHATWG HTML section 9.2). Its handler writes; whoever has news only
// adds them here.
type events struct {
	ready chan struct{} // holds one: there is something to do

	// What follows is guarded by lease.mu.
	pending []byte // events to be written
	over    bool   // it ends once they are
}

// maxPending bounds what waits for a client that does not read; more ends the stream.
const maxPending = 8 << 10

// retryDelay is how long a client waits before it opens a stream again that has ended (the field retry).
const retryDelay = 2 * time.Second

// publish adds an event to every stream.
func (l *lease) publish(kind string, data []byte) {
	event := fmt.Appendf(nil, "event: %s\ndata: %s\n\n", kind, data)
	l.mu.Lock()
	streams := slices.Clone(l.streams)
	for _, e := range streams {
		if len(e.pending)+len(event) > maxPending {
			e.over = true
			continue
		}
		e.pending = append(e.pending, event...)
	}
	l.mu.Unlock()
	wakeAll(streams)
}

// endEvents ends every stream, with last words.
func (l *lease) endEvents(last []byte) {
	l.mu.Lock()
	streams := slices.Clone(l.streams)
	for _, e := range streams {
		e.pending, e.over = append(e.pending, last...), true
	}
	l.mu.Unlock()
	wakeAll(streams)
}

func wakeAll(streams []*events) {
	for _, e := range streams {
		select {
		case e.ready <- struct{}{}:
		default:
		}
	}
}

// retryEvent tells a client when to come back; nil for at once.
func retryEvent(in time.Duration) []byte {
	if in <= 0 {
		return nil
	}
	return fmt.Appendf(nil, "retry: %d\n\n", in.Milliseconds())
}

// attach opens a stream, which keeps the lease; with the turn. One too many ends the oldest: its client may be gone.
func (l *lease) attach() *events {
	e := &events{ready: make(chan struct{}, 1)}
	l.mu.Lock()
	var oldest []*events
	if len(l.streams) >= maxEvents {
		oldest = l.streams[:1:1]
		oldest[0].over = true
		l.streams = slices.Clone(l.streams[1:])
	}
	l.streams = append(l.streams, e)
	e.over = l.over != nil || l.gone
	l.mu.Unlock()
	wakeAll(oldest)
	l.renew(time.Now())
	return e
}

// detach undoes attach: from now on requests keep the lease again.
func (l *lease) detach(e *events) {
	l.mu.Lock()
	l.streams = slices.DeleteFunc(l.streams, func(other *events) bool { return other == e })
	l.mu.Unlock()
	_ = l.take(context.Background()) // cannot fail
	if !l.session.hasEnded() {
		l.renew(time.Now())
	}
	l.missed.Store(true) // the lot is to see the new deadline
	l.give()
}

// next returns what is to be written, and whether the stream ends after it.
func (l *lease) next(e *events) (out []byte, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, e.pending = e.pending, nil
	return out, e.over
}

// watch is GET /sessions/{id}/events.
func (c *leaseCall) watch() error {
	bearer, id, err := c.credentials()
	if err != nil {
		return err
	}
	if c.watched.Add(1) > int64(c.limits.EventStreams) || c.cfg.Room != nil && !c.cfg.Room() {
		c.watched.Add(-1)
		c.metrics.limits[limitEvents].Inc()
		return unavailable("this node has as many event streams open as it can")
	}
	defer c.watched.Add(-1)
	l, _, err := c.hold(bearer, id)
	if err != nil {
		return err
	}
	if !l.session.bucket.take(c.now, c.limits.FramesPerMinute, c.limits.FrameBurst) {
		l.give()
		return c.tooMany()
	}
	if c.passed != nil { // an event stream goes where its client is
		defer l.give()
		return c.letGoFor(context.WithoutCancel(c.r.Context()), l)
	}
	e := l.attach()
	l.give()
	defer l.detach(e)
	return c.stream(l, e)
}

// stream writes events until the session or the client is gone. Comments keep proxies from closing it, and find out clients that
// are gone: what they do not take within the pong timeout ends the connection.
func (c *leaseCall) stream(l *lease, e *events) error {
	rc := http.NewResponseController(c.w)
	if conn, ok := c.r.Context().Value(connKey{}).(net.Conn); ok {
		setUserTimeout(conn, c.limits.PongTimeout)
	}
	h := c.w.Header()
	h.Set("X-Request-Id", uuid.NewString())
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events
	c.w.WriteHeader(http.StatusOK)
	write := func(b []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(c.limits.PongTimeout))
		_, err := c.w.Write(b) //nolint:gosec // our own events, as text/event-stream
		return err == nil && rc.Flush() == nil
	}
	if !write(retryEvent(retryDelay)) {
		return nil
	}
	alive := time.NewTimer(c.pingDelay())
	defer alive.Stop()
	for {
		out, over := l.next(e)
		if len(out) > 0 && !write(out) || over {
			return nil
		}
		select {
		case <-e.ready:
		case <-alive.C:
			if !write([]byte(": alive\n\n")) {
				return nil
			}
			alive.Reset(c.pingDelay())
		case <-c.r.Context().Done():
			return nil
		}
	}
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext: event streams need their connection, to find out clients that vanished.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return context.WithValue(ctx, connKey{}, conn)
}
