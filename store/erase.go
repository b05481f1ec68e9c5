package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// ofPerson lists the tables that hold something of a person: how their rows are found, and which of their columns is the id that
// jobs and calls name. Erasing goes through them in this order, children first.
//
// MUST list every table with a person_id or an owner: TestErasureKnowsEveryTable.
var ofPerson = []struct{ table, where, subject string }{
	{table: "events", where: `partner_id = ? AND person_id = ?`},
	{table: "callbacks", where: `partner_id = ? AND owner = ?`},
	{table: "idempotency_keys", where: `partner_id = ? AND person_id = ?`},
	{table: "external_ids", where: `partner_id = ? AND person_id = ?`},
	{table: "analyses", where: `partner_id = ? AND person_id = ?`, subject: "id"},
	{table: "customers", where: `partner_id = ? AND person_id = ?`, subject: "id"},
	{table: "processes", where: `partner_id = ? AND person_id = ?`, subject: "id"},
	{table: "faces", where: `partner_id = ? AND person_id = ?`, subject: "id"},
	{table: "onboardings", where: `partner_id = ? AND person_id = ?`},
	{table: "registrations", where: `partner_id = ? AND person_id = ?`},
	{table: "persons", where: `partner_id = ? AND id = ?`},
	{table: "data_keys", where: `partner_id = ? AND owner = ?`},
}

// ErasePerson implements [kyc.Tx].
func (t *tx) ErasePerson(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID, reason kyc.ErasureReason, at time.Time) (erasure *kyc.Erasure, err error) {
	err = t.use(ctx, "store.erase_person", func(_ context.Context, q *session) error {
		var subjects, older []string
		for _, o := range ofPerson {
			if o.subject == "" {
				continue
			}
			var some []string
			if err := q.all(untimed, &some, `SELECT `+o.subject+` FROM `+o.table+` WHERE `+o.where, partner, id); err != nil {
				return err
			}
			subjects = append(subjects, some...)
			if o.table == "processes" || o.table == "faces" {
				older = append(older, some...)
			}
		}
		providers, err := t.sentTo(q, partner, subjects)
		if err != nil {
			return err
		}
		if providers, err = t.facesAt(q, partner, id, providers); err != nil {
			return err
		}
		if providers, err = t.processesAt(q, partner, id, providers); err != nil {
			return err
		}
		for _, s := range subjects {
			if _, err := q.exec(`DELETE FROM jobs WHERE subject = ? AND partner_id = ?`, s, partner); err != nil {
				return err
			}
			if _, err := q.exec(`UPDATE provider_calls SET outcome = 'AMBIGUOUS', code = 'erased', ended_at = ?
				WHERE partner_id = ? AND reference = ? AND outcome IS NULL`, newMicros(at), partner, s); err != nil {
				return err
			}
		}
		if err := t.dropEvents(q, partner, id); err != nil { // before the loop would: somebody may be following
			return err
		}
		for _, o := range ofPerson {
			if _, err := q.exec(`DELETE FROM `+o.table+` WHERE `+o.where, partner, id); err != nil {
				return err
			}
		}
		t.opened = nil // its key among them
		text, err := json.Marshal(providers)
		if err != nil {
			return err
		}
		erasure = &kyc.Erasure{PartnerID: partner, PersonID: id, Status: kyc.ErasureDone, Reason: reason, Providers: providers, CompletedAt: &at, Subjects: older}
		_, err = q.exec(`INSERT INTO erasures (partner_id, person_id, reason, providers, completed_at) VALUES (?, ?, ?, ?, ?)`,
			partner, id, reason, string(text), newMicros(at))
		return err
	})
	return erasure, err
}

// sentTo names the providers that the ledger knows calls about these references to, whatever became of them.
func (t *tx) sentTo(q *session, partner kyc.PartnerID, references []string) ([]*kyc.ProviderErasure, error) {
	providers := []*kyc.ProviderErasure{}
	for _, reference := range references {
		var names []string
		if err := q.all(untimed, &names, `SELECT DISTINCT provider FROM provider_calls
			WHERE partner_id = ? AND reference = ? AND (outcome IS NULL OR outcome <> 'UNAVAILABLE') ORDER BY provider`, partner, reference); err != nil {
			return nil, err
		}
		for _, name := range names {
			providers = addReference(providers, name, reference)
		}
	}
	return providers, nil
}

