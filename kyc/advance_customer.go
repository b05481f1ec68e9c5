package kyc

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Names of operations, as in metrics, the ledger and Query.providers.
const (
	opRegisterCustomer  = "register_customer"
	opFindCustomer      = "find_customer"
	opStartVerification = "start_verification"
	opAcceptConsent     = "accept_consent"
	opCheckActivation   = "check_activation"
	opActivateCustomer  = "activate_customer"
)

const (
	// ambiguousCustomerFor is how long a call with an unknown end is looked up before it counts as not having happened: the caller
	// may do it again (ours; reliability 4.2 waits ten minutes for a webhook).
	ambiguousCustomerFor = 10 * time.Minute
	// blindCustomerFor is the same where nothing can be looked up at all: as long as a call may take by default (ours).
	blindCustomerFor = 10 * time.Second
	// rememberUnknownFor is how long a registration is kept that no look-up could tell anything about: until then a refusal of its
	// repeat as a duplicate may be about itself. It is looked up every lookRarely (ours).
	rememberUnknownFor = 7 * 24 * time.Hour
	lookRarely         = 15 * time.Minute
)

// customerEvent is one thing that happened to a customer. op is the operation; customer is set when it was taken, one of the others
// when it was not.
type customerEvent struct {
	op          string
	customer    *Customer
	refusals    []UserError
	fault       error // we are at fault; the caller is told INTERNAL
	unavailable error // FinHub did not take it, as far as we know
}

// errLeaseLost rolls back what a job wrote after it had lost its lease: somebody else goes on.
var errLeaseLost = &Error{Kind: Conflict, Op: "kyc.advance_customer"}

// sendRegistration makes the recorded call and records its end.
func (s *Service) sendRegistration(ctx context.Context, r *customerRegistration) error {
	provider := s.providers[providerFinhub]
	v, err := provider.RegisterCustomer(ctx, r.request)
	if s.cutOff(ctx, err) {
		return nil
	}
	end := endOf(err)
	// Perhaps it is there: this call's answer was lost, or an earlier one's was and this one is the duplicate.
	if end.outcome == CallAmbiguous || KindOf(err) == Conflict && err != nil && r.attempt > 1 {
		switch look, found, _ := s.lookForCustomer(ctx, r.customer.ID, CustomerSearch{Tenant: r.partner.FinHubTenant, Email: r.request.Email}, r.document); look {
		case lookOurs:
			v, err = found, nil
		case lookOther: // FinHub would have refused, had it got so far
			err = &Error{Kind: Conflict, Op: "kyc.register_customer", Code: CodeDuplicateEmailAtProvider}
			r.unknown = false
		default:
		}
	}
	if s.cutOff(ctx, err) {
		return nil
	}
	return s.settleRegistration(context.WithoutCancel(ctx), r, v, err, end)
}

// customerLook is what a look-up has shown of a registration with an unknown end.
type customerLook uint8

const (
	lookBlind  customerLook = iota // nothing
	lookNobody                     // FinHub said in so many words that nobody is there
	lookOurs                       // it was made by that registration: nothing that is told of it disagrees
	lookOther                      // somebody else has the e-mail address
)

// errNoLookUp is why a look-up shows nothing where the operator turned it off.
var errNoLookUp = &Error{Kind: Ambiguous, Op: "kyc.find_customer", Code: "no_look_up"}

// lookForCustomer looks for the customer that a registration may have made.
func (s *Service) lookForCustomer(ctx context.Context, id CustomerID, search CustomerSearch, registered JSON) (customerLook, CustomerVerdict, error) {
	find := s.providers[providerFinhub].FindCustomer
	if find == nil {
		return lookBlind, CustomerVerdict{}, errNoLookUp
	}
	found, err := find(ctx, search)
	switch {
	case err == nil && found.agrees(registered):
		return lookOurs, found.CustomerVerdict, nil
	case err == nil:
		s.Logger.Warn("a look-up for a registration with an unknown end found somebody else", "provider", providerFinhub, "customer", id)
		return lookOther, CustomerVerdict{}, nil
	case KindOf(err) == NotFound:
		return lookNobody, CustomerVerdict{}, err
	}
	s.logCustomer(id, opFindCustomer, err, endOf(err))
	return lookBlind, CustomerVerdict{}, err
}

