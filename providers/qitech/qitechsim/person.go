package qitechsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// person is what the simulator itself needs of a request; the rest is only checked and kept.
type person struct {
	id             string
	registrationID string
	document       string
	firstEmail     string
	faceKey        string
}

// fieldError names the first wrong field, "phones[1].number", and what is expected of it. It never repeats
// the value.
type fieldError struct{ path, text string }

func decodeJSON(body []byte) (any, bool) {
	// encoding/json replaces what is not UTF-8 instead of refusing it.
	if !utf8.Valid(body) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // 1.0 is not the integer 1, and big numbers must be echoed unchanged
	var value any
	if d.Decode(&value) != nil {
		return nil, false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	return value, true
}

// readPerson checks the request of dossier A.3. The required set is that of section E; unknown fields pass,
// because the documents show more fields than this list holds. null counts as absent (ours).
func readPerson(fields map[string]any) (person, *fieldError) {
	root := node{fields: fields, wrong: new(*fieldError)}
	p := person{
		id:             root.required("id", upTo(255)), // the bound is ours
		registrationID: root.text("registration_id", upTo(255)),
	}
	root.required("registration_date", dateTime)
	root.text("client_category", nil)
	root.required("name", nil)
	p.document = root.required("document_number", cpfMask)
	root.required("birthdate", date)
	root.text("gender", genders)
	root.text("nationality", country)
	root.text("mother_name", nil)
	root.text("father_name", nil)
	root.cents("monthly_income")
	root.cents("declared_assets")
	root.text("occupation", nil)
	root.list("emails", func(i int, n node) {
		email := n.required("email", mailAddress)
		if i == 0 {
			p.firstEmail = email
		}
		n.text("validation_type", emailValidations)
		n.text("validation_key", guid)
	})
	root.documents()
	root.address()
	root.list("phones", func(_ int, n node) {
		n.text("international_dial_code", dialCode)
		n.text("area_code", areaCode)
		n.required("number", phoneNumber) // required is ours: an item without it says nothing
		n.text("type", phoneTypes)
		n.text("validation_type", phoneValidations)
		n.text("validation_key", nil)
	})
	if n, ok := root.object("source"); ok {
		n.text("session_id", sessionID)
		n.text("channel", nil)
		n.text("ip", ipv4)
		n.text("platform", nil)
	}
	if n, ok := root.object("face"); ok {
		p.faceKey = n.text("registration_key", guid)
		n.text("validation_key", guid)
		n.text("validation_type", documentValidations)
	}
	return p, *root.wrong
}

// documents checks rg, cnh and whatever other document is sent: the name of the passport's key is not known
// (D.1), and the rules are those that all documents share.
func (n node) documents() {
	all, ok := n.object("documents")
	if !ok {
		return
	}
	names := make([]string, 0, len(all.fields))
	for name := range all.fields {
		names = append(names, name)
	}
	slices.Sort(names) // of several wrong fields, the same one is named every time
	for _, name := range names {
		document, ok := all.object(name)
		if !ok {
			continue
		}
		for _, field := range []string{"number", "register_number", "issuer", "issuer_state", "category", "ocr_key", "ocr_front_key", "ocr_back_key"} {
			document.text(field, nil)
		}
		for _, field := range []string{"issuance_date", "first_issuance_date", "expiration_date"} {
			document.text(field, date)
		}
		document.text("validation_type", documentValidations)
	}
}

// address checks uf and postal_code only in Brazil; elsewhere they are free text. An address without a
// country is taken for Brazilian (ours).
func (n node) address() {
	a, ok := n.object("address")
	if !ok {
		return
	}
	for _, field := range []string{"street", "number", "neighborhood", "city", "complement", "ocr_key"} {
		a.text(field, nil)
	}
	a.text("validation_type", addressValidations)
	if c := a.text("country", country); c == "" || c == "BRA" {
		a.text("uf", capitals)
		a.text("postal_code", postalCode)
	} else {
		a.text("uf", nil)
		a.text("postal_code", nil)
	}
}

// readClientStatus checks the request of dossier A.2 row 4. The documents spell one status in two ways; both
// are taken, and that of the list is kept.
func readClientStatus(fields map[string]any) (status, at string, wrong *fieldError) {
	root := node{fields: fields, wrong: new(*fieldError)}
	status = root.required("client_status", clientStatuses)
	at = root.required("event_date", dateTime)
	if status == "cancelled" {
		status = "canceled"
	}
	return status, at, *root.wrong
}

// node is one object of a request. All nodes of a request share the first mistake that was found.
type node struct {
	path   string
	fields map[string]any
	wrong  **fieldError
}

// A rule returns what is expected of a text, or "" if the text is right.
type rule func(string) string

func (n node) fail(field, text string) {
	if *n.wrong == nil {
		*n.wrong = &fieldError{n.path + field, text}
	}
}

func (n node) text(field string, check rule) string {
	value := n.fields[field]
	if value == nil {
		return ""
	}
	s, ok := value.(string)
	if !ok {
		n.fail(field, "must be a string")
		return ""
	}
	if check != nil {
		if expected := check(s); expected != "" {
			n.fail(field, expected)
			return ""
		}
	}
	return s
}

func (n node) required(field string, check rule) string {
	s := n.text(field, check)
	if n.fields[field] == nil {
		n.fail(field, "is required")
	} else if strings.TrimSpace(s) == "" {
		n.fail(field, "must not be empty") // says nothing if the rule has already
	}
	return s
}

// cents is an amount of money: whole, and not below zero (ours).
func (n node) cents(field string) {
	value := n.fields[field]
	if value == nil {
		return
	}
	number, ok := value.(json.Number)
	if !ok {
		n.fail(field, "must be an integer, in cents")
		return
	}
	if cents, err := strconv.ParseInt(number.String(), 10, 64); err != nil || cents < 0 {
		n.fail(field, "must be an integer, in cents")
	}
}

func (n node) object(field string) (node, bool) {
	value := n.fields[field]
	if value == nil {
		return node{}, false
	}
	fields, ok := value.(map[string]any)
	if !ok {
		n.fail(field, "must be an object")
		return node{}, false
	}
	return node{n.path + field + ".", fields, n.wrong}, true
}

func (n node) list(field string, item func(int, node)) {
	value := n.fields[field]
	if value == nil {
		return
	}
	items, ok := value.([]any)
	if !ok {
		n.fail(field, "must be an array")
		return
	}
	for i, value := range items {
		path := field + "[" + strconv.Itoa(i) + "]"
		fields, ok := value.(map[string]any)
		if !ok {
			n.fail(path, "must be an object")
			continue
		}
		item(i, node{n.path + path + ".", fields, n.wrong})
	}
}

func oneOf(words ...string) rule {
	text := "must be " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
	return func(s string) string {
		if slices.Contains(words, s) {
			return ""
		}
		return text
	}
}

// The closed lists of dossier A.3 and A.5.
var (
	genders             = oneOf("male", "female", "undefined")
	emailValidations    = oneOf("zaig_api", "company_email")
	documentValidations = oneOf("zaig_api", "zaig_sdk")
	addressValidations  = oneOf("visit", "zaig_ocr")
	phoneTypes          = oneOf("residential", "commercial", "mobile")
	phoneValidations    = oneOf("zaig_sms", "zaig_call", "company_sms", "company_call")
	clientStatuses      = oneOf("registered", "approved", "reproved", "fraud_blocked", "default_blocked", "canceled", "cancelled")
)

// shape makes a rule of a form in which 0 stands for a digit, A for a capital, x for a hexadecimal digit, and
// everything else for itself.
func shape(form, text string) rule {
	return func(s string) string {
		if !fits(s, form) {
			return text
		}
		return ""
	}
}

func fits(s, form string) bool {
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		digit := c >= '0' && c <= '9'
		switch form[i] {
		case '0':
			if !digit {
				return false
			}
		case 'A':
			if c < 'A' || c > 'Z' {
				return false
			}
		case 'x':
			if !digit && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		default:
			if c != form[i] {
				return false
			}
		}
	}
	return true
}

