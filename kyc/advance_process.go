package kyc

import (
	"context"
	"errors"
	"time"
)

// Names of operations, as in metrics, the ledger and Query.providers.
const (
	opCreateProcess = "create_process"
	opFetchProcess  = "fetch_process"
)

const (
	// holdAmbiguous is the default of Cadence.HoldAmbiguous.
	holdAmbiguous = 30 * time.Second
	// maxRepeats is how often a processing error of the provider is tried again (dossier 5.1: "at least 3 new
	// attempts").
	maxRepeats = 3
	// codeProcessingError is the ledger's word for status 5.
	codeProcessingError = "STATUS_5"
	// codeDuplicateID is the ledger's word for a creation that was answered with the id of another process.
	codeDuplicateID = "duplicate_process_id"
	// lostAfter is how long a provider may not know a process that it has answered about, before we believe it.
	lostAfter = 10 * time.Minute
	// lateLooks is how often a process that was finished at once is looked at for the fraud answer its caller asked for: one generation
	// sends it by look-up only (dossier 5.3). The count is ours.
	lateLooks = 3
)

// processStep is what one run of a process's job found out.
type processStep struct {
	verdict    *ProcessVerdict
	looks      int         // of Process, when there is a verdict
	submission Submission  // what we know about the provider having it, when there is no verdict
	call       CallOutcome // what became of the recorded call; "" when none was made
	code       string
	err        error
	wait       time.Duration // until the next run, as a hint says
	counted    bool          // this run used an attempt of the backoff
	refused    bool          // the data was refused
	end        FailureCode   // it ends here, without the provider having said so
}

// advanceProcess takes one step of a process and records it. first is the request that runs the step, with the
// call already recorded; nil when a worker does.
func (s *Service) advanceProcess(ctx context.Context, job *Job, first *processDraft) error {
	var p *Process
	var err error
	if first != nil {
		copied := *first.process
		p = &copied
	} else if p, err = s.Store.Process(ctx, job.PartnerID, ProcessID(job.Subject)); err != nil {
		return err
	}
	if p == nil || p.Status.Final() {
		s.captures.drop(ProcessID(job.Subject))
		return s.Store.Write(ctx, func(tx Tx) error {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		})
	}
	provider, ok := s.providers[p.Provider]
	if !ok || provider.CreateProcess == nil || provider.FetchProcess == nil {
		// The operator took the provider out of the configuration while processes were open.
		return s.recordProcess(ctx, job, p, processStep{submission: p.Submission, wait: time.Hour, err: E(Refused, "kyc.advance_process", nil)})
	}

	var st processStep
	now := s.now()
	switch {
	case first != nil:
		st = s.createProcess(ctx, provider, p, first.capture, first.referenceID)
	case p.Submission == SubmissionAccepted:
		if st = s.fetchProcess(ctx, provider, p); st.verdict != nil && st.verdict.Late {
			st.looks--
			st.verdict.Late = st.looks > 0
		}
	case p.Submission == SubmissionPlanned:
		capture, held := s.captures.get(p.ID, now)
		if p.Request.Captured && !held {
			st = processStep{submission: p.Submission, end: FailureNeedsNewCapture}
			break
		}
		referenceID, err := s.referenceID(ctx, p)
		if err != nil {
			return err
		}
		if err := s.recordProcessCall(ctx, job, p); err != nil {
			return err
		}
		st = s.createProcess(ctx, provider, p, capture, referenceID)
	default: // SENT or AMBIGUOUS: it may be there, it cannot be looked up, and it is never sent again
		s.captures.drop(p.ID)
		st = processStep{submission: SubmissionAmbiguous, wait: p.UpdatedAt.Add(s.hold(p.Provider)).Sub(now)}
		if p.Submission == SubmissionSent {
			st.wait = s.hold(p.Provider)
		} else if st.wait <= 0 {
			st.end = unknownEnd(p)
		}
	}
	if s.cutOff(ctx, st.err) {
		return nil
	}
	// What we learned is recorded even if the lease or the process is about to end.
	return s.recordProcess(context.WithoutCancel(ctx), job, p, st)
}

