package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FaultKind is what goes wrong (contract 2b).
type FaultKind string

// The kinds of the contract. "Acts" means that the operation really runs and changes the simulator's state.
const (
	FaultLatency          FaultKind = "latency"           // waits, then acts; composes with every other kind
	FaultStatus           FaultKind = "status"            // answers this status and does not act
	FaultReset            FaultKind = "reset"             // cuts the connection and does not act
	FaultTruncate         FaultKind = "truncate"          // acts, and cuts the connection in the middle of the answer
	FaultActThenReset     FaultKind = "act_then_reset"    // acts, and cuts the connection instead of answering
	FaultActThenHang      FaultKind = "act_then_hang"     // acts, and never answers
	FaultDropWebhook      FaultKind = "drop_webhook"      // a webhook is never sent
	FaultDuplicateWebhook FaultKind = "duplicate_webhook" // a webhook is sent several times
	FaultRateLimit        FaultKind = "rate_limit"        // answers 429 and does not act
)

// Operations with a meaning of their own.
const (
	AnyOperation     = "*"       // in a fault: every operation the kind is possible for
	WebhookOperation = "webhook" // the one operation that goes from the simulator to the gateway
)

// Bounds, all ours: a fault set by mistake must not hold a connection for a day or slow every request.
const (
	maxFaults     = 100
	maxFaultBody  = 1 << 20
	maxFaultTime  = time.Hour
	maxDuplicates = 1000 // as many as case W12 of design/security.md wants
)

// Fault is one way in which a provider misbehaves on purpose. The form of Value depends on Kind:
//
//	latency            a duration such as "250ms", or a number of milliseconds
//	status             503, or {"status": 503, "body": "…", "content_type": "…"}
//	rate_limit         seconds for Retry-After; absent: the header is left out
//	act_then_hang      how long, as for latency; absent: until the client goes or the simulator closes
//	duplicate_webhook  how many further copies; absent: one
//
// The other kinds take none.
type Fault struct {
	Operation   string          `json:"operation,omitempty"` // empty or "*": every operation
	Kind        FaultKind       `json:"kind"`
	Value       json.RawMessage `json:"value,omitempty"`
	Probability *float64        `json:"probability,omitempty"` // absent: 1
	Times       *int            `json:"times,omitempty"`       // how often it may fire; absent: without end
}

// ActiveFault is a fault and how often it fired. One that used up its Times stays in the list, so that the
// figure can still be read, until the faults are replaced or cleared.
type ActiveFault struct {
	Fault
	Fired int `json:"fired"`
}

// FaultError names the field of a fault that is wrong. In an array the field starts with its index: "[2].kind".
type FaultError struct {
	Field   string
	Message string
}

func (e *FaultError) Error() string {
	if e.Field == "" {
		return "fault: " + e.Message
	}
	return "fault: " + e.Field + " " + e.Message
}

// Faults is the set of faults of one simulator. It is safe for concurrent use.
type Faults struct {
	operations []string
	random     func() float64
	active     atomic.Int32 // the number of rules: without one, a request takes no lock

	mu    sync.Mutex
	rules []*rule
}

// rule is a fault whose value has been read.
type rule struct {
	fault       Fault
	probability float64
	times       int // -1: without end
	fired       int

	delay       time.Duration // latency, act_then_hang; -1 there: without end
	status      int           // status
	body        string
	hasBody     bool
	contentType string
	retryAfter  int // rate_limit; -1: no header
	copies      int // duplicate_webhook
}

// NewFaults returns an empty set for a simulator with these operations. [WebhookOperation] among them says
// that the provider sends webhooks.
func NewFaults(operations ...string) *Faults {
	return &Faults{operations: slices.Clone(operations), random: rand.Float64}
}

// Add adds faults behind those that are there. It adds all of them or, with a [*FaultError], none.
func (f *Faults) Add(faults ...Fault) error { return f.put(faults, false, len(faults) > 1) }

// Replace puts faults in the place of those that are there. On a [*FaultError] those stay.
func (f *Faults) Replace(faults ...Fault) error { return f.put(faults, true, len(faults) > 1) }

// Clear removes every fault. Requests that a fault is holding up are not released by it.
func (f *Faults) Clear() { _ = f.put(nil, true, false) } // without faults there is nothing to be wrong

