package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kycgate/kycgate/kyc"
)

func newSequence(start int64) func() int64 {
	var n atomic.Int64
	n.Store(start)
	return func() int64 { return n.Add(1) }
}

// How a write's function can end.
var endings = []struct {
	name string
	end  func() error
}{
	{"success", func() error { return nil }},
	{"error", func() error { return errSome }},
	{"panic", func() error { panic(errSome) }},
	{"exit", func() error { runtime.Goexit(); return nil }},
}

var errSome = errors.New("some error")

// writeRollsBack: nothing stays of a function that fails, panics or ends its goroutine; what shares its commit does.
func writeRollsBack(t *testing.T, b *bench) {
	const rounds = 200
	persons := make([]*kyc.Person, rounds)
	how := make([]string, rounds)
	var wg sync.WaitGroup
	for i := range persons {
		ending := endings[i%len(endings)]
		persons[i] = newPerson(acme)
		wg.Go(func() {
			var err error
			returned := false
			defer func() {
				switch v := recover(); {
				case v == any(errSome):
					how[i] = "panic"
				case v != nil:
					how[i] = fmt.Sprintf("another panic: %v", v)
				case !returned:
					how[i] = "exit"
				case err == nil:
					how[i] = "success"
				case errors.Is(err, errSome):
					how[i] = "error"
				default:
					how[i] = err.Error()
				}
			}()
			err = b.Write(ctx, func(tx kyc.Tx) error {
				if err := tx.InsertPerson(ctx, persons[i]); err != nil {
					return err
				}
				return ending.end()
			})
			returned = true
		})
	}
	wg.Wait()
	for i, p := range persons {
		ending := endings[i%len(endings)].name
		if how[i] != ending {
			t.Errorf("Write number %d ended by %s, want %s", i, how[i], ending)
		}
		if found := b.person(acme, p.ID) != nil; found != (ending == "success") {
			t.Errorf("after %s: person found = %v", ending, found)
		}
	}
}

// writeReportsCommitFailure: who was not committed is told so, and nothing of it stays.
func writeReportsCommitFailure(t *testing.T, b *bench) {
	f, ok := b.Store.(CommitFailer)
	if !ok {
		t.Skip("this store has no way to let a commit fail")
	}
	f.FailNextCommit()
	p := newPerson(acme)
	insert := func(tx kyc.Tx) error { return tx.InsertPerson(ctx, p) }
	wantKind(t, b.Write(ctx, insert), kyc.Unavailable)
	if b.person(acme, p.ID) != nil {
		t.Error("the person is there although its commit failed")
	}
	b.write(insert)
	if b.person(acme, p.ID) == nil {
		t.Error("the next write did not succeed")
	}
}

// writeIsSerial: no update is lost between readers who write what they read plus one.
func writeIsSerial(t *testing.T, b *bench) {
	p := newPerson(acme)
	b.add(p)
	const writers, rounds = 16, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				err := b.Write(ctx, func(tx kyc.Tx) error {
					p, err := tx.PersonByID(ctx, acme, p.ID)
					if err != nil {
						return err
					}
					p.Version++
					return tx.UpdatePerson(ctx, p)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := b.person(acme, p.ID).Version, 1+writers*rounds; got != want {
		t.Errorf("version %d, want %d", got, want)
	}
}

// writeSeesItself: a transaction reads its own writes, others do not before it is committed.
func writeSeesItself(t *testing.T, b *bench) {
	p := newFullPerson(acme)
	b.write(func(tx kyc.Tx) error {
		if err := tx.InsertPerson(ctx, p); err != nil {
			return err
		}
		got, err := tx.PersonByID(ctx, acme, p.ID)
		if err != nil {
			return err
		}
		same(t, "the transaction's person", got, p)
		if n, err := tx.CountPersons(ctx, acme, kyc.PersonFilter{}); n != 1 || err != nil {
			t.Errorf("the transaction counts %d persons, %v", n, err)
		}
		if b.person(acme, p.ID) != nil {
			t.Error("a reader sees what is not committed")
		}
		return nil
	})
	same(t, "the committed person", b.person(acme, p.ID), p)
}

// writeSurvivesConflict: a unique key is an answer, after which the transaction goes on.
func writeSurvivesConflict(t *testing.T, b *bench) {
	first, double, second := newPerson(acme), newPerson(acme), newPerson(acme)
	double.DocumentNumber = first.DocumentNumber
	b.add(first)
	b.write(func(tx kyc.Tx) error {
		wantKind(t, tx.InsertPerson(ctx, double), kyc.Conflict)
		found, err := tx.PersonByDocument(ctx, acme, double.DocumentNumber)
		if err != nil {
			return err
		}
		same(t, "the person in the way", found, first)
		return tx.InsertPerson(ctx, second)
	})
	if b.person(acme, double.ID) != nil || b.person(acme, second.ID) == nil {
		t.Error("want the second person and not the double")
	}
}

// writeHonoursContext: a context that has ended keeps fn from running; one that ends later changes nothing.
func writeHonoursContext(t *testing.T, b *bench) {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	err := b.Write(gone, func(kyc.Tx) error {
		t.Error("fn ran")
		return nil
	})
	wantKind(t, err, kyc.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not show the context's error", err)
	}

	ending, cancel := context.WithCancel(ctx)
	p := newPerson(acme)
	err = b.Write(ending, func(tx kyc.Tx) error {
		cancel()
		return tx.InsertPerson(ending, p)
	})
	if err != nil || b.person(acme, p.ID) == nil {
		t.Errorf("got %v for a write whose context ended while it ran", err)
	}

	// One that waits behind another leaves at once.
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		b.write(func(kyc.Tx) error {
			close(holding)
			<-release
			return nil
		})
	})
	<-holding
	waiting, cancel := context.WithCancel(ctx)
	cancelled := make(chan error)
	go func() {
		cancelled <- b.Write(waiting, func(kyc.Tx) error {
			t.Error("fn ran after its caller had left")
			return nil
		})
	}()
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a write that was given up", err)
	}
	close(release)
	wg.Wait()
	b.write(func(kyc.Tx) error { return nil }) // what was given up has been passed over by now
}

func readHonoursContext(t *testing.T, b *bench) {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for name, read := range map[string]func() error{
		"PersonByID":   func() error { _, err := b.PersonByID(gone, acme, kyc.NewPersonID()); return err },
		"Persons":      func() error { _, _, err := b.Persons(gone, acme, kyc.PersonFilter{}, kyc.Page{First: 1}); return err },
		"CountPersons": func() error { _, err := b.CountPersons(gone, acme, kyc.PersonFilter{}); return err },
	} {
		err := read()
		if kyc.KindOf(err) != kyc.Unavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want Unavailable around context.Canceled", name, err)
		}
	}
}

func ping(t *testing.T, b *bench) {
	for range 2 {
		if err := b.Ping(ctx); err != nil {
			t.Error(err)
		}
	}
}
