package registry

import (
	"math/bits"
	"slices"
)

// Rows that come wait before they are put into the index. To put one in is to look for each of its grams, and the processor has to
// wait for the memory of most; of some hundred rows together every gram is looked for once. A row that goes meanwhile was never in.
// Searches look at the rows that wait one by one, so there are few of them; while there are many, as when an application becomes
// large or another node's roster has come, there is no index to search.
const (
	waitingMost = 1024 // so many wait before they are put in; in an application of few rows fewer
	waitingPart = 32   // of the rows

	// intakeMost pairs are put in together, of a thousand rows as they mostly are: to read and to sort them takes a millisecond, in which
	// others wait. intakeStep are put in by a change: of ten rows or so, for each that comes.
	intakeMost = 48 << 10
	intakeStep = 512
)

// slotSet is a set of a block's slots.
type slotSet struct {
	words []uint64 // nil for none
	count int
}

func (s *slotSet) has(i int) bool { return s.words != nil && s.words[i/64]&(1<<(i%64)) != 0 }

func (s *slotSet) add(i int, slotBits uint) {
	if s.words == nil {
		s.words = make([]uint64, words(slotBits))
	}
	s.words[i/64] |= 1 << (i % 64)
	s.count++
}

func (s *slotSet) remove(i int) {
	s.words[i/64] &^= 1 << (i % 64)
	s.drop(1)
}

// subtract removes those that are in another set.
func (s *slotSet) subtract(other []uint64) (removed int) {
	for i, word := range s.words {
		removed += bits.OnesCount64(word & other[i])
		s.words[i] = word &^ other[i]
	}
	s.drop(removed)
	return removed
}

func (s *slotSet) drop(n int) {
	if s.count -= n; s.count == 0 {
		s.words = nil
	}
}

// pair is a gram and a slot of a block whose row has it.
type pair uint64

func newPair(g gram, i int) pair { return pair(g)<<16 | pair(i) }

func (p pair) gram() gram { return gram(p >> 16) }

// intake is a block's rows that are being put into its index. Until all of each is in, they wait.
type intake struct {
	block *block
	slots slotSet
	pairs []pair // that are left, by grams
}

// newIntake is of the first rows of a block that wait, and tells whether they are all. What they have of single bytes is put in at once.
func (s *slots) newIntake(b *block) (in *intake, all bool) {
	if b.index == nil {
		b.index = newPostings(s.bits)
	}
	in = &intake{block: b}
	pairs := s.pairs[:0]
	all = true
	var room [192]gram
	for i := range members(b.waiting.words) {
		if all = len(pairs) < intakeMost; !all {
			break
		}
		in.slots.add(i, s.bits)
		for _, g := range appendGrams(room[:0], b.rows[i]) {
			if g.isByte() {
				b.index.of(g).add([]uint16{uint16(i)}, s.bits) // there are so few of these that they are at hand
			} else {
				pairs = append(pairs, newPair(g, i))
			}
		}
	}
	s.pairs, s.spare = sortPairs(pairs, s.spare)
	in.pairs = slices.Compact(s.pairs) // a text may have a gram twice
	return in, all
}

// sortPairs sorts pairs by their grams, those of one gram as they came: by slots. It uses the memory of both, and returns it.
func sortPairs(pairs, other []pair) (sorted, spare []pair) {
	const digit = 9 // bits; a gram has three of them
	other = slices.Grow(other[:0], len(pairs))[:len(pairs)]
	for shift := 16; shift < 16+3*digit; shift += digit {
		var ends [1 << digit]int
		for _, p := range pairs {
			ends[p>>shift&(1<<digit-1)]++
		}
		end := 0
		for i, n := range ends {
			ends[i] = end
			end += n
		}
		for _, p := range pairs {
			at := &ends[p>>shift&(1<<digit-1)]
			other[*at] = p
			*at++
		}
		pairs, other = other, pairs
	}
	return pairs, other
}

// step puts in n pairs, and tells whether those were the last.
func (in *intake) step(n int) (done bool) {
	n = min(n, len(in.pairs))
	in.block.index.add(in.pairs[:n])
	in.pairs = in.pairs[n:]
	return len(in.pairs) == 0
}

// wait has a row that is not in the index wait for it.
func (s *slots) wait(at slot) {
	s.blocks[at>>s.bits].waiting.add(int(at&(1<<s.bits-1)), s.bits)
	s.waiting++
}

// unindexed tells whether nothing of a row is in the index, nor is about to be put in.
func (s *slots) unindexed(at slot) bool {
	b, i := s.blocks[at>>s.bits], int(at&(1<<s.bits-1))
	return !s.indexing || b.waiting.has(i) && !s.takenIn(b, i)
}

func (s *slots) takenIn(b *block, i int) bool {
	return s.intake != nil && s.intake.block == b && s.intake.slots.has(i)
}

// indexed tells whether the index can be searched.
func (s *slots) indexed() bool { return s.indexing && s.waiting <= min(2*s.waitingMost, s.live/4) }

// beginIndex has all rows wait.
func (s *slots) beginIndex() {
	s.indexing = true
	for i, b := range s.blocks {
		for j, e := range b.rows {
			if e != nil {
				s.wait(slot(i)<<s.bits | slot(j))
			}
		}
	}
}

func (s *slots) endPass() { s.passing, s.pairs, s.spare = false, nil, nil }

// endIndex drops the index.
func (s *slots) endIndex() {
	s.indexing, s.waiting = false, 0
	s.endPass()
	for _, b := range s.blocks {
		b.waiting = slotSet{}
		s.unindexBlock(b)
	}
}

// takeIn goes on with putting rows into the index, up to n pairs, and tells whether there is more to do. It drops the index when the
// rows have become few.
func (s *slots) takeIn(n int) (more bool) {
	if s.indexing && s.live < s.indexFrom/2 {
		s.endIndex()
	}
	if s.intake == nil {
		if s.intake = s.nextIntake(); s.intake == nil {
			return false
		}
	}
	if in := s.intake; in.step(n) {
		s.waiting -= in.block.waiting.subtract(in.slots.words)
		s.intake = nil
	}
	return true
}

// nextIntake is of the next block in which rows wait, once they are enough: then in one pass over the blocks all are put in.
func (s *slots) nextIntake() *intake {
	if !s.passing {
		if !s.indexing || s.waiting < min(s.waitingMost, 1+s.live/waitingPart) {
			return nil
		}
		s.passing, s.pass = true, 0
	}
	for s.pass < len(s.blocks) {
		b := s.blocks[s.pass]
		if b.waiting.count == 0 {
			s.pass++
			continue
		}
		in, all := s.newIntake(b)
		if all {
			s.pass++
		}
		return in
	}
	s.endPass()
	return nil
}
