package app_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

// customerFields is everything a test asks about a customer.
const customerFields = `id provider providerCustomerId providerUserId providerPersonId status providerStatus statusDetail version
  user { id username status roles } category { id name riskLevel features { code parameters { name value } } } nextAction { kind step message } person { id name birthdate }`

const registerCustomer = `mutation R($input: RegisterCustomerInput!) { registerCustomer(input: $input) {
  customer { ` + customerFields + ` } userErrors { code message path provider providerCode retryable } } }`

// canaryPassword must not be seen anywhere.
const canaryPassword = "Canary-Passw0rd!7"

// customerInput is a good registerCustomer input; the overrides replace or, with nil, remove fields.
func customerInput(email string, overrides map[string]any) map[string]any {
	input := map[string]any{
		"firstName": "Marcus", "lastName": "Jensen", "email": email, "phone": "+37060012345",
		"password": canaryPassword, "matchingPassword": canaryPassword, "roles": []any{"ACCOUNT_OWNER", "USER"}, "categoryId": finhubsim.MediumRisk,
		"birthdate": "1990-05-15", "gender": "MALE", "nationality": "LT",
		"addresses": []any{map[string]any{"type": "HOME", "street": "123 Medium Risk Street", "city": "Compliance City", "postalCode": "12345", "country": "LT", "primary": true}},
	}
	for k, v := range overrides {
		if v == nil {
			delete(input, k)
		} else {
			input[k] = v
		}
	}
	return map[string]any{"input": input}
}

// userErrors gives "CODE path" of each refusal, sorted.
func userErrors(a apptest.Answer, mutation string) []string {
	list, _ := a.Get(mutation + ".userErrors").([]any)
	out := []string{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		var path []string
		for _, p := range m["path"].([]any) {
			path = append(path, p.(string))
		}
		out = append(out, m["code"].(string)+" "+strings.Join(path, "."))
	}
	slices.Sort(out)
	return out
}

