package app

import (
	"context"
	"crypto/rsa"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers"
	"github.com/kycgate/kycgate/providers/finhub"
	"github.com/kycgate/kycgate/providers/leap"
	"github.com/kycgate/kycgate/providers/qitech"
	"github.com/kycgate/kycgate/providers/unico"
)

// upstreams are the configured providers behind their guards.
type upstreams struct {
	set      *providers.Set
	cadences map[string]kyc.Cadence
	metrics  *providers.Metrics
}

// newUpstreams converts the configuration into what the providers take. They do not know how it is
// written, and it does not know them.
func newUpstreams(ctx context.Context, o Options, reg prometheus.Registerer) (*upstreams, error) {
	c := o.Config
	u := &upstreams{cadences: make(map[string]kyc.Cadence), metrics: providers.NewMetrics(reg)}
	production := c.Environment == config.Production
	var s providers.Settings
	if q := c.Providers.QITech; q != nil {
		paced := cadence(q.Upstream)
		paced.HoldAmbiguous = q.HoldAmbiguous
		u.cadences[qitech.Name] = paced
		s.QITech = &providers.Configured[qitech.Config]{
			Limits: limits(q.Upstream, c.AnswerWithin),
			Config: qitech.Config{
				BaseURL: q.BaseURL, APIKey: q.APIKey.Reveal, FaceAPIKey: q.FaceKey().Reveal, WebhookKey: q.WebhookSecret.Reveal,
				CallbackURL: CallbackURL(c, qitech.Name), GenderOther: qitech.GenderOther(q.GenderOther), FaceDocument: qitech.DocumentForm(q.FaceDocument),
				Production: production, Version: o.Version.Version,
			},
		}
	}
	if l := c.Providers.Leap; l != nil {
		paced := cadence(l.Upstream)
		paced.StuckAfter = l.StuckAfter
		u.cadences[leap.Name] = paced
		s.Leap = &providers.Configured[leap.Config]{
			Limits: limits(l.Upstream, c.AnswerWithin),
			Config: leap.Config{BaseURL: l.BaseURL, APIKey: l.APIKey.Reveal, UpdatePath: l.UpdatePath, Production: production, Version: o.Version.Version},
		}
	}
	if f := c.Providers.FinHub; f != nil {
		u.cadences[finhub.Name] = cadence(f.Upstream)
		s.FinHub = &providers.Configured[finhub.Config]{
			Limits: limits(f.Upstream, c.AnswerWithin),
			Config: finhub.Config{
				BaseURL: f.BaseURL, Token: f.Token.Reveal, Admin: finhubAdmin(f.Admin), Registration: finhub.Registration(f.Registration),
				SearchPath: f.SearchPath, ActivationUser: finhub.ActivationUser(f.ActivationUser), ForwardedFor: f.ForwardedFor,
				Production: production, Version: o.Version.Version,
			},
		}
		if o.Clock != nil {
			s.FinHub.Config.Now = o.Clock.Now
		}
	}
	if c.Providers.Unico != nil {
		configured, err := unicoSettings(o)
		if err != nil {
			return nil, err
		}
		paced := cadence(c.Providers.Unico.Upstream)
		paced.HoldAmbiguous = c.Providers.Unico.HoldAmbiguous
		u.cadences[unico.Name], s.Unico = paced, configured
	}
	if production {
		if err := refuseSimulators(ctx, c); err != nil {
			return nil, err
		}
	}
	var err error
	u.set, err = providers.Open(s, u.metrics, o.Logger)
	return u, err
}

func finhubAdmin(a *config.FinHubAdmin) *finhub.Admin {
	if a == nil {
		return nil
	}
	return &finhub.Admin{
		OrganizationID: a.OrganizationID, UserID: a.UserID, Username: a.Username,
		Password: a.Password.Reveal, TenantKey: a.TenantKey.Reveal, TenantSecret: a.TenantSecret.Reveal,
	}
}

