package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

type sandboxCmd struct {
	Listen      string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the gateway listens, by default ${default}."`
	AdminListen string `default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Where metrics and health are served, by default ${default}."`
	Data        string `placeholder:"DIR" help:"Keep database and keys here between runs; by default in a fresh temporary folder, removed at exit."`
}

func (sandboxCmd) Help() string {
	return `It needs no credentials and no network. It prints the URLs, one token per role and a curl that works when pasted, and runs
until Ctrl-C. The tokens are valid for 24 hours, and with --data also for the next run.

Examples:

    kycgate sandbox
    kycgate sandbox --listen 127.0.0.1:18080 --admin-listen 127.0.0.1:19090 --data ./sandbox`
}

const (
	sandboxTokenTTL = 24 * time.Hour
	readyWithin     = 30 * time.Second
	readyEvery      = 20 * time.Millisecond
)

// Run runs the sandbox until the process is told to stop.
func (c sandboxCmd) Run(p *process) (err error) {
	if err := keepCrashesQuiet(p.log); err != nil {
		return err
	}
	data, remove, err := dataFolder(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	if err := c.checkListen(); err != nil {
		return err
	}
	// The simulators must know where to send webhooks before the gateway listens.
	if c.Listen, err = fixPort(p.ctx, c.Listen); err != nil {
		return addressTaken(err, c.Listen, "--listen", "--listen")
	}
	public := "http://" + reachable(c.Listen)
	sims := newSimulators(public)
	defer func() { err = errors.Join(err, sims.close()) }()
	simulated, err := sims.listen(p.ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg, err := c.configuration(data, public, simulated)
	if err != nil {
		return err
	}
	signer, err := auth.NewSigner(cfg)
	if err != nil {
		return err
	}
	a, err := app.New(p.ctx, app.Options{Config: cfg, Logger: p.log, Version: app.ReadVersion()})
	if err != nil {
		return addressTaken(err, c.Listen, "--listen", "--admin-listen")
	}
	defer func() { err = errors.Join(err, a.Close()) }()

	// Whatever ends first ends the others, and the gateway drains before the simulators go away.
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- a.Run(ctx)
	}()
	w := welcome{
		public: public, admin: "http://" + reachable(a.AdminAddr()),
		simulators: sims.urls(simulated), scenarios: simulated + "/scenarios", data: c.where(data),
	}
	if err = waitReady(ctx, w.admin); err == nil {
		err = w.print(p.stdout, signer)
	}
	if err == nil {
		select {
		case err = <-ended:
			return err
		case err = <-sims.failed:
		}
	}
	stop()
	return errors.Join(err, <-ended)
}

// checkListen keeps the sandbox on this machine. Listening on every address is allowed, because that is how
// a port is published from a container.
func (c sandboxCmd) checkListen() error {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return config.Wrong("--listen", "must be host:port, such as 127.0.0.1:8080")
	case host == "" || host == "localhost" || (ip != nil && (ip.IsLoopback() || ip.IsUnspecified())):
		return nil
	}
	return config.Wrong("--listen", "must be a loopback address such as 127.0.0.1:8080, or 0.0.0.0 inside a container: a sandbox is not for a network")
}

// dataFolder gives the folder of database and keys, and what to do with it in the end.
func dataFolder(wanted string) (dir string, remove func() error, err error) {
	if wanted == "" {
		dir, err = os.MkdirTemp("", "kycgate-sandbox-")
		if err != nil {
			return "", nil, fmt.Errorf("make a temporary folder: %w", err)
		}
		return dir, func() error { return os.RemoveAll(dir) }, nil
	}
	if dir, err = filepath.Abs(wanted); err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", nil, fmt.Errorf("--data: %w", err)
	}
	return dir, func() error { return nil }, nil
}

// where tells the user about the data folder.
func (c sandboxCmd) where(dir string) string {
	if c.Data == "" {
		return dir + " (removed at exit; --data DIR keeps it)"
	}
	return dir
}

// The partners of the sandbox: one whose persons QI Tech decides on, one whose persons Open Co has decided on.
const (
	qitechPartner = "acme"
	opencoPartner = "bazaar"
)

