package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// personRoundTrip: every field comes back, by every way to ask.
func personRoundTrip(t *testing.T, b *bench) {
	bare := newPerson(acme)
	bare.Emails, bare.Phones = nil, nil
	odd := newPerson(acme)
	odd.Name = kyc.NewName(`Robert'); DROP TABLE persons;-- % _ {{7*7}} 💚 <&> ` + "\r\n\u2028")
	odd.Address.Street = kyc.NewPersonalText(`"\u0000" \ /`)
	nobody := newPerson(acme)
	nobody.DocumentNumber = kyc.DocumentNumber{}
	nobodyElse := newPerson(acme)
	nobodyElse.DocumentNumber = kyc.DocumentNumber{} // any number of persons may have none
	for name, p := range map[string]*kyc.Person{
		"full": newFullPerson(acme), "required only": newPerson(acme), "without contacts": bare, "odd text": odd,
		"without document": nobody, "another without document": nobodyElse,
	} {
		b.add(p)
		same(t, name, b.person(acme, p.ID), p)
		found, err := b.PersonByDocument(ctx, acme, p.DocumentNumber)
		if err != nil {
			t.Fatal(err)
		}
		if p.DocumentNumber.Empty() {
			p = nil
		}
		same(t, name+" by document", found, p)
	}
	if b.person(acme, kyc.NewPersonID()) != nil {
		t.Error("found somebody who does not exist")
	}
}

// personUpdate: everything is overwritten but id, partner and creation time, and the document cannot be another.
func personUpdate(t *testing.T, b *bench) {
	for _, change := range []struct{ from, to *kyc.Person }{
		{newPerson(acme), newFullPerson(acme)},
		{newFullPerson(acme), newPerson(acme)}, // and taken away again
	} {
		b.add(change.from)
		update := *change.to
		update.ID = change.from.ID
		update.CreatedAt = epoch.Add(time.Hour)
		wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, &update) }), kyc.Internal)
		update.DocumentNumber = change.from.DocumentNumber
		b.write(func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, &update) })
		update.CreatedAt = change.from.CreatedAt
		same(t, "updated person", b.person(acme, update.ID), &update)
	}
	err := b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, newPerson(acme)) })
	wantKind(t, err, kyc.Internal)
}

// personDelete: what belongs to the person goes along, what belongs to others stays.
func personDelete(t *testing.T, b *bench) {
	gone, stays := newPerson(acme), newPerson(acme)
	for _, p := range []*kyc.Person{gone, stays} {
		r := newRegistration(p)
		a := newAnalysis(p, r)
		b.add(p, r, a, &kyc.Job{ID: kyc.NewJobID(), Kind: kyc.JobAnalysis, PartnerID: acme, Subject: string(a.ID), RunAt: epoch, CreatedAt: epoch})
		b.write(func(tx kyc.Tx) error {
			if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "analyze_person", Reference: string(a.ID), Number: 1, StartedAt: epoch}); err != nil {
				return err
			}
			return tx.MapExternalID(ctx, acme, p.ID, kyc.ExternalID{Value: "ext " + string(p.ID), MappedAt: epoch})
		})
		if p == gone {
			b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, p.ID) })
			b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, p.ID) }) // nobody left to delete
		}
		want := 1
		if p == gone {
			want = 0
		}
		analysis, err := b.Analysis(ctx, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		byExternalID, err := b.PersonByExternalID(ctx, acme, "ext "+string(p.ID))
		if err != nil {
			t.Fatal(err)
		}
		byDocument, err := b.PersonByDocument(ctx, acme, p.DocumentNumber)
		if err != nil {
			t.Fatal(err)
		}
		counts, err := b.CountRegistrations(ctx, acme, []kyc.PersonID{p.ID})
		if err != nil {
			t.Fatal(err)
		}
		ids, err := b.ExternalIDs(ctx, acme, []kyc.PersonID{p.ID})
		if err != nil {
			t.Fatal(err)
		}
		if (analysis != nil) != (want == 1) || (byExternalID != nil) != (want == 1) || (byDocument != nil) != (want == 1) ||
			counts[p.ID] != want || len(ids[p.ID]) != want {
			t.Errorf("want %d of each, got analysis %v, person by external id %v, by document %v, registrations %d, external ids %d",
				want, analysis != nil, byExternalID != nil, byDocument != nil, counts[p.ID], len(ids[p.ID]))
		}
	}
	// The document is free again.
	again := newPerson(acme)
	again.DocumentNumber = gone.DocumentNumber
	b.add(again)
}

