package kyc

import (
	"context"
	"regexp"
	"slices"
	"time"
)

// AcceptConsentInput says which text in which version a customer consented to (schema: AcceptConsentInput).
type AcceptConsentInput struct {
	CustomerID CustomerID
	Type       ConsentType
	Version    string
}

var consentVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// AcceptConsent records at FinHub that a customer consented. The same version again changes nothing unless FinHub says that it is
// missing; then it is sent again, as another version is.
func (s *Service) AcceptConsent(ctx context.Context, in AcceptConsentInput) (*CustomerPayload, error) {
	if !consentVersion.MatchString(in.Version) {
		return refuseStep(UserError{Code: CodeInvalid, Message: "must be a version such as 1.0: 1 to 32 letters, digits, dots, _ and -", Path: []string{"input", "version"}}), nil
	}
	return s.planCustomer(ctx, in.CustomerID, opAcceptConsent, func(c *Customer, now time.Time) (planned bool, refusal *UserError) {
		i := slices.IndexFunc(c.Steps.Consents, func(g CustomerConsent) bool { return g.Type == in.Type })
		if i >= 0 && c.Steps.Consents[i].Version == in.Version && !slices.Contains(c.neededConsents(), in.Type) {
			return false, nil
		}
		given := CustomerConsent{Type: in.Type, Version: in.Version, GivenAt: now, Submission: SubmissionPlanned}
		c.Steps.Consents = slices.Clone(c.Steps.Consents)
		if i >= 0 {
			c.Steps.Consents[i] = given
		} else {
			c.Steps.Consents = append(c.Steps.Consents, given)
		}
		return true, nil
	})
}

// consent sends the first consent that FinHub does not have.
func (s *Service) consent(ctx context.Context, job *Job, c *Customer, provider Provider, ref CustomerReference) error {
	given := c.Steps.Consents[c.consentToSend()]
	at := func(st *CustomerSteps) *CustomerConsent {
		i := slices.IndexFunc(st.Consents, func(g CustomerConsent) bool { return g.Type == given.Type && g.Version == given.Version })
		if i < 0 {
			return new(CustomerConsent) // another version was given meanwhile, and is sent next
		}
		return &st.Consents[i]
	}
	if err := s.recordStep(ctx, job, c, opAcceptConsent, func(st *CustomerSteps) { at(st).Submission = SubmissionSent }); err != nil {
		return err
	}
	verdict, err := provider.AcceptConsent(ctx, ConsentRequest{CustomerReference: ref, Consent: given})
	if s.cutOff(ctx, err) {
		return nil
	}
	end := endOf(err)
	if err == nil && !verdict.Known {
		s.UnknownStatus(providerFinhub)
	}
	return s.settleCustomer(ctx, job, c, opAcceptConsent, func(ctx context.Context, tx Tx, current *Customer) (customerEvent, time.Duration, error) {
		if err := s.endStep(ctx, tx, c, opAcceptConsent, err, end); err != nil {
			return customerEvent{}, 0, err
		}
		steps := *current.Steps
		steps.Consents = slices.Clone(steps.Consents)
		current.Steps = &steps
		consent := at(&steps)
		switch {
		case err == nil, KindOf(err) == Conflict: // 409: it has it
			consent.Submission, consent.Accepted = SubmissionAccepted, verdict.Accepted || err != nil
			steps.Missing = slices.DeleteFunc(slices.Clone(steps.Missing), func(t ConsentType) bool { return t == given.Type })
			return customerEvent{customer: current}, 0, nil
		case KindOf(err) == Rejected:
			steps.Consents = slices.DeleteFunc(steps.Consents, func(g CustomerConsent) bool { return g.Type == given.Type && g.Version == given.Version })
			return customerEvent{refusals: []UserError{stepRefusal(err)}}, 0, nil
		case end.outcome == CallAmbiguous:
			consent.Submission = SubmissionAmbiguous
			return customerEvent{unavailable: err}, s.customerWait(err, job.failuresAfter(err)), nil
		}
		consent.Submission = SubmissionPlanned
		ev := customerEvent{unavailable: err}
		if end.fault {
			ev.fault = ourFault(err)
		}
		return ev, s.customerWait(err, job.failuresAfter(err)), nil
	})
}
