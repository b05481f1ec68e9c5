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
// A callback of an analysis always finds it, however early it comes, because the id is ours and was committed
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
		t, err := s.callbackTarget(ctx, tx, provider, cb.Reference)
		if err != nil {
			return err
		}
		if t == nil {
			outcome = CallbackUnknown
			if p.CreateProcess == nil {
				return nil
			}
			// Maybe of a process whose creation is being answered just now (W14): the answer will find it here. It is told
			// "unknown" all the same, so that the provider comes again.
			return tx.KeepEarlyCallback(ctx, provider, cb.Reference, now)
		}
		fresh, err := tx.InsertCallback(ctx, &StoredCallback{
			PartnerID: t.partner, Owner: t.owner, Provider: provider, DedupeKey: cb.DedupeKey, Reference: t.subject, Body: body, ReceivedAt: now,
		})
		if err != nil {
			return err
		}
		if !fresh {
			outcome = CallbackDuplicate
			return nil
		}
		outcome = CallbackAccepted
		return tx.HintJob(ctx, t.subject, now)
	})
	if err != nil {
		return "", err
	}
	if outcome == CallbackAccepted {
		s.Wake(now)
	}
	return outcome, nil
}

// callbackTarget is what a webhook is about: the subject of a job, and who owns the data of it.
type callbackTarget struct {
	partner PartnerID
	owner   string
	subject string
}

// callbackTarget finds what a reference names, each noun in turn; nil when it is nothing of this provider's.
func (s *Service) callbackTarget(ctx context.Context, tx Tx, provider, reference string) (*callbackTarget, error) {
	a, err := tx.Analysis(ctx, AnalysisID(reference))
	if err != nil {
		return nil, err
	}
	if a != nil && a.Provider == provider {
		return &callbackTarget{partner: a.PartnerID, owner: string(a.PersonID), subject: string(a.ID)}, nil
	}
	p, err := tx.ProcessByProviderID(ctx, provider, reference)
	if err != nil || p == nil {
		return nil, err
	}
	return &callbackTarget{partner: p.PartnerID, owner: p.KeyOwner(), subject: string(p.ID)}, nil
}
