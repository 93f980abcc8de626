package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rollcallhq/rollcall/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a registry with one application, whose sessions are numbered in the order in which they connect.
type world struct {
	*Registry
	opened int
}

func newWorld() *world { return newTunedWorld(defaultTuning) }

func newTunedWorld(tuning tuning) *world {
	w := &world{Registry: New(Config{})}
	w.tuning = tuning
	w.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive}, 0)
	return w
}

func (w *world) row(i int) Row {
	return Row{
		Organization: testOrganization(0),
		Application:  testApplication(0),
		Session:      testSession(i),
		ServerID:     api.NewServerID("srv-01", testSession(i)),
		CreatedAt:    api.Millis(1_000_000 + i),
		IP:           "203.0.113.10",
		ClientID:     testSession(i).String(),
	}
}

func (w *world) open(n int) {
	for range n {
		w.opened++
		if err := w.Insert(w.row(w.opened), Unlimited); err != nil {
			panic(err)
		}
	}
}

func (w *world) query(page, size int) Query {
	return Query{Organization: testOrganization(0), Application: testApplication(0), Page: page, PageSize: size}
}

// reader follows a watch in a goroutine of its own and notes when each step came.
type reader struct {
	client
	mu     sync.Mutex      // for a test that looks while time goes on
	times  []time.Duration // since start, per step
	deltas []*Delta
	err    error
	done   chan struct{}
}

func follow(ctx context.Context, w *world, q Query) *reader {
	r := &reader{client: client{query: q.normalized()}, done: make(chan struct{})}
	r.view, r.watch = w.Watch(q)
	start := time.Now()
	go func() {
		defer close(r.done)
		for {
			d, err := r.watch.Next(ctx)
			if err == nil {
				err = r.apply(d)
			}
			if err != nil {
				r.err = err
				return
			}
			r.mu.Lock()
			r.times, r.deltas = append(r.times, time.Since(start)), append(r.deltas, d)
			r.mu.Unlock()
		}
	}()
	return r
}

func (r *reader) steps() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times)
}

// stop closes the watch and returns when the reader has ended as it should.
func (r *reader) stop(t *testing.T) {
	t.Helper()
	r.watch.Close()
	<-r.done
	if !errors.Is(r.err, ErrGone) {
		t.Fatalf("after Close: %v", r.err)
	}
}

func (r *reader) wantTimes(t *testing.T, want ...time.Duration) {
	t.Helper()
	if diff := cmp.Diff(want, r.times); diff != "" {
		t.Fatalf("steps came at other times (-want +got):\n%s", diff)
	}
}

const ms = time.Millisecond

func TestNextComesAtOnceWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := follow(t.Context(), w, w.query(1, 10))
		for range 3 {
			time.Sleep(time.Second)
			w.open(1)
		}
		synctest.Wait()
		r.wantTimes(t, 1000*ms, 2000*ms, 3000*ms)
		r.stop(t)
	})
}

func TestG2NextIsPacedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := follow(t.Context(), w, w.query(1, 50))
		for range 40 { // 10 of 50 rows a flush
			w.open(1)
			time.Sleep(5 * ms)
		}
		time.Sleep(time.Second)
		w.open(1)
		synctest.Wait()
		r.wantTimes(t, 0, 50*ms, 100*ms, 150*ms, 200*ms, 1200*ms)
		r.stop(t)
	})
}

func TestG2PauseStretchesWhileMostOfThePageChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := follow(t.Context(), w, w.query(1, 4))
		for range 2300 { // every flush replaces the page
			w.open(1)
			time.Sleep(ms)
		}
		// What comes now is one row a flush: the pauses halve.
		synctest.Wait()
		for r.steps() < 13 {
			n := r.steps()
			w.open(1)
			for r.steps() == n {
				time.Sleep(500 * time.Microsecond)
				synctest.Wait()
			}
		}
		r.wantTimes(t, 0, 50*ms, 150*ms, 350*ms, 750*ms, 1250*ms, 1750*ms, 2250*ms, 2750*ms,
			3250*ms, 3500*ms, 3625*ms, 3687500*time.Microsecond)
		time.Sleep(10 * time.Second)
		w.open(1)
		synctest.Wait()
		if got := r.times[len(r.times)-1]; got != 13687500*time.Microsecond {
			t.Fatalf("a quiet change came at %v", got)
		}
		r.stop(t)
	})
}

