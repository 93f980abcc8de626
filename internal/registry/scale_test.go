package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/api"
)

// TestG1AtScale makes random changes to 100,000 rows under hundreds of live queries of all kinds, with the tuning that users have.
// Now and then some are polled, and held to the sorted, filtered and cut list of all rows.
func TestG1AtScale(t *testing.T) {
	rows, rounds := 100_000, 4
	if testing.Short() {
		rows = 10_000
	}
	w := benchWorld(rows)
	s := &scale{t: t, w: w, random: rand.New(rand.NewPCG(5, 6)), live: map[api.SessionID]Row{}}
	for i := range rows {
		row := benchRow(w, i+1)
		s.live[row.Session], s.at = row, append(s.at, row.Session)
	}
	for i := range 300 {
		q := loadQuery(w, i, rows)
		if i%3 == 1 {
			q = broadQuery(w, i, rows)
			q.Totals = true
		}
		c := &client{query: q.normalized()}
		c.view, c.watch = w.Watch(q)
		defer c.watch.Close()
		s.clients = append(s.clients, c)
	}
	for range rounds {
		for range rows / 40 {
			s.change()
		}
		s.sample(12)
	}
}

// scale is a registry of many rows with a model of them.
type scale struct {
	t       *testing.T
	w       *world
	random  *rand.Rand
	live    map[api.SessionID]Row
	at      []api.SessionID // of live
	clients []*client
}

// change inserts, removes or updates a random row. Some come with times among the others'.
func (s *scale) change() {
	i := s.random.IntN(len(s.at))
	row := s.live[s.at[i]]
	var err error
	switch s.random.IntN(5) {
	case 0, 1:
		s.w.opened++
		row = benchRow(s.w, s.w.opened)
		row.CreatedAt -= api.Millis(s.random.IntN(2) * s.random.IntN(len(s.at)))
		err = s.w.Insert(row, Unlimited)
		s.at = append(s.at, row.Session)
	case 2, 3:
		s.w.Remove(row.Application, row.ServerID)
		delete(s.live, row.Session)
		s.at[i] = s.at[len(s.at)-1]
		s.at = s.at[:len(s.at)-1]
		return
	default:
		other := benchRow(s.w, s.random.IntN(s.w.opened))
		row.License, row.IP, row.Login, row.Authorized = other.License, other.IP, other.Login, other.Authorized
		err = s.w.Update(row, Unlimited)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.live[row.Session] = row
}

// sample compares some clients, and lists of other pages of what they look for, with the model.
func (s *scale) sample(n int) {
	s.t.Helper()
	list := make([]Row, 0, len(s.live))
	authorized := 0
	for _, row := range s.live {
		list = append(list, row)
		if row.Authorized {
			authorized++
		}
	}
	slices.SortFunc(list, func(a, b Row) int { return position(a).Compare(position(b)) })
	texts := make([][len(categories)]string, len(list))
	for i, row := range list {
		texts[i] = [...]string{strings.ToLower(row.License), strings.ToLower(row.IP), strings.ToLower(row.ClientID)}
	}
	for range n {
		c := s.clients[s.random.IntN(len(s.clients))]
		q := c.query
		var matching []api.Row
		for i, row := range list {
			for j, in := range categories {
				if q.Search == "" || q.Categories&in != 0 && strings.Contains(texts[i][j], q.Search) {
					matching = append(matching, modelShow(row))
					break
				}
			}
		}
		counts := api.Counts{Total: len(list), FilteredTotal: len(matching), AuthorizedSessionCount: authorized}
		page := func(n int) api.View {
			from := min((n-1)*q.PageSize, len(matching))
			return api.View{Counts: counts, LastConnectionTime: c.view.LastConnectionTime, Page: n, PageSize: q.PageSize,
				Items: append([]api.Row{}, matching[from:min(from+q.PageSize, len(matching))]...)}
		}
		if d := c.watch.Poll(); d != nil {
			if err := c.apply(d); err != nil {
				s.t.Fatalf("%+v: %v", q, err)
			}
		}
		if err := c.check(page(q.Page)); err != nil {
			s.t.Fatal(err)
		}
		other := client{query: q, view: s.w.List(q)}
		other.query.Totals, other.query.Page = true, 1+s.random.IntN(2+len(matching)/q.PageSize)
		other.view = s.w.List(other.query)
		other.view.LastConnectionTime = c.view.LastConnectionTime
		if err := other.check(page(other.query.Page)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func position(row Row) api.Position {
	return api.Position{CreatedAt: row.CreatedAt, ServerID: row.ServerID}
}

// TestCountsAreKeptForAWhile: what a broad needle finds is counted once, and then follows; of needles nobody watches only the last
// few are kept, and none in an application that has become small.
func TestCountsAreKeptForAWhile(t *testing.T) {
	w := newTunedWorld(tuning{margin: 4, blockBits: 7, indexFrom: 100, few: 10})
	for range 400 {
		w.openBench()
	}
	a := w.applications[testApplication(0)]
	q := w.query(1, 10)
	q.Categories = IP | ClientID
	counted := func(needle string) (n int) {
		for _, f := range a.finders {
			if f.needle == needle && f.counted {
				n++
			}
		}
		return n
	}
	for i := range 3 * keptFinders {
		q.Search = []string{"203.", fmt.Sprintf("203.%d", i%10), fmt.Sprintf("client-%x", i%10)}[i%3]
		if want := w.List(q).FilteredTotal; want > 10 && counted(q.Search) != 1 {
			t.Errorf("%q finds %d rows and is counted by %d", q.Search, want, counted(q.Search))
		}
	}
	if len(a.kept) != keptFinders || len(a.finders) != keptFinders || counted("203.") != 1 {
		t.Errorf("%d of %d finders are kept, of 203. %d", len(a.kept), len(a.finders), counted("203."))
	}
	q.Search = "203."
	_, watch := w.Watch(q)
	if len(a.kept) != keptFinders-1 || len(a.finders) != keptFinders {
		t.Errorf("%d of %d finders are kept while one is watched", len(a.kept), len(a.finders))
	}
	for i := range 380 {
		row := benchRow(w, i+1)
		w.Remove(row.Application, row.ServerID)
	}
	if got := w.List(q).FilteredTotal; got != 20 || len(a.kept) != 0 || len(a.finders) != 1 {
		t.Errorf("%d are found among 20 rows, %d of %d finders are kept", got, len(a.kept), len(a.finders))
	}
	watch.Close()
	if len(a.kept) != 0 || a.finders != nil {
		t.Errorf("%d finders are left", len(a.finders))
	}
}
