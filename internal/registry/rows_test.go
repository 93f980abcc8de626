package registry

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// check holds the three ways to a row to each other, and the table to the room that its rows may take.
func (r *rows) check(t fataler) {
	t.Helper()
	seen := map[slot]bool{}
	r.order.Scan(func(p place) bool {
		if got, ok := r.find(p.session); !ok || got != p || r.slots.at(p.slot) != p.entry || seen[p.slot] {
			t.Fatalf("the order has %v in slot %d; by its session it is %v, in slot %d", p.entry, p.slot, got.entry, got.slot)
		}
		seen[p.slot] = true
		return true
	})
	n, room, gone, graves := r.count(), 0, 0, 0
	for i, b := range r.slots.blocks {
		room += len(b.rows)
		gone += b.gone.count
		graves += b.checkGraves(t, i, r.slots.bits)
	}
	if r.slots.live != n || r.sessions.count != n || room != n+r.slots.free+gone {
		t.Fatalf("%d rows: %d in slots, %d in the directory, %d slots with %d free", n, r.slots.live, r.sessions.count, room, r.slots.free)
	}
	// The end of a sweep, or of the index, makes all its graves free at once: the removals that follow move rows for them.
	if r.slots.free > n+1<<r.slots.bits+graves {
		t.Fatalf("%d rows leave %d slots free", n, r.slots.free)
	}
	if r.slots.indexing {
		r.checkIndex(t)
	}
	if b := len(r.sessions.buckets); b > max(1, n/bucketMin+1) || n > bucketMax*b {
		t.Fatalf("%d rows in %d buckets", n, b)
	}
}

// checkIndex holds the index to one that is made of the rows there are, and what waits to what is not there.
func (r *rows) checkIndex(t fataler) {
	t.Helper()
	waiting := 0
	for i, b := range r.slots.blocks {
		waiting += b.waiting.count
		want, coming, wait := map[gram]map[int]bool{}, map[gram]map[int]bool{}, 0
		for j, e := range b.rows {
			if b.waiting.has(j) {
				wait++
			}
			of := want
			switch {
			case e == nil && b.waiting.has(j):
				t.Fatalf("block %d: slot %d waits, and has no row", i, j)
			case e == nil || b.waiting.has(j) && !r.slots.takenIn(b, j):
				continue
			case b.waiting.has(j):
				of = coming
			}
			for _, g := range appendGrams(nil, e) {
				if of[g] == nil {
					of[g] = map[int]bool{}
				}
				of[g][j] = true
			}
		}
		if wait != b.waiting.count {
			t.Fatalf("block %d: %d wait, counted as %d", i, wait, b.waiting.count)
		}
		if b.index == nil && len(want) == 0 {
			continue
		}
		for _, g := range b.index.grams() {
			p := b.index.get(g)
			living := make([]uint64, words(r.slots.bits))
			if p.union(living); p.count() == 0 {
				t.Fatalf("block %d, gram %x is there for nothing", i, g)
			}
			without(living, b.gone.words)
			n := 0
			for j := range members(living) {
				switch {
				case want[g][j]:
					n++
				case !coming[g][j]:
					t.Fatalf("block %d, gram %x: slot %d does not have it", i, g, j)
				}
			}
			if n != len(want[g]) {
				t.Fatalf("block %d, gram %x: %d slots, of %v", i, g, n, want[g])
			}
			delete(want, g)
		}
		if len(want) > 0 {
			t.Fatalf("block %d: not indexed: %v", i, want)
		}
	}
	if waiting != r.slots.waiting {
		t.Fatalf("%d wait, counted as %d", waiting, r.slots.waiting)
	}
}

