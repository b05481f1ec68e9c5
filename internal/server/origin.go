package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/kycgate/kycgate/kyc"
)

// A browser tells which page makes it ask, and lets that page read an answer only if we say so. Which partner's
// page that is we learn from the token, and a preflight carries none: so a preflight is answered for the pages of all
// partners, and the request itself only for those of the caller's. Tokens are in a header and never in a cookie, so
// there is no Access-Control-Allow-Credentials, and no wildcard (C04, C06).

var refuseOrigin = atHTTP(http.StatusForbidden, codeForbidden, reasonOrigin,
	"The origin of the page is not one of the partner's allowed_origins.")

// origins says whose pages may ask.
type origins struct {
	own       string
	byPartner map[kyc.PartnerID]map[string]bool
	any       map[string]bool
}

func newOrigins(own string, byPartner map[kyc.PartnerID][]string) *origins {
	o := &origins{own: own, byPartner: make(map[kyc.PartnerID]map[string]bool), any: make(map[string]bool)}
	for partner, list := range byPartner {
		o.byPartner[partner] = make(map[string]bool)
		for _, origin := range list {
			o.byPartner[partner][origin], o.any[origin] = true, true
		}
	}
	return o
}

// foreign gives the origin of a page that is not our own, or "". It is not ok when there are two.
func (o *origins) foreign(r *http.Request) (origin string, ok bool) {
	switch values := r.Header["Origin"]; len(values) {
	case 0:
		return "", true
	case 1:
		origin = values[0]
	default:
		return "", false
	}
	if origin == "" || origin == o.own {
		return "", true
	}
	// The scheme is not compared: a proxy may have taken the TLS off.
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return "", true
	}
	return origin, true
}

func (o *origins) allows(partner kyc.PartnerID, origin string) bool {
	return o.byPartner[partner][origin]
}

// preflight reports whether an OPTIONS is one that we answer.
func (o *origins) preflight(r *http.Request) bool {
	origin, ok := o.foreign(r)
	return ok && o.any[origin] && r.Header.Get("Access-Control-Request-Method") != ""
}

// vary tells a cache that the answer depends on the page, which it does once there are pages to tell apart.
func (o *origins) vary(h http.Header) {
	if len(o.any) > 0 {
		h.Set("Vary", "Origin")
	}
}

func allowOrigin(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate, X-Request-Id")
}

// allowPreflight answers with everything that a page may send, whatever it asked for: nothing is echoed.
func allowPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers",
		"Accept, Accept-Language, Authorization, Content-Type, Apollo-Require-Preflight, X-Apollo-Operation-Name, X-Kycgate-Csrf")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
