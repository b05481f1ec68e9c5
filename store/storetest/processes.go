package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

func newProcess(partner kyc.PartnerID, person *kyc.Person) *kyc.Process {
	p := &kyc.Process{
		ID: kyc.NewProcessID(), PartnerID: partner, Kind: kyc.KindLiveness, Capabilities: []kyc.Capability{kyc.CapLiveness}, Provider: "unico",
		Submission: kyc.SubmissionSent, Status: kyc.ProcessProcessing, CreatedAt: epoch, UpdatedAt: epoch, Version: 1,
		Request: kyc.ProcessSubject{DocumentNumber: kyc.NewDocumentNumber("52998224725"), Captured: true},
	}
	if person != nil {
		p.PersonID = &person.ID
	}
	return p
}

// newFullProcess makes one with every field a completed document process can have.
func newFullProcess(partner kyc.PartnerID, person *kyc.Person) *kyc.Process {
	p := newProcess(partner, person)
	p.Kind, p.Capabilities = kyc.KindDocumentCapture, []kyc.Capability{kyc.CapLiveness, kyc.CapDocumentCapture}
	p.ReferenceID, p.UseCase, p.Wanted, p.Looks = new(kyc.NewProcessID()), new("Onboarding"), []kyc.Capability{kyc.CapFraudProfile}, 2
	p.Request = kyc.ProcessSubject{
		DocumentNumber: kyc.NewDocumentNumber("52998224725"), Name: kyc.NewName("João 💚"), Email: kyc.NewEmailAddress("a@b.test"), Phone: kyc.NewPhoneNumber("+5511987654321"),
		Purpose: kyc.PurposeFGTS, ReusableDocumentID: "d-1", Captured: true,
	}
	p.Apply(kyc.ProcessVerdict{ProviderProcessID: "80371b2a-3ac7-432e-866d-57fe37896ac6", Status: kyc.ProcessCompleted, Known: true, Result: &kyc.ProcessResult{
		Liveness: new(kyc.LivenessLive), Identity: new(kyc.IdentityInconclusive), RiskScore: new(-65), FraudProfile: new(kyc.FraudUnknown), Authenticated: new(false),
		GovernmentSimilarity: new(-1), TransactionID: new("t-1"), PersonName: new(kyc.NewName("João")), PersonDocument: new(kyc.NewDocumentNumber("52998224725")),
		PersonImageURL: new(kyc.NewPersonalText("https://u/0")), Decision: new(kyc.DecisionDenied),
		Document: &kyc.CapturedDocument{
			ID: "b97c3fd9", Type: new("unico.moja.dictionary.br.rg.v2.Rg"), CpfMatch: new(true), FaceMatch: new(false), FaceMatchUnknown: true,
			Content: new(kyc.NewPersonalJSON([]byte(`{"numero":"1","b":[1,2.50]}`))), FileUrls: []kyc.PersonalText{kyc.NewPersonalText("https://u/1")},
			FileUrlsExpireAt: new(epoch.Add(10 * time.Minute)),
		},
	}}, epoch.Add(time.Minute))
	return p
}

func (b *bench) process(id kyc.ProcessID) *kyc.Process {
	b.t.Helper()
	return must(b.Process(ctx, acme, id))(b.t)
}

// processRoundTrip: what is written comes back, under a person's key and under a process's own.
func processRoundTrip(t *testing.T, b *bench) {
	person := newPerson(acme)
	b.add(person)
	for name, p := range map[string]*kyc.Process{
		"plain": newProcess(acme, nil), "of a person": newProcess(acme, person), "full": newFullProcess(acme, person),
	} {
		b.add(p)
		same(t, name, b.process(p.ID), p)
		if must(b.Process(ctx, other, p.ID))(t) != nil {
			t.Errorf("%s: another partner sees it", name)
		}
	}
	p := newProcess(acme, nil)
	b.add(p)
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertProcess(ctx, p) }), kyc.Conflict)
	full := newFullProcess(acme, nil)
	p.Submission, p.Status, p.Result, p.ProviderProcessID = full.Submission, full.Status, full.Result, new("p-1")
	p.UpdatedAt, p.FinishedAt, p.Version = epoch.Add(time.Hour), new(epoch.Add(time.Hour)), 4
	b.write(func(tx kyc.Tx) error { return tx.UpdateProcess(ctx, p) })
	same(t, "updated", b.process(p.ID), p)
	same(t, "by the provider's id", must(b.ProcessByProviderID(ctx, "unico", "p-1"))(t), p)
	if must(b.ProcessByProviderID(ctx, "other", "p-1"))(t) != nil {
		t.Error("another provider's id finds it")
	}
	failed := newProcess(acme, nil)
	failed.Fail(kyc.FailureNeedsNewCapture, epoch.Add(time.Second))
	b.add(failed)
	same(t, "failed", b.process(failed.ID), failed)

	b.write(func(tx kyc.Tx) error { return tx.DeleteProcess(ctx, acme, p.ID) })
	if b.process(p.ID) != nil {
		t.Error("a deleted process is there")
	}
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateProcess(ctx, newProcess(acme, nil)) }), kyc.Internal)
	stray := newProcess(acme, newPerson(acme))
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertProcess(ctx, stray) }), kyc.Internal) // of nobody
	b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, person.ID) })
	if must(b.CountProcesses(ctx, acme, kyc.ProcessFilter{}))(t) != 2 { // those of nobody
		t.Error("a person's processes stay when the person goes")
	}
}

