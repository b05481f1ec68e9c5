package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

const (
	defaultMaxBody       = 1 << 20 // T07
	defaultMaxCapture    = 8 << 20
	defaultCaptureMemory = 128 << 20
	defaultMaxConcurrent = 1_280 // of which 1,024 may be mutations
)

// GraphQLConfig is what the GraphQL endpoint needs. Schema, Authenticate, Authorize, Metrics and Logger have no
// default: without one of them the endpoint would be open or blind, so it is not made.
type GraphQLConfig struct {
	Schema graphql.ExecutableSchema

	// Authenticate proves who asks, from the headers alone. Every error is the same 401 (P3).
	Authenticate func(*http.Request) (kyc.Caller, error)

	// Authorize decides whether the caller may run the operation. It is asked after validation, so every field
	// has its definition, and before the variables are coerced; vars are as they came. Its error is answered as
	// it is, so it must not quote vars. Without a code it is FORBIDDEN.
	Authorize func(caller kyc.Caller, doc *ast.QueryDocument, op *ast.OperationDefinition, vars map[string]any) *gqlerror.Error

	// Presenter turns every error of execution into the public one. The default presents nothing but INTERNAL.
	// An error with a method ErrorID() string is in the log already under that id: it is the panic of a resolver.
	Presenter graphql.ErrorPresenterFunc

	// Recover is told of the panic of a resolver. The default logs its type and stack, and not its value.
	Recover graphql.RecoverFunc

	// IntrospectionOpen lets every caller introspect, as in the sandbox. Otherwise it takes the scope admin.
	IntrospectionOpen bool

	Metrics *Metrics
	Logger  *slog.Logger

	// NewErrorID makes the errorId of an INTERNAL error.
	NewErrorID func() string

	// AnswerTimeout ends the context of an execution. Zero is no end but that of the connection.
	AnswerTimeout time.Duration

	// MaxConcurrent bounds the executions at one time; the next one is answered OVERLOADED. Zero is 1,280. A fifth of
	// it is kept for queries: mutations wait for providers, and one that hangs must not take the reads with it.
	MaxConcurrent int

	// MaxBody bounds the body of a request in bytes. Zero is 1 MiB.
	MaxBody int64

	// MayCapture says who may run any mutation that takes a picture; see [Captures]. Only for them, and only
	// with such a mutation, a body may be larger than MaxBody, up to MaxCaptureBody. Nil is nobody.
	MayCapture func(kyc.Caller) bool
	// MaxCaptureBody is 8 MiB if zero: QI Tech's 3 MB in base64, and two sides of a document.
	MaxCaptureBody int64
	// CaptureMemory bounds the bodies above MaxBody that are held at one time; the next one is answered
	// OVERLOADED. Zero is 128 MiB.
	CaptureMemory int64
}

// GraphQL answers POST and GET over gqlgen's executor. gqlgen's own transports are not used: they echo the body
// of malformed requests, read without a limit, and take the last of two equal keys.
type GraphQL struct {
	cfg       GraphQLConfig
	exec      *executor.Executor
	documents *documents
	slots     chan struct{} // one for each execution at one time
	captured  atomic.Int64  // bytes of the bodies above MaxBody that are held now
	mutations chan struct{} // one for each of them that is a mutation
}

