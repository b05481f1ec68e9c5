// Package providertest is the conformance suite of upstreams: what kyc relies on, whatever the upstream.
// A provider passes it by one call of [Run] in its test.
package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Harness is what the suite needs to know of a provider.
type Harness struct {
	// New makes the provider against a server. Its key MUST be one of Canaries.
	New func(t *testing.T, baseURL string, client *http.Client) kyc.Provider
	// Operations lists every operation it offers: one that is not listed fails the suite.
	Operations []Operation
	// Canaries are texts that must not be seen: the key, and the document, e-mail and name that Call sends.
	Canaries []string
}

// Operation is how one slot is called and answered.
type Operation struct {
	Slot string // of kyc.Provider: "AnalyzePerson"
	Call func(ctx context.Context, p kyc.Provider) (any, error)
	// Answer is a good answer. Unknown is one with a status word nobody knows; empty where there is none.
	Answer, Unknown string
	// Open says whether what Call gave for Unknown decides nothing; nil for the verdicts the suite knows.
	Open func(out any) bool
	// Refusal is an explicit refusal of the data, which is Rejected. Zero where there is none.
	Refusal Refusal
	// Kinds are the statuses whose meaning differs from httpjson's default.
	Kinds map[int]kyc.Kind
	// Canaries replace the harness's for an answer that is the tenant's own configuration: nothing personal was sent
	// that could come back. The key stays one of them.
	Canaries []string
	// Answered are statuses that are an answer to the question although they are no 2xx.
	Answered []int
	// Nothing are usual no-answers that are one here: that nothing is there, which is NotFound.
	Nothing []string
	// Unreadable are 2xx bodies, beside the usual ones, that are no answer to this call.
	Unreadable []string
	// Readable are those of the usual unreadable bodies that this call does take for an answer, an empty list for one.
	Readable []string
}

// Refusal is a status with its body.
type Refusal struct {
	Status int
	Body   string
}

// Run holds a provider to the contract of kyc.Op.
func Run(t *testing.T, h Harness) {
	t.Run("every operation is listed", func(t *testing.T) { testListed(t, h) })
	for _, op := range h.Operations {
		t.Run(op.Slot, func(t *testing.T) {
			t.Parallel()
			op.Answer = strings.TrimSpace(op.Answer) // so that cutting off its end breaks it
			s := suite{h, op}
			if op.Canaries != nil {
				s.h.Canaries = op.Canaries
			}
			for name, test := range map[string]func(*testing.T){
				"answers":                       s.answers,
				"unknown status stays open":     s.unknown,
				"every status has its kind":     s.statuses,
				"refusal of the data":           s.refusal,
				"before the first byte":         s.before,
				"after the first byte":          s.after,
				"deadline and cancellation":     s.deadline,
				"unreadable answers":            s.unreadable,
				"redirects are not followed":    s.redirect,
				"nothing personal is repeated":  s.echo,
				"simulators outside production": s.simulator,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t)
				})
			}
		})
	}
}

func testListed(t *testing.T, h Harness) {
	p := reflect.ValueOf(h.New(t, "http://localhost", httpjson.NewHTTPClient()))
	listed := make(map[string]bool)
	for _, op := range h.Operations {
		listed[op.Slot] = true
	}
	for i := range p.NumField() {
		field := p.Type().Field(i)
		if strings.HasPrefix(field.Type.Name(), "Op[") && !p.Field(i).IsNil() != listed[field.Name] {
			t.Errorf("slot %s: offered %t, listed %t", field.Name, !p.Field(i).IsNil(), listed[field.Name])
		}
	}
}

type suite struct {
	h  Harness
	op Operation
}

// call runs the operation against a handler.
func (s suite) call(t *testing.T, ctx context.Context, handler http.HandlerFunc) (any, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		handler(w, r)
	}))
	defer server.Close()
	client := httpjson.NewHTTPClient()
	defer client.CloseIdleConnections()
	return s.at(t, ctx, server.URL, client)
}

func (s suite) at(t *testing.T, ctx context.Context, url string, client *http.Client) (any, error) {
	t.Helper()
	out, err := s.op.Call(ctx, s.h.New(t, url, client))
	s.showsNothing(t, url, out, err)
	return out, err
}

// want checks an error's kind, and that it is one of ours with something to tell the operator.
func (s suite) want(t *testing.T, what string, err error, kind kyc.Kind) *kyc.Error {
	t.Helper()
	var e *kyc.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error %v, want a *kyc.Error of kind %s", what, err, kind)
		return new(kyc.Error)
	}
	if e.Kind != kind {
		t.Errorf("%s: kind %s (code %s), want %s", what, e.Kind, e.Code, kind)
	}
	if e.Op == "" || e.Code == "" || kyc.CodeLike(e.Code) != e.Code {
		t.Errorf("%s: Op %q and Code %q must say what happened, in code", what, e.Op, e.Code)
	}
	return e
}

