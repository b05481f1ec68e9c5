package kyc

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// RegisterProspectInput is what a caller tells about a prospect (schema: RegisterProspectInput).
type RegisterProspectInput struct {
	PersonID       *PersonID
	FirstName      Name
	MiddleName     *Name
	LastName       Name
	SecondLastName *Name
	Phone          PhoneNumber
	Email          *EmailAddress
	Birthdate      *Date
	Gender         *ProspectGender
	Address        PersonalText
	Address2       *PersonalText
	City           string
	State          string
	ZipCode        *PersonalText
	Country        string
	BirthState     *string
	Language       *string
	PlaceDetail    *PersonalJSON
	Latitude       *Degrees
	Longitude      *Degrees
	UserLatitude   *Degrees
	UserLongitude  *Degrees
	IdempotencyKey *string
}

// normalize checks every field at once and gives the profile as it will be stored and sent.
func (in RegisterProspectInput) normalize(now time.Time) (p ProspectProfile, key string, errs []UserError) {
	var c checks
	key = c.idempotencyKey(in.IdempotencyKey)
	p.FirstName = NewName(c.text(in.FirstName.Reveal(), 1, 100, "firstName"))
	p.MiddleName = c.optionalName(in.MiddleName, "middleName")
	p.LastName = NewName(c.text(in.LastName.Reveal(), 1, 100, "lastName"))
	p.SecondLastName = c.optionalName(in.SecondLastName, "secondLastName")
	p.Phone = c.mobile(in.Phone, "phone")
	p.Email = c.optionalEmail(in.Email, "email")
	p.Gender = in.Gender
	p.Address = NewPersonalText(c.text(in.Address.Reveal(), 1, 200, "address"))
	p.Address2 = c.optionalText(in.Address2, 200, "address2")
	p.City = c.text(in.City, 1, 100, "city")
	p.ZipCode = c.optionalText(in.ZipCode, 20, "zipCode")
	p.Country = c.country2(in.Country, "country")
	p.State = c.state(in.State, p.Country, "state")
	if in.BirthState != nil && strings.TrimSpace(*in.BirthState) != "" {
		p.BirthState = nonEmpty(c.birthState(*in.BirthState, "birthState"))
	}
	if in.Birthdate != nil && !in.Birthdate.Empty() {
		if d := c.adult(*in.Birthdate, p.Country, now, "birthdate"); !d.Empty() {
			p.Birthdate = &d
		}
	}
	if in.Language != nil && *in.Language != "" {
		if *in.Language != "en" && *in.Language != "es" {
			c.invalid("must be en or es (ISO 639-1)", "language")
		}
		p.Language = in.Language
	}
	p.PlaceDetail = c.placeDetail(in.PlaceDetail, "placeDetail")
	p.Location = c.coordinates(in.Latitude, in.Longitude, "latitude", "longitude")
	p.UserLocation = c.coordinates(in.UserLatitude, in.UserLongitude, "userLatitude", "userLongitude")
	return p, key, c.errs
}

// mobile checks a phone number that can be a mobile one of its own country. It asks for a possible number and not
// for an assigned one (see ParsePhone), but a number that is known to be of another kind is refused: Leap sends codes
// to it. The plus and the country code are not optional.
func (c *checks) mobile(n PhoneNumber, path ...string) PhoneNumber {
	if n.Empty() {
		c.required("must be a mobile phone number in E.164, with + and country code", path...)
		return PhoneNumber{}
	}
	if out, ok := ParseMobile(n.Reveal()); ok {
		return out
	}
	c.invalid("must be a mobile phone number in E.164, with + and country code", path...)
	return PhoneNumber{}
}

// ParseMobile normalises a mobile number to E.164.
//
// Mexico dialled its mobiles as +52 1 until 2019, and Leap's own example still does (dossier A11.14). Both ways
// are taken and kept as they were given, because nobody knows which of them Leap's validation takes; phoneLine knows
// that they are one line.
func ParseMobile(s string) (PhoneNumber, bool) {
	s = strings.TrimSpace(s)
	if len(s) > 40 || !strings.HasPrefix(s, "+") || strings.Trim(s, "+0123456789 .-()/") != "" {
		return PhoneNumber{}, false
	}
	given, err := phonenumbers.Parse(s, "ZZ")
	if err != nil {
		return PhoneNumber{}, false
	}
	e164 := NewPhoneNumber(phonenumbers.Format(given, phonenumbers.E164))
	// A country code the library finds only after it has dropped digits is none (found by fuzzing).
	if again, err := phonenumbers.Parse(e164.Reveal(), "ZZ"); err != nil || phonenumbers.Format(again, phonenumbers.E164) != e164.Reveal() {
		return PhoneNumber{}, false
	}
	n, err := phonenumbers.Parse(phoneLine(e164), "ZZ")
	// Not IsPossibleNumber: that takes what can be dialled within one town only.
	if err != nil || phonenumbers.IsPossibleNumberWithReason(n) != phonenumbers.IS_POSSIBLE {
		return PhoneNumber{}, false
	}
	switch phonenumbers.GetNumberType(n) {
	case phonenumbers.MOBILE, phonenumbers.FIXED_LINE_OR_MOBILE, phonenumbers.UNKNOWN:
		return e164, true
	default:
		return PhoneNumber{}, false
	}
}