// A page that changes whole, but seldom, is quiet: its next changes do not wait for what a storm would.
func TestPauseForgetsWhatIsLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := follow(t.Context(), w, w.query(1, 1))
		var want []time.Duration
		for i := range 5 {
			began := time.Duration(i) * time.Second
			w.open(1)
			time.Sleep(10 * ms)
			w.open(1)
			time.Sleep(990 * ms)
			want = append(want, began, began+50*ms)
		}
		synctest.Wait()
		r.wantTimes(t, want...)
		r.stop(t)
	})
}

func TestG2LateReaderGetsOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.open(30)
		q := w.query(2, 10)
		prompt := follow(t.Context(), w, q)
		late := client{query: q}
		late.view, late.watch = w.Watch(q)
		for i := range 4000 {
			w.open(1)
			w.Remove(testApplication(0), w.row(w.opened-i%40).ServerID)
			time.Sleep(5 * ms)
		}
		time.Sleep(time.Second)
		start := time.Now()
		d, err := late.watch.Next(t.Context())
		if err != nil || time.Since(start) != 0 {
			t.Fatalf("the step came with %v after %v", err, time.Since(start))
		}
		if err := late.apply(d); err != nil {
			t.Fatal(err)
		}
		if err := late.check(w.List(q)); err != nil {
			t.Fatal(err)
		}
		if d := late.watch.Poll(); d != nil {
			t.Fatalf("there is another step: %+v", d)
		}
		synctest.Wait()
		if err := prompt.check(w.List(q)); err != nil {
			t.Fatal(err)
		}
		late.watch.Close()
		prompt.stop(t)
	})
}

func TestWatchersShareStepsAndTheirEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.open(5)
		q := w.query(1, 10)
		var readers []*reader
		for i := range 20 {
			q.PageSize = []int{10, 0}[i%2] // the default: the same query
			readers = append(readers, follow(t.Context(), w, q))
		}
		if s := w.Stats(); s.LiveQueries != 1 || s.Watchers != 20 {
			t.Fatalf("stats %+v", s)
		}
		for range 100 {
			w.open(1)
			time.Sleep(30 * ms)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		calls := 0
		for _, r := range readers {
			if err := r.check(w.List(q)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.deltas, readers[0].deltas) {
				t.Fatal("watchers of one query were given different deltas")
			}
			for _, d := range r.deltas {
				d.Encoded(func(*Delta) []byte { calls++; return []byte("x") })
			}
			r.stop(t)
		}
		if calls != len(readers[0].deltas) || calls == 0 {
			t.Fatalf("%d deltas were encoded %d times", len(readers[0].deltas), calls)
		}
	})
}

// A flush in which nothing shows does not take the step before it from those who have yet to take it.
func TestStepIsSharedAcrossAnEmptyFlush(t *testing.T) {
	w := newWorld()
	w.open(1)
	q := w.query(1, 10)
	_, first := w.Watch(q)
	_, second := w.Watch(q)
	w.open(1)
	d := first.Poll()
	row := w.row(1)
	for _, row.Login = range []string{"x", ""} {
		if err := w.Update(row, Unlimited); err != nil {
			t.Fatal(err)
		}
	}
	if d := first.Poll(); d != nil {
		t.Fatalf("%+v", d)
	}
	if got := second.Poll(); got != d || d == nil {
		t.Fatalf("%p, want %p", got, d)
	}
}

func TestUpdateShowsWhatRowsShow(t *testing.T) {
	w := newWorld()
	w.open(1)
	_, watch := w.Watch(w.query(1, 10))
	defer watch.Close()
	for name, c := range map[string]struct {
		change func(*Row)
		shows  bool
	}{
		"ip":         {func(r *Row) { r.IP = "::1" }, true},
		"clientId":   {func(r *Row) { r.ClientID = "client-001" }, true},
		"login":      {func(r *Row) { r.Login = "x" }, true},
		"license":    {func(r *Row) { r.License = "x" }, true},
		"authorized": {func(r *Row) { r.Authorized = true }, false},
		"expiry":     {func(r *Row) { r.TokenExpiresAt = 1 }, false},
		"credential": {func(r *Row) { r.Credential = Credential{Kind: CredentialRollcall, Epoch: 7} }, false},
		"created":    {func(r *Row) { r.CreatedAt++ }, false}, // cannot change
	} {
		row := w.row(1)
		c.change(&row)
		if err := w.Update(row, Unlimited); err != nil {
			t.Fatal(err)
		}
		if d := watch.Poll(); (d != nil) != c.shows {
			t.Errorf("%s: %+v", name, d)
		}
		_ = w.Update(w.row(1), Unlimited)
		watch.Poll()
	}
}

