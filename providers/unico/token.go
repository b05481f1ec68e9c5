package unico

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const opToken = Name + ".token"

// The times of a token. The lifetimes are documented (dossier 3.2); the pauses are ours.
const (
	tokenLifetime   = time.Hour
	renewBefore     = 10 * time.Minute // or half of its life, if that is shorter
	tokenTimeout    = 10 * time.Second // when none is configured
	maxTokenPause   = 5 * time.Minute
	firstTokenPause = 2 * time.Second
	lockedPause     = 15 * time.Minute // of 1.2.18: trying on makes it longer
	maxAssertions   = 3                // in a row, when Unico says that one was used
)

// tokenSource keeps one access token for everybody. It asks for a new one once, however many wait, because
// the assertion is single use and two of one second would be the same bytes (dossier 3.1).
type tokenSource struct {
	http     httpjson.Client
	url      string
	issuer   string
	audience string
	key      *rsa.PrivateKey
	timeout  time.Duration
	now      func() time.Time

	mu       sync.Mutex
	token    string
	renew    time.Time // from here on it is renewed
	expires  time.Time
	fetching chan struct{} // closed when the request under way has ended; nil when there is none
	err      error         // of the last request, while it stands
	until    time.Time     // before this nothing is asked: bad attempts lock the account
	failures int

	lastIssued, lastExpiry int64 // of the newest assertion; owned by whoever fetches
}

func newTokenSource(c Config, client httpjson.Client) *tokenSource {
	if c.Timeout <= 0 {
		c.Timeout = tokenTimeout
	}
	return &tokenSource{
		http: client, url: c.TokenURL, key: c.PrivateKey, timeout: c.Timeout, now: c.Now,
		issuer:   c.ServiceAccount + "@" + c.TenantID + ".iam.acesso.io",
		audience: strings.TrimRight(c.Audience, "/"), // with a slash it is another audience (dossier 3.1)
	}
}

// get gives a token that is valid now. One that ends soon is renewed by whoever comes first, while the others go
// on with it.
func (s *tokenSource) get(ctx context.Context) (string, error) {
	s.mu.Lock()
	for {
		now := s.now()
		switch {
		case s.token != "" && now.Before(s.renew):
			defer s.mu.Unlock()
			return s.token, nil
		case s.fetching == nil && !now.Before(s.until):
			s.fetching = make(chan struct{})
			// Detached: it is for everybody, and must not end with the caller that happened to be first.
			go s.fetch(context.WithoutCancel(ctx), s.fetching)
		}
		if s.token != "" && now.Before(s.expires) {
			defer s.mu.Unlock()
			return s.token, nil
		}
		wait := s.fetching
		if wait == nil {
			defer s.mu.Unlock()
			return "", s.standing(now)
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			code := httpjson.CodeCanceled
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				code = httpjson.CodeTimeout
			}
			return "", &kyc.Error{Kind: kyc.Unavailable, Op: opToken, Code: code, Err: ctx.Err()}
		}
		s.mu.Lock()
	}
}

// standing is the last refusal, told to everybody until a new attempt may be made.
func (s *tokenSource) standing(now time.Time) error {
	var e *kyc.Error
	errors.As(s.err, &e)
	told := *e
	told.RetryAfter = kyc.RetryHint(max(s.until.Sub(now), time.Millisecond))
	return &told
}

// forget drops a token that Unico refused, unless a newer one is there already.
func (s *tokenSource) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token, s.expires = "", time.Time{}
	}
}

