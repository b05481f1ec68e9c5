package auth

import (
	"net/http"
	"strings"
)

// FromRequest gives the bearer token of a request (RFC 6750, 2.1). It is false when there is none, and
// also when there are two: which of them would count is nobody's to guess.
func FromRequest(r *http.Request) (token string, ok bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	return FromHeader(values[0])
}

// FromHeader gives the bearer token of an Authorization header's value, which a WebSocket may carry in its
// first message instead.
func FromHeader(value string) (token string, ok bool) {
	scheme, token, found := strings.Cut(value, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimLeft(token, " ")
	if token == "" || strings.ContainsFunc(token, notToken) {
		return "", false
	}
	return token, true
}

// notToken is everything outside the b64token alphabet.
func notToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-._~+/=", r)
}
