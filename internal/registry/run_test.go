package registry

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// TestRunFollowsItsMatches holds a run to a search of the whole order, through changes everywhere and looks now and then, with
// margins so small that they are used up all the time.
func TestRunFollowsItsMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }
		at := func(i int, license string) *entry {
			return newEntry(Row{Session: testSession(i), CreatedAt: api.Millis(i + 1), License: license})
		}
		q := Query{Search: "a", Page: 1 + draw(7), PageSize: 1 + draw(4)}.normalized()
		o, rows := newOrder(), make([]*entry, 60)
		set := func(r *run) {
			// Changes cluster, so that runs lose all that they hold, are overtaken, and shrink to nothing.
			from, license := draw(len(rows)), []string{"", "a", "a", "A", "b"}[draw(5)]
			for i := from; i < min(from+1+draw(12), len(rows)); i++ {
				c := change{from: rows[i]}
				if rows[i] = nil; license != "" {
					c.to = at(i, license)
					rows[i] = c.to
					o.Set(c.to)
				} else if c.from != nil {
					o.Delete(c.from)
				} else {
					continue
				}
				if r != nil {
					(&liveQuery{Query: q, found: r}).followLocked(c)
				}
			}
		}
		for range draw(20) {
			set(nil)
		}
		r := newRun(&q, o, draw(4))
		for range draw(60) {
			set(r)
			if draw(3) > 0 {
				continue
			}
			var want []*entry
			for _, e := range slices.Backward(rows) {
				if e != nil && q.matches(e) {
					want = append(want, e)
				}
			}
			if r.count != len(want) {
				t.Fatalf("%d matches counted, of %d", r.count, len(want))
			}
			from, to := q.window(len(want))
			if got := r.page(o); !slices.Equal(got, want[from:to]) {
				t.Fatalf("page is %v, want %v", got, want[from:to])
			}
		}
	})
}
