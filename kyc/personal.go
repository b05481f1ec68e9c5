package kyc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"
)

// Personal data has types of its own. They do not print: every formatter, JSON and slog see
// "[REDACTED]". The value leaves in two ways only: Reveal, which a reviewer can search for, and
// MarshalGQLContext, which masks it unless the reader's token carries pii:read. Forgetting
// something therefore hides data instead of leaking it.
const redacted = "[REDACTED]"

type personal struct {
	_ [0]func() // not comparable: == would compare the pointers
	// A pointer, because fmt does not call the methods of a value it reaches through an unexported field of
	// somebody else's struct. It prints the fields instead, and of a pointer only the address.
	value *string
}

// hide wraps a value.
func hide(s string) personal {
	if s == "" {
		return personal{}
	}
	return personal{value: &s}
}

// Reveal gives the value. Callers are the store's rows, the providers' wire structs and the export of a person.
func (p personal) Reveal() string {
	if p.value == nil {
		return ""
	}
	return *p.value
}

// Empty reports whether there is no value.
func (p personal) Empty() bool { return p.value == nil }

func (personal) String() string               { return redacted }
func (personal) GoString() string             { return redacted }
func (personal) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (personal) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (personal) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (personal) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// These reach the caller as BAD_USER_INPUT: the scalar itself cannot be what was sent.
var (
	errNotAString = &Error{Kind: Invalid, Op: "kyc.scalar", Message: "must be a string"}
	errNotAnInt64 = &Error{Kind: Invalid, Op: "kyc.scalar", Message: "must be a 64-bit integer"}
	errNotANumber = &Error{Kind: Invalid, Op: "kyc.scalar", Message: "must be a number"}
	errNotJSON    = &Error{Kind: Invalid, Op: "kyc.scalar", Message: "must be JSON"}
)

func (p *personal) unmarshal(v any) error {
	s, ok := v.(string)
	if !ok {
		return errNotAString
	}
	*p = hide(s)
	return nil
}

// marshal writes the value for readers with pii:read and its mask for all others.
func (p personal) marshal(ctx context.Context, w io.Writer, mask func(string) string) error {
	s := p.Reveal()
	if !discloses(ctx) {
		s = mask(s)
	}
	return writeJSONString(w, s)
}

func writeJSONString(w io.Writer, s string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

type (
	// Name is a person's name.
	Name struct{ personal }
	// DocumentNumber is a CPF. In a stored Person it is eleven digits without punctuation; in an input it
	// is whatever was received.
	DocumentNumber struct{ personal }
	// EmailAddress is an e-mail address.
	EmailAddress struct{ personal }
	// PhoneNumber is a phone number, E.164 once normalised.
	PhoneNumber struct{ personal }
	// Password is a password or a one-time code on its way through. It lives in memory only: it is in no row, job, log,
	// snapshot or hash, and no schema answers it.
	Password struct{ personal }
	// Date is a calendar date (YYYY-MM-DD once normalised). Every date of the schema is a birthday, so
	// dates are personal. The scalar takes any string: whether it is a date is decided together with all
	// other fields, so that one answer names every wrong one.
	Date struct{ personal }
	// PersonalText is personal text of no special form: a street, an occupation, an address of a device.
	PersonalText struct{ personal }
)

// NewName and its siblings wrap a value as it is.
func NewName(s string) Name { return Name{hide(s)} }

// NewDocumentNumber wraps a value as it is; [ParseCPF] normalises one.
func NewDocumentNumber(s string) DocumentNumber { return DocumentNumber{hide(s)} }

// NewEmailAddress wraps a value as it is.
func NewEmailAddress(s string) EmailAddress { return EmailAddress{hide(s)} }

// NewPhoneNumber wraps a value as it is.
func NewPhoneNumber(s string) PhoneNumber { return PhoneNumber{hide(s)} }

// NewPassword wraps a value as it is.
func NewPassword(s string) Password { return Password{hide(s)} }

// NewDate wraps a value as it is.
func NewDate(s string) Date { return Date{hide(s)} }

// NewPersonalText wraps a value as it is.
func NewPersonalText(s string) PersonalText { return PersonalText{hide(s)} }

// The GraphQL methods are spelled out on every type because gqlgen does not see promoted ones.

func (n *Name) UnmarshalGQLContext(_ context.Context, v any) error           { return n.unmarshal(v) }
func (d *DocumentNumber) UnmarshalGQLContext(_ context.Context, v any) error { return d.unmarshal(v) }
func (e *EmailAddress) UnmarshalGQLContext(_ context.Context, v any) error   { return e.unmarshal(v) }
func (p *PhoneNumber) UnmarshalGQLContext(_ context.Context, v any) error    { return p.unmarshal(v) }
func (d *Date) UnmarshalGQLContext(_ context.Context, v any) error           { return d.unmarshal(v) }
func (t *PersonalText) UnmarshalGQLContext(_ context.Context, v any) error   { return t.unmarshal(v) }
func (p *Password) UnmarshalGQLContext(_ context.Context, v any) error       { return p.unmarshal(v) }

func (n Name) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	return n.marshal(ctx, w, maskName)
}

