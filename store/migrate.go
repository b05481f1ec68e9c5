package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/sqlite/*.sql
var migrations embed.FS

// Migrate brings the database to this binary's schema and tells from which version to which. Each migration is one
// transaction with the number it leaves behind, so a crash leaves the old schema or the new one. There is no way
// back: a database that a newer binary has migrated is refused.
func (s *Store) Migrate(ctx context.Context) (from, to int64, err error) {
	files, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return 0, 0, err
	}
	// A connection of its own: goose wants a pool, and the writer's only connection is taken.
	db := openWriter(s.path)
	defer func() { err = errors.Join(err, db.Close()) }()
	g, err := goose.NewProvider(goose.DialectSQLite3, db.DB, files, goose.WithSlog(s.log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, fmt.Errorf("migrate %s: %w", s.path, err)
	}
	from, to, err = g.GetVersions(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("migrate %s: %w", s.path, err)
	}
	if from > to {
		return from, to, fmt.Errorf("database %s has schema version %d and this kycgate knows %d: start a newer one", s.path, from, to)
	}
	if _, err := g.Up(ctx); err != nil {
		return from, to, fmt.Errorf("migrate %s: %w", s.path, err)
	}
	return from, to, nil
}
