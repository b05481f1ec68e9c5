package kyc

import (
	"cmp"
	"slices"
	"time"
)

// Onboarding says where a person is on the way to being approved, and what they should do next (schema: Onboarding). It holds no
// personal data and no provider's words.
type Onboarding struct {
	PersonID   PersonID
	State      OnboardingState
	Steps      []OnboardingStep
	NextAction *NextAction // nil when there is nothing left to do
	UpdatedAt  time.Time   // when it came to be as it is
	Version    int         // grows by one with every change of state, steps or next action
}

// OnboardingState is the steps put together.
type OnboardingState string

// The states of the contract.
const (
	OnboardingNotStarted     OnboardingState = "NOT_STARTED"
	OnboardingInProgress     OnboardingState = "IN_PROGRESS"
	OnboardingActionRequired OnboardingState = "ACTION_REQUIRED"
	OnboardingInReview       OnboardingState = "IN_REVIEW"
	OnboardingApproved       OnboardingState = "APPROVED"
	OnboardingRejected       OnboardingState = "REJECTED"
)

// OnboardingStep is one thing an onboarding may need.
type OnboardingStep struct {
	Kind     StepKind
	Status   StepStatus
	Required bool // by the partner's configuration
	// Provider is who has been asked. A subject token does not see it.
	Provider *string
	// Reason is one of our own codes; nil where the status says it all.
	Reason *StepReason
	// SubjectID names the fact that decides: the person, a face, a process, a customer.
	SubjectID string
	UpdatedAt *time.Time // when the step came to be as it is; nil when nothing is known of it

	person PersonID
	action NextActionKind // what leads on, "" for the step's own
}

// StepStatus is where a step stands.
type StepStatus string

// The statuses of the contract.
const (
	StepMissing        StepStatus = "MISSING"
	StepPending        StepStatus = "PENDING"
	StepActionRequired StepStatus = "ACTION_REQUIRED"
	StepInReview       StepStatus = "IN_REVIEW"
	StepPassed         StepStatus = "PASSED"
	StepFailed         StepStatus = "FAILED"
)

// StepStatuses lists all.
func StepStatuses() []StepStatus {
	return []StepStatus{StepMissing, StepPending, StepActionRequired, StepInReview, StepPassed, StepFailed}
}

// StepReason says why a step is where it is. It is ours and the same for every provider.
type StepReason string

// The reasons.
const (
	ReasonDataRefused   StepReason = "DATA_REFUSED"   // the provider refused the data, which says nothing about the person
	ReasonRejected      StepReason = "REJECTED"       // an explicit no to the person
	ReasonNotLive       StepReason = "NOT_LIVE"       // no living person was before the camera
	ReasonMismatch      StepReason = "MISMATCH"       // face and reference, or face and document, do not belong together
	ReasonFraud         StepReason = "FRAUD"          // the face is known for fraud
	ReasonInconclusive  StepReason = "INCONCLUSIVE"   // neither a yes nor a no
	ReasonNewCapture    StepReason = "NEW_CAPTURE"    // the capture could not be used
	ReasonTechnical     StepReason = "TECHNICAL"      // the provider could not do it; nobody was judged
	ReasonCorrectData   StepReason = "CORRECT_DATA"   // data has to be corrected or completed
	ReasonTerms         StepReason = "TERMS"          // terms have to be accepted
	ReasonDocument      StepReason = "DOCUMENT"       // a document has to be captured
	ReasonActivation    StepReason = "ACTIVATION"     // the account has to be activated
	ReasonUnknownAnswer StepReason = "UNKNOWN_ANSWER" // the provider said something we have no meaning for
)

// OnboardingFacts is everything an onboarding is made of. The order of the lists does not matter.
type OnboardingFacts struct {
	Person    *Person
	Faces     []*FaceRegistration
	Processes []*Process
	Customers []*Customer
	// Require is the partner's list; empty means PERSON alone, because nobody is approved by an empty list (ours).
	Require []StepKind
}

