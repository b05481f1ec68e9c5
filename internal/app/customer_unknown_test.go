package app_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

// finhubAnswers are what a test answers in FinHub's place, by the end of a path; the simulator answers everything else.
type finhubAnswers struct {
	mu     sync.Mutex
	bySlot map[string]finhubAnswer
}

type finhubAnswer struct {
	status int
	body   string
}

// set answers a path's end from now on, and lets the simulator answer it again without a status.
func (f *finhubAnswers) set(end string, status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bySlot[end] = finhubAnswer{status, body}
}

func (f *finhubAnswers) answer(path string) (finhubAnswer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for end, a := range f.bySlot {
		if a.status != 0 && strings.HasSuffix(path, end) && strings.HasPrefix(path, "/finhub/") {
			return a, true
		}
	}
	return finhubAnswer{}, false
}

// startWith starts a gateway some of whose FinHub is the test's.
func startWith(t *testing.T, o apptest.Options) (*apptest.Gateway, *finhubAnswers) {
	t.Helper()
	answers := &finhubAnswers{bySlot: map[string]finhubAnswer{}}
	var sims atomic.Pointer[http.Handler]
	o.Upstream = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := answers.answer(r.URL.Path); ok {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(a.status)
			_, _ = io.WriteString(w, a.body)
			return
		}
		(*sims.Load()).ServeHTTP(w, r)
	})
	g := apptest.Start(t, o)
	sims.Store(new(simulator.New(g.Sim, g.Unico, g.FinHub, g.Leap)))
	return g, answers
}

const (
	unknownPath  = `{"statusCode":404,"error":"Not Found","message":"Cannot POST /api/v2.1/customer/individual/search"}`
	unavailable  = "PROVIDER_UNAVAILABLE input"
	finhubSearch = "/customer/individual/search"
)

// A registration with an unknown end is not sent again before FinHub has said that nobody is there or it counts as not having happened;
// and when FinHub refuses its repeat, the caller is not told that their own account is another's.
func TestBlindLookUps(t *testing.T) {
	t.Parallel()
	for name, search := range map[string]finhubAnswer{
		"html": {404, "<html>404 Not Found</html>"}, "framework": {404, unknownPath}, "405": {405, ""}, "503": {503, ""}, "off": {},
	} {
		for _, acted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %t", name, acted), func(t *testing.T) {
				t.Parallel()
				clock := &stepClock{Clock: clockwork.NewRealClock()}
				g, answers := startWith(t, apptest.Options{Clock: clock, Config: func(c *config.Config) {
					c.Providers.FinHub.Breaker.Failures = 1000
					if search.status == 0 {
						c.Providers.FinHub.SearchPath = "-"
					}
				}})
				answers.set(finhubSearch, search.status, search.body)
				kind := simulator.FaultReset
				arrived := 0
				if acted {
					kind, arrived = simulator.FaultActThenReset, 1
				}
				if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, kind, "", 1, 1)); err != nil {
					t.Fatal(err)
				}
				token := g.Token(apptest.Acme)
				input := customerInput("blind@example.com", map[string]any{"idempotencyKey": "k"})
				var a apptest.Answer
				for range 3 {
					a = g.Query(token, registerCustomer, input)
					if !slices.Equal(userErrors(a, "registerCustomer"), []string{unavailable}) || a.Get("registerCustomer.userErrors.0.retryable") != true {
						t.Fatalf("%s", a.Body)
					}
				}
				// Whoever else comes with the address is not sent either.
				other := g.Query(token, registerCustomer, customerInput("blind@example.com", map[string]any{"firstName": "Bob"}))
				if !slices.Equal(userErrors(other, "registerCustomer"), []string{unavailable}) || g.FinHub.Registered() != arrived {
					t.Fatalf("%d arrived: %s", g.FinHub.Registered(), other.Body)
				}
				clock.advance(11 * time.Minute)
				// A word about the look-up before may come in between; then the next one answers.
				apptest.Until(t, func() bool {
					a = g.Query(token, registerCustomer, input)
					if errs := userErrors(a, "registerCustomer"); len(errs) > 0 && errs[0] != unavailable {
						t.Fatalf("refused as its own duplicate: %s", a.Body)
					}
					return a.Str("registerCustomer.customer.id") != "" || a.Str("registerCustomer.userErrors.0.providerCode") == "duplicate_email"
				}, func() string { return string(a.Body) })
				if !acted {
					if a.Str("registerCustomer.customer.id") == "" || g.FinHub.Registered() != 1 {
						t.Errorf("%d arrived: %s", g.FinHub.Registered(), a.Body)
					}
					return
				}
				if again := g.Query(token, registerCustomer, input); string(again.Body) != string(a.Body) {
					t.Errorf("again: %s", again.Body)
				}
				if n := g.FinHub.Registered(); n != 2 {
					t.Errorf("%d registrations arrived", n)
				}
				if !strings.Contains(g.Logs.String(), "refuses a repeated registration as a duplicate") {
					t.Error("the operator was not told")
				}
				if search.status == 0 {
					return
				}
				// The operator has mended the look-up.
				answers.set(finhubSearch, 0, "")
				apptest.Until(t, func() bool {
					a = g.Query(token, registerCustomer, input)
					return a.Str("registerCustomer.customer.providerCustomerId") == "cust_000000001"
				}, func() string { return string(a.Body) })
				if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 1.0 || g.FinHub.Registered() != 2 {
					t.Errorf("%d arrived: %s", g.FinHub.Registered(), a.Body)
				}
			})
		}
	}
}

