package registry

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/tidwall/btree"

	"github.com/rollcallhq/rollcall/api"
)

// rows holds an application's rows: in list order, by session and by slot. It is guarded by the organization's lock.
type rows struct {
	order    *order
	sessions directory
	slots    slots
}

// order is a counted B-tree of rows in list order. A Copy of it (copy on write, a few hundred nanoseconds) is its taker's own, so
// that long scans need no lock.
type order = btree.BTreeG[place]

// place is a row in the order, with its slot beside it, so that a walk can pass over rows without touching them.
type place struct {
	*entry
	created api.Millis // the entry's, which mostly decides: the processor need not wait for the entry
	slot    slot
}

func newPlace(e *entry, at slot) place { return place{e, e.created, at} }

func newOrder() *order {
	before := func(a, b place) bool {
		if a.created != b.created {
			return a.created > b.created
		}
		return a.before(b.entry)
	}
	return btree.NewBTreeGOptions(before, btree.Options{NoLocks: true})
}

func newRows(t tuning) rows {
	return rows{order: newOrder(), slots: slots{
		bits: t.blockBits, indexFrom: t.indexFrom, waitingMost: cmp.Or(t.waiting, waitingMost), intakeStep: cmp.Or(t.intake, intakeStep)}}
}

func (r *rows) count() int { return r.order.Len() }

// find returns the place of a session's row.
func (r *rows) find(id api.SessionID) (place, bool) {
	hash := hashOf(id)
	for _, c := range r.sessions.find(hash) {
		if c.hash() == hash {
			if e := r.slots.at(c.slot()); e.session == id {
				return newPlace(e, c.slot()), true
			}
		}
	}
	return place{}, false
}

func (r *rows) insert(e *entry) {
	p := newPlace(e, r.slots.put(e))
	r.order.Set(p)
	r.sessions.add(newCandidate(hashOf(e.session), p.slot))
}

// replace puts another entry of the same session and time in the place of one.
func (r *rows) replace(old place, e *entry) {
	if !e.foundLike(old.entry) && !r.slots.unindexed(old.slot) {
		r.move(old, e)
		return
	}
	r.slots.set(old.slot, e)
	r.order.Set(newPlace(e, old.slot))
}

func (r *rows) remove(p place) {
	r.order.Delete(p)
	r.sessions.remove(newCandidate(hashOf(p.session), p.slot))
	r.slots.clear(p.slot)
	for range 4 { // more than a removal adds, so that a block that is being emptied is soon gone
		if !r.slots.sparse() {
			return
		}
		last := r.slots.last()
		r.move(last, last.entry)
	}
}

// move gives a row, or what takes its place, another slot.
func (r *rows) move(old place, e *entry) {
	hash := hashOf(old.session)
	r.sessions.remove(newCandidate(hash, old.slot))
	r.slots.clear(old.slot)
	p := newPlace(e, r.slots.put(e))
	r.sessions.add(newCandidate(hash, p.slot))
	r.order.Set(p)
}

// slot is a small number that names a row for as long as it is there, or is moved for the sake of a sparse table.
type slot uint32

// slots is a table of rows in blocks. The first free slot is taken first, and when more than half are free, rows are moved from the
// last block to the first ones, so that blocks fall empty and their memory is returned.
//
// From indexFrom rows on there is an index, into which rows are put at the changes that follow; below half of that it goes.
type slots struct {
	bits   uint // a block has up to 1<<bits slots
	blocks []*block
	live   int
	free   int // slots that a row may take, of those that blocks have

	indexFrom, waitingMost, intakeStep int

	indexing bool
	waiting  int     // rows that are not in the index, or not yet all
	intake   *intake // those of them that are being put in; nil for none
	passing  bool    // over the blocks in which rows wait
	pass     int     // the next of these
	pairs    []pair  // memory for intakes, for as long as the pass takes
	spare    []pair
	lazy     int // while it is not 0, rows that come are left waiting: BuildIndexes puts them in later
}

