package finhubsim

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/kycgate/kycgate/providers/simulator"
)

// Magic e-mail addresses, all ours: what stands before a "+" counts.
const (
	EmailRejected      = "rejected@kycgate.test"       // the verification is rejected
	EmailUndecided     = "undecided@kycgate.test"      // the verification is never decided by itself
	EmailUnknownStatus = "unknown-status@kycgate.test" // registered with a status nobody documents
)

// Errors of [Sim.Decide].
var (
	ErrUnknownCustomer = errors.New("finhubsim: there is no such customer with a verification")
	ErrUnknownStatus   = errors.New("finhubsim: a verification is decided APPROVED or REJECTED")
)

// customer is one that was registered. Sim.mu guards it.
type customer struct {
	id, userID, personID, tenant string
	email                        string
	password                     [sha256.Size]byte // its hash: even a simulator need not know it
	categorization               json.RawMessage
	status, userStatus           string
	verification                 *verification
	consents                     map[string]string // version by type
	active                       bool
	timer                        *time.Timer
}

type verification struct {
	id, status, level, kind string
	required, documents     []string
}

func (c *customer) passwordIs(p string) bool { return sha256.Sum256([]byte(p)) == c.password }

func (c *customer) stop() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

func (c *customer) is(magic string) bool {
	local, domain, _ := strings.Cut(c.email, "@")
	local, _, _ = strings.Cut(local, "+")
	return local+"@"+domain == magic
}

