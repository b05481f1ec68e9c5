package server

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// checkVariables refuses values that gqlparser's coercion lets through although the specification does not: a
// number for a String (a json.Number is a string to reflection, and an unquoted document number has lost its
// leading zeros), a string for an Int or a Float, and the name of an enum in another case.
// What is missing, null or unknown is found by the coercion that follows.
func checkVariables(schema *ast.Schema, op *ast.OperationDefinition, variables map[string]any) *refusal {
	for _, v := range op.VariableDefinitions {
		if at, ok := fits(schema, v.Type, variables[v.Variable]); !ok {
			e := coded(codeBadUserInput, redactNames(`The value of variable "$`+v.Variable+at+`" is not of its type.`))
			e.Locations = []gqlerror.Location{{Line: v.Position.Line, Column: v.Position.Column}}
			return atDocument(reasonBadUserInput, e)
		}
	}
	return nil
}

// fits reports whether a value can be of a type, and where inside of it the first one is that cannot. The depth of
// the recursion is that of the JSON text.
func fits(schema *ast.Schema, t *ast.Type, v any) (at string, ok bool) {
	if v == nil {
		return "", true
	}
	if t.Elem != nil {
		list, isList := v.([]any)
		if !isList {
			return fits(schema, t.Elem, v) // One value stands for a list of it.
		}
		for i, item := range list {
			if at, ok := fits(schema, t.Elem, item); !ok {
				return "[" + strconv.Itoa(i) + "]" + at, false
			}
		}
		return "", true
	}
	def := schema.Types[t.NamedType]
	switch {
	case def == nil:
		return "", true
	case def.Kind == ast.InputObject:
		members, _ := v.(map[string]any)
		for _, field := range def.Fields {
			if at, ok := fits(schema, field.Type, members[field.Name]); !ok {
				return "." + field.Name + at, false
			}
		}
		return "", true
	case def.Kind == ast.Enum:
		name, isString := v.(string)
		return "", isString && def.EnumValues.ForName(name) != nil
	}
	switch t.NamedType {
	case "String":
		_, ok = v.(string)
	case "Int", "Float":
		_, ok = v.(json.Number)
	case "ID":
		number, isNumber := v.(json.Number)
		_, ok = v.(string)
		ok = ok || isNumber && !strings.ContainsAny(string(number), ".eE")
	default:
		ok = true
	}
	return "", ok
}