// checkGraves: what is in a grave has no row and is not free, and sweeping keeps up. It returns how many there may be.
func (b *block) checkGraves(t fataler, i int, slotBits uint) (most int) {
	t.Helper()
	n := 0
	for j := range members(b.gone.words) {
		if n++; j >= len(b.rows) || b.rows[j] != nil || b.free[j/64]&(1<<(j%64)) != 0 {
			t.Fatalf("block %d, slot %d is not a grave", i, j)
		}
	}
	most = 1<<slotBits/gravePart + 1
	if b.index != nil {
		most += 2 * (b.index.peak + len(b.index.bytes)) / sweepStep // a pass that began when there were more grams
	}
	if n != b.gone.count || n > most {
		t.Fatalf("block %d: %d graves, counted as %d, at most %d", i, n, b.gone.count, most)
	}
	if last := len(b.rows) - 1; last >= 0 && b.free[last/64]&(1<<(last%64)) != 0 {
		t.Fatalf("block %d ends with a free slot", i)
	}
	return most
}

func TestRowsAreFoundEveryWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }
		r := newRows(tuning{blockBits: uint(draw(6)), indexFrom: draw(40), waiting: draw(20), intake: draw(80)})
		var there []*entry
		opened := 0
		for range draw(40) {
			if draw(2) == 0 {
				for range draw(30) {
					opened++
					e := testEntry(t, opened, "")
					r.insert(e)
					there = append(there, e)
				}
			}
			for range draw(1 + len(there)) {
				i := draw(len(there))
				p, ok := r.find(there[i].session)
				if !ok || p.entry != there[i] {
					t.Fatalf("session %v is %v", there[i].session, p.entry)
				}
				if draw(4) == 0 {
					there[i] = testEntry(t, int(there[i].created), "other")
					r.replace(p, there[i])
				} else {
					r.remove(p)
					there = slices.Delete(there, i, i+1)
				}
			}
			if _, ok := r.find(testSession(opened + 1)); ok || r.count() != len(there) {
				t.Fatalf("%d rows, of %d", r.count(), len(there))
			}
			r.check(t)
		}
	})
}

func testEntry(t fataler, i int, license string) *entry {
	t.Helper()
	session := testSession(i)
	e, err := newEntry(&Row{Session: session, ServerID: api.NewServerID("a", session), CreatedAt: api.Millis(i), License: license}, 0, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return e
}

// A node's name that is the beginning of another's does not make its server ids come before the other's.
func TestOrderIsThatOfServerIDs(t *testing.T) {
	for _, pair := range [][2]string{{"srv-1", "srv-10"}, {"a", "a:b"}, {"a", "b"}, {"a", "a"}, {"é", "e"}} {
		var of [2]*entry
		for i, node := range pair {
			session := testSession(i)
			of[i], _ = newEntry(&Row{Session: session, ServerID: api.NewServerID(node, session)}, 0, nil)
		}
		if got, want := of[0].before(of[1]), of[0].serverID() > of[1].serverID(); got != want || of[1].before(of[0]) == want {
			t.Errorf("%q: before: %v, want %v", pair, got, want)
		}
	}
}

func TestTooLongIsRefused(t *testing.T) {
	w := newWorld()
	row := w.row(1)
	row.Login = strings.Repeat("x", 1<<16)
	if err := w.Insert(row, Unlimited); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	w.open(1)
	if err := w.Update(row, Unlimited); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	row.Login = row.Login[1<<10:]
	if err := w.Update(row, Unlimited); err != nil {
		t.Error(err)
	}
	if got, _ := w.Get(row.Application, row.Session); got.Login != row.Login || w.Stats().Sessions != 1 {
		t.Errorf("%d bytes of login", len(got.Login))
	}
}

// What leaves gives its memory back, whoever is left.
func TestMassDisconnectReturnsMemory(t *testing.T) {
	const rows, stay = 25_000, 250
	before := heap()
	w := benchWorld(rows)
	full := heap() - before
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(rows)[stay:] {
		w.Remove(testApplication(0), w.row(i+1).ServerID)
	}
	w.applications[testApplication(0)].rows.check(t)
	if left := heap() - before; left > full/20 {
		t.Errorf("%d rows took %d bytes, %d of them take %d", rows, full, stay, left)
	}
}
