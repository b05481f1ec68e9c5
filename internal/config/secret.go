package config

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every way of printing a Secret gives, whether it is set or not: even that is nobody's
// business in a log.
const redacted = "***"

// Secret is a value of the configuration that never prints: not with fmt, not in a log, not as JSON or
// YAML. Reveal is the one way to its text, so a search for it finds every use.
type Secret struct {
	// A pointer, because fmt does not call the methods of a value it reaches through an unexported field
	// of somebody else's struct. It prints the fields instead, and of a pointer only the address.
	text *string
}

// NewSecret wraps a text that must not be printed.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal gives the text. Hand it to what needs it and to nothing that prints.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == nil }

// Format implements [fmt.Formatter] for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements [fmt.Stringer].
func (s Secret) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return redacted }

// MarshalJSON implements [json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return redacted, nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
