// Package qitech speaks to QI Tech CaaS: KYC analyses of natural persons, and 1:1 face registration. "Dossier" in comments is the
// project's collection of what QI Tech documents (qitech-openco.md); "ours" is a decision where it is silent.
//
//	hosts       https://api.caas.qitech.app, sandbox https://api.sandbox.caas.qitech.app (dossier A.1)
//	auth        the bare API key in Authorization, no word in front (A.1)
//	submit      POST /onboarding/natural_person?analyze=true, decides at once when it can (A.2, A.6)
//	read        GET /onboarding/natural_person/{id}, where id is the one we chose (A.2)
//	faces       POST /face_recognition/registration, read by key or by document (A.2 rows 11 to 13)
//	webhook     Signature: lower-case hex HMAC-SHA1 over URL + method + body (A.10)
//	repeats     the same id again is 409, never a second analysis (A.9)
//	limits      no rate limit, time-out or idempotency header is documented (D 8)
//
// Surprises: invalid JSON is 406 and not 400 (A.8); one integrator sees 429 where 409 is documented (A.9);
// a face registration has no idempotency key and answers nothing but its own key (A.2), one image_status is
// spelled in two ways and another one wrongly (A.8);
// eight statuses are listed as "seven" (A.6); webhooks are POST in the current text and PUT in the older
// one, and the method is part of what is signed (A.10). In the sandbox the first digit of the CPF chooses
// the outcome (A.11).
package qitech

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Name is how configuration, metrics and jobs call this provider.
const Name = "qitech"

// Config is what QI Tech needs. Secrets are functions because functions do not print; pass config.Secret's
// Reveal.
type Config struct {
	BaseURL string // up to and without /onboarding, with or without a slash at the end
	APIKey  func() string
	// FaceAPIKey is the key of the face product: QI Tech hands out one a product (dossier A.1). Without one
	// APIKey is sent.
	FaceAPIKey func() string
	// FaceDocument says how a document is written in face calls. The zero value is DocumentMasked.
	FaceDocument DocumentForm
	// WebhookKey is the signature_key agreed with QI Tech's support. Without one no callback is believed.
	WebhookKey func() string
	// CallbackURL is the URL as configured at QI Tech, because that one is signed: public_url +
	// "/callbacks/qitech", never rebuilt from a Host header (dossier A.10).
	CallbackURL string
	// GenderOther says what is sent for OTHER, which QI Tech does not know (dossier C33).
	GenderOther GenderOther
	Production  bool
	Version     string // of kycgate, for User-Agent
}

// GenderOther is what is sent for a gender QI Tech does not know.
type GenderOther string

// The choices. The zero value is GenderOmit.
const (
	GenderOmit      GenderOther = "omit"
	GenderUndefined GenderOther = "undefined" // documented for a sibling product only (dossier A.3)
)

// DocumentForm is how a CPF is written.
type DocumentForm string

// The forms. That face calls take the mask is ours: natural persons do, for faces nothing is stated (dossier D 6).
const (
	DocumentMasked DocumentForm = "masked" // 529.982.247-25
	DocumentBare   DocumentForm = "bare"   // 52998224725
)

// FaceImages is what QI Tech takes of a picture: 3 MB (dossier A.8), read as 3,000,000 bytes, which is right
// whichever of the two million bytes it means (ours).
var FaceImages = kyc.ImageLimits{MaxBytes: 3_000_000}

// New makes the provider. client comes from [httpjson.NewHTTPClient].
func New(c Config, client *http.Client) (kyc.Provider, error) {
	base, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return kyc.Provider{}, errors.New("qitech: base_url must be an absolute http or https URL")
	case c.APIKey == nil || c.APIKey() == "":
		return kyc.Provider{}, errors.New("qitech: api_key must not be empty")
	case client == nil:
		return kyc.Provider{}, errors.New("qitech: an HTTP client is needed")
	}
	faceKey := c.FaceAPIKey
	if faceKey == nil || faceKey() == "" {
		faceKey = c.APIKey
	}
	product := func(key func() string) httpjson.Client {
		return httpjson.Client{
			HTTP:       client,
			BaseURL:    c.BaseURL,
			Header:     func(h http.Header) { h.Set("Authorization", key()) },
			UserAgent:  httpjson.UserAgent(c.Version, c.Production),
			Production: c.Production,
		}
	}
	q := &qitech{genderOther: c.GenderOther, faceDocument: c.FaceDocument, http: product(c.APIKey), faces: product(faceKey)}
	return kyc.Provider{
		Name:                Name,
		DisplayName:         "QI Tech",
		AnalyzePerson:       q.analyzePerson,
		FetchPersonAnalysis: q.fetchPersonAnalysis,
		RegisterFace:        q.registerFace,
		FetchFace:           q.fetchFace,
		FetchFaceByDocument: q.fetchFaceByDocument,
		FaceImages:          FaceImages,
		ParseCallback:       callbackParser(c.CallbackURL, c.WebhookKey),
	}, nil
}

type qitech struct {
	http         httpjson.Client // with the onboarding key
	faces        httpjson.Client // with the face key
	genderOther  GenderOther
	faceDocument DocumentForm
}
