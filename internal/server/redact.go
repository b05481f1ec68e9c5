package server

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
)

// The parser, the validator and the coercion of variables quote what they were given, and that is where
// document numbers stand. Their messages are rewritten here: names and locations stay, values go.

// longDigits is a run of digits that could be a document, a phone number or a date of birth, even in a name.
var longDigits = regexp.MustCompile(`[0-9](?:_*[0-9]){5,}`)

const maxMessage = 300

// clip bounds a message in bytes, at a rune.
func clip(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

func redactNames(s string) string { return clip(longDigits.ReplaceAllString(s, "…")) }

// parseRefusal says where the syntax breaks and by which kind of token, never by which token.
func parseRefusal(err error) *refusal {
	out := coded(codeParseFailed, "Syntax error.")
	var g *gqlerror.Error
	if errors.As(err, &g) {
		out.Locations = g.Locations
		if kind := unexpectedKind(g.Message); kind != "" {
			out.Message = "Syntax error: unexpected " + kind + "."
		}
	}
	return atDocument(reasonParseFailed, out)
}

// unexpectedKind finds the kind of token in `Unexpected Name "x"` and `Expected Name, found Int "1"`, and
// answers only what is one of the lexer's kinds.
func unexpectedKind(message string) string {
	rest, ok := strings.CutPrefix(message, "Unexpected ")
	if !ok {
		i := strings.LastIndex(message, ", found ")
		if i < 0 || !strings.HasPrefix(strings.ToLower(message), "expected ") {
			return ""
		}
		rest = message[i+len(", found "):]
	}
	rest, _, _ = strings.Cut(rest, " ")
	for kind := lexer.EOF; kind <= lexer.Comment; kind++ {
		if rest == kind.String() {
			return rest
		}
	}
	return ""
}

// validationRefusal rewrites the errors of the validator.
func validationRefusal(errs gqlerror.List) *refusal {
	out := make(gqlerror.List, 0, maxErrors)
	for _, e := range errs[:min(len(errs), maxErrors)] {
		message := e.Message
		if e.Rule == "ValuesOfCorrectType" {
			message = valueMessage(message)
		}
		// The rules are the quiet ones already; this holds for a rule of tomorrow (L01).
		message, _, _ = strings.Cut(message, " Did you mean")
		one := coded(codeValidationFailed, redactNames(message))
		one.Locations = e.Locations
		out = append(out, one)
	}
	return atDocument(reasonValidationFailed, out...)
}

// valueMessage keeps, of a message about a value, the type that was expected and no more. Two kinds of message
// of that rule name fields instead of quoting a value; they stay.
func valueMessage(message string) string {
	for _, safe := range []string{`Field "`, `OneOf Input Object "`} {
		if strings.HasPrefix(message, safe) {
			return message
		}
	}
	for _, before := range []string{`Expected value of type "`, `Enum "`} {
		if rest, ok := strings.CutPrefix(message, before); ok {
			if expected, _, ok := strings.Cut(rest, `"`); ok {
				return `A value is not of the expected type "` + expected + `".`
			}
		}
	}
	for _, scalar := range []string{"Int", "Float", "String", "Boolean", "ID"} {
		if strings.HasPrefix(message, scalar+" cannot represent") {
			return `A value is not of the expected type "` + scalar + `".`
		}
	}
	return "A value is not of the expected type."
}

// coercionRefusal rewrites the error of a variable: which one and what is wrong, but not what was sent. The path
// ends before a key that the schema does not know, because then the key is the caller's text as well.
func coercionRefusal(errs gqlerror.List) *refusal {
	out := make(gqlerror.List, 0, maxErrors)
	for _, e := range errs[:min(len(errs), maxErrors)] {
		path, problem := e.Path, "is not of its type"
		switch e.Message {
		case "must be defined":
			problem = "is required"
		case "cannot be null":
			problem = "must not be null"
		case "unknown field":
			problem = "has a field that its type does not know"
			path = path[:max(len(path)-1, 0)]
		}
		out = append(out, coded(codeBadUserInput,
			redactNames(`The value of variable "`+variablePath(path)+`" `+problem+`.`)))
	}
	return atDocument(reasonBadUserInput, out...)
}

// variablePath writes variable.input.emails[0] as $input.emails[0].
func variablePath(path ast.Path) string {
	if len(path) > 0 {
		path = path[1:] // gqlparser begins every one of them with the word "variable".
	}
	return "$" + path.String()
}

// authorizeRefusal passes on the error of the policy, which writes its own messages: they name scopes.
func authorizeRefusal(e *gqlerror.Error) *refusal {
	code, _ := e.Extensions["code"].(string)
	if code == "" {
		e = &gqlerror.Error{Message: e.Message, Locations: e.Locations, Extensions: map[string]any{"code": codeForbidden}}
		code = codeForbidden
	}
	f := atDocument(reasonForbidden, e)
	switch code {
	case codeForbidden:
		f.strict = http.StatusForbidden
	case codeBadUserInput:
		f.reason = reasonBadUserInput
	}
	return f
}
