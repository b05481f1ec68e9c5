package kyc

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// maxFacesOfPerson is how many faces of a person are answered, the newest (ours): the list has no pages.
const maxFacesOfPerson = 100

// visibleFace hides a face that is not known to be registered from everybody, and every face but those of their own person from a
// subject token.
func visibleFace(c Caller, f *FaceRegistration) *FaceRegistration {
	if f == nil || f.State != FaceRegistered || c.IsSubject() && (f.PersonID == "" || f.PersonID != c.Person) {
		return nil
	}
	return f
}

// FaceRegistration gives a face of the caller's partner by the provider's key, from the store or, when it is not there, from the
// provider; one that is found there is remembered.
//
// The provider knows the faces of all our partners under one key of ours, so it is asked even when the store knows whose the face
// is, and its answer is dropped then: another partner's face and one that does not exist take the same time and look the same.
func (s *Service) FaceRegistration(ctx context.Context, key string) (*FaceRegistration, error) {
	c := CallerFrom(ctx)
	if key == "" || CodeLike(key) != key { // no provider answers such a key
		return nil, nil
	}
	f, err := s.Store.FaceByKey(ctx, c.Partner, providerQitech, key)
	if f != nil || err != nil {
		return visibleFace(c, f), err
	}
	p := s.providers[providerQitech]
	if p.FetchFace == nil || c.IsSubject() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.AnswerWithin)
	defer cancel()
	ref, err := p.FetchFace(ctx, key)
	switch {
	case err != nil && KindOf(err) == NotFound:
		return nil, nil
	case err != nil && KindOf(err) == Internal && uuid.Validate(key) != nil:
		return nil, nil // keys are GUIDs (dossier A.3), and the upstream says that this is none
	case err != nil:
		return nil, E(Unavailable, "kyc.face_registration", err) // "there is none" would be a guess
	case ref.Fraud:
		return nil, nil // it is there, and nobody's
	}
	return s.rememberFace(ctx, p.Name, ref)
}

// FaceRegistrationByDocument gives the newest face of a document, formatted or bare, like FaceRegistration. A string that is no CPF
// has none.
//
// Documents of nobody are counted as those of [Service.PersonByDocument] are: this would find hidden digits as well.
func (s *Service) FaceRegistrationByDocument(ctx context.Context, document string) (face *FaceRegistration, err error) {
	c := CallerFrom(ctx)
	d, ok := ParseCPF(document, !s.SkipCheckDigits)
	if !ok {
		return nil, nil
	}
	done, err := s.guesses.begin(ctx, c, d)
	if err != nil {
		return nil, err
	}
	defer func() { done(face != nil || err != nil) }()
	f, err := s.Store.FaceByDocument(ctx, c.Partner, d)
	if f != nil || err != nil {
		return visibleFace(c, f), err
	}
	p := s.providers[providerQitech]
	if p.FetchFaceByDocument == nil || c.IsSubject() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.AnswerWithin)
	defer cancel()
	// A registration under way would show its key before it is recorded whose it is.
	unlock, err := s.faceLocks.lock(ctx, d.Reveal())
	if err != nil {
		return nil, E(Unavailable, "kyc.face_registration_by_document", err)
	}
	defer unlock()
	found := s.lookUpFace(ctx, p, d)
	switch {
	case found.err != nil:
		return nil, E(Unavailable, "kyc.face_registration_by_document", found.err)
	case found.blind:
		return nil, E(Unavailable, "kyc.face_registration_by_document", nil)
	case found.key == "", found.fraud:
		return nil, nil // a registration left open that is called a fraud is ended by its job
	}
	return s.rememberFace(ctx, p.Name, FaceReference{Key: found.key, Document: d})
}

