package finhub

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Times of admin sessions, ours where the dossier has none.
const (
	// sessionLife is believed of a session that does not say when it ends. The shortest documented is 30 minutes
	// (dossier B12).
	sessionLife = 25 * time.Minute
	// sessionMargin is how long before its end a session is renewed.
	sessionMargin = time.Minute
	// A refused password is not tried again at once: five in a row lock the account for half an hour (dossier B4).
	firstSessionHold = 15 * time.Second
	maxSessionHold   = 10 * time.Minute
)

// sessions are the admin sessions, one a tenant, opened when they are needed and by one caller at a time.
type sessions struct {
	now  func() time.Time
	open func(context.Context, kyc.Tenant) (token string, ends time.Time, err error)

	mu       sync.Mutex
	byTenant map[kyc.Tenant]*session
}

type session struct {
	turn chan struct{} // held while the fields below are used, over a call too: a single flight

	token   string
	ends    time.Time
	refusal error // of the last attempt, if the credentials were refused
	refused int   // times in a row
	holdTo  time.Time
}

func newSessions(now func() time.Time, open func(context.Context, kyc.Tenant) (string, time.Time, error)) *sessions {
	return &sessions{now: now, open: open, byTenant: make(map[kyc.Tenant]*session)}
}

// token gives the tenant's token. refused is one that the upstream did not take any more, "" for none; whoever comes
// second with it gets the one that the first has fetched.
func (s *sessions) token(ctx context.Context, op string, tenant kyc.Tenant, refused string) (string, error) {
	s.mu.Lock()
	one := s.byTenant[tenant]
	if one == nil {
		one = &session{turn: make(chan struct{}, 1)}
		s.byTenant[tenant] = one
	}
	s.mu.Unlock()

	select {
	case one.turn <- struct{}{}:
		defer func() { <-one.turn }()
	case <-ctx.Done():
		return "", &kyc.Error{Kind: kyc.Unavailable, Op: op, Code: codeOf(ctx.Err()), Err: ctx.Err()}
	}
	now := s.now()
	if one.token != "" && one.token != refused && now.Before(one.ends) {
		return one.token, nil
	}
	one.token = ""
	if now.Before(one.holdTo) {
		return "", one.refusal
	}
	token, ends, err := s.open(ctx, tenant)
	if err == nil {
		one.token, one.ends, one.refused = token, ends.Add(-sessionMargin), 0
		return token, nil
	}
	err = sessionError(op, err)
	if kyc.KindOf(err) == kyc.Credentials {
		hold := min(firstSessionHold<<min(one.refused, 10), maxSessionHold)
		one.refused++
		one.refusal, one.holdTo = err, now.Add(hold)
	}
	return "", err
}

func codeOf(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return httpjson.CodeTimeout
	}
	return httpjson.CodeCanceled
}

// sessionError says what a session that was not opened means for the call that needed it: that call has not left.
func sessionError(op string, err error) error {
	var e *kyc.Error
	if !errors.As(err, &e) {
		return err
	}
	out := &kyc.Error{Kind: e.Kind, Op: op, Code: e.Code, Err: e.Err, RetryAfter: e.RetryAfter}
	if e.Code == codeNotDone { // refused in a 200: asking often locks the account
		out.Kind = kyc.Credentials
		return out
	}
	switch e.Kind {
	case kyc.Unavailable, kyc.RateLimited, kyc.Credentials:
	case kyc.Ambiguous:
		out.Kind = kyc.Unavailable
	default: // 400, 404, 409, 422: these credentials, or their path, are wrong, and only the operator can mend them
		out.Kind = kyc.Credentials
	}
	return out
}

type sessionRequest struct {
	Username     string `json:"username"`
	Password     string `json:"password"`
	TenantKey    string `json:"tenantKey"`
	TenantSecret string `json:"tenantSecret"`
}

type sessionAnswer struct {
	Token     text            `json:"token"`
	ExpiresAt json.RawMessage `json:"expiresAt"`
	ExpiresIn json.Number     `json:"expiresIn"`
	Success   *bool           `json:"success"`
}

const opSession = Name + ".admin_session"

// openSession opens an admin session (dossier B1.2).
func (f *finhub) openSession(ctx context.Context, tenant kyc.Tenant) (token string, ends time.Time, err error) {
	a := f.config.Admin
	now := f.config.Now()
	resp, err := f.send(ctx, tenant, "", httpjson.Request{
		Op: opSession, Method: http.MethodPost,
		Path: "/admin/organization/" + url.PathEscape(a.OrganizationID) + "/users/" + url.PathEscape(a.UserID) + "/sessions",
		Body: sessionRequest{a.Username, a.Password(), a.TenantKey(), a.TenantSecret()},
	})
	if err != nil {
		return "", time.Time{}, err
	}
	var answer sessionAnswer
	if err := decode(opSession, resp, &answer); err != nil {
		return "", time.Time{}, err
	}
	if answer.Success != nil && !*answer.Success {
		return "", time.Time{}, &kyc.Error{Kind: kyc.Credentials, Op: opSession, Code: "session_refused", Err: errRefused}
	}
	if !bearer(string(answer.Token)) {
		return "", time.Time{}, httpjson.BadAnswer(opSession)
	}
	return string(answer.Token), sessionEnd(now, answer), nil
}

// bearer reports whether a text can be a token in a header.
func bearer(s string) bool {
	if s == "" || len(s) > 8192 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// sessionEnd is the earliest of all that an answer says: in FinHub's own example the token ends an hour after it began
// and expiresAt is a day away (dossier B13).
func sessionEnd(now time.Time, a sessionAnswer) time.Time {
	var ends time.Time
	consider := func(t time.Time) {
		if t.After(now) && (ends.IsZero() || t.Before(ends)) {
			ends = t
		}
	}
	if seconds, err := a.ExpiresIn.Int64(); err == nil && seconds > 0 && seconds < 10*365*24*3600 {
		consider(now.Add(time.Duration(seconds) * time.Second))
	}
	consider(instant(a.ExpiresAt))
	consider(jwtEnd(string(a.Token)))
	if ends.IsZero() {
		return now.Add(sessionLife)
	}
	return ends
}

// instant reads an RFC 3339 text, with or without a zone, or a number of seconds or milliseconds.
func instant(raw json.RawMessage) time.Time {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
			if t, err := time.Parse(layout, s); err == nil {
				return t
			}
		}
		return time.Time{}
	}
	var n int64
	if json.Unmarshal(raw, &n) != nil || n <= 0 {
		return time.Time{}
	}
	if n > 1e11 {
		return time.UnixMilli(n)
	}
	return time.Unix(n, 0)
}

// jwtEnd reads the end of a token, if it is a JWT. Its signature is FinHub's business.
func jwtEnd(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp json.RawMessage `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return time.Time{}
	}
	return instant(claims.Exp)
}
