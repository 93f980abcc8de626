package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/client"
)

// joinOwners is how many nodes have the sessions that another one joins.
const joinOwners = 2

// joinResult is a node that joins two others, which have so many sessions without sockets, and then follows their changes. Seconds
// are from the start of its process.
type joinResult struct {
	Rows     int     `json:"rows"`
	Ready    float64 `json:"readySeconds"`    // until it listens
	Complete float64 `json:"completeSeconds"` // until its list has the true total and does not say that nodes are missing
	Indexed  float64 `json:"indexedSeconds"`  // until it has nothing left to do
	Listed   int     `json:"listed"`

	CompleteCPU float64 `json:"completeCpuSeconds"` // of the node, until then
	IndexedCPU  float64 `json:"indexedCpuSeconds"`
	OwnersCPU   float64 `json:"ownersCpuSeconds"` // of both others, until it was complete
	Bytes       float64 `json:"snapshotBytes"`    // that they sent
	FirstSearch float64 `json:"firstSearchMs"`    // as soon as it was complete, while the index was built

	OwnRow     float64 `json:"ownRowBytes"`     // heap a row of the first node's own, index included
	ReplicaRow float64 `json:"replicaRowBytes"` // the same of what it has of the second
	JoinerRow  float64 `json:"joinerRowBytes"`  // the same of the node that joined
	RSS        int64   `json:"rssBytes"`        // of the node that joined, after a collection
	PeakRSS    int64   `json:"peakRssBytes"`

	Sessions *followResult `json:"sessions"` // changes of ten: four sessions come, four go, two get another login
	Activity *followResult `json:"activity"` // each of a session that was idle
}

// followResult is what changes of one node cost another that has all rows.
type followResult struct {
	Changes    int     `json:"changes"`
	PerSecond  float64 `json:"perSecond"`
	Messages   float64 `json:"messages"`
	Bytes      float64 `json:"bytes"`
	CPU        float64 `json:"cpuSeconds"` // of the one that follows, but for what it takes when nothing changes
	PerMillion float64 `json:"cpuSecondsPerMillion"`
}

// join measures it.
func (b *bench) join(ctx context.Context, database string, errs io.Writer) (*joinResult, error) {
	r := &joinResult{Rows: b.cmd.JoinRows}
	b.progress("starting %d nodes with %d synthetic sessions", joinOwners, r.Rows)
	var orders []serverOrder
	for i := range joinOwners {
		orders = append(orders, serverOrder{Rows: shareOf(r.Rows, joinOwners, i), Skip: i * r.Rows})
	}
	all, err := b.startNodes(ctx, database, orders, errs)
	defer all.stop()
	if err != nil {
		return nil, err
	}
	if err := all.asks[0].quiesce(ctx); err != nil { // the indexes
		return nil, err
	}
	first := all.servers[0]
	r.OwnRow = float64(first.heap) / float64(max(1, first.order.Rows))
	if r.ReplicaRow, err = all.asks[0].heapOver(ctx, first.empty+first.heap, r.Rows-first.order.Rows); err != nil {
		return nil, err
	}
	b.progress("a node joins")
	if err := all.newcomer(ctx, b, r, errs); err != nil {
		return nil, err
	}
	b.progress("changes are followed")
	if r.Sessions, err = all.followed(ctx, churnOrder{PerSecond: followRate}, b.cmd.Follow); err != nil {
		return nil, err
	}
	r.Activity, err = all.followed(ctx, churnOrder{PerSecond: followRate, Touch: true}, b.cmd.Follow)
	return r, err
}

