package kyc

import (
	"encoding/json"
	"time"
)

// ProspectState is how far the work on a prospect is, beside what Leap says. It holds no personal data.
type ProspectState struct {
	// MadePerson says that the person was made from the prospect's data, and not named by the caller.
	MadePerson bool
	// Correction is what we know about Leap having the newest correction; "" when there is none under way.
	Correction Submission
	// ChangedAt is when anything last moved: the beginning of the polling schedule.
	ChangedAt time.Time
	// Faults counts how often in a row the provider did not understand us.
	Faults int
}

// prospectDocument is Customer.Request of a prospect. Its strings are revealed: it goes into the store, which
// encrypts it, and nowhere else.
type prospectDocument struct {
	FirstName      string      `json:"first_name"`
	MiddleName     *string     `json:"middle_name,omitempty"`
	LastName       string      `json:"last_name"`
	SecondLastName *string     `json:"second_last_name,omitempty"`
	Phone          string      `json:"phone"`
	Email          *string     `json:"email,omitempty"`
	Birthdate      *string     `json:"birthdate,omitempty"`
	Gender         *string     `json:"gender,omitempty"`
	Address        string      `json:"address"`
	Address2       *string     `json:"address2,omitempty"`
	City           string      `json:"city"`
	State          string      `json:"state"`
	ZipCode        *string     `json:"zip_code,omitempty"`
	Country        string      `json:"country"`
	BirthState     *string     `json:"birth_state,omitempty"`
	Language       *string     `json:"language,omitempty"`
	PlaceDetail    *string     `json:"place_detail,omitempty"`
	Location       *[2]float64 `json:"location,omitempty"`
	UserLocation   *[2]float64 `json:"user_location,omitempty"`
	// Known is the phone Leap has, when a correction that is not taken yet brings another one. Look-ups go by it.
	Known *string `json:"known,omitempty"`
}

func maybeReveal[T interface{ Reveal() string }](v *T) *string {
	if v == nil {
		return nil
	}
	s := (*v).Reveal()
	return &s
}

func maybeWrap[T any](s *string, wrap func(string) T) *T {
	if s == nil {
		return nil
	}
	v := wrap(*s)
	return &v
}

// request is the document of a profile. known is "" when Leap has the profile's own phone, or nothing.
func (p ProspectProfile) request(known string) (JSON, error) {
	pair := func(c *Coordinates) *[2]float64 {
		if c == nil {
			return nil
		}
		return &[2]float64{c.Latitude.Reveal(), c.Longitude.Reveal()}
	}
	return json.Marshal(prospectDocument{
		FirstName: p.FirstName.Reveal(), MiddleName: maybeReveal(p.MiddleName), LastName: p.LastName.Reveal(), SecondLastName: maybeReveal(p.SecondLastName),
		Phone: p.Phone.Reveal(), Email: maybeReveal(p.Email), Birthdate: maybeReveal(p.Birthdate), Gender: (*string)(p.Gender),
		Address: p.Address.Reveal(), Address2: maybeReveal(p.Address2), City: p.City, State: p.State, ZipCode: maybeReveal(p.ZipCode), Country: p.Country,
		BirthState: p.BirthState, Language: p.Language, PlaceDetail: maybeReveal(p.PlaceDetail), Location: pair(p.Location), UserLocation: pair(p.UserLocation),
		Known: nonEmpty(known),
	})
}

// prospectProfile reads the document of a prospect, and the phone Leap knows it by.
func prospectProfile(c *Customer) (p ProspectProfile, known PhoneNumber, err error) {
	var d prospectDocument
	if err := json.Unmarshal(c.Request, &d); err != nil {
		return p, known, Errorf("kyc.prospect", "prospect %s has no readable document", c.ID) // json's own error quotes
	}
	place := func(pair *[2]float64) *Coordinates {
		if pair == nil {
			return nil
		}
		return &Coordinates{Latitude: NewDegrees(pair[0]), Longitude: NewDegrees(pair[1])}
	}
	p = ProspectProfile{
		FirstName: NewName(d.FirstName), MiddleName: maybeWrap(d.MiddleName, NewName), LastName: NewName(d.LastName), SecondLastName: maybeWrap(d.SecondLastName, NewName),
		Phone: NewPhoneNumber(d.Phone), Email: maybeWrap(d.Email, NewEmailAddress), Birthdate: maybeWrap(d.Birthdate, NewDate), Gender: (*ProspectGender)(d.Gender),
		Address: NewPersonalText(d.Address), Address2: maybeWrap(d.Address2, NewPersonalText), City: d.City, State: d.State, ZipCode: maybeWrap(d.ZipCode, NewPersonalText),
		Country: d.Country, BirthState: d.BirthState, Language: d.Language, PlaceDetail: maybeWrap(d.PlaceDetail, NewPersonalText),
		Location: place(d.Location), UserLocation: place(d.UserLocation),
	}
	if known = p.Phone; d.Known != nil {
		known = NewPhoneNumber(*d.Known)
	}
	return p, known, nil
}

// unique is what no two prospects of a partner share.
func (p ProspectProfile) unique() CustomerKeys {
	line := NewPhoneNumber(phoneLine(p.Phone))
	return CustomerKeys{Phone: &line, Email: p.Email}
}

// person is what a profile tells about the person, for one who is made from it.
func (p ProspectProfile) person() Profile {
	mobile := PhoneMobile
	country, _ := alpha3(p.Country) // it was checked
	out := Profile{
		Name:   fullName(p.FirstName, orZero(p.MiddleName), p.LastName, orZero(p.SecondLastName)),
		Phones: []Phone{{Number: p.Phone, Type: &mobile}},
		Address: Address{
			Street: p.Address, Complement: p.Address2, City: p.City, State: p.State, PostalCode: orZero(p.ZipCode), Country: country,
		},
		Birthdate: orZero(p.Birthdate),
	}
	if p.Email != nil {
		out.Emails = []Email{{Address: *p.Email}}
	}
	if p.Gender != nil && *p.Gender != ProspectNone {
		gender := Gender(*p.Gender)
		out.Gender = &gender
	}
	return out
}

func orZero[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}
