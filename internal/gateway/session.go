package gateway

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// socket is what the protocol needs of a connection. Reading is the driver's.
type socket interface {
	Send(frames []byte) error
	BeginClose(frames []byte, code api.CloseCode, reason string) bool
	Close() error
}

// session is the protocol's state for one connection. Its driver calls step with one message or one tick at a time; end and claim
// may come from anywhere.
type session struct {
	gateway *Gateway
	socket  socket // a *lease for a session without a connection

	// The driver's own.
	upgrade *upgrade // what the HTTP request said; nil once a hello has come
	open    bool     // welcome was sent
	bucket  bucket
	helloBy moment // deadlines
	pingAt  moment
	pongBy  moment
	notice  moment // of the token's expiry
	grace   moment // the end of the token's grace
	// postponed is the frame to resume before anything more is read; nil = none.
	postponed *postponed

	mu    sync.Mutex
	told  chan struct{} // made by the one who ends the session, closed when its client was told
	live  bool          // in the registry; then what follows holds
	named bool          // record.Name was given by the client
	// record and credential are what the row and the record were last made of. record.IP is there from the beginning, and constant.
	record     store.Record
	credential registry.Credential
	cid        string         // the token's claim, "" when it has none
	tokens     []store.Denial // every unexpired token that was presented, as it would be denied
	activeAt   api.Millis
}

// upgrade is what the HTTP request contributes to a hello.
type upgrade struct {
	bearer    *string // nil without Authorization: Bearer
	userAgent string
	origins   []string
}

// moment is a time.Time in a third of its size: nanoseconds on the monotonic clock since the process began; 0 = none.
type moment int64

var began = time.Now()

func momentOf(t time.Time) moment { return moment(t.Sub(began)) }

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return began.Add(time.Duration(m))
}

// maxTokens is how many unexpired tokens a session may present: each is remembered, to be denied.
const maxTokens = 100

// bucket is the limit of frames: it holds up to the burst and fills evenly.
type bucket struct {
	spent float64 // of the burst
	at    moment
}

func (b *bucket) take(now time.Time, perMinute, burst int) bool {
	b.spent = max(0, b.spent-now.Sub(b.at.time()).Minutes()*float64(perMinute))
	b.at = momentOf(now)
	if b.spent+1 > float64(burst) {
		return false
	}
	b.spent++
	return true
}

func (s *session) application() api.ApplicationID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Application
}

// lease returns what holds the session in place of a connection; nil when it has one.
func (s *session) lease() *lease {
	l, _ := s.socket.(*lease)
	return l
}

// sessionKey names a session on a node. Those who report sessions choose their ids, so that an id alone may be that of sessions of
// several applications.
type sessionKey struct {
	application api.ApplicationID
	id          api.SessionID
}

func (s *session) serverID() api.ServerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.ServerID
}

// due returns when the next tick is needed; zero for never.
func (s *session) due() time.Time {
	if s.hasEnded() {
		return time.Time{}
	}
	var due moment
	leaseBy := moment(0)
	if l := s.lease(); l != nil {
		leaseBy = l.by
	}
	for _, m := range [...]moment{s.helloBy, s.pingAt, s.pongBy, s.notice, s.grace, leaseBy} {
		if m != 0 && (due == 0 || m < due) {
			due = m
		}
	}
	return due.time()
}

// step takes what a read gave, which is a tick when it is ErrTimeout; false when there is nothing more to read.
func (s *session) step(msg websock.Message, err error, now time.Time) bool {
	switch {
	case err == nil:
		if !s.hasEnded() {
			s.message(msg, now)
		}
		return true
	case errors.Is(err, websock.ErrTimeout):
		if !s.hasEnded() {
			s.tick(now)
		}
		return true
	}
	c := cause{reason: api.EndConnectionLost}
	if end := (*websock.CloseError)(nil); errors.As(err, &end) {
		c = cause{close: end.Code, quiet: true, reason: api.EndClientClosed} // the peer's code is its answer
		if !end.Peer {
			c = cause{close: end.Code, text: end.Reason, reason: api.EndProtocolError}
		}
	}
	s.end(c)
	return false
}

// message handles one message.
func (s *session) message(msg websock.Message, now time.Time) {
	g := s.gateway
	if msg.Op == websock.Pong && s.pongBy != 0 {
		s.pongBy = 0 // asked for, so it does not count as a frame
		return
	}
	if !s.bucket.take(now, g.limits.FramesPerMinute, g.limits.FrameBurst) {
		s.end(cause{close: api.CloseTooManyFrames, reason: api.EndRateLimited})
		return
	}
	switch msg.Op {
	case websock.Ping:
		g.metrics.frame("ping")
		s.send(websock.AppendControl(nil, websock.Pong, msg.Data))
	case websock.Pong:
	case websock.Binary:
		s.end(cause{close: api.CloseBinary, reason: api.EndProtocolError})
	default:
		f, ok := parseFrame(msg.Data)
		if !ok {
			s.end(cause{close: api.CloseMalformed, reason: api.EndProtocolError})
			return
		}
		g.metrics.frame(f.kind)
		s.frame(f, now)
	}
}

