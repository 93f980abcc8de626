package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// stormResult is what happens when all clients of a load balancer lose their connections and come back at once, to them, to the
// sessions that stayed, and to operators.
type stormResult struct {
	Sessions  int             `json:"sessions"`
	Seconds   float64         `json:"seconds"` // from the first cut to the last welcome
	PerSecond float64         `json:"perSecond"`
	Welcome   quantiles       `json:"cutToWelcomeMs"`       // of each client, its retries included
	Dials     int             `json:"dials"`                // one a client at least
	Told      map[string]int  `json:"toldToRetry"`          // by close code or HTTP status; "broken" had no answer
	Missing   int             `json:"missing"`              // clients that were not welcomed again
	FirstErr  string          `json:"firstError,omitempty"` // of those that were not welcomed at once
	Held      int             `json:"held"`
	HeldLost  int             `json:"heldLost"`
	Before    bystanderResult `json:"before"` // the same load without the storm
	During    bystanderResult `json:"during"`
	Stream    stormStream     `json:"stream"`
	Cores     float64         `json:"serverCores"`
	Waited    float64         `json:"serverWaitedCores"` // was ready to run, and did not get
	Stolen    float64         `json:"stolenCores"`       // the host of this virtual machine had given them to others
	Listed    int             `json:"listedAfter"`
	Expected  int             `json:"expectedAfter"`
	Bare      *bareResult     `json:"bare,omitempty"`
}

// bystanderResult is what others than the storm's clients feel, over some time.
type bystanderResult struct {
	Echo       quantiles `json:"echoMs"`     // a wrong frame of a held session to its error
	Unanswered int       `json:"unanswered"` // echoes that were still out at the end
	List       quantiles `json:"listMs"`     // the first page, over HTTP
}

// stormStream is what an operator's streams showed during the storm.
type stormStream struct {
	Opened quantiles `json:"connectToWelcomeMs"` // of sessions that came beside the storm, one every 100 ms
	Shown  quantiles `json:"connectToAddedMs"`
	Added  quantiles `json:"welcomeToAddedMs"`
	Gap    float64   `json:"longestGapMs"` // between two flushes of the first page, on which all of the storm comes and goes
}

const (
	stormProbe  = 100 * time.Millisecond // between sessions that come beside the storm
	stormBefore = 3 * time.Second        // of quiet before
	stormPoll   = 20 * time.Millisecond  // between two requests of the list
)

// stormScene is what is up before the storm.
type stormScene struct {
	crowd   *crowd // of stormers
	held    *child
	streams []*follower // the first page, the probes' rows, other pages
}

func (s *stormScene) stop() {
	for _, f := range s.streams {
		f.end()
	}
	if s.held != nil {
		s.held.stop()
	}
	if s.crowd != nil {
		s.crowd.stop()
	}
}

// storm makes the measurement; with --compare also of a bare server, right after it.
func (b *bench) storm(ctx context.Context, errs io.Writer) (*stormResult, error) {
	r, err := b.ownStorm(ctx, errs)
	if err != nil || !b.cmd.Compare {
		return r, err
	}
	if r.Bare, err = b.bareStorm(ctx, errs); err == nil && r.Bare.PerSecond > 0 {
		r.Bare.Share = r.PerSecond / r.Bare.PerSecond
	}
	return r, err
}

func (b *bench) ownStorm(ctx context.Context, errs io.Writer) (*stormResult, error) {
	srv, err := b.serve(ctx, serverOrder{}, errs)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	scene := &stormScene{}
	defer scene.stop()
	if err := b.setScene(ctx, scene, errs); err != nil {
		return nil, err
	}
	r := &stormResult{Sessions: b.cmd.Sessions, Held: b.cmd.Held, Told: map[string]int{}}

	b.progress("watching how it is without a storm")
	watch := b.bystanders(ctx, scene, false)
	if err := pause(ctx, stormBefore); err != nil {
		return nil, err
	}
	if _, err := watch.stop(&r.Before); err != nil {
		return nil, err
	}

	b.progress("cutting %d connections", b.cmd.Sessions)
	m := b.startMeter()
	start := time.Now()
	watch = b.bystanders(ctx, scene, true)
	reports, err := scene.crowd.stormNow()
	end := time.Now()
	if err != nil {
		return nil, errors.Join(err, watch.cancel())
	}
	if r.Cores, r.Waited, err = m.cores(); err != nil {
		return nil, err
	}
	r.Stolen = m.stolenCores()
	probes, err := watch.stop(&r.During)
	if err != nil {
		return nil, err
	}
	r.judge(reports)
	if r.Stream, err = probes.judge(ctx, scene.streams, start, end); err != nil {
		return nil, err
	}
	r.HeldLost = watch.lost
	r.Expected = b.cmd.Sessions - r.Missing + b.cmd.Held + len(probes.list)
	r.Listed, err = b.settledTotal(ctx, r.Expected)
	probes.close()
	return r, err
}

