package resolvers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

// Presenter is the only place where an error becomes GraphQL. The message of our own public error is
// kept and everything else is replaced, so that no driver, upstream or runtime text reaches a caller.
func Presenter(log *slog.Logger, newErrorID func() string) graphql.ErrorPresenterFunc {
	return func(ctx context.Context, err error) *gqlerror.Error {
		out := &gqlerror.Error{Path: graphql.GetPath(ctx), Extensions: map[string]any{}}
		var located *gqlerror.Error
		if errors.As(err, &located) {
			out.Locations = located.Locations
			if located.Path != nil {
				out.Path = located.Path
			}
		}
		public := func(code, message string) *gqlerror.Error {
			out.Message = message
			out.Extensions["code"] = code
			return out
		}
		if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			return public("OVERLOADED", "the request ended before its answer was ready")
		}
		var e *kyc.Error
		if errors.As(err, &e) {
			switch e.Kind {
			case kyc.Invalid:
				return public("BAD_USER_INPUT", e.Message)
			case kyc.NotFound:
				return public("NOT_FOUND", "it does not exist")
			case kyc.Unauthenticated:
				return public("UNAUTHENTICATED", "a valid token is required")
			case kyc.Forbidden:
				return public("FORBIDDEN", "the token does not allow this")
			case kyc.Unavailable:
				log.WarnContext(ctx, "request could not be served now", "op", e.Op, "err", e.Error())
				return public("OVERLOADED", "this cannot be served now: try again in a moment")
			case kyc.RateLimited:
				// Whole seconds, rounded up: the transport also makes the Retry-After of the answer of it.
				out.Extensions["retryAfter"] = int(max(1, math.Ceil(time.Duration(e.RetryAfter).Seconds())))
				return public("RATE_LIMITED", cmp.Or(e.Message, "too many requests: try again later"))
			default: // every other kind is ours to mend: INTERNAL below
			}
		}
		var panicked *panicError
		if errors.As(err, &panicked) { // Recover has logged it under its id
			out.Extensions["errorId"] = panicked.id
			return public("INTERNAL", internalMessage)
		}
		id := newErrorID()
		out.Extensions["errorId"] = id
		// The error's own text is for the operator: every adapter builds it without values of a row or a message.
		log.ErrorContext(ctx, "internal error", "error_id", id, "err", describe(e, err))
		return public("INTERNAL", internalMessage)
	}
}

const internalMessage = "something went wrong on our side; errorId names it in our log"

// describe gives the text of our own errors and only the type of foreign ones, whose text may quote data.
func describe(ours *kyc.Error, err error) string {
	if ours != nil {
		return ours.Error()
	}
	return fmt.Sprintf("%T", errors.Unwrap(err))
}

// Recover turns a panic into an internal error. The value that was panicked with may be a person's
// data, so only its type and the stack are logged.
func Recover(log *slog.Logger, newErrorID func() string) graphql.RecoverFunc {
	return func(ctx context.Context, value any) error {
		e := &panicError{newErrorID()}
		log.ErrorContext(ctx, "panic in a resolver", "error_id", e.id, "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
		return e
	}
}

// panicError is a panic that is in the log under its id already.
type panicError struct{ id string }

func (e *panicError) Error() string { return "panic in a resolver" }

// ErrorID tells the transport the same.
func (e *panicError) ErrorID() string { return e.id }
