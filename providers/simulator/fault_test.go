package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultIsRefusedNamingTheField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct{ body, field string }{
		{``, ""},
		{`{`, ""},
		{`null`, ""},
		{`"reset"`, ""},
		{`{"kind":"reset"} {"kind":"reset"}`, ""},
		{`{"kind":"reset","kind":"status"}`, ""},
		{`{}`, "kind"},
		{`{"kind":"explode"}`, "kind"},
		{`{"kind":7}`, "kind"},
		{`{"KIND":"reset"}`, "KIND"},
		{`{"kind":"reset","when":"now"}`, "when"},
		{`{"kind":"reset","operation":"fly"}`, "operation"},
		{`{"kind":"reset","operation":"none"}`, "operation"},
		{`{"kind":"reset","operation":["act"]}`, "operation"},
		{`{"kind":"reset","operation":"webhook"}`, "operation"},
		{`{"kind":"drop_webhook","operation":"act"}`, "operation"},
		{`{"kind":"duplicate_webhook","operation":"act"}`, "operation"},
		{`{"kind":"reset","probability":1.1}`, "probability"},
		{`{"kind":"reset","probability":-0.1}`, "probability"},
		{`{"kind":"reset","probability":"1"}`, "probability"},
		{`{"kind":"reset","times":0}`, "times"},
		{`{"kind":"reset","times":-1}`, "times"},
		{`{"kind":"reset","times":1.5}`, "times"},
		{`{"kind":"reset","value":1}`, "value"},
		{`{"kind":"truncate","value":"x"}`, "value"},
		{`{"kind":"act_then_reset","value":0}`, "value"},
		{`{"kind":"drop_webhook","value":1}`, "value"},
		{`{"kind":"latency"}`, "value"},
		{`{"kind":"latency","value":null}`, "value"},
		{`{"kind":"latency","value":"soon"}`, "value"},
		{`{"kind":"latency","value":"-1s"}`, "value"},
		{`{"kind":"latency","value":0}`, "value"},
		{`{"kind":"latency","value":-1e300}`, "value"},
		{`{"kind":"latency","value":1e300}`, "value"},
		{`{"kind":"latency","value":"61m"}`, "value"},
		{`{"kind":"latency","value":true}`, "value"},
		{`{"kind":"act_then_hang","value":"never"}`, "value"},
		{`{"kind":"status"}`, "value"},
		{`{"kind":"status","value":99}`, "value"},
		{`{"kind":"status","value":100}`, "value"},
		{`{"kind":"status","value":600}`, "value"},
		{`{"kind":"status","value":503.5}`, "value"},
		{`{"kind":"status","value":"503"}`, "value"},
		{`{"kind":"status","value":{}}`, "value"},
		{`{"kind":"status","value":{"status":"503"}}`, "value.status"},
		{`{"kind":"status","value":{"status":503,"text":"x"}}`, "value.text"},
		{`{"kind":"status","value":{"status":503,"body":{}}}`, "value.body"},
		{`{"kind":"status","value":{"status":503,"content_type":"a\r\nb: c"}}`, "value.content_type"},
		{`{"kind":"rate_limit","value":-1}`, "value"},
		{`{"kind":"rate_limit","value":1.5}`, "value"},
		{`{"kind":"duplicate_webhook","value":0}`, "value"},
		{`{"kind":"duplicate_webhook","value":1001}`, "value"},
		{`[{"kind":"explode"}]`, "[0].kind"},
		{`[{"kind":"reset"},{"kind":"reset","times":0}]`, "[1].times"},
		{`[{"kind":"reset"},7]`, "[1]"},
		{`[` + strings.Repeat(`{"kind":"reset"},`, maxFaults) + `{"kind":"reset"}]`, ""},
	} {
		got := b.do("PUT", b.url+"/faults", c.body)
		var p problem
		if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != http.StatusBadRequest || p.Field != c.field || p.Title == "" || !strings.Contains(p.Description, c.field) {
			t.Errorf("%s: %d %s, want 400 for field %q", c.body, got.status, got.body, c.field)
		}
	}
	if list := b.Faults().List(); len(list) != 0 {
		t.Errorf("refused faults are active: %+v", list)
	}
}

