package qitechsim

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// bench is a simulator behind simulator.New, over real HTTP, and a receiver of its webhooks.
type bench struct {
	*Sim
	t      *testing.T
	root   string
	hooks  chan hook
	client *http.Client
}

type hook struct {
	method, url, signature string
	header                 http.Header
	body                   []byte
	PersonID               string `json:"natural_person_id"`
	Status                 string `json:"analysis_status"`
	Date                   string `json:"event_date"`
	Reason                 string `json:"reason"`
}

// setup starts a simulator whose delays are short. Webhooks are answered 200 unless answer says otherwise.
func setup(t *testing.T, config Config, answer ...func(n int) int) *bench {
	t.Helper()
	b := &bench{t: t, hooks: make(chan hook, 100)}
	var n atomic.Int64
	var base string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := hook{method: r.Method, url: base + r.URL.String(), signature: r.Header.Get("Signature"), header: r.Header, body: body}
		if err := json.Unmarshal(body, &h); err != nil {
			t.Errorf("webhook %s: %v", body, err)
		}
		if i := int(n.Add(1)); len(answer) > 0 {
			w.WriteHeader(answer[0](i))
		}
		b.hooks <- h
	}))
	base = receiver.URL
	switch config.WebhookURL {
	case "":
		config.WebhookURL = base + "/callbacks/qitech"
	case "none":
		config.WebhookURL = ""
	}
	def(&config.ManualDelay, time.Millisecond)
	def(&config.PendingDelay, time.Millisecond)
	def(&config.RetryScale, 1e-5)
	b.Sim = New(config)
	server := httptest.NewServer(simulator.New(b.Sim))
	b.root = server.URL + "/qitech"
	// No keep-alive: net/http repeats a GET by itself when a used connection is cut.
	b.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	t.Cleanup(func() {
		_ = b.Close()
		server.Close()
		receiver.Close()
	})
	return b
}

type reply struct {
	status int
	header http.Header
	body   string
	fields map[string]any // nil if the body is no object
}

func (b *bench) try(method, path, body, key string) (reply, error) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.root+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", key)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	got := reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
	_ = json.Unmarshal(text, &got.fields)
	return got, err
}

func (b *bench) do(method, path, body string) reply {
	b.t.Helper()
	got, err := b.try(method, path, body, SandboxAPIKey)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	if got.header.Get(simulator.Header) != "true" {
		b.t.Errorf("%s %s: no header %s", method, path, simulator.Header)
	}
	return got
}

func (b *bench) post(fields map[string]any) reply {
	b.t.Helper()
	return b.do("POST", "/onboarding/natural_person?analyze=true", text(b.t, fields))
}

func (b *bench) get(id string) reply {
	b.t.Helper()
	return b.do("GET", "/onboarding/natural_person/"+url.PathEscape(id), "")
}

func (b *bench) hook() hook {
	b.t.Helper()
	select {
	case h := <-b.hooks:
		return h
	case <-time.After(20 * time.Second):
		b.t.Fatalf("no webhook came; log: %+v", b.Requests().Summary())
		return hook{}
	}
}

func (b *bench) reach(id, status string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	if err := b.WaitStatus(ctx, id, status); err != nil {
		b.t.Fatalf("%s does not become %s: %v", id, status, err)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// minimal is the required set of dossier E.
func minimal(id, document string) map[string]any {
	return map[string]any{"id": id, "registration_date": "2019-12-11T11:37:15.12-03:00", "document_number": document, "name": "Maria da Silva", "birthdate": "1990-02-28"}
}

// full has every field of dossier A.3.
func full(id, document string) map[string]any {
	m := minimal(id, document)
	maps.Copy(m, map[string]any{
		"registration_id": "person-1", "client_category": "retail", "gender": "female", "nationality": "BRA", "mother_name": "Ana", "father_name": "Jose",
		"monthly_income": 500000, "declared_assets": 0, "occupation": "engineer",
		"emails": []any{map[string]any{"email": "maria@person.test", "validation_type": "zaig_api", "validation_key": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}},
		"documents": map[string]any{
			"rg":       map[string]any{"number": "12.345.678-9", "issuer": "SSP", "issuer_state": "SP", "issuance_date": "2010-01-01", "validation_type": "zaig_sdk", "ocr_front_key": "a", "ocr_back_key": "b"},
			"cnh":      map[string]any{"register_number": "1", "issuer_state": "SP", "first_issuance_date": "2010-01-01", "issuance_date": "2020-01-01", "expiration_date": "2030-01-01", "category": "AB", "validation_type": "zaig_api", "ocr_key": "c"},
			"passport": map[string]any{"number": "X"},
		},
		"address": map[string]any{"street": "Rua A", "number": "10", "neighborhood": "Centro", "city": "Sao Paulo", "uf": "SP", "complement": "ap 1", "postal_code": "01310-100", "country": "BRA", "validation_type": "visit"},
		"phones":  []any{map[string]any{"international_dial_code": "55", "area_code": "11", "number": "999990000", "type": "mobile", "validation_type": "zaig_sms", "validation_key": "k"}},
		"source":  map[string]any{"session_id": "s-1", "channel": "app", "ip": "127.000.000.001", "platform": "android"},
		"face":    map[string]any{"registration_key": "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "validation_key": "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "validation_type": "zaig_sdk"},
	})
	return m
}

// with returns the fields with one of them changed, by a path such as "phones[0].number". A nil removes it.
func with(fields map[string]any, path string, value any) map[string]any {
	at := fields
	for {
		name, rest, deeper := strings.Cut(path, ".")
		name, element := strings.CutSuffix(name, "[0]")
		switch {
		case !deeper && element:
			at[name] = []any{value}
			return fields
		case !deeper && value == nil:
			delete(at, name)
			return fields
		case !deeper:
			at[name] = value
			return fields
		case element:
			at = at[name].([]any)[0].(map[string]any)
		default:
			at = at[name].(map[string]any)
		}
		path = rest
	}
}
