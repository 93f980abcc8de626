package store_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcallhq/rollcall/internal/pgserver"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

// pgDump returns a script that makes the database again, without what differs from server to server.
func pgDump(t *testing.T, server *pgserver.Server, url string, args ...string) string {
	t.Helper()
	args = append([]string{"--inserts", "--no-owner", "--no-privileges", "--dbname", url}, args...)
	out, err := exec.Command(filepath.Join(server.Binaries(), "pg_dump"), args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "SET ") && !strings.HasPrefix(line, `\`) && line != "\n" {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestPostgresReleased(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	migrations, err := fs.Glob(os.DirFS("migrations/postgres"), "*.sql")
	if err != nil || len(migrations) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	newest := "postgres/" + migrations[len(migrations)-1][:5]
	if _, err := os.Stat(dumpFile(newest, "sql")); err != nil && *newdump {
		url := postgresURL(t)
		c := fill(t, open(t, url))
		writeDumps(t, newest, c, pgDump(t, server, url))
	}
	dumps, err := filepath.Glob(dumpFile("postgres/*", "sql"))
	if err != nil || !slices.Contains(dumps, dumpFile(newest, "sql")) {
		t.Fatalf("there is no dump of schema %s: see newdump", newest)
	}
	fresh := postgresURL(t)
	_ = open(t, fresh)
	for _, file := range dumps {
		version := "postgres/" + strings.TrimSuffix(filepath.Base(file), ".sql")
		t.Run(version, func(t *testing.T) {
			script, want := readDump(t, version)
			name := storetest.DatabaseName(t, server)
			if err := server.Exec(t.Context(), name, script); err != nil {
				t.Fatal(err)
			}
			// Several nodes start at once after an upgrade.
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					db, err := store.Open(context.Background(), server.URL(name))
					if err != nil {
						t.Error(err)
						return
					}
					_ = db.Close()
				})
			}
			wg.Wait()
			equal(t, "contents", readAll(t, open(t, server.URL(name)), want.ids()), want)
			equal(t, "schema", pgDump(t, server, server.URL(name), "--schema-only"), pgDump(t, server, fresh, "--schema-only"))
		})
	}
}

// TestPostgresOpenAtOnce has several nodes start on a new database.
func TestPostgresOpenAtOnce(t *testing.T) {
	t.Parallel()
	server := storetest.Postgres(t)
	url := storetest.Database(t, server)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := store.Open(context.Background(), url)
			if err != nil {
				t.Error(err)
				return
			}
			claim(t, db)
			_ = db.Close()
		})
	}
	wg.Wait()
	equal(t, "incarnation", claim(t, open(t, url)), 7)
	if log := server.Log(); strings.Contains(log, "ERROR") {
		t.Errorf("they were in each other's way:\n%s", log)
	}
}
