package app_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
)

const readByDocument = `query($cpf: String!) { personByDocument(documentNumber: $cpf) { name documentNumber } }`

// withOnePerson starts a gateway in the folder with one person in it, and stops it.
func withOnePerson(t *testing.T, dir string) config.Config {
	t.Helper()
	g := apptest.Start(t, apptest.Options{Dir: dir})
	if a := g.Query(g.Token(apptest.Bazaar), apptest.Register, apptest.Input("529.982.247-25", "E", nil)); a.Str("registerPerson.outcome") != "CREATED" {
		t.Fatalf("%s", a.Body)
	}
	g.Stop()
	return g.Config
}

func readable(t *testing.T, dir string) {
	t.Helper()
	g := apptest.Start(t, apptest.Options{Dir: dir})
	if a := g.Query(g.Token(apptest.Bazaar), readByDocument, map[string]any{"cpf": "52998224725"}); a.Str("personByDocument.name") != "Maria da Silva" {
		t.Errorf("%s", a.Body)
	}
	g.Stop()
}

func keysLine(t *testing.T, c config.Config) app.Check {
	t.Helper()
	for _, check := range app.Doctor(t.Context(), c, slog.New(slog.DiscardHandler)) {
		if check.Name == "keys" {
			return check
		}
	}
	t.Fatal("doctor has no line for the keys")
	return app.Check{}
}

// A sandbox makes its keyset once and keeps it, and doctor makes none.
func TestSandboxKeyset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "kycgate-sandbox-keyset.json")
	before := config.Default()
	before.Environment = config.Sandbox
	before.Database.URL = config.NewSecret("sqlite://" + filepath.Join(dir, "kycgate.db"))
	if line := keysLine(t, before); !line.OK || !strings.Contains(line.Detail, "none yet") {
		t.Errorf("%+v", line)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("doctor made a keyset: %v", err)
	}
	c := withOnePerson(t, dir)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	readable(t, dir)
	want := app.Check{Name: "keys", OK: true, Detail: "readable; made by `kycgate sandbox`; 1 master key, rotation finished"}
	if line := keysLine(t, c); line != want {
		t.Errorf("%+v", line)
	}
	// Nothing that is configured opens it: cmd/kycgate holds the same of production.
	c.Keys = &config.Keys{File: file, Passphrase: config.NewSecret("correct horse battery staple")}
	refusesToStart(t, c, "keys.file", "protects nothing")
}

// refusesToStart expects that a start ends with a configuration error of the setting and that doctor says the same.
func refusesToStart(t *testing.T, c config.Config, setting, says string) {
	t.Helper()
	a, err := app.New(t.Context(), app.Options{Config: c, Logger: slog.New(slog.DiscardHandler), Version: app.ReadVersion()})
	if err == nil {
		_ = a.Close()
	}
	var wrong *config.Error
	if !errors.As(err, &wrong) || wrong.Problems[0].Setting != setting || !strings.Contains(wrong.Problems[0].Problem, says) {
		t.Errorf("a start gives %v, want %s: %s", err, setting, says)
	}
	if line := keysLine(t, c); line.OK || !strings.Contains(line.Detail, setting) || !strings.Contains(line.Detail, says) {
		t.Errorf("doctor says %+v, want %s: %s", line, setting, says)
	}
}

// Serving with the keys of another database would lose what is encrypted meanwhile.
func TestAnotherKeyset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := withOnePerson(t, dir)
	file := filepath.Join(dir, "kycgate-sandbox-keyset.json")
	own, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, c, "keys.file", "not the keyset of this database")
	// A rotation would leave two keys in the wrong keyset.
	if err := app.RotateKeys(t.Context(), c, slog.New(slog.DiscardHandler), new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "not the keyset of this database") {
		t.Errorf("a rotation gives %v", err)
	}
	if k, _, err := vault.OpenSandbox(file); err != nil || k.Masters() != 1 {
		t.Errorf("the wrong keyset was rotated: %v", err)
	}
	if err := os.WriteFile(file, own, 0o600); err != nil {
		t.Fatal(err)
	}
	readable(t, dir)
}

// A rotation that was killed after its beginning is finished by the next one, with a gateway on the database or without.
func TestRotationGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := withOnePerson(t, dir)
	file := filepath.Join(dir, "kycgate-sandbox-keyset.json")
	k, _, err := vault.OpenSandbox(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.AddPrimary(); err != nil {
		t.Fatal(err)
	}
	if line := keysLine(t, c); !line.OK || !strings.Contains(line.Detail, "2 master keys, rotation unfinished: `kycgate keys rotate` finishes it") {
		t.Errorf("%+v", line)
	}
	var said strings.Builder
	if err := app.RotateKeys(t.Context(), c, slog.New(slog.DiscardHandler), &said); err != nil || !strings.Contains(said.String(), "going on") || !strings.Contains(said.String(), "done") {
		t.Errorf("%v, it says %s", err, said.String())
	}
	if line := keysLine(t, c); !line.OK || !strings.Contains(line.Detail, "1 master key, rotation finished") {
		t.Errorf("%+v", line)
	}
	readable(t, dir)

	g := apptest.Start(t, apptest.Options{Dir: dir})
	said.Reset()
	if err := app.RotateKeys(t.Context(), g.Config, slog.New(slog.DiscardHandler), &said); err != nil || !strings.Contains(said.String(), "a gateway runs") || !strings.Contains(said.String(), "done") {
		t.Errorf("%v, it says %s", err, said.String())
	}
	if _, err := k.Reload(); err != nil || k.Masters() != 1 {
		t.Errorf("%d master keys, %v", k.Masters(), err)
	}
	g.Stop()
	readable(t, dir)
}
