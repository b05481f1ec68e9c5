package httpjson_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// canaries are what no error may show: the key, the path, the request and whatever the upstream says.
var canaries = []string{"canary-key", "canary-path", "canary-query", "canary-body", "canary-answer", "127.0.0.1", "localhost", "example.com"}

func newClient(base string) *httpjson.Client {
	return &httpjson.Client{
		HTTP: httpjson.NewHTTPClient(), BaseURL: base, UserAgent: httpjson.UserAgent("1.2.3", false),
		Header: func(h http.Header) { h.Set("Authorization", "canary-key") },
	}
}

// post is a call with something to leak in every place.
func post(ctx context.Context, c *httpjson.Client) (httpjson.Response, error) {
	return c.Do(ctx, httpjson.Request{
		Op: "test.post", Method: http.MethodPost, Path: "/canary-path", Query: url.Values{"q": {"canary-query"}},
		Body: map[string]string{"name": "canary-body"},
	})
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// check compares an error's kind and code, and that it shows nothing.
func check(t *testing.T, err error, kind kyc.Kind, code string) {
	t.Helper()
	var e *kyc.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v), want *kyc.Error", err, err)
	}
	if e.Kind != kind || e.Code != code || e.Op != "test.post" {
		t.Errorf("got %s %s %q, want test.post %s %q", e.Op, e.Kind, e.Code, kind, code)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v %#v", e, e.Err)} {
		for _, c := range canaries {
			if strings.Contains(text, c) {
				t.Errorf("the error shows %q: %s", c, text)
			}
		}
	}
}

func TestRequestIsAsDescribed(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		_, _ = io.WriteString(w, `{"a":1}`)
	})
	for _, base := range []string{s.URL, s.URL + "/"} {
		resp, err := post(t.Context(), newClient(base))
		if err != nil || resp.Status != 200 || string(resp.Body) != `{"a":1}` {
			t.Fatalf("answer %d %q, error %v", resp.Status, resp.Body, err)
		}
		if got.URL.String() != "/canary-path?q=canary-query" || body != `{"name":"canary-body"}` {
			t.Errorf("asked %s with %s", got.URL, body)
		}
		for name, want := range map[string]string{
			"Authorization": "canary-key", "Content-Type": "application/json", "Accept": "application/json", "User-Agent": "kycgate/1.2.3 (sandbox)",
		} {
			if got.Header.Get(name) != want {
				t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
			}
		}
	}
}

// The default meaning of every status there is.
func TestStatuses(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "canary-answer")
	})
	c := newClient(s.URL)
	for status := 200; status < 600; status++ {
		resp, err := c.Do(t.Context(), httpjson.Request{Op: "test.post", Method: http.MethodPost, Path: fmt.Sprintf("/%d", status)})
		if resp.Status != status {
			t.Fatalf("%d: the response says %d", status, resp.Status)
		}
		kind, code := kyc.Internal, httpjson.StatusCode(status)
		switch {
		case status < 300:
			if err != nil {
				t.Errorf("%d: %v", status, err)
			}
			continue
		case status < 400:
			kind, code = kyc.Ambiguous, httpjson.CodeBadAnswer
		case status == 401, status == 403:
			kind = kyc.Credentials
		case status == 404:
			kind = kyc.NotFound
		case status == 409:
			kind = kyc.Conflict
		case status == 429:
			kind = kyc.RateLimited
		case status == 408, status >= 500:
			kind = kyc.Ambiguous
		}
		check(t, err, kind, code)
		want := time.Duration(0)
		if status == 429 || status == 503 {
			want = 7 * time.Second
		}
		if got := kyc.RetryAfter(err); got != want {
			t.Errorf("%d: RetryAfter %v, want %v", status, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value, date string
		want        time.Duration
	}{
		"seconds":              {value: "30", want: 30 * time.Second},
		"blanks":               {value: " 30 ", want: 30 * time.Second},
		"zero":                 {value: "0"},
		"negative":             {value: "-5"},
		"words":                {value: "soon"},
		"a day is an hour":     {value: "86400", want: time.Hour},
		"huge":                 {value: "99999999999999999999999", want: time.Hour},
		"date by their clock":  {value: "Tue, 24 Nov 2026 12:00:30 GMT", date: "Tue, 24 Nov 2026 12:00:00 GMT", want: 30 * time.Second},
		"date that has passed": {value: "Tue, 24 Nov 2026 12:00:00 GMT", date: "Tue, 24 Nov 2026 12:00:30 GMT"},
		"date far away":        {value: "Tue, 24 Nov 2099 12:00:00 GMT", date: "Tue, 24 Nov 2026 12:00:30 GMT", want: time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", tt.value)
				if tt.date != "" {
					w.Header().Set("Date", tt.date)
				}
				w.WriteHeader(http.StatusTooManyRequests)
			})
			_, err := post(t.Context(), newClient(s.URL))
			if got := kyc.RetryAfter(err); got != tt.want {
				t.Errorf("%q gives %v, want %v", tt.value, got, tt.want)
			}
		})
	}
}

