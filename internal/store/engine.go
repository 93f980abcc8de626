package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/rollcallhq/rollcall/api"
)

// dialect is everything in which the engines differ; the statements are shared.
type dialect struct {
	goose      goose.Dialect
	migrations fs.FS
	snapshot   sql.IsolationLevel // of a read-only transaction that sees one state
	// words replaces {now}, the database's clock in Unix milliseconds, {ids}, the set of a parameter's JSON array of ids, {hold},
	// after which the rows that a SELECT has found stay as they are until the transaction ends, and {by action},
	// {by id}, {by list} and {by reason}, which name the index by which rows are to be found.
	words *strings.Replacer
	// rebind turns ? into the engine's placeholders; nil = they are ?.
	rebind func(string) string
	// conflict returns "table.column" when err is a violated unique constraint.
	conflict func(error) (string, bool)
	// refused tells whether the database refused the values rather than being in trouble itself.
	refused func(error) bool
	// timeout bounds a call of a server that may never answer; 0 = the caller's context alone.
	timeout time.Duration
	// lockSchema waits until no other process migrates the database; nil = migrations need no lock.
	lockSchema func(context.Context, *sql.DB) (unlock func() error, err error)
	// bulk prepares what writes batches.
	bulk func(context.Context, *engine) (bulk, error)
}

// bulk writes parts of a batch in the way that is fastest with the engine. Each part is not empty, and goes into the transaction.
type bulk interface {
	// records upserts; of two states of a session the order counts.
	records(context.Context, *sql.Tx, []Record) error
	denials(context.Context, *sql.Tx, []Denial, int64) error
	// connections raises the applications' last connection.
	connections(context.Context, *sql.Tx, map[api.ApplicationID]api.Millis) error
}

// engine is an open database. It is the one implementation of DB; dialects make it SQLite or PostgreSQL.
type engine struct {
	dialect *dialect
	write   *sql.DB
	read    *sql.DB // the same as write when there is just one connection

	// present tells whether what is written can be found again; nil = it can.
	present func() error

	bulk bulk
}

// newEngine migrates the database and prepares it.
func newEngine(ctx context.Context, d *dialect, write, read *sql.DB) (*engine, error) {
	if err := migrate(ctx, d, write); err != nil {
		return nil, err
	}
	e := &engine{dialect: d, write: write, read: read}
	var err error
	e.bulk, err = d.bulk(ctx, e)
	return e, err
}

// within bounds one call.
func (e *engine) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if e.dialect.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, e.dialect.timeout)
}

// sql returns the statement in the engine's dialect.
func (e *engine) sql(query string) string {
	query = e.dialect.words.Replace(query)
	if e.dialect.rebind != nil {
		query = e.dialect.rebind(query)
	}
	return query
}

// Config is DB.Config.
func (e *engine) Config() Config { return config{e} }

// Records is DB.Records.
func (e *engine) Records() Records { return records{e} }

// Audits is DB.Audits.
func (e *engine) Audits() AuditLog { return audits{e} }

// Nodes is DB.Nodes.
func (e *engine) Nodes() Nodes { return nodes{e} }

// Close closes the readers first, so that the writer's connection is the last one and leaves no write-ahead log behind.
func (e *engine) Close() error {
	var err error
	if e.read != e.write {
		err = e.read.Close()
	}
	return errors.Join(err, e.write.Close())
}

// update runs fn in a write transaction, which is kept when fn returns nil. fn's error is returned as it is, unless it only says
// that the end of ctx has ended the transaction: then it is ctx's.
func (e *engine) update(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	if err := e.isPresent(); err != nil {
		return err
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	tx, err := e.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, before it the first error is the one that counts
	if err = fn(ctx, tx); err == nil {
		if err = tx.Commit(); err == nil {
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	if ctx.Err() != nil && errors.Is(err, sql.ErrTxDone) {
		return ctx.Err()
	}
	return err
}

func (e *engine) isPresent() error {
	if e.present == nil {
		return nil
	}
	return e.present()
}

// view runs fn in a read-only transaction that sees one state of the database.
func (e *engine) view(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	ctx, cancel := e.within(ctx)
	defer cancel()
	tx, err := e.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: e.dialect.snapshot})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return fn(ctx, tx)
}

// exec runs one statement that writes, and returns how many rows it wrote.
func (e *engine) exec(ctx context.Context, query string, args ...any) (int, error) {
	if err := e.isPresent(); err != nil {
		return 0, err
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	res, err := e.write.ExecContext(ctx, e.sql(query), args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// get reads one row.
func (e *engine) get(ctx context.Context, db *sql.DB, query string, args []any, dest ...any) error {
	ctx, cancel := e.within(ctx)
	defer cancel()
	return db.QueryRowContext(ctx, e.sql(query), args...).Scan(dest...)
}

// list reads every row of a query.
func list[T any](ctx context.Context, e *engine, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	return collect(ctx, e, e.read, scan, query, args...)
}

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect returns every row of a query.
func collect[T any](ctx context.Context, e *engine, q querier, scan func(scanner) (T, error), query string,
	args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, e.sql(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// idList is the argument of {ids}.
func idList(ids []api.SessionID) string {
	b, _ := json.Marshal(append([]api.SessionID{}, ids...)) // not null when there are none; ids are text: it cannot fail
	return string(b)
}

// jsonColumn reads and writes a list as JSON.
type jsonColumn[T any] struct{ v *T }

func (c jsonColumn[T]) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return json.Unmarshal([]byte(v), c.v)
	case []byte:
		return json.Unmarshal(v, c.v)
	}
	return fmt.Errorf("cannot read JSON from %T", src)
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
