package kyc

import (
	"slices"
	"time"
)

// Process is one biometric or document check of one person at a provider. It may answer at once, later or
// never, costs money each time, and may carry a capture that can be used once.
type Process struct {
	ID        ProcessID
	PartnerID PartnerID
	Kind      ProcessKind
	// Capabilities are what the provider checks, as its key decides; never empty.
	Capabilities []Capability
	// Wanted are those of them that its caller asked for by name; a key that can more makes nobody ask for more.
	Wanted   []Capability
	Provider string
	// ProviderProcessID is the provider's id of it; nil until the provider has answered.
	ProviderProcessID *string
	Submission        Submission
	Status            ProcessStatus
	Result            *ProcessResult // set exactly when Status is COMPLETED
	Failure           *Failure       // set exactly when Status is CANCELED or FAILED
	PersonID          *PersonID      // nil while the document belongs to no person of the partner
	// ReferenceID is the process a 1:1 is compared with, or the one that authorises a document.
	ReferenceID *ProcessID
	UseCase     *string
	Request     ProcessSubject // what is needed to send it again; personal
	// Looks is how often it is still looked at although it was finished at once: for an answer that may come later.
	Looks int

	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt *time.Time
	Version    int // 0: its caller was not answered yet, so nobody may see it
}

// ProcessSubject is who a process is about and what about them is asked, without any capture: captures touch
// no disk.
type ProcessSubject struct {
	DocumentNumber DocumentNumber // eleven digits
	Name           Name           // empty where the kind does not need it
	Email          EmailAddress
	Phone          PhoneNumber

	Purpose            DocumentPurpose // of a document
	ReusableDocumentID string          // instead of files
	// Captured says that it cannot be sent without what was captured for it, which is in memory only.
	Captured bool
}

// KeyOwner is whose key the personal data of a process is encrypted with: its person's, or its own.
func (p *Process) KeyOwner() string {
	if p.PersonID != nil {
		return string(*p.PersonID)
	}
	return string(p.ID)
}

// Owner is the person it is about, and the process itself.
func (p *Process) Owner() (PersonID, string) {
	if p.PersonID != nil {
		return *p.PersonID, string(p.ID)
	}
	return "", string(p.ID)
}

// ProcessKind is what a process is for; each has its own mutation.
type ProcessKind string

// The kinds of the contract.
const (
	KindLiveness             ProcessKind = "LIVENESS"
	KindIdentityVerification ProcessKind = "IDENTITY_VERIFICATION"
	KindFaceValidation       ProcessKind = "FACE_VALIDATION"
	KindDocumentCapture      ProcessKind = "DOCUMENT_CAPTURE"
)

// ProcessKinds lists all, for metrics that exist from the first scrape.
func ProcessKinds() []ProcessKind {
	return []ProcessKind{KindLiveness, KindIdentityVerification, KindFaceValidation, KindDocumentCapture}
}

// Capability is one thing a provider checks within a process.
type Capability string

// The capabilities of the contract.
const (
	CapLiveness             Capability = "LIVENESS"
	CapIdentityVerification Capability = "IDENTITY_VERIFICATION"
	CapFaceValidation       Capability = "FACE_VALIDATION"
	CapFraudProfile         Capability = "FRAUD_PROFILE"
	CapRiskScore            Capability = "RISK_SCORE"
	CapGovernmentSimilarity Capability = "GOVERNMENT_SIMILARITY"
	CapDocumentCapture      Capability = "DOCUMENT_CAPTURE"
)

// Capabilities lists all, in the contract's order.
func Capabilities() []Capability {
	return []Capability{CapLiveness, CapIdentityVerification, CapFaceValidation, CapFraudProfile, CapRiskScore, CapGovernmentSimilarity, CapDocumentCapture}
}

// ProcessStatus is where a process stands.
type ProcessStatus string

// The statuses of the contract; the number is Unico's (dossier 5.1).
const (
	ProcessProcessing ProcessStatus = "PROCESSING" // 1
	ProcessDivergent  ProcessStatus = "DIVERGENT"  // 2: the risk score takes longer; not final
	ProcessCompleted  ProcessStatus = "COMPLETED"  // 3
	ProcessCanceled   ProcessStatus = "CANCELED"   // 4
	ProcessFailed     ProcessStatus = "FAILED"     // 5
)

