package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
)

func newAuditRecord(i int) *kyc.AuditRecord {
	return &kyc.AuditRecord{
		At: epoch.Add(time.Duration(i) * time.Millisecond), PartnerID: acme, PersonID: kyc.NewPersonID(), Object: string(kyc.NewRegistrationID()), Action: kyc.AuditActions()[i%6],
		Fields: []string{"Person.name", "Person.phones"}[:1+i%2], Actor: fmt.Sprintf("clerk-%d", i%7), TokenID: new("token"), Purpose: new("onboarding"), RequestID: new(fmt.Sprintf("REQUEST%d", i)),
	}
}

func audit(records ...*kyc.AuditRecord) func(kyc.Tx) error {
	return func(tx kyc.Tx) error { return tx.Audit(context.Background(), records...) }
}

// auditLog writes n records in transactions of several sizes and signs the head now and then.
func auditLog(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := 0; i < n; {
		var records []*kyc.AuditRecord
		for range 1 + i%23 {
			if i < n {
				records = append(records, newAuditRecord(i))
				i++
			}
		}
		mustWrite(t, s, audit(records...))
		if i%5 == 0 {
			mustSeal(t, s)
		}
	}
}

func mustSeal(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.SealAudit(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, path string) AuditReport {
	t.Helper()
	return verifyWith(t, path, testKeys)
}

func verifyWith(t testing.TB, path string, keys AuditKeys) AuditReport {
	t.Helper()
	r, err := VerifyAudit(t.Context(), path, HeadsFile(path), keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAuditVerifies(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	if r := verify(t, path); r.BadRecord != 0 || r.Records != 0 {
		t.Errorf("an empty log: %+v", r)
	}
	auditLog(t, s, 200)
	mustSeal(t, s)
	if sealed, err := s.SealAudit(t.Context()); sealed || err != nil {
		t.Errorf("sealed twice: %v, %v", sealed, err)
	}
	if r := verify(t, path); r.BadRecord != 0 || r.Records != 200 || r.SealedNumber != 200 || r.SealedAt.IsZero() {
		t.Errorf("while the store is open: %+v", r)
	}
	if info, err := os.Stat(HeadsFile(path)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of signed heads: %v, %v", info.Mode(), err)
	}
	others, err := vault.NewInMemory()
	if err != nil {
		t.Fatal(err)
	}
	if r := verifyWith(t, path, others); r.BadRecord != 1 {
		t.Errorf("with other keys: %+v", r)
	}
	// The chain goes on over a restart.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	if err := s.OpenAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	auditLog(t, s, 30)
	if r := verify(t, path); r.BadRecord != 0 || r.Records != 230 {
		t.Errorf("after a restart: %+v", r)
	}
}

// TestAuditGoesWithItsTransaction: what is undone leaves no record, and what shares its commit keeps its own, in order.
func TestAuditGoesWithItsTransaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	boom := errors.New("no")
	one, two, three := newAuditRecord(1), newAuditRecord(2), newAuditRecord(3)
	errs := together(s,
		audit(one),
		func(tx kyc.Tx) error { return errors.Join(tx.Audit(t.Context(), newAuditRecord(9)), boom) },
		audit(two),
		func(tx kyc.Tx) error { _ = tx.Audit(t.Context(), newAuditRecord(9)); panic("no") },
		audit(three),
	)
	if errs[0] != nil || !errors.Is(errs[1], boom) || errs[2] != nil || errs[3] == nil || errs[4] != nil {
		t.Fatal(errs)
	}
	if r := verify(t, path); r.BadRecord != 0 || r.Records != 3 {
		t.Errorf("got %+v", r)
	}
	for i, r := range []*kyc.AuditRecord{one, two, three} {
		got, err := s.AuditRecords(t.Context(), acme, []kyc.PersonID{r.PersonID}, kyc.Page{First: 5})
		if err != nil || len(got[r.PersonID]) != 1 {
			t.Fatalf("record %d: %v, %v", i, got, err)
		}
		want := *r
		want.Number = int64(i + 1)
		if g := got[r.PersonID][0]; !reflect.DeepEqual(*g, want) {
			t.Errorf("got  %+v\nwant %+v", *g, want)
		}
	}
	s.FailNextCommit()
	if err := s.Write(t.Context(), audit(newAuditRecord(4))); err == nil {
		t.Fatal("the commit did not fail")
	}
	mustWrite(t, s, nothing) // a commit without records must not take the lost ones for written
	mustWrite(t, s, audit(newAuditRecord(5)))
	if r := verify(t, path); r.BadRecord != 0 || r.Records != 4 {
		t.Errorf("after a failed commit: %+v", r)
	}
}

// TestAuditThatCannotBeWrittenLosesTheChange: no record, no change, and nothing else stops.
func TestAuditThatCannotBeWrittenLosesTheChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	mustWrite(t, s, audit(newAuditRecord(1)))
	outside(t, path, `INSERT INTO audit_log SELECT number + 1, at, partner_id, person_id, object_id, action, fields, actor, token_id, purpose, request_id, hash FROM audit_log`)
	p, q := newPerson(), newPerson()
	err := s.Write(t.Context(), func(tx kyc.Tx) error { return errors.Join(insert(p)(tx), audit(newAuditRecord(2))(tx)) })
	if kyc.KindOf(err) != kyc.Internal || find(t, s, p) != nil {
		t.Errorf("got %v, want Internal and nothing written", err)
	}
	mustWrite(t, s, insert(q))
	if find(t, s, q) == nil {
		t.Error("a write that has no record to make was lost")
	}
}

// TestAuditGoesOnBehindItsOwnHeadOnly: to append to a log whose end was changed would vouch for it.
func TestAuditGoesOnBehindItsOwnHeadOnly(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"end cut off":        `DELETE FROM audit_log WHERE number > 3`,
		"and the head too":   `DELETE FROM audit_log WHERE number > 3; UPDATE audit_head SET number = 3, hash = (SELECT hash FROM audit_log WHERE number = 3)`,
		"head gone":          `DELETE FROM audit_head`,
		"all gone, not head": `DELETE FROM audit_log`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "kycgate.db")
			s := openAt(t, path)
			auditLog(t, s, 5)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			outside(t, path, change)
			s = openAt(t, path)
			if err := s.OpenAudit(t.Context()); !errors.Is(err, errAuditHead) {
				t.Errorf("the start took it: %v", err)
			}
			if err := s.Write(t.Context(), audit(newAuditRecord(6))); err == nil {
				t.Error("it was gone on with")
			}
		})
	}
}

