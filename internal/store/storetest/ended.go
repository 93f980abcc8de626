package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var endedTests = []test{
	{"filters", testEndedFilters},
	{"minutes", testMinutes},
}

// testEndedFilters has more records of one reason than are looked up and sorted, few of others, and one reason of long ago.
func testEndedFilters(t *testing.T, db store.DB) {
	app := seed(t, db)
	random := rand.New(rand.NewPCG(3, 4))
	rare := []api.EndReason{api.EndRevoked, api.EndDisconnected, api.EndNodeLost}
	var all []store.Record
	for i := range 5200 {
		rec := record(app, api.Millis(1000+i))
		rec = ended(rec, rec.CreatedAt+api.Millis(random.IntN(500)))
		switch {
		case i < 2100:
			// The last of them ended in the millisecond in which it was created, and no other ended later.
			rec = ended(rec, min(rec.EndedAt, 1000+2099))
			rec.EndReason = api.EndServerStopped
		case i%20 == 0:
			rec.EndReason = rare[random.IntN(len(rare))]
		case i%50 == 1:
			rec = record(app, rec.CreatedAt) // open
		}
		all = append(all, rec)
	}
	for batch := range slices.Chunk(all, 500) {
		fatal(t, db.Records().Write(t.Context(), batch, nil))
	}
	foreign := record(store.Application{ID: api.NewID[api.Application](), Organization: app.Organization}, 1500)
	fatal(t, db.Records().Write(t.Context(), []store.Record{ended(foreign, 1501)}, nil))
	for _, f := range []store.EndFilter{
		{Narrow: true}, {Narrow: true, Since: 6500}, {Narrow: true, Since: 1 << 40}, {Before: 1}, {Before: 1100}, {Before: 4000},
		{Since: 3000, Before: 3000}, {Since: 3000, Before: 3001}, {Since: 3000, Before: 3100}, {Since: 2000, Before: 6000},
		{Reasons: []api.EndReason{api.EndServerStopped}}, {Reasons: []api.EndReason{api.EndClientClosed}},
		{Reasons: rare}, {Reasons: rare[:1]}, {Reasons: []api.EndReason{api.EndRateLimited}}, {Reasons: api.EndReasons},
		{Reasons: []api.EndReason{api.EndServerStopped, api.EndRevoked}, Since: 2500},
		{Reasons: []api.EndReason{api.EndClientClosed, api.EndRevoked, api.EndRevoked}, Before: 5900},
		{Reasons: []api.EndReason{"x') OR ('' = '"}},
	} {
		var want []store.Record
		for _, rec := range all {
			if rec.EndedAt != 0 && rec.EndedAt >= f.Since && (f.Before == 0 || rec.EndedAt < f.Before) &&
				(len(f.Reasons) == 0 || slices.Contains(f.Reasons, rec.EndReason)) {
				want = append(want, rec)
			}
		}
		slices.SortFunc(want, bytewise)
		same(t, fmt.Sprintf("%+v", f), endedPages(t, db, app, f, 700), want)
		page, err := db.Records().Ended(t.Context(), app.ID, f, nil, 1)
		fatal(t, err)
		same(t, fmt.Sprintf("the first of %+v", f), page, want[:min(1, len(want))])
	}
}

func testMinutes(t *testing.T, db store.DB) {
	app := seed(t, db)
	const minute = 60_000
	other := store.Application{ID: api.NewID[api.Application](), Organization: app.Organization}
	one, two := ended(record(app, 2*minute-1), 3*minute), ended(record(app, 2*minute), 3*minute+59_999)
	late := ended(record(app, 3*minute+7), 5*minute)
	late.EndReason = api.EndNodeLost
	fatal(t, db.Records().Write(t.Context(), []store.Record{one, two, late, record(app, 3*minute), ended(record(other, 3*minute), 3*minute)}, nil))
	starts := []api.Millis{minute, 2 * minute, 3 * minute, 4 * minute, 5 * minute}
	for _, c := range []struct {
		until api.Millis
		but   []api.SessionID
		want  [5][2]int // connects, ends
	}{
		{1 << 50, nil, [5][2]int{{1, 0}, {1, 0}, {1, 2}, {}, {0, 1}}},
		{1 << 50, []api.SessionID{one.ID, late.ID, late.ID, api.NewSessionID()}, [5][2]int{{}, {1, 0}, {0, 1}}},
		{5 * minute, nil, [5][2]int{{1, 0}, {1, 0}, {0, 2}}},
		{3*minute + 1, []api.SessionID{two.ID}, [5][2]int{{1, 0}, {}, {0, 1}}},
		{0, nil, [5][2]int{}},
	} {
		got, err := db.Records().Minutes(t.Context(), app.ID, starts, c.until, c.but...)
		fatal(t, err)
		for i, m := range got {
			same(t, fmt.Sprintf("%d until %d but %v", m.At, c.until, c.but), m, store.Minute{At: starts[i], Connects: c.want[i][0], Ends: c.want[i][1]})
		}
		same(t, "minutes", len(got), len(starts))
	}
	got, err := db.Records().Minutes(t.Context(), app.ID, nil, 1<<50)
	fatal(t, err)
	same(t, "none asked", len(got), 0)
}
