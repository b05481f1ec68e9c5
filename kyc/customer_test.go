package kyc

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever FinHub says in whatever order: nothing leaves a final status, an unknown word opens and closes nothing, only an explicit yes
// activates, what was approved stays approved, and the version counts every visible change and nothing else.
func TestCustomerNeverLeavesAFinalStatus(t *testing.T) {
	t.Parallel()
	statuses := rapid.SampledFrom([]CustomerStatus{CustomerPending, CustomerPendingActivation, CustomerActive, CustomerRejected})
	states := rapid.SampledFrom([]VerificationState{VerificationOpen, VerificationDocuments, VerificationApproved, VerificationRejected})
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
		c := &Customer{Provider: providerFinhub, Status: CustomerPendingActivation, Version: 1, Steps: &CustomerSteps{}, User: &CustomerUser{}}
		if rapid.Bool().Draw(t, "started") {
			plan := c.verificationPlan()
			plan.Submission = SubmissionAccepted
			c.Steps.Verification = &plan
		}
		for range rapid.IntRange(1, 12).Draw(t, "words") {
			now = now.Add(time.Second)
			before, approved := *c, c.Steps.VerificationOK
			yes, no := false, false
			if rapid.Bool().Draw(t, "verdict") {
				v := CustomerVerdict{CustomerID: "c", Known: rapid.Bool().Draw(t, "known"), ProviderStatus: "WORD"}
				v.Status = CustomerPending
				if v.Known {
					v.Status = statuses.Draw(t, "status")
				}
				yes, no = v.Known && v.Status == CustomerActive, v.Known && v.Status == CustomerRejected
				if changed := c.Apply(v, now); changed != (c.Version != before.Version) {
					t.Fatalf("changed %t, version %d -> %d", changed, before.Version, c.Version)
				}
			} else {
				k := ActivationCheck{VerificationOK: rapid.Bool().Draw(t, "verified"), ConsentOK: rapid.Bool().Draw(t, "consented"), Active: rapid.Bool().Draw(t, "active")}
				k.Verification = VerificationVerdict{State: states.Draw(t, "state"), Known: true, ProviderStatus: rapid.SampledFrom([]string{"", "WORD"}).Draw(t, "word")}
				yes = k.Active
				no = c.Steps.Verification != nil && k.Verification.ProviderStatus != "" && k.Verification.State == VerificationRejected
				if changed := c.applyCheck(k, now); changed != (c.Version != before.Version) {
					t.Fatalf("changed %t, version %d -> %d", changed, before.Version, c.Version)
				}
			}
			switch {
			case before.Status.Final() && (c.Status != before.Status || c.Version != before.Version):
				t.Fatalf("%s became %s", before.Status, c.Status)
			case !before.Status.Final() && c.Status == CustomerActive && !yes, !before.Status.Final() && c.Status == CustomerRejected && !no && !before.Status.Final():
				t.Fatalf("%s without a word for it", c.Status)
			case approved && !c.Steps.VerificationOK:
				t.Fatal("an approval was taken back")
			case (c.NextAction == nil) != (c.Status == CustomerActive) && c.Version > 1:
				t.Fatalf("%s with next action %v", c.Status, c.NextAction)
			}
		}
	})
}

