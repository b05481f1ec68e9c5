package app_test

import (
	"log/slog"
	"strings"
	"testing"

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
