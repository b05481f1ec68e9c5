// Package resolvers translates between GraphQL and the verbs of kyc. A resolver is a line: rules live in
// kyc, errors in errors.go, permissions in policy.go, batching in loaders.go.
package resolvers

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/kycgate/kycgate/graph"
	"github.com/kycgate/kycgate/kyc"
)

// Resolver is what every resolver knows.
type Resolver struct{ service *kyc.Service }

// NewSchema builds the executable schema over the verbs.
func NewSchema(service *kyc.Service) graphql.ExecutableSchema {
	return schema{graph.NewExecutableSchema(graph.Config{Resolvers: &Resolver{service}}), service}
}

// schema gives every operation its own loaders, and every event of a subscription: nothing is shared between two callers, and
// nothing that was read for one event is told with the next. It also gives the time by which mutations have to be answered.
type schema struct {
	graphql.ExecutableSchema
	service *kyc.Service
}

func (s schema) Exec(ctx context.Context) graphql.ResponseHandler {
	l, d := newLoaders(s.service), new(disclosures)
	answerBy := s.service.Clock.Now().Add(s.service.AnswerWithin)
	with := func(ctx context.Context) context.Context {
		ctx = kyc.WithAnswerBy(kyc.WithDisclosures(ctx, d.tell), answerBy)
		return context.WithValue(ctx, loadersKey{}, l)
	}
	run := s.ExecutableSchema.Exec(with(ctx)) // a subscription opens its source with this context
	following := graphql.GetOperationContext(ctx).Operation.Operation == ast.Subscription
	return func(ctx context.Context) *graphql.Response {
		if following {
			l = newLoaders(s.service)
		}
		answer := run(with(ctx))
		if read := d.take(); answer != nil && len(read) > 0 {
			// The answer is there and has not left: what it shows of whom is durable first.
			if err := s.service.Disclosed(ctx, read); err != nil {
				graphql.AddError(ctx, err)
				return &graphql.Response{Errors: answer.Errors}
			}
		}
		return answer
	}
}

// received is the argument `input` as it was received, before any of our types saw it: literals and
// variables merged, absent fields absent. It is what a registration's snapshot keeps.
func received(ctx context.Context) (kyc.JSON, error) {
	field := graphql.GetFieldContext(ctx).Field
	args := field.ArgumentMap(graphql.GetOperationContext(ctx).Variables)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(args["input"]); err != nil {
		// The error could quote the input; its type is enough.
		return nil, kyc.Errorf("resolvers.received", "input does not encode: %T", err)
	}
	return kyc.JSON(bytes.TrimRight(b.Bytes(), "\n")), nil
}
