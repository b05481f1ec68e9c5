package app_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jonboulle/clockwork"
	_ "github.com/mattn/go-sqlite3" // a second hand on the file

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

// reads gives the fields of each unmasked read of a person, oldest first.
func reads(t *testing.T, g *apptest.Gateway, partner, id string) (fields []string) {
	t.Helper()
	a := g.Query(g.Token(partner, kyc.Admin, kyc.PersonsRead), `query A($id: ID!) { person(id: $id) { audit(first: 100) { nodes { action fields object } } } }`, map[string]any{"id": id})
	nodes, ok := a.Get("person.audit.nodes").([]any)
	if !ok {
		t.Fatalf("%s", a.Body)
	}
	for _, n := range nodes {
		r := n.(map[string]any)
		if r["action"] != "READ" {
			continue
		}
		if r["object"] != id {
			t.Errorf("a read of %v", r["object"])
		}
		fields = append([]string{strings.Trim(fmt.Sprint(r["fields"]), "[]")}, fields...)
	}
	return fields
}

// Z08: an unmasked answer leaves a record of what it showed of whom; nothing else does.
func TestReadsAreAudited(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	all, masked := g.Token(apptest.Bazaar), g.Token(apptest.Bazaar, kyc.PersonsRead, kyc.PersonsWrite, kyc.Admin)
	one := register(t, g, masked, apptest.CPF(9, 1), "E1")
	two := register(t, g, masked, apptest.CPF(9, 2), "E2")
	both := map[string]any{"a": one, "b": two, "no": false}
	for _, tt := range []struct {
		name, token, query string
		one, two           string // what is recorded of each
	}{
		{"masked", masked, `query($a: ID!) { person(id: $a) { name documentNumber emails { address } } }`, "", ""},
		{"nothing personal", all, `query($a: ID!) { person(id: $a) { id version kyc { status } address { city } externalIds { value } } }`, "", ""},
		{"only what was null", all, `query($a: ID!) { person(id: $a) { motherName monthlyIncome } }`, "", ""},
		{"only what was skipped", all, `query($a: ID!, $no: Boolean!) { person(id: $a) { id name @include(if: $no) } }`, "", ""},
		{"one of two", all, `query($a: ID!, $b: ID!) { a: person(id: $a) { name birthdate } b: person(id: $b) { id } }`, "Person.birthdate Person.name", ""},
		{"both, each its own", all, `query($a: ID!, $b: ID!) { a: person(id: $a) { name } b: person(id: $b) { phones { number } } }`, "Person.name", "Phone.number"},
		{"one of them twice", all, `query($a: ID!) { a: person(id: $a) { name } b: person(id: $a) { documentNumber n: name } }`, "Person.documentNumber Person.name", ""},
		{"a list", all, `{ persons { nodes { address { street postalCode } } } }`, "Address.postalCode Address.street", "Address.postalCode Address.street"},
		{"a node, by fragments", all, `query($b: ID!) { node(id: $b) { ...f } } fragment f on Person { emails { ... on Email { address } } }`, "", "Email.address"},
		{"a payload", all, `query($b: ID!) { person(id: $b) { registrations { nodes { payload } } } }`, "", "Registration.payload"},
		{"by document", all, `{ personByDocument(documentNumber: "` + apptest.CPF(9, 1) + `") { name } }`, "Person.name", ""},
		{"by external id", all, `{ personByExternalId(externalId: "E2") { name } }`, "", "Person.name"},
	} {
		before := [2]int{len(reads(t, g, apptest.Bazaar, one)), len(reads(t, g, apptest.Bazaar, two))}
		variables := map[string]any{}
		for name, v := range both {
			if strings.Contains(tt.query, "$"+name+":") {
				variables[name] = v
			}
		}
		if a := g.Query(tt.token, tt.query, variables); len(a.Errors) > 0 || a.Data == nil {
			t.Fatalf("%s: %s", tt.name, a.Body)
		}
		for i, want := range []string{tt.one, tt.two} {
			got := reads(t, g, apptest.Bazaar, []string{one, two}[i])[before[i]:]
			if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
				t.Errorf("%s: person %d: got %q, want %q", tt.name, i+1, got, want)
			}
		}
	}
	// What a mutation answers is read too.
	if a := g.Query(all, apptest.Register, apptest.Input(apptest.CPF(9, 1), "E9", nil)); a.Str("registerPerson.person.name") != "Maria da Silva" {
		t.Fatalf("%s", a.Body)
	}
	if got := reads(t, g, apptest.Bazaar, one); got[len(got)-1] != "Person.documentNumber Person.name" {
		t.Errorf("a mutation's answer: %q", got)
	}
	verifyAudit(t, g)
}

func verifyAudit(t *testing.T, g *apptest.Gateway) app.AuditReport {
	t.Helper()
	r, err := app.VerifyAudit(t.Context(), g.Config, slog.New(slog.DiscardHandler), os.Stderr)
	if err != nil || r.BadRecord != 0 || r.Records == 0 {
		t.Errorf("the audit log: %+v, %v", r, err)
	}
	return r
}

