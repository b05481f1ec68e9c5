package leapsim

import (
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/kycgate/kycgate/providers/simulator"
)

// maxListed is how many users GET /users answers at most.
const maxListed = 1000

// serveControl is for whoever drives the simulator; none of it is the provider's. It asks for no key, has no faults
// and is not logged.
func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set(simulator.Header, "true")
	if path == "/decide" {
		s.serveDecide(w, r)
	} else {
		s.serveUsers(w, r)
	}
}

// serveDecide is POST /decide {"userId", "status", "statusDetail"?}: Decide over HTTP.
func (s *Sim) serveDecide(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		simulator.MethodNotAllowed(w, http.MethodPost)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "the body could not be read, or has more than 64 KiB", "INVALID_REQUEST")
		return
	}
	f := readFields(body)
	id, status, detail := f.text("userId", true), f.text("status", true), f.text("statusDetail", false)
	if f.wrong != "" {
		refuse(w, http.StatusBadRequest, f.wrong, "INVALID_REQUEST")
		return
	}
	switch err := s.Decide(id, status, detail); {
	case errors.Is(err, ErrUnknownWord):
		refuse(w, http.StatusBadRequest, "status or statusDetail is none of Leap's words", "INVALID_REQUEST")
	case err != nil:
		refuse(w, http.StatusNotFound, "User not found", "USER_NOT_FOUND")
	default:
		simulator.WriteJSON(w, http.StatusOK, verdict{id, status, detail})
	}
}

// serveUsers is GET /users: the newest thousand, newest first, and how many there are.
func (s *Sim) serveUsers(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		simulator.MethodNotAllowed(w, http.MethodGet)
		return
	}
	list := s.Users()
	total := len(list)
	list = list[max(0, total-maxListed):]
	slices.Reverse(list)
	simulator.WriteJSON(w, http.StatusOK, struct {
		Total int    `json:"total"`
		Users []User `json:"users"`
	}{total, list})
}
