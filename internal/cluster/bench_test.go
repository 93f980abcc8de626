package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// benchRows are changes that differ as sessions do: what their texts have in common decides what the index costs.
func benchRows(n int) []registry.RowChange {
	changes := benchChanges(n)
	for i := range changes {
		row := &changes[i].Row
		row.CreatedAt += api.Millis(i)
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		row.License = fmt.Sprintf("PRO-%06X-%06X", rng.IntN(1<<24), rng.IntN(1<<24))
		row.IP = fmt.Sprintf("91.%d.%d.%d", 100+rng.IntN(156), 10+rng.IntN(90), 100+rng.IntN(156))
		row.ClientID, row.Login = fmt.Sprintf("client-%05x", rng.IntN(1<<20)), fmt.Sprintf("someone-%012d", i)
	}
	return changes
}

// BenchmarkFollow is what a node does for another's changes: it reads batches of 100 and changes its registry, in which there are
// rows and their index. Half of the changes are sessions that come, half are any that go.
func BenchmarkFollow(b *testing.B) {
	for _, rows := range []int{1_000, 100_000, 1_000_000} {
		if rows < 1_000_000 || !testing.Short() {
			b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) { benchFollow(b, rows) })
		}
	}
}

func benchFollow(b *testing.B, rows int) {
	r := registry.New(registry.Config{Node: "a"})
	row := benchChanges(1)[0].Row
	r.SetApplication(row.Organization, row.Application, registry.Gate{State: api.ApplicationActive}, 0)
	live := benchRows(rows)
	r.Follow("srv-01", live)
	come := benchRows(rows + 50*b.N)[rows:]
	batches := make([][]byte, b.N)
	for i := range batches {
		changes := make([]registry.RowChange, 0, 100)
		for range 50 {
			gone := &live[rand.IntN(rows)]
			changes = append(changes, registry.RowChange{Kind: registry.RowGone, Row: gone.Row}, come[0])
			*gone, come = come[0], come[1:]
		}
		batches[i], _ = appendChanges(appendHeader(nil, header{kind: kindBatch, node: "srv-01", incarnation: 1}), "srv-01", changes, math.MaxInt)
	}
	b.ResetTimer()
	before := used()
	for i := range b.N {
		m, err := parseMessage(batches[i])
		if err != nil {
			b.Fatal(err)
		}
		r.Follow("srv-01", m.changes)
	}
	b.ReportMetric((used()-before).Seconds()/float64(b.N)/100*1e6, "cpu-s/million")
}

// BenchmarkJoin is a node that joins one that has so many rows, until it shows them.
func BenchmarkJoin(b *testing.B) {
	for _, rows := range []int{10_000, 100_000, 333_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			owner := registry.New(registry.Config{Node: "srv-01"})
			row := benchChanges(1)[0].Row
			owner.SetApplication(row.Organization, row.Application, registry.Gate{State: api.ApplicationActive}, 0)
			for _, c := range benchRows(rows) {
				if err := owner.Insert(c.Row, registry.Unlimited); err != nil {
					b.Fatal(err)
				}
			}
			var hub Memory
			incarnation := int64(0)
			run := func(name string, r *registry.Registry) (n *Node, stop func()) {
				incarnation++
				n, err := New(Config{Node: name, Incarnation: incarnation, Registry: r, Bus: hub.Bus(), Owner: idle{}})
				if err != nil {
					b.Fatal(err)
				}
				ctx, end := context.WithCancel(context.Background())
				done := make(chan error)
				go func() { done <- n.Run(ctx) }()
				return n, func() {
					end()
					<-done
				}
			}
			_, stop := run("srv-01", owner)
			defer stop()
			b.ResetTimer()
			for range b.N {
				r := registry.New(registry.Config{Node: "srv-02"})
				r.SetApplication(row.Organization, row.Application, registry.Gate{State: api.ApplicationActive}, 0)
				n, stop := run("srv-02", r)
				for len(n.Peers()) == 0 || n.Peers()[0].State != PeerLive {
					time.Sleep(time.Millisecond)
				}
				if r.Stats().Sessions != rows {
					b.Fatalf("%d rows", r.Stats().Sessions)
				}
				stop()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/join")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(rows)*1e6, "µs/row")
		})
	}
}
