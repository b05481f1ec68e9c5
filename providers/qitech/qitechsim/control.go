package qitechsim

import (
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/kycgate/kycgate/providers/simulator"
)

// maxListed is how many analyses GET /analyses answers at most.
const maxListed = 1000

// serveControl is for whoever drives the simulator; none of it is the provider's. It asks for no key, has no
// faults and is not logged.
func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set(simulator.Header, "true")
	if path == "/decide" {
		s.serveDecide(w, r)
	} else {
		s.serveAnalyses(w, r)
	}
}

// serveDecide is POST /decide {"id", "analysis_status"}: Decide over HTTP.
func (s *Sim) serveDecide(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		simulator.MethodNotAllowed(w, http.MethodPost)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		simulator.WriteError(w, http.StatusRequestEntityTooLarge, invalidRequest, "the body could not be read, or has more than 64 KiB")
		return
	}
	fields, ok := decodeObject(w, body)
	if !ok {
		return
	}
	root := node{fields: fields, wrong: new(*fieldError)}
	id, status := root.required("id", nil), root.required("analysis_status", nil)
	for name := range fields {
		if name != "id" && name != "analysis_status" {
			root.fail(name, "is unknown, must be id or analysis_status")
		}
	}
	if wrong := *root.wrong; wrong != nil {
		badRequest(w, wrong.path, wrong.text)
		return
	}
	switch err := s.Decide(id, status); {
	case errors.Is(err, ErrUnknownStatus):
		badRequest(w, "analysis_status", oneOf(decidable...)(status))
	case errors.Is(err, ErrUnknownAnalysis):
		notFound(w)
	case errors.Is(err, ErrSettled):
		simulator.WriteError(w, http.StatusConflict, "Settled", "id: the analysis is settled already")
	default:
		a, _ := s.Analysis(id) // dropped meanwhile at worst: then it is empty
		simulator.WriteJSON(w, http.StatusOK, a)
	}
}

// serveAnalyses is GET /analyses[?registration_id=…]: the newest thousand, newest first, and how many there are.
func (s *Sim) serveAnalyses(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		simulator.MethodNotAllowed(w, http.MethodGet)
		return
	}
	list := s.Analyses()
	if query := r.URL.Query(); query.Has("registration_id") {
		registration := query.Get("registration_id")
		list = slices.DeleteFunc(list, func(a Analysis) bool { return a.RegistrationID != registration })
	}
	total := len(list)
	list = list[max(0, total-maxListed):]
	slices.Reverse(list)
	simulator.WriteJSON(w, http.StatusOK, struct {
		Total    int        `json:"total"`
		Analyses []Analysis `json:"analyses"`
	}{total, list})
}
