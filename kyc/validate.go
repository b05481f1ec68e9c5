package kyc

import (
	"net/mail"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"
)

// checks collects every wrong field of one input, so that one answer names them all. Messages say what
// is expected and never repeat what was received.
type checks struct{ errs []UserError }

func (c *checks) add(code UserErrorCode, message string, path ...string) {
	c.errs = append(c.errs, UserError{Code: code, Message: message, Path: append([]string{"input"}, path...)})
}

func (c *checks) invalid(message string, path ...string)  { c.add(CodeInvalid, message, path...) }
func (c *checks) required(message string, path ...string) { c.add(CodeRequired, message, path...) }

// text checks printable text of min to max characters and trims the blanks around it. The blanks count: the payload is
// kept as received, and a megabyte of them around a name would be kept too.
func (c *checks) text(s string, min, max int, path ...string) string {
	if len(s) > utf8.UTFMax*max || utf8.RuneCountInString(s) > max {
		c.invalid("must have at most "+strconv.Itoa(max)+" characters", path...)
		return ""
	}
	s = strings.TrimSpace(s)
	if s == "" {
		if min > 0 {
			c.required("must not be empty", path...)
		}
		return ""
	}
	if !printable(s) {
		c.invalid("must not hold control or bidirectional formatting characters", path...)
		return ""
	}
	return s
}

// optional is text for a field that may be left out; an empty string counts as left out.
func (c *checks) optional(s *string, max int, path ...string) *string {
	if s == nil {
		return nil
	}
	return nonEmpty(c.text(*s, 0, max, path...))
}

func (c *checks) optionalText(t *PersonalText, max int, path ...string) *PersonalText {
	if t == nil {
		return nil
	}
	s := c.text(t.Reveal(), 0, max, path...)
	if s == "" {
		return nil
	}
	v := NewPersonalText(s)
	return &v
}

func (c *checks) optionalName(n *Name, path ...string) *Name {
	if n == nil {
		return nil
	}
	s := c.text(n.Reveal(), 0, 200, path...)
	if s == "" {
		return nil
	}
	v := NewName(s)
	return &v
}

// printable refuses invalid UTF-8, control characters (NUL breaks PostgreSQL, CR and LF break headers
// and logs downstream) and the bidirectional controls that make a name read as another one.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		switch {
		case unicode.IsControl(r), r == utf8.RuneError, r == '\u061c', r == '\u200e', r == '\u200f', r == '\u2028', r == '\u2029', r == '\ufeff',
			r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return false
		}
	}
	return true
}

// ParseCPF normalises a CPF to its eleven digits. It takes the bare and the formatted form and any mix
// of dots, hyphens, slashes and blanks between the digits (dossier C8), and verifies both check digits
// unless checkDigits is false. Repeated digits such as 111.111.111-11 satisfy the algorithm and pass: the
// seed's own example is one (dossier C9).
func ParseCPF(s string, checkDigits bool) (DocumentNumber, bool) {
	if len(s) > 32 {
		return DocumentNumber{}, false
	}
	digits := make([]byte, 0, 11)
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b >= '0' && b <= '9':
			if len(digits) == 11 {
				return DocumentNumber{}, false
			}
			digits = append(digits, b)
		case b == '.', b == '-', b == '/', b == ' ':
		default: // letters, NUL, and every non-ASCII digit
			return DocumentNumber{}, false
		}
	}
	if len(digits) != 11 {
		return DocumentNumber{}, false
	}
	if checkDigits && (digits[9] != cpfDigit(digits[:9]) || digits[10] != cpfDigit(digits[:10])) {
		return DocumentNumber{}, false
	}
	return NewDocumentNumber(string(digits)), true
}

// cpf checks a document number and normalises it.
func (c *checks) cpf(d DocumentNumber, checkDigits bool, path ...string) DocumentNumber {
	document, ok := ParseCPF(d.Reveal(), checkDigits)
	switch {
	case ok:
	case d.Empty():
		c.required("must be a CPF", path...)
	default:
		c.invalid("must be a CPF: eleven digits with right check digits", path...)
	}
	return document
}

// cpfDigit is the modulo 11 check digit over the digits before it.
func cpfDigit(digits []byte) byte {
	sum := 0
	for i, d := range digits {
		sum += int(d-'0') * (len(digits) + 1 - i)
	}
	if rest := sum * 10 % 11; rest < 10 {
		return byte('0' + rest)
	}
	return '0'
}

// ParsePhone normalises a phone number to E.164. Punctuation is tolerated, the plus and the country
// code are not optional: guessing a country sends a code to a stranger. It asks for a possible number
// and not for an assigned one, because number plans change faster than libraries.
func ParsePhone(s string) (PhoneNumber, bool) {
	if len(s) > 40 {
		return PhoneNumber{}, false
	}
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "+") || strings.Trim(s, "+0123456789 .-()/") != "" {
		return PhoneNumber{}, false
	}
	n, err := phonenumbers.Parse(s, "ZZ")
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return PhoneNumber{}, false
	}
	return NewPhoneNumber(phonenumbers.Format(n, phonenumbers.E164)), true
}

