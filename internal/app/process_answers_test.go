package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
)

// answering is an upstream that answers creations, and then look-ups, of each CPF by a script; the last answer stays.
type answering struct {
	t       *testing.T
	script  map[string][]string // by CPF, without the id; the first is the creation's
	id      func(n int) string
	mu      sync.Mutex
	creates int
	name    string            // of the last creation
	byID    map[string]string // the CPF
	reads   map[string]int    // by CPF
}

func (u *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth2/token"):
		_, _ = w.Write([]byte(`{"access_token":"t","expires_in":3600}`))
	case r.Method == http.MethodPost:
		var body struct{ Subject struct{ Code, Name string } }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			u.t.Error(err)
		}
		u.creates++
		u.name = body.Subject.Name
		id := fmt.Sprintf("80371b2a-3ac7-432e-866d-%012d", u.creates)
		if u.id != nil {
			id = u.id(u.creates)
		}
		u.byID[id] = body.Subject.Code
		_, _ = fmt.Fprintf(w, `{"id":%q,%s}`, id, u.script[body.Subject.Code][0])
	default:
		id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		cpf := u.byID[id]
		u.reads[cpf]++
		script := u.script[cpf]
		_, _ = fmt.Fprintf(w, `{"id":%q,%s}`, id, script[min(u.reads[cpf], len(script)-1)])
	}
}

func (u *answering) readsOf(cpf string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reads[cpf]
}

// A fraud answer that its caller asked for by name and that did not come with the creation is looked for three times, and no
// IDENTITY passes without it. Nobody waits for what was not asked for, or cannot come.
func TestFraudAnswerComesLate(t *testing.T) {
	t.Parallel()
	const yes, later = `"status":3,"unicoId":{"result":"yes"}`, `"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"inconclusive"}`
	alert := []any{"FRAUD_PROFILE"}
	u := &answering{t: t, script: make(map[string][]string), byID: make(map[string]string), reads: make(map[string]int)}
	rows := []struct {
		wanted  any
		script  []string
		summary string
		reads   int
		step    string
	}{
		{alert, []string{yes, later}, "COMPLETED YES INCONCLUSIVE", 1, "PASSED"},
		{alert, []string{yes, yes, yes, later}, "COMPLETED YES INCONCLUSIVE", 3, "PASSED"},
		{alert, []string{yes, yes, yes, yes, later}, "COMPLETED YES", 3, "IN_REVIEW"},
		{alert, []string{yes, `"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"yes"}`}, "COMPLETED YES YES", 1, "FAILED"},
		{alert, []string{`"status":1`, yes, later}, "COMPLETED YES", 1, "IN_REVIEW"},
		{alert, []string{`"status":3,"unicoId":{"result":"no"}`, later}, "COMPLETED NO", 0, "FAILED"},
		{alert, []string{later}, "COMPLETED YES INCONCLUSIVE", 0, "PASSED"},
		{nil, []string{yes, later}, "COMPLETED YES", 0, "PASSED"},
		{[]any{"RISK_SCORE"}, []string{yes, later}, "COMPLETED YES", 0, "PASSED"},
	}
	for i, row := range rows {
		u.script[apptest.CPF(1, 100+i)] = row.script
	}
	g := apptest.Start(t, apptest.Options{Upstream: u, NoWebhooks: true, Config: func(c *config.Config) {
		for i := range c.Partners {
			c.Partners[i].Require = []string{"IDENTITY"}
		}
	}})
	token := g.Token(apptest.Bazaar)
	for i, row := range rows {
		cpf := apptest.CPF(1, 100+i)
		person := g.Query(token, `mutation($input: RegisterPersonInput!) { registerPerson(input: $input) { person { id } userErrors { message } } }`, apptest.Input(cpf, fmt.Sprint(i), nil))
		a := g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie(), "capabilities", row.wanted))
		if row.reads > 0 && a.Str("verifyIdentity.process.status") != "PROCESSING" {
			t.Errorf("row %d: answered %s", i, a.Body)
		}
		a = settled(g, token, a.Str("verifyIdentity.process.id"))
		if got := summary(a, "process"); got != row.summary || u.readsOf(cpf) != row.reads {
			t.Errorf("row %d: %s after %d looks, want %s after %d", i, got, u.readsOf(cpf), row.summary, row.reads)
		}
		a = g.Query(token, readOnboarding, map[string]any{"id": person.Str("registerPerson.person.id")})
		if got := stepStatus(a, "IDENTITY"); got != row.step {
			t.Errorf("row %d: IDENTITY is %s, want %s: %s", i, got, row.step, a.Body)
		}
	}
}

// stepStatus finds a step in the answer of readOnboarding.
func stepStatus(a apptest.Answer, kind string) string {
	steps, _ := a.Get("person.onboarding.steps").([]any)
	for i := range steps {
		if at := fmt.Sprintf("person.onboarding.steps.%d", i); a.Str(at+".kind") == kind {
			return a.Str(at + ".status")
		}
	}
	return ""
}

// refreshProcess looks too, and does not use up what the polls wait for.
func TestRefreshWaitsForTheFraudAnswer(t *testing.T) {
	t.Parallel()
	cpf := apptest.CPF(1, 200)
	const yes = `"status":3,"unicoId":{"result":"yes"}`
	u := &answering{t: t, byID: make(map[string]string), reads: make(map[string]int), script: map[string][]string{
		cpf: {yes, yes, yes, yes, yes, yes, `"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"inconclusive"}`},
	}}
	g := apptest.Start(t, apptest.Options{Upstream: u, NoWebhooks: true, Config: func(c *config.Config) { c.Providers.Unico.PollEvery = time.Hour }})
	token := g.Token(apptest.Acme)
	a := g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie(), "capabilities", []any{"FRAUD_PROFILE"}))
	id := a.Str("verifyIdentity.process.id")
	for i := range 6 {
		a = g.Query(token, `mutation R($id: ID!) { refreshProcess(id: $id) { process { `+processFields+` } userErrors { code } } }`, map[string]any{"id": id})
		want := "PROCESSING"
		if i == 5 {
			want = "COMPLETED YES INCONCLUSIVE"
		}
		if got := summary(a, "refreshProcess.process"); got != want || a.Get("refreshProcess.process.version").(float64) != map[bool]float64{false: 1, true: 2}[i == 5] {
			t.Errorf("look %d: %s", i+1, a.Body)
		}
	}
}