// A newcomer's view is the page now, although those who watch already wait for their pace; neither is led astray by the other,
// not even when the page returns to what it was in between.
func TestEnrolmentBetweenFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.open(3)
		q := w.query(1, 10)
		first := follow(t.Context(), w, q)
		first.check(w.List(q))
		touched := w.row(2)
		set := func(login string) {
			touched.Login = login
			if err := w.Update(touched, Unlimited); err != nil {
				t.Fatal(err)
			}
		}
		set("a")
		synctest.Wait()
		first.wantTimes(t, 0)
		set("b")
		second := follow(t.Context(), w, q)
		if got := *second.view.Items[1].Login; got != "b" {
			t.Fatalf("the newcomer sees %q", got)
		}
		set("a")
		time.Sleep(time.Second)
		synctest.Wait()
		first.wantTimes(t, 0)
		second.wantTimes(t, 50*ms)
		for _, r := range []*reader{first, second} {
			if err := r.check(w.List(q)); err != nil {
				t.Fatal(err)
			}
			r.stop(t)
		}
	})
}

func TestNextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		r := follow(ctx, w, w.query(1, 10))
		synctest.Wait()
		cancel()
		<-r.done
		if !errors.Is(r.err, context.Canceled) {
			t.Fatalf("after cancel: %v", r.err)
		}
		w.open(1)
		if _, err := r.watch.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Next on an ended context: %v", err)
		}
		if d, err := r.watch.Next(t.Context()); err != nil || len(d.Added) != 1 {
			t.Fatalf("an ended context lost a step: %+v, %v", d, err)
		}
		w.open(1) // within the pause: Next waits for its end
		go func() { time.Sleep(10 * ms); r.watch.Close() }()
		if _, err := r.watch.Next(t.Context()); !errors.Is(err, ErrGone) {
			t.Fatalf("after Close: %v", err)
		}
		if r.watch.Poll() != nil {
			t.Fatal("Poll after Close")
		}
		follow(t.Context(), w, w.query(1, 10)).stop(t)
		if s := w.Stats(); s.LiveQueries != 0 || s.Watchers != 0 {
			t.Fatalf("stats %+v", s)
		}
	})
}

// Cost follows from what is marked: a change that cannot show leaves a live query asleep.
func TestChangeMarksOnlyWhatItCanShow(t *testing.T) {
	for _, totals := range []bool{false, true} {
		w := newWorld()
		w.opened = 100
		w.open(9) // 101…109; pages of 2: 109 108 | 107 106 | 105 104 | …
		q := w.query(2, 2)
		q.Totals = totals
		_, watch := w.Watch(q)
		q.Search, q.Categories = "found", License
		_, search := w.Watch(q)
		update := func(i int, change func(*Row)) func() {
			return func() {
				row := w.row(i)
				change(&row)
				if err := w.Update(row, Unlimited); err != nil {
					t.Fatal(err)
				}
			}
		}
		insert := func(i int) func() {
			return func() {
				if err := w.Insert(w.row(i), Unlimited); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, step := range []struct {
			name  string
			do    func()
			dirty bool
		}{
			{"update before the page", update(109, func(r *Row) { r.Login = "x" }), false},
			{"update after the page", update(104, func(r *Row) { r.Login = "x" }), false},
			{"update on the page", update(107, func(r *Row) { r.Login = "x" }), true},
			{"update on the page that does not show", update(107, func(r *Row) { r.Login, r.TokenExpiresAt = "x", 5 }), false},
			{"activity on the page", func() { w.Touch(testApplication(0), w.row(107).ServerID, 9) }, false},
			{"insertion after the page", insert(50), totals},
			{"removal after the page", func() { w.Remove(testApplication(0), w.row(50).ServerID) }, totals},
			{"authorization off the page", update(103, func(r *Row) { r.Authorized = true }), totals},
			{"removal before the page", func() { w.Remove(testApplication(0), w.row(109).ServerID) }, true},
			{"insertion at the front", insert(110), true},
			{"known connection time", func() {
				w.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive}, 5)
			}, false},
			{"later connection time", func() {
				w.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive}, 5_000_000)
			}, true},
		} {
			watch.Poll()
			if step.do(); watch.query.dirty != step.dirty {
				t.Errorf("totals=%v, %s: marked %v", totals, step.name, watch.query.dirty)
			}
			search.Poll()
		}
		if update(107, func(r *Row) { r.Login = "y" })(); search.query.dirty {
			t.Errorf("totals=%v: a row that is not found marks a search", totals)
		}
		if update(107, func(r *Row) { r.License = "Found" })(); search.query.dirty != totals {
			t.Errorf("totals=%v: a first match marks the second page: %v", totals, search.query.dirty)
		}
		watch.Close()
		search.Close()
	}
}

