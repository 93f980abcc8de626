package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
)

// schemaTable holds which migrations were applied.
const schemaTable = "rollcall_schema"

// migrate brings the schema to the newest version. Migrations go forward only: to go back is to restore a backup. Several
// processes may start at once; one of them applies each migration.
func migrate(ctx context.Context, d *dialect, db *sql.DB) (err error) {
	if d.lockSchema != nil {
		unlock, err := d.lockSchema(ctx, db)
		if err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	p, err := goose.NewProvider(d.goose, db, d.migrations, goose.WithTableName(schemaTable),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if current > target {
		return fmt.Errorf("it was written by a newer Rollcall (schema %d, this one knows %d): start that version again, "+
			"or restore a backup from before the upgrade", current, target)
	}
	for range 3 {
		if _, err = p.Up(ctx); err == nil {
			return nil
		}
		// Another process may have applied it between our look and our write; then nothing is left to do.
		if pending, perr := p.HasPending(ctx); perr == nil && !pending {
			return nil
		}
	}
	return fmt.Errorf("migrate the schema: %w", err)
}
