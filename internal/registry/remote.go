package registry

import (
	"slices"
	"sync"

	"github.com/rollcallhq/rollcall/api"
)

// owner is the number of a node in owners.
type owner uint16

// ownNode is the owner of this node's rows.
const ownNode owner = 0

// owners numbers the nodes that own rows. A number is free again once its node was dropped.
type owners struct {
	mu      sync.RWMutex
	names   []string // by number; "" for one that is free
	numbers map[string]owner
}

func newOwners(self string) owners { return owners{names: []string{self}, numbers: map[string]owner{}} }

func (o *owners) number(node string) owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n, known := o.numbers[node]; known {
		return n
	}
	n := 1 + slices.Index(o.names[1:], "")
	if n == 0 {
		n = len(o.names) // which memory bounds long before the type does: names are those of nodes that live
		o.names = append(o.names, "")
	}
	o.names[n], o.numbers[node] = node, owner(n)
	return owner(n)
}

func (o *owners) free(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n, known := o.numbers[node]; known {
		o.names[n] = ""
		delete(o.numbers, node)
	}
}

func (o *owners) name(n owner) string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.names[n]
}

// Owner returns the name of the node that owns a live session, and whether that is this node; false when there is no such row.
func (r *Registry) Owner(app api.ApplicationID, id api.ServerID) (node string, own, there bool) {
	_, session, ok := id.Split()
	a := r.lock(app)
	if a == nil {
		return "", false, false
	}
	defer a.organization.unlock()
	p, found := a.rows.find(session)
	if !ok || !found || p.serverID() != id {
		return "", false, false
	}
	return r.owners.name(p.owner), p.owner == ownNode, true
}

// ownLocked counts a row of another node.
func (a *application) ownLocked(of owner, n int) {
	if a.owned == nil {
		a.owned = map[owner]int{}
	}
	if a.owned[of] += n; a.owned[of] == 0 {
		delete(a.owned, of)
	}
	if len(a.owned) == 0 {
		a.owned = nil
	}
}

// outranks decides which of two claims to one session holds, alike on every node: the later adoption, else the older row, else the
// lesser server id.
func (e *entry) outranks(other *entry) bool {
	switch {
	case e.adopted != other.adopted:
		return e.adopted > other.adopted
	case e.created != other.created:
		return e.created < other.created
	}
	return e.serverID() < other.serverID()
}

// same tells whether nothing but the last activity differs.
func (e *entry) same(other *entry) bool {
	return e.showsLike(other) && e.epoch == other.epoch && e.adopted == other.adopted && e.kind == other.kind &&
		e.credential == other.credential && e.expires == other.expires && e.authorized == other.authorized && e.owner == other.owner
}

// putLocked puts an entry into the place of old, or in when there is none.
func (a *application) putLocked(old place, e *entry) {
	switch {
	case old.entry == nil:
		a.insertLocked(e)
	case old.created == e.created && old.text(textNode) == e.text(textNode):
		a.replaceLocked(old, e)
	default:
		a.removeLocked(old)
		a.insertLocked(e)
	}
}

// setLocked puts in what another node says of one of its rows, and returns this node's row of the same session when that had to give
// way. A session that came in under an earlier epoch than the gate's is as good as ended (G4).
func (a *application) setLocked(e *entry) (lost *entry) {
	old, there := a.rows.find(e.session)
	switch {
	case uint64(e.epoch) < a.gate.Epoch:
		if there && old.owner == e.owner {
			a.removeLocked(old)
		}
	case there && old.owner != e.owner && !e.outranks(old.entry):
	case there && old.same(e):
		old.active.Store(e.active.Load())
	default:
		if there && old.owner == ownNode {
			lost = old.entry
		}
		a.putLocked(old, e)
	}
	return lost
}

// followLocked makes one change of another node's row.
func (a *application) followLocked(of owner, kind ChangeKind, session api.SessionID, active api.Millis) {
	p, there := a.rows.find(session)
	switch {
	case !there || p.owner != of:
	case kind == RowGone:
		a.removeLocked(p)
	case kind == RowActive:
		p.active.Store(max(p.active.Load(), int64(active)))
	}
}

