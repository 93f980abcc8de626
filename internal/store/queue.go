package store

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/rollcallhq/rollcall/api"
)

// recordKey names a record.
type recordKey struct {
	app api.ApplicationID
	id  api.SessionID
}

func keyOf(rec *Record) recordKey { return recordKey{rec.Application, rec.ID} }

// item is one state of a record on its way to SQL, with the denials that go with it; or an audit record.
type item struct {
	rec     Record // guarded by queue.mu while the item waits; constant from take on
	denials []Denial
	audit   *Audit    // instead of rec; nobody looks for it here
	since   time.Time // when its oldest part was queued
	bytes   int
	done    chan struct{} // closed when it was written or given up
	err     error         // why it was given up; set before done is closed
}

// settled tells whether the item was written or given up.
func (it *item) settled() bool {
	select {
	case <-it.done:
		return true
	default:
		return false
	}
}

// queue holds the records that SQL does not have yet. A record moves from staged to waiting to in flight, and leaves when its
// transaction has committed: a reader that looks here first and in SQL then finds it in one of them.
type queue struct {
	maxBytes int
	wake     chan struct{} // holds a token when something waits

	mu sync.Mutex
	// staged are not to be written yet. A key is not both staged and elsewhere, unless it was queued before it was staged again.
	staged map[recordKey]*Ticket
	// hurried and patient have the waiting items, each oldest first: those that somebody waits for, and the rest, so that a mass end
	// does not keep new sessions from their welcome. waiting has the same by key: at most one a record.
	hurried []*item
	patient []*item
	waiting map[recordKey]*item
	// batch is what the writer holds and has not settled, in order; flight has the same by key.
	batch  []*item
	flight map[recordKey]*item
	// ended has the newest item of every record that is waiting or in flight with its end, in list order.
	ended  map[api.ApplicationID]*btree.BTreeG[*item]
	bytes  int       // estimated size of everything above
	held   time.Time // until when the patient items are to wait
	closed bool
}

func newQueue(maxBytes int) *queue {
	return &queue{
		maxBytes: maxBytes,
		wake:     make(chan struct{}, 1),
		staged:   map[recordKey]*Ticket{},
		waiting:  map[recordKey]*item{},
		flight:   map[recordKey]*item{},
		ended:    map[api.ApplicationID]*btree.BTreeG[*item]{},
	}
}

// stage holds the record for readers.
func (q *queue) stage(t *Ticket) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.bytes+t.bytes > q.maxBytes:
		return ErrQueueFull
	}
	key := keyOf(&t.rec)
	if old := q.staged[key]; old != nil {
		q.bytes -= old.bytes
	}
	q.staged[key] = t
	q.bytes += t.bytes
	return nil
}

// discard forgets a staged record; one that was queued meanwhile stays.
func (q *queue) discard(t *Ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.staged[keyOf(&t.rec)] == t {
		q.unstageLocked(t)
	}
}

func (q *queue) unstageLocked(t *Ticket) {
	delete(q.staged, keyOf(&t.rec))
	q.bytes -= t.bytes
}

// commit queues a staged record. When a later state was queued since, it returns that.
func (q *queue) commit(t *Ticket, now time.Time) (*item, error) {
	q.mu.Lock()
	if q.staged[keyOf(&t.rec)] != t {
		it := t.item
		q.mu.Unlock()
		return it, nil // nil after Discard
	}
	it, err := q.putLocked(t.rec, nil, now, &q.hurried)
	q.mu.Unlock()
	q.signal()
	return it, err
}

// put queues a state of a record and returns the item that carries it. An end is waited for by nobody.
func (q *queue) put(rec Record, denials []Denial, now time.Time) (*item, error) {
	q.mu.Lock()
	order := &q.hurried
	if rec.EndedAt != 0 {
		order = &q.patient
	}
	it, err := q.putLocked(rec, denials, now, order)
	q.mu.Unlock()
	q.signal()
	return it, err
}

