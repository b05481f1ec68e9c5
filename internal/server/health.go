package server

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyWithin bounds one question whether we are ready: a probe that hangs says no.
const readyWithin = 2 * time.Second

var refuseRead = atHTTP(http.StatusMethodNotAllowed, codeBadRequest, reasonNone,
	"This is read by GET.").with("Allow", "GET, HEAD")

// adminHandler answers the operator: metrics, liveness and readiness. It is never on the public listener (X04).
// It says ok or fail and nothing about what failed (L09); that is in the log and in the metrics.
func (s *Server) adminHandler() http.Handler {
	metrics := promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError, // one broken collector must not blind all
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, h := r.Context(), w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		defer func() {
			if v := recover(); v != nil {
				s.crashed(ctx, &exchange{ResponseWriter: w}, v)
			}
		}()
		path := r.URL.EscapedPath()
		switch path {
		case "/metrics", "/healthz", "/readyz":
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				refuseRead.write(w, mediaJSON)
				return
			}
		}
		switch path {
		case "/metrics":
			metrics.ServeHTTP(w, r)
		case "/healthz":
			say(w, true)
		case "/readyz":
			say(w, s.ready(ctx))
		default:
			refuseNotFound.write(w, mediaJSON)
		}
	})
}

func (s *Server) ready(ctx context.Context) bool {
	if s.draining.Load() {
		return false
	}
	if s.cfg.Ready == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return s.cfg.Ready(ctx) == nil
}

func say(w http.ResponseWriter, ok bool) {
	word, status := "ok", http.StatusOK
	if !ok {
		word, status = "fail", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word)
}
