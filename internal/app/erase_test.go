package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

const (
	erase = `mutation E($id: ID!) { erasePerson(input: {personId: $id, reason: DATA_SUBJECT_REQUEST}) {
  erasure { status blockedUntil reason providers { provider status references } completedAt } userErrors { code path } } }`
	findAll = `query F($id: ID!, $cpf: String!, $external: String!) { person(id: $id) { id } node(id: $id) { id }
  personByDocument(documentNumber: $cpf) { id } personByExternalId(externalId: $external) { id } persons(first: 100) { nodes { id } totalCount } }`
)

func register(t *testing.T, g *apptest.Gateway, token, cpf, external string) string {
	t.Helper()
	a := g.Query(token, apptest.Register, apptest.Input(cpf, external, nil))
	id := a.Str("registerPerson.person.id")
	if id == "" {
		t.Fatalf("%s", a.Body)
	}
	return id
}

// gone asks for a person in every way there is.
func gone(t *testing.T, g *apptest.Gateway, token, id, cpf, external string) {
	t.Helper()
	a := g.Query(token, findAll, map[string]any{"id": id, "cpf": cpf, "external": external})
	if len(a.Errors) > 0 || a.Get("person") != nil || a.Get("node") != nil || a.Get("personByDocument") != nil || a.Get("personByExternalId") != nil ||
		strings.Contains(string(a.Body), id) {
		t.Errorf("the erased person is there: %s", a.Body)
	}
}

func TestErasePerson(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	cpf, other := apptest.CPF(9, 1), apptest.CPF(9, 2)
	id, stays := register(t, g, token, cpf, "E1"), register(t, g, token, other, "E2")
	register(t, g, token, cpf, "E3") // a second analysis and a second external id

	for name, wrong := range map[string]struct{ token, id string }{
		"another partner's": {g.Token(apptest.Rival), id}, "of nobody": {token, string(kyc.NewPersonID())}, "no id": {token, "per_x"}, "of another kind": {token, "reg_" + id[4:]},
	} {
		a := g.Query(wrong.token, erase, map[string]any{"id": wrong.id})
		if a.Get("erasePerson.erasure") != nil || a.Str("erasePerson.userErrors.0.code") != "NOT_FOUND" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := g.Query(g.Token(apptest.Acme, kyc.PersonsRead, kyc.PersonsWrite, kyc.PIIRead), erase, map[string]any{"id": id}); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" {
		t.Errorf("without admin: %s", a.Body)
	}

	first := g.Query(token, erase, map[string]any{"id": id})
	if first.Str("erasePerson.erasure.status") != "DONE" || first.Str("erasePerson.erasure.completedAt") == "" || first.Get("erasePerson.erasure.blockedUntil") != nil {
		t.Fatalf("%s", first.Body)
	}
	if p, _ := first.Get("erasePerson.erasure.providers").([]any); len(p) != 1 || first.Str("erasePerson.erasure.providers.0.provider") != "qitech" ||
		first.Str("erasePerson.erasure.providers.0.status") != "MANUAL" || len(first.Get("erasePerson.erasure.providers.0.references").([]any)) != 2 {
		t.Errorf("who was sent something: %s", first.Body)
	}
	gone(t, g, token, id, cpf, "E1")
	gone(t, g, token, id, cpf, "E3")
	if again := g.Query(token, erase, map[string]any{"id": id}); string(again.Body) != string(first.Body) {
		t.Errorf("again: %s, first: %s", again.Body, first.Body)
	}
	a := g.Query(token, `query P($id: ID!) { person(id: $id) { name documentNumber externalIds { value } registrations { nodes { payload } } } }`, map[string]any{"id": stays})
	if a.Str("person.name") != "Maria da Silva" || a.Str("person.documentNumber") != other || a.Str("person.externalIds.0.value") != "E2" {
		t.Errorf("the other person: %s", a.Body)
	}
	// The document and the external id are free again, and make somebody new.
	if anew := register(t, g, token, cpf, "E1"); anew == id {
		t.Error("the erased person came back under their id")
	}
}

// A person whose analysis is open: their job ends, and what the provider says later finds nobody.
func TestErasePersonUnderAnalysis(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	cpf := apptest.CPF(0, 1)
	id := register(t, g, token, cpf, "E1")
	analyses := g.Sim.Analyses()
	if len(analyses) != 1 {
		t.Fatalf("%d analyses", len(analyses))
	}
	if a := g.Query(token, erase, map[string]any{"id": id}); a.Str("erasePerson.erasure.status") != "DONE" {
		t.Fatalf("%s", a.Body)
	}
	if err := g.Sim.Decide(analyses[0].ID, "manually_approved"); err != nil {
		t.Fatal(err)
	}
	unknown := regexp.MustCompile(`kycgate_callbacks_total\{outcome="unknown",provider="qitech"\} [1-9]`) // it may be delivered again
	apptest.Until(t, func() bool { return unknown.MatchString(g.Metrics()) },
		func() string { return "the webhook has not come" })
	gone(t, g, token, id, cpf, "E1")
}

func TestErasePersonWaitsForTheRetention(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Retention.HoldPersons = config.Age(5 * 365 * 24 * time.Hour) }})
	token := g.Token(apptest.Bazaar)
	id := register(t, g, token, apptest.CPF(9, 1), "")
	a := g.Query(token, erase, map[string]any{"id": id})
	until, err := time.Parse(time.RFC3339Nano, a.Str("erasePerson.erasure.blockedUntil"))
	if a.Str("erasePerson.erasure.status") != "BLOCKED" || err != nil || a.Get("erasePerson.erasure.completedAt") != nil ||
		a.Str("erasePerson.erasure.reason") != "DATA_SUBJECT_REQUEST" || until.Before(time.Now().Add(5*365*24*time.Hour-time.Hour)) {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, `query P($id: ID!) { person(id: $id) { name } }`, map[string]any{"id": id}); a.Str("person.name") != "Maria da Silva" {
		t.Errorf("%s", a.Body)
	}
}

