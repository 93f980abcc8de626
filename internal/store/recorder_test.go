package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// read returns the record through the queue, and whether it is there.
func read(t *testing.T, r *store.Recorder, rec store.Record) (store.Record, bool) {
	t.Helper()
	found, err := r.Get(t.Context(), rec.Application, []api.SessionID{rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := found[rec.ID]
	return got, ok
}

func TestStageIsReadableAndNotWritten(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		rec := newRecord(1)
		ticket := stage(t, r, rec)
		if got, ok := read(t, r, rec); !ok || got.ID != rec.ID {
			t.Error("a staged record is not readable")
		}
		time.Sleep(time.Hour)
		equal(t, "writes", len(f.written()), 0)
		ticket.Discard()
		if _, ok := read(t, r, rec); ok {
			t.Error("a discarded record is readable")
		}
		commit(t, ticket)
		equal(t, "status", r.Status(), store.RecorderStatus{})
		equal(t, "writes", len(f.written()), 0)
	})
}

func TestCommitWaitsUntilDurable(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		rec := newRecord(1)
		ticket := stage(t, r, rec)
		start := time.Now()
		commit(t, ticket)
		if _, ok := f.row(rec); !ok {
			t.Fatal("Commit returned before the record was durable")
		}
		equal(t, "a quiet commit waits", time.Since(start), 0)
		ticket.Discard() // too late
		commit(t, ticket)
		if _, ok := read(t, r, rec); !ok {
			t.Error("a committed record was discarded")
		}
	})
}

func TestGroupCommit(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBatch: 50}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		release := f.block()
		var wg sync.WaitGroup
		for i := range 120 {
			ticket := stage(t, r, newRecord(api.Millis(i+1)))
			wg.Go(func() { commit(t, ticket) })
			synctest.Wait() // the first is in flight, the rest gathers behind it
		}
		equal(t, "queued", r.Status().Queued, 120)
		release()
		wg.Wait()
		var sizes []int
		var order []api.Millis
		for _, batch := range f.written() {
			sizes = append(sizes, len(batch))
			for _, rec := range batch {
				order = append(order, rec.CreatedAt)
			}
		}
		equal(t, "batches", sizes, []int{1, 50, 50, 19})
		if !slices.IsSorted(order) {
			t.Error("records were not written in their order")
		}
	})
}

func TestPacing(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		start := time.Now()
		for i := range 1000 { // one every 100 µs
			r.End(endOf(newRecord(api.Millis(i+1)), 9))
			time.Sleep(100 * time.Microsecond)
		}
		if !r.Flush(t.Context()) {
			t.Fatal("not durable")
		}
		if n, most := len(f.written()), 20+2+int(time.Since(start)/(2500*time.Microsecond)); n > most {
			t.Errorf("%d transactions, want at most %d", n, most)
		}
	})
}

func TestLaterStateReplacesWaitingOne(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		release := f.block()
		rec := newRecord(1)
		var wg sync.WaitGroup
		ticket := stage(t, r, rec)
		wg.Go(func() { commit(t, ticket) })
		synctest.Wait()
		for i := range 5 {
			rec.Name = fmt.Sprint(i)
			wg.Go(func() {
				if err := r.Change(t.Context(), rec); err != nil {
					t.Error(err)
				}
				if got, _ := f.row(rec); got.Name < rec.Name {
					t.Errorf("answered for %q when %q was durable", rec.Name, got.Name)
				}
			})
			synctest.Wait()
			if got, _ := read(t, r, rec); got.Name != rec.Name {
				t.Errorf("read %q, want %q", got.Name, rec.Name)
			}
		}
		equal(t, "queued", r.Status().Queued, 2)
		release()
		wg.Wait()
		equal(t, "writes", len(f.written()), 2)
		got, _ := f.row(rec)
		equal(t, "durable", got, rec)
	})
}