// With nothing but a category, the customer and its person are there, and can be read back by both doors.
func TestRegisterCustomer(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	a := g.Query(token, registerCustomer, customerInput("marcus@example.com", nil))
	if len(userErrors(a, "registerCustomer")) > 0 || a.Str("registerCustomer.customer.status") != "PENDING_ACTIVATION" {
		t.Fatalf("%s", a.Body)
	}
	for path, want := range map[string]string{
		"provider": "finhub", "providerCustomerId": "cust_000000001", "providerUserId": "user_000000001", "providerPersonId": "pers_000000001",
		"providerStatus": "REGISTRATION_COMPLETE", "user.status": "PENDING_ACTIVATION", "user.username": "marcus@example.com",
		"category.id": finhubsim.MediumRisk, "category.name": "Medium Risk Individual", "category.riskLevel": "MEDIUM",
		"category.features.0.parameters.0.value": "MEDIUM", "category.features.0.parameters.1.value": "55", "category.features.0.parameters.4.value": "20000",
		"person.name": "Marcus Jensen", "person.birthdate": "1990-05-15", "nextAction.kind": "CAPTURE_DOCUMENT",
	} {
		if got := a.Str("registerCustomer.customer." + path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	id, person := a.Str("registerCustomer.customer.id"), a.Str("registerCustomer.customer.person.id")
	read := g.Query(token, `query($c: ID!, $p: ID!) { customer(id: $c) { `+customerFields+` } person(id: $p) { name documentNumber customers { id } } node(id: $c) { __typename } }`,
		map[string]any{"c": id, "p": person})
	if read.Str("customer.status") != "PENDING_ACTIVATION" || read.Str("person.customers.0.id") != id || read.Str("node.__typename") != "Customer" || read.Get("person.documentNumber") != nil {
		t.Errorf("read back: %s", read.Body)
	}
	// Another partner's customer does not exist; nor does one for a token without the scope. Masks hold.
	for _, tt := range []struct {
		token string
		want  any
	}{
		{g.Token(apptest.Rival), nil}, {g.Token(apptest.Acme, kyc.PersonsRead), nil},
		{g.Token(apptest.Acme, kyc.CustomersRead), map[string]any{"id": id, "user": map[string]any{"username": "m***@e***.com"}}},
	} {
		got := g.Query(tt.token, `query($c: ID!) { customer(id: $c) { id user { username } } }`, map[string]any{"c": id})
		if want, ok := tt.want.(map[string]any); ok && (got.Str("customer.id") != id || got.Str("customer.user.username") != want["user"].(map[string]any)["username"]) || !ok && got.Get("customer") != nil {
			t.Errorf("got %s, want %v", got.Body, tt.want)
		}
	}
	if n := g.FinHub.Registered(); n != 1 {
		t.Errorf("%d registrations arrived", n)
	}
}

// Each wrong thing is its own error, all at once, and nothing is sent.
func TestCustomerRefusals(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	if a := g.Query(token, registerCustomer, customerInput("taken@example.com", nil)); a.Str("registerCustomer.customer.id") == "" {
		t.Fatalf("%s", a.Body)
	}
	override := func(feature, name, value string) map[string]any {
		return map[string]any{"feature": feature, "name": name, "value": value}
	}
	profile := "MEDIUM_RISK_PROFILE"
	for name, tt := range map[string]struct {
		change map[string]any
		want   []string
	}{
		"an override that is not allowed": {map[string]any{"parameters": []any{override(profile, "riskLevel", "EXTREME")}}, []string{"CATEGORY_PARAMETER input.parameters.MEDIUM_RISK_PROFILE.riskLevel"}},
		"a feature nobody knows":          {map[string]any{"parameters": []any{override("X", "riskLevel", "LOW")}}, []string{"CATEGORY_PARAMETER input.parameters.0.feature"}},
		"a key nobody knows":              {map[string]any{"parameters": []any{override(profile, "shoeSize", "44")}}, []string{"CATEGORY_PARAMETER input.parameters.0.name"}},
		"given twice":                     {map[string]any{"parameters": []any{override(profile, "pep", "true"), override(profile, "pep", "false")}}, []string{"CATEGORY_PARAMETER input.parameters.MEDIUM_RISK_PROFILE.pep"}},
		"a key with no rule":              {map[string]any{"categoryId": finhubsim.AsksForMore}, []string{"CATEGORY_PARAMETER input.parameters.CUSTOMER_PROFILE.data_retention_days"}},
		"an unknown category":             {map[string]any{"categoryId": "nowhere"}, []string{"INVALID input.categoryId"}},
		"passwords that differ":           {map[string]any{"matchingPassword": "Another-Passw0rd!7"}, []string{"PASSWORD_MISMATCH input.matchingPassword"}},
		"a weak password":                 {map[string]any{"password": "weakpassword", "matchingPassword": "weakpassword"}, []string{"INVALID input.password"}},
		"a duplicate e-mail":              {map[string]any{"email": "TAKEN@example.com"}, []string{"DUPLICATE_EMAIL input.email"}},
		"a phone without a country":       {map[string]any{"phone": "060012345"}, []string{"INVALID input.phone"}},
		"a role nobody has":               {map[string]any{"roles": []any{"USER", "ADMIN"}}, []string{"INVALID input.roles.1"}},
		"a country nobody knows":          {map[string]any{"nationality": "XX"}, []string{"INVALID input.nationality"}},
		"somebody from the future":        {map[string]any{"birthdate": "2990-01-01"}, []string{"INVALID input.birthdate"}},
		"a person of nobody":              {map[string]any{"personId": "per_01JQ0000000000000000000000"}, []string{"NOT_FOUND input.personId"}},
		"no primary address": {map[string]any{"addresses": []any{map[string]any{"type": "HOME", "street": "x", "city": "y", "postalCode": "1", "country": "LTU", "primary": false}}},
			[]string{"INVALID input.addresses"}},
		"an empty postal code": {map[string]any{"addresses": []any{map[string]any{"type": "HOME", "street": "x", "city": "y", "postalCode": " ", "country": "LT", "primary": true}}},
			[]string{"REQUIRED input.addresses.0.postalCode"}},
		"all of it": {map[string]any{
			"email": "taken@example.com", "password": "weak", "categoryId": finhubsim.AsksForMore, "roles": []any{}, "phone": "1", "personId": "per_x",
			"parameters": []any{override("CUSTOMER_PROFILE", "industry", "WEAPONS")}, "firstName": " ", "idempotencyKey": "",
		}, []string{
			"CATEGORY_PARAMETER input.parameters.CUSTOMER_PROFILE.data_retention_days", "CATEGORY_PARAMETER input.parameters.CUSTOMER_PROFILE.industry",
			"DUPLICATE_EMAIL input.email", "INVALID input.idempotencyKey", "INVALID input.password", "INVALID input.phone", "NOT_FOUND input.personId",
			"PASSWORD_MISMATCH input.matchingPassword", "REQUIRED input.firstName", "REQUIRED input.roles",
		}},
	} {
		a := g.Query(token, registerCustomer, customerInput("new@example.com", tt.change))
		if got := userErrors(a, "registerCustomer"); !slices.Equal(got, tt.want) || a.Get("registerCustomer.customer") != nil {
			t.Errorf("%s: got %v\nwant %v\n%s", name, got, tt.want, a.Body)
		}
	}
	if n := g.FinHub.Registered(); n != 1 {
		t.Errorf("%d registrations arrived, want the first one alone", n)
	}
	a := g.Query(token, registerCustomer, customerInput("new@example.com", map[string]any{"categoryId": finhubsim.Closed}))
	if got := userErrors(a, "registerCustomer"); !slices.Equal(got, []string{"PROVIDER_REJECTED input.categoryId"}) {
		t.Errorf("refused by FinHub: %s", a.Body)
	}
	// Nothing is left of any refusal: the address is free, and there is no person without a customer.
	persons := g.Query(token, `{ persons { totalCount } }`, nil)
	if n, _ := persons.Get("persons.totalCount").(float64); n != 1 {
		t.Errorf("%s", persons.Body)
	}
	if a := g.Query(token, registerCustomer, customerInput("new@example.com", nil)); a.Str("registerCustomer.customer.id") == "" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Bazaar), registerCustomer, customerInput("x@example.com", nil)); !slices.Equal(userErrors(a, "registerCustomer"), []string{"PROVIDER_NOT_CONFIGURED input"}) {
		t.Errorf("a partner without a tenant: %s", a.Body)
	}
}

