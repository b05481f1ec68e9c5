package leap_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/leap"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

// simulate gives a simulator and the provider against it: two readings of one documentation.
func simulate(t *testing.T, c leapsim.Config) (*leapsim.Sim, kyc.Provider) {
	t.Helper()
	sim := leapsim.New(c)
	server := httptest.NewServer(simulator.New(sim))
	t.Cleanup(func() {
		_ = sim.Close()
		server.Close()
	})
	return sim, newProvider(t, leap.Config{BaseURL: server.URL + "/leap", APIKey: secret(leapsim.SandboxAPIKey)})
}

func prospect(firstName, phone string) kyc.ProspectRequest {
	r := full()
	r.Profile.FirstName, r.Profile.Phone, r.Profile.Email = kyc.NewName(firstName), kyc.NewPhoneNumber(phone), nil
	return r
}

func byPhone(phone string) kyc.Identity { return kyc.Identity{Phone: kyc.NewPhoneNumber(phone)} }

// Every script of the simulator is read as the table of kyc means it.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		status kyc.CustomerStatus
		action kyc.NextActionKind
	}{
		"Ana": {kyc.CustomerActive, ""}, "Immediate": {kyc.CustomerActive, ""},
		"InvalidAddress": {kyc.CustomerActionRequired, kyc.ActionCorrectData}, "InvalidEMail": {kyc.CustomerActionRequired, kyc.ActionCorrectData},
		"UnreadableDoc": {kyc.CustomerActionRequired, kyc.ActionCaptureDocument}, "ProvideAdditionalInfo": {kyc.CustomerActionRequired, kyc.ActionCorrectData},
		"InvalidPersonalData": {kyc.CustomerActionRequired, kyc.ActionCorrectData}, "OtpPrivacyMissing": {kyc.CustomerActionRequired, kyc.ActionAcceptTerms},
		"OtpContractMissing": {kyc.CustomerActionRequired, kyc.ActionAcceptTerms}, "SoftFails": {kyc.CustomerActionRequired, kyc.ActionCorrectData},
		"Compliance": {kyc.CustomerActive, ""}, "ComplianceBlocked": {kyc.CustomerRejected, kyc.ActionContactSupport}, "OfacFailed": {kyc.CustomerRejected, kyc.ActionContactSupport},
		"Fails": {kyc.CustomerRejected, kyc.ActionContactSupport}, "Stuck": {kyc.CustomerPending, kyc.ActionWait}, "OnProcess": {kyc.CustomerPending, kyc.ActionWait},
		"Silent": {kyc.CustomerPending, kyc.ActionWait}, "UnknownStatus": {kyc.CustomerPending, kyc.ActionWait}, "LaterBlocked": {kyc.CustomerRejected, kyc.ActionContactSupport},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := simulate(t, leapsim.Config{StepEveryLook: true})
			v, err := p.RegisterProspect(t.Context(), prospect(name, "+525512345678"))
			if err != nil {
				t.Fatal(err)
			}
			id := v.UserID
			for range 5 {
				if v, err = p.FetchProspect(t.Context(), byPhone("+525512345678")); err != nil || v.UserID != id {
					t.Fatalf("%+v, %v", v, err)
				}
			}
			status, action := v.Cip.Outcome()
			var kind kyc.NextActionKind
			if action != nil {
				kind = action.Kind
			}
			if status != want.status || kind != want.action {
				t.Errorf("%s and %q, want %s and %q (%+v)", status, kind, want.status, want.action, v)
			}
		})
	}
}

func TestDuplicatesOfTheSimulator(t *testing.T) {
	t.Parallel()
	for _, status := range []int{0, 400, 403, 422} {
		_, p := simulate(t, leapsim.Config{DuplicateStatus: status})
		first, second := full(), full()
		if _, err := p.RegisterProspect(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, err := p.RegisterProspect(t.Context(), second); kyc.KindOf(err) != kyc.Conflict {
			t.Errorf("%d: %v", status, err)
		}
		second.Profile.Phone = kyc.NewPhoneNumber("+525500000000")
		if _, err := p.RegisterProspect(t.Context(), second); kyc.KindOf(err) != kyc.Conflict {
			t.Errorf("%d: the same e-mail address: %v", status, err)
		}
	}
}

func TestCorrectionsAtTheSimulator(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		sim, p := simulate(t, leapsim.Config{StepEveryLook: true, NoCorrections: never})
		r := prospect("InvalidAddress", "+525512345678")
		first, err := p.RegisterProspect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.FetchProspect(t.Context(), byPhone("+525512345678")); err != nil {
			t.Fatal(err)
		}
		v, err := p.UpdateProspect(t.Context(), r)
		switch {
		case never && kyc.KindOf(err) != kyc.Conflict:
			t.Errorf("%v", err)
		case !never && (err != nil || v.UserID != first.UserID || sim.Users()[0].Corrected != 1):
			t.Errorf("%+v, %v", v, err)
		}
	}
}