// personsPages: newest first by id, each page starting after the last, nobody else's persons.
func personsPages(t *testing.T, b *bench) {
	var want []kyc.PersonID
	for range 7 {
		p := newFullPerson(acme)
		b.add(p, newPerson(other))
		want = append(want, p.ID)
	}
	newestFirst(want)
	for first := 1; first <= 8; first++ {
		var got []kyc.PersonID
		page := kyc.Page{First: first}
		for more := true; more; {
			var rows []*kyc.Person
			var err error
			if rows, more, err = b.Persons(ctx, acme, kyc.PersonFilter{}, page); err != nil {
				t.Fatal(err)
			}
			if len(rows) > first || more && len(rows) < first || len(rows) == 0 {
				t.Fatalf("a page of %d rows for first %d, more = %v", len(rows), first, more)
			}
			for _, p := range rows {
				got = append(got, p.ID)
			}
			same(t, "first of the page", rows[0], b.person(acme, rows[0].ID))
			page.After = string(got[len(got)-1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", first, got, want)
		}
	}
	for _, first := range []int{0, -1} {
		if rows, more, err := b.Persons(ctx, acme, kyc.PersonFilter{}, kyc.Page{First: first}); len(rows) != 0 || !more || err != nil {
			t.Errorf("first %d: %d rows, more = %v, %v", first, len(rows), more, err)
		}
	}
	if rows, more, err := b.Persons(ctx, "nobody", kyc.PersonFilter{}, kyc.Page{First: 10}); len(rows) != 0 || more || err != nil {
		t.Errorf("a partner without persons has %d, more = %v, %v", len(rows), more, err)
	}
}

// newestFirst sorts by id, which is what newest means here. Two ids of the same millisecond may be out of order when others make some
// at the same time.
func newestFirst[T ~string](ids []T) {
	slices.SortFunc(ids, func(a, b T) int { return cmp.Compare(b, a) })
}

// personsFilter: lists and counts agree on every combination of filters.
func personsFilter(t *testing.T, b *bench) {
	statuses := []kyc.KycStatus{kyc.KycNotRequired, kyc.KycPending, kyc.KycInReview, kyc.KycApproved, kyc.KycRejected}
	var all []*kyc.Person
	for i := range 10 {
		p := newPerson(acme)
		p.Kyc.Status = statuses[i%len(statuses)]
		p.CreatedAt = epoch.Add(time.Duration(i) * time.Microsecond)
		foreign := newPerson(other)
		foreign.Kyc.Status, foreign.CreatedAt = p.Kyc.Status, p.CreatedAt
		b.add(p, foreign)
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *kyc.Person) int { return cmp.Compare(b.ID, a.ID) })
	var status []*kyc.KycStatus
	var times []*time.Time
	for _, s := range append(statuses, "") {
		status = append(status, &s)
	}
	for i := -1; i < 11; i += 2 {
		times = append(times, new(epoch.Add(time.Duration(i)*time.Microsecond)))
	}
	status[len(status)-1] = nil
	times = append(times, nil)
	for _, s := range status {
		for _, after := range times {
			for _, before := range times {
				var want []kyc.PersonID
				for _, p := range all {
					if (s == nil || p.Kyc.Status == *s) && (after == nil || p.CreatedAt.After(*after)) && (before == nil || p.CreatedAt.Before(*before)) {
						want = append(want, p.ID)
					}
				}
				filter := kyc.PersonFilter{KycStatus: s, CreatedAfter: after, CreatedBefore: before}
				rows, _, err := b.Persons(ctx, acme, filter, kyc.Page{First: 100})
				if err != nil {
					t.Fatal(err)
				}
				var got []kyc.PersonID
				for _, p := range rows {
					got = append(got, p.ID)
				}
				n, err := b.CountPersons(ctx, acme, filter)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) || n != len(want) {
					t.Errorf("filter %v: listed %d, counted %d, want %d", fmt.Sprint(s, after, before), len(got), n, len(want))
				}
			}
		}
	}
}

