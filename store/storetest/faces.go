package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/kycgate/kycgate/kyc"
)

// newFace makes a registered one that stands alone.
func newFace(partner kyc.PartnerID, document kyc.DocumentNumber) *kyc.FaceRegistration {
	return &kyc.FaceRegistration{
		ID: kyc.NewFaceID(), PartnerID: partner, Provider: "qitech", RegistrationKey: uuid.NewString(), DocumentNumber: document,
		Source: kyc.FaceFromImage, State: kyc.FaceRegistered, CreatedAt: epoch, UpdatedAt: epoch,
	}
}

func sent(f *kyc.FaceRegistration) *kyc.FaceRegistration {
	f.State, f.RegistrationKey, f.Before, f.Request = kyc.FaceSent, "", uuid.NewString(), []byte{1, 2, 3}
	f.LateSince = epoch
	return f
}

func (b *bench) addFaces(faces ...*kyc.FaceRegistration) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) error {
		for _, f := range faces {
			if err := tx.InsertFace(ctx, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) face(partner kyc.PartnerID, id kyc.FaceID) *kyc.FaceRegistration {
	b.t.Helper()
	f, err := b.FaceByID(ctx, partner, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func faces(t *testing.T, b *bench) {
	p := newPerson(acme)
	nobody := newPerson(acme).DocumentNumber
	b.add(p)
	ofPerson, alone, open, elsewhere := newFace(acme, p.DocumentNumber), newFace(acme, nobody), sent(newFace(acme, nobody)), newFace(acme, kyc.DocumentNumber{})
	ofPerson.PersonID = p.ID
	elsewhere.Source = kyc.FaceFromElsewhere
	b.addFaces(ofPerson, alone, open, elsewhere)
	for _, want := range []*kyc.FaceRegistration{ofPerson, alone, open, elsewhere} {
		same(t, "face", b.face(acme, want.ID), want)
	}
	byKey, err := b.FaceByKey(ctx, acme, "qitech", alone.RegistrationKey)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "by key", byKey, alone)
	for _, key := range []string{"", "unknown", alone.RegistrationKey + "x"} {
		if f, err := b.FaceByKey(ctx, acme, "qitech", key); f != nil || err != nil {
			t.Errorf("by key %q: %v, %v", key, f, err)
		}
	}
	if f, err := b.FaceByKey(ctx, acme, "unico", alone.RegistrationKey); f != nil || err != nil {
		t.Errorf("of another provider: %v, %v", f, err)
	}

	// By document the newest that is registered; what is open is told apart.
	newer := newFace(acme, nobody)
	b.addFaces(newer, sent(newFace(acme, nobody)))
	byDocument, err := b.FaceByDocument(ctx, acme, nobody)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "by document", byDocument, newer)
	opened, err := b.OpenFaces(ctx, acme, nobody)
	if err != nil || len(opened) != 2 {
		t.Fatalf("%d open, %v", len(opened), err)
	}
	same(t, "open", opened[0], open)

	// An open one ends as it ends.
	open.State, open.UpdatedAt = kyc.FaceAmbiguous, epoch.Add(time.Second)
	b.write(func(tx kyc.Tx) error { return tx.UpdateFace(ctx, open) })
	same(t, "ambiguous", b.face(acme, open.ID), open)
	open.State, open.RegistrationKey = kyc.FaceRegistered, uuid.NewString()
	b.write(func(tx kyc.Tx) error { return tx.UpdateFace(ctx, open) })
	same(t, "registered", b.face(acme, open.ID), open)
	b.write(func(tx kyc.Tx) error { return tx.DeleteFace(ctx, acme, open.ID) })
	if f := b.face(acme, open.ID); f != nil {
		t.Error("deleted, and there")
	}
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateFace(ctx, open) }), kyc.Internal)

	// A key is one face of a partner, and another partner's may have the same.
	twice := newFace(acme, nobody)
	twice.RegistrationKey = alone.RegistrationKey
	wantKind(t, b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertFace(ctx, twice) }), kyc.Conflict)
	twice.PartnerID = other
	b.addFaces(twice)
	for key, want := range map[string]bool{alone.RegistrationKey: true, "unknown": false, "": false} {
		if known, err := b.FaceKeyKnown(ctx, "qitech", key); known != want || err != nil {
			t.Errorf("key %q known: %t, %v", key, known, err)
		}
	}
}

