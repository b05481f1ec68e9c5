package vault

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[REDACTED]"

// Nothing here prints. The receivers are values, so that a copy does not print either.

// Format implements [fmt.Formatter] for every verb.
func (Keyset) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements [fmt.Stringer].
func (Keyset) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (Keyset) GoString() string { return redacted }

// LogValue implements [slog.LogValuer].
func (Keyset) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (Keyset) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements [encoding.TextMarshaler].
func (Keyset) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements [fmt.Formatter] for every verb.
func (Wrapper) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements [fmt.Stringer].
func (Wrapper) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (Wrapper) GoString() string { return redacted }

// LogValue implements [slog.LogValuer].
func (Wrapper) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (Wrapper) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements [encoding.TextMarshaler].
func (Wrapper) MarshalText() ([]byte, error) { return []byte(redacted), nil }
