package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

func keptOf(p *kyc.Person, state kyc.OnboardingState, version int) *kyc.KeptOnboarding {
	return &kyc.KeptOnboarding{
		PartnerID: p.PartnerID, PersonID: p.ID, State: state, Require: []kyc.StepKind{kyc.StepPerson, kyc.StepFace}, Content: []byte(`{"a":1}`),
		Version: version, UpdatedAt: epoch.Add(time.Duration(version) * time.Second),
	}
}

// onboardings: kept for their partner, replaced as a whole, listed by state, and gone with the person.
func onboardings(t *testing.T, b *bench) {
	mine, theirs, none := newPerson(acme), newPerson(other), newPerson(acme)
	for _, p := range []*kyc.Person{mine, theirs, none} {
		p.Version = 1
		b.add(p)
	}
	b.write(func(tx kyc.Tx) error {
		return errors.Join(tx.SaveOnboarding(ctx, keptOf(mine, kyc.OnboardingInProgress, 1)), tx.SaveOnboarding(ctx, keptOf(theirs, kyc.OnboardingApproved, 1)))
	})
	want := keptOf(mine, kyc.OnboardingApproved, 2)
	b.write(func(tx kyc.Tx) error { return tx.SaveOnboarding(ctx, want) })
	got, err := b.Onboardings(ctx, acme, []kyc.PersonID{mine.ID, theirs.ID, none.ID})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v %v", got, err)
	}
	sameList(t, []kyc.KeptOnboarding{*got[mine.ID]}, []kyc.KeptOnboarding{*want})

	for state, ids := range map[kyc.OnboardingState][]kyc.PersonID{kyc.OnboardingApproved: {mine.ID}, kyc.OnboardingInProgress: nil} {
		filter := kyc.PersonFilter{OnboardingState: &state}
		rows, _, err := b.Persons(ctx, acme, filter, kyc.Page{First: 10})
		var listed []kyc.PersonID
		for _, p := range rows {
			listed = append(listed, p.ID)
		}
		n, err2 := b.CountPersons(ctx, acme, filter)
		if err = errors.Join(err, err2); err != nil || n != len(ids) {
			t.Errorf("%s: %d, %v", state, n, err)
		}
		sameList(t, listed, ids)
	}
	rows, _, err := b.Persons(ctx, acme, kyc.PersonFilter{OnboardingState: new(kyc.OnboardingApproved)}, kyc.Page{First: 10, After: string(mine.ID)})
	if err != nil || len(rows) != 0 {
		t.Errorf("after the only one come %d, %v", len(rows), err)
	}

	both := []kyc.PersonID{mine.ID, none.ID}
	slices.Sort(both)
	for _, c := range []struct {
		require []kyc.StepKind
		after   kyc.PersonID
		want    []kyc.PersonID
	}{{want.Require, "", []kyc.PersonID{none.ID}}, {[]kyc.StepKind{kyc.StepFace}, "", both}, {[]kyc.StepKind{kyc.StepFace}, both[0], both[1:]}} {
		stale, err := b.StaleOnboardings(ctx, acme, c.require, c.after, 10)
		if err != nil {
			t.Fatal(err)
		}
		sameList(t, stale, c.want)
	}

	b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, mine.ID) })
	if got, err := b.Onboardings(ctx, acme, []kyc.PersonID{mine.ID}); err != nil || len(got) != 0 {
		t.Errorf("somebody who is gone has %v, %v", got, err)
	}
}

// onboardingsCommitTogether: what was saved is there exactly when the facts beside it are.
func onboardingsCommitTogether(t *testing.T, b *bench) {
	p := newPerson(acme)
	p.Version = 1
	b.add(p)
	err := b.Write(ctx, func(tx kyc.Tx) error {
		p.Version = 2
		return errors.Join(tx.UpdatePerson(ctx, p), tx.SaveOnboarding(ctx, keptOf(p, kyc.OnboardingApproved, 1)), errSome)
	})
	if !errors.Is(err, errSome) {
		t.Fatal(err)
	}
	found, err := b.PersonByID(ctx, acme, p.ID)
	if err != nil || found.Version != 1 {
		t.Errorf("%v %v", found.Version, err)
	}
	if got, err := b.Onboardings(ctx, acme, []kyc.PersonID{p.ID}); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
}

// onboardingFacts: all that was accepted, and nothing of somebody who was not.
func onboardingFacts(t *testing.T, b *bench) {
	p := newPerson(acme)
	p.Version = 0
	b.add(p)
	if f, err := b.OnboardingFacts(ctx, acme, p.ID); err != nil || f.Person != nil {
		t.Errorf("somebody whom nobody accepted has %+v, %v", f, err)
	}
	b.update(p, epoch)
	f, err := b.OnboardingFacts(ctx, acme, p.ID)
	if err != nil || f.Person == nil || f.Person.Version != 1 || len(f.Faces)+len(f.Processes)+len(f.Customers) != 0 {
		t.Errorf("%+v %v", f, err)
	}
	if f, err := b.OnboardingFacts(ctx, other, p.ID); err != nil || f.Person != nil {
		t.Errorf("another partner sees %+v, %v", f, err)
	}
}
