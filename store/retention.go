package store

import (
	"context"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// The statements of this file are asked in nobody's name: by the retention, of which no value leaves the store.

const (
	oldPersons = `SELECT partner_id, id AS person_id, '' AS id FROM persons WHERE updated_at < ? LIMIT ?`
	// The newest accepted registration of a person stays, whatever its age: it is what the person is. So does one whose analysis is open.
	oldRegistrations = `SELECT r.partner_id, r.person_id, r.id FROM registrations r WHERE r.received_at < ? AND r.outcome <> ''
		AND EXISTS (SELECT 1 FROM registrations n WHERE n.person_id = r.person_id AND n.id > r.id AND n.outcome <> '')
		AND NOT EXISTS (SELECT 1 FROM analyses a WHERE a.partner_id = r.partner_id AND a.person_id = r.person_id AND a.registration_id = r.id
			AND a.status IN ('PENDING', 'IN_REVIEW') AND a.submission <> 'REFUSED')
		ORDER BY r.person_id, r.id LIMIT ?`
	deleteOldCallbacks = `DELETE FROM callbacks WHERE received_at < ?`
	deleteOldCalls     = `DELETE FROM provider_calls WHERE ended_at < ?`
	deleteOldKeys      = `DELETE FROM idempotency_keys WHERE created_at < ?`
	oldFaces           = `SELECT partner_id, '' AS person_id, id FROM faces WHERE person_id IS NULL AND state = 'REGISTERED' AND updated_at < ? LIMIT ?`
	// One that is open still has a job, which ends it.
	oldProcesses = `SELECT partner_id, '' AS person_id, id FROM processes WHERE person_id IS NULL AND finished_at IS NOT NULL AND updated_at < ? LIMIT ?`
	// The newest event of a subject stays: it says which version comes next.
	deleteOldEvents = `DELETE FROM events WHERE at < ? AND EXISTS
		(SELECT 1 FROM events n WHERE n.partner_id = events.partner_id AND n.subject = events.subject AND n.version > events.version)`
)

// OldPersons implements [kyc.Reader].
func (r reader) OldPersons(ctx context.Context, before time.Time, limit int) ([]kyc.OldRow, error) {
	return r.oldRows(ctx, "store.old_persons", oldPersons, before, limit)
}

// OldRegistrations implements [kyc.Reader].
func (r reader) OldRegistrations(ctx context.Context, before time.Time, limit int) ([]kyc.OldRow, error) {
	return r.oldRows(ctx, "store.old_registrations", oldRegistrations, before, limit)
}

// OldFaces implements [kyc.Reader].
func (r reader) OldFaces(ctx context.Context, before time.Time, limit int) ([]kyc.OldRow, error) {
	rows, err := r.oldRows(ctx, "store.old_faces", oldFaces, before, limit)
	for i := range rows {
		rows[i].Face, rows[i].Registration = kyc.FaceID(rows[i].Registration), ""
	}
	return rows, err
}

// OldProcesses implements [kyc.Reader].
func (r reader) OldProcesses(ctx context.Context, before time.Time, limit int) ([]kyc.OldRow, error) {
	rows, err := r.oldRows(ctx, "store.old_processes", oldProcesses, before, limit)
	for i := range rows {
		rows[i].Process, rows[i].Registration = kyc.ProcessID(rows[i].Registration), ""
	}
	return rows, err
}

func (r reader) oldRows(ctx context.Context, op, query string, before time.Time, limit int) (rows []kyc.OldRow, err error) {
	err = r.use(ctx, op, func(ctx context.Context, q *session) error {
		var found []struct {
			PartnerID string `db:"partner_id"`
			PersonID  string `db:"person_id"`
			ID        string `db:"id"`
		}
		if err := q.all(ctx, &found, query, newMicros(before), limit); err != nil {
			return err
		}
		for _, f := range found {
			rows = append(rows, kyc.OldRow{PartnerID: kyc.PartnerID(f.PartnerID), PersonID: kyc.PersonID(f.PersonID), Registration: kyc.RegistrationID(f.ID)})
		}
		return nil
	})
	return rows, err
}

// NextAccepted implements [kyc.Tx].
func (t *tx) NextAccepted(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, after kyc.RegistrationID) (next *kyc.Registration, err error) {
	var id string
	err = t.use(ctx, "store.next_accepted", func(_ context.Context, q *session) error {
		_, err := q.value(untimed, &id, `SELECT coalesce(min(id), '') FROM registrations
			WHERE partner_id = ? AND person_id = ? AND id > ? AND outcome <> ''`, partner, person, after)
		return err
	})
	if err != nil || id == "" {
		return nil, err
	}
	return t.Registration(ctx, partner, person, kyc.RegistrationID(id))
}

// ReplaceProfile implements [kyc.Tx].
func (t *tx) ReplaceProfile(ctx context.Context, r *kyc.Registration) error {
	return t.use(ctx, "store.replace_profile", func(_ context.Context, q *session) error {
		row, err := t.registrationRow(q, r)
		if err != nil {
			return err
		}
		return mustChange(q.exec(`UPDATE registrations SET sealed_profile = ? WHERE partner_id = ? AND person_id = ? AND id = ?`,
			row.SealedProfile, r.PartnerID, r.PersonID, r.ID))
	})
}

// DeleteOld implements [kyc.Tx].
func (t *tx) DeleteOld(ctx context.Context, what kyc.OldKind, before time.Time) (n int, err error) {
	query := map[kyc.OldKind]string{kyc.OldCallbacks: deleteOldCallbacks, kyc.OldCalls: deleteOldCalls, kyc.OldIdempotencyKeys: deleteOldKeys, kyc.OldEvents: deleteOldEvents}[what]
	err = t.use(ctx, "store.delete_old", func(_ context.Context, q *session) error {
		changed, err := q.exec(query, newMicros(before))
		n = int(changed)
		return err
	})
	return n, err
}
