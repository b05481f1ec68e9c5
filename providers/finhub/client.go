package finhub

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const (
	opHierarchy = Name + ".fetch_category_hierarchy"
	opRegister  = Name + ".register_customer"
	opFind      = Name + ".find_customer"
	opVerify    = Name + ".start_verification"
	opConsent   = Name + ".accept_consent"
	opCheck     = Name + ".check_activation"
	opActivate  = Name + ".activate_customer"
)

// call makes a call with the tenant's token. A token that is refused is renewed once: 401 is an explicit no, so nothing
// happened yet.
func (f *finhub) call(ctx context.Context, tenant kyc.Tenant, r httpjson.Request) (httpjson.Response, error) {
	if f.config.Admin == nil {
		return f.send(ctx, tenant, f.config.Token(), r)
	}
	token, err := f.sessions.token(ctx, r.Op, tenant, "")
	if err != nil {
		return httpjson.Response{}, err
	}
	resp, err := f.send(ctx, tenant, token, r)
	if err == nil || resp.Status != http.StatusUnauthorized {
		return resp, err
	}
	if token, err = f.sessions.token(ctx, r.Op, tenant, token); err != nil {
		return httpjson.Response{}, err
	}
	return f.send(ctx, tenant, token, r)
}

// send sets every header that any generation of the documentation asks for (dossier B1.3), and reads a refusal that
// hides in a 200.
func (f *finhub) send(ctx context.Context, tenant kyc.Tenant, token string, r httpjson.Request) (httpjson.Response, error) {
	client := f.http
	client.Header = func(h http.Header) {
		if token != "" {
			h.Set("Authorization", "Bearer "+token)
		}
		h.Set("X-Tenant-ID", string(tenant))
		h.Set("X-Forwarded-For", f.config.ForwardedFor)
		h.Set("X-Forwarded-From", "kycgate")
		// Sent as they are spelled: Go would write Platform and Deviceid, and a filter may look closely.
		h["platform"] = []string{"web"}
		h["deviceId"] = []string{"kycgate"}
		h.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(ctx, r)
	if err != nil {
		return resp, err
	}
	return hiddenRefusal(r.Op, resp)
}

// fetchCategoryHierarchy reads the categories of a tenant. The plural path is the seed's, the singular everybody
// else's, and one guide has a third (dossier B2): a path that is not there costs one more look.
func (f *finhub) fetchCategoryHierarchy(ctx context.Context, tenant kyc.Tenant) (kyc.CategoryHierarchy, error) {
	id := url.PathEscape(string(tenant))
	paths := []string{"/customers/individual/categorization/hierarchy/" + id, "/customer/individual/categorization/hierarchy/" + id}
	if f.config.Registration == RegisterSingular {
		paths[0], paths[1] = paths[1], paths[0]
	}
	var resp httpjson.Response
	var err error
	for _, path := range append(paths, "/customer/categorization/tree") {
		resp, err = f.call(ctx, tenant, httpjson.Request{Op: opHierarchy, Method: http.MethodGet, Path: path})
		if err == nil || kyc.KindOf(err) != kyc.NotFound {
			break
		}
	}
	if err != nil {
		return kyc.CategoryHierarchy{}, err
	}
	h, ok := decodeHierarchy(resp.Body)
	if !ok {
		return kyc.CategoryHierarchy{}, httpjson.BadAnswer(opHierarchy)
	}
	if h.TenantID == "" {
		h.TenantID = string(tenant)
	}
	return h, nil
}

// registerCustomer makes a customer (dossier B3).
func (f *finhub) registerCustomer(ctx context.Context, r kyc.CustomerRegistration) (kyc.CustomerVerdict, error) {
	path := "/customers/individual/register"
	if f.config.Registration == RegisterSingular {
		path = "/customer/individual/registration"
	}
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{
		Op: opRegister, Method: http.MethodPost, Path: path, Body: wireRegistration(r, f.config.Registration),
	})
	if err != nil {
		return kyc.CustomerVerdict{}, registrationError(opRegister, resp, err, r.Category)
	}
	var a customerAnswer
	if err := decode(opRegister, resp, &a); err != nil {
		return kyc.CustomerVerdict{}, err
	}
	return customerVerdict(opRegister, a)
}

