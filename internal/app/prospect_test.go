package app_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

const (
	prospectFields = ` id provider providerCustomerId providerUserId status providerStatus statusDetail cip { status detail providerStatus stuckSince } nextAction { kind step message } version person { id name birthdate } `
	registerLeap   = `mutation R($input: RegisterProspectInput!) { registerProspect(input: $input) { customer {` + prospectFields + `} userErrors { code message path provider providerCode retryable } } }`
	updateLeap     = `mutation U($input: UpdateProspectInput!) { updateProspect(input: $input) { customer {` + prospectFields + `} userErrors { code message path provider providerCode retryable } } }`
	customerByID   = `query C($id: ID!) { customer(id: $id) {` + prospectFields + `} }`
)

// prospect is a good registerProspect input; the overrides replace or, with nil, remove fields.
func prospect(serial int, overrides map[string]any) map[string]any {
	input := map[string]any{
		"firstName": "Ana", "lastName": "Hernández", "phone": mexican(serial), "birthdate": "1987-06-24",
		"address": "Blvd. Kukulcan Km. 4.5", "city": "Cancún", "state": "Q.R.", "country": "MX",
	}
	for k, v := range overrides {
		if input[k] = v; v == nil {
			delete(input, k)
		}
	}
	return map[string]any{"input": input}
}

// mexican numbers end in none of the simulator's magic digits.
func mexican(serial int) string { return fmt.Sprintf("+5255%08d", 21340000+serial) }

// status reads a customer until it satisfies.
func eventually(g *apptest.Gateway, token, id string, satisfied func(apptest.Answer) bool) apptest.Answer {
	return g.Eventually(token, customerByID, map[string]any{"id": id}, satisfied)
}

func hasStatus(status string) func(apptest.Answer) bool {
	return func(a apptest.Answer) bool { return a.Str("customer.status") == status }
}

func putLeapFault(t *testing.T, url, fault string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/leap/faults", strings.NewReader(fault))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		t.Fatalf("fault: %d", resp.StatusCode)
	}
}

func TestProspectCompletes(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	a := g.Query(token, registerLeap, prospect(1, map[string]any{"middleName": "María", "secondLastName": "Gómez", "email": "ana@example.com", "address2": "Depto. 3", "zipCode": "77500", "gender": "FEMALE",
		"language": "es", "birthState": "MX-CMX", "placeDetail": map[string]any{"place_id": "x"}, "latitude": 21.1, "longitude": -86.7, "userLatitude": 21, "userLongitude": -86}))
	id := a.Str("registerProspect.customer.id")
	if id == "" || a.Str("registerProspect.customer.provider") != "leap" || a.Str("registerProspect.customer.person.name") != "Ana María Hernández Gómez" {
		t.Fatalf("%s", a.Body)
	}
	a = eventually(g, token, id, hasStatus("ACTIVE"))
	if a.Str("customer.cip.status") != "COMPLETED" || a.Str("customer.cip.detail") != "NONE" || a.Str("customer.providerStatus") != "Completed" || a.Get("customer.nextAction") != nil ||
		a.Str("customer.providerUserId") != g.Leap.Users()[0].UserID {
		t.Errorf("%s", a.Body)
	}
	if u := g.Leap.Users(); len(u) != 1 || u[0].Posted != 1 {
		t.Errorf("%+v", u)
	}
	if a := g.Query(token, `query($id: ID!) { node(id: $id) { __typename id } }`, map[string]any{"id": id}); a.Str("node.__typename") != "Customer" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Rival), customerByID, map[string]any{"id": id}); a.Get("customer") != nil {
		t.Errorf("another partner sees it: %s", a.Body)
	}
}

