package kyc

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"
)

func TestParseCPF(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in, want string // want "" means refused
	}{
		{"formatted", "529.982.247-25", "52998224725"},
		{"bare", "52998224725", "52998224725"},
		{"blanks and slash (C8)", "529 982 247/25", "52998224725"},
		{"repeated digits pass (C9)", "111.111.111-11", "11111111111"},
		{"leading zeros survive (C10)", "012.345.678-90", "01234567890"},
		{"wrong check digit", "529.982.247-26", ""},
		{"ten digits", "5299822472", ""},
		{"twelve digits", "529982247255", ""},
		{"letters", "529.982.247-2S", ""},
		{"full-width digits", "５２９９８２２４７２５", ""},
		{"Arabic digits", "٥٢٩٩٨٢٢٤٧٢٥", ""},
		{"NUL", "52998224725\x00", ""},
		{"tab", "529\t98224725", ""},
		{"empty", "", ""},
		{"separators only", "...-", ""},
		{"separators without end", "52998224725" + strings.Repeat(".", 40), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseCPF(tc.in, true)
			if ok != (tc.want != "") || got.Reveal() != tc.want {
				t.Errorf("got %q, %v; want %q", got.Reveal(), ok, tc.want)
			}
		})
	}
	if _, ok := ParseCPF("123.456.789-12", false); !ok {
		t.Error("check digits switched off: QI Tech's own example must pass")
	}
}

func FuzzParseCPF(f *testing.F) {
	for _, s := range []string{"529.982.247-25", "52998224725", "111 111 111/11", "٥٢٩", "\x00", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ParseCPF(s, true)
		if !ok {
			return
		}
		again, ok := ParseCPF(d.Reveal(), true)
		if !ok || again.Reveal() != d.Reveal() || len(d.Reveal()) != 11 {
			t.Errorf("the normal form does not parse to itself")
		}
	})
}

func TestParsePhone(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"+5511987654321", "+55 11 98765-4321", "+55 (11) 98765-4321", "+55.11.98765.4321", " +5511987654321 ", "+55 11 987654321"} {
		if got, ok := ParsePhone(in); !ok || got.Reveal() != "+5511987654321" {
			t.Errorf("%q: got %q, %v", in, got.Reveal(), ok)
		}
	}
	for _, in := range []string{"", "5511987654321", "+", "+55", "+551198765432100000", "+55 11 98765-4321 x5", "tel:+5511987654321", "+55\x0011987654321", strings.Repeat("+5", 30)} {
		if got, ok := ParsePhone(in); ok {
			t.Errorf("%q: taken as %q", in, got.Reveal())
		}
	}
}

func TestValidEmail(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"maria@example.com", "m.s+kyc@mail.example.com.br", "o'neil@example.org", "maria@exämple.de"} {
		if !validEmail(ok) {
			t.Errorf("%q refused", ok)
		}
	}
	for _, bad := range []string{"", "maria", "@example.com", "maria@", "maria@localhost", "maria@@example.com", "Maria <maria@example.com>", "maria@example.com\r\nBcc: x@y.z",
		"maria@-example.com", "maria@example..com", strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("b", 250) + ".com", "a b@example.com", "maria@example.com."} {
		if validEmail(bad) {
			t.Errorf("%q taken", bad)
		}
	}
}

// The list is written by hand, so it is held against another source, and against its known size.
func TestCountriesAreISO3166(t *testing.T) {
	t.Parallel()
	if len(countries) != 249 {
		t.Errorf("%d countries, want 249", len(countries))
	}
	for code := range countries {
		r, err := language.ParseRegion(code)
		if err != nil || r.ISO3() != code {
			t.Errorf("%s is not a country elsewhere: %v", code, err)
		}
	}
	if len(states) != 27 {
		t.Errorf("%d states, want 27", len(states))
	}
}

func ptr[T any](v T) *T { return &v }

func goodInput() RegisterPersonInput {
	return RegisterPersonInput{
		ExternalID: ptr("ext-1"), Name: NewName("Maria da Silva"), DocumentNumber: NewDocumentNumber("529.982.247-25"), Birthdate: NewDate("1990-02-28"),
		Emails:  []EmailInput{{NewEmailAddress("maria@example.com")}},
		Phones:  []PhoneInput{{Number: NewPhoneNumber("+55 11 98765-4321"), Type: ptr(PhoneMobile)}},
		Address: AddressInput{Street: NewPersonalText("Rua A"), City: "São Paulo", State: "SP", PostalCode: NewPersonalText("01310100"), Country: "BRA"},
	}
}

var testNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestNormalizeGood(t *testing.T) {
	t.Parallel()
	in := goodInput()
	in.FaceRecognitionID = ptr(UUID("A3BB189E-8BF9-3888-9912-ACE4E6543002"))
	in.IPAddress = ptr(NewPersonalText("::ffff:203.0.113.7"))
	in.Occupation = ptr(NewPersonalText("  "))
	p, ext, key, errs := in.normalize(testNow, true)
	if len(errs) > 0 || ext != "ext-1" || key != "" {
		t.Fatalf("refused: %+v", errs)
	}
	if p.DocumentNumber.Reveal() != "52998224725" || p.Phones[0].Number.Reveal() != "+5511987654321" || p.Address.PostalCode.Reveal() != "01310-100" {
		t.Errorf("not normalised: %q %q %q", p.DocumentNumber.Reveal(), p.Phones[0].Number.Reveal(), p.Address.PostalCode.Reveal())
	}
	if *p.FaceRecognitionID != "a3bb189e-8bf9-3888-9912-ace4e6543002" || p.IPAddress.Reveal() != "203.0.113.7" || p.Occupation != nil {
		t.Errorf("not normalised: %v %q %v", *p.FaceRecognitionID, p.IPAddress.Reveal(), p.Occupation)
	}
}

// Every field wrong at once: one answer names them all, each at its own path.
func TestNormalizeNamesEveryWrongFieldAtOnce(t *testing.T) {
	t.Parallel()
	bad := "bad\u202e"
	in := RegisterPersonInput{
		ExternalID: ptr(strings.Repeat("x", 256)), Name: NewName(bad), DocumentNumber: NewDocumentNumber("52998224726"), Birthdate: NewDate("2023-02-29"),
		Emails:  []EmailInput{{NewEmailAddress("ok@example.com")}, {NewEmailAddress("nope")}},
		Phones:  []PhoneInput{{Number: NewPhoneNumber("11987654321")}},
		Address: AddressInput{Street: NewPersonalText(""), Number: ptr(NewPersonalText(bad)), City: bad, State: "XX", PostalCode: NewPersonalText("1"), Country: "BRA"},
		Gender:  ptr(GenderOther), Nationality: ptr("BR"), MonthlyIncome: ptr(NewCents(-1)),
		Occupation: ptr(NewPersonalText(bad)), MotherName: ptr(NewName(bad)), FatherName: ptr(NewName(strings.Repeat("x", 201))),
		FaceRecognitionID: ptr(UUID("x")), SessionID: ptr(UUID("{a3bb189e-8bf9-3888-9912-ace4e6543002}")),
		IPAddress: ptr(NewPersonalText("300.1.1.1")), DeviceFingerprint: ptr(NewPersonalText(strings.Repeat("x", 2001))), IdempotencyKey: ptr("ключ"),
	}
	_, _, _, errs := in.normalize(testNow, true)
	got := make(map[string]UserErrorCode)
	for _, e := range errs {
		got[strings.Join(e.Path, ".")] = e.Code
		for _, secret := range []string{"52998224726", "nope", "11987654321", "300.1.1.1"} {
			if strings.Contains(e.Message, secret) {
				t.Errorf("%v echoes the value", e.Path)
			}
		}
	}
	want := map[string]UserErrorCode{
		"input.externalId": CodeInvalid, "input.name": CodeInvalid, "input.documentNumber": CodeInvalid, "input.birthdate": CodeInvalid,
		"input.emails.1.address": CodeInvalid, "input.phones.0.number": CodeInvalid,
		"input.address.street": CodeRequired, "input.address.number": CodeInvalid, "input.address.city": CodeInvalid, "input.address.state": CodeInvalid, "input.address.postalCode": CodeInvalid,
		"input.nationality": CodeInvalid, "input.monthlyIncome": CodeInvalid, "input.occupation": CodeInvalid, "input.motherName": CodeInvalid, "input.fatherName": CodeInvalid,
		"input.faceRecognitionId": CodeInvalid, "input.sessionId": CodeInvalid, "input.ipAddress": CodeInvalid, "input.deviceFingerprint": CodeInvalid, "input.idempotencyKey": CodeInvalid,
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
}

func TestBirthdate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"1900-01-01": true, "2026-11-24": true, "2026-11-25": true, "2000-02-29": true, // the 25th has begun at UTC+14
		"1899-12-31": false, "2026-11-26": false, "2999-01-01": false, "2023-02-29": false, "1990-2-3": false, "1990-02-03T00:00:00Z": false, "": false, "yesterday": false,
	} {
		var c checks
		if c.birthdate(NewDate(in), testNow, "birthdate"); (len(c.errs) == 0) != want {
			t.Errorf("%q: %v", in, c.errs)
		}
	}
}

