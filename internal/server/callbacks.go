package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// maxCallback bounds the body of a callback.
const maxCallback = 256 << 10

const callbackPrefix = "/callbacks/"

var (
	refuseCallbackMethod = atHTTP(http.StatusMethodNotAllowed, codeBadRequest, reasonNone,
		"A callback is a POST or a PUT.").with("Allow", "POST, PUT")
)

// callback hands a provider's webhook to its handler. The handler gets the body as it came, because the raw bytes
// are what a signature is over (W10), and it gets all of it: a body over the limit never reaches it.
func (s *Server) callback(e *exchange, r *http.Request, path string) {
	provider := strings.TrimPrefix(path, callbackPrefix)
	handler, known := s.cfg.Callbacks[provider]
	if !known {
		refuseNotFound.write(e, mediaJSON)
		return
	}
	e.route = callbackPrefix + provider // one of the configured names by now
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		refuseCallbackMethod.write(e, mediaJSON)
		return
	}
	body, refused := readBody(e, r, maxCallback)
	if refused != nil {
		refused.write(e, mediaJSON)
		return
	}
	releaseReadDeadline(e)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	handler.ServeHTTP(e, r)
}
