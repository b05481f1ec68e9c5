package kyc

// NextAction is what has to happen next, and by whom (schema: NextAction). Message is for people, in English, and
// holds no personal data.
type NextAction struct {
	Kind    NextActionKind
	Step    *StepKind
	Message string
}

// NextActionKind is what has to happen next.
type NextActionKind string

// The kinds of the contract.
const (
	ActionRegisterPerson  NextActionKind = "REGISTER_PERSON"
	ActionCaptureFace     NextActionKind = "CAPTURE_FACE"
	ActionNewCapture      NextActionKind = "NEW_CAPTURE"
	ActionCaptureDocument NextActionKind = "CAPTURE_DOCUMENT"
	ActionCorrectData     NextActionKind = "CORRECT_DATA"
	ActionAcceptTerms     NextActionKind = "ACCEPT_TERMS"
	ActionWait            NextActionKind = "WAIT"
	ActionRetry           NextActionKind = "RETRY"
	ActionContactSupport  NextActionKind = "CONTACT_SUPPORT"
	ActionActivateAccount NextActionKind = "ACTIVATE_ACCOUNT"
)

// StepKind is a step of an onboarding.
type StepKind string

// The steps of the contract.
const (
	StepPerson         StepKind = "PERSON"
	StepFace           StepKind = "FACE"
	StepLiveness       StepKind = "LIVENESS"
	StepIdentity       StepKind = "IDENTITY"
	StepFaceValidation StepKind = "FACE_VALIDATION"
	StepDocument       StepKind = "DOCUMENT"
	StepCip            StepKind = "CIP"
	StepCustomer       StepKind = "CUSTOMER"
)
