package qitechsim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kycgate/kycgate/providers/simulator"
)

const cpf9 = "987.654.321-00"

func TestPersonIsRefusedNamingTheField(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, c := range []struct {
		field string // what is changed, and what the answer must name unless named says otherwise
		value any
		named string
	}{
		{"id", nil, ""}, {"id", "", ""}, {"id", "  ", ""}, {"id", 7, ""}, {"id", strings.Repeat("x", 256), ""},
		{"registration_id", 7, ""}, {"registration_id", "", ""},
		{"registration_date", nil, ""}, {"registration_date", "2019-12-11", ""}, {"registration_date", "2019-12-11T11:37:15", ""},
		{"registration_date", "2019-13-11T11:37:15Z", ""}, {"registration_date", "2019-12-11T1:37:15Z", ""}, {"registration_date", "2019-12-11 11:37:15Z", ""},
		{"registration_date", "2019-12-11T11:37:15,5Z", ""}, {"registration_date", "2019-12-11T11:37:15-0300", ""}, {"registration_date", 1, ""},
		{"document_number", nil, ""}, {"document_number", "98765432100", ""}, {"document_number", "987.654.321-0", ""}, {"document_number", "987.654.321-0a", ""},
		{"document_number", " 987.654.321-00", ""}, {"document_number", "９87.654.321-00", ""}, {"document_number", 98765432100, ""},
		{"name", nil, ""}, {"name", "", ""}, {"name", " ", ""}, {"name", []any{}, ""},
		{"birthdate", nil, ""}, {"birthdate", "1990-02-30", ""}, {"birthdate", "28/02/1990", ""}, {"birthdate", "1990-2-8", ""}, {"birthdate", "1990-02-28T00:00:00Z", ""},
		{"gender", "other", ""}, {"gender", "Female", ""}, {"gender", "", ""}, {"gender", 1, ""},
		{"nationality", "BR", ""}, {"nationality", "bra", ""}, {"nationality", "XXX", ""},
		{"mother_name", 1, ""}, {"father_name", true, ""}, {"occupation", map[string]any{}, ""}, {"client_category", 1, ""},
		{"monthly_income", "5000", ""}, {"monthly_income", 10.5, ""}, {"monthly_income", json.Number("1.0"), ""}, {"monthly_income", json.Number("1e3"), ""}, {"monthly_income", -1, ""},
		{"monthly_income", json.Number("99999999999999999999"), ""}, {"declared_assets", "1", ""},
		{"emails", map[string]any{}, ""}, {"emails", "a@b.c", ""}, {"emails[0]", "a@b.c", ""}, {"emails[0].email", nil, ""}, {"emails[0].email", "a", ""},
		{"emails[0].email", "a@", ""}, {"emails[0].email", "a@b@c", ""}, {"emails[0].email", "a b@c", ""}, {"emails[0].validation_type", "zaig_sms", ""}, {"emails[0].validation_key", "k", ""},
		{"documents", []any{}, ""}, {"documents.rg", "x", ""}, {"documents.rg.number", 1, ""}, {"documents.rg.issuance_date", "2010-02-30", ""}, {"documents.rg.validation_type", "visit", ""},
		{"documents.cnh.expiration_date", "soon", ""}, {"documents.cnh.first_issuance_date", "1", ""}, {"documents.cnh.category", 1, ""}, {"documents.passport.validation_type", "x", ""},
		{"address", "Rua A", ""}, {"address.street", 1, ""}, {"address.number", 10, ""}, {"address.uf", "sp", ""}, {"address.uf", "SPX", ""}, {"address.postal_code", "01310100", ""},
		{"address.postal_code", "0131-0100", ""}, {"address.country", "BR", ""}, {"address.country", "Brasil", ""}, {"address.validation_type", "zaig_api", ""},
		{"phones", "1", ""}, {"phones[0]", "1", ""}, {"phones[0].number", nil, ""}, {"phones[0].number", "99999-0000", ""}, {"phones[0].number", 999990000, ""}, {"phones[0].number", "1234567890123456", ""},
		{"phones[0].international_dial_code", "+55", ""}, {"phones[0].international_dial_code", "055", ""}, {"phones[0].international_dial_code", "5555", ""},
		{"phones[0].area_code", "011", ""}, {"phones[0].area_code", "(11)", ""}, {"phones[0].area_code", "", ""}, {"phones[0].type", "home", ""}, {"phones[0].validation_type", "sms", ""},
		{"source", "app", ""}, {"source.session_id", "", ""}, {"source.session_id", strings.Repeat("x", 501), ""}, {"source.ip", "::1", ""}, {"source.ip", "1.2.3", ""},
		{"source.ip", "1.2.3.256", ""}, {"source.ip", "1.2.3.0004", ""}, {"source.ip", "1.2.3.+4", ""}, {"source.ip", "1.2.3.", ""}, {"source.channel", 1, ""},
		{"face", "k", ""}, {"face.registration_key", "k", ""}, {"face.registration_key", "6f9619ff8b86d011b42d00cf4fc964ff", ""}, {"face.validation_key", "6f9619ff-8b86-d011-b42d-00cf4fc964fg", ""}, {"face.validation_type", "visit", ""},
		{"face.registration_key", FaceKeyInvalid, ""},
		{"emails[0].email", EmailInvalidDocument, "document_number"},
		{"emails[0].email", "Invalid-Document+7@KYCGATE.test", "document_number"},
	} {
		got := b.post(with(full("a", cpf9), c.field, c.value))
		named := c.named
		def(&named, c.field)
		description, _ := got.fields["description"].(string)
		if got.status != http.StatusBadRequest || got.fields["title"] != "Invalid request" || !strings.HasPrefix(description, named+": ") {
			t.Errorf("%s = %v: %d %s", c.field, c.value, got.status, got.body)
		}
		if s, ok := c.value.(string); ok && len(s) > 6 && strings.Contains(got.body, s) {
			t.Errorf("%s: the answer repeats the value: %s", c.field, got.body)
		}
	}
	if n := len(b.Analyses()); n != 0 {
		t.Errorf("%d analyses were made of refused requests", n)
	}
}

func TestPersonIsAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	// Foreign addresses are free text, and so is what is unknown.
	abroad := with(with(with(full("", cpf9), "address.country", "USA"), "address.uf", "California"), "address.postal_code", "90210")
	for name, fields := range map[string]map[string]any{
		"minimal":         minimal("", cpf9),
		"full":            full("", cpf9),
		"abroad":          abroad,
		"no country":      with(full("", cpf9), "address.country", nil),
		"null is absent":  with(full("", cpf9), "gender", any(json.RawMessage("null"))),
		"undefined":       with(full("", cpf9), "gender", "undefined"),
		"unknown field":   with(full("", cpf9), "extra", map[string]any{"a": []any{1}}),
		"no check digits": with(full("", cpf9), "document_number", "999.456.789-12"),
		"utc":             with(full("", cpf9), "registration_date", "2019-12-11T11:37:15Z"),
		"session of 500":  with(full("", cpf9), "source.session_id", strings.Repeat("é", 500)),
		"empty lists":     with(with(full("", cpf9), "emails", []any{}), "phones", []any{}),
		"dial code 20":    with(full("", cpf9), "phones[0].international_dial_code", "20"),
		"leap day":        with(full("", cpf9), "birthdate", "2000-02-29"),
	} {
		fields["id"] = name
		if got := b.post(fields); got.status != http.StatusOK || got.fields["analysis_status"] != StatusAutomaticallyApproved {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

func TestBodyThatIsNotJSONIs406(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, method := range []string{"POST", "PUT"} {
		path := map[string]string{"POST": "/onboarding/natural_person", "PUT": "/onboarding/natural_person/x"}[method]
		for _, body := range []string{"", " ", "{", `{"id":}`, `{} {}`, "{\"id\":\"\xff\"}", `{'id':1}`, strings.Repeat("[", 20000)} {
			if got := b.do(method, path, body); got.status != http.StatusNotAcceptable || got.fields["title"] == "" {
				t.Errorf("%s %.20q: %d %s", method, body, got.status, got.body)
			}
		}
		for _, body := range []string{"[]", "null", `"x"`, "1"} {
			if got := b.do(method, path, body); got.status != http.StatusBadRequest {
				t.Errorf("%s %s: %d %s, want 400: it is JSON", method, body, got.status, got.body)
			}
		}
	}
}

// FuzzAnalyze sends anything: no panic, no 5xx, always JSON, and what was accepted can be read.
func FuzzAnalyze(f *testing.F) {
	seed := func(v any) {
		text, _ := json.Marshal(v)
		f.Add(text)
	}
	for _, document := range []string{"012.345.678-90", "512.345.678-90", cpf9} {
		seed(minimal("a", document))
		seed(full("a/../ü", document))
	}
	seed(with(full("a", cpf9), "analysis_status", "automatically_approved"))
	seed(with(full("a", cpf9), "emails[0].email", EmailUnknownStatus))
	f.Add([]byte(`{"id":"a","id":"b","monthly_income":1e400}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New(Config{ManualDelay: Never, PendingDelay: Never})
		defer func() { _ = s.Close() }()
		send := func(method, path string, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL.Path = path
			r.Header.Set("Authorization", SandboxAPIKey)
			w := httptest.NewRecorder()
			simulator.New(s).ServeHTTP(w, r)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s %q: %d %s", method, body, w.Code, w.Body)
			}
			return w
		}
		w := send("POST", "/qitech/onboarding/natural_person", string(body))
		for _, a := range s.Analyses() {
			if w.Code != http.StatusOK || !utf8.ValidString(a.ID) {
				t.Fatalf("%d, but it is stored: %q", w.Code, a.ID)
			}
			if document, ok := s.read(a.ID); !ok || !json.Valid(document) {
				t.Fatalf("reading gives %s", document)
			}
		}
		send("PUT", "/qitech/onboarding/natural_person/a", string(body))
		send("POST", "/qitech/decide", string(body))
	})
}
