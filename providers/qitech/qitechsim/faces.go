package qitechsim

import (
	"bytes"
	"encoding/base64"
	"image"
	_ "image/jpeg" // the two formats of dossier A.8
	_ "image/png"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The paths of dossier A.2, rows 9 and 11 to 13.
const (
	imageCollection = "/face_recognition/image"
	faceCollection  = "/face_recognition/registration"
	faceByDocument  = faceCollection + "/document_number/"
)

const (
	// maxImage is the 3 MB of dossier A.8, the larger way to read them: a client that is stricter must not find out
	// here.
	maxImage = 3 << 20
	maxBody  = 6 << 20 // of a request: such an image in base64 and what is around it (ours)
	// maxFaces bounds what is held; images are measured and not kept.
	maxFaces = 200_000
)

// DuplicateFace is what a second registration of one document does: nothing is documented (dossier D.6).
type DuplicateFace string

// The choices, all ours.
const (
	DuplicateFaceNewKey  DuplicateFace = "new_key"  // a second key; the look-up by document answers the newest
	DuplicateFaceSameKey DuplicateFace = "same_key" // the key there is
	DuplicateFaceRefused DuplicateFace = "refused"  // 409
)

// Magic values of faces. A picture is recognised by its width in pixels, because a gateway may remove everything
// else that could mark it; a picture's key by its end, which is the same number.
const (
	magicFaceWidth = 1001
	magicImageKey  = "00000000-0000-4000-8000-00000000"
	// ImageKeyUnknown is a key of no picture.
	ImageKeyUnknown = "00000000-0000-4000-8000-000000000404"
	// MagicWidthFraud is the width of a picture that is registered with the status fraud, and ImageKeyFraud the key of one.
	MagicWidthFraud = 1100
	ImageKeyFraud   = magicImageKey + "1100"
)

const statusFraud = "fraud"

// ImageStatuses are the words of dossier A.8, in both spellings where the documents have two. The picture of
// status i is magicFaceWidth + i pixels wide.
var ImageStatuses = []string{
	"no_faces", "multiple_faces", "close_face", "distant_face", "not_centered", "not_center", "inclined_face",
	"wearing_acessories", "facial_expression", "brightness_problem", "sharpness_problem",
}

// MagicWidth is the width of a picture that is refused with a status of [ImageStatuses], and MagicImageKey the key.
func MagicWidth(status string) int {
	for i, s := range ImageStatuses {
		if s == status {
			return magicFaceWidth + i
		}
	}
	panic("qitechsim: no such image_status: " + status)
}

// MagicImageKey is the key of a picture that is refused with a status.
func MagicImageKey(status string) string { return magicImageKey + strconv.Itoa(MagicWidth(status)) }

// magicStatus is the refusal of a number, or "".
func magicStatus(n int) string {
	if i := n - magicFaceWidth; i >= 0 && i < len(ImageStatuses) {
		return ImageStatuses[i]
	}
	return ""
}

// face is one registration. Sim.mu guards it and the store.
type face struct {
	key, document string
	status        string // "" as in the current answer, else fraud as in the older one (dossier A.7)
}

func (f *face) answer() faceAnswer { return faceAnswer{f.key, f.status} }

type faceStore struct {
	byKey      map[string]*face
	byDocument map[string][]*face // oldest first
	pictures   map[string]struct{}
	order      []*face
	keys       []string // of pictures, oldest first
}

func newFaceStore() faceStore {
	return faceStore{byKey: make(map[string]*face), byDocument: make(map[string][]*face), pictures: make(map[string]struct{})}
}

func (st *faceStore) add(f *face) {
	st.byKey[f.key] = f
	st.byDocument[f.document] = append(st.byDocument[f.document], f)
	st.order = append(st.order, f)
	if len(st.order) <= maxFaces {
		return
	}
	old := st.order[0]
	st.order[0], st.order = nil, st.order[1:]
	delete(st.byKey, old.key)
	if st.byDocument[old.document] = st.byDocument[old.document][1:]; len(st.byDocument[old.document]) == 0 {
		delete(st.byDocument, old.document)
	}
}

func (st *faceStore) addPicture(key string) {
	st.pictures[key] = struct{}{}
	st.keys = append(st.keys, key)
	if len(st.keys) > maxFaces {
		delete(st.pictures, st.keys[0])
		st.keys = st.keys[1:]
	}
}

// Face is what the simulator knows about one registration, without personal data.
type Face struct {
	RegistrationKey string `json:"registration_key"`
}

// Faces returns the registrations of a document, oldest first; of every document when it is empty.
func (s *Sim) Faces(document string) []Face {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.faces.order
	if document != "" {
		list = s.faces.byDocument[bareCPF(document)]
	}
	faces := make([]Face, len(list))
	for i, f := range list {
		faces[i] = Face{f.key}
	}
	return faces
}

// serveFaces routes what is below the collection; false if it is nothing of the face API.
func (s *Sim) serveFaces(w http.ResponseWriter, r *http.Request, path string) bool {
	if r.Method != http.MethodGet {
		return false
	}
	if escaped, ok := strings.CutPrefix(path, faceByDocument); ok {
		document, err := url.PathUnescape(escaped)
		if err != nil || document == "" {
			return false
		}
		r.SetPathValue("document", document) // not "id": the log shows that one
		s.fetchByDocument(w, r)
		return true
	}
	escaped, ok := strings.CutPrefix(path, faceCollection+"/")
	id, err := url.PathUnescape(escaped)
	if !ok || err != nil || id == "" || strings.Contains(escaped, "/") {
		return false
	}
	r.SetPathValue("id", id)
	s.fetchFace(w, r)
	return true
}

// document takes both forms: for faces nothing is stated (dossier D.6).
func document(s string) string {
	if !fits(s, "000.000.000-00") && !fits(s, "00000000000") {
		return "must match ###.###.###-## or have eleven digits"
	}
	return ""
}

func bareCPF(s string) string { return strings.NewReplacer(".", "", "-", "").Replace(s) }

type imageAnswer struct {
	ImageKey  string `json:"image_key"`
	FileSize  int    `json:"file_size"`
	WidthPx   int    `json:"width_px"`
	HeightPx  int    `json:"height_px"`
	CreatedAt string `json:"created_at"`
}

// serveUpload is POST /face_recognition/image (row 9).
func (s *Sim) serveUpload(w http.ResponseWriter, r *http.Request) {
	if !s.authorizedForFaces(w, r) {
		return
	}
	fields, ok := decodeObject(w, simulator.Body(r))
	if !ok {
		return
	}
	root := node{fields: fields, wrong: new(*fieldError)}
	text := root.required("image", nil)
	if *root.wrong != nil {
		badRequest(w, (*root.wrong).path, (*root.wrong).text)
		return
	}
	config, size, ok := readImage(w, text)
	if !ok {
		return
	}
	key := newGUID()
	s.mu.Lock()
	s.faces.addPicture(key)
	s.mu.Unlock()
	simulator.WriteJSON(w, s.config.SuccessStatus, imageAnswer{key, size, config.Width, config.Height, stamp(s.config.Now())})
}

// readImage checks a picture as far as a simulator can: bare base64, JPEG or PNG, 3 MB, and the magic widths.
// That a picture of the wrong kind is "Invalid request" and not image_quality is ours.
func readImage(w http.ResponseWriter, text string) (config image.Config, size int, ok bool) {
	file, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		badRequest(w, "image", "must be base64 without a data: prefix")
		return config, 0, false
	}
	if len(file) > maxImage {
		badRequest(w, "image", "must have at most 3 MB")
		return config, 0, false
	}
	if config, _, err = image.DecodeConfig(bytes.NewReader(file)); err != nil {
		badRequest(w, "image", "must be a JPEG or PNG")
		return config, 0, false
	}
	if status := magicStatus(config.Width); status != "" {
		imageQuality(w, status)
		return config, 0, false
	}
	return config, len(file), true
}

