package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a request was refused: the closed values of the label of graphql_refused_total.
type reason string

const (
	reasonMethodNotAllowed       reason = "method_not_allowed"
	reasonUnsupportedMediaType   reason = "unsupported_media_type"
	reasonNotAcceptable          reason = "not_acceptable"
	reasonCSRF                   reason = "csrf"
	reasonUnauthenticated        reason = "unauthenticated"
	reasonBodyTooLarge           reason = "body_too_large"
	reasonBadRequest             reason = "bad_request"
	reasonBatchingDisabled       reason = "batching_disabled"
	reasonPersistedQueryNotFound reason = "persisted_query_not_found"
	reasonOverloaded             reason = "overloaded"
	reasonQueryTooLarge          reason = "query_too_large"
	reasonParseFailed            reason = "parse_failed"
	reasonValidationFailed       reason = "validation_failed"
	reasonIntrospectionDisabled  reason = "introspection_disabled"
	reasonForbidden              reason = "forbidden"
	reasonBadUserInput           reason = "bad_user_input"
	reasonCostExceeded           reason = "cost_exceeded"
	reasonOrigin                 reason = "origin"
	reasonRateLimited            reason = "rate_limited"

	// reasonNone is for what never reaches the counter: refusals outside GraphQL.
	reasonNone reason = ""
)

var allReasons = []reason{
	reasonMethodNotAllowed, reasonUnsupportedMediaType, reasonNotAcceptable, reasonCSRF, reasonUnauthenticated,
	reasonBodyTooLarge, reasonBadRequest, reasonBatchingDisabled, reasonPersistedQueryNotFound, reasonOverloaded,
	reasonQueryTooLarge, reasonParseFailed, reasonValidationFailed, reasonIntrospectionDisabled, reasonForbidden,
	reasonBadUserInput, reasonCostExceeded, reasonOrigin, reasonRateLimited,
}

// The closed values of the labels of graphql_request_duration_seconds.
const (
	operationUnknown      = "unknown" // refused before we knew
	operationQuery        = "query"
	operationMutation     = "mutation"
	operationSubscription = "subscription"

	outcomeOK       = "ok"       // an answer without errors
	outcomeErrors   = "errors"   // an answer with errors that the caller can mend or wait out
	outcomeInternal = "internal" // an answer with an error that is our fault
	outcomeRefused  = "refused"  // not executed
	outcomeCanceled = "canceled" // the caller went away
)

var allOutcomes = []string{outcomeOK, outcomeErrors, outcomeInternal, outcomeRefused, outcomeCanceled}

// The transports of a stream.
const (
	transportEvents = "sse"
	transportSocket = "websocket"
)

// Metrics counts GraphQL requests, and each operation of a socket as one. Its labels are closed and made before the first request, so that no caller
// can add a series, least of all by an operation name (M02).
type Metrics struct {
	duration map[string]map[string]prometheus.Observer // by operation type and outcome
	refused  map[reason]prometheus.Counter
	streams  map[string]prometheus.Gauge // by transport
	sockets  prometheus.Gauge
	closings map[int]prometheus.Counter // by close code
}

// NewMetrics registers the metrics of GraphQL requests.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "kycgate_graphql_request_duration_seconds",
		Help:                            "How long a GraphQL request took from its first header to the last byte of its answer.",
		Buckets:                         []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"operation_type", "outcome"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kycgate_graphql_refused_total",
		Help: "How many GraphQL requests were refused, by reason.",
	}, []string{"reason"})
	streams := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kycgate_graphql_streams_open",
		Help: "How many subscriptions are open, by transport.",
	}, []string{"transport"})
	sockets := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kycgate_graphql_sockets_open",
		Help: "How many WebSockets are open.",
	})
	closings := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kycgate_graphql_sockets_closed_total",
		Help: "How many WebSockets were closed, by our close code; 0 is for those that the client or the network ended.",
	}, []string{"code"})
	reg.MustRegister(duration, refused, streams, sockets, closings)

	m := &Metrics{
		duration: map[string]map[string]prometheus.Observer{}, refused: map[reason]prometheus.Counter{},
		streams: map[string]prometheus.Gauge{}, sockets: sockets, closings: map[int]prometheus.Counter{},
	}
	for _, t := range []string{transportEvents, transportSocket} {
		m.streams[t] = streams.WithLabelValues(t)
	}
	for _, c := range allClosings {
		m.closings[int(c.code)] = closings.WithLabelValues(strconv.Itoa(int(c.code)))
	}
	for _, op := range []string{operationUnknown, operationQuery, operationMutation, operationSubscription} {
		m.duration[op] = map[string]prometheus.Observer{}
		for _, outcome := range allOutcomes {
			if !possible(op, outcome) {
				continue // A series that cannot move would only cost space.
			}
			m.duration[op][outcome] = duration.WithLabelValues(op, outcome)
		}
	}
	for _, r := range allReasons {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	return m
}

// possible says which operations can end how: nothing unknown is executed.
func possible(op, outcome string) bool {
	executed := outcome == outcomeOK || outcome == outcomeErrors
	return !executed || op != operationUnknown
}

func (m *Metrics) observe(op, outcome string, d time.Duration) {
	if o := m.duration[op][outcome]; o != nil {
		o.Observe(d.Seconds())
	}
}

func (m *Metrics) refuse(r reason) {
	if c := m.refused[r]; c != nil {
		c.Inc()
	}
}

// stream counts a subscription that has begun; the returned function is for its end.
func (m *Metrics) stream(transport string) (end func()) {
	m.streams[transport].Inc()
	return m.streams[transport].Dec
}

// socket counts a WebSocket that has begun; the returned function is for its end.
func (m *Metrics) socket() (end func()) {
	m.sockets.Inc()
	return m.sockets.Dec
}

func (m *Metrics) closed(why closing) { m.closings[int(why.code)].Inc() }
