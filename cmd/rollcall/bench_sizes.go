package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// sizesFlags are of measurements at sizes that no process can hold sockets for.
type sizesFlags struct {
	Rows     []int         `placeholder:"N,…" help:"Measure list, search and watch over so many synthetic sessions, which have no sockets; several sizes, one after the other."`
	Compare  bool          `help:"With --rows: measure the same list and search as SQL on SQLite, and on PostgreSQL when it is installed. With storm: let the same clients also storm a server that does nothing but answer them."`
	Charts   string        `placeholder:"DIR" help:"With --rows or --populations: also write the numbers and charts of them into the directory."`
	From     string        `placeholder:"FILE" help:"With --charts: draw an earlier bench.json instead of measuring."`
	Watchers int           `default:"1000" help:"With --rows: streams that watch."`
	Queries  int           `default:"100" help:"With --rows: distinct live queries that they share."`
	Changes  int           `default:"5000" help:"With --rows: changes a second while they watch."`
	Window   time.Duration `default:"10s" help:"With --rows: how long they are measured."`
}

// maxRows is as many as a test machine holds.
const maxRows = 20_000_000

func (f sizesFlags) validate(c benchCmd) error {
	for _, n := range f.Rows {
		if n < 1 || n > maxRows {
			return fmt.Errorf("--rows must be 1 to %d", maxRows)
		}
	}
	sized := len(f.Rows) > 0
	switch {
	case sized && c.URL != "":
		return errors.New("--rows fills a server of its own: leave out --url")
	case f.From != "" && (f.Charts == "" || sized):
		return errors.New("--from draws charts and measures nothing: give --charts and leave out --rows")
	case !sized && f.Compare && !slices.Contains(c.Only, benchStorm):
		return errors.New("--compare takes --rows or storm as well")
	case !sized && f.Charts != "" && f.From == "" && len(c.Populations) == 0:
		return errors.New("--charts takes --rows, --populations or --from as well")
	case f.Watchers < 1 || f.Queries < 1 || f.Changes < 1 || f.Window <= 0:
		return errors.New("--watchers, --queries, --changes and --window must be positive")
	case f.Watchers > api.MaxStreamsPerKey:
		return fmt.Errorf("--watchers: a key holds at most %d streams", api.MaxStreamsPerKey)
	}
	for _, name := range c.Only {
		if sized && !slices.Contains([]string{benchList, benchSearch, benchWatch}, name) {
			return fmt.Errorf("%s needs sessions with sockets: --rows measures list, search and watch", name)
		}
	}
	return nil
}

// sizeResult is what one size gave. Systems are keyed by their name, then by the operation.
type sizeResult struct {
	Rows        int                              `json:"rows"`
	FillSeconds float64                          `json:"fillSeconds"`
	BytesPerRow float64                          `json:"heapBytesPerRow"`
	Systems     map[string]map[string]*operation `json:"systems,omitempty"`
	Missing     []string                         `json:"missing,omitempty"` // systems that could not be measured, and why
	Watch       *crowdWatchResult                `json:"watch,omitempty"`
}

// operation is a page of 50 rows with its counts.
type operation struct {
	Latency quantiles  `json:"latencyMs"`
	Page    *quantiles `json:"pageMs,omitempty"`  // of SQL: the two statements of which Latency is the sum
	Count   *quantiles `json:"countMs,omitempty"` // …
	Matches *spread    `json:"matches,omitempty"` // of a search's needles
}

type spread struct {
	Min    int `json:"min"`
	Median int `json:"median"`
	Max    int `json:"max"`
}

// systemRollcall is measured over HTTP, the others through their drivers.
const systemRollcall = "rollcall"

// operationBudget is how long one operation is sampled: a slow one gives fewer samples.
const operationBudget = 8 * time.Second

// ask is one request for a page, the same for every system.
type ask struct {
	operation string
	search    string
	category  api.Category
	page      int
}