const (
	readCustomer = `query($c: ID!) { customer(id: $c) { ` + customerFields + ` } }`
	startVerify  = `mutation($c: ID!) { startCustomerVerification(input: {customerId: $c}) { customer { ` + customerFields + ` } userErrors { code message path provider providerCode retryable } } }`
	consentTo    = `mutation($c: ID!, $t: ConsentType!) { acceptConsent(input: {customerId: $c, type: $t, version: "1.0"}) { customer { ` + customerFields + ` } userErrors { code message path provider providerCode retryable } } }`
	activate     = `mutation($c: ID!, $code: String!) { activateCustomer(input: {customerId: $c, code: $code}) { customer { ` + customerFields + ` } userErrors { code message path provider providerCode retryable } } }`
)

// newCustomer gives a fresh customer's id.
func newCustomer(t *testing.T, g *apptest.Gateway, token, email string, overrides map[string]any) string {
	t.Helper()
	a := g.Query(token, registerCustomer, customerInput(email, overrides))
	id := a.Str("registerCustomer.customer.id")
	if id == "" {
		t.Fatalf("%s", a.Body)
	}
	return id
}

// A customer goes from registered to active with nothing but what nextAction says, in every generation of FinHub's documentation; a
// high risk asks for more.
func TestCustomerBecomesActive(t *testing.T) {
	t.Parallel()
	for _, generation := range []finhubsim.Generation{finhubsim.G3, finhubsim.G4, finhubsim.G6} {
		for _, category := range []string{finhubsim.MediumRisk, finhubsim.HighRisk} {
			t.Run(string(generation)+" "+category, func(t *testing.T) {
				t.Parallel()
				g := apptest.Start(t, apptest.Options{FinHub: finhubsim.Config{Generation: generation, VerificationDelay: 10 * time.Millisecond}})
				token := g.Token(apptest.Acme)
				id := newCustomer(t, g, token, "way@example.com", map[string]any{"categoryId": category})
				vars := map[string]any{"c": id, "code": finhubsim.DefaultActivationCode}

				// Nothing can be skipped, and everything that is missing is said.
				if a := g.Query(token, activate, vars); !slices.Equal(userErrors(a, "activateCustomer"), []string{"CONFLICT input.customerId", "CONSENT_REQUIRED input.customerId"}) {
					t.Errorf("too early: %s", a.Body)
				}
				a := g.Query(token, startVerify, vars)
				if a.Str("startCustomerVerification.customer.status") != "PENDING_ACTIVATION" {
					t.Fatalf("%s", a.Body)
				}
				if again := g.Query(token, startVerify, vars); len(userErrors(again, "startCustomerVerification")) > 0 {
					t.Errorf("again: %s", again.Body)
				}
				if category == finhubsim.HighRisk {
					if level := g.FinHub.Customers()[0].Level; level != "POWER_TENANT_VERIFIED" {
						t.Errorf("a high risk is verified at %s", level)
					}
					if generation != finhubsim.G6 && !strings.Contains(string(a.Body), "PEP_DECLARATION") {
						t.Errorf("a high risk asks for no more documents: %s", a.Body)
					}
					if err := g.FinHub.Decide(g.FinHub.Customers()[0].ID, "APPROVED"); err != nil {
						t.Fatal(err)
					}
				}
				var seen []string
				for range 8 {
					var action string
					a := g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool {
						action = a.Str("customer.nextAction.kind")
						return action != "WAIT" && action != "CAPTURE_DOCUMENT"
					})
					switch action {
					case "ACCEPT_TERMS":
						message := a.Str("customer.nextAction.message")
						_, list, _ := strings.Cut(message, ": ")
						first, _, _ := strings.Cut(list, ",")
						vars["t"] = first
						if a := g.Query(token, consentTo, vars); len(userErrors(a, "acceptConsent")) > 0 || a.Errors != nil {
							t.Fatalf("%s: %s", first, a.Body)
						}
						action += " " + first
					case "ACTIVATE_ACCOUNT":
						wrong := g.Query(token, activate, map[string]any{"c": id, "code": "NOT-THE-CODE"})
						if !slices.Equal(userErrors(wrong, "activateCustomer"), []string{"PROVIDER_REJECTED input.code"}) {
							t.Errorf("a wrong code: %s", wrong.Body)
						}
						if a := g.Query(token, activate, vars); a.Str("activateCustomer.customer.status") != "ACTIVE" || a.Get("activateCustomer.customer.nextAction") != nil {
							t.Fatalf("%s", a.Body)
						}
					case "":
						if a.Str("customer.status") != "ACTIVE" || a.Str("customer.user.status") != "ACTIVE" {
							t.Errorf("%s", a.Body)
						}
						want := []string{"ACCEPT_TERMS TERMS", "ACCEPT_TERMS PRIVACY", "ACCEPT_TERMS DATA_PROCESSING", "ACTIVATE_ACCOUNT"}
						if !slices.Equal(seen, want) {
							t.Errorf("the way was %v, want %v", seen, want)
						}
						if n := g.FinHub.Requests().Count(finhubsim.OpStartVerification); n != 1 {
							t.Errorf("%d verifications were started", n)
						}
						return
					default:
						t.Fatalf("%s", a.Body)
					}
					seen = append(seen, action)
				}
				t.Errorf("never active: %v", seen)
			})
		}
	}
}

