// Package datamap writes the data map LGPD article 37 asks for: which personal data is taken and answered, what a
// reader without the right sees of it, where it is kept, under which key, who else receives it and for how long. It
// follows the marks of the schema, so it cannot forget a field; places.go says of each what the schema does not.
package datamap

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// row is one marked field, input field or argument.
type row struct {
	coordinate string
	kind       string
	input      bool
}

// Write writes the map as Markdown. It fails when a marked field has no place.
func Write(w io.Writer, schema *ast.Schema) error {
	rows := marked(schema)
	var unplaced []string
	for _, r := range rows {
		if _, ok := placeOf(r.coordinate); !ok {
			unplaced = append(unplaced, r.coordinate)
		}
	}
	if len(unplaced) > 0 {
		return fmt.Errorf("data map: nothing says where these are kept: %s", strings.Join(unplaced, ", "))
	}
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\n## Answered\n\n| field | kind | without `pii:read` | kept in | key | sent to | kept for |\n|---|---|---|---|---|---|---|\n")
	kinds := masks(schema)
	for _, r := range rows {
		if p, _ := placeOf(r.coordinate); !r.input {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.coordinate, r.kind, kinds[r.kind], orDash(p.kept), p.key, orDash(p.sent), p.expiry)
		}
	}
	b.WriteString("\n## Received\n\n| field or argument | kind | kept in | key | sent to | kept for |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if p, _ := placeOf(r.coordinate); r.input {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.coordinate, r.kind, orDash(p.kept), p.key, orDash(p.sent), p.expiry)
		}
	}
	b.WriteString("\n## Kept, and in no field\n\n| where | what | key | kept for |\n|---|---|---|---|\n")
	for _, h := range hidden {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", h.columns, h.what, h.key, h.expiry)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const head = `# Personal data map

Written by ` + "`kycgate data-map`" + ` from the marks of the schema (` + "`@pii`" + `); do not edit it by hand.

Keys: *person* is the data key of that person, destroyed when the person is erased; until a person is known, that of the
object itself. *index* is a keyed hash: it finds an equal value of the same partner and tells nothing to who has the
database only. Everything is wrapped under the partner's key, and that under the master key of the keyset file. A
retention that is not set keeps for good; ` + "`erasePerson`" + ` ends all of them for one person at once.
Captures and passwords live in memory only. Logs, metrics, errors and the job queue hold none of this.
`

// marked lists what carries @pii, by type and in the order of the schema.
func marked(schema *ast.Schema) (rows []row) {
	types := make([]string, 0, len(schema.Types))
	for name := range schema.Types {
		types = append(types, name)
	}
	slices.Sort(types)
	kind := func(d ast.DirectiveList) string {
		if mark := d.ForName("pii"); mark != nil {
			return mark.Arguments.ForName("kind").Value.Raw
		}
		return ""
	}
	for _, name := range types {
		typ := schema.Types[name]
		if typ.BuiltIn || typ.Kind == ast.Interface {
			continue
		}
		for _, f := range typ.Fields {
			coordinate := name + "." + f.Name
			if k := kind(f.Directives); k != "" {
				rows = append(rows, row{coordinate, k, typ.Kind == ast.InputObject})
			}
			for _, a := range f.Arguments {
				if k := kind(a.Directives); k != "" {
					rows = append(rows, row{coordinate + "(" + a.Name + ")", k, true})
				}
			}
		}
	}
	return rows
}

// masks gives, for each kind, what the schema says a masked reader sees.
func masks(schema *ast.Schema) map[string]string {
	out := make(map[string]string)
	for _, v := range schema.Types["PersonalData"].EnumValues {
		text := strings.Join(strings.Fields(v.Description), " ")
		// "A person's name: the first letter of each part" says first what it is and then what is left of it.
		if _, left, ok := strings.Cut(text, ": "); ok {
			text = left
		}
		out[v.Name] = strings.TrimSuffix(text, ".")
	}
	out["UNMASKED"] = "the value" // its text lists what it is for
	return out
}

func placeOf(coordinate string) (place, bool) {
	if p, ok := places[coordinate]; ok {
		return p, true
	}
	typ, _, _ := strings.Cut(coordinate, ".")
	p, ok := places[typ]
	return p, ok
}

func orDash(s string) string {
	if s == "" {
		return "—"
	}
	return s
}
