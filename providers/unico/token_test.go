package unico_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// identity is a token host that answers what the test says, and keeps the assertions.
type identity struct {
	mu         sync.Mutex
	assertions []string
	answer     func(n int) (int, string)
	url        string
}

func newIdentity(t *testing.T, answer func(n int) (int, string)) *identity {
	t.Helper()
	i := &identity{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, err := url.ParseQuery(string(body))
		if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Method != "POST" {
			t.Errorf("the request for a token: %s %v", r.Method, r.Header)
		}
		i.mu.Lock()
		i.assertions = append(i.assertions, form.Get("assertion"))
		status, text := i.answer(len(i.assertions))
		i.mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	i.url = server.URL + "/oauth2/token"
	return i
}

func (i *identity) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.assertions)
}

func good(n int) (int, string) {
	return 200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","expires_in":"3600"}`, n)
}

func refused(number string) (int, string) {
	return 401, `{"error":"server_error","error_description":"Falha na autenticação ` + number + `"}`
}

// api is an upstream that answers by the token it is shown.
func api(t *testing.T, answer func(token string) (int, string)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		status, body := answer(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const live = `{"id":"` + processID + `","status":3,"liveness":1}`

// A thousand calls that all need a token ask for one once.
func TestTokenIsFetchedOnce(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	host := newIdentity(t, func(n int) (int, string) { <-gate; return good(n) })
	p := newProvider(t, config(api(t, func(string) (int, string) { return 200, live }), host.url))
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 1000 {
		wg.Go(func() {
			if _, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err != nil {
				failed.Add(1)
			}
		})
	}
	close(gate)
	wg.Wait()
	if host.count() != 1 || failed.Load() != 0 {
		t.Errorf("%d requests for a token, %d calls failed", host.count(), failed.Load())
	}
}

func TestAssertion(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	host := newIdentity(t, func(n int) (int, string) {
		if n < 3 {
			return refused("1.2.7") // used already: a new one, at once
		}
		return good(n)
	})
	c := config(api(t, func(string) (int, string) { return 200, live }), host.url)
	c.Audience, c.Now = "https://identity.acesso.io/", func() time.Time { return now }
	if _, err := newProvider(t, c).FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, assertion := range host.assertions {
		seen[assertion] = true
		parts := strings.Split(assertion, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		if err != nil || string(header) != `{"alg":"RS256","typ":"JWT"}` {
			t.Errorf("header %s, %v", header, err)
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		var claims map[string]any
		if err != nil || json.Unmarshal(payload, &claims) != nil {
			t.Fatalf("payload %s, %v", payload, err)
		}
		if names := slices.Sorted(maps.Keys(claims)); !slices.Equal(names, []string{"aud", "exp", "iat", "iss", "scope"}) {
			t.Errorf("claims %v: others are refused (1.2.22)", names)
		}
		iat, exp := claims["iat"].(float64), claims["exp"].(float64)
		if claims["iss"] != "acme@t-1.iam.acesso.io" || claims["aud"] != "https://identity.acesso.io" || claims["scope"] != "*" || int64(iat) != now.Unix() || exp-iat > 3600 || exp-iat < 3000 {
			t.Errorf("claims %v", claims)
		}
	}
	if len(host.assertions) != 3 || len(seen) != 3 {
		t.Errorf("%d assertions, %d different: those of one second must differ", len(host.assertions), len(seen))
	}
}

// A token is renewed ten minutes before its end, while others go on with it; and a failed renewal harms nobody.
func TestTokenRenewal(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	host := newIdentity(t, func(n int) (int, string) {
		if n == 2 {
			return 503, ""
		}
		return good(n)
	})
	var tokens []string
	c := config(api(t, func(token string) (int, string) { tokens = append(tokens, token); return 200, live }), host.url)
	c.Now = func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
	p := newProvider(t, c)
	call := func(at time.Duration, requests int) {
		t.Helper()
		clock.Store(int64(at / time.Second))
		if _, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); host.count() != requests; {
			if time.Now().After(deadline) {
				t.Fatalf("after %v: %d requests for a token, want %d", at, host.count(), requests)
			}
		}
	}
	call(0, 1)
	call(49*time.Minute, 1)
	call(50*time.Minute, 2)             // fails; the old one goes on
	call(50*time.Minute+time.Second, 2) // not asked again at once
	call(51*time.Minute, 3)             // and now it works
	for deadline := time.Now().Add(10 * time.Second); tokens[len(tokens)-1] != "token-3"; {
		if time.Now().After(deadline) {
			t.Fatalf("the new token is not used: %v", tokens)
		}
		call(51*time.Minute+30*time.Second, 3)
	}
	if tokens[2] != "token-1" {
		t.Errorf("tokens %v: the old one must do while a renewal fails", tokens)
	}
}

// A token that lives for less than twenty minutes is used for half of its life, not for one call.
func TestShortTokens(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	host := newIdentity(t, func(n int) (int, string) { return 200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":300}`, n) })
	c := config(api(t, func(string) (int, string) { return 200, live }), host.url)
	c.Now = func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
	p := newProvider(t, c)
	for _, tt := range []struct{ at, tokens int }{{0, 1}, {1, 1}, {149, 1}, {150, 2}} {
		clock.Store(int64(tt.at))
		for range 5 {
			if _, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); host.count() < tt.tokens && time.Now().Before(deadline); {
			runtime.Gosched() // a renewal goes on beside the calls
		}
		if host.count() != tt.tokens {
			t.Errorf("after %d s: %d tokens, want %d", tt.at, host.count(), tt.tokens)
		}
	}
}

// What the guard asks for before a call is what the call needs, and an ended context ends the wait.
func TestPrepare(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	host := newIdentity(t, func(n int) (int, string) { <-gate; return good(n) })
	p := newProvider(t, config(api(t, func(string) (int, string) { return 200, live }), host.url))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Prepare(ctx)
	close(gate)
	p.Prepare(t.Context())
	if _, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err != nil || host.count() != 1 {
		t.Errorf("%v after %d requests for a token", err, host.count())
	}
}

// A token host that hangs is given up after the provider's own timeout, and then told of without asking again.
func TestTokenTimeout(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	var asked atomic.Int64
	host := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-hang:
		}
	}))
	t.Cleanup(host.Close)
	t.Cleanup(func() { close(hang) })
	c := config(api(t, func(string) (int, string) { t.Error("a call left without a token"); return 200, live }), host.URL)
	c.Timeout = 50 * time.Millisecond
	p := newProvider(t, c)
	start := time.Now()
	for range 2 {
		_, err := p.CreateProcess(t.Context(), request(kyc.KindLiveness))
		if kyc.KindOf(err) != kyc.Unavailable || asked.Load() != 1 {
			t.Errorf("%v after %d requests", err, asked.Load())
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A call whose token is refused is made once more with a new one, and not a third time.
func TestTokenRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		tokens int // asked for
	}{
		"401":                    {401, ``, 2},
		"expired":                {403, `{"error":{"code":"10502","description":"O token informado está expirado."}}`, 2},
		"invalid":                {403, `{"error":{"code":10501}}`, 2},
		"malformed":              {403, `{"error":{"code":"30017"}}`, 2},
		"the APIKEY":             {403, `{"error":{"code":"10201"}}`, 1},
		"the APIKEY, as a 401":   {401, `{"error":{"code":10201}}`, 1},
		"403 without any number": {403, ``, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, cured := range []bool{true, false} {
				host := newIdentity(t, good)
				var calls atomic.Int64
				p := newProvider(t, config(api(t, func(token string) (int, string) {
					calls.Add(1)
					if cured && token == "token-2" {
						return 200, live
					}
					return tt.status, tt.body
				}), host.url))
				_, err := p.CreateProcess(t.Context(), request(kyc.KindLiveness))
				want := cured && tt.tokens == 2
				if want && err != nil || !want && kyc.KindOf(err) != kyc.Credentials {
					t.Errorf("cured %t: %v", cured, err)
				}
				if host.count() != tt.tokens || int(calls.Load()) != tt.tokens {
					t.Errorf("cured %t: %d tokens, %d calls, want %d", cured, host.count(), calls.Load(), tt.tokens)
				}
			}
		})
	}
}

// A creation that may have been taken is not sent again, whatever number its answer carries; a read is.
func TestTokenRefusedByAnAmbiguousAnswer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{302, 408, 429, 500, 502, 503, 504} {
		for _, number := range []string{"10501", "10502", "20001", "30017"} {
			host := newIdentity(t, good)
			var calls atomic.Int64
			p := newProvider(t, config(api(t, func(string) (int, string) {
				calls.Add(1)
				return status, `{"error":{"code":"` + number + `"}}`
			}), host.url))
			_, err := p.CreateProcess(t.Context(), request(kyc.KindLiveness))
			want := kyc.Ambiguous
			if status == 429 {
				want = kyc.RateLimited
			}
			if kyc.KindOf(err) != want || calls.Load() != 1 || host.count() != 1 {
				t.Errorf("%d with %s: %v after %d calls and %d tokens", status, number, err, calls.Load(), host.count())
			}
			if _, err = p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID}); err == nil || calls.Load() != 3 || host.count() != 2 {
				t.Errorf("a read, %d with %s: %v after %d calls and %d tokens", status, number, err, calls.Load(), host.count())
			}
		}
	}
}

