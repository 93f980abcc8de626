package registry

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sizes are the numbers of rows at which benchmarks run: how cost grows is part of the result. -short leaves out the million.
func sizes() []int {
	if testing.Short() {
		return []int{1_000, 10_000, 100_000}
	}
	return []int{1_000, 10_000, 100_000, 1_000_000}
}

// benchRow has the lengths that page 5 budgets for: license 17, ip 13, clientId 12, login 20 characters.
func benchRow(w *world, i int) Row {
	row := w.row(i)
	h := uint64(i) * 0x9e3779b97f4a7c15
	row.License = fmt.Sprintf("%06X-%010d", h>>40, i)
	row.IP = fmt.Sprintf("203.%03d.%03d.%d", h>>56, h>>48&255, 10+h>>40&63)
	row.ClientID = fmt.Sprintf("client-%05x", h>>44)
	row.Login = fmt.Sprintf("user%08d@test.com", i)
	row.Authorized = i%2 == 0
	return row
}

func benchWorld(rows int) *world {
	w := newWorld()
	for range rows {
		w.openBench()
	}
	return w
}

func (w *world) openBench() Row {
	w.opened++
	row := benchRow(w, w.opened)
	if err := w.Insert(row, Unlimited); err != nil {
		panic(err)
	}
	return row
}

// benchWorlds keeps the world of each size for all benchmarks: to fill the largest takes longer than most of them.
var benchWorlds = map[int]*world{}

func eachSize(b *testing.B, bench func(b *testing.B, w *world, rows int)) {
	for _, rows := range sizes() {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			w := benchWorlds[rows]
			if w == nil {
				w = benchWorld(rows)
				benchWorlds[rows] = w
				runtime.GC()
			}
			b.ReportAllocs()
			b.ResetTimer()
			bench(b, w, rows)
		})
	}
}

