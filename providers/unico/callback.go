package unico

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/kycgate/kycgate/kyc"
)

const opParseCallback = Name + ".parse_callback"

var (
	errCredentials = errors.New("the credentials are missing or wrong")
	errNoAuth      = errors.New("no webhook_auth is configured")
	errBody        = errors.New("the body names no process")
)

// callbackBody is a terminal state (dossier 9). There is no outcome in it.
type callbackBody struct {
	ProcessID lenient `json:"processId"`
	State     lenient `json:"state"`
	LastEvent lenient `json:"lastEvent"`
}

// callbackParser verifies before it reads. Unico signs nothing: whoever knows the credentials can say
// anything, which is harmless because a callback only makes us ask.
func callbackParser(auth func() string) func(string, http.Header, []byte) (kyc.Callback, error) {
	return func(method string, header http.Header, body []byte) (kyc.Callback, error) {
		if auth == nil || auth() == "" {
			return kyc.Callback{}, kyc.E(kyc.Unauthenticated, opParseCallback, errNoAuth)
		}
		if method != http.MethodPost || !authentic(auth(), header) {
			return kyc.Callback{}, kyc.E(kyc.Unauthenticated, opParseCallback, errCredentials)
		}
		return parseCallback(body)
	}
}

// authentic compares the one header there must be.
func authentic(auth string, header http.Header) bool {
	name, want, ok := strings.Cut(auth, ":")
	if !ok {
		name, want = "Authorization", auth
	}
	want = strings.TrimSpace(want)
	given := header[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))]
	return want != "" && len(given) == 1 && subtle.ConstantTimeCompare([]byte(strings.TrimSpace(given[0])), []byte(want)) == 1
}

// maxReference bounds what is looked up; their ids have 36 characters.
const maxReference = 64

// parseCallback reads a verified body. The state tells one delivery from another and nothing else.
func parseCallback(body []byte) (kyc.Callback, error) {
	var b callbackBody
	if err := json.Unmarshal(body, &b); err != nil || b.ProcessID == "" || len(b.ProcessID) > maxReference || kyc.CodeLike(string(b.ProcessID)) != string(b.ProcessID) {
		return kyc.Callback{}, kyc.E(kyc.Invalid, opParseCallback, errBody)
	}
	return kyc.Callback{Reference: string(b.ProcessID), DedupeKey: dedupeKey(b)}, nil
}

// dedupeKey is equal for repeats of one delivery: the documents say to be idempotent on processId, and the
// only other thing in it is the state. Lengths keep the fields apart.
func dedupeKey(b callbackBody) string {
	h := sha256.New()
	for _, field := range []lenient{b.ProcessID, b.State, b.LastEvent} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(field)))
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil))
}
