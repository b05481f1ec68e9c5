package kyc

import (
	"context"
	"strings"
	"sync"
	"time"
)

// ActivateCustomerInput activates an account with the code that FinHub sent to the customer (schema: ActivateCustomerInput).
type ActivateCustomerInput struct {
	CustomerID CustomerID
	Code       Password
}

// activationCodes holds the codes of activations that are planned, until they are sent: in memory, because they are as good as a
// password. After a restart there is none and the customer has to be asked again.
type activationCodes struct {
	mu         sync.Mutex
	byCustomer map[CustomerID]Password
}

func (a *activationCodes) put(id CustomerID, code Password) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byCustomer == nil {
		a.byCustomer = make(map[CustomerID]Password)
	}
	a.byCustomer[id] = code
}

// take gives a code once.
func (a *activationCodes) take(id CustomerID) (Password, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	code, ok := a.byCustomer[id]
	delete(a.byCustomer, id)
	return code, ok
}

// ActivateCustomer activates the account. What it needs is asked of FinHub before the code is used: consents that are missing come
// back as CONSENT_REQUIRED, a verification that is not approved as CONFLICT.
func (s *Service) ActivateCustomer(ctx context.Context, in ActivateCustomerInput) (*CustomerPayload, error) {
	code := strings.TrimSpace(in.Code.Reveal())
	switch {
	case code == "":
		return refuseStep(UserError{Code: CodeRequired, Message: "must be the code FinHub sent to the customer", Path: []string{"input", "code"}}), nil
	case len(code) > 128 || !printable(code):
		return refuseStep(UserError{Code: CodeInvalid, Message: "must have at most 128 printable characters", Path: []string{"input", "code"}}), nil
	}
	return s.planCustomer(ctx, in.CustomerID, opActivateCustomer, func(c *Customer, _ time.Time) (planned bool, refusal *UserError) {
		if c.Steps.Activation != "" {
			return false, &UserError{Code: CodeConflict, Message: "an activation is under way", Path: []string{"input", "customerId"}, Retryable: true}
		}
		c.Steps.Activation = SubmissionPlanned
		s.codes.put(c.ID, NewPassword(code))
		return true, nil
	})
}

func consentRequired(missing []ConsentType) UserError {
	words := make([]string, len(missing))
	for i, t := range missing {
		words[i] = string(t)
	}
	return UserError{Code: CodeConsentRequired, Message: "the customer has to consent first: " + strings.Join(words, ", "), Path: []string{"input", "customerId"}}
}

func (s *Service) activationUnavailable(err error) *CustomerPayload {
	return refuseStep(UserError{
		Code: CodeProviderUnavailable, Message: "FinHub did not answer: try again in a moment", Path: []string{"input"},
		Provider: nonEmpty(providerFinhub), ProviderCode: unavailableCode(err), Retryable: true,
	})
}

// activate checks that FinHub would activate the account and then does, with the code from memory.
func (s *Service) activate(ctx context.Context, job *Job, c *Customer, provider Provider, ref CustomerReference) error {
	code, ok := s.codes.take(c.ID)
	end := func(change func(*Customer) customerEvent) error {
		return s.settleCustomer(ctx, job, c, opActivateCustomer, func(_ context.Context, _ Tx, current *Customer) (customerEvent, time.Duration, error) {
			steps := *current.Steps
			current.Steps = &steps
			steps.Activation = ""
			return change(current), 0, nil
		})
	}
	if !ok {
		return end(func(*Customer) customerEvent { return customerEvent{unavailable: errRefused} })
	}
	k, err := provider.CheckActivation(ctx, ref)
	if s.cutOff(ctx, err) {
		return nil
	}
	now := s.now()
	if err != nil {
		s.logCustomer(c.ID, opCheckActivation, err, endOf(err))
		return end(func(*Customer) customerEvent { return customerEvent{unavailable: err} })
	}
	lost := c.Steps.ActivationLost && k.VerificationOK && k.ConsentOK // FinHub says to the next one whether it worked
	if !k.CanActivate && !lost || k.Active {
		return end(func(current *Customer) customerEvent {
			version, at := current.Version, current.UpdatedAt
			current.applyCheck(k, now)
			current.Version, current.UpdatedAt = version, at // settleCustomer counts it
			if current.Status == CustomerActive {
				return customerEvent{customer: current}
			}
			var refusals []UserError
			if !k.VerificationOK {
				refusals = append(refusals, UserError{Code: CodeConflict, Message: "the verification is not approved yet: see nextAction", Path: []string{"input", "customerId"}, Retryable: true})
			}
			if needed := current.neededConsents(); !k.ConsentOK && len(needed) > 0 {
				refusals = append(refusals, consentRequired(needed))
			}
			if refusals == nil {
				refusals = append(refusals, UserError{Code: CodeConflict, Message: "FinHub does not allow the activation yet", Path: []string{"input", "customerId"}, Retryable: true})
			}
			return customerEvent{refusals: refusals}
		})
	}
	if err := s.recordStep(ctx, job, c, opActivateCustomer, func(st *CustomerSteps) { st.Activation = SubmissionSent }); err != nil {
		return err
	}
	request := ActivationRequest{CustomerReference: ref, Email: c.User.Username, Code: code}
	if c.ProviderUserID != nil {
		request.UserID = *c.ProviderUserID
	}
	v, err := provider.ActivateCustomer(ctx, request)
	if s.cutOff(ctx, err) {
		return nil
	}
	if err == nil && !v.Known {
		s.UnknownStatus(providerFinhub)
	}
	ended := endOf(err)
	return s.settleCustomer(ctx, job, c, opActivateCustomer, func(ctx context.Context, tx Tx, current *Customer) (customerEvent, time.Duration, error) {
		if err := s.endStep(ctx, tx, c, opActivateCustomer, err, ended); err != nil {
			return customerEvent{}, 0, err
		}
		steps := *current.Steps
		current.Steps = &steps
		steps.VerificationOK, steps.ConsentOK, steps.Missing = true, true, k.Missing // the check said so
		steps.Denied, steps.Prohibited = false, false
		answered := err == nil || KindOf(err) == Rejected || KindOf(err) == Conflict
		steps.ActivationLost = steps.ActivationLost && !answered
		steps.Activation = ""
		switch {
		case err == nil:
			if !v.Known {
				steps.Activation = SubmissionAmbiguous // a word we do not know is no yes: the check says
			}
			version, at := current.Version, current.UpdatedAt
			current.Apply(v, s.now())
			current.Version, current.UpdatedAt = version, at
			return customerEvent{customer: current}, 0, nil
		case KindOf(err) == Rejected:
			return customerEvent{refusals: []UserError{stepRefusal(err)}}, 0, nil
		case KindOf(err) == Conflict:
			return customerEvent{refusals: []UserError{{Code: CodeConflict, Message: "FinHub does not activate this account now", Path: []string{"input", "customerId"}, Provider: nonEmpty(providerFinhub)}}}, 0, nil
		case ended.outcome == CallAmbiguous:
			steps.Activation = SubmissionAmbiguous
			return customerEvent{unavailable: err}, s.customerWait(err, job.failuresAfter(err)), nil
		}
		ev := customerEvent{unavailable: err}
		if ended.fault {
			ev.fault = ourFault(err)
		}
		return ev, 0, nil
	})
}
