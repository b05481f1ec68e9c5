package qitechsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

func cpf(digit int) string { return strconv.Itoa(digit) + "11.222.333-44" }

func TestMagicDigits(t *testing.T) {
	t.Parallel()
	const approved, reproved, inManual, pending = StatusAutomaticallyApproved, StatusAutomaticallyReproved, StatusInManualAnalysis, StatusPending
	for _, c := range []struct {
		zaig   bool
		first  [10]string
		second map[int]string
	}{
		{false, [10]string{inManual, inManual, inManual, inManual, reproved, inManual, inManual, pending, reproved, approved},
			map[int]string{5: StatusManuallyReproved, 6: StatusManuallyApproved, 7: approved}},
		{true, [10]string{approved, inManual, inManual, reproved, pending, inManual, inManual, pending, reproved, approved},
			map[int]string{1: StatusManuallyApproved, 4: approved, 5: StatusManuallyReproved, 6: StatusManuallyApproved, 7: approved}},
	} {
		for digit, first := range c.first {
			t.Run(fmt.Sprintf("zaig %v digit %d", c.zaig, digit), func(t *testing.T) {
				t.Parallel()
				b := setup(t, Config{ZaigDigits: c.zaig})
				got := b.post(full("a-1", cpf(digit)))
				if got.status != http.StatusOK || got.fields["analysis_status"] != first || got.fields["id"] != "a-1" || len(got.fields) != 4 {
					t.Fatalf("%d %s, want %s", got.status, got.body, first)
				}
				second, follows := c.second[digit]
				if !follows {
					if got := b.get("a-1").fields["analysis_status"]; got != first {
						t.Errorf("became %v", got)
					}
					b.mu.Lock()
					defer b.mu.Unlock()
					if b.store.byID["a-1"].timer != nil {
						t.Error("an outcome is on its way")
					}
					return
				}
				h := b.hook()
				if h.PersonID != "a-1" || h.Status != second || h.Reason != second {
					t.Errorf("webhook %s", h.body)
				}
				if got := b.get("a-1").fields["analysis_status"]; got != second {
					t.Errorf("after the webhook it reads %v", got)
				}
			})
		}
	}
}

func TestMagicEmails(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	got := b.post(with(full("queue", cpf(9)), "emails[0].email", "in-queue+17@kycgate.test"))
	if got.fields["analysis_status"] != StatusInQueue {
		t.Errorf("in queue: %s", got.body)
	}
	if h := b.hook(); h.PersonID != "queue" || h.Status != StatusAutomaticallyApproved {
		t.Errorf("webhook %s", h.body)
	}
	got = b.post(with(full("unknown", cpf(9)), "emails[0].email", EmailUnknownStatus))
	if got.fields["analysis_status"] != "automatically_challenged" {
		t.Errorf("unknown: %s", got.body)
	}
	// It stays until somebody decides, and then it is final.
	if err := b.Decide("unknown", StatusManuallyApproved); err != nil {
		t.Error(err)
	}
	if h := b.hook(); h.PersonID != "unknown" || h.Status != StatusManuallyApproved {
		t.Errorf("webhook %s", h.body)
	}
	if got := b.post(with(full("plain", cpf(9)), "emails[0].email", "in-queue@elsewhere.test")); got.fields["analysis_status"] != StatusAutomaticallyApproved {
		t.Errorf("another domain: %s", got.body)
	}
}