// callEnd is what an error says about a call that was recorded.
type callEnd struct {
	outcome CallOutcome
	code    string
	fault   bool // we spoke wrongly
}

func endOf(err error) callEnd {
	if err == nil {
		return callEnd{outcome: CallSucceeded}
	}
	end := callEnd{code: codeOf(err)}
	switch KindOf(err) {
	case Rejected, Conflict, RateLimited, Credentials:
		end.outcome = CallRejected
	case Unavailable, Refused:
		end.outcome = CallUnavailable
	case NotFound, Invalid, Internal, Unauthenticated, Forbidden: // a 4xx that no retry can mend
		if isContextError(err) || unclassified(err) {
			end.outcome = CallAmbiguous // nobody said no: our own code failed after the call may have left
			break
		}
		end.outcome, end.fault = CallRejected, true
	default: // Ambiguous, and whatever we cannot name
		end.outcome = CallAmbiguous
	}
	return end
}

// ourFault is a provider's answer that is our mistake, as the caller is told: its own kind would say something about their request.
func ourFault(err error) error {
	return &Error{Kind: Internal, Op: "kyc.customer", Code: codeOf(err), Err: err}
}

// conflict is FinHub's refusal of a registration because of what it has, as the caller is told. open says that the end of an
// earlier call for it is as unknown as before.
func (r *customerRegistration) conflict(code string) (refusal UserError, open bool) {
	switch {
	case code != CodeDuplicateEmailAtProvider && code != CodeDuplicatePhoneAtProvider:
		return UserError{
			Code: CodeConflict, Message: "FinHub refuses the registration now, for something that has to end first: try again in a moment", Path: []string{"input"},
			Provider: nonEmpty(providerFinhub), ProviderCode: nonEmpty(code), Retryable: true,
		}, r.attempt > 1
	case r.unknown:
		return contested(code), true
	case code == CodeDuplicatePhoneAtProvider:
		return UserError{
			Code: CodeDuplicatePhone, Message: "belongs to another customer", Path: []string{"input", "phone"},
			Provider: nonEmpty(providerFinhub), ProviderCode: nonEmpty(code),
		}, false
	default:
		return duplicateEmail(nonEmpty(code)), false
	}
}

// contested is the answer when FinHub refuses a repeat as a duplicate and no look-up shows of what: the account may be the caller's own.
func contested(code string) UserError {
	return UserError{
		Code: CodeProviderUnavailable, Path: []string{"input"}, Provider: nonEmpty(providerFinhub), ProviderCode: nonEmpty(code), Retryable: true,
		Message: "FinHub has an account with this data, perhaps from your earlier attempt whose answer was lost, and does not show it: the gateway's operator must look; registering again later with the same data answers the account once it is found",
	}
}

