package finhub_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func admin(now func() time.Time) finhub.Config {
	return finhub.Config{Now: now, Admin: &finhub.Admin{
		OrganizationID: "org-1", UserID: "admin-1", Username: "root@finsei.example", Password: secret("canary-admin-password"),
		TenantKey: secret("canary-key"), TenantSecret: secret("canary-secret"),
	}}
}

// upstream is a FinHub that opens sessions and takes the token of the newest.
type upstream struct {
	t        *testing.T
	sessions atomic.Int32
	body     func(n int32) string // of the n-th session's answer
	status   atomic.Int32         // of a session, 0 for 200
	revoked  atomic.Bool          // the next call's token is refused
	calls    atomic.Int32
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/sessions") {
		n := u.sessions.Add(1)
		var body map[string]string
		_ = json.NewDecoder(r.Body).Decode(&body)
		if r.URL.Path != "/api/v2.1/admin/organization/org-1/users/admin-1/sessions" || r.Header.Get("X-Tenant-ID") == "" || r.Header.Get("Authorization") != "" ||
			body["username"] != "root@finsei.example" || body["password"] != "canary-admin-password" || body["tenantKey"] != "canary-key" || body["tenantSecret"] != "canary-secret" {
			u.t.Errorf("session asked as %s %v with %v", r.URL, r.Header, len(body))
		}
		if s := u.status.Load(); s != 0 {
			w.WriteHeader(int(s))
			return
		}
		_, _ = io.WriteString(w, u.body(n))
		return
	}
	u.calls.Add(1)
	if want := fmt.Sprintf("Bearer token-%d", u.sessions.Load()); r.Header.Get("Authorization") != want && !strings.Contains(r.Header.Get("Authorization"), ".") || u.revoked.Swap(false) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"data":{"canActivate":true}}`)
}

func plainSession(n int32) string {
	return fmt.Sprintf(`{"code":200,"message":"Success","data":{"sessionId":"s","userId":"admin-1","token":"token-%d","refreshToken":"r","success":true,"expiresIn":3600}}`, n)
}

func check(t *testing.T, p kyc.Provider, tenant kyc.Tenant) error {
	t.Helper()
	_, err := p.CheckActivation(t.Context(), kyc.CustomerReference{Tenant: tenant, CustomerID: "cust_1"})
	return err
}

func TestSessionsAreOpenedOnceATenantAndRenewed(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	u := &upstream{t: t, body: plainSession}
	p := serve(t, admin(c.Now), u.ServeHTTP)
	steps := []struct {
		what     string
		do       func()
		tenant   kyc.Tenant
		sessions int32
		calls    int32
	}{
		{"first", func() {}, "a", 1, 1},
		{"again", func() {}, "a", 1, 2},
		{"59 minutes", func() { c.advance(58*time.Minute + 59*time.Second) }, "a", 1, 3},
		{"its last minute", func() { c.advance(time.Second) }, "a", 2, 4},
		{"another tenant", func() {}, "b", 3, 5},
		{"refused: renewed once", func() { u.revoked.Store(true) }, "b", 4, 7},
	}
	for _, s := range steps {
		s.do()
		if err := check(t, p, s.tenant); err != nil || u.sessions.Load() != s.sessions || u.calls.Load() != s.calls {
			t.Errorf("%s: %v, %d sessions, %d calls, want %d and %d", s.what, err, u.sessions.Load(), u.calls.Load(), s.sessions, s.calls)
		}
	}
}

// A token that is refused, renewed and refused again is the operator's.
func TestSecondRefusalIsCredentials(t *testing.T) {
	t.Parallel()
	u := &upstream{t: t, body: func(int32) string { return `{"token":"another"}` }}
	p := serve(t, admin(time.Now), u.ServeHTTP)
	if err := check(t, p, "a"); kyc.KindOf(err) != kyc.Credentials || u.sessions.Load() != 2 || u.calls.Load() != 2 {
		t.Errorf("%v, %d sessions, %d calls", err, u.sessions.Load(), u.calls.Load())
	}
}

// Many callers, one session.
func TestSessionIsASingleFlight(t *testing.T) {
	t.Parallel()
	u := &upstream{t: t, body: plainSession}
	p := serve(t, admin(time.Now), u.ServeHTTP)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if err := check(t, p, "a"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := u.sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// Five wrong passwords lock the account for half an hour (dossier B4): a refused one is held back.
func TestRefusedSessionIsHeldBack(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	u := &upstream{t: t, body: plainSession}
	p := serve(t, admin(c.Now), u.ServeHTTP)
	u.status.Store(http.StatusUnauthorized)
	for i := range 60 { // a minute of asking every second
		if err := check(t, p, "a"); kyc.KindOf(err) != kyc.Credentials || strings.Contains(err.Error(), "canary") {
			t.Fatalf("second %d: %v", i, err)
		}
		c.advance(time.Second)
	}
	if n := u.sessions.Load(); n != 3 || u.calls.Load() != 0 {
		t.Errorf("%d attempts in a minute, want 3 (at 0, 15 and 45 s); %d calls", n, u.calls.Load())
	}
	u.status.Store(0)
	c.advance(time.Minute)
	if err := check(t, p, "a"); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// A session that does not come is not the call's end: nothing of that has left.
func TestSessionFailuresLeaveNothing(t *testing.T) {
	t.Parallel()
	for status, want := range map[int32]kyc.Kind{
		500: kyc.Unavailable, 503: kyc.Unavailable, 408: kyc.Unavailable, 302: kyc.Unavailable, 429: kyc.RateLimited,
		400: kyc.Credentials, 401: kyc.Credentials, 403: kyc.Credentials, 404: kyc.Credentials, 409: kyc.Credentials, 422: kyc.Credentials,
	} {
		u := &upstream{t: t, body: plainSession}
		u.status.Store(status)
		p := serve(t, admin(time.Now), u.ServeHTTP)
		if err := check(t, p, "a"); kyc.KindOf(err) != want || u.calls.Load() != 0 {
			t.Errorf("%d: %v, want %s; %d calls", status, err, want, u.calls.Load())
		}
	}
	for body, want := range map[string]kyc.Kind{
		`{"data":{"success":false,"errorType":"AUTHENTICATION"}}`: kyc.Credentials, `{"code":401,"message":"Account locked"}`: kyc.Credentials,
		`{}`: kyc.Unavailable, `{"token":""}`: kyc.Unavailable, `{"token":"a\nb"}`: kyc.Unavailable, `<html>`: kyc.Unavailable,
	} {
		u := &upstream{t: t, body: func(int32) string { return body }}
		p := serve(t, admin(time.Now), u.ServeHTTP)
		if err := check(t, p, "a"); kyc.KindOf(err) != want || u.calls.Load() != 0 {
			t.Errorf("%s: %v, want %s; %d calls", body, err, want, u.calls.Load())
		}
	}
	hung := make(chan struct{})
	p := serve(t, admin(time.Now), func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that its client left
		close(hung)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hung
		cancel()
	}()
	if _, err := p.CheckActivation(ctx, kyc.CustomerReference{Tenant: "a", CustomerID: "c"}); kyc.KindOf(err) != kyc.Unavailable {
		t.Errorf("our caller went away: %v", err)
	}
}

// The end of a session is the earliest of what is said about it: in FinHub's example they differ by a day.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	jwt := func(exp time.Time) string {
		enc := base64.RawURLEncoding.EncodeToString
		return enc([]byte(`{"alg":"HS256"}`)) + "." + enc(fmt.Appendf(nil, `{"exp":%d}`, exp.Unix())) + ".x"
	}
	for name, tt := range map[string]struct {
		body string
		life time.Duration
	}{
		"JWT of an hour, expiresAt of a day": {`{"token":"` + jwt(start.Add(time.Hour)) + `","expiresAt":"2026-11-26T12:00:00Z"}`, time.Hour},
		"expiresAt":                          {`{"token":"a.b","expiresAt":"2026-11-25T12:10:00Z"}`, 10 * time.Minute},
		"expiresAt without a zone":           {`{"token":"a.b","expiresAt":"2026-11-25T12:10:00.123"}`, 10 * time.Minute},
		"expiresAt in milliseconds":          {fmt.Sprintf(`{"token":"a.b","expiresAt":%d}`, start.Add(20*time.Minute).UnixMilli()), 20 * time.Minute},
		"nothing":                            {`{"token":"a.b"}`, 25 * time.Minute},
		"nonsense":                           {`{"token":"a.b.c","expiresAt":"soon","expiresIn":-5}`, 25 * time.Minute},
		"the past":                           {`{"token":"a.b","expiresAt":"2020-01-01T00:00:00Z"}`, 25 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clock{now: start}
			u := &upstream{t: t, body: func(int32) string { return tt.body }}
			p := serve(t, admin(c.Now), u.ServeHTTP)
			for _, at := range []struct {
				after    time.Duration
				sessions int32
			}{{0, 1}, {tt.life - time.Minute - time.Second, 1}, {2 * time.Second, 2}} {
				c.advance(at.after)
				if err := check(t, p, "a"); err != nil || u.sessions.Load() != at.sessions {
					t.Errorf("after %v: %v, %d sessions, want %d", c.Now().Sub(start), err, u.sessions.Load(), at.sessions)
				}
			}
		})
	}
}
