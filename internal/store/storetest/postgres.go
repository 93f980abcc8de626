package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/rollcallhq/rollcall/internal/pgserver"
)

// Postgres runs a PostgreSQL server for a test. Without one on the machine the test is skipped, and fails in CI.
func Postgres(t testing.TB, settings ...string) *pgserver.Server {
	t.Helper()
	server, err := pgserver.Start(context.Background(), settings...)
	Need(t, err)
	t.Cleanup(server.Close)
	return server
}

// Need skips the test when err is pgserver.ErrAbsent, but not in CI, and fails it with any other error.
func Need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, pgserver.ErrAbsent) && os.Getenv("CI") != "true" {
		t.Skipf("skipped: %v", err)
	}
	fatal(t, err)
}

var databases atomic.Int64

// Database returns the URL of a new, empty database. It goes with the server.
func Database(t testing.TB, server *pgserver.Server) string {
	t.Helper()
	return server.URL(DatabaseName(t, server))
}

// DatabaseName is Database by name.
func DatabaseName(t testing.TB, server *pgserver.Server) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	fatal(t, server.Exec(context.Background(), "postgres", "CREATE DATABASE "+name))
	return name
}