// settleRegistration records the end of a registration's call and tells its caller.
func (s *Service) settleRegistration(ctx context.Context, r *customerRegistration, v CustomerVerdict, err error, end callEnd) error {
	now := s.now()
	ev := customerEvent{op: opRegisterCustomer}
	var next time.Time
	writeErr := s.Store.Write(ctx, func(tx Tx) error {
		ev, next = customerEvent{op: opRegisterCustomer}, time.Time{}
		open := false // an earlier call's end is still unknown
		if err := tx.EndCall(ctx, string(r.customer.ID), opRegisterCustomer, end.outcome, end.code, now); err != nil {
			return err
		}
		c, readErr := tx.Customer(ctx, r.partner.ID, r.customer.ID)
		switch {
		case readErr != nil:
			return readErr
		case c == nil || c.Version > 0: // erased, or found by somebody else meanwhile
			ev.customer = c
			if c == nil {
				ev.unavailable = errRefused
			}
			_, err := tx.FinishJob(ctx, r.job.ID, r.job.Attempt)
			return err
		case err == nil:
			if err := acceptCustomer(ctx, tx, c, v, now, c.Steps.GaveUp); err != nil {
				return err
			}
			ev.customer = c
			return finishJob(ctx, tx, r.job)
		case KindOf(err) == Rejected:
			ev.refusals = customerRefusals(err)
		case KindOf(err) == Conflict:
			var refusal UserError
			refusal, open = r.conflict(codeOf(err))
			ev.refusals = []UserError{refusal}
			c.Steps.Contested = open && r.unknown && refusal.Code == CodeProviderUnavailable
		case end.fault:
			ev.fault, open = ourFault(err), r.attempt > 1
		default:
			ev.unavailable, open = err, r.attempt > 1
		}
		if end.outcome == CallAmbiguous && ev.refusals == nil || open {
			c.Submission = SubmissionAmbiguous
			if end.outcome != CallAmbiguous {
				c.UpdatedAt = r.since
			}
			if c.Steps.Contested {
				s.Logger.Error("FinHub refuses a repeated registration as a duplicate and does not show of what; the account may be the caller's own, an operator must look",
					"provider", providerFinhub, "customer", c.ID, "partner", c.PartnerID, "code", codeOf(err))
			}
			if err := tx.UpdateCustomer(ctx, c); err != nil {
				return err
			}
			next = now.Add(s.customerWait(err, 1))
			_, ok, err := tx.ReleaseJob(ctx, r.job.ID, r.job.Attempt, next, now, 1)
			if err == nil && !ok {
				err = errLeaseLost
			}
			return err
		}
		if err := takeBackCustomer(ctx, tx, c, r.key, now); err != nil {
			return err
		}
		return finishJob(ctx, tx, r.job)
	})
	if writeErr != nil {
		return writeErr
	}
	if err == nil && !v.Known {
		s.UnknownStatus(providerFinhub)
	}
	if KindOf(err) == Rejected && err != nil {
		s.hierarchies.of(r.partner.FinHubTenant).expire() // what it refused may be what we have an old copy of
	}
	s.logCustomer(r.customer.ID, opRegisterCustomer, err, end)
	if !next.IsZero() {
		s.Wake(next)
	}
	s.customerWaiters.publish(string(r.customer.ID), ev)
	return nil
}

func finishJob(ctx context.Context, tx Tx, job *Job) error {
	ok, err := tx.FinishJob(ctx, job.ID, job.Attempt)
	if err == nil && !ok {
		return errLeaseLost
	}
	return err
}

// customerRefusals is FinHub's explicit refusal of the data as the caller sees it: one for each input it names.
func customerRefusals(err error) []UserError {
	e := *asError(err)
	var out []UserError
	for _, path := range append([][]string{e.Path}, e.MorePaths...) {
		e.Path = path
		one := providerRefusal(providerFinhub, &e)
		if len(path) > 1 && path[1] == "parameters" {
			one.Code, one.Message = CodeCategoryParameter, "the provider refused this parameter: correct it and register again"
		}
		out = append(out, one)
	}
	return out
}

// acceptCustomer makes a customer exist for everybody: FinHub has said yes. The person made for it exists from now on too.
func acceptCustomer(ctx context.Context, tx Tx, c *Customer, v CustomerVerdict, now time.Time, unclaimed bool) error {
	p, err := tx.PersonByID(ctx, c.PartnerID, c.PersonID)
	if err != nil {
		return err
	}
	if p != nil && p.Version == 0 {
		p.Version, p.UpdatedAt = 1, now
		if err := tx.UpdatePerson(ctx, p); err != nil {
			return err
		}
	}
	c.Apply(v, now)
	c.Submission, c.Steps.Unclaimed, c.Steps.GaveUp, c.Steps.Contested = SubmissionAccepted, unclaimed, false, false
	c.Version, c.UpdatedAt = 1, now
	if err := audit(ctx, tx, now, c.event(AuditUpdate, fieldCustomerStatus)); err != nil {
		return err
	}
	return tx.UpdateCustomer(ctx, c)
}