// What the simulator refuses and the client's mapping of it agree on the field.
func TestRefusalsOfTheSimulator(t *testing.T) {
	t.Parallel()
	_, p := simulate(t, leapsim.Config{})
	for field, change := range map[string]func(*kyc.ProspectProfile){
		"phone":       func(p *kyc.ProspectProfile) { p.Phone = kyc.NewPhoneNumber("5512345678") },
		"email":       func(p *kyc.ProspectProfile) { p.Email = new(kyc.NewEmailAddress("nope")) },
		"birthdate":   func(p *kyc.ProspectProfile) { p.Birthdate = new(kyc.NewDate("2020-01-01")) },
		"lastName":    func(p *kyc.ProspectProfile) { p.LastName = kyc.Name{} },
		"address":     func(p *kyc.ProspectProfile) { p.Address = kyc.PersonalText{} },
		"country":     func(p *kyc.ProspectProfile) { p.Country = "MEX" },
		"city":        func(p *kyc.ProspectProfile) { p.City = "" },
		"state":       func(p *kyc.ProspectProfile) { p.State = "" },
		"language":    func(p *kyc.ProspectProfile) { p.Language = new("pt") },
		"latitude":    func(p *kyc.ProspectProfile) { p.Location = &kyc.Coordinates{Latitude: kyc.NewDegrees(91)} },
		"placeDetail": func(p *kyc.ProspectProfile) { p.PlaceDetail = new(kyc.NewPersonalText("{")) },
	} {
		r := full()
		change(&r.Profile)
		_, err := p.RegisterProspect(t.Context(), r)
		var e *kyc.Error
		if !asError(err, &e) || e.Kind != kyc.Rejected || fmt.Sprint(e.Path) != "[input "+field+"]" {
			t.Errorf("%s: %v %v", field, err, e.Path)
		}
	}
	if _, err := p.FetchProspect(t.Context(), byPhone("+525500000000")); kyc.KindOf(err) != kyc.NotFound || err == nil {
		t.Errorf("nobody: %v", err)
	}
}

func asError(err error, to **kyc.Error) bool {
	*to = new(kyc.Error)
	return errors.As(err, to)
}

func TestKeysOfTheSimulator(t *testing.T) {
	t.Parallel()
	sim := leapsim.New(leapsim.Config{})
	defer sim.Close()
	server := httptest.NewServer(sim)
	defer server.Close()
	for _, k := range []string{"wrong", leapsim.SandboxUnscopedAPIKey} {
		p := newProvider(t, leap.Config{BaseURL: server.URL, APIKey: secret(k)})
		if _, err := p.RegisterProspect(t.Context(), full()); kyc.KindOf(err) != kyc.Credentials {
			t.Errorf("%s: %v", k, err)
		}
		if _, err := p.FetchProspect(t.Context(), byPhone("+525500000000")); kyc.KindOf(err) != kyc.Credentials {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestFaultsOfTheSimulator(t *testing.T) {
	t.Parallel()
	sim, p := simulate(t, leapsim.Config{})
	for kind, want := range map[simulator.FaultKind]kyc.Kind{simulator.FaultReset: kyc.Ambiguous, simulator.FaultActThenReset: kyc.Ambiguous, simulator.FaultTruncate: kyc.Ambiguous, simulator.FaultRateLimit: kyc.RateLimited} {
		if err := sim.Faults().Replace(simulator.Fault{Operation: leapsim.OpRegisterProspect, Kind: kind, Times: new(1)}); err != nil {
			t.Fatal(err)
		}
		r := prospect("Ana", fmt.Sprintf("+5255%08d", len(kind)*1000+1234567))
		if _, err := p.RegisterProspect(t.Context(), r); kyc.KindOf(err) != want || err == nil {
			t.Errorf("%s: %v", kind, err)
		}
		_, err := p.FetchProspect(t.Context(), kyc.Identity{Phone: r.Profile.Phone})
		if acted := kind == simulator.FaultActThenReset || kind == simulator.FaultTruncate; acted != (err == nil) {
			t.Errorf("%s: look-up %v", kind, err)
		}
	}
}
