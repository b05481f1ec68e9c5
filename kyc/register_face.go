package kyc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	opRegisterFace = "register_face"

	// maxFaceAmbiguity is how long a registration without an answer is looked up before it counts as not there
	// (contract: at most 60 s).
	maxFaceAmbiguity = 60 * time.Second
)

// RegisterFaceInput is a face to register: exactly one of ImageKey and Image (schema: RegisterFaceInput).
type RegisterFaceInput struct {
	DocumentNumber DocumentNumber
	ImageKey       *UUID
	Image          *Base64
	IdempotencyKey *string
}

// RegisterFacePayload is the answer. When UserErrors is not empty, FaceRegistration is nil.
type RegisterFacePayload struct {
	FaceRegistration *FaceRegistration
	UserErrors       []UserError
}

func refusedFace(errs ...UserError) *RegisterFacePayload {
	return &RegisterFacePayload{UserErrors: errs}
}

// faceRegistering is one registration of a face on its way.
type faceRegistering struct {
	partner  PartnerID
	provider Provider
	request  FaceRequest
	source   FaceImageSource
	key      string          // idempotency key, "" without one
	digest   []byte          // of the input
	caller   context.Context // not to work by: only to see whether the caller still waits

	face *FaceRegistration // what it is, or was, about to become
	job  *Job
}

// normalize checks every field at once.
func (in RegisterFaceInput) normalize(checkDigits bool, limits ImageLimits) (r faceRegistering, errs []UserError) {
	var c checks
	r.key = c.idempotencyKey(in.IdempotencyKey)
	r.request.Document = c.cpf(in.DocumentNumber, checkDigits, "documentNumber")
	switch {
	case (in.ImageKey == nil) == (in.Image == nil):
		c.invalid("exactly one of imageKey and image must be given", "imageKey")
		c.invalid("exactly one of imageKey and image must be given", "image")
	case in.ImageKey != nil:
		r.source = FaceFromImageKey
		r.request.ImageKey = c.uuid(in.ImageKey, "imageKey")
	default:
		r.source = FaceFromImage
		img := c.image(*in.Image, limits, "image")
		r.request.Image = &img
	}
	if len(c.errs) == 0 {
		h := sha256.New()
		for _, part := range []string{"registerFace", r.request.Document.Reveal(), string(r.source)} {
			h.Write([]byte(part + "\x00"))
		}
		if in.Image != nil {
			h.Write([]byte(in.Image.Reveal()))
		} else {
			h.Write([]byte(*r.request.ImageKey))
		}
		r.digest = h.Sum(nil)
	}
	return r, c.errs
}

// RegisterFace registers a face under a document. QI Tech has no idempotency key for it and refuses no repeat, so
// this is held together here:
//
//	look up        what the document has at the provider, before anything leaves: whatever is new afterwards is ours
//	record         the face as SENT, the call, and a job, in one transaction
//	call           once
//	no answer      look up again; what is new is our registration
//	409, 429       look up again; after a 409 whatever is there is the answer, after a 429 what is new
//	still unknown  the face stays AMBIGUOUS, the job goes on looking, and nothing more is sent for the document
//	               until it is known; after a time-out not before Cadence.HoldAmbiguous has passed, because a
//	               provider that was only slow acts late
//	fraud          an explicit no, whether the answer says so or a look-up
//
// All of it happens under a lock on the document. A capture cannot wait for a provider to come back, so the
// caller is told to repeat (PROVIDER_UNAVAILABLE, retryable), and a repeat finds what the first one made.
func (s *Service) RegisterFace(ctx context.Context, in RegisterFaceInput) (*RegisterFacePayload, error) {
	deadline := s.Clock.NewTimer(s.AnswerWithin)
	defer deadline.Stop()
	partner, ok := s.partners[CallerFrom(ctx).Partner]
	if !ok {
		return nil, E(Forbidden, "kyc.register_face", nil)
	}
	provider := s.providers[providerQitech]
	r, errs := in.normalize(!s.SkipCheckDigits, provider.FaceImages)
	if provider.RegisterFace == nil || provider.FetchFaceByDocument == nil {
		errs = append(errs, UserError{Code: CodeProviderNotConfigured, Message: "QI Tech is not configured on this gateway: ask its operator", Path: []string{"input"}, Provider: nonEmpty(providerQitech)})
	}
	if len(errs) > 0 {
		return refusedFace(errs...), nil
	}
	r.partner, r.provider = partner.ID, provider

	// Whatever began goes on without the caller; what did not begin ends with them.
	begin, cancel := context.WithCancel(ctx)
	defer cancel()
	r.caller = begin
	answers := make(chan faceAnswer, 1)
	s.background.Go(func() {
		payload, err := s.registerFace(begin, &r)
		answers <- faceAnswer{payload, err}
	})
	select {
	case a := <-answers:
		return a.payload, a.err
	case <-deadline.Chan():
		return refusedFace(faceUnavailable(provider)), nil
	case <-ctx.Done():
		return nil, E(Unavailable, "kyc.register_face", ctx.Err())
	}
}

