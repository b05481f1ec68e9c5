package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

const byDocument = `query($d: String!) { personByDocument(documentNumber: $d) { id version externalIds { value } kyc { status providerStatus reason decidedBy analyses }
  registrations { totalCount nodes { externalId payload } } } }`

// Every row of the dossier's decision table, for both kinds of partner, through the API.
func TestDecisionTable(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	for _, partner := range []string{apptest.Acme, apptest.Bazaar} {
		t.Run(partner, func(t *testing.T) {
			token := g.Token(partner)
			qitech := partner == apptest.Acme
			register := func(cpf, ext string) apptest.Answer {
				return g.Query(token, apptest.Register, apptest.Input(cpf, ext, nil))
			}
			expect := func(a apptest.Answer, outcome, code string) string {
				t.Helper()
				if a.Str("registerPerson.outcome") != outcome || a.Str("registerPerson.userErrors.0.code") != code || (a.Get("registerPerson.person") == nil) != (code != "") {
					t.Fatalf("want outcome %q, code %q; got %s", outcome, code, a.Body)
				}
				return a.Str("registerPerson.person.id")
			}
			d1, d2, d3 := apptest.CPF(9, 1), apptest.CPF(9, 2), apptest.CPF(9, 3)

			if qitech { // new document, none, qitech: reject (C7)
				expect(register(d1, ""), "", "REQUIRED")
			} else { // new document, none, openco: create (C13)
				p3 := expect(register(d3, ""), "CREATED", "")
				if again := expect(register(d3, ""), "UPDATED", ""); again != p3 { // known document, none, openco (C18)
					t.Error("another person for a known document")
				}
			}
			p1 := expect(register(d1, "E1"), "CREATED", "") // new document, E new (C12)
			calls := g.Sim.Requests().Count("analyze_person")
			expect(register(d2, "E1"), "", "EXTERNAL_ID_TAKEN") // new document, E of some person (C19)
			if a := g.Query(token, byDocument, map[string]any{"d": d2}); a.Get("personByDocument") != nil {
				t.Errorf("a refused registration left a person: %s", a.Body)
			}
			if qitech { // known document, none, qitech: reject (C7)
				expect(register(d1, ""), "", "REQUIRED")
			}
			if g.Sim.Requests().Count("analyze_person") != calls {
				t.Error("a refused registration reached the provider")
			}
			if again := expect(register(d1, "E2"), "UPDATED", ""); again != p1 { // known document, E new (C14)
				t.Error("another person for a known document")
			}
			if again := expect(register(d1, "E1"), "UPDATED", ""); again != p1 { // known document, its own E (C17)
				t.Error("another person for a known document")
			}
			p2 := expect(register(d2, "E9"), "CREATED", "")
			expect(register(d2, "E2"), "", "EXTERNAL_ID_TAKEN") // known document, E of another (C19)

			a := g.Query(token, byDocument, map[string]any{"d": d1})
			if a.Str("personByDocument.id") != p1 || a.Str("personByDocument.externalIds.0.value") != "E1" || a.Str("personByDocument.externalIds.1.value") != "E2" || a.Get("personByDocument.externalIds.2") != nil {
				t.Errorf("external ids: %s", a.Body)
			}
			if n := a.Get("personByDocument.registrations.totalCount"); n != 3.0 {
				t.Errorf("%v snapshots of three registrations", n)
			}
			if p := a.Str("personByDocument.registrations.nodes.0.payload.documentNumber"); p != d1 {
				t.Errorf("snapshot holds %q", p)
			}
			if a := g.Query(token, `{ personByExternalId(externalId: "E9") { id } }`, nil); a.Str("personByExternalId.id") != p2 {
				t.Errorf("by external id: %s", a.Body)
			}
			if !qitech {
				return
			}
			for _, analysis := range g.Sim.Analyses() { // C28: a new id each time, the same registration_id
				if analysis.Posted != 1 {
					t.Errorf("analysis sent %d times", analysis.Posted)
				}
			}
			if n := g.Sim.CountByRegistration(p1); n != 3 {
				t.Errorf("%d analyses of three registrations", n)
			}
		})
	}
}