// lockFor returns the application of another node's row with its organization locked; nil, and nothing locked, when this node knows
// it in another organization. The application need not have been set yet: the other node may have heard of it first.
func (r *Registry) lockFor(org api.OrganizationID, app api.ApplicationID) *application {
	if a := r.lock(app); a != nil {
		if a.organization.id == org {
			return a
		}
		a.organization.unlock()
		return nil
	}
	o := r.organization(org)
	o.lock()
	return o.applicationLocked(app)
}

// pack makes the entry of another node's row; nil for one that is not well formed.
func pack(c *RowChange) *entry {
	if node, session, ok := c.Row.ServerID.Split(); !ok || node == "" || session != c.Row.Session {
		return nil
	}
	e, err := newEntry(&c.Row, c.Epoch, nil)
	if err != nil {
		return nil
	}
	return e
}

// lockedSteps is how many rows of other nodes change under one hold of an organization's lock, so that others wait for a
// millisecond.
const lockedSteps = 128

// Follow makes changes that another node made to its rows, in their order, and returns the rows of this node that had to give way
// because the other has adopted the session. Calls for one node must not overlap.
func (r *Registry) Follow(node string, changes []RowChange) (lost []Row) {
	of := r.owners.number(node)
	entries := make([]*entry, len(changes)) // packed before anything is locked
	for i := range changes {
		if changes[i].Kind == RowSet {
			if entries[i] = pack(&changes[i]); entries[i] != nil {
				entries[i].owner = of
			}
		}
	}
	var a *application
	held := 0
	for i := range changes {
		c, e := &changes[i], entries[i]
		if e == nil && c.Kind == RowSet {
			continue
		}
		if a == nil || a.id != c.Row.Application || held >= lockedSteps {
			if a != nil {
				a.organization.unlock()
			}
			if a, held = r.lockFor(c.Row.Organization, c.Row.Application), 0; a == nil {
				continue
			}
		}
		held++
		if e == nil {
			a.followLocked(of, c.Kind, c.Row.Session, c.Row.LastActiveAt)
		} else if gone := a.setLocked(e); gone != nil {
			lost = append(lost, a.value(gone))
		}
	}
	if a != nil {
		a.organization.unlock()
	}
	return lost
}

// Drop takes out all rows of another node, as one step: see Swap.
func (r *Registry) Drop(node string) {
	r.Swap(NewRoster(node))
	r.owners.free(node)
}

// Roster is the rows of another node, as they are being pulled. It belongs to one caller.
type Roster struct {
	node         string
	applications map[api.ApplicationID]*rosterRows
}

// rosterRows are the rows of one application, in the order in which they came, which is nearly that of lists.
type rosterRows struct {
	organization api.OrganizationID
	rows         []*entry // nil for one that is gone
	at           map[api.SessionID]int
	active       map[api.SessionID]api.Millis // activity of rows that no page has told of yet; nil = none
}

// NewRoster returns an empty roster of another node.
func NewRoster(node string) *Roster {
	return &Roster{node: node, applications: map[api.ApplicationID]*rosterRows{}}
}

func (s *Roster) of(row *Row) *rosterRows {
	a := s.applications[row.Application]
	if a == nil {
		a = &rosterRows{organization: row.Organization, at: map[api.SessionID]int{}}
		s.applications[row.Application] = a
	}
	return a
}

// Add puts in a page of the owner's snapshot. A row of which a change has told already stays as that said.
func (s *Roster) Add(page []RowChange) {
	for i := range page {
		c := &page[i]
		a := s.of(&c.Row)
		if _, told := a.at[c.Row.Session]; told || c.Kind != RowSet {
			continue
		}
		if e := pack(c); e != nil {
			e.active.Store(max(e.active.Load(), int64(a.active[c.Row.Session])))
			a.put(c.Row.Session, e)
		}
	}
}

// Follow makes changes that the owner made after its snapshot was begun.
func (s *Roster) Follow(changes []RowChange) {
	for i := range changes {
		c := &changes[i]
		a := s.of(&c.Row)
		switch c.Kind {
		case RowSet:
			if e := pack(c); e != nil {
				a.put(c.Row.Session, e)
			}
		case RowGone:
			a.put(c.Row.Session, nil)
		case RowActive:
			if n, told := a.at[c.Row.Session]; !told {
				if a.active == nil {
					a.active = map[api.SessionID]api.Millis{}
				}
				a.active[c.Row.Session] = max(a.active[c.Row.Session], c.Row.LastActiveAt)
			} else if e := a.rows[n]; e != nil {
				e.active.Store(max(e.active.Load(), int64(c.Row.LastActiveAt)))
			}
		}
	}
}