func TestCustomerIsRejected(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, finhubsim.EmailRejected, nil), "t": "TERMS", "code": "x"}
	g.Query(token, startVerify, vars)
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool {
		return a.Str("customer.status") == "REJECTED" && a.Str("customer.nextAction.kind") == "CONTACT_SUPPORT" && a.Str("customer.statusDetail") == "REJECTED"
	})
	for mutation, query := range map[string]string{"startCustomerVerification": startVerify, "acceptConsent": consentTo, "activateCustomer": activate} {
		if a := g.Query(token, query, vars); !slices.Equal(userErrors(a, mutation), []string{"CONFLICT input.customerId"}) {
			t.Errorf("%s: %s", mutation, a.Body)
		}
	}
	for mutation, query := range map[string]string{"startCustomerVerification": startVerify, "acceptConsent": consentTo, "activateCustomer": activate} {
		if a := g.Query(g.Token(apptest.Rival), query, vars); !slices.Equal(userErrors(a, mutation), []string{"NOT_FOUND input.customerId"}) {
			t.Errorf("another partner, %s: %s", mutation, a.Body)
		}
	}
	// An unknown word stays open, and is counted.
	id := newCustomer(t, g, token, finhubsim.EmailUnknownStatus, nil)
	if a := g.Query(token, readCustomer, map[string]any{"c": id}); a.Str("customer.status") != "PENDING" || a.Str("customer.providerStatus") != "SCREENING_AT_PARTNER" {
		t.Errorf("%s", a.Body)
	}
	if !strings.Contains(g.Metrics(), `kycgate_provider_unknown_status_total{provider="finhub"} 1`) {
		t.Error("an unknown word was not counted")
	}
}

