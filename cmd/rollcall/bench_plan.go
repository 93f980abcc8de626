package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// nodesFlags are of the measurement of several nodes.
type nodesFlags struct {
	Part     []string `enum:"three,hold,join" default:"three,hold,join" help:"Of cluster: three nodes that restart, die and revoke; many clients held on several; a node that joins and follows."`
	Nodes    int      `default:"5" help:"Of cluster's hold: nodes."`
	Hold     int      `default:"75000" help:"Of cluster's hold: sessions on all nodes together."`
	JoinRows int      `default:"1000000" help:"Of cluster's join: synthetic sessions of the nodes that are joined."`
	Follow   int      `default:"100000" help:"Of cluster's join: changes of each kind that are followed."`

	PlanSessions int           `default:"10000000" help:"Of cluster's plan: sessions."`
	PlanNodes    int           `default:"20" help:"Of cluster's plan: nodes."`
	PlanLife     time.Duration `default:"1h" help:"Of cluster's plan: how long a session lasts."`
	PlanActive   time.Duration `default:"5m" help:"Of cluster's plan: how often a session has activity that other nodes are told of."`
}

func (f nodesFlags) validate() error {
	switch {
	case f.Nodes < 2 || f.Nodes > 9:
		return errors.New("--nodes must be 2 to 9")
	case f.Hold < f.Nodes:
		return errors.New("--hold must be one session a node at least")
	case f.JoinRows < joinOwners || f.JoinRows > maxRows || f.Follow < 1:
		return fmt.Errorf("--join-rows must be %d to %d, and --follow at least 1", joinOwners, maxRows)
	case f.PlanSessions < 1 || f.PlanNodes < 2 || f.PlanLife <= 0 || f.PlanActive <= 0:
		return errors.New("--plan-sessions, --plan-life and --plan-active must be positive, and --plan-nodes at least 2")
	}
	return nil
}

// planResult is what a cluster would take, computed from what was measured in the same run. All but the last three is while
// sessions come, stay and go at the given rate; processor time is in cores of the machine that measured.
type planResult struct {
	Sessions int     `json:"sessions"`
	Nodes    int     `json:"nodes"`
	Life     float64 `json:"lifeSeconds"`
	Active   float64 `json:"activeSeconds"`

	Changes  float64 `json:"changesPerSecond"`  // sessions that come or go, in the cluster
	Activity float64 `json:"activityPerSecond"` // …
	Messages float64 `json:"messagesPerSecond"` // that a node receives, at most
	Bytes    float64 `json:"bytesPerSecond"`    // that a node receives, and sends

	Memory      float64 `json:"memoryBytes"` // of a node, resident
	Replicas    float64 `json:"replicaBytes"`
	Kernel      float64 `json:"kernelBytes"`
	Cores       float64 `json:"cores"` // of a node, in all
	CoresIdle   float64 `json:"coresPings"`
	CoresLives  float64 `json:"coresLives"`
	CoresFollow float64 `json:"coresFollow"`

	PostgresRows        float64 `json:"postgresRowsPerSecond"`
	PostgresWAL         float64 `json:"postgresWalBytesPerSecond"`
	PostgresCores       float64 `json:"postgresCores"`
	PostgresConnections int     `json:"postgresConnections"`

	JoinSeconds float64 `json:"joinSeconds"` // of a node that starts, until its lists are true
	LostSeconds float64 `json:"lostSeconds"` // of processor that PostgreSQL needs when a node dies: its sessions end, and open elsewhere
	BackSeconds float64 `json:"backSeconds"` // of processor that each other node needs to let them in

	Limits []planLimit `json:"limits"` // the first one breaks first
}

// planLimit is how many sessions a cluster of as many nodes has when something has no room left.
type planLimit struct {
	What     string  `json:"what"`
	Sessions float64 `json:"sessions"`
}

// What a plan is held against.
const (
	planCores        = 2.0      // a node's
	planMemory       = 24 << 30 // bytes a node's, of which half are used
	planPostgres     = 8.0      // cores
	planConnections  = 8        // of a node
	planBack         = 10.0     // seconds
	planJoin         = 5.0      // seconds
	planMessageEvery = 1.0 / 50 // seconds between the messages of a node under load: cluster.Timing.Batch
)

