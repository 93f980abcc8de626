package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// holdResult is many real clients, spread over nodes that list, search and stream them as one. Processor time is of the nodes'
// processes together, in seconds, unless a field says otherwise.
type holdResult struct {
	Nodes    int `json:"nodes"`
	Sessions int `json:"sessions"` // on all nodes together, each with a socket

	Nobody phase   `json:"nobody"` // before: what nodes and streams need by themselves; the others are without that
	Opened phase   `json:"opened"` // all of them, on all nodes at once
	Idle   phase   `json:"idle"`   // pings every 25 s
	Ended  phase   `json:"ended"`  // all clients leave at once, until every node lists none
	Failed int     `json:"failed"`
	Listed []int   `json:"listed"` // by each node
	Empty  []int64 `json:"emptyRssBytes"`
	RSS    []int64 `json:"rssBytes"` // of each node with its own sessions and the rows of all others
	Kernel float64 `json:"kernelBytesPerSocket,omitempty"`

	Queries  int          `json:"queries"`  // different pages and searches that every node answered alike
	Streams  int          `json:"streams"`  // at the first and the last node, open all the time, whose pages were the lists' in the end
	Messages int          `json:"messages"` // that they brought
	List     quantiles    `json:"listMs"`   // random pages, at all nodes in turn
	Search   quantiles    `json:"searchMs"`
	Watch    *watchResult `json:"watch"` // a session of the first node, at a watcher of the last, with all others there
}

// phase is what a stretch of the measurement cost.
type phase struct {
	Seconds  float64     `json:"seconds"`
	CPU      float64     `json:"cpuSeconds"`
	Postgres postgresUse `json:"postgres"`
}

// hold measures it.
func (b *bench) hold(ctx context.Context, database string, errs io.Writer) (*holdResult, error) {
	r := &holdResult{Nodes: b.cmd.Nodes, Sessions: b.cmd.Hold}
	b.progress("starting %d nodes", r.Nodes)
	all, err := b.startNodes(ctx, database, make([]serverOrder, r.Nodes), errs)
	defer all.stop()
	if err != nil {
		return nil, err
	}
	db, err := openPostgresMeter(ctx, database)
	if err != nil {
		return nil, err
	}
	defer db.close(ctx)
	queries := holdQueries(r.Sessions)
	streams, err := all.streams(ctx, queries)
	defer func() {
		for _, s := range streams {
			s.end()
		}
	}()
	if err != nil {
		return nil, err
	}
	if r.Empty, err = all.rss(); err != nil {
		return nil, err
	}
	if err := all.measure(ctx, db, &r.Nobody, func() error { return pause(ctx, min(4*time.Second, b.cmd.IdleFor)) }); err != nil {
		return nil, err
	}
	slab := unreclaimable()
	everybody := &crowd{}
	defer func() { everybody.stop() }()
	b.progress("connecting %d sessions to %d nodes", r.Sessions, r.Nodes)
	if err := all.measure(ctx, db, &r.Opened, func() (err error) {
		if r.Failed, err = all.gather(ctx, everybody, r.Sessions, errs); err != nil {
			return err
		}
		return all.listing(ctx, r.Sessions-r.Failed)
	}); err != nil {
		return nil, err
	}
	r.Kernel = max(0, float64(unreclaimable()-slab)/float64(2*r.Sessions))
	if err := all.asOne(ctx, r, queries, streams); err != nil {
		return nil, err
	}
	b.progress("measuring %d idle sessions", r.Sessions)
	if err := all.measure(ctx, db, &r.Idle, func() error { return pause(ctx, b.cmd.IdleFor) }); err != nil {
		return nil, err
	}
	if r.RSS, err = all.rss(); err != nil {
		return nil, err
	}
	err = all.measure(ctx, db, &r.Ended, func() error {
		everybody.stop()
		return all.listing(ctx, 0)
	})
	for _, p := range []*phase{&r.Opened, &r.Idle, &r.Ended} {
		p.without(r.Nobody)
	}
	return r, err
}

// without takes off what another phase needed, by the time.
func (p *phase) without(other phase) {
	share := p.Seconds / other.Seconds
	p.CPU = max(0, p.CPU-share*other.CPU)
	p.Postgres.CPU = max(0, p.Postgres.CPU-share*other.Postgres.CPU)
	p.Postgres.WAL = max(0, p.Postgres.WAL-int64(share*float64(other.Postgres.WAL)))
}

