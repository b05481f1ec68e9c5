package kyc

import (
	"context"
	"errors"
	"time"
)

// ErasePersonInput asks for the erasure of a person (schema: ErasePersonInput).
type ErasePersonInput struct {
	PersonID PersonID
	Reason   ErasureReason
}

// ErasureReason says why somebody is erased. It is a closed set, because free text about a person is personal data that would
// outlive them.
type ErasureReason string

// The reasons (ours, after LGPD article 16 and 18).
const (
	ErasureRequested ErasureReason = "DATA_SUBJECT_REQUEST"
	ErasureConsent   ErasureReason = "CONSENT_WITHDRAWN"
	ErasurePurpose   ErasureReason = "PURPOSE_FULFILLED"
	ErasureRetention ErasureReason = "RETENTION_ENDED"
	ErasureOrder     ErasureReason = "LEGAL_ORDER"
)

// ErasureReasons lists all.
func ErasureReasons() []ErasureReason {
	return []ErasureReason{ErasureRequested, ErasureConsent, ErasurePurpose, ErasureRetention, ErasureOrder}
}

// ErasureStatus says whether an erasure has happened.
type ErasureStatus string

// The statuses of the contract.
const (
	ErasureDone    ErasureStatus = "DONE"
	ErasureBlocked ErasureStatus = "BLOCKED"
)

// Erasure is what is left of a person: the tombstone. It holds ids and times.
type Erasure struct {
	PartnerID    PartnerID
	PersonID     PersonID
	Status       ErasureStatus
	BlockedUntil *time.Time
	Reason       ErasureReason
	Providers    []*ProviderErasure
	CompletedAt  *time.Time

	// Subjects are the objects that went along and may be older than the person. [Tx.ErasePerson] tells them, and the list of erasures; the tombstone does not.
	Subjects []string
}

// ProviderErasure says that a provider was sent data of the person, which must be erased there too.
type ProviderErasure struct {
	Provider string
	Status   ProviderErasureStatus
	// References are the ids the provider knows the person's data by: ours of the calls that were made.
	References []string
}

// ProviderErasureStatus says what became of the person's data at a provider.
type ProviderErasureStatus string

// ProviderErasureManual means that somebody must ask the provider: none of them documents a call for it (dossiers; ours).
const ProviderErasureManual ProviderErasureStatus = "MANUAL"

// ErasePersonPayload is the answer.
type ErasePersonPayload struct {
	Erasure    *Erasure
	UserErrors []UserError
}

// ErasureLog keeps the list of erased persons outside of the database, beside the keys: a backup of the database that is older than
// an erasure must not bring the person back.
type ErasureLog interface {
	// Append returns once the erasure is durable. An erasure that is in the list already changes nothing.
	Append(e *Erasure) error
}

