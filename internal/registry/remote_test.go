package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// peers is a node that follows others, beside one registry that has all rows as its own: both must show the same.
type peers struct {
	*rapid.T
	node, all *Registry
	nodes     []string
	owners    []*Registry // of the nodes
	pulls     []*pull     // nil while the node follows
	clients   []*client
	opened    int
}

// pull is a snapshot on its way: what the node still asks for, and what it has.
type pull struct {
	roster *Roster
	page   []RowChange // read, and still under way
	at     RosterPosition
	over   bool
}

func newPeers(t *rapid.T) *peers {
	p := &peers{T: t, node: New(Config{Node: "n0"}), all: New(Config{})}
	for i := range 3 {
		p.nodes = append(p.nodes, fmt.Sprintf("n%d", i+1))
		p.owners = append(p.owners, New(Config{Node: p.nodes[i]}))
		p.owners[i].Feed()
		p.pulls = append(p.pulls, nil)
	}
	for i, r := range append(slices.Clone(p.owners), p.node, p.all) {
		tuning := defaultTuning
		tuning.indexFrom, tuning.margin, tuning.blockBits = 5*i, i, 3
		r.tuning = tuning
		for app := range 3 {
			if r != p.node || app > 0 { // of one application the node has not heard yet
				r.SetApplication(testOrganization(app/2), testApplication(app), Gate{State: api.ApplicationActive}, 0)
			}
		}
	}
	for _, r := range p.owners { // they know rows of others too
		id := testSession(1_000_000)
		r.Follow("elsewhere", []RowChange{{Kind: RowSet, Row: Row{Organization: testOrganization(0), Application: testApplication(0),
			Session: id, ServerID: api.NewServerID("elsewhere", id), CreatedAt: 1_000_010}}})
	}
	return p
}

func (p *peers) draw(n int) int { return rapid.IntRange(0, n-1).Draw(p.T, "") }

func (p *peers) row(node string) Row {
	app := p.draw(3)
	p.opened++
	id := testSession(p.opened)
	return Row{Organization: testOrganization(app / 2), Application: testApplication(app), Session: id,
		ServerID: api.NewServerID(node, id), CreatedAt: api.Millis(1_000_000 + p.draw(20)), ClientID: id.String(),
		License: []string{"", "abc", "XYZ"}[p.draw(3)], IP: "203.0.113.1", Login: "ada", Authorized: p.draw(2) == 0,
		TokenExpiresAt: api.Millis(2_000_000), Credential: Credential{Kind: CredentialKind(p.draw(3))}}
}

// change makes a random change at an owner and in the registry of all.
func (p *peers) change(i int) {
	owner := p.owners[i]
	own, _, _ := owner.OwnRows(RosterPosition{}, 1000)
	if len(own) == 0 || p.draw(2) == 0 {
		row := p.row(p.nodes[i])
		if err := owner.Insert(row, Unlimited); err != nil {
			p.Fatal(err)
		}
		if err := p.all.Insert(row, Unlimited); err != nil {
			p.Fatal(err)
		}
		return
	}
	row := own[p.draw(len(own))].Row
	switch p.draw(3) {
	case 0:
		row.License, row.Authorized = "new", true
		for _, r := range []*Registry{owner, p.all} {
			if err := r.Update(row, Unlimited); err != nil {
				p.Fatal(err)
			}
		}
	case 1:
		owner.Remove(row.Application, row.ServerID)
		p.all.Remove(row.Application, row.ServerID)
	case 2:
		owner.Touch(row.Application, row.ServerID, row.CreatedAt+1_000_000)
		p.all.Touch(row.Application, row.ServerID, row.CreatedAt+1_000_000)
	}
}

// hear gives the node up to limit changes of an owner: all that the owner tells while the node pulls goes to the roster.
func (p *peers) hear(i, limit int) {
	changes, _ := p.owners[i].TakeChanges(limit)
	if p.pulls[i] != nil {
		p.pulls[i].roster.Follow(changes)
	} else if lost := p.node.Follow(p.nodes[i], changes); lost != nil {
		p.Fatalf("lost %v", lost)
	}
}