// Each script of the simulator ends where the table says, through the whole gateway, and what is unknown is counted.
func TestProspectOutcomes(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	type outcome struct{ status, action, cip, detail string }
	want := map[string]outcome{
		"Immediate": {"ACTIVE", "", "COMPLETED", "NONE"}, "InvalidAddress": {"ACTION_REQUIRED", "CORRECT_DATA", "UPGRADE_SOFT_FAILED", "INVALID_ADDRESS"},
		"InvalidEMail": {"ACTION_REQUIRED", "CORRECT_DATA", "UPGRADE_SOFT_FAILED", "INVALID_EMAIL"}, "UnreadableDoc": {"ACTION_REQUIRED", "CAPTURE_DOCUMENT", "UPGRADE_SOFT_FAILED", "UNREADABLE_DOC"},
		"ProvideAdditionalInfo": {"ACTION_REQUIRED", "CORRECT_DATA", "UPGRADE_SOFT_FAILED", "PROVIDE_ADDITIONAL_INFO"},
		"InvalidPersonalData":   {"ACTION_REQUIRED", "CORRECT_DATA", "UPGRADE_SOFT_FAILED", "INVALID_PERSONAL_DATA"},
		"OtpPrivacyMissing":     {"ACTION_REQUIRED", "ACCEPT_TERMS", "UPGRADE_SOFT_FAILED", "OTP_PRIVACY_MISSING"}, "OtpContractMissing": {"ACTION_REQUIRED", "ACCEPT_TERMS", "UPGRADE_SOFT_FAILED", "OTP_CONTRACT_MISSING"},
		"SoftFails": {"ACTION_REQUIRED", "CORRECT_DATA", "UPGRADE_SOFT_FAILED", "NONE"}, "Compliance": {"ACTIVE", "", "COMPLETED", "NONE"},
		"ComplianceBlocked": {"REJECTED", "CONTACT_SUPPORT", "UPGRADE_FAILED", "COMPLIANCE_BLOCKED"}, "OfacFailed": {"REJECTED", "CONTACT_SUPPORT", "UPGRADE_FAILED", "OFAC_FAILED"},
		"Fails": {"REJECTED", "CONTACT_SUPPORT", "UPGRADE_FAILED", "NONE"}, "Stuck": {"PENDING", "WAIT", "UPGRADE_PENDING", "NONE"},
		"OnProcess": {"PENDING", "WAIT", "UNKNOWN", "NONE"}, "Silent": {"PENDING", "WAIT", "UNKNOWN", "NONE"}, "UnknownStatus": {"PENDING", "WAIT", "UNKNOWN", "UNKNOWN"},
		"LaterBlocked": {"REJECTED", "CONTACT_SUPPORT", "UPGRADE_FAILED", "COMPLIANCE_BLOCKED"},
	}
	ids := make(map[string]string)
	for i, name := range slices.Sorted(maps.Keys(want)) {
		a := g.Query(token, registerLeap, prospect(100+i, map[string]any{"firstName": name}))
		if ids[name] = a.Str("registerProspect.customer.id"); ids[name] == "" {
			t.Fatalf("%s: %s", name, a.Body)
		}
	}
	for name, w := range want {
		a := eventually(g, token, ids[name], func(a apptest.Answer) bool {
			return outcome{a.Str("customer.status"), a.Str("customer.nextAction.kind"), a.Str("customer.cip.status"), a.Str("customer.cip.detail")} == w
		})
		if word := a.Get("customer.cip.providerStatus"); (name == "Silent") != (word == nil) || name == "UnknownStatus" && (word != "ManualReview" || a.Str("customer.statusDetail") != "PaperworkMissing") {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if m := g.Metrics(); !strings.Contains(m, `kycgate_provider_unknown_status_total{provider="leap"}`) || strings.Contains(m, `kycgate_provider_unknown_status_total{provider="leap"} 0`) {
		t.Error("unknown words are not counted")
	}
	for _, u := range g.Leap.Users() {
		if u.Posted != 1 {
			t.Errorf("%+v", u)
		}
	}
}

func TestProspectRefusals(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	paths := func(a apptest.Answer, field string) map[string]string {
		found := make(map[string]string)
		list, _ := a.Get(field + ".userErrors").([]any)
		for _, e := range list {
			m := e.(map[string]any)
			found[fmt.Sprint(m["path"])] = fmt.Sprint(m["code"])
		}
		if len(found) > 0 && a.Get(field+".customer") != nil {
			t.Errorf("refused and answered: %s", a.Body)
		}
		return found
	}
	got := paths(g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "", "phone": "1", "email": "x", "birthdate": "2020-01-01", "state": "Narnia", "language": "pt", "latitude": 91, "placeDetail": []any{}, "personId": "per_1"})), "registerProspect")
	want := map[string]string{"[input firstName]": "REQUIRED", "[input phone]": "INVALID", "[input email]": "INVALID", "[input birthdate]": "INVALID", "[input state]": "INVALID", "[input language]": "INVALID", "[input latitude]": "INVALID", "[input placeDetail]": "INVALID"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := paths(g.Query(token, registerLeap, prospect(1, map[string]any{"personId": "per_01JQ0000000000000000000000"})), "registerProspect"); !maps.Equal(got, map[string]string{"[input personId]": "NOT_FOUND"}) {
		t.Errorf("got %v", got)
	}
	// Leap's own refusal, while the caller still waits, leaves nothing.
	a := g.Query(token, registerLeap, prospect(2, map[string]any{"firstName": leapsim.FirstNameRefused, "idempotencyKey": "k"}))
	if got := paths(a, "registerProspect"); !maps.Equal(got, map[string]string{"[input birthdate]": "PROVIDER_REJECTED"}) {
		t.Errorf("got %s", a.Body)
	}
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 0.0 {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, registerLeap, prospect(2, map[string]any{"idempotencyKey": "k"})); a.Str("registerProspect.customer.id") == "" {
		t.Errorf("the phone and the key are not free again: %s", a.Body)
	}
	if n := len(g.Leap.Users()); n != 1 {
		t.Errorf("%d users", n)
	}
	for _, scopes := range [][]kyc.Scope{{kyc.CustomersRead}, {kyc.PersonsWrite}} {
		if a := g.Query(g.Token(apptest.Acme, scopes...), registerLeap, prospect(3, nil)); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" {
			t.Errorf("%v: %s", scopes, a.Body)
		}
	}
}