// showsNothing prints what came back in all the ways something is printed and looks for what must not be seen.
func (s suite) showsNothing(t *testing.T, url string, out any, err error) {
	t.Helper()
	var text bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&text, nil)} {
		slog.New(h).Info("call", "out", out, "err", err)
	}
	fmt.Fprintf(&text, "%v %+v %#v", out, out, out)
	for e := err; e != nil; e = errors.Unwrap(e) {
		fmt.Fprintf(&text, "%v %+v %#v", e, e, e)
	}
	var e *kyc.Error
	if errors.As(err, &e) {
		fmt.Fprintf(&text, "%s %s %v", e.Message, e.Code, e.Path)
	}
	_, hostPort, _ := strings.Cut(url, "://")
	for _, canary := range append([]string{url, hostPort}, s.h.Canaries...) {
		if strings.Contains(text.String(), canary) {
			t.Errorf("%q can be seen in: %s", canary, text.String())
		}
	}
}

func write(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func (s suite) answers(t *testing.T) {
	for _, status := range []int{200, 201} { // QI Tech documents neither (dossier D 3), and nobody should care
		if _, err := s.call(t, t.Context(), write(status, s.op.Answer)); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func (s suite) unknown(t *testing.T) {
	if s.op.Unknown == "" {
		t.Skip("this operation has no status")
	}
	out, err := s.call(t, t.Context(), write(200, s.op.Unknown))
	open := s.op.Open != nil && s.op.Open(out)
	switch v := out.(type) {
	case kyc.Verdict:
		open = !v.Known && v.Status == kyc.KycPending && v.DecidedBy == nil
	case kyc.ProcessVerdict:
		open = !v.Known && v.Status == kyc.ProcessProcessing && v.Failure == ""
	}
	if err != nil || !open {
		t.Errorf("got %+v, %v; want an unknown, pending, undecided verdict", out, err)
	}
}

func (s suite) statuses(t *testing.T) {
	for status := 300; status < 600; status++ {
		want, ok := s.op.Kinds[status]
		if !ok {
			want = defaultKind(status)
		}
		_, err := s.call(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			if status != http.StatusNotModified {
				_, _ = io.WriteString(w, "<html>"+strings.Join(s.h.Canaries, " ")+"</html>")
			}
		})
		if slices.Contains(s.op.Answered, status) {
			if err != nil {
				t.Errorf("%d: %v, want an answer", status, err)
			}
			continue
		}
		s.want(t, strconv.Itoa(status), err, want)
		if status == 429 || status == 503 {
			if got := kyc.RetryAfter(err); got != 7*time.Second {
				t.Errorf("%d: Retry-After became %v", status, got)
			}
		}
	}
}

// defaultKind is the table of the architecture ("A provider").
func defaultKind(status int) kyc.Kind {
	switch {
	case status == 401, status == 403:
		return kyc.Credentials
	case status == 404:
		return kyc.NotFound
	case status == 409:
		return kyc.Conflict
	case status == 429:
		return kyc.RateLimited
	case status < 400, status == 408, status >= 500:
		return kyc.Ambiguous
	default:
		return kyc.Internal
	}
}

func (s suite) refusal(t *testing.T) {
	if s.op.Refusal.Status == 0 {
		t.Skip("this operation is never refused for its data")
	}
	_, err := s.call(t, t.Context(), write(s.op.Refusal.Status, s.op.Refusal.Body))
	if e := s.want(t, "refusal", err, kyc.Rejected); len(e.Path) == 0 || e.Path[0] != "input" {
		t.Errorf("a refusal must name an input, got %v", e.Path)
	}
}

func (s suite) before(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := s.at(t, t.Context(), server.URL, httpjson.NewHTTPClient())
	s.want(t, "connection refused", err, kyc.Unavailable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.at(t, ctx, server.URL, httpjson.NewHTTPClient())
	if e := s.want(t, "cancelled before", err, kyc.Unavailable); !errors.Is(e, context.Canceled) {
		t.Errorf("%v does not wrap context.Canceled", e)
	}
}

func (s suite) after(t *testing.T) {
	half := s.op.Answer[:len(s.op.Answer)/2]
	for name, tt := range map[string]struct {
		raw   string
		reset bool
	}{
		"reset":                 {reset: true},
		"closed":                {},
		"half a header":         {raw: "HTTP/1.1 200 O"},
		"truncated":             {raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(s.op.Answer), half)},
		"truncated chunks":      {raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(half), half)},
		"truncated and reset":   {raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(s.op.Answer), half), reset: true},
		"truncated bad request": {raw: "HTTP/1.1 400 Bad Request\r\nContent-Length: 999\r\n\r\n{\"title\":\"x\"}"},
	} {
		_, err := s.call(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, tt.raw)
			if tcp, ok := conn.(*net.TCPConn); ok && tt.reset {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		})
		s.want(t, name, err, kyc.Ambiguous)
	}
}