// takeBackCustomer removes a registration that was never accepted, so that nothing of it is left but the ledger of calls.
func takeBackCustomer(ctx context.Context, tx Tx, c *Customer, key string, now time.Time) error {
	if err := tx.DeleteCustomer(ctx, c.PartnerID, c.ID); err != nil {
		return err
	}
	if key != "" {
		if err := tx.DeleteIdempotent(ctx, c.PartnerID, key); err != nil {
			return err
		}
	}
	events := []AuditEvent{c.event(AuditDelete, fieldCustomerUser, fieldCustomerStatus)}
	p, err := tx.PersonByID(ctx, c.PartnerID, c.PersonID)
	if err != nil {
		return err
	}
	made := p != nil && p.Version == 0
	if made {
		events = append(events, AuditEvent{Partner: p.PartnerID, Person: p.ID, Action: AuditDelete, Fields: changedFields(new(Profile), &p.Profile)})
	}
	if err := audit(ctx, tx, now, events...); err != nil || !made {
		return err
	}
	return tx.DeletePerson(ctx, c.PartnerID, c.PersonID)
}

// Apply takes what FinHub says about a customer; it reports whether anything changed. Nothing leaves a final status: a late, repeated
// or reordered word is a no-op. An unknown word keeps the status there is.
// MUST: TestCustomerNeverLeavesAFinalStatus.
func (c *Customer) Apply(v CustomerVerdict, now time.Time) bool {
	if c.Status.Final() {
		return false
	}
	before := *c
	set := func(field **string, value string) {
		if value != "" {
			*field = &value
		}
	}
	set(&c.ProviderCustomerID, v.CustomerID)
	set(&c.ProviderUserID, v.UserID)
	set(&c.ProviderPersonID, v.PersonID)
	set(&c.ProviderStatus, v.ProviderStatus)
	if c.User != nil {
		user := *c.User
		set(&user.ID, v.UserID)
		if v.UserStatus != "" {
			user.Status = v.UserStatus
		}
		c.User = &user
	}
	if v.Known {
		c.Status = v.Status
	}
	if c.Status == CustomerActive && c.Steps != nil {
		c.Steps.ActivatedAt, c.Steps.Activation = &now, ""
		if c.User != nil && v.UserStatus == "" {
			c.User.Status = "ACTIVE" // an activation makes the login active too (dossier B10)
		}
	}
	return c.touched(before, now)
}

// touched brings next action, version and time up to a change, if there was one.
func (c *Customer) touched(before Customer, now time.Time) bool {
	c.NextAction = c.nextAction()
	seen := *c
	steps := *c.Steps
	steps.Looks = before.Steps.Looks // how often we looked is nothing a caller sees
	seen.Steps = &steps
	if reflect.DeepEqual(before, seen) {
		return false
	}
	if c.Version > 0 { // one that is not accepted stays out of sight
		c.Version++
		c.UpdatedAt = now
	}
	return true
}

// applyCheck takes an activation check: only an explicit yes approves, only an explicit no rejects, and neither is taken back.
func (c *Customer) applyCheck(k ActivationCheck, now time.Time) bool {
	if c.Status.Final() {
		return false
	}
	before := *c
	steps := *c.Steps
	c.Steps = &steps
	steps.Consents = slices.Clone(steps.Consents)
	if v := steps.Verification; v != nil {
		verification := *v
		steps.Verification = &verification
		verification.apply(k)
		c.StatusDetail = nonEmpty(verification.ProviderStatus)
		if verification.State == VerificationRejected {
			c.Status = CustomerRejected
		}
	}
	steps.VerificationOK = steps.VerificationOK || k.VerificationOK
	steps.ConsentOK = k.ConsentOK || steps.ConsentOK && len(k.Missing) == 0
	steps.Missing = k.Missing
	for i := range steps.Consents {
		steps.Consents[i].apply(k)
	}
	steps.Denied, steps.Prohibited = k.Denied && k.VerificationOK && k.ConsentOK, k.Prohibited
	if k.Active {
		c.Status, steps.Activation = CustomerActive, ""
		if steps.ActivatedAt == nil {
			steps.ActivatedAt = &now
		}
	}
	return c.touched(before, now)
}