// NewGraphQL makes the endpoint. It removes the directive @defer from the schema.
func NewGraphQL(cfg GraphQLConfig) (*GraphQL, error) {
	if cfg.Schema == nil || cfg.Authenticate == nil || cfg.Authorize == nil || cfg.Metrics == nil || cfg.Logger == nil {
		return nil, errors.New("server: GraphQL needs Schema, Authenticate, Authorize, Metrics and Logger")
	}
	if cfg.NewErrorID == nil {
		cfg.NewErrorID = rand.Text
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultMaxConcurrent
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.MaxCaptureBody <= 0 {
		cfg.MaxCaptureBody = defaultMaxCapture
	}
	if cfg.CaptureMemory <= 0 {
		cfg.CaptureMemory = defaultCaptureMemory
	}
	g := &GraphQL{
		cfg: cfg, documents: newDocuments(cfg.Schema.Schema()),
		slots:     make(chan struct{}, cfg.MaxConcurrent),
		mutations: make(chan struct{}, max(1, cfg.MaxConcurrent-cfg.MaxConcurrent/5)),
	}
	if g.cfg.Recover == nil {
		g.cfg.Recover = g.recovered
	}
	if g.cfg.Presenter == nil {
		g.cfg.Presenter = g.presentInternal
	}
	g.exec = executor.New(cfg.Schema)
	g.exec.SetQueryCache(preparedCache{})
	g.exec.SetDisableSuggestion(true) // It never validates; if it ever did, it should not be talkative.
	g.exec.SetParserTokenLimit(maxTokens)
	g.exec.SetRecoverFunc(g.cfg.Recover)
	g.exec.SetErrorPresenter(g.cfg.Presenter)
	return g, nil
}

var (
	refuseOverloaded = atHTTP(http.StatusServiceUnavailable, codeOverloaded, reasonOverloaded,
		"There are too many requests at once. Try again shortly.").with("Retry-After", "1")
	refuseIntrospection = atDocument(reasonIntrospectionDisabled, coded(codeIntrospectionDisabled,
		"Introspection needs the scope admin."))
	refuseNoOperation = atDocument(reasonBadRequest, coded(codeBadRequest,
		"The document has no operation of that name."))
	refuseWhichOperation = atDocument(reasonBadRequest, coded(codeBadRequest,
		"The document has several operations: operationName must name one."))
	refuseGETMutation = atHTTP(http.StatusMethodNotAllowed, codeBadRequest, reasonMethodNotAllowed,
		"A GET runs queries only.").with("Allow", "POST")
	refuseSubscription = atDocument(reasonBadRequest, coded(codeBadRequest,
		"A subscription needs an event stream or a WebSocket."))
	refuseCondition = atDocument(reasonBadUserInput, coded(codeBadUserInput,
		"The variable of a @skip or @include must not be null."))
)

// question is one request on its way through the handler.
type question struct {
	media     mediaType
	executing bool
	operation string
	outcome   string
}

func (g *GraphQL) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	e, done := enter(ctx, w, "/graphql", g.cfg.Logger)
	defer done()
	q := &question{operation: operationUnknown, outcome: outcomeRefused}
	defer func() {
		e.operationType, e.outcome = q.operation, q.outcome
		g.cfg.Metrics.observe(q.operation, q.outcome, time.Since(e.start))
	}()
	defer func() {
		if v := recover(); v != nil {
			g.crashed(ctx, e, q, v)
		}
	}()
	if refused := g.answer(e, r, q); refused != nil {
		g.cfg.Metrics.refuse(refused.reason)
		refused.write(e, q.media)
	}
}

// answer runs the request, or says why not. The order is the security of it: nothing of a body is read before
// the caller is known, and nothing of a document is done before it is known to be small.
func (g *GraphQL) answer(e *exchange, r *http.Request, q *question) *refusal {
	if refused := checkAnswer(r, q); refused != nil {
		return refused
	}
	caller, err := g.cfg.Authenticate(r)
	if err != nil {
		return refuseUnauthenticated
	}
	e.partner = caller.Partner
	if refused := checkQuestion(r); refused != nil {
		return refused
	}

	b := &body{graphQL: g}
	defer b.release()
	p, refused := g.decode(e, r, caller, b)
	if refused != nil {
		return refused
	}
	releaseReadDeadline(e)

	if !take(g.slots) {
		return refuseOverloaded
	}
	defer func() { <-g.slots }()

	doc, refused := g.documents.prepare(p.query)
	if refused != nil {
		return refused
	}
	mayIntrospect := g.cfg.IntrospectionOpen || caller.Can(kyc.Admin)
	if doc.introspects && !mayIntrospect {
		return refuseIntrospection // D16
	}
	op := doc.doc.Operations.ForName(p.operationName)
	if op == nil {
		if p.operationName == "" {
			return refuseWhichOperation
		}
		return refuseNoOperation
	}
	q.operation = string(op.Operation)
	if b.large() && !doc.captures[op] {
		return refuseBody
	}
	if r.Method == http.MethodGet && op.Operation != ast.Query {
		return refuseGETMutation // C01
	}
	if op.Operation == ast.Subscription {
		return refuseSubscription
	}
	if e := g.cfg.Authorize(caller, doc.doc, op, p.variables); e != nil {
		return authorizeRefusal(e)
	}
	caller.RequestID = e.id
	if op.Operation == ast.Mutation {
		if !take(g.mutations) {
			return refuseOverloaded
		}
		defer func() { <-g.mutations }()
	}
	return g.execute(kyc.WithCaller(r.Context(), caller), e, q, p, doc, op, mayIntrospect)
}

