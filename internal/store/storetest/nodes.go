package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var nodeTests = []test{
	{"incarnations grow", testClaim},
	{"the clock", testClock},
	{"beat", testBeat},
	{"own earlier incarnations are server_stopped", testSweepOwn},
	{"lapsed others are node_lost", testSweepOthers},
	{"the living are left alone", testSweepLiving},
	{"the swept write nothing until they come back", testFenced},
	{"a sweep during writes", testFenceWaits},
	{"many records", testSweepMany},
	{"the living are known", testLiving},
	{"a node that stopped leaves its name", testRelease},
	{"sweeps at the same time", testSweepConcurrent},
}

// lapse is far longer than a test takes between two statements.
const lapse = time.Minute

func claim(t *testing.T, db store.DB, name string) int64 {
	t.Helper()
	inc, err := db.Nodes().Claim(t.Context(), name)
	fatal(t, err)
	return inc
}

func sweep(t *testing.T, db store.DB, name string, inc int64, lapse time.Duration) int {
	t.Helper()
	n, err := db.Nodes().Sweep(t.Context(), name, inc, lapse)
	fatal(t, err)
	return n
}

// now is SQL's clock.
func now(t *testing.T, db store.DB) (now api.Millis) {
	t.Helper()
	edit(t, db, func(tx store.Tx) error { now = tx.Now(); return nil })
	return now
}

// later waits until SQL's clock has moved by d.
func later(t *testing.T, db store.DB, d time.Duration) {
	t.Helper()
	for start := now(t, db); ; time.Sleep(time.Millisecond) {
		if now(t, db) >= start.Add(d) {
			return
		}
	}
}

// openOn writes an open record of an incarnation.
func openOn(t *testing.T, db store.DB, inc int64, created api.Millis) store.Record {
	t.Helper()
	rec := record(store.Application{ID: api.NewID[api.Application](), Organization: api.NewID[api.Organization]()}, created)
	rec.Incarnation = inc
	fatal(t, db.Records().Write(t.Context(), []store.Record{rec}, nil))
	return rec
}

func closed(t *testing.T, db store.DB, rec store.Record, reason api.EndReason, from, to api.Millis) {
	t.Helper()
	got := get(t, db, rec.Application, rec.ID)
	if got.EndReason != reason || got.EndedAt < from || got.EndedAt > to {
		t.Errorf("ended at %d as %q, want between %d and %d as %q", got.EndedAt, got.EndReason, from, to, reason)
	}
	rec.EndedAt, rec.EndReason = got.EndedAt, got.EndReason
	same(t, "the rest of the record", got, &rec)
}

func testClock(t *testing.T, db store.DB) {
	before := now(t, db)
	at, err := db.Nodes().Now(t.Context())
	fatal(t, err)
	if after := now(t, db); at < before || at > after {
		t.Errorf("%d is not between %d and %d", at, before, after)
	}
}

func testClaim(t *testing.T, db store.DB) {
	last := int64(0)
	for _, name := range []string{"a", "b", "a", hostile, "a"} {
		inc := claim(t, db, name)
		if inc <= last {
			t.Errorf("incarnation %d after %d", inc, last)
		}
		last = inc
		sweep(t, db, name, inc, 0)
	}
	if inc := claim(t, db, "b"); inc <= last {
		t.Errorf("incarnation %d after %d, which was swept", inc, last)
	}
}

func testBeat(t *testing.T, db store.DB) {
	first := claim(t, db, "a")
	fatal(t, db.Nodes().Beat(t.Context(), "a", first))
	second := claim(t, db, "a")
	for _, c := range []struct {
		name string
		inc  int64
		want error
	}{{"a", second, nil}, {"a", first, store.ErrLeaseLost}, {"a", first, store.ErrNameTaken},
		{"a", second + 1, store.ErrLeaseLost}, {"b", second, store.ErrLeaseLost}} {
		if err := db.Nodes().Beat(t.Context(), c.name, c.inc); !errors.Is(err, c.want) {
			t.Errorf("Beat(%s, %d): got %v, want %v", c.name, c.inc, err, c.want)
		}
	}
	// One that was swept by others must hear of it.
	later(t, db, 20*time.Millisecond)
	sweep(t, db, "b", claim(t, db, "b"), 10*time.Millisecond)
	if err := db.Nodes().Beat(t.Context(), "a", second); !errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrNameTaken) {
		t.Errorf("beat of a swept incarnation: %v", err)
	}
}

