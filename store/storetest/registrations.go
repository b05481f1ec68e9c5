package storetest

import (
	"bytes"
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// registrations: the payload comes back byte for byte, the profile as it stood then.
func registrations(t *testing.T, b *bench) {
	p := newPerson(acme)
	b.add(p)
	for name, payload := range map[string]string{
		"plain":          `{"name":"Maria","documentNumber":"529.982.247-25"}`,
		"order and form": " {\"b\" : 1.0,\n\t\"a\":[ ],\"b\":2, \"e\":\"\\u00e9\", \"big\":12345678901234567890.10}\n",
		"not ASCII":      `{"name":"João 💚","nul":"\u0000"}`,
		"not an object":  `"text"`,
		"large":          `{"text":"` + string(bytes.Repeat([]byte("x"), 1<<20)) + `"}`,
	} {
		r := newRegistration(newFullPerson(acme))
		r.PersonID = p.ID
		r.Payload = kyc.JSON(payload)
		r.ExternalID = new("ext " + name)
		b.add(r)
		got, err := b.Registration(ctx, acme, p.ID, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, got, r)
	}
	r := newRegistration(p)
	b.add(r)
	same(t, "without an external id", must(b.Registration(ctx, acme, p.ID, r.ID))(t), r)
	b.write(func(tx kyc.Tx) error { return tx.DeleteRegistration(ctx, acme, p.ID, r.ID) })
	if must(b.Registration(ctx, acme, p.ID, r.ID))(t) != nil {
		t.Error("a deleted registration is there")
	}
	b.write(func(tx kyc.Tx) error { return tx.DeleteRegistration(ctx, acme, p.ID, r.ID) })

	stray := newRegistration(newPerson(acme))
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertRegistration(ctx, stray) }), kyc.Internal) // of nobody
	b.add(r)
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertRegistration(ctx, r) }), kyc.Conflict)
}

// registrationsAccepted: what has no outcome is in no list and no count, and says nothing about the person.
func registrationsAccepted(t *testing.T, b *bench) {
	hidden, shown := newPerson(acme), newPerson(acme)
	hidden.Version = 0
	b.add(hidden)
	b.add(shown)
	var rs []*kyc.Registration
	for i, name := range []string{"first", "second", "third"} {
		r := newRegistration(shown)
		r.Profile.Name, r.Outcome, r.ExternalID = kyc.NewName(name), "", new(name)
		if i == 0 {
			r.Outcome = kyc.OutcomeCreated
		}
		b.add(r)
		rs = append(rs, r)
	}
	names := func(before kyc.RegistrationID) (out string) {
		for _, p := range must(b.AcceptedProfiles(ctx, acme, shown.ID, before))(t) {
			out += p.Name.Reveal() + " "
		}
		return out
	}
	counted := func() int { return must(b.CountRegistrations(ctx, acme, []kyc.PersonID{shown.ID}))(t)[shown.ID] }
	if n, p := counted(), names(""); n != 1 || p != "first " {
		t.Errorf("counted %d, profiles %q", n, p)
	}
	if n := len(must(b.Registrations(ctx, acme, []kyc.PersonID{shown.ID}, kyc.Page{First: 10}))(t)[shown.ID]); n != 1 {
		t.Errorf("listed %d", n)
	}
	b.write(func(tx kyc.Tx) error {
		return tx.AcceptRegistration(ctx, acme, shown.ID, rs[2].ID, kyc.OutcomeUpdated)
	})
	if n, p := counted(), names(""); n != 2 || p != "first third " {
		t.Errorf("counted %d, profiles %q", n, p)
	}
	if p := names(rs[2].ID); p != "first " {
		t.Errorf("before the third: %q", p)
	}
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error {
		return tx.AcceptRegistration(ctx, other, shown.ID, rs[1].ID, kyc.OutcomeUpdated)
	}), kyc.Internal)

	left := func(externalID string) (some, withID bool) {
		b.write(func(tx kyc.Tx) (err error) {
			some, withID, err = tx.RegistrationsLeft(ctx, acme, shown.ID, &externalID)
			return err
		})
		return some, withID
	}
	if some, with := left("second"); !some || !with {
		t.Error("a registration that is not accepted is not counted as left")
	}
	b.write(func(tx kyc.Tx) error { return tx.DeleteRegistration(ctx, acme, shown.ID, rs[1].ID) })
	if some, with := left("second"); !some || with {
		t.Errorf("after deleting: left %v, with the id %v", some, with)
	}

	page, _, err := b.Persons(ctx, acme, kyc.PersonFilter{}, kyc.Page{First: 10})
	if err != nil || len(page) != 1 || page[0].ID != shown.ID || must(b.CountPersons(ctx, acme, kyc.PersonFilter{}))(t) != 1 {
		t.Errorf("a person nobody accepted is in the list: %d rows, %v", len(page), err)
	}
	if must(b.PersonByID(ctx, acme, hidden.ID))(t) == nil {
		t.Error("the person itself must be found, so that its document is taken")
	}
}