func ids(processes []*kyc.Process) []kyc.ProcessID {
	out := make([]kyc.ProcessID, len(processes))
	for i, p := range processes {
		out[i] = p.ID
	}
	return out
}

// processLists: newest first, in pages, filtered, counted; hidden ones in none.
func processLists(t *testing.T, b *bench) {
	ana, bia := newPerson(acme), newPerson(acme)
	b.add(ana, bia, newProcess(other, nil))
	var all, anas []*kyc.Process
	for i := range 7 {
		person := []*kyc.Person{ana, nil, bia}[i%3]
		p := newProcess(acme, person)
		p.CreatedAt = epoch.Add(time.Duration(i) * time.Second)
		if i >= 4 {
			p.Kind, p.Provider = kyc.KindFaceValidation, "unico2"
		}
		if i == 5 {
			p.Fail(kyc.FailureCanceled, epoch)
		}
		b.add(p)
		all = append([]*kyc.Process{p}, all...)
		if person == ana {
			anas = append([]*kyc.Process{p}, anas...)
		}
	}
	hidden := newProcess(acme, ana)
	hidden.Version = 0
	b.add(hidden)
	if b.process(hidden.ID) == nil {
		t.Error("a single look-up must give a hidden process")
	}

	list := func(f kyc.ProcessFilter, page kyc.Page) ([]kyc.ProcessID, bool) {
		t.Helper()
		rows, more, err := b.Processes(ctx, acme, f, page)
		if err != nil {
			t.Fatal(err)
		}
		return ids(rows), more
	}
	if got, more := list(kyc.ProcessFilter{}, kyc.Page{First: 10}); !slices.Equal(got, ids(all)) || more {
		t.Errorf("all: %v, more %t", got, more)
	}
	if got, more := list(kyc.ProcessFilter{}, kyc.Page{First: 3, After: string(all[1].ID)}); !slices.Equal(got, ids(all[2:5])) || !more {
		t.Errorf("a page: %v, more %t", got, more)
	}
	for name, tt := range map[string]struct {
		filter kyc.ProcessFilter
		want   []*kyc.Process
	}{
		"kind":     {kyc.ProcessFilter{Kind: new(kyc.KindFaceValidation)}, all[:3]},
		"provider": {kyc.ProcessFilter{Provider: new("unico2")}, all[:3]},
		"status":   {kyc.ProcessFilter{Status: new(kyc.ProcessFailed)}, all[1:2]},
		"after":    {kyc.ProcessFilter{CreatedAfter: new(epoch.Add(4 * time.Second))}, all[:2]},
		"before":   {kyc.ProcessFilter{CreatedBefore: new(epoch.Add(time.Second))}, all[6:]},
		"several":  {kyc.ProcessFilter{Kind: new(kyc.KindFaceValidation), Status: new(kyc.ProcessProcessing)}, []*kyc.Process{all[0], all[2]}},
	} {
		if got, _ := list(tt.filter, kyc.Page{First: 10}); !slices.Equal(got, ids(tt.want)) {
			t.Errorf("%s: %v, want %v", name, got, ids(tt.want))
		}
		if n := must(b.CountProcesses(ctx, acme, tt.filter))(t); n != len(tt.want) {
			t.Errorf("%s: counts %d, want %d", name, n, len(tt.want))
		}
	}

	of := must(b.ProcessesOf(ctx, acme, []kyc.PersonID{ana.ID, bia.ID}, "", kyc.Page{First: 2}))(t)
	if !slices.Equal(ids(of[ana.ID]), ids(anas)) || len(of[bia.ID]) != 2 {
		t.Errorf("of persons: %v, %v", ids(of[ana.ID]), ids(of[bia.ID]))
	}
	of = must(b.ProcessesOf(ctx, acme, []kyc.PersonID{ana.ID}, kyc.KindLiveness, kyc.Page{First: 1, After: string(anas[0].ID)}))(t)
	if !slices.Equal(ids(of[ana.ID]), ids(anas[1:])) {
		t.Errorf("of one kind, second page: %v, want %v", ids(of[ana.ID]), ids(anas[1:]))
	}
	counts := must(b.CountProcessesOf(ctx, acme, []kyc.PersonID{ana.ID, bia.ID}, kyc.KindFaceValidation))(t)
	if counts[ana.ID] != 1 || counts[bia.ID] != 1 {
		t.Errorf("counts %v", counts)
	}
	found := must(b.ProcessesByID(ctx, acme, append(ids(all), kyc.NewProcessID(), all[0].ID)))(t)
	if len(found) != len(all) || found[all[3].ID].ID != all[3].ID {
		t.Errorf("%d by id, want %d", len(found), len(all))
	}
	persons := must(b.PersonsByID(ctx, acme, []kyc.PersonID{ana.ID, bia.ID, kyc.NewPersonID()}))(t)
	if len(persons) != 2 || persons[ana.ID].ID != ana.ID {
		t.Errorf("%d persons by id, want 2", len(persons))
	}
	open := 0
	for _, o := range must(b.OpenProcesses(ctx))(t) {
		open += o.Count
		if o.Status.Final() {
			t.Errorf("%+v is not open", o)
		}
	}
	if open != 8 { // six, the hidden one and the other partner's
		t.Errorf("%d open, want 8", open)
	}
}

