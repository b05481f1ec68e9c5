package store

import (
	"context"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// onboardingRow is a row of onboardings.
type onboardingRow struct {
	PartnerID string `db:"partner_id"`
	PersonID  string `db:"person_id"`
	State     string `db:"state"`
	Require   string `db:"require"`
	Content   string `db:"content"`
	Version   int    `db:"version"`
	UpdatedAt micros `db:"updated_at"`
}

func requireText(list []kyc.StepKind) string {
	words := make([]string, len(list))
	for i, k := range list {
		words[i] = string(k)
	}
	return strings.Join(words, " ")
}

func (r *onboardingRow) kept() *kyc.KeptOnboarding {
	k := &kyc.KeptOnboarding{
		PartnerID: kyc.PartnerID(r.PartnerID), PersonID: kyc.PersonID(r.PersonID), State: kyc.OnboardingState(r.State),
		Content: []byte(r.Content), Version: r.Version, UpdatedAt: r.UpdatedAt.time(),
	}
	for _, word := range strings.Fields(r.Require) {
		k.Require = append(k.Require, kyc.StepKind(word))
	}
	return k
}

// Onboardings implements [kyc.Reader].
func (r reader) Onboardings(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID]*kyc.KeptOnboarding, error) {
	kept := make(map[kyc.PersonID]*kyc.KeptOnboarding, len(persons))
	if len(persons) == 1 { // every transaction that changes a person asks this: no list to spell out, no slice to fill
		err := r.use(ctx, "store.onboardings", func(_ context.Context, q *session) error {
			var row onboardingRow
			found, err := q.get(&row, `SELECT partner_id, person_id, state, require, content, version, updated_at FROM onboardings
				WHERE partner_id = ? AND person_id = ?`, partner, persons[0])
			if found {
				kept[persons[0]] = row.kept()
			}
			return err
		})
		return kept, err
	}
	err := r.forEach(ctx, "store.onboardings", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`SELECT partner_id, person_id, state, require, content, version, updated_at FROM onboardings
			WHERE partner_id = ? AND person_id IN (?)`, some, []any{partner}, nil)
		if err != nil {
			return err
		}
		var rows []onboardingRow
		if err := q.all(ctx, &rows, query, args...); err != nil {
			return err
		}
		for i := range rows {
			k := rows[i].kept()
			kept[k.PersonID] = k
		}
		return nil
	})
	return kept, err
}

// OnboardingFacts implements [kyc.Reader].
func (r reader) OnboardingFacts(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) (f kyc.OnboardingFacts, err error) {
	f.Person, err = r.PersonByID(ctx, partner, id)
	if err != nil || f.Person == nil || f.Person.Version == 0 {
		return kyc.OnboardingFacts{}, err
	}
	err = r.use(ctx, "store.onboarding_facts", func(ctx context.Context, q *session) (err error) {
		f.Faces, err = r.someFaces(ctx, q, `SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = f.person_id
			WHERE f.partner_id = ? AND f.person_id = ? AND f.state <> 'SENT'`, partner, id)
		if err != nil {
			return err
		}
		f.Processes, err = r.processes(ctx, q, `SELECT `+processColumns+`
			FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.person_id
			WHERE p.partner_id = ? AND p.person_id = ? AND p.version > 0`, []any{partner, id})
		return err
	})
	if err != nil {
		return f, err
	}
	customers, err := r.CustomersOf(ctx, partner, []kyc.PersonID{id})
	f.Customers = customers[id]
	return f, err
}

// StaleOnboardings implements [kyc.Reader].
func (r reader) StaleOnboardings(ctx context.Context, partner kyc.PartnerID, require []kyc.StepKind, after kyc.PersonID, limit int) (persons []kyc.PersonID, err error) {
	err = r.use(ctx, "store.stale_onboardings", func(ctx context.Context, q *session) error {
		return q.all(ctx, &persons, `SELECT p.id FROM persons p LEFT JOIN onboardings o ON o.partner_id = p.partner_id AND o.person_id = p.id
			WHERE p.partner_id = ? AND p.id > ? AND p.version > 0 AND o.require IS NOT ? ORDER BY p.id LIMIT ?`,
			partner, after, requireText(require), max(limit, 0))
	})
	return persons, err
}

// SaveOnboarding implements [kyc.Tx].
func (t *tx) SaveOnboarding(ctx context.Context, k *kyc.KeptOnboarding) error {
	return t.use(ctx, "store.save_onboarding", func(_ context.Context, q *session) error {
		_, err := q.execRow(`INSERT INTO onboardings (partner_id, person_id, state, require, content, version, updated_at)
			VALUES (:partner_id, :person_id, :state, :require, :content, :version, :updated_at)
			ON CONFLICT (partner_id, person_id) DO UPDATE SET state = excluded.state, require = excluded.require, content = excluded.content,
			version = excluded.version, updated_at = excluded.updated_at`, onboardingRow{
			PartnerID: string(k.PartnerID), PersonID: string(k.PersonID), State: string(k.State), Require: requireText(k.Require),
			Content: string(k.Content), Version: k.Version, UpdatedAt: newMicros(k.UpdatedAt),
		})
		return err
	})
}

// TouchPerson implements [kyc.Tx].
func (t *tx) TouchPerson(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, at time.Time) error {
	return t.use(ctx, "store.touch_person", func(context.Context, *session) error {
		t.touch(touched{partner: partner, person: person, kind: kyc.EventPerson, object: string(person), at: at}, nil)
		return nil
	})
}