// take takes one of the slots if there is one.
func take(slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// checkAnswer refuses what could not be answered whoever asks: a browser that wants a page is told so and not
// asked for a token (L06).
func checkAnswer(r *http.Request, q *question) *refusal {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return refuseMethod // OPTIONS too: there are no CORS headers for anyone (C04, C06).
	}
	var ok bool
	if q.media, ok = negotiate(r.Header["Accept"]); !ok {
		return refuseAccept
	}
	return nil
}

// checkQuestion refuses by the headers that describe the request. Who asks is known by then: a missing token is
// a 401 whatever else is wrong (P3).
func checkQuestion(r *http.Request) *refusal {
	if !plainBody(r.Header) {
		return refuseEncoding
	}
	if r.Method == http.MethodPost && !jsonBody(r.Header) {
		return refuseMediaType
	}
	if r.Method == http.MethodGet && forgeable(r.Header) {
		return refuseCSRF
	}
	return nil
}

// forgeable reports whether another site could have made a browser send this GET with the cookies of its user
// (C02, Apollo's rule): a header that no simple request carries proves it could not.
func forgeable(h http.Header) bool {
	if len(h["Cookie"]) == 0 {
		return false
	}
	return h.Get("X-Apollo-Operation-Name") == "" && h.Get("Apollo-Require-Preflight") == "" && h.Get("X-Kycgate-Csrf") == ""
}

func (g *GraphQL) decode(e *exchange, r *http.Request, caller kyc.Caller, b *body) (*params, *refusal) {
	if r.Method == http.MethodGet {
		return decodeURL(r.URL.RawQuery)
	}
	var text []byte
	var refused *refusal
	if g.cfg.MayCapture != nil && g.cfg.MayCapture(caller) {
		text, refused = b.read(e, r)
	} else {
		text, refused = readBody(e, r, g.cfg.MaxBody)
	}
	if refused != nil {
		return nil, refused
	}
	return decodeBody(text)
}

func (g *GraphQL) execute(ctx context.Context, e *exchange, q *question, p *params, doc *document, op *ast.OperationDefinition, mayIntrospect bool) *refusal {
	if g.cfg.AnswerTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.cfg.AnswerTimeout)
		defer cancel()
	}
	if refused := checkVariables(g.documents.schema, op, p.variables); refused != nil {
		return refused
	}
	ctx = context.WithValue(graphql.StartOperationTrace(ctx), preparedKey{}, doc.doc)
	// The headers are not handed on: they hold the token.
	opCtx, errs := g.exec.CreateOperationContext(ctx, &graphql.RawParams{
		Query: p.query, OperationName: p.operationName, Variables: p.variables, Extensions: p.extensions,
	})
	if errs != nil {
		return coercionRefusal(errs)
	}
	for _, name := range doc.conditions {
		// gqlgen panics over a condition that is null, which a nullable variable with a default may be.
		if v, given := opCtx.Variables[name]; given && v == nil {
			return refuseCondition
		}
	}
	if refused := doc.cost(op, opCtx.Variables); refused != nil {
		return refused
	}
	opCtx.DisableIntrospection = !mayIntrospect

	q.executing = true
	responses, ctx := g.exec.DispatchOperation(ctx, opCtx)
	response := responses(ctx)
	gone := errors.Is(ctx.Err(), context.Canceled)
	if response == nil {
		// gqlgen answers nil when the context has ended before it began. A client that is gone (D24) will not
		// read this; for one that ran out of time it is the truth.
		q.outcome = outcomeInternal
		if gone {
			q.outcome = outcomeCanceled
		}
		refuseOverloaded.write(e, q.media)
		return nil
	}
	if limited := rateLimited(response.Errors); limited != nil && op.Operation == ast.Query {
		return limited
	}
	// An answer that came into being is written even so: a client that has only closed its half still reads.
	q.outcome = outcomeOf(response.Errors)
	if gone {
		q.outcome = outcomeCanceled
	}
	writeResponse(e, q.media, response)
	return nil
}

