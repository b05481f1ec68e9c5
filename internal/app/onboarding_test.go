package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

const (
	onboardingFields = `state version nextAction { kind step message } steps { kind status required reason subject { id } }`
	readOnboarding   = `query($id: ID!) { person(id: $id) { id onboarding { ` + onboardingFields + ` } } }`
	follow           = `subscription($id: ID!, $since: Int) { onboardingUpdated(personId: $id, sinceVersion: $since) { ` + onboardingFields + ` } }`
	createToken      = `mutation($input: CreateSubjectTokenInput!) { createSubjectToken(input: $input) { token expiresAt userErrors { code message path } } }`
)

// brazilian is the list of the contract's example.
func brazilian(c *config.Config) {
	for i := range c.Partners {
		c.Partners[i].Require = []string{"PERSON", "FACE", "LIVENESS", "IDENTITY"}
	}
}

// allowing lets pages of an origin use the tokens of every partner.
func allowing(origin string) func(*config.Config) {
	return func(c *config.Config) {
		brazilian(c)
		for i := range c.Partners {
			c.Partners[i].AllowedOrigins = []string{origin}
		}
	}
}

// quick is a Unico that settles what it has accepted in a moment.
var quick = unicosim.Config{Delay: 10 * time.Millisecond}

// stream is an open subscription over an event stream.
type stream struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// subscribe opens one; header is added to the request.
func subscribe(t *testing.T, g *apptest.Gateway, token, query string, variables map[string]any, header ...string) *stream {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/graphql", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "text/event-stream", "Authorization": "Bearer " + token} {
		req.Header.Set(k, v)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, lines: bufio.NewScanner(resp.Body), cancel: func() { cancel(); _ = resp.Body.Close() }}
	s.lines.Buffer(nil, 1<<20)
	t.Cleanup(s.cancel)
	return s
}

// next gives the next result, or false when the stream has ended.
func (s *stream) next() (a apptest.Answer, ok bool) {
	s.t.Helper()
	for s.lines.Scan() {
		if data, found := strings.CutPrefix(s.lines.Text(), "data:"); found {
			if data = strings.TrimSpace(data); data == "" {
				return a, false // event: complete
			}
			a.Body = []byte(data)
			if err := json.Unmarshal(a.Body, &a); err != nil {
				s.t.Fatalf("%s: %v", data, err)
			}
			return a, true
		}
	}
	return a, false
}

// standing is an onboarding in one line: "IN_PROGRESS 2 CAPTURE_FACE FACE | PERSON PASSED, FACE MISSING".
func standing(a apptest.Answer, at string) string {
	var steps []string
	list, _ := a.Get(at + ".steps").([]any)
	for _, s := range list {
		m := s.(map[string]any)
		steps = append(steps, fmt.Sprint(m["kind"], " ", m["status"]))
	}
	return fmt.Sprintf("%s %s %s | %s", a.Str(at+".state"), a.Str(at+".nextAction.kind"), a.Str(at+".nextAction.step"), strings.Join(steps, ", "))
}

// until reads versions until one stands like that, and holds that they have no gap.
func (s *stream) until(version *int, want string) apptest.Answer {
	s.t.Helper()
	for {
		a, ok := s.next()
		if !ok || len(a.Errors) > 0 {
			s.t.Fatalf("the stream ended before %q: %s", want, a.Body)
		}
		v, _ := a.Get("onboardingUpdated.version").(float64)
		if *version > 0 && int(v) != *version+1 {
			s.t.Fatalf("after version %d came %v: %s", *version, v, a.Body)
		}
		*version = int(v)
		if strings.HasPrefix(standing(a, "onboardingUpdated"), want) {
			return a
		}
	}
}