func TestAnalyzeParameter(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i, c := range []struct {
		query  string
		status int
		want   string
	}{
		{"?analyze=true", 200, StatusInManualAnalysis}, {"", 200, StatusInManualAnalysis}, {"?x=1", 200, StatusInManualAnalysis}, {"?analyze=false", 200, "not_analysed"},
		{"?analyze=", 400, ""}, {"?analyze=TRUE", 400, ""}, {"?analyze=true&analyze=false", 400, ""},
	} {
		got := b.do("POST", "/onboarding/natural_person"+c.query, text(t, minimal(strconv.Itoa(i), cpf(0))))
		if got.status != c.status || (c.want != "" && got.fields["analysis_status"] != c.want) || (c.status == 400 && !strings.Contains(got.body, "analyze: ")) {
			t.Errorf("%q: %d %s", c.query, got.status, got.body)
		}
	}
	if err := b.Decide("3", StatusManuallyApproved); !errors.Is(err, ErrSettled) {
		t.Errorf("not_analysed was decided: %v", err)
	}
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config Config
		key    string
		status int
	}{
		{Config{}, SandboxAPIKey, 200}, {Config{}, "", 401}, {Config{}, "wrong", 401}, {Config{}, "Bearer " + SandboxAPIKey, 401}, {Config{}, "ApiKey " + SandboxAPIKey, 401},
		{Config{}, SandboxDisabledAPIKey, 403}, {Config{BadKeyStatus: 403}, "wrong", 403}, {Config{APIKey: "own"}, "own", 200}, {Config{APIKey: "own"}, SandboxAPIKey, 401},
	} {
		b := setup(t, c.config)
		for _, request := range [][3]string{
			{"POST", "/onboarding/natural_person", text(t, minimal("a", cpf(9)))},
			{"GET", "/onboarding/natural_person/a", ""},
			{"PUT", "/onboarding/natural_person/a", `{"client_status":"approved","event_date":"2024-11-13T17:52:50Z"}`},
		} {
			got, err := b.try(request[0], request[1], request[2], c.key)
			if err != nil || got.status != c.status {
				t.Errorf("%q with %+v, %s: %d %v, want %d", c.key, c.config, request[0], got.status, err, c.status)
			}
			if c.status != 200 && (got.fields["title"] == nil || got.fields["description"] == nil) {
				t.Errorf("body %s", got.body)
			}
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/onboarding/natural_person/unknown", 404, ""}, {"GET", "/onboarding/natural_person/", 404, ""}, {"GET", "/onboarding/natural_person/a/pdf", 404, ""},
		{"POST", "/onboarding/legal_person", 404, ""}, {"GET", "/", 404, ""}, {"GET", "", 404, ""}, {"GET", "/onboarding/natural_personal", 404, ""},
		{"GET", "/onboarding/natural_person", 405, "POST"}, {"PUT", "/onboarding/natural_person", 405, "POST"}, {"DELETE", "/onboarding/natural_person/a", 405, "GET, PUT"}, {"POST", "/onboarding/natural_person/a", 405, "GET, PUT"},
		{"GET", "/decide", 405, "POST"}, {"POST", "/analyses", 405, "GET"},
	} {
		got := b.do(c.method, c.path, "")
		if got.status != c.status || got.header.Get("Allow") != c.allow || got.fields["title"] == nil {
			t.Errorf("%s %s: %d %v %s", c.method, c.path, got.status, got.header, got.body)
		}
	}
	if got := b.get("unknown"); got.fields["title"] != "Register not found" {
		t.Errorf("unknown id: %s", got.body)
	}
}

func TestDuplicateID(t *testing.T) {
	t.Parallel()
	for _, status := range []int{0, http.StatusTooManyRequests} {
		b := setup(t, Config{DuplicateStatus: status})
		def(&status, http.StatusConflict)
		first := b.post(full("a", cpf(9)))
		got := b.post(full("a", cpf(4)))
		if got.status != status || got.fields["title"] != "Duplicated external_id" {
			t.Errorf("second: %d %s", got.status, got.body)
		}
		if a, _ := b.Analysis("a"); a.Posted != 2 || a.AnalysisStatus != StatusAutomaticallyApproved || b.CountByRegistration("person-1") != 1 {
			t.Errorf("analysis %+v", a)
		}
		if got := b.get("a").fields["natural_person_key"]; got != first.fields["natural_person_key"] {
			t.Errorf("the key changed to %v", got)
		}
	}
}

func TestConcurrentDuplicatesMakeOneAnalysis(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var wg sync.WaitGroup
	codes := make(chan int, 50)
	for range 50 {
		wg.Go(func() {
			got, err := b.try("POST", "/onboarding/natural_person", text(t, full("a", cpf(9))), SandboxAPIKey)
			if err != nil {
				t.Error(err)
			}
			codes <- got.status
		})
	}
	wg.Wait()
	close(codes)
	count := map[int]int{}
	for c := range codes {
		count[c]++
	}
	if a, _ := b.Analysis("a"); count[200] != 1 || count[409] != 49 || a.Posted != 50 || b.CountByRegistration("person-1") != 1 {
		t.Errorf("%v, %+v", count, a)
	}
}

