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
type reader struct {
	source
	crypt *crypt
}

// personColumns are what personRow reads. Every statement joins the key that opens a row; CROSS keeps SQLite from beginning with
// the keys.
const (
	personColumns = `p.partner_id, p.id, p.document_index, p.sealed_profile, p.source_kyc, p.kyc_status, p.kyc_provider_status, p.kyc_reason,
	p.kyc_decided_by, p.kyc_decided_at, p.kyc_analyses, p.latest_analysis_id, p.created_at, p.updated_at, p.version, ` + keyColumns
	// externalIDField is the field of a blind index over external ids.
	externalIDField = "external_id"
)

// PersonByID implements [kyc.Reader].
func (r reader) PersonByID(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_id",
		`SELECT `+personColumns+` FROM persons p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
		WHERE p.partner_id = ? AND p.id = ?`, partner, id)
}

// PersonByDocument implements [kyc.Reader].
func (r reader) PersonByDocument(ctx context.Context, partner kyc.PartnerID, document kyc.DocumentNumber) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_document",
		`SELECT `+personColumns+` FROM persons p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
		WHERE p.partner_id = ? AND p.document_index = ?`, partner, r.crypt.index(partner, documentField, document.Reveal()))
}

// PersonByExternalID implements [kyc.Reader].
func (r reader) PersonByExternalID(ctx context.Context, partner kyc.PartnerID, externalID string) (*kyc.Person, error) {
	return r.person(ctx, "store.person_by_external_id",
		`SELECT `+personColumns+` FROM persons p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
		WHERE p.partner_id = ? AND p.id = (SELECT person_id FROM external_ids WHERE partner_id = ? AND external_index = ?)`,
		partner, partner, r.crypt.index(partner, externalIDField, externalID))
}

// PersonsByID implements [kyc.Reader].
func (r reader) PersonsByID(ctx context.Context, partner kyc.PartnerID, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.Person, error) {
	persons := make(map[kyc.PersonID]*kyc.Person, len(ids))
	err := r.forEach(ctx, "store.persons_by_id", ids, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`SELECT `+personColumns+` FROM persons p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
			WHERE p.partner_id = ? AND p.id IN (?)`, some, []any{partner}, nil)
		if err != nil {
			return err
		}
		var found []personRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for i := range found {
			p, err := found[i].person(r.crypt, q)
			if err != nil {
				return err
			}
			persons[p.ID] = p
		}
		return nil
	})
	return persons, err
}

func (r reader) person(ctx context.Context, op, query string, args ...any) (person *kyc.Person, err error) {
	err = r.use(ctx, op, func(_ context.Context, q *session) error {
		var row personRow
		found, err := q.get(&row, query, args...)
		if found {
			person, err = row.person(r.crypt, q)
		}
		return err
	})
	return person, err
}

// Persons implements [kyc.Reader].
func (r reader) Persons(ctx context.Context, partner kyc.PartnerID, filter kyc.PersonFilter, page kyc.Page) (rows []*kyc.Person, more bool, err error) {
	query, args := `SELECT `+personColumns+` FROM persons p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
		WHERE p.partner_id = ? AND p.version > 0`, []any{partner}
	id := `p.id`
	if filter.OnboardingState != nil {
		// CROSS keeps SQLite from going through all persons: the index gives those in this state in the order of their ids.
		query, args = `SELECT `+personColumns+` FROM onboardings o CROSS JOIN persons p ON p.partner_id = o.partner_id AND p.id = o.person_id
			CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.id
			WHERE o.partner_id = ? AND o.state = ? AND p.version > 0`, []any{partner, *filter.OnboardingState}
		id = `o.person_id`
	}
	query, args = filtered(query, args, filter)
	if page.After != "" {
		query += ` AND ` + id + ` < ?`
		args = append(args, page.After)
	}
	first := max(page.First, 0) // SQLite takes a negative limit for none
	query += ` ORDER BY ` + id + ` DESC LIMIT ?`
	args = append(args, first+1)

	err = r.use(ctx, "store.persons", func(ctx context.Context, q *session) error {
		var found []personRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		more = len(found) > first
		for i := range found[:min(first, len(found))] {
			person, err := found[i].person(r.crypt, q)
			if err != nil {
				return err
			}
			rows = append(rows, person)
		}
		return nil
	})
	return rows, more, err
}

// CountPersons implements [kyc.Reader].
func (r reader) CountPersons(ctx context.Context, partner kyc.PartnerID, filter kyc.PersonFilter) (n int, err error) {
	query, args := `SELECT count(*) FROM persons p WHERE p.partner_id = ? AND p.version > 0`, []any{partner}
	if filter.OnboardingState != nil {
		query, args = `SELECT count(*) FROM onboardings o CROSS JOIN persons p ON p.partner_id = o.partner_id AND p.id = o.person_id
			WHERE o.partner_id = ? AND o.state = ? AND p.version > 0`, []any{partner, *filter.OnboardingState}
	}
	query, args = filtered(query, args, filter)
	err = r.use(ctx, "store.count_persons", func(ctx context.Context, q *session) error {
		_, err := q.value(ctx, &n, query, args...)
		return err
	})
	return n, err
}

func filtered(query string, args []any, f kyc.PersonFilter) (string, []any) {
	if f.KycStatus != nil {
		query += ` AND p.kyc_status = ?`
		args = append(args, *f.KycStatus)
	}
	if f.CreatedAfter != nil {
		query += ` AND p.created_at > ?`
		args = append(args, newMicros(*f.CreatedAfter))
	}
	if f.CreatedBefore != nil {
		query += ` AND p.created_at < ?`
		args = append(args, newMicros(*f.CreatedBefore))
	}
	return query, args
}

