package resolvers

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/kycgate/kycgate/kyc"
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

// The names that a change may have in the audit log are coordinates of this schema.
func TestAuditFieldsAreInTheSchema(t *testing.T) {
	t.Parallel()
	s := theSchema()
	for _, name := range kyc.AuditFields() {
		typ, field, _ := strings.Cut(name, ".")
		if s.Types[typ] == nil || s.Types[typ].Fields.ForName(field) == nil {
			t.Errorf("%s is not in the schema", name)
		}
	}
}

// A whole document cannot be masked, so it must not be answered without pii:read at all.
func TestDocumentsAskForTheScope(t *testing.T) {
	t.Parallel()
	found := 0
	for _, typ := range theSchema().Types {
		for _, f := range typ.Fields {
			mark := f.Directives.ForName("pii")
			if typ.Kind == ast.InputObject || mark == nil || mark.Arguments.ForName("kind").Value.Raw != "PAYLOAD" {
				continue
			}
			found++
			if r, err := ruleOf(f); err != nil || r.anyone || r.subject || r.any != kyc.NewScopeSet(kyc.PIIRead) {
				t.Errorf("%s.%s is answered without pii:read", typ.Name, f.Name)
			}
		}
	}
	if found == 0 {
		t.Error("no document found: the test tests nothing")
	}
}

// Whose a personal field is must be known from the object it stands in or from one above: an answer nobody can be named
// for is withheld. Whoever adds a type with such fields gives its Go type Owner() and lists it here.
func TestEveryPersonalFieldHasAnOwner(t *testing.T) {
	t.Parallel()
	var owned, apart = reflect.TypeFor[kyc.Owned](), reflect.TypeFor[kyc.AuditedApart]()
	owners := map[string]reflect.Type{"Person": reflect.TypeFor[*kyc.Person](), "Registration": reflect.TypeFor[*kyc.Registration](), "PersonExport": reflect.TypeFor[*kyc.PersonExport](),
		"FaceRegistration": reflect.TypeFor[*kyc.FaceRegistration](), "Process": reflect.TypeFor[*kyc.Process](),
		"Customer": reflect.TypeFor[*kyc.Customer]()}
	for name, typ := range owners {
		if !typ.Implements(owned) && !typ.Implements(apart) {
			t.Errorf("%s names no owner", name)
		}
	}
	s := theSchema()
	var check func(name string, seen map[string]bool)
	check = func(name string, seen map[string]bool) {
		if owners[name] != nil || seen[name] {
			return
		}
		seen[name] = true
		if name == "Query" || name == "Mutation" || name == "Subscription" {
			t.Errorf("a personal field is reached without an owner, by way of %v", slices.Sorted(maps.Keys(seen)))
			return
		}
		for _, above := range s.Types {
			if above.Kind != ast.Object || above.BuiltIn {
				continue
			}
			for _, f := range above.Fields {
				if f.Type.Name() == name {
					check(above.Name, maps.Clone(seen))
				}
			}
		}
	}
	found := 0
	for _, typ := range s.Types {
		if typ.Kind != ast.Object || typ.BuiltIn {
			continue
		}
		for _, f := range typ.Fields {
			if mark := f.Directives.ForName("pii"); mark != nil && mark.Arguments.ForName("kind").Value.Raw != "UNMASKED" {
				found++
				check(typ.Name, make(map[string]bool))
				break
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d types with personal fields found", found)
	}
}
