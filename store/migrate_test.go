package store

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s, err := Open(t.Context(), Options{Path: path, Keys: testKeys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	files, err := migrations.ReadDir("migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	latest, err := strconv.ParseInt(files[len(files)-1].Name()[:4], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if from, to, err := s.Migrate(t.Context()); from != 0 || to != latest || err != nil {
		t.Errorf("migrated from %d to %d, %v; want 0 to %d", from, to, err, latest)
	}
	p := newPerson()
	mustWrite(t, s, insert(p))
	if from, to, err := s.Migrate(t.Context()); from != latest || to != latest || err != nil {
		t.Errorf("migrated again from %d to %d, %v", from, to, err)
	}
	if find(t, s, p) == nil {
		t.Error("the person is lost")
	}

	db := openWriter(path)
	_, err = db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "9999") {
		t.Errorf("got %v for a newer database", err)
	}
}

// TestMigrationsAreForwardOnly: a way back would lose data and is never tried.
func TestMigrationsAreForwardOnly(t *testing.T) {
	t.Parallel()
	files, err := migrations.ReadDir("migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, f := range files {
		b, err := migrations.ReadFile("migrations/sqlite/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if strings.Contains(text, "+goose Down") || strings.Contains(text, "NO TRANSACTION") || !strings.HasPrefix(text, "-- +goose Up") {
			t.Errorf("%s must go up only, in a transaction", f.Name())
		}
		number, rest, _ := strings.Cut(f.Name(), "_")
		if n, err := strconv.Atoi(number); err != nil || len(number) != 4 || rest == "" || n <= last {
			t.Errorf("%s does not begin with a number of its own", f.Name())
		} else {
			last = n
		}
	}
}
