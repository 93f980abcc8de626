package manage

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// closeLinger is how long the peer has to answer our close frame. A peer that does not even take it is cut off after twice that.
const closeLinger = 400 * time.Millisecond

// starved is how late a deadline must be noticed to show that this process was stopped or starved (page 3).
const starved = 2 * time.Second

// streamBuffer is what the kernel may keep for a reader that is slow: several of the largest flushes, and not the megabytes of
// stale ones to which Linux lets it grow (G2).
const streamBuffer = 64 << 10

// stream is one operator's live query on a socket.
//
// Two goroutines: the handler's reads and obeys commands in order; the writer pulls deltas and sends everything that belongs to the
// page, so that a delta of one query can never follow the init of the next. The writer asks for the next delta only when the last
// is written: a reader that is slow makes steps larger, and nothing queues (G2).
type stream struct {
	*API
	id      string // X-Request-Id
	conn    *websock.Conn
	key     tenant.Key // as it was at the start; ask allowed for what it is now
	app     api.ApplicationID
	address string // the peer's

	cancel context.CancelFunc
	alive  atomic.Int64  // Unix nanoseconds of the last word from the peer, or of the last flush that was written
	moved  chan struct{} // the init that answers a query message was sent

	ending sync.WaitGroup // the goroutine that says goodbye

	mu      sync.Mutex
	watch   *registry.Watch // what the writer pulls from; closed by the reader to interrupt it
	pending *registry.Query // what to move to, once watch is closed
	cause   *api.Error      // why the server ended the stream; nil while it has not
	code    api.CloseCode   // goes with cause
	running bool            // conn is set: end may use it

	// Of the writer alone, for streams that asked for totals: what the peer was told last.
	totals  bool
	counts  api.Counts
	partial bool
}

// partialEvery is how long totals may lag behind the state of other nodes, when nothing else changes.
const partialEvery = time.Second

// stream upgrades the request, whose checks have all passed, and serves it until it ends.
func (c *call) stream(q registry.Query) error {
	s := &stream{API: c.API, id: c.w.id, key: c.key, address: c.origin.IP, app: q.Application, moved: make(chan struct{}, 1)}
	if !c.room() {
		return &api.Error{Code: api.CodeUnavailable, RetryAfter: time.Second,
			Message: "this node holds as many connections as it can; try again, or another node"}
	}
	if err := c.streams.enrol(s, c.limits.StreamsPerKey); err != nil {
		if api.CodeOf(err) == api.CodeRateLimited {
			c.metrics.limits[limitStreams].Inc()
		}
		return err
	}
	defer c.streams.leave(s)
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	s.cancel = cancel
	// A page must be read within StreamIdle, like a ping answered: that is what "without write progress" means.
	conn, err := websock.Upgrade(c.w, c.r, websock.Config{WriteTimeout: c.limits.StreamIdle, SendBuffer: streamBuffer})
	if err != nil {
		c.warn("upgrade failed", err)
		return nil // the response is spent
	}
	defer conn.Close() //nolint:errcheck // it is closed already, unless something panicked
	// The server is gone without a drain.
	defer context.AfterFunc(c.r.Context(), func() { _ = conn.Close() })()
	c.metrics.streams.Inc()
	defer c.metrics.streams.Dec()
	s.serve(ctx, conn, q)
	return nil
}

func (s *stream) serve(ctx context.Context, conn *websock.Conn, q registry.Query) {
	s.conn = conn
	s.touch()
	var writer sync.WaitGroup
	view, watch := s.registry.Watch(q)
	s.mu.Lock()
	s.watch, s.running = watch, true
	if s.cause != nil { // ended while it was upgraded
		s.ending.Go(s.goodbye)
	}
	s.mu.Unlock()
	s.begin(q, view)
	writer.Go(func() { s.write(ctx, encodeInit(view)) })
	s.read(ctx, q)
	s.cancel()
	writer.Wait()
	s.mu.Lock()
	s.running = false // whoever ends the stream now is too late
	s.mu.Unlock()
	s.ending.Wait()
}

func (s *stream) touch() { s.alive.Store(time.Now().UnixNano()) }

func (s *stream) idleAt() time.Time { return time.Unix(0, s.alive.Load()).Add(s.limits.StreamIdle) }

// end makes the server end the stream: an error message that says why, then the close frame. Only the first call does anything. It
// does not wait for the peer.
func (s *stream) end(cause *api.Error, code api.CloseCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.cause, s.code = cause, code
	if s.running {
		s.ending.Go(s.goodbye)
	}
}

// goodbye runs once, after cause was set.
func (s *stream) goodbye() {
	s.metrics.ended(s.cause.Code)
	// A peer that reads nothing blocks the write in progress, and would keep what it may no longer have.
	cut := time.AfterFunc(2*closeLinger, func() { _ = s.conn.Close() })
	defer cut.Stop()
	s.conn.CloseWith(encodeError(s.cause), s.code, string(s.cause.Code), closeLinger)
	s.cancel()
}

// begin notes what an init says.
func (s *stream) begin(q registry.Query, view api.View) {
	s.totals, s.counts, s.partial = q.Totals, view.Counts, false
}

// tellPartial sends totals when nodes have gone missing, or come back, since the last.
func (s *stream) tellPartial() bool {
	partial := len(s.missing()) > 0
	if !s.totals || partial == s.partial {
		return true
	}
	s.partial = partial
	return s.flush(appendTotals(nil, s.counts, partial))
}

