package kyc

import (
	"context"
	"time"
)

type answerByKey struct{}

// WithAnswerBy sets when the operation under way has to be answered. Several mutations in one operation run one after
// the other: if each waited AnswerWithin for a provider that hangs, the last would outlive the operation, and the
// answers of all would be lost with it.
func WithAnswerBy(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, answerByKey{}, at)
}

// answerBy is until when a mutation may wait for a provider: AnswerWithin from now, and not past the operation.
func (s *Service) answerBy(ctx context.Context) time.Time {
	own := s.Clock.Now().Add(s.AnswerWithin)
	if operation, ok := ctx.Value(answerByKey{}).(time.Time); ok && operation.Before(own) {
		return operation
	}
	return own
}
