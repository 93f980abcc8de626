package clustertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/registry"
)

func testDisconnect(e *env) {
	m := e.start("a", "b")
	m[0].Open(3)
	m[1].Open(3)
	e.converge("two nodes")
	ctx := context.Background()
	theirs, mine := m[0].Own()[0].ServerID, m[1].Own()[0].ServerID
	for _, id := range []api.ServerID{theirs, mine} {
		if found, err := m[1].Disconnect(ctx, App, id, "key", "why"); !found || err != nil {
			e.Errorf("disconnect %s: %v, %v", id, found, err)
		}
		if n := m[1].Registry.Stats().Sessions; id == theirs && n != 5 {
			e.Errorf("%d rows right after the answer", n)
		}
		if found, err := m[1].Disconnect(ctx, App, id, "key", "why"); found || err != nil {
			e.Errorf("disconnect %s again: %v, %v", id, found, err)
		}
	}
	e.converge("disconnected")
	id := m[0].Own()[0].ServerID
	for _, wrong := range []api.ServerID{"", "x", "a:", api.NewServerID("nobody", api.NewSessionID()), "b" + id[1:]} {
		if found, err := m[1].Disconnect(ctx, App, wrong, "key", ""); found || err != nil {
			e.Errorf("disconnect %q: %v, %v", wrong, found, err)
		}
	}
	e.faults.Cut("a", "b", true)
	e.faults.Cut("b", "a", true)
	if found, err := m[1].Disconnect(ctx, App, id, "key", ""); found || api.CodeOf(err) != api.CodeUnavailable {
		e.Errorf("disconnect at a node that cannot be reached: %v, %v", found, err)
	}
	e.rows("a partition", 2, 2)
	if found, err := m[1].Disconnect(ctx, App, id, "key", ""); found || api.CodeOf(err) != api.CodeUnavailable {
		e.Errorf("disconnect at a node that is missing: %v, %v", found, err)
	}
}

func testApplied(e *env) {
	m := e.start("a", "b", "c")
	for _, m := range m {
		m.Open(10)
	}
	e.converge("three nodes")
	own, err := owner{m[0]}.Applied(context.Background(), App, 5, nil)
	if own != 10 || err != nil {
		e.Fatalf("own: %d, %v", own, err)
	}
	for range 2 { // idempotent
		count, missing := m[0].Applied(context.Background(), App, 5, []byte("note"))
		if count != 20 || len(missing) > 0 || m[0].Registry.Stats().Sessions != 0 {
			e.Errorf("%d ended elsewhere, missing %v, %d rows left", count, missing, m[0].Registry.Stats().Sessions)
		}
	}
	m[0].Expect(map[string]int64{"a": 1, "b": 2, "c": 3, "d": 4})
	ctx, cancel := context.WithTimeout(context.Background(), e.timing.Dead)
	defer cancel()
	if count, missing := m[0].Applied(ctx, App, 5, nil); count != 20 || !slices.Equal(missing, []string{"d"}) {
		e.Errorf("%d ended elsewhere, missing %v", count, missing)
	}
	m[0].Expect(nil)
	e.faults.Hold("c") // it dies meanwhile
	if count, missing := m[0].Applied(context.Background(), App, 5, nil); count != 10 || len(missing) > 0 {
		e.Errorf("%d ended elsewhere, missing %v, while a node dies", count, missing)
	}
}

func testAsk(e *env) {
	m := e.start("a", "b")
	e.converge("two nodes")
	for _, node := range []string{"a", "b"} {
		if got, err := m[0].Ask(context.Background(), node, "lease", []byte{0, 1}); string(got) != node+" lease \x00\x01" || err != nil {
			e.Errorf("%q, %v", got, err)
		}
		if _, err := m[0].Ask(context.Background(), node, "fail", []byte("gone")); api.CodeOf(err) != api.CodeSessionEnded {
			e.Errorf("%v", err)
		}
	}
	if _, err := m[0].Ask(context.Background(), "nobody", "lease", nil); api.CodeOf(err) != api.CodeUnavailable {
		e.Errorf("%v", err)
	}
}

