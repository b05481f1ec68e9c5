// Package qitechsim simulates the natural person API of QI Tech CaaS: submit, read, report a change of the
// client's status, and the webhook of a late outcome; and its face API: upload, register, read by key or by
// document (faces.go). It follows the dossier of the provider
// (qitech-openco.md, "dossier" in the comments here); where that is silent the choice is marked "ours".
//
// The life of an analysis (dossier A.6):
//
//	POST ──> automatically_approved | automatically_reproved | not_analysed      final, no webhook
//	     └─> in_manual_analysis ──> manually_approved | manually_reproved        later, with a webhook
//	     └─> pending | in_queue ──> automatically_approved                       later, with a webhook (ours)
//	     └─> automatically_challenged                                            a word clients may not know
//
// What an analysis becomes is decided by magic values: an e-mail address at kycgate.test, else the first
// digit of the document; see magic.go, or Scenarios. [Sim.Decide] settles an open one by hand.
//
// Two paths are not the provider's and exist for whoever drives the simulator: POST /decide and GET /analyses.
package qitechsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The credentials of the sandbox, all ours. They are public; a configuration for production refuses whatever
// begins with "qitech-sandbox-".
const (
	SandboxAPIKey     = "qitech-sandbox-onboarding-key"
	SandboxFaceAPIKey = "qitech-sandbox-face-key"
	SandboxWebhookKey = "qitech-sandbox-signature-key"
	// SandboxDisabledAPIKey is a key that exists and may not use this endpoint: it is answered 403 (dossier A.8).
	SandboxDisabledAPIKey = "qitech-sandbox-disabled-key"
)

// The operations, as faults, log and scenarios name them.
const (
	OpAnalyzePerson       = "analyze_person"
	OpFetchPersonAnalysis = "fetch_person_analysis"
	OpUpdateClientStatus  = "update_client_status"
	OpUploadFaceImage     = "upload_face_image"
	OpRegisterFace        = "register_face"
	OpFetchFace           = "fetch_face"
	OpFetchFaceByDocument = "fetch_face_by_document"
)

// Never as a delay means that the outcome does not come by itself; [Sim.Decide] still brings it.
const Never time.Duration = -1

// Defaults, ours: the dossier has no delay for onboarding (D.9), and a minute, as in credit analysis, is too
// long to wait for in a sandbox.
const (
	DefaultManualDelay  = 3 * time.Second
	DefaultPendingDelay = 10 * time.Second
	DefaultMaxAnalyses  = 200_000
)

// maxStoredBytes bounds the submitted documents that are held, beside MaxAnalyses: 200,000 bodies of the
// greatest size would be 200 GB.
const maxStoredBytes = 512 << 20

// Config is what may be chosen. The zero value is the sandbox of dossier E.
type Config struct {
	APIKey     string // empty: SandboxAPIKey
	FaceAPIKey string // of the face API; empty: SandboxFaceAPIKey
	WebhookURL string // empty: no webhooks, the client polls
	WebhookKey string // empty: SandboxWebhookKey

	ManualDelay  time.Duration // of in_manual_analysis and in_queue; zero: DefaultManualDelay
	PendingDelay time.Duration // of pending; zero: DefaultPendingDelay
	RetryScale   float64       // multiplies the waits between webhook attempts; zero: 1

	// Switches for what the documents contradict or leave open (dossier D and E).
	ZaigDigits      bool // the older table of first digits (A.11)
	WebhookPUT      bool // webhooks by PUT, as in the older text, instead of POST (A.10)
	OldestFirst     bool // status events oldest first (A.5)
	SuccessStatus   int  // of POST; zero: 200
	DuplicateStatus int  // of a repeated id, 409 or 429 (A.9); zero: 409
	BadKeyStatus    int  // of an unknown key, 401 or 403 (A.8); zero: 401
	// DuplicateFace is what a second registration of a document does (D.6); empty: DuplicateFaceNewKey.
	DuplicateFace DuplicateFace
	// UploadedImageKeys takes only image keys that were uploaded here. A key made by the provider's SDK is not.
	UploadedImageKeys bool

	MaxAnalyses int              // the oldest is dropped above it; below 1: DefaultMaxAnalyses
	Now         func() time.Time // nil: time.Now
}

// Sim is the simulator. It implements [simulator.Simulator] and is safe for concurrent use.
type Sim struct {
	config  Config
	front   *simulator.Front
	outbox  *simulator.Outbox
	changed simulator.Signal

	analyze, fetch, update, notFound                 http.HandlerFunc
	upload, registerFace, fetchFace, fetchByDocument http.HandlerFunc

	mu    sync.Mutex
	store store
	faces faceStore
	hook  string // WebhookURL
	done  bool
}

var _ simulator.Simulator = (*Sim)(nil)

