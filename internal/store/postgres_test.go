package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/pgserver"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

// sharedPostgres is the server of all tests that do it no harm; TestMain closes it.
var (
	closeSharedPostgres = func() {}
	sharedPostgres      = sync.OnceValues(func() (*pgserver.Server, error) {
		server, err := pgserver.Start(context.Background())
		if err == nil {
			closeSharedPostgres = server.Close
		}
		return server, err
	})
)

func postgresURL(t testing.TB) string {
	t.Helper()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	return storetest.Database(t, server)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	database, schemas := storetest.DatabaseName(t, server), 0
	storetest.Run(t, func(t *testing.T) store.DB { // a schema each, which is made faster than a database
		schemas++
		name := fmt.Sprintf("s%d", schemas)
		if err := server.Exec(t.Context(), database, "CREATE SCHEMA "+name); err != nil {
			t.Fatal(err)
		}
		return open(t, server.URL(database)+"&search_path="+name)
	})
}

// TestPostgresQueryPlans keeps the cost of a statement from growing with the number of sessions. One application has nearly all of
// them, as in life; the other must not pay for it.
func TestPostgresQueryPlans(t *testing.T) {
	t.Parallel()
	db := open(t, postgresURL(t))
	inc := claim(t, db)
	const (
		large, small = "550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440001"
		org          = "11111111-1111-4111-8111-111111111111"
		planRows     = 20_000
	)
	store.Exec(t, db, fmt.Sprintf(`INSERT INTO sessions SELECT (CASE WHEN i %% 1000 = 0 THEN '%s' ELSE '%s' END)::uuid, gen_random_uuid(),
		'%s', 'srv-01:' || i, %d, i, '203.0.113.10', 'client' || i, 'john@example.com', 'ABCDEF-123456', true, 0, '', 'mbp', 'x/1', NULL,
		i, CASE WHEN i %% 50 = 0 THEN 0 ELSE i + 1 END, '', '', '', 0, CASE WHEN i %% 500 = 0 THEN 90 ELSE 0 END, '', ''
		FROM generate_series(1, %d) AS i`, small, large, org, inc, planRows))
	store.Exec(t, db, `VACUUM ANALYZE sessions`)
	ids := make([]string, 100)
	for i := range ids {
		ids[i] = `"` + api.NewSessionID().String() + `"`
	}
	list := "[" + strings.Join(ids, ",") + "]"
	queries := store.Queries()
	for _, c := range []struct {
		query string
		args  []any
	}{
		{"recordsByID", []any{large, list}}, {"recordsByID", []any{small, list}},
		{"endedNewest", []any{large, 0, 100}}, {"endedNewest", []any{small, 0, 100}},
		{"endedNewest", []any{large, planRows - 1000, 100}},
		{"endedAfter", []any{large, 0, planRows / 2, "srv-01:1", 100}}, {"endedAfter", []any{small, 0, planRows / 2, "srv-01:1", 100}},
		{"countEnded", []any{large, large, 1000, large, large, list, 1000}}, {"countEnded", []any{small, small, 1000, small, small, list, 1000}},
		{"countExpired", []any{large, large, 1000, large, large, list, 1000}},
		{"expire", []any{org, 1000, 500}},
		{"nextOpen", []any{0}},
		{"closeOpen", []any{0, 0, "node_lost", inc, inc, 1000}},
	} {
		index := queries[c.query][1]
		if index == "sqlite_autoindex_sessions_1" {
			index = "sessions_pkey"
		}
		plan := store.PostgresPlan(t, db, queries[c.query][0], c.args...)
		if !regexp.MustCompile(`(using|on) `+index+`\b`).MatchString(plan) || strings.Contains(plan, "Seq Scan on sessions") {
			t.Errorf("%s %.40v does not use %s alone:\n%s", c.query, c.args, index, plan)
		}
	}
}