// hold is how long it takes before nobody waits any more for a provider that may or may not have acted.
func (s *Service) hold(provider string) time.Duration {
	if d := s.Cadences[provider].HoldAmbiguous; d > 0 {
		return d
	}
	return holdAmbiguous
}

// unknownEnd is how a process ends of which nobody can say whether the provider has it.
func unknownEnd(p *Process) FailureCode {
	if p.Request.Captured {
		return FailureNeedsNewCapture
	}
	return FailureOutcomeUnknown
}

// referenceID gives the provider's id of the process this one refers to.
func (s *Service) referenceID(ctx context.Context, p *Process) (string, error) {
	if p.ReferenceID == nil {
		return "", nil
	}
	r, err := s.Store.Process(ctx, p.PartnerID, *p.ReferenceID)
	if err != nil || r == nil || r.ProviderProcessID == nil {
		return "", err
	}
	return *r.ProviderProcessID, nil
}

// recordProcessCall commits that a call is about to leave, before its first byte does.
// MUST: TestCallIsRecordedBeforeItLeaves.
func (s *Service) recordProcessCall(ctx context.Context, job *Job, p *Process) error {
	return s.Store.Write(ctx, func(tx Tx) error {
		now := s.now()
		p.Submission, p.UpdatedAt = SubmissionSent, now
		if err := tx.UpdateProcess(ctx, p); err != nil {
			return err
		}
		return tx.InsertCall(ctx, &Call{
			PartnerID: p.PartnerID, Provider: p.Provider, Operation: opCreateProcess, Reference: string(p.ID), Number: job.Attempt, StartedAt: now,
		})
	})
}

// createProcess makes the recorded call and says what is known afterwards.
func (s *Service) createProcess(ctx context.Context, provider Provider, p *Process, capture Capture, referenceID string) processStep {
	v, err := provider.CreateProcess(ctx, p.request(capture, referenceID))
	if err == nil {
		return s.created(ctx, p, capture, v)
	}
	st := processStep{err: err, code: codeOf(err), wait: RetryAfter(err)}
	switch kind := KindOf(err); {
	case kind == Rejected:
		st.submission, st.call, st.refused = SubmissionRefused, CallRejected, true
	case kind == Refused:
		st.submission, st.call = SubmissionPlanned, CallUnavailable
	case kind == Unavailable:
		st.submission, st.call, st.counted = SubmissionPlanned, CallUnavailable, true
	case kind == RateLimited:
		st.submission, st.call, st.counted = SubmissionPlanned, CallRejected, true
	case kind == Credentials:
		st.submission, st.call, st.counted = SubmissionPlanned, CallRejected, true
	case kind == Ambiguous, isContextError(err), unclassified(err):
		// Something may have left, and nobody said no.
		st.submission, st.call, st.counted, st.wait = SubmissionAmbiguous, CallAmbiguous, true, s.hold(p.Provider)
	default:
		// An explicit no that is our mistake. It is tried again slowly, for as long as the capture lasts.
		st.submission, st.call, st.counted = SubmissionPlanned, CallRejected, true
	}
	return st
}

// created judges the first answer. A processing error is tried again where nothing is spent by it: with a picture,
// which the provider takes as often as it is sent (dossier 5.1).
func (s *Service) created(ctx context.Context, p *Process, capture Capture, v ProcessVerdict) processStep {
	if v.Status != ProcessFailed || !v.Known {
		st := processStep{verdict: &v, call: CallSucceeded}
		if v.Status == ProcessCompleted && p.lacksFraud(v.Result) {
			v.Late, st.looks = true, lateLooks
		}
		return st
	}
	st := processStep{verdict: &v, call: CallRejected, code: codeProcessingError}
	if capture.SingleUse() {
		v.Failure = FailureNeedsNewCapture
		return st
	}
	calls, err := s.Store.Calls(ctx, p.PartnerID, []string{string(p.ID)})
	if err != nil {
		return st // it ends, and says that it may be tried again
	}
	repeats := 0
	for _, c := range calls[string(p.ID)] {
		if c.Code == codeProcessingError {
			repeats++
		}
	}
	if _, held := s.captures.get(p.ID, s.now()); repeats < maxRepeats && (held || !p.Request.Captured) {
		return processStep{submission: SubmissionPlanned, call: CallRejected, code: codeProcessingError, counted: true}
	}
	return st
}

