// Package unicosim simulates the by Client API of Unico IDCloud: access tokens, processes, reusable documents,
// and the webhook of a late result. It follows the dossier of the provider (unico.md, "dossier" in the
// comments here); where that is silent the choice is marked "ours".
//
// The life of a process (dossier 5.1, 5.3):
//
//	POST ──> 3 | 5                            final
//	     └─> 1 ──> 3 | 4 | 5                  a late alert, score or document, with a webhook
//	     └─> 1 | 2 ──> 2 ──> 3                the risk score diverges first
//
// What becomes of a process is decided by the two digits before the check digits of the CPF, so that the first
// digit stays QI Tech's; see magic.go, or Scenarios. What it checks is decided by the APIKEY.
//
// Four paths are not the provider's and exist for whoever drives the simulator: GET /private-key, the key that
// signs assertions here; GET /sdk-token, a capture as the SDK would send it; GET /processes, what is held; and
// POST /settle, which ends an open process.
package unicosim

import (
	"crypto/rsa"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The credentials of the sandbox, all ours. They are public; a configuration for production refuses whatever
// begins with "unico-sandbox-". The private key is made anew in every run: [PrivateKeyPEM].
const (
	SandboxServiceAccount = "unico-sandbox-account"
	SandboxTenantID       = "00000000-0000-4000-8000-0000000c0de5"
	SandboxWebhookAuth    = "X-Webhook-Key: unico-sandbox-webhook-key"
)

// The operations, as faults, log and scenarios name them.
const (
	OpToken             = "token"
	OpCreateProcess     = "create_process"
	OpFetchProcess      = "fetch_process"
	OpReusableDocuments = "reusable_documents"
)

// Never as a delay means that the result does not come by itself; [Sim.Settle] still brings it.
const Never time.Duration = -1

// Generation chooses whose documents the answers follow; the four disagree (dossier, "How to read it").
type Generation int

// The generations. The second is the seed's and the default.
const (
	G1 Generation = 1 + iota // answers with capitals: Id, Status, Liveness (dossier 11, row 10)
	G2                       // `authenticated` without a status, late alerts and documents, codes as text
	G3                       // `biometryToken`, alerts and documents at once, codes as numbers
	G4                       // everything at once, `liveness` also with a yes, 401 for bad credentials
)

// Defaults, ours: the documents name no time in which a late result comes.
const (
	DefaultDelay        = 2 * time.Second
	DefaultMaxProcesses = 100_000
	// DefaultRate is the documented 10 a second (dossier 10) and a tolerance of two: what a client paces is
	// departures, and two of them may bunch up on the way.
	DefaultRate = 12
)

// Config is what may be chosen. The zero value is the sandbox of the second generation.
type Config struct {
	Generation Generation // zero: G2
	// APIKeys are the keys and what is enabled on each; nil: [SandboxKeys].
	APIKeys map[string][]string
	// PublicKey verifies the assertions; nil: that of [PrivateKeyPEM].
	PublicKey *rsa.PublicKey
	// TokenLifetime is of access tokens; zero: an hour.
	TokenLifetime time.Duration

	WebhookURL    string  // empty: no webhooks, the client polls
	WebhookAuth   string  // "header: value"; empty: SandboxWebhookAuth
	WebhookAlways bool    // also for processes that are final at once, maybe before their POST is answered
	RetryScale    float64 // multiplies the waits between webhook attempts; zero: 1

	Delay       time.Duration // of every late result; zero: DefaultDelay
	ScoreStatus int           // of a process that waits for its score, 1 or 2 (dossier 5.4, note A); zero: 1
	GoneOnError bool          // a process that ended in an error is read as 410 and not as status 5 (11, row 15)

	Rate       int // requests in any second that are answered, tokens not counted; zero: DefaultRate, negative: any
	RetryAfter int // seconds, of a 429; zero: 1

	MaxProcesses int              // the oldest is dropped above it; below 1: DefaultMaxProcesses
	Now          func() time.Time // nil: time.Now
}

// Sim is the simulator. It implements [simulator.Simulator] and is safe for concurrent use.
type Sim struct {
	config  Config
	front   *simulator.Front
	outbox  *simulator.Outbox
	changed simulator.Signal

	token, create, fetch, documents, notFound http.HandlerFunc

	mu       sync.Mutex
	hook     string
	done     bool
	tokens   map[string]time.Time // until when each is valid
	used     map[[32]byte]bool    // assertions
	bad      int                  // failed assertions in a row
	locked   time.Time            // until when the account is
	captures map[[32]byte]int     // how often each arrived
	tries    map[string]int       // creations for a CPF that ended in status 5
	byID     map[string]*process
	order    []*process
	recent   []time.Time // arrivals of the last second
}

var _ simulator.Simulator = (*Sim)(nil)

// New starts a simulator. It must be closed.
func New(config Config) *Sim {
	def(&config.Generation, G2)
	def(&config.TokenLifetime, time.Hour)
	def(&config.WebhookAuth, SandboxWebhookAuth)
	def(&config.Delay, DefaultDelay)
	def(&config.ScoreStatus, 1)
	def(&config.Rate, DefaultRate)
	def(&config.RetryAfter, 1)
	if config.MaxProcesses < 1 {
		config.MaxProcesses = DefaultMaxProcesses
	}
	if config.APIKeys == nil {
		config.APIKeys = SandboxKeys()
	}
	if config.PublicKey == nil {
		config.PublicKey = &sandboxKey().PublicKey
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Sim{
		config: config, hook: config.WebhookURL,
		tokens: make(map[string]time.Time), used: make(map[[32]byte]bool), captures: make(map[[32]byte]int),
		tries: make(map[string]int), byID: make(map[string]*process),
	}
	s.front = simulator.NewFront(simulator.FrontConfig{
		Operations: []string{OpToken, OpCreateProcess, OpFetchProcess, OpReusableDocuments, simulator.WebhookOperation},
		Reveal:     []string{"useCase", "subsidiaryId", "referenceProcessId", "document.purpose", "document.authProcessId", "document.documentId", "processId", "state", "flow", "type"},
		Refusal: func(status int) (string, []byte) {
			return "application/json", s.errorBody(refusal{status, "99999", "Internal failure! Try again later"})
		},
		MaxBody: 16 << 20, // what is too large is Unico's to refuse, with its own words
		Now:     config.Now,
	})
	s.outbox = simulator.NewOutbox(simulator.OutboxConfig{
		Faults: s.front.Faults(), Requests: s.front.Requests(), Now: config.Now, Scale: config.RetryScale,
		// Attempts and waits are agreed at registration (dossier 9); these are ours.
		Retries: []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second},
		Sign: func(h *simulator.Webhook) {
			name, value, ok := strings.Cut(config.WebhookAuth, ":")
			if !ok {
				name, value = "Authorization", config.WebhookAuth
			}
			h.Header.Set(name, strings.TrimSpace(value))
		},
	})
	s.token = s.front.Handle(OpToken, s.serveToken)
	s.create = s.front.Handle(OpCreateProcess, s.paced(s.serveCreate))
	s.fetch = s.front.Handle(OpFetchProcess, s.paced(s.serveFetch))
	s.documents = s.front.Handle(OpReusableDocuments, s.paced(s.serveDocuments))
	s.notFound = s.front.Handle(simulator.NoOperation, serveUnmatched)
	return s
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Name is "unico".
func (*Sim) Name() string { return "unico" }

// Faults returns the faults; their operations are the Op… constants and "webhook".
func (s *Sim) Faults() *simulator.Faults { return s.front.Faults() }

// Requests returns the log of requests and webhooks.
func (s *Sim) Requests() *simulator.RequestLog { return s.front.Requests() }

// SetWebhookURL changes where webhooks go from now on; empty stops them.
func (s *Sim) SetWebhookURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = url
}

// Close stops late results and webhooks, and cuts the requests that hang by a fault.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.done = true
	for _, p := range s.order {
		p.stop()
	}
	s.mu.Unlock()
	s.front.Close()
	s.outbox.Close()
	return nil
}

const (
	tokenPath      = "/oauth2/token"
	collection     = "/processes/v1"
	collectionV2   = "/processes/v2"
	documentsPath  = "/documents/v1"
	privateKeyPath = "/private-key"
	sdkTokenPath   = "/sdk-token"
	heldPath       = "/processes"
	settlePath     = "/settle"
)

// ServeHTTP is the provider's API at its own root, with the token host beside it. It routes on the escaped path
// by hand: a mux would redirect.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch path {
	case tokenPath:
		if r.Method == http.MethodPost {
			s.token(w, r)
			return
		}
	case collection:
		if r.Method == http.MethodPost {
			s.create(w, r)
			return
		}
	case documentsPath:
		if r.Method == http.MethodGet {
			s.documents(w, r)
			return
		}
	case privateKeyPath, sdkTokenPath, heldPath, settlePath:
		s.serveControl(w, r, path)
		return
	default:
		version, escaped, ok := strings.Cut(path[min(len(path), len("/processes/")):], "/")
		id, err := url.PathUnescape(escaped)
		if !strings.HasPrefix(path, "/processes/") || !ok || err != nil || strings.Contains(escaped, "/") || version != "v1" && version != "v2" {
			break
		}
		r.SetPathValue("id", id)
		r.SetPathValue("version", version)
		if r.Method == http.MethodGet {
			s.fetch(w, r)
			return
		}
	}
	s.notFound(w, r)
}

func serveUnmatched(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.EscapedPath(); {
	case path == tokenPath, path == collection:
		simulator.MethodNotAllowed(w, http.MethodPost)
	case path == documentsPath, r.PathValue("id") != "":
		simulator.MethodNotAllowed(w, http.MethodGet)
	default:
		simulator.WriteError(w, http.StatusNotFound, "Not found", "there is no such endpoint in this simulator")
	}
}

// paced answers 429 above the tenant's rate (dossier 10).
func (s *Sim) paced(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.admit(s.config.Now()) {
			w.Header().Set("Retry-After", itoa(s.config.RetryAfter))
			s.refuse(w, refusal{http.StatusTooManyRequests, "42900", "Too many requests"})
			return
		}
		next(w, r)
	}
}

func (s *Sim) admit(now time.Time) bool {
	if s.config.Rate < 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.recent) > 0 && now.Sub(s.recent[0]) >= time.Second {
		s.recent = s.recent[1:]
	}
	if len(s.recent) >= s.config.Rate {
		return false
	}
	s.recent = append(s.recent, now)
	return true
}