// newcomer starts one more node.
func (a *nodes) newcomer(ctx context.Context, b *bench, r *joinResult, errs io.Writer) error {
	if err := a.place(ctx, b); err != nil {
		return err
	}
	last := len(a.asks) - 1
	before, sent, err := a.owners(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := a.start(ctx, last, serverOrder{}, errs); err != nil {
		return err
	}
	r.Ready = time.Since(start).Seconds()
	if err := a.await(ctx, last, r.Rows); err != nil {
		return err
	}
	r.Complete = time.Since(start).Seconds()
	joiner := a.asks[last]
	took, err := joiner.timed(ctx, client.Query{PageSize: 50, Search: "0a1b"})
	if err != nil {
		return err
	}
	r.FirstSearch = millis(took)
	if r.Listed, _, err = a.listed(ctx, last); err != nil {
		return err
	}
	used, _, err := processorTime(joiner.target.PID)
	if err != nil {
		return err
	}
	r.CompleteCPU = used.Seconds()
	after, received, err := a.owners(ctx)
	if err != nil {
		return err
	}
	r.OwnersCPU, r.Bytes = (after - before).Seconds(), received-sent
	if err := joiner.quiesce(ctx); err != nil {
		return err
	}
	r.Indexed = time.Since(start).Seconds() - quietFor.Seconds()
	if used, _, err = processorTime(joiner.target.PID); err != nil {
		return err
	}
	r.IndexedCPU = used.Seconds()
	r.PeakRSS = peakRSS(joiner.target.PID)
	if r.JoinerRow, err = joiner.heapOver(ctx, a.servers[last].empty, r.Rows); err != nil {
		return err
	}
	r.RSS, err = joiner.rss()
	return err
}

// owners returns what the nodes that were there first have used, and the bytes of snapshots that they have sent.
func (a *nodes) owners(ctx context.Context) (used time.Duration, sent float64, err error) {
	for _, b := range a.asks[:joinOwners] {
		cpu, _, err := processorTime(b.target.PID)
		if err != nil {
			return 0, 0, err
		}
		sums, err := b.metrics(ctx)
		if err != nil {
			return 0, 0, err
		}
		used += cpu
		sent += sums[`rollcall_cluster_sent_bytes_total{what="snapshot"}`]
	}
	return used, sent, nil
}

// quietFor is how long a process must have next to nothing to do to be at rest.
const quietFor = 500 * time.Millisecond

// quiesce waits until the server has nothing to do.
func (b *bench) quiesce(ctx context.Context) error {
	for end := time.Now().Add(clusterPatience); ; {
		m := b.startMeter()
		if err := pause(ctx, quietFor); err != nil {
			return err
		}
		used, _, err := m.cores()
		if err != nil || used < 0.15 {
			return err
		}
		if time.Now().After(end) {
			return errors.New("the server does not come to rest")
		}
	}
}

// heapOver returns the live bytes of the heap beyond others, a row.
func (b *bench) heapOver(ctx context.Context, others int64, rows int) (float64, error) {
	if err := b.collect(ctx); err != nil {
		return 0, err
	}
	sums, err := b.metrics(ctx)
	return (sums["go_memstats_heap_alloc_bytes"] - float64(others)) / float64(max(1, rows)), err
}

// peakRSS is the most memory that a process has had (proc_pid_status(5)); 0 where the system does not tell.
func peakRSS(pid int) (kib int64) {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status")) // 0
	for line := range strings.Lines(string(data)) {
		if rest, is := strings.CutPrefix(line, "VmHWM:"); is {
			_, _ = fmt.Sscan(rest, &kib) // 0
		}
	}
	return kib << 10
}

// followRate is how many changes a second are made; a node that does not keep up makes them take longer.
const followRate = 10_000

// followed has the first node make so many changes, and takes what they cost the last.
func (a *nodes) followed(ctx context.Context, order churnOrder, changes int) (*followResult, error) {
	joiner, source := a.asks[len(a.asks)-1], a.servers[0]
	if err := joiner.quiesce(ctx); err != nil {
		return nil, err
	}
	idle, err := joiner.atRest(ctx)
	if err != nil {
		return nil, err
	}
	before, err := a.asks[0].metrics(ctx)
	if err != nil {
		return nil, err
	}
	had, err := joiner.metrics(ctx)
	if err != nil {
		return nil, err
	}
	busy := joiner.startMeter()
	order.Most = changes
	if _, err := source.churn(order); err != nil {
		return nil, err
	}
	const got, gave = "rollcall_cluster_changes_received_total", "rollcall_cluster_changes_sent_total"
	r, made := &followResult{}, 0
	if err := eventually(ctx, "not every change was followed", func(ctx context.Context) (bool, error) {
		report, err := source.churn(churnOrder{})
		if err != nil {
			return false, err
		}
		if made += report.Changes; made < changes {
			return false, pause(ctx, 50*time.Millisecond)
		}
		now, err := a.asks[0].metrics(ctx)
		if err != nil {
			return false, err
		}
		sums, err := joiner.metrics(ctx)
		r.Changes = int(sums[got] - had[got])
		return r.Changes > 0 && sums[got]-had[got] == now[gave]-before[gave], err
	}); err != nil {
		return nil, err
	}
	seconds := time.Since(busy.start).Seconds()
	used, _, err := busy.cores()
	if err != nil {
		return nil, err
	}
	if _, err := source.churn(churnOrder{Halt: true}); err != nil {
		return nil, err
	}
	after, err := a.asks[0].metrics(ctx)
	if err != nil {
		return nil, err
	}
	if err := joiner.quiesce(ctx); err != nil {
		return nil, err
	}
	later, err := joiner.atRest(ctx)
	r.Messages = after["rollcall_cluster_messages_sent_total"] - before["rollcall_cluster_messages_sent_total"]
	r.Bytes = after[`rollcall_cluster_sent_bytes_total{what="log"}`] - before[`rollcall_cluster_sent_bytes_total{what="log"}`]
	r.PerSecond, r.CPU = float64(r.Changes)/seconds, max(0, used-min(idle, later))*seconds
	r.PerMillion = r.CPU / float64(r.Changes) * 1e6
	return r, err
}

// atRest is how many cores the server keeps busy while nothing happens; now and then it tidies up, which is no part of that.
func (b *bench) atRest(ctx context.Context) (float64, error) {
	m := b.startMeter()
	if err := pause(ctx, min(2*time.Second, b.cmd.IdleFor)); err != nil {
		return 0, err
	}
	used, _, err := m.cores()
	return used, err
}

// failure returns what nodes must not do; slow is not broken.
func (r *joinResult) failure() error {
	if r.Listed != r.Rows {
		return fmt.Errorf("cluster: of %d sessions elsewhere a node that joined lists %d", r.Rows, r.Listed)
	}
	return nil
}

func (r *joinResult) table(line func(name, note string)) {
	line("cluster: join", fmt.Sprintf("lists all %d of %d other nodes %.2f s after its start (%.1f s of processor, of theirs %.1f s); indexed after %.1f s",
		r.Rows, joinOwners, r.Complete, r.CompleteCPU, r.OwnersCPU, r.Indexed))
	line("cluster: join, memory", fmt.Sprintf("a row of its own %.0f B of heap, of another node %.0f B, all of the node that joined %.0f B; %d MiB of RSS, at most %d",
		r.OwnRow, r.ReplicaRow, r.JoinerRow, r.RSS>>20, r.PeakRSS>>20))
	follow := func(what string, f *followResult) {
		line("cluster: follow, "+what, fmt.Sprintf("%.1f s of processor a million changes; %.0f B each, %.0f in a message",
			f.PerMillion, f.Bytes/float64(f.Changes), float64(f.Changes)/max(1, f.Messages)))
	}
	follow("sessions", r.Sessions)
	follow("activity", r.Activity)
}