func (s *tokenSource) fetch(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	token, lifetime, err := s.request(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if err == nil {
		s.token, s.expires = token, now.Add(lifetime)
		s.renew = s.expires.Add(-min(renewBefore, lifetime/2))
		s.err, s.until, s.failures = nil, time.Time{}, 0
	} else {
		s.failures++
		pause := kyc.RetryAfter(err)
		if pause <= 0 {
			pause = min(firstTokenPause<<min(s.failures-1, 10), maxTokenPause)
		}
		s.err, s.until = err, now.Add(pause)
	}
	s.fetching = nil
	close(done)
}

// request asks for a token. Nothing of any process has left, whatever becomes of it: what would be ambiguous
// elsewhere is Unavailable here.
func (s *tokenSource) request(ctx context.Context) (string, time.Duration, error) {
	for attempt := 1; ; attempt++ {
		assertion, err := s.assertion()
		if err != nil {
			return "", 0, &kyc.Error{Kind: kyc.Credentials, Op: opToken, Code: "private_key", Err: errAssertion}
		}
		client := s.http
		client.BaseURL = s.url
		resp, err := client.Do(ctx, httpjson.Request{
			Op: opToken, Method: http.MethodPost,
			Form: url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}},
		})
		if err == nil {
			return readToken(resp)
		}
		err = tokenError(resp, err)
		var e *kyc.Error
		// The code is documented for a used assertion: a new one helps (dossier 3.3).
		if errors.As(err, &e) && e.Code == codeAssertionUsed && attempt < maxAssertions {
			continue
		}
		return "", 0, err
	}
}

// assertion signs the documented claims and no others: more of them are refused (1.2.22).
func (s *tokenSource) assertion() (string, error) {
	issued := s.now().Unix()
	// RS256 is deterministic and a `jti` is forbidden, so the expiry has to tell the assertions of one second
	// apart: of this process for certain, of two replicas almost (ours).
	expiry := issued + int64(tokenLifetime/time.Second) - rand.Int64N(300)
	if issued == s.lastIssued && expiry >= s.lastExpiry {
		expiry = s.lastExpiry - 1
	}
	s.lastIssued, s.lastExpiry = issued, expiry
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": s.issuer, "aud": s.audience, "scope": "*", "iat": issued, "exp": expiry,
	})
	return t.SignedString(s.key)
}

type tokenAnswer struct {
	AccessToken string  `json:"access_token"`
	ExpiresIn   lenient `json:"expires_in"` // quoted in the sample (dossier 3.2)
}

func readToken(resp httpjson.Response) (string, time.Duration, error) {
	var a tokenAnswer
	if json.Unmarshal(resp.Body, &a) != nil || a.AccessToken == "" || strings.ContainsAny(a.AccessToken, " \r\n\t") {
		return "", 0, &kyc.Error{Kind: kyc.Unavailable, Op: opToken, Code: httpjson.CodeBadAnswer, Err: errTokenAnswer}
	}
	lifetime := tokenLifetime
	if seconds, err := strconv.ParseFloat(string(a.ExpiresIn), 64); err == nil && seconds >= 1 {
		lifetime = min(time.Duration(seconds)*time.Second, 24*time.Hour)
	}
	return a.AccessToken, lifetime, nil
}

// The error numbers that are told apart (dossier 3.3). All others need the operator.
const (
	codeAssertionUsed = "1.2.7"
	codeAccountLocked = "1.2.18"
)

var tokenCode = regexp.MustCompile(`\b[0-9]\.[0-9]\.[0-9]{1,2}\b`)

func tokenError(resp httpjson.Response, err error) error {
	var e *kyc.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	out.Op = opToken
	var body struct {
		Description lenient `json:"error_description"`
	}
	_ = json.Unmarshal(resp.Body, &body) // no JSON: then there is no number
	number := tokenCode.FindString(string(body.Description))
	switch {
	case number == codeAccountLocked:
		out.Kind, out.Code, out.RetryAfter = kyc.Credentials, number, kyc.RetryHint(lockedPause)
	case number != "" && resp.Status >= 400:
		out.Kind, out.Code = kyc.Credentials, number
	case out.Kind == kyc.Ambiguous:
		out.Kind = kyc.Unavailable
	case out.Kind == kyc.RateLimited, out.Kind == kyc.Unavailable, out.Kind == kyc.Credentials:
	default: // another 4xx: the endpoint or our account is not what the configuration says
		out.Kind = kyc.Credentials
	}
	return &out
}

var (
	errAssertion   = errors.New("the assertion could not be signed")
	errTokenAnswer = errors.New("the token endpoint answered no token")
)
