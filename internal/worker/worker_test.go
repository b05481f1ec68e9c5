package worker

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type bundle struct {
	store *store.Store
	clock *clockwork.FakeClock
	reg   *prometheus.Registry
	ran   chan *kyc.Job
	stop  func()
}

// setup starts a worker on a store of its own. run may be nil: then every job is finished.
func setup(t *testing.T, run func(context.Context, *bundle, *kyc.Job) error, grace time.Duration) (*bundle, *Worker) {
	t.Helper()
	b := &bundle{clock: clockwork.NewFakeClockAt(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), reg: prometheus.NewRegistry(), ran: make(chan *kyc.Job, 100)}
	keys, err := vault.NewInMemory()
	if err != nil {
		t.Fatal(err)
	}
	b.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "jobs.db"), Keys: keys, Logger: slog.New(slog.DiscardHandler), Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := New(Config{
		Store: b.store, Lease: 15 * time.Second, Clock: b.clock, Logger: slog.New(slog.DiscardHandler), Registerer: b.reg, Concurrency: 4,
		Run: func(ctx context.Context, j *kyc.Job) error {
			defer func() { b.ran <- j }()
			if run != nil {
				return run(ctx, b, j)
			}
			return b.finish(j)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		w.Run(ctx, grace)
		close(done)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(func() {
		b.stop()
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, w
}

func (b *bundle) finish(j *kyc.Job) error {
	return b.store.Write(context.Background(), func(tx kyc.Tx) error {
		ok, err := tx.FinishJob(context.Background(), j.ID, j.Attempt)
		if err == nil && !ok {
			err = errors.New("lease lost")
		}
		return err
	})
}

func (b *bundle) enqueue(t *testing.T, subject string, at time.Time) {
	t.Helper()
	err := b.store.Write(t.Context(), func(tx kyc.Tx) error {
		return tx.InsertJob(t.Context(), &kyc.Job{ID: kyc.NewJobID(), Kind: kyc.JobAnalysis, PartnerID: "p", Subject: subject, RunAt: at, CreatedAt: b.clock.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) counted(t *testing.T, outcome string) float64 {
	t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "kycgate_jobs_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if label(m, "outcome") == outcome && label(m, "kind") == string(kyc.JobAnalysis) { // what enqueue makes
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric for outcome %s", outcome)
	return 0
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// A job runs when it is due and not before; a wake-up makes the sleeper look again.
func TestRunsWhenDue(t *testing.T) {
	t.Parallel()
	b, w := setup(t, nil, time.Second)
	due := b.clock.Now().Add(10 * time.Second)
	b.enqueue(t, "later", due)
	b.enqueue(t, "now", b.clock.Now())
	w.Wake(b.clock.Now())
	if j := <-b.ran; j.Subject != "now" || j.Attempt != 1 {
		t.Errorf("%+v", j)
	}
	if err := b.clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case j := <-b.ran:
		t.Fatalf("%s ran early", j.Subject)
	default:
	}
	b.clock.Advance(10 * time.Second)
	if j := <-b.ran; j.Subject != "later" {
		t.Errorf("%+v", j)
	}
}

// A job that recorded nothing is nobody's until its lease is over, and runs again then (R17).
func TestFailedJobRunsAgainAfterItsLease(t *testing.T) {
	t.Parallel()
	b, w := setup(t, func(_ context.Context, b *bundle, j *kyc.Job) error {
		if j.Attempt == 1 {
			return errors.New("the store was away")
		}
		return b.finish(j)
	}, time.Second)
	b.enqueue(t, "x", b.clock.Now())
	w.Wake(b.clock.Now())
	<-b.ran
	if err := b.clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(15 * time.Second)
	if j := <-b.ran; j.Attempt != 2 {
		t.Errorf("attempt %d", j.Attempt)
	}
}

// R20: a job that panics every time is buried after five turns, and the worker lives.
func TestPoisonIsBuried(t *testing.T) {
	t.Parallel()
	b, w := setup(t, func(_ context.Context, b *bundle, j *kyc.Job) error {
		if j.Subject == "poison" {
			panic("52998224725")
		}
		return b.finish(j)
	}, time.Second)
	b.enqueue(t, "poison", b.clock.Now())
	w.Wake(b.clock.Now())
	for panics := range maxPanics {
		<-b.ran
		// Until it is put back, which is counted last: put back after the clock has moved, it would be due when nobody moves it.
		for b.counted(t, outcomePanicked)+b.counted(t, outcomeBuried) <= float64(panics) {
			runtime.Gosched()
		}
		if err := b.clock.BlockUntilContext(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		b.clock.Advance(idle)
	}
	b.enqueue(t, "healthy", b.clock.Now())
	w.Wake(b.clock.Now())
	if j := <-b.ran; j.Subject != "healthy" {
		t.Errorf("%s ran a sixth time", j.Subject)
	}
	b.stop()
	if p, d := b.counted(t, outcomePanicked), b.counted(t, outcomeBuried); p != maxPanics-1 || d != 1 {
		t.Errorf("%v panicked, %v buried", p, d)
	}
}

// More work than slots: all of it is done, never more than the slots at once.
func TestConcurrencyIsBounded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := 0, 0
	b, w := setup(t, func(_ context.Context, b *bundle, j *kyc.Job) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		return b.finish(j)
	}, time.Second)
	for i := range 50 {
		b.enqueue(t, string(rune('A'+i)), b.clock.Now())
	}
	w.Wake(b.clock.Now())
	for range 50 {
		<-b.ran
	}
	if most > 4 {
		t.Errorf("%d jobs at once", most)
	}
}

// A drain lets a job under way end within its grace, and cuts it off after that.
func TestDrain(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	b, w := setup(t, func(ctx context.Context, b *bundle, j *kyc.Job) error {
		close(started)
		select {
		case <-release:
			return b.finish(j)
		case <-ctx.Done():
			return ctx.Err()
		}
	}, time.Minute)
	b.enqueue(t, "x", b.clock.Now())
	w.Wake(b.clock.Now())
	<-started
	stopped := make(chan struct{})
	go func() {
		b.stop()
		close(stopped)
	}()
	close(release)
	<-stopped
	if n := b.counted(t, outcomeDone); n != 1 {
		t.Errorf("%v jobs done", n)
	}
}

func TestWakeKeepsTheEarliest(t *testing.T) {
	t.Parallel()
	w := &Worker{wake: make(chan time.Time, 1)}
	now := time.Now()
	w.Wake(now.Add(time.Hour))
	w.Wake(now)
	w.Wake(now.Add(time.Minute))
	if at := <-w.wake; !at.Equal(now) {
		t.Errorf("kept %v", at.Sub(now))
	}
}