// configuration is what a user of serve writes by hand.
func (c sandboxCmd) configuration(data, public, simulated string) (config.Config, error) {
	jwksFile, signingFile, err := auth.GenerateKey(data)
	if err != nil {
		return config.Config{}, err
	}
	cfg := config.Default()
	cfg.Environment = config.Sandbox
	cfg.Listen, cfg.AdminListen, cfg.PublicURL = c.Listen, c.AdminListen, public
	cfg.Database.URL = config.NewSecret("sqlite://" + filepath.Join(data, "kycgate.db"))
	cfg.Auth.Issuer, cfg.Auth.Audience = "https://sandbox.kycgate.invalid", "kycgate"
	cfg.Auth.JWKSFile, cfg.Auth.SigningKeyFile = jwksFile, signingFile
	cfg.Providers.QITech = config.DefaultQITech()
	cfg.Providers.QITech.BaseURL = simulated + "/qitech"
	cfg.Providers.QITech.APIKey = config.NewSecret(qitechsim.SandboxAPIKey)
	cfg.Providers.QITech.FaceAPIKey = config.NewSecret(qitechsim.SandboxFaceAPIKey)
	cfg.Providers.QITech.WebhookSecret = config.NewSecret(qitechsim.SandboxWebhookKey)
	cfg.Providers.Leap = config.DefaultLeap()
	cfg.Providers.Leap.BaseURL = simulated + "/leap"
	cfg.Providers.Leap.APIKey = config.NewSecret(leapsim.SandboxAPIKey)
	cfg.Providers.Leap.PollEvery = 2 * time.Second // the simulator takes as long for a step
	cfg.Providers.FinHub = config.DefaultFinHub()
	cfg.Providers.FinHub.BaseURL = simulated + "/finhub"
	cfg.Providers.FinHub.PollEvery = 2 * time.Second // the simulator decides in seconds, and nobody pays for a look
	cfg.Providers.FinHub.Admin = &config.FinHubAdmin{
		OrganizationID: finhubsim.SandboxOrganization, UserID: finhubsim.SandboxUser, Username: finhubsim.SandboxUsername,
		Password:  config.NewSecret(finhubsim.SandboxPassword),
		TenantKey: config.NewSecret(finhubsim.SandboxTenantKey), TenantSecret: config.NewSecret(finhubsim.SandboxTenantSecret),
	}
	if cfg.Providers.Unico, err = unicoConfig(data, simulated); err != nil {
		return config.Config{}, err
	}
	cfg.Partners = []config.Partner{
		{ID: qitechPartner, SourceKYC: config.SourceQITech, FinHubTenant: "fh_api_acme_1"},
		{ID: opencoPartner, SourceKYC: config.SourceOpenCo, FinHubTenant: "fh_api_bazaar_1"},
	}
	return cfg, cfg.Validate()
}

// unicoConfig is a Unico with one key for each product. The private key is this run's: the simulator knows no other.
func unicoConfig(data, simulated string) (*config.Unico, error) {
	u := config.DefaultUnico()
	u.BaseURL, u.TokenURL, u.Audience = simulated+"/unico", simulated+"/unico/oauth2/token", simulated
	u.ServiceAccount, u.TenantID = unicosim.SandboxServiceAccount, unicosim.SandboxTenantID
	u.WebhookAuth = config.NewSecret(unicosim.SandboxWebhookAuth)
	for _, key := range []string{unicosim.KeyLiveness, unicosim.KeyAlertScore, unicosim.KeyGovernment, unicosim.KeyOneToOne, unicosim.KeyDocumentsOnly} {
		u.APIKeys = append(u.APIKeys, config.UnicoAPIKey{Key: config.NewSecret(key), Capabilities: unicosim.SandboxKeys()[key]})
	}
	u.PrivateKeyFile = filepath.Join(data, "unico.pem")
	// Removed first: one of an earlier run may be there, and WriteFile would keep its permissions.
	if err := os.Remove(u.PrivateKeyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace the sandbox's key: %w", err)
	}
	if err := os.WriteFile(u.PrivateKeyFile, unicosim.PrivateKeyPEM(), 0o600); err != nil {
		return nil, fmt.Errorf("write the sandbox's key: %w", err)
	}
	return u, nil
}

