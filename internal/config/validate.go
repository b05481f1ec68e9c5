package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/vault"
)

// unicoSandboxCredential begins every credential of Unico's simulator, likewise.
const unicoSandboxCredential = "unico-sandbox-"

// sandboxCredential begins every credential that QI Tech's simulator accepts, leapSandboxCredential those of Leap's, and finhubSandbox those of FinHub's. They are
// repeated here because the configuration knows no provider; tests of cmd/kycgate hold them against the simulators.
const (
	sandboxCredential     = "qitech-sandbox-"
	leapSandboxCredential = "leap-sandbox-"
	finhubSandbox         = "finhub-sandbox-"
)

// placeholders are what people write where a secret should be, and what documents print.
var placeholders = []string{
	"changeme", "change-me", "change_me", "secret", "example", "test", "testing", "password", "passphrase",
	"sandbox", "default", "dummy", "todo", "xxx", "key", "token", "admin",
	"test_signature_key", // of the test vector of QI Tech's webhook signature
}

// minWebhookSecret is the fewest bytes of a webhook secret in production: it signs what anyone may send us.
const minWebhookSecret = 16

// Capabilities that a key of Unico's may have, and steps an onboarding may require (schema: Capability and
// StepKind).
var (
	capabilities = []string{"LIVENESS", "IDENTITY_VERIFICATION", "FACE_VALIDATION", "FRAUD_PROFILE", "RISK_SCORE", "GOVERNMENT_SIMILARITY", "DOCUMENT_CAPTURE"}
	stepKinds    = []string{"PERSON", "FACE", "LIVENESS", "IDENTITY", "FACE_VALIDATION", "DOCUMENT", "CIP", "CUSTOMER"}
)

const required = "is required"

// minRegistrationAge is how long an idempotency key is kept (contract: 30 days).
const minRegistrationAge = Age(30 * 24 * time.Hour)

// maxAnswerWithin bounds how long a caller is kept waiting. A connection is held that long (ours).
const maxAnswerWithin = time.Minute

// Validate reports everything that makes the configuration unfit to serve with, as an [*Error].
// It reads the key files, and talks to nobody.
func (c Config) Validate() error {
	p := problems{list: c.validate()}
	return p.err()
}

func (c Config) validate() []Problem {
	v := &validator{production: c.Environment != Sandbox}
	switch c.Environment {
	case Production, Sandbox:
	case "":
		v.add("environment", required+": set it to production or sandbox")
	default:
		v.add("environment", "must be production or sandbox")
	}
	v.listeners(c.Listen, c.AdminListen)
	if c.PublicURL != "" {
		v.url("public_url", c.PublicURL)
	} else if c.Environment == Production {
		v.add("public_url", required+" in production: the https address at which partners and providers reach `listen`")
	}
	v.positive("answer_within", c.AnswerWithin)
	if c.AnswerWithin > maxAnswerWithin {
		v.add("answer_within", "must be at most %s: nobody waits longer for an answer, and the work goes on without them", maxAnswerWithin)
	}
	if c.Limits.DocumentGuesses < 1 {
		v.add("limits.document_guesses_per_minute", "must be at least 1")
	}
	v.database(c.Database.URL)
	v.keyset(c.Keys)
	if r := c.Retention; r.Persons > 0 && r.Persons < r.HoldPersons {
		v.add("retention.persons", "is shorter than retention.hold_persons, which forbids it: make it at least as long")
	}
	if r := c.Retention.Registrations; r > 0 && r < minRegistrationAge {
		v.add("retention.registrations", "must be at least 30d: an idempotency key stands for its registration that long")
	}
	v.auth(c.Auth)
	v.providers(c.Providers)
	v.partners(c.Partners)
	return v.list
}

// validator collects problems. Production is strict; an environment nobody knows counts as production, so
// that a typing mistake never hides a weak setting.
type validator struct {
	problems
	production bool
}

func (v *validator) listeners(public, admin string) {
	publicHost, publicPort, publicOK := v.address("listen", public)
	adminHost, adminPort, adminOK := v.address("admin_listen", admin)
	// Port 0 is a port of the system's choice, never the same twice.
	if publicOK && adminOK && publicPort == adminPort && publicPort != 0 && overlap(publicHost, adminHost) {
		v.add("admin_listen", "shares its port with `listen`: metrics and health must not be on the public listener, choose another port")
	}
}

