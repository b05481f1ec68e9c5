package store

import (
	"bytes"
	"context"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// The fields of the blind indexes of this file. A key is the partner's own text and may hold anything; a request holds a person.
const (
	idempotencyKeyField = "idempotency_key"
	requestField        = "request"
)

// Idempotent implements [kyc.Tx].
func (t *tx) Idempotent(ctx context.Context, partner kyc.PartnerID, key string, requestHash []byte, keepSince time.Time) (answer *kyc.IdempotentAnswer, same bool, err error) {
	err = t.use(ctx, "store.idempotent", func(_ context.Context, q *session) error {
		var row idempotencyRow
		found, err := q.get(&row, `SELECT partner_id, key_index, mutation, request_index, person_id, object_id, analysis_id, created_at
			FROM idempotency_keys WHERE partner_id = ? AND key_index = ? AND created_at >= ?`,
			partner, t.crypt.index(partner, idempotencyKeyField, key), newMicros(keepSince))
		if found {
			answer = row.answer(key)
			same = bytes.Equal(row.RequestIndex, t.crypt.index(partner, requestField, string(requestHash)))
		}
		return err
	})
	return answer, same, err
}

// SaveIdempotent implements [kyc.Tx]. Whether a row of the key is outdated was decided by [tx.Idempotent] in the same
// transaction; here it is replaced.
func (t *tx) SaveIdempotent(ctx context.Context, a *kyc.IdempotentAnswer, requestHash []byte) error {
	return t.use(ctx, "store.save_idempotent", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO idempotency_keys (partner_id, key_index, mutation, request_index, person_id, object_id, analysis_id, created_at)
			VALUES (:partner_id, :key_index, :mutation, :request_index, :person_id, :object_id, :analysis_id, :created_at)
			ON CONFLICT (partner_id, key_index) DO UPDATE SET mutation = excluded.mutation, request_index = excluded.request_index,
			person_id = excluded.person_id, object_id = excluded.object_id, analysis_id = excluded.analysis_id, created_at = excluded.created_at`,
			idempotencyRow{
				PartnerID: string(a.PartnerID), KeyIndex: t.crypt.index(a.PartnerID, idempotencyKeyField, a.Key), Mutation: a.Mutation,
				RequestIndex: t.crypt.index(a.PartnerID, requestField, string(requestHash)),
				PersonID:     string(a.PersonID), ObjectID: a.ObjectID, AnalysisID: string(a.Analysis), CreatedAt: newMicros(a.CreatedAt),
			})
		return err
	})
}

// DeleteIdempotent implements [kyc.Tx].
func (t *tx) DeleteIdempotent(ctx context.Context, partner kyc.PartnerID, key string) error {
	return t.use(ctx, "store.delete_idempotent", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM idempotency_keys WHERE partner_id = ? AND key_index = ?`, partner, t.crypt.index(partner, idempotencyKeyField, key))
		return err
	})
}

// linkIdempotent makes the requests that made an object those of the person the object has become: they go when the person does.
func (t *tx) linkIdempotent(q *session, partner kyc.PartnerID, person kyc.PersonID, object string) error {
	_, err := q.exec(`UPDATE idempotency_keys SET person_id = ? WHERE partner_id = ? AND person_id = '' AND object_id = ?`, person, partner, object)
	return err
}
