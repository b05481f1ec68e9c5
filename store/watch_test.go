package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/kyc"
)

// watched is a store whose changes wake a feed, a service over it, and one that nobody wakes, as another process is.
type watched struct {
	*Store
	woken, other *kyc.Service
	clock        *clockwork.FakeClock
	failing      atomic.Bool
}

// EventsSince fails when it is told to.
func (w *watched) EventsSince(ctx context.Context, partner kyc.PartnerID, subject string, version, limit int) ([]kyc.Event, int, error) {
	if w.failing.Load() {
		return nil, 0, kyc.E(kyc.Unavailable, "test", errors.New("locked"))
	}
	return w.Store.EventsSince(ctx, partner, subject, version, limit)
}

func watch(t *testing.T, state PersonState) *watched {
	t.Helper()
	feed, log := kyc.NewFeed(), slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), Options{
		Path: filepath.Join(t.TempDir(), "kycgate.db"), Keys: testKeys, Logger: log, Changed: feed.Wake, PersonState: state,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &watched{Store: s, clock: clockwork.NewFakeClock()}
	w.woken = kyc.New(kyc.Config{Store: w, Clock: w.clock, Logger: log, Feed: feed})
	w.other = kyc.New(kyc.Config{Store: w, Clock: w.clock, Logger: log})
	return w
}

func callerOf(ctx context.Context, partner kyc.PartnerID) context.Context {
	return kyc.WithCaller(ctx, kyc.Caller{Partner: partner})
}

// versions writes n more versions of a person.
func (w *watched) versions(t *testing.T, p *kyc.Person, n int) {
	t.Helper()
	for range n {
		p.Version++
		mustWrite(t, w.Store, func(tx kyc.Tx) error { return tx.UpdatePerson(t.Context(), p) })
	}
}

