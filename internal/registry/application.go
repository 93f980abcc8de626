package registry

import (
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/rollcallhq/rollcall/api"
)

// order is a counted B-tree of rows in list order. It is guarded by the organization's lock; a Copy of it (copy on write, a few
// hundred nanoseconds) is its taker's own, so that long scans need no lock.
type order = btree.BTreeG[*entry]

func newOrder() *order {
	return btree.NewBTreeGOptions((*entry).before, btree.Options{NoLocks: true})
}

// organization is the unit of locking, because authorized sessions are counted over all its applications.
type organization struct {
	id  api.OrganizationID
	now func() time.Time // Config.Now

	mu sync.Mutex
	// authorized is the number of authorized rows in all applications.
	authorized int
	// applications has those that were set and those that are watched though they were never set.
	applications map[api.ApplicationID]*application
	// counting are the live queries that show authorized: those with Totals.
	counting map[*liveQuery]struct{}
	// wake are the channels to close once the lock is released.
	wake []chan struct{}
}

// unlock releases mu and wakes the watchers of live queries that the holder has marked.
func (o *organization) unlock() {
	wake := o.wake
	o.wake = nil
	o.mu.Unlock()
	for _, ready := range wake {
		close(ready)
	}
}

func (o *organization) applicationLocked(id api.ApplicationID) *application {
	a := o.applications[id]
	if a == nil {
		a = &application{id: id, organization: o, order: newOrder()}
		o.applications[id] = a
	}
	return a
}

// application holds the rows of one application. Everything but the first two fields is guarded by the organization's lock.
type application struct {
	id           api.ApplicationID
	organization *organization

	gate           Gate
	lastConnection api.Millis // the maximum ever seen
	// order and sessions hold the same rows.
	order    *order
	sessions map[api.SessionID]*entry
	// entered counts the rows by the epoch under which they came in: few keys, so that SetApplication need not look at the rows.
	entered map[uint64]int
	queries map[Query]*liveQuery
}

// change is one row's step: from no row (insertion), to no row (removal), or to another row in the same place.
type change struct{ from, to *entry }

// place returns an entry at the place in the order that the change is about.
func (c change) place() *entry {
	if c.to != nil {
		return c.to
	}
	return c.from
}

// applyLocked makes the change and tells the live queries that it may concern.
func (a *application) applyLocked(c change) {
	o := a.organization
	authorized := o.authorized
	if a.sessions == nil {
		a.sessions, a.entered = map[api.SessionID]*entry{}, map[uint64]int{}
	}
	if c.to != nil {
		a.order.Set(c.to)
		a.sessions[c.to.row.Session] = c.to
		a.lastConnection = max(a.lastConnection, c.to.row.CreatedAt)
		a.countLocked(c.to, 1)
	} else {
		a.order.Delete(c.from)
		delete(a.sessions, c.from.row.Session)
	}
	if c.from != nil {
		a.countLocked(c.from, -1)
	}
	if len(a.sessions) == 0 {
		a.sessions, a.entered = nil, nil // an emptied map would keep the memory of its best days
	}
	for _, q := range a.queries {
		q.noteLocked(c)
	}
	if o.authorized != authorized {
		for q := range o.counting {
			q.checkLocked()
		}
	}
}

func (a *application) countLocked(e *entry, n int) {
	if a.entered[e.epoch] += n; a.entered[e.epoch] == 0 {
		delete(a.entered, e.epoch)
	}
	if e.row.Authorized {
		a.organization.authorized += n
	}
}

func (a *application) findLocked(id api.ServerID) *entry {
	_, session, ok := id.Split()
	if e := a.sessions[session]; ok && e != nil && e.row.ServerID == id {
		return e
	}
	return nil
}

// staleLocked tells whether any row came in under an earlier epoch than the gate's.
func (a *application) staleLocked() bool {
	for epoch := range a.entered {
		if epoch < a.gate.Epoch {
			return true
		}
	}
	return false
}

// sameLocked returns a live query that has the page that query asks for, if there is one that has been evaluated.
func (a *application) sameLocked(query Query) *liveQuery {
	for range 2 {
		if q := a.queries[query]; q != nil && q.building == nil {
			return q
		}
		query.Totals = !query.Totals
	}
	return nil
}
