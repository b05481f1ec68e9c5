package server

import (
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"
)

// The largest document we look at. gqlgen's own limit of complexity is a denial of service (913 bytes of
// nested fragments cost it ten seconds), so these hold before its validator runs, and none of them is checked
// by expanding a fragment: a fragment is measured once, and spreading it adds its measure.
const (
	maxQueryBytes = 16 << 10
	maxTokens     = 2_000 // without comments and the end
	maxNesting    = 64    // brackets of all kinds, before the parser recurses into them
	maxDepth      = 15    // fields under fields, the leaf counts
	maxFields     = 400   // with fragments expanded
	maxAliases    = 30    // with fragments expanded
	maxDirectives = 50    // with fragments expanded
	maxOperations = 20
)

func tooLarge(message string) *refusal {
	return atDocument(reasonQueryTooLarge, coded(codeQueryTooLarge, message))
}

func tooMany(what string, limit int) *refusal {
	return tooLarge("The document has more than " + strconv.Itoa(limit) + " " + what + ".")
}

var (
	refuseQueryBytes = tooLarge("The document is larger than " + strconv.Itoa(maxQueryBytes) + " bytes.")
	refuseTokens     = tooMany("tokens", maxTokens)
	refuseNesting    = tooLarge("The document nests brackets deeper than " + strconv.Itoa(maxNesting) + " levels.")
	refuseDepth      = tooLarge("The document nests fields deeper than " + strconv.Itoa(maxDepth) + " levels.")
	refuseFields     = tooMany("fields, with its fragments expanded", maxFields)
	refuseAliases    = tooMany("aliases, with its fragments expanded", maxAliases)
	refuseDirectives = tooMany("directives, with its fragments expanded", maxDirectives)
	refuseOperations = tooMany("operations", maxOperations)
	refuseCycle      = tooLarge("A fragment of the document spreads itself.")
)

// scan counts the tokens and the nesting of a query without building anything, so that the recursive parser
// never sees a document that could exhaust its stack (D03: depth 20,000). It returns how many tokens the parser
// may read, which counts comments too. What the lexer cannot read is left for the parser to report.
func scan(source *ast.Source) (parserTokens int, f *refusal) {
	if len(source.Input) > maxQueryBytes {
		return 0, refuseQueryBytes
	}
	lex := lexer.New(source)
	tokens, comments, nesting := 0, 0, 0
	for {
		t, err := lex.ReadToken()
		if err != nil || t.Kind == lexer.EOF {
			return tokens + comments + 1, nil
		}
		switch t.Kind {
		case lexer.Comment:
			comments++
			continue
		case lexer.BraceL, lexer.BracketL, lexer.ParenL:
			if nesting++; nesting > maxNesting {
				return 0, refuseNesting
			}
		case lexer.BraceR, lexer.BracketR, lexer.ParenR:
			nesting--
		default:
		}
		if tokens++; tokens > maxTokens {
			return 0, refuseTokens
		}
	}
}

// measure is how large a selection set is with its fragments expanded. The counts stop at saturated, where
// every limit is long passed, so that doubling fragments cannot overflow them (D04).
type measure struct {
	fields, depth, aliases, directives int
}

const saturated = 1 << 20

func (m *measure) add(n measure) {
	m.fields = min(m.fields+n.fields, saturated)
	m.aliases = min(m.aliases+n.aliases, saturated)
	m.directives = min(m.directives+n.directives, saturated)
	m.depth = max(m.depth, n.depth)
}

// shaper measures the definitions of one document.
type shaper struct {
	fragments map[string]*ast.FragmentDefinition
	done      map[*ast.FragmentDefinition]measure
	open      map[*ast.FragmentDefinition]bool // being measured: meeting one again is a cycle
	cycle     bool

	introspects bool
	conditions  []string // variables of @skip and @include
}

// guardShape checks a parsed document against the limits. A fragment that nothing spreads counts as well: the
// validator walks it too.
func guardShape(doc *ast.QueryDocument) (*shaper, *refusal) {
	s := &shaper{
		fragments: make(map[string]*ast.FragmentDefinition, len(doc.Fragments)),
		done:      make(map[*ast.FragmentDefinition]measure, len(doc.Fragments)),
		open:      make(map[*ast.FragmentDefinition]bool),
	}
	if len(doc.Operations) > maxOperations {
		return nil, refuseOperations
	}
	for _, f := range doc.Fragments {
		if _, twice := s.fragments[f.Name]; !twice { // The first of two names is the one that counts, as for the validator.
			s.fragments[f.Name] = f
		}
	}
	for _, f := range doc.Fragments {
		if refused := s.check(s.fragment(f)); refused != nil {
			return nil, refused
		}
	}
	for _, op := range doc.Operations {
		m := s.set(op.SelectionSet)
		m.directives += s.directives(op.Directives)
		for _, v := range op.VariableDefinitions {
			m.directives += s.directives(v.Directives)
		}
		if refused := s.check(m); refused != nil {
			return nil, refused
		}
	}
	return s, nil
}

func (s *shaper) check(m measure) *refusal {
	switch {
	case s.cycle:
		return refuseCycle
	case m.depth > maxDepth:
		return refuseDepth
	case m.aliases > maxAliases:
		return refuseAliases
	case m.directives > maxDirectives:
		return refuseDirectives
	case m.fields > maxFields:
		return refuseFields
	}
	return nil
}

func (s *shaper) set(selections ast.SelectionSet) (sum measure) {
	for _, sel := range selections {
		switch sel := sel.(type) {
		case *ast.Field:
			m := s.set(sel.SelectionSet)
			m.depth++
			one := measure{fields: 1, directives: s.directives(sel.Directives)}
			if sel.Alias != sel.Name { // The parser repeats the name where there is no alias.
				one.aliases = 1
			}
			m.add(one)
			sum.add(m)
			if sel.Name == "__schema" || sel.Name == "__type" {
				s.introspects = true
			}
		case *ast.InlineFragment:
			sum.add(measure{directives: s.directives(sel.Directives)})
			sum.add(s.set(sel.SelectionSet))
		case *ast.FragmentSpread:
			sum.add(measure{directives: s.directives(sel.Directives)})
			if f := s.fragments[sel.Name]; f != nil { // The validator reports an unknown one.
				sum.add(s.fragment(f))
			}
		}
	}
	return sum
}

func (s *shaper) fragment(f *ast.FragmentDefinition) measure {
	if m, ok := s.done[f]; ok {
		return m
	}
	if s.open[f] {
		s.cycle = true
		return measure{}
	}
	s.open[f] = true
	m := s.set(f.SelectionSet)
	m.add(measure{directives: s.directives(f.Directives)})
	delete(s.open, f)
	s.done[f] = m
	return m
}

// directives counts a list, and remembers the variables that decide what is selected: see conditionsAreSet.
func (s *shaper) directives(list ast.DirectiveList) int {
	for _, d := range list {
		if d.Name != "skip" && d.Name != "include" {
			continue
		}
		if arg := d.Arguments.ForName("if"); arg != nil && arg.Value != nil && arg.Value.Kind == ast.Variable {
			s.conditions = append(s.conditions, arg.Value.Raw)
		}
	}
	return len(list)
}
