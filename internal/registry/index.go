package registry

import (
	"maps"
	"math/bits"
	"slices"
)

// The index finds rows by what their texts contain. For every block of slots and every gram it has a posting: the slots of the
// block whose rows have the gram. A search intersects postings block by block; what it finds is exact for needles of up to three
// bytes, and else a superset, which the rows themselves decide. All texts are folded, and compared bytewise.

// gram is three bytes of a text of one category, or one; the last two bytes of a text and a zero are a gram too, so that the grams
// that begin with two bytes are all the places of these.
type gram uint32

func gramOf(category int, a, b, c byte) gram {
	return 1<<26 | gram(category)<<24 | gram(a)<<16 | gram(b)<<8 | gram(c)
}

func gramOfByte(category int, a byte) gram { return gram(category)<<8 | gram(a) }

func (g gram) isByte() bool { return g < 1<<26 }

// appendGrams appends the grams of a row's texts, some more than once.
func appendGrams(grams []gram, e *entry) []gram {
	var room [64]byte
	for i := range categories {
		text := e.appendFolded(room[:0], i)
		var seen [4]uint64
		for j, a := range text {
			if seen[a/64]&(1<<(a%64)) == 0 {
				seen[a/64] |= 1 << (a % 64)
				grams = append(grams, gramOfByte(i, a))
			}
			switch len(text) - j {
			case 1:
			case 2:
				grams = append(grams, gramOf(i, a, text[j+1], 0))
			default:
				grams = append(grams, gramOf(i, a, text[j+1], text[j+2]))
			}
		}
	}
	return grams
}

// posting is a set of a block's slots: a sorted list of few, or a bitmap.
type posting struct {
	list   []uint16
	bitmap *bitmap
}

type bitmap struct {
	words []uint64
	count int
}

func words(slotBits uint) int { return max(1, 1<<slotBits/64) }

// dense is how many slots a list may have before a bitmap takes less memory. It takes twice as much at half of that, and then is a
// list again.
func dense(slotBits uint) int { return 1 << slotBits / 16 }

func (p *posting) count() int {
	if p.bitmap != nil {
		return p.bitmap.count
	}
	return len(p.list)
}

func (p *posting) has(i uint16) bool {
	if p.bitmap != nil {
		return p.bitmap.words[i/64]&(1<<(i%64)) != 0
	}
	_, found := slices.BinarySearch(p.list, i)
	return found
}

// add puts in slots, sorted, none of which is there.
func (p *posting) add(slots []uint16, slotBits uint) {
	n := len(p.list)
	if p.bitmap == nil && n+len(slots) > dense(slotBits) {
		b := &bitmap{words: make([]uint64, words(slotBits)), count: n}
		p.union(b.words)
		p.list, p.bitmap = nil, b
	}
	if b := p.bitmap; b != nil {
		for _, i := range slots {
			b.words[i/64] |= 1 << (i % 64)
		}
		b.count += len(slots)
		return
	}
	if end := n + len(slots); end > cap(p.list) { // append would double it, and there are many
		p.list = append(make([]uint16, 0, end+end/4+1), p.list...)
	}
	p.list = append(p.list, slots...)
	if n == 0 || p.list[n-1] < slots[0] {
		return
	}
	for j, i := range slices.Backward(slots) {
		at, _ := slices.BinarySearch(p.list[:n], i)
		copy(p.list[at+j+1:], p.list[at:n])
		p.list[at+j] = i
		n = at
	}
}

// settle makes a bitmap of few slots a list.
func (p *posting) settle(slotBits uint) {
	b := p.bitmap
	if b.count > dense(slotBits)/2 {
		return
	}
	p.list, p.bitmap = make([]uint16, 0, b.count), nil
	for i := range members(b.words) {
		p.list = append(p.list, uint16(i))
	}
}

// clip gives back the memory of a list that has become short.
func (p *posting) clip() {
	if n := len(p.list); cap(p.list) > 2*n+8 {
		p.list = append(make([]uint16, 0, n+n/4), p.list...)
	}
}

// keep removes from a sorted list what is not in the set.
func (p *posting) keep(list []uint16) []uint16 {
	if p.bitmap != nil || len(p.list) > 16*len(list) {
		return slices.DeleteFunc(list, func(i uint16) bool { return !p.has(i) })
	}
	kept, mine := list[:0], p.list
	for _, i := range list {
		for len(mine) > 0 && mine[0] < i {
			mine = mine[1:]
		}
		if len(mine) > 0 && mine[0] == i {
			kept = append(kept, i)
		}
	}
	return kept
}

