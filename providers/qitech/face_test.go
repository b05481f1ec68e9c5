package qitech_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

const (
	registrationKey = "3b241101-e2bb-4255-8caf-4136c566a962"
	imageKey        = "0f8fad5b-d9cb-469f-a165-70867728950e"
)

func cpf() kyc.DocumentNumber { return kyc.NewDocumentNumber("52998224725") }

func jpegOf(width int) kyc.Image {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, 8)), nil); err != nil {
		panic(err)
	}
	img, refused := kyc.NewBase64(base64.StdEncoding.EncodeToString(b.Bytes())).Image(qitech.FaceImages)
	if refused != nil {
		panic(refused.Reason)
	}
	return img
}

func imageBase64() string { return jpegOf(16).RevealBase64() }

func faceByImage() kyc.FaceRequest { return kyc.FaceRequest{Document: cpf(), Image: ptr(jpegOf(16))} }

func faceByKey(key string) kyc.FaceRequest {
	return kyc.FaceRequest{Document: cpf(), ImageKey: ptr(kyc.UUID(key))}
}

// The three requests as dossier A.2 shows them, with the key of the face product and no word in front.
func TestFaceRequests(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		form               qitech.DocumentForm
		call               func(context.Context, kyc.Provider) (kyc.FaceReference, error)
		method, path, body string
	}{
		"register by image": {"", func(ctx context.Context, p kyc.Provider) (kyc.FaceReference, error) {
			return p.RegisterFace(ctx, faceByImage())
		},
			"POST", "/face_recognition/registration", `{"document_number":"529.982.247-25","image":"` + imageBase64() + `"}`},
		"register by key, bare": {qitech.DocumentBare, func(ctx context.Context, p kyc.Provider) (kyc.FaceReference, error) {
			return p.RegisterFace(ctx, faceByKey(imageKey))
		}, "POST", "/face_recognition/registration", `{"document_number":"52998224725","image_key":"` + imageKey + `"}`},
		"by key": {"", func(ctx context.Context, p kyc.Provider) (kyc.FaceReference, error) {
			return p.FetchFace(ctx, registrationKey)
		},
			"GET", "/face_recognition/registration/" + registrationKey, ""},
		"by document": {"", func(ctx context.Context, p kyc.Provider) (kyc.FaceReference, error) {
			return p.FetchFaceByDocument(ctx, cpf())
		},
			"GET", "/face_recognition/registration/document_number/529.982.247-25", ""},
		"by document, bare": {qitech.DocumentBare, func(ctx context.Context, p kyc.Provider) (kyc.FaceReference, error) {
			return p.FetchFaceByDocument(ctx, cpf())
		},
			"GET", "/face_recognition/registration/document_number/52998224725", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got, auth string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got, auth = r.Method+" "+r.URL.EscapedPath()+" "+string(body), r.Header.Get("Authorization")
				_, _ = io.WriteString(w, `{"registration_key":"`+registrationKey+`"}`)
			}))
			defer s.Close()
			c := config(s.URL)
			c.FaceDocument = tt.form
			face, err := tt.call(t.Context(), newProvider(t, c))
			if err != nil || face.Key != registrationKey {
				t.Fatalf("%+v, %v", face, err)
			}
			if want := tt.method + " " + tt.path + " " + tt.body; got != want || auth != faceKey {
				t.Errorf("sent %s with %s, want %s", got, auth, want)
			}
		})
	}
}

