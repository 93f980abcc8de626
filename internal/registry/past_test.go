package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// life is what a session was, in a model: texts by the millisecond from which it had them.
type life struct {
	row   Row
	own   bool
	since []api.Millis
	was   []Row
}

// found tells whether a search finds what the session was at the end of a millisecond.
func (l *life) found(q Query, at api.Millis) bool {
	if l.row.CreatedAt > at {
		return false
	}
	i := len(l.since) - 1
	for i > 0 && l.since[i] > at {
		i--
	}
	row := l.was[i]
	for category, text := range map[Categories]string{License: row.License, IP: row.IP, ClientID: row.ClientID} {
		if q.Search == "" || q.Categories&category != 0 && strings.Contains(strings.ToLower(text), strings.ToLower(q.Search)) {
			return true
		}
	}
	return false
}

// TestMatchingIsExact: whatever sessions change into and back, Matching finds those that match at both moments, and no other. It is
// asked about the past, with and without an index, and about rows that were replaced for other reasons.
func TestMatchingIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := api.Millis(1_000_000)
		r := New(Config{Now: func() time.Time { return now.Time() }})
		r.tuning.blockBits, r.tuning.indexFrom, r.tuning.few = 4, rapid.SampledFrom([]int{4, 1000}).Draw(t, "index"), rapid.IntRange(0, 4).Draw(t, "few")
		org, app := api.NewID[api.Organization](), api.NewID[api.Application]()
		r.SetApplication(org, app, Gate{State: api.ApplicationActive}, 0)
		words := []string{"", "Alpha", "alphabet", "beta", "BE", "x"}
		word := rapid.SampledFrom(words)
		var lives []*life
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += api.Millis(rapid.IntRange(0, 2).Draw(t, "ms"))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				row := Row{Organization: org, Application: app, Session: api.NewSessionID(), CreatedAt: now, License: word.Draw(t, "license"),
					IP: "203.0.113.7", ClientID: word.Draw(t, "client")}
				row.ServerID = api.NewServerID("a", row.Session)
				l := &life{row: row, own: rapid.Bool().Draw(t, "own"), since: []api.Millis{now}, was: []Row{row}}
				if l.own {
					if err := r.Insert(row, Unlimited); err != nil {
						t.Fatal(err)
					}
				} else {
					r.Follow("b", []RowChange{{Kind: RowSet, Row: row}})
				}
				lives = append(lives, l)
			case 1, 2, 3:
				if len(lives) == 0 {
					continue
				}
				l := rapid.SampledFrom(lives).Draw(t, "changed")
				if !l.own || len(l.was) > maxPast {
					continue
				}
				switch rapid.IntRange(0, 2).Draw(t, "which") {
				case 0:
					l.row.License = word.Draw(t, "license")
				case 1:
					l.row.ClientID = word.Draw(t, "client")
				case 2:
					l.row.Login += "l" // which nothing finds
				}
				if err := r.Update(l.row, Unlimited); err != nil {
					t.Fatal(err)
				}
				l.since, l.was = append(l.since, now), append(l.was, l.row)
			case 4:
				if len(lives) > 0 && lives[0].own {
					r.Remove(app, lives[0].row.ServerID)
					lives = lives[1:]
				}
			}
		}
		for range 5 {
			q := Query{Organization: org, Application: app, Search: word.Draw(t, "search"),
				Categories: Categories(rapid.IntRange(1, 7).Draw(t, "categories"))}
			at := now - api.Millis(rapid.IntRange(-1, 20).Draw(t, "ago"))
			var want []api.ServerID
			all := 0
			for _, l := range lives {
				if l.found(q, now) && l.found(q, at) {
					all++
					if l.own {
						want = append(want, l.row.ServerID)
					}
				}
			}
			got, n := r.Matching(q, at)
			slices.Sort(got)
			slices.Sort(want)
			if n != all || !slices.Equal(got, want) {
				t.Fatalf("%q in %b at now-%d: %d %v, want %d %v", q.Search, q.Categories, now-at, n, got, all, want)
			}
		}
	})
}