// pull takes a page of an owner's snapshot, and swaps the roster in once it is complete and all that changed meanwhile was heard.
func (p *peers) pull(i int) {
	switch at := p.pulls[i]; {
	case at == nil:
		p.owners[i].TakeChanges(1000) // what is told before the first page is read is in the pages
		p.pulls[i] = &pull{roster: NewRoster(p.nodes[i])}
	case !at.over:
		at.roster.Add(at.page)
		page, next, more := p.owners[i].OwnRows(at.at, 1+p.draw(3))
		at.page, at.at, at.over = page, next, !more
	default:
		at.roster.Add(at.page)
		p.hear(i, 1000)
		p.node.Swap(at.roster)
		p.pulls[i] = nil
		if p.draw(2) == 0 { // else later changes build the index on
			p.node.BuildIndexes()
			for _, a := range p.node.applications {
				if s := &a.rows.slots; s.lazy != 0 || s.indexing && !s.indexed() {
					p.Fatalf("rows are not in the index")
				}
			}
		}
	}
}

func (p *peers) query() Query {
	app := p.draw(3)
	return Query{Organization: testOrganization(app / 2), Application: testApplication(app), Page: 1 + p.draw(2),
		PageSize: 1 + p.draw(5), Totals: p.draw(2) == 0, Search: []string{"", "ab", "new"}[p.draw(3)]}
}

func (p *peers) poll(c *client) {
	if d := c.watch.Poll(); d != nil {
		if err := c.apply(d); err != nil {
			p.Fatal(err)
		}
	}
	if err := c.check(p.node.List(c.query)); err != nil {
		p.Fatal(err)
	}
}

// TestFollowedRowsAreTheOwners: whatever pulls and changes interleave, a node that has heard all shows what the owners have.
func TestFollowedRowsAreTheOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPeers(t)
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			i := p.draw(3)
			switch p.draw(8) {
			case 0, 1, 2:
				p.change(i)
			case 3, 4:
				p.hear(i, 1+p.draw(3))
			case 5:
				p.pull(i)
			case 6:
				q := p.query()
				view, watch := p.node.Watch(q)
				p.clients = append(p.clients, &client{query: q, watch: watch, view: view})
			case 7:
				p.node.Drop(p.nodes[i])
				p.pulls[i] = &pull{roster: NewRoster(p.nodes[i])}
				p.owners[i].TakeChanges(1000)
			}
			for _, c := range p.clients {
				p.poll(c)
			}
		}
		for i := range p.owners {
			for p.pulls[i] != nil {
				p.pull(i)
			}
			p.hear(i, 1000)
		}
		for _, c := range p.clients {
			p.poll(c)
			c.watch.Close()
		}
		p.node.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive}, 0)
		p.compare()
	})
}