func failing(operation string, kind simulator.FaultKind, value string, probability float64, times int) simulator.Fault {
	f := simulator.Fault{Operation: operation, Kind: kind, Probability: &probability}
	if value != "" {
		f.Value = json.RawMessage(value)
	}
	if times > 0 {
		f.Times = &times
	}
	return f
}

// The steps go on by themselves when FinHub does not answer, and what may have arrived is looked up and not sent again.
func TestCustomerStepsSurviveFaults(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{FinHub: finhubsim.Config{VerificationDelay: 10 * time.Millisecond}, Config: func(c *config.Config) { c.AnswerWithin = 500 * time.Millisecond }})
	token := g.Token(apptest.Acme)
	vars := map[string]any{"c": newCustomer(t, g, token, "faults@example.com", nil)}
	faults := g.FinHub.Faults()
	if err := faults.Add(
		failing(finhubsim.OpStartVerification, simulator.FaultActThenReset, "", 1, 1),
		failing(finhubsim.OpCheck, simulator.FaultStatus, "503", 1, 2),
		failing(finhubsim.OpConsent, simulator.FaultStatus, "500", 0.5, 3),
		failing(finhubsim.OpConsent, simulator.FaultReset, "", 0.5, 3),
	); err != nil {
		t.Fatal(err)
	}
	a := g.Query(token, startVerify, vars)
	if a.Str("startCustomerVerification.customer.nextAction.kind") != "WAIT" {
		t.Errorf("an unknown end: %s", a.Body)
	}
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACCEPT_TERMS" })
	if n := g.FinHub.Requests().Count(finhubsim.OpStartVerification); n != 1 {
		t.Errorf("the verification was started %d times", n)
	}
	for _, consent := range []string{"TERMS", "PRIVACY", "DATA_PROCESSING"} {
		vars["t"] = consent
		if a := g.Query(token, consentTo, vars); len(userErrors(a, "acceptConsent")) > 0 || a.Errors != nil {
			t.Errorf("%s: %s", consent, a.Body)
		}
	}
	g.Eventually(token, readCustomer, vars, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "ACTIVATE_ACCOUNT" })

	// An activation needs its code, which we do not keep: its caller is told.
	if err := faults.Replace(failing(finhubsim.OpActivate, simulator.FaultStatus, "503", 1, 1), failing(finhubsim.OpActivate, simulator.FaultReset, "", 1, 1)); err != nil {
		t.Fatal(err)
	}
	vars["code"] = finhubsim.DefaultActivationCode
	tries := 0
	apptest.Until(t, func() bool {
		tries++
		a = g.Query(token, activate, vars)
		errs := userErrors(a, "activateCustomer")
		if len(errs) > 0 && errs[0] != "PROVIDER_UNAVAILABLE input" && errs[0] != "CONFLICT input.customerId" {
			t.Fatalf("%s", a.Body)
		}
		return a.Str("activateCustomer.customer.status") == "ACTIVE"
	}, func() string { return string(a.Body) })
	if tries < 2 {
		t.Error("the outage was not noticed")
	}
	noTrace(t, g, finhubsim.DefaultActivationCode)
}