// apply takes what a check says of one consent. One whose call had an unknown end is planned again only when FinHub has said that it
// does not have it.
func (g *CustomerConsent) apply(k ActivationCheck) {
	listed := slices.Contains(k.Missing, g.Type)
	switch {
	case g.Submission == SubmissionPlanned: // it has not left yet
	case k.ConsentOK || k.Missing != nil && !listed:
		g.Submission, g.Accepted = SubmissionAccepted, true
	case g.Submission != SubmissionAccepted:
		if listed || k.ConsentSaid {
			g.Submission = SubmissionPlanned
		}
	case listed:
		g.Accepted = false
	}
}

func (v *CustomerVerification) apply(k ActivationCheck) {
	said := k.Verification.ProviderStatus != "" || k.VerificationOK
	if said && v.Submission != SubmissionAccepted {
		v.Submission = SubmissionAccepted // it is there after all
	}
	if !said || v.State.Final() {
		return // a check that says nothing about it does not make a waiting verification an open one
	}
	if k.Verification.ProviderStatus != "" {
		v.State, v.ProviderStatus = k.Verification.State, k.Verification.ProviderStatus
	}
	if k.VerificationOK && v.State != VerificationRejected {
		v.State = VerificationApproved
	}
	if k.Verification.ID != "" {
		v.ProviderID = k.Verification.ID
	}
	if k.Verification.RequiredDocuments != nil {
		v.RequiredDocuments = k.Verification.RequiredDocuments
	}
}

// customerStep is what a customer's job does next.
type customerStep uint8

const (
	stepNone customerStep = iota
	stepLookUp
	stepActivate
	stepVerify
	stepConsent
	stepCheck // when its time has come
)

// step is the next thing to do for a customer; nothing waits for it that is not in the row.
func (c *Customer) step() customerStep {
	st := c.Steps
	switch {
	case c.Version == 0:
		return stepLookUp
	case c.Status.Final():
		return stepNone
	case st.Activation == SubmissionPlanned:
		return stepActivate
	case st.Verification != nil && st.Verification.Submission == SubmissionPlanned:
		return stepVerify
	case c.consentToSend() >= 0:
		if st.Consents[c.consentToSend()].Submission != SubmissionPlanned {
			return stepCheck // it has left and nobody knows whether it arrived
		}
		return stepConsent
	case st.Activation != "",
		st.Verification != nil && st.Verification.State != VerificationApproved,
		st.Denied, c.unconfirmed():
		return stepCheck
	default:
		return stepNone
	}
}

// consentToSend finds the first consent that FinHub may not have.
func (c *Customer) consentToSend() int {
	return slices.IndexFunc(c.Steps.Consents, func(c CustomerConsent) bool { return c.Submission != SubmissionAccepted })
}

// given finds the consent of a type, nil for none.
func (s *CustomerSteps) given(t ConsentType) *CustomerConsent {
	if i := slices.IndexFunc(s.Consents, func(g CustomerConsent) bool { return g.Type == t }); i >= 0 {
		return &s.Consents[i]
	}
	return nil
}

// unconfirmed: every consent was given, and FinHub has not said of all of them that they count.
func (c *Customer) unconfirmed() bool {
	first := func(t ConsentType) bool { return c.Steps.given(t) == nil }
	return !c.Steps.ConsentOK && !slices.ContainsFunc(c.neededConsents(), first) &&
		slices.ContainsFunc(c.Steps.Consents, func(c CustomerConsent) bool { return !c.Accepted })
}

// advanceCustomer does the next thing for a customer and records it.
func (s *Service) advanceCustomer(ctx context.Context, job *Job) error {
	c, err := s.Store.Customer(ctx, job.PartnerID, CustomerID(job.Subject))
	if err != nil {
		return err
	}
	if c == nil || c.Provider != providerFinhub {
		return s.Store.Write(ctx, func(tx Tx) error {
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		})
	}
	partner, provider := s.partners[c.PartnerID], s.providers[providerFinhub]
	if partner.FinHubTenant == "" || provider.CheckActivation == nil {
		// The operator took FinHub out of the configuration while customers were on their way.
		return s.settleCustomer(ctx, job, c, "", func(context.Context, Tx, *Customer) (customerEvent, time.Duration, error) {
			return customerEvent{}, time.Hour, nil
		})
	}
	ref := CustomerReference{Tenant: partner.FinHubTenant}
	if c.ProviderCustomerID != nil {
		ref.CustomerID = *c.ProviderCustomerID
	}
	switch c.step() {
	case stepLookUp:
		return s.lookUpCustomer(ctx, job, c, partner)
	case stepActivate:
		return s.activate(ctx, job, c, provider, ref)
	case stepVerify:
		return s.verify(ctx, job, c, provider, ref)
	case stepConsent:
		return s.consent(ctx, job, c, provider, ref)
	case stepCheck:
		return s.checkCustomer(ctx, job, c, provider, ref)
	default:
		return s.settleCustomer(ctx, job, c, "", func(context.Context, Tx, *Customer) (customerEvent, time.Duration, error) {
			return customerEvent{}, 0, nil
		})
	}
}