// registrationsPages: newest first, a page for each person and one row more when there is more.
func registrationsPages(t *testing.T, b *bench) {
	var persons []kyc.PersonID
	want := make(map[kyc.PersonID][]*kyc.Registration)
	for n := range 6 {
		p := newPerson(acme)
		b.add(p)
		persons = append(persons, p.ID)
		for i := range n {
			r := newRegistration(p)
			r.ReceivedAt = epoch.Add(-time.Duration(i) * time.Second) // the order is that of the ids
			b.add(r)
			r.Profile = kyc.Profile{}
			want[p.ID] = append(want[p.ID], r)
		}
		slices.SortFunc(want[p.ID], func(a, b *kyc.Registration) int { return cmp.Compare(b.ID, a.ID) })
	}
	counts := must(b.CountRegistrations(ctx, acme, persons))(t)
	for n, id := range persons {
		if count, present := counts[id]; count != n || present != (n > 0) {
			t.Errorf("counted %d, present = %v; want %d", count, present, n)
		}
	}
	after := []string{"", string(kyc.NewRegistrationID()), "reg_0"}
	for _, list := range want {
		for _, r := range list {
			after = append(after, string(r.ID))
		}
	}
	for _, first := range []int{0, 1, 2, 5, 100} {
		for _, a := range after {
			got := must(b.Registrations(ctx, acme, append(persons, kyc.NewPersonID(), persons[0]), kyc.Page{First: first, After: a}))(t)
			for _, id := range persons {
				page := slices.Clone(want[id])
				page = slices.DeleteFunc(page, func(r *kyc.Registration) bool { return a != "" && string(r.ID) >= a })
				page = page[:min(len(page), first+1)]
				if len(got[id]) != len(page) {
					t.Fatalf("first %d after %q: %d rows, want %d", first, a, len(got[id]), len(page))
				}
				if _, present := got[id]; present != (len(page) > 0) {
					t.Fatalf("present = %v without rows", present)
				}
				for i := range page {
					same(t, "a listed registration", got[id][i], page[i])
				}
			}
		}
	}
}

