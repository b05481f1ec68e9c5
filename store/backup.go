package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/kycgate/kycgate/kyc"
)

// Backup writes a consistent copy into a new file, for this user only, while reads and writes go on. It fails when
// the file exists.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	const op = "store.backup"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return kyc.E(kyc.Internal, op, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	// A connection of its own: the pool's refuse to write anywhere, and this one is busy for long.
	db := openPool(connector{dsn(s.path, "mode=ro&_busy_timeout=5000"), everyPragma}, 1)
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	if err = errors.Join(failure(ctx, op, err), db.Close(), f.Sync(), f.Close()); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return kyc.E(kyc.Internal, op, err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}
