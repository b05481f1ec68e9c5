package simulator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// receiver is a RoundTripper that takes webhooks without a network, so that hours of retries can be tested
// in the time of a synctest bubble.
type receiver struct {
	mu     sync.Mutex
	start  time.Time
	at     []time.Duration
	bodies []string
	header []http.Header
	answer func(n int) (int, error) // n counts from 1
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	r.at = append(r.at, time.Since(r.start))
	r.bodies = append(r.bodies, q.Method+" "+q.URL.String()+" "+string(body))
	r.header = append(r.header, q.Header)
	n := len(r.at)
	r.mu.Unlock()
	status, err := r.answer(n)
	if err != nil {
		return nil, err
	}
	if status == 0 { // a receiver that hangs
		<-q.Context().Done()
		return nil, q.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Location": {"/elsewhere"}}, Body: io.NopCloser(strings.NewReader("ok")), Request: q}, nil
}

// bubble runs a test of an outbox in fake time.
func bubble(t *testing.T, config OutboxConfig, answer func(int) (int, error), test func(*testing.T, *Outbox, *receiver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{start: time.Now(), answer: answer}
		config.Client = &http.Client{Transport: r}
		if config.Faults == nil {
			config.Faults = NewFaults(WebhookOperation)
		}
		config.Requests = NewRequestLog("id")
		o := NewOutbox(config)
		test(t, o, r)
		o.Close() // a goroutine that is left makes synctest fail
	})
}

// pass lets time of the bubble pass. The Wait orders what the others did before what the test reads next.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func always(status int) func(int) (int, error) {
	return func(int) (int, error) { return status, nil }
}

var (
	schedule = []time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second}
	hook     = Webhook{Method: "POST", URL: "http://gateway.test/callbacks/stub?token=12", Body: []byte(`{"id":"a-1","name":"Maria"}`), Header: http.Header{"X-One": {"1"}}}
)

func outcomes(l *RequestLog) (list []string) {
	for _, e := range l.Summary().Requests {
		list = append(list, e.Outcome)
	}
	return list
}

func TestOutboxFollowsTheSchedule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		scale    float64
		answer   func(int) (int, error)
		at       []time.Duration
		outcomes []string
	}{
		{"acknowledged at once", 0, always(204), []time.Duration{0}, []string{OutcomeDelivered}},
		{"never acknowledged", 0, always(500), []time.Duration{0, 30e9, 90e9, 210e9}, []string{OutcomeRetry, OutcomeRetry, OutcomeRetry, OutcomeGaveUp}},
		{"scaled", 0.001, always(302), []time.Duration{0, 30e6, 90e6, 210e6}, []string{OutcomeRetry, OutcomeRetry, OutcomeRetry, OutcomeGaveUp}},
		{"unreachable, then there", 1, func(n int) (int, error) {
			if n < 3 {
				return 0, errors.New("refused")
			}
			return 200, nil
		}, []time.Duration{0, 30e9, 90e9}, []string{OutcomeRetry, OutcomeRetry, OutcomeDelivered}},
		{"hangs", 1, func(n int) (int, error) { return []int{0, 200}[n-1], nil }, []time.Duration{0, 40e9}, []string{OutcomeRetry, OutcomeDelivered}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, OutboxConfig{Retries: schedule, Scale: c.scale}, c.answer, func(t *testing.T, o *Outbox, r *receiver) {
				o.Send(hook)
				pass(time.Hour)
				if !slices.Equal(r.at, c.at) {
					t.Errorf("attempts at %v, want %v", r.at, c.at)
				}
				if got := outcomes(o.config.Requests); !slices.Equal(got, c.outcomes) {
					t.Errorf("logged %v, want %v", got, c.outcomes)
				}
				for _, b := range r.bodies {
					if b != "POST http://gateway.test/callbacks/stub?token=12 "+string(hook.Body) {
						t.Errorf("sent %s", b)
					}
				}
				if e := o.config.Requests.Summary().Requests[0]; e.Operation != WebhookOperation || e.Path != "/callbacks/stub?token=***" || string(e.Body) != `{"id":"a-1","name":"***"}` {
					t.Errorf("logged %+v", e)
				}
				if o.held != 0 || o.workers != 0 || len(o.timers) != 0 {
					t.Errorf("left: %d held, %d workers, %d timers", o.held, o.workers, len(o.timers))
				}
			})
		})
	}
}

func TestOutboxSignsOnce(t *testing.T) {
	t.Parallel()
	signed := 0
	config := OutboxConfig{Retries: schedule, Acknowledged: func(s int) bool { return s == 200 }, Sign: func(h *Webhook) { signed++; h.Header.Set("Signature", "s-"+h.Method) }}
	bubble(t, config, func(n int) (int, error) { return []int{201, 200}[n-1], nil }, func(t *testing.T, o *Outbox, r *receiver) {
		o.Send(hook)
		pass(time.Hour)
		if len(r.header) != 2 || signed != 1 {
			t.Fatalf("%d attempts, signed %d times", len(r.header), signed)
		}
		for _, h := range r.header {
			if h.Get("Signature") != "s-POST" || h.Get("X-One") != "1" || h.Get(Header) != "true" {
				t.Errorf("header %v", h)
			}
		}
		if hook.Header.Get("Signature") != "" {
			t.Error("the caller's header was written to")
		}
	})
}

func TestOutboxFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		faults   []Fault
		at       []time.Duration
		outcomes []string
	}{
		{"drop", []Fault{{Kind: FaultDropWebhook, Times: new(1)}}, nil, []string{OutcomeDropped}},
		{"duplicate", []Fault{{Operation: "webhook", Kind: FaultDuplicateWebhook}}, []time.Duration{0, 0}, []string{OutcomeDelivered, OutcomeDelivered}},
		{"three copies", []Fault{{Kind: FaultDuplicateWebhook, Value: []byte("3")}}, []time.Duration{0, 0, 0, 0}, []string{OutcomeDelivered, OutcomeDelivered, OutcomeDelivered, OutcomeDelivered}},
		{"late", []Fault{{Kind: FaultLatency, Value: []byte(`"5m"`)}}, []time.Duration{5 * time.Minute}, []string{OutcomeDelivered}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			faults := NewFaults("act", WebhookOperation)
			if err := faults.Add(c.faults...); err != nil {
				t.Fatal(err)
			}
			bubble(t, OutboxConfig{Faults: faults, Retries: schedule}, always(200), func(t *testing.T, o *Outbox, r *receiver) {
				o.Send(hook)
				pass(time.Hour)
				if got := outcomes(o.config.Requests); !slices.Equal(r.at, c.at) || !slices.Equal(got, c.outcomes) {
					t.Errorf("at %v, %v", r.at, got)
				}
				if e := o.config.Requests.Summary().Requests[0]; e.Fault != string(c.faults[0].Kind) || faults.List()[0].Fired != 1 {
					t.Errorf("logged %+v", e)
				}
			})
		})
	}
}

func TestOutboxCloseEndsEverything(t *testing.T) {
	t.Parallel()
	bubble(t, OutboxConfig{Retries: schedule, Workers: 2, Timeout: time.Hour}, always(0), func(t *testing.T, o *Outbox, r *receiver) {
		for range 10 {
			o.Send(hook)
		}
		synctest.Wait() // two hang, eight wait
		o.Close()
		o.Send(hook)
		pass(2 * time.Hour)
		if len(r.at) != 2 || o.config.Requests.Summary().Total != 0 {
			t.Errorf("%d attempts, %d logged", len(r.at), o.config.Requests.Summary().Total)
		}
		o.Close() // again
	})
	bubble(t, OutboxConfig{Retries: schedule}, always(500), func(t *testing.T, o *Outbox, r *receiver) {
		o.Send(hook)
		synctest.Wait() // it failed and waits for its retry
		o.Close()
		pass(time.Hour)
		if len(r.at) != 1 {
			t.Errorf("%d attempts, one of them after Close", len(r.at))
		}
	})
}

func TestOutboxIsBounded(t *testing.T) {
	t.Parallel()
	bubble(t, OutboxConfig{Workers: 1, Limit: 3, Timeout: time.Minute}, always(0), func(t *testing.T, o *Outbox, r *receiver) {
		for range 5 {
			o.Send(hook)
		}
		synctest.Wait()
		if got := outcomes(o.config.Requests); !slices.Equal(got, []string{OutcomeOverflow, OutcomeOverflow}) {
			t.Errorf("logged %v", got)
		}
		pass(time.Hour)
		if len(r.at) != 3 {
			t.Errorf("%d attempts", len(r.at))
		}
		o.Send(hook) // there is room again
		pass(time.Hour)
		if len(r.at) != 4 {
			t.Errorf("%d attempts after the overflow", len(r.at))
		}
	})
}

func TestOutboxOverHTTP(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + string(body)
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/followed", http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	l := NewRequestLog()
	o := NewOutbox(OutboxConfig{Faults: NewFaults(WebhookOperation), Requests: l, Retries: []time.Duration{time.Millisecond}})
	t.Cleanup(o.Close)
	wait := func(n int) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := l.Wait(ctx, func(s RequestSummary) bool { return s.Total == n }); err != nil {
			t.Fatal(err)
		}
	}
	o.Send(Webhook{Method: "PUT", URL: server.URL + "/hook", Body: []byte("x")})
	if s := <-got; s != "PUT /hook x" {
		t.Errorf("received %s", s)
	}
	wait(1)
	o.Send(Webhook{Method: "POST", URL: server.URL + "/redirect"})
	wait(3)
	if len(got) != 2 || <-got != "POST /redirect " || <-got != "POST /redirect " {
		t.Error("a redirect was followed or took for an acknowledgement")
	}
	o.Send(Webhook{Method: "POST", URL: "http://%zz"})
	wait(5)
	if want := []string{OutcomeDelivered, OutcomeRetry, OutcomeGaveUp, OutcomeRetry, OutcomeGaveUp}; !slices.Equal(outcomes(l), want) {
		t.Errorf("logged %v, want %v", outcomes(l), want)
	}
}
