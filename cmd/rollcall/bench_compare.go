package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// What a user would do without Rollcall: a table of the same sessions, the indexes that a sensible person makes, and two
// statements for what one list answers, the page and its count. It is called in process through the driver, which spares it HTTP and JSON.

// The systems that are compared with systemRollcall.
const (
	systemSQLite   = "sqlite"
	systemPostgres = "postgresql"
)

// rival is an SQL database with the synthetic sessions.
type rival struct {
	db *sql.DB
	// like is the operator of a case-insensitive substring search.
	like string
	// place returns the n-th placeholder.
	place func(n int) string
	app   string
}

const rivalTable = `CREATE TABLE sessions (
	id text PRIMARY KEY, application text NOT NULL, created_at bigint NOT NULL,
	ip text NOT NULL, client_id text NOT NULL, login text, license text, authorized boolean NOT NULL)`

const rivalIndex = `CREATE INDEX sessions_list ON sessions (application, created_at DESC, id DESC)`

// rivalColumns are those of rivalTable, in its order.
var rivalColumns = []string{"id", "application", "created_at", "ip", "client_id", "login", "license", "authorized"}

func rivalValues(row registry.Row) []any {
	return []any{
		string(row.ServerID), row.Application.String(), int64(row.CreatedAt), row.IP, row.ClientID, row.Login, row.License, row.Authorized,
	}
}

var rivalSearched = map[api.Category]string{
	api.CategoryLicense: "license", api.CategoryIP: "ip", api.CategoryClientID: "client_id",
}

// opener fills a rival; errNotHere when there is none.
type opener func(ctx context.Context, source synthetic, rows int, progress progress) (r *rival, end func(), err error)

// progressEvery is after how many rows of a fill there is a word about it.
const progressEvery = 100_000

// compare measures the same operations elsewhere.
func (b *bench) compare(ctx context.Context, io *stdio, r *sizeResult, found map[string]int) error {
	if err := b.compareWith(ctx, io, systemSQLite, openSQLiteRival, r, found); err != nil {
		return err
	}
	return b.compareWith(ctx, io, systemPostgres, openPostgresRival, r, found)
}

// compareWith measures one system. One that cannot be had is named in the result, and on stderr.
func (b *bench) compareWith(ctx context.Context, io *stdio, name string, open opener, r *sizeResult, found map[string]int) error {
	b.progress("filling %s with %d sessions", name, r.Rows)
	source := newSynthetic(api.MustID[api.Organization](benchOrganization), b.app, r.Rows, api.MillisOf(time.Now()))
	rival, end, err := open(ctx, source, r.Rows, b.progress)
	if errors.Is(err, errNotHere) {
		r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", name, err))
		fmt.Fprintf(io.err, "rollcall: %s is not compared: %v\n", name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer end()
	return b.operations(ctx, r, name, rival.view, found)
}

// errNotHere is a system that is not installed.
var errNotHere = errors.New("not installed")

// openSQLiteRival fills a database file.
func openSQLiteRival(ctx context.Context, source synthetic, rows int, progress progress) (_ *rival, _ func(), err error) {
	dir, err := os.MkdirTemp("", "rollcall-bench-sqlite-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) } // it is in the system's temporary directory
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "rival.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=cache_size(-262144)&_pragma=mmap_size(4294967296)")
	if err != nil {
		remove()
		return nil, nil, err
	}
	db.SetMaxOpenConns(1) // one asks after the other; a connection has its own cache
	end := func() {
		_ = db.Close() // it is removed
		remove()
	}
	r := &rival{db: db, like: "LIKE", place: func(int) string { return "?" }, app: source.app.String()}
	if err := r.fillSQLite(ctx, source, rows, progress); err != nil {
		end()
		return nil, nil, err
	}
	return r, end, nil
}

func (r *rival) fillSQLite(ctx context.Context, source synthetic, rows int, progress progress) error {
	if _, err := r.db.ExecContext(ctx, rivalTable); err != nil {
		return err
	}
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()                                                                                                    //nolint:errcheck // after a commit it does nothing
	insert, err := tx.PrepareContext(ctx, "INSERT INTO sessions VALUES (?"+strings.Repeat(", ?", len(rivalColumns)-1)+")") //nolint:gosec // question marks
	if err != nil {
		return err
	}
	defer insert.Close() //nolint:errcheck // the transaction, which owns it, says what went wrong
	for i := range rows {
		if (i+1)%progressEvery == 0 {
			progress("%s has %d of %d sessions", systemSQLite, i+1, rows)
		}
		if _, err := insert.ExecContext(ctx, rivalValues(source.row(i))...); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, statement := range []string{rivalIndex, "ANALYZE"} {
		progress("%s: %s", systemSQLite, statement)
		if _, err := r.db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// view answers as the list does: the page, and how many match in all.
func (r *rival) view(ctx context.Context, a ask) (v viewed, err error) {
	where, args := "application = "+r.place(1), []any{r.app}
	if a.search != "" {
		where += fmt.Sprintf(" AND %s %s %s", rivalSearched[a.category], r.like, r.place(2))
		args = append(args, "%"+a.search+"%") // needles have no wildcards
	}
	start := time.Now()
	page := fmt.Sprintf("SELECT id, created_at, ip, client_id, login, license FROM sessions WHERE %s"+
		" ORDER BY created_at DESC, id DESC LIMIT %d OFFSET %d", where, api.MaxPageSize, (a.page-1)*api.MaxPageSize)
	if v.rows, err = r.scan(ctx, page, args); err != nil {
		return v, err
	}
	v.page = time.Since(start)
	start = time.Now()
	err = r.db.QueryRowContext(ctx, "SELECT count(*) FROM sessions WHERE "+where, args...).Scan(&v.matches)
	v.count = time.Since(start)
	return v, err
}

func (r *rival) scan(ctx context.Context, query string, args []any) (n int, err error) {
	rows, err := r.db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var row api.Row
		if err := rows.Scan(&row.ServerID, &row.CreatedAt, &row.IPAddress, &row.ClientID, &row.Login, &row.License); err != nil {
			return 0, err
		}
		n++
	}
	return n, rows.Err()
}
