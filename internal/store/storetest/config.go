package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var configTests = []test{
	{"empty", testEmpty},
	{"round trip of organizations", testOrganizations},
	{"round trip of applications", testApplications},
	{"round trip of keys", testKeys},
	{"put replaces the whole row but what it does not own", testPutKeepsForeign},
	{"conflicts name the field", testConflicts},
	{"a failed edit leaves nothing", testEditFails},
	{"edits are serialized", testEditsSerialized},
	{"every edit raises the version by itself", testVersion},
	{"since is exact", testSince},
	{"since is one state", testSinceAtomic},
	{"the clock is SQL's", testNow},
	{"the clock waits with the edit", testNowWaits},
	{"last uses keep the later one and raise no version", testTouchKeys},
	{"secrets are created once", testSecret},
	{"denials", testDenials},
	{"purge", testPurge},
}

func testEmpty(t *testing.T, db store.DB) {
	same(t, "Since(0)", since(t, db, 0), store.Changes{Version: version(t, db)})
	edit(t, db, func(tx store.Tx) error {
		org, err1 := tx.Organization(api.NewID[api.Organization]())
		app, err2 := tx.Application(api.NewID[api.Application]())
		key, err3 := tx.Key("nobody")
		if org != nil || app != nil || key != nil {
			t.Errorf("found %v, %v, %v in an empty database", org, app, key)
		}
		return errors.Join(err1, err2, err3)
	})
}

func testOrganizations(t *testing.T, db store.DB) {
	for _, change := range []func(*store.Organization){
		func(o *store.Organization) {},
		func(o *store.Organization) { o.Plan = api.Plan{} },
		func(o *store.Organization) { zero := 0; o.Plan.MaxAuthorizedSessions = &zero },
		func(o *store.Organization) { o.Name, o.Plan.Name = hostile, hostile },
	} {
		want := organization("Acme")
		change(&want)
		edit(t, db, func(tx store.Tx) error { return tx.PutOrganization(want) })
		want.Version = version(t, db)
		edit(t, db, func(tx store.Tx) error {
			got, err := tx.Organization(want.ID)
			same(t, "Organization", got, &want)
			return err
		})
		same(t, "Since", since(t, db, want.Version-1).Organizations, []store.Organization{want})
	}
}

func testApplications(t *testing.T, db store.DB) {
	org := organization("Acme")
	for i, change := range []func(*store.Application){
		func(a *store.Application) {},
		func(a *store.Application) { a.PublishableKey = "" },
		func(a *store.Application) { a.PublishableKey = "" }, // none is not a value that is taken
		func(a *store.Application) {
			a.Name, a.HS256Secret, a.JWKSURL, a.Issuer, a.Audience = hostile, hostile, hostile, hostile, hostile
			a.RevokedBy, a.RevokedReason, a.StateBy, a.PublishableKey, a.Number = hostile, hostile, hostile, hostile, hostile
			a.State, a.StrictRevocation, a.Epoch, a.RevokedAt = api.ApplicationArchived, true, 1<<63-1, 1<<53
			a.IdleAfter = 1500*time.Millisecond + 1
			a.AllowedOrigins = []string{"https://a.example", "<\"'>", "שלום"}
		},
	} {
		want := application(org.ID, strconv.Itoa(i))
		change(&want)
		edit(t, db, func(tx store.Tx) error { return tx.PutApplication(want) })
		want.Version = version(t, db)
		edit(t, db, func(tx store.Tx) error {
			got, err := tx.Application(want.ID)
			same(t, "Application", got, &want)
			return err
		})
		same(t, "Since", since(t, db, want.Version-1).Applications, []store.Application{want})
	}
}

func testKeys(t *testing.T, db store.DB) {
	org := organization("Acme")
	for i, change := range []func(*store.Key){
		func(k *store.Key) {},
		func(k *store.Key) { k.Scopes, k.AllApplications = nil, false },
		func(k *store.Key) { k.ExpiresAt = 1 }, // a key that has expired long ago is valid input
		func(k *store.Key) {
			k.Name, k.LastFour = hostile, hostile
			k.AllApplications, k.Applications = false, []api.ApplicationID{api.NewID[api.Application](), api.NewID[api.Application]()}
			k.RevokedAt, k.Scopes = 5, api.Scopes
		},
	} {
		want := key(org.ID, fmt.Sprint("key", i))
		change(&want)
		edit(t, db, func(tx store.Tx) error { return tx.PutKey(want) })
		want.Version = version(t, db)
		edit(t, db, func(tx store.Tx) error {
			got, err := tx.Key(want.PublicID)
			same(t, "Key", got, &want)
			return err
		})
		same(t, "Since", since(t, db, want.Version-1).Keys, []store.Key{want})
	}
}

