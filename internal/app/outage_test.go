package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

const health = `{ providers { name displayName operations { name breaker inFlight requests successRate latencyMs { p50 p99 } openedAt retryAt } } }`

func operation(a apptest.Answer, name string) map[string]any {
	list, _ := a.Get("providers.0.operations").([]any)
	for _, o := range list {
		if m, _ := o.(map[string]any); m["name"] == name {
			return m
		}
	}
	return nil
}

// R6 and R7 through the API: the breaker opens after at most 6 completed failures, metrics and Query.providers
// say so, one probe closes it, and everything that waited ends without anyone asking.
func TestBreakerOpensAndCloses(t *testing.T) {
	t.Parallel()
	const openFor = 300 * time.Millisecond
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin = 100 * time.Millisecond
		c.Providers.QITech.Breaker.OpenFor = openFor
	}})
	token := g.Token(apptest.Acme)
	putFault(t, g, `{"operation":"analyze_person","kind":"status","value":503}`)
	begin := time.Now()
	for i := range 30 {
		a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, i), fmt.Sprint("E", i), nil))
		if a.Str("registerPerson.person.kyc.status") != "PENDING" || len(a.Errors) > 0 {
			t.Fatalf("%s", a.Body)
		}
		n := g.Sim.Requests().Count("analyze_person")
		if probes := int(time.Since(begin) / openFor); n > 6+probes { // one each time it has been open for long enough
			t.Fatalf("%d failing calls, of which at most %d can be probes", n, probes)
		}
	}
	if m := g.Metrics(); !strings.Contains(m, `kycgate_provider_refused_total{operation="analyze_person",provider="qitech",reason="breaker_open"}`) || strings.Contains(m, `kycgate_provider_refused_total{operation="analyze_person",provider="qitech",reason="breaker_open"} 0`) {
		t.Error("refusals of the breaker are not in the metrics")
	}
	open := g.Eventually(token, health, nil, func(a apptest.Answer) bool { return operation(a, "analyze_person")["breaker"] == "OPEN" })
	if o := operation(open, "analyze_person"); o["openedAt"] == nil || o["retryAt"] == nil || o["requests"] == 0.0 {
		t.Errorf("%v", o)
	}
	if o := operation(open, "fetch_person_analysis"); o["breaker"] != "CLOSED" {
		t.Errorf("another operation's breaker: %v", o)
	}
	apptest.Until(t, func() bool {
		m := g.Metrics()
		return strings.Contains(m, `kycgate_provider_breaker_state{operation="analyze_person",provider="qitech"} 2`)
	}, func() string { return "gauge is not 2" })

	putFault(t, g, `[]`)
	closed := g.Eventually(token, `{ persons(first: 100, filter: {kycStatus: APPROVED}) { totalCount } }`, nil, func(a apptest.Answer) bool { return a.Get("persons.totalCount") == 30.0 })
	_ = closed
	if a := g.Query(token, health, nil); operation(a, "analyze_person")["breaker"] != "CLOSED" {
		t.Errorf("%s", a.Body)
	}
	for _, a := range g.Sim.Analyses() {
		if a.Posted != 1 {
			t.Errorf("analysis %s was sent %d times", a.ID, a.Posted)
		}
	}
}

// Impatient callers cost the provider's breaker nothing: their calls go on without them.
func TestImpatientCallersDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	putFault(t, g, `{"operation":"analyze_person","kind":"latency","value":"20ms"}`)
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				_, err := g.Do(ctx, token, apptest.Register, apptest.Input(apptest.CPF(9, w*1000+i), fmt.Sprintf("E%d-%d", w, i), nil))
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	a := g.Query(token, health, nil)
	if o := operation(a, "analyze_person"); o["breaker"] != "CLOSED" {
		t.Errorf("%v", o)
	}
	// Whatever was committed is decided although nobody waited for it.
	g.Eventually(token, `{ all: persons { totalCount } done: persons(filter: {kycStatus: APPROVED}) { totalCount } }`, nil, func(a apptest.Answer) bool {
		return a.Get("all.totalCount") == a.Get("done.totalCount")
	})
}

// R8: a provider that hangs stops nobody else.
func TestHangingProviderDoesNotSlowOthers(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.Providers.QITech.Timeout = 20 * time.Second
		c.AnswerWithin = time.Second
	}})
	putFault(t, g, `{"operation":"analyze_person","kind":"latency","value":"10s"}`)
	acme, bazaar := g.Token(apptest.Acme), g.Token(apptest.Bazaar)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if a, err := g.Do(t.Context(), acme, apptest.Register, apptest.Input(apptest.CPF(9, i), fmt.Sprint("E", i), nil)); err != nil || a.Str("registerPerson.person.kyc.status") != "PENDING" {
				t.Errorf("%v %s", err, a.Body)
			}
		})
	}
	for i := range 50 {
		if a := g.Query(bazaar, apptest.Register, apptest.Input(apptest.CPF(1, i), "", nil)); a.Str("registerPerson.outcome") != "CREATED" {
			t.Errorf("%s", a.Body)
		}
	}
	wg.Wait()
}

