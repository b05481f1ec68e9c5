// Package config is the whole configuration of kycgate: one struct, its defaults, its reading from strict
// YAML and its rules. What passes Validate is safe to serve with; what does not is refused at start, all
// problems at once, each naming its setting.
package config

import (
	"path/filepath"
	"strings"
	"time"
)

// Config is the configuration file (contract, section 2).
type Config struct {
	Listen      string      `yaml:"listen"`       // the public listener
	AdminListen string      `yaml:"admin_listen"` // metrics and health, never on the public listener
	PublicURL   string      `yaml:"public_url"`   // where the world reaches Listen
	Environment Environment `yaml:"environment"`
	// AnswerWithin is how long a mutation waits for a provider before it answers PENDING; the work goes on.
	AnswerWithin time.Duration `yaml:"answer_within"`
	Database     Database      `yaml:"database"`
	Keys         *Keys         `yaml:"keys"` // nil when absent
	Auth         Auth          `yaml:"auth"`
	Validation   Validation    `yaml:"validation"`
	Retention    Retention     `yaml:"retention"`
	Audit        Audit         `yaml:"audit"`
	Limits       Limits        `yaml:"limits"`
	Providers    Providers     `yaml:"providers"`
	Partners     []Partner     `yaml:"partners"`
}

// Environment decides how strict the rules are.
type Environment string

// The environments. There is no default: whoever forgets it must not get the lenient one.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// Database says where everything is kept.
type Database struct {
	// URL is a secret because a PostgreSQL URL holds a password. After Load a SQLite path is absolute.
	URL Secret `yaml:"url"`
}

const sqliteScheme = "sqlite://"

// SQLitePath gives the file of a sqlite:// URL, or "" for another kind of database.
func (d Database) SQLitePath() string {
	path, ok := strings.CutPrefix(d.URL.Reveal(), sqliteScheme)
	if !ok {
		return ""
	}
	return path
}

// Keys is the keyset that personal data is encrypted with, and exactly one of what opens it.
type Keys struct {
	File       string `yaml:"file"`
	Passphrase Secret `yaml:"passphrase"`
	KMSURI     string `yaml:"kms_uri"` // of a key of a KMS; see vault.ForKMS
	// ErasuresFile lists the erased persons. It lies beside the keyset, by default its name with .erasures, so that restoring a backup
	// of the database does not take it back in time.
	ErasuresFile string `yaml:"erasures_file"`
}

// Retention says how long what is kept. Zero, the default of all, means for good, and that nothing is held.
type Retention struct {
	HoldPersons   Age `yaml:"hold_persons"`  // erasePerson is refused until so long after a person's last change
	Persons       Age `yaml:"persons"`       // erased so long after their last change
	Registrations Age `yaml:"registrations"` // snapshots, but for the newest of a person
	Callbacks     Age `yaml:"callbacks"`     // webhooks as received
	Calls         Age `yaml:"calls"`         // the ledger of calls to providers
}

// Audit says where the audit log is vouched for.
type Audit struct {
	// HeadsFile gets the signed heads of the audit log, one a line, by default beside the database, its name with .audit-heads. On
	// another disk, or where this user may append and not change, it also shows that the whole database was taken back in time.
	HeadsFile string `yaml:"heads_file"`
}

// Age is a time long enough to be counted in days: 90d, 5y (a year has 365 days), or any duration such as 36h.
type Age time.Duration

// Duration is the age as a duration.
func (a Age) Duration() time.Duration { return time.Duration(a) }

// Auth says which tokens are accepted.
type Auth struct {
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// The public keys: exactly one of the two.
	JWKSFile string `yaml:"jwks_file"`
	JWKSURL  string `yaml:"jwks_url"`
	// SigningKeyFile lets `kycgate token` and subject tokens be issued here. Its public half is in the JWKS.
	SigningKeyFile string `yaml:"signing_key_file"`
	// TokenTypes are the values of `typ` that mean "access token".
	TokenTypes []string `yaml:"token_types"`
}

