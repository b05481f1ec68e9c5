package kyc

import (
	"context"
	"time"
)

// Retention says how long what is kept. Zero means for good, except for HoldPersons, where it means that nothing holds.
type Retention struct {
	// HoldPersons keeps a person from being erased until so long after their last change, where a law demands it.
	HoldPersons time.Duration
	// Persons are erased so long after their last change; so are faces and finished processes of documents that no person has.
	Persons time.Duration
	// Registrations, the snapshots, are removed so long after they were received; the newest of a person stays.
	Registrations time.Duration
	// Callbacks, the webhooks as received, are removed so long after they came.
	Callbacks time.Duration
	// Calls, the ledger of what was sent, is removed so long after the call ended.
	Calls time.Duration
}

// OldRow names something whose time is over.
type OldRow struct {
	PartnerID    PartnerID
	PersonID     PersonID
	Registration RegistrationID // "" for a person
	Face         FaceID         // of a face that stands alone; PersonID is "" then
	Process      ProcessID      // of a process that stands alone
}

// OldKind is what can be deleted by age alone.
type OldKind string

// The kinds.
const (
	OldCallbacks       OldKind = "callbacks"
	OldCalls           OldKind = "calls"
	OldIdempotencyKeys OldKind = "idempotency_keys"
	OldEvents          OldKind = "events" // but the newest of each subject
)

const (
	// retentionSubject is the one job of its kind.
	retentionSubject = "retention"
	// retentionEvery is how often it runs: ages are counted in days (ours).
	retentionEvery = time.Hour
	// keepEvents is how long a client may stay away and still be told every version when it is back (ours).
	keepEvents = 30 * 24 * time.Hour
	// retentionBatch bounds what one run takes from the store at once.
	retentionBatch = 100
)

// EnsureRetention makes sure that the retention is enforced from now on. It is called at the start.
func (s *Service) EnsureRetention(ctx context.Context) error {
	now := s.now()
	err := s.Store.Write(ctx, func(tx Tx) error {
		return tx.InsertJob(ctx, &Job{ID: NewJobID(), Kind: JobRetention, Subject: retentionSubject, RunAt: now, CreatedAt: now})
	})
	if KindOf(err) == Conflict && err != nil {
		return nil // it is there
	}
	s.Wake(now)
	return err
}

// enforceRetention removes what is too old. Each step is a transaction of its own, so that nobody waits long for the writer; what one
// run does not get done the next one does at once.
func (s *Service) enforceRetention(ctx context.Context, job *Job) error {
	now := s.now()
	again := false
	for _, step := range []struct {
		age time.Duration
		run func(context.Context, time.Time) (more bool, err error)
	}{
		{s.Retention.Persons, s.eraseOldPersons},
		{s.Retention.Persons, s.eraseOldFaces},
		{s.Retention.Persons, s.eraseOldProcesses},
		{s.Retention.Registrations, s.removeOldRegistrations},
		{s.Retention.Callbacks, s.deleteOld(OldCallbacks)},
		{s.Retention.Calls, s.deleteOld(OldCalls)},
		{keepIdempotencyKeys, s.deleteOld(OldIdempotencyKeys)},
		{keepEvents, s.deleteOld(OldEvents)},
	} {
		if step.age == 0 {
			continue
		}
		more, err := step.run(ctx, now.Add(-step.age))
		if err != nil {
			return err
		}
		again = again || more
	}
	next := now.Add(retentionEvery)
	if again {
		next = now
	}
	err := s.Store.Write(ctx, func(tx Tx) error {
		_, _, err := tx.ReleaseJob(ctx, job.ID, job.Attempt, next, now, 0)
		return err
	})
	s.Wake(next)
	return err
}

func (s *Service) deleteOld(what OldKind) func(context.Context, time.Time) (bool, error) {
	return func(ctx context.Context, before time.Time) (bool, error) {
		n := 0
		err := s.Store.Write(ctx, func(tx Tx) (err error) {
			n, err = tx.DeleteOld(ctx, what, before)
			return err
		})
		if n > 0 {
			s.Logger.Info("retention removed rows", "what", string(what), "rows", n)
		}
		return false, err
	}
}

