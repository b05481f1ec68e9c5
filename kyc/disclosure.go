package kyc

import "context"

// Owned is an object that holds personal data of its own, so that the audit log can say whose was read.
type Owned interface {
	// Owner gives the person, and where no person is known yet the object itself.
	Owner() (person PersonID, object string)
}

// AuditedApart is an object whose verb has recorded what it answers, such as an export.
type AuditedApart interface{ AuditedApart() }

// Owner is the person.
func (p *Person) Owner() (PersonID, string) { return p.ID, "" }

// Owner is the person who was registered.
func (r *Registration) Owner() (PersonID, string) { return r.PersonID, "" }

// Owner is whose face it is, or the face itself.
func (f *FaceRegistration) Owner() (PersonID, string) { return f.PersonID, string(f.ID) }

// request is what a context knows of the request it belongs to.
type request struct {
	caller    Caller
	disclosed func(context.Context)
}

func requestFrom(ctx context.Context) request {
	r, _ := ctx.Value(callerKey{}).(*request)
	if r == nil {
		return request{}
	}
	return *r
}

// WithDisclosures has f told of every personal value that is answered as it is with this context, with the context
// of the answered field. Whoever answers records what f was told before the answer leaves.
func WithDisclosures(ctx context.Context, f func(context.Context)) context.Context {
	return context.WithValue(ctx, callerKey{}, &request{CallerFrom(ctx), f})
}

// discloses reports whether a personal value may be answered as it is, and tells whoever records it. Where nobody
// does, it is masked whatever the scopes: no audit, no answer.
func discloses(ctx context.Context) bool {
	r := requestFrom(ctx)
	if r.disclosed == nil || !r.caller.Can(PIIRead) {
		return false
	}
	r.disclosed(ctx)
	return true
}
