package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"go.uber.org/goleak"
)

// gateway is a running server over a door.
type gateway struct {
	*Server
	door   *door
	ready  error
	stop   context.CancelFunc
	served chan error
	hooks  chan []byte // the bodies that reached the callback handler
}

func serve(t *testing.T, change ...func(*Config)) *gateway {
	t.Helper()
	d := setup(t)
	g := &gateway{door: d, served: make(chan error, 1), hooks: make(chan []byte, 8)}
	cfg := Config{
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		GraphQL: d, Registry: d.registry,
		Logger: slog.New(slog.NewJSONHandler(d.logs, nil)),
		Ready:  func(context.Context) error { return g.ready },
		Callbacks: map[string]http.Handler{
			"unico": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				g.hooks <- b
				w.WriteHeader(http.StatusNoContent)
			}),
			"broken": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("panic with " + canary)) }),
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if g.stop != nil {
			g.shutdown(t)
		}
		if logs := d.logs.String(); strings.Contains(logs, canary) || strings.Contains(logs, canaryBare) {
			t.Errorf("a canary is in the log: %s", logs)
		}
	})
	return g
}

func (g *gateway) start() *gateway {
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	go func() { g.served <- g.Serve(ctx) }()
	return g
}

func (g *gateway) shutdown(t *testing.T) {
	t.Helper()
	g.stop()
	g.stop = nil
	select {
	case err := <-g.served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Serve did not return")
	}
}

// raw sends bytes over a new connection and reads one answer. It may be used in a goroutine: it never ends the test.
func raw(t *testing.T, addr net.Addr, request string) (*http.Response, string, net.Conn) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Error(err)
		return &http.Response{}, "", nil
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() { _, _ = io.WriteString(c, request) }() // The server may answer before it has read all.
	return response(t, c)
}

func response(t *testing.T, c net.Conn) (*http.Response, string, net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return &http.Response{}, "", c
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res, string(b), c
}

