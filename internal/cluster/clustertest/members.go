// Package clustertest holds every implementation of cluster.Bus to one contract, and nodes on it to what package cluster promises.
// An implementation joins with one line: clustertest.Run(t, buses). Faults makes a bus that errs out of one that does not.
package clustertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// Org and App are where the sessions of members are.
var (
	Org = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	App = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
)

// Fataler is the part of testing.TB and rapid.T that members need.
type Fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Member is a node of a cluster in a test: a registry and a cluster.Node, which run until they are stopped or killed.
type Member struct {
	*cluster.Node
	Name        string
	Incarnation int64
	Registry    *registry.Registry

	t      Fataler
	config cluster.Config
	faults *Faults
	end    context.CancelFunc
	done   chan error
	mu     sync.Mutex
	ended  int // by Applied
	opened int
	ver    int64
	lost   []registry.Row
}

// Start runs a member. timing is short where time is real.
func Start(t Fataler, name string, incarnation int64, bus cluster.Bus, faults *Faults, timing cluster.Timing) *Member {
	t.Helper()
	faults.join(name)
	bus = faults.Bus(name, bus)
	m := &Member{Name: name, Incarnation: incarnation, Registry: registry.New(registry.Config{Node: name}), t: t, faults: faults,
		done: make(chan error, 1)}
	m.Registry.SetApplication(Org, App, registry.Gate{State: api.ApplicationActive}, 0)
	m.config = cluster.Config{Node: name, Incarnation: incarnation, Registry: m.Registry, Bus: bus, Owner: owner{m}, Timing: timing,
		Version: m.Version, Lost: m.noteLost}
	var err error
	if m.Node, err = cluster.New(m.config); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var ctx context.Context
	ctx, m.end = context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { m.done <- m.Run(ctx) })
	return m
}

// Stop lets the member leave.
func (m *Member) Stop() {
	m.t.Helper()
	m.end()
	if err := <-m.done; err != nil {
		m.t.Fatalf("%s: %v", m.Name, err)
	}
}

// Kill ends the member without a goodbye, as far as others can tell. They hear the name again once it is started again.
func (m *Member) Kill(others ...*Member) {
	m.t.Helper()
	for _, other := range others {
		m.faults.Cut(m.Name, other.Name, true)
	}
	m.Stop()
}

// Version is the version of the configuration that the member has applied.
func (m *Member) Version() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ver
}

// SetVersion changes it.
func (m *Member) SetVersion(v int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ver = v
}

func (m *Member) noteLost(rows []registry.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = append(m.lost, rows...)
}

// Lost returns what the member was told that it lost.
func (m *Member) Lost() []registry.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lost)
}

// Open opens sessions at the member.
func (m *Member) Open(n int) {
	m.t.Helper()
	for range n {
		m.opened++
		id := api.NewSessionID()
		row := registry.Row{Organization: Org, Application: App, Session: id, ServerID: api.NewServerID(m.Name, id),
			CreatedAt: api.Millis(1_700_000_000_000 + m.opened), IP: "203.0.113.10", ClientID: id.String(),
			License: fmt.Sprintf("LIC-%d", m.opened%7), Login: "ada", Authorized: m.opened%2 == 0}
		if err := m.Registry.Insert(row, registry.Unlimited); err != nil {
			m.t.Fatalf("%s: insert: %v", m.Name, err)
		}
	}
}

// Own returns the member's own rows, newest first.
func (m *Member) Own() []registry.Row {
	changes, _, _ := m.Registry.OwnRows(registry.RosterPosition{}, 1<<30)
	rows := make([]registry.Row, len(changes))
	for i := range changes {
		rows[i] = changes[i].Row
	}
	return rows
}

// Remote returns how many rows of another node the member has.
func (m *Member) Remote(node string) (n int) {
	for _, row := range m.Registry.Sessions(App, nil, 1<<30, registry.RangeAll, 0) {
		if owner, _, _ := m.Registry.Owner(App, row.ServerID); owner == node {
			n++
		}
	}
	return n
}

// owner is a member's cluster.Owner.
type owner struct{ *Member }

// Disconnect takes the row out.
func (o owner) Disconnect(_ context.Context, app api.ApplicationID, id api.ServerID, _, _ string) bool {
	_, found := o.Registry.Remove(app, id)
	return found
}

