package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

const (
	// maxGroup bounds how long the first of a group waits for the last.
	maxGroup = 128
	// checkpointFrames is how many pages (4 KiB each) of the log may wait to be copied into the database. More
	// makes the copying rarer, since a page written often is copied once, and the log and the start after a crash longer.
	checkpointFrames = 4000
)

// writer owns the writing connection. Everything but do runs on its one goroutine.
type writer struct {
	q       *session
	crypt   *crypt
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics

	queue  chan *write
	upkeep chan *maintenance
	stop   chan struct{} // closed to end the goroutine after what is queued
	done   chan struct{} // closed when it has ended
	failed chan struct{} // closed when the device failed
	dead   bool          // the goroutine's own view of failed

	scrubDue bool // the log must be emptied: it holds what was erased

	commit func() error // a variable for the tests, where it fails

	audit auditChain
}

func newWriter(q *session, c *crypt, now func() time.Time, log *slog.Logger, m *metrics) *writer {
	w := &writer{
		q: q, crypt: c, now: now, log: log, metrics: m,
		queue: make(chan *write, maxGroup), upkeep: make(chan *maintenance), stop: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{}),
	}
	w.commit = func() error {
		_, err := q.exec(`COMMIT`)
		return err
	}
	go w.loop()
	return w
}

// write is one call of Write on its way. Whoever moves state away from waiting decides whether fn runs.
type write struct {
	ctx   context.Context
	fn    func(*tx) error
	state atomic.Int32
	done  chan struct{}

	// The outcome, set before done is closed.
	err      error
	panicked any  // what fn panicked with
	exited   bool // fn called runtime.Goexit, as a test's Fatal does
}

const (
	waiting int32 = iota
	running
	abandoned
)

var errNoTransaction = errors.New("the transaction has ended by itself")

var errNoReturn = errors.New("the function did not return")

// do runs fn on the writer and returns when its outcome is durable.
func (w *writer) do(ctx context.Context, fn func(*tx) error) error {
	const op = "store.write"
	start := time.Now()
	defer func() { w.metrics.write.Observe(since(start)) }()

	select {
	case <-w.stop:
		return failure(ctx, op, errClosed)
	case <-w.failed:
		return failure(ctx, op, errFailed)
	default:
	}
	if err := ctx.Err(); err != nil {
		return failure(ctx, op, err)
	}
	r := &write{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return failure(ctx, op, ctx.Err())
	case <-w.done:
		return failure(ctx, op, errClosed)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, abandoned) {
			return failure(ctx, op, ctx.Err())
		}
		<-r.done // fn has begun: tell what became of it
	case <-w.done:
		if r.state.CompareAndSwap(waiting, abandoned) {
			return failure(ctx, op, errClosed) // it came just after the goroutine had looked for the last time
		}
		<-r.done
	}
	switch {
	case r.panicked != nil:
		panic(r.panicked)
	case r.exited:
		runtime.Goexit()
	}
	return r.err
}

// between runs fn on the writer's goroutine while no transaction is open.
func (w *writer) between(ctx context.Context, fn func() error) error {
	m := &maintenance{fn: fn, done: make(chan error, 1)}
	select {
	case w.upkeep <- m:
	case <-ctx.Done():
		return failure(ctx, "store.maintenance", ctx.Err())
	case <-w.failed:
		return failure(ctx, "store.maintenance", errFailed)
	case <-w.done:
		return failure(ctx, "store.maintenance", errClosed)
	}
	return <-m.done
}

type maintenance struct {
	fn   func() error
	done chan error
}

func (w *writer) close() error {
	close(w.stop)
	<-w.done
	return w.q.close()
}

func (w *writer) loop() {
	ended := false
	defer func() {
		if ended {
			close(w.done)
		} else {
			go w.loop() // fn ended the goroutine it ran on, which was this one
		}
	}()
	for {
		select {
		case r := <-w.queue:
			w.group(r)
		case m := <-w.upkeep:
			m.done <- m.fn()
		case <-w.stop:
			select {
			case r := <-w.queue:
				w.group(r)
			default:
				ended = true
				return
			}
		}
	}
}

// group is one transaction on the device and the writes that share it.
type group struct {
	*writer
	begun   bool
	members []*write   // done, and to be answered when the commit is
	audited []auditRow // of the members, in their order
}

// group runs r and whoever comes meanwhile, and commits.
func (w *writer) group(r *write) {
	g := &group{writer: w}
	defer g.end() // deferred for fn's Goexit: the others are answered all the same
	for {
		g.run(r)
		if len(g.members) == maxGroup {
			return
		}
		select {
		case r = <-w.queue:
		default:
			return
		}
	}
}

