package kyc

import (
	"context"
	"net/http"
)

// CallbackOutcome is what became of a webhook; it is a metric label.
type CallbackOutcome string

// The outcomes of the contract.
const (
	CallbackAccepted   CallbackOutcome = "accepted"
	CallbackDuplicate  CallbackOutcome = "duplicate"
	CallbackUnverified CallbackOutcome = "unverified"
	CallbackUnknown    CallbackOutcome = "unknown" // names nothing of ours, or cannot be read
)

// CallbackOutcomes lists all, for metrics that exist from the first scrape.
func CallbackOutcomes() []CallbackOutcome {
	return []CallbackOutcome{CallbackAccepted, CallbackDuplicate, CallbackUnverified, CallbackUnknown}
}

// ReceiveCallback takes a webhook: verified, stored, deduplicated, and then used as a hint to ask the
// provider now. Its contents decide nothing, so one that is forged, late, repeated or out of order cannot
// do harm. It returns after the hint is durable, for the provider will not repeat what we acknowledged.
//
// A callback always finds its analysis, however early it comes, because the id is ours and was committed
// before the call left.
func (s *Service) ReceiveCallback(ctx context.Context, provider, method string, header http.Header, body []byte) (CallbackOutcome, error) {
	p, ok := s.providers[provider]
	if !ok || p.ParseCallback == nil {
		return CallbackUnknown, nil
	}
	cb, err := p.ParseCallback(method, header, body)
	switch {
	case KindOf(err) == Unauthenticated && err != nil:
		return CallbackUnverified, nil
	case err != nil:
		return CallbackUnknown, nil
	}
	outcome := CallbackUnknown
	now := s.now()
	err = s.Store.Write(ctx, func(tx Tx) error {
		a, err := tx.Analysis(ctx, cb.Analysis)
		if err != nil {
			return err
		}
		if a == nil || a.Provider != provider {
			outcome = CallbackUnknown
			return nil
		}
		fresh, err := tx.InsertCallback(ctx, provider, cb.DedupeKey, string(a.ID), body, now)
		if err != nil {
			return err
		}
		if !fresh {
			outcome = CallbackDuplicate
			return nil
		}
		outcome = CallbackAccepted
		return tx.HintJob(ctx, string(a.ID), now)
	})
	if err != nil {
		return "", err
	}
	if outcome == CallbackAccepted {
		s.Wake(now)
	}
	return outcome, nil
}