func TestEndIsFinal(t *testing.T) {
	for _, when := range []string{"staged", "waiting", "in flight", "durable"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
				rec := newRecord(1)
				end := endOf(rec, 5)
				release := f.block()
				defer release()
				if when == "waiting" {
					r.End(endOf(newRecord(1), 2)) // occupies the writer
					synctest.Wait()
				}
				ticket := stage(t, r, rec)
				var wg sync.WaitGroup
				if when != "staged" {
					wg.Go(func() { commit(t, ticket) })
					synctest.Wait()
				}
				if when == "durable" {
					release()
					wg.Wait()
					release = f.block()
				}
				r.End(end, denialOf("jti:1"))
				check := func() {
					t.Helper()
					got, _ := read(t, r, rec)
					equal(t, "read", got, end)
					list, err := r.Ended(t.Context(), testApp, store.EndFilter{}, nil, 10)
					if err != nil || !slices.ContainsFunc(list, func(e store.Record) bool { return cmp.Equal(e, end) }) {
						t.Errorf("not listed as ended: %v, %v", list, err)
					}
				}
				check()
				synctest.Wait()
				again, late := endOf(rec, 9), rec
				late.Name = "late"
				r.End(again, denialOf("jti:2"))
				wg.Go(func() { _ = r.Change(t.Context(), late) })
				wg.Go(func() { commit(t, ticket) })
				synctest.Wait()
				ticket.Discard()
				check()
				release()
				wg.Wait()
				if !r.Flush(t.Context()) {
					t.Error("not durable")
				}
				check()
				got, _ := f.row(rec)
				equal(t, "durable", got, end)
				equal(t, "denials", f.denials, []store.Denial{denialOf("jti:1"), denialOf("jti:2")})
			})
		})
	}
}

func TestAwayAfterMaxWait(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxWait: 300 * time.Millisecond}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		release := f.block()
		elapsed := func(fn func()) time.Duration { start := time.Now(); fn(); return time.Since(start) }
		var rows []store.Record
		open := func() {
			rows = append(rows, newRecord(1))
			commit(t, stage(t, r, rows[len(rows)-1]))
		}
		equal(t, "first", elapsed(open), 300*time.Millisecond)
		if s := r.Status(); !s.Away || s.Err == "" || s.Queued != 1 || s.Bytes == 0 || s.Oldest != 300*time.Millisecond {
			t.Errorf("status %+v", s)
		}
		equal(t, "second", elapsed(open), 0)
		equal(t, "change", elapsed(func() { _ = r.Change(t.Context(), rows[0]) }), 0)
		equal(t, "flush", elapsed(func() {
			if r.Flush(t.Context()) {
				t.Error("Flush says durable")
			}
		}), 0)
		release()
		synctest.Wait()
		equal(t, "status when it is back", r.Status(), store.RecorderStatus{})
		for _, rec := range rows {
			if _, ok := f.row(rec); !ok {
				t.Error("a record that waited was not written")
			}
		}
		f.block()
		equal(t, "after it was back", elapsed(open), 300*time.Millisecond)
	})
}

// TestAwayOverloaded has a database that answers every write, but does not keep up.
func TestAwayOverloaded(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBatch: 1}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		f.hooks(func(context.Context, []store.Record) error { time.Sleep(260 * time.Millisecond); return nil }, nil)
		for range 10 {
			r.End(endOf(newRecord(1), 2))
		}
		synctest.Wait() // the first is being written
		start := time.Now()
		commit(t, stage(t, r, newRecord(1)))
		equal(t, "the first waited", time.Since(start), 500*time.Millisecond)
		if !r.Status().Away {
			t.Error("not away though a Commit timed out")
		}
		commit(t, stage(t, r, newRecord(1)))
		equal(t, "the second waited until", time.Since(start), 500*time.Millisecond)
		time.Sleep(200 * time.Millisecond) // the next write has succeeded
		if r.Status().Away {
			t.Error("away though the database answers")
		}
	})
}

