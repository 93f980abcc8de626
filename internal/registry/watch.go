package registry

import (
	"context"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Delta is one flush: the difference between two states of a page. Watchers of one query share it; it must not be written to.
type Delta struct {
	Removed        []api.ServerID
	Added          []api.Row // newest first
	Updated        []api.Row
	LastConnection *api.Millis // nil = unchanged
	Counts         *api.Counts // nil = unchanged, or not asked for

	once    sync.Once
	encoded []byte
}

// Encoded returns the delta's wire form, which encode makes once for all watchers of the query. encode must not depend on the
// watcher, and the result must not be written to.
func (d *Delta) Encoded(encode func(*Delta) []byte) []byte {
	d.once.Do(func() { d.encoded = encode(d) })
	return d.encoded
}

// diff returns the step from one state to a later one; nil when they show the same.
func diff(from, to *state, totals bool) *Delta {
	d := &Delta{}
	var added, updated []*entry
	o, n := from.rows, to.rows
	for len(o) > 0 || len(n) > 0 {
		switch {
		case len(n) == 0 || len(o) > 0 && o[0].before(n[0]):
			d.Removed = append(d.Removed, o[0].serverID())
			o = o[1:]
		case len(o) == 0 || n[0].before(o[0]):
			added = append(added, n[0])
			n = n[1:]
		default:
			if !o[0].showsLike(n[0]) {
				updated = append(updated, n[0])
			}
			o, n = o[1:], n[1:]
		}
	}
	if added != nil {
		d.Added = show(added)
	}
	if updated != nil {
		d.Updated = show(updated)
	}
	if from.lastConnection != to.lastConnection {
		d.LastConnection = &to.lastConnection
	}
	if totals && from.counts != to.counts {
		d.Counts = &to.counts
	}
	if d.rows() == 0 && d.LastConnection == nil && d.Counts == nil {
		return nil
	}
	return d
}

// rows returns how many places of the page the step changes.
func (d *Delta) rows() int {
	if d == nil {
		return 0
	}
	return max(len(d.Removed), len(d.Added)) + len(d.Updated)
}

// The bounds of the pause between two flushes of a live query (G2).
const (
	minPause = 50 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// pace spaces the flushes of one live query, so that all its watchers share them.
type pace struct {
	now   func() time.Time
	pause time.Duration
	next  time.Time // when the next flush may be
	quiet bool      // the first change since the last flush came after next
}

// changed notes the first change since the last flush.
func (p *pace) changed() { p.quiet = !p.now().Before(p.next) }

// flushed notes a flush. The pause doubles as long as flushes change most of the page, and halves when they do not.
func (p *pace) flushed(now time.Time, most bool) {
	switch {
	case p.quiet:
		p.pause = minPause
	case most:
		p.pause = min(2*p.pause, maxPause)
	default:
		p.pause = max(p.pause/2, minPause)
	}
	p.next = now.Add(p.pause)
}

// Watch is one watcher of a live query. Next may be called by one goroutine at a time; Close by any.
type Watch struct {
	query *liveQuery
	// given is the state that the watcher was last given. It is written under the organization's lock.
	given *state
	// closed is closed, and done set, by Close; done is guarded by the organization's lock.
	closed chan struct{}
	done   bool
}

// Next blocks until the page differs from what this watcher has, paced as G2 says, and returns the one step to it. A watcher that
// comes late gets one larger step. It returns ctx's error, or ErrGone after Close.
func (w *Watch) Next(ctx context.Context) (*Delta, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, pending, err := w.step(true)
		if d != nil || err != nil {
			return d, err
		}
		if err := pending.wait(ctx, w.closed); err != nil {
			return nil, err
		}
	}
}

// Poll is Next without waiting and without pacing: nil when the page is what this watcher has.
func (w *Watch) Poll() *Delta {
	d, _, _ := w.step(false)
	return d
}

// Close ends the watch. Idempotent.
func (w *Watch) Close() {
	q := w.query
	o := q.application.organization
	o.lock()
	defer o.unlock()
	if w.done {
		return
	}
	w.done = true
	close(w.closed)
	if q.watchers--; q.watchers == 0 {
		q.stopLocked()
	}
}

// step gives the watcher the newest state and returns the delta to it, or what to wait for.
func (w *Watch) step(paced bool) (*Delta, pending, error) {
	q := w.query
	from, to, pending, err := w.advance(paced)
	switch {
	case err != nil || from == to:
		return nil, pending, err
	case to.from == from.seq:
		return to.delta, pending, nil
	}
	return diff(from, to, q.Totals), pending, nil
}

// advance brings the live query up to now, if that is due, and the watcher to the live query's state.
func (w *Watch) advance(paced bool) (from, to *state, next pending, err error) {
	q := w.query
	o := q.application.organization
	o.lock()
	defer o.unlock()
	if w.done {
		return nil, nil, pending{}, ErrGone
	}
	switch {
	case q.dirty && paced && o.settled != nil:
		next.ready = o.settled // a swap is one step
	case q.dirty:
		now := q.pace.now()
		if !paced || !now.Before(q.pace.next) {
			q.evaluateLocked(now)
		} else {
			next.pause = q.pace.next.Sub(now)
		}
	}
	if next.pause == 0 && next.ready == nil {
		next.ready = q.readyLocked()
	}
	from, to = w.given, w.given
	if q.state.seq > w.given.seq { // a watcher that enrolled since the last flush is ahead of it
		w.given, to = q.state, q.state
	}
	return from, to, next, nil
}

// pending is what stands between a watcher and its next step: a pause, or else a change.
type pending struct {
	pause time.Duration
	ready <-chan struct{}
}

func (p pending) wait(ctx context.Context, closed <-chan struct{}) error {
	var due <-chan time.Time
	if p.ready == nil {
		timer := time.NewTimer(p.pause)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return ErrGone
	case <-p.ready:
	case <-due:
	}
	return nil
}
