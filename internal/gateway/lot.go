package gateway

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// lot drives the guests that have no goroutine of their own. A guest that was woken, or whose time has come, is served by one of a
// bounded number of workers, in the order of waking, never by two at once; one that is at rest costs its seat. Guests that are
// still to open a session wait in a line of their own, so that a storm of them does not keep the open ones waiting.
type lot struct {
	sooner chan struct{} // holds one: the agenda's first time has changed

	mu      sync.Mutex
	closed  bool // nobody is served any more
	agenda  agenda
	lines   [2]line
	workers sync.WaitGroup // grows only while closed is false
}

// The lines of a lot.
const (
	lineOpen  = 0
	lineHello = 1
)

// line is the guests that wait to be served, and how many workers serve them.
type line struct {
	waiting []*seat // from first on
	first   int
	workers int // running; each leaves when nobody waits
	max     int
}

// guest is what a lot drives.
type guest interface {
	// serve does what there is to do and returns when it wants to be served next without being woken, zero for never. The buffer
	// is the worker's; waited is how long the guest stood in line.
	serve(buf []byte, waited time.Duration) (next time.Time)
	// opening tells whether it belongs into the line of hellos. It is asked when nobody serves the guest.
	opening() bool
}

// seat is a guest's place in the lot.
type seat struct {
	guest guest
	lot   *lot

	// What follows is guarded by lot.mu.
	state seatState
	index int32  // in the agenda, counted from 1; 0 = not there
	due   moment // when it is in the agenda
	since moment // when it got in line
}

type seatState uint8

const (
	resting seatState = 0
	waiting seatState = 1
	served  seatState = 2
	wokenUp seatState = 3 // while it was being served: it is served again
	vacated seatState = 4 // for good
)

// readBuffer is a worker's: a frame of most clients, and many of a fast one.
const readBuffer = 4 << 10

// buffers are those of workers that left: workers come and go with the load.
var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

func newLot(open, hellos int) *lot {
	l := &lot{sooner: make(chan struct{}, 1)}
	l.lines[lineOpen].max, l.lines[lineHello].max = open, hellos
	return l
}

// seat returns a place for the guest, which counts as being served until rest is called: whatever wakes it meanwhile waits.
func (l *lot) seat(g guest) seat { return seat{guest: g, lot: l, state: served} }

// Wake has the guest served; it may be called from anywhere, and does not wait.
func (s *seat) Wake() {
	s.lot.mu.Lock()
	defer s.lot.mu.Unlock()
	s.wakeLocked(momentOf(time.Now()))
}

func (s *seat) wakeLocked(now moment) {
	switch s.state {
	case resting:
		s.state, s.since = waiting, now
		s.lot.queueLocked(s)
	case served:
		s.state = wokenUp
	case waiting, wokenUp, vacated:
	}
}

// vacate is a guest's last act, while it is being served: nothing wakes it any more.
func (s *seat) vacate() {
	s.lot.mu.Lock()
	defer s.lot.mu.Unlock()
	s.state = vacated
	s.lot.scheduleLocked(s, time.Time{})
}

func (l *lot) queueLocked(s *seat) {
	ln := &l.lines[lineOpen]
	if s.guest.opening() {
		ln = &l.lines[lineHello]
	}
	ln.push(s)
	if ln.workers < ln.max && !l.closed {
		ln.workers++
		l.workers.Go(func() { l.work(ln) })
	}
}

func (ln *line) push(s *seat) {
	if ln.first > 64 && ln.first > len(ln.waiting)/2 {
		n := copy(ln.waiting, ln.waiting[ln.first:])
		clear(ln.waiting[n:])
		ln.waiting, ln.first = ln.waiting[:n], 0
	}
	ln.waiting = append(ln.waiting, s)
}

// pop returns nil when nobody waits.
func (ln *line) pop() *seat {
	if ln.first == len(ln.waiting) {
		ln.waiting, ln.first = nil, 0 // a storm's is not kept
		return nil
	}
	s := ln.waiting[ln.first]
	ln.waiting[ln.first] = nil
	ln.first++
	return s
}

// work serves until nobody waits in the line.
func (l *lot) work(ln *line) {
	buf, _ := buffers.Get().(*[readBuffer]byte)
	defer buffers.Put(buf)
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := ln.pop(); s != nil && !l.closed; s = ln.pop() {
		waited := time.Duration(momentOf(time.Now()) - s.since)
		s.state = served
		l.mu.Unlock()
		next := s.guest.serve(buf[:], waited)
		l.mu.Lock()
		l.restLocked(s, next)
	}
	ln.workers--
}

// rest ends the making of a guest, as the end of serve does later.
func (l *lot) rest(s *seat, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restLocked(s, next)
}

func (l *lot) restLocked(s *seat, next time.Time) {
	if s.state == vacated {
		return
	}
	woken := s.state == wokenUp
	s.state = resting
	if woken {
		s.wakeLocked(momentOf(time.Now()))
	}
	l.scheduleLocked(s, next)
}

// scheduleLocked puts the guest's next time into the agenda, or takes it out. A guest that is there for an earlier time stays: it
// says then when it wants to be served next, which saves the moves of every answered ping.
func (l *lot) scheduleLocked(s *seat, next time.Time) {
	due := momentOf(next)
	switch {
	case next.IsZero():
		if s.index != 0 {
			heap.Remove(&l.agenda, int(s.index-1))
		}
		return
	case s.index == 0:
		s.due = due
		heap.Push(&l.agenda, s)
	case due < s.due:
		s.due = due
		heap.Fix(&l.agenda, int(s.index-1))
	default:
		return
	}
	if s.index == 1 {
		l.notify()
	}
}

func (l *lot) notify() {
	select {
	case l.sooner <- struct{}{}:
	default:
	}
}

// run wakes guests when their time comes, until ctx ends; then it waits for the workers, and nobody is served any more.
func (l *lot) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(l.wakeDue())
		select {
		case <-timer.C:
		case <-l.sooner:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.workers.Wait()
}

// wakeDue wakes those whose time has come and returns how long it is until the next one's.
func (l *lot) wakeDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := momentOf(time.Now())
	for len(l.agenda) > 0 {
		s := l.agenda[0]
		if s.due > now {
			return time.Duration(s.due - now)
		}
		heap.Pop(&l.agenda)
		s.wakeLocked(now)
	}
	return time.Hour
}

// inLine returns how many guests wait for a worker.
func (l *lot) inLine(which int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines[which].waiting) - l.lines[which].first
}

// agenda is a heap of seats by their due time; a seat knows its place.
type agenda []*seat

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due < a[j].due }

func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (a *agenda) Push(x any) {
	s, _ := x.(*seat) // heap.Push is given nothing else
	*a = append(*a, s)
	s.index = int32(len(*a))
}

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	s := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	s.index = 0
	return s
}