// facesAt adds the faces of a person under the keys their provider knows them by, in the place of ours.
func (t *tx) facesAt(q *session, partner kyc.PartnerID, person kyc.PersonID, providers []*kyc.ProviderErasure) ([]*kyc.ProviderErasure, error) {
	var faces []providersOwn
	if err := q.all(untimed, &faces, `SELECT id, provider, registration_key AS own FROM faces
		WHERE partner_id = ? AND person_id = ? AND registration_key IS NOT NULL ORDER BY id`, partner, person); err != nil {
		return nil, err
	}
	return underOwn(providers, faces), nil
}

// processesAt does the same for processes.
func (t *tx) processesAt(q *session, partner kyc.PartnerID, person kyc.PersonID, providers []*kyc.ProviderErasure) ([]*kyc.ProviderErasure, error) {
	var processes []providersOwn
	if err := q.all(untimed, &processes, `SELECT id, provider, provider_process_id AS own FROM processes
		WHERE partner_id = ? AND person_id = ? AND provider_process_id IS NOT NULL ORDER BY id`, partner, person); err != nil {
		return nil, err
	}
	return underOwn(providers, processes), nil
}

// providersOwn is an object of ours and what its provider calls it.
type providersOwn struct {
	ID       string `db:"id"`
	Provider string `db:"provider"`
	Own      string `db:"own"`
}

func underOwn(providers []*kyc.ProviderErasure, objects []providersOwn) []*kyc.ProviderErasure {
	for _, o := range objects {
		for _, p := range providers {
			p.References = slices.DeleteFunc(p.References, func(r string) bool { return r == o.ID })
		}
		providers = addReference(providers, o.Provider, o.Own)
	}
	return providers
}

func addReference(providers []*kyc.ProviderErasure, name, reference string) []*kyc.ProviderErasure {
	for _, p := range providers {
		if p.Provider == name {
			p.References = append(p.References, reference)
			return providers
		}
	}
	return append(providers, &kyc.ProviderErasure{Provider: name, Status: kyc.ProviderErasureManual, References: []string{reference}})
}

// erasureRow is a row of erasures.
type erasureRow struct {
	PartnerID   string `db:"partner_id"`
	PersonID    string `db:"person_id"`
	Reason      string `db:"reason"`
	Providers   string `db:"providers"`
	CompletedAt micros `db:"completed_at"`
}

func (r *erasureRow) erasure() (*kyc.Erasure, error) {
	e := &kyc.Erasure{
		PartnerID: kyc.PartnerID(r.PartnerID), PersonID: kyc.PersonID(r.PersonID), Status: kyc.ErasureDone,
		Reason: kyc.ErasureReason(r.Reason), CompletedAt: new(r.CompletedAt.time()),
	}
	return e, json.Unmarshal([]byte(r.Providers), &e.Providers)
}

// Erasure implements [kyc.Reader].
func (r reader) Erasure(ctx context.Context, partner kyc.PartnerID, id kyc.PersonID) (erasure *kyc.Erasure, err error) {
	err = r.use(ctx, "store.erasure", func(_ context.Context, q *session) error {
		var row erasureRow
		found, err := q.get(&row, `SELECT partner_id, person_id, reason, providers, completed_at FROM erasures
			WHERE partner_id = ? AND person_id = ?`, partner, id)
		if found {
			erasure, err = row.erasure()
		}
		return err
	})
	return erasure, err
}

// Erasures implements [kyc.Reader]. It is asked at the start only and goes over all partners.
func (r reader) Erasures(ctx context.Context) (erasures []*kyc.Erasure, err error) {
	err = r.use(ctx, "store.erasures", func(ctx context.Context, q *session) error {
		var rows []erasureRow
		if err := q.all(ctx, &rows, `SELECT partner_id, person_id, reason, providers, completed_at FROM erasures ORDER BY completed_at`); err != nil {
			return err
		}
		for i := range rows {
			e, err := rows[i].erasure()
			if err != nil {
				return err
			}
			erasures = append(erasures, e)
		}
		return nil
	})
	return erasures, err
}

// Scrub implements [kyc.Store]: what was deleted is gone from the log too. The pages of the database were overwritten when they
// were deleted (secure_delete). A log that a reader holds on to is emptied after one of the next commits.
func (s *Store) Scrub(ctx context.Context) error {
	return s.writer.between(ctx, func() error {
		s.writer.scrubDue = true
		s.writer.checkpoint()
		return nil
	})
}