// Phone and e-mail are unique a partner; what Leap has already is linked when everything leads to one user.
func TestProspectDuplicates(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	acme, rival := g.Token(apptest.Acme), g.Token(apptest.Rival)
	code := func(a apptest.Answer) string { return a.Str("registerProspect.userErrors.0.code") }
	first := g.Query(acme, registerLeap, prospect(1, map[string]any{"email": "ana@example.com"}))
	if first.Str("registerProspect.customer.id") == "" {
		t.Fatalf("%s", first.Body)
	}
	for name, tc := range map[string]struct {
		input map[string]any
		code  string
	}{
		"phone":            {prospect(1, nil), "DUPLICATE_PHONE"},
		"another spelling": {prospect(1, map[string]any{"phone": "+52 1 " + mexican(1)[3:]}), "DUPLICATE_PHONE"},
		"e-mail":           {prospect(2, map[string]any{"email": "ANA@example.com"}), "DUPLICATE_EMAIL"},
	} {
		if a := g.Query(acme, registerLeap, tc.input); code(a) != tc.code || a.Get("registerProspect.customer") != nil {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := g.Query(acme, registerLeap, prospect(1, map[string]any{"email": "ana@example.com"})); code(a) != "DUPLICATE_PHONE" || a.Str("registerProspect.userErrors.1.code") != "DUPLICATE_EMAIL" {
		t.Errorf("both: %s", a.Body)
	}
	// The other partner's prospect is none of this partner's, but Leap's key is the same: the same person is linked,
	linked := g.Query(rival, registerLeap, prospect(1, map[string]any{"email": "ana@example.com"}))
	if linked.Str("registerProspect.customer.providerUserId") != first.Str("registerProspect.customer.providerUserId") || linked.Str("registerProspect.customer.providerUserId") == "" {
		t.Errorf("linked: %s", linked.Body)
	}
	// and somebody else with one of the two is not.
	if a := g.Query(g.Token(apptest.Bazaar), registerLeap, prospect(1, map[string]any{"email": "other@example.com"})); code(a) != "DUPLICATE_PHONE" || a.Str("registerProspect.userErrors.0.provider") != "leap" {
		t.Errorf("phone at Leap: %s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Bazaar), registerLeap, prospect(3, map[string]any{"email": "ana@example.com"})); code(a) != "DUPLICATE_EMAIL" {
		t.Errorf("e-mail at Leap: %s", a.Body)
	}
	if a := g.Query(acme, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 1.0 {
		t.Errorf("refusals left persons: %s", a.Body)
	}
	if n := len(g.Leap.Users()); n != 1 {
		t.Errorf("%d users at Leap", n)
	}
}

// Two processes' worth of the same phone at once: one prospect here and one there.
func TestProspectConcurrentDuplicates(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	var mu sync.Mutex
	codes := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			overrides := map[string]any{"email": fmt.Sprintf("ana%d@example.com", i%50)}
			a, err := g.Do(t.Context(), token, registerLeap, prospect(1, overrides))
			if err != nil || len(a.Errors) > 0 {
				t.Errorf("%v %s", err, a.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			codes[a.Str("registerProspect.userErrors.0.code")]++
		})
	}
	wg.Wait()
	if codes[""] != 1 || codes["DUPLICATE_PHONE"] != 99 {
		t.Errorf("%v", codes)
	}
	if u := g.Leap.Users(); len(u) != 1 || u[0].Posted != 1 {
		t.Errorf("%+v", u)
	}
}

// The same key answers the same prospect, however often and however fast it is repeated.
func TestProspectIdempotency(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	var mu sync.Mutex
	ids := make(map[string]int)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			a, err := g.Do(t.Context(), token, registerLeap, prospect(1, map[string]any{"idempotencyKey": "key-1"}))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[a.Str("registerProspect.customer.id")]++
		})
	}
	wg.Wait()
	if len(ids) != 1 || ids[""] > 0 {
		t.Errorf("%v", ids)
	}
	if a := g.Query(token, registerLeap, prospect(2, map[string]any{"idempotencyKey": "key-1"})); a.Str("registerProspect.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", map[string]any{"idempotencyKey": "key-1"})); a.Str("registerPerson.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("%s", a.Body)
	}
	if u := g.Leap.Users(); len(u) != 1 || u[0].Posted != 1 {
		t.Errorf("%+v", u)
	}
}

