package kyc

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

// prospectStep is what one run of a prospect's job found out.
type prospectStep struct {
	verdict    *ProspectVerdict
	correction bool       // the verdict is about the correction, or from after it
	submission Submission // what we know about the provider having the registration or the correction, when there is no verdict
	operation  string     // of the recorded call
	call       CallOutcome
	code       string
	err        error
	wait       time.Duration // until the next run, at least
	fault      bool          // we spoke wrongly: an operator has to look
	torn       bool          // it refuses a duplicate of somebody it does not find: soon that mends itself, or never
	lost       bool          // the provider had it and says now that it does not
}

// buryAfter is how many times in a row the provider may fail to understand us before the job is a dead letter: an
// operator mends what is wrong and runs it again (ours).
const buryAfter = 5

// deadNotUnderstood is the reason of such a dead letter.
const deadNotUnderstood = "provider_did_not_understand"

// advanceProspect takes one step of a prospect and records it. first is the registration whose request runs the step,
// with the call already recorded; nil when a worker does.
func (s *Service) advanceProspect(ctx context.Context, job *Job, first *prospecting) error {
	c, err := s.loadProspect(ctx, job, first)
	if err != nil {
		return err
	}
	if c == nil || prospectEnded(c) {
		return s.Store.Write(ctx, func(tx Tx) error {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		})
	}
	profile, known, err := prospectProfile(c)
	if err != nil {
		return err
	}
	p, ok := s.providers[c.Provider]
	if !ok || p.RegisterProspect == nil || p.FetchProspect == nil || p.UpdateProspect == nil {
		// The operator took the provider out of the configuration while prospects were open.
		return s.recordProspect(ctx, job, c, prospectStep{wait: time.Hour, err: E(Refused, "kyc.advance_prospect", nil)})
	}
	st, err := s.stepProspect(ctx, p, job, c, profile, known, first != nil)
	if err != nil {
		return err
	}
	if s.cutOff(ctx, st.err) {
		return nil
	}
	if st.verdict != nil || KindOf(st.err) == Rejected || KindOf(st.err) == Conflict {
		s.prospects.slow.Store(false) // it answers again, so waiting for it is worth a moment
	}
	// What we learned is recorded even if the lease or the process is about to end.
	return s.recordProspect(context.WithoutCancel(ctx), job, c, st)
}

// prospectEnded reports whether nothing is left to do by itself. ACTIVE is not an end: Leap does not say whether a
// person may be blocked later (dossier A11.15), so they are looked at, rarely.
func prospectEnded(c *Customer) bool {
	return c.Status == CustomerRejected || c.Status == CustomerFailed || c.Submission == SubmissionRefused
}

func (s *Service) loadProspect(ctx context.Context, job *Job, first *prospecting) (*Customer, error) {
	if first != nil {
		copied := *first.customer
		return &copied, nil
	}
	return s.Store.Customer(ctx, job.PartnerID, CustomerID(job.Subject))
}

