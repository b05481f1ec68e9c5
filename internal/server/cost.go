package server

import (
	"fmt"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

const (
	pageArgument = "first"
	maxPage      = 100
	maxNodes     = 10_000
)

var refuseCost = atDocument(reasonCostExceeded, coded(codeCostExceeded,
	"The operation may answer more than "+strconv.Itoa(maxNodes)+" nodes: ask for smaller pages."))

// guardCost refuses an operation whose pages are of impossible size (D13) or multiply to too many nodes (D14).
//
// A connection is every field with an argument `first: Int`. Its cost is the size of its page times the cost of
// the connections below it, and the costs of neighbours add up, so that thirty aliases of a page of pages are
// thirty times as dear. 100 persons with 100 processes each are 10,000 nodes and pass. What @skip leaves out is
// counted: a variable must not make the check depend on the order of things.
func guardCost(op *ast.OperationDefinition, variables map[string]any) *refusal {
	c := coster{variables: variables}
	nodes := c.set(op.SelectionSet)
	if c.refused != nil {
		return c.refused
	}
	if nodes > maxNodes {
		return refuseCost
	}
	return nil
}

type coster struct {
	variables map[string]any // coerced
	done      map[*ast.FragmentDefinition]int
	refused   *refusal // the first
}

func (c *coster) set(selections ast.SelectionSet) (nodes int) {
	for _, sel := range selections {
		if c.refused != nil {
			return 0
		}
		switch sel := sel.(type) {
		case *ast.Field:
			below := c.set(sel.SelectionSet)
			if size, ok := c.page(sel); ok {
				below = size * max(below, 1)
			}
			nodes += below
		case *ast.InlineFragment:
			nodes += c.set(sel.SelectionSet)
		case *ast.FragmentSpread:
			nodes += c.fragment(sel.Definition)
		}
		// Above the limit the exact number does not matter; holding it there keeps products from overflowing.
		nodes = min(nodes, maxNodes+1)
	}
	return nodes
}

// fragment measures a fragment once: the cost below does not depend on what is above.
func (c *coster) fragment(f *ast.FragmentDefinition) int {
	if f == nil {
		return 0
	}
	nodes, ok := c.done[f]
	if !ok {
		nodes = c.set(f.SelectionSet)
		if c.done == nil {
			c.done = make(map[*ast.FragmentDefinition]int)
		}
		c.done[f] = nodes
	}
	return nodes
}

// page is the size of the page a connection is asked for. ok is false for fields that have none.
func (c *coster) page(field *ast.Field) (size int, ok bool) {
	if field.Definition == nil {
		return 0, false
	}
	definition := field.Definition.Arguments.ForName(pageArgument)
	if definition == nil || definition.Type.Name() != "Int" {
		return 0, false
	}
	value := definition.DefaultValue
	if arg := field.Arguments.ForName(pageArgument); arg != nil {
		value = arg.Value
		if value.Kind == ast.Variable {
			v, given := c.variables[value.Raw]
			if given {
				return c.checked(field, fmt.Sprint(v)), true
			}
			value = definition.DefaultValue // A variable that is not given is an argument that is not given.
		}
	}
	if value == nil {
		return maxPage, true // The schema does not say, so it may be the largest.
	}
	return c.checked(field, value.Raw), true
}

// checked reads the size. Null, like everything that is no number, is refused with the sizes out of range.
func (c *coster) checked(field *ast.Field, raw string) int {
	n, err := strconv.Atoi(raw)
	if err != nil || n < 1 || n > maxPage {
		refused := coded(codeBadUserInput, fmt.Sprintf(`The argument %q of %q must be between 1 and %d.`,
			pageArgument, field.Definition.Name, maxPage))
		refused.Locations = []gqlerror.Location{{Line: field.Position.Line, Column: field.Position.Column}}
		c.refused = atDocument(reasonBadUserInput, refused)
		return 0
	}
	return n
}

// fixedCost reports whether no variable decides the cost of an operation, so that it need be weighed only once.
func fixedCost(doc *ast.QueryDocument) bool {
	fixed := true
	var walk func(ast.SelectionSet)
	walk = func(selections ast.SelectionSet) {
		for _, sel := range selections {
			switch sel := sel.(type) {
			case *ast.Field:
				if arg := sel.Arguments.ForName(pageArgument); arg != nil && arg.Value.Kind == ast.Variable {
					fixed = false
				}
				walk(sel.SelectionSet)
			case *ast.InlineFragment:
				walk(sel.SelectionSet)
			}
		}
	}
	for _, op := range doc.Operations {
		walk(op.SelectionSet)
	}
	for _, f := range doc.Fragments {
		walk(f.SelectionSet)
	}
	return fixed
}
