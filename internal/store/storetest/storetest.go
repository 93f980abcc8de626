// Package storetest holds every implementation of store.DB to one contract: the comments in package store, as tests. A new engine
// joins with one line: storetest.Run(t, open).
package storetest

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Run tests an implementation. open returns an empty database, to be closed by t.Cleanup; it is called for each subtest, and the
// databases that it returns share nothing.
func Run(t *testing.T, open func(t *testing.T) store.DB) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Config", configTests},
		{"Records", recordTests},
		{"Ended", endedTests},
		{"Audits", auditTests},
		{"Nodes", nodeTests},
		{"Leases", leaseTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.tests {
				t.Run(c.name, func(t *testing.T) {
					db := open(t)
					same(t, "the first incarnation", claim(t, db, "srv-01"), 1) // the owner of all that record returns
					c.run(t, db)
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(t *testing.T, db store.DB)
}

// hostile is text that engines and drivers are known to stumble over.
const hostile = "O'Hara \"q\" `b` \\ %_* \x00NUL\x00 \x01\x02\x03 \xff\xfe \r\n\t " +
	"🦊👩\u200d👩\u200d👧 שלום \u202ertl\u202c <img onerror=x> $1 ? :a {now} ; --"

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares values; a nil and an empty list count as the same.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if reflect.DeepEqual(want, got) { // a difference of thousands of records takes seconds, also when there is none
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func organization(name string) store.Organization {
	limit := 1000
	return store.Organization{ID: api.NewID[api.Organization](), Name: name, CreatedAt: 1700000000000,
		Plan: api.Plan{Name: "Pro " + name, MaxAuthorizedSessions: &limit, LiveSessionsOverview: true,
			HistoryRetention: api.Duration(720*time.Hour + time.Nanosecond)}}
}

func application(org api.OrganizationID, number string) store.Application {
	return store.Application{ID: api.NewID[api.Application](), Organization: org, Number: number, Name: "App " + number,
		State: api.ApplicationActive, PublishableKey: "rca_" + number, IdleAfter: 5 * time.Minute, CreatedAt: 1700000000001}
}

func key(org api.OrganizationID, publicID string) store.Key {
	return store.Key{PublicID: publicID, Organization: org, Name: "Key " + publicID, SecretHash: [32]byte{1, 2, 31: 255},
		LastFour: "abcd", Scopes: []api.Scope{api.ScopeSessionsRead, api.ScopeSessionsDisconnect}, AllApplications: true,
		CreatedAt: 1700000000002}
}

// record returns an open record of the first incarnation.
func record(app store.Application, created api.Millis) store.Record {
	id := api.NewSessionID()
	return store.Record{ID: id, ServerID: api.NewServerID("srv-01", id), Organization: app.Organization, Application: app.ID,
		Incarnation: 1, CreatedAt: created, IP: "203.0.113.10", ClientID: id.String()}
}

func ended(rec store.Record, at api.Millis) store.Record {
	rec.EndedAt, rec.EndReason, rec.LastActiveAt = at, api.EndClientClosed, at
	return rec
}

func get(t *testing.T, db store.DB, app api.ApplicationID, id api.SessionID) *store.Record {
	t.Helper()
	found, err := db.Records().Get(t.Context(), app, []api.SessionID{id})
	fatal(t, err)
	rec, ok := found[id]
	if !ok {
		return nil
	}
	return &rec
}

func edit(t *testing.T, db store.DB, fn func(store.Tx) error) {
	t.Helper()
	fatal(t, db.Config().Edit(t.Context(), fn))
}

func since(t *testing.T, db store.DB, version int64) store.Changes {
	t.Helper()
	ch, err := db.Config().Since(t.Context(), version)
	fatal(t, err)
	return ch
}

func version(t *testing.T, db store.DB) int64 {
	t.Helper()
	v, err := db.Config().Version(t.Context())
	fatal(t, err)
	return v
}

// seed puts an organization with one application.
func seed(t *testing.T, db store.DB) store.Application {
	t.Helper()
	org := organization("Seed")
	app := application(org.ID, "123456789")
	edit(t, db, func(tx store.Tx) error {
		if err := tx.PutOrganization(org); err != nil {
			return err
		}
		return tx.PutApplication(app)
	})
	return app
}