func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	for _, statement := range []string{
		`CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`, `CREATE ROLE ` + pgserver.Guarded + ` LOGIN PASSWORD 'hunter2'`,
		`CREATE ROLE nobody LOGIN`, `CREATE DATABASE newer`, `CREATE DATABASE elsewhere`,
	} {
		if err := server.Exec(t.Context(), "postgres", statement); err != nil {
			t.Fatal(err)
		}
	}
	newer, err := store.Open(t.Context(), server.URL("newer"))
	if err != nil {
		t.Fatal(err)
	}
	store.Exec(t, newer, `INSERT INTO rollcall_schema (version_id, is_applied) VALUES (99999, true)`)
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	socket := "?sslmode=disable&host=" + server.Dir()
	for _, c := range []struct{ name, url, want string }{
		{"no server", "postgres://u:hunter2@127.0.0.1:1/x", "127.0.0.1:1"},
		{"no socket", "postgres://u:hunter2@/x?host=/nowhere", "/nowhere"},
		{"wrong password", "postgres://" + pgserver.Guarded + ":hunter22@/elsewhere" + socket, "check the user and the password"},
		{"no password", "postgres://" + pgserver.Guarded + "@/elsewhere" + socket, "password"},
		{"no such database", "postgres://" + pgserver.User + ":hunter2@/none" + socket, "create the database"},
		{"no such user", "postgres://none:hunter2@/elsewhere" + socket, "check the user"},
		{"may not create tables", "postgres://nobody:hunter2@/elsewhere" + socket, "grant it CREATE"},
		{"encoding", server.URL("latin"), "ENCODING 'UTF8'"},
		{"newer", server.URL("newer"), "newer Rollcall (schema 99999"},
		{"@ in the password", "postgres://u:hun@hunter2@host/x", "percent-encoded"},
		{"bad port", "postgres://u:hunter2@host:port/x", "percent-encoded"},
		{"# in the password", "postgres://u:hun#hunter2@host/x", "percent-encoded"},
		{"/ in the password", "postgres://u:12/hunter2@host/x", "percent-encoded"},
		{"? in the password", "postgres://u:12?hunter2@host/x", "percent-encoded"},
		{"% in the password", "postgres://u:%hunter2@host/x", "percent-encoded"},
		{"space in the password", "postgres://u:hunter2 @host/x", "percent-encoded"},
		{"control character", "postgres://u:hunter2@host/x\n", "percent-encoded"},
		{"bad TLS mode", "postgres://u:hunter2@host/x?sslmode=sometimes", "sslmode"},
		{"no certificate", "postgres://u:hunter2@host/x?sslmode=verify-full&sslrootcert=/nowhere/hunter2.pem", "CA file"},
		{"bad target", "postgres://u:hunter2@host/x?target_session_attrs=best", "target_session_attrs"},
		{"password as an option", "postgres://u@host/x?password=hunter2&connect_timeout=hunter2", "connect_timeout"},
		{"unknown option", "postgres://" + pgserver.User + "@/elsewhere" + socket + "&pool_size=3", "pool_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			db, err := store.Open(t.Context(), c.url)
			if err == nil {
				_ = db.Close()
				t.Fatal("no error")
			}
			t.Log(err)
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %q in it, no password, one line", err, c.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestPostgresOwner: the privileges that docs/operations.md asks for are enough.
func TestPostgresOwner(t *testing.T) {
	server := storetest.Postgres(t)
	for _, statement := range []string{`CREATE ROLE guarded LOGIN PASSWORD 'p@ss/w#rd? %'`,
		`CREATE DATABASE owned OWNER guarded ENCODING 'UTF8' TEMPLATE template0`} {
		if err := server.Exec(t.Context(), "postgres", statement); err != nil {
			t.Fatal(err)
		}
	}
	u := "postgres://" + url.UserPassword("guarded", "p@ss/w#rd? %").String() + "@/owned?sslmode=disable&host=" + server.Dir()
	for range 2 {
		claim(t, open(t, u))
	}
	t.Setenv("PGPASSWORD", "p@ss/w#rd? %")
	claim(t, open(t, "postgresql://guarded@/owned?sslmode=disable&host="+server.Dir()))
}

// TestPostgresRefusedValue has PostgreSQL itself refuse one record of a batch.
func TestPostgresRefusedValue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ statement, login string }{
		"trigger": {`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
			CREATE TRIGGER refuse BEFORE INSERT ON sessions FOR EACH ROW WHEN (new.login = 'poison') EXECUTE FUNCTION refuse()`, "poison"},
		"constraint":            {`ALTER TABLE sessions ADD CHECK (login <> 'poison')`, "poison"},
		"too long for an index": {`CREATE INDEX ON sessions (login)`, incompressible(9000)},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := sharedPostgres()
			storetest.Need(t, err)
			database := storetest.DatabaseName(t, server)
			db := open(t, server.URL(database))
			if err := server.Exec(t.Context(), database, c.statement); err != nil {
				t.Fatal(err)
			}
			refusedValue(t, db, c.login)
		})
	}
}

func incompressible(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('!' + random.IntN(90))
	}
	return string(b)
}

// TestPostgresHuge: what a client may send at most, and far more, is kept.
func TestPostgresHuge(t *testing.T) {
	t.Parallel()
	db := open(t, postgresURL(t))
	rec := newRecord(1)
	rec.Incarnation = claim(t, db)
	rec.Login, rec.UserAgent, rec.ClientInfo = incompressible(1<<18), strings.Repeat("\x00", 1<<18), []byte(incompressible(1<<18))
	if err := db.Records().Write(t.Context(), []store.Record{rec}, nil); err != nil {
		t.Fatal(err)
	}
	found, err := db.Records().Get(t.Context(), testApp, []api.SessionID{rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "record", found[rec.ID], rec)
}
