package kyc

import (
	"context"
	"time"
)

// CustomerPayload is the answer of the mutations on a customer. When UserErrors is not empty, Customer is nil and nothing was written.
type CustomerPayload struct {
	Customer   *Customer
	UserErrors []UserError
}

// StartCustomerVerificationInput names the customer (schema: StartCustomerVerificationInput).
type StartCustomerVerificationInput struct{ CustomerID CustomerID }

// verificationPlan is what a customer's risk asks for (dossier B2.4, B5.1): a high one is verified with enhanced due diligence by the
// power tenant and needs more documents.
func (c *Customer) verificationPlan() CustomerVerification {
	v := CustomerVerification{
		State: VerificationOpen, Type: "IDENTITY_VERIFICATION", Level: "TENANT_VERIFIED", Submission: SubmissionPlanned,
		RequiredDocuments: []string{"GOVERNMENT_ID", "PROOF_OF_ADDRESS", "SOURCE_OF_FUNDS"},
	}
	risk := ""
	if c.Category != nil && c.Category.RiskLevel != nil {
		risk = *c.Category.RiskLevel
	}
	switch risk {
	case "LOW":
		v.RequiredDocuments = v.RequiredDocuments[:1]
	case "HIGH", "CRITICAL":
		v.Type, v.Level = "ENHANCED_DUE_DILIGENCE", "POWER_TENANT_VERIFIED"
		v.RequiredDocuments = append(v.RequiredDocuments, "BENEFICIAL_OWNERSHIP", "PEP_DECLARATION")
	}
	return v
}

// StartCustomerVerification opens the verification of a customer at FinHub. Doing it again while one is under way, or after one was
// approved, changes nothing: each may be billed.
func (s *Service) StartCustomerVerification(ctx context.Context, in StartCustomerVerificationInput) (*CustomerPayload, error) {
	return s.planCustomer(ctx, in.CustomerID, opStartVerification, func(c *Customer, now time.Time) (planned bool, refusal *UserError) {
		if c.Steps.Verification != nil || c.Steps.VerificationOK {
			return false, nil
		}
		plan := c.verificationPlan()
		plan.StartedAt = now
		c.Steps.Verification = &plan
		return true, nil
	})
}

// planCustomer writes down what a caller wants of a customer, together with the job that does it, and answers the customer when it is
// done or when the caller's time is up: it needs nothing but what is written, so it goes on by itself.
func (s *Service) planCustomer(ctx context.Context, id CustomerID, op string, plan func(*Customer, time.Time) (planned bool, refusal *UserError)) (*CustomerPayload, error) {
	deadline := s.Clock.Now().Add(s.AnswerWithin)
	caller := CallerFrom(ctx)
	if !wellFormed(string(id), customerPrefix) {
		return refuseStep(noSuchCustomer()), nil
	}
	if _, ok := s.finhubTenant(ctx); !ok {
		return refuseStep(notConfigured()), nil
	}
	var refusal *UserError
	var c *Customer
	var job *Job
	var one *waiter[customerEvent]
	now := s.now()
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		if c, err = tx.Customer(ctx, caller.Partner, id); err != nil {
			return err
		}
		var planned bool
		switch {
		case c == nil || c.Version == 0 || c.Provider != providerFinhub || c.ProviderCustomerID == nil || caller.IsSubject() && c.PersonID != caller.Person:
			refusal = new(noSuchCustomer())
		case c.Status == CustomerRejected || c.Status == CustomerFailed:
			refusal = &UserError{Code: CodeConflict, Message: "the customer was refused: nothing can be done with it", Path: []string{"input", "customerId"}}
		case c.Status == CustomerActive:
			return nil
		default:
			before := *c
			steps := *c.Steps
			c.Steps = &steps
			if planned, refusal = plan(c, now); planned {
				c.touched(before, now)
			}
		}
		switch {
		case refusal != nil:
			return errRefused
		case !planned:
			return nil
		}
		if err := tx.UpdateCustomer(ctx, c); err != nil {
			return err
		}
		if err := s.audit(ctx, tx, c.event(AuditUpdate, fieldCustomerStatus)); err != nil {
			return err
		}
		mine := &Job{
			ID: NewJobID(), Kind: JobCustomer, PartnerID: c.PartnerID, Subject: string(c.ID),
			RunAt: now.Add(s.Lease()), Leased: true, Attempt: 1, CreatedAt: now,
		}
		switch err := tx.InsertJob(ctx, mine); {
		case err == nil:
			job = mine
		case KindOf(err) == Conflict: // somebody is at it already, and takes this along
			if err := tx.HintJob(ctx, string(c.ID), now); err != nil {
				return err
			}
		default:
			return err
		}
		one = s.customerWaiters.join(string(c.ID))
		return nil
	})
	if err != nil && one != nil {
		s.customerWaiters.leave(string(id), one)
	}
	if err != nil && op == opActivateCustomer && refusal == nil {
		s.codes.take(id)
	}
	switch {
	case refusal != nil:
		return refuseStep(*refusal), nil
	case err != nil:
		return nil, err
	case one == nil:
		return &CustomerPayload{Customer: c, UserErrors: []UserError{}}, nil
	}
	defer s.customerWaiters.leave(string(id), one)
	if job == nil {
		s.Wake(now)
	} else {
		s.background.Go(func() {
			work, cancel := context.WithTimeout(s.alive, s.Lease()-time.Second)
			defer cancel()
			if err := s.advanceCustomer(work, job); err != nil {
				s.Logger.Error("a customer did not advance; its lease will run out and a worker goes on", "customer", id, "err", err)
				s.Wake(job.RunAt)
			}
		})
	}
	return s.awaitStep(ctx, caller.Partner, id, op, one, deadline)
}

