package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// gatewayFlags are of the measurements of what sessions cost and what happens to many of them at once.
type gatewayFlags struct {
	IdleFor     time.Duration `default:"40s" help:"How long processor time is measured while idle; pings come every 25s."`
	Populations []int         `placeholder:"N,…" help:"Measure idle at each of these numbers of sessions, each with a server of its own; --charts draws them."`
	Held        int           `default:"1000" help:"Of storm: sessions that stay connected meanwhile."`
	Streams     int           `default:"5" help:"Of storm and soak: operators' streams that are open meanwhile."`
}

func (f gatewayFlags) validate(c benchCmd) error {
	switch {
	case f.IdleFor <= 0:
		return errors.New("--idle-for must be positive")
	case f.Held < 1 || f.Streams < 1:
		return errors.New("--held and --streams must be at least 1")
	case slices.ContainsFunc(f.Populations, func(n int) bool { return n < 1 }):
		return errors.New("--populations must be at least 1 each")
	case len(f.Populations) > 0 && (len(c.Rows) > 0 || slices.ContainsFunc(c.Only, func(name string) bool { return name != benchIdle })):
		return errors.New("--populations measures idle alone")
	case (len(f.Populations) > 0 || c.alone()) && c.URL != "":
		return errors.New("storm, drain, soak, cluster and --populations have servers of their own: leave out --url")
	}
	for _, name := range c.Only {
		if c.alone() && !slices.Contains(aloneNames, name) {
			return fmt.Errorf("%s goes with other measurements than %s, which have servers of their own", name, strings.Join(aloneNames, ", "))
		}
	}
	return nil
}

// alone tells whether measurements were asked for that have servers of their own.
func (c benchCmd) alone() bool {
	return slices.ContainsFunc(c.Only, func(name string) bool { return slices.Contains(aloneNames, name) })
}

// gateway makes the measurements that have servers of their own, one after the other.
func (b *bench) gateway(ctx context.Context, io *stdio) (r *benchResult, err error) {
	r = newBenchResult()
	if len(b.cmd.Populations) > 0 {
		if r.Growth, err = b.growth(ctx, io.err); err == nil && b.cmd.Charts != "" {
			err = drawIdle(b.cmd.Charts, r)
		}
		return r, err
	}
	for _, s := range []struct {
		name string
		do   func(*bench) error
	}{
		{benchStorm, func(b *bench) (err error) { r.Storm, err = b.storm(ctx, io.err); return err }},
		{benchDrain, func(b *bench) (err error) { r.Drain, err = b.drain(ctx, io.err); return err }},
		{benchSoak, func(b *bench) (err error) { r.Soak, err = b.soak(ctx, io.err); return err }},
		{benchCluster, func(b *bench) (err error) { r.Cluster, err = b.cluster(ctx, io.err); return err }},
	} {
		if !slices.Contains(b.cmd.Only, s.name) {
			continue
		}
		one := *b
		one.cmd.Sessions = b.cmd.sessions(s.name)
		if err := s.do(&one); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r, nil
}

// serve starts a server and makes it the target. The caller stops it.
func (b *bench) serve(ctx context.Context, order serverOrder, errs io.Writer) (*benchServer, error) {
	b.progress("starting a server")
	srv, err := startServer(ctx, order, errs)
	if err != nil {
		return nil, err
	}
	b.target = srv.target
	if err := b.reach(ctx); err != nil {
		srv.stop()
		return nil, err
	}
	return srv, nil
}

// failure returns what a measurement found broken; slow is not broken.
func (r *benchResult) failure() error {
	var errs []error
	if r.Storm != nil {
		errs = append(errs, r.Storm.failure())
	}
	if r.Drain != nil {
		errs = append(errs, r.Drain.failure())
	}
	if r.Soak != nil {
		errs = append(errs, r.Soak.failure())
	}
	if r.Cluster != nil {
		errs = append(errs, r.Cluster.failure())
	}
	return errors.Join(errs...)
}

func (r *idleResult) table(t *table) {
	t.add("idle", "", "", "", "").set(4, fmt.Sprintf("%d sessions: %d B a session, %d MiB in all, %.1f %% of a core",
		r.Sessions, r.BytesPerSession, r.RSS>>20, 100*r.Cores))
}

// gatewayTable adds what the measurements with servers of their own gave.
func (r *benchResult) gatewayTable(t *table, row func(name string, q quantiles, note string)) {
	if g := r.Growth; g != nil {
		for _, p := range g.Populations {
			p.table(t)
		}
		t.add("idle, one more", "", "", "", "").set(4, fmt.Sprintf("%.0f B, beside %.1f MiB", g.BytesPerMore, g.Intercept/(1<<20)))
	}
	if s := r.Storm; s != nil {
		row("storm: cut to welcome", s.Welcome, fmt.Sprintf("%d in %.1f s, %.0f a second", s.Welcome.N, s.Seconds, s.PerSecond))
		row("storm: echo of the held", s.During.Echo, fmt.Sprintf("of %d, %d lost", s.Held, s.HeldLost))
		row("storm: welcome to added", s.Stream.Added, fmt.Sprintf("longest gap of the first page %.0f ms", s.Stream.Gap))
		row("storm: list", s.During.List, "")
		if c := s.Bare; c != nil {
			t.add("storm: bare server", "", "", "", "").set(4, fmt.Sprintf("%.0f a second", c.PerSecond))
		}
	}
	if d := r.Drain; d != nil {
		t.add("drain", "", "", "", "").set(4, fmt.Sprintf("%d told in %.2f s, exit %d after %.2f s, %d records open",
			d.Events, d.Event.Last/1e3, d.Exit, d.Seconds, d.Open))
	}
	if s := r.Soak; s != nil {
		t.add("soak", "", "", "", "").set(4, fmt.Sprintf("%d lives, %.1f h of pings, %s", s.Lives, s.Hours, s.verdict()))
	}
	if c := r.Cluster; c != nil {
		c.table(t, row)
	}
}