// TestG1UnderConcurrency lets writers, readers, newcomers and slow readers loose at the same time; once it is quiet each holds
// what the list returns.
func TestG1UnderConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		r.tuning = tuning{margin: 4, blockBits: 3, few: 10}
		for app := range 2 {
			r.SetApplication(testOrganization(0), testApplication(app), Gate{State: api.ApplicationActive}, 0)
		}
		var writers, readers sync.WaitGroup
		quiet := make(chan struct{})
		for seed := range 4 {
			writers.Go(func() { write(r, seed) })
		}
		for seed := range 24 {
			readers.Go(func() {
				if err := watchUntil(r, seed, quiet); err != nil {
					t.Errorf("reader %d: %v", seed, err)
				}
			})
		}
		writers.Wait()
		close(quiet)
		readers.Wait()
	})
}

// write opens, changes and ends sessions of its own for two seconds.
func write(r *Registry, seed int) {
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	live := []Row{}
	for i := range 2000 {
		row := Row{
			Organization: testOrganization(0), Application: testApplication(random.IntN(2)), Session: testSession(seed*10_000 + i),
			CreatedAt: api.Millis(1000 + i/8), IP: fmt.Sprintf("203.0.113.%d", random.IntN(100)), ClientID: "client",
			License: fmt.Sprintf("LIC-%d", random.IntN(30)), Authorized: random.IntN(2) == 0,
		}
		row.ServerID = api.NewServerID("srv-01", row.Session)
		if r.Insert(row, 50) == nil {
			live = append(live, row)
		}
		if len(live) > 0 && random.IntN(2) == 0 {
			row := &live[random.IntN(len(live))]
			row.License, row.Authorized = fmt.Sprintf("lic-%d", random.IntN(30)), !row.Authorized
			_ = r.Update(*row, 50)
			r.Touch(row.Application, row.ServerID, api.Millis(5000+i))
		}
		if n := len(live); n > 30 || n > 0 && random.IntN(2) == 0 {
			j := random.IntN(n)
			r.Remove(live[j].Application, live[j].ServerID)
			live = slices.Delete(live, j, j+1)
		}
		if i%4 == 0 {
			time.Sleep(4 * ms)
		}
	}
}

// watchUntil watches one query after another, at its own speed, until it is quiet, and then compares.
func watchUntil(r *Registry, seed int, quiet <-chan struct{}) error {
	random := rand.New(rand.NewPCG(uint64(seed), 2))
	for {
		q := Query{
			Organization: testOrganization(0), Application: testApplication(random.IntN(2)),
			Search:     []string{"", "", "lic-1", "LIC-2", "9", "203.0.113.7"}[random.IntN(6)],
			Categories: License | IP, Page: 1 + random.IntN(3), PageSize: 1 + random.IntN(12), Totals: random.IntN(2) == 0,
		}.normalized()
		view, watch := r.Watch(q)
		c := client{query: q, watch: watch, view: view}
		over, err := c.follow(random, quiet, 5+random.IntN(60))
		if err == nil && over {
			err = c.check(r.List(q))
		}
		watch.Close()
		if over || err != nil {
			return err
		}
	}
}

// follow takes a number of steps, or all that there are once it is quiet.
func (c *client) follow(random *rand.Rand, quiet <-chan struct{}, steps int) (over bool, err error) {
	for range steps {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		d, err := c.watch.Next(ctx)
		cancel()
		select {
		case <-quiet:
			over = true
		default:
		}
		if err == nil {
			err = c.apply(d)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return over, err
		}
		if over {
			break
		}
		time.Sleep([]time.Duration{0, 0, 0, 20 * ms, 700 * ms}[random.IntN(5)])
	}
	for over {
		d := c.watch.Poll()
		if d == nil {
			break
		}
		if err := c.apply(d); err != nil {
			return over, err
		}
	}
	return over, nil
}
