package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// sandboxKeyset is made beside the database of a sandbox that configures no keys. Its passphrase is public, so production refuses it.
const sandboxKeyset = "kycgate-sandbox-keyset.json"

// openKeys opens the keyset, and in a sandbox without one makes it. file is where it lies.
func openKeys(c config.Config, log *slog.Logger) (k *vault.Keyset, file string, err error) {
	if c.Keys != nil {
		k, err = vault.Open(c.Keys.File, vault.Passphrase(c.Keys.Passphrase.Reveal()))
		if err != nil {
			return nil, "", config.Wrong("keys.file", "%v", err)
		}
		return k, c.Keys.File, nil
	}
	if c.Environment != config.Sandbox {
		return nil, "", config.Wrong("keys", "is required: personal data is encrypted, make a keyset with `kycgate keys init`")
	}
	file = filepath.Join(filepath.Dir(c.Database.SQLitePath()), sandboxKeyset)
	if k, err = vault.Open(file, vault.Sandbox()); errors.Is(err, fs.ErrNotExist) {
		log.Warn("no keys are configured: personal data is encrypted with a keyset whose passphrase is public, for a sandbox only", "file", file)
		if err = vault.Create(file, vault.Sandbox()); err == nil {
			k, err = vault.Open(file, vault.Sandbox())
		}
	}
	return k, file, err
}

// erasuresFile is where the list of erased persons lies.
func erasuresFile(c config.Config, keysFile string) string {
	if c.Keys != nil && c.Keys.ErasuresFile != "" {
		return c.Keys.ErasuresFile
	}
	return keysFile + ".erasures"
}

func retention(c config.Config) kyc.Retention {
	r := c.Retention
	return kyc.Retention{
		HoldPersons: r.HoldPersons.Duration(), Persons: r.Persons.Duration(), Registrations: r.Registrations.Duration(),
		Callbacks: r.Callbacks.Duration(), Calls: r.Calls.Duration(),
	}
}

// How often the keyset file is looked at, and how long `kycgate keys rotate` waits for a gateway that does not get on.
const (
	keysetEvery    = time.Second
	rotationStalls = time.Minute
)

// watchKeyset does the rotations that `kycgate keys rotate` begins, and finishes one that a process before did not.
func (a *App) watchKeyset(ctx context.Context) {
	ticker := a.clock.NewTicker(keysetEvery)
	defer ticker.Stop()
	for {
		if a.keyset.Masters() > 1 {
			if err := a.store.RotateKeys(ctx, a.keyset.DropOld, nil); err == nil {
				a.log.Info("keys are rotated: nothing is left under an old master key")
			} else if ctx.Err() == nil {
				a.log.Error("keys could not be rotated; it goes on in a moment", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.Chan():
			if _, err := a.keyset.Reload(); err != nil {
				a.log.Warn("the keyset cannot be read again; the keys in memory stay in use", "err", err)
			}
		}
	}
}

// RotateKeys makes a new master key and leaves nothing wrapped under an old one. A gateway that runs on the database does the work and
// this waits for it; without one it is done here. A rotation that was interrupted is finished instead of beginning another.
func RotateKeys(ctx context.Context, c config.Config, log *slog.Logger, out io.Writer) (err error) {
	keyset, _, err := openKeys(c, log)
	if err != nil {
		return err
	}
	added, err := keyset.AddPrimary()
	if err != nil {
		return err
	}
	if added {
		_, _ = fmt.Fprintln(out, "a new master key is in the keyset")
	} else {
		_, _ = fmt.Fprintln(out, "going on with a rotation that was not finished")
	}
	s, err := store.Open(ctx, store.Options{Path: c.Database.SQLitePath(), Keys: keyset, Logger: log})
	if errors.Is(err, store.ErrInUse) {
		_, _ = fmt.Fprintln(out, "a gateway runs on the database and wraps the data keys anew")
		return awaitRotation(ctx, c, keyset, out)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, _, err := s.Migrate(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	if err := s.RotateKeys(ctx, keyset.DropOld, func(done, total int) {
		_, _ = fmt.Fprintf(out, "%d of %d keys\n", done, total)
	}); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "done: nothing is left under an old master key")
	return nil
}

// awaitRotation watches another process rotate.
func awaitRotation(ctx context.Context, c config.Config, keyset *vault.Keyset, out io.Writer) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	least, since := -1, time.Now()
	for {
		if _, err := keyset.Reload(); err != nil {
			return err
		}
		if keyset.Masters() == 1 {
			_, _ = fmt.Fprintln(out, "done: nothing is left under an old master key")
			return nil
		}
		left, err := store.KeysLeft(ctx, c.Database.SQLitePath(), keyset)
		if err != nil {
			return err
		}
		if least < 0 || left < least {
			least, since = left, time.Now()
			_, _ = fmt.Fprintf(out, "%d keys left\n", left)
		}
		if time.Since(since) > rotationStalls {
			return fmt.Errorf("the gateway on this database has not got on for %s: look at its log, and run `kycgate keys rotate` again", rotationStalls)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
