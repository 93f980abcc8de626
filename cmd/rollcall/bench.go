package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// The measurements of bench, in the order in which they are made.
const (
	benchConnect    = "connect"
	benchIdle       = "idle"
	benchList       = "list"
	benchSearch     = "search"
	benchWatch      = "watch"
	benchDisconnect = "disconnect"
	benchRevoke     = "revoke"
)

// The measurements that have servers of their own and are made only when they are asked for.
const (
	benchStorm   = "storm"
	benchDrain   = "drain"
	benchSoak    = "soak"
	benchCluster = "cluster"
)

var (
	benchNames = []string{benchConnect, benchIdle, benchList, benchSearch, benchWatch, benchDisconnect, benchRevoke}
	aloneNames = []string{benchStorm, benchDrain, benchSoak, benchCluster}
)

// defaultSessions are held when --sessions does not say.
var defaultSessions = map[string]int{benchStorm: 15_000, benchDrain: 10_000, benchSoak: 1_000, benchCluster: 10_000, "": 5_000}

type benchCmd struct {
	Only        []string `arg:"" optional:"" name:"measurement" help:"Measure only these of connect, idle, list, search, watch, disconnect, revoke; or storm, drain, soak, cluster, which have servers of their own."`
	Number      *int     `short:"n" name:"sessions" help:"Sessions that are held meanwhile (5000; of storm 15000, drain and cluster 10000, soak 1000); a process may open some 20000 files on many systems."`
	Rounds      int      `default:"200" help:"Samples of watch and disconnect, also across nodes; lives of every session of soak."`
	Requests    int      `default:"3000" help:"Samples of list and search; with --rows, as many as come in 8s."`
	Concurrency int      `default:"64" help:"Clients that connect at once."`
	Settle      string   `default:"5s" help:"Wait before memory is read."`
	Output      string   `short:"o" enum:"table,json" default:"json" help:"How to print the result: ${enum}."`

	sizesFlags
	gatewayFlags
	nodesFlags

	URL         string `placeholder:"URL" help:"Measure this server instead of starting one; takes --key and --application."`
	Key         string `placeholder:"rck_…" help:"API key with all session scopes, with --url."`
	Application string `short:"a" placeholder:"ID" help:"Application to use, with --url. Its sessions are all revoked."`
	Secret      string `placeholder:"SECRET" help:"HS256 secret of the application, with --url, to sign session tokens."`

	Sessions int `kong:"-"` // Number, or the measurement's default
}

// Validate refuses what cannot be measured.
func (c benchCmd) Validate() error {
	for _, name := range c.Only {
		if all := slices.Concat(benchNames, aloneNames); !slices.Contains(all, name) {
			return fmt.Errorf("%q is no measurement: there are %s", name, strings.Join(all, ", "))
		}
	}
	if (c.Number != nil && *c.Number < 1) || c.Rounds < 1 || c.Requests < 1 || c.Concurrency < 1 {
		return errors.New("--sessions, --rounds, --requests and --concurrency must be at least 1")
	}
	if err := c.sizesFlags.validate(c); err != nil {
		return err
	}
	if err := c.gatewayFlags.validate(c); err != nil {
		return err
	}
	if err := c.nodesFlags.validate(); err != nil {
		return err
	}
	if d, err := time.ParseDuration(c.Settle); err != nil || d < 0 {
		return errors.New("--settle must be a duration such as 5s")
	}
	if c.URL != "" && (c.Key == "" || c.Application == "" || c.Secret == "") {
		return errors.New("--url takes --key, --application and --secret as well")
	}
	return nil
}

