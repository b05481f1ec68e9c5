package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

const (
	issuer   = "https://issuer.example.com"
	audience = "kycgate"
	personID = "per_01JD7XK8Z3N4Q5R6S7T8V9WABC"
)

// Keys are made once: RSA keys are slow to make.
var (
	edKey  = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
	edKey2 = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
	ecKey  = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
)

// testClock is a clock that stands still until it is moved.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *testClock { return &testClock{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// jwks joins the keys of several into one set.
func jwks(t testing.TB, public map[string]crypto.PublicKey) []byte {
	t.Helper()
	var all struct {
		Keys []json.RawMessage `json:"keys"`
	}
	all.Keys = []json.RawMessage{}
	for kid, key := range public {
		data, err := keys.MarshalSet(kid, key)
		if err != nil {
			t.Fatal(err)
		}
		var one struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(kid, "-") {
			delete(one.Keys[0], "kid")
		}
		raw, err := json.Marshal(one.Keys[0])
		if err != nil {
			t.Fatal(err)
		}
		all.Keys = append(all.Keys, raw)
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func allKeys() map[string]crypto.PublicKey {
	return map[string]crypto.PublicKey{"ed": edKey().Public(), "ec": ecKey().Public(), "rsa": rsaKey().Public()}
}

// configuration is a production configuration with the keys in a file.
func configuration(t testing.TB, public map[string]crypto.PublicKey) config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "jwks.json")
	writeFile(t, file, jwks(t, public))
	cfg := config.Default()
	cfg.Environment = config.Production
	cfg.Auth.Issuer, cfg.Auth.Audience, cfg.Auth.JWKSFile = issuer, audience, file
	cfg.Partners = []config.Partner{{ID: "acme"}, {ID: "bazaar"}}
	return cfg
}

func writeFile(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func privatePEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newVerifier(t testing.TB, cfg config.Config, clock *testClock) *Verifier {
	t.Helper()
	v, err := New(cfg, clock.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// good are the header and claims of a token that passes.
func good(now time.Time) (header, claims map[string]any) {
	return map[string]any{"typ": "at+jwt", "kid": "ed"}, map[string]any{
		"iss": issuer, "aud": audience, "sub": "user-1", "partner": "acme", "scope": "persons:read pii:read",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "1",
	}
}

// sign makes a token of any header and claims, without the library's own checks of them.
func sign(t testing.TB, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	h := maps.Clone(header)
	if _, found := h["alg"]; !found {
		h["alg"] = method.Alg()
	}
	text := segment(t, h) + "." + segment(t, claims)
	sig, err := method.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func segment(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// wantRefused checks that a token is refused for the reason, and that the error tells nothing else.
func wantRefused(t *testing.T, v *Verifier, token string, why reason) {
	t.Helper()
	caller, expiry, err := v.Verify(t.Context(), token)
	if !errors.Is(err, ErrUnauthenticated) || kyc.KindOf(err) != kyc.Unauthenticated {
		t.Fatalf("got %+v, %v, want a refusal for %q", caller, err, why)
	}
	if caller != (kyc.Caller{}) || !expiry.IsZero() {
		t.Errorf("a refused token gives %+v, %v", caller, expiry)
	}
	if got := Reason(err); got != string(why) {
		t.Errorf("refused for %q, want %q", got, why)
	}
	if err.Error() != ErrUnauthenticated.Error() {
		t.Errorf("the error tells why: %v", err)
	}
}

func wantAccepted(t *testing.T, v *Verifier, token string) kyc.Caller {
	t.Helper()
	caller, _, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatalf("refused for %q", Reason(err))
	}
	return caller
}

// hmacSign is what an attacker does who has nothing but our public key.
func hmacSign(text string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
