package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/resolvers"
)

// subjectMay is what answers a subject token: root field, then where it leads. It is written by hand, so that a field of the schema that
// is not here must be refused.
var subjectMay = func() map[string]bool {
	may := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		Query.person Query.viewer Mutation.checkLiveness Mutation.verifyIdentity Mutation.validateFace Mutation.captureDocument
		Subscription.onboardingUpdated Subscription.processUpdated
		Viewer.partner Viewer.subject Viewer.scopes Viewer.person Node.id Person.id Person.onboarding Customer.id
		Onboarding.state Onboarding.steps Onboarding.nextAction Onboarding.updatedAt Onboarding.version
		OnboardingStep.kind OnboardingStep.status OnboardingStep.required OnboardingStep.reason OnboardingStep.subject OnboardingStep.updatedAt
		NextAction.kind NextAction.step NextAction.message
		ProcessPayload.process ProcessPayload.userErrors
		Process.id Process.kind Process.status Process.failure Process.createdAt Process.updatedAt Process.finishedAt Process.version
		Failure.code Failure.message Failure.retryable Failure.nextAction
		UserError.code UserError.message UserError.path UserError.retryable`) {
		may[name] = true
	}
	return may
}()

// fieldQuery is one operation that asks for one field, by one of the ways that lead to it.
type fieldQuery struct {
	path []string // Type.field, from the root
	text string
}

// fieldQueries makes an operation for every field of the schema from every root field that leads to it, by the shortest way. value gives
// the literal of an argument.
func fieldQueries(s *ast.Schema, value func(root, name string, t *ast.Type) string) (all []fieldQuery) {
	type step struct {
		typ   *ast.Definition
		path  []string
		open  string // what stands before the selection
		close int    // how many braces end it
	}
	for operation, root := range map[string]*ast.Definition{"query": s.Query, "mutation": s.Mutation, "subscription": s.Subscription} {
		for _, first := range root.Fields {
			if strings.HasPrefix(first.Name, "__") {
				continue
			}
			seen := make(map[string]bool)
			todo := []step{{typ: root, open: operation + " {", close: 1}}
			for len(todo) > 0 {
				at := todo[0]
				todo = todo[1:]
				fields := at.typ.Fields
				if at.typ == root {
					fields = ast.FieldList{first}
				}
				for _, f := range fields {
					name := at.typ.Name + "." + f.Name
					if strings.HasPrefix(f.Name, "__") || seen[name] {
						continue
					}
					seen[name] = true
					text := at.open + " " + f.Name
					var args []string
					for _, a := range f.Arguments {
						if a.Type.NonNull {
							args = append(args, a.Name+": "+value(first.Name, a.Name, a.Type))
						}
					}
					if len(args) > 0 {
						text += "(" + strings.Join(args, ", ") + ")"
					}
					below := s.Types[f.Type.Name()]
					path := append(slices.Clone(at.path), name)
					if below.Kind == ast.Scalar || below.Kind == ast.Enum {
						all = append(all, fieldQuery{path, text + strings.Repeat(" }", at.close)})
						continue
					}
					all = append(all, fieldQuery{append(slices.Clone(path), "__typename"), text + " { __typename" + strings.Repeat(" }", at.close+1)})
					todo = append(todo, step{below, path, text + " {", at.close + 1})
					for _, possible := range s.GetPossibleTypes(below) {
						if possible != below {
							todo = append(todo, step{possible, path, text + " { ... on " + possible.Name + " {", at.close + 2})
						}
					}
				}
			}
		}
	}
	return all
}

// A subject token, tried on every query, mutation, subscription and field of the schema, with its own and with another person's ids:
// exactly what is allowed answers, and of the other person nothing does.
func TestSubjectTokenOnEverything(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: brazilian})
	token := g.Token(apptest.Acme)
	register := func(serial int) (person, process string) {
		cpf := magic("00", serial)
		person = g.Query(token, apptest.Register, apptest.Input(cpf, fmt.Sprint("s-", serial), nil)).Str("registerPerson.person.id")
		process = g.Query(token, starting("checkLiveness"), input(cpf, newSelfie())).Str("checkLiveness.process.id")
		settled(g, token, process)
		return person, process
	}
	own, ownProcess := register(1)
	other, otherProcess := register(2)
	subject := g.Query(token, createToken, map[string]any{"input": map[string]any{"personId": own}}).Str("createSubjectToken.token")
	schema := resolvers.NewSchema(nil).Schema()
	for whose, ids := range map[string][2]string{"own": {own, ownProcess}, "another's": {other, otherProcess}} {
		var literal func(root, name string, typ *ast.Type, depth int) string
		literal = func(root, name string, typ *ast.Type, depth int) string {
			if typ.Elem != nil {
				return "[" + literal(root, name, typ.Elem, depth+1) + "]"
			}
			def := schema.Types[typ.Name()]
			switch {
			case def.Kind == ast.Enum:
				return def.EnumValues[0].Name
			case def.Name == "SubjectInput":
				return fmt.Sprintf(`{personId: %q}`, ids[0])
			case def.Name == "SelfieInput":
				return `{sdkToken: "not a token"}`
			case def.Kind == ast.InputObject:
				var fields []string
				for _, f := range def.Fields {
					if f.Type.NonNull && depth < 8 {
						fields = append(fields, f.Name+": "+literal(root, f.Name, f.Type, depth+1))
					}
				}
				return "{" + strings.Join(fields, ", ") + "}"
			case def.Name == "ID" && (root == "process" || root == "processUpdated" || root == "refreshProcess" || strings.Contains(name, "rocess")):
				return fmt.Sprintf("%q", ids[1])
			case def.Name == "ID":
				return fmt.Sprintf("%q", ids[0])
			case def.Name == "Int", def.Name == "Int64", def.Name == "Float":
				return "1"
			case def.Name == "Boolean":
				return "true"
			case def.Name == "Date":
				return `"1990-02-28"`
			case def.Name == "DateTime":
				return `"2026-01-02T03:04:05Z"`
			case def.Name == "UUID":
				return `"` + anImageKey + `"`
			case def.Name == "JSON":
				return `{}`
			default:
				return `"x"`
			}
		}
		queries := fieldQueries(schema, func(root, name string, typ *ast.Type) string { return literal(root, name, typ, 0) })
		tried, answered := 0, 0
		for _, q := range queries {
			tried++
			allowed := true
			for _, name := range q.path {
				allowed = allowed && (name == "__typename" || subjectMay[name])
			}
			var text string
			if strings.HasPrefix(q.text, "subscription") {
				apptest.Until(t, func() bool { // a stream that was left may count for a moment more
					s := subscribe(t, g, subject, q.text, nil)
					a, _ := s.next()
					s.cancel()
					text = string(a.Body)
					return text != ""
				}, func() string { return q.text })
			} else {
				text = string(g.Query(subject, q.text, nil).Body)
			}
			forbidden := strings.Contains(text, `"FORBIDDEN"`)
			if forbidden == allowed || !forbidden && !strings.Contains(text, `"data"`) {
				t.Errorf("%s, %s: %s", whose, q.text, text)
			}
			if allowed && !forbidden {
				answered++
			}
			for _, secret := range []string{"unico", "Unico", "qitech", "QI Tech", "finhub", "leap"} {
				if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
					t.Errorf("%s, %s names a provider: %s", whose, q.text, text)
				}
			}
			if whose == "another's" && (strings.Contains(text, other) || strings.Contains(text, otherProcess)) {
				t.Errorf("%s tells of another person: %s", q.text, text)
			}
		}
		if tried < 600 || answered < 60 {
			t.Errorf("%s: only %d tried, and %d answered", whose, tried, answered)
		}
		t.Logf("%s: %d fields tried, %d answered", whose, tried, answered)
	}
	// Of the own person it answers with something, of the other with nothing.
	if a := g.Query(subject, readOnboarding, map[string]any{"id": own}); a.Str("person.onboarding.state") == "" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(subject, readOnboarding, map[string]any{"id": other}); a.Get("person") != nil || len(a.Errors) > 0 {
		t.Errorf("%s", a.Body)
	}
	// A process is its own person's, whoever the input names or leaves out.
	a := g.Query(subject, `mutation($input: CheckLivenessInput!) { checkLiveness(input: $input) { process { id status } userErrors { code path } } }`,
		map[string]any{"input": map[string]any{"subject": map[string]any{}, "selfie": newSelfie()}})
	started := g.Query(token, readProcess, map[string]any{"id": a.Str("checkLiveness.process.id")})
	if started.Str("process.person.id") != own {
		t.Errorf("%s, which is %s", a.Body, started.Body)
	}
	for name, who := range map[string]map[string]any{"by id": {"personId": other}, "by document": {"documentNumber": magic("00", 2)}} {
		a := g.Query(subject, `mutation($input: CheckLivenessInput!) { checkLiveness(input: $input) { process { id } userErrors { code path } } }`,
			map[string]any{"input": map[string]any{"subject": who, "selfie": newSelfie()}})
		if a.Get("checkLiveness.process") != nil || a.Str("checkLiveness.userErrors.0.code") == "" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	// An erased person's token is nobody's.
	g.Query(token, `mutation($id: ID!) { erasePerson(input: {personId: $id, reason: DATA_SUBJECT_REQUEST}) { erasure { status } } }`, map[string]any{"id": own})
	if a := g.Query(subject, `{ viewer { person { id } } }`, nil); a.Get("viewer.person") != nil {
		t.Errorf("%s", a.Body)
	}
}

// A page of another origin uses a subject token: it may post and follow, from the origins its partner lists and no others.
func TestSubjectTokenFromAnotherOrigin(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: allowing("https://app.example.com")})
	person := g.Query(g.Token(apptest.Acme), apptest.Register, apptest.Input(magic("00", 1), "s-1", nil)).Str("registerPerson.person.id")
	subject := g.SubjectToken(apptest.Acme, kyc.PersonID(person))
	for origin, allowed := range map[string]bool{"https://app.example.com": true, "https://evil.example.com": false, "null": false} {
		for _, accept := range []string{"application/json", "text/event-stream"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, g.URL+"/graphql", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", origin)
			req.Header.Set("Access-Control-Request-Method", "POST")
			req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,accept-language")
			preflight, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = preflight.Body.Close()
			if got := preflight.Header.Get("Access-Control-Allow-Origin"); (got == origin) != allowed {
				t.Errorf("preflight of %s: %q", origin, got)
			}
			query := `{ viewer { person { onboarding { state } } } }`
			if accept != "application/json" {
				query = `subscription { onboardingUpdated(personId: \"` + person + `\") { state } }`
			}
			req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/graphql", bytes.NewReader([]byte(`{"query":"`+query+`"}`)))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{"Origin": origin, "Content-Type": "application/json", "Accept": accept, "Authorization": "Bearer " + subject} {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("Access-Control-Allow-Origin"); (got == origin) != allowed || (resp.StatusCode == http.StatusOK) != allowed {
				t.Errorf("%s from %s: %d, %q", accept, origin, resp.StatusCode, got)
			}
		}
	}
}