// eraseOldFaces destroys faces that nobody was registered for together with their keys, as an erasure does.
func (s *Service) eraseOldFaces(ctx context.Context, before time.Time) (more bool, err error) {
	old, err := s.Store.OldFaces(ctx, before, retentionBatch)
	if err != nil || len(old) == 0 {
		return false, err
	}
	for _, row := range old {
		err := s.Store.Write(ctx, func(tx Tx) error {
			f, err := tx.FaceByID(ctx, row.PartnerID, row.Face)
			if err != nil || f == nil || f.PersonID != "" || !f.UpdatedAt.Before(before) {
				return err // something happened to it meanwhile
			}
			return s.dropFace(ctx, tx, f)
		})
		if err != nil {
			return false, err
		}
	}
	s.Logger.Info("retention erased faces that nobody was registered for", "rows", len(old))
	return len(old) == retentionBatch, s.Store.Scrub(ctx)
}

// eraseOldProcesses does the same for processes: nobody can be asked to be erased whom nobody registered.
func (s *Service) eraseOldProcesses(ctx context.Context, before time.Time) (more bool, err error) {
	old, err := s.Store.OldProcesses(ctx, before, retentionBatch)
	if err != nil || len(old) == 0 {
		return false, err
	}
	for _, row := range old {
		err := s.Store.Write(ctx, func(tx Tx) error {
			p, err := tx.Process(ctx, row.PartnerID, row.Process)
			if err != nil || p == nil || p.PersonID != nil || !p.UpdatedAt.Before(before) {
				return err // something happened to it meanwhile
			}
			if err := tx.DeleteProcess(ctx, p.PartnerID, p.ID); err != nil {
				return err
			}
			if err := tx.DeleteJob(ctx, string(p.ID)); err != nil {
				return err
			}
			return s.audit(ctx, tx, p.event(AuditDelete))
		})
		if err != nil {
			return false, err
		}
	}
	s.Logger.Info("retention erased processes that nobody was registered for", "rows", len(old))
	return len(old) == retentionBatch, s.Store.Scrub(ctx)
}

func (s *Service) eraseOldPersons(ctx context.Context, before time.Time) (more bool, err error) {
	old, err := s.Store.OldPersons(ctx, before, retentionBatch)
	if err != nil {
		return false, err
	}
	for _, row := range old {
		var erasure *Erasure
		err := s.Store.Write(ctx, func(tx Tx) error {
			p, err := tx.PersonByID(ctx, row.PartnerID, row.PersonID)
			if err != nil || p == nil || !p.UpdatedAt.Before(before) {
				return err // something happened to them meanwhile
			}
			if err := s.audit(ctx, tx, AuditEvent{Partner: row.PartnerID, Person: row.PersonID, Action: AuditErase, Fields: AuditFields()}); err != nil {
				return err
			}
			erasure, err = tx.ErasePerson(ctx, row.PartnerID, row.PersonID, ErasureRetention, s.now())
			return err
		})
		if err != nil {
			return false, err
		}
		if erasure != nil {
			if err := s.finishErasure(ctx, erasure); err != nil {
				return false, err
			}
			s.Logger.Info("retention erased a person", "partner", row.PartnerID, "person", row.PersonID)
		}
	}
	return len(old) == retentionBatch, nil
}

// removeOldRegistrations folds a snapshot into the next one before it removes it: what a registration left out was taken from those
// before it, and must go on being there.
func (s *Service) removeOldRegistrations(ctx context.Context, before time.Time) (more bool, err error) {
	old, err := s.Store.OldRegistrations(ctx, before, retentionBatch)
	if err != nil {
		return false, err
	}
	for _, row := range old {
		err := s.Store.Write(ctx, func(tx Tx) error {
			r, err := tx.Registration(ctx, row.PartnerID, row.PersonID, row.Registration)
			if err != nil || r == nil {
				return err
			}
			next, err := tx.NextAccepted(ctx, row.PartnerID, row.PersonID, r.ID)
			if err != nil || next == nil {
				return err
			}
			next.Profile = r.Profile.asked(next.Profile)
			if err := tx.ReplaceProfile(ctx, next); err != nil {
				return err
			}
			if err := s.audit(ctx, tx, AuditEvent{Partner: row.PartnerID, Person: row.PersonID, Object: string(r.ID), Action: AuditDelete, Fields: []string{fieldPayload}}); err != nil {
				return err
			}
			return tx.DeleteRegistration(ctx, row.PartnerID, row.PersonID, r.ID)
		})
		if err != nil {
			return false, err
		}
	}
	if len(old) > 0 {
		s.Logger.Info("retention removed snapshots of registrations", "rows", len(old))
	}
	return len(old) == retentionBatch, nil
}
