package resolvers_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/kyc"
)

var update = flag.Bool("update", false, "write what was answered into testdata")

// The conversations in testdata are the API as its users see it: requests in order, each with its answer.
// `go test ./resolvers -update` writes the answers; read the difference before you commit it.
//
//	-- token --      optional: "partner scope scope"; default "acme" with every scope
//	-- request --    a GraphQL document; its answer follows as -- answer --
func TestConversations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := apptest.Start(t, apptest.Options{})
			token, got, name := g.Token(apptest.Acme), "", newNamer()
			for i := range a.Files {
				f := &a.Files[i]
				switch f.Name {
				case "token":
					words := strings.Fields(string(f.Data))
					var scopes []kyc.Scope
					for _, w := range words[1:] {
						scopes = append(scopes, kyc.Scope(w))
					}
					token = g.Token(words[0], scopes...)
				case "request":
					got = name.stable(string(g.Query(token, name.real(string(f.Data)), nil).Body))
				case "answer":
					if *update {
						f.Data = []byte(got + "\n")
					} else if want := strings.TrimSpace(string(f.Data)); got != want {
						t.Errorf("request %d:\ngot  %s\nwant %s", i, got, want)
					}
				default:
					t.Fatalf("unknown section %q", f.Name)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// namer gives ids and times names that are the same in every run: $per1 is the first person seen.
type namer struct {
	names map[string]string
	ids   map[string]string
	count map[string]int
}

func newNamer() *namer {
	return &namer{names: map[string]string{}, ids: map[string]string{}, count: map[string]int{}}
}

var (
	anID   = regexp.MustCompile(`\b(per|reg|ana|err|fac|prc)_[0-9A-Z]{26}`)
	aKey   = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b`) // of the provider
	aTime  = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	cursor = regexp.MustCompile(`"(cursor|startCursor|endCursor)":"[^"]+"`)
	random = regexp.MustCompile(`("(?:tokenId|requestId|providerKey)":"|(?:token id|request id|provider key): )[A-Za-z0-9-]+`)
)

func (n *namer) stable(s string) string {
	s = random.ReplaceAllString(s, `${1}$$random`)
	s = n.named(anID, s, func(id string) string { return id[:3] })
	s = n.named(aKey, s, func(string) string { return "key" })
	s = aTime.ReplaceAllString(s, "$$time")
	return strings.TrimSpace(cursor.ReplaceAllString(s, `"$1":"$$cursor"`))
}

func (n *namer) named(pattern *regexp.Regexp, s string, kindOf func(string) string) string {
	return pattern.ReplaceAllStringFunc(s, func(id string) string {
		if n.names[id] == "" {
			kind := kindOf(id)
			n.count[kind]++
			n.names[id] = "$" + kind + string(rune('0'+n.count[kind]))
			n.ids[n.names[id]] = id
		}
		return n.names[id]
	})
}

func (n *namer) real(s string) string {
	for name, id := range n.ids {
		s = strings.ReplaceAll(s, name, id)
	}
	return s
}
