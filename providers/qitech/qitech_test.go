package qitech_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
	"github.com/kycgate/kycgate/providers/providertest"
	"github.com/kycgate/kycgate/providers/qitech"
)

const (
	key        = "sandbox-key-1234567890"
	faceKey    = "sandbox-face-key-1234567890"
	analysisID = kyc.AnalysisID("ana_01JQ0000000000000000000000")
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ptr[T any](v T) *T { return &v }

func secret(s string) func() string { return func() string { return s } }

func config(base string) qitech.Config {
	return qitech.Config{
		BaseURL: base, APIKey: secret(key), FaceAPIKey: secret(faceKey), WebhookKey: secret("test_signature_key"),
		CallbackURL: "https://gateway.example.test/webhooks/qitech", Version: "1.2.3",
	}
}

func newProvider(t testing.TB, c qitech.Config) kyc.Provider {
	t.Helper()
	p, err := qitech.New(c, httpjson.NewHTTPClient())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func minimal() kyc.PersonAnalysisRequest {
	return kyc.PersonAnalysisRequest{
		ID: analysisID, PersonID: "per_01JQ0000000000000000000000",
		RegisteredAt: time.Date(2026, 11, 24, 12, 4, 5, 999_000_000, time.FixedZone("BRT", -3*3600)),
		Profile: kyc.Profile{
			Name: kyc.NewName("Ana Exemplo da Silva"), DocumentNumber: kyc.NewDocumentNumber("52998224725"), Birthdate: kyc.NewDate("1990-02-28"),
			Emails: []kyc.Email{{Address: kyc.NewEmailAddress("ana@example.com")}},
			Phones: []kyc.Phone{{Number: kyc.NewPhoneNumber("+5511987654321")}},
			Address: kyc.Address{
				Street: kyc.NewPersonalText("1 Main St"), City: "Springfield", State: "Illinois", PostalCode: kyc.NewPersonalText("12345678"), Country: "USA",
			},
		},
	}
}

func full() kyc.PersonAnalysisRequest {
	r := minimal()
	p := &r.Profile
	p.Emails = append(p.Emails, kyc.Email{Address: kyc.NewEmailAddress("ana.silva@example.org")})
	p.Phones[0].Type = ptr(kyc.PhoneMobile)
	p.Phones = append(p.Phones, kyc.Phone{Number: kyc.NewPhoneNumber("+12125550123"), Type: ptr(kyc.PhoneCommercial)})
	p.Address = kyc.Address{
		Street: kyc.NewPersonalText("Rua das Laranjeiras"), Number: ptr(kyc.NewPersonalText("100")), Complement: ptr(kyc.NewPersonalText("ap 12")),
		Neighborhood: ptr(kyc.NewPersonalText("Centro")), City: "São Paulo", State: "SP", PostalCode: kyc.NewPersonalText("01310100"), Country: "BRA",
	}
	p.Gender, p.Nationality, p.MonthlyIncome = ptr(kyc.GenderFemale), ptr("BRA"), ptr(kyc.NewCents(450075))
	p.Occupation = ptr(kyc.NewPersonalText("engenheira"))
	p.MotherName, p.FatherName = ptr(kyc.NewName("Beatriz Exemplo")), ptr(kyc.NewName("Carlos Exemplo"))
	p.FaceRecognitionID, p.SessionID = ptr(kyc.UUID("3b241101-e2bb-4255-8caf-4136c566a962")), ptr(kyc.UUID("7f9c24e8-3b0a-4a3e-9d3e-2f1c5b6a7d80"))
	p.IPAddress, p.DeviceFingerprint = ptr(kyc.NewPersonalText("203.0.113.7")), ptr(kyc.NewPersonalText("fingerprint-not-sent"))
	return r
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(t *testing.T, base string, client *http.Client) kyc.Provider {
			c := config(base)
			p, err := qitech.New(c, client)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Canaries: []string{key, faceKey, imageBase64(), "52998224725", "529.982.247-25", "ana@example.com", "Ana Exemplo da Silva", "+5511987654321"},
		Operations: []providertest.Operation{
			{
				Slot:    "AnalyzePerson",
				Call:    func(ctx context.Context, p kyc.Provider) (any, error) { return p.AnalyzePerson(ctx, full()) },
				Answer:  read(t, "answer_submitted.json"),
				Unknown: `{"id":"ana_01JQ0000000000000000000000","analysis_status":"waiting_for_data"}`,
				Refusal: providertest.Refusal{Status: 400, Body: `{"title":"Invalid request","description":"document_number is not valid"}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
				Unreadable: []string{
					`{"id":"ana_01JQ0000000000000000000000"}`, `{"analysis_status":null}`, `{"analysis_status":7}`,
					`{"id":"ana_somebody_else","analysis_status":"automatically_approved"}`,
				},
			},
			{
				Slot:    "FetchPersonAnalysis",
				Call:    func(ctx context.Context, p kyc.Provider) (any, error) { return p.FetchPersonAnalysis(ctx, analysisID) },
				Answer:  read(t, "answer_fetched.json"),
				Unknown: `{"id":"ana_01JQ0000000000000000000000","analysis_status":"manually_challenged"}`,
				Unreadable: []string{
					`{"name":"Ana"}`, `{"id":"ana_somebody_else","analysis_status":"automatically_approved"}`,
				},
			},
			{
				Slot:    "RegisterFace",
				Call:    func(ctx context.Context, p kyc.Provider) (any, error) { return p.RegisterFace(ctx, faceByImage()) },
				Answer:  `{"registration_key":"` + registrationKey + `"}`,
				Refusal: providertest.Refusal{Status: 400, Body: `{"title":"image_quality","description":"x","image_status":"no_faces"}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
				Unreadable: []string{
					`{"registration_key":null}`, `{"registration_key":7}`, `{"registration_key":"52998224725"}`,
					`{"registration_key":"` + registrationKey + `","document_number":"111.444.777-35"}`,
				},
			},
			{
				Slot:       "FetchFace",
				Call:       func(ctx context.Context, p kyc.Provider) (any, error) { return p.FetchFace(ctx, registrationKey) },
				Answer:     `{"registration_key":"` + registrationKey + `"}`,
				Unreadable: []string{`{"registration_key":"7f9c24e8-3b0a-4a3e-9d3e-2f1c5b6a7d80"}`},
			},
			{
				Slot:       "FetchFaceByDocument",
				Call:       func(ctx context.Context, p kyc.Provider) (any, error) { return p.FetchFaceByDocument(ctx, cpf()) },
				Answer:     `{"registration_key":"` + registrationKey + `"}`,
				Unreadable: []string{`{"registration_key":"` + registrationKey + `","document_number":"11144477735"}`},
			},
		},
	})
}

// serve runs one handler and gives a provider against it.
func serve(t *testing.T, handler http.HandlerFunc) kyc.Provider {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return newProvider(t, config(s.URL))
}

func TestSubmission(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		request kyc.PersonAnalysisRequest
		want    string
	}{
		"full":    {full(), "request_full.json"},
		"minimal": {minimal(), "request_minimal.json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []byte
			p := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got, _ = io.ReadAll(r.Body)
				if r.Method != http.MethodPost || r.URL.String() != "/onboarding/natural_person?analyze=true" || r.Header.Get("Authorization") != key {
					t.Errorf("%s %s with Authorization %q", r.Method, r.URL, r.Header.Get("Authorization"))
				}
				if agent := r.UserAgent(); agent != "kycgate/1.2.3 (sandbox)" {
					t.Errorf("User-Agent %q", agent)
				}
				_, _ = io.WriteString(w, read(t, "answer_submitted.json"))
			})
			v, err := p.AnalyzePerson(t.Context(), tt.request)
			if err != nil {
				t.Fatal(err)
			}
			var want, sent bytes.Buffer
			if err := errors.Join(json.Indent(&sent, got, "", " "), json.Compact(&want, []byte(read(t, tt.want)))); err != nil {
				t.Fatal(err)
			}
			if string(got) != want.String() {
				t.Errorf("sent\n%s\nwant %s", sent.String(), tt.want)
			}
			if v.Status != kyc.KycApproved || v.ProviderKey != "0c8a1d52-6a1f-4a55-9c11-4f3b1b8f7a21" || v.Reason != "automatically_approved" {
				t.Errorf("verdict %+v", v)
			}
		})
	}
}

