package registry

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// ChangeKind says what a RowChange does.
type ChangeKind uint8

// The kinds of changes.
const (
	RowSet    ChangeKind = 1 // the row is there, as given
	RowGone   ChangeKind = 2 // the row is not there any more; Row has its Organization, Application and Session
	RowActive ChangeKind = 3 // RowGone's fields and LastActiveAt, which is new
)

// RowChange is one step of a row, as its owner tells other nodes of it.
type RowChange struct {
	Kind  ChangeKind
	Epoch uint64 // of RowSet: under which the session came in
	Row   Row
}

// feedCap is how many changes wait to be taken; 24 MB.
const feedCap = 1 << 20

// feed collects the changes of this node's rows for other nodes, once Feed was called.
type feed struct {
	on    atomic.Bool
	ready chan struct{} // has a token when there is something to take, and perhaps when not

	mu      sync.Mutex
	pending []fed // in the order of the changes to each row
	lost    bool  // some are missing
}

type fed struct {
	application *application
	entry       *entry
	kind        ChangeKind
}

// Feed makes the registry collect the changes of this node's rows, and returns a channel that has a token when there are some for
// TakeChanges. Rows that were there before are in OwnRows alone.
func (r *Registry) Feed() <-chan struct{} {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	if r.feed.ready == nil {
		r.feed.ready = make(chan struct{}, 1)
	}
	r.feed.on.Store(true)
	return r.feed.ready
}

// TakeChanges returns up to limit changes of this node's rows, in the order in which each row changed; what it returned is in
// OwnRows. lost says that changes before these were given up, because nobody took them: only OwnRows knows the rows then.
func (r *Registry) TakeChanges(limit int) (changes []RowChange, lost bool) {
	f := &r.feed
	f.mu.Lock()
	taken := f.pending[:min(limit, len(f.pending))]
	f.pending = f.pending[len(taken):]
	if len(f.pending) == 0 {
		f.pending = nil
	} else {
		f.signalLocked()
	}
	lost, f.lost = f.lost, false
	f.mu.Unlock()

	changes = make([]RowChange, len(taken))
	for i, c := range taken {
		changes[i] = c.application.changeOf(c.kind, c.entry)
	}
	return changes, lost
}

func (a *application) changeOf(kind ChangeKind, e *entry) RowChange {
	if kind == RowSet {
		return RowChange{Kind: kind, Epoch: uint64(e.epoch), Row: a.value(e)}
	}
	return RowChange{Kind: kind, Row: Row{
		Organization: a.organization.id, Application: a.id, Session: e.session, LastActiveAt: api.Millis(e.active.Load()),
	}}
}

// changed notes a change, if it is one of this node's rows. The organization's lock is held, so that those of one row are noted in
// their order.
func (f *feed) changed(a *application, c change) {
	switch {
	case c.to != nil && c.to.owner == ownNode:
		f.add(fed{a, c.to, RowSet})
	case c.from != nil && c.from.owner == ownNode:
		f.add(fed{a, c.from, RowGone})
	}
}

func (f *feed) add(c fed) {
	if !f.on.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) >= feedCap {
		f.pending, f.lost = nil, true
	}
	f.pending = append(f.pending, c)
	f.signalLocked()
}

func (f *feed) signalLocked() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// The lag of activity on other nodes (page 2 of the specification).
const (
	defaultIdleAfter = 5 * time.Minute
	minActivityLag   = 15 * time.Second
)

// SetIdleAfter says when the sessions of an application are idle, which decides when other nodes hear of activity: at once when a
// session leaves idle, else at most every max(15 s, idleAfter/10). Until then it is 5 minutes. An unknown application stays unknown.
func (r *Registry) SetIdleAfter(app api.ApplicationID, idleAfter time.Duration) {
	if a := r.lock(app); a != nil {
		defer a.organization.unlock()
		a.idleAfter = idleAfter
	}
}

// touchLocked records activity of a row of this node. Time is cut by a grid, whose phase each session has of its own, and the first
// activity in a cell is told to others: that bounds the lag, and nothing need be kept of what was told.
func (a *application) touchLocked(e *entry, at api.Millis) {
	before := e.active.Load()
	if int64(at) <= before {
		return
	}
	e.active.Store(int64(at))
	idleAfter := a.idleAfter
	if idleAfter == 0 {
		idleAfter = defaultIdleAfter
	}
	lag := max(minActivityLag, idleAfter/10).Milliseconds()
	phase := int64(binary.BigEndian.Uint64(e.session[8:]) % uint64(lag))
	if int64(at)-before >= idleAfter.Milliseconds() || (int64(at)+phase)/lag != (before+phase)/lag {
		a.organization.feed.add(fed{a, e, RowActive})
	}
}

// RosterPosition is a place in the roster of this node; the zero value is its beginning.
type RosterPosition struct {
	Application api.ApplicationID
	After       api.Position // "" in ServerID: from the application's first row
}

// OwnRows returns up to limit rows of this node after the position, as sets, and where to go on; more is false when there are none
// after them. A row that is there during all of a walk is in it exactly once.
func (r *Registry) OwnRows(after RosterPosition, limit int) (rows []RowChange, next RosterPosition, more bool) {
	r.mu.RLock()
	ids := make([]api.ApplicationID, 0, len(r.applications))
	for id := range r.applications {
		if id.Compare(after.Application) >= 0 {
			ids = append(ids, id)
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(ids, api.ApplicationID.Compare)
	next = after
	for _, id := range ids {
		a, all := r.copyOrder(id)
		start := 0
		if id == after.Application && after.After.ServerID != "" {
			start = rankAfter(all, after.After)
		}
		first, _ := all.GetAt(start)
		if first.entry == nil {
			continue
		}
		all.Ascend(first, func(p place) bool {
			switch {
			case p.owner != ownNode:
			case len(rows) == limit:
				more = true
			default:
				rows = append(rows, a.changeOf(RowSet, p.entry))
			}
			return !more
		})
		if more {
			break
		}
	}
	if len(rows) > 0 {
		last := &rows[len(rows)-1].Row
		next = RosterPosition{last.Application, api.Position{CreatedAt: last.CreatedAt, ServerID: last.ServerID}}
	}
	return rows, next, more
}