// settleCustomer records what a step found out, in one transaction: change gets the customer as it is now and says how long to wait
// when the same step has to be taken again. Then the job goes on with whatever is next. The event goes out after the commit.
func (s *Service) settleCustomer(ctx context.Context, job *Job, c *Customer, op string, change func(context.Context, Tx, *Customer) (customerEvent, time.Duration, error)) error {
	ctx = context.WithoutCancel(ctx)
	now := s.now()
	var ev customerEvent
	var next time.Time
	err := s.Store.Write(ctx, func(tx Tx) error {
		next = time.Time{}
		current, err := tx.Customer(ctx, c.PartnerID, c.ID)
		if err != nil {
			return err
		}
		if current == nil { // erased meanwhile, with its jobs
			ev = customerEvent{unavailable: errRefused}
			_, err := tx.FinishJob(ctx, job.ID, job.Attempt)
			return err
		}
		before := *current
		var wait time.Duration
		if ev, wait, err = change(ctx, tx, current); err != nil {
			return err
		}
		if again, err := tx.Customer(ctx, c.PartnerID, c.ID); err != nil || again == nil { // it was taken back
			if err == nil {
				err = finishJob(ctx, tx, job)
			}
			return err
		}
		if before.Version > 0 { // what a look-up changes it has written itself
			changed := current.touched(before, now)
			if changed {
				err = audit(ctx, tx, now, current.event(AuditUpdate, fieldCustomerStatus))
			}
			if err == nil && (changed || current.Steps.Looks != before.Steps.Looks) {
				err = tx.UpdateCustomer(ctx, current)
			}
			if err != nil {
				return err
			}
		}
		failures := 0
		lost := before.Version > 0 && before.step() == stepCheck && before.consentToSend() >= 0
		switch current.step() {
		case stepNone:
			return finishJob(ctx, tx, job)
		case stepCheck, stepLookUp:
			failures = job.failuresAfter(ev.unavailable)
			switch {
			case wait > 0:
			case failures == 1:
				wait = jitter(s.Cadences[providerFinhub].RetryAfter) // many are decided at once
			default:
				// Ten looks at the plain cadence, then ever more slowly: a review takes minutes or days.
				wait = s.wait(providerFinhub, step{verdict: new(Verdict)}, failures)
			}
		default:
			switch {
			case wait > 0:
				failures = job.failuresAfter(ev.unavailable)
			case lost && current.step() == stepConsent:
				failures = job.Failures // FinHub does not have it: its call failed, and a look in between is no success
			}
		}
		due, ok, err := tx.ReleaseJob(ctx, job.ID, job.Attempt, now.Add(wait), now, failures)
		if err == nil && !ok {
			return errLeaseLost
		}
		next = due
		return err
	})
	if err != nil {
		return err
	}
	if !next.IsZero() {
		s.Wake(next)
	}
	ev.op = op
	if op != "" {
		s.customerWaiters.publish(string(c.ID), ev)
	}
	return nil
}

// customerWait is how long until a failed step is taken again.
func (s *Service) customerWait(err error, failures int) time.Duration {
	return s.wait(providerFinhub, step{err: err, wait: RetryAfter(err), fault: endOf(err).fault}, failures)
}

