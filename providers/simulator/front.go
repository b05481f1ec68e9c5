package simulator

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// FrontConfig is what a simulator tells its [Front].
type FrontConfig struct {
	// Operations are the names that faults and log use, [WebhookOperation] included if webhooks are sent.
	Operations []string
	// Reveal names the fields that the log does not mask; see [NewRequestLog].
	Reveal []string
	// Refusal is the body of a 4xx that a fault makes up, in the provider's own shape. Nil: title and description.
	Refusal func(status int) (contentType string, body []byte)
	MaxBody int64            // bytes of a request; zero: 1 MiB
	Now     func() time.Time // nil: time.Now
}

// Front is the part of a simulator that stands before its operations: it refuses production, applies the
// faults, and writes the log. Close ends the requests that a fault holds up.
type Front struct {
	config   FrontConfig
	faults   *Faults
	requests *RequestLog
	closed   chan struct{}
	once     sync.Once
}

// NewFront returns a front with no faults and an empty log.
func NewFront(config FrontConfig) *Front {
	if config.MaxBody == 0 {
		config.MaxBody = 1 << 20
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Refusal == nil {
		config.Refusal = func(status int) (string, []byte) {
			return "application/json", fmt.Appendf(nil, `{"title":%q,"description":"a fault of the simulator"}`, http.StatusText(status))
		}
	}
	return &Front{
		config:   config,
		faults:   NewFaults(config.Operations...),
		requests: NewRequestLog(config.Reveal...),
		closed:   make(chan struct{}),
	}
}

// Faults returns the faults of the simulator.
func (f *Front) Faults() *Faults { return f.faults }

// Requests returns the log of the simulator.
func (f *Front) Requests() *RequestLog { return f.requests }

// Close releases every request that waits or hangs by a fault; their connections are cut.
func (f *Front) Close() { f.once.Do(func() { close(f.closed) }) }

// Handle surrounds an operation. The operation MUST be one of the configured ones or [NoOperation].
//
// The request's body is read before next runs and comes from memory; [Body] returns it without a copy. The
// answer of next is kept in memory until next returns, so next cannot stream. If next was given an id in the
// path it should be set with r.SetPathValue("id", …) before: the log masks the digits of everything else.
//
// A surprise for clients in Go: net/http repeats a GET by itself when a reused connection is cut before the
// first byte of the answer. One GET under a reset may therefore arrive twice.
func (f *Front) Handle(operation string, next http.HandlerFunc) http.HandlerFunc {
	if operation != NoOperation && !slices.Contains(f.config.Operations, operation) {
		panic(fmt.Sprintf("simulator: the operation %q is not configured", operation))
	}
	return func(w http.ResponseWriter, r *http.Request) {
		at := f.config.Now()
		if refuseProduction(w, r, f.requests, at) {
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, f.config.MaxBody))
		entry := Request{At: at, Operation: operation, Method: r.Method, Path: f.requests.maskURL(r.URL, r.PathValue("id"))}
		if err != nil {
			f.unreadable(w, entry, err)
			return
		}
		r.Body = &requestBody{Reader: bytes.NewReader(body), raw: body}
		f.serve(w, r, entry, body, next)
	}
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request, entry Request, body []byte, next http.HandlerFunc) {
	fault := f.faults.take(entry.Operation)
	entry.Fault = fault.name()
	record := func(status int, outcome string) {
		entry.Status, entry.Outcome = status, outcome
		f.requests.Record(entry, body)
	}
	if fault.wait > 0 {
		switch f.pause(r.Context(), fault.wait) {
		case pauseOver:
		case pauseClientGone:
			record(0, OutcomeClientGone)
			cut(w)
			return
		case pauseClosed:
			record(0, OutcomeClosed)
			cut(w)
			return
		}
	}
	if fault.rule == nil {
		answer := act(r, next)
		record(answer.status, OutcomeAnswered)
		answer.send(w)
		return
	}
	switch rule := fault.rule; rule.fault.Kind {
	case FaultReset:
		record(0, OutcomeReset)
		cut(w)
	case FaultStatus:
		record(rule.status, OutcomeNotActed)
		rule.writeStatus(w, f.config.Refusal)
	case FaultRateLimit:
		record(http.StatusTooManyRequests, OutcomeNotActed)
		if rule.retryAfter >= 0 {
			w.Header().Set("Retry-After", strconv.Itoa(rule.retryAfter))
		}
		contentType, body := f.config.Refusal(http.StatusTooManyRequests)
		writeBody(w, http.StatusTooManyRequests, contentType, body)
	case FaultTruncate:
		answer := act(r, next)
		record(answer.status, OutcomeTruncated)
		answer.sendHalf(w)
	case FaultActThenReset:
		answer := act(r, next)
		record(answer.status, OutcomeActedAndReset)
		cut(w)
	case FaultActThenHang:
		answer := act(r, next)
		record(answer.status, OutcomeActedAndHung) // before the hang, or nobody could see that it acted
		f.pause(r.Context(), rule.delay)
		cut(w)
	default: // Faults.take gives no other kind to a request
		panic("simulator: no such fault for a request: " + string(rule.fault.Kind))
	}
}

