package kyc

import "time"

// FaceRegistration is one face that QI Tech holds for 1:1 comparison (schema: FaceRegistration). It belongs to
// the partner's person with its document when there is one and stands alone when there is none. A document may
// have several; which one a comparison uses is QI Tech's, and its look-up by document answers the newest.
type FaceRegistration struct {
	ID        FaceID
	PartnerID PartnerID
	Provider  string
	// RegistrationKey is the provider's key of it; empty until State is REGISTERED.
	RegistrationKey string
	// PersonID is whose it is; empty while no person of the partner has the document.
	PersonID PersonID
	// DocumentNumber is empty for a face that was found by its key: QI Tech does not say whose it is.
	DocumentNumber DocumentNumber
	Source         FaceImageSource
	State          FaceState
	// Before is what the look-up by document answered before the call left, "" for nothing. A key that is neither
	// this nor one we know can only have come from our call.
	Before string
	// LateSince is from when the provider may still be at work with nobody waiting for its answer: the time of sending while
	// the call is under way, its end once it has timed out, zero when it ended in another way. A look-up that finds nothing
	// proves nothing before Cadence.HoldAmbiguous has passed.
	LateSince time.Time
	// Request is a digest of what was asked, for as long as nobody was answered this face: the same request is then
	// its repeat, with an idempotency key or without. It is kept encrypted.
	Request   []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

// IsNode marks FaceRegistration as a Node.
func (*FaceRegistration) IsNode() {}

// FaceImageSource says what a face was registered from.
type FaceImageSource string

// The sources of the contract, and one more.
const (
	FaceFromImageKey FaceImageSource = "IMAGE_KEY"
	FaceFromImage    FaceImageSource = "IMAGE"
	// FaceFromElsewhere is a face somebody else registered and we found: nobody told us from what (ours).
	FaceFromElsewhere FaceImageSource = "ELSEWHERE"
)

// FaceState is what we know about the provider having a face. Only a registered one is ever shown. There is
// none for a call that was refused or never left: it leaves no row.
type FaceState string

// The states.
const (
	FaceSent       FaceState = "SENT"       // the call is under way
	FaceAmbiguous  FaceState = "AMBIGUOUS"  // it ended without an answer: look it up, send nothing
	FaceRegistered FaceState = "REGISTERED" // it is there, under RegistrationKey
)

// codeFraud is the Code of a provider's word that a face is a fraud: an explicit no, and nothing is registered here.
const codeFraud = "fraud"

// imageQuality is the Code of a provider's refusal of a picture; its own word may follow behind a dot.
const imageQuality = "image_quality"

// imageQualityMessages are sentences for the words of QI Tech (dossier A.8), in both spellings where the
// documents have two.
var imageQualityMessages = map[string]string{
	"no_faces":            "shows no face; take the picture again with the face in the middle",
	"multiple_faces":      "shows more than one face; take it with one person alone",
	"close_face":          "shows the face too close; hold the camera further away",
	"distant_face":        "shows the face too small; hold the camera closer",
	"not_centered":        "does not show the face in the middle; centre it and take the picture again",
	"not_center":          "does not show the face in the middle; centre it and take the picture again",
	"inclined_face":       "shows the face inclined; look straight at the camera, head upright",
	"wearing_acessories":  "shows something that covers the face; take off glasses, hat or mask",
	"wearing_accessories": "shows something that covers the face; take off glasses, hat or mask",
	"facial_expression":   "must show a neutral face: eyes open, mouth closed",
	"brightness_problem":  "is too dark or too bright; take it in even light",
	"sharpness_problem":   "is not sharp; hold the camera still and take it again",
}
