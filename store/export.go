package store

import (
	"context"

	"github.com/kycgate/kycgate/kyc"
)

// AllRegistrations implements [kyc.ExportReader].
func (r reader) AllRegistrations(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID) (registrations []*kyc.Registration, err error) {
	err = r.use(ctx, "store.all_registrations", func(ctx context.Context, q *session) error {
		var found []registrationRow
		if err := q.all(ctx, &found, `SELECT r.person_id, r.id, r.partner_id, r.received_at, r.sealed_external_id, r.sealed_payload, r.sealed_profile,
			r.outcome, `+keyColumns+` FROM registrations r CROSS JOIN data_keys k ON k.partner_id = r.partner_id AND k.owner = r.person_id
			WHERE r.partner_id = ? AND r.person_id = ? ORDER BY r.id`, partner, person); err != nil {
			return err
		}
		for i := range found {
			one, err := found[i].registration(r.crypt, q)
			if err != nil {
				return err
			}
			registrations = append(registrations, one)
		}
		return nil
	})
	return registrations, err
}

// Analyses implements [kyc.ExportReader].
func (r reader) Analyses(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID) (analyses []*kyc.Analysis, err error) {
	err = r.use(ctx, "store.analyses", func(ctx context.Context, q *session) error {
		var found []analysisRow
		err := q.all(ctx, &found, `SELECT id, partner_id, person_id, registration_id, provider, submission, status, provider_status,
			provider_key, reason, decided_by, decided_at, created_at, updated_at FROM analyses WHERE partner_id = ? AND person_id = ? ORDER BY id`, partner, person)
		for i := range found {
			analyses = append(analyses, found[i].analysis())
		}
		return err
	})
	return analyses, err
}

// Callbacks implements [kyc.ExportReader].
func (r reader) Callbacks(ctx context.Context, partner kyc.PartnerID, owner string) (callbacks []*kyc.StoredCallback, err error) {
	err = r.use(ctx, "store.callbacks", func(ctx context.Context, q *session) error {
		var found []struct {
			Provider   string `db:"provider"`
			DedupeKey  string `db:"dedupe_key"`
			Reference  string `db:"reference"`
			SealedBody []byte `db:"sealed_body"`
			ReceivedAt micros `db:"received_at"`
			wrappedKey
		}
		if err := q.all(ctx, &found, `SELECT c.provider, c.dedupe_key, c.reference, c.sealed_body, c.received_at, `+keyColumns+`
			FROM callbacks c CROSS JOIN data_keys k ON k.partner_id = c.partner_id AND k.owner = c.owner
			WHERE c.partner_id = ? AND c.owner = ? ORDER BY c.received_at, c.provider, c.dedupe_key`, partner, owner); err != nil || len(found) == 0 {
			return err
		}
		k, err := r.crypt.open(q, partner, owner, found[0].wrappedKey)
		if err != nil {
			return err
		}
		for _, f := range found {
			body, err := k.unseal("callbacks", "body", f.Provider+" "+f.DedupeKey, f.SealedBody)
			if err != nil {
				return err
			}
			callbacks = append(callbacks, &kyc.StoredCallback{
				PartnerID: partner, Owner: owner, Provider: f.Provider, DedupeKey: f.DedupeKey, Reference: f.Reference, Body: body, ReceivedAt: f.ReceivedAt.time(),
			})
		}
		return nil
	})
	return callbacks, err
}

// IdempotentAnswers implements [kyc.ExportReader].
func (r reader) IdempotentAnswers(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID) (answers []*kyc.IdempotentAnswer, err error) {
	err = r.use(ctx, "store.idempotent_answers", func(ctx context.Context, q *session) error {
		var found []idempotencyRow
		err := q.all(ctx, &found, `SELECT partner_id, key_index, mutation, request_index, person_id, object_id, analysis_id, created_at
			FROM idempotency_keys WHERE partner_id = ? AND person_id = ? ORDER BY created_at, key_index`, partner, person)
		for i := range found {
			answers = append(answers, found[i].answer(""))
		}
		return err
	})
	return answers, err
}
