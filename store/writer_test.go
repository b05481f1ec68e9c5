package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/kycgate/kycgate/kyc"
)

// together runs writes so that they share one transaction, in this order, and returns their errors.
func together(s *Store, fns ...func(kyc.Tx) error) []error {
	release := s.hold()
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		before := len(s.writer.queue)
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					errs[i] = fmt.Errorf("panic: %v", v)
				}
			}()
			errs[i] = errors.New("exited")
			errs[i] = s.Write(context.Background(), fn)
		})
		for len(s.writer.queue) == before {
			runtime.Gosched()
		}
	}
	release()
	wg.Wait()
	return errs
}

func TestGroupUndoesOnlyWhatFailed(t *testing.T) {
	t.Parallel()
	some := errors.New("some error")
	ends := map[string]func() error{
		"ok": func() error { return nil }, "error": func() error { return some },
		"panic": func() error { panic("some value") }, "exit": func() error { runtime.Goexit(); return nil },
	}
	for _, order := range [][]string{
		{"ok", "error", "ok", "panic", "ok", "exit"},
		{"error", "panic", "ok", "exit", "ok", "error"},
		{"exit", "ok", "exit", "exit", "ok"},
		{"panic", "error"},
		{"ok", "ok", "ok"},
	} {
		s := open(t)
		var persons []*kyc.Person
		var fns []func(kyc.Tx) error
		for _, end := range order {
			p := newPerson()
			persons = append(persons, p)
			fns = append(fns, func(tx kyc.Tx) error {
				if err := tx.InsertPerson(context.Background(), p); err != nil {
					return err
				}
				return ends[end]()
			})
		}
		errs := together(s, fns...)
		for i, end := range order {
			want := map[string]string{"ok": "<nil>", "error": "some error", "panic": "panic: some value", "exit": "exited"}[end]
			if got := fmt.Sprint(errs[i]); got != want {
				t.Errorf("%v, number %d: %s, want %s", order, i, got, want)
			}
			if (find(t, s, persons[i]) != nil) != (end == "ok") {
				t.Errorf("%v, number %d: wrongly kept or lost", order, i)
			}
		}
	}
}

func TestGroupIsOneCommit(t *testing.T) {
	t.Parallel()
	s := open(t)
	commits := 0
	mustWrite(t, s, func(kyc.Tx) error { // on the writer's goroutine
		real := s.writer.commit
		s.writer.commit = func() error { commits++; return real() }
		return nil
	})
	commits = 0
	var fns []func(kyc.Tx) error
	for range 50 {
		fns = append(fns, insert(newPerson()))
	}
	if err := errors.Join(together(s, fns...)...); err != nil {
		t.Fatal(err)
	}
	// What holds the writer back is in the first transaction, and everybody else with it.
	if err := s.Close(); err != nil || commits != 1 {
		t.Errorf("%d commits for 50 writes, %v", commits, err)
	}
}

func TestFailedCommitFailsEverybodyInIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		fatal bool
	}{
		"full":       {sqlite3.Error{Code: sqlite3.ErrFull}, false},
		"busy":       {sqlite3.Error{Code: sqlite3.ErrBusy}, false},
		"quota":      {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrWrite, SystemErrno: syscall.EDQUOT}, false},
		"fsync":      {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync, SystemErrno: syscall.EIO}, true},
		"fsync full": {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync, SystemErrno: syscall.ENOSPC}, true},
		"write":      {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrWrite, SystemErrno: syscall.EIO}, true},
		"corrupt":    {sqlite3.Error{Code: sqlite3.ErrCorrupt}, true},
		"unheard of": {errors.New("what"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			first, second := newPerson(), newPerson()
			s.failNextCommit(c.err)
			some := errors.New("some error")
			errs := together(s, insert(first), insert(second), func(kyc.Tx) error { return some })
			for i, err := range errs[:2] {
				if kind := kyc.KindOf(err); err == nil || kind != kyc.Unavailable && name != "corrupt" && name != "unheard of" {
					t.Errorf("number %d got %v", i, err)
				}
			}
			if !errors.Is(errs[2], some) {
				t.Errorf("who failed by itself got %v", errs[2])
			}
			if find(t, s, first) != nil || find(t, s, second) != nil {
				t.Error("something of a failed commit is there")
			}
			writeErr, pingErr := s.Write(t.Context(), insert(first)), s.Ping(t.Context())
			failed := false
			select {
			case <-s.Failed():
				failed = true
			default:
			}
			if failed != c.fatal {
				t.Errorf("failed = %v", failed)
			}
			if !c.fatal && (writeErr != nil || pingErr != nil) {
				t.Errorf("the next write: %v, ping: %v", writeErr, pingErr)
			}
			if c.fatal && (kyc.KindOf(writeErr) != kyc.Unavailable || kyc.KindOf(pingErr) != kyc.Unavailable) {
				t.Errorf("after a failed device, write: %v, ping: %v", writeErr, pingErr)
			}
		})
	}
}