func wantVersions(t *testing.T, events <-chan kyc.Event, versions ...int) {
	t.Helper()
	for _, v := range versions {
		select {
		case e, ok := <-events:
			if !ok || e.Version != v {
				t.Fatalf("got version %d (%v), want %d", e.Version, ok, v)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("version %d did not come", v)
		}
	}
}

func wantEnd(t *testing.T, events <-chan kyc.Event) {
	t.Helper()
	select {
	case e, ok := <-events:
		if ok {
			t.Errorf("after the end came version %d", e.Version)
		}
	case <-time.After(20 * time.Second):
		t.Error("it did not end")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	w.versions(t, p, 249)
	ctx, cancel := context.WithCancel(callerOf(t.Context(), p.PartnerID))
	defer cancel()
	follow := func(since *int) <-chan kyc.Event {
		events, err := w.woken.Watch(ctx, string(p.ID), since)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	all, some, newest, later := follow(new(0)), follow(new(240)), follow(nil), follow(new(251))
	for v := range 250 {
		wantVersions(t, all, v+1)
	}
	wantVersions(t, some, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250)
	wantVersions(t, newest, 250)
	w.versions(t, p, 3) // the clock stands still: it is the commit that wakes
	for _, events := range []<-chan kyc.Event{all, some, newest} {
		wantVersions(t, events, 251, 252, 253)
	}
	wantVersions(t, later, 252, 253)
	cancel()
	for _, events := range []<-chan kyc.Event{all, some, newest, later} {
		wantEnd(t, events)
	}
}

// Whoever is not woken, because another process has written, looks by itself.
func TestWatchLooksByItself(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	ctx, cancel := context.WithCancel(callerOf(t.Context(), p.PartnerID))
	defer cancel()
	events, err := w.other.Watch(ctx, string(p.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantVersions(t, events, 1)
	w.versions(t, p, 2)
	if err := w.clock.BlockUntilContext(ctx, 1); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(5 * time.Second)
	wantVersions(t, events, 2, 3)
	// While the store cannot be read the listener waits; then it gets what it has missed.
	w.failing.Store(true)
	w.versions(t, p, 1)
	w.clock.Advance(5 * time.Second)
	w.failing.Store(false)
	w.clock.Advance(5 * time.Second)
	wantVersions(t, events, 4)
	cancel()
	wantEnd(t, events)
}

// Nobody learns whether somebody else's subject exists, and a wrong version is refused.
func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	hidden := newPerson()
	hidden.Version = 0
	mustWrite(t, w.Store, insert(hidden))
	texts := make(map[string]bool)
	for name, c := range map[string]struct {
		partner kyc.PartnerID
		subject string
		since   *int
		kind    kyc.Kind
	}{
		"another partner's": {"other", string(p.ID), nil, kyc.NotFound},
		"unknown":           {p.PartnerID, string(kyc.NewPersonID()), new(3), kyc.NotFound},
		"not accepted":      {p.PartnerID, string(hidden.ID), nil, kyc.NotFound},
		"no id":             {p.PartnerID, "", nil, kyc.NotFound},
		"negative":          {p.PartnerID, string(p.ID), new(-1), kyc.Invalid},
	} {
		events, err := w.woken.Watch(callerOf(t.Context(), c.partner), c.subject, c.since)
		if events != nil || kyc.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if c.kind == kyc.NotFound {
			texts[fmt.Sprintf("%#v", err)] = true
		}
	}
	w.failing.Store(true)
	if _, err := w.woken.Watch(callerOf(t.Context(), p.PartnerID), string(p.ID), nil); kyc.KindOf(err) != kyc.Unavailable {
		t.Error(err)
	}
}

// Whoever follows somebody who is erased learns that it is over.
func TestWatchEndsWithThePerson(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	mustWrite(t, w.Store, func(tx kyc.Tx) error { return processOf(tx, p, "prc_1", 1) })
	ctx := callerOf(t.Context(), p.PartnerID)
	person, err := w.woken.Watch(ctx, string(p.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	process, err := w.woken.Watch(ctx, "prc_1", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantVersions(t, person, 2)
	wantVersions(t, process, 1)
	mustWrite(t, w.Store, func(tx kyc.Tx) error {
		_, err := tx.ErasePerson(ctx, p.PartnerID, p.ID, kyc.ErasureRequested, epoch)
		return err
	})
	wantEnd(t, person)
	wantEnd(t, process)
}

// processOf records a change of an object with versions of its own, as the methods that store one do. Without a person it belongs
// to nobody yet.
func processOf(t kyc.Tx, p *kyc.Person, id string, version int) error {
	c := change{partner: acme, subject: id, version: version, kind: kyc.EventProcess, state: map[string]any{"status": version}, at: epoch}
	if p != nil {
		c.partner, c.person = p.PartnerID, p.ID
	}
	w := t.(*tx)
	return w.use(untimed, "test", func(_ context.Context, q *session) error { return w.changed(q, c) })
}

// An object's change is a version of the object and one of its person, with the state of each; what was recorded before its person
// was known goes with the person too.
func TestEventsOfObjects(t *testing.T) {
	t.Parallel()
	asked, broken := 0, false
	w := watch(t, func(ctx context.Context, tx kyc.Tx, c kyc.PersonChange) (*kyc.PersonVersion, error) {
		if asked++; broken {
			return nil, kyc.Errorf("test", "no state")
		}
		p, err := tx.PersonByID(ctx, c.PartnerID, c.PersonID)
		return &kyc.PersonVersion{State: fmt.Appendf(nil, `{"version":%d}`, p.Version)}, err
	})
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	mustWrite(t, w.Store, func(tx kyc.Tx) error { return processOf(tx, nil, "prc_1", 0) }) // nobody may see it yet
	mustWrite(t, w.Store, func(tx kyc.Tx) error { return processOf(tx, nil, "prc_1", 1) })
	mustWrite(t, w.Store, func(tx kyc.Tx) error {
		p.Version = 7
		return errors.Join(processOf(tx, p, "prc_1", 2), tx.UpdatePerson(t.Context(), p), processOf(tx, p, "prc_2", 1))
	})
	if asked != 2 {
		t.Errorf("the state of a person was asked for %d times in two transactions", asked)
	}
	got := func(subject string) (texts []string) {
		events, _, err := w.EventsSince(t.Context(), p.PartnerID, subject, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			texts = append(texts, fmt.Sprintf("%d %s %s %s", e.Version, e.Kind, e.Object, e.State))
		}
		return texts
	}
	for subject, want := range map[string]string{
		"prc_1":      `[1 PROCESS prc_1 {"status":1} 2 PROCESS prc_1 {"status":2}]`,
		"prc_2":      `[1 PROCESS prc_2 {"status":1}]`,
		string(p.ID): fmt.Sprintf(`[1 PERSON %s {"version":1} 2 PROCESS prc_2 {"version":7}]`, p.ID),
	} {
		if text := fmt.Sprint(got(subject)); text != want {
			t.Errorf("%s: %s, want %s", subject, text, want)
		}
	}
	// The state is asked for inside of the transaction, so its failure undoes it.
	broken = true
	if err := w.Write(t.Context(), func(tx kyc.Tx) error { return processOf(tx, p, "prc_3", 1) }); kyc.KindOf(err) != kyc.Internal || len(got("prc_3")) != 0 {
		t.Errorf("%v, and %v", err, got("prc_3"))
	}
	mustWrite(t, w.Store, func(tx kyc.Tx) error { return tx.DeletePerson(t.Context(), p.PartnerID, p.ID) })
	for _, subject := range []string{"prc_1", "prc_2", string(p.ID)} {
		if left := got(subject); len(left) != 0 {
			t.Errorf("%s is left with %v", subject, left)
		}
	}
}

// Migrating gives a version to everybody who can be seen already, so that they can be followed.
func TestPersonsBeforeEvents(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	p := newPerson()
	mustWrite(t, w.Store, insert(p))
	// What the migration does, on a table that is as it was before.
	mustWrite(t, w.Store, func(k kyc.Tx) error {
		x := k.(*tx)
		return x.use(untimed, "test", func(_ context.Context, q *session) error {
			if _, err := q.exec(`DELETE FROM events`); err != nil {
				return err
			}
			text, err := migrations.ReadFile("migrations/sqlite/0007_events.sql")
			if err != nil {
				return err
			}
			_, insert, _ := cutLast(string(text), "INSERT INTO events")
			_, err = q.conn.ExecContext(untimed, "INSERT INTO events"+insert)
			return err
		})
	})
	events, newest, err := w.EventsSince(t.Context(), p.PartnerID, string(p.ID), 0, 10)
	if err != nil || newest != 1 || len(events) != 1 || events[0].State != nil || !events[0].At.Equal(p.UpdatedAt) {
		t.Errorf("%+v %d %v", events, newest, err)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	for i := len(s) - len(sep); i >= 0; i-- {
		if s[i:i+len(sep)] == sep {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}
