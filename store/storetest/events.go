package storetest

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// versions are those of a subject after one.
func (b *bench) versions(partner kyc.PartnerID, subject string, after, limit int) (list []int, newest int) {
	b.t.Helper()
	found, newest, err := b.EventsSince(ctx, partner, subject, after, limit)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range found {
		if e.PartnerID != partner || e.Subject != subject {
			b.t.Errorf("an event of somebody else: %+v", e)
		}
		list = append(list, e.Version)
	}
	return list, newest
}

func sameList[T any](t *testing.T, got, want []T) {
	t.Helper()
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// update makes a version of a person.
func (b *bench) update(p *kyc.Person, at time.Time) {
	b.t.Helper()
	p.Version++
	p.UpdatedAt = at
	b.write(func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, p) })
}

// events: one for each transaction that changes a person who may be seen, in their order, for their partner.
func events(t *testing.T, b *bench) {
	p := newPerson(acme)
	p.Version = 0
	b.add(p)
	if list, newest := b.versions(acme, string(p.ID), 0, 10); newest != 0 || len(list) != 0 {
		t.Errorf("somebody whom nobody accepted has the versions %v up to %d", list, newest)
	}
	for i := range 4 {
		b.update(p, epoch.Add(time.Duration(i)*time.Second))
	}
	b.write(func(tx kyc.Tx) error { // once a transaction, however often
		return errors.Join(tx.UpdatePerson(ctx, p), tx.UpdatePerson(ctx, p))
	})
	stranger := newPerson(acme)
	b.add(stranger)
	for _, c := range []struct {
		after, limit int
		want         []int
	}{{0, 10, []int{1, 2, 3, 4, 5}}, {0, 2, []int{1, 2}}, {2, 2, []int{3, 4}}, {4, 10, []int{5}}, {5, 10, nil}, {9, 10, nil}, {0, 0, nil}, {-1, 1, []int{1}}} {
		list, newest := b.versions(acme, string(p.ID), c.after, c.limit)
		sameList(t, list, c.want)
		if newest != 5 {
			t.Errorf("the newest is %d", newest)
		}
	}
	if list, newest := b.versions(other, string(p.ID), 0, 10); newest != 0 || len(list) != 0 {
		t.Errorf("another partner sees %v up to %d", list, newest)
	}
	found, _, err := b.EventsSince(ctx, acme, string(p.ID), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	sameList(t, found, []kyc.Event{{
		PartnerID: acme, Subject: string(p.ID), Version: 2, Kind: kyc.EventPerson, Object: string(p.ID), At: epoch.Add(time.Second),
	}})
}

// eventsOfFaces: a face has no versions of its own; what happens to it is a version of its person.
func eventsOfFaces(t *testing.T, b *bench) {
	p := newPerson(acme)
	p.Version = 1
	b.add(p)
	f := newFace(acme, p.DocumentNumber)
	b.addFaces(f)
	if _, newest := b.versions(acme, string(p.ID), 0, 0); newest != 1 {
		t.Errorf("a face of nobody made version %d", newest)
	}
	b.write(func(tx kyc.Tx) error { _, err := tx.LinkFaces(ctx, acme, p.ID, p.DocumentNumber); return err })
	f.PersonID = p.ID
	b.write(func(tx kyc.Tx) error { return tx.UpdateFace(ctx, f) })
	b.write(func(tx kyc.Tx) error { return tx.DeleteFace(ctx, acme, f.ID) })
	own := newFace(acme, p.DocumentNumber)
	own.PersonID = p.ID
	b.addFaces(own)
	found, newest, err := b.EventsSince(ctx, acme, string(p.ID), 1, 10)
	if err != nil || newest != 5 {
		t.Fatalf("the newest is %d, %v", newest, err)
	}
	for i, e := range found {
		if want := []kyc.FaceID{f.ID, f.ID, f.ID, own.ID}[i]; e.Kind != kyc.EventFace || e.Object != string(want) {
			t.Errorf("version %d tells of %s %s", e.Version, e.Kind, e.Object)
		}
	}
}

// eventsCommitTogether: an event is there exactly when what it tells of is.
func eventsCommitTogether(t *testing.T, b *bench) {
	p := newPerson(acme)
	p.Version = 1
	b.add(p)
	for _, ending := range endings {
		if ending.name == "exit" {
			continue // it would end this goroutine, which is the test's
		}
		func() {
			defer func() { _ = recover() }()
			_ = b.Write(ctx, func(tx kyc.Tx) error {
				if err := tx.UpdatePerson(ctx, p); err != nil {
					return err
				}
				return ending.end()
			})
		}()
	}
	if list, _ := b.versions(acme, string(p.ID), 0, 10); len(list) != 2 {
		t.Errorf("one write of three succeeded, and the versions are %v", list)
	}
	failer, ok := b.Store.(CommitFailer)
	if !ok {
		return
	}
	failer.FailNextCommit()
	if b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdatePerson(ctx, p) }) == nil {
		t.Error("the commit did not fail")
	}
	if list, _ := b.versions(acme, string(p.ID), 0, 10); len(list) != 2 {
		t.Errorf("the commit failed, and the versions are %v", list)
	}
}