// C22 and C23: 200 registrations at once of one CPF in four spellings, each with an external id of its own.
func TestConcurrentRegistrationsOfOneDocument(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	for _, partner := range []string{apptest.Acme, apptest.Bazaar} {
		token := g.Token(partner)
		cpf := apptest.CPF(9, 77)
		spellings := []string{cpf, cpf[:3] + "." + cpf[3:6] + "." + cpf[6:9] + "-" + cpf[9:], cpf[:3] + " " + cpf[3:6] + " " + cpf[6:9] + "/" + cpf[9:], cpf[:9] + "-" + cpf[9:]}
		var mu sync.Mutex
		created, ids := 0, map[string]bool{}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				a, err := g.Do(context.Background(), token, apptest.Register, apptest.Input(spellings[i%4], fmt.Sprintf("ext-%d", i), nil))
				mu.Lock()
				defer mu.Unlock()
				if err != nil || len(a.Errors) > 0 || a.Get("registerPerson.person") == nil {
					t.Errorf("%v %s", err, a.Body)
					return
				}
				ids[a.Str("registerPerson.person.id")] = true
				if a.Str("registerPerson.outcome") == "CREATED" {
					created++
				}
			})
		}
		wg.Wait()
		a := g.Query(token, `query($d: String!) { personByDocument(documentNumber: $d) { externalIds { value } registrations { totalCount } } }`, map[string]any{"d": cpf})
		list, _ := a.Get("personByDocument.externalIds").([]any)
		if len(ids) != 1 || created != 1 || len(list) != 200 || a.Get("personByDocument.registrations.totalCount") != 200.0 {
			t.Errorf("%s: %d persons, %d CREATED, %d external ids, %v snapshots", partner, len(ids), created, len(list), a.Get("personByDocument.registrations.totalCount"))
		}
	}
}

// C23: one new external id with different documents at once: exactly one wins.
func TestConcurrentRegistrationsOfOneExternalID(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Bazaar)
	var mu sync.Mutex
	won, lost := 0, 0
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			a, err := g.Do(context.Background(), token, apptest.Register, apptest.Input(apptest.CPF(1, i), "E", nil))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case a.Str("registerPerson.outcome") == "CREATED":
				won++
			case a.Str("registerPerson.userErrors.0.code") == "EXTERNAL_ID_TAKEN":
				lost++
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 49 {
		t.Errorf("%d won, %d lost", won, lost)
	}
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 1.0 {
		t.Errorf("the losers left something: %s", a.Body)
	}
}

func TestOmittedOptionalsKeepTheirValues(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Bazaar)
	cpf := apptest.CPF(2, 5)
	g.Query(token, apptest.Register, apptest.Input(cpf, "", map[string]any{"occupation": "baker", "gender": "FEMALE", "monthlyIncome": 123456, "motherName": "Ana"}))
	g.Query(token, apptest.Register, apptest.Input(cpf, "", map[string]any{"name": "Maria Souza", "gender": "OTHER"}))
	a := g.Query(token, `query($d: String!) { personByDocument(documentNumber: $d) { name occupation gender monthlyIncome motherName fatherName version } }`, map[string]any{"d": cpf})
	want := `{"data":{"personByDocument":{"name":"Maria Souza","occupation":"baker","gender":"OTHER","monthlyIncome":123456,"motherName":"Ana","fatherName":null,"version":2}}}`
	if strings.TrimSpace(string(a.Body)) != want {
		t.Errorf("got  %s\nwant %s", a.Body, want)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	in := func(cpf, ext string) map[string]any {
		return apptest.Input(cpf, ext, map[string]any{"idempotencyKey": "key-1"})
	}
	cpf := apptest.CPF(9, 500)
	var mu sync.Mutex
	bodies := map[string]int{}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			a, err := g.Do(context.Background(), token, apptest.Register, in(cpf, "E1"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			bodies[string(a.Body)]++
		})
	}
	wg.Wait()
	if n := len(g.Sim.Analyses()); n != 1 {
		t.Errorf("%d analyses for one key", n)
	}
	for b := range bodies {
		if !strings.Contains(b, `"outcome":"CREATED"`) || len(bodies) > 1 {
			t.Errorf("%d different answers, one of them %s", len(bodies), b)
		}
	}
	if a := g.Query(token, apptest.Register, in(apptest.CPF(9, 501), "E2")); a.Str("registerPerson.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("same key, other input: %s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Rival), apptest.Register, in(cpf, "E1")); a.Str("registerPerson.outcome") != "CREATED" {
		t.Errorf("same key, other partner: %s", a.Body)
	}
}