func testPutKeepsForeign(t *testing.T, db store.DB) {
	app := seed(t, db)
	k := key(app.Organization, "k")
	edit(t, db, func(tx store.Tx) error { return tx.PutKey(k) })
	fatal(t, db.Records().Write(t.Context(), []store.Record{record(app, 5000)}, nil))
	fatal(t, db.Config().TouchKeys(t.Context(), []store.KeyUse{{PublicID: "k", At: 7000, IP: "::1"}}))

	app.Name, app.Epoch, app.LastConnection = "Renamed", 3, 1
	k.Name, k.Scopes, k.LastUsedAt, k.LastUsedIP = "Renamed", nil, 1, "nobody"
	edit(t, db, func(tx store.Tx) error { return errors.Join(tx.PutApplication(app), tx.PutKey(k)) })
	app.Version, k.Version = version(t, db), version(t, db)
	app.LastConnection, k.LastUsedAt, k.LastUsedIP = 5000, 7000, "::1"
	ch := since(t, db, 0)
	same(t, "application", ch.Applications, []store.Application{app})
	same(t, "key", ch.Keys, []store.Key{k})
}

func testConflicts(t *testing.T, db store.DB) {
	org, other := organization("A"), organization("B")
	first := application(org.ID, "1")
	k := key(org.ID, "k")
	edit(t, db, func(tx store.Tx) error { return errors.Join(tx.PutApplication(first), tx.PutKey(k)) })
	before := since(t, db, 0)
	for _, c := range []struct {
		field string
		put   func(tx store.Tx) error
	}{
		{"number", func(tx store.Tx) error {
			a := application(other.ID, "2")
			a.Number = first.Number
			return tx.PutApplication(a)
		}},
		{"publishable key", func(tx store.Tx) error {
			a := application(org.ID, "2")
			a.PublishableKey = first.PublishableKey
			return tx.PutApplication(a)
		}},
		{"application id", func(tx store.Tx) error { // of another organization (G8)
			a := application(other.ID, "2")
			a.ID = first.ID
			return tx.PutApplication(a)
		}},
		{"key public id", func(tx store.Tx) error { return tx.PutKey(key(other.ID, "k")) }},
		{"number", func(tx store.Tx) error { // by a change of an application that is there
			a := application(org.ID, "2")
			if err := tx.PutApplication(a); err != nil {
				return err
			}
			a.Number = first.Number
			return tx.PutApplication(a)
		}},
		{"number", func(tx store.Tx) error { // fn looks away: the transaction is lost all the same
			_ = tx.PutOrganization(other)
			a := application(org.ID, "2")
			a.Number = first.Number
			_ = tx.PutApplication(a)
			return nil
		}},
	} {
		err := db.Config().Edit(t.Context(), c.put)
		if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: got %v, want ErrConflict that names it", c.field, err)
		}
		same(t, "after the conflict", since(t, db, 0), before)
	}
}