func testAskAll(e *env) {
	m := e.start("a", "b", "c")
	e.converge("three nodes")
	ask := func(when, topic string, missing ...string) {
		e.Helper()
		answers, silent := m[0].AskAll(context.Background(), topic, []byte("x"))
		if !slices.Equal(silent, missing) {
			e.Errorf("%s: missing %v, want %v", when, silent, missing)
		}
		for _, name := range []string{"a", "b", "c"} {
			want := name + " " + topic + " x"
			if name == "a" || slices.Contains(missing, name) {
				want = ""
			}
			if got := string(answers[name]); got != want {
				e.Errorf("%s: %s answers %q", when, name, got)
			}
		}
	}
	ask("all answer", "lease")
	ask("an error is no answer", "fail", "b", "c")
	m[0].Expect(map[string]int64{"a": 1, "b": 2, "c": 3, "d": 4})
	ask("one is not seen that holds a lease", "lease", "d")
	m[0].Expect(nil)
	e.faults.Cut("a", "c", true)
	ask("one cannot be reached", "lease", "c")
}

func testMissing(e *env) {
	m := e.start("a", "b")
	e.converge("two nodes")
	m[0].Expect(map[string]int64{"a": 1, "b": 2, "c": 3})
	if missing := m[0].Missing(); !slices.Equal(missing, []string{"c"}) {
		e.Errorf("missing: %v", missing)
	}
	m[1].Stop()
	e.gone(m[1])
	Within(e, e.timing.Dead, "goodbye", func() string {
		if missing := m[0].Missing(); !slices.Equal(missing, []string{"c"}) {
			return fmt.Sprint(missing)
		}
		return ""
	})
	m[0].Expect(map[string]int64{"b": 3}) // a later life of b; whether or not the goodbye has been heard
	if missing := m[0].Missing(); !slices.Equal(missing, []string{"b"}) {
		e.Errorf("missing: %v", missing)
	}
	m[0].Expect(nil)
	silent := e.start("d")[0]
	e.converge("another node")
	silent.Kill(m[0])
	e.gone(silent)
	Within(e, 6*e.timing.Dead, "death", func() string {
		if missing := m[0].Missing(); !slices.Equal(missing, []string{"d"}) {
			return fmt.Sprint(missing)
		}
		return ""
	})
	Within(e, 2*e.timing.Missing, "long dead", func() string { return Differ(m[0]) })
}

func testAdoption(e *env) {
	m := e.start("a", "b", "c")
	m[0].Open(2)
	e.converge("three nodes")
	row := m[0].Own()[0]
	row.OwnerEpoch = 1
	if err := m[1].Registry.Insert(row, registry.Unlimited); err != nil {
		e.Fatal(err)
	}
	e.converge("b has adopted a's session")
	if lost := m[0].Lost(); len(lost) != 1 || lost[0].ServerID != row.ServerID {
		e.Errorf("a was told that it lost %v", lost)
	}
	for _, m := range m {
		if node, _, _ := m.Registry.Owner(App, row.ServerID); node != "b" {
			e.Errorf("%s says it is %q's", m.Name, node)
		}
	}
	if found, err := m[2].Disconnect(context.Background(), App, row.ServerID, "key", ""); !found || err != nil {
		e.Errorf("disconnect: %v, %v", found, err)
	}
	e.converge("it has ended")
}

func testReincarnate(e *env) {
	m := e.start("a", "b")
	m[0].Open(10)
	e.converge("two nodes")
	w := m[1].Watch(1, 50)
	defer w.Close()
	m[0].Reincarnate(50)
	m[0].Open(1)
	Within(e, 2*e.timing.Dead, "a new incarnation", func() string {
		if p := m[1].Peers(); len(p) != 1 || p[0].Incarnation != 50 || p[0].State != cluster.PeerLive {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
	e.converge("a new incarnation")
	if d := w.watch.Poll(); d == nil || len(d.Removed) > 0 || len(d.Added) != 1 {
		e.Errorf("watchers see %+v, want one row more", d)
	}
}