// analyses: every field, found by id alone.
func analyses(t *testing.T, b *bench) {
	p := newPerson(acme)
	r := newRegistration(p)
	a := newAnalysis(p, r)
	b.add(p, r, a)
	same(t, "a planned analysis", must(b.Analysis(ctx, a.ID))(t), a)

	update := *a
	update.Submission, update.Status = kyc.SubmissionAccepted, kyc.KycApproved
	update.ProviderStatus, update.ProviderKey, update.Reason = "manually_approved", "key-1", "ok"
	update.DecidedBy, update.DecidedAt = new(kyc.DecidedManual), new(epoch.Add(time.Minute))
	update.UpdatedAt = epoch.Add(time.Minute)
	b.write(func(tx kyc.Tx) error { return tx.UpdateAnalysis(ctx, &update) })
	same(t, "a decided analysis", must(b.Analysis(ctx, a.ID))(t), &update)
	for _, s := range []kyc.Submission{kyc.SubmissionPlanned, kyc.SubmissionSent, kyc.SubmissionAmbiguous, kyc.SubmissionAccepted, kyc.SubmissionRefused} {
		update.Submission = s
		b.write(func(tx kyc.Tx) error { return tx.UpdateAnalysis(ctx, &update) })
	}

	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertAnalysis(ctx, a) }), kyc.Conflict)
	update.Submission = "PERHAPS"
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateAnalysis(ctx, &update) }), kyc.Internal)

	b.write(func(tx kyc.Tx) error { return tx.DeleteAnalysis(ctx, a.ID) })
	b.write(func(tx kyc.Tx) error { return tx.DeleteAnalysis(ctx, a.ID) })
	if must(b.Analysis(ctx, a.ID))(t) != nil {
		t.Error("a deleted analysis is there")
	}
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateAnalysis(ctx, a) }), kyc.Internal)
}

// calls: the ledger takes every outcome, and an end without a beginning is nothing.
func calls(t *testing.T, b *bench) {
	b.write(func(tx kyc.Tx) error {
		for i, outcome := range []kyc.CallOutcome{kyc.CallSucceeded, kyc.CallRejected, kyc.CallUnavailable, kyc.CallAmbiguous} {
			if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "analyze_person", Reference: "ana_1", Number: i + 1, StartedAt: epoch}); err != nil {
				return err
			}
			if err := tx.EndCall(ctx, "ana_1", "analyze_person", outcome, "code", epoch); err != nil {
				return err
			}
		}
		return tx.EndCall(ctx, "ana_1", "analyze_person", kyc.CallSucceeded, "", epoch)
	})
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error {
		if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "analyze_person", Reference: "ana_2", Number: 1, StartedAt: epoch}); err != nil {
			return err
		}
		return tx.EndCall(ctx, "ana_2", "analyze_person", "MAYBE", "", epoch)
	}), kyc.Internal)
}

// callsOf: the ledger of many references at once, in the order of the calls, and of one partner only.
func callsOf(t *testing.T, b *bench) {
	call := func(partner kyc.PartnerID, reference string, number int) *kyc.Call {
		return &kyc.Call{PartnerID: partner, Provider: "qitech", Operation: "analyze_person", Reference: reference, Number: number, StartedAt: epoch.Add(time.Duration(number) * time.Second)}
	}
	b.write(func(tx kyc.Tx) error {
		for _, c := range []*kyc.Call{call(acme, "ana_1", 1), call(acme, "ana_2", 1), call(acme, "ana_1", 2), call(other, "ana_3", 1)} {
			if err := tx.InsertCall(ctx, c); err != nil {
				return err
			}
		}
		return tx.EndCall(ctx, "ana_1", "analyze_person", kyc.CallRejected, "duplicate", epoch.Add(time.Minute))
	})
	got := must(b.Calls(ctx, acme, []string{"ana_1", "ana_2", "ana_3", "ana_1", "ana_4"}))(t)
	if len(got) != 2 || len(got["ana_1"]) != 2 || len(got["ana_2"]) != 1 {
		t.Fatalf("found %v", got)
	}
	first, second := got["ana_1"][0], got["ana_1"][1]
	if first.Number != 1 || first.Outcome != "" || first.EndedAt != nil || !first.StartedAt.Equal(epoch.Add(time.Second)) {
		t.Errorf("the first call: %+v", first)
	}
	if second.Number != 2 || second.Outcome != kyc.CallRejected || second.Code != "duplicate" || !second.EndedAt.Equal(epoch.Add(time.Minute)) {
		t.Errorf("the second call: %+v", second)
	}
	if none := must(b.Calls(ctx, acme, nil))(t); len(none) != 0 {
		t.Errorf("of nothing: %v", none)
	}
}

