package kyc

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var factsEpoch = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func oneOf[T any](t *rapid.T, name string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, name)
}

func maybe[T any](t *rapid.T, name string, values ...T) *T {
	if rapid.Bool().Draw(t, name+" is told") {
		return new(oneOf(t, name, values...))
	}
	return nil
}

func drawFacts(t *rapid.T) OnboardingFacts {
	at := func(name string) time.Time {
		return factsEpoch.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, name)) * time.Second)
	}
	person := &Person{ID: "per_1", UpdatedAt: at("person changed"), Profile: Profile{DocumentNumber: NewDocumentNumber(oneOf(t, "document", "", "52998224725"))}}
	person.Kyc = KycReview{
		Status: oneOf(t, "kyc", KycNotRequired, KycPending, KycInReview, KycApproved, KycRejected, KycStatus("NEW_WORD")), Analyses: rapid.IntRange(0, 2).Draw(t, "analyses"),
		ProviderStatus: maybe(t, "word", "pending", "in_queue"), Reason: maybe(t, "reason", "invalid_request"),
	}
	f := OnboardingFacts{Person: person, Require: rapid.SliceOfNDistinct(rapid.SampledFrom(StepKinds()), 0, 8, rapid.ID[StepKind]).Draw(t, "require")}
	for i := range rapid.IntRange(0, 3).Draw(t, "faces") {
		f.Faces = append(f.Faces, &FaceRegistration{ID: FaceID(fmt.Sprint("fac_", i)), State: oneOf(t, "face", FaceSent, FaceAmbiguous, FaceRegistered), UpdatedAt: at("face changed")})
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "processes") {
		p := &Process{
			Wanted: rapid.SliceOfNDistinct(rapid.SampledFrom([]Capability{CapFraudProfile, CapRiskScore}), 0, 2, rapid.ID[Capability]).Draw(t, "wanted"),
			ID:     ProcessID(fmt.Sprint("prc_", i)), Provider: "unico", Version: rapid.IntRange(0, 2).Draw(t, "process version"), UpdatedAt: at("process changed"),
			Capabilities: rapid.SliceOfNDistinct(rapid.SampledFrom(Capabilities()), 1, 4, rapid.ID[Capability]).Draw(t, "capabilities"),
			Status:       oneOf(t, "process", ProcessProcessing, ProcessDivergent, ProcessCompleted, ProcessCompleted, ProcessCanceled, ProcessFailed, ProcessStatus("NEW_WORD")),
		}
		switch p.Status {
		case ProcessCompleted:
			p.Result = drawOnboardingResult(t)
		case ProcessCanceled, ProcessFailed:
			p.Failure = NewFailure(oneOf(t, "failure", FailureNeedsNewCapture, FailureImageRejected, FailureRejected, FailureProviderError, FailureCanceled, FailureOutcomeUnknown))
		default:
			p.Result = drawOnboardingResult(t) // never to be looked at
		}
		f.Processes = append(f.Processes, p)
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "customers") {
		c := &Customer{
			ID: CustomerID(fmt.Sprint("cus_", i)), Provider: oneOf(t, "provider", "leap", "finhub"), Version: rapid.IntRange(0, 2).Draw(t, "customer version"), UpdatedAt: at("customer changed"),
			Status: oneOf(t, "customer", CustomerPending, CustomerInProgress, CustomerActionRequired, CustomerPendingActivation, CustomerActive, CustomerRejected, CustomerFailed, CustomerStatus("NEW_WORD")),
		}
		if kind := maybe(t, "next", ActionCorrectData, ActionAcceptTerms, ActionWait, ActionCaptureDocument, ActionActivateAccount); kind != nil {
			c.NextAction = &NextAction{Kind: *kind}
		}
		if c.Provider == "leap" {
			c.Cip = &CipState{Detail: oneOf(t, "detail", CipDetailNone, CipDetailCompliance, CipDetailUnknown, CipDetailOfacFailed, CipDetailComplianceBlocked)}
		}
		f.Customers = append(f.Customers, c)
	}
	return f
}

