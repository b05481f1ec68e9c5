package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's. Writes are timed as their caller sees them, from asking to the durable answer, so
// that waiting in line is in them; the commits they shared are counted beside: writes per commit is
// kycgate_store_transaction_duration_seconds_count{kind="write"} over kycgate_store_commits_total.
type metrics struct {
	read, write prometheus.Observer
	commits     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kycgate_store_transaction_duration_seconds",
		Help:    "How long transactions of the database took, waiting included, by kind (read or write).",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	}, []string{"kind"})
	commits := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kycgate_store_commits_total",
		Help: "How many commits the writes shared; one that changed something costs an fsync.",
	})
	if r != nil {
		for _, c := range []prometheus.Collector{durations, commits} {
			if err := r.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return &metrics{
		read:    durations.WithLabelValues("read"),
		write:   durations.WithLabelValues("write"),
		commits: commits,
	}, nil
}

func since(start time.Time) float64 { return time.Since(start).Seconds() }