// A correction is asked for, given, taken, and the prospect completes.
func TestProspectCorrection(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	id := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "InvalidEMail", "email": "wrong@example.com"})).Str("registerProspect.customer.id")
	before := eventually(g, token, id, hasStatus("ACTION_REQUIRED"))
	if a := g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": id, "email": "nope", "state": "Narnia"}}); a.Str("updateProspect.userErrors.0.code") != "INVALID" || a.Str("updateProspect.userErrors.1.code") != "INVALID" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": id, "email": "right@example.com", "phone": mexican(2)}}); fmt.Sprint(a.Get("updateProspect.userErrors.0.path")) != "[input phone]" {
		t.Errorf("nothing would tell Leap who it is: %s", a.Body)
	}
	correct := map[string]any{"input": map[string]any{"customerId": id, "firstName": "Ana", "email": "right@example.com", "idempotencyKey": "fix"}}
	a := g.Query(token, updateLeap, correct)
	if a.Str("updateProspect.customer.status") != "IN_PROGRESS" || a.Str("updateProspect.customer.nextAction.kind") != "WAIT" || a.Str("updateProspect.customer.person.name") != "Ana Hernández" {
		t.Fatalf("%s", a.Body)
	}
	if again := g.Query(token, updateLeap, correct); again.Str("updateProspect.customer.id") != id {
		t.Errorf("%s", again.Body)
	}
	after := eventually(g, token, id, hasStatus("ACTIVE"))
	if after.Str("customer.providerUserId") != before.Str("customer.providerUserId") {
		t.Errorf("%s\n%s", before.Body, after.Body)
	}
	if u := g.Leap.Users(); len(u) != 1 || u[0].Posted != 2 || u[0].Corrected != 1 {
		t.Errorf("%+v", u)
	}
	for name, tc := range map[string]struct {
		token, id, code string
	}{
		"nothing to correct": {token, id, "CONFLICT"}, "another partner's": {g.Token(apptest.Rival), id, "NOT_FOUND"}, "nobody": {token, "cus_1", "NOT_FOUND"},
	} {
		if a := g.Query(tc.token, updateLeap, map[string]any{"input": map[string]any{"customerId": tc.id, "city": "Mérida"}}); a.Str("updateProspect.userErrors.0.code") != tc.code || fmt.Sprint(a.Get("updateProspect.userErrors.0.path")) != "[input customerId]" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	// The old address is free, the new one is taken.
	if a := g.Query(token, registerLeap, prospect(2, map[string]any{"email": "right@example.com"})); a.Str("registerProspect.userErrors.0.code") != "DUPLICATE_EMAIL" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, registerLeap, prospect(3, map[string]any{"email": "wrong@example.com"})); a.Str("registerProspect.customer.id") == "" {
		t.Errorf("%s", a.Body)
	}
	// A corrected phone arrives too.
	other := g.Query(token, registerLeap, prospect(4, map[string]any{"firstName": "InvalidPersonalData", "email": "same@example.com"})).Str("registerProspect.customer.id")
	eventually(g, token, other, hasStatus("ACTION_REQUIRED"))
	g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": other, "phone": mexican(5)}})
	eventually(g, token, other, hasStatus("ACTIVE"))
	if u, ok := g.Leap.ByPhone(mexican(5)); !ok || u.Corrected != 1 {
		t.Error("the corrected phone did not arrive")
	}
}