// frame handles one text frame.
func (s *session) frame(f *frame, now time.Time) {
	if !s.open {
		if f.kind != api.TypeHello {
			s.end(cause{close: api.CloseNotHello, reason: api.EndProtocolError})
			return
		}
		s.hello(f, now)
		return
	}
	s.touch(s.gateway.now())
	switch f.kind {
	case api.TypeActivity:
		s.answerProblem(f)
	case api.TypeBye:
		s.end(cause{close: api.CloseNormal, quiet: true, reason: api.EndClientClosed})
	case api.TypeAuthorize:
		s.authorize(f, now)
	case api.TypeUpdate:
		s.update(f)
	case api.TypeHello:
		s.refuse(api.Errorf(api.CodeValidation, "type must not be hello: the session is open"))
	default:
		s.refuse(api.Errorf(api.CodeValidation, "type must be authorize, update, activity or bye"))
	}
}

// answerProblem refuses the frame when one of its fields was; it returns whether so.
func (s *session) answerProblem(f *frame) bool {
	err := f.Err()
	if err != nil {
		s.refuse(toldError(err))
	}
	return err != nil
}

// refuse answers a frame with an error; the session goes on.
func (s *session) refuse(e *api.Error) { s.send(websock.AppendText(nil, encodeError(e))) }

// send ignores errors: a connection that cannot be written is closed by that, and the driver's next read says so.
func (s *session) send(frames []byte) { _ = s.socket.Send(frames) }

// touch notes that the client did something.
func (s *session) touch(at api.Millis) {
	s.mu.Lock()
	s.activeAt = max(s.activeAt, at)
	app, id := s.record.Application, s.record.ServerID
	s.mu.Unlock()
	s.gateway.cfg.Registry.Touch(app, id, at)
}

// starved is how late a tick must come to show that it was this process that stood still, and not the client.
func (l Limits) starved() time.Duration { return l.PongTimeout / 5 }

// tick does what is due. After the process was stopped or starved all deadlines start afresh (page 3): what the client sent
// meanwhile may be waiting to be read.
func (s *session) tick(now time.Time) {
	limits := &s.gateway.limits
	if now.Sub(s.due()) > limits.starved() {
		restart(&s.helloBy, now.Add(limits.HelloTimeout))
		restart(&s.pongBy, now.Add(limits.PongTimeout))
		if l := s.lease(); l != nil {
			restart(&l.by, now.Add(l.length()))
		}
		if passed(s.grace, now) {
			restart(&s.grace, now.Add(limits.ExpiryGrace))
		}
	}
	switch {
	case passed(s.helloBy, now):
		s.end(cause{close: api.CloseHelloTimeout, reason: api.EndProtocolError})
		return
	case passed(s.pongBy, now):
		s.end(cause{reason: api.EndPingTimeout})
		return
	case passed(s.grace, now):
		s.end(cause{close: api.CloseTokenExpired, reason: api.EndTokenExpired})
		return
	case s.lease() != nil && passed(s.lease().by, now):
		s.end(cause{reason: api.EndLeaseExpired})
		return
	}
	var frames []byte
	if passed(s.notice, now) {
		s.notice = 0
		if notice := s.tokenNotice(api.TypeTokenExpiring); s.lease() != nil {
			s.lease().publish(api.TypeTokenExpiring, notice)
		} else {
			frames = websock.AppendText(frames, notice)
		}
	}
	if passed(s.pingAt, now) {
		s.pingAt = momentOf(now.Add(s.gateway.pingDelay()))
		if s.pongBy == 0 {
			s.pongBy = momentOf(now.Add(limits.PongTimeout))
		}
		frames = websock.AppendControl(frames, websock.Ping, nil)
	}
	if len(frames) > 0 {
		s.send(frames)
	}
}

func passed(m moment, now time.Time) bool { return m != 0 && momentOf(now) >= m }

func restart(m *moment, at time.Time) {
	if *m != 0 {
		*m = momentOf(at)
	}
}

// pingDelay is the ping interval with a jitter of 10 %, so that sessions that began together do not stay together.
func (g *Gateway) pingDelay() time.Duration {
	return time.Duration(float64(g.limits.PingInterval) * (0.9 + 0.2*rand.Float64()))
}

func (s *session) tokenNotice(kind string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return encode(api.TokenNotice{Type: kind, TokenExpiresAt: api.Timestamp(s.record.TokenExpiresAt)})
}

// expireAt sets the deadlines of a token's life: the notice comes 60 s ahead, or at half-life of a shorter token.
func (s *session) expireAt(expires, issued api.Millis, now time.Time) {
	s.notice, s.grace = 0, 0
	if expires == 0 {
		return
	}
	if issued == 0 {
		issued = s.gateway.now()
	}
	left := time.Duration(expires-s.gateway.now()) * time.Millisecond // the rest of the deadlines' arithmetic is on the monotonic clock
	life := expires.Time().Sub(issued.Time())
	// A token that was not fresh gets its notice now; a tick that is late would mean something else.
	s.notice = momentOf(now.Add(max(0, left-min(s.gateway.limits.ExpiryNotice, life/2))))
	s.grace = momentOf(now.Add(left + s.gateway.limits.ExpiryGrace))
}

// rowLocked is the registry's part of the record.
func (s *session) rowLocked() registry.Row {
	r := &s.record
	adopted, found := uint32(0), api.Millis(0)
	if r.Lease != nil {
		adopted, found = uint32(min(r.Lease.OwnerEpoch, math.MaxUint32)), r.Lease.FoundSince
	}
	return registry.Row{
		Organization: r.Organization, Application: r.Application, Session: r.ID, ServerID: r.ServerID, CreatedAt: r.CreatedAt,
		IP: r.IP, ClientID: r.ClientID, Login: r.Login, License: r.License, Authorized: r.Authorized,
		TokenExpiresAt: r.TokenExpiresAt, LastActiveAt: s.activeAt, Credential: s.credential, FoundSince: found, OwnerEpoch: adopted,
	}
}