// stepProspect decides what to do now, and does it.
func (s *Service) stepProspect(ctx context.Context, p Provider, job *Job, c *Customer, profile ProspectProfile, known PhoneNumber, recorded bool) (prospectStep, error) {
	request := ProspectRequest{ID: c.ID, Profile: profile}
	switch {
	case recorded:
		return s.registerProspect(ctx, p, request), nil
	case c.Submission == SubmissionPlanned:
		if err := s.recordProspectCall(ctx, job, c, opRegisterProspect); err != nil {
			return prospectStep{}, err
		}
		return s.registerProspect(ctx, p, request), nil
	case c.Submission != SubmissionAccepted: // SENT or AMBIGUOUS: look it up before anything is sent again
		st := identify(ctx, p, profile)
		if st.err != nil || st.verdict != nil {
			return st, nil
		}
		if err := s.recordProspectCall(ctx, job, c, opRegisterProspect); err != nil {
			return prospectStep{}, err
		}
		return s.registerProspect(ctx, p, request), nil
	}
	switch c.Prospect.Correction {
	case "":
		st := s.lookAt(ctx, p, c, Identity{Phone: known}, profile.Email)
		// A provider that took it and does not know it may only be slow to see its own writes. After a while it has lost it:
		// back to AMBIGUOUS, whose rule is to look once more and then register again. Somebody of whom Leap has said
		// anything is left alone: people may be deleted there, and are not to be brought back (ours).
		st.lost = st.err != nil && KindOf(st.err) == NotFound && c.Cip.ProviderStatus == nil && s.now().Sub(c.UpdatedAt) > 10*s.Cadences[c.Provider].RetryAfter
		return st, nil
	case SubmissionPlanned:
	default: // SENT or AMBIGUOUS: if anything is another than it was, it was taken
		st := s.lookAt(ctx, p, c, Identity{Phone: profile.Phone}, profile.Email)
		if st.err != nil && KindOf(st.err) != NotFound {
			st.submission = SubmissionAmbiguous
			return st, nil
		}
		if st.verdict != nil && (phoneLine(known) != phoneLine(profile.Phone) || moved(c, *st.verdict)) {
			st.correction = true
			return st, nil
		}
	}
	if err := s.recordProspectCall(ctx, job, c, opUpdateProspect); err != nil {
		return prospectStep{}, err
	}
	return s.correctProspect(ctx, p, request), nil
}

// moved reports whether a verdict says something else than the customer shows of the time before the correction.
func moved(c *Customer, v ProspectVerdict) bool {
	return v.Said && (v.Cip.Status != c.Cip.Status || v.Cip.Detail != c.Cip.Detail)
}

// recordProspectCall commits that a call is about to leave, before its first byte does.
// MUST: TestProspectCallIsRecordedBeforeItLeaves.
func (s *Service) recordProspectCall(ctx context.Context, job *Job, c *Customer, operation string) error {
	return s.Store.Write(ctx, func(tx Tx) error {
		current, err := tx.Customer(ctx, c.PartnerID, c.ID)
		if err != nil {
			return err
		}
		if current == nil {
			return E(NotFound, "kyc.advance_prospect", nil)
		}
		now := s.now()
		if operation == opUpdateProspect {
			current.Prospect.Correction = SubmissionSent
		} else {
			current.Submission = SubmissionSent
		}
		if err := tx.UpdateCustomer(ctx, current); err != nil {
			return err
		}
		*c = *current
		return tx.InsertCall(ctx, &Call{PartnerID: c.PartnerID, Provider: c.Provider, Operation: operation, Reference: string(c.ID), Number: job.Attempt, StartedAt: now})
	})
}

// registerProspect makes the recorded call and says what is known afterwards.
func (s *Service) registerProspect(ctx context.Context, p Provider, request ProspectRequest) prospectStep {
	v, err := p.RegisterProspect(ctx, request)
	st := submitted(v, err, opRegisterProspect)
	if KindOf(err) != Conflict || err == nil {
		return st
	}
	// Leap has the phone or the address already. If it is the same person, an earlier attempt arrived after all, or the
	// partner registered them there before; then they are linked.
	found := identify(ctx, p, request.Profile)
	found.operation, found.call, found.code = st.operation, CallRejected, st.code
	if found.verdict == nil && found.err == nil {
		// It refuses a duplicate of somebody it does not find: its two sides do not agree yet.
		found.submission, found.err, found.torn = SubmissionAmbiguous, err, true
	}
	return found
}

// correctProspect sends a correction. Where the registration takes none, Leap says that the person is there already.
func (s *Service) correctProspect(ctx context.Context, p Provider, request ProspectRequest) prospectStep {
	v, err := p.UpdateProspect(ctx, request)
	st := submitted(v, err, opUpdateProspect)
	st.correction = err == nil
	if err != nil && KindOf(err) == Conflict {
		st.submission, st.call = SubmissionRefused, CallRejected
	}
	return st
}