func testSweepOwn(t *testing.T, db store.DB) {
	first := claim(t, db, "a")
	old := openOn(t, db, first, 1000)
	before := now(t, db)
	fatal(t, db.Nodes().Beat(t.Context(), "a", first))
	after := now(t, db)
	newer := openOn(t, db, first, after.Add(time.Hour)) // opened after the last sign of life
	done := ended(openOn(t, db, first, 1000), 1001)
	fatal(t, db.Records().Write(t.Context(), []store.Record{done}, nil))
	later(t, db, 5*time.Millisecond)

	second := claim(t, db, "a")
	mine := openOn(t, db, second, 1000)
	same(t, "closed", sweep(t, db, "a", second, lapse), 2)
	closed(t, db, old, api.EndServerStopped, before, after)
	closed(t, db, newer, api.EndServerStopped, newer.CreatedAt, newer.CreatedAt)
	same(t, "own record", get(t, db, mine.Application, mine.ID), &mine)
	same(t, "ended record", get(t, db, done.Application, done.ID), &done)
	same(t, "closed again", sweep(t, db, "a", second, lapse), 0)
}

func testSweepOthers(t *testing.T, db store.DB) {
	other := claim(t, db, "b")
	before := now(t, db)
	fatal(t, db.Nodes().Beat(t.Context(), "b", other))
	after := now(t, db)
	rec := openOn(t, db, other, 1000)
	newer := openOn(t, db, other, after.Add(time.Hour))
	later(t, db, 20*time.Millisecond)
	inc := claim(t, db, "a")
	same(t, "closed", sweep(t, db, "a", inc, 10*time.Millisecond), 2)
	closed(t, db, rec, api.EndNodeLost, before, after)
	closed(t, db, newer, api.EndNodeLost, newer.CreatedAt, newer.CreatedAt)
}

func testSweepLiving(t *testing.T, db store.DB) {
	other, inc := claim(t, db, "b"), claim(t, db, "a")
	theirs, mine := openOn(t, db, other, 1000), openOn(t, db, inc, 1000)
	same(t, "closed", sweep(t, db, "a", inc, lapse), 0)
	same(t, "theirs", get(t, db, theirs.Application, theirs.ID), &theirs)
	// However long this node itself was silent, it is alive: it sweeps.
	later(t, db, 20*time.Millisecond)
	sweep(t, db, "a", inc, 10*time.Millisecond)
	same(t, "mine", get(t, db, mine.Application, mine.ID), &mine)
	// An older life of this name, still running by mistake, closes nothing of the newer one.
	newer := claim(t, db, "a")
	rec := openOn(t, db, newer, 1000)
	sweep(t, db, "a", inc, lapse)
	same(t, "the newer life's", get(t, db, rec.Application, rec.ID), &rec)
}

// testFenced has a node that was stopped for so long that another has swept it, and goes on.
func testFenced(t *testing.T, db store.DB) {
	app := seed(t, db)
	paused := claim(t, db, "paused")
	own := func(rec store.Record) store.Record { rec.Incarnation = paused; return rec }
	open, gone, unseen := own(record(app, 1000)), own(record(app, 1001)), own(record(app, 1002))
	held := own(lease(app, 1003, 3600))
	fatal(t, db.Records().Write(t.Context(), []store.Record{open, gone, held}, nil))
	later(t, db, 20*time.Millisecond)
	other := claim(t, db, "other")
	same(t, "closed", sweep(t, db, "other", other, 10*time.Millisecond), 2)
	before, swept := version(t, db), get(t, db, app.ID, open.ID)
	same(t, "closed as", swept.EndReason, api.EndNodeLost)

	ids := []api.SessionID{open.ID, gone.ID, held.ID, unseen.ID}
	fatalGet := func() map[api.SessionID]store.Record {
		t.Helper()
		found, err := db.Records().Get(t.Context(), app.ID, ids)
		fatal(t, err)
		return found
	}
	was := fatalGet()
	alive := record(app, 2000)
	alive.Incarnation = other
	for name, batch := range map[string][]store.Record{"open": {open}, "end": {ended(gone, 5000)}, "new": {unseen}, "lease": {held},
		"with another's": {alive, unseen}} {
		denials := []store.Denial{{Application: app.ID, TokenID: "jti:x", ExpiresAt: 1 << 50}}
		if err := db.Records().Write(t.Context(), batch, denials); !errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: got %v, want ErrLeaseLost", name, err)
		}
	}
	if _, err := db.Records().Adopt(t.Context(), paused, []store.Record{held}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("adopt: got %v, want ErrLeaseLost", err)
	}
	same(t, "after refused writes", fatalGet(), was)
	same(t, "version", version(t, db), before)
	if get(t, db, app.ID, alive.ID) != nil {
		t.Error("part of a refused batch was written")
	}

	// It starts a new incarnation, and upserts what is connected and what ended meanwhile.
	paused = claim(t, db, "paused")
	batch := []store.Record{own(open), ended(own(gone), 5000), own(unseen), own(held)}
	fatal(t, db.Records().Write(t.Context(), batch, nil))
	for i := range batch {
		same(t, "under the new incarnation", get(t, db, app.ID, batch[i].ID), &batch[i])
	}
	same(t, "closed of the new incarnation", sweep(t, db, "other", other, lapse), 0)
	// What it says has ended stays ended, whoever comes.
	paused = claim(t, db, "paused")
	fatal(t, db.Records().Write(t.Context(), []store.Record{own(gone)}, nil))
	same(t, "an end of its own", get(t, db, app.ID, gone.ID), &batch[1])
}

