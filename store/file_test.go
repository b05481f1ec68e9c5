package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != want {
		t.Errorf("%s has mode %o, want %o", filepath.Base(path), info.Mode().Perm(), want)
	}
}

// TestFileModes (X03): nobody else reads the database, nor one that was made readable.
func TestFileModes(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a", "b?c#d%20e") // and a name that is no plain URL
	path := filepath.Join(folder, "kycgate.db")
	check := func() {
		t.Helper()
		for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
			wantMode(t, name, 0o600)
		}
	}
	s := openAt(t, path)
	mustWrite(t, s, insert(newPerson()))
	wantMode(t, folder, 0o700)
	wantMode(t, filepath.Dir(folder), 0o700)
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
			t.Fatal(err)
		} else if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s = openAt(t, path)
	mustWrite(t, s, insert(newPerson()))
	check()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 4 {
		t.Errorf("found %v, %v", entries, err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate.db")
	s := openAt(t, path)
	_, err := Open(t.Context(), Options{Path: path, Keys: testKeys})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("got %v, want who to stop", err)
	}
	mustWrite(t, s, insert(newPerson())) // the first is not disturbed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}
