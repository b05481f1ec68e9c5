// Package worker is the door through which due jobs reach the verbs of kyc. It owns no rules: it claims,
// runs with bounded concurrency, and sleeps until the next job is due or somebody wakes it.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
)

// Config is what a Worker needs. All fields are required but Concurrency.
type Config struct {
	Store kyc.Store
	// Run does one claimed job and records its effect. See kyc.Service.RunJob.
	Run func(context.Context, *kyc.Job) error
	// Lease is how long a claimed job is ours. Run gets a context that ends a second before it does.
	Lease      time.Duration
	Clock      clockwork.Clock
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Concurrency bounds the jobs under way; default 64. What a provider takes at once is the guard's to say.
	Concurrency int
}

// Worker runs due jobs.
type Worker struct {
	Config
	wake  chan time.Time
	freed chan struct{}
	done  *prometheus.CounterVec

	mu     sync.Mutex
	panics map[kyc.JobID]int // in a row, by this process; Job.Failures also counts patient polling
}

const (
	// maxPanics is after how many panics in a row a job is buried: it would kill its turn for ever (R20).
	maxPanics = 5
	// idle bounds the sleep, should a wake-up ever be missed.
	idle = 30 * time.Second
	// storeBackoff is the pause after the store refused a claim, e.g. because the disk is full.
	storeBackoff = time.Second
)

// Outcomes of kycgate_jobs_total.
const (
	outcomeDone     = "done"     // one step was recorded
	outcomeFailed   = "failed"   // nothing was recorded; the lease will run out
	outcomePanicked = "panicked" // it goes back and is tried again
	outcomeBuried   = "buried"   // it panicked too often
)

// New builds a worker; Run starts it.
func New(c Config) *Worker {
	if c.Concurrency == 0 {
		c.Concurrency = 64
	}
	w := &Worker{
		Config: c,
		wake:   make(chan time.Time, 1), freed: make(chan struct{}, 1), panics: make(map[kyc.JobID]int),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kycgate_jobs_total", Help: "Runs of background jobs by what became of them.",
		}, []string{"kind", "outcome"}),
	}
	for _, k := range kyc.JobKinds() {
		for _, o := range []string{outcomeDone, outcomeFailed, outcomePanicked, outcomeBuried} {
			w.done.WithLabelValues(string(k), o)
		}
	}
	c.Registerer.MustRegister(w.done, backlog{c.Store, c.Clock})
	return w
}

// Wake tells that a job may be due at that time. It never blocks and may be called at any moment.
func (w *Worker) Wake(at time.Time) {
	for {
		select {
		case w.wake <- at:
			return
		default:
		}
		select { // merge with the wake-up that has not been read yet: the earlier one counts
		case other := <-w.wake:
			if other.Before(at) {
				at = other
			}
		default:
		}
	}
}

// Run claims and runs jobs until ctx ends. Then it claims nothing more, gives the jobs under way until
// grace ends, cuts the rest off, and returns when none is left.
func (w *Worker) Run(ctx context.Context, grace time.Duration) {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	slots := make(chan struct{}, w.Concurrency)
	var running sync.WaitGroup
	for ctx.Err() == nil {
		free := cap(slots) - len(slots)
		jobs, next, err := w.claim(ctx, free)
		if err != nil && ctx.Err() == nil {
			w.Logger.Warn("jobs cannot be claimed now", "err", err)
			next = w.Clock.Now().Add(storeBackoff)
		}
		for _, j := range jobs {
			slots <- struct{}{}
			running.Go(func() {
				defer func() {
					<-slots
					select {
					case w.freed <- struct{}{}:
					default:
					}
				}()
				w.run(base, j)
			})
		}
		// With every slot taken there is nothing to do until one is free, whatever is due.
		w.sleep(ctx, next, err == nil && len(jobs) == free)
	}
	finished := make(chan struct{})
	go func() {
		running.Wait()
		close(finished)
	}()
	timer := w.Clock.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.Chan():
		cut()
		<-finished
	}
}

// claim leases what is due, at most limit, and tells when to look again.
func (w *Worker) claim(ctx context.Context, limit int) (jobs []*kyc.Job, next time.Time, err error) {
	now := w.Clock.Now()
	next = now.Add(idle)
	if limit == 0 {
		return nil, next, nil
	}
	err = w.Store.Write(ctx, func(tx kyc.Tx) error {
		var err error
		if jobs, err = tx.ClaimJobs(ctx, now, now.Add(w.Lease), limit); err != nil {
			return err
		}
		due, ok, err := tx.NextDue(ctx)
		if ok && due.Before(next) {
			next = due
		}
		return err
	})
	if err != nil {
		return nil, next, err
	}
	return jobs, next, nil
}