func TestFaultsAreAddedReplacedListedAndCleared(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := func() []ActiveFault {
		var l []ActiveFault
		if err := json.Unmarshal([]byte(b.do("GET", b.url+"/faults", "").body), &l); err != nil || l == nil {
			t.Fatalf("%v: %v", l, err)
		}
		return l
	}
	if l := list(); len(l) != 0 {
		t.Errorf("at first: %+v", l)
	}
	b.put(`{"kind":"status","value":503,"times":2}`)
	b.put(`{"operation":"other","kind":"reset","probability":0.5}`)
	for range 3 {
		b.do("POST", b.url+"/things/1", "")
	}
	l := list()
	if len(l) != 2 || l[0].Operation != "*" || l[0].Fired != 2 || *l[0].Times != 2 || *l[0].Probability != 1 || string(l[0].Value) != "503" {
		t.Errorf("first: %+v", l)
	}
	if l[1].Operation != "other" || l[1].Fired != 0 || l[1].Times != nil || *l[1].Probability != 0.5 {
		t.Errorf("second: %+v", l[1])
	}
	if n := b.acted.Load(); n != 1 {
		t.Errorf("acted %d times after a fault for two", n)
	}
	b.put(`[{"kind":"rate_limit"}]`)
	if l := list(); len(l) != 1 || l[0].Kind != FaultRateLimit {
		t.Errorf("after an array: %+v", l)
	}
	if got := b.do("PUT", b.url+"/faults", `[{"kind":"x"}]`); got.status != 400 || len(list()) != 1 {
		t.Error("a wrong array replaced the faults")
	}
	if got := b.do("DELETE", b.url+"/faults", ""); got.status != http.StatusNoContent || len(list()) != 0 {
		t.Errorf("DELETE: %d, then %+v", got.status, list())
	}
	b.put(`[{"kind":"reset"}]`)
	b.put(`[]`)
	if l := list(); len(l) != 0 {
		t.Errorf("after []: %+v", l)
	}
	if got := b.do("POST", b.url+"/faults", "{}"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.status)
	}
	if got := b.do("PUT", b.url+"/faults", strings.Repeat(" ", maxFaultBody+1)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %d", got.status)
	}
}

func TestFaultsListIsACopy(t *testing.T) {
	t.Parallel()
	f := NewFaults("act")
	value := json.RawMessage(`503`)
	if err := f.Add(Fault{Kind: FaultStatus, Value: value, Times: new(3)}); err != nil {
		t.Fatal(err)
	}
	value[0] = '9'
	l := f.List()
	*l[0].Times, *l[0].Probability, l[0].Value[0] = 99, 0, '1'
	if l := f.List(); *l[0].Times != 3 || *l[0].Probability != 1 || string(l[0].Value) != "503" {
		t.Errorf("changed from outside: %+v", l[0])
	}
}

