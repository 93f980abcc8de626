package tenant

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// runner is a directory whose Run is on.
type runner struct {
	*Directory
	db *flaky
}

// running starts Run in the caller's bubble; stop ends it and waits.
func running(t *testing.T, db *flaky) (r runner, stop func()) {
	t.Helper()
	d, err := New(t.Context(), Config{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return runner{d, db}, stop
}

// bubble runs fn in a synctest bubble with a database that holds the example.
func bubble(t *testing.T, fn func(t *testing.T, db store.Config)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite::memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		d, err := New(t.Context(), Config{Store: db.Config()})
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{exampleFile, moreFile} {
			if err := d.Bootstrap(t.Context(), strings.NewReader(file)); err != nil {
				t.Fatal(err)
			}
		}
		fn(t, db.Config())
	})
}

func TestPollSeesChangesOfOtherNodes(t *testing.T) {
	bubble(t, func(t *testing.T, db store.Config) {
		here, stop := running(t, &flaky{Config: db})
		defer stop()
		there, err := New(t.Context(), Config{Store: db})
		if err != nil {
			t.Fatal(err)
		}
		var told []api.ApplicationState
		var mu sync.Mutex
		here.OnApplication(func(app Application) int {
			mu.Lock()
			defer mu.Unlock()
			if app.ID == appID {
				told = append(told, app.State)
			}
			return 0
		})
		k, err := here.Authenticate("Bearer "+plainKey, somewhere)
		want(t, err, "", "")
		if _, err := there.RevokeKey(t.Context(), keyPublic); err != nil {
			t.Fatal(err)
		}
		paused := api.ApplicationPaused
		if _, err := there.PatchApplication(t.Context(), appID, ApplicationInput{State: &paused}, Admin); err != nil {
			t.Fatal(err)
		}
		_, err = here.Recheck(k)
		want(t, err, "", "") // not yet
		time.Sleep(501 * time.Millisecond)
		synctest.Wait()
		_, err = here.Recheck(k)
		want(t, err, api.CodeKeyRevoked, "")
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(told, []api.ApplicationState{api.ApplicationActive, api.ApplicationPaused}) {
			t.Errorf("told %v", told)
		}
	})
}

// A callback that ends many sessions may take long; keys and denials must not wait for it (G7).
func TestSlowCallbackDoesNotHoldUpPolling(t *testing.T) {
	bubble(t, func(t *testing.T, db store.Config) {
		here, stop := running(t, &flaky{Config: db})
		defer stop()
		there, err := New(t.Context(), Config{Store: db})
		if err != nil {
			t.Fatal(err)
		}
		var slow atomic.Bool
		here.OnApplication(func(Application) int {
			if slow.Load() {
				time.Sleep(10 * time.Second)
			}
			return 0
		})
		slow.Store(true)
		k, err := here.Authenticate("Bearer "+plainKey, somewhere)
		want(t, err, "", "")
		if _, _, err := there.Revoke(t.Context(), appID, Admin, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(600 * time.Millisecond)
		if _, err := there.RevokeKey(t.Context(), keyPublic); err != nil {
			t.Fatal(err)
		}
		time.Sleep(501 * time.Millisecond)
		_, err = here.Recheck(k)
		want(t, err, api.CodeKeyRevoked, "")
	})
}

func TestReadsGoOnWhileTheDatabaseIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, db store.Config) {
		here, stop := running(t, &flaky{Config: db})
		defer stop()
		if here.Away() != nil {
			t.Fatal("away at the start")
		}
		app, _ := here.Application(appID)
		reply, err := here.IssueToken(app, api.TokenInput{ExpiresIn: 3600})
		want(t, err, "", "")
		here.db.set(func(f *flaky) { f.down = errDown })
		time.Sleep(501 * time.Millisecond)
		synctest.Wait()
		if !errors.Is(here.Away(), errDown) {
			t.Errorf("Away is %v", here.Away())
		}
		_, err = here.Verify(t.Context(), Credential{Token: reply.Token})
		want(t, err, "", "")
		_, err = here.Authenticate("Bearer "+plainKey, somewhere)
		want(t, err, "", "")
		for name, write := range map[string]func() error{
			"revoke": func() error { _, _, err := here.Revoke(t.Context(), appID, Admin, ""); return err },
			"patch": func() error {
				_, err := here.PatchApplication(t.Context(), appID, ApplicationInput{Name: new("New")}, Admin)
				return err
			},
			"key": func() error { _, err := here.RevokeKey(t.Context(), keyPublic); return err },
			"organization": func() error {
				_, err := here.CreateOrganization(t.Context(), OrganizationInput{Name: new("A")})
				return err
			},
			"bootstrap": func() error { return here.Bootstrap(t.Context(), strings.NewReader(exampleFile)) },
		} {
			err := write()
			want(t, err, api.CodeUnavailable, "")
			if !errors.Is(err, errDown) {
				t.Errorf("%s: the cause is lost: %v", name, err)
			}
		}
		_, err = here.Verify(t.Context(), Credential{Token: reply.Token})
		want(t, err, "", "")
		here.db.set(func(f *flaky) { f.down = nil })
		time.Sleep(501 * time.Millisecond)
		synctest.Wait()
		if here.Away() != nil {
			t.Errorf("Away is %v after it is back", here.Away())
		}
	})
}

