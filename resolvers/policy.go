package resolvers

import (
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

// Policy says what each field asks of a token. It is read once from the schema's @scope directives and
// applied to a whole operation before any of it runs: a mutation whose answer the caller may not read
// must not happen first.
type Policy struct {
	fields map[*ast.FieldDefinition]rule
}

type rule struct {
	any     kyc.ScopeSet // one of these is enough
	anyone  bool         // every verified token
	subject bool         // subject tokens too
}

var scopeWords = map[string]kyc.Scope{
	"PERSONS_READ": kyc.PersonsRead, "PERSONS_WRITE": kyc.PersonsWrite, "PII_READ": kyc.PIIRead,
	"PROCESSES_READ": kyc.ProcessesRead, "PROCESSES_WRITE": kyc.ProcessesWrite,
	"CUSTOMERS_READ": kyc.CustomersRead, "CUSTOMERS_WRITE": kyc.CustomersWrite,
	"PROVIDERS_READ": kyc.ProvidersRead, "ADMIN": kyc.Admin,
}

// NewPolicy reads the schema. A field without @scope is an error: someone has to decide.
func NewPolicy(s *ast.Schema) (*Policy, error) {
	p := &Policy{fields: make(map[*ast.FieldDefinition]rule)}
	for _, t := range s.Types {
		if t.BuiltIn || t.Kind != ast.Object && t.Kind != ast.Interface {
			continue
		}
		for _, f := range t.Fields {
			if len(f.Name) > 1 && f.Name[:2] == "__" {
				continue // introspection is the transport's to allow
			}
			r, err := ruleOf(f)
			if err != nil {
				return nil, fmt.Errorf("schema: %s.%s: %w", t.Name, f.Name, err)
			}
			p.fields[f] = r
		}
	}
	return p, nil
}

func ruleOf(f *ast.FieldDefinition) (rule, error) {
	d := f.Directives.ForName("scope")
	if d == nil {
		return rule{}, fmt.Errorf("carries no @scope")
	}
	var r rule
	for _, word := range d.Arguments.ForName("any").Value.Children {
		if word.Value.Raw == "ANY" {
			r.anyone = true
			continue
		}
		scope, ok := scopeWords[word.Value.Raw]
		if !ok {
			return rule{}, fmt.Errorf("@scope names %s, which no token can carry", word.Value.Raw)
		}
		r.any |= kyc.NewScopeSet(scope)
	}
	if !r.anyone && r.any == 0 {
		return rule{}, fmt.Errorf("@scope names nothing")
	}
	if a := d.Arguments.ForName("subject"); a != nil {
		r.subject = a.Value.Raw == "true"
	}
	return r, nil
}

func (r rule) allows(c kyc.Caller) bool {
	if c.IsSubject() {
		return r.subject
	}
	return r.anyone || r.any&c.Scopes != 0
}

// Allows reports whether a token may select one field of the schema.
func (p *Policy) Allows(c kyc.Caller, f *ast.FieldDefinition) bool {
	r, ok := p.fields[f]
	return ok && r.allows(c)
}

// Authorize refuses an operation that selects any field its token may not. The answer names the field,
// which is in the schema, and not the scopes the token has.
func (p *Policy) Authorize(c kyc.Caller, op *ast.OperationDefinition) *gqlerror.Error {
	return p.walk(c, op.SelectionSet, make(map[string]bool))
}

// walk visits each fragment once: expanding them would be exponential in a hostile document.
func (p *Policy) walk(c kyc.Caller, set ast.SelectionSet, seen map[string]bool) *gqlerror.Error {
	for _, selection := range set {
		var below ast.SelectionSet
		switch s := selection.(type) {
		case *ast.Field:
			if r, ok := p.fields[s.Definition]; ok && !r.allows(c) || !ok && (len(s.Name) < 2 || s.Name[:2] != "__") {
				return forbidden(s)
			}
			if len(s.Name) > 1 && s.Name[:2] == "__" {
				continue
			}
			below = s.SelectionSet
		case *ast.InlineFragment:
			below = s.SelectionSet
		case *ast.FragmentSpread:
			if seen[s.Name] {
				continue
			}
			seen[s.Name] = true
			below = s.Definition.SelectionSet
		}
		if err := p.walk(c, below, seen); err != nil {
			return err
		}
	}
	return nil
}

func forbidden(f *ast.Field) *gqlerror.Error {
	e := &gqlerror.Error{
		Message:    fmt.Sprintf("the token does not allow %s.%s", f.ObjectDefinition.Name, f.Name),
		Extensions: map[string]any{"code": "FORBIDDEN"},
	}
	if f.Position != nil {
		e.Locations = []gqlerror.Location{{Line: f.Position.Line, Column: f.Position.Column}}
	}
	return e
}