// onePersonADocument: of 200 at once, one wins and all others are told.
func onePersonADocument(t *testing.T, b *bench) {
	document := newPerson(acme).DocumentNumber
	var won, conflicts atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			p := newPerson(acme)
			p.DocumentNumber = document
			switch err := b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertPerson(ctx, p) }); {
			case err == nil:
				won.Add(1)
			case kyc.KindOf(err) == kyc.Conflict:
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n, err := b.CountPersons(ctx, acme, kyc.PersonFilter{})
	if won.Load() != 1 || conflicts.Load() != 199 || n != 1 || err != nil {
		t.Errorf("%d won, %d conflicts, %d persons, %v; want 1, 199, 1", won.Load(), conflicts.Load(), n, err)
	}
	foreign := newPerson(other)
	foreign.DocumentNumber = document
	b.add(foreign) // another partner's person is another person
}

// externalIDs: they accumulate in the order they were mapped, each belongs to one person of the partner.
func externalIDs(t *testing.T, b *bench) {
	p, q, foreign := newPerson(acme), newPerson(acme), newPerson(other)
	b.add(p, q, foreign)
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	mapped := []struct {
		value string
		at    time.Time
	}{ // "z" to "a" so that no alphabetical order can pass for the order of mapping
		{"z", at(0)}, {"y", at(0)}, {"x", at(0)}, {"last", at(time.Hour)}, {"early", at(-time.Hour)}, {"w", at(0)}, {"a", at(0)},
	}
	for _, m := range mapped {
		b.write(func(tx kyc.Tx) error {
			return tx.MapExternalID(ctx, acme, p.ID, kyc.ExternalID{Value: m.value, MappedAt: m.at})
		})
	}
	check := func(want ...string) {
		t.Helper()
		found, err := b.ExternalIDs(ctx, acme, []kyc.PersonID{p.ID})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range found[p.ID] {
			got = append(got, e.Value)
			for _, m := range mapped {
				if m.value == e.Value && !m.at.Equal(e.MappedAt) {
					t.Errorf("%s was mapped at %s, want %s", e.Value, e.MappedAt, m.at)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("early", "z", "y", "x", "w", "a", "last")

	for _, taker := range []kyc.PersonID{p.ID, q.ID} {
		err := b.Write(ctx, func(tx kyc.Tx) error {
			return tx.MapExternalID(ctx, acme, taker, kyc.ExternalID{Value: "x", MappedAt: epoch})
		})
		wantKind(t, err, kyc.Conflict)
	}
	b.write(func(tx kyc.Tx) error {
		if err := tx.MapExternalID(ctx, other, foreign.ID, kyc.ExternalID{Value: "x", MappedAt: epoch}); err != nil {
			return err // another partner's "x" is another id
		}
		if err := tx.UnmapExternalID(ctx, acme, "x"); err != nil {
			return err
		}
		return tx.UnmapExternalID(ctx, acme, "never mapped")
	})
	check("early", "z", "y", "w", "a", "last")
	for value, want := range map[string]*kyc.Person{"z": p, "x": nil, "Z": nil, "": nil} {
		found, err := b.PersonByExternalID(ctx, acme, value)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "person by "+value, found, want)
	}
	found, err := b.PersonByExternalID(ctx, other, "x")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the other partner's", found, foreign)
	err = b.Write(ctx, func(tx kyc.Tx) error {
		return tx.MapExternalID(ctx, acme, foreign.ID, kyc.ExternalID{Value: "stray", MappedAt: epoch})
	})
	wantKind(t, err, kyc.Internal) // to another partner's person
}

// externalIDsOfMany: any number at once, asked for twice or not there at all.
func externalIDsOfMany(t *testing.T, b *bench) {
	const persons = 300
	var ids []kyc.PersonID
	b.write(func(tx kyc.Tx) error {
		for i := range persons {
			p := newPerson(acme)
			if err := tx.InsertPerson(ctx, p); err != nil {
				return err
			}
			ids = append(ids, p.ID)
			for n := range i % 3 {
				if err := tx.MapExternalID(ctx, acme, p.ID, kyc.ExternalID{Value: fmt.Sprint(i, " ", n), MappedAt: epoch}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, n := range []int{0, 1, 2, 3, 127, 128, 129, persons} {
		asked := append(slices.Clone(ids[:n]), kyc.NewPersonID())
		asked = append(asked, asked...)
		found, err := b.ExternalIDs(ctx, acme, asked)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			want := i % 3
			if i >= n {
				want = 0
			}
			list, present := found[id]
			if len(list) != want || present != (want > 0) {
				t.Fatalf("of %d persons, number %d: %d ids, present = %v; want %d", n, i, len(list), present, want)
			}
			for k, e := range list {
				if e.Value != fmt.Sprint(i, " ", k) {
					t.Fatalf("number %d has %q", i, e.Value)
				}
			}
		}
	}
	if found, err := b.ExternalIDs(ctx, acme, nil); len(found) != 0 || err != nil {
		t.Errorf("nobody's ids: %v, %v", found, err)
	}
}

// tenancy: whatever is asked in another partner's name does not exist.
func tenancy(t *testing.T, b *bench) {
	p := newFullPerson(acme)
	r := newRegistration(p)
	key := &kyc.IdempotentAnswer{PartnerID: acme, Key: "key", Mutation: "registerPerson", PersonID: p.ID, ObjectID: string(kyc.NewRegistrationID()), CreatedAt: epoch}
	b.add(p, r, idempotent{key, []byte{1}})
	b.write(func(tx kyc.Tx) error {
		return tx.MapExternalID(ctx, acme, p.ID, kyc.ExternalID{Value: "ext", MappedAt: epoch})
	})
	one := []kyc.PersonID{p.ID}
	for _, partner := range []kyc.PartnerID{other, "", "ACME", "acm_", "%"} {
		for name, found := range map[string]func() (bool, error){
			"PersonByID": func() (bool, error) { v, err := b.PersonByID(ctx, partner, p.ID); return v != nil, err },
			"PersonByDocument": func() (bool, error) {
				v, err := b.PersonByDocument(ctx, partner, p.DocumentNumber)
				return v != nil, err
			},
			"PersonByExternalID": func() (bool, error) { v, err := b.PersonByExternalID(ctx, partner, "ext"); return v != nil, err },
			"Persons": func() (bool, error) {
				v, more, err := b.Persons(ctx, partner, kyc.PersonFilter{}, kyc.Page{First: 10})
				return len(v) > 0 || more, err
			},
			"CountPersons": func() (bool, error) { n, err := b.CountPersons(ctx, partner, kyc.PersonFilter{}); return n != 0, err },
			"ExternalIDs":  func() (bool, error) { v, err := b.ExternalIDs(ctx, partner, one); return len(v) > 0, err },
			"Registrations": func() (bool, error) {
				v, err := b.Registrations(ctx, partner, one, kyc.Page{First: 10})
				return len(v) > 0, err
			},
			"CountRegistrations": func() (bool, error) { v, err := b.CountRegistrations(ctx, partner, one); return len(v) > 0, err },
			"Registration":       func() (bool, error) { v, err := b.Registration(ctx, partner, p.ID, r.ID); return v != nil, err },
			"Idempotent": func() (bool, error) {
				var v *kyc.IdempotentAnswer
				err := b.Write(ctx, func(tx kyc.Tx) (err error) {
					v, _, err = tx.Idempotent(ctx, partner, "key", []byte{1}, time.Time{})
					return err
				})
				return v != nil, err
			},
		} {
			if got, err := found(); got || err != nil {
				t.Errorf("%s for partner %q: found = %v, %v", name, partner, got, err)
			}
		}
		b.write(func(tx kyc.Tx) error {
			if err := tx.DeletePerson(ctx, partner, p.ID); err != nil {
				return err
			}
			if err := tx.UnmapExternalID(ctx, partner, "ext"); err != nil {
				return err
			}
			if err := tx.DeleteRegistration(ctx, partner, p.ID, r.ID); err != nil {
				return err
			}
			return tx.DeleteIdempotent(ctx, partner, "key")
		})
		stolen := *p
		stolen.PartnerID = partner
		wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, &stolen) }), kyc.Internal)
		foreign := newRegistration(&stolen)
		wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertRegistration(ctx, foreign) }), kyc.Internal)
		wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertAnalysis(ctx, newAnalysis(&stolen, foreign)) }), kyc.Internal)
	}
	same(t, "the person", b.person(acme, p.ID), p)
	found, err := b.PersonByExternalID(ctx, acme, "ext")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the person by external id", found, p)
	registration, err := b.Registration(ctx, acme, p.ID, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the registration", registration, r)
	b.write(func(tx kyc.Tx) error {
		answer, again, err := tx.Idempotent(ctx, acme, "key", []byte{1}, time.Time{})
		same(t, "the idempotency key", answer, key)
		if !again {
			t.Error("the request is not the same any more")
		}
		return err
	})
}
