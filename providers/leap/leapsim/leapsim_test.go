package leapsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// bench is a simulator behind simulator.New, over real HTTP.
type bench struct {
	*Sim
	t    *testing.T
	root string
}

func setup(t *testing.T, config Config) *bench {
	t.Helper()
	b := &bench{Sim: New(config), t: t}
	server := httptest.NewServer(simulator.New(b.Sim))
	b.root = server.URL + "/leap"
	t.Cleanup(func() {
		_ = b.Close()
		server.Close()
	})
	return b
}

type reply struct {
	status int
	body   string
	fields map[string]any
	header http.Header
}

func (b *bench) do(method, path, body, key string) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.root+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if key != "" {
		r.Header["api_key"] = []string{key}
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	got := reply{status: answer.StatusCode, body: string(text), header: answer.Header}
	_ = json.Unmarshal(text, &got.fields)
	if answer.Header.Get(simulator.Header) != "true" {
		b.t.Errorf("%s %s: no header %s", method, path, simulator.Header)
	}
	return got
}

func (b *bench) register(fields map[string]any) reply {
	b.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do("POST", registerPath, string(body), SandboxAPIKey)
}

func (b *bench) look(body string) reply {
	b.t.Helper()
	return b.do("POST", lookUpPath, body, SandboxAPIKey)
}