// block is a stretch of slots.
type block struct {
	rows []*entry // nil in a slot without a row; the last slot is not free
	free []uint64 // a bit a slot, set in the free ones
	live int

	index   *postings // nil for none
	waiting slotSet   // slots whose rows are not in the index, or not yet all
	gone    graves    // slots whose rows were removed and are in the index yet
}

func (s *slots) at(at slot) *entry { return s.blocks[at>>s.bits].rows[at&(1<<s.bits-1)] }

// set puts another row in the place of one which searches find alike, or which is unindexed.
func (s *slots) set(at slot, e *entry) { s.blocks[at>>s.bits].rows[at&(1<<s.bits-1)] = e }

func (s *slots) put(e *entry) slot {
	i := slices.IndexFunc(s.blocks, func(b *block) bool { return b.live+b.gone.count < 1<<s.bits })
	if i < 0 {
		i = len(s.blocks)
		s.blocks = append(s.blocks, &block{})
	}
	at := slot(i)<<s.bits | slot(s.putIn(s.blocks[i], e))
	s.live++
	if s.indexing {
		s.wait(at)
	} else if s.live >= s.indexFrom {
		s.beginIndex()
	}
	if s.lazy == 0 {
		s.takeIn(s.intakeStep)
	}
	return at
}

func (s *slots) putIn(b *block, e *entry) int {
	b.live++
	if b.live+b.gone.count <= len(b.rows) {
		s.free--
		for i, word := range b.free {
			if word != 0 {
				at := 64*i + bits.TrailingZeros64(word)
				b.free[i] &= word - 1
				b.rows[at] = e
				return at
			}
		}
	}
	if len(b.rows) == 64*len(b.free) {
		b.free = append(b.free, 0)
	}
	b.rows = append(b.rows, e)
	return len(b.rows) - 1
}

func (s *slots) clear(at slot) {
	b, i := s.blocks[at>>s.bits], int(at&(1<<s.bits-1))
	if s.unindexed(at) {
		s.release(b, i)
	} else {
		b.gone.add(i, s.bits)
	}
	if b.waiting.has(i) {
		b.waiting.remove(i)
		s.waiting--
	}
	b.rows[i] = nil
	b.live--
	s.live--
	if b.live == 0 {
		s.unindexBlock(b)
	} else {
		if s.intake == nil || s.intake.block != b { // what was swept must not be put in after that
			for _, i := range b.gone.sweep(b.index, b.live) {
				s.release(b, i)
			}
		}
		s.shorten(b)
	}
	s.takeIn(s.intakeStep)
	for n := len(s.blocks); n > 0 && s.blocks[n-1].live == 0; n-- {
		s.blocks[n-1] = nil
		s.blocks = s.blocks[:n-1]
	}
}

// release makes a slot free that has no row.
func (s *slots) release(b *block, i int) {
	b.free[i/64] |= 1 << (i % 64)
	s.free++
}

// shorten takes off free slots at the end of a block.
func (s *slots) shorten(b *block) {
	for n := len(b.rows) - 1; n >= 0 && b.free[n/64]&(1<<(n%64)) != 0; n-- {
		b.rows = b.rows[:n]
		b.free[n/64] &^= 1 << (n % 64)
		s.free--
	}
	if cap(b.rows) > 4*len(b.rows)+64 {
		b.rows, b.free = slices.Clone(b.rows), slices.Clone(b.free[:(len(b.rows)+63)/64])
	}
}

// unindexBlock drops a block's index. No row of it waits.
func (s *slots) unindexBlock(b *block) {
	for i := range members(b.gone.words) {
		s.release(b, i)
	}
	b.index, b.gone = nil, graves{}
	if s.intake != nil && s.intake.block == b {
		s.intake = nil
	}
	s.shorten(b)
}

// sparse tells whether moving the last row makes the table smaller soon.
func (s *slots) sparse() bool { return s.free > s.live+1<<s.bits }

// last returns the row that has the last slot of all.
func (s *slots) last() place {
	n := len(s.blocks) - 1
	b := s.blocks[n]
	i := len(b.rows) - 1
	for b.rows[i] == nil {
		i--
	}
	return newPlace(b.rows[i], slot(n)<<s.bits|slot(i))
}
