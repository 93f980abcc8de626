package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/server"
)

// serverOrder tells a server process how to start.
type serverOrder struct {
	Dir    string         `json:"dir"`
	Rows   int            `json:"rows"`  // synthetic ones
	Skip   int            `json:"skip"`  // how many of the synthetic ones other nodes have
	Drain  time.Duration  `json:"drain"` // how long a clean stop may take; 0 = 5 s
	Limits gateway.Limits `json:"limits"`
	// Denials is how long denials outlast their tokens, and how often they are purged; 0 = as usual.
	Denials time.Duration `json:"denials"`

	Node     string               `json:"node"`     // "" = bench
	Database string               `json:"database"` // "" = SQLite in Dir
	Cluster  server.ClusterConfig `json:"cluster"`
}

// serverReady is its answer.
type serverReady struct {
	URL  string `json:"url"`
	Ops  string `json:"ops"` // of the ops listener
	PID  int    `json:"pid"`
	Heap int64  `json:"heapBytes"` // what the synthetic rows take

	Empty int64 `json:"emptyHeapBytes"` // what there was before them
}

// churnOrder changes how the server's synthetic rows change. Each is answered with a churnReport of the time since the last one.
type churnOrder struct {
	PerSecond int  `json:"perSecond"` // 0 = as it is
	Halt      bool `json:"halt"`
	Most      int  `json:"most"`  // with PerSecond: how many changes to make; 0 = no end
	Touch     bool `json:"touch"` // with PerSecond: activity alone
}

type benchServerCmd struct{}

// Run serves until its input ends. Limits that protect a server from one client are lifted: here one client is the whole load.
func (benchServerCmd) Run(ctx context.Context, io *stdio) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out := json.NewDecoder(io.in), json.NewEncoder(io.out)
	var order serverOrder
	if err := in.Decode(&order); err != nil {
		return err
	}
	level := slog.LevelWarn
	if order.Cluster.Listen != "" {
		level = slog.LevelError // that nodes come and go is what is measured
	}
	srv, err := server.New(ctx, server.Config{
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Data: order.Dir, Node: cmp.Or(order.Node, "bench"),
		Database: order.Database, Cluster: order.Cluster, Bootstrap: filepath.Join(order.Dir, "bootstrap.yaml"),
		Drain: cmp.Or(order.Drain, 5*time.Second), Gateway: order.Limits, DenialMargin: order.Denials, Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6},
		Log: slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	source := newSynthetic(api.MustID[api.Organization](benchOrganization), api.MustID[api.Application](demoApplication), order.Rows,
		api.MillisOf(time.Now()))
	source.node, source.skip = order.Node, order.Skip
	before := heapInUse()
	if err := source.fill(srv.Rows(), order.Rows); err != nil {
		return err
	}
	ready := serverReady{URL: "http://" + srv.Addr(), Ops: "http://" + srv.OpsAddr(), PID: os.Getpid(), Heap: heapInUse() - before, Empty: before}
	if err := out.Encode(ready); err != nil {
		return err
	}
	var input sync.WaitGroup
	defer input.Wait()
	input.Go(func() {
		defer cancel()
		c := newChurn(srv.Rows(), source, order.Rows)
		defer c.halt()
		if err := c.obey(ctx, in, out); err != nil {
			fmt.Fprintln(io.err, "rollcall: the benchmark's server:", err)
		}
	})
	return srv.Run(ctx)
}

// obey follows orders until there are no more.
func (c *churn) obey(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	for {
		var order churnOrder
		if err := in.Decode(&order); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if order.Halt {
			c.halt()
		}
		report := c.report()
		if order.PerSecond > 0 {
			c.halt()
			c.start(ctx, order)
		}
		if err := out.Encode(report); err != nil {
			return err
		}
	}
}

// heapInUse returns the live bytes of the heap.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one found unreachable is swept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
