package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

// operation is one GraphQL operation on its way, whatever transport brought it. There is one order of gates for
// all of them: who asks (before this file), the shape, introspection, the policy, the variables, the cost.
type operation struct {
	g             *GraphQL
	caller        kyc.Caller
	language      string // as Accept-Language asks for it
	params        *params
	doc           *document
	op            *ast.OperationDefinition
	mayIntrospect bool
}

// admit says whether the caller may run what he asks for. Nothing of a document is done before it is known to be
// small. The caller of admit holds a slot.
func (g *GraphQL) admit(caller kyc.Caller, p *params) (*operation, *refusal) {
	doc, refused := g.documents.prepare(p.query)
	if refused != nil {
		return nil, refused
	}
	o := &operation{g: g, caller: caller, params: p, doc: doc, mayIntrospect: g.cfg.IntrospectionOpen || caller.Can(kyc.Admin)}
	if doc.introspects && !o.mayIntrospect {
		return nil, refuseIntrospection // D16
	}
	o.op = doc.doc.Operations.ForName(p.operationName)
	if o.op == nil {
		if p.operationName == "" {
			return nil, refuseWhichOperation
		}
		return nil, refuseNoOperation
	}
	if e := g.cfg.Authorize(caller, doc.doc, o.op, p.variables); e != nil {
		return nil, authorizeRefusal(e)
	}
	return o, nil
}

// kind is the operation's label in metrics and logs.
func (o *operation) kind() string { return string(o.op.Operation) }

// room makes room for a mutation. The slots of mutations are fewer, so that there is always room for queries.
func (o *operation) room() (leave func(), ok bool) {
	if o.op.Operation != ast.Mutation {
		return func() {}, true
	}
	return take(o.g.mutations)
}

// start begins the execution: a mutation has happened when it returns, a subscription has its source. executing is
// called when there is no way back. next gives one result after the other and nil at the end; it must not be called
// again before its last result is encoded, because gqlgen uses the memory of it again.
func (o *operation) start(ctx context.Context, executing func()) (next func() *graphql.Response, refused *refusal) {
	ctx = kyc.WithLanguage(kyc.WithCaller(ctx, o.caller), o.language)
	if refused := checkVariables(o.g.documents.schema, o.op, o.params.variables); refused != nil {
		return nil, refused
	}
	ctx = context.WithValue(graphql.StartOperationTrace(ctx), preparedKey{}, o.doc.doc)
	// The headers are not handed on: they hold the token.
	opCtx, errs := o.g.exec.CreateOperationContext(ctx, &graphql.RawParams{
		Query: o.params.query, OperationName: o.params.operationName,
		Variables: o.params.variables, Extensions: o.params.extensions,
	})
	if errs != nil {
		return nil, coercionRefusal(errs)
	}
	for _, name := range o.doc.conditions {
		// gqlgen panics over a condition that is null, which a nullable variable with a default may be.
		if v, given := opCtx.Variables[name]; given && v == nil {
			return nil, refuseCondition
		}
	}
	if refused := o.doc.cost(o.op, opCtx.Variables); refused != nil {
		return nil, refused
	}
	opCtx.DisableIntrospection = !o.mayIntrospect

	executing()
	responses, ctx := o.g.exec.DispatchOperation(ctx, opCtx)
	return func() *graphql.Response { return responses(ctx) }, nil
}

// withDeadline bounds the execution of a query or a mutation.
func (g *GraphQL) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if g.cfg.AnswerTimeout > 0 {
		return context.WithTimeout(ctx, g.cfg.AnswerTimeout)
	}
	return context.WithCancel(ctx)
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

// encodeResponse writes what the executor made into memory of its own. The data is taken as it is: encoding/json
// would parse it all again to check what gqlgen has just written.
func encodeResponse(r *graphql.Response) []byte {
	b := make([]byte, 0, len(r.Data)+64)
	b = append(b, '{')
	if len(r.Errors) > 0 {
		b = append(b, `"errors":`...)
		b = append(b, encodeErrors(r.Errors)...)
		b = append(b, ',')
	}
	b = append(b, `"data":`...)
	if len(r.Data) == 0 {
		b = append(b, "null"...)
	}
	b = append(b, r.Data...)
	if len(r.Extensions) > 0 {
		if extensions, err := json.Marshal(r.Extensions); err == nil {
			b = append(append(b, `,"extensions":`...), extensions...)
		}
	}
	return append(b, '}')
}

// languageOf is what a request asks to be answered in.
func languageOf(r *http.Request) string { return strings.Join(r.Header.Values("Accept-Language"), ",") }
