package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/vault"
)

// signingKey and rsaKey are made once: RSA keys are slow to make.
var (
	signingKey = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
)

// environment are the variables that the contract's example and base refer to.
var environment = map[string]string{
	"QITECH_KEY": "qitech-live-key-1", "QITECH_FACE_KEY": "qitech-live-key-2", "QITECH_HOOK": "a-long-enough-webhook-key\n",
	"UNICO_HOOK": "X-Hook: hook-value", "UNICO_KEY_LIVENESS": "unico-live-1", "UNICO_KEY_IDENTITY": "unico-live-2",
	"UNICO_KEY_ONE_TO_ONE": "unico-live-3", "UNICO_KEY_DOCUMENT": "unico-live-4",
	"FINHUB_TOKEN": "finhub-live-1", "LEAP_KEY": "leap-live-1", "KYCGATE_PASSPHRASE": "correct horse battery",
	"EMPTY": "\n",
}

func lookup(name string) (string, bool) {
	v, ok := environment[name]
	return v, ok
}

// base is a production configuration without a fault.
const base = `listen: 127.0.0.1:8080
admin_listen: 127.0.0.1:9090
public_url: https://kyc.example.com
environment: production
answer_within: 4s
database:
  url: sqlite://data/kycgate.db
keys:
  file: keyset.json
  passphrase: file:passphrase.txt
auth:
  issuer: https://issuer.example.com
  audience: kycgate
  jwks_file: jwks.json
  signing_key_file: signing.pem
  token_types: [at+jwt]
validation:
  cpf_check_digits: true
providers:
  qitech:
    base_url: https://api.caas.qitech.app
    api_key: env:QITECH_KEY
    face_api_key: env:QITECH_FACE_KEY
    webhook_secret: env:QITECH_HOOK
    gender_other: undefined
    timeout: 3s
    max_concurrent: 7
    rate_per_second: 2.5
    breaker: {failures: 4, open_for: 9s}
    poll_every: 11s
    retry_after: 1s
    hold_ambiguous: 25s
  unico:
    base_url: https://api.id.unico.app
    token_url: https://identity.acesso.io/oauth2/token
    service_account: acme
    tenant_id: 00000000-0000-0000-0000-000000000000
    private_key_file: unico.pem
    webhook_auth: env:UNICO_HOOK
    hold_ambiguous: 20s
    api_keys:
      - {key: env:UNICO_KEY_LIVENESS, capabilities: [LIVENESS]}
  finhub:
    base_url: https://api.finhub.cloud
    registration: registration
    admin: {organization_id: o, user_id: u, username: n, password: env:FINHUB_TOKEN, tenant_key: tk-1, tenant_secret: ts-1}
    search_path: /customer/find
    activation_user: email
    forwarded_for: '2001:db8::1'
  leap: {base_url: https://raas.nomas.cash, api_key: env:LEAP_KEY, update_path: /user/update, stuck_after: 24h}
partners:
  - {id: acme, source_kyc: qitech, finhub_tenant: fh_api_acme_1, require: [PERSON, FACE]}
  - id: bazaar
limits:
  document_guesses_per_minute: 90
`

