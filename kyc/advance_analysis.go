package kyc

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"
)

// Names of operations, as in metrics, the ledger and Query.providers: the slot's name in snake case.
const (
	opAnalyzePerson       = "analyze_person"
	opFetchPersonAnalysis = "fetch_person_analysis"
)

// step is what one run of an analysis job found out.
type step struct {
	verdict    *Verdict
	submission Submission  // what we know about the provider having it, when there is no verdict
	call       CallOutcome // what became of the recorded call; "" when none was made
	code       string
	err        error
	wait       time.Duration // until the next run
	counted    bool          // this run used an attempt of the backoff
	lost       bool          // the provider had it and says now that it does not
	fault      bool          // we spoke wrongly: an explicit no, so it may be sent again once somebody mended it
	misread    bool          // we spoke wrongly in a look-up, which says nothing of the submission
}

// advanceAnalysis takes one step of an analysis and records it. first is the registration whose request
// runs the step, with the call already recorded; nil when a worker does.
func (s *Service) advanceAnalysis(ctx context.Context, job *Job, first *registration) error {
	a, request, err := s.loadAnalysis(ctx, job, first)
	if err != nil {
		return err
	}
	if a == nil || a.Status.Final() || a.Submission == SubmissionRefused {
		return s.Store.Write(ctx, func(tx Tx) error {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		})
	}
	provider, ok := s.providers[a.Provider]
	if !ok || provider.AnalyzePerson == nil || provider.FetchPersonAnalysis == nil {
		// The operator took the provider out of the configuration while analyses were open.
		return s.record(ctx, job, a, step{submission: a.Submission, wait: time.Hour, err: E(Refused, "kyc.advance_analysis", nil)})
	}

	var st step
	switch {
	case first != nil:
		st = s.submit(ctx, provider, a, request)
	case a.Submission == SubmissionPlanned:
		if err := s.recordCall(ctx, job, a); err != nil {
			return err
		}
		st = s.submit(ctx, provider, a, request)
	case a.Submission == SubmissionAccepted:
		st = s.fetch(ctx, provider, a)
		// A provider that took it and does not know it may only be slow to see its own writes. After a while it
		// has lost it: back to AMBIGUOUS, whose rule is to look once more and then submit under the same id (ours).
		st.lost = st.err != nil && KindOf(st.err) == NotFound && s.now().Sub(a.UpdatedAt) > 10*s.Cadences[a.Provider].RetryAfter
	default: // SENT or AMBIGUOUS: look it up before anything is sent again
		st = s.fetch(ctx, provider, a)
		if KindOf(st.err) == NotFound && st.err != nil {
			if err := s.recordCall(ctx, job, a); err != nil {
				return err
			}
			st = s.submit(ctx, provider, a, request)
		}
	}
	if s.cutOff(ctx, st.err) {
		return nil
	}
	// What we learned is recorded even if the lease or the process is about to end.
	return s.record(context.WithoutCancel(ctx), job, a, st)
}

// loadAnalysis gives the analysis and, unless the provider has it already, what it is asked about: what was
// accepted before the registration, under what the registration says itself. Later ones do not come into it.
func (s *Service) loadAnalysis(ctx context.Context, job *Job, first *registration) (*Analysis, PersonAnalysisRequest, error) {
	if first != nil {
		copied := *first.analysis
		return &copied, PersonAnalysisRequest{ID: copied.ID, PersonID: copied.PersonID, RegisteredAt: first.now, Profile: first.asked}, nil
	}
	a, err := s.Store.Analysis(ctx, AnalysisID(job.Subject))
	if err != nil || a == nil || a.Submission == SubmissionAccepted {
		return a, PersonAnalysisRequest{}, err
	}
	r, err := s.Store.Registration(ctx, a.PartnerID, a.PersonID, a.RegistrationID)
	if err != nil {
		return nil, PersonAnalysisRequest{}, err
	}
	if r == nil {
		return nil, PersonAnalysisRequest{}, Errorf("kyc.advance_analysis", "analysis %s has no registration", a.ID)
	}
	earlier, err := s.Store.AcceptedProfiles(ctx, a.PartnerID, a.PersonID, a.RegistrationID)
	if err != nil {
		return nil, PersonAnalysisRequest{}, err
	}
	return a, PersonAnalysisRequest{ID: a.ID, PersonID: a.PersonID, RegisteredAt: r.ReceivedAt, Profile: fold(earlier).asked(r.Profile)}, nil
}

