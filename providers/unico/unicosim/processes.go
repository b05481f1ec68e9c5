package unicosim

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the formats the documents name and the library reads
	_ "image/png"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// Errors of [Sim.Settle].
var (
	ErrUnknownProcess = errors.New("unicosim: there is no process with this id")
	ErrSettled        = errors.New("unicosim: the process is settled already")
)

// process is one process that was created. Sim.mu guards it.
type process struct {
	id       string
	code     string   // CPF
	enabled  []string // of its key
	document *documentView
	oneToOne bool
	matches  bool // of a 1:1: the same person as the reference, and the fate says so
	fate     fate
	created  time.Time
	finished time.Time
	stage    int
	stages   []stage
	reads    int
	timer    *time.Timer
}

// stage is what a process answers, until the next one.
type stage struct {
	status       int
	alert, score bool // known by now
}

func (p *process) now() stage { return p.stages[p.stage] }

func (p *process) has(capability string) bool { return slices.Contains(p.enabled, capability) }

func (p *process) stop() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

func final(status int) bool { return status >= 3 && status <= 5 }

// plan lays out the life of a process (dossier 5.3, 5.4).
func (s *Sim) plan(p *process) []stage {
	f := p.fate
	late := s.config.Generation <= G2 // alert and documents
	switch {
	case f.at != 0:
		return []stage{{status: f.at}}
	case f.end != 0:
		return []stage{{status: 1}, {status: f.end}}
	case f.forever:
		return []stage{{status: 1}}
	case p.document != nil:
		if late {
			return []stage{{status: 1}, {status: 3}}
		}
		return []stage{{status: 3}}
	}
	identity := p.has(IdentityVerification) && !p.oneToOne
	alert := identity && p.has(FraudProfile)
	// Only an inconclusive identity of a living person goes on to the score, and an alert stops it.
	hit := alert && (f.alert == "yes" || f.alert == "sim")
	score := identity && p.has(RiskScore) && f.identity == "inconclusive" && f.live == 1 && !hit
	if s.config.Generation == G4 {
		return []stage{{3, alert, score && f.score != nil}}
	}
	var stages []stage
	waiting := 1
	if score {
		waiting = s.config.ScoreStatus
	}
	if alert && late {
		stages = append(stages, stage{1, false, false})
	}
	if score {
		stages = append(stages, stage{waiting, alert, false})
		if f.diverges {
			stages = append(stages, stage{2, alert, false})
		}
	}
	return append(stages, stage{3, alert, score && f.score != nil})
}

// answer is the body of both calls (dossier 5).
func (s *Sim) answer(p *process, version string) []byte {
	out := map[string]any{"id": p.id}
	at, f, g := p.now(), p.fate, s.config.Generation
	switch {
	case at.status == 5 || at.status == 4 || !final(at.status) && at.status > 2:
		out["status"] = at.status // and no capability keys
	case p.document != nil:
		out["status"] = at.status
		if at.status == 3 {
			d := *p.document
			d.FileURLs = []string{"https://files.kycgate.test/" + newGUID(), "https://files.kycgate.test/" + newGUID()}
			out["document"] = d
		}
	case p.oneToOne:
		if p.has(Liveness) {
			out["liveness"] = f.live
		}
		if g <= G2 {
			out["authenticated"] = p.matches // and no status
			break
		}
		out["status"] = at.status
		out["biometryToken"] = map[string]any{"result": fmt.Sprint(p.matches)}
	default:
		out["status"] = at.status
		s.identity(p, out)
	}
	if version == "v2" && final(at.status) {
		out["processAdditionalInfo"] = map[string]any{
			"transactionId": newGUID(), "personName": "Pessoa Simulada", "personDocument": p.code,
			"personImage": "https://files.kycgate.test/" + newGUID(), "finishedAt": p.finished.UTC().Format("2006-01-02T15:04:05.000000"),
		}
	}
	if g == G1 {
		out = capitals(out)
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // maps of texts and numbers always encode
	}
	return body
}

