package unico

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// The documents type the same field as text on one page and as a number on the next (dossier 11). These read
// both, and what they cannot read counts as absent: a field we can do without must not make an answer
// unreadable.

// lenient is text; a number reads as its digits.
type lenient string

func (l *lenient) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*l = lenient(s)
	} else if n := json.Number(bytes.TrimSpace(b)); isNumber(string(n)) {
		*l = lenient(n)
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// number is a whole number, or absent.
type number struct {
	value int
	ok    bool
	given bool // something stands there, even if it is no number
}

func (n *number) UnmarshalJSON(b []byte) error {
	var s lenient
	_ = s.UnmarshalJSON(b) // never fails
	n.given = !bytes.Equal(b, []byte("null"))
	f, err := strconv.ParseFloat(strings.TrimSpace(string(s)), 64)
	if err == nil && f == math.Trunc(f) && math.Abs(f) < 1e9 {
		n.value, n.ok = int(f), true
	}
	return nil
}

// truth is true or false, as such or as text, or absent.
type truth struct {
	value, ok bool
	given     bool // something stands there, even if it is neither
}

func (t *truth) UnmarshalJSON(b []byte) error {
	t.given = t.given || !bytes.Equal(b, []byte("null"))
	switch strings.ToLower(strings.Trim(string(b), `" `)) {
	case "true":
		t.value, t.ok = true, true
	case "false":
		t.value, t.ok = false, true
	}
	return nil
}

func (t truth) pointer() *bool {
	if !t.ok {
		return nil
	}
	return &t.value
}

// raw is any JSON value; null is absent.
type raw []byte

func (r *raw) UnmarshalJSON(b []byte) error {
	if !bytes.Equal(b, []byte("null")) {
		*r = bytes.Clone(b)
	}
	return nil
}

// texts is a list of texts; one that is no list is absent, and so is every item that is no text.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	var items []lenient
	if json.Unmarshal(b, &items) != nil {
		return nil
	}
	for _, item := range items {
		if item != "" {
			*t = append(*t, string(item))
		}
	}
	return nil
}

// said is an object with one word in it, `result`. What is there and cannot be read is not absent: it may be the no.
type said struct {
	word  string // in small letters
	given bool   // something stands there
	bare  bool   // without the object around it
}

func (s *said) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	var o struct {
		Result lenient `json:"result"`
	}
	bare := len(b) == 0 || b[0] != '{'
	if bare {
		_ = o.Result.UnmarshalJSON(b) // never fails
	} else if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	*s = said{word: strings.ToLower(strings.TrimSpace(string(o.Result))), given: true, bare: bare}
	return nil
}

// An object where a page shows another type reads as absent too.

func (g *government) UnmarshalJSON(b []byte) error {
	type plain government
	return tolerate(b, (*plain)(g))
}

func (v *biometry) UnmarshalJSON(b []byte) error {
	type plain biometry
	if len(b) > 0 && b[0] != '{' { // the answer itself, perhaps; it must not pass for none
		return v.Result.UnmarshalJSON(b)
	}
	return tolerate(b, (*plain)(v))
}

func (d *documentAnswer) UnmarshalJSON(b []byte) error {
	type plain documentAnswer
	return tolerate(b, (*plain)(d))
}

func (a *additional) UnmarshalJSON(b []byte) error {
	type plain additional
	return tolerate(b, (*plain)(a))
}

func tolerate(b []byte, into any) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, into)
	}
	return nil
}