// lookUpCustomer asks FinHub for a customer whose registration had an unknown end. One that is there and agrees with it was made by
// that call. One that is not is taken back after a while: its caller has been asked to register again. One that nobody can tell
// anything about is remembered for longer; its caller may register again meanwhile.
func (s *Service) lookUpCustomer(ctx context.Context, job *Job, c *Customer, partner Partner) error {
	look, v, err := s.lookForCustomer(ctx, c.ID, CustomerSearch{Tenant: partner.FinHubTenant, Email: *c.Unique.Email}, c.Request)
	if s.cutOff(ctx, err) {
		return nil
	}
	now := s.now()
	return s.settleCustomer(ctx, job, c, opRegisterCustomer, func(ctx context.Context, tx Tx, current *Customer) (customerEvent, time.Duration, error) {
		age := now.Sub(current.UpdatedAt)
		switch {
		case current.Version > 0:
			return customerEvent{customer: current}, 0, nil
		case look == lookOurs:
			if err := acceptCustomer(ctx, tx, current, v, now, true); err != nil {
				return customerEvent{}, 0, err
			}
			s.Logger.Info("a customer whose registration had an unknown end was found", "provider", providerFinhub, "customer", c.ID, "partner", c.PartnerID)
			return customerEvent{customer: current}, 0, nil
		case look == lookOther:
			return customerEvent{refusals: []UserError{duplicateEmail(nonEmpty(CodeDuplicateEmailAtProvider))}}, 0, takeBackCustomer(ctx, tx, current, "", now)
		case look == lookNobody && age > ambiguousCustomerFor && !current.Steps.Contested, age > rememberUnknownFor:
			s.Logger.Warn("a registration with an unknown end was not found; its caller has to register again", "provider", providerFinhub, "customer", c.ID, "partner", c.PartnerID)
			return customerEvent{unavailable: err}, 0, takeBackCustomer(ctx, tx, current, "", now)
		}
		current.Submission = SubmissionAmbiguous
		wait := s.customerWait(err, job.failuresAfter(err))
		switch {
		case errors.Is(err, errNoLookUp):
			s.Logger.Warn("a registration has an unknown end and providers.finhub.search_path is off: an operator must look", "provider", providerFinhub, "customer", c.ID, "partner", c.PartnerID)
			wait = rememberUnknownFor - age + time.Second
		case age > ambiguousCustomerFor:
			wait = max(wait, lookRarely)
		}
		return customerEvent{unavailable: err}, wait, tx.UpdateCustomer(ctx, current)
	})
}

// recordStep commits that a step's call is about to leave, before its first byte does.
// MUST: TestCallIsRecordedBeforeItLeaves.
func (s *Service) recordStep(ctx context.Context, job *Job, c *Customer, op string, mark func(*CustomerSteps)) error {
	now := s.now()
	return s.Store.Write(ctx, func(tx Tx) error {
		current, err := tx.Customer(ctx, c.PartnerID, c.ID)
		if err != nil {
			return err
		}
		if current == nil {
			return errLeaseLost
		}
		mark(current.Steps)
		if err := tx.UpdateCustomer(ctx, current); err != nil {
			return err
		}
		return tx.InsertCall(ctx, &Call{PartnerID: c.PartnerID, Provider: providerFinhub, Operation: op, Reference: string(c.ID), Number: job.Attempt, StartedAt: now})
	})
}

// endStep records the end of a step's call.
func (s *Service) endStep(ctx context.Context, tx Tx, c *Customer, op string, err error, end callEnd) error {
	s.logCustomer(c.ID, op, err, end)
	return tx.EndCall(ctx, string(c.ID), op, end.outcome, end.code, s.now())
}