// compare holds the node to the registry of all.
func (p *peers) compare() {
	total := 0
	for app := range 3 {
		id := testApplication(app)
		want, got := p.all.Sessions(id, nil, 1000, RangeAll, 0), p.node.Sessions(id, nil, 1000, RangeAll, 0)
		total += len(got)
		for i := range got {
			if node, own, there := p.node.Owner(id, got[i].ServerID); own || !there || api.NewServerID(node, got[i].Session) != got[i].ServerID {
				p.Fatalf("the owner of %s is %s", got[i].ServerID, node)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			p.Fatalf("application %d: node (+), owners (-):\n%s", app, diff)
		}
		q := Query{Organization: testOrganization(app / 2), Application: id, PageSize: 50}
		if w, g := p.all.List(q).Counts, p.node.List(q).Counts; w != g {
			p.Fatalf("application %d: counts %+v, want %+v", app, g, w)
		}
	}
	for i, name := range p.nodes {
		p.node.Drop(name)
		own, _, _ := p.owners[i].OwnRows(RosterPosition{}, 1000)
		if total -= len(own); p.node.Stats().Sessions != total {
			p.Fatalf("%d rows after %s was dropped, want %d", p.node.Stats().Sessions, name, total)
		}
	}
	for _, a := range p.node.applications {
		if a.owned != nil || a.entered != nil {
			p.Fatalf("counts are left: %v %v", a.owned, a.entered)
		}
	}
}

func remoteSet(node string, row Row) RowChange {
	row.ServerID = api.NewServerID(node, row.Session)
	return RowChange{Kind: RowSet, Row: row}
}

// TestOwnCallsLeaveRemoteRowsAlone: what ends or changes sessions of this node does nothing to those of others.
func TestOwnCallsLeaveRemoteRowsAlone(t *testing.T) {
	w := newWorld()
	change := remoteSet("srv-02", w.row(1))
	w.Follow("srv-02", []RowChange{change})
	row := change.Row
	if err := w.Update(row, Unlimited); !errors.Is(err, ErrGone) {
		t.Errorf("update: %v", err)
	}
	if _, there := w.Remove(row.Application, row.ServerID); there {
		t.Error("removed")
	}
	w.Touch(row.Application, row.ServerID, row.CreatedAt+1000)
	if got, _ := w.Get(row.Application, row.Session); got.LastActiveAt != row.CreatedAt {
		t.Error("touched")
	}
	if err := w.Insert(row, Unlimited); !errors.Is(err, ErrExists) {
		t.Errorf("insert: %v", err)
	}
	if leave := w.SetApplication(row.Organization, row.Application, Gate{State: api.ApplicationPaused, Epoch: 9}, 0); len(leave) != 0 {
		t.Errorf("a gate returns rows of others: %v", leave)
	}
	w.Follow("srv-03", []RowChange{{Kind: RowGone, Row: row}})
	if w.Stats().Sessions != 1 {
		t.Error("a node took out the row of another")
	}
}

// TestQuotaCountsTheCluster: authorized rows of other nodes use up the plan.
func TestQuotaCountsTheCluster(t *testing.T) {
	w := newWorld()
	row := w.row(1)
	row.Authorized = true
	w.Follow("srv-02", []RowChange{remoteSet("srv-02", row)})
	row = w.row(2)
	row.Authorized = true
	if err := w.Insert(row, 1); !errors.Is(err, ErrQuota) {
		t.Errorf("insert: %v, want ErrQuota", err)
	}
	w.Drop("srv-02")
	if err := w.Insert(row, 1); err != nil {
		t.Error(err)
	}
}

// TestG4RowsFromBeforeAreNotSeenAgain: what another node says of a session that came in under an earlier epoch shows nothing.
func TestG4RowsFromBeforeAreNotSeenAgain(t *testing.T) {
	w := newWorld()
	before, after := remoteSet("srv-02", w.row(1)), remoteSet("srv-02", w.row(2))
	after.Epoch = 3
	w.Follow("srv-02", []RowChange{before})
	w.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive, Epoch: 3}, 0)
	if w.Stats().Sessions != 1 {
		t.Error("the row left before its owner said so")
	}
	w.Follow("srv-02", []RowChange{before})
	if w.Stats().Sessions != 0 {
		t.Error("a row from before the revocation is shown")
	}
	roster := NewRoster("srv-02")
	roster.Add([]RowChange{before, after})
	w.Swap(roster)
	if rows := w.Sessions(testApplication(0), nil, 10, RangeAll, 0); len(rows) != 1 || rows[0].Session != after.Row.Session {
		t.Errorf("swapped in: %v", rows)
	}
}

// TestClaimsToOneSession: the registries agree on who has a session that two nodes claim, in whatever order they hear of it.
func TestClaimsToOneSession(t *testing.T) {
	old, adopted := remoteSet("srv-02", newWorld().row(1)), remoteSet("srv-02", newWorld().row(1))
	adopted.Row.OwnerEpoch = 1
	other := remoteSet("srv-04", newWorld().row(1)) // the same id, opened at two nodes at once
	claims := []struct {
		node   string
		change RowChange
	}{{"srv-02", old}, {"srv-03", adopted}, {"srv-04", other}}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		w := newWorld()
		for _, i := range order {
			w.Follow(claims[i].node, []RowChange{claims[i].change})
		}
		w.Follow("srv-02", []RowChange{{Kind: RowGone, Row: old.Row}})
		if node, _, there := w.Owner(testApplication(0), adopted.Row.ServerID); node != "srv-03" || !there {
			t.Errorf("order %v: the session is %q's", order, node)
		}
	}

	w := newWorld() // an own row gives way to an adoption, and adopts
	w.Feed()
	w.open(1)
	mine, _ := w.Get(testApplication(0), testSession(1))
	taken := RowChange{Kind: RowSet, Row: mine}
	taken.Row.OwnerEpoch = 1
	if lost := w.Follow("srv-03", []RowChange{taken}); len(lost) != 1 || lost[0].ServerID != mine.ServerID {
		t.Errorf("lost %v", lost)
	}
	mine.OwnerEpoch = 2
	if err := w.Insert(mine, Unlimited); err != nil {
		t.Errorf("adopt: %v", err)
	}
	var kinds []ChangeKind
	changes, _ := w.TakeChanges(10)
	for _, c := range changes {
		kinds = append(kinds, c.Kind)
	}
	if want := []ChangeKind{RowSet, RowGone, RowSet}; !slices.Equal(kinds, want) {
		t.Errorf("told %v, want %v", kinds, want)
	}
	if lost := w.Follow("srv-03", []RowChange{taken}); lost != nil || w.Stats().Sessions != 1 {
		t.Error("the earlier adoption took the session back")
	}
}

