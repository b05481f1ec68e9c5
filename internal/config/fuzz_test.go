package config

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// FuzzLoad: no file makes the reader panic, and no message shows what a variable holds.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(base)
	f.Add("listen: &a [*a]\n")
	f.Add("database: {url: env:CANARY}\npartners: [{}, {id: a}]\n")
	f.Add("providers: {unico: {api_keys: [{key: file:/dev/null}]}}")
	f.Add("? {a: b}\n: c\n--- x")
	const canary = "canary-7d1f"
	loader := Loader{LookupEnv: func(string) (string, bool) { return canary, true }}
	f.Fuzz(func(t *testing.T, text string) {
		// Reading arbitrary files of this machine is not what is tried here.
		if strings.Contains(text, "file") {
			return
		}
		cfg, d := loader.parse([]byte(text), t.TempDir())
		list := append(d.list, cfg.validate()...)
		for _, p := range list {
			if p.Setting == "" || strings.Contains(p.String(), canary) {
				t.Errorf("a problem without a setting, or that shows a secret: %q", p)
			}
		}
		for _, w := range cfg.Warnings() {
			if strings.Contains(w, canary) {
				t.Errorf("a warning shows a secret: %q", w)
			}
		}
		if e := d.err(); e != nil && !errors.As(e, new(*Error)) {
			t.Errorf("the error is a %T", e)
		}
	})
}