func TestAddressOutsideBrazilIsFreeText(t *testing.T) {
	t.Parallel()
	in := goodInput()
	in.Address = AddressInput{Street: NewPersonalText("1 Main St"), City: "Springfield", State: "Illinois", PostalCode: NewPersonalText("62701-1234"), Country: "USA"}
	if _, _, _, errs := in.normalize(testNow, true); len(errs) > 0 {
		t.Errorf("refused: %+v", errs)
	}
}

func TestEmptyListsAreRequired(t *testing.T) {
	t.Parallel()
	in := goodInput()
	in.Emails, in.Phones = nil, make([]PhoneInput, 21)
	_, _, _, errs := in.normalize(testNow, true)
	if len(errs) != 2 || errs[0].Code != CodeRequired || errs[1].Code != CodeInvalid {
		t.Errorf("got %+v", errs)
	}
}

// The decision table of dossier section C, rows C12–C19.
func TestDecideMapping(t *testing.T) {
	t.Parallel()
	p1, p2 := &Person{ID: "per_1"}, &Person{ID: "per_2"}
	for _, tc := range []struct {
		name             string
		existing, mapped *Person
		externalID       string
		taken, mapIt     bool
	}{
		{"new document, none", nil, nil, "", false, false},
		{"new document, E new", nil, nil, "E", false, true},
		{"new document, E of some person", nil, p1, "E", true, false},
		{"known document, none", p1, nil, "", false, false},
		{"known document, E new", p1, nil, "E", false, true},
		{"known document, E its own", p1, p1, "E", false, false},
		{"known document, E of another", p1, p2, "E", true, false},
	} {
		if taken, mapIt := decideMapping(tc.existing, tc.mapped, tc.externalID); taken != tc.taken || mapIt != tc.mapIt {
			t.Errorf("%s: taken %v, map %v", tc.name, taken, mapIt)
		}
	}
}

// A payload is kept as it was received, so blanks around a value count: a megabyte of them would be kept with it.
func TestBlanksAreBoundedToo(t *testing.T) {
	t.Parallel()
	blanks := strings.Repeat(" ", 100_000)
	in := RegisterPersonInput{
		ExternalID: ptr(blanks + "E"), Name: NewName("Maria" + blanks), DocumentNumber: NewDocumentNumber("52998224725" + blanks), Birthdate: NewDate(blanks + "1990-02-28"),
		Emails:      []EmailInput{{NewEmailAddress(blanks + "ok@example.com")}},
		Phones:      []PhoneInput{{Number: NewPhoneNumber(blanks + "+5511987654321")}},
		Address:     AddressInput{Street: NewPersonalText(blanks + "S"), Number: ptr(NewPersonalText(blanks)), City: blanks + "C", State: "SP" + blanks, PostalCode: NewPersonalText("01310-100" + blanks), Country: "BRA" + blanks},
		Nationality: ptr("BRA" + blanks), Occupation: ptr(NewPersonalText(blanks)), MotherName: ptr(NewName(blanks)),
		FaceRecognitionID: ptr(UUID("a3bb189e-8bf9-3888-9912-ace4e6543002" + blanks)), IPAddress: ptr(NewPersonalText("10.0.0.1" + blanks)),
		DeviceFingerprint: ptr(NewPersonalText(blanks)), IdempotencyKey: ptr(blanks + "k"),
	}
	_, _, _, errs := in.normalize(testNow, true)
	for _, e := range errs {
		if e.Code != CodeInvalid {
			t.Errorf("%v: %s", e.Path, e.Code)
		}
	}
	if len(errs) != 19 {
		t.Errorf("%d of 19 fields are refused: %v", len(errs), errs)
	}
}
