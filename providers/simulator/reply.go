package simulator

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// WriteJSON answers with one JSON value.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Only a value of our own making can fail here, so it is a bug of the simulator and says so.
		status, body = http.StatusInternalServerError, []byte(`{"title":"simulator","description":"the answer could not be encoded"}`)
	}
	writeBody(w, status, "application/json", body)
}

// WriteError answers in the shape `{"title", "description"}`, which QI Tech documents (dossier A.8) and our
// own control endpoints follow. Descriptions never repeat what was sent: it may be personal.
func WriteError(w http.ResponseWriter, status int, title, description string) {
	WriteJSON(w, status, problem{Title: title, Description: description})
}

// MethodNotAllowed answers 405 and names the methods that are.
func MethodNotAllowed(w http.ResponseWriter, allowed ...string) {
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	WriteError(w, http.StatusMethodNotAllowed, "Method not allowed", "allowed here: "+list)
}

type problem struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Field       string `json:"field,omitempty"`
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	if !bodyAllowed(status) {
		w.WriteHeader(status)
		return
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	// An explicit length keeps answers above net/http's 2 KiB buffer out of chunked encoding.
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone; there is nobody to tell
}

// bodyAllowed is false for the statuses that RFC 9110 gives no content.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
