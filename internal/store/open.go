package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// What messages show.
const (
	example         = "sqlite:rollcall-data/rollcall.db"
	examplePostgres = "postgres://user:password@host:5432/database"
	kinds           = "write sqlite:PATH or " + examplePostgres
)

// Open opens and migrates the database that url names: "sqlite:PATH" ("sqlite::memory:" for one that is gone at Close; a missing
// directory is created), or "postgres://…" with the options of libpq's URLs. The error says what to do, and has no password.
func Open(ctx context.Context, url string) (DB, error) {
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case !ok:
		return nil, errors.New("the database has no scheme: " + kinds)
	case scheme == "sqlite":
		return openSQLite(ctx, rest)
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(ctx, url)
	default:
		return nil, fmt.Errorf("%.32q is not a known kind of database: %s", scheme, kinds)
	}
}
