package simulator

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Webhook is one message to the gateway. All its attempts and copies send the same bytes.
type Webhook struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte
}

// OutboxConfig says how a provider delivers.
type OutboxConfig struct {
	Faults   *Faults     // required
	Requests *RequestLog // required; every attempt is recorded as [WebhookOperation]

	// Sign adds the provider's signature or credentials to the header. Nil: unsigned.
	Sign func(*Webhook)
	// Retries are the waits between attempts, so there is one attempt more than waits. Scale multiplies them;
	// zero means 1.
	Retries []time.Duration
	Scale   float64
	// Acknowledged says which status ends the delivery. Nil: every 2xx.
	Acknowledged func(status int) bool

	Timeout time.Duration    // of one attempt; zero: 10 s
	Workers int              // attempts at once; zero: 16
	Limit   int              // webhooks that wait at once; zero: 100,000
	Client  *http.Client     // nil: one of its own, without proxy
	Now     func() time.Time // nil: time.Now
}

// Outbox delivers webhooks, each on its own schedule and so in no promised order. It has no goroutine while
// nothing is due. It is safe for concurrent use.
type Outbox struct {
	config OutboxConfig
	client *http.Client
	ctx    context.Context // ends the attempts under way when the outbox closes
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	workers int
	held    int // deliveries that are due, under way or waiting for a retry
	due     []*delivery
	timers  map[*delivery]*time.Timer
}

type delivery struct {
	hook    Webhook
	fault   string
	path    string
	attempt int // how many were made
}

// NewOutbox returns an outbox. It must be closed.
func NewOutbox(config OutboxConfig) *Outbox {
	if config.Scale == 0 {
		config.Scale = 1
	}
	if config.Acknowledged == nil {
		config.Acknowledged = func(status int) bool { return status >= 200 && status < 300 }
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	if config.Workers == 0 {
		config.Workers = 16
	}
	if config.Limit == 0 {
		config.Limit = 100_000
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	client := &http.Client{}
	if config.Client != nil {
		*client = *config.Client
	} else {
		// No proxy: the receiver is the gateway beside us, and the message must not travel.
		client.Transport = &http.Transport{MaxIdleConnsPerHost: config.Workers, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true}
	}
	// A redirect is an answer that does not acknowledge; following it would also change POST into GET.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx, cancel := context.WithCancel(context.Background())
	return &Outbox{config: config, client: client, ctx: ctx, cancel: cancel, timers: make(map[*delivery]*time.Timer)}
}

// Send hands a webhook over and returns at once. The faults are asked once for each webhook, not for each
// attempt: a dropped one is never delivered. After Close nothing is sent.
func (o *Outbox) Send(hook Webhook) {
	header := hook.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	hook.Header = header
	header.Set(Header, "true")
	if o.config.Sign != nil {
		o.config.Sign(&hook)
	}
	path := "?"
	if u, err := url.Parse(hook.URL); err == nil {
		path = o.config.Requests.maskURL(u, "")
	}
	fault := o.config.Faults.take(WebhookOperation)
	d := delivery{hook: hook, fault: fault.name(), path: path}
	copies := 1
	if fault.rule != nil {
		switch fault.rule.fault.Kind {
		case FaultDropWebhook:
			o.record(&d, o.config.Now(), 0, OutcomeDropped)
			return
		case FaultDuplicateWebhook:
			copies += fault.rule.copies
		default: // Faults.take gives no other kind to a webhook
		}
	}
	for range copies {
		one := d
		if !o.admit(&one, fault.wait) {
			o.record(&one, o.config.Now(), 0, OutcomeOverflow)
		}
	}
}

// admit takes a new delivery; false when too many wait. A closed outbox swallows it.
func (o *Outbox) admit(d *delivery, wait time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return true
	}
	if o.held >= o.config.Limit {
		return false
	}
	o.held++
	o.schedule(d, wait)
	return true
}

// schedule makes a delivery due after a wait. The lock must be held.
func (o *Outbox) schedule(d *delivery, wait time.Duration) {
	if wait > 0 {
		o.timers[d] = time.AfterFunc(wait, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			delete(o.timers, d)
			if !o.closed {
				o.schedule(d, 0)
			}
		})
		return
	}
	o.due = append(o.due, d)
	if o.workers < o.config.Workers {
		o.workers++
		o.work.Go(o.deliver)
	}
}

// deliver is a worker: it lives while something is due.
func (o *Outbox) deliver() {
	for {
		o.mu.Lock()
		if o.closed || len(o.due) == 0 {
			o.workers--
			o.mu.Unlock()
			return
		}
		d := o.due[0]
		o.due[0] = nil // the array lives on; the delivery need not
		o.due = o.due[1:]
		o.mu.Unlock()
		o.attempt(d)
	}
}

func (o *Outbox) attempt(d *delivery) {
	at := o.config.Now()
	status := o.post(&d.hook)
	if o.ctx.Err() != nil {
		return // closed under way: whether it arrived is not known, and nobody is left to ask
	}
	d.attempt++
	switch {
	case status != 0 && o.config.Acknowledged(status):
		o.record(d, at, status, OutcomeDelivered)
	case d.attempt <= len(o.config.Retries):
		o.record(d, at, status, OutcomeRetry)
		wait := time.Duration(float64(o.config.Retries[d.attempt-1]) * o.config.Scale)
		o.mu.Lock()
		if !o.closed {
			o.schedule(d, wait)
		}
		o.mu.Unlock()
		return
	default:
		o.record(d, at, status, OutcomeGaveUp)
	}
	o.mu.Lock()
	o.held--
	o.mu.Unlock()
}

// post makes one attempt and returns the receiver's status, or 0 if there was no answer.
func (o *Outbox) post(hook *Webhook) int {
	ctx, cancel := context.WithTimeout(o.ctx, o.config.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, hook.Method, hook.URL, bytes.NewReader(hook.Body))
	if err != nil {
		return 0
	}
	r.Header = hook.Header.Clone() // copies of one webhook share the header and are sent at the same time
	answer, err := o.client.Do(r)
	if err != nil {
		return 0
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // read to the end, the connection can be used again
	_ = answer.Body.Close()
	return answer.StatusCode
}

func (o *Outbox) record(d *delivery, at time.Time, status int, outcome string) {
	o.config.Requests.Record(Request{
		At: at, Operation: WebhookOperation, Method: d.hook.Method, Path: d.path,
		Status: status, Fault: d.fault, Outcome: outcome,
	}, d.hook.Body)
}

// Close drops what waits, ends what is under way and returns when no goroutine of the outbox is left.
func (o *Outbox) Close() {
	o.mu.Lock()
	o.closed = true
	for _, t := range o.timers {
		t.Stop()
	}
	clear(o.timers)
	o.due = nil
	o.mu.Unlock()
	o.cancel()
	o.work.Wait()
	if o.config.Client == nil {
		o.client.CloseIdleConnections()
	}
}
