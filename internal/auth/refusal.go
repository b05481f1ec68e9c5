package auth

import (
	"errors"
	"slices"

	"github.com/kycgate/kycgate/kyc"
)

// ErrUnauthenticated is the only error Verify gives. The caller learns nothing from it about what was
// wrong with the token; for the operator's counters there is [Reason].
var ErrUnauthenticated error = &kyc.Error{Kind: kyc.Unauthenticated, Op: "auth.verify"}

// reason is why a token was refused.
type reason string

const (
	tooLong         reason = "too_long"        // over maxToken, not even parsed
	malformed       reason = "malformed"       // not a JWT, or a claim of another type
	wrongAlgorithm  reason = "algorithm"       // none, HMAC, or not the key's own
	criticalHeader  reason = "critical_header" // an extension we must understand and do not
	wrongType       reason = "type"            // an ID token, a refresh token
	unknownKey      reason = "unknown_key"     // no key of ours, or not clear which
	wrongSignature  reason = "signature"
	missingClaim    reason = "missing_claim" // iss, aud or exp
	wrongIssuer     reason = "issuer"
	wrongAudience   reason = "audience" // meant for somebody else
	expired         reason = "expired"
	notYetValid     reason = "not_yet_valid"   // nbf or iat in the future
	wrongSubject    reason = "subject"         // without sub
	unknownPartner  reason = "partner"         // without partner, or one we do not know
	wrongScope      reason = "scope"           // not a text
	wrongPerson     reason = "person"          // not a person's id
	proofOfHolder   reason = "bound"           // bound to a key whose proof we do not check
	otherwiseReason reason = "unauthenticated" // an error that is not ours
)

var reasons = []reason{
	tooLong, malformed, wrongAlgorithm, criticalHeader, wrongType, unknownKey, wrongSignature, missingClaim, wrongIssuer,
	wrongAudience, expired, notYetValid, wrongSubject, unknownPartner, wrongScope, wrongPerson, proofOfHolder, otherwiseReason,
}

// refusal carries the reason beside the one public error. Its text is the public error's.
type refusal struct{ why reason }

func (r *refusal) Error() string { return ErrUnauthenticated.Error() }

// Unwrap makes errors.Is(err, ErrUnauthenticated) and kyc.KindOf(err) see through.
func (r *refusal) Unwrap() error { return ErrUnauthenticated }

func refuse(why reason) error { return &refusal{why} }

// Reason says why a token was refused, for a metric's label or a log: a word of [Reasons], never anything
// that came with the token. It is empty for no error.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	var r *refusal
	if errors.As(err, &r) {
		return string(r.why)
	}
	return string(otherwiseReason)
}

// Reasons lists everything Reason may say.
func Reasons() []string {
	out := make([]string, 0, len(reasons))
	for _, r := range reasons {
		out = append(out, string(r))
	}
	slices.Sort(out)
	return out
}