func TestGetRepeatsWhatWasSubmitted(t *testing.T) {
	t.Parallel()
	for _, oldest := range []bool{false, true} {
		b := setup(t, Config{OldestFirst: oldest})
		sent := full("a/../b c%", cpf(6))
		sent["big"] = json.Number("12345678901234567890.10")
		sent["analysis_status"] = "automatically_approved" // must not answer for QI Tech
		b.post(sent)
		b.hook()
		got := b.get("a/../b c%")
		if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" || !strings.Contains(got.body, `"big":12345678901234567890.10`) {
			t.Fatalf("%d %v %s", got.status, got.header, got.body)
		}
		var want map[string]any
		_ = json.Unmarshal([]byte(text(t, sent)), &want)
		delete(want, "analysis_status")
		for name, value := range want {
			if !reflect.DeepEqual(got.fields[name], value) {
				t.Errorf("%s: %v, sent %v", name, got.fields[name], value)
			}
		}
		for _, name := range ownFields {
			if got.fields[name] == nil || got.fields[name] == "" || strings.Count(got.body, `"`+name+`":`) != 1 {
				t.Errorf("%s: %v in %s", name, got.fields[name], got.body)
			}
		}
		var v view
		if err := json.Unmarshal([]byte(got.body), &v); err != nil {
			t.Fatal(err)
		}
		first, last := StatusManuallyApproved, StatusInManualAnalysis
		if oldest {
			first, last = last, first
		}
		e := v.AnalysisStatusEvents
		if v.AnalysisStatus != StatusManuallyApproved || len(e) != 2 || e[0].NewStatus != first || e[1].NewStatus != last || e[0].Output == nil || e[0].Output.Reason != first || e[0].Output.BasicData.Name.Description != "name_match" {
			t.Errorf("events %s", text(t, e))
		}
		if v.ClientStatus != "registered" || len(v.ClientStatusEvents) != 1 || v.ClientStatusEvents[0].Output != nil {
			t.Errorf("client events %s", text(t, v.ClientStatusEvents))
		}
		if _, err := time.Parse(time.RFC3339, v.CreatedAt); err != nil || guid(v.NaturalPersonKey) != "" {
			t.Errorf("created %s, key %s", v.CreatedAt, v.NaturalPersonKey)
		}
	}
}

func TestReasonsOfAReproval(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{SuccessStatus: http.StatusCreated})
	for digit, reason := range map[int]string{4: "document_not_found", 8: "deceased_person", 9: "automatically_approved"} {
		id := strconv.Itoa(digit)
		if got := b.post(minimal(id, cpf(digit))); got.status != http.StatusCreated || got.fields["reason"] != reason {
			t.Errorf("%d: %d %s", digit, got.status, got.body)
		}
		var v view
		_ = json.Unmarshal([]byte(b.get(id).body), &v)
		if o := v.AnalysisStatusEvents[0].Output; o.Reason != reason || (o.BasicData.Name.Description == "name_mismatch") != (digit == 4) || o.Indicators == nil {
			t.Errorf("%d: %+v", digit, o)
		}
	}
}

func TestUpdateClientStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.post(full("a", cpf(9)))
	const at = "2024-11-13T17:52:50-03:00"
	for _, status := range []string{"registered", "approved", "reproved", "fraud_blocked", "default_blocked", "canceled", "cancelled"} {
		want := strings.Replace(status, "ll", "l", 1)
		got := b.do("PUT", "/onboarding/natural_person/a", text(t, map[string]any{"client_status": status, "event_date": at}))
		if read := b.get("a").fields["client_status"]; got.status != http.StatusOK || got.fields["client_status"] != want || read != want {
			t.Errorf("%s: %d %s, then %v", status, got.status, got.body, read)
		}
	}
	events := b.get("a").fields["client_status_events"].([]any)
	if newest := events[0].(map[string]any); len(events) != 8 || newest["new_status"] != "canceled" || newest["event_date"] != at {
		t.Errorf("events %v", events)
	}
	for body, field := range map[string]string{
		`{}`: "client_status", `{"client_status":"dead","event_date":"` + at + `"}`: "client_status", `{"client_status":1,"event_date":"` + at + `"}`: "client_status",
		`{"client_status":"approved"}`: "event_date", `{"client_status":"approved","event_date":"2024-11-13"}`: "event_date",
	} {
		if got := b.do("PUT", "/onboarding/natural_person/a", body); got.status != 400 || !strings.Contains(got.body, field+": ") {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if got := b.do("PUT", "/onboarding/natural_person/b", `{"client_status":"approved","event_date":"`+at+`"}`); got.status != 404 {
		t.Errorf("unknown id: %d", got.status)
	}
	for range 3 * maxEvents {
		b.setClientStatus("a", "approved", at)
	}
	if n := len(b.get("a").fields["client_status_events"].([]any)); n != maxEvents {
		t.Errorf("%d events are kept", n)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ManualDelay: time.Hour})
	b.post(full("a", cpf(6)))
	for body, status := range map[string]int{
		`{"id":"b","analysis_status":"manually_approved"}`: 404,
		`{"id":"a","analysis_status":"manualy_approved"}`:  400,
		`{"id":"a","analysis_status":"not_analysed"}`:      400,
		`{"id":"a"}`: 400,
		`{"analysis_status":"manually_approved"}`:                  400,
		`{"id":"a","analysis_status":"manually_approved","now":1}`: 400,
		`{`:                         406,
		strings.Repeat(" ", 65<<10): 413,
	} {
		if got := b.do("POST", "/decide", body); got.status != status {
			t.Errorf("%.60s: %d %s, want %d", body, got.status, got.body, status)
		}
	}
	// A word that settles nothing leaves it open.
	got := b.do("POST", "/decide", `{"id":"a","analysis_status":"waiting_for_data"}`)
	if h := b.hook(); got.status != 200 || h.Status != "waiting_for_data" {
		t.Errorf("%d %s, webhook %s", got.status, got.body, h.body)
	}
	got = b.do("POST", "/decide", `{"id":"a","analysis_status":"manually_reproved"}`)
	if h := b.hook(); got.status != 200 || got.fields["analysis_status"] != StatusManuallyReproved || h.Status != StatusManuallyReproved {
		t.Errorf("%d %s, webhook %s", got.status, got.body, h.body)
	}
	// The outcome that was on its way no longer comes, and the decision stands.
	if got := b.do("POST", "/decide", `{"id":"a","analysis_status":"manually_approved"}`); got.status != http.StatusConflict {
		t.Errorf("decided twice: %d", got.status)
	}
	b.mu.Lock()
	if b.store.byID["a"].timer != nil {
		t.Error("the outcome is still on its way")
	}
	b.mu.Unlock()
	if err := b.Decide("b", StatusManuallyApproved); !errors.Is(err, ErrUnknownAnalysis) {
		t.Error(err)
	}
	if err := b.Decide("a", "x"); !errors.Is(err, ErrUnknownStatus) {
		t.Error(err)
	}
}

func TestAnalysesOverHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 3 {
		b.post(with(full(strconv.Itoa(i), cpf(9)), "registration_id", "p"+strconv.Itoa(i/2)))
	}
	b.get("1")
	b.get("1")
	var all struct {
		Total    int
		Analyses []Analysis
	}
	_ = json.Unmarshal([]byte(b.do("GET", "/analyses", "").body), &all)
	if all.Total != 3 || all.Analyses[0].ID != "2" || all.Analyses[1].Gotten != 2 || all.Analyses[1].Posted != 1 {
		t.Errorf("%+v", all)
	}
	_ = json.Unmarshal([]byte(b.do("GET", "/analyses?registration_id=p0", "").body), &all)
	if all.Total != 2 || b.CountByRegistration("p0") != 2 || b.CountByRegistration("p9") != 0 {
		t.Errorf("%+v", all)
	}
	if n := b.Requests().Summary().Total; n != 5 {
		t.Errorf("%d requests logged: the control endpoints are none of the provider's", n)
	}
}

