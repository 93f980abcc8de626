package mcp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

const (
	// Rollcall allows an API key 100 calls a second, unless it is told otherwise. Reports and calls that wait for ends have this much
	// each; what comes faster goes in larger batches.
	callsPerSecond = 40
	callBurst      = 40

	callTimeout = 10 * time.Second
	minPause    = 100 * time.Millisecond // after a call that failed
	maxPause    = 5 * time.Second
)

// Run reports the sessions to Rollcall, and ends what operators end, until ctx does. It returns nil once everything that it started
// has stopped. Sessions are not ended by it: they run on until their leases end, or another process goes on with them.
func (t *Tracker) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { t.verifier.keys.Run(ctx) })
	parts.Go(func() { t.keepTime(ctx) })
	parts.Go(func() { t.send(ctx) })
	parts.Go(func() { t.listen(ctx) })
	parts.Wait()
	return nil
}

// keepTime ends leases and has hearts beat, whether Rollcall answers or not.
func (t *Tracker) keepTime(ctx context.Context) {
	tick := time.NewTicker(min(t.cfg.Lease/6, activityEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.tick(time.Now())
		}
	}
}

// send reports what is queued, one call at a time.
func (t *Tracker) send(ctx context.Context) {
	calls := rate.NewLimiter(callsPerSecond, callBurst)
	pause := pauses{log: t, what: "sessions cannot be reported to Rollcall"}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.kick:
		}
		for t.hasWork() && calls.Wait(ctx) == nil {
			told, items := t.next(time.Now())
			if len(items) == 0 {
				break
			}
			err := t.tell(ctx, told, items)
			t.setAway(err != nil)
			if err != nil {
				t.requeue(told, items)
			}
			pause.after(ctx, err)
		}
	}
}

func (t *Tracker) hasWork() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)+len(t.gone) > 0
}

// next takes what is to be reported. told has the session of each item; nil for one that its client has ended.
func (t *Tracker) next(now time.Time) (told []*session, items []api.LeaseItem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.gone), api.MaxBatchItems)
	for _, id := range t.gone[:n] {
		told, items = append(told, nil), append(items, api.LeaseItem{Op: api.LeaseEnd, ID: id})
	}
	if t.gone = t.gone[n:]; len(t.gone) == 0 {
		t.gone = nil
	}
	for len(items) < api.MaxBatchItems && len(t.queue) > 0 {
		s := t.queue[0]
		t.queue[0] = nil
		t.queue = t.queue[1:]
		s.queued = false
		if t.ids[s.id] != s || s.state != opening && s.state != open {
			continue
		}
		told, items = append(told, s), append(items, t.itemLocked(s, now))
	}
	if len(t.queue) == 0 {
		t.queue = nil
	}
	return told, items
}

func (t *Tracker) itemLocked(s *session, now time.Time) api.LeaseItem {
	item := api.LeaseItem{Op: api.LeaseHeartbeat}
	if s.state == opening {
		item = s.item
	}
	item.ID = s.id
	if n := len(s.credentials); n > 0 {
		item.CredentialID = s.credentials[n-1]
	}
	active := api.Timestamp(api.MillisOf(s.activeAt))
	item.LastActiveAt = &active
	left := t.cfg.Lease
	if len(s.exchanges) == 0 {
		left -= now.Sub(s.usedAt)
	}
	item.LeaseSeconds = max(api.MinLeaseSeconds, int((left+time.Second-1)/time.Second))
	s.beatAt, s.toldUse, s.toldAct = now, s.usedAt, s.activeAt
	return item
}

// tell makes the call. A batch that is refused as a whole is told in halves, so that one item cannot keep the others from being told.
func (t *Tracker) tell(ctx context.Context, told []*session, items []api.LeaseItem) error {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := t.calls.Report(cctx, t.cfg.Application, api.LeaseBatch{Reporter: t.reporter, Items: items})
	if err == nil && len(reply.Results) != len(items) {
		err = errors.New("the answer does not have a result for each item")
	}
	if refusedWhole(err) {
		if half := len(items) / 2; half > 0 {
			return errors.Join(t.tell(ctx, told[:half], items[:half]), t.tell(ctx, told[half:], items[half:]))
		}
		t.cfg.Log.Warn("a session cannot be reported", "session", items[0].ID, "err", err)
		t.settle(told, items, []api.LeaseResult{{Error: &api.LeaseError{Code: api.CodeValidation}}})
		return nil
	}
	if err != nil {
		return err
	}
	t.settle(told, items, reply.Results)
	t.ended(reply.Ended)
	return nil
}

func refusedWhole(err error) bool {
	code := api.CodeOf(err)
	return code == api.CodeValidation || code == api.CodeBodyTooLarge
}

func (t *Tracker) requeue(told []*session, items []api.LeaseItem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range told {
		switch {
		case s == nil:
			if len(t.gone) < maxGone {
				t.gone = append(t.gone, items[i].ID)
			}
		case t.ids[items[i].ID] == s:
			t.queueLocked(s)
		}
	}
}