const oldMexicanMobile = "+521"

// phoneLine is the E.164 number under which two spellings of one line are equal. It is revealed.
func phoneLine(n PhoneNumber) string {
	s := n.Reveal()
	if rest, ok := strings.CutPrefix(s, oldMexicanMobile); ok && len(rest) == 10 {
		return "+52" + rest
	}
	return s
}

func (c *checks) optionalEmail(e *EmailAddress, path ...string) *EmailAddress {
	if e == nil || e.Empty() {
		return nil
	}
	if !validEmail(e.Reveal()) {
		c.invalid("must be an e-mail address", path...)
		return nil
	}
	return e
}

// emailBox is the address under which two spellings of one mailbox are equal. Mailbox names are case-sensitive on
// paper and nowhere else (ours). It is revealed.
func emailBox(e EmailAddress) string { return strings.ToLower(e.Reveal()) }

func (c *checks) country2(s string, path ...string) string {
	switch {
	case strings.TrimSpace(s) == "":
		c.required("must be a country, ISO 3166-1 alpha-2", path...)
	case placesOf()[s] == nil:
		c.invalid("must be a country, ISO 3166-1 alpha-2 in capitals", path...)
	default:
		return s
	}
	return ""
}

const stateMessage = "must be a state of the country: an ISO 3166-2 code, with or without the country's prefix, or its short name"

// state checks a subdivision of a country and keeps the caller's spelling, for Leap takes several. Countries for
// which ISO 3166-2 has none take any text.
func (c *checks) state(s, country string, path ...string) string {
	if s = c.text(s, 1, 100, path...); s == "" || country == "" {
		return s
	}
	if p := placesOf()[country]; len(p.states) > 0 && !p.states[strings.ToUpper(s)] {
		c.invalid(stateMessage, path...)
	}
	return s
}

// birthState checks the state of birth. Its country is not asked for, so it may be any country's.
func (c *checks) birthState(s string, path ...string) string {
	if s = c.text(s, 1, 100, path...); s == "" {
		return ""
	}
	for _, p := range placesOf() {
		if p.states[strings.ToUpper(s)] {
			return s
		}
	}
	c.invalid("must be an ISO 3166-2 code, such as MX-CMX, or a state's short name", path...)
	return ""
}

// The ages Leap takes: at least 18 and under 100 (dossier A2.1).
const (
	minProspectAge = 18
	maxProspectAge = 100
)

// adult checks a birth date. Leap does not say whose clock counts (dossier A11.5); here it is that of the person's
// country, and in a country of several time zones the age has to be right in all of them (ours): nobody is taken
// who is a minor anywhere at home. A person born on 29 February comes of age on 1 March.
func (c *checks) adult(d Date, country string, now time.Time, path ...string) Date {
	s := strings.TrimSpace(d.Reveal())
	born, err := time.Parse(time.DateOnly, s)
	if err != nil || !datePattern.MatchString(s) {
		c.invalid("must be a date that exists, YYYY-MM-DD", path...)
		return Date{}
	}
	earliest, latest := today(country, now)
	if earliest.Before(born.AddDate(minProspectAge, 0, 0)) || !latest.Before(born.AddDate(maxProspectAge, 0, 0)) {
		c.invalid("must make the person at least 18 and under 100 years old today", path...)
		return Date{}
	}
	return NewDate(s)
}

// maxPlaceDetail bounds a place detail; those of Google Maps have a few kilobytes (ours).
const maxPlaceDetail = 64 << 10

// placeDetail takes the detail of a place as Google Maps gives it: a JSON object, or a string that holds one, which
// is how Leap wants it. It is sent as it is.
func (c *checks) placeDetail(j *PersonalJSON, path ...string) *PersonalText {
	if j == nil || j.Empty() || j.Reveal() == "null" {
		return nil
	}
	raw := []byte(j.Reveal())
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if strings.TrimSpace(text) == "" {
			return nil
		}
		raw = []byte(text)
	}
	var compact bytes.Buffer
	var object map[string]json.RawMessage
	if len(raw) > maxPlaceDetail || json.Unmarshal(raw, &object) != nil || len(object) == 0 || json.Compact(&compact, raw) != nil {
		c.invalid("must be the JSON object of a Google Maps place detail, of at most 64 KiB", path...)
		return nil
	}
	v := NewPersonalText(compact.String())
	return &v
}

// coordinates checks a pair: half of one is a place nobody meant.
func (c *checks) coordinates(latitude, longitude *Degrees, atLatitude, atLongitude string) *Coordinates {
	wrong := false
	check := func(d *Degrees, limit float64, message, at string) {
		if d != nil && !(math.Abs(d.Reveal()) <= limit) { // the negation refuses NaN too
			c.invalid(message, at)
			wrong = true
		}
	}
	check(latitude, 90, "must be from -90 to 90 degrees", atLatitude)
	check(longitude, 180, "must be from -180 to 180 degrees", atLongitude)
	switch {
	case latitude == nil && longitude == nil, wrong:
		return nil
	case latitude == nil:
		c.required("is required beside "+atLongitude, atLatitude)
	case longitude == nil:
		c.required("is required beside "+atLatitude, atLongitude)
	default:
		return &Coordinates{Latitude: *latitude, Longitude: *longitude}
	}
	return nil
}