func unicoSettings(o Options) (*providers.Configured[unico.Config], error) {
	c, u := o.Config, o.Config.Providers.Unico
	data, err := os.ReadFile(u.PrivateKeyFile)
	if err != nil {
		return nil, config.Wrong("providers.unico.private_key_file", "cannot be read: %v", err)
	}
	signer, _, err := keys.ParsePrivate(data)
	if err != nil {
		return nil, config.Wrong("providers.unico.private_key_file", "%v", err)
	}
	key, ok := signer.(*rsa.PrivateKey)
	if !ok {
		return nil, config.Wrong("providers.unico.private_key_file", "must be an RSA key")
	}
	settings := &providers.Configured[unico.Config]{
		Limits: limits(u.Upstream, c.AnswerWithin),
		Config: unico.Config{
			Timeout: limits(u.Upstream, c.AnswerWithin).Timeout,
			BaseURL: u.BaseURL, TokenURL: u.TokenURL, ServiceAccount: u.ServiceAccount, TenantID: u.TenantID, PrivateKey: key, Audience: u.Audience,
			WebhookAuth: u.WebhookAuth.Reveal, Production: c.Environment == config.Production, Version: o.Version.Version,
		},
	}
	for _, k := range u.APIKeys {
		key := unico.APIKey{Key: k.Key.Reveal}
		for _, c := range k.Capabilities {
			key.Capabilities = append(key.Capabilities, kyc.Capability(c))
		}
		settings.Config.APIKeys = append(settings.Config.APIKeys, key)
	}
	return settings, nil
}

// CallbackURL is where a provider sends its webhooks, as agreed with it; QI Tech signs this very text.
func CallbackURL(c config.Config, provider string) string {
	base := c.PublicURL
	if base == "" {
		base = "http://" + c.Listen // a sandbox without a public_url is its own public
	}
	return strings.TrimRight(base, "/") + "/callbacks/" + provider
}

func limits(u config.Upstream, answerWithin time.Duration) providers.Limits {
	return providers.Limits{
		// A call must end before its job's lease does (answer_within + 10 s): two owners could both act.
		Timeout:       min(u.Timeout, answerWithin+8*time.Second),
		MaxConcurrent: u.MaxConcurrent, RatePerSecond: u.RatePerSecond,
		BreakerFailures: u.Breaker.Failures, OpenFor: u.Breaker.OpenFor,
	}
}

func cadence(u config.Upstream) kyc.Cadence {
	return kyc.Cadence{PollEvery: u.PollEvery, RetryAfter: u.RetryAfter}
}

func (u *upstreams) providers() []kyc.Provider { return u.set.Providers() }

func (u *upstreams) health() []kyc.ProviderHealth { return u.set.Health() }

func (u *upstreams) unknownStatus(provider string) { u.metrics.UnknownStatus(provider) }

func (u *upstreams) names() []string {
	var names []string
	for _, p := range u.set.Providers() {
		names = append(names, p.Name)
	}
	return names
}

// baseURLs gives the configured upstreams by setting.
func baseURLs(c config.Config) map[string]string {
	urls := make(map[string]string)
	if p := c.Providers.QITech; p != nil {
		urls["providers.qitech.base_url"] = p.BaseURL
	}
	if p := c.Providers.Unico; p != nil {
		urls["providers.unico.base_url"], urls["providers.unico.token_url"] = p.BaseURL, p.TokenURL
	}
	if p := c.Providers.FinHub; p != nil {
		urls["providers.finhub.base_url"] = p.BaseURL
	}
	if p := c.Providers.Leap; p != nil {
		urls["providers.leap.base_url"] = p.BaseURL
	}
	return urls
}

// reached is what a look at an upstream showed.
type reached struct {
	setting   string
	err       error
	simulator bool
	skew      *time.Duration // their clock minus ours, to the second; nil when they did not say
}

// look asks every upstream for anything at all: any HTTP answer is a sign of life, and the only things read
// of it are headers.
func look(ctx context.Context, c config.Config, timeout time.Duration) []reached {
	urls := baseURLs(c)
	results := make([]reached, 0, len(urls))
	var mu sync.Mutex
	var wg sync.WaitGroup
	client := &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for setting, url := range urls {
		wg.Go(func() {
			r := reached{setting: setting}
			r.simulator, r.skew, r.err = lookAt(ctx, client, url)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, r)
		})
	}
	wg.Wait()
	return results
}

func lookAt(ctx context.Context, client *http.Client, url string) (simulator bool, skew *time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		skew = new(time.Until(date))
	}
	return resp.Header.Get("Kycgate-Simulator") != "", skew, nil
}

// refuseSimulators keeps a production gateway from running against made-up decisions. An upstream that
// does not answer now is not refused: an outage must not keep the gateway from starting, and the client
// refuses a simulator's answers later as well.
func refuseSimulators(ctx context.Context, c config.Config) error {
	for _, r := range look(ctx, c, time.Second) {
		if r.simulator {
			return config.Wrong(r.setting, "is a kycgate simulator: production needs the provider itself")
		}
	}
	return nil
}

// Check is one line of `kycgate doctor`.
type Check struct {
	Name   string
	OK     bool
	Detail string
}

// maxSkew is how far a provider's clock may be from ours: signed assertions live minutes (ours).
const maxSkew = 30 * time.Second

// checkProviders tells of every upstream whether it answers and, where we speak to it, what it says when it is asked for something
// that is not there: that proves the key and changes nothing.
func checkProviders(ctx context.Context, o Options, seen []reached) []Check {
	c := o.Config
	var checks []Check
	for _, r := range seen {
		name := strings.TrimSuffix(r.setting, ".base_url")
		switch {
		case r.err != nil:
			checks = append(checks, Check{name, false, "does not answer: check base_url, DNS and the way out of this network"})
		case r.simulator && c.Environment == config.Production:
			checks = append(checks, Check{name, false, "is a simulator: production needs the provider itself"})
		default:
			checks = append(checks, Check{name, true, "answers"})
		}
	}
	checks = append(checks, operationChecks(ctx, o)...)
	slices.SortStableFunc(checks, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	return checks
}

// checkClock holds our clock against those of the providers that told the time. MUST: TestDoctorClock.
func checkClock(seen []reached) Check {
	const name = "clock"
	slices.SortFunc(seen, func(a, b reached) int { return strings.Compare(a.setting, b.setting) })
	var off []string
	asked := 0
	for _, r := range seen {
		if r.skew == nil {
			continue
		}
		asked++
		if r.skew.Abs() > maxSkew {
			off = append(off, fmt.Sprintf("%s by %s", strings.TrimSuffix(r.setting, ".base_url"), r.skew.Round(time.Second)))
		}
	}
	switch {
	case len(off) > 0:
		return Check{name, false, "differs from " + strings.Join(off, ", ") + ": synchronise this machine's clock"}
	case asked == 0:
		return Check{name, true, "could not be compared: no provider told the time"}
	default:
		return Check{name, true, fmt.Sprintf("within %s of every provider that told the time (%d)", maxSkew, asked)}
	}
}

func operationChecks(ctx context.Context, o Options) []Check {
	u, err := newUpstreams(ctx, o, prometheus.NewRegistry())
	if err != nil {
		return []Check{{"providers", false, err.Error()}}
	}
	var checks []Check
	tried := func(name string, err error) {
		switch kyc.KindOf(err) {
		case kyc.NotFound:
			checks = append(checks, Check{name, true, "accepted"})
		case kyc.Credentials:
			checks = append(checks, Check{name, false, "refused by the provider: check the key and that it is of this environment"})
		case kyc.Unavailable:
			checks = append(checks, Check{name, false, "could not be tried: the provider does not answer"})
		default:
			checks = append(checks, Check{name, false, "could not be tried: the provider does not answer a look-up as it should (" + kyc.KindOf(err).String() + ")"})
		}
	}
	for _, p := range u.providers() {
		if p.FetchCategoryHierarchy != nil {
			checks = append(checks, tenantChecks(ctx, o.Config, p)...)
		}
		if p.FetchPersonAnalysis != nil {
			_, err := p.FetchPersonAnalysis(ctx, kyc.NewAnalysisID())
			tried("providers."+p.Name+".api_key", err)
		}
		if p.FetchProspect != nil {
			_, err := p.FetchProspect(ctx, kyc.Identity{Email: kyc.NewEmailAddress("nobody@kycgate.invalid")}) // RFC 2606: nobody's
			tried("providers."+p.Name+".api_key", err)
		}
		if p.FetchProcess != nil {
			_, err := p.FetchProcess(ctx, kyc.ProcessReference{ProviderProcessID: uuid.NewString()})
			tried("providers."+p.Name+".api_keys", err)
		}
		if p.FetchFace != nil {
			_, err := p.FetchFace(ctx, uuid.NewString())
			tried("providers."+p.Name+".face_api_key", err)
		}
	}
	return checks
}

// tenantChecks reads each tenant's categories, which only works with credentials that may speak for it.
func tenantChecks(ctx context.Context, c config.Config, p kyc.Provider) (checks []Check) {
	for i, partner := range c.Partners {
		if partner.FinHubTenant == "" {
			continue
		}
		name := fmt.Sprintf("partners[%d].finhub_tenant", i)
		h, err := p.FetchCategoryHierarchy(ctx, kyc.Tenant(partner.FinHubTenant))
		switch {
		case err == nil:
			checks = append(checks, Check{name, true, fmt.Sprintf("accepted; %d categories", len(h.Categories))})
		case kyc.KindOf(err) == kyc.Credentials:
			checks = append(checks, Check{name, false, "refused by the provider: check the credentials, the tenant, and that both are of this environment"})
		default:
			checks = append(checks, Check{name, false, "its categories could not be read (" + kyc.KindOf(err).String() + ")"})
		}
	}
	return checks
}
