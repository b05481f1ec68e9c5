package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/kyc"
)

// Whatever is marked personal and received, an argument or a field of an input, is in no error and no log: not when it
// is right, nor of the wrong kind, nor misplaced, nor unparseable. The cases are made of the schema, so a new argument is tried too.
func TestPersonalArgumentsAreNotRepeated(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../schema.graphqls")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := gqlparser.LoadSchema(&ast.Source{Input: string(text)})
	if err != nil {
		t.Fatal(err)
	}
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Bazaar, kyc.PersonsRead, kyc.PersonsWrite)
	const canary, number = "Canária 529.982.247-25 zq@example.com", 52998224725
	tried := 0
	ask := func(what, query string, variables map[string]any) {
		tried++
		body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
		if err != nil {
			t.Fatal(err)
		}
		a, err := g.Raw(t.Context(), token, body)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"ária", "Canaria", "529.982", "zq@", "52998224725", "2247"} {
			if strings.Contains(string(a.Body), c) {
				t.Errorf("%s: the answer has %q: %s", what, c, a.Body)
			}
		}
	}
	value := fmt.Sprintf("%q", canary)
	for _, root := range []*ast.Definition{schema.Query, schema.Mutation} {
		for _, f := range root.Fields {
			for _, arg := range f.Arguments {
				field := f.Name
				if arg.Directives.ForName("pii") != nil {
					var others string
					for _, o := range f.Arguments {
						if o != arg && o.Type.NonNull {
							others += fmt.Sprintf(", %s: %q", o.Name, "x")
						}
					}
					selection := ""
					if schema.Types[f.Type.Name()].Kind == ast.Object {
						selection = " { __typename }"
					}
					op := strings.ToLower(root.Name)
					for name, v := range map[string]string{"right": value, "a list": "[" + value + "]", "an object": "{a: " + value + "}", "a number": fmt.Sprint(number), "an enum": "Canaria52998224725"} {
						ask(field+" "+name, fmt.Sprintf("%s { %s(%s: %s%s)%s }", op, field, arg.Name, v, others, selection), nil)
					}
					ask(field+" misplaced", fmt.Sprintf("%s { %s(%s: %s%s) { nope(x: %s) } }", op, field, arg.Name, value, others, value), nil)
					ask(field+" cut off", fmt.Sprintf("%s { %s(%s: %s", op, field, arg.Name, value), nil)
					for name, v := range map[string]any{"right": canary, "a number": number, "a list": []any{canary}, "an object": map[string]any{canary: canary}} {
						ask(field+" variable "+name, fmt.Sprintf("%s($v: String!) { %s(%s: $v%s)%s }", op, field, arg.Name, others, selection), map[string]any{"v": v})
					}
				}
				if input := schema.Types[arg.Type.Name()]; input.Kind == ast.InputObject && arg.Name == "input" {
					query := fmt.Sprintf("mutation($v: %s!) { %s(input: $v) { userErrors { code message path provider providerCode } } }", input.Name, field)
					tryFields(schema, input, func(path []string, spoil map[string]any) {
						ask(field+" "+strings.Join(path, "."), query, map[string]any{"v": spoil})
					}, canary, number)
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d tried", tried)
	}
	for _, c := range []string{"ária", "Canaria", "529.982", "zq@", "52998224725"} {
		if strings.Contains(g.Logs.String(), c) {
			t.Errorf("the log has %q", c)
		}
	}
}

// tryFields gives inputs in which one marked field is the canary, or of a wrong kind, and the others are made up.
func tryFields(schema *ast.Schema, input *ast.Definition, try func([]string, map[string]any), canary string, number int) {
	var walk func(def *ast.Definition, path []string, wrap func(map[string]any) map[string]any)
	walk = func(def *ast.Definition, path []string, wrap func(map[string]any) map[string]any) {
		for _, f := range def.Fields {
			here := append(append([]string{}, path...), f.Name)
			if f.Directives.ForName("pii") != nil {
				for _, v := range []any{canary, number, []any{canary}, map[string]any{canary: canary}} {
					o := madeUp(schema, def)
					o[f.Name] = v
					try(here, wrap(o))
				}
			}
			if below := schema.Types[f.Type.Name()]; below.Kind == ast.InputObject {
				walk(below, here, func(inner map[string]any) map[string]any {
					o := madeUp(schema, def)
					o[f.Name] = inner
					if f.Type.Elem != nil {
						o[f.Name] = []any{inner}
					}
					return wrap(o)
				})
			}
		}
	}
	walk(input, nil, func(o map[string]any) map[string]any { return o })
}

// madeUp is an input whose required fields have something.
func madeUp(schema *ast.Schema, def *ast.Definition) map[string]any {
	o := make(map[string]any)
	for _, f := range def.Fields {
		if !f.Type.NonNull {
			continue
		}
		var v any = "x"
		switch below := schema.Types[f.Type.Name()]; {
		case below.Kind == ast.InputObject:
			v = madeUp(schema, below)
		case below.Kind == ast.Enum:
			v = below.EnumValues[0].Name
		case below.Name == "Int" || below.Name == "Int64" || below.Name == "Float":
			v = 1
		case below.Name == "Boolean":
			v = true
		}
		if f.Type.Elem != nil {
			v = []any{v}
		}
		o[f.Name] = v
	}
	return o
}