func TestFaultsDropExhaustedOnesFirst(t *testing.T) {
	t.Parallel()
	f := NewFaults("act")
	for range maxFaults {
		if err := f.Add(Fault{Kind: FaultReset, Times: new(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Add(Fault{Kind: FaultReset}); err == nil {
		t.Fatal("one too many was taken")
	}
	f.take("act")
	if err := f.Add(Fault{Kind: FaultReset}); err != nil || len(f.List()) != maxFaults {
		t.Errorf("%v, %d faults", err, len(f.List()))
	}
}

func TestFaultErrorIsFound(t *testing.T) {
	t.Parallel()
	err := NewFaults("act").Add(Fault{Kind: FaultReset}, Fault{Kind: "x"})
	if e := new(FaultError); !errors.As(err, &e) || e.Field != "[1].kind" {
		t.Errorf("got %v", err)
	}
	if err := NewFaults("act").Add(Fault{Kind: FaultDropWebhook}); err == nil {
		t.Error("a provider without webhooks took a fault that can never fire")
	}
}

func TestFaultProbability(t *testing.T) {
	t.Parallel()
	f := NewFaults("act")
	draws := []float64{0.29, 0.3, 0.99, 0}
	f.random = func() float64 { d := draws[0]; draws = draws[1:]; return d }
	if err := f.Add(Fault{Kind: FaultReset, Probability: new(0.3)}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true} {
		if got := f.take("act").rule != nil; got != want {
			t.Errorf("draw %d: fired %v", i, got)
		}
	}
	if err := f.Replace(Fault{Kind: FaultReset, Probability: new(0.0)}, Fault{Kind: FaultStatus, Value: []byte("500"), Probability: new(1.0)}); err != nil {
		t.Fatal(err)
	}
	f.random = func() float64 { return 0 }
	if e := f.take("act"); e.name() != "status" {
		t.Errorf("probability 0 fired, or 1 did not: %q", e.name())
	}
}

func TestFaultsComposeInOrder(t *testing.T) {
	t.Parallel()
	f := NewFaults("act", WebhookOperation)
	err := f.Add(
		Fault{Kind: FaultLatency, Value: []byte(`"20ms"`)},
		Fault{Kind: FaultStatus, Value: []byte(`503`), Times: new(1)},
		Fault{Kind: FaultReset, Operation: "act"},
		Fault{Kind: FaultDropWebhook},
		Fault{Kind: FaultLatency, Value: []byte(`1.5`), Operation: "act"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		operation, name string
		wait            time.Duration
	}{
		{"act", "latency+status", 21500 * time.Microsecond},
		{"act", "latency+reset", 21500 * time.Microsecond},
		{WebhookOperation, "latency+drop_webhook", 20 * time.Millisecond},
		{NoOperation, "latency", 20 * time.Millisecond},
	} {
		if e := f.take(want.operation); e.name() != want.name || e.wait != want.wait {
			t.Errorf("%s: %s after %v, want %s after %v", want.operation, e.name(), e.wait, want.name, want.wait)
		}
	}
	if l := f.List(); l[0].Fired != 4 || l[1].Fired != 1 || l[2].Fired != 1 || l[3].Fired != 1 || l[4].Fired != 2 {
		t.Errorf("fired: %+v", l)
	}
}

func TestFaultTimesHoldUnderConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(`{"kind":"status","value":503,"times":25}`)
	var wg sync.WaitGroup
	codes := make(chan int, 100)
	for range 100 {
		wg.Go(func() {
			got, err := b.try(t.Context(), "POST", b.url+"/things/1", "{}")
			if err != nil {
				t.Error(err)
			}
			codes <- got.status
		})
	}
	wg.Wait()
	close(codes)
	count := map[int]int{}
	for c := range codes {
		count[c]++
	}
	if count[503] != 25 || count[201] != 75 || b.acted.Load() != 75 || b.Faults().List()[0].Fired != 25 {
		t.Errorf("answers %v, acted %d, %+v", count, b.acted.Load(), b.Faults().List())
	}
}

// TestFaultStatusBodies shows what a client meets by each form of a status.
func TestFaultStatusBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		fault       string
		status      int
		contentType string
		body        string // a part
	}{
		{`{"kind":"status","value":503}`, 503, "text/html; charset=utf-8", "<h1>503 Service Unavailable</h1>"},
		{`{"kind":"status","value":500}`, 500, "text/html; charset=utf-8", "<html>"},
		{`{"kind":"status","value":401}`, 401, "application/json", `"title":"Unauthorized"`},
		{`{"kind":"status","value":200}`, 200, "", ""},
		{`{"kind":"status","value":204}`, 204, "", ""},
		{`{"kind":"status","value":{"status":503,"body":"{\"title\":\"down\"}"}}`, 503, "application/json", `{"title":"down"}`},
		{`{"kind":"status","value":{"status":200,"body":"oops"}}`, 200, "text/html; charset=utf-8", "oops"},
		{`{"kind":"status","value":{"status":502,"body":"","content_type":"text/plain"}}`, 502, "text/plain", ""},
		{`{"kind":"status","value":{"status":503,"content_type":"application/json"}}`, 503, "application/json", "<html>"},
	} {
		b.put(`[` + c.fault + `]`)
		got := b.do("POST", b.url+"/things/1", "{}")
		if got.status != c.status || got.header.Get("Content-Type") != c.contentType || !strings.Contains(got.body, c.body) || (c.body == "" && got.body != "") {
			t.Errorf("%s: %+v", c.fault, got)
		}
	}
	if n := b.acted.Load(); n != 0 {
		t.Errorf("acted %d times", n)
	}
	if e := b.summary().Requests[0]; e.Outcome != OutcomeNotActed || e.Fault != "status" || e.Status != 503 {
		t.Errorf("logged %+v", e)
	}
}

func TestFaultRateLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for value, want := range map[string]string{`,"value":7`: "7", `,"value":0`: "0", ``: ""} {
		b.put(`[{"operation":"act","kind":"rate_limit"` + value + `}]`)
		got := b.do("POST", b.url+"/things/1", "{}")
		if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != want || !json.Valid([]byte(got.body)) || len(got.header.Values("Retry-After")) != min(len(want), 1) {
			t.Errorf("%s: %+v", value, got)
		}
	}
	if n := b.acted.Load(); n != 0 {
		t.Errorf("acted %d times", n)
	}
}

// TestFaultCuts covers the kinds that end a connection, as a client sees them.
func TestFaultCuts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind    FaultKind
		acted   int32
		status  int // in the log
		outcome string
		saw     error
	}{
		{FaultReset, 0, 0, OutcomeReset, syscall.ECONNRESET},
		{FaultActThenReset, 1, 201, OutcomeActedAndReset, syscall.ECONNRESET},
		{FaultTruncate, 1, 201, OutcomeTruncated, io.ErrUnexpectedEOF},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.put(`{"kind":"` + string(c.kind) + `","times":1}`)
			got, err := b.try(t.Context(), "POST", b.url+"/things/1", `{"id":"1"}`)
			if !errors.Is(err, c.saw) {
				t.Errorf("client saw %v, want %v", err, c.saw)
			}
			if c.kind == FaultTruncate && (got.status != 201 || got.header.Get("Content-Length") != strconv.Itoa(len(stubAnswer)) || got.body != stubAnswer[:len(stubAnswer)/2] || got.header.Get(Header) != "true") {
				t.Errorf("client read %+v", got)
			}
			if n := b.acted.Load(); n != c.acted {
				t.Errorf("acted %d times", n)
			}
			if e := b.only(); e.Status != c.status || e.Outcome != c.outcome || e.Fault != string(c.kind) {
				t.Errorf("logged %+v", e)
			}
			if got := b.do("POST", b.url+"/things/1", `{}`); got.body != stubAnswer {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

func TestFaultResetIsARealReset(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(`{"kind":"reset"}`)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.root, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /stub/things/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if data, err := io.ReadAll(conn); len(data) != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q and %v, want a RST and not an end of file", data, err)
	}
}

func TestFaultCutsTLS(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s := newStub("stub")
		server := httptest.NewUnstartedServer(New(s))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(func() { _ = s.Close(); server.Close() })
		for _, kind := range []FaultKind{FaultReset, FaultTruncate, FaultActThenReset} {
			if err := s.Faults().Replace(Fault{Kind: kind}); err != nil {
				t.Fatal(err)
			}
			answer, err := server.Client().Post(server.URL+"/stub/things/1", "application/json", strings.NewReader("{}"))
			if err == nil {
				_, err = io.ReadAll(answer.Body)
				_ = answer.Body.Close()
			}
			if err == nil {
				t.Errorf("HTTP/2 %v, %s: no error", http2, kind)
			}
		}
	}
}

