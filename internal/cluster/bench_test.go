package cluster

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// benchRows are changes that differ as sessions do.
func benchRows(n int) []registry.RowChange {
	changes := benchChanges(n)
	for i := range changes {
		row := &changes[i].Row
		row.CreatedAt += api.Millis(i)
		row.License, row.Login = fmt.Sprintf("LIC-%013d", i), fmt.Sprintf("someone-%012d", i)
		row.ClientID, row.IP = fmt.Sprintf("client-%05d", i%100_000), fmt.Sprintf("203.0.%d.%d", i/250%250, i%250)
	}
	return changes
}

// BenchmarkFollow is what a node does for another's changes: it reads batches of 100 and changes its registry, in which there are
// 100,000 rows and their index.
func BenchmarkFollow(b *testing.B) {
	r := registry.New(registry.Config{Node: "a"})
	row := benchChanges(1)[0].Row
	r.SetApplication(row.Organization, row.Application, registry.Gate{State: api.ApplicationActive}, 0)
	all := benchRows(200_000)
	r.Follow("srv-01", all[:100_000])
	var batches [][]byte
	for _, way := range [][2]int{{100_000, 0}, {0, 100_000}} { // there and back: as many rows come as go
		for at := 0; at < 100_000; at += 50 {
			changes := make([]registry.RowChange, 0, 100)
			for i := at; i < at+50; i++ {
				changes = append(changes, all[way[0]+i], registry.RowChange{Kind: registry.RowGone, Row: all[way[1]+i].Row})
			}
			msg, _ := appendChanges(appendHeader(nil, header{kind: kindBatch, node: "srv-01", incarnation: 1}), "srv-01", changes, math.MaxInt)
			batches = append(batches, msg)
		}
	}
	b.ResetTimer()
	for i := range b.N {
		m, err := parseMessage(batches[i%len(batches)])
		if err != nil {
			b.Fatal(err)
		}
		r.Follow("srv-01", m.changes)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/100*1e6, "s/million")
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
