package registry

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// TestPostingIsASet goes back and forth between lists and bitmaps.
func TestPostingIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }
		slotBits := uint(draw(10))
		var sets []*posting
		var want []map[int]bool
		for range 1 + draw(3) {
			p, in := &posting{}, map[int]bool{}
			for range draw(30) {
				// Stretches, so that sets fill and empty.
				from, del := draw(1<<slotBits), draw(3) == 0
				by := 1 + draw(3)
				var add []uint16
				remove := make([]uint64, words(slotBits))
				for i := from; i < min(1<<slotBits, from+1+draw(40)); i += by {
					switch {
					case del:
						remove[i/64] |= 1 << (i % 64)
						delete(in, i)
					case !in[i]:
						add = append(add, uint16(i))
						in[i] = true
					}
				}
				if del {
					p.without(remove, slotBits)
				} else if len(add) > 0 {
					p.add(add, slotBits)
				}
				if p.count() != len(in) {
					t.Fatalf("%d members, of %d", p.count(), len(in))
				}
			}
			sets, want = append(sets, p), append(want, in)
		}
		union, both := make([]uint64, words(slotBits)), make([]uint64, words(slotBits))
		for _, p := range sets {
			p.union(union)
		}
		found := intersect(slices.Clone(sets), both)
		if found != slices.ContainsFunc(both, func(word uint64) bool { return word != 0 }) {
			t.Fatalf("intersect says %v", found)
		}
		for i := range 1 << slotBits {
			n := 0
			for j, in := range want {
				if sets[j].has(uint16(i)) != in[i] {
					t.Fatalf("has %d: %v", i, !in[i])
				}
				if in[i] {
					n++
				}
			}
			if got := union[i/64]>>(i%64)&1 == 1; got != (n > 0) {
				t.Fatalf("union has %d: %v", i, got)
			}
			if got := both[i/64]>>(i%64)&1 == 1; got != (n == len(sets)) {
				t.Fatalf("intersection has %d: %v", i, got)
			}
		}
	})
}

func TestArrangeIsSortingAsFarAsAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var entries []*entry
		n := random.IntN(400)
		for range n {
			entries = append(entries, testEntry(t, random.IntN(1+n), "")) // with some that are alike
		}
		from := random.IntN(n + 1)
		to := from + random.IntN(n+1-from)
		rows := rank(entries)
		arrange(rows, from, to)
		slices.SortFunc(entries, compare)
		for i, row := range rows[from:to] {
			if compare(row.entry, entries[from+i]) != 0 {
				t.Fatalf("rank %d of %d, asked for %d to %d", from+i, n, from, to)
			}
		}
	})
}

// TestSearchIsTheFilterOfTheList compares searches of a large application with the list itself: the rows of all pages are those of
// the list that contain the needle, page n is the slice, and a longer needle finds no more.
func TestSearchIsTheFilterOfTheList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, tuning := range []tuning{defaultTuning, {margin: 8, blockBits: 10, few: 200}, {margin: 8, blockBits: 7, few: -1}} {
		w := newTunedWorld(tuning)
		const rows = 6000
		for range rows {
			w.openBench()
		}
		for range rows { // so that slots are not in the order of the list
			row := benchRow(w, 1+random.IntN(rows))
			if w.Remove(row.Application, row.ServerID); random.IntN(8) > 0 {
				if err := w.Insert(row, Unlimited); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.applications[testApplication(0)].rows.check(t)
		all := w.Sessions(testApplication(0), nil, rows, RangeAll, 0)
		for range 25 {
			texts := func(row *Row) [3]string { return [3]string{row.License, row.IP, row.ClientID} }
			text := texts(&all[random.IntN(len(all))])[random.IntN(3)]
			q := w.query(1, 1+random.IntN(50))
			q.Categories = Categories(1 + random.IntN(7))
			start := random.IntN(len(text))
			before := len(all)
			for end := start + 1; end <= min(len(text), start+6); end++ {
				q.Search = text[start:end]
				var want []api.ServerID
				for i := range all {
					for j, text := range texts(&all[i]) {
						if q.Categories&categories[j] != 0 && strings.Contains(strings.ToLower(text), strings.ToLower(q.Search)) {
							want = append(want, all[i].ServerID)
							break
						}
					}
				}
				if q.Page = 1; len(want) > 0 {
					q.Page += random.IntN(1 + len(want)/q.PageSize)
				}
				checkPage(t, w, q, want)
				if len(want) > before {
					t.Fatalf("%q finds %d rows, more than the %d of a part of it", q.Search, len(want), before)
				}
				before = len(want)
			}
		}
	}
}

func checkPage(t *testing.T, w *world, q Query, want []api.ServerID) {
	t.Helper()
	view, watch := w.Watch(q)
	defer watch.Close()
	for _, view := range []api.View{view, w.List(q)} {
		if view.FilteredTotal != len(want) {
			t.Fatalf("%+v: %d found, of %d", q, view.FilteredTotal, len(want))
		}
		from, to := q.window(len(want))
		var got []api.ServerID
		for _, row := range view.Items {
			got = append(got, row.ServerID)
		}
		if diff := cmp.Diff(want[from:to], got); diff != "" && from < to {
			t.Fatalf("%+v: page (+) is not the slice (-):\n%s", q, diff)
		}
	}
}

var (
	soakRows    = flag.Int("rows", 6_000, "rows of TestChurnDoesNotRot")
	soakChanges = flag.Int("changes", 16_000, "its insertions and removals; ten million at a million rows take some ten minutes")
)

// Rows that come and go, with texts that were never there before, leave the memory as it was.
func TestChurnDoesNotRot(t *testing.T) {
	rows := *soakRows
	tuning := defaultTuning
	tuning.indexFrom = 1000
	w := newTunedWorld(tuning)
	random := rand.New(rand.NewPCG(3, 4))
	live := make([]int, 0, rows)
	row := func(i int) Row {
		row := benchRow(w, i)
		row.ClientID = fmt.Sprintf("%012x", uint64(i)*0xd1342543de82ef95>>16)
		return row
	}
	before := heap()
	change := func() {
		if len(live) == rows {
			i := random.IntN(rows)
			gone := row(live[i])
			w.Remove(gone.Application, gone.ServerID)
			live[i] = live[rows-1]
			live = live[:rows-1]
		}
		w.opened++
		if err := w.Insert(row(w.opened), Unlimited); err != nil {
			t.Fatal(err)
		}
		live = append(live, w.opened)
	}
	for range 3 * rows { // lists find their lengths
		change()
	}
	began := heap() - before
	for range *soakChanges / 2 {
		change()
	}
	ended := heap() - before
	runtime.KeepAlive(live)
	w.applications[testApplication(0)].rows.check(t)
	t.Logf("%d rows, %d changes: %d bytes before, %d after", rows, *soakChanges, began, ended)
	if ended > began+began/20 {
		t.Errorf("%d changes took the memory from %d to %d bytes", *soakChanges, began, ended)
	}
}
