package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

func open(t testing.TB, url string) store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// claim makes the owner of records.
func claim(t testing.TB, db store.DB) (incarnation int64) {
	t.Helper()
	incarnation, err := db.Nodes().Claim(context.Background(), "srv-01")
	if err != nil {
		t.Fatal(err)
	}
	return incarnation
}

func TestSQLiteFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.DB { return open(t, "sqlite:"+filepath.Join(t.TempDir(), "r.db")) })
}

func TestSQLiteMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.DB { return open(t, "sqlite::memory:") })
}

// TestQueryPlans keeps the cost of a statement from growing with the number of sessions.
func TestQueryPlans(t *testing.T) {
	db := open(t, "sqlite::memory:")
	for name, q := range store.Queries() {
		plan := strings.Join(store.Plan(t, db, q[0]), "; ")
		if !strings.Contains(plan, q[1]+" (") || strings.Contains(plan, "SCAN sessions") ||
			strings.Contains(plan, "TEMP B-TREE FOR ORDER") {
			t.Errorf("%s does not use %s alone: %s", name, q[1], plan)
		}
	}
}

func TestOpenCreates(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"new/deep/er/r.db", "with space.db", "with%41percent#hash.db", "שלום🦊.db",
		"//" + dir + "/slashes.db"} {
		file := path
		if !strings.HasPrefix(file, "//") {
			file = filepath.Join(dir, file)
		}
		org := store.Organization{ID: testOrg, Name: path}
		for range 2 { // again, with what is there
			db, err := store.Open(t.Context(), "sqlite:"+file)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Config().Edit(t.Context(), func(tx store.Tx) error { return tx.PutOrganization(org) }); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
		info, err := os.Stat(strings.TrimPrefix(file, "//"))
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the database holds secrets and has mode %v", path, info.Mode())
		}
		left, _ := filepath.Glob(strings.TrimPrefix(file, "//") + "-*")
		if len(left) != 0 {
			t.Errorf("%s: Close left %v", path, left)
		}
	}
	t.Chdir(dir)
	db := open(t, "sqlite:relative.db")
	if _, err := os.Stat(filepath.Join(dir, "relative.db")); err != nil {
		t.Error(err)
	}
	_ = db
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	database := func(name, statement string) string {
		path := filepath.Join(dir, name)
		db, err := store.Open(t.Context(), "sqlite:"+path)
		if err != nil {
			t.Fatal(err)
		}
		store.Exec(t, db, statement)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := database("newer.db", `INSERT INTO rollcall_schema (version_id, is_applied) VALUES (99999, 1)`)
	damaged := database("damaged.db", `CREATE INDEX padding ON sessions (name)`)
	content, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := 100; i < len(content); i++ { // the header stays
		content[i] = 0xAA
	}
	file("damaged.db", string(content))
	for _, c := range []struct{ name, url, want string }{
		{"empty", "", "sqlite:PATH"},
		{"no scheme", "/var/lib/rollcall.db", "sqlite:PATH"},
		{"unknown scheme", "mysql://user:hunter2@host/db", "sqlite:PATH"},
		{"upper case", "SQLITE:x.db", "sqlite:PATH"},
		{"no path", "sqlite:", "no path"},
		{"options", "sqlite:" + dir + "/x.db?mode=ro", "no options"},
		{"NUL", "sqlite:" + dir + "/x\x00.db", "cannot have"},
		{"a directory", "sqlite:" + dir, "is a directory"},
		{"below a file", "sqlite:" + file("plain", "") + "/x.db", "choose a directory"},
		{"not a database", "sqlite:" + file("text.db", strings.Repeat("not a database ", 1000)), "move it away"},
		{"damaged", "sqlite:" + damaged, "restore a backup"},
		{"newer", "sqlite:" + newer, "newer Rollcall (schema 99999"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := store.Open(t.Context(), c.url)
			if err == nil {
				_ = db.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %q in it, no password, one line", err, c.want)
			}
		})
	}
	t.Run("unwritable", func(t *testing.T) {
		if os.Geteuid() == 0 || runtime.GOOS == "windows" {
			t.Skip("skipped: this user may write everywhere")
		}
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		if _, err := store.Open(t.Context(), "sqlite:"+dir+"/x.db"); err == nil || !strings.Contains(err.Error(), "may write") {
			t.Errorf("got %v", err)
		}
	})
}

// TestOpenAtOnce has several openings migrate the same new file.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), "sqlite:"+path)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = db.Close() })
			if err := db.Config().Edit(t.Context(), func(tx store.Tx) error {
				return tx.PutOrganization(store.Organization{ID: api.NewID[api.Organization](), Name: fmt.Sprint(i)})
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ch, err := open(t, "sqlite:"+path).Config().Since(t.Context(), 0)
	if err != nil || len(ch.Organizations) != 6 || ch.Version != 6 {
		t.Errorf("%d organizations at version %d, %v", len(ch.Organizations), ch.Version, err)
	}
}
