package main

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// churn changes the synthetic rows of a registry at a steady rate and takes the time of every change: what a change waits is how
// long the registry stood still. Of ten changes four are sessions that come, four that go, and two that get another login.
type churn struct {
	rows   *registry.Registry
	source synthetic
	next   int   // of source, the next to come
	live   []int // of source, those that are there
	ids    map[int]registry.Row
	rng    *rand.Rand

	touched int // rows with activity

	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex // of what follows
	took  []time.Duration
	since time.Time
	gc    time.Duration // collecting garbage had taken by then
	late  time.Duration
	err   error
}

// churnReport is what happened since the last report.
type churnReport struct {
	Changes   int       `json:"changes"`
	PerSecond float64   `json:"perSecond"`
	Took      quantiles `json:"changeMs"`
	Late      float64   `json:"latestMs"` // how far behind its schedule the source fell
	Locked    float64   `json:"lockedMs"` // the longest that one call kept the registry locked; without a processor, maybe
	GCCores   float64   `json:"gcCores"`  // what collecting garbage took of the process's cores, but for those that were idle
	Err       string    `json:"error,omitempty"`
}

// churnTick is how often the changes that are due are made.
const churnTick = time.Millisecond

// newChurn changes a registry that holds the first n rows of the source.
func newChurn(rows *registry.Registry, source synthetic, n int) *churn {
	c := &churn{rows: rows, source: source, next: n, ids: map[int]registry.Row{}}
	c.rng = rand.New(rand.NewPCG(syntheticSeed, 1))
	c.live = make([]int, n)
	for i := range c.live {
		c.live[i] = i
	}
	return c
}

// start makes changes as ordered, until halt at the latest.
func (c *churn) start(ctx context.Context, order churnOrder) {
	ctx, c.stop = context.WithCancel(ctx)
	c.since, c.gc = time.Now(), collecting()
	c.rows.Locked() // what was before is not ours
	c.done.Go(func() { c.run(ctx, order) })
}

// halt returns when the last change is made. Without a start it does nothing.
func (c *churn) halt() {
	if c.stop != nil {
		c.stop()
		c.done.Wait()
		c.stop = nil
	}
}

func (c *churn) run(ctx context.Context, order churnOrder) {
	perSecond, most := order.PerSecond, cmp.Or(order.Most, math.MaxInt)
	tick := time.NewTicker(churnTick)
	defer tick.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if made == most {
			return
		}
		for due := min(most, int(time.Since(began).Seconds()*float64(perSecond))); made < due && ctx.Err() == nil; made++ {
			scheduled := began.Add(time.Duration(float64(made) / float64(perSecond) * float64(time.Second)))
			c.change(scheduled, order.Touch)
		}
	}
}

// change makes one change and notes how long it took.
func (c *churn) change(scheduled time.Time, touch bool) {
	do := c.touch
	if !touch {
		do = c.pick()
	}
	start := time.Now()
	err := do()
	took, late := time.Since(start), start.Sub(scheduled)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, took)
	c.late = max(c.late, late)
	if err != nil && c.err == nil {
		c.err = err
	}
}

// pick prepares a change, so that the time taken is the registry's alone.
func (c *churn) pick() func() error {
	kind := c.rng.IntN(10)
	if kind < 4 || len(c.live) == 0 {
		row := c.source.rowAt(c.next, api.MillisOf(time.Now()))
		c.live = append(c.live, c.next)
		c.ids[c.next] = row
		c.next++
		return func() error { return c.rows.Insert(row, registry.Unlimited) }
	}
	at := c.rng.IntN(len(c.live))
	n := c.live[at]
	row, ok := c.ids[n]
	if !ok {
		row = c.source.row(n)
	}
	if kind < 8 {
		c.live[at] = c.live[len(c.live)-1]
		c.live = c.live[:len(c.live)-1]
		delete(c.ids, n)
		return func() error {
			if _, ok := c.rows.Remove(row.Application, row.ServerID); !ok {
				return registry.ErrGone
			}
			return nil
		}
	}
	row.Login = c.source.row(c.rng.IntN(c.next)).Login
	c.ids[n] = row
	return func() error { return c.rows.Update(row, registry.Unlimited) }
}

// touch records activity of a row, of each before any of them again.
func (c *churn) touch() error {
	c.touched++
	n := c.live[c.touched%len(c.live)]
	row, ok := c.ids[n]
	if !ok {
		row = c.source.row(n)
	}
	c.rows.Touch(row.Application, row.ServerID, api.MillisOf(time.Now()))
	return nil
}

// report returns what happened since the last one.
func (c *churn) report() churnReport {
	now, gc := time.Now(), collecting()
	c.mu.Lock()
	took, late, seconds, gcTook := c.took, c.late, now.Sub(c.since).Seconds(), gc-c.gc
	c.took, c.late, c.since, c.gc = nil, 0, now, gc
	err := c.err
	c.mu.Unlock()
	r := churnReport{
		Changes: len(took), PerSecond: float64(len(took)) / seconds, Took: quantilesOf(took), Late: millis(late),
		Locked: millis(c.rows.Locked()), GCCores: math.Round(1000*gcTook.Seconds()/seconds) / 1000,
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

// collecting returns the processor time that this process's finished garbage collections took from its work.
func collecting() time.Duration {
	samples := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	metrics.Read(samples)
	return time.Duration((samples[0].Value.Float64() - samples[1].Value.Float64()) * float64(time.Second))
}
