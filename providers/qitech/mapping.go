package qitech

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// wirePerson maps a request to the body of a submission (dossier A.3). The device fingerprint is not sent:
// QI Tech has no field for it, its own device data comes by source.session_id.
func wirePerson(r kyc.PersonAnalysisRequest, other GenderOther) naturalPerson {
	p := r.Profile
	w := naturalPerson{
		ID:             string(r.ID),
		RegistrationID: string(r.PersonID), // the same over all analyses of a person (dossier A.9, C28)
		// A numeric offset, as in the only official example; the Z form is documented for siblings only.
		RegistrationDate: r.RegisteredAt.UTC().Format("2006-01-02T15:04:05-07:00"),
		Name:             p.Name.Reveal(),
		DocumentNumber:   maskCPF(p.DocumentNumber.Reveal()),
		Birthdate:        p.Birthdate.Reveal(),
		Gender:           gender(p.Gender, other),
		Nationality:      orEmpty(p.Nationality),
		MotherName:       reveal(p.MotherName),
		FatherName:       reveal(p.FatherName),
		Occupation:       reveal(p.Occupation),
		Emails:           make([]wireEmail, 0, len(p.Emails)),
		Phones:           make([]wirePhone, 0, len(p.Phones)),
		Address:          address(p.Address),
		Source:           source(p),
	}
	if p.MonthlyIncome != nil {
		cents := p.MonthlyIncome.Reveal() // cents on both sides (dossier C34)
		w.MonthlyIncome = &cents
	}
	for _, e := range p.Emails {
		w.Emails = append(w.Emails, wireEmail{Email: e.Address.Reveal()})
	}
	for _, n := range p.Phones {
		w.Phones = append(w.Phones, phone(n))
	}
	if p.FaceRecognitionID != nil {
		w.Face = &wireFace{RegistrationKey: string(*p.FaceRecognitionID)} // dossier C26
	}
	return w
}

// maskCPF writes the mask QI Tech validates against: ###.###.###-## (dossier A.3, C11).
func maskCPF(digits string) string {
	if len(digits) != 11 {
		return digits
	}
	return digits[:3] + "." + digits[3:6] + "." + digits[6:9] + "-" + digits[9:]
}

func gender(g *kyc.Gender, other GenderOther) string {
	switch orEmpty(g) {
	case kyc.GenderMale:
		return "male"
	case kyc.GenderFemale:
		return "female"
	case kyc.GenderOther:
		if other == GenderUndefined {
			return "undefined"
		}
	}
	return ""
}

// phone splits an E.164 number into the three parts QI Tech wants, digits only (dossier A.3). Abroad an
// area code is sent only where the number plan has one; else the number stays whole (ours).
func phone(p kyc.Phone) wirePhone {
	w := wirePhone{Type: phoneTypes[orEmpty(p.Type)]}
	n, err := phonenumbers.Parse(p.Number.Reveal(), "ZZ")
	if err != nil { // cannot be: it was normalised. QI Tech says what it thinks of it.
		w.Number = strings.TrimPrefix(p.Number.Reveal(), "+")
		return w
	}
	w.InternationalDialCode = strconv.Itoa(int(n.GetCountryCode()))
	w.Number = phonenumbers.GetNationalSignificantNumber(n)
	area := phonenumbers.GetLengthOfGeographicalAreaCode(n)
	if n.GetCountryCode() == brazilDialCode {
		// Two digits before a subscriber number of eight or nine, also for numbers the library does not know
		// as assigned. Shorter ones (4004-…) are nationwide and have none.
		area = 0
		if len(w.Number) >= 10 {
			area = 2
		}
	}
	if area > 0 && area < len(w.Number) {
		w.AreaCode, w.Number = w.Number[:area], w.Number[area:]
	}
	return w
}

const brazilDialCode = 55

var phoneTypes = map[kyc.PhoneType]string{
	kyc.PhoneMobile:      "mobile",
	kyc.PhoneResidential: "residential",
	kyc.PhoneCommercial:  "commercial",
}

func address(a kyc.Address) wireAddress {
	return wireAddress{
		Street: a.Street.Reveal(), Number: reveal(a.Number), Complement: reveal(a.Complement),
		Neighborhood: reveal(a.Neighborhood), City: a.City, UF: a.State,
		PostalCode: postalCode(a.PostalCode.Reveal(), a.Country), Country: a.Country,
	}
}

// postalCode writes a Brazilian one as 00000-000; abroad it is free text (dossier A.3).
func postalCode(s, country string) string {
	if country == "BRA" && len(s) == 8 {
		return s[:5] + "-" + s[5:]
	}
	return s
}

// source is where the person registered from, if anything of it is known. Its ip is IPv4 only (dossier A.3);
// an IPv6 address stays with us.
func source(p kyc.Profile) *wireSource {
	var w wireSource
	if p.SessionID != nil {
		w.SessionID = string(*p.SessionID)
	}
	if ip, err := netip.ParseAddr(reveal(p.IPAddress)); err == nil && ip.Unmap().Is4() {
		w.IP = ip.Unmap().String()
	}
	if w == (wireSource{}) {
		return nil
	}
	return &w
}

func reveal[T interface{ Reveal() string }](v *T) string {
	if v == nil {
		return ""
	}
	return (*v).Reveal()
}

func orEmpty[T ~string](v *T) T {
	if v == nil {
		return ""
	}
	return *v
}

