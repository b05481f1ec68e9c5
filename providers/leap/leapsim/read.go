package leapsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// registration is what the simulator itself needs of a request; the rest is only checked.
type registration struct{ firstName, phone, email string }

var (
	phoneForm   = regexp.MustCompile(`^\+[1-9][0-9]{7,14}$`)
	emailForm   = regexp.MustCompile(`^[^@\s]{1,64}@[^@\s]+\.[^@\s.]{2,}$`)
	countryForm = regexp.MustCompile(`^[A-Z]{2}$`)
)

// fields reads a body. The reason names what is wrong and never repeats a value.
type fields struct {
	values map[string]any
	wrong  string // the first
}

func readFields(body []byte) *fields {
	f := &fields{}
	d := json.NewDecoder(bytes.NewReader(body))
	if !utf8.Valid(body) || d.Decode(&f.values) != nil || f.values == nil {
		f.wrong = "the body must be a JSON object"
		return f
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		f.wrong = "the body must be one JSON object"
	}
	return f
}

func (f *fields) fail(name, text string) {
	if f.wrong == "" {
		f.wrong = name + " " + text
	}
}

// text reads a string; null counts as absent (ours).
func (f *fields) text(name string, required bool) string {
	switch v := f.values[name].(type) {
	case nil:
	case string:
		if s := strings.TrimSpace(v); s != "" {
			return s
		}
	default:
		f.fail(name, "must be a string")
		return ""
	}
	if required {
		f.fail(name, "is required")
	}
	return ""
}

func (f *fields) form(name string, required bool, form *regexp.Regexp, text string) string {
	s := f.text(name, required)
	if s != "" && !form.MatchString(s) {
		f.fail(name, text)
	}
	return s
}

func (f *fields) word(name string, words ...string) {
	if s := f.text(name, false); s != "" && !slices.Contains(words, s) {
		f.fail(name, "must be one of "+strings.Join(words, ", "))
	}
}

func (f *fields) degrees(name string, limit float64) {
	switch v := f.values[name].(type) {
	case nil:
	case float64:
		if math.Abs(v) > limit {
			f.fail(name, "is out of range")
		}
	default:
		f.fail(name, "must be a number")
	}
}

// readRegistration checks the request of dossier A2.1; the required fields are those with the badge there, and phone
// or e-mail. Unknown fields pass.
func readRegistration(body []byte, now time.Time) (registration, string) {
	f := readFields(body)
	p := registration{
		firstName: f.text("firstName", true),
		phone:     f.form("phoneNumber", false, phoneForm, "must be a mobile number with + and country code"),
		email:     strings.ToLower(f.form("email", false, emailForm, "must be an e-mail address")),
	}
	if p.phone == "" && p.email == "" {
		f.fail("phoneNumber", "or email is required")
	}
	f.text("lastName", true)
	f.text("address1", true)
	f.form("countryCode", true, countryForm, "must be ISO 3166-1 alpha-2")
	f.text("city", true)
	f.text("state", true)
	for _, name := range []string{"lastName2", "middleName", "address2", "address3", "streetNumber", "zipCode", "birthState"} {
		f.text(name, false)
	}
	f.word("gender", "Male", "Female", "Other", "None")
	f.word("lang", "en", "es")
	f.age("dob", now)
	if s := f.text("placeDetail", false); s != "" && !json.Valid([]byte(s)) {
		f.fail("placeDetail", "must be valid Google Maps place detail JSON")
	}
	for _, name := range []string{"latitude", "callLocationLatitude"} {
		f.degrees(name, 90)
	}
	for _, name := range []string{"longitude", "callLocationLongitude"} {
		f.degrees(name, 180)
	}
	return p, f.wrong
}

// age checks a date or a date-time (dossier A2.1). The zone of the check is not documented (A11.5); here it is UTC.
func (f *fields) age(name string, now time.Time) {
	s := f.text(name, false)
	if s == "" {
		return
	}
	born, err := time.Parse(time.DateOnly, s)
	if err != nil {
		if born, err = time.Parse(time.RFC3339Nano, s); err != nil {
			f.fail(name, "must be a calendar date, ISO 8601")
			return
		}
		born = born.UTC().Truncate(24 * time.Hour)
	}
	today := now.UTC().Truncate(24 * time.Hour)
	// A day's grace at both ends: the person's country may be ahead of UTC or behind it.
	if today.AddDate(0, 0, 1).Before(born.AddDate(18, 0, 0)) || !today.AddDate(0, 0, -1).Before(born.AddDate(100, 0, 0)) {
		f.fail(name, "must make the user at least 18 and under 100 years old")
	}
}

// readIdentity checks the request of dossier A3.
func readIdentity(body []byte) (phone, email, wrong string) {
	f := readFields(body)
	phone = f.form("phoneNumber", false, phoneForm, "must be a mobile number with + and country code")
	email = strings.ToLower(f.form("email", false, emailForm, "must be an e-mail address"))
	f.form("countryCode", false, countryForm, "must be ISO 3166-1 alpha-2")
	if phone == "" && email == "" {
		f.fail("phoneNumber", "or email is required")
	}
	return phone, email, f.wrong
}