// A creation that is answered with the id of another process, of whichever partner, takes nobody's verdict: it goes the way of a lost
// answer, at once.
func TestDuplicateProcessID(t *testing.T) {
	t.Parallel()
	u := &answering{
		t: t, byID: make(map[string]string), reads: make(map[string]int), script: make(map[string][]string),
		id: func(int) string { return "80371b2a-3ac7-432e-866d-57fe37896ac6" },
	}
	for i := range 3 {
		u.script[apptest.CPF(1, 300+i)] = []string{`"status":3,"liveness":1`}
	}
	g := apptest.Start(t, apptest.Options{Upstream: u, NoWebhooks: true, Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.Unico.HoldAmbiguous = 5*time.Second, 300*time.Millisecond
	}})
	for i, partner := range []string{apptest.Acme, apptest.Acme, apptest.Rival} {
		token := g.Token(partner)
		a := g.Query(token, starting("checkLiveness"), input(apptest.CPF(1, 300+i), newSelfie()))
		a = settled(g, token, a.Str("checkLiveness.process.id"))
		want, outcome, code := "FAILED NEEDS_NEW_CAPTURE", "AMBIGUOUS", "duplicate_process_id"
		if i == 0 {
			want, outcome, code = "COMPLETED LIVE", "SUCCEEDED", ""
		}
		if got := summary(a, "process"); got != want || a.Str("process.attempts.0.outcome") != outcome || a.Str("process.attempts.0.providerCode") != code ||
			a.Get("process.attempts.1") != nil || i > 0 && a.Get("process.providerProcessId") != nil {
			t.Errorf("%d: want %s: %s", i, want, a.Body)
		}
	}
	if u.creates != 3 {
		t.Errorf("%d creations", u.creates)
	}
	if logs := g.Logs.String(); strings.Count(logs, `"code":"duplicate_process_id"`) != 2 || !strings.Contains(logs, `"level":"ERROR"`) {
		t.Errorf("the operator is not told: %s", logs)
	}
}

// The person's name goes along by default, also where it is not needed; one that is given goes instead; and of nobody there is none.
func TestThePersonsNameIsSent(t *testing.T) {
	t.Parallel()
	cpf, nobody := apptest.CPF(1, 400), apptest.CPF(1, 401)
	u := &answering{t: t, byID: make(map[string]string), reads: make(map[string]int), script: map[string][]string{
		cpf: {`"status":3,"liveness":1`}, nobody: {`"status":3,"liveness":1`},
	}}
	g := apptest.Start(t, apptest.Options{Upstream: u, NoWebhooks: true})
	token := g.Token(apptest.Bazaar)
	person := g.Query(token, apptest.Register, apptest.Input(cpf, "ext", map[string]any{"name": "Ana Maria Exemplo"})).Str("registerPerson.person.id")
	for _, tt := range []struct {
		subject map[string]any
		want    string
	}{
		{map[string]any{"personId": person}, "Ana Maria Exemplo"}, {map[string]any{"documentNumber": cpf}, "Ana Maria Exemplo"},
		{map[string]any{"personId": person, "name": "Ana Outra"}, "Ana Outra"}, {map[string]any{"documentNumber": nobody}, ""},
	} {
		a := g.Query(token, starting("checkLiveness"), map[string]any{"input": map[string]any{"subject": tt.subject, "selfie": newSelfie()}})
		if a.Str("checkLiveness.process.status") != "COMPLETED" || u.name != tt.want {
			t.Errorf("%v: sent %q: %s", tt.subject, u.name, a.Body)
		}
	}
}

// A word in a result that has no meaning here is counted, as a status word is, once for the answer that holds it.
func TestUnclearResultsAreCounted(t *testing.T) {
	t.Parallel()
	u := &answering{t: t, byID: make(map[string]string), reads: make(map[string]int), script: make(map[string][]string)}
	g := apptest.Start(t, apptest.Options{Upstream: u, NoWebhooks: true})
	token := g.Token(apptest.Acme)
	for i, tt := range []struct {
		answer, summary string
		counted         int
	}{
		{`"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"inconclusive"}`, "COMPLETED YES INCONCLUSIVE", 0},
		{`"status":3,"unicoId":{"result":"sim"}`, "COMPLETED", 1},
		{`"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"SUSPICIOUS"}`, "COMPLETED YES UNKNOWN", 2},
		{`"status":3,"unicoId":{"result":"yes"},"identityFraudsters":true`, "COMPLETED YES UNKNOWN", 3},
		{`"status":3,"unicoId":{"result":"inconclusive"},"liveness":7`, "COMPLETED INCONCLUSIVE", 4},
	} {
		cpf := apptest.CPF(1, 500+i)
		u.mu.Lock()
		u.script[cpf] = []string{tt.answer}
		u.mu.Unlock()
		a := g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie()))
		if n := metricValue(t, g.Metrics(), `kycgate_provider_unknown_status_total{provider="unico"}`); n != tt.counted || summary(a, "verifyIdentity.process") != tt.summary {
			t.Errorf("%s: counted %d, want %d: %s", tt.answer, n, tt.counted, a.Body)
		}
	}
}