// StepKinds lists all steps, in the order in which they are shown and in which what comes next is chosen.
func StepKinds() []StepKind {
	return []StepKind{StepPerson, StepFace, StepLiveness, StepIdentity, StepFaceValidation, StepDocument, StepCip, StepCustomer}
}

// Evaluate is the table of doc.go as a function: of the facts alone, not of the order they came in.
// MUST never approve without every required step PASSED: TestOnboardingApprovesOnlyByExplicitYes.
func Evaluate(f OnboardingFacts) Onboarding {
	return evidenceOf(f).onboarding(f.Person.ID, f.Require)
}

// answer is what one fact says about one step. It holds codes, ids and times.
type answer struct {
	Subject  string         `json:"subject"`
	Status   StepStatus     `json:"status"`
	Reason   StepReason     `json:"reason,omitempty"`
	Action   NextActionKind `json:"action,omitempty"`
	Provider string         `json:"provider,omitempty"`
	At       time.Time      `json:"at"` // when the fact came to say so
	// Stands: a no about the person and not about a try. Nothing newer overrules it.
	Stands bool `json:"stands,omitempty"`
}

// explicit reports whether it is a yes or a no.
func (a answer) explicit() bool { return a.Status == StepPassed || a.Status == StepFailed }

// same reports whether two answers say the same, whenever they did.
func (a answer) same(b answer) bool {
	a.At = b.At
	return a == b
}

// evidence is all that has to be kept of the answers to one step to judge it when the next one comes: the newest explicit one,
// which decides, and the newest. Newer is the fact that was born later, whenever its answer came.
type evidence struct {
	Decided *answer `json:"decided,omitempty"`
	Newest  *answer `json:"newest,omitempty"`
}

// over reports whether one explicit answer decides rather than another.
func (a answer) over(had answer) bool {
	if a.Stands != had.Stands && a.Subject != had.Subject {
		return a.Stands
	}
	return a.Subject >= had.Subject
}

// with adds an answer, or replaces the one its subject gave before. It reports false when that cannot be told from what is kept:
// a subject took back the answer that decided, and what stood behind it is forgotten.
func (e evidence) with(a answer) (evidence, bool) {
	for _, had := range []*answer{e.Decided, e.Newest} {
		if had != nil && had.same(a) {
			a.At = had.At // it said so before
		}
	}
	switch {
	case e.Decided != nil && a.Subject == e.Decided.Subject && (!a.explicit() || e.Decided.Stands && !a.Stands):
		return e, false
	case a.explicit() && (e.Decided == nil || a.over(*e.Decided)):
		e.Decided = &a
	}
	if e.Newest == nil || a.Subject >= e.Newest.Subject {
		e.Newest = &a
	}
	return e, true
}

// shown is the answer that counts. The newest explicit one does, a later no over an earlier yes too. What is not explicit counts only
// where no explicit answer stands, and, after a no, an attempt that is under way: a yes that stands is not put in doubt by another
// try, and a no about the person is not put in doubt by anything.
func (e evidence) shown() *answer {
	if e.Decided == nil || e.Decided.Status == StepFailed && !e.Decided.Stands && e.Newest.Status == StepPending {
		return e.Newest
	}
	return e.Decided
}

// progress is the evidence of every step of which anything is known.
type progress map[StepKind]evidence

func evidenceOf(f OnboardingFacts) progress {
	p := make(progress)
	var all []stepAnswer
	all = append(all, f.Person.answers()...)
	for _, x := range f.Faces {
		all = append(all, x.answers()...)
	}
	for _, x := range f.Processes {
		all = append(all, x.answers()...)
	}
	for _, x := range f.Customers {
		all = append(all, x.answers()...)
	}
	for _, a := range all {
		p.add(a) // each subject comes once, so nothing is taken back
	}
	return p
}

// stepAnswer is an answer and the step it is about.
type stepAnswer struct {
	step   StepKind
	answer answer
}

// add reports false as evidence.with does.
func (p progress) add(a stepAnswer) bool {
	if a.step == StepPerson {
		// There is one person, and what they were is no evidence of what they are.
		if had := p[a.step].Newest; had != nil && had.same(a.answer) {
			a.answer.At = had.At
		}
		p[a.step] = evidence{Newest: &a.answer}
		return true
	}
	e, ok := p[a.step].with(a.answer)
	p[a.step] = e
	return ok
}

