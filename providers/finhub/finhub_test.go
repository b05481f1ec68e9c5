package finhub_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub"
	"github.com/kycgate/kycgate/providers/httpjson"
	"github.com/kycgate/kycgate/providers/providertest"
)

const (
	token                = "canary/token~0123456789" // what no id and no code looks like
	tenant               = kyc.Tenant("fh_api_finsei_ltd_7f957f77")
	customerID           = "cust_123456789"
	password             = "SecurePass123!"
	email                = "marcus.jensen@mediumrisk-example.com"
	medium               = "e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d"
	mediumRiskIndividual = "Medium Risk Individual"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func secret(s string) func() string { return func() string { return s } }

func newProvider(t testing.TB, c finhub.Config) kyc.Provider {
	t.Helper()
	if c.Token == nil && c.Admin == nil {
		c.Token = secret(token)
	}
	p, err := finhub.New(c, httpjson.NewHTTPClient())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve runs one handler and gives a provider against it.
func serve(t *testing.T, c finhub.Config, handler http.HandlerFunc) kyc.Provider {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c.BaseURL = s.URL
	return newProvider(t, c)
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// marcus is the seed's example.
func marcus(category kyc.CustomerCategory) kyc.CustomerRegistration {
	return kyc.CustomerRegistration{
		Tenant: tenant, FirstName: kyc.NewName("Marcus"), LastName: kyc.NewName("Jensen"), Email: kyc.NewEmailAddress(email),
		Phone: kyc.NewPhoneNumber("+37060012345"), Password: kyc.NewPassword(password), Roles: []string{"ACCOUNT_OWNER", "USER"},
		Category: category, Birthdate: kyc.NewDate("1990-05-15"), Gender: kyc.GenderMale, Nationality: "LT",
		Addresses: []kyc.CustomerAddress{{
			Type: "HOME", Street: kyc.NewPersonalText("123 Medium Risk Street"), City: "Compliance City",
			PostalCode: kyc.NewPersonalText("12345"), Country: "LT", Primary: true,
		}},
	}
}

func reference() kyc.CustomerReference {
	return kyc.CustomerReference{Tenant: tenant, CustomerID: customerID}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	categorized, _ := kyc.Categorize(hierarchy(t, "hierarchy_s1.json").Categories[0], nil)
	given := kyc.CustomerConsent{Type: kyc.ConsentTerms, Version: "1.0", GivenAt: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	providertest.Run(t, providertest.Harness{
		New: func(t *testing.T, base string, client *http.Client) kyc.Provider {
			p, err := finhub.New(finhub.Config{BaseURL: base, Token: secret(token)}, client)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Canaries: []string{token, email, "+37060012345", "Marcus Jensen", password, "ACTIVATION CODE 12345"},
		Operations: []providertest.Operation{
			{
				Slot:       "FetchCategoryHierarchy",
				Call:       func(ctx context.Context, p kyc.Provider) (any, error) { return p.FetchCategoryHierarchy(ctx, tenant) },
				Answer:     read(t, "hierarchy_s1.json"),
				Canaries:   []string{"canary@token"}, // names of categories are the tenant's own; an address is none
				Unreadable: []string{`{"data":{"tenantId":"x"}}`, `{"categories":null}`, `{"categories":"x"}`, `{"data":{"categories":7}}`},
			},
			{
				Slot: "RegisterCustomer",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.RegisterCustomer(ctx, marcus(categorized))
				},
				Answer:  read(t, "answer_registered_a.json"),
				Refusal: providertest.Refusal{Status: 400, Body: `{"code":400,"message":"Request validation failed","data":{"errors":[{"field":"email","message":"must be an address"}]}}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
				Unreadable: []string{
					`{"data":{"status":"REGISTRATION_COMPLETE"}}`, `{"data":{"id":null}}`, `{"data":{"id":"../../x"}}`, `{"data":{"id":{"a":1}}}`,
				},
			},
			{
				Slot: "FindCustomer",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.FindCustomer(ctx, kyc.CustomerSearch{Tenant: tenant, Email: kyc.NewEmailAddress(email)})
				},
				Answer: read(t, "answer_registered_b.json"),
				// A path that is not there says nothing about the customer; an empty list does.
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
				Nothing: []string{"[]"},
			},
			{
				Slot: "StartVerification",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.StartVerification(ctx, kyc.VerificationRequest{CustomerReference: reference(), UserID: "user_1", Type: "IDENTITY_VERIFICATION", Level: "TENANT_VERIFIED"})
				},
				Answer:     `{"data":{"id":"ver_1","customerId":"cust_123456789","type":"IDENTITY_VERIFICATION","status":"PENDING_DOCUMENTS","requestedLevel":"TENANT_VERIFIED"}}`,
				Refusal:    providertest.Refusal{Status: 422, Body: `{"code":422,"message":"VERIFICATION_FAILED","data":{"error":"x"}}`},
				Kinds:      map[int]kyc.Kind{404: kyc.Internal},
				Unreadable: []string{`{"data":{"status":"PENDING"}}`},
			},
			{
				Slot: "AcceptConsent",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.AcceptConsent(ctx, kyc.ConsentRequest{CustomerReference: reference(), Consent: given})
				},
				Answer:  `{"code":200,"message":"terms and conditions accepted successfully","data":{"id":"consent-cust-1","consentType":"TERMS_AND_CONDITIONS","isRequired":true,"isGranted":true,"version":"1.0","status":"ACCEPTED"}}`,
				Refusal: providertest.Refusal{Status: 400, Body: `{"code":400,"message":"Request validation failed","data":{"errors":[{"field":"version","message":"unknown"}]}}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
			},
			{
				Slot:   "CheckActivation",
				Call:   func(ctx context.Context, p kyc.Provider) (any, error) { return p.CheckActivation(ctx, reference()) },
				Answer: `{"code":200,"message":"Activation readiness check","data":{"canActivate":true,"verificationOk":true,"consentOk":true,"missingConsents":[],"verificationStatus":"APPROVED","verificationLevel":"TENANT_VERIFIED"}}`,
			},
			{
				Slot: "ActivateCustomer",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.ActivateCustomer(ctx, kyc.ActivationRequest{CustomerReference: reference(), UserID: "user_1", Email: kyc.NewEmailAddress(email), Code: kyc.NewPassword("ACTIVATION CODE 12345")})
				},
				Answer:     `{"code":200,"data":{},"message":"Success"}`,
				Refusal:    providertest.Refusal{Status: 400, Body: `{"code":400,"message":"INVALID_CODE","data":{}}`},
				Kinds:      map[int]kyc.Kind{404: kyc.Internal},
				Unreadable: []string{`{"data":{}}`, `{"message":"Success"}`},
			},
		},
	})
}

func hierarchy(t *testing.T, name string) kyc.CategoryHierarchy {
	t.Helper()
	p := serve(t, finhub.Config{}, answer(read(t, name)))
	h, err := p.FetchCategoryHierarchy(t.Context(), tenant)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return h
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("sent %s\nwant %s", got, want)
	}
}

// With nothing but a category the body is the seed's, field by field, whatever shape the hierarchy came in.
func TestRegistrationIsTheSeeds(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{"hierarchy_s1.json", "hierarchy_s1_codes.json"} {
		category, ok := hierarchy(t, shape).Category(medium)
		if !ok {
			t.Fatal("no such category")
		}
		category, errs := kyc.Categorize(category, nil)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		var sent []byte
		p := serve(t, finhub.Config{Version: "1.2.3"}, func(w http.ResponseWriter, r *http.Request) {
			sent, _ = io.ReadAll(r.Body)
			if r.Method != http.MethodPost || r.URL.String() != "/api/v2.1/customers/individual/register" {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			for name, want := range map[string]string{
				"Authorization": "Bearer " + token, "X-Tenant-ID": string(tenant), "Content-Type": "application/json", "User-Agent": "kycgate/1.2.3 (sandbox)",
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-From": "kycgate", "platform": "web", "deviceId": "kycgate",
			} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			_, _ = io.WriteString(w, read(t, "answer_registered_a.json"))
		})
		v, err := p.RegisterCustomer(t.Context(), marcus(category))
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, sent, read(t, "request_medium_risk.json"))
		want := kyc.CustomerVerdict{
			CustomerID: customerID, UserID: "user_987654321", PersonID: "pers_456789123", Status: kyc.CustomerPendingActivation, Known: true,
			ProviderStatus: "REGISTRATION_COMPLETE", UserStatus: "PENDING_ACTIVATION",
		}
		if v != want {
			t.Errorf("verdict %+v, want %+v", v, want)
		}
	}
}

func TestSingularPath(t *testing.T) {
	t.Parallel()
	var sent map[string]any
	p := serve(t, finhub.Config{Registration: finhub.RegisterSingular}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v2.1/customer/individual/registration" {
			t.Errorf("asked %s", r.URL)
		}
		_ = json.NewDecoder(r.Body).Decode(&sent)
		_, _ = io.WriteString(w, read(t, "answer_registered_b.json"))
	})
	v, err := p.RegisterCustomer(t.Context(), marcus(kyc.CustomerCategory{ID: "a", DatabaseID: "b", Name: "c"}))
	want := kyc.CustomerVerdict{
		CustomerID: "3f2c1b70-57a4-4f0e-8a3e-0d6a55f0c111", UserID: "6r1k1hw6npq", PersonID: "person-1", Status: kyc.CustomerPendingActivation, Known: true,
		ProviderStatus: "CS_REGISTRATION_COMPLETED", UserStatus: "PENDING_ACTIVATION",
	}
	if err != nil || v != want {
		t.Errorf("%+v, %v", v, err)
	}
	if sent["tenantId"] != string(tenant) || sent["dateOfBirth"] != "1990-05-15" || sent["nationality"] != "LT" || sent["gender"] != "MALE" {
		t.Errorf("the flat data is missing: %v", sent)
	}
}

func TestHierarchyShapes(t *testing.T) {
	t.Parallel()
	type summary struct{ id, database, name, risk, features string }
	for name, want := range map[string][]summary{
		"hierarchy_s1.json": {{medium, medium, mediumRiskIndividual, "MEDIUM", "MEDIUM_RISK_PROFILE:5:3"},
			{"a12bb8cd-5e87-42dc-9f55-5d4d1g8h2b4e", "a12bb8cd-5e87-42dc-9f55-5d4d1g8h2b4e", "High Risk Individual", "HIGH", ""}},
		"hierarchy_s2.json": {{"INDIVIDUAL_BASIC", "cat-cloudvault-ind-001", "Individual Basic", "", "CUSTOMER_PROFILE:6:5"},
			{"ENTERPRISE", "cat-cloudvault-003", "Enterprise", "", "CUSTOMER_PROFILE:6:5"}},
		"hierarchy_s3.json": {{"HIGH_RISK_INDIVIDUAL", "550e8400-e29b-41d4-a716-446655440001", "High Risk Individual Customer", "HIGH", "ENHANCED_AML_MONITORING:6:7"},
			{"STANDARD_INDIVIDUAL", "550e8400-e29b-41d4-a716-446655440010", "Standard Individual Customer", "", ""}},
		"hierarchy_s4.json": {{"INDIVIDUAL_STANDARD", "fs-cat-b2c-low-001", "Individual Standard", "", ""},
			{"B2B_SMALL_BUSINESS", "fs-cat-b2b-small-001", "Small Business", "", ""}},
		"hierarchy_s5.json": {{"cat_001", "cat_001", "LOW_RISK_INDIVIDUAL", "LOW", ""}, {"cat_002", "cat_002", "MEDIUM_RISK_INDIVIDUAL", "MEDIUM", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []summary
			for _, c := range hierarchy(t, name).Categories {
				s := summary{id: c.ID, database: c.DatabaseID, name: c.Name}
				if c.RiskLevel != nil {
					s.risk = *c.RiskLevel
				}
				for _, f := range c.Features {
					s.features += f.Code + ":" + string(rune('0'+len(f.MandatoryKeys))) + ":" + string(rune('0'+len(f.AllowedValues)))
				}
				got = append(got, s)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// The paths of the hierarchy: the configured generation's first, the others only where that one is not there.
func TestHierarchyPaths(t *testing.T) {
	t.Parallel()
	const plural, singular, tree = "/api/v2.1/customers/individual/categorization/hierarchy/" + string(tenant),
		"/api/v2.1/customer/individual/categorization/hierarchy/" + string(tenant), "/api/v2.1/customer/categorization/tree"
	for _, tt := range []struct {
		registration finhub.Registration
		there        string
		want         []string
	}{
		{finhub.RegisterPlural, plural, []string{plural}},
		{finhub.RegisterPlural, singular, []string{plural, singular}},
		{finhub.RegisterSingular, singular, []string{singular}},
		{finhub.RegisterSingular, tree, []string{singular, plural, tree}},
	} {
		var asked []string
		p := serve(t, finhub.Config{Registration: tt.registration}, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path)
			if r.URL.Path != tt.there {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = io.WriteString(w, read(t, "hierarchy_s5.json"))
		})
		if h, err := p.FetchCategoryHierarchy(t.Context(), tenant); err != nil || len(h.Categories) != 2 || h.TenantID != string(tenant) {
			t.Errorf("%+v, %v", h, err)
		}
		if !reflect.DeepEqual(asked, tt.want) {
			t.Errorf("asked %v, want %v", asked, tt.want)
		}
	}
}

func TestBaseURLTakesEveryForm(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/finhub/api/v2.1/customer/individual/cust_1/") {
			t.Errorf("asked %s", r.URL)
		}
		_, _ = io.WriteString(w, `{"canActivate":false}`)
	}))
	defer s.Close()
	for _, base := range []string{"/finhub", "/finhub/", "/finhub/api/v2.1", "/finhub/api/v2.1/"} {
		p := newProvider(t, finhub.Config{BaseURL: s.URL + base})
		if _, err := p.CheckActivation(t.Context(), kyc.CustomerReference{Tenant: tenant, CustomerID: "cust_1"}); err != nil {
			t.Error(err)
		}
	}
}

func TestCustomerStatuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body   string
		status kyc.CustomerStatus
		known  bool
		word   string
	}{
		{`{"id":"c","status":"REGISTRATION_COMPLETE"}`, kyc.CustomerPendingActivation, true, "REGISTRATION_COMPLETE"},
		{`{"data":{"id":"c","customerStatus":"CS_REGISTRATION_COMPLETED"}}`, kyc.CustomerPendingActivation, true, "CS_REGISTRATION_COMPLETED"},
		{`{"code":200,"data":{"id":"c","status":"PENDING_VERIFICATION"}}`, kyc.CustomerPendingActivation, true, "PENDING_VERIFICATION"},
		{`{"id":7,"user":{"status":"PENDING_ACTIVATION"}}`, kyc.CustomerPendingActivation, true, ""},
		{`{"id":"c","user":{"status":"ACTIVE"}}`, kyc.CustomerPendingActivation, true, ""},
		{`{"id":"c","customerStatus":"CS_ACTIVE","status":"x"}`, kyc.CustomerActive, true, "CS_ACTIVE"},
		{`{"id":"c","customerStatus":"CS_REJECTED"}`, kyc.CustomerRejected, true, "CS_REJECTED"},
		{`{"id":"c","status":"SUSPENDED"}`, kyc.CustomerPending, false, "SUSPENDED"},
		{`{"id":"c","status":"active"}`, kyc.CustomerPending, false, "active"},
		{`{"id":"c","status":"Marcus Jensen is not welcome"}`, kyc.CustomerPending, false, "unknown"},
		{`{"id":"c","user":"odd","person":[1]}`, kyc.CustomerPending, false, ""},
	} {
		p := serve(t, finhub.Config{}, answer(tt.body))
		v, err := p.RegisterCustomer(t.Context(), marcus(kyc.CustomerCategory{}))
		if err != nil || v.Status != tt.status || v.Known != tt.known || v.ProviderStatus != tt.word {
			t.Errorf("%s: %+v, %v", tt.body, v, err)
		}
	}
}