func (a *rosterRows) put(session api.SessionID, e *entry) {
	if n, there := a.at[session]; there {
		a.rows[n] = e
		return
	}
	a.at[session] = len(a.rows)
	a.rows = append(a.rows, e)
}

// has tells whether the roster has the session's row.
func (a *rosterRows) has(session api.SessionID) bool {
	if a == nil {
		return false
	}
	n, there := a.at[session]
	return there && a.rows[n] != nil
}

// Swap puts a roster in the place of the rows that its node owned here, by changing what differs, and returns what Follow returns.
// Streams see it as one step an organization: none is flushed until all of it is in. Calls, lists among them, wait for a hundred
// rows at most, so a list that is taken meanwhile may have a part of a larger swap. The roster must not be used again. What comes
// is not indexed; see BuildIndexes.
func (r *Registry) Swap(roster *Roster) (lost []Row) {
	of := r.owners.number(roster.node)
	begun := map[*organization]struct{}{}
	begin := func(o *organization) {
		if _, has := begun[o]; !has {
			begun[o] = struct{}{}
			o.lock()
			o.beginSwapLocked()
			o.unlock()
		}
	}
	for _, o := range r.all() {
		for _, a := range o.owning(of) {
			begin(o)
			a.leave(of, roster.applications[a.id])
		}
	}
	for app, rows := range roster.applications {
		begin(r.organization(rows.organization))
		r.lazily(rows.organization, app, 1)
		for part := range slices.Chunk(rows.rows, lockedSteps) {
			a := r.lockFor(rows.organization, app)
			if a == nil {
				break
			}
			for _, e := range part {
				if e == nil {
					continue
				}
				e.owner = of
				if gone := a.setLocked(e); gone != nil {
					lost = append(lost, a.value(gone))
				}
			}
			a.organization.unlock()
		}
		r.lazily(rows.organization, app, -1)
	}
	for o := range begun {
		o.lock()
		o.endSwapLocked()
		o.unlock()
	}
	return lost
}

// all returns the organizations.
func (r *Registry) all() []*organization {
	r.mu.RLock()
	defer r.mu.RUnlock()
	organizations := make([]*organization, 0, len(r.organizations))
	for _, o := range r.organizations {
		organizations = append(organizations, o)
	}
	return organizations
}

// lazily has the rows of an application that come put off for BuildIndexes, or no more so.
func (r *Registry) lazily(org api.OrganizationID, app api.ApplicationID, n int) {
	if a := r.lockFor(org, app); a != nil {
		a.rows.slots.lazy += n
		a.organization.unlock()
	}
}

// BuildIndexes puts the rows that Swap brought into the indexes. Until then searches are right, and look at rows one by one.
func (r *Registry) BuildIndexes() {
	for _, o := range r.all() {
		o.lock()
		applications := make([]*application, 0, len(o.applications))
		for _, a := range o.applications {
			applications = append(applications, a)
		}
		o.unlock()
		for _, a := range applications {
			for done := false; !done; {
				o.lock()
				done = !a.rows.slots.takeIn(16 * intakeStep)
				o.unlock()
			}
		}
	}
}

// owning returns the applications in which the owner has rows.
func (o *organization) owning(of owner) (applications []*application) {
	o.lock()
	defer o.unlock()
	for _, a := range o.applications {
		if a.owned[of] > 0 {
			applications = append(applications, a)
		}
	}
	return applications
}

// leave takes out the rows of an owner that are not in its roster.
func (a *application) leave(of owner, roster *rosterRows) {
	o := a.organization
	o.lock()
	all := a.rows.order.Copy()
	o.unlock()
	var gone []api.SessionID
	all.Scan(func(p place) bool {
		if p.owner == of && !roster.has(p.session) {
			gone = append(gone, p.session)
		}
		return true
	})
	for part := range slices.Chunk(gone, lockedSteps) {
		o.lock()
		for _, session := range part {
			a.followLocked(of, RowGone, session, 0)
		}
		o.unlock()
	}
}

func (o *organization) beginSwapLocked() {
	if o.swaps++; o.swaps == 1 {
		o.settled = make(chan struct{})
	}
}

func (o *organization) endSwapLocked() {
	if o.swaps--; o.swaps == 0 {
		o.wake = append(o.wake, o.settled)
		o.settled = nil
	}
}