// validEmail takes what RFC 5321 delivers in practice: a dot-atom mailbox and a domain with a dot.
func validEmail(s string) bool {
	if len(s) > 254 || strings.ContainsAny(s, " \t\"<>(),;:\\[]") {
		return false
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return false
	}
	at := strings.LastIndexByte(s, '@')
	return at <= 64 && domainPattern.MatchString(s[at+1:])
}

var (
	domainPattern     = regexp.MustCompile(`^([\p{L}\p{N}]([\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+[\p{L}][\p{L}\p{N}-]{0,61}[\p{L}\p{N}]$`)
	brPostalPattern   = regexp.MustCompile(`^[0-9]{5}-?[0-9]{3}$`)
	printableASCIIKey = regexp.MustCompile(`^[\x20-\x7e]{1,255}$`)
	datePattern       = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// maxDate is how long a date may be with the blanks around it.
const maxDate = 32

// birthdate checks a date that exists, not before 1900 and not in the future anywhere on earth.
func (c *checks) birthdate(d Date, now time.Time, path ...string) Date {
	s := strings.TrimSpace(d.Reveal())
	if s == "" && len(d.Reveal()) <= maxDate {
		c.required("must be a date, YYYY-MM-DD", path...)
		return Date{}
	}
	t, err := time.Parse(time.DateOnly, s)
	switch {
	case err != nil || !datePattern.MatchString(s) || len(d.Reveal()) > maxDate:
		c.invalid("must be a date that exists, YYYY-MM-DD", path...)
	case t.Year() < 1900:
		c.invalid("must not be before 1900-01-01", path...)
	case t.After(now.UTC().Add(14 * time.Hour)): // the date line: today has begun at UTC+14
		c.invalid("must not be in the future", path...)
	default:
		return NewDate(s)
	}
	return Date{}
}

func (c *checks) country(s string, path ...string) string {
	switch {
	case strings.TrimSpace(s) == "":
		c.required("must be a country, ISO 3166-1 alpha-3", path...)
	case !countries[s]:
		c.invalid("must be a country, ISO 3166-1 alpha-3 in capitals", path...)
	default:
		return s
	}
	return ""
}

// alpha2 checks a country in either form and gives the two letters: FinHub and Leap want those.
func (c *checks) alpha2(s string, path ...string) string {
	code, ok := alpha2(s)
	switch {
	case strings.TrimSpace(s) == "":
		c.required("must be a country, ISO 3166-1", path...)
	case !ok:
		c.invalid("must be a country, ISO 3166-1 alpha-2 or alpha-3 in capitals", path...)
	}
	return code
}

func (c *checks) uuid(u *UUID, path ...string) *UUID {
	if u == nil {
		return nil
	}
	id, err := uuid.Parse(string(*u))
	if err != nil || len(*u) != 36 {
		c.invalid("must be a UUID of 36 characters", path...)
		return nil
	}
	v := UUID(id.String())
	return &v
}

func (c *checks) ipAddress(t *PersonalText, path ...string) *PersonalText {
	if t == nil || t.Empty() {
		return nil
	}
	addr, err := netip.ParseAddr(t.Reveal())
	if err != nil || addr.Zone() != "" {
		c.invalid("must be an IPv4 or IPv6 address", path...)
		return nil
	}
	v := NewPersonalText(addr.Unmap().String())
	return &v
}

func (c *checks) idempotencyKey(key *string) string {
	if key == nil {
		return ""
	}
	if !printableASCIIKey.MatchString(*key) {
		c.invalid("must have 1 to 255 printable ASCII characters", "idempotencyKey")
		return ""
	}
	return *key
}

func (c *checks) address(a AddressInput, path ...string) Address {
	at := func(field string) []string { return append(append([]string{}, path...), field) }
	out := Address{
		Street:       NewPersonalText(c.text(a.Street.Reveal(), 1, 200, at("street")...)),
		Number:       c.optionalText(a.Number, 20, at("number")...),
		Complement:   c.optionalText(a.Complement, 100, at("complement")...),
		Neighborhood: c.optionalText(a.Neighborhood, 100, at("neighborhood")...),
		City:         c.text(a.City, 1, 100, at("city")...),
		State:        c.text(a.State, 1, 100, at("state")...),
		PostalCode:   NewPersonalText(c.text(a.PostalCode.Reveal(), 1, 20, at("postalCode")...)),
		Country:      c.country(a.Country, at("country")...),
	}
	if out.Country != brazil {
		return out
	}
	if out.State != "" && !states[out.State] {
		c.invalid("must be a Brazilian state, two capitals", at("state")...)
	}
	if code := out.PostalCode.Reveal(); code != "" {
		if !brPostalPattern.MatchString(code) {
			c.invalid("must be a Brazilian postal code, 00000-000", at("postalCode")...)
		} else if len(code) == 8 {
			out.PostalCode = NewPersonalText(code[:5] + "-" + code[5:])
		}
	}
	return out
}

// listSize checks a list that must hold 1 to 20 items: every list of an input is bounded (ours).
func (c *checks) listSize(n int, path ...string) bool {
	switch {
	case n == 0:
		c.required("must hold at least one", path...)
	case n > 20:
		c.invalid("must hold at most 20", path...)
	default:
		return true
	}
	return false
}
