package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/pgserver"
)

// openPostgresRival starts a server and fills it. errNotHere = there are no binaries, or nobody who may run them.
func openPostgresRival(ctx context.Context, source synthetic, rows int, progress progress) (*rival, func(), error) {
	server, err := pgserver.Start(ctx, "shared_buffers=512MB", "work_mem=64MB", "maintenance_work_mem=512MB", "jit=off",
		"max_wal_size=4GB", "random_page_cost=1.1", "effective_cache_size=2GB")
	if errors.Is(err, pgserver.ErrAbsent) {
		return nil, nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	if err != nil {
		return nil, nil, err
	}
	cfg, err := pgx.ParseConfig(server.URL("postgres"))
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	// The plan of a statement that is prepared for any needle is the wrong one for most: have one made for each.
	cfg.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	if err := fillPostgres(ctx, cfg, source, rows, progress); err != nil {
		server.Close()
		return nil, nil, fmt.Errorf("filling it: %w", err)
	}
	r := &rival{db: stdlib.OpenDB(*cfg), like: "ILIKE", place: func(n int) string { return "$" + strconv.Itoa(n) }, app: source.app.String()}
	return r, func() {
		_ = r.db.Close() // it is removed
		server.Close()
	}, nil
}

// fillPostgres copies the rows, then makes the indexes. It takes what it takes: ctx alone ends it.
func fillPostgres(ctx context.Context, cfg *pgx.ConnConfig, source synthetic, rows int, progress progress) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // what it did is done
	if _, err := conn.Exec(ctx, strings.Replace(rivalTable, "CREATE TABLE", "CREATE UNLOGGED TABLE", 1)); err != nil {
		return err
	}
	next := 0
	copied := pgx.CopyFromFunc(func() ([]any, error) {
		if next == rows {
			return nil, nil
		}
		if next++; next%progressEvery == 0 {
			progress("%s has %d of %d sessions", systemPostgres, next, rows)
		}
		return rivalValues(source.row(next - 1)), nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"sessions"}, rivalColumns, copied); err != nil {
		return err
	}
	statements := []string{rivalIndex, "CREATE EXTENSION pg_trgm"}
	for _, category := range []api.Category{api.CategoryLicense, api.CategoryIP, api.CategoryClientID} {
		column := rivalSearched[category]
		statements = append(statements, fmt.Sprintf("CREATE INDEX sessions_%s ON sessions USING gin (%s gin_trgm_ops)", column, column))
	}
	for _, statement := range append(statements, "VACUUM ANALYZE sessions") {
		progress("%s: %s", systemPostgres, statement)
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
