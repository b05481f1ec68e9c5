package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/kycgate/kycgate/kyc"
)

// canary is a CPF that must not be seen anywhere.
const canary = "52998224725"

func TestFailure(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	own := kyc.E(kyc.NotFound, "x", nil)
	code := func(c sqlite3.ErrNo) error { return sqlite3.Error{Code: c} }
	constraint := func(c sqlite3.ErrNoExtended) error {
		return sqlite3.Error{Code: sqlite3.ErrConstraint, ExtendedCode: c}
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		kind kyc.Kind
		is   error
	}{
		"unique":        {nil, constraint(sqlite3.ErrConstraintUnique), kyc.Conflict, nil},
		"primary key":   {nil, constraint(sqlite3.ErrConstraintPrimaryKey), kyc.Conflict, nil},
		"foreign key":   {nil, constraint(sqlite3.ErrConstraintForeignKey), kyc.Internal, nil},
		"check":         {nil, constraint(sqlite3.ErrConstraintCheck), kyc.Internal, nil},
		"not null":      {nil, constraint(sqlite3.ErrConstraintNotNull), kyc.Internal, nil},
		"busy":          {nil, code(sqlite3.ErrBusy), kyc.Unavailable, nil},
		"locked":        {nil, code(sqlite3.ErrLocked), kyc.Unavailable, nil},
		"full":          {nil, code(sqlite3.ErrFull), kyc.Unavailable, nil},
		"cannot open":   {nil, code(sqlite3.ErrCantOpen), kyc.Unavailable, nil},
		"I/O":           {nil, code(sqlite3.ErrIoErr), kyc.Unavailable, nil},
		"wrapped":       {nil, fmt.Errorf("around: %w", code(sqlite3.ErrBusy)), kyc.Unavailable, nil},
		"corrupt":       {nil, code(sqlite3.ErrCorrupt), kyc.Internal, nil},
		"SQL":           {nil, code(sqlite3.ErrError), kyc.Internal, nil},
		"closed":        {nil, errClosed, kyc.Unavailable, errClosed},
		"failed":        {nil, errFailed, kyc.Unavailable, errFailed},
		"connection":    {nil, sql.ErrConnDone, kyc.Unavailable, nil},
		"canceled":      {gone, context.Canceled, kyc.Unavailable, context.Canceled},
		"deadline":      {nil, context.DeadlineExceeded, kyc.Unavailable, context.DeadlineExceeded},
		"interrupted":   {gone, code(sqlite3.ErrInterrupt), kyc.Unavailable, context.Canceled},
		"our own":       {nil, own, kyc.NotFound, own},
		"anything else": {nil, errors.New("what"), kyc.Internal, nil},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		err := failure(ctx, "store.test", c.err)
		if kyc.KindOf(err) != c.kind || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is %s, want %s", name, err, kyc.KindOf(err), c.kind)
		}
	}
	if failure(context.Background(), "store.test", nil) != nil {
		t.Error("no error became one")
	}
}

// TestErrorsQuoteNoValue: whatever goes wrong with a row, the canary in each of its columns stays out of the text.
func TestErrorsQuoteNoValue(t *testing.T) {
	t.Parallel()
	s := open(t)
	full := func() *kyc.Person {
		p := newPerson()
		text := kyc.NewPersonalText(canary)
		p.ID, p.DocumentNumber = kyc.PersonID("per_"+canary), kyc.NewDocumentNumber(canary)
		p.Name, p.Birthdate = kyc.NewName(canary), kyc.NewDate(canary)
		p.Emails, p.Phones = []kyc.Email{{Address: kyc.NewEmailAddress(canary)}}, []kyc.Phone{{Number: kyc.NewPhoneNumber(canary)}}
		p.Address.Street, p.Occupation, p.Kyc.Reason = text, &text, new(canary)
		return p
	}
	mustWrite(t, s, insert(full()))
	mustWrite(t, s, func(tx kyc.Tx) error {
		return tx.MapExternalID(t.Context(), acme, full().ID, kyc.ExternalID{Value: canary, MappedAt: epoch})
	})
	bad := func(change func(*kyc.Person)) func(kyc.Tx) error {
		p := full()
		p.ID, p.DocumentNumber = kyc.NewPersonID(), kyc.NewDocumentNumber(canary+"0")
		change(p)
		return insert(p)
	}
	broken := func(column string, value any) func(kyc.Tx) error { // a row nobody of us writes
		return func(x kyc.Tx) error {
			q := s.writer.q
			if _, err := q.exec(`UPDATE persons SET `+column+` = ? WHERE partner_id = ?`, value, acme); err != nil {
				return failure(t.Context(), "store.test", err)
			}
			_, err := x.PersonByID(t.Context(), acme, full().ID)
			return err
		}
	}
	brokenJSON := func(text string) func(kyc.Tx) error { // sealed properly all the same
		return func(x kyc.Tx) error {
			k, err := x.(*tx).keyFor(s.writer.q, acme, string(full().ID))
			if err != nil {
				return failure(t.Context(), "store.test", err)
			}
			sealed, err := k.seal("persons", "profile", string(full().ID), []byte(text))
			if err != nil {
				return failure(t.Context(), "store.test", err)
			}
			return broken("sealed_profile", sealed)(x)
		}
	}
	for name, fn := range map[string]func(kyc.Tx) error{
		"unique": insert(full()),
		"external id": func(tx kyc.Tx) error {
			return tx.MapExternalID(t.Context(), acme, full().ID, kyc.ExternalID{Value: canary})
		},
		"foreign key": func(tx kyc.Tx) error {
			return tx.MapExternalID(t.Context(), canary, canary, kyc.ExternalID{Value: canary})
		},
		"check":           bad(func(p *kyc.Person) { p.SourceKyc = canary }),
		"check of status": bad(func(p *kyc.Person) { p.Kyc.Status = canary }),
		"no such row":     func(tx kyc.Tx) error { return tx.UpdatePerson(t.Context(), &kyc.Person{ID: canary}) },
		"not sealed":      broken("sealed_profile", []byte(canary)),
		"broken JSON":     brokenJSON(canary + "x"),
		"other JSON":      brokenJSON(`{"emails":{"` + canary + `":` + canary + `}}`),
		"number in JSON":  brokenJSON(`{"phones":[` + canary + `]}`),
		"strict type":     broken("created_at", canary+"x"),
		"SQL": func(kyc.Tx) error {
			_, err := s.writer.q.exec(`SELECT ? FROM nowhere`, canary)
			return failure(t.Context(), "store.test", err)
		},
		"scan": func(kyc.Tx) error {
			var n int
			_, err := s.writer.q.value(untimed, &n, `SELECT partner_id || ? FROM persons WHERE partner_id = ?`, canary, acme)
			return failure(t.Context(), "store.test", err)
		},
	} {
		err := s.Write(t.Context(), fn)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(fmt.Sprintf("%v %+v %q", e, e, e), canary) {
				t.Errorf("%s: %v", name, e)
			}
		}
		if b, _ := json.Marshal(err); strings.Contains(string(b), canary) {
			t.Errorf("%s: %s", name, b)
		}
	}
}

func TestOpenRefusesAForeignFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	writeFile(t, path, strings.Repeat("this is no database ", 100), 0o600)
	if s, err := Open(t.Context(), Options{Path: path, Keys: testKeys}); err == nil {
		s.Close()
		t.Error("opened")
	}
}
