package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

func openStore(t *testing.T, database string) store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func storedRecord(t *testing.T, db store.DB, id string) store.Record {
	t.Helper()
	session, err := api.ParseID[api.Session](id)
	if err != nil {
		t.Fatal(err)
	}
	found, err := db.Records().Get(t.Context(), testkit.App, []api.SessionID{session})
	if err != nil {
		t.Fatal(err)
	}
	return found[session]
}

// TestTakenForDead has another node sweep a node that lives: it comes back under a new incarnation, and its records say again what
// is connected (page 4).
func TestTakenForDead(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "r.db") },
		"postgres": func(t *testing.T) string { return storetest.Database(t, storetest.Postgres(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			url := database(t)
			s := testkit.Start(t, testkit.Config{Database: url})
			stays, ends := mustOpen(t, s, hello(testkit.Token(t, nil), nil)), mustOpen(t, s, hello(testkit.Token(t, nil), nil))
			db := openStore(t, url)
			before := storedRecord(t, db, stays.ID)
			other, err := db.Nodes().Claim(t.Context(), "other")
			if err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the other node takes it for dead", func() bool {
				_, err := db.Nodes().Sweep(t.Context(), "other", other, 0)
				return err == nil && storedRecord(t, db, stays.ID).EndReason == api.EndNodeLost
			})
			during := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
			if err := ends.send(t.Context(), map[string]any{"type": api.TypeBye}); err != nil {
				t.Fatal(err)
			}
			<-ends.ended
			testkit.Eventually(t, "its records are its own again", func() bool {
				return storedRecord(t, db, stays.ID).EndedAt == 0 && storedRecord(t, db, during.ID).EndedAt == 0 &&
					storedRecord(t, db, ends.ID).EndReason == api.EndClientClosed
			})
			after := storedRecord(t, db, stays.ID)
			if after.Incarnation <= other || storedRecord(t, db, during.ID).Incarnation != after.Incarnation {
				t.Errorf("incarnation %d after %d and %d", after.Incarnation, before.Incarnation, other)
			}
			after.Incarnation = before.Incarnation
			if after.ServerID != before.ServerID || after.CreatedAt != before.CreatedAt || after.Login != before.Login {
				t.Errorf("the record was %+v and is %+v", before, after)
			}
			s.Stop(t)
			if got := storedRecord(t, db, stays.ID).EndReason; got != api.EndNodeDraining {
				t.Errorf("after the drain it ended as %q", got)
			}
		})
	}
}

// TestNameTaken: a node's name is exclusive (page 4): a second process is refused while the first lives, and need not wait for its own
// earlier life, nor long for one that died elsewhere.
func TestNameTaken(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := storetest.Database(t, storetest.Postgres(t))
	start := func(data string) (*server.Server, error) {
		return server.New(t.Context(), server.Config{Listen: "127.0.0.1:0", Data: data, Database: database, Node: "srv-01",
			Log: slog.New(slog.DiscardHandler)})
	}
	// run runs a node until stop, which returns how it ended.
	run := func(srv *server.Server, err error) (stop func() error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Run(ctx) }()
		return func() error { cancel(); return <-ended }
	}
	first, second := t.TempDir(), t.TempDir()
	stop := run(start(first))
	if _, err := start(second); !errors.Is(err, store.ErrNameTaken) || !strings.Contains(err.Error(), "--node") {
		t.Errorf("the second was refused with %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("the first ended with %v", err)
	}
	for name, data := range map[string]string{"where it was": first, "elsewhere": second} {
		fastest := time.Hour
		for range 3 { // a busy machine can be as slow once
			began := time.Now()
			stop = run(start(data))
			fastest = min(fastest, time.Since(began))
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		if fastest > 2*time.Second {
			t.Errorf("%s it waited %v for an earlier life that had stopped", name, fastest)
		}
	}
	if _, err := openStore(t, database).Nodes().Claim(t.Context(), "srv-01"); err != nil { // a life that gives no more signs
		t.Fatal(err)
	}
	stop = run(start(first))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestNameLost: a node that finds its name taken all the same ends rather than fight for it.
func TestNameLost(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := storetest.Database(t, storetest.Postgres(t))
	srv, err := server.New(t.Context(), server.Config{Listen: "127.0.0.1:0", Data: t.TempDir(), Database: database, Node: "srv-01",
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, database).Nodes().Claim(t.Context(), "srv-01"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := srv.Run(ctx); !errors.Is(err, store.ErrNameTaken) || !strings.Contains(err.Error(), "--node") {
		t.Errorf("it ended with %v", err)
	}
}

// TestPostgresAway: with PostgreSQL gone sessions come and go as before, answers say what is missing, and all of it is recorded
// when it is back (G6, G9).
func TestPostgresAway(t *testing.T) {
	t.Parallel() // it waits most of the time
	postgres := storetest.Postgres(t)
	database := storetest.Database(t, postgres)
	s := testkit.Start(t, testkit.Config{Database: database})
	before := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
	for _, away := range []struct {
		name        string
		begin, back func() error
	}{
		{"killed", func() error { postgres.Kill(); return nil }, func() error { return postgres.Up(context.Background()) }},
		{"stopped", func() error { return postgres.Pause(t.Context()) }, func() error { postgres.Resume(); return nil }},
	} {
		if err := away.begin(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		during := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
		gone := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
		if err := gone.send(t.Context(), map[string]any{"type": api.TypeBye}); err != nil {
			t.Fatal(err)
		}
		<-gone.ended
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: two sessions took %v", away.name, took)
		}
		if n := list(t, s, url.Values{}).Total; n != 2 {
			t.Errorf("%s: %d sessions, want 2", away.name, n)
		}
		start = time.Now()
		if status, body := s.Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, ""), nil); status != http.StatusServiceUnavailable {
			t.Errorf("%s: revoke-all: %d %s", away.name, status, body)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("%s: the refusal took %v", away.name, took)
		}
		if err := away.back(); err != nil {
			t.Fatal(err)
		}
		db := openStore(t, database)
		testkit.Eventually(t, away.name+": the records are written", func() bool {
			return storedRecord(t, db, during.ID).EndedAt == 0 && storedRecord(t, db, during.ID).CreatedAt != 0 &&
				storedRecord(t, db, gone.ID).EndReason == api.EndClientClosed && storedRecord(t, db, before.ID).EndedAt == 0
		})
		if err := during.send(t.Context(), map[string]any{"type": api.TypeBye}); err != nil {
			t.Fatal(err)
		}
		<-during.ended
	}
}