// waitReady waits until the gateway says it is ready.
func waitReady(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	client := http.Client{Timeout: readyWithin}
	defer client.CloseIdleConnections()
	again := time.NewTicker(readyEvery)
	defer again.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the gateway did not become ready: %w", ctx.Err())
		}
	}
}

// role is a token the sandbox hands out.
type role struct {
	name    string
	partner kyc.PartnerID
	scopes  []kyc.Scope
}

func roles() []role {
	dashboard := []kyc.Scope{
		kyc.PersonsRead, kyc.PersonsWrite, kyc.PIIRead, kyc.ProcessesRead, kyc.ProcessesWrite, kyc.CustomersRead, kyc.CustomersWrite,
	}
	return []role{
		{"dashboard", qitechPartner, dashboard},
		{"read-only", qitechPartner, []kyc.Scope{kyc.PersonsRead, kyc.ProcessesRead, kyc.CustomersRead}},
		{"sre", qitechPartner, []kyc.Scope{kyc.ProvidersRead}},
		{"admin", qitechPartner, kyc.Scopes()},
		{"dashboard of " + opencoPartner, opencoPartner, dashboard},
	}
}

// welcome is what the sandbox prints once it is ready.
type welcome struct {
	public, admin, simulators, scenarios, data string
}

func (w welcome) print(out io.Writer, signer *auth.Signer) error {
	var text strings.Builder
	fmt.Fprintf(&text, `kycgate sandbox

GraphQL     %[1]s/graphql
Metrics     %[2]s/metrics
Health      %[2]s/readyz
Simulators  %[3]s
Scenarios   %[4]s
Data        %[5]s
`, w.public, w.admin, w.simulators, w.scenarios, w.data)

	var dashboard string
	for i, r := range roles() {
		token, expiry, err := signer.Sign(auth.Claims{
			Partner: r.partner, Subject: "sandbox " + r.name, Scopes: kyc.NewScopeSet(r.scopes...), TTL: sandboxTokenTTL,
		})
		if err != nil {
			return err
		}
		if i == 0 {
			dashboard = token
			fmt.Fprintf(&text, "\nTokens, valid until %s:\n", expiry.UTC().Format(time.RFC3339))
		}
		words := make([]string, len(r.scopes))
		for j, s := range r.scopes {
			words[j] = string(s)
		}
		fmt.Fprintf(&text, "\npartner %s: %s\ntoken (%s): %s\n", r.partner, strings.Join(words, " "), r.name, token)
	}

	fmt.Fprintf(&text, "\nRegister a person (a CPF that begins with 9 is approved at once):\n\n%s\n", curl(w.public, dashboard, registerPerson))
	fmt.Fprintf(&text, "\nRead it back:\n\n%s\n", curl(w.public, dashboard, readPerson))
	// The last line, so that a script that waits for it finds everything else above.
	text.WriteString("\nready; Ctrl-C ends it\n")
	_, err := io.WriteString(out, text.String())
	return err
}

// The examples hold no single quote, which is what makes them safe to paste between two.
const (
	registerPerson = `{"query":"mutation Register($input: RegisterPersonInput!) { registerPerson(input: $input) { outcome person { id name kyc { status } externalIds { value } } userErrors { code message path } } }",
    "variables":{"input":{"externalId":"session-1","name":"Maria da Silva","documentNumber":"935.411.347-80","birthdate":"1990-02-28",
      "emails":[{"address":"maria@example.com"}],"phones":[{"number":"+5511987654321","type":"MOBILE"}],
      "address":{"street":"Avenida Paulista","number":"1000","city":"São Paulo","state":"SP","postalCode":"01310-100","country":"BRA"}}}}`
	readPerson = `{"query":"query Read($cpf: String!) { personByDocument(documentNumber: $cpf) { id name documentNumber kyc { status providerStatus decidedBy } externalIds { value mappedAt } } }",
    "variables":{"cpf":"935.411.347-80"}}`
)

// curl is a command that works in every POSIX shell.
func curl(public, token, body string) string {
	return fmt.Sprintf(`curl -sS %s/graphql \
  -H 'Authorization: Bearer %s' \
  -H 'Content-Type: application/json' \
  --data '%s'`, public, token, body)
}