// Applied raises the gate and takes out what it returns.
func (o owner) Applied(_ context.Context, app api.ApplicationID, epoch uint64, _ []byte) (int, error) {
	rows := o.Registry.SetApplication(Org, app, registry.Gate{State: api.ApplicationActive, Epoch: epoch}, 0)
	for i := range rows {
		o.Registry.Remove(app, rows[i].ServerID)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended += len(rows)
	return o.ended, nil
}

// Ask repeats what it is asked, and fails on "fail".
func (o owner) Ask(_ context.Context, topic string, payload []byte) ([]byte, error) {
	if topic == "fail" {
		return nil, api.Errorf(api.CodeSessionEnded, "%s", payload)
	}
	return append([]byte(o.Name+" "+topic+" "), payload...), nil
}

// Differ returns how the members' lists differ from the union of what each owns; "" when they do not, and all is known to be there.
func Differ(members ...*Member) string {
	var union []registry.Row
	for _, m := range members {
		union = append(union, m.Own()...)
	}
	slices.SortFunc(union, func(a, b registry.Row) int {
		return api.Position{CreatedAt: a.CreatedAt, ServerID: a.ServerID}.Compare(api.Position{CreatedAt: b.CreatedAt, ServerID: b.ServerID})
	})
	for _, m := range members {
		for _, other := range members {
			i := slices.IndexFunc(m.Peers(), func(p cluster.Peer) bool { return p.Name == other.Name && p.State == cluster.PeerLive })
			if i < 0 && other != m {
				return fmt.Sprintf("%s does not know %s: %+v", m.Name, other.Name, m.Peers())
			}
		}
		got := m.Registry.Sessions(App, nil, 1<<30, registry.RangeAll, 0)
		if len(got) != len(union) {
			return fmt.Sprintf("%s lists %d rows of %d; peers %+v", m.Name, len(got), len(union), m.Peers())
		}
		for i := range got {
			got[i].LastActiveAt = union[i].LastActiveAt // which may lag
			if got[i] != union[i] {
				return fmt.Sprintf("%s:\n%s", m.Name, cmp.Diff(union[i], got[i]))
			}
		}
		if missing := m.Missing(); len(missing) > 0 {
			return fmt.Sprintf("%s misses %v", m.Name, missing)
		}
	}
	return ""
}

// Within waits until check returns "", and fails with what it returns if that takes longer than limit.
func Within(t Fataler, limit time.Duration, what string, check func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s, after %s: %s", what, limit, problem)
		}
		time.Sleep(limit / 200)
	}
}

// Watcher follows a live query of a member, as a client of a stream would.
type Watcher struct {
	member *Member
	query  registry.Query
	watch  *registry.Watch
	items  map[api.ServerID]api.Row
}

// Watch begins to watch a page of the member's application.
func (m *Member) Watch(page, size int) *Watcher {
	w := &Watcher{member: m, query: registry.Query{Organization: Org, Application: App, Page: page, PageSize: size},
		items: map[api.ServerID]api.Row{}}
	view, watch := m.Registry.Watch(w.query)
	for _, row := range view.Items {
		w.items[row.ServerID] = row
	}
	w.watch = watch
	return w
}

// Check takes what has changed and returns how the page differs from a fresh one.
func (w *Watcher) Check() string {
	for {
		if problem := w.apply(w.watch.Poll()); problem != "" {
			return problem
		}
		fresh := map[api.ServerID]api.Row{}
		for _, row := range w.member.Registry.List(w.query).Items {
			fresh[row.ServerID] = row
		}
		since := w.watch.Poll()
		if since == nil {
			return cmp.Diff(fresh, w.items)
		}
		if problem := w.apply(since); problem != "" { // it changed meanwhile
			return problem
		}
	}
}

func (w *Watcher) apply(d *registry.Delta) string {
	if d == nil {
		return ""
	}
	for _, id := range d.Removed {
		if _, there := w.items[id]; !there {
			return fmt.Sprintf("removed %s, which is not on the page", id)
		}
		delete(w.items, id)
	}
	for _, row := range d.Added {
		if _, there := w.items[row.ServerID]; there {
			return fmt.Sprintf("added %s, which is on the page", row.ServerID)
		}
		w.items[row.ServerID] = row
	}
	for _, row := range d.Updated {
		if _, there := w.items[row.ServerID]; !there {
			return fmt.Sprintf("updated %s, which is not on the page", row.ServerID)
		}
		w.items[row.ServerID] = row
	}
	return ""
}

// Member returns the member whose page it is.
func (w *Watcher) Member() *Member { return w.member }

// Close ends the watch.
func (w *Watcher) Close() { w.watch.Close() }

// Real is the timing for buses on which time is real.
var Real = cluster.Timing{Beat: 50 * time.Millisecond, Dead: 500 * time.Millisecond, Gap: 20 * time.Millisecond, Pull: 500 * time.Millisecond,
	Command: time.Second, Missing: 3 * time.Second}
