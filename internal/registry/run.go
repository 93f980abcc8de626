package registry

import "slices"

// run is what a searching live query keeps of its matches, so that a change costs it one comparison and a page no search: how
// many match, and an unbroken run of them around the page. A run holds all matches of a needle that finds few, and a bounded part
// of the others': changes before the page shift it, and only when the margin is used up are more matches looked for, from the
// edge outwards. Ranks count from 0 in list order.
type run struct {
	query  *Query
	margin int // how many matches are kept on either side of the page

	count int      // rows that match
	start int      // rank of rows[0], if there is one
	rows  []*entry // matches start, start+1, …; empty when nothing is known but count
}

// newRun searches the whole order.
func newRun(q *Query, o *order, margin int) *run {
	r := &run{query: q, margin: margin}
	from, to := r.keep(o.Len())
	r.start = from
	o.Scan(func(e *entry) bool {
		if q.matches(e) {
			if r.count >= from && r.count < to {
				r.rows = append(r.rows, e)
			}
			r.count++
		}
		return true
	})
	return r
}

// keep returns the ranks that are worth keeping when count rows match.
func (r *run) keep(count int) (from, to int) {
	from, to = r.query.window(count)
	return max(from-r.margin, 0), min(to+r.margin, count)
}

// apply follows a change of the order, as far as it is one of rows that match.
func (r *run) apply(c change) {
	switch {
	case c.from != nil && c.to != nil:
		if i, found := r.find(c.from); found {
			r.rows[i] = c.to
		}
	case c.to != nil:
		r.insert(c.to)
	case c.from != nil:
		r.remove(c.from)
	}
}

func (r *run) insert(e *entry) {
	r.count++
	i, _ := r.find(e)
	switch {
	case r.count == 1:
		r.start, r.rows = 0, []*entry{e}
	case len(r.rows) == 0: // there is nothing to compare with
	case i == 0 && r.start > 0:
		r.start++
	case i == len(r.rows) && r.start+i < r.count-1: // not the end of all matches, so e may not follow the run directly
	default:
		r.rows = slices.Insert(r.rows, i, e)
		if len(r.rows) > 4*r.margin+2*r.query.PageSize {
			r.trim()
		}
	}
}

func (r *run) remove(e *entry) {
	r.count--
	switch i, found := r.find(e); {
	case found:
		r.rows = slices.Delete(r.rows, i, i+1)
	case i == 0 && len(r.rows) > 0:
		r.start--
	}
}

// trim cuts the run to what is worth keeping, in memory of its own.
func (r *run) trim() {
	from, to := r.keep(r.count)
	from, to = max(from, r.start), min(to, r.start+len(r.rows))
	if from >= to {
		r.rows = nil
		return
	}
	r.rows = slices.Clone(r.rows[from-r.start : to-r.start])
	r.start = from
}

func (r *run) find(e *entry) (int, bool) {
	return slices.BinarySearchFunc(r.rows, e, func(a, b *entry) int {
		switch {
		case a.before(b):
			return -1
		case b.before(a):
			return 1
		}
		return 0
	})
}

// page returns the matches of the query's page; o is the order as it is now. The result is valid until the next change.
func (r *run) page(o *order) []*entry {
	from, to := r.query.window(r.count)
	if from == to {
		return nil
	}
	if len(r.rows) == 0 || from < r.start || to > r.start+len(r.rows) {
		r.extend(o)
	}
	return r.rows[from-r.start : to-r.start]
}

// extend looks for the matches that are worth keeping and missing from the run.
func (r *run) extend(o *order) {
	from, to := r.keep(r.count)
	end := r.start + len(r.rows)
	switch {
	case len(r.rows) > 0 && from <= end && r.start <= to: // the run has some of them, or touches them
		if from < r.start {
			front := r.backward(o, r.rows[0], 0, r.start-from)
			slices.Reverse(front)
			r.rows, r.start = append(front, r.rows...), from
		}
		if to > end {
			r.rows = append(r.rows, r.forward(o, r.rows[len(r.rows)-1], 0, to-end)...)
		}
		r.trim()
	case from <= r.count-to:
		r.start, r.rows = from, r.forward(o, nil, from, to-from)
	default:
		r.start, r.rows = from, r.backward(o, nil, r.count-to, to-from)
		slices.Reverse(r.rows)
	}
}

// forward returns n matches that come after the given one (nil = from the newest), leaving out the first skip.
func (r *run) forward(o *order, after *entry, skip, n int) []*entry {
	rows := make([]*entry, 0, n)
	take := r.taker(&rows, after, skip)
	if after == nil {
		o.Scan(take)
	} else {
		o.Ascend(after, take)
	}
	return rows
}

// backward is forward in the other direction; its result has the oldest first.
func (r *run) backward(o *order, before *entry, skip, n int) []*entry {
	rows := make([]*entry, 0, n)
	take := r.taker(&rows, before, skip)
	if before == nil {
		o.Reverse(take)
	} else {
		o.Descend(before, take)
	}
	return rows
}

// taker returns an iterator that fills rows to its capacity with matches other than the pivot.
func (r *run) taker(rows *[]*entry, pivot *entry, skip int) func(*entry) bool {
	return func(e *entry) bool {
		switch {
		case e == pivot || !r.query.matches(e):
		case skip > 0:
			skip--
		default:
			*rows = append(*rows, e)
		}
		return len(*rows) < cap(*rows)
	}
}