// asks returns the operations that are wanted, each an endless source of requests over so many synthetic rows.
func (c benchCmd) asks(rows int) (names []string, sources []func() ask) {
	add := func(name string, next func(*rand.Rand, *ask)) {
		rng := rand.New(rand.NewPCG(syntheticSeed, uint64(len(names))))
		names = append(names, name)
		sources = append(sources, func() ask {
			a := ask{operation: name, page: 1, category: api.CategoryLicense}
			next(rng, &a)
			return a
		})
	}
	pages := (rows + api.MaxPageSize - 1) / api.MaxPageSize
	if c.wants(benchList) {
		add("listFirst", func(*rand.Rand, *ask) {})
		add("listRandom", func(rng *rand.Rand, a *ask) { a.page = 1 + rng.IntN(pages) })
		add("listDeep", func(rng *rand.Rand, a *ask) { a.page = pages - rng.IntN(1+pages/100) })
	}
	if c.wants(benchSearch) {
		needle := func(least, most int) func(*rand.Rand, *ask) {
			return func(rng *rand.Rand, a *ask) { a.needle(rng, rows, least+rng.IntN(most-least+1)) }
		}
		add("searchRare", needle(3, 8))
		add("searchTwo", needle(2, 2))
		add("searchOne", needle(1, 1))
		add("searchCommon", func(rng *rand.Rand, a *ask) {
			common := []ask{{search: "pro", category: api.CategoryLicense}, {search: "client", category: api.CategoryClientID},
				{search: "edu-", category: api.CategoryLicense}, {search: ".1", category: api.CategoryIP},
				{search: "10.1", category: api.CategoryIP}}
			one := common[rng.IntN(len(common))]
			a.search, a.category = one.search, one.category
		})
		add("searchNothing", func(rng *rand.Rand, a *ask) { a.search = fmt.Sprintf("zz%06x", rng.IntN(1<<24)) })
	}
	return names, sources
}

// needle cuts n characters out of the part of a session that tells it from others: of its license's numbers three times of five,
// else of its address or its client id. Of three or more characters it finds under a hundredth of many rows; of an address that
// takes five.
func (a *ask) needle(rng *rand.Rand, rows, n int) {
	row := synthetic{}.row(rng.IntN(rows))
	from := row.License[4:]
	switch rng.IntN(5) {
	case 0:
		if from, a.category = row.IP[3:], api.CategoryIP; n >= 3 {
			n = max(n, 5)
		}
	case 1:
		from, a.category = row.ClientID[6:], api.CategoryClientID
	}
	n = min(n, len(from))
	at := rng.IntN(len(from) - n + 1)
	a.search = strings.ToLower(from[at : at+n])
}

// key tells needles apart.
func (a ask) key() string { return string(a.category) + " " + a.search }

