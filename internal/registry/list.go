package registry

import (
	"sort"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// List returns the page that q asks for; Items is never nil. An application that was never set is empty. A search that is not
// being watched asks the index under the lock, and looks at rows without it, as they were at the call.
func (r *Registry) List(query Query) api.View {
	q := &liveQuery{Query: query.normalized()}
	o := r.organization(q.Organization)
	o.lock()
	if q.application = o.applications[q.Application]; q.application == nil {
		q.application = &application{organization: o, rows: newRows(o.tuning)}
	}
	if live := q.application.sameLocked(q.Query); live != nil {
		q = live
	}
	if q.Search == "" || q.found != nil {
		s := q.lookLocked()
		o.unlock()
		return s.view(&q.Query)
	}
	o.unlock()

	l := q.search(0)
	l.then.rows, l.then.counts.FilteredTotal = l.found.rows, l.found.count
	return l.then.view(&q.Query)
}

// look is a search that is under way.
type look struct {
	*search
	found  *run
	then   *state  // the numbers of the moment from which the search sees the rows, but for those that it finds
	finder *finder // that awaits how many match; nil for none
}

// search searches without the lock.
func (q *liveQuery) search(margin int) *look {
	a := q.application
	o := a.organization
	lane := &o.searching
	lane.Lock()
	l := q.prepare(margin, false)
	if l == nil {
		lane.Unlock()
		lane = &o.walking
		lane.Lock()
		l = q.prepare(margin, true) // now, lest all who wait hold on to what they are to look at, and to what they missed since
	}
	defer lane.Unlock()
	l.found.look(l.search)
	if l.finder != nil {
		o.lock()
		a.countedLocked(l.finder, l.found.count)
		o.unlock()
	}
	return l
}

// prepare returns what search needs, and has changes noted from then on; nil for a long walk, unless that is due.
func (q *liveQuery) prepare(margin int, long bool) *look {
	a := q.application
	a.organization.lock()
	defer a.organization.unlock()
	l := &look{found: &run{query: &q.Query, margin: margin, count: a.countLocked(&q.Query)}}
	l.search = a.searchLocked(l.found)
	if l.few == nil {
		if !long && l.found.effort(l.all.Len()) > a.organization.tuning.long {
			return nil
		}
		l.all = l.all.Copy()
		if l.found.count < 0 && l.hits != nil {
			l.finder = a.countingLocked(&q.Query)
		}
	}
	q.missed = []change{}
	l.then = &state{lastConnection: a.lastConnection, counts: q.countsLocked()}
	return l
}

// Watch starts to watch q: the view is what List returns, taken in one atomic step with the enrolment. The first watcher of a
// search scans without the lock and then catches up; others of the same query wait for it.
func (r *Registry) Watch(query Query) (api.View, *Watch) {
	query = query.normalized()
	o := r.organization(query.Organization)
	o.searching.Lock()
	o.lock()
	o.searching.Unlock()
	a := o.applicationLocked(query.Application)
	q := a.queries[query]
	if q == nil {
		q = a.startLocked(query)
		if q.building != nil {
			o.unlock()
			found := q.search(o.tuning.margin).found
			o.lock()
			q.foundLocked(found)
		}
	}
	q.watchers++
	for q.building != nil {
		building := q.building
		o.unlock()
		<-building
		o.lock()
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
	a, all := r.copyOrder(app)
	if all == nil || limit <= 0 {
		return nil
	}
	start := 0
	if after != nil {
		start = rankAfter(all, *after)
	}
	rows := make([]Row, 0, min(limit, all.Len()-start))
	first, _ := all.GetAt(start)
	if first.entry == nil {
		return rows
	}
	all.Ascend(first, func(p place) bool {
		if which.includes(p.expires, now) {
			rows = append(rows, a.value(p.entry))
		}
		return len(rows) < limit
	})
	return rows
}

// rankAfter returns the rank of the first row after a position.
func rankAfter(all *order, after api.Position) int {
	return sort.Search(all.Len(), func(i int) bool {
		p, _ := all.GetAt(i)
		return p.created < after.CreatedAt || p.created == after.CreatedAt && p.serverID() < after.ServerID
	})
}

// Counts counts an application's live rows by derived status at now; the rest of live are expired.
func (r *Registry) Counts(app api.ApplicationID, now api.Millis, idleAfter time.Duration) (live, active, idle int) {
	_, all := r.copyOrder(app)
	if all == nil {
		return 0, 0, 0
	}
	all.Scan(func(p place) bool {
		switch p.derived(now, idleAfter) {
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

// copyOrder returns the application and its rows as they are now, to be scanned without the lock; nil for one that was never set.
func (r *Registry) copyOrder(app api.ApplicationID) (*application, *order) {
	a := r.lock(app)
	if a == nil {
		return nil, nil
	}
	defer a.organization.unlock()
	return a, a.rows.order.Copy()
}
