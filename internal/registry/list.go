package registry

import (
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// List returns the page that q asks for; Items is never nil. An application that was never set is empty. A search that is not
// being watched scans the application's rows as they were at the call.
func (r *Registry) List(query Query) api.View {
	q := &liveQuery{Query: query.normalized()}
	o := r.organization(q.Organization)
	o.mu.Lock()
	if q.application = o.applications[q.Application]; q.application == nil {
		q.application = &application{organization: o, order: newOrder()}
	}
	if live := q.application.sameLocked(q.Query); live != nil {
		q = live
	}
	if q.Search == "" || q.found != nil {
		s := q.lookLocked()
		o.unlock()
		return s.view(&q.Query)
	}
	s := &state{lastConnection: q.application.lastConnection, counts: q.countsLocked()}
	rows := q.application.order.Copy()
	o.unlock()

	found := newRun(&q.Query, rows, 0)
	s.rows, s.counts.FilteredTotal = found.page(rows), found.count
	return s.view(&q.Query)
}

// Watch starts to watch q: the view is what List returns, taken in one atomic step with the enrolment. The first watcher of a
// search scans without the lock and then catches up; others of the same query wait for it.
func (r *Registry) Watch(query Query) (api.View, *Watch) {
	query = query.normalized()
	o := r.organization(query.Organization)
	o.mu.Lock()
	a := o.applicationLocked(query.Application)
	q := a.queries[query]
	if q == nil {
		q = a.startLocked(query)
		if q.building != nil {
			rows := a.order.Copy()
			o.unlock()
			found := newRun(&q.Query, rows, r.margin)
			o.mu.Lock()
			q.foundLocked(found)
		}
	}
	q.watchers++
	for q.building != nil {
		building := q.building
		o.unlock()
		<-building
		o.mu.Lock()
	}
	w := &Watch{query: q, given: q.state, closed: make(chan struct{})}
	if q.dirty {
		w.given = q.lookLocked() // not as a new state for all: who watches already waits for its pace
	}
	s := *w.given
	s.counts = q.countsLocked() // which a state without Totals does not follow
	o.unlock()
	return s.view(&q.Query), w
}

// Range tells which sessions of an application Sessions returns, by token expiry.
type Range uint8

// The values of Range.
const (
	RangeAll     Range = 0
	RangeCurrent Range = 1 // not expired
	RangeExpired Range = 2
)

// includes tells whether the range has a session whose token expires at expiresAt.
func (which Range) includes(expiresAt, now api.Millis) bool {
	expired := expiresAt != 0 && expiresAt <= now
	return which == RangeAll || expired == (which == RangeExpired)
}

// Sessions returns up to limit rows after the position (nil = from the newest), in list order.
func (r *Registry) Sessions(app api.ApplicationID, after *api.Position, limit int, which Range, now api.Millis) []Row {
	all := r.copyOrder(app)
	if all == nil || limit <= 0 {
		return nil
	}
	rows := make([]Row, 0, min(limit, all.Len()))
	take := func(e *entry) bool {
		if which.includes(e.row.TokenExpiresAt, now) {
			rows = append(rows, e.value())
		}
		return len(rows) < limit
	}
	if after == nil {
		all.Scan(take)
		return rows
	}
	pivot := &entry{row: Row{CreatedAt: after.CreatedAt, ServerID: after.ServerID}}
	all.Ascend(pivot, func(e *entry) bool {
		return !pivot.before(e) || take(e)
	})
	return rows
}

// Counts counts an application's live rows by derived status at now; the rest of live are expired.
func (r *Registry) Counts(app api.ApplicationID, now api.Millis, idleAfter time.Duration) (live, active, idle int) {
	all := r.copyOrder(app)
	if all == nil {
		return 0, 0, 0
	}
	all.Scan(func(e *entry) bool {
		switch e.derived(now, idleAfter) {
		case api.DerivedActive:
			active++
		case api.DerivedIdle:
			idle++
		default: // expired
		}
		return true
	})
	return all.Len(), active, idle
}

// copyOrder returns the application's rows as they are now, to be scanned without the lock; nil for one that was never set.
func (r *Registry) copyOrder(app api.ApplicationID) *order {
	a := r.lock(app)
	if a == nil {
		return nil
	}
	defer a.organization.unlock()
	return a.order.Copy()
}
