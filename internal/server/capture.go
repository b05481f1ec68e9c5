package server

import (
	"net/http"

	"github.com/vektah/gqlparser/v2/ast"
)

// A picture does not fit into a megabyte, and everything else does. How large a body may be therefore depends on
// the document in it, which is not known before the body is read. So the caller is asked first: only a token that
// may run a capture mutation is read on past MaxBody. At that point the document is looked for in what is there:
// most clients send it first, and if it is no capture the answer is 413 after one megabyte, whatever follows.
// Where it comes last (Apollo's order) the body is read whole within its own bounds, and judged then.

// captureScalar is the scalar that pictures travel as.
const captureScalar = "Base64"

// Captures are the mutations that take a picture: those with an argument that may hold one, at any depth.
func Captures(schema *ast.Schema) map[*ast.FieldDefinition]bool {
	captures := make(map[*ast.FieldDefinition]bool)
	if schema.Mutation == nil {
		return captures
	}
	for _, f := range schema.Mutation.Fields {
		seen := make(map[string]bool)
		for _, arg := range f.Arguments {
			if holdsCapture(schema, arg.Type.Name(), seen) {
				captures[f] = true
			}
		}
	}
	return captures
}

func holdsCapture(schema *ast.Schema, name string, seen map[string]bool) bool {
	if name == captureScalar {
		return true
	}
	t := schema.Types[name]
	if t == nil || t.Kind != ast.InputObject || seen[name] {
		return false
	}
	seen[name] = true
	for _, f := range t.Fields {
		if holdsCapture(schema, f.Type.Name(), seen) {
			return true
		}
	}
	return false
}

// capturesOnly reports whether the root fields of an operation take pictures and do nothing else. A capture
// beside another mutation would let the other one have a large input too.
func (d *documents) capturesOnly(op *ast.OperationDefinition) bool {
	if op.Operation != ast.Mutation {
		return false
	}
	captures, others := d.rootFields(op.SelectionSet, make(map[*ast.FragmentDefinition]bool))
	return captures > 0 && others == 0
}

func (d *documents) rootFields(selections ast.SelectionSet, seen map[*ast.FragmentDefinition]bool) (captures, others int) {
	for _, sel := range selections {
		var below ast.SelectionSet
		switch sel := sel.(type) {
		case *ast.Field:
			if d.takes[sel.Definition] {
				captures++
			} else if sel.Name != "__typename" {
				others++
			}
		case *ast.InlineFragment:
			below = sel.SelectionSet
		case *ast.FragmentSpread:
			if f := sel.Definition; !seen[f] {
				seen[f] = true
				below = f.SelectionSet
			}
		}
		c, o := d.rootFields(below, seen)
		captures, others = captures+c, others+o
	}
	return captures, others
}

// body is the body of one request by a caller who may capture.
type body struct {
	graphQL *GraphQL
	held    int64 // of CaptureMemory
}

// large reports whether it is larger than others may be.
func (b *body) large() bool { return b.held > 0 }

func (b *body) release() { b.graphQL.captured.Add(-b.held) }

// read reads MaxBody, and on from there only for a capture.
func (b *body) read(e *exchange, r *http.Request) ([]byte, *refusal) {
	g := b.graphQL
	if r.ContentLength >= 0 && r.ContentLength <= g.cfg.MaxBody {
		return readBody(e, r, g.cfg.MaxBody)
	}
	if r.ContentLength > g.cfg.MaxCaptureBody {
		return nil, refuseBody
	}
	reader := http.MaxBytesReader(e.ResponseWriter, r.Body, g.cfg.MaxCaptureBody)
	// One byte more than MaxBody tells a body that ends there from one that goes on.
	text, ended, refused := readOn(reader, make([]byte, 0, min(g.cfg.MaxBody+1, max(r.ContentLength, 512))), g.cfg.MaxBody)
	if refused != nil || ended {
		return text, refused
	}
	switch query, found := findQuery(string(text)); found {
	case queryNone:
		return nil, refuseBody
	case queryFound:
		doc, refused := g.documents.prepare(query)
		if refused != nil || len(doc.captures) == 0 {
			return nil, refuseBody // what is no document is no capture either
		}
	case queryLater:
	}
	size := g.cfg.MaxCaptureBody
	if r.ContentLength >= 0 {
		size = r.ContentLength + 1
	}
	if !b.reserve(size) {
		return nil, refuseOverloaded
	}
	text, _, refused = readOn(reader, append(make([]byte, 0, size), text...), g.cfg.MaxCaptureBody)
	return text, refused
}

func (b *body) reserve(size int64) bool {
	if b.graphQL.captured.Add(size) > b.graphQL.cfg.CaptureMemory {
		b.graphQL.captured.Add(-size)
		return false
	}
	b.held = size
	return true
}

// whereQuery says what the beginning of a body tells about its document.
type whereQuery int

const (
	queryNone  whereQuery = iota // this is no JSON object, or its query can be no document
	queryFound                   // it is there
	queryLater                   // it may come in the rest
)

// findQuery looks for the member `query` at the top of a JSON object whose end is missing.
func findQuery(text string) (query string, found whereQuery) {
	p := jsonParser{text: text}
	p.space()
	if p.peek() != '{' {
		return "", queryNone
	}
	p.pos++
	for {
		p.space()
		if p.peek() != '"' {
			return "", p.cut()
		}
		key, err := p.string()
		if err != nil {
			return "", p.cut()
		}
		if p.space(); p.peek() != ':' {
			return "", p.cut()
		}
		p.pos++
		v, err := p.value()
		if key == "query" {
			if s, ok := v.(string); ok && err == nil {
				return s, queryFound
			}
			return "", queryNone // one that is not whole by now is no document we would look at (D10)
		}
		if err != nil {
			return "", p.cut()
		}
		if more, err := p.next('}'); err != nil || !more {
			return "", p.cut()
		}
	}
}

// cut tells the end of the text from a mistake before it. The last bytes may be half of a word or of an escape.
func (p *jsonParser) cut() whereQuery {
	if p.pos >= len(p.text)-16 {
		return queryLater
	}
	return queryNone
}