// replaceLog puts another file under the descriptors SQLite writes its log through, and returns what takes it back. The log is
// empty then: what it held is in the database, where readers find it.
func replaceLog(t *testing.T, s *Store, with string) (restore func()) {
	t.Helper()
	db := openWriter(s.path)
	_, err := db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	other, err := syscall.Open(with, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	var fds []int // all before any is changed: the copies made below are descriptors of the log too
	for _, e := range entries {
		if link, _ := os.Readlink("/proc/self/fd/" + e.Name()); link == s.path+"-wal" {
			fd, err := strconv.Atoi(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, fd)
		}
	}
	if len(fds) == 0 {
		t.Fatal("found no descriptor of the log")
	}
	kept := make([]int, len(fds))
	for i, fd := range fds {
		var errs [2]error
		kept[i], errs[0] = syscall.Dup(fd)
		errs[1] = syscall.Dup3(other, fd, syscall.O_CLOEXEC)
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for i, fd := range fds {
			if err := errors.Join(syscall.Dup3(kept[i], fd, syscall.O_CLOEXEC), syscall.Close(kept[i])); err != nil {
				t.Error(err)
			}
		}
		_ = syscall.Close(other)
	}
}

// TestFailedFsyncStopsTheStore (R15) with a real fsync that fails: that of /dev/null does.
func TestFailedFsyncStopsTheStore(t *testing.T) {
	t.Parallel()
	s := open(t)
	before, lost, after := newPerson(), newPerson(), newPerson()
	mustWrite(t, s, insert(before))
	restore := replaceLog(t, s, "/dev/null")
	err := s.Write(t.Context(), insert(lost))
	restore()
	if e, ok := errors.AsType[sqlite3.Error](err); !ok || e.ExtendedCode != sqlite3.ErrIoErrFsync || kyc.KindOf(err) != kyc.Unavailable {
		t.Fatalf("got %v, want Unavailable with a failed fsync", err)
	}
	select {
	case <-s.Failed():
	default:
		t.Fatal("the store goes on")
	}
	if err := s.Write(t.Context(), insert(after)); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("a sound device again: %v, want no second chance", err)
	}
	if err := s.Ping(t.Context()); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("ping: %v", err)
	}
	if find(t, s, before) == nil {
		t.Error("reads have stopped too")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s := openAt(t, s.path); find(t, s, before) == nil || find(t, s, after) != nil {
		t.Error("after a restart: want what was acknowledged and nothing else")
	}
}

