package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// TestReadThroughQueue drives a recorder at random over a database that is slow and fails at random, also after it has committed,
// and has readers look all the time. A reader never misses a record that was there before it looked, and never sees one twice, or
// one that was ended as open. In the end everything is durable.
func TestReadThroughQueue(t *testing.T) {
	ops := []string{"open", "open", "open", "change", "end", "end", "discard", "trouble", "wait"}
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) readStep {
		return readStep{
			op:    rapid.SampledFrom(ops).Draw(rt, "op"),
			which: rapid.IntRange(0, 1000).Draw(rt, "which"),
			yes:   rapid.Bool().Draw(rt, "yes"),
		}
	}), 1, 80)
	rapid.Check(t, func(rt *rapid.T) {
		m := &readModel{random: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), known: map[api.SessionID]store.Record{},
			tickets: map[api.SessionID]*store.Ticket{}}
		batch, script := rapid.IntRange(1, 20).Draw(rt, "batch"), steps.Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) { m.run(t, batch, script) })
		if m.failed != "" {
			rt.Fatal(m.failed)
		}
	})
}

// readStep is one thing that happens to one session.
type readStep struct {
	op    string
	which int
	yes   bool
}

// readModel knows what readers must see.
type readModel struct {
	t *testing.T
	r *store.Recorder
	f *fakeRecords

	mu      sync.Mutex
	random  *rand.Rand
	trouble bool
	known   map[api.SessionID]store.Record // newest state of what was staged
	tickets map[api.SessionID]*store.Ticket
	ids     []api.SessionID // of known, oldest first
	failed  string
}

func (m *readModel) run(t *testing.T, batch int, script []readStep) {
	m.t = t
	m.f = &fakeRecords{onRead: func() error { m.pause(3 * time.Millisecond); return nil }}
	m.f.hooks(
		func(context.Context, []store.Record) error { m.pause(4 * time.Millisecond); return m.error() },
		func() error { m.pause(4 * time.Millisecond); return m.error() })
	m.r = store.NewRecorder(store.RecorderConfig{Records: m.f, MaxBatch: batch, MaxWait: 5 * time.Millisecond})
	stopRecorder := runRecorder(t, m.r)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(m.upTo(2 * time.Millisecond)):
					m.look()
				}
			}
		})
	}
	for _, s := range script {
		m.pause(time.Millisecond)
		m.step(s)
	}
	close(stop)
	readers.Wait()
	m.setTrouble(false)
	stopRecorder()
	for id, rec := range m.known {
		if m.tickets[id] != nil {
			continue // never committed
		}
		if got, ok := m.f.row(rec); !ok || got.Name != rec.Name || got.EndedAt != rec.EndedAt {
			m.fail("at the end a record is not durable")
		}
	}
}

func (m *readModel) fail(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = what
}

func (m *readModel) upTo(d time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.random.Int64N(int64(d)))
}

func (m *readModel) pause(d time.Duration) { time.Sleep(m.upTo(d)) }

func (m *readModel) setTrouble(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = on
}

func (m *readModel) error() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trouble && m.random.IntN(3) > 0 {
		return errTrouble
	}
	return nil
}

// step does one thing to one session. The model changes after the recorder has what readers must see, and before what they need
// not.
func (m *readModel) step(s readStep) {
	switch s.op {
	case "open":
		rec := newRecord(api.Millis(1 + s.which%6))
		ticket, err := m.r.Stage(rec)
		if err != nil {
			m.fail("Stage: " + err.Error())
			return
		}
		m.mu.Lock()
		m.known[rec.ID], m.tickets[rec.ID] = rec, ticket
		m.ids = append(m.ids, rec.ID)
		m.mu.Unlock()
		if s.yes {
			m.commit(rec.ID)
		}
	case "trouble":
		m.setTrouble(s.yes)
	case "wait":
		m.pause(20 * time.Millisecond)
	default:
		m.mu.Lock()
		ids := slices.Clone(m.ids)
		m.mu.Unlock()
		if len(ids) > 0 {
			m.touch(s.op, ids[s.which%len(ids)])
		}
	}
}

