package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

const (
	registerFace = `mutation F($input: RegisterFaceInput!) { registerFace(input: $input) {
  faceRegistration { id registrationKey provider documentNumber source createdAt person { id } }
  userErrors { code message path provider providerCode retryable } } }`
	faceByKey = `query($k: ID!) { faceRegistration(registrationKey: $k) { id registrationKey documentNumber source person { id } } }`
	faceByDoc = `query($d: String!) { faceRegistrationByDocument(documentNumber: $d) { id registrationKey documentNumber source person { id } } }`
	facesOf   = `query($d: String!) { personByDocument(documentNumber: $d) { id faceRegistrations { id registrationKey person { name } } } }`

	gps        = "GPS -23.5505 -46.6333"
	anImageKey = "0f8fad5b-d9cb-469f-a165-70867728950e"
)

// selfie is a JPEG of this width, with where it was taken beside the picture.
func selfie(width int) string {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, 32)), nil); err != nil {
		panic(err)
	}
	file := slices.Concat(b.Bytes()[:2], []byte{0xff, 0xfe, 0, byte(len(gps) + 2)}, []byte(gps), b.Bytes()[2:])
	return base64.StdEncoding.EncodeToString(file)
}

func face(document string, overrides ...any) map[string]any {
	input := map[string]any{"documentNumber": document}
	for i := 0; i < len(overrides); i += 2 {
		input[overrides[i].(string)] = overrides[i+1]
	}
	return map[string]any{"input": input}
}

func formatted(cpf string) string { return cpf[:3] + "." + cpf[3:6] + "." + cpf[6:9] + "-" + cpf[9:] }

// posts counts the registrations that reached the upstream.
func posts(g *apptest.Gateway) int { return g.Sim.Requests().Count(qitechsim.OpRegisterFace) }

func faceErrors(a apptest.Answer) string {
	list, _ := a.Get("registerFace.userErrors").([]any)
	var words []string
	for _, e := range list {
		m := e.(map[string]any)
		var path []string
		for _, p := range m["path"].([]any) {
			path = append(path, p.(string))
		}
		words = append(words, fmt.Sprint(m["code"], " ", strings.Join(path[1:], "."), " ", m["providerCode"]))
	}
	return strings.Join(words, "; ")
}

type requests = simulator.RequestSummary

func fault(text string) (f simulator.Fault) {
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		panic(err)
	}
	return f
}

// upstream asks the simulator as QI Tech's client would.
func upstream(t *testing.T, g *apptest.Gateway, path, key string, body ...string) []byte {
	t.Helper()
	method := http.MethodGet
	if len(body) > 0 {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, g.SimURL+"/qitech"+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", resp.StatusCode, b, err)
	}
	return b
}

// elsewhere registers a face past the gateway, as an SDK does, and leaves the counts as they were.
func elsewhere(t *testing.T, g *apptest.Gateway, document string) (key string) {
	t.Helper()
	upstream(t, g, "/face_recognition/registration", qitechsim.SandboxFaceAPIKey, `{"document_number":"`+document+`","image_key":"`+anImageKey+`"}`)
	faces := g.Sim.Faces(document)
	return faces[len(faces)-1].RegistrationKey
}