// The look-up for a registration that did not happen finds whoever has had the address before: that is a duplicate and no account of
// ours. In the other's answer everything may be missing but one thing that disagrees.
func TestSomebodyElseIsNotAdopted(t *testing.T) {
	t.Parallel()
	for name, person := range map[string]string{"name": `"firstName":"Somebodyelse"`, "birth date": `"dateOfBirth":"1980-01-01"`, "phone": `"phone":"+37060099999"`} {
		g, answers := startWith(t, apptest.Options{})
		token := g.Token(apptest.Acme)
		answers.set(finhubSearch, 200, `{"data":{"id":"cust_other","status":"REGISTRATION_COMPLETE","user":{"id":"u","username":"else@example.com"},"person":{"id":"p",`+person+`}}}`)
		if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, simulator.FaultStatus, "503", 1, 1)); err != nil {
			t.Fatal(err)
		}
		a := g.Query(token, registerCustomer, customerInput("else@example.com", nil))
		if !slices.Equal(userErrors(a, "registerCustomer"), []string{"DUPLICATE_EMAIL input.email"}) {
			t.Errorf("%s: %s", name, a.Body)
		}
		if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 0.0 {
			t.Errorf("%s left something: %s", name, a.Body)
		}
	}
}

// The same for the job, which looks after the caller has gone.
func TestSomebodyElseIsNotAdoptedLater(t *testing.T) {
	t.Parallel()
	g, answers := startWith(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	answers.set(finhubSearch, 500, "")
	if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, simulator.FaultStatus, "503", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if a := g.Query(token, registerCustomer, customerInput("else@example.com", nil)); !slices.Equal(userErrors(a, "registerCustomer"), []string{unavailable}) {
		t.Fatalf("%s", a.Body)
	}
	answers.set(finhubSearch, 200, `{"data":{"id":"cust_other","status":"REGISTRATION_COMPLETE","person":{"firstName":"Somebodyelse"}}}`)
	apptest.Until(t, func() bool { return strings.Contains(g.Logs.String(), "found somebody else") }, g.Logs.String)
	answers.set(finhubSearch, 0, "")
	// It was taken back: the address is free here, and FinHub decides.
	apptest.Until(t, func() bool {
		return g.Query(token, registerCustomer, customerInput("else@example.com", nil)).Str("registerCustomer.customer.providerCustomerId") == "cust_000000001"
	}, g.Logs.String)
}

// What FinHub answers to a registration, as its caller sees it.
func TestRegistrationRefusals(t *testing.T) {
	t.Parallel()
	g, answers := startWith(t, apptest.Options{Config: func(c *config.Config) { c.Providers.FinHub.Breaker.Failures = 1000 }})
	token := g.Token(apptest.Acme)
	for _, tt := range []struct {
		status    int
		body      string
		want      string
		retryable bool
	}{
		{409, `{"code":409,"message":"Phone number already exists","data":{}}`, "DUPLICATE_PHONE input.phone", false},
		{409, `{"code":409,"message":"Email already exists","data":{}}`, "DUPLICATE_EMAIL input.email", false},
		{409, `{"code":409,"message":"Registration is in progress","data":{}}`, "CONFLICT input", true},
		{400, `{"code":400,"message":"Request validation failed","data":{"errors":[{"field":"email","message":"x"},{"field":"phone","message":"y"}]}}`, "PROVIDER_REJECTED input.email, PROVIDER_REJECTED input.phone", false},
		{400, `{"code":"WEAK_PASSWORD","message":"m"}`, "PROVIDER_REJECTED input.password", false},
		{422, `{"code":"VERIFICATION_FAILED","message":"m"}`, "PROVIDER_REJECTED input", false},
		{200, `{"success":false,"message":"Temporarily unavailable"}`, unavailable, true},
	} {
		answers.set("/customers/individual/register", tt.status, tt.body)
		a := g.Query(token, registerCustomer, customerInput("refused@example.com", nil))
		if strings.Join(userErrors(a, "registerCustomer"), ", ") != tt.want || a.Get("registerCustomer.userErrors.0.retryable") != tt.retryable {
			t.Errorf("%s: %s", tt.body, a.Body)
		}
	}
	answers.set("/customers/individual/register", 0, "")
	newCustomer(t, g, token, "refused@example.com", nil) // nothing is left of any
}

// What FinHub answers to a step that is our mistake is INTERNAL, whatever its status: the customer does exist. It is done when it is
// mended, and so is a step that FinHub only says it did not do.
func TestStepsThatAreNotTheCallersFault(t *testing.T) {
	t.Parallel()
	g, answers := startWith(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}, Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.FinHub.Breaker.Failures = 2*time.Second, 1000
	}})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, "steps@example.com", nil), "t": "TERMS", "code": finhubsim.DefaultActivationCode}
	internal := func(mutation string) {
		t.Helper()
		if a := g.Query(token, mutation, vars); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "INTERNAL" {
			t.Errorf("%s", a.Body)
		}
	}
	const missing = `{"code":404,"message":"Customer not found","data":{}}`
	answers.set("/verifications", 404, missing)
	internal(startVerify)
	answers.set("/verifications", 0, "")
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACCEPT_TERMS" })
	answers.set("/consents/terms", 404, missing)
	internal(consentTo)
	answers.set("/consents/terms", 200, `{"success":false,"message":"Temporarily unavailable"}`)
	for _, consent := range []string{"PRIVACY", "DATA_PROCESSING"} {
		vars["t"] = consent
		if a := g.Query(token, consentTo, vars); a.Errors != nil || len(userErrors(a, "acceptConsent")) > 0 {
			t.Errorf("%s", a.Body)
		}
	}
	answers.set("/consents/terms", 0, "")
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACTIVATE_ACCOUNT" })
	answers.set("/activation", 404, missing)
	internal(activate)
	answers.set("/activation", 200, `{"success":false,"message":"Temporarily unavailable"}`)
	if a := g.Query(token, activate, vars); !slices.Equal(userErrors(a, "activateCustomer"), []string{unavailable}) {
		t.Errorf("%s", a.Body)
	}
	answers.set("/activation", 0, "")
	if a := g.Query(token, activate, vars); a.Str("activateCustomer.customer.status") != "ACTIVE" {
		t.Errorf("%s", a.Body)
	}
	if n := strings.Count(g.Logs.String(), "provider did not understand us; an operator must look"); n < 3 {
		t.Errorf("the operator was told %d times", n)
	}
}

