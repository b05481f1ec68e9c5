package store

import (
	"context"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

const jobColumns = `id, kind, partner_id, subject, run_at, leased, hinted, attempt, failures, created_at`

// InsertJob implements [kyc.JobQueue].
func (t *tx) InsertJob(ctx context.Context, j *kyc.Job) error {
	return t.use(ctx, "store.insert_job", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO jobs (`+jobColumns+`)
			VALUES (:id, :kind, :partner_id, :subject, :run_at, :leased, :hinted, :attempt, :failures, :created_at)`, newJobRow(j))
		return err
	})
}

// ClaimJobs implements [kyc.JobQueue]. It looks first and leases then, so that a claim that finds nothing, the
// usual one, writes nothing and costs no fsync.
func (t *tx) ClaimJobs(ctx context.Context, now, leaseEnd time.Time, limit int) (jobs []*kyc.Job, err error) {
	err = t.use(ctx, "store.claim_jobs", func(ctx context.Context, q *session) error {
		var due []jobRow
		err := q.all(ctx, &due, `SELECT `+jobColumns+` FROM jobs WHERE dead = 0 AND run_at <= ? ORDER BY run_at, id LIMIT ?`,
			newMicros(now), max(limit, 0))
		if err != nil {
			return err
		}
		for i := range due {
			r := &due[i]
			r.RunAt, r.Leased, r.Attempt = newMicros(leaseEnd), true, r.Attempt+1
			if _, err := q.execRow(`UPDATE jobs SET run_at = :run_at, leased = 1, hinted = 0, attempt = :attempt WHERE id = :id`, *r); err != nil {
				return err
			}
			jobs = append(jobs, r.job())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return jobs, nil
}

// NextDue implements [kyc.JobQueue].
func (t *tx) NextDue(ctx context.Context) (at time.Time, ok bool, err error) {
	err = t.use(ctx, "store.next_due", func(_ context.Context, q *session) error {
		var due micros
		found, err := q.value(untimed, &due, `SELECT run_at FROM jobs WHERE dead = 0 ORDER BY run_at LIMIT 1`)
		at, ok = due.time(), found
		return err
	})
	if !ok {
		at = time.Time{}
	}
	return at, ok, err
}

// FinishJob implements [kyc.JobQueue].
func (t *tx) FinishJob(ctx context.Context, id kyc.JobID, attempt int) (bool, error) {
	return t.fenced(ctx, "store.finish_job",
		`DELETE FROM jobs WHERE id = ? AND attempt = ? AND leased = 1`, id, attempt)
}

// ReleaseJob implements [kyc.JobQueue].
func (t *tx) ReleaseJob(ctx context.Context, id kyc.JobID, attempt int, at, now time.Time, failures int) (due time.Time, ok bool, err error) {
	err = t.use(ctx, "store.release_job", func(_ context.Context, q *session) error {
		var runAt micros
		ok, err = q.value(untimed, &runAt, `UPDATE jobs SET leased = 0, run_at = CASE hinted WHEN 1 THEN ? ELSE ? END, failures = ?
			WHERE id = ? AND attempt = ? AND leased = 1 RETURNING run_at`, newMicros(now), newMicros(at), failures, id, attempt)
		due = runAt.time()
		return err
	})
	return due, ok, err
}

// BuryJob implements [kyc.JobQueue]. A buried job keeps its subject taken; hints do not wake it.
func (t *tx) BuryJob(ctx context.Context, id kyc.JobID, attempt int, reason string, at time.Time) (bool, error) {
	return t.fenced(ctx, "store.bury_job",
		`UPDATE jobs SET leased = 0, hinted = 0, dead = 1, dead_reason = ?, dead_at = ?
		WHERE id = ? AND attempt = ? AND leased = 1`, reason, newMicros(at), id, attempt)
}

// fenced changes a job for the holder of its lease only. A lease that ran out but was not claimed again is still
// its holder's: nobody else has begun.
func (t *tx) fenced(ctx context.Context, op, query string, args ...any) (ok bool, err error) {
	err = t.use(ctx, op, func(_ context.Context, q *session) error {
		n, err := q.exec(query, args...)
		ok = n == 1
		return err
	})
	return ok, err
}

// HintJob implements [kyc.JobQueue].
func (t *tx) HintJob(ctx context.Context, subject string, now time.Time) error {
	return t.use(ctx, "store.hint_job", func(_ context.Context, q *session) error {
		_, err := q.exec(`UPDATE jobs SET hinted = 1, run_at = CASE leased WHEN 1 THEN run_at ELSE min(run_at, ?) END
			WHERE subject = ? AND dead = 0`, newMicros(now), subject)
		return err
	})
}

// DeleteJob implements [kyc.JobQueue].
func (t *tx) DeleteJob(ctx context.Context, subject string) error {
	return t.use(ctx, "store.delete_job", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM jobs WHERE subject = ?`, subject)
		return err
	})
}

// JobBacklog implements [kyc.Reader].
func (r reader) JobBacklog(ctx context.Context, now time.Time) (backlog []kyc.JobBacklog, err error) {
	err = r.use(ctx, "store.job_backlog", func(ctx context.Context, q *session) error {
		var found []struct {
			Kind   string `db:"kind"`
			Due    int    `db:"due"`
			Oldest micros `db:"oldest"`
		}
		err := q.all(ctx, &found, `SELECT kind, count(*) AS due, min(run_at) AS oldest FROM jobs
			WHERE dead = 0 AND leased = 0 AND run_at <= ? GROUP BY kind ORDER BY kind`, newMicros(now))
		for _, f := range found {
			backlog = append(backlog, kyc.JobBacklog{Kind: kyc.JobKind(f.Kind), Due: f.Due, Oldest: f.Oldest.time()})
		}
		return err
	})
	return backlog, err
}