// TestFullDiskRecovers (R13) with a real ENOSPC: writing to /dev/full gives it.
func TestFullDiskRecovers(t *testing.T) {
	t.Parallel()
	s := open(t)
	before, p := newPerson(), newPerson()
	mustWrite(t, s, insert(before))
	restore := replaceLog(t, s, "/dev/full")
	for i, err := range together(s, insert(p), insert(newPerson())) {
		if e, ok := errors.AsType[sqlite3.Error](err); !ok || e.Code != sqlite3.ErrFull || kyc.KindOf(err) != kyc.Unavailable {
			t.Errorf("number %d: %v, want Unavailable with a full disk", i, err)
		}
	}
	if find(t, s, before) == nil || find(t, s, p) != nil {
		t.Error("reads go wrong while the disk is full")
	}
	if err := s.Ping(t.Context()); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("ping with a full disk: %v", err)
	}
	restore()
	// A heartbeat may fit where a registration does not, so what counts is the write that failed, for a while.
	if err := s.Ping(t.Context()); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("ping just after a write found no room: %v", err)
	}
	s.noRoom.Store(s.now().Add(-noRoomFor).UnixNano())
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping a while later: %v", err)
	}
	s.noRoom.Store(s.now().UnixNano())
	mustWrite(t, s, insert(p))
	if find(t, s, p) == nil {
		t.Error("the write is not there")
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping after a write found room: %v", err)
	}
	select {
	case <-s.Failed():
		t.Error("a full disk has stopped the store")
	default:
	}
}

// smallFilesHelper names the database of a process that may write small files only.
const smallFilesHelper = "KYCGATE_STORE_TEST_SMALL_FILES"

// TestFileSizeLimitRecovers (R13): a limit on the size of files is a full disk too, although SQLite calls it an I/O error. It
// runs in a process of its own, for the limit holds for all of it.
func TestFileSizeLimitRecovers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), smallFilesHelper+"="+filepath.Join(t.TempDir(), "kycgate.db"))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func writeIntoSmallFiles(path string) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(ctx, Options{Path: path, Keys: testKeys, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	_, _, err = s.Migrate(ctx)
	check(err)
	var limit syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = 1 << 20
	check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	var acknowledged []*kyc.Person
	for {
		p := newPerson()
		p.Name = kyc.NewName(strings.Repeat("x", 10_000))
		if err = s.Write(ctx, insert(p)); err != nil {
			break
		}
		acknowledged = append(acknowledged, p)
	}
	if kyc.KindOf(err) != kyc.Unavailable {
		check(fmt.Errorf("got %w, want Unavailable", err))
	}
	for range 3 {
		big := newPerson()
		big.Name = kyc.NewName(strings.Repeat("x", 10_000))
		if err := s.Write(ctx, insert(big)); kyc.KindOf(err) != kyc.Unavailable || err == nil {
			check(fmt.Errorf("got %w, want Unavailable again", err))
		}
	}
	check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	check(s.Write(ctx, insert(newPerson())))
	check(s.Ping(ctx))
	for _, p := range acknowledged {
		found, err := s.PersonByID(ctx, acme, p.ID)
		check(err)
		if found == nil {
			check(errors.New("an acknowledged person is lost"))
		}
	}
	check(s.Close())
	fmt.Println("ok")
	os.Exit(0)
}

// TestLockedFileIsUnavailable (R14): somebody else holds the file, for longer than the busy timeout.
func TestLockedFileIsUnavailable(t *testing.T) {
	t.Parallel()
	s := open(t)
	mustWrite(t, s, func(kyc.Tx) error { // on the writer's goroutine
		_, err := s.writer.q.conn.ExecContext(context.Background(), `PRAGMA busy_timeout = 50`)
		return err
	})
	db := openWriter(s.path)
	defer db.Close()
	holder, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	p, q := newPerson(), newPerson()
	var wg sync.WaitGroup
	for _, p := range []*kyc.Person{p, q, newPerson()} {
		wg.Go(func() {
			if err := s.Write(context.Background(), insert(p)); kyc.KindOf(err) != kyc.Unavailable {
				t.Errorf("got %v, want Unavailable", err)
			}
		})
	}
	wg.Wait()
	if err := s.Ping(t.Context()); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("ping: %v", err)
	}
	if find(t, s, p) != nil {
		t.Error("a refused write is there")
	}
	if err := holder.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, insert(p))
}