// TestPastIsBounded: a row that changes without end remembers a bounded part, and forgets in the direction that ends nobody.
func TestPastIsBounded(t *testing.T) {
	now := api.Millis(1000)
	r := New(Config{Now: func() time.Time { return now.Time() }})
	org, app := api.NewID[api.Organization](), api.NewID[api.Application]()
	r.SetApplication(org, app, Gate{State: api.ApplicationActive}, 0)
	row := Row{Organization: org, Application: app, Session: api.NewSessionID(), CreatedAt: now, License: "key 0"}
	row.ServerID = api.NewServerID("a", row.Session)
	if err := r.Insert(row, Unlimited); err != nil {
		t.Fatal(err)
	}
	matching := func(search string, at api.Millis) int {
		_, n := r.Matching(Query{Organization: org, Application: app, Search: search}, at)
		return n
	}
	const changes = 40
	for i := range changes {
		now += 10
		row.License = fmt.Sprintf("key %d %s", i+1, strings.Repeat("ß", 20_000/(1+i%2*19_000))) // more than 64 KiB in all
		if err := r.Update(row, Unlimited); err != nil {
			t.Fatal(err)
		}
	}
	if matching("key", now) != 1 || matching("key", 1000) != 0 || matching("", 1000) != 1 || matching("", 999) != 0 {
		t.Error("it remembers what it cannot, or not what it can")
	}
	p, _ := r.applications[app].rows.find(row.Session)
	if past := p.past(); len(past) != maxPast || len(past[0].texts) == 0 || len(past[maxPast-1].texts) != 0 {
		t.Errorf("%d versions", len(past))
	}
	now -= 500 // a clock that is set back does not turn the order around
	row.License = "other"
	if err := r.Update(row, Unlimited); err != nil {
		t.Fatal(err)
	}
	p, _ = r.applications[app].rows.find(row.Session)
	if past := p.past(); past[0].until < past[1].until {
		t.Errorf("until %d, then %d", past[1].until, past[0].until)
	}
}

// TestAdoptedRowsMatch: of a row that was taken over from another node it is known since when searches find it as it is.
func TestAdoptedRowsMatch(t *testing.T) {
	r := New(Config{})
	org, app := api.NewID[api.Organization](), api.NewID[api.Application]()
	r.SetApplication(org, app, Gate{State: api.ApplicationActive}, 0)
	row := Row{Organization: org, Application: app, Session: api.NewSessionID(), CreatedAt: 1000, License: "key", FoundSince: 2000}
	row.ServerID = api.NewServerID("a", row.Session)
	if err := r.Insert(row, Unlimited); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[api.Millis]int{1500: 0, 1999: 0, 2000: 1, 3000: 1} {
		if _, n := r.Matching(Query{Organization: org, Application: app, Search: "key"}, at); n != want {
			t.Errorf("at %d: %d", at, n)
		}
	}
	if _, n := r.Matching(Query{Organization: api.NewID[api.Organization](), Application: app}, 3000); n != 0 {
		t.Error("found for another organization")
	}
}

func TestCreatedSince(t *testing.T) {
	r := New(Config{})
	org, app := api.NewID[api.Organization](), api.NewID[api.Application]()
	if live, since := r.CreatedSince(app, []api.Millis{0, 1}); live != 0 || !slices.Equal(since, []int{0, 0}) {
		t.Error(live, since)
	}
	r.SetApplication(org, app, Gate{State: api.ApplicationActive}, 0)
	for _, created := range []api.Millis{10, 20, 20, 30} {
		row := Row{Organization: org, Application: app, Session: api.NewSessionID(), CreatedAt: created}
		row.ServerID = api.NewServerID("a", row.Session)
		if err := r.Insert(row, Unlimited); err != nil {
			t.Fatal(err)
		}
	}
	if live, since := r.CreatedSince(app, []api.Millis{0, 10, 11, 20, 21, 30, 31}); live != 4 || !slices.Equal(since, []int{4, 4, 3, 3, 1, 1, 0}) {
		t.Error(live, since)
	}
}

// TestMatchingIsNoGuess: a row that has every three letters of the needle, but not the needle, is a candidate of the index and not ended,
// whether candidates are looked at one by one or met in the order.
func TestMatchingIsNoGuess(t *testing.T) {
	for _, few := range []int{0, 1000} {
		r := New(Config{})
		r.tuning.indexFrom, r.tuning.few = 4, few
		org, app := api.NewID[api.Organization](), api.NewID[api.Application]()
		r.SetApplication(org, app, Gate{State: api.ApplicationActive}, 0)
		var want []api.ServerID
		for i := range 400 {
			row := Row{Organization: org, Application: app, Session: api.NewSessionID(), CreatedAt: api.Millis(1000 + i),
				License: "other", ClientID: fmt.Sprintf("client %d", i)}
			row.ServerID = api.NewServerID("a", row.Session)
			switch i {
			case 100:
				row.License = "abcd-bcde"
			case 200:
				row.ClientID = "abcde" // in a category that is not searched
			case 300:
				row.License = "xabcdex"
				want = append(want, row.ServerID)
			}
			if err := r.Insert(row, Unlimited); err != nil {
				t.Fatal(err)
			}
		}
		if !r.applications[app].rows.slots.indexed() {
			t.Fatal("there is no index")
		}
		own, all := r.Matching(Query{Organization: org, Application: app, Search: "ABCDE", Categories: License}, 5000)
		if !slices.Equal(own, want) || all != len(want) {
			t.Errorf("few %d: %d %v, want %v", few, all, own, want)
		}
	}
}