// startVerification opens a verification (dossier B5.1): the body is what the generations have in common and more.
func (f *finhub) startVerification(ctx context.Context, r kyc.VerificationRequest) (kyc.VerificationVerdict, error) {
	priority := "MEDIUM"
	if r.High {
		priority = "HIGH"
	}
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{Op: opVerify, Method: http.MethodPost, Path: "/verifications", Body: verificationRequest{
		CustomerID: r.CustomerID, RequestedByTenantID: string(r.Tenant), RequestedByUserID: f.requestedBy(r.UserID),
		Type: r.Type, RequestedLevel: r.Level, Notes: verificationNotes,
		AdditionalData: additionalData{Notes: verificationNotes, VerificationReason: verificationNotes, Priority: priority},
	}})
	if err != nil {
		return kyc.VerificationVerdict{}, refusedStep(opVerify, resp, err)
	}
	var a verificationAnswer
	if err := decode(opVerify, resp, &a); err != nil {
		return kyc.VerificationVerdict{}, err
	}
	return verificationVerdict(opVerify, a)
}

const verificationNotes = "account opening"

// requestedBy is who asks for a verification: the admin, or with a fixed token, whose admin we do not know, the
// customer's own user (ours).
func (f *finhub) requestedBy(user string) string {
	if f.config.Admin != nil {
		return f.config.Admin.UserID
	}
	return user
}

// acceptConsent records a consent (dossier B7).
func (f *finhub) acceptConsent(ctx context.Context, r kyc.ConsentRequest) (kyc.ConsentVerdict, error) {
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{
		Op: opConsent, Method: http.MethodPost,
		Path: "/customer/individual/" + url.PathEscape(r.CustomerID) + "/consents/" + consentPaths[r.Consent.Type],
		Body: consentRequest{Accepted: true, Version: r.Consent.Version, AcceptedAt: stamp(r.Consent.GivenAt), AcceptanceTimestamp: stamp(r.Consent.GivenAt)},
	})
	if err != nil {
		return kyc.ConsentVerdict{}, refusedStep(opConsent, resp, err)
	}
	var a consentAnswer
	if err := decode(opConsent, resp, &a); err != nil {
		return kyc.ConsentVerdict{}, err
	}
	return consentVerdict(opConsent, a)
}

// checkActivation asks what is missing (dossier B8).
func (f *finhub) checkActivation(ctx context.Context, r kyc.CustomerReference) (kyc.ActivationCheck, error) {
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{
		Op: opCheck, Method: http.MethodGet,
		Path: "/customer/individual/" + url.PathEscape(r.CustomerID) + "/owner/" + url.PathEscape(string(r.Tenant)) + "/activation/check",
	})
	if err != nil {
		return kyc.ActivationCheck{}, err
	}
	var a checkAnswer
	if err := decode(opCheck, resp, &a); err != nil {
		return kyc.ActivationCheck{}, err
	}
	return activationCheck(opCheck, a)
}

// activateCustomer activates the account (dossier B8).
func (f *finhub) activateCustomer(ctx context.Context, r kyc.ActivationRequest) (kyc.CustomerVerdict, error) {
	user := r.UserID
	if f.config.ActivationUser == ActivationUserEmail || user == "" {
		user = r.Email.Reveal()
	}
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{
		Op: opActivate, Method: http.MethodPost, Path: "/customer/individual/" + url.PathEscape(r.CustomerID) + "/activation",
		Body: activationRequest{Code: r.Code.Reveal(), UserID: user},
	})
	if err != nil {
		if alreadyActive(resp) {
			return kyc.CustomerVerdict{CustomerID: r.CustomerID, Status: kyc.CustomerActive, Known: true}, nil
		}
		return kyc.CustomerVerdict{}, activationError(opActivate, resp, err)
	}
	var a activationAnswer
	if err := decode(opActivate, resp, &a); err != nil {
		return kyc.CustomerVerdict{}, err
	}
	return activationVerdict(opActivate, r.CustomerID, resp, a)
}