// sizes measures every size, each on a server of its own.
func (b *bench) sizes(ctx context.Context, io *stdio) (*benchResult, error) {
	r := newBenchResult()
	draw := func() error {
		if b.cmd.Charts == "" {
			return nil
		}
		return drawCharts(b.cmd.Charts, r)
	}
	if err := draw(); err != nil { // now rather than after an hour
		return nil, err
	}
	for _, rows := range b.cmd.Rows {
		size, err := b.size(ctx, io, rows)
		if err != nil {
			return nil, fmt.Errorf("%d rows: %w", rows, err)
		}
		r.Sizes = append(r.Sizes, size)
		if err := draw(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (b *bench) size(ctx context.Context, io *stdio, rows int) (*sizeResult, error) {
	b.progress("filling a server with %d sessions", rows)
	start := time.Now()
	srv, err := startBenchServer(ctx, rows, io.err)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	b.target = srv.target
	if err := b.reach(ctx); err != nil {
		return nil, err
	}
	r := &sizeResult{
		Rows: rows, FillSeconds: time.Since(start).Seconds(), BytesPerRow: float64(srv.heap) / float64(rows),
		Systems: map[string]map[string]*operation{},
	}
	found := map[string]int{} // matches of every needle, in which all systems must agree
	if err := b.operations(ctx, r, systemRollcall, b.liveView, found); err != nil {
		return nil, err
	}
	if b.cmd.wants(benchWatch) {
		if r.Watch, err = b.crowdWatch(ctx, io, srv, rows); err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
	}
	srv.child.stop() // its memory is for the others
	if b.cmd.Compare {
		return r, b.compare(ctx, io, r, found)
	}
	return r, nil
}

// viewed is an answer with what it took.
type viewed struct {
	rows, matches int
	page, count   time.Duration // count is 0 when the page brings it
}

// viewer asks a system.
type viewer func(context.Context, ask) (viewed, error)

func (b *bench) liveView(ctx context.Context, a ask) (viewed, error) {
	start := time.Now()
	list, err := b.m.Live(ctx, client.Query{
		Application: b.target.Application, Page: a.page, PageSize: api.MaxPageSize, Search: a.search,
		Categories: []api.Category{a.category},
	})
	return viewed{rows: len(list.Items), matches: list.FilteredTotal, page: time.Since(start)}, err
}

// operations measures a system. The first answers of each operation are not counted: they warm caches.
func (b *bench) operations(ctx context.Context, r *sizeResult, system string, view viewer, found map[string]int) error {
	r.Systems[system] = map[string]*operation{}
	names, sources := b.cmd.asks(r.Rows)
	for i, name := range names {
		b.progress("measuring %s of %s", name, system)
		op, err := b.sample(ctx, sources[i], view, found)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", name, system, err)
		}
		r.Systems[system][name] = op
	}
	return nil
}

const warmups = 3

func (b *bench) sample(ctx context.Context, next func() ask, view viewer, found map[string]int) (*operation, error) {
	var all, pages, counts []time.Duration
	var matches []int
	end := time.Now().Add(operationBudget)
	for len(all) < b.cmd.Requests+warmups && (len(all) <= warmups || time.Now().Before(end)) {
		a := next()
		v, err := view(ctx, a)
		if err != nil {
			return nil, err
		}
		if n, ok := found[a.key()]; ok && n != v.matches {
			return nil, fmt.Errorf("%q in %s is found %d times, and elsewhere %d times", a.search, a.category, v.matches, n)
		}
		found[a.key()] = v.matches
		if want := max(0, min(api.MaxPageSize, v.matches-(a.page-1)*api.MaxPageSize)); v.rows != want {
			return nil, fmt.Errorf("page %d of %q has %d rows, not %d", a.page, a.search, v.rows, want)
		}
		all, pages, counts = append(all, v.page+v.count), append(pages, v.page), append(counts, v.count)
		if a.search != "" {
			matches = append(matches, v.matches)
		}
	}
	op := &operation{Latency: quantilesOf(all[warmups:])}
	if slices.Max(counts) > 0 {
		page, count := quantilesOf(pages[warmups:]), quantilesOf(counts[warmups:])
		op.Page, op.Count = &page, &count
	}
	if len(matches) > 0 {
		slices.Sort(matches)
		op.Matches = &spread{Min: matches[0], Median: matches[len(matches)/2], Max: matches[len(matches)-1]}
	}
	return op, nil
}

// table adds the size to the table for people.
func (r *sizeResult) table(row func(name string, q quantiles, note string)) {
	for _, system := range []string{systemRollcall, systemSQLite, systemPostgres} {
		names := make([]string, 0, len(r.Systems[system]))
		for name := range r.Systems[system] {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			op := r.Systems[system][name]
			note := fmt.Sprintf("%s, %d rows", system, r.Rows)
			if m := op.Matches; m != nil {
				note += fmt.Sprintf(", %d to %d match", m.Min, m.Max)
			}
			row(name, op.Latency, note)
		}
	}
	if w := r.Watch; w != nil {
		row("init", w.Init, fmt.Sprintf("%d streams at once, %d rows", w.Watchers, r.Rows))
		row("change", w.Load.Took, fmt.Sprintf("%.0f a second, %.2f cores (%.2f for garbage) and %.2f waited for, %.0f messages a second",
			w.Load.PerSecond, w.Cores, w.Load.GCCores, w.WaitedCores, w.MessagesPerSecond))
		row("change in the burst", w.Burst.Took, fmt.Sprintf("%d streams open, the registry was locked for %.1f ms at most",
			w.Watchers, w.Burst.Locked))
	}
}
