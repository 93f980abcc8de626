package gateway

import (
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/internal/websock"
)

// linger is how long an ended connection is kept for the client to take its last frames.
const linger = 2 * time.Second

// begin gives a new session its driver: a place in the lot where its socket can be parked, else a goroutine. The driver's last act
// is depart.
func (g *Gateway) begin(s *session, conn *websock.Conn) {
	if g.poller != nil {
		p := &parkedSession{session: s}
		p.seat = g.lot.seat(p)
		var err error
		if p.conn, err = g.poller.Park(conn, &p.seat); err == nil {
			s.socket = p.conn
			g.join(s)
			g.lot.rest(&p.seat, s.due())
			return
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			g.log.Warn("a connection was not taken", "err", err)
			s.depart()
			return
		}
	}
	s.socket = conn
	g.conns.Go(func() {
		defer s.depart()
		g.join(s)
		drive(s, conn)
	})
}

// drive is the driver of a session that has a goroutine: it reads until the session's next deadline, and hands over what came.
func drive(s *session, conn *websock.Conn) {
	for {
		for s.postponed != nil {
			s.postponed.await(s.gateway.stopping)
			s.resume()
		}
		msg, err := conn.Receive(s.due())
		if !s.step(msg, err, time.Now()) {
			break
		}
	}
	s.awaitTold()
	conn.Linger(linger)
}

// parkedSession is the driver of a session whose socket is parked: the lot serves it when the kernel reports something, and when
// its next deadline comes.
type parkedSession struct {
	seat
	session *session
	conn    *websock.Parked
	leaveBy moment // the end of its lingering; 0 while the session reads
}

// opening implements guest.
func (p *parkedSession) opening() bool { return !p.session.open }

// serve is one turn of what drive does in a loop.
func (p *parkedSession) serve(buf []byte, waited time.Duration) time.Time {
	defer p.conn.Keep()
	s := p.session
	if waited > s.gateway.limits.HelloTimeout && !s.open {
		s.end(crowded())
	}
	for p.leaveBy == 0 {
		if s.postponed != nil && !p.resumed() {
			return time.Time{}
		}
		msg, err := p.conn.Receive(buf)
		now := time.Now()
		if errors.Is(err, websock.ErrTimeout) {
			if due := s.due(); due.IsZero() || due.After(now) {
				return due
			}
		}
		if !s.step(msg, err, now) {
			p.leaveBy = momentOf(now.Add(linger))
		}
	}
	if p.conn.Discard(buf) || passed(p.leaveBy, time.Now()) {
		p.vacate()
		p.conn.Release()
		s.depart()
		return time.Time{}
	}
	return p.leaveBy.time()
}

// resumed resumes the postponed frame if what it waits for has come; else the session rests until it has. That costs a goroutine for
// as long, which is counted with the connection.
func (p *parkedSession) resumed() bool {
	s := p.session
	for s.postponed != nil {
		q := s.postponed
		if !q.came.Load() && !s.hasEnded() {
			if !q.awaited {
				q.awaited = true
				s.gateway.conns.Go(func() {
					q.await(s.gateway.stopping)
					q.came.Store(true)
					p.Wake()
				})
			}
			return false
		}
		s.resume()
	}
	return true
}
