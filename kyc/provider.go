package kyc

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// An Op is one call to an upstream. It fails with *Error, whose Kind decides what happens next:
//
//	Rejected     an explicit refusal of the data; Code and perhaps Path say which
//	Conflict     the upstream has this id already: look it up
//	NotFound     a look-up found nothing
//	Unavailable  nothing left this machine: try again
//	Ambiguous    something may have left and no readable answer came: look it up, never repeat blindly
//	RateLimited  come back at RetryAfter
//	Credentials  our key is refused: the operator must act, try again slowly
//	Refused      our own guard did not let it leave; RetryAfter says when it may
//	Internal     we spoke wrongly: trying again cannot help
type Op[In, Out any] func(ctx context.Context, in In) (Out, error)

// Provider is one upstream KYC service. A nil slot is a capability it does not offer. The guard wraps
// every slot once; fakes are struct literals.
type Provider struct {
	Name        string // as in metrics and configuration: "qitech"
	DisplayName string // for people: "QI Tech"

	// Prepare waits until what every call needs is there, an access token above all, or ctx ends. The guard asks for it
	// before it counts a departure: calls that waited inside would leave together. Whether it failed the call itself finds
	// out. Nil when nothing is needed.
	Prepare func(ctx context.Context)

	// AnalyzePerson opens an analysis under the id we chose. The upstream MUST refuse a second one under
	// the same id with Conflict; that is what makes a repeat after a look-up safe.
	AnalyzePerson Op[PersonAnalysisRequest, Verdict]
	// FetchPersonAnalysis reads an analysis by the id we chose; NotFound when the upstream has none.
	FetchPersonAnalysis Op[AnalysisID, Verdict]

	// RegisterProspect asks for the registration of a prospect, which goes on in the upstream's background. The
	// upstream MUST refuse a phone or an e-mail address it has already with Conflict; that is what makes a repeat after
	// a look-up safe. Code says which: CodeDuplicatePhoneAtProvider, CodeDuplicateEmailAtProvider, or anything else.
	RegisterProspect Op[ProspectRequest, ProspectVerdict]
	// FetchProspect reads where a prospect stands; NotFound when the upstream knows nobody by that identity.
	FetchProspect Op[Identity, ProspectVerdict]
	// UpdateProspect sends corrected data of a prospect the upstream has.
	UpdateProspect Op[ProspectRequest, ProspectVerdict]
	// FetchCategoryHierarchy reads the categories of customers that a tenant offers.
	FetchCategoryHierarchy Op[Tenant, CategoryHierarchy]
	// RegisterCustomer makes a customer. The upstream SHOULD refuse a second one with the same e-mail address in a tenant with
	// Conflict; Code says what it is about: CodeDuplicatePhoneAtProvider, CodeDuplicateEmailAtProvider, or something else.
	RegisterCustomer Op[CustomerRegistration, CustomerVerdict]
	// FindCustomer looks a customer up by e-mail address. NotFound MUST mean that the upstream said in so many words that the
	// tenant has none: it makes us send a registration again.
	FindCustomer Op[CustomerSearch, FoundCustomer]
	// StartVerification opens the verification of a customer. Each one may be billed.
	StartVerification Op[VerificationRequest, VerificationVerdict]
	// AcceptConsent records that the customer consented. Doing it twice does no harm.
	AcceptConsent Op[ConsentRequest, ConsentVerdict]
	// CheckActivation tells what still stands between a customer and the active account.
	CheckActivation Op[CustomerReference, ActivationCheck]
	// ActivateCustomer activates the account with the code the customer was sent.
	ActivateCustomer Op[ActivationRequest, CustomerVerdict]
	// CreateProcess starts a biometric or document check. It is NOT idempotent and may carry a capture that can
	// be used once: it MUST make at most one request that carries one, and MUST fail with Ambiguous whenever it
	// cannot tell whether that request was taken.
	CreateProcess Op[ProcessRequest, ProcessVerdict]
	// FetchProcess reads a process by the provider's id.
	FetchProcess Op[ProcessReference, ProcessVerdict]
	// ReusableDocuments lists the documents the provider has of a person already; none is an empty list.
	ReusableDocuments Op[ReusableDocumentsRequest, []ReusableDocument]
	// ProcessCapabilities tells what a process of this kind would check when these are wanted, and ok = false
	// when the provider cannot do all of them at once. It asks nobody. MUST be set when CreateProcess is.
	ProcessCapabilities func(kind ProcessKind, wanted []Capability) (offered []Capability, ok bool)
	// ProcessImages is what CreateProcess takes of a picture.
	ProcessImages ImageLimits

	// RegisterFace registers one more face under a document. No upstream refuses a repeat, so it MUST be called
	// once for each recorded attempt and an ambiguous one looked up with FetchFaceByDocument. A refusal of the
	// picture is Rejected with the Code image_quality or image_quality.<the upstream's word>, and a face that the upstream
	// calls a fraud with the Code fraud.
	RegisterFace Op[FaceRequest, FaceReference]
	// FetchFace reads a registration by the upstream's key; NotFound when there is none.
	FetchFace Op[string, FaceReference]
	// FetchFaceByDocument gives the newest registration of a document; NotFound when there is none.
	FetchFaceByDocument Op[DocumentNumber, FaceReference]
	// FaceImages is what RegisterFace takes of a picture.
	FaceImages ImageLimits

	// ParseCallback verifies and reads a webhook. A callback is a hint: only its reference is used, and the
	// upstream is asked. It fails with Unauthenticated when the signature is wrong and with Invalid when the
	// body cannot be read.
	ParseCallback func(method string, header http.Header, body []byte) (Callback, error)
}

// PersonAnalysisRequest is what an analysis is asked about.
type PersonAnalysisRequest struct {
	ID           AnalysisID
	PersonID     PersonID // stays the same over several analyses of one person
	RegisteredAt time.Time
	Profile      Profile
}

// ProcessRequest is what a process is asked about.
type ProcessRequest struct {
	ID           ProcessID
	Kind         ProcessKind
	Capabilities []Capability // as ProcessCapabilities offered them
	Subject      ProcessSubject
	UseCase      string
	Capture      Capture
	// ReferenceProcessID is the provider's id of the process a 1:1 is compared with, or that authorises a document.
	ReferenceProcessID string
}

// Capture is what was captured for one process. It lives in memory only and does not print. At most one of
// Image and SDKToken is set.
type Capture struct {
	Image    *Image        // the selfie
	SDKToken *PersonalText // the same, encrypted by the provider's SDK; single use
	Files    []Image       // of a document: one whole, or front and back
}

// Empty reports whether nothing was captured.
func (c Capture) Empty() bool { return c.Image == nil && c.SDKToken == nil && len(c.Files) == 0 }

// SingleUse reports whether the provider takes this capture only once.
func (c Capture) SingleUse() bool { return c.SDKToken != nil }

// ProcessReference names a process at the provider.
type ProcessReference struct {
	ProviderProcessID string
	Kind              ProcessKind
	Capabilities      []Capability // of the process; they say which key it was made with
}

// ReusableDocumentsRequest asks for the documents of a person.
type ReusableDocumentsRequest struct {
	DocumentNumber DocumentNumber
	Type           ReusableDocumentType // "" is any
}

// FaceRequest is one face to register: exactly one of ImageKey, a picture the upstream has already, and Image.
type FaceRequest struct {
	Document DocumentNumber // eleven digits
	ImageKey *UUID
	Image    *Image
}

// FaceReference is what an upstream knows a registered face by.
type FaceReference struct {
	Key string // the upstream's registration key: a UUID, or code-like
	// Document is whose face it is, where the upstream says so; QI Tech's current API does not.
	Document DocumentNumber
	// Fraud is the upstream's word that the face is a fraud. Of a look-up only: RegisterFace fails with Rejected.
	Fraud bool
}

// Callback is a verified webhook.
type Callback struct {
	Reference string // what it is about, by our id or the provider's; not yet known to be ours
	// DedupeKey is equal for repeats of one delivery. It holds no personal data.
	DedupeKey string
}

// RetryHint is how long to wait before a call may leave again; zero means "no hint".
type RetryHint time.Duration

// RetryAfter extracts the hint of an error.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return time.Duration(e.RetryAfter)
	}
	return 0
}

// BreakerState is the state of a circuit breaker.
type BreakerState string

// The states of the contract.
const (
	BreakerClosed   BreakerState = "CLOSED"
	BreakerHalfOpen BreakerState = "HALF_OPEN"
	BreakerOpen     BreakerState = "OPEN"
)

// ProviderHealth is a provider as this instance sees it (schema: Provider).
type ProviderHealth struct {
	Name        string
	DisplayName string
	Operations  []OperationHealth
}

// OperationHealth is one operation; Requests, SuccessRate and LatencyMs cover the last five minutes.
type OperationHealth struct {
	Name        string
	Breaker     BreakerState
	InFlight    int
	Requests    int
	SuccessRate *float64
	LatencyMs   *LatencyMs
	OpenedAt    *time.Time
	RetryAt     *time.Time
}

// LatencyMs holds latency quantiles in milliseconds.
type LatencyMs struct{ P50, P95, P99 float64 }
