package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/gateway"
)

// soakResult is many lives of sessions in compressed time, and what the server kept of them, which must be nothing.
type soakResult struct {
	Sessions   int            `json:"sessions"` // at any time
	Lives      int64          `json:"lives"`
	Seconds    float64        `json:"seconds"`
	Pings      int64          `json:"pings"` // that were answered
	Hours      float64        `json:"equivalentHours"`
	Renewals   int64          `json:"renewals"` // of tokens
	Kinds      map[string]int `json:"kinds"`    // of lives
	Unexpected map[string]int `json:"unexpected,omitempty"`
	Ended      map[string]int `json:"recordedEndings"`
	Before     soakCounts     `json:"before"`
	After      soakCounts     `json:"after"`
	Heaps      []int64        `json:"heapBytesMeanwhile"` // after collections, with all sessions there
	Leaks      []string       `json:"leaks"`
}

// soakCounts is what must not grow, of the server's process.
type soakCounts struct {
	Goroutines  int   `json:"goroutines"`
	Descriptors int   `json:"descriptors"`
	Heap        int64 `json:"heapBytes"` // after a collection
	Rows        int   `json:"rows"`      // that the list shows
	Connections int   `json:"connections"`
	Unended     int   `json:"unended"` // sessions opened and not ended, by the counters
}

// soakLimits let pings come 250 times as often and compress a token's life a hundred times. What the load generator must answer in
// time is compressed less: it shares the machine.
var soakLimits = gateway.Limits{
	PingInterval: api.PingInterval / 250, PongTimeout: 2 * time.Second, HelloTimeout: time.Second,
	ExpiryNotice: api.ExpiryNotice / 100, ExpiryGrace: api.ExpiryGrace / 100,
}

const (
	soakToken = 10 * time.Second // life of tokens, and how long a denial outlasts it
	soakShort = 2 * time.Second  // life of those that are renewed, or not
	// soakPatience is how long counts may take to be what they were.
	soakPatience = 5 * soakToken
	// soakHeap is how much the heap may differ: 5 % and 1 MiB.
	soakHeap = 1 << 20
	// soakHeaps is how often the heap is looked at meanwhile.
	soakHeaps = 10
)

// hoursOf is how long a real server would take for so many answered pings of so many sessions.
func hoursOf(pings int64, sessions int) float64 {
	return float64(pings) * api.PingInterval.Hours() / float64(sessions)
}

// leaks says what is not as it was before.
func (c soakCounts) leaks(before soakCounts) []string {
	leaks := []string{}
	add := func(what string, was, is int) {
		leaks = append(leaks, fmt.Sprintf("%s: %d, before %d", what, is, was))
	}
	if c.Goroutines > before.Goroutines {
		add("goroutines", before.Goroutines, c.Goroutines)
	}
	if c.Descriptors > before.Descriptors {
		add("descriptors", before.Descriptors, c.Descriptors)
	}
	if c.Heap > before.Heap+before.Heap/20+soakHeap {
		add("heap bytes", int(before.Heap), int(c.Heap))
	}
	if c.Rows != before.Rows {
		add("rows", before.Rows, c.Rows)
	}
	if c.Connections != before.Connections {
		add("connections", before.Connections, c.Connections)
	}
	if c.Unended != before.Unended {
		add("sessions opened and not ended", before.Unended, c.Unended)
	}
	return leaks
}

func (r *soakResult) verdict() string {
	if len(r.Leaks) == 0 {
		return "nothing leaked"
	}
	return "leaked " + strings.Join(r.Leaks, "; ")
}

// failure returns what leaked.
func (r *soakResult) failure() error {
	if len(r.Leaks) > 0 {
		return errors.New("soak: " + r.verdict())
	}
	return nil
}

// soak lets so many sessions live --rounds lives each, one after the other.
func (b *bench) soak(ctx context.Context, errs io.Writer) (*soakResult, error) {
	srv, err := b.serve(ctx, serverOrder{Limits: soakLimits, Denials: soakToken}, errs)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	b.progress("warming up")
	warm := newLives(b)
	warm.brief = true
	if err := errors.Join(b.live(ctx, warm, 1, nil), b.readAtOnce(ctx)); err != nil {
		return nil, err
	}
	r := &soakResult{Sessions: b.cmd.Sessions, Ended: map[string]int{}}
	var last soakCounts
	settled := func(c soakCounts) bool { // and at rest
		rest := c.Goroutines == last.Goroutines && c.Descriptors == last.Descriptors
		last = c
		return rest && c.Rows == 0 && c.Connections == 0 && c.Unended == 0
	}
	if r.Before, err = b.settledCounts(ctx, settled); err != nil {
		return nil, err
	}

	b.progress("%d sessions live %d lives each", b.cmd.Sessions, b.cmd.Rounds)
	l := newLives(b)
	start := time.Now()
	if err := b.live(ctx, l, b.cmd.Rounds, &r.Heaps); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(start).Seconds()
	r.Lives, r.Pings, r.Renewals = l.done.Load(), l.pings.Load(), l.renewals.Load()
	r.Kinds, r.Unexpected, r.Hours = l.kinds, l.unexpected, hoursOf(l.pings.Load(), b.cmd.Sessions)

	b.progress("counting what is left")
	if r.After, err = b.settledCounts(ctx, func(c soakCounts) bool { return len(c.leaks(r.Before)) == 0 }); err != nil {
		return nil, err
	}
	r.Leaks = r.After.leaks(r.Before)
	m, err := b.metrics(ctx)
	for name, v := range m {
		if reason, ok := strings.CutPrefix(name, `rollcall_sessions_ended_total{reason="`); ok {
			r.Ended[strings.TrimSuffix(reason, `"}`)] = int(v)
		}
	}
	return r, err
}

