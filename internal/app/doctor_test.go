package app_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
)

// Doctor tells a provider that is well from one that answers nothing useful and from one that refuses our key,
// while the gateway runs on the same database.
func TestDoctor(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	look := func(c config.Config) string {
		var b strings.Builder
		for _, check := range app.Doctor(t.Context(), c, slog.New(slog.DiscardHandler)) {
			if !check.OK {
				b.WriteString(check.Name + " ")
			}
		}
		return b.String()
	}
	if bad := look(g.Config); bad != "" {
		t.Errorf("not well: %s", bad)
	}
	wrongKey, q := g.Config, *g.Config.Providers.QITech
	q.APIKey = config.NewSecret("some other key")
	wrongKey.Providers.QITech = &q
	if bad := look(wrongKey); bad != "providers.qitech.api_key " {
		t.Errorf("with a wrong key: %q", bad)
	}
	putFault(t, g, `{"operation":"fetch_person_analysis","kind":"status","value":503}`)
	if bad := look(g.Config); bad != "providers.qitech.api_key " {
		t.Errorf("with 503: %q", bad)
	}
}

// A clock that is off has a line of its own, whoever is asked; a provider that is down is said to be down by each of its lines.
func TestDoctorClock(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	line := func(c config.Config, name string) app.Check {
		for _, check := range app.Doctor(t.Context(), c, slog.New(slog.DiscardHandler)) {
			if check.Name == name {
				return check
			}
		}
		t.Fatalf("no line %s", name)
		return app.Check{}
	}
	if c := line(g.Config, "clock"); !c.OK || !strings.Contains(c.Detail, "every provider") {
		t.Errorf("%+v", c)
	}
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-5*time.Minute).UTC().Format(http.TimeFormat))
	}))
	defer slow.Close()
	other, q := g.Config, *g.Config.Providers.QITech
	q.BaseURL = slow.URL
	other.Providers.QITech = &q
	if c := line(other, "clock"); c.OK || !strings.Contains(c.Detail, "providers.qitech by -5m") {
		t.Errorf("%+v", c)
	}
	slow.Close()
	for _, name := range []string{"providers.qitech", "providers.qitech.api_key"} {
		if c := line(other, name); c.OK || !strings.Contains(c.Detail, "does not answer") {
			t.Errorf("%+v", c)
		}
	}
}