// ExternalIDs implements [kyc.Reader].
func (r reader) ExternalIDs(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID][]kyc.ExternalID, error) {
	ids := make(map[kyc.PersonID][]kyc.ExternalID, len(persons))
	err := r.forEach(ctx, "store.external_ids", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`SELECT e.person_id, e.external_index, e.sealed_value, e.mapped_at, `+keyColumns+`
			FROM external_ids e CROSS JOIN data_keys k ON k.partner_id = e.partner_id AND k.owner = e.person_id
			WHERE e.partner_id = ? AND e.person_id IN (?) ORDER BY e.person_id, e.mapped_at, e.seq`, some, []any{partner}, nil)
		if err != nil {
			return err
		}
		var found []externalIDRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		var k *dataKey
		for i := range found {
			f := &found[i]
			if k == nil || k.owner != f.PersonID {
				if k, err = r.crypt.open(q, partner, f.PersonID, f.wrappedKey); err != nil {
					return err
				}
			}
			value, err := k.unseal("external_ids", "value", rowOf(f.ExternalIndex), f.SealedValue)
			if err != nil {
				return err
			}
			person := kyc.PersonID(f.PersonID)
			ids[person] = append(ids[person], kyc.ExternalID{Value: string(value), MappedAt: f.MappedAt.time()})
		}
		return nil
	})
	return ids, err
}

// externalIDRow is a row of external_ids, with the key that opens it.
type externalIDRow struct {
	PersonID      string `db:"person_id"`
	ExternalIndex []byte `db:"external_index"`
	SealedValue   []byte `db:"sealed_value"`
	MappedAt      micros `db:"mapped_at"`
	wrappedKey
}

// rowOf names a row by its blind index, where it has no other name.
func rowOf(index []byte) string { return string(index) }

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
		row, err := t.personRow(q, p)
		if err != nil {
			return err
		}
		_, err = q.execRow(`INSERT INTO persons (partner_id, id, document_index, sealed_profile, source_kyc, kyc_status, kyc_provider_status, kyc_reason,
			kyc_decided_by, kyc_decided_at, kyc_analyses, latest_analysis_id, created_at, updated_at, version)
			VALUES (:partner_id, :id, :document_index, :sealed_profile, :source_kyc, :kyc_status, :kyc_provider_status, :kyc_reason,
			:kyc_decided_by, :kyc_decided_at, :kyc_analyses, :latest_analysis_id, :created_at, :updated_at, :version)`, row)
		t.touch(touched{partner: p.PartnerID, person: p.ID, kind: kyc.EventPerson, object: string(p.ID), at: p.UpdatedAt, fresh: true}, new(*p))
		return err
	})
}

// UpdatePerson implements [kyc.Tx]. Updating a person who is not there, or into one with another document, is our mistake and fails.
func (t *tx) UpdatePerson(ctx context.Context, p *kyc.Person) error {
	return t.use(ctx, "store.update_person", func(_ context.Context, q *session) error {
		row, err := t.personRow(q, p)
		if err != nil {
			return err
		}
		t.touch(touched{partner: p.PartnerID, person: p.ID, kind: kyc.EventPerson, object: string(p.ID), at: p.UpdatedAt}, new(*p))
		return mustChange(q.execRow(`UPDATE persons SET sealed_profile = :sealed_profile, source_kyc = :source_kyc, kyc_status = :kyc_status,
			kyc_provider_status = :kyc_provider_status, kyc_reason = :kyc_reason, kyc_decided_by = :kyc_decided_by,
			kyc_decided_at = :kyc_decided_at, kyc_analyses = :kyc_analyses, latest_analysis_id = :latest_analysis_id,
			updated_at = :updated_at, version = :version
			WHERE partner_id = :partner_id AND id = :id AND document_index IS :document_index`, row))
	})
}

// DeletePerson implements [kyc.Tx]. The foreign keys take external ids, registrations and analyses along; the data key goes too.
func (t *tx) DeletePerson(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) error {
	return t.use(ctx, "store.delete_person", func(_ context.Context, q *session) error {
		if err := t.dropEvents(q, partner, id); err != nil {
			return err
		}
		if _, err := q.exec(`DELETE FROM persons WHERE partner_id = ? AND id = ?`, partner, id); err != nil {
			return err
		}
		return t.dropKey(q, partner, string(id))
	})
}

// MapExternalID implements [kyc.Tx].
func (t *tx) MapExternalID(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, e kyc.ExternalID) error {
	return t.use(ctx, "store.map_external_id", func(_ context.Context, q *session) error {
		k, err := t.keyFor(q, partner, string(person))
		if err != nil {
			return err
		}
		index := t.crypt.index(partner, externalIDField, e.Value)
		sealed, err := k.seal("external_ids", "value", rowOf(index), []byte(e.Value))
		if err != nil {
			return err
		}
		_, err = q.exec(`INSERT INTO external_ids (partner_id, external_index, person_id, sealed_value, mapped_at, seq) VALUES (?, ?, ?, ?, ?,
			(SELECT coalesce(max(seq), 0) + 1 FROM external_ids WHERE partner_id = ? AND person_id = ?))`,
			partner, index, person, sealed, newMicros(e.MappedAt), partner, person)
		return err
	})
}

// UnmapExternalID implements [kyc.Tx].
func (t *tx) UnmapExternalID(ctx context.Context, partner kyc.PartnerID, externalID string) error {
	return t.use(ctx, "store.unmap_external_id", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM external_ids WHERE partner_id = ? AND external_index = ?`,
			partner, t.crypt.index(partner, externalIDField, externalID))
		return err
	})
}

func mustChange(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errNoRow
	}
	return err
}