// imageQuality is the error of dossier A.8.
func imageQuality(w http.ResponseWriter, status string) {
	simulator.WriteJSON(w, http.StatusBadRequest, struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		ImageStatus string `json:"image_status"`
	}{"image_quality", "the picture does not have the quality that is needed", status})
}

type faceAnswer struct {
	RegistrationKey string `json:"registration_key"`
	Status          string `json:"status,omitempty"`
}

// serveRegisterFace is POST /face_recognition/registration (row 11).
func (s *Sim) serveRegisterFace(w http.ResponseWriter, r *http.Request) {
	if !s.authorizedForFaces(w, r) {
		return
	}
	fields, ok := decodeObject(w, simulator.Body(r))
	if !ok {
		return
	}
	root := node{fields: fields, wrong: new(*fieldError)}
	cpf := bareCPF(root.required("document_number", document))
	key, text := root.text("image_key", guid), root.text("image", nil)
	if (key == "") == (text == "") {
		root.fail("image_key", "is required, or image, and not both") // a 400 is ours: its code is not stated
	}
	if *root.wrong != nil {
		badRequest(w, (*root.wrong).path, (*root.wrong).text)
		return
	}
	registered := &face{key: newGUID(), document: cpf}
	if text != "" {
		config, _, ok := readImage(w, text)
		if !ok {
			return
		}
		if config.Width == MagicWidthFraud {
			registered.status = statusFraud
		}
	} else if !s.knowsPicture(w, strings.ToLower(key)) {
		return
	} else if key == ImageKeyFraud {
		registered.status = statusFraud
	}
	s.mu.Lock()
	known := s.faces.byDocument[cpf]
	if len(known) > 0 && s.config.DuplicateFace != DuplicateFaceNewKey {
		registered = known[len(known)-1]
	} else {
		s.faces.add(registered)
	}
	s.mu.Unlock()
	if len(known) > 0 && s.config.DuplicateFace == DuplicateFaceRefused {
		simulator.WriteError(w, http.StatusConflict, "Duplicated registration", "document_number: has a registered face already")
		return
	}
	s.changed.Notify()
	simulator.WriteJSON(w, s.config.SuccessStatus, registered.answer())
}

