package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/store"
)

// sealAuditEvery is how often the head of the audit log is signed, unless many records come sooner. What was recorded
// since the last time is what a thief of the whole machine could still take back unseen (security.md, 3.3).
const sealAuditEvery = time.Minute

// headsFile is where signed heads of the audit log go.
func headsFile(c config.Config) string {
	if c.Audit.HeadsFile != "" {
		return c.Audit.HeadsFile
	}
	return store.HeadsFile(c.Database.SQLitePath())
}

// sealAudit signs the head of the audit log now and then, and a last time when ctx ends.
func (a *App) sealAudit(ctx context.Context) {
	if number, err := a.store.AuditEndsBefore(ctx); err != nil {
		a.log.Error("the signed heads of the audit log cannot be read", "err", err)
	} else if number > 0 {
		a.log.Error("the audit log ends before a head of it that was signed: the database is an older copy, restored or cut off; see docs/operations.md", "signed_head", number)
	}
	ticker := a.clock.NewTicker(sealAuditEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			a.sealAuditOnce(last)
			return
		case <-ticker.Chan():
		case <-a.store.SealDue():
		}
		a.sealAuditOnce(ctx)
	}
}

func (a *App) sealAuditOnce(ctx context.Context) {
	if _, err := a.store.SealAudit(ctx); err != nil && ctx.Err() == nil {
		a.log.Error("the head of the audit log could not be signed and exported; it is tried again in a minute", "err", err)
	}
}

// AuditReport is what a check of the audit log found.
type AuditReport = store.AuditReport

// VerifyAudit checks the audit log of a configuration's database, while a gateway may run on it. It tells progress
// on out now and then.
func VerifyAudit(ctx context.Context, c config.Config, log *slog.Logger, out io.Writer) (AuditReport, error) {
	path := c.Database.SQLitePath()
	if _, err := os.Stat(path); err != nil {
		return AuditReport{}, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	have, want, err := store.Inspect(ctx, path)
	switch {
	case err != nil:
		return AuditReport{}, fmt.Errorf("%w: %w", ErrDatabase, err)
	case have > want:
		return AuditReport{}, fmt.Errorf("%w: was made by a newer kycgate: run that one", ErrDatabase)
	case have < want:
		return AuditReport{}, fmt.Errorf("%w: has an older schema: run `kycgate migrate` first", ErrDatabase)
	}
	keys, _, err := openKeys(c, log)
	if err != nil {
		return AuditReport{}, err
	}
	if err := ownKeys(ctx, c, keys); err != nil {
		return AuditReport{}, err
	}
	told := time.Now()
	report, err := store.VerifyAudit(ctx, path, headsFile(c), keys, func(done, total int64) {
		if time.Since(told) >= time.Second {
			told = time.Now()
			_, _ = fmt.Fprintf(out, "%d of %d records\n", done, total)
		}
	})
	if err != nil {
		return report, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	return report, nil
}
