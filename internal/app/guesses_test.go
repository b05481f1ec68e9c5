package app_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
)

// N03, N04, N06: the documents of nobody that a principal looks up are counted over aliases, requests and tokens.
// Beyond the budget the answer is a 429 that says when to come back and nothing about anybody.
func TestDocumentGuessesAreBounded(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Limits.DocumentGuesses = 60 }})
	token := g.Token(apptest.Acme)
	known := apptest.CPF(9, 1)
	if a := g.Query(token, apptest.Register, apptest.Input(known, "E", nil)); a.Str("registerPerson.outcome") != "CREATED" {
		t.Fatalf("%s", a.Body)
	}
	look := func(token string, documents ...string) apptest.Answer {
		var fields strings.Builder
		for i, d := range documents {
			fmt.Fprintf(&fields, "d%d: personByDocument(documentNumber: %q) { id } ", i, d)
		}
		return g.Query(token, "{ "+fields.String()+"}", nil)
	}
	guess := func(from, n int) (documents []string) {
		for i := range n {
			documents = append(documents, apptest.CPF(8, from+i))
		}
		return documents
	}
	for i := range 2 {
		if a := look(token, guess(30*i, 30)...); a.Status != http.StatusOK || len(a.Errors) > 0 {
			t.Fatalf("30 look-ups: %d %s", a.Status, a.Body)
		}
	}
	if a := look(token, "not a CPF", guess(0, 1)[0]); a.Status != http.StatusOK || len(a.Errors) > 0 {
		t.Errorf("a document that was looked up before: %d %s", a.Status, a.Body)
	}
	for _, documents := range [][]string{guess(100, 1), {known}, {"529.982.247-25", known}} {
		// Another token of the same subject has the same budget.
		a := look(g.Token(apptest.Acme), documents...)
		if a.Status != http.StatusTooManyRequests || a.Data != nil || len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "RATE_LIMITED" {
			t.Errorf("beyond the budget: %d %s", a.Status, a.Body)
		}
		if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
			t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
		}
	}
	if a := g.Query(token, `{ persons { totalCount } }`, nil); a.Status != http.StatusOK || len(a.Errors) > 0 {
		t.Errorf("another question: %d %s", a.Status, a.Body)
	}
	if a := look(g.Token(apptest.Rival), guess(100, 30)...); a.Status != http.StatusOK || len(a.Errors) > 0 {
		t.Errorf("another partner: %d %s", a.Status, a.Body)
	}
	if !strings.Contains(g.Metrics(), `kycgate_graphql_refused_total{reason="rate_limited"} 3`) {
		t.Error("the refusals are not counted")
	}
}

// Whoever looks up persons that exist is not slowed down.
func TestKnownDocumentsAreNoGuesses(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Limits.DocumentGuesses = 1 }})
	token := g.Token(apptest.Bazaar)
	for i := range 5 {
		cpf := apptest.CPF(9, 10+i)
		g.Query(token, apptest.Register, apptest.Input(cpf, "", nil))
		if a := g.Query(token, `query($d: String!) { personByDocument(documentNumber: $d) { id } }`, map[string]any{"d": cpf}); a.Str("personByDocument.id") == "" {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
}

// The budget is one for every door at which a document may be tried: a process that is refused without effect tells whether a document is
// the person's it names, and a face whether there is somebody. What a token may not read it must not find by trying.
func TestEveryDoorCountsDocumentGuesses(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(g *apptest.Gateway, token, person, cpf string) apptest.Answer{
		"a process with its person": func(g *apptest.Gateway, token, person, cpf string) apptest.Answer {
			return g.Query(token, `mutation($input: CheckLivenessInput!) { checkLiveness(input: $input) { userErrors { code path } } }`,
				map[string]any{"input": map[string]any{"subject": map[string]any{"personId": person, "documentNumber": cpf}, "selfie": map[string]any{}}})
		},
		"a process without": func(g *apptest.Gateway, token, person, cpf string) apptest.Answer {
			return g.Query(token, `mutation($input: VerifyIdentityInput!) { verifyIdentity(input: $input) { userErrors { code path } } }`,
				map[string]any{"input": map[string]any{"subject": map[string]any{"documentNumber": cpf}, "selfie": map[string]any{}}})
		},
		"reusable documents": func(g *apptest.Gateway, token, _, cpf string) apptest.Answer {
			return g.Query(token, `query($d: String!) { reusableDocuments(documentNumber: $d) { __typename } }`, map[string]any{"d": cpf})
		},
		"a face": func(g *apptest.Gateway, token, person, cpf string) apptest.Answer {
			return g.Query(token, `query($d: String!) { faceRegistrationByDocument(documentNumber: $d) { id } }`, map[string]any{"d": cpf})
		},
	} {
		g := apptest.Start(t, apptest.Options{Unico: quick, Config: func(c *config.Config) {
			brazilian(c)
			c.Limits.DocumentGuesses = 5
		}})
		token := g.Token(apptest.Acme)
		person := g.Query(token, apptest.Register, apptest.Input(apptest.CPF(9, 1), "E", nil)).Str("registerPerson.person.id")
		for i := range 6 {
			a := try(g, token, person, apptest.CPF(8, 100*i+90)) // of whom Unico's simulator has no document
			if limited := strings.Contains(string(a.Body), `"RATE_LIMITED"`); limited != (i == 5) {
				t.Errorf("%s, document %d: %d %s", name, i, a.Status, a.Body)
			}
		}
	}
}