// earlyCallbacks: one that came too early is found once, and not for ever.
func earlyCallbacks(t *testing.T, b *bench) {
	take := func(provider, reference string) (found bool) {
		t.Helper()
		b.write(func(tx kyc.Tx) (err error) {
			found, err = tx.TakeEarlyCallback(ctx, provider, reference)
			return err
		})
		return found
	}
	keep := func(reference string, at time.Time) {
		t.Helper()
		b.write(func(tx kyc.Tx) error { return tx.KeepEarlyCallback(ctx, "unico", reference, at) })
	}
	keep("a", epoch)
	keep("a", epoch)
	if take("other", "a") || take("unico", "b") || !take("unico", "a") || take("unico", "a") {
		t.Error("an early callback must be found by its provider and reference, once")
	}
	keep("old", epoch)
	keep("new", epoch.Add(2*time.Hour))
	if take("unico", "old") || !take("unico", "new") {
		t.Error("an early callback must be forgotten after an hour")
	}
}

// processesLink: what was begun for a document before its person was there becomes the person's, the webhooks kept with it included, and
// goes with them; what is another document's or another partner's does not.
func processesLink(t *testing.T, b *bench) {
	p := newPerson(acme)
	begun := func(partner kyc.PartnerID, document kyc.DocumentNumber) *kyc.Process {
		one := newProcess(partner, nil)
		one.Request.DocumentNumber = document
		return one
	}
	first, hidden := begun(acme, p.DocumentNumber), begun(acme, p.DocumentNumber)
	hidden.Version = 0
	others, elsewhere := begun(acme, newPerson(acme).DocumentNumber), begun(other, p.DocumentNumber)
	b.add(first, hidden, others, elsewhere)
	b.write(func(tx kyc.Tx) error {
		_, err := tx.InsertCallback(ctx, &kyc.StoredCallback{PartnerID: acme, Owner: string(first.ID), Provider: "unico", DedupeKey: "d1", Reference: string(first.ID), Body: []byte(`{"a":1}`), ReceivedAt: epoch})
		return err
	})
	stale := *first
	b.write(func(tx kyc.Tx) error {
		return tx.SaveIdempotent(ctx, &kyc.IdempotentAnswer{PartnerID: acme, Key: "begun", Mutation: "checkLiveness", ObjectID: string(first.ID), CreatedAt: epoch}, []byte("a request"))
	})
	b.add(p)
	n, at := 0, epoch.Add(time.Hour)
	link := func(tx kyc.Tx) (err error) {
		n, err = tx.LinkProcesses(ctx, acme, p.ID, p.DocumentNumber, at)
		return err
	}
	b.write(link)
	if n != 2 {
		t.Errorf("%d linked", n)
	}
	first.PersonID, first.Version, first.UpdatedAt = &p.ID, first.Version+1, at
	hidden.PersonID = &p.ID
	for _, want := range []*kyc.Process{first, hidden, others, elsewhere} {
		same(t, "a process", must(b.Process(ctx, want.PartnerID, want.ID))(t), want)
	}
	kept := must(b.Callbacks(ctx, acme, string(p.ID)))(t)
	if len(kept) != 1 || string(kept[0].Body) != `{"a":1}` {
		t.Errorf("%d webhooks came along", len(kept))
	}
	if b.write(link); n != 0 {
		t.Errorf("%d linked again", n)
	}
	if requests := must(b.IdempotentAnswers(ctx, acme, p.ID))(t); len(requests) != 1 || requests[0].ObjectID != string(first.ID) {
		t.Errorf("%d requests came along", len(requests))
	}
	// Who read it before holds what is not so any more.
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateProcess(ctx, &stale) }), kyc.Internal)
	b.write(func(tx kyc.Tx) error {
		_, err := tx.ErasePerson(ctx, acme, p.ID, kyc.ErasureRequested, at)
		return err
	})
	b.write(func(tx kyc.Tx) error {
		answer, _, err := tx.Idempotent(ctx, acme, "begun", []byte("a request"), epoch)
		if answer != nil {
			t.Error("a request outlived its person")
		}
		return err
	})
	if must(b.Process(ctx, acme, first.ID))(t) != nil || must(b.Process(ctx, acme, hidden.ID))(t) != nil {
		t.Error("a process outlived its person")
	}
	same(t, "of another document", must(b.Process(ctx, acme, others.ID))(t), others)
}