// identity fills the keys of a process without documents and 1:1 (dossier 5.2).
func (s *Sim) identity(p *process, out map[string]any) {
	at, f, g := p.now(), p.fate, s.config.Generation
	if !p.has(IdentityVerification) {
		out["liveness"] = f.live
		return
	}
	out["unicoId"] = map[string]any{"result": f.identity}
	switch {
	case !p.has(Liveness):
		out["liveness"] = 1 // always, with no check at all
	case f.identity == "inconclusive", g == G4 && f.identity == "yes":
		out["liveness"] = f.live
	}
	if at.alert {
		out["identityFraudsters"] = map[string]any{"result": f.alert}
	}
	if p.has(GovernmentSimilarity) {
		out["government"] = map[string]any{"serpro": f.serpro}
	}
	if at.score {
		out["score"] = *f.score
	}
}

// capitals writes the keys as the legacy API did (dossier 11, row 10).
func capitals(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[strings.ToUpper(k[:1])+k[1:]] = v
	}
	return out
}

// advance moves a process to its next stage; the webhook is sent without the lock, after the change can be read.
func (s *Sim) advance(p *process) {
	s.mu.Lock()
	if s.done || p.timer == nil || p.stage+1 >= len(p.stages) {
		s.mu.Unlock()
		return
	}
	p.timer = nil
	p.stage++
	s.schedule(p)
	hook := s.hookOf(p)
	s.mu.Unlock()
	s.notify(p.id, hook)
}

// schedule starts the wait for the next stage, if there is one. The lock must be held.
func (s *Sim) schedule(p *process) {
	if final(p.now().status) {
		p.finished = s.config.Now()
		return
	}
	if p.stage+1 < len(p.stages) && s.config.Delay >= 0 && !s.done {
		p.timer = time.AfterFunc(s.config.Delay, func() { s.advance(p) })
	}
}

func (s *Sim) hookOf(p *process) string {
	if !final(p.now().status) {
		return ""
	}
	return s.hook
}

// notify wakes who waits for a change and sends its webhook, if there is anywhere to send it. There is no
// outcome in it (dossier 9).
func (s *Sim) notify(id, hook string) {
	s.changed.Notify()
	if hook == "" {
		return
	}
	body, err := json.Marshal(struct {
		ProcessID string `json:"processId"`
		State     string `json:"state"`
		Flow      string `json:"flow"`
	}{id, "PROCESS_STATE_FINISHED", "id"})
	if err != nil {
		panic(err) // three texts always encode
	}
	s.outbox.Send(simulator.Webhook{
		Method: http.MethodPost, URL: hook, Body: body,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"unico-simulator"}},
	})
}

// Settle ends an open process now, with what its CPF says, or with 4 or 5.
func (s *Sim) Settle(id string, status int) error {
	s.mu.Lock()
	p := s.byID[id]
	if p == nil || final(p.now().status) {
		s.mu.Unlock()
		if p == nil {
			return ErrUnknownProcess
		}
		return ErrSettled
	}
	p.stop()
	if status == 3 {
		last := p.stages[len(p.stages)-1]
		if !final(last.status) {
			last = stage{3, p.has(FraudProfile), false}
		}
		p.stages = append(p.stages, last)
	} else {
		p.stages = append(p.stages, stage{status: status})
	}
	p.stage = len(p.stages) - 1
	s.schedule(p)
	hook := s.hookOf(p)
	s.mu.Unlock()
	s.notify(id, hook)
	return nil
}

// body of a creation (dossier 4.1).
type creation struct {
	Subject            *subject          `json:"subject"`
	UseCase            string            `json:"useCase"`
	ImageBase64        string            `json:"imageBase64"`
	ReferenceProcessID string            `json:"referenceProcessId"`
	References         []json.RawMessage `json:"references"`
	Document           *struct {
		Purpose       string `json:"purpose"`
		AuthProcessID string `json:"authProcessId"`
		DocumentID    string `json:"documentId"`
		Files         []struct {
			Data string `json:"data"`
		} `json:"files"`
	} `json:"document"`
}

type subject struct {
	Code string `json:"code"`
	Name string `json:"name"`
}

var purposes = []string{"creditprocess", "carpurchase", "paybypaycheck", "onboarding", "fgts"}