// testFenceWaits sweeps while records are written: each is either refused, or closed.
func testFenceWaits(t *testing.T, db store.DB) {
	app := seed(t, db)
	dead := claim(t, db, "dead")
	var written []store.Record
	var wg sync.WaitGroup
	started := make(chan struct{})
	wg.Go(func() {
		for i := range 2000 {
			rec := record(app, 1000)
			rec.Incarnation = dead
			err := db.Records().Write(t.Context(), []store.Record{rec}, nil)
			if errors.Is(err, store.ErrLeaseLost) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			written = append(written, rec)
			if i == 10 {
				close(started)
			}
		}
		t.Error("it was never refused")
	})
	<-started
	sweep(t, db, "dead", claim(t, db, "dead"), lapse)
	wg.Wait()
	for _, rec := range written {
		if got := get(t, db, app.ID, rec.ID); got == nil || got.EndReason != api.EndServerStopped {
			t.Fatalf("acknowledged, and left as %+v", got)
		}
	}
}

func testSweepMany(t *testing.T, db store.DB) {
	const many = 1100 // more than one transaction
	app := store.Application{ID: api.NewID[api.Application](), Organization: api.NewID[api.Organization]()}
	first := claim(t, db, "a")
	var batch []store.Record
	for range many {
		rec := record(app, 1000)
		rec.Incarnation = first
		batch = append(batch, rec)
	}
	fatal(t, db.Records().Write(t.Context(), batch, nil))
	same(t, "closed", sweep(t, db, "a", claim(t, db, "a"), lapse), many)
	n, err := db.Records().CountEnded(t.Context(), app.ID, 0)
	fatal(t, err)
	same(t, "ended", n, many)
}

func testSweepConcurrent(t *testing.T, db store.DB) {
	dead := claim(t, db, "dead")
	for range 20 {
		openOn(t, db, dead, 1000)
	}
	later(t, db, 20*time.Millisecond)
	var mu sync.Mutex
	total := 0
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		inc := claim(t, db, name)
		wg.Go(func() {
			n, err := db.Nodes().Sweep(t.Context(), name, inc, 15*time.Millisecond)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	wg.Wait()
	same(t, "closed by all together", total, 20)
}

// testLiving: who was swept, or has not been seen for long, is not among the living; of two incarnations the newer is.
func testLiving(t *testing.T, db store.DB) {
	claim(t, db, "a")
	a, b := claim(t, db, "a"), claim(t, db, "b")
	living, err := db.Nodes().Living(t.Context(), lapse)
	fatal(t, err)
	if living["a"] != a || living["b"] != b || len(living) != 3 { // and the one that every test has
		t.Errorf("living: %v, want a %d and b %d", living, a, b)
	}
	later(t, db, 20*time.Millisecond)
	fatal(t, db.Nodes().Beat(t.Context(), "a", a))
	if living, err = db.Nodes().Living(t.Context(), 10*time.Millisecond); err != nil || living["b"] != 0 {
		t.Errorf("b was silent: %v, %v", living, err)
	}
	later(t, db, 20*time.Millisecond)
	fatal(t, db.Nodes().Beat(t.Context(), "a", a))
	sweep(t, db, "a", a, 10*time.Millisecond)
	if living, err = db.Nodes().Living(t.Context(), lapse); err != nil || len(living) != 1 || living["a"] != a {
		t.Errorf("after a sweep: %v, %v", living, err)
	}
}

func testRelease(t *testing.T, db store.DB) {
	stopped, other := claim(t, db, "a"), claim(t, db, "b")
	left := openOn(t, db, stopped, 1000)
	before := now(t, db)
	for range 2 {
		fatal(t, db.Nodes().Release(t.Context(), stopped))
	}
	living, err := db.Nodes().Living(t.Context(), lapse)
	fatal(t, err)
	if _, there := living["a"]; there || living["b"] != other {
		t.Errorf("who lives: %v", living)
	}
	if err := db.Nodes().Beat(t.Context(), "a", stopped); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a released incarnation beats: %v", err)
	}
	if err := db.Records().Write(t.Context(), []store.Record{left}, nil); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a released incarnation writes: %v", err)
	}
	same(t, "what it left open", sweep(t, db, "b", other, lapse), 1)
	closed(t, db, left, api.EndNodeLost, before, now(t, db))
	fatal(t, db.Nodes().Beat(t.Context(), "b", other))
}
