package registry

import (
	"maps"
	"math/bits"
	"slices"
)

// graves are the slots of a block whose rows were removed and are in its index yet; searches leave them out. To take one row out of
// the index is to look for each of its grams, most of which the processor has to wait for. When a part of the block has gone, all of
// them are swept out in one pass over the index, which costs a row a tenth of that; the pass goes on a little with each removal, so
// that no change waits for it.
type graves struct {
	slotSet
	sweeping []uint64 // the slots that are being swept; nil while none are
	left     []gram   // of the index, to be swept
}

const (
	// gravePart is how many rows of a block there are for each grave before graves are swept: the index is larger by as much.
	gravePart = 8
	// sweepStep is how many grams a removal sweeps. A pass over some 15,000 is over before the next one is due.
	sweepStep = 64
)

// sweep goes on with the pass over the index that these slots are of, or begins one if beside so many rows it is due. It returns the
// slots that are in the index no more once that is over, else none.
func (g *graves) sweep(x *postings, live int) (swept []int) {
	if g.sweeping == nil {
		if x == nil || g.count < max(1, live/gravePart) {
			return nil
		}
		g.sweeping, g.left = slices.Clone(g.words), x.grams()
	}
	n := min(sweepStep, len(g.left))
	x.without(g.left[:n], g.sweeping)
	if g.left = g.left[n:]; len(g.left) > 0 {
		return nil
	}
	for i := range members(g.sweeping) {
		swept = append(swept, i)
	}
	g.subtract(g.sweeping)
	g.sweeping, g.left = nil, nil
	return swept
}

// grams returns all grams of the index, in any order.
func (x *postings) grams() []gram {
	all := make([]gram, 0, len(x.others)+len(x.bytes))
	for g, p := range x.bytes {
		if p != nil {
			all = append(all, gram(g))
		}
	}
	return slices.AppendSeq(all, maps.Keys(x.others))
}

// without takes slots out of the postings of some grams.
func (x *postings) without(grams []gram, slots []uint64) {
	for _, g := range grams {
		p := x.get(g)
		if p == nil {
			continue // its last row got other texts meanwhile
		}
		if p.without(slots, x.slotBits); p.count() == 0 {
			x.forget(g)
		}
	}
	x.shrink()
}

func (p *posting) without(slots []uint64, slotBits uint) {
	if b := p.bitmap; b != nil {
		b.count = 0
		for i := range b.words {
			b.words[i] &^= slots[i]
			b.count += bits.OnesCount64(b.words[i])
		}
		p.settle(slotBits)
		return
	}
	n := 0
	for _, i := range p.list { // without a branch: nobody can foretell it
		p.list[n] = i
		n += int(^slots[i/64] >> (i % 64) & 1)
	}
	p.list = p.list[:n]
	p.clip()
}
