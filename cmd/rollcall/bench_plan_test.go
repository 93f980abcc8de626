package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func planInput() (nodesFlags, *holdResult, *joinResult) {
	const mib = 1 << 20
	f := nodesFlags{PlanSessions: 10_000_000, PlanNodes: 20, PlanLife: time.Hour, PlanActive: 5 * time.Minute}
	h := &holdResult{
		Nodes: 2, Sessions: 20_000, Nobody: phase{Seconds: 10, CPU: 0.2}, Kernel: 4000,
		Opened: phase{Seconds: 10, CPU: 8, Postgres: postgresUse{Rows: 20_000, WAL: 10 * mib, CPU: 1}},
		Ended:  phase{Seconds: 10, CPU: 2, Postgres: postgresUse{Rows: 20_000, WAL: 10 * mib, CPU: 1}},
		Idle:   phase{Seconds: 10, CPU: 1},
		Empty:  []int64{40 * mib, 40 * mib}, RSS: []int64{40*mib + 10_000*2000 + 10_000*500, 40*mib + 10_000*2000 + 10_000*500},
	}
	j := &joinResult{Rows: 1_000_000, Ready: 0.2, Complete: 3.2, RSS: 40*mib + 500_000_000,
		Sessions: &followResult{Changes: 1000, Bytes: 60_000, PerMillion: 5}, Activity: &followResult{Changes: 1000, Bytes: 20_000, PerMillion: 2}}
	return f, h, j
}

// TestPlan computes by hand what the plan should say.
func TestPlan(t *testing.T) {
	f, h, j := planInput()
	p := f.plan(h, j)
	for name, c := range map[string]struct{ got, want float64 }{
		"changes":         {p.Changes, 2e7 / 3600},
		"activity":        {p.Activity, 1e7 / 300},
		"messages":        {p.Messages, 19 * 51},
		"bytes":           {p.Bytes, 0.95 * (2e7/3600*60 + 1e7/300*20)},
		"memory":          {p.Memory, 40<<20 + 500_000*2000 + 0.95e7*500},
		"replicas":        {p.Replicas, 0.95e7 * 500},
		"kernel":          {p.Kernel, 500_000 * 4000},
		"pings":           {p.CoresIdle, 500_000 * 1.0 / 10 / 20_000},
		"lives":           {p.CoresLives, 1e7 / 3600 / 20 * 10 / 20_000},
		"following":       {p.CoresFollow, 0.95 * (2e7/3600*5 + 1e7/300*2) / 1e6},
		"cores":           {p.Cores, p.CoresIdle + p.CoresLives + p.CoresFollow + 0.01},
		"PostgreSQL rows": {p.PostgresRows, 2e7 / 3600},
		"PostgreSQL":      {p.PostgresCores, 2e7 / 3600 * 2 / 40_000},
		"join":            {p.JoinSeconds, 0.2 + 30},
		"lost":            {p.LostSeconds, 1e6 * 2 / 40_000},
		"back":            {p.BackSeconds, 500_000.0 / 19 * 8 / 20_000},
	} {
		if math.Abs(c.got-c.want) > 1e-6*c.want {
			t.Errorf("%s: %g, want %g", name, c.got, c.want)
		}
	}
	for i, l := range p.Limits {
		if i > 0 && l.Sessions < p.Limits[i-1].Sessions {
			t.Errorf("%v are not in the order in which they break", p.Limits)
		}
	}
	if first := p.Limits[0]; !strings.Contains(first.What, "joins") || math.Abs(first.Sessions-1e6*4.8/3) > 1e4 {
		t.Errorf("%v breaks first", first)
	}
	f.PlanSessions /= 10
	if less := f.plan(h, j); math.Abs(less.Limits[0].Sessions-p.Limits[0].Sessions) > 1e4 {
		t.Errorf("a smaller plan breaks at %v, not %v", less.Limits[0], p.Limits[0])
	}
}

func TestNodesFlags(t *testing.T) {
	sound := nodesFlags{Nodes: 5, Hold: 50, JoinRows: 100, Follow: 10, PlanSessions: 1, PlanNodes: 2, PlanLife: time.Hour, PlanActive: time.Minute}
	for name, c := range map[string]struct {
		change func(*nodesFlags)
		want   string // "" = sound
	}{
		"sound":            {func(*nodesFlags) {}, ""},
		"one node":         {func(f *nodesFlags) { f.Nodes = 1 }, "--nodes"},
		"ten nodes":        {func(f *nodesFlags) { f.Nodes = 10 }, "--nodes"},
		"nobody to hold":   {func(f *nodesFlags) { f.Hold = 4 }, "--hold"},
		"nobody to join":   {func(f *nodesFlags) { f.JoinRows = 1 }, "--join-rows"},
		"too many to join": {func(f *nodesFlags) { f.JoinRows = maxRows + 1 }, "--join-rows"},
		"no change":        {func(f *nodesFlags) { f.Follow = 0 }, "--follow"},
		"a plan of none":   {func(f *nodesFlags) { f.PlanSessions = 0 }, "--plan-sessions"},
		"a plan of one":    {func(f *nodesFlags) { f.PlanNodes = 1 }, "--plan-nodes"},
		"lives of no time": {func(f *nodesFlags) { f.PlanLife = 0 }, "--plan-life"},
		"always active":    {func(f *nodesFlags) { f.PlanActive = -1 }, "--plan-active"},
	} {
		f := sound
		c.change(&f)
		if err := f.validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHoldAndJoinFailure: what differs is broken, what is slow is not.
func TestHoldAndJoinFailure(t *testing.T) {
	for name, c := range map[string]struct {
		hold *holdResult
		join *joinResult
		want string // "" = sound
	}{
		"sound":                {&holdResult{Sessions: 9, Listed: []int{9, 9}}, &joinResult{Rows: 9, Listed: 9, Complete: 99}, ""},
		"a node lists fewer":   {&holdResult{Sessions: 9, Listed: []int{9, 8}}, nil, "srv-02 listed 8"},
		"some were not opened": {&holdResult{Sessions: 9, Listed: []int{8, 8}, Failed: 1}, nil, "1 could not be opened"},
		"a newcomer lacks":     {nil, &joinResult{Rows: 9, Listed: 8}, "joined lists 8"},
		"a newcomer has more":  {nil, &joinResult{Rows: 9, Listed: 10}, "joined lists 10"},
	} {
		err := (&clusterResult{Hold: c.hold, Join: c.join}).failure()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPhaseWithout(t *testing.T) {
	p := phase{Seconds: 20, CPU: 5, Postgres: postgresUse{Rows: 7, WAL: 100, CPU: 1}}
	p.without(phase{Seconds: 10, CPU: 1, Postgres: postgresUse{Rows: 3, WAL: 70, CPU: 0.1}})
	if p.CPU != 3 || p.Postgres.Rows != 7 || p.Postgres.WAL != 0 || math.Abs(p.Postgres.CPU-0.8) > 1e-9 {
		t.Errorf("%+v", p)
	}
}