// put adds or replaces. positions says that the caller gave a list, so an error names the position in it.
func (f *Faults) put(faults []Fault, replace, positions bool) error {
	rules := make([]*rule, 0, len(faults))
	for i, fault := range faults {
		r, err := f.compile(fault)
		if err != nil {
			if positions {
				err.Field = index(i, err.Field)
			}
			return err
		}
		rules = append(rules, r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.rules
	if replace {
		kept = nil
	}
	if len(kept)+len(rules) > maxFaults {
		// Exhausted faults are kept for their figure only, so they go first.
		kept = slices.DeleteFunc(slices.Clone(kept), (*rule).exhausted)
	}
	if len(kept)+len(rules) > maxFaults {
		return &FaultError{Message: fmt.Sprintf("there may be at most %d faults", maxFaults)}
	}
	f.rules = append(slices.Clip(kept), rules...)
	f.active.Store(int32(len(f.rules)))
	return nil
}

// List returns the faults in the order in which they are asked, with how often each fired.
func (f *Faults) List() []ActiveFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]ActiveFault, len(f.rules))
	for i, r := range f.rules {
		fault := r.fault
		fault.Value = slices.Clone(fault.Value)
		fault.Probability = new(r.probability)
		if r.times >= 0 {
			fault.Times = new(r.times)
		}
		list[i] = ActiveFault{Fault: fault, Fired: r.fired}
	}
	return list
}

func (r *rule) exhausted() bool { return r.times >= 0 && r.fired >= r.times }

func (r *rule) matches(operation string) bool {
	if r.fault.Operation != AnyOperation && r.fault.Operation != operation {
		return false
	}
	return possible(r.fault.Kind, operation)
}

// possible says whether a kind makes sense for an operation: only a webhook can be dropped or sent twice,
// and what the receiver answers to one is not ours to choose.
func possible(kind FaultKind, operation string) bool {
	switch kind {
	case FaultLatency:
		return true
	case FaultDropWebhook, FaultDuplicateWebhook:
		return operation == WebhookOperation
	default:
		return operation != WebhookOperation
	}
}

// effect is what the faults decided for one request: first wait, then the fault, if any.
type effect struct {
	wait time.Duration
	rule *rule
}

// name is for the log: "", "latency", "status" or "latency+status".
func (e effect) name() string {
	switch {
	case e.rule == nil && e.wait == 0:
		return ""
	case e.rule == nil:
		return string(FaultLatency)
	case e.wait == 0:
		return string(e.rule.fault.Kind)
	}
	return string(FaultLatency) + "+" + string(e.rule.fault.Kind)
}

// take asks the faults in their order about one request. Every latency that fires adds up; of the other
// kinds the first that fires wins, and the later ones are not counted.
func (f *Faults) take(operation string) effect {
	var e effect
	if f.active.Load() == 0 {
		return e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if !r.matches(operation) || r.exhausted() || (e.rule != nil && r.fault.Kind != FaultLatency) {
			continue
		}
		if r.probability < 1 && f.random() >= r.probability {
			continue
		}
		r.fired++
		if r.fault.Kind == FaultLatency {
			e.wait += r.delay
		} else {
			e.rule = r
		}
	}
	return e
}

// compile checks a fault and reads its value. The rule's value is never written again, so a request may use
// it after the fault was cleared.
func (f *Faults) compile(fault Fault) (*rule, *FaultError) {
	if fault.Operation == "" {
		fault.Operation = AnyOperation
	}
	switch fault.Kind {
	case FaultLatency, FaultStatus, FaultReset, FaultTruncate, FaultActThenReset, FaultActThenHang, FaultDropWebhook, FaultDuplicateWebhook, FaultRateLimit:
	case "":
		return nil, &FaultError{"kind", "is required: " + kindList}
	default:
		return nil, &FaultError{"kind", "is unknown, must be " + kindList}
	}
	if fault.Operation != AnyOperation && !slices.Contains(f.operations, fault.Operation) {
		return nil, &FaultError{"operation", "is unknown, must be * or one of " + strings.Join(f.operations, ", ")}
	}
	// A fault that can never fire is a mistake, and a test that relies on it would pass for nothing.
	if !f.possible(fault.Kind, fault.Operation) {
		return nil, &FaultError{"operation", "cannot have a fault of kind " + string(fault.Kind)}
	}
	r := &rule{fault: fault, probability: 1, times: -1}
	if fault.Probability != nil {
		if r.probability = *fault.Probability; !(r.probability >= 0 && r.probability <= 1) { // NaN is neither
			return nil, &FaultError{"probability", "must be from 0 to 1"}
		}
	}
	if fault.Times != nil {
		if r.times = *fault.Times; r.times < 1 {
			return nil, &FaultError{"times", "must be at least 1"}
		}
	}
	if err := r.readValue(); err != nil {
		return nil, err
	}
	r.fault.Value = slices.Clone(r.fault.Value) // the caller may go on changing what it passed
	return r, nil
}

