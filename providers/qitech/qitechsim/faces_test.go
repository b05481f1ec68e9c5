package qitechsim

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/providers/simulator"
)

func pngOf(width int) string {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, 4))); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// face asks the face API with its own key.
func (b *bench) face(method, path string, fields map[string]any) reply {
	b.t.Helper()
	body := ""
	if fields != nil {
		body = text(b.t, fields)
	}
	got, err := b.try(method, path, body, SandboxFaceAPIKey)
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

const someKey = "0f8fad5b-d9cb-469f-a165-70867728950e"

func TestFaceRegistration(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	upload := b.face("POST", imageCollection, map[string]any{"image": pngOf(64)})
	if upload.status != 200 || upload.fields["width_px"] != 64.0 || upload.fields["height_px"] != 4.0 || upload.fields["file_size"] == 0.0 || upload.fields["created_at"] == "" {
		t.Fatalf("upload: %d %s", upload.status, upload.body)
	}
	var keys []any
	for _, request := range []map[string]any{
		{"document_number": "529.982.247-25", "image_key": upload.fields["image_key"]},
		{"document_number": "52998224725", "image": pngOf(64)},
	} {
		got := b.face("POST", faceCollection, request)
		if got.status != 200 || len(got.fields) != 1 || guid(got.fields["registration_key"].(string)) != "" {
			t.Fatalf("%d %s", got.status, got.body)
		}
		keys = append(keys, got.fields["registration_key"])
	}
	for path, want := range map[string]any{
		faceByDocument + "529.982.247-25":                        keys[1],
		faceByDocument + "52998224725":                           keys[1],
		faceCollection + "/" + keys[0].(string):                  keys[0],
		faceCollection + "/" + strings.ToUpper(keys[1].(string)): keys[1],
	} {
		if got := b.face("GET", path, nil); got.status != 200 || got.fields["registration_key"] != want || len(got.fields) != 1 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if len(b.Faces("")) != 2 || len(b.Faces("529.982.247-25")) != 2 || len(b.Faces("111.444.777-35")) != 0 {
		t.Errorf("%v", b.Faces(""))
	}
	for _, r := range b.Requests().Summary().Requests {
		if strings.Contains(string(r.Body)+r.Path, "529") || strings.Contains(string(r.Body), pngOf(64)[:20]) {
			t.Errorf("the log shows %s %s", r.Path, r.Body)
		}
	}
}

func TestFaceRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{UploadedImageKeys: true})
	large := base64.StdEncoding.EncodeToString(append([]byte("\x89PNG"), make([]byte, maxImage)...))
	for name, tt := range map[string]struct {
		method, path string
		fields       map[string]any
		status       int
		title        string
	}{
		"both":              {"POST", faceCollection, map[string]any{"document_number": "529.982.247-25", "image_key": someKey, "image": pngOf(9)}, 400, invalidRequest},
		"none":              {"POST", faceCollection, map[string]any{"document_number": "529.982.247-25"}, 400, invalidRequest},
		"no document":       {"POST", faceCollection, map[string]any{"image": pngOf(9)}, 400, invalidRequest},
		"half a document":   {"POST", faceCollection, map[string]any{"document_number": "529.982", "image": pngOf(9)}, 400, invalidRequest},
		"no GUID":           {"POST", faceCollection, map[string]any{"document_number": "52998224725", "image_key": "x"}, 400, invalidRequest},
		"unknown image key": {"POST", faceCollection, map[string]any{"document_number": "52998224725", "image_key": someKey}, 404, "Image not found"},
		"magic unknown key": {"POST", faceCollection, map[string]any{"document_number": "52998224725", "image_key": ImageKeyUnknown}, 404, "Image not found"},
		"data URL":          {"POST", faceCollection, map[string]any{"document_number": "52998224725", "image": "data:image/png;base64," + pngOf(9)}, 400, invalidRequest},
		"text":              {"POST", faceCollection, map[string]any{"document_number": "52998224725", "image": "aGVsbG8="}, 400, invalidRequest},
		"too large":         {"POST", imageCollection, map[string]any{"image": large}, 400, invalidRequest},
		"upload of nothing": {"POST", imageCollection, map[string]any{}, 400, invalidRequest},
		"unknown key":       {"GET", faceCollection + "/" + someKey, nil, 404, registerNotFound},
		"unknown document":  {"GET", faceByDocument + "52998224725", nil, 404, registerNotFound},
		"malformed":         {"GET", faceByDocument + "5299822472", nil, 400, invalidRequest},
		"deeper":            {"GET", faceCollection + "/a/b", nil, 405, "Method not allowed"},
		"DELETE":            {"DELETE", faceCollection, nil, 405, "Method not allowed"},
		"PUT of one":        {"PUT", faceCollection + "/" + someKey, nil, 405, "Method not allowed"},
		"validation":        {"POST", "/face_recognition/validation", nil, 404, "Not found"},
	} {
		if got := b.face(tt.method, tt.path, tt.fields); got.status != tt.status || got.fields["title"] != tt.title {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got, _ := b.try("POST", faceCollection, "{", SandboxFaceAPIKey); got.status != 406 {
		t.Errorf("no JSON: %d", got.status)
	}
	for _, status := range ImageStatuses {
		for _, fields := range []map[string]any{
			{"document_number": "52998224725", "image": pngOf(MagicWidth(status))}, {"document_number": "52998224725", "image_key": MagicImageKey(status)},
		} {
			if got := b.face("POST", faceCollection, fields); got.status != 400 || got.fields["title"] != "image_quality" || got.fields["image_status"] != status {
				t.Errorf("%s: %d %s", status, got.status, got.body)
			}
		}
	}
	for key, status := range map[string]int{"": 401, "wrong": 401, SandboxAPIKey: 403, SandboxDisabledAPIKey: 403, "Bearer " + SandboxFaceAPIKey: 401} {
		for _, path := range []string{imageCollection, faceCollection} {
			if got, err := b.try("POST", path, "{}", key); err != nil || got.status != status {
				t.Errorf("key %q: %d %v", key, got.status, err)
			}
		}
		for _, path := range []string{faceCollection + "/" + someKey, faceByDocument + "52998224725"} {
			if got, err := b.try("GET", path, "", key); err != nil || got.status != status {
				t.Errorf("key %q: %d %v", key, got.status, err)
			}
		}
	}
	if got, _ := b.try("GET", collection+"/x", "", SandboxFaceAPIKey); got.status != 403 {
		t.Errorf("the face key for an analysis: %d", got.status)
	}
	if n := len(b.Faces("")); n != 0 {
		t.Errorf("%d faces were registered", n)
	}
}

func TestFaceFaultsAct(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.Faults().Replace(simulator.Fault{Operation: OpRegisterFace, Kind: simulator.FaultActThenReset, Times: new(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.try("POST", faceCollection, text(t, map[string]any{"document_number": "52998224725", "image_key": someKey}), SandboxFaceAPIKey); err == nil {
		t.Error("the connection was to be cut")
	}
	if len(b.Faces("52998224725")) != 1 {
		t.Error("it was to act")
	}
}

func TestDuplicateFacePolicies(t *testing.T) {
	t.Parallel()
	for policy, want := range map[DuplicateFace]struct{ status, faces int }{"": {200, 2}, DuplicateFaceSameKey: {200, 1}, DuplicateFaceRefused: {409, 1}} {
		b := setup(t, Config{DuplicateFace: policy})
		request := map[string]any{"document_number": "52998224725", "image_key": someKey}
		first, second := b.face("POST", faceCollection, request), b.face("POST", faceCollection, request)
		if first.status != 200 || second.status != want.status || len(b.Faces("")) != want.faces {
			t.Errorf("%q: %d, %d %s, %d faces", policy, first.status, second.status, second.body, len(b.Faces("")))
		}
		same := first.fields["registration_key"] == second.fields["registration_key"]
		if same != (policy == DuplicateFaceSameKey) {
			t.Errorf("%q: same key %t", policy, same)
		}
	}
}

func TestFaceStoreIsBounded(t *testing.T) {
	t.Parallel()
	st := newFaceStore()
	for i := range maxFaces + 10 {
		key := newGUID()
		st.add(&face{key: key, document: []string{"a", "b", "c"}[i%3]})
		st.addPicture(key)
	}
	if len(st.byKey) != maxFaces || len(st.order) != maxFaces || len(st.pictures) != maxFaces || len(st.byDocument["a"])+len(st.byDocument["b"])+len(st.byDocument["c"]) != maxFaces {
		t.Errorf("%d %d %d", len(st.byKey), len(st.order), len(st.pictures))
	}
}