// OpenStatuses lists the statuses something may still leave.
func OpenStatuses() []ProcessStatus { return []ProcessStatus{ProcessProcessing, ProcessDivergent} }

// Final reports whether nothing leaves this status.
func (s ProcessStatus) Final() bool {
	return s == ProcessCompleted || s == ProcessCanceled || s == ProcessFailed
}

// rank orders the open statuses: a divergence is known later than that the work has begun, and an answer that
// says 1 after one that said 2 is an older answer that came late (ours).
func (s ProcessStatus) rank() int {
	switch {
	case s.Final():
		return 2
	case s == ProcessDivergent:
		return 1
	default:
		return 0
	}
}

// ProcessResult is what a COMPLETED process found. A field is nil when the process was not asked for it, or
// the provider has nothing to say about it.
type ProcessResult struct {
	Liveness     *Liveness
	Identity     *IdentityMatch
	RiskScore    *int // -100 to 100; 0 is a capture or registration error (dossier 5)
	FraudProfile *FraudProfile
	// Authenticated is the answer of a 1:1.
	Authenticated *bool
	// GovernmentSimilarity is 0 to 100. Negative values are signals and no scores: -1, the government has no
	// face of this document; -2, it did not answer.
	GovernmentSimilarity *int
	Document             *CapturedDocument
	TransactionID        *string // of the selfie, not of the process
	PersonName           *Name
	PersonDocument       *DocumentNumber
	PersonImageURL       *PersonalText
	// Decision is the provider's own word on everything together, where it has one. It is not shown: it can only keep a
	// step from passing.
	Decision *Decision
}

// Liveness says whether a living person was before the camera.
type Liveness string

// The answers of the contract.
const (
	LivenessLive    Liveness = "LIVE"
	LivenessNotLive Liveness = "NOT_LIVE"
)

// IdentityMatch says whether the face belongs to the document.
type IdentityMatch string

// The answers of the contract.
const (
	IdentityYes          IdentityMatch = "YES"
	IdentityNo           IdentityMatch = "NO"
	IdentityInconclusive IdentityMatch = "INCONCLUSIVE"
)

// FraudProfile says whether the face is known for fraud. There is no word for "clear": the provider has none.
type FraudProfile string

// The answers of the contract. UNKNOWN is a word of the provider's that we do not know; it is never "clear".
const (
	FraudYes          FraudProfile = "YES"
	FraudInconclusive FraudProfile = "INCONCLUSIVE"
	FraudUnknown      FraudProfile = "UNKNOWN"
)

// Decision is what a provider makes of all it found (unico dossier 5, idCloud).
type Decision string

// The decisions. UNKNOWN is a word of the provider's that we do not know.
const (
	DecisionApproved     Decision = "APPROVED"
	DecisionDenied       Decision = "DENIED"
	DecisionInconclusive Decision = "INCONCLUSIVE"
	DecisionUnknown      Decision = "UNKNOWN"
)

// CapturedDocument is what a document process read.
type CapturedDocument struct {
	ID        string
	Type      *string // the provider's classification, e.g. "unico.moja.dictionary.br.rg.v2.Rg"
	CpfMatch  *bool
	FaceMatch *bool
	// FaceMatchUnknown says that there was an answer to it which nobody can read.
	FaceMatchUnknown bool
	Content          *PersonalJSON  // as the provider read it; keys depend on Type
	FileUrls         []PersonalText // signed; whoever has one sees the document
	// FileUrlsExpireAt is ten minutes after the provider signed them (dossier 8.2).
	FileUrlsExpireAt *time.Time
}

// Failure is why a process is FAILED or CANCELED, and whether a new attempt makes sense.
type Failure struct {
	Code       FailureCode
	Message    string
	Retryable  bool
	NextAction *NextActionKind
}

// FailureCode is the closed set of reasons.
type FailureCode string

// The codes. Those that are also a UserErrorCode mean the same as there.
const (
	FailureNeedsNewCapture FailureCode = "NEEDS_NEW_CAPTURE" // the capture is spent, expired or gone
	FailureImageRejected   FailureCode = "IMAGE_REJECTED"
	FailureRejected        FailureCode = "PROVIDER_REJECTED" // the provider refused the data
	FailureProviderError   FailureCode = "PROVIDER_ERROR"    // its processing failed, more than once where we could repeat
	FailureCanceled        FailureCode = "CANCELED"          // the provider saw its request cut off
	FailureOutcomeUnknown  FailureCode = "OUTCOME_UNKNOWN"   // nobody can say whether the provider has it
)

