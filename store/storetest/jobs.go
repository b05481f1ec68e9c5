package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

const lease = 15 * time.Second

func (b *bench) claim(now time.Time, limit int) (jobs []*kyc.Job) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) (err error) {
		jobs, err = tx.ClaimJobs(ctx, now, now.Add(lease), limit)
		return err
	})
	return jobs
}

// fenced runs Finish, Release or Bury and says whether the lease was still held.
func (b *bench) fenced(fn func(kyc.Tx) (bool, error)) (ok bool) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) (err error) {
		ok, err = fn(tx)
		return err
	})
	return ok
}

func (b *bench) finish(j *kyc.Job, attempt int) bool {
	b.t.Helper()
	return b.fenced(func(tx kyc.Tx) (bool, error) { return tx.FinishJob(ctx, j.ID, attempt) })
}

func (b *bench) release(j *kyc.Job, at, now time.Time, failures int) bool {
	b.t.Helper()
	return b.fenced(func(tx kyc.Tx) (bool, error) {
		_, ok, err := tx.ReleaseJob(ctx, j.ID, j.Attempt, at, now, failures)
		return ok, err
	})
}

func (b *bench) hint(subject string, now time.Time) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) error { return tx.HintJob(ctx, subject, now) })
}

// nextDue gives the zero time when nothing is due ever.
func (b *bench) nextDue() (at time.Time) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) error {
		next, ok, err := tx.NextDue(ctx)
		if ok != !next.IsZero() {
			b.t.Errorf("NextDue says %s, %v", next, ok)
		}
		at = next
		return err
	})
	return at
}

func subjects(jobs []*kyc.Job) (s []string) {
	for _, j := range jobs {
		s = append(s, j.Subject)
	}
	return s
}