// address checks host:port with a number as port.
func (v *validator) address(setting, address string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		v.add(setting, "must be host:port with a port number, such as 127.0.0.1:8080")
		return "", 0, false
	}
	return host, port, true
}

// overlap reports whether two listeners with one port would meet. Names other than localhost are compared
// as text only: looking them up here would make a start depend on a resolver.
func overlap(a, b string) bool {
	wildcard := func(h string) bool {
		ip := net.ParseIP(h)
		return h == "" || (ip != nil && ip.IsUnspecified())
	}
	return wildcard(a) || wildcard(b) || strings.EqualFold(a, b) || (isLoopback(a) && isLoopback(b))
}

// isLoopback reports whether a host is this machine, where plain http meets no network.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}

// url checks an address of ours or of a provider. No message shows it: it may hold a password.
func (v *validator) url(setting, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", u.Opaque != "", u.Scheme != "https" && u.Scheme != "http":
		v.add(setting, "must be an absolute URL, such as https://host.example/path")
	case u.User != nil:
		v.add(setting, "must not hold a user or a password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		v.add(setting, "must not have a query (?) or a fragment (#)")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.add(setting, "must use https: http is for loopback addresses only")
	}
}

// origin is the scheme and host of a URL, "" if it is none.
func origin(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (v *validator) text(setting, text, what string) {
	if strings.TrimSpace(text) == "" {
		v.add(setting, "%s: %s", required, what)
	} else if strings.TrimSpace(text) != text {
		v.add(setting, "begins or ends with a blank: remove it")
	}
}

// secret checks a required secret. See strong.
func (v *validator) secret(setting string, s Secret, what string) {
	if s.IsZero() {
		v.add(setting, "%s: %s", required, what)
		return
	}
	v.strong(setting, s)
}

// strong refuses a placeholder in production, and everywhere what cannot travel in a header.
func (v *validator) strong(setting string, s Secret) {
	text := s.Reveal()
	word := strings.ToLower(strings.TrimSpace(text))
	if strings.ContainsAny(text, "\r\n\x00") {
		v.add(setting, "must be a single line")
	} else if v.production && (slices.Contains(placeholders, word) || strings.HasPrefix(word, sandboxCredential) || strings.HasPrefix(word, leapSandboxCredential) || strings.HasPrefix(word, finhubSandbox) || strings.Contains(word, unicoSandboxCredential)) {
		v.add(setting, "is a placeholder or a documented sandbox credential, which production refuses: use the real one")
	}
}

func (v *validator) positive(setting string, d time.Duration) {
	if d <= 0 {
		v.add(setting, "must be longer than zero, such as 5s")
	}
}

func (v *validator) database(s Secret) {
	const setting = "database.url"
	switch text := s.Reveal(); {
	case text == "":
		v.add(setting, required+": sqlite:// and the path of the file, such as sqlite:///var/lib/kycgate/kycgate.db")
	case strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://"):
		v.add(setting, "this version serves SQLite only: use sqlite:///path/to/kycgate.db")
	case !strings.HasPrefix(text, sqliteScheme):
		v.add(setting, "must begin with sqlite://, such as sqlite:///var/lib/kycgate/kycgate.db")
	case text == sqliteScheme || strings.HasSuffix(text, "/"):
		v.add(setting, "names no file: write its path after sqlite://")
	case strings.ContainsAny(text, "?#%\x00") || strings.Contains(text, ":memory:"):
		// The driver would read options out of it, and those that make writes durable are not for choice.
		v.add(setting, "must be sqlite:// and a plain path, without ? # %% or :memory:")
	}
}

// keyset checks what the keyset is opened with. Whether it opens it, the start finds out.
func (v *validator) keyset(k *Keys) {
	if k == nil {
		if v.production {
			v.add("keys", required+" in production: the keyset that personal data is encrypted with, made by `kycgate keys init`")
		}
		return
	}
	v.text("keys.file", k.File, "the keyset made by `kycgate keys init`")
	if k.File != "" {
		v.privateFile("keys.file", k.File)
	}
	switch {
	case k.Passphrase.IsZero() && k.KMSURI == "":
		v.add("keys.passphrase", required+" (or keys.kms_uri): env:NAME or file:PATH of the keyset's passphrase")
	case !k.Passphrase.IsZero() && k.KMSURI != "":
		v.add("keys.kms_uri", "is given together with keys.passphrase: remove one")
	case k.KMSURI != "":
		if err := vault.CheckKMS(k.KMSURI); err != nil {
			v.add("keys.kms_uri", "%v", err)
		}
	default:
		if err := CheckPassphrase(k.Passphrase); v.production && err != nil {
			v.add("keys.passphrase", "%v", err)
		}
	}
}

// minPassphrase is the fewest characters of a keyset's passphrase, because whoever has a copy of the file can
// guess at leisure, and minLetters the fewest different ones that are left when the placeholders in it are
// taken away (ours).
const (
	minPassphrase = 16
	minLetters    = 6
)

// CheckPassphrase refuses what nobody should protect real persons with. `kycgate keys init` asks it too, so
// that production does not refuse a keyset on which there is data already.
func CheckPassphrase(s Secret) error {
	const instead = "make a long one, such as with `openssl rand -base64 24`"
	text := s.Reveal()
	if utf8.RuneCountInString(text) < minPassphrase {
		return fmt.Errorf("is shorter than %d characters: %s", minPassphrase, instead)
	}
	rest := strings.ToLower(text)
	for _, word := range append([]string{"kycgate", "keyset", "your", "here"}, placeholders...) {
		rest = strings.ReplaceAll(rest, word, "")
	}
	letters := make(map[rune]bool)
	for _, r := range rest {
		letters[r] = true
	}
	if len(letters) < minLetters {
		return fmt.Errorf("is a placeholder or made of very few different characters: %s", instead)
	}
	return nil
}

func (v *validator) auth(a Auth) {
	v.text("auth.issuer", a.Issuer, "the `iss` of the tokens, exactly as the issuer writes it")
	v.text("auth.audience", a.Audience, "the `aud` of tokens meant for this gateway, such as kycgate")
	var set []keys.Key
	switch {
	case a.JWKSFile == "" && a.JWKSURL == "":
		v.add("auth.jwks_file", required+" (or auth.jwks_url): the public keys that tokens are verified with")
	case a.JWKSFile != "" && a.JWKSURL != "":
		v.add("auth.jwks_url", "is given together with auth.jwks_file: remove one")
	case a.JWKSURL != "":
		v.url("auth.jwks_url", a.JWKSURL)
	default:
		set = v.jwks("auth.jwks_file", a.JWKSFile)
	}
	if a.SigningKeyFile != "" {
		v.signingKey("auth.signing_key_file", a.SigningKeyFile, set)
	}
	if len(a.TokenTypes) == 0 {
		v.add("auth.token_types", "must list at least one `typ`, such as at+jwt")
	}
	for i, t := range a.TokenTypes {
		if !tokenType.MatchString(t) {
			v.add(fmt.Sprintf("auth.token_types[%d]", i), "must be the `typ` of an access token, such as at+jwt")
		}
	}
}

var tokenType = regexp.MustCompile(`^(application/)?[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$`)

func (v *validator) jwks(setting, file string) []keys.Key {
	data, err := readBounded(file, keys.MaxSize)
	if err != nil {
		v.add(setting, "%v", err)
		return nil
	}
	set, err := keys.ParseSet(data)
	if err != nil {
		v.add(setting, "%v", err)
		return nil
	}
	if v.production {
		if err := CheckProductionKeys(set); err != nil {
			v.add(setting, "%v", err)
		}
	}
	return set
}

// CheckProductionKeys refuses keys whose private half somebody else can have. The verifier asks it too,
// about keys that come over the network.
func CheckProductionKeys(set []keys.Key) error {
	for _, k := range set {
		if strings.HasPrefix(k.ID, keys.SandboxPrefix) {
			return errors.New("holds a key made by `kycgate sandbox`, which production refuses: use your issuer's keys")
		}
		if keys.Published(k.Key) {
			return errors.New("holds an example key whose private half is published, which production refuses: make your own")
		}
	}
	return nil
}

// signingKey checks the key that tokens are signed with. set are the keys they are verified with, nil if
// those are not known yet.
func (v *validator) signingKey(setting, file string, set []keys.Key) {
	data, ok := v.privateFile(setting, file)
	if !ok {
		return
	}
	key, _, err := keys.ParsePrivate(data)
	switch {
	case err != nil:
		v.add(setting, "%s %v", shown(file), err)
	case v.production && keys.Published(key.Public()):
		v.add(setting, "is a published example key, which production refuses: make your own")
	case set != nil && !slices.ContainsFunc(set, func(k keys.Key) bool { return keys.Equal(k.Key, key.Public()) }):
		v.add(setting, "its public key is not in auth.jwks_file, so its tokens would be refused: add it there")
	}
}

// privateFile reads a file that nobody else may read.
func (v *validator) privateFile(setting, file string) ([]byte, bool) {
	data, err := readBounded(file, maxSecretFile)
	if err != nil {
		v.add(setting, "%v", err)
		return nil, false
	}
	if v.production {
		if info, err := os.Stat(file); err != nil {
			v.add(setting, "%v", fileError(file, err))
			return nil, false
		} else if info.Mode().Perm()&0o077 != 0 {
			v.add(setting, "%s can be read by other users (mode %04o): run chmod 600 on it", shown(file), info.Mode().Perm())
		}
	}
	return data, true
}

func (v *validator) providers(p Providers) {
	if q := p.QITech; q != nil {
		const at = "providers.qitech"
		v.upstream(at, q.BaseURL, q.Upstream)
		v.secret(at+".api_key", q.APIKey, "the key of QI Tech's onboarding API, as env:NAME or file:PATH")
		v.strong(at+".face_api_key", q.FaceAPIKey)
		switch {
		case !q.WebhookSecret.IsZero():
			v.strong(at+".webhook_secret", q.WebhookSecret)
			if v.production && len(q.WebhookSecret.Reveal()) < minWebhookSecret {
				v.add(at+".webhook_secret", "is shorter than %d bytes: agree on a longer one with QI Tech", minWebhookSecret)
			}
		case v.production:
			v.add(at+".webhook_secret", required+" in production: the key QI Tech signs its webhooks with, as env:NAME or file:PATH")
		}
		if q.GenderOther != GenderOmit && q.GenderOther != GenderUndefined {
			v.add(at+".gender_other", "must be omit or undefined")
		}
		if q.FaceDocument != DocumentMasked && q.FaceDocument != DocumentBare {
			v.add(at+".face_document", "must be masked or bare")
		}
		v.hold(at, q.HoldAmbiguous)
	}
	if u := p.Unico; u != nil {
		v.unico("providers.unico", u)
	}
	if f := p.FinHub; f != nil {
		v.finhub("providers.finhub", f)
	}
	if l := p.Leap; l != nil {
		const at = "providers.leap"
		v.upstream(at, l.BaseURL, l.Upstream)
		v.secret(at+".api_key", l.APIKey, "Leap's key, as env:NAME or file:PATH")
		if !strings.HasPrefix(l.UpdatePath, "/") {
			v.add(at+".update_path", "must begin with a slash, such as /auth/register-user-v2")
		}
		v.positive(at+".stuck_after", l.StuckAfter)
	}
}

// upstream checks what every provider takes.
func (v *validator) upstream(at, baseURL string, u Upstream) {
	if baseURL == "" {
		v.add(at+".base_url", required+": the provider's https address")
	} else {
		v.url(at+".base_url", baseURL)
	}
	v.positive(at+".timeout", u.Timeout)
	v.positive(at+".poll_every", u.PollEvery)
	v.positive(at+".retry_after", u.RetryAfter)
	v.positive(at+".breaker.open_for", u.Breaker.OpenFor)
	if u.Breaker.Failures < 1 {
		v.add(at+".breaker.failures", "must be at least 1")
	}
	if u.MaxConcurrent < 1 {
		v.add(at+".max_concurrent", "must be at least 1")
	}
	if u.RatePerSecond < 0 || math.IsNaN(u.RatePerSecond) || math.IsInf(u.RatePerSecond, 0) {
		v.add(at+".rate_per_second", "must be a number of calls a second, or 0 for no limit")
	}
}

// hold checks how long something stays open that nobody knows the end of (contract: at most 60 s).
func (v *validator) hold(at string, d time.Duration) {
	if d <= 0 || d > time.Minute {
		v.add(at+".hold_ambiguous", "must be a duration of at most 1m, such as 30s")
	}
}

func (v *validator) unico(at string, u *Unico) {
	v.upstream(at, u.BaseURL, u.Upstream)
	if u.TokenURL == "" {
		v.add(at+".token_url", required+": where Unico's access tokens are fetched")
	} else {
		v.url(at+".token_url", u.TokenURL)
		v.text(at+".audience", u.Audience, "the audience of the assertion, by default the origin of token_url")
	}
	v.text(at+".service_account", u.ServiceAccount, "the service account Unico made for you")
	v.text(at+".tenant_id", u.TenantID, "your tenant's UUID at Unico")
	if u.PrivateKeyFile == "" {
		v.add(at+".private_key_file", required+": the service account's RSA key")
	} else if data, ok := v.privateFile(at+".private_key_file", u.PrivateKeyFile); ok {
		// Unico takes assertions signed with RS256 only.
		if _, alg, err := keys.ParsePrivate(data); err != nil {
			v.add(at+".private_key_file", "%s %v", shown(u.PrivateKeyFile), err)
		} else if alg != keys.RS256 {
			v.add(at+".private_key_file", "must be an RSA key")
		}
	}
	v.strong(at+".webhook_auth", u.WebhookAuth)
	v.hold(at, u.HoldAmbiguous)
	if len(u.APIKeys) == 0 {
		v.add(at+".api_keys", required+": at least one key with its capabilities")
	}
	for i, k := range u.APIKeys {
		entry := fmt.Sprintf("%s.api_keys[%d]", at, i)
		v.secret(entry+".key", k.Key, "the APIKEY of Unico's, as env:NAME or file:PATH")
		if len(k.Capabilities) == 0 {
			v.add(entry+".capabilities", required+": what Unico enabled on this key")
		}
		v.words(entry+".capabilities", k.Capabilities, capabilities)
	}
}

func (v *validator) finhub(at string, f *FinHub) {
	v.upstream(at, f.BaseURL, f.Upstream)
	if f.Registration != FinHubPlural && f.Registration != FinHubSingular {
		v.add(at+".registration", "must be register (the plural path) or registration (the singular)")
	}
	if f.SearchPath != "" && f.SearchPath != "-" && !finhubPath.MatchString(f.SearchPath) {
		v.add(at+".search_path", "must be a path under /api/v2.1 such as /customer/individual/search, or - for none")
	}
	if f.ActivationUser != FinHubActivationID && f.ActivationUser != FinHubActivationEmail {
		v.add(at+".activation_user", "must be id or email")
	}
	if net.ParseIP(f.ForwardedFor) == nil {
		v.add(at+".forwarded_for", "must be an IPv4 or IPv6 address")
	}
	switch {
	case f.Token.IsZero() && f.Admin == nil:
		v.add(at+".token", required+" (or %s.admin): FinHub's bearer token, as env:NAME or file:PATH", at)
	case !f.Token.IsZero() && f.Admin != nil:
		v.add(at+".admin", "is given together with %s.token: remove one", at)
	}
	v.strong(at+".token", f.Token)
	if a := f.Admin; a != nil {
		at += ".admin"
		v.text(at+".organization_id", a.OrganizationID, "the organization's id at FinHub")
		v.text(at+".user_id", a.UserID, "the admin user's id at FinHub")
		v.text(at+".username", a.Username, "the admin user's name at FinHub")
		v.secret(at+".password", a.Password, "the admin user's password, as env:NAME or file:PATH")
		v.secret(at+".tenant_key", a.TenantKey, "the tenant's key, as env:NAME or file:PATH")
		v.secret(at+".tenant_secret", a.TenantSecret, "the tenant's secret, as env:NAME or file:PATH")
	}
}

var (
	partnerID    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	finhubPath   = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	finhubTenant = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`) // it travels in a header
)

func (v *validator) partners(list []Partner) {
	if len(list) == 0 {
		v.add("partners", required+": list at least one, such as {id: acme, source_kyc: qitech}")
	}
	seen := make(map[string]bool)
	for i, p := range list {
		at := fmt.Sprintf("partners[%d]", i)
		switch {
		case p.ID == "":
			v.add(at+".id", required+": the `partner` of its tokens")
		case !partnerID.MatchString(p.ID):
			v.add(at+".id", "must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter or a digit")
		case seen[p.ID]:
			v.add(at+".id", "is the id of an earlier partner: give every partner its own")
		}
		seen[p.ID] = true
		if p.SourceKYC != SourceQITech && p.SourceKYC != SourceOpenCo {
			v.add(at+".source_kyc", "must be qitech or openco")
		}
		if p.FinHubTenant != "" && !finhubTenant.MatchString(p.FinHubTenant) {
			v.add(at+".finhub_tenant", "must be 1 to 128 letters, digits, dots, _ and -")
		}
		v.words(at+".require", p.Require, stepKinds)
		for j, allowed := range p.AllowedOrigins {
			v.origin(fmt.Sprintf("%s.allowed_origins[%d]", at, j), allowed, p.AllowedOrigins[:j])
		}
	}
}

// origin checks an origin that is compared byte by byte with what browsers send, so it must be written as they do.
func (v *validator) origin(setting, text string, before []string) {
	u, err := url.Parse(text)
	switch {
	case err != nil, text != origin(text), text != strings.ToLower(text), u.Hostname() == "", u.Scheme != "https" && u.Scheme != "http",
		u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80", strings.Contains(text, "*"):
		v.add(setting, "must be one origin as a browser writes it, such as https://app.example.com or https://app.example.com:8443: lower case, no path, no default port, no *")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.add(setting, "must use https: http is for loopback addresses only")
	case slices.Contains(before, text):
		v.add(setting, "is listed twice: remove one")
	}
}

// words checks a list of words of a closed set, each at most once.
func (v *validator) words(setting string, list, known []string) {
	for i, word := range list {
		entry := fmt.Sprintf("%s[%d]", setting, i)
		if !slices.Contains(known, word) {
			v.add(entry, "must be one of %s", strings.Join(known, ", "))
		} else if slices.Contains(list[:i], word) {
			v.add(entry, "is listed twice: remove one")
		}
	}
}

// Warnings tells what is allowed and still deserves a line in the log at start.
func (c Config) Warnings() []string {
	var out []string
	warn := func(setting, format string, args ...any) {
		out = append(out, setting+": "+fmt.Sprintf(format, args...))
	}
	if c.Providers.QITech == nil {
		for i, p := range c.Partners {
			if p.SourceKYC == SourceQITech {
				warn(fmt.Sprintf("partners[%d].source_kyc", i), "is qitech, but providers.qitech is not configured: registerPerson will answer PROVIDER_NOT_CONFIGURED to %s", p.ID)
			}
		}
	} else if c.Providers.QITech.WebhookSecret.IsZero() {
		warn("providers.qitech.webhook_secret", "is not set: QI Tech's webhooks cannot be verified and will be refused, late decisions come by polling")
	}
	for i, p := range c.Partners {
		if p.FinHubTenant != "" && c.Providers.FinHub == nil {
			warn(fmt.Sprintf("partners[%d].finhub_tenant", i), "is set, but providers.finhub is not configured: registerCustomer will answer PROVIDER_NOT_CONFIGURED to %s", p.ID)
		}
	}
	if u := c.Providers.Unico; u != nil && u.WebhookAuth.IsZero() {
		warn("providers.unico.webhook_auth", "is not set: Unico's webhooks cannot be verified and will be refused, results come by polling")
	}
	for i, t := range c.Auth.TokenTypes {
		if kind := strings.TrimPrefix(strings.ToLower(t), "application/"); kind == "jwt" || kind == "id+jwt" {
			warn(fmt.Sprintf("auth.token_types[%d]", i), "accepts tokens that do not say they are access tokens: an ID token of the same issuer with our audience would pass")
		}
	}
	if !c.Validation.CPFCheckDigits {
		warn("validation.cpf_check_digits", "is off: a CPF with wrong check digits is accepted")
	}
	if c.Keys == nil && c.Environment == Sandbox {
		warn("keys", "is not set: personal data is encrypted with a keyset beside the database that protects nothing, which only a sandbox may use")
	}
	if c.Environment != Production {
		return out
	}
	if q := c.Providers.QITech; q != nil && sandboxHost(q.BaseURL) {
		warn("providers.qitech.base_url", sandboxWarning)
	}
	if u := c.Providers.Unico; u != nil && sandboxHost(u.BaseURL) {
		warn("providers.unico.base_url", sandboxWarning)
	}
	if f := c.Providers.FinHub; f != nil && sandboxHost(f.BaseURL) {
		warn("providers.finhub.base_url", sandboxWarning)
	}
	if host, _, err := net.SplitHostPort(c.AdminListen); err == nil && !isLoopback(host) {
		warn("admin_listen", "is not a loopback address: make sure that only your monitoring reaches it")
	}
	return out
}

const sandboxWarning = "is a sandbox's or a simulator's address although the environment is production"

// sandboxHost recognises the providers' test addresses by the words they use for them.
func sandboxHost(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return isLoopback(host) || strings.Contains(host, "sandbox") || strings.Contains(host, ".uat.")
}