// nextAction leads from one step to the next.
func TestNextActionLeads(t *testing.T) {
	t.Parallel()
	high, low := "HIGH", "LOW"
	c := &Customer{Provider: providerFinhub, Status: CustomerPendingActivation, Version: 1, Steps: &CustomerSteps{}, Category: &CustomerCategory{RiskLevel: &low}}
	expect := func(what string, want NextActionKind) {
		t.Helper()
		if got := c.nextAction(); got == nil || got.Kind != want || *got.Step != StepCustomer || got.Message == "" {
			t.Errorf("%s: %+v, want %s", what, got, want)
		}
	}
	expect("registered", ActionCaptureDocument)
	few := c.nextAction().Message
	c.Category.RiskLevel = &high
	if plan := c.verificationPlan(); plan.Level != "POWER_TENANT_VERIFIED" || plan.Type != "ENHANCED_DUE_DILIGENCE" || len(plan.RequiredDocuments) != 5 || len(c.nextAction().Message) <= len(few) {
		t.Errorf("a high risk asks for %+v", plan)
	}
	plan := c.verificationPlan()
	c.Steps.Verification = &plan
	expect("planned", ActionWait)
	plan.Submission = SubmissionAccepted
	expect("open", ActionWait)
	plan.State = VerificationDocuments
	expect("documents", ActionCaptureDocument)
	plan.State = VerificationApproved
	expect("approved", ActionAcceptTerms)
	c.Steps.Consents = []CustomerConsent{{Type: ConsentTerms, Submission: SubmissionAccepted, Accepted: true}}
	if needed := c.neededConsents(); !slices.Equal(needed, []ConsentType{ConsentPrivacy, ConsentDataProcessing}) {
		t.Errorf("needed %v", needed)
	}
	c.Steps.Missing = []ConsentType{ConsentDataProcessing}
	if needed := c.neededConsents(); !slices.Equal(needed, []ConsentType{ConsentDataProcessing}) {
		t.Errorf("FinHub has one from elsewhere: needed %v", needed)
	}
	c.Steps.Consents = append(c.Steps.Consents, CustomerConsent{Type: ConsentDataProcessing, Submission: SubmissionPlanned})
	expect("being recorded", ActionWait)
	c.Steps.Consents[1].Submission, c.Steps.Missing = SubmissionAccepted, []ConsentType{}
	expect("not confirmed", ActionWait)
	c.Steps.ConsentOK = true
	expect("consented", ActionActivateAccount)
	c.Steps.Denied = true
	expect("not allowed yet", ActionWait)
	if c.step() != stepCheck {
		t.Error("nobody asks when it is allowed")
	}
	c.Steps.Prohibited = true
	expect("a prohibited risk", ActionContactSupport)
	c.Steps.Denied, c.Steps.Prohibited = false, false
	c.Steps.Activation = SubmissionSent
	expect("activating", ActionWait)
	c.Status = CustomerRejected
	expect("rejected", ActionContactSupport)
	c.Status = CustomerActive
	if a := c.nextAction(); a != nil {
		t.Errorf("active: %+v", a)
	}
}

func TestUnknownStepsAreGivenUp(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	s := CustomerSteps{Activation: SubmissionAmbiguous, Verification: &CustomerVerification{Submission: SubmissionSent, StartedAt: now.Add(-time.Minute)}}
	for look := 1; look <= 3; look++ {
		if s.Activation == "" {
			t.Errorf("given up after %d looks", look-1)
		}
		s.giveUpUnknown(now)
	}
	if s.Activation != "" || s.Looks != 0 {
		t.Errorf("%+v", s)
	}
	if s.Verification == nil {
		t.Error("a verification of a minute ago is given up")
	}
	s.giveUpUnknown(now.Add(ambiguousCustomerFor))
	if s.Verification != nil {
		t.Error("a verification that never arrived is waited for")
	}
}

// A minute of an open breaker is no reason to wait a minute after the first real failure.
func TestRefusedCallsDoNotGrowTheBackoff(t *testing.T) {
	refused, failed := error(E(Refused, "test", nil)), error(E(Ambiguous, "test", nil))
	s := &Service{Config: Config{Cadences: map[string]Cadence{providerLeap: {RetryAfter: 20 * time.Millisecond}}}}
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	c := &Customer{Provider: providerLeap, Prospect: &ProspectState{ChangedAt: now.Add(-time.Minute)}}
	var job Job
	for range 30 {
		job.Failures = job.failuresAfter(refused)
		if wait := s.prospectWait(c, prospectStep{err: refused}, job.Failures, now); wait < 50*time.Millisecond || wait > 210*time.Millisecond {
			t.Fatalf("a refused call waits %v", wait)
		}
	}
	job.Failures = job.failuresAfter(failed)
	if wait := s.prospectWait(c, prospectStep{err: failed}, job.Failures, now); wait > 20*time.Millisecond {
		t.Errorf("the first failure waits %v", wait)
	}
	job.Failures = job.failuresAfter(failed)
	if job.Failures = job.failuresAfter(nil); job.Failures != 3 {
		t.Errorf("%d failures", job.Failures)
	}
}

