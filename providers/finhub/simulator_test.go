package finhub_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
)

// simulate runs the simulator with a provider that opens admin sessions at it.
func simulate(t *testing.T, c finhubsim.Config, f finhub.Config) (*finhubsim.Sim, kyc.Provider) {
	t.Helper()
	sim := finhubsim.New(c)
	t.Cleanup(func() { _ = sim.Close() })
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	f.BaseURL = server.URL
	f.Admin = &finhub.Admin{
		OrganizationID: finhubsim.SandboxOrganization, UserID: finhubsim.SandboxUser, Username: finhubsim.SandboxUsername,
		Password: secret(finhubsim.SandboxPassword), TenantKey: secret(finhubsim.SandboxTenantKey), TenantSecret: secret(finhubsim.SandboxTenantSecret),
	}
	return sim, newProvider(t, f)
}

func categorized(t *testing.T, p kyc.Provider, id string) kyc.CustomerCategory {
	t.Helper()
	h, err := p.FetchCategoryHierarchy(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	category, ok := h.Category(id)
	if !ok {
		t.Fatalf("no category %s", id)
	}
	category, errs := kyc.Categorize(category, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return category
}

// The provider and its simulator were written apart, from the same dossier: the whole way, in every generation, on both paths.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	for _, generation := range []finhubsim.Generation{finhubsim.G3, finhubsim.G4, finhubsim.G6} {
		for _, path := range []finhub.Registration{finhub.RegisterPlural, finhub.RegisterSingular} {
			for _, bare := range []bool{false, true} {
				if bare && generation == finhubsim.G6 {
					continue // an activation that says nothing at all is no yes
				}
				t.Run(string(generation)+" "+string(path), func(t *testing.T) {
					t.Parallel()
					sim, p := simulate(t, finhubsim.Config{Generation: generation, Bare: bare, VerificationDelay: finhubsim.Never},
						finhub.Config{Registration: path})
					walk(t, sim, p)
				})
			}
		}
	}
}

func walk(t *testing.T, sim *finhubsim.Sim, p kyc.Provider) {
	search := kyc.CustomerSearch{Tenant: tenant, Email: kyc.NewEmailAddress(strings.ToUpper(email))}
	if _, err := p.FindCustomer(t.Context(), search); kyc.KindOf(err) != kyc.NotFound || err == nil {
		t.Errorf("before it was sent: %v", err)
	}
	r := marcus(categorized(t, p, finhubsim.MediumRisk))
	v, err := p.RegisterCustomer(t.Context(), r)
	if err != nil || v.CustomerID == "" || v.UserID == "" || v.PersonID == "" || v.Status != kyc.CustomerPendingActivation || !v.Known || v.UserStatus != "PENDING_ACTIVATION" {
		t.Fatalf("registered: %+v, %v", v, err)
	}
	if found, err := p.FindCustomer(t.Context(), search); err != nil || found.CustomerVerdict != v {
		t.Errorf("found: %+v, %v, want %+v", found, err, v)
	}
	if _, err := p.RegisterCustomer(t.Context(), r); kyc.KindOf(err) != kyc.Conflict || err == nil {
		t.Errorf("again: %v, want CONFLICT", err)
	}
	ref := kyc.CustomerReference{Tenant: tenant, CustomerID: v.CustomerID}
	check := func(want kyc.ActivationCheck) {
		t.Helper()
		got, err := p.CheckActivation(t.Context(), ref)
		if err != nil || got.CanActivate != want.CanActivate || got.VerificationOK != want.VerificationOK || got.ConsentOK != want.ConsentOK || got.Active != want.Active {
			t.Errorf("check: %+v, %v, want %+v", got, err, want)
		}
	}
	activation := kyc.ActivationRequest{CustomerReference: ref, UserID: v.UserID, Email: r.Email, Code: kyc.NewPassword(finhubsim.DefaultActivationCode)}
	if _, err := p.ActivateCustomer(t.Context(), activation); kyc.KindOf(err) != kyc.Rejected || err == nil {
		t.Errorf("activated too early: %v", err)
	}
	check(kyc.ActivationCheck{})
	verification, err := p.StartVerification(t.Context(), kyc.VerificationRequest{CustomerReference: ref, UserID: v.UserID, Type: "IDENTITY_VERIFICATION", Level: "TENANT_VERIFIED"})
	if err != nil || verification.ID == "" || !verification.Known || verification.State.Final() {
		t.Fatalf("verification: %+v, %v", verification, err)
	}
	if err := sim.Decide(v.CustomerID, "APPROVED"); err != nil {
		t.Fatal(err)
	}
	check(kyc.ActivationCheck{VerificationOK: true})
	for _, consent := range kyc.ConsentTypes() {
		given, err := p.AcceptConsent(t.Context(), kyc.ConsentRequest{CustomerReference: ref, Consent: kyc.CustomerConsent{Type: consent, Version: "1.0", GivenAt: time.Now()}})
		if err != nil || !given.Known {
			t.Errorf("%s: %+v, %v", consent, given, err)
		}
	}
	check(kyc.ActivationCheck{CanActivate: true, VerificationOK: true, ConsentOK: true})
	wrong := activation
	wrong.Code = kyc.NewPassword("NOT_THE_CODE")
	if _, err := p.ActivateCustomer(t.Context(), wrong); kyc.KindOf(err) != kyc.Rejected || err == nil {
		t.Errorf("a wrong code: %v", err)
	}
	if active, err := p.ActivateCustomer(t.Context(), activation); err != nil || active.Status != kyc.CustomerActive || !active.Known {
		t.Errorf("activated: %+v, %v", active, err)
	}
	check(kyc.ActivationCheck{CanActivate: true, VerificationOK: true, ConsentOK: true, Active: true})
	sim.ExpireSessions()
	check(kyc.ActivationCheck{CanActivate: true, VerificationOK: true, ConsentOK: true, Active: true})
	if sessions := sim.Requests().Count(finhubsim.OpAdminSession); sessions != 2 {
		t.Errorf("%d sessions, want one and one more after it had ended", sessions)
	}
}