// failures says everything about each code that does not depend on the case.
var failures = map[FailureCode]Failure{
	FailureNeedsNewCapture: {Message: "the capture cannot be used again: take a new one and start a new process", Retryable: true, NextAction: new(ActionNewCapture)},
	FailureImageRejected:   {Message: "the provider refused the image: take a better one and start a new process", Retryable: true, NextAction: new(ActionNewCapture)},
	FailureRejected:        {Message: "the provider refused the data: correct it and start a new process", NextAction: new(ActionCorrectData)},
	FailureProviderError:   {Message: "the provider could not process it: start a new process", Retryable: true, NextAction: new(ActionRetry)},
	FailureCanceled:        {Message: "the provider saw the request cut off before it was processed: start a new process", Retryable: true, NextAction: new(ActionRetry)},
	FailureOutcomeUnknown:  {Message: "the provider did not answer and cannot be asked: start a new process", Retryable: true, NextAction: new(ActionRetry)},
}

// NewFailure builds the failure of a code.
func NewFailure(code FailureCode) *Failure {
	f := failures[code]
	f.Code = code
	return &f
}

// DocumentPurpose is what a document is captured for.
type DocumentPurpose string

// The purposes of the contract.
const (
	PurposeCreditProcess DocumentPurpose = "CREDIT_PROCESS"
	PurposeCarPurchase   DocumentPurpose = "CAR_PURCHASE"
	PurposePayByPaycheck DocumentPurpose = "PAY_BY_PAYCHECK"
	PurposeOnboarding    DocumentPurpose = "ONBOARDING"
	PurposeFGTS          DocumentPurpose = "FGTS"
)

// ReusableDocument is a document the provider has of a person already.
type ReusableDocument struct {
	DocumentID   string
	DocumentType string // the provider's word
}

// ReusableDocumentType narrows the look-up of reusable documents.
type ReusableDocumentType string

// The types of the contract.
const (
	ReusableCPF      ReusableDocumentType = "BR_CPF"
	ReusableRG       ReusableDocumentType = "BR_RG"
	ReusableCNH      ReusableDocumentType = "BR_CNH"
	ReusableCIN      ReusableDocumentType = "BR_CIN"
	ReusablePassport ReusableDocumentType = "BR_PASSPORT"
)

// ProviderAttempt is one call that may have been billed (schema: ProviderAttempt).
type ProviderAttempt struct {
	Number       int
	StartedAt    time.Time
	EndedAt      *time.Time
	Outcome      AttemptOutcome
	ProviderCode *string
	DurationMs   *int
}

// AttemptOutcome is what became of an attempt.
type AttemptOutcome string

// The outcomes of the contract.
const (
	AttemptSucceeded   AttemptOutcome = "SUCCEEDED"
	AttemptRejected    AttemptOutcome = "REJECTED"
	AttemptUnavailable AttemptOutcome = "UNAVAILABLE" // it never left
	AttemptTimedOut    AttemptOutcome = "TIMED_OUT"   // it never left either: connecting took too long
	AttemptAmbiguous   AttemptOutcome = "AMBIGUOUS"
	AttemptInFlight    AttemptOutcome = "IN_FLIGHT"
)

// ProcessVerdict is what a provider says about a process now.
type ProcessVerdict struct {
	ProviderProcessID string
	Status            ProcessStatus
	Known             bool // false: the provider used a word we do not know; Status is then PROCESSING
	Unclear           bool // the result holds a word we do not know
	// Late says that what its caller asked for is missing and may come yet: the process stays open.
	Late bool
	// Result is used only when Status is COMPLETED: results of an unfinished process mean nothing.
	Result *ProcessResult
	// Failure is why, when Status is CANCELED or FAILED; the zero code is PROVIDER_ERROR or CANCELED.
	Failure FailureCode
}