// awaitStep waits until FinHub has said something about an operation, or the time is up.
func (s *Service) awaitStep(ctx context.Context, partner PartnerID, id CustomerID, op string, one *waiter[customerEvent], deadline time.Time) (*CustomerPayload, error) {
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	for {
		select {
		case ev := <-one.events:
			switch {
			case ev.op != op:
				continue
			case ev.refusals != nil:
				return &CustomerPayload{UserErrors: ev.refusals}, nil
			case ev.fault != nil:
				return nil, ev.fault
			case ev.unavailable != nil && op == opActivateCustomer:
				return s.activationUnavailable(ev.unavailable), nil
			}
		case <-timer.Chan():
		case <-ctx.Done():
			return nil, E(Unavailable, "kyc.customer", ctx.Err())
		}
		c, err := s.Store.Customer(ctx, partner, id)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return refuseStep(noSuchCustomer()), nil
		}
		return &CustomerPayload{Customer: c, UserErrors: []UserError{}}, nil
	}
}

func refuseStep(e UserError) *CustomerPayload { return &CustomerPayload{UserErrors: []UserError{e}} }

func noSuchCustomer() UserError {
	return UserError{Code: CodeNotFound, Message: "names no FinHub customer of yours", Path: []string{"input", "customerId"}}
}

// verify starts the planned verification.
func (s *Service) verify(ctx context.Context, job *Job, c *Customer, provider Provider, ref CustomerReference) error {
	v := *c.Steps.Verification
	if err := s.recordStep(ctx, job, c, opStartVerification, func(st *CustomerSteps) { st.Verification.Submission = SubmissionSent }); err != nil {
		return err
	}
	request := VerificationRequest{CustomerReference: ref, Type: v.Type, Level: v.Level, High: v.Level != "TENANT_VERIFIED"}
	if c.ProviderUserID != nil {
		request.UserID = *c.ProviderUserID
	}
	verdict, err := provider.StartVerification(ctx, request)
	if s.cutOff(ctx, err) {
		return nil
	}
	end := endOf(err)
	if err == nil && !verdict.Known {
		s.UnknownStatus(providerFinhub)
	}
	return s.settleCustomer(ctx, job, c, opStartVerification, func(ctx context.Context, tx Tx, current *Customer) (customerEvent, time.Duration, error) {
		if err := s.endStep(ctx, tx, c, opStartVerification, err, end); err != nil {
			return customerEvent{}, 0, err
		}
		steps := *current.Steps
		current.Steps = &steps
		v := *steps.Verification
		steps.Verification = &v
		switch {
		case err == nil:
			v.Submission, v.ProviderID, v.ProviderStatus, v.State = SubmissionAccepted, verdict.ID, verdict.ProviderStatus, verdict.State
			if verdict.RequiredDocuments != nil {
				v.RequiredDocuments = verdict.RequiredDocuments
			}
			current.StatusDetail = nonEmpty(v.ProviderStatus)
			if v.State == VerificationRejected {
				current.Status = CustomerRejected
			}
			return customerEvent{customer: current}, 0, nil
		case KindOf(err) == Conflict: // there is one already: the check says how far it is
			v.Submission = SubmissionAccepted
			return customerEvent{customer: current}, 0, nil
		case KindOf(err) == Rejected:
			steps.Verification = nil
			return customerEvent{refusals: []UserError{stepRefusal(err)}}, 0, nil
		case end.outcome == CallAmbiguous:
			v.Submission = SubmissionAmbiguous
			return customerEvent{unavailable: err}, s.customerWait(err, job.failuresAfter(err)), nil
		}
		v.Submission = SubmissionPlanned
		ev := customerEvent{unavailable: err}
		if end.fault {
			ev.fault = ourFault(err)
		}
		return ev, s.customerWait(err, job.failuresAfter(err)), nil
	})
}

// stepRefusal is FinHub's explicit refusal of a step as the caller sees it.
func stepRefusal(err error) UserError {
	e := asError(err)
	out := providerRefusal(providerFinhub, e)
	out.Message = "the provider refused this"
	return out
}
