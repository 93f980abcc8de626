package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var recordTests = []test{
	{"round trip", testRecordRoundTrip},
	{"client info is kept byte for byte", testClientInfo},
	{"writes are idempotent", testWriteIdempotent},
	{"an open record takes every later state", testWriteUpdates},
	{"an ended record stays as it is", testEndedStays},
	{"a batch is written whole or not at all", testWriteAtomic},
	{"tenants never meet", testRecordTenants},
	{"last connection is a maximum", testLastConnection},
	{"get", testGet},
	{"ended in list order, paged", testEndedPaging},
	{"ended since", testEndedSince},
	{"ended while others end", testEndedChurn},
	{"count", testCountEnded},
	{"expire", testExpire},
	{"concurrent writers", testConcurrentWrites},
}

func testRecordRoundTrip(t *testing.T, db store.DB) {
	app := seed(t, db)
	full := record(app, 1700000000123)
	full.Authorized, full.TokenExpiresAt, full.LastActiveAt = true, 1<<50, 1700000000124
	full.IP, full.ClientID, full.Login, full.License = hostile, hostile, hostile, hostile
	full.Name, full.Hostname, full.UserAgent = hostile, strings.Repeat("é", 128), hostile
	full.ClientInfo = json.RawMessage(`{"name":"x"}`)
	full.EndedAt, full.EndReason, full.EndedBy, full.EndText = 1700000000999, api.EndDisconnected, "admin", hostile
	for name, want := range map[string]store.Record{"open": record(app, 1), "ended": ended(record(app, 2), 3), "full": full} {
		fatal(t, db.Records().Write(t.Context(), []store.Record{want}, nil))
		same(t, name, get(t, db, app.ID, want.ID), &want)
	}
}

func testClientInfo(t *testing.T, db store.DB) {
	app := seed(t, db)
	for _, info := range []string{`{}`, ` {"a" : 1.0e+2 ,"a":2,  "\u0000":"\ud83e\udd8a <b>"}` + "\n", "{\"raw\":\"\xff\x00\"}",
		`{"big":"` + strings.Repeat("x", 4<<10) + `"}`} {
		rec := record(app, 1)
		rec.ClientInfo = json.RawMessage(info)
		fatal(t, db.Records().Write(t.Context(), []store.Record{rec}, nil))
		same(t, "client info", string(get(t, db, app.ID, rec.ID).ClientInfo), info)
	}
	rec := record(app, 1)
	fatal(t, db.Records().Write(t.Context(), []store.Record{rec}, nil))
	if got := get(t, db, app.ID, rec.ID).ClientInfo; got != nil {
		t.Errorf("none became %q", got)
	}
}

func testWriteIdempotent(t *testing.T, db store.DB) {
	app := seed(t, db)
	batch := []store.Record{record(app, 1), ended(record(app, 2), 3)}
	for range 3 {
		fatal(t, db.Records().Write(t.Context(), batch, nil))
	}
	for i := range batch {
		same(t, "record", get(t, db, app.ID, batch[i].ID), &batch[i])
	}
	n, err := db.Records().CountEnded(t.Context(), app.ID, 0)
	fatal(t, err)
	same(t, "ended", n, 1)
}

func testWriteUpdates(t *testing.T, db store.DB) {
	app := seed(t, db)
	rec := record(app, 1)
	later := rec
	later.Login, later.Authorized, later.Name, later.ClientInfo, later.TokenExpiresAt = "l", true, "n", json.RawMessage(`{}`), 9
	// Also within one batch, the later state counts.
	fatal(t, db.Records().Write(t.Context(), []store.Record{rec, later}, nil))
	same(t, "in one batch", get(t, db, app.ID, rec.ID), &later)
	fatal(t, db.Records().Write(t.Context(), []store.Record{rec}, nil))
	same(t, "in another", get(t, db, app.ID, rec.ID), &rec)
}

func testEndedStays(t *testing.T, db store.DB) {
	app := seed(t, db)
	rec := record(app, 1)
	end := ended(rec, 100)
	reopened, again := rec, ended(rec, 200)
	reopened.Name, again.EndReason = "reopened", api.EndRevoked
	fatal(t, db.Records().Write(t.Context(), []store.Record{end}, nil))
	fatal(t, db.Records().Write(t.Context(), []store.Record{reopened}, nil))
	fatal(t, db.Records().Write(t.Context(), []store.Record{again, reopened}, nil))
	same(t, "record", get(t, db, app.ID, rec.ID), &end)
}