func TestOnApplicationIsToldBeforeTheWriteReturns(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var last Application
	calls := 0
	w.OnApplication(func(app Application) int {
		calls++
		if app.ID == appID {
			last = app
		}
		return 0
	})
	if calls != 3 {
		t.Errorf("%d calls at the start, want one an application", calls)
	}
	paused := api.ApplicationPaused
	w.patch(appID, ApplicationInput{State: &paused})
	if last.State != api.ApplicationPaused || last.StateBy != "admin" || calls != 4 {
		t.Errorf("after pause: %s by %q, %d calls", last.State, last.StateBy, calls)
	}
	_, err := w.PatchOrganization(ctx, orgID, OrganizationInput{Plan: &PlanInput{MaxAuthorizedSessions: new(5)}})
	want(t, err, "", "")
	if last.MaxAuthorized() != 5 || calls != 6 {
		t.Errorf("after a change of plan: %d, %d calls, want both applications told", last.MaxAuthorized(), calls)
	}
	w.patch(appID, ApplicationInput{State: &paused})
	if calls != 6 {
		t.Error("a change of nothing was told")
	}
	if app, err := w.ArchiveApplication(ctx, appID, "somekey"); err != nil || last.Epoch != 1 || app.Epoch != 1 ||
		last.State != api.ApplicationArchived || last.StateBy != "somekey" || last.RevokedAt == 0 {
		t.Errorf("after archive: %+v, %v", last, err)
	}
}

func TestCallbacksAreSerialAndEachChangeIsTold(t *testing.T) {
	w := newWorld(t)
	var inside atomic.Int32
	newest := map[api.ApplicationID]int64{}
	w.OnApplication(func(app Application) int {
		if inside.Add(1) != 1 {
			t.Error("two calls at once")
		}
		if app.Version < newest[app.ID] {
			t.Error("an older state came after a newer one")
		}
		newest[app.ID] = app.Version
		inside.Add(-1)
		return 0
	})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				id := []api.ApplicationID{appID, otherID}[i%2]
				d := api.Duration(time.Duration(1+i*100+j) * time.Second)
				app, err := w.PatchApplication(t.Context(), id, ApplicationInput{IdleAfter: &d}, Admin)
				if err != nil || app.Version == 0 {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, id := range []api.ApplicationID{appID, otherID} {
		if app := w.app(id); newest[id] != app.Version {
			t.Errorf("told up to %d, want %d", newest[id], app.Version)
		}
	}
}

// A commit may succeed and its answer be lost.
func TestAmbiguousCommit(t *testing.T) {
	w := newWorld(t)
	w.OnApplication(func(app Application) int { return int(app.Epoch) * 10 })
	w.db.set(func(f *flaky) { f.failCommit = errDown })
	_, count, err := w.Revoke(t.Context(), appID, Admin, "why")
	want(t, err, "", "")
	if app := w.app(appID); count != 10 || app.Epoch != 1 || app.RevokedReason != "why" || app.RevokedBy != "admin" {
		t.Errorf("count %d, epoch %d", count, app.Epoch)
	}
	w.db.set(func(f *flaky) { f.failCommit, f.failSince = nil, 3 })
	_, count, err = w.Revoke(t.Context(), appID, Admin, "")
	want(t, err, "", "")
	if count != 20 {
		t.Errorf("count %d although the read came late", count)
	}
	w.db.set(func(f *flaky) { f.failSince = 0 })
}

func TestWriteOutlivesItsCaller(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.db.set(func(f *flaky) { f.onCommit = cancel })
	w.OnApplication(func(Application) int { return 7 })
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, _, err := w.Revoke(gone, appID, Admin, "")
	want(t, err, api.CodeUnavailable, "")
	if w.app(appID).Epoch != 0 {
		t.Error("revoked for a caller that had left before")
	}
	_, n, err := w.Revoke(ctx, appID, Admin, "")
	want(t, err, "", "")
	if n != 7 || ctx.Err() == nil {
		t.Errorf("got %d, %v", n, ctx.Err())
	}
}

func TestNewFailsWithoutDatabase(t *testing.T) {
	if _, err := New(t.Context(), Config{Store: &flaky{Config: newDB(t), down: errDown}}); !errors.Is(err, errDown) {
		t.Errorf("got %v", err)
	}
}

func TestOlderDatabaseIsReadAnew(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.Revoke(t.Context(), appID, Admin, ""); err != nil {
		t.Fatal(err)
	}
	token := w.issue(appID, api.TokenInput{})
	w.db.Config = newDB(t) // a restored backup
	fresh, err := New(t.Context(), Config{Store: w.db})
	want(t, err, "", "")
	want(t, fresh.Bootstrap(t.Context(), strings.NewReader(exampleFile)), "", "")
	w.pollOnce(t.Context())
	if app := w.app(appID); app.Epoch != 0 {
		t.Errorf("epoch %d is not the database's", app.Epoch)
	}
	_, err = w.Verify(t.Context(), Credential{Token: token})
	want(t, err, api.CodeTokenInvalid, "epoch")
}