// TestOpensGoFirst: a mass end does not keep new sessions waiting, and goes on meanwhile.
func TestOpensGoFirst(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBatch: 4}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		var batches []string
		f.hooks(func(_ context.Context, records []store.Record) error {
			batch := ""
			for _, rec := range records {
				batch += map[bool]string{true: "open ", false: "end "}[rec.EndedAt == 0]
			}
			batches = append(batches, strings.TrimSpace(batch))
			time.Sleep(20 * time.Millisecond)
			return nil
		}, nil)
		r.End(endOf(newRecord(1), 2))
		synctest.Wait() // it is being written
		for range 10 {
			r.End(endOf(newRecord(1), 2))
		}
		start := time.Now()
		var opens sync.WaitGroup
		for range 5 {
			ticket := stage(t, r, newRecord(1))
			opens.Go(func() { commit(t, ticket) })
		}
		opens.Wait()
		equal(t, "opens waited", time.Since(start), 60*time.Millisecond)
		if !r.Flush(t.Context()) {
			t.Error("not durable")
		}
		equal(t, "batches", batches, []string{
			"end", "open open open end", "open open end end", "end end end end", "end end end"})
	})
}

// TestHold: ends wait while they are held back, and no longer than that; what somebody waits for does not.
func TestHold(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		for name, release := range map[string]time.Duration{"released": 300 * time.Millisecond, "forgotten": time.Hour, "flushed": 0} {
			rec := endOf(newRecord(1), 2)
			start := time.Now()
			let := r.Hold(time.Second)
			r.End(rec)
			commit(t, stage(t, r, newRecord(1)))
			equal(t, name+": an open waited", time.Since(start), 0)
			if _, ok := f.row(rec); ok {
				t.Error(name, "is written while held")
			}
			if release > 0 {
				time.AfterFunc(release, let)
				time.Sleep(min(release, time.Second) - 1)
				if _, ok := f.row(rec); ok {
					t.Error(name, "is written while held")
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
			} else if !r.Flush(t.Context()) {
				t.Error(name, "is not durable")
			}
			if _, ok := f.row(rec); !ok {
				t.Error(name, "is still held")
			}
			equal(t, name+": the end waited", time.Since(start), min(release, time.Second))
		}
		r.Hold(time.Hour)
		r.End(endOf(newRecord(1), 2)) // the stop that comes writes it
	})
}

// TestAwayWithoutCommit has only ends, for which nobody waits.
func TestAwayWithoutCommit(t *testing.T) {
	for name, trouble := range map[string]func(f *fakeRecords){
		"hangs": func(f *fakeRecords) { f.block() },
		"fails": func(f *fakeRecords) { f.fail(errTrouble) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
				trouble(f)
				r.End(endOf(newRecord(1), 2))
				time.Sleep(100 * time.Millisecond)
				if r.Status().Away {
					t.Error("away at once")
				}
				time.Sleep(time.Second)
				s := r.Status()
				if !s.Away {
					t.Error("not away")
				}
				if name == "fails" && !strings.Contains(s.Err, errTrouble.Error()) {
					t.Errorf("Err = %q", s.Err)
				}
				f.fail(nil)
				time.Sleep(time.Minute) // a hanging write is given up and tried again
				equal(t, "status", r.Status(), store.RecorderStatus{})
			})
		})
	}
}

func TestRetryBacksOffAndLosesNothing(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBatch: 10}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		f.fail(errTrouble)
		var rows []store.Record
		for i := range 35 {
			rec := endOf(newRecord(api.Millis(i+1)), 99)
			rows = append(rows, rec)
			r.End(rec, denialOf(rec.ID.String()))
		}
		time.Sleep(30 * time.Second)
		if n := len(f.written()); n < 25 || n > 40 {
			t.Errorf("%d attempts in 30 s", n)
		}
		equal(t, "queued", r.Status().Queued, 35)
		f.fail(nil)
		time.Sleep(1100 * time.Millisecond)
		equal(t, "status a second after it is back", r.Status(), store.RecorderStatus{})
		for _, rec := range rows {
			got, _ := f.row(rec)
			equal(t, "durable", got, rec)
		}
		equal(t, "denials", len(f.denials), 35)
	})
}

