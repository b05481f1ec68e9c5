package app_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
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
		"no primary address": {map[string]any{"addresses": []any{map[string]any{"type": "HOME", "street": "x", "city": "y", "country": "LTU", "primary": false}}},
			[]string{"INVALID input.addresses"}},
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

var _ = maps.Clone[map[string]any]