func (f *Faults) possible(kind FaultKind, operation string) bool {
	if operation != AnyOperation {
		return possible(kind, operation)
	}
	return slices.ContainsFunc(f.operations, func(o string) bool { return possible(kind, o) })
}

const kindList = "latency, status, reset, truncate, act_then_reset, act_then_hang, drop_webhook, duplicate_webhook or rate_limit"

func (r *rule) readValue() *FaultError {
	value := r.fault.Value
	absent := len(value) == 0 || string(value) == "null"
	if absent {
		r.fault.Value, value = nil, nil
	}
	switch r.fault.Kind {
	case FaultLatency:
		if absent {
			return &FaultError{"value", "is required: a duration such as \"250ms\" or a number of milliseconds"}
		}
		return r.readDelay(value)
	case FaultActThenHang:
		if absent {
			r.delay = -1
			return nil
		}
		return r.readDelay(value)
	case FaultStatus:
		if absent {
			return &FaultError{"value", "is required: an HTTP status such as 503"}
		}
		return r.readStatus(value)
	case FaultRateLimit:
		r.retryAfter = -1
		if absent {
			return nil
		}
		if json.Unmarshal(value, &r.retryAfter) != nil || r.retryAfter < 0 {
			return &FaultError{"value", "must be a whole number of seconds for Retry-After"}
		}
		return nil
	case FaultDuplicateWebhook:
		r.copies = 1
		if absent {
			return nil
		}
		if json.Unmarshal(value, &r.copies) != nil || r.copies < 1 || r.copies > maxDuplicates {
			return &FaultError{"value", fmt.Sprintf("must be the number of further copies, 1 to %d", maxDuplicates)}
		}
		return nil
	default:
		if !absent {
			return &FaultError{"value", "must be absent for " + string(r.fault.Kind)}
		}
		return nil
	}
}

func (r *rule) readDelay(value json.RawMessage) *FaultError {
	wrong := &FaultError{"value", fmt.Sprintf("must be a duration such as \"250ms\" or a number of milliseconds, above 0 and at most %v", maxFaultTime)}
	var v any
	if json.Unmarshal(value, &v) != nil {
		return wrong
	}
	switch v := v.(type) {
	case string:
		d, err := time.ParseDuration(v)
		if err != nil {
			return wrong
		}
		r.delay = d
	case float64:
		// Compared before it is converted: a float beyond int64 converts to anything.
		if v <= 0 || v > float64(maxFaultTime/time.Millisecond) {
			return wrong
		}
		r.delay = time.Duration(math.Round(v * float64(time.Millisecond)))
	default:
		return wrong
	}
	if r.delay <= 0 || r.delay > maxFaultTime {
		return wrong
	}
	return nil
}

func (r *rule) readStatus(value json.RawMessage) *FaultError {
	if json.Unmarshal(value, &r.status) != nil {
		fields, err := objectFields(value)
		if err != nil {
			return &FaultError{"value", "must be an HTTP status or an object with status, body and content_type"}
		}
		for name, raw := range fields {
			var ok bool
			switch name {
			case "status":
				ok = json.Unmarshal(raw, &r.status) == nil
			case "body":
				ok, r.hasBody = json.Unmarshal(raw, &r.body) == nil, true
			case "content_type":
				ok = json.Unmarshal(raw, &r.contentType) == nil && !strings.ContainsAny(r.contentType, "\r\n\x00")
			default:
				return &FaultError{"value." + name, "is unknown, must be status, body or content_type"}
			}
			if !ok {
				return &FaultError{"value." + name, "has the wrong type"}
			}
		}
	}
	// 1xx are not answers: net/http would send them and wait for the real one.
	if r.status < 200 || r.status > 599 {
		return &FaultError{"value", "must be an HTTP status from 200 to 599"}
	}
	return nil
}

