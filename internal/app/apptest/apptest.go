// Package apptest starts the whole gateway for a test: the real application on a file of its own, the real
// simulator over HTTP, tokens that verify. Nothing in between is faked.
package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/simulator"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

// Partners every gateway has: two decided by QI Tech, one by nobody.
const (
	Acme   = "acme"
	Rival  = "rival"
	Bazaar = "bazaar"
)

// Options change what Start starts.
type Options struct {
	Config func(*config.Config) // after everything else is set
	Sim    qitechsim.Config
	// Leap is Leap's simulator; its statuses change with every look-up unless StepDelay is given.
	Leap   leapsim.Config
	FinHub finhubsim.Config
	Unico  unicosim.Config
	// Upstream replaces the simulator by any handler.
	Upstream http.Handler
	Clock    clockwork.Clock
	Dir      string // keep the database here; default a fresh folder
	// NoWebhooks leaves the analyses to polling.
	NoWebhooks bool
	// Keyless leaves the gateway without a key to sign tokens with; the test has it all the same.
	Keyless bool
}

// Gateway is a running gateway with its simulator.
type Gateway struct {
	URL, AdminURL string
	Sim           *qitechsim.Sim
	FinHub        *finhubsim.Sim
	Leap          *leapsim.Sim
	Unico         *unicosim.Sim
	SimURL        string // of the simulators, without /qitech
	Dir           string
	Config        config.Config
	Logs          *Buffer

	tb     testing.TB
	signer *auth.Signer
	client *http.Client
	stop   func()
}

// Start starts a gateway that ends with the test.
func Start(tb testing.TB, o Options) *Gateway {
	tb.Helper()
	g := &Gateway{tb: tb, Dir: o.Dir, Logs: new(Buffer), client: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	if g.Dir == "" {
		g.Dir = tb.TempDir()
	}
	if o.Sim.ManualDelay == 0 {
		o.Sim.ManualDelay = qitechsim.Never
	}
	if o.Sim.RetryScale == 0 {
		o.Sim.RetryScale = 0.001
	}
	g.Sim = qitechsim.New(o.Sim)
	if o.Leap.StepDelay == 0 {
		o.Leap.StepEveryLook = true
	}
	g.Leap = leapsim.New(o.Leap)
	g.FinHub = finhubsim.New(o.FinHub)
	if o.Unico.Delay == 0 {
		o.Unico.Delay = unicosim.Never
	}
	if o.Unico.Rate == 0 {
		o.Unico.Rate = -1
	}
	if o.Unico.RetryScale == 0 {
		o.Unico.RetryScale = 0.001
	}
	g.Unico = unicosim.New(o.Unico)
	upstream := o.Upstream
	if upstream == nil {
		upstream = simulator.New(g.Sim, g.Unico, g.FinHub, g.Leap)
	}
	sims := httptest.NewServer(upstream)
	g.SimURL = sims.URL

	jwks, signing, err := auth.GenerateKey(g.Dir)
	must(tb, err)
	c := config.Default()
	c.Environment = config.Sandbox
	c.Listen, c.AdminListen = freeAddress(tb), "127.0.0.1:0"
	c.PublicURL = "http://" + c.Listen
	c.Database.URL = config.NewSecret("sqlite://" + filepath.Join(g.Dir, "kycgate.db"))
	c.Auth.Issuer, c.Auth.Audience, c.Auth.JWKSFile, c.Auth.SigningKeyFile = "https://issuer.test", "kycgate", jwks, signing
	q := config.DefaultQITech()
	q.BaseURL, q.APIKey, q.WebhookSecret = sims.URL+"/qitech", config.NewSecret(qitechsim.SandboxAPIKey), config.NewSecret(qitechsim.SandboxWebhookKey)
	q.FaceAPIKey = config.NewSecret(qitechsim.SandboxFaceAPIKey)
	// Patient callers of an impatient gateway: what is tested is what happens and not after how many seconds, and not how
	// busy the machine is. A test about answering PENDING sets its own.
	c.AnswerWithin = 30 * time.Second
	q.PollEvery, q.RetryAfter, q.Breaker.OpenFor, q.Timeout = 50*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond, time.Second
	q.HoldAmbiguous = 300 * time.Millisecond
	c.Providers.QITech = q
	l := config.DefaultLeap()
	l.BaseURL, l.APIKey = sims.URL+"/leap", config.NewSecret(leapsim.SandboxAPIKey)
	l.PollEvery, l.RetryAfter, l.Breaker.OpenFor, l.Timeout = 200*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond, time.Second
	c.Providers.Leap = l
	c.Providers.Unico = unicoConfig(tb, g.Dir, sims.URL)
	f := config.DefaultFinHub()
	f.BaseURL = sims.URL + "/finhub"
	f.Admin = &config.FinHubAdmin{
		OrganizationID: finhubsim.SandboxOrganization, UserID: finhubsim.SandboxUser, Username: finhubsim.SandboxUsername,
		Password:  config.NewSecret(finhubsim.SandboxPassword),
		TenantKey: config.NewSecret(finhubsim.SandboxTenantKey), TenantSecret: config.NewSecret(finhubsim.SandboxTenantSecret),
	}
	f.PollEvery, f.RetryAfter, f.Breaker.OpenFor, f.Timeout = q.PollEvery, q.RetryAfter, q.Breaker.OpenFor, q.Timeout
	c.Providers.FinHub = f
	c.Partners = []config.Partner{
		{ID: Acme, SourceKYC: config.SourceQITech, FinHubTenant: "fh_api_acme"}, {ID: Rival, SourceKYC: config.SourceQITech, FinHubTenant: "fh_api_rival"},
		{ID: Bazaar, SourceKYC: config.SourceOpenCo},
	}
	if o.Config != nil {
		o.Config(&c)
	}
	must(tb, c.Validate())
	g.Config = c
	g.signer, err = auth.NewSigner(c)
	must(tb, err)
	if o.Keyless {
		c.Auth.SigningKeyFile = ""
	}
	if !o.NoWebhooks {
		g.Sim.SetWebhookURL(app.CallbackURL(c, "qitech"))
		g.Unico.SetWebhookURL(app.CallbackURL(c, "unico"))
	}

	log := slog.New(slog.NewJSONHandler(g.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(tb.Context(), app.Options{Config: c, Logger: log, Clock: o.Clock, Version: app.ReadVersion()})
	must(tb, err)
	g.URL, g.AdminURL = "http://"+a.PublicAddr(), "http://"+a.AdminAddr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("the gateway ended with %v", err)
		}
		if err := a.Close(); err != nil {
			tb.Errorf("closing the gateway: %v", err)
		}
		g.client.CloseIdleConnections()
		_ = g.Sim.Close()
		_ = g.FinHub.Close()
		_ = g.Leap.Close()
		_ = g.Unico.Close()
		sims.CloseClientConnections()
		sims.Close()
	})
	tb.Cleanup(g.stop)
	return g
}

