package registry

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRunFollowsItsMatches holds a run to a search of the whole order, through changes everywhere and looks now and then, with
// margins so small that they are used up all the time.
func TestRunFollowsItsMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }
		at := func(i int, license string) *entry { return testEntry(t, i+1, license) }
		q := Query{Search: "a", Page: 1 + draw(7), PageSize: 1 + draw(4)}.normalized()
		all, rows := newRows(tuning{blockBits: uint(draw(4)), indexFrom: 100 * draw(2), waiting: draw(20), intake: draw(80)}), make([]*entry, 60)
		a := &application{organization: &organization{tuning: tuning{few: draw(40)}}, rows: all}
		set := func(r *run) {
			// Changes cluster, so that runs lose all that they hold, are overtaken, and shrink to nothing.
			from, license := draw(len(rows)), []string{"", "a", "a", "A", "b"}[draw(5)]
			for i := from; i < min(from+1+draw(12), len(rows)); i++ {
				c := change{from: rows[i]}
				if rows[i] = nil; license != "" {
					c.to = at(i, license)
					rows[i] = c.to
				}
				switch {
				case c.from != nil:
					old, _ := a.rows.find(c.from.session)
					if c.to != nil {
						a.rows.replace(old, c.to)
					} else {
						a.rows.remove(old)
					}
				case c.to != nil:
					a.rows.insert(c.to)
				default:
					continue
				}
				if r != nil {
					var from, to signature
					from.sign(c.from)
					to.sign(c.to)
					r.apply(newFinder(&q).matching(c, &from, &to))
				}
			}
		}
		for range draw(20) {
			set(nil)
		}
		r := &run{query: &q, margin: draw(4), count: -1}
		r.look(a.searchLocked(r))
		for range draw(60) {
			set(r)
			if draw(3) > 0 {
				continue
			}
			var want []*entry
			for _, e := range slices.Backward(rows) {
				if e != nil && e.contains(q.Search, q.Categories) {
					want = append(want, e)
				}
			}
			if r.count != len(want) {
				t.Fatalf("%d matches counted, of %d", r.count, len(want))
			}
			from, to := q.window(len(want))
			if got := r.page(a); !slices.Equal(got, want[from:to]) {
				t.Fatalf("page is %v, want %v", got, want[from:to])
			}
		}
	})
}
