package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

const (
	// postgresConnections is the size of each of the two pools: reading a long history keeps no record from being written.
	postgresConnections = 4
	postgresMaxLifetime = 30 * time.Minute // so that a node finds its way back after hosts were moved
	postgresMaxIdleTime = 5 * time.Minute
	// postgresTimeout bounds a call, and postgresConnect a connection, of a server that is there and does not answer.
	postgresTimeout = 10 * time.Second
	postgresConnect = 5 * time.Second
	// schemaLock is the advisory lock under which the schema is migrated: "rollcall" in ASCII.
	schemaLock = 0x726f6c6c63616c6c
)

// postgresSettings of every session; the URL may set them to something else.
//
// A node that was stopped or cut off in the middle of a transaction must not keep the others from its rows.
var postgresSettings = map[string]string{
	"application_name":                    "rollcall",
	"default_transaction_isolation":       "read committed",
	"idle_in_transaction_session_timeout": "3s",
}

var postgresDialect = &dialect{
	goose:      goose.DialectPostgres,
	migrations: must(fs.Sub(postgresMigrations, "migrations/postgres")),
	snapshot:   sql.LevelRepeatableRead,
	words: strings.NewReplacer(
		// Not now(), which is of the transaction's start: it may have waited for others since.
		"{now}", "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
		"{ids}", "(SELECT value::uuid FROM json_array_elements_text(?::text::json))",
		"{hold}", "FOR SHARE",
		"{by action}", "",
		"{by id}", "",
		"{by list}", "", // it knows how many rows there are
		"{by reason}", "",
	),
	rebind:     numbered,
	conflict:   postgresConflict,
	refused:    postgresRefused,
	timeout:    postgresTimeout,
	lockSchema: lockPostgresSchema,
	bulk:       func(_ context.Context, e *engine) (bulk, error) { return newPostgresBulk(e), nil },
}

// numbered makes ? $1, $2, and so on; no statement has one in a string.
func numbered(query string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// openPostgres opens a database by URL. No error has the URL or a part of it that may be its password.
func openPostgres(ctx context.Context, rawURL string) (DB, error) {
	cfg, err := postgresConfig(rawURL)
	if err != nil {
		return nil, err
	}
	write, read := postgresPool(cfg, ""), postgresPool(cfg, "force_custom_plan")
	err = checkPostgres(ctx, write)
	var e *engine
	if err == nil {
		e, err = newEngine(ctx, postgresDialect, write, read)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", postgresAdvice(err)), read.Close(), write.Close())
	}
	return e, nil
}

func postgresConfig(rawURL string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(rawURL)
	// A password that is not encoded is cut at its first special character, and its rest ends up in another part of the URL.
	user, _, _ := strings.Cut(rawURL, "?")
	option, _, _ := strings.Cut(strings.TrimPrefix(rawURL, user), "=")
	if err != nil || u.Fragment != "" || strings.Contains(u.Path+option, "@") || strings.Count(user, "@") > 1 {
		return nil, errors.New("the PostgreSQL URL cannot be read: write " + examplePostgres +
			", with special characters of user and password percent-encoded (@ is %40, # is %23, / is %2F, ? is %3F, % is %25)")
	}
	cfg, err := pgx.ParseConfig(rawURL)
	if err != nil {
		_, reason, _ := strings.Cut(err.Error(), "`: ") // what comes before is the URL
		password, _ := u.User.Password()
		for _, secret := range []string{password, u.Query().Get("password"), u.Query().Get("sslpassword")} {
			if secret != "" {
				reason = strings.ReplaceAll(reason, secret, "xxxxx")
			}
		}
		return nil, fmt.Errorf("the PostgreSQL URL has an option that cannot be used: %s", reason)
	}
	for name, value := range postgresSettings {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	if !u.Query().Has("connect_timeout") {
		cfg.ConnectTimeout = postgresConnect
	}
	if cfg.ValidateConnect == nil { // as with target_session_attrs=read-write: nothing here works on a standby
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return cfg, nil
}

// postgresPool opens a pool. Statements are prepared. A plan that serves every parameter is the wrong one for most of what is read,
// of small and large applications in one table, so the readers have each statement planned for its own; of what is written the
// server chooses, for planning an upsert takes longer than doing it.
func postgresPool(cfg *pgx.ConnConfig, planCacheMode string) *sql.DB {
	cfg = cfg.Copy()
	if _, set := cfg.RuntimeParams["plan_cache_mode"]; !set && planCacheMode != "" {
		cfg.RuntimeParams["plan_cache_mode"] = planCacheMode
	}
	db := sql.OpenDB(postgresConnector{stdlib.GetConnector(*cfg, stdlib.OptionResetSession(stillWritable))})
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections)
	db.SetConnMaxLifetime(postgresMaxLifetime)
	db.SetConnMaxIdleTime(postgresMaxIdleTime)
	return db
}

// postgresConnector makes one line of the driver's errors, which have one a host.
type postgresConnector struct{ driver.Connector }

// Connect is driver.Connector's.
func (c postgresConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, &connectError{err}
	}
	return conn, nil
}

type connectError struct{ err error }

func (e *connectError) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }
func (e *connectError) Unwrap() error { return e.err }

// stillWritable discards the connection to a server that was demoted meanwhile, so that the next one finds its successor. The
// server tells of such a change by itself (PostgreSQL 14 and later), and every answer that fails for it has told.
func stillWritable(_ context.Context, conn *pgx.Conn) error {
	pg := conn.PgConn()
	if pg.ParameterStatus("in_hot_standby") == "on" || pg.ParameterStatus("default_transaction_read_only") == "on" {
		return driver.ErrBadConn
	}
	return nil
}

// checkPostgres refuses a database in which text cannot be kept as it is.
func checkPostgres(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	var encoding string
	if err := db.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("it has the encoding %s: create one with ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// lockPostgresSchema holds the lock in a transaction: it ends with the connection, however that ends.
func lockPostgresSchema(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SET LOCAL idle_in_transaction_session_timeout = 0", // it is idle while migrations run
		"SELECT pg_advisory_xact_lock(" + strconv.Itoa(schemaLock) + ")",
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
	}
	return tx.Rollback, nil
}

// sqlState returns the SQLSTATE of err, "" when the server did not send one.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// postgresConflict reads the name of the unique index, which is its table's and its column's.
func postgresConflict(err error) (string, bool) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != "23505" {
		return "", false
	}
	return e.TableName + "." + strings.TrimPrefix(e.ConstraintName, e.TableName+"_"), true
}

// postgresRefused tells the classes of errors that values can cause: data exceptions, constraints, what is longer than an index or
// a field can hold, and triggers that raise. All others (no memory, no disk, no privilege, no connection) are trouble.
func postgresRefused(err error) bool {
	code := sqlState(err)
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || code == "54000" || code == "P0001"
}

// postgresAdvice adds what to do to the errors that a start can meet.
func postgresAdvice(err error) error {
	advice := map[string]string{
		"28P01": "check the user and the password",
		"28000": "check the user, and the server's pg_hba.conf",
		"3D000": "create the database, or name another",
		"42501": "make the user the owner of the database, or grant it CREATE on the schema",
		"53300": "the server's max_connections is used up: a node takes up to " + strconv.Itoa(2*postgresConnections),
		"25006": "name the primary server, or all of them: postgres://…?host=a,b",
	}[sqlState(err)]
	switch {
	case advice != "":
	case errors.Is(err, context.DeadlineExceeded):
		advice = "the server did not answer in time: check host, port and firewall"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}
