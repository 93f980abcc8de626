package mcp

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// Tracker keeps a Rollcall session for each client of an MCP server.
type Tracker struct {
	cfg      Config
	calls    *client.Manage
	verifier *verifier
	reporter string
	kick     chan struct{} // there is something to report

	mu sync.Mutex
	// sessions and ids have the same sessions; what is in queue and in neither has been forgotten meanwhile.
	sessions map[identity]*session
	ids      map[api.SessionID]*session
	queue    []*session
	gone     []api.SessionID // ended by their clients, yet to be reported
	away     bool            // the last report failed: nobody waits for Rollcall
	// What is refused: credentials, Mcp-Session-Ids, and sessions that have neither.
	denied     *remembered[string]
	deadIDs    *remembered[string]
	turnedAway *remembered[identity]
	revokedAt  time.Time // of the last revoke-all that ended a session here
}

// denial is how long Rollcall refuses the credential of what an operator ended.
const denial = 30 * 24 * time.Hour

// maxGone bounds the ends that wait to be reported; what falls out ends with its lease.
const maxGone = 100_000

// begin judges a request before it is passed on, and has it end with its session when that is known. What Rollcall did not take when it
// was asked last is asked for again first.
func (t *Tracker) begin(ctx context.Context, x *exchange, now time.Time) *refusal {
	wait, f := t.meet(x, now)
	if f != nil || wait == nil {
		return f
	}
	return t.await(ctx, x, wait)
}

func (t *Tracker) meet(x *exchange, now time.Time) (wait <-chan struct{}, f *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.refusalLocked(x, now); f != nil {
		return nil, f
	}
	s := t.sessions[x.as]
	switch {
	case s == nil && t.away && t.cfg.FailClosed:
		return nil, refuseUnsure
	case s == nil:
		return nil, nil
	case s.state == refused && now.Before(s.retryAt):
		return nil, s.refusal
	case s.state == refused:
		t.reopenLocked(s)
		wait = s.answered
	}
	t.attachLocked(s, x, now)
	return wait, nil
}

// await waits for Rollcall's word on the session of an exchange, and returns what the client is told when it must not go on.
func (t *Tracker) await(ctx context.Context, x *exchange, answered <-chan struct{}) *refusal {
	timer := time.NewTimer(t.cfg.OpenWait)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.cut == nil && t.cfg.FailClosed && x.session != nil && x.session.state == opening {
		return refuseUnsure
	}
	return x.cut
}

// refusalLocked tells whether an operator has cut off who sends the request.
func (t *Tracker) refusalLocked(x *exchange, now time.Time) *refusal {
	switch c := x.caller; {
	case c.credential != "" && t.denied.has(c.credential, now):
		return refuseRevoked
	case x.mcpID != "" && t.deadIDs.has(x.mcpID, now):
		return refuseSession
	case t.turnedAway.has(x.as, now):
		return refuseRevoked
	case t.sessions[x.as] == nil && c.verified && !c.issuedAt.After(t.revokedAt): // page 3, "Revocation"
		return refuseRevoked
	}
	return nil
}

func (t *Tracker) attachLocked(s *session, x *exchange, now time.Time) {
	if x.session == s {
		return
	}
	x.session = s
	s.exchanges[x] = struct{}{}
	s.usedAt = now
}

// detach ends the part of an exchange in its session.
func (t *Tracker) detach(x *exchange, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.session != nil {
		delete(x.session.exchanges, x)
		x.session.usedAt = now
		x.session = nil
	}
}

// admit takes a request that the handler has accepted into its session, which it opens when it is the first; item says what is shown
// of it. It returns what the client is told instead of the handler's answer, when that must not be.
func (t *Tracker) admit(ctx context.Context, x *exchange, item api.LeaseItem, active bool) *refusal {
	wait, f := t.enter(x, item, active, time.Now())
	if f != nil || wait == nil {
		return f
	}
	return t.await(ctx, x, wait)
}

func (t *Tracker) enter(x *exchange, item api.LeaseItem, active bool, now time.Time) (wait <-chan struct{}, f *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.cut != nil {
		return nil, x.cut
	}
	s := t.sessions[x.as]
	if s == nil {
		if f := t.refusalLocked(x, now); f != nil {
			return nil, f
		}
		if s = t.openLocked(x, item, now); s == nil {
			if t.cfg.FailClosed {
				return nil, refuseUnsure
			}
			return nil, nil
		}
	}
	if s.state == refused {
		return nil, s.refusal
	}
	t.attachLocked(s, x, now)
	another := s.presented(x.caller.credential)
	if active {
		s.activeAt = now
	}
	if s.state == open && (another || active && now.Sub(s.beatAt) >= activityEvery) {
		t.queueLocked(s)
	}
	if s.state == opening && (!s.released || t.cfg.FailClosed) {
		return s.answered, nil
	}
	return nil, nil
}

