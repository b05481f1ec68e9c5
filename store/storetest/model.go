package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kycgate/kycgate/kyc"
)

// jobModel drives random operations against a queue that is a map, and compares every answer.
func jobModel(t *testing.T, b *bench) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, store: b.Store, jobs: make(map[kyc.JobID]*modelJob), now: epoch}
		m.clear()
		t.Repeat(map[string]func(*rapid.T){
			"insert":  m.insert,
			"claim":   m.claim,
			"finish":  m.finish,
			"release": m.release,
			"bury":    m.bury,
			"hint":    m.hint,
			"delete":  m.delete,
			"":        m.check,
		})
	})
}

type modelJob struct {
	kyc.Job
	dead bool
}

type model struct {
	t     *rapid.T
	store kyc.Store
	jobs  map[kyc.JobID]*modelJob
	now   time.Time
}

const modelSubjects = 4

func subject(i int) string { return fmt.Sprint("subject ", i) }

func (m *model) write(fn func(kyc.Tx) error) {
	if err := m.store.Write(ctx, fn); err != nil {
		m.t.Fatal(err)
	}
}

// clear takes away what the check before left behind: all share one store.
func (m *model) clear() {
	m.write(func(tx kyc.Tx) error {
		for i := range modelSubjects {
			if err := tx.DeleteJob(ctx, subject(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func drawSubject(t *rapid.T) string {
	return subject(rapid.IntRange(0, modelSubjects-1).Draw(t, "subject"))
}

func drawDelay(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(-5, 40).Draw(t, "seconds")) * time.Second
}

// pick gives a job and a fencing token that may be an old one.
func (m *model) pick(t *rapid.T) (*modelJob, int) {
	if len(m.jobs) == 0 {
		t.Skip("no jobs")
	}
	ids := slices.Sorted(maps.Keys(m.jobs))
	j := m.jobs[ids[rapid.IntRange(0, len(ids)-1).Draw(t, "job")]]
	return j, j.Attempt - rapid.IntRange(0, 1).Draw(t, "attempts ago")
}

func (m *model) holds(j *modelJob, attempt int) bool {
	return j.Leased && !j.dead && j.Attempt == attempt
}

func (m *model) bySubject(s string) *modelJob {
	for _, j := range m.jobs {
		if j.Subject == s {
			return j
		}
	}
	return nil
}

func (m *model) insert(t *rapid.T) {
	j := newJob(drawSubject(t), m.now.Add(drawDelay(t)))
	if rapid.Bool().Draw(t, "born leased") {
		j.Leased, j.Attempt = true, 1
	}
	err := m.store.Write(ctx, func(tx kyc.Tx) error { return tx.InsertJob(ctx, j) })
	if taken := m.bySubject(j.Subject) != nil; taken {
		if kyc.KindOf(err) != kyc.Conflict {
			t.Fatalf("got %v for a taken subject", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.jobs[j.ID] = &modelJob{Job: *j}
}

func (m *model) claim(t *rapid.T) {
	m.now = m.now.Add(max(0, drawDelay(t)))
	limit := rapid.IntRange(0, 3).Draw(t, "limit")
	var due []*modelJob
	for _, j := range m.jobs {
		if !j.dead && !j.RunAt.After(m.now) {
			due = append(due, j)
		}
	}
	slices.SortFunc(due, func(a, b *modelJob) int {
		return cmp.Or(a.RunAt.Compare(b.RunAt), cmp.Compare(a.ID, b.ID))
	})
	due = due[:min(limit, len(due))]
	var got []*kyc.Job
	m.write(func(tx kyc.Tx) (err error) {
		got, err = tx.ClaimJobs(ctx, m.now, m.now.Add(lease), limit)
		return err
	})
	if len(got) != len(due) {
		t.Fatalf("claimed %d, want %d", len(got), len(due))
	}
	for i, j := range due {
		j.RunAt, j.Leased, j.Attempt = m.now.Add(lease), true, j.Attempt+1
		if *got[i] != j.Job {
			t.Fatalf("claimed %+v, want %+v", *got[i], j.Job)
		}
		j.Hinted = false // told to whoever claimed it
	}
}

func (m *model) fenced(t *rapid.T, want bool, fn func(kyc.Tx) (bool, error)) {
	var got bool
	m.write(func(tx kyc.Tx) (err error) {
		got, err = fn(tx)
		return err
	})
	if got != want {
		t.Fatalf("lease held = %v, want %v", got, want)
	}
}

func (m *model) finish(t *rapid.T) {
	j, attempt := m.pick(t)
	holds := m.holds(j, attempt)
	m.fenced(t, holds, func(tx kyc.Tx) (bool, error) { return tx.FinishJob(ctx, j.ID, attempt) })
	if holds {
		delete(m.jobs, j.ID)
	}
}

func (m *model) release(t *rapid.T) {
	j, attempt := m.pick(t)
	holds := m.holds(j, attempt)
	at, failures := m.now.Add(drawDelay(t)), rapid.IntRange(0, 5).Draw(t, "failures")
	m.fenced(t, holds, func(tx kyc.Tx) (bool, error) {
		_, ok, err := tx.ReleaseJob(ctx, j.ID, attempt, at, m.now, failures)
		return ok, err
	})
	if !holds {
		return
	}
	if j.Hinted {
		at = m.now
	}
	j.Leased, j.RunAt, j.Failures = false, at, failures
}

func (m *model) bury(t *rapid.T) {
	j, attempt := m.pick(t)
	holds := m.holds(j, attempt)
	m.fenced(t, holds, func(tx kyc.Tx) (bool, error) { return tx.BuryJob(ctx, j.ID, attempt, "reason", m.now) })
	if holds {
		j.dead = true
	}
}

func (m *model) hint(t *rapid.T) {
	s := drawSubject(t)
	m.write(func(tx kyc.Tx) error { return tx.HintJob(ctx, s, m.now) })
	switch j := m.bySubject(s); {
	case j == nil || j.dead:
	case j.Leased:
		j.Hinted = true
	default:
		j.Hinted = true
		if j.RunAt.After(m.now) {
			j.RunAt = m.now
		}
	}
}

func (m *model) delete(t *rapid.T) {
	s := drawSubject(t)
	m.write(func(tx kyc.Tx) error { return tx.DeleteJob(ctx, s) })
	if j := m.bySubject(s); j != nil {
		delete(m.jobs, j.ID)
	}
}

// check compares what can be asked without changing anything.
func (m *model) check(t *rapid.T) {
	var next time.Time
	backlog := kyc.JobBacklog{Kind: kyc.JobAnalysis}
	for _, j := range m.jobs {
		if j.dead {
			continue
		}
		if next.IsZero() || j.RunAt.Before(next) {
			next = j.RunAt
		}
		if !j.Leased && !j.RunAt.After(m.now) {
			backlog.Due++
			if backlog.Oldest.IsZero() || j.RunAt.Before(backlog.Oldest) {
				backlog.Oldest = j.RunAt
			}
		}
	}
	m.write(func(tx kyc.Tx) error {
		at, ok, err := tx.NextDue(ctx)
		if err != nil {
			return err
		}
		if !at.Equal(next) || ok == next.IsZero() {
			t.Fatalf("next due at %s, %v; want %s", at, ok, next)
		}
		rows, err := tx.JobBacklog(ctx, m.now)
		if err != nil {
			return err
		}
		if backlog.Due == 0 && len(rows) != 0 || backlog.Due > 0 && (len(rows) != 1 || rows[0] != backlog) {
			t.Fatalf("backlog %v, want %v", rows, backlog)
		}
		return nil
	})
}
