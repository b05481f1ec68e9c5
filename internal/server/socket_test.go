package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jonboulle/clockwork"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

// client is a WebSocket client that knows nothing of the protocol but its frames.
type client struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

type dialer struct {
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	header      http.Header
	subprotocol string
}

// connect opens a socket; d may be its zero value, which is a TCP socket of our subprotocol without a token.
func connect(t *testing.T, addr string, d dialer) (*client, *http.Response, error) {
	t.Helper()
	if d.subprotocol == "" {
		d.subprotocol = subprotocol
	}
	transport := &http.Transport{DialContext: d.dial, DisableKeepAlives: true}
	// Only in real time: in a bubble nothing may be left running, and nothing hangs unnoticed.
	ctx := t.Context()
	if d.dial == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 20*time.Second)
		t.Cleanup(cancel)
	}
	conn, res, err := websocket.Dial(ctx, "ws://"+addr+"/graphql", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: d.header, Subprotocols: []string{d.subprotocol},
	})
	if err != nil {
		return nil, res, err
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &client{t: t, conn: conn, ctx: ctx}, res, nil
}

func (g *gateway) connect(t *testing.T) *client {
	t.Helper()
	c, _, err := connect(t, g.PublicAddr().String(), dialer{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ready opens a socket and says who it is.
func (g *gateway) readySocket(t *testing.T) *client {
	t.Helper()
	c := g.connect(t)
	c.init(partnerToken)
	return c
}

func (c *client) init(token string) {
	c.t.Helper()
	c.send(`{"type":"connection_init","payload":{"authorization":"` + token + `"}}`)
	c.want(`{"type":"connection_ack"}`)
}

func (c *client) send(message string) {
	c.t.Helper()
	if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(message)); err != nil {
		c.t.Errorf("%s was not sent: %v", message, err)
	}
}

func (c *client) subscribe(id, query string) {
	c.t.Helper()
	c.send(`{"id":` + jsonString(id) + `,"type":"subscribe","payload":{"query":` + jsonString(query) + `}}`)
}

func (c *client) read() (string, error) {
	_, b, err := c.conn.Read(c.ctx)
	return string(b), err
}

func (c *client) want(message string) {
	c.t.Helper()
	if got, err := c.read(); err != nil || got != message {
		c.t.Errorf("got %s %v, want %s", got, err, message)
	}
}

// closes reads to the end and holds the close code against what is wanted. Messages before it are returned.
func (c *client) closes(code int) (before []string) {
	c.t.Helper()
	for {
		got, err := c.read()
		if err == nil {
			before = append(before, got)
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || int(closed.Code) != code {
			c.t.Errorf("closed with %v, want %d", err, code)
		}
		if strings.Contains(closed.Reason, canary) {
			c.t.Errorf("the reason says %q", closed.Reason)
		}
		return before
	}
}

// Every close code of the protocol, provoked and seen.
func TestCloseCodes(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	const init = `{"type":"connection_init","payload":{"authorization":"` + partnerToken + `"}}`
	for name, c := range map[string]struct {
		send   []string
		before func(*client)
		code   int
	}{
		"not JSON":               {send: []string{canary}, code: 4400},
		"a list":                 {send: []string{`[` + init + `]`}, code: 4400},
		"a key twice":            {send: []string{`{"type":"ping","type":"connection_init"}`}, code: 4400},
		"no type":                {send: []string{`{}`}, code: 4400},
		"a type of the server":   {send: []string{init, `{"type":"connection_ack"}`}, code: 4400},
		"an unknown type":        {send: []string{init, `{"type":"` + canary + `"}`}, code: 4400},
		"an old protocol":        {send: []string{init, `{"id":"1","type":"start","payload":{"query":"{viewer{id}}"}}`}, code: 4400},
		"payload is a list":      {send: []string{`{"type":"connection_init","payload":[]}`}, code: 4400},
		"subscribe without id":   {send: []string{init, `{"type":"subscribe","payload":{"query":"{viewer{id}}"}}`}, code: 4400},
		"an empty id":            {send: []string{init, `{"id":"","type":"subscribe","payload":{"query":"{viewer{id}}"}}`}, code: 4400},
		"a long id":              {send: []string{init, `{"id":"` + strings.Repeat("x", 256) + `","type":"subscribe","payload":{"query":"{viewer{id}}"}}`}, code: 4400},
		"subscribe without body": {send: []string{init, `{"id":"1","type":"subscribe"}`}, code: 4400},
		"subscribe to nothing":   {send: []string{init, `{"id":"1","type":"subscribe","payload":{}}`}, code: 4400},
		"query is a number":      {send: []string{init, `{"id":"1","type":"subscribe","payload":{"query":1}}`}, code: 4400},
		"binary": {before: func(c *client) {
			_ = c.conn.Write(c.ctx, websocket.MessageBinary, []byte(init))
		}, code: 4400},
		"not UTF-8": {before: func(c *client) {
			_ = c.conn.Write(c.ctx, websocket.MessageText, []byte("{\"type\":\"\xff\"}"))
		}, code: 4400},
		"too large":               {send: []string{`{"type":"ping","payload":{"x":"` + strings.Repeat("x", maxSocketMessage) + `"}}`}, code: 1009},
		"subscribe before init":   {send: []string{`{"id":"1","type":"subscribe","payload":{"query":"{viewer{id}}"}}`}, code: 4401},
		"init without token":      {send: []string{`{"type":"connection_init"}`}, code: 4401},
		"init with null":          {send: []string{`{"type":"connection_init","payload":{"authorization":null}}`}, code: 4401},
		"init with a bad token":   {send: []string{`{"type":"connection_init","payload":{"authorization":"Bearer ` + canary + `"}}`}, code: 4401},
		"init with bare token":    {send: []string{`{"type":"connection_init","payload":{"authorization":"partner"}}`}, code: 4401},
		"init twice":              {send: []string{init, init}, code: 4429},
		"init twice, bad at last": {send: []string{init, `{"type":"connection_init"}`}, code: 4429},
		"one id twice": {send: []string{
			init, `{"id":"1","type":"subscribe","payload":{"query":"subscription{ticks}"}}`,
			`{"id":"1","type":"subscribe","payload":{"query":"{viewer{id}}"}}`,
		}, code: 4409},
		"ever more messages": {before: func(c *client) {
			for range 1_000 {
				if c.conn.Write(c.ctx, websocket.MessageText, []byte(`{"type":"pong"}`)) != nil {
					return
				}
			}
		}, code: 4429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := g.connect(t)
			for _, m := range c.send {
				one.send(m)
			}
			if c.before != nil {
				c.before(one)
			}
			one.closes(c.code)
		})
	}
}

// 4406: the handshake is completed, or nobody could be told.
func TestSubprotocol(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	for _, name := range []string{"graphql-ws", canary} {
		c, res, err := connect(t, g.PublicAddr().String(), dialer{subprotocol: name})
		if err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("Sec-WebSocket-Protocol") != "" {
			t.Errorf("the server took %s", name)
		}
		c.closes(4406)
	}
}

// 4408, 4403 and the pings, in time that stands still.
func TestSocketTimes(t *testing.T) {
	t.Parallel()
	inTime := func(name string, test func(t *testing.T, d *door, c *client)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, d *door, p *pipes) {
				at := time.Now().Add(time.Hour)
				d.expiry.Store(&at)
				c, _, err := connect(t, "pipe", dialer{dial: p.dial})
				if err != nil {
					t.Fatal(err)
				}
				test(t, d, c)
				_ = c.conn.CloseNow()
			})
		})
	}
	inTime("no init", func(t *testing.T, _ *door, c *client) {
		begin := time.Now()
		c.closes(4408)
		if got := time.Since(begin); got != initWithin {
			t.Errorf("closed after %v", got)
		}
	})
	inTime("pings are no init", func(t *testing.T, _ *door, c *client) {
		c.send(`{"type":"ping"}`)
		c.want(`{"type":"pong"}`)
		c.closes(4408)
	})
	inTime("the token expires", func(t *testing.T, d *door, c *client) {
		begin := time.Now()
		c.init(partnerToken)
		c.subscribe("1", "subscription{ticks}")
		s := <-d.sources
		s.values <- "1"
		c.want(tick("1", 1))
		c.closes(4403)
		if got := time.Since(begin); got != time.Hour { // J24 allows for 30 s more
			t.Errorf("closed after %v", got)
		}
		<-s.ctx.Done()
	})
	inTime("a token that has expired, within the leeway", func(t *testing.T, d *door, c *client) {
		at := time.Now().Add(-59 * time.Second)
		d.expiry.Store(&at)
		c.init(partnerToken)
		c.closes(4403)
	})
	inTime("a client that does not read", func(t *testing.T, d *door, c *client) {
		c.init(partnerToken)
		c.subscribe("1", "subscription{ticks}")
		s, begin := <-d.sources, time.Now()
		<-s.ctx.Done()
		if got := time.Since(begin); got > keepAlive+pongWithin {
			t.Errorf("it was noticed after %v", got)
		}
	})
}

