package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder fills a Config from a YAML tree. yaml.v3 can decode strictly by itself, but it names Go types
// instead of settings, quotes values, and lets a number pass as text.
type decoder struct {
	problems
	lookupEnv  func(string) (string, bool)
	dir        string         // what relative paths are relative to
	lines      map[string]int // where each setting stands
	unreadable bool           // the file is no YAML at all
}

var (
	secretType   = reflect.TypeFor[Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	ageType      = reflect.TypeFor[Age]()
)

func (d *decoder) node(n *yaml.Node, cfg *Config) {
	if n.Kind != yaml.MappingNode {
		d.unreadable = true
		d.addLine(n.Line, "--config", "the file is not a list of settings of the form name: value")
		return
	}
	d.decode("", n, reflect.ValueOf(cfg).Elem())
}

// decode puts the node into the value, and complains under the setting's path if it cannot.
func (d *decoder) decode(path string, n *yaml.Node, v reflect.Value) {
	if path != "" {
		d.lines[path] = n.Line
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.addLine(n.Line, path, "anchors (&) and aliases (*) are not supported: write the value out, in quotes if it begins with one of them")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		d.addLine(n.Line, path, "has no value: give it one or remove the line")
	case v.Type() == secretType:
		d.secret(path, n, v)
	case v.Type() == durationType:
		d.duration(path, n, v)
	case v.Type() == ageType:
		d.age(path, n, v)
	default:
		d.kind(path, n, v)
	}
}

func (d *decoder) kind(path string, n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		applyDefaults(v)
		d.kind(path, n, v.Elem())
	case reflect.Struct:
		d.structure(path, n, v)
	case reflect.Slice:
		d.slice(path, n, v)
	case reflect.String:
		if d.scalar(path, n, "text: put it in quotes", "!!str") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		if d.scalar(path, n, "true or false", "!!bool") {
			d.number(path, n, v, "true or false")
		}
	case reflect.Int:
		if d.scalar(path, n, "a whole number", "!!int") {
			d.number(path, n, v, "a whole number that is not that large")
		}
	case reflect.Float64:
		if d.scalar(path, n, "a number", "!!int", "!!float") {
			d.number(path, n, v, "a number")
		}
	default:
		// A new field of another kind is a mistake of ours that the first test of it finds.
		panic("config: no decoding for " + v.Type().String())
	}
}

// number lets yaml.v3 read a scalar whose tag is known to fit.
func (d *decoder) number(path string, n *yaml.Node, v reflect.Value, want string) {
	if err := n.Decode(v.Addr().Interface()); err != nil {
		d.addLine(n.Line, path, "must be %s", want)
	}
}

// scalar checks that the node is a single value of one of the tags.
func (d *decoder) scalar(path string, n *yaml.Node, want string, tags ...string) bool {
	if n.Kind == yaml.ScalarNode {
		for _, tag := range tags {
			if n.ShortTag() == tag {
				return true
			}
		}
	}
	d.addLine(n.Line, path, "must be %s", want)
	return false
}

func (d *decoder) structure(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.addLine(n.Line, path, "must be a list of settings of the form name: value")
		return
	}
	fields := make(map[string]reflect.Value)
	names := settings(v, fields)
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		setting := join(path, keyName(key))
		if first, twice := seen[key.Value]; twice {
			d.addLine(key.Line, setting, "is set twice, first in line %d: remove one", first)
			continue
		}
		seen[key.Value] = key.Line
		field, known := fields[key.Value]
		if !known || key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			d.addLine(key.Line, setting, "unknown key; the keys here are %s", strings.Join(names, ", "))
			continue
		}
		d.decode(setting, value, field)
	}
}

// settings maps the keys of a struct to its fields, those of embedded structs included, and lists them in
// the order of the declaration.
func settings(v reflect.Value, fields map[string]reflect.Value) (names []string) {
	for i := range v.NumField() {
		name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if option == "inline" {
			names = append(names, settings(v.Field(i), fields)...)
			continue
		}
		fields[name] = v.Field(i)
		names = append(names, name)
	}
	return names
}

