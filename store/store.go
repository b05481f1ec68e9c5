package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
)

// Options say where the database is and what it reports to.
type Options struct {
	// Path is the file. It and its folder are made when missing, for this user only.
	Path string
	// Keys are what personal data is encrypted and the audit log chained with; required.
	Keys Keys
	// Registerer gets the metrics; nil keeps none.
	Registerer prometheus.Registerer
	// Logger is for the operator; nil is slog.Default.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// PersonState is what the events of a person keep; nil keeps nothing.
	PersonState PersonState
	// Changed is told after a commit who has a new version or is gone; nil tells nobody.
	Changed func(partner kyc.PartnerID, subject string)

	// AuditHeads is the file that signed heads of the audit log are appended to; "" is [HeadsFile] of Path.
	AuditHeads string
}

// Store is one SQLite file. It implements [kyc.Store] and is safe for concurrent use.
type Store struct {
	reader
	path   string
	heads  string // the file of signed heads
	log    *slog.Logger
	now    func() time.Time
	lock   *os.File
	pool   *pool
	writer *writer
	crypt  *crypt
	db     *sqlx.DB // the writer's

	personState PersonState
	changed     func(kyc.PartnerID, string)

	noRoom atomic.Int64 // when a write last failed for want of room; 0 after one that did not

	closing  sync.Once
	closeErr error
}

var _ kyc.Store = (*Store)(nil)

// Open opens the file and locks it for this process. [Store.Migrate] and then [Store.Recover] come next, before
// anything else is asked.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Keys == nil {
		return nil, errors.New("store: Options.Keys is required")
	}
	s := &Store{log: o.Logger, now: o.Now, crypt: newCrypt(o.Keys), personState: o.PersonState, changed: o.Changed}
	if s.changed == nil {
		s.changed = func(kyc.PartnerID, string) {}
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.path, err = filepath.Abs(o.Path); err != nil {
		return nil, fmt.Errorf("database %s: %w", o.Path, err)
	}
	if s.lock, err = secure(s.path); err != nil {
		return nil, fmt.Errorf("database %s: %w", s.path, err)
	}
	if s.heads = o.AuditHeads; s.heads == "" {
		s.heads = HeadsFile(s.path)
	}
	if err := s.connect(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", s.path, err), unlockFile(s.lock))
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context, o Options) (err error) {
	s.db = openWriter(s.path)
	pooled := openReaders(s.path)
	defer func() {
		if err != nil {
			err = errors.Join(err, pooled.Close(), s.db.Close())
		}
	}()
	q, err := newSession(ctx, s.db)
	if err != nil {
		return fmt.Errorf("open the writer: %w", err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return err
	}
	// The readers come second: a read-only connection cannot make the file and its log.
	if s.pool, err = newPool(ctx, pooled, readers, m); err != nil {
		return err
	}
	s.reader = reader{s.pool, s.crypt}
	s.writer = newWriter(q, s.crypt, s.now, s.log, m)
	s.writer.audit = auditChain{keys: o.Keys, due: make(chan struct{}, 1)}
	return nil
}

// Write implements [kyc.Store].
func (s *Store) Write(ctx context.Context, fn func(kyc.Tx) error) error {
	var (
		learned []learnedKey
		wake    []subjectKey
	)
	err := s.writer.do(ctx, func(t *tx) error {
		err := fn(t)
		if err == nil {
			err = t.publish(ctx, s.personState)
		}
		learned, wake = t.learned, t.wake
		return err
	})
	switch {
	case err == nil:
		s.noRoom.Store(0)
		for _, k := range wake {
			s.changed(k.partner, k.subject)
		}
		for _, k := range learned {
			s.crypt.learn(k.id, k.key)
		}
	case outOfRoom(err):
		s.noRoom.Store(s.now().UnixNano())
	}
	return err
}

// noRoomFor is how long a write that found no room counts against Ping: a heartbeat is so small that it still fits
// where nothing else does.
const noRoomFor = 5 * time.Second

// Ping implements [kyc.Store] by a write of its own: a full disk shows nowhere else.
func (s *Store) Ping(ctx context.Context) error {
	if at := s.noRoom.Load(); at != 0 && s.now().Sub(time.Unix(0, at)) < noRoomFor {
		return kyc.E(kyc.Unavailable, "store.ping", errNoRoom)
	}
	return s.writer.do(ctx, func(t *tx) error {
		return t.use(ctx, "store.ping", func(_ context.Context, q *session) error {
			_, err := q.exec(`INSERT INTO heartbeat (id, at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at`, newMicros(s.now()))
			return err
		})
	})
}

// Failed is closed when the device has failed. Nothing is written any more and the process should exit.
func (s *Store) Failed() <-chan struct{} { return s.writer.failed }

// Recover puts in order what a process that died left behind; it is called once at the start, when no work is under
// way. Leases were the dead process's: their jobs are due now. A submission that is SENT and a call without an outcome
// may or may not have reached the provider: they are AMBIGUOUS. It returns how many jobs, and how many analyses, faces and processes,
// it changed.
func (s *Store) Recover(ctx context.Context, now time.Time) (leases, ambiguous int, err error) {
	err = s.writer.do(ctx, func(t *tx) error {
		return t.use(ctx, "store.recover", func(_ context.Context, q *session) error {
			at := newMicros(now)
			n, err := q.exec(`UPDATE jobs SET leased = 0, hinted = 0, run_at = min(run_at, ?) WHERE leased = 1 AND dead = 0`, at)
			if err != nil {
				return err
			}
			leases = int(n)
			// A start is when an operator has changed something: a buried job gets another chance.
			n, err = q.exec(`UPDATE jobs SET dead = 0, dead_reason = '', dead_at = NULL, leased = 0, hinted = 0, failures = 0, run_at = ? WHERE dead = 1`, at)
			if err != nil {
				return err
			}
			leases += int(n)
			n, err = q.exec(`UPDATE analyses SET submission = 'AMBIGUOUS', updated_at = ? WHERE submission = 'SENT'`, at)
			if err != nil {
				return err
			}
			ambiguous = int(n)
			n, err = q.exec(`UPDATE customers SET submission = 'AMBIGUOUS', updated_at = ? WHERE submission = 'SENT'`, at)
			if err != nil {
				return err
			}
			ambiguous += int(n)
			n, err = q.exec(`UPDATE processes SET submission = 'AMBIGUOUS', updated_at = ? WHERE submission = 'SENT'`, at)
			if err != nil {
				return err
			}
			ambiguous += int(n)
			n, err = q.exec(`UPDATE faces SET state = 'AMBIGUOUS', updated_at = ? WHERE state = 'SENT'`, at)
			if err != nil {
				return err
			}
			ambiguous += int(n)
			// What waited for a provider to come back waited with its capture, which is gone.
			n, err = q.exec(lostCaptures, at)
			if err != nil {
				return err
			}
			leases += int(n)
			_, err = q.exec(`UPDATE provider_calls SET outcome = 'AMBIGUOUS', ended_at = ? WHERE outcome IS NULL`, at)
			return err
		})
	})
	return leases, ambiguous, err
}

// Close lets what is under way end, copies the log into the database and unlocks the file. It may be called again.
func (s *Store) Close() error {
	s.closing.Do(func() {
		// The writer is last: the connection that closes last copies the log, and a reader may not.
		s.closeErr = errors.Join(s.pool.close(), s.writer.close(), s.db.Close(), unlockFile(s.lock))
	})
	return s.closeErr
}