// recordCall commits that a call is about to leave, before its first byte does.
// MUST: TestCallIsRecordedBeforeItLeaves.
func (s *Service) recordCall(ctx context.Context, job *Job, a *Analysis) error {
	return s.Store.Write(ctx, func(tx Tx) error {
		now := s.now()
		a.Submission, a.UpdatedAt = SubmissionSent, now
		if err := tx.UpdateAnalysis(ctx, a); err != nil {
			return err
		}
		return tx.InsertCall(ctx, &Call{
			PartnerID: a.PartnerID, Provider: a.Provider, Operation: opAnalyzePerson, Reference: string(a.ID), Number: job.Attempt, StartedAt: now,
		})
	})
}

// submit makes the recorded call and says what is known afterwards.
func (s *Service) submit(ctx context.Context, p Provider, a *Analysis, request PersonAnalysisRequest) step {
	v, err := p.AnalyzePerson(ctx, request)
	if err == nil {
		return step{verdict: &v, call: CallSucceeded}
	}
	st := step{err: err, code: codeOf(err), wait: RetryAfter(err)}
	switch KindOf(err) {
	case Rejected:
		st.submission, st.call = SubmissionRefused, CallRejected
	case Conflict: // it is there: an earlier attempt arrived after all (dossier A.9)
		found := s.fetch(ctx, p, a)
		found.call, found.code = CallRejected, "duplicate"
		if found.verdict == nil {
			found.submission = SubmissionAmbiguous
		}
		return found
	case RateLimited: // may mean "this id was sent before" (dossier A.9), so look first
		found := s.fetch(ctx, p, a)
		found.call, found.code = CallRejected, "rate_limited"
		switch {
		case found.verdict != nil:
		case KindOf(found.err) == NotFound:
			found.submission, found.err, found.wait, found.counted = SubmissionPlanned, err, st.wait, true
		default:
			found.submission, found.wait = SubmissionAmbiguous, max(found.wait, st.wait)
		}
		return found
	case Unavailable:
		st.submission, st.call, st.counted = SubmissionPlanned, CallUnavailable, true
	case Refused:
		st.submission, st.call = SubmissionPlanned, CallUnavailable
	case Credentials:
		st.submission, st.call, st.counted = SubmissionPlanned, CallRejected, true
	case NotFound, Invalid, Internal, Unauthenticated, Forbidden: // a 4xx that no retry can mend
		if isContextError(err) || unclassified(err) {
			// Nobody said no: our own code failed after the call may have left.
			st.submission, st.call, st.counted = SubmissionAmbiguous, CallAmbiguous, true
			break
		}
		st.submission, st.call, st.fault, st.counted = SubmissionPlanned, CallRejected, true, true
	default: // Ambiguous, and whatever we cannot name
		st.submission, st.call, st.counted = SubmissionAmbiguous, CallAmbiguous, true
	}
	return st
}

// fetch looks the analysis up. A failed look-up changes nothing.
func (s *Service) fetch(ctx context.Context, p Provider, a *Analysis) step {
	v, err := p.FetchPersonAnalysis(ctx, a.ID)
	if err == nil {
		return step{verdict: &v}
	}
	return step{
		submission: a.Submission, err: err, wait: RetryAfter(err), counted: KindOf(err) != Refused,
		misread: isFault(err) && KindOf(err) != NotFound,
	}
}

