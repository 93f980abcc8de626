package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// TestRivals: each database answers what filtering the rows in memory does, for every operation, and PostgreSQL finds few rows by
// its trigram index rather than by reading them all.
func TestRivals(t *testing.T) {
	const rows = 3000
	source := newSynthetic(api.NewID[api.Organization](), api.NewID[api.Application](), rows, api.MillisOf(time.Now()))
	for name, open := range map[string]opener{systemSQLite: openSQLiteRival, systemPostgres: openPostgresRival} {
		t.Run(name, func(t *testing.T) {
			r, end, err := open(t.Context(), source, rows, func(string, ...any) {})
			if errors.Is(err, errNotHere) && os.Getenv("CI") != "true" {
				t.Skip("PostgreSQL is", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			names, sources := benchCmd{}.asks(rows)
			for i, next := range sources {
				for range 5 {
					a := next()
					v, err := r.view(t.Context(), a)
					want := naiveMatches(source, rows, a)
					if err != nil || v.matches != want || v.rows != max(0, min(api.MaxPageSize, want-(a.page-1)*api.MaxPageSize)) {
						t.Errorf("%s %+v: %+v (%v), want %d matches", names[i], a, v, err, want)
					}
				}
			}
			if name == systemPostgres {
				var plan string
				const explain = "EXPLAIN (FORMAT JSON) SELECT count(*) FROM sessions WHERE license ILIKE '%ab12cd%'"
				if err := r.db.QueryRowContext(t.Context(), explain).Scan(&plan); err != nil || !strings.Contains(plan, "sessions_license") {
					t.Errorf("the trigram index is not used: %v %s", err, plan)
				}
			}
		})
	}
}

func naiveMatches(source synthetic, rows int, a ask) (n int) {
	for i := range rows {
		row := source.row(i)
		column := map[api.Category]string{api.CategoryLicense: row.License, api.CategoryIP: row.IP, api.CategoryClientID: row.ClientID}[a.category]
		if strings.Contains(strings.ToLower(column), a.search) {
			n++
		}
	}
	return n
}

// TestMissingRivalIsSaid: in the result and on stderr; any other trouble is an error.
func TestMissingRivalIsSaid(t *testing.T) {
	b := &bench{progress: func(string, ...any) {}}
	for _, c := range []struct {
		err  error
		says string
	}{{fmt.Errorf("%w: no binaries", errNotHere), "postgresql is not compared: not installed: no binaries"}, {errors.New("broken"), ""}} {
		var stderr bytes.Buffer
		r := &sizeResult{Rows: 1}
		err := b.compareWith(t.Context(), &stdio{err: &stderr}, systemPostgres,
			func(context.Context, synthetic, int, progress) (*rival, func(), error) { return nil, nil, c.err }, r, nil)
		if missing := c.says != ""; (err == nil) != missing || !strings.Contains(stderr.String(), c.says) || (len(r.Missing) == 1) != missing {
			t.Errorf("%v: %v, stderr %q, result %+v", c.err, err, stderr.String(), r)
		}
	}
}

// TestSystemsMustAgree: a needle that another system found a different number of times, and a page that is short, are errors.
func TestSystemsMustAgree(t *testing.T) {
	b := &bench{cmd: benchCmd{Requests: 2}}
	next := func() ask { return ask{search: "abc", category: api.CategoryIP, page: 2} }
	for _, c := range []struct {
		found map[string]int
		got   viewed
		ok    bool
	}{
		{map[string]int{}, viewed{rows: 10, matches: 60, page: 1}, true},
		{map[string]int{next().key(): 60}, viewed{rows: 10, matches: 60, page: 1, count: 1}, true},
		{map[string]int{next().key(): 61}, viewed{rows: 10, matches: 60}, false},
		{map[string]int{}, viewed{rows: 9, matches: 60}, false},
		{map[string]int{}, viewed{rows: 0, matches: 20, page: 1}, true},
	} {
		op, err := b.sample(t.Context(), next, func(context.Context, ask) (viewed, error) { return c.got, nil }, c.found)
		if (err == nil) != c.ok {
			t.Errorf("%+v after %v: %v", c.got, c.found, err)
		}
		if c.ok && (op.Latency.N != 2 || (op.Count != nil) != (c.got.count > 0) || op.Matches.Median != c.got.matches) {
			t.Errorf("%+v: %+v", c.got, op)
		}
	}
}

// TestWatchQueries: they are as many as asked, distinct where the rows allow it, and the same in every run.
func TestWatchQueries(t *testing.T) {
	for _, rows := range []int{1, 1000, 1_000_000} {
		queries := watchQueries("app", rows, 100)
		distinct := map[string]bool{}
		for _, q := range queries {
			distinct[fmt.Sprintf("%+v", q)] = true
			if q.Page < 1 || q.PageSize < 1 || q.PageSize > api.MaxPageSize || len(q.Categories) != 1 {
				t.Errorf("%+v", q)
			}
		}
		if len(queries) != 100 || (rows >= 1000 && len(distinct) != 100) {
			t.Errorf("%d rows: %d queries, %d distinct", rows, len(queries), len(distinct))
		}
		if !slices.EqualFunc(queries, watchQueries("app", rows, 100), func(a, b client.Query) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
			t.Errorf("%d rows: other queries the second time", rows)
		}
	}
}
