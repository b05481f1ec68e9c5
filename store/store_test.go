package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killedHelper); path != "" {
		writeUntilKilled(path)
	}
	if path := os.Getenv(smallFilesHelper); path != "" {
		writeIntoSmallFiles(path)
	}
	goleak.VerifyTestMain(m)
}

const acme kyc.PartnerID = "acme"

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func open(t testing.TB) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "kycgate.db"))
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	return openWith(t, path, testKeys)
}

func openWith(t testing.TB, path string, keys Keys) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path, Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if _, _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestConformance runs the suite, and then looks at every statement that was prepared on the way.
func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	texts := make(map[string]bool)
	t.Run("store", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) kyc.Store {
			s := open(t)
			t.Cleanup(func() {
				mu.Lock()
				defer mu.Unlock()
				for _, text := range s.statements() {
					texts[text] = true
				}
			})
			return s
		})
	})
	s := open(t)
	mustWrite(t, s, func(kyc.Tx) error { // on the writer's goroutine
		for text := range texts {
			if !control.MatchString(text) {
				checkStatement(t, s.writer.q, text)
			}
		}
		return nil
	})
	if len(texts) < 40 {
		t.Errorf("%d statements only", len(texts))
	}
}

var control = regexp.MustCompile(`^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA)`)

func nothing(kyc.Tx) error { return nil }

var documents atomic.Int64

func newPerson() *kyc.Person {
	return &kyc.Person{
		ID: kyc.NewPersonID(), PartnerID: acme,
		Profile: kyc.Profile{
			Name:           kyc.NewName("Maria da Silva Souza"),
			DocumentNumber: kyc.NewDocumentNumber(fmt.Sprintf("%011d", documents.Add(1))),
			Birthdate:      kyc.NewDate("1990-02-28"),
			Emails:         []kyc.Email{{Address: kyc.NewEmailAddress("maria.souza@example.com")}},
			Phones:         []kyc.Phone{{Number: kyc.NewPhoneNumber("+5511987654321"), Type: new(kyc.PhoneMobile)}},
			Address: kyc.Address{
				Street: kyc.NewPersonalText("Rua das Flores"), Number: new(kyc.NewPersonalText("1000")), Neighborhood: new(kyc.NewPersonalText("Centro")),
				City: "São Paulo", State: "SP", PostalCode: kyc.NewPersonalText("01000000"), Country: "BRA",
			},
			MotherName: new(kyc.NewName("Ana da Silva")),
		},
		SourceKyc: kyc.SourceOpenco, Kyc: kyc.KycReview{Status: kyc.KycNotRequired},
		CreatedAt: epoch, UpdatedAt: epoch, Version: 1,
	}
}

func newAnalysis(p *kyc.Person, submission kyc.Submission) *kyc.Analysis {
	return &kyc.Analysis{
		ID: kyc.NewAnalysisID(), PartnerID: p.PartnerID, PersonID: p.ID, RegistrationID: kyc.NewRegistrationID(), Provider: "qitech",
		Submission: submission, Status: kyc.KycPending, CreatedAt: epoch, UpdatedAt: epoch,
	}
}

func insert(p *kyc.Person) func(kyc.Tx) error {
	return func(tx kyc.Tx) error { return tx.InsertPerson(context.Background(), p) }
}