func TestFetchEscapesTheID(t *testing.T) {
	t.Parallel()
	const odd = "a/b?c#d%e"
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.RequestURI != "/onboarding/natural_person/a%2Fb%3Fc%23d%25e" || r.Header.Get("Authorization") != key {
			t.Errorf("%s %s", r.Method, r.RequestURI)
		}
		_, _ = io.WriteString(w, `{"id":"`+odd+`","analysis_status":"in_queue"}`)
	})
	if v, err := p.FetchPersonAnalysis(t.Context(), odd); err != nil || v.Status != kyc.KycPending || !v.Known {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	auto, manual := kyc.DecidedAutomatic, kyc.DecidedManual
	tests := map[string]struct {
		body string
		want kyc.Verdict
	}{
		"automatically_approved": {`{"analysis_status":"automatically_approved"}`, kyc.Verdict{Status: kyc.KycApproved, Known: true, DecidedBy: &auto}},
		"automatically_reproved": {`{"analysis_status":"automatically_reproved"}`, kyc.Verdict{Status: kyc.KycRejected, Known: true, DecidedBy: &auto}},
		"manually_approved":      {`{"analysis_status":"manually_approved"}`, kyc.Verdict{Status: kyc.KycApproved, Known: true, DecidedBy: &manual}},
		"manually_reproved":      {`{"analysis_status":"manually_reproved"}`, kyc.Verdict{Status: kyc.KycRejected, Known: true, DecidedBy: &manual}},
		"in_manual_analysis":     {`{"analysis_status":"in_manual_analysis"}`, kyc.Verdict{Status: kyc.KycInReview, Known: true}},
		"in_queue":               {`{"analysis_status":"in_queue"}`, kyc.Verdict{Status: kyc.KycPending, Known: true}},
		"pending":                {`{"analysis_status":"pending"}`, kyc.Verdict{Status: kyc.KycPending, Known: true}},
		"not_analysed":           {`{"analysis_status":"not_analysed"}`, kyc.Verdict{Status: kyc.KycPending, Known: true}},
		"Automatically_Approved": {`{"analysis_status":"Automatically_Approved"}`, kyc.Verdict{Status: kyc.KycPending}}, // another word
		"approved":               {`{"analysis_status":"approved"}`, kyc.Verdict{Status: kyc.KycPending}},               // client_status, not a verdict
		"unknown":                {`{"analysis_status":"Ana 529.982.247-25"}`, kyc.Verdict{Status: kyc.KycPending}},     // prose is not relayed
		"manually_reproved ":     {read(t, "answer_fetched.json"), kyc.Verdict{Status: kyc.KycRejected, Known: true, DecidedBy: &manual, Reason: "document_not_found", ProviderKey: "0c8a1d52-6a1f-4a55-9c11-4f3b1b8f7a21"}},
		"in_queue ": {`{"analysis_status":"in_queue","reason":"underage","analysis_status_events":[{"new_status":"in_queue","analysis_output":{"reason":"other"}}]}`,
			kyc.Verdict{Status: kyc.KycPending, Known: true, Reason: "underage"}},
		"pending ": {`{"analysis_status":"pending","natural_person_key":"00000000-1234-5678-9012-123456789012","reason":null,"analysis_status_events":"odd"}`,
			kyc.Verdict{Status: kyc.KycPending, Known: true, ProviderKey: "00000000-1234-5678-9012-123456789012"}},
		"pending  ": {`{"analysis_status":"pending","reason":"A pessoa Ana nao existe"}`, kyc.Verdict{Status: kyc.KycPending, Known: true, Reason: "unknown"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tt.body) })
			got, err := p.FetchPersonAnalysis(t.Context(), analysisID)
			tt.want.ProviderStatus = strings.TrimSpace(name)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status     int
		title, why string
		kind       kyc.Kind
		code       string
		path       string
	}{
		{400, "Invalid request", "document_number: '529.982.247-25' does not match the mask", kyc.Rejected, "invalid_request", "input.documentNumber"},
		{422, "Invalid request", "Field birthdate has an invalid format", kyc.Rejected, "invalid_request", "input.birthdate"},
		{400, "Invalid request", "emails[0].email is not valid", kyc.Rejected, "invalid_request", "input.emails"},
		{400, "Invalid request", "phones[1].area_code must be digits", kyc.Rejected, "invalid_request", "input.phones"},
		{400, "Invalid request", "address.postal_code must be 00000-000", kyc.Rejected, "invalid_request", "input.address.postalCode"},
		{400, "Invalid request", "address.uf is unknown", kyc.Rejected, "invalid_request", "input.address.state"},
		{400, "Invalid request", "the field name is missing", kyc.Rejected, "invalid_request", "input.name"},
		{400, "Invalid request", "the name of field monthly_income", kyc.Rejected, "invalid_request", "input.monthlyIncome"},
		{400, "Invalid request", "face.registration_key not found", kyc.Rejected, "invalid_request", "input.faceRecognitionId"},
		{400, "Invalid request", "source.session_id", kyc.Rejected, "invalid_request", "input.sessionId"},
		{400, "Invalid request", "", kyc.Rejected, "invalid_request", "input"},
		{400, "Invalid request", "registration_id", kyc.Rejected, "invalid_request", "input"},
		{400, "image_quality", "", kyc.Rejected, "image_quality", "input"},
		{400, "Something Ana 529.982.247-25", "", kyc.Rejected, "HTTP_400", "input"},
		{400, "", "document_number", kyc.Internal, "HTTP_400", ""},
		{409, "Duplicated external_id", "", kyc.Conflict, "HTTP_409", ""},
		{400, "Duplicated external_id", "", kyc.Conflict, "duplicated_id", ""},
		{403, "Invalid ApiKey", "", kyc.Credentials, "HTTP_403", ""},
		{400, "Invalid ApiKey", "", kyc.Credentials, "invalid_api_key", ""},
		{406, "Not acceptable", "", kyc.Internal, "HTTP_406", ""},
		{404, "Register not found", "", kyc.Internal, "HTTP_404", ""},
	}
	for _, tt := range tests {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_ = json.NewEncoder(w).Encode(map[string]string{"title": tt.title, "description": tt.why})
		})
		_, err := p.AnalyzePerson(t.Context(), minimal())
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || e.Code != tt.code || strings.Join(e.Path, ".") != tt.path {
			t.Errorf("%d %q %q: got %v %v, want %s %s %s", tt.status, tt.title, tt.why, err, e.Path, tt.kind, tt.code, tt.path)
		}
	}
}