// Yesterday's backup is put back: whoever was erased since is erased again before anybody can ask.
func TestRestoredBackupBringsNobodyBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := apptest.Start(t, apptest.Options{Dir: dir})
	token := g.Token(apptest.Acme)
	var ids []string
	for i := range 5 {
		ids = append(ids, register(t, g, token, apptest.CPF(9, i), fmt.Sprint("E", i)))
	}
	g.Stop()
	database := filepath.Join(dir, "kycgate.db")
	backup, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}

	g = apptest.Start(t, apptest.Options{Dir: dir})
	for i := range 3 {
		if a := g.Query(g.Token(apptest.Acme), erase, map[string]any{"id": ids[i]}); a.Str("erasePerson.erasure.status") != "DONE" {
			t.Fatalf("%s", a.Body)
		}
	}
	g.Stop()
	for _, name := range []string{database, database + "-wal", database + "-shm"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(database, backup, 0o600); err != nil {
		t.Fatal(err)
	}

	g = apptest.Start(t, apptest.Options{Dir: dir})
	for i, id := range ids {
		if i < 3 {
			gone(t, g, g.Token(apptest.Acme), id, apptest.CPF(9, i), fmt.Sprint("E", i))
			continue
		}
		if a := g.Query(g.Token(apptest.Acme), `query P($id: ID!) { person(id: $id) { name } }`, map[string]any{"id": id}); a.Str("person.name") != "Maria da Silva" {
			t.Errorf("somebody else is gone: %s", a.Body)
		}
	}
	if !strings.Contains(g.Logs.String(), `"persons":3`) {
		t.Error("the operator is not told")
	}
	if a := g.Query(g.Token(apptest.Acme), erase, map[string]any{"id": ids[0]}); a.Str("erasePerson.erasure.status") != "DONE" {
		t.Errorf("the tombstone: %s", a.Body)
	}
}

// A backup of the time before a person was registered holds what was begun for their document then, as nobody's.
func TestRestoredBackupBringsNoProcessBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	options := apptest.Options{Dir: dir, Unico: quick, Config: brazilian}
	g := apptest.Start(t, options)
	cpf := magic("00", 1)
	begun := g.Query(g.Token(apptest.Acme), starting("checkLiveness"), input(cpf, newSelfie())).Str("checkLiveness.process.id")
	stays := g.Query(g.Token(apptest.Acme), starting("checkLiveness"), input(magic("00", 2), newSelfie())).Str("checkLiveness.process.id")
	settled(g, g.Token(apptest.Acme), begun)
	settled(g, g.Token(apptest.Acme), stays)
	g.Stop()
	database := filepath.Join(dir, "kycgate.db")
	backup, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}

	g = apptest.Start(t, options)
	token := g.Token(apptest.Acme)
	id := g.Query(token, apptest.Register, apptest.Input(cpf, "E1", nil)).Str("registerPerson.person.id")
	if a := g.Query(token, readProcess, map[string]any{"id": begun}); a.Str("process.person.id") != id || id == "" {
		t.Fatalf("it is not the person's: %s", a.Body)
	}
	if a := g.Query(token, erase, map[string]any{"id": id}); a.Str("erasePerson.erasure.status") != "DONE" {
		t.Fatalf("%s", a.Body)
	}
	g.Stop()
	for _, name := range []string{database, database + "-wal", database + "-shm"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(database, backup, 0o600); err != nil {
		t.Fatal(err)
	}

	g = apptest.Start(t, options)
	if a := g.Query(g.Token(apptest.Acme), readProcess, map[string]any{"id": begun}); a.Get("process") != nil || len(a.Errors) > 0 {
		t.Errorf("it came back: %s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Acme), readProcess, map[string]any{"id": stays}); a.Str("process.id") != stays {
		t.Errorf("another's is gone: %s", a.Body)
	}
}

// A list that was altered is not replayed in part: the gateway does not start.
func TestAlteredListOfErasuresRefusesToStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := apptest.Start(t, apptest.Options{Dir: dir})
	token := g.Token(apptest.Bazaar)
	for i := range 3 {
		g.Query(token, erase, map[string]any{"id": register(t, g, token, apptest.CPF(9, i), "")})
	}
	c := g.Config
	g.Stop()
	file := filepath.Join(dir, "kycgate-sandbox-keyset.json.erasures")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.SplitAfterSeq(string(whole), "\n"))
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines)-1)
	}
	for name, text := range map[string]string{
		"a line dropped": lines[0] + lines[2], "lines swapped": lines[1] + lines[0] + lines[2], "an id changed": strings.Replace(string(whole), "per_0", "per_1", 1),
		"a line of somebody": string(whole) + lines[0], "no JSON": string(whole) + "x\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := startOnly(context.Background(), c); err == nil || !strings.Contains(err.Error(), "erasures") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was cut off at the end is known to the database, and a line that was not written to its end was promised to nobody.
	if err := os.WriteFile(file, []byte(lines[0]+lines[1]+`{"partner":"ba`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := startOnly(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	mended, err := os.ReadFile(file)
	if err != nil || string(mended) != string(whole) {
		t.Errorf("the list was not completed: %q, %v", mended, err)
	}
}

// startOnly starts a gateway and closes it again.
func startOnly(ctx context.Context, c config.Config) error {
	a, err := app.New(ctx, app.Options{Config: c, Logger: slog.New(slog.DiscardHandler), Version: app.ReadVersion()})
	if err != nil {
		return err
	}
	return a.Close()
}