func (s suite) deadline(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	stalled := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, s.op.Answer[:1])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, handler := range map[string]http.HandlerFunc{"no answer": silent, "half an answer": stalled} {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		start := time.Now()
		_, err := s.call(t, ctx, handler)
		cancel()
		if e := s.want(t, name, err, kyc.Ambiguous); !errors.Is(e, context.DeadlineExceeded) || e.Code != httpjson.CodeTimeout {
			t.Errorf("%s: %v must wrap context.DeadlineExceeded with code %s", name, e, httpjson.CodeTimeout)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: returned after %v", name, took)
		}

		ctx, cancel = context.WithCancel(t.Context())
		_, err = s.call(t, ctx, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			handler(w, r)
		})
		if e := s.want(t, name+", cancelled", err, kyc.Ambiguous); !errors.Is(e, context.Canceled) {
			t.Errorf("%s: %v must wrap context.Canceled", name, e)
		}
	}
}

func (s suite) unreadable(t *testing.T) {
	bodies := append([]string{"", "null", "[]", "{}", "true", `"text"`, "<!doctype html><title>OK</title>", s.op.Answer + "x", s.op.Answer[:len(s.op.Answer)-1]},
		s.op.Unreadable...)
	for _, body := range bodies {
		_, err := s.call(t, t.Context(), write(200, body))
		if slices.Contains(s.op.Nothing, body) {
			s.want(t, body, err, kyc.NotFound)
			continue
		}
		if slices.Contains(s.op.Readable, body) {
			if err != nil {
				t.Errorf("%s: %v, want an answer", body, err)
			}
			continue
		}
		if e := s.want(t, body, err, kyc.Ambiguous); e.Code != httpjson.CodeBadAnswer {
			t.Errorf("%s: code %s, want %s", body, e.Code, httpjson.CodeBadAnswer)
		}
	}
	// A good answer padded beyond what anyone documents: bounded, not read into memory.
	_, err := s.call(t, t.Context(), write(200, s.op.Answer+strings.Repeat(" ", 2<<20)))
	s.want(t, "oversized", err, kyc.Ambiguous)
}

func (s suite) redirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, err := s.call(t, t.Context(), func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		s.want(t, strconv.Itoa(status), err, kyc.Ambiguous)
	}
}

// echo answers with everything that must not be seen, in every string of the good, the unknown and the
// refusing answer and in the headers. at looks for it.
func (s suite) echo(t *testing.T) {
	canaries := strings.Join(s.h.Canaries, " ")
	for status, body := range map[int]string{200: s.op.Answer, 201: s.op.Unknown, s.op.Refusal.Status: s.op.Refusal.Body} {
		if status == 0 || body == "" {
			continue
		}
		for _, field := range jsonStrings(body) {
			for _, canary := range append(s.h.Canaries, canaries) {
				_, _ = s.call(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("X-Echo", canaries)
					w.Header().Set("Retry-After", canaries)
					w.WriteHeader(status)
					_, _ = io.WriteString(w, strings.ReplaceAll(body, field, strconv.Quote(canary)))
				})
			}
		}
	}
}

// jsonStrings lists the string values of a flat enough JSON text, with their quotes.
func jsonStrings(body string) []string {
	var values []string
	for rest := body; ; {
		_, after, ok := strings.Cut(rest, `:`)
		if !ok {
			return values
		}
		rest = strings.TrimLeft(after, " ")
		if strings.HasPrefix(rest, `"`) {
			if end := strings.IndexByte(rest[1:], '"'); end >= 0 {
				values = append(values, rest[:end+2])
				rest = rest[end+2:]
			}
		}
	}
}

// simulator answers as one, to a provider that is not in production: it must work.
func (s suite) simulator(t *testing.T) {
	_, err := s.call(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(httpjson.SimulatorHeader, "true")
		_, _ = io.WriteString(w, s.op.Answer)
	})
	if err != nil {
		t.Errorf("outside production a simulator is welcome: %v", err)
	}
}
