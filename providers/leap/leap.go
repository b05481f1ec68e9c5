// Package leap speaks to Leap Financial's RaaS partner API: registration of prospects and where they stand.
// "Dossier" in comments is the project's collection of what Leap documents (leap-finhub.md, part A); "ours" is a
// decision where it is silent.
//
//	hosts       https://raas-partner-cv.nomas.cash for integration; production per contract (dossier A1)
//	auth        the key in the header api_key, server side only; it carries scopes, a missing one is 403 (A1)
//	register    POST /v1/auth/register-user-v2, 200 means accepted and queued (A2)
//	look up     POST /v1/auth/get-user-token-v2 by phone or by e-mail; also how a status is polled (A3)
//	update      nothing is documented (A5); see Config.UpdatePath
//	webhooks    none about a person's status (A8)
//	errors      {"reason", "code"?}; the only code documented is USER_NOT_FOUND (A7)
//	limits      no rate limit, time-out or idempotency header is documented (A1)
//
// Surprises: where phone and e-mail are both sent to the look-up, the phone is ignored, so one is sent (A3). The status in
// Leap's own example, OnProcess, is none of the six documented ones (A11.1), and both status fields may be absent
// for a tenant (A3). How a duplicate is refused is not documented (A11.8): every 4xx whose reason says so is one.
// userToken and userId are the same string (A11.6).
package leap

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Name is how configuration, metrics and jobs call this provider.
const Name = "leap"

// DefaultUpdatePath is where a correction goes unless configured: the registration itself, the one documented
// operation that takes a person's data (ours).
const DefaultUpdatePath = registerPath

const (
	registerPath = "/auth/register-user-v2"
	lookUpPath   = "/auth/get-user-token-v2"
)

// Config is what Leap needs. Secrets are functions because functions do not print; pass config.Secret's Reveal.
type Config struct {
	BaseURL string // up to /v1, with or without it
	APIKey  func() string
	// UpdatePath takes the POST of a correction, below /v1, with the body of a registration. Leap documents no way to
	// correct a person's data; "" is DefaultUpdatePath.
	UpdatePath string
	Production bool
	Version    string // of kycgate, for User-Agent
}

// New makes the provider. client comes from [httpjson.NewHTTPClient].
func New(c Config, client *http.Client) (kyc.Provider, error) {
	base, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return kyc.Provider{}, errors.New("leap: base_url must be an absolute http or https URL")
	case c.APIKey == nil || c.APIKey() == "":
		return kyc.Provider{}, errors.New("leap: api_key must not be empty")
	case c.UpdatePath != "" && !strings.HasPrefix(c.UpdatePath, "/"):
		return kyc.Provider{}, errors.New("leap: update_path must begin with a slash")
	case client == nil:
		return kyc.Provider{}, errors.New("leap: an HTTP client is needed")
	}
	l := &leap{
		updatePath: c.UpdatePath,
		http: httpjson.Client{
			HTTP:       client,
			BaseURL:    strings.TrimSuffix(strings.TrimRight(c.BaseURL, "/"), "/v1") + "/v1",
			Header:     func(h http.Header) { h["api_key"] = []string{c.APIKey()} }, // as documented; Set would write Api_key
			UserAgent:  httpjson.UserAgent(c.Version, c.Production),
			Production: c.Production,
		},
	}
	if l.updatePath == "" {
		l.updatePath = DefaultUpdatePath
	}
	return kyc.Provider{
		Name:             Name,
		DisplayName:      "Leap",
		RegisterProspect: l.registerProspect,
		FetchProspect:    l.fetchProspect,
		UpdateProspect:   l.updateProspect,
	}, nil
}

type leap struct {
	http       httpjson.Client
	updatePath string
}
