package datamap

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

func schema(t *testing.T, change func(string) string) *ast.Schema {
	t.Helper()
	text, err := os.ReadFile("../../schema.graphqls")
	if err != nil {
		t.Fatal(err)
	}
	s, err := gqlparser.LoadSchema(&ast.Source{Input: change(string(text))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func asItIs(s string) string { return s }

// The map that is checked in is the one this schema gives. `go run ./cmd/kycgate data-map > docs/data-map.md` writes it.
func TestDataMap(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	if err := Write(&got, schema(t, asItIs)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/data-map.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("docs/data-map.md is not what `kycgate data-map` prints now: write it anew and read the difference\n%s", &got)
	}
}

// Whoever marks a field says where it is kept.
func TestMarkedFieldNeedsAPlace(t *testing.T) {
	t.Parallel()
	err := Write(&bytes.Buffer{}, schema(t, func(s string) string {
		return strings.Replace(s, "type Viewer {", "type Pet {\n  name: String @pii(kind: NAME)\n}\ntype Viewer {\n  pet(of: String @pii(kind: NAME)): Pet", 1)
	}))
	if err == nil || !strings.Contains(err.Error(), "Pet.name") || !strings.Contains(err.Error(), "Viewer.pet(of)") {
		t.Errorf("got %v", err)
	}
}

// A place whose field is gone says something that is no longer so.
func TestNoPlaceIsStale(t *testing.T) {
	t.Parallel()
	used := make(map[string]bool)
	for _, r := range marked(schema(t, asItIs)) {
		if _, ok := places[r.coordinate]; ok {
			used[r.coordinate] = true
			continue
		}
		typ, _, _ := strings.Cut(r.coordinate, ".")
		used[typ] = true
	}
	for name := range places {
		if !used[name] {
			t.Errorf("%s stands for no marked field", name)
		}
	}
}

// Every ciphertext and every keyed hash of the database is in the map, and nothing else is said to be one.
func TestEverySealedColumnIsInTheMap(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../store/migrations/sqlite/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	var text bytes.Buffer
	if err := Write(&text, schema(t, asItIs)); err != nil {
		t.Fatal(err)
	}
	columns := make(map[string]bool)
	for _, file := range files {
		sql, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range regexp.MustCompile(`(?s)CREATE TABLE (\w+) \((.*?)\n\)`).FindAllStringSubmatch(string(sql), -1) {
			for _, c := range regexp.MustCompile(`(?m)^\s+(sealed_\w+|\w+_index)\s`).FindAllStringSubmatch(table[2], -1) {
				columns[table[1]+"."+c[1]] = true
			}
		}
		for _, c := range regexp.MustCompile(`ALTER TABLE (\w+) ADD COLUMN (sealed_\w+|\w+_index)\s`).FindAllStringSubmatch(string(sql), -1) {
			columns[c[1]+"."+c[2]] = true
		}
	}
	if len(columns) < 8 {
		t.Errorf("found %v only", columns)
	}
	for c := range columns {
		if !strings.Contains(text.String(), "`"+c+"`") {
			t.Errorf("%s is in the database and not in the map", c)
		}
	}
	for _, m := range regexp.MustCompile("`(\\w+\\.(?:sealed_\\w+|\\w+_index))`").FindAllStringSubmatch(text.String(), -1) {
		if !columns[m[1]] {
			t.Errorf("%s is in the map and not in the database", m[1])
		}
	}
}