func TestShortTroubleIsNotAway(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		f.fail(errTrouble)
		time.AfterFunc(100*time.Millisecond, func() { f.fail(nil) })
		rec := newRecord(1)
		commit(t, stage(t, r, rec))
		if _, ok := f.row(rec); !ok {
			t.Error("Commit returned before the record was durable")
		}
		if r.Status().Away {
			t.Error("away")
		}
	})
}

func TestCommitContext(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		release := f.block()
		rec := newRecord(1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := stage(t, r, rec).Commit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ctx's error", err)
		}
		if r.Flush(ctx) {
			t.Error("Flush with a dead context says durable")
		}
		release()
		synctest.Wait()
		if _, ok := f.row(rec); !ok {
			t.Error("the record was forgotten")
		}
	})
}

func TestPoison(t *testing.T) {
	reg := prometheus.NewRegistry()
	bubble(t, store.RecorderConfig{Metrics: reg}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		poison := func(rec store.Record) bool { return rec.Login == "poison" }
		refuse := func(_ context.Context, records []store.Record) error {
			if slices.ContainsFunc(records, poison) {
				return fmt.Errorf("write: %w", store.ErrRefused)
			}
			return nil
		}
		release := f.block()
		r.End(endOf(newRecord(1), 2)) // occupies the writer, so that the rest is one batch
		synctest.Wait()
		var wg sync.WaitGroup
		var rows []store.Record
		for i := range 100 {
			rec := newRecord(api.Millis(i + 1))
			if i == 0 || i == 37 || i == 99 {
				rec.Login = "poison"
			}
			rows = append(rows, rec)
			ticket := stage(t, r, rec)
			wg.Go(func() {
				if err := ticket.Commit(t.Context()); errors.Is(err, store.ErrRefused) != poison(rec) {
					t.Errorf("record %d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		bad := rows[37]
		r.End(endOf(bad, 50), denialOf("jti:bad")) // its record is lost, its denial is not
		var flushed bool
		wg.Go(func() { flushed = r.Flush(t.Context()) })
		synctest.Wait()
		f.hooks(refuse, nil)
		release()
		wg.Wait()
		for _, rec := range rows {
			if _, ok := f.row(rec); ok == poison(rec) {
				t.Errorf("record %d: durable %v", rec.CreatedAt, ok)
			}
		}
		equal(t, "denials", f.denials, []store.Denial{denialOf("jti:bad")})
		if flushed {
			t.Error("Flush says durable though records were lost")
		}
		if n := len(f.written()); n > 60 {
			t.Errorf("%d writes to find three among 100", n)
		}
		got := gather(t, reg)
		equal(t, "dropped", got["rollcall_store_records_dropped_total"], 3)
		equal(t, "failures", got["rollcall_store_write_failures_total"], 0)
	})
}

// TestPoisonInTrouble has the database fail in the middle of the search for the poison: nothing but the poison is lost.
func TestPoisonInTrouble(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		calls := 0
		f.hooks(func(_ context.Context, records []store.Record) error {
			if calls++; calls%3 == 0 {
				return errTrouble
			}
			if slices.ContainsFunc(records, func(rec store.Record) bool { return rec.Login == "poison" }) {
				return store.ErrRefused
			}
			return nil
		}, nil)
		var rows []store.Record
		for i := range 64 {
			rec := endOf(newRecord(api.Millis(i+1)), 99)
			if i == 20 {
				rec.Login = "poison"
			}
			rows = append(rows, rec)
			r.End(rec, denialOf(fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		equal(t, "status", r.Status(), store.RecorderStatus{})
		for _, rec := range rows {
			if _, ok := f.row(rec); ok == (rec.Login == "poison") {
				t.Errorf("record %d: durable %v", rec.CreatedAt, ok)
			}
		}
		denied := map[string]bool{}
		for _, d := range f.denials {
			denied[d.TokenID] = true
		}
		equal(t, "denials", len(denied), 64)
	})
}

func TestQueueCap(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBytes: 20 << 10}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		release := f.block()
		var rows []store.Record
		var tickets []*store.Ticket
		for {
			rec := newRecord(1)
			rec.ClientInfo = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
			ticket, err := r.Stage(rec)
			if errors.Is(err, store.ErrQueueFull) {
				break
			}
			if err != nil || len(rows) > 20 {
				t.Fatalf("after %d records: %v", len(rows), err)
			}
			rows, tickets = append(rows, rec), append(tickets, ticket)
		}
		if len(rows) < 5 {
			t.Errorf("full after %d records", len(rows))
		}
		// What is there already may change and end, and a place that is given back can be taken.
		for _, rec := range rows[1:] {
			r.End(endOf(rec, 5), denialOf(rec.ID.String()))
		}
		r.End(endOf(newRecord(1), 2))
		if _, err := r.Stage(rows[0]); !errors.Is(err, store.ErrQueueFull) {
			t.Errorf("Stage over the cap: %v", err)
		}
		tickets[0].Discard()
		release()
		synctest.Wait()
		equal(t, "status", r.Status(), store.RecorderStatus{})
		stage(t, r, newRecord(1)).Discard()
	})
}

func TestFlush(t *testing.T) {
	bubble(t, store.RecorderConfig{MaxBatch: 10}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		if !r.Flush(t.Context()) {
			t.Error("an empty queue is not durable")
		}
		f.hooks(func(context.Context, []store.Record) error { time.Sleep(400 * time.Millisecond); return nil }, nil)
		start := time.Now()
		r.End(endOf(newRecord(1), 2))
		synctest.Wait() // it is being written
		for range 45 {
			r.End(endOf(newRecord(1), 2))
		}
		// Slow, but it answers: not away, though it takes longer than MaxWait in all.
		if !r.Flush(t.Context()) {
			t.Error("not durable")
		}
		equal(t, "it took", time.Since(start), 6*400*time.Millisecond)
		equal(t, "queued", r.Status().Queued, 0)
	})
}

func TestStopWritesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRecords{}
		r := store.NewRecorder(store.RecorderConfig{Records: f, MaxBatch: 10})
		stop := runRecorder(t, r)
		f.fail(errTrouble)
		var rows []store.Record
		for range 95 {
			rows = append(rows, endOf(newRecord(1), 2))
			r.End(rows[len(rows)-1])
		}
		time.Sleep(10 * time.Second)
		time.AfterFunc(3*time.Second, func() { f.fail(nil) })
		start := time.Now()
		stop()
		if d := time.Since(start); d < 3*time.Second || d > 5*time.Second {
			t.Errorf("stopped after %v", d)
		}
		for _, rec := range rows {
			if _, ok := f.row(rec); !ok {
				t.Fatal("a record was lost at stop")
			}
		}
	})
}