func drawOnboardingResult(t *rapid.T) *ProcessResult {
	r := &ProcessResult{
		Liveness: maybe(t, "liveness", LivenessLive, LivenessNotLive, Liveness("NEW_WORD")), Identity: maybe(t, "identity", IdentityYes, IdentityNo, IdentityInconclusive, IdentityMatch("NEW_WORD")),
		FraudProfile: maybe(t, "fraud", FraudYes, FraudInconclusive, FraudUnknown), Authenticated: maybe(t, "authenticated", true, false), RiskScore: maybe(t, "score", -90, 0, 95),
		Decision: maybe(t, "decision", DecisionApproved, DecisionDenied, DecisionInconclusive, DecisionUnknown, Decision("NEW_WORD")),
	}
	if rapid.Bool().Draw(t, "document") {
		r.Document = &CapturedDocument{CpfMatch: maybe(t, "cpf", true, false), FaceMatch: maybe(t, "face match", true, false)}
		r.Document.FaceMatchUnknown = r.Document.FaceMatch == nil && rapid.Bool().Draw(t, "face match unreadable")
	}
	return r
}

// saysYes is the opposite of Evaluate: for one step, whether any fact is an explicit yes. It is written without looking at it.
func saysYes(f OnboardingFacts, kind StepKind) bool {
	wants := func(c Capability, yes func(*ProcessResult, []Capability) bool) bool {
		return slices.ContainsFunc(f.Processes, func(p *Process) bool {
			return p.Version > 0 && p.Status == ProcessCompleted && slices.Contains(p.Capabilities, c) && yes(p.Result, p.Wanted)
		})
	}
	process := func(c Capability, yes func(*ProcessResult) bool) bool {
		return wants(c, func(r *ProcessResult, _ []Capability) bool { return yes(r) })
	}
	harmless := func(r *ProcessResult) bool { return r.FraudProfile == nil || *r.FraudProfile == FraudInconclusive }
	customer := func(leap bool) bool {
		return slices.ContainsFunc(f.Customers, func(c *Customer) bool {
			return c.Version > 0 && (c.Provider == "leap") == leap && c.Status == CustomerActive
		})
	}
	switch kind {
	case StepPerson:
		return f.Person.Kyc.Status == KycApproved || f.Person.Kyc.Status == KycNotRequired && !f.Person.DocumentNumber.Empty()
	case StepFace:
		return slices.ContainsFunc(f.Faces, func(x *FaceRegistration) bool { return x.State == FaceRegistered })
	case StepLiveness:
		return process(CapLiveness, func(r *ProcessResult) bool {
			return r.Liveness != nil && *r.Liveness == LivenessLive || r.Identity != nil && *r.Identity == IdentityYes
		})
	case StepIdentity:
		return wants(CapIdentityVerification, func(r *ProcessResult, wanted []Capability) bool {
			return r.Identity != nil && *r.Identity == IdentityYes && harmless(r) && (r.Decision == nil || *r.Decision == DecisionApproved) &&
				(r.FraudProfile != nil || !slices.Contains(wanted, CapFraudProfile))
		})
	case StepFaceValidation:
		return process(CapFaceValidation, func(r *ProcessResult) bool { return r.Authenticated != nil && *r.Authenticated && harmless(r) })
	case StepDocument:
		return process(CapDocumentCapture, func(r *ProcessResult) bool {
			return r.Document != nil && r.Document.CpfMatch != nil && *r.Document.CpfMatch && !r.Document.FaceMatchUnknown
		})
	case StepCip:
		return customer(true)
	case StepCustomer:
		return customer(false)
	}
	return false
}

func (o Onboarding) stepOf(kind StepKind) *OnboardingStep {
	for i := range o.Steps {
		if o.Steps[i].Kind == kind {
			return &o.Steps[i]
		}
	}
	return nil
}

// No set of facts approves without an explicit yes for every required step, and a step that passed had one.
func TestOnboardingApprovesOnlyByExplicitYes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		o := Evaluate(f)
		require := f.Require
		if len(require) == 0 {
			require = []StepKind{StepPerson}
		}
		passed := 0
		for _, s := range o.Steps {
			if s.Status == StepPassed && !saysYes(f, s.Kind) {
				t.Fatalf("%s passed and nothing said yes", s.Kind)
			}
			if s.Required && s.Status == StepPassed {
				passed++
			}
		}
		if (o.State == OnboardingApproved) != (passed == len(require)) {
			t.Fatalf("%s with %d of %d required steps passed", o.State, passed, len(require))
		}
		for _, kind := range require {
			if s := o.stepOf(kind); s == nil || !s.Required {
				t.Fatalf("the required step %s is not shown", kind)
			}
		}
		if (o.NextAction == nil) != (o.State == OnboardingApproved) {
			t.Fatalf("%s with next action %v", o.State, o.NextAction)
		}
	})
}

