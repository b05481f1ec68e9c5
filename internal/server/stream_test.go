package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
)

const eventStream = "text/event-stream"

// pipes is a network in memory, so that a test in a bubble of synctest can wait for it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// bubble runs a test with a server in memory and time that stands still while everyone waits.
func bubble(t *testing.T, test func(t *testing.T, d *door, p *pipes), change ...func(*GraphQLConfig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, p := setup(t, change...), newPipes()
		s := &http.Server{Handler: d}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = s.Serve(p)
		}()
		test(t, d, p)
		d.Drain(t.Context())
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-served
		if logs := d.logs.String(); strings.Contains(logs, canary) {
			t.Errorf("a canary is in the log: %s", logs)
		}
	})
}

// serve puts the door on a port of its own; in the end its streams are drained.
func (d *door) serve(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(d)
	t.Cleanup(func() {
		d.Drain(context.Background())
		s.Close()
	})
	return s
}

// listener is an open event stream.
type listener struct {
	t    *testing.T
	conn net.Conn
	res  *http.Response
	r    *bufio.Reader
}

// listen asks for an event stream over a connection.
func listen(t *testing.T, c net.Conn, query string, headers ...string) *listener {
	t.Helper()
	body := `{"query":` + jsonString(query) + `}`
	lines := append([]string{"Content-Type: application/json", "Accept: " + eventStream, fmt.Sprintf("Content-Length: %d", len(body))}, headers...)
	if _, err := io.WriteString(c, request("POST /graphql", lines...)+body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &listener{t: t, conn: c, res: res, r: bufio.NewReader(res.Body)}
}

func dialTCP(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// next reads one event, or a comment, which is "". ok is false at the end of the stream.
func (l *listener) next() (event, data string, ok bool) {
	for {
		line, err := l.r.ReadString('\n')
		if err != nil {
			return "", "", false
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
			return event, data, true
		case strings.HasPrefix(line, ":"):
		case strings.HasPrefix(line, "event: "):
			event = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			data += strings.TrimPrefix(line, "data: ")
		default:
			l.t.Errorf("a line that is none of the protocol: %q", line)
		}
	}
}

// want reads up to the next event and holds it against what is wanted, as "event data".
func (l *listener) want(wanted string) {
	l.t.Helper()
	for {
		event, data, ok := l.next()
		if !ok {
			l.t.Errorf("the stream has ended before %s", wanted)
			return
		}
		if event == "" {
			continue
		}
		if got := event + " " + data; got != wanted {
			l.t.Errorf("got %s, want %s", got, wanted)
		}
		return
	}
}

func (l *listener) ends() {
	l.t.Helper()
	if event, data, ok := l.next(); ok {
		l.t.Errorf("after the end came %s %s", event, data)
	}
}

// A query and a mutation are answered as one event, and a document that is refused is one as well; what never
// became a document is answered by its status.
func TestEventStreamOfOne(t *testing.T) {
	t.Parallel()
	d := setup(t)
	const end = "\n\nevent: complete\ndata: \n\n"
	ask := func(r *http.Request) (*httptest.ResponseRecorder, string) {
		if r.Header.Get("Authorization") == "" {
			r.Header.Set("Authorization", partnerToken)
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, header(r, "Accept", eventStream))
		return w, w.Body.String()
	}
	for name, c := range map[string]struct {
		r    *http.Request
		want string
	}{
		"query":     {query("{viewer{id}}"), `{"data":{"viewer":{"id":"x"}}}`},
		"GET":       {get("{viewer{id}}"), `{"data":{"viewer":{"id":"x"}}}`},
		"mutation":  {query(registerCanary), `{"data":{"registerPerson":{"person":null}}}`},
		"parse":     {query("{"), `{"errors":[{"message":"Syntax error: unexpected \u003cEOF\u003e.","locations":[{"line":1,"column":2}],"extensions":{"code":"GRAPHQL_PARSE_FAILED"}}]}`},
		"forbidden": {query(`{node(id:"` + canary + `"){id}}`), `{"errors":[{"message":"A scope is missing.","extensions":{"code":"FORBIDDEN"}}]}`},
	} {
		w, body := ask(c.r)
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" || body != "event: next\ndata: "+c.want+end {
			t.Errorf("%s: %d %s %s", name, w.Code, w.Header().Get("Content-Type"), body)
		}
	}
	if d.mutations.Load() != 1 {
		t.Errorf("%d mutations ran", d.mutations.Load())
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"no token":     {header(query("{viewer{id}}"), "Authorization", "none"), 401},
		"no JSON":      {post(canary), 400},
		"GET mutation": {get(registerCanary), 405},
	} {
		w, body := ask(c.r)
		if w.Code != c.status || w.Header().Get("Content-Type") != "application/json; charset=utf-8" || !strings.HasPrefix(body, `{"errors":`) {
			t.Errorf("%s: %d %s", name, w.Code, body)
		}
	}
	// A client that takes either gets what it named first, unless only a stream will do.
	w, _ := ask(query("{viewer{id}}"))
	if w.Code != 200 {
		t.Error(w.Code)
	}
	a := d.ask(t, header(query("{viewer{id}}"), "Accept", "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"))
	if a.header.Get("Content-Type") != "application/graphql-response+json; charset=utf-8" {
		t.Error(a.header)
	}
	if a = d.ask(t, header(query("subscription{ticks}"), "Accept", "*/*")); a.code() != codeBadRequest {
		t.Errorf("a subscription for a client that reads one answer: %s", a.body)
	}
}

// A subscription passes the same gates as everything else, and its own number of streams.
func TestEventStreamRefusals(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for q, code := range map[string]string{
		"subscription{ticks ticks2:ticks}":                                                       codeValidationFailed,
		"subscription{ticks ...F} fragment F on Subscription{b:ticks}":                           codeValidationFailed,
		"subscription{ticks@skip(if:true)}":                                                      codeValidationFailed,
		"subscription{...@include(if:false){ticks}}":                                             codeValidationFailed,
		"subscription{__typename}":                                                               codeValidationFailed,
		"subscription{ticks(from:" + canary + ")}":                                               codeParseFailed,
		"subscription{ticks(from:\"" + canary + "\")}":                                           codeValidationFailed,
		"subscription{many(first:101){totalCount}}":                                              codeBadUserInput,
		"subscription{nothing}":                                                                  codeInternal, // the default presenter's word for every error
		"subscription{many(first:100){nodes{processes(first:100){nodes{attempts{nodes{id}}}}}}}": codeCostExceeded,
	} {
		w := httptest.NewRecorder()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		d.ServeHTTP(w, header(query(q), "Accept", eventStream, "Authorization", partnerToken).WithContext(ctx))
		cancel()
		body := w.Body.String()
		if w.Code != 200 || !strings.Contains(body, `"code":"`+code+`"`) || !strings.HasSuffix(body, "event: complete\ndata: \n\n") || strings.Contains(body, canary) {
			t.Errorf("%s: %d %s", q, w.Code, body)
		}
	}
	if len(d.sources) != 0 {
		t.Error("a refused subscription has begun")
	}
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	// Streams live longer than an answer may take.
	g := serve(t, func(c *Config) { c.WriteTimeout = 50 * time.Millisecond }).start()
	l := listen(t, dialTCP(t, g.PublicAddr()), "subscription S{t:ticks(from:3)}")
	if l.res.StatusCode != 200 || l.res.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || l.res.Header.Get("Cache-Control") != "no-store" || l.res.Header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("%d %v", l.res.StatusCode, l.res.Header)
	}
	s := <-g.door.sources
	if fmt.Sprint(s.args["from"]) != "3" {
		t.Errorf("the arguments are %v", s.args)
	}
	for i := range 100 {
		s.values <- fmt.Sprint(i)
		if i == 50 {
			<-time.After(80 * time.Millisecond)
		}
		l.want(fmt.Sprintf(`next {"data":{ "t":  %d}}`, i))
	}
	if m := scrape(t, g.door.registry); !strings.Contains(m, `kycgate_graphql_streams_open{transport="sse"} 1`) {
		t.Error("the stream is not counted")
	}
	close(s.values)
	l.want("complete ")
	g.shutdown(t)
	l.ends()
	m := scrape(t, g.door.registry)
	for _, want := range []string{
		`kycgate_graphql_streams_open{transport="sse"} 0`,
		`kycgate_graphql_request_duration_seconds_count{operation_type="subscription",outcome="ok"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("missing %s", want)
		}
	}
	if logs := g.door.logs.String(); !strings.Contains(logs, `"operation_type":"subscription","outcome":"ok","partner":"acme"`) {
		t.Error(logs)
	}
}

// The connection can be used again after a stream that ended by itself.
func TestEventStreamKeepsTheConnection(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := dialTCP(t, g.PublicAddr())
	for range 3 {
		l := listen(t, c, "subscription{ticks}")
		s := <-g.door.sources
		s.values <- "1"
		close(s.values)
		l.want(`next {"data":{ "ticks":  1}}`)
		l.want("complete ")
		l.ends()
	}
}

// A client that goes away ends its resolver, and the handler returns after it.
func TestEventStreamClientGone(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	l := listen(t, dialTCP(t, g.PublicAddr()), "subscription{ticks}")
	s := <-g.door.sources
	_ = l.conn.Close()
	<-s.ctx.Done()
	g.shutdown(t)
	if logs := g.door.logs.String(); !strings.Contains(logs, `"operation_type":"subscription","outcome":"canceled"`) {
		t.Error(logs)
	}
}

// R10: a stream ends with `complete` as soon as the drain begins, and with it its connection.
func TestEventStreamDrain(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	var open []*listener
	for range 20 {
		open = append(open, listen(t, dialTCP(t, g.PublicAddr()), "subscription{ticks}"))
	}
	g.shutdown(t)
	for _, l := range open {
		l.want("complete ")
		l.ends()
	}
}

// J24 for event streams: the reason is in the stream.
func TestEventStreamTokenExpires(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	d := setup(t, func(c *GraphQLConfig) { c.Clock = clock })
	at := clock.Now().Add(time.Hour)
	d.expiry.Store(&at)
	s := d.serve(t)
	l := listen(t, dialTCP(t, s.Listener.Addr()), "subscription{ticks}")
	source := <-d.sources
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour - time.Second)
	source.values <- "1"
	l.want(`next {"data":{ "ticks":  1}}`)
	clock.Advance(time.Second)
	l.want(`next {"errors":[{"message":"The access token has expired.","extensions":{"code":"UNAUTHENTICATED"}}]}`)
	l.want("complete ")
	l.ends()
	<-source.ctx.Done()
}

func TestEventStreamKeepAlive(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, d *door, p *pipes) {
		c, _ := p.dial(t.Context(), "", "")
		l := listen(t, c, "subscription{ticks}")
		s := <-d.sources
		begin := time.Now()
		for range 3 { // one at once, two more with time
			if event, _, ok := l.next(); !ok || event != "" {
				t.Fatalf("%s %v", event, ok)
			}
		}
		if got := time.Since(begin); got != 2*keepAlive {
			t.Errorf("two comments in %v", got)
		}
		close(s.values)
		l.want("complete ")
		_ = c.Close()
	})
}

// A client that does not read is cut off, and nobody else waits for it.
func TestEventStreamSlowReader(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, d *door, p *pipes) {
		slow, _ := p.dial(t.Context(), "", "")
		quick, _ := p.dial(t.Context(), "", "")
		listen(t, slow, "subscription{ticks}")
		first := <-d.sources
		l := listen(t, quick, "subscription{ticks}")
		second := <-d.sources
		begin := time.Now()
		for i := range 60 {
			first.values <- "1"
			second.values <- fmt.Sprint(i)
			l.want(fmt.Sprintf(`next {"data":{ "ticks":  %d}}`, i))
		}
		if time.Since(begin) != 0 {
			t.Errorf("a reader waited %v for another", time.Since(begin))
		}
		<-first.ctx.Done()
		if got := time.Since(begin); got != writeWithin {
			t.Errorf("a slow reader was cut off after %v", got)
		}
		if second.ctx.Err() != nil {
			t.Error("a quick reader was cut off")
		}
		_, _ = slow.Close(), quick.Close()
	})
}

// A panic while an event is made is the last event, under the id that is in the log.
func TestEventStreamPanic(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	l := listen(t, dialTCP(t, g.PublicAddr()), "subscription{crash}")
	(<-g.door.sources).values <- "1"
	event, data, _ := l.next()
	for event == "" {
		event, data, _ = l.next()
	}
	_, id, _ := strings.Cut(data, `"errorId":"`)
	id, _, _ = strings.Cut(id, `"`)
	if event != "next" || !strings.Contains(data, `"code":"INTERNAL"`) || id == "" || strings.Contains(data, canary) {
		t.Errorf("%s %s", event, data)
	}
	l.want("complete ")
	g.shutdown(t)
	if logs := g.door.logs.String(); !strings.Contains(logs, `"error_id":"`+id+`"`) || !strings.Contains(logs, `"outcome":"internal"`) {
		t.Error(logs)
	}
}

// What is open is bounded, in all and by principal, and whoever leaves makes room.
func TestStreamLimits(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) { c.Limits = Limits{Streams: 6, StreamsOfPrincipal: 4, StreamsOfPerson: 2} })
	s := d.serve(t)
	open := func(token string) *listener {
		body := `{"query":"subscription{ticks}"}`
		c := dialTCP(t, s.Listener.Addr())
		_, _ = io.WriteString(c, strings.Replace(request("POST /graphql", "Content-Type: application/json", "Accept: text/event-stream",
			fmt.Sprintf("Content-Length: %d", len(body))), partnerToken, token, 1)+body)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return &listener{t: t, conn: c, res: res, r: bufio.NewReader(res.Body)}
	}
	refused := func(token string, status int, code string) {
		t.Helper()
		l := open(token)
		b, _ := io.ReadAll(l.r)
		if l.res.StatusCode != status || !strings.Contains(string(b), code) || l.res.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", l.res.StatusCode, b)
		}
	}
	var all []*listener
	for range 4 {
		all = append(all, open(partnerToken))
	}
	refused(partnerToken, 429, codeRateLimited)
	all = append(all, open(subjectToken), open(subjectToken))
	refused(bazaarToken, 503, codeOverloaded)
	_ = all[5].conn.Close()
	for range 5 {
		<-d.sources
	}
	<-(<-d.sources).ctx.Done()
	// The seat is given back after the resolver has ended; ask until it is.
	for {
		l := open(bazaarToken)
		if l.res.StatusCode == 200 {
			break
		}
	}
	refused(subjectToken, 503, codeOverloaded)
}

// Executions are bounded, and a stream that waits for an event is none.
func TestEventStreamsDoNotHoldSlots(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) { c.MaxConcurrent = 1 })
	s := d.serve(t)
	for range 3 {
		listen(t, dialTCP(t, s.Listener.Addr()), "subscription{ticks}")
		<-d.sources
	}
	if a := d.ask(t, query("{viewer{id}}")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
