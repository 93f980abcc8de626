package storetest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var leaseTests = []test{
	{"round trip", testLeaseRoundTrip},
	{"an older owner writes nothing", testOlderOwner},
	{"adopt", testAdopt},
	{"adopters at the same time", testAdoptConcurrent},
	{"find", testFindLease},
	{"a dead node's leases wait", testSweepLeases},
}

// lease returns an open record of a lease.
func lease(app store.Application, created api.Millis, seconds int) store.Record {
	rec := record(app, created)
	rec.Lease = &store.Lease{Seconds: seconds}
	return rec
}

// owned returns the record with another owner.
func owned(rec store.Record, epoch int64) store.Record {
	lease := *rec.Lease
	lease.OwnerEpoch = epoch
	rec.Lease = &lease
	return rec
}

// asLease returns a connection's record as somebody would have it who takes it for a lease.
func asLease(rec store.Record) store.Record {
	rec.Lease = &store.Lease{Seconds: 90}
	return rec
}

func write(t *testing.T, db store.DB, records ...store.Record) {
	t.Helper()
	fatal(t, db.Records().Write(t.Context(), records, nil))
}

func adopt(t *testing.T, db store.DB, incarnation int64, leases ...store.Record) []store.Record {
	t.Helper()
	adopted, err := db.Records().Adopt(t.Context(), incarnation, leases)
	fatal(t, err)
	return adopted
}

func testLeaseRoundTrip(t *testing.T, db store.DB) {
	app := seed(t, db)
	full := lease(app, 1, 3600)
	full.Lease.OwnerEpoch, full.Lease.Reporter, full.Lease.CID, full.Lease.Named, full.Lease.Epoch = 1<<40, hostile, hostile, true, 1<<40
	full.Lease.Tokens = []store.Denial{{Application: app.ID, TokenID: "jti:" + hostile, ExpiresAt: 7},
		{Application: app.ID, TokenID: "sha256:00", ExpiresAt: 1 << 50}}
	many := lease(app, 2, 15)
	for range 100 {
		many.Lease.Tokens = append(many.Lease.Tokens, store.Denial{Application: app.ID,
			TokenID: "jti:" + strings.Repeat("x", 256) + api.NewSessionID().String(), ExpiresAt: 1 << 50})
	}
	for name, want := range map[string]store.Record{"bare": lease(app, 3, 1), "full": full, "many tokens": many, "ended": ended(full, 9)} {
		want.ID = api.NewSessionID()
		write(t, db, want)
		got := get(t, db, app.ID, want.ID)
		for _, l := range []*store.Lease{got.Lease, want.Lease} {
			slices.SortFunc(l.Tokens, func(a, b store.Denial) int { return strings.Compare(a.TokenID, b.TokenID) })
		}
		same(t, name, got, &want)
	}
}

func testOlderOwner(t *testing.T, db store.DB) {
	app := seed(t, db)
	rec := lease(app, 1, 90)
	write(t, db, rec)
	now := adopt(t, db, claim(t, db, "b"), rec)[0]
	rec.Name = "late"
	write(t, db, rec)
	expired := ended(rec, 5)
	expired.EndReason = api.EndLeaseExpired
	write(t, db, expired)
	same(t, "after the old owner's writes", get(t, db, app.ID, rec.ID), &now)
	now.Name = "new"
	write(t, db, now)
	same(t, "after the owner's write", get(t, db, app.ID, rec.ID), &now)
	for _, tt := range []struct {
		reason api.EndReason
		final  bool
	}{{api.EndLeaseExpired, false}, {api.EndTokenExpired, false}, {api.EndNodeLost, false}, {api.EndDisconnected, true}, {api.EndRevoked, true},
		{api.EndClientClosed, true}, {api.EndApplicationPaused, true}, {api.EndApplicationArchived, true}} {
		moved := owned(lease(app, 5, 90), 1)
		write(t, db, moved)
		late := ended(owned(moved, 0), 6)
		late.EndReason = tt.reason
		write(t, db, late)
		same(t, "an earlier owner's "+string(tt.reason)+" counts", get(t, db, app.ID, moved.ID).EndedAt != 0, tt.final)
	}
	done := ended(now, 6)
	write(t, db, done)
	write(t, db, owned(now, 9))
	same(t, "an end is final for newer owners, too", get(t, db, app.ID, rec.ID), &done)
}

