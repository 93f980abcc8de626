package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// Buses makes the buses of one cluster: each call of next returns that of another node.
type Buses func(t testing.TB) (next func() cluster.Bus)

type test struct {
	name string
	run  func(*env)
}

var tests = []test{
	{"a broadcast reaches every node in order", testBroadcast},
	{"a request is answered by its node", testRequest},
	{"a request to nobody fails", testNobody},
	{"a request ends with its context", testRequestEnds},
	{"nothing is heard after stop", testStop},
	{"large messages", testLarge},
	{"nodes follow each other", testFollow},
	{"a node that joins has all rows", testJoin},
	{"goodbye takes the rows at once", testGoodbye},
	{"a node that dies loses its rows, and rejoins", testDeath},
	{"a node that is held up keeps its view", testHeldUp},
	{"a partition heals", testPartition},
	{"one-way loss is noticed", testOneWay},
	{"messages that are lost, repeated, late and out of order", testFaults},
	{"an earlier incarnation is not heard", testStale},
	{"rows are seen again after what was missed is applied", testReturns},
	{"disconnect reaches the owner", testDisconnect},
	{"revoke-all waits for every node", testApplied},
	{"anything can be asked", testAsk},
	{"all can be asked", testAskAll},
	{"missing nodes are named", testMissing},
	{"an adopted session is given up", testAdoption},
	{"reincarnation keeps the rows", testReincarnate},
}

// Run holds an implementation of cluster.Bus to the contract, in real time.
func Run(t *testing.T, buses Buses) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(newEnv(t, buses, Real)) })
	}
}

// RunInBubble is Run in synthetic time and with the timing of production, for a bus without sockets.
func RunInBubble(t *testing.T, buses Buses) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(newEnv(t, buses, production)) })
		})
	}
}

var production = cluster.Timing{Beat: time.Second, Dead: 3 * time.Second, Gap: 100 * time.Millisecond, Pull: 2 * time.Second,
	Command: 3 * time.Second, Missing: 15 * time.Second}

// env is a cluster in a test.
type env struct {
	*testing.T
	timing  cluster.Timing
	next    func() cluster.Bus
	faults  *Faults
	members []*Member
}

func newEnv(t *testing.T, buses Buses, timing cluster.Timing) *env {
	e := &env{T: t, timing: timing, next: buses(t), faults: NewFaults(1)}
	t.Cleanup(func() {
		e.faults.Heal()
		for _, m := range e.members {
			m.Stop()
		}
	})
	return e
}

// start adds members.
func (e *env) start(names ...string) []*Member {
	for _, name := range names {
		e.members = append(e.members, Start(e, name, int64(1+len(e.members)), e.next(), e.faults, e.timing))
	}
	return slices.Clone(e.members[len(e.members)-len(names):])
}

// gone takes a member out that has stopped.
func (e *env) gone(m *Member) {
	e.members = slices.DeleteFunc(e.members, func(o *Member) bool { return o == m })
}

// converge waits until all members show the same.
func (e *env) converge(what string) {
	e.Helper()
	Within(e, 10*e.timing.Dead, what, func() string { return Differ(e.members...) })
}

// rows waits until the members have so many rows.
func (e *env) rows(what string, want ...int) {
	e.Helper()
	Within(e, 4*e.timing.Dead, what, func() string {
		for i, n := range want {
			if got := e.members[i].Registry.Stats().Sessions; got != n {
				return fmt.Sprintf("%s has %d rows, want %d", e.members[i].Name, got, n)
			}
		}
		return ""
	})
}

// heard collects what a bus hears.
type heard struct {
	mu  sync.Mutex
	all [][]byte
}

func (h *heard) add(msg []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, msg)
}

func (h *heard) list() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func echo(_ context.Context, msg []byte) []byte { return append([]byte("re: "), msg...) }

func (e *env) bus(node string, h *heard, asked func(context.Context, []byte) []byte) cluster.Bus {
	e.Helper()
	bus := e.next()
	if err := bus.Start(node, h.add, asked); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(bus.Stop)
	return bus
}