// Apply is the one place a process changes its status; it reports whether anything changed. Nothing leaves
// COMPLETED, CANCELED or FAILED: a late, repeated or reordered verdict is a no-op. Among open statuses only
// PROCESSING may become DIVERGENT. A verdict about another process of the provider's is none of ours.
// MUST: TestProcessNeverStepsBack.
func (p *Process) Apply(v ProcessVerdict, now time.Time) bool {
	if p.Status.Final() {
		return false
	}
	id := CodeLike(v.ProviderProcessID)
	if p.ProviderProcessID != nil && id != "" && id != *p.ProviderProcessID {
		return false
	}
	changed := p.Submission != SubmissionAccepted && p.Submission != SubmissionRefused && v.ProviderProcessID != ""
	if changed {
		p.Submission = SubmissionAccepted
	}
	if p.ProviderProcessID == nil && id != "" {
		p.ProviderProcessID, changed = &id, true
	}
	status := v.Status
	if v.Late || !v.Known && !status.Final() {
		status = p.Status // an unknown word leaves it where it was
	}
	if status.rank() > p.Status.rank() {
		p.Status, changed = status, true
	}
	switch p.Status {
	case ProcessCompleted:
		p.Result = v.Result.of(p.Capabilities)
	case ProcessCanceled:
		p.Failure = NewFailure(orDefault(v.Failure, FailureCanceled))
	case ProcessFailed:
		p.Failure = NewFailure(orDefault(v.Failure, FailureProviderError))
	case ProcessProcessing, ProcessDivergent:
	}
	if p.Status.Final() {
		p.FinishedAt = &now
	}
	if changed {
		p.UpdatedAt = now
		if p.Version > 0 {
			p.Version++
		}
	}
	return changed
}

// Fail ends a process that the provider will not end: through Apply, like everything else.
func (p *Process) Fail(code FailureCode, now time.Time) bool {
	return p.Apply(ProcessVerdict{Status: ProcessFailed, Known: true, Failure: code}, now)
}

func orDefault[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}

// of gives what of a result a process with these capabilities may show. The rules are the documents':
//
//   - without the liveness capability `liveness` is 1 with no check at all (dossier 5.2), which would read as
//     LIVE, so it is dropped;
//   - only an inconclusive identity goes on to the risk score, never a yes or a no (5.4, 05);
//   - a fraud hit stops the derivation to the score (5.4, 07);
//   - a selfie that is not live is final without a score (5.4, 05).
func (r *ProcessResult) of(capabilities []Capability) *ProcessResult {
	if r == nil {
		return &ProcessResult{}
	}
	out := *r
	if !slices.Contains(capabilities, CapLiveness) {
		out.Liveness = nil
	}
	decided := out.Identity != nil && *out.Identity != IdentityInconclusive
	fraud := out.FraudProfile != nil && *out.FraudProfile == FraudYes
	dead := out.Liveness != nil && *out.Liveness == LivenessNotLive
	if decided || fraud || dead {
		out.RiskScore = nil
	}
	return &out
}

// lacksFraud reports whether a result is without the word on fraud that the caller asked for. An identity of no never
// gets one and needs none (dossier 5.4).
func (p *Process) lacksFraud(r *ProcessResult) bool {
	if !slices.Contains(p.Wanted, CapFraudProfile) {
		return false
	}
	return r == nil || r.FraudProfile == nil && (r.Identity == nil || *r.Identity != IdentityNo)
}

// biometry reports whether a process ended in a yes that another may build on: a 1:1 or a document. What it
// says nothing about does not speak against it, but for a 1:1 that does not say whether it matched.
func (p *Process) biometry() bool {
	if p.Status != ProcessCompleted || p.Result == nil || p.Kind == KindDocumentCapture {
		return false
	}
	r := p.Result
	switch {
	case p.Kind == KindFaceValidation && r.Authenticated == nil:
		return false
	case r.Liveness != nil && *r.Liveness == LivenessNotLive, r.Identity != nil && *r.Identity == IdentityNo,
		r.Authenticated != nil && !*r.Authenticated, r.FraudProfile != nil && *r.FraudProfile == FraudYes,
		r.Decision != nil && *r.Decision == DecisionDenied:
		return false
	default:
		return true
	}
}

// allowsReuse reports whether a stored document may be reused under this process: identity yes, or a risk
// score of at least 50; otherwise the document must be captured (dossier 4.3).
func (p *Process) allowsReuse() bool {
	r := p.Result
	return r != nil && (r.Identity != nil && *r.Identity == IdentityYes || r.RiskScore != nil && *r.RiskScore >= 50)
}

// IsNode marks Process as a Node.
func (*Process) IsNode() {}
