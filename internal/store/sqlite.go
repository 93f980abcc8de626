package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/rollcallhq/rollcall/api"
)

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// sqliteReaders is the size of the read pool. In WAL mode readers neither wait for the writer nor for each other; more of them
// than cores only take memory.
const sqliteReaders = 4

// sqlitePragmas of every connection.
//
// synchronous=NORMAL does not wait for the disk at each commit: in WAL mode a commit is in the operating system's memory when it
// returns, so it outlives kill -9 of the process (G6); what a power failure can take is the last commits, never consistency. FULL
// was measured at three times the latency of a quiet commit (BenchmarkCommitQuiet), which every welcome would pay. busy_timeout
// is how long a statement waits for another process (a backup, a shell) before it fails and the recorder retries.
var sqlitePragmas = []string{"busy_timeout(2000)", "journal_mode(WAL)", "synchronous(NORMAL)", "temp_store(MEMORY)",
	"cache_size(-4000)", "journal_size_limit(67108864)"}

var sqliteDialect = &dialect{
	goose:      goose.DialectSQLite3,
	migrations: must(fs.Sub(sqliteMigrations, "migrations/sqlite")),
	words: strings.NewReplacer(
		"{now}", "CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)",
		"{ids}", "(SELECT value FROM json_each(?))",
		"{hold}", "", // nobody else writes meanwhile
		// It has no statistics, and takes the first index that fits.
		"{by action}", "INDEXED BY audit_action",
		"{by id}", "INDEXED BY sqlite_autoindex_sessions_1",
		"{by list}", "INDEXED BY sessions_ended",
		"{by reason}", "INDEXED BY sessions_reason",
	),
	conflict: sqliteConflict,
	refused:  sqliteRefused,
	bulk:     newSQLiteBulk,
}

// sqliteBulk are the statements of a batch, one execution a row: prepared once they are faster than statements of many rows.
type sqliteBulk struct{ upsert, deny, raise *sql.Stmt }

func newSQLiteBulk(ctx context.Context, e *engine) (bulk, error) {
	b := &sqliteBulk{}
	const row = insertRecord + `VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)` + onRecordExists
	for _, p := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&b.upsert, row}, {&b.deny, insertDenial + `VALUES (?, ?, ?, ?)` + onDenialExists},
		{&b.raise, `UPDATE applications SET last_connection = ? WHERE id = ? AND last_connection < ?`},
	} {
		stmt, err := e.write.PrepareContext(ctx, p.query)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", p.query, err)
		}
		*p.to = stmt
	}
	return b, nil
}

// Single statements must not watch ctx: the driver starts a goroutine for each that does. The transaction watches it.

func (b *sqliteBulk) records(ctx context.Context, tx *sql.Tx, batch []Record) error {
	ctx = context.WithoutCancel(ctx)
	upsert := tx.StmtContext(ctx, b.upsert)
	for i := range batch {
		values, err := recordValues(&batch[i])
		if err != nil {
			return err
		}
		if _, err := upsert.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

func (b *sqliteBulk) denials(ctx context.Context, tx *sql.Tx, denials []Denial, version int64) error {
	ctx = context.WithoutCancel(ctx)
	deny := tx.StmtContext(ctx, b.deny)
	for _, d := range denials {
		if _, err := deny.ExecContext(ctx, d.Application.String(), escape(d.TokenID), int64(d.ExpiresAt), version); err != nil {
			return err
		}
	}
	return nil
}

func (b *sqliteBulk) connections(ctx context.Context, tx *sql.Tx, newest map[api.ApplicationID]api.Millis) error {
	ctx = context.WithoutCancel(ctx)
	raise := tx.StmtContext(ctx, b.raise)
	for app, at := range newest {
		if _, err := raise.ExecContext(ctx, int64(at), app.String(), int64(at)); err != nil {
			return err
		}
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// openSQLite opens PATH, or a database in memory.
func openSQLite(ctx context.Context, path string) (DB, error) {
	if path == ":memory:" {
		// Each connection to it would be a database of its own, so there is just one.
		db, err := sql.Open("sqlite", sqliteDSN(":memory:", "_txlock=immediate"))
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		oneConnection(db)
		e, err := newEngine(ctx, sqliteDialect, db, db)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the database: %w", err), db.Close())
		}
		return e, nil
	}
	file, err := sqliteFile(path)
	if err != nil {
		return nil, err
	}
	// mode=rw: a connection that is opened after the file was deleted must not make a new one, empty, in its place.
	// IMMEDIATE takes the write lock at BEGIN, where waiting is safe; a transaction that reads first and is upgraded later fails
	// at once when another process wrote in between.
	write, err := sql.Open("sqlite", sqliteDSN(file, "mode=rw&_txlock=immediate"))
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", file, err)
	}
	oneConnection(write)
	read, err := sql.Open("sqlite", sqliteDSN(file, "mode=rw&_query_only=1"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", file, err), write.Close())
	}
	read.SetMaxOpenConns(sqliteReaders)
	read.SetMaxIdleConns(sqliteReaders)
	e, err := newEngine(ctx, sqliteDialect, write, read)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", file, sqliteAdvice(err)), read.Close(), write.Close())
	}
	if e.present, err = sameFile(file); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), e.Close())
	}
	return e, nil
}

