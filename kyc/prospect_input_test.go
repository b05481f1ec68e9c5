package kyc

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"
)

func goodProspect() RegisterProspectInput {
	return RegisterProspectInput{
		FirstName: NewName("Ana"), LastName: NewName("Hernández"), Phone: NewPhoneNumber("+52 1 55 2120 6703"), Email: ptr(NewEmailAddress("ana@example.com")),
		Birthdate: ptr(NewDate("1987-06-24")), Address: NewPersonalText("Blvd. Kukulcan Km. 4.5"), City: "Cancún", State: "Q.R.", Country: "MX",
	}
}

func TestProspectGood(t *testing.T) {
	t.Parallel()
	in := goodProspect()
	in.Latitude, in.Longitude = ptr(NewDegrees(90)), ptr(NewDegrees(-180))
	in.PlaceDetail, in.Language, in.BirthState = ptr(NewPersonalJSON([]byte(`{ "place_id": "x" }`))), ptr("es"), ptr("MX-CMX")
	in.ZipCode = ptr(NewPersonalText("  "))
	p, key, errs := in.normalize(testNow)
	if len(errs) > 0 || key != "" {
		t.Fatalf("refused: %+v", errs)
	}
	if p.Phone.Reveal() != "+5215521206703" || phoneLine(p.Phone) != "+525521206703" || p.PlaceDetail.Reveal() != `{"place_id":"x"}` || p.ZipCode != nil || p.Location.Latitude.Reveal() != 90 || p.UserLocation != nil {
		t.Errorf("not normalised: %q %q %q", p.Phone.Reveal(), p.PlaceDetail.Reveal(), p.ZipCode)
	}
	in.PlaceDetail = ptr(NewPersonalJSON([]byte(`"{\"place_id\":\"x\"}"`))) // Leap's own form
	if p, _, errs := in.normalize(testNow); len(errs) > 0 || p.PlaceDetail.Reveal() != `{"place_id":"x"}` {
		t.Errorf("%+v", errs)
	}
}

// Every field wrong at once: one answer names them all, each at its own path, and repeats none.
func TestProspectNamesEveryWrongFieldAtOnce(t *testing.T) {
	t.Parallel()
	bad := "bad\u202e"
	in := RegisterProspectInput{
		FirstName: NewName(bad), MiddleName: ptr(NewName(bad)), LastName: NewName(" "), SecondLastName: ptr(NewName(strings.Repeat("x", 201))),
		Phone: NewPhoneNumber("5521206703"), Email: ptr(NewEmailAddress("nope")), Birthdate: ptr(NewDate("2023-02-29")),
		Address: NewPersonalText(""), Address2: ptr(NewPersonalText(bad)), City: bad, State: "Atlantis", ZipCode: ptr(NewPersonalText(strings.Repeat("9", 21))), Country: "MX",
		BirthState: ptr("XX-YY"), Language: ptr("pt"), PlaceDetail: ptr(NewPersonalJSON([]byte(`[1]`))),
		Latitude: ptr(NewDegrees(91)), Longitude: ptr(NewDegrees(181)), UserLatitude: ptr(NewDegrees(1)), IdempotencyKey: ptr(""),
	}
	_, _, errs := in.normalize(testNow)
	got := make(map[string]UserErrorCode)
	for _, e := range errs {
		got[strings.Join(e.Path, ".")] = e.Code
		for _, secret := range []string{"5521206703", "nope", "Atlantis", "XX-YY", "91", "181"} {
			if strings.Contains(e.Message, secret) {
				t.Errorf("%v echoes the value: %s", e.Path, e.Message)
			}
		}
	}
	want := map[string]UserErrorCode{
		"input.firstName": CodeInvalid, "input.middleName": CodeInvalid, "input.lastName": CodeRequired, "input.secondLastName": CodeInvalid,
		"input.phone": CodeInvalid, "input.email": CodeInvalid, "input.birthdate": CodeInvalid, "input.address": CodeRequired, "input.address2": CodeInvalid,
		"input.city": CodeInvalid, "input.state": CodeInvalid, "input.zipCode": CodeInvalid, "input.birthState": CodeInvalid, "input.language": CodeInvalid,
		"input.placeDetail": CodeInvalid, "input.latitude": CodeInvalid, "input.longitude": CodeInvalid, "input.userLongitude": CodeRequired, "input.idempotencyKey": CodeInvalid,
	}
	for path, code := range want {
		if got[path] != code {
			t.Errorf("%s: got %q, want %s", path, got[path], code)
		}
	}
	for path := range got {
		if want[path] == "" {
			t.Errorf("%s was not wrong", path)
		}
	}
	in = goodProspect()
	in.Country = "ZZ"
	if _, _, errs := in.normalize(testNow); len(errs) != 1 || strings.Join(errs[0].Path, ".") != "input.country" {
		t.Errorf("%+v", errs)
	}
}