// Where Leap takes no correction the customer is told to contact support, and stays so.
func TestProspectCorrectionIsNotTaken(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Leap: leapsim.Config{NoCorrections: true}})
	token := g.Token(apptest.Acme)
	id := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "InvalidAddress"})).Str("registerProspect.customer.id")
	eventually(g, token, id, hasStatus("ACTION_REQUIRED"))
	g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": id, "address": "Calle 1"}})
	a := eventually(g, token, id, func(a apptest.Answer) bool { return a.Str("customer.nextAction.kind") == "CONTACT_SUPPORT" })
	looked := g.Leap.Users()[0].Looked
	apptest.Until(t, func() bool { return g.Leap.Users()[0].Looked > looked+2 }, func() string { return "no look" })
	if b := g.Query(token, customerByID, map[string]any{"id": id}); string(a.Body) != string(b.Body) {
		t.Errorf("%s\n%s", a.Body, b.Body)
	}
}

// What Leap refuses after the caller was answered keeps the customer, which can be corrected and registered then.
func TestProspectRefusedLater(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.Leap.RetryAfter = 200*time.Millisecond, 2*time.Second // the second attempt is after the answer
	}})
	token := g.Token(apptest.Acme)
	putLeapFault(t, g.SimURL, `[{"operation":"register_prospect","kind":"status","value":503,"times":1}]`)
	a := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": leapsim.FirstNameRefused}))
	id := a.Str("registerProspect.customer.id")
	if id == "" || len(g.Leap.Users()) != 0 {
		t.Fatalf("%s", a.Body)
	}
	a = eventually(g, token, id, hasStatus("ACTION_REQUIRED"))
	if a.Str("customer.nextAction.kind") != "CORRECT_DATA" || a.Str("customer.statusDetail") == "" {
		t.Errorf("%s", a.Body)
	}
	g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": id, "firstName": "Ana"}})
	eventually(g, token, id, hasStatus("ACTIVE"))
}

// Whatever happens to a call, nobody is registered twice and everybody ends.
func TestProspectAmbiguousCalls(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Providers.Leap.Breaker.Failures = 1000 }})
	token := g.Token(apptest.Acme)
	putLeapFault(t, g.SimURL, `[{"operation":"register_prospect","kind":"act_then_reset","probability":0.3},{"operation":"register_prospect","kind":"truncate","probability":0.2},
		{"operation":"register_prospect","kind":"status","value":503,"probability":0.3},{"operation":"fetch_prospect","kind":"reset","probability":0.2},{"operation":"register_prospect","kind":"rate_limit","probability":0.1}]`)
	ids := make([]string, 60)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			overrides := map[string]any{}
			if i%2 == 0 {
				overrides["email"] = fmt.Sprintf("p%d@example.com", i)
			}
			a, err := g.Do(t.Context(), token, registerLeap, prospect(i, overrides))
			if ids[i] = a.Str("registerProspect.customer.id"); err != nil || ids[i] == "" {
				t.Errorf("%v %s", err, a.Body)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		eventually(g, token, id, hasStatus("ACTIVE"))
	}
	for _, u := range g.Leap.Users() {
		if u.Posted != 1 {
			t.Errorf("%+v", u)
		}
	}
	if n := len(g.Leap.Users()); n != len(ids) {
		t.Errorf("%d users, want %d", n, len(ids))
	}
}