// Validation tunes how inputs are judged.
type Validation struct {
	// CPFCheckDigits refuses a CPF whose check digits are wrong. Some providers' own sandboxes use such
	// numbers, which is the one reason to turn it off.
	CPFCheckDigits bool `yaml:"cpf_check_digits"`
}

// Limits bound what one principal (partner and `sub`) may ask for.
type Limits struct {
	// DocumentGuesses is how many documents of nobody it may look up in a minute. Looking up persons there are is
	// not bounded.
	DocumentGuesses int `yaml:"document_guesses_per_minute"`
}

// Providers are the upstreams. One that is not listed is nil and is not offered.
type Providers struct {
	QITech *QITech `yaml:"qitech"`
	Unico  *Unico  `yaml:"unico"`
	FinHub *FinHub `yaml:"finhub"`
	Leap   *Leap   `yaml:"leap"`
}

// Upstream is what every provider takes: how its calls are bounded, paced and repeated.
type Upstream struct {
	Timeout       time.Duration `yaml:"timeout"`         // of one attempt
	MaxConcurrent int           `yaml:"max_concurrent"`  // calls in flight, the bulkhead
	RatePerSecond float64       `yaml:"rate_per_second"` // 0 is unlimited
	Breaker       Breaker       `yaml:"breaker"`
	PollEvery     time.Duration `yaml:"poll_every"`  // how often an open process is asked for
	RetryAfter    time.Duration `yaml:"retry_after"` // the first pause before a failed call is tried again
}

// Breaker stops calling an operation that keeps failing.
type Breaker struct {
	Failures int           `yaml:"failures"` // consecutive failures that open it
	OpenFor  time.Duration `yaml:"open_for"` // how long before it lets one probe through
}

// QITech is QI Tech CaaS: person analyses and face registration.
type QITech struct {
	Upstream `yaml:",inline"`
	BaseURL  string `yaml:"base_url"`
	APIKey   Secret `yaml:"api_key"`
	// FaceAPIKey is the key of the face products. QI Tech hands out one key a product; see FaceKey.
	FaceAPIKey Secret `yaml:"face_api_key"`
	// FaceDocument is how a CPF is written in face calls.
	FaceDocument  DocumentForm `yaml:"face_document"`
	WebhookSecret Secret       `yaml:"webhook_secret"`
	GenderOther   GenderOther  `yaml:"gender_other"`
	// HoldAmbiguous is how long a face registration that timed out is looked for before it may be sent again, at most a minute.
	HoldAmbiguous time.Duration `yaml:"hold_ambiguous"`
}

// FaceKey is the key for the face products: their own, or the common one where none is given.
func (q QITech) FaceKey() Secret {
	if q.FaceAPIKey.IsZero() {
		return q.APIKey
	}
	return q.FaceAPIKey
}

// DocumentForm is how a CPF is written. QI Tech documents the mask for persons and nothing for faces.
type DocumentForm string

// The forms.
const (
	DocumentMasked DocumentForm = "masked"
	DocumentBare   DocumentForm = "bare"
)

// GenderOther says what QI Tech is told about a person whose gender is OTHER. Its natural-person API
// documents male and female only; a sibling product also takes undefined.
type GenderOther string

// The ways to tell QI Tech.
const (
	GenderOmit      GenderOther = "omit"
	GenderUndefined GenderOther = "undefined"
)

// Unico is Unico IDCloud: the face and document processes.
type Unico struct {
	Upstream       `yaml:",inline"`
	BaseURL        string `yaml:"base_url"`
	TokenURL       string `yaml:"token_url"`
	ServiceAccount string `yaml:"service_account"`
	TenantID       string `yaml:"tenant_id"`
	PrivateKeyFile string `yaml:"private_key_file"`
	Audience       string `yaml:"audience"` // after Load never empty: the origin of TokenURL
	// WebhookAuth is "header: value", split at the first colon; without a colon, the value of Authorization.
	WebhookAuth Secret        `yaml:"webhook_auth"`
	APIKeys     []UnicoAPIKey `yaml:"api_keys"`
	// HoldAmbiguous is how long a process stays open whose creation may or may not have arrived, at most a minute.
	HoldAmbiguous time.Duration `yaml:"hold_ambiguous"`
}