// holdQueries are pages from the newest to the oldest, and searches, as operators look at them.
func holdQueries(sessions int) []client.Query {
	pages := max(1, sessions/api.MaxPageSize)
	queries := []client.Query{{Page: 1, PageSize: 10}, {Page: pages, PageSize: api.MaxPageSize}}
	for range 4 {
		queries = append(queries, client.Query{Page: 1 + rand.IntN(pages), PageSize: api.MaxPageSize},
			client.Query{Page: 1, PageSize: api.MaxPageSize, Search: strconv.Itoa(10 + rand.IntN(90))},
			client.Query{Page: 1, PageSize: api.MaxPageSize, Search: fmt.Sprintf("%04d", rand.IntN(10_000))},
			client.Query{Page: 1, PageSize: api.MaxPageSize, Search: "127.0.0." + strconv.Itoa(2+rand.IntN(sourceAddresses)),
				Categories: []api.Category{api.CategoryIP}})
	}
	for i := range queries {
		queries[i].Totals = true
	}
	return queries
}

// streams opens each query at the first node and at the last.
func (a *nodes) streams(ctx context.Context, queries []client.Query) (streams []*follower, err error) {
	for _, b := range []*bench{a.asks[0], a.asks[len(a.asks)-1]} {
		for _, q := range queries {
			f, err := b.follow(ctx, q)
			if err != nil {
				return streams, err
			}
			streams = append(streams, f)
		}
	}
	return streams, nil
}

// measure takes what the nodes and PostgreSQL use while something is done.
func (a *nodes) measure(ctx context.Context, db *postgresMeter, p *phase, do func() error) error {
	before, err := a.stored(ctx, db)
	if err != nil {
		return err
	}
	used, err := a.processorTime()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := do(); err != nil {
		return err
	}
	p.Seconds = time.Since(start).Seconds()
	after, err := a.processorTime()
	if err != nil {
		return err
	}
	p.CPU = (after - used).Seconds()
	now, err := a.stored(ctx, db)
	p.Postgres = now.since(before)
	return err
}

// stored is what PostgreSQL has done, once the nodes have given it all that they have.
func (a *nodes) stored(ctx context.Context, db *postgresMeter) (u postgresUse, err error) {
	var rows float64
	err = eventually(ctx, "the nodes' records are not written", func(ctx context.Context) (bool, error) {
		rows = 0
		for _, b := range a.asks {
			sums, err := b.metrics(ctx)
			if err != nil || sums["rollcall_store_queue_records"] > 0 {
				return false, err
			}
			rows += sums["rollcall_store_batch_records_sum"]
		}
		return true, nil
	})
	if err != nil {
		return u, err
	}
	u, err = db.read(ctx)
	u.Rows = int64(rows)
	return u, err
}

