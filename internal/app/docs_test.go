package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

func fenced(t *testing.T, file, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no %s block", file, language)
	}
	return string(m[1])
}

// The README's query gives the README's answer.
func TestReadmeQuery(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	a := g.Query(g.Token(apptest.Acme), fenced(t, "README.md", "graphql"), nil)
	id := regexp.MustCompile(`per_[0-9A-Z]{26}`)
	space := regexp.MustCompile(`\s+`)
	want := space.ReplaceAllString(id.ReplaceAllString(fenced(t, "README.md", "json"), "ID"), "")
	if got := space.ReplaceAllString(id.ReplaceAllString(string(a.Body), "ID"), ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The configuration of docs/operations.md is one that serve takes.
func TestOperationsConfiguration(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{}) // for its key set
	dir := t.TempDir()
	jwks, err := os.ReadFile(g.Config.Auth.JWKSFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"jwks.json": jwks, "keyset.json": nil, "kycgate.yaml": []byte(strings.Replace(fenced(t, "docs/operations.md", "yaml"), "environment: production", "environment: sandbox", 1))} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The sandbox's published signing key is refused in production, hence the other environment.
	l := config.Loader{LookupEnv: func(string) (string, bool) { return "0123456789abcdef0123456789abcdef", true }}
	c, err := l.Load(filepath.Join(dir, "kycgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Providers.QITech == nil || len(c.Partners) != 2 {
		t.Errorf("read wrongly: %+v", c)
	}
}

// Every metric the operator is told to watch exists from the first scrape, and so does every metric of the
// contract that has something to say already.
func TestMetricsExistFromTheFirstScrape(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	g.Query(g.Token(apptest.Acme, kyc.PersonsRead), `{ persons { nodes { id } } }`, nil)
	m := g.Metrics()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`kycgate_[a-z_]+`).FindAllString(string(text), -1)
	names = append(names, "kycgate_provider_refused_total", "kycgate_provider_in_flight", "kycgate_jobs_due", "kycgate_graphql_request_duration_seconds", "kycgate_build_info")
	for _, n := range names {
		if n != "kycgate_" && !strings.Contains(m, "# TYPE "+n+" ") {
			t.Errorf("no metric %s", n)
		}
	}
	for _, line := range strings.Split(m, "\n") {
		if help, ok := strings.CutPrefix(line, "# HELP kycgate_"); ok && (!strings.HasSuffix(help, ".") || strings.Count(help, " ") < 3) {
			t.Errorf("not a sentence: %s", line)
		}
	}
}