func (d *decoder) slice(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.addLine(n.Line, path, "must be a list, one entry a line after a dash")
		return
	}
	// A list in the file replaces the default list.
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		applyDefaults(v.Index(i).Addr())
		d.decode(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))
	}
}

// applyDefaults starts a section from its defaults, if it has any.
func applyDefaults(pointer reflect.Value) {
	if s, ok := pointer.Interface().(interface{ applyDefaults() }); ok {
		s.applyDefaults()
	}
}

func (d *decoder) duration(path string, n *yaml.Node, v reflect.Value) {
	const want = "a duration with a unit, such as 500ms, 5s or 1m30s"
	if !d.scalar(path, n, want, "!!str") {
		return
	}
	parsed, err := time.ParseDuration(n.Value)
	if err != nil {
		d.addLine(n.Line, path, "must be %s", want)
		return
	}
	v.SetInt(int64(parsed))
}

// age is a duration that may also be counted in days and in years of 365 days.
func (d *decoder) age(path string, n *yaml.Node, v reflect.Value) {
	const want = "an age with a unit, such as 36h, 90d or 5y"
	if !d.scalar(path, n, want, "!!str") {
		return
	}
	parsed, err := time.ParseDuration(n.Value)
	if ageForm.MatchString(n.Value) {
		unit := len(n.Value) - 1
		days, _ := strconv.Atoi(n.Value[:unit]) // four digits at most
		if n.Value[unit] == 'y' {
			days *= 365
		}
		parsed, err = time.Duration(days)*24*time.Hour, nil
	}
	if err != nil || parsed < 0 {
		d.addLine(n.Line, path, "must be %s", want)
		return
	}
	v.SetInt(int64(parsed))
}

// ageForm keeps the product far from where a duration overflows, at 292 years.
var ageForm = regexp.MustCompile(`^([0-9]{1,4}d|[0-9]{1,2}y)$`)

// secret resolves env:NAME and file:PATH. No message shows what the secret is.
func (d *decoder) secret(path string, n *yaml.Node, v reflect.Value) {
	if !d.scalar(path, n, "text: put it in quotes", "!!str") {
		return
	}
	s, err := resolveSecret(n.Value, d.dir, d.lookupEnv)
	if err != nil {
		d.addLine(n.Line, path, "%v", err)
		return
	}
	v.Set(reflect.ValueOf(s))
}

// ResolveSecret reads a secret that is written as env:NAME or file:PATH, as in the configuration. Anything else is the secret itself.
func ResolveSecret(text string) (Secret, error) { return resolveSecret(text, ".", os.LookupEnv) }

func resolveSecret(text, dir string, lookupEnv func(string) (string, bool)) (Secret, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		value, set := lookupEnv(name)
		switch {
		case !variableName.MatchString(name):
			return Secret{}, errors.New("env: must be followed by the name of an environment variable")
		case !set:
			return Secret{}, fmt.Errorf("the environment variable %s is not set: set it before starting", name)
		}
		text = trimNewline(value)
		if text == "" {
			return Secret{}, fmt.Errorf("the environment variable %s is empty: set it before starting", name)
		}
	} else if file, ok := strings.CutPrefix(text, "file:"); ok {
		if file == "" {
			return Secret{}, errors.New("file: must be followed by the path of a file")
		}
		file = resolve(dir, filepath.FromSlash(file))
		data, err := readBounded(file, maxSecretFile)
		if err != nil {
			return Secret{}, err
		}
		text = trimNewline(string(data))
		if text == "" {
			return Secret{}, fmt.Errorf("%s is empty: write the secret into it", shown(file))
		}
	}
	if text == "" {
		return Secret{}, errors.New("is empty: give it a value, env:NAME or file:PATH")
	}
	return NewSecret(text), nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// trimNewline removes what editors and echo put at the end.
func trimNewline(s string) string { return strings.TrimRight(s, "\r\n") }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,40}$`)

// keyName is a key fit for a message. One that cannot be a setting's name is not quoted: it may be a
// secret that lost its own key.
func keyName(key *yaml.Node) string {
	if key.Kind == yaml.ScalarNode && plainKey.MatchString(key.Value) {
		return key.Value
	}
	return "?"
}