func TestStoreIsBounded(t *testing.T) {
	t.Parallel()
	s := New(Config{MaxAnalyses: 10, ManualDelay: time.Hour})
	t.Cleanup(func() { _ = s.Close() })
	for i := range 1000 {
		p := person{id: strconv.Itoa(i), registrationID: "p" + strconv.Itoa(i%3)}
		if _, ok := s.create(p, []byte(`{"id":"x"`), fate{status: StatusInManualAnalysis, later: StatusManuallyApproved}); !ok {
			t.Fatal(i)
		}
	}
	list := s.Analyses()
	if len(list) != 10 || list[0].ID != "990" || list[9].ID != "999" || len(s.store.order) > 21 {
		t.Errorf("%d are held from %+v, order %d", len(list), list[0], len(s.store.order))
	}
	if n := s.CountByRegistration("p0") + s.CountByRegistration("p1") + s.CountByRegistration("p2"); n != 10 || s.store.bytes != 10*len(`{"id":"x"`) {
		t.Errorf("%d by registration, %d bytes", n, s.store.bytes)
	}
	st := newStore(100, 50)
	for i := range 20 {
		st.add(&analysis{id: strconv.Itoa(i), document: make([]byte, 20)})
	}
	if len(st.byID) != 2 || st.bytes != 40 {
		t.Errorf("%d are held of %d bytes", len(st.byID), st.bytes)
	}
	st.add(&analysis{id: "big", document: make([]byte, 1000)})
	if len(st.byID) != 1 {
		t.Errorf("%d are held beside one that is too big", len(st.byID))
	}
}

// TestSign is the vector of dossier A.10.
func TestSign(t *testing.T) {
	t.Parallel()
	body := []byte(`{"natural_person_id": "538509", "analysis_status": "manually_approved", "event_date": "2024-11-13T17:52:50Z", "reason": "manually_approved"}`)
	if len(body) != 140 {
		t.Fatalf("the body has %d bytes", len(body))
	}
	for method, want := range map[string]string{"POST": "7b9134913013769d6edbb14c54991289c90d3acc", "PUT": "a22a3cb5dd9ee91e166e32032a2464974255ef66"} {
		if got := Sign("test_signature_key", "https://gateway.example.test/webhooks/qitech", method, body); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	for _, put := range []bool{false, true} {
		b := setup(t, Config{WebhookPUT: put, WebhookKey: "own-key"})
		b.post(full("a \"1\"", cpf(5)))
		h := b.hook()
		method := map[bool]string{false: "POST", true: "PUT"}[put]
		if h.method != method || h.signature != Sign("own-key", h.url, method, h.body) || h.signature != strings.ToLower(h.signature) || len(h.signature) != 40 {
			t.Errorf("%s %s %q", h.method, h.url, h.signature)
		}
		if h.PersonID != "a \"1\"" || h.Status != StatusManuallyReproved || h.Reason != StatusManuallyReproved || h.header.Get("Content-Type") != "application/json" || h.header.Get(simulator.Header) != "true" {
			t.Errorf("%s %v", h.body, h.header)
		}
		if at, err := time.Parse(time.RFC3339, h.Date); err != nil || !strings.HasSuffix(h.Date, "Z") || time.Since(at) > time.Minute {
			t.Errorf("event_date %s", h.Date)
		}
	}
}

func TestWebhookIsRetriedUntil200(t *testing.T) {
	t.Parallel()
	answers := []int{500, 201, 204, 302, 404, 200}
	b := setup(t, Config{}, func(n int) int { return answers[n-1] })
	b.post(full("a", cpf(6)))
	first := b.hook()
	for range len(answers) - 1 {
		if h := b.hook(); h.signature != first.signature || string(h.body) != string(first.body) {
			t.Errorf("a retry differs: %s", h.body)
		}
	}
	b.await(func(s simulator.RequestSummary) bool { return s.ByOperation["webhook"] == 6 })
	for i, e := range b.Requests().Summary().Requests[1:] {
		want := simulator.OutcomeRetry
		if i == 5 {
			want = simulator.OutcomeDelivered
		}
		if e.Operation != "webhook" || e.Status != answers[i] || e.Outcome != want {
			t.Errorf("attempt %d: %+v", i, e)
		}
	}
}

func TestWebhookIsGivenUpAfterFiveRetries(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, func(int) int { return 503 })
	b.post(full("a", cpf(6)))
	b.await(func(s simulator.RequestSummary) bool {
		return s.ByOperation["webhook"] == 6 && s.Requests[len(s.Requests)-1].Outcome == simulator.OutcomeGaveUp
	})
	if b.outbox == nil || len(retries) != 5 || !reflect.DeepEqual(retries, []time.Duration{30e9, 60e9, 120e9, 240e9, 360e9}) {
		t.Errorf("retries %v", retries)
	}
}

func (b *bench) await(satisfied func(simulator.RequestSummary) bool) {
	b.t.Helper()
	deadline := time.AfterFunc(20*time.Second, func() { b.t.Errorf("log: %+v", b.Requests().Summary()) })
	defer deadline.Stop()
	if err := b.Requests().Wait(b.t.Context(), satisfied); err != nil {
		b.t.Fatal(err)
	}
}

func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	fault := func(body string) {
		if got := b.do("PUT", "/faults", body); got.status != 200 {
			t.Fatal(got.body)
		}
	}
	fault(`{"operation":"webhook","kind":"drop_webhook","times":1}`)
	b.post(full("dropped", cpf(6)))
	b.await(func(s simulator.RequestSummary) bool { return s.ByOperation["webhook"] == 1 })
	if got := b.get("dropped").fields["analysis_status"]; got != StatusManuallyApproved {
		t.Errorf("its webhook was dropped, and it reads %v", got)
	}
	fault(`[{"kind":"duplicate_webhook","value":2}]`)
	b.post(full("copied", cpf(6)))
	first := b.hook()
	for range 2 {
		if h := b.hook(); first.PersonID != "copied" || string(h.body) != string(first.body) || h.signature != first.signature {
			t.Errorf("copy %s of %s", h.body, first.body)
		}
	}
	if len(b.hooks) != 0 {
		t.Error("more came than was asked for, or the dropped one came")
	}
}

func TestNoWebhookWithoutURL(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{WebhookURL: "none"})
	b.post(full("a", cpf(7)))
	b.reach("a", StatusAutomaticallyApproved)
	if n := b.Requests().Count("webhook"); n != 0 {
		t.Errorf("%d webhooks", n)
	}
	other := setup(t, Config{})
	b.SetWebhookURL(other.config.WebhookURL)
	b.post(full("b", cpf(6)))
	if h := other.hook(); h.PersonID != "b" || h.signature != Sign(SandboxWebhookKey, h.url, "POST", h.body) {
		t.Errorf("webhook %s to %s", h.body, h.url)
	}
}

// TestDelays runs in fake time: the defaults, and what Never and Close mean.
func TestDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		never := New(Config{ManualDelay: Never, PendingDelay: Never})
		status := func(s *Sim, id string) string { a, _ := s.Analysis(id); return a.AnalysisStatus }
		for _, digit := range []int{5, 6, 7} {
			p := person{id: strconv.Itoa(digit), document: cpf(digit)}
			for _, s := range []*Sim{s, never} {
				if _, ok := s.create(p, []byte(`{"id":""`), s.fate(p)); !ok {
					t.Fatal(digit)
				}
			}
		}
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		pass(DefaultManualDelay - 1)
		if got := status(s, "5") + status(s, "6"); got != StatusInManualAnalysis+StatusInManualAnalysis {
			t.Errorf("before the delay: %s", got)
		}
		pass(1)
		if got := status(s, "5") + status(s, "6") + status(s, "7"); got != StatusManuallyReproved+StatusManuallyApproved+StatusPending {
			t.Errorf("after the delay: %s", got)
		}
		pass(DefaultPendingDelay - DefaultManualDelay)
		if got := status(s, "7"); got != StatusAutomaticallyApproved {
			t.Errorf("pending became %s", got)
		}
		p := person{id: "closed", document: cpf(6)}
		_, _ = s.create(p, []byte(`{"id":""`), s.fate(p))
		_ = s.Close()
		pass(24 * time.Hour)
		if got := status(s, "closed") + status(never, "5") + status(never, "7"); got != StatusInManualAnalysis+StatusInManualAnalysis+StatusPending {
			t.Errorf("closed or never: %s", got)
		}
		_ = never.Close()
		_ = never.Close() // again
	})
}

// TestLateTimerChangesNothing: a timer that has fired cannot be stopped any more, so an outcome may still
// arrive after its analysis was decided, dropped or closed.
func TestLateTimerChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ManualDelay: time.Hour, MaxAnalyses: 2})
	analyses := map[string]*analysis{}
	submit := func(id string) {
		b.post(minimal(id, cpf(6)))
		b.mu.Lock()
		defer b.mu.Unlock()
		if analyses[id] = b.store.byID[id]; analyses[id].timer == nil {
			t.Fatalf("%s has no outcome to come", id)
		}
	}
	unchanged := func(id, want string) {
		t.Helper()
		b.expire(analyses[id], StatusManuallyApproved)
		b.mu.Lock()
		defer b.mu.Unlock()
		if a := analyses[id]; a.last().status != want {
			t.Errorf("%s became %s", id, a.last().status)
		}
	}
	submit("decided")
	if err := b.Decide("decided", StatusManuallyReproved); err != nil {
		t.Fatal(err)
	}
	b.hook()
	unchanged("decided", StatusManuallyReproved)
	submit("dropped")
	submit("x")
	submit("closed") // drops the one before the last
	if analyses["dropped"].timer != nil {
		t.Error("the timer of a dropped analysis was not stopped")
	}
	unchanged("dropped", StatusInManualAnalysis)
	_ = b.Close()
	unchanged("closed", StatusInManualAnalysis)
	if len(b.hooks) != 0 {
		t.Error("a webhook came of it")
	}
}

// TestFaults shows what an ambiguous call leaves behind, for each way it can end.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  string
		acted bool
		check func(reply, error) bool
	}{
		{`"status","value":503`, false, func(r reply, err error) bool {
			return r.status == 503 && r.fields == nil && strings.Contains(r.body, "<html>")
		}},
		{`"status","value":500`, false, func(r reply, err error) bool { return r.status == 500 }},
		{`"rate_limit","value":2`, false, func(r reply, err error) bool {
			return r.status == 429 && r.header.Get("Retry-After") == "2" && r.fields["title"] != nil
		}},
		{`"reset"`, false, func(_ reply, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{`"act_then_reset"`, true, func(_ reply, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{`"act_then_hang","value":"1ms"`, true, func(_ reply, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{`"truncate"`, true, func(r reply, err error) bool { return r.status == 200 && errors.Is(err, io.ErrUnexpectedEOF) }},
		{`"latency","value":1`, true, func(r reply, err error) bool { return r.status == 200 && err == nil }},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{})
			if got := b.do("PUT", "/faults", `{"operation":"analyze_person","times":1,"kind":`+c.kind+`}`); got.status != 200 {
				t.Fatal(got.body)
			}
			if got, err := b.try("POST", "/onboarding/natural_person", text(t, full("a", cpf(9))), SandboxAPIKey); !c.check(got, err) {
				t.Errorf("saw %+v, %v", got, err)
			}
			if a, ok := b.Analysis("a"); ok != c.acted || (ok && a.Posted != 1) {
				t.Errorf("stored %v %+v", ok, a)
			}
			// Reading is another operation and works, as a client that looks it up needs.
			if got := b.get("a"); got.status != map[bool]int{true: 200, false: 404}[c.acted] {
				t.Errorf("look-up: %d", got.status)
			}
		})
	}
}

func TestOperationNames(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.post(full("a", cpf(6)))
	b.hook()
	b.get("a")
	b.do("PUT", "/onboarding/natural_person/a", `{}`)
	b.do("GET", "/nowhere/123", "")
	b.await(func(s simulator.RequestSummary) bool { return s.Total == 5 })
	want := map[string]int{"analyze_person": 1, "fetch_person_analysis": 1, "update_client_status": 1, "webhook": 1, "none": 1}
	if got := b.Requests().Summary().ByOperation; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	for _, operation := range []string{"analyze_person", "fetch_person_analysis", "update_client_status", "*", ""} {
		if err := b.Faults().Add(simulator.Fault{Operation: operation, Kind: simulator.FaultReset}); err != nil {
			t.Error(err)
		}
	}
	if err := b.Faults().Add(simulator.Fault{Operation: "webhook", Kind: simulator.FaultDropWebhook}); err != nil {
		t.Error(err)
	}
}

func TestLogHoldsNoPersonalData(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	sent := full("analysis-1", cpf(6))
	b.post(sent)
	b.hook()
	b.get("analysis-1")
	log := b.do("GET", "/requests", "").body
	// Every text that was sent is looked for, so a new field of the request is covered too.
	var canaries func(path string, v any)
	open := map[string]bool{".id": true, ".registration_id": true, ".registration_date": true, ".source.channel": true, ".source.platform": true}
	canaries = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, v := range v {
				canaries(path+"."+k, v)
			}
		case []any:
			for _, v := range v {
				canaries(path, v)
			}
		case string:
			if !open[path] && !strings.HasSuffix(path, "type") && len(v) > 3 && strings.Contains(log, v) {
				t.Errorf("%s: the log shows %q", path, v)
			}
		}
	}
	canaries("", sent)
	if strings.Contains(log, "500000") || !strings.Contains(log, `"registration_id":"person-1"`) || !strings.Contains(log, "/onboarding/natural_person/analysis-1") {
		t.Errorf("log %s", log)
	}
}

func TestProductionGatewayIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	r, _ := http.NewRequestWithContext(t.Context(), "POST", b.root+"/onboarding/natural_person", strings.NewReader(text(t, full("a", cpf(9)))))
	r.Header.Set("Authorization", SandboxAPIKey)
	r.Header.Set("User-Agent", "kycgate/1.0.0 (production)")
	answer, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusForbidden || answer.Header.Get(simulator.Header) != "true" || !strings.Contains(string(body), `"title":"simulator"`) || len(b.Analyses()) != 0 {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
}

// TestScenariosAreTrue sends what each scenario of POST says and compares what it promises.
func TestScenariosAreTrue(t *testing.T) {
	t.Parallel()
	for _, zaig := range []bool{false, true} {
		b := setup(t, Config{ZaigDigits: zaig, ManualDelay: time.Hour, PendingDelay: Never})
		seen := 0
		for i, s := range b.Scenarios() {
			if s.Provider != "qitech" || s.Operation == "" || s.When == "" || s.Then == "" || s.Source == "" {
				t.Errorf("incomplete: %+v", s)
			}
			fields := full(strconv.Itoa(i), cpf(9))
			if digit, ok := strings.CutPrefix(s.When, "document_number starts with "); ok {
				n, _ := strconv.Atoi(digit)
				fields["document_number"] = cpf(n)
			} else if mail, ok := strings.CutPrefix(s.When, "emails[0].email is "); ok {
				with(fields, "emails[0].email", mail)
			} else if key, ok := strings.CutPrefix(s.When, "face.registration_key is "); ok {
				with(fields, "face.registration_key", key)
			} else {
				continue
			}
			seen++
			got := b.post(fields)
			promise, _, _ := strings.Cut(s.Then, ",")
			status, reason, hasReason := strings.Cut(strings.TrimSuffix(promise, ")"), " (")
			switch {
			case strings.HasPrefix(s.Then, "400 "):
				if got.status != 400 {
					t.Errorf("%+v: %d %s", s, got.status, got.body)
				}
			case got.fields["analysis_status"] != status, hasReason && got.fields["reason"] != reason:
				t.Errorf("%+v: %d %s", s, got.status, got.body)
			}
		}
		if seen != 14 {
			t.Errorf("%d scenarios were tried", seen)
		}
	}
}

func TestCountries(t *testing.T) {
	t.Parallel()
	if len(countries) != 249 {
		t.Errorf("%d countries", len(countries))
	}
}

// TestCredentialsAreRecognisable: a configuration for production refuses whatever begins like this.
func TestCredentialsAreRecognisable(t *testing.T) {
	t.Parallel()
	for _, key := range []string{SandboxAPIKey, SandboxWebhookKey, SandboxDisabledAPIKey} {
		if !strings.HasPrefix(key, "qitech-sandbox-") {
			t.Errorf("%q does not", key)
		}
	}
}

func BenchmarkAnalyzeAndFetch(b *testing.B) {
	s := New(Config{})
	defer func() { _ = s.Close() }()
	benchmark(b, s)
}
