package registry

import "slices"

// run is what a searching live query keeps of its matches, so that a change costs it one comparison and a page no search: how
// many match, and an unbroken run of them around the page. A run holds all matches of a needle that finds few, and a bounded part
// of the others': changes before the page shift it, and only when the margin is used up are more matches looked for, from the
// edge outwards. Ranks count from 0 in list order.
type run struct {
	query  *Query
	margin int // how many matches are kept on either side of the page

	count int      // rows that match; -1 = nobody has counted them yet
	start int      // rank of rows[0], if there is one
	rows  []*entry // matches start, start+1, …; empty when nothing is known but count
}

// look carries out a search for what is worth keeping and missing from the run.
func (r *run) look(s *search) {
	switch {
	case s.few != nil:
		r.pick(s)
	case r.count < 0:
		r.scan(s)
	default:
		r.walk(s)
	}
}

// pick takes what is worth keeping from the few rows that may match.
func (r *run) pick(s *search) {
	rows := rank(s.few)
	if !s.exact {
		rows = slices.DeleteFunc(rows, func(row ranked) bool { return !s.decides(row.entry) })
	}
	r.count = len(rows)
	from, to := r.keep(r.count)
	arrange(rows, from, to)
	r.start, r.rows = from, make([]*entry, 0, to-from)
	for _, row := range rows[from:to] {
		r.rows = append(r.rows, row.entry)
	}
}

// scan looks at all rows.
func (r *run) scan(s *search) {
	from, to := r.keep(s.all.Len())
	r.start, r.count = from, 0
	s.all.Scan(func(p place) bool {
		if s.matches(p) {
			if r.count >= from && r.count < to {
				r.rows = append(r.rows, p.entry)
			}
			r.count++
		}
		return true
	})
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
	return slices.BinarySearchFunc(r.rows, e, compare)
}

// page returns the matches of the query's page in the application as it is now. The result is valid until the next change.
func (r *run) page(a *application) []*entry {
	from, to := r.query.window(r.count)
	if from == to {
		return nil
	}
	if len(r.rows) == 0 || from < r.start || to > r.start+len(r.rows) {
		r.look(a.searchLocked(r))
	}
	return r.rows[from-r.start : to-r.start]
}

// lost tells whether the run has none of the matches from, from+1, … to-1, nor touches them.
func (r *run) lost(from, to int) bool {
	return len(r.rows) == 0 || from > r.start+len(r.rows) || r.start > to
}

// effort returns how many rows there are to walk past in an order of so many.
func (r *run) effort(all int) int {
	from, to := r.keep(r.count)
	switch {
	case r.count < 0:
		return all
	case r.count == all:
		return to - from
	case r.lost(from, to):
		return min(to, r.count-from) * (all / max(r.count, 1))
	}
	return (max(r.start-from, 0) + max(to-r.start-len(r.rows), 0)) * (all / max(r.count, 1))
}

// walk looks along the order: from the run outwards, or from the nearer end of all rows.
func (r *run) walk(s *search) {
	from, to := r.keep(r.count)
	if r.lost(from, to) {
		r.fill(s, from, to)
		return
	}
	end := r.start + len(r.rows)
	if from < r.start {
		front := backward(s, r.rows[0], 0, r.start-from)
		slices.Reverse(front)
		r.rows, r.start = append(front, r.rows...), from
	}
	if to > end {
		r.rows = append(r.rows, forward(s, r.rows[len(r.rows)-1], 0, to-end)...)
	}
	r.trim()
}

// fill takes the matches from, from+1, … to-1 of count, from the end that is nearer, or by their ranks when all rows match.
func (r *run) fill(s *search, from, to int) {
	r.start = from
	switch {
	case r.count == s.all.Len():
		r.rows = stretch(s.all, from, to)
	case from <= r.count-to:
		r.rows = forward(s, nil, from, to-from)
	default:
		r.rows = backward(s, nil, r.count-to, to-from)
		slices.Reverse(r.rows)
	}
}

// forward returns n matches that come after the given one (nil = from the newest), leaving out the first skip.
func forward(s *search, after *entry, skip, n int) []*entry {
	rows := make([]*entry, 0, n)
	take := s.taker(&rows, after, skip)
	if after == nil {
		s.all.Scan(take)
	} else {
		s.all.Ascend(newPlace(after, 0), take)
	}
	return rows
}

// backward is forward in the other direction; its result has the oldest first.
func backward(s *search, before *entry, skip, n int) []*entry {
	rows := make([]*entry, 0, n)
	take := s.taker(&rows, before, skip)
	if before == nil {
		s.all.Reverse(take)
	} else {
		s.all.Descend(newPlace(before, 0), take)
	}
	return rows
}

// taker returns an iterator that fills rows to its capacity with matches other than the pivot.
func (s *search) taker(rows *[]*entry, pivot *entry, skip int) func(place) bool {
	return func(p place) bool {
		switch {
		case len(*rows) == cap(*rows): // none are asked for
		case p.entry == pivot || !s.matches(p):
		case skip > 0:
			skip--
		default:
			*rows = append(*rows, p.entry)
		}
		return len(*rows) < cap(*rows)
	}
}
