package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

const (
	cachedDocuments = 1_000
	// cachedRefusals is a cache of its own, so that a stream of bad documents cannot push out the good ones.
	cachedRefusals = 200
)

// document is a query text that passed everything that does not depend on variables or on the caller. It is
// shared by all callers and never written again (Z12).
type document struct {
	doc         *ast.QueryDocument
	introspects bool
	conditions  []string
	// costs is the verdict on each operation, when no variable has a part in it; nil otherwise.
	costs map[*ast.OperationDefinition]*refusal
	// captures are the operations that do nothing but take pictures.
	captures map[*ast.OperationDefinition]bool
}

// cost is the verdict on one operation of the document.
func (d *document) cost(op *ast.OperationDefinition, variables map[string]any) *refusal {
	if d.costs != nil {
		return d.costs[op]
	}
	return guardCost(op, variables)
}

// documents turns query texts into documents and remembers both verdicts.
type documents struct {
	schema   *ast.Schema
	takes    map[*ast.FieldDefinition]bool // Captures
	rules    []validator.Rule
	accepted *lru[*document]
	refused  *lru[*refusal]
}

func newDocuments(schema *ast.Schema) *documents {
	dropDefer(schema)
	return &documents{
		schema:   schema,
		takes:    Captures(schema),
		rules:    quietRules(),
		accepted: newLRU[*document](cachedDocuments),
		refused:  newLRU[*refusal](cachedRefusals),
	}
}

// dropDefer removes the directive from the schema. Every gqlparser schema has it, and over plain HTTP a
// deferred non-null field is answered as null. Generated schemas are package variables, hence the lock; when the
// directive is gone already nothing is written, so that a second handler may be made while a first one serves.
func dropDefer(schema *ast.Schema) {
	deferMu.Lock()
	defer deferMu.Unlock()
	if schema.Directives["defer"] == nil {
		return
	}
	delete(schema.Directives, "defer")
}

var deferMu sync.Mutex

// quietRules is every validation rule, in the form that suggests nothing: "Did you mean" describes the schema
// to those who may not introspect it (L01). They come sorted, so that the first errors are always the same.
func quietRules() []validator.Rule {
	all := rules.NewDefaultRules().GetInner()
	for _, quiet := range []validator.Rule{
		rules.FieldsOnCorrectTypeRuleWithoutSuggestions,
		rules.KnownArgumentNamesRuleWithoutSuggestions,
		rules.KnownTypeNamesRuleWithoutSuggestions,
		rules.ScalarLeafsRuleWithoutSuggestions,
		rules.ValuesOfCorrectTypeRuleWithoutSuggestions,
	} {
		all[strings.TrimSuffix(quiet.Name, "WithoutSuggestions")] = quiet.RuleFunc
	}
	all[oneSubscription.Name] = oneSubscription.RuleFunc
	list := make([]validator.Rule, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, validator.Rule{Name: name, RuleFunc: all[name]})
	}
	return list
}

// oneSubscription stands for the library's rule, which takes two aliases of one field for one field and lets
// @skip leave none. gqlgen answers both with an internal error.
var oneSubscription = validator.Rule{
	Name: rules.SingleFieldSubscriptionsRule.Name,
	RuleFunc: func(observers *validator.Events, addError validator.AddErrFunc) {
		observers.OnOperation(func(_ *validator.Walker, op *ast.OperationDefinition) {
			if op.Operation != ast.Subscription {
				return
			}
			first, seen := "", make(map[string]bool)
			var walk func(ast.SelectionSet)
			directives := func(list ast.DirectiveList) {
				for _, d := range list {
					if d.Name == "skip" || d.Name == "include" {
						addError(core.Message("A subscription must not use @%s at its top level.", d.Name), core.At(d.Position))
					}
				}
			}
			walk = func(set ast.SelectionSet) {
				for _, selection := range set {
					switch s := selection.(type) {
					case *ast.Field:
						directives(s.Directives)
						if first == "" {
							first = s.Alias
						}
						if s.Alias != first || strings.HasPrefix(s.Name, "__") {
							addError(core.Message("A subscription must select one top-level field."), core.At(s.Position))
						}
					case *ast.InlineFragment:
						directives(s.Directives)
						walk(s.SelectionSet)
					case *ast.FragmentSpread:
						directives(s.Directives)
						if s.Definition != nil && !seen[s.Name] {
							seen[s.Name] = true
							walk(s.Definition.SelectionSet)
						}
					}
				}
			}
			walk(op.SelectionSet)
		})
	},
}

