package server

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestParseJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"object", ` {"a": [1, -2.5e+3, "x", true, false, null, {}]} `, nil},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e7\ud83d\ude00"`, nil},
		{"empty", ``, errJSONSyntax},
		{"truncated (T01)", `{"query":"{a(cpf:\"` + canary, errJSONSyntax},
		{"trailing data", `{} {}`, errJSONSyntax},
		{"trailing comma", `[1,]`, errJSONSyntax},
		{"leading zero", `01`, errJSONSyntax},
		{"plus", `+1`, errJSONSyntax},
		{"bare fraction", `1.`, errJSONSyntax},
		{"NaN", `NaN`, errJSONSyntax},
		{"control character in a string", "\"\x01\"", errJSONSyntax},
		{"single quotes", `{'a':1}`, errJSONSyntax},
		{"unknown escape", `"\x"`, errJSONSyntax},
		{"half an escape", `"\u12`, errJSONSyntax},
		{"duplicate key (T03)", `{"a":1,"a":2}`, errJSONDuplicate},
		{"duplicate key, escaped", `{"query":1,"\u0071uery":2}`, errJSONDuplicate},
		{"duplicate key, deep", `{"v":{"i":[{"a":1,"b":2,"a":3}]}}`, errJSONDuplicate},
		{"invalid UTF-8", "\"\xff\"", errJSONUTF8},
		{"lone surrogate", `"\ud800"`, errJSONUTF8},
		{"surrogates in the wrong order", `"\ude00\ud83d"`, errJSONUTF8},
		{"64 levels", strings.Repeat("[", 64) + strings.Repeat("]", 64), nil},
		{"65 levels (T08)", strings.Repeat("[", 65) + strings.Repeat("]", 65), errJSONDepth},
		{"100,000 levels (T08)", strings.Repeat(`{"a":`, 100_000), errJSONDepth},
		{"10,000 values", "[" + strings.Repeat("1,", maxJSONValues-2) + "1]", nil},
		{"10,001 values", "[" + strings.Repeat("1,", maxJSONValues-1) + "1]", errJSONValues},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseJSON(c.text)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if want, ok := oracle(c.text); err == nil && (!ok || !reflect.DeepEqual(got, want)) {
				t.Fatalf("got %#v, want %#v", got, want)
			}
		})
	}
}

// oracle is what encoding/json makes of a text.
func oracle(text string) (v any, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// What we take, encoding/json takes with the same meaning; what we refuse as no JSON, it refuses as well.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e-3,"\u00e7\n",null,true]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `[[[]]]`, `-0`, "\"\x7f\"", ` 1 `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseJSON(text)
		want, ok := oracle(text)
		if err == nil && (!ok || !reflect.DeepEqual(got, want)) {
			t.Fatalf("%q: got %#v, encoding/json %#v %v", text, got, want, ok)
		}
		if errors.Is(err, errJSONSyntax) && ok {
			t.Fatalf("%q: refused, but encoding/json reads %#v", text, want)
		}
	})
}

// The decoder of a request never panics, and what it decodes has a query.
func FuzzDecodeBody(f *testing.F) {
	for _, seed := range []string{
		`{"query":"{__typename}"}`, `{"query":"q","variables":{"a":1},"operationName":"b","extensions":{}}`,
		`[{"query":"{a}"}]`, `{"query":"q","extensions":{"persistedQuery":{"sha256Hash":"00"}}}`, `{"QUERY":"{a}"}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, refused := decodeBody(body)
		if refused == nil && p.query == "" {
			t.Fatal("a request without a query")
		}
		if refused != nil && !json.Valid(refused.body) {
			t.Fatalf("a refusal that is no JSON: %s", refused.body)
		}
	})
}