// submitted judges a call that changes something at the provider.
func submitted(v ProspectVerdict, err error, operation string) prospectStep {
	if err == nil {
		return prospectStep{verdict: &v, operation: operation, call: CallSucceeded}
	}
	st := prospectStep{operation: operation, err: err, code: codeOf(err), wait: RetryAfter(err)}
	switch KindOf(err) {
	case Rejected:
		st.submission, st.call = SubmissionRefused, CallRejected
	case RateLimited: // an explicit "not now"
		st.submission, st.call = SubmissionPlanned, CallRejected
	case Unavailable:
		st.submission, st.call = SubmissionPlanned, CallUnavailable
	case Refused:
		st.submission, st.call = SubmissionPlanned, CallUnavailable
	case Credentials:
		st.submission, st.call = SubmissionPlanned, CallRejected
	case NotFound, Invalid, Internal, Unauthenticated, Forbidden: // a 4xx that no retry can mend
		if !isFault(err) {
			// Nobody said no: our own code failed after the call may have left.
			st.submission, st.call = SubmissionAmbiguous, CallAmbiguous
			break
		}
		st.submission, st.call, st.fault = SubmissionPlanned, CallRejected, true
	default: // Ambiguous, and whatever we cannot name; Conflict is the callers'
		st.submission, st.call = SubmissionAmbiguous, CallAmbiguous
	}
	return st
}

// isFault reports whether the provider said in so many words that it does not understand us.
func isFault(err error) bool {
	switch KindOf(err) {
	case NotFound, Invalid, Internal, Unauthenticated, Forbidden:
		return err != nil && !isContextError(err) && !unclassified(err)
	default:
		return false
	}
}

// identify looks for a person by everything that identifies them, which is the only evidence there is: Leap's answer
// holds no data to compare (dossier A3). They are the same person when everything that was given leads to one and the
// same user (ours). Neither verdict nor error means that Leap knows nobody.
func identify(ctx context.Context, p Provider, profile ProspectProfile) prospectStep {
	failed := func(err error) prospectStep {
		return prospectStep{submission: SubmissionAmbiguous, err: err, wait: RetryAfter(err), fault: isFault(err)}
	}
	byPhone, err := lookUp(ctx, p, Identity{Phone: profile.Phone})
	if err != nil {
		return failed(err)
	}
	if profile.Email == nil {
		return prospectStep{verdict: byPhone}
	}
	byEmail, err := lookUp(ctx, p, Identity{Email: *profile.Email})
	switch {
	case err != nil:
		return failed(err)
	case byPhone == nil && byEmail == nil:
		return prospectStep{}
	case byPhone != nil && byEmail != nil && byPhone.UserID == byEmail.UserID:
		return prospectStep{verdict: byPhone}
	case byPhone != nil:
		return prospectStep{submission: SubmissionRefused, err: &Error{Kind: Conflict, Op: "kyc.identify", Code: CodeDuplicatePhoneAtProvider}}
	default:
		return prospectStep{submission: SubmissionRefused, err: &Error{Kind: Conflict, Op: "kyc.identify", Code: CodeDuplicateEmailAtProvider}}
	}
}

