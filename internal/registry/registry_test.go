package registry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// TestG1PageAndDeltasAreAFreshPage drives random sessions, gates, queries and slow readers against the naive model.
func TestG1PageAndDeltasAreAFreshPage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") })
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			m.step()
		}
		m.finish()
	})
}

// TestG1InLongPrograms goes where short programs do not: pages that fill and empty many times.
func TestG1InLongPrograms(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 0))
		m := newMachine(t, random.IntN)
		for range 3000 {
			m.step()
		}
		m.finish()
	}
}

// FuzzProgram reads its decisions from the input; what is missing is zero.
func FuzzProgram(f *testing.F) {
	random := rand.NewChaCha8([32]byte{})
	for _, n := range []int{10, 100, 1000} {
		program := make([]byte, n)
		_, _ = random.Read(program)
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		m := newMachine(t, func(n int) int {
			if len(program) == 0 {
				return 0
			}
			b := program[0]
			program = program[1:]
			return int(b) % n
		})
		for len(program) > 0 {
			m.step()
		}
		m.finish()
	})
}

func TestG4DoorJudgesCredentials(t *testing.T) {
	none := Credential{}
	rollcall := func(epoch uint64) Credential { return Credential{Kind: CredentialRollcall, Epoch: epoch} }
	foreign := func(iat api.Millis) Credential { return Credential{Kind: CredentialForeign, IssuedAt: iat} }
	active := Gate{State: api.ApplicationActive, Epoch: 3, RevokedAt: 5500}
	for _, c := range []struct {
		name       string
		gate       Gate
		credential Credential
		want       error
	}{
		{"publishable key", active, none, nil},
		{"token of the epoch", active, rollcall(3), nil},
		{"token of a later epoch", active, rollcall(4), nil},
		{"token of an earlier epoch", active, rollcall(2), ErrRevoked},
		{"foreign token of the second before", active, foreign(4000), ErrRevoked},
		{"foreign token of the same second", active, foreign(5000), ErrRevoked},
		{"foreign token later in the same second", active, foreign(5999), ErrRevoked},
		{"foreign token of the next second", active, foreign(6000), nil},
		{"foreign token, never revoked", Gate{State: api.ApplicationActive}, foreign(0), nil},
		{"paused", Gate{State: api.ApplicationPaused}, none, ErrPaused},
		{"archived", Gate{State: api.ApplicationArchived, Epoch: 9}, rollcall(1), ErrArchived},
		{"no state", Gate{}, none, ErrPaused},
	} {
		w := &world{Registry: New(Config{})}
		app, row := testApplication(0), w.row(1)
		row.Credential = c.credential
		w.SetApplication(testOrganization(0), app, c.gate, 0)
		if err := w.Insert(row, Unlimited); !errors.Is(err, c.want) {
			t.Errorf("%s: Insert: %v, want %v", c.name, err, c.want)
		}
		// An update is judged alike, and a refused one changes nothing.
		w = newWorld()
		w.open(1)
		w.SetApplication(testOrganization(0), app, c.gate, 0)
		row.Login = "new"
		if err := w.Update(row, Unlimited); !errors.Is(err, c.want) {
			t.Errorf("%s: Update: %v, want %v", c.name, err, c.want)
		}
		if got, _ := w.Get(app, row.Session); (got.Login == "new") != (c.want == nil) {
			t.Errorf("%s: after Update the row is %+v", c.name, got)
		}
	}
}