// reportQuantiles prints what the mean hides.
func reportQuantiles(b *testing.B, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// BenchmarkInsertRemove is a session that comes and, of those there are, one that goes: each with texts and an id that were not
// there before, and with memory that was not touched lately. What it takes to make the row is not counted.
func BenchmarkInsertRemove(b *testing.B) {
	eachSize(b, func(b *testing.B, _ *world, rows int) {
		w := benchWorld(rows) // not the others': it is used up
		live := make([]int, rows)
		for i := range live {
			live[i] = i + 1
		}
		const batch = 1024
		b.ResetTimer()
		for done := 0; done < b.N; done += batch {
			b.StopTimer()
			n := min(batch, b.N-done)
			come, gone := make([]Row, n), make([]Row, n)
			for i := range n {
				at := rand.IntN(rows)
				gone[i] = benchRow(w, live[at])
				w.opened++
				come[i], live[at] = benchRow(w, w.opened), w.opened
			}
			b.StartTimer()
			for i := range n {
				if _, there := w.Remove(gone[i].Application, gone[i].ServerID); !there {
					b.Fatal("not there")
				}
				if err := w.Insert(come[i], Unlimited); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkList(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world, rows int) {
		var took []time.Duration
		for b.Loop() {
			start := time.Now()
			w.List(w.query(1+rand.IntN(rows/50), 50))
			took = append(took, time.Since(start))
		}
		reportQuantiles(b, took)
	})
}

// BenchmarkSearch is a search with totals for a random page, by what it finds among a million rows: one row, 1,000 by three
// letters of a license, 3,500 by the beginning of an address, none, all rows, and by one and two letters 69% and 14% of them.
func BenchmarkSearch(b *testing.B) {
	for _, needle := range []string{"-0000000777", "9af", "203.113.1", "zzz", "203.", "a", "9a"} {
		b.Run("needle="+needle, func(b *testing.B) {
			eachSize(b, func(b *testing.B, w *world, _ int) {
				q := w.query(1, 10)
				q.Search, q.Categories = needle, License|IP|ClientID
				found := w.List(q).FilteredTotal
				var took []time.Duration
				for b.Loop() {
					q.Page = 1 + rand.IntN(1+found/10)
					start := time.Now()
					w.List(q)
					took = append(took, time.Since(start))
				}
				reportQuantiles(b, took)
				b.ReportMetric(float64(found), "found")
			})
		})
	}
}

// loadQuery is one of a hundred different queries: half of them are searches, by needles that find few, some, and most rows, and
// pages are first ones, deep ones, and in the middle.
func loadQuery(w *world, i, rows int) Query {
	q := w.query(1+i*i*7%(rows/50), 1+i%50)
	if i%2 == 0 {
		q.Search = []string{fmt.Sprintf("%03x", i*37), fmt.Sprintf("-%05d", i), fmt.Sprintf("%02x", i), "203.", "client-0"}[i/2%5]
		q.Categories, q.Page = License|IP|ClientID, 1+i%7*i
	}
	q.Totals = i%3 == 0
	return q
}

// BenchmarkChangeUnderQueries is a second of load: 5,000 changes under 1,000 watchers of 100 different live queries, all read every
// 250 changes, which is a pause of 50 ms. Its time in seconds is the share of a core.
func BenchmarkChangeUnderQueries(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world, rows int) {
		var watches []*Watch
		for i := range 1000 {
			_, watch := w.Watch(loadQuery(w, i%100, rows))
			watches = append(watches, watch)
			defer watch.Close()
		}
		b.ResetTimer()
		encode := func(*Delta) []byte { return nil }
		for b.Loop() {
			for i := range 2500 {
				row := benchRow(w, 1+rand.IntN(w.opened))
				w.Remove(row.Application, row.ServerID)
				w.openBench()
				if i%125 == 0 {
					for _, watch := range watches {
						if d := watch.Poll(); d != nil {
							d.Encoded(encode)
						}
					}
				}
			}
		}
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "cores")
	})
}

// broadQuery is one of many different live queries that find a large part of the rows: all that begin with, have one or two
// letters, and with them pages from the first to the last.
func broadQuery(w *world, i, rows int) Query {
	q := w.query(1, 10+i%40)
	q.Search = []string{"203.", "client-", "a", "9a", "0", "-0", fmt.Sprintf("%02x", i%256), "203.1", fmt.Sprintf("client-%x", i%16)}[i%9]
	q.Categories = License | IP | ClientID
	q.Page += i * i * 31 % (1 + rows/16/q.PageSize)
	return q
}

// BenchmarkWatchBurst is 1,000 watchers that start at once, while changes are made: of as many different live queries of all kinds,
// and of 100 and 400 that are all broad. It reports the longest that the lock was held, the longest that a change took, on cores that
// are busy with the searches, and what a watcher waited for its first page. Work is the longest that a search needs the lock: what it
// was held for longer, its holder did not have a processor.
func BenchmarkWatchBurst(b *testing.B) {
	for _, kind := range []struct {
		name     string
		distinct int
		query    func(w *world, i, rows int) Query
	}{
		{"mixed", 1000, func(w *world, i, rows int) Query {
			q := loadQuery(w, i, rows)
			if i%2 == 0 {
				q.Page++ // one of its own each
			} else {
				q.Search, q.Categories = fmt.Sprintf("%03x", i*4), License|ClientID
			}
			return q
		}},
		{"broad-100", 100, broadQuery},
		{"broad-400", 400, broadQuery},
	} {
		b.Run(kind.name, func(b *testing.B) {
			eachSize(b, func(b *testing.B, w *world, rows int) {
				queries := make([]Query, 1000)
				for i := range queries {
					queries[i] = kind.query(w, i%kind.distinct, rows)
				}
				work := longestWork(w, queries)
				var waited, locked time.Duration
				var took []time.Duration
				for b.Loop() {
					change, init := watchBurst(w, queries)
					waited, took = max(waited, change), append(took, init...)
					locked = max(locked, w.Locked())
				}
				reportQuantiles(b, took)
				b.ReportMetric(float64(work.Microseconds()), "work-µs")
				b.ReportMetric(float64(locked.Microseconds()), "locked-µs")
				b.ReportMetric(float64(waited.Microseconds()), "change-µs")
			})
		})
	}
}

// longestWork returns the longest of what the searches need the lock for, one after the other. Of three tries the best counts: the
// others may have been kept from the processor.
func longestWork(w *world, queries []Query) (longest time.Duration) {
	a := w.applications[testApplication(0)]
	for _, query := range queries {
		best := time.Hour
		for range 3 {
			q := &liveQuery{Query: query.normalized(), application: a}
			w.Locked()
			l := q.prepare(w.tuning.margin, true)
			best = min(best, w.Locked())
			if l.finder != nil { // nobody counts
				l.finder.counting = false
				a.leaveLocked(l.finder)
			}
		}
		longest = max(longest, best)
	}
	return longest
}

// watchBurst starts and ends a watch of each query, and makes 5,000 changes a second meanwhile.
func watchBurst(w *world, queries []Query) (longestChange time.Duration, init []time.Duration) {
	w.Locked()
	var starting, done sync.WaitGroup
	var left atomic.Int32
	left.Add(int32(len(queries)))
	init = make([]time.Duration, len(queries))
	done.Add(1)
	for i, q := range queries {
		starting.Go(func() {
			start := time.Now()
			_, watch := w.Watch(q)
			init[i] = time.Since(start)
			left.Add(-1)
			done.Wait()
			watch.Close()
		})
	}
	tick := time.NewTicker(400 * time.Microsecond)
	defer tick.Stop()
	for ; left.Load() > 0; <-tick.C {
		row := benchRow(w, 1+rand.IntN(w.opened))
		start := time.Now()
		w.Remove(row.Application, row.ServerID)
		longestChange = max(longestChange, time.Since(start))
		w.openBench()
	}
	done.Done()
	starting.Wait()
	return longestChange, init
}

// BenchmarkFanOut is one change and the step that it is to each of 1,000 watchers of 100 live queries.
func BenchmarkFanOut(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world, rows int) {
		var watches []*Watch
		for i := range 1000 {
			q := w.query(1+i%100%(rows/50), 50-i%100/20)
			_, watch := w.Watch(q)
			watches = append(watches, watch)
			defer watch.Close()
		}
		encode := func(*Delta) []byte { return nil }
		for b.Loop() {
			w.openBench()
			for _, watch := range watches {
				watch.Poll().Encoded(encode)
			}
		}
	})
}

// BenchmarkMemory prints the heap that a row takes, with everything that finds it, and how long a full collection takes.
func BenchmarkMemory(b *testing.B) {
	for _, rows := range sizes() {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				w := benchWorld(rows)
				taken := heap() - before
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Microseconds()), "gc-µs")
				b.ReportMetric(float64(taken)/float64(rows), "B/row")
				runtime.KeepAlive(w)
			}
		})
	}
}

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// TestListOfAnyPageCostsAlike counts what a deep page touches, rather than timing it: allocations do not grow with depth or rows.
func TestListOfAnyPageCostsAlike(t *testing.T) {
	count := func(rows, page int) float64 {
		w := benchWorld(rows)
		return testing.AllocsPerRun(20, func() { w.List(w.query(page, 50)) })
	}
	if small, large := count(100, 1), count(20_000, 300); large > small {
		t.Fatalf("first of 2 pages: %v allocations, 300th of 400: %v", small, large)
	}
}