// FinHub activated and its answer was lost; the check does not show it, and the next activation is told that there is nothing left.
func TestLostActivation(t *testing.T) {
	t.Parallel()
	for _, allowed := range []string{"true", "false"} { // an account that is active may not be activated either
		t.Run(allowed, func(t *testing.T) {
			t.Parallel()
			lostActivation(t, `{"data":{"activationAllowed":`+allowed+`,"consentOk":true,"verificationOk":true}}`)
		})
	}
}

func lostActivation(t *testing.T, check string) {
	g, answers := startWith(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, "lost@example.com", nil), "code": finhubsim.DefaultActivationCode}
	g.Query(token, startVerify, vars)
	for _, consent := range []string{"TERMS", "PRIVACY", "DATA_PROCESSING"} {
		vars["t"] = consent
		g.Query(token, consentTo, vars)
	}
	ready := func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACTIVATE_ACCOUNT" }
	g.Eventually(token, readCustomer, vars, ready)
	answers.set("/activation/check", 200, `{"data":{"activationAllowed":true,"consentOk":true,"verificationOk":true}}`) // no word of an active account
	if err := g.FinHub.Faults().Add(failing(finhubsim.OpActivate, simulator.FaultActThenReset, "", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if a := g.Query(token, activate, vars); !slices.Equal(userErrors(a, "activateCustomer"), []string{unavailable}) {
		t.Fatalf("%s", a.Body)
	}
	answers.set("/activation/check", 200, check)
	g.Eventually(token, readCustomer, vars, ready)
	if a := g.Query(token, activate, vars); a.Str("activateCustomer.customer.status") != "ACTIVE" {
		t.Errorf("%s", a.Body)
	}
}

// A queued activation is none yet; the check says when it is one.
func TestQueuedActivation(t *testing.T) {
	t.Parallel()
	g, answers := startWith(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, "queued@example.com", nil), "code": finhubsim.DefaultActivationCode}
	g.Query(token, startVerify, vars)
	for _, consent := range []string{"TERMS", "PRIVACY", "DATA_PROCESSING"} {
		vars["t"] = consent
		g.Query(token, consentTo, vars)
	}
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACTIVATE_ACCOUNT" })
	answers.set("/activation/check", 200, `{"data":{"canActivate":true,"consentOk":true,"verificationOk":true}}`)
	answers.set("/activation", 200, `{"code":202,"data":{},"message":"Activation queued"}`)
	if a := g.Query(token, activate, vars); a.Str("activateCustomer.customer.status") != "PENDING_ACTIVATION" || a.Str("activateCustomer.customer.nextAction.kind") != "WAIT" {
		t.Errorf("%s", a.Body)
	}
	answers.set("/activation/check", 200, `{"data":{"canActivate":false,"consentOk":true,"verificationOk":true,"customerStatus":"CS_ACTIVE"}}`)
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.status") == "ACTIVE" })
}