// lookUp gives nil for nobody.
func lookUp(ctx context.Context, p Provider, id Identity) (*ProspectVerdict, error) {
	v, err := p.FetchProspect(ctx, id)
	if err != nil && KindOf(err) == NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// errAnother means that the phone leads to somebody else at the provider now.
var errAnother = errors.New("the identity belongs to another user at the provider")

// lookAt asks where a person stands whom the provider has. It goes by the phone, which every prospect has, and by the
// address when the phone leads to somebody else; nobody is shown another's status.
func (s *Service) lookAt(ctx context.Context, p Provider, c *Customer, id Identity, email *EmailAddress) prospectStep {
	v, err := p.FetchProspect(ctx, id)
	own := func() bool { return c.ProviderUserID == nil || v.UserID == *c.ProviderUserID }
	if err == nil && !own() && email != nil {
		v, err = p.FetchProspect(ctx, Identity{Email: *email})
	}
	if err == nil && !own() {
		err = &Error{Kind: Internal, Op: "kyc.advance_prospect", Code: "another_user", Err: errAnother}
	}
	if err == nil {
		return prospectStep{verdict: &v}
	}
	return prospectStep{err: err, wait: RetryAfter(err), fault: isFault(err) && KindOf(err) != NotFound}
}

// applyProspect is the one place a verdict changes a prospect; it reports whether anything changed. Nothing leaves
// REJECTED. A provider that says nothing tells only that the person is there. corrected says that the verdict is the first one
// on corrected data, so that what was said of the older data no longer counts.
// MUST: TestApplyProspect.
func (c *Customer) applyProspect(v ProspectVerdict, corrected bool, now time.Time) bool {
	if c.Status == CustomerRejected || c.Status == CustomerFailed {
		return false
	}
	cip, detail := *c.Cip, c.StatusDetail
	switch {
	case v.Said:
		cip.Status, cip.Detail, cip.ProviderStatus, detail = v.Cip.Status, v.Cip.Detail, v.Cip.ProviderStatus, nonEmpty(v.Detail)
	case corrected:
		cip, detail = CipState{Status: CipUnknown, Detail: CipDetailNone}, nil
	}
	moved := corrected || c.Submission != SubmissionAccepted || c.ProviderUserID == nil || *c.ProviderUserID != v.UserID ||
		cip.Status != c.Cip.Status || cip.Detail != c.Cip.Detail || orZero(cip.ProviderStatus) != orZero(c.Cip.ProviderStatus) ||
		cip.Detail == CipDetailUnknown && orZero(detail) != orZero(c.StatusDetail)
	if !moved {
		return false // above all the word about a refused correction stays, and the flag of being stuck
	}
	cip.StuckSince = nil
	c.Submission, c.ProviderCustomerID, c.ProviderUserID = SubmissionAccepted, &v.UserID, &v.UserID
	c.Cip, c.ProviderStatus, c.StatusDetail = &cip, cip.ProviderStatus, detail
	c.Status, c.NextAction = cip.Outcome()
	c.touch(now)
	return true
}

// touch begins the polling schedule anew and counts the change.
func (c *Customer) touch(now time.Time) {
	state := *c.Prospect
	state.ChangedAt = now
	c.Prospect, c.UpdatedAt = &state, now
	c.Version++
}

// recordProspect writes what a step found out, moves the job on, and tells whoever waits; one transaction.
func (s *Service) recordProspect(ctx context.Context, job *Job, c *Customer, st prospectStep) error {
	now := s.now()
	if v := st.verdict; v != nil && !v.Known && orZero(c.Cip.ProviderStatus) != orZero(v.Cip.ProviderStatus) {
		s.UnknownStatus(c.Provider) // a word counts once for each prospect that comes to it, not with every look
	}
	s.logProspect(c, st)
	var ev prospectEvent
	var next time.Time
	err := s.Store.Write(ctx, func(tx Tx) error {
		ev, next = prospectEvent{}, time.Time{}
		if st.call != "" {
			if err := tx.EndCall(ctx, string(c.ID), st.operation, st.call, st.code, now); err != nil {
				return err
			}
		}
		// Read again: a correction or a worker whose lease ran out may have been here meanwhile.
		current, err := tx.Customer(ctx, c.PartnerID, c.ID)
		if err != nil {
			return err
		}
		if current == nil {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		step := st
		if v := st.verdict; v != nil && st.call != CallSucceeded && current.Submission != SubmissionAccepted {
			theirs, err := s.somebodyElses(ctx, tx, current, *v)
			if err != nil {
				return err
			}
			if theirs {
				step.verdict, step.submission = nil, SubmissionRefused
				step.err = &Error{Kind: Conflict, Op: "kyc.advance_prospect", Code: CodeDuplicatePhoneAtProvider}
			}
		}
		unseen := current.Version == 0
		changed, refused := s.applyProspectStep(current, step, now)
		failures := job.failuresAfter(step.err)
		state := *current.Prospect
		switch {
		case step.verdict != nil:
			failures, state.Faults = 0, 0
		case step.fault, step.torn:
			state.Faults++
		}
		bury := state.Faults >= buryAfter && !prospectEnded(current)
		if bury {
			state.Faults = 0 // whoever revives it has mended something
		}
		current.Prospect = &state
		if bury {
			// Nothing goes on by itself any more, and its partner must not be told to wait.
			changed = s.markStuck(current, now) || changed
		}
		var ok bool
		switch {
		case prospectEnded(current):
			ok, err = tx.FinishJob(ctx, job.ID, job.Attempt)
		case bury:
			s.Logger.Error("job of a prospect is dead: an operator mends what is wrong and runs it again", "provider", c.Provider, "customer", c.ID, "partner", c.PartnerID, "job", job.ID)
			ok, err = tx.BuryJob(ctx, job.ID, job.Attempt, deadNotUnderstood, now)
		default:
			next = now.Add(s.prospectWait(current, step, failures, now))
			next, ok, err = tx.ReleaseJob(ctx, job.ID, job.Attempt, next, now, failures)
		}
		switch {
		case err != nil:
			return err
		case !ok: // the lease was lost; whoever has it now asks again, and writes what is true then
			return nil
		case refused && unseen:
			ev.refusal = prospectRefusal(current, step.err)
			return takeBackProspect(ctx, tx, current, now)
		case step.verdict != nil || refused:
			if current.Version == 0 {
				current.Version = 1
			}
			ev.customer = current
		}
		if !changed && !refused && current.Version == c.Version && current.Submission == c.Submission && *current.Prospect == *c.Prospect {
			return nil // nothing moved: a look costs no write
		}
		if changed || refused {
			if err := audit(ctx, tx, now, current.statusEvent(AuditUpdate)); err != nil {
				return err
			}
		}
		return tx.UpdateCustomer(ctx, current)
	})
	if err != nil {
		return err
	}
	if !next.IsZero() {
		s.Wake(next)
	}
	if ev.customer == nil && ev.refusal == nil {
		if ev.again = next; next.IsZero() {
			ev.again = now.Add(time.Hour)
		}
	}
	s.prospectWaiters.publish(string(c.ID), ev)
	return nil
}

// somebodyElses reports whether the user a look-up found is known here as another person: all partners share one Leap, where a phone
// is one user's, and a phone alone must not show one person's status to the partner of another (ours).
func (s *Service) somebodyElses(ctx context.Context, tx Tx, c *Customer, v ProspectVerdict) (bool, error) {
	profile, _, err := prospectProfile(c)
	if err != nil {
		return false, err
	}
	own, err := tx.PersonByID(ctx, c.PartnerID, c.PersonID)
	if err != nil || own == nil {
		return false, err
	}
	for partner := range s.partners {
		holders := make([]*Customer, 1, 2)
		if holders[0], err = tx.CustomerByPhone(ctx, partner, c.Provider, profile.Phone); err != nil {
			return false, err
		}
		if profile.Email != nil {
			byEmail, err := tx.CustomerByEmail(ctx, partner, c.Provider, *profile.Email)
			if err != nil {
				return false, err
			}
			holders = append(holders, byEmail)
		}
		for _, h := range holders {
			if h == nil || h.ID == c.ID || orZero(h.ProviderUserID) != v.UserID {
				continue
			}
			other, err := tx.PersonByID(ctx, partner, h.PersonID)
			if err != nil {
				return false, err
			}
			if other != nil && !own.samePerson(other) {
				return true, nil
			}
		}
	}
	return false, nil
}

// samePerson compares what two partners were told: the name without case, and the birth date where both have one.
func (p *Person) samePerson(other *Person) bool {
	name := func(p *Person) string { return strings.Join(strings.Fields(strings.ToLower(p.Name.Reveal())), " ") }
	born, theirs := p.Birthdate.Reveal(), other.Birthdate.Reveal()
	return name(p) == name(other) && (born == theirs || born == "" || theirs == "")
}

// applyProspectStep changes the customer; refused says that the provider refused the data.
func (s *Service) applyProspectStep(c *Customer, st prospectStep, now time.Time) (changed, refused bool) {
	if prospectEnded(c) {
		return false, false
	}
	state := *c.Prospect
	c.Prospect = &state
	switch {
	case st.verdict != nil && !st.correction && state.Correction != "":
		return false, false // from before a correction that was accepted meanwhile: it will be looked at again
	case st.verdict != nil:
		if st.correction {
			state.Correction = ""
			forgetKnown(c)
			if c.ProviderUserID != nil && *c.ProviderUserID != st.verdict.UserID {
				s.Logger.Error("provider made another user of a correction; an operator must tell it which one counts", "provider", c.Provider, "customer", c.ID, "partner", c.PartnerID)
			}
		}
		return c.applyProspect(*st.verdict, st.correction, now) || s.flagStuck(c, now) || s.freeStuck(c, now), false
	case st.lost:
		c.Submission = SubmissionAmbiguous
		return true, false
	case st.submission == SubmissionRefused && c.Submission != SubmissionAccepted:
		c.Submission, refused = SubmissionRefused, true
	case st.submission == SubmissionRefused:
		state.Correction, refused = "", true
	case st.submission != "" && c.Submission != SubmissionAccepted:
		c.Submission = st.submission
	case st.submission != "" && state.Correction != "":
		state.Correction = st.submission
	}
	if refused {
		refusal := prospectRefusal(c, st.err)
		c.Status, c.StatusDetail = CustomerActionRequired, refusal.ProviderCode
		c.NextAction = cipAction(ActionCorrectData, "the provider refused the data: correct it")
		if c.Submission == SubmissionAccepted && KindOf(st.err) == Conflict {
			c.NextAction = cipAction(ActionContactSupport, "the provider takes no correction of this person by its API: contact support")
		}
		c.touch(now)
		return true, true
	}
	return s.flagStuck(c, now), false
}

// forgetKnown notes that Leap has the corrected phone.
func forgetKnown(c *Customer) {
	profile, known, err := prospectProfile(c)
	if err != nil || known.Reveal() == profile.Phone.Reveal() {
		return
	}
	if request, err := profile.request(""); err == nil {
		c.Request = request
	}
}

// flagStuck flags a prospect of whom nothing was heard for longer than the horizon. It is kept, and polled on.
func (s *Service) flagStuck(c *Customer, now time.Time) bool {
	horizon := s.Cadences[c.Provider].StuckAfter
	if horizon <= 0 || now.Sub(c.Prospect.ChangedAt) < horizon {
		return false
	}
	return s.markStuck(c, now)
}

// markStuck says that nothing goes on by itself: for too long nothing has moved, or its job is dead.
func (s *Service) markStuck(c *Customer, now time.Time) bool {
	open := c.Status == CustomerPending || c.Status == CustomerInProgress
	if !open || c.Cip.StuckSince != nil {
		return false
	}
	cip := *c.Cip
	cip.StuckSince = &now
	c.Cip = &cip
	c.NextAction = cipAction(ActionContactSupport, "nothing has moved for a long time, or the provider did not understand: contact support")
	c.UpdatedAt = now
	if c.Version > 0 { // one that is not accepted stays out of sight
		c.Version++
	}
	s.Logger.Warn("prospect is stuck", "provider", c.Provider, "customer", c.ID, "partner", c.PartnerID, "since", c.Prospect.ChangedAt)
	return true
}

// freeStuck takes the flag of a dead job away: it runs again, and nothing has been waited for too long.
func (s *Service) freeStuck(c *Customer, now time.Time) bool {
	horizon := s.Cadences[c.Provider].StuckAfter
	if c.Cip.StuckSince == nil || horizon > 0 && now.Sub(c.Prospect.ChangedAt) >= horizon {
		return false
	}
	cip := *c.Cip
	cip.StuckSince = nil
	c.Cip, c.UpdatedAt = &cip, now
	_, c.NextAction = cip.Outcome()
	if c.Version > 0 {
		c.Version++
	}
	return true
}

// prospectRefusal is a refusal of the data as the caller sees it.
func prospectRefusal(c *Customer, err error) *UserError {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Kind: Rejected}
	}
	refusal := providerRefusal(c.Provider, e)
	switch {
	case e.Kind != Conflict:
	case e.Code == CodeDuplicateEmailAtProvider:
		refusal.Code, refusal.Path = CodeDuplicateEmail, []string{"input", "email"}
		refusal.Message = "belongs to somebody else at the provider"
	default:
		refusal.Code, refusal.Path = CodeDuplicatePhone, []string{"input", "phone"}
		refusal.Message = "belongs to somebody else at the provider"
	}
	return &refusal
}

