package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// lease is a session that requests hold and not a connection: it ends when none came for its length and no event stream is open. It
// is a guest of the lot, which sees to its deadlines; requests serve it on their own goroutines, one at a time: whoever serves it
// has its turn.
type lease struct {
	seat
	session *session

	// turn holds one while somebody serves the session. It may be held while a record is written; the lot does not wait for it but
	// sets missed, and who gives the turn back then has the lot come again.
	turn   chan struct{}
	missed atomic.Bool

	// With the turn.
	reporter string // who reports it; "" = the client holds it itself
	seconds  int
	epoch    uint64     // of the application, under which the session came in
	owner    int64      // the record's OwnerEpoch
	found    api.Millis // the record's FoundSince
	by       moment     // the end of the lease; 0 while event streams keep it
	forget   moment     // when nothing is to be known of it any more; 0 while it is open

	mu      sync.Mutex
	tells   string    // as reporter, for whoever ends it
	address string    // under which it is counted; "" = under none
	streams []*events // open, the oldest first
	over    *ending   // nil until it has ended
	gone    bool      // it is not in Gateway.leases any more, and has not ended: look again
}

const (
	// rememberEnded is how long an ended lease is known without asking the database.
	rememberEnded = time.Minute
	// maxEvents is how many event streams a lease may have; one more ends the oldest.
	maxEvents = 4
)

// newLease returns a lease whose turn the caller has.
func (g *Gateway) newLease(reporter string, seconds int) *lease {
	l := &lease{reporter: reporter, tells: reporter, turn: make(chan struct{}, 1), seconds: seconds}
	l.turn <- struct{}{}
	l.seat = g.lot.seat(l)
	l.session = &session{gateway: g, socket: l}
	return l
}

// Send implements socket: what a lease's client asks is answered, and there is nobody else to send to.
func (*lease) Send([]byte) error { return nil }

// BeginClose implements socket.
func (*lease) BeginClose([]byte, api.CloseCode, string) bool { return true }

// Close implements socket.
func (*lease) Close() error { return nil }

func (l *lease) length() time.Duration { return time.Duration(l.seconds) * time.Second }

// take waits for the turn.
func (l *lease) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return unavailable("the session is busy: try again")
	}
}

func (l *lease) give() {
	<-l.turn
	if l.missed.Swap(false) {
		l.Wake()
	}
}

// tryTake does not wait; when it fails, give has the lot come again.
func (l *lease) tryTake() bool {
	for range 2 {
		select {
		case l.turn <- struct{}{}:
			l.missed.Store(false)
			return true
		default:
			l.missed.Store(true) // and look again: it may have been given back just before
		}
	}
	return false
}

// opening implements guest.
func (l *lease) opening() bool { return false }

// serve implements guest: it does what is due.
func (l *lease) serve([]byte, time.Duration) time.Time {
	if !l.tryTake() {
		return time.Time{}
	}
	defer l.give()
	s, now := l.session, time.Now()
	for due := s.due(); !due.IsZero() && !due.After(now); due = s.due() {
		s.tick(now)
	}
	if !s.hasEnded() {
		return s.due()
	}
	if l.forget == 0 {
		l.forget = momentOf(now.Add(rememberEnded))
	}
	if !passed(l.forget, now) {
		return l.forget.time()
	}
	l.vacate()
	s.gateway.dropLease(l)
	return time.Time{}
}

// key returns what the lease goes by; it has none before its record is filled.
func (l *lease) key() sessionKey {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return sessionKey{s.record.Application, s.record.ID}
}

// renew has the lease run anew from now, for as long as it is kept by requests. With the turn.
func (l *lease) renew(now time.Time) {
	l.mu.Lock()
	kept := len(l.streams) > 0
	l.mu.Unlock()
	l.by = 0
	if !kept {
		l.by = momentOf(now.Add(l.length()))
	}
}

// noteLeaseLocked brings the record to what an adopter must know.
func (s *session) noteLeaseLocked() {
	if l := s.lease(); l != nil {
		s.record.Lease = &store.Lease{Seconds: l.seconds, Reporter: l.reporter, OwnerEpoch: l.owner, Epoch: l.epoch, CID: s.cid,
			Named: s.named, FoundSince: l.found, Tokens: slices.Clone(s.tokens)}
	}
}

// tell is ending.tell for a lease: its event streams end, with the event if there is one, and later requests hear of it.
func (l *lease) tell(e *ending) {
	l.session.gateway.leaveAddress(l)
	l.mu.Lock()
	l.over = e
	reporter := l.tells
	l.mu.Unlock()
	if reporter != "" && e.live && e.cause.reason != api.EndClientClosed {
		l.session.gateway.reporters.ended(reporterKey{e.record.Application, reporter}, e.record.ID, e.cause.reason)
	}
	if c := &e.cause; c.close != 0 && !c.quiet {
		l.publish(api.TypeDisconnect, encode(api.NewDisconnect(c.close, c.text, c.retryAfterMs)))
	}
	l.endEvents(nil)
	l.Wake()
}