func TestG4RaiseCollectsWhatWasIn(t *testing.T) {
	w := newWorld()
	org, app := testOrganization(0), testApplication(0)
	set := func(gate Gate, want ...int) {
		t.Helper()
		var got, ids []api.ServerID
		for _, row := range w.SetApplication(org, app, gate, 0) {
			got = append(got, row.ServerID)
		}
		for _, i := range want {
			ids = append(ids, w.row(i).ServerID)
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Fatalf("gate %+v (-want +got):\n%s", gate, diff)
		}
	}
	insert := func(i int, c Credential) {
		t.Helper()
		row := w.row(i)
		row.Credential = c
		if err := w.Insert(row, Unlimited); err != nil {
			t.Fatal(err)
		}
	}
	active := func(epoch uint64) Gate { return Gate{State: api.ApplicationActive, Epoch: epoch, RevokedAt: 1000} }

	insert(1, Credential{})
	insert(2, Credential{Kind: CredentialRollcall, Epoch: 0})
	insert(3, Credential{Kind: CredentialForeign, IssuedAt: 9000}) // by a clock that is ahead
	insert(4, Credential{Kind: CredentialRollcall, Epoch: 1})      // of a revocation that has yet to arrive here
	set(active(0))
	set(active(1), 1, 2, 3)
	set(active(1), 1, 2, 3) // until they are removed
	set(active(0), 1, 2, 3) // the epoch does not fall

	renewed := w.row(2)
	renewed.Credential = Credential{Kind: CredentialRollcall, Epoch: 1}
	if err := w.Update(renewed, Unlimited); err != nil {
		t.Fatal(err)
	}
	set(active(1), 1, 2, 3) // it was opened before, whatever it presented since
	insert(5, Credential{})
	insert(6, Credential{Kind: CredentialForeign, IssuedAt: 2000})
	set(active(1), 1, 2, 3)
	for i := range 3 {
		w.Remove(app, w.row(i+1).ServerID)
	}
	set(active(1))
	set(Gate{State: api.ApplicationPaused}, 4, 5, 6)
	set(active(2), 4, 5, 6)
}

// Nothing that was verified before a revocation slips in beside it: it is collected or refused.
func TestG4NothingSlipsPastTheRaise(t *testing.T) {
	for round := range 50 {
		w := newWorld()
		var inserted sync.Map
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 20 {
					row := w.row(g*100 + i)
					row.Credential = Credential{Kind: CredentialRollcall}
					if err := w.Insert(row, Unlimited); err == nil {
						inserted.Store(row.ServerID, true)
					} else if !errors.Is(err, ErrRevoked) {
						t.Error(err)
					}
				}
			})
		}
		collected := w.SetApplication(testOrganization(0), testApplication(0), Gate{State: api.ApplicationActive, Epoch: 1}, 0)
		wg.Wait()
		for _, row := range collected {
			if _, ok := inserted.LoadAndDelete(row.ServerID); !ok {
				t.Fatalf("round %d: %s was collected but not inserted", round, row.ServerID)
			}
		}
		inserted.Range(func(id, _ any) bool {
			t.Fatalf("round %d: %s slipped in", round, id)
			return false
		})
	}
}

