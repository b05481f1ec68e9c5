package main

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // a second hand on the file

	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// TestAuditVerify: an operator checks the log of a gateway that runs, and of one whose file somebody has changed.
func TestAuditVerify(t *testing.T) {
	t.Parallel()
	file := configuration(t, production)
	verify := func(want int, says string) {
		t.Helper()
		code, stdout, stderr := kycgate(t, "audit", "verify", "--config", file)
		if code != want || stderr != "" || strings.Count(stdout, "\n") != 1 || !strings.HasPrefix(stdout, says) {
			t.Errorf("ends with %d, want %d and %q\nstdout: %s\nstderr: %s", code, want, says, stdout, stderr)
		}
	}
	if code, stdout, stderr := kycgate(t, "audit", "verify", "--config", file); code != 1 || stdout != "" || !strings.Contains(stderr, "database.url") {
		t.Errorf("without a database it ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	if code, _, stderr := kycgate(t, "migrate", "--config", file); code != 0 {
		t.Fatal(stderr)
	}
	verify(0, "ok, 0 records, no head signed yet\n")

	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := vault.Open(cfg.Keys.File, vault.Passphrase(cfg.Keys.Passphrase.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	signed := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	s, err := store.Open(t.Context(), store.Options{Path: cfg.Database.SQLitePath(), Keys: keys, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return signed }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), func(tx kyc.Tx) error {
		for range 5 {
			if err := tx.Audit(t.Context(), &kyc.AuditRecord{At: signed, PartnerID: "acme", PersonID: kyc.NewPersonID(), Object: string(kyc.NewRegistrationID()), Action: kyc.AuditRead, Fields: []string{"Person.name"}, Actor: "clerk"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if sealed, err := s.SealAudit(t.Context()); err != nil || !sealed {
		t.Fatal(err)
	}
	verify(0, "ok, 5 records, head signed at 2026-11-25T12:00:00Z (record 5)\n") // while the store is open
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(filepath.Dir(file), "kycgate.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(`UPDATE audit_log SET actor = 'nobody' WHERE number = 3`); err != nil {
		t.Fatal(err)
	}
	verify(1, "FAIL, record 3: its hash does not match")
	if _, err := db.Exec(`DELETE FROM audit_log WHERE number = 2`); err != nil {
		t.Fatal(err)
	}
	verify(1, "FAIL, record 2: it is missing")
}

func TestDataMap(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := kycgate(t, "data-map")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "# Personal data map\n") || !strings.Contains(stdout, "`Person.documentNumber`") {
		t.Errorf("ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
}