// TestSwapIsOneStep: a watcher that waits sees nothing of a swap before all of it is in.
func TestSwapIsOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := w.organization(testOrganization(0))
		follow := follow(t.Context(), w, w.query(1, 50))
		time.Sleep(time.Minute)
		o.lock()
		o.beginSwapLocked()
		o.unlock()
		w.Follow("srv-02", []RowChange{remoteSet("srv-02", w.row(1))})
		time.Sleep(time.Second)
		if n := follow.steps(); n != 0 {
			t.Errorf("%d steps in the middle of a swap", n)
		}
		w.Follow("srv-02", []RowChange{{Kind: RowGone, Row: w.row(1)}, remoteSet("srv-02", w.row(2))})
		o.lock()
		o.endSwapLocked()
		o.unlock()
		synctest.Wait()
		if n := follow.steps(); n != 1 {
			t.Errorf("%d steps, want 1", n)
		}
		follow.stop(t)
	})
}

// TestActivityIsToldSparingly: at once when a session leaves idle, else about once in a tenth of idleAfter.
func TestActivityIsToldSparingly(t *testing.T) {
	w := newWorld()
	w.SetIdleAfter(testApplication(0), 1000*time.Second)
	w.open(1)
	w.Feed()
	row := w.row(1)
	toldAt := row.CreatedAt
	told := 0
	for at := row.CreatedAt; at < row.CreatedAt+10_000_000; at += 1000 {
		w.Touch(row.Application, row.ServerID, at)
		if changes, _ := w.TakeChanges(10); len(changes) > 0 {
			told++
			if c := changes[0]; c.Kind != RowActive || c.Row.LastActiveAt != at {
				t.Fatalf("told %+v", c)
			}
			toldAt = at
		}
		if at-toldAt > 100_000 {
			t.Fatalf("the activity of %d was not told at %d", toldAt, at)
		}
	}
	if told > 101 {
		t.Errorf("told %d times", told)
	}
	w.Touch(row.Application, row.ServerID, row.CreatedAt+11_000_000)
	if changes, _ := w.TakeChanges(10); len(changes) != 1 {
		t.Error("leaving idle was not told")
	}
}

// TestFeedIsBounded: changes that nobody takes are given up, and that is said.
func TestFeedIsBounded(t *testing.T) {
	w := newWorld()
	ready := w.Feed()
	w.open(1)
	row := w.row(1)
	for i := range feedCap + 10 {
		w.Touch(row.Application, row.ServerID, row.CreatedAt+api.Millis(i)*1_000_000)
	}
	<-ready
	changes, lost := w.TakeChanges(feedCap)
	if !lost || len(changes) > 20 {
		t.Errorf("%d changes wait, lost %v", len(changes), lost)
	}
	if _, lost = w.TakeChanges(1); lost {
		t.Error("lost is said twice")
	}
}

// TestWatchersDoNotWaitForAnotherOrganizationsSwap keeps a swap to the organizations that it concerns.
func TestWatchersDoNotWaitForAnotherOrganizationsSwap(t *testing.T) {
	w := newWorld()
	row := w.row(1)
	row.Organization, row.Application = testOrganization(1), testApplication(2)
	roster := NewRoster("srv-02")
	roster.Add([]RowChange{remoteSet("srv-02", row)})
	w.Swap(roster)
	_, watch := w.Watch(w.query(1, 50))
	defer watch.Close()
	w.open(1)
	if d, err := watch.Next(context.Background()); err != nil || len(d.Added) != 1 {
		t.Errorf("step %v, %v", d, err)
	}
}

// TestActivityHeardBeforeItsPage: a page that was read before a session was active does not take that back.
func TestActivityHeardBeforeItsPage(t *testing.T) {
	w := newWorld()
	set := remoteSet("srv-02", w.row(1))
	active := RowChange{Kind: RowActive, Row: set.Row}
	active.Row.LastActiveAt = set.Row.CreatedAt + 77
	roster := NewRoster("srv-02")
	roster.Follow([]RowChange{active})
	roster.Add([]RowChange{set})
	w.Swap(roster)
	if row, _ := w.Get(testApplication(0), testSession(1)); row.LastActiveAt != active.Row.LastActiveAt {
		t.Errorf("last active at %d", row.LastActiveAt)
	}
}
