package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestSecretNeverPrints tries every way a value gets into a log, also from inside a struct that hides it.
func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	const text = "hunter2"
	s := NewSecret(text)
	if s.Reveal() != text {
		t.Fatal("Reveal does not give the text")
	}
	if !NewSecret("").IsZero() || !(Secret{}).IsZero() || s.IsZero() || (Secret{}).Reveal() != "" {
		t.Error("IsZero is wrong")
	}
	type hidden struct{ key Secret }
	type open struct{ Key Secret }

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c"} {
		for _, value := range []any{s, &s, hidden{s}, &hidden{s}, open{s}, []Secret{s}, map[string]Secret{"k": s}, [1]hidden{{s}}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	fmt.Fprintln(&out, s.String(), s.GoString(), fmt.Errorf("failed with %v", s))
	for _, value := range []any{s, &s, open{s}, hidden{s}} {
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("message", "value", value)
		}
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asJSON)
	}
	for _, value := range []any{s, &s, open{s}} {
		asYAML, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asYAML)
	}
	for _, shape := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), "104 117 110"} {
		if strings.Contains(out.String(), shape) {
			t.Errorf("%q was printed:\n%s", shape, out.String())
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing was printed at all")
	}
}