// The order in which facts come makes no difference.
func TestOnboardingDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		want := Evaluate(f)
		seed := rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, seed))
		random.Shuffle(len(f.Faces), func(i, j int) { f.Faces[i], f.Faces[j] = f.Faces[j], f.Faces[i] })
		random.Shuffle(len(f.Processes), func(i, j int) { f.Processes[i], f.Processes[j] = f.Processes[j], f.Processes[i] })
		random.Shuffle(len(f.Customers), func(i, j int) { f.Customers[i], f.Customers[j] = f.Customers[j], f.Customers[i] })
		random.Shuffle(len(f.Require), func(i, j int) { f.Require[i], f.Require[j] = f.Require[j], f.Require[i] })
		if got := Evaluate(f); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// A later explicit no of the same step overrules, whatever stood before; a technical failure changes nothing that was decided and is
// never a no.
func TestOnboardingLaterAnswers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		before := Evaluate(f)
		all := Capabilities()
		failed := &Process{ID: "prc_98", Version: 1, Capabilities: all, Status: oneOf(t, "end", ProcessFailed, ProcessCanceled), Failure: NewFailure(FailureProviderError), UpdatedAt: factsEpoch}
		f.Processes = append(f.Processes, failed)
		after := Evaluate(f)
		for _, kind := range []StepKind{StepLiveness, StepIdentity, StepFaceValidation, StepDocument} {
			was, is := before.stepOf(kind), after.stepOf(kind)
			if is.Status == StepFailed && (was == nil || was.Status != StepFailed && was.Status != StepPending) {
				t.Fatalf("%s: a technical failure made it FAILED", kind)
			}
			if was != nil && (was.Status == StepPassed || was.Status == StepFailed) && is.Status != was.Status {
				t.Fatalf("%s: %s became %s by a technical failure", kind, was.Status, is.Status)
			}
		}
		no := &Process{ID: "prc_99", Version: 1, Capabilities: all, Status: ProcessCompleted, UpdatedAt: factsEpoch, Result: &ProcessResult{
			Liveness: new(LivenessNotLive), Identity: new(IdentityNo), Authenticated: new(false), Document: &CapturedDocument{CpfMatch: new(false)},
		}}
		f.Processes = append(f.Processes, no)
		for _, kind := range []StepKind{StepLiveness, StepIdentity, StepFaceValidation, StepDocument} {
			if s := Evaluate(f).stepOf(kind); s.Status != StepFailed {
				t.Fatalf("%s is %s after an explicit no", kind, s.Status)
			}
		}
	})
}

// Somebody a sanctions list stopped stays stopped, whatever prospects of theirs came before, after or are under way.
func TestSanctionsStand(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		stopped := &Customer{
			ID: CustomerID(fmt.Sprint("cus_", rapid.IntRange(0, 9).Draw(t, "when"), "x")), Provider: "leap", Version: 1, UpdatedAt: factsEpoch, Status: CustomerRejected,
			Cip: &CipState{Status: CipUpgradeFailed, Detail: oneOf(t, "stopped by", CipDetailOfacFailed, CipDetailComplianceBlocked)},
		}
		f.Customers = append(f.Customers, stopped)
		if s := Evaluate(f).stepOf(StepCip); s == nil || s.Status != StepFailed {
			t.Fatalf("CIP is %+v", s)
		}
	})
}

// What we have no word for never passes and never fails a step.
func TestOnboardingUnknownDecidesNothing(t *testing.T) {
	t.Parallel()
	word := "SOMETHING_NEW"
	f := OnboardingFacts{
		Person:    &Person{ID: "per_1", Kyc: KycReview{Status: KycStatus(word), Analyses: 1}, Profile: Profile{DocumentNumber: NewDocumentNumber("52998224725")}},
		Processes: []*Process{{ID: "prc_1", Version: 1, Capabilities: Capabilities(), Status: ProcessStatus(word)}, {ID: "prc_2", Version: 1, Capabilities: Capabilities(), Status: ProcessCompleted, Result: &ProcessResult{Liveness: new(Liveness(word)), Identity: new(IdentityMatch(word))}}},
		Customers: []*Customer{{ID: "cus_1", Version: 1, Provider: "leap", Status: CustomerStatus(word)}, {ID: "cus_2", Version: 1, Provider: "finhub", Status: CustomerStatus(word)}},
		Faces:     []*FaceRegistration{{ID: "fac_1", State: FaceState(word)}},
		Require:   StepKinds(),
	}
	o := Evaluate(f)
	if o.State == OnboardingApproved || o.State == OnboardingRejected {
		t.Errorf("state %s", o.State)
	}
	for _, s := range o.Steps {
		if s.Status == StepPassed || s.Status == StepFailed {
			t.Errorf("%s is %s", s.Kind, s.Status)
		}
	}
}

