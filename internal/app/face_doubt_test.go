package app_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

// scriptedFaces is QI Tech's simulator behind a script for its face registrations, and for the look-ups by document.
type scriptedFaces struct {
	sim   *qitechsim.Sim
	front http.Handler
	posts atomic.Int32
	looks atomic.Int32
	// post handles the nth registration; act has the simulator do it, and gives its answer. nil lets it through.
	post func(n int, w http.ResponseWriter, r *http.Request, act func() *httptest.ResponseRecorder)
	// look answers the nth look-up by document, unless it gives 0.
	look func(n int) (status int)
}

func newScriptedFaces(t *testing.T, c qitechsim.Config) *scriptedFaces {
	sim := qitechsim.New(c)
	t.Cleanup(func() { _ = sim.Close() })
	return &scriptedFaces{sim: sim, front: simulator.New(sim)}
}

func (s *scriptedFaces) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const collection = "/qitech/face_recognition/registration"
	switch {
	case r.Method == http.MethodPost && r.URL.Path == collection && s.post != nil:
		body, _ := io.ReadAll(r.Body)
		s.post(int(s.posts.Add(1)), w, r, func() *httptest.ResponseRecorder {
			copied := r.Clone(context.WithoutCancel(r.Context()))
			copied.Body = io.NopCloser(bytes.NewReader(body))
			answer := httptest.NewRecorder()
			s.front.ServeHTTP(answer, copied)
			return answer
		})
		return
	case strings.HasPrefix(r.URL.Path, collection+"/document_number/") && s.look != nil:
		if status := s.look(int(s.looks.Add(1))); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	s.front.ServeHTTP(w, r)
}

// late has every registration act only when it is let, whoever has gone by then.
func (s *scriptedFaces) late(t *testing.T) (let func()) {
	gate := make(chan struct{})
	let = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(let)
	s.post = func(_ int, _ http.ResponseWriter, r *http.Request, act func() *httptest.ResponseRecorder) {
		go func() {
			<-gate
			act()
		}()
		<-r.Context().Done()
	}
	return let
}

func (s *scriptedFaces) copyOf(answer *httptest.ResponseRecorder, w http.ResponseWriter) {
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

const faceUnavailable = "PROVIDER_UNAVAILABLE  <nil>"

// The call times out and the upstream acts afterwards: look-ups that see nothing do not send it again meanwhile.
func TestLateFaceIsNotSentAgain(t *testing.T) {
	t.Parallel()
	u := newScriptedFaces(t, qitechsim.Config{})
	let := u.late(t)
	g := apptest.Start(t, apptest.Options{Upstream: u, Config: func(c *config.Config) {
		c.Providers.QITech.Timeout, c.Providers.QITech.HoldAmbiguous = 200*time.Millisecond, time.Minute
	}})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 40)
	input := face(cpf, "image", selfie(40), "idempotencyKey", "k")
	for range 5 {
		if a := g.Query(token, registerFace, input); faceErrors(a) != faceUnavailable || a.Get("registerFace.userErrors.0.retryable") != true {
			t.Fatalf("%s", a.Body)
		}
	}
	if a := g.Query(g.Token(apptest.Rival), registerFace, face(cpf, "imageKey", anImageKey)); faceErrors(a) != faceUnavailable {
		t.Errorf("another partner: %s", a.Body)
	}
	if n := u.posts.Load(); n != 1 {
		t.Fatalf("sent %d times", n)
	}
	let()
	a := g.Eventually(token, registerFace, input, func(a apptest.Answer) bool { return a.Get("registerFace.faceRegistration") != nil })
	if faces := u.sim.Faces(""); len(faces) != 1 || a.Str("registerFace.faceRegistration.registrationKey") != faces[0].RegistrationKey || u.posts.Load() != 1 {
		t.Errorf("%s, upstream %v, %d calls", a.Body, faces, u.posts.Load())
	}
	noJobs(t, g)
}

// A call that timed out and never acted is sent again once the hold is over.
func TestFaceIsSentAgainAfterTheHold(t *testing.T) {
	t.Parallel()
	u := newScriptedFaces(t, qitechsim.Config{})
	u.post = func(n int, w http.ResponseWriter, r *http.Request, act func() *httptest.ResponseRecorder) {
		if n == 1 {
			<-r.Context().Done()
			return
		}
		u.copyOf(act(), w)
	}
	g := apptest.Start(t, apptest.Options{Upstream: u, Config: func(c *config.Config) { c.Providers.QITech.Timeout = 200 * time.Millisecond }})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 41)
	began := time.Now()
	a := g.Eventually(token, registerFace, face(cpf, "image", selfie(40), "idempotencyKey", "k"), func(a apptest.Answer) bool {
		return a.Get("registerFace.faceRegistration") != nil
	})
	if took := time.Since(began); took < 500*time.Millisecond || u.posts.Load() != 2 || len(u.sim.Faces("")) != 1 {
		t.Errorf("%s after %s and %d calls", a.Body, took, u.posts.Load())
	}
	noJobs(t, g)
}

