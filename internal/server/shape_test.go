package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// fragmentBomb is 2^25 fields in 913 bytes or so: each fragment spreads the next one twice (D04).
func fragmentBomb() string {
	var b strings.Builder
	b.WriteString("{viewer{...a}}")
	for c := 'a'; c < 'y'; c++ {
		fmt.Fprintf(&b, "fragment %c on Viewer{...%c ...%c}", c, c+1, c+1)
	}
	b.WriteString("fragment y on Viewer{id}")
	return b.String()
}

// aliasBomb is 2^20 aliased fields: each fragment nests the next one under two aliases (D04).
func aliasBomb() string {
	var b strings.Builder
	b.WriteString("{viewer{...f0}}")
	for i := range 20 {
		fmt.Fprintf(&b, "fragment f%d on Viewer{a:friends{...f%d} b:friends{...f%d}}", i, i+1, i+1)
	}
	b.WriteString("fragment f20 on Viewer{id}")
	return b.String()
}

func nested(levels int) string {
	return "{viewer" + strings.Repeat("{friends", levels-2) + "{id" + strings.Repeat("}", levels)
}

func aliases(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, "a%d:__typename ", i)
	}
	b.WriteByte('}')
	return b.String()
}

// lookups is one look-up by document number under n aliases, each with another number (D02).
func lookups(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, `a%d:lookupByCpf(documentNumber:"%s"){id} `, i, canaryBare)
	}
	b.WriteByte('}')
	return b.String()
}

// tokens is a document of exactly n tokens: {echo(numbers:[1 1 …])} has nine beside the numbers.
func tokens(n int) string {
	return "{echo(numbers:[" + strings.Repeat("1 ", n-9) + "])}"
}

func operations(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "query q%d{__typename} ", i)
	}
	return b.String()
}

// padded is a document of exactly n bytes.
func padded(n int) string {
	const q = "{__typename}"
	return q + strings.Repeat(" ", n-len(q))
}