// sleep waits until next, until a wake-up for an earlier time comes due, or until a slot is free when
// all are taken.
func (w *Worker) sleep(ctx context.Context, next time.Time, full bool) {
	for {
		d := next.Sub(w.Clock.Now())
		if d <= 0 && !full {
			return
		}
		var due <-chan time.Time
		var timer clockwork.Timer
		if !full {
			timer = w.Clock.NewTimer(d)
			due = timer.Chan()
		}
		stop := func() {
			if timer != nil {
				timer.Stop()
			}
		}
		select {
		case <-ctx.Done():
			stop()
			return
		case <-due:
			return
		case <-w.freed:
			stop()
			if full {
				return
			}
		case at := <-w.wake:
			stop()
			if at.Before(next) {
				next = at
			}
		}
	}
}

// run does one job. A panic costs the job its turn and not the process its life.
func (w *Worker) run(base context.Context, j *kyc.Job) {
	ctx, cancel := context.WithTimeout(base, w.Lease-time.Second)
	defer cancel()
	outcome := outcomeDone
	defer func() {
		if v := recover(); v != nil {
			// The value may be a person's data: only its type and the stack are logged.
			w.Logger.Error("job panicked", "kind", j.Kind, "job", j.ID, "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			outcome = w.afterPanic(context.WithoutCancel(ctx), j)
		}
		w.done.WithLabelValues(string(j.Kind), outcome).Inc()
	}()
	if err := w.Config.Run(ctx, j); err != nil {
		outcome = outcomeFailed
		w.Logger.Error("job recorded nothing; it runs again when its lease is over", "kind", j.Kind, "job", j.ID, "err", err)
		w.Wake(j.RunAt)
		return
	}
	w.mu.Lock()
	delete(w.panics, j.ID)
	w.mu.Unlock()
}

func (w *Worker) afterPanic(ctx context.Context, j *kyc.Job) string {
	now := w.Clock.Now()
	w.mu.Lock()
	w.panics[j.ID]++
	panics := w.panics[j.ID]
	if panics >= maxPanics {
		delete(w.panics, j.ID)
	}
	w.mu.Unlock()
	outcome := outcomePanicked
	next := now.Add(time.Second << panics)
	err := w.Store.Write(ctx, func(tx kyc.Tx) (err error) {
		if panics >= maxPanics {
			outcome = outcomeBuried
			_, err = tx.BuryJob(ctx, j.ID, j.Attempt, "panic", now)
			return err
		}
		_, _, err = tx.ReleaseJob(ctx, j.ID, j.Attempt, next, now, j.Failures)
		return err
	})
	if err != nil {
		w.Logger.Error("a job that panicked could not be put back", "kind", j.Kind, "job", j.ID, "err", err)
		return outcomeFailed
	}
	w.Wake(next)
	return outcome
}

// backlog is read from the store at each scrape, so that it also shows what no process works on.
type backlog struct {
	store kyc.Store
	clock clockwork.Clock
}

var (
	jobsDue   = prometheus.NewDesc("kycgate_jobs_due", "Jobs that are due and that nobody works on.", []string{"kind"}, nil)
	oldestDue = prometheus.NewDesc("kycgate_job_oldest_due_seconds", "How long the longest waiting due job has been due.", []string{"kind"}, nil)
)

func (backlog) Describe(ch chan<- *prometheus.Desc) {
	ch <- jobsDue
	ch <- oldestDue
}

func (b backlog) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	now := b.clock.Now()
	rows, err := b.store.JobBacklog(ctx, now)
	if err != nil {
		return // a database that does not answer must not take the other metrics with it
	}
	byKind := make(map[kyc.JobKind]kyc.JobBacklog)
	for _, r := range rows {
		byKind[r.Kind] = r
	}
	for _, k := range kyc.JobKinds() {
		r := byKind[k]
		age := 0.0
		if r.Due > 0 {
			age = max(0, now.Sub(r.Oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(jobsDue, prometheus.GaugeValue, float64(r.Due), string(k))
		ch <- prometheus.MustNewConstMetric(oldestDue, prometheus.GaugeValue, age, string(k))
	}
}