// Bounds of the polling schedule, in units of the configured poll_every (ours: Leap gives neither an interval nor a
// time, dossier A11.10).
const (
	pollDensest = 8    // the first look comes after an eighth
	pollLater   = 10   // after a yes nobody waits, and a thousand of them must not take the budget of those who do
	pollOpen    = 120  // an open prospect is looked at once an hour at the least, with the default of 30 s
	pollSettled = 2880 // one that is done, or stuck, once a day
)

// prospectWait is how long until the next step.
func (s *Service) prospectWait(c *Customer, st prospectStep, failures int, now time.Time) time.Duration {
	cadence := s.Cadences[c.Provider]
	switch {
	case c.Prospect.Correction == SubmissionPlanned && st.verdict != nil:
		return 0 // a correction came in while we looked
	case st.verdict != nil:
		return jitter(pollAfter(c, cadence.PollEvery, now))
	case KindOf(st.err) == Credentials || st.fault:
		return cadence.operatorPause(failures)
	case KindOf(st.err) == Refused || KindOf(st.err) == RateLimited:
		// The hint says when a call may leave. Everybody has the same hint, hence the spread behind it; it grows with the
		// time one has waited, for a thousand who ask again every second would keep the database busier than the provider.
		spread := min(max(now.Sub(c.Prospect.ChangedAt)/8, cadence.RetryAfter), 8*cadence.RetryAfter)
		return max(st.wait, 50*time.Millisecond) + rand.N(spread+1)
	default:
		return max(jitter(cadence.backoff(failures)), st.wait)
	}
}

