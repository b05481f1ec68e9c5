// Package leapsim simulates Leap's RaaS partner API as far as prospects need it: register a user, look one up. It
// follows the dossier of the provider (leap-finhub.md part A, "dossier" in the comments here); where that is silent
// the choice is marked "ours", and that is most of what a status means: Leap publishes its words and not their order.
//
// The life of a user (dossier A4; the order is ours):
//
//	register ──> OnProcess ──> UpgradeInProgress ──> AccountUpgradeInProgress ──> Completed
//	                       └─> UpgradeSoftFailed + detail ──correction──> OnProcess …
//	                       └─> UpgradeFailed + OfacFailed | ComplianceBlocked | None
//	                       └─> UpgradePending | OnProcess                          for ever
//
// What becomes of a user is decided by a magic first name or by the last six digits of the phone; see magic.go, or
// Scenarios. Statuses change by themselves after a delay, or with every look-up, as configured.
//
// Two paths are not the provider's and exist for whoever drives the simulator: POST /decide and GET /users.
package leapsim

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The credentials of the sandbox, all ours. They are public; a configuration for production refuses whatever begins
// with "leap-sandbox-".
const (
	SandboxAPIKey = "leap-sandbox-partner-key"
	// SandboxUnscopedAPIKey is a key without the scope Partner: it is answered 403 (dossier A1).
	SandboxUnscopedAPIKey = "leap-sandbox-unscoped-key"
)

// The operations, as faults, log and scenarios name them.
const (
	OpRegisterProspect = "register_prospect"
	OpFetchProspect    = "fetch_prospect"
)

// Defaults, ours: Leap gives no time for a check (dossier A11.10), and a sandbox is there to be looked at.
const (
	DefaultStepDelay = 2 * time.Second
	DefaultMaxUsers  = 200_000
)

// Config is what may be chosen. The zero value is a sandbox.
type Config struct {
	APIKey string // empty: SandboxAPIKey

	// StepDelay is how long a user keeps a status that another one follows; zero: DefaultStepDelay.
	StepDelay time.Duration
	// StepEveryLook makes a status change with every look-up instead, which shows every status to a client that polls.
	StepEveryLook bool

	// Switches for what the documents contradict or leave open (dossier A11).
	DuplicateStatus int  // of a repeated phone or e-mail (A11.8); zero: 409
	NoCorrections   bool // a repeated registration is a duplicate even after a soft failure (A5: no update is documented)
	NoStatus        bool // both answers hold the userId alone, as for some tenants (A3)

	MaxUsers int              // the oldest is dropped above it; below 1: DefaultMaxUsers
	Now      func() time.Time // nil: time.Now
}

// Sim is the simulator. It implements [simulator.Simulator] and is safe for concurrent use.
type Sim struct {
	config  Config
	front   *simulator.Front
	changed simulator.Signal

	register, fetch, notFound http.HandlerFunc

	mu    sync.Mutex
	users users
}

var _ simulator.Simulator = (*Sim)(nil)

// New starts a simulator. It must be closed.
func New(config Config) *Sim {
	def(&config.APIKey, SandboxAPIKey)
	def(&config.StepDelay, DefaultStepDelay)
	def(&config.DuplicateStatus, http.StatusConflict)
	if config.MaxUsers < 1 {
		config.MaxUsers = DefaultMaxUsers
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Sim{config: config, users: newUsers(config.MaxUsers)}
	s.front = simulator.NewFront(simulator.FrontConfig{
		Operations: []string{OpRegisterProspect, OpFetchProspect},
		Reveal:     []string{"countryCode", "lang"},
		Refusal: func(status int) (string, []byte) {
			return "application/json", fmt.Appendf(nil, `{"reason":%q,"code":"SIMULATED_FAULT"}`, http.StatusText(status))
		},
		Now: config.Now,
	})
	s.register = s.front.Handle(OpRegisterProspect, s.serveRegister)
	s.fetch = s.front.Handle(OpFetchProspect, s.serveFetch)
	s.notFound = s.front.Handle(simulator.NoOperation, serveUnmatched)
	return s
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Name is "leap".
func (*Sim) Name() string { return "leap" }

// Faults returns the faults; their operations are the Op… constants.
func (s *Sim) Faults() *simulator.Faults { return s.front.Faults() }

// Requests returns the log of requests.
func (s *Sim) Requests() *simulator.RequestLog { return s.front.Requests() }

// Close cuts the requests that hang by a fault. Nothing else runs by itself: a status is worked out when it is asked for.
func (s *Sim) Close() error {
	s.front.Close()
	return nil
}

// The paths of dossier A0.
const (
	registerPath = "/v1/auth/register-user-v2"
	lookUpPath   = "/v1/auth/get-user-token-v2"
)

// ServeHTTP is the provider's API at its own root.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == registerPath && r.Method == http.MethodPost:
		s.register(w, r)
	case path == lookUpPath && r.Method == http.MethodPost:
		s.fetch(w, r)
	case path == "/decide", path == "/users":
		s.serveControl(w, r, path)
	default:
		s.notFound(w, r)
	}
}

// serveUnmatched answers 405 on a known path and 404 on any other. The rest of Leap's API, such as money and
// contacts, is not simulated.
func serveUnmatched(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == registerPath || r.URL.Path == lookUpPath {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "only POST is allowed here", "METHOD_NOT_ALLOWED")
		return
	}
	refuse(w, http.StatusNotFound, "there is no such endpoint in this simulator", "ROUTE_NOT_FOUND")
}

// refuse answers in the shape of dossier A7. Reasons never repeat what was sent: it may be personal.
func refuse(w http.ResponseWriter, status int, reason, code string) {
	simulator.WriteJSON(w, status, struct {
		Reason string `json:"reason"`
		Code   string `json:"code,omitempty"`
	}{reason, code})
}

// authorized checks the key (dossier A1): 401 without a good one, 403 without the scope. The codes are ours.
func (s *Sim) authorized(w http.ResponseWriter, r *http.Request) bool {
	keys := r.Header.Values("api_key") // the canonical form of the name is Api_key, which is what arrives in the map
	switch {
	case len(keys) == 1 && keys[0] == s.config.APIKey:
		return true
	case len(keys) == 1 && keys[0] == SandboxUnscopedAPIKey:
		refuse(w, http.StatusForbidden, "the API key lacks the scope Partner", "FORBIDDEN")
	default:
		refuse(w, http.StatusUnauthorized, "the header api_key must hold the API key", "UNAUTHORIZED")
	}
	return false
}

// verdict is the answer to both operations (dossier A2.3, A3).
type verdict struct {
	UserID       string `json:"userId"`
	Status       string `json:"status,omitempty"`
	StatusDetail string `json:"statusDetail,omitempty"`
}

func (s *Sim) answer(w http.ResponseWriter, u User) {
	v := verdict{UserID: u.UserID}
	if !s.config.NoStatus {
		v.Status, v.StatusDetail = u.Status, u.StatusDetail
	}
	simulator.WriteJSON(w, http.StatusOK, v)
}

// serveRegister is POST /auth/register-user-v2 (dossier A2).
func (s *Sim) serveRegister(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	p, wrong := readRegistration(simulator.Body(r), s.config.Now())
	if wrong == "" {
		wrong = p.magicRefusal()
	}
	if wrong != "" {
		refuse(w, http.StatusBadRequest, wrong, "INVALID_REQUEST")
		return
	}
	u, duplicate := s.add(p)
	if duplicate != "" {
		refuse(w, s.config.DuplicateStatus, duplicate+" is already registered", "USER_ALREADY_EXISTS")
		return
	}
	s.answer(w, u)
}

// serveFetch is POST /auth/get-user-token-v2 (dossier A3).
func (s *Sim) serveFetch(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	phone, email, wrong := readIdentity(simulator.Body(r))
	if wrong != "" {
		refuse(w, http.StatusBadRequest, wrong, "INVALID_REQUEST")
		return
	}
	u, ok := s.look(phone, email)
	if !ok {
		refuse(w, http.StatusNotFound, "User not found", "USER_NOT_FOUND")
		return
	}
	s.answer(w, u)
}
