package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var auditTests = []test{
	{"round trip", testAuditRoundTrip},
	{"in the change's transaction", testAuditTransaction},
	{"list", testAuditList},
	{"expire", testAuditExpire},
}

func audit(app store.Application, at api.Millis, action api.AuditAction) store.Audit {
	return store.Audit{Organization: app.Organization, AuditRecord: api.AuditRecord{ID: store.NewAuditID(), Time: api.Timestamp(at),
		Action: action, Actor: api.AuditActor{Type: api.ActorAdmin}}}
}

func audits(t *testing.T, db store.DB, q store.AuditQuery) []store.Audit {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	list, err := db.Audits().List(t.Context(), q)
	fatal(t, err)
	return list
}

func testAuditRoundTrip(t *testing.T, db store.DB) {
	app := seed(t, db)
	bare := audit(app, 1, api.ActionOrganizationUpdated)
	full := audit(app, 2, api.ActionSessionDisconnected)
	full.Actor = api.AuditActor{Type: api.ActorKey, PublicID: "0123456789abcdef", Name: hostile}
	full.IPAddress, full.ApplicationID, full.Target = new("2001:db8::1"), &app.ID, new(hostile)
	full.Count, full.Reason, full.Details = new(0), new(hostile), json.RawMessage(`{"a":"\u0000 🦊","n":1}`)
	before := version(t, db)
	fatal(t, db.Records().Write(t.Context(), nil, nil, bare, full))
	same(t, "version", version(t, db), before)
	q := store.AuditQuery{Organization: app.Organization}
	same(t, "all", audits(t, db, q), []store.Audit{full, bare})

	// Written again, a record stays as it was, but for a count that was not known.
	counted := bare
	counted.Count, counted.Action, counted.Actor.Name, counted.Time = new(7), api.ActionKeyRevoked, "Mallory", 99
	recounted := full
	recounted.Count = new(9)
	theft := counted
	theft.Organization = api.NewID[api.Organization]()
	fatal(t, db.Records().Write(t.Context(), nil, nil, theft))
	same(t, "from elsewhere", audits(t, db, q), []store.Audit{full, bare})
	fatal(t, db.Records().Write(t.Context(), nil, nil, counted, recounted, counted))
	bare.Count = new(7)
	same(t, "counted", audits(t, db, q), []store.Audit{full, bare})
}

func testAuditTransaction(t *testing.T, db store.DB) {
	app := seed(t, db)
	q := store.AuditQuery{Organization: app.Organization}
	refused := errors.New("no")
	err := db.Config().Edit(t.Context(), func(tx store.Tx) error {
		fatal(t, tx.Audit(audit(app, 1, api.ActionApplicationPaused)))
		return refused
	})
	same(t, "refused", errors.Is(err, refused), true)
	same(t, "after a change that was refused", audits(t, db, q), nil)
	want := audit(app, 1, api.ActionApplicationPaused)
	edit(t, db, func(tx store.Tx) error {
		want.Time = api.Timestamp(tx.Now())
		app.State = api.ApplicationPaused
		return errors.Join(tx.PutApplication(app), tx.Audit(want))
	})
	same(t, "with its change", audits(t, db, q), []store.Audit{want})
}

// testAuditList compares every filter with the same on a list in memory.
func testAuditList(t *testing.T, db store.DB) {
	app := seed(t, db)
	apps := []store.Application{app, {ID: api.NewID[api.Application](), Organization: app.Organization},
		{ID: api.NewID[api.Application](), Organization: api.NewID[api.Organization]()}}
	random := rand.New(rand.NewPCG(5, 6))
	actions := []api.AuditAction{api.ActionSessionDisconnected, api.ActionTokenIssued, api.ActionKeyRevoked}
	var all []store.Audit
	for range 200 {
		of := apps[random.IntN(len(apps))]
		a := audit(of, api.Millis(100+random.IntN(20)), actions[random.IntN(len(actions))])
		if a.Action != api.ActionKeyRevoked {
			a.ApplicationID = &of.ID
		}
		all = append(all, a)
	}
	fatal(t, db.Records().Write(t.Context(), nil, nil, all...))
	slices.SortFunc(all, func(a, b store.Audit) int {
		if a.Time != b.Time {
			return int(b.Time - a.Time)
		}
		return b.ID.Compare(a.ID)
	})
	for _, q := range []store.AuditQuery{
		{}, {From: 110}, {Before: 110}, {From: 105, Before: 106}, {From: 110, Before: 110}, {From: 1000},
		{Actions: actions[:1]}, {Actions: actions}, {Actions: actions[1:], From: 104, Before: 115}, {Actions: []api.AuditAction{}},
		{Actions: []api.AuditAction{"x') OR ('' = '"}}, {Actions: []api.AuditAction{actions[0], actions[0]}},
		{Applications: []api.ApplicationID{}}, {Applications: []api.ApplicationID{app.ID}}, {Applications: []api.ApplicationID{apps[2].ID}},
		{Applications: []api.ApplicationID{app.ID, apps[1].ID, app.ID}, From: 103, Before: 117},
		{Applications: []api.ApplicationID{apps[1].ID, app.ID}, Actions: actions[:1]},
	} {
		q.Organization = app.Organization
		var want []store.Audit
		for _, a := range all {
			if a.Organization == q.Organization && api.Millis(a.Time) >= q.From && (q.Before == 0 || api.Millis(a.Time) < q.Before) &&
				(q.Actions == nil || slices.Contains(q.Actions, a.Action)) &&
				(q.Applications == nil || a.ApplicationID != nil && slices.Contains(q.Applications, *a.ApplicationID)) {
				want = append(want, a)
			}
		}
		for _, q.Limit = range []int{1, 7, 1000} {
			var got []store.Audit
			q.After = nil
			for range len(want) + 1 {
				page := audits(t, db, q)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
				last := page[len(page)-1].Position()
				q.After = &last
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%+v (-want +got):\n%s", q, diff)
			}
		}
	}
	for _, limit := range []int{0, -1} {
		list, err := db.Audits().List(t.Context(), store.AuditQuery{Organization: app.Organization, Limit: limit})
		same(t, fmt.Sprintf("limit %d", limit), len(list), 0)
		fatal(t, err)
	}
}

func testAuditExpire(t *testing.T, db store.DB) {
	app := seed(t, db)
	other := store.Application{Organization: api.NewID[api.Organization]()}
	var old []store.Audit
	for i := range 10 {
		old = append(old, audit(app, api.Millis(10+i), api.ActionKeyCreated))
	}
	keep := []store.Audit{audit(app, 100, api.ActionKeyCreated), audit(other, 10, api.ActionKeyCreated)}
	fatal(t, db.Records().Write(t.Context(), nil, nil, slices.Concat(old, keep)...))
	for _, want := range []int{4, 4, 2, 0} {
		n, err := db.Audits().Expire(t.Context(), app.Organization, 100, 4)
		fatal(t, err)
		same(t, "deleted", n, want)
	}
	same(t, "kept", audits(t, db, store.AuditQuery{Organization: app.Organization}), keep[:1])
	same(t, "another's", audits(t, db, store.AuditQuery{Organization: other.Organization}), keep[1:])
}