// run runs one write inside the group's transaction.
func (g *group) run(r *write) {
	if !r.state.CompareAndSwap(waiting, running) {
		return
	}
	if err := r.ctx.Err(); err != nil {
		r.finish(failure(r.ctx, "store.write", err))
		return
	}
	if g.dead {
		r.finish(failure(r.ctx, "store.write", errFailed))
		return
	}
	if !g.begun {
		if _, err := g.q.exec(`BEGIN IMMEDIATE`); err != nil {
			g.refuse(r, failure(r.ctx, "store.begin", err))
			return
		}
		g.begun = true
	}
	alone := len(g.members) == 0 // the transaction is its savepoint
	t := g.newTx()
	t.unprotected = !alone
	err := errNoReturn
	defer func() { g.settle(r, t, alone, err) }()
	err = r.call(t, g.log)
}

// call runs fn and survives what it does.
func (r *write) call(t *tx, log *slog.Logger) (err error) {
	returned := false
	defer func() {
		t.over = true
		if returned {
			return
		}
		err = errNoReturn
		if r.panicked = recover(); r.panicked == nil {
			r.exited = true
			return
		}
		// The caller's goroutine panics again, with the value but without these frames. The value stays out: it
		// may be anything.
		log.LogAttrs(untimed, slog.LevelError, "a transaction panicked", slog.String("type", fmt.Sprintf("%T", r.panicked)), slog.String("stack", string(debug.Stack())))
	}()
	err = r.fn(t)
	returned = true
	return err
}

// settle keeps or undoes what one fn did.
func (g *group) settle(r *write, t *tx, alone bool, err error) {
	if err == nil {
		err = t.broken
	}
	if lostSync(t.broken) { // the log is synced within a transaction too, when it begins anew
		g.fail(t.broken)
		g.undo(t.broken)
		r.finish(err)
		return
	}
	if t.broken != nil && !g.q.inTransaction() {
		// On a full disk, among others, SQLite rolls back the whole transaction by itself: the others' work is gone too.
		g.undo(t.broken)
		r.finish(err)
		return
	}
	var undone error
	switch {
	case t.unprotected: // it has asked nothing of SQLite: there is nothing to keep or undo
	case err == nil && alone:
	case err == nil:
		_, undone = g.q.exec(`RELEASE w`)
	case alone:
		g.undo(nil)
	default:
		if _, undone = g.q.exec(`ROLLBACK TO w`); undone == nil {
			_, undone = g.q.exec(`RELEASE w`)
		}
	}
	if undone != nil {
		undone = failure(r.ctx, "store.savepoint", undone)
		g.undo(undone)
		if err == nil {
			err = undone
		}
	}
	if err != nil {
		r.finish(err)
		return
	}
	g.members = append(g.members, r)
	g.audited = append(g.audited, t.audited...)
}

// end commits and answers.
func (g *group) end() {
	if !g.begun || g.dead {
		return
	}
	if len(g.members) == 0 {
		g.undo(nil)
		return
	}
	if err := g.audit.append(g.q, g.audited); err != nil {
		why := auditFailure(err)
		g.log.LogAttrs(untimed, slog.LevelError, "nothing was written, because the audit log could not be", slog.Any("error", why))
		if lostSync(err) {
			g.fail(why)
		}
		g.undo(why)
		return
	}
	g.metrics.commits.Inc()
	if err := g.commit(); err != nil {
		why := failure(untimed, "store.commit", err)
		if !harmless(err) {
			g.fail(why)
		}
		g.undo(why)
		return
	}
	g.begun = false
	if len(g.audited) > 0 {
		g.audit.committed()
	}
	for _, m := range g.members {
		m.finish(nil)
	}
	g.checkpoint()
}

// undo rolls the transaction back and, when it had members, tells them why.
func (g *group) undo(why error) {
	if g.q.inTransaction() {
		if _, err := g.q.exec(`ROLLBACK`); err != nil {
			g.fail(failure(untimed, "store.rollback", err))
		}
	}
	g.begun = false
	for _, m := range g.members {
		m.finish(why)
	}
	g.members, g.audited = nil, nil
}

