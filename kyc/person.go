package kyc

import (
	"reflect"
	"time"
)

// Person is a natural person of one partner; one CPF is one person of it (dossier C1, C22).
type Person struct {
	ID        PersonID
	PartnerID PartnerID

	Profile

	SourceKyc SourceKyc
	Kyc       KycReview
	// LatestAnalysis is the analysis Kyc speaks of; empty when none was ever opened. A verdict on an older
	// analysis never changes Kyc.
	LatestAnalysis AnalysisID

	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int // 0: no registration was accepted yet, so nobody may see it
}

// Profile is what a registration tells about a person, normalised. A person's own is that of all accepted
// registrations laid over each other in the order they were received.
type Profile struct {
	Name              Name
	DocumentNumber    DocumentNumber // eleven digits
	Birthdate         Date
	Emails            []Email
	Phones            []Phone
	Address           Address
	Gender            *Gender
	Nationality       *string
	MonthlyIncome     *Cents
	Occupation        *PersonalText
	MotherName        *Name
	FatherName        *Name
	FaceRecognitionID *UUID
	SessionID         *UUID
	IPAddress         *PersonalText
	DeviceFingerprint *PersonalText
}

// merge lays a newer profile over an older one: required fields, arrays and the address are replaced
// as wholes, optional scalars keep their value when the newer one is silent (dossier C25).
func (p Profile) merge(newer Profile) Profile {
	newer.Gender = firstOf(newer.Gender, p.Gender)
	newer.Nationality = firstOf(newer.Nationality, p.Nationality)
	newer.MonthlyIncome = firstOf(newer.MonthlyIncome, p.MonthlyIncome)
	newer.Occupation = firstOf(newer.Occupation, p.Occupation)
	newer.MotherName = firstOf(newer.MotherName, p.MotherName)
	newer.FatherName = firstOf(newer.FatherName, p.FatherName)
	newer.FaceRecognitionID = firstOf(newer.FaceRecognitionID, p.FaceRecognitionID)
	newer.SessionID = firstOf(newer.SessionID, p.SessionID)
	newer.IPAddress = firstOf(newer.IPAddress, p.IPAddress)
	newer.DeviceFingerprint = firstOf(newer.DeviceFingerprint, p.DeviceFingerprint)
	return newer
}

// asked is the profile an analysis is asked about: everything known, but the device session and address of
// this registration only. Those of an earlier session say nothing about this one.
func (p Profile) asked(own Profile) Profile {
	out := p.merge(own)
	out.SessionID, out.IPAddress, out.DeviceFingerprint = own.SessionID, own.IPAddress, own.DeviceFingerprint
	return out
}

// fold lays profiles over each other, oldest first.
func fold(profiles []Profile) Profile {
	var out Profile
	for _, p := range profiles {
		out = out.merge(p)
	}
	return out
}

// over lays p over a profile that is older than something p is made of. certain is false when both have a value for an
// optional field and the values differ: then only what was received in between can tell which one counts.
func (p Profile) over(older Profile) (out Profile, certain bool) {
	out = older.merge(p)
	other := p.merge(older) // where they differ, this has the older value
	other.Name, other.DocumentNumber, other.Birthdate = out.Name, out.DocumentNumber, out.Birthdate
	other.Emails, other.Phones, other.Address = out.Emails, out.Phones, out.Address
	return out, reflect.DeepEqual(out, other)
}

func firstOf[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// Email is an e-mail address of a person.
type Email struct{ Address EmailAddress }

// Phone is a phone of a person, in E.164.
type Phone struct {
	Number PhoneNumber
	Type   *PhoneType
}

// Address is a postal address. Street, number, complement, neighborhood and postal code are masked;
// city, state and country are not.
type Address struct {
	Street       PersonalText
	Number       *PersonalText
	Complement   *PersonalText
	Neighborhood *PersonalText
	City         string
	State        string
	PostalCode   PersonalText
	Country      string // ISO 3166-1 alpha-3
}

// Gender is as declared by the person.
type Gender string

// The genders of the contract.
const (
	GenderMale   Gender = "MALE"
	GenderFemale Gender = "FEMALE"
	GenderOther  Gender = "OTHER"
)

// PhoneType is the kind of a line.
type PhoneType string

// The phone types of the contract.
const (
	PhoneMobile      PhoneType = "MOBILE"
	PhoneResidential PhoneType = "RESIDENTIAL"
	PhoneCommercial  PhoneType = "COMMERCIAL"
)

// SourceKyc says who decides a person's KYC. It comes from the partner's configuration, never from the
// caller (dossier C3).
type SourceKyc string

// The sources of the contract.
const (
	SourceOpenco SourceKyc = "OPENCO"
	SourceQitech SourceKyc = "QITECH"
)

// KycStatus is where a person's KYC stands.
type KycStatus string

// The statuses of the contract. Only APPROVED and REJECTED are final.
const (
	KycNotRequired KycStatus = "NOT_REQUIRED"
	KycPending     KycStatus = "PENDING"
	KycInReview    KycStatus = "IN_REVIEW"
	KycApproved    KycStatus = "APPROVED"
	KycRejected    KycStatus = "REJECTED"
)

// Final reports whether nothing leaves this status.
func (s KycStatus) Final() bool { return s == KycApproved || s == KycRejected }

// DecidedBy says who took a decision.
type DecidedBy string

// The deciders of the contract.
const (
	DecidedAutomatic DecidedBy = "AUTOMATIC"
	DecidedManual    DecidedBy = "MANUAL"
)

// KycReview is the decision of the newest analysis.
type KycReview struct {
	Status         KycStatus
	ProviderStatus *string
	Reason         *string
	DecidedBy      *DecidedBy
	DecidedAt      *time.Time
	Analyses       int // analyses ever opened for the person
}

// ExternalID is an id the partner gave to a person; ids accumulate and all stay valid (dossier C15).
type ExternalID struct {
	Value    string
	MappedAt time.Time
}

// Registration is the snapshot of one registration: what was received, to the letter, next to its
// normalised form (dossier C24). Only its Outcome ever changes, once.
type Registration struct {
	ID         RegistrationID
	PartnerID  PartnerID
	PersonID   PersonID
	ExternalID *string
	Payload    JSON
	Profile    Profile // what this registration told, and nothing of earlier ones
	ReceivedAt time.Time
	// Outcome is "" until the registration is accepted: until its caller, or the provider, has been answered.
	Outcome RegistrationOutcome
}

// RegistrationOutcome says whether a registration made a person.
type RegistrationOutcome string

// The outcomes of the contract.
const (
	OutcomeCreated RegistrationOutcome = "CREATED"
	OutcomeUpdated RegistrationOutcome = "UPDATED"
)