// noJobs waits until no registration is open any more: no job, and no row that is not registered.
func noJobs(t *testing.T, g *apptest.Gateway) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(g.Dir, "kycgate.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := 0
	apptest.Until(t, func() bool {
		err := db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM jobs WHERE kind = 'face_registration') + (SELECT count(*) FROM faces WHERE state <> 'REGISTERED')
			+ (SELECT count(*) FROM provider_calls WHERE operation = 'register_face' AND outcome IS NULL)`).Scan(&n)
		return err == nil && n == 0
	}, func() string { return fmt.Sprint(n, " jobs, open rows and calls") })
}

// By key and by image, read back by key and by document in both forms, before and after the person exists.
func TestRegisterFace(t *testing.T) {
	t.Parallel()
	for _, partner := range []string{apptest.Acme, apptest.Bazaar} { // decided by QI Tech, and by nobody
		t.Run(partner, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{})
			token, cpf := g.Token(partner), apptest.CPF(9, 1)
			a := g.Query(token, registerFace, face(formatted(cpf), "imageKey", anImageKey))
			first := a.Str("registerFace.faceRegistration.registrationKey")
			if first == "" || len(a.Errors) > 0 || a.Get("registerFace.faceRegistration.person") != nil || a.Str("registerFace.faceRegistration.source") != "IMAGE_KEY" ||
				a.Str("registerFace.faceRegistration.documentNumber") != cpf || a.Str("registerFace.faceRegistration.provider") != "qitech" {
				t.Fatalf("%s", a.Body)
			}
			a = g.Query(token, registerFace, face(cpf, "image", selfie(64)))
			second := a.Str("registerFace.faceRegistration.registrationKey")
			if second == "" || second == first || a.Str("registerFace.faceRegistration.source") != "IMAGE" {
				t.Fatalf("a second face: %s", a.Body)
			}
			calls := len(g.Sim.Requests().Summary().Requests)
			check := func(person any) {
				t.Helper()
				for _, form := range []string{cpf, formatted(cpf)} {
					a := g.Query(token, faceByDoc, map[string]any{"d": form})
					if a.Str("faceRegistrationByDocument.registrationKey") != second || fmt.Sprint(a.Get("faceRegistrationByDocument.person")) != fmt.Sprint(person) {
						t.Errorf("by document: %s", a.Body)
					}
				}
				for _, key := range []string{first, second} {
					a := g.Query(token, faceByKey, map[string]any{"k": key})
					if a.Str("faceRegistration.registrationKey") != key || a.Str("faceRegistration.documentNumber") != cpf || fmt.Sprint(a.Get("faceRegistration.person")) != fmt.Sprint(person) {
						t.Errorf("by key: %s", a.Body)
					}
					n := g.Query(token, `query($id: ID!) { node(id: $id) { id ... on FaceRegistration { registrationKey } } }`, map[string]any{"id": a.Str("faceRegistration.id")})
					if n.Str("node.registrationKey") != key {
						t.Errorf("node: %s", n.Body)
					}
				}
			}
			check(nil)
			if n := len(g.Sim.Requests().Summary().Requests); n != calls {
				t.Errorf("%d calls for what the store knows", n-calls)
			}
			a = g.Query(token, apptest.Register, apptest.Input(cpf, "ext-1", map[string]any{"faceRecognitionId": first}))
			id := a.Str("registerPerson.person.id")
			if id == "" {
				t.Fatalf("%s", a.Body)
			}
			check(map[string]any{"id": id})
			a = g.Query(token, registerFace, face(cpf, "imageKey", anImageKey))
			if a.Str("registerFace.faceRegistration.person.id") != id {
				t.Errorf("with a person: %s", a.Body)
			}
			a = g.Query(token, facesOf, map[string]any{"d": cpf})
			if a.Str("personByDocument.faceRegistrations.0.registrationKey") != first || a.Str("personByDocument.faceRegistrations.1.registrationKey") != second ||
				a.Get("personByDocument.faceRegistrations.3") != nil || a.Str("personByDocument.faceRegistrations.2.person.name") != "Maria da Silva" {
				t.Errorf("%s", a.Body)
			}
			if n := len(g.Sim.Faces(cpf)); n != 3 || posts(g) != 3 {
				t.Errorf("%d faces and %d calls upstream", n, posts(g))
			}
			reader := g.Token(partner, kyc.PersonsRead)
			if a := g.Query(reader, faceByKey, map[string]any{"k": first}); a.Str("faceRegistration.documentNumber") != "***."+cpf[3:6]+"."+cpf[6:9]+"-**" {
				t.Errorf("not masked: %s", a.Body)
			}
			if a := g.Query(reader, registerFace, face(cpf, "imageKey", anImageKey)); len(a.Errors) != 1 || posts(g) != 3 {
				t.Errorf("a reader registers: %s", a.Body)
			}
			for _, secret := range []string{cpf, formatted(cpf), selfie(64)[:20]} {
				if strings.Contains(g.Logs.String(), secret) {
					t.Errorf("%q is in the log", secret)
				}
			}
			g.Stop()
			for _, name := range []string{"kycgate.db", "kycgate.db-wal"} {
				if b, err := os.ReadFile(filepath.Join(g.Dir, name)); err == nil && (bytes.Contains(b, []byte(cpf)) || bytes.Contains(b, []byte(formatted(cpf)))) {
					t.Errorf("the document is in %s", name)
				}
			}
		})
	}
}

// faceRecognitionId reaches QI Tech as face.registration_key.
func TestFaceReachesTheAnalysis(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 2)
	key := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey)).Str("registerFace.faceRegistration.registrationKey")
	g.Query(token, apptest.Register, apptest.Input(cpf, "ext", map[string]any{"faceRecognitionId": key}))
	body := upstream(t, g, "/onboarding/natural_person/"+g.Sim.Analyses()[0].ID, qitechsim.SandboxAPIKey)
	var person struct {
		Face struct {
			RegistrationKey string `json:"registration_key"`
		}
	}
	if err := json.Unmarshal(body, &person); err != nil || person.Face.RegistrationKey != key || key == "" {
		t.Errorf("%s, want %s", body, key)
	}
}

// What is refused leaves no call at the upstream and no row here; all that is wrong is named at once.
func TestRefusedFaces(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 3)
	var large bytes.Buffer
	if err := png.Encode(&large, image.NewGray(image.Rect(0, 0, 10, 10))); err != nil {
		t.Fatal(err)
	}
	large.Write(make([]byte, 3_000_001-large.Len()))
	b64 := base64.StdEncoding.EncodeToString
	for name, tt := range map[string]struct {
		input map[string]any
		want  string
	}{
		"both":                    {face(cpf, "imageKey", anImageKey, "image", selfie(9)), "INVALID imageKey <nil>; INVALID image <nil>"},
		"none":                    {face(cpf), "INVALID imageKey <nil>; INVALID image <nil>"},
		"both null":               {face(cpf, "imageKey", nil, "image", nil), "INVALID imageKey <nil>; INVALID image <nil>"},
		"wrong digit and both":    {face("529.982.247-26", "imageKey", "x", "image", "x", "idempotencyKey", ""), "INVALID idempotencyKey <nil>; INVALID documentNumber <nil>; INVALID imageKey <nil>; INVALID image <nil>"},
		"no document":             {face("", "imageKey", anImageKey), "REQUIRED documentNumber <nil>"},
		"no GUID":                 {face(cpf, "imageKey", "x"), "INVALID imageKey <nil>"},
		"no image":                {face(cpf, "image", ""), "IMAGE_REJECTED image empty"},
		"text":                    {face(cpf, "image", b64([]byte("hello, this is text"))), "IMAGE_REJECTED image text"},
		"GIF":                     {face(cpf, "image", b64([]byte("GIF89a........"))), "IMAGE_REJECTED image gif"},
		"data URL":                {face(cpf, "image", "data:image/jpeg;base64,"+selfie(9)), "IMAGE_REJECTED image data_url"},
		"cut":                     {face(cpf, "image", b64(large.Bytes()[:50])), "IMAGE_REJECTED image truncated"},
		"three megabytes and one": {face(cpf, "image", b64(large.Bytes())), "IMAGE_REJECTED image too_many_bytes"},
		"pixel flood":             {face(cpf, "image", b64(pixelFlood())), "IMAGE_REJECTED image too_large"},
	} {
		a := g.Query(token, registerFace, tt.input)
		if got := faceErrors(a); got != tt.want || a.Get("registerFace.faceRegistration") != nil || len(a.Errors) > 0 {
			t.Errorf("%s: %s, want %s", name, a.Body, tt.want)
		}
	}
	if n := len(g.Sim.Requests().Summary().Requests); n != 0 {
		t.Errorf("%d calls", n)
	}
	large.Truncate(3_000_000) // as large as may be, with something behind the picture
	if a := g.Query(token, registerFace, face(cpf, "image", b64(large.Bytes()))); a.Get("registerFace.faceRegistration") == nil {
		t.Errorf("three megabytes: %s", a.Body)
	}
	// 413: above what travels, and above a megabyte where nothing may.
	if a, err := g.Raw(t.Context(), token, []byte(`{"query":"mutation{__typename}","variables":{"x":"`+strings.Repeat("A", 1<<20)+`"}}`)); err != nil || a.Status != 413 {
		t.Errorf("a large body without a picture: %d %v", a.Status, err)
	}
	reader := g.Token(apptest.Acme, kyc.PersonsRead)
	if a, err := g.Do(t.Context(), reader, registerFace, face(cpf, "image", b64(large.Bytes()))); err == nil && a.Status != 413 {
		t.Errorf("a large body of a reader: %d", a.Status)
	}
}

// pixelFlood is a header that promises a hundred million pixels; what follows does not matter.
func pixelFlood() []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewPaletted(image.Rect(0, 0, 10_000, 10_000), color.Palette{color.Black})); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Each word of QI Tech arrives as its own reason, with a sentence; nothing stays of the refused.
func TestImageQualityReasons(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 4)
	for _, status := range qitechsim.ImageStatuses {
		for field, value := range map[string]string{"imageKey": qitechsim.MagicImageKey(status), "image": selfie(qitechsim.MagicWidth(status))} {
			a := g.Query(token, registerFace, face(cpf, field, value, "idempotencyKey", "k"))
			if got := faceErrors(a); got != "IMAGE_REJECTED "+field+" "+status || a.Str("registerFace.userErrors.0.provider") != "qitech" || a.Get("registerFace.userErrors.0.retryable") != false {
				t.Errorf("%s: %s", status, a.Body)
			}
			if message := a.Str("registerFace.userErrors.0.message"); len(message) < 20 || strings.Contains(message, "not good enough") {
				t.Errorf("%s has no sentence of its own: %q", status, message)
			}
		}
	}
	a := g.Query(token, registerFace, face(cpf, "imageKey", qitechsim.ImageKeyUnknown))
	if got := faceErrors(a); got != "PROVIDER_REJECTED imageKey image_key_not_found" {
		t.Errorf("an unknown image: %s", a.Body)
	}
	a = g.Query(token, faceByDoc, map[string]any{"d": cpf})
	if a.Get("faceRegistrationByDocument") != nil || len(a.Errors) > 0 {
		t.Errorf("%s", a.Body)
	}
	// A refusal frees the key.
	if a := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey, "idempotencyKey", "k")); a.Get("registerFace.faceRegistration") == nil {
		t.Errorf("after the refusals: %s", a.Body)
	}
}

// The same key is one registration, whoever asks how often at once; with another input it is refused.
func TestFaceIdempotency(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 5)
	putFault(t, g, `{"operation":"register_face","kind":"latency","value":"30ms"}`)
	bodies := make([]string, 50)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() {
			a, err := g.Do(t.Context(), token, registerFace, face([]string{cpf, formatted(cpf)}[i%2], "image", selfie(48), "idempotencyKey", "once"))
			if err == nil {
				bodies[i] = string(a.Body)
			}
		})
	}
	wg.Wait()
	if len(slices.Compact(bodies)) != 1 || !strings.Contains(bodies[0], "fac_") {
		t.Errorf("%q", slices.Compact(bodies))
	}
	if posts(g) != 1 || len(g.Sim.Faces("")) != 1 {
		t.Errorf("%d calls", posts(g))
	}
	for name, input := range map[string]map[string]any{
		"another document": face(apptest.CPF(9, 6), "image", selfie(48), "idempotencyKey", "once"),
		"another image":    face(cpf, "image", selfie(49), "idempotencyKey", "once"),
		"an image key":     face(cpf, "imageKey", anImageKey, "idempotencyKey", "once"),
	} {
		if a := g.Query(token, registerFace, input); faceErrors(a) != "IDEMPOTENCY_CONFLICT idempotencyKey <nil>" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := g.Query(token, apptest.Register, apptest.Input(cpf, "ext", map[string]any{"idempotencyKey": "once"})); a.Str("registerPerson.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("another mutation: %s", a.Body)
	}
	rival := g.Token(apptest.Rival)
	if a := g.Query(rival, registerFace, face(cpf, "image", selfie(50), "idempotencyKey", "once")); a.Get("registerFace.faceRegistration") == nil {
		t.Errorf("another partner: %s", a.Body)
	}
	if posts(g) != 2 {
		t.Errorf("%d calls", posts(g))
	}
}

// The upstream acts, and its answer is lost: one registration there, one here, and the caller gets it.
func TestFaceWithoutAnswer(t *testing.T) {
	t.Parallel()
	for kind, fault := range map[string]string{
		"reset":    `{"operation":"register_face","kind":"act_then_reset","times":1}`,
		"truncate": `{"operation":"register_face","kind":"truncate","times":1}`,
		"hang":     `{"operation":"register_face","kind":"act_then_hang","times":1}`,
	} {
		for _, earlier := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, earlier face %t", kind, earlier), func(t *testing.T) {
				t.Parallel()
				g := apptest.Start(t, apptest.Options{})
				token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 7)
				want := 1
				if earlier { // registered elsewhere, and unknown here: it must not pass for ours
					elsewhere(t, g, cpf)
					want = 2
				}
				putFault(t, g, fault)
				a := g.Query(token, registerFace, face(cpf, "image", selfie(40), "idempotencyKey", "k"))
				faces := g.Sim.Faces(cpf)
				if len(faces) != want || a.Str("registerFace.faceRegistration.registrationKey") != faces[want-1].RegistrationKey {
					t.Fatalf("%s, upstream %v", a.Body, faces)
				}
				again := g.Query(token, registerFace, face(cpf, "image", selfie(40), "idempotencyKey", "k"))
				if again.Str("registerFace.faceRegistration.id") != a.Str("registerFace.faceRegistration.id") || len(g.Sim.Faces(cpf)) != want {
					t.Errorf("the repeat: %s", again.Body)
				}
				noJobs(t, g)
			})
		}
	}
}

// The answer is lost and so is the look-up: the caller is told to repeat, and a repeat, with a key or with the same
// input, finds the one registration. So does nobody's repeat.
func TestFaceIsFoundLater(t *testing.T) {
	t.Parallel()
	for name, repeat := range map[string]string{"by key": "k", "by input": "", "by input after the job": "late", "by nobody": "nobody"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 8)
			input := func() map[string]any {
				if repeat == "k" {
					return face(cpf, "image", selfie(40), "idempotencyKey", "k")
				}
				return face(cpf, "image", selfie(40))
			}
			// The first look-up, before the call, is answered; those after it are not, for a while.
			putFault(t, g, `[{"operation":"register_face","kind":"act_then_reset","times":1},{"operation":"register_face","kind":"latency","value":"200ms","times":1}]`)
			done := make(chan apptest.Answer, 1)
			go func() {
				a, err := g.Do(t.Context(), token, registerFace, input())
				if err != nil {
					t.Error(err)
				}
				done <- a
			}()
			if err := g.Sim.Requests().Wait(t.Context(), func(s requests) bool { return s.ByOperation[qitechsim.OpFetchFaceByDocument] > 0 }); err != nil {
				t.Fatal(err)
			}
			if err := g.Sim.Faults().Add(fault(`{"operation":"fetch_face_by_document","kind":"status","value":503}`)); err != nil {
				t.Fatal(err)
			}
			a := <-done
			if got := faceErrors(a); got != "PROVIDER_UNAVAILABLE  <nil>" || a.Get("registerFace.userErrors.0.retryable") != true || a.Get("registerFace.faceRegistration") != nil || len(a.Errors) > 0 {
				t.Fatalf("%s", a.Body)
			}
			if a := g.Query(token, faceByDoc, map[string]any{"d": cpf}); a.Get("faceRegistrationByDocument") != nil || len(a.Errors) != 1 || a.Errors[0].Extensions["code"] != "OVERLOADED" {
				t.Errorf("a look-up without an answer claims there is none: %s", a.Body)
			}
			g.Sim.Faults().Clear()
			want := g.Sim.Faces(cpf)[0].RegistrationKey
			if repeat == "late" {
				noJobs(t, g)
			}
			if repeat != "nobody" {
				g.Eventually(token, registerFace, input(), func(a apptest.Answer) bool {
					return a.Str("registerFace.faceRegistration.registrationKey") == want
				})
			}
			noJobs(t, g)
			if a := g.Query(token, faceByDoc, map[string]any{"d": cpf}); a.Str("faceRegistrationByDocument.registrationKey") != want || a.Str("faceRegistrationByDocument.source") != "IMAGE" {
				t.Errorf("%s", a.Body)
			}
			if posts(g) != 1 || len(g.Sim.Faces("")) != 1 {
				t.Errorf("%d calls, %d faces", posts(g), len(g.Sim.Faces("")))
			}
			if repeat == "nobody" { // whoever comes later with it is the repeat, once
				if a := g.Query(token, registerFace, input()); a.Str("registerFace.faceRegistration.registrationKey") != want || posts(g) != 1 {
					t.Errorf("the first to come: %s, %d calls", a.Body, posts(g))
				}
				if a := g.Query(token, registerFace, input()); a.Str("registerFace.faceRegistration.registrationKey") == want || posts(g) != 2 {
					t.Errorf("the next one: %s, %d calls", a.Body, posts(g))
				}
			}
		})
	}
}

// The upstream did not act: a repeat under the same key registers, once.
func TestFaceThatDidNotArrive(t *testing.T) {
	t.Parallel()
	for kind, fault := range map[string]string{
		"reset":      `{"operation":"register_face","kind":"reset","times":1}`,
		"503":        `{"operation":"register_face","kind":"status","value":503,"times":1}`,
		"rate limit": `{"operation":"register_face","kind":"rate_limit","value":0,"times":1}`,
		"401":        `{"operation":"register_face","kind":"status","value":401,"times":1}`,
		"no look-up": `{"operation":"fetch_face_by_document","kind":"status","value":503,"times":2}`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 9)
			putFault(t, g, fault)
			input := face(cpf, "imageKey", anImageKey, "idempotencyKey", "k")
			a := g.Query(token, registerFace, input)
			if got := faceErrors(a); got != "PROVIDER_UNAVAILABLE  <nil>" || len(g.Sim.Faces("")) != 0 {
				t.Fatalf("%s", a.Body)
			}
			a = g.Eventually(token, registerFace, input, func(a apptest.Answer) bool { return a.Get("registerFace.faceRegistration") != nil })
			if len(g.Sim.Faces("")) != 1 || a.Str("registerFace.faceRegistration.registrationKey") != g.Sim.Faces("")[0].RegistrationKey {
				t.Errorf("%s, upstream %v", a.Body, g.Sim.Faces(""))
			}
			noJobs(t, g)
		})
	}
}

// A face registered elsewhere is found by key and by document, and remembered.
func TestFaceFromElsewhere(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf, other := g.Token(apptest.Acme), apptest.CPF(9, 10), apptest.CPF(9, 11)
	key, byDocument := elsewhere(t, g, cpf), elsewhere(t, g, other)
	a := g.Query(token, faceByKey, map[string]any{"k": key})
	if a.Str("faceRegistration.registrationKey") != key || a.Str("faceRegistration.source") != "ELSEWHERE" || a.Get("faceRegistration.documentNumber") != nil {
		t.Errorf("by key: %s", a.Body)
	}
	// By its document it is the same one, and known whose from now on.
	if b := g.Query(token, faceByDoc, map[string]any{"d": cpf}); b.Str("faceRegistrationByDocument.id") != a.Str("faceRegistration.id") || b.Str("faceRegistrationByDocument.documentNumber") != cpf {
		t.Errorf("%s after %s", b.Body, a.Body)
	}
	if a := g.Query(token, faceByDoc, map[string]any{"d": formatted(other)}); a.Str("faceRegistrationByDocument.registrationKey") != byDocument || a.Str("faceRegistrationByDocument.documentNumber") != other {
		t.Errorf("by document: %s", a.Body)
	}
	asked := len(g.Sim.Requests().Summary().Requests)
	for range 3 {
		g.Query(token, faceByKey, map[string]any{"k": key})
		g.Query(token, faceByDoc, map[string]any{"d": cpf})
		g.Query(token, faceByDoc, map[string]any{"d": other})
	}
	if n := len(g.Sim.Requests().Summary().Requests); n != asked {
		t.Errorf("%d calls for what is remembered", n-asked)
	}
	g.Query(token, apptest.Register, apptest.Input(cpf, "ext", nil))
	if a := g.Query(token, facesOf, map[string]any{"d": cpf}); a.Str("personByDocument.faceRegistrations.0.registrationKey") != key {
		t.Errorf("not linked: %s", a.Body)
	}
	for name, q := range map[string]map[string]any{"unknown": {"k": anImageKey}, "prose": {"k": "529.982.247-25 Maria"}, "empty": {"k": ""}, "path": {"k": "../document_number/" + cpf}} {
		if a := g.Query(token, faceByKey, q); a.Get("faceRegistration") != nil || len(a.Errors) > 0 {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	for _, d := range []string{apptest.CPF(9, 12), "529.982.247-26", "", "Maria"} {
		if a := g.Query(token, faceByDoc, map[string]any{"d": d}); a.Get("faceRegistrationByDocument") != nil || len(a.Errors) > 0 {
			t.Errorf("%s: %s", d, a.Body)
		}
	}
}

// Another partner's face does not exist, by no door, although QI Tech knows it under our one key.
func TestFacesOfAnotherPartner(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	acme, rival, cpf := g.Token(apptest.Acme), g.Token(apptest.Rival), apptest.CPF(9, 13)
	mine := g.Query(acme, registerFace, face(cpf, "imageKey", anImageKey))
	key := mine.Str("registerFace.faceRegistration.registrationKey")
	before := g.Sim.Requests().Count(qitechsim.OpFetchFace)
	same := func(got, nobody apptest.Answer) {
		t.Helper()
		if !bytes.Equal(got.Body, nobody.Body) || got.Status != nobody.Status {
			t.Errorf("%s, and for what does not exist %s", got.Body, nobody.Body)
		}
	}
	same(g.Query(rival, faceByKey, map[string]any{"k": key}), g.Query(rival, faceByKey, map[string]any{"k": anImageKey}))
	if n := g.Sim.Requests().Count(qitechsim.OpFetchFace) - before; n != 2 { // both are asked for: they take as long
		t.Errorf("%d look-ups", n)
	}
	same(g.Query(rival, faceByDoc, map[string]any{"d": cpf}), g.Query(rival, faceByDoc, map[string]any{"d": apptest.CPF(9, 14)}))
	node := `query($id: ID!) { node(id: $id) { id } }`
	same(g.Query(rival, node, map[string]any{"id": mine.Str("registerFace.faceRegistration.id")}), g.Query(rival, node, map[string]any{"id": string(kyc.NewFaceID())}))

	// One that was registered elsewhere after it is still taken to be acme's, until rival has the person too.
	newest := elsewhere(t, g, cpf)
	if a := g.Query(rival, faceByDoc, map[string]any{"d": cpf}); a.Get("faceRegistrationByDocument") != nil {
		t.Errorf("%s", a.Body)
	}
	g.Query(rival, apptest.Register, apptest.Input(cpf, "ext", nil))
	if a := g.Query(rival, faceByDoc, map[string]any{"d": cpf}); a.Str("faceRegistrationByDocument.registrationKey") != newest {
		t.Errorf("%s", a.Body)
	}
	// Their own registrations of one document are independent, and the lists hold one's own.
	own := g.Query(rival, registerFace, face(cpf, "imageKey", anImageKey)).Str("registerFace.faceRegistration.registrationKey")
	if a := g.Query(acme, faceByDoc, map[string]any{"d": cpf}); a.Str("faceRegistrationByDocument.registrationKey") != key {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(rival, facesOf, map[string]any{"d": cpf}); a.Str("personByDocument.faceRegistrations.1.registrationKey") != own || strings.Contains(string(a.Body), key) {
		t.Errorf("%s", a.Body)
	}
}

// With the face endpoints failing, analyses go on: their breaker stays closed.
func TestFacesDoNotStopAnalyses(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Providers.QITech.Breaker.OpenFor = time.Minute }})
	token := g.Token(apptest.Acme)
	for _, op := range []string{qitechsim.OpRegisterFace, qitechsim.OpFetchFace, qitechsim.OpFetchFaceByDocument} {
		if err := g.Sim.Faults().Add(fault(`{"operation":"` + op + `","kind":"status","value":503}`)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		cpf := apptest.CPF(9, 100+i)
		if a := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey)); faceErrors(a) != "PROVIDER_UNAVAILABLE  <nil>" {
			t.Fatalf("%s", a.Body)
		}
		g.Query(token, faceByKey, map[string]any{"k": anImageKey})
		if a := g.Query(token, apptest.Register, apptest.Input(cpf, fmt.Sprint("E", i), nil)); a.Str("registerPerson.person.kyc.status") != "APPROVED" {
			t.Fatalf("%s", a.Body)
		}
	}
	h := g.Query(token, health, nil)
	for op, state := range map[string]string{"analyze_person": "CLOSED", "fetch_person_analysis": "CLOSED", "fetch_face": "OPEN", "fetch_face_by_document": "OPEN"} {
		if o := operation(h, op); o["breaker"] != state {
			t.Errorf("%s: %v, want %s", op, o, state)
		}
	}
	if n := g.Sim.Requests().Count(qitechsim.OpFetchFaceByDocument); n > 6 {
		t.Errorf("%d calls before the breaker opened", n)
	}
}

// What a provider makes of a second face of one document is its own: the same key, or a no, which is looked up.
func TestDuplicateFaces(t *testing.T) {
	t.Parallel()
	for _, policy := range []qitechsim.DuplicateFace{qitechsim.DuplicateFaceSameKey, qitechsim.DuplicateFaceRefused} {
		g := apptest.Start(t, apptest.Options{Sim: qitechsim.Config{DuplicateFace: policy}})
		token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 15)
		first := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey, "idempotencyKey", "a"))
		for range 2 { // the second one is the repeat
			a := g.Query(token, registerFace, face(cpf, "image", selfie(30), "idempotencyKey", "b"))
			if faceErrors(a) != "" || a.Str("registerFace.faceRegistration.id") != first.Str("registerFace.faceRegistration.id") || posts(g) != 2 {
				t.Errorf("%s: %s, %d calls", policy, a.Body, posts(g))
			}
		}
		// What is there already of a person's SDK, or of another partner's, is an answer of one's own.
		key, other := elsewhere(t, g, apptest.CPF(9, 19)), g.Token(apptest.Rival)
		for document, want := range map[string]string{cpf: first.Str("registerFace.faceRegistration.registrationKey"), apptest.CPF(9, 19): key} {
			a := g.Query(other, registerFace, face(document, "image", selfie(30)))
			if a.Str("registerFace.faceRegistration.registrationKey") != want || strings.Contains(string(a.Body), first.Str("registerFace.faceRegistration.id")) {
				t.Errorf("%s: %s", policy, a.Body)
			}
		}
		noJobs(t, g)
	}
}

// Erasing a person takes their faces along and tells under which keys QI Tech has them.
func TestErasedFaces(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 16)
	a := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey))
	id, key := a.Str("registerFace.faceRegistration.id"), a.Str("registerFace.faceRegistration.registrationKey")
	person := g.Query(token, apptest.Register, apptest.Input(cpf, "ext", nil)).Str("registerPerson.person.id")
	e := g.Query(token, `mutation($id: ID!) { erasePerson(input: {personId: $id, reason: DATA_SUBJECT_REQUEST}) { erasure { status providers { provider references } } userErrors { code } } }`, map[string]any{"id": person})
	if e.Str("erasePerson.erasure.status") != "DONE" || !strings.Contains(string(e.Body), key) || strings.Contains(string(e.Body), id) {
		t.Errorf("%s", e.Body)
	}
	if n := g.Query(token, `query($id: ID!) { node(id: $id) { id } }`, map[string]any{"id": id}); n.Get("node") != nil {
		t.Errorf("%s", n.Body)
	}
}

// A gateway without QI Tech says so.
func TestFacesWithoutQITech(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.Providers.QITech = nil
		c.Partners = []config.Partner{{ID: apptest.Acme, SourceKYC: config.SourceOpenCo}}
	}})
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 17)
	if a := g.Query(token, registerFace, face(cpf, "imageKey", anImageKey)); faceErrors(a) != "PROVIDER_NOT_CONFIGURED  <nil>" {
		t.Errorf("%s", a.Body)
	}
	if a := g.Query(token, faceByDoc, map[string]any{"d": cpf}); a.Get("faceRegistrationByDocument") != nil || len(a.Errors) > 0 {
		t.Errorf("%s", a.Body)
	}
}

// Killed with the call under way: the next process looks it up, and the repeat finds it.
func TestKilledWhileAFaceIsRegistered(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{}) // for its simulator and tokens
	token, cpf := g.Token(apptest.Acme), apptest.CPF(9, 18)
	file := childConfiguration(t, g, "5s")
	child := startChild(t, file)
	putFault(t, g, `{"operation":"register_face","kind":"act_then_hang"}`)
	input := face(cpf, "image", selfie(40), "idempotencyKey", "k")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = child.do(ctx, token, registerFace, input) }()
	if err := g.Sim.Requests().Wait(t.Context(), func(s requests) bool { return s.ByOperation[qitechsim.OpRegisterFace] > 0 }); err != nil {
		t.Fatal(err)
	}
	child.kill()
	g.Sim.Faults().Clear()
	next := startChild(t, file)
	defer next.kill()
	var a apptest.Answer
	apptest.Until(t, func() bool {
		var err error
		a, err = next.do(t.Context(), token, registerFace, input)
		return err == nil && a.Str("registerFace.faceRegistration.registrationKey") != ""
	}, func() string { return string(a.Body) })
	if len(g.Sim.Faces("")) != 1 || posts(g) != 1 || a.Str("registerFace.faceRegistration.registrationKey") != g.Sim.Faces("")[0].RegistrationKey {
		t.Errorf("%s, upstream %v, %d calls", a.Body, g.Sim.Faces(""), posts(g))
	}
}

// R5: whatever goes wrong between us and the upstream, one key is one face there and the same one here.
func TestFacesUnderFaults(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin = 300 * time.Millisecond
		c.Providers.QITech.Breaker.Failures = 1000 // the breaker would hide what is to be seen
	}})
	putFault(t, g, `[{"operation":"register_face","kind":"act_then_reset","probability":0.25},{"operation":"register_face","kind":"truncate","probability":0.1},
		{"operation":"register_face","kind":"act_then_hang","probability":0.05},{"operation":"register_face","kind":"reset","probability":0.1},
		{"operation":"register_face","kind":"status","value":503,"probability":0.1},{"operation":"register_face","kind":"rate_limit","value":0,"probability":0.05},
		{"operation":"register_face","kind":"latency","value":"20ms","probability":0.5},
		{"operation":"fetch_face_by_document","kind":"status","value":503,"probability":0.2},{"operation":"fetch_face_by_document","kind":"reset","probability":0.1}]`)
	const workers, each = 6, 8
	partners := []string{apptest.Acme, apptest.Rival}
	var mu sync.Mutex
	registered := map[string][]string{} // keys by document
	var wg sync.WaitGroup
	for w := range workers {
		token := g.Token(partners[w%2])
		wg.Go(func() {
			for n := range each {
				// Workers 0 and 1 share their documents, and so do 2 and 4, of one partner.
				cpf := apptest.CPF(9, 1000+[]int{0, 0, 1, 2, 1, 3}[w]*each+n)
				input := face(cpf, "image", selfie(40+w), "idempotencyKey", fmt.Sprint(w, "-", n))
				for t.Context().Err() == nil {
					a, err := g.Do(t.Context(), token, registerFace, input)
					if err != nil {
						t.Error(err)
						return
					}
					if key := a.Str("registerFace.faceRegistration.registrationKey"); key != "" {
						mu.Lock()
						registered[cpf] = append(registered[cpf], key)
						mu.Unlock()
						break
					}
					if got := faceErrors(a); got != "PROVIDER_UNAVAILABLE  <nil>" {
						t.Errorf("%s", a.Body)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	noJobs(t, g)
	total := 0
	for cpf, keys := range registered {
		var there []string
		for _, f := range g.Sim.Faces(cpf) {
			there = append(there, f.RegistrationKey)
		}
		slices.Sort(keys)
		if slices.Sort(there); !slices.Equal(keys, there) {
			t.Errorf("answered %v, upstream %v", keys, there)
		}
		total += len(keys)
	}
	if total != workers*each || len(g.Sim.Faces("")) != total {
		t.Errorf("%d answered, %d upstream, want %d", total, len(g.Sim.Faces("")), workers*each)
	}
}
