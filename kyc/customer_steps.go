package kyc

import "time"

// CustomerSteps is the way of a FinHub customer to an active account (dossier B10): a verification that is
// approved, three consents, the activation. It holds no personal data.
type CustomerSteps struct {
	Verification *CustomerVerification
	Consents     []CustomerConsent // those that were asked to be accepted, in that order
	// Missing are the consents FinHub still waits for, when it said so; nil when it never did. One that it has taken since is off it.
	Missing []ConsentType
	// The last activation check (dossier B8).
	VerificationOK bool
	ConsentOK      bool
	// Denied: FinHub said that everything is there and that it does not allow the activation. Prohibited: the risk forbids it.
	Denied      bool
	Prohibited  bool
	ActivatedAt *time.Time
	// Activation is that of an activation under way: PLANNED, SENT or AMBIGUOUS; "" for none.
	Activation Submission
	Looks      int // checks since then that were answered, and said that it is not active
	// ActivationLost: nobody ever saw what became of the last activation. A check that allows none then may mean that it worked.
	ActivationLost bool

	// Attempts is how often the registration was sent. GaveUp: its caller was told to register again while the call was
	// still under way. Unclaimed: the customer was accepted and no caller was told; who registers again with the same data is.
	Attempts  int
	GaveUp    bool
	Unclaimed bool
	// Contested: the end of a registration is unknown, and FinHub refused its repeat as a duplicate without showing of what.
	Contested bool
}

// giveUpUnknown counts an answered check, after what it said was applied, and frees the caller to repeat a step whose call
// had an unknown end and of which FinHub shows nothing (figures ours). MUST: TestUnknownStepsAreGivenUp.
func (s *CustomerSteps) giveUpUnknown(now time.Time) {
	if v := s.Verification; v != nil && v.Submission != SubmissionAccepted && now.Sub(v.StartedAt) > ambiguousCustomerFor {
		s.Verification = nil
	}
	if s.Activation == "" {
		s.Looks = 0
		return
	}
	if s.Looks++; s.Looks == activationLooks {
		s.Activation, s.Looks, s.ActivationLost = "", 0, true
	}
}

// activationLooks is how many checks have to say that a customer is not active.
const activationLooks = 3

// CustomerVerification is the verification FinHub makes of a customer (dossier B5).
type CustomerVerification struct {
	ProviderID        string // code-like
	ProviderStatus    string // FinHub's word, code-like
	State             VerificationState
	Type              string // IDENTITY_VERIFICATION
	Level             string // TENANT_VERIFIED
	RequiredDocuments []string
	Submission        Submission
	StartedAt         time.Time
}

// VerificationState is what FinHub's word means.
type VerificationState string

// The states. Unknown words are OPEN.
const (
	VerificationOpen      VerificationState = "OPEN"      // somebody at FinHub, or a machine, is at it
	VerificationDocuments VerificationState = "DOCUMENTS" // FinHub waits for documents
	VerificationApproved  VerificationState = "APPROVED"
	VerificationRejected  VerificationState = "REJECTED"
)

// Final reports whether nothing leaves this state.
func (s VerificationState) Final() bool {
	return s == VerificationApproved || s == VerificationRejected
}

// ConsentType is what a customer consents to (schema: ConsentType).
type ConsentType string

// The three consents of dossier B7, in the order FinHub wants them.
const (
	ConsentTerms          ConsentType = "TERMS"
	ConsentPrivacy        ConsentType = "PRIVACY"
	ConsentDataProcessing ConsentType = "DATA_PROCESSING"
)

// ConsentTypes lists the three in the order FinHub wants them.
func ConsentTypes() []ConsentType {
	return []ConsentType{ConsentTerms, ConsentPrivacy, ConsentDataProcessing}
}

// CustomerConsent is one consent as it was given.
type CustomerConsent struct {
	Type       ConsentType
	Version    string
	GivenAt    time.Time // when we were told
	Submission Submission
	// Accepted: FinHub said so. Its newest documentation answers PENDING to an acceptance; then the activation check
	// says when it counts (dossier B7, B13).
	Accepted bool
}