// The older shape tells whose face it is (dossier A.7).
func TestOlderFaceAnswer(t *testing.T) {
	t.Parallel()
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"registration_key":"`+registrationKey+`","document_number":"529.982.247-25","status":"indeterminate","image":{"file_size":1}}`)
	})
	if face, err := p.FetchFace(t.Context(), registrationKey); err != nil || face.Document.Reveal() != "52998224725" {
		t.Errorf("%s, %v", face.Document.Reveal(), err)
	}
}

// fraud is a no, whoever else is in the answer; every other status is as good as none (dossier A.7).
func TestFaceStatus(t *testing.T) {
	t.Parallel()
	for answer, fraud := range map[string]bool{
		`{"registration_key":"` + registrationKey + `","status":"fraud"}`:         true,
		`{"registration_key":"` + registrationKey + `","status":" FRAUD "}`:       true,
		`{"registration_key":"` + registrationKey + `","status":"authentic"}`:     false,
		`{"registration_key":"` + registrationKey + `","status":"undefined"}`:     false,
		`{"registration_key":"` + registrationKey + `","status":"indeterminate"}`: false,
		`{"registration_key":"` + registrationKey + `","status":"no_fraud"}`:      false,
		`{"registration_key":"` + registrationKey + `","status":null}`:            false,
		`{"registration_key":"` + registrationKey + `","status":{"fraud":1}}`:     false,
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		for path, r := range map[string]kyc.FaceRequest{"input.image": faceByImage(), "input.imageKey": faceByKey(imageKey)} {
			face, err := p.RegisterFace(t.Context(), r)
			var e *kyc.Error
			if fraud && (!errors.As(err, &e) || e.Kind != kyc.Rejected || e.Code != "fraud" || strings.Join(e.Path, ".") != path) || !fraud && (err != nil || face.Key != registrationKey) {
				t.Errorf("%s: %+v, %v", answer, face, err)
			}
		}
		byKey, err := p.FetchFace(t.Context(), registrationKey)
		byDocument, err2 := p.FetchFaceByDocument(t.Context(), cpf())
		if err != nil || err2 != nil || byKey.Fraud != fraud || byDocument.Fraud != fraud || byDocument.Key != registrationKey {
			t.Errorf("%s: %+v %v, %+v %v", answer, byKey, err, byDocument, err2)
		}
	}
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"fraud"}`) })
	if _, err := p.RegisterFace(t.Context(), faceByImage()); kyc.KindOf(err) != kyc.Rejected {
		t.Errorf("a no needs no key: %v", err)
	}
	if _, err := p.FetchFaceByDocument(t.Context(), cpf()); kyc.KindOf(err) != kyc.Ambiguous {
		t.Errorf("a look-up without a key: %v", err)
	}
}

func TestFaceRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status     int
		body       string
		byKey      bool
		kind       kyc.Kind
		code, path string
	}{
		{400, `{"title":"image_quality","description":"x","image_status":"not_center"}`, false, kyc.Rejected, "image_quality.not_center", "input.image"},
		{400, `{"title":"image_quality","description":"x","image_status":"not_centered"}`, true, kyc.Rejected, "image_quality.not_centered", "input.imageKey"},
		{422, `{"title":"image_quality","description":"x","image_status":"wearing_acessories"}`, false, kyc.Rejected, "image_quality.wearing_acessories", "input.image"},
		{400, `{"title":"image_quality","image_status":"Ana Exemplo"}`, false, kyc.Rejected, "image_quality", "input.image"},
		{400, `{"title":"image_quality"}`, false, kyc.Rejected, "image_quality", "input.image"},
		{400, `{"title":"Invalid request","description":"document_number: must match"}`, false, kyc.Rejected, "invalid_request", "input.documentNumber"},
		{400, `{"title":"Invalid request","description":"image: must be a JPEG"}`, false, kyc.Rejected, "invalid_request", "input.image"},
		{400, `{"title":"Invalid request","description":"image_key: must be a GUID"}`, true, kyc.Rejected, "invalid_request", "input.imageKey"},
		{400, `{"title":"Invalid request","description":"something"}`, true, kyc.Rejected, "invalid_request", "input"},
		{404, `{"title":"Image not found","description":"x"}`, true, kyc.Rejected, "image_key_not_found", "input.imageKey"},
		{404, `{"title":"Image not found","description":"x"}`, false, kyc.Internal, "HTTP_404", ""},
		{404, `<html>`, true, kyc.Internal, "HTTP_404", ""},
		{400, `{}`, true, kyc.Internal, "HTTP_400", ""},
		{400, `{"title":"Invalid ApiKey"}`, true, kyc.Credentials, "invalid_api_key", ""},
		{406, `{"title":"x"}`, true, kyc.Internal, "HTTP_406", ""},
		{409, `{"title":"x"}`, true, kyc.Conflict, "HTTP_409", ""},
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		r := faceByImage()
		if tt.byKey {
			r = faceByKey(imageKey)
		}
		_, err := p.RegisterFace(t.Context(), r)
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || e.Code != tt.code || strings.Join(e.Path, ".") != tt.path {
			t.Errorf("%d %s: got %v %v, want %s %s %s", tt.status, tt.body, err, e.Path, tt.kind, tt.code, tt.path)
		}
	}
}