func testWriteAtomic(t *testing.T, db store.DB) {
	app := seed(t, db)
	var batch []store.Record
	for i := range 1000 {
		batch = append(batch, record(app, api.Millis(i+1)))
	}
	before := version(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Records().Write(ctx, batch, []store.Denial{{Application: app.ID, TokenID: "jti:x", ExpiresAt: 1}}); err == nil {
		t.Fatal("a write with a cancelled context succeeded")
	}
	ids := make([]api.SessionID, len(batch))
	for i := range batch {
		ids[i] = batch[i].ID
	}
	found, err := db.Records().Get(t.Context(), app.ID, ids)
	fatal(t, err)
	same(t, "part of a failed batch", len(found), 0)
	same(t, "version", version(t, db), before)
}

func testRecordTenants(t *testing.T, db store.DB) {
	mine, theirs := seed(t, db), store.Application{ID: api.NewID[api.Application](), Organization: api.NewID[api.Organization]()}
	a := record(mine, 1)
	b := record(theirs, 2)
	b.ID = a.ID // a reporter may choose ids
	fatal(t, db.Records().Write(t.Context(), []store.Record{a}, nil))
	fatal(t, db.Records().Write(t.Context(), []store.Record{ended(b, 3)}, nil))
	same(t, "mine", get(t, db, mine.ID, a.ID), &a)
	theirsEnded := ended(b, 3)
	same(t, "theirs", get(t, db, theirs.ID, a.ID), &theirsEnded)
	list, err := db.Records().Ended(t.Context(), mine.ID, store.EndFilter{}, nil, 10)
	fatal(t, err)
	same(t, "my ended records", list, nil)
}

func testLastConnection(t *testing.T, db store.DB) {
	app := seed(t, db)
	before := version(t, db)
	last := func() api.Millis { t.Helper(); return since(t, db, 0).Applications[0].LastConnection }
	same(t, "never", last(), 0)
	none, err := db.Config().Connections(t.Context(), nil)
	fatal(t, err)
	same(t, "connected to", none, map[api.ApplicationID]api.Millis{})
	for _, step := range []struct {
		created []api.Millis
		want    api.Millis
	}{{[]api.Millis{5, 9, 7}, 9}, {[]api.Millis{8}, 9}, {[]api.Millis{10}, 10}} {
		var batch []store.Record
		for _, at := range step.created {
			batch = append(batch, ended(record(app, at), at+1))
		}
		// An application that is gone, or not yet there, does no harm.
		batch = append(batch, record(store.Application{ID: api.NewID[api.Application]()}, 1000))
		fatal(t, db.Records().Write(t.Context(), batch, nil))
		same(t, "last connection", last(), step.want)
	}
	// What was seen elsewhere counts too, and never lowers it.
	for _, step := range []struct {
		seen api.Millis
		want api.Millis
	}{{0, 10}, {9, 10}, {20, 20}} {
		seen := map[api.ApplicationID]api.Millis{app.ID: step.seen, api.NewID[api.Application](): 7}
		if step.seen == 0 {
			seen = nil
		}
		all, err := db.Config().Connections(t.Context(), seen)
		fatal(t, err)
		same(t, "last connection", all[app.ID], step.want)
		same(t, "last connection, read", last(), step.want)
	}
	same(t, "version", version(t, db), before)
}

func testGet(t *testing.T, db store.DB) {
	app := seed(t, db)
	var batch []store.Record
	var ids []api.SessionID
	for i := range 1200 {
		batch = append(batch, record(app, api.Millis(i+1)))
		ids = append(ids, batch[i].ID)
	}
	fatal(t, db.Records().Write(t.Context(), batch, nil))
	found, err := db.Records().Get(t.Context(), app.ID, append(ids, api.NewSessionID(), ids[0]))
	fatal(t, err)
	same(t, "found", len(found), len(ids))
	for i := range batch {
		if got := found[ids[i]]; got.ServerID != batch[i].ServerID {
			t.Fatalf("%v is %v", ids[i], got)
		}
	}
	found, err = db.Records().Get(t.Context(), app.ID, nil)
	fatal(t, err)
	same(t, "none asked", len(found), 0)
	found, err = db.Records().Get(t.Context(), api.NewID[api.Application](), ids)
	fatal(t, err)
	same(t, "another application", len(found), 0)
}

// bytewise is the order of lists, written down a second time.
func bytewise(a, b store.Record) int {
	return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), strings.Compare(string(b.ServerID), string(a.ServerID)))
}