func TestStopGivesUp(t *testing.T) {
	for name, trouble := range map[string]func(f *fakeRecords){
		"hangs": func(f *fakeRecords) { f.block() },
		"fails": func(f *fakeRecords) { f.fail(errTrouble) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeRecords{}
				trouble(f)
				r := store.NewRecorder(store.RecorderConfig{Records: f, MaxWait: time.Hour})
				ctx, cancel := context.WithCancel(context.Background())
				result := make(chan error, 1)
				go func() { result <- r.Run(ctx) }()
				rec := newRecord(1)
				waiting := make(chan error, 1)
				ticket := stage(t, r, rec)
				go func() { waiting <- ticket.Commit(t.Context()) }()
				synctest.Wait()
				ended := endOf(newRecord(1), 2)
				r.End(ended)
				cancel()
				start := time.Now()
				if err := <-result; err == nil || !strings.Contains(err.Error(), "2 records") {
					t.Errorf("Run returned %v", err)
				}
				equal(t, "it took", time.Since(start), 5*time.Second)
				if err := <-waiting; !errors.Is(err, store.ErrClosed) {
					t.Errorf("Commit returned %v", err)
				}
				if _, err := r.Stage(newRecord(1)); !errors.Is(err, store.ErrClosed) {
					t.Errorf("Stage returned %v", err)
				}
				if err := r.Change(t.Context(), rec); !errors.Is(err, store.ErrClosed) {
					t.Errorf("Change returned %v", err)
				}
				r.End(endOf(rec, 3))
				if r.Flush(t.Context()) {
					t.Error("Flush says durable")
				}
				if got, ok := read(t, r, ended); !ok || got.EndedAt != 2 {
					t.Error("what was not written is not readable")
				}
			})
		})
	}
}