// The numbers of the token host, told apart; and an account is not locked by asking on.
func TestTokenErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		kind   kyc.Kind
		code   string
		min    time.Duration // before it is asked again
	}{
		"wrong tenant":    {401, `{"error":"server_error","error_description":"Falha na autenticação 1.0.1"}`, kyc.Credentials, "1.0.1", time.Second},
		"English":         {401, `{"error":"server_error","error_description":"Authentication failed (1.2.21)"}`, kyc.Credentials, "1.2.21", time.Second},
		"locked":          {401, `{"error":"server_error","error_description":"Falha na autenticação 1.2.18"}`, kyc.Credentials, "1.2.18", 14 * time.Minute},
		"clock":           {401, `{"error_description":"Falha na autenticação 1.2.4"}`, kyc.Credentials, "1.2.4", time.Second},
		"used every time": {401, `{"error_description":"Falha na autenticação 1.2.7"}`, kyc.Credentials, "1.2.7", time.Second},
		"400":             {400, `{"error":"invalid_grant"}`, kyc.Credentials, "HTTP_400", time.Second},
		"404":             {404, ``, kyc.NotFound, "", 0},
		"down":            {503, `x`, kyc.Unavailable, "HTTP_503", time.Second},
		"unreadable":      {200, `<html>`, kyc.Unavailable, "bad_answer", time.Second},
		"no token":        {200, `{"access_token":""}`, kyc.Unavailable, "bad_answer", time.Second},
		"too many":        {429, ``, kyc.RateLimited, "HTTP_429", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newIdentity(t, func(int) (int, string) { return tt.status, tt.body })
			p := newProvider(t, config(api(t, func(string) (int, string) { t.Error("a call left without a token"); return 200, live }), host.url))
			_, err := p.CreateProcess(t.Context(), request(kyc.KindLiveness))
			if tt.kind == kyc.NotFound {
				tt.kind, tt.code, tt.min = kyc.Credentials, "HTTP_404", time.Second
			}
			if kyc.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.code) {
				t.Errorf("%v, want %s %s", err, tt.kind, tt.code)
			}
			asked := host.count()
			for range 50 {
				_, err = p.CreateProcess(t.Context(), request(kyc.KindLiveness))
			}
			if host.count() != asked || kyc.KindOf(err) != tt.kind || kyc.RetryAfter(err) < tt.min {
				t.Errorf("asked %d times more; %v, to be tried in %v", host.count()-asked, err, kyc.RetryAfter(err))
			}
		})
	}
}
