package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// PersonState makes the next version of a person of whom something has changed, or nil when nothing that its followers see has. It is
// asked inside the transaction, and must use tx only.
type PersonState func(ctx context.Context, tx kyc.Tx, c kyc.PersonChange) (*kyc.PersonVersion, error)

// change is a new version of an object.
type change struct {
	partner kyc.PartnerID
	subject string // the object's id
	version int
	kind    kyc.EventKind
	person  kyc.PersonID // whose it is; "" while nobody is known
	state   any          // how it stands, in a struct without personal data
	fact    any          // the object itself, for the version of its person
	at      time.Time
}

// changed records a new version of an object and that something of its person has changed. Every method that writes a version calls
// it, so that nobody else has to think of it. Version 0, which nobody may see, is no event.
func (t *tx) changed(q *session, c change) error {
	if c.person != "" {
		if c.version > 1 {
			// What was recorded before anybody was known is theirs too.
			if _, err := q.exec(`UPDATE events SET person_id = ? WHERE partner_id = ? AND subject = ? AND person_id = ''`, c.person, c.partner, c.subject); err != nil {
				return err
			}
		}
		t.touch(touched{partner: c.partner, person: c.person, kind: c.kind, object: c.subject, at: c.at}, c.fact)
	}
	if c.version == 0 {
		return nil
	}
	state, err := json.Marshal(c.state)
	if err != nil {
		return err
	}
	return t.insertEvent(q, &eventRow{
		PartnerID: string(c.partner), Subject: c.subject, Version: c.version, Kind: string(c.kind), Object: c.subject,
		PersonID: string(c.person), State: string(state), At: newMicros(c.at),
	})
}

// touched is a person of whom something has changed in a transaction.
type touched struct {
	partner kyc.PartnerID
	person  kyc.PersonID
	kind    kyc.EventKind
	object  string
	at      time.Time

	facts  []any // what it is now: copies, in the order of the changes
	fresh  bool  // the person was made in this transaction
	reread bool  // more has changed than the facts say
}

// touch notes that something of a person has changed, to the fact if there is one. The transaction makes at most one version of it in
// the end.
func (t *tx) touch(c touched, fact any) {
	if fact != nil {
		c.facts = []any{fact}
	} else {
		c.reread = true
	}
	for i, other := range t.persons {
		if other.partner == c.partner && other.person == c.person {
			c.facts = append(other.facts, c.facts...)
			c.fresh, c.reread = c.fresh || other.fresh, c.reread || other.reread
			t.persons[i] = c
			return
		}
	}
	t.persons = append(t.persons, c)
}

// touchOwner notes that an object is about to go from the person that query names.
func (t *tx) touchOwner(q *session, query string, partner kyc.PartnerID, kind kyc.EventKind, object string) error {
	var person *string
	_, err := q.value(untimed, &person, query, partner, object)
	if err == nil && person != nil {
		t.touch(touched{partner: partner, person: kyc.PersonID(*person), kind: kind, object: object, at: t.now()}, nil)
	}
	return err
}

// publish gives the persons of whom something has changed their new versions.
func (t *tx) publish(ctx context.Context, state PersonState) error {
	for len(t.persons) > 0 {
		c := t.persons[0]
		t.persons = t.persons[1:]
		version := &kyc.PersonVersion{}
		var err error
		if state == nil {
			var accepted int
			err = t.use(ctx, "store.publish", func(ctx context.Context, q *session) error {
				// There is none to publish of somebody who is gone again or was not accepted yet.
				_, err := q.value(ctx, &accepted, `SELECT version FROM persons WHERE partner_id = ? AND id = ?`, c.partner, c.person)
				return err
			})
			if accepted == 0 {
				version = nil
			}
		} else {
			version, err = state(ctx, t, kyc.PersonChange{PartnerID: c.partner, PersonID: c.person, At: c.at, Facts: c.facts, Fresh: c.fresh, Reread: c.reread})
		}
		if err != nil {
			return err
		}
		if version == nil {
			continue
		}
		err = t.use(ctx, "store.publish", func(ctx context.Context, q *session) error {
			if version.Version == 0 {
				newest, err := newestVersion(ctx, q, c.partner, string(c.person))
				if err != nil {
					return err
				}
				version.Version = newest + 1
			}
			return t.insertEvent(q, &eventRow{
				PartnerID: string(c.partner), Subject: string(c.person), Version: version.Version, Kind: string(c.kind), Object: c.object,
				PersonID: string(c.person), State: string(version.State), At: newMicros(c.at),
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) insertEvent(q *session, row *eventRow) error {
	// An object may be written again without a change that anybody sees: then it keeps its version.
	n, err := q.execRow(`INSERT INTO events (partner_id, subject, version, kind, object, person_id, state, at)
		VALUES (:partner_id, :subject, :version, :kind, :object, :person_id, :state, :at) ON CONFLICT (partner_id, subject, version) DO NOTHING`, row)
	if n > 0 {
		t.wake = append(t.wake, subjectKey{kyc.PartnerID(row.PartnerID), row.Subject})
	}
	return err
}

// dropEvents deletes what is recorded of a person and all that is theirs, and wakes who follows it, to learn that it is gone.
func (t *tx) dropEvents(q *session, partner kyc.PartnerID, person kyc.PersonID) error {
	var subjects []string
	if err := q.all(untimed, &subjects, `SELECT DISTINCT subject FROM events WHERE partner_id = ? AND person_id = ?`, partner, person); err != nil {
		return err
	}
	for _, s := range subjects {
		t.wake = append(t.wake, subjectKey{partner, s})
	}
	_, err := q.exec(`DELETE FROM events WHERE partner_id = ? AND person_id = ?`, partner, person)
	return err
}

// subjectKey names a subject to whom it may concern.
type subjectKey struct {
	partner kyc.PartnerID
	subject string
}

// eventRow is a row of events.
type eventRow struct {
	PartnerID string `db:"partner_id"`
	Subject   string `db:"subject"`
	Version   int    `db:"version"`
	Kind      string `db:"kind"`
	Object    string `db:"object"`
	PersonID  string `db:"person_id"`
	State     string `db:"state"`
	At        micros `db:"at"`
}

func newestVersion(ctx context.Context, q *session, partner kyc.PartnerID, subject string) (n int, err error) {
	_, err = q.value(ctx, &n, `SELECT coalesce(max(version), 0) FROM events WHERE partner_id = ? AND subject = ?`, partner, subject)
	return n, err
}

// EventsSince implements [kyc.Reader].
func (r reader) EventsSince(ctx context.Context, partner kyc.PartnerID, subject string, version, limit int) (events []kyc.Event, newest int, err error) {
	err = r.use(ctx, "store.events_since", func(ctx context.Context, q *session) error {
		// Asked for first: an event that comes between the two is in the list or in the next one.
		if newest, err = newestVersion(ctx, q, partner, subject); err != nil || newest <= version || limit <= 0 {
			return err
		}
		var rows []eventRow
		if err := q.all(ctx, &rows, `SELECT partner_id, subject, version, kind, object, person_id, state, at FROM events
			WHERE partner_id = ? AND subject = ? AND version > ? ORDER BY version LIMIT ?`, partner, subject, version, limit); err != nil {
			return err
		}
		events = make([]kyc.Event, len(rows))
		for i, row := range rows {
			events[i] = kyc.Event{
				PartnerID: partner, Subject: subject, Version: row.Version, Kind: kyc.EventKind(row.Kind), Object: row.Object, At: row.At.time(),
			}
			if row.State != "" {
				events[i].State = []byte(row.State)
			}
		}
		return nil
	})
	return events, newest, err
}
