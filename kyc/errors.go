package kyc

import (
	"errors"
	"fmt"
)

// Kind is the closed answer to "what can the caller do about this error?".
// Adapters map whatever they see to one of these; nobody compares error text.
type Kind uint8

// The kinds. The zero value is Internal on purpose: an error nobody classified is our fault.
const (
	Internal        Kind = iota // nothing: we are wrong, the operator is told
	Invalid                     // correct the input and ask again
	NotFound                    // nothing: it does not exist for this caller
	Conflict                    // another write was first; read and decide
	Rejected                    // an upstream said an explicit no; see Code
	Unavailable                 // wait: nothing was sent, or the database cannot take writes now
	Ambiguous                   // wait: the upstream may or may not have acted; we look it up
	RateLimited                 // wait: the upstream asked us to slow down; see RetryAfter
	Credentials                 // nothing: the operator must mend keys; work goes on slowly
	Refused                     // wait: our own guard did not let the call leave
	Unauthenticated             // get a token
	Forbidden                   // get a token with the scope
)

var kindNames = [...]string{
	Internal: "INTERNAL", Invalid: "INVALID", NotFound: "NOT_FOUND", Conflict: "CONFLICT", Rejected: "REJECTED",
	Unavailable: "UNAVAILABLE", Ambiguous: "AMBIGUOUS", RateLimited: "RATE_LIMITED", Credentials: "CREDENTIALS",
	Refused: "REFUSED", Unauthenticated: "UNAUTHENTICATED", Forbidden: "FORBIDDEN",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "INTERNAL"
}

// Error is the only error type that crosses a package border here. It has three
// readers, kept apart: the program compares Kind, the caller reads Message, the
// operator reads Op and Err. None of the three ever holds personal data.
type Error struct {
	Kind    Kind
	Op      string // where it happened, e.g. "store.write" or "qitech.analyze_person"
	Message string // for the caller; empty means "say nothing specific"
	Code    string // the upstream's own code, from a closed set of ours; never upstream text
	Err     error  // for the operator's log

	// Path names the wrong input when the caller can mend it, e.g. ["input","faceRecognitionId"].
	Path []string
	// MorePaths are further inputs that the same refusal names.
	MorePaths [][]string
	// UserCode is what the caller is told when Kind is Rejected; "" is PROVIDER_REJECTED.
	UserCode UserErrorCode
	// RetryAfter is when to come back, if the upstream or the guard said so. See [RetryHint].
	RetryAfter RetryHint
}

func (e *Error) Error() string {
	s := e.Op
	if s == "" {
		s = "kyc"
	}
	s += ": " + e.Kind.String()
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause, so that errors.Is and errors.As see through.
func (e *Error) Unwrap() error { return e.Err }

// E builds an Error around a cause.
func E(kind Kind, op string, err error) *Error { return &Error{Kind: kind, Op: op, Err: err} }

// KindOf classifies any error; what is not ours is Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Errorf builds an Internal error for things that cannot happen.
func Errorf(op, format string, args ...any) *Error {
	return &Error{Kind: Internal, Op: op, Err: fmt.Errorf(format, args...)}
}

// UserErrorCode is the closed set of reasons a mutation may be refused with (schema: UserErrorCode).
type UserErrorCode string

// The codes of the contract. Those of later verbs are declared with them.
const (
	CodeInvalid               UserErrorCode = "INVALID"
	CodeRequired              UserErrorCode = "REQUIRED"
	CodeNotFound              UserErrorCode = "NOT_FOUND"
	CodeConflict              UserErrorCode = "CONFLICT"
	CodeExternalIDTaken       UserErrorCode = "EXTERNAL_ID_TAKEN"
	CodeDuplicateEmail        UserErrorCode = "DUPLICATE_EMAIL"
	CodeDuplicatePhone        UserErrorCode = "DUPLICATE_PHONE"
	CodePasswordMismatch      UserErrorCode = "PASSWORD_MISMATCH"
	CodeCategoryParameter     UserErrorCode = "CATEGORY_PARAMETER"
	CodeImageRejected         UserErrorCode = "IMAGE_REJECTED"
	CodeProviderRejected      UserErrorCode = "PROVIDER_REJECTED"
	CodeProviderNotConfigured UserErrorCode = "PROVIDER_NOT_CONFIGURED"
	CodeProviderUnavailable   UserErrorCode = "PROVIDER_UNAVAILABLE"
	CodeIdempotencyConflict   UserErrorCode = "IDEMPOTENCY_CONFLICT"
	CodeConsentRequired       UserErrorCode = "CONSENT_REQUIRED"
	CodeNeedsNewCapture       UserErrorCode = "NEEDS_NEW_CAPTURE"
)

// UserError is an expected refusal, answered as data (schema: UserError). Message never echoes a value.
type UserError struct {
	Code         UserErrorCode
	Message      string
	Path         []string
	Provider     *string
	ProviderCode *string
	Retryable    bool
}
