package providers

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
)

// outcome is how an attempt ended, as a metric label. The set is closed (contract, section 5).
type outcome uint8

const (
	outcomeOK outcome = iota
	outcomeRejected
	outcomeUnavailable
	outcomeTimeout
	outcomeRateLimited
	outcomeCredentials
	outcomeBadAnswer
	outcomeCanceled
	outcomes
)

func (o outcome) String() string {
	return [...]string{"ok", "rejected", "unavailable", "timeout", "rate_limited", "credentials", "bad_answer", "canceled"}[o]
}

// Metrics are the metrics of all providers. Every combination of labels of a provider exists from the moment
// it is wrapped, so that rate() and alerts work from the first scrape.
type Metrics struct {
	durations     *prometheus.HistogramVec
	refused       *prometheus.CounterVec
	inFlight      *prometheus.GaugeVec
	unknownStatus *prometheus.CounterVec
	stale         *prometheus.CounterVec
	breakers      *breakerCollector
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kycgate_provider_request_duration_seconds",
			Help:    "How long one attempt at a provider took, by how it ended; waiting for the guard is not part of it.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
			// Native as well, for quantiles that do not depend on where these borders are.
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}, []string{"provider", "operation", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kycgate_provider_refused_total",
			Help: "Calls that our own guard did not let leave, by reason.",
		}, []string{"provider", "operation", "reason"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kycgate_provider_in_flight",
			Help: "Calls to a provider that are under way now.",
		}, []string{"provider"}),
		unknownStatus: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kycgate_provider_unknown_status_total",
			Help: "Answers with a status, or a word of a result, we have no meaning for; the person does not pass by it until somebody adds it.",
		}, []string{"provider"}),
		stale: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kycgate_category_hierarchy_stale_total",
			Help: "How often an old category hierarchy was served because the provider gave no new one.",
		}, []string{"provider"}),
		breakers: &breakerCollector{
			desc: prometheus.NewDesc("kycgate_provider_breaker_state",
				"State of an operation's circuit breaker: 0 is closed, 1 half-open, 2 open.", []string{"provider", "operation"}, nil),
			operations: make(map[[2]string]*operation),
		},
	}
	if reg != nil {
		reg.MustRegister(m.durations, m.refused, m.inFlight, m.unknownStatus, m.stale, m.breakers)
	}
	return m
}

// UnknownStatus counts an answer whose status has no meaning here. kyc tells it, because kyc is where a
// status gets its meaning: pass it as kyc.Config.UnknownStatus.
func (m *Metrics) UnknownStatus(provider string) { m.unknownStatus.WithLabelValues(provider).Inc() }

// StaleHierarchy counts that an old category hierarchy was served: pass it as kyc.Config.StaleHierarchy.
func (m *Metrics) StaleHierarchy(provider string) { m.stale.WithLabelValues(provider).Inc() }

// operationMetrics are the metrics of one operation with their labels looked up.
type operationMetrics struct {
	durations func(outcome) prometheus.Observer
	refused   [reasons]prometheus.Counter
	inFlight  prometheus.Gauge
}

func (m *Metrics) operation(provider, name string) (o operationMetrics) {
	if m == nil {
		m = NewMetrics(nil) // counted and never read
	}
	// Only the good outcome exists from the first scrape: a histogram is fifteen series, and all outcomes of all operations of four
	// providers would be more than the two thousand that a scrape may have (security M02).
	o.durations = func(what outcome) prometheus.Observer {
		return m.durations.WithLabelValues(provider, name, what.String())
	}
	o.durations(outcomeOK)
	for r := breakerOpen; r < reasons; r++ {
		o.refused[r] = m.refused.WithLabelValues(provider, name, r.String())
	}
	o.inFlight = m.inFlight.WithLabelValues(provider)
	m.unknownStatus.WithLabelValues(provider)
	return o
}

// watch shows the breakers of a guard at every scrape.
func (m *Metrics) watch(g *Guard) {
	if m == nil {
		return
	}
	m.breakers.mu.Lock()
	defer m.breakers.mu.Unlock()
	for _, o := range g.operations {
		if o.name == "fetch_category_hierarchy" {
			m.stale.WithLabelValues(g.provider)
		}
		m.breakers.operations[[2]string{g.provider, o.name}] = o
	}
}

// breakerCollector asks the breakers when it is scraped. A gauge set on every change would go on saying
// "open" until the next call, because an expired breaker is moved to half-open by whoever asks it.
type breakerCollector struct {
	desc *prometheus.Desc

	mu         sync.Mutex
	operations map[[2]string]*operation
}

func (c *breakerCollector) Describe(descs chan<- *prometheus.Desc) { descs <- c.desc }

func (c *breakerCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	operations := slices.Collect(maps.Values(c.operations))
	c.mu.Unlock()
	for _, o := range operations {
		metrics <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, breakerValue(o.state()), o.guard.provider, o.name)
	}
}

func breakerValue(s kyc.BreakerState) float64 {
	switch s {
	case kyc.BreakerOpen:
		return 2
	case kyc.BreakerHalfOpen:
		return 1
	default:
		return 0
	}
}
