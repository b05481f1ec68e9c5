package providers

import (
	"os"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech"
)

func TestCatalogListsEveryFolder(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains([]string{"httpjson", "providertest", "simulator", "testdata"}, e.Name()) {
			folders = append(folders, e.Name())
		}
	}
	names := Names()
	slices.Sort(names)
	if !slices.Equal(folders, names) {
		t.Errorf("folders %v, catalog %v", folders, names)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	none, err := Open(Settings{}, nil, nil)
	if err != nil || len(none.Providers()) != 0 || len(none.Health()) != 0 {
		t.Errorf("nothing configured: %+v, %v", none, err)
	}
	c := qitech.Config{BaseURL: "https://api.example.test", APIKey: func() string { return "k" }}
	set, err := Open(Settings{QITech: &Configured[qitech.Config]{Config: c, Limits: Limits{MaxConcurrent: 64}}}, NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := set.Provider("qitech")
	if !ok || p.AnalyzePerson == nil || p.FetchPersonAnalysis == nil || p.RegisterFace == nil || p.FetchFace == nil || p.FetchFaceByDocument == nil || p.FaceImages.MaxBytes != 3_000_000 || p.ParseCallback == nil || p.DisplayName != "QI Tech" {
		t.Errorf("%+v", p)
	}
	if _, ok := set.Provider("unico"); ok {
		t.Error("unico is not configured")
	}
	if h := set.Health(); len(h) != 1 || len(h[0].Operations) != 5 || h[0].Operations[0].Breaker != kyc.BreakerClosed {
		t.Errorf("%+v", h)
	}
	if set.guards[0].limits.MaxConcurrent != 64 {
		t.Errorf("%+v", set.guards[0].limits)
	}
	c.APIKey = nil
	if _, err := Open(Settings{QITech: &Configured[qitech.Config]{Config: c}}, nil, nil); err == nil {
		t.Error("a provider without a key was opened")
	}
}