// union adds the set to a bitmap.
func (p *posting) union(into []uint64) {
	if p.bitmap != nil {
		for i, word := range p.bitmap.words {
			into[i] |= word
		}
		return
	}
	for _, i := range p.list {
		into[i/64] |= 1 << (i % 64)
	}
}

// members iterates over the members of a bitmap.
func members(words []uint64) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i, word := range words {
			for ; word != 0; word &= word - 1 {
				if !yield(64*i + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// postings is the index of one block.
type postings struct {
	slotBits uint
	bytes    [len(categories) << 8]*posting // of the grams of one byte, which every row has many of
	others   map[gram]*posting
	peak     int // the most grams since the map was made: it does not shrink by itself
}

func newPostings(slotBits uint) *postings {
	return &postings{slotBits: slotBits, others: map[gram]*posting{}}
}

// get returns the posting of a gram, nil if no row has it.
func (x *postings) get(g gram) *posting {
	if g.isByte() {
		return x.bytes[g]
	}
	return x.others[g]
}

// of returns the posting of a gram, which it makes if there is none: then something must be put in.
func (x *postings) of(g gram) *posting {
	p := x.get(g)
	switch {
	case p != nil:
	case g.isByte():
		p = &posting{}
		x.bytes[g] = p
	default:
		p = &posting{}
		x.others[g] = p
	}
	return p
}

// add puts in pairs that are not there, sorted by gram and slot.
func (x *postings) add(pairs []pair) {
	var room [256]uint16
	for len(pairs) > 0 {
		g, slots := pairs[0].gram(), append(room[:0], uint16(pairs[0]))
		n := 1
		for ; n < len(pairs) && pairs[n].gram() == g; n++ {
			slots = append(slots, uint16(pairs[n]))
		}
		pairs = pairs[n:]
		x.of(g).add(slots, x.slotBits)
	}
	x.peak = max(x.peak, len(x.others))
}

func (x *postings) forget(g gram) {
	if g.isByte() {
		x.bytes[g] = nil
	} else {
		delete(x.others, g)
	}
}

// shrink gives back the memory of a map that has become small.
func (x *postings) shrink() {
	if x.peak > 4*len(x.others)+64 {
		small := make(map[gram]*posting, len(x.others))
		maps.Copy(small, x.others)
		x.others, x.peak = small, len(small)
	}
}

// search adds to a bitmap the slots whose rows may contain the needle in the category. It returns false when there can be none.
func (x *postings) search(category int, needle string, into []uint64) bool {
	switch len(needle) {
	case 1:
		p := x.get(gramOfByte(category, needle[0]))
		if p != nil {
			p.union(into)
		}
		return p != nil
	case 2:
		some := false
		for c := range 256 {
			if c > 0 && x.get(gramOfByte(category, byte(c))) == nil {
				continue
			}
			if p := x.others[gramOf(category, needle[0], needle[1], byte(c))]; p != nil {
				p.union(into)
				some = true
			}
		}
		return some
	}
	all := make([]*posting, 0, 64)
	for i := range len(needle) - 2 {
		p := x.others[gramOf(category, needle[i], needle[i+1], needle[i+2])]
		if p == nil {
			return false
		}
		all = append(all, p)
	}
	return intersect(all, into)
}

// intersect adds the slots that all sets have to a bitmap. It returns false when there are none.
func intersect(all []*posting, into []uint64) (some bool) {
	slices.SortFunc(all, func(a, b *posting) int { // the rarest first, and lists before bitmaps, which may be as rare
		switch {
		case a.bitmap == nil && b.bitmap != nil:
			return -1
		case a.bitmap != nil && b.bitmap == nil:
			return 1
		}
		return a.count() - b.count()
	})
	first, others := all[0], all[1:]
	var left []uint64
	if first.bitmap == nil {
		list := slices.Clone(first.list)
		for len(others) > 0 && (others[0].bitmap == nil || len(list) < len(into)/2) {
			list = others[0].keep(list)
			others = others[1:]
		}
		if len(others) == 0 {
			for _, i := range list {
				into[i/64] |= 1 << (i % 64)
			}
			return len(list) > 0
		}
		left = make([]uint64, len(into)) // for many, whole words are faster
		(&posting{list: list}).union(left)
	} else {
		left = first.bitmap.words
	}
	for i, word := range left {
		for _, p := range others {
			word &= p.bitmap.words[i]
		}
		into[i] |= word
		some = some || word != 0
	}
	return some
}