// fetchProcess looks a process up. A failed look-up changes nothing.
func (s *Service) fetchProcess(ctx context.Context, provider Provider, p *Process) processStep {
	v, err := provider.FetchProcess(ctx, ProcessReference{ProviderProcessID: *p.ProviderProcessID, Kind: p.Kind, Capabilities: p.Capabilities})
	if err == nil {
		v.Late = p.Looks > 0 && v.Status == ProcessCompleted && p.lacksFraud(v.Result)
		return processStep{verdict: &v, looks: p.Looks, counted: true}
	}
	st := processStep{submission: p.Submission, err: err, wait: RetryAfter(err), counted: KindOf(err) != Refused}
	if KindOf(err) == NotFound && s.now().Sub(p.UpdatedAt) > lostAfter {
		st.end = FailureOutcomeUnknown // it had it and says now that it has not
	}
	return st
}

// recordProcess writes what a step found out, moves the job on, and tells whoever waits; one transaction.
func (s *Service) recordProcess(ctx context.Context, job *Job, p *Process, st processStep) error {
	now := s.now()
	if st.verdict != nil && (!st.verdict.Known || st.verdict.Unclear) {
		s.UnknownStatus(p.Provider)
	}
	s.logProcess(p, st)
	failures := job.Failures
	if st.counted {
		failures++
	}
	next := now.Add(s.processWait(p, st, failures))
	if until, held := s.captures.until(p.ID); held && st.submission == SubmissionPlanned && until.Before(next) {
		next = until // it ends when its capture does
	}
	var ev processEvent
	var current *Process
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		if another, err := anotherOf(ctx, tx, p, st); err != nil {
			return err
		} else if another != nil {
			s.Logger.Error("provider answered a creation with the id of another process; the answer is not used, an operator must look",
				"provider", p.Provider, "process", p.ID, "partner", p.PartnerID, "code", codeDuplicateID, "other", another.ID)
			st = processStep{submission: SubmissionAmbiguous, call: CallAmbiguous, code: codeDuplicateID, wait: s.hold(p.Provider)}
			next = now.Add(s.processWait(p, st, failures))
		}
		if st.call != "" {
			if err := tx.EndCall(ctx, string(p.ID), opCreateProcess, st.call, st.code, now); err != nil {
				return err
			}
		}
		// Read again: a refresh or a worker whose lease ran out may have been here meanwhile.
		if current, err = tx.Process(ctx, p.PartnerID, p.ID); err != nil {
			return err
		}
		if current == nil {
			_, err = tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		if st.refused && current.Version == 0 && !spent(st.err) {
			refusal := processRefusal(p.Provider, asError(st.err))
			ev.refusal = &refusal
			if _, err := tx.FinishJob(ctx, job.ID, job.Attempt); err != nil {
				return err
			}
			if err := audit(ctx, tx, now, current.event(AuditDelete)); err != nil {
				return err
			}
			return tx.DeleteProcess(ctx, current.PartnerID, current.ID)
		}
		early, err := settleProcess(ctx, tx, current, st, now)
		if err != nil {
			return err
		}
		if current.Status.Final() {
			_, err = tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		if early {
			next = now
		}
		due, ok, err := tx.ReleaseJob(ctx, job.ID, job.Attempt, next, now, failures)
		if ok {
			next = due // a webhook's hint may have made it now
		}
		return err
	})
	if err != nil {
		return err
	}
	if current == nil || ev.refusal != nil || current.Status.Final() || current.Submission != SubmissionPlanned {
		s.captures.drop(p.ID)
	}
	switch {
	case ev.refusal != nil || current == nil:
	case st.verdict != nil || current.Status.Final():
		ev.process = current
	default:
		ev.again = next
	}
	s.Wake(next)
	s.processWaiters.publish(string(p.ID), ev)
	return nil
}