// New starts a simulator. It must be closed.
func New(config Config) *Sim {
	def(&config.APIKey, SandboxAPIKey)
	def(&config.FaceAPIKey, SandboxFaceAPIKey)
	def(&config.WebhookKey, SandboxWebhookKey)
	def(&config.ManualDelay, DefaultManualDelay)
	def(&config.PendingDelay, DefaultPendingDelay)
	def(&config.SuccessStatus, http.StatusOK)
	def(&config.DuplicateStatus, http.StatusConflict)
	def(&config.BadKeyStatus, http.StatusUnauthorized)
	def(&config.DuplicateFace, DuplicateFaceNewKey)
	if config.MaxAnalyses < 1 {
		config.MaxAnalyses = DefaultMaxAnalyses
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Sim{config: config, hook: config.WebhookURL, store: newStore(config.MaxAnalyses, maxStoredBytes), faces: newFaceStore()}
	s.front = simulator.NewFront(simulator.FrontConfig{
		Operations: []string{OpAnalyzePerson, OpFetchPersonAnalysis, OpUpdateClientStatus,
			OpUploadFaceImage, OpRegisterFace, OpFetchFace, OpFetchFaceByDocument, simulator.WebhookOperation},
		MaxBody: maxBody,
		Reveal: []string{"id", "registration_id", "registration_date", "natural_person_id", "analysis_status", "client_status", "event_date", "reason",
			"emails.validation_type", "phones.type", "phones.validation_type", "address.validation_type", "face.validation_type", "source.channel", "source.platform", "analyze", "image_key"},
		Now: config.Now,
	})
	s.outbox = s.newOutbox()
	s.analyze = s.front.Handle(OpAnalyzePerson, s.serveAnalyze)
	s.fetch = s.front.Handle(OpFetchPersonAnalysis, s.serveFetch)
	s.update = s.front.Handle(OpUpdateClientStatus, s.serveUpdate)
	s.upload = s.front.Handle(OpUploadFaceImage, s.serveUpload)
	s.registerFace = s.front.Handle(OpRegisterFace, s.serveRegisterFace)
	s.fetchFace = s.front.Handle(OpFetchFace, s.serveFetchFace)
	s.fetchByDocument = s.front.Handle(OpFetchFaceByDocument, s.serveFetchFaceByDocument)
	s.notFound = s.front.Handle(simulator.NoOperation, serveUnmatched)
	return s
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Name is "qitech".
func (*Sim) Name() string { return "qitech" }

// Faults returns the faults; their operations are the Op… constants and "webhook".
func (s *Sim) Faults() *simulator.Faults { return s.front.Faults() }

// Requests returns the log of requests and webhooks.
func (s *Sim) Requests() *simulator.RequestLog { return s.front.Requests() }

// SetWebhookURL changes where webhooks go from now on; empty stops them. A gateway that listens on a free
// port is only known after the simulator it talks to.
func (s *Sim) SetWebhookURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = url
}

// Close stops delayed outcomes and webhooks, and cuts the requests that hang by a fault.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.done = true
	s.store.stopTimers()
	s.mu.Unlock()
	s.front.Close()
	s.outbox.Close()
	return nil
}

// collection is the path of dossier A.2, rows 1, 2 and 4.
const collection = "/onboarding/natural_person"

// ServeHTTP is the provider's API at its own root. It routes on the escaped path by hand: an id may hold an
// encoded slash or be "..", and a mux would redirect.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch path {
	case collection:
		if r.Method == http.MethodPost {
			s.analyze(w, r)
			return
		}
	case "/decide", "/analyses":
		s.serveControl(w, r, path)
		return
	case imageCollection, faceCollection:
		if r.Method == http.MethodPost {
			map[string]http.HandlerFunc{imageCollection: s.upload, faceCollection: s.registerFace}[path](w, r)
			return
		}
	default:
		if s.serveFaces(w, r, path) {
			return
		}
		escaped, ok := strings.CutPrefix(path, collection+"/")
		id, err := url.PathUnescape(escaped)
		if !ok || err != nil || id == "" || strings.Contains(escaped, "/") {
			break
		}
		r.SetPathValue("id", id)
		switch r.Method {
		case http.MethodGet:
			s.fetch(w, r)
			return
		case http.MethodPut:
			s.update(w, r)
			return
		}
	}
	s.notFound(w, r)
}

// serveUnmatched answers 405 on a known path and 404 on any other (dossier A.8). The rest of QI Tech's API,
// such as the PDF, legal persons and face validation, is not simulated.
func serveUnmatched(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch {
	case path == collection, path == imageCollection, path == faceCollection:
		simulator.MethodNotAllowed(w, http.MethodPost)
	case strings.HasPrefix(path, faceCollection+"/"):
		simulator.MethodNotAllowed(w, http.MethodGet)
	case r.PathValue("id") != "":
		simulator.MethodNotAllowed(w, http.MethodGet, http.MethodPut)
	default:
		simulator.WriteError(w, http.StatusNotFound, "Not found", "there is no such endpoint in this simulator")
	}
}

// authorized checks the bare key of the onboarding API; a word such as "Bearer" before it makes it another key
// (dossier A.1).
func (s *Sim) authorized(w http.ResponseWriter, r *http.Request) bool {
	return s.hasKey(w, r, s.config.APIKey, s.config.FaceAPIKey)
}

