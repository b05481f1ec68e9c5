package server

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The bounds of a JSON text from a caller. The depth is row T08. The number of values is ours: a megabyte of
// "{}," would otherwise become 40 MB of maps, and no honest request has a hundredth of it.
const (
	maxJSONDepth  = 64
	maxJSONValues = 10_000
)

// The ways a JSON text is refused. The texts are for the caller and constant: encoding/json and gqlgen quote
// the body, which holds personal data (T01).
var (
	errJSONSyntax    = errors.New("it is not valid JSON")
	errJSONUTF8      = errors.New("it is not valid UTF-8")
	errJSONDuplicate = errors.New("a key appears twice in one object")
	errJSONDepth     = errors.New("it is nested deeper than " + strconv.Itoa(maxJSONDepth) + " levels")
	errJSONValues    = errors.New("it holds more than " + strconv.Itoa(maxJSONValues) + " values")
)

// parseJSON reads one JSON text and nothing after it. It is stricter than encoding/json, which takes the last
// of two equal keys (T03: the second `query` may be a mutation), matches keys without regard to case (T04),
// replaces what is not UTF-8, and ignores what comes after the value.
//
// Objects are map[string]any, lists []any, numbers json.Number. Strings without escapes are parts of the
// input: whoever keeps one must clone it.
func parseJSON(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, errJSONUTF8
	}
	p := jsonParser{text: text}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos != len(p.text) {
		return nil, errJSONSyntax
	}
	return v, nil
}

type jsonParser struct {
	text   string
	pos    int
	depth  int
	values int
}

// peek is the next byte, or 0 at the end. A NUL is no JSON outside strings, so the two need no telling apart.
func (p *jsonParser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *jsonParser) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *jsonParser) value() (any, error) {
	if p.values++; p.values > maxJSONValues {
		return nil, errJSONValues
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object()
	case c == '[':
		return p.list()
	case c == '"':
		return p.string()
	case c == '-' || isDigit(c):
		return p.number()
	case p.literal("true"):
		return true, nil
	case p.literal("false"):
		return false, nil
	case p.literal("null"):
		return nil, nil
	}
	return nil, errJSONSyntax
}

func (p *jsonParser) literal(word string) bool {
	if len(p.text)-p.pos >= len(word) && p.text[p.pos:p.pos+len(word)] == word {
		p.pos += len(word)
		return true
	}
	return false
}

func (p *jsonParser) enter() error {
	p.pos++
	if p.depth++; p.depth > maxJSONDepth {
		return errJSONDepth
	}
	return nil
}

// next moves over the comma between two members, or over the closing byte, and says which it was.
func (p *jsonParser) next(closing byte) (more bool, err error) {
	p.space()
	switch p.peek() {
	case ',':
		p.pos++
		return true, nil
	case closing:
		p.pos++
		p.depth--
		return false, nil
	}
	return false, errJSONSyntax
}

func (p *jsonParser) object() (any, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	members := make(map[string]any)
	if p.space(); p.peek() == '}' {
		_, err := p.next('}')
		return members, err
	}
	for more := true; more; {
		p.space()
		if p.peek() != '"' {
			return nil, errJSONSyntax
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if p.space(); p.peek() != ':' {
			return nil, errJSONSyntax
		}
		p.pos++
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if _, twice := members[key]; twice {
			return nil, errJSONDuplicate
		}
		members[key] = v
		if more, err = p.next('}'); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func (p *jsonParser) list() (any, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	list := []any{}
	if p.space(); p.peek() == ']' {
		_, err := p.next(']')
		return list, err
	}
	for more := true; more; {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if more, err = p.next(']'); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (p *jsonParser) digits() (n int) {
	for isDigit(p.peek()) {
		p.pos++
		n++
	}
	return n
}

func (p *jsonParser) number() (any, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if p.peek() == '0' {
		p.pos++ // Nothing but a fraction or an exponent may follow a leading zero.
	} else if p.digits() == 0 {
		return nil, errJSONSyntax
	}
	if p.peek() == '.' {
		p.pos++
		if p.digits() == 0 {
			return nil, errJSONSyntax
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if p.digits() == 0 {
			return nil, errJSONSyntax
		}
	}
	return json.Number(p.text[start:p.pos]), nil
}

func (p *jsonParser) string() (string, error) {
	p.pos++ // the opening quote
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '"':
			s := p.text[start:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", errJSONSyntax
		}
	}
	return "", errJSONSyntax
}

// escaped goes on with a string at its first backslash.
func (p *jsonParser) escaped(start int) (string, error) {
	b := make([]byte, 0, 2*(p.pos-start)+32)
	b = append(b, p.text[start:p.pos]...)
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(b), nil
		case c < 0x20:
			return "", errJSONSyntax
		case c != '\\':
			b = append(b, c)
			continue
		}
		esc := p.peek()
		p.pos++
		switch esc {
		case '"', '\\', '/':
			b = append(b, esc)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, err := p.codePoint()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		default:
			return "", errJSONSyntax
		}
	}
	return "", errJSONSyntax
}

// codePoint reads the four digits of a \u escape, and those of its second half when it is a surrogate. A lone
// surrogate is no character: encoding/json would store a replacement in its place.
func (p *jsonParser) codePoint() (rune, error) {
	r, ok := p.hex4()
	if !ok {
		return 0, errJSONSyntax
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if !p.literal(`\u`) {
		return 0, errJSONUTF8
	}
	low, ok := p.hex4()
	if !ok {
		return 0, errJSONSyntax
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, errJSONUTF8
	}
	return r, nil
}

func (p *jsonParser) hex4() (r rune, ok bool) {
	if len(p.text)-p.pos < 4 {
		return 0, false
	}
	for _, c := range []byte(p.text[p.pos : p.pos+4]) {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.pos += 4
	return r, true
}
