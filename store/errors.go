package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/kycgate/kycgate/kyc"
)

var (
	// ErrInUse is in the chain of Open's error when another process holds the database.
	ErrInUse = errors.New("the database is in use")

	errClosed = errors.New("the store is closed")
	errFailed = errors.New("the store has stopped after a failure of the device")
	errOver   = errors.New("the transaction is over")
	errNoRow  = errors.New("there is no such row")
)

// failure turns what the driver says into a *kyc.Error, by code and never by text. SQLite's own messages name
// tables and columns and are kept for the operator; anything else might quote a value (database/sql does when a
// column does not convert, encoding/json when a text does not parse) and only its type is kept.
func failure(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*kyc.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[sqlite3.Error](err); ok {
		if e.Code == sqlite3.ErrInterrupt && ctx.Err() != nil {
			return kyc.E(kyc.Unavailable, op, ctx.Err())
		}
		return kyc.E(kindOf(e), op, e)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// Unavailable, because nothing was decided; the context's error stays visible to errors.Is.
		return kyc.E(kyc.Unavailable, op, err)
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, errClosed), errors.Is(err, errFailed):
		return kyc.E(kyc.Unavailable, op, err)
	case errors.Is(err, errOver), errors.Is(err, errNoRow):
		return kyc.E(kyc.Internal, op, err)
	case errors.Is(err, errKeysLeft):
		return kyc.E(kyc.Conflict, op, errKeysLeft)
	case errors.Is(err, errSealed):
		return kyc.E(kyc.Internal, op, errSealed)
	}
	return kyc.E(kyc.Internal, op, fmt.Errorf("unexpected %T", err))
}

func kindOf(e sqlite3.Error) kyc.Kind {
	switch e.Code {
	case sqlite3.ErrConstraint:
		switch e.ExtendedCode {
		case sqlite3.ErrConstraintUnique, sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintRowID:
			return kyc.Conflict
		}
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrCantOpen, sqlite3.ErrIoErr:
		return kyc.Unavailable
	}
	return kyc.Internal
}

// harmless reports whether a failed COMMIT only means "not now". Everything else, a failed fsync above all,
// means that nobody knows what the device holds: asking it again proves nothing, because the kernel reports a
// lost page once and then calls it clean.
func harmless(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrConstraint:
		return true
	case sqlite3.ErrIoErr:
		return noSpace(e)
	}
	return false
}

// lostSync reports whether err is a failed fsync.
func lostSync(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && e.ExtendedCode == sqlite3.ErrIoErrFsync
}

// noSpace reports whether an I/O error is a full disk under another name: SQLite says FULL for ENOSPC only, not
// for a quota or a limit on the size of a file. A failed fsync never counts, whatever its errno.
func noSpace(e sqlite3.Error) bool {
	switch e.ExtendedCode {
	case sqlite3.ErrIoErrSHMSize:
		return true
	case sqlite3.ErrIoErrWrite:
		return e.SystemErrno == syscall.EFBIG || e.SystemErrno == syscall.EDQUOT || e.SystemErrno == syscall.ENOSPC
	}
	return false
}

// outOfRoom reports whether a write failed because the disk, a quota or a limit on the file left it no room.
func outOfRoom(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && (e.Code == sqlite3.ErrFull || e.Code == sqlite3.ErrIoErr && noSpace(e))
}

var errNoRoom = errors.New("a write has just failed for want of room")