// writeStatus answers for a fault of kind status. A 5xx is HTML unless the fault says otherwise, because
// that is what the proxy in front of a failing provider sends, and clients must live with it.
func (r *rule) writeStatus(w http.ResponseWriter, refusal func(int) (string, []byte)) {
	text := strconv.Itoa(r.status) + " " + http.StatusText(r.status)
	var contentType string
	var body []byte
	switch {
	case r.hasBody:
		body, contentType = []byte(r.body), "text/html; charset=utf-8"
		if json.Valid(body) {
			contentType = "application/json"
		}
	case r.status >= 500:
		contentType = "text/html; charset=utf-8"
		body = []byte("<html>\r\n<head><title>" + text + "</title></head>\r\n<body>\r\n<center><h1>" + text + "</h1></center>\r\n</body>\r\n</html>\r\n")
	case r.status >= 400:
		contentType, body = refusal(r.status)
	}
	if r.contentType != "" {
		contentType = r.contentType
	}
	writeBody(w, r.status, contentType, body)
}

// ParseFaults reads what PUT /{provider}/faults takes: one object, or an array. replace is true for an array.
// It checks names and types of the fields; what they say is checked by [Faults.Add] and [Faults.Replace].
func ParseFaults(data []byte) (faults []Fault, replace bool, err error) {
	var items []json.RawMessage
	if json.Unmarshal(data, &items) == nil && items != nil {
		if len(items) > maxFaults {
			return nil, true, &FaultError{Message: fmt.Sprintf("there may be at most %d faults", maxFaults)}
		}
		for i, item := range items {
			fault, err := parseFault(item)
			if err != nil {
				err.Field = index(i, err.Field)
				return nil, true, err
			}
			faults = append(faults, fault)
		}
		return faults, true, nil
	}
	fault, ferr := parseFault(data)
	if ferr != nil {
		return nil, false, ferr
	}
	return []Fault{fault}, false, nil
}

func parseFault(data []byte) (Fault, *FaultError) {
	var fault Fault
	fields, err := objectFields(data)
	if err != nil {
		return fault, &FaultError{Message: err.Error()}
	}
	for name, raw := range fields {
		var err error
		switch name {
		case "operation":
			err = json.Unmarshal(raw, &fault.Operation)
		case "kind":
			err = json.Unmarshal(raw, &fault.Kind)
		case "value":
			fault.Value = raw
		case "probability":
			err = json.Unmarshal(raw, &fault.Probability)
		case "times":
			err = json.Unmarshal(raw, &fault.Times)
		default:
			return fault, &FaultError{name, "is unknown, must be operation, kind, value, probability or times"}
		}
		if err != nil {
			return fault, &FaultError{name, "has the wrong type"}
		}
	}
	return fault, nil
}

// objectFields reads one JSON object with exact names. Decoding into the struct would take "KIND" for kind
// and the last of two equal names, and a mistyped fault would silently not be the one that was meant.
func objectFields(data []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(data) {
		return nil, errors.New("must be valid JSON")
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("must be an object, or an array of objects")
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, errors.New("must be valid JSON")
		}
		name, _ := token.(string) // inside an object this token is always a name
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("names %q twice", name)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, errors.New("must be valid JSON")
		}
		fields[name] = raw
	}
	return fields, nil
}

func index(i int, field string) string {
	position := "[" + strconv.Itoa(i) + "]"
	if field == "" {
		return position
	}
	return position + "." + field
}

// ServeHTTP is /{provider}/faults: PUT adds an object or replaces by an array, GET lists, DELETE clears.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		f.Clear()
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodPut:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultBody))
		if err != nil {
			WriteError(w, http.StatusRequestEntityTooLarge, "Invalid fault", "the body could not be read, or has more than 1 MiB")
			return
		}
		if err := f.putJSON(body); err != nil {
			reply := problem{Title: "Invalid fault", Description: err.Error()}
			if e := new(FaultError); errors.As(err, &e) {
				reply.Field = e.Field
			}
			WriteJSON(w, http.StatusBadRequest, reply)
			return
		}
	default:
		MethodNotAllowed(w, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete)
		return
	}
	WriteJSON(w, http.StatusOK, f.List())
}

func (f *Faults) putJSON(body []byte) error {
	faults, replace, err := ParseFaults(body)
	if err != nil {
		return err
	}
	return f.put(faults, replace, replace)
}