// jobClaim: the longest due first, up to the limit, each to one claimant.
func jobClaim(t *testing.T, b *bench) {
	if at := b.nextDue(); !at.IsZero() {
		t.Errorf("an empty queue is due at %s", at)
	}
	first := newJob("b", epoch.Add(-2*time.Second))
	first.Failures = 3
	b.add(newJob("c", epoch.Add(-time.Second)), first, newJob("d", epoch), newJob("later", epoch.Add(time.Microsecond)))
	born := newJob("born leased", epoch.Add(lease))
	born.Leased, born.Attempt = true, 1
	b.add(born)
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertJob(ctx, newJob("c", epoch)) }), kyc.Conflict)

	if at := b.nextDue(); !at.Equal(first.RunAt) {
		t.Errorf("next due at %s, want %s", at, first.RunAt)
	}
	if jobs := b.claim(epoch, 0); len(jobs) != 0 {
		t.Errorf("claimed %d of none", len(jobs))
	}
	jobs := b.claim(epoch, 2)
	if got := subjects(jobs); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("claimed %q", got)
	}
	want := *first
	want.RunAt, want.Leased, want.Attempt = epoch.Add(lease), true, 1
	same(t, "a claimed job", jobs[0], &want)
	if got := subjects(b.claim(epoch, 10)); !slices.Equal(got, []string{"d"}) {
		t.Errorf("claimed %q, want what was left", got)
	}
	if got := subjects(b.claim(epoch.Add(time.Second), 10)); !slices.Equal(got, []string{"later"}) {
		t.Errorf("claimed %q a second later", got)
	}
	if at := b.nextDue(); !at.Equal(epoch.Add(lease)) {
		t.Errorf("next due at %s, want the end of the lease", at)
	}
	// The leases run out: due again, with the next fencing token.
	again := b.claim(epoch.Add(lease), 10)
	if got := subjects(again); len(got) != 4 || slices.Contains(got, "later") {
		t.Errorf("claimed %q after the lease", got)
	}
	for _, j := range again {
		if j.Attempt != 2 {
			t.Errorf("%s has attempt %d, want 2", j.Subject, j.Attempt)
		}
	}

	// Of many claimants each job goes to one.
	later := epoch.Add(time.Hour)
	for i := range 100 {
		b.add(newJob(fmt.Sprint("many ", i), later))
	}
	var mu sync.Mutex
	claimed := make(map[kyc.JobID]int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				var jobs []*kyc.Job
				err := b.Write(ctx, func(tx kyc.Tx) (err error) {
					jobs, err = tx.ClaimJobs(ctx, later, later.Add(lease), 7)
					return err
				})
				if err != nil {
					t.Error(err)
				}
				if len(jobs) == 0 {
					return
				}
				mu.Lock()
				for _, j := range jobs {
					claimed[j.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range claimed {
		if n != 1 {
			t.Errorf("job %s was claimed %d times", id, n)
		}
	}
	if len(claimed) != 105 {
		t.Errorf("%d jobs were claimed, want 105", len(claimed))
	}
}

// jobFencing: who lost the lease changes nothing.
func jobFencing(t *testing.T, b *bench) {
	b.add(newJob("s", epoch))
	old := b.claim(epoch, 1)[0]
	late := epoch.Add(lease)
	now := b.claim(late, 1)[0] // the lease ran out and somebody else goes on
	if old.Attempt != 1 || now.Attempt != 2 {
		t.Fatalf("attempts %d and %d", old.Attempt, now.Attempt)
	}
	if b.finish(old, old.Attempt) || b.release(old, epoch, epoch, 9) ||
		b.fenced(func(tx kyc.Tx) (bool, error) { return tx.BuryJob(ctx, old.ID, old.Attempt, "late", epoch) }) {
		t.Error("the old holder changed the job")
	}
	if b.finish(now, now.Attempt+1) || b.finish(newJob("x", epoch), 1) {
		t.Error("finished a job that is not ours")
	}
	if !b.release(now, late.Add(time.Minute), late, 4) {
		t.Error("the holder could not release")
	}
	if b.release(now, epoch, epoch, 0) || b.finish(now, now.Attempt) {
		t.Error("a released job was changed by who had it")
	}
	if at := b.nextDue(); !at.Equal(late.Add(time.Minute)) {
		t.Errorf("next due at %s", at)
	}
	third := b.claim(late.Add(time.Minute), 1)[0]
	if third.Failures != 4 || third.Attempt != 3 {
		t.Errorf("failures %d, attempt %d; want 4 and 3", third.Failures, third.Attempt)
	}
	// A lease that ran out without anybody claiming it is still its holder's.
	if !b.finish(third, third.Attempt) || b.finish(third, third.Attempt) {
		t.Error("want to finish once")
	}
	if at := b.nextDue(); !at.IsZero() {
		t.Errorf("a finished job is due at %s", at)
	}
	b.add(newJob("s", epoch)) // the subject is free again
	b.write(func(tx kyc.Tx) error {
		if err := tx.DeleteJob(ctx, "s"); err != nil {
			return err
		}
		return tx.DeleteJob(ctx, "s")
	})
	if at := b.nextDue(); !at.IsZero() {
		t.Errorf("a deleted job is due at %s", at)
	}
}

// jobHint: a hint makes a job due now; one that comes while it runs makes it due as soon as it is released.
func jobHint(t *testing.T, b *bench) {
	b.add(newJob("waiting", epoch.Add(time.Hour)), newJob("due", epoch.Add(-time.Hour)))
	b.hint("waiting", epoch)
	b.hint("due", epoch)
	b.hint("nobody", epoch)
	jobs := b.claim(epoch, 10)
	if got := subjects(jobs); !slices.Equal(got, []string{"due", "waiting"}) {
		t.Fatalf("claimed %q: a hint must not make a job less due", got)
	}
	leased, plain := jobs[0], jobs[1]
	b.hint(leased.Subject, epoch)
	if got := b.claim(epoch.Add(time.Second), 10); len(got) != 0 {
		t.Fatalf("a hint broke the lease of %q", subjects(got))
	}
	now := epoch.Add(2 * time.Second)
	if !b.release(leased, now.Add(time.Hour), now, 0) || !b.release(plain, now.Add(time.Hour), now, 0) {
		t.Fatal("could not release")
	}
	again := b.claim(now, 10)
	if got := subjects(again); !slices.Equal(got, []string{"due"}) {
		t.Fatalf("claimed %q, want what was hinted", got)
	}
	if !again[0].Hinted {
		t.Error("the claim does not tell of the hint")
	}
	if !b.release(again[0], now.Add(time.Hour), now, 0) {
		t.Fatal("could not release")
	}
	if got := b.claim(now, 10); len(got) != 0 {
		t.Errorf("the hint counted twice for %q", subjects(got))
	}
	// A hint of a lease that ran out counts for whoever goes on.
	b.hint(plain.Subject, now)
	lost := b.claim(now, 1)[0]
	b.hint(lost.Subject, now)
	next := b.claim(now.Add(lease), 1)[0]
	if next.ID != lost.ID || !next.Hinted {
		t.Fatalf("claimed %q, hinted = %v", next.Subject, next.Hinted)
	}
	if !b.release(next, now.Add(time.Hour), now.Add(lease), 0) {
		t.Fatal("could not release")
	}
	if got := b.claim(now.Add(lease), 10); len(got) != 0 {
		t.Errorf("an answered hint woke %q", subjects(got))
	}
}

// jobBury: a buried job never runs by itself and keeps its subject.
func jobBury(t *testing.T, b *bench) {
	b.add(newJob("s", epoch))
	j := b.claim(epoch, 1)[0]
	if !b.fenced(func(tx kyc.Tx) (bool, error) { return tx.BuryJob(ctx, j.ID, j.Attempt, "poison", epoch) }) {
		t.Fatal("could not bury")
	}
	b.hint("s", epoch)
	if at := b.nextDue(); !at.IsZero() || len(b.claim(epoch.Add(time.Hour), 10)) != 0 {
		t.Error("a buried job runs")
	}
	if b.finish(j, j.Attempt) || b.release(j, epoch, epoch, 0) {
		t.Error("a buried job was changed")
	}
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertJob(ctx, newJob("s", epoch)) }), kyc.Conflict)
	b.write(func(tx kyc.Tx) error { return tx.DeleteJob(ctx, "s") })
	b.add(newJob("s", epoch))
}

// jobBacklog: what is due and nobody's, by kind.
func jobBacklog(t *testing.T, b *bench) {
	if rows := must(b.JobBacklog(ctx, epoch))(t); len(rows) != 0 {
		t.Errorf("an empty queue has a backlog: %v", rows)
	}
	another := newJob("another kind", epoch.Add(-3*time.Second))
	another.Kind = "another_kind"
	b.add(newJob("a", epoch), newJob("b", epoch.Add(-2*time.Second)), newJob("later", epoch.Add(time.Second)), another)
	leased := newJob("lease ran out", epoch.Add(-time.Hour))
	leased.Leased = true
	b.add(leased)
	got := must(b.JobBacklog(ctx, epoch))(t)
	want := []kyc.JobBacklog{{Kind: "another_kind", Due: 1, Oldest: epoch.Add(-3 * time.Second)}, {Kind: kyc.JobAnalysis, Due: 2, Oldest: epoch.Add(-2 * time.Second)}}
	slices.SortFunc(got, func(a, b kyc.JobBacklog) int { return a.Due - b.Due })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
