// Package unico speaks to Unico IDCloud, the "by Client" REST integration: liveness, identity verification,
// 1:1 and documents. "Dossier" in comments is the project's collection of what Unico documents (unico.md);
// "ours" is a decision where it is silent or contradicts itself.
//
//	hosts       https://api.id.unico.app, UAT https://api.id.uat.unico.app (dossier 1)
//	auth        an access token of a service account (token.go, dossier 3), and an APIKEY per call (2)
//	create      POST /processes/v1, whatever the process is for: the APIKEY decides (4)
//	read        GET /processes/v1/{their id}, same fields (5, 6)
//	documents   GET /documents/v1?code=…&type=… (8.1)
//	webhook     no outcome inside and no signature: credentials in a header, and a hint (9)
//	repeats     no idempotency key and no id of ours: a POST that is repeated is billed again (10)
//	limits      10 requests a second per tenant (10)
//
// The documentation has four generations that disagree (dossier, "How to read it"). We send what the second
// documents and read what all of them answer: names in any case, numbers as text and the reverse, `authenticated` or
// `biometryToken.result`, `description` or `message`. What is used of an answer is its `status` (11, row 26), never
// which call it came by.
package unico

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Name is how configuration, metrics and jobs call this provider.
const Name = "unico"

// Config is what Unico needs. Secrets are functions because functions do not print; pass config.Secret's
// Reveal.
type Config struct {
	BaseURL        string // up to and without /processes
	TokenURL       string // the whole address, with /oauth2/token
	ServiceAccount string
	TenantID       string
	PrivateKey     *rsa.PrivateKey
	Audience       string   // of the assertion: the origin of TokenURL, without a slash at the end
	APIKeys        []APIKey // at least one
	// WebhookAuth is "header: value", split at the first colon; without one it is the value of Authorization
	// (dossier 9). Without any no callback is believed.
	WebhookAuth func() string
	// Timeout bounds a request for a token, all its attempts together; 0 is 10 s. Other calls end with their context.
	Timeout    time.Duration
	Production bool
	Version    string           // of kycgate, for User-Agent
	Now        func() time.Time // nil: time.Now
}

// APIKey is a key of Unico's and what was enabled on it.
type APIKey struct {
	Key          func() string
	Capabilities []kyc.Capability
}