// TestBrokenTransactionDoesNothingMore: SQLite may have ended the transaction under an error, and a statement after it would
// commit alone. A function that goes on regardless must not get its way.
func TestBrokenTransactionDoesNothingMore(t *testing.T) {
	t.Parallel()
	s := open(t)
	good, before, after := newPerson(), newPerson(), newPerson()
	errs := together(s,
		insert(good),
		func(tx kyc.Tx) error {
			_ = insert(before)(tx)
			if err := tx.UpdateAnalysis(t.Context(), newAnalysis(before, kyc.SubmissionSent)); err == nil {
				t.Error("updated an analysis that is not there")
			}
			if err := insert(after)(tx); err == nil {
				t.Error("a broken transaction took a write")
			}
			if _, err := tx.PersonByID(t.Context(), acme, good.ID); err == nil {
				t.Error("a broken transaction took a read")
			}
			return nil
		},
		// SQLite ends the whole transaction by itself here, as it does on a full disk.
		func(x kyc.Tx) error {
			q := s.writer.q
			if _, err := q.exec(`ROLLBACK`); err != nil {
				t.Error(err)
			}
			return x.UpdateAnalysis(t.Context(), newAnalysis(before, kyc.SubmissionSent))
		},
		insert(after),
	)
	if errs[0] == nil || errs[1] == nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("got %v; want the first lost with the third, and the fourth committed", errs)
	}
	for i, p := range []*kyc.Person{good, before, after} {
		if (find(t, s, p) != nil) != (i == 2) {
			t.Errorf("number %d is wrongly kept or lost", i)
		}
	}
}

// TestFailedFsyncInsideATransactionStopsTheStore: it counts wherever it happens, and whatever the function makes of it.
func TestFailedFsyncInsideATransactionStopsTheStore(t *testing.T) {
	t.Parallel()
	s := open(t)
	good := newPerson()
	errs := together(s,
		insert(good),
		func(x kyc.Tx) error {
			_ = x.(*tx).use(t.Context(), "store.test", func(context.Context, *session) error {
				return sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync, SystemErrno: syscall.EIO}
			})
			return nil
		},
		insert(newPerson()),
	)
	for i, err := range errs {
		if kyc.KindOf(err) != kyc.Unavailable {
			t.Errorf("number %d: %v", i, err)
		}
	}
	select {
	case <-s.Failed():
	default:
		t.Error("the store goes on")
	}
	if find(t, s, good) != nil {
		t.Error("something of the transaction is there")
	}
}

func TestTransactionIsOverWithItsFunction(t *testing.T) {
	t.Parallel()
	s := open(t)
	var leaked kyc.Tx
	mustWrite(t, s, func(tx kyc.Tx) error {
		leaked = tx
		return nil
	})
	if err := insert(newPerson())(leaked); !errors.Is(err, errOver) {
		t.Errorf("got %v", err)
	}
}

func TestPanicIsLoggedWithoutItsValue(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "kycgate.db"), Keys: testKeys, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.Write(t.Context(), func(kyc.Tx) error { panic(errors.New(canary)) })
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "TestPanicIsLoggedWithoutItsValue") || strings.Contains(log.String(), canary) {
		t.Errorf("want the stack and not the value in: %s", log.String())
	}
}

// TestCheckpoint: the log is copied into the database and begun anew, so it does not grow with what was ever written, even while
// somebody reads all the time.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	for name, reading := range map[string]int{"alone": 0, "with readers": readers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			p := newPerson()
			mustWrite(t, s, insert(p))
			p.Name = kyc.NewName(strings.Repeat("x", 200_000))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range reading {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							_, _ = s.CountPersons(context.Background(), acme, kyc.PersonFilter{})
						}
					}
				})
			}
			const logs = 6 // how many times the log fills
			for range logs * checkpointFrames * 4096 / len(p.Name.Reveal()) {
				mustWrite(t, s, func(tx kyc.Tx) error { return tx.UpdatePerson(t.Context(), p) })
			}
			close(stop)
			wg.Wait()
			info, err := os.Stat(s.path + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			limit := int64(checkpointFrames * 4096 * 3 / 2)
			if reading > 0 {
				limit *= 3 // a reader that was not scheduled for 20 ms puts it off
			}
			if info.Size() > limit {
				t.Errorf("the log has %d bytes, want at most %d", info.Size(), limit)
			}
		})
	}
}
