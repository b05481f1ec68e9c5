package kyc

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// agrees reports whether nothing that was told of a found customer disagrees with what was registered. What was not told, is masked or
// cannot be read says nothing. Case, spaces, accents and the way a number is written make no difference (ours).
// MUST: TestFoundCustomersAreCompared.
func (f FoundCustomer) agrees(registered JSON) bool {
	var r customerRequest
	if json.Unmarshal(registered, &r) != nil {
		return false
	}
	full := f.FullName.Reveal()
	return sameName(f.FirstName.Reveal(), r.FirstName) && sameName(f.LastName.Reveal(), r.LastName) &&
		(sameName(full, r.FirstName+r.LastName) || sameName(full, r.LastName+r.FirstName)) &&
		samePhone(f.Phones, r.Phone) && sameDay(f.Birthdate.Reveal(), r.Birthdate)
}

// plainLetters are letters whose accent is no mark of its own.
var plainLetters = strings.NewReplacer("ł", "l", "ø", "o", "đ", "d", "ß", "ss", "æ", "ae", "œ", "oe", "ı", "i", "þ", "th", "ð", "d")

func plainName(s string) string {
	s = plainLetters.Replace(strings.ToLower(s))
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) {
			return -1
		}
		return r
	}, norm.NFKD.String(s))
}

func sameName(told, registered string) bool {
	plain := plainName(told)
	return plain == "" || strings.Contains(told, "*") || plain == plainName(registered)
}

// samePhone compares the digits; a number without its country code is the same when the registered one ends with it. One of several
// is enough.
func samePhone(told []PhoneNumber, registered string) bool {
	legible := false
	registered = digits(registered)
	for _, n := range told {
		d := strings.TrimLeft(digits(n.Reveal()), "0")
		if len(d) < 6 || strings.Contains(n.Reveal(), "*") {
			continue
		}
		if strings.HasSuffix(registered, d) {
			return true
		}
		legible = true
	}
	return !legible
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// sameDay compares dates; one with a time may be a day off, by its zone.
func sameDay(told, registered string) bool {
	if len(told) < len(time.DateOnly) {
		return true
	}
	t, err := time.Parse(time.DateOnly, told[:len(time.DateOnly)])
	r, err2 := time.Parse(time.DateOnly, registered)
	if err != nil || err2 != nil {
		return true
	}
	off := t.Sub(r).Abs()
	return off == 0 || off <= 24*time.Hour && len(told) > len(time.DateOnly)
}