func TestVerifications(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body  string
		want  kyc.VerificationState
		known bool
		docs  int
	}{
		{`{"data":{"id":"v","status":"PENDING_DOCUMENTS"}}`, kyc.VerificationDocuments, true, 0},
		{`{"success":true,"code":200,"data":{"id":"v","status":"IN_PROGRESS","requiredDocuments":["GOVERNMENT_ID"]}}`, kyc.VerificationOpen, true, 1},
		{`{"code":200,"data":{"verificationId":"v","status":"PENDING","verificationType":"KYC"},"message":"Success"}`, kyc.VerificationOpen, true, 0},
		{`{"data":{"verificationId":"v","status":"APPROVED"}}`, kyc.VerificationApproved, true, 0},
		{`{"data":{"verificationId":"v","status":"REJECTED"}}`, kyc.VerificationRejected, true, 0},
		{`{"data":{"verificationId":"v","status":"ESCALATED","requiredDocuments":["Marcus Jensen",7]}}`, kyc.VerificationOpen, false, 1},
	} {
		var sent map[string]any
		p := serve(t, finhub.Config{}, func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewDecoder(r.Body).Decode(&sent)
			_, _ = io.WriteString(w, tt.body)
		})
		v, err := p.StartVerification(t.Context(), kyc.VerificationRequest{CustomerReference: reference(), UserID: "user_1", Type: "ENHANCED_DUE_DILIGENCE", Level: "POWER_TENANT_VERIFIED", High: true})
		if err != nil || v.State != tt.want || v.Known != tt.known || len(v.RequiredDocuments) != tt.docs || v.ID != "v" {
			t.Errorf("%s: %+v, %v", tt.body, v, err)
		}
		for name, want := range map[string]string{
			"customerId": customerID, "requestedByTenantId": string(tenant), "type": "ENHANCED_DUE_DILIGENCE", "requestedLevel": "POWER_TENANT_VERIFIED", "requestedByUserId": "user_1",
		} {
			if sent[name] != want {
				t.Errorf("%s is %v", name, sent[name])
			}
		}
	}
}

