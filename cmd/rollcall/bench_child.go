package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

// The benchmark runs its server and its clients in processes of their own: memory is the server's alone, and each process has its
// own file descriptors. A child ends when its standard input does, so that none outlives the benchmark.

// severalLoopbacks tells whether every address of 127.0.0.0/8 can be dialled from without being set up.
const severalLoopbacks = runtime.GOOS == "linux"

// perProcess is how many sessions a client process holds, well under 20,000 files.
const perProcess = 9000

// child is a process of this program that answers with JSON lines.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.Reader
	lines *json.Decoder // of out
}

func startChild(ctx context.Context, stderr io.Writer, command string, input any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // it is this program
	cmd.Args = []string{os.Args[0], command}
	cmd.Stderr = stderr
	cmd.WaitDelay = 10 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, in: in, out: out, lines: json.NewDecoder(out)}
	if err := json.NewEncoder(in).Encode(input); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// stop ends the child's input and waits for it.
func (c *child) stop() {
	_ = c.in.Close() // it may have ended already
	untilEOF(c.out)  // a last answer that nobody wants fills the pipe
	_ = c.cmd.Wait() // what went wrong was answered, or is on stderr
}

const benchBootstrap = `organizations:
  - id: %s
    name: Bench
    plan: {name: Bench, liveSessionsOverview: true, historyRetention: 24h}
    applications:
      - {id: %s, number: "%s", name: Bench, publishableKey: rca_%s, tokens: {hs256Secret: %s}}
    apiKeys:
      - {name: Bench, key: rck_%s_%s, applications: all, scopes: [sessions:read, sessions:disconnect, sessions:create, applications:read]}
`

// benchOrganization is the organization of benchBootstrap.
const benchOrganization = "11111111-1111-4111-8111-111111111111"

// benchServer is a server process on loopback with a directory of its own.
type benchServer struct {
	*child
	order  serverOrder
	target benchTarget
	heap   int64 // bytes of its synthetic rows
	empty  int64 // of the heap before them
}

// startBenchServer starts a server that holds so many synthetic rows.
func startBenchServer(ctx context.Context, rows int, stderr io.Writer) (*benchServer, error) {
	return startServer(ctx, serverOrder{Rows: rows}, stderr)
}

// benchTenant is who uses a server: its bootstrap file, and what a client of that knows.
type benchTenant struct {
	bootstrap string
	target    benchTarget
}

func newBenchTenant() benchTenant {
	id, key, signing := secret(16), secret(48), secret(40)
	return benchTenant{
		bootstrap: fmt.Sprintf(benchBootstrap, benchOrganization, demoApplication, demoNumber, secret(16), signing, id, key),
		target:    benchTarget{Key: "rck_" + id + "_" + key, Application: demoApplication, Secret: signing},
	}
}

// startServer starts a server as ordered, in a new directory, with a tenant of its own.
func startServer(ctx context.Context, order serverOrder, stderr io.Writer) (*benchServer, error) {
	return startServerOf(ctx, newBenchTenant(), order, stderr)
}

func startServerOf(ctx context.Context, tenant benchTenant, order serverOrder, stderr io.Writer) (*benchServer, error) {
	dir, err := os.MkdirTemp("", "rollcall-bench-")
	if err != nil {
		return nil, err
	}
	order.Dir = dir
	s := &benchServer{order: order, target: tenant.target}
	if err := os.WriteFile(filepath.Join(dir, "bootstrap.yaml"), []byte(tenant.bootstrap), 0o600); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.start(ctx, stderr); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// start starts the process; after it has ended, another one in the same directory.
func (s *benchServer) start(ctx context.Context, stderr io.Writer) (err error) {
	if s.child, err = startChild(ctx, stderr, "bench-server", s.order); err != nil {
		return err
	}
	var ready serverReady
	if err := s.lines.Decode(&ready); err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	s.heap, s.empty, s.target.URL, s.target.Ops, s.target.PID = ready.Heap, ready.Empty, ready.URL, ready.Ops, ready.PID
	return nil
}

// stop ends the process and removes its directory.
func (s *benchServer) stop() {
	if s.child != nil {
		s.child.stop()
	}
	_ = os.RemoveAll(s.order.Dir) // it is in the system's temporary directory
}

func untilEOF(r io.Reader) { _, _ = io.Copy(io.Discard, r) } // any end is the end

// crowdOrder tells a client process what to do.
type crowdOrder struct {
	Target      benchTarget `json:"target"`
	First       int         `json:"first"`
	Count       int         `json:"count"`
	Concurrency int         `json:"concurrency"`
}

// hellos signs a token for every session.
func (o crowdOrder) hellos() (hellos [][]byte, err error) {
	hellos = make([][]byte, o.Count)
	for i := range hellos {
		if hellos[i], err = helloFor(o.Target, o.First+i); err != nil {
			return nil, err
		}
	}
	return hellos, nil
}

// crowdReport is what it answers: once connected, and once all have ended.
type crowdReport struct {
	Start    time.Time       `json:"start"` // of connecting
	End      time.Time       `json:"end"`
	Latency  []time.Duration `json:"latency,omitempty"`
	Failed   int             `json:"failed,omitempty"`
	FirstErr string          `json:"firstErr,omitempty"`
	Ends     []clientEnd     `json:"ends,omitempty"`
}

// crowd is the population that a benchmark holds.
type crowd struct {
	children  []*child
	connected *connectResult
}

// startCrowd starts client processes and returns once all their sessions are open.
func startCrowd(ctx context.Context, target benchTarget, sessions, concurrency int, stderr io.Writer) (*crowd, error) {
	return startCrowdOf(ctx, "bench-client", target, sessions, concurrency, stderr)
}

func startCrowdOf(ctx context.Context, command string, target benchTarget, sessions, concurrency int, stderr io.Writer) (*crowd, error) {
	c := &crowd{}
	processes := (sessions + perProcess - 1) / perProcess
	for i := range processes {
		first, next := i*sessions/processes, (i+1)*sessions/processes
		kid, err := startChild(ctx, stderr, command, crowdOrder{
			Target: target, First: first, Count: next - first, Concurrency: max(1, concurrency/processes),
		})
		if err != nil {
			c.stop()
			return nil, err
		}
		c.children = append(c.children, kid)
	}
	r := &connectResult{Concurrency: concurrency}
	var start, end time.Time
	var latency []time.Duration
	for _, kid := range c.children {
		var report crowdReport
		if err := kid.lines.Decode(&report); err != nil {
			c.stop()
			return nil, fmt.Errorf("a client process ended: %w", err)
		}
		if start.IsZero() || report.Start.Before(start) {
			start = report.Start
		}
		if report.End.After(end) {
			end = report.End
		}
		latency = append(latency, report.Latency...)
		if r.Failed += report.Failed; len(latency) == 0 {
			c.stop()
			return nil, fmt.Errorf("no session could be opened: %s", report.FirstErr)
		}
	}
	r.Seconds = end.Sub(start).Seconds()
	r.PerSecond = float64(len(latency)) / r.Seconds
	r.Latency = quantilesOf(latency)
	c.connected = r
	return c, nil
}

// ended waits until every session has, and returns what their clients heard.
func (c *crowd) ended(ctx context.Context) (ends []clientEnd, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wireTimeout, errors.New("not every client has ended after 30 s"))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		for _, kid := range c.children {
			_ = kid.in.Close() // it ends, and so does what it answers
		}
	})()
	for _, kid := range c.children {
		var report crowdReport
		if err := kid.lines.Decode(&report); err != nil {
			return nil, cmp.Or(context.Cause(ctx), err)
		}
		ends = append(ends, report.Ends...)
	}
	return ends, context.Cause(ctx)
}

