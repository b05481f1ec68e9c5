package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"
)

const (
	// The pragmas go into the DSN (and the hook below), because an Exec reaches one connection of a pool only.
	//
	// synchronous=FULL: the driver compiles WAL with NORMAL, which loses acknowledged commits when the power goes.
	// _txlock=immediate: a transaction that begins as a reader cannot become a writer safely (BUSY_SNAPSHOT).
	// secure_delete: what is deleted is overwritten, not only unlinked.
	writerParams = "mode=rw&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=5000&_foreign_keys=on&_secure_delete=on&_stmt_cache_size=64"
	readerParams = "mode=ro&_query_only=true&_busy_timeout=5000"

	readers = 4
)

// The pragmas the DSN has no word for.
const (
	// Savepoints and sorts spill into files in /tmp otherwise; those would hold personal data.
	everyPragma = "PRAGMA temp_store = MEMORY;"
	// The writer goroutine checkpoints by itself (see writer.checkpoint), after the callers have their answer and
	// where an error is seen: the automatic one runs inside COMMIT and drops its errors. The limit only cuts a log
	// that a long read made grow.
	writerPragma = "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;"
	// Readers map the file instead of copying pages out of it, which is worth 15 % on a look-up. The writer does not: it would
	// map what it is about to change.
	readerPragma = "PRAGMA mmap_size = 268435456;"
)

// connector opens connections of one kind. It spares us a driver registered globally under a name.
type connector struct {
	dsn    string
	pragma string
}

func (c connector) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		_, err := conn.Exec(c.pragma, nil)
		return err
	}}
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.dsn) }

func dsn(path, params string) string {
	return (&url.URL{Scheme: "file", Path: path}).String() + "?" + params
}

// openWriter opens a pool of one connection that writes.
func openWriter(path string) *sqlx.DB {
	return openPool(connector{dsn(path, writerParams), everyPragma + writerPragma}, 1)
}

func openReaders(path string) *sqlx.DB {
	return openPool(connector{dsn(path, readerParams), everyPragma + readerPragma}, readers)
}

func openPool(c connector, size int) *sqlx.DB {
	db := sqlx.NewDb(sql.OpenDB(c), "sqlite3")
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db
}

// pool lends sessions to readers.
type pool struct {
	db      *sqlx.DB
	free    chan *session
	closed  chan struct{}
	metrics *metrics
}

func newPool(ctx context.Context, db *sqlx.DB, size int, m *metrics) (*pool, error) {
	p := &pool{db: db, free: make(chan *session, size), closed: make(chan struct{}), metrics: m}
	for range size {
		q, err := newSession(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("open a reader: %w", err)
		}
		q.committed = true
		p.free <- q
	}
	return p, nil
}

// use implements source for reads outside of a transaction: one connection, one statement, one snapshot.
func (p *pool) use(ctx context.Context, op string, f func(context.Context, *session) error) error {
	start := time.Now()
	defer func() { p.metrics.read.Observe(since(start)) }()
	if err := ctx.Err(); err != nil {
		return failure(ctx, op, err)
	}
	select {
	case q := <-p.free:
		defer func() { p.free <- q }()
		return failure(ctx, op, f(ctx, q))
	case <-ctx.Done():
		return failure(ctx, op, ctx.Err())
	case <-p.closed:
		return failure(ctx, op, errClosed)
	}
}

// close waits for the reads under way.
func (p *pool) close() error {
	close(p.closed)
	var errs []error
	for range cap(p.free) {
		errs = append(errs, (<-p.free).close())
	}
	return errors.Join(append(errs, p.db.Close())...)
}
