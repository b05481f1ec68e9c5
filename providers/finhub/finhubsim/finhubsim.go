// Package finhubsim simulates the individual customers of FinHub: admin sessions, the categorization hierarchy, registration,
// verification, consents and activation. It follows part B of the provider's dossier (leap-finhub.md, "dossier" in the comments
// here); where that is silent the choice is marked "ours".
//
// The life of a customer (dossier B10):
//
//	register ──> verification PENDING_DOCUMENTS ──> APPROVED ──┐
//	         └─> consents terms, privacy, data-processing ─────┴──> activation with the code ──> ACTIVE
//
// A verification of TENANT_VERIFIED is approved by itself after a while, as nine of ten are (dossier B13, row 20); one of
// POWER_TENANT_VERIFIED needs its documents first and then [Sim.Decide] or the documented approval. Which of the documentation's
// generations is spoken, and in which of five shapes the hierarchy comes, are switches.
//
// Three paths are not the provider's and exist for whoever drives the simulator: POST /decide, PUT /settings and GET /customers.
package finhubsim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The credentials of the sandbox, all ours. They are public; a configuration for production refuses whatever begins with
// "finhub-sandbox-".
const (
	SandboxToken        = "finhub-sandbox-token"
	SandboxOrganization = "finhub-sandbox-organization"
	SandboxUser         = "finhub-sandbox-user"
	SandboxUsername     = "admin@finhub.kycgate.test"
	SandboxPassword     = "finhub-sandbox-password"
	SandboxTenantKey    = "finhub-sandbox-tenant-key"
	SandboxTenantSecret = "finhub-sandbox-tenant-secret"
	// DefaultActivationCode is what the customer would find in an e-mail; the example of dossier B8.
	DefaultActivationCode = "ACTIVATION_CODE_MED_12345"
)

// The operations, as faults, log and scenarios name them.
const (
	OpAdminSession      = "admin_session"
	OpHierarchy         = "fetch_category_hierarchy"
	OpRegister          = "register_customer"
	OpFind              = "find_customer"
	OpCustomerSession   = "customer_session"
	OpStartVerification = "start_verification"
	OpUploadDocument    = "upload_document"
	OpApprove           = "approve_verification"
	OpConsent           = "accept_consent"
	OpCheck             = "check_activation"
	OpActivate          = "activate_customer"
)

// Shape is how the hierarchy is written (dossier B2.1).
type Shape string

// The five shapes.
const (
	S1 Shape = "S1" // bare, a map by id, features inside
	S2 Shape = "S2" // bare, a map by code, features beside
	S3 Shape = "S3" // wrapped, a map by code, features inside and beside
	S4 Shape = "S4" // wrapped, categories of two fields, features beside
	S5 Shape = "S5" // wrapped, a list
)

// Generation is which of the documentation's generations is spoken (dossier, source legend).
type Generation string

// The generations that differ in their answers.
const (
	G3 Generation = "G3" // the seed's: {"data": …}
	G4 Generation = "G4" // {"success": true, "data": …}
	G6 Generation = "G6" // {"code": 200, "message": …, "data": …}; acceptances are PENDING, activations empty
)

// Never as a delay means that a verification is not decided by itself; [Sim.Decide] still does.
const Never time.Duration = -1

// DefaultVerificationDelay is ours: a sandbox does not wait for days.
const DefaultVerificationDelay = 3 * time.Second

// Config is what may be chosen. The zero value is the sandbox.
type Config struct {
	Token      string     // a fixed bearer token; empty: SandboxToken
	Shape      Shape      // empty: S1
	Generation Generation // empty: G3
	Bare       bool       // answers at the root instead of in `data` (dossier B1.4)
	// NoSearch takes the look-up by e-mail address away, which FinHub does not document.
	NoSearch bool
	// VerificationDelay until a verification of TENANT_VERIFIED is decided; zero: DefaultVerificationDelay.
	VerificationDelay time.Duration
	ActivationCode    string        // empty: DefaultActivationCode
	SessionLife       time.Duration // of admin sessions; zero: an hour
	Now               func() time.Time
}

// Sim is the simulator. It implements [simulator.Simulator] and is safe for concurrent use.
type Sim struct {
	config   Config
	front    *simulator.Front
	changed  simulator.Signal
	handlers map[string]http.HandlerFunc

	mu         sync.Mutex
	settings   settings
	customers  map[string]*customer
	byEmail    map[string]*customer // by tenant and address
	verifying  map[string]*customer // by the verification's id
	sessions   map[string]adminSession
	lockouts   map[string]*lockout
	registered int // well-formed registrations that arrived, refused duplicates included
	serial     int
	done       bool
}

type settings struct {
	Shape      Shape      `json:"shape"`
	Generation Generation `json:"generation"`
}

type adminSession struct {
	tenant string
	ends   time.Time
}

var _ simulator.Simulator = (*Sim)(nil)

// New starts a simulator. It must be closed.
func New(config Config) *Sim {
	def(&config.Token, SandboxToken)
	def(&config.Shape, S1)
	def(&config.Generation, G3)
	def(&config.VerificationDelay, DefaultVerificationDelay)
	def(&config.ActivationCode, DefaultActivationCode)
	def(&config.SessionLife, time.Hour)
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Sim{
		config: config, settings: settings{config.Shape, config.Generation},
		customers: make(map[string]*customer), byEmail: make(map[string]*customer), verifying: make(map[string]*customer),
		sessions: make(map[string]adminSession), lockouts: make(map[string]*lockout),
	}
	operations := map[string]func(http.ResponseWriter, *http.Request, string){
		OpHierarchy: s.serveHierarchy, OpRegister: s.serveRegister, OpFind: s.serveFind, OpStartVerification: s.serveStartVerification,
		OpUploadDocument: s.serveUploadDocument, OpApprove: s.serveApprove, OpConsent: s.serveConsent, OpCheck: s.serveCheck, OpActivate: s.serveActivate,
		OpCustomerSession: s.serveCustomerSession,
	}
	names := []string{OpAdminSession}
	for name := range operations {
		names = append(names, name)
	}
	slices.Sort(names)
	s.front = simulator.NewFront(simulator.FrontConfig{
		Operations: names,
		Reveal: []string{"roleIds", "customerCategory.id", "customerCategory.name", "customerId", "requestedLevel", "type", "accepted", "version", "documentType",
			"individualCustomer.categorization.id", "individualCustomer.categorization.name", "individualCustomer.categorization.categoryFeatureRelations.feature.code",
			"individualCustomer.categorization.categoryFeatureRelations.parametrization.name", "individualCustomer.categorization.categoryFeatureRelations.parametrization.value"},
		Refusal: func(status int) (string, []byte) {
			body, _ := json.Marshal(refusal{Code: status, Message: http.StatusText(status), Data: map[string]string{"error": "a fault of the simulator"}})
			return "application/json", body
		},
		MaxBody: 16 << 20, // a document of 10 MB in base64 (dossier B6)
		Now:     config.Now,
	})
	s.handlers = map[string]http.HandlerFunc{
		OpAdminSession:        s.front.Handle(OpAdminSession, s.serveAdminSession),
		simulator.NoOperation: s.front.Handle(simulator.NoOperation, serveUnmatched),
	}
	for name, serve := range operations {
		s.handlers[name] = s.front.Handle(name, func(w http.ResponseWriter, r *http.Request) {
			if tenant, ok := s.authorized(w, r); ok {
				serve(w, r, tenant)
			}
		})
	}
	return s
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Name is "finhub".
func (*Sim) Name() string { return "finhub" }

// Faults returns the faults; their operations are the Op… constants.
func (s *Sim) Faults() *simulator.Faults { return s.front.Faults() }

// Requests returns the log of requests.
func (s *Sim) Requests() *simulator.RequestLog { return s.front.Requests() }

// SetShape changes how the hierarchy is written from now on.
func (s *Sim) SetShape(shape Shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.Shape = shape
}

// Close stops delayed decisions, and cuts the requests that hang by a fault.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.done = true
	for _, c := range s.customers {
		c.stop()
	}
	s.mu.Unlock()
	s.front.Close()
	return nil
}

const prefix = "/api/v2.1/"

// route finds the operation of a request and puts the ids of its path where the handlers look for them.
func route(r *http.Request) string {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok {
		return simulator.NoOperation
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i], _ = url.PathUnescape(p) // EscapedPath was made from a path that could be unescaped
	}
	match := func(method, pattern string) bool {
		want := strings.Split(pattern, "/")
		if r.Method != method || len(want) != len(parts) {
			return false
		}
		for i, w := range want {
			if name, variable := strings.CutPrefix(w, ":"); variable && parts[i] != "" {
				r.SetPathValue(name, parts[i])
			} else if w != parts[i] {
				return false
			}
		}
		return true
	}
	for _, known := range []struct{ method, pattern, operation string }{
		{"POST", "admin/organization/:organization/users/:id/sessions", OpAdminSession},
		{"GET", "customers/individual/categorization/hierarchy/:tenant", OpHierarchy},
		{"GET", "customer/individual/categorization/hierarchy/:tenant", OpHierarchy},
		{"GET", "customer/categorization/tree", OpHierarchy},
		{"POST", "customers/individual/register", OpRegister},
		{"POST", "customer/individual/registration", OpRegister},
		{"POST", "customer/individual/search", OpFind},
		{"POST", "customer/individual/:id/users/:user/sessions", OpCustomerSession},
		{"POST", "verifications", OpStartVerification},
		{"POST", "verifications/:id/documents", OpUploadDocument},
		{"POST", "verifications/:id/approve", OpApprove},
		{"POST", "customer/individual/:id/consents/:consent", OpConsent},
		{"GET", "customer/individual/:id/owner/:owner/activation/check", OpCheck},
		{"POST", "customer/individual/:id/activation", OpActivate},
	} {
		if match(known.method, known.pattern) {
			return known.operation
		}
	}
	return simulator.NoOperation
}

// ServeHTTP is the provider's API at its own root.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/decide", "/settings", "/customers":
		s.serveControl(w, r)
	default:
		s.handlers[route(r)](w, r)
	}
}

func serveUnmatched(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusNotFound, "Resource not found", nil)
}

// refusal is an error in the general format (dossier B11).
type refusal struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

func refuse(w http.ResponseWriter, status int, message string, data any) {
	simulator.WriteJSON(w, status, refusal{status, message, data})
}

// answer wraps what an operation answers as the generation does (dossier B1.4).
func (s *Sim) answer(w http.ResponseWriter, message string, data map[string]any) {
	s.mu.Lock()
	generation := s.settings.Generation
	s.mu.Unlock()
	var body any = data
	if !s.config.Bare {
		switch generation {
		case G4:
			body = map[string]any{"success": true, "data": data}
		case G6:
			body = map[string]any{"code": 200, "message": message, "data": data}
		default:
			body = map[string]any{"data": data}
		}
	}
	simulator.WriteJSON(w, http.StatusOK, body)
}

// authorized checks the token and the tenant: a session's token is good for the tenant it was opened for (dossier B1.3).
func (s *Sim) authorized(w http.ResponseWriter, r *http.Request) (tenant string, ok bool) {
	tenant = r.Header.Get("X-Tenant-ID")
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	session, opened := s.sessions[token]
	s.mu.Unlock()
	switch {
	case tenant == "":
		refuse(w, http.StatusBadRequest, "Request validation failed", validation("X-Tenant-ID", "X-Tenant-ID header is required"))
	case !bearer || token != s.config.Token && (!opened || !s.config.Now().Before(session.ends)):
		refuse(w, http.StatusUnauthorized, "Invalid or expired token", nil)
	case opened && session.tenant != tenant:
		refuse(w, http.StatusForbidden, "Tenant access denied or categorization not available", map[string]any{})
	default:
		return tenant, true
	}
	return "", false
}

// validation is the body of a 400 about fields (dossier B3.4): pairs of field and message.
func validation(pairs ...string) any {
	type problem struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	}
	list := []problem{}
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, problem{pairs[i], pairs[i+1]})
	}
	return map[string]any{"errors": list}
}

// decode reads a body.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.Unmarshal(simulator.Body(r), into); err != nil {
		refuse(w, http.StatusBadRequest, "Request validation failed", validation("body", "must be a JSON object of the documented form"))
		return false
	}
	return true
}