// TestEndedPages has half of the ended records in SQL and half in the queue, several of each with the same createdAt, and reads
// all of them, and those that ended since.
func TestEndedPages(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		var all []store.Record
		add := func() {
			for i := range 30 {
				rec := endOf(newRecord(api.Millis(1+i%3)), api.Millis(9+i%2))
				all = append(all, rec)
				r.End(rec)
			}
		}
		add()
		if !r.Flush(t.Context()) {
			t.Fatal("not durable")
		}
		release := f.block()
		defer release()
		add()
		synctest.Wait()
		for _, size := range []int{1, 2, 7, 59, 60, 61, 1000} {
			var got []store.Record
			var after *api.Position
			for range 61 {
				list, err := r.Ended(t.Context(), testApp, store.EndFilter{}, after, size)
				if err != nil {
					t.Fatal(err)
				}
				if len(list) == 0 {
					break
				}
				got = append(got, list...)
				last := list[len(list)-1].Position()
				after = &last
			}
			equal(t, fmt.Sprintf("pages of %d", size), got, page(all, 0, nil, len(all)))
		}
		n, err := r.CountEnded(t.Context(), testApp, 0)
		if n != 60 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
		for since, want := range map[api.Millis]int{9: 60, 10: 30, 11: 0} {
			for _, size := range []int{7, 60} {
				list, err := r.Ended(t.Context(), testApp, store.EndFilter{Since: since}, nil, size)
				equal(t, fmt.Sprintf("since %d", since), slices.Concat([]store.Record{}, list), page(all, since, nil, min(size, want)))
				n, err2 := r.CountEnded(t.Context(), testApp, since)
				if n != want || err != nil || err2 != nil {
					t.Errorf("since %d counted %d, %v, %v", since, n, err, err2)
				}
			}
		}
		list, err := r.Ended(t.Context(), testApp, store.EndFilter{}, nil, 0)
		if len(list) != 0 || err != nil {
			t.Errorf("a page of none has %d, %v", len(list), err)
		}
	})
}

