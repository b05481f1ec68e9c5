package store

import (
	"context"
	"slices"

	"github.com/kycgate/kycgate/kyc"
)

// source lends a session: the pool for what is committed, a transaction for what it sees itself.
type source interface {
	use(ctx context.Context, op string, f func(context.Context, *session) error) error
}

// reader implements kyc.Reader, once for both.
type reader struct{ source }

const personColumns = `partner_id, id, document_number, name, birthdate, emails, phones, address, gender, nationality, monthly_income,
	occupation, mother_name, father_name, face_recognition_id, session_id, ip_address, device_fingerprint, source_kyc, kyc_status,
	kyc_provider_status, kyc_reason, kyc_decided_by, kyc_decided_at, kyc_analyses, latest_analysis_id, created_at, updated_at, version`

// PersonByID implements [kyc.Reader].
func (r reader) PersonByID(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_id",
		`SELECT `+personColumns+` FROM persons WHERE partner_id = ? AND id = ?`, partner, id)
}

// PersonByDocument implements [kyc.Reader].
func (r reader) PersonByDocument(ctx context.Context, partner kyc.PartnerID, document kyc.DocumentNumber) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_document",
		`SELECT `+personColumns+` FROM persons WHERE partner_id = ? AND document_number = ?`, partner, document.Reveal())
}

// PersonByExternalID implements [kyc.Reader].
func (r reader) PersonByExternalID(ctx context.Context, partner kyc.PartnerID, externalID string) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_external_id",
		`SELECT `+personColumns+` FROM persons
		WHERE partner_id = ? AND id = (SELECT person_id FROM external_ids WHERE partner_id = ? AND external_id = ?)`,
		partner, partner, externalID)
}

func (r reader) person(ctx context.Context, op, query string, args ...any) (person *kyc.Person, err error) {
	err = r.use(ctx, op, func(_ context.Context, q *session) error {
		var row personRow
		found, err := q.get(&row, query, args...)
		if found {
			person = row.person()
		}
		return err
	})
	return person, err
}

// Persons implements [kyc.Reader].
func (r reader) Persons(ctx context.Context, partner kyc.PartnerID, filter kyc.PersonFilter, page kyc.Page) (rows []*kyc.Person, more bool, err error) {
	query, args := filtered(`SELECT `+personColumns+` FROM persons WHERE partner_id = ? AND version > 0`, partner, filter)
	if page.After != "" {
		query += ` AND id < ?`
		args = append(args, page.After)
	}
	first := max(page.First, 0) // SQLite takes a negative limit for none
	query += ` ORDER BY id DESC LIMIT ?`
	args = append(args, first+1)

	err = r.use(ctx, "store.persons", func(ctx context.Context, q *session) error {
		var found []personRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		more = len(found) > first
		for i := range found[:min(first, len(found))] {
			rows = append(rows, found[i].person())
		}
		return nil
	})
	return rows, more, err
}

// CountPersons implements [kyc.Reader].
func (r reader) CountPersons(ctx context.Context, partner kyc.PartnerID, filter kyc.PersonFilter) (n int, err error) {
	query, args := filtered(`SELECT count(*) FROM persons WHERE partner_id = ? AND version > 0`, partner, filter)
	err = r.use(ctx, "store.count_persons", func(ctx context.Context, q *session) error {
		_, err := q.value(ctx, &n, query, args...)
		return err
	})
	return n, err
}

func filtered(query string, partner kyc.PartnerID, f kyc.PersonFilter) (string, []any) {
	args := []any{partner}
	if f.KycStatus != nil {
		query += ` AND kyc_status = ?`
		args = append(args, *f.KycStatus)
	}
	if f.CreatedAfter != nil {
		query += ` AND created_at > ?`
		args = append(args, newMicros(*f.CreatedAfter))
	}
	if f.CreatedBefore != nil {
		query += ` AND created_at < ?`
		args = append(args, newMicros(*f.CreatedBefore))
	}
	return query, args
}