// record writes what a step found out, moves the job on, and tells whoever waits; one transaction.
func (s *Service) record(ctx context.Context, job *Job, a *Analysis, st step) error {
	now := s.now()
	if st.verdict != nil && !st.verdict.Known {
		s.UnknownStatus(a.Provider)
	}
	if st.submission == SubmissionRefused {
		return s.refuse(ctx, job, a, st, now)
	}
	s.logFailure(a, st)
	failures, faults := splitFailures(job.Failures)
	if st.counted || st.verdict != nil {
		failures++
	}
	switch {
	case st.verdict != nil:
		faults = 0
	case st.fault || st.misread:
		faults++
	}
	next := now.Add(s.wait(a.Provider, st, failures))
	var ev analysisEvent
	err := s.Store.Write(ctx, func(tx Tx) error {
		if st.call != "" {
			if err := tx.EndCall(ctx, string(a.ID), opAnalyzePerson, st.call, st.code, now); err != nil {
				return err
			}
		}
		// Read again: a webhook's fetch or a worker whose lease ran out may have been here meanwhile.
		current, err := tx.Analysis(ctx, a.ID)
		if err != nil {
			return err
		}
		if current == nil {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		if ev.person, ev.outcome, err = applyStep(ctx, tx, current, st, now); err != nil {
			return err
		}
		if current.Status.Final() {
			_, err = tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		if faults >= buryAfter {
			_, err = tx.BuryJob(ctx, job.ID, job.Attempt, deadNotUnderstood, now)
			return err
		}
		due, ok, err := tx.ReleaseJob(ctx, job.ID, job.Attempt, next, now, joinFailures(failures, faults))
		if ok {
			next = due // a webhook's hint may have made it now
		}
		return err
	})
	if err != nil {
		return err
	}
	if faults >= buryAfter {
		next = now.Add(time.Hour) // for whoever waits: nothing happens before an operator acts
	} else {
		s.Wake(next)
	}
	switch {
	case st.fault:
		ev.fault = st.err
	case st.verdict == nil:
		ev.again = next
	}
	s.waiters.publish(string(a.ID), ev)
	return nil
}

// faultUnit is one fault in Job.Failures of an analysis. Its column is all there is to count in, so the faults in a row stand
// above the runs; whoever revives the job starts both anew.
const faultUnit = 1 << 16

func splitFailures(n int) (failures, faults int) { return n % faultUnit, n / faultUnit }

func joinFailures(failures, faults int) int { return min(failures, faultUnit-1) + faults*faultUnit }

// applyStep changes the analysis and, when there is a verdict, accepts its registration and brings the
// person's KYC up to it. It returns the person and the registration's outcome when there is a verdict.
func applyStep(ctx context.Context, tx Tx, a *Analysis, st step, now time.Time) (*Person, RegistrationOutcome, error) {
	changed := false
	switch {
	case st.verdict != nil:
		changed = a.Apply(*st.verdict, now)
	case a.Status.Final():
	case st.lost:
		a.Submission, a.UpdatedAt, changed = SubmissionAmbiguous, now, true
	case a.Submission != SubmissionAccepted && a.Submission != st.submission:
		a.Submission, a.UpdatedAt, changed = st.submission, now, true
	}
	if changed {
		if err := tx.UpdateAnalysis(ctx, a); err != nil {
			return nil, "", err
		}
	}
	if st.verdict == nil {
		return nil, "", nil
	}
	r, err := registrationOf(ctx, tx, a)
	if err != nil {
		return nil, "", err
	}
	if r == nil {
		return nil, "", Errorf("kyc.advance_analysis", "analysis %s has no registration", a.ID)
	}
	if r.outcome == "" || changed {
		err = r.accept(ctx, tx, a, now)
	} else {
		r.person, err = tx.PersonByID(ctx, a.PartnerID, a.PersonID)
	}
	return r.person, r.outcome, err
}

// refuse ends an analysis whose data the provider refused. A registration that nobody was answered about is
// taken back. One that was accepted stays, and its person PENDING with the refusal as reason: a refusal of
// data is not a no to the person, and the next registration may be right.
func (s *Service) refuse(ctx context.Context, job *Job, a *Analysis, st step, now time.Time) error {
	var ev analysisEvent
	err := s.Store.Write(ctx, func(tx Tx) error {
		if err := tx.EndCall(ctx, string(a.ID), opAnalyzePerson, st.call, st.code, now); err != nil {
			return err
		}
		if _, err := tx.FinishJob(ctx, job.ID, job.Attempt); err != nil {
			return err
		}
		current, err := tx.Analysis(ctx, a.ID)
		if err != nil || current == nil || current.Status.Final() {
			return err
		}
		r, err := registrationOf(ctx, tx, current)
		if err != nil {
			return err
		}
		if r == nil {
			return Errorf("kyc.advance_analysis", "analysis %s has no registration", a.ID)
		}
		if r.outcome == "" {
			if !errors.As(st.err, &ev.refusal) {
				ev.refusal = E(Rejected, "kyc.advance_analysis", st.err)
			}
			return r.takeBack(ctx, tx, now)
		}
		current.Submission, current.Reason, current.UpdatedAt = SubmissionRefused, CodeLike(st.code), now
		if err := tx.UpdateAnalysis(ctx, current); err != nil {
			return err
		}
		err = r.accept(ctx, tx, current, now)
		ev.person, ev.outcome = r.person, r.outcome
		return err
	})
	if err != nil {
		return err
	}
	s.Logger.Warn("provider refused the data of an analysis", "provider", a.Provider, "analysis", a.ID, "partner", a.PartnerID, "code", st.code, "taken_back", ev.refusal != nil)
	s.waiters.publish(string(a.ID), ev)
	return nil
}

// wait is how long until the next step.
func (s *Service) wait(provider string, st step, failures int) time.Duration {
	c := s.Cadences[provider]
	switch {
	case st.verdict != nil:
		// Ten looks at the plain cadence, then half as often again each time, down to one in sixty: a manual
		// review takes minutes or days, and QI Tech discourages polling (dossier A.6; figures ours).
		every := c.PollEvery
		for n := 10; n < failures && every < 60*c.PollEvery; n++ {
			every += every / 2
		}
		return jitter(min(every, 60*c.PollEvery))
	case KindOf(st.err) == Credentials || st.fault || st.misread:
		return c.operatorPause(failures)
	case KindOf(st.err) == Refused || KindOf(st.err) == RateLimited:
		// The hint says when a call may leave. Everybody has the same hint, hence the spread behind it.
		return max(st.wait, 50*time.Millisecond) + rand.N(c.RetryAfter+1)
	default:
		return max(jitter(c.backoff(failures)), st.wait)
	}
}

// jitter spreads d over its upper half, so that many jobs of one outage do not come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func (s *Service) logFailure(a *Analysis, st step) {
	if st.err == nil {
		return
	}
	args := []any{"provider", a.Provider, "analysis", a.ID, "partner", a.PartnerID, "kind", KindOf(st.err).String(), "code", st.code}
	switch {
	case st.lost:
		s.Logger.Warn("provider does not know an analysis it had taken; it is submitted again under the same id", args...)
	case st.fault || st.misread:
		s.Logger.Error("provider did not understand us; an operator must look, work goes on slowly", append(args, "err", st.err)...)
	case KindOf(st.err) == Credentials:
		s.Logger.Error("provider refuses our credentials; work goes on slowly until they are mended", args...)
	default:
		s.Logger.Debug("analysis has to wait", args...)
	}
}

// unclassified reports whether our own code failed around a call, so that nothing is known of the call.
func unclassified(err error) bool {
	code := codeOf(err)
	return code == "panic" || code == "unclassified"
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func codeOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Code != "" {
		return CodeLike(e.Code)
	}
	return KindOf(err).String()
}

// now is the time as it is stored: UTC, microseconds.
func (s *Service) now() time.Time { return s.Clock.Now().UTC().Truncate(time.Microsecond) }

func itoa(i int) string { return strconv.Itoa(i) }
