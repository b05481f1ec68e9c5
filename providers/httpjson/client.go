package httpjson

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// maxBody bounds an answer: the longest documented one, a person with the blocks of every bureau, is far
// below it (ours).
const maxBody = 1 << 20

// SimulatorHeader is set by our simulators on every answer. In production it is refused: a person who was
// approved by a simulator was approved by nobody.
const SimulatorHeader = "Kycgate-Simulator"

// Client calls one upstream. Its fields must not change once it is in use.
type Client struct {
	HTTP    *http.Client // from [NewHTTPClient], shared by all providers
	BaseURL string       // with or without a slash at the end
	// Header adds what every request carries, credentials above all. It is a function because functions do
	// not print.
	Header     func(http.Header)
	UserAgent  string // see [UserAgent]
	MaxBody    int64  // bytes of an answer; 0 is 1 MiB
	Production bool   // refuse simulators
}

// Request is one call.
type Request struct {
	Op     string // for errors, e.g. "qitech.analyze_person"
	Method string
	Path   string // escaped, with a leading slash
	Query  url.Values
	Body   any        // sent as JSON unless nil
	Form   url.Values // sent as a form instead of Body, for token endpoints
}

// Response is an answer, whatever its status.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// NewHTTPClient makes the client all providers share, so that connections are reused. It has no time-out of
// its own: a call is bounded by its context.
func NewHTTPClient() *http.Client {
	dialer := &net.Dialer{
		// Shorter than an attempt, so that a host that swallows packets is told from one that thinks: the
		// first is Unavailable, the second Ambiguous (ours).
		Timeout:   3 * time.Second,
		KeepAlive: 30 * time.Second,
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12}, // all QI Tech takes (dossier A.1)
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
			// All calls share one HTTP/2 connection. Without pings one that was dropped silently times out every
			// call until TCP gives up, a quarter of an hour later.
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
			MaxIdleConns:           512,
			MaxIdleConnsPerHost:    128, // the default of 2 means a handshake for every parallel call
			IdleConnTimeout:        60 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: refuseRedirect,
	}
}

// refuseRedirect hands the 3xx to us. Following one would send a person's data and our key to a host that
// nobody configured.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// UserAgent is how we introduce ourselves; upstreams and simulators see what kind of gateway calls.
func UserAgent(version string, production bool) string {
	if version == "" {
		version = "dev"
	}
	environment := "sandbox"
	if production {
		environment = "production"
	}
	return fmt.Sprintf("kycgate/%s (%s)", version, environment)
}

// Do makes the call. It fails for every status but 2xx; the Response is given along with the error whenever
// an answer was read, so that the provider can judge the statuses it knows more about (400 and 422 above
// all: only the provider can tell a refusal of the data from a mistake of ours).
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	left := new(departure)
	req, err := c.request(httptrace.WithClientTrace(ctx, left.trace()), r)
	if err != nil {
		return Response{}, fail(r.Op, kyc.Internal, CodeRequest, err)
	}
	client := *c.HTTP // a copy, because a redirect must not be followed whatever we were given
	client.CheckRedirect = refuseRedirect

	answer, err := client.Do(req)
	if err != nil {
		return Response{}, transportError(ctx, r.Op, err, left.happened())
	}
	defer func() { _ = answer.Body.Close() }()

	resp := Response{Status: answer.StatusCode, Header: answer.Header}
	body, readErr := c.read(answer.Body)
	if c.Production && answer.Header.Get(SimulatorHeader) != "" {
		return Response{}, fail(r.Op, kyc.Credentials, CodeSimulator, errSimulator)
	}
	if readErr != nil && needsBody(resp.Status) {
		if errors.Is(readErr, errTooLong) {
			return resp, fail(r.Op, kyc.Ambiguous, CodeBadAnswer, errTooLong)
		}
		return resp, transportError(ctx, r.Op, readErr, true)
	}
	resp.Body = bytes.TrimPrefix(body, byteOrderMark)
	return resp, classify(r.Op, resp, time.Now())
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	target := strings.TrimRight(c.BaseURL, "/") + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	var body io.Reader
	contentType := ""
	switch {
	case r.Form != nil:
		body, contentType = strings.NewReader(r.Form.Encode()), "application/x-www-form-urlencoded"
	case r.Body != nil:
		b, err := json.Marshal(r.Body)
		if err != nil {
			return nil, errEncode // json's own error quotes the value
		}
		// A bytes.Reader lets the transport take another connection when a kept-alive one turns out to be
		// closed before a byte of a POST was written. It repeats no POST of which a byte was.
		body, contentType = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, errURL // net/url's own error quotes the URL
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	if c.Header != nil {
		c.Header(req.Header)
	}
	return req, nil
}

// read reads an answer to its end, which is what gives the connection back to the pool. Of one that is too
// long the rest is left unread and the connection is closed.
func (c *Client) read(r io.Reader) ([]byte, error) {
	limit := c.MaxBody
	if limit <= 0 {
		limit = maxBody
	}
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, errTooLong
	}
	return body, nil
}

// byteOrderMark may begin a JSON text; who reads one may ignore it (RFC 8259, 8.1). Some frameworks write it always, and every
// answer would be unreadable.
var byteOrderMark = []byte("\xef\xbb\xbf")

// needsBody tells the statuses that say nothing without their body from those that say it all.
func needsBody(status int) bool {
	return status < 300 || status == http.StatusBadRequest || status == http.StatusUnprocessableEntity
}

// Decode reads a 2xx answer. What is not the JSON we expect is an answer all the same: the call is Ambiguous.
func Decode(op string, resp Response, into any) error {
	if err := json.Unmarshal(resp.Body, into); err != nil {
		return BadAnswer(op) // json's own error quotes numbers, and a document is one
	}
	return nil
}

// departure notes whether any of the request may have left.
//
// Having been given a connection counts as having left. Waiting for the first written header would be more
// exact and wrong: the transport writes in another goroutine, which goes on for a moment after a cancelled
// call has returned. A connection is given after dialling and TLS, so failures of those still are "before".
type departure struct{ left atomic.Bool }

func (d *departure) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// The transport asks for a second connection only when the first took nothing of a POST (or the
		// request is a GET, for which it does not matter). So every attempt starts anew.
		GetConn: func(string) { d.left.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { d.left.Store(true) },
	}
}

func (d *departure) happened() bool { return d.left.Load() }