func TestQuotaIsTheOrganizations(t *testing.T) {
	w := newWorld()
	w.SetApplication(testOrganization(0), testApplication(1), Gate{State: api.ApplicationActive}, 0)
	w.SetApplication(testOrganization(1), testApplication(2), Gate{State: api.ApplicationActive}, 0)
	row := func(i, org, app int, authorized bool) Row {
		row := w.row(i)
		row.Organization, row.Application, row.Authorized = testOrganization(org), testApplication(app), authorized
		return row
	}
	for _, c := range []struct {
		name string
		do   func(Row, int) error
		row  Row
		max  int
		want error
	}{
		{"none left", w.Insert, row(1, 0, 0, true), 0, ErrQuota},
		{"first", w.Insert, row(1, 0, 0, true), 2, nil},
		{"second, in another application", w.Insert, row(2, 0, 1, true), 2, nil},
		{"third", w.Insert, row(3, 0, 0, true), 2, ErrQuota},
		{"another organization", w.Insert, row(3, 1, 2, true), 1, nil},
		{"unauthorized", w.Insert, row(4, 0, 0, false), 0, nil},
		{"upgrade", w.Update, row(4, 0, 0, true), 2, ErrQuota},
		{"renewal, on a plan that has shrunk", w.Update, row(2, 0, 1, true), 1, nil},
		{"downgrade", w.Update, row(1, 0, 0, false), 0, nil},
		{"upgrade into the free place", w.Update, row(4, 0, 0, true), 2, nil},
		{"unlimited", w.Insert, row(5, 0, 0, true), Unlimited, nil},
		{"there already", w.Insert, row(5, 0, 0, true), Unlimited, ErrExists},
		{"application never set", w.Insert, row(6, 0, 5, false), Unlimited, ErrGone},
		{"another organization's application", w.Insert, row(6, 1, 0, false), Unlimited, ErrGone},
		{"no such row", w.Update, row(6, 0, 0, false), Unlimited, ErrGone},
		{"update of an application never set", w.Update, row(5, 0, 5, false), Unlimited, ErrGone},
	} {
		if err := c.do(c.row, c.max); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if n := w.Authorized(testOrganization(0)); n != 3 {
		t.Errorf("%d authorized rows", n)
	}
	for _, id := range []api.ServerID{"", ":", "srv-01", "srv-01:", "srv-01:session-abc", w.row(8).ServerID, w.row(9).ServerID + "0"} {
		row := w.row(9)
		row.ServerID = id
		if err := w.Insert(row, Unlimited); !errors.Is(err, ErrServerID) {
			t.Errorf("server id %q: %v", id, err)
		}
		if _, ok := w.Remove(testApplication(0), id); ok {
			t.Errorf("server id %q was removed", id)
		}
	}
}

// The same session id under another node's name is another server id, and not there.
func TestServerIDIsComparedWhole(t *testing.T) {
	w := newWorld()
	w.open(1)
	if _, ok := w.Remove(testApplication(0), api.NewServerID("srv-02", testSession(1))); ok {
		t.Fatal("removed by another node's server id")
	}
}

func TestG8OtherOrganizationsSeeNothing(t *testing.T) {
	w := newWorld()
	w.open(3)
	q := w.query(1, 10)
	q.Organization = testOrganization(1)
	want := api.View{Items: []api.Row{}, Page: 1, PageSize: 10}
	view, watch := w.Watch(q)
	defer watch.Close()
	for _, got := range []api.View{w.List(q), view} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("another organization sees:\n%s", diff)
		}
	}
	if w.open(1); watch.Poll() != nil {
		t.Error("another organization's watcher sees a change")
	}
}

func TestUnknownApplicationIsEmpty(t *testing.T) {
	r := New(Config{})
	app := testApplication(0)
	if rows := r.Sessions(app, nil, 10, RangeAll, 0); len(rows) != 0 {
		t.Error(rows)
	}
	if live, active, idle := r.Counts(app, 0, 0); live+active+idle != 0 {
		t.Error(live, active, idle)
	}
	if _, ok := r.Get(app, testSession(0)); ok {
		t.Error("Get")
	}
	if _, ok := r.Remove(app, "srv:x"); ok {
		t.Error("Remove")
	}
	r.Touch(app, "srv:x", 1)
	if view := r.List(Query{Application: app}); view.Items == nil || view.Total != 0 {
		t.Errorf("%+v", view)
	}
	// Who watches it before it is known sees it come to life.
	_, watch := r.Watch(Query{Organization: testOrganization(0), Application: app})
	defer watch.Close()
	r.SetApplication(testOrganization(0), app, Gate{State: api.ApplicationActive}, 7)
	if d := watch.Poll(); d == nil || *d.LastConnection != 7 {
		t.Errorf("%+v", d)
	}
	r.Connected(map[api.ApplicationID]api.Millis{app: 9, testApplication(1): 9})
	if d := watch.Poll(); d == nil || *d.LastConnection != 9 {
		t.Errorf("%+v", d)
	}
	r.Connected(map[api.ApplicationID]api.Millis{app: 8})
	if d := watch.Poll(); d != nil {
		t.Errorf("it was lowered: %+v", d)
	}
	if all := r.LastConnections(); len(all) != 1 || all[app] != 9 {
		t.Errorf("%v", all)
	}
}

func TestDerivedStatus(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want api.DerivedStatus
	}{
		{Row{LastActiveAt: 9_001}, api.DerivedActive},
		{Row{LastActiveAt: 9_000}, api.DerivedIdle},
		{Row{CreatedAt: 9_500}, api.DerivedActive},
		{Row{LastActiveAt: 9_500, TokenExpiresAt: 10_001}, api.DerivedActive},
		{Row{LastActiveAt: 9_500, TokenExpiresAt: 10_000}, api.DerivedExpired},
		{Row{TokenExpiresAt: 1}, api.DerivedExpired},
	} {
		if got := c.row.Derived(10_000, time.Second); got != c.want {
			t.Errorf("%+v: %s, want %s", c.row, got, c.want)
		}
	}
}