func TestParseMobile(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"+5215521206703": "+5215521206703", "+52 55 2120 6703": "+525521206703", "+15555550100": "+15555550100", // Leap's own examples
		"+5511987654321": "+5511987654321", "+1 (212) 555-0123": "+12125550123", "+447911123456": "+447911123456", " +50254123456 ": "+50254123456",
		"+551133334444": "", "+18005550100": "", "+442079460000": "", // a fixed line, free of charge, a fixed line
		"+1 5550100": "", "+52155212067": "", "+999123456789": "", "5521206703": "", "": "", "+5511987654321 x5": "", "tel:+5511987654321": "",
	} {
		got, ok := ParseMobile(in)
		if ok != (want != "") || got.Reveal() != want {
			t.Errorf("%q: got %q, %v; want %q", in, got.Reveal(), ok, want)
		}
	}
}

func FuzzParseMobile(f *testing.F) {
	for _, s := range []string{"+5215521206703", "+15555550100", "+55 11 98765-4321", "+", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseMobile(s)
		if !ok {
			return
		}
		if again, ok := ParseMobile(n.Reveal()); !ok || again.Reveal() != n.Reveal() || !strings.HasPrefix(n.Reveal(), "+") {
			t.Error("the normal form does not parse to itself")
		}
	})
}

func TestStates(t *testing.T) {
	t.Parallel()
	for country, good := range map[string]string{
		"MX": "CMX MX-CMX CDMX DF JA JAL Q.R. q.r. ROO N.L. NL BC QR TM D.F. QROO", "US": "CA US-TX PR", "BR": "SP BR-RJ", "GT": "GT-01 01 GT-GU", "AR": "F AR-B", "PL": "02 PL-32",
	} {
		for state := range strings.FieldsSeq(good) {
			var c checks
			if got := c.state(state, country, "state"); len(c.errs) > 0 || got != state {
				t.Errorf("%s %s: %+v", country, state, c.errs)
			}
		}
	}
	for country, bad := range map[string]string{"MX": "CA US-CA MX-XX Cancun", "US": "CMX MX-CMX XX", "BR": "São-Paulo"} {
		for state := range strings.FieldsSeq(bad) {
			var c checks
			if c.state(state, country, "state"); len(c.errs) != 1 {
				t.Errorf("%s %s taken", country, state)
			}
		}
	}
	var c checks
	if c.state("anything", "GI", "state"); len(c.errs) > 0 {
		t.Error("Gibraltar has no subdivisions")
	}
}

// The lists are written by hand, so they are held against another source, and against their known size.
func TestPlacesAreISO3166(t *testing.T) {
	t.Parallel()
	all, states := placesOf(), 0
	if len(all) != 249 {
		t.Errorf("%d countries, want 249", len(all))
	}
	three := make(map[string]bool)
	for code, p := range all {
		r, err := language.ParseRegion(code)
		if err != nil || r.String() != code || !countries[r.ISO3()] {
			t.Errorf("%s is not a country elsewhere: %v", code, err)
		}
		three[r.ISO3()] = true
		for state := range p.states {
			if strings.HasPrefix(state, code+"-") {
				states++
			}
		}
		if len(p.zones) == 0 {
			t.Errorf("%s has no time zone", code)
		}
	}
	if len(three) != 249 || states != 5180 {
		t.Errorf("%d countries of three letters, %d states", len(three), states)
	}
	for line := range strings.Lines(zoneTable) {
		country, names, _ := strings.Cut(line, " ")
		if all[country] == nil || len(all[country].zones) != len(strings.Fields(names)) {
			t.Errorf("%s: a zone of %q is unknown", country, names)
		}
	}
}

