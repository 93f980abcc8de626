package registry

import "slices"

// finder is what the live queries of one needle share: the match of a row that changed is made once for all of them, and not at all
// when the row's signature shows that the needle is not in it. Guarded by the organization's lock.
type finder struct {
	needle  string
	in      Categories
	bits    []uint16 // the needle's bits of a signature
	queries []*liveQuery
}

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
		for _, q := range f.queries {
			q.noteLocked(matching)
		}
	}
}

// enrolLocked has a live query told of changes from now on.
func (a *application) enrolLocked(q *liveQuery) {
	i := slices.IndexFunc(a.finders, q.shares)
	if i < 0 {
		i = len(a.finders)
		a.finders = append(a.finders, newFinder(&q.Query))
	}
	a.finders[i].queries = append(a.finders[i].queries, q)
}

// leaveLocked undoes enrolLocked.
func (a *application) leaveLocked(q *liveQuery) {
	i := slices.IndexFunc(a.finders, q.shares)
	f := a.finders[i]
	f.queries = slices.DeleteFunc(f.queries, func(other *liveQuery) bool { return other == q })
	if len(f.queries) == 0 {
		a.finders = slices.Delete(a.finders, i, i+1)
	}
	if len(a.finders) == 0 {
		a.finders = nil
	}
}

func (q *liveQuery) shares(f *finder) bool { return f.needle == q.Search && f.in == q.Categories }