// shapeRows are the documents of section 2.2 that the guard decides, with the refusal or nil.
func shapeRows() map[string]struct {
	query string
	want  *refusal
} {
	type row = struct {
		query string
		want  *refusal
	}
	return map[string]row{
		"D01 30 aliases":                   {aliases(30), nil},
		"D01 31 aliases":                   {aliases(31), refuseAliases},
		"D01 101 aliases":                  {aliases(101), refuseAliases},
		"D01 10,000 aliases":               {aliases(10_000), refuseQueryBytes},
		"D01 aliases by fragments":         {"{viewer{...f} }fragment f on Viewer{...g ...g}fragment g on Viewer{" + strings.Repeat("a:id ", 16) + "}", refuseAliases},
		"D02 101 look-ups":                 {lookups(101), refuseAliases},
		"D03 depth 15":                     {nested(15), nil},
		"D03 depth 16":                     {nested(16), refuseDepth},
		"D03 depth 500":                    {nested(500), refuseNesting},
		"D03 depth 20,000":                 {nested(20_000), refuseQueryBytes},
		"D03 brackets, 16 KiB":             {strings.Repeat("{", maxQueryBytes), refuseNesting},
		"D03 lists, 16 KiB":                {"{echo(numbers:" + strings.Repeat("[", 16_000), refuseNesting},
		"D03 types, 16 KiB":                {"query($a:" + strings.Repeat("[", 16_000), refuseNesting},
		"D03 depth by fragments":           {"{viewer{...f}}fragment f on Viewer{friends{friends{friends{friends{friends{friends{friends{...g}}}}}}}}fragment g on Viewer{friends{friends{friends{friends{friends{friends{friends{id}}}}}}}}", refuseDepth},
		"D03 inline fragments":             {"{viewer" + strings.Repeat("{...on Viewer", 30) + "{id" + strings.Repeat("}", 32), nil},
		"D04 fragment bomb":                {fragmentBomb(), refuseFields},
		"D04 alias bomb":                   {aliasBomb(), refuseDepth},
		"D04 a fragment spreads itself":    {"{viewer{...f}}fragment f on Viewer{id ...f}", refuseCycle},
		"D04 two spread each other":        {"{viewer{...f}}fragment f on Viewer{...g}fragment g on Viewer{friends{...f}}", refuseCycle},
		"D04 a cycle nothing spreads":      {"{viewer{id}}fragment f on Viewer{...f}", refuseCycle},
		"D06 400 same fields":              {"{" + strings.Repeat("__typename ", 400) + "}", nil},
		"D06 500 same fields":              {"{" + strings.Repeat("__typename ", 500) + "}", refuseFields},
		"D06 3,000 viewer{id}":             {"{" + strings.Repeat("viewer{id}", 1_500) + "}", refuseTokens},
		"D07 50 directives":                {"{viewer{" + strings.Repeat("id@skip(if:false) ", 50) + "}}", nil},
		"D07 51 directives":                {"{viewer{" + strings.Repeat("id@skip(if:false) ", 51) + "}}", refuseDirectives},
		"D07 @skip x1,000":                 {"{__typename" + strings.Repeat("@skip(if:false)", 1_000) + "}", refuseTokens},
		"D07 @aa x5,000":                   {"{__typename" + strings.Repeat("@aa", 5_000) + "}", refuseTokens},
		"D07 directives on a variable":     {"query($a:Int" + strings.Repeat("@aa", 51) + "){__typename}", refuseDirectives},
		"D07 directives on an operation":   {"query " + strings.Repeat("@aa", 51) + "{__typename}", refuseDirectives},
		"D10 15,999 bytes":                 {padded(15_999), nil},
		"D10 16,384 bytes":                 {padded(16_384), nil},
		"D10 16,385 bytes":                 {padded(16_385), refuseQueryBytes},
		"D10 commas":                       {"{__typename" + strings.Repeat(",", 16_000) + "}", nil},
		"D10 comment":                      {"{__typename}#" + strings.Repeat("c", 16_000), nil},
		"D10 comments":                     {"{__typename}" + strings.Repeat("#\n", 8_000), nil},
		"D11 1,999 tokens":                 {tokens(maxTokens - 1), nil},
		"D11 2,000 tokens":                 {tokens(maxTokens), nil},
		"D11 2,001 tokens":                 {tokens(maxTokens + 1), refuseTokens},
		"20 operations":                    {operations(20), nil},
		"21 operations":                    {operations(21), refuseOperations},
		"fragments that nothing spreads":   {"{__typename}fragment f on Viewer{" + strings.Repeat("id ", 401) + "}", refuseFields},
		"the second of two fragments":      {"{__typename}fragment f on Viewer{id}fragment f on Viewer{...f ...f " + strings.Repeat("id ", 400) + "}", refuseFields},
		"unbalanced brackets are no depth": {"}}}}{__typename}", nil},
	}
}

// guard runs what prepare runs before the validator.
func guard(query string) *refusal {
	if len(query) > maxQueryBytes {
		return refuseQueryBytes
	}
	source := &ast.Source{Input: query}
	limit, refused := scan(source)
	if refused != nil {
		return refused
	}
	doc, err := parser.ParseQueryWithTokenLimit(source, limit)
	if err != nil {
		return nil // A syntax error is told by the parser, not by the guard.
	}
	_, refused = guardShape(doc)
	return refused
}

func TestGuardShape(t *testing.T) {
	t.Parallel()
	for name, row := range shapeRows() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := guard(row.query); got != row.want {
				t.Fatalf("got %s, want %s", bodyOf(got), bodyOf(row.want))
			}
		})
	}
}

func bodyOf(f *refusal) string {
	if f == nil {
		return "no refusal"
	}
	return string(f.body)
}

// expanded counts fields by expanding every fragment, up to a bound: the slow and obvious way.
func expanded(doc *ast.QueryDocument, set ast.SelectionSet, left *int) (n int) {
	for _, sel := range set {
		if *left--; *left < 0 {
			return n
		}
		switch sel := sel.(type) {
		case *ast.Field:
			n += 1 + expanded(doc, sel.SelectionSet, left)
		case *ast.InlineFragment:
			n += expanded(doc, sel.SelectionSet, left)
		case *ast.FragmentSpread:
			if f := doc.Fragments.ForName(sel.Name); f != nil {
				n += expanded(doc, f.SelectionSet, left)
			}
		}
	}
	return n
}