// serveCreate is POST /processes/v1 (dossier 4).
func (s *Sim) serveCreate(w http.ResponseWriter, r *http.Request) {
	key, enabled, ok := s.authorized(w, r)
	if !ok {
		return
	}
	var c creation
	if json.Unmarshal(simulator.Body(r), &c) != nil {
		s.refuse(w, refusals["20003"])
		return
	}
	p := &process{id: newGUID(), enabled: enabled, created: s.config.Now()}
	if code := s.read(p, key, c); code != "" {
		s.refuse(w, refusals[code])
		return
	}
	s.mu.Lock()
	if n := p.fate.failFirst; n > 0 {
		if s.tries[p.code]++; s.tries[p.code] <= n {
			p.fate.at = 5
		}
	}
	p.stages = s.plan(p)
	s.byID[p.id] = p
	s.order = append(s.order, p)
	if len(s.order) > s.config.MaxProcesses {
		s.order[0].stop()
		delete(s.byID, s.order[0].id)
		s.order = s.order[1:]
	}
	s.schedule(p)
	body := s.answer(p, "v1")
	hook := ""
	if s.config.WebhookAlways {
		hook = s.hookOf(p)
	}
	s.mu.Unlock()
	s.notify(p.id, hook)
	writeJSON(w, body)
}

func writeJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body) // into memory: see Front.Handle
}

// read checks a creation in the order of the table of errors and gives the number of the first that is wrong.
func (s *Sim) read(p *process, key string, c creation) string {
	switch {
	case c.Subject == nil:
		return "20004"
	case c.Subject.Code == "":
		return "20005"
	case len(c.Subject.Code) != 11 || strings.Trim(c.Subject.Code, "0123456789") != "":
		return "20507"
	}
	p.code, p.fate = c.Subject.Code, fateOf(c.Subject.Code)
	if p.fate.refuse != "" {
		return p.fate.refuse
	}
	p.oneToOne = p.has(FaceValidation) && c.Document == nil
	if c.Subject.Name == "" && (c.Document != nil || p.has(IdentityVerification) && !p.oneToOne) {
		return "20006"
	}
	if c.Document != nil {
		return s.readDocument(p, c)
	}
	if !p.has(Liveness) && !p.has(IdentityVerification) && !p.has(FaceValidation) {
		return "40300" // a key for documents and no document
	}
	if code := s.readCapture(c.ImageBase64, key == KeySDK); code != "" {
		return code
	}
	if p.oneToOne {
		return s.readReference(p, c)
	}
	return ""
}

func (s *Sim) readReference(p *process, c creation) string {
	if c.ReferenceProcessID == "" {
		return "20003" // ours: no number is documented
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reference := s.byID[c.ReferenceProcessID]
	switch {
	case reference == nil:
		return "50001"
	case !final(reference.now().status):
		return "40900"
	}
	p.matches = p.fate.match && reference.code == p.code
	return ""
}

// readDocument checks the document of a process (dossier 4.3).
func (s *Sim) readDocument(p *process, c creation) string {
	d := c.Document
	switch {
	case !p.has(DocumentCapture):
		return "40300"
	case !slices.Contains(purposes, d.Purpose), (d.DocumentID == "") == (len(d.Files) == 0), len(d.Files) > 2:
		return "20003"
	}
	for _, f := range d.Files {
		if code := s.readCapture(f.Data, false); code != "" {
			return code
		}
	}
	if c.ImageBase64 != "" {
		if code := s.readCapture(c.ImageBase64, false); code != "" {
			return code
		}
	}
	if d.AuthProcessID != "" {
		if code := s.authorizes(d.AuthProcessID, p.code, d.DocumentID != ""); code != "" {
			return code
		}
	}
	if d.DocumentID != "" && !slices.ContainsFunc(reusable(p.code), func(r reusableDocument) bool { return r.DocumentID == d.DocumentID }) {
		return "50001"
	}
	p.document = documentOf(p)
	return ""
}

// authorizes checks the biometric process that a document builds on: finished, valid, of the same person, not
// older than a day; and for a reuse an identity yes or a score of at least 50.
func (s *Sim) authorizes(id, code string, reuse bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byID[id]
	if a == nil || a.code != code {
		return "50001"
	}
	good := a.fate.identity == "yes" || a.now().score && *a.fate.score >= 50
	if a.document != nil || a.now().status != 3 || a.fate.live != 1 || s.config.Now().Sub(a.finished) > 24*time.Hour || reuse && !good {
		return "40900"
	}
	return ""
}

// maxImage is what 800 kb means here (ours: the documents do not say whether of base64 or of the image).
const maxImage = 800 << 10

// readCapture checks a selfie or a document (dossier 4.4).
func (s *Sim) readCapture(text string, sdkOnly bool) string {
	if text == "" {
		return "20009"
	}
	digest := sha256.Sum256([]byte(text))
	s.mu.Lock()
	s.captures[digest]++
	times := s.captures[digest]
	s.mu.Unlock()
	if captured, bundle, ok := readSDKToken(text); ok {
		switch {
		case bundle != sandboxBundle:
			return "10506"
		case times > 1:
			return "10508"
		case s.config.Now().Sub(captured) > 10*time.Minute:
			return "10507"
		}
		return ""
	}
	if sdkOnly {
		return "10506"
	}
	if strings.HasPrefix(text, "data:") {
		return "20505"
	}
	data, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		return "20900"
	case len(data) > maxImage:
		return "20506"
	case bytes.HasPrefix(data, []byte("RIFF")) && len(data) > 12 && string(data[8:12]) == "WEBP":
		return "" // its size is not looked at: the library does not read it
	}
	size, _, err := image.DecodeConfig(bytes.NewReader(data))
	switch {
	case err != nil:
		return "20505"
	case max(size.Width, size.Height) < 640, min(size.Width, size.Height) < 480:
		return "20807"
	}
	return ""
}