// benchResult is the result; measurements that were not asked for are left out.
type benchResult struct {
	Time       string            `json:"time"`
	System     string            `json:"system"`
	CPUs       int               `json:"cpus"`
	Sessions   int               `json:"sessions,omitempty"` // with sockets
	Connect    *connectResult    `json:"connect,omitempty"`
	Idle       *idleResult       `json:"idle,omitempty"`
	List       *latencyResult    `json:"list,omitempty"`
	Search     *latencyResult    `json:"search,omitempty"`
	Watch      *watchResult      `json:"watch,omitempty"`
	Disconnect *disconnectResult `json:"disconnect,omitempty"`
	Revoke     *revokeResult     `json:"revoke,omitempty"`
	Growth     *idleGrowth       `json:"growth,omitempty"`
	Storm      *stormResult      `json:"storm,omitempty"`
	Drain      *drainResult      `json:"drain,omitempty"`
	Soak       *soakResult       `json:"soak,omitempty"`
	Cluster    *clusterResult    `json:"cluster,omitempty"`
	Sizes      []*sizeResult     `json:"sizes,omitempty"` // of --rows, in its order
}

// connectResult is a storm of clients; the latency is from dialling to welcome, queueing behind each other included.
type connectResult struct {
	PerSecond   float64   `json:"perSecond"`
	Seconds     float64   `json:"seconds"`
	Concurrency int       `json:"concurrency"`
	Latency     quantiles `json:"latencyMs"`
	Failed      int       `json:"failed"`
}

// latencyResult is of HTTP requests, one after the other.
type latencyResult struct {
	Latency quantiles `json:"latencyMs"`
}

type watchResult struct {
	Added  quantiles `json:"connectToAddedMs"` // from dialling: TCP, upgrade, hello, record and stream
	Opened quantiles `json:"connectToWelcomeMs"`
}

type disconnectResult struct {
	Event quantiles `json:"commandToEventMs"`
}

// quantiles summarize samples, in milliseconds.
type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

func quantilesOf(samples []time.Duration) quantiles {
	if len(samples) == 0 {
		return quantiles{}
	}
	slices.Sort(samples)
	at := func(q float64) float64 { return millis(samples[int(math.Ceil(q*float64(len(samples))))-1]) }
	return quantiles{P50: at(0.50), P99: at(0.99), Max: at(1), N: len(samples)}
}

