package resolvers

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// unmarkable are the scalars that need no mark: an id is opaque and ours, a count, an instant and a yes or no tell
// nothing by themselves. Every other scalar, one of tomorrow too, can hold anything.
var unmarkable = map[string]bool{"ID": true, "Int": true, "Boolean": true, "DateTime": true}

// unclassified lists what can hold a value nobody has looked at, and what was classified twice.
func unclassified(s *ast.Schema) (out []string) {
	check := func(name string, t *ast.Type, marks ast.DirectiveList) {
		pii, non := marks.ForName("pii") != nil, marks.ForName("nonpii") != nil
		typ := s.Types[t.Name()]
		if pii && non || !pii && !non && typ.Kind == ast.Scalar && !unmarkable[typ.Name] {
			out = append(out, name)
		}
	}
	for _, typ := range s.Types {
		if typ.BuiltIn || strings.HasPrefix(typ.Name, "__") {
			continue
		}
		for _, f := range typ.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			check(typ.Name+"."+f.Name, f.Type, f.Directives)
			for _, a := range f.Arguments {
				check(typ.Name+"."+f.Name+"("+a.Name+")", a.Type, a.Directives)
			}
		}
	}
	slices.Sort(out)
	return out
}

// A text somebody adds without saying whether it is personal would be neither masked nor encrypted nor erased.
func TestEveryTextIsClassified(t *testing.T) {
	t.Parallel()
	for _, name := range unclassified(theSchema()) {
		t.Errorf("%s carries neither @pii nor @nonpii, or both", name)
	}
	text, err := os.ReadFile("../schema.graphqls")
	if err != nil {
		t.Fatal(err)
	}
	for grown, want := range map[string]string{
		"type Viewer {\n  nick: String":                            "Viewer.nick",
		"type Viewer {\n  nicks: [String!]!":                       "Viewer.nicks",
		"type Viewer {\n  raw: JSON @pii(kind: TEXT) @nonpii":      "Viewer.raw",
		"type Viewer {\n  born: Date":                              "Viewer.born",
		"type Viewer {\n  worth: Int64":                            "Viewer.worth",
		"type Viewer {\n  near: Float":                             "Viewer.near",
		"type Viewer {\n  at(place: String): Int":                  "Viewer.at(place)",
		"input More { note: String }\ntype Viewer {\n  seen: Int ": "More.note",
	} {
		s, err := gqlparser.LoadSchema(&ast.Source{Input: strings.Replace(string(text), "type Viewer {", grown, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if got := unclassified(s); !slices.Contains(got, want) {
			t.Errorf("%s passed: %v", want, got)
		}
	}
}