const sandboxBundle = "test.kycgate.sandbox"

// SDKToken is a capture as the SDK would encrypt it at that time: opaque to everybody but Unico, single use.
func SDKToken(captured time.Time) string { return sdkToken(captured, sandboxBundle) }

func sdkToken(captured time.Time, bundle string) string {
	encode := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(map[string]any{"iat": captured.Unix(), "jti": rand.Text(), "bundle": bundle})
	if err != nil {
		panic(err) // texts and a number always encode
	}
	return encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(payload) + "." + encode([]byte("simulated signature"))
}

func readSDKToken(text string) (captured time.Time, bundle string, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || !strings.HasPrefix(text, "eyJ") {
		return time.Time{}, "", false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Issued int64  `json:"iat"`
		Bundle string `json:"bundle"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return time.Time{}, "", true // of another app
	}
	return time.Unix(claims.Issued, 0), claims.Bundle, true
}

// serveFetch is GET /processes/{v1,v2}/{id} (dossier 6).
func (s *Sim) serveFetch(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := s.authorized(w, r); !ok {
		return
	}
	id := r.PathValue("id")
	if id == "" {
		s.refuse(w, refusals["20023"])
		return
	}
	s.mu.Lock()
	p := s.byID[id]
	if p == nil {
		s.mu.Unlock()
		s.refuse(w, refusals["50001"])
		return
	}
	p.reads++
	gone := s.config.GoneOnError && p.now().status == 5
	body := s.answer(p, r.PathValue("version"))
	s.mu.Unlock()
	if gone {
		s.refuse(w, refusals["41000"])
		return
	}
	writeJSON(w, body)
}

// Process is what the simulator knows about one process, without personal data.
type Process struct {
	ID           string   `json:"id"`
	Status       int      `json:"status"`
	Capabilities []string `json:"capabilities"`
	Reads        int      `json:"reads"`
}

// Processes returns every process that is held, oldest first.
func (s *Sim) Processes() []Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Process, 0, len(s.order))
	for _, p := range s.order {
		list = append(list, Process{p.id, p.now().status, p.enabled, p.reads})
	}
	return list
}

// Process returns one process.
func (s *Sim) Process(id string) (Process, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byID[id]; p != nil {
		return Process{p.id, p.now().status, p.enabled, p.reads}, true
	}
	return Process{}, false
}

// Arrivals tells how many different captures arrived, and how often the one that came most often did.
func (s *Sim) Arrivals() (captures, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.captures {
		most = max(most, n)
	}
	return len(s.captures), most
}

// WaitStatus returns when the process has the status, or with the error of the context.
func (s *Sim) WaitStatus(ctx context.Context, id string, status int) error {
	for {
		changed := s.changed.Changed()
		if p, ok := s.Process(id); ok && p.Status == status {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // does not fail: see crypto/rand
	return guid(b)
}

// guid makes sixteen bytes a UUID of version 4.
func guid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