func closedByServer(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

func request(line string, headers ...string) string {
	return line + " HTTP/1.1\r\nHost: kyc\r\nAuthorization: " + partnerToken + "\r\n" + strings.Join(headers, "\r\n") + map[bool]string{true: "\r\n", false: ""}[len(headers) > 0] + "\r\n"
}

const smallQuery = `{"query":"{viewer{id}}"}`

func TestRouting(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	body := "\r\n" + smallQuery
	jsonHeaders := []string{"Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(smallQuery))}
	for target, status := range map[string]int{
		"POST /graphql":                200,
		"POST /graphql?x=1":            200,
		"POST http://kyc/graphql":      200,
		"POST //graphql":               404, // T17
		"POST /graphql/":               404,
		"POST /./graphql":              404,
		"POST /x/../graphql":           404,
		"POST /x/%2e%2e/graphql":       404,
		"POST /%67raphql":              404,
		"POST /graphql/..;/metrics":    404,
		"POST /graphql%2f..%2fmetrics": 404,
		"POST /GRAPHQL":                404,
		"GET /metrics":                 404, // X04
		"GET /healthz":                 404,
		"GET /readyz":                  404,
		"GET /debug/pprof/":            404,
		"GET /":                        404,
		"GET /callbacks":               404,
		"GET /callbacks/":              404,
		"POST /callbacks/nobody":       404,
		"POST /callbacks/unico/":       404,
		"POST /callbacks//unico":       404,
		"POST /callbacks/%75nico":      404,
		"POST /callbacks/../graphql":   404,
		"POST /callbacks/" + canary:    404,
		"GET /callbacks/unico":         405,
		"DELETE /callbacks/unico":      405,
		"POST /callbacks/broken":       500,
	} {
		res, text, _ := raw(t, g.PublicAddr(), request(target, jsonHeaders...)[:len(request(target, jsonHeaders...))-2]+body)
		if res.StatusCode != status || res.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", target, res.StatusCode, text)
		}
		var shape struct {
			Errors []struct{ Extensions map[string]any }
			Data   json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &shape); err != nil || strings.Contains(text, canary) {
			t.Errorf("%s: %v %s", target, err, text)
		}
		if status != 200 && (len(shape.Errors) != 1 || shape.Data != nil) {
			t.Errorf("%s: %s", target, text)
		}
		if res.Header.Get("X-Request-Id") == "" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: the headers are %v", target, res.Header)
		}
	}
	logs := g.door.logs.String()
	for _, want := range []string{`"route":"/graphql"`, `"route":"/callbacks/unico"`, `"route":"other"`, `"type":"*errors.errorString"`} {
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the log", want)
		}
	}
	if strings.Contains(logs, "nobody") || strings.Contains(logs, "metrics") {
		t.Error("a path of a caller is in the log")
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	send := func(method, body string, chunked bool) *http.Response {
		var r io.Reader = strings.NewReader(body)
		if chunked {
			r = io.MultiReader(r)
		}
		req, _ := http.NewRequest(method, "http://"+g.PublicAddr().String()+"/callbacks/unico", r)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res
	}
	// W10: the handler verifies what was sent, byte for byte.
	odd := "{ \"a\" : 1,\r\n\"a\":2 }\xff"
	for _, method := range []string{"POST", "PUT"} {
		for _, chunked := range []bool{false, true} {
			if res := send(method, odd, chunked); res.StatusCode != 204 || string(<-g.hooks) != odd {
				t.Errorf("%s: %d", method, res.StatusCode)
			}
		}
	}
	full := strings.Repeat("x", maxCallback)
	if res := send("POST", full, true); res.StatusCode != 204 || len(<-g.hooks) != maxCallback {
		t.Errorf("256 KiB: %d", res.StatusCode)
	}
	for _, chunked := range []bool{false, true} {
		if res := send("POST", full+"x", chunked); res.StatusCode != 413 {
			t.Errorf("256 KiB + 1: %d", res.StatusCode)
		}
	}
	if len(g.hooks) != 0 {
		t.Error("a body over the limit reached the handler")
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	g.ready = nil
	get := func(path string, pairs ...string) (*http.Response, string) {
		req, _ := http.NewRequest(http.MethodGet, "http://"+g.AdminAddr().String()+path, nil)
		res, err := http.DefaultTransport.RoundTrip(header(req, pairs...))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res, string(b)
	}
	if res, body := get("/healthz"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("healthz: %d %s", res.StatusCode, body)
	}
	if res, body := get("/readyz"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("readyz: %d %s", res.StatusCode, body)
	}
	if res, body := get("/metrics"); res.StatusCode != 200 || !strings.Contains(body, "kycgate_graphql_refused_total") {
		t.Errorf("metrics: %d %s", res.StatusCode, body)
	}
	if res, body := get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0"); !strings.HasPrefix(res.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("OpenMetrics: %s", res.Header.Get("Content-Type"))
	}
	for _, path := range []string{"/graphql", "/", "//metrics", "/metrics/", "/callbacks/unico"} {
		if res, body := get(path); res.StatusCode != 404 || !strings.Contains(body, codeNotFound) {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, _, _ := raw(t, g.AdminAddr(), request("POST /readyz", "Content-Length: 0")); res.StatusCode != 405 {
		t.Errorf("POST /readyz: %d", res.StatusCode)
	}
}

// L09: what is wrong is not said.
func TestNotReady(t *testing.T) {
	t.Parallel()
	g := serve(t)
	g.ready = errors.New("postgres at 10.0.0.7 is down")
	g.start()
	res, body, _ := raw(t, g.AdminAddr(), request("GET /readyz"))
	if res.StatusCode != 503 || body != "fail" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// T13.
func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	many := func(n int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("X-%d: %d", i, i))
		}
		return lines
	}
	for name, lines := range map[string][]string{
		"200 lines":             many(200),
		"200 lines of one name": strings.Split(strings.TrimSuffix(strings.Repeat("X: 1\n", 200), "\n"), "\n"),
		"64 KiB":                {"X: " + strings.Repeat("x", 64<<10)},
		"17 KiB":                {"X: " + strings.Repeat("x", 17<<10)},
		"64 KiB in the URL":     nil,
	} {
		target := "GET /graphql?query={viewer{id}}"
		if lines == nil {
			target += strings.Repeat("x", 64<<10)
		}
		if res, body, _ := raw(t, g.PublicAddr(), request(target, lines...)); res.StatusCode != 431 {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	if res, body, _ := raw(t, g.PublicAddr(), request("GET /graphql?query={viewer{id}}", many(90)...)); res.StatusCode != 200 {
		t.Errorf("90 lines: %d %s", res.StatusCode, body)
	}
}

// T15: a body that is framed twice is refused and the connection is closed; what is framed once is not.
func TestAmbiguousFraming(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smallQuery), smallQuery)
	length := fmt.Sprintf("Content-Length: %d", len(smallQuery))
	const asJSON, asChunks = "Content-Type: application/json", "Transfer-Encoding: chunked"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"both":                      {request("POST /graphql", asJSON, length, asChunks) + chunk, 400},
		"both, the other way round": {request("POST /graphql", asJSON, asChunks, length) + chunk, 400},
		"both, in another case":     {request("POST /graphql", asJSON, "content-LENGTH: 3", "transfer-ENCODING: chunked") + chunk, 400},
		"both, bare line feeds":     {strings.ReplaceAll(request("POST /graphql", asJSON, length, asChunks), "\r", "") + chunk, 400},
		"both, on a callback":       {request("POST /callbacks/unico", length, asChunks) + chunk, 400},
		"two equal lengths":         {request("POST /graphql", asJSON, length, length) + smallQuery, 400},
		"two lengths":               {request("POST /graphql", asJSON, length, "Content-Length: 5") + smallQuery, 400},
		"chunks":                    {request("POST /graphql", asJSON, asChunks) + chunk, 200},
		"a length":                  {request("POST /graphql", asJSON, length) + smallQuery, 200},
	} {
		res, body, conn := raw(t, g.PublicAddr(), c.request)
		if res.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
		if c.status == 400 && !closedByServer(conn) {
			t.Errorf("%s: the connection is open", name)
		}
	}
	if len(g.hooks) != 0 {
		t.Error("a callback that is framed twice reached its handler")
	}
}