type faceAnswer struct {
	payload *RegisterFacePayload
	err     error
}

// faceUnavailable is the one answer to everything a repeat may mend.
func faceUnavailable(p Provider) UserError {
	return UserError{
		Code: CodeProviderUnavailable, Message: p.DisplayName + " cannot answer now: repeat the request with the same idempotencyKey; what it may have registered is looked up before anything is sent again",
		Path: []string{"input"}, Provider: nonEmpty(p.Name), Retryable: true,
	}
}

// registerFace is RegisterFace without the deadline of the answer. begin ends while nothing was sent; afterwards
// the work has a deadline of its own.
func (s *Service) registerFace(begin context.Context, r *faceRegistering) (*RegisterFacePayload, error) {
	document := r.request.Document
	unlock, err := s.faceLocks.lock(begin, document.Reveal())
	if err != nil {
		return nil, E(Unavailable, "kyc.register_face", err)
	}
	defer unlock()

	open, payload, err := s.faceStanding(begin, r)
	if payload != nil || err != nil {
		return payload, err
	}
	if open != nil && !s.waitUntil(begin, open.UpdatedAt.Add(s.Cadences[r.provider.Name].RetryAfter)) {
		return refusedFace(faceUnavailable(r.provider)), nil
	}
	now := s.lookUpFace(begin, r.provider, document)
	if now.err != nil {
		return s.faceFailed(r, now.err)
	}
	payload, err = s.beginFace(begin, r, open, now)
	if payload != nil || err != nil {
		return payload, err
	}

	work, cancel := context.WithTimeout(s.alive, s.Lease()-time.Second)
	defer cancel()
	ref, callErr := r.provider.RegisterFace(work, r.request)
	r.request.Image = nil // held no longer than its call
	var found *lookedUp
	if callErr != nil && (KindOf(callErr) == Conflict || KindOf(callErr) == RateLimited) {
		look := s.lookUpFace(work, r.provider, document) // the provider may have it already (dossier A.9)
		found = &look
	}
	if s.cutOff(work, callErr) || found != nil && s.cutOff(work, found.err) {
		return refusedFace(faceUnavailable(r.provider)), nil // it stays SENT, and the next process looks it up
	}
	return s.endFace(work, r, ref, callErr, found)
}

// faceStanding tells what is known before anything is asked: the answer to a repeat, or the registration of this
// document that is still open, if there is one, whoever's it is.
func (s *Service) faceStanding(ctx context.Context, r *faceRegistering) (open *FaceRegistration, payload *RegisterFacePayload, err error) {
	err = s.Store.Write(ctx, func(tx Tx) error {
		var err error
		now := s.now()
		if payload, err = r.replay(ctx, tx, now); err != nil || payload != nil {
			return err
		}
		if open, err = s.openFace(ctx, tx, r.request.Document); err != nil || open != nil {
			return err
		}
		newest, err := tx.FaceByDocument(ctx, r.partner, r.request.Document)
		if err != nil {
			return err
		}
		payload, err = r.claim(ctx, tx, newest, now)
		return err
	})
	return open, payload, err
}

// replay answers a repeat under the same idempotency key. A registration that left no row has freed its key. One
// that is open gives nothing: the look-up will tell.
func (r *faceRegistering) replay(ctx context.Context, tx Tx, now time.Time) (*RegisterFacePayload, error) {
	if r.key == "" {
		return nil, nil
	}
	done, same, err := tx.Idempotent(ctx, r.partner, r.key, r.digest, now.Add(-keepIdempotencyKeys))
	if err != nil || done == nil {
		return nil, err
	}
	if done.Mutation != "registerFace" {
		return refusedFace(*idempotencyConflict()), nil
	}
	f, err := tx.FaceByID(ctx, r.partner, FaceID(done.ObjectID))
	switch {
	case err != nil || f == nil:
		return nil, err
	case !same:
		return refusedFace(*idempotencyConflict()), nil
	case f.State == FaceRegistered:
		if len(f.Request) > 0 {
			err = r.answered(ctx, tx, f)
		}
		return &RegisterFacePayload{FaceRegistration: f, UserErrors: []UserError{}}, err
	}
	return nil, nil
}