// onboarding puts the steps together.
func (p progress) onboarding(person PersonID, require []StepKind) Onboarding {
	if len(require) == 0 {
		require = []StepKind{StepPerson}
	}
	o := Onboarding{PersonID: person}
	for _, kind := range StepKinds() {
		step := OnboardingStep{person: person, Kind: kind, Status: StepMissing, Required: slices.Contains(require, kind)}
		if a := p[kind].shown(); a != nil {
			step.Status, step.SubjectID, step.UpdatedAt, step.action = a.Status, a.Subject, &a.At, a.Action
			step.Provider, step.Reason = nonEmpty(a.Provider), nonEmpty(a.Reason)
			if a.At.After(o.UpdatedAt) {
				o.UpdatedAt = a.At
			}
		}
		if step.Status == StepMissing && !step.Required {
			continue // nobody asked for it, and nothing is known of it
		}
		o.Steps = append(o.Steps, step)
	}
	o.State = stateOf(o.Steps)
	o.NextAction = nextActionOf(o.State, o.Steps)
	return o
}

// answers of a person: the registration, and the decision on it where the partner asks for one.
func (p *Person) answers() []stepAnswer {
	a := answer{Subject: string(p.ID), At: p.UpdatedAt}
	if p.LatestAnalysis != "" {
		a.Provider = providerQitech
	}
	switch p.Kyc.Status {
	case KycApproved:
		a.Status = StepPassed
	case KycRejected:
		a.Status, a.Reason = StepFailed, ReasonRejected
	case KycInReview:
		a.Status = StepInReview
	case KycNotRequired:
		a.Status = StepPassed
		if p.DocumentNumber.Empty() {
			a.Status = StepMissing // known as a customer only: nobody has registered them
		}
	default: // PENDING, and what we do not know
		switch {
		case p.Kyc.Analyses == 0:
			a.Status = StepMissing
		case p.Kyc.Reason != nil && p.Kyc.ProviderStatus == nil:
			a.Status, a.Reason, a.Action = StepActionRequired, ReasonDataRefused, ActionCorrectData
		default:
			a.Status = StepPending
		}
	}
	return []stepAnswer{{StepPerson, a}}
}

// answers of a face. One whose call is under way counts for nothing: it leaves no row when it is refused.
func (f *FaceRegistration) answers() []stepAnswer {
	a := answer{Subject: string(f.ID), Provider: f.Provider, At: f.UpdatedAt, Status: StepPending}
	switch f.State {
	case FaceSent:
		return nil
	case FaceRegistered:
		a.Status = StepPassed
	default:
	}
	return []stepAnswer{{StepFace, a}}
}

// answers of a process, one a step it was asked about. One that was not answered yet counts for nothing.
func (p *Process) answers() []stepAnswer {
	if p.Version == 0 {
		return nil
	}
	var all []stepAnswer
	for _, judge := range []struct {
		asked Capability
		step  StepKind
		of    func(*Process) answer
	}{
		{CapLiveness, StepLiveness, judgeLiveness}, {CapIdentityVerification, StepIdentity, judgeIdentity},
		{CapFaceValidation, StepFaceValidation, judgeFaceValidation}, {CapDocumentCapture, StepDocument, judgeDocument},
	} {
		if !slices.Contains(p.Capabilities, judge.asked) {
			continue
		}
		a := answer{Status: StepPending}
		switch {
		case p.Status == ProcessCompleted && p.Result != nil:
			a = judge.of(p)
		case p.Status == ProcessCompleted:
			a = inconclusive
		case p.Status == ProcessCanceled || p.Status == ProcessFailed:
			a = technical(p.Failure)
		}
		a.Subject, a.Provider, a.At = string(p.ID), p.Provider, p.UpdatedAt
		all = append(all, stepAnswer{judge.step, a})
	}
	return all
}

// technical is what a process that did not come to an end asks for. It is never a no.
func technical(f *Failure) answer {
	a := answer{Status: StepActionRequired, Reason: ReasonTechnical, Action: ActionRetry}
	if f == nil || f.NextAction == nil {
		return a
	}
	switch a.Action = *f.NextAction; a.Action {
	case ActionNewCapture:
		a.Reason = ReasonNewCapture
	case ActionCorrectData:
		a.Reason = ReasonCorrectData
	default:
	}
	return a
}

var inconclusive = answer{Status: StepActionRequired, Reason: ReasonInconclusive, Action: ActionNewCapture}

// unclear is an answer that a person has to look at: never a yes, and no no either.
var unclear = answer{Status: StepInReview, Reason: ReasonUnknownAnswer}

func judgeLiveness(p *Process) answer {
	r := p.Result
	switch {
	case r.Liveness != nil && *r.Liveness == LivenessLive:
		return answer{Status: StepPassed}
	case r.Liveness != nil && *r.Liveness == LivenessNotLive:
		return answer{Status: StepFailed, Reason: ReasonNotLive}
	case r.Liveness == nil && r.Identity != nil && *r.Identity == IdentityYes:
		return answer{Status: StepPassed} // a yes implies it (unico dossier 5.2)
	default:
		return inconclusive
	}
}

func judgeIdentity(p *Process) answer {
	r := p.Result
	switch {
	case r.FraudProfile != nil && *r.FraudProfile == FraudYes:
		return answer{Status: StepFailed, Reason: ReasonFraud}
	case r.Identity == nil:
		return inconclusive
	case *r.Identity == IdentityNo:
		return answer{Status: StepFailed, Reason: ReasonMismatch}
	case *r.Identity != IdentityYes:
		return inconclusive
	case r.Liveness != nil && *r.Liveness == LivenessNotLive:
		return inconclusive // a picture of the right face is not the person
	case r.FraudProfile != nil && *r.FraudProfile != FraudInconclusive:
		return unclear // never "clear"
	case r.Decision != nil && *r.Decision != DecisionApproved && *r.Decision != DecisionDenied && *r.Decision != DecisionInconclusive:
		return unclear
	case r.Decision != nil && *r.Decision != DecisionApproved, p.lacksFraud(r):
		return answer{Status: StepInReview, Reason: ReasonInconclusive} // one of the answers is not a yes, or is not there
	default:
		return answer{Status: StepPassed}
	}
}

func judgeFaceValidation(p *Process) answer {
	r := p.Result
	switch {
	case r.Authenticated == nil:
		return inconclusive
	case !*r.Authenticated:
		return answer{Status: StepFailed, Reason: ReasonMismatch}
	case r.Liveness != nil && *r.Liveness == LivenessNotLive:
		return inconclusive
	case r.FraudProfile != nil && *r.FraudProfile == FraudYes:
		return answer{Status: StepInReview, Reason: ReasonFraud} // the same face as before, and one to look at
	case r.FraudProfile != nil && *r.FraudProfile != FraudInconclusive:
		return unclear
	default:
		return answer{Status: StepPassed}
	}
}

func judgeDocument(p *Process) answer {
	d := p.Result.Document
	switch {
	case d == nil:
		return answer{Status: StepActionRequired, Reason: ReasonInconclusive, Action: ActionCaptureDocument} // nothing was read
	case d.CpfMatch != nil && !*d.CpfMatch || d.FaceMatch != nil && !*d.FaceMatch:
		return answer{Status: StepFailed, Reason: ReasonMismatch}
	case d.CpfMatch == nil:
		return answer{Status: StepInReview, Reason: ReasonInconclusive} // whose face it is says nothing about whose document
	case d.FaceMatchUnknown:
		return unclear
	default:
		return answer{Status: StepPassed}
	}
}

// cipProvider is the provider whose customers answer the step CIP; all others answer CUSTOMER.
const cipProvider = "leap"

