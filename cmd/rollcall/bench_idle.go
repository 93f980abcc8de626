package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// idleResult is of the server's process alone, while its sessions do nothing but answer pings.
type idleResult struct {
	Sessions        int     `json:"sessions"`
	EmptyRSS        int64   `json:"emptyRssBytes"`
	RSS             int64   `json:"rssBytes"` // after traffic, and after the pings
	BytesPerSession int64   `json:"bytesPerSession"`
	Seconds         float64 `json:"seconds"` // for which processor time was measured
	Cores           float64 `json:"cores"`
	ConnectPerSec   float64 `json:"connectsPerSecond,omitempty"` // of this population
}

// idleGrowth is idle memory at several populations, each with a server of its own.
type idleGrowth struct {
	Populations []*idleResult `json:"populations"`
	// The straight line of least squares through the populations: what one more session costs, and what a server costs without.
	BytesPerMore float64 `json:"bytesPerMoreSession"`
	Intercept    float64 `json:"interceptBytes"`
}

// idle lets the traffic settle, watches the server while nothing happens but pings, and reads its memory.
func (b *bench) idle(ctx context.Context, empty int64) (*idleResult, error) {
	settle, err := time.ParseDuration(b.cmd.Settle)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	r := &idleResult{Sessions: b.cmd.Sessions, EmptyRSS: empty}
	m := b.startMeter()
	if err := pause(ctx, b.cmd.IdleFor); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(m.start).Seconds()
	if r.Cores, _, err = m.cores(); err != nil {
		return nil, err
	}
	r.RSS, err = b.rss()
	r.BytesPerSession = (r.RSS - empty) / int64(b.cmd.Sessions)
	return r, err
}

// growth measures idle at every population.
func (b *bench) growth(ctx context.Context, errs io.Writer) (*idleGrowth, error) {
	g := &idleGrowth{}
	for _, n := range b.cmd.Populations {
		r, err := b.population(ctx, n, errs)
		if err != nil {
			return nil, fmt.Errorf("%d sessions: %w", n, err)
		}
		g.Populations = append(g.Populations, r)
	}
	var points []chartPoint
	for _, r := range g.Populations {
		points = append(points, chartPoint{float64(r.Sessions), float64(r.RSS)})
	}
	g.Intercept, g.BytesPerMore = straightLine(points)
	return g, nil
}

func (b *bench) population(ctx context.Context, n int, errs io.Writer) (*idleResult, error) {
	one := *b
	one.cmd.Sessions = n
	srv, err := one.serve(ctx, serverOrder{}, errs)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	empty, err := one.warm(ctx)
	if err != nil {
		return nil, err
	}
	b.progress("connecting %d sessions", n)
	crowd, err := startCrowd(ctx, one.target, n, one.cmd.Concurrency, errs)
	if err != nil {
		return nil, err
	}
	defer crowd.stop()
	b.progress("measuring %d idle sessions", n)
	r, err := one.idle(ctx, empty)
	if err == nil {
		r.ConnectPerSec = crowd.connected.PerSecond
	}
	return r, err
}

// straightLine fits y = intercept + slope·x by least squares; a single point gives a slope of 0.
func straightLine(points []chartPoint) (intercept, slope float64) {
	n := float64(len(points))
	if n == 0 {
		return 0, 0
	}
	var sx, sy, sxx, sxy float64
	for _, p := range points {
		sx, sy, sxx, sxy = sx+p.x, sy+p.y, sxx+p.x*p.x, sxy+p.x*p.y
	}
	if d := n*sxx - sx*sx; d > 0 {
		slope = (n*sxy - sx*sy) / d
	}
	return (sy - slope*sx) / n, slope
}

// idleBudget is what page 5 of the specification allows an idle session, in bytes.
const idleBudget = 5 << 10

// What --charts writes of idle memory.
const (
	idleFile  = "idle.json"
	idleChart = "idleMemory.svg"
)

// chart draws resident memory against sessions, from none on, so that what a server takes without any is seen.
func (g *idleGrowth) chart() chart {
	ours, budget := chartLine{name: "Rollcall"}, chartLine{name: "budget"}
	var empties []int64
	most := 0
	for _, r := range g.Populations {
		empties = append(empties, r.EmptyRSS)
		most = max(most, r.Sessions)
	}
	slices.Sort(empties)
	empty := float64(empties[len(empties)/2])
	ours.points = append(ours.points, chartPoint{0, empty / (1 << 20)})
	for _, r := range g.Populations {
		ours.points = append(ours.points, chartPoint{float64(r.Sessions), float64(r.RSS) / (1 << 20)})
	}
	slices.SortFunc(ours.points, func(a, b chartPoint) int { return cmp.Compare(a.x, b.x) })
	budget.points = []chartPoint{{0, empty / (1 << 20)}, {float64(most), (empty + idleBudget*float64(most)) / (1 << 20)}}
	return chart{
		title: "Memory of idle sessions, after traffic", x: "sessions", y: "resident memory of the server, MiB", linear: true,
		lines: []chartLine{ours, budget},
	}
}

// drawIdle writes the result and its chart into the directory.
func drawIdle(dir string, r *benchResult) error {
	return writeCharts(dir, idleFile, r, map[string]chart{idleChart: r.Growth.chart()})
}