// Each of the five shapes leads to the same body.
func TestEveryShapeGivesTheSameRegistration(t *testing.T) {
	t.Parallel()
	for _, id := range []string{finhubsim.MediumRisk, finhubsim.HighRisk, finhubsim.LowRisk} {
		var first any
		for _, shape := range []finhubsim.Shape{finhubsim.S1, finhubsim.S2, finhubsim.S3, finhubsim.S4, finhubsim.S5} {
			sim, p := simulate(t, finhubsim.Config{Shape: shape}, finhub.Config{})
			if _, err := p.RegisterCustomer(t.Context(), marcus(categorized(t, p, id))); err != nil {
				t.Errorf("%s %s: %v", shape, id, err)
				continue
			}
			var sent any
			_ = json.Unmarshal(sim.Customers()[0].Categorization, &sent)
			if first == nil {
				first = sent
			} else if !reflect.DeepEqual(sent, first) {
				t.Errorf("%s %s: sent %v, want %v", shape, id, sent, first)
			}
		}
	}
}

// What the simulator refuses is what the documentation says it refuses, and its log has nobody's password.
func TestSimulatorRefusals(t *testing.T) {
	t.Parallel()
	sim, p := simulate(t, finhubsim.Config{}, finhub.Config{})
	good := categorized(t, p, finhubsim.HighRisk)
	without := good
	without.Features = append([]kyc.CategoryFeature{}, good.Features...)
	without.Features[0].Parameters = without.Features[0].Parameters[1:] // riskLevel
	hourly := good
	hourly.Features = append([]kyc.CategoryFeature{}, good.Features...)
	hourly.Features[0].Parameters = append([]kyc.Parameter{}, good.Features[0].Parameters...)
	hourly.Features[0].Parameters[4].Value = "HOURLY"
	closed := kyc.CustomerCategory{ID: finhubsim.Closed, DatabaseID: finhubsim.Closed, Name: "Individual Closed"}
	for name, tt := range map[string]struct {
		change func(*kyc.CustomerRegistration)
		path   string
	}{
		"weak password":         {func(r *kyc.CustomerRegistration) { r.Password = kyc.NewPassword("short") }, "input.password"},
		"no country code":       {func(r *kyc.CustomerRegistration) { r.Phone = kyc.NewPhoneNumber("60012345") }, "input.phone"},
		"a missing key":         {func(r *kyc.CustomerRegistration) { r.Category = without }, "input.parameters.ENHANCED_AML_MONITORING.riskLevel"},
		"a value not allowed":   {func(r *kyc.CustomerRegistration) { r.Category = hourly }, "input.parameters.ENHANCED_AML_MONITORING.monitoring"},
		"a category not for us": {func(r *kyc.CustomerRegistration) { r.Category = closed }, "input.categoryId"},
		"no primary address":    {func(r *kyc.CustomerRegistration) { r.Addresses = nil }, "input.addresses"},
	} {
		r := marcus(good)
		tt.change(&r)
		_, err := p.RegisterCustomer(t.Context(), r)
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != kyc.Rejected {
			t.Errorf("%s: %v", name, err)
		} else if strings.Join(e.Path, ".") != tt.path {
			t.Errorf("%s: path %v, want %s", name, e.Path, tt.path)
		}
	}
	if len(sim.Customers()) != 0 {
		t.Error("somebody was registered")
	}
	log, err := json.Marshal(sim.Requests().Summary())
	if err != nil || bytes.Contains(log, []byte(password)) || bytes.Contains(log, []byte(email)) || bytes.Contains(log, []byte(finhubsim.SandboxPassword)) {
		t.Errorf("the log shows personal data: %s, %v", log, err)
	}
	if len(sim.Scenarios()) < 10 {
		t.Error("scenarios are missing")
	}
}

// The lock of dossier B4: five wrong passwords, half an hour.
func TestSimulatorLocksAfterFiveFailedSessions(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	sim := finhubsim.New(finhubsim.Config{Now: c.Now})
	defer func() { _ = sim.Close() }()
	open := func(password string) (int, string) {
		body, _ := json.Marshal(map[string]string{
			"username": finhubsim.SandboxUsername, "password": password, "tenantKey": finhubsim.SandboxTenantKey, "tenantSecret": finhubsim.SandboxTenantSecret,
		})
		r := httptest.NewRequest("POST", "/api/v2.1/admin/organization/"+finhubsim.SandboxOrganization+"/users/"+finhubsim.SandboxUser+"/sessions", bytes.NewReader(body))
		r.Header.Set("X-Tenant-ID", "t")
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for i := range 4 {
		if status, body := open("wrong"); status != 401 || !strings.Contains(body, `"Authentication failed"`) || !strings.Contains(body, `"maxAttempts":5`) {
			t.Errorf("%d: %d %s", i, status, body)
		}
	}
	if status, body := open("wrong"); status != 401 || !strings.Contains(body, `"Account locked"`) || !strings.Contains(body, `"lockoutDuration":"30 minutes"`) {
		t.Errorf("the fifth: %d %s", status, body)
	}
	if status, body := open(finhubsim.SandboxPassword); status != 401 || !strings.Contains(body, `"Account locked"`) {
		t.Errorf("locked, and the right password was taken: %d %s", status, body)
	}
	c.advance(30 * time.Minute)
	if status, body := open(finhubsim.SandboxPassword); status != 200 {
		t.Errorf("after half an hour: %d %s", status, body)
	}
}