// New makes the provider. client comes from [httpjson.NewHTTPClient].
func New(c Config, client *http.Client) (kyc.Provider, error) {
	switch {
	case !absolute(c.BaseURL):
		return kyc.Provider{}, errors.New("unico: base_url must be an absolute http or https URL")
	case !absolute(c.TokenURL):
		return kyc.Provider{}, errors.New("unico: token_url must be an absolute http or https URL")
	case c.PrivateKey == nil:
		return kyc.Provider{}, errors.New("unico: private_key_file is needed")
	case len(c.APIKeys) == 0:
		return kyc.Provider{}, errors.New("unico: api_keys must hold at least one key")
	case client == nil:
		return kyc.Provider{}, errors.New("unico: an HTTP client is needed")
	}
	for _, k := range c.APIKeys {
		if k.Key == nil || k.Key() == "" || len(k.Capabilities) == 0 {
			return kyc.Provider{}, errors.New("unico: every entry of api_keys needs a key and its capabilities")
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	agent := httpjson.UserAgent(c.Version, c.Production)
	u := &unico{
		http:   httpjson.Client{HTTP: client, BaseURL: c.BaseURL, UserAgent: agent, Production: c.Production},
		tokens: newTokenSource(c, httpjson.Client{HTTP: client, UserAgent: agent, Production: c.Production}),
		keys:   c.APIKeys,
		now:    c.Now,
	}
	p := kyc.Provider{
		Name: Name, DisplayName: "Unico",
		Prepare:       func(ctx context.Context) { _, _ = u.tokens.get(ctx) }, // whoever calls hears of the error
		CreateProcess: u.createProcess, FetchProcess: u.fetchProcess, ProcessCapabilities: u.capabilities, ProcessImages: images,
		ParseCallback: callbackParser(c.WebhookAuth),
	}
	if u.documentKey() != nil {
		p.ReusableDocuments = u.reusableDocuments
	}
	return p, nil
}

// images are the limits of a picture (dossier 4.4): 800 KB as sent, 640 × 480 in either orientation. Whether a KB is
// 1,000 bytes is not documented; the smaller reading is never refused there.
var images = kyc.ImageLimits{MaxBytes: 800_000, MinLong: 640, MinShort: 480}

func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

type unico struct {
	http   httpjson.Client
	tokens *tokenSource
	keys   []APIKey
	now    func() time.Time
}

// shown is what a process of each kind checks, of what its key has: a key that may also capture documents does
// not make a selfie a document.
func shown(kind kyc.ProcessKind, of []kyc.Capability) []kyc.Capability {
	var out []kyc.Capability
	for _, c := range kyc.Capabilities() {
		document := c == kyc.CapDocumentCapture
		if slices.Contains(of, c) && document == (kind == kyc.KindDocumentCapture) {
			out = append(out, c)
		}
	}
	return out
}

// wants is what each kind cannot do without, first with liveness and then without: an identity without
// liveness is verified from any photograph, so it is chosen only where no key offers better (ours).
var wants = map[kyc.ProcessKind][][]kyc.Capability{
	kyc.KindLiveness:             {{kyc.CapLiveness}},
	kyc.KindIdentityVerification: {{kyc.CapLiveness, kyc.CapIdentityVerification}, {kyc.CapIdentityVerification}},
	kyc.KindFaceValidation:       {{kyc.CapLiveness, kyc.CapFaceValidation}, {kyc.CapFaceValidation}},
	kyc.KindDocumentCapture:      {{kyc.CapDocumentCapture}},
}

// spoils lists what a key must not have for a kind: its process would check that too, cost more, and ask for
// fields that this kind does not have.
var spoils = map[kyc.ProcessKind][]kyc.Capability{
	kyc.KindLiveness:             {kyc.CapIdentityVerification, kyc.CapFaceValidation, kyc.CapFraudProfile, kyc.CapRiskScore, kyc.CapGovernmentSimilarity},
	kyc.KindIdentityVerification: {kyc.CapFaceValidation},
}

// choose finds the key for a kind: of those that have everything wanted the one with the least beside it,
// because everything a key has is done and billed.
func (u *unico) choose(kind kyc.ProcessKind, wanted []kyc.Capability) *APIKey {
	for _, needed := range wants[kind] {
		var best *APIKey
		for i := range u.keys {
			k := &u.keys[i]
			if !has(k, needed) || !has(k, wanted) || slices.ContainsFunc(spoils[kind], func(c kyc.Capability) bool { return slices.Contains(k.Capabilities, c) }) {
				continue
			}
			if best == nil || len(k.Capabilities) < len(best.Capabilities) {
				best = k
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func has(k *APIKey, all []kyc.Capability) bool {
	return !slices.ContainsFunc(all, func(c kyc.Capability) bool { return !slices.Contains(k.Capabilities, c) })
}

func (u *unico) capabilities(kind kyc.ProcessKind, wanted []kyc.Capability) ([]kyc.Capability, bool) {
	k := u.choose(kind, wanted)
	if k == nil {
		return nil, false
	}
	return shown(kind, k.Capabilities), true
}

// keyOf finds the key an existing process was made with; any key of the tenant where the configuration has
// changed meanwhile: that a process is read with its own key is documented, that another is refused is not.
func (u *unico) keyOf(kind kyc.ProcessKind, capabilities []kyc.Capability) *APIKey {
	for i := range u.keys {
		if slices.Equal(shown(kind, u.keys[i].Capabilities), capabilities) {
			return &u.keys[i]
		}
	}
	if k := u.choose(kind, capabilities); k != nil {
		return k
	}
	return &u.keys[0]
}

func (u *unico) documentKey() *APIKey { return u.choose(kyc.KindDocumentCapture, nil) }
