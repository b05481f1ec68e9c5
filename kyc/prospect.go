package kyc

// ProspectProfile is what Leap is told about a prospect, normalised.
type ProspectProfile struct {
	FirstName      Name
	MiddleName     *Name
	LastName       Name
	SecondLastName *Name
	Phone          PhoneNumber // E.164, as it was given: see [phoneLine]
	Email          *EmailAddress
	Birthdate      *Date
	Gender         *ProspectGender
	Address        PersonalText
	Address2       *PersonalText
	City           string
	State          string // ISO 3166-2 or a short name, as given
	ZipCode        *PersonalText
	Country        string // ISO 3166-1 alpha-2
	BirthState     *string
	Language       *string       // ISO 639-1: en or es
	PlaceDetail    *PersonalText // a JSON object, as text
	Location       *Coordinates  // of the address
	UserLocation   *Coordinates  // of the person when they registered
}

// ProspectGender is a gender as Leap knows it.
type ProspectGender string

// The genders of the contract.
const (
	ProspectMale   ProspectGender = "MALE"
	ProspectFemale ProspectGender = "FEMALE"
	ProspectOther  ProspectGender = "OTHER"
	ProspectNone   ProspectGender = "NONE" // declined to say
)

// Coordinates is a place on earth, WGS 84.
type Coordinates struct{ Latitude, Longitude Degrees }

// Identity is what Leap finds a prospect by: exactly one of the two, because where both are sent Leap ignores
// the phone (dossier A3).
type Identity struct {
	Phone PhoneNumber
	Email EmailAddress
}

// ProspectRequest is a registration at Leap, or a correction of one.
type ProspectRequest struct {
	ID      CustomerID // for the caller's records; Leap has no field for it (dossier A2.1)
	Profile ProspectProfile
}

// ProspectVerdict is what Leap says about a prospect now.
type ProspectVerdict struct {
	UserID string // Leap's id of the person, never empty
	Cip    CipState
	Detail string // Leap's own word for Cip.Detail, code-like; "" when absent
	// Said is false when the answer held neither word, which some tenants' never do (dossier A3): it says only
	// that the person is there.
	Said bool
	// Known is false when a word is none of the documented ones. It is UNKNOWN then and decides nothing.
	Known bool
}

// Codes of a Conflict of Provider.RegisterProspect that say which value the upstream has already.
const (
	CodeDuplicatePhoneAtProvider = "duplicate_phone"
	CodeDuplicateEmailAtProvider = "duplicate_email"
)