// A complete Brazilian onboarding, told live, step by step, and as anybody who asks sees it.
func TestOnboarding(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: brazilian})
	token, cpf := g.Token(apptest.Acme), magic("00", 1)
	person := g.Query(token, apptest.Register, apptest.Input(cpf, "s-1", nil)).Str("registerPerson.person.id")
	live, version := subscribe(t, g, token, follow, map[string]any{"id": person}), 0
	live.until(&version, "IN_PROGRESS CAPTURE_FACE FACE | PERSON PASSED, FACE MISSING, LIVENESS MISSING, IDENTITY MISSING")

	g.Query(token, registerFace, face(cpf, "image", selfie(640)))
	live.until(&version, "IN_PROGRESS CAPTURE_FACE LIVENESS | PERSON PASSED, FACE PASSED, LIVENESS MISSING, IDENTITY MISSING")
	g.Query(token, starting("checkLiveness"), input(cpf, newSelfie()))
	live.until(&version, "IN_PROGRESS CAPTURE_FACE IDENTITY | PERSON PASSED, FACE PASSED, LIVENESS PASSED, IDENTITY MISSING")
	g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie()))
	last := live.until(&version, "APPROVED   | PERSON PASSED, FACE PASSED, LIVENESS PASSED, IDENTITY PASSED")

	a := g.Query(token, readOnboarding, map[string]any{"id": person})
	if got, want := fmt.Sprint(a.Get("person.onboarding")), fmt.Sprint(last.Get("onboardingUpdated")); got != want {
		t.Errorf("asked: %s\n told: %s", got, want)
	}
	if got := a.Str("person.onboarding.steps.0.subject.id"); got != person {
		t.Errorf("the registration is decided by %q", got)
	}
	// Whoever comes back is told every version since, each as it was.
	again, seen := subscribe(t, g, token, follow, map[string]any{"id": person, "since": 0}), 0
	again.until(&seen, "IN_PROGRESS CAPTURE_FACE FACE")
	again.until(&seen, "IN_PROGRESS CAPTURE_FACE LIVENESS")
	again.until(&seen, "APPROVED")
	if seen != version {
		t.Errorf("the last version is %d, and was %d", seen, version)
	}
	for state, want := range map[string]float64{"APPROVED": 1, "IN_PROGRESS": 0, "NOT_STARTED": 0} {
		a := g.Query(token, `query($s: OnboardingState) { persons(filter: {onboardingState: $s}) { totalCount nodes { id } } }`, map[string]any{"s": state})
		if a.Get("persons.totalCount") != want {
			t.Errorf("%s: %s", state, a.Body)
		}
	}
	if a := g.Query(g.Token(apptest.Rival), readOnboarding, map[string]any{"id": person}); a.Get("person") != nil {
		t.Errorf("another partner sees %s", a.Body)
	}
	other, _ := subscribe(t, g, g.Token(apptest.Rival), follow, map[string]any{"id": person}).next()
	nobody, _ := subscribe(t, g, token, follow, map[string]any{"id": string(kyc.NewPersonID())}).next()
	if len(other.Errors) != 1 || string(other.Body) != string(nobody.Body) || other.Errors[0].Extensions["code"] != "NOT_FOUND" {
		t.Errorf("another partner's: %s; nobody: %s", other.Body, nobody.Body)
	}
	// Who is erased is followed no longer.
	g.Query(token, `mutation($id: ID!) { erasePerson(input: {personId: $id, reason: DATA_SUBJECT_REQUEST}) { erasure { status } } }`, map[string]any{"id": person})
	if a, ok := live.next(); ok {
		t.Errorf("after the erasure came %s", a.Body)
	}
}

// What goes wrong: a no, a picture that must be taken again, an outage.
func TestOnboardingThatIsNotStraight(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: func(c *config.Config) {
		brazilian(c)
		c.AnswerWithin, c.Providers.Unico.RetryAfter = 300*time.Millisecond, 50*time.Millisecond
	}})
	token := g.Token(apptest.Acme)
	begin := func(cpf string) (string, *stream, *int) {
		t.Helper()
		person := g.Query(token, apptest.Register, apptest.Input(cpf, "s-"+cpf, nil)).Str("registerPerson.person.id")
		live, version := subscribe(t, g, token, follow, map[string]any{"id": person}), new(int)
		g.Query(token, registerFace, face(cpf, "image", selfie(640)))
		live.until(version, "IN_PROGRESS CAPTURE_FACE LIVENESS")
		return person, live, version
	}
	t.Run("rejected", func(t *testing.T) {
		cpf := magic("20", 1)
		person, live, version := begin(cpf)
		g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie()))
		live.until(version, "REJECTED CONTACT_SUPPORT")
		a := g.Query(token, readOnboarding, map[string]any{"id": person})
		if a.Str("person.onboarding.steps.3.reason") != "MISMATCH" {
			t.Errorf("%s", a.Body)
		}
		a = g.Query(g.SubjectToken(apptest.Acme, kyc.PersonID(person)), readOnboarding, map[string]any{"id": person})
		if a.Str("person.onboarding.steps.3.status") != "FAILED" || a.Get("person.onboarding.steps.3.reason") != nil {
			t.Errorf("the person is told %s", a.Body)
		}
	})
	t.Run("new capture", func(t *testing.T) {
		cpf := magic("62", 1) // accepted, and then it could not be processed
		_, live, version := begin(cpf)
		g.Query(token, starting("checkLiveness"), input(cpf, newSelfie()))
		live.until(version, "IN_PROGRESS WAIT LIVENESS")
		live.until(version, "ACTION_REQUIRED RETRY LIVENESS | PERSON PASSED, FACE PASSED, LIVENESS ACTION_REQUIRED")
	})
	t.Run("outage", func(t *testing.T) {
		cpf := magic("00", 2)
		_, live, version := begin(cpf)
		putFaults(t, g, `[{"operation":"create_process","kind":"rate_limit","value":1,"times":2}]`)
		g.Query(token, starting("checkLiveness"), input(cpf, newSelfie()))
		live.until(version, "IN_PROGRESS WAIT LIVENESS | PERSON PASSED, FACE PASSED, LIVENESS PENDING")
		live.until(version, "IN_PROGRESS CAPTURE_FACE IDENTITY | PERSON PASSED, FACE PASSED, LIVENESS PASSED") // by itself
	})
}

// Messages are in the reader's language, over every transport.
func TestOnboardingLanguages(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: brazilian})
	token := g.Token(apptest.Acme)
	person := g.Query(token, apptest.Register, apptest.Input(magic("00", 1), "s-1", nil)).Str("registerPerson.person.id")
	for language, want := range map[string]string{"": "Take a picture", "pt-BR,pt;q=0.9,en;q=0.8": "Tire uma foto", "es-419, en": "Toma una foto", "de": "Take a picture", ";;;": "Take a picture"} {
		a, _ := subscribe(t, g, token, follow, map[string]any{"id": person}, "Accept-Language", language).next()
		if got := a.Str("onboardingUpdated.nextAction.message"); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q", language, got)
		}
	}
}

// A partner who requires something else is told so of everybody, those who are there already among them.
func TestOnboardingIsJudgedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lists := map[string][]string{"PERSON": nil, "more": {"PERSON", "FACE"}}
	var person string
	for _, name := range []string{"PERSON", "more", "PERSON"} {
		g := apptest.Start(t, apptest.Options{Dir: dir, Config: func(c *config.Config) { c.Partners[0].Require = lists[name] }})
		token := g.Token(apptest.Acme)
		if person == "" {
			person = g.Query(token, apptest.Register, apptest.Input(magic("00", 1), "s-1", nil)).Str("registerPerson.person.id")
		}
		want := "APPROVED"
		if name == "more" {
			want = "IN_PROGRESS"
		}
		// By state first: it is right without anybody having asked for the person.
		g.Eventually(token, `query($s: OnboardingState) { persons(filter: {onboardingState: $s}) { nodes { id } } }`, map[string]any{"s": want}, func(a apptest.Answer) bool {
			return a.Str("persons.nodes.0.id") == person
		})
		if a := g.Query(token, readOnboarding, map[string]any{"id": person}); a.Str("person.onboarding.state") != want {
			t.Errorf("%s: %s", name, a.Body)
		}
		g.Stop()
	}
}

// processUpdated tells every version of a process, each as it was.
func TestProcessUpdated(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick})
	token, cpf := g.Token(apptest.Acme), magic("62", 3)
	id := g.Query(token, starting("checkLiveness"), input(cpf, newSelfie())).Str("checkLiveness.process.id")
	const query = `subscription($id: ID!, $since: Int) { processUpdated(id: $id, sinceVersion: $since) { id version status result { liveness } failure { code } } }`
	live := subscribe(t, g, token, query, map[string]any{"id": id, "since": 0}) // it may have ended already
	first, _ := live.next()
	last, _ := live.next()
	if first.Str("processUpdated.status") != "PROCESSING" || last.Str("processUpdated.status") != "FAILED" || last.Str("processUpdated.failure.code") == "" {
		t.Fatalf("%s, then %s", first.Body, last.Body)
	}
	again := subscribe(t, g, token, query, map[string]any{"id": id, "since": 0})
	for _, want := range []apptest.Answer{first, last} {
		if got, _ := again.next(); string(got.Body) != string(want.Body) {
			t.Errorf("again: %s, first: %s", got.Body, want.Body)
		}
	}
}

func TestCreateSubjectToken(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: quick, Config: brazilian})
	token := g.Token(apptest.Acme)
	person := g.Query(token, apptest.Register, apptest.Input(magic("00", 1), "s-1", nil)).Str("registerPerson.person.id")
	ask := func(g *apptest.Gateway, token, person string, ttl any) apptest.Answer {
		input := map[string]any{"personId": person}
		if ttl != nil {
			input["ttlSeconds"] = ttl
		}
		return g.Query(token, createToken, map[string]any{"input": input})
	}
	before := time.Now()
	a := ask(g, g.Token(apptest.Acme, kyc.ProcessesWrite), person, nil)
	ends, err := time.Parse(time.RFC3339, a.Str("createSubjectToken.expiresAt"))
	if err != nil || ends.Before(before.Add(14*time.Minute)) || ends.After(time.Now().Add(16*time.Minute)) {
		t.Fatalf("%s", a.Body)
	}
	subject := a.Str("createSubjectToken.token")
	who := g.Query(subject, `{ viewer { partner subject scopes person { id onboarding { state } } } }`, nil)
	if who.Str("viewer.person.id") != person || who.Str("viewer.person.onboarding.state") != "IN_PROGRESS" || who.Str("viewer.partner") != apptest.Acme || fmt.Sprint(who.Get("viewer.scopes")) != "[]" {
		t.Errorf("%s", who.Body)
	}
	for name, c := range map[string]struct {
		token, person string
		ttl           any
		want          string
	}{
		"too short":         {token, person, 59, "INVALID [input ttlSeconds]"},
		"too long":          {token, person, 3601, "INVALID [input ttlSeconds]"},
		"negative":          {token, person, -1, "INVALID [input ttlSeconds]"},
		"huge":              {token, person, 2147483647, "INVALID [input ttlSeconds]"},
		"another partner's": {g.Token(apptest.Rival), person, nil, "NOT_FOUND [input personId]"},
		"nobody":            {token, "per_x", nil, "NOT_FOUND [input personId]"},
		"both":              {token, "", 0, "INVALID [input ttlSeconds] NOT_FOUND [input personId]"},
		"shortest":          {token, person, 60, ""},
		"longest":           {token, person, 3600, ""},
	} {
		a := ask(g, c.token, c.person, c.ttl)
		var got []string
		list, _ := a.Get("createSubjectToken.userErrors").([]any)
		for _, e := range list {
			got = append(got, fmt.Sprint(e.(map[string]any)["code"], " ", e.(map[string]any)["path"]))
		}
		if strings.Join(got, " ") != c.want || (a.Get("createSubjectToken.token") == nil) != (c.want != "") || len(a.Errors) > 0 {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := ask(g, g.Token(apptest.Acme, kyc.PersonsRead, kyc.Admin), person, nil); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" {
		t.Errorf("without the scope: %s", a.Body)
	}
	if a := ask(g, subject, person, nil); len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "FORBIDDEN" {
		t.Errorf("a subject token for another: %s", a.Body)
	}
	// A gateway without a key of its own says so.
	keyless := apptest.Start(t, apptest.Options{Keyless: true})
	person = keyless.Query(keyless.Token(apptest.Bazaar), apptest.Register, apptest.Input(magic("00", 1), "", nil)).Str("registerPerson.person.id")
	a = ask(keyless, keyless.Token(apptest.Bazaar), person, nil)
	if a.Str("createSubjectToken.userErrors.0.code") != "PROVIDER_NOT_CONFIGURED" || !strings.Contains(a.Str("createSubjectToken.userErrors.0.message"), "auth.signing_key_file") {
		t.Errorf("%s", a.Body)
	}
}