// No audit, no answer: what cannot be recorded is not shown, and everything else goes on.
func TestUnmaskedAnswersStopWithTheAuditLog(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	all, masked := g.Token(apptest.Bazaar), g.Token(apptest.Bazaar, kyc.PersonsRead)
	id := register(t, g, all, apptest.CPF(9, 3), "E1")
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(g.Dir, "kycgate.db")+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	execute := func(text string) {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	execute(`CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no room'); END`)
	id1 := map[string]any{"id": id}
	for _, query := range []string{
		`query($id: ID!) { person(id: $id) { id name } }`,
		`query($id: ID!) { node(id: $id) { ... on Person { documentNumber } } }`,
		`query($id: ID!) { person(id: $id) { registrations { nodes { payload } } } viewer { subject } }`,
		`{ persons { nodes { emails { address } } } }`,
	} {
		variables := id1
		if !strings.Contains(query, "$id") {
			variables = nil
		}
		a := g.Query(all, query, variables)
		if len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "OVERLOADED" || a.Data != nil || strings.Contains(string(a.Body), "aria") {
			t.Errorf("%s: %s", query, a.Body)
		}
	}
	for query, token := range map[string]string{
		`{ persons { nodes { id name emails { address } } } }`:       masked,
		`{ persons { nodes { id kyc { status } } } }`:                all,
		`{ providers { name } viewer { subject } }`:                  all,
		`{ persons { nodes { motherName externalIds { value } } } }`: all,
	} {
		if a := g.Query(token, query, nil); len(a.Errors) > 0 || a.Data == nil {
			t.Errorf("%s: %s", query, a.Body)
		}
	}
	// A change is in one transaction with its record, so there is none either.
	a := g.Query(all, apptest.Register, apptest.Input(apptest.CPF(9, 4), "E2", nil))
	if len(a.Errors) != 1 {
		t.Errorf("registered without a record: %s", a.Body)
	}
	execute(`DROP TRIGGER full`)
	if a := g.Query(all, `query($id: ID!) { person(id: $id) { name } persons { totalCount } }`, id1); a.Str("person.name") != "Maria da Silva" || a.Get("persons.totalCount") != 1.0 {
		t.Errorf("with the log in order again: %s", a.Body)
	}
	if strings.Contains(g.Logs.String(), "Maria") {
		t.Error("the log has a name in it")
	}
	verifyAudit(t, g)
}

// The head is signed every minute and when the gateway ends, here and in the file.
func TestAuditHeadIsSigned(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	heads := filepath.Join(t.TempDir(), "heads")
	g := apptest.Start(t, apptest.Options{Clock: clock, Config: func(c *config.Config) { c.Audit.HeadsFile = heads }})
	token := g.Token(apptest.Bazaar)
	register(t, g, token, apptest.CPF(9, 5), "E1")
	if r := verifyAudit(t, g); r.SealedNumber != 0 {
		t.Errorf("signed already: %+v", r)
	}
	apptest.Until(t, func() bool {
		clock.Advance(app.SealAuditEvery) // the loop may not have begun to wait
		_, err := os.Stat(heads)
		return err == nil
	}, g.Logs.String)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 100+i), fmt.Sprint("X", i), nil))
		})
	}
	wg.Wait()
	g.Stop()
	if r := verifyAudit(t, g); r.SealedNumber != r.Records || r.Records < 21 {
		t.Errorf("after the end: %+v", r)
	}
	if text, err := os.ReadFile(heads); err != nil || strings.Count(string(text), "\n") < 2 {
		t.Errorf("the file of signed heads: %v\n%s", err, text)
	}
}

// A database that was taken back to yesterday is one whose log does not reach a head that was signed.
func TestRestoredDatabaseIsNoticed(t *testing.T) {
	t.Parallel()
	dir, heads := t.TempDir(), filepath.Join(t.TempDir(), "heads")
	file := filepath.Join(dir, "kycgate.db")
	set := func(c *config.Config) { c.Audit.HeadsFile = heads }
	g := apptest.Start(t, apptest.Options{Dir: dir, Config: set})
	register(t, g, g.Token(apptest.Bazaar), apptest.CPF(9, 6), "E1")
	g.Stop()
	yesterday, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g = apptest.Start(t, apptest.Options{Dir: dir, Config: set})
	register(t, g, g.Token(apptest.Bazaar), apptest.CPF(9, 7), "E2")
	g.Stop()
	if err := os.WriteFile(file, yesterday, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"-wal", "-shm"} {
		_ = os.Remove(file + more)
	}
	g = apptest.Start(t, apptest.Options{Dir: dir, Config: set})
	apptest.Until(t, func() bool { return strings.Contains(g.Logs.String(), "ends before a head of it that was signed") }, g.Logs.String)
	register(t, g, g.Token(apptest.Bazaar), apptest.CPF(9, 8), "E3") // it serves all the same
	g.Stop()
	r, err := app.VerifyAudit(t.Context(), g.Config, slog.New(slog.DiscardHandler), os.Stderr)
	if err != nil || r.BadRecord == 0 {
		t.Errorf("the check found nothing: %+v, %v", r, err)
	}
}