// write sends pages until ctx or the connection ends; an error of the connection is the reader's to see.
func (s *stream) write(ctx context.Context, init []byte) {
	defer s.cancel()
	defer func() { s.current().Close() }()
	if !s.flush(init) {
		return
	}
	for ctx.Err() == nil {
		period, cancel := context.WithTimeout(ctx, s.limits.StreamPing)
		ok := s.writeUntil(period)
		cancel()
		if !ok || s.conn.Send(websock.AppendControl(nil, websock.Ping, nil)) != nil {
			return
		}
	}
}

// writeUntil sends deltas until period ends, and tells whether the stream goes on.
func (s *stream) writeUntil(period context.Context) bool {
	for s.tellPartial() {
		step, cancel := period, context.CancelFunc(func() {})
		if s.totals && s.clustered {
			step, cancel = context.WithTimeout(period, partialEvery)
		}
		delta, err := s.current().Next(step)
		cancel()
		switch {
		case err == nil:
			frames := delta.Encoded(s.encodeDelta)
			if delta.Counts != nil {
				s.counts, s.partial = *delta.Counts, saysPartial(frames)
			}
			if !s.flush(frames) {
				return false
			}
		case errors.Is(err, registry.ErrGone):
			if !s.move() {
				return false
			}
		case period.Err() != nil || step == period:
			return true
		}
	}
	return false
}

func (s *stream) flush(frames []byte) bool {
	start := time.Now()
	if err := s.conn.Send(frames); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.metrics.limits[limitStreamIdle].Inc()
		}
		s.cancel()
		return false
	}
	s.metrics.flushed(time.Since(start))
	s.touch()
	return true
}

func (s *stream) current() *registry.Watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watch
}

// move answers a query message.
func (s *stream) move() bool {
	s.mu.Lock()
	q := s.pending
	s.pending = nil
	s.mu.Unlock()
	if q == nil {
		return false
	}
	view, watch := s.registry.Watch(*q)
	s.mu.Lock()
	s.watch = watch
	s.mu.Unlock()
	s.begin(*q, view)
	ok := s.flush(encodeInit(view))
	s.moved <- struct{}{} // has room: there is one move at a time
	return ok
}

// read obeys the peer until the stream ends.
func (s *stream) read(ctx context.Context, q registry.Query) {
	for {
		due := s.idleAt()
		msg, err := s.conn.Receive(due)
		if err != nil {
			now := time.Now()
			if errors.Is(err, websock.ErrTimeout) && now.Sub(due) > starved {
				s.touch() // it was this process that stood still: what the peer sent meanwhile waits to be read
			}
			if errors.Is(err, websock.ErrTimeout) && now.Before(s.idleAt()) {
				continue
			}
			s.stopped(err)
			return
		}
		s.touch()
		switch msg.Op {
		case websock.Ping:
			_ = s.conn.Send(websock.AppendControl(nil, websock.Pong, msg.Data)) // Receive will tell
		case websock.Text:
			q = s.obey(ctx, q, msg.Data)
		case websock.Binary:
			s.complain(api.Errorf(api.CodeValidation, "messages must be text frames"))
		case websock.Pong:
		}
	}
}

// stopped ends the connection after the reader did.
func (s *stream) stopped(err error) {
	var closed *websock.CloseError
	switch {
	case errors.As(err, &closed) && closed.Peer:
		s.conn.CloseWith(nil, closed.Code, "", 0) // the answer, with the peer's code (RFC 6455, section 5.5.1)
	case closed != nil:
		s.conn.CloseWith(nil, closed.Code, closed.Reason, closeLinger)
	case errors.Is(err, net.ErrClosed): // goodbye is at it, or the writer failed
	default: // the peer is gone, or was silent for too long
		if errors.Is(err, websock.ErrTimeout) {
			s.metrics.limits[limitStreamIdle].Inc()
		}
		_ = s.conn.Close()
	}
}

// obey does what a message asks for, and returns the query that the stream is at then.
func (s *stream) obey(ctx context.Context, q registry.Query, data []byte) registry.Query {
	cmd, err := parseCommand(data)
	switch {
	case err != nil:
		s.complain(toldError(err))
	case cmd.query == nil:
		if err := s.disconnect(ctx, cmd.disconnect); err != nil {
			s.complain(err)
		}
	default:
		q = cmd.query(q)
		s.mu.Lock()
		s.pending = &q
		watch := s.watch
		s.mu.Unlock()
		watch.Close()
		select {
		case <-s.moved:
		case <-ctx.Done():
		}
	}
	return q
}

func (s *stream) complain(e *api.Error) {
	_ = s.conn.Send(encodeError(e)) // Receive will tell
}

// disconnect ends a session of the stream's application, by the key as it is now. What is no such session is silently nothing (G8).
func (s *stream) disconnect(ctx context.Context, id api.ServerID) *api.Error {
	key, err := s.allowed(s.key, s.app)
	if err == nil {
		err = key.Require(api.ScopeSessionsDisconnect)
	}
	if err != nil {
		return toldError(err)
	}
	_, session, ok := id.Split()
	if !ok {
		return nil
	}
	const longest = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest) // obeyed, even if the operator hangs up now
	defer cancel()
	ended, err := s.owner.Disconnect(ctx, s.app, id, tenant.Actor(key.PublicID), "")
	if err != nil {
		s.log.WarnContext(ctx, "disconnect failed", "requestId", s.id, "error", err)
		if api.CodeOf(err) == api.CodeInternal {
			err = api.Errorf(api.CodeUnavailable, "the session's node does not answer; try again")
		}
		return toldError(err)
	}
	if app, known := s.tenants.Application(s.app); ended && known {
		s.records.AuditLater(disconnected(s.now(), tenant.Origin{Actor: key.AuditActor(), IP: s.address}, &app, session, ""))
	}
	return nil
}