// registerRequest is the body of a registration, as far as it is looked at (dossier B3.1).
type registerRequest struct {
	FirstName        string   `json:"firstName"`
	LastName         string   `json:"lastName"`
	Email            string   `json:"email"`
	Phone            string   `json:"phone"`
	Password         string   `json:"password"`
	MatchingPassword string   `json:"matchingPassword"`
	RoleIDs          []string `json:"roleIds"`
	CustomerCategory struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"customerCategory"`
	IndividualCustomer struct {
		CustomerName string `json:"customerName"`
		Person       struct {
			FirstName   string `json:"firstName"`
			LastName    string `json:"lastName"`
			Email       string `json:"email"`
			DateOfBirth string `json:"dateOfBirth"`
			Nationality string `json:"nationality"`
			Addresses   []struct {
				Type      string `json:"type"`
				Street    string `json:"street"`
				City      string `json:"city"`
				Country   string `json:"country"`
				IsPrimary bool   `json:"isPrimary"`
			} `json:"addresses"`
			Contacts []struct {
				Type  string `json:"type"`
				Value string `json:"value"`
			} `json:"contacts"`
		} `json:"person"`
		User struct {
			Username string   `json:"username"`
			Password string   `json:"password"`
			Status   string   `json:"status"`
			Roles    []string `json:"roles"`
		} `json:"user"`
		Categorization json.RawMessage `json:"categorization"`
	} `json:"individualCustomer"`
}

// problems lists the wrong fields, as the documented 400 does (dossier B3.4). That a password is weak is documented, the words for
// it are ours.
func (in registerRequest) problems() []string {
	var out []string
	add := func(wrong bool, field, message string) {
		if wrong {
			out = append(out, field, message)
		}
	}
	p := in.IndividualCustomer.Person
	add(in.FirstName == "" || in.FirstName != p.FirstName, "firstName", "must be given and match individualCustomer.person.firstName")
	add(in.LastName == "" || in.LastName != p.LastName, "lastName", "must be given and match individualCustomer.person.lastName")
	add(!strings.Contains(in.Email, "@") || in.Email != p.Email || in.Email != in.IndividualCustomer.User.Username, "email", "must be an address and match person and user")
	add(!strings.HasPrefix(in.Phone, "+"), "phone", "must have a country code")
	add(weak(in.Password), "password", "must have 12 characters, mixed case, digits and symbols")
	add(in.Password != in.MatchingPassword, "matchingPassword", "Password and matching password must be identical")
	add(in.IndividualCustomer.User.Password != in.Password, "individualCustomer.user.password", "must match password")
	add(in.IndividualCustomer.User.Status != "PENDING_ACTIVATION", "individualCustomer.user.status", "must be PENDING_ACTIVATION")
	add(len(in.RoleIDs) == 0 || !slices.Equal(in.RoleIDs, in.IndividualCustomer.User.Roles), "roleIds", "must be given and match user.roles")
	add(in.IndividualCustomer.CustomerName == "", "individualCustomer.customerName", "must be given")
	_, err := time.Parse(time.DateOnly, p.DateOfBirth)
	add(err != nil, "dateOfBirth", "must be a date")
	add(len(p.Nationality) != 2, "nationality", "must be a country of two letters")
	primary := false
	for _, a := range p.Addresses {
		add(a.Street == "" || a.City == "" || len(a.Country) != 2 || a.Type == "", "individualCustomer.person.addresses", "must have type, street, city and country")
		primary = primary || a.IsPrimary
	}
	add(!primary, "individualCustomer.person.addresses", "one must be primary")
	add(len(p.Contacts) < 2, "individualCustomer.person.contacts", "must have e-mail address and phone")
	return out
}

func weak(p string) bool {
	var upper, lower, digit, symbol bool
	for _, r := range p {
		switch {
		case unicode.IsUpper(r):
			upper = true
		case unicode.IsLower(r):
			lower = true
		case unicode.IsDigit(r):
			digit = true
		default:
			symbol = true
		}
	}
	return len(p) < 12 || !upper || !lower || !digit || !symbol
}

// serveRegister is POST /customers/individual/register and POST /customer/individual/registration (dossier B3).
func (s *Sim) serveRegister(w http.ResponseWriter, r *http.Request, tenant string) {
	var in registerRequest
	if !decode(w, r, &in) {
		return
	}
	if wrong := in.problems(); len(wrong) > 0 {
		refuse(w, http.StatusBadRequest, "Request validation failed", validation(wrong...))
		return
	}
	var cat categorizationRequest
	if json.Unmarshal(in.IndividualCustomer.Categorization, &cat) != nil {
		refuse(w, http.StatusBadRequest, "Categorization validation failed", map[string]any{"error": "Invalid categorization"})
		return
	}
	details, missing, invalid, known := cat.check()
	switch {
	case !known || in.CustomerCategory.ID != cat.ID:
		refuse(w, http.StatusForbidden, "Tenant access denied or categorization not available", map[string]any{})
		return
	case len(missing)+len(invalid) > 0:
		refuse(w, http.StatusBadRequest, "Categorization validation failed", map[string]any{
			"error": "Invalid categorization", "details": details, "missingKeys": missing, "invalidValues": invalid,
		})
		return
	}
	c, created := s.create(tenant, in)
	if !created {
		// The status is documented, the body is not (dossier B3.4); ours.
		refuse(w, http.StatusConflict, "A customer with the provided email already exists", map[string]any{"error": "DUPLICATE_EMAIL", "field": "email"})
		return
	}
	s.answer(w, "B2C individual account created successfully. Redirect to activate-account page", s.view(c))
}

func (s *Sim) create(tenant string, in registerRequest) (*customer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registered++
	key := tenant + "\x00" + strings.ToLower(in.Email)
	if s.byEmail[key] != nil {
		return nil, false
	}
	s.serial++
	c := &customer{
		id: fmt.Sprintf("cust_%09d", s.serial), userID: fmt.Sprintf("user_%09d", s.serial), personID: fmt.Sprintf("pers_%09d", s.serial),
		tenant: tenant, email: in.Email, password: sha256.Sum256([]byte(in.Password)), categorization: in.IndividualCustomer.Categorization,
		userStatus: "PENDING_ACTIVATION", consents: map[string]string{},
	}
	c.status = "REGISTRATION_COMPLETE"
	if s.settings.Generation != G3 {
		c.status = "CS_REGISTRATION_COMPLETED"
	}
	if c.is(EmailUnknownStatus) {
		c.status = "SCREENING_AT_PARTNER"
	}
	s.customers[c.id], s.byEmail[key] = c, c
	s.changed.Notify()
	return c, true
}

// view is an answer about a customer in both spellings' fields (dossier B3.2).
func (s *Sim) view(c *customer) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := map[string]any{"id": c.userID, "username": c.email, "status": c.userStatus}
	if s.settings.Generation == G3 {
		return map[string]any{"id": c.id, "userId": c.userID, "personId": c.personID, "user": user, "status": c.status}
	}
	return map[string]any{
		"id": c.id, "tenantId": c.tenant, "customerType": "CT_PERSON", "customerStatus": c.status, "individual": true, "organization": false,
		"person": map[string]any{"id": c.personID}, "user": user,
	}
}

// serveFind is POST /customer/individual/search {"email"}, which FinHub does not document (ours).
func (s *Sim) serveFind(w http.ResponseWriter, r *http.Request, tenant string) {
	var in struct {
		Email string `json:"email"`
	}
	if s.config.NoSearch {
		serveUnmatched(w, r)
		return
	}
	if !decode(w, r, &in) {
		return
	}
	s.mu.Lock()
	c := s.byEmail[tenant+"\x00"+strings.ToLower(in.Email)]
	s.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "Customer not found", nil)
		return
	}
	s.answer(w, "Success", s.view(c))
}

// find gives a customer of a tenant, or answers 404.
func (s *Sim) find(w http.ResponseWriter, tenant, id string) *customer {
	s.mu.Lock()
	c := s.customers[id]
	s.mu.Unlock()
	if c == nil || c.tenant != tenant {
		refuse(w, http.StatusNotFound, "Customer not found", nil)
		return nil
	}
	return c
}

// requiredDocuments by level (dossier B2.4).
var requiredDocuments = map[string][]string{
	"TENANT_VERIFIED":       {"GOVERNMENT_ID", "PROOF_OF_ADDRESS", "SOURCE_OF_FUNDS"},
	"POWER_TENANT_VERIFIED": {"GOVERNMENT_ID", "PROOF_OF_ADDRESS", "SOURCE_OF_FUNDS", "BENEFICIAL_OWNERSHIP", "PEP_DECLARATION"},
}

// serveStartVerification is POST /verifications (dossier B5.1).
func (s *Sim) serveStartVerification(w http.ResponseWriter, r *http.Request, tenant string) {
	var in struct {
		CustomerID string `json:"customerId"`
		Tenant     string `json:"requestedByTenantId"`
		Type       string `json:"type"`
		Level      string `json:"requestedLevel"`
		User       string `json:"requestedByUserId"`
	}
	if !decode(w, r, &in) {
		return
	}
	var wrong []string
	if !slices.Contains([]string{"IDENTITY_VERIFICATION", "DOCUMENT_VERIFICATION", "ENHANCED_DUE_DILIGENCE", "SANCTIONS_CHECK"}, in.Type) {
		wrong = append(wrong, "type", "is not a type of verification")
	}
	if requiredDocuments[in.Level] == nil {
		wrong = append(wrong, "requestedLevel", "is not a level of verification")
	}
	if in.User == "" || in.Tenant != tenant {
		wrong = append(wrong, "requestedByUserId", "must be given, and requestedByTenantId be the tenant")
	}
	if wrong != nil {
		refuse(w, http.StatusBadRequest, "Request validation failed", validation(wrong...))
		return
	}
	c := s.find(w, tenant, in.CustomerID)
	if c == nil {
		return
	}
	s.mu.Lock()
	if c.verification != nil && c.verification.status != "REJECTED" {
		s.mu.Unlock()
		refuse(w, http.StatusConflict, "A verification is under way or approved", nil)
		return
	}
	v := &verification{id: "ver_" + newID(), status: "PENDING_DOCUMENTS", level: in.Level, kind: in.Type, required: requiredDocuments[in.Level]}
	c.verification = v
	s.verifying[v.id] = c
	if v.level == "TENANT_VERIFIED" && !c.is(EmailUndecided) && s.config.VerificationDelay >= 0 && !s.done {
		c.timer = time.AfterFunc(s.config.VerificationDelay, func() {
			word := "APPROVED"
			if c.is(EmailRejected) {
				word = "REJECTED"
			}
			_ = s.Decide(c.id, word) // it was decided by hand meanwhile at worst
		})
	}
	s.changed.Notify()
	status, generation := v.status, s.settings.Generation
	s.mu.Unlock()
	switch generation {
	case G4:
		s.answer(w, "Verification process started", map[string]any{"id": v.id, "customerId": c.id, "type": v.kind, "status": "IN_PROGRESS", "verificationLevel": v.level, "requiredDocuments": v.required, "verified": false})
	case G6:
		s.answer(w, "Success", map[string]any{"verificationId": v.id, "status": "PENDING", "verificationType": "KYC"})
	default:
		s.answer(w, "", map[string]any{"id": v.id, "customerId": c.id, "type": v.kind, "status": status, "requestedLevel": v.level, "requiredDocuments": v.required})
	}
}

// serveUploadDocument is POST /verifications/{id}/documents (dossier B6). A document's content is thrown away.
func (s *Sim) serveUploadDocument(w http.ResponseWriter, r *http.Request, tenant string) {
	var in struct {
		Type string `json:"documentType"`
	}
	if !decode(w, r, &in) {
		return
	}
	s.mu.Lock()
	c := s.verifying[r.PathValue("id")]
	if c == nil || c.tenant != tenant {
		s.mu.Unlock()
		refuse(w, http.StatusNotFound, "Verification not found", nil)
		return
	}
	v := c.verification
	if !slices.Contains(v.documents, in.Type) {
		v.documents = append(v.documents, in.Type)
	}
	complete := true
	for _, d := range v.required {
		complete = complete && slices.Contains(v.documents, d)
	}
	if complete && v.status == "PENDING_DOCUMENTS" {
		v.status = "IN_PROGRESS"
	}
	s.mu.Unlock()
	s.answer(w, "Success", map[string]any{"documentId": "doc_" + newID(), "documentType": in.Type, "status": "UPLOADED"})
}

// serveApprove is POST /verifications/{id}/approve (dossier B5.3).
func (s *Sim) serveApprove(w http.ResponseWriter, r *http.Request, tenant string) {
	s.mu.Lock()
	c := s.verifying[r.PathValue("id")]
	s.mu.Unlock()
	if c == nil || c.tenant != tenant || s.Decide(c.id, "APPROVED") != nil {
		refuse(w, http.StatusNotFound, "Verification not found", nil)
		return
	}
	s.answer(w, "Verification approved successfully", map[string]any{"verificationId": r.PathValue("id"), "status": "APPROVED"})
}

// Decide ends a customer's verification, as an admin would.
func (s *Sim) Decide(customerID, status string) error {
	if status != "APPROVED" && status != "REJECTED" {
		return ErrUnknownStatus
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.customers[customerID]
	if c == nil || c.verification == nil || s.done {
		return ErrUnknownCustomer
	}
	c.stop()
	c.verification.status = status
	s.changed.Notify()
	return nil
}

// consentNames by the path's word (dossier B7).
var consentNames = map[string]string{"terms": "TERMS_AND_CONDITIONS", "privacy": "PRIVACY_POLICY", "data-processing": "DATA_PROCESSING"}

// serveConsent is POST /customer/individual/{id}/consents/{type} (dossier B7).
func (s *Sim) serveConsent(w http.ResponseWriter, r *http.Request, tenant string) {
	var in struct {
		Accepted bool   `json:"accepted"`
		Version  string `json:"version"`
	}
	name := consentNames[r.PathValue("consent")]
	switch {
	case name == "":
		serveUnmatched(w, r)
		return
	case !decode(w, r, &in):
		return
	case !in.Accepted || in.Version == "":
		refuse(w, http.StatusBadRequest, "Request validation failed", validation("accepted", "must be true, with a version"))
		return
	}
	c := s.find(w, tenant, r.PathValue("id"))
	if c == nil {
		return
	}
	s.mu.Lock()
	c.consents[name] = in.Version
	generation := s.settings.Generation
	s.changed.Notify()
	s.mu.Unlock()
	if generation == G6 {
		s.answer(w, "Success", map[string]any{"status": "PENDING"})
		return
	}
	s.answer(w, "terms and conditions accepted successfully", map[string]any{
		"id": "consent-" + c.id, "consentType": name, "isRequired": true, "isGranted": true, "version": in.Version, "status": "ACCEPTED",
	})
}

// ready tells what stands between a customer and the activation. The lock must be held.
func (c *customer) ready() (verified bool, missing []string) {
	verified = c.verification != nil && c.verification.status == "APPROVED"
	missing = []string{}
	for _, name := range []string{"TERMS_AND_CONDITIONS", "PRIVACY_POLICY", "DATA_PROCESSING"} {
		if c.consents[name] == "" {
			missing = append(missing, name)
		}
	}
	return verified, missing
}

// serveCheck is GET /customer/individual/{id}/owner/{owner}/activation/check (dossier B8).
func (s *Sim) serveCheck(w http.ResponseWriter, r *http.Request, tenant string) {
	c := s.find(w, tenant, r.PathValue("id"))
	if c == nil {
		return
	}
	s.mu.Lock()
	verified, missing := c.ready()
	body := map[string]any{"verificationOk": verified, "consentOk": len(missing) == 0}
	if s.settings.Generation == G6 {
		body["activationAllowed"], body["riskLevel"] = verified && len(missing) == 0, "LOW"
	} else {
		body["canActivate"], body["missingConsents"] = verified && len(missing) == 0, missing
	}
	if v := c.verification; v != nil && s.settings.Generation != G6 {
		body["verificationStatus"], body["verificationLevel"] = v.status, v.level
	}
	if c.active {
		body["customerStatus"] = c.status
	}
	s.mu.Unlock()
	s.answer(w, "Activation readiness check", body)
}

// serveActivate is POST /customer/individual/{id}/activation (dossier B8).
func (s *Sim) serveActivate(w http.ResponseWriter, r *http.Request, tenant string) {
	var in struct {
		Code   string `json:"code"`
		UserID string `json:"userId"`
	}
	if !decode(w, r, &in) {
		return
	}
	c := s.find(w, tenant, r.PathValue("id"))
	if c == nil {
		return
	}
	s.mu.Lock()
	verified, missing := c.ready()
	good := in.Code == s.config.ActivationCode
	user := in.UserID == c.userID || in.UserID == c.email
	again := c.active
	if verified && len(missing) == 0 && good && user {
		c.active, c.status, c.userStatus = true, "ACTIVE", "ACTIVE"
		s.changed.Notify()
	}
	generation := s.settings.Generation
	s.mu.Unlock()
	switch {
	case again:
		refuse(w, http.StatusConflict, "Account already active", nil)
	case !verified || len(missing) > 0:
		refuse(w, http.StatusUnprocessableEntity, "Activation prerequisites are not met", map[string]any{"error": "VERIFICATION_FAILED", "missingConsents": missing})
	case !user:
		refuse(w, http.StatusBadRequest, "Request validation failed", validation("userId", "is not this customer's user"))
	case !good:
		refuse(w, http.StatusBadRequest, "INVALID_CODE", map[string]any{"error": "The activation code is wrong", "field": "code"})
	case generation == G6:
		s.answer(w, "Success", map[string]any{})
	case generation == G4:
		s.answer(w, "Success", map[string]any{"iban": "LT000000000000000000", "activationStatus": "ACTIVATED"})
	default:
		s.answer(w, "Success", map[string]any{"iban": "LT000000000000000000", "status": "ACTIVATED"})
	}
}

// Customer is what the simulator knows about one customer, without personal data.
type Customer struct {
	ID             string          `json:"customerId"`
	Tenant         string          `json:"tenantId"`
	Status         string          `json:"status"`
	Categorization json.RawMessage `json:"categorization"`
	Verification   string          `json:"verificationStatus,omitempty"`
	Level          string          `json:"verificationLevel,omitempty"`
	Consents       int             `json:"consents"`
	Active         bool            `json:"active"`
}

// Customers returns every customer, oldest first.
func (s *Sim) Customers() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Customer, 0, len(s.customers))
	for _, c := range s.customers {
		out := Customer{ID: c.id, Tenant: c.tenant, Status: c.status, Categorization: c.categorization, Consents: len(c.consents), Active: c.active}
		if c.verification != nil {
			out.Verification, out.Level = c.verification.status, c.verification.level
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b Customer) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Registered returns how many well-formed registrations arrived, refused duplicates included: one more than there are customers means
// that somebody was sent twice.
func (s *Sim) Registered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered
}

// Wait returns when the customers satisfy the condition, or with the error of the context.
func (s *Sim) Wait(ctx context.Context, satisfied func([]Customer) bool) error {
	for {
		changed := s.changed.Changed()
		if satisfied(s.Customers()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // does not fail: see crypto/rand
	return fmt.Sprintf("%x", b)
}

// Scenarios lists every magic value, as this simulator is configured.
func (s *Sim) Scenarios() []simulator.Scenario {
	var list []simulator.Scenario
	add := func(operation, when, then, source string) {
		list = append(list, simulator.Scenario{Provider: s.Name(), Operation: operation, When: when, Then: then, Source: source})
	}
	add(OpHierarchy, "PUT /finhub/settings {\"shape\":\"S1\"…\"S5\"}", "the hierarchy is written in that shape", "dossier B2.1")
	add(simulator.AnyOperation, "PUT /finhub/settings {\"generation\":\"G3\", \"G4\" or \"G6\"}", "answers of that generation of the documentation", "dossier, source legend")
	for _, c := range catalog {
		then := "a customer of that category"
		switch c.id {
		case HighRisk:
			then = "a customer whose verification needs five documents and an approval by POST /finhub/decide"
		case AsksForMore:
			then = "400 \"Categorization validation failed\" without a value for data_retention_days"
		case Closed:
			then = "403 \"Tenant access denied or categorization not available\""
		}
		add(OpRegister, "customerCategory.id is "+c.id+" ("+c.name+")", then, "dossier B2.1, B3.4; the ids of the last two are ours")
	}
	add(OpRegister, "email is "+EmailUnknownStatus, "registered with a status nobody documents", "ours")
	add(OpRegister, "the tenant has the e-mail address", "409, in a body of our own", "dossier B3.4")
	add(OpStartVerification, "requestedLevel is TENANT_VERIFIED", "APPROVED after "+s.config.VerificationDelay.String(), "dossier B13, row 20; the delay is ours")
	add(OpStartVerification, "email is "+EmailRejected, "REJECTED after "+s.config.VerificationDelay.String(), "ours")
	add(OpStartVerification, "email is "+EmailUndecided, "no decision until POST /finhub/decide", "ours")
	add(OpActivate, "code is "+s.config.ActivationCode, "the account is ACTIVE", "dossier B8")
	add(OpActivate, "any other code", "400 INVALID_CODE", "dossier B11")
	add(OpAdminSession, "the credentials are not the sandbox's", "401, and after five in a row \"Account locked\" for 30 minutes", "dossier B4; the credentials are ours")
	return list
}