// setScene connects everyone.
func (b *bench) setScene(ctx context.Context, scene *stormScene, errs io.Writer) (err error) {
	b.progress("connecting %d sessions, and %d that stay", b.cmd.Sessions, b.cmd.Held)
	if scene.crowd, err = startCrowdOf(ctx, "bench-stormers", b.target, b.cmd.Sessions, b.cmd.Concurrency, errs); err != nil {
		return err
	}
	if failed := scene.crowd.connected.Failed; failed > 0 {
		return fmt.Errorf("%d sessions could not be opened before the storm", failed)
	}
	if scene.held, err = startChild(ctx, errs, "bench-held",
		crowdOrder{Target: b.target, First: b.cmd.Sessions, Count: b.cmd.Held, Concurrency: b.cmd.Concurrency}); err != nil {
		return err
	}
	var ready heldReport
	if err := scene.held.lines.Decode(&ready); err != nil {
		return fmt.Errorf("the process of the held sessions ended: %w", err)
	}
	if ready.FirstErr != "" {
		return fmt.Errorf("a session to hold could not be opened: %s", ready.FirstErr)
	}
	for i := range max(2, b.cmd.Streams) {
		q := client.Query{PageSize: api.MaxPageSize, Totals: true, Page: i} // page 0 is the first
		if i == 1 {
			q.Page, q.Search, q.Categories = 0, probeLicenses, []api.Category{api.CategoryLicense}
		}
		f, err := b.follow(ctx, q)
		if err != nil {
			return err
		}
		scene.streams = append(scene.streams, f)
	}
	return nil
}

// stormNow lets all clients lose their connections and returns once they have come back, or given up.
func (c *crowd) stormNow() ([]stormReport, error) {
	for _, kid := range c.children {
		if _, err := io.WriteString(kid.in, "null\n"); err != nil {
			return nil, fmt.Errorf("a client process ended: %w", err)
		}
	}
	reports := make([]stormReport, len(c.children))
	for i, kid := range c.children {
		if err := kid.lines.Decode(&reports[i]); err != nil {
			return nil, fmt.Errorf("a client process ended: %w", err)
		}
	}
	return reports, nil
}

// judge adds up what the client processes report.
func (r *stormResult) judge(reports []stormReport) {
	var start, end time.Time
	var took []time.Duration
	for _, report := range reports {
		if start.IsZero() || report.Start.Before(start) {
			start = report.Start
		}
		for i, d := range report.Welcome {
			took = append(took, d)
			if at := report.Start.Add(report.Cut[i] + d); at.After(end) {
				end = at
			}
		}
		for kind, n := range report.Told {
			r.Told[kind] += n
		}
		r.Dials += report.Dials
		if r.FirstErr == "" {
			r.FirstErr = report.FirstErr
		}
	}
	r.Welcome = quantilesOf(took)
	r.Missing = r.Sessions - len(took)
	if r.Seconds = end.Sub(start).Seconds(); r.Seconds > 0 {
		r.PerSecond = math.Round(float64(len(took)) / r.Seconds)
	}
}

// failure returns what a storm must not do, however slow it is.
func (r *stormResult) failure() error {
	switch {
	case r.Missing > 0:
		return fmt.Errorf("storm: %d of %d clients were not welcomed again: %s", r.Missing, r.Sessions, r.FirstErr)
	case r.HeldLost > 0:
		return fmt.Errorf("storm: %d of %d held sessions were lost", r.HeldLost, r.Held)
	case r.Listed != r.Expected:
		return fmt.Errorf("storm: %d sessions are listed afterwards, not %d", r.Listed, r.Expected)
	}
	return nil
}

