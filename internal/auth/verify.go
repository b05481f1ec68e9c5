// Package auth proves who is calling: it verifies bearer tokens (contract, section 3; RFC 8725), and signs
// them where a local signing key is configured.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

const (
	// Leeway is how far the issuer's clock may be from ours.
	Leeway = 60 * time.Second

	maxToken   = 8 << 10 // larger ones are refused before anything looks into them
	maxSubject = 255
	cacheSize  = 10_000       // verified tokens, about 3 MB
	latest     = 253402300799 // the last second of the year 9999
)

// Verifier verifies bearer tokens. It is safe for concurrent use.
type Verifier struct {
	clock    func() time.Time
	ring     *keyring
	parser   *jwt.Parser
	types    map[string]bool // lower case, without application/
	partners map[string]bool
	cache    *lru.Cache[[sha256.Size]byte, verified]
}

// verified is a token that passed, for as long as its keys are the current ones.
type verified struct {
	caller kyc.Caller
	expiry time.Time
	with   *generation
}

// New makes a Verifier of a configuration that passed Validate. It fails with a [config.Error] if the keys
// are not fit, and with an error that names the setting if they cannot be fetched. A nil clock is
// time.Now, a nil client one with Go's defaults. Close ends it.
func New(cfg config.Config, clock func() time.Time, client *http.Client) (*Verifier, error) {
	if clock == nil {
		clock = time.Now
	}
	cache, err := lru.New[[sha256.Size]byte, verified](cacheSize)
	if err != nil {
		return nil, err
	}
	v := &Verifier{clock: clock, cache: cache, types: make(map[string]bool), partners: make(map[string]bool)}
	for _, t := range cfg.Auth.TokenTypes {
		v.types[mediaType(t)] = true
	}
	for _, p := range cfg.Partners {
		v.partners[p.ID] = true
	}
	v.parser = jwt.NewParser(
		jwt.WithValidMethods([]string{keys.RS256, keys.ES256, keys.EdDSA}),
		jwt.WithStrictDecoding(), // one text for one signature
		jwt.WithIssuer(cfg.Auth.Issuer),
		jwt.WithAudience(cfg.Auth.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(clock),
	)
	// A token that a removed key verified must not live on in the cache; the generation sees to that, the
	// purge gives back the memory.
	v.ring, err = newKeyring(cfg, clock(), client, cache.Purge)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Close ends a fetch of keys in progress. Verify goes on with the keys there are.
func (v *Verifier) Close() { v.ring.close() }

// KeysError gives the failure of the last renewal of the keys, nil if it went well. The old keys are in
// use then, so it deserves a log line and not a refusal to serve.
func (v *Verifier) KeysError() error { return v.ring.err() }

// Verify gives the caller that a token proves, and when the token expires. Within [Leeway] after that it
// is still accepted. Every failure is [ErrUnauthenticated].
func (v *Verifier) Verify(ctx context.Context, token string) (kyc.Caller, time.Time, error) {
	if len(token) > maxToken {
		return kyc.Caller{}, time.Time{}, refuse(tooLong)
	}
	// Go's base64 reads over newlines, so one token could be written in many ways.
	if strings.ContainsFunc(token, notToken) {
		return kyc.Caller{}, time.Time{}, refuse(malformed)
	}
	now := v.clock()
	current := v.ring.keys(ctx, now)
	id := sha256.Sum256([]byte(token))
	if hit, ok := v.cache.Get(id); ok {
		if hit.with == current && now.Before(hit.expiry.Add(Leeway)) {
			return hit.caller, hit.expiry, nil
		}
		v.cache.Remove(id)
	}
	entry, err := v.verify(ctx, token, now, current)
	if err != nil {
		return kyc.Caller{}, time.Time{}, err
	}
	if entry.caller.TokenID == "" {
		// The audit log names every token. Half of the hash is enough to know it again and too little to be it.
		entry.caller.TokenID = "sha256:" + hex.EncodeToString(id[:16])
	}
	v.cache.Add(id, entry)
	return entry.caller, entry.expiry, nil
}

func (v *Verifier) verify(ctx context.Context, token string, now time.Time, current *generation) (verified, error) {
	var (
		asked bool   // whether the parser came as far as asking for a key
		why   reason // why it got none
	)
	claims := jwt.MapClaims{} // a map, because its keys are matched with case
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		asked = true
		if why = v.header(t.Header); why == "" {
			why = times(claims)
		}
		if why != "" {
			return nil, ErrUnauthenticated
		}
		kid, hasKid := t.Header["kid"].(string)
		key, problem, known := current.find(kid, hasKid, t.Method.Alg())
		if !known {
			current = v.ring.again(ctx, now)
			key, problem, _ = current.find(kid, hasKid, t.Method.Alg())
		}
		if why = problem; why != "" {
			return nil, ErrUnauthenticated
		}
		return key.Key, nil
	})
	switch {
	case why != "":
		return verified{}, refuse(why)
	case err != nil:
		return verified{}, refuse(reasonOf(err, asked))
	}
	caller, expiry, why := v.caller(claims)
	if why != "" {
		return verified{}, refuse(why)
	}
	return verified{caller: caller, expiry: expiry, with: current}, nil
}