// What the provider does, and what the person's KYC must become without anyone asking again, with exactly
// one analysis for it.
func TestProviderFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"503":                        `{"operation":"analyze_person","kind":"status","value":503,"times":1}`,
		"503 everywhere for a while": `{"kind":"status","value":503,"times":6}`,
		"HTML with 200":              `{"operation":"analyze_person","kind":"status","value":{"status":200,"body":"<html>","content_type":"text/html"},"times":1}`,
		"reset":                      `{"operation":"analyze_person","kind":"reset","times":1}`,
		"truncated":                  `{"operation":"analyze_person","kind":"truncate","times":1}`,
		"acts then resets":           `{"operation":"analyze_person","kind":"act_then_reset","times":1}`,
		"acts then hangs":            `{"operation":"analyze_person","kind":"act_then_hang","times":1}`,
		"hangs longer than we wait":  `{"operation":"analyze_person","kind":"latency","value":"3s","times":1}`,
		"rate limited":               `{"operation":"analyze_person","kind":"rate_limit","times":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.AnswerWithin = 150 * time.Millisecond }})
			putFault(t, g, fault)
			token := g.Token(apptest.Acme)
			cpf := apptest.CPF(9, 42)
			a := g.Query(token, apptest.Register, apptest.Input(cpf, "E1", nil))
			if len(a.Errors) > 0 || a.Get("registerPerson.person") == nil || a.Get("registerPerson.userErrors.0") != nil {
				t.Fatalf("a fault of the provider is the caller's: %s", a.Body)
			}
			if s := a.Str("registerPerson.person.kyc.status"); s != "PENDING" && s != "APPROVED" {
				t.Errorf("status %s", s)
			}
			a = g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
			if n := len(g.Sim.Analyses()); n != 1 || a.Get("personByDocument.kyc.analyses") != 1.0 {
				t.Errorf("%d analyses upstream, %v here", n, a.Get("personByDocument.kyc.analyses"))
			}
		})
	}
}

func putFault(t *testing.T, g *apptest.Gateway, fault string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, g.SimURL+"/qitech/faults", strings.NewReader(fault))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("fault refused: %d", resp.StatusCode)
	}
}

// QI Tech cannot even be reached.
func TestProviderUnreachable(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.Providers.QITech.BaseURL = "http://127.0.0.1:1" // nobody listens on port 1
		c.AnswerWithin = 300 * time.Millisecond
	}})
	a := g.Query(g.Token(apptest.Acme), apptest.Register, apptest.Input(apptest.CPF(9, 1), "E1", nil))
	if a.Str("registerPerson.person.kyc.status") != "PENDING" || len(a.Errors) > 0 {
		t.Errorf("%s", a.Body)
	}
}

// A refusal of the data while the caller waits leaves nothing; the key may be used again.
func TestProviderRefusesTheData(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	const refused = "00000000-0000-4000-8000-000000000400" // the simulator's magic face key
	cpf := apptest.CPF(9, 7)
	input := func(ext string) map[string]any {
		return apptest.Input(cpf, ext, map[string]any{"faceRecognitionId": refused, "idempotencyKey": "k"})
	}
	expectRefusal := func(a apptest.Answer) {
		t.Helper()
		if a.Get("registerPerson.person") != nil || a.Str("registerPerson.userErrors.0.code") != "PROVIDER_REJECTED" || a.Str("registerPerson.userErrors.0.path.1") != "faceRecognitionId" || a.Str("registerPerson.userErrors.0.provider") != "qitech" {
			t.Fatalf("want a refusal: %s", a.Body)
		}
	}
	expectRefusal(g.Query(token, apptest.Register, input("E1")))
	for _, q := range []string{`{ p: personByExternalId(externalId: "E1") { id } }`, `{ p: personByDocument(documentNumber: "` + cpf + `") { id } }`} {
		if a := g.Query(token, q, nil); a.Get("p") != nil {
			t.Errorf("left behind: %s", a.Body)
		}
	}
	good := g.Query(token, apptest.Register, apptest.Input(cpf, "E0", nil))
	if good.Str("registerPerson.outcome") != "CREATED" {
		t.Fatalf("%s", good.Body)
	}
	bad := input("E1")
	bad["input"].(map[string]any)["name"] = "Somebody Else"
	expectRefusal(g.Query(token, apptest.Register, bad))
	a := g.Query(token, `query($d: String!) { personByDocument(documentNumber: $d) { name kyc { status analyses } externalIds { value } registrations { totalCount } } }`, map[string]any{"d": cpf})
	want := `{"data":{"personByDocument":{"name":"Maria da Silva","kyc":{"status":"APPROVED","analyses":1},"externalIds":[{"value":"E0"}],"registrations":{"totalCount":1}}}}`
	if strings.TrimSpace(string(a.Body)) != want {
		t.Errorf("the person was not restored:\ngot  %s\nwant %s", a.Body, want)
	}
}

// A refusal that comes when nobody waits any more keeps the person, open, with the reason.
func TestProviderRefusesTheDataLater(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.AnswerWithin = 100 * time.Millisecond }})
	putFault(t, g, `{"operation":"analyze_person","kind":"status","value":503,"times":1}`)
	putFault(t, g, `{"operation":"fetch_person_analysis","kind":"latency","value":"400ms","times":1}`)
	token := g.Token(apptest.Acme)
	cpf := apptest.CPF(9, 7)
	a := g.Query(token, apptest.Register, apptest.Input(cpf, "E1", map[string]any{"faceRecognitionId": "00000000-0000-4000-8000-000000000400"}))
	if a.Str("registerPerson.person.kyc.status") != "PENDING" {
		t.Fatalf("%s", a.Body)
	}
	a = g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.reason") != "" })
	if a.Str("personByDocument.kyc.status") != "PENDING" || a.Str("personByDocument.externalIds.0.value") != "E1" {
		t.Errorf("%s", a.Body)
	}
}

// The eight statuses and an unknown one.
func TestStatusMapping(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	for i, tc := range []struct {
		first           int
		status, decided string
	}{
		{9, "APPROVED", "AUTOMATIC"}, {8, "REJECTED", "AUTOMATIC"}, {4, "REJECTED", "AUTOMATIC"}, {0, "IN_REVIEW", ""}, {7, "PENDING", ""},
	} {
		a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(tc.first, 900+i), fmt.Sprintf("E%d", i), nil))
		if a.Str("registerPerson.person.kyc.status") != tc.status || a.Str("registerPerson.person.kyc.decidedBy") != tc.decided {
			t.Errorf("first digit %d: %s", tc.first, a.Body)
		}
	}
	for i, status := range []string{"manually_approved", "manually_reproved", "in_queue", "not_analysed", "waiting_for_data"} {
		a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(0, 950+i), fmt.Sprintf("M%d", i), nil))
		if a.Str("registerPerson.person.kyc.status") != "IN_REVIEW" {
			t.Fatalf("%s", a.Body)
		}
		id := ""
		for _, x := range g.Sim.Analyses() {
			if x.RegistrationID == a.Str("registerPerson.person.id") {
				id = x.ID
			}
		}
		if err := g.Sim.Decide(id, status); err != nil {
			t.Logf("simulator: %v", err)
			continue
		}
		want := map[string]string{"manually_approved": "APPROVED", "manually_reproved": "REJECTED"}[status]
		if want == "" {
			want = "PENDING"
		}
		g.Eventually(token, byDocument, map[string]any{"d": apptest.CPF(0, 950+i)}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == want })
	}
	a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 990), "U", map[string]any{"emails": []any{map[string]any{"address": "unknown-status@kycgate.test"}}}))
	if a.Str("registerPerson.person.kyc.status") != "PENDING" || a.Str("registerPerson.person.kyc.providerStatus") == "" {
		t.Errorf("unknown status: %s", a.Body)
	}
	if m := g.Metrics(); strings.Contains(m, `kycgate_provider_unknown_status_total{provider="qitech"} 0`) {
		t.Error("unknown status was not counted")
	}
}

// Manual outcomes by webhook: once, twice, dropped, before our POST returned.
func TestManualOutcomeByWebhook(t *testing.T) {
	t.Parallel()
	for _, hook := range []string{"", `{"operation":"webhook","kind":"duplicate_webhook","value":3}`, `{"operation":"webhook","kind":"drop_webhook"}`} {
		g := apptest.Start(t, apptest.Options{Sim: qitechsim.Config{ManualDelay: 20 * time.Millisecond}, Config: func(c *config.Config) {
			if !strings.Contains(hook, "drop") {
				c.Providers.QITech.PollEvery = time.Hour // the webhook alone must bring it
			}
		}})
		if hook != "" {
			putFault(t, g, hook)
		}
		token := g.Token(apptest.Acme)
		for first, want := range map[int]string{6: "APPROVED", 5: "REJECTED"} {
			cpf := apptest.CPF(first, 3)
			a := g.Query(token, apptest.Register, apptest.Input(cpf, fmt.Sprint("E", first), nil))
			if s := a.Str("registerPerson.person.kyc.status"); s != "IN_REVIEW" && s != want {
				t.Errorf("%s", a.Body)
			}
			a = g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == want })
			if a.Str("personByDocument.kyc.decidedBy") != "MANUAL" {
				t.Errorf("%s", a.Body)
			}
		}
	}
}

// W10, W12: a forged webhook changes nothing and a repeated one has one effect.
func TestForgedAndRepeatedWebhooks(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Config: func(c *config.Config) { c.Providers.QITech.PollEvery = time.Hour }})
	token := g.Token(apptest.Acme)
	cpf := apptest.CPF(0, 3)
	a := g.Query(token, apptest.Register, apptest.Input(cpf, "E", nil))
	if a.Str("registerPerson.person.kyc.status") != "IN_REVIEW" {
		t.Fatalf("%s", a.Body)
	}
	id := g.Sim.Analyses()[0].ID
	url := g.URL + "/callbacks/qitech"
	body := fmt.Sprintf(`{"natural_person_id":%q,"analysis_status":"manually_approved","event_date":"2026-11-24T12:00:00Z","reason":"x"}`, id)
	post := func(method, body, signature string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if signature != "" {
			req.Header.Set("Signature", signature)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	sign := func(method, body string) string {
		return qitechsim.Sign(qitechsim.SandboxWebhookKey, url, method, []byte(body))
	}
	gets := g.Sim.Requests().Count("fetch_person_analysis")
	for name, status := range map[string]int{
		"missing":            post("POST", body, ""),
		"wrong":              post("POST", body, strings.Repeat("0", 40)),
		"of another key":     post("POST", body, qitechsim.Sign("other", url, "POST", []byte(body))),
		"of another body":    post("POST", body+" ", sign("POST", body)),
		"of another method":  post("PUT", body, sign("POST", body)),
		"of another URL":     post("POST", body, qitechsim.Sign(qitechsim.SandboxWebhookKey, "https://elsewhere.test/", "POST", []byte(body))),
		"upper-case variant": post("POST", body, strings.ToUpper(sign("POST", body))[:39]),
	} {
		if status != http.StatusUnauthorized {
			t.Errorf("signature %s: %d", name, status)
		}
	}
	stranger := `{"natural_person_id":"ana_00000000000000000000000000","analysis_status":"manually_approved","event_date":"2026-11-24T12:00:00Z"}`
	if s := post("POST", stranger, sign("POST", stranger)); s != http.StatusNotFound {
		t.Errorf("unknown analysis: %d", s)
	}
	// The right signature with a lie inside: it is only a hint, so the provider is asked, and says "still open".
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if s := post("POST", body, sign("POST", body)); s != http.StatusOK {
				t.Errorf("repeat: %d", s)
			}
		})
	}
	wg.Wait()
	apptest.Until(t, func() bool { return g.Sim.Requests().Count("fetch_person_analysis") > gets }, func() string { return "no fetch" })
	if a := g.Query(token, byDocument, map[string]any{"d": cpf}); a.Str("personByDocument.kyc.status") != "IN_REVIEW" {
		t.Errorf("a webhook decided: %s", a.Body)
	}
	m := g.Metrics()
	for _, want := range []string{
		`kycgate_callbacks_total{outcome="accepted",provider="qitech"} 1`, `kycgate_callbacks_total{outcome="duplicate",provider="qitech"} 49`,
		`kycgate_callbacks_total{outcome="unverified",provider="qitech"} 7`, `kycgate_callbacks_total{outcome="unknown",provider="qitech"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if n := g.Sim.Requests().Count("fetch_person_analysis"); n != gets+1 {
		t.Errorf("%d fetches for 50 repeats of one webhook", n-gets)
	}
}

