package registry

import (
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/rollcallhq/rollcall/api"
)

// directory finds the slot of a session: a table by linear hashing (Litwin, 1980), which grows and shrinks by one bucket at a
// time. A Go map of a million would take three times the memory, keep it when the sessions have gone, and cost a stall of tens of
// milliseconds to be rebuilt. What it finds is a candidate: ids are with the rows, and not kept twice. The zero value is empty.
type directory struct {
	buckets [][]candidate // by the hash's low bits; a bucket that is not there yet is in the one without its highest bit
	count   int
}

// candidate is 32 bits of a session's hash, then its slot.
type candidate uint64

// The mean number of sessions in a bucket stays between the two.
const (
	bucketMin = 4
	bucketMax = 12
)

var hashSeed = maphash.MakeSeed()

func hashOf(id api.SessionID) uint32 { return uint32(maphash.Bytes(hashSeed, id[:])) }

func newCandidate(hash uint32, at slot) candidate { return candidate(hash)<<32 | candidate(at) }

func (c candidate) hash() uint32 { return uint32(c >> 32) }
func (c candidate) slot() slot   { return slot(uint32(c)) }

// top returns the highest bit of a bucket's number.
func top(n int) int { return 1 << (bits.Len(uint(n)) - 1) }

// bucket returns the number of the bucket for a hash.
func (d *directory) bucket(hash uint32) int {
	mask := 2*top(len(d.buckets)) - 1
	i := int(hash) & mask
	for i >= len(d.buckets) {
		mask >>= 1
		i = int(hash) & mask
	}
	return i
}

// find returns the bucket that has the session with the hash, if any.
func (d *directory) find(hash uint32) []candidate {
	if len(d.buckets) == 0 {
		return nil
	}
	return d.buckets[d.bucket(hash)]
}

func (d *directory) add(c candidate) {
	if d.count++; d.count > bucketMax*len(d.buckets) {
		d.split()
	}
	i := d.bucket(c.hash())
	d.buckets[i] = append(d.buckets[i], c)
}

func (d *directory) remove(c candidate) {
	i := d.bucket(c.hash())
	b := d.buckets[i]
	last := len(b) - 1
	b[slices.Index(b, c)] = b[last]
	d.buckets[i] = b[:last]
	switch d.count--; {
	case d.count == 0:
		d.buckets = nil
	case d.count < bucketMin*(len(d.buckets)-1):
		d.merge()
	}
}

// split adds a bucket, and gives it its part of the one that stood in for it.
func (d *directory) split() {
	n := len(d.buckets)
	d.buckets = append(d.buckets, nil)
	if n == 0 {
		return
	}
	from := n &^ top(n)
	var stay, leave []candidate
	for _, c := range d.buckets[from] {
		if d.bucket(c.hash()) == n {
			leave = append(leave, c)
		} else {
			stay = append(stay, c)
		}
	}
	d.buckets[from], d.buckets[n] = stay, leave
}

// merge undoes a split.
func (d *directory) merge() {
	n := len(d.buckets) - 1
	last := d.buckets[n]
	d.buckets[n] = nil
	d.buckets = d.buckets[:n]
	to := n &^ top(n)
	d.buckets[to] = slices.Clip(append(slices.Clip(d.buckets[to]), last...))
	if cap(d.buckets) > 4*n {
		d.buckets = slices.Clip(slices.Clone(d.buckets))
	}
}