// noTrace looks for a text in everything that outlives a request: the data folder, the logs, the metrics, and what the simulator
// logged of what arrived.
func noTrace(t *testing.T, g *apptest.Gateway, texts ...string) {
	t.Helper()
	all := map[string]string{"log": g.Logs.String(), "metrics": g.Metrics()}
	requests, _ := json.Marshal(g.FinHub.Requests().Summary())
	all["requests"] = string(requests)
	files := 0
	err := filepath.WalkDir(g.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		files++
		return err
	})
	if err != nil || files < 2 || len(all["log"]) < 100 || len(all["metrics"]) < 1000 {
		t.Fatalf("looked in %d files: %v", files, err)
	}
	for where, content := range all {
		for _, text := range texts {
			if strings.Contains(content, text) {
				t.Errorf("%q is in %s", text, where)
			}
		}
	}
}

// A hundred registrations through an upstream that fails in every way: each becomes one customer, none is sent twice, and the
// password is nowhere.
func TestHundredRegistrationsWithFaults(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.FinHub.Timeout = 400*time.Millisecond, 200*time.Millisecond
	}})
	token := g.Token(apptest.Acme)
	op := finhubsim.OpRegister
	if err := g.FinHub.Faults().Add(
		failing(op, simulator.FaultActThenReset, "", 0.15, 0), failing(op, simulator.FaultReset, "", 0.1, 0), failing(op, simulator.FaultStatus, "503", 0.1, 0),
		failing(op, simulator.FaultTruncate, "", 0.1, 0), failing(op, simulator.FaultActThenHang, `"1s"`, 0.05, 0), failing(op, simulator.FaultRateLimit, "0", 0.05, 0),
		failing(finhubsim.OpFind, simulator.FaultStatus, "500", 0.1, 0),
	); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	ids := map[string]bool{}
	asked, unavailable := 0, 0
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 25 {
				input := customerInput(fmt.Sprintf("c%d-%d@example.com", worker, i), nil)
				apptest.Until(t, func() bool {
					a := g.Query(token, registerCustomer, input)
					errs := userErrors(a, "registerCustomer")
					mu.Lock()
					defer mu.Unlock()
					asked++
					id := a.Str("registerCustomer.customer.id")
					switch {
					case id != "":
						if ids[id] {
							t.Errorf("%s was answered twice", id)
						}
						ids[id] = true
						return true
					case !slices.Equal(errs, []string{"PROVIDER_UNAVAILABLE input"}) || a.Get("registerCustomer.userErrors.0.retryable") != true:
						t.Errorf("%s", a.Body)
						return true
					}
					unavailable++
					return false
				}, func() string { return fmt.Sprint(input) })
			}
		})
	}
	wg.Wait()
	customers := g.FinHub.Customers()
	t.Logf("100 registrations in %d requests, %d of them unavailable; %d customers at FinHub, %d registrations arrived", asked, unavailable, len(customers), g.FinHub.Registered())
	if len(ids) != 100 || len(customers) != 100 || unavailable == 0 {
		t.Errorf("%d answered, %d at FinHub, %d times unavailable", len(ids), len(customers), unavailable)
	}
	// A registration is sent again only after a look-up that did not find it: none arrived twice.
	if n := g.FinHub.Registered(); n != 100 {
		t.Errorf("%d registrations arrived for 100 customers", n)
	}
	noTrace(t, g, canaryPassword, "c0-0@example.com", "123 Medium Risk Street")
}

// Of many who want one address at once, one gets it.
func TestOneCustomerAnAddress(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	g.Query(token, `{ categoryHierarchy { tenantId } }`, nil)
	if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, simulator.FaultLatency, `"50ms"`, 1, 0)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			email := "one@example.com"
			if i%2 == 0 {
				email = "ONE@example.com"
			}
			a := g.Query(token, registerCustomer, customerInput(email, map[string]any{"firstName": fmt.Sprintf("Marcus%d", i)}))
			mu.Lock()
			defer mu.Unlock()
			if a.Str("registerCustomer.customer.id") != "" {
				got["customer"]++
			}
			for _, e := range userErrors(a, "registerCustomer") {
				got[e]++
			}
		})
	}
	wg.Wait()
	if got["customer"] != 1 || got["DUPLICATE_EMAIL input.email"] != 19 || g.FinHub.Registered() != 1 {
		t.Errorf("%v, %d arrived", got, g.FinHub.Registered())
	}
	if a := g.Query(g.Token(apptest.Rival), registerCustomer, customerInput("one@example.com", nil)); a.Str("registerCustomer.customer.id") == "" {
		t.Errorf("another partner's tenant: %s", a.Body)
	}
}