func TestFaultTruncateWithoutBodyCuts(t *testing.T) {
	t.Parallel()
	f := NewFront(FrontConfig{Operations: []string{"act"}})
	server := httptest.NewServer(f.Handle("act", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(func() { f.Close(); server.Close() })
	b := &bench{t: t, client: server.Client()}
	if got := b.do("POST", server.URL, ""); got.status != http.StatusNoContent {
		t.Fatalf("without a fault: %+v", got)
	}
	_ = f.Faults().Add(Fault{Kind: FaultTruncate})
	if got, err := b.try(t.Context(), "POST", server.URL, ""); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
}

func TestFaultActThenHang(t *testing.T) {
	t.Parallel()
	t.Run("until the client goes", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(`{"kind":"act_then_hang"}`)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := b.try(ctx, "POST", b.url+"/things/1", "{}")
			left <- err
		}()
		b.await(func(s RequestSummary) bool { return s.Total == 1 }) // it acted and hangs
		if e := b.only(); e.Outcome != OutcomeActedAndHung || e.Status != 201 || b.acted.Load() != 1 {
			t.Errorf("logged %+v, acted %d", e, b.acted.Load())
		}
		select {
		case err := <-left:
			t.Errorf("it did not hang: %v", err)
		default:
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("client saw %v", err)
		}
	})
	t.Run("for a while", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(`{"kind":"act_then_hang","value":"1ms"}`)
		if got, err := b.try(t.Context(), "POST", b.url+"/things/1", "{}"); !errors.Is(err, syscall.ECONNRESET) || b.acted.Load() != 1 {
			t.Errorf("got %+v and %v, acted %d", got, err, b.acted.Load())
		}
	})
	t.Run("until the simulator closes", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(`{"kind":"act_then_hang"}`)
		left := make(chan error, 1)
		go func() {
			_, err := b.try(t.Context(), "POST", b.url+"/things/1", "{}")
			left <- err
		}()
		b.await(func(s RequestSummary) bool { return s.Total == 1 })
		_ = b.Close()
		if err := <-left; err == nil {
			t.Error("an answer after all")
		}
	})
}