// endedPages reads every page; a list that does not end comes out too long.
func endedPages(t *testing.T, db store.DB, app store.Application, f store.EndFilter, size int) (got []store.Record) {
	t.Helper()
	var after *api.Position
	for range 10_000 {
		page, err := db.Records().Ended(t.Context(), app.ID, f, after, size)
		fatal(t, err)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		last := page[len(page)-1].Position()
		after = &last
	}
	return got
}

func testEndedPaging(t *testing.T, db store.DB) {
	app := seed(t, db)
	random := rand.New(rand.NewPCG(1, 2))
	nodes := []string{"srv-01", "SRV-01", "srv_01", "srv-é", "srv-", "a\x00b", "a\x01b", "a\x02b", "🦊"}
	var want []store.Record
	var all []store.Record
	for range 150 {
		rec := record(app, api.Millis(1000+random.IntN(5))) // most share their createdAt
		rec.ServerID = api.NewServerID(nodes[random.IntN(len(nodes))], rec.ID)
		if random.IntN(4) > 0 {
			rec = ended(rec, api.Millis(2000+random.IntN(5)))
			want = append(want, rec)
		}
		all = append(all, rec)
	}
	fatal(t, db.Records().Write(t.Context(), all, nil))
	slices.SortFunc(want, bytewise)
	for _, size := range []int{1, 7, 1000} {
		same(t, fmt.Sprintf("pages of %d", size), endedPages(t, db, app, store.EndFilter{}, size), want)
	}
	for _, limit := range []int{0, -1} {
		page, err := db.Records().Ended(t.Context(), app.ID, store.EndFilter{}, nil, limit)
		fatal(t, err)
		same(t, "no page", len(page), 0)
	}
	page, err := db.Records().Ended(t.Context(), app.ID, store.EndFilter{}, &api.Position{}, 10)
	fatal(t, err)
	same(t, "after the last position", len(page), 0)
	page, err = db.Records().Ended(t.Context(), app.ID, store.EndFilter{}, &api.Position{CreatedAt: 1 << 50}, 1)
	fatal(t, err)
	same(t, "from the future", page, want[:1])
}

// testEndedSince has an application's records that ended at 10, 20 and 30 among open ones and another application's.
func testEndedSince(t *testing.T, db store.DB) {
	app := seed(t, db)
	sibling := store.Application{ID: api.NewID[api.Application](), Organization: app.Organization}
	var all []store.Record // newest first; the newest ended first
	for i := range 3 {
		all = append(all, ended(record(app, api.Millis(3-i)), api.Millis(10+10*i)))
	}
	rest := []store.Record{record(app, 9), ended(record(sibling, 1), 10), ended(record(sibling, 1), 20)}
	fatal(t, db.Records().Write(t.Context(), slices.Concat(all, rest), nil))
	ids := []api.SessionID{all[0].ID, all[2].ID}
	for _, c := range []struct {
		since     api.Millis
		want, but int // how many, from the end of all; and how many without ids
	}{{-1, 3, 1}, {0, 3, 1}, {10, 3, 1}, {11, 2, 1}, {20, 2, 1}, {21, 1, 0}, {30, 1, 0}, {31, 0, 0}} {
		name := fmt.Sprintf("since %d", c.since)
		want := all[len(all)-c.want:]
		list, err := db.Records().Ended(t.Context(), app.ID, store.EndFilter{Since: c.since}, nil, 10)
		fatal(t, err)
		same(t, name, append([]store.Record{}, list...), want)
		if c.want > 0 { // the limit is of those that are wanted, and so are the ones after a position
			first := want[0].Position()
			list, err = db.Records().Ended(t.Context(), app.ID, store.EndFilter{Since: c.since}, nil, 1)
			fatal(t, err)
			same(t, name+", the first", list, want[:1])
			list, err = db.Records().Ended(t.Context(), app.ID, store.EndFilter{Since: c.since}, &first, 10)
			fatal(t, err)
			same(t, name+", the others", append([]store.Record{}, list...), want[1:])
		}
		n, err := db.Records().CountEnded(t.Context(), app.ID, c.since)
		fatal(t, err)
		same(t, name+", counted", n, c.want)
		n, err = db.Records().CountEnded(t.Context(), app.ID, c.since, ids...)
		fatal(t, err)
		same(t, name+", counted but two", n, c.but)
	}
}

