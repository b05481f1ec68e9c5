package auth

import (
	"crypto"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
)

// issuerServer serves a key set that a test can change.
type issuerServer struct {
	*httptest.Server
	mu      sync.Mutex
	body    []byte
	status  int
	fetches atomic.Int64
	hold    chan struct{} // if set, answers wait for it
}

func newIssuer(t testing.TB, public map[string]crypto.PublicKey) *issuerServer {
	t.Helper()
	s := &issuerServer{body: jwks(t, public), status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		s.mu.Lock()
		body, status, hold := s.body, s.status, s.hold
		s.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *issuerServer) set(status int, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

func urlConfiguration(t testing.TB, s *issuerServer) config.Config {
	t.Helper()
	cfg := configuration(t, allKeys())
	cfg.Auth.JWKSFile, cfg.Auth.JWKSURL = "", s.URL
	return cfg
}

// settle waits for a renewal in the background, if there is one.
func settle(v *Verifier) {
	v.ring.mu.Lock()
	running := v.ring.running
	v.ring.mu.Unlock()
	if running != nil {
		<-running
	}
}

// TestRotation is J21: a new key is found when a token names it, and a removed key is refused after the
// next renewal although its tokens were cached.
func TestRotation(t *testing.T) {
	t.Parallel()
	clock := newClock()
	issuer := newIssuer(t, map[string]crypto.PublicKey{"old": edKey().Public()})
	v := newVerifier(t, urlConfiguration(t, issuer), clock)
	header, claims := good(clock.Now())
	header["kid"] = "old"
	oldToken := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	header["kid"] = "new"
	newToken := sign(t, jwt.SigningMethodEdDSA, edKey2(), header, claims)
	wantAccepted(t, v, oldToken)

	// Before the overlap, and less than a minute after the last fetch.
	wantRefused(t, v, newToken, unknownKey)
	if n := issuer.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want the one at start", n)
	}

	// Inside the overlap both are good.
	issuer.set(http.StatusOK, jwks(t, map[string]crypto.PublicKey{"old": edKey().Public(), "new": edKey2().Public()}))
	clock.advance(unknownKidEvery)
	wantAccepted(t, v, newToken)
	wantAccepted(t, v, oldToken)
	if n := issuer.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}

	// After it the old key is gone, also for the token that was cached. The fetch is due, but nobody waits.
	issuer.set(http.StatusOK, jwks(t, map[string]crypto.PublicKey{"new": edKey2().Public()}))
	clock.advance(urlEvery)
	_, _, _ = v.Verify(t.Context(), oldToken)
	settle(v)
	wantRefused(t, v, oldToken, unknownKey)
	wantAccepted(t, v, newToken)
	if n := issuer.fetches.Load(); n != 3 {
		t.Errorf("%d fetches, want 3", n)
	}
}

// TestUnknownKidsAreNoAmplifier: any number of made-up kids is one fetch a minute.
func TestUnknownKidsAreNoAmplifier(t *testing.T) {
	t.Parallel()
	clock := newClock()
	issuer := newIssuer(t, allKeys())
	v := newVerifier(t, urlConfiguration(t, issuer), clock)
	header, claims := good(clock.Now())
	token := func(kid string) string {
		h := map[string]any{"typ": "at+jwt", "kid": kid}
		return sign(t, jwt.SigningMethodEdDSA, edKey2(), h, claims)
	}
	good := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	for minute := range 3 {
		for _, kid := range []string{"a", "b", "../../dev/null", issuer.URL + "/evil"} {
			wantRefused(t, v, token(kid), unknownKey)
		}
		if n := issuer.fetches.Load(); n != int64(minute+1) {
			t.Errorf("%d fetches after %d minutes", n, minute)
		}
		clock.advance(unknownKidEvery)
	}
	wantAccepted(t, v, good)
}

// TestSingleFlight: those who wait for a fetch wait for the same one, and who needs none does not wait.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	clock := newClock()
	issuer := newIssuer(t, allKeys())
	v := newVerifier(t, urlConfiguration(t, issuer), clock)
	header, claims := good(clock.Now())
	known := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	header["kid"] = "new"
	rotated := sign(t, jwt.SigningMethodEdDSA, edKey2(), header, claims)

	release := make(chan struct{})
	issuer.mu.Lock()
	issuer.hold = release
	issuer.mu.Unlock()
	all := allKeys()
	all["new"] = edKey2().Public()
	issuer.set(http.StatusOK, jwks(t, all))
	clock.advance(unknownKidEvery)

	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() {
			if _, _, err := v.Verify(t.Context(), rotated); err != nil {
				t.Errorf("refused for %q", Reason(err))
			}
		})
	}
	wantAccepted(t, v, known)
	close(release)
	waiting.Wait()
	if n := issuer.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