// setAway notes whether Rollcall answers. When it does not, nobody goes on waiting for it.
func (t *Tracker) setAway(away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if away && !t.away {
		for _, s := range t.sessions {
			s.release()
		}
	}
	t.away = away
}

// settle does what the results of a report want.
func (t *Tracker) settle(told []*session, items []api.LeaseItem, results []api.LeaseResult) {
	now := time.Now()
	t.mu.Lock()
	var cut []*exchange
	for i, result := range results {
		if s := told[i]; s != nil && t.ids[items[i].ID] == s {
			cut = append(cut, t.settleLocked(s, result, now)...)
		}
	}
	t.mu.Unlock()
	stopAll(cut)
}

func (t *Tracker) settleLocked(s *session, result api.LeaseResult, now time.Time) []*exchange {
	if result.OK {
		s.doubted = false
		if s.state == opening {
			s.state = open
		}
		s.release()
		return nil
	}
	var told api.LeaseError
	if result.Error != nil {
		told = *result.Error
	}
	switch told.Code {
	case api.CodeSessionEnded:
		return t.overLocked(s, told.Reason, now)
	case api.CodeSessionNotFound:
		s.state = opening
		t.queueLocked(s)
	case api.CodeTokenRevoked:
		if s.doubted || len(s.credentials) == 0 {
			s.doubted = false
			return t.cutOffLocked(s, now)
		}
		s.doubted = true
		t.queueLocked(s)
	case api.CodeConflict:
		t.renameLocked(s)
	case api.CodeQuotaExceeded:
		return t.refuseLocked(s, refuseQuota, now)
	case api.CodeApplicationPaused, api.CodeApplicationArchived:
		return t.refuseLocked(s, refusePaused, now)
	case api.CodeValidation:
		t.cfg.Log.Warn("a session cannot be reported", "session", s.id, "err", told.Message)
		s.state = unlisted
		s.release()
	default: // unavailable, and what is not known: the next tick tries again
		s.release()
	}
	return nil
}

// overLocked does what an answer wants that says that the session's id has ended.
func (t *Tracker) overLocked(s *session, reason api.EndReason, now time.Time) []*exchange {
	switch {
	case s.state != opening:
		return t.endedLocked(s, reason, now)
	case reason.Reauthenticate() && s.mcpID != "": // before this process knew it; its present token need not be one of then
		t.deadIDs.add(s.mcpID, now.Add(denial))
		t.forgetLocked(s)
		return cutLocked(s, refuseSession)
	case reason.Reauthenticate() && len(s.credentials) == 0:
		return t.cutOffLocked(s, now)
	}
	t.renameLocked(s)
	return nil
}

// listen keeps a call open that tells of ends.
func (t *Tracker) listen(ctx context.Context) {
	calls := rate.NewLimiter(callsPerSecond, callBurst)
	pause := pauses{log: t, what: "ends of sessions cannot be heard of"}
	for calls.Wait(ctx) == nil {
		cctx, cancel := context.WithTimeout(ctx, api.MaxBatchWait*time.Second+callTimeout)
		reply, err := t.calls.Report(cctx, t.cfg.Application, api.LeaseBatch{Reporter: t.reporter, WaitSeconds: api.MaxBatchWait})
		cancel()
		if err == nil {
			if pause.failing {
				t.doubtAll()
			}
			t.setAway(false)
			t.ended(reply.Ended)
		}
		pause.after(ctx, err)
	}
}

// doubtAll has every session reported: what ended while nobody could be told of it is told in the answers.
func (t *Tracker) doubtAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sessions {
		t.queueLocked(s)
	}
}

func (t *Tracker) ended(ends []api.LeaseEnded) {
	if len(ends) == 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	var cut []*exchange
	for _, e := range ends {
		if s := t.ids[e.ID]; s != nil {
			cut = append(cut, t.endedLocked(s, e.Reason, now)...)
		}
	}
	t.mu.Unlock()
	stopAll(cut)
}

// pauses spaces calls that fail, and logs when they begin to and when they are over.
type pauses struct {
	log     *Tracker
	what    string
	failing bool
	next    time.Duration
}

// after waits as the outcome of a call wants.
func (p *pauses) after(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if p.failing {
			p.log.cfg.Log.Info("Rollcall is back", "was", p.what)
		}
		p.failing, p.next = false, 0
		return
	}
	if !p.failing {
		p.log.cfg.Log.Warn(p.what, "err", err)
	}
	p.failing = true
	p.next = min(max(minPause, 2*p.next), maxPause)
	if told, ok := errors.AsType[*client.StatusError](err); ok {
		if told.Status == http.StatusUnauthorized || told.Status == http.StatusForbidden || told.Status == http.StatusNotFound {
			p.next = maxPause
		}
		p.next = max(p.next, min(told.Err.RetryAfter, 4*maxPause))
	}
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
