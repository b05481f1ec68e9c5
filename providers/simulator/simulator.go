package simulator

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Header is on every answer of a simulator, with the value "true". A gateway in production refuses to talk
// to an upstream that sends it.
const Header = "Kycgate-Simulator"

// Simulator stands in for one provider. Its ServeHTTP is the provider's API at its own root, without the
// prefix under which [New] serves it. Everything it answers MUST carry [Header]; operations wrapped in
// [Front.Handle] do.
type Simulator interface {
	http.Handler

	Name() string // as in configuration and in the path: "qitech"
	Scenarios() []Scenario
	Faults() *Faults
	Requests() *RequestLog
	// Close ends what runs by itself: delayed outcomes, webhooks, and requests that hang by a fault. No
	// goroutine of the simulator is left when it returns, except those that serve a request.
	Close() error
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// New serves several simulators beside each other, each under /{name}, with the endpoints of contract 2b.
// It panics on a name that is malformed or taken: the list of simulators is written in code.
func New(sims ...Simulator) http.Handler {
	m := &mux{sims: sims, byName: make(map[string]*mounted, len(sims))}
	for _, s := range sims {
		name := s.Name()
		if !nameForm.MatchString(name) || name == "scenarios" || m.byName[name] != nil {
			panic(fmt.Sprintf("simulator: the name %q is malformed or taken", name))
		}
		m.byName[name] = &mounted{Simulator: s, api: http.StripPrefix("/"+name, s)}
		m.names = append(m.names, "/"+name)
	}
	return m
}

type mounted struct {
	Simulator
	api http.Handler
}

// mux routes by hand. http.ServeMux would answer 301 to a path that is not clean, and the id of a provider's
// resource may well be ".." or hold two slashes.
type mux struct {
	sims   []Simulator
	byName map[string]*mounted
	names  []string
}

func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, deeper := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	sim := m.byName[name]
	var log *RequestLog
	if sim != nil {
		log = sim.Requests()
	}
	if refuseProduction(w, r, log, time.Now()) {
		return
	}
	switch {
	case name == "scenarios" && !deeper:
		serveScenarios(w, r, m.sims)
	case sim == nil:
		WriteError(w, http.StatusNotFound, "Not found", "the simulators here: "+strings.Join(m.names, ", ")+"; the magic values: /scenarios")
	case rest == "faults":
		sim.Faults().ServeHTTP(w, r)
	case rest == "requests":
		log.ServeHTTP(w, r)
	default:
		sim.api.ServeHTTP(w, r)
	}
}

// refuseProduction marks the answer as a simulator's and refuses a request that says it comes from a gateway
// in production, by a User-Agent such as "kycgate/1.2.0 (production)". Such a request may carry data of real
// people, so its body is neither read nor logged.
func refuseProduction(w http.ResponseWriter, r *http.Request, log *RequestLog, at time.Time) bool {
	w.Header().Set(Header, "true")
	agent := strings.ToLower(r.UserAgent())
	if !strings.Contains(agent, "kycgate/") || !strings.Contains(agent, "(production)") {
		return false
	}
	if log != nil {
		log.Record(Request{At: at, Operation: NoOperation, Method: r.Method, Path: log.maskURL(r.URL, ""), Status: http.StatusForbidden, Outcome: OutcomeRefused}, nil)
	}
	w.Header().Set("Connection", "close") // there is an unread body on the connection
	WriteError(w, http.StatusForbidden, "simulator", "this is a simulator, and a gateway with `environment: production` may not use it: set the provider's real base_url")
	return true
}
