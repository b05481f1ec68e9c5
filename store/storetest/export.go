package storetest

import (
	"testing"

	"github.com/kycgate/kycgate/kyc"
)

// export: all there is of one person, oldest first, to their partner only.
func export(t *testing.T, b *bench) {
	p, other := newFullPerson(acme), newPerson(acme)
	b.add(p, other)
	accepted, waiting, others := newRegistration(newFullPerson(acme)), newRegistration(p), newRegistration(other)
	accepted.PersonID, waiting.Outcome = p.ID, ""
	b.add(accepted, waiting, others)
	first, second := newAnalysis(p, accepted), newAnalysis(p, waiting)
	b.add(first, second, newAnalysis(other, others))
	cb := &kyc.StoredCallback{PartnerID: acme, Owner: string(p.ID), Provider: "qitech", DedupeKey: "k", Reference: string(first.ID), Body: []byte(`{"status":"x"}`), ReceivedAt: epoch}
	answer := &kyc.IdempotentAnswer{PartnerID: acme, Key: "key", Mutation: "registerPerson", PersonID: p.ID, ObjectID: string(accepted.ID), Analysis: first.ID, CreatedAt: epoch}
	b.write(func(tx kyc.Tx) error {
		if _, err := tx.InsertCallback(ctx, cb); err != nil {
			return err
		}
		return tx.SaveIdempotent(ctx, answer, []byte("hash"))
	})
	sameAll(t, "registrations", must(b.AllRegistrations(ctx, acme, p.ID))(t), []*kyc.Registration{accepted, waiting})
	sameAll(t, "analyses", must(b.Analyses(ctx, acme, p.ID))(t), []*kyc.Analysis{first, second})
	sameAll(t, "callbacks", must(b.Callbacks(ctx, acme, string(p.ID)))(t), []*kyc.StoredCallback{cb})
	unnamed := *answer
	unnamed.Key = "" // only its hash is kept
	sameAll(t, "answers", must(b.IdempotentAnswers(ctx, acme, p.ID))(t), []*kyc.IdempotentAnswer{&unnamed})

	for _, partner := range []kyc.PartnerID{"other", "nobody"} {
		if n := len(must(b.AllRegistrations(ctx, partner, p.ID))(t)) + len(must(b.Analyses(ctx, partner, p.ID))(t)) +
			len(must(b.Callbacks(ctx, partner, string(p.ID)))(t)) + len(must(b.IdempotentAnswers(ctx, partner, p.ID))(t)); n != 0 {
			t.Errorf("%s sees %d things of another partner's person", partner, n)
		}
	}
}

func sameAll[T any](t *testing.T, what string, got, want []*T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d, want %d", what, len(got), len(want))
	}
	for i := range got {
		same(t, what, got[i], want[i])
	}
}