// The guard never panics, and a document it lets through is as small as it says, counted the slow way.
func FuzzGuardShape(f *testing.F) {
	for _, row := range shapeRows() {
		if len(row.query) < 2_000 {
			f.Add(row.query)
		}
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > maxQueryBytes {
			return
		}
		source := &ast.Source{Input: query}
		limit, refused := scan(source)
		if refused != nil {
			return
		}
		doc, err := parser.ParseQueryWithTokenLimit(source, limit)
		if err != nil {
			return
		}
		if _, refused = guardShape(doc); refused != nil {
			return
		}
		for _, op := range doc.Operations {
			left := 1_000_000
			if n := expanded(doc, op.SelectionSet, &left); n > maxFields {
				t.Fatalf("%d fields passed: %q", n, query)
			}
		}
	})
}

// Every text gets an answer from the whole preparation, the same one twice, and never a panic or a suggestion.
func FuzzPrepare(f *testing.F) {
	for _, seed := range []string{
		"{viewer{id friends{name}}}", "query($n:Int=5){persons(first:$n){nodes{id}}}", `{person(id:"1"){... on Person{id} ...f}} fragment f on Node{id}`,
		`{echo(text:1,status:"x",numbers:{a:1})}`, "{vieweer{id}}", "{viewer}", `mutation{registerPerson(input:{name:"` + canary + `"}){person{id}}}`, "{", "subscription{ticks}",
	} {
		f.Add(seed)
	}
	d := setup(f)
	f.Fuzz(func(t *testing.T, query string) {
		doc, first := d.documents.prepare(query)
		again, second := d.documents.prepare(query)
		if doc != again || bodyOf(first) != bodyOf(second) {
			t.Fatalf("two verdicts on %q: %s and %s", query, bodyOf(first), bodyOf(second))
		}
		if first != nil && strings.Contains(string(first.body), "Did you mean") {
			t.Fatalf("a suggestion for %q: %s", query, first.body)
		}
	})
}

// The verdict on the bomb is ≤ 5 ms by the contract (D04); that is a figure to read, not to test on a busy machine.
func BenchmarkGuardShapeBomb(b *testing.B) {
	bomb := fragmentBomb()
	b.ReportAllocs()
	b.SetBytes(int64(len(bomb)))
	for b.Loop() {
		if guard(bomb) == nil {
			b.Fatal("the bomb passed")
		}
	}
}

// The dearest documents that pass the guard: what a cache miss can cost at most.
func BenchmarkPrepareDearest(b *testing.B) {
	var arguments, unknown, comments, chain strings.Builder
	arguments.WriteString("{")
	unknown.WriteString("{viewer{")
	for i := range 330 {
		fmt.Fprintf(&arguments, "persons(first:%d) ", i)
		fmt.Fprintf(&unknown, "u%d ", i)
	}
	arguments.WriteString("}")
	unknown.WriteString("}}")
	comments.WriteString("{__typename}" + strings.Repeat("#\n", 8_000))
	chain.WriteString("{viewer{...f0}}")
	for i := range 245 {
		fmt.Fprintf(&chain, "fragment f%d on Viewer{...f%d}", i, i+1)
	}
	chain.WriteString("fragment f245 on Viewer{id}")
	tree := "id"
	for range 7 {
		tree = "friends{" + tree + "} friends{" + tree + "}"
	}
	var spread strings.Builder
	spread.WriteString("{viewer{")
	for i := range 120 {
		fmt.Fprintf(&spread, "...f%d ", i)
	}
	spread.WriteString("}}")
	for i := range 120 {
		fmt.Fprintf(&spread, "fragment f%d on Viewer{id name friends{id}}", i)
	}
	for name, q := range map[string]string{
		"tree_of_same_fields":    "{viewer{" + tree + "}}",
		"120_fragments_together": spread.String(),
		"same_field_400_times":   "{" + strings.Repeat("__typename ", 400) + "}",
		"same_object_130_times":  "{" + strings.Repeat("viewer{id name} ", 130) + "}",
		"differing_arguments":    arguments.String(),
		"unknown_fields":         unknown.String(),
		"comments":               comments.String(),
		"chain_of_245_fragments": chain.String(),
		"tokens":                 tokens(maxTokens),
	} {
		b.Run(name, func(b *testing.B) {
			d := setup(b)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = d.documents.read(q)
			}
		})
	}
}