// processorTime is that of all nodes.
func (a *nodes) processorTime() (sum time.Duration, err error) {
	for _, b := range a.asks {
		used, _, err := processorTime(b.target.PID)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// rss is the resident memory of each node.
func (a *nodes) rss() (each []int64, err error) {
	for _, b := range a.asks {
		n, err := b.rss()
		if err != nil {
			return nil, err
		}
		each = append(each, n)
	}
	return each, nil
}

// gather opens so many sessions, as many on each node, on all of them at once.
func (a *nodes) gather(ctx context.Context, into *crowd, sessions int, errs io.Writer) (failed int, err error) {
	crowds, problems := make([]*crowd, len(a.asks)), make([]error, len(a.asks))
	var opening sync.WaitGroup
	for i, b := range a.asks {
		opening.Go(func() {
			crowds[i], problems[i] = startCrowd(ctx, b.target, shareOf(sessions, len(a.asks), i), max(1, b.cmd.Concurrency/len(a.asks)), errs)
		})
	}
	opening.Wait()
	for _, c := range crowds {
		if c != nil {
			into.children = append(into.children, c.children...)
			failed += c.connected.Failed
		}
	}
	return failed, errors.Join(problems...)
}

// listing waits until every node lists so many sessions.
func (a *nodes) listing(ctx context.Context, want int) error {
	for i := range a.asks {
		if err := a.await(ctx, i, want); err != nil {
			return err
		}
	}
	return nil
}

// asOne has every node list and search, compares what they say, and what streams show.
func (a *nodes) asOne(ctx context.Context, r *holdResult, queries []client.Query, streams []*follower) (err error) {
	b := a.asks[0]
	b.progress("listing, searching and streaming at %d nodes", len(a.asks))
	for i := range a.asks {
		n, _, err := a.listed(ctx, i)
		if err != nil {
			return err
		}
		r.Listed = append(r.Listed, n)
	}
	if r.Watch, err = a.across().watch(ctx); err != nil {
		return err
	}
	if err := a.listing(ctx, r.Sessions-r.Failed); err != nil {
		return err
	}
	if err := a.agree(ctx, queries, streams); err != nil {
		return err
	}
	r.Queries, r.Streams = len(queries), len(streams)
	for _, s := range streams {
		r.Messages += len(s.all())
	}
	var list, search []time.Duration
	for i := range max(len(a.asks), b.cmd.Requests) {
		q := queries[i%len(queries)]
		took, err := a.asks[i%len(a.asks)].timed(ctx, q)
		if err != nil {
			return err
		}
		if q.Search == "" {
			list = append(list, took)
		} else {
			search = append(search, took)
		}
	}
	r.List, r.Search = quantilesOf(list), quantilesOf(search)
	return nil
}

func (b *bench) timed(ctx context.Context, q client.Query) (time.Duration, error) {
	q.Application = b.target.Application
	start := time.Now()
	_, err := b.m.Live(ctx, q)
	return time.Since(start), err
}

// agree waits until every node answers every query alike, and every stream shows the same.
func (a *nodes) agree(ctx context.Context, queries []client.Query, streams []*follower) error {
	for end := time.Now().Add(quiesceTimeout); ; {
		wrong, err := a.differ(ctx, queries, streams)
		if err != nil || wrong == nil {
			return err
		}
		if time.Now().After(end) {
			return wrong
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (a *nodes) differ(ctx context.Context, queries []client.Query, streams []*follower) (wrong, err error) {
	for n, q := range queries {
		q.Application = a.asks[0].target.Application
		var first api.View
		for i, b := range a.asks {
			list, err := b.m.Live(ctx, q)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				first = list.View
			} else if !reflect.DeepEqual(list.View, first) {
				return fmt.Errorf("%s and %s answer %+v differently: %+v and %+v", nodeName(0), nodeName(i), q, first.Counts, list.Counts), nil
			}
		}
		for i := n; i < len(streams); i += len(queries) {
			if err := streams[i].failure(); err != nil {
				return nil, err
			}
			if page := streams[i].view(); !reflect.DeepEqual(page, first) {
				return fmt.Errorf("a stream of %+v holds %d rows and %+v, the list %d and %+v", q, len(page.Items), page.Counts,
					len(first.Items), first.Counts), nil
			}
		}
	}
	return nil, nil
}

// unreclaimable is the kernel's memory for its own objects, sockets among them, in bytes; 0 where the system does not tell.
func unreclaimable() (bytes int64) {
	data, _ := os.ReadFile("/proc/meminfo") // 0
	for line := range strings.Lines(string(data)) {
		if rest, is := strings.CutPrefix(line, "SUnreclaim:"); is {
			_, _ = fmt.Sscan(rest, &bytes) // 0
		}
	}
	return bytes << 10
}

// failure returns what nodes must not do. That they differ has ended the measurement already.
func (r *holdResult) failure() error {
	for i, n := range r.Listed {
		if n != r.Sessions {
			return fmt.Errorf("cluster: of %d sessions on all nodes %s listed %d (%d could not be opened)", r.Sessions, nodeName(i), n, r.Failed)
		}
	}
	return nil
}

func (r *holdResult) table(line func(name, note string), row func(name string, q quantiles, note string)) {
	n := float64(r.Sessions)
	line("cluster: hold", fmt.Sprintf("%d sessions on %d nodes, opened in %.1f s; %d queries alike on all, %d streams exact after %d messages",
		r.Sessions, r.Nodes, r.Opened.Seconds, r.Queries, r.Streams, r.Messages))
	row("cluster: hold, list", r.List, "at all nodes in turn")
	row("cluster: hold, search", r.Search, "at all nodes in turn")
	row("cluster: hold, connect to added", r.Watch.Added, "at another node")
	line("cluster: hold, cost", fmt.Sprintf("%.0f µs of processor to open one and show it everywhere, %.0f µs to end it; %.1f %% of a core for 10,000 idle",
		r.Opened.CPU/n*1e6, r.Ended.CPU/n*1e6, 100*r.Idle.CPU/r.Idle.Seconds*10_000/n))
	line("cluster: hold, memory", fmt.Sprintf("%d MiB the largest node; the kernel %.0f B a socket", slices.Max(r.RSS)>>20, r.Kernel))
	line("cluster: hold, PostgreSQL", fmt.Sprintf("%.2f rows and %.0f B of WAL a session, %.0f µs of processor a row", r.rowsPerSession(), r.walPerSession(),
		r.postgresPerRow()*1e6))
}

func (r *holdResult) rowsPerSession() float64 {
	return float64(r.Opened.Postgres.Rows+r.Ended.Postgres.Rows) / float64(r.Sessions)
}

func (r *holdResult) walPerSession() float64 {
	return float64(r.Opened.Postgres.WAL+r.Ended.Postgres.WAL) / float64(r.Sessions)
}

// postgresPerRow is seconds of PostgreSQL's processor time.
func (r *holdResult) postgresPerRow() float64 {
	return (r.Opened.Postgres.CPU + r.Ended.Postgres.CPU) / float64(max(1, r.Opened.Postgres.Rows+r.Ended.Postgres.Rows))
}
