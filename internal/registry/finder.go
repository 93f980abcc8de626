package registry

import "slices"

// finder is what the queries of one needle share. The match of a row that changed is made once for all of them, and not at all when
// the row's signature shows that the needle is not in it; what all rows had to be looked at to count is counted once. Guarded by the
// organization's lock.
type finder struct {
	needle  string
	in      Categories
	bits    []uint16 // the needle's bits of a signature
	queries []*liveQuery
	// matches is how many rows match once that is counted; while counting, by how many changes since have altered that.
	matches           int
	counting, counted bool
}

// keptFinders is how many finders with a count an application keeps that no live query needs, lest it is counted again for every page
// that an operator turns. Each costs every change a comparison of signatures.
const keptFinders = 8

// signature has a bit for each byte of a row's texts and, by hash, for each pair of them. A row of the usual length sets a tenth of
// the bits, so one needle in a hundred passes that is not there.
type signature [16]uint64

func (s *signature) set(bit uint16)      { s[bit/64] |= 1 << (bit % 64) }
func (s *signature) has(bit uint16) bool { return s[bit/64]&(1<<(bit%64)) != 0 }

// eachBit calls do with the bits of a folded text, pairs first: they tell more.
func eachBit(text []byte, do func(uint16)) {
	for i := 1; i < len(text); i++ {
		pair := uint32(text[i-1])<<8 | uint32(text[i])
		do(uint16(256 + (pair*0x9e3779b1>>16)*768>>16))
	}
	for _, b := range text {
		do(uint16(b))
	}
}

func (s *signature) sign(e *entry) {
	if e == nil {
		return
	}
	var room [64]byte
	for i := range categories {
		eachBit(e.appendFolded(room[:0], i), s.set)
	}
}

func newFinder(q *Query) *finder {
	f := &finder{needle: q.Search, in: q.Categories}
	eachBit([]byte(f.needle), func(bit uint16) {
		if !slices.Contains(f.bits, bit) {
			f.bits = append(f.bits, bit)
		}
	})
	return f
}

func (f *finder) finds(e *entry, has *signature) bool {
	for _, bit := range f.bits {
		if !has.has(bit) {
			return false
		}
	}
	return f.needle == "" || e.contains(f.needle, f.in)
}

// matching returns the change as it is among the rows that match; from and to are its signatures.
func (f *finder) matching(c change, from, to *signature) change {
	if c.from != nil && !f.finds(c.from, from) {
		c.from = nil
	}
	if c.to != nil && !f.finds(c.to, to) {
		c.to = nil
	}
	return c
}

// tellLocked tells the live queries of a change that was made.
func (a *application) tellLocked(c change) {
	var from, to signature
	if len(a.finders) > 0 {
		from.sign(c.from)
		to.sign(c.to)
	}
	for _, f := range a.finders {
		matching := f.matching(c, &from, &to)
		if matching.from != nil {
			f.matches--
		}
		if matching.to != nil {
			f.matches++
		}
		for _, q := range f.queries {
			q.noteLocked(matching)
		}
	}
	if len(a.kept) > 0 && !a.rows.slots.indexed() { // counting is cheap again
		for _, f := range a.kept {
			a.dropLocked(f)
		}
		a.kept = nil
	}
}

// finderLocked returns the finder of a query's needle, if there is one.
func (a *application) finderLocked(q *Query) *finder {
	i := slices.IndexFunc(a.finders, func(f *finder) bool { return f.needle == q.Search && f.in == q.Categories })
	if i < 0 {
		return nil
	}
	return a.finders[i]
}

// useLocked returns the finder of a query's needle. Who used it last calls leaveLocked.
func (a *application) useLocked(q *Query) *finder {
	f := a.finderLocked(q)
	if f == nil {
		f = newFinder(q)
		a.finders = append(a.finders, f)
	}
	a.kept = slices.DeleteFunc(a.kept, func(other *finder) bool { return other == f })
	return f
}

// leaveLocked keeps or drops a finder that nobody uses.
func (a *application) leaveLocked(f *finder) {
	if len(f.queries) > 0 || f.counting {
		return
	}
	if !f.counted || !a.rows.slots.indexed() {
		a.dropLocked(f)
		return
	}
	if a.kept = append(a.kept, f); len(a.kept) > keptFinders {
		a.dropLocked(a.kept[0])
		a.kept = slices.Delete(a.kept, 0, 1)
	}
}

func (a *application) dropLocked(f *finder) {
	if a.finders = slices.DeleteFunc(a.finders, func(other *finder) bool { return other == f }); len(a.finders) == 0 {
		a.finders = nil
	}
}

// enrolLocked has a live query told of changes from now on.
func (a *application) enrolLocked(q *liveQuery) {
	f := a.useLocked(&q.Query)
	f.queries = append(f.queries, q)
}

// withdrawLocked undoes enrolLocked.
func (a *application) withdrawLocked(q *liveQuery) {
	f := a.finderLocked(&q.Query)
	f.queries = slices.DeleteFunc(f.queries, func(other *liveQuery) bool { return other == q })
	a.leaveLocked(f)
}

// countLocked returns how many rows match, -1 if that is not known.
func (a *application) countLocked(q *Query) int {
	f := a.finderLocked(q)
	if f == nil || !f.counted {
		return -1
	}
	if i := slices.Index(a.kept, f); i >= 0 {
		a.kept = append(slices.Delete(a.kept, i, i+1), f) // those that were not asked for go first
	}
	return f.matches
}

// countingLocked returns the finder to give the number of matches among the rows as they are now, once they are counted; nil when
// somebody else is at it already.
func (a *application) countingLocked(q *Query) *finder {
	if f := a.finderLocked(q); f != nil && f.counting {
		return nil
	}
	f := a.useLocked(q)
	f.counting, f.matches = true, 0
	return f
}

func (a *application) countedLocked(f *finder, matches int) {
	f.matches += matches
	f.counting, f.counted = false, true
	a.leaveLocked(f)
}
