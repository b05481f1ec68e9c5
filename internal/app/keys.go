package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// sandboxKeyset is made beside the database of a sandbox that configures no keys. It protects nothing, and whatever is configured
// otherwise refuses it.
const sandboxKeyset = "kycgate-sandbox-keyset.json"

// openKeys opens the keyset, and in a sandbox without one makes it. file is where it lies.
func openKeys(c config.Config, log *slog.Logger) (k *vault.Keyset, file string, err error) {
	if c.Keys == nil {
		return openSandboxKeys(c, log)
	}
	wrapper := vault.Passphrase(c.Keys.Passphrase.Reveal())
	if c.Keys.KMSURI != "" {
		if wrapper, err = vault.ForKMS(c.Keys.KMSURI); err != nil {
			return nil, "", config.Wrong("keys.kms_uri", "%v", err)
		}
	}
	k, err = vault.Open(c.Keys.File, wrapper)
	switch {
	case errors.Is(err, vault.ErrPassphrase):
		return nil, "", config.Wrong("keys.passphrase", "%v", err)
	case errors.Is(err, vault.ErrKMS):
		return nil, "", config.Wrong("keys.kms_uri", "%v", err)
	case err != nil:
		return nil, "", config.Wrong("keys.file", "%v", err)
	}
	return k, c.Keys.File, nil
}

func openSandboxKeys(c config.Config, log *slog.Logger) (k *vault.Keyset, file string, err error) {
	if c.Environment != config.Sandbox {
		return nil, "", config.Wrong("keys", "is required: personal data is encrypted, make a keyset with `kycgate keys init`")
	}
	file = sandboxKeysetFile(c)
	k, made, err := vault.OpenSandbox(file)
	if err != nil {
		return nil, "", fmt.Errorf("the sandbox's keyset: %w", err)
	}
	if made {
		log.Warn("no keys are configured: personal data is encrypted with a new keyset that protects nothing, for a sandbox only", "file", file)
	}
	return k, file, nil
}

func sandboxKeysetFile(c config.Config) string {
	return filepath.Join(filepath.Dir(c.Database.SQLitePath()), sandboxKeyset)
}

// ownKeys refuses a keyset that is not the one of the database. Serving with it would answer every question about a person with an
// error, and begin to encrypt with keys that the backups of the keyset do not hold. While a rotation is unfinished it cannot tell.
func ownKeys(ctx context.Context, c config.Config, keyset *vault.Keyset) error {
	if keyset.Masters() > 1 {
		return nil
	}
	left, err := store.KeysLeft(ctx, c.Database.SQLitePath(), keyset)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	if left > 0 {
		return config.Wrong("keys.file", "is not the keyset of this database: restore the one that what is in it was encrypted with")
	}
	return nil
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
	if have, want, err := store.Inspect(ctx, c.Database.SQLitePath()); err == nil && have == want {
		if err := ownKeys(ctx, c, keyset); err != nil {
			return err
		}
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