func (c *crowd) stop() {
	for _, kid := range c.children {
		_ = kid.in.Close() // it may have ended already
	}
	for _, kid := range c.children {
		kid.stop()
	}
}

// takeOrder reads what a process of clients is to open, and prepares to.
func takeOrder(in *json.Decoder) (order crowdOrder, d *dialer, hellos [][]byte, err error) {
	if err = in.Decode(&order); err != nil {
		return order, nil, nil, err
	}
	if d, err = newDialer(order.Target.URL); err != nil {
		return order, nil, nil, err
	}
	hellos, err = order.hellos()
	return order, d, hellos, err
}

type benchClientCmd struct{}

// Run opens the sessions that it is told to, and holds them until they end, or its input does.
func (benchClientCmd) Run(ctx context.Context, io *stdio) error {
	in := bufio.NewReader(io.in)
	order, d, hellos, err := takeOrder(json.NewDecoder(in))
	if err != nil {
		return err
	}
	out := json.NewEncoder(io.out)
	h := &holders{}
	report := h.open(ctx, d, hellos, order.Concurrency)
	if err := out.Encode(report); err != nil {
		return err
	}
	var reporting sync.WaitGroup
	reporting.Go(func() {
		h.wg.Wait()
		err = out.Encode(crowdReport{Ends: h.ends})
	})
	untilEOF(in)
	h.drop()
	reporting.Wait()
	return err
}

// holders hold sessions, a goroutine each.
type holders struct {
	wg sync.WaitGroup

	mu    sync.Mutex
	wires []*wire // all that were opened
	ends  []clientEnd
}

// drop closes all connections.
func (h *holders) drop() {
	h.mu.Lock()
	wires := h.wires
	h.mu.Unlock()
	for _, w := range wires {
		w.close()
	}
}

// open connects all, a few at a time.
func (h *holders) open(ctx context.Context, d *dialer, hellos [][]byte, concurrency int) crowdReport {
	report := crowdReport{Latency: make([]time.Duration, 0, len(hellos))}
	var mu sync.Mutex // of report
	work := make(chan []byte)
	var workers sync.WaitGroup
	report.Start = time.Now()
	for range concurrency {
		workers.Go(func() {
			for hello := range work {
				start := time.Now()
				w, _, err := d.open(ctx, hello)
				took := time.Since(start)
				mu.Lock()
				if err != nil {
					if report.Failed++; report.Failed == 1 {
						report.FirstErr = err.Error()
					}
				} else {
					report.Latency = append(report.Latency, took)
				}
				mu.Unlock()
				if err == nil {
					h.take(w)
				}
			}
		})
	}
	for hello := range slices.Values(hellos) {
		work <- hello
	}
	close(work)
	workers.Wait()
	report.End = time.Now()
	return report
}

// take holds an open session until it ends.
func (h *holders) take(w *wire) {
	h.mu.Lock()
	h.wires = append(h.wires, w)
	h.mu.Unlock()
	h.wg.Go(func() { h.hold(w) })
}

// hold sends a frame, for memory is measured after traffic, and waits for the end.
func (h *holders) hold(w *wire) {
	defer w.close()
	_ = w.text([]byte(`{"type":"activity"}`)) // what follows tells that it failed
	end := w.heardEnd()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, end)
}