// The client against the simulator: they were written from the same dossier, and neither imports the other.
func TestFacesAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	faces := func(t *testing.T, c qitechsim.Config) (*qitechsim.Sim, kyc.Provider) {
		sim := qitechsim.New(c)
		t.Cleanup(func() { _ = sim.Close() })
		server := httptest.NewServer(sim)
		t.Cleanup(server.Close)
		return sim, newProvider(t, qitech.Config{BaseURL: server.URL, APIKey: secret(qitechsim.SandboxAPIKey), FaceAPIKey: secret(qitechsim.SandboxFaceAPIKey)})
	}
	sim, p := faces(t, qitechsim.Config{})
	_, fraudulent := faces(t, qitechsim.Config{})
	if _, err := p.FetchFaceByDocument(t.Context(), cpf()); kyc.KindOf(err) != kyc.NotFound || err == nil {
		t.Errorf("before: %v", err)
	}
	first, err := p.RegisterFace(t.Context(), faceByKey(imageKey))
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.RegisterFace(t.Context(), faceByImage())
	if err != nil || second.Key == first.Key || len(sim.Faces("529.982.247-25")) != 2 {
		t.Errorf("a second face: %+v after %+v, %v", second, first, err)
	}
	if newest, err := p.FetchFaceByDocument(t.Context(), cpf()); err != nil || newest.Key != second.Key {
		t.Errorf("by document: %+v, %v", newest, err)
	}
	if face, err := p.FetchFace(t.Context(), first.Key); err != nil || face.Key != first.Key {
		t.Errorf("by key: %+v, %v", face, err)
	}
	if _, err := p.FetchFace(t.Context(), imageKey); kyc.KindOf(err) != kyc.NotFound || err == nil {
		t.Errorf("an unknown key: %v", err)
	}
	for _, r := range []kyc.FaceRequest{faceByKey(qitechsim.ImageKeyFraud), {Document: cpf(), Image: ptr(jpegOf(qitechsim.MagicWidthFraud))}} {
		if _, err := fraudulent.RegisterFace(t.Context(), r); kyc.KindOf(err) != kyc.Rejected || err == nil {
			t.Errorf("a fraud: %v", err)
		}
		if face, err := fraudulent.FetchFaceByDocument(t.Context(), cpf()); err != nil || !face.Fraud {
			t.Errorf("a fraud by document: %+v, %v", face, err)
		}
	}
	for _, status := range qitechsim.ImageStatuses {
		for _, r := range []kyc.FaceRequest{faceByKey(qitechsim.MagicImageKey(status)), {Document: cpf(), Image: ptr(jpegOf(qitechsim.MagicWidth(status)))}} {
			_, err := p.RegisterFace(t.Context(), r)
			var e *kyc.Error
			if !errors.As(err, &e) || e.Kind != kyc.Rejected || e.Code != "image_quality."+status {
				t.Errorf("%s: %v", status, err)
			}
		}
	}
	if len(sim.Faces("")) != 2 {
		t.Errorf("%d faces", len(sim.Faces("")))
	}
	_, same := faces(t, qitechsim.Config{DuplicateFace: qitechsim.DuplicateFaceSameKey})
	_, refused := faces(t, qitechsim.Config{DuplicateFace: qitechsim.DuplicateFaceRefused})
	a, _ := same.RegisterFace(t.Context(), faceByImage())
	b, err := same.RegisterFace(t.Context(), faceByKey(imageKey))
	if err != nil || a.Key != b.Key {
		t.Errorf("same key: %+v %+v %v", a, b, err)
	}
	if _, err := refused.RegisterFace(t.Context(), faceByImage()); err != nil {
		t.Error(err)
	}
	if _, err := refused.RegisterFace(t.Context(), faceByImage()); kyc.KindOf(err) != kyc.Conflict {
		t.Errorf("a second face where it is refused: %v", err)
	}
	// Without a key of its own the onboarding key is sent, which QI Tech says is not enabled.
	server := httptest.NewServer(sim)
	defer server.Close()
	if _, err := newProvider(t, qitech.Config{BaseURL: server.URL, APIKey: secret(qitechsim.SandboxAPIKey)}).FetchFace(t.Context(), first.Key); kyc.KindOf(err) != kyc.Credentials {
		t.Errorf("the onboarding key: %v", err)
	}
}

// Whatever a 2xx answer holds, what is passed on is a code.
func FuzzFaceAnswer(f *testing.F) {
	f.Add(200, []byte(`{"registration_key":"`+registrationKey+`"}`))
	f.Add(200, []byte(`{"registration_key":"`+registrationKey+`","document_number":"529.982.247-25"}`))
	f.Add(400, []byte(`{"title":"image_quality","image_status":"no_faces"}`))
	var status int
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	f.Cleanup(s.Close)
	p := newProvider(f, config(s.URL))
	f.Fuzz(func(t *testing.T, code int, b []byte) {
		if code < 200 || code > 599 || code == 204 || code == 304 {
			return
		}
		status, body = code, b
		face, err := p.RegisterFace(t.Context(), faceByKey(imageKey))
		var e *kyc.Error
		switch {
		case err == nil && (face.Key == "" || kyc.CodeLike(face.Key) != face.Key):
			t.Errorf("passed on %q", face.Key)
		case err != nil && (!errors.As(err, &e) || kyc.CodeLike(e.Code) != e.Code || e.Message != ""):
			t.Errorf("%v", err)
		}
		var told struct {
			Key string `json:"registration_key"`
		}
		if json.Unmarshal(b, &told) != nil && err == nil {
			t.Error("an unreadable answer registered a face")
		}
	})
}