// Ages by the calendar of the person's country (dossier A2.1, A11.5; the zones are ours).
func TestProspectAge(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tc := range []struct {
		name, country, now, born string
		ok                       bool
	}{
		{"18 to the day", "GT", "2026-11-25T12:00:00Z", "2008-11-25", true},
		{"17 years 364 days", "GT", "2026-11-25T12:00:00Z", "2008-11-26", false},
		{"99 years 364 days", "GT", "2026-11-25T12:00:00Z", "1926-11-26", true},
		{"100 to the day", "GT", "2026-11-25T12:00:00Z", "1926-11-25", false},
		{"over 100", "GT", "2026-11-25T12:00:00Z", "1900-01-01", false},
		{"not born yet", "GT", "2026-11-25T12:00:00Z", "2027-01-01", false},

		// Guatemala is at UTC-6: its day begins six hours after that of UTC.
		{"UTC has the birthday, Guatemala not yet", "GT", "2026-11-25T05:59:59Z", "2008-11-25", false},
		{"Guatemala's midnight", "GT", "2026-11-25T06:00:00Z", "2008-11-25", true},
		{"100 in UTC, 99 in Guatemala", "GT", "2026-11-25T05:59:59Z", "1926-11-25", true},
		// Kiritimati is at UTC+14, the rest of Kiribati at +12 and +13.
		{"a birthday at UTC+14 only", "KI", "2026-11-24T10:00:00Z", "2008-11-25", false},
		{"a birthday in all of Kiribati", "KI", "2026-11-24T12:00:00Z", "2008-11-25", true},
		{"100 at UTC+14 already", "KI", "2026-11-24T10:00:00Z", "1926-11-25", false},
		// The United States reach to UTC-11 on inhabited islands of their own codes, UTC-10 in Hawaii.
		{"New York has the birthday, Hawaii not yet", "US", "2026-11-25T09:59:59Z", "2008-11-25", false},
		{"Hawaii's midnight", "US", "2026-11-25T10:00:00Z", "2008-11-25", true},
		// Mexico: Tijuana is the last, at UTC-8 in winter and -7 in summer.
		{"Cancún has the birthday, Tijuana not yet", "MX", "2026-11-25T07:59:59Z", "2008-11-25", false},
		{"Tijuana's midnight", "MX", "2026-11-25T08:00:00Z", "2008-11-25", true},
		{"Tijuana's midnight in summer", "MX", "2026-07-01T07:00:00Z", "2008-07-01", true},

		{"29 February is of age on 1 March", "GT", "2026-02-28T12:00:00Z", "2008-02-29", false},
		{"29 February, 1 March", "GT", "2026-03-01T12:00:00Z", "2008-02-29", true},
		{"29 February in a leap year", "GT", "2028-02-29T12:00:00Z", "2010-03-01", false},
		{"100 on 29 February", "GT", "2028-02-29T12:00:00Z", "1928-02-29", false},
		{"a day before", "GT", "2028-02-28T12:00:00Z", "1928-02-29", true},

		{"impossible", "GT", "2026-11-25T12:00:00Z", "2007-02-29", false},
		{"impossible", "GT", "2026-11-25T12:00:00Z", "1990-04-31", false},
		{"impossible", "GT", "2026-11-25T12:00:00Z", "1990-13-01", false},
		{"another form", "GT", "2026-11-25T12:00:00Z", "1990-1-1", false},
		{"a date-time", "GT", "2026-11-25T12:00:00Z", "1987-06-24T07:00:00.000Z", false},
		{"no country", "", "2026-11-25T12:00:00Z", "1990-01-01", true}, // the country's own error says the rest
	} {
		var c checks
		if d := c.adult(NewDate(tc.born), tc.country, at(tc.now), "birthdate"); (len(c.errs) == 0) != tc.ok || tc.ok == d.Empty() {
			t.Errorf("%s: %s, born %s, at %s: %+v", tc.name, tc.country, tc.born, tc.now, c.errs)
		}
	}
}

// Whatever the moment and the country, nobody is taken who is a minor on the calendar of any of its zones.
func TestTodayIsOneOrTwoDates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for h := range 48 {
		for country := range placesOf() {
			earliest, latest := today(country, now.Add(time.Duration(h)*time.Hour))
			if d := latest.Sub(earliest); d != 0 && d != 24*time.Hour && d != 48*time.Hour {
				t.Fatalf("%s: %s and %s", country, earliest, latest)
			}
		}
	}
}