// ExternalIDs implements [kyc.Reader].
func (r reader) ExternalIDs(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID][]kyc.ExternalID, error) {
	ids := make(map[kyc.PersonID][]kyc.ExternalID, len(persons))
	err := r.forEach(ctx, "store.external_ids", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`SELECT person_id, external_id, mapped_at FROM external_ids
			WHERE partner_id = ? AND person_id IN (?) ORDER BY person_id, mapped_at, seq`, some, []any{partner}, nil)
		if err != nil {
			return err
		}
		var found []struct {
			PersonID   string `db:"person_id"`
			ExternalID string `db:"external_id"`
			MappedAt   micros `db:"mapped_at"`
		}
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for _, f := range found {
			person := kyc.PersonID(f.PersonID)
			ids[person] = append(ids[person], kyc.ExternalID{Value: f.ExternalID, MappedAt: f.MappedAt.time()})
		}
		return nil
	})
	return ids, err
}

// forEach asks for many persons on one connection, a list of bounded length at a time. It asks for nobody twice.
func (r reader) forEach(ctx context.Context, op string, persons []kyc.PersonID, f func(context.Context, *session, []kyc.PersonID) error) error {
	persons = slices.Compact(slices.Sorted(slices.Values(persons)))
	if len(persons) == 0 {
		return nil
	}
	return r.use(ctx, op, func(ctx context.Context, q *session) error {
		for some := range slices.Chunk(persons, maxListed) {
			if err := f(ctx, q, some); err != nil {
				return err
			}
		}
		return nil
	})
}

// InsertPerson implements [kyc.Tx].
func (t *tx) InsertPerson(ctx context.Context, p *kyc.Person) error {
	return t.use(ctx, "store.insert_person", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO persons (`+personColumns+`) VALUES (
			:partner_id, :id, :document_number, :name, :birthdate, :emails, :phones, :address, :gender, :nationality, :monthly_income,
			:occupation, :mother_name, :father_name, :face_recognition_id, :session_id, :ip_address, :device_fingerprint, :source_kyc, :kyc_status,
			:kyc_provider_status, :kyc_reason, :kyc_decided_by, :kyc_decided_at, :kyc_analyses, :latest_analysis_id, :created_at, :updated_at, :version)`,
			newPersonRow(p))
		return err
	})
}

// UpdatePerson implements [kyc.Tx]. Updating a person who is not there is our mistake and fails.
func (t *tx) UpdatePerson(ctx context.Context, p *kyc.Person) error {
	return t.use(ctx, "store.update_person", func(_ context.Context, q *session) error {
		return mustChange(q.execRow(`UPDATE persons SET
			name = :name, birthdate = :birthdate, emails = :emails, phones = :phones, address = :address, gender = :gender,
			nationality = :nationality, monthly_income = :monthly_income, occupation = :occupation, mother_name = :mother_name,
			father_name = :father_name, face_recognition_id = :face_recognition_id, session_id = :session_id, ip_address = :ip_address,
			device_fingerprint = :device_fingerprint, source_kyc = :source_kyc, kyc_status = :kyc_status,
			kyc_provider_status = :kyc_provider_status, kyc_reason = :kyc_reason, kyc_decided_by = :kyc_decided_by,
			kyc_decided_at = :kyc_decided_at, kyc_analyses = :kyc_analyses, latest_analysis_id = :latest_analysis_id,
			updated_at = :updated_at, version = :version
			WHERE partner_id = :partner_id AND id = :id`, newPersonRow(p)))
	})
}

// DeletePerson implements [kyc.Tx]. The foreign keys take external ids, registrations and analyses along.
func (t *tx) DeletePerson(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) error {
	return t.use(ctx, "store.delete_person", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM persons WHERE partner_id = ? AND id = ?`, partner, id)
		return err
	})
}

// MapExternalID implements [kyc.Tx].
func (t *tx) MapExternalID(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, e kyc.ExternalID) error {
	return t.use(ctx, "store.map_external_id", func(_ context.Context, q *session) error {
		_, err := q.exec(`INSERT INTO external_ids (partner_id, external_id, person_id, mapped_at, seq) VALUES (?, ?, ?, ?,
			(SELECT coalesce(max(seq), 0) + 1 FROM external_ids WHERE partner_id = ? AND person_id = ?))`,
			partner, e.Value, person, newMicros(e.MappedAt), partner, person)
		return err
	})
}

// UnmapExternalID implements [kyc.Tx].
func (t *tx) UnmapExternalID(ctx context.Context, partner kyc.PartnerID, externalID string) error {
	return t.use(ctx, "store.unmap_external_id", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM external_ids WHERE partner_id = ? AND external_id = ?`, partner, externalID)
		return err
	})
}

func mustChange(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errNoRow
	}
	return err
}