// 401 keeps the person PENDING, tells the operator, and ends by itself when the key works again.
func TestCredentialsRefused(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	putFault(t, g, `{"operation":"analyze_person","kind":"status","value":401,"times":2}`)
	token := g.Token(apptest.Acme)
	a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", nil))
	if s := a.Str("registerPerson.person.kyc.status"); s != "PENDING" && s != "APPROVED" || len(a.Errors) > 0 {
		t.Errorf("%s", a.Body)
	}
	g.Eventually(token, byDocument, map[string]any{"d": apptest.CPF(9, 1)}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
	if !strings.Contains(g.Logs.String(), "refuses our credentials") {
		t.Error("the operator was not told")
	}
}

// Another 4xx means that we spoke wrongly: INTERNAL for the caller, an error for the operator, and because it
// was an explicit no, it is sent again, slowly, until somebody has mended it.
func TestProviderDoesNotUnderstandUs(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	putFault(t, g, `{"operation":"analyze_person","kind":"status","value":405,"times":2}`)
	token := g.Token(apptest.Acme)
	a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", nil))
	if len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "INTERNAL" || a.Errors[0].Extensions["errorId"] == nil {
		t.Fatalf("%s", a.Body)
	}
	if !strings.Contains(g.Logs.String(), fmt.Sprint(a.Errors[0].Extensions["errorId"])) || !strings.Contains(g.Logs.String(), "an operator must look") {
		t.Error("the log does not know it")
	}
	g.Eventually(token, byDocument, map[string]any{"d": apptest.CPF(9, 1)}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
	if n := len(g.Sim.Analyses()); n != 1 {
		t.Errorf("%d analyses", n)
	}
}

// The sandbox forgets its analyses when it restarts; a provider may lose one too. It is submitted again
// under the same id, after the provider had time to see its own writes.
func TestProviderLosesAnAnalysis(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	putFault(t, g, `{"operation":"fetch_person_analysis","kind":"status","value":404,"times":12}`)
	token := g.Token(apptest.Acme)
	a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(0, 1), "E", nil))
	if a.Str("registerPerson.person.kyc.status") != "IN_REVIEW" {
		t.Fatalf("%s", a.Body)
	}
	apptest.Until(t, func() bool { return strings.Contains(g.Logs.String(), "submitted again under the same id") }, g.Logs.String)
	if err := g.Sim.Decide(g.Sim.Analyses()[0].ID, "manually_approved"); err != nil {
		t.Fatal(err)
	}
	g.Eventually(token, byDocument, map[string]any{"d": apptest.CPF(0, 1)}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
	if n := len(g.Sim.Analyses()); n != 1 {
		t.Errorf("%d analyses", n)
	}
}

// A re-registration opens a new analysis, and a late verdict on the older one changes nothing.
func TestLateVerdictOfAnOlderAnalysis(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	cpf := apptest.CPF(0, 9)
	for _, ext := range []string{"E1", "E2"} {
		if a := g.Query(token, apptest.Register, apptest.Input(cpf, ext, nil)); a.Str("registerPerson.person.kyc.status") != "IN_REVIEW" {
			t.Fatalf("%s", a.Body)
		}
	}
	analyses := g.Sim.Analyses()
	decide := func(i int, status string) {
		t.Helper()
		if err := g.Sim.Decide(analyses[i].ID, status); err != nil {
			t.Fatal(err)
		}
	}
	decide(1, "manually_reproved")
	g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "REJECTED" })
	gets := g.Sim.Requests().Count("fetch_person_analysis")
	decide(0, "manually_approved")
	apptest.Until(t, func() bool { return g.Sim.Requests().Count("fetch_person_analysis") > gets }, func() string { return "not fetched" })
	if a := g.Query(token, byDocument, map[string]any{"d": cpf}); a.Str("personByDocument.kyc.status") != "REJECTED" {
		t.Errorf("an older analysis decided: %s", a.Body)
	}
}