// The same key with the same input answers the same customer, whatever the password: that is not kept, not even as a hash.
func TestCustomerIdempotency(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	key := map[string]any{"idempotencyKey": "key-1"}
	id := newCustomer(t, g, token, "idem@example.com", key)
	other := "Another-Passw0rd!7"
	for _, overrides := range []map[string]any{key, {"idempotencyKey": "key-1", "password": other, "matchingPassword": other}} {
		if again := newCustomer(t, g, token, "idem@example.com", overrides); again != id {
			t.Errorf("again: %s, want %s", again, id)
		}
	}
	if a := g.Query(token, registerCustomer, customerInput("idem@example.com", map[string]any{"idempotencyKey": "key-1", "lastName": "Jonson"})); !slices.Equal(userErrors(a, "registerCustomer"), []string{"IDEMPOTENCY_CONFLICT input.idempotencyKey"}) {
		t.Errorf("another input: %s", a.Body)
	}
	if a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 1), "x", key)); a.Str("registerPerson.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("another mutation: %s", a.Body)
	}
	if n := g.FinHub.Registered(); n != 1 {
		t.Errorf("%d registrations arrived", n)
	}
	// A refusal frees the key.
	if a := g.Query(token, registerCustomer, customerInput("idem2@example.com", map[string]any{"idempotencyKey": "key-2", "categoryId": finhubsim.Closed})); len(userErrors(a, "registerCustomer")) != 1 {
		t.Fatalf("%s", a.Body)
	}
	newCustomer(t, g, token, "idem2@example.com", map[string]any{"idempotencyKey": "key-2"})
}

// A slow FinHub: the caller is asked to come again, and finds the customer that the first call made.
func TestCustomerWhoComesAgain(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.FinHub.Timeout = 300*time.Millisecond, 5*time.Second
	}})
	token := g.Token(apptest.Acme)
	g.Query(token, `{ categoryHierarchy { tenantId } }`, nil)
	if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, simulator.FaultLatency, `"700ms"`, 1, 1)); err != nil {
		t.Fatal(err)
	}
	a := g.Query(token, registerCustomer, customerInput("slow@example.com", nil))
	if !slices.Equal(userErrors(a, "registerCustomer"), []string{"PROVIDER_UNAVAILABLE input"}) || a.Get("registerCustomer.customer") != nil {
		t.Fatalf("%s", a.Body)
	}
	if err := g.FinHub.Wait(t.Context(), func(c []finhubsim.Customer) bool { return len(c) == 1 }); err != nil {
		t.Fatal(err)
	}
	apptest.Until(t, func() bool {
		a = g.Query(token, registerCustomer, customerInput("slow@example.com", nil))
		return a.Str("registerCustomer.customer.status") == "PENDING_ACTIVATION"
	}, func() string { return string(a.Body) })
	if n := g.FinHub.Registered(); n != 1 {
		t.Errorf("%d registrations arrived", n)
	}
	// It was handed over once. Whoever comes now has a duplicate.
	if a := g.Query(token, registerCustomer, customerInput("slow@example.com", nil)); !slices.Equal(userErrors(a, "registerCustomer"), []string{"DUPLICATE_EMAIL input.email"}) {
		t.Errorf("%s", a.Body)
	}
}