// A provider that does not understand us makes a dead letter; an operator mends what is wrong and runs it again.
func TestDeadJobs(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	putLeapFault(t, g.SimURL, `[{"operation":"register_prospect","kind":"status","value":405}]`)
	token := g.Token(apptest.Acme)
	id := g.Query(token, registerLeap, prospect(1, nil)).Str("registerProspect.customer.id")
	const dead = `{ deadJobs { totalCount nodes { id kind subject reason attempts createdAt diedAt } edges { cursor } pageInfo { hasNextPage } } }`
	a := g.Eventually(token, dead, nil, func(a apptest.Answer) bool {
		return a.Str("deadJobs.nodes.0.id") != "" && a.Get("deadJobs.totalCount") == 1.0
	})
	if id == "" || a.Str("deadJobs.nodes.0.subject") != id || a.Str("deadJobs.nodes.0.kind") != "prospect" || a.Str("deadJobs.nodes.0.reason") != "provider_did_not_understand" || a.Get("deadJobs.nodes.0.attempts").(float64) < 5 {
		t.Errorf("%s", a.Body)
	}
	job := a.Str("deadJobs.nodes.0.id")
	const retry = `mutation($id: ID!) { retryJob(input: {jobId: $id}) { job { id reason } userErrors { code path } } }`
	for name, tc := range map[string]struct{ token, id string }{"another partner's": {g.Token(apptest.Rival), job}, "nobody": {token, "job_1"}, "not dead": {token, "job_01JQ0000000000000000000000"}} {
		if a := g.Query(tc.token, retry, map[string]any{"id": tc.id}); a.Str("retryJob.userErrors.0.code") != "NOT_FOUND" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := g.Query(g.Token(apptest.Rival), dead, nil); a.Get("deadJobs.totalCount") != 0.0 {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(g.Token(apptest.Acme, kyc.CustomersWrite, kyc.CustomersRead), dead, nil); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" {
		t.Errorf("%s", a.Body)
	}
	// Its partner is not told to wait: nothing goes on by itself.
	if c := g.Query(token, customerByID, map[string]any{"id": id}); c.Str("customer.status") != "PENDING" || c.Str("customer.nextAction.kind") != "CONTACT_SUPPORT" || c.Get("customer.cip.stuckSince") == nil {
		t.Errorf("%s", c.Body)
	}
	putLeapFault(t, g.SimURL, `[]`)
	if a := g.Query(token, retry, map[string]any{"id": job}); a.Str("retryJob.job.id") != job {
		t.Fatalf("%s", a.Body)
	}
	if a := eventually(g, token, id, hasStatus("ACTIVE")); a.Get("customer.cip.stuckSince") != nil || a.Get("customer.nextAction") != nil {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, dead, nil); a.Get("deadJobs.totalCount") != 0.0 {
		t.Errorf("%s", a.Body)
	}
}

// A provider that refuses a duplicate of somebody it does not find is asked a few times, and then an operator is. A word we have no
// meaning for counts once for a prospect, however often it is looked at.
func TestTornProspect(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Leap: leapsim.Config{StepDelay: time.Hour}})
	token := g.Token(apptest.Acme)
	healthy := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "OnProcess"})).Str("registerProspect.customer.id")
	putLeapFault(t, g.SimURL, `[{"operation":"register_prospect","kind":"status","value":409}]`)
	id := g.Query(token, registerLeap, prospect(2, nil)).Str("registerProspect.customer.id")
	a := eventually(g, token, id, func(a apptest.Answer) bool { return a.Get("customer.cip.stuckSince") != nil })
	if a.Str("customer.status") != "PENDING" || a.Str("customer.nextAction.kind") != "CONTACT_SUPPORT" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, `{ deadJobs { nodes { subject } } }`, nil); a.Str("deadJobs.nodes.0.subject") != id {
		t.Errorf("%s", a.Body)
	}
	looked := g.Leap.Users()[0].Looked
	apptest.Until(t, func() bool { return g.Leap.Users()[0].Looked > looked+2 }, func() string { return "it is not looked at any more" })
	if a := eventually(g, token, healthy, func(apptest.Answer) bool { return true }); a.Str("customer.cip.status") != "UNKNOWN" {
		t.Errorf("%s", a.Body)
	}
	if !strings.Contains(g.Metrics(), `kycgate_provider_unknown_status_total{provider="leap"} 1`+"\n") {
		t.Error("the word is not counted once")
	}
}

// All partners share one Leap, where a phone is one user's: who registers the same person is linked to them, and who registers another
// with their phone is refused and sees nothing of them.
func TestOneLeapForAllPartners(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	acme, rival := g.Token(apptest.Acme), g.Token(apptest.Rival)
	first := g.Query(acme, registerLeap, prospect(1, nil)).Str("registerProspect.customer.id")
	eventually(g, acme, first, hasStatus("ACTIVE"))
	another := g.Query(rival, registerLeap, prospect(1, map[string]any{"firstName": "Zoe", "birthdate": "1990-01-01"}))
	if another.Get("registerProspect.customer") != nil || !slices.Equal(userErrors(another, "registerProspect"), []string{"DUPLICATE_PHONE input.phone"}) {
		t.Errorf("another person: %s", another.Body)
	}
	if a := g.Query(rival, `{ persons { totalCount } }`, nil); a.Get("persons.totalCount") != 0.0 {
		t.Errorf("something is left: %s", a.Body)
	}
	same := g.Query(rival, registerLeap, prospect(1, map[string]any{"firstName": "ANA"}))
	second := same.Str("registerProspect.customer.id")
	if second == "" {
		t.Fatalf("the same person: %s", same.Body)
	}
	if a := eventually(g, rival, second, hasStatus("ACTIVE")); a.Str("customer.providerUserId") != g.Leap.Users()[0].UserID {
		t.Errorf("%s", a.Body)
	}
	if n := len(g.Leap.Users()); n != 1 {
		t.Errorf("%d users", n)
	}
}

