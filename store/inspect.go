package store

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Inspect tells which schema a database file has and which one this binary wants. It only reads and takes no
// lock, so it may be asked while a gateway runs on the file.
func Inspect(ctx context.Context, file string) (have, want int64, err error) {
	names, err := fs.Glob(migrations, "migrations/sqlite/*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		want = max(want, n)
	}
	db := openReaders(file)
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.GetContext(ctx, &have, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied`)
	return have, want, err
}