// MarshalGQLContext writes null for nobody's: whatever has a document number may have none.
func (d DocumentNumber) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	if d.Empty() {
		_, err := io.WriteString(w, "null")
		return err
	}
	return d.marshal(ctx, w, maskDocument)
}

func (e EmailAddress) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	return e.marshal(ctx, w, maskEmail)
}

func (p PhoneNumber) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	return p.marshal(ctx, w, maskPhone)
}

func (d Date) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	if d.Empty() { // a prospect need not tell it
		_, err := io.WriteString(w, "null")
		return err
	}
	return d.marshal(ctx, w, maskDate)
}

func (t PersonalText) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	return t.marshal(ctx, w, maskText)
}

// MarshalGQLContext exists because a GraphQL type goes both ways; nobody is ever answered a password.
func (p Password) MarshalGQLContext(_ context.Context, w io.Writer) error {
	return writeJSONString(w, redacted)
}

// Cents is an amount of money in cents of BRL. It is personal: masked it is null, and it does not print.
type Cents struct {
	_     [0]func()
	value *int64 // as in personal
}

// NewCents wraps an amount.
func NewCents(v int64) Cents { return Cents{value: &v} }

// Reveal gives the amount.
func (c Cents) Reveal() int64 {
	if c.value == nil {
		return 0
	}
	return *c.value
}

func (Cents) String() string               { return redacted }
func (Cents) GoString() string             { return redacted }
func (Cents) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Cents) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Cents) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Cents) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalGQLContext takes the number types GraphQL literals and JSON variables arrive as.
func (c *Cents) UnmarshalGQLContext(_ context.Context, v any) error {
	switch v := v.(type) {
	case int64:
		*c = NewCents(v)
	case int:
		*c = NewCents(int64(v))
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return errNotAnInt64
		}
		*c = NewCents(n)
	default:
		return errNotAnInt64
	}
	return nil
}

// MarshalGQLContext writes the number, or null for readers without pii:read.
func (c Cents) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	if !discloses(ctx) {
		_, err := io.WriteString(w, "null")
		return err
	}
	_, err := fmt.Fprintf(w, "%d", c.Reveal())
	return err
}

// Degrees is a latitude or longitude of somebody's home or whereabouts, WGS 84. Nothing answers it, so it has no
// mask; it does not print.
type Degrees struct {
	_     [0]func()
	value *float64 // as in personal
}

// NewDegrees wraps an angle.
func NewDegrees(v float64) Degrees { return Degrees{value: &v} }

// Reveal gives the angle.
func (d Degrees) Reveal() float64 {
	if d.value == nil {
		return 0
	}
	return *d.value
}

func (Degrees) String() string               { return redacted }
func (Degrees) GoString() string             { return redacted }
func (Degrees) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Degrees) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Degrees) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Degrees) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalGQLContext takes the number types GraphQL literals and JSON variables arrive as.
func (d *Degrees) UnmarshalGQLContext(_ context.Context, v any) error {
	switch v := v.(type) {
	case float64:
		*d = NewDegrees(v)
	case int64:
		*d = NewDegrees(float64(v))
	case int:
		*d = NewDegrees(float64(v))
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return errNotANumber
		}
		*d = NewDegrees(f)
	default:
		return errNotANumber
	}
	return nil
}

// MarshalGQLContext writes the number, or null for readers without pii:read.
func (d Degrees) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	if !discloses(ctx) {
		_, err := io.WriteString(w, "null")
		return err
	}
	_, err := fmt.Fprintf(w, "%g", d.Reveal())
	return err
}

// PersonalJSON is a JSON document about a person: what a document says, what a map says of an address. Masked it is null,
// and it does not print.
type PersonalJSON struct{ personal }

// NewPersonalJSON wraps a document as it is.
func NewPersonalJSON(document []byte) PersonalJSON { return PersonalJSON{hide(string(document))} }

// UnmarshalGQLContext keeps any JSON value.
func (j *PersonalJSON) UnmarshalGQLContext(_ context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return errNotJSON
	}
	*j = NewPersonalJSON(b)
	return nil
}

// MarshalGQLContext writes the value, or null for readers without pii:read.
func (j PersonalJSON) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	s := j.Reveal()
	if s == "" || !discloses(ctx) {
		s = "null"
	}
	_, err := io.WriteString(w, s)
	return err
}

// UUID is an id in the 36-character form. Like Date, the scalar takes any string and validation says
// whether it is one.
type UUID string

// UnmarshalGQLContext takes any string.
func (u *UUID) UnmarshalGQLContext(_ context.Context, v any) error {
	s, ok := v.(string)
	if !ok {
		return errNotAString
	}
	*u = UUID(s)
	return nil
}

// MarshalGQLContext writes the id as it is.
func (u UUID) MarshalGQLContext(_ context.Context, w io.Writer) error {
	return writeJSONString(w, string(u))
}