func testAdopt(t *testing.T, db store.DB) {
	app := seed(t, db)
	open, gone, connection := lease(app, 1, 90), ended(lease(app, 2, 90), 3), record(app, 4)
	stale, unknown := lease(app, 5, 90), lease(app, 6, 90)
	write(t, db, open, gone, connection, owned(stale, 7))
	stale = owned(stale, 6)
	first, second := claim(t, db, "a"), claim(t, db, "b")
	elsewhere := open
	elsewhere.Application = api.NewID[api.Application]()
	adopted := adopt(t, db, first, open, gone, asLease(connection), stale, unknown, elsewhere)
	want := owned(open, 1)
	want.Incarnation = first
	same(t, "adopted", adopted, []store.Record{want})
	same(t, "in SQL", get(t, db, app.ID, open.ID), &want)
	same(t, "not twice", len(adopt(t, db, second, open)), 0)
	// What the adopter knew may be older than what the owner wrote: SQL says how it is.
	want.Name, want.Lease = "renamed", &store.Lease{Seconds: 15, Epoch: 3, OwnerEpoch: 1}
	write(t, db, want)
	again := adopt(t, db, second, adopted[0])
	want = owned(want, 2)
	want.Incarnation = second
	same(t, "adopted again", again, []store.Record{want})
	for _, rec := range []store.Record{gone, connection} {
		same(t, "left alone", get(t, db, app.ID, rec.ID), &rec)
	}
}

func testAdoptConcurrent(t *testing.T, db store.DB) {
	app := seed(t, db)
	rec := lease(app, 1, 90)
	write(t, db, rec)
	var mu sync.Mutex
	winners := 0
	var wg sync.WaitGroup
	for i := range 8 {
		inc := claim(t, db, string(rune('a'+i)))
		wg.Go(func() {
			adopted, err := db.Records().Adopt(t.Context(), inc, []store.Record{rec})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			winners += len(adopted)
		})
	}
	wg.Wait()
	same(t, "winners", winners, 1)
	same(t, "epoch", get(t, db, app.ID, rec.ID).Lease.OwnerEpoch, 1)
}

func testFindLease(t *testing.T, db store.DB) {
	app := seed(t, db)
	own, done, connection, reported := lease(app, 1, 90), ended(lease(app, 2, 90), 3), record(app, 4), lease(app, 5, 90)
	reported.Lease.Reporter = "0123456789abcdef"
	write(t, db, own, done, connection, reported)
	for id, want := range map[api.SessionID]api.ApplicationID{own.ID: app.ID, done.ID: app.ID, connection.ID: {}, reported.ID: {},
		api.NewSessionID(): {}} {
		got, err := db.Records().FindLease(t.Context(), id)
		fatal(t, err)
		same(t, "application", got, want)
	}
}

func testSweepLeases(t *testing.T, db store.DB) {
	app := seed(t, db)
	dead := claim(t, db, "dead")
	fatal(t, db.Nodes().Beat(t.Context(), "dead", dead))
	connection, waits := record(app, 1000), lease(app, 1000, 90)
	connection.Incarnation, waits.Incarnation = dead, dead
	write(t, db, connection, waits)
	inc := claim(t, db, "dead")
	same(t, "closed", sweep(t, db, "dead", inc, lapse), 1)
	same(t, "a lease", get(t, db, app.ID, waits.ID), &waits)
	same(t, "the connection ended", get(t, db, app.ID, connection.ID).EndReason, api.EndServerStopped)
	same(t, "closed again", sweep(t, db, "dead", inc, lapse), 0)

	// Its node is still known, and so it can be adopted; then it is the adopter's.
	mine := adopt(t, db, inc, waits)
	same(t, "adopted", len(mine), 1)
	sweep(t, db, "dead", inc, lapse)
	same(t, "an adopted lease", get(t, db, app.ID, waits.ID), &mine[0])

}