func TestConsents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body string
		want kyc.ConsentVerdict
	}{
		{`{"success":true,"data":{"consentId":"x","type":"TERMS","status":"ACCEPTED"}}`, kyc.ConsentVerdict{Accepted: true, Known: true, ProviderStatus: "ACCEPTED"}},
		{`{"code":200,"data":{"status":"PENDING"},"message":"Success"}`, kyc.ConsentVerdict{Known: true, ProviderStatus: "PENDING"}},
		{`{"data":{"isGranted":true}}`, kyc.ConsentVerdict{Accepted: true, Known: true}},
		{`{"data":{"status":"REVOKED","isGranted":true}}`, kyc.ConsentVerdict{ProviderStatus: "REVOKED"}},
	} {
		for consent, path := range map[kyc.ConsentType]string{kyc.ConsentTerms: "terms", kyc.ConsentPrivacy: "privacy", kyc.ConsentDataProcessing: "data-processing"} {
			var sent map[string]any
			p := serve(t, finhub.Config{}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v2.1/customer/individual/cust_123456789/consents/"+path {
					t.Errorf("asked %s", r.URL)
				}
				_ = json.NewDecoder(r.Body).Decode(&sent)
				_, _ = io.WriteString(w, tt.body)
			})
			v, err := p.AcceptConsent(t.Context(), kyc.ConsentRequest{CustomerReference: reference(), Consent: kyc.CustomerConsent{Type: consent, Version: "2.1", GivenAt: time.Unix(1764072000, 0)}})
			if err != nil || v != tt.want {
				t.Errorf("%s: %+v, %v", tt.body, v, err)
			}
			if sent["accepted"] != true || sent["version"] != "2.1" || sent["acceptedAt"] != "2025-11-25T12:00:00Z" {
				t.Errorf("sent %v", sent)
			}
		}
	}
}

