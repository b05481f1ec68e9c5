package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/erasures"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// kept is a service on a store of its own with a clock that is moved by hand, without doors.
type kept struct {
	*kyc.Service
	t     *testing.T
	clock *clockwork.FakeClock
	store *store.Store
	ctx   context.Context
}

func newKept(t *testing.T, r kyc.Retention) *kept {
	t.Helper()
	k := &kept{t: t, clock: clockwork.NewFakeClockAt(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))}
	keys, err := vault.NewInMemory()
	list, _, err2 := erasures.Open(filepath.Join(t.TempDir(), "erasures"), keys.MAC)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	k.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "kycgate.db"), Keys: keys, Logger: slog.New(slog.DiscardHandler), Now: k.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(k.store.Close(), list.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := k.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Service = kyc.New(kyc.Config{
		Store: k.store, Partners: []kyc.Partner{{ID: apptest.Bazaar, SourceKyc: kyc.SourceOpenco}}, Clock: k.clock, Logger: slog.New(slog.DiscardHandler),
		AnswerWithin: time.Second, Erasures: list, Retention: r,
	})
	k.ctx = kyc.WithCaller(t.Context(), kyc.Caller{Partner: apptest.Bazaar, Subject: "test", Scopes: kyc.NewScopeSet(kyc.Scopes()...)})
	if err := k.EnsureRetention(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.EnsureRetention(t.Context()); err != nil {
		t.Fatalf("at the next start: %v", err)
	}
	return k
}

func (k *kept) register(cpf string, occupation *kyc.PersonalText) *kyc.Person {
	k.t.Helper()
	p, err := k.RegisterPerson(k.ctx, kyc.RegisterPersonInput{
		Name: kyc.NewName("Maria da Silva"), DocumentNumber: kyc.NewDocumentNumber(cpf), Birthdate: kyc.NewDate("1990-02-28"),
		Emails: []kyc.EmailInput{{Address: kyc.NewEmailAddress("maria@example.com")}}, Phones: []kyc.PhoneInput{{Number: kyc.NewPhoneNumber("+5511987654321")}},
		Address:    kyc.AddressInput{Street: kyc.NewPersonalText("Avenida Paulista"), City: "São Paulo", State: "SP", PostalCode: kyc.NewPersonalText("01310-100"), Country: "BRA"},
		Occupation: occupation,
	}, kyc.JSON(`{}`))
	if err != nil || p.Person == nil {
		k.t.Fatalf("%+v, %v", p, err)
	}
	return p.Person
}

// run runs every job that is due.
func (k *kept) run() {
	k.t.Helper()
	for {
		var jobs []*kyc.Job
		now := k.clock.Now()
		if err := k.store.Write(k.t.Context(), func(tx kyc.Tx) (err error) {
			jobs, err = tx.ClaimJobs(k.t.Context(), now, now.Add(time.Minute), 10)
			return err
		}); err != nil {
			k.t.Fatal(err)
		}
		if len(jobs) == 0 {
			return
		}
		for _, j := range jobs {
			if err := k.RunJob(k.t.Context(), j); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

func (k *kept) person(id kyc.PersonID) *kyc.Person {
	k.t.Helper()
	p, err := k.Person(k.ctx, id)
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// A person is kept to the second and erased after it, with all that belongs to them; one who was touched meanwhile stays.
func TestRetentionOfPersons(t *testing.T) {
	t.Parallel()
	k := newKept(t, kyc.Retention{Persons: 10 * year})
	var old []*kyc.Person
	for i := range 250 { // more than one batch
		old = append(old, k.register(apptest.CPF(9, i), nil))
	}
	k.clock.Advance(10*year - time.Second)
	k.run()
	for _, p := range old {
		if k.person(p.ID) == nil {
			t.Fatal("erased a second too early")
		}
	}
	k.register(apptest.CPF(9, 0), nil)
	k.clock.Advance(2 * time.Second)
	k.run() // the job of the hour has not come
	k.clock.Advance(time.Hour)
	k.run()
	for i, p := range old {
		if found := k.person(p.ID) != nil; found != (i == 0) {
			t.Fatalf("number %d: there = %v", i, found)
		}
	}
	if e, err := k.store.Erasure(t.Context(), apptest.Bazaar, old[1].ID); err != nil || e == nil || e.Reason != kyc.ErasureRetention {
		t.Errorf("the tombstone: %+v, %v", e, err)
	}
	if n, err := k.CountPersons(k.ctx, kyc.PersonFilter{}); n != 1 || err != nil {
		t.Errorf("%d persons, %v", n, err)
	}
}

// A snapshot goes after its time, the newest stays, and what only the older one had told stays with the person.
func TestRetentionOfRegistrations(t *testing.T) {
	t.Parallel()
	k := newKept(t, kyc.Retention{Registrations: year})
	doctor := kyc.NewPersonalText("médica")
	p := k.register(apptest.CPF(9, 1), &doctor)
	alone := k.register(apptest.CPF(9, 2), nil)
	k.clock.Advance(day)
	k.register(apptest.CPF(9, 1), nil)
	snapshots := func(id kyc.PersonID) int {
		n, err := k.CountRegistrations(k.ctx, []kyc.PersonID{id})
		if err != nil {
			t.Fatal(err)
		}
		return n[id]
	}
	k.clock.Advance(year - day - time.Second)
	k.run()
	if n := snapshots(p.ID); n != 2 {
		t.Errorf("%d snapshots a second before the time", n)
	}
	k.clock.Advance(time.Hour)
	k.run()
	if n := snapshots(p.ID); n != 1 {
		t.Errorf("%d snapshots after the time", n)
	}
	if n := snapshots(alone.ID); n != 1 {
		t.Errorf("the only snapshot of a person: %d", n)
	}
	profiles, err := k.store.AcceptedProfiles(t.Context(), apptest.Bazaar, p.ID, "")
	if err != nil || len(profiles) != 1 || profiles[0].Occupation == nil || profiles[0].Occupation.Reveal() != "médica" {
		t.Errorf("what the older snapshot told is lost: %d, %v", len(profiles), err)
	}
}

// Webhooks, calls and keys go by age alone.
func TestRetentionOfRows(t *testing.T) {
	t.Parallel()
	k := newKept(t, kyc.Retention{Callbacks: 90 * day, Calls: 2 * year})
	p := k.register(apptest.CPF(9, 1), nil)
	add := func(n int) {
		t.Helper()
		now := k.clock.Now()
		if err := k.store.Write(t.Context(), func(tx kyc.Tx) error {
			_, err := tx.InsertCallback(t.Context(), &kyc.StoredCallback{PartnerID: apptest.Bazaar, Owner: string(p.ID), Provider: "qitech", DedupeKey: fmt.Sprint("d", n), Reference: "ana_1", Body: []byte("{}"), ReceivedAt: now})
			return errors.Join(err,
				tx.InsertCall(t.Context(), &kyc.Call{PartnerID: apptest.Bazaar, Provider: "qitech", Operation: "analyze_person", Reference: fmt.Sprint("ana_", n), Number: 1, StartedAt: now}),
				tx.EndCall(t.Context(), fmt.Sprint("ana_", n), "analyze_person", kyc.CallSucceeded, "", now),
				tx.SaveIdempotent(t.Context(), &kyc.IdempotentAnswer{PartnerID: apptest.Bazaar, Key: fmt.Sprint("key ", n), Mutation: "registerPerson", PersonID: p.ID, CreatedAt: now}, []byte("request")))
		}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (callback, call, key bool) {
		t.Helper()
		calls, err := k.store.Calls(t.Context(), apptest.Bazaar, []string{"ana_1"})
		if err != nil {
			t.Fatal(err)
		}
		rollback := errors.New("only looking")
		if err := k.store.Write(t.Context(), func(tx kyc.Tx) error {
			fresh, err := tx.InsertCallback(t.Context(), &kyc.StoredCallback{PartnerID: apptest.Bazaar, Owner: string(p.ID), Provider: "qitech", DedupeKey: "d1", Reference: "ana_1", ReceivedAt: k.clock.Now()})
			if err != nil {
				return err
			}
			answer, _, err := tx.Idempotent(t.Context(), apptest.Bazaar, "key 1", nil, time.Time{})
			callback, key = !fresh, answer != nil
			return errors.Join(err, rollback)
		}); !errors.Is(err, rollback) {
			t.Fatal(err)
		}
		return callback, len(calls) == 1, key
	}
	add(1)
	for _, step := range []struct {
		age                 time.Duration
		callback, call, key bool
	}{
		{30*day - time.Second, true, true, true},
		{30*day + time.Hour, true, true, false},
		{90*day - time.Second, true, true, false},
		{90*day + time.Hour, false, true, false},
		{2*year - time.Second, false, true, false},
		{2*year + time.Hour, false, false, false},
	} {
		k.clock.Advance(step.age - k.clock.Since(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)))
		k.run()
		if callback, call, key := left(); callback != step.callback || call != step.call || key != step.key {
			t.Errorf("after %s: callback %v, call %v, key %v", step.age, callback, call, key)
		}
	}
}

// A face of a document that no person has is kept as long as a person, and then destroyed with its key; a person's goes with them.
func TestRetentionOfFaces(t *testing.T) {
	t.Parallel()
	k := newKept(t, kyc.Retention{Persons: 10 * year})
	p := k.register(apptest.CPF(9, 1), nil)
	face := func(person kyc.PersonID, cpf string) *kyc.FaceRegistration {
		f := &kyc.FaceRegistration{
			ID: kyc.NewFaceID(), PartnerID: apptest.Bazaar, PersonID: person, Provider: "qitech", RegistrationKey: uuid.NewString(), DocumentNumber: kyc.NewDocumentNumber(cpf),
			Source: kyc.FaceFromImage, State: kyc.FaceRegistered, CreatedAt: k.clock.Now(), UpdatedAt: k.clock.Now(),
		}
		if err := k.store.Write(t.Context(), func(tx kyc.Tx) error { return tx.InsertFace(t.Context(), f) }); err != nil {
			t.Fatal(err)
		}
		return f
	}
	there := func(f *kyc.FaceRegistration) bool {
		found, err := k.Face(k.ctx, f.ID)
		if err != nil {
			t.Fatal(err)
		}
		return found != nil
	}
	alone, linked := face("", apptest.CPF(9, 2)), face(p.ID, apptest.CPF(9, 1))
	k.clock.Advance(10*year - time.Second)
	k.run()
	if !there(alone) || !there(linked) {
		t.Fatal("erased a second too early")
	}
	young := face("", apptest.CPF(9, 3))
	k.register(apptest.CPF(9, 1), nil) // touched: the person stays, and their face
	k.clock.Advance(time.Hour + time.Second)
	k.run()
	if there(alone) || !there(linked) || !there(young) {
		t.Errorf("alone %t, linked %t, young %t", there(alone), there(linked), there(young))
	}
}

// A finished process of a document that no person has is kept as long as a person, and then destroyed with its key and what came with
// it: there is nobody to erase whom it would go with.
func TestRetentionOfProcesses(t *testing.T) {
	t.Parallel()
	k := newKept(t, kyc.Retention{Persons: 10 * year})
	p := k.register(apptest.CPF(9, 1), nil)
	process := func(person *kyc.PersonID, cpf string, status kyc.ProcessStatus) *kyc.Process {
		one := &kyc.Process{
			ID: kyc.NewProcessID(), PartnerID: apptest.Bazaar, PersonID: person, Kind: kyc.KindLiveness, Capabilities: []kyc.Capability{kyc.CapLiveness}, Provider: "unico",
			Submission: kyc.SubmissionAccepted, Status: status, Request: kyc.ProcessSubject{DocumentNumber: kyc.NewDocumentNumber(cpf)},
			CreatedAt: k.clock.Now(), UpdatedAt: k.clock.Now(), Version: 1,
		}
		if status.Final() {
			one.FinishedAt = new(k.clock.Now())
		}
		if err := k.store.Write(t.Context(), func(tx kyc.Tx) error {
			if err := tx.InsertProcess(t.Context(), one); err != nil {
				return err
			}
			_, err := tx.InsertCallback(t.Context(), &kyc.StoredCallback{
				PartnerID: apptest.Bazaar, Owner: one.KeyOwner(), Provider: "unico", DedupeKey: string(one.ID), Reference: string(one.ID), Body: []byte("{}"), ReceivedAt: k.clock.Now(),
			})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return one
	}
	there := func(one *kyc.Process) bool {
		found, err := k.Process(k.ctx, one.ID)
		if err != nil {
			t.Fatal(err)
		}
		return found != nil
	}
	alone, open := process(nil, apptest.CPF(9, 2), kyc.ProcessCompleted), process(nil, apptest.CPF(9, 4), kyc.ProcessProcessing)
	linked := process(&p.ID, apptest.CPF(9, 1), kyc.ProcessCompleted)
	k.clock.Advance(10*year - time.Second)
	k.run()
	if !there(alone) || !there(open) || !there(linked) {
		t.Fatal("erased a second too early")
	}
	young := process(nil, apptest.CPF(9, 3), kyc.ProcessCompleted)
	k.register(apptest.CPF(9, 1), nil) // touched: the person stays, and their process
	k.clock.Advance(time.Hour + time.Second)
	k.run()
	if there(alone) || !there(open) || !there(linked) || !there(young) {
		t.Errorf("alone %t, open %t, linked %t, young %t", there(alone), there(open), there(linked), there(young))
	}
	events, newest, err := k.store.EventsSince(t.Context(), apptest.Bazaar, string(alone.ID), 0, 10)
	if err != nil || len(events) > 0 || newest != 0 {
		t.Errorf("its events are there: %d, %v", len(events), err)
	}
	if kept, err := k.store.Callbacks(t.Context(), apptest.Bazaar, string(alone.ID)); err != nil || len(kept) > 0 {
		t.Errorf("its webhooks are there: %d, %v", len(kept), err)
	}
}
