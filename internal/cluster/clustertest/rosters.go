package clustertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

func testFollow(e *env) {
	m := e.start("a", "b.1", "c")
	e.converge("an empty cluster")
	watchers := []*Watcher{}
	for _, m := range m {
		watchers = append(watchers, m.Watch(1, 20), m.Watch(2, 7))
	}
	for i := range 60 {
		owner := m[i%3]
		owner.Open(3)
		rows := owner.Own()
		row := rows[i%len(rows)]
		row.License = "changed"
		if err := owner.Registry.Update(row, registry.Unlimited); err != nil {
			e.Fatal(err)
		}
		owner.Registry.Remove(App, rows[(i*7)%len(rows)].ServerID)
		owner.Registry.Touch(App, rows[(i*5)%len(rows)].ServerID, rows[0].CreatedAt+api.Millis(i)*1_000_000)
		for _, w := range watchers {
			if problem := w.Check(); problem != "" {
				e.Errorf("watcher: %s", problem)
			}
		}
		time.Sleep(time.Millisecond)
	}
	e.converge("changes")
	for _, w := range watchers {
		if problem := w.Check(); problem != "" {
			e.Errorf("watcher: %s", problem)
		}
		w.Close()
	}
}

func testJoin(e *env) {
	m := e.start("a", "b")
	m[0].Open(5000) // more than a page
	m[1].Open(10)
	late := e.start("c")[0]
	e.converge("a node joined")
	if n := late.Registry.Authorized(Org); n != 2505 {
		e.Errorf("%d authorized rows at the node that joined", n)
	}
}

func testGoodbye(e *env) {
	m := e.start("a", "b")
	m[0].Open(10)
	m[1].Open(10)
	e.converge("two nodes")
	began := time.Now()
	m[0].Stop()
	e.gone(m[0])
	Within(e, e.timing.Dead, "goodbye", func() string { return Differ(m[1]) })
	if took := time.Since(began); took > e.timing.Dead/2 {
		e.Errorf("it took %s", took)
	}
	if missing := m[1].Missing(); len(missing) > 0 {
		e.Errorf("a node that left is missing: %v", missing)
	}
}

func testDeath(e *env) {
	m := e.start("a", "b", "c")
	for _, m := range m {
		m.Open(10)
	}
	e.converge("three nodes")
	w := m[1].Watch(1, 50)
	defer w.Close()
	began := time.Now()
	m[0].Kill(m[1], m[2])
	e.gone(m[0])
	if n := m[1].Registry.Stats().Sessions; n != 30 {
		e.Errorf("%d rows right after the death", n)
	}
	Within(e, 6*e.timing.Dead, "death", func() string {
		if n := m[1].Registry.Stats().Sessions + m[2].Registry.Stats().Sessions; n != 40 {
			return fmt.Sprintf("%d rows", n)
		}
		return ""
	})
	if took := time.Since(began); took < e.timing.Dead-e.timing.Beat*2 {
		e.Errorf("it was dead after %s", took)
	}
	if problem := w.Check(); problem != "" {
		e.Errorf("watcher: %s", problem)
	}
	if missing := m[1].Missing(); !slices.Equal(missing, []string{"a"}) {
		e.Errorf("missing: %v", missing)
	}
	again := e.start("a")[0]
	again.Open(3)
	e.converge("it is back")
}

func testHeldUp(e *env) {
	m := e.start("a", "b")
	m[0].Open(10)
	m[1].Open(10)
	e.converge("two nodes")
	e.faults.Hold("a")
	m[1].Open(5)
	time.Sleep(2 * e.timing.Dead)
	if n := m[0].Registry.Stats().Sessions; n != 20 {
		e.Errorf("a node that hears nothing, not even itself, has %d rows", n)
	}
	if n := m[1].Registry.Stats().Sessions; n != 15 {
		e.Errorf("the other has %d", n)
	}
	m[0].Open(5)
	e.faults.Release("a")
	e.converge("it goes on")
}

func testPartition(e *env) {
	m := e.start("a", "b", "c")
	for _, m := range m {
		m.Open(10)
	}
	e.converge("three nodes")
	for _, other := range []string{"b", "c"} {
		e.faults.Cut("a", other, true)
		e.faults.Cut(other, "a", true)
	}
	e.rows("a partition", 10, 20, 20)
	for i := range m {
		m[i].Open(7)
		m[i].Registry.Remove(App, m[i].Own()[3].ServerID)
	}
	e.faults.Heal()
	e.converge("healed")
}

func testOneWay(e *env) {
	m := e.start("a", "b")
	m[0].Open(10)
	m[1].Open(10)
	e.converge("two nodes")
	e.faults.Cut("a", "b", true)
	m[0].Open(1) // the last batch for now
	time.Sleep(e.timing.Beat)
	e.faults.Heal()
	e.converge("a lost batch")
	e.faults.Cut("a", "b", true)
	e.rows("one way", 21, 10)
	e.faults.Heal()
	e.converge("healed")
}

func testFaults(e *env) {
	m := e.start("a", "b", "c")
	e.faults.Set(Rates{Loss: 0.2, Repeat: 0.2, Delay: 0.5, MaxDelay: 2 * e.timing.Gap})
	for i := range 100 {
		owner := m[i%3]
		owner.Open(4)
		rows := owner.Own()
		owner.Registry.Remove(App, rows[(i*7)%len(rows)].ServerID)
		time.Sleep(e.timing.Beat / 20)
	}
	e.faults.Heal()
	e.converge("the bus is well again")
}

func testStale(e *env) {
	a := e.start("a")[0]
	stopped := NewFaults(2)
	old := Start(e, "b", 7, e.next(), stopped, e.timing)
	old.Open(10)
	Within(e, 10*e.timing.Dead, "two nodes", func() string { return Differ(a, old) })
	stopped.Hold("b") // its process stands still; another takes its name
	young := Start(e, "b", 99, e.next(), e.faults, e.timing)
	young.Open(3)
	Within(e, 10*e.timing.Dead, "the new life", func() string { return Differ(a, young) })
	stopped.Release("b")
	time.Sleep(2 * e.timing.Beat)
	if problem := Differ(a, young); problem != "" {
		e.Errorf("with an earlier incarnation back: %s", problem)
	}
	if old.Trouble() == nil || young.Trouble() != nil {
		e.Errorf("trouble: %v and %v", old.Trouble(), young.Trouble())
	}
	young.Kill(a)
	e.faults.Cut("b", "a", false) // the earlier one is heard all the same, and keeps nothing alive
	e.rows("the new life is over", 0)
	old.Stop()
}

func testReturns(e *env) {
	m := e.start("a", "b")
	m[0].Open(10)
	e.converge("two nodes")
	e.faults.Cut("a", "b", true)
	e.rows("one way", 10, 0)
	m[1].SetVersion(7)
	e.faults.Heal()
	time.Sleep(2 * e.timing.Beat)
	if n := m[1].Registry.Stats().Sessions; n != 0 || !slices.Equal(m[1].Missing(), []string{"a"}) {
		e.Errorf("%d rows of a node that has yet to apply what it missed; missing: %v", n, m[1].Missing())
	}
	if v, node := m[0].Newest(); v != 7 || node != "b" {
		e.Errorf("newest: %d at %q", v, node)
	}
	m[0].SetVersion(7)
	e.converge("it has applied it")
}