// Before the first byte: Unavailable, so that the call may be repeated.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	refused := serve(t, nil)
	refused.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	plain := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })

	client := func(base string, dial func(context.Context, string, string) (net.Conn, error)) *httpjson.Client {
		c := newClient(base)
		if dial != nil {
			c.HTTP = &http.Client{Transport: &http.Transport{DialContext: dial}}
		}
		return c
	}
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := map[string]struct {
		client *httpjson.Client
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		code   string
	}{
		"refused": {client: client(refused.URL, nil), code: httpjson.CodeNotReached},
		"no name": {client: client("http://canary.example.com", func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "canary.example.com"}}
		}), code: httpjson.CodeNotReached},
		"certificate":  {client: client(untrusted.URL, nil), code: httpjson.CodeNotReached},
		"no TLS there": {client: client(strings.Replace(plain.URL, "http:", "https:", 1), nil), code: httpjson.CodeNotReached},
		"dial time-out": {client: client("http://example.com", func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "canary-key", Err: os.ErrDeadlineExceeded}
		}), code: httpjson.CodeTimeout},
		"deadline while dialling": {client: client("http://example.com", hang), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, 10*time.Millisecond, errors.New("canary-key"))
		}, code: httpjson.CodeTimeout},
		"cancelled before": {client: client(plain.URL, nil), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, code: httpjson.CodeCanceled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.ctx != nil {
				var cancel context.CancelFunc
				ctx, cancel = tt.ctx(ctx)
				defer cancel()
			}
			_, err := post(ctx, tt.client)
			check(t, err, kyc.Unavailable, tt.code)
			if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
				t.Errorf("%v does not wrap %v", err, ctx.Err())
			}
		})
	}
}

// hijack answers with raw bytes and then resets or closes the connection.
func hijack(t *testing.T, w http.ResponseWriter, raw string, reset bool) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(conn, raw)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// After the first byte: Ambiguous, so that the call is looked up and not repeated.
func TestSomethingLeft(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handler func(t *testing.T, w http.ResponseWriter, r *http.Request)
		within  time.Duration
		code    string
	}{
		"reset":     {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) { hijack(t, w, "", true) }, code: httpjson.CodeConnection},
		"closed":    {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) { hijack(t, w, "", false) }, code: httpjson.CodeConnection},
		"half head": {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) { hijack(t, w, "HTTP/1.1 20", false) }, code: httpjson.CodeConnection},
		"garbage": {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, "canary-answer\r\n\r\n", false)
		},
			code: httpjson.CodeConnection},
		"truncated": {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"canary-answer\":", false)
		}, code: httpjson.CodeConnection},
		"truncated refusal": {handler: func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{\"title\":", false)
		}, code: httpjson.CodeConnection},
		"silence": {handler: func(_ *testing.T, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			within: 50 * time.Millisecond, code: httpjson.CodeTimeout},
		"silence in the body": {handler: func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"canary-answer":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, within: 50 * time.Millisecond, code: httpjson.CodeTimeout},
		"too long": {handler: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 2<<20))
		}, code: httpjson.CodeBadAnswer},
		"redirect without an address": {handler: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, code: httpjson.CodeBadAnswer},
		"redirect to nonsense": {handler: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[canary-answer")
			w.WriteHeader(http.StatusFound)
		}, code: httpjson.CodeConnection}, // net/http refuses it before we are asked
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				tt.handler(t, w, r)
			})
			ctx, cancel := context.WithCancel(t.Context())
			if tt.within > 0 {
				ctx, cancel = context.WithTimeout(t.Context(), tt.within)
			}
			defer cancel()
			_, err := post(ctx, newClient(s.URL))
			check(t, err, kyc.Ambiguous, tt.code)
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// "Never sent twice" includes the transport: it repeats requests on its own, but no POST that may have left.
func TestPostIsNotRepeatedByTheTransport(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hits atomic.Int32
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != "HTTP/1.1" != http2 {
					t.Errorf("spoken is %s", r.Proto)
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if hits.Add(1) > 1 {
					panic(http.ErrAbortHandler) // on a connection that has served before, as an idle one that was cut
				}
				_, _ = io.WriteString(w, "{}")
			}))
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.EnableHTTP2 = http2
			s.StartTLS()
			t.Cleanup(s.Close)
			c := newClient(s.URL)
			transport := c.HTTP.Transport.(*http.Transport)
			transport.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			if _, err := post(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			_, err := post(t.Context(), c)
			check(t, err, kyc.Ambiguous, httpjson.CodeConnection)
			if n := hits.Load(); n != 2 {
				t.Errorf("two calls arrived %d times", n)
			}
		})
	}
}

// The statuses that say it all do so even when their body is lost.
func TestTruncatedErrorKeepsItsStatus(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		hijack(t, w, "HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{", false)
	})
	_, err := post(t.Context(), newClient(s.URL))
	check(t, err, kyc.Conflict, "HTTP_409")
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		c := newClient(s.URL)
		c.HTTP = &http.Client{} // even one that would follow
		_, err := post(t.Context(), c)
		check(t, err, kyc.Ambiguous, httpjson.CodeBadAnswer)
	}
}

