package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
)

// callbacks is the door of the providers' webhooks: verify, store, hint (kyc.Service.ReceiveCallback).
type callbacks struct {
	receive func(ctx context.Context, provider, method string, header http.Header, body []byte) (kyc.CallbackOutcome, error)
	log     *slog.Logger
	count   *prometheus.CounterVec
}

func newCallbacks(s *kyc.Service, reg prometheus.Registerer, log *slog.Logger, providers []string) map[string]http.Handler {
	c := &callbacks{receive: s.ReceiveCallback, log: log, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kycgate_callbacks_total", Help: "Webhooks received from providers by what became of them.",
	}, []string{"provider", "outcome"})}
	reg.MustRegister(c.count)
	handlers := make(map[string]http.Handler)
	for _, p := range providers {
		for _, o := range kyc.CallbackOutcomes() {
			c.count.WithLabelValues(p, string(o))
		}
		handlers[p] = c.of(p)
	}
	return handlers
}

// of answers a provider. 200 means that the hint is durable, and nothing else does: QI Tech repeats
// whatever was answered otherwise, five times (dossier A.10).
func (c *callbacks) of(provider string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // the server has bounded it
		if err != nil {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		outcome, err := c.receive(r.Context(), provider, r.Method, r.Header, body)
		if err != nil {
			c.log.Error("webhook could not be stored; the provider will repeat it", "provider", provider, "err", err)
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		c.count.WithLabelValues(provider, string(outcome)).Inc()
		switch outcome {
		case kyc.CallbackAccepted, kyc.CallbackDuplicate:
			w.WriteHeader(http.StatusOK)
		case kyc.CallbackUnverified:
			c.log.Warn("webhook with a wrong or missing signature refused", "provider", provider)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
}