// claim answers a face that was found after its caller had been told to repeat, if this is the repeat.
func (r *faceRegistering) claim(ctx context.Context, tx Tx, f *FaceRegistration, now time.Time) (*RegisterFacePayload, error) {
	if f == nil || f.State != FaceRegistered || !r.repeats(f) {
		return nil, nil
	}
	if err := r.answered(ctx, tx, f); err != nil {
		return nil, err
	}
	return &RegisterFacePayload{FaceRegistration: f, UserErrors: []UserError{}}, r.save(ctx, tx, f, now)
}

// repeats reports whether a face that nobody was answered was asked for by the same request.
func (r *faceRegistering) repeats(f *FaceRegistration) bool {
	return f.PartnerID == r.partner && len(f.Request) > 0 && bytes.Equal(f.Request, r.digest)
}

// fraud is the provider's no to this face.
func (r *faceRegistering) fraud() *Error {
	path := []string{"input", "imageKey"}
	if r.source == FaceFromImage {
		path[1] = "image"
	}
	return &Error{Kind: Rejected, Op: "kyc.register_face", Code: codeFraud, Path: path}
}

// answered notes that the caller is about to have the face, unless they have gone already: their repeat must find it.
func (r *faceRegistering) answered(ctx context.Context, tx Tx, f *FaceRegistration) error {
	if r.caller.Err() != nil {
		return nil
	}
	f.Request = nil
	return tx.UpdateFace(ctx, f)
}

// openFace gives the registration of a document that nobody knows the end of. There is at most one in the whole
// gateway: the lock and beginFace see to that.
func (s *Service) openFace(ctx context.Context, tx Tx, document DocumentNumber) (*FaceRegistration, error) {
	for id := range s.partners {
		open, err := tx.OpenFaces(ctx, id, document)
		if err != nil || len(open) > 0 {
			return firstFace(open), err
		}
	}
	return nil, nil
}

func firstFace(faces []*FaceRegistration) *FaceRegistration {
	if len(faces) == 0 {
		return nil
	}
	return faces[0]
}

// lookedUp is what a look-up by document answered: a key, "" when there is none, or an error that says nothing.
// A blind one was answered with something that no repeat will mend. The face of a fraud is there and is nobody's answer.
type lookedUp struct {
	key   string
	fraud bool
	err   error
	blind bool
}

// answered reports whether the look-up says anything at all.
func (l lookedUp) answered() bool { return l.err == nil && !l.blind }

// newTo reports whether what was found can only have come from the call of an open registration: it was not there before,
// and nobody has it.
func (l lookedUp) newTo(ctx context.Context, rows Reader, f *FaceRegistration) (bool, error) {
	if l.key == "" || l.key == f.Before {
		return false, nil
	}
	known, err := rows.FaceKeyKnown(ctx, f.Provider, l.key)
	return !known, err
}

// lookUpFace asks once more when no answer came: reads may be repeated.
func (s *Service) lookUpFace(ctx context.Context, p Provider, document DocumentNumber) lookedUp {
	ref, err := p.FetchFaceByDocument(ctx, document)
	if err != nil && KindOf(err) == Ambiguous && ctx.Err() == nil {
		ref, err = p.FetchFaceByDocument(ctx, document)
	}
	switch {
	case err == nil:
		return lookedUp{key: ref.Key, fraud: ref.Fraud}
	case KindOf(err) == NotFound:
		return lookedUp{}
	case KindOf(err) == Internal && !isContextError(err) && !unclassified(err):
		// The upstream lives and does not understand the question. Registrations go on without it.
		s.Logger.Error("provider did not understand a look-up by document; an operator must look", "provider", p.Name, "code", codeOf(err))
		return lookedUp{blind: true}
	default:
		return lookedUp{err: err}
	}
}

// faceEnd is what a look-up made of an open registration.
type faceEnd int