// The idempotency keys of one person's page are their own: another person's, and their partner's, neither conflict with them nor are
// answered by what they stand for.
func TestSubjectTokensHaveKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: brazilian})
	token := g.Token(apptest.Acme)
	picture := newSelfie()
	begin := func(token string, subject map[string]any) string {
		t.Helper()
		a := g.Query(token, `mutation($input: CheckLivenessInput!) { checkLiveness(input: $input) { process { id } userErrors { code } } }`,
			map[string]any{"input": map[string]any{"subject": subject, "selfie": picture, "idempotencyKey": "liveness-1"}})
		id := a.Str("checkLiveness.process.id")
		if id == "" {
			t.Errorf("%s", a.Body)
		}
		return id
	}
	var ids []string
	for serial := range 2 {
		person := g.Query(token, apptest.Register, apptest.Input(magic("00", serial+1), fmt.Sprint("s-", serial), nil)).Str("registerPerson.person.id")
		subject := g.SubjectToken(apptest.Acme, kyc.PersonID(person))
		id := begin(subject, map[string]any{})
		if again := begin(subject, map[string]any{}); again != id {
			t.Errorf("a repeat began %s, and there was %s", again, id)
		}
		ids = append(ids, id)
	}
	ids = append(ids, begin(token, map[string]any{"documentNumber": magic("00", 1)}))
	if ids[0] == ids[1] || ids[0] == ids[2] || ids[1] == ids[2] {
		t.Errorf("%v", ids)
	}
}