// A consent that FinHub says is missing is asked for again, and one whose call had an unknown end is sent again only when FinHub has
// said that it does not have it.
func TestConsentsFollowTheCheck(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	customer := func(submission Submission) *Customer {
		c := &Customer{Provider: providerFinhub, Status: CustomerPendingActivation, Version: 1, Steps: &CustomerSteps{VerificationOK: true}}
		for _, t := range ConsentTypes() {
			c.Steps.Consents = append(c.Steps.Consents, CustomerConsent{Type: t, Version: "1.0", Submission: SubmissionAccepted, Accepted: true})
		}
		c.Steps.Consents[0].Submission, c.Steps.Consents[0].Accepted = submission, submission == SubmissionAccepted
		return c
	}
	lost := ActivationCheck{VerificationOK: true, ConsentSaid: true, Missing: []ConsentType{ConsentTerms}, Denied: true}
	c := customer(SubmissionAccepted)
	c.Steps.ConsentOK = true // FinHub said so once
	c.applyCheck(lost, now)
	if needed := c.neededConsents(); !slices.Equal(needed, []ConsentType{ConsentTerms}) || c.NextAction.Kind != ActionAcceptTerms || c.step() != stepCheck {
		t.Errorf("lost: needed %v, next %v, step %d", needed, c.NextAction, c.step())
	}
	for name, tt := range map[string]struct {
		check ActivationCheck
		want  Submission
	}{
		"it is missing":              {lost, SubmissionPlanned},
		"not OK, without a list":     {ActivationCheck{VerificationOK: true, ConsentSaid: true}, SubmissionPlanned},
		"nothing is said":            {ActivationCheck{VerificationOK: true}, SubmissionAmbiguous},
		"another one is missing":     {ActivationCheck{ConsentSaid: true, Missing: []ConsentType{ConsentPrivacy}}, SubmissionAccepted},
		"everything is there":        {ActivationCheck{ConsentSaid: true, ConsentOK: true}, SubmissionAccepted},
		"nothing is listed, not one": {ActivationCheck{Missing: []ConsentType{}}, SubmissionAccepted},
	} {
		c := customer(SubmissionAmbiguous)
		if c.step() != stepCheck {
			t.Errorf("%s: it is sent again without a look", name)
		}
		c.applyCheck(tt.check, now)
		if got := c.Steps.Consents[0]; got.Submission != tt.want || got.Accepted != (tt.want == SubmissionAccepted) {
			t.Errorf("%s: %+v, want %s", name, got, tt.want)
		}
	}
}

// What was found is somebody else when anything that is told disagrees, whatever its spelling.
func TestFoundCustomersAreCompared(t *testing.T) {
	registered := JSON(`{"first_name":"Łukasz José","last_name":"Strauß-Núñez","phone":"+37060012345","birthdate":"1990-05-15"}`)
	name := NewName
	for _, tt := range []struct {
		found FoundCustomer
		want  bool
	}{
		{FoundCustomer{}, true},
		{FoundCustomer{FirstName: name("lukasz  JOSE"), LastName: name("STRAUSS NUNEZ"), FullName: name("Lukasz Jose Strauss Nunez"), Birthdate: NewDate("1990-05-15"),
			Phones: []PhoneNumber{NewPhoneNumber("+1 555 0100 200"), NewPhoneNumber("370 600-12345")}}, true},
		{FoundCustomer{FullName: name("Strauss-Nunez, Lukasz Jose"), Phones: []PhoneNumber{NewPhoneNumber("060012345")}, Birthdate: NewDate("1990-05-14T21:00:00Z")}, true},
		{FoundCustomer{FirstName: name("L***"), Phones: []PhoneNumber{NewPhoneNumber("***2345")}, Birthdate: NewDate("15/05")}, true},
		{FoundCustomer{FirstName: name("Somebodyelse")}, false},
		{FoundCustomer{FirstName: name("Lukasz Jose"), LastName: name("Other")}, false},
		{FoundCustomer{FullName: name("Lukasz Other")}, false},
		{FoundCustomer{Phones: []PhoneNumber{NewPhoneNumber("+37060012346")}}, false},
		{FoundCustomer{Birthdate: NewDate("1990-05-16")}, false},
		{FoundCustomer{Birthdate: NewDate("1990-05-17T00:00:00Z")}, false},
	} {
		if got := tt.found.agrees(registered); got != tt.want {
			t.Errorf("%q %q %q %q: %t", tt.found.FirstName.Reveal(), tt.found.LastName.Reveal(), tt.found.FullName.Reveal(), tt.found.Birthdate.Reveal(), got)
		}
	}
	if (FoundCustomer{}).agrees(nil) {
		t.Error("nothing is known of the registration")
	}
}