// authorizedForFaces asks for the key of the face API. A key of the other product is known and not enabled.
func (s *Sim) authorizedForFaces(w http.ResponseWriter, r *http.Request) bool {
	return s.hasKey(w, r, s.config.FaceAPIKey, s.config.APIKey)
}

func (s *Sim) hasKey(w http.ResponseWriter, r *http.Request, key, ofOtherProduct string) bool {
	keys := r.Header.Values("Authorization")
	switch {
	case len(keys) == 1 && keys[0] == key:
		return true
	case len(keys) == 1 && (keys[0] == SandboxDisabledAPIKey || keys[0] == ofOtherProduct):
		simulator.WriteError(w, http.StatusForbidden, "Forbidden", "this endpoint is not enabled for the API key")
	default:
		simulator.WriteError(w, s.config.BadKeyStatus, "Invalid ApiKey", "the header Authorization must hold the API key and nothing else")
	}
	return false
}

// decodeObject reads a body. What is not JSON is 406 and not 400 (dossier A.8); JSON that is no object is a
// malformed request (ours).
func decodeObject(w http.ResponseWriter, body []byte) (map[string]any, bool) {
	value, ok := decodeJSON(body)
	if !ok {
		simulator.WriteError(w, http.StatusNotAcceptable, "Invalid JSON", "the body is not valid JSON")
		return nil, false
	}
	fields, ok := value.(map[string]any)
	if !ok {
		badRequest(w, "body", "must be an object")
	}
	return fields, ok
}

func badRequest(w http.ResponseWriter, field, text string) {
	simulator.WriteError(w, http.StatusBadRequest, invalidRequest, field+": "+text)
}

// Titles that a third party's tests show (dossier A.8).
const (
	invalidRequest   = "Invalid request"
	duplicatedID     = "Duplicated external_id"
	registerNotFound = "Register not found"
)

// serveAnalyze is POST /onboarding/natural_person (dossier A.2 row 1, A.3, A.4).
func (s *Sim) serveAnalyze(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	analyze := true // ours when the parameter is absent: its default is not documented (D.2)
	if values, ok := r.URL.Query()["analyze"]; ok {
		switch {
		case len(values) == 1 && values[0] == "true":
		case len(values) == 1 && values[0] == "false":
			analyze = false
		default:
			badRequest(w, "analyze", "must be true or false")
			return
		}
	}
	body := simulator.Body(r)
	fields, ok := decodeObject(w, body)
	if !ok {
		return
	}
	p, wrong := readPerson(fields)
	if wrong == nil {
		wrong = p.magicRefusal()
	}
	if wrong != nil {
		badRequest(w, wrong.path, wrong.text)
		return
	}
	f := fate{status: statusNotAnalysed}
	if analyze {
		f = s.fate(p)
	}
	a, created := s.create(p, submitted(body, fields), f)
	if !created {
		simulator.WriteError(w, s.config.DuplicateStatus, duplicatedID, "id: was already processed")
		return
	}
	simulator.WriteJSON(w, s.config.SuccessStatus, a)
}

// serveFetch is GET /onboarding/natural_person/{id} (dossier A.2 row 2, A.5).
func (s *Sim) serveFetch(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	document, ok := s.read(r.PathValue("id"))
	if !ok {
		notFound(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document) // into memory: see Front.Handle
}

func notFound(w http.ResponseWriter) {
	simulator.WriteError(w, http.StatusNotFound, registerNotFound, "id: is unknown")
}

// serveUpdate is PUT /onboarding/natural_person/{id} (dossier A.2 row 4). The documents do not show its
// answer; ours repeats what is stored.
func (s *Sim) serveUpdate(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	fields, ok := decodeObject(w, simulator.Body(r))
	if !ok {
		return
	}
	status, date, wrong := readClientStatus(fields)
	if wrong != nil {
		badRequest(w, wrong.path, wrong.text)
		return
	}
	id := r.PathValue("id")
	if !s.setClientStatus(id, status, date) {
		notFound(w)
		return
	}
	simulator.WriteJSON(w, http.StatusOK, struct {
		ID           string `json:"id"`
		ClientStatus string `json:"client_status"`
		EventDate    string `json:"event_date"`
	}{id, status, date})
}

// submitted returns what the client sent, compact and without the closing brace, for read to put QI Tech's
// own fields behind it. A client that sends such a field itself must not be able to answer for QI Tech.
func submitted(body []byte, fields map[string]any) []byte {
	own := false
	for _, name := range ownFields {
		if _, sent := fields[name]; sent {
			delete(fields, name)
			own = true
		}
	}
	if own {
		// Numbers are json.Number and keep their text. The values came out of JSON, so they go back in.
		body, _ = json.Marshal(fields)
	}
	var compact bytes.Buffer
	compact.Grow(len(body))
	_ = json.Compact(&compact, body) // it was valid
	return bytes.Clone(compact.Bytes()[:compact.Len()-1])
}