// openLocked makes a session; nil when there are too many whose streams are open.
func (t *Tracker) openLocked(x *exchange, item api.LeaseItem, now time.Time) *session {
	if len(t.sessions) >= t.cfg.MaxSessions && !t.makeRoomLocked() {
		return nil
	}
	s := &session{as: x.as, mcpID: x.mcpID, item: item, answered: make(chan struct{}), exchanges: map[*exchange]struct{}{},
		usedAt: now, activeAt: now}
	if s.mcpID == "" {
		s.day = now.UTC().Format(time.DateOnly)
	}
	if t.turnedAway.knows(s.as) { // its ids were ended by an operator: this is another session
		s.generation = maxGenerations
	}
	if t.away {
		s.release()
	}
	t.sessions[s.as] = s
	t.nameLocked(s)
	return s
}

// nameLocked gives the session an id and has it opened.
func (t *Tracker) nameLocked(s *session) {
	delete(t.ids, s.id)
	s.name()
	t.ids[s.id] = s
	s.state, s.refusal = opening, nil
	t.queueLocked(s)
}

// renameLocked opens the session anew under the next id, after the present one has ended.
func (t *Tracker) renameLocked(s *session) {
	s.generation++
	t.nameLocked(s)
}

// reopenLocked asks again for what was refused.
func (t *Tracker) reopenLocked(s *session) {
	s.answered, s.released = make(chan struct{}), false
	s.state, s.refusal = opening, nil
	t.queueLocked(s)
}

// makeRoomLocked forgets some session that has no request under way, if one of the few that it looks at has none. Rollcall keeps it
// until its lease ends, and it is found again under the same id when its client comes back.
func (t *Tracker) makeRoomLocked() bool {
	looked := 0
	for _, s := range t.sessions {
		if len(s.exchanges) == 0 {
			t.forgetLocked(s)
			return true
		}
		if looked++; looked == 64 {
			break
		}
	}
	return false
}

func (t *Tracker) forgetLocked(s *session) {
	delete(t.sessions, s.as)
	delete(t.ids, s.id)
	s.release()
}

func (t *Tracker) queueLocked(s *session) {
	if !s.queued {
		s.queued = true
		t.queue = append(t.queue, s)
	}
	t.wake()
}

func (t *Tracker) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// close ends a session as its client wants.
func (t *Tracker) close(as identity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sessions[as]
	if s == nil {
		return
	}
	t.forgetLocked(s)
	if len(t.gone) < maxGone {
		t.gone = append(t.gone, s.id)
	}
	t.wake()
}

// cutLocked returns the session's exchanges, which the caller stops once it has let go of the lock; f is what they answer.
func cutLocked(s *session, f *refusal) []*exchange {
	cut := slices.Collect(maps.Keys(s.exchanges))
	for _, x := range cut {
		x.cut = f
	}
	return cut
}

func stopAll(cut []*exchange) {
	for _, x := range cut {
		x.stop()
	}
}

// endedLocked does what an end that Rollcall told wants, and returns the exchanges to stop.
func (t *Tracker) endedLocked(s *session, reason api.EndReason, now time.Time) []*exchange {
	if reason == api.EndRevoked {
		t.revokedAt = now
	}
	switch {
	case reason.Reauthenticate():
		return t.cutOffLocked(s, now)
	case reason == api.EndApplicationPaused || reason == api.EndApplicationArchived:
		s.generation++
		delete(t.ids, s.id)
		s.name()
		t.ids[s.id] = s
		return t.refuseLocked(s, refusePaused, now)
	case reason == api.EndClientClosed: // at another process
		t.forgetLocked(s)
		return nil
	}
	if len(s.exchanges) > 0 || now.Sub(s.usedAt) < t.cfg.Lease {
		t.renameLocked(s)
	} else {
		t.forgetLocked(s)
	}
	return nil
}

// cutOffLocked ends a session as an operator wants: its credentials and its id are refused from now on.
func (t *Tracker) cutOffLocked(s *session, now time.Time) []*exchange {
	f := refuseSession
	for _, credential := range s.credentials {
		t.denied.add(credential, now.Add(denial))
		f = refuseRevoked
	}
	if s.mcpID != "" {
		t.deadIDs.add(s.mcpID, now.Add(denial))
	} else if len(s.credentials) == 0 {
		t.turnedAway.add(s.as, now.Add(t.cfg.Lease))
		f = refuseRevoked
	}
	t.forgetLocked(s)
	return cutLocked(s, f)
}

// refuseLocked ends the requests of a session that Rollcall does not take, and those that come before it is asked again.
func (t *Tracker) refuseLocked(s *session, f *refusal, now time.Time) []*exchange {
	s.state, s.refusal, s.retryAt = refused, f, now.Add(retryRefused)
	s.release()
	return cutLocked(s, f)
}

// tick forgets the sessions whose lease has ended and queues what Rollcall is to be told.
func (t *Tracker) tick(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sessions {
		if len(s.exchanges) > 0 {
			s.usedAt = now
		}
		silent := now.Sub(s.beatAt)
		switch {
		case now.Sub(s.usedAt) >= t.cfg.Lease:
			t.forgetLocked(s)
		case s.state == opening,
			s.state == open && s.activeAt.After(s.toldAct) && silent >= activityEvery,
			s.state == open && s.usedAt.After(s.toldUse) && silent >= t.cfg.Lease/3:
			t.queueLocked(s)
		}
	}
}