// prepare gives the document of a query text, or the reason why there is none.
func (d *documents) prepare(query string) (*document, *refusal) {
	if len(query) > maxQueryBytes {
		return nil, refuseQueryBytes // D10. Not remembered: the comparison is cheaper than the memory.
	}
	if doc, ok := d.accepted.get(query); ok {
		return doc, nil
	}
	if refused, ok := d.refused.get(query); ok {
		return nil, refused
	}
	// The text is a part of the request's body. Without a copy the cache would keep the body, with its captures
	// and its personal data, for as long as the document is popular.
	query = strings.Clone(query)
	doc, refused := d.read(query)
	if refused != nil {
		d.refused.put(query, refused)
		return nil, refused
	}
	d.accepted.put(query, doc)
	return doc, nil
}

func (d *documents) read(query string) (*document, *refusal) {
	source := &ast.Source{Input: query}
	tokens, refused := scan(source)
	if refused != nil {
		return nil, refused
	}
	doc, err := parser.ParseQueryWithTokenLimit(source, tokens)
	if err != nil {
		return nil, parseRefusal(err)
	}
	shape, refused := guardShape(doc)
	if refused != nil {
		return nil, refused
	}
	if len(doc.Operations) == 0 {
		return nil, atDocument(reasonValidationFailed,
			coded(codeValidationFailed, "The document has no operation."))
	}
	if errs := d.validate(doc); len(errs) > 0 {
		return nil, validationRefusal(errs)
	}
	out := &document{doc: doc, introspects: shape.introspects, conditions: shape.conditions}
	for _, op := range doc.Operations {
		if d.capturesOnly(op) {
			if out.captures == nil {
				out.captures = make(map[*ast.OperationDefinition]bool)
			}
			out.captures[op] = true
		}
	}
	if fixedCost(doc) {
		out.costs = make(map[*ast.OperationDefinition]*refusal, len(doc.Operations))
		for _, op := range doc.Operations {
			out.costs[op] = guardCost(op, nil)
		}
	}
	return out, nil
}

// errEnough stops a validation that has found all we answer. Without it a small document with many faults costs
// tens of megabytes of messages nobody reads (D08).
var errEnough = errors.New("enough validation errors")

func (d *documents) validate(doc *ast.QueryDocument) (errs gqlerror.List) {
	defer func() {
		if v := recover(); v != nil && v != errEnough { //nolint:errorlint // It is the very value that was thrown.
			panic(v)
		}
	}()
	events := &validator.Events{}
	for _, rule := range d.rules {
		rule.RuleFunc(events, func(options ...validator.ErrorOption) {
			err := &gqlerror.Error{Rule: rule.Name}
			for _, option := range options {
				option(err)
			}
			if errs = append(errs, err); len(errs) == maxErrors {
				panic(errEnough)
			}
		})
	}
	validator.Walk(d.schema, doc, events)
	return errs
}

// The executor asks its query cache for the document of a query text. It is handed the one this request has
// prepared, by the context: nothing can evict it in between, and the executor never parses or validates.
type preparedKey struct{}

type preparedCache struct{}

func (preparedCache) Get(ctx context.Context, _ string) (*ast.QueryDocument, bool) {
	doc, ok := ctx.Value(preparedKey{}).(*ast.QueryDocument)
	return doc, ok
}

func (preparedCache) Add(context.Context, string, *ast.QueryDocument) {}
