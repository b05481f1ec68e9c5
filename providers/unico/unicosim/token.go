package unicosim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// sandboxKey is made once a run: a key in a repository is a key that somebody uses in production.
var sandboxKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // does not fail: see crypto/rand
	}
	return key
})

// PrivateKeyPEM is the key that signs the sandbox's assertions, as Unico would deliver it.
func PrivateKeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(sandboxKey())
	if err != nil {
		panic(err) // an RSA key always encodes
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

const (
	maxBadAssertions = 10          // in a row, before the account is locked (ours)
	lockFor          = time.Minute // ours
)

// serveToken is POST /oauth2/token (dossier 3).
func (s *Sim) serveToken(w http.ResponseWriter, r *http.Request) {
	form, err := url.ParseQuery(string(simulator.Body(r)))
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch {
	case err != nil || contentType != "application/x-www-form-urlencoded":
		oauthError(w, http.StatusBadRequest, "invalid_request", "the body must be a form")
		return
	case form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "the grant type is not supported")
		return
	}
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.locked) {
		s.refuseAssertion(w, "1.2.18")
		return
	}
	assertion := form.Get("assertion")
	if code := s.check(assertion, "//"+r.Host, now); code != "" {
		if s.bad++; s.bad >= maxBadAssertions {
			s.bad, s.locked = 0, now.Add(lockFor)
		}
		s.refuseAssertion(w, code)
		return
	}
	digest := sha256.Sum256([]byte(assertion))
	if s.used[digest] {
		s.refuseAssertion(w, "1.2.7")
		return
	}
	s.used[digest], s.bad = true, 0
	for token, until := range s.tokens {
		if !now.Before(until.Add(time.Hour)) { // an hour longer, to tell expired from invalid
			delete(s.tokens, token)
		}
	}
	token := "unico-sim-" + rand.Text()
	s.tokens[token] = now.Add(s.config.TokenLifetime)
	var expires any = itoa(int(s.config.TokenLifetime / time.Second)) // quoted in the older samples
	if s.config.Generation >= G3 {
		expires = int(s.config.TokenLifetime / time.Second)
	}
	simulator.WriteJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": expires})
}

// RevokeTokens makes every access token invalid, as a change at Unico's would.
func (s *Sim) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

func (s *Sim) refuseAssertion(w http.ResponseWriter, code string) {
	text := "Falha na autenticação " + code
	if s.config.Generation == G4 {
		text = "Authentication failed (" + code + ")"
	}
	oauthError(w, http.StatusUnauthorized, "server_error", text)
}

func oauthError(w http.ResponseWriter, status int, code, description string) {
	simulator.WriteJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// check gives the number of what is wrong with an assertion (dossier 3.1, 3.3), "" when nothing is. host is the
// request's own, "//127.0.0.1:8090": the audience is the origin of the token host.
func (s *Sim) check(assertion, host string, now time.Time) string {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return "1.2.20"
	}
	header, err1 := base64.RawURLEncoding.DecodeString(parts[0])
	payload, err2 := base64.RawURLEncoding.DecodeString(parts[1])
	signature, err3 := base64.RawURLEncoding.DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return "1.2.20"
	}
	var head map[string]string
	if json.Unmarshal(header, &head) != nil || len(head) != 2 || head["alg"] != "RS256" || head["typ"] != "JWT" {
		return "1.2.5"
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(s.config.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return "1.2.21"
	}
	var claims map[string]any
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if decoder.Decode(&claims) != nil {
		return "1.2.20"
	}
	if _, given := claims["sub"]; given {
		return "1.2.19"
	}
	if scope, _ := claims["scope"].(string); scope == "" {
		return "1.1.1"
	}
	if len(claims) > 5 {
		return "1.2.22"
	}
	iss, _ := claims["iss"].(string)
	aud, _ := claims["aud"].(string)
	_, origin, _ := strings.Cut(aud, ":")
	account, tenant, _ := strings.Cut(iss, "@")
	iat, exp := seconds(claims["iat"]), seconds(claims["exp"])
	switch {
	case tenant != SandboxTenantID+".iam.acesso.io":
		return "1.0.1"
	case account != SandboxServiceAccount:
		return "1.2.11"
	case origin != host, iat == 0, exp == 0, exp > iat+3600, iat > now.Unix()+60:
		return "1.2.5"
	case exp <= now.Unix():
		return "1.2.4"
	}
	return ""
}

func seconds(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

// authorized checks token and key of a call (dossier 7.2) and gives what the key enables.
func (s *Sim) authorized(w http.ResponseWriter, r *http.Request) (key string, enabled []string, ok bool) {
	authorization, key := r.Header.Get("Authorization"), r.Header.Get("APIKEY")
	token, _ := strings.CutPrefix(authorization, "Bearer ")
	s.mu.Lock()
	until, known := s.tokens[token]
	s.mu.Unlock()
	enabled, found := s.config.APIKeys[key]
	switch {
	case authorization == "":
		s.refuse(w, refusals["20001"])
	case key == "":
		s.refuse(w, refusals["20002"])
	case strings.ContainsAny(token, " \"'{}"):
		s.refuse(w, refusals["30017"])
	case !known:
		s.refuse(w, refusals["10501"])
	case !s.config.Now().Before(until):
		s.refuse(w, refusals["10502"])
	case !found:
		s.refuse(w, refusals["10201"])
	default:
		return key, enabled, true
	}
	return "", nil, false
}