func TestActivationChecks(t *testing.T) {
	t.Parallel()
	approved := kyc.VerificationVerdict{State: kyc.VerificationApproved, Known: true}
	open := kyc.VerificationVerdict{State: kyc.VerificationOpen, Known: true}
	for _, tt := range []struct {
		body string
		want kyc.ActivationCheck
	}{
		{`{"code":200,"data":{"activationAllowed":true,"consentOk":true,"verificationOk":true,"riskLevel":"LOW"}}`,
			kyc.ActivationCheck{CanActivate: true, VerificationOK: true, ConsentOK: true, ConsentSaid: true, Verification: approved}},
		{`{"data":{"canActivate":false,"verificationOk":false,"consentOk":false,"missingConsents":["DATA_PROCESSING","terms","PRIVACY_POLICY","terms","odd"],"verificationStatus":"REJECTED"}}`,
			kyc.ActivationCheck{Missing: kyc.ConsentTypes(), ConsentSaid: true, Denied: true, Verification: kyc.VerificationVerdict{State: kyc.VerificationRejected, Known: true, ProviderStatus: "REJECTED"}}},
		{`{"canActivate":false,"missingConsents":[]}`, kyc.ActivationCheck{Missing: []kyc.ConsentType{}, Denied: true, Verification: open}},
		{`{"canActivate":false,"verificationStatus":"ESCALATED"}`, kyc.ActivationCheck{Denied: true, Verification: kyc.VerificationVerdict{State: kyc.VerificationOpen, ProviderStatus: "ESCALATED"}}},
		{`{"activationAllowed":false,"customerStatus":"CS_ACTIVE"}`, kyc.ActivationCheck{Denied: true, Verification: open, Active: true}},
		{`{"data":{"activationAllowed":false,"consentOk":true,"verificationOk":true,"riskLevel":"PROHIBITED","message":"no"}}`,
			kyc.ActivationCheck{VerificationOK: true, ConsentOK: true, ConsentSaid: true, Denied: true, Prohibited: true, Verification: approved}},
	} {
		p := serve(t, finhub.Config{}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v2.1/customer/individual/cust_123456789/owner/fh_api_finsei_ltd_7f957f77/activation/check" {
				t.Errorf("asked %s", r.URL)
			}
			_, _ = io.WriteString(w, tt.body)
		})
		if got, err := p.CheckActivation(t.Context(), reference()); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.body, got, err)
		}
	}
}