// A prospect of which nothing is heard is flagged and kept, and the flag goes when something moves.
func TestProspectIsStuck(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.Providers.Leap.StuckAfter, c.Providers.Leap.PollEvery = 100*time.Millisecond, 20*time.Millisecond
	}})
	token := g.Token(apptest.Acme)
	id := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "Stuck"})).Str("registerProspect.customer.id")
	a := eventually(g, token, id, func(a apptest.Answer) bool { return a.Get("customer.cip.stuckSince") != nil })
	if a.Str("customer.status") != "PENDING" || a.Str("customer.nextAction.kind") != "CONTACT_SUPPORT" || !strings.Contains(g.Logs.String(), "prospect is stuck") {
		t.Errorf("%s", a.Body)
	}
	user := g.Leap.Users()[0]
	apptest.Until(t, func() bool { return g.Leap.Users()[0].Looked > user.Looked+1 }, func() string { return "it is not looked at any more" })
	if b := g.Query(token, customerByID, map[string]any{"id": id}); string(b.Body) != string(a.Body) {
		t.Errorf("it goes on changing: %s", b.Body)
	}
	if err := g.Leap.Decide(user.UserID, "Completed", "None"); err != nil {
		t.Fatal(err)
	}
	if a := eventually(g, token, id, hasStatus("ACTIVE")); a.Get("customer.cip.stuckSince") != nil || a.Get("customer.nextAction") != nil {
		t.Errorf("%s", a.Body)
	}
}

// Whoever asks again and again sees every change once, in the order of the versions.
func TestProspectVersionsTellEveryChange(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Leap: leapsim.Config{StepDelay: 300 * time.Millisecond}, Config: func(c *config.Config) { c.Providers.Leap.PollEvery = 80 * time.Millisecond }})
	token := g.Token(apptest.Acme)
	id := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "LaterBlocked"})).Str("registerProspect.customer.id")
	seen, order := make(map[float64]string), []float64{}
	eventually(g, token, id, func(a apptest.Answer) bool {
		v, _ := a.Get("customer.version").(float64)
		body := string(a.Body)
		if known, ok := seen[v]; ok && known != body {
			t.Errorf("version %v is two things: %s and %s", v, known, body)
		} else if !ok {
			seen[v] = body
			order = append(order, v)
		}
		return a.Str("customer.status") == "REJECTED"
	})
	for i, v := range order {
		if v != order[0]+float64(i) {
			t.Errorf("versions %v: one is missing or out of order", order)
			break
		}
	}
	var words []string
	for _, v := range order {
		var body struct {
			Data struct {
				Customer struct{ ProviderStatus *string }
			}
		}
		if err := json.Unmarshal([]byte(seen[v]), &body); err != nil {
			t.Fatal(err)
		}
		if w := body.Data.Customer.ProviderStatus; w != nil {
			words = append(words, *w)
		}
	}
	if fmt.Sprint(words) != "[OnProcess Completed UpgradeFailed]" {
		t.Errorf("changes %v", words)
	}
}

// M01 for prospects: canaries through every door; none comes out of an answer, a log, a metric or the job table.
func TestNoPersonalDataOfProspectsLeaks(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	canaries := []string{"canary.mail", "2104987654", "Zacarias", "Canario", "Rua do Canario", "19.3953755", "ChIJcanary", "1971-03-05"}
	input := func(overrides map[string]any) map[string]any {
		base := map[string]any{"firstName": "Zacarias", "lastName": "Canario", "phone": "+522104987654", "email": "canary.mail@example.com", "birthdate": "1971-03-05", "address": "Rua do Canario 1",
			"latitude": 19.3953755, "longitude": -99.1, "placeDetail": map[string]any{"place_id": "ChIJcanary"}}
		maps.Copy(base, overrides)
		return prospect(1, base)
	}
	token := g.Token(apptest.Acme, kyc.CustomersRead, kyc.CustomersWrite, kyc.PersonsRead, kyc.Admin)
	var answers strings.Builder
	keep := func(a apptest.Answer) { answers.Write(a.Body) }
	for _, fault := range []string{`[{"kind":"status","value":503,"times":2}]`, `[{"kind":"act_then_reset","times":1}]`, `[{"operation":"register_prospect","kind":"status","value":400,"times":1}]`, `[{"operation":"register_prospect","kind":"status","value":405,"times":1}]`, `[]`} {
		putLeapFault(t, g.SimURL, fault)
		a := g.Query(token, registerLeap, input(nil))
		keep(a)
		keep(g.Query(token, registerLeap, input(map[string]any{"phone": "2104987654", "email": "canary.mail", "birthdate": "05.03.1971"})))
		keep(g.Query(token, `{ persons { nodes { id name birthdate phones { number } emails { address } address { street } } } deadJobs { nodes { id subject reason } } }`, nil))
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

// A gateway without Leap says so.
func TestProspectWithoutLeap(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Providers.Leap = nil }})
	token := g.Token(apptest.Acme)
	if a := g.Query(token, registerLeap, prospect(1, nil)); a.Str("registerProspect.userErrors.0.code") != "PROVIDER_NOT_CONFIGURED" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": "cus_1"}}); a.Str("updateProspect.userErrors.0.code") != "PROVIDER_NOT_CONFIGURED" {
		t.Errorf("%s", a.Body)
	}
}