// A consent whose call had an unknown end is sent again only when the check was answered and does not have it.
func TestConsentsAreLookedUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind simulator.FaultKind
		want int
	}{{simulator.FaultActThenReset, 1}, {simulator.FaultReset, 2}} {
		g, answers := startWith(t, apptest.Options{Config: func(c *config.Config) { c.Providers.FinHub.Breaker.Failures = 1000 }})
		token := g.Token(apptest.Acme)
		vars := map[string]any{"c": newCustomer(t, g, token, "consent@example.com", nil), "t": "TERMS"}
		answers.set("/activation/check", 503, "")
		if err := g.FinHub.Faults().Add(failing(finhubsim.OpConsent, tt.kind, "", 1, 1)); err != nil {
			t.Fatal(err)
		}
		if a := g.Query(token, consentTo, vars); a.Errors != nil || len(userErrors(a, "acceptConsent")) > 0 {
			t.Fatalf("%s", a.Body)
		}
		checks := strings.Count(g.Logs.String(), `"operation":"check_activation"`)
		apptest.Until(t, func() bool { return strings.Count(g.Logs.String(), `"operation":"check_activation"`) > checks+2 }, g.Logs.String)
		if n := g.FinHub.Requests().Count(finhubsim.OpConsent); n != 1 {
			t.Errorf("%s: sent %d times while nobody knew", tt.kind, n)
		}
		answers.set("/activation/check", 0, "")
		if err := g.FinHub.Wait(t.Context(), func(c []finhubsim.Customer) bool { return c[0].Consents == 1 }); err != nil {
			t.Fatal(err)
		}
		vars["t"] = "PRIVACY"
		g.Query(token, consentTo, vars) // goes after the first
		if err := g.FinHub.Wait(t.Context(), func(c []finhubsim.Customer) bool { return c[0].Consents == 2 }); err != nil {
			t.Fatal(err)
		}
		if n := g.FinHub.Requests().Count(finhubsim.OpConsent); n != tt.want+1 {
			t.Errorf("%s: %d consents were sent, want %d", tt.kind, n, tt.want+1)
		}
	}
}

// FinHub lost consents it had taken: they are asked for again, by their names, and taken again in the same version.
func TestLostConsents(t *testing.T) {
	t.Parallel()
	g, answers := startWith(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, "again@example.com", nil), "code": finhubsim.DefaultActivationCode}
	answers.set("/activation/check", 200, `{"data":{"canActivate":false,"verificationOk":true,"consentOk":false,"missingConsents":["TERMS_AND_CONDITIONS","PRIVACY_POLICY"],"verificationStatus":"APPROVED"}}`)
	for _, consent := range []string{"TERMS", "PRIVACY", "DATA_PROCESSING"} {
		vars["t"] = consent
		g.Query(token, consentTo, vars)
	}
	g.Query(token, startVerify, vars)
	asks := func(a apptest.Answer) bool {
		return a.Str("customer.nextAction.kind") == "ACCEPT_TERMS" && strings.HasSuffix(a.Str("customer.nextAction.message"), ": TERMS, PRIVACY")
	}
	g.Eventually(token, readCustomer, vars, asks)
	a := g.Query(token, activate, vars)
	if !slices.Equal(userErrors(a, "activateCustomer"), []string{"CONSENT_REQUIRED input.customerId"}) || !strings.HasSuffix(a.Str("activateCustomer.userErrors.0.message"), ": TERMS, PRIVACY") {
		t.Errorf("%s", a.Body)
	}
	sent := g.FinHub.Requests().Count(finhubsim.OpConsent)
	for _, consent := range []string{"TERMS", "PRIVACY"} {
		vars["t"] = consent
		if a := g.Query(token, consentTo, vars); a.Errors != nil || len(userErrors(a, "acceptConsent")) > 0 {
			t.Errorf("%s", a.Body)
		}
	}
	if n := g.FinHub.Requests().Count(finhubsim.OpConsent); n != sent+2 {
		t.Errorf("%d consents were sent, %d before", n, sent)
	}
	answers.set("/activation/check", 0, "")
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACTIVATE_ACCOUNT" })
}