func millis(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

// sessions returns how many the measurement holds.
func (c benchCmd) sessions(name string) int {
	if c.Number != nil {
		return *c.Number
	}
	return defaultSessions[name]
}

func (c benchCmd) wants(name string) bool { return len(c.Only) == 0 || slices.Contains(c.Only, name) }

// Run measures and prints. One population of sessions serves all measurements: it connects, is idle, is listed and ends revoked.
func (c benchCmd) Run(ctx context.Context, io *stdio) error {
	b := &bench{cmd: c, progress: func(string, ...any) {}}
	if isTerminal(io.err) {
		b.progress = func(format string, args ...any) { fmt.Fprintf(io.err, format+"\n", args...) }
	}
	do := b.run
	switch {
	case c.From != "":
		return c.redraw()
	case len(c.Rows) > 0:
		do = b.sizes
	case len(c.Populations) > 0 || c.alone():
		do = b.gateway
	}
	result, err := do(ctx, io)
	if err != nil {
		return unlessDone(ctx, err)
	}
	if c.Output == "json" {
		err = printJSON(io.out, result)
	} else {
		err = result.table().print(io.out)
	}
	return cmp.Or(err, result.failure())
}

// progress tells a person what is going on.
type progress func(format string, args ...any)

// bench is one run.
type bench struct {
	cmd      benchCmd
	progress progress
	target   benchTarget
	m        *client.Manage
	app      api.ApplicationID
	dial     *dialer
}

// benchTarget is the server under test.
type benchTarget struct {
	URL         string `json:"url"`
	Key         string `json:"key"`
	Application string `json:"application"`
	Secret      string `json:"secret"`
	Ops         string `json:"ops"` // "" = not ours
	PID         int    `json:"pid"` // 0 = not ours: its memory is not read
}

func (b *bench) run(ctx context.Context, io *stdio) (*benchResult, error) {
	b.cmd.Sessions = b.cmd.sessions("")
	b.target = benchTarget{URL: b.cmd.URL, Key: b.cmd.Key, Application: b.cmd.Application, Secret: b.cmd.Secret}
	if b.target.URL == "" {
		srv, err := b.serve(ctx, serverOrder{}, io.err)
		if err != nil {
			return nil, err
		}
		defer srv.stop()
	} else if err := b.reach(ctx); err != nil {
		return nil, err
	}
	r := newBenchResult()
	r.Sessions = b.cmd.Sessions
	return r, b.measure(ctx, io, r)
}

func newBenchResult() *benchResult {
	return &benchResult{
		Time: time.Now().UTC().Format(time.RFC3339), System: runtime.GOOS + "/" + runtime.GOARCH + " " + runtime.Version(),
		CPUs: runtime.NumCPU(),
	}
}

// reach prepares to call the target.
func (b *bench) reach(ctx context.Context) (err error) {
	if b.dial, err = newDialer(b.target.URL); err != nil {
		return err
	}
	if b.m, err = client.NewManage(client.ManageConfig{URL: b.target.URL, Key: b.target.Key}); err != nil {
		return usageError{err}
	}
	if b.app, err = (applicationFlag{b.target.Application}).id(ctx, b.m); err != nil {
		return err
	}
	b.target.Application = b.app.String()
	return nil
}

func (b *bench) measure(ctx context.Context, io *stdio, r *benchResult) error {
	empty, err := b.warm(ctx)
	if err != nil {
		return err
	}
	b.progress("connecting %d sessions", b.cmd.Sessions)
	crowd, err := startCrowd(ctx, b.target, b.cmd.Sessions, b.cmd.Concurrency, io.err)
	if err != nil {
		return err
	}
	defer crowd.stop()
	if b.cmd.wants(benchConnect) {
		r.Connect = crowd.connected
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{benchIdle, func() (err error) { r.Idle, err = b.idle(ctx, empty); return err }},
		{benchList, func() (err error) { r.List, err = b.list(ctx); return err }},
		{benchSearch, func() (err error) { r.Search, err = b.search(ctx); return err }},
		{benchWatch, func() (err error) { r.Watch, err = b.watch(ctx); return err }},
		{benchDisconnect, func() (err error) { r.Disconnect, err = b.disconnect(ctx); return err }},
		{benchRevoke, func() (err error) { r.Revoke, err = b.revoke(ctx, crowd); return err }},
	}
	for _, s := range steps {
		if !b.cmd.wants(s.name) {
			continue
		}
		b.progress("measuring %s", s.name)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// table is the result for people.
func (r *benchResult) table() *table {
	t := newTable("MEASUREMENT", "P50", "P99", "MAX", "NOTE")
	ms := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + " ms" }
	row := func(name string, q quantiles, note string) {
		t.add(name, ms(q.P50), ms(q.P99), ms(q.Max), "").set(4, note)
	}
	if c := r.Connect; c != nil {
		row("connect", c.Latency, fmt.Sprintf("%.0f a second, %d failed", c.PerSecond, c.Failed))
	}
	if i := r.Idle; i != nil {
		i.table(t)
	}
	if l := r.List; l != nil {
		row("list", l.Latency, "50 rows, any page")
	}
	if l := r.Search; l != nil {
		row("search", l.Latency, "4 characters of a license")
	}
	if w := r.Watch; w != nil {
		row("connect to welcome", w.Opened, "")
		row("connect to added", w.Added, "")
	}
	if d := r.Disconnect; d != nil {
		row("disconnect to event", d.Event, "")
	}
	if v := r.Revoke; v != nil {
		t.add("revoke all", ms(v.Event.Median), "", ms(v.Event.Last), "").
			set(4, fmt.Sprintf("%d ended, %d told, answered in %s", v.Count, v.Events, ms(v.AnswerMs)))
	}
	r.gatewayTable(t, row)
	for _, size := range r.Sizes {
		size.table(row)
	}
	return t
}