// A yes beside an answer that is none, or not there, is for a person to look at: neither passed nor failed.
func TestOnboardingReviews(t *testing.T) {
	t.Parallel()
	yes := func() ProcessResult { return ProcessResult{Identity: new(IdentityYes)} }
	for name, tt := range map[string]struct {
		step   StepKind
		wanted []Capability
		result func(*ProcessResult)
		status StepStatus
		reason StepReason
	}{
		"yes":                           {step: StepIdentity, status: StepPassed},
		"yes, fraud wanted and missing": {step: StepIdentity, wanted: []Capability{CapFraudProfile}, status: StepInReview, reason: ReasonInconclusive},
		"yes, fraud wanted and told": {step: StepIdentity, wanted: []Capability{CapFraudProfile}, status: StepPassed,
			result: func(r *ProcessResult) { r.FraudProfile = new(FraudInconclusive) }},
		"no, fraud wanted": {step: StepIdentity, wanted: []Capability{CapFraudProfile}, status: StepFailed, reason: ReasonMismatch,
			result: func(r *ProcessResult) { r.Identity = new(IdentityNo) }},
		"yes, another thing wanted": {step: StepIdentity, wanted: []Capability{CapRiskScore}, status: StepPassed},
		"yes, denied":               {step: StepIdentity, status: StepInReview, reason: ReasonInconclusive, result: func(r *ProcessResult) { r.Decision = new(DecisionDenied) }},
		"yes, retry":                {step: StepIdentity, status: StepInReview, reason: ReasonInconclusive, result: func(r *ProcessResult) { r.Decision = new(DecisionInconclusive) }},
		"yes, decided somehow":      {step: StepIdentity, status: StepInReview, reason: ReasonUnknownAnswer, result: func(r *ProcessResult) { r.Decision = new(DecisionUnknown) }},
		"yes, approved":             {step: StepIdentity, status: StepPassed, result: func(r *ProcessResult) { r.Decision = new(DecisionApproved) }},
		"approved alone": {step: StepIdentity, status: StepActionRequired, reason: ReasonInconclusive, result: func(r *ProcessResult) {
			r.Decision, r.Identity = new(DecisionApproved), nil
		}},
		"no, approved": {step: StepIdentity, status: StepFailed, reason: ReasonMismatch, result: func(r *ProcessResult) {
			r.Decision, r.Identity = new(DecisionApproved), new(IdentityNo)
		}},
		"1:1":            {step: StepFaceValidation, status: StepPassed, result: func(r *ProcessResult) { r.Authenticated = new(true) }},
		"1:1, fraud":     {step: StepFaceValidation, status: StepInReview, reason: ReasonFraud, result: func(r *ProcessResult) { r.Authenticated, r.FraudProfile = new(true), new(FraudYes) }},
		"1:1, unknown":   {step: StepFaceValidation, status: StepInReview, reason: ReasonUnknownAnswer, result: func(r *ProcessResult) { r.Authenticated, r.FraudProfile = new(true), new(FraudUnknown) }},
		"1:1, no word":   {step: StepFaceValidation, status: StepPassed, result: func(r *ProcessResult) { r.Authenticated, r.FraudProfile = new(true), new(FraudInconclusive) }},
		"1:1, no, fraud": {step: StepFaceValidation, status: StepFailed, reason: ReasonMismatch, result: func(r *ProcessResult) { r.Authenticated, r.FraudProfile = new(false), new(FraudYes) }},
		"document":       {step: StepDocument, status: StepPassed, result: func(r *ProcessResult) { r.Document = &CapturedDocument{CpfMatch: new(true)} }},
		"document, face": {step: StepDocument, status: StepInReview, reason: ReasonUnknownAnswer, result: func(r *ProcessResult) {
			r.Document = &CapturedDocument{CpfMatch: new(true), FaceMatchUnknown: true}
		}},
		"document of another, face": {step: StepDocument, status: StepFailed, reason: ReasonMismatch, result: func(r *ProcessResult) {
			r.Document = &CapturedDocument{CpfMatch: new(false), FaceMatchUnknown: true}
		}},
	} {
		r := yes()
		if tt.result != nil {
			tt.result(&r)
		}
		o := Evaluate(OnboardingFacts{
			Person:    &Person{ID: "per_1"},
			Processes: []*Process{{ID: "prc_1", Version: 1, Capabilities: Capabilities(), Wanted: tt.wanted, Status: ProcessCompleted, Result: &r}}, Require: []StepKind{tt.step},
		})
		s := o.stepOf(tt.step)
		if reason := s.Reason; s.Status != tt.status || tt.reason != "" && (reason == nil || *reason != tt.reason) || tt.reason == "" && reason != nil {
			t.Errorf("%s: %s for %v, want %s for %q", name, s.Status, reason, tt.status, tt.reason)
		}
		if tt.reason == ReasonFraud && s.ReasonFor(Caller{Person: "per_1"}) != nil {
			t.Errorf("%s: the person is told what gave them away", name)
		}
	}
}