// T15 on a connection that is used again, also by a client that does not wait for its answers: every head gets
// the verdict on itself.
func TestAmbiguousFramingLater(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smallQuery), smallQuery)
	length := fmt.Sprintf("Content-Length: %d", len(smallQuery))
	plain := request("POST /graphql", "Content-Type: application/json", length) + smallQuery
	bare := strings.ReplaceAll(plain, "\r", "")
	get := request("GET /graphql?query={viewer{id}}")
	chunked := request("POST /graphql", "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk
	both := request("POST /graphql", "Content-Type: application/json", "Content-Length: 5", "Transfer-Encoding: chunked") + chunk
	twice := request("POST /graphql", "Content-Type: application/json", length, length) + smallQuery
	// The body of the first holds what looks like a head; the head of the second holds what looks like another.
	decoy := fmt.Sprintf(`{"query":"{viewer{id}}","x":"%s"}`, "POST /graphql HTTP/1.1    Content-Length: 1    ")
	inBody := request("POST /graphql", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(decoy))) + decoy
	inHead := request("POST /graphql", "Content-Type: application/json", "X: Transfer-Encoding: chunked", length) + smallQuery

	end := request("GET /end", "Connection: close")
	for name, c := range map[string]struct {
		requests []string
		statuses string
	}{
		"plain":                     {[]string{plain, get, bare, inBody, inHead, plain}, "200 200 200 200 200 200 404"},
		"line ends between":         {[]string{plain + "\r\n", plain + "\n", get}, "200 200 200 404"},
		"OPTIONS *":                 {[]string{request("OPTIONS *"), plain, chunked}, "404 200 200"},
		"chunked ends":              {[]string{plain, chunked, plain}, "200 200"},
		"both":                      {[]string{plain, get, both, plain}, "200 200 400"},
		"two lengths":               {[]string{inHead, twice, plain}, "200 400"},
		"both behind a decoy":       {[]string{inBody, both}, "200 400"},
		"both behind a refused one": {[]string{strings.Replace(plain, "/graphql", "/nothing", 1), both}, "404 400"},
	} {
		for _, pieces := range []int{1 << 20, 7, 1} { // how many bytes are written at a time
			all := strings.Join(c.requests, "") + end
			conn, err := net.Dial("tcp", g.PublicAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for rest := all; rest != ""; {
					n := min(pieces, len(rest))
					if _, err := io.WriteString(conn, rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			answers, _ := io.ReadAll(conn) // The server may reset what it will not read.
			_ = conn.Close()
			var statuses []string
			for _, part := range strings.Split(string(answers), "HTTP/1.1 ")[1:] {
				statuses = append(statuses, part[:3])
			}
			if got := strings.Join(statuses, " "); got != c.statuses {
				t.Errorf("%s, %d bytes at a time: got %s, want %s\n%s", name, pieces, got, c.statuses, answers)
			}
		}
	}
}

// Whatever way the stream is cut into pieces, the verdicts are the same.
func FuzzFraming(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\n\n", uint8(1))
	f.Add("\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n", uint8(3))
	f.Fuzz(func(t *testing.T, stream string, size uint8) {
		var whole, pieces framedConn
		whole.follow([]byte(stream))
		for rest := stream; rest != ""; {
			n := min(int(size)+1, len(rest))
			pieces.follow([]byte(rest[:n]))
			rest = rest[n:]
		}
		if fmt.Sprint(whole.seen) != fmt.Sprint(pieces.seen) {
			t.Fatalf("%q: %v by %d, %v at once", stream, pieces.seen, size, whole.seen)
		}
	})
}

// T07 over a socket: the answer arrives although the client is still sending, and the connection ends.
func TestLargeBodyOverTheWire(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	large := strings.Repeat(" ", 4<<20)
	for name, r := range map[string]string{
		"length": request("POST /graphql", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(large))) + large,
		"chunks": request("POST /graphql", "Content-Type: application/json", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", len(large)) + large,
	} {
		res, body, conn := raw(t, g.PublicAddr(), r)
		if res.StatusCode != 413 || !strings.Contains(body, codeBadRequest) || !closedByServer(conn) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
}

// T14: a slow body ends with the read timeout, and a slow answer does not.
func TestReadTimeout(t *testing.T) {
	t.Parallel()
	g := serve(t)
	g.readTimeout = 150 * time.Millisecond
	g.start()
	_, _, conn := raw(t, g.PublicAddr(), request("POST /graphql", "Content-Type: application/json", "Content-Length: 100")+`{"query":`)
	if !closedByServer(conn) {
		t.Error("the connection of a slow sender is open")
	}

	slow := `{"query":"{slow}"}`
	for name, r := range map[string]string{
		"POST": request("POST /graphql", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(slow))) + slow,
		"GET":  request("GET /graphql?query={slow}"),
	} {
		answered := make(chan string)
		go func() {
			_, body, _ := raw(t, g.PublicAddr(), r)
			answered <- body
		}()
		ctx := <-g.door.entered
		select {
		case <-ctx.Done():
			t.Errorf("%s: the read timeout canceled a request that was read", name)
		case <-time.After(3 * g.readTimeout):
		}
		g.door.leave <- struct{}{}
		if body := <-answered; body != `{"data":{"slow":"done"}}` {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// D24: when the client goes, the resolver is told.
func TestClientGone(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	c, err := net.Dial("tcp", g.PublicAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request("GET /graphql?query={slow}")); err != nil {
		t.Fatal(err)
	}
	ctx := <-g.door.entered
	_ = c.Close()
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the resolver was not told")
	}
	g.shutdown(t)
	if logs := g.door.logs.String(); !strings.Contains(logs, `"outcome":"canceled"`) {
		t.Errorf("the outcome is not canceled: %s", logs)
	}
}

// R10: readiness first, then no new connections, and what is in flight finishes.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := serve(t).start()
	answered := make(chan string)
	go func() {
		_, body, _ := raw(t, g.PublicAddr(), request("GET /graphql?query={slow}"))
		answered <- body
	}()
	ctx := <-g.door.entered
	g.stop()
	for { // The listener closes soon after; until it does there is nothing to wait on but itself.
		c, err := net.Dial("tcp", g.PublicAddr().String())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	res, body, _ := raw(t, g.AdminAddr(), request("GET /readyz"))
	if res.StatusCode != 503 || body != "fail" {
		t.Errorf("while draining: %d %s", res.StatusCode, body)
	}
	if ctx.Err() != nil {
		t.Error("the request in flight was canceled")
	}
	g.door.leave <- struct{}{}
	if body := <-answered; body != `{"data":{"slow":"done"}}` {
		t.Errorf("the request in flight got %s", body)
	}
	g.shutdown(t)
}

// What outlives the drain is canceled and cut.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	g := serve(t, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond }).start()
	c, err := net.Dial("tcp", g.PublicAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request("GET /graphql?query={slow}")); err != nil {
		t.Fatal(err)
	}
	ctx := <-g.door.entered
	g.shutdown(t)
	<-ctx.Done()
}

// Close frees the addresses of a server that never served, and is harmless in every other state.
func TestClose(t *testing.T) {
	t.Parallel()
	g := serve(t)
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	if l, err := net.Listen("tcp", g.PublicAddr().String()); err != nil {
		t.Error(err)
	} else {
		_ = l.Close()
	}
	g = serve(t).start()
	raw(t, g.PublicAddr(), request("GET /"))
	g.shutdown(t)
	if err := errors.Join(g.Close(), new(Server).Close()); err != nil {
		t.Error(err)
	}
}

func TestListenFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := New(Config{Listen: "127.0.0.1:0", AdminListen: taken.Addr().String(), GraphQL: http.NotFoundHandler(), Registry: setup(t).registry, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen() == nil {
		t.Error("a taken address was bound")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server without handlers was made")
	}
}

// The messages of net/http hold addresses, request lines and panics; only their kind is logged.
func TestErrorLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := errorLog{slog.New(slog.NewJSONHandler(&b, nil))}
	for line, kind := range map[string]string{
		"http: panic serving 10.0.0.7:1: " + canary: "panic",
		"http: something about " + canary:           "other",
	} {
		b.Reset()
		_, _ = io.WriteString(l, line)
		if !strings.Contains(b.String(), `"kind":"`+kind+`"`) || strings.Contains(b.String(), canary) || strings.Contains(b.String(), "10.0.0.7") {
			t.Error(b.String())
		}
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var _ graphql.ExecutableSchema = (*fakeSchema)(nil)