func (b *bench) await(satisfied func(RequestSummary) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Requests().Wait(ctx, satisfied); err != nil {
		b.t.Fatalf("%v; log: %+v", err, b.Requests().Summary())
	}
}

func TestFaultLatency(t *testing.T) {
	t.Parallel()
	t.Run("waits before it acts", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{`30`, `"30ms"`} {
			b := setup(t)
			b.put(`{"kind":"latency","value":` + value + `}`)
			start := time.Now()
			got := b.do("POST", b.url+"/things/1", "{}")
			if d := time.Since(start); d < 30*time.Millisecond || got.body != stubAnswer {
				t.Errorf("%s: after %v %+v", value, d, got)
			}
			if e := b.only(); e.Fault != "latency" || e.Outcome != OutcomeAnswered {
				t.Errorf("logged %+v", e)
			}
		}
	})
	t.Run("stops when the client is gone", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(`{"kind":"latency","value":"1h"}`)
		entered := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			b.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		// Without a body, leaving early cannot be mistaken for a body that broke off.
		if _, err := b.try(ctx, "GET", server.URL+"/things/1", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("client saw %v", err)
		}
		b.await(func(s RequestSummary) bool { return s.Total == 1 && s.Requests[0].Outcome == OutcomeClientGone })
		if n := b.acted.Load(); n != 0 {
			t.Errorf("acted %d times", n)
		}
	})
	t.Run("stops when the simulator closes", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(`{"kind":"latency","value":"1h"}`)
		left := make(chan error, 1)
		go func() {
			_, err := b.try(t.Context(), "POST", b.url+"/things/1", "{}")
			left <- err
		}()
		_ = b.Close()
		if err := <-left; err == nil {
			t.Error("an answer after an hour")
		}
		if e := b.only(); e.Outcome != OutcomeClosed || b.acted.Load() != 0 {
			t.Errorf("logged %+v, acted %d", e, b.acted.Load())
		}
	})
	t.Run("to the millisecond", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStub("stub")
			_ = s.Faults().Add(Fault{Kind: FaultLatency, Value: []byte(`90000`)})
			start := time.Now()
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", "/things/1", nil))
			if d := time.Since(start); d != 90*time.Second || w.Code != 201 {
				t.Errorf("%d after %v", w.Code, d)
			}
		})
	})
}

func TestHandleRefusesLongBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.do("POST", b.url+"/things/1", strings.Repeat("x", 64<<10+1))
	if e := b.only(); got.status != http.StatusRequestEntityTooLarge || e.Outcome != OutcomeUnreadable || e.Body != nil && string(e.Body) != "null" || b.acted.Load() != 0 {
		t.Errorf("%+v, logged %+v", got, e)
	}
}

func TestHandlePanicsOnUnknownOperation(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewFront(FrontConfig{Operations: []string{"act"}}).Handle("fly", nil)
}

func FuzzFaults(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"latency","value":"250ms"}`, `{"operation":"act","kind":"status","value":{"status":503,"body":"x","content_type":"y"},"probability":0.3,"times":10}`,
		`[{"kind":"rate_limit","value":3},{"kind":"duplicate_webhook","value":2}]`, `{"kind":"act_then_hang","value":1e309}`, `[[]]`, `{"kind":"reset","kind":"reset"}`, "\xff", `[null]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		faults := NewFaults("act", WebhookOperation)
		w := httptest.NewRecorder()
		faults.ServeHTTP(w, httptest.NewRequest("PUT", "/faults", bytes.NewReader(body)))
		if (w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge) || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code != http.StatusOK && len(faults.List()) != 0 {
			t.Fatal("refused and active")
		}
		for _, operation := range []string{"act", WebhookOperation, NoOperation} {
			e := faults.take(operation)
			if e.wait < 0 || e.wait > maxFaults*maxFaultTime {
				t.Fatalf("waits %v", e.wait)
			}
			if e.rule != nil && e.rule.fault.Kind == FaultStatus {
				e.rule.writeStatus(httptest.NewRecorder(), func(int) (string, []byte) { return "", nil })
			}
		}
	})
}
