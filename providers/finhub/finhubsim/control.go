package finhubsim

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/kycgate/kycgate/providers/simulator"
)

// serveControl is for whoever drives the simulator; none of it is the provider's. It asks for no token, has no faults and is not
// logged.
func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(simulator.Header, "true")
	switch {
	case r.URL.Path == "/customers" && r.Method == http.MethodGet:
		simulator.WriteJSON(w, http.StatusOK, map[string]any{"total": len(s.Customers()), "customers": s.Customers()})
	case r.URL.Path == "/customers":
		simulator.MethodNotAllowed(w, http.MethodGet)
	case r.URL.Path == "/decide" && r.Method == http.MethodPost:
		s.serveDecide(w, r)
	case r.URL.Path == "/decide":
		simulator.MethodNotAllowed(w, http.MethodPost)
	case r.Method == http.MethodPut:
		s.serveSettings(w, r)
	default:
		simulator.MethodNotAllowed(w, http.MethodPut)
	}
}

func control(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be a JSON object with the documented fields", nil)
		return false
	}
	return true
}

// serveDecide is POST /decide {"customerId", "status"}: Decide over HTTP.
func (s *Sim) serveDecide(w http.ResponseWriter, r *http.Request) {
	var in struct {
		CustomerID string `json:"customerId"`
		Status     string `json:"status"`
	}
	if !control(w, r, &in) {
		return
	}
	if err := s.Decide(in.CustomerID, in.Status); err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), nil)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveSettings is PUT /settings {"shape", "generation"}; what is left out stays.
func (s *Sim) serveSettings(w http.ResponseWriter, r *http.Request) {
	var in settings
	if !control(w, r, &in) {
		return
	}
	if in.Shape != "" && !slices.Contains([]Shape{S1, S2, S3, S4, S5}, in.Shape) || in.Generation != "" && !slices.Contains([]Generation{G3, G4, G6}, in.Generation) {
		refuse(w, http.StatusBadRequest, "shape must be S1 to S5, generation G3, G4 or G6", nil)
		return
	}
	s.mu.Lock()
	def(&in.Shape, s.settings.Shape)
	def(&in.Generation, s.settings.Generation)
	s.settings = in
	s.mu.Unlock()
	simulator.WriteJSON(w, http.StatusOK, in)
}