// header checks what the parser does not.
func (v *Verifier) header(h map[string]any) reason {
	// An extension that must be understood, and we understand none. That it is empty does not help it.
	if _, found := h["crit"]; found {
		return criticalHeader
	}
	if kid, found := h["kid"]; found {
		if _, isText := kid.(string); !isText {
			return malformed
		}
	}
	typ, _ := h["typ"].(string)
	if !v.types[mediaType(typ)] {
		return wrongType
	}
	return ""
}

// times refuses seconds that no calendar has. The parser would turn them into some other time, and which
// one depends on the processor.
func times(claims jwt.MapClaims) reason {
	for _, name := range []string{"exp", "nbf", "iat"} {
		if seconds, found := claims[name].(float64); found && (seconds < 0 || seconds > latest) {
			return malformed
		}
	}
	return ""
}

// mediaType is a `typ` in the form it is compared in: RFC 7515, 4.1.9 lets application/ be left out.
func mediaType(typ string) string {
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}

// caller reads the claims of a token whose signature, issuer, audience and times are right.
func (v *Verifier) caller(claims jwt.MapClaims) (kyc.Caller, time.Time, reason) {
	none := func(why reason) (kyc.Caller, time.Time, reason) { return kyc.Caller{}, time.Time{}, why }
	expiry, err := claims.GetExpirationTime()
	if err != nil || expiry == nil {
		return none(missingClaim)
	}
	// A token bound to a client's key or certificate (RFC 7800, DPoP, mTLS) is worth nothing without the
	// proof, and we check none.
	if _, bound := claims["cnf"]; bound {
		return none(proofOfHolder)
	}
	subject, _ := claims["sub"].(string)
	if subject == "" || len(subject) > maxSubject {
		return none(wrongSubject)
	}
	partner, _ := claims["partner"].(string)
	if !v.partners[partner] {
		return none(unknownPartner)
	}
	caller := kyc.Caller{Partner: kyc.PartnerID(partner), Subject: subject}
	if scope, found := claims["scope"]; found {
		text, isText := scope.(string)
		if !isText {
			return none(wrongScope)
		}
		caller.Scopes = scopes(text)
	}
	if id, _ := claims["jti"].(string); tokenID.MatchString(id) {
		caller.TokenID = id
	}
	if purpose, found := claims["purpose"]; found {
		caller.Purpose = "unknown" // as CodeLike says of what was said and is not understood
		if text, isText := purpose.(string); isText {
			caller.Purpose = kyc.CodeLike(text)
		}
	}
	if person, found := claims["person"]; found {
		text, _ := person.(string)
		if !isPersonID(text) {
			return none(wrongPerson)
		}
		caller.Person = kyc.PersonID(text)
	}
	return caller, expiry.Time, ""
}

// tokenID is a `jti` that can be kept: any kind of random or numbered id, and no text. What has no letter could be a
// document number.
var tokenID = regexp.MustCompile(`^[0-9_.:-]*[A-Za-z][A-Za-z0-9_.:-]{0,127}$`)

// scopes reads a `scope` claim. Words nobody knows grant nothing.
func scopes(text string) kyc.ScopeSet {
	words := strings.Fields(text)
	list := make([]kyc.Scope, len(words))
	for i, w := range words {
		list[i] = kyc.Scope(w)
	}
	return kyc.NewScopeSet(list...)
}

// isPersonID reports whether a text looks like a person's id: per_ and a ULID in the form we write it.
func isPersonID(text string) bool {
	const length = 26
	id, ok := strings.CutPrefix(text, "per_")
	if !ok || len(id) != length || id[0] > '7' {
		return false
	}
	for _, c := range id {
		if !strings.ContainsRune("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c) {
			return false
		}
	}
	return true
}

// reasonOf classifies the parser's error. asked tells whether it had found the algorithm acceptable.
func reasonOf(err error, asked bool) reason {
	for _, known := range []struct {
		err error
		why reason
	}{
		{jwt.ErrTokenMalformed, malformed},
		{jwt.ErrTokenSignatureInvalid, wrongSignature},
		{jwt.ErrTokenUnverifiable, wrongAlgorithm},
		{jwt.ErrTokenInvalidIssuer, wrongIssuer},
		{jwt.ErrTokenInvalidAudience, wrongAudience},
		{jwt.ErrTokenExpired, expired},
		{jwt.ErrTokenNotValidYet, notYetValid},
		{jwt.ErrTokenUsedBeforeIssued, notYetValid},
		{jwt.ErrTokenRequiredClaimMissing, missingClaim},
	} {
		if errors.Is(err, known.err) {
			if known.why == wrongSignature && !asked {
				return wrongAlgorithm // the parser's word for a method outside the list
			}
			return known.why
		}
	}
	return malformed // a claim of another type
}
