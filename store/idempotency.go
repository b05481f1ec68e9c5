package store

import (
	"context"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// Idempotent implements [kyc.Tx].
func (t *tx) Idempotent(ctx context.Context, partner kyc.PartnerID, key string, keepSince time.Time) (answer *kyc.IdempotentAnswer, err error) {
	err = t.use(ctx, "store.idempotent", func(_ context.Context, q *session) error {
		var row idempotencyRow
		found, err := q.get(&row, `SELECT partner_id, key, mutation, request_hash, person_id, registration_id, analysis_id, created_at
			FROM idempotency_keys WHERE partner_id = ? AND key = ? AND created_at >= ?`, partner, key, newMicros(keepSince))
		if found {
			answer = row.answer()
		}
		return err
	})
	return answer, err
}

// SaveIdempotent implements [kyc.Tx]. Whether a row of the key is outdated was decided by [tx.Idempotent] in the same
// transaction; here it is replaced.
func (t *tx) SaveIdempotent(ctx context.Context, a *kyc.IdempotentAnswer) error {
	return t.use(ctx, "store.save_idempotent", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO idempotency_keys (partner_id, key, mutation, request_hash, person_id, registration_id, analysis_id, created_at)
			VALUES (:partner_id, :key, :mutation, :request_hash, :person_id, :registration_id, :analysis_id, :created_at)
			ON CONFLICT (partner_id, key) DO UPDATE SET mutation = excluded.mutation, request_hash = excluded.request_hash,
			person_id = excluded.person_id, registration_id = excluded.registration_id, analysis_id = excluded.analysis_id, created_at = excluded.created_at`,
			newIdempotencyRow(a))
		return err
	})
}

// DeleteIdempotent implements [kyc.Tx].
func (t *tx) DeleteIdempotent(ctx context.Context, partner kyc.PartnerID, key string) error {
	return t.use(ctx, "store.delete_idempotent", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM idempotency_keys WHERE partner_id = ? AND key = ?`, partner, key)
		return err
	})
}