// Killed with the call under way: the next process does not take it for one that did not arrive.
func TestKilledBeforeALateFace(t *testing.T) {
	t.Parallel()
	u := newScriptedFaces(t, qitechsim.Config{})
	let := u.late(t)
	g := apptest.Start(t, apptest.Options{Upstream: u}) // for its address and tokens
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 42)
	file := childConfiguration(t, g, "5s")
	yaml, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(yaml, []byte("timeout: 1s, hold_ambiguous: 300ms"), []byte("timeout: 10s, hold_ambiguous: 1m"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	child := startChild(t, file)
	input := face(cpf, "image", selfie(40), "idempotencyKey", "k")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = child.do(ctx, token, registerFace, input) }()
	apptest.Until(t, func() bool { return u.posts.Load() == 1 }, func() string { return "no call" })
	child.kill()
	next := startChild(t, file)
	defer next.kill()
	for range 3 {
		if a, err := next.do(t.Context(), token, registerFace, input); err != nil || faceErrors(a) != faceUnavailable {
			t.Fatalf("%s, %v", a.Body, err)
		}
	}
	let()
	var a apptest.Answer
	apptest.Until(t, func() bool {
		a, err = next.do(t.Context(), token, registerFace, input)
		return err == nil && a.Get("registerFace.faceRegistration") != nil
	}, func() string { return string(a.Body) })
	if u.posts.Load() != 1 || len(u.sim.Faces("")) != 1 {
		t.Errorf("%d calls, upstream %v", u.posts.Load(), u.sim.Faces(""))
	}
}

// The upstream stores the face and resets, does not see it for a while, and refuses it as a duplicate meanwhile: that is
// no end, and what it sees at last is the answer.
func TestConflictIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]int{"not there": http.StatusNotFound, "no answer": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newScriptedFaces(t, qitechsim.Config{DuplicateFace: qitechsim.DuplicateFaceRefused})
			var visible atomic.Bool
			u.look = func(int) int {
				switch {
				case visible.Load():
					return 0
				case u.posts.Load() > 1:
					return seen
				}
				return http.StatusNotFound
			}
			u.post = func(n int, w http.ResponseWriter, _ *http.Request, act func() *httptest.ResponseRecorder) {
				answer := act()
				if n == 1 {
					panic(http.ErrAbortHandler)
				}
				u.copyOf(answer, w)
			}
			g := apptest.Start(t, apptest.Options{Upstream: u, Config: func(c *config.Config) { c.Providers.QITech.Breaker.Failures = 1000 }})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 43)
			input := face(cpf, "image", selfie(40), "idempotencyKey", "k")
			for range 2 {
				if a := g.Query(token, registerFace, input); faceErrors(a) != faceUnavailable || a.Get("registerFace.userErrors.0.retryable") != true {
					t.Fatalf("%s", a.Body)
				}
			}
			if n := u.posts.Load(); n != 2 {
				t.Fatalf("%d calls", n)
			}
			visible.Store(true)
			noJobs(t, g) // the job finds it by itself
			a := g.Query(token, registerFace, input)
			if faces := u.sim.Faces(""); len(faces) != 1 || a.Str("registerFace.faceRegistration.registrationKey") != faces[0].RegistrationKey || u.posts.Load() != 2 {
				t.Errorf("%s, upstream %v, %d calls", a.Body, faces, u.posts.Load())
			}
		})
	}
}

// A 429 may mean that the face was taken: what is new is the answer, what is not there is a no, and without an answer
// it is unknown.
func TestRateLimitedFaceIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		acts, earlier bool
		look          int
	}{"taken": {acts: true}, "not there": {}, "as before": {earlier: true}, "taken, no answer": {acts: true, look: http.StatusServiceUnavailable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newScriptedFaces(t, qitechsim.Config{})
			var limited atomic.Bool
			u.look = func(int) int {
				if limited.Load() {
					return tt.look
				}
				return 0
			}
			u.post = func(n int, w http.ResponseWriter, _ *http.Request, act func() *httptest.ResponseRecorder) {
				if n > 1 {
					u.copyOf(act(), w)
					return
				}
				if tt.acts {
					act()
				}
				limited.Store(true)
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			g := apptest.Start(t, apptest.Options{Upstream: u, Config: func(c *config.Config) { c.Providers.QITech.Breaker.Failures = 1000 }})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 44)
			want := 1
			if tt.earlier {
				u.elsewhere(t, cpf)
				want = 2
			}
			input := face(cpf, "image", selfie(40), "idempotencyKey", "k")
			a := g.Query(token, registerFace, input)
			if found := a.Get("registerFace.faceRegistration") != nil; found != (tt.acts && tt.look == 0) || !found && faceErrors(a) != faceUnavailable {
				t.Fatalf("%s", a.Body)
			}
			limited.Store(false)
			a = g.Eventually(token, registerFace, input, func(a apptest.Answer) bool { return a.Get("registerFace.faceRegistration") != nil })
			if faces := u.sim.Faces(cpf); len(faces) != want || a.Str("registerFace.faceRegistration.registrationKey") != faces[want-1].RegistrationKey {
				t.Errorf("%s, upstream %v", a.Body, faces)
			}
			noJobs(t, g)
		})
	}
}

// elsewhere registers a face past the gateway and past the script.
func (s *scriptedFaces) elsewhere(t *testing.T, document string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/qitech/face_recognition/registration", strings.NewReader(`{"document_number":"`+document+`","image_key":"`+anImageKey+`"}`))
	r.Header.Set("Authorization", qitechsim.SandboxFaceAPIKey)
	if s.front.ServeHTTP(httptest.NewRecorder(), r); len(s.sim.Faces(document)) != 1 {
		t.Fatal("not registered")
	}
}

// The face of a fraud is an explicit no, whether the answer says so or a look-up after a lost one: nothing of it is here.
func TestFraudulentFace(t *testing.T) {
	t.Parallel()
	const steps = `query($d: String!) { personByDocument(documentNumber: $d) { faceRegistrations { id } onboarding { steps { kind status } } } }`
	for name, tt := range map[string]struct {
		fault string
		input []any
		want  string
	}{
		"by image":        {`[]`, []any{"image", selfie(qitechsim.MagicWidthFraud)}, "PROVIDER_REJECTED image fraud"},
		"by key":          {`[]`, []any{"imageKey", qitechsim.ImageKeyFraud}, "PROVIDER_REJECTED imageKey fraud"},
		"the answer lost": {`{"operation":"register_face","kind":"act_then_reset","times":1}`, []any{"imageKey", qitechsim.ImageKeyFraud}, "PROVIDER_REJECTED imageKey fraud"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Partners[0].Require = []string{"FACE"} }})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 45)
			g.Query(token, apptest.Register, apptest.Input(cpf, "ext", nil))
			putFault(t, g, tt.fault)
			a := g.Query(token, registerFace, face(cpf, append(tt.input, "idempotencyKey", "k")...))
			if faceErrors(a) != tt.want || a.Get("registerFace.faceRegistration") != nil || a.Get("registerFace.userErrors.0.retryable") != false {
				t.Errorf("%s", a.Body)
			}
			noJobs(t, g)
			key := g.Sim.Faces(cpf)[0].RegistrationKey
			if a := g.Query(token, faceByDoc, map[string]any{"d": cpf}); a.Get("faceRegistrationByDocument") != nil || len(a.Errors) > 0 {
				t.Errorf("by document: %s", a.Body)
			}
			if a := g.Query(token, faceByKey, map[string]any{"k": key}); a.Get("faceRegistration") != nil || len(a.Errors) > 0 {
				t.Errorf("by key: %s", a.Body)
			}
			if a := g.Query(token, steps, map[string]any{"d": cpf}); !strings.Contains(string(a.Body), `{"kind":"FACE","status":"MISSING"}`) || strings.Contains(string(a.Body), "fac_") {
				t.Errorf("%s", a.Body)
			}
			// It frees the key, and another picture may be registered.
			if a := g.Query(token, registerFace, face(cpf, "image", selfie(40), "idempotencyKey", "k")); a.Get("registerFace.faceRegistration") == nil {
				t.Errorf("another picture: %s", a.Body)
			}
		})
	}
}

// A registration left open that turns out to be a fraud's is ended: by its repeat, which is told, or by its job.
func TestOpenFaceOfAFraud(t *testing.T) {
	t.Parallel()
	for name, repeated := range map[string]bool{"repeated": true, "by the job": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newScriptedFaces(t, qitechsim.Config{})
			var blind atomic.Bool
			u.look = func(int) int {
				if blind.Load() {
					return http.StatusServiceUnavailable
				}
				return 0
			}
			u.post = func(_ int, _ http.ResponseWriter, _ *http.Request, act func() *httptest.ResponseRecorder) {
				act()
				blind.Store(true)
				panic(http.ErrAbortHandler) // a reset
			}
			g := apptest.Start(t, apptest.Options{Upstream: u, Config: func(c *config.Config) {
				c.Providers.QITech.Breaker.Failures = 1000
				if repeated {
					c.Providers.QITech.RetryAfter = 2 * time.Second // the repeat waits with the document locked, and is first
				}
			}})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 46)
			input := face(cpf, "imageKey", qitechsim.ImageKeyFraud, "idempotencyKey", "k")
			if a := g.Query(token, registerFace, input); faceErrors(a) != faceUnavailable {
				t.Fatalf("%s", a.Body)
			}
			blind.Store(false)
			if repeated {
				if a := g.Query(token, registerFace, input); faceErrors(a) != "PROVIDER_REJECTED imageKey fraud" {
					t.Errorf("the repeat: %s", a.Body)
				}
			}
			noJobs(t, g)
			if a := g.Query(token, faceByDoc, map[string]any{"d": cpf}); a.Get("faceRegistrationByDocument") != nil || len(a.Errors) > 0 || u.posts.Load() != 1 {
				t.Errorf("%s, %d calls", a.Body, u.posts.Load())
			}
		})
	}
}