// rememberFace keeps a face that the provider has and we did not know, unless it is another partner's (ours: no document speaks
// of several tenants under one key):
//
//   - a key that another partner has is theirs;
//   - a key that is new, of a document with a registration whose call has not ended, is that registration's;
//   - a key that is new, of a document that another partner has a person or a face of, is taken to be theirs, unless this
//     partner has a person of it too.
func (s *Service) rememberFace(ctx context.Context, provider string, ref FaceReference) (face *FaceRegistration, err error) {
	c := CallerFrom(ctx)
	err = s.Store.Write(ctx, func(tx Tx) error {
		var err error
		now := s.now()
		if face, err = tx.FaceByKey(ctx, c.Partner, provider, ref.Key); err != nil {
			return err
		}
		if face != nil {
			return s.learnDocument(ctx, tx, face, ref.Document, now)
		}
		known, err := tx.FaceKeyKnown(ctx, provider, ref.Key)
		if err != nil || known {
			return err
		}
		f := &FaceRegistration{
			ID: NewFaceID(), PartnerID: c.Partner, Provider: provider, RegistrationKey: ref.Key, DocumentNumber: ref.Document,
			Source: FaceFromElsewhere, State: FaceRegistered, CreatedAt: now, UpdatedAt: now,
		}
		if !ref.Document.Empty() {
			open, err := s.openFace(ctx, tx, ref.Document)
			if err != nil {
				return err
			}
			if open != nil && open.Before != ref.Key {
				if _, err := s.resolve(ctx, tx, open, lookedUp{key: ref.Key}, false); err != nil {
					return err
				}
				if open.PartnerID == c.Partner {
					face = open
				}
				return nil
			}
			person, err := tx.PersonByDocument(ctx, c.Partner, ref.Document)
			if err != nil {
				return err
			}
			if person != nil && person.Version > 0 {
				f.PersonID = person.ID
			} else if others, err := s.othersHave(ctx, tx, c.Partner, ref.Document); err != nil || others {
				return err
			}
		}
		face = f
		if err := s.audit(ctx, tx, faceEvent(f, AuditCreate)); err != nil {
			return err
		}
		return tx.InsertFace(ctx, f)
	})
	return visibleFace(c, face), err
}

// learnDocument notes whose face it is that was found by its key alone.
func (s *Service) learnDocument(ctx context.Context, tx Tx, f *FaceRegistration, document DocumentNumber, now time.Time) error {
	if document.Empty() || !f.DocumentNumber.Empty() {
		return nil
	}
	if err := tx.DeleteFace(ctx, f.PartnerID, f.ID); err != nil {
		return err
	}
	f.DocumentNumber, f.UpdatedAt = document, now
	p, err := tx.PersonByDocument(ctx, f.PartnerID, document)
	if err != nil {
		return err
	}
	if p != nil && p.Version > 0 {
		f.PersonID = p.ID
	}
	if err := s.audit(ctx, tx, faceEvent(f, AuditUpdate)); err != nil {
		return err
	}
	return tx.InsertFace(ctx, f)
}

// faceEvent is what the audit log is told of a face: that its key and, when it is known, its document came to be kept.
func faceEvent(f *FaceRegistration, action AuditAction) AuditEvent {
	e := AuditEvent{Partner: f.PartnerID, Person: f.PersonID, Object: string(f.ID), Action: action, Fields: []string{fieldFaceKey}}
	if !f.DocumentNumber.Empty() {
		e.Fields = append(e.Fields, fieldFaceDocument)
	}
	return e
}

// othersHave reports whether another partner has a person or a face of a document.
func (s *Service) othersHave(ctx context.Context, tx Tx, but PartnerID, document DocumentNumber) (bool, error) {
	for id := range s.partners {
		if id == but {
			continue
		}
		p, err := tx.PersonByDocument(ctx, id, document)
		if p != nil || err != nil {
			return true, err
		}
		f, err := tx.FaceByDocument(ctx, id, document)
		if f != nil || err != nil {
			return true, err
		}
	}
	return false, nil
}

// Face gives a face by its global id, or nil.
func (s *Service) Face(ctx context.Context, id FaceID) (*FaceRegistration, error) {
	c := CallerFrom(ctx)
	if !wellFormed(string(id), facePrefix) {
		return nil, nil
	}
	f, err := s.Store.FaceByID(ctx, c.Partner, id)
	return visibleFace(c, f), err
}

// FaceRegistrations gives the faces of many persons at once, oldest first.
func (s *Service) FaceRegistrations(ctx context.Context, persons []PersonID) (map[PersonID][]*FaceRegistration, error) {
	rows, err := s.Store.FacesOf(ctx, CallerFrom(ctx).Partner, persons, maxFacesOfPerson)
	if err != nil {
		return nil, err
	}
	for _, id := range persons {
		if rows[id] == nil {
			rows[id] = []*FaceRegistration{}
		}
	}
	return rows, nil
}
