package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

const (
	maxFile       = 1 << 20  // of a configuration file: thousands of partners fit
	maxSecretFile = 64 << 10 // of a secret: a PEM key fits many times
)

// Loader reads a configuration file. The zero value reads the process's environment.
type Loader struct {
	// LookupEnv finds the variables that env:NAME refers to. nil means os.LookupEnv.
	LookupEnv func(name string) (string, bool)
}

// Load reads and validates the configuration file. Its error is an [*Error] with every problem.
func Load(path string) (Config, error) { return Loader{}.Load(path) }

// Load reads and validates the configuration file. Its error is an [*Error] with every problem.
func (l Loader) Load(path string) (Config, error) {
	data, err := readBounded(path, maxFile)
	if err != nil {
		return Config{}, Wrong("--config", "%v", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, Wrong("--config", "the folder of the file cannot be found: %v", err)
	}
	cfg, d := l.parse(data, dir)
	// What could not be read was complained about; that it is "required" too would only confuse.
	complained := make(map[string]bool)
	for _, p := range d.list {
		complained[p.Setting] = true
	}
	// A file that is not YAML has one problem, not a list of everything it does not say.
	if !d.unreadable {
		for _, p := range cfg.validate() {
			if !complained[p.Setting] {
				p.Line = d.lines[p.Setting]
				d.list = append(d.list, p)
			}
		}
	}
	if err := d.err(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// parse reads everything but judges nothing.
func (l Loader) parse(data []byte, dir string) (Config, *decoder) {
	lookup := l.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	d := &decoder{lookupEnv: lookup, dir: dir, lines: make(map[string]int)}
	cfg := Default()
	d.document(data, &cfg)
	cfg.resolvePaths(dir)
	cfg.deriveDefaults()
	return cfg, d
}

// document decodes the one document of the file.
func (d *decoder) document(data []byte, cfg *Config) {
	const file = "--config"
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := in.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.unreadable = true
		d.add(file, "the file is empty: see the configuration section of the documentation")
		return
	case err != nil:
		d.unreadable = true
		d.addLine(yamlLine(err), file, "the file is not valid YAML: %s", yamlReason(err))
		return
	}
	d.node(doc.Content[0], cfg)
	switch err := in.Decode(&doc); {
	case err == nil:
		d.addLine(doc.Line, file, "the file has a second document: keep one, without a line of ---")
	case !errors.Is(err, io.EOF):
		d.addLine(yamlLine(err), file, "the file is not valid YAML: %s", yamlReason(err))
	}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func yamlLine(err error) int {
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return line
	}
	return 0
}

// yamlReason gives the parser's reason only if it is known not to quote the file: it quotes the name of an
// unknown anchor, and a secret that begins with an asterisk looks like one.
func yamlReason(err error) string {
	const generic = "it cannot be read; put values that begin with a special character in quotes"
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return generic
	}
	switch reason := m[2]; reason {
	case "mapping values are not allowed in this context",
		"could not find expected ':'",
		"did not find expected key",
		"did not find expected '-' indicator",
		"did not find expected ',' or ']'",
		"did not find expected ',' or '}'",
		"found character that cannot start any token",
		"found a tab character that violates indentation",
		"found unexpected end of stream",
		"control characters are not allowed":
		return reason
	}
	return generic
}

// readBounded reads a small regular file. Its errors name the path, and the reason without Go's wording.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", shown(path), limit>>10)
	}
	return data, nil
}

func fileError(path string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("%s cannot be read: %w", shown(path), err)
}

// shown is a path fit for a message. What is too odd to be a path may be a key that was pasted into the
// wrong setting.
func shown(path string) string {
	if len(path) > 256 {
		return "the file"
	}
	for _, r := range path {
		if r < ' ' || r == 0x7f {
			return "the file"
		}
	}
	return path
}