// facesLink: faces that stood alone are the person's, and go with them.
func facesLink(t *testing.T, b *bench) {
	p := newPerson(acme)
	first, second, open := newFace(acme, p.DocumentNumber), newFace(acme, p.DocumentNumber), sent(newFace(acme, p.DocumentNumber))
	others, elsewhere := newFace(acme, newPerson(acme).DocumentNumber), newFace(other, p.DocumentNumber)
	b.addFaces(first, second, open, others, elsewhere)
	b.add(p)
	n := 0
	link := func(tx kyc.Tx) (err error) { n, err = tx.LinkFaces(ctx, acme, p.ID, p.DocumentNumber); return err }
	b.write(link)
	if n != 3 {
		t.Errorf("%d linked", n)
	}
	for _, f := range []*kyc.FaceRegistration{first, second, open} {
		f.PersonID = p.ID
		same(t, "linked", b.face(acme, f.ID), f)
	}
	same(t, "of another document", b.face(acme, others.ID), others)
	same(t, "of another partner", b.face(other, elsewhere.ID), elsewhere)
	if b.write(link); n != 0 {
		t.Errorf("%d linked again", n)
	}
	// In the same transaction as the person, and undone with it.
	q := newPerson(acme)
	alone := newFace(acme, q.DocumentNumber)
	b.addFaces(alone)
	if err := b.Write(ctx, func(tx kyc.Tx) error {
		if err := tx.InsertPerson(ctx, q); err != nil {
			return err
		}
		if _, err := tx.LinkFaces(ctx, acme, q.ID, q.DocumentNumber); err != nil {
			return err
		}
		return errSome
	}); err == nil {
		t.Error("no error")
	}
	same(t, "undone", b.face(acme, alone.ID), alone)

	of, err := b.FacesOf(ctx, acme, []kyc.PersonID{p.ID, q.ID}, 100)
	if err != nil || len(of) != 1 || len(of[p.ID]) != 2 {
		t.Fatalf("%d persons, %d faces, %v", len(of), len(of[p.ID]), err)
	}
	same(t, "oldest", of[p.ID][0], first)
	same(t, "newest", of[p.ID][1], second)
	if of, err = b.FacesOf(ctx, acme, []kyc.PersonID{p.ID}, 1); err != nil || len(of[p.ID]) != 1 {
		t.Fatalf("%v %v", of, err)
	}
	same(t, "the newest one", of[p.ID][0], second)

	var erasure *kyc.Erasure
	b.write(func(tx kyc.Tx) (err error) {
		if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "register_face", Reference: string(first.ID), Number: 1, StartedAt: epoch}); err != nil {
			return err
		}
		if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "register_face", Reference: string(open.ID), Number: 1, StartedAt: epoch}); err != nil {
			return err
		}
		if err := tx.InsertJob(ctx, newJob(string(open.ID), epoch)); err != nil {
			return err
		}
		erasure, err = tx.ErasePerson(ctx, acme, p.ID, kyc.ErasureRequested, epoch)
		return err
	})
	for _, f := range []*kyc.FaceRegistration{first, second, open} {
		if b.face(acme, f.ID) != nil {
			t.Error("an erased person's face is there")
		}
	}
	// The provider knows the registered by their keys, and the open one by nothing but our call.
	if len(erasure.Providers) != 1 {
		t.Fatalf("%+v", erasure.Providers)
	}
	references := slices.Sorted(slices.Values(erasure.Providers[0].References))
	if want := slices.Sorted(slices.Values([]string{first.RegistrationKey, second.RegistrationKey, string(open.ID)})); !slices.Equal(references, want) {
		t.Errorf("%v, want %v", references, want)
	}
	if known, err := b.FaceKeyKnown(ctx, "qitech", first.RegistrationKey); known || err != nil {
		t.Errorf("its key is known: %t, %v", known, err)
	}
	if _, due, err := nextDue(b); due || err != nil {
		t.Errorf("its job is there: %v", err)
	}
}

func nextDue(b *bench) (at time.Time, due bool, err error) {
	err = b.Write(ctx, func(tx kyc.Tx) error { at, due, err = tx.NextDue(ctx); return err })
	return at, due, err
}

// facesTenancy: a face is nobody else's by any way.
func facesTenancy(t *testing.T, b *bench) {
	p := newPerson(acme)
	f := newFace(acme, p.DocumentNumber)
	f.PersonID = p.ID
	open := sent(newFace(acme, p.DocumentNumber))
	b.add(p)
	b.addFaces(f, open)
	for _, partner := range []kyc.PartnerID{other, "", "ACME", "acm_", "%"} {
		for name, found := range map[string]func() (bool, error){
			"FaceByID": func() (bool, error) { v, err := b.FaceByID(ctx, partner, f.ID); return v != nil, err },
			"FaceByKey": func() (bool, error) {
				v, err := b.FaceByKey(ctx, partner, "qitech", f.RegistrationKey)
				return v != nil, err
			},
			"FaceByDocument": func() (bool, error) { v, err := b.FaceByDocument(ctx, partner, p.DocumentNumber); return v != nil, err },
			"OpenFaces":      func() (bool, error) { v, err := b.OpenFaces(ctx, partner, p.DocumentNumber); return len(v) > 0, err },
			"FacesOf": func() (bool, error) {
				v, err := b.FacesOf(ctx, partner, []kyc.PersonID{p.ID}, 10)
				return len(v) > 0, err
			},
		} {
			if got, err := found(); got || err != nil {
				t.Errorf("%s for partner %q: found = %v, %v", name, partner, got, err)
			}
		}
		b.write(func(tx kyc.Tx) error { return tx.DeleteFace(ctx, partner, f.ID) })
		moved := *f
		moved.PartnerID = partner
		if err := b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateFace(ctx, &moved) }); err == nil {
			t.Errorf("partner %q updated it", partner)
		}
		b.write(func(tx kyc.Tx) error { _, err := tx.LinkFaces(ctx, partner, p.ID, p.DocumentNumber); return err })
	}
	same(t, "face", b.face(acme, f.ID), f)
	same(t, "open face", b.face(acme, open.ID), open)
}