// anotherOf gives the process that has the id a creation was answered with. What is said under it may be about somebody
// else, so it is no answer: MUST: TestDuplicateProcessID.
func anotherOf(ctx context.Context, tx Tx, p *Process, st processStep) (*Process, error) {
	if st.call == "" || st.verdict == nil {
		return nil, nil
	}
	id := CodeLike(st.verdict.ProviderProcessID)
	if id == "" {
		return nil, nil
	}
	other, err := tx.ProcessByProviderID(ctx, p.Provider, id)
	if err != nil || other == nil || other.ID == p.ID {
		return nil, err
	}
	return other, nil
}

// spent reports whether a refusal means that the capture is used up: then the process stays and says so (contract).
func spent(err error) bool { return asError(err).UserCode == CodeNeedsNewCapture }

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return E(Rejected, "kyc.advance_process", err)
}

// processWait is how long until the next step.
func (s *Service) processWait(p *Process, st processStep, failures int) time.Duration {
	c := s.Cadences[p.Provider]
	switch {
	case st.verdict != nil || st.err == nil && st.submission == SubmissionAccepted:
		// A result mostly comes within seconds and sometimes not for minutes: the first look after a sixth of the
		// plain cadence, each later one half as long again, up to twenty times the cadence (ours; dossier 10 names
		// backoff and jitter and no figures).
		every := c.PollEvery / 6
		for n := 1; n < failures && every < 20*c.PollEvery; n++ {
			every += every / 2
		}
		return jitter(max(min(every, 20*c.PollEvery), time.Millisecond))
	case st.submission == SubmissionAmbiguous:
		return max(min(st.wait, s.hold(p.Provider)), time.Millisecond)
	case KindOf(st.err) == Credentials && st.err != nil, KindOf(st.err) == Internal && st.err != nil:
		// The operator must act; asking often locks accounts.
		return max(jitter(min(5*c.RetryAfter*time.Duration(min(failures, 10)), time.Minute)), min(st.wait, time.Minute))
	case st.submission == SubmissionAccepted && st.err != nil && (KindOf(st.err) == Refused || KindOf(st.err) == RateLimited):
		// A poll that found the budget spent on others comes back at leisure: all who were refused have the same hint.
		return max(st.wait, 50*time.Millisecond) + jitter(c.PollEvery/2+1)
	case st.err != nil && (KindOf(st.err) == Refused || KindOf(st.err) == RateLimited):
		return max(st.wait, 50*time.Millisecond) + jitter(c.RetryAfter/2+1)
	default:
		return max(jitter(c.backoff(failures)), st.wait)
	}
}

func (s *Service) logProcess(p *Process, st processStep) {
	args := []any{"provider", p.Provider, "process", p.ID, "partner", p.PartnerID, "code", st.code}
	switch {
	case st.end != "":
		s.Logger.Warn("a process ends without an answer of its provider", append(args, "failure", st.end)...)
	case st.err == nil:
	case st.refused:
		s.Logger.Info("provider refused the data of a process", args...)
	case KindOf(st.err) == Credentials:
		s.Logger.Error("provider refuses our credentials; work goes on slowly until they are mended", append(args, "err", st.err)...)
	case KindOf(st.err) == Internal:
		s.Logger.Error("provider did not understand us; an operator must look, work goes on slowly", append(args, "err", st.err)...)
	case st.submission == SubmissionAmbiguous:
		s.Logger.Warn("nobody can say whether the provider has a process; it is not sent again", append(args, "err", st.err)...)
	default:
		s.Logger.Debug("process has to wait", append(args, "kind", KindOf(st.err).String())...)
	}
}