// JSON is a JSON document kept byte for byte. What it holds is mostly a person's, so it does not print either; its bytes
// are []byte(j).
type JSON json.RawMessage

func (JSON) String() string               { return redacted }
func (JSON) GoString() string             { return redacted }
func (JSON) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (JSON) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (JSON) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (JSON) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalGQLContext keeps any JSON value.
func (j *JSON) UnmarshalGQLContext(_ context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return errNotJSON
	}
	*j = b
	return nil
}

// MarshalGQLContext writes the document as it is, and tells whoever records that. Who may have it is decided before:
// a field that holds a personal document asks for the scope pii:read (PersonalData.PAYLOAD).
func (j JSON) MarshalGQLContext(ctx context.Context, w io.Writer) error {
	r := requestFrom(ctx)
	if r.disclosed != nil {
		r.disclosed(ctx)
	}
	if len(j) == 0 || r.disclosed == nil {
		_, err := io.WriteString(w, "null")
		return err
	}
	_, err := w.Write(j)
	return err
}

// The masks of the contract (section 4).

// maskName leaves the first letter of each part.
func maskName(s string) string {
	parts := strings.Fields(s)
	for i, part := range parts {
		r, _ := utf8.DecodeRuneInString(part)
		parts[i] = string(r) + "***"
	}
	return strings.Join(parts, " ")
}

// maskDocument leaves the middle third; a CPF keeps its punctuation.
func maskDocument(s string) string {
	if len(s) == 11 {
		return "***." + s[3:6] + "." + s[6:9] + "-**"
	}
	runes := []rune(s)
	third := len(runes) / 3
	for i := range runes {
		if i < third || i >= len(runes)-third {
			runes[i] = '*'
		}
	}
	if third == 0 {
		return strings.Repeat("*", len(runes))
	}
	return string(runes)
}

// maskEmail leaves the first letter of mailbox and domain, and the last label.
func maskEmail(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 {
		return "***"
	}
	first, _ := utf8.DecodeRuneInString(s)
	domain := s[at+1:]
	d, _ := utf8.DecodeRuneInString(domain)
	top := ""
	if dot := strings.LastIndexByte(domain, '.'); dot >= 0 {
		top = domain[dot:]
	}
	return string(first) + "***@" + string(d) + "***" + top
}

// maskPhone leaves the country code and the last two digits. The number of stars is fixed, as in the
// contract's example: the length of a number narrows it down.
func maskPhone(s string) string {
	if len(s) < 4 {
		return "***"
	}
	return callingCode(s) + "*******" + s[len(s)-2:]
}

// callingCodes are the country calling codes. None begins another one (ITU-T E.164).
var callingCodes = sync.OnceValue(func() map[string]bool {
	codes := make(map[string]bool)
	for region := range phonenumbers.GetSupportedRegions() {
		codes[strconv.Itoa(phonenumbers.GetCountryCodeForRegion(region))] = true
	}
	for code := range phonenumbers.GetSupportedGlobalNetworkCallingCodes() {
		codes[strconv.Itoa(code)] = true
	}
	return codes
})

// callingCode is the country calling code of a number, with its plus; "" when it shows none. Stored numbers are in E.164, and
// parsing one again with the library's expressions cost a tenth of a masked read. MUST: TestCallingCode.
func callingCode(s string) string {
	if s[0] == '+' && len(s) >= 8 && len(s) <= 16 && strings.IndexFunc(s[1:], func(r rune) bool { return r < '0' || r > '9' }) < 0 {
		for end := 2; end <= 4; end++ {
			if callingCodes()[s[1:end]] {
				return s[:end]
			}
		}
	}
	n, err := phonenumbers.Parse(s, "ZZ")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("+%d", n.GetCountryCode())
}

// maskDate leaves the year.
func maskDate(s string) string {
	if len(s) < 4 {
		return "***"
	}
	return s[:4]
}

func maskText(string) string { return "***" }

// CodeLike makes sure that text of an upstream is a code and not prose: letters, digits and separators,
// at most 64 characters, and no six digits without a letter between them, which could be part of a
// document number, a phone or a birthday, with or without its punctuation. What does
// not qualify becomes "unknown"; the empty string stays empty. A UUID qualifies whatever its digits: keys
// of upstreams are UUIDs, and every sixth has six digits in a row. Upstream text reaches callers, logs and
// metrics only through here.
func CodeLike(s string) string {
	if s == "" {
		return ""
	}
	if len(s) > 64 {
		return "unknown"
	}
	if len(s) == 36 && uuid.Validate(s) == nil {
		return s
	}
	run := 0
	for _, r := range s {
		switch {
		case r > unicode.MaxASCII:
			return "unknown"
		case unicode.IsDigit(r):
			run++
			if run >= 6 {
				return "unknown"
			}
			continue
		case unicode.IsLetter(r):
			run = 0
		case r == '_', r == '-', r == '.':
		default:
			return "unknown"
		}
	}
	return s
}