const (
	faceStillOpen faceEnd = iota
	faceFound             // it is there, and REGISTERED now
	faceDropped           // it is not there, as far as anybody will ever know
	faceFraud             // it is there, and the provider calls it a fraud: dropped as well
)

// resolve ends an open registration by what the look-up found. A key that was there before, or that we know, is
// not its; without one of its own it is given up when drop says so, or when it was looked for long enough without
// seeing anything.
func (s *Service) resolve(ctx context.Context, tx Tx, f *FaceRegistration, found lookedUp, drop bool) (faceEnd, error) {
	its, err := found.newTo(ctx, tx, f)
	if err != nil {
		return faceStillOpen, err
	}
	end := faceDropped
	switch now := s.now(); {
	case its && found.fraud:
		end = faceFraud
		s.Logger.Warn("the provider calls a face registration without an answer a fraud; it is not kept", "provider", f.Provider, "face", f.ID, "partner", f.PartnerID)
	case its:
		f.State, f.RegistrationKey, f.UpdatedAt, f.LateSince = FaceRegistered, found.key, now, time.Time{}
		if err := tx.UpdateFace(ctx, f); err != nil {
			return faceFound, err
		}
		// In nobody's name: whoever looked may be another partner than the one whose face it is.
		if err := s.audit(WithCaller(ctx, Caller{}), tx, faceEvent(f, AuditUpdate)); err != nil {
			return faceFound, err
		}
		return faceFound, tx.DeleteJob(ctx, string(f.ID))
	case s.held(f, now):
		return faceStillOpen, nil
	case now.Sub(f.UpdatedAt) < maxFaceAmbiguity && (!drop || found.blind):
		return faceStillOpen, nil
	default:
		s.Logger.Warn("a face registration without an answer is not at the provider; it may be sent again", "provider", f.Provider, "face", f.ID, "partner", f.PartnerID)
	}
	if err := s.dropFace(WithCaller(ctx, Caller{}), tx, f); err != nil {
		return end, err
	}
	return end, tx.DeleteJob(ctx, string(f.ID))
}

// held reports whether the provider may still be at work on a registration nobody waits for any more.
// MUST: TestLateFaceIsNotSentAgain.
func (s *Service) held(f *FaceRegistration, now time.Time) bool {
	return !f.LateSince.IsZero() && now.Sub(f.LateSince) < s.hold(f.Provider)
}

// dropFace removes a face that is not at the provider, or whose time is over.
func (s *Service) dropFace(ctx context.Context, tx Tx, f *FaceRegistration) error {
	if err := tx.DeleteFace(ctx, f.PartnerID, f.ID); err != nil {
		return err
	}
	return s.audit(ctx, tx, faceEvent(f, AuditDelete))
}

// beginFace ends what was open and records that the call is about to leave. What was open and asked the same for
// the same partner is the answer: the caller repeats what they got no answer to.
func (s *Service) beginFace(ctx context.Context, r *faceRegistering, open *FaceRegistration, found lookedUp) (payload *RegisterFacePayload, err error) {
	lease := s.Lease()
	err = s.Store.Write(ctx, func(tx Tx) error {
		now := s.now()
		payload = nil
		if open != nil {
			current, err := tx.FaceByID(ctx, open.PartnerID, open.ID)
			if err != nil {
				return err
			}
			if current != nil && current.State != FaceRegistered {
				end, err := s.resolve(ctx, tx, current, found, true)
				switch {
				case err != nil:
					return err
				case end == faceStillOpen:
					payload = refusedFace(faceUnavailable(r.provider))
					return nil
				case end == faceFraud && r.repeats(current):
					payload = refusedFace(faceRefusal(r.provider.Name, r.fraud()))
					return nil
				}
			}
			if payload, err = r.claim(ctx, tx, current, now); err != nil || payload != nil {
				return err
			}
		}
		r.face = &FaceRegistration{
			ID: NewFaceID(), PartnerID: r.partner, Provider: r.provider.Name, DocumentNumber: r.request.Document, Source: r.source,
			State: FaceSent, Before: found.key, LateSince: now, Request: r.digest, CreatedAt: now, UpdatedAt: now,
		}
		p, err := tx.PersonByDocument(ctx, r.partner, r.request.Document)
		if err != nil {
			return err
		}
		if p != nil && p.Version > 0 { // one that was never accepted may go again
			r.face.PersonID = p.ID
		}
		if err := tx.InsertFace(ctx, r.face); err != nil {
			return err
		}
		if err := s.audit(ctx, tx, faceEvent(r.face, AuditCreate)); err != nil {
			return err
		}
		if err := tx.InsertCall(ctx, &Call{PartnerID: r.partner, Provider: r.provider.Name, Operation: opRegisterFace, Reference: string(r.face.ID), Number: 1, StartedAt: now}); err != nil {
			return err
		}
		r.job = &Job{
			ID: NewJobID(), Kind: JobFace, PartnerID: r.partner, Subject: string(r.face.ID), RunAt: now.Add(lease), Leased: true, Attempt: 1, CreatedAt: now,
		}
		if err := tx.InsertJob(ctx, r.job); err != nil {
			return err
		}
		return r.save(ctx, tx, r.face, now)
	})
	return payload, err
}