// The forms of dossier A.3. The CPF is checked against its mask and not by its check digits: the documents'
// own examples fail those.
var (
	cpfMask    = shape("000.000.000-00", "must match ###.###.###-##")
	guid       = shape("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "must be a GUID")
	capitals   = shape("AA", "must be two capital letters")
	postalCode = shape("00000-000", "must match #####-###")
)

func upTo(most int) rule {
	text := "must have 1 to " + strconv.Itoa(most) + " characters"
	return func(s string) string {
		if n := utf8.RuneCountInString(s); n < 1 || n > most {
			return text
		}
		return ""
	}
}

var sessionID = upTo(500)

func country(s string) string {
	if !countries[s] {
		return "must be a country, ISO 3166-1 alpha-3"
	}
	return ""
}

func date(s string) string {
	if _, err := time.Parse(time.DateOnly, s); err != nil || !fits(s, "0000-00-00") {
		return "must be a date that exists, YYYY-MM-DD"
	}
	return ""
}

// dateTime is ISO 8601 with an offset, or Z, and any fraction. time.Parse alone also takes hours of one digit
// and a comma before the fraction.
func dateTime(s string) string {
	_, err := time.Parse(time.RFC3339, s)
	if err != nil || len(s) < 20 || !fits(s[:19], "0000-00-00T00:00:00") || strings.Contains(s, ",") {
		return "must be a date and time with offset, YYYY-MM-DDThh:mm:ss±hh:mm"
	}
	return ""
}

// mailAddress checks no more than that there is something before and behind one @ (ours: no rule is shown).
func mailAddress(s string) string {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || strings.ContainsAny(domain, "@") || strings.ContainsAny(s, " \t\r\n") {
		return "must be an e-mail address"
	}
	return ""
}

// digits are the rules of a phone's parts: digits only, without the 0 that is dialled before a code.
func digits(s string, most int, leadingZero bool) bool {
	if len(s) < 1 || len(s) > most || (!leadingZero && s[0] == '0') {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

func dialCode(s string) string {
	if !digits(s, 3, false) {
		return "must be 1 to 3 digits without + or leading 0"
	}
	return ""
}

func areaCode(s string) string {
	if !digits(s, 5, false) {
		return "must be 1 to 5 digits without leading 0"
	}
	return ""
}

func phoneNumber(s string) string {
	if !digits(s, 15, true) {
		return "must be digits without hyphen"
	}
	return ""
}

// ipv4 allows leading zeros, as the documents do and net/netip does not.
func ipv4(s string) string {
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if n, err := strconv.Atoi(part); err != nil || n > 255 || !digits(part, 3, true) {
			parts = nil
		}
	}
	if len(parts) != 4 {
		return "must be an IPv4 address"
	}
	return ""
}
