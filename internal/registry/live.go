package registry

import (
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// liveQuery is a query that is watched, shared by all its watchers: evaluated once, its deltas encoded once. A change only marks
// it; the first watcher that is due evaluates it, by taking the page as it is now and comparing it with the page before, so that
// streams are exact by construction (G1) and cost what the page holds, not what happened (G2). Guarded by the organization's lock.
type liveQuery struct {
	Query
	application *application
	watchers    int

	// found has the matches of a search; nil without one, when the application's order itself is what matches.
	found *run
	// state is the page that was evaluated last, lastSeq the number of the newest state that anyone was given.
	state   *state
	lastSeq uint64
	// dirty says that state may not be the page any more. While it is false, state is exact.
	dirty bool
	// ready is closed when dirty becomes true; nil when nobody waits for that.
	ready chan struct{}
	pace  pace

	// building is closed when the first search, which runs without the lock, is over; nil from then on. Until then found and state
	// are nil, and missed has the changes of matching rows since the search saw the rows; nil while it has yet to.
	building chan struct{}
	missed   []change
}

// state is a page at one moment. It is immutable and shared, and all that a watcher holds.
type state struct {
	seq            uint64 // later states of a live query have higher numbers
	rows           []*entry
	lastConnection api.Millis
	counts         api.Counts

	// delta is the step from the state with number from.
	from  uint64
	delta *Delta
}

func (s *state) view(q *Query) api.View {
	return api.View{
		Counts:             s.counts,
		LastConnectionTime: s.lastConnection,
		Items:              show(s.rows),
		Page:               q.Page,
		PageSize:           q.PageSize,
	}
}

// startLocked makes the query live. Without a search it has its state at once; else the caller searches and calls foundLocked.
func (a *application) startLocked(query Query) *liveQuery {
	q := &liveQuery{Query: query, application: a, pace: pace{now: a.organization.now}}
	if a.queries == nil {
		a.queries = map[Query]*liveQuery{}
	}
	a.queries[query] = q
	a.enrolLocked(q)
	if query.Totals {
		if a.organization.counting == nil {
			a.organization.counting = map[*liveQuery]struct{}{}
		}
		a.organization.counting[q] = struct{}{}
	}
	if query.Search != "" {
		q.building = make(chan struct{})
	} else {
		q.state = q.lookLocked()
	}
	return q
}

// foundLocked completes a search that ran on a copy of the order.
func (q *liveQuery) foundLocked(found *run) {
	q.found = found
	for _, c := range q.missed {
		found.apply(c)
	}
	q.missed = nil
	q.state = q.lookLocked()
	o := q.application.organization
	o.wake = append(o.wake, q.building)
	q.building = nil
}

func (q *liveQuery) stopLocked() {
	a := q.application
	delete(a.queries, q.Query)
	a.withdrawLocked(q)
	if len(a.queries) == 0 {
		a.queries = nil
	}
	delete(a.organization.counting, q)
}

// noteLocked learns of a change that was made to the application, as it is among the rows that match: perhaps none.
func (q *liveQuery) noteLocked(c change) {
	concerned := c.from != nil || c.to != nil
	switch {
	case q.building != nil:
		if concerned && q.missed != nil {
			q.missed = append(q.missed, c)
		}
		return
	case concerned:
		if q.found != nil {
			q.found.apply(c)
		}
		if !q.dirty && q.showsLocked(c) {
			q.markLocked()
		}
	}
	q.checkLocked()
}

// showsLocked tells whether a change can show on the page, which state was until now: in it, or before it, so that rows slide.
func (q *liveQuery) showsLocked(c change) bool {
	rows := q.state.rows
	switch e := c.either(); {
	case len(rows) == q.PageSize && rows[len(rows)-1].before(e):
		return false
	case len(rows) == 0: // nothing, or a page past the end
		from, to := q.window(q.countLocked())
		return from < to
	case c.from != nil && c.to != nil: // it neither comes nor goes, so nothing slides
		return !e.before(rows[0]) && !c.from.showsLike(c.to)
	}
	return true
}

// checkLocked marks the query when a number that it shows is not what it was.
func (q *liveQuery) checkLocked() {
	if q.dirty || q.building != nil {
		return
	}
	if q.application.lastConnection != q.state.lastConnection || q.Totals && q.countsLocked() != q.state.counts {
		q.markLocked()
	}
}

func (q *liveQuery) markLocked() {
	q.dirty = true
	q.pace.changed()
	if q.ready != nil {
		o := q.application.organization
		o.wake = append(o.wake, q.ready)
		q.ready = nil
	}
}

// readyLocked returns a channel that is closed when the query becomes dirty.
func (q *liveQuery) readyLocked() <-chan struct{} {
	if q.ready == nil {
		q.ready = make(chan struct{})
	}
	return q.ready
}

// countLocked returns how many rows match.
func (q *liveQuery) countLocked() int {
	if q.found != nil {
		return q.found.count
	}
	return q.application.rows.count()
}

func (q *liveQuery) countsLocked() api.Counts {
	return api.Counts{
		Total:                  q.application.rows.count(),
		FilteredTotal:          q.countLocked(),
		AuthorizedSessionCount: q.application.organization.authorized,
	}
}

// lookLocked returns the page and its numbers as they are now, as a state of its own.
func (q *liveQuery) lookLocked() *state {
	q.lastSeq++
	s := &state{seq: q.lastSeq, lastConnection: q.application.lastConnection, counts: q.countsLocked()}
	if q.found != nil {
		s.rows = slices.Clone(q.found.page(q.application))
	} else {
		from, to := q.window(s.counts.Total)
		s.rows = stretch(q.application.rows.order, from, to)
	}
	return s
}

// evaluateLocked brings state up to now.
func (q *liveQuery) evaluateLocked(now time.Time) {
	next := q.lookLocked()
	d := diff(q.state, next, q.Totals)
	if d != nil {
		next.from, next.delta = q.state.seq, d
	} else {
		// The state is replaced all the same, because a watcher that enrolled since the last flush may have seen another page. Who
		// is one visible step behind still shares that step.
		next.from, next.delta = q.state.from, q.state.delta
	}
	q.pace.flushed(now, 2*d.rows() > q.PageSize)
	q.state, q.dirty = next, false
}

// stretch returns the rows of the ranks [from, to) of an order.
func stretch(o *order, from, to int) []*entry {
	if from >= to {
		return nil
	}
	rows := make([]*entry, 0, to-from)
	first, _ := o.GetAt(from)
	o.Ascend(first, func(p place) bool {
		rows = append(rows, p.entry)
		return len(rows) < to-from
	})
	return rows
}
