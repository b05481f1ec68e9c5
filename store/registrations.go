package store

import (
	"context"

	"github.com/kycgate/kycgate/kyc"
)

// Registrations implements [kyc.Reader]. The keys are numbered first and the rows fetched for the page only: a
// payload is larger than all the rest.
func (r reader) Registrations(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID, page kyc.Page) (map[kyc.PersonID][]*kyc.Registration, error) {
	registrations := make(map[kyc.PersonID][]*kyc.Registration, len(persons))
	after := page.After
	if after == "" {
		after = afterAll
	}
	err := r.forEach(ctx, "store.registrations", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`
			WITH page AS (
				SELECT person_id, id, row_number() OVER (PARTITION BY person_id ORDER BY id DESC) AS n
				FROM registrations WHERE partner_id = ? AND person_id IN (?) AND outcome <> '' AND id < ?)
			SELECT r.person_id, r.id, r.partner_id, r.received_at, r.sealed_external_id, r.sealed_payload, r.outcome, `+keyColumns+`
			FROM page CROSS JOIN registrations r ON r.person_id = page.person_id AND r.id = page.id
			CROSS JOIN data_keys k ON k.partner_id = r.partner_id AND k.owner = r.person_id
			WHERE page.n <= ? ORDER BY page.person_id, page.n`,
			some, []any{partner}, []any{after, max(page.First, 0) + 1})
		if err != nil {
			return err
		}
		var found []registrationRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for i := range found {
			one, err := found[i].registration(r.crypt, q)
			if err != nil {
				return err
			}
			registrations[one.PersonID] = append(registrations[one.PersonID], one)
		}
		return nil
	})
	return registrations, err
}

// afterAll is greater than any id: they are ASCII.
const afterAll = "\x7f"

// CountRegistrations implements [kyc.Reader].
func (r reader) CountRegistrations(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID]int, error) {
	return r.countOf(ctx, "store.count_registrations", `SELECT person_id, count(*) AS n FROM registrations
			WHERE partner_id = ? AND person_id IN (?) AND outcome <> '' GROUP BY person_id`, partner, persons)
}

// Registration implements [kyc.Reader].
func (r reader) Registration(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, id kyc.RegistrationID) (registration *kyc.Registration, err error) {
	err = r.use(ctx, "store.registration", func(_ context.Context, q *session) error {
		var row registrationRow
		found, err := q.get(&row, `SELECT r.person_id, r.id, r.partner_id, r.received_at, r.sealed_external_id, r.sealed_payload, r.sealed_profile,
			r.outcome, `+keyColumns+` FROM registrations r CROSS JOIN data_keys k ON k.partner_id = r.partner_id AND k.owner = r.person_id
			WHERE r.partner_id = ? AND r.person_id = ? AND r.id = ?`, partner, person, id)
		if found {
			registration, err = row.registration(r.crypt, q)
		}
		return err
	})
	return registration, err
}

// InsertRegistration implements [kyc.Tx].
func (t *tx) InsertRegistration(ctx context.Context, r *kyc.Registration) error {
	return t.use(ctx, "store.insert_registration", func(_ context.Context, q *session) error {
		row, err := t.registrationRow(q, r)
		if err != nil {
			return err
		}
		_, err = q.execRow(`INSERT INTO registrations (person_id, id, partner_id, external_index, received_at, sealed_external_id, sealed_payload, sealed_profile, outcome)
			VALUES (:person_id, :id, :partner_id, :external_index, :received_at, :sealed_external_id, :sealed_payload, :sealed_profile, :outcome)`, row)
		return err
	})
}

// DeleteRegistration implements [kyc.Tx].
func (t *tx) DeleteRegistration(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, id kyc.RegistrationID) error {
	return t.use(ctx, "store.delete_registration", func(_ context.Context, q *session) error {
		_, err := q.exec(`DELETE FROM registrations WHERE partner_id = ? AND person_id = ? AND id = ?`, partner, person, id)
		return err
	})
}

// AcceptRegistration implements [kyc.Tx].
func (t *tx) AcceptRegistration(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, id kyc.RegistrationID, outcome kyc.RegistrationOutcome) error {
	return t.use(ctx, "store.accept_registration", func(_ context.Context, q *session) error {
		return mustChange(q.exec(`UPDATE registrations SET outcome = ? WHERE partner_id = ? AND person_id = ? AND id = ?`, outcome, partner, person, id))
	})
}

// AcceptedProfiles implements [kyc.Reader].
func (r reader) AcceptedProfiles(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, before kyc.RegistrationID) (profiles []kyc.Profile, err error) {
	if before == "" {
		before = afterAll
	}
	err = r.use(ctx, "store.accepted_profiles", func(ctx context.Context, q *session) error {
		var found []registrationRow
		if err := q.all(ctx, &found, `SELECT r.id, r.sealed_profile, `+keyColumns+`
			FROM registrations r CROSS JOIN data_keys k ON k.partner_id = r.partner_id AND k.owner = r.person_id
			WHERE r.partner_id = ? AND r.person_id = ? AND r.outcome <> '' AND r.id < ? ORDER BY r.id`, partner, person, before); err != nil || len(found) == 0 {
			return err
		}
		k, err := r.crypt.open(q, partner, string(person), found[0].wrappedKey)
		if err != nil {
			return err
		}
		for i := range found {
			profile, err := found[i].profile(k)
			if err != nil {
				return err
			}
			profiles = append(profiles, profile)
		}
		return nil
	})
	return profiles, err
}

// RegistrationsLeft implements [kyc.Tx].
func (t *tx) RegistrationsLeft(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, externalID *string) (any, withID bool, err error) {
	err = t.use(ctx, "store.registrations_left", func(ctx context.Context, q *session) error {
		var left struct {
			Any    bool `db:"any_left"`
			WithID bool `db:"with_id"`
		}
		_, err := q.get(&left, `SELECT
			EXISTS (SELECT 1 FROM registrations WHERE partner_id = ? AND person_id = ?) AS any_left,
			EXISTS (SELECT 1 FROM registrations WHERE partner_id = ? AND person_id = ? AND external_index = ?) AS with_id`,
			partner, person, partner, person, t.crypt.indexOf(partner, externalIDField, externalID))
		any, withID = left.Any, left.WithID
		return err
	})
	return any, withID, err
}

// countOf counts rows by person. The query selects person_id and n; its arguments are the partner, the persons and the rest.
func (r reader) countOf(ctx context.Context, op, query string, partner kyc.PartnerID, persons []kyc.PersonID, rest ...any) (map[kyc.PersonID]int, error) {
	counts := make(map[kyc.PersonID]int, len(persons))
	err := r.forEach(ctx, op, persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(query, some, []any{partner}, rest)
		if err != nil {
			return err
		}
		var found []struct {
			PersonID string `db:"person_id"`
			N        int    `db:"n"`
		}
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for _, f := range found {
			counts[kyc.PersonID(f.PersonID)] = f.N
		}
		return nil
	})
	return counts, err
}
