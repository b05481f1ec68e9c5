package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

// The schema of the tests has the parts of the real one that the door cares about.
const testSDL = `
scalar Date
enum Status { OPEN CLOSED }
interface Node { id: ID! }
type Query {
  node(id: ID!): Node
  viewer: Viewer!
  person(id: ID!): Person
  lookupByCpf(documentNumber: String!): Person
  persons(first: Int = 25, after: String, filter: PersonFilter): PersonConnection!
  everything(first: Int): PersonConnection!
  echo(numbers: [Int!], text: String, status: Status, on: Date): String
  boom: String
  crash: String
  fail: String
  refuse: String
  slow: String
  often: String
}
scalar Base64
type Mutation {
  registerPerson(input: RegisterPersonInput!): RegisterPersonPayload!
  registerFace(input: RegisterFaceInput!): RegisterPersonPayload!
  captureDocument(files: [Base64!]): RegisterPersonPayload!
  slow: String
}
input RegisterFaceInput { documentNumber: String! selfie: SelfieInput again: RegisterFaceInput }
input SelfieInput { image: Base64 }
type Subscription { ticks(from: Int = 1): Int! nothing: Int! crash: Int! persons: PersonConnection! many(first: Int = 25): PersonConnection! versions(subject: ID!, sinceVersion: Int): Int! }
type Viewer { id: ID! name: String! friends: [Viewer!]! persons(first: Int = 25): PersonConnection! }
type Person implements Node {
  id: ID! name: String! status: Status!
  processes(first: Int = 25): ProcessConnection!
  registrations(first: Int = 25): ProcessConnection!
}
type PersonConnection { edges: [PersonEdge!]! nodes: [Person!]! totalCount: Int! }
type PersonEdge { node: Person! }
type ProcessConnection { nodes: [Process!]! }
type Process implements Node { id: ID! person: Person attempts(first: Int = 25): ProcessConnection! }
type RegisterPersonPayload { person: Person }
input PersonFilter { status: Status }
input RegisterPersonInput { name: String! documentNumber: String! emails: [EmailInput!]! status: Status age: Int }
input EmailInput { address: String! }
`

// The canaries of the security page. They may be in no answer and in no log.
const (
	canary      = "529.982.247-25"
	canaryBare  = "52998224725"
	canaryEmail = "maria.canary@example.com"
)

// fakeSchema executes the test schema by its types: a leaf is a constant of its type, an object is made of its
// fields, a list has one element. A resolver of the same name, "Query.boom", comes before.
type fakeSchema struct {
	schema    *ast.Schema
	resolvers map[string]func(ctx context.Context, args map[string]any) (any, error)
}

func (f *fakeSchema) Schema() *ast.Schema { return f.schema }

func (f *fakeSchema) Complexity(context.Context, string, string, int, map[string]any) (int, bool) {
	return 0, false
}

func (f *fakeSchema) Exec(ctx context.Context) graphql.ResponseHandler {
	op := graphql.GetOperationContext(ctx)
	if op.Operation.Operation == ast.Subscription {
		return f.subscription(ctx, op)
	}
	return func(ctx context.Context) *graphql.Response {
		root := f.schema.Query
		if op.Operation.Operation == ast.Mutation {
			root = f.schema.Mutation
		}
		var b bytes.Buffer
		f.object(ctx, &b, op, root, op.Operation.SelectionSet)
		return &graphql.Response{Data: b.Bytes()}
	}
}

// subscription does as gqlgen does: the source is opened at once, each call waits for one value, and all of them
// write into the same memory.
func (f *fakeSchema) subscription(ctx context.Context, op *graphql.OperationContext) graphql.ResponseHandler {
	field := op.Operation.SelectionSet[0].(*ast.Field)
	opened, err := f.resolvers["Subscription."+field.Name](ctx, field.ArgumentMap(op.Variables))
	if err != nil {
		graphql.AddError(ctx, err)
		return nil
	}
	source := opened.(*source)
	var b bytes.Buffer
	return func(ctx context.Context) *graphql.Response {
		select {
		case value, ok := <-source.values:
			if !ok {
				return nil
			}
			if field.Name == "crash" {
				panic("a crash outside every resolver, with " + canary)
			}
			b.Reset()
			b.WriteString("{\n\"" + field.Alias + "\":\r\n" + value + "}")
			return &graphql.Response{Data: b.Bytes()}
		case <-ctx.Done():
			return nil
		}
	}
}

// source is where the values of one subscription come from.
type source struct {
	ctx    context.Context
	values chan string
	args   map[string]any
}

func (f *fakeSchema) object(ctx context.Context, b *bytes.Buffer, op *graphql.OperationContext, def *ast.Definition, set ast.SelectionSet) {
	if def.IsAbstractType() {
		def = f.schema.PossibleTypes[def.Name][0]
	}
	b.WriteByte('{')
	for i, field := range graphql.CollectFields(op, set, append([]string{def.Name}, def.Interfaces...)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + field.Alias + `":`)
		f.field(ctx, b, op, def, field)
	}
	b.WriteByte('}')
}