// testEndedChurn pages while rows are added and deleted: those that stay are neither repeated nor skipped.
func testEndedChurn(t *testing.T, db store.DB) {
	app := seed(t, db)
	var stay []store.Record
	for i := range 60 {
		stay = append(stay, ended(record(app, api.Millis(1000+i/3)), 5000))
	}
	fatal(t, db.Records().Write(t.Context(), stay, nil))
	seen := map[api.SessionID]int{}
	var after *api.Position
	for range 20 {
		page, err := db.Records().Ended(t.Context(), app.ID, store.EndFilter{}, after, 7)
		fatal(t, err)
		if len(page) == 0 {
			break
		}
		for _, rec := range page {
			seen[rec.ID]++
		}
		last := page[len(page)-1].Position()
		after = &last
		// New ones in front, behind and around; and the last one seen, on which the next page stands, goes.
		gone := ended(record(app, last.CreatedAt), 10)
		fatal(t, db.Records().Write(t.Context(), []store.Record{ended(record(app, 9000), 9001), gone}, nil))
		_, err = db.Records().Expire(t.Context(), app.Organization, 100, 100)
		fatal(t, err)
	}
	for _, rec := range stay {
		same(t, "times seen", seen[rec.ID], 1)
	}
}

func testCountEnded(t *testing.T, db store.DB) {
	app := seed(t, db)
	open, one, two := record(app, 1), ended(record(app, 2), 3), ended(record(app, 3), 4)
	foreign := ended(record(store.Application{ID: api.NewID[api.Application]()}, 2), 3)
	fatal(t, db.Records().Write(t.Context(), []store.Record{open, one, two, foreign}, nil))
	for _, c := range []struct {
		but  []api.SessionID
		want int
	}{
		{nil, 2},
		{[]api.SessionID{one.ID}, 1},
		{[]api.SessionID{one.ID, one.ID, two.ID}, 0},
		{[]api.SessionID{open.ID, foreign.ID, api.NewSessionID()}, 2},
	} {
		n, err := db.Records().CountEnded(t.Context(), app.ID, 0, c.but...)
		fatal(t, err)
		same(t, fmt.Sprintf("but %v", c.but), n, c.want)
	}
	n, err := db.Records().CountEnded(t.Context(), api.NewID[api.Application](), 0)
	fatal(t, err)
	same(t, "no such application", n, 0)
}

func testExpire(t *testing.T, db store.DB) {
	app := seed(t, db)
	other := store.Application{ID: api.NewID[api.Application](), Organization: api.NewID[api.Organization]()}
	var old []store.Record
	for i := range 10 {
		old = append(old, ended(record(app, 1), api.Millis(10+i)))
	}
	keep := []store.Record{record(app, 1), ended(record(app, 1), 100), ended(record(other, 1), 10)}
	fatal(t, db.Records().Write(t.Context(), append(slices.Clone(old), keep...), nil))
	for _, want := range []int{4, 4, 2, 0} {
		n, err := db.Records().Expire(t.Context(), app.Organization, 100, 4)
		fatal(t, err)
		same(t, "deleted", n, want)
	}
	for _, rec := range old {
		if get(t, db, rec.Application, rec.ID) != nil {
			t.Errorf("%v is still there", rec.EndedAt)
		}
	}
	for _, rec := range keep {
		same(t, "kept", get(t, db, rec.Application, rec.ID), &rec)
	}
}

func testConcurrentWrites(t *testing.T, db store.DB) {
	app := seed(t, db)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10 {
				rec := record(app, api.Millis(i+1))
				denial := store.Denial{Application: app.ID, TokenID: "jti:" + rec.ID.String(), ExpiresAt: 1 << 50}
				if err := db.Records().Write(t.Context(), []store.Record{rec}, []store.Denial{denial}); err != nil {
					t.Error(err)
				}
				if err := db.Records().Write(t.Context(), []store.Record{ended(rec, 100)}, nil); err != nil {
					t.Error(err)
				}
				if _, err := db.Records().Ended(t.Context(), app.ID, store.EndFilter{}, nil, 5); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n, err := db.Records().CountEnded(t.Context(), app.ID, 0)
	fatal(t, err)
	same(t, "ended", n, 40)
	same(t, "denials", len(since(t, db, 0).Denials), 40)
}