// save makes the idempotency key stand for a face.
func (r *faceRegistering) save(ctx context.Context, tx Tx, f *FaceRegistration, now time.Time) error {
	if r.key == "" {
		return nil
	}
	return tx.SaveIdempotent(ctx, &IdempotentAnswer{
		PartnerID: r.partner, Key: r.key, Mutation: "registerFace", PersonID: f.PersonID, ObjectID: string(f.ID), CreatedAt: now,
	}, r.digest)
}

// endFace records what became of the call. found is what was seen after the provider had said that it may have the
// face already, else nil.
func (s *Service) endFace(ctx context.Context, r *faceRegistering, ref FaceReference, callErr error, found *lookedUp) (*RegisterFacePayload, error) {
	// What we learned is recorded even if the process is about to end.
	record := context.WithoutCancel(ctx)
	if callErr == nil {
		return s.faceRegistered(record, r, ref.Key, CallSucceeded, "")
	}
	outcome, left := faceOutcome(callErr)
	if found != nil {
		there, err := s.faceThere(record, r, callErr, *found)
		switch {
		case err != nil:
			return nil, err
		case there && found.fraud:
			callErr = r.fraud()
		case there:
			return s.faceRegistered(record, r, found.key, outcome, codeOf(callErr))
		default: // a 409 says that it is there, whatever the look-up sees; a 429 is a no, unless nobody could look
			left = KindOf(callErr) == Conflict || !found.answered()
		}
	}
	err := s.Store.Write(record, func(tx Tx) error {
		now := s.now()
		if err := tx.EndCall(record, string(r.face.ID), opRegisterFace, outcome, codeOf(callErr), now); err != nil {
			return err
		}
		f, err := tx.FaceByID(record, r.partner, r.face.ID)
		if err != nil || f == nil { // its person was erased meanwhile, and the job with it
			return err
		}
		if left {
			f.State, f.UpdatedAt, f.LateSince = FaceAmbiguous, now, time.Time{}
			if timedOut(callErr) {
				f.LateSince = now
			}
			if KindOf(callErr) == Conflict {
				f.Before = "" // what there is is the answer
			}
			return tx.UpdateFace(record, f)
		}
		if err := s.dropFace(record, tx, f); err != nil {
			return err
		}
		if r.key != "" {
			if err := tx.DeleteIdempotent(record, r.partner, r.key); err != nil {
				return err
			}
		}
		_, err = tx.FinishJob(record, r.job.ID, r.job.Attempt)
		return err
	})
	if err != nil {
		return nil, err
	}
	if left {
		s.Logger.Warn("a face registration ended without an answer; it is looked up", "provider", r.provider.Name, "face", r.face.ID, "partner", r.partner, "code", codeOf(callErr))
		if found == nil {
			look := s.lookUpFace(ctx, r.provider, r.request.Document)
			found = &look
		}
		return s.settleFace(ctx, r, *found)
	}
	return s.faceFailed(r, callErr)
}

// faceThere reports whether what was found after a 409 or a 429 is what the call was about. Of a provider that refuses a
// second face it is whatever there is; else only what is new.
func (s *Service) faceThere(ctx context.Context, r *faceRegistering, callErr error, found lookedUp) (bool, error) {
	if KindOf(callErr) == Conflict {
		return found.key != "", nil
	}
	return found.newTo(ctx, s.Store, r.face)
}

// timedOut reports whether a call ended because nobody waited for its answer any longer; the provider may still act on it.
func timedOut(err error) bool {
	return codeOf(err) == "timeout" || errors.Is(err, context.DeadlineExceeded)
}

