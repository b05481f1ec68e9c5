package httpjson

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// Codes of the failures that have no HTTP status; the others are "HTTP_503" and the like, see [StatusCode].
// The guard tells its metric outcomes apart by them.
const (
	CodeTimeout    = "timeout"         // the deadline of the call, or of dialling, ran out
	CodeCanceled   = "canceled"        // the context ended for another reason
	CodeConnection = "connection_lost" // reset, closed or truncated after something may have left
	CodeNotReached = "not_reached"     // no name, no route, nobody listening, no TLS
	CodeBadAnswer  = "bad_answer"      // an answer that is not what the upstream documents
	CodeSimulator  = "simulator"       // a simulator answered a production gateway
	CodeRequest    = "request"         // we could not even write the request
)

// The words an error may consist of.
var (
	errBadAnswer  = errors.New("the answer is not what the upstream documents")
	errTooLong    = errors.New("the answer is too long")
	errSimulator  = errors.New("a simulator answered; this gateway is in production")
	errEncode     = errors.New("the request cannot be written as JSON")
	errURL        = errors.New("the address of the upstream cannot be parsed")
	errTimeout    = errors.New("timed out")
	errName       = errors.New("the host name was not resolved")
	errRefused    = errors.New("the connection was refused")
	errReset      = errors.New("the connection was reset")
	errClosed     = errors.New("the connection was closed before the answer was complete")
	errTLS        = errors.New("the TLS handshake failed; check the certificate and base_url")
	errConnection = errors.New("the connection failed")
	errStatus     = errors.New("the upstream refused the call")
)

func fail(op string, kind kyc.Kind, code string, cause error) *kyc.Error {
	return &kyc.Error{Kind: kind, Op: op, Code: code, Err: cause}
}

// BadAnswer is the error for an answer that came and cannot be understood. Whether the call took effect is
// unknown.
func BadAnswer(op string) *kyc.Error { return fail(op, kyc.Ambiguous, CodeBadAnswer, errBadAnswer) }

// StatusCode is the code of a status: "HTTP_503".
func StatusCode(status int) string { return "HTTP_" + strconv.Itoa(status) }

// classify is the default meaning of a status (architecture, "A provider").
func classify(op string, resp Response, now time.Time) error {
	status := resp.Status
	kind, code := kyc.Internal, StatusCode(status)
	var retryAfter time.Duration
	switch {
	case status >= 200 && status < 300:
		return nil
	case status < 200, status < 400, status > 599: // a redirect is not followed
		kind, code = kyc.Ambiguous, CodeBadAnswer
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		kind = kyc.Credentials
	case status == http.StatusNotFound:
		kind = kyc.NotFound
	case status == http.StatusConflict:
		kind = kyc.Conflict
	case status == http.StatusTooManyRequests:
		kind, retryAfter = kyc.RateLimited, parseRetryAfter(resp.Header, now)
	case status == http.StatusServiceUnavailable:
		kind, retryAfter = kyc.Ambiguous, parseRetryAfter(resp.Header, now)
	case status == http.StatusRequestTimeout, status >= 500:
		kind = kyc.Ambiguous
	}
	err := fail(op, kind, code, errStatus)
	err.RetryAfter = kyc.RetryHint(retryAfter)
	return err
}

// maxRetryAfter keeps a mistake of theirs from stopping us for a day (ours).
const maxRetryAfter = time.Hour

// parseRetryAfter reads seconds or an HTTP date. A date is compared with the answer's own Date, so that
// neither clock has to be right.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// transportError is a call without a complete answer. A library's own error is looked at and never kept: it
// holds the URL, the address or the name in a certificate.
func transportError(ctx context.Context, op string, err error, left bool) error {
	kind := kyc.Unavailable
	if left {
		kind = kyc.Ambiguous
	}
	// The context is asked before the error: the transport reports context.Cause, which can be anything.
	switch ctxErr := ctx.Err(); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return fail(op, kind, CodeTimeout, ctxErr)
	case ctxErr != nil:
		return fail(op, kind, CodeCanceled, ctxErr)
	}
	cause := connectionCause(err)
	switch {
	case errors.Is(cause, errTimeout):
		return fail(op, kind, CodeTimeout, cause)
	case left:
		return fail(op, kind, CodeConnection, cause)
	default:
		return fail(op, kind, CodeNotReached, cause)
	}
}

// connectionCause says in our words what went wrong, for the operator.
func connectionCause(err error) error {
	var (
		dns       *net.DNSError
		netErr    net.Error
		alert     tls.AlertError
		record    tls.RecordHeaderError
		untrusted *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	switch {
	case errors.As(err, &dns):
		return errName
	case errors.As(err, &netErr) && netErr.Timeout():
		return errTimeout
	case errors.As(err, &untrusted), errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &alert), errors.As(err, &record):
		return errTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return errRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return errClosed
	default:
		return errConnection
	}
}