// example is the documented request (dossier A2.2).
func example(changes map[string]any) map[string]any {
	m := map[string]any{"phoneNumber": "+5215521206703", "firstName": "Ana", "lastName": "Hernández", "dob": "1987-06-24T07:00:00.000Z",
		"address1": "Blvd. Kukulcan Km. 4.5", "countryCode": "MX", "city": "Cancún", "state": "Q.R."}
	for k, v := range changes {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

func TestDocumentedExample(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	got := b.register(example(nil))
	if got.status != 200 || got.fields["status"] != "OnProcess" || len(got.fields["userId"].(string)) != 28 || len(got.fields) != 2 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if again := b.look(`{"phoneNumber":"+5215521206703","countryCode":"MX"}`); again.status != 200 || again.fields["userId"] != got.fields["userId"] {
		t.Errorf("%d %s", again.status, again.body)
	}
	if nobody := b.look(`{"email":"sandbox.user@example.com"}`); nobody.status != 404 || nobody.body != `{"reason":"User not found","code":"USER_NOT_FOUND"}` {
		t.Errorf("%d %s", nobody.status, nobody.body)
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Now: func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }})
	for field, bad := range map[string][]any{
		"firstName": {nil, "", 7}, "lastName": {nil, " "}, "address1": {nil}, "countryCode": {nil, "MEX", "mx"}, "city": {nil}, "state": {nil, 1},
		"phoneNumber": {nil, "5521206703", "+0123456789", "+52"}, "email": {"nope", "a@b"}, "gender": {"FEMALE", "male"}, "lang": {"pt"},
		"dob": {"2026-02-29", "yesterday", "2009-01-01", "1920-01-01"}, "placeDetail": {"{", map[string]any{"a": 1}}, "latitude": {91, "19"}, "longitude": {-181},
		"callLocationLatitude": {-91}, "callLocationLongitude": {181}, "middleName": {7}, "birthState": {1},
	} {
		for _, v := range bad {
			got := b.register(example(map[string]any{field: v}))
			reason, _ := got.fields["reason"].(string)
			if got.status != 400 || !strings.HasPrefix(reason, field+" ") || got.fields["code"] != "INVALID_REQUEST" {
				t.Errorf("%s %v: %d %s", field, v, got.status, got.body)
			}
			if s, ok := v.(string); ok && len(s) > 4 && strings.Contains(got.body, s) {
				t.Errorf("%s: the value is repeated: %s", field, got.body)
			}
		}
	}
	for _, body := range []string{"", "[]", "null", "{", `{"a":1} x`, "\xff"} {
		if got := b.do("POST", registerPath, body, SandboxAPIKey); got.status != 400 {
			t.Errorf("%q: %d %s", body, got.status, got.body)
		}
	}
	for _, body := range []string{"{}", `{"phoneNumber":"1"}`, `{"email":"x"}`, `{"phoneNumber":"+5215521206703","countryCode":"MEX"}`} {
		if got := b.look(body); got.status != 400 {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if n := len(b.Users()); n != 0 {
		t.Errorf("%d users", n)
	}
	for i, good := range []map[string]any{{"dob": nil}, {"dob": "1987-06-24"}, {"dob": "1987-06-24T07:00:00-06:00"}, {"phoneNumber": nil, "email": "ana@example.com"}, {"gender": "None", "lang": "es", "placeDetail": "{}", "x": 1}} {
		if _, own := good["phoneNumber"]; !own {
			good["phoneNumber"] = fmt.Sprintf("+52551234567%d", i)
		}
		if got := b.register(example(good)); got.status != 200 {
			t.Errorf("%v: %d %s", good, got.status, got.body)
		}
	}
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config Config
		key    string
		status int
	}{
		{Config{}, SandboxAPIKey, 404}, {Config{}, "", 401}, {Config{}, "wrong", 401}, {Config{}, SandboxUnscopedAPIKey, 403}, {Config{APIKey: "own"}, "own", 404}, {Config{APIKey: "own"}, SandboxAPIKey, 401},
	} {
		b := setup(t, c.config)
		if got := b.do("POST", lookUpPath, `{"phoneNumber":"+5215521206703"}`, c.key); got.status != c.status || got.fields["reason"] == "" {
			t.Errorf("%q with %+v: %d %s", c.key, c.config, got.status, got.body)
		}
		if got := b.do("POST", registerPath, `{}`, c.key); (got.status == 400) != (c.status == 404) {
			t.Errorf("%q with %+v: %d %s", c.key, c.config, got.status, got.body)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", registerPath, 405}, {"PUT", lookUpPath, 405}, {"POST", "/auth/register-user-v2", 404}, {"POST", "/v1/user/operations/request-money-full", 404}, {"GET", "/", 404},
		{"GET", "/decide", 405}, {"POST", "/users", 405},
	} {
		if got := b.do(c.method, c.path, "", SandboxAPIKey); got.status != c.status || (c.status == 405) != (got.header.Get("Allow") != "") {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
}

// Statuses follow their script, by time and by look-ups.
func TestScripts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	for i, m := range magic {
		timed, looked := setup(t, Config{Now: clock, StepDelay: time.Second}), setup(t, Config{StepEveryLook: true})
		byName, byDigits := fmt.Sprintf("+52551111%04d", i), "+525500"+"0000"+m.digits
		for _, b := range []*bench{timed, looked} {
			for _, fields := range []map[string]any{{"firstName": strings.ToUpper(m.name), "phoneNumber": byName}, {"phoneNumber": byDigits}} {
				got := b.register(example(fields))
				if got.status != 200 || m.script[0] != is(got) {
					t.Errorf("%s: %d %s", m.name, got.status, got.body)
				}
			}
		}
		for step := 1; step < len(m.script)+2; step++ {
			mu.Lock()
			now = now.Add(time.Second)
			mu.Unlock()
			want := m.script[min(step, len(m.script)-1)]
			for _, phone := range []string{byName, byDigits} {
				for name, b := range map[string]*bench{"timed": timed, "looked": looked} {
					if got := b.look(`{"phoneNumber":"` + phone + `"}`); is(got) != want {
						t.Errorf("%s, %s, step %d: %s, want %s", m.name, name, step, got.body, want)
					}
				}
			}
		}
	}
}

func is(r reply) state {
	status, _ := r.fields["status"].(string)
	detail, _ := r.fields["statusDetail"].(string)
	return state{status, detail}
}

func TestDuplicatesAndCorrections(t *testing.T) {
	t.Parallel()
	for _, status := range []int{0, 400} {
		b := setup(t, Config{DuplicateStatus: status})
		def(&status, 409)
		b.register(example(map[string]any{"email": "Ana@example.com"}))
		for field, change := range map[string]map[string]any{
			"phoneNumber": {"email": "other@example.com"}, "email": {"phoneNumber": "+525500001111", "email": "ana@EXAMPLE.com"},
		} {
			got := b.register(example(change))
			if got.status != status || got.fields["code"] != "USER_ALREADY_EXISTS" || !strings.HasPrefix(got.fields["reason"].(string), field) {
				t.Errorf("%s: %d %s", field, got.status, got.body)
			}
		}
		if u, ok := b.ByPhone("+5215521206703"); !ok || u.Posted != 3 || u.Corrected != 0 || len(b.Users()) != 1 {
			t.Errorf("%+v", u)
		}
		// The e-mail wins and the phone is ignored.
		if got := b.look(`{"phoneNumber":"+529999999999","email":"ana@example.com"}`); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
		if got := b.look(`{"phoneNumber":"+5215521206703","email":"nobody@example.com"}`); got.status != 404 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}

	b := setup(t, Config{StepEveryLook: true})
	first := b.register(example(map[string]any{"firstName": "InvalidEMail", "email": "old@example.com"}))
	b.look(`{"email":"old@example.com"}`)
	got := b.register(example(map[string]any{"firstName": "Ana", "email": "new@example.com"}))
	if got.status != 200 || got.fields["userId"] != first.fields["userId"] || got.fields["status"] != OnProcess {
		t.Errorf("correction: %d %s", got.status, got.body)
	}
	if old, renewed := b.look(`{"email":"old@example.com"}`), b.look(`{"email":"new@example.com"}`); old.status != 404 || renewed.status != 200 {
		t.Errorf("%d %d", old.status, renewed.status)
	}
}

func TestConcurrentDuplicatesMakeOneUser(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 30 {
		wg.Go(func() {
			got := b.register(example(nil))
			mu.Lock()
			count[got.status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if count[200] != 1 || count[409] != 29 || len(b.Users()) != 1 {
		t.Errorf("%v", count)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	id, _ := b.register(example(nil)).fields["userId"].(string)
	if got := b.do("POST", "/decide", fmt.Sprintf(`{"userId":%q,"status":"UpgradeFailed","statusDetail":"OfacFailed"}`, id), ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.look(`{"phoneNumber":"+5215521206703"}`); is(got) != (state{"UpgradeFailed", "OfacFailed"}) {
		t.Errorf("%s", got.body)
	}
	for body, status := range map[string]int{`{"userId":"x","status":"Completed"}`: 404, `{"userId":"x","status":"Done"}`: 400, `{}`: 400, ``: 400} {
		if got := b.do("POST", "/decide", body, ""); got.status != status {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if err := b.Decide(id, "Completed", "Fine"); !errors.Is(err, ErrUnknownWord) {
		t.Error(err)
	}
	if got := b.do("GET", "/users", "", ""); got.status != 200 || got.fields["total"] != 1.0 || strings.Contains(got.body, "5521206703") {
		t.Errorf("%s", got.body)
	}
}

func TestStatusMayBeAbsent(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{NoStatus: true})
	if got := b.register(example(nil)); len(got.fields) != 1 {
		t.Errorf("%s", got.body)
	}
}

func TestFaultsAndLog(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.Faults().Add(simulator.Fault{Operation: OpRegisterProspect, Kind: simulator.FaultStatus, Value: json.RawMessage("503"), Times: new(1)}); err != nil {
		t.Fatal(err)
	}
	if got := b.register(example(nil)); got.status != 503 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.register(example(map[string]any{"email": "canary@example.com"})); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	log, err := json.Marshal(b.Requests().Summary())
	if err != nil || b.Requests().Count(OpRegisterProspect) != 2 {
		t.Error(err)
	}
	for _, canary := range []string{"canary@example.com", "5521206703", "Hernández", "Kukulcan", "1987-06-24"} {
		if strings.Contains(string(log), canary) {
			t.Errorf("%s is in the log", canary)
		}
	}
}

func TestTheOldestIsDropped(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{MaxUsers: 2})
	for i := range 3 {
		b.register(example(map[string]any{"phoneNumber": fmt.Sprintf("+52551234567%d", i)}))
	}
	if _, ok := b.ByPhone("+525512345670"); ok || len(b.Users()) != 2 {
		t.Error("the oldest is still there")
	}
}

func TestScenariosNameEveryScript(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {StepEveryLook: true, NoCorrections: true}} {
		b := setup(t, c)
		var text strings.Builder
		if err := simulator.WriteScenarios(&text, b.Sim); err != nil {
			t.Fatal(err)
		}
		for _, m := range magic {
			if !strings.Contains(text.String(), m.name) || !strings.Contains(text.String(), "0000"+m.digits) {
				t.Errorf("%s is missing", m.name)
			}
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- b.Wait(ctx, func(u []User) bool { return len(u) == 1 }) }()
	b.register(example(nil))
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// FuzzBodies holds that no body makes the simulator panic, and that what it takes has the required fields.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{`{}`, `{"phoneNumber":"+5215521206703","firstName":"A","lastName":"B","address1":"C","countryCode":"MX","city":"D","state":"E"}`, `[]`, `{"dob":1}`, "\xff"} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, wrong := readRegistration(b, now)
		if wrong == "" && (p.firstName == "" || p.phone == "" && p.email == "") {
			t.Errorf("%q was taken", b)
		}
		readIdentity(b)
	})
}
