package auth

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

// accessToken is the `typ` of what we sign (RFC 9068).
const accessToken = "at+jwt"

// Signer signs access tokens with the configured local key.
type Signer struct {
	// Clock is when tokens are issued. NewSigner sets it to time.Now.
	Clock func() time.Time

	key      crypto.Signer
	method   jwt.SigningMethod
	kid      string
	issuer   string
	audience string
	partners []config.Partner
}

// Claims are what differs between two tokens.
type Claims struct {
	Partner kyc.PartnerID
	Subject string
	Scopes  kyc.ScopeSet
	Person  kyc.PersonID // only for a subject token
	Purpose string       // what the data is wanted for, code-like; "" is left out
	TTL     time.Duration
}

// NewSigner makes a Signer of a configuration that passed Validate. With auth.jwks_url it fetches the key
// set once, to find its own key in it.
func NewSigner(cfg config.Config) (*Signer, error) {
	const setting = "auth.signing_key_file"
	if cfg.Auth.SigningKeyFile == "" {
		return nil, config.Wrong(setting, "is not set: without it tokens are issued by auth.issuer only")
	}
	data, err := os.ReadFile(cfg.Auth.SigningKeyFile)
	if err != nil {
		return nil, config.Wrong(setting, "cannot be read: %v", err)
	}
	key, alg, err := keys.ParsePrivate(data)
	if err != nil {
		return nil, config.Wrong(setting, "%v", err)
	}
	if !slices.ContainsFunc(cfg.Auth.TokenTypes, func(t string) bool { return mediaType(t) == accessToken }) {
		return nil, config.Wrong("auth.token_types", "must list %s, the type of the tokens signed with auth.signing_key_file", accessToken)
	}
	ring, err := newKeyring(cfg, time.Now(), nil, func() {})
	if err != nil {
		return nil, err
	}
	defer ring.close()
	set := ring.current.Load().keys
	at := slices.IndexFunc(set, func(k keys.Key) bool { return keys.Equal(k.Key, key.Public()) })
	if at < 0 {
		return nil, config.Wrong(setting, "its public key is not in %s, so its tokens would be refused: add it there", ring.setting)
	}
	return &Signer{
		Clock: time.Now, key: key, method: jwt.GetSigningMethod(alg), kid: set[at].ID,
		issuer: cfg.Auth.Issuer, audience: cfg.Auth.Audience, partners: cfg.Partners,
	}, nil
}

// Sign makes a token that Verify accepts, and says when it expires.
func (s *Signer) Sign(c Claims) (token string, expiry time.Time, err error) {
	known := slices.ContainsFunc(s.partners, func(p config.Partner) bool { return p.ID == string(c.Partner) })
	switch {
	case !known:
		return "", time.Time{}, errors.New("sign a token: the partner is not configured")
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return "", time.Time{}, fmt.Errorf("sign a token: the subject must have 1 to %d bytes", maxSubject)
	case c.Person != "" && !isPersonID(string(c.Person)):
		return "", time.Time{}, errors.New("sign a token: the person is not a person's id (per_…)")
	case c.Purpose != kyc.CodeLike(c.Purpose):
		return "", time.Time{}, errors.New("sign a token: the purpose must be a code, as credit_analysis: letters, digits and _ - . up to 64")
	case c.TTL < time.Second:
		return "", time.Time{}, errors.New("sign a token: the time to live must be at least a second")
	}
	now := s.Clock().Truncate(time.Second)
	expiry = now.Add(c.TTL).Truncate(time.Second)
	words := make([]string, 0, len(kyc.Scopes()))
	for _, scope := range c.Scopes.List() {
		words = append(words, string(scope))
	}
	claims := jwt.MapClaims{
		"iss": s.issuer, "aud": s.audience, "sub": c.Subject, "partner": string(c.Partner), "scope": strings.Join(words, " "),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": expiry.Unix(), "jti": rand.Text(),
	}
	if c.Person != "" {
		claims["person"] = string(c.Person)
	}
	if c.Purpose != "" {
		claims["purpose"] = c.Purpose
	}
	t := jwt.NewWithClaims(s.method, claims)
	t.Header["typ"] = accessToken
	if s.kid != "" {
		t.Header["kid"] = s.kid
	}
	token, err = t.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	if len(token) > maxToken {
		return "", time.Time{}, errors.New("sign a token: the claims are too long")
	}
	return token, expiry, nil
}
