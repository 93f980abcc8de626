package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// crowdWatchResult is of many watchers over many rows while those change.
type crowdWatchResult struct {
	Watchers int       `json:"watchers"`
	Queries  int       `json:"queries"`
	Init     quantiles `json:"initMs"` // all at once, from dialling to the first page
	// Alone is the load without a watcher, Burst while the streams open, Load while they watch. What a change took is how long it
	// waited for the registry, and for the processor; lockedMs is the registry's part at most.
	Alone churnReport `json:"alone"`
	Burst churnReport `json:"burst"`
	Load  churnReport `json:"load"`
	// Cores are of the server's process, which makes the changes as well: AloneCores is what that costs with nobody watching.
	// WaitedCores is what it was ready to use besides and did not get: where that is much, Cores and messages are too low.
	AloneCores        float64 `json:"aloneCores"`
	Cores             float64 `json:"cores"`
	WaitedCores       float64 `json:"waitedCores"`
	MessagesPerSecond float64 `json:"messagesPerSecond"`
	BytesPerSecond    float64 `json:"bytesPerSecond"`
	AloneRSS          int64   `json:"aloneRssBytes"` // of the server's process, before the streams
	RSS               int64   `json:"rssBytes"`
	Verified          int     `json:"verifiedPages"` // pages of watchers that were, at the end, what the HTTP list answers
}

const (
	aloneWindow      = 3 * time.Second
	followedWatchers = 20               // watchers whose pages are kept and compared
	quiesceTimeout   = 30 * time.Second // for the last flush of everybody
)

// watchQueries returns distinct queries such as operators have: of ten, four are pages from the first to the last, four are
// searches for few, two are searches for many. Every other one wants totals.
func watchQueries(app string, rows, n int) []client.Query {
	rng := rand.New(rand.NewPCG(syntheticSeed, 3))
	seen, sizes := map[string]bool{}, []int{10, 25, 50}
	var out []client.Query
	for i := 0; len(out) < n; i++ {
		a := ask{page: 1, category: api.CategoryLicense}
		size := sizes[i%len(sizes)]
		switch i % 10 {
		case 0:
			a.page = 1 + i/10
		case 1, 2, 3:
			a.page = 1 + rng.IntN(1+rows/size)
		case 4, 5, 6, 7:
			a.needle(rng, rows, 3+rng.IntN(3))
		default:
			a.search, a.page = []string{"pro", "edu", "ent-", "oem"}[rng.IntN(4)], 1+rng.IntN(1+rows/10/size)
		}
		q := client.Query{
			Application: app, Page: a.page, PageSize: size, Search: a.search, Categories: []api.Category{a.category}, Totals: i%2 == 0,
		}
		if key := fmt.Sprintf("%d %d %s %t", a.page, size, a.key(), q.Totals); !seen[key] || i > 1000*n { // few rows have few pages
			seen[key] = true
			out = append(out, q)
		}
	}
	return out
}

