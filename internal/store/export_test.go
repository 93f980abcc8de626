package store

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/api"
)

// Escape and Unescape are the spelling of text in SQL.
func Escape(s string) string   { return escape(s) }
func Unescape(s string) string { return unescape(s) }

// Exec runs a statement on the connection that writes.
func Exec(t testing.TB, db DB, query string) {
	t.Helper()
	if _, err := db.(*engine).write.ExecContext(context.Background(), query); err != nil {
		t.Fatal(err)
	}
}

// Blocking runs fn in a transaction after a statement.
func Blocking(t testing.TB, db DB, statement string, fn func()) {
	t.Helper()
	if err := db.(*engine).update(context.Background(), func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		fn()
		return err
	}); err != nil {
		t.Error(err)
	}
}

// QueryRow reads one row.
func QueryRow(t testing.TB, db DB, query string, dest ...any) {
	t.Helper()
	if err := db.(*engine).get(context.Background(), db.(*engine).read, query, nil, dest...); err != nil {
		t.Fatal(err)
	}
}

// PostgresPlan returns how PostgreSQL runs a statement with these values when it may not read a table from end to end, as it would
// with few rows.
func PostgresPlan(t testing.TB, db DB, query string, args ...any) string {
	t.Helper()
	e := db.(*engine)
	tx, err := e.write.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(context.Background(), "SET LOCAL enable_seqscan = off"); err != nil {
		t.Fatal(err)
	}
	lines, err := collect(context.Background(), e, tx, func(row scanner) (line string, err error) {
		err = row.Scan(&line)
		return line, err
	}, "EXPLAIN (COSTS off) "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// Queries returns the statements that must not read more rows the more sessions there are, by name, with the index of each.
func Queries() map[string][2]string {
	return map[string][2]string{
		"recordsByID":  {recordsByID, "sqlite_autoindex_sessions_1"},
		"endedNewest":  {endedNewest, "sessions_ended"},
		"endedAfter":   {endedAfter, "sessions_ended"},
		"countEnded":   {countEnded, "sessions_reason"},
		"countExpired": {countEnded, "sessions_expiry"},
		"expire":       {expireRecords, "sessions_expiry"},
		"reasonCount":  {forReasons(nil)(endedCount), "sessions_reason"},
		"reasonLast":   {endedLast, "sessions_reason"},
		"endedMany":    {forReasons(nil)(endedMany), "sessions_ended"},
		"minuteBegun":  {minuteCreated, "sessions_ended"},
		"minuteEnded":  {forReasons(nil)(minuteEnded), "sessions_reason"},
		"auditOfAll":   {auditOfAll, "audit_organization"},
		"auditByWhat":  {auditByWhat, "audit_action"},
		"auditByApp":   {strings.Replace(auditByApp, "{actions}", quoted(nil, api.AuditActions), 1), "audit_application"},
		"expireAudit":  {expireAudit, "audit_organization"},
		"minutesBut":   {minutesBut, "sqlite_autoindex_sessions_1"},
		"nextOpen":     {nextOpen, "sessions_open"},
		"closeOpen":    {closeOpen, "sessions_open"},
		"applications": {applicationsSince, "applications_version"},
		"keys":         {keysSince, "api_keys_version"},
		"denials":      {denialsSince, "denials_version"},
		"purge":        {purgeDenials, "denials_expires_at"},
	}
}

// Plan returns how SQLite runs a statement.
func Plan(t testing.TB, db DB, query string) (plan []string) {
	t.Helper()
	e := db.(*engine)
	query = e.sql(query)
	var args []any
	for _, c := range query {
		if c == '?' {
			args = append(args, 1)
		}
	}
	rows, err := e.write.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// Analyze has PostgreSQL count its rows, as it does by itself in time.
func Analyze(t testing.TB, db DB) {
	t.Helper()
	if e := db.(*engine); e.dialect == postgresDialect {
		Exec(t, db, "VACUUM ANALYZE sessions")
	}
}
