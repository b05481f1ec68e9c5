package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/jonboulle/clockwork"
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

	// Authenticate proves who asks, from the Authorization header alone, and until when: no stream outlives its
	// token (J24). The zero time is never. Every error is the same 401 (P3).
	Authenticate func(*http.Request) (kyc.Caller, time.Time, error)

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

	// AllowedOrigins are the origins whose pages may use a partner's tokens, as a browser writes them
	// (https://app.example.com). Pages of OwnOrigin, and of the host a request is for, always may.
	AllowedOrigins map[kyc.PartnerID][]string
	OwnOrigin      string

	// Limits bound streams and sockets. A zero field is its default.
	Limits Limits

	// Clock tells when a token expires. Nil is the wall clock.
	Clock clockwork.Clock
}

// GraphQL answers POST, GET, event streams and WebSockets over gqlgen's executor. gqlgen's own transports are not
// used: they echo the body of malformed requests, read without a limit, take the last of two equal keys, write to a
// connection whose handler has returned, and close sockets with codes that no client understands.
//
// However an operation comes, it passes the same gates in the same order: see operation.go.
type GraphQL struct {
	cfg       GraphQLConfig
	exec      *executor.Executor
	documents *documents
	origins   *origins
	slots     chan struct{} // one for each execution at one time
	captured  atomic.Int64  // bytes of the bodies above MaxBody that are held now
	mutations chan struct{} // one for each of them that is a mutation

	streams, sockets *crowd
	draining         chan struct{}  // closed when no stream may begin any more
	drainMu          sync.Mutex     // between that and open
	open             sync.WaitGroup // the sockets, which net/http does not wait for
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
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	cfg.Limits = cfg.Limits.orDefault()
	g := &GraphQL{
		cfg: cfg, documents: newDocuments(cfg.Schema.Schema()),
		slots:     make(chan struct{}, cfg.MaxConcurrent),
		mutations: make(chan struct{}, max(1, cfg.MaxConcurrent-cfg.MaxConcurrent/5)),
		origins:   newOrigins(cfg.OwnOrigin, cfg.AllowedOrigins), draining: make(chan struct{}),
		streams: newCrowd(cfg.Limits.Streams, cfg.Limits.StreamsOfPrincipal, cfg.Limits.StreamsOfPerson),
		sockets: newCrowd(cfg.Limits.Sockets, cfg.Limits.SocketsOfPrincipal, cfg.Limits.SocketsOfPerson),
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
	events    bool // an event stream would do too
	executing bool
	operation string
	outcome   string
}

// asker is who asks, and until when his token proves it.
type asker struct {
	kyc.Caller

	expiry time.Time
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
	g.origins.vary(e.Header())
	var refused *refusal
	switch {
	case r.Method == http.MethodOptions && g.origins.preflight(r):
		q.operation, q.outcome = "", "" // It is no operation.
		allowPreflight(e, r)
	case isUpgrade(r):
		refused = g.upgrade(e, r, q)
	default:
		refused = g.answer(e, r, q)
	}
	if refused != nil {
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
	who, refused := g.authenticate(e, r)
	if refused != nil {
		return refused
	}
	if refused := checkQuestion(r); refused != nil {
		return refused
	}

	b := &body{graphQL: g}
	defer b.release()
	p, refused := g.decode(e, r, who.Caller, b)
	if refused != nil {
		return refused
	}
	releaseReadDeadline(e)

	leave, ok := g.slot()
	if !ok {
		return refuseOverloaded
	}
	defer leave()
	o, refused := g.admit(who.Caller, p)
	if refused != nil {
		return refused
	}
	q.operation, o.language = o.kind(), languageOf(r)
	if b.large() && !o.doc.captures[o.op] {
		return refuseBody
	}
	if r.Method == http.MethodGet && o.op.Operation == ast.Mutation {
		return refuseGETMutation // C01
	}
	if o.op.Operation == ast.Subscription {
		if !q.events {
			return refuseSubscription
		}
		q.media = mediaEvents
		return g.stream(e, r, q, who, o, leave)
	}
	done, ok := o.room()
	if !ok {
		return refuseOverloaded
	}
	defer done()
	return g.execute(r.Context(), e, q, o)
}

// authenticate proves who asks and that the page he uses may. A browser may read a refusal if its page could be
// of any partner, or a front end could not tell an expired token from a broken network.
func (g *GraphQL) authenticate(e *exchange, r *http.Request) (asker, *refusal) {
	origin, ok := g.origins.foreign(r)
	if !ok {
		return asker{}, refuseOrigin
	}
	caller, expiry, err := g.cfg.Authenticate(r)
	if err != nil {
		if g.origins.any[origin] {
			allowOrigin(e.Header(), origin)
		}
		return asker{}, refuseUnauthenticated
	}
	e.partner, caller.RequestID = caller.Partner, e.id
	if origin != "" {
		if !g.origins.allows(caller.Partner, origin) {
			return asker{}, refuseOrigin
		}
		allowOrigin(e.Header(), origin)
	}
	return asker{caller, expiry}, nil
}

// slot takes one of the executions at one time. The returned function may be called twice.
func (g *GraphQL) slot() (leave func(), ok bool) { return take(g.slots) }

// take takes one of the slots if there is one.
func take(slots chan struct{}) (leave func(), ok bool) {
	select {
	case slots <- struct{}{}:
		return sync.OnceFunc(func() { <-slots }), true
	default:
		return nil, false
	}
}

// checkAnswer refuses what could not be answered whoever asks: a browser that wants a page is told so and not
// asked for a token (L06).
func checkAnswer(r *http.Request, q *question) *refusal {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return refuseMethod // OPTIONS too: an origin that no partner lists gets no CORS header (C04, C06).
	}
	var ok bool
	q.events = acceptsEvents(r.Header["Accept"])
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

// execute answers a query or a mutation.
func (g *GraphQL) execute(ctx context.Context, e *exchange, q *question, o *operation) *refusal {
	ctx, cancel := g.withDeadline(ctx)
	defer cancel()
	next, refused := o.start(ctx, func() { q.executing = true })
	if refused != nil {
		return refused
	}
	response := next()
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
	if limited := rateLimited(response.Errors); limited != nil && o.op.Operation == ast.Query {
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

// writeResponse writes what the executor made.
func writeResponse(w http.ResponseWriter, media mediaType, r *graphql.Response) {
	if media == mediaEvents {
		writeBody(w, http.StatusOK, media, eventNext, oneLine(encodeResponse(r)), eventEnd, eventComplete)
		return
	}
	writeBody(w, http.StatusOK, media, encodeResponse(r))
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
