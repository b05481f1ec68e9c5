package simulator

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// masked stands where personal data was.
const masked = "***"

// maxLoggedBody bounds what one entry of the log holds, and maxLoggedPath its path.
const (
	maxLoggedBody = 16 << 10
	maxLoggedPath = 512
)

// reveal is the tree of the fields that may be read in the log: "phones.type" is {phones: {type: {}}}.
// Positions in arrays do not count. A name at the root reveals nothing deeper, so "id" does not open
// the id of a document.
type reveal map[string]reveal

func newReveal(paths []string) reveal {
	root := reveal{}
	for _, path := range paths {
		at := root
		for name := range strings.SplitSeq(path, ".") {
			if at[name] == nil {
				at[name] = reveal{}
			}
			at = at[name]
		}
	}
	return root
}

// maskBody returns the body with every string and number masked except the revealed fields. It is masked
// when it arrives, not when it is read, so that the log never holds personal data. What is no JSON, or is too
// long, is replaced by a note about its size.
func maskBody(body []byte, show reveal) json.RawMessage {
	switch {
	case len(body) == 0:
		return nil
	case len(body) > maxLoggedBody:
		return json.RawMessage(`"(` + strconv.Itoa(len(body)) + ` bytes)"`)
	case !json.Valid(body):
		return json.RawMessage(`"(` + strconv.Itoa(len(body)) + ` bytes, not JSON)"`)
	}
	m := masker{in: body, out: make([]byte, 0, len(body))}
	m.value(show, false)
	return m.out
}

// masker walks over JSON that is known to be valid, and so needs no errors. Decoding into maps and encoding
// again would cost ten times as much on every request.
type masker struct {
	in  []byte
	pos int
	out []byte
}

func (m *masker) next() byte {
	for m.in[m.pos] == ' ' || m.in[m.pos] == '\t' || m.in[m.pos] == '\n' || m.in[m.pos] == '\r' {
		m.pos++
	}
	return m.in[m.pos]
}

// value masks one value. show holds the fields to reveal below it; open says that it is itself revealed.
func (m *masker) value(show reveal, open bool) {
	switch m.next() {
	case '{':
		m.members('}', func() {
			m.next()
			key := m.text()
			m.key(key)
			m.next() // the colon
			m.pos++
			m.out = append(m.out, ':')
			below, known := show[string(key[1:len(key)-1])] // a name with escapes is in no list
			m.value(below, known && len(below) == 0)
		})
	case '[':
		m.members(']', func() { m.value(show, open) })
	case '"':
		if text := m.text(); open || len(text) == 2 {
			m.out = append(m.out, text...)
		} else {
			m.out = append(m.out, `"`+masked+`"`...)
		}
	default:
		word := m.word()
		// true, false and null say nothing about a person; a number may be an income.
		if c := word[0]; open || c == 't' || c == 'f' || c == 'n' {
			m.out = append(m.out, word...)
		} else {
			m.out = append(m.out, `"`+masked+`"`...)
		}
	}
}

func (m *masker) members(end byte, member func()) {
	m.out = append(m.out, m.in[m.pos])
	m.pos++
	for m.next() != end {
		if m.in[m.pos] == ',' {
			m.out = append(m.out, ',')
			m.pos++
		}
		member()
	}
	m.out = append(m.out, end)
	m.pos++
}

// key writes the name of a field unless it does not look like one: a client that builds its JSON wrongly may
// well send {"123.456.789-09": …} or {"Maria da Silva": …}.
func (m *masker) key(quoted []byte) {
	if !looksLikeName(string(quoted[1 : len(quoted)-1])) {
		quoted = []byte(`"` + masked + `"`)
	}
	m.out = append(m.out, quoted...)
}

// looksLikeName takes what an API calls its fields: letters, underscores and at most three digits.
func looksLikeName(s string) bool {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		default:
			return false
		}
	}
	return digits <= 3 && len(s) <= 64
}

// text returns the string at the position with its quotes.
func (m *masker) text() []byte {
	start := m.pos
	for m.pos++; m.in[m.pos] != '"'; m.pos++ {
		if m.in[m.pos] == '\\' {
			m.pos++
		}
	}
	m.pos++
	return m.in[start:m.pos]
}

// word returns the number, true, false or null at the position.
func (m *masker) word() []byte {
	start := m.pos
	for m.pos < len(m.in) {
		switch m.in[m.pos] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return m.in[start:m.pos]
		}
		m.pos++
	}
	return m.in[start:]
}

// maskURL returns path and query with the digits of the path masked, except in the segment that is the id,
// and with the values of the query masked, except those of revealed names.
func (l *RequestLog) maskURL(u *url.URL, id string) string {
	var b strings.Builder
	for i, segment := range strings.Split(u.EscapedPath(), "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		plain, err := url.PathUnescape(segment)
		switch {
		case id != "" && err == nil && plain == id:
			b.WriteString(segment)
		case err != nil || strings.Contains(plain, "@"):
			b.WriteString(masked)
		default:
			b.WriteString(maskDigits(segment))
		}
	}
	separator := byte('?')
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if below, ok := l.reveal[name]; !ok || len(below) > 0 {
			value = masked
		}
		if !looksLikeName(name) {
			name = masked
		}
		b.WriteByte(separator)
		b.WriteString(name + "=" + value)
		separator = '&'
	}
	if b.Len() > maxLoggedPath {
		return b.String()[:maxLoggedPath] + "…"
	}
	return b.String()
}

func maskDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '*'
		}
		return r
	}, s)
}