func TestFailedRenewalKeepsTheKeys(t *testing.T) {
	t.Parallel()
	oct := []byte(`{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`)
	for name, tt := range map[string]struct {
		status int
		body   []byte
	}{
		"error":        {http.StatusInternalServerError, nil},
		"not found":    {http.StatusNotFound, []byte("{}")},
		"no json":      {http.StatusOK, []byte("<html>")},
		"no keys":      {http.StatusOK, []byte(`{"keys":[]}`)},
		"a secret":     {http.StatusOK, oct},
		"sandbox key":  {http.StatusOK, jwks(t, map[string]crypto.PublicKey{keys.SandboxPrefix + "1": edKey().Public()})},
		"endless body": {http.StatusOK, []byte(strings.Repeat(" ", 10*keys.MaxSize))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			issuer := newIssuer(t, allKeys())
			v := newVerifier(t, urlConfiguration(t, issuer), clock)
			header, claims := good(clock.Now())
			token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
			issuer.set(tt.status, tt.body)
			clock.advance(urlEvery)
			wantAccepted(t, v, token)
			settle(v)
			wantAccepted(t, v, token)
			err := v.KeysError()
			if err == nil || !strings.Contains(err.Error(), "auth.jwks_url") || strings.Contains(err.Error(), "aHVudGVyMg") {
				t.Errorf("KeysError() = %v", err)
			}
			issuer.set(http.StatusOK, jwks(t, allKeys()))
			clock.advance(urlEvery)
			wantAccepted(t, v, token)
			settle(v)
			if err := v.KeysError(); err != nil {
				t.Errorf("KeysError() = %v after a good renewal", err)
			}
		})
	}
}

func TestStartWithoutKeys(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t, allKeys())
	cfg := urlConfiguration(t, issuer)

	var wrong *config.Error
	issuer.set(http.StatusServiceUnavailable, nil)
	if _, err := New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "auth.jwks_url") || errors.As(err, &wrong) {
		t.Errorf("an issuer that is down gives %v, which is no mistake of the configuration", err)
	}
	issuer.set(http.StatusOK, []byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	if _, err := New(cfg, nil, nil); !errors.As(err, &wrong) || wrong.Problems[0].Setting != "auth.jwks_url" {
		t.Errorf("a shared secret gives %v", err)
	}
	issuer.Close()
	if _, err := New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "auth.jwks_url: cannot be fetched") {
		t.Errorf("an issuer that is gone gives %v", err)
	}
	cfg = configuration(t, allKeys())
	cfg.Auth.JWKSFile += ".none"
	if _, err := New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "auth.jwks_file") {
		t.Errorf("a missing file gives %v", err)
	}
}

// TestRedirects: an https key set is never read over plain http.
func TestRedirects(t *testing.T) {
	t.Parallel()
	plain := newIssuer(t, allKeys())
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(secure.Close)
	cfg := configuration(t, allKeys())
	cfg.Auth.JWKSFile, cfg.Auth.JWKSURL = "", secure.URL
	if _, err := New(cfg, nil, secure.Client()); err == nil || !strings.Contains(err.Error(), "redirected") {
		t.Errorf("got %v", err)
	}
	if n := plain.fetches.Load(); n != 0 {
		t.Errorf("the plain address was asked %d times", n)
	}

	var loop *httptest.Server
	loop = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, loop.URL, http.StatusFound)
	}))
	t.Cleanup(loop.Close)
	cfg.Auth.JWKSURL = loop.URL
	if _, err := New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "too many redirects") {
		t.Errorf("got %v", err)
	}
}

// TestFileRotation is J20: a key that is taken out of the file is refused within five seconds.
func TestFileRotation(t *testing.T) {
	t.Parallel()
	clock := newClock()
	cfg := configuration(t, map[string]crypto.PublicKey{"ed": edKey().Public(), "ed2": edKey2().Public()})
	v := newVerifier(t, cfg, clock)
	header, claims := good(clock.Now())
	revoked := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	header["kid"] = "ed2"
	kept := sign(t, jwt.SigningMethodEdDSA, edKey2(), header, claims)
	wantAccepted(t, v, revoked)
	wantAccepted(t, v, kept)

	writeFile(t, cfg.Auth.JWKSFile, jwks(t, map[string]crypto.PublicKey{"ed2": edKey2().Public()}))
	clock.advance(5 * time.Second)
	wantRefused(t, v, revoked, unknownKey)
	wantAccepted(t, v, kept)

	// A file that is being written is no reason to refuse everybody.
	writeFile(t, cfg.Auth.JWKSFile, []byte(`{"keys":[`))
	clock.advance(5 * time.Second)
	wantAccepted(t, v, kept)
	if err := v.KeysError(); err == nil || !strings.Contains(err.Error(), "auth.jwks_file") {
		t.Errorf("KeysError() = %v", err)
	}
}

// TestClose: a fetch that hangs does not keep the process.
func TestClose(t *testing.T) {
	t.Parallel()
	clock := newClock()
	issuer := newIssuer(t, allKeys())
	v := newVerifier(t, urlConfiguration(t, issuer), clock)
	header, claims := good(clock.Now())
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	issuer.mu.Lock()
	issuer.hold = make(chan struct{})
	issuer.mu.Unlock()
	clock.advance(urlEvery)
	wantAccepted(t, v, token)
	v.Close()
	clock.advance(urlEvery)
	claims["exp"] = clock.Now().Add(time.Hour).Unix()
	wantAccepted(t, v, sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims))
}