// unicoConfig has the keys of the contract's example, each with the sandbox's key for it.
func unicoConfig(tb testing.TB, dir, simulators string) *config.Unico {
	tb.Helper()
	u := config.DefaultUnico()
	u.BaseURL, u.TokenURL, u.Audience = simulators+"/unico", simulators+"/unico/oauth2/token", simulators
	u.ServiceAccount, u.TenantID, u.WebhookAuth = unicosim.SandboxServiceAccount, unicosim.SandboxTenantID, config.NewSecret(unicosim.SandboxWebhookAuth)
	u.PrivateKeyFile = filepath.Join(dir, "unico.pem")
	must(tb, os.WriteFile(u.PrivateKeyFile, unicosim.PrivateKeyPEM(), 0o600))
	u.PollEvery, u.RetryAfter, u.Breaker.OpenFor, u.Timeout, u.RatePerSecond = 60*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond, time.Second, 0
	for _, key := range []string{unicosim.KeyLiveness, unicosim.KeyAlertScore, unicosim.KeyOneToOne, unicosim.KeyDocumentsOnly} {
		u.APIKeys = append(u.APIKeys, config.UnicoAPIKey{Key: config.NewSecret(key), Capabilities: unicosim.SandboxKeys()[key]})
	}
	return u
}

// Stop ends the gateway before the test does; it waits for the drain.
func (g *Gateway) Stop() { g.stop() }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// freeAddress asks the kernel for a port. Someone else may take it before we do; then the test says so.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Token signs a token with the given scopes; none means all.
func (g *Gateway) Token(partner string, scopes ...kyc.Scope) string {
	return g.SubjectToken(partner, "", scopes...)
}

// SubjectToken signs a token that is about one person.
func (g *Gateway) SubjectToken(partner string, person kyc.PersonID, scopes ...kyc.Scope) string {
	g.tb.Helper()
	if len(scopes) == 0 {
		scopes = kyc.Scopes()
	}
	token, _, err := g.signer.Sign(auth.Claims{Partner: kyc.PartnerID(partner), Subject: "test", Scopes: kyc.NewScopeSet(scopes...), Person: person, TTL: time.Hour})
	must(g.tb, err)
	return token
}

// Answer is a GraphQL answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Data   map[string]any
	Errors []struct {
		Message    string
		Path       []any
		Extensions map[string]any
	}
}

// Get walks into the data: "registerPerson.person.kyc.status". A step that is not there gives nil.
func (a Answer) Get(path string) any {
	var v any = a.Data
	for step := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i := 0
			for _, c := range step {
				i = i*10 + int(c-'0')
			}
			if i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// Str is Get for strings; "" when it is not one.
func (a Answer) Str(path string) string {
	s, _ := a.Get(path).(string)
	return s
}

// Do asks; it fails the test only when there is no HTTP answer.
func (g *Gateway) Do(ctx context.Context, token, query string, variables map[string]any) (Answer, error) {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return Answer{}, err
	}
	return g.Raw(ctx, token, body)
}

// Raw posts a body as it is.
func (g *Gateway) Raw(ctx context.Context, token string, body []byte) (Answer, error) {
	return post(ctx, g.client, g.URL, token, body)
}

// Post asks any gateway, for one that runs in another process.
func Post(ctx context.Context, url, token string, body []byte) (Answer, error) {
	return post(ctx, http.DefaultClient, url, token, body)
}

func post(ctx context.Context, client *http.Client, url, token string, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/graphql", bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		return a, err
	}
	_ = json.Unmarshal(a.Body, &a) // a body that is not JSON leaves Data nil, and the test sees Body
	return a, nil
}

// Query asks and fails the test when there is no answer at all.
func (g *Gateway) Query(token, query string, variables map[string]any) Answer {
	g.tb.Helper()
	a, err := g.Do(g.tb.Context(), token, query, variables)
	if err != nil {
		g.tb.Fatal(err)
	}
	return a
}

// Eventually asks until the answer satisfies, at most 20 seconds.
func (g *Gateway) Eventually(token, query string, variables map[string]any, satisfied func(Answer) bool) Answer {
	g.tb.Helper()
	var a Answer
	Until(g.tb, func() bool {
		a = g.Query(token, query, variables)
		return satisfied(a)
	}, func() string { return string(a.Body) })
	return a
}

// patience is when a test gives up. It tells nothing of how fast anything is: a loaded machine with the race detector is slow.
const patience = 90 * time.Second

// Until repeats a look until it satisfies. It is for what has no event to wait on: the outside of a process.
func Until(tb testing.TB, satisfied func() bool, describe func() string) {
	tb.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !satisfied() {
		select {
		case <-ticker.C:
		case <-deadline:
			tb.Fatalf("did not come within %v; last seen: %s", patience, describe())
		}
	}
}

// Metrics gives the exposition of the admin listener.
func (g *Gateway) Metrics() string {
	g.tb.Helper()
	resp, err := g.client.Get(g.AdminURL + "/metrics")
	must(g.tb, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(g.tb, err)
	return string(b)
}

// Buffer collects logs.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String gives all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Register is a registerPerson with everything a test asks about.
const Register = `mutation R($input: RegisterPersonInput!) { registerPerson(input: $input) {
  outcome
  person { id name documentNumber version sourceKyc externalIds { value } kyc { status providerStatus reason decidedBy decidedAt analyses } }
  userErrors { code message path provider providerCode retryable } } }`

// Input is a good registerPerson input for a CPF; the overrides replace or, with nil, remove fields.
func Input(cpf, externalID string, overrides map[string]any) map[string]any {
	input := map[string]any{
		"name": "Maria da Silva", "documentNumber": cpf, "birthdate": "1990-02-28",
		"emails":  []any{map[string]any{"address": "maria@example.com"}},
		"phones":  []any{map[string]any{"number": "+5511987654321", "type": "MOBILE"}},
		"address": map[string]any{"street": "Avenida Paulista", "number": "1000", "city": "São Paulo", "state": "SP", "postalCode": "01310-100", "country": "BRA"},
	}
	if externalID != "" {
		input["externalId"] = externalID
	}
	for k, v := range overrides {
		if v == nil {
			delete(input, k)
		} else {
			input[k] = v
		}
	}
	return map[string]any{"input": input}
}

// CPF makes a valid CPF from its first digit, which is QI Tech's magic, and a serial number.
func CPF(first, serial int) string {
	d := make([]int, 0, 11)
	d = append(d, first)
	for div := 10_000_000; div > 0; div /= 10 {
		d = append(d, serial/div%10)
	}
	for range 2 {
		sum := 0
		for i, v := range d {
			sum += v * (len(d) + 1 - i)
		}
		d = append(d, sum*10%11%10)
	}
	var b strings.Builder
	for _, v := range d {
		b.WriteByte(byte('0' + v))
	}
	return b.String()
}
