package kyc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// exportDocument is an export on its way to its two forms.
type exportDocument struct {
	createdAt time.Time
	person    PersonID
	partner   PartnerID
	sections  []exportedSection
}

type exportedSection struct {
	name, title string
	data        any // of reveal
}

// exportObject is a struct whose personal values are revealed; the order of the fields is kept.
type exportObject []exportField

type exportField struct {
	name  string
	value any // nil, string, json.Number, bool, json.RawMessage, exportObject or []any
}

// MarshalJSON writes the fields in their order.
func (o exportObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", f.name)
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// reveal takes everything out of a value of this package that it holds, the personal values too. It goes by what is
// there, so that a field somebody adds is handed out with the rest.
func reveal(v any) any { return revealed(reflect.ValueOf(v)) }

func revealed(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	switch x := v.Interface().(type) {
	case interface{ Reveal() string }:
		if v.Kind() != reflect.Pointer {
			return orNull(x.Reveal())
		}
	case Cents:
		return json.Number(fmt.Sprint(x.Reveal()))
	case JSON:
		if len(x) == 0 {
			return nil
		}
		return json.RawMessage(x)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return revealed(v.Elem())
	case reflect.Struct:
		return revealedStruct(v)
	case reflect.Slice, reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = revealed(v.Index(i))
		}
		return list
	case reflect.String:
		return orNull(v.String())
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return json.Number(fmt.Sprint(v.Interface()))
	default:
		// A kind nobody has thought of must not go missing silently.
		panic("kyc: an export cannot hold a " + v.Type().String())
	}
}

func revealedStruct(v reflect.Value) exportObject {
	var o exportObject
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			o = append(o, revealedStruct(v.Field(i))...)
		case field.IsExported():
			o = append(o, exportField{exportName(field.Name), revealed(v.Field(i))})
		}
	}
	return o
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// exportName is a Go name in the form of the schema's: ExternalID is externalId, IPAddress is ipAddress.
func exportName(name string) string {
	in := []rune(name)
	out := []rune(name)
	for i := range in {
		// Of a run of capitals the first stays, and one that begins the next word.
		inRun := i > 0 && unicode.IsUpper(in[i-1]) && (i+1 == len(in) || unicode.IsUpper(in[i+1]))
		if i == 0 || inRun {
			out[i] = unicode.ToLower(in[i])
		}
	}
	return string(out)
}

func (d exportDocument) json() (JSON, error) {
	o := exportObject{{"createdAt", d.createdAt.Format(time.RFC3339Nano)}, {"partner", string(d.partner)}}
	for _, s := range d.sections {
		o = append(o, exportField{s.name, s.data})
	}
	return json.Marshal(o)
}

// markdown writes the export for people.
func (d exportDocument) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Data held of %s\n\nBy %s, as of %s. Times are UTC, amounts are cents of BRL.\n", d.person, markdownText(string(d.partner)), d.createdAt.Format(time.RFC3339))
	for _, s := range d.sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		switch data := s.data.(type) {
		case []any:
			if len(data) == 0 {
				b.WriteString("Nothing.\n")
			}
			for i, item := range data {
				fmt.Fprintf(&b, "%s%d. ", map[bool]string{true: "\n"}[i > 0], i+1)
				writeMarkdown(&b, item, "   ")
			}
		default:
			writeMarkdown(&b, data, "")
		}
	}
	return b.String()
}

// writeMarkdown writes a value, objects as lists of their fields; what is missing is left out.
func writeMarkdown(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case exportObject:
		// The first field stands where the writer is: behind a number, or at the beginning of a line.
		first := true
		for _, f := range v {
			if list, ok := f.value.([]any); f.value == nil || ok && len(list) == 0 {
				continue
			}
			if !first {
				b.WriteString(indent)
			}
			first = false
			fmt.Fprintf(b, "- %s:", wordsOf(f.name))
			if _, ok := f.value.(exportObject); ok {
				b.WriteString("\n  " + indent)
			} else if text := plain(f.value); text != "" {
				b.WriteString(" " + text + "\n")
				continue
			}
			writeMarkdown(b, f.value, indent+"  ")
		}
		if first {
			b.WriteString("nothing\n")
		}
	case []any:
		b.WriteByte('\n')
		for _, item := range v {
			b.WriteString(indent + "- ")
			writeMarkdown(b, item, indent+"  ")
		}
	case json.RawMessage:
		var text bytes.Buffer
		if err := json.Indent(&text, v, indent, "  "); err != nil {
			text.Reset()
			text.Write(v)
		}
		fence := "```"
		for bytes.Contains(text.Bytes(), []byte(fence)) {
			fence += "`"
		}
		fmt.Fprintf(b, "\n\n%s%sjson\n%s%s\n%s%s\n\n", indent, fence, indent, text.Bytes(), indent, fence)
	default:
		b.WriteString(markdownText(fmt.Sprint(v)) + "\n")
	}
}

// plain is a value, or a list of values, that fits a line; "" when it does not.
func plain(v any) string {
	list, ok := v.([]any)
	if !ok {
		if _, raw := v.(json.RawMessage); raw {
			return ""
		}
		return markdownText(fmt.Sprint(v))
	}
	parts := make([]string, len(list))
	for i, item := range list {
		switch item := item.(type) {
		case exportObject:
			if len(item) != 1 {
				return ""
			}
			parts[i] = markdownText(fmt.Sprint(item[0].value))
		case json.RawMessage, []any:
			return ""
		default:
			parts[i] = markdownText(fmt.Sprint(item))
		}
	}
	return strings.Join(parts, ", ")
}

// wordsOf is a name as words: motherName is "mother name".
func wordsOf(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

var markdownSpecial = strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "\\<", ">", "\\>", "#", "\\#", "|", "\\|", "\n", " ", "\r", " ")

// markdownText keeps a value from being read as anything but itself.
func markdownText(s string) string {
	if isGlobalID(s) || isCoordinate(s) {
		return s
	}
	return markdownSpecial.Replace(s)
}
