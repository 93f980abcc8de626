package cluster

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// gated is a bus whose broadcasts wait while the gate is locked.
type gated struct {
	Bus
	gate *sync.Mutex
}

func (g gated) Broadcast(msg []byte) error {
	g.gate.Lock()
	defer g.gate.Unlock()
	return g.Bus.Broadcast(msg)
}

// idle is an Owner of whom nothing is asked.
type idle struct{ Owner }

func testNode(t *testing.T, name string, bus Bus) *Node {
	t.Helper()
	r := registry.New(registry.Config{Node: name})
	app := benchChanges(1)[0].Row
	r.SetApplication(app.Organization, app.Application, registry.Gate{State: api.ApplicationActive}, 0)
	n, err := New(Config{Node: name, Incarnation: 1, Registry: r, Bus: bus, Owner: idle{}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// start runs a node until the test's end.
func (n *Node) start(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (n *Node) rows() []registry.Row {
	return n.cfg.Registry.Sessions(benchChanges(1)[0].Row.Application, nil, math.MaxInt, registry.RangeAll, 0)
}

// TestRosterIsShownAtOneSequence: pages tell of rows as they were later than the batches that have come. They are shown when those
// have, so that no row goes back to what it was.
func TestRosterIsShownAtOneSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t, "a", new(Memory).Bus())
		n.start(t)
		synctest.Wait()
		ctx := t.Context()
		p := newPeer(n, "b")
		set := benchChanges(1)[0]
		version := func(license string) []registry.RowChange {
			c := set
			c.Row.License = license
			return []registry.RowChange{c}
		}
		batch := func(sequence uint64, license string) {
			h := header{kind: kindBatch, node: "b", incarnation: 1, sequence: sequence}
			msg, _ := appendChanges(appendHeader(nil, h), "b", version(license), math.MaxInt)
			p.hear(ctx, msg)
		}
		batch(9, "before the snapshot")
		h := header{kind: kindSnapshot, node: "b", incarnation: 1, sequence: 10}
		p.addPage(&page{header: h, to: 12, rows: version("third")})
		batch(9, "before the snapshot, once more")
		batch(12, "third")
		if rows := n.rows(); len(rows) != 0 {
			t.Errorf("shown before batch 11: %+v", rows)
		}
		batch(11, "second")
		if rows := n.rows(); len(rows) != 1 || rows[0].License != "third" || p.state != PeerLive {
			t.Errorf("shown: %+v", rows)
		}
		batch(14, "fifth")
		batch(13, "fourth")
		batch(13, "fourth")
		if rows := n.rows(); rows[0].License != "fifth" || p.at.sequence != 14 || !p.gapSince.IsZero() {
			t.Errorf("followed to %d: %+v", p.at.sequence, rows)
		}
		p.end(PeerDead)
		p.pulls.Wait()
	})
}

// TestLastPageSaysHowFarItGoes: what changed and was not published yet when the page was read is in the batches that it names.
func TestLastPageSaysHowFarItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t, "a", new(Memory).Bus())
		n.timing.Batch = time.Hour
		n.start(t)
		synctest.Wait()
		for _, c := range benchChanges(2) { // the first is published at once, the second in an hour
			c.Row.ServerID = api.NewServerID("a", c.Row.Session)
			if err := n.cfg.Registry.Insert(c.Row, registry.Unlimited); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		p, err := parsePage(n.snapshot(t.Context(), registry.RosterPosition{}))
		if err != nil || len(p.rows) != 2 || p.sequence != 1 || p.to != 2 || n.position().sequence != 2 {
			t.Errorf("%+v, %v; the node is at %+v", p, err, n.position())
		}
	})
}

// TestChangesThatAreGivenUpArePulled: a node whose bus is stuck forgets changes, and others notice.
func TestChangesThatAreGivenUpArePulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub Memory
		bus := gated{hub.Bus(), new(sync.Mutex)}
		a, b := testNode(t, "a", bus), testNode(t, "b", hub.Bus())
		a.start(t)
		b.start(t)
		time.Sleep(time.Second)
		bus.gate.Lock()
		changes := benchChanges(2)
		for i := range changes {
			changes[i].Row.ServerID = api.NewServerID("a", changes[i].Row.Session)
		}
		stays, moves := changes[0].Row, changes[1].Row
		if err := a.cfg.Registry.Insert(stays, registry.Unlimited); err != nil {
			t.Fatal(err)
		}
		if err := a.cfg.Registry.Insert(moves, registry.Unlimited); err != nil {
			t.Fatal(err)
		}
		for i := range api.Millis(1<<20 + 5000) { // more than the registry keeps beside what is on its way
			a.cfg.Registry.Touch(moves.Application, moves.ServerID, moves.CreatedAt+i*1_000_000)
		}
		bus.gate.Unlock()
		time.Sleep(time.Second)
		if rows := b.rows(); len(rows) != 2 || len(b.Missing()) > 0 {
			t.Errorf("%d rows, missing %v", len(rows), b.Missing())
		}
	})
}

// TestIndexWaitsForRosters: what a swap brought is indexed when no roster is on its way any more, and waits for no peer that never
// sends its own.
func TestIndexWaitsForRosters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t, "a", new(Memory).Bus())
		here, slow := newPeer(n, "b"), newPeer(n, "c")
		n.peers = map[string]*peer{"b": here, "c": slow}
		here.state, slow.state = PeerLive, PeerPulling
		start := time.Now()
		here.unindexed = start
		if here.index(start.Add(indexPatience - 1)); here.unindexed.IsZero() {
			t.Error("indexed while a roster is on its way")
		}
		if here.index(start.Add(indexPatience)); !here.unindexed.IsZero() {
			t.Error("it waits for a roster that does not come")
		}
		here.unindexed, slow.state = start, PeerLive
		if here.index(start); !here.unindexed.IsZero() {
			t.Error("not indexed though all rosters are here")
		}
	})
}
