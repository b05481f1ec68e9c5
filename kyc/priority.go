package kyc

import "context"

// Priority says who is waiting for a call. Where a provider's budget is short, the guard lets the most
// important leave first, and keeps a part of the budget that only they may use.
type Priority uint8

// The priorities, the most important first. A context without one is User, so that whoever forgets to say
// delays a poll and not a person.
const (
	User  Priority = iota // somebody waits for the answer
	Hint                  // a webhook says that there is something to fetch
	Sweep                 // work that goes on by itself
)

type priorityKey struct{}

// WithPriority says in the context who waits for the calls made under it.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityFrom reads it.
func PriorityFrom(ctx context.Context) Priority {
	p, _ := ctx.Value(priorityKey{}).(Priority)
	return p
}