func TestActivations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		user finhub.ActivationUser
		body string
		want kyc.CustomerVerdict
		sent string
	}{
		{"", `{"data":{"iban":"LT12","status":"ACTIVATED","wallet":{"status":"ACTIVE"}}}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true, ProviderStatus: "ACTIVATED"}, "user_1"},
		{"", `{"data":{"iban":"LT12","activationStatus":"ACTIVATED"}}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true, ProviderStatus: "ACTIVATED"}, "user_1"},
		{finhub.ActivationUserEmail, `{"code":200,"data":{},"message":"Success"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true}, email},
		{"", `{"code":200,"data":{"status":"UNDER_REVIEW"}}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending, ProviderStatus: "UNDER_REVIEW"}, "user_1"},
		{"", `{"code":200,"data":{"status":"activated"}}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true, ProviderStatus: "activated"}, "user_1"},
		{"", `{"code":200,"data":null,"message":"SUCCESS"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true}, "user_1"},
		{"", `{"code":200,"data":{},"message":"Customer activated successfully"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerActive, Known: true}, "user_1"},
		// None of these is a yes: the check has to say.
		{"", `{"code":200,"data":{},"message":"Customer will be activated"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"code":200,"data":{},"message":"Not activated"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"code":202,"data":{},"message":"Activation queued"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"code":202,"data":{},"message":"Success"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"success":true}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"code":200}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending}, "user_1"},
		{"", `{"code":200,"data":{"status":"PENDING_ACTIVATION"},"message":"Success"}`, kyc.CustomerVerdict{CustomerID: customerID, Status: kyc.CustomerPending, ProviderStatus: "PENDING_ACTIVATION"}, "user_1"},
	} {
		var sent map[string]any
		p := serve(t, finhub.Config{ActivationUser: tt.user}, func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewDecoder(r.Body).Decode(&sent)
			_, _ = io.WriteString(w, tt.body)
		})
		v, err := p.ActivateCustomer(t.Context(), kyc.ActivationRequest{CustomerReference: reference(), UserID: "user_1", Email: kyc.NewEmailAddress(email), Code: kyc.NewPassword("ACTIVATION_CODE_MED_12345")})
		if err != nil || v != tt.want {
			t.Errorf("%s: %+v, %v", tt.body, v, err)
		}
		if sent["code"] != "ACTIVATION_CODE_MED_12345" || sent["userId"] != tt.sent {
			t.Errorf("sent %v", sent)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	category, _ := kyc.Categorize(hierarchy(t, "hierarchy_s3.json").Categories[0], nil)
	const mismatch = `{"code":400,"message":"Request validation failed","data":{"errors":[{"field":"matchingPassword","message":"Password and matching password must be identical"}]}}`
	const categorization = `{"code":400,"message":"Categorization validation failed","data":{"error":"Invalid categorization","details":"Feature 'ENHANCED_AML_MONITORING' requires mandatory key 'riskLevel'","missingKeys":["riskLevel"],"invalidValues":{"monitoring":"HOURLY is not in allowed values: [WEEKLY, DAILY, REAL_TIME]"}}}`
	for _, tt := range []struct {
		status int
		body   string
		kind   kyc.Kind
		code   string
		path   string
	}{
		{400, mismatch, kyc.Rejected, "validation_failed", "input.matchingPassword"},
		{200, mismatch, kyc.Rejected, "validation_failed", "input.matchingPassword"}, // hidden in a 200
		{400, categorization, kyc.Rejected, "categorization_failed", "input.parameters.ENHANCED_AML_MONITORING.riskLevel input.parameters.ENHANCED_AML_MONITORING.monitoring"},
		{400, `{"code":400,"message":"Categorization validation failed","data":{"invalidValues":{"monitoring":"HOURLY"}}}`, kyc.Rejected, "categorization_failed", "input.parameters.ENHANCED_AML_MONITORING.monitoring"},
		{400, `{"code":400,"message":"x","data":{"errors":[{"field":"individualCustomer.person.addresses[0].country"}]}}`, kyc.Rejected, "validation_failed", "input.addresses"},
		{422, `{"code":422,"message":"x","data":{"field":"phone"}}`, kyc.Rejected, "validation_failed", "input.phone"},
		{400, `{"code":400,"message":"x","data":{"errors":"odd"}}`, kyc.Rejected, "validation_failed", "input"},
		{400, `{"code":400,"message":"x","data":{"errors":[{"field":"phone"},{"field":"user.email"},{"field":"phone"},{"field":"shoeSize"}]}}`, kyc.Rejected, "validation_failed", "input.phone input.email"},
		{400, `<html>`, kyc.Internal, "HTTP_400", ""},
		{400, `{}`, kyc.Internal, "HTTP_400", ""},
		{200, `{"success":false,"error":{"code":"SIMULATED_FAILURE","message":"x"}}`, kyc.Unavailable, "not_done", ""}, // their trouble
		{200, `{"success":false,"message":"Temporarily unavailable"}`, kyc.Unavailable, "not_done", ""},
		{200, `{"success":false,"error":{"code":"EMAIL_ALREADY_EXISTS"}}`, kyc.Conflict, "duplicate_email", ""},
		{200, `{"success":false,"message":"Request validation failed","data":{"errors":[{"field":"phone"}]}}`, kyc.Rejected, "validation_failed", "input.phone"},
		{409, `{"code":409,"message":"Phone number already exists"}`, kyc.Conflict, "duplicate_phone", ""},
		{409, `{"code":409,"message":"Conflict","data":{"field":"phoneNumber"}}`, kyc.Conflict, "duplicate_phone", ""},
		{409, `{"code":409,"message":"E-mail or phone already exists"}`, kyc.Conflict, "duplicate_email", ""},
		{409, `{"code":409,"message":"Already exists","data":{}}`, kyc.Conflict, "duplicate_email", ""},
		{409, `{"code":409,"message":"A registration is already in progress","data":{}}`, kyc.Conflict, "state_conflict", ""},
		{409, `{"code":"STATE_CONFLICT","message":"m"}`, kyc.Conflict, "state_conflict", ""},
		{400, `{"code":"WEAK_PASSWORD","message":"m"}`, kyc.Rejected, "WEAK_PASSWORD", "input.password"},
		{200, `{"code":"WEAK_PASSWORD","message":"m"}`, kyc.Rejected, "WEAK_PASSWORD", "input.password"},
		{400, `{"error":"INVALID_PHONE","message":"m"}`, kyc.Rejected, "INVALID_PHONE", "input.phone"},
		{400, `{"success":false,"error":{"code":"INVALID_EMAIL","message":"m"}}`, kyc.Rejected, "INVALID_EMAIL", "input.email"},
		{400, `{"code":"INVALID_REQUEST","message":"m","data":{"field":"nationality"}}`, kyc.Rejected, "INVALID_REQUEST", "input.nationality"},
		{422, `{"code":"VERIFICATION_FAILED","message":"m"}`, kyc.Rejected, "VERIFICATION_FAILED", "input"},
		{400, `{"code":"DUPLICATE_EMAIL","message":"m"}`, kyc.Conflict, "duplicate_email", ""},
		{400, `{"timestamp":"2026-03-01T10:00:00Z","status":400,"error":"Bad Request","path":"/x"}`, kyc.Internal, "HTTP_400", ""}, // a framework's, not FinHub's
		{409, ``, kyc.Conflict, "duplicate_email", ""},
		{409, `{"code":409,"message":"A customer with the provided email already exists"}`, kyc.Conflict, "duplicate_email", ""},
		{400, `{"success":false,"error":{"code":"EMAIL_ALREADY_EXISTS"}}`, kyc.Conflict, "duplicate_email", ""},
		{200, `{"code":409,"message":"Conflict","data":{}}`, kyc.Conflict, "duplicate_email", ""},
		{403, `{"code":403,"message":"Tenant access denied or categorization not available","data":{}}`, kyc.Rejected, "category_not_available", "input.categoryId"},
		{403, `{"code":403,"message":"Forbidden"}`, kyc.Credentials, "HTTP_403", ""},
		{404, `{"code":404,"message":"no such path"}`, kyc.Internal, "HTTP_404", ""},
		{200, `{"code":500,"message":"boom"}`, kyc.Ambiguous, "HTTP_500", ""},
		{200, `{"code":429,"message":"slow"}`, kyc.RateLimited, "HTTP_429", ""},
	} {
		p := serve(t, finhub.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		_, err := p.RegisterCustomer(t.Context(), marcus(category))
		var e *kyc.Error
		paths := ""
		if errors.As(err, &e) {
			for _, path := range append([][]string{e.Path}, e.MorePaths...) {
				paths += " " + strings.Join(path, ".")
			}
		}
		if e == nil || e.Kind != tt.kind || e.Code != tt.code || strings.TrimSpace(paths) != tt.path {
			t.Errorf("%d %s: got %v %v, want %s %s %s", tt.status, tt.body, err, e, tt.kind, tt.code, tt.path)
		}
	}
}

// Only an answer that says so means that nobody is there; everything else tells nothing, whatever its status.
func TestFindCustomer(t *testing.T) {
	t.Parallel()
	const one = `{"id":"cust_1","user":{"id":"user_1","username":"Marcus.Jensen@mediumrisk-example.com","status":"PENDING_ACTIVATION"},"status":"REGISTRATION_COMPLETE"}`
	const found kyc.Kind = 99
	for _, tt := range []struct {
		status int
		body   string
		want   kyc.Kind
	}{
		{200, one, found}, {200, `{"data":` + one + `}`, found}, {200, `{"code":200,"message":"Success","data":[` + one + `]}`, found}, {200, `[` + one + `]`, found},
		{200, `{"data":{"content":[` + one + `],"totalElements":1}}`, found}, {200, `{"code":200,"data":{"customers":[` + one + `]}}`, found},
		{200, `[]`, kyc.NotFound}, {200, `{"data":[]}`, kyc.NotFound}, {200, `{"data":{"content":[],"totalElements":0}}`, kyc.NotFound}, {200, `{"data":{"customers":[]}}`, kyc.NotFound},
		{200, `{"code":200,"data":null,"message":"Success"}`, kyc.NotFound}, {200, `{"code":200,"data":{},"message":"Success"}`, kyc.NotFound}, {200, `{"success":true,"data":{}}`, kyc.NotFound},
		{404, `{"code":404,"message":"Customer not found","data":{}}`, kyc.NotFound}, {200, `{"code":404,"message":"User not found","data":{}}`, kyc.NotFound},
		{404, `{"code":"CUSTOMER_NOT_FOUND","message":"m"}`, kyc.NotFound}, {200, `{"success":false,"error":{"code":"CUSTOMER_NOT_FOUND","message":"m"}}`, kyc.NotFound},
		{200, `{"code":200,"message":"Customer does not exist","data":null}`, kyc.NotFound},
		// A path that is not there.
		{404, `<html><body><h1>404 Not Found</h1></body></html>`, kyc.Internal}, {404, "404 page not found\n", kyc.Internal}, {404, ``, kyc.Internal}, {404, `{}`, kyc.Internal},
		{404, `{"timestamp":"2026-03-01T10:00:00Z","status":404,"error":"Not Found","path":"/api/v2.1/customer/individual/search"}`, kyc.Internal},
		{404, `{"statusCode":404,"error":"Not Found","message":"Cannot POST /api/v2.1/customer/individual/search"}`, kyc.Internal},
		{404, `{"code":404,"message":"Resource not found"}`, kyc.Internal}, {404, `{"code":404,"message":"no such thing","data":{}}`, kyc.Internal},
		{405, `{"code":405,"message":"Method Not Allowed"}`, kyc.Internal}, {400, `{"code":400,"message":"Customer not found"}`, kyc.Internal}, {501, ``, kyc.Ambiguous},
		{401, `{"code":401,"message":"User not found"}`, kyc.Credentials}, {503, `{"code":503,"message":"Customer not found"}`, kyc.Ambiguous},
		// An answer that tells nothing about this customer.
		{200, `{"data":null}`, kyc.Ambiguous}, {200, `{"data":{}}`, kyc.Ambiguous}, {200, `{"code":200,"data":"x"}`, kyc.Ambiguous}, {200, `[7]`, kyc.Ambiguous},
		{200, `{"data":[` + one + `,` + one + `]}`, kyc.Internal}, {200, `[{"id":"cust_2","user":{"username":"somebody@else.example"}}]`, kyc.Internal},
		{200, `{"success":false,"message":"Temporarily unavailable"}`, kyc.Unavailable},
	} {
		p := serve(t, finhub.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		v, err := p.FindCustomer(t.Context(), kyc.CustomerSearch{Tenant: tenant, Email: kyc.NewEmailAddress(email)})
		if tt.want == found {
			if err != nil || v.CustomerID != "cust_1" || v.UserID != "user_1" {
				t.Errorf("%s: %+v, %v", tt.body, v, err)
			}
		} else if err == nil || kyc.KindOf(err) != tt.want {
			t.Errorf("%d %s: %v, want %s", tt.status, tt.body, err, tt.want)
		}
	}
}

// What an answer tells of the person is read from wherever it stands.
func TestFindCustomerTellsWho(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"id":"c","person":{"firstName":"Marcus","lastName":{"name":"Jensen"},"dateOfBirth":"1990-05-15","contacts":[{"type":"EMAIL","value":"marcus.jensen@mediumrisk-example.com"},{"type":"PHONE","value":"+37060012345"}]}}`,
		`{"data":{"id":"c","firstName":"Marcus","lastName":"Jensen","dateOfBirth":"1990-05-15","phone":"+37060012345","person":"odd"}}`,
		`{"data":[{"id":"c","user":{"firstName":"Marcus","lastName":"Jensen","phoneNumber":"+37060012345"},"individualCustomer":{"person":{"dateOfBirth":"1990-05-15"}}}]}`,
	} {
		p := serve(t, finhub.Config{}, answer(body))
		v, err := p.FindCustomer(t.Context(), kyc.CustomerSearch{Tenant: tenant, Email: kyc.NewEmailAddress(email)})
		if err != nil || v.FirstName.Reveal() != "Marcus" || v.LastName.Reveal() != "Jensen" || v.Birthdate.Reveal() != "1990-05-15" || len(v.Phones) != 1 || v.Phones[0].Reveal() != "+37060012345" {
			t.Errorf("%s: %+v, %v", body, v, err)
		}
	}
}

// The answer to an activation was lost, and the next one is told that there is nothing left to activate.
func TestAlreadyActive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{409, `{"code":409,"message":"Customer already active","data":{}}`, true}, {400, `{"code":400,"message":"m","data":{"error":"ALREADY_ACTIVE"}}`, true},
		{400, `{"code":"ALREADY_ACTIVATED","message":"m"}`, true}, {422, `{"code":422,"message":"Account is already activated"}`, true}, {200, `{"code":409,"message":"Account already active"}`, true},
		{409, `{"code":409,"message":"Conflict","data":{}}`, false}, {503, `{"code":503,"message":"already active"}`, false}, {404, `{"code":404,"message":"not found"}`, false},
	} {
		p := serve(t, finhub.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		v, err := p.ActivateCustomer(t.Context(), kyc.ActivationRequest{CustomerReference: reference(), UserID: "u", Code: kyc.NewPassword("c")})
		if active := err == nil && v.Status == kyc.CustomerActive && v.Known; active != tt.want {
			t.Errorf("%d %s: %+v, %v", tt.status, tt.body, v, err)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := finhub.Config{BaseURL: "https://sandbox.finhub.cloud", Token: secret(token)}
	for name, change := range map[string]func(*finhub.Config){
		"no base":            func(c *finhub.Config) { c.BaseURL = "" },
		"another base":       func(c *finhub.Config) { c.BaseURL = "ftp://sandbox.finhub.cloud" },
		"neither":            func(c *finhub.Config) { c.Token = nil },
		"empty token":        func(c *finhub.Config) { c.Token = secret("") },
		"both":               func(c *finhub.Config) { c.Admin = &finhub.Admin{} },
		"a third path":       func(c *finhub.Config) { c.Registration = "plural" },
		"another activation": func(c *finhub.Config) { c.ActivationUser = "phone" },
	} {
		c := good
		change(&c)
		if _, err := finhub.New(c, httpjson.NewHTTPClient()); err == nil || strings.Contains(err.Error(), "finhub.cloud") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := finhub.New(good, nil); err == nil {
		t.Error("no client")
	}
	good.SearchPath = "-"
	if p := newProvider(t, good); p.FindCustomer != nil {
		t.Error("a look-up is offered that was turned off")
	}
}
