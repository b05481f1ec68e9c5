package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// killedHelper names the database that a process of this test binary writes into until it is killed.
const killedHelper = "KYCGATE_STORE_TEST_KILLED"

const killRounds = 20

// TestKilledProcessLosesNothing (R1): what was acknowledged before a kill -9 at a random moment is there afterwards, and what
// was written together is there together.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	keys := createKeys(t, path+".keys")
	acknowledged := make(map[kyc.PersonID]bool)
	for range killRounds {
		for _, id := range runAndKill(t, path, time.Duration(5+rand.IntN(300))*time.Millisecond) {
			acknowledged[id] = true
		}
	}
	s := openWith(t, path, keys)
	for id := range acknowledged {
		counts, err := s.CountRegistrations(t.Context(), acme, []kyc.PersonID{id})
		if err != nil {
			t.Fatal(err)
		}
		if find(t, s, &kyc.Person{PartnerID: acme, ID: id}) == nil || counts[id] != 1 {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	if half := rows(t, s, `SELECT count(*) FROM persons p WHERE NOT EXISTS (SELECT 1 FROM registrations r WHERE r.person_id = p.id)`); half != 0 {
		t.Errorf("%d persons were written by half", half)
	}
	var check string
	if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
		return q.conn.GetContext(ctx, &check, `PRAGMA integrity_check`)
	}); err != nil || check != "ok" {
		t.Errorf("integrity check: %s, %v", check, err)
	}
	// The audit log is in the same transactions, so it is whole and holds one record a person.
	if r := verifyWith(t, path, keys); r.BadRecord != 0 || int(r.Records) != rows(t, s, `SELECT count(*) FROM persons`) || r.SealedNumber == 0 {
		t.Errorf("the audit log: %+v", r)
	}
	if len(acknowledged) < killRounds {
		t.Errorf("only %d writes were acknowledged: the test tests nothing", len(acknowledged))
	}
	t.Logf("%d acknowledged over %d kills, %d written", len(acknowledged), killRounds, rows(t, s, `SELECT count(*) FROM persons`))
}

// runAndKill starts a writer, kills it after it has acknowledged something and some time has passed, and returns what it acknowledged.
func runAndKill(t *testing.T, path string, after time.Duration) (acknowledged []kyc.PersonID) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedHelper+"="+path, keysHelper+"="+path+".keys")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	var timer *time.Timer
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the last line may be cut in the middle: then it was not acknowledged
		}
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		acknowledged = append(acknowledged, kyc.PersonID(strings.TrimSpace(line)))
	}
	if err := cmd.Wait(); err == nil || timer == nil {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	timer.Stop()
	return acknowledged
}

func writeUntilKilled(path string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path, Keys: testKeys, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, _, err = s.Migrate(ctx)
	}
	if err == nil {
		_, _, err = s.Recover(ctx, time.Now())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	documents.Store(time.Now().UnixMicro() % 10_000_000_000)
	var writers sync.WaitGroup
	writers.Go(func() {
		for {
			if _, err := s.SealAudit(ctx); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	})
	for range 8 {
		writers.Go(func() {
			for {
				p := newPerson()
				err := s.Write(ctx, func(tx kyc.Tx) error {
					if err := tx.InsertPerson(ctx, p); err != nil {
						return err
					}
					record := newAuditRecord(1)
					record.PersonID = p.ID
					if err := tx.Audit(ctx, record); err != nil {
						return err
					}
					return tx.InsertRegistration(ctx, &kyc.Registration{ID: kyc.NewRegistrationID(), PartnerID: acme, PersonID: p.ID, Payload: kyc.JSON(`{}`), Profile: p.Profile, ReceivedAt: epoch, Outcome: kyc.OutcomeCreated})
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				_, _ = os.Stdout.WriteString(string(p.ID) + "\n")
			}
		})
	}
	writers.Wait()
}