// M01: canaries through every door; none comes out of an answer, a log or a metric.
func TestNoPersonalDataLeaks(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	canaries := []string{"529.982.247-25", "52998224725", "canary.mail@example.com", "canary.mail", "+5511912349876", "5511912349876", "Zacarias Canario", "Rua do Canario"}
	input := func(cpf string) map[string]any {
		return apptest.Input(cpf, "E", map[string]any{
			"name": "Zacarias Canario", "emails": []any{map[string]any{"address": "canary.mail@example.com"}}, "phones": []any{map[string]any{"number": "+5511912349876"}},
			"address": map[string]any{"street": "Rua do Canario", "city": "X", "state": "SP", "postalCode": "01310-100", "country": "BRA"},
		})
	}
	token := g.Token(apptest.Acme, kyc.PersonsRead, kyc.PersonsWrite)
	var answers strings.Builder
	keep := func(a apptest.Answer) { answers.Write(a.Body) }
	for _, fault := range []string{`[]`, `[{"kind":"status","value":503,"times":3}]`, `[{"kind":"act_then_reset","times":2}]`, `[{"kind":"truncate","times":2}]`, `[{"operation":"analyze_person","kind":"status","value":400,"times":1}]`, `[{"operation":"analyze_person","kind":"status","value":405,"times":1}]`} {
		putFault(t, g, fault)
		keep(g.Query(token, apptest.Register, input("529.982.247-25")))
		keep(g.Query(token, apptest.Register, input("52998224726")))
		keep(g.Query(token, `query($d: String!) { personByDocument(documentNumber: $d) { name documentNumber emails { address } phones { number } address { street } } }`, map[string]any{"d": "52998224725"}))
	}
	for _, raw := range []string{
		`{"query":"{ viewer { partner } }","variables":{"cpf":"529.982.247-25"`,      // T01
		`{"query":"{ personByDocument(documentNumber: 52998224725) { id } }"}`,       // a literal of the wrong kind
		`{"query":"{ personByDocument(documentNumber: \"52998224725\") { nmae } }"}`, // L01
		`{"query":"query($d: Int!) { persons(first: $d) { nodes { id } } }","variables":{"d":"52998224725"}}`,
		`{"query":"{ persons(after: \"52998224725\") { nodes { id } } }"}`,
		`{"query":"{ personByDocument(documentNumber: \"52998224725\" ","operationName":"52998224725"}`,
		`{"query":"query Q52998224725 { viewer { partner } }","operationName":"Q52998224725"}`,
		`[{"query":"52998224725"}]`,
	} {
		a, err := g.Raw(t.Context(), token, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		keep(a)
	}
	a, err := g.Raw(t.Context(), "52998224725.529.982", []byte(`{"query":"{ viewer { partner } }"}`))
	if err != nil || a.Status != 401 {
		t.Errorf("%v %s", err, a.Body)
	}
	metrics := g.Metrics()
	g.Stop()
	for where, text := range map[string]string{"answer": answers.String(), "log": g.Logs.String(), "metric": metrics} {
		for _, c := range canaries {
			if i := strings.Index(text, c); i >= 0 {
				t.Errorf("%s in a %s: …%s…", c, where, text[max(0, i-80):min(len(text), i+80)])
			}
		}
	}
}

// A provider that hangs costs one answer_within for a whole operation, however many registrations it holds: if each
// waited its own, the operation would run out of time and take all their answers with it.
func TestManyRegistrationsInOneOperationWhileTheProviderHangs(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	g := apptest.Start(t, apptest.Options{
		Config: func(c *config.Config) {
			c.AnswerWithin = 300 * time.Millisecond
			c.Providers.QITech.Timeout = time.Minute // no call ends, so the breaker stays out of it
			c.Providers.QITech.MaxConcurrent = 100
		},
		Upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-leave
			w.WriteHeader(http.StatusServiceUnavailable)
		}),
	})
	t.Cleanup(func() { close(leave) }) // before the gateway drains, which waits for its calls
	const n = 25                       // of 300 ms each would be longer than the operation may take
	var arguments, fields strings.Builder
	variables := make(map[string]any)
	for i := range n {
		fmt.Fprintf(&arguments, "$i%d: RegisterPersonInput! ", i)
		fmt.Fprintf(&fields, "r%d: registerPerson(input: $i%d) { person { kyc { status } } userErrors { code } } ", i, i)
		variables[fmt.Sprint("i", i)] = apptest.Input(apptest.CPF(9, 700+i), fmt.Sprint("E", i), nil)["input"]
	}
	a := g.Query(g.Token(apptest.Acme), "mutation("+arguments.String()+") { "+fields.String()+"}", variables)
	for i := range n {
		if a.Str(fmt.Sprintf("r%d.person.kyc.status", i)) != "PENDING" {
			t.Fatalf("registration %d: %s", i, a.Body)
		}
	}
}