// callbacks: the same delivery is fresh once, whoever owns it.
func callbacks(t *testing.T, b *bench) {
	p := newPerson(acme)
	b.add(p)
	for _, c := range []struct {
		provider, key, owner string
		body                 []byte
		fresh                bool
	}{
		{"qitech", "d1", string(p.ID), []byte(`{"id":"x"}`), true},
		{"qitech", "d1", string(p.ID), []byte(`{"id":"x"}`), false},
		{"qitech", "d1", string(p.ID), []byte(`other`), false},
		{"unico", "d1", "prc_1", nil, true},
		{"qitech", "d2", string(p.ID), []byte{}, true},
		{"qitech", "d2", string(p.ID), nil, false},
	} {
		b.write(func(tx kyc.Tx) error {
			fresh, err := tx.InsertCallback(ctx, &kyc.StoredCallback{
				PartnerID: acme, Owner: c.owner, Provider: c.provider, DedupeKey: c.key, Reference: "ana_1", Body: c.body, ReceivedAt: epoch,
			})
			if fresh != c.fresh {
				t.Errorf("%s %s: fresh = %v", c.provider, c.key, fresh)
			}
			return err
		})
	}
}

// idempotency: a key stands for its answer as long as asked, and is replaced after that.
func idempotency(t *testing.T, b *bench) {
	ask := func(partner kyc.PartnerID, request string, since time.Time) (a *kyc.IdempotentAnswer, same bool) {
		t.Helper()
		b.write(func(tx kyc.Tx) (err error) {
			a, same, err = tx.Idempotent(ctx, partner, "key", []byte(request), since)
			return err
		})
		return a, same
	}
	stands := func(what string, partner kyc.PartnerID, since time.Time, want *kyc.IdempotentAnswer) {
		t.Helper()
		got, again := ask(partner, "request", since)
		same(t, what, got, want)
		if again != (want != nil) {
			t.Errorf("%s: the same request = %v", what, again)
		}
		if _, again := ask(partner, "another request", since); again {
			t.Errorf("%s: another request is the same", what)
		}
	}
	stands("a free key", acme, time.Time{}, nil)
	a := &kyc.IdempotentAnswer{
		PartnerID: acme, Key: "key", Mutation: "registerPerson", PersonID: kyc.NewPersonID(),
		ObjectID: string(kyc.NewRegistrationID()), Analysis: kyc.NewAnalysisID(), CreatedAt: epoch,
	}
	theirs := *a
	theirs.PartnerID, theirs.ObjectID, theirs.Analysis = other, string(kyc.NewRegistrationID()), ""
	b.add(idempotent{a, []byte("request")}, idempotent{&theirs, []byte("request")})
	stands("ours", acme, epoch.Add(-time.Hour), a)
	stands("theirs", other, epoch.Add(-time.Hour), &theirs)
	stands("ours, as old as it may be", acme, epoch, a)
	stands("ours, too old", acme, epoch.Add(time.Microsecond), nil)

	replaced := *a
	replaced.PersonID, replaced.Mutation = kyc.NewPersonID(), "anotherMutation"
	replaced.ObjectID, replaced.Analysis, replaced.CreatedAt = string(kyc.NewRegistrationID()), "", epoch.Add(time.Hour)
	b.add(idempotent{&replaced, []byte("request 2")})
	if got, again := ask(acme, "request 2", epoch.Add(time.Hour)); !again {
		t.Error("the replacing request is not the same")
	} else {
		same(t, "replaced", got, &replaced)
	}

	b.write(func(tx kyc.Tx) error { return tx.DeleteIdempotent(ctx, acme, "key") })
	b.write(func(tx kyc.Tx) error { return tx.DeleteIdempotent(ctx, acme, "key") })
	stands("a deleted key", acme, time.Time{}, nil)
	stands("theirs", other, time.Time{}, &theirs)
}

// must is for the look-ups of this file that cannot fail: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