func TestReadsWithStoreAway(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		old := endOf(newRecord(1), 2)
		r.End(old)
		r.Flush(t.Context())
		f.fail(errTrouble)
		f.onRead = func() error { return errTrouble }
		defer func() { f.onRead = nil }()
		live, ended := newRecord(3), endOf(newRecord(4), 5)
		stage(t, r, live)
		r.End(ended)

		found, err := r.Get(t.Context(), testApp, []api.SessionID{live.ID, ended.ID})
		equal(t, "all from the queue", found, map[api.SessionID]store.Record{live.ID: live, ended.ID: ended})
		if err != nil {
			t.Errorf("an error though nothing is missing: %v", err)
		}
		found, err = r.Get(t.Context(), testApp, []api.SessionID{live.ID, old.ID})
		equal(t, "part from the queue", found, map[api.SessionID]store.Record{live.ID: live})
		if !errors.Is(err, errTrouble) {
			t.Errorf("Get: %v", err)
		}
		list, err := r.Ended(t.Context(), testApp, store.EndFilter{}, nil, 10)
		equal(t, "ended", list, []store.Record{ended})
		if !errors.Is(err, errTrouble) {
			t.Errorf("Ended: %v", err)
		}
		n, err := r.CountEnded(t.Context(), testApp, 0)
		equal(t, "count", n, 1)
		if !errors.Is(err, errTrouble) {
			t.Errorf("CountEnded: %v", err)
		}
	})
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	bubble(t, store.RecorderConfig{Metrics: reg}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		f.fail(errTrouble)
		r.End(endOf(newRecord(1), 2))
		time.Sleep(2 * time.Second)
		got := gather(t, reg)
		if got["rollcall_store_write_failures_total"] < 3 || got["rollcall_store_write_seconds"] < 3 {
			t.Errorf("failures are not counted: %v", got)
		}
		delete(got, "rollcall_store_write_failures_total")
		delete(got, "rollcall_store_write_seconds")
		equal(t, "metrics", got, map[string]float64{
			"rollcall_store_away":                  1,
			"rollcall_store_queue_bytes":           float64(r.Status().Bytes),
			"rollcall_store_queue_oldest_seconds":  2,
			"rollcall_store_queue_records":         1,
			"rollcall_store_batch_records":         0,
			"rollcall_store_records_dropped_total": 0,
		})
	})
	got := gather(t, reg)
	equal(t, "batches", got["rollcall_store_batch_records"], 1)
	equal(t, "away", got["rollcall_store_away"], 0)
}

// gather returns the value of each metric, the number of observations of a histogram.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		m := family.GetMetric()[0]
		values[family.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return values
}

func TestRetain(t *testing.T) {
	bubble(t, store.RecorderConfig{}, func(t *testing.T, r *store.Recorder, f *fakeRecords) {
		const now = api.Millis(100_000_000)
		other := api.NewID[api.Organization]()
		var gone, kept []store.Record
		for i := range 1700 {
			rec := endOf(newRecord(1), now.Add(-time.Hour)-1-api.Millis(i))
			gone = append(gone, rec)
			r.End(rec)
		}
		kept = append(kept, []store.Record{endOf(newRecord(1), now.Add(-time.Hour)), endOf(newRecord(1), now), newRecord(1)}...)
		foreign := endOf(newRecord(1), 5) // of an organization that keeps everything for long
		foreign.Organization = other
		kept = append(kept, foreign)
		for _, rec := range kept {
			if err := r.Change(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		retention := func(yield func(api.OrganizationID, time.Duration) bool) {
			_ = yield(testOrg, time.Hour) && yield(other, 1000*time.Hour)
		}
		n, err := r.Retain(t.Context(), now, retention)
		if n != len(gone) || err != nil {
			t.Errorf("deleted %d, %v", n, err)
		}
		for _, rec := range gone {
			if _, ok := f.row(rec); ok {
				t.Fatal("an old record is there")
			}
		}
		for _, rec := range kept {
			if _, ok := f.row(rec); !ok {
				t.Fatalf("a record that ended at %d is gone", rec.EndedAt)
			}
		}
		f.onRead = func() error { return errTrouble }
		if _, err := r.Retain(t.Context(), now, retention); !errors.Is(err, errTrouble) {
			t.Errorf("got %v", err)
		}
		f.onRead = nil
		f.fail(errTrouble)
		r.End(endOf(newRecord(1), 2))
		time.Sleep(time.Second)
		if n, err := r.Retain(t.Context(), now+1<<40, retention); n != 0 || err != nil {
			t.Errorf("while away: %d, %v", n, err)
		}
	})
}