// pollAfter grows with the time since anything last moved, half as long again: dense at first, rare later, and dense again
// after every change.
func pollAfter(c *Customer, every time.Duration, now time.Time) time.Duration {
	least, most := every/pollDensest, pollOpen*every
	if c.Status == CustomerActive || c.Cip.StuckSince != nil {
		least, most = pollLater*every, pollSettled*every
	}
	return min(max(now.Sub(c.Prospect.ChangedAt)/2, least), most)
}

func (s *Service) logProspect(c *Customer, st prospectStep) {
	if st.err == nil {
		return
	}
	args := []any{"provider", c.Provider, "customer", c.ID, "partner", c.PartnerID, "kind", KindOf(st.err).String(), "code", codeOf(st.err)}
	switch {
	case st.lost:
		s.Logger.Warn("provider does not know a prospect it had taken; it is looked for once more and then registered again", args...)
	case st.fault, errors.Is(st.err, errAnother):
		s.Logger.Error("provider did not understand us; an operator must look, work goes on slowly", append(args, "err", st.err)...)
	case KindOf(st.err) == Credentials:
		s.Logger.Error("provider refuses our credentials; work goes on slowly until they are mended", args...)
	case st.submission == SubmissionRefused:
		s.Logger.Warn("provider refused the data of a prospect", args...)
	default:
		s.Logger.Debug("prospect has to wait", args...)
	}
}
