package store_test

import (
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// A released schema never changes, and neither does its dump: testdata/released/NNNNN.sql is a database as that version left it,
// one row at least in every table, NNNNN.json what it means. After adding a migration, run
//
//	go test ./internal/store -run TestReleased -newdump
//
// which writes the files of the newest version of both engines (PostgreSQL's need one), when they are not there yet.
var newdump = flag.Bool("newdump", false, "write the dump of the newest schema version, if there is none")

// contents is what a database holds, as its users see it.
type contents struct {
	Changes store.Changes
	Secret  string
	Records map[api.SessionID]store.Record
	Ended   []store.Record
	Audits  []store.Audit
}

func TestReleased(t *testing.T) {
	migrations, err := fs.Glob(os.DirFS("migrations/sqlite"), "*.sql")
	if err != nil || len(migrations) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	newest := migrations[len(migrations)-1][:5]
	if _, err := os.Stat(dumpFile(newest, "sql")); err != nil && *newdump {
		writeDump(t, newest)
	}
	dumps, err := filepath.Glob(dumpFile("*", "sql"))
	if err != nil || len(dumps) == 0 || !slices.Contains(dumps, dumpFile(newest, "sql")) {
		t.Fatalf("there is no dump of schema %s: see newdump", newest)
	}
	fresh := filepath.Join(t.TempDir(), "fresh.db")
	_ = open(t, "sqlite:"+fresh)
	for _, file := range dumps {
		version := strings.TrimSuffix(filepath.Base(file), ".sql")
		t.Run(version, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.db")
			script, want := readDump(t, version)
			raw(t, path, func(db *sql.DB) error { _, err := db.Exec(script); return err })
			equal(t, "contents", readAll(t, open(t, "sqlite:"+path), want.ids()), want)
			equal(t, "schema", schema(t, path), schema(t, fresh))
		})
	}
}

func dumpFile(version, ext string) string {
	return filepath.Join("testdata", "released", version+"."+ext)
}

func readDump(t *testing.T, version string) (script string, want contents) {
	t.Helper()
	b, err := os.ReadFile(dumpFile(version, "sql"))
	if err != nil {
		t.Fatal(err)
	}
	script = string(b)
	if b, err = os.ReadFile(dumpFile(version, "json")); err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	return script, want
}

func (c contents) ids() (ids []api.SessionID) {
	for id := range c.Records {
		ids = append(ids, id)
	}
	return ids
}

