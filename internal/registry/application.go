package registry

import (
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// organization is the unit of locking, because authorized sessions are counted over all its applications.
type organization struct {
	id     api.OrganizationID
	now    func() time.Time // Config.Now
	tuning tuning

	// Before mu, searching is taken by those who start to watch or ask the index, and walking by those who look at all rows. They
	// queue among themselves, so that a change waits for one of each at most, and they take two cores at most, however many come.
	searching, walking sync.Mutex

	mu sync.Mutex
	// authorized is the number of authorized rows in all applications.
	authorized int
	// applications has those that were set and those that are watched though they were never set.
	applications map[api.ApplicationID]*application
	// counting are the live queries that show authorized: those with Totals.
	counting map[*liveQuery]struct{}
	// wake are the channels to close once the lock is released.
	wake []chan struct{}
	feed *feed // the registry's
	// swaps is how many rosters are being swapped in, settled is closed when it becomes 0; nil when it is.
	swaps   int
	settled chan struct{}
	// locked is when mu was taken, longest the longest that it was held since anybody asked.
	locked  time.Time
	longest time.Duration
}

func (o *organization) lock() {
	o.mu.Lock()
	o.locked = o.now()
}

// unlock releases mu and wakes the watchers of live queries that the holder has marked.
func (o *organization) unlock() {
	wake := o.wake
	o.wake = nil
	o.longest = max(o.longest, o.now().Sub(o.locked))
	o.mu.Unlock()
	for _, ready := range wake {
		close(ready)
	}
}

func (o *organization) applicationLocked(id api.ApplicationID) *application {
	a := o.applications[id]
	if a == nil {
		a = &application{id: id, organization: o, rows: newRows(o.tuning)}
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
	rows           rows
	// entered counts the rows by the epoch under which they came in: few keys, so that SetApplication need not look at the rows.
	entered map[uint32]int
	// owned counts the rows of other nodes by owner.
	owned map[owner]int
	// idleAfter is after which time without activity a session is idle; 0 = nobody has said.
	idleAfter time.Duration
	// queries and finders have the same live queries; finders may have needles besides whose matches are counted.
	queries map[Query]*liveQuery
	finders []*finder
	kept    []*finder // those of finders that nobody uses, the one that was asked for last at the end
}

// change is one row's step: from no row (insertion), to no row (removal), or to another row of the same session and time.
type change struct{ from, to *entry }

// either returns an entry at the place in the order that the change is about.
func (c change) either() *entry {
	if c.to != nil {
		return c.to
	}
	return c.from
}

// insertLocked, replaceLocked and removeLocked make a change and tell the live queries that it may concern.
func (a *application) insertLocked(e *entry) {
	a.rows.insert(e)
	a.lastConnection = max(a.lastConnection, e.created)
	a.changedLocked(change{to: e})
}

// connectedLocked raises the last connection.
func (a *application) connectedLocked(at api.Millis) {
	if at <= a.lastConnection {
		return
	}
	a.lastConnection = at
	for _, q := range a.queries {
		q.checkLocked()
	}
}

func (a *application) replaceLocked(old place, e *entry) {
	a.rows.replace(old, e)
	a.changedLocked(change{from: old.entry, to: e})
}

func (a *application) removeLocked(p place) {
	a.rows.remove(p)
	a.changedLocked(change{from: p.entry})
}

func (a *application) changedLocked(c change) {
	o := a.organization
	authorized := o.authorized
	if c.to != nil {
		a.addLocked(c.to, 1)
	}
	if c.from != nil {
		a.addLocked(c.from, -1)
	}
	a.tellLocked(c)
	o.feed.changed(a, c)
	if o.authorized != authorized {
		for q := range o.counting {
			q.checkLocked()
		}
	}
}

func (a *application) addLocked(e *entry, n int) {
	if a.entered == nil {
		a.entered = map[uint32]int{}
	}
	if a.entered[e.epoch] += n; a.entered[e.epoch] == 0 {
		delete(a.entered, e.epoch)
	}
	if len(a.entered) == 0 {
		a.entered = nil // an emptied map would keep the memory of its best days
	}
	if e.authorized {
		a.organization.authorized += n
	}
	if e.owner != ownNode {
		a.ownLocked(e.owner, n)
	}
}

// findOwnLocked returns the place of a row of this node.
func (a *application) findOwnLocked(id api.ServerID) (place, bool) {
	_, session, ok := id.Split()
	if !ok {
		return place{}, false
	}
	p, ok := a.rows.find(session)
	return p, ok && p.owner == ownNode && p.serverID() == id
}

// staleLocked tells whether any row came in under an earlier epoch than the gate's.
func (a *application) staleLocked() bool {
	for epoch := range a.entered {
		if uint64(epoch) < a.gate.Epoch {
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