// A process that dies over a registration: the next one looks it up, and its caller gets the customer.
func TestCustomerAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := apptest.Start(t, apptest.Options{Dir: dir, Config: func(c *config.Config) { c.AnswerWithin = 300 * time.Millisecond }})
	token := g.Token(apptest.Acme)
	g.Query(token, `{ categoryHierarchy { tenantId } }`, nil)
	if err := g.FinHub.Faults().Add(failing(finhubsim.OpRegister, simulator.FaultStatus, "500", 1, 0), failing(finhubsim.OpFind, simulator.FaultStatus, "500", 1, 0)); err != nil {
		t.Fatal(err)
	}
	if a := g.Query(token, registerCustomer, customerInput("restart@example.com", nil)); !slices.Equal(userErrors(a, "registerCustomer"), []string{"PROVIDER_UNAVAILABLE input"}) {
		t.Fatalf("%s", a.Body)
	}
	g.Stop()
	g = apptest.Start(t, apptest.Options{Dir: dir})
	token = g.Token(apptest.Acme)
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 0.0 {
		t.Errorf("nobody was accepted yet: %s", a.Body)
	}
	// The job may be looking at the same moment; whoever comes then is asked to come again.
	var a apptest.Answer
	apptest.Until(t, func() bool {
		a = g.Query(token, registerCustomer, customerInput("restart@example.com", nil))
		return a.Get("registerCustomer.customer") != nil || !slices.Equal(userErrors(a, "registerCustomer"), []string{"PROVIDER_UNAVAILABLE input"})
	}, func() string { return string(a.Body) })
	if a.Get("registerCustomer.customer") == nil {
		t.Fatalf("%s", a.Body)
	}
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 1.0 || g.FinHub.Registered() != 1 {
		t.Errorf("%s, %d arrived", a.Body, g.FinHub.Registered())
	}
	noTrace(t, g, canaryPassword)
}

// stepClock is the wall clock, put forward by a test; its timers stay the wall's.
type stepClock struct {
	clockwork.Clock
	ahead atomic.Int64
}

func (c *stepClock) Now() time.Time          { return c.Clock.Now().Add(time.Duration(c.ahead.Load())) }
func (c *stepClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// FinHub is down: the hierarchy comes from memory and says so in a metric, a registration says so as data and leaves nothing, and when
// FinHub is back everybody is registered once.
func TestFinHubIsDown(t *testing.T) {
	t.Parallel()
	clock := &stepClock{Clock: clockwork.NewRealClock()}
	g := apptest.Start(t, apptest.Options{Clock: clock, Config: func(c *config.Config) { c.AnswerWithin = time.Second }})
	token := g.Token(apptest.Acme)
	const hierarchy = `{ categoryHierarchy { tenantId tenantName categories { id name riskLevel features { code mandatoryKeys parameters { name value } allowedValues { key values } } } } }`
	before := g.Query(token, hierarchy, nil)
	if before.Str("categoryHierarchy.tenantId") != "fh_api_acme" || before.Str("categoryHierarchy.categories.0.features.0.parameters.1.value") != "55" {
		t.Fatalf("%s", before.Body)
	}
	if err := g.FinHub.Faults().Add(failing("*", simulator.FaultReset, "", 1, 0)); err != nil {
		t.Fatal(err)
	}
	clock.advance(10 * time.Minute) // older than minutes
	if after := g.Query(token, hierarchy, nil); string(after.Body) != string(before.Body) {
		t.Errorf("down: %s", after.Body)
	}
	if !strings.Contains(g.Metrics(), `kycgate_category_hierarchy_stale_total{provider="finhub"} 1`) {
		t.Error("an old hierarchy was served and nobody was told")
	}
	for range 8 { // the breaker opens meanwhile
		a := g.Query(token, registerCustomer, customerInput("down@example.com", nil))
		if !slices.Equal(userErrors(a, "registerCustomer"), []string{"PROVIDER_UNAVAILABLE input"}) || a.Get("registerCustomer.userErrors.0.retryable") != true {
			t.Fatalf("%s", a.Body)
		}
	}
	if a := g.Query(g.Token(apptest.Rival), hierarchy, nil); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "OVERLOADED" {
		t.Errorf("a hierarchy nobody ever saw: %s", a.Body)
	}
	g.FinHub.Faults().Clear()
	var a apptest.Answer
	apptest.Until(t, func() bool {
		clock.advance(time.Second)
		a = g.Query(token, registerCustomer, customerInput("down@example.com", nil))
		return a.Str("registerCustomer.customer.id") != ""
	}, func() string { return string(a.Body) })
	if n := g.FinHub.Registered(); n != 1 {
		t.Errorf("%d registrations arrived", n)
	}
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 1.0 {
		t.Errorf("what failed left something: %s", a.Body)
	}
}