// statuses are the eight of dossier A.6. Anything else is unknown and keeps the person pending: only an
// explicit yes approves and only an explicit no rejects.
var statuses = map[string]struct {
	status  kyc.KycStatus
	decided kyc.DecidedBy
}{
	"automatically_approved": {kyc.KycApproved, kyc.DecidedAutomatic},
	"automatically_reproved": {kyc.KycRejected, kyc.DecidedAutomatic},
	"manually_approved":      {kyc.KycApproved, kyc.DecidedManual},
	"manually_reproved":      {kyc.KycRejected, kyc.DecidedManual},
	"in_manual_analysis":     {kyc.KycInReview, ""},
	"in_queue":               {kyc.KycPending, ""},
	"pending":                {kyc.KycPending, ""},
	// No recommendation will come for this id, and none is no refusal. We always ask for an analysis, so it
	// means a setting at QI Tech is wrong.
	"not_analysed": {kyc.KycPending, ""},
}

func verdict(a naturalPersonAnswer) kyc.Verdict {
	v := kyc.Verdict{
		Status:         kyc.KycPending,
		ProviderStatus: kyc.CodeLike(string(a.AnalysisStatus)),
		ProviderKey:    kyc.CodeLike(string(a.NaturalPersonKey)),
		Reason:         kyc.CodeLike(reason(a)),
	}
	if s, ok := statuses[string(a.AnalysisStatus)]; ok {
		v.Known, v.Status = true, s.status
		if s.decided != "" {
			v.DecidedBy = &s.decided
		}
	}
	return v
}

// newestStatus is the status that the events tell where the answer itself does not. Their order is not documented
// (dossier D 5), so the newest date decides; two of one date, or none that can be read, decide nothing.
func newestStatus(raw json.RawMessage) (status lenient) {
	var events []analysisEvent
	if json.Unmarshal(raw, &events) != nil {
		return ""
	}
	var newest time.Time
	for _, e := range events {
		at, err := time.Parse(time.RFC3339Nano, string(e.Date))
		switch {
		case err != nil:
			return ""
		case at.After(newest):
			newest, status = at, e.NewStatus
		case at.Equal(newest) && e.NewStatus != status:
			status = ""
		}
	}
	return status
}

// reason is given at the top or inside the event that led to the present status. Whether events come oldest
// or newest first is not documented (dossier D 5), so the status picks the event and not the position.
func reason(a naturalPersonAnswer) string {
	if a.Reason != "" {
		return string(a.Reason)
	}
	var events []analysisEvent
	if json.Unmarshal(a.Events, &events) != nil {
		return ""
	}
	for _, e := range events {
		if e.NewStatus == a.AnalysisStatus && e.Output.Reason != "" {
			return string(e.Output.Reason)
		}
	}
	return ""
}

// rejection is an explicit refusal of the data. Their text is looked into and never passed on: it may quote
// what it refuses.
func rejection(op string, status int, r refusal) *kyc.Error {
	e := &kyc.Error{Kind: kyc.Rejected, Op: op, Code: httpjson.StatusCode(status), Err: errRefused}
	switch title := strings.ToLower(string(r.Title)); title {
	case "invalid request":
		e.Code = "invalid_request"
	case "image_quality":
		e.Code = "image_quality"
		if why := imageStatuses[string(r.ImageStatus)]; why != "" {
			e.Code += "." + why
		}
	case "duplicated external_id": // documented with 409 (dossier A.8); whatever the status, look it up
		e.Kind, e.Code = kyc.Conflict, "duplicated_id"
		return e
	case "invalid apikey": // documented with 403
		e.Kind, e.Code = kyc.Credentials, "invalid_api_key"
		return e
	}
	e.Path = refusedInput(string(r.Title) + " " + string(r.Description))
	return e
}

// imageStatuses are those of dossier A.8 by our spelling. The docs spell one of them in two ways.
var imageStatuses = map[string]string{
	"no_faces": "no_faces", "multiple_faces": "multiple_faces", "close_face": "close_face", "distant_face": "distant_face",
	"not_centered": "not_centered", "not_center": "not_centered", "inclined_face": "inclined_face",
	"wearing_acessories": "wearing_accessories", "wearing_accessories": "wearing_accessories",
	"facial_expression": "facial_expression", "brightness_problem": "brightness_problem", "sharpness_problem": "sharpness_problem",
}

// refusedFields are the names of QI Tech's fields by the input they come from, the telling ones first: a text
// about document_number may well hold the word "name", hardly the other way round.
var refusedFields = []struct {
	words string
	path  []string
}{
	{"document_number cpf", []string{"documentNumber"}},
	{"birthdate", []string{"birthdate"}},
	{"mother_name", []string{"motherName"}},
	{"father_name", []string{"fatherName"}},
	{"monthly_income", []string{"monthlyIncome"}},
	{"registration_key face", []string{"faceRecognitionId"}},
	{"session_id", []string{"sessionId"}},
	{"ip", []string{"ipAddress"}},
	{"postal_code", []string{"address", "postalCode"}},
	{"uf", []string{"address", "state"}},
	{"neighborhood", []string{"address", "neighborhood"}},
	{"complement", []string{"address", "complement"}},
	{"street", []string{"address", "street"}},
	{"city", []string{"address", "city"}},
	{"country", []string{"address", "country"}},
	{"address", []string{"address"}},
	{"international_dial_code area_code phone phones", []string{"phones"}},
	{"email emails", []string{"emails"}},
	{"nationality", []string{"nationality"}},
	{"occupation", []string{"occupation"}},
	{"gender", []string{"gender"}},
	{"source", []string{"sessionId"}},
	{"name", []string{"name"}},
}

// refusedInput finds which input a text is about, and answers the input as a whole when it does not say.
func refusedInput(text string) []string {
	words := make(map[string]bool)
	for _, w := range strings.FieldsFunc(strings.ToLower(text), notOfAName) {
		words[w] = true
	}
	for _, f := range refusedFields {
		for _, w := range strings.Fields(f.words) {
			if words[w] {
				return append([]string{"input"}, f.path...)
			}
		}
	}
	return []string{"input"}
}

func notOfAName(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }
