package providers

import (
	"log/slog"
	"net/http"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub"
	"github.com/kycgate/kycgate/providers/httpjson"
	"github.com/kycgate/kycgate/providers/leap"
	"github.com/kycgate/kycgate/providers/qitech"
	"github.com/kycgate/kycgate/providers/unico"
)

// Settings is what the providers are opened with. A nil one is not offered. They are plain values, so that
// nothing here knows how configuration is written.
type Settings struct {
	QITech *Configured[qitech.Config]
	Unico  *Configured[unico.Config]
	FinHub *Configured[finhub.Config]
	Leap   *Configured[leap.Config]

	HTTP *http.Client // shared by all of them; nil is httpjson.NewHTTPClient
}

// Configured is the configuration of one provider and the limits of the guard around it.
type Configured[C any] struct {
	Config C
	Limits Limits
}

// entry is one upstream we can speak to. open gives ok = false when it is not configured.
type entry struct {
	name string
	open func(Settings) (p kyc.Provider, limits Limits, ok bool, err error)
}

// catalog lists all of them; adding one is a folder and a line. TestCatalogListsEveryFolder compares.
var catalog = []entry{
	{qitech.Name, func(s Settings) (kyc.Provider, Limits, bool, error) { return open(s.QITech, qitech.New, s.HTTP) }},
	{unico.Name, func(s Settings) (kyc.Provider, Limits, bool, error) { return open(s.Unico, unico.New, s.HTTP) }},
	{finhub.Name, func(s Settings) (kyc.Provider, Limits, bool, error) { return open(s.FinHub, finhub.New, s.HTTP) }},
	{leap.Name, func(s Settings) (kyc.Provider, Limits, bool, error) { return open(s.Leap, leap.New, s.HTTP) }},
}

func open[C any](c *Configured[C], construct func(C, *http.Client) (kyc.Provider, error), client *http.Client) (kyc.Provider, Limits, bool, error) {
	if c == nil {
		return kyc.Provider{}, Limits{}, false, nil
	}
	p, err := construct(c.Config, client)
	return p, c.Limits, true, err
}

// Names lists every provider there is, configured or not, in the order of the catalog.
func Names() []string {
	names := make([]string, len(catalog))
	for i, e := range catalog {
		names[i] = e.name
	}
	return names
}

// Set is the configured providers, each behind its guard.
type Set struct {
	providers []kyc.Provider
	guards    []*Guard
}

// Open makes every configured provider. m and log may be nil.
func Open(s Settings, m *Metrics, log *slog.Logger) (*Set, error) {
	if s.HTTP == nil {
		s.HTTP = httpjson.NewHTTPClient()
	}
	set := new(Set)
	for _, e := range catalog {
		p, limits, ok, err := e.open(s)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		p, guard := Wrap(p, limits, m, log)
		set.providers, set.guards = append(set.providers, p), append(set.guards, guard)
	}
	return set, nil
}

// Providers are the guarded providers in the order of the catalog.
func (s *Set) Providers() []kyc.Provider { return s.providers }

// Provider finds one by its name.
func (s *Set) Provider(name string) (kyc.Provider, bool) {
	for _, p := range s.providers {
		if p.Name == name {
			return p, true
		}
	}
	return kyc.Provider{}, false
}

// Health is how the providers look from this process.
func (s *Set) Health() []kyc.ProviderHealth {
	health := make([]kyc.ProviderHealth, len(s.guards))
	for i, g := range s.guards {
		health[i] = g.Health()
	}
	return health
}