// refuse answers a write that found the file locked by somebody else, and all who have queued up behind it: they
// would wait for the same lock one after the other, each another five seconds. Who comes later, for instance because
// of this answer, tries for itself.
func (g *group) refuse(r *write, err error) {
	behind := len(g.queue)
	r.finish(err)
	for range behind {
		if r := <-g.queue; r.state.CompareAndSwap(waiting, running) {
			r.finish(err)
		}
	}
}

// fail ends all writing.
func (w *writer) fail(err error) {
	if w.dead {
		return
	}
	w.dead = true
	close(w.failed)
	w.log.LogAttrs(untimed, slog.LevelError, "the database takes no more writes: what the device holds is not known; restart on a sound device", slog.Any("error", err))
}

func (r *write) finish(err error) {
	r.err = err
	close(r.done)
}

// checkpoint copies the log into the database when enough has come together, and begins the log anew. It runs between groups:
// nobody waits for it but who comes meanwhile.
//
// The bulk is copied without waiting for readers. What a reader's snapshot kept back is copied by RESTART, which then waits for
// those who still read from the log, a few milliseconds at most: without it the log grows for as long as anybody reads all the
// time (60 MB in ten seconds of full load, and on). A long read only puts it off to the next time.
//
// After something was erased the log is cut to nothing as well (TRUNCATE), now or the next time that no reader is in the way.
func (w *writer) checkpoint() {
	waiting, _, err := w.runCheckpoint(`PRAGMA wal_checkpoint(NOOP)`)
	if err == nil && waiting < checkpointFrames && !w.scrubDue {
		return
	}
	if err == nil {
		_, _, err = w.runCheckpoint(`PRAGMA wal_checkpoint(PASSIVE)`)
	}
	if err == nil {
		var ms int
		_, err = w.q.value(untimed, &ms, `PRAGMA busy_timeout = 20`)
		switch {
		case err != nil:
		case w.scrubDue:
			_, w.scrubDue, err = w.runCheckpoint(`PRAGMA wal_checkpoint(TRUNCATE)`)
		default:
			_, _, err = w.runCheckpoint(`PRAGMA wal_checkpoint(RESTART)`)
		}
		_, undone := w.q.value(untimed, &ms, `PRAGMA busy_timeout = 5000`)
		err = errors.Join(err, undone)
	}
	switch {
	case err == nil:
	case harmless(err):
		w.log.LogAttrs(untimed, slog.LevelWarn, "the log was not copied into the database", slog.Any("error", failure(untimed, "store.checkpoint", err)))
	default:
		w.fail(failure(untimed, "store.checkpoint", err))
	}
}

// runCheckpoint tells how many frames of the log have not been copied, and whether somebody was in the way.
func (w *writer) runCheckpoint(pragma string) (waiting int, busy bool, err error) {
	var r struct {
		Busy         int `db:"busy"`
		Log          int `db:"log"`
		Checkpointed int `db:"checkpointed"`
	}
	_, err = w.q.get(&r, pragma)
	return r.Log - r.Checkpointed, r.Busy != 0, err
}

// tx implements kyc.Tx. After an error other than Conflict it does nothing more: SQLite may have ended the
// transaction under it, and a further statement would then commit on its own.
type tx struct {
	reader
	q      *session
	now    func() time.Time
	broken error
	over   bool // fn has returned

	// unprotected means that others share the transaction and the savepoint is not set yet: the first statement sets it. To record a
	// read, which most transactions only do, takes none.
	unprotected bool

	opened  []*dataKey   // those it has worked with
	learned []learnedKey // partner keys to remember once this is committed
	persons []touched    // of whom something has changed
	wake    []subjectKey // who has a new version, or is gone, once this is committed

	audited []auditRow // to be chained and written when the group commits
}

func (w *writer) newTx() *tx {
	t := &tx{q: w.q, now: w.now}
	t.reader = reader{t, w.crypt}
	return t
}

// use implements source. The caller's context is not used: what has begun runs to its end.
func (t *tx) use(_ context.Context, op string, f func(context.Context, *session) error) error {
	if t.over {
		return failure(untimed, op, errOver)
	}
	if t.broken != nil {
		return t.broken
	}
	if t.unprotected {
		t.unprotected = false
		err := errNoTransaction
		if t.q.inTransaction() { // outside of one a SAVEPOINT would begin its own
			_, err = t.q.exec(`SAVEPOINT w`)
		}
		if err != nil {
			t.broken = failure(untimed, "store.savepoint", err)
			return t.broken
		}
	}
	err := failure(untimed, op, f(untimed, t.q))
	if err != nil && kyc.KindOf(err) != kyc.Conflict {
		t.broken = err
	}
	return err
}