// knowsPicture takes any key unless it is told otherwise: most are made by the SDK, past this simulator.
func (s *Sim) knowsPicture(w http.ResponseWriter, key string) bool {
	s.mu.Lock()
	_, uploaded := s.faces.pictures[key]
	s.mu.Unlock()
	status := ""
	if digits, ok := strings.CutPrefix(key, magicImageKey); ok {
		n, _ := strconv.Atoi(digits)
		status = magicStatus(n)
	}
	switch {
	case status != "":
		imageQuality(w, status)
	case key == ImageKeyUnknown, s.config.UploadedImageKeys && !uploaded:
		simulator.WriteError(w, http.StatusNotFound, "Image not found", "image_key: is unknown")
	default:
		return true
	}
	return false
}

// serveFetchFace is GET /face_recognition/registration/{registration_key} (row 12).
func (s *Sim) serveFetchFace(w http.ResponseWriter, r *http.Request) {
	if !s.authorizedForFaces(w, r) {
		return
	}
	s.mu.Lock()
	f := s.faces.byKey[strings.ToLower(r.PathValue("id"))]
	s.mu.Unlock()
	if f == nil {
		simulator.WriteError(w, http.StatusNotFound, registerNotFound, "registration_key: is unknown")
		return
	}
	simulator.WriteJSON(w, http.StatusOK, f.answer())
}

// serveFetchFaceByDocument is GET …/document_number/{document_number} (row 13): the newest (ours).
func (s *Sim) serveFetchFaceByDocument(w http.ResponseWriter, r *http.Request) {
	if !s.authorizedForFaces(w, r) {
		return
	}
	cpf := r.PathValue("document")
	if expected := document(cpf); expected != "" {
		badRequest(w, "document_number", expected)
		return
	}
	s.mu.Lock()
	known := s.faces.byDocument[bareCPF(cpf)]
	s.mu.Unlock()
	if len(known) == 0 {
		simulator.WriteError(w, http.StatusNotFound, registerNotFound, "document_number: has no registered face")
		return
	}
	simulator.WriteJSON(w, http.StatusOK, known[len(known)-1].answer())
}

// faceScenarios lists the magic of faces.
func (s *Sim) faceScenarios(add func(operation, when, then, source string)) {
	for i, status := range ImageStatuses {
		n := strconv.Itoa(magicFaceWidth + i)
		add(OpRegisterFace, "the image is "+n+" pixels wide, or image_key is "+magicImageKey+n, "400 \"image_quality\" with image_status "+status, "dossier A.8; the number is ours")
	}
	add(OpRegisterFace, "the image is "+strconv.Itoa(MagicWidthFraud)+" pixels wide, or image_key is "+ImageKeyFraud, "it is registered with the status "+statusFraud+", which the look-ups answer too", "dossier A.7, older page; the number is ours")
	add(OpRegisterFace, "image_key is "+ImageKeyUnknown, "404 \"Image not found\"", "dossier A.8, general table; the key is ours")
	add(OpRegisterFace, "the image is no JPEG or PNG, or has more than 3 MB", "400 \"Invalid request\" for image", "dossier A.8; the title is ours")
	then := map[DuplicateFace]string{
		DuplicateFaceNewKey: "another key; the look-up by document answers the newest", DuplicateFaceSameKey: "the key there is",
		DuplicateFaceRefused: "409 \"Duplicated registration\"",
	}[s.config.DuplicateFace]
	add(OpRegisterFace, "the document has a face already", then, "ours: not documented (dossier D.6)")
}
