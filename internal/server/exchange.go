package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// exchange is one request and its answer. It is the ResponseWriter that every handler of this package sees, it
// carries what the one log line a request may say, and nothing else gets into that line (M01).
type exchange struct {
	http.ResponseWriter

	id     string
	route  string // one of our own names, never the path of the request
	start  time.Time
	status int // 0 until the header is written

	operationType string
	outcome       string
	partner       kyc.PartnerID
}

// enter begins an exchange, or joins the one that the server has begun already, so that a handler used on
// its own (in a test, behind another mux) protects and logs like one that the server calls.
// The returned function ends what enter began.
func enter(ctx context.Context, w http.ResponseWriter, route string, log *slog.Logger) (*exchange, func()) {
	if e, ok := w.(*exchange); ok {
		e.route = route
		return e, func() {}
	}
	e := &exchange{ResponseWriter: w, id: rand.Text(), route: route, start: time.Now()}
	h := w.Header()
	// C08. The request id is always ours: a client's own header could carry a document number into the log.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", e.id)
	return e, func() { e.log(ctx, log) }
}

func (e *exchange) WriteHeader(status int) {
	if e.status == 0 {
		e.status = status
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *exchange) Write(b []byte) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	return e.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

func (e *exchange) log(ctx context.Context, log *slog.Logger) {
	attrs := make([]slog.Attr, 0, 7)
	attrs = append(attrs,
		slog.String("request_id", e.id),
		slog.String("route", e.route),
		slog.Int("status", cmp.Or(e.status, http.StatusOK)),                       // net/http's answer for a handler that writes nothing
		slog.Float64("duration", float64(time.Since(e.start).Microseconds())/1e6)) // no digits that mean nothing
	if e.operationType != "" {
		attrs = append(attrs, slog.String("operation_type", e.operationType))
	}
	if e.outcome != "" {
		attrs = append(attrs, slog.String("outcome", e.outcome))
	}
	if e.partner != "" {
		attrs = append(attrs, slog.String("partner", string(e.partner)))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// releaseReadDeadline lifts http.Server.ReadTimeout once a request is read. That timeout is for slow senders
// (T14), but net/http keeps it running: its background read would fail in the middle of a long answer and
// cancel the context of a client that is still there.
func releaseReadDeadline(w http.ResponseWriter) {
	// The only error is that the writer has no connection, as in a test.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// logPanic logs what panicked and where, and never with what: the value often holds what a caller sent (L02).
func logPanic(ctx context.Context, log *slog.Logger, errorID string, value any) {
	log.LogAttrs(ctx, slog.LevelError, "panic",
		slog.String("error_id", errorID),
		slog.String("type", fmt.Sprintf("%T", value)),
		slog.String("stack", callers()))
}

// callers is the stack as functions and lines. debug.Stack would add the arguments as they lie in registers.
func callers() string {
	pcs := make([]uintptr, 48)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		b.WriteString(f.Function)
		b.WriteByte(' ')
		b.WriteString(f.File[strings.LastIndexByte(f.File, '/')+1:])
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(f.Line))
		if !more {
			return b.String()
		}
		b.WriteByte('\n')
	}
}