func testBroadcast(e *env) {
	var ha, hb, hc heard
	a, b := e.bus("a", &ha, echo), e.bus("b.with.dots", &hb, echo)
	e.bus("c", &hc, echo)
	want := [][]byte{}
	Within(e, 10*time.Second, "the first message", func() string { // buses may take a moment to find each other
		_ = a.Broadcast([]byte("hello"))
		_ = b.Broadcast([]byte("hello"))
		time.Sleep(10 * time.Millisecond)
		for _, h := range []*heard{&ha, &hb, &hc} {
			if len(h.list()) < 2 {
				return "not heard everywhere"
			}
		}
		return ""
	})
	for i := range 2000 {
		want = append(want, fmt.Appendf(nil, "message %d", i))
		if err := a.Broadcast(want[i]); err != nil {
			e.Fatal(err)
		}
	}
	for _, h := range []*heard{&ha, &hb, &hc} {
		Within(e, 10*time.Second, "all messages", func() string {
			got := slices.DeleteFunc(h.list(), func(msg []byte) bool { return string(msg) == "hello" })
			if !slices.EqualFunc(got, want, bytes.Equal) {
				return fmt.Sprintf("%d messages of %d, or another order", len(got), len(want))
			}
			return ""
		})
	}
	if err := a.Status(); err != nil {
		e.Errorf("status: %v", err)
	}
}

// ask asks until the buses have found each other.
func (e *env) ask(bus cluster.Bus, node string, msg []byte) []byte {
	e.Helper()
	var answer []byte
	Within(e, 10*time.Second, "request", func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		if answer, err = bus.Request(ctx, node, msg); err != nil {
			return err.Error()
		}
		return ""
	})
	return answer
}

func testRequest(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	e.bus("b", &h, func(context.Context, []byte) []byte { return []byte("I am b") })
	e.bus("b.b", &h, func(context.Context, []byte) []byte { return []byte("I am b.b") })
	for node, want := range map[string]string{"a": "re: x", "b": "I am b", "b.b": "I am b.b"} {
		if got := e.ask(a, node, []byte("x")); string(got) != want {
			e.Errorf("%s answers %q", node, got)
		}
	}
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			msg := strconv.Itoa(i)
			if answer, err := a.Request(context.Background(), "a", []byte(msg)); err != nil || string(answer) != "re: "+msg {
				e.Errorf("%q, %v", answer, err)
			}
		})
	}
	work.Wait()
	if len(h.list()) > 0 {
		e.Errorf("requests were heard as broadcasts")
	}
}

func testNobody(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := a.Request(ctx, "nobody", []byte("x")); !errors.Is(err, cluster.ErrNoNode) {
		e.Errorf("%v, want ErrNoNode", err)
	}
}

func testRequestEnds(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	e.bus("silent", &h, func(context.Context, []byte) []byte { return nil })
	hold := make(chan struct{})
	e.bus("slow", &h, func(ctx context.Context, _ []byte) []byte {
		select {
		case <-hold:
		case <-ctx.Done(): // Stop ends it
		}
		return nil
	})
	for _, node := range []string{"silent", "slow"} {
		Within(e, 10*time.Second, node, func() string {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if answer, err := a.Request(ctx, node, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Sprintf("%q, %v, want the context's end", answer, err)
			}
			return ""
		})
	}
}

func testStop(e *env) {
	var ha, hb heard
	a, b := e.bus("a", &ha, echo), e.bus("b", &hb, echo)
	e.ask(a, "b", []byte("x"))
	b.Stop()
	b.Stop()
	n := len(hb.list())
	for range 100 {
		_ = a.Broadcast([]byte("late"))
	}
	if err := b.Broadcast([]byte("x")); err == nil {
		e.Error("a bus that has stopped takes a broadcast")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := b.Request(ctx, "a", nil); err == nil {
		e.Error("a bus that has stopped takes a request")
	}
	Within(e, 10*time.Second, "a request to who has stopped", func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := a.Request(ctx, "b", []byte("x")); err == nil {
			return "answered"
		}
		return ""
	})
	if len(hb.list()) != n {
		e.Error("heard after stop")
	}
}

func testLarge(e *env) {
	var ha, hb heard
	a := e.bus("a", &ha, echo)
	e.bus("b", &hb, func(_ context.Context, msg []byte) []byte { return msg })
	large := bytes.Repeat([]byte("0123456789abcdef"), cluster.MaxMessage/16-64)
	if got := e.ask(a, "b", large); !bytes.Equal(got, large) {
		e.Errorf("%d bytes came back", len(got))
	}
	Within(e, 10*time.Second, "a large broadcast", func() string {
		_ = a.Broadcast(large)
		time.Sleep(10 * time.Millisecond)
		if got := hb.list(); len(got) == 0 || !bytes.Equal(got[len(got)-1], large) {
			return "not heard"
		}
		return ""
	})
}

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