func (f *fakeSchema) field(ctx context.Context, b *bytes.Buffer, op *graphql.OperationContext, def *ast.Definition, field graphql.CollectedField) {
	name := def.Name + "." + field.Name
	switch {
	case field.Name == "__typename":
		b.WriteString(`"` + def.Name + `"`)
	case name == "Query.crash":
		panic("a crash outside every resolver, with " + canary)
	case f.resolvers[name] != nil:
		v, err := f.resolve(ctx, name, field.ArgumentMap(op.Variables))
		if err != nil {
			graphql.AddError(ctx, err)
		}
		out, _ := json.Marshal(v)
		b.Write(out)
	case strings.HasPrefix(field.Name, "__"):
		if op.DisableIntrospection {
			graphql.AddError(ctx, errors.New("introspection disabled"))
		}
		b.WriteString("null")
	default:
		f.value(ctx, b, op, field.Definition.Type, field)
	}
}

func (f *fakeSchema) resolve(ctx context.Context, name string, args map[string]any) (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = graphql.Recover(ctx, r)
		}
	}()
	return f.resolvers[name](ctx, args)
}

func (f *fakeSchema) value(ctx context.Context, b *bytes.Buffer, op *graphql.OperationContext, t *ast.Type, field graphql.CollectedField) {
	if t.Elem != nil {
		b.WriteByte('[')
		f.value(ctx, b, op, t.Elem, field)
		b.WriteByte(']')
		return
	}
	switch def := f.schema.Types[t.NamedType]; {
	case def.IsCompositeType():
		f.object(ctx, b, op, def, field.Selections)
	case def.Kind == ast.Enum:
		b.WriteString(`"` + def.EnumValues[0].Name + `"`)
	case t.NamedType == "Int":
		b.WriteString("1")
	default:
		b.WriteString(`"x"`)
	}
}

// safeBuffer is a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// door is a GraphQL endpoint over the test schema, with everything a test looks at.
type door struct {
	*GraphQL
	logs      *safeBuffer
	registry  *prometheus.Registry
	mutations atomic.Int64 // how often a mutation ran: the "no-effect" of the security page
	read      atomic.Int64 // bytes read of the last body
	entered   chan context.Context
	leave     chan struct{}
	sources   chan *source // of the subscriptions, as they begin
	fake      *fakeSchema
	expiry    atomic.Pointer[time.Time]
}

const (
	partnerToken = "Bearer partner"
	adminToken   = "Bearer admin"
	subjectToken = "Bearer subject"
	bazaarToken  = "Bearer bazaar"
)