func TestImageStatuses(t *testing.T) {
	t.Parallel()
	for status, code := range map[string]string{
		"not_center": "image_quality.not_centered", "not_centered": "image_quality.not_centered", "no_faces": "image_quality.no_faces",
		"wearing_acessories": "image_quality.wearing_accessories", "Ana Exemplo": "image_quality",
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"title": "image_quality", "description": "x", "image_status": status})
		})
		_, err := p.AnalyzePerson(t.Context(), minimal())
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != kyc.Rejected || e.Code != code {
			t.Errorf("%s: %v, want %s", status, err, code)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := config("https://api.example.test")
	for name, change := range map[string]func(*qitech.Config){
		"no base":       func(c *qitech.Config) { c.BaseURL = "" },
		"relative base": func(c *qitech.Config) { c.BaseURL = "/qitech" },
		"another base":  func(c *qitech.Config) { c.BaseURL = "ftp://api.example.test" },
		"no key":        func(c *qitech.Config) { c.APIKey = nil },
		"empty key":     func(c *qitech.Config) { c.APIKey = secret("") },
	} {
		c := good
		change(&c)
		if _, err := qitech.New(c, httpjson.NewHTTPClient()); err == nil || strings.Contains(err.Error(), "example.test") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := qitech.New(good, nil); err == nil {
		t.Error("no client")
	}
}

func TestProductionRefusesSimulators(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if agent := r.UserAgent(); agent != "kycgate/1.2.3 (production)" {
			t.Errorf("User-Agent %q", agent)
		}
		w.Header().Set(httpjson.SimulatorHeader, "true")
		_, _ = io.WriteString(w, read(t, "answer_submitted.json"))
	}))
	defer s.Close()
	c := config(s.URL)
	c.Production = true
	if _, err := newProvider(t, c).AnalyzePerson(t.Context(), minimal()); kyc.KindOf(err) != kyc.Credentials {
		t.Errorf("got %v", err)
	}
}

// Base URLs are pasted with and without a slash at the end.
func TestBaseURLMayEndWithASlash(t *testing.T) {
	t.Parallel()
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		_, _ = io.WriteString(w, `{"analysis_status":"pending"}`)
	}))
	defer s.Close()
	for _, base := range []string{s.URL + "/qitech", s.URL + "/qitech/"} {
		if _, err := newProvider(t, config(base)).FetchPersonAnalysis(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"/qitech/onboarding/natural_person/x", "/qitech/onboarding/natural_person/x"}; !slices.Equal(paths, want) {
		t.Errorf("asked %v", paths)
	}
}
