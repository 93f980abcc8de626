package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// example is what messages show.
const example = "sqlite:rollcall-data/rollcall.db"

// Open opens and migrates the database that url names: "sqlite:PATH" ("sqlite::memory:" for one that is gone at Close; a missing
// directory is created). The error says what to do. postgres:// comes with clusters.
func Open(ctx context.Context, url string) (DB, error) {
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case !ok:
		return nil, errors.New("the database has no scheme: write sqlite:PATH, such as " + example)
	case scheme == "sqlite":
		return openSQLite(ctx, rest)
	case scheme == "postgres" || scheme == "postgresql":
		// The rest of the URL may hold a password.
		return nil, errors.New("PostgreSQL comes with clusters and is not in this version: use sqlite:PATH")
	default:
		return nil, fmt.Errorf("%.32q is not a known kind of database: write sqlite:PATH, such as %s", scheme, example)
	}
}
