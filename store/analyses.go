package store

import (
	"context"
	"slices"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// Analysis implements [kyc.Reader].
func (r reader) Analysis(ctx context.Context, id kyc.AnalysisID) (analysis *kyc.Analysis, err error) {
	err = r.use(ctx, "store.analysis", func(_ context.Context, q *session) error {
		var row analysisRow
		found, err := q.get(&row, `SELECT id, partner_id, person_id, registration_id, provider, submission, status, provider_status,
			provider_key, reason, decided_by, decided_at, created_at, updated_at FROM analyses WHERE id = ?`, id)
		if found {
			analysis = row.analysis()
		}
		return err
	})
	return analysis, err
}

// InsertAnalysis implements [kyc.Tx].
func (t *tx) InsertAnalysis(ctx context.Context, a *kyc.Analysis) error {
	return t.use(ctx, "store.insert_analysis", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO analyses (id, partner_id, person_id, registration_id, provider, submission, status, provider_status,
			provider_key, reason, decided_by, decided_at, created_at, updated_at)
			VALUES (:id, :partner_id, :person_id, :registration_id, :provider, :submission, :status, :provider_status,
			:provider_key, :reason, :decided_by, :decided_at, :created_at, :updated_at)`, newAnalysisRow(a))
		return err
	})
}

// UpdateAnalysis implements [kyc.Tx]. Updating an analysis that is not there is our mistake and fails. Whose it is
// and what it is about never change.
func (t *tx) UpdateAnalysis(ctx context.Context, a *kyc.Analysis) error {
	return t.use(ctx, "store.update_analysis", func(_ context.Context, q *session) error {
		return mustChange(q.execRow(`UPDATE analyses SET submission = :submission, status = :status, provider_status = :provider_status,
			provider_key = :provider_key, reason = :reason, decided_by = :decided_by, decided_at = :decided_at, updated_at = :updated_at
			WHERE id = :id AND partner_id = :partner_id`, newAnalysisRow(a)))
	})
}

// DeleteAnalysis implements [kyc.Tx].
func (t *tx) DeleteAnalysis(ctx context.Context, id kyc.AnalysisID) error {
	return t.use(ctx, "store.delete_analysis", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM analyses WHERE id = ?`, id)
		return err
	})
}

// InsertCall implements [kyc.Tx].
func (t *tx) InsertCall(ctx context.Context, c *kyc.Call) error {
	return t.use(ctx, "store.insert_call", func(_ context.Context, q *session) error {
		_, err := q.exec(`INSERT INTO provider_calls (partner_id, provider, operation, reference, number, started_at) VALUES (?, ?, ?, ?, ?, ?)`,
			c.PartnerID, c.Provider, c.Operation, c.Reference, c.Number, newMicros(c.StartedAt))
		return err
	})
}

// EndCall implements [kyc.Tx]. A call that has its outcome keeps it, so there may be nothing to do: a start calls
// what it finds open ambiguous, and the verdict that comes later must not be lost over the ledger.
func (t *tx) EndCall(ctx context.Context, reference, operation string, outcome kyc.CallOutcome, code string, at time.Time) error {
	return t.use(ctx, "store.end_call", func(_ context.Context, q *session) error {
		_, err := q.exec(`UPDATE provider_calls SET outcome = ?, code = ?, ended_at = ?
			WHERE seq = (SELECT max(seq) FROM provider_calls WHERE reference = ? AND operation = ? AND outcome IS NULL)`,
			outcome, code, newMicros(at), reference, operation)
		return err
	})
}

// Calls implements [kyc.Reader].
func (r reader) Calls(ctx context.Context, partner kyc.PartnerID, references []string) (map[string][]kyc.Call, error) {
	calls := make(map[string][]kyc.Call, len(references))
	references = slices.Compact(slices.Sorted(slices.Values(references)))
	if len(references) == 0 {
		return calls, nil
	}
	err := r.use(ctx, "store.calls", func(ctx context.Context, q *session) error {
		for some := range slices.Chunk(references, maxListed) {
			query, args, err := listed(`SELECT partner_id, provider, operation, reference, number, started_at, outcome, code, ended_at FROM provider_calls
				WHERE partner_id = ? AND reference IN (?) ORDER BY reference, seq`, some, []any{partner}, nil)
			if err != nil {
				return err
			}
			var found []callRow
			if err := q.all(ctx, &found, query, args...); err != nil {
				return err
			}
			for i := range found {
				c := found[i].call()
				calls[c.Reference] = append(calls[c.Reference], c)
			}
		}
		return nil
	})
	return calls, err
}

// InsertCallback implements [kyc.Tx].
func (t *tx) InsertCallback(ctx context.Context, c *kyc.StoredCallback) (fresh bool, err error) {
	err = t.use(ctx, "store.insert_callback", func(_ context.Context, q *session) error {
		k, err := t.keyFor(q, c.PartnerID, c.Owner)
		if err != nil {
			return err
		}
		sealed, err := k.seal("callbacks", "body", c.Provider+" "+c.DedupeKey, c.Body)
		if err != nil {
			return err
		}
		n, err := q.exec(`INSERT INTO callbacks (provider, dedupe_key, partner_id, owner, reference, sealed_body, received_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (provider, dedupe_key) DO NOTHING`, c.Provider, c.DedupeKey, c.PartnerID, c.Owner, c.Reference, sealed, newMicros(c.ReceivedAt))
		fresh = n == 1
		return err
	})
	return fresh, err
}