// decode reads an answer out of `data` or from the root, whichever it has (dossier B1.4). into must be a pointer to a
// struct; anything but an object is no answer.
func decode(op string, resp httpjson.Response, into any) error {
	body, ok := payload(resp.Body)
	if !ok || json.Unmarshal(body, into) != nil {
		return httpjson.BadAnswer(op)
	}
	return nil
}

// payload gives the object an answer is about.
func payload(body []byte) (json.RawMessage, bool) {
	var root map[string]json.RawMessage
	if json.Unmarshal(body, &root) != nil || root == nil {
		return nil, false
	}
	if data, ok := root["data"]; ok && isObject(data) {
		return data, true
	}
	return body, true
}

func isObject(raw json.RawMessage) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == '{'
}

// text is a string where the schema contradicts itself: numbers read as their digits, everything else as "".
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(b, &s) == nil:
		*t = text(s)
	case json.Unmarshal(b, &n) == nil:
		*t = text(n.String())
	}
	return nil
}

// object is a struct where it may as well be something else, which reads as nothing.
type object[T any] struct{ V T }

func (o *object[T]) UnmarshalJSON(b []byte) error {
	var v T
	if isObject(b) && json.Unmarshal(b, &v) == nil {
		o.V = v
	}
	return nil
}

// flag is a boolean that may be missing.
type flag struct{ value, given bool }

func (f *flag) UnmarshalJSON(b []byte) error {
	switch string(bytes.Trim(bytes.TrimSpace(b), `"`)) {
	case "true":
		*f = flag{true, true}
	case "false":
		*f = flag{false, true}
	}
	return nil
}

// words is a list of strings; anything else in it reads as nothing.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var list []text
	if json.Unmarshal(b, &list) != nil {
		return nil
	}
	*w = make(words, 0, len(list))
	for _, t := range list {
		if t != "" {
			*w = append(*w, string(t))
		}
	}
	return nil
}

// The wire structs hold revealed personal data and a password. They live as long as one call and are handed to nothing
// that prints.

type registration struct {
	TenantID           string             `json:"tenantId,omitempty"`
	FirstName          string             `json:"firstName"`
	LastName           string             `json:"lastName"`
	Email              string             `json:"email"`
	Phone              string             `json:"phone"`
	Password           string             `json:"password"`
	MatchingPassword   string             `json:"matchingPassword"`
	DateOfBirth        string             `json:"dateOfBirth,omitempty"`
	Gender             string             `json:"gender,omitempty"`
	Nationality        string             `json:"nationality,omitempty"`
	RoleIDs            []string           `json:"roleIds"`
	CustomerCategory   customerCategory   `json:"customerCategory"`
	IndividualCustomer individualCustomer `json:"individualCustomer"`
}

type customerCategory struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type individualCustomer struct {
	TenantID       string         `json:"tenantId,omitempty"`
	CustomerName   string         `json:"customerName"`
	Person         wirePerson     `json:"person"`
	User           wireUser       `json:"user"`
	Categorization categorization `json:"categorization"`
}

type wirePerson struct {
	FirstName   string        `json:"firstName"`
	LastName    string        `json:"lastName"`
	Email       string        `json:"email"`
	DateOfBirth string        `json:"dateOfBirth"`
	Gender      string        `json:"gender"`
	Nationality string        `json:"nationality"`
	Addresses   []wireAddress `json:"addresses"`
	Contacts    []wireContact `json:"contacts"`
}

type wireAddress struct {
	Type       string `json:"type"`
	Street     string `json:"street"`
	City       string `json:"city"`
	State      string `json:"state,omitempty"`
	PostalCode string `json:"postalCode"`
	Country    string `json:"country"`
	IsPrimary  bool   `json:"isPrimary"`
}