func setup(t testing.TB, change ...func(*GraphQLConfig)) *door {
	t.Helper()
	schema, err := gqlparser.LoadSchema(&ast.Source{Name: "test", Input: testSDL})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{logs: &safeBuffer{}, registry: prometheus.NewRegistry(), entered: make(chan context.Context, 8), leave: make(chan struct{}), sources: make(chan *source, 5_000)}
	ticks := func(ctx context.Context, args map[string]any) (any, error) {
		s := &source{ctx: ctx, values: make(chan string, 64), args: args}
		d.sources <- s
		return s, nil
	}
	until := func() (t time.Time) {
		if at := d.expiry.Load(); at != nil {
			t = *at
		}
		return t
	}
	slow := func(ctx context.Context, _ map[string]any) (any, error) {
		d.entered <- ctx
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.leave:
			return "done", nil
		}
	}
	es := &fakeSchema{schema: schema, resolvers: map[string]func(context.Context, map[string]any) (any, error){
		"Mutation.registerPerson": func(context.Context, map[string]any) (any, error) {
			d.mutations.Add(1)
			return map[string]any{"person": nil}, nil
		},
		"Mutation.registerFace": func(context.Context, map[string]any) (any, error) {
			d.mutations.Add(1)
			return map[string]any{"person": nil}, nil
		},
		"Subscription.ticks": ticks, "Subscription.crash": ticks, "Subscription.persons": ticks, "Subscription.many": ticks,
		"Subscription.nothing": func(context.Context, map[string]any) (any, error) { return nil, kyc.E(kyc.NotFound, "test", nil) },
		"Query.echo":           func(_ context.Context, args map[string]any) (any, error) { return "ok", nil },
		"Query.boom":           func(context.Context, map[string]any) (any, error) { panic("a panic with " + canary) },
		"Query.fail":           func(context.Context, map[string]any) (any, error) { return nil, errors.New("no such table " + canary) },
		"Query.refuse":         func(context.Context, map[string]any) (any, error) { return nil, kyc.E(kyc.NotFound, "test", nil) },
		"Query.slow":           slow,
		"Mutation.slow":        slow,
		"Query.often": func(context.Context, map[string]any) (any, error) {
			return nil, &gqlerror.Error{Message: "Too often.", Extensions: map[string]any{"code": codeRateLimited, "retryAfter": 7}}
		},
	}}
	d.fake = es
	cfg := GraphQLConfig{
		Schema:  es,
		Metrics: NewMetrics(d.registry),
		Logger:  slog.New(slog.NewJSONHandler(d.logs, nil)),
		Authenticate: func(r *http.Request) (kyc.Caller, time.Time, error) {
			switch r.Header.Get("Authorization") {
			case partnerToken:
				return kyc.Caller{Partner: "acme", Subject: "s", Scopes: kyc.NewScopeSet(kyc.PersonsRead, kyc.PersonsWrite)}, until(), nil
			case subjectToken:
				return kyc.Caller{Partner: "acme", Subject: "page", Person: "per_01J8ZQ5T3N4V6W7X8Y9Z0A1B2C"}, until(), nil
			case bazaarToken:
				return kyc.Caller{Partner: "bazaar", Subject: "s"}, until(), nil
			case adminToken:
				return kyc.Caller{Partner: "acme", Subject: "root", Scopes: kyc.NewScopeSet(kyc.Scopes()...)}, time.Time{}, nil
			}
			return kyc.Caller{}, time.Time{}, kyc.E(kyc.Unauthenticated, "test", errors.New("bad token "+canary))
		},
		Authorize: func(c kyc.Caller, _ *ast.QueryDocument, op *ast.OperationDefinition, _ map[string]any) *gqlerror.Error {
			for _, sel := range op.SelectionSet {
				if f, ok := sel.(*ast.Field); ok && f.Name == "node" && !c.Can(kyc.Admin) {
					return &gqlerror.Error{Message: "A scope is missing.", Extensions: map[string]any{"code": codeForbidden}}
				}
			}
			return nil
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	if d.GraphQL, err = NewGraphQL(cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

// answer is what came back, and the checks every answer must pass.
type answer struct {
	status int
	header http.Header
	body   string
	parsed struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message    string         `json:"message"`
			Path       []any          `json:"path"`
			Locations  []any          `json:"locations"`
			Extensions map[string]any `json:"extensions"`
		} `json:"errors"`
	}
	hasData bool
}

func (a *answer) code() string {
	if len(a.parsed.Errors) == 0 {
		return ""
	}
	c, _ := a.parsed.Errors[0].Extensions["code"].(string)
	return c
}

// countingBody counts what the handler reads.
type countingBody struct {
	io.Reader
	n *atomic.Int64
}

func (c countingBody) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// ask sends a request and checks what holds for every answer: it is JSON of the announced type, carries the
// headers of C08, suggests nothing, and neither it nor the log holds a canary.
func (d *door) ask(t testing.TB, r *http.Request) *answer {
	t.Helper()
	if _, ok := r.Header["Authorization"]; !ok {
		r.Header.Set("Authorization", partnerToken)
	}
	d.read.Store(0)
	if r.Body != nil {
		r.Body = io.NopCloser(countingBody{r.Body, &d.read})
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	a := &answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a.parsed); err != nil {
		t.Errorf("the answer is no JSON: %v\n%s", err, a.body) // Not Fatal: some tests ask in a goroutine.
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal(w.Body.Bytes(), &members)
	_, a.hasData = members["data"]
	a.quiet(t, d.logs.String())
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
	if a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a CORS header appeared")
	}
	return a
}

func (a *answer) quiet(t testing.TB, logs string) {
	t.Helper()
	for where, text := range map[string]string{"answer": a.body, "log": logs} {
		for _, c := range []string{canary, canaryBare, canaryEmail} {
			if strings.Contains(text, c) {
				t.Errorf("the canary %s is in the %s:\n%s", c, where, text)
			}
		}
	}
	if strings.Contains(strings.ToLower(a.body), "did you mean") {
		t.Errorf("a suggestion: %s", a.body)
	}
	if len(a.parsed.Errors) > 0 && len(a.body) > 8<<10 {
		t.Errorf("an answer of errors of %d bytes", len(a.body))
	}
	if !a.hasData && len(a.parsed.Errors) > maxErrors {
		t.Errorf("%d errors", len(a.parsed.Errors))
	}
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func query(q string) *http.Request { return queryWith(q, nil) }

func queryWith(q string, variables map[string]any) *http.Request {
	b, _ := json.Marshal(map[string]any{"query": q, "variables": variables})
	return post(string(b))
}

func header(r *http.Request, pairs ...string) *http.Request {
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	return r
}

// scrape is what Prometheus would read.
func scrape(t testing.TB, g prometheus.Gatherer) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}