// plan computes.
func (f nodesFlags) plan(h *holdResult, j *joinResult) *planResult {
	n, nodes := float64(f.PlanSessions), float64(f.PlanNodes)
	p := &planResult{Sessions: f.PlanSessions, Nodes: f.PlanNodes, Life: f.PlanLife.Seconds(), Active: f.PlanActive.Seconds()}
	lives := n / p.Life
	p.Changes, p.Activity = 2*lives, n/p.Active
	elsewhere := (nodes - 1) / nodes
	perSet, perActive := j.Sessions.Bytes/float64(j.Sessions.Changes), j.Activity.Bytes/float64(j.Activity.Changes)
	p.Bytes = elsewhere * (p.Changes*perSet + p.Activity*perActive)
	p.Messages = (nodes - 1) * (min(1/planMessageEvery, (p.Changes+p.Activity)/nodes) + 1)

	var empty float64
	for _, rss := range h.Empty {
		empty += float64(rss) / float64(len(h.Empty))
	}
	replica := max(0, float64(j.RSS)-empty) / float64(max(1, j.Rows))
	p.Replicas = elsewhere * n * replica
	own := h.ownBytes(replica)
	p.Memory = empty + n/nodes*own + p.Replicas
	p.Kernel = n / nodes * h.Kernel

	held := float64(h.Sessions)
	p.CoresIdle = n / nodes * h.Idle.CPU / h.Idle.Seconds / held
	p.CoresLives = lives / nodes * (h.Opened.CPU + h.Ended.CPU) / held
	p.CoresFollow = elsewhere * (p.Changes*j.Sessions.PerMillion + p.Activity*j.Activity.PerMillion) / 1e6
	nobody := h.Nobody.CPU / h.Nobody.Seconds / float64(h.Nodes)
	p.Cores = nobody + p.CoresIdle + p.CoresLives + p.CoresFollow

	p.PostgresRows = lives * h.rowsPerSession()
	p.PostgresWAL = lives * h.walPerSession()
	p.PostgresCores = p.PostgresRows * h.postgresPerRow()
	p.PostgresConnections = planConnections * f.PlanNodes

	p.JoinSeconds = j.Ready + (j.Complete-j.Ready)*n/float64(max(1, j.Rows))
	p.LostSeconds = 2 * n / nodes * h.postgresPerRow()
	p.BackSeconds = n / nodes / (nodes - 1) * h.Opened.CPU / held
	p.limits(empty, nobody, j.Ready)
	return p
}

// limits says at how many sessions each thing has no room left, if what does not grow with the sessions stays as it is.
func (p *planResult) limits(empty, cores, ready float64) {
	for _, l := range []struct {
		what              string
		used, fixed, most float64
	}{
		{fmt.Sprintf("processor of a node (%.0f cores)", planCores), p.Cores, cores, planCores},
		{fmt.Sprintf("memory of a node (%d GiB, half of it used)", planMemory>>30), p.Memory + p.Kernel, empty, planMemory / 2},
		{fmt.Sprintf("processor of PostgreSQL (%.0f cores)", planPostgres), p.PostgresCores, 0, planPostgres},
		{fmt.Sprintf("a node that joins has true lists after %.0f s", planJoin), p.JoinSeconds, ready, planJoin},
		{fmt.Sprintf("a dead node's clients are at others after %.0f s", planBack), p.BackSeconds / planCores, 0, planBack},
	} {
		if l.used > l.fixed {
			p.Limits = append(p.Limits, planLimit{l.what, math.Round(float64(p.Sessions)*(l.most-l.fixed)/(l.used-l.fixed)/1e4) * 1e4})
		}
	}
	slices.SortFunc(p.Limits, func(a, b planLimit) int {
		return cmp.Or(cmp.Compare(a.Sessions, b.Sessions), cmp.Compare(a.What, b.What))
	})
}

// ownBytes is the memory of a session of a node's own, beside what a row of another node takes.
func (r *holdResult) ownBytes(replica float64) float64 {
	var sum float64
	for i := range r.RSS {
		sum += float64(r.RSS[i] - r.Empty[i])
	}
	nodes := float64(max(1, len(r.RSS)))
	own := float64(r.Sessions) / nodes
	return max(0, sum/nodes-(float64(r.Sessions)-own)*replica) / max(1, own)
}

func (p *planResult) table(line func(name, note string)) {
	const mib, gib = 1 << 20, 1 << 30
	line("plan", fmt.Sprintf("%d sessions on %d nodes, each %s long, with activity every %s", p.Sessions, p.Nodes,
		time.Duration(p.Life*float64(time.Second)), time.Duration(p.Active*float64(time.Second))))
	line("plan, a node", fmt.Sprintf("%.1f GiB resident, %.1f of it rows of other nodes, and %.1f in the kernel", p.Memory/gib, p.Replicas/gib, p.Kernel/gib))
	line("plan, a node", fmt.Sprintf("%.2f cores: %.2f pings, %.2f sessions that come and go, %.2f following", p.Cores, p.CoresIdle, p.CoresLives, p.CoresFollow))
	line("plan, the bus", fmt.Sprintf("%.0f changes and %.0f activities a second; a node gets %.0f messages and %.1f MiB a second, and sends as much",
		p.Changes, p.Activity, p.Messages, p.Bytes/mib))
	line("plan, PostgreSQL", fmt.Sprintf("%.0f rows and %.1f MiB of WAL a second, %.1f cores, %d connections", p.PostgresRows, p.PostgresWAL/mib,
		p.PostgresCores, p.PostgresConnections))
	line("plan, a node starts", fmt.Sprintf("true lists after %.0f s", p.JoinSeconds))
	line("plan, a node dies", fmt.Sprintf("%.0f s of processor for PostgreSQL, %.0f s for each other node", p.LostSeconds, p.BackSeconds))
	for _, l := range p.Limits {
		line("plan, breaks", fmt.Sprintf("at %.1f million sessions: %s", l.Sessions/1e6, l.What))
	}
}
