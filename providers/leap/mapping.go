package leap

import (
	"regexp"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// wireProspect maps a profile to the body of a registration (dossier A2.1).
func wireProspect(p kyc.ProspectProfile) user {
	u := user{
		PhoneNumber: p.Phone.Reveal(), Email: reveal(p.Email),
		FirstName: p.FirstName.Reveal(), MiddleName: reveal(p.MiddleName), LastName: p.LastName.Reveal(), LastName2: reveal(p.SecondLastName),
		DOB:      reveal(p.Birthdate), // the date-only form; which zone a date-time would mean is not documented (dossier A11.5)
		Address1: p.Address.Reveal(), Address2: reveal(p.Address2), CountryCode: p.Country, City: p.City, State: p.State, ZipCode: reveal(p.ZipCode),
		BirthState: orEmpty(p.BirthState), Lang: orEmpty(p.Language), PlaceDetail: reveal(p.PlaceDetail),
	}
	if p.Gender != nil {
		u.Gender = genders[*p.Gender]
	}
	u.Latitude, u.Longitude = coordinates(p.Location)
	u.CallLocationLatitude, u.CallLocationLongitude = coordinates(p.UserLocation)
	return u
}

var genders = map[kyc.ProspectGender]string{
	kyc.ProspectMale: "Male", kyc.ProspectFemale: "Female", kyc.ProspectOther: "Other", kyc.ProspectNone: "None",
}

func coordinates(c *kyc.Coordinates) (latitude, longitude *float64) {
	if c == nil {
		return nil, nil
	}
	return new(c.Latitude.Reveal()), new(c.Longitude.Reveal())
}

// wireIdentity sends one identity only: where there are two Leap ignores the phone (dossier A3).
func wireIdentity(id kyc.Identity) identity {
	if id.Phone.Empty() {
		return identity{Email: id.Email.Reveal()}
	}
	return identity{PhoneNumber: id.Phone.Reveal(), CountryCode: countryOf(id.Phone.Reveal())}
}

// countryOf is the country of a number, which is what countryCode has to align with (dossier A3). For a number no plan
// knows as assigned it is the main country of its code.
func countryOf(phone string) string {
	n, err := phonenumbers.Parse(phone, "ZZ")
	if err != nil { // cannot be: it was normalised
		return ""
	}
	if region := phonenumbers.GetRegionCodeForNumber(n); len(region) == 2 && region != "ZZ" {
		return region
	}
	if region := phonenumbers.GetRegionCodeForCountryCode(int(n.GetCountryCode())); len(region) == 2 && region != "ZZ" {
		return region
	}
	return ""
}

func reveal[T interface{ Reveal() string }](v *T) string {
	if v == nil {
		return ""
	}
	return (*v).Reveal()
}

func orEmpty(v *string) string {
	if v == nil {
		return ""
	}
	return *v
}

// userID is what an id may look like. Documented examples are 28 letters and digits (dossier A2.3); the bound is ours,
// and keeps an address, a name or a phone number from being taken for one.
var userID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

func isUserID(s string) bool { return userID.MatchString(s) }

// statuses and details are those of dossier A4, to the letter (InvalidEMail). Anything else, Leap's own example
// OnProcess among them, is unknown and decides nothing.
var (
	statuses = map[string]kyc.CipStatus{
		"Completed": kyc.CipCompleted, "UpgradePending": kyc.CipUpgradePending, "UpgradeInProgress": kyc.CipUpgradeInProgress,
		"UpgradeFailed": kyc.CipUpgradeFailed, "UpgradeSoftFailed": kyc.CipUpgradeSoftFailed, "AccountUpgradeInProgress": kyc.CipAccountUpgradeInProgress,
	}
	details = map[string]kyc.CipStatusDetail{
		"None": kyc.CipDetailNone, "InvalidAddress": kyc.CipDetailInvalidAddress, "InvalidEMail": kyc.CipDetailInvalidEmail, "UnreadableDoc": kyc.CipDetailUnreadableDoc,
		"ProvideAdditionalInfo": kyc.CipDetailProvideAdditionalInfo, "InvalidPersonalData": kyc.CipDetailInvalidPersonalData,
		"OtpPrivacyMissing": kyc.CipDetailOtpPrivacyMissing, "OtpContractMissing": kyc.CipDetailOtpContractMissing, "Compliance": kyc.CipDetailCompliance,
		"ComplianceBlocked": kyc.CipDetailComplianceBlocked, "OfacFailed": kyc.CipDetailOfacFailed,
	}
)

func verdict(a answer) kyc.ProspectVerdict {
	v := kyc.ProspectVerdict{
		UserID: string(a.UserID), Detail: kyc.CodeLike(string(a.StatusDetail)),
		Cip:  kyc.CipState{Status: kyc.CipUnknown, Detail: kyc.CipDetailNone},
		Said: a.Status != "" || a.StatusDetail != "", Known: true,
	}
	if a.Status != "" {
		word := kyc.CodeLike(string(a.Status))
		v.Cip.ProviderStatus = &word
		status, ok := statuses[string(a.Status)]
		if v.Known = ok; ok {
			v.Cip.Status = status
		}
	}
	if a.StatusDetail != "" {
		detail, ok := details[string(a.StatusDetail)]
		if !ok {
			detail, v.Known = kyc.CipDetailUnknown, false
		}
		v.Cip.Detail = detail
	}
	return v
}

// duplicateWords are how a refusal may say that somebody is there already. Nothing is documented (dossier A11.8); the
// words are those of common APIs in English and Spanish, Leap being both (ours). They are looked for in reason and
// code with everything but letters as a blank between them.
var duplicateWords = []string{
	"duplicat", "already", "exists", "in use", "not unique", "must be unique", "is taken", "enrolled",
	"ya existe", "existente", "ya esta", "ya está", "ya registrad", "duplicad", "en uso",
}

// deniedWords turn one of them into its opposite: "does not exist", "no longer exists".
var deniedWords = []string{"not exist", "no longer exist", "doesn t exist", "no existe", "not found", "not enrolled", "not registered"}

var (
	phoneWords = []string{"phone", "mobile", "cell", "telefono", "teléfono", "celular", "movil", "móvil", "msisdn"}
	emailWords = []string{"email", "e mail", "mail", "correo"}
)

// duplicateOf reports whether a refusal says that the person is registered already, and by what.
func duplicateOf(r refusal) (bool, string) {
	text := words(r)
	if !containsAny(text, duplicateWords) || containsAny(text, deniedWords) {
		return false, ""
	}
	phone, email := containsAny(text, phoneWords), containsAny(text, emailWords)
	switch {
	case phone && !email:
		return true, kyc.CodeDuplicatePhoneAtProvider
	case email && !phone:
		return true, kyc.CodeDuplicateEmailAtProvider
	default:
		return true, "duplicate"
	}
}

// saysNotFound reads what Leap says of an unknown user, whatever the status (dossier A7).
func saysNotFound(r refusal) bool {
	return strings.EqualFold(string(r.Code), "USER_NOT_FOUND") || strings.Contains(words(r), "user not found")
}

// namesNobody reports whether the reason of a 404 is about a person and not about a path (ours: one wording is documented).
func namesNobody(r refusal) bool {
	text := words(r)
	return text != "" && strings.Trim(strings.ReplaceAll(text, "not found", ""), " ") == "" ||
		containsAny(text, personWords) && containsAny(text, missingWords)
}

var (
	personWords  = []string{"user", "person", "customer", "prospect", "account", "body", "usuario", "persona", "cliente", "cuenta"}
	missingWords = []string{"not found", "not exist", "unknown", "no such", "not registered", "not enrolled", "nobody", "no encontrad", "no existe"}
)

// words is a refusal's text in small letters, its words one blank apart.
func words(r refusal) string {
	text := strings.ToLower(string(r.Reason) + " " + string(r.Code))
	return strings.Join(strings.FieldsFunc(text, notALetter), " ")
}

func notALetter(c rune) bool { return c < 128 && (c < 'a' || c > 'z') }

func containsAny(text string, list []string) bool {
	for _, w := range list {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// rejection is an explicit refusal of the data. Leap's text is looked into and never passed on: it may quote what it
// refuses. Its code is passed on when it is one.
func rejection(op string, status int, r refusal) error {
	e := &kyc.Error{Kind: kyc.Rejected, Op: op, Code: httpjson.StatusCode(status), Err: errRefused}
	if code := string(r.Code); refusalCode.MatchString(code) {
		e.Code = kyc.CodeLike(code)
	}
	e.Path = refusedInput(string(r.Reason) + " " + string(r.Code))
	return e
}

// refusalCode is the form of the one code that is documented, USER_NOT_FOUND.
var refusalCode = regexp.MustCompile(`^[A-Z]+(_[A-Z]+)+$`)

// refusedFields are the names of Leap's fields, and plain words for them, by the input they come from; the telling
// ones first.
var refusedFields = []struct {
	words string
	path  string
}{
	{"phonenumber phone mobile", "phone"},
	{"email mail", "email"},
	{"dob birthdate birthday age years underage minor", "birthdate"},
	{"birthstate", "birthState"},
	{"lastname2", "secondLastName"},
	{"middlename", "middleName"},
	{"firstname", "firstName"},
	{"lastname surname", "lastName"},
	{"placedetail", "placeDetail"},
	{"calllocationlatitude", "userLatitude"},
	{"calllocationlongitude", "userLongitude"},
	{"latitude", "latitude"},
	{"longitude", "longitude"},
	{"countrycode country", "country"},
	{"zipcode zip", "zipCode"},
	{"state", "state"},
	{"city", "city"},
	{"address2", "address2"},
	{"address1 address", "address"},
	{"gender", "gender"},
	{"lang language", "language"},
}

// refusedInput finds which input a text is about, and answers the input as a whole when it does not say.
func refusedInput(text string) []string {
	found := make(map[string]bool)
	for _, w := range strings.FieldsFunc(strings.ToLower(text), notOfAName) {
		found[w] = true
	}
	for _, f := range refusedFields {
		for _, w := range strings.Fields(f.words) {
			if found[w] {
				return []string{"input", f.path}
			}
		}
	}
	return []string{"input"}
}

func notOfAName(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }
