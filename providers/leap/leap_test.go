package leap_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
	"github.com/kycgate/kycgate/providers/leap"
	"github.com/kycgate/kycgate/providers/providertest"
)

const key = "partner-key:1234567890"

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func secret(s string) func() string { return func() string { return s } }

func config(base string) leap.Config {
	return leap.Config{BaseURL: base, APIKey: secret(key), Version: "1.2.3"}
}

func newProvider(t testing.TB, c leap.Config) kyc.Provider {
	t.Helper()
	p, err := leap.New(c, httpjson.NewHTTPClient())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// minimal is the documented example (dossier A2.2).
func minimal() kyc.ProspectRequest {
	return kyc.ProspectRequest{ID: "cus_01JQ0000000000000000000000", Profile: kyc.ProspectProfile{
		FirstName: kyc.NewName("Ana"), LastName: kyc.NewName("Hernández"), Phone: kyc.NewPhoneNumber("+5215521206703"),
		Address: kyc.NewPersonalText("Blvd. Kukulcan Km. 4.5"), City: "Cancún", State: "Q.R.", Country: "MX",
		Birthdate: new(kyc.NewDate("1987-06-24")),
	}}
}

func full() kyc.ProspectRequest {
	r := minimal()
	p := &r.Profile
	p.MiddleName, p.SecondLastName = new(kyc.NewName("María")), new(kyc.NewName("Gómez"))
	p.Email, p.Gender = new(kyc.NewEmailAddress("ana@example.com")), new(kyc.ProspectFemale)
	p.Address2, p.ZipCode = new(kyc.NewPersonalText("Zona Hotelera")), new(kyc.NewPersonalText("77500"))
	p.BirthState, p.Language = new("MX-CMX"), new("es")
	p.PlaceDetail = new(kyc.NewPersonalText(`{"place_id":"x"}`))
	p.Location = &kyc.Coordinates{Latitude: kyc.NewDegrees(21.13), Longitude: kyc.NewDegrees(-86.75)}
	p.UserLocation = &kyc.Coordinates{Latitude: kyc.NewDegrees(0), Longitude: kyc.NewDegrees(-99.1384059)}
	return r
}

func isOpen(out any) bool {
	v, ok := out.(kyc.ProspectVerdict)
	status, action := v.Cip.Outcome()
	return ok && !v.Known && v.Said && v.Cip.Status == kyc.CipUnknown && status == kyc.CustomerPending && action.Kind == kyc.ActionWait
}

func TestConformance(t *testing.T) {
	t.Parallel()
	const good, unknown = `{"userId":"OSZwErXgt1MGPHwkYJVqz3LTN0R2","status":"Completed","statusDetail":"None"}`, `{"userId":"OSZwErXgt1MGPHwkYJVqz3LTN0R2","status":"OnProcess"}`
	unreadable := []string{`{"userId":""}`, `{"userId":7}`, `{"userId":"ana@example.com"}`, `{"status":"Completed","statusDetail":"None"}`}
	providertest.Run(t, providertest.Harness{
		New: func(t *testing.T, base string, client *http.Client) kyc.Provider {
			p, err := leap.New(config(base), client)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Canaries: []string{key, "ana@example.com", "Ana Hernández", "+5215521206703", "Blvd. Kukulcan Km. 4.5"},
		Operations: []providertest.Operation{
			{
				Slot:   "RegisterProspect",
				Call:   func(ctx context.Context, p kyc.Provider) (any, error) { return p.RegisterProspect(ctx, full()) },
				Answer: good, Unknown: unknown, Open: isOpen, Unreadable: unreadable,
				Refusal: providertest.Refusal{Status: 400, Body: `{"reason":"dob must be a date","code":"INVALID_DOB"}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
			},
			{
				Slot: "FetchProspect",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.FetchProspect(ctx, kyc.Identity{Phone: full().Profile.Phone})
				},
				Answer: good, Unknown: unknown, Open: isOpen, Unreadable: unreadable,
				Kinds: map[int]kyc.Kind{404: kyc.Internal}, // a page is nobody's "User not found"
			},
			{
				Slot:   "UpdateProspect",
				Call:   func(ctx context.Context, p kyc.Provider) (any, error) { return p.UpdateProspect(ctx, full()) },
				Answer: good, Unknown: unknown, Open: isOpen, Unreadable: unreadable,
				Refusal: providertest.Refusal{Status: 422, Body: `{"reason":"address1 is not valid"}`},
				Kinds:   map[int]kyc.Kind{404: kyc.Internal},
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

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		call func(kyc.Provider) (kyc.ProspectVerdict, error)
		path string
		want string
	}{
		"register full":    {func(p kyc.Provider) (kyc.ProspectVerdict, error) { return p.RegisterProspect(t.Context(), full()) }, "/v1/auth/register-user-v2", read(t, "request_full.json")},
		"register minimal": {func(p kyc.Provider) (kyc.ProspectVerdict, error) { return p.RegisterProspect(t.Context(), minimal()) }, "/v1/auth/register-user-v2", read(t, "request_minimal.json")},
		"update":           {func(p kyc.Provider) (kyc.ProspectVerdict, error) { return p.UpdateProspect(t.Context(), minimal()) }, "/v1/auth/register-user-v2", read(t, "request_minimal.json")},
		"by phone": {func(p kyc.Provider) (kyc.ProspectVerdict, error) {
			return p.FetchProspect(t.Context(), kyc.Identity{Phone: kyc.NewPhoneNumber("+5215521206703")})
		}, "/v1/auth/get-user-token-v2", `{"phoneNumber":"+5215521206703","countryCode":"MX"}`},
		"by a phone nobody is assigned": {func(p kyc.Provider) (kyc.ProspectVerdict, error) {
			return p.FetchProspect(t.Context(), kyc.Identity{Phone: kyc.NewPhoneNumber("+15555550100")})
		}, "/v1/auth/get-user-token-v2", `{"phoneNumber":"+15555550100","countryCode":"US"}`},
		"by email": {func(p kyc.Provider) (kyc.ProspectVerdict, error) {
			return p.FetchProspect(t.Context(), kyc.Identity{Email: kyc.NewEmailAddress("ana@example.com")})
		}, "/v1/auth/get-user-token-v2", `{"email":"ana@example.com"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, func(w http.ResponseWriter, r *http.Request) {
				var got, want any
				body, _ := io.ReadAll(r.Body)
				if err := errors.Join(json.Unmarshal(body, &got), json.Unmarshal([]byte(tt.want), &want)); err != nil {
					t.Error(err)
				}
				if r.Method != http.MethodPost || r.URL.String() != tt.path || r.Header.Get("api_key") != key || r.Header.Get("Authorization") != "" || !reflect.DeepEqual(got, want) {
					t.Errorf("%s %s\n got %s\nwant %s", r.Method, r.URL, body, tt.want)
				}
				if agent := r.UserAgent(); agent != "kycgate/1.2.3 (sandbox)" || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("User-Agent %q, Content-Type %q", agent, r.Header.Get("Content-Type"))
				}
				_, _ = io.WriteString(w, `{"userId":"OSZwErXgt1MGPHwkYJVqz3LTN0R2","status":"OnProcess"}`)
			})
			if v, err := tt.call(p); err != nil || v.UserID != "OSZwErXgt1MGPHwkYJVqz3LTN0R2" || *v.Cip.ProviderStatus != "OnProcess" {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// The contract's base_url has no /v1, the documentation's has one.
func TestBaseURLs(t *testing.T) {
	t.Parallel()
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		_, _ = io.WriteString(w, `{"userId":"u1"}`)
	}))
	defer s.Close()
	for _, base := range []string{s.URL, s.URL + "/", s.URL + "/v1", s.URL + "/v1/"} {
		c := config(base)
		c.UpdatePath = "/user/update"
		p := newProvider(t, c)
		if _, err := p.FetchProspect(t.Context(), kyc.Identity{Email: kyc.NewEmailAddress("a@example.com")}); err != nil {
			t.Error(err)
		}
		if _, err := p.UpdateProspect(t.Context(), minimal()); err != nil {
			t.Error(err)
		}
	}
	want := strings.Repeat("/v1/auth/get-user-token-v2 /v1/user/update ", 4)
	if got := strings.Join(paths, " ") + " "; got != want {
		t.Errorf("%s", got)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body           string
		status         kyc.CipStatus
		detail         kyc.CipStatusDetail
		word, detailed string
		said, known    bool
	}{
		{`"status":"Completed","statusDetail":"None"`, kyc.CipCompleted, kyc.CipDetailNone, "Completed", "None", true, true},
		{`"status":"Completed"`, kyc.CipCompleted, kyc.CipDetailNone, "Completed", "", true, true},
		{`"status":"UpgradePending"`, kyc.CipUpgradePending, kyc.CipDetailNone, "UpgradePending", "", true, true},
		{`"status":"UpgradeInProgress"`, kyc.CipUpgradeInProgress, kyc.CipDetailNone, "UpgradeInProgress", "", true, true},
		{`"status":"UpgradeFailed","statusDetail":"OfacFailed"`, kyc.CipUpgradeFailed, kyc.CipDetailOfacFailed, "UpgradeFailed", "OfacFailed", true, true},
		{`"status":"UpgradeSoftFailed","statusDetail":"InvalidEMail"`, kyc.CipUpgradeSoftFailed, kyc.CipDetailInvalidEmail, "UpgradeSoftFailed", "InvalidEMail", true, true},
		{`"status":"UpgradeSoftFailed","statusDetail":"InvalidEmail"`, kyc.CipUpgradeSoftFailed, kyc.CipDetailUnknown, "UpgradeSoftFailed", "InvalidEmail", true, false}, // another spelling is another word
		{`"status":"AccountUpgradeInProgress","statusDetail":null`, kyc.CipAccountUpgradeInProgress, kyc.CipDetailNone, "AccountUpgradeInProgress", "", true, true},
		{`"status":"OnProcess"`, kyc.CipUnknown, kyc.CipDetailNone, "OnProcess", "", true, false},
		{`"status":"completed"`, kyc.CipUnknown, kyc.CipDetailNone, "completed", "", true, false},
		{`"status":"Ana Hernández"`, kyc.CipUnknown, kyc.CipDetailNone, "unknown", "", true, false}, // prose is not relayed
		{`"statusDetail":"Compliance"`, kyc.CipUnknown, kyc.CipDetailCompliance, "", "Compliance", true, true},
		{`"status":"UpgradePending","statusDetail":"Later"`, kyc.CipUpgradePending, kyc.CipDetailUnknown, "UpgradePending", "Later", true, false},
		{`"status":{"a":1},"statusDetail":7`, kyc.CipUnknown, kyc.CipDetailNone, "", "", false, true},
		{`"x":1`, kyc.CipUnknown, kyc.CipDetailNone, "", "", false, true},
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"userId":"OSZwErXgt1MGPHwkYJVqz3LTN0R2",`+tt.body+`}`)
		})
		v, err := p.FetchProspect(t.Context(), kyc.Identity{Phone: kyc.NewPhoneNumber("+5215521206703")})
		word := ""
		if v.Cip.ProviderStatus != nil {
			word = *v.Cip.ProviderStatus
		}
		if err != nil || v.Cip.Status != tt.status || v.Cip.Detail != tt.detail || word != tt.word || v.Detail != tt.detailed || v.Said != tt.said || v.Known != tt.known {
			t.Errorf("%s: %+v %q, %v", tt.body, v, word, err)
		}
	}
}

// How a duplicate is refused is not documented, so every way that can be thought of is read.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status       int
		reason, code string
		kind         kyc.Kind
		want, path   string
	}{
		{400, "Phone number already exists", "", kyc.Conflict, "duplicate_phone", ""},
		{409, "phoneNumber is already registered", "USER_ALREADY_EXISTS", kyc.Conflict, "duplicate_phone", ""},
		{422, "Duplicates not allowed: email", "", kyc.Conflict, "duplicate_email", ""},
		{403, "The e-mail address is in use", "", kyc.Conflict, "duplicate_email", ""},
		{412, "Duplicate user (phone, email)", "", kyc.Conflict, "duplicate", ""},
		{400, "", "DUPLICATE_PHONE", kyc.Conflict, "duplicate_phone", ""},
		{400, "El teléfono ya está registrado", "", kyc.Conflict, "duplicate_phone", ""},
		{400, "El correo ya existe", "", kyc.Conflict, "duplicate_email", ""},
		{409, "", "", kyc.Conflict, "HTTP_409", ""},
		{400, "phoneNumber does not exist", "", kyc.Rejected, "HTTP_400", "input.phone"},
		{400, "phoneNumber must be a valid mobile number", "INVALID_PHONE", kyc.Rejected, "INVALID_PHONE", "input.phone"},
		{422, "email is not valid", "", kyc.Rejected, "HTTP_422", "input.email"},
		{400, "User must be at least 18 years old", "", kyc.Rejected, "HTTP_400", "input.birthdate"},
		{400, "dob: 1987-06-24 is not a date", "Ana 1987-06-24", kyc.Rejected, "HTTP_400", "input.birthdate"},
		{400, "lastName2 is too long", "", kyc.Rejected, "HTTP_400", "input.secondLastName"},
		{400, "countryCode not supported for tenant", "", kyc.Rejected, "HTTP_400", "input.country"},
		{400, "callLocationLatitude out of range", "", kyc.Rejected, "HTTP_400", "input.userLatitude"},
		{400, "placeDetail is no JSON", "", kyc.Rejected, "HTTP_400", "input.placeDetail"},
		{400, "address1 is required", "", kyc.Rejected, "HTTP_400", "input.address"},
		{400, "no", "", kyc.Rejected, "HTTP_400", "input"},
		{401, "bad key", "", kyc.Credentials, "HTTP_401", ""},
		{403, "scope Partner is missing", "", kyc.Credentials, "HTTP_403", ""},
		{404, "Not found", "", kyc.Internal, "HTTP_404", ""},
		{415, "unsupported", "", kyc.Internal, "HTTP_415", ""},
		{500, "phone already exists", "", kyc.Ambiguous, "HTTP_500", ""}, // a 5xx says nothing about the data
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_ = json.NewEncoder(w).Encode(map[string]string{"reason": tt.reason, "code": tt.code})
		})
		_, err := p.RegisterProspect(t.Context(), minimal())
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || e.Code != tt.want || strings.Join(e.Path, ".") != tt.path {
			t.Errorf("%d %q %q: got %v %v, want %s %s %s", tt.status, tt.reason, tt.code, err, e.Path, tt.kind, tt.want, tt.path)
		}
	}
}

func TestLookUpRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		kind   kyc.Kind
	}{
		{404, `{"reason":"User not found","code":"USER_NOT_FOUND"}`, kyc.NotFound},
		{404, `{"reason":"Nobody"}`, kyc.NotFound},
		{404, ``, kyc.NotFound},
		{400, `{"reason":"User not found","code":"USER_NOT_FOUND"}`, kyc.NotFound},
		{404, `{"reason":"Not found"}`, kyc.NotFound},
		{404, `{"reason":"El usuario no existe"}`, kyc.NotFound},
		{404, `404 page not found`, kyc.Internal},
		{404, `{"error":"Not Found","message":"Cannot POST /v1/auth/get-user-token-v2","statusCode":404}`, kyc.Internal},
		{404, `{"message":"no Route matched with those values"}`, kyc.Internal},
		{404, `{"reason":"no route"}`, kyc.Internal},
		{400, `{"reason":"the user's state is unknown"}`, kyc.Internal},
		{404, `null`, kyc.Internal},
		{400, `{"reason":"phoneNumber is not valid"}`, kyc.Internal},
		{401, `{"reason":"key"}`, kyc.Credentials},
		{500, `{"reason":"User not found"}`, kyc.Ambiguous},
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		if _, err := p.FetchProspect(t.Context(), kyc.Identity{Phone: kyc.NewPhoneNumber("+5215521206703")}); kyc.KindOf(err) != tt.kind || err == nil {
			t.Errorf("%d %s: %v, want %s", tt.status, tt.body, err, tt.kind)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := config("https://api.example.test")
	for name, change := range map[string]func(*leap.Config){
		"no base":        func(c *leap.Config) { c.BaseURL = "" },
		"relative base":  func(c *leap.Config) { c.BaseURL = "/leap" },
		"no key":         func(c *leap.Config) { c.APIKey = nil },
		"empty key":      func(c *leap.Config) { c.APIKey = secret("") },
		"update without": func(c *leap.Config) { c.UpdatePath = "user" },
	} {
		c := good
		change(&c)
		if _, err := leap.New(c, httpjson.NewHTTPClient()); err == nil || strings.Contains(err.Error(), "example.test") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leap.New(good, nil); err == nil {
		t.Error("no client")
	}
}

// FuzzAnswers holds that whatever comes back is read without a panic, that only Leap's own word completes, and that
// no prose comes through.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{`{"userId":"u1","status":"Completed","statusDetail":"None"}`, `{"userId":"u1"}`, `{"reason":"phone already exists"}`, `{"userId":"u1","status":"Ünknown"}`, `[]`, ``, `{"userId":{}}`} {
		f.Add(200, []byte(s))
		f.Add(400, []byte(s))
		f.Add(404, []byte(s))
	}
	var status int
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	f.Cleanup(server.Close)
	p := newProvider(f, config(server.URL))
	f.Fuzz(func(t *testing.T, s int, b []byte) {
		if s < 200 || s > 599 || s == 204 || s == 304 {
			return
		}
		status, body = s, b
		for _, call := range []func() (kyc.ProspectVerdict, error){
			func() (kyc.ProspectVerdict, error) { return p.RegisterProspect(t.Context(), minimal()) },
			func() (kyc.ProspectVerdict, error) {
				return p.FetchProspect(t.Context(), kyc.Identity{Phone: minimal().Profile.Phone})
			},
		} {
			v, err := call()
			var e *kyc.Error
			switch {
			case err != nil && (!errors.As(err, &e) || kyc.CodeLike(e.Code) != e.Code):
				t.Errorf("%v", err)
			case err == nil && (s > 299 || v.UserID == "" || kyc.CodeLike(v.Detail) != v.Detail):
				t.Errorf("%d %q became %+v", s, b, v)
			case err == nil && v.Cip.Status == kyc.CipCompleted && !strings.Contains(string(b), "Completed"):
				t.Errorf("%q completes", b)
			}
		}
	})
}