// checkCustomer reads how far FinHub is.
func (s *Service) checkCustomer(ctx context.Context, job *Job, c *Customer, provider Provider, ref CustomerReference) error {
	k, err := provider.CheckActivation(ctx, ref)
	if s.cutOff(ctx, err) {
		return nil
	}
	if err == nil && !k.Verification.Known {
		s.UnknownStatus(providerFinhub)
	}
	if err != nil {
		s.logCustomer(c.ID, opCheckActivation, err, endOf(err))
	}
	now := s.now()
	return s.settleCustomer(ctx, job, c, opCheckActivation, func(_ context.Context, _ Tx, current *Customer) (customerEvent, time.Duration, error) {
		if err != nil {
			return customerEvent{unavailable: err}, s.customerWait(err, job.failuresAfter(err)), nil
		}
		before := *current
		if current.applyCheck(k, now) {
			current.Version, current.UpdatedAt = before.Version, before.UpdatedAt // settleCustomer counts it
		}
		steps := *current.Steps
		steps.giveUpUnknown(now)
		current.Steps = &steps
		return customerEvent{customer: current}, 0, nil
	})
}

func (s *Service) logCustomer(id CustomerID, op string, err error, end callEnd) {
	if err == nil {
		return
	}
	args := []any{"provider", providerFinhub, "operation", op, "customer", id, "kind", KindOf(err).String(), "code", end.code}
	switch {
	case end.fault:
		s.Logger.Error("provider did not understand us; an operator must look", append(args, "err", err)...)
	case KindOf(err) == Credentials:
		s.Logger.Error("provider refuses our credentials", args...)
	case KindOf(err) == Rejected:
		s.Logger.Warn("provider refused a customer's data", args...)
	default:
		s.Logger.Debug("customer has to wait", args...)
	}
}

// neededConsents are those the customer has not given yet, or that FinHub has lost, in FinHub's order.
func (c *Customer) neededConsents() []ConsentType {
	var out []ConsentType
	if c.Steps.ConsentOK {
		return nil
	}
	for _, t := range ConsentTypes() {
		given, listed := c.Steps.given(t), slices.Contains(c.Steps.Missing, t)
		elsewhere := c.Steps.Missing != nil && !listed // FinHub has it from another door
		if given == nil && !elsewhere || given != nil && given.Submission == SubmissionAccepted && listed {
			out = append(out, t)
		}
	}
	return out
}

// nextAction says what a FinHub customer's way to the active account needs next (dossier B10).
func (c *Customer) nextAction() *NextAction {
	if c.Provider != providerFinhub || c.Steps == nil {
		return c.NextAction
	}
	action := func(kind NextActionKind, message string) *NextAction {
		step := StepCustomer
		return &NextAction{Kind: kind, Step: &step, Message: message}
	}
	v := c.Steps.Verification
	verified := c.Steps.VerificationOK || v != nil && v.State == VerificationApproved
	switch {
	case c.Status == CustomerActive:
		return nil
	case c.Status.Final():
		return action(ActionContactSupport, "FinHub refused the customer: ask FinHub's support")
	case v == nil && !verified:
		plan := c.verificationPlan()
		return action(ActionCaptureDocument, "start the verification (startCustomerVerification); FinHub will ask for "+strings.Join(plan.RequiredDocuments, ", "))
	case !verified && v.Submission != SubmissionAccepted:
		return action(ActionWait, "the verification is being started")
	case !verified && v.State == VerificationDocuments:
		return action(ActionCaptureDocument, "hand in at FinHub: "+strings.Join(v.RequiredDocuments, ", "))
	case !verified:
		return action(ActionWait, "FinHub is verifying the customer ("+v.Level+"); it wants "+strings.Join(v.RequiredDocuments, ", "))
	}
	if needed := c.neededConsents(); len(needed) > 0 {
		words := make([]string, len(needed))
		for i, t := range needed {
			words[i] = string(t)
		}
		return action(ActionAcceptTerms, "let the customer consent (acceptConsent): "+strings.Join(words, ", "))
	}
	switch {
	case c.consentToSend() >= 0, c.unconfirmed():
		return action(ActionWait, "FinHub is recording the consents")
	case c.Steps.Activation != "":
		return action(ActionWait, "the account is being activated")
	case c.Steps.Prohibited:
		return action(ActionContactSupport, "FinHub does not activate customers of this risk: ask FinHub's support")
	case c.Steps.Denied && !c.Steps.ActivationLost:
		return action(ActionWait, "FinHub does not allow the activation yet")
	default:
		return action(ActionActivateAccount, "activate the account (activateCustomer) with the code FinHub sent to the customer by e-mail")
	}
}