func mustWrite(t testing.TB, s *Store, fn func(kyc.Tx) error) {
	t.Helper()
	if err := s.Write(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, s *Store, p *kyc.Person) *kyc.Person {
	t.Helper()
	found, err := s.PersonByID(context.Background(), p.PartnerID, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// rows counts what a query finds on the store's own file.
func rows(t testing.TB, s *Store, query string, args ...any) (n int) {
	t.Helper()
	err := s.use(context.Background(), "test", func(_ context.Context, q *session) error {
		return q.conn.GetContext(context.Background(), &n, query, args...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRecover(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	p := newPerson()
	var analyses []*kyc.Analysis
	at := func(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }
	mustWrite(t, s, func(tx kyc.Tx) error {
		if err := tx.InsertPerson(t.Context(), p); err != nil {
			return err
		}
		for i, submission := range []kyc.Submission{kyc.SubmissionPlanned, kyc.SubmissionSent, kyc.SubmissionSent, kyc.SubmissionAmbiguous, kyc.SubmissionAccepted, kyc.SubmissionRefused} {
			a := newAnalysis(p, submission)
			analyses = append(analyses, a)
			if err := tx.InsertAnalysis(t.Context(), a); err != nil {
				return err
			}
			if err := tx.InsertCall(t.Context(), &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "analyze_person", Reference: string(a.ID), Number: 1, StartedAt: epoch}); err != nil {
				return err
			}
			if submission == kyc.SubmissionAccepted {
				if err := tx.EndCall(t.Context(), string(a.ID), "analyze_person", kyc.CallSucceeded, "ok", epoch); err != nil {
					return err
				}
			}
			job := &kyc.Job{ID: kyc.NewJobID(), Kind: kyc.JobAnalysis, PartnerID: acme, Subject: string(a.ID), RunAt: at(i - 1), Leased: i%2 == 0, Attempt: 1, Failures: 3, CreatedAt: epoch}
			if err := tx.InsertJob(t.Context(), job); err != nil {
				return err
			}
			if i == 4 {
				if _, err := tx.BuryJob(t.Context(), job.ID, 1, "poison", epoch); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openAt(t, path)
	leases, ambiguous, err := s.Recover(t.Context(), epoch)
	if leases != 3 || ambiguous != 2 || err != nil { // two leases, and the buried job
		t.Errorf("recovered %d jobs and %d analyses, %v; want 3 and 2", leases, ambiguous, err)
	}
	for i, want := range []kyc.Submission{kyc.SubmissionPlanned, kyc.SubmissionAmbiguous, kyc.SubmissionAmbiguous, kyc.SubmissionAmbiguous, kyc.SubmissionAccepted, kyc.SubmissionRefused} {
		a, err := s.Analysis(t.Context(), analyses[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		if a.Submission != want {
			t.Errorf("%s became %s, want %s", analyses[i].Submission, a.Submission, want)
		}
	}
	if n := rows(t, s, `SELECT count(*) FROM provider_calls WHERE outcome IS NULL`); n != 0 {
		t.Errorf("%d calls have no outcome", n)
	}
	if n := rows(t, s, `SELECT count(*) FROM provider_calls WHERE outcome = 'SUCCEEDED' AND code = 'ok'`); n != 1 {
		t.Error("a call that had its outcome lost it")
	}
	var claimed []*kyc.Job
	mustWrite(t, s, func(tx kyc.Tx) (err error) {
		claimed, err = tx.ClaimJobs(t.Context(), epoch, at(1), 10)
		return err
	})
	// Number 0 was overdue, 1 is due now, 2 was leased until later, 4 was buried; 3 and 5 wait.
	if len(claimed) != 4 || claimed[0].Subject != string(analyses[0].ID) {
		t.Errorf("claimed %d jobs", len(claimed))
	}
	for _, j := range claimed { // who was buried begins anew
		if buried := j.Subject == string(analyses[4].ID); buried != (j.Failures == 0) {
			t.Errorf("%s has %d failures", j.Subject, j.Failures)
		}
	}
	if leases, ambiguous, err = s.Recover(t.Context(), epoch); leases != 4 || ambiguous != 0 || err != nil {
		t.Errorf("recovered %d and %d again, %v", leases, ambiguous, err)
	}
}

func TestEndCallTakesTheNewestOpenCall(t *testing.T) {
	t.Parallel()
	s := open(t)
	mustWrite(t, s, func(tx kyc.Tx) error {
		for _, c := range []struct{ reference, operation string }{{"a", "x"}, {"a", "x"}, {"a", "y"}, {"b", "x"}} {
			if err := tx.InsertCall(t.Context(), &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: c.operation, Reference: c.reference, Number: 1, StartedAt: epoch}); err != nil {
				return err
			}
		}
		return tx.EndCall(t.Context(), "a", "x", kyc.CallRejected, "code", epoch)
	})
	if rows(t, s, `SELECT count(*) FROM provider_calls WHERE outcome IS NOT NULL`) != 1 ||
		rows(t, s, `SELECT count(*) FROM provider_calls WHERE seq = 2 AND outcome = 'REJECTED' AND code = 'code' AND ended_at = ?`, newMicros(epoch)) != 1 {
		t.Error("want the second call ended and no other")
	}
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := newPerson()
	mustWrite(t, s, insert(p))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	_, readErr := s.PersonByID(t.Context(), acme, p.ID)
	for name, err := range map[string]error{"read": readErr, "write": s.Write(t.Context(), insert(newPerson())), "ping": s.Ping(t.Context())} {
		if kyc.KindOf(err) != kyc.Unavailable {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
	}
}

func TestCloseCopiesTheLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	mustWrite(t, s, insert(newPerson()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path + "-wal", path + "-shm"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "kycgate.db"), Keys: testKeys, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := newPerson()
	mustWrite(t, s, insert(p))
	find(t, s, p)
	find(t, s, p)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]uint64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label += "{" + l.GetName() + "=" + l.GetValue() + "}"
			}
			got[f.GetName()+label] = m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue())
		}
		if !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("the help of %s is no sentence", f.GetName())
		}
	}
	for name, want := range map[string]uint64{
		"kycgate_store_transaction_duration_seconds{kind=write}": 1,
		"kycgate_store_transaction_duration_seconds{kind=read}":  2,
		"kycgate_store_commits_total":                            1,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
}

// TestLongReadEndsWithItsCaller (D24): a read that takes for ever is interrupted, and its connection serves the next.
func TestLongReadEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	s := open(t)
	for range readers + 1 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := s.use(ctx, "store.test", func(ctx context.Context, q *session) error {
			var n int
			_, err := q.value(ctx, &n, `WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n`)
			return err
		})
		cancel()
		if kyc.KindOf(err) != kyc.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want Unavailable around the deadline", err)
		}
	}
	mustWrite(t, s, insert(newPerson()))
	for range readers {
		if n, err := s.CountPersons(t.Context(), acme, kyc.PersonFilter{}); n != 1 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := newPerson()
	mustWrite(t, s, insert(p))
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), path); err == nil {
		t.Error("a backup wrote over a file")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v, %v", info.Mode(), err)
	}
	if copied := openAt(t, path); find(t, copied, p) == nil {
		t.Error("the person is not in the copy")
	}
}

// A face whose call was under way when the process died is AMBIGUOUS, whatever partner it is of; the others stay.
func TestRecoverFaces(t *testing.T) {
	t.Parallel()
	s := open(t)
	states := map[kyc.FaceID]kyc.FaceState{}
	mustWrite(t, s, func(tx kyc.Tx) error {
		for i, state := range []kyc.FaceState{kyc.FaceSent, kyc.FaceAmbiguous, kyc.FaceRegistered, kyc.FaceSent} {
			f := &kyc.FaceRegistration{
				ID: kyc.NewFaceID(), PartnerID: []kyc.PartnerID{acme, "other"}[i/3], Provider: "qitech", DocumentNumber: newPerson().DocumentNumber,
				Source: kyc.FaceFromImage, State: state, CreatedAt: epoch, UpdatedAt: epoch,
			}
			if state == kyc.FaceRegistered {
				f.RegistrationKey = "key"
			}
			states[f.ID] = state
			if err := tx.InsertFace(t.Context(), f); err != nil {
				return err
			}
		}
		return nil
	})
	if _, ambiguous, err := s.Recover(t.Context(), epoch.Add(time.Hour)); ambiguous != 2 || err != nil {
		t.Errorf("%d, %v", ambiguous, err)
	}
	for id, was := range states {
		f, err := s.FaceByID(t.Context(), acme, id)
		if f == nil {
			f, err = s.FaceByID(t.Context(), "other", id)
		}
		want, at := was, epoch
		if was == kyc.FaceSent {
			want, at = kyc.FaceAmbiguous, epoch.Add(time.Hour)
		}
		if err != nil || f.State != want || !f.UpdatedAt.Equal(at) {
			t.Errorf("%s became %s, %v", was, f.State, err)
		}
	}
}
