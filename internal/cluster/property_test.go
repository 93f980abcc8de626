package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/cluster/clustertest"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// program is three nodes on a bus that errs, and what happens to them.
type program struct {
	*rapid.T
	hub         cluster.Memory
	faults      *clustertest.Faults
	members     []*clustertest.Member // nil in the place of one that is down
	watchers    []*clustertest.Watcher
	incarnation int64
	down        map[string]time.Time // when a node died; none for one that said goodbye
	held        map[string]time.Time // until when a node stood still
}

func (p *program) draw(n int, label string) int { return rapid.IntRange(0, n-1).Draw(p.T, label) }

func (p *program) start(i int) {
	p.incarnation++
	p.members[i] = clustertest.Start(p, fmt.Sprintf("n%d", i), p.incarnation, p.hub.Bus(), p.faults, cluster.Timing{})
	delete(p.down, p.members[i].Name)
}

// stop takes a node down, and the watchers at it.
func (p *program) stop(i int, goodbye bool) {
	m := p.members[i]
	p.members[i] = nil
	p.watchers = slices.DeleteFunc(p.watchers, func(w *clustertest.Watcher) bool {
		if w.Member() == m {
			w.Close()
			return true
		}
		return false
	})
	if goodbye {
		m.Stop()
		return
	}
	m.Kill(slices.DeleteFunc(slices.Clone(p.members), func(o *clustertest.Member) bool { return o == nil })...)
	p.down[m.Name] = time.Now()
}

func (p *program) up() (members []*clustertest.Member) {
	for _, m := range p.members {
		if m != nil {
			members = append(members, m)
		}
	}
	return members
}

// change makes a random change of a node's own rows.
func (p *program) change(m *clustertest.Member) {
	rows := m.Own()
	if len(rows) == 0 || p.draw(2, "open") == 0 {
		m.Open(1 + p.draw(5, "sessions"))
		return
	}
	row := rows[p.draw(len(rows), "row")]
	switch p.draw(4, "what") {
	case 0:
		row.License, row.Authorized = "changed", !row.Authorized
		if err := m.Registry.Update(row, registry.Unlimited); err != nil {
			p.Fatalf("update: %v", err)
		}
	case 1:
		m.Registry.Touch(clustertest.App, row.ServerID, row.CreatedAt+api.Millis(p.draw(1_000_000, "ms")))
	default:
		m.Registry.Remove(clustertest.App, row.ServerID)
	}
}

func (p *program) step() {
	i := p.draw(3, "node")
	m := p.members[i]
	switch kind := p.draw(14, "step"); {
	case kind < 6 && m != nil:
		p.change(m)
	case kind < 8:
		time.Sleep(time.Duration(p.draw(1500, "pause")) * time.Millisecond)
	case kind == 8 && m != nil:
		p.watchers = append(p.watchers, m.Watch(1+p.draw(2, "page"), 1+p.draw(10, "size")))
	case kind == 9 && m != nil:
		p.faults.Set(clustertest.Rates{Loss: float64(p.draw(5, "loss")) / 10, Repeat: 0.1, Delay: 0.3, MaxDelay: 300 * time.Millisecond})
	case kind == 10:
		p.faults.Cut(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", (i+1+p.draw(2, "other"))%3), p.draw(2, "cut") == 0)
	case kind == 11 && m != nil:
		p.faults.Hold(m.Name)
		p.held[m.Name] = time.Now().Add(time.Hour)
	case kind == 12 && m != nil:
		p.faults.Release(m.Name)
		p.held[m.Name] = time.Now()
	case kind == 13 && m != nil:
		p.stop(i, p.draw(2, "goodbye") == 0)
	case kind == 13:
		p.start(i)
	}
	synctest.Wait() // so that a seed means one course of events, as far as that is possible
	for _, w := range p.watchers {
		if problem := w.Check(); problem != "" {
			p.Fatalf("watcher: %s", problem)
		}
	}
	for name, since := range p.down {
		if time.Since(since) < 5*time.Second {
			continue
		}
		for _, m := range p.up() {
			if n := m.Remote(name); n > 0 && time.Since(p.held[m.Name]) > 5*time.Second {
				p.Fatalf("%s has %d rows of %s, which died %s ago (G5)", m.Name, n, name, time.Since(since))
			}
		}
	}
}

// TestRegistriesConverge: whatever happens to three nodes and their messages, once the bus heals all of them show the union of what
// each owns, and the pages of their watchers are exact all along.
func TestRegistriesConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // hidden: T.Deadline, which is refused in a bubble
			p := &program{T: t, members: make([]*clustertest.Member, 3), down: map[string]time.Time{}, held: map[string]time.Time{},
				faults: clustertest.NewFaults(rapid.Uint64().Draw(t, "seed"))}
			for i := range 3 {
				p.start(i)
			}
			defer func() {
				p.faults.Heal()
				for _, m := range p.up() {
					m.Stop()
				}
				for _, w := range p.watchers {
					w.Close()
				}
			}()
			for range rapid.IntRange(0, 80).Draw(t, "steps") {
				p.step()
			}
			p.faults.Heal()
			if len(p.up()) < 3 {
				time.Sleep(20 * time.Second) // until who died, or whose goodbye was lost, does not count as missing any more
			}
			clustertest.Within(t, 10*time.Second, "the bus is well", func() string { return clustertest.Differ(p.up()...) })
			for _, w := range p.watchers {
				if problem := w.Check(); problem != "" {
					t.Fatalf("watcher: %s", problem)
				}
			}
		})
	})
}