// settledTotal returns the number of sessions once it is the expected one, or what it is after a while.
func (b *bench) settledTotal(ctx context.Context, expected int) (int, error) {
	for end := time.Now().Add(10 * time.Second); ; {
		list, err := b.m.Live(ctx, client.Query{Application: b.target.Application})
		if err != nil || list.Total == expected || time.Now().After(end) {
			return list.Total, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// bystanders are the load that is measured: echoes of held sessions, requests for the list, sessions that come.
type bystanders struct {
	bench  *bench
	scene  *stormScene
	halt   context.CancelFunc
	work   sync.WaitGroup
	probes *probes
	lost   int

	mu   sync.Mutex
	list []time.Duration
	err  error
}

func (b *bench) bystanders(ctx context.Context, scene *stormScene, coming bool) *bystanders {
	ctx, cancel := context.WithCancel(ctx)
	w := &bystanders{bench: b, scene: scene, halt: cancel, probes: &probes{}}
	w.note(w.order())
	w.work.Go(func() { w.note(w.lists(ctx)) })
	if coming {
		w.work.Go(func() { w.note(w.probes.come(ctx, b)) })
	}
	return w
}

// order has the held sessions begin, or stop and report.
func (w *bystanders) order() error {
	_, err := io.WriteString(w.scene.held.in, "null\n")
	return err
}

func (w *bystanders) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// lists asks for the first page until ctx ends.
func (w *bystanders) lists(ctx context.Context) error {
	for pause(ctx, stormPoll) == nil {
		start := time.Now()
		_, err := w.bench.m.Live(context.WithoutCancel(ctx), client.Query{Application: w.bench.target.Application})
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		w.mu.Lock()
		w.list = append(w.list, time.Since(start))
		w.mu.Unlock()
	}
	return nil
}

// cancel ends the load without a result.
func (w *bystanders) cancel() error {
	w.halt()
	w.work.Wait()
	w.probes.close()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// stop ends the load and fills in what it felt.
func (w *bystanders) stop(r *bystanderResult) (*probes, error) {
	w.note(w.order())
	var report heldReport
	w.note(w.scene.held.lines.Decode(&report))
	w.halt()
	w.work.Wait()
	w.lost = report.Lost
	r.Echo, r.Unanswered, r.List = quantilesOf(report.Echo), report.Unanswered, quantilesOf(w.list)
	return w.probes, w.err
}

// probes are sessions that come beside a storm.
type probes struct {
	wait    sync.WaitGroup
	pending atomic.Int64 // dialled, and neither welcome nor refused

	mu   sync.Mutex
	list []probe
	err  error
}

type probe struct {
	wire              *wire
	id                api.ServerID
	dialled, welcomed time.Time
}

// probesPending is how many probes may come at once, as after a halt of the machine: more of them would push each other off the page
// that is to show them.
const probesPending = api.MaxPageSize / 2

// probeLicenses is what the licenses of newcomers begin with, and no other.
const probeLicenses = "LIC-1"

// come lets a session come now and then, until ctx ends, and returns once all have.
func (p *probes) come(ctx context.Context, b *bench) error {
	for n := 0; pause(ctx, stormProbe) == nil; n++ {
		if p.pending.Load() >= probesPending {
			continue
		}
		hello, err := helloFor(b.target, newcomers+n)
		if err != nil {
			return err
		}
		p.pending.Add(1)
		p.wait.Go(func() {
			defer p.pending.Add(-1)
			one := probe{dialled: time.Now()}
			w, welcome, err := b.dial.open(context.WithoutCancel(ctx), hello)
			one.wire, one.id, one.welcomed = w, welcome.ServerID, time.Now()
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				if no := (*refusedError)(nil); !errors.As(err, &no) { // it may be told to come later, as everyone
					p.err = errors.Join(p.err, fmt.Errorf("a session that came beside the storm: %w", err))
				}
				return
			}
			p.list = append(p.list, one)
		})
	}
	p.wait.Wait()
	return p.err
}

func (p *probes) close() {
	for _, one := range p.list {
		one.wire.close()
	}
}

// shows returns the sessions that came into view.
func (n note) shows() []api.ServerID {
	if n.kind == api.TypeAdded {
		return []api.ServerID{n.id}
	}
	return n.page
}

// judge compares when the probes came with what the streams showed, the first of which is of the first page and the second of the
// probes.
func (p *probes) judge(ctx context.Context, streams []*follower, start, end time.Time) (r stormStream, err error) {
	shown := map[api.ServerID]time.Time{}
	unseen := func() (n int) {
		for _, n := range streams[1].all() {
			for _, id := range n.shows() {
				if _, ok := shown[id]; !ok {
					shown[id] = n.at
				}
			}
		}
		for _, one := range p.list {
			if shown[one.id].IsZero() {
				n++
			}
		}
		return n
	}
	for late := end.Add(10 * time.Second); unseen() > 0; {
		if time.Now().After(late) {
			return r, errors.Join(fmt.Errorf("the stream has not shown %d of %d sessions that came beside the storm", unseen(), len(p.list)),
				streams[1].failure())
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return r, err
		}
	}
	var opened, added, whole []time.Duration
	for _, one := range p.list {
		opened = append(opened, one.welcomed.Sub(one.dialled))
		whole = append(whole, shown[one.id].Sub(one.dialled))
		added = append(added, max(0, shown[one.id].Sub(one.welcomed))) // the stream may be the first to know
	}
	r.Opened, r.Shown, r.Added = quantilesOf(opened), quantilesOf(whole), quantilesOf(added)
	r.Gap = longestGap(streams[0].all(), start, end)
	for _, f := range streams {
		err = errors.Join(err, f.failure())
	}
	return r, err
}

// longestGap returns how long a stream showed nothing at most between start and end, in milliseconds.
func longestGap(notes []note, start, end time.Time) float64 {
	var gap time.Duration
	last := start
	for _, n := range notes {
		if n.at.After(start) && n.at.Before(end) {
			gap, last = max(gap, n.at.Sub(last)), n.at
		}
	}
	return millis(max(gap, end.Sub(last)))
}
