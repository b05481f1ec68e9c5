package qitech

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const (
	opRegisterFace        = Name + ".register_face"
	opFetchFace           = Name + ".fetch_face"
	opFetchFaceByDocument = Name + ".fetch_face_by_document"

	faceCollection = "/face_recognition/registration"
)

// wireFaceRequest holds revealed personal data, as naturalPerson does. Exactly one of the two pictures is set.
type wireFaceRequest struct {
	DocumentNumber string `json:"document_number"`
	ImageKey       string `json:"image_key,omitempty"`
	Image          string `json:"image,omitempty"` // bare base64, no data: prefix (dossier A.2 row 9)
}

// faceAnswer is what all three endpoints answer. Document and status are in the older shape only (dossier A.7).
type faceAnswer struct {
	RegistrationKey lenient `json:"registration_key"`
	DocumentNumber  lenient `json:"document_number"`
	Status          lenient `json:"status"`
}

// statusFraud is the one status that says no. authentic, undefined, indeterminate, words we do not know and none at all are a
// yes: what is asked for is the registration, its key is the answer, and the current API says nothing else.
const statusFraud = "fraud"

// registerFace registers a face (dossier A.2 row 11). QI Tech has no idempotency key for it: who repeats it
// has two.
func (q *qitech) registerFace(ctx context.Context, r kyc.FaceRequest) (kyc.FaceReference, error) {
	body := wireFaceRequest{DocumentNumber: q.document(r.Document), ImageKey: string(orEmpty(r.ImageKey))}
	if r.Image != nil {
		body.Image = r.Image.RevealBase64()
	}
	resp, err := q.faces.Do(ctx, httpjson.Request{Op: opRegisterFace, Method: http.MethodPost, Path: faceCollection, Body: body})
	if err != nil {
		return kyc.FaceReference{}, faceError(resp, err, r.Image != nil)
	}
	face, err := readFace(opRegisterFace, resp, r.Document)
	switch {
	case err != nil:
		return kyc.FaceReference{}, err
	case face.Fraud:
		return kyc.FaceReference{}, &kyc.Error{Kind: kyc.Rejected, Op: opRegisterFace, Code: statusFraud, Path: picturePath(r.Image != nil), Err: errRefused}
	}
	return face, nil
}

// picturePath is the input a picture came by.
func picturePath(withImage bool) []string {
	if withImage {
		return []string{"input", "image"}
	}
	return []string{"input", "imageKey"}
}

// fetchFace reads a face by its key (row 12).
func (q *qitech) fetchFace(ctx context.Context, key string) (kyc.FaceReference, error) {
	resp, err := q.faces.Do(ctx, httpjson.Request{Op: opFetchFace, Method: http.MethodGet, Path: faceCollection + "/" + url.PathEscape(key)})
	if err != nil {
		return kyc.FaceReference{}, err
	}
	face, err := readFace(opFetchFace, resp, kyc.DocumentNumber{})
	if err == nil && !strings.EqualFold(face.Key, key) {
		return kyc.FaceReference{}, httpjson.BadAnswer(opFetchFace) // about another face than the one asked for
	}
	return face, err
}

// fetchFaceByDocument reads the face of a document (row 13). Which one, where there are several, is not
// documented (dossier D 6): we take it for the newest.
func (q *qitech) fetchFaceByDocument(ctx context.Context, document kyc.DocumentNumber) (kyc.FaceReference, error) {
	resp, err := q.faces.Do(ctx, httpjson.Request{
		Op: opFetchFaceByDocument, Method: http.MethodGet, Path: faceCollection + "/document_number/" + url.PathEscape(q.document(document)),
	})
	if err != nil {
		return kyc.FaceReference{}, err
	}
	return readFace(opFetchFaceByDocument, resp, document)
}

func (q *qitech) document(d kyc.DocumentNumber) string {
	if q.faceDocument == DocumentBare {
		return d.Reveal()
	}
	return maskCPF(d.Reveal())
}

// readFace reads an answer. A key is a GUID (dossier A.3); another code passes, prose does not. An answer
// about another document than the one asked for is none.
func readFace(op string, resp httpjson.Response, asked kyc.DocumentNumber) (kyc.FaceReference, error) {
	var a faceAnswer
	if err := httpjson.Decode(op, resp, &a); err != nil {
		return kyc.FaceReference{}, err
	}
	key, fraud := string(a.RegistrationKey), strings.EqualFold(strings.TrimSpace(string(a.Status)), statusFraud)
	refused := fraud && op == opRegisterFace // which needs no key
	if key == "" && !refused || kyc.CodeLike(key) != key {
		return kyc.FaceReference{}, httpjson.BadAnswer(op)
	}
	face := kyc.FaceReference{Key: key, Document: asked, Fraud: fraud}
	if told, ok := kyc.ParseCPF(string(a.DocumentNumber), false); ok {
		if !asked.Empty() && told.Reveal() != asked.Reveal() {
			return kyc.FaceReference{}, httpjson.BadAnswer(op)
		}
		face.Document = told
	}
	return face, nil
}

// faceError judges what httpjson leaves to us (dossier A.8). "Key not found" is 404 in the general table: of a
// registration that can only be the picture's key.
func faceError(resp httpjson.Response, err error, withImage bool) error {
	switch resp.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotFound:
	default:
		return err
	}
	if kyc.KindOf(err) == kyc.Ambiguous { // the body did not come through
		return err
	}
	picture := picturePath(withImage)
	var r refusal
	switch {
	case json.Unmarshal(resp.Body, &r) != nil || r.Title == "":
		return internal(opRegisterFace, resp.Status)
	case resp.Status == http.StatusNotFound && withImage:
		return internal(opRegisterFace, resp.Status)
	case resp.Status == http.StatusNotFound:
		return &kyc.Error{Kind: kyc.Rejected, Op: opRegisterFace, Code: "image_key_not_found", Path: picture, Err: errRefused}
	case strings.EqualFold(string(r.Title), "image_quality"):
		e := &kyc.Error{Kind: kyc.Rejected, Op: opRegisterFace, Code: "image_quality", Path: picture, Err: errRefused}
		// Their own word, unlike in an analysis: it is what the caller's front end looks up in their documents.
		if status := string(r.ImageStatus); imageStatuses[status] != "" {
			e.Code += "." + status
		}
		return e
	}
	refused := rejection(opRegisterFace, resp.Status, r)
	if refused.Kind == kyc.Rejected {
		refused.Path = refusedFaceInput(string(r.Title)+" "+string(r.Description), picture)
	}
	return refused
}

// refusedFaceInput finds which input a text is about, the document first, as refusedInput does.
func refusedFaceInput(text string, picture []string) []string {
	for _, w := range strings.FieldsFunc(strings.ToLower(text), notOfAName) {
		switch w {
		case "document_number", "cpf":
			return []string{"input", "documentNumber"}
		case "image", "image_key", "face":
			return picture
		}
	}
	return []string{"input"}
}
