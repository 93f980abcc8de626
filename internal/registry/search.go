package registry

import (
	"math/bits"
	"slices"

	"github.com/rollcallhq/rollcall/api"
)

// search is all that a search needs of an application. It is taken under the organization's lock, and carried out without.
type search struct {
	query *Query
	all   *order     // the rows as they were
	in    Categories // where the query's needle may be
	hits  *hits      // the rows that may match, by the index; nil without one, and any row may
	exact bool       // all that may match do
	// few are the rows that may match, in any order, where sorting them is better than walking through all; else nil.
	few []*entry
}

// searchLocked prepares a search in the rows as they are now, for what a run misses. The order is not copied: who searches without
// the lock takes a copy.
func (a *application) searchLocked(r *run) *search {
	s := &search{query: r.query, all: a.rows.order, in: r.query.Categories}
	slots, needle := &a.rows.slots, r.query.Search
	if needle == "" || !slots.indexed() {
		return s
	}
	s.hits, s.in = slots.search(r.query)
	n := len(needle)
	if s.exact = n < 3 || n == 3 && needle[2] != 0; s.exact { // a zero stands for the end of a text as well
		r.count = s.hits.count
	}
	const sorting = 16 // what a row costs to be looked at and sorted, beside being passed over in the order
	if n := s.hits.count; n <= a.organization.tuning.few && (r.count < 0 || n*sorting <= r.effort(s.all.Len())) {
		s.few = s.hits.rows(slots)
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
	blocks   [][]uint64 // a bitmap a block, nil for none
	count    int
}

func (h *hits) has(at slot) bool {
	block, i := h.blocks[at>>h.slotBits], at&(1<<h.slotBits-1)
	return block != nil && block[i/64]&(1<<(i%64)) != 0
}

// rows returns the rows of the slots.
func (h *hits) rows(s *slots) []*entry {
	rows := make([]*entry, 0, h.count)
	for i, found := range h.blocks {
		for at := range members(found) {
			rows = append(rows, s.blocks[i].rows[at])
		}
	}
	return rows
}

// search returns the slots of the rows that may match, by the index, and in which of the categories.
func (s *slots) search(q *Query) (h *hits, in Categories) {
	h = &hits{slotBits: s.bits, blocks: make([][]uint64, len(s.blocks))}
	found := make([]uint64, words(s.bits))
	for i, b := range s.blocks {
		if n, categories := b.search(q, found); n > 0 {
			h.blocks[i], found = found, make([]uint64, words(s.bits))
			h.count += n
			in |= categories
		}
	}
	return h, in
}

// search adds the slots of the rows that may match to an empty bitmap, and returns how many they are and in which categories.
func (b *block) search(q *Query, found []uint64) (count int, in Categories) {
	for i, category := range categories {
		if q.Categories&category != 0 && b.index != nil && b.index.search(i, q.Search, found) {
			in |= category
		}
	}
	if in != 0 {
		without(found, b.gone.words)
	}
	for i := range members(b.waiting.words) {
		e := b.rows[i]
		if !e.contains(q.Search, q.Categories) {
			continue
		}
		found[i/64] |= 1 << (i % 64)
		for _, category := range categories {
			if q.Categories&category&^in != 0 && e.contains(q.Search, category) {
				in |= category
			}
		}
	}
	if in != 0 {
		for _, word := range found {
			count += bits.OnesCount64(word)
		}
	}
	return count, in
}

func without(found, slots []uint64) {
	for i, word := range slots {
		found[i] &^= word
	}
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