type wireContact struct {
	Type      string `json:"type"`
	Value     string `json:"value"`
	IsPrimary bool   `json:"isPrimary"`
}

type wireUser struct {
	Username               string   `json:"username"`
	Email                  string   `json:"email"`
	Password               string   `json:"password"`
	Status                 string   `json:"status"`
	Roles                  []string `json:"roles"`
	IsActive               bool     `json:"isActive"`
	RequiresPasswordChange bool     `json:"requiresPasswordChange"`
	TwoFactorEnabled       bool     `json:"twoFactorEnabled"`
}

type categorization struct {
	ID                       string            `json:"id"`
	Name                     string            `json:"name"`
	Description              string            `json:"description"`
	IsActive                 bool              `json:"isActive"`
	CategoryFeatureRelations []featureRelation `json:"categoryFeatureRelations"`
	Parametrization          []wireParameter   `json:"parametrization"`
}

type featureRelation struct {
	Feature         wireFeature     `json:"feature"`
	Enabled         bool            `json:"enabled"`
	Parametrization []wireParameter `json:"parametrization"`
}

type wireFeature struct {
	ID   string `json:"id"`
	Code string `json:"code"`
}

type wireParameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type searchRequest struct {
	Email string `json:"email"`
}

// customerAnswer is an answer about a customer in the spellings of both variants (dossier B3.2).
type customerAnswer struct {
	ID             text `json:"id"`
	CustomerID     text `json:"customerId"`
	UserID         text `json:"userId"`
	PersonID       text `json:"personId"`
	Status         text `json:"status"`
	CustomerStatus text `json:"customerStatus"`
	Person         object[struct {
		ID text `json:"id"`
	}] `json:"person"`
	User object[struct {
		ID     text `json:"id"`
		Status text `json:"status"`
	}] `json:"user"`
}

type verificationRequest struct {
	CustomerID          string         `json:"customerId"`
	RequestedByTenantID string         `json:"requestedByTenantId"`
	RequestedByUserID   string         `json:"requestedByUserId"`
	Type                string         `json:"type"`
	RequestedLevel      string         `json:"requestedLevel"`
	Notes               string         `json:"notes"`
	AdditionalData      additionalData `json:"additionalData"`
}

type additionalData struct {
	Notes              string `json:"notes"`
	VerificationReason string `json:"verificationReason"`
	Priority           string `json:"priority"`
}

type verificationAnswer struct {
	ID                text  `json:"id"`
	VerificationID    text  `json:"verificationId"`
	Status            text  `json:"status"`
	RequiredDocuments words `json:"requiredDocuments"`
}

type consentRequest struct {
	Accepted            bool   `json:"accepted"`
	Version             string `json:"version"`
	AcceptedAt          string `json:"acceptedAt"`
	AcceptanceTimestamp string `json:"acceptanceTimestamp"`
}

type consentAnswer struct {
	Status    text `json:"status"`
	IsGranted flag `json:"isGranted"`
}

type checkAnswer struct {
	CanActivate        flag   `json:"canActivate"`
	ActivationAllowed  flag   `json:"activationAllowed"`
	VerificationOK     flag   `json:"verificationOk"`
	ConsentOK          flag   `json:"consentOk"`
	MissingConsents    *words `json:"missingConsents"`
	VerificationID     text   `json:"verificationId"`
	VerificationStatus text   `json:"verificationStatus"`
	RequiredDocuments  words  `json:"requiredDocuments"`
	CustomerStatus     text   `json:"customerStatus"`
	ActivationStatus   text   `json:"activationStatus"`
	RiskLevel          text   `json:"riskLevel"`
}

type activationRequest struct {
	Code   string `json:"code"`
	UserID string `json:"userId"`
}

type activationAnswer struct {
	Status           text `json:"status"`
	ActivationStatus text `json:"activationStatus"`
	CustomerStatus   text `json:"customerStatus"`
}