// outside changes a database as somebody with the file and without the keys can.
func outside(t testing.TB, path, sql string, args ...any) {
	t.Helper()
	db := openWriter(path)
	defer db.Close()
	if _, err := db.Exec(sql, args...); err != nil {
		t.Fatal(err)
	}
}

const tamperings = 1000

// TestAuditTamperings: change, drop, swap, insert, truncate, a thousand times at random; each is found and the first
// record that is not as it was written is named. The seed is in the name of what fails.
func TestAuditTamperings(t *testing.T) {
	t.Parallel()
	const n = 60
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	auditLog(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, path); r.BadRecord != 0 || r.Records != n {
		t.Fatalf("before: %+v", r)
	}
	heads, err := os.ReadFile(HeadsFile(path))
	if err != nil {
		t.Fatal(err)
	}
	db := openWriter(path)
	defer db.Close()
	db.MustExec(`PRAGMA synchronous = OFF`)
	kept := []string{`audit_log`, `audit_head`, `audit_seals`}
	for _, table := range kept {
		db.MustExec(`CREATE TABLE kept_` + table + ` AS SELECT * FROM ` + table)
	}
	restore := func() {
		for _, table := range kept {
			db.MustExec(`DELETE FROM ` + table + `; INSERT INTO ` + table + ` SELECT * FROM kept_` + table)
		}
		if err := os.WriteFile(HeadsFile(path), heads, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(map[string]int)
	kinds := slices.Sorted(maps.Keys(tampers))
	for seed := range uint64(tamperings) {
		r := rand.New(rand.NewPCG(seed, 7))
		kind := kinds[r.IntN(len(kinds))]
		want := tampers[kind](t, r, db, path, n)
		got := verify(t, path)
		if got.BadRecord == 0 || want != 0 && got.BadRecord != want {
			t.Errorf("%s, seed %d: found record %d (%s), want %d", kind, seed, got.BadRecord, got.Problem, want)
		}
		done[kind]++
		restore()
	}
	if r := verify(t, path); r.BadRecord != 0 || r.Records != n {
		t.Errorf("the test has spoilt its own log: %+v", r)
	}
	for _, kind := range kinds {
		if done[kind] < tamperings/len(kinds)/3 {
			t.Errorf("%s was tried %d times only", kind, done[kind])
		}
	}
	t.Log(done)
}

// tampers change a log of n records and give the number of the first that is not as it was written; 0 when it is no
// record that was changed but a signed head, and any number is right.
var tampers = map[string]func(t *testing.T, r *rand.Rand, db *sqlx.DB, path string, n int) int64{
	"change": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		at := 1 + r.IntN(n)
		switch c := []string{"at", "partner_id", "person_id", "object_id", "action", "fields", "actor", "token_id", "purpose", "request_id", "hash"}[r.IntN(11)]; c {
		case "at":
			db.MustExec(`UPDATE audit_log SET at = at + ? WHERE number = ?`, 1+r.IntN(1000), at)
		case "action":
			db.MustExec(`UPDATE audit_log SET action = CASE action WHEN 'READ' THEN 'UPDATE' ELSE 'READ' END WHERE number = ?`, at)
		case "hash":
			db.MustExec(`UPDATE audit_log SET hash = randomblob(32) WHERE number = ?`, at)
		default:
			db.MustExec(`UPDATE audit_log SET `+c+` = `+c+` || 'x' WHERE number = ?`, at)
		}
		return int64(at)
	},
	"move text between columns": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		at := 1 + r.IntN(n)
		db.MustExec(`UPDATE audit_log SET actor = actor || substr(token_id, 1, 1), token_id = substr(token_id, 2) WHERE number = ?`, at)
		return int64(at)
	},
	"drop": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		at := 1 + r.IntN(n)
		db.MustExec(`DELETE FROM audit_log WHERE number = ?`, at)
		return int64(at)
	},
	"drop and close the gap": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		at := 1 + r.IntN(n)
		db.MustExec(`DELETE FROM audit_log WHERE number = ?`, at)
		db.MustExec(`UPDATE audit_log SET number = -number WHERE number > ?`, at)
		db.MustExec(`UPDATE audit_log SET number = -number - 1 WHERE number < 0`)
		return int64(at)
	},
	"swap": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		a, b := 1+r.IntN(n), 1+r.IntN(n-1)
		if b >= a {
			b++
		}
		db.MustExec(`UPDATE audit_log SET number = -1 WHERE number = ?`, a)
		db.MustExec(`UPDATE audit_log SET number = ? WHERE number = ?`, a, b)
		db.MustExec(`UPDATE audit_log SET number = ? WHERE number = -1`, b)
		return int64(min(a, b))
	},
	"insert": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		at := 1 + r.IntN(n+1) // n + 1 is behind the last
		db.MustExec(`UPDATE audit_log SET number = -number WHERE number >= ?`, at)
		db.MustExec(`UPDATE audit_log SET number = 1 - number WHERE number < 0`)
		db.MustExec(`INSERT INTO audit_log SELECT ?, at, partner_id, person_id, object_id, action, fields, actor, token_id, purpose, request_id, hash
			FROM audit_log WHERE number <> ? ORDER BY number LIMIT 1 OFFSET ?`, at, at+1, r.IntN(n-1)) // not what stood there: that would be right there
		return int64(at)
	},
	"insert before the first": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		db.MustExec(`INSERT INTO audit_log SELECT ?, at, partner_id, person_id, object_id, action, fields, actor, token_id, purpose, request_id, hash
			FROM audit_log WHERE number = ?`, -r.IntN(5), 1+r.IntN(n))
		return 1
	},
	"truncate": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		left := r.IntN(n)
		db.MustExec(`DELETE FROM audit_log WHERE number > ?`, left)
		return int64(left + 1)
	},
	"truncate with its head": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		left := r.IntN(n)
		db.MustExec(`DELETE FROM audit_log WHERE number > ?; DELETE FROM audit_seals WHERE number > ?`, left, left)
		db.MustExec(`UPDATE audit_head SET number = ?, hash = coalesce((SELECT hash FROM audit_log WHERE number = ?), x'')`, left, left)
		if r.IntN(2) == 0 {
			db.MustExec(`DELETE FROM audit_head`)
		}
		return int64(left + 1)
	},
	"take back to an older copy": func(t *testing.T, r *rand.Rand, db *sqlx.DB, path string, n int) int64 {
		// With a head that was right then: only the file of signed heads knows better.
		left := r.IntN(n - 5) // the last head that was signed is of record n or a little before
		db.MustExec(`DELETE FROM audit_log WHERE number > ?; DELETE FROM audit_seals WHERE number > ?`, left, left)
		var head auditHead
		if err := db.Get(&head.Hash, `SELECT coalesce((SELECT hash FROM audit_log WHERE number = ?), x'')`, left); err != nil {
			t.Fatal(err)
		}
		head.Number = int64(left)
		db.MustExec(`UPDATE audit_head SET number = ?, hash = ?, mac = ?`, head.Number, head.Hash, head.mac(testKeys))
		return int64(left + 1)
	},
	"change the head": func(_ *testing.T, r *rand.Rand, db *sqlx.DB, _ string, n int) int64 {
		db.MustExec(`UPDATE audit_head SET ` + []string{`number = number + 1`, `number = number - 1`, `hash = randomblob(32)`, `mac = randomblob(32)`}[r.IntN(4)])
		return int64(n + 1)
	},
	"change a signed head": func(t *testing.T, r *rand.Rand, db *sqlx.DB, path string, _ int) int64 {
		switch r.IntN(3) {
		case 0:
			db.MustExec(`UPDATE audit_seals SET at = at + 1 WHERE number = (SELECT number FROM audit_seals ORDER BY random() LIMIT 1)`)
		case 1:
			db.MustExec(`UPDATE audit_seals SET signature = randomblob(64) WHERE number = (SELECT number FROM audit_seals ORDER BY random() LIMIT 1)`)
		default:
			if err := os.Remove(HeadsFile(path)); err != nil {
				t.Fatal(err)
			}
		}
		return 0
	},
	"change the file of signed heads": func(t *testing.T, r *rand.Rand, _ *sqlx.DB, path string, _ int) int64 {
		text, err := os.ReadFile(HeadsFile(path))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		at := r.IntN(len(lines))
		switch r.IntN(3) {
		case 0:
			lines = slices.Delete(lines, at, at+1)
		case 1:
			lines[at] = bytes.Replace(lines[at], []byte(`"signature":"`), []byte(`"signature":"00`), 1)
		default:
			lines[at] = bytes.Replace(lines[at], []byte(`"number":`), []byte(`"number":1`), 1)
		}
		if err := os.WriteFile(HeadsFile(path), bytes.Join(lines, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		return 0
	},
}

// TestHalfALineOfSignedHeads: a crash in the middle of a line is no tampering, and the next line stands by itself.
func TestHalfALineOfSignedHeads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	auditLog(t, s, 10)
	mustSeal(t, s)
	f, err := os.OpenFile(HeadsFile(path), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"number":11,"ha`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	auditLog(t, s, 10)
	mustSeal(t, s)
	if r := verify(t, path); r.BadRecord != 0 || r.BrokenLines != 1 || r.SealedNumber != 20 {
		t.Errorf("got %+v", r)
	}
}

func TestSealIsDueAfterManyRecords(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "kycgate.db"))
	due := func() bool {
		select {
		case <-s.SealDue():
			return true
		default:
			return false
		}
	}
	records := make([]*kyc.AuditRecord, sealEvery-1)
	for i := range records {
		records[i] = newAuditRecord(i)
	}
	for range 2 {
		mustWrite(t, s, audit(records...))
		if due() {
			t.Error("due too early")
		}
		mustWrite(t, s, audit(records[0]))
		if !due() {
			t.Error("not due after as many records as there may be")
		}
		mustSeal(t, s)
	}
}

func BenchmarkAudit(b *testing.B) {
	for _, n := range []int{1, 25, 100} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			s := open(b)
			records := make([]*kyc.AuditRecord, n)
			for i := range records {
				records[i] = newAuditRecord(i)
			}
			for b.Loop() {
				mustWrite(b, s, audit(records...))
			}
		})
	}
}
