// Package finhub speaks to FinHub: individual (B2C) customers, from the category that decides their limits to the active
// account. "Dossier" in comments is the project's collection of what FinHub documents (leap-finhub.md, part B); "ours" is a
// decision where it is silent.
//
//	hosts       https://api.finhub.cloud, sandbox https://sandbox.finhub.cloud, all under /api/v2.1 (dossier B1.1)
//	auth        Authorization: Bearer, of an admin session that is opened per tenant, or a fixed token (B1.2)
//	tenant      X-Tenant-ID on every call (B1.3)
//	categories  GET  /customers/individual/categorization/hierarchy/{tenant} (B2)
//	register    POST /customers/individual/register or /customer/individual/registration (B3)
//	verify      POST /verifications (B5)
//	consent     POST /customer/individual/{id}/consents/{type} (B7)
//	check       GET  /customer/individual/{id}/owner/{tenant}/activation/check (B8)
//	activate    POST /customer/individual/{id}/activation (B8)
//	limits      429 exists, no figures (B12)
//
// Several generations of this documentation are online at once and contradict each other (B13). The default is that of
// the seed, the others are switches (Registration, ActivationUser) or tolerated: answers come in `data` or at the root,
// the hierarchy in five shapes, a status in `status` or `customerStatus` with or without "CS_".
//
// Surprises: an admin session is locked for half an hour after five wrong passwords (B4), so a refused one is not asked
// for again at once; the body has a `code` of its own, which may be a refusal inside a 200 (ours); there is no documented
// way to read a verification, so the activation check is asked (B5.2); nor to find a customer by e-mail address (B9), so
// that path is a setting and its 404 no "not there"; an activation may be answered without a word that says active (B13), and
// `success: false` without a reason is FinHub's trouble (ours).
package finhub

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Name is how configuration, metrics and jobs call this provider.
const Name = "finhub"

// Config is what FinHub needs. Secrets are functions because functions do not print; pass config.Secret's Reveal.
type Config struct {
	BaseURL string // with or without /api/v2.1 and with or without a slash at the end
	// Exactly one of Token and Admin.
	Token func() string
	Admin *Admin

	Registration Registration // "" is RegisterPlural
	// SearchPath is where a customer is found by e-mail address, under /api/v2.1: POST {"email"}. FinHub documents
	// none; "" is [DefaultSearchPath], "-" is none (ours).
	SearchPath     string
	ActivationUser ActivationUser // "" is ActivationUserID
	// ForwardedFor is the address sent as X-Forwarded-For; "" is that of FinHub's own runner, 127.0.0.1 (dossier B1.3).
	ForwardedFor string

	Production bool
	Version    string           // of kycgate, for User-Agent
	Now        func() time.Time // nil is time.Now
}

// Admin opens admin sessions (dossier B1.2).
type Admin struct {
	OrganizationID string
	UserID         string
	Username       string
	Password       func() string
	TenantKey      func() string
	TenantSecret   func() string
}

// Registration chooses between the two documented paths (dossier B3, B13).
type Registration string

// The two paths.
const (
	RegisterPlural   Registration = "register"     // POST /customers/individual/register, the seed's
	RegisterSingular Registration = "registration" // POST /customer/individual/registration
)

// ActivationUser is what an activation sends as userId: the user's id (G3) or e-mail address (G6; dossier B8).
type ActivationUser string

// The two.
const (
	ActivationUserID    ActivationUser = "id"
	ActivationUserEmail ActivationUser = "email"
)

// DefaultSearchPath is where a customer is looked up. An upstream that has no such path answers 404 in its own words, which
// is no "not found": see findCustomer (ours).
const DefaultSearchPath = "/customer/individual/search"

// prefix is before every path (dossier B0).
const prefix = "/api/v2.1"

// New makes the provider. client comes from [httpjson.NewHTTPClient].
func New(c Config, client *http.Client) (kyc.Provider, error) {
	base, err := url.Parse(c.BaseURL)
	fixed := c.Token != nil && c.Token() != ""
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return kyc.Provider{}, errors.New("finhub: base_url must be an absolute http or https URL")
	case fixed == (c.Admin != nil):
		return kyc.Provider{}, errors.New("finhub: exactly one of token and admin is needed")
	case c.Registration != "" && c.Registration != RegisterPlural && c.Registration != RegisterSingular:
		return kyc.Provider{}, errors.New("finhub: registration must be register or registration")
	case c.ActivationUser != "" && c.ActivationUser != ActivationUserID && c.ActivationUser != ActivationUserEmail:
		return kyc.Provider{}, errors.New("finhub: activation_user must be id or email")
	case client == nil:
		return kyc.Provider{}, errors.New("finhub: an HTTP client is needed")
	}
	if c.SearchPath == "" {
		c.SearchPath = DefaultSearchPath
	}
	if c.ForwardedFor == "" {
		c.ForwardedFor = "127.0.0.1"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	f := &finhub{
		config: c,
		http: httpjson.Client{
			HTTP:       client,
			BaseURL:    strings.TrimSuffix(strings.TrimRight(c.BaseURL, "/"), prefix) + prefix,
			UserAgent:  httpjson.UserAgent(c.Version, c.Production),
			Production: c.Production,
		},
	}
	f.sessions = newSessions(c.Now, f.openSession)
	p := kyc.Provider{
		Name:                   Name,
		DisplayName:            "FinHub",
		FetchCategoryHierarchy: f.fetchCategoryHierarchy,
		RegisterCustomer:       f.registerCustomer,
		StartVerification:      f.startVerification,
		AcceptConsent:          f.acceptConsent,
		CheckActivation:        f.checkActivation,
		ActivateCustomer:       f.activateCustomer,
	}
	if c.SearchPath != "-" {
		p.FindCustomer = f.findCustomer
	}
	return p, nil
}

type finhub struct {
	config   Config
	http     httpjson.Client
	sessions *sessions
}