func (q *queue) putLocked(rec Record, denials []Denial, now time.Time, order *[]*item) (*item, error) {
	if q.closed {
		return nil, ErrClosed
	}
	key := keyOf(&rec)
	it := q.waiting[key]
	if newest := cmp.Or(it, q.flight[key]); newest != nil && newest.rec.EndedAt != 0 {
		// The first end is the one that stays.
		if len(denials) == 0 {
			return newest, nil
		}
		rec = newest.rec
	}
	if it == nil {
		it = &item{since: now, done: make(chan struct{})}
		q.waiting[key] = it
		*order = append(*order, it)
	}
	q.bytes -= it.bytes
	it.rec = rec
	it.denials = append(it.denials, denials...)
	it.bytes = sizeOf(&rec, it.denials)
	q.bytes += it.bytes
	if rec.EndedAt != 0 {
		tree := q.ended[rec.Application]
		if tree == nil {
			tree = btree.NewBTreeGOptions(listOrder, btree.Options{NoLocks: true})
			q.ended[rec.Application] = tree
		}
		tree.Set(it)
	}
	if t := q.staged[key]; t != nil {
		q.unstageLocked(t)
		t.item = it
	}
	return it, nil
}

// putAudit queues an audit record: hurried when somebody waits for it, and then refused when there is no room.
func (q *queue) putAudit(a Audit, hurried bool) (*item, error) {
	it := &item{audit: &a, since: time.Now(), done: make(chan struct{}), bytes: itemOverhead + len(a.Details)}
	q.mu.Lock()
	defer q.signal()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return nil, ErrClosed
	case hurried && q.bytes+it.bytes > q.maxBytes:
		return nil, ErrQueueFull
	case hurried:
		q.hurried = append(q.hurried, it)
	default:
		q.patient = append(q.patient, it)
	}
	q.bytes += it.bytes
	return it, nil
}

// listOrder is the order of lists: newest first.
func listOrder(a, b *item) bool {
	if c := a.rec.Position().Compare(b.rec.Position()); c != 0 {
		return c < 0
	}
	return a.rec.ID.Compare(b.rec.ID) < 0
}

// signal wakes the writer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take puts waiting items, up to limit, in flight: the hurried ones first, but for a quarter that is the others'. The batch before
// must be settled.
func (q *queue) take(limit int) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	patient := len(q.patient)
	if time.Now().Before(q.held) {
		patient = 0
	}
	hurried := min(len(q.hurried), limit-min(patient, limit/4))
	batch := slices.Concat(cut(&q.hurried, hurried), cut(&q.patient, min(patient, limit-hurried)))
	q.batch = batch
	for _, it := range batch {
		if it.audit != nil {
			continue
		}
		key := keyOf(&it.rec)
		delete(q.waiting, key)
		q.flight[key] = it
	}
	return batch
}

// hold has the patient items wait until then; a time that has passed lets them go.
func (q *queue) hold(until time.Time) {
	q.mu.Lock()
	q.held = until
	q.mu.Unlock()
	q.signal()
}

// cut takes the first n items away.
func cut(items *[]*item, n int) []*item {
	first := slices.Clone((*items)[:n])
	clear((*items)[:n])
	*items = (*items)[n:]
	return first
}

// settle takes items, the first ones of the batch, out of the queue: they are in SQL, or, with an error, given up. Their waiters
// are answered.
func (q *queue) settle(items []*item, err error) {
	q.mu.Lock()
	if q.batch = q.batch[len(items):]; len(q.batch) == 0 {
		q.batch = nil
	}
	for _, it := range items {
		q.bytes -= it.bytes
		if it.audit != nil {
			continue
		}
		delete(q.flight, keyOf(&it.rec))
		if tree := q.ended[it.rec.Application]; tree != nil && it.rec.EndedAt != 0 {
			if newest, ok := tree.Get(it); ok && newest == it {
				tree.Delete(it)
			}
			if tree.Len() == 0 {
				delete(q.ended, it.rec.Application)
			}
		}
	}
	q.mu.Unlock()
	for _, it := range items {
		it.err = err
		close(it.done)
	}
}

// close refuses what comes from now on and answers every waiter with ErrClosed. What is in the queue stays readable. With
// ifEmpty it does so only when nothing waits; it returns whether the queue is closed.
func (q *queue) close(ifEmpty bool) bool {
	q.mu.Lock()
	left := slices.Concat(q.batch, q.hurried, q.patient)
	if ifEmpty && len(left) > 0 {
		q.mu.Unlock()
		return false
	}
	q.closed = true
	q.mu.Unlock()
	for _, it := range left {
		it.err = ErrClosed
		close(it.done)
	}
	return true
}

// len returns how many records wait to be put in flight.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.hurried) + len(q.patient)
}

