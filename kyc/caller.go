package kyc

import "context"

// PartnerID names a tenant. It comes from the verified token's `partner` claim and from the
// configuration, never from a request body.
type PartnerID string

// Scope is one word of a token's `scope` claim.
type Scope string

// The scopes of the contract (section 3).
const (
	PersonsRead    Scope = "persons:read"
	PersonsWrite   Scope = "persons:write"
	PIIRead        Scope = "pii:read"
	ProcessesRead  Scope = "processes:read"
	ProcessesWrite Scope = "processes:write"
	CustomersRead  Scope = "customers:read"
	CustomersWrite Scope = "customers:write"
	ProvidersRead  Scope = "providers:read"
	Admin          Scope = "admin"
)

// Scopes lists every scope a token may carry, in the contract's order.
func Scopes() []Scope {
	return []Scope{PersonsRead, PersonsWrite, PIIRead, ProcessesRead, ProcessesWrite, CustomersRead, CustomersWrite, ProvidersRead, Admin}
}

// ScopeSet is a small set of scopes. Scopes nobody knows are dropped when it is built: they grant nothing.
type ScopeSet uint16

// NewScopeSet collects the known scopes among words.
func NewScopeSet(words ...Scope) ScopeSet {
	var s ScopeSet
	for _, w := range words {
		for i, known := range Scopes() {
			if w == known {
				s |= 1 << i
			}
		}
	}
	return s
}

// Has reports whether the set holds the scope. A scope nobody knows is in no set.
func (s ScopeSet) Has(scope Scope) bool {
	for i, known := range Scopes() {
		if scope == known {
			return s&(1<<i) != 0
		}
	}
	return false
}

// List gives the scopes in the contract's order.
func (s ScopeSet) List() []Scope {
	out := make([]Scope, 0, 9)
	for i, known := range Scopes() {
		if s&(1<<i) != 0 {
			out = append(out, known)
		}
	}
	return out
}

// Caller is who is asking, as proven by a verified token. Every read and write is scoped by Partner.
type Caller struct {
	Partner PartnerID
	Subject string   // the token's `sub`
	Scopes  ScopeSet // what the token may do
	Person  PersonID // only on a subject token: the one person it is about

	// What the audit log says of the request beside that.
	TokenID   string // the token's `jti`, or a hash of the token where that is missing or unfit to be kept
	Purpose   string // the token's `purpose`, code-like; "" without one
	RequestID string // ours, as in the log line and X-Request-Id
}

// Can reports whether the token carries the scope.
func (c Caller) Can(s Scope) bool { return c.Scopes.Has(s) }

// IsSubject reports whether this is a subject token: one person, nothing else.
func (c Caller) IsSubject() bool { return c.Person != "" }

type callerKey struct{}

// WithCaller puts the verified caller into the context. Only the GraphQL endpoint does, after verifying the token.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, &request{caller: c})
}

// CallerFrom returns the caller of a request. Without one it returns the zero Caller, which has no
// partner and no scope and therefore sees nothing.
func CallerFrom(ctx context.Context) Caller {
	return requestFrom(ctx).caller
}
