package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/vektah/gqlparser/v2/gqlerror"
)

// The closed set of `extensions.code` this package answers with. NOT_FOUND and FORBIDDEN are also used by
// others, in the same words.
const (
	codeParseFailed            = "GRAPHQL_PARSE_FAILED"
	codeValidationFailed       = "GRAPHQL_VALIDATION_FAILED"
	codeBadUserInput           = "BAD_USER_INPUT"
	codeUnauthenticated        = "UNAUTHENTICATED"
	codeForbidden              = "FORBIDDEN"
	codeNotFound               = "NOT_FOUND"
	codeBadRequest             = "BAD_REQUEST"
	codeBatchingDisabled       = "BATCHING_DISABLED"
	codeCSRF                   = "CSRF"
	codeIntrospectionDisabled  = "INTROSPECTION_DISABLED"
	codeCostExceeded           = "COST_EXCEEDED"
	codeOverloaded             = "OVERLOADED"
	codeRateLimited            = "RATE_LIMITED"
	codeQueryTooLarge          = "QUERY_TOO_LARGE"
	codePersistedQueryNotFound = "PERSISTED_QUERY_NOT_FOUND"
	codeInternal               = "INTERNAL"
)

const (
	// maxErrors bounds how many errors of the parser, the validator and the coercion are answered (D07, D08).
	maxErrors = 5
	// maxErrorBytes bounds every list of errors, so that a small question cannot buy a large answer.
	maxErrorBytes = 8 << 10
)

// refusal is why a request is not executed. It is immutable and its body is encoded when it is made, so that
// one refusal is one sequence of bytes: P3 promises that for every cause of a 401.
type refusal struct {
	status int // of P1 and P3; 0 for P2, whose status depends on the media type
	strict int // of P2 under application/graphql-response+json
	reason reason
	header map[string]string
	body   []byte
}

// atHTTP makes a P1 refusal: the request never became a document.
func atHTTP(status int, code string, why reason, message string) *refusal {
	return &refusal{status: status, reason: why, body: errorBody(gqlerror.List{coded(code, message)})}
}

// atDocument makes a P2 refusal: a document that we will not run.
func atDocument(why reason, errs ...*gqlerror.Error) *refusal {
	return &refusal{strict: http.StatusBadRequest, reason: why, body: errorBody(errs)}
}

// with adds a response header and returns the same refusal. It is for building only.
func (f *refusal) with(key, value string) *refusal {
	if f.header == nil {
		f.header = make(map[string]string, 1)
	}
	f.header[key] = value
	return f
}

// write answers the refusal. The media type is what the caller accepts, or JSON while we do not know.
func (f *refusal) write(w http.ResponseWriter, media mediaType) {
	for key, value := range f.header {
		w.Header().Set(key, value)
	}
	switch {
	case f.status != 0 && media == mediaEvents: // It never became a document, so there is no stream to be an event of.
		writeBody(w, f.status, mediaJSON, f.body)
	case f.status != 0:
		writeBody(w, f.status, media, f.body)
	case media == mediaEvents:
		writeBody(w, http.StatusOK, media, eventNext, f.body, eventEnd, eventComplete)
	case media == mediaGraphQL:
		writeBody(w, f.strict, media, f.body)
	default:
		writeBody(w, http.StatusOK, media, f.body)
	}
}

// errors is the list alone, for a transport that has its own place for it.
func (f *refusal) errors() []byte { return f.body[len(errorsKey) : len(f.body)-1] }

func writeBody(w http.ResponseWriter, status int, media mediaType, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h := w.Header()
	h.Set("Content-Type", media.contentType())
	h.Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(status)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil { //nolint:gosec // G705: it is JSON, and Content-Type and nosniff say so.
			return // The client is gone; there is nobody to tell.
		}
	}
}

func coded(code, message string) *gqlerror.Error {
	return &gqlerror.Error{Message: message, Extensions: map[string]any{"code": code}}
}

const errorsKey = `{"errors":`

// errorBody is {"errors": […]} without a data key.
func errorBody(list gqlerror.List) []byte {
	return append(append([]byte(errorsKey), encodeErrors(list)...), '}')
}

// encodeErrors writes as many errors as fit into maxErrorBytes, and at least one.
func encodeErrors(list gqlerror.List) []byte {
	const brackets = len(`{"errors":[],}`)
	var b bytes.Buffer
	b.WriteByte('[')
	for _, e := range list {
		one, err := json.Marshal(e)
		if err != nil || len(one)+brackets > maxErrorBytes {
			// An extension that JSON or the limit cannot hold: keep what the caller needs most.
			code, _ := e.Extensions["code"].(string)
			one, _ = json.Marshal(coded(code, clip(e.Message)))
		}
		if b.Len() > 1 {
			if b.Len()+len(one)+brackets > maxErrorBytes {
				break
			}
			b.WriteByte(',')
		}
		b.Write(one)
	}
	b.WriteByte(']')
	return b.Bytes()
}
