package unicosim

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kycgate/kycgate/providers/simulator"
)

// serveSettle is POST /settle {"id", "status": 3}: Settle over HTTP. The status is 3, 4 or 5.
func (s *Sim) serveSettle(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID     string `json:"id"`
		Status int    `json:"status"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&in) != nil || !final(in.Status) {
		simulator.WriteError(w, http.StatusBadRequest, "Invalid request", "must be an object with id and a status of 3, 4 or 5")
		return
	}
	switch err := s.Settle(in.ID, in.Status); {
	case errors.Is(err, ErrUnknownProcess):
		simulator.WriteError(w, http.StatusNotFound, "Not found", "id: is unknown")
	case errors.Is(err, ErrSettled):
		simulator.WriteError(w, http.StatusConflict, "Settled", "id: the process is settled already")
	default:
		p, _ := s.Process(in.ID) // dropped meanwhile at worst: then it is empty
		simulator.WriteJSON(w, http.StatusOK, p)
	}
}
