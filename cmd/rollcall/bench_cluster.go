package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/pgserver"
)

// The parts of the measurement.
const (
	partThree = "three" // three nodes: what one costs the others, restarts, dies; revoke-all
	partHold  = "hold"  // many real clients on all nodes
	partJoin  = "join"  // a node joins many synthetic sessions, and follows their changes
)

// clusterNodes is how many nodes the first part has: the first has the sessions and is killed, the last is asked.
const clusterNodes = 3

// clusterPatience bounds each wait for what nodes see of each other: ten times the budget of the slowest.
const clusterPatience = 50 * time.Second

// clusterResult is what several nodes on one machine, with one PostgreSQL, show of each other.
type clusterResult struct {
	Skipped string       `json:"skipped,omitempty"` // why nothing was measured
	Three   *threeResult `json:"three,omitempty"`
	Hold    *holdResult  `json:"hold,omitempty"`
	Join    *joinResult  `json:"join,omitempty"`
	Plan    *planResult  `json:"plan,omitempty"` // when hold and join were measured
}

// threeResult is of three nodes.
type threeResult struct {
	Nodes      int               `json:"nodes"`
	Sessions   int               `json:"sessions"`             // of one node
	Watch      *watchResult      `json:"watch,omitempty"`      // a session of the first node, at a watcher of the last
	Disconnect *disconnectResult `json:"disconnect,omitempty"` // by the last node, of a session of the first
	Restart    *restartResult    `json:"restart,omitempty"`
	Kill       *killResult       `json:"kill,omitempty"`
	Revoke     *clusterRevoke    `json:"revoke,omitempty"`
}

// restartResult is a node that starts while another has sessions. Both times are from the start of its process.
type restartResult struct {
	Ready    float64 `json:"readySeconds"`    // until it listens
	Complete float64 `json:"completeSeconds"` // until it lists them all and does not say that nodes are missing
	Listed   int     `json:"listed"`
}

// killResult is kill -9 of the node with the sessions, as the others show it. Seconds are from the signal.
type killResult struct {
	List    []float64 `json:"listSeconds"`   // until each lists none
	Stream  []float64 `json:"streamSeconds"` // until a stream of each shows none
	Slowest float64   `json:"slowestSeconds"`
}

// clusterRevoke is revoke-all at the last node, of sessions of all.
type clusterRevoke struct {
	revokeResult
	Everywhere float64 `json:"everywhereMs"` // until every node lists none, asked once all clients were told
}