// A caller who goes away loses nothing of what was committed.
func TestProspectOfAnImpatientCaller(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	putLeapFault(t, g.SimURL, `[{"operation":"register_prospect","kind":"latency","value":"200ms"}]`)
	token := g.Token(apptest.Acme)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := g.Do(ctx, token, registerLeap, prospect(1, nil)); err == nil {
		t.Fatal("it was answered")
	}
	g.Eventually(token, `{ persons { nodes { customers { id status } } } }`, nil, func(a apptest.Answer) bool { return a.Str("persons.nodes.0.customers.0.status") == "ACTIVE" })
}

// The call is in the ledger, without an outcome, before Leap sees its first byte; what it is about is SENT.
func TestProspectCallIsRecordedBeforeItLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := leapsim.New(leapsim.Config{StepEveryLook: true})
	defer func() { _ = sim.Close() }()
	var looked atomic.Int32
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/register-user-v2") {
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "kycgate.db")+"?mode=ro&_query_only=true&_busy_timeout=5000")
			if err != nil {
				t.Error(err)
				return
			}
			var open, sent int
			err = errors.Join(db.QueryRow(`SELECT count(*) FROM provider_calls WHERE operation IN ('register_prospect', 'update_prospect') AND outcome IS NULL`).Scan(&open),
				db.QueryRow(`SELECT count(*) FROM customers WHERE submission = 'SENT' OR state LIKE '%"Correction":"SENT"%'`).Scan(&sent), db.Close())
			if err != nil || open != 1 || sent != 1 {
				t.Errorf("at the first byte: %d open calls, %d sent, %v", open, sent, err)
			}
			looked.Add(1)
		}
		http.StripPrefix("/leap", sim).ServeHTTP(w, r)
	})
	g := apptest.Start(t, apptest.Options{Dir: dir, Upstream: upstream})
	token := g.Token(apptest.Acme)
	if err := sim.Faults().Add(simulator.Fault{Operation: leapsim.OpRegisterProspect, Kind: simulator.FaultStatus, Value: json.RawMessage("503"), Times: new(1)}); err != nil {
		t.Fatal(err)
	}
	id := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "InvalidAddress"})).Str("registerProspect.customer.id")
	eventually(g, token, id, hasStatus("ACTION_REQUIRED"))
	g.Query(token, updateLeap, map[string]any{"input": map[string]any{"customerId": id, "address": "Calle 1"}})
	eventually(g, token, id, hasStatus("ACTIVE"))
	if looked.Load() != 3 {
		t.Errorf("%d calls were seen", looked.Load())
	}
}

// Somebody who is erased is asked about no more.
func TestErasedProspectIsForgotten(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	a := g.Query(token, registerLeap, prospect(1, map[string]any{"firstName": "OnProcess"}))
	id, person := a.Str("registerProspect.customer.id"), a.Str("registerProspect.customer.person.id")
	if a := g.Query(token, `mutation($id: ID!) { erasePerson(input: {personId: $id, reason: DATA_SUBJECT_REQUEST}) { erasure { status providers { provider } } userErrors { code } } }`, map[string]any{"id": person}); a.Str("erasePerson.erasure.status") != "DONE" || a.Str("erasePerson.erasure.providers.0.provider") != "leap" {
		t.Fatalf("%s", a.Body)
	}
	if a := g.Query(token, customerByID, map[string]any{"id": id}); a.Get("customer") != nil {
		t.Errorf("%s", a.Body)
	}
	if m := g.Metrics(); !strings.Contains(m, `kycgate_jobs_due{kind="prospect"} 0`) {
		t.Error("its job is still there")
	}
	if a := g.Query(token, registerLeap, prospect(1, nil)); a.Str("registerProspect.userErrors.0.code") == "DUPLICATE_PHONE" && a.Get("registerProspect.userErrors.0.provider") == nil {
		t.Errorf("the phone is not free here: %s", a.Body)
	}
}