// faceOutcome says what the ledger is told, and whether the provider may have the face although nobody said so.
func faceOutcome(err error) (outcome CallOutcome, left bool) {
	switch KindOf(err) {
	case Unavailable, Refused:
		return CallUnavailable, false
	case Ambiguous:
		return CallAmbiguous, true
	case Internal, Invalid, Unauthenticated, Forbidden:
		if isContextError(err) || unclassified(err) {
			return CallAmbiguous, true // our own code failed after the call may have left
		}
		return CallRejected, false
	default: // Rejected, NotFound, Credentials: it said no. So did Conflict and RateLimited, of which endFace knows more
		return CallRejected, false
	}
}

// faceRegistered records the provider's yes. A provider that answers the key of a face there is has registered
// nothing new: that face is the answer. So it is of one that refuses a second face, whose outcome is no yes.
func (s *Service) faceRegistered(ctx context.Context, r *faceRegistering, key string, outcome CallOutcome, code string) (payload *RegisterFacePayload, err error) {
	err = s.Store.Write(ctx, func(tx Tx) error {
		now := s.now()
		if err := tx.EndCall(ctx, string(r.face.ID), opRegisterFace, outcome, code, now); err != nil {
			return err
		}
		if _, err := tx.FinishJob(ctx, r.job.ID, r.job.Attempt); err != nil {
			return err
		}
		f, err := tx.FaceByID(ctx, r.partner, r.face.ID)
		if err != nil {
			return err
		}
		if f == nil { // its person was erased meanwhile, and that is the last word
			payload = refusedFace(UserError{Code: CodeConflict, Message: "the person of this document was erased meanwhile", Path: []string{"input", "documentNumber"}})
			return nil
		}
		there, err := tx.FaceByKey(ctx, r.partner, r.provider.Name, key)
		if err != nil {
			return err
		}
		if there != nil {
			payload = &RegisterFacePayload{FaceRegistration: there, UserErrors: []UserError{}}
			if err := s.dropFace(ctx, tx, f); err != nil {
				return err
			}
			return r.save(ctx, tx, there, now)
		}
		f.State, f.RegistrationKey, f.UpdatedAt, f.LateSince = FaceRegistered, key, now, time.Time{}
		payload = &RegisterFacePayload{FaceRegistration: f, UserErrors: []UserError{}}
		if err := tx.UpdateFace(ctx, f); err != nil {
			return err
		}
		if err := s.audit(ctx, tx, faceEvent(f, AuditUpdate)); err != nil {
			return err
		}
		return r.answered(ctx, tx, f)
	})
	return payload, err
}