// The clock of the token is the injected one.
func TestSocketTokenExpires(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	d := setup(t, func(c *GraphQLConfig) { c.Clock = clock })
	at := clock.Now().Add(time.Hour)
	d.expiry.Store(&at)
	s := d.serve(t)
	c, _, err := connect(t, s.Listener.Addr().String(), dialer{header: http.Header{"Authorization": {partnerToken}}})
	if err != nil {
		t.Fatal(err)
	}
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	c.closes(4403)
}

// A socket runs queries and mutations too, through the same gates as a POST.
func TestSocketOperations(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := g.readySocket(t)
	both := func(id, query, next string) {
		t.Helper()
		c.subscribe(id, query)
		c.want(`{"id":` + jsonString(id) + `,"type":"next","payload":` + next + `}`)
		c.want(`{"id":` + jsonString(id) + `,"type":"complete"}`)
	}
	both("1", "{viewer{id}}", `{"data":{"viewer":{"id":"x"}}}`)
	both("1", "{viewer{name}}", `{"data":{"viewer":{"name":"x"}}}`)
	both(`"quoted" <é>`, registerCanary, `{"data":{"registerPerson":{"person":null}}}`)
	if g.door.mutations.Load() != 1 {
		t.Errorf("%d mutations ran", g.door.mutations.Load())
	}
	c.send(`{"id":"v","type":"subscribe","payload":{"query":"query A($i:Boolean!){viewer{id@include(if:$i)}} query B{viewer{name}}","operationName":"A","variables":{"i":true},"extensions":null}}`)
	c.want(`{"id":"v","type":"next","payload":{"data":{"viewer":{"id":"x"}}}}`)
	c.want(`{"id":"v","type":"complete"}`)
	for query, code := range map[string]string{
		"{":                       codeParseFailed,
		"{nothing}":               codeValidationFailed,
		"{__schema{types{name}}}": codeIntrospectionDisabled,
		`{node(id:"1"){id}}`:      codeForbidden,
		"query($i:Int!){everything(first:$i){totalCount}}":                              codeBadUserInput,
		"{persons(first:100){nodes{processes(first:100){nodes{attempts{nodes{id}}}}}}}": codeCostExceeded,
		"query A{viewer{id}} query B{viewer{id}}":                                       codeBadRequest,
		"{viewer{id}" + strings.Repeat(" ", maxQueryBytes) + "}":                        codeQueryTooLarge,
		fragmentBomb(): codeQueryTooLarge,
	} {
		c.subscribe("e", query)
		var m struct {
			ID, Type string
			Payload  []struct{ Extensions struct{ Code string } }
		}
		text, err := c.read()
		if err != nil || json.Unmarshal([]byte(text), &m) != nil || m.ID != "e" || m.Type != "error" || len(m.Payload) == 0 || m.Payload[0].Extensions.Code != code {
			t.Errorf("%s: %v %s, want %s", query, err, text, code)
		}
	}
	c.send(`{"id":"p","type":"subscribe","payload":{"query":"","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}}`)
	if text, _ := c.read(); !strings.Contains(text, codePersistedQueryNotFound) {
		t.Error(text)
	}
	_ = c.conn.Close(websocket.StatusNormalClosure, canary)
	g.shutdown(t)
	m := scrape(t, g.door.registry)
	for _, want := range []string{
		`kycgate_graphql_request_duration_seconds_count{operation_type="mutation",outcome="ok"} 1`,
		`kycgate_graphql_request_duration_seconds_count{operation_type="query",outcome="ok"} 3`,
		`kycgate_graphql_refused_total{reason="cost_exceeded"} 1`,
		`kycgate_graphql_sockets_open 0`,
		`kycgate_graphql_sockets_closed_total{code="0"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("missing %s", want)
		}
	}
	logs := g.door.logs.String()
	for _, want := range []string{`"msg":"operation"`, `"operation_type":"mutation","outcome":"ok","partner":"acme"`, `"status":101`} {
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the log:\n%s", want, logs)
		}
	}
}

func tick(id string, value int) string {
	return fmt.Sprintf("{\"id\":%q,\"type\":\"next\",\"payload\":{\"data\":{\n\"ticks\":\r\n%d}}}", id, value)
}

func TestSocketSubscriptions(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := g.readySocket(t)
	c.subscribe("a", "subscription{ticks}")
	a := <-g.door.sources
	c.subscribe("b", "subscription{ticks(from:2)}")
	b := <-g.door.sources
	for i := range 50 {
		a.values <- fmt.Sprint(i)
		c.want(tick("a", i))
		b.values <- fmt.Sprint(-i)
		c.want(tick("b", -i))
	}
	if m := scrape(t, g.door.registry); !strings.Contains(m, `kycgate_graphql_streams_open{transport="websocket"} 2`) {
		t.Error("the streams are not counted")
	}
	// The source ends: so does the subscription, and its id is free.
	close(a.values)
	c.want(`{"id":"a","type":"complete"}`)
	c.subscribe("a", "subscription{ticks}")
	a = <-g.door.sources
	// The client ends it: nothing more comes, not even complete, and the id is free at once.
	c.send(`{"id":"b","type":"complete"}`)
	c.send(`{"id":"unknown","type":"complete"}`)
	<-b.ctx.Done()
	c.subscribe("b", "subscription{ticks}")
	b = <-g.door.sources
	b.values <- "7"
	c.want(tick("b", 7))
	a.values <- "8"
	c.want(tick("a", 8))
	// A source that cannot be opened is one result with errors, and the end.
	c.subscribe("c", "subscription{nothing}")
	if text, _ := c.read(); !strings.HasPrefix(text, `{"id":"c","type":"next","payload":{"errors":[`) || !strings.HasSuffix(text, `"data":null}}`) {
		t.Error(text)
	}
	c.want(`{"id":"c","type":"complete"}`)
	// The client goes: everything ends.
	_ = c.conn.CloseNow()
	<-a.ctx.Done()
	<-b.ctx.Done()
}

// N06, R9: a query of which a part is asked too often is refused as a whole, whatever the transport, and mutations that wait
// leave room for queries.
func TestSocketOfMany(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) {
		c.Presenter = func(_ context.Context, err error) *gqlerror.Error {
			var e *gqlerror.Error
			errors.As(err, &e)
			return e
		}
	})
	s := d.serve(t)
	c, _, err := connect(t, s.Listener.Addr().String(), dialer{})
	if err != nil {
		t.Fatal(err)
	}
	c.init(partnerToken)
	c.subscribe("1", "{viewer{id} often}")
	c.want(`{"id":"1","type":"error","payload":[{"message":"Too often.","extensions":{"code":"RATE_LIMITED"}}]}`)
	l := listen(t, dialTCP(t, s.Listener.Addr()), "{viewer{id} often}")
	if l.res.StatusCode != 429 || l.res.Header.Get("Retry-After") != "7" {
		t.Errorf("%d %v", l.res.StatusCode, l.res.Header)
	}

	d = setup(t, func(c *GraphQLConfig) { c.MaxConcurrent = 5 })
	s = d.serve(t)
	c, _, err = connect(t, s.Listener.Addr().String(), dialer{})
	if err != nil {
		t.Fatal(err)
	}
	c.init(partnerToken)
	for i := range 4 {
		c.subscribe(fmt.Sprint(i), "mutation{slow}")
		<-d.entered
	}
	c.subscribe("5", "mutation{slow}")
	if text, _ := c.read(); !strings.Contains(text, `"type":"error"`) || !strings.Contains(text, codeOverloaded) {
		t.Error(text)
	}
	c.subscribe("6", "{viewer{id}}")
	c.want(`{"id":"6","type":"next","payload":{"data":{"viewer":{"id":"x"}}}}`)
	close(d.leave)
}

// A mutation whose client is gone, or has completed it, is not answered; but it was asked, and it has happened.
func TestSocketComplete(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := g.readySocket(t)
	c.subscribe("s", "{slow}")
	ctx := <-g.door.entered
	c.send(`{"id":"s","type":"complete"}`)
	<-ctx.Done()
	c.subscribe("s", "{viewer{id}}")
	c.want(`{"id":"s","type":"next","payload":{"data":{"viewer":{"id":"x"}}}}`)
	c.want(`{"id":"s","type":"complete"}`)
}

func TestSocketPanics(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := g.readySocket(t)
	c.subscribe("1", "subscription{crash}")
	(<-g.door.sources).values <- "1"
	if text, _ := c.read(); !strings.Contains(text, `"type":"next"`) || !strings.Contains(text, codeInternal) || strings.Contains(text, canary) {
		t.Error(text)
	}
	c.want(`{"id":"1","type":"complete"}`)
	c.subscribe("2", "{crash}")
	if text, _ := c.read(); !strings.Contains(text, codeInternal) || strings.Contains(text, canary) {
		t.Error(text)
	}
	c.want(`{"id":"2","type":"complete"}`)
	c.subscribe("3", "{viewer{id}}")
	c.want(`{"id":"3","type":"next","payload":{"data":{"viewer":{"id":"x"}}}}`)
}

// 2,000 subscriptions on one socket: the first hundred run, the others are refused, and whoever goes on asking is
// closed. Other sockets do not notice.
func TestSocketOperationsAreBounded(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	other, c := g.readySocket(t), g.readySocket(t)
	subscribe := func(i int) error {
		m := fmt.Sprintf(`{"id":"%d","type":"subscribe","payload":{"query":"subscription{ticks}"}}`, i)
		return c.conn.Write(c.ctx, websocket.MessageText, []byte(m))
	}
	var sources []*source
	for i := range 100 {
		_ = subscribe(i)
		sources = append(sources, <-g.door.sources)
	}
	for i := 100; i < 150; i++ {
		_ = subscribe(i)
		c.want(fmt.Sprintf(`{"id":"%d","type":"error","payload":[{"message":"There are too many operations on this socket at once.","extensions":{"code":"RATE_LIMITED"}}]}`, i))
	}
	go func() {
		for i := 150; i < 2_000 && subscribe(i) == nil; i++ {
		}
	}()
	c.closes(4429)
	if len(g.door.sources) != 0 {
		t.Error("more than 100 subscriptions ran")
	}
	for _, s := range sources {
		<-s.ctx.Done()
	}
	other.subscribe("1", "{viewer{id}}")
	other.want(`{"id":"1","type":"next","payload":{"data":{"viewer":{"id":"x"}}}}`)
}

// A client that does not read is cut off, and nobody else waits for it.
func TestSocketSlowReader(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, d *door, p *pipes) {
		open := func() *client {
			c, _, err := connect(t, "pipe", dialer{dial: p.dial})
			if err != nil {
				t.Fatal(err)
			}
			c.init(partnerToken)
			c.subscribe("1", "subscription{ticks}")
			return c
		}
		slow := open()
		first := <-d.sources
		quick := open()
		second := <-d.sources
		begin := time.Now()
		for i := range 60 {
			first.values <- "1"
			second.values <- fmt.Sprint(i)
			quick.want(tick("1", i))
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
		_, _ = slow.conn.CloseNow(), quick.conn.CloseNow()
	})
}

// R10: an accepted query is answered, then every socket is closed with 1001, and Serve returns.
func TestSocketDrain(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	busy, idle, streaming, silent := g.readySocket(t), g.readySocket(t), g.readySocket(t), g.connect(t)
	streaming.subscribe("1", "subscription{ticks}")
	source := <-g.door.sources
	busy.subscribe("1", "{slow}")
	ctx := <-g.door.entered
	g.stop()
	idle.closes(1001)
	silent.closes(1001)
	if before := streaming.closes(1001); len(before) != 0 {
		t.Errorf("a subscription that goes on elsewhere got %v", before)
	}
	<-source.ctx.Done()
	if ctx.Err() != nil {
		t.Error("the query was canceled")
	}
	busy.subscribe("2", registerCanary) // Not accepted any more.
	g.door.leave <- struct{}{}
	busy.want(`{"id":"1","type":"next","payload":{"data":{"slow":"done"}}}`)
	busy.want(`{"id":"1","type":"complete"}`)
	if before := busy.closes(1001); len(before) != 0 || g.door.mutations.Load() != 0 {
		t.Errorf("after the drain began: %v", before)
	}
	g.shutdown(t)
}

// What outlives the drain is canceled and cut.
func TestSocketDrainEnds(t *testing.T) {
	t.Parallel()
	g := serve(t, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond }).start()
	c := g.readySocket(t)
	c.subscribe("1", "{slow}")
	ctx := <-g.door.entered
	g.stop()
	<-ctx.Done()
	c.closes(1001)
	g.shutdown(t)
}

// A handshake is refused before it is one: without an echo, and before a bad token costs a socket.
func TestHandshakeRefusals(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	upgrade := func(lines ...string) string {
		return strings.Replace(request("GET /graphql", append([]string{"Connection: keep-alive, Upgrade", "Upgrade: websocket"}, lines...)...), "Authorization: "+partnerToken+"\r\n", "", 1)
	}
	const version, key, bad = "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Authorization: Bearer " + canary
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"no version":       {upgrade(key), 426},
		"another version":  {upgrade(key, "Sec-WebSocket-Version: "+canary), 426},
		"no key":           {upgrade(version), 426},
		"a short key":      {upgrade(version, "Sec-WebSocket-Key: "+canary), 426},
		"two keys":         {upgrade(version, key, key), 426},
		"a POST":           {strings.Replace(upgrade(version, key, "Content-Length: 0"), "GET", "POST", 1), 426},
		"a bad token":      {upgrade(version, key, bad), 401},
		"two tokens":       {upgrade(version, key, bad, bad), 401},
		"another page":     {upgrade(version, key, "Origin: https://evil.example"), 403},
		"the null page":    {upgrade(version, key, "Origin: null"), 403},
		"two pages":        {upgrade(version, key, "Origin: http://kyc", "Origin: http://kyc"), 403},
		"not at this path": {strings.Replace(upgrade(version, key), "/graphql", "/graphql/ws", 1), 404},
	} {
		res, body, _ := raw(t, g.PublicAddr(), c.request)
		if res.StatusCode != c.status || !strings.HasPrefix(body, `{"errors":`) || strings.Contains(body, canary) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	// Our own page, by the host it asked.
	conn := dialTCP(t, g.PublicAddr())
	_, _ = io.WriteString(conn, upgrade(version, key, "Origin: https://KYC"))
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "HTTP/1.1 101" {
		t.Errorf("%s %v", b, err)
	}
}

const page, otherPage = "https://app.acme.example", "https://app.bazaar.example"

func withPages(c *GraphQLConfig) {
	c.AllowedOrigins = map[kyc.PartnerID][]string{"acme": {page}, "bazaar": {otherPage}}
	c.OwnOrigin = "https://kyc.example.com"
}

// C04, C06: a preflight is answered for the pages of every partner, a request only for those of the caller's.
func TestOrigins(t *testing.T) {
	t.Parallel()
	d := setup(t, withPages)
	do := func(method, origin, token string) *httptest.ResponseRecorder {
		r := query("{viewer{id}}")
		r.Method = method
		header(r, "Origin", origin, "Authorization", token)
		if method == http.MethodOptions {
			r.Header.Del("Authorization")
			header(r, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", canary)
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		for name, values := range w.Header() {
			if name == "Access-Control-Allow-Credentials" || strings.Contains(strings.Join(values, ""), canary) || values[0] == "*" {
				t.Errorf("%s: %v", name, values)
			}
		}
		if w.Header().Get("Vary") != "Origin" {
			t.Errorf("%s of %s varies by %q", method, origin, w.Header().Get("Vary"))
		}
		return w
	}
	for _, c := range []struct {
		method, origin, token string
		status                int
		allowed               bool
	}{
		{"OPTIONS", page, "", 204, true},
		{"OPTIONS", otherPage, "", 204, true},
		{"OPTIONS", "https://evil.example", "", 405, false},
		{"OPTIONS", "null", "", 405, false},
		{"OPTIONS", "https://kyc.example.com", "", 405, false}, // our own page needs none
		{"POST", page, partnerToken, 200, true},
		{"POST", otherPage, partnerToken, 403, false},
		{"POST", otherPage, bazaarToken, 200, true},
		{"POST", page, bazaarToken, 403, false},
		{"POST", page + ":8443", partnerToken, 403, false},
		{"POST", "HTTPS://APP.ACME.EXAMPLE", partnerToken, 403, false},
		{"POST", "null", partnerToken, 403, false},
		{"POST", "https://kyc.example.com", partnerToken, 200, false},
		{"POST", "http://example.com", partnerToken, 200, false}, // httptest's own host
		{"POST", page, "none", 401, true},                        // so that the page can tell
		{"POST", "https://evil.example", "none", 401, false},
	} {
		w := do(c.method, c.origin, c.token)
		got := w.Header().Get("Access-Control-Allow-Origin")
		if w.Code != c.status || c.allowed && got != c.origin || !c.allowed && got != "" {
			t.Errorf("%s from %s with %s: %d, allowed %q", c.method, c.origin, c.token, w.Code, got)
		}
	}
}

// A page of one partner with the token of another: known only when the token is.
func TestSocketOrigins(t *testing.T) {
	t.Parallel()
	s := setup(t, withPages).serve(t)
	for _, c := range []struct {
		origin, token string
		code          int
	}{{page, partnerToken, 0}, {otherPage, partnerToken, 4403}, {otherPage, bazaarToken, 0}} {
		one, _, err := connect(t, s.Listener.Addr().String(), dialer{header: http.Header{"Origin": {c.origin}}})
		if err != nil {
			t.Fatal(err)
		}
		if c.code == 0 {
			one.init(c.token)
			continue
		}
		one.send(`{"type":"connection_init","payload":{"authorization":"` + c.token + `"}}`)
		one.closes(c.code)
	}
	_, res, err := connect(t, s.Listener.Addr().String(), dialer{header: http.Header{"Origin": {otherPage}, "Authorization": {partnerToken}}})
	if err == nil || res.StatusCode != 403 {
		t.Errorf("%v %v", res, err)
	}
}

// Sockets are bounded in all, whether they have said who they are or not, and by principal.
func TestSocketLimits(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) { c.Limits = Limits{Sockets: 5, SocketsOfPrincipal: 2, SocketsOfPerson: 1} })
	s := d.serve(t)
	open := func() *client {
		for { // A seat is given back soon after the farewell.
			if c, _, err := connect(t, s.Listener.Addr().String(), dialer{}); err == nil {
				return c
			}
		}
	}
	refused := func(token string) {
		t.Helper()
		c := open()
		c.send(`{"type":"connection_init","payload":{"authorization":"` + token + `"}}`)
		c.closes(1013)
	}
	a, b, c := open(), open(), open()
	a.init(partnerToken)
	b.init(partnerToken)
	refused(partnerToken)
	c.init(subjectToken)
	refused(subjectToken)
	open()
	open()
	_, res, err := connect(t, s.Listener.Addr().String(), dialer{})
	if err == nil || res.StatusCode != 503 {
		t.Errorf("%v %v", res, err)
	}
	_ = a.conn.Close(websocket.StatusNormalClosure, "")
	open().init(partnerToken)
}

// A socket's bytes are no heads of requests, whatever they look like: nothing is kept of them.
func TestSocketIsNotFollowed(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c := g.readySocket(t)
	for range 20 {
		c.send(`{"type":"ping","payload":{"x":"` + strings.Repeat(`\n`, 10_000) + `"}}`)
		c.want(`{"type":"pong"}`)
	}
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"connection_init","payload":{"authorization":"Bearer x"}}`, `{"id":"1","type":"subscribe","payload":{"query":"{a}"}}`,
		`{"id":"1","type":"complete"}`, `{"type":"ping"}`, `[]`, `{"type":1}`, "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMessage(text)
		if err != nil {
			if len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("%q is in %q", text, err)
			}
			return
		}
		var std struct{ Type, ID string }
		if json.Unmarshal([]byte(text), &std) != nil {
			t.Fatalf("%q is no JSON", text)
		}
		named := m.kind == messageSubscribe || m.kind == messageComplete
		if named && (m.id == "" || len(m.id) > maxOperationID) || !named && m.id != "" || m.kind == messageSubscribe && m.payload == nil {
			t.Errorf("%q became %+v", text, m)
		}
		if out := about("next", m.id, []byte("1")); !json.Valid(out) {
			t.Errorf("%q", out)
		}
	})
}
