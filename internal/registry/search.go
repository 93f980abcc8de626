package registry

import (
	"math/bits"
	"slices"

	"github.com/rollcallhq/rollcall/api"
)

// search is all that a search needs of an application. It is taken under the organization's lock, and carried out without.
type search struct {
	query *Query
	all   *order // the rows as they were
	// few are the rows that may match, in any order, if they are so few that sorting them beats a walk through all; else hits are
	// their slots. Without an index both are nil, and any row may match. When exact, all of them do.
	few   []*entry
	hits  *hits
	exact bool
	in    Categories // where the query's needle may be
}

// searchLocked prepares a search in the rows as they are now. The order is not copied: who searches without the lock takes a copy.
func (a *application) searchLocked(q *Query) *search {
	s := &search{query: q, all: a.rows.order, in: q.Categories}
	if slots := &a.rows.slots; q.Search != "" && slots.indexed() {
		n := len(q.Search)
		s.exact = n < 3 || n == 3 && q.Search[2] != 0 // a zero stands for the end of a text as well
		if s.few, s.in = slots.searchFew(q, a.organization.tuning.few); s.few == nil {
			s.hits, s.in = slots.search(q)
		}
	}
	return s
}

func (s *search) matches(p place) bool {
	if s.hits != nil && !s.hits.has(p.slot) {
		return false
	}
	return s.hits != nil && s.exact || s.decides(p.entry)
}

// decides tells whether a row that may match does.
func (s *search) decides(e *entry) bool {
	return s.query.Search == "" || e.contains(s.query.Search, s.in)
}

// hits is a set of slots.
type hits struct {
	slotBits uint
	blocks   [][]uint64 // a bitmap a block
	count    int
}

func (h *hits) has(at slot) bool {
	i := at & (1<<h.slotBits - 1)
	return h.blocks[at>>h.slotBits][i/64]&(1<<(i%64)) != 0
}

// search returns the slots of the rows that may match, by the index, and in which of the categories.
func (s *slots) search(q *Query) (h *hits, in Categories) {
	h = &hits{slotBits: s.bits}
	for _, b := range s.blocks {
		found := make([]uint64, words(s.bits))
		n, categories := b.search(q, found)
		h.count += n
		in |= categories
		h.blocks = append(h.blocks, found)
	}
	return h, in
}

// searchFew returns the rows that may match, by the index; nil when they are more than limit.
func (s *slots) searchFew(q *Query, limit int) (rows []*entry, in Categories) {
	rows = []*entry{}
	found := make([]uint64, words(s.bits))
	for _, b := range s.blocks {
		n, categories := b.search(q, found)
		if len(rows)+n > limit {
			return nil, 0
		}
		in |= categories
		if n > 0 {
			rows = slices.Grow(rows, n)
			for i := range members(found) {
				rows = append(rows, b.rows[i])
			}
			clear(found)
		}
	}
	return rows, in
}

// search adds the slots of the rows that may match to an empty bitmap, and returns how many they are and in which categories.
func (b *block) search(q *Query, found []uint64) (count int, in Categories) {
	for i, category := range categories {
		if q.Categories&category != 0 && b.index != nil && b.index.search(i, q.Search, found) {
			in |= category
		}
	}
	if in != 0 {
		for _, word := range found {
			count += bits.OnesCount64(word)
		}
	}
	return count, in
}

// ranked is an entry with what mostly decides its place in the order at hand.
type ranked struct {
	created api.Millis
	*entry
}

// rank makes entries ready for arrange. That it reads them all in one short loop is half its use: the processor then waits for
// many of them at a time, and who comes next finds them in its cache.
func rank(entries []*entry) []ranked {
	rows := make([]ranked, len(entries))
	for i, e := range entries {
		rows[i] = ranked{e.created, e}
	}
	return rows
}

func (r ranked) before(other ranked) bool {
	if r.created != other.created {
		return r.created > other.created
	}
	return r.entry.before(other.entry)
}

// arrange moves rows so that those of the ranks [from, to) in list order are in their places: quicksort, but for the parts that
// nobody asks for.
func arrange(rows []ranked, from, to int) {
	for len(rows) > 24 && from < to {
		pivot := rows[len(rows)/2]
		i, j := 0, len(rows)-1
		for i <= j {
			for rows[i].before(pivot) {
				i++
			}
			for pivot.before(rows[j]) {
				j--
			}
			if i <= j {
				rows[i], rows[j] = rows[j], rows[i]
				i, j = i+1, j-1
			}
		}
		// Up to j are the earlier rows, from i on the later ones; what is between is in its place.
		arrange(rows[:j+1], from, min(to, j+1))
		rows, from, to = rows[i:], max(from-i, 0), to-i
	}
	if from < to {
		slices.SortFunc(rows, func(a, b ranked) int { return compare(a.entry, b.entry) })
	}
}

// compare is before for package slices.
func compare(a, b *entry) int {
	switch {
	case a.before(b):
		return -1
	case b.before(a):
		return 1
	}
	return 0
}