// readAll reads the contents, and what they would be after JSON, which loses the difference between empty and nil.
func readAll(t *testing.T, db store.DB, ids []api.SessionID) (c contents) {
	t.Helper()
	var err error
	if c.Changes, err = db.Config().Since(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	secret, err := db.Config().Secret(t.Context(), "token-signing", []byte("a fresh one"))
	if err != nil {
		t.Fatal(err)
	}
	c.Secret = string(secret)
	if c.Records, err = db.Records().Get(t.Context(), testApp, ids); err != nil {
		t.Fatal(err)
	}
	if c.Ended, err = db.Records().Ended(t.Context(), testApp, store.EndFilter{}, nil, 100); err != nil {
		t.Fatal(err)
	}
	if c.Audits, err = db.Audits().List(t.Context(), store.AuditQuery{Organization: testOrg, Limit: 100}); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	c = contents{}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// writeDump fills every table of a new database and writes its dump.
func writeDump(t *testing.T, version string) {
	path := filepath.Join(t.TempDir(), "dump.db")
	writeDumps(t, version, fill(t, open(t, "sqlite:"+path)), dump(t, path))
}

// fill puts a row at least into every table, and returns the contents.
func fill(t *testing.T, db store.DB) contents {
	t.Helper()
	limit := 100
	org := store.Organization{ID: testOrg, Name: "Ac'me 🦊", CreatedAt: 1700000000000, Plan: api.Plan{Name: "Pro",
		MaxAuthorizedSessions: &limit, LiveSessionsOverview: true, HistoryRetention: api.Duration(720 * time.Hour)}}
	app := store.Application{ID: testApp, Organization: testOrg, Number: "123456789", Name: "Desktop", State: api.ApplicationPaused,
		PublishableKey: "rca_0123456789abcdef", IdleAfter: 5 * time.Minute, AllowedOrigins: []string{"https://a.example"},
		StrictRevocation: true, HS256Secret: "at-least-32-bytes-of-secret-------", JWKSURL: "https://a.example/jwks", Issuer: "i",
		Audience: "a", Epoch: 7, RevokedAt: 1700000000001, RevokedBy: "admin", RevokedReason: "stolen", StateBy: "admin",
		CreatedAt: 1700000000002}
	key := store.Key{PublicID: "0123456789abcdef", Organization: testOrg, Name: "Backend", SecretHash: [32]byte{1, 2, 3},
		LastFour: "IJKL", Scopes: api.Scopes, Applications: []api.ApplicationID{testApp},
		ExpiresAt: 1800000000000, RevokedAt: 1750000000000, CreatedAt: 1700000000003}
	inc, err := db.Nodes().Claim(t.Context(), "srv-01")
	if err != nil {
		t.Fatal(err)
	}
	var records []store.Record
	ids := map[api.SessionID]store.Record{}
	for i := range 3 {
		rec := newRecord(api.Millis(1700000001000 + i))
		rec.Incarnation, rec.IP, rec.Login, rec.License, rec.Authorized = inc, "203.0.113.10", "john@example.com", "ABCDEF-123456", true
		rec.TokenExpiresAt, rec.Name, rec.Hostname, rec.UserAgent = 1700000009000, "a\x00b\x01c \xff 🦊", "mbp-14", "x/1"
		rec.ClientInfo = json.RawMessage(`{"name":"x"}`)
		if i > 0 {
			rec = endOf(rec, api.Millis(1700000002000+i))
			rec.LastActiveAt, rec.EndReason, rec.EndedBy, rec.EndText = 1700000001999, api.EndDisconnected, "0123456789abcdef", "bye"
		}
		if i == 2 {
			rec.Lease = &store.Lease{Seconds: 90, OwnerEpoch: 3, Reporter: "0123456789abcdef", Epoch: 7, CID: "client-001", Named: true,
				Tokens: []store.Denial{denialOf("jti:y")}}
		}
		records, ids[rec.ID] = append(records, rec), rec
	}
	for _, err := range []error{
		db.Config().Edit(t.Context(), func(tx store.Tx) error { return tx.PutOrganization(org) }),
		db.Config().Edit(t.Context(), func(tx store.Tx) error { return tx.PutApplication(app) }),
		db.Config().Edit(t.Context(), func(tx store.Tx) error { return tx.PutKey(key) }),
		db.Config().TouchKeys(t.Context(), []store.KeyUse{{PublicID: key.PublicID, At: 1700000003000, IP: "::1"}}),
		db.Records().Write(t.Context(), records, []store.Denial{denialOf("jti:x")}, store.Audit{Organization: testOrg,
			AuditRecord: api.AuditRecord{ID: store.NewAuditID(), Time: 1700000004000, Action: api.ActionSessionsRevoked,
				Actor: api.AuditActor{Type: api.ActorKey, PublicID: key.PublicID, Name: key.Name}, IPAddress: new("203.0.113.10"),
				ApplicationID: &app.ID, Target: new("a\x00b"), Count: new(3), Reason: new("stolen"), Details: json.RawMessage(`{"a":1}`)}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Config().Secret(t.Context(), "token-signing", []byte("0123456789abcdef0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	return readAll(t, db, contents{Records: ids}.ids())
}

func writeDumps(t *testing.T, version string, c contents, script string) {
	t.Helper()
	b, err := json.Marshal(c) // not indented: that would change client info
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dumpFile(version, "sql")), 0o755); err != nil {
		t.Fatal(err)
	}
	for ext, content := range map[string]string{"json": string(b) + "\n", "sql": script} {
		if err := os.WriteFile(dumpFile(version, ext), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// raw opens the file without the package's help.
func raw(t *testing.T, path string, fn func(db *sql.DB) error) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := fn(db); err != nil {
		t.Fatal(err)
	}
}

func strs(t *testing.T, db *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// schema returns the statements of the schema.
func schema(t *testing.T, path string) (all []string) {
	t.Helper()
	raw(t, path, func(db *sql.DB) error {
		all = strs(t, db, `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, name`)
		return nil
	})
	return all
}

// dump returns a script that makes the database again.
func dump(t *testing.T, path string) string {
	t.Helper()
	var b strings.Builder
	for _, s := range schema(t, path) {
		b.WriteString(s + ";\n")
	}
	raw(t, path, func(db *sql.DB) error {
		const tables = `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`
		for _, table := range strs(t, db, tables) {
			columns := strs(t, db, fmt.Sprintf(`SELECT 'quote(' || name || ')' FROM pragma_table_info('%s') ORDER BY cid`, table))
			values := strs(t, db, fmt.Sprintf(`SELECT %s FROM %s`, strings.Join(columns, ` || ', ' || `), table))
			if len(values) == 0 {
				t.Errorf("the dump has no row of %s", table)
			}
			for _, row := range values {
				fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, row)
			}
		}
		return nil
	})
	return b.String()
}
