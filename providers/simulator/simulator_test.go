package simulator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stub is a simulator of one operation, "act", which counts how often it ran.
type stub struct {
	*Front
	name  string
	acted atomic.Int32
	act   http.HandlerFunc
}

const stubAnswer = `{"answer":"a text that is long enough to be cut in the middle"}`

func newStub(name string) *stub {
	s := &stub{name: name, Front: NewFront(FrontConfig{
		Operations: []string{"act", "other", WebhookOperation},
		Reveal:     []string{"id", "list.type", "shown"},
		MaxBody:    64 << 10,
	})}
	s.act = s.Handle("act", func(w http.ResponseWriter, r *http.Request) {
		s.acted.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Stub", "yes")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, stubAnswer)
	})
	return s
}

func (s *stub) Name() string { return s.name }
func (s *stub) Scenarios() []Scenario {
	return []Scenario{{s.name, "act", "a\ttab", "it answers", "ours"}}
}
func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.SetPathValue("id", strings.TrimPrefix(r.URL.Path, "/things/"))
	s.act(w, r)
}
func (s *stub) Close() error { s.Front.Close(); return nil }

// bench is a stub behind New, over real HTTP.
type bench struct {
	*stub
	t      *testing.T
	url    string // of the stub
	root   string
	client *http.Client
}

func setup(t *testing.T) *bench {
	t.Helper()
	s := newStub("stub")
	server := httptest.NewServer(New(s))
	// Without keep-alive net/http never repeats a GET by itself, so what is counted is what was sent.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	t.Cleanup(func() { _ = s.Close(); server.Close() })
	return &bench{stub: s, t: t, root: server.URL, url: server.URL + "/stub", client: client}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (b *bench) try(ctx context.Context, method, url, body string, header ...string) (reply, error) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(text)}, err
}

func (b *bench) do(method, url, body string, header ...string) reply {
	b.t.Helper()
	got, err := b.try(b.t.Context(), method, url, body, header...)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, url, err)
	}
	if got.header.Get(Header) != "true" {
		b.t.Errorf("%s %s: no header %s", method, url, Header)
	}
	return got
}

func (b *bench) put(fault string) {
	b.t.Helper()
	if got := b.do("PUT", b.url+"/faults", fault); got.status != http.StatusOK {
		b.t.Fatalf("PUT %s: %d %s", fault, got.status, got.body)
	}
}

func (b *bench) summary() RequestSummary {
	b.t.Helper()
	var s RequestSummary
	if err := json.Unmarshal([]byte(b.do("GET", b.url+"/requests", "").body), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) only() Request {
	b.t.Helper()
	s := b.summary()
	if s.Total != 1 || len(s.Requests) != 1 {
		b.t.Fatalf("log: %+v, want one request", s)
	}
	return s.Requests[0]
}

func TestNewServesEachSimulatorUnderItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.do("POST", b.url+"/things/7?shown=yes&cpf=12345678909", `{"id":"7"}`)
	if got.status != http.StatusCreated || got.body != stubAnswer || got.header.Get("Stub") != "yes" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %+v", got)
	}
	if e := b.only(); e.Path != "/things/7?shown=yes&cpf=***" || e.Operation != "act" || e.Method != "POST" || e.Status != 201 || e.Outcome != OutcomeAnswered || e.Fault != "" || e.At.IsZero() || string(e.Body) != `{"id":"7"}` {
		t.Errorf("logged %+v", e)
	}
	for _, path := range []string{"/", "/stubborn", "/other/faults", "//stub", "/scenarios/x"} {
		if got := b.do("GET", b.root+path, ""); got.status != http.StatusNotFound || !strings.Contains(got.body, "/stub") {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
}

func TestNewDoesNotCleanPaths(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{"..", "a%2Fb", "a//b"} {
		if got := b.do("GET", b.url+"/things/"+id, ""); got.status != http.StatusCreated {
			t.Errorf("id %s: %d, want it to arrive", id, got.status)
		}
	}
}

func TestNewPanicsOnNames(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{""}, {"scenarios"}, {"a/b"}, {"Stub"}, {"x", "x"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q: no panic", names)
				}
			}()
			var sims []Simulator
			for _, n := range names {
				sims = append(sims, newStub(n))
			}
			New(sims...)
		}()
	}
}

func TestProductionIsRefusedUnread(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const canary = "Maria Canary"
	for _, agent := range []string{"kycgate/1.2.0 (production)", "Kycgate/dev (linux) (Production)"} {
		for _, path := range []string{"/stub/things/1", "/stub/faults", "/stub/requests", "/scenarios", "/nowhere"} {
			got := b.do("POST", b.root+path, `{"name":"`+canary+`"}`, "User-Agent", agent)
			var p problem
			if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != http.StatusForbidden || p.Title != "simulator" || p.Description == "" {
				t.Errorf("%s %s: %d %s", agent, path, got.status, got.body)
			}
		}
	}
	if n := b.acted.Load(); n != 0 {
		t.Errorf("acted %d times", n)
	}
	s := b.summary()
	if text, _ := json.Marshal(s); strings.Contains(string(text), canary) || s.ByOperation[NoOperation] != 6 || s.Requests[0].Outcome != OutcomeRefused {
		t.Errorf("log %s", text)
	}
	// The front refuses by itself too, for a simulator served without New.
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/things/1", nil)
	r.Header.Set("User-Agent", "kycgate/1 (production)")
	if b.act(w, r); w.Code != http.StatusForbidden || w.Header().Get(Header) != "true" {
		t.Errorf("alone: %d %v", w.Code, w.Header())
	}
	for _, agent := range []string{"kycgate/1.2.0 (sandbox)", "curl/8 (production)", ""} {
		if got := b.do("POST", b.url+"/things/1", "{}", "User-Agent", agent); got.status != http.StatusCreated {
			t.Errorf("%q was refused: %d", agent, got.status)
		}
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(New(newStub("one"), newStub("two")))
	t.Cleanup(server.Close)
	b := &bench{t: t, client: server.Client()}
	var list []Scenario
	got := b.do("GET", server.URL+"/scenarios", "")
	if err := json.Unmarshal([]byte(got.body), &list); err != nil || len(list) != 2 || list[1].Provider != "two" {
		t.Errorf("JSON: %v %s", err, got.body)
	}
	if got := b.do("GET", server.URL+"/scenarios", "", "Accept", "text/plain, application/json"); !strings.HasPrefix(got.body, "[") {
		t.Errorf("with JSON accepted too: %s", got.body)
	}
	text := b.do("GET", server.URL+"/scenarios", "", "Accept", "text/plain")
	var want strings.Builder
	if err := WriteScenarios(&want, newStub("one"), newStub("two")); err != nil || text.body != want.String() {
		t.Errorf("text: %v\n%s\nwant\n%s", err, text.body, want.String())
	}
	if lines := strings.Split(strings.TrimSpace(text.body), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "PROVIDER") || !strings.Contains(lines[1], "a tab") {
		t.Errorf("table %q", lines)
	}
	if got := b.do("POST", server.URL+"/scenarios", ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
		t.Errorf("POST: %+v", got)
	}
	var empty []Scenario
	if err := json.Unmarshal(mustJSON(t, Scenarios()), &empty); err != nil || empty == nil {
		t.Errorf("no simulator: %v, %v, want an empty list", empty, err)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