func testEditFails(t *testing.T, db store.DB) {
	org := organization("Acme")
	before := version(t, db)
	stop := errors.New("stop")
	if err := db.Config().Edit(t.Context(), func(tx store.Tx) error {
		if err := tx.PutOrganization(org); err != nil {
			return err
		}
		return stop
	}); err != stop { //nolint:errorlint // as it is
		t.Fatalf("got %v, want fn's error as it is", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Config().Edit(t.Context(), func(tx store.Tx) error {
			_ = tx.PutOrganization(org)
			panic("fn")
		})
	}()
	ctx, cancel := context.WithCancel(t.Context())
	if err := db.Config().Edit(ctx, func(tx store.Tx) error {
		defer cancel()
		return tx.PutOrganization(org)
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context cancelled: %v", err)
	}
	same(t, "after failures", since(t, db, 0), store.Changes{Version: before})
	edit(t, db, func(tx store.Tx) error { return tx.PutOrganization(org) }) // nothing is left locked
}

func testEditsSerialized(t *testing.T, db store.DB) {
	const writers, rounds = 8, 10
	org := organization("0")
	edit(t, db, func(tx store.Tx) error { return tx.PutOrganization(org) })
	before := version(t, db)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if err := db.Config().Edit(t.Context(), func(tx store.Tx) error {
					o, err := tx.Organization(org.ID)
					if err != nil {
						return err
					}
					o.CreatedAt++
					return tx.PutOrganization(*o)
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := since(t, db, 0).Organizations[0].CreatedAt
	if want := org.CreatedAt + writers*rounds; got != want {
		t.Errorf("%d of %d increments were lost", want-got, writers*rounds)
	}
	same(t, "version", version(t, db), before+writers*rounds)
}

func testVersion(t *testing.T, db store.DB) {
	before := version(t, db)
	edit(t, db, func(store.Tx) error { return nil })
	edit(t, db, func(tx store.Tx) error {
		return errors.Join(tx.PutOrganization(organization("A")), tx.PutOrganization(organization("B")))
	})
	same(t, "version", version(t, db), before+2)
}

func testSince(t *testing.T, db store.DB) {
	type step struct {
		version int64
		change  func(*store.Changes)
	}
	org := organization("Acme")
	app := application(org.ID, "1")
	k := key(org.ID, "k")
	denial := store.Denial{Application: app.ID, TokenID: "jti:1", ExpiresAt: 1 << 40}
	var steps []step
	after := func(change func(*store.Changes)) { steps = append(steps, step{version(t, db), change}) }
	after(func(*store.Changes) {})
	edit(t, db, func(tx store.Tx) error { return tx.PutOrganization(org) })
	after(func(ch *store.Changes) { ch.Organizations = append(ch.Organizations, org) })
	edit(t, db, func(tx store.Tx) error { return tx.PutApplication(app) })
	after(func(ch *store.Changes) { ch.Applications = append(ch.Applications, app) })
	fatal(t, db.Records().Write(t.Context(), nil, []store.Denial{denial}))
	after(func(ch *store.Changes) { ch.Denials = append(ch.Denials, denial) })
	edit(t, db, func(tx store.Tx) error { return tx.PutKey(k) })
	after(func(ch *store.Changes) { ch.Keys = append(ch.Keys, k) })
	org.Version, app.Version, k.Version = steps[1].version, steps[2].version, steps[4].version
	for i, s := range steps {
		want := store.Changes{Version: version(t, db)}
		for _, later := range steps[i+1:] {
			later.change(&want)
		}
		same(t, fmt.Sprintf("Since(%d)", s.version), since(t, db, s.version), want)
	}
	all := store.Changes{Version: version(t, db)}
	for _, s := range steps {
		s.change(&all)
	}
	same(t, "Since(0)", since(t, db, 0), all)
	same(t, "Since(future)", since(t, db, 1<<40), store.Changes{Version: version(t, db)})
}

// testSinceAtomic changes two rows together and reads meanwhile: they are never seen apart.
func testSinceAtomic(t *testing.T, db store.DB) {
	app := seed(t, db)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 50 {
			select {
			case <-stop:
				return
			default:
			}
			a := app
			a.Epoch = uint64(i)
			k := key(app.Organization, "k")
			k.Name = strconv.Itoa(i)
			if err := db.Config().Edit(t.Context(), func(tx store.Tx) error {
				return errors.Join(tx.PutApplication(a), tx.PutKey(k))
			}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		ch := since(t, db, 0)
		if len(ch.Keys) == 1 && ch.Keys[0].Name != strconv.FormatUint(ch.Applications[0].Epoch, 10) {
			t.Errorf("key of change %s with application of change %d", ch.Keys[0].Name, ch.Applications[0].Epoch)
		}
		for _, k := range ch.Keys {
			if k.Version > ch.Version {
				t.Errorf("a row of version %d in changes up to %d", k.Version, ch.Version)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func testNow(t *testing.T, db store.DB) {
	for range 3 {
		edit(t, db, func(tx store.Tx) error {
			first := tx.Now()
			// The database may run on another machine; within a minute is what its clock can be held to here.
			if d := time.Since(first.Time()); d < -time.Minute || d > time.Minute {
				t.Errorf("Now is off by %v", d)
			}
			if tx.Now() != first {
				t.Error("Now moves within the transaction")
			}
			return nil
		})
	}
}

// testNowWaits: an edit that waited for another has a later time, for what it writes comes after.
func testNowWaits(t *testing.T, db store.DB) {
	const held = 100 * time.Millisecond
	var first, second api.Millis
	inside := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-inside
		if err := db.Config().Edit(t.Context(), func(tx store.Tx) error { second = tx.Now(); return nil }); err != nil {
			t.Error(err)
		}
	})
	edit(t, db, func(tx store.Tx) error {
		first = tx.Now()
		close(inside)
		time.Sleep(held)
		return nil
	})
	wg.Wait()
	if second < first.Add(held-10*time.Millisecond) {
		t.Errorf("the edit that waited has the time %d, %d ms after the one that it waited for", second, second-first)
	}
}

func testTouchKeys(t *testing.T, db store.DB) {
	org := organization("Acme")
	k := key(org.ID, "k")
	edit(t, db, func(tx store.Tx) error { return tx.PutKey(k) })
	before := version(t, db)
	touch := func(uses ...store.KeyUse) { fatal(t, db.Config().TouchKeys(t.Context(), uses)) }
	touch()
	touch(store.KeyUse{PublicID: "k", At: 10, IP: "a"}, store.KeyUse{PublicID: "nobody", At: 10, IP: "a"})
	touch(store.KeyUse{PublicID: "k", At: 30, IP: hostile}, store.KeyUse{PublicID: "k", At: 20, IP: "b"})
	touch(store.KeyUse{PublicID: "k", At: 15, IP: "c"})
	k.Version, k.LastUsedAt, k.LastUsedIP = before, 30, hostile
	same(t, "key", since(t, db, 0).Keys, []store.Key{k})
	same(t, "version", version(t, db), before)
}

func testSecret(t *testing.T, db store.DB) {
	results := make([]string, 8)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			secret, err := db.Config().Secret(t.Context(), "signing", []byte{0, 255, byte(i)})
			if err != nil {
				t.Error(err)
			}
			results[i] = string(secret)
		})
	}
	wg.Wait()
	for _, r := range results {
		if r != results[0] || len(r) != 3 {
			t.Errorf("secrets differ: %q", results)
		}
	}
	other, err := db.Config().Secret(t.Context(), "other", []byte("x"))
	fatal(t, err)
	same(t, "another secret", string(other), "x")
	if s, err := db.Config().Secret(t.Context(), "empty", nil); err == nil {
		t.Errorf("stored an empty secret %q", s)
	}
}

func testDenials(t *testing.T, db store.DB) {
	app := seed(t, db)
	write := func(denials ...store.Denial) int64 {
		t.Helper()
		before := version(t, db)
		fatal(t, db.Records().Write(t.Context(), nil, denials))
		same(t, "version", version(t, db), before+1)
		return before
	}
	a := store.Denial{Application: app.ID, TokenID: "jti:" + hostile, ExpiresAt: 1000}
	b := store.Denial{Application: app.ID, TokenID: "sha256:00", ExpiresAt: 1000}
	same(t, "first", since(t, db, write(a, b)).Denials, []store.Denial{a, b})
	// Again, with another expiry: the later one counts, and pollers see it.
	later, earlier := a, b
	later.ExpiresAt, earlier.ExpiresAt = 2000, 500
	same(t, "again", since(t, db, write(later, earlier)).Denials, []store.Denial{later, b})
	// Of another application it is another denial (G8).
	foreign := a
	foreign.Application = api.NewID[api.Application]()
	same(t, "other application", since(t, db, write(foreign)).Denials, []store.Denial{foreign})
	same(t, "all", len(since(t, db, 0).Denials), 3)

	signIn := store.Denial{TokenID: "sign-in:x", ExpiresAt: 1000} // of no application
	before := version(t, db)
	fatal(t, db.Config().Deny(t.Context(), []store.Denial{signIn}))
	same(t, "without a record", since(t, db, before).Denials, []store.Denial{signIn})

	before = version(t, db)
	fatal(t, db.Records().Write(t.Context(), []store.Record{record(app, 1)}, nil))
	fatal(t, db.Records().Write(t.Context(), nil, nil))
	same(t, "version after writes without denials", version(t, db), before)
}

func testPurge(t *testing.T, db store.DB) {
	app := api.NewID[api.Application]()
	var denials []store.Denial
	for _, at := range []api.Millis{99, 100, 101} {
		denials = append(denials, store.Denial{Application: app, TokenID: fmt.Sprint("jti:", at), ExpiresAt: at})
	}
	fatal(t, db.Records().Write(t.Context(), nil, denials))
	before := version(t, db)
	fatal(t, db.Config().Purge(t.Context(), 100))
	same(t, "denials", since(t, db, 0).Denials, denials[1:])
	same(t, "version", version(t, db), before)
}