func TestProviderNotConfigured(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Config: func(c *config.Config) { c.Providers.QITech = nil }})
	a := g.Query(g.Token(apptest.Acme), apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", nil))
	if a.Str("registerPerson.userErrors.0.code") != "PROVIDER_NOT_CONFIGURED" || a.Get("registerPerson.person") != nil {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Bazaar), apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", nil)); a.Str("registerPerson.outcome") != "CREATED" || a.Str("registerPerson.person.kyc.status") != "NOT_REQUIRED" {
		t.Errorf("openco: %s", a.Body)
	}
}

// Another partner's token sees nothing, by any door, and the answer is the same bytes as for an id that
// never existed (Z01, Z02).
func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	mine, theirs := g.Token(apptest.Acme), g.Token(apptest.Rival)
	cpf, never := apptest.CPF(9, 11), apptest.CPF(9, 12)
	a := g.Query(mine, apptest.Register, apptest.Input(cpf, "E1", nil))
	id := a.Str("registerPerson.person.id")
	unknown := string(kyc.NewPersonID())
	a = g.Query(mine, `{ persons(first: 1) { pageInfo { endCursor } } }`, nil)
	cursor := a.Str("persons.pageInfo.endCursor")
	for name, pair := range map[string][2]string{
		"id":          {`{ person(id: "` + id + `") { id } }`, `{ person(id: "` + unknown + `") { id } }`},
		"node":        {`{ node(id: "` + id + `") { id } }`, `{ node(id: "` + unknown + `") { id } }`},
		"document":    {`{ personByDocument(documentNumber: "` + cpf + `") { id } }`, `{ personByDocument(documentNumber: "` + never + `") { id } }`},
		"external id": {`{ personByExternalId(externalId: "E1") { id } }`, `{ personByExternalId(externalId: "E7") { id } }`},
		"list":        {`{ persons { totalCount nodes { id } } }`, `{ persons { totalCount nodes { id } } }`},
		"cursor":      {`{ persons(after: "` + cursor + `") { nodes { id } pageInfo { hasNextPage } } }`, `{ persons { nodes { id } pageInfo { hasNextPage } } }`},
	} {
		hidden, absent := g.Query(theirs, pair[0], nil), g.Query(theirs, pair[1], nil)
		if string(hidden.Body) != string(absent.Body) || hidden.Status != absent.Status || len(hidden.Errors) > 0 {
			t.Errorf("by %s: %s, and for what never existed: %s", name, hidden.Body, absent.Body)
		}
		if own := g.Query(mine, pair[0], nil); name != "cursor" && !strings.Contains(string(own.Body), id) {
			t.Errorf("by %s: even its own partner does not see it: %s", name, own.Body)
		}
	}
	// The same document and external id of another partner are another person (C20, C21, B17).
	b := g.Query(theirs, apptest.Register, apptest.Input(cpf, "E1", nil))
	if b.Str("registerPerson.outcome") != "CREATED" || b.Str("registerPerson.person.id") == id {
		t.Errorf("%s", b.Body)
	}
}

