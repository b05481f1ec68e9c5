package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// The refusals of a request that never becomes a document.
var (
	refuseMethod = atHTTP(http.StatusMethodNotAllowed, codeBadRequest, reasonMethodNotAllowed,
		"GraphQL is asked by POST, and queries also by GET.").with("Allow", "GET, POST")
	refuseMediaType = atHTTP(http.StatusUnsupportedMediaType, codeBadRequest, reasonUnsupportedMediaType,
		"The Content-Type must be application/json in UTF-8.")
	refuseEncoding = atHTTP(http.StatusUnsupportedMediaType, codeBadRequest, reasonUnsupportedMediaType,
		"The body must not be compressed.")
	refuseAccept = atHTTP(http.StatusNotAcceptable, codeBadRequest, reasonNotAcceptable,
		"The answer is application/json, application/graphql-response+json or text/event-stream.")
	refuseCSRF = atHTTP(http.StatusForbidden, codeCSRF, reasonCSRF,
		"A GET with cookies needs a non-empty header X-Kycgate-Csrf, Apollo-Require-Preflight or X-Apollo-Operation-Name.")
	refuseUnauthenticated = atHTTP(http.StatusUnauthorized, codeUnauthenticated, reasonUnauthenticated,
		"A valid access token is needed.").with("WWW-Authenticate", "Bearer")
	refuseBody = atHTTP(http.StatusRequestEntityTooLarge, codeBadRequest, reasonBodyTooLarge,
		"The body is too large.")
	refuseBatch = atHTTP(http.StatusBadRequest, codeBatchingDisabled, reasonBatchingDisabled,
		"One request holds one operation.")
	refusePersisted = atDocument(reasonPersistedQueryNotFound,
		coded(codePersistedQueryNotFound, "PersistedQueryNotFound")) // The text Apollo's clients look for.
)

func badRequest(message string) *refusal {
	return atHTTP(http.StatusBadRequest, codeBadRequest, reasonBadRequest, message)
}

// params is one GraphQL request, decoded.
type params struct {
	query         string
	operationName string
	variables     map[string]any
	extensions    map[string]any
}

// readBody reads at most limit bytes (T07). It does not believe Content-Length, but a length that is too
// large is refused before a byte is read.
func readBody(e *exchange, r *http.Request, limit int64) ([]byte, *refusal) {
	if r.ContentLength > limit {
		return nil, refuseBody
	}
	size := int64(512) // a chunked body does not say
	if r.ContentLength >= 0 {
		size = r.ContentLength + 1 // one more, so that the end is seen without growing
	}
	// MaxBytesReader wants net/http's own writer, to close the connection when the limit is passed.
	b, _, refused := readOn(http.MaxBytesReader(e.ResponseWriter, r.Body, limit), make([]byte, 0, size), limit)
	return b, refused
}

// readOn reads more of a body behind b until it ends or there are pause bytes of it.
func readOn(body io.Reader, b []byte, pause int64) (read []byte, ended bool, refused *refusal) {
	for int64(len(b)) <= pause {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, true, nil
		}
		if err != nil {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				return nil, false, refuseBody
			}
			return nil, false, badRequest("The body could not be read.") // Too slow (T14), cut short, or gone.
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
	return b, false, nil
}

// decodeBody reads the parameters of a POST.
func decodeBody(body []byte) (*params, *refusal) {
	text := string(body)
	if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "[") {
		return nil, refuseBatch // T02
	}
	v, err := parseJSON(text)
	if err != nil {
		return nil, badRequest("The body is refused: " + err.Error() + ".")
	}
	members, ok := v.(map[string]any)
	if !ok {
		return nil, badRequest("The body must be a JSON object.")
	}
	return decodeMembers(members)
}

// decodeMembers reads the parameters of a JSON object, the body of a POST or the payload of a socket's message.
func decodeMembers(members map[string]any) (*params, *refusal) {
	p, ok := new(params), false
	if p.query, ok = optional[string](members, "query"); !ok {
		return nil, badRequest("query must be a string.")
	}
	if p.operationName, ok = optional[string](members, "operationName"); !ok {
		return nil, badRequest("operationName must be a string or null.")
	}
	if p.variables, ok = optional[map[string]any](members, "variables"); !ok {
		return nil, badRequest("variables must be an object or null.")
	}
	if p.extensions, ok = optional[map[string]any](members, "extensions"); !ok {
		return nil, badRequest("extensions must be an object or null.")
	}
	return p, p.check()
}

// decodeURL reads the parameters of a GET.
func decodeURL(rawQuery string) (*params, *refusal) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, badRequest("The URL query is malformed.")
	}
	text := func(name string) string {
		vs := values[name]
		if len(vs) > 1 || len(vs) == 1 && !utf8.ValidString(vs[0]) {
			err = errJSONDuplicate
			return ""
		}
		return strings.Join(vs, "")
	}
	object := func(name string) (m map[string]any) {
		if s := text(name); s != "" && err == nil {
			var v any
			if v, err = parseJSON(s); err == nil && v != nil {
				var ok bool
				if m, ok = v.(map[string]any); !ok {
					err = errJSONSyntax
				}
			}
		}
		return m
	}
	p := &params{
		query: text("query"), operationName: text("operationName"),
		variables: object("variables"), extensions: object("extensions"),
	}
	if err != nil {
		return nil, badRequest("A parameter of the URL appears twice, is not UTF-8, or is not the JSON object it must be.")
	}
	return p, p.check()
}

// optional reads a member that may be absent or null. Keys are matched exactly (T04).
func optional[T any](members map[string]any, key string) (v T, ok bool) {
	raw, present := members[key]
	if !present || raw == nil {
		return v, true
	}
	v, ok = raw.(T)
	return v, ok
}

// check refuses what is decoded but no request: a missing query, or one that should be known by its hash.
func (p *params) check() *refusal {
	if raw := p.extensions["persistedQuery"]; raw != nil {
		extension, _ := raw.(map[string]any)
		hash, ok := extension["sha256Hash"].(string)
		if !ok {
			return badRequest("extensions.persistedQuery needs a sha256Hash.")
		}
		if p.query == "" {
			return refusePersisted
		}
		// We store no queries (D21: nothing to fill up), so one that comes with its text is only compared.
		if sum := sha256.Sum256([]byte(p.query)); !strings.EqualFold(hash, hex.EncodeToString(sum[:])) {
			return badRequest("The query does not have the given sha256Hash.")
		}
	}
	if p.query == "" {
		return badRequest("query is missing.")
	}
	return nil
}