// ErasePerson destroys the key a person's data is encrypted with and everything that could find them: nobody can read the person
// again, in no backup either, once the list of erasures is replayed on it. Their jobs go too, and a call that is under way finds
// nothing to report to. What stays is the ledger of calls, the audit trail and a tombstone, in ids and times.
//
// Erasing somebody again answers the same tombstone. A configured retention that still holds answers BLOCKED with its end.
func (s *Service) ErasePerson(ctx context.Context, in ErasePersonInput) (*ErasePersonPayload, error) {
	c := CallerFrom(ctx)
	notFound := &ErasePersonPayload{UserErrors: []UserError{{Code: CodeNotFound, Message: "names no person of yours", Path: []string{"input", "personId"}}}}
	if !wellFormed(string(in.PersonID), personPrefix) {
		return notFound, nil
	}
	var erasure *Erasure
	now := s.now()
	err := s.Store.Write(ctx, func(tx Tx) error {
		p, err := tx.PersonByID(ctx, c.Partner, in.PersonID)
		if err != nil {
			return err
		}
		if p == nil {
			erasure, err = tx.Erasure(ctx, c.Partner, in.PersonID)
			return err
		}
		if until := p.UpdatedAt.Add(s.Retention.HoldPersons); s.Retention.HoldPersons > 0 && until.After(now) {
			erasure = &Erasure{PartnerID: c.Partner, PersonID: p.ID, Status: ErasureBlocked, BlockedUntil: &until, Reason: in.Reason, Providers: []*ProviderErasure{}}
			return nil
		}
		if err := s.audit(ctx, tx, AuditEvent{Person: p.ID, Action: AuditErase, Fields: AuditFields()}); err != nil {
			return err
		}
		erasure, err = tx.ErasePerson(ctx, c.Partner, in.PersonID, in.Reason, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	if erasure == nil {
		return notFound, nil
	}
	if erasure.Status == ErasureDone {
		if err := s.finishErasure(ctx, erasure); err != nil {
			return nil, err
		}
	}
	return &ErasePersonPayload{Erasure: erasure, UserErrors: []UserError{}}, nil
}

// finishErasure makes an erasure outlive backups and the log of the database. It may be repeated; until it has succeeded the caller
// is told so, and the next start does it in any case.
func (s *Service) finishErasure(ctx context.Context, e *Erasure) error {
	// The jobs that would have dropped their captures are gone.
	for _, id := range e.Subjects {
		s.captures.drop(ProcessID(id))
	}
	if err := s.Erasures.Append(e); err != nil {
		return E(Unavailable, "kyc.erase_person", err)
	}
	// The pages are overwritten in the database, but its log still holds the old ones.
	return s.Store.Scrub(ctx)
}

// ReplayErasures makes the database and the list of erasures agree, before the first request is served. listed is what the list
// has: whoever is on it and in the database has come back with a backup and is erased again. It returns how many those were.
func (s *Service) ReplayErasures(ctx context.Context, listed []Erasure) (again int, err error) {
	known := make(map[PersonID]bool, len(listed))
	for _, e := range listed {
		known[e.PersonID] = true
		err := s.Store.Write(ctx, func(tx Tx) error {
			done, err := tx.Erasure(ctx, e.PartnerID, e.PersonID)
			if err != nil || done != nil {
				return err
			}
			p, err := tx.PersonByID(ctx, e.PartnerID, e.PersonID)
			if err != nil {
				return err
			}
			back, err := s.eraseSubjects(ctx, tx, e)
			if err != nil {
				return err
			}
			if p != nil || back {
				again++
			}
			if p != nil {
				if err := s.audit(ctx, tx, AuditEvent{Partner: e.PartnerID, Person: p.ID, Action: AuditErase, Fields: AuditFields()}); err != nil {
					return err
				}
			}
			_, err = tx.ErasePerson(ctx, e.PartnerID, e.PersonID, ErasureRequested, e.CompletedAt.UTC())
			return err
		})
		if err != nil {
			return again, err
		}
	}
	all, err := s.Store.Erasures(ctx)
	if err != nil {
		return again, err
	}
	for _, e := range all { // of a process that died between its commit and the list
		if !known[e.PersonID] {
			if err := s.Erasures.Append(e); err != nil {
				return again, err
			}
		}
	}
	if again > 0 {
		return again, s.Store.Scrub(ctx)
	}
	return again, nil
}

// eraseSubjects erases what was begun before its person was registered and went with them, and has come back as nobody's with a backup of
// that time.
func (s *Service) eraseSubjects(ctx context.Context, tx Tx, e Erasure) (back bool, err error) {
	for _, id := range e.Subjects {
		p, err := tx.Process(ctx, e.PartnerID, ProcessID(id))
		if err != nil {
			return false, err
		}
		f, err := tx.FaceByID(ctx, e.PartnerID, FaceID(id))
		if err != nil {
			return false, err
		}
		switch {
		case p != nil && p.PersonID == nil:
			err = errors.Join(tx.DeleteProcess(ctx, p.PartnerID, p.ID), s.audit(ctx, tx, p.event(AuditDelete)))
		case f != nil && f.PersonID == "":
			err = s.dropFace(ctx, tx, f)
		default:
			continue
		}
		if err = errors.Join(err, tx.DeleteJob(ctx, id)); err != nil {
			return false, err
		}
		back = true
	}
	return back, nil
}