// Every action has a sentence in every language, and none of them names a provider or shows a code.
func TestActionMessages(t *testing.T) {
	t.Parallel()
	for _, kind := range []NextActionKind{
		ActionRegisterPerson, ActionCaptureFace, ActionNewCapture, ActionCaptureDocument, ActionCorrectData, ActionAcceptTerms, ActionWait, ActionRetry,
		ActionContactSupport, ActionActivateAccount,
	} {
		seen := make(map[string]bool)
		for _, accept := range []string{"", "pt-BR,pt;q=0.9,en;q=0.8", "es-419"} {
			text := ActionMessage(WithLanguage(context.Background(), accept), kind)
			if len(text) < 10 || seen[text] {
				t.Errorf("%s for %q: %q", kind, accept, text)
			}
			seen[text] = true
		}
	}
	for accept, want := range map[string]string{"": "wait", "de, fr": "wait", "pt": "Aguarde", "en-GB;q=0.1, es": "Espera", "not a header;;;": "wait", "*": "wait"} {
		if got := ActionMessage(WithLanguage(context.Background(), accept), ActionWait); !strings.Contains(got, want) {
			t.Errorf("%q gives %q", accept, got)
		}
	}
}

// objects lists the facts one by one, in some order.
func (f OnboardingFacts) objects() (all []any) {
	for _, x := range f.Faces {
		all = append(all, x)
	}
	for _, x := range f.Processes {
		all = append(all, x)
	}
	for _, x := range f.Customers {
		all = append(all, x)
	}
	return append(all, f.Person)
}

// What is kept of the facts is enough: whatever comes in whatever order, and changes on the way, a person judged by the evidence and the
// news stands as one who is judged by all facts.
func TestEvidenceIsEnough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		last := drawFacts(t)
		now := make(progress)
		for _, x := range rapid.Permutation(last.objects()).Draw(t, "order") {
			var ok bool
			if p, isProcess := x.(*Process); isProcess && rapid.Bool().Draw(t, "opened first") {
				open := *p
				open.Status, open.Result, open.Failure = ProcessProcessing, nil, nil
				if now, ok = now.and([]any{&open}); !ok {
					t.Fatal("an open process could not be judged by the evidence")
				}
			}
			next, ok := now.and([]any{x})
			if !ok {
				t.Fatal("a fact that was not there before could not be judged by the evidence")
			}
			now = next
		}
		got, want := now.onboarding("per_1", last.Require), Evaluate(last)
		if !keepState(got).same(keepState(want)) {
			t.Fatalf("by the evidence %+v, by all facts %+v", keepState(got), keepState(want))
		}
		// A customer may lose what it had. Then the evidence says that it does not know, or it knows.
		if len(last.Customers) == 0 {
			return
		}
		c := *rapid.SampledFrom(last.Customers).Draw(t, "customer")
		c.Status = oneOf(t, "new status", CustomerActionRequired, CustomerRejected, CustomerFailed, CustomerPending)
		changed := last
		changed.Customers = nil
		for _, other := range last.Customers {
			if other.ID == c.ID {
				other = &c
			}
			changed.Customers = append(changed.Customers, other)
		}
		if next, ok := now.and([]any{&c}); ok && !keepState(next.onboarding("per_1", last.Require)).same(keepState(Evaluate(changed))) {
			t.Fatalf("by the evidence %+v, by all facts %+v", keepState(next.onboarding("per_1", last.Require)), keepState(Evaluate(changed)))
		}
	})
}

// What is kept comes back as it was, and holds nothing but codes, ids and times.
func TestKeptOnboarding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Evaluate(drawFacts(t))
		b, err := json.Marshal(keepState(want))
		if err != nil {
			t.Fatal(err)
		}
		var kept keptState
		if err := json.Unmarshal(b, &kept); err != nil {
			t.Fatal(err)
		}
		got := kept.onboarding(context.Background(), "per_1", 3)
		if !keepState(*got).same(keepState(want)) || got.Version != 3 || !got.UpdatedAt.Equal(want.UpdatedAt) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if got.NextAction != nil && got.NextAction.Message == "" {
			t.Fatalf("no message for %s", got.NextAction.Kind)
		}
	})
}
