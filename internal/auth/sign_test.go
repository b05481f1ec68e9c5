package auth

import (
	"crypto"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

func newSigner(t *testing.T, cfg config.Config, clock *testClock) *Signer {
	t.Helper()
	s, err := NewSigner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Clock = clock.Now
	return s
}

func TestSign(t *testing.T) {
	t.Parallel()
	for alg, key := range map[string]crypto.Signer{"EdDSA": edKey(), "ES256": ecKey(), "RS256": rsaKey()} {
		clock := newClock()
		cfg := configuration(t, allKeys())
		cfg.Auth.SigningKeyFile = filepath.Join(t.TempDir(), "signing.pem")
		writeFile(t, cfg.Auth.SigningKeyFile, privatePEM(t, key))
		s, v := newSigner(t, cfg, clock), newVerifier(t, cfg, clock)

		token, expiry, err := s.Sign(Claims{Partner: "bazaar", Subject: "dash", Scopes: kyc.NewScopeSet(kyc.Admin, kyc.PIIRead), Person: personID, Purpose: "audit", TTL: 15 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		want := kyc.Caller{Partner: "bazaar", Subject: "dash", Scopes: kyc.NewScopeSet(kyc.Admin, kyc.PIIRead), Person: personID, Purpose: "audit"}
		caller, verified, err := v.Verify(t.Context(), token)
		if len(caller.TokenID) != 26 {
			t.Errorf("the id of the token is %q", caller.TokenID)
		}
		want.TokenID = caller.TokenID
		if err != nil || caller != want {
			t.Fatalf("%s: got %+v, refused for %q", alg, caller, Reason(err))
		}
		if !verified.Equal(expiry) || !expiry.Equal(clock.Now().Add(15*time.Minute)) {
			t.Errorf("%s: expires at %v, verified as %v", alg, expiry, verified)
		}

		parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Header["alg"] != alg || parsed.Header["typ"] != "at+jwt" || parsed.Header["kid"] == nil {
			t.Errorf("the header is %v", parsed.Header)
		}
		claims := parsed.Claims.(jwt.MapClaims)
		for _, name := range []string{"iss", "aud", "sub", "partner", "scope", "iat", "nbf", "exp", "jti", "person"} {
			if claims[name] == nil {
				t.Errorf("no %s in %v", name, claims)
			}
		}
		again, _, err := s.Sign(Claims{Partner: "bazaar", Subject: "dash", TTL: time.Minute})
		if err != nil || again == token {
			t.Errorf("a second token is the first one, %v", err)
		}
		if wantAccepted(t, v, again).IsSubject() {
			t.Error("a token without a person is a subject token")
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	cfg := configuration(t, allKeys())
	cfg.Auth.SigningKeyFile = filepath.Join(t.TempDir(), "signing.pem")
	writeFile(t, cfg.Auth.SigningKeyFile, privatePEM(t, edKey()))
	s := newSigner(t, cfg, newClock())
	fine := Claims{Partner: "acme", Subject: "s", TTL: time.Minute}
	for says, spoil := range map[string]func(*Claims){
		"partner": func(c *Claims) { c.Partner = "evil" },
		"subject": func(c *Claims) { c.Subject = "" },
		"person":  func(c *Claims) { c.Person = "per_1" },
		"live":    func(c *Claims) { c.TTL = 0 },
	} {
		c := fine
		spoil(&c)
		if token, _, err := s.Sign(c); err == nil || token != "" || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error about the %s", err, says)
		}
	}
	if _, _, err := s.Sign(fine); err != nil {
		t.Error(err)
	}
}

func TestNewSignerRefuses(t *testing.T) {
	t.Parallel()
	base := func() config.Config {
		cfg := configuration(t, allKeys())
		cfg.Auth.SigningKeyFile = filepath.Join(t.TempDir(), "signing.pem")
		writeFile(t, cfg.Auth.SigningKeyFile, privatePEM(t, edKey()))
		return cfg
	}
	for name, tt := range map[string]struct {
		setting string
		spoil   func(*config.Config)
	}{
		"none":        {"auth.signing_key_file", func(c *config.Config) { c.Auth.SigningKeyFile = "" }},
		"missing":     {"auth.signing_key_file", func(c *config.Config) { c.Auth.SigningKeyFile += ".none" }},
		"no key":      {"auth.signing_key_file", func(c *config.Config) { c.Auth.SigningKeyFile = c.Auth.JWKSFile }},
		"foreign key": {"auth.signing_key_file", func(c *config.Config) { writeFile(t, c.Auth.SigningKeyFile, privatePEM(t, edKey2())) }},
		"token types": {"auth.token_types", func(c *config.Config) { c.Auth.TokenTypes = []string{"JWT"} }},
	} {
		cfg := base()
		tt.spoil(&cfg)
		_, err := NewSigner(cfg)
		var wrong *config.Error
		if !errors.As(err, &wrong) || wrong.Problems[0].Setting != tt.setting {
			t.Errorf("%s: got %v, want a problem of %s", name, err, tt.setting)
		}
	}
	if _, err := NewSigner(base()); err != nil {
		t.Error(err)
	}
}

// TestSignerOverTheNetwork: the kid comes from the issuer's key set where that is not a file.
func TestSignerOverTheNetwork(t *testing.T) {
	t.Parallel()
	clock := newClock()
	issuer := newIssuer(t, allKeys())
	cfg := urlConfiguration(t, issuer)
	cfg.Auth.SigningKeyFile = filepath.Join(t.TempDir(), "signing.pem")
	writeFile(t, cfg.Auth.SigningKeyFile, privatePEM(t, ecKey()))
	token, _, err := newSigner(t, cfg, clock).Sign(Claims{Partner: "acme", Subject: "s", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, newVerifier(t, cfg, clock), token)
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	jwksFile, signingFile, err := GenerateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := make(map[string]string)
	for _, file := range []string{jwksFile, signingFile} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", file, mode)
		}
		before[file] = readText(t, file)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}

	clock := newClock()
	cfg := configuration(t, allKeys())
	cfg.Environment = config.Sandbox
	cfg.Auth.JWKSFile, cfg.Auth.SigningKeyFile = jwksFile, signingFile
	token, _, err := newSigner(t, cfg, clock).Sign(Claims{Partner: "acme", Subject: "s", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, newVerifier(t, cfg, clock), token)
	cfg.Environment = config.Production
	if _, err := New(cfg, clock.Now, nil); err == nil {
		t.Error("production takes a sandbox key")
	}

	if _, _, err := GenerateKey(dir); err != nil {
		t.Fatal(err)
	}
	for file, text := range before {
		if readText(t, file) != text {
			t.Errorf("%s was written again", file)
		}
	}

	// A lost key set is made again, one that does not fit is not overwritten.
	if err := os.Remove(jwksFile); err != nil {
		t.Fatal(err)
	}
	if _, _, err := GenerateKey(dir); err != nil || readText(t, jwksFile) != before[jwksFile] {
		t.Errorf("the key set was not made again: %v", err)
	}
	if err := os.Remove(signingFile); err != nil {
		t.Fatal(err)
	}
	if _, _, err := GenerateKey(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a key set without its key gives %v", err)
	}
	writeFile(t, signingFile, []byte("hunter2"))
	if _, _, err := GenerateKey(dir); err == nil || !strings.Contains(err.Error(), "remove it") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a broken key gives %v", err)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFromRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []string
		want   string
	}{
		{[]string{"Bearer abc.DEF-_~+/="}, "abc.DEF-_~+/="},
		{[]string{"bearer abc"}, "abc"},
		{[]string{"BEARER   abc"}, "abc"},
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{"Bearer abc def"}, ""},
		{[]string{"Bearer abc "}, ""},
		{[]string{"Bearer abc, Bearer def"}, ""},
		{[]string{"Bearer\tabc"}, ""},
		{[]string{"Bearerabc"}, ""},
		{[]string{" Bearer abc"}, ""},
		{[]string{"Basic abc"}, ""},
		{[]string{"DPoP abc"}, ""},
		{[]string{"Bearer äbc"}, ""},
		{[]string{"Bearer abc\x00"}, ""},
		{[]string{"Bearer abc", "Bearer abc"}, ""},
		{[]string{"Bearer abc", "Basic def"}, ""},
	} {
		r := &http.Request{Header: http.Header{"Authorization": tt.values}}
		token, ok := FromRequest(r)
		if token != tt.want || ok != (tt.want != "") {
			t.Errorf("%q gives %q, %v", tt.values, token, ok)
		}
	}
}

// TestSandboxPrefix: what GenerateKey writes is what production looks for.
func TestSandboxPrefix(t *testing.T) {
	t.Parallel()
	jwksFile, _, err := GenerateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	set, err := keys.ParseSet([]byte(readText(t, jwksFile)))
	if err != nil || len(set) != 1 || !strings.HasPrefix(set[0].ID, keys.SandboxPrefix) {
		t.Errorf("got %+v, %v", set, err)
	}
}