func TestSimulatorIsRefusedInProduction(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(httpjson.SimulatorHeader, "true")
		_, _ = io.WriteString(w, `{}`)
	})
	c := newClient(s.URL)
	if _, err := post(t.Context(), c); err != nil {
		t.Errorf("in the sandbox: %v", err)
	}
	c.Production = true
	_, err := post(t.Context(), c)
	check(t, err, kyc.Credentials, httpjson.CodeSimulator)
}

func TestUserAgent(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"kycgate/1.2.3 (production)": httpjson.UserAgent("1.2.3", true),
		"kycgate/dev (sandbox)":      httpjson.UserAgent("", false),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Answers are read to their end whatever their status, so one connection serves all.
func TestConnectionIsReused(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.Copy(w, io.LimitReader(zeros{}, 100<<10))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newClient(s.URL)
	for range 20 {
		_, err := post(t.Context(), c)
		check(t, err, kyc.Ambiguous, "HTTP_500")
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("20 calls took %d connections", n)
	}
}

// roundTripper lets a test be the transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A kept-alive connection that turned out to be closed took nothing of a POST, or the transport would not
// have asked for another.
func TestSecondConnectionStartsAnew(t *testing.T) {
	t.Parallel()
	c := newClient("http://example.com")
	c.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		trace := httptrace.ContextClientTrace(r.Context())
		trace.GetConn("example.com:80")
		trace.GotConn(httptrace.GotConnInfo{Reused: true})
		trace.GetConn("example.com:80")
		return nil, &net.OpError{Op: "dial", Err: errors.New("canary-answer")}
	})}
	_, err := post(t.Context(), c)
	check(t, err, kyc.Unavailable, httpjson.CodeNotReached)
}

// What is reported as Unavailable never arrived, whenever the caller gave up.
func TestUnavailableNeverArrived(t *testing.T) {
	t.Parallel()
	var arrived sync.Map
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived.Store(r.URL.Path, true)
		_, _ = io.WriteString(w, "{}")
	})
	c := newClient(s.URL)
	var unavailable sync.Map
	var counts [2]atomic.Int32
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(600))*time.Microsecond)
				path := fmt.Sprintf("/%d/%d", w, i)
				_, err := c.Do(ctx, httpjson.Request{Op: "test.post", Method: http.MethodPost, Path: path, Body: 1})
				cancel()
				switch {
				case err == nil:
				case kyc.KindOf(err) == kyc.Unavailable:
					unavailable.Store(path, true)
					counts[0].Add(1)
				default:
					counts[1].Add(1)
				}
			}
		})
	}
	wg.Wait()
	c.HTTP.CloseIdleConnections()
	s.Close() // waits for the handlers
	unavailable.Range(func(path, _ any) bool {
		if _, ok := arrived.Load(path); ok {
			t.Errorf("%v arrived and was called Unavailable", path)
		}
		return true
	})
	t.Logf("unavailable %d, ambiguous %d", counts[0].Load(), counts[1].Load())
}

func TestUnwritableRequest(t *testing.T) {
	t.Parallel()
	_, err := newClient("http://localhost").Do(t.Context(), httpjson.Request{Op: "test.post", Method: http.MethodPost, Body: func() {}})
	check(t, err, kyc.Internal, httpjson.CodeRequest)
	_, err = newClient("http://[canary-path").Do(t.Context(), httpjson.Request{Op: "test.post", Method: http.MethodPost})
	check(t, err, kyc.Internal, httpjson.CodeRequest)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>canary-answer</html>", `{"n":"canary-answer"`, `{"n":"canary-answer"}`, `{} {}`} {
		var into struct{ N int }
		check(t, httpjson.Decode("test.post", httpjson.Response{Status: 200, Body: []byte(body)}, &into), kyc.Ambiguous, httpjson.CodeBadAnswer)
	}
	var into struct{ N int }
	if err := httpjson.Decode("test.post", httpjson.Response{Body: []byte(`{"n":3}`)}, &into); err != nil || into.N != 3 {
		t.Errorf("got %d, %v", into.N, err)
	}
}

// A byte order mark before the JSON is no reason not to understand it.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\xef\xbb\xbf"+`{"n":3}`) }))
	defer s.Close()
	c := httpjson.Client{HTTP: s.Client(), BaseURL: s.URL}
	resp, err := c.Do(t.Context(), httpjson.Request{Op: "test.get", Method: http.MethodGet, Path: "/x"})
	var into struct{ N int }
	if err == nil {
		err = httpjson.Decode("test.get", resp, &into)
	}
	if err != nil || into.N != 3 {
		t.Errorf("%d %v", into.N, err)
	}
}

func TestTransportIsBounded(t *testing.T) {
	t.Parallel()
	tr := httpjson.NewHTTPClient().Transport.(*http.Transport)
	if tr.TLSClientConfig.MinVersion != tls.VersionTLS12 || tr.MaxIdleConnsPerHost != 128 || tr.TLSHandshakeTimeout == 0 ||
		tr.MaxResponseHeaderBytes == 0 || tr.Proxy == nil || !tr.ForceAttemptHTTP2 {
		t.Errorf("%+v", tr)
	}
}