// cluster makes the parts that are wanted, each with nodes and a database of its own.
func (b *bench) cluster(ctx context.Context, errs io.Writer) (*clusterResult, error) {
	r := &clusterResult{}
	postgres, err := pgserver.Start(ctx, "fsync=on", "max_connections=200")
	if errors.Is(err, pgserver.ErrAbsent) {
		r.Skipped = err.Error()
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer postgres.Close()
	for _, part := range []struct {
		name string
		do   func(database string) error
	}{
		{partThree, func(database string) (err error) { r.Three, err = b.three(ctx, database, errs); return err }},
		{partHold, func(database string) (err error) { r.Hold, err = b.hold(ctx, database, errs); return err }},
		{partJoin, func(database string) (err error) { r.Join, err = b.join(ctx, database, errs); return err }},
	} {
		if !slices.Contains(b.cmd.Part, part.name) {
			continue
		}
		if err := postgres.Exec(ctx, "postgres", "CREATE DATABASE bench_"+part.name+" TEMPLATE template0"); err != nil {
			return nil, err
		}
		if err := part.do(postgres.URL("bench_" + part.name)); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if r.Hold != nil && r.Join != nil {
		r.Plan = b.cmd.plan(r.Hold, r.Join)
	}
	return r, nil
}

// three measures three nodes, of which only the first has sessions but for the last measurement.
func (b *bench) three(ctx context.Context, database string, errs io.Writer) (*threeResult, error) {
	r := &threeResult{Nodes: clusterNodes, Sessions: b.cmd.Sessions}
	b.progress("starting %d nodes", clusterNodes)
	all, err := b.startNodes(ctx, database, make([]serverOrder, clusterNodes), errs)
	defer all.stop()
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"watch", func() (err error) { r.Watch, err = all.across().watch(ctx); return err }},
		{"disconnect", func() (err error) { r.Disconnect, err = all.across().disconnect(ctx); return err }},
		{"restart and kill", func() error { return all.lose(ctx, r, errs) }},
		{"revoke", func() (err error) { r.Revoke, err = all.revoke(ctx, errs); return err }},
	} {
		b.progress("measuring %s", step.name)
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return r, nil
}

// lose gives the first node sessions, restarts the last, then kills the first.
func (a *nodes) lose(ctx context.Context, r *threeResult, errs io.Writer) (err error) {
	first, last := a.asks[0], len(a.asks)-1
	crowd, err := startCrowd(ctx, first.target, r.Sessions, first.cmd.Concurrency, errs)
	if err != nil {
		return err
	}
	defer crowd.stop()
	if crowd.connected.Failed > 0 {
		return fmt.Errorf("%d sessions could not be opened", crowd.connected.Failed)
	}
	if err := a.await(ctx, last, r.Sessions); err != nil {
		return err
	}
	if r.Restart, err = a.restart(ctx, last, r.Sessions, errs); err != nil {
		return err
	}
	if err := a.whole(ctx); err != nil {
		return err
	}
	r.Kill, err = a.kill(ctx)
	return err
}

// restart stops the i-th node and starts it again, while others have so many sessions.
func (a *nodes) restart(ctx context.Context, i, sessions int, errs io.Writer) (*restartResult, error) {
	a.servers[i].child.stop()
	start := time.Now()
	if err := a.servers[i].start(ctx, errs); err != nil {
		return nil, err
	}
	r := &restartResult{Ready: time.Since(start).Seconds()}
	if err := a.reach(ctx, i); err != nil {
		return nil, err
	}
	if err := a.await(ctx, i, sessions); err != nil {
		return nil, err
	}
	r.Complete = time.Since(start).Seconds()
	var err error
	r.Listed, _, err = a.listed(ctx, i)
	return r, err
}

// kill kills the first node and waits until the others show none of its sessions.
func (a *nodes) kill(ctx context.Context) (*killResult, error) {
	var streams []*follower
	for _, b := range a.asks[1:] {
		f, err := b.follow(ctx, client.Query{PageSize: 10, Totals: true})
		if err != nil {
			return nil, err
		}
		defer f.end()
		streams = append(streams, f)
	}
	start := time.Now()
	if err := a.servers[0].cmd.Process.Kill(); err != nil {
		return nil, err
	}
	r := &killResult{List: make([]float64, len(streams)), Stream: make([]float64, len(streams))}
	err := eventually(ctx, "not every node has dropped the sessions of the one that was killed", func(ctx context.Context) (bool, error) {
		for i := range r.List {
			if r.List[i] > 0 {
				continue
			}
			total, _, err := a.listed(ctx, i+1)
			if err != nil {
				return false, err
			}
			if total == 0 {
				r.List[i] = time.Since(start).Seconds()
			}
		}
		return !slices.Contains(r.List, 0), nil
	})
	if err != nil {
		return nil, err
	}
	for i, f := range streams {
		if err := f.await(ctx, emptied); err != nil {
			return nil, err
		}
		r.Stream[i] = firstAfter(f.all(), start, emptied).Seconds()
	}
	r.Slowest = max(slices.Max(r.List), slices.Max(r.Stream))
	return r, nil
}

func emptied(n note) bool { return n.kind == api.TypeTotals && n.total == 0 }

// firstAfter returns how long after start the first note came that is wanted; 0 when none did.
func firstAfter(notes []note, start time.Time, wanted func(note) bool) time.Duration {
	for _, n := range notes {
		if !n.at.Before(start) && wanted(n) {
			return n.at.Sub(start)
		}
	}
	return 0
}

// revoke starts what was killed again, gives every node sessions, and ends them all from the last.
func (a *nodes) revoke(ctx context.Context, errs io.Writer) (*clusterRevoke, error) {
	a.servers[0].child.stop()
	if err := a.servers[0].start(ctx, errs); err != nil {
		return nil, err
	}
	if err := a.reach(ctx, 0); err != nil {
		return nil, err
	}
	if err := a.whole(ctx); err != nil {
		return nil, err
	}
	everybody := &crowd{}
	defer func() { everybody.stop() }()
	sessions, connected := a.asks[0].cmd.Sessions, 0
	for i, b := range a.asks {
		share := shareOf(sessions, len(a.asks), i)
		if share == 0 {
			continue
		}
		c, err := startCrowd(ctx, b.target, share, b.cmd.Concurrency, errs)
		if err != nil {
			return nil, err
		}
		everybody.children = append(everybody.children, c.children...)
		connected += share - c.connected.Failed
	}
	if err := a.await(ctx, len(a.asks)-1, connected); err != nil {
		return nil, err
	}
	start := time.Now()
	v, err := a.asks[len(a.asks)-1].revoke(ctx, everybody)
	if err != nil {
		return nil, err
	}
	for i := range a.asks {
		if err := a.await(ctx, i, 0); err != nil {
			return nil, err
		}
	}
	return &clusterRevoke{revokeResult: *v, Everywhere: millis(time.Since(start))}, nil
}

// failure returns what was found broken.
func (r *clusterResult) failure() error {
	var errs []error
	if r.Three != nil {
		errs = append(errs, r.Three.failure())
	}
	if r.Hold != nil {
		errs = append(errs, r.Hold.failure())
	}
	if r.Join != nil {
		errs = append(errs, r.Join.failure())
	}
	return errors.Join(errs...)
}

func (r *clusterResult) table(t *table, row func(name string, q quantiles, note string)) {
	line := func(name, note string) { t.add(name, "", "", "", "").set(4, note) }
	if r.Skipped != "" {
		line("cluster", "not measured: "+r.Skipped)
	}
	if r.Three != nil {
		r.Three.table(line, row)
	}
	if r.Hold != nil {
		r.Hold.table(line, row)
	}
	if r.Join != nil {
		r.Join.table(line)
	}
	if r.Plan != nil {
		r.Plan.table(line)
	}
}

// failure returns what nodes must not do; slow is not broken.
func (r *threeResult) failure() error {
	switch v := r.Revoke; {
	case r.Restart.Listed != r.Sessions:
		return fmt.Errorf("cluster: of %d sessions elsewhere a node that was restarted lists %d", r.Sessions, r.Restart.Listed)
	case slices.Contains(r.Kill.List, 0) || slices.Contains(r.Kill.Stream, 0):
		return errors.New("cluster: a list or a stream still showed the sessions of a node that was killed")
	case v.Count != r.Sessions || v.Events != r.Sessions:
		return fmt.Errorf("cluster: of %d sessions on all nodes revoke-all counted %d and told %d", r.Sessions, v.Count, v.Events)
	case v.Wrong > 0 || v.Listed > 0:
		return fmt.Errorf("cluster: after revoke-all %d sessions were listed, and %d clients were not told as they should be", v.Listed, v.Wrong)
	}
	return nil
}

func (r *threeResult) table(line func(name, note string), row func(name string, q quantiles, note string)) {
	row("cluster: connect to welcome", r.Watch.Opened, "PostgreSQL")
	row("cluster: connect to added", r.Watch.Added, "at another node")
	row("cluster: disconnect to event", r.Disconnect.Event, "from another node")
	line("cluster: restart", fmt.Sprintf("lists all %d of another node %.2f s after its start, listens after %.2f s",
		r.Restart.Listed, r.Restart.Complete, r.Restart.Ready))
	line("cluster: kill -9", fmt.Sprintf("%d gone from every list and stream after %.2f s", r.Sessions, r.Kill.Slowest))
	line("cluster: revoke all", fmt.Sprintf("%d ended over %d nodes, %d told within %.0f ms, answered in %.0f ms",
		r.Revoke.Count, r.Nodes, r.Revoke.Events, r.Revoke.Event.Last, r.Revoke.AnswerMs))
}