// UnicoAPIKey is one key of Unico's: it decides what a process made with it can do.
type UnicoAPIKey struct {
	Key          Secret   `yaml:"key"`
	Capabilities []string `yaml:"capabilities"`
}

// FinHub is FinHub's customer registration.
type FinHub struct {
	Upstream `yaml:",inline"`
	BaseURL  string `yaml:"base_url"`
	// Exactly one of Token and Admin.
	Token Secret       `yaml:"token"`
	Admin *FinHubAdmin `yaml:"admin"`
	// Registration chooses between the two paths FinHub documents.
	Registration FinHubRegistration `yaml:"registration"`
	// SearchPath is where a customer is found by e-mail address, under /api/v2.1; FinHub documents none. "" is a guess that
	// does no harm, "-" turns it off.
	SearchPath string `yaml:"search_path"`
	// ActivationUser is what names the user in an activation; FinHub's documentation has both.
	ActivationUser FinHubActivationUser `yaml:"activation_user"`
	// ForwardedFor is the address FinHub is told a customer comes from.
	ForwardedFor string `yaml:"forwarded_for"`
}

// FinHubActivationUser is what names the user in an activation.
type FinHubActivationUser string

// The two.
const (
	FinHubActivationID    FinHubActivationUser = "id"
	FinHubActivationEmail FinHubActivationUser = "email"
)

// FinHubAdmin opens admin sessions instead of a fixed token.
type FinHubAdmin struct {
	OrganizationID string `yaml:"organization_id"`
	UserID         string `yaml:"user_id"`
	Username       string `yaml:"username"`
	Password       Secret `yaml:"password"`
	TenantKey      Secret `yaml:"tenant_key"`
	TenantSecret   Secret `yaml:"tenant_secret"`
}

// FinHubRegistration is which of FinHub's two registration paths is called.
type FinHubRegistration string

// The two paths.
const (
	FinHubPlural   FinHubRegistration = "register"     // POST …/customers/individual/register
	FinHubSingular FinHubRegistration = "registration" // POST …/customer/individual/registration
)

// Leap is Leap's prospect registration.
type Leap struct {
	Upstream `yaml:",inline"`
	BaseURL  string `yaml:"base_url"` // up to /v1, with or without it
	APIKey   Secret `yaml:"api_key"`
	// UpdatePath takes corrections, below /v1. Leap documents no way to correct data; the default is the registration.
	UpdatePath string `yaml:"update_path"`
	// StuckAfter flags a prospect of which nothing was heard for so long. It is kept and looked at on.
	StuckAfter time.Duration `yaml:"stuck_after"`
}

// Partner is one tenant.
type Partner struct {
	ID           string    `yaml:"id"`
	SourceKYC    SourceKYC `yaml:"source_kyc"`
	FinHubTenant string    `yaml:"finhub_tenant"`
	// Require are the steps an onboarding needs to be approved (schema: StepKind).
	Require []string `yaml:"require"`
	// AllowedOrigins are the origins whose pages may use the partner's tokens in a browser.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// SourceKYC is who decides on a partner's persons.
type SourceKYC string

// The sources.
const (
	SourceQITech SourceKYC = "qitech" // QI Tech analyses them
	SourceOpenCo SourceKYC = "openco" // Open Co has decided before
)

// Default is the configuration before anything is read. It is not valid: the settings that make it safe
// have no default.
func Default() Config {
	return Config{
		Listen:       "127.0.0.1:8080",
		AdminListen:  "127.0.0.1:9090",
		AnswerWithin: 5 * time.Second,
		Auth:         Auth{TokenTypes: []string{"at+jwt"}}, // RFC 9068: an ID token is no access token
		Validation:   Validation{CPFCheckDigits: true},
		Limits:       Limits{DocumentGuesses: 60},
	}
}

// defaultUpstream holds for every provider unless it says otherwise.
func defaultUpstream() Upstream {
	return Upstream{
		// Twice AnswerWithin: a slow answer is still worth having when the caller has gone on.
		Timeout: 10 * time.Second,
		// Enough for a partner's daily peak, few enough that a stuck upstream holds little of ours.
		MaxConcurrent: 10,
		// Unlimited: the provider's own 429 paces us where no budget is documented.
		RatePerSecond: 0,
		Breaker: Breaker{
			Failures: 5,                // one user's bad luck does not open it, an outage does in seconds
			OpenFor:  15 * time.Second, // short, because one probe decides
		},
		PollEvery:  30 * time.Second, // webhooks are the fast path; this is for those that got lost
		RetryAfter: 2 * time.Second,  // grows from here
	}
}

// DefaultQITech is an empty QI Tech section.
func DefaultQITech() *QITech {
	return &QITech{Upstream: defaultUpstream(), GenderOther: GenderOmit, FaceDocument: DocumentMasked, HoldAmbiguous: 30 * time.Second}
}

// DefaultUnico is an empty Unico section.
func DefaultUnico() *Unico {
	u := defaultUpstream()
	u.RatePerSecond = 10 // Unico's default budget a tenant
	return &Unico{Upstream: u, HoldAmbiguous: 30 * time.Second}
}

// DefaultFinHub is an empty FinHub section.
func DefaultFinHub() *FinHub {
	return &FinHub{Upstream: defaultUpstream(), Registration: FinHubPlural, ActivationUser: FinHubActivationID, ForwardedFor: "127.0.0.1"}
}

// DefaultLeap is an empty Leap section.
func DefaultLeap() *Leap {
	// Three days: Leap documents no time, and a person has to find their papers (ours).
	return &Leap{Upstream: defaultUpstream(), UpdatePath: "/auth/register-user-v2", StuckAfter: 72 * time.Hour}
}

// applyDefaults lets the decoder start a section from its defaults. See [decoder.decode].
func (q *QITech) applyDefaults() { *q = *DefaultQITech() }
func (u *Unico) applyDefaults()  { *u = *DefaultUnico() }
func (f *FinHub) applyDefaults() { *f = *DefaultFinHub() }
func (l *Leap) applyDefaults()   { *l = *DefaultLeap() }

// A partner whose persons nobody analyses is the harmless default.
func (p *Partner) applyDefaults() { p.SourceKYC = SourceOpenCo }

// deriveDefaults fills what follows from other settings.
func (c *Config) deriveDefaults() {
	if u := c.Providers.Unico; u != nil && u.Audience == "" {
		u.Audience = origin(u.TokenURL)
	}
}

// resolvePaths makes the relative paths relative to the configuration file instead of to wherever the
// process was started.
func (c *Config) resolvePaths(dir string) {
	paths := []*string{&c.Auth.JWKSFile, &c.Auth.SigningKeyFile, &c.Audit.HeadsFile}
	if c.Keys != nil {
		paths = append(paths, &c.Keys.File, &c.Keys.ErasuresFile)
	}
	if c.Providers.Unico != nil {
		paths = append(paths, &c.Providers.Unico.PrivateKeyFile)
	}
	for _, p := range paths {
		*p = resolve(dir, *p)
	}
	if path := c.Database.SQLitePath(); path != "" {
		c.Database.URL = NewSecret(sqliteScheme + resolve(dir, path))
	}
}

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// OwnOrigin is the origin of PublicURL as a browser writes it, or "".
func (c Config) OwnOrigin() string { return origin(c.PublicURL) }

// Partner finds a partner by its id.
func (c Config) Partner(id string) (Partner, bool) {
	for _, p := range c.Partners {
		if p.ID == id {
			return p, true
		}
	}
	return Partner{}, false
}