// readAtOnce has the server open all connections to the database that it may have for reading: it keeps them.
func (b *bench) readAtOnce(ctx context.Context) error {
	var reading sync.WaitGroup
	errs := make([]error, 64)
	for i := range errs {
		reading.Go(func() {
			_, errs[i] = b.m.SessionPage(ctx, b.app, client.SessionQuery{Status: "inactive", Limit: api.MaxLimit})
		})
	}
	reading.Wait()
	return errors.Join(errs...)
}

// live opens the operators' streams, lets all sessions live their lives, and looks at the heap now and then when heaps is given.
func (b *bench) live(ctx context.Context, l *lives, rounds int, heaps *[]int64) error {
	streams := &watchers{}
	for range b.cmd.Streams {
		streams.streams = append(streams.streams, &watchStream{follow: true})
	}
	order := watchersOrder{Target: b.target, Queries: []client.Query{
		{Page: 1, PageSize: api.MaxPageSize, Categories: []api.Category{api.CategoryLicense}, Totals: true},
		{Page: 1, PageSize: api.MaxPageSize, Categories: []api.Category{api.CategoryLicense}, Search: "00"},
	}}
	defer streams.end()
	if r := streams.open(ctx, b.dial, order); r.Failed > 0 {
		return fmt.Errorf("an operator's stream: %s", r.FirstErr)
	}
	var living sync.WaitGroup
	all := make(chan struct{})
	for n := range b.cmd.Sessions {
		living.Go(func() {
			for round := range rounds {
				if ctx.Err() != nil {
					return
				}
				l.one(ctx, n, round)
			}
		})
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		living.Wait()
		close(all)
	})
	defer waiting.Wait()
	if err := b.watchHeap(ctx, l, int64(b.cmd.Sessions)*int64(rounds), all, heaps); err != nil {
		return err
	}
	if r := streams.report(false); r.Failed > 0 {
		return fmt.Errorf("an operator's stream: %s", r.FirstErr)
	}
	return context.Cause(ctx)
}

// watchHeap returns when all is closed.
func (b *bench) watchHeap(ctx context.Context, l *lives, total int64, all <-chan struct{}, heaps *[]int64) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-all:
			return nil
		case <-tick.C:
		}
		if heaps == nil || l.done.Load()*(soakHeaps+1) < total*int64(len(*heaps)+1) || len(*heaps) == soakHeaps {
			continue
		}
		c, err := b.counts(ctx)
		if err != nil {
			return err
		}
		*heaps = append(*heaps, c.Heap)
		b.progress("%d of %d lives, heap %.1f MiB", l.done.Load(), total, float64(c.Heap)/(1<<20))
	}
}

// counts reads what the server holds.
func (b *bench) counts(ctx context.Context) (c soakCounts, err error) {
	list, err := b.m.Live(ctx, client.Query{Application: b.target.Application})
	if err != nil {
		return c, err
	}
	http.DefaultClient.CloseIdleConnections() // package client's: the server has a goroutine and a descriptor for each
	if err := b.collect(ctx); err != nil {
		return c, err
	}
	m, err := b.metrics(ctx)
	return soakCounts{
		Goroutines: int(m["go_goroutines"]), Descriptors: int(m["process_open_fds"]), Heap: int64(m["go_memstats_heap_alloc_bytes"]),
		Rows: list.Total, Connections: int(m["rollcall_gateway_connections"]),
		Unended: int(m["rollcall_sessions_opened_total"] - m["rollcall_sessions_ended_total"]),
	}, err
}

// settledCounts returns the counts once they are what they should be, or what they are when patience ends.
func (b *bench) settledCounts(ctx context.Context, good func(soakCounts) bool) (soakCounts, error) {
	for end := time.Now().Add(soakPatience); ; {
		c, err := b.counts(ctx)
		if err != nil || good(c) || time.Now().After(end) {
			return c, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return c, err
		}
	}
}

// lives counts what lives came to.
type lives struct {
	bench                 *bench
	brief                 bool // leaves out the kinds that take long
	done, pings, renewals atomic.Int64

	mu         sync.Mutex
	kinds      map[string]int
	unexpected map[string]int // by kind and what happened instead
}

func newLives(b *bench) *lives {
	return &lives{bench: b, kinds: map[string]int{}, unexpected: map[string]int{}}
}

// one lives the session's next life.
func (l *lives) one(ctx context.Context, n, round int) {
	kind := lifeOf(n, round)
	if l.brief && kind.long {
		kind = lifeKinds[0]
	}
	got, err := kind.live(&life{lives: l, number: n}, ctx)
	if err != nil {
		got = err.Error()
	}
	l.done.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kinds[kind.name]++
	if got != kind.end && ctx.Err() == nil {
		l.unexpected[kind.name+": "+got]++
	}
}

// kindsOfLives are as many of each kind as their weight says.
var kindsOfLives = func() (all []lifeKind) {
	for _, k := range lifeKinds {
		for range k.weight {
			all = append(all, k)
		}
	}
	return all
}()

// lifeOf spreads the kinds over sessions and rounds, the same every time.
func lifeOf(n, round int) lifeKind {
	return kindsOfLives[(n*37+round*61)%len(kindsOfLives)] // both have no factor in common with their number
}
