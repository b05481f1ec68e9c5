package simulator

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"
)

// loggedRequests is how many requests the log holds (contract 2b). The totals go on counting.
const loggedRequests = 1000

// NoOperation is the operation of a request that is for none of the provider's: an unknown path, a wrong
// method, or a request refused before its path was looked at.
const NoOperation = "none"

// Outcomes of a request as the simulator saw it.
const (
	OutcomeAnswered      = "answered"          // the operation ran and its answer was sent
	OutcomeRefused       = "refused"           // it came from a gateway in production
	OutcomeNotActed      = "not_acted"         // a fault answered in the operation's place
	OutcomeReset         = "reset"             // connection cut; the operation did not run
	OutcomeTruncated     = "truncated"         // the operation ran; half of the answer was sent
	OutcomeActedAndReset = "acted_then_reset"  // the operation ran; connection cut instead of an answer
	OutcomeActedAndHung  = "acted_then_hung"   // the operation ran; no answer was sent
	OutcomeClientGone    = "client_gone"       // the client left before the operation ran
	OutcomeClosed        = "closed"            // the simulator closed before the operation ran
	OutcomeUnreadable    = "unreadable"        // the body was too long or broke off; the operation did not run
	OutcomeDelivered     = "delivered"         // webhook: acknowledged
	OutcomeRetry         = "will_retry"        // webhook: not acknowledged, another attempt follows
	OutcomeGaveUp        = "gave_up"           // webhook: not acknowledged, this was the last attempt
	OutcomeDropped       = "dropped"           // webhook: a fault dropped it before the first attempt
	OutcomeOverflow      = "dropped_by_outbox" // webhook: too many were waiting
)

// Request is one entry of the log: a request that arrived, or one attempt to deliver a webhook.
type Request struct {
	At        time.Time `json:"at"` // when it arrived or left
	Operation string    `json:"operation"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	// Status is what the simulator decided to answer, even if a fault kept it from the client; 0 if it came
	// to no decision. For a webhook it is the receiver's answer.
	Status  int             `json:"status"`
	Fault   string          `json:"fault"`
	Outcome string          `json:"outcome"`
	Body    json.RawMessage `json:"body"` // personal data masked; null if there was none
}

// RequestSummary is the log as it is served. Total and ByOperation are exact and count since the last clear;
// Requests holds the newest thousand, oldest first.
type RequestSummary struct {
	Total       int            `json:"total"`
	ByOperation map[string]int `json:"by_operation"`
	Requests    []Request      `json:"requests"`
}

// RequestLog is the bounded log of one simulator. It is safe for concurrent use.
type RequestLog struct {
	reveal  reveal
	changed Signal

	mu          sync.Mutex
	total       int
	byOperation map[string]int
	ring        []Request // the oldest is at total % loggedRequests once it is full
}

// NewRequestLog returns an empty log that masks every string and number of a body except the fields named
// here, and every value of a query except those of the names without a dot. A field is named by its path
// from the root, without array positions: "id", "phones.type".
func NewRequestLog(revealed ...string) *RequestLog {
	return &RequestLog{reveal: newReveal(revealed), byOperation: make(map[string]int)}
}

// Record adds an entry, with the body masked. An entry is recorded before its answer is sent, so whoever
// has the answer finds the entry.
func (l *RequestLog) Record(e Request, body []byte) {
	e.Body = maskBody(body, l.reveal)
	e.At = e.At.UTC()
	l.mu.Lock()
	if len(l.ring) < loggedRequests {
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.total%loggedRequests] = e
	}
	l.total++
	l.byOperation[e.Operation]++
	l.mu.Unlock()
	l.changed.Notify()
}

// Summary returns a copy of the log.
func (l *RequestLog) Summary() RequestSummary {
	l.mu.Lock()
	defer l.mu.Unlock()
	requests := make([]Request, 0, len(l.ring))
	oldest := 0
	if len(l.ring) == loggedRequests {
		oldest = l.total % loggedRequests
	}
	requests = append(requests, l.ring[oldest:]...)
	requests = append(requests, l.ring[:oldest]...)
	return RequestSummary{Total: l.total, ByOperation: maps.Clone(l.byOperation), Requests: requests}
}

// Count returns how often an operation was recorded since the last clear.
func (l *RequestLog) Count(operation string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byOperation[operation]
}

// Clear empties the log and sets the totals to zero.
func (l *RequestLog) Clear() {
	l.mu.Lock()
	l.total, l.ring, l.byOperation = 0, nil, make(map[string]int)
	l.mu.Unlock()
	l.changed.Notify()
}

// Wait returns when the log satisfies the condition, or with the error of the context.
func (l *RequestLog) Wait(ctx context.Context, satisfied func(RequestSummary) bool) error {
	for {
		changed := l.changed.Changed()
		if satisfied(l.Summary()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ServeHTTP is /{provider}/requests: GET reads, DELETE clears.
func (l *RequestLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		WriteJSON(w, http.StatusOK, l.Summary())
	case http.MethodDelete:
		l.Clear()
		w.WriteHeader(http.StatusNoContent)
	default:
		MethodNotAllowed(w, http.MethodGet, http.MethodHead, http.MethodDelete)
	}
}
