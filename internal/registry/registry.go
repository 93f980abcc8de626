// Package registry is the deep core: the rows of every live session that this node knows, in list order, with search, page and
// live queries. It owns what lists, streams, limits and revocation need of a session; details live in the record (package store).
//
// It promises: an insert, update or removal is visible to every list and stream before the call returns; a watcher that starts
// from its snapshot and applies every Delta holds exactly the page that List returns at that moment (G1); a watcher costs at most
// the page that it was last sent (G2); Insert and Update check revocation, state and quota under the lock with which
// SetApplication raises the epoch and collects the rows (G4). One lock an organization; no lock is held across I/O or a call out of
// the package, and long scans run on a copy without it. All methods are safe for concurrent use. No network, no SQL, no clock but
// the one that it is given.
//
// How it works: a row is one object without pointers. An application's rows are a counted B-tree in list order, so that any page is
// a seek. In a large application every row is in an index of the parts of its texts, so that a search is an intersection of sets; in
// a small one it scans. What the index finds is sorted when it is little, else looked for along the order; how many rows have a
// needle that is in many is counted once, and then kept current. A live query that searches keeps a run of its matches around the
// page. A change marks the live queries on whose page it can show; whoever is due evaluates one, once for all its watchers, and
// compares page with page.
package registry

import (
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Config configures New. The zero value is usable.
type Config struct {
	Now  func() time.Time // nil = time.Now; for pacing, and for when rows changed; called under locks: it must not block
	Node string           // the name by which Owner calls this node
}

// Unlimited is the limit of a plan that has none.
const Unlimited = -1

// tuning holds the sizes at which the registry changes its ways. Tests make them small.
type tuning struct {
	margin    int  // how many matches a searching live query keeps on either side of its page: 16 KiB at most
	blockBits uint // the binary logarithm of the slots of a block, of which an application has as many as it needs
	waiting   int  // how many rows wait until they are put into the index; 0 = waitingMost
	intake    int  // how many pairs of a gram and a row a change puts in; 0 = intakeStep
	indexFrom int  // from how many rows on an application has an index; fewer are scanned in less than a millisecond
	few       int  // how many candidates of the index may be sorted rather than looked for in the order of all rows
	long      int  // from how many rows on a walk along the order waits until no other such walk is under way
}

var defaultTuning = tuning{margin: 1024, blockBits: 16, indexFrom: 2_000, few: 32_000, long: 50_000}

// Registry holds the live sessions of all organizations.
type Registry struct {
	now    func() time.Time
	tuning tuning // is not to change once there is an organization
	feed   feed
	owners owners

	mu            sync.RWMutex
	organizations map[api.OrganizationID]*organization
	applications  map[api.ApplicationID]*application // those that were set
}

// New returns an empty registry.
func New(cfg Config) *Registry {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Registry{
		now:           cfg.Now,
		tuning:        defaultTuning,
		owners:        newOwners(cfg.Node),
		organizations: map[api.OrganizationID]*organization{},
		applications:  map[api.ApplicationID]*application{},
	}
}

// organization returns the organization, as an empty one when nothing is known of it.
func (r *Registry) organization(id api.OrganizationID) *organization {
	r.mu.RLock()
	o := r.organizations[id]
	r.mu.RUnlock()
	if o != nil {
		return o
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o = r.organizations[id]; o == nil {
		o = &organization{id: id, now: r.now, tuning: r.tuning, feed: &r.feed, applications: map[api.ApplicationID]*application{}}
		r.organizations[id] = o
	}
	return o
}

// lock returns a known application with its organization locked; nil, and nothing locked, for one that was never set.
func (r *Registry) lock(id api.ApplicationID) *application {
	r.mu.RLock()
	a := r.applications[id]
	r.mu.RUnlock()
	if a != nil {
		a.organization.lock()
	}
	return a
}

// SetApplication makes an application known or changes its gate: epoch and revocation time never go down, lastConnection is the
// maximum ever seen. It returns the rows that may not stay, oldest first: all of them unless the state is active, else those that
// came in under an earlier epoch; an update with a newer credential does not change under which epoch a session came in. They stay
// in the registry until the caller has ended and removed each. Rows of other nodes are not among them: they leave when their owner
// says so. Idempotent. An application cannot move to another organization.
func (r *Registry) SetApplication(org api.OrganizationID, app api.ApplicationID, gate Gate, lastConnection api.Millis) []Row {
	a := r.lock(app)
	if a == nil {
		o := r.organization(org)
		o.lock()
		a = o.applicationLocked(app)
		o.unlock()
		r.mu.Lock()
		if r.applications[app] == nil {
			r.applications[app] = a
		}
		r.mu.Unlock()
		a = r.lock(app)
	}
	a.gate = Gate{
		State:     gate.State,
		Epoch:     max(a.gate.Epoch, gate.Epoch),
		RevokedAt: max(a.gate.RevokedAt, gate.RevokedAt),
	}
	a.connectedLocked(lastConnection)
	gate = a.gate
	var all *order
	if gate.State != api.ApplicationActive || a.staleLocked() {
		all = a.rows.order.Copy()
	}
	a.organization.unlock()

	var leave []Row
	if all != nil {
		all.Reverse(func(p place) bool {
			if p.owner == ownNode && (gate.State != api.ApplicationActive || uint64(p.epoch) < gate.Epoch) {
				leave = append(leave, a.value(p.entry))
			}
			return true
		})
	}
	return leave
}

// Connected tells when sessions of applications have last connected, as far as others know; those that are not set here are passed over.
func (r *Registry) Connected(at map[api.ApplicationID]api.Millis) {
	for id, last := range at {
		if a := r.lock(id); a != nil {
			a.connectedLocked(last)
			a.organization.unlock()
		}
	}
}

// LastConnections returns when sessions of the applications that were set last connected, those to which none ever has left out.
func (r *Registry) LastConnections() map[api.ApplicationID]api.Millis {
	all := map[api.ApplicationID]api.Millis{}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, a := range r.applications {
		a.organization.lock()
		if a.lastConnection != 0 {
			all[id] = a.lastConnection
		}
		a.organization.unlock()
	}
	return all
}

// Insert adds a row of this node. It is refused with ErrArchived, ErrPaused, ErrRevoked, ErrExists (unless it adopts the session of
// another node, by a higher OwnerEpoch) or ErrQuota (an authorized row when the
// organization has maxAuthorized authorized rows already; Unlimited for none), with ErrGone for an application that was never set
// in that organization, and with ErrServerID or ErrTooLong. A refused row leaves no trace.
func (r *Registry) Insert(row Row, maxAuthorized int) error {
	if node, _, ok := row.ServerID.Split(); !ok || row.ServerID != api.NewServerID(node, row.Session) {
		return ErrServerID
	}
	a := r.lock(row.Application)
	if a == nil {
		return ErrGone
	}
	o := a.organization
	defer o.unlock()
	if o.id != row.Organization {
		return ErrGone
	}
	if err := a.gate.admits(row.Credential); err != nil {
		return err
	}
	var past []version
	if row.FoundSince != 0 {
		past = []version{{until: row.FoundSince}}
	}
	e, err := newEntry(&row, a.gate.epochOf(row.Credential), past)
	if err != nil {
		return err
	}
	old, there := a.rows.find(row.Session)
	if there && (old.owner == ownNode || !e.outranks(old.entry)) { // else this node adopts the session
		return ErrExists
	}
	if row.Authorized && (!there || !old.authorized) && maxAuthorized >= 0 && o.authorized >= maxAuthorized {
		return ErrQuota
	}
	a.putLocked(old, e)
	return nil
}

// Update replaces the row of this node with the same Application and ServerID; its Organization, Session and CreatedAt stay as they
// were, and LastActiveAt and OwnerEpoch never go back. The checks of Insert apply, the quota to a row that becomes authorized; ErrGone when there is no
// such row (any more).
func (r *Registry) Update(row Row, maxAuthorized int) error {
	a := r.lock(row.Application)
	if a == nil {
		return ErrGone
	}
	o := a.organization
	defer o.unlock()
	old, there := a.findOwnLocked(row.ServerID)
	if !there {
		return ErrGone
	}
	if err := a.gate.admits(row.Credential); err != nil {
		return err
	}
	if row.Authorized && !old.authorized && maxAuthorized >= 0 && o.authorized >= maxAuthorized {
		return ErrQuota
	}
	row.Session, row.CreatedAt = old.session, old.created
	row.LastActiveAt = max(row.LastActiveAt, api.Millis(old.active.Load()))
	row.OwnerEpoch = max(row.OwnerEpoch, old.adopted)
	e, err := newEntry(&row, uint64(old.epoch), nil)
	if err == nil {
		if past := e.pastOf(old.entry, api.MillisOf(r.now())); len(past) > 0 {
			e, err = newEntry(&row, uint64(old.epoch), past)
		}
	}
	if err == nil {
		a.replaceLocked(old, e)
	}
	return err
}

// Touch records activity of a session of this node; an earlier time than the last one changes nothing. It changes no list and no stream: only
// derived status depends on it.
func (r *Registry) Touch(app api.ApplicationID, id api.ServerID, at api.Millis) {
	a := r.lock(app)
	if a == nil {
		return
	}
	defer a.organization.unlock()
	if p, there := a.findOwnLocked(id); there {
		a.touchLocked(p.entry, at)
	}
}

// Remove takes a row of this node out and returns it as it was last.
func (r *Registry) Remove(app api.ApplicationID, id api.ServerID) (Row, bool) {
	a := r.lock(app)
	if a == nil {
		return Row{}, false
	}
	defer a.organization.unlock()
	p, there := a.findOwnLocked(id)
	if !there {
		return Row{}, false
	}
	a.removeLocked(p)
	return a.value(p.entry), true
}

// Get returns a row by session id.
func (r *Registry) Get(app api.ApplicationID, session api.SessionID) (Row, bool) {
	a := r.lock(app)
	if a == nil {
		return Row{}, false
	}
	defer a.organization.unlock()
	p, there := a.rows.find(session)
	if !there {
		return Row{}, false
	}
	return a.value(p.entry), true
}

// Authorized returns the organization's authorized rows.
func (r *Registry) Authorized(org api.OrganizationID) int {
	o := r.organization(org)
	o.lock()
	defer o.unlock()
	return o.authorized
}

// Stats are the registry's numbers for metrics.
type Stats struct {
	Sessions    int // rows
	LiveQueries int // distinct queries that are watched
	Watchers    int
}

// Stats returns the current numbers.
func (r *Registry) Stats() Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var s Stats
	for _, o := range r.organizations {
		o.lock()
		for _, a := range o.applications {
			s.Sessions += a.rows.count()
			s.LiveQueries += len(a.queries)
			for _, q := range a.queries {
				s.Watchers += q.watchers
			}
		}
		o.unlock()
	}
	return s
}

// Locked returns the longest that one call kept the rows of an organization locked since Locked was called last.
func (r *Registry) Locked() (longest time.Duration) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, o := range r.organizations {
		o.lock()
		longest, o.longest = max(longest, o.longest), 0
		o.unlock()
	}
	return longest
}