// folder holds the files that base refers to.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "jwks.json", jwks(t, "2026-01", signingKey().Public()))
	write(t, dir, "signing.pem", private(t, signingKey()))
	write(t, dir, "unico.pem", private(t, rsaKey()))
	write(t, dir, "passphrase.txt", []byte("correct horse battery\n"))
	write(t, dir, "keyset.json", nil) // the start opens it, the configuration does not
	return dir
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func jwks(t *testing.T, kid string, public any) []byte {
	t.Helper()
	data, err := keys.MarshalSet(kid, public)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func private(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func load(t *testing.T, dir, text string) (Config, error) {
	t.Helper()
	return Loader{LookupEnv: lookup}.Load(write(t, dir, "kycgate.yaml", []byte(text)))
}

// problemsOf gives the error's problems by setting, and checks that it is an *Error.
func problemsOf(t *testing.T, err error) map[string]Problem {
	t.Helper()
	out := make(map[string]Problem)
	if err == nil {
		return out
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is a %T, want *Error: %v", err, err)
	}
	for _, p := range e.Problems {
		if p.Setting == "" || p.Problem == "" || strings.Contains(p.Problem, "%!") {
			t.Errorf("a problem without setting or text: %+v", p)
		}
		out[p.Setting] = p
	}
	return out
}

func TestLoadReadsEverySetting(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	got, err := load(t, dir, base)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	common := DefaultLeap().Upstream
	unicoCommon := common
	unicoCommon.RatePerSecond = 10
	want := Config{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:9090", PublicURL: "https://kyc.example.com",
		Environment: Production, AnswerWithin: 4 * time.Second,
		Database: Database{URL: NewSecret("sqlite://" + file("data/kycgate.db"))},
		Keys:     &Keys{File: file("keyset.json"), Passphrase: NewSecret("correct horse battery")},
		Auth: Auth{
			Issuer: "https://issuer.example.com", Audience: "kycgate",
			JWKSFile: file("jwks.json"), SigningKeyFile: file("signing.pem"), TokenTypes: []string{"at+jwt"},
		},
		Validation: Validation{CPFCheckDigits: true}, Limits: Limits{DocumentGuesses: 90},
		Providers: Providers{
			QITech: &QITech{
				Upstream: Upstream{
					Timeout: 3 * time.Second, MaxConcurrent: 7, RatePerSecond: 2.5,
					Breaker: Breaker{Failures: 4, OpenFor: 9 * time.Second}, PollEvery: 11 * time.Second, RetryAfter: time.Second,
				},
				BaseURL: "https://api.caas.qitech.app", APIKey: NewSecret("qitech-live-key-1"), FaceAPIKey: NewSecret("qitech-live-key-2"),
				WebhookSecret: NewSecret("a-long-enough-webhook-key"), GenderOther: GenderUndefined, FaceDocument: DocumentMasked,
				HoldAmbiguous: 25 * time.Second,
			},
			Unico: &Unico{
				Upstream: unicoCommon,
				BaseURL:  "https://api.id.unico.app", TokenURL: "https://identity.acesso.io/oauth2/token",
				ServiceAccount: "acme", TenantID: "00000000-0000-0000-0000-000000000000", PrivateKeyFile: file("unico.pem"),
				Audience: "https://identity.acesso.io", WebhookAuth: NewSecret("X-Hook: hook-value"),
				HoldAmbiguous: 20 * time.Second,
				APIKeys:       []UnicoAPIKey{{Key: NewSecret("unico-live-1"), Capabilities: []string{"LIVENESS"}}},
			},
			FinHub: &FinHub{
				Upstream: common, BaseURL: "https://api.finhub.cloud", Registration: FinHubSingular,
				SearchPath: "/customer/find", ActivationUser: FinHubActivationEmail, ForwardedFor: "2001:db8::1",
				Admin: &FinHubAdmin{
					OrganizationID: "o", UserID: "u", Username: "n",
					Password: NewSecret("finhub-live-1"), TenantKey: NewSecret("tk-1"), TenantSecret: NewSecret("ts-1"),
				},
			},
			Leap: &Leap{
				Upstream: common, BaseURL: "https://raas.nomas.cash", APIKey: NewSecret("leap-live-1"), UpdatePath: "/user/update", StuckAfter: 24 * time.Hour,
			},
		},
		Partners: []Partner{
			{ID: "acme", SourceKYC: SourceQITech, FinHubTenant: "fh_api_acme_1", Require: []string{"PERSON", "FACE"}},
			{ID: "bazaar", SourceKYC: SourceOpenCo},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Load gave\n%+v\nwant\n%+v", got, want)
	}
	if path := got.Database.SQLitePath(); path != file("data/kycgate.db") {
		t.Errorf("SQLitePath() = %q", path)
	}
	if p, ok := got.Partner("bazaar"); !ok || p.SourceKYC != SourceOpenCo {
		t.Errorf("Partner(bazaar) = %+v, %v", p, ok)
	}
	if _, ok := got.Partner("nobody"); ok {
		t.Error("Partner(nobody) was found")
	}
}

// TestContractExample reads the example of the public contract as it is printed there: first as it stands,
// then with its paths moved to where this test may write.
func TestContractExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, d := Loader{LookupEnv: lookup}.parse(example, "/nowhere")
	if len(d.list) != 0 {
		t.Fatalf("the contract's example has problems: %v", d.list)
	}
	if cfg.Database.SQLitePath() != "/var/lib/kycgate/kycgate.db" || cfg.Auth.JWKSFile != "/etc/kycgate/jwks.json" {
		t.Errorf("the paths were read as %q and %q", cfg.Database.SQLitePath(), cfg.Auth.JWKSFile)
	}
	if n := len(cfg.Providers.Unico.APIKeys); n != 4 {
		t.Errorf("%d keys of Unico's, want 4", n)
	}
	if cfg.Partners[0].SourceKYC != SourceQITech || len(cfg.Partners[0].Require) != 4 {
		t.Errorf("the partner was read as %+v", cfg.Partners[0])
	}
	if got, want := cfg.Providers.Leap.Upstream, defaultUpstream(); got != want {
		t.Errorf("Leap's defaults are %+v, want %+v", got, want)
	}

	dir := folder(t)
	if _, err := load(t, dir, strings.ReplaceAll(string(example), "/etc/kycgate/", dir+"/")); err != nil {
		t.Errorf("the contract's example is refused: %v", err)
	}
}

// TestRules takes base, changes one thing, and expects to be told which setting is wrong.
func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, old, new string
		setting        string
		says           string // part of the problem's text
	}{
		{"no environment", "environment: production\n", "", "environment", "production or sandbox"},
		{"unknown environment", "environment: production", "environment: prod", "environment", "production or sandbox"},
		{"no public_url", "public_url: https://kyc.example.com\n", "", "public_url", "required in production"},
		{"public_url plain", "public_url: https:", "public_url: http:", "public_url", "https"},
		{"public_url relative", "public_url: https://kyc.example.com", "public_url: kyc.example.com", "public_url", "absolute"},
		{"public_url with password", "https://kyc.example.com", "https://u:hunter2@kyc.example.com", "public_url", "password"},
		{"listen without port", "listen: 127.0.0.1:8080\n", "listen: 127.0.0.1\n", "listen", "host:port"},
		{"listen with a name as port", "listen: 127.0.0.1:8080\n", "listen: 127.0.0.1:http\n", "listen", "port number"},
		{"admin on the public port", "127.0.0.1:9090", "127.0.0.1:8080", "admin_listen", "listen"},
		{"admin on every host of the public port", "127.0.0.1:9090", "':8080'", "admin_listen", "listen"},
		{"admin on the same port, other name", "127.0.0.1:9090", "localhost:8080", "admin_listen", "listen"},
		{"answer_within zero", "answer_within: 4s", "answer_within: 0s", "answer_within", "longer than zero"},
		{"answer_within negative", "answer_within: 4s", "answer_within: -1s", "answer_within", "longer than zero"},

		{"no guesses", "document_guesses_per_minute: 90", "document_guesses_per_minute: 0", "limits.document_guesses_per_minute", "at least 1"},

		{"no database", "  url: sqlite://data/kycgate.db", "  {}", "database.url", "required"},
		{"postgres", "sqlite://data/kycgate.db", "postgres://u:hunter2@h/db", "database.url", "this version serves SQLite"},
		{"other database", "sqlite://data/kycgate.db", "mysql://u:hunter2@h/db", "database.url", "sqlite://"},
		{"no database file", "sqlite://data/kycgate.db", "sqlite://", "database.url", "file"},
		{"database options", "sqlite://data/kycgate.db", "sqlite://a.db?_synchronous=OFF", "database.url", "plain path"},
		{"database in memory", "sqlite://data/kycgate.db", "'sqlite://:memory:'", "database.url", "plain path"},

		{"no keyset file", "  file: keyset.json\n", "", "keys.file", "required"},
		{"no passphrase", "  passphrase: file:passphrase.txt\n", "", "keys.passphrase", "required"},
		{"short passphrase", "file:passphrase.txt", "hunter2hunter2h", "keys.passphrase", "shorter than 16"},
		{"weak passphrase", "file:passphrase.txt", "Changeme-Changeme-1", "keys.passphrase", "placeholder"},
		{"example passphrase", "file:passphrase.txt", "your-passphrase-here!", "keys.passphrase", "placeholder"},
		{"sandbox passphrase", "file:passphrase.txt", "kycgate-sandbox-passphrase", "keys.passphrase", "placeholder"},
		{"monotonous passphrase", "file:passphrase.txt", "hunthunthunthunthunt", "keys.passphrase", "few"},
		{"no keyset", "keys:\n  file: keyset.json\n  passphrase: file:passphrase.txt\n", "", "keys", "kycgate keys init"},
		{"missing keyset", "keyset.json", "none.json", "keys.file", "no such file"},
		{"passphrase and KMS", "  passphrase: file:passphrase.txt\n", "  passphrase: file:passphrase.txt\n  kms_uri: hcvault://v/transit/keys/k\n", "keys.kms_uri", "remove one"},
		{"another KMS", "  passphrase: file:passphrase.txt\n", "  kms_uri: kms://hunter2\n", "keys.kms_uri", "hcvault://"},
		{"KMS with a password", "  passphrase: file:passphrase.txt\n", "  kms_uri: hcvault://u:hunter2@v/transit/keys/k\n", "keys.kms_uri", "password"},

		{"no issuer", "  issuer: https://issuer.example.com\n", "", "auth.issuer", "required"},
		{"blank audience", "audience: kycgate", "audience: ' '", "auth.audience", "required"},
		{"no keys", "  jwks_file: jwks.json\n", "", "auth.jwks_file", "required"},
		{"two sources of keys", "  jwks_file: jwks.json\n", "  jwks_file: jwks.json\n  jwks_url: https://a/b\n", "auth.jwks_url", "remove one"},
		{"plain jwks_url", "  jwks_file: jwks.json\n", "  jwks_url: http://issuer.example.com/jwks\n", "auth.jwks_url", "https"},
		{"missing jwks_file", "jwks_file: jwks.json", "jwks_file: none.json", "auth.jwks_file", "no such file"},
		{"missing signing key", "signing.pem", "none.pem", "auth.signing_key_file", "no such file"},
		{"signing key is no key", "signing_key_file: signing.pem", "signing_key_file: jwks.json", "auth.signing_key_file", "not a PEM file"},
		{"signing key not in the jwks", "signing_key_file: signing.pem", "signing_key_file: unico.pem", "auth.signing_key_file", "not in auth.jwks_file"},
		{"no token types", "token_types: [at+jwt]", "token_types: []", "auth.token_types", "at least one"},
		{"odd token type", "token_types: [at+jwt]", "token_types: ['a b']", "auth.token_types[0]", "typ"},

		{"qitech without address", "    base_url: https://api.caas.qitech.app\n", "", "providers.qitech.base_url", "required"},
		{"qitech plain", "https://api.caas.qitech.app", "http://api.caas.qitech.app", "providers.qitech.base_url", "https"},
		{"qitech with query", "https://api.caas.qitech.app", "https://api.caas.qitech.app?key=hunter2", "providers.qitech.base_url", "query"},
		{"qitech with fragment", "https://api.caas.qitech.app", "'https://api.caas.qitech.app/#'", "providers.qitech.base_url", "fragment"},
		{"qitech with user", "https://api.caas.qitech.app", "https://hunter2@api.caas.qitech.app", "providers.qitech.base_url", "user"},
		{"qitech other scheme", "https://api.caas.qitech.app", "ftp://api.caas.qitech.app", "providers.qitech.base_url", "absolute"},
		{"qitech without key", "    api_key: env:QITECH_KEY\n", "", "providers.qitech.api_key", "required"},
		{"qitech sandbox key", "env:QITECH_KEY", sandboxCredential + "onboarding-key", "providers.qitech.api_key", "sandbox"},
		{"qitech placeholder face key", "env:QITECH_FACE_KEY", "SECRET", "providers.qitech.face_api_key", "placeholder"},
		{"qitech without webhook secret", "    webhook_secret: env:QITECH_HOOK\n", "", "providers.qitech.webhook_secret", "required in production"},
		{"qitech short webhook secret", "env:QITECH_HOOK", "fifteen-bytes-x", "providers.qitech.webhook_secret", "16"},
		{"qitech sandbox webhook secret", "env:QITECH_HOOK", sandboxCredential + "signature-key", "providers.qitech.webhook_secret", "sandbox"},
		{"qitech face document", "gender_other: undefined", "gender_other: undefined\n    face_document: both", "providers.qitech.face_document", "masked"},
		{"qitech gender", "gender_other: undefined", "gender_other: both", "providers.qitech.gender_other", "omit"},
		{"qitech timeout", "timeout: 3s", "timeout: 0s", "providers.qitech.timeout", "longer than zero"},
		{"qitech concurrency", "max_concurrent: 7", "max_concurrent: 0", "providers.qitech.max_concurrent", "at least 1"},
		{"qitech rate", "rate_per_second: 2.5", "rate_per_second: -1", "providers.qitech.rate_per_second", "0 for no limit"},
		{"qitech rate not a number", "rate_per_second: 2.5", "rate_per_second: .nan", "providers.qitech.rate_per_second", "0 for no limit"},
		{"qitech rate infinite", "rate_per_second: 2.5", "rate_per_second: .inf", "providers.qitech.rate_per_second", "0 for no limit"},
		{"qitech breaker failures", "failures: 4", "failures: 0", "providers.qitech.breaker.failures", "at least 1"},
		{"qitech breaker open_for", "open_for: 9s", "open_for: 0s", "providers.qitech.breaker.open_for", "longer than zero"},
		{"qitech poll", "poll_every: 11s", "poll_every: 0s", "providers.qitech.poll_every", "longer than zero"},
		{"qitech holding for ever", "hold_ambiguous: 25s", "hold_ambiguous: 61s", "providers.qitech.hold_ambiguous", "at most"},
		{"qitech not holding", "hold_ambiguous: 25s", "hold_ambiguous: 0s", "providers.qitech.hold_ambiguous", "at most"},
		{"qitech retry", "retry_after: 1s", "retry_after: -1s", "providers.qitech.retry_after", "longer than zero"},

		{"unico without address", "    base_url: https://api.id.unico.app\n", "", "providers.unico.base_url", "required"},
		{"unico without token_url", "    token_url: https://identity.acesso.io/oauth2/token\n", "", "providers.unico.token_url", "required"},
		{"unico plain token_url", "https://identity.acesso.io", "http://identity.acesso.io", "providers.unico.token_url", "https"},
		{"unico without account", "    service_account: acme\n", "", "providers.unico.service_account", "required"},
		{"unico without tenant", "    tenant_id: 00000000-0000-0000-0000-000000000000\n", "", "providers.unico.tenant_id", "required"},
		{"unico without key", "    private_key_file: unico.pem\n", "", "providers.unico.private_key_file", "required"},
		{"unico with another key", "private_key_file: unico.pem", "private_key_file: signing.pem", "providers.unico.private_key_file", "RSA"},
		{"unico with broken key", "private_key_file: unico.pem", "private_key_file: jwks.json", "providers.unico.private_key_file", "PEM"},
		{"unico holding for ever", "hold_ambiguous: 20s", "hold_ambiguous: 2m", "providers.unico.hold_ambiguous", "at most"},
		{"unico without api keys", "      - {key: env:UNICO_KEY_LIVENESS, capabilities: [LIVENESS]}\n", "      []\n", "providers.unico.api_keys", "at least one"},
		{"unico api key without key", "key: env:UNICO_KEY_LIVENESS, ", "", "providers.unico.api_keys[0].key", "required"},
		{"unico api key without capabilities", ", capabilities: [LIVENESS]", "", "providers.unico.api_keys[0].capabilities", "required"},
		{"unico unknown capability", "capabilities: [LIVENESS]", "capabilities: [LIVENESS, FLYING]", "providers.unico.api_keys[0].capabilities[1]", "one of"},
		{"unico capability twice", "capabilities: [LIVENESS]", "capabilities: [LIVENESS, LIVENESS]", "providers.unico.api_keys[0].capabilities[1]", "twice"},

		{"finhub without credentials", "    admin: {organization_id: o, user_id: u, username: n, password: env:FINHUB_TOKEN, tenant_key: tk-1, tenant_secret: ts-1}\n", "", "providers.finhub.token", "required"},
		{"finhub with both", "    registration: registration", "    token: t-1", "providers.finhub.admin", "remove one"},
		{"finhub registration", "registration: registration", "registration: enrol", "providers.finhub.registration", "plural"},
		{"finhub search path", "search_path: /customer/find", "search_path: customer/find?x", "providers.finhub.search_path", "path"},
		{"finhub activation user", "activation_user: email", "activation_user: phone", "providers.finhub.activation_user", "id or email"},
		{"finhub forwarded for", "forwarded_for: '2001:db8::1'", "forwarded_for: here", "providers.finhub.forwarded_for", "address"},
		{"finhub sandbox secret", "tenant_key: tk-1", "tenant_key: finhub-sandbox-tenant-key", "providers.finhub.admin.tenant_key", "sandbox"},
		{"finhub without organization", "organization_id: o, ", "", "providers.finhub.admin.organization_id", "required"},
		{"finhub without user", "user_id: u, ", "", "providers.finhub.admin.user_id", "required"},
		{"finhub without username", "username: n, ", "", "providers.finhub.admin.username", "required"},
		{"finhub without password", "password: env:FINHUB_TOKEN, ", "", "providers.finhub.admin.password", "required"},
		{"finhub without tenant_key", "tenant_key: tk-1, ", "", "providers.finhub.admin.tenant_key", "required"},
		{"finhub without tenant_secret", ", tenant_secret: ts-1", "", "providers.finhub.admin.tenant_secret", "required"},

		{"leap without key", ", api_key: env:LEAP_KEY", "", "providers.leap.api_key", "required"},
		{"leap sandbox key", "env:LEAP_KEY", leapSandboxCredential + "partner-key", "providers.leap.api_key", "sandbox"},
		{"leap update path", "/user/update", "user/update", "providers.leap.update_path", "slash"},
		{"leap stuck never", "stuck_after: 24h", "stuck_after: 0s", "providers.leap.stuck_after", "longer than zero"},
		{"leap example key", "env:LEAP_KEY", "example", "providers.leap.api_key", "placeholder"},

		{"no partners", base[strings.Index(base, "partners:"):], "", "partners", "required"},
		{"partner without id", "id: acme, ", "", "partners[0].id", "required"},
		{"partner with a bad id", "id: acme,", "id: Acme,", "partners[0].id", "a-z"},
		{"partner twice", "id: bazaar", "id: acme", "partners[1].id", "earlier"},
		{"partner with an unknown source", "source_kyc: qitech", "source_kyc: serasa", "partners[0].source_kyc", "openco"},
		{"partner with a bad tenant", "fh_api_acme_1", "'a b'", "partners[0].finhub_tenant", "letters"},
		{"partner with an origin and a path", "id: bazaar", "id: bazaar\n    allowed_origins: ['https://app.example.com/']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with every origin", "id: bazaar", "id: bazaar\n    allowed_origins: ['*']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with a wildcard origin", "id: bazaar", "id: bazaar\n    allowed_origins: ['https://*.example.com']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with the null origin", "id: bazaar", "id: bazaar\n    allowed_origins: ['null']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with a default port", "id: bazaar", "id: bazaar\n    allowed_origins: ['https://app.example.com:443']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with an origin in capitals", "id: bazaar", "id: bazaar\n    allowed_origins: ['https://App.example.com']", "partners[1].allowed_origins[0]", "one origin"},
		{"partner with a plain origin", "id: bazaar", "id: bazaar\n    allowed_origins: ['https://a.example', 'http://app.example.com']", "partners[1].allowed_origins[1]", "https"},
		{"partner with an origin twice", "id: bazaar", "id: bazaar\n    allowed_origins: ['http://localhost:5173', 'http://localhost:5173']", "partners[1].allowed_origins[1]", "twice"},
		{"partner requires the unknown", "require: [PERSON", "require: [SOUL", "partners[0].require[0]", "one of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := edit(t, base, tt.old, tt.new)
			_, err := load(t, folder(t), text)
			got := problemsOf(t, err)
			p, found := got[tt.setting]
			if !found || !strings.Contains(p.Problem, tt.says) {
				t.Errorf("got %v\nwant a problem of %s that says %q", err, tt.setting, tt.says)
			}
			if len(got) > 1 {
				t.Errorf("one mistake gave %d problems: %v", len(got), err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// edit replaces the first occurrence of old, which must be there.
func edit(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("the base configuration does not contain %q", old)
	}
	return strings.Replace(text, old, replacement, 1)
}

// TestSandboxIsLenient: what production refuses for strength is allowed where nothing is at stake.
func TestSandboxIsLenient(t *testing.T) {
	t.Parallel()
	text := edit(t, base, "environment: production", "environment: sandbox")
	text = edit(t, text, "public_url: https://kyc.example.com\n", "")
	text = edit(t, text, "env:QITECH_KEY", sandboxCredential+"onboarding-key")
	text = edit(t, text, "    webhook_secret: env:QITECH_HOOK\n", "")
	text = edit(t, text, "https://api.caas.qitech.app", "http://127.0.0.1:8090/qitech")
	dir := folder(t)
	write(t, dir, "jwks.json", jwks(t, keys.SandboxPrefix+"1", signingKey().Public()))
	if err := os.Chmod(filepath.Join(dir, "signing.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := load(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(cfg.Warnings(), "\n"); !strings.Contains(w, "providers.qitech.webhook_secret") || strings.Contains(w, "keys:") {
		t.Errorf("no warning about webhooks that cannot be verified: %q", w)
	}
	if _, err := load(t, dir, edit(t, text, "file:passphrase.txt", "test")); err != nil {
		t.Errorf("a short passphrase: %v", err)
	}
	cfg, err = load(t, dir, edit(t, text, "keys:\n  file: keyset.json\n  passphrase: file:passphrase.txt\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(cfg.Warnings(), "\n"); !strings.Contains(w, "keys: ") || !strings.Contains(w, "protects nothing") {
		t.Errorf("no warning about a keyset that protects nothing: %q", w)
	}
}

func TestKMSInProduction(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, folder(t), edit(t, base, "  passphrase: file:passphrase.txt\n", "  kms_uri: "+vault.KMSExample+"\n"))
	if err != nil || cfg.Keys.KMSURI != vault.KMSExample {
		t.Errorf("got %+v, %v", cfg.Keys, err)
	}
}

func TestKeyFilesInProduction(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 8037, appendix A.1.
	published, err := base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if err != nil {
		t.Fatal(err)
	}
	example := ed25519.NewKeyFromSeed(published)

	tests := []struct {
		name          string
		file          string
		data          []byte
		setting, says string
	}{
		{"jwks is no json", "jwks.json", []byte("-----BEGIN"), "auth.jwks_file", "not a JWK set"},
		{"jwks is a single key", "jwks.json", []byte(`{"kty":"OKP"}`), "auth.jwks_file", "not a JWK set"},
		{"jwks is empty", "jwks.json", []byte(`{"keys":[]}`), "auth.jwks_file", "no usable key"},
		{"jwks with a shared secret", "jwks.json", []byte(`{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`), "auth.jwks_file", "shared secret"},
		{"jwks with a private key", "jwks.json", []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}`), "auth.jwks_file", "private key"},
		{"jwks with a weak key", "jwks.json", jwks(t, "weak", weak.Public()), "auth.jwks_file", "1024 bits"},
		{"jwks of the sandbox", "jwks.json", jwks(t, keys.SandboxPrefix+"1", signingKey().Public()), "auth.jwks_file", "kycgate sandbox"},
		{"jwks with an example key", "jwks.json", jwks(t, "k", example.Public()), "auth.jwks_file", "published"},
		{"weak signing key", "signing.pem", private(t, weak), "auth.signing_key_file", "1024 bits"},
		{"signing key of another curve", "signing.pem", private(t, p384), "auth.signing_key_file", "unsupported"},
		{"example signing key", "signing.pem", private(t, example), "auth.signing_key_file", "published"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			write(t, dir, tt.file, tt.data)
			_, err := load(t, dir, base)
			if p := problemsOf(t, err)[tt.setting]; !strings.Contains(p.Problem, tt.says) {
				t.Errorf("got %v\nwant a problem of %s that says %q", err, tt.setting, tt.says)
			}
			for _, secret := range []string{"aHVudGVyMg", "nWGxne_9", "BEGIN"} {
				if strings.Contains(fmt.Sprint(err), secret) {
					t.Errorf("the error quotes the file: %v", err)
				}
			}
		})
	}

	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		for file, setting := range map[string]string{"signing.pem": "auth.signing_key_file", "keyset.json": "keys.file"} {
			dir := folder(t)
			if err := os.Chmod(filepath.Join(dir, file), mode); err != nil {
				t.Fatal(err)
			}
			_, err := load(t, dir, base)
			if p := problemsOf(t, err)[setting]; !strings.Contains(p.Problem, "chmod 600") {
				t.Errorf("%s with mode %o: got %v", file, mode, err)
			}
		}
	}
}

// TestStrict: what the reader does not understand is refused, with the path of the setting and its line.
func TestStrict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, old, new string
		setting        string
		says           string
		line           int
	}{
		{"unknown key", "listen:", "lisen: a\nlisten:", "lisen", "unknown key", 1},
		{"unknown nested key", "    gender_other:", "    base_urll: x\n    gender_other:", "providers.qitech.base_urll", "unknown key", 25},
		{"unknown provider", "providers:\n", "providers:\n  serasa: {}\n", "providers.serasa", "unknown key", 20},
		{"key in another case", "  audience:", "  Audience: a\n  audience:", "auth.Audience", "unknown key", 13},
		{"key that may be a secret", "  audience:", "  'hunter2 hunter2': a\n  audience:", "auth.?", "unknown key", 13},
		{"merge key", "  audience:", "  <<: {}\n  audience:", "auth.?", "unknown key", 13},
		{"inline struct by name", "  leap: {", "  leap: {upstream: {}, ", "providers.leap.upstream", "unknown key", 50},
		{"duplicate key", "listen:", "listen: a\nlisten:", "listen", "set twice, first in line 1", 2},
		{"duplicate nested key", "failures: 4,", "failures: 4, failures: 5,", "providers.qitech.breaker.failures", "set twice", 29},
		{"second document", "listen:", "environment: sandbox\n---\nlisten:", "--config", "second document", 2},
		{"number as text", "tenant_key: tk-1", "tenant_key: 12345", "providers.finhub.admin.tenant_key", "quotes", 46},
		{"truth as text", "service_account: acme", "service_account: true", "providers.unico.service_account", "quotes", 36},
		{"list as text", "listen: 127.0.0.1:8080", "listen: [a]", "listen", "text", 1},
		{"text as list", "token_types: [at+jwt]", "token_types: at+jwt", "auth.token_types", "list", 16},
		{"text as settings", "breaker: {failures: 4, open_for: 9s}", "breaker: off", "providers.qitech.breaker", "name: value", 29},
		{"text as number", "max_concurrent: 7", "max_concurrent: '7'", "providers.qitech.max_concurrent", "whole number", 27},
		{"fraction as whole number", "max_concurrent: 7", "max_concurrent: 7.5", "providers.qitech.max_concurrent", "whole number", 27},
		{"too large a number", "max_concurrent: 7", "max_concurrent: 99999999999999999999", "providers.qitech.max_concurrent", "whole number", 27},
		{"text as truth", "cpf_check_digits: true", "cpf_check_digits: 'no'", "validation.cpf_check_digits", "true or false", 18},
		{"old yaml's truth", "cpf_check_digits: true", "cpf_check_digits: off", "validation.cpf_check_digits", "true or false", 18},
		{"number as duration", "timeout: 3s", "timeout: 3", "providers.qitech.timeout", "unit", 26},
		{"text as duration", "timeout: 3s", "timeout: soon", "providers.qitech.timeout", "unit", 26},
		{"nothing", "  audience: kycgate", "  audience:", "auth.audience", "no value", 13},
		{"empty section", "keys:\n  file: keyset.json\n  passphrase: file:passphrase.txt\n", "keys:\n", "keys", "no value", 8},
		{"own tag", "audience: kycgate", "audience: !secret kycgate", "auth.audience", "text", 13},
		{"alias", "  audience: kycgate", "  audience: &hunter2 kycgate", "auth.audience", "anchors", 13},
		{"unknown alias", "env:QITECH_KEY", "*hunter2", "--config", "quotes", 0},
		{"no yaml", "listen:", "listen: hunter2: hunter2: :", "--config", "not valid YAML", 0},
		{"unset variable", "env:QITECH_KEY", "env:NOT_SET", "providers.qitech.api_key", "NOT_SET is not set", 22},
		{"empty variable", "env:QITECH_KEY", "env:EMPTY", "providers.qitech.api_key", "EMPTY is empty", 22},
		{"no variable", "env:QITECH_KEY", "'env:'", "providers.qitech.api_key", "name of an environment variable", 22},
		{"variable that may be a secret", "env:QITECH_KEY", "'env:hunter2 hunter2'", "providers.qitech.api_key", "name of an environment variable", 22},
		{"missing secret file", "file:passphrase.txt", "file:none.txt", "keys.passphrase", "no such file", 10},
		{"secret file is a folder", "file:passphrase.txt", "'file:.'", "keys.passphrase", "is a directory", 10},
		{"empty secret file", "file:passphrase.txt", "file:empty.txt", "keys.passphrase", "is empty", 10},
		{"no secret file", "file:passphrase.txt", "'file:'", "keys.passphrase", "path", 10},
		{"empty secret", "env:QITECH_KEY", "''", "providers.qitech.api_key", "is empty", 22},
		{"secret of two lines", "env:QITECH_KEY", `"a\nb"`, "providers.qitech.api_key", "single line", 22},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			write(t, dir, "empty.txt", []byte("\r\n\n"))
			_, err := load(t, dir, edit(t, base, tt.old, tt.new))
			p, found := problemsOf(t, err)[tt.setting]
			if !found || !strings.Contains(p.Problem, tt.says) {
				t.Fatalf("got %v\nwant a problem of %s that says %q", err, tt.setting, tt.says)
			}
			if p.Line != tt.line {
				t.Errorf("the problem is in line %d, want %d", p.Line, tt.line)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, t.TempDir(), "environment: production\nauht: {}\nproviders: {qitech: {api_key: env:NOT_SET}}\n")
	got := problemsOf(t, err)
	for _, setting := range []string{
		"auht", "auth.issuer", "auth.audience", "auth.jwks_file", "database.url", "public_url", "partners",
		"providers.qitech.api_key", "providers.qitech.base_url", "providers.qitech.webhook_secret",
	} {
		if _, found := got[setting]; !found {
			t.Errorf("nothing is said about %s", setting)
		}
	}
	if p := got["providers.qitech.api_key"]; !strings.Contains(p.Problem, "NOT_SET") {
		t.Errorf("the unset variable is reported as %q", p.Problem)
	}
	if want := "auht: unknown key"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q is not in %v", want, err)
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "comment": "# nothing\n", "list": "- a\n", "text": "hunter2", "too large": strings.Repeat("#", maxFile+1),
	} {
		_, err := load(t, t.TempDir(), text)
		if got := problemsOf(t, err); len(got) != 1 || got["--config"].Problem == "" {
			t.Errorf("%s: got %v, want one problem of --config", name, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if got := problemsOf(t, err)["--config"]; !strings.Contains(got.Problem, "none.yaml cannot be read: no such file") {
		t.Errorf("a missing file gives %v", err)
	}
}

func TestLoopbackMayBePlain(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:8090", "127.9.9.9", "localhost:1", "LOCALHOST", "[::1]:8090"} {
		if _, err := load(t, folder(t), edit(t, base, "https://api.caas.qitech.app", "'http://"+host+"/qitech'")); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"localhost.example.com", "127.0.0.1.example.com", "0.0.0.0", "10.0.0.1"} {
		if _, err := load(t, folder(t), edit(t, base, "https://api.caas.qitech.app", "'http://"+host+"/qitech'")); err == nil {
			t.Errorf("%s passes as loopback", host)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct{ old, new, warns string }{
		{"    webhook_auth: env:UNICO_HOOK\n", "", "providers.unico.webhook_auth"},
		{"token_types: [at+jwt]", "token_types: [at+jwt, application/JWT]", "auth.token_types[1]"},
		{"cpf_check_digits: true", "cpf_check_digits: false", "validation.cpf_check_digits"},
		{"https://api.caas.qitech.app", "https://api.sandbox.caas.qitech.app", "providers.qitech.base_url"},
		{"https://api.id.unico.app", "https://api.id.uat.unico.app", "providers.unico.base_url"},
		{"127.0.0.1:9090", "0.0.0.0:9090", "admin_listen"},
	}
	for _, tt := range tests {
		cfg, err := load(t, folder(t), edit(t, base, tt.old, tt.new))
		if err != nil {
			t.Fatal(err)
		}
		if w := strings.Join(cfg.Warnings(), "\n"); !strings.Contains("\n"+w, "\n"+tt.warns+":") {
			t.Errorf("%s: no warning about %s among %q", tt.new, tt.warns, w)
		}
	}

	cfg, err := load(t, folder(t), base)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Providers.QITech = nil
	if err := cfg.Validate(); err != nil {
		t.Errorf("a partner of QI Tech's without QI Tech is refused: %v", err)
	}
	if w := strings.Join(cfg.Warnings(), "\n"); !strings.Contains(w, "partners[0].source_kyc") {
		t.Errorf("no warning about a partner without its provider: %q", w)
	}
}

// TestEveryPathIsResolved finds the settings that are files by their names, so that a new one cannot be
// forgotten in resolvePaths.
func TestEveryPathIsResolved(t *testing.T) {
	t.Parallel()
	cfg := Config{Keys: &Keys{}, Providers: Providers{QITech: &QITech{}, Unico: &Unico{}, FinHub: &FinHub{Admin: &FinHubAdmin{}}, Leap: &Leap{}}}
	var files []reflect.Value
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct || v.Type() == secretType {
			return
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("yaml"); name == "file" || strings.HasSuffix(name, "_file") {
				v.Field(i).SetString("a/b")
				files = append(files, v.Field(i))
			}
			walk(v.Field(i))
		}
	}
	walk(reflect.ValueOf(&cfg))
	cfg.resolvePaths("/etc/kycgate")
	if len(files) < 4 {
		t.Fatalf("only %d files found", len(files))
	}
	for _, f := range files {
		if f.String() != "/etc/kycgate/a/b" {
			t.Errorf("a path is left at %q", f.String())
		}
	}
}

func TestDefaultNeedsItsSafetySettings(t *testing.T) {
	t.Parallel()
	got := problemsOf(t, Default().Validate())
	for _, setting := range []string{"environment", "auth.issuer", "auth.audience", "auth.jwks_file", "database.url", "keys", "partners"} {
		if _, found := got[setting]; !found {
			t.Errorf("the default has %s", setting)
		}
	}
}

func TestErrorNamesTheSetting(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("start: %w", Wrong("auth.jwks_url", "cannot be %s", "fetched"))
	var e *Error
	if !errors.As(err, &e) || e.Problems[0].String() != "auth.jwks_url: cannot be fetched" {
		t.Errorf("got %v", err)
	}
}

func TestFaceDocument(t *testing.T) {
	t.Parallel()
	if f := DefaultQITech().FaceDocument; f != DocumentMasked {
		t.Errorf("by default %q", f)
	}
}

func TestFaceKey(t *testing.T) {
	t.Parallel()
	q := QITech{APIKey: NewSecret("one")}
	if got := q.FaceKey().Reveal(); got != "one" {
		t.Errorf("without a face key: %q", got)
	}
	q.FaceAPIKey = NewSecret("two")
	if got := q.FaceKey().Reveal(); got != "two" {
		t.Errorf("with a face key: %q", got)
	}
}

func TestJSONShowsNoSecret(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, folder(t), base)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"live-", "horse", "hook-value", "ts-1"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("the configuration as JSON shows a secret: %s", out)
		}
	}
}
