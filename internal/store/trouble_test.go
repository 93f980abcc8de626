package store_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// TestTrouble has the database file fail in the ways that files do, under a recorder: sessions go on, records wait, nothing is
// lost, and it recovers by itself. Time is the bubble's, so that waiting for locks takes none.
func TestTrouble(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, db store.DB, path string) (end func()){
		"disk full": func(t *testing.T, db store.DB, _ string) func() {
			store.Exec(t, db, `PRAGMA max_page_count = 1`) // no less than it has
			return func() { store.Exec(t, db, `PRAGMA max_page_count = 1000000`) }
		},
		"read-only": func(t *testing.T, db store.DB, _ string) func() {
			store.Exec(t, db, `PRAGMA query_only = 1`)
			return func() { store.Exec(t, db, `PRAGMA query_only = 0`) }
		},
		"locked": func(t *testing.T, _ store.DB, path string) func() {
			other, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			other.SetMaxOpenConns(1)
			if _, err := other.Exec(`BEGIN IMMEDIATE`); err != nil {
				t.Fatal(err)
			}
			return func() {
				if _, err := other.Exec(`ROLLBACK`); err != nil {
					t.Error(err)
				}
				if err := other.Close(); err != nil {
					t.Error(err)
				}
			}
		},
		"file gone": func(t *testing.T, _ store.DB, path string) func() {
			move := func(from, to string) {
				if err := os.Rename(from, to); err != nil {
					t.Error(err)
				}
			}
			move(path, path+".away")
			return func() { move(path+".away", path) }
		},
		"table gone": func(t *testing.T, db store.DB, _ string) func() {
			store.Exec(t, db, `ALTER TABLE sessions RENAME TO elsewhere`)
			return func() { store.Exec(t, db, `ALTER TABLE elsewhere RENAME TO sessions`) }
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { trouble(t, begin) }) })
	}
}

func trouble(t *testing.T, begin func(t *testing.T, db store.DB, path string) (end func())) {
	path := filepath.Join(t.TempDir(), "r.db")
	db := open(t, "sqlite:"+path)
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), Incarnation: claim(t, db)})
	defer runRecorder(t, r)()
	var rows []store.Record
	connect := func(n int) {
		for range n {
			rec := newRecord(api.Millis(len(rows) + 1))
			rec.Name = "a name that takes some room in the file, so that it has to grow"
			rows = append(rows, rec)
			commit(t, stage(t, r, rec))
		}
	}
	connect(10)
	end := begin(t, db, path)
	connect(300)
	for i := range rows {
		if i%2 == 0 {
			rows[i] = endOf(rows[i], 1000)
			r.End(rows[i], denialOf(rows[i].ID.String()))
		}
	}
	time.Sleep(20 * time.Second)
	if s := r.Status(); !s.Away || s.Err == "" || s.Queued < 300 {
		t.Errorf("in trouble: %+v", s)
	}
	check := func() {
		t.Helper()
		for i := range rows {
			if got, _ := read(t, r, rows[i]); got.EndedAt != rows[i].EndedAt {
				t.Fatalf("record %d reads as ended at %d, want %d", i, got.EndedAt, rows[i].EndedAt)
			}
		}
	}
	_, gone := os.Stat(path) // readers that are opened then find nothing
	if _, err := db.Config().Version(t.Context()); err != nil && gone == nil {
		t.Errorf("reading does not work: %v", err)
	}
	end()
	time.Sleep(5 * time.Second)
	equal(t, "afterwards", r.Status(), store.RecorderStatus{})
	check()
	n, err := db.Records().CountEnded(t.Context(), testApp, 0)
	equal(t, "ended in SQL", n, 155)
	ch, err2 := db.Config().Since(t.Context(), 0)
	equal(t, "denials", len(ch.Denials), 155)
	if err != nil || err2 != nil {
		t.Error(err, err2)
	}
	connect(1)
}

// TestRefusedValue has SQLite itself refuse one record of a batch.
func TestRefusedValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, "sqlite::memory:")
		store.Exec(t, db, `CREATE TRIGGER refuse BEFORE INSERT ON sessions WHEN new.login = 'poison'
			BEGIN SELECT RAISE(ABORT, 'no'); END`)
		refusedValue(t, db, "poison")
	})
}

// refusedValue has one record of a batch with a login that the database refuses: it alone is lost, and not its denial.
func refusedValue(t *testing.T, db store.DB, login string) {
	t.Helper()
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), Incarnation: claim(t, db)})
	var rows []store.Record
	for i := range 50 {
		rec := endOf(newRecord(api.Millis(i+1)), 99)
		if i == 7 {
			rec.Login = login
		}
		rows = append(rows, rec)
		r.End(rec, denialOf(rec.ID.String()))
	}
	defer runRecorder(t, r)()
	if r.Flush(context.Background()) {
		t.Error("Flush says durable")
	}
	for i := range rows {
		if _, ok := read(t, r, rows[i]); ok == (i == 7) {
			t.Errorf("record %d is there: %v", i, ok)
		}
	}
	ch, err := db.Config().Since(t.Context(), 0)
	equal(t, "denials", len(ch.Denials), 50)
	if err != nil {
		t.Error(err)
	}
}

// TestUnknownOwners: records whose node has no row, as a partial restore leaves them, are closed by the next sweep.
func TestUnknownOwners(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "sqlite::memory:" },
		"postgres": func(t *testing.T) string { return postgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, url(t))
			connection, lease := newRecord(1000), newRecord(1000)
			connection.Incarnation, lease.Incarnation, lease.Lease = claim(t, db), 1, &store.Lease{Seconds: 90}
			if err := db.Records().Write(t.Context(), []store.Record{connection, lease}, nil); err != nil {
				t.Fatal(err)
			}
			store.Exec(t, db, `DELETE FROM nodes`)
			if n, err := db.Nodes().Sweep(t.Context(), "srv-01", claim(t, db), time.Minute); err != nil || n != 2 {
				t.Errorf("closed %d, %v", n, err)
			}
			found, err := db.Records().Get(t.Context(), testApp, []api.SessionID{connection.ID, lease.ID})
			if err != nil {
				t.Fatal(err)
			}
			first, second := found[connection.ID], found[lease.ID]
			equal(t, "connection", []any{first.EndReason, first.EndedAt}, []any{api.EndNodeLost, api.Millis(1000)})
			equal(t, "lease", []any{second.EndReason, second.EndedAt}, []any{api.EndLeaseExpired, api.Millis(91_000)})
		})
	}
}