func TestFold(t *testing.T) {
	for _, class := range [][]string{
		{"s", "S", "ſ"}, {"k", "K", "K"}, {"ß", "ẞ"}, {"σ", "Σ", "ς"}, {"å", "Å", "Å"}, {"i", "I"}, {"İ"}, {"ı"}, {"é", "É"}, {"ss"},
		{"203.0.113.10"}, {"ABCDEF-123456", "abcdef-123456"}, {"%"}, {"_"}, {""}, {"\xff", "\xfe", "�"},
	} {
		for _, s := range class {
			for _, other := range class {
				if fold(s) != fold(other) {
					t.Errorf("%q and %q fold differently", s, other)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"ß", "ss"}, {"İ", "i"}, {"ı", "i"}, {"%", "x"}} {
		if fold(pair[0]) == fold(pair[1]) {
			t.Errorf("%q and %q fold alike", pair[0], pair[1])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.String().Draw(t, "a")
		b := strings.Map(func(r rune) rune { // a in other letters of the same folding, but for one now and then
			for range rapid.IntRange(0, 3).Draw(t, "turns") {
				r = unicode.SimpleFold(r)
			}
			if rapid.IntRange(0, 30).Draw(t, "other") == 0 {
				r++
			}
			return r
		}, a)
		if (fold(a) == fold(b)) != strings.EqualFold(a, b) {
			t.Fatalf("fold(%q) = %q, fold(%q) = %q", a, fold(a), b, fold(b))
		}
	})
}

func TestQueryIsNormalized(t *testing.T) {
	for _, c := range []struct{ in, want Query }{
		{Query{}, Query{Page: 1, PageSize: 10}},
		{Query{Page: -1, PageSize: -1, Categories: IP}, Query{Page: 1, PageSize: 10}},
		{Query{Page: 3, PageSize: 51, Search: "K", Categories: 255}, Query{Page: 3, PageSize: 50, Search: "k", Categories: 7}},
		{Query{Page: math.MaxInt, PageSize: 50, Search: "a"}, Query{Page: math.MaxInt, PageSize: 50, Search: "a", Categories: License}},
	} {
		if got := c.in.normalized(); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.in, got, c.want)
		}
		if from, to := c.want.window(5); from > to || to > 5 {
			t.Errorf("%+v: window %d to %d", c.want, from, to)
		}
	}
}

// A watched search keeps a bounded part of its matches, however many there are and wherever they come and go (G2).
func TestG2RunStaysBounded(t *testing.T) {
	for page := range 6 {
		w := newTunedWorld(tuning{margin: 20, blockBits: 4})
		w.open(1000)
		q := w.query(page, 10)
		q.Search, q.Categories = "203", IP
		_, watch := w.Watch(q)
		run := watch.query.found
		for i := range 3000 {
			w.open(1)
			if i%3 == 0 {
				row := w.row(i + 1)
				w.Remove(row.Application, row.ServerID)
			}
			if i%500 == 0 {
				watch.Poll()
			}
			if n := len(run.rows); n > 4*20+2*10+1 || cap(run.rows) > 300 {
				t.Fatalf("page %d: after %d changes the run holds %d rows, room for %d", page, i, n, cap(run.rows))
			}
		}
		if run.count != w.Stats().Sessions {
			t.Fatalf("page %d: %d matches counted, of %d", page, run.count, w.Stats().Sessions)
		}
		watch.Close()
	}
}

// What leaves gives its memory back: maps do not outlive their rows.
func TestEmptyApplicationIsSmall(t *testing.T) {
	w := newWorld()
	w.open(100)
	for i := range 100 {
		w.Remove(testApplication(0), w.row(i+1).ServerID)
	}
	a := w.applications[testApplication(0)]
	if got := fmt.Sprint(a.rows.sessions.buckets == nil, a.entered == nil, a.queries == nil, len(a.rows.slots.blocks), a.rows.order.Height()); got != "true true true 0 0" {
		t.Fatal(got)
	}
}