func (m *readModel) commit(id api.SessionID) {
	m.mu.Lock()
	ticket := m.tickets[id]
	delete(m.tickets, id)
	m.mu.Unlock()
	if err := ticket.Commit(m.t.Context()); err != nil {
		m.fail("Commit: " + err.Error())
	}
}

func (m *readModel) touch(op string, id api.SessionID) {
	m.mu.Lock()
	rec, ticket := m.known[id], m.tickets[id]
	m.mu.Unlock()
	switch {
	case op == "discard" && ticket != nil && rec.EndedAt == 0:
		m.mu.Lock()
		delete(m.known, id)
		delete(m.tickets, id)
		m.ids = slices.DeleteFunc(m.ids, func(other api.SessionID) bool { return other == id })
		m.mu.Unlock()
		ticket.Discard()
	case op == "change" && rec.EndedAt == 0:
		rec.Name += "x"
		m.mu.Lock()
		delete(m.tickets, id)
		m.mu.Unlock()
		if err := m.r.Change(m.t.Context(), rec); err != nil {
			m.fail("Change: " + err.Error())
		}
		m.mu.Lock()
		m.known[id] = rec
		m.mu.Unlock()
	case op == "end" && rec.EndedAt == 0:
		rec = endOf(rec, 1000+rec.CreatedAt%2)
		m.r.End(rec, denialOf(id.String()))
		m.mu.Lock()
		m.known[id] = rec
		delete(m.tickets, id)
		m.mu.Unlock()
	}
}

// snapshot returns what a reader must see from now on, and of it what ended at or after since.
func (m *readModel) snapshot(since api.Millis) (all, ended map[api.SessionID]store.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, ended = map[api.SessionID]store.Record{}, map[api.SessionID]store.Record{}
	for id, rec := range m.known {
		all[id] = rec
		if rec.EndedAt != 0 && rec.EndedAt >= since {
			ended[id] = rec
		}
	}
	return all, ended
}

// look reads once in every way.
func (m *readModel) look() {
	ctx, since := context.Background(), 999+api.Millis(m.upTo(4))
	all, _ := m.snapshot(since)
	var ids []api.SessionID
	for id := range all {
		ids = append(ids, id)
	}
	found, err := m.r.Get(ctx, testApp, ids)
	if err != nil {
		m.fail("Get: " + err.Error())
	}
	known, _ := m.snapshot(since)
	for id, rec := range all {
		got, ok := found[id]
		if _, still := known[id]; !still {
			continue // discarded meanwhile
		}
		if !ok || len(got.Name) < len(rec.Name) || got.EndedAt == 0 && rec.EndedAt != 0 {
			m.fail("Get misses a record, or shows an old state of it")
		}
	}

	_, ended := m.snapshot(since)
	size := 1 + int(m.upTo(30))
	seen := map[api.SessionID]bool{}
	var after *api.Position
	for {
		page, err := m.r.Ended(ctx, testApp, store.EndFilter{Since: since}, after, size)
		if err != nil || len(page) > size {
			m.fail("Ended returned an error, or too many")
		}
		for i := range page {
			pos := page[i].Position()
			if after != nil && after.Compare(pos) >= 0 || seen[page[i].ID] || page[i].EndedAt < since {
				m.fail("Ended repeats a record, or breaks the order, or has one that it should not")
			}
			seen[page[i].ID], after = true, &pos
		}
		if len(page) < size {
			break
		}
	}
	for id := range ended {
		if !seen[id] {
			m.fail("Ended misses a record")
		}
	}

	_, ended = m.snapshot(since)
	n, err := m.r.CountEnded(ctx, testApp, since)
	if _, later := m.snapshot(since); err != nil || n < len(ended) || n > len(later)+1 { // one may be ended and not in the model yet
		m.fail("CountEnded is wrong")
	}
}