// settleFace takes what was found at once of a registration that ended without an answer. If that tells nothing, the job
// goes on looking.
func (s *Service) settleFace(ctx context.Context, r *faceRegistering, found lookedUp) (*RegisterFacePayload, error) {
	if s.cutOff(ctx, found.err) {
		return refusedFace(faceUnavailable(r.provider)), nil
	}
	record := context.WithoutCancel(ctx)
	var f *FaceRegistration
	var end faceEnd
	due := s.now().Add(s.Cadences[r.provider.Name].RetryAfter)
	err := s.Store.Write(record, func(tx Tx) error {
		var err error
		end = faceStillOpen
		if f, err = tx.FaceByID(record, r.partner, r.face.ID); err != nil || f == nil {
			return err
		}
		if found.err == nil {
			if end, err = s.resolve(record, tx, f, found, false); err != nil {
				return err
			}
		}
		switch end {
		case faceFound:
			return r.answered(record, tx, f)
		case faceStillOpen:
			due, _, err = tx.ReleaseJob(record, r.job.ID, r.job.Attempt, due, s.now(), 1)
			return err
		case faceFraud, faceDropped:
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case end == faceFound:
		return &RegisterFacePayload{FaceRegistration: f, UserErrors: []UserError{}}, nil
	case end == faceFraud:
		return s.faceFailed(r, r.fraud())
	}
	s.Wake(due)
	return refusedFace(faceUnavailable(r.provider)), nil
}

// faceFailed says what the caller is told about a call that registered nothing.
func (s *Service) faceFailed(r *faceRegistering, err error) (*RegisterFacePayload, error) {
	var e *Error
	if !errors.As(err, &e) {
		return nil, err
	}
	switch e.Kind {
	case Rejected:
		return refusedFace(faceRefusal(r.provider.Name, e)), nil
	case Unavailable, Refused, Ambiguous, RateLimited, Conflict, Credentials:
		if e.Kind == Credentials {
			s.Logger.Error("provider refuses our face credentials", "provider", r.provider.Name, "code", codeOf(err))
		}
		return refusedFace(faceUnavailable(r.provider)), nil
	default:
		s.Logger.Error("provider did not understand us; an operator must look", "provider", r.provider.Name, "kind", e.Kind.String(), "code", codeOf(err))
		return nil, E(Internal, "kyc.register_face", err)
	}
}

// faceRefusal tells a refusal of the picture from one of the rest. The code is the provider's own word.
func faceRefusal(provider string, e *Error) UserError {
	refusal := providerRefusal(provider, e)
	if e.Code == codeFraud {
		refusal.Message = "the provider calls this face a fraud and it was not registered"
		return refusal
	}
	word, ok := strings.CutPrefix(e.Code, imageQuality)
	if !ok {
		return refusal
	}
	refusal.Code, refusal.Message = CodeImageRejected, "is not good enough to recognise a face; take the picture again"
	if word = strings.TrimPrefix(word, "."); word != "" {
		refusal.ProviderCode = nonEmpty(CodeLike(word))
	}
	if sentence := imageQualityMessages[word]; sentence != "" {
		refusal.Message = sentence
	}
	return refusal
}

// advanceFace looks once more for a registration that ended without an answer.
func (s *Service) advanceFace(ctx context.Context, job *Job) error {
	f, err := s.Store.FaceByID(ctx, job.PartnerID, FaceID(job.Subject))
	if err != nil {
		return err
	}
	finish := func() error {
		return s.Store.Write(ctx, func(tx Tx) error {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		})
	}
	if f == nil || f.State == FaceRegistered {
		return finish()
	}
	unlock, err := s.faceLocks.lock(ctx, f.DocumentNumber.Reveal())
	if err != nil {
		return E(Unavailable, "kyc.advance_face", err)
	}
	defer unlock()
	p := s.providers[f.Provider]
	found := lookedUp{err: E(Refused, "kyc.advance_face", nil)} // the operator took the provider out of the configuration
	if p.FetchFaceByDocument != nil {
		found = s.lookUpFace(ctx, p, f.DocumentNumber)
	}
	if s.cutOff(ctx, found.err) {
		return nil
	}
	record := context.WithoutCancel(ctx)
	failures := job.failuresAfter(found.err)
	var due time.Time
	err = s.Store.Write(record, func(tx Tx) error {
		now := s.now()
		f, err := tx.FaceByID(record, job.PartnerID, FaceID(job.Subject)) // a repeat may have been here meanwhile
		if err != nil {
			return err
		}
		if f != nil && f.State != FaceRegistered && found.err == nil {
			end, err := s.resolve(record, tx, f, found, false)
			if err != nil {
				return err
			}
			if end != faceStillOpen {
				f = nil
			}
		}
		if f == nil || f.State == FaceRegistered {
			_, err := tx.FinishJob(record, job.ID, job.Attempt)
			return err
		}
		due, _, err = tx.ReleaseJob(record, job.ID, job.Attempt, now.Add(s.faceWait(f.Provider, found.err, failures)), now, failures)
		return err
	})
	if err == nil && !due.IsZero() {
		s.Wake(due)
	}
	return err
}

// faceWait is how long until the next look-up.
func (s *Service) faceWait(provider string, err error, failures int) time.Duration {
	backoff := min(s.Cadences[provider].backoff(failures), time.Minute)
	wait := max(jitter(backoff), RetryAfter(err), 10*time.Millisecond)
	switch {
	case s.providers[provider].FetchFaceByDocument == nil:
		return time.Hour // the operator took the provider out of the configuration
	case KindOf(err) == Refused && err != nil:
		return wait + rand.N(s.Cadences[provider].RetryAfter+1) // everybody has the same hint
	default:
		return wait
	}
}

// waitUntil waits for a time; false when ctx ended before.
func (s *Service) waitUntil(ctx context.Context, at time.Time) bool {
	wait := at.Sub(s.Clock.Now())
	if wait <= 0 {
		return true
	}
	timer := s.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return true
	case <-ctx.Done():
		return false
	}
}