// rateLimited is the refusal of an operation of which a part was refused for being asked too often (N06); nil if none
// was. The rest of a query has changed nothing and is not answered: which part had no luck is nobody's business.
func rateLimited(errs gqlerror.List) *refusal {
	for _, e := range errs {
		if e.Extensions["code"] == codeRateLimited {
			seconds, _ := e.Extensions["retryAfter"].(int)
			return atHTTP(http.StatusTooManyRequests, codeRateLimited, reasonRateLimited, e.Message).
				with("Retry-After", strconv.Itoa(max(1, seconds)))
		}
	}
	return nil
}

// outcomeOf tells an answer that is our fault from one that is the caller's or nobody's.
func outcomeOf(errs gqlerror.List) string {
	if len(errs) == 0 {
		return outcomeOK
	}
	for _, e := range errs {
		if code, _ := e.Extensions["code"].(string); code == "" || code == codeInternal {
			return outcomeInternal
		}
	}
	return outcomeErrors
}

// writeResponse writes what the executor made. The data is written as it is: encoding/json would parse it all
// again to check what gqlgen has just written.
func writeResponse(w http.ResponseWriter, media mediaType, r *graphql.Response) {
	head, data, tail := []byte(`{"data":`), []byte(r.Data), []byte("}")
	if len(r.Errors) > 0 {
		head = append(append([]byte(`{"errors":`), encodeErrors(r.Errors)...), `,"data":`...)
	}
	if len(data) == 0 {
		data = []byte("null")
	}
	if len(r.Extensions) > 0 {
		if b, err := json.Marshal(r.Extensions); err == nil {
			tail = append(append([]byte(`,"extensions":`), b...), '}')
		}
	}
	writeBody(w, http.StatusOK, media, head, data, tail)
}

// crashed answers a panic that no resolver's recover has caught. Before execution it is a failed request; after
// its begin it is an answer whose data could not be made.
func (g *GraphQL) crashed(ctx context.Context, e *exchange, q *question, value any) {
	if value == http.ErrAbortHandler { //nolint:errorlint // net/http compares the value too.
		panic(value)
	}
	id := g.cfg.NewErrorID()
	logPanic(ctx, g.cfg.Logger, id, value)
	q.outcome = outcomeInternal
	if e.status != 0 {
		return // The answer has begun; its Content-Length tells the client that it is not whole.
	}
	if !q.executing {
		internalRefusal(id).write(e, q.media)
		return
	}
	writeResponse(e, q.media, &graphql.Response{Errors: gqlerror.List{internalError(id)}})
}

func internalError(errorID string) *gqlerror.Error {
	return &gqlerror.Error{
		Message:    "Something went wrong on our side.",
		Extensions: map[string]any{"code": codeInternal, "errorId": errorID},
	}
}

func internalRefusal(errorID string) *refusal {
	return &refusal{status: http.StatusInternalServerError, body: errorBody(gqlerror.List{internalError(errorID)})}
}

// panicError stands for the panic of a resolver on its way to the presenter.
type panicError struct{ id string }

func (p *panicError) Error() string { return "a resolver panicked: error id " + p.id }

// ErrorID is the id under which the panic is in the log.
func (p *panicError) ErrorID() string { return p.id }

// Unwrap makes it an Internal error for whoever asks by kind.
func (p *panicError) Unwrap() error { return &kyc.Error{Kind: kyc.Internal, Op: "server.panic"} }

// recovered is the default for GraphQLConfig.Recover.
func (g *GraphQL) recovered(ctx context.Context, value any) error {
	id := g.cfg.NewErrorID()
	logPanic(ctx, g.cfg.Logger, id, value)
	return &panicError{id: id}
}

// presentInternal is the default for GraphQLConfig.Presenter: without one nothing is known to be public.
func (g *GraphQL) presentInternal(ctx context.Context, err error) *gqlerror.Error {
	var known interface{ ErrorID() string }
	id := ""
	if errors.As(err, &known) {
		id = known.ErrorID()
	} else {
		id = g.cfg.NewErrorID()
		g.cfg.Logger.LogAttrs(ctx, slog.LevelError, "resolver error",
			slog.String("error_id", id), slog.String("kind", kyc.KindOf(err).String()))
	}
	out := internalError(id)
	out.Path = graphql.GetPath(ctx)
	return out
}