// The masks reach the wire, and the payload is refused without pii:read.
func TestMaskingOnTheWire(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	g.Query(g.Token(apptest.Bazaar), apptest.Register, apptest.Input("529.982.247-25", "E", map[string]any{"monthlyIncome": 100, "occupation": "baker", "motherName": "Ana Lima"}))
	reader := g.Token(apptest.Bazaar, kyc.PersonsRead)
	a := g.Query(reader, `{ persons { nodes { name documentNumber birthdate monthlyIncome occupation motherName emails { address } phones { number type }
		address { street number city state postalCode country } externalIds { value } } } }`, nil)
	want := `{"data":{"persons":{"nodes":[{"name":"M*** d*** S***","documentNumber":"***.982.247-**","birthdate":"1990","monthlyIncome":null,"occupation":"***","motherName":"A*** L***",` +
		`"emails":[{"address":"m***@e***.com"}],"phones":[{"number":"+55*******21","type":"MOBILE"}],` +
		`"address":{"street":"***","number":"***","city":"São Paulo","state":"SP","postalCode":"***","country":"BRA"},"externalIds":[{"value":"E"}]}]}}}`
	if strings.TrimSpace(string(a.Body)) != want {
		t.Errorf("got  %s\nwant %s", a.Body, want)
	}
	a = g.Query(reader, `{ persons { nodes { registrations { nodes { payload } } } } }`, nil)
	if len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" || a.Data != nil {
		t.Errorf("payload: %s", a.Body)
	}
}

// A snapshot is what was received, to the letter (C24).
func TestSnapshotIsAsReceived(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Bazaar)
	in := apptest.Input("529.982.247-25", "E <&>", map[string]any{"phones": []any{map[string]any{"number": "+55 (11) 98765-4321"}}})
	g.Query(token, apptest.Register, in)
	a := g.Query(token, `{ persons { nodes { registrations { nodes { payload } } } } }`, nil)
	got, err := json.Marshal(a.Get("persons.nodes.0.registrations.nodes.0.payload"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(in["input"])
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
