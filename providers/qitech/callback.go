package qitech

import (
	"crypto/hmac"
	"crypto/sha1" // QI Tech signs with HMAC-SHA1 (dossier A.10); HMAC does not rest on collision resistance
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kycgate/kycgate/kyc"
)

const opParseCallback = Name + ".parse_callback"

var (
	errSignature = errors.New("the signature is missing or wrong")
	errNoKey     = errors.New("no webhook_secret is configured")
	errBody      = errors.New("the body is not a status change of a natural person")
)

// callbackBody is a status change (dossier A.10). More fields may come and are ignored.
type callbackBody struct {
	NaturalPersonID lenient `json:"natural_person_id"` // our id of the analysis
	AnalysisStatus  lenient `json:"analysis_status"`
	EventDate       lenient `json:"event_date"`
}

// callbackParser verifies before it reads. The signature covers no time and no nonce, so a delivery can be
// replayed for ever; that is harmless because a callback only makes us ask.
func callbackParser(url string, key func() string) func(string, http.Header, []byte) (kyc.Callback, error) {
	return func(method string, header http.Header, body []byte) (kyc.Callback, error) {
		if key == nil || key() == "" {
			return kyc.Callback{}, kyc.E(kyc.Unauthenticated, opParseCallback, errNoKey)
		}
		if !signed(url, key(), method, header, body) {
			return kyc.Callback{}, kyc.E(kyc.Unauthenticated, opParseCallback, errSignature)
		}
		return parseCallback(body)
	}
}

// signed checks the Signature header: lower-case hex HMAC-SHA1 over URL, method and raw body (dossier A.10).
func signed(url, key, method string, header http.Header, body []byte) bool {
	if method != http.MethodPost && method != http.MethodPut { // POST in the current text, PUT in the older
		return false
	}
	given := header.Values("Signature")
	if len(given) != 1 {
		return false
	}
	return hmac.Equal([]byte(given[0]), []byte(signature(url, key, method, body)))
}

func signature(url, key, method string, body []byte) string {
	mac := hmac.New(sha1.New, []byte(key))
	mac.Write([]byte(url))
	mac.Write([]byte(method))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// maxReference bounds what is looked up; our ids have 30 characters.
const maxReference = 64

// parseCallback reads a verified body. Only the reference is needed, because a callback is a hint; the rest
// tells one delivery from another.
func parseCallback(body []byte) (kyc.Callback, error) {
	var b callbackBody
	if err := json.Unmarshal(body, &b); err != nil || b.NaturalPersonID == "" || len(b.NaturalPersonID) > maxReference {
		return kyc.Callback{}, kyc.E(kyc.Invalid, opParseCallback, errBody)
	}
	return kyc.Callback{Reference: string(b.NaturalPersonID), DedupeKey: dedupeKey(b)}, nil
}

// dedupeKey is equal for repeats of one delivery (dossier A.10: the three fields). Lengths keep the fields
// apart; the hash keeps whatever they hold out of the database's key.
func dedupeKey(b callbackBody) string {
	h := sha256.New()
	for _, field := range []lenient{b.NaturalPersonID, b.AnalysisStatus, b.EventDate} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(field)))
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil))
}