// state returns how the lease ended, nil while it has not; gone says that it is not known here any more.
func (l *lease) state() (over *ending, gone bool) {
	l.session.awaitTold()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over, l.gone
}

// keep makes an open lease known to requests, and lets the lot see to it; with the turn. Unless the node drains: then it is released.
func (g *Gateway) keep(l *lease) error {
	key := l.key()
	g.mu.Lock()
	g.leases[key] = l
	if l.reporter == "" {
		g.own[key.id] = l
	}
	draining := g.draining
	g.mu.Unlock()
	g.lot.rest(&l.seat, l.session.due())
	if draining {
		l.release(0)
		return drainingError()
	}
	return nil
}

// dropLease forgets a lease.
func (g *Gateway) dropLease(l *lease) {
	key := l.key()
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leases[key] == l {
		delete(g.leases, key)
	}
	if g.own[key.id] == l {
		delete(g.own, key.id)
	}
}

// release lets go of a lease without ending it: it is unlisted, its record stays open for whoever adopts it, and its event streams
// end, to come back after the given time.
func (l *lease) release(comeBack time.Duration) bool {
	s := l.session
	s.mu.Lock()
	if s.told != nil || !s.live {
		s.mu.Unlock()
		return false
	}
	told := make(chan struct{})
	s.told = told
	record := s.record
	record.LastActiveAt = s.activeAt
	s.mu.Unlock()
	g := s.gateway
	g.dropLease(l)
	g.leaveAddress(l)
	g.cfg.Records.Keep(record)
	g.cfg.Registry.Remove(record.Application, record.ServerID)
	g.mu.Lock()
	delete(g.live, sessionKey{record.Application, record.ID})
	g.mu.Unlock()
	l.endEvents(retryEvent(comeBack))
	close(told)
	return true
}

// releaseAll releases every lease and returns how many it were. The streams come back spread over the given time.
func (g *Gateway) releaseAll(spread time.Duration) (n int) {
	for _, s := range g.leaseSessions() {
		comeBack := time.Duration(0)
		if spread >= time.Millisecond {
			comeBack = time.Millisecond + rand.N(spread)
		}
		if s.lease().release(comeBack) {
			n++
		}
	}
	return n
}

// Superseded lets go of this node's copy of a lease when another node has adopted it, under a greater epoch: silently, for the
// session goes on there. It returns whether there was one.
func (g *Gateway) Superseded(app api.ApplicationID, id api.SessionID, epoch int64) bool {
	g.mu.Lock()
	l := g.leases[sessionKey{app, id}]
	g.mu.Unlock()
	if l == nil {
		return false
	}
	l.session.mu.Lock()
	lease := l.session.record.Lease
	l.session.mu.Unlock()
	return lease != nil && lease.OwnerEpoch < epoch && l.release(0)
}

func (g *Gateway) leaseSessions() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*session, 0, len(g.leases))
	for _, l := range g.leases {
		all = append(all, l.session)
	}
	return all
}

// roomForLease tells why one more lease cannot be held.
func (g *Gateway) roomForLease() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.roomForLeaseLocked()
}

func (g *Gateway) roomForLeaseLocked() error {
	switch {
	case g.draining:
		return drainingError()
	case len(g.leases) >= g.limits.MaxLeases:
		g.metrics.limits[limitLeases].Inc()
		return &api.Error{Code: api.CodeUnavailable, RetryAfter: comeBack(), Message: "this node holds as many leases as it can"}
	}
	return nil
}

// admitLease is admit for a lease, which counts as a connection of its client's address until it ends.
func (g *Gateway) admitLease(l *lease, ip string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.roomForLeaseLocked(); err != nil {
		return err
	}
	if limit := g.limits.ConnectionsPerAddress; limit > 0 {
		if g.addresses[ip] >= limit {
			g.metrics.limits[limitPerAddress].Inc()
			return &api.Error{Code: api.CodeRateLimited, RetryAfter: comeBack(),
				Message: fmt.Sprintf("at most %d connections and leases an address", limit)}
		}
		g.addresses[ip]++
		l.address = ip // nobody else knows it yet
	}
	return nil
}

// leaveAddress undoes what admitLease has counted.
func (g *Gateway) leaveAddress(l *lease) {
	l.mu.Lock()
	address := l.address
	l.address = ""
	l.mu.Unlock()
	if address == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(address)
}

func drainingError() *api.Error {
	return &api.Error{Code: api.CodeUnavailable, RetryAfter: time.Second, Message: "this node is draining: try again"}
}

func unavailable(message string) *api.Error {
	return &api.Error{Code: api.CodeUnavailable, RetryAfter: comeBackSoon(), Message: message}
}

// comeBackSoon is when a request that could not be served may come again; spread, for it is not alone.
func comeBackSoon() time.Duration { return time.Second + rand.N(4*time.Second) }