func (f *Front) unreadable(w http.ResponseWriter, entry Request, err error) {
	entry.Outcome, entry.Status = OutcomeUnreadable, http.StatusBadRequest
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		entry.Status = http.StatusRequestEntityTooLarge
	}
	f.requests.Record(entry, nil)
	contentType, body := f.config.Refusal(entry.Status)
	writeBody(w, entry.Status, contentType, body)
}

type pauseEnd int

const (
	pauseOver pauseEnd = iota
	pauseClientGone
	pauseClosed
)

// pause waits for d, without end if it is negative. net/http notices that a client left only once the body
// has been read, which Handle has done.
func (f *Front) pause(ctx context.Context, d time.Duration) pauseEnd {
	var over <-chan time.Time // nil blocks for ever
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return pauseOver
	case <-ctx.Done():
		return pauseClientGone
	case <-f.closed:
		return pauseClosed
	}
}

// cut ends the connection without an answer. SetLinger(0) makes the kernel send RST and not FIN: the client
// sees a reset and not an orderly end.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// HTTP/2 cannot be hijacked; this resets the stream.
		panic(http.ErrAbortHandler)
	}
	under := conn
	if secure, ok := conn.(*tls.Conn); ok {
		under = secure.NetConn()
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only if the connection is gone already
	}
	_ = under.Close()
}

// requestBody lets an operation have the bytes that Handle has read.
type requestBody struct {
	*bytes.Reader
	raw []byte
}

func (*requestBody) Close() error { return nil }

// Body returns the whole body of a request inside [Front.Handle]. The caller must not change it.
func Body(r *http.Request) []byte {
	if b, ok := r.Body.(*requestBody); ok {
		return b.raw
	}
	body, _ := io.ReadAll(r.Body) // outside of Handle only; a body that breaks off is read as far as it came
	return body
}

// answer is what an operation answered, kept until the faults decided what becomes of it.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func act(r *http.Request, next http.HandlerFunc) *answer {
	a := &answer{header: make(http.Header, 4)}
	next(a, r)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	// The first final status counts, as in net/http.
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) send(w http.ResponseWriter) {
	a.copyHeader(w)
	writeBody(w, a.status, "", a.body.Bytes())
}

// sendHalf declares the whole length and sends half of it. net/http closes a connection whose handler wrote
// less than it declared, so the client meets an unexpected end. An answer without a body cannot be cut in the
// middle; for one the connection is cut instead.
func (a *answer) sendHalf(w http.ResponseWriter) {
	if a.body.Len() == 0 || !bodyAllowed(a.status) {
		cut(w)
		return
	}
	a.copyHeader(w)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()[:a.body.Len()/2])
}

func (a *answer) copyHeader(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h.Set(Header, "true") // the operation must not be able to take it away
}