// last returns the items that will be written last of those that wait now: when they are settled, all are.
func (q *queue) last() (items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, order := range [][]*item{q.batch, q.hurried, q.patient} {
		if n := len(order); n > 0 {
			items = append(items, order[n-1])
		}
	}
	return items
}

// stats returns how many records wait, their size, staged ones included, and since when the oldest waits (zero when none does).
func (q *queue) stats() (n, bytes int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, order := range [][]*item{q.batch, q.hurried, q.patient} {
		for _, it := range order[:min(len(order), 1)] {
			if oldest.IsZero() || it.since.Before(oldest) {
				oldest = it.since
			}
		}
		n += len(order)
	}
	return n, q.bytes, oldest
}

// get returns the records of the application that are here, and the ids that are not.
func (q *queue) get(app api.ApplicationID, ids []api.SessionID) (found map[api.SessionID]Record, missing []api.SessionID) {
	found = make(map[api.SessionID]Record, len(ids))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		key := recordKey{app, id}
		if it := cmp.Or(q.waiting[key], q.flight[key]); it != nil {
			found[id] = it.rec
		} else if t := q.staged[key]; t != nil {
			found[id] = t.rec
		} else {
			missing = append(missing, id)
		}
	}
	return found, missing
}

// endedAfter returns up to limit records that the filter lets through and that come after the position, in list order.
func (q *queue) endedAfter(app api.ApplicationID, f *EndFilter, after *api.Position, limit int) (found []Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	tree := q.ended[app]
	if tree == nil {
		return nil
	}
	visit := func(it *item) bool {
		if !f.admits(&it.rec) || after != nil && it.rec.Position().Compare(*after) <= 0 {
			return true // filtered, or the pivot itself
		}
		if len(found) == limit {
			return false
		}
		found = append(found, it.rec)
		return true
	}
	if after == nil {
		tree.Scan(visit)
	} else {
		tree.Ascend(&item{rec: Record{CreatedAt: after.CreatedAt, ServerID: after.ServerID}}, visit)
	}
	return found
}

// minutes counts as Records.Minutes does, and returns the ids of what it has looked at.
func (q *queue) minutes(app api.ApplicationID, starts []api.Millis, until api.Millis) (counts []Minute, ids []api.SessionID) {
	counts = make([]Minute, len(starts))
	place := make(map[api.Millis]*Minute, len(starts))
	for i, at := range starts {
		counts[i].At = at
		place[at] = &counts[i]
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	tree := q.ended[app]
	if tree == nil {
		return counts, nil
	}
	tree.Scan(func(it *item) bool {
		ids = append(ids, it.rec.ID)
		begun, over := place[MinuteOf(it.rec.CreatedAt)], place[MinuteOf(it.rec.EndedAt)]
		if begun != nil {
			begun.add(it.rec.CreatedAt, it.rec.EndedAt, until, 1)
		}
		if over != nil && over != begun {
			over.add(it.rec.CreatedAt, it.rec.EndedAt, until, 1)
		}
		return true
	})
	return counts, ids
}

// endedIDs returns the ids of the application's records here that ended at or after since.
func (q *queue) endedIDs(app api.ApplicationID, since api.Millis) (ids []api.SessionID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if tree := q.ended[app]; tree != nil {
		tree.Scan(func(it *item) bool {
			if it.rec.EndedAt >= since {
				ids = append(ids, it.rec.ID)
			}
			return true
		})
	}
	return ids
}

// itemOverhead is what an item takes beside its text: the struct, its channel, and its places in the maps and the tree.
const itemOverhead = 700

// leaseOverhead is a Lease without its text.
const leaseOverhead = 100

// sizeOf estimates the memory that a queued record takes.
func sizeOf(rec *Record, denials []Denial) int {
	n := itemOverhead + len(rec.ServerID) + len(rec.IP) + len(rec.ClientID) + len(rec.Login) + len(rec.License) + len(rec.Name) +
		len(rec.Hostname) + len(rec.UserAgent) + len(rec.ClientInfo) + len(rec.EndReason) + len(rec.EndedBy) + len(rec.EndText)
	if rec.Lease != nil {
		n += leaseOverhead + len(rec.Lease.Reporter) + sizeOfDenials(rec.Lease.Tokens)
	}
	return n + sizeOfDenials(denials)
}

func sizeOfDenials(denials []Denial) (n int) {
	for _, d := range denials {
		n += 48 + len(d.TokenID)
	}
	return n
}
