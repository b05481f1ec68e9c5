package qitechsim

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of [Sim.Decide].
var (
	ErrUnknownAnalysis = errors.New("qitechsim: there is no analysis with this id")
	ErrSettled         = errors.New("qitechsim: the analysis is settled already")
	ErrUnknownStatus   = errors.New("qitechsim: this is not a status of an analysis")
)

// analysis is one natural person that was submitted. Sim.mu guards it.
type analysis struct {
	id             string
	registrationID string
	key            string // natural_person_key
	document       []byte // what was submitted, without the closing brace
	created        time.Time
	events         []event // of analysis_status, oldest first; never empty
	clientEvents   []event // of client_status, likewise
	posted, gotten int
	timer          *time.Timer // of the outcome to come
}

type event struct {
	status, reason string
	date           string
}

func (a *analysis) last() event { return a.events[len(a.events)-1] }

// maxEvents bounds the events of one analysis: a client may report its status without end (ours).
const maxEvents = 100

func appendEvent(events []event, e event) []event {
	if len(events) >= maxEvents {
		events = slices.Delete(events, 0, 1)
	}
	return append(events, e)
}

// store holds the analyses in the order in which they came, up to a number and a size.
type store struct {
	most, mostBytes int
	bytes           int
	byID            map[string]*analysis
	byRegistration  map[string]int
	order           []*analysis // order[first:] are held
	first           int
}

func newStore(most, mostBytes int) store {
	return store{most: most, mostBytes: mostBytes, byID: make(map[string]*analysis), byRegistration: make(map[string]int)}
}

func (st *store) all() []*analysis { return st.order[st.first:] }

func (st *store) add(a *analysis) {
	st.byID[a.id] = a
	st.byRegistration[a.registrationID]++
	st.order = append(st.order, a)
	st.bytes += len(a.document)
	for len(st.byID) > st.most || (st.bytes > st.mostBytes && len(st.byID) > 1) {
		st.dropOldest()
	}
}

func (st *store) dropOldest() {
	a := st.order[st.first]
	st.order[st.first] = nil // the array lives on; the analysis need not
	st.first++
	if st.first > len(st.order)/2 {
		st.order, st.first = slices.Clone(st.order[st.first:]), 0
	}
	a.stop()
	delete(st.byID, a.id)
	if st.byRegistration[a.registrationID]--; st.byRegistration[a.registrationID] == 0 {
		delete(st.byRegistration, a.registrationID)
	}
	st.bytes -= len(a.document)
}

func (st *store) stopTimers() {
	for _, a := range st.all() {
		a.stop()
	}
}

func (a *analysis) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// posted is the answer to POST (dossier A.4).
type posted struct {
	ID               string `json:"id"`
	AnalysisStatus   string `json:"analysis_status"`
	NaturalPersonKey string `json:"natural_person_key"`
	Reason           string `json:"reason"`
}

// create stores a new analysis and starts the wait for its outcome; false if the id was processed before.
func (s *Sim) create(p person, document []byte, f fate) (posted, bool) {
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.store.byID[p.id]; a != nil {
		a.posted++
		return posted{}, false
	}
	reason := f.reason
	def(&reason, f.status)
	a := &analysis{
		id: p.id, registrationID: p.registrationID, key: newGUID(), document: document, created: now, posted: 1,
		events:       []event{{f.status, reason, stamp(now)}},
		clientEvents: []event{{status: "registered", date: stamp(now)}},
	}
	s.store.add(a)
	if wait := s.config.duration(f.delay); f.later != "" && wait >= 0 && !s.done {
		a.timer = time.AfterFunc(wait, func() { s.expire(a, f.later) })
	}
	s.changed.Notify()
	return posted{ID: a.id, AnalysisStatus: f.status, NaturalPersonKey: a.key, Reason: reason}, true
}

// expire brings the outcome of an analysis, unless it was decided, dropped or closed while the timer fired.
func (s *Sim) expire(a *analysis, status string) {
	s.mu.Lock()
	if s.done || a.timer == nil {
		s.mu.Unlock()
		return
	}
	hook := s.settle(a, status)
	s.mu.Unlock()
	s.notify(hook)
}

// settle changes the status and returns the webhook about it. The lock must be held; the webhook is sent
// without it, after the change can be read.
func (s *Sim) settle(a *analysis, status string) outcome {
	a.stop()
	e := event{status, status, stamp(s.config.Now())}
	a.events = appendEvent(a.events, e)
	return outcome{url: s.hook, id: a.id, event: e}
}

// Decide gives an open analysis a status, as an analyst or a slow engine would, and sends its webhook. An
// outcome that was still to come by itself no longer comes. The status may be one that settles nothing, or one
// of a sibling product; an analysis that is settled stays as it is.
func (s *Sim) Decide(id, status string) error {
	if !slices.Contains(decidable, status) {
		return fmt.Errorf("%w: %q", ErrUnknownStatus, status)
	}
	s.mu.Lock()
	a := s.store.byID[id]
	if a == nil || final(a.last().status) {
		s.mu.Unlock()
		if a == nil {
			return ErrUnknownAnalysis
		}
		return ErrSettled
	}
	hook := s.settle(a, status)
	s.mu.Unlock()
	s.notify(hook)
	return nil
}

func (s *Sim) setClientStatus(id, status, at string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.store.byID[id]
	if a == nil {
		return false
	}
	a.clientEvents = appendEvent(a.clientEvents, event{status: status, date: at})
	return true
}

// Analysis is what the simulator knows about one analysis, without personal data.
type Analysis struct {
	ID             string `json:"id"`
	RegistrationID string `json:"registration_id"`
	AnalysisStatus string `json:"analysis_status"`
	ClientStatus   string `json:"client_status"`
	// Posted counts the well-formed POSTs with this id, refused duplicates included, so more than one means
	// that a client sent it again. A request that a fault stopped before it acted is not counted.
	Posted int `json:"posted"`
	Gotten int `json:"gotten"` // how often it was read
}

func (a *analysis) snapshot() Analysis {
	return Analysis{a.id, a.registrationID, a.last().status, a.clientEvents[len(a.clientEvents)-1].status, a.posted, a.gotten}
}

// Analyses returns every analysis that is held, oldest first.
func (s *Sim) Analyses() []Analysis {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Analysis, 0, len(s.store.byID))
	for _, a := range s.store.all() {
		list = append(list, a.snapshot())
	}
	return list
}

// Analysis returns one analysis by the client's id.
func (s *Sim) Analysis(id string) (Analysis, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.store.byID[id]; a != nil {
		return a.snapshot(), true
	}
	return Analysis{}, false
}

// CountByRegistration returns how many analyses are held of one customer, who is one registration_id.
func (s *Sim) CountByRegistration(registrationID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.byRegistration[registrationID]
}

// WaitStatus returns when the analysis has the status, or with the error of the context.
func (s *Sim) WaitStatus(ctx context.Context, id, status string) error {
	for {
		changed := s.changed.Changed()
		if a, ok := s.Analysis(id); ok && a.AnalysisStatus == status {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ownFields are those that the answer to GET has beside the submitted ones: the fields of view.
var ownFields = []string{"natural_person_key", "company_key", "company_name", "created_at", "client_status", "analysis_status", "client_status_events", "analysis_status_events"}

// view is QI Tech's part of the answer to GET (dossier A.5).
type view struct {
	NaturalPersonKey     string      `json:"natural_person_key"`
	CompanyKey           string      `json:"company_key"`
	CompanyName          string      `json:"company_name"`
	CreatedAt            string      `json:"created_at"`
	ClientStatus         string      `json:"client_status"`
	AnalysisStatus       string      `json:"analysis_status"`
	ClientStatusEvents   []eventView `json:"client_status_events"`
	AnalysisStatusEvents []eventView `json:"analysis_status_events"`
}

type eventView struct {
	NewStatus    string  `json:"new_status"`
	EventDate    string  `json:"event_date"`
	Observation  *string `json:"observation"`
	AnalystName  *string `json:"analyst_name"`
	AnalystEmail *string `json:"analyst_email"`
	AnalystKey   *string `json:"analyst_key"`
	Output       *output `json:"analysis_output,omitempty"`
}

type output struct {
	Reason     string      `json:"reason"`
	BasicData  basicData   `json:"basic_data"`
	Indicators []indicator `json:"indicators"`
}

type basicData struct {
	Name      match `json:"name"`
	Birthdate match `json:"birthdate"`
}

type match struct {
	Result      string `json:"result"`
	Description string `json:"description"`
}

type indicator struct {
	Enum string `json:"enum"`
}

// The company and the analyst of a simulator are nobody.
const (
	companyKey  = "00000000-0000-4000-8000-00000000c0de"
	companyName = "kycgate simulator"
	analystName = "Simulated analyst"
	analystMail = "analyst@kycgate.test"
)

// read returns the answer to GET: the submitted fields and QI Tech's own behind them.
func (s *Sim) read(id string) ([]byte, bool) {
	s.mu.Lock()
	a := s.store.byID[id]
	if a == nil {
		s.mu.Unlock()
		return nil, false
	}
	a.gotten++
	v := view{
		NaturalPersonKey: a.key, CompanyKey: companyKey, CompanyName: companyName, CreatedAt: stamp(a.created),
		ClientStatus: a.snapshot().ClientStatus, AnalysisStatus: a.last().status,
		ClientStatusEvents: s.views(a.clientEvents, false), AnalysisStatusEvents: s.views(a.events, true),
	}
	document := a.document // never changed once stored
	s.mu.Unlock()
	own, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and lists of them always encode
	}
	answer := make([]byte, 0, len(document)+len(own))
	answer = append(answer, document...)
	answer = append(answer, ',') // there is a field before it: id is required
	return append(answer, own[1:]...), true
}

// views puts the events in their order. The documents do not say which; newest first is the default because
// every consumer seen reads element 0 as the present (dossier A.5). Each analysis event has an output of its
// own, so that element 0 has one in either order.
func (s *Sim) views(events []event, withOutput bool) []eventView {
	list := make([]eventView, len(events))
	for i, e := range events {
		v := eventView{NewStatus: e.status, EventDate: e.date}
		if withOutput {
			v.Output = e.output()
		}
		if e.status == StatusManuallyApproved || e.status == StatusManuallyReproved {
			v.AnalystName, v.AnalystEmail, v.AnalystKey = new(analystName), new(analystMail), new(companyKey)
		}
		list[i] = v
	}
	if !s.config.OldestFirst {
		slices.Reverse(list)
	}
	return list
}

// output has the words that a third party's client knows (dossier A.5). That "negative" is the opposite of
// "positive" is ours.
func (e event) output() *output {
	o := &output{Reason: e.reason, Indicators: []indicator{}}
	o.BasicData = basicData{match{"positive", "name_match"}, match{"positive", "birthdate_match"}}
	if e.reason == documentNotFound {
		o.BasicData = basicData{match{"negative", "name_mismatch"}, match{"negative", "birthdate_mismatch"}}
	}
	if e.status != e.reason {
		o.Indicators = append(o.Indicators, indicator{e.reason})
	}
	return o
}

// stamp is a time as the webhook of dossier A.10 shows it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // does not fail: see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