// answers of a customer.
func (c *Customer) answers() []stepAnswer {
	if c.Version == 0 {
		return nil
	}
	step, a := StepCustomer, answer{Subject: string(c.ID), Provider: c.Provider, At: c.UpdatedAt, Status: StepPending}
	if c.Provider == cipProvider {
		step = StepCip
	}
	switch c.Status {
	case CustomerActive:
		a.Status = StepPassed
	case CustomerRejected:
		a.Status, a.Reason = StepFailed, ReasonRejected
		// Somebody a sanctions list or the compliance team stopped is not another person with another phone.
		a.Stands = c.Cip != nil && (c.Cip.Detail == CipDetailOfacFailed || c.Cip.Detail == CipDetailComplianceBlocked)
	case CustomerFailed:
		a.Status, a.Reason, a.Action = StepActionRequired, ReasonTechnical, ActionRetry
	case CustomerActionRequired, CustomerPendingActivation:
		action := ActionContactSupport
		if c.Status == CustomerPendingActivation {
			action = ActionActivateAccount
		}
		if c.NextAction != nil {
			action = c.NextAction.Kind
		}
		if action == ActionWait {
			break // nothing that the person could do
		}
		a.Status, a.Reason, a.Action = StepActionRequired, customerReasons[action], action
	default:
		if c.Cip != nil && c.Cip.Detail == CipDetailCompliance {
			a.Status = StepInReview
		}
	}
	return []stepAnswer{{step, a}}
}

var customerReasons = map[NextActionKind]StepReason{
	ActionCorrectData: ReasonCorrectData, ActionAcceptTerms: ReasonTerms, ActionCaptureDocument: ReasonDocument,
	ActionActivateAccount: ReasonActivation, ActionRetry: ReasonTechnical, ActionNewCapture: ReasonNewCapture,
	ActionContactSupport: ReasonUnknownAnswer,
}

// stateOf puts the required steps together; the others do not come into it.
func stateOf(steps []OnboardingStep) OnboardingState {
	n, count := 0, make(map[StepStatus]int)
	for _, s := range steps {
		if s.Required {
			n++
			count[s.Status]++
		}
	}
	switch {
	case count[StepFailed] > 0:
		return OnboardingRejected
	case n > 0 && count[StepPassed] == n:
		return OnboardingApproved
	case count[StepMissing] == n:
		return OnboardingNotStarted
	case count[StepActionRequired] > 0:
		return OnboardingActionRequired
	case count[StepMissing]+count[StepPending] == 0 && count[StepInReview] > 0:
		return OnboardingInReview
	default:
		return OnboardingInProgress
	}
}

// nextActionOf chooses the first required step that somebody has to do something about. What has to be mended comes before what has
// not begun; what begins in the same way as a step that is still being checked waits for it, so that nobody takes a second picture,
// and pays for a second check, while the first is being looked at.
func nextActionOf(state OnboardingState, steps []OnboardingStep) *NextAction {
	switch state {
	case OnboardingApproved:
		return nil
	case OnboardingRejected:
		return &NextAction{Kind: ActionContactSupport}
	default:
	}
	wait := &NextAction{Kind: ActionWait}
	open := make(map[NextActionKind]bool)
	for _, s := range steps {
		switch {
		case !s.Required:
		case s.Status == StepActionRequired:
			return &NextAction{Kind: cmp.Or(s.action, firstActions[s.Kind]), Step: &s.Kind}
		case s.Status == StepPending, s.Status == StepInReview:
			open[firstActions[s.Kind]] = true
			wait.Step = cmp.Or(wait.Step, &s.Kind)
		}
	}
	for _, s := range steps {
		if first := firstActions[s.Kind]; s.Required && s.Status == StepMissing && !open[first] {
			return &NextAction{Kind: first, Step: &s.Kind}
		}
	}
	return wait
}

// firstActions are what begins a step.
var firstActions = map[StepKind]NextActionKind{
	StepPerson: ActionRegisterPerson, StepFace: ActionCaptureFace, StepLiveness: ActionCaptureFace, StepIdentity: ActionCaptureFace,
	StepFaceValidation: ActionCaptureFace, StepDocument: ActionCaptureDocument, StepCip: ActionRegisterPerson, StepCustomer: ActionRegisterPerson,
}