// sameFile returns a check that the name still leads to the file that is open now. SQLite goes on writing into a file that was
// deleted or replaced, and all of it would be gone at the next start.
func sameFile(name string) (func() error, error) {
	opened, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	return func() error {
		if found, err := os.Stat(name); err != nil || !os.SameFile(opened, found) {
			return fmt.Errorf("the database file %s was deleted or replaced: put it back, or restart on what is there now", name)
		}
		return nil
	}, nil
}

// oneConnection makes db's transactions wait for each other here, where waiting is fair and costs nothing, and not in SQLite,
// where it is a loop of sleeps. The connection is kept, for its cache and its prepared statements.
func oneConnection(db *sql.DB) {
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	db.SetConnMaxLifetime(0)
	db.SetConnMaxIdleTime(0)
}

// sqliteFile returns the absolute path, and makes sure that the directory and the file are there, readable by the owner alone:
// the database holds the applications' secrets.
func sqliteFile(path string) (string, error) {
	if p, ok := strings.CutPrefix(path, "//"); ok {
		path = p
	}
	if path == "" {
		return "", errors.New("the database has no path: write sqlite:PATH, such as " + example)
	}
	if strings.ContainsAny(path, "?\x00") {
		return "", fmt.Errorf("the database path %q has a character that it cannot have: sqlite: takes a path, and no options", path)
	}
	file, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("the database path %q: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("create the database's directory: %w; choose a directory that this user may write", err)
	}
	// Only a file that is new is opened here: closing a descriptor of a database that this process has open already would drop
	// its locks (POSIX record locks belong to the process).
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		var info os.FileInfo
		if info, err = os.Stat(file); err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a directory", file)
		}
	}
	if err != nil {
		return "", fmt.Errorf("create the database: %w; name a file that this user may write", err)
	}
	return file, nil
}

func sqliteDSN(file string, more string) string {
	q := url.Values{"_pragma": sqlitePragmas}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: file}).String() + "?" + q.Encode() + "&" + more
}

// sqliteAdvice adds what to do to the errors that a start can meet.
func sqliteAdvice(err error) error {
	switch primary(err) {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: the file is not a SQLite database, or is damaged: restore a backup, or move it away to start empty", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another process holds it: stop that process first", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: make the file and its directory writable for this user, or name another file", err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w: check the disk's space and health", err)
	}
	return err
}

// primary returns SQLite's primary result code of err, 0 when it has none.
func primary(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// sqliteConflict reads "UNIQUE constraint failed: applications.number (2067)".
func sqliteConflict(err error) (string, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_CONSTRAINT_UNIQUE && e.Code() != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return "", false
	}
	_, what, _ := strings.Cut(e.Error(), "constraint failed: UNIQUE constraint failed: ")
	what, _, _ = strings.Cut(what, " (")
	return what, true
}

func sqliteRefused(err error) bool {
	switch primary(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}