// eventsHaveNoGap: whoever writes at once, and whatever fails between, the versions are 1, 2, 3 …, and a reader who goes from one to
// the next meets each of them once.
func eventsHaveNoGap(t *testing.T, b *bench) {
	const writers, rounds = 8, 25
	persons := []*kyc.Person{newPerson(acme), newPerson(acme), newPerson(other)}
	for _, p := range persons {
		p.Version = 1
		b.add(p)
	}
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				p := *persons[(w+i)%len(persons)]
				err := b.Write(ctx, func(tx kyc.Tx) error {
					if err := tx.UpdatePerson(ctx, &p); err != nil || i%5 != 0 {
						return err
					}
					return errSome
				})
				if err != nil && !errors.Is(err, errSome) {
					t.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	for _, p := range persons {
		reading.Go(func() {
			for seen, last := 0, false; ; {
				found, newest, err := b.EventsSince(ctx, p.PartnerID, string(p.ID), seen, 7)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range found {
					if e.Version != seen+1 {
						t.Errorf("after %d came %d", seen, e.Version)
					}
					seen = e.Version
				}
				if last && seen == newest {
					return
				}
				select {
				case <-written:
					last = true
				default:
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
	sum := 0
	for _, p := range persons {
		_, newest := b.versions(p.PartnerID, string(p.ID), 0, 0)
		sum += newest
	}
	if want := len(persons) + writers*rounds*4/5; sum != want {
		t.Errorf("%d versions of %d writes", sum, want)
	}
}

// eventsEnd: they go with the person, and with time, but for the newest.
func eventsEnd(t *testing.T, b *bench) {
	deleted, erased, stays := newPerson(acme), newPerson(acme), newPerson(acme)
	for _, p := range []*kyc.Person{deleted, erased, stays} {
		p.Version = 0
		b.add(p)
		for i := range 3 {
			b.update(p, epoch.Add(time.Duration(i)*time.Hour))
		}
	}
	b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, deleted.ID) })
	b.write(func(tx kyc.Tx) error {
		if err := tx.UpdatePerson(ctx, erased); err != nil { // a change of somebody who is gone at the end of it
			return err
		}
		_, err := tx.ErasePerson(ctx, acme, erased.ID, kyc.ErasureRequested, epoch)
		return err
	})
	for _, p := range []*kyc.Person{deleted, erased} {
		if list, newest := b.versions(acme, string(p.ID), 0, 10); newest != 0 || len(list) != 0 {
			t.Errorf("somebody who is gone has the versions %v up to %d", list, newest)
		}
	}
	for _, c := range []struct {
		before  time.Time
		removed int
		want    []int
	}{{epoch, 0, []int{1, 2, 3}}, {epoch.Add(time.Minute), 1, []int{2, 3}}, {epoch.Add(24 * time.Hour), 1, []int{3}}} {
		b.write(func(tx kyc.Tx) error {
			n, err := tx.DeleteOld(ctx, kyc.OldEvents, c.before)
			if n != c.removed {
				t.Errorf("%d were removed, want %d", n, c.removed)
			}
			return err
		})
		list, _ := b.versions(acme, string(stays.ID), 0, 10)
		sameList(t, list, c.want)
	}
	b.update(stays, epoch)
	if list, _ := b.versions(acme, string(stays.ID), 3, 10); len(list) != 1 || list[0] != 4 {
		t.Errorf("after the third version came %v", list)
	}
}