// crowdWatch lets many watch while the rows change.
func (b *bench) crowdWatch(ctx context.Context, io *stdio, srv *benchServer, rows int) (*crowdWatchResult, error) {
	queries := watchQueries(b.target.Application, rows, b.cmd.Queries)
	r := &crowdWatchResult{Watchers: b.cmd.Watchers, Queries: b.cmd.Queries}
	b.progress("changing rows, nobody watches")
	if _, err := srv.churn(churnOrder{PerSecond: b.cmd.Changes}); err != nil {
		return nil, err
	}
	meter := b.startMeter()
	if err := pause(ctx, min(aloneWindow, b.cmd.Window)); err != nil {
		return nil, err
	}
	var err error
	if r.AloneCores, _, err = meter.cores(); err != nil {
		return nil, err
	}
	if r.Alone, err = srv.churn(churnOrder{}); err != nil {
		return nil, err
	}
	if r.AloneRSS, err = b.rss(); err != nil {
		return nil, err
	}
	b.progress("opening %d streams", b.cmd.Watchers)
	kid, err := startChild(ctx, io.err, "bench-watchers", watchersOrder{
		Target: b.target, Queries: queries, Watchers: b.cmd.Watchers, Followed: min(followedWatchers, b.cmd.Watchers),
	})
	if err != nil {
		return nil, err
	}
	defer kid.stop()
	var opened watchersReport
	if err := kid.lines.Decode(&opened); err != nil {
		return nil, fmt.Errorf("the watchers' process ended: %w", err)
	}
	if opened.Failed > 0 {
		return nil, fmt.Errorf("%d of %d streams failed: %s", opened.Failed, b.cmd.Watchers, opened.FirstErr)
	}
	r.Init = quantilesOf(opened.Init)
	if r.Burst, err = srv.churn(churnOrder{}); err != nil {
		return nil, err
	}
	if err := b.watchWindow(ctx, srv, kid, r); err != nil {
		return nil, err
	}
	b.progress("comparing pages")
	r.Verified, err = b.agree(ctx, kid, queries)
	return r, err
}

// watchWindow measures the steady load and ends it.
func (b *bench) watchWindow(ctx context.Context, srv *benchServer, kid *child, r *crowdWatchResult) error {
	b.progress("%d watch, %d changes a second", b.cmd.Watchers, b.cmd.Changes)
	// Starting the changes anew leaves out those that the burst delayed.
	if _, err := srv.churn(churnOrder{PerSecond: b.cmd.Changes}); err != nil {
		return err
	}
	before, err := kid.watched()
	if err != nil {
		return err
	}
	meter := b.startMeter()
	if err := pause(ctx, b.cmd.Window); err != nil {
		return err
	}
	seconds := time.Since(meter.start).Seconds()
	if r.Cores, r.WaitedCores, err = meter.cores(); err != nil {
		return err
	}
	after, err := kid.watched()
	if err != nil {
		return err
	}
	r.MessagesPerSecond = float64(after.Messages-before.Messages) / seconds
	r.BytesPerSecond = float64(after.Bytes-before.Bytes) / seconds
	if r.Load, err = srv.churn(churnOrder{Halt: true}); err != nil {
		return err
	}
	r.RSS, err = b.rss()
	return err
}

// agree waits until the pages of the watchers that are followed are those that the list has, and returns how many were compared.
func (b *bench) agree(ctx context.Context, kid *child, queries []client.Query) (int, error) {
	for end := time.Now().Add(quiesceTimeout); ; {
		got, err := kid.watched()
		if err != nil {
			return 0, err
		}
		if got.Failed > 0 {
			return 0, fmt.Errorf("%d streams failed: %s", got.Failed, got.FirstErr)
		}
		wrong := ""
		for i, page := range got.Pages {
			q := queries[i%len(queries)]
			list, err := b.m.Live(ctx, q)
			if err != nil {
				return 0, err
			}
			if !q.Totals {
				list.Counts = page.Counts
			}
			if !reflect.DeepEqual(list.View, page) {
				wrong = fmt.Sprintf("watcher %d of %+v holds %d rows and %+v, the list %d and %+v", i, q,
					len(page.Items), page.Counts, len(list.Items), list.Counts)
			}
		}
		if wrong == "" {
			return len(got.Pages), nil
		}
		if time.Now().After(end) {
			return 0, errors.New(wrong)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// tell sends a child an order and reads its answer.
func (c *child) tell(order, answer any) error {
	if err := json.NewEncoder(c.in).Encode(order); err != nil {
		return err
	}
	return c.lines.Decode(answer)
}

func (c *child) watched() (r watchersReport, err error) {
	err = c.tell(nil, &r)
	return r, err
}

func (c *child) churn(order churnOrder) (r churnReport, err error) {
	if err = c.tell(order, &r); err == nil && r.Err != "" {
		err = fmt.Errorf("a change was refused: %s", r.Err)
	}
	return r, err
}
