package unico

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// wireProcess maps a request to the body of a creation (dossier 4.1 to 4.3).
func wireProcess(r kyc.ProcessRequest) process {
	s := r.Subject
	w := process{
		Subject: subject{
			Code: s.DocumentNumber.Reveal(), // digits only
			// Not two blanks after each other (4.1, first generation).
			Name: strings.Join(strings.Fields(s.Name.Reveal()), " "),
			// Digits only, country code first (11, row 24).
			Email: s.Email.Reveal(), Phone: strings.TrimPrefix(s.Phone.Reveal(), "+"),
		},
		UseCase: r.UseCase,
	}
	switch {
	case r.Capture.SDKToken != nil:
		w.ImageBase64 = r.Capture.SDKToken.Reveal()
	case r.Capture.Image != nil:
		w.ImageBase64 = r.Capture.Image.RevealBase64()
	}
	if r.Kind != kyc.KindDocumentCapture {
		w.ReferenceProcessID = r.ReferenceProcessID
		return w
	}
	w.Subject.DuiType = "DUI_TYPE_BR_CPF" // required by the newest generation, unknown to the others (4.1)
	w.Document = &document{
		Purpose: purposes[s.Purpose], AuthProcessID: r.ReferenceProcessID, DocumentID: s.ReusableDocumentID,
	}
	for _, f := range r.Capture.Files {
		w.Document.Files = append(w.Document.Files, file{Data: f.RevealBase64()})
	}
	return w
}

var purposes = map[kyc.DocumentPurpose]string{
	kyc.PurposeCreditProcess: "creditprocess",
	kyc.PurposeCarPurchase:   "carpurchase",
	kyc.PurposePayByPaycheck: "paybypaycheck",
	kyc.PurposeOnboarding:    "onboarding",
	kyc.PurposeFGTS:          "fgts",
}

// statuses are the five of dossier 5.1. Anything else is unknown and keeps the process open.
var statuses = map[int]kyc.ProcessStatus{
	1: kyc.ProcessProcessing,
	2: kyc.ProcessDivergent,
	3: kyc.ProcessCompleted,
	4: kyc.ProcessCanceled,
	5: kyc.ProcessFailed,
}

// readVerdict reads an answer to either call. Without an id, or about another process than the one asked for,
// it is no answer: nobody is approved by somebody else's verdict. With an id and no status it was taken, and
// where it stands is unknown.
func readVerdict(op string, kind kyc.ProcessKind, asked string, resp httpjson.Response, now time.Time) (kyc.ProcessVerdict, error) {
	var a processAnswer
	if err := httpjson.Decode(op, resp, &a); err != nil {
		return kyc.ProcessVerdict{}, err
	}
	id := string(a.ID)
	if id == "" || kyc.CodeLike(id) != id || asked != "" && !strings.EqualFold(id, asked) {
		return kyc.ProcessVerdict{}, httpjson.BadAnswer(op)
	}
	if asked != "" {
		id = asked
	}
	v := kyc.ProcessVerdict{ProviderProcessID: id, Status: kyc.ProcessProcessing}
	switch {
	case a.Status.ok:
		if status, known := statuses[a.Status.value]; known {
			v.Status, v.Known = status, true
		}
	case a.Status.given: // a word where a number belongs: unknown
	case kind == kyc.KindFaceValidation && (a.Authed.ok || a.Biometry.Result.ok):
		// The second generation's 1:1 answers at once and lists no status (dossier 5).
		v.Status, v.Known = kyc.ProcessCompleted, true
	}
	if v.Status == kyc.ProcessCompleted {
		v.Result = a.result(now)
		v.Unclear = a.unclear(v.Result)
	}
	return v, nil
}

// matched is the answer of a 1:1 in either form (dossier 11, row 6). Two that do not agree are none.
func (a *processAnswer) matched() truth {
	first, second := a.Authed, a.Biometry.Result
	switch {
	case !second.given:
		return first
	case !first.given, first == second:
		return second
	default:
		return truth{given: true}
	}
}

// result maps what a finished process found. A value outside of what is documented is dropped, so that nothing is
// concluded from it, or unknown where its absence would speak for the person. kyc decides what of the rest this
// process may show.
func (a *processAnswer) result(now time.Time) *kyc.ProcessResult {
	r := &kyc.ProcessResult{
		Liveness:       mapped(liveness, a.Liveness.value),
		Identity:       a.identity(),
		FraudProfile:   meant(a.Fraud, frauds, kyc.FraudUnknown),
		Decision:       meant(a.Decision, decisions, kyc.DecisionUnknown),
		Authenticated:  a.matched().pointer(),
		PersonName:     wrapped(a.More.PersonName, kyc.NewName),
		PersonDocument: wrapped(a.More.PersonDocument, kyc.NewDocumentNumber),
		PersonImageURL: wrapped(a.More.PersonImage, kyc.NewPersonalText),
	}
	if s := a.Score; s.ok && s.value >= -100 && s.value <= 100 {
		r.RiskScore = &s.value
	}
	if s := a.Gov.Serpro; s.ok && s.value >= -2 && s.value <= 100 { // -1 and -2 are signals (dossier 5)
		r.GovernmentSimilarity = &s.value
	}
	if id := kyc.CodeLike(string(a.More.TransactionID)); id != "" && id != "unknown" {
		r.TransactionID = &id
	}
	r.Document = a.Document.document(now)
	return r
}

var (
	liveness   = map[int]kyc.Liveness{1: kyc.LivenessLive, 2: kyc.LivenessNotLive}
	identities = map[string]kyc.IdentityMatch{"yes": kyc.IdentityYes, "no": kyc.IdentityNo, "inconclusive": kyc.IdentityInconclusive}
	// frauds are the words of the behaviour alert; the second generation's table says "sim" (dossier 11, row 4). No word means clear.
	frauds = map[string]kyc.FraudProfile{"yes": kyc.FraudYes, "sim": kyc.FraudYes, "inconclusive": kyc.FraudInconclusive}
	// decisions are the words of idCloud in both vocabularies (dossier 11, row 29).
	decisions = map[string]kyc.Decision{
		"approved": kyc.DecisionApproved, "denied": kyc.DecisionDenied, "reproved": kyc.DecisionDenied,
		"critical-risk": kyc.DecisionDenied, "risk-critical": kyc.DecisionDenied, "high-risk": kyc.DecisionDenied, "risk-high": kyc.DecisionDenied,
		"inconclusive": kyc.DecisionInconclusive, "retry": kyc.DecisionInconclusive,
	}
)

// identity is a word in its object: no page shows it bare, so a bare one is not understood.
func (a *processAnswer) identity() *kyc.IdentityMatch {
	if a.Unico.bare {
		return nil
	}
	return mapped(identities, a.Unico.word)
}

// meant is what a word means, and unknown when there is something else: nobody may read that as clear.
func meant[V any](s said, words map[string]V, unknown V) *V {
	if v := mapped(words, s.word); v != nil || !s.given {
		return v
	}
	return &unknown
}

// unclear reports whether something was said that has no meaning here; the operator is told by a metric.
func (a *processAnswer) unclear(r *kyc.ProcessResult) bool {
	matched := a.matched()
	return a.Unico.given && r.Identity == nil || a.Liveness.given && r.Liveness == nil || matched.given && !matched.ok ||
		r.FraudProfile != nil && *r.FraudProfile == kyc.FraudUnknown || r.Decision != nil && *r.Decision == kyc.DecisionUnknown ||
		r.Document != nil && r.Document.FaceMatchUnknown
}

func mapped[K comparable, V any](m map[K]V, k K) *V {
	if v, ok := m[k]; ok {
		return &v
	}
	return nil
}

func wrapped[T any](s lenient, wrap func(string) T) *T {
	if s == "" {
		return nil
	}
	return new(wrap(string(s)))
}

// fileURLsLast is how long a signed URL works (dossier 8.2).
const fileURLsLast = 10 * time.Minute

func (d documentAnswer) document(now time.Time) *kyc.CapturedDocument {
	id := kyc.CodeLike(string(d.ID))
	if id == "" {
		return nil
	}
	out := &kyc.CapturedDocument{ID: id, CpfMatch: d.CpfMatch.pointer(), FaceMatch: d.FaceMatch.pointer(), FaceMatchUnknown: d.FaceMatch.given && !d.FaceMatch.ok}
	if t := kyc.CodeLike(string(d.Type)); t != "" {
		out.Type = &t
	}
	if len(d.Content) > 0 {
		out.Content = new(kyc.NewPersonalJSON(d.Content))
	}
	for _, u := range d.FileURLs {
		out.FileUrls = append(out.FileUrls, kyc.NewPersonalText(u))
	}
	if len(out.FileUrls) > 0 {
		out.FileUrlsExpireAt = new(now.UTC().Add(fileURLsLast))
	}
	return out
}

// readDocuments skips what has no id: "none" is an empty list in one generation and one empty object in
// another (dossier 8.1).
func readDocuments(resp httpjson.Response) ([]kyc.ReusableDocument, error) {
	list := resp.Body
	if body := bytes.TrimSpace(list); !bytes.HasPrefix(body, []byte("[")) {
		var a documentsAnswer
		if err := httpjson.Decode(opReusableDocuments, resp, &a); err != nil {
			return nil, err
		}
		list = a.Items
	}
	var items []reusableItem
	if len(list) == 0 || json.Unmarshal(list, &items) != nil {
		return nil, httpjson.BadAnswer(opReusableDocuments)
	}
	out := []kyc.ReusableDocument{}
	for _, item := range items {
		id := kyc.CodeLike(string(item.DocumentID))
		if id != "" && id != "unknown" {
			out = append(out, kyc.ReusableDocument{DocumentID: id, DocumentType: kyc.CodeLike(string(item.DocumentType))})
		}
	}
	return out, nil
}

// meaning is what an error number means for us.
type meaning struct {
	kind    kyc.Kind
	code    kyc.UserErrorCode // of a refusal; "" is PROVIDER_REJECTED
	path    path
	message string
}

// path names the input a refusal is about. Where it stands depends on the kind of process.
type path int

const (
	nowhere path = iota
	capture
	documentNumber
	name
	birthdate // we send none, so it is the provider's record that is wrong
)

// codes are the numbers of dossier 7.2 to 7.4 that are told apart: what the partner can mend is a refusal,
// what the operator must mend is Credentials, what only we can mend is Internal.
var codes = map[string]meaning{
	"20900": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider could not read it as an image: take it again as a JPEG or PNG"},
	"20807": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider found it too small: it must have at least 640 x 480 pixels"},
	"20506": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider found it too large: send at most 800 KB"},
	"20505": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider does not take this format: send a JPEG or PNG in colour"},
	"20009": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider wants a selfie for this"},
	"10506": {kyc.Rejected, kyc.CodeImageRejected, capture, "the provider takes only what its SDK captured for this app: send sdkToken"},
	"10508": {kyc.Rejected, kyc.CodeNeedsNewCapture, capture, "this capture was used already: take a new one"},
	"10507": {kyc.Rejected, kyc.CodeNeedsNewCapture, capture, "this capture is older than ten minutes: take a new one"},
	"20507": {kyc.Rejected, "", documentNumber, "the provider does not know this document number"},
	"20006": {kyc.Rejected, "", name, "the provider wants the person's name"},
	"20005": {kyc.Rejected, "", documentNumber, "the provider wants the document number"},
	"20508": {kyc.Rejected, "", nowhere, ""},
	"20019": {kyc.Rejected, "", birthdate, ""},
	"20048": {kyc.Rejected, "", birthdate, "the provider takes nobody below 15 years"},
	"20047": {kyc.Rejected, "", birthdate, ""},

	"20004": {kind: kyc.Internal}, "20003": {kind: kyc.Internal}, "20023": {kind: kyc.Internal}, "20811": {kind: kyc.Internal},

	"20002": {kind: kyc.Credentials}, "20001": {kind: kyc.Credentials}, "30017": {kind: kyc.Credentials},
	"10502": {kind: kyc.Credentials}, "10501": {kind: kyc.Credentials}, "10201": {kind: kyc.Credentials},
	"60001": {kind: kyc.Credentials}, // our account has no branch

	// Another check of the same person is under way there: nothing was taken, and later it may be.
	"50002": {kind: kyc.Unavailable}, "40009": {kind: kyc.Unavailable},

	"50001": {kind: kyc.NotFound},

	"99999": {kind: kyc.Ambiguous}, "510": {kind: kyc.Ambiguous}, "10700": {kind: kyc.Ambiguous}, "20502": {kind: kyc.Ambiguous}, "20503": {kind: kyc.Ambiguous},
}

// tokenRefused reports whether a new token may help: the numbers of a bad token, and a 401 without one. A creation
// is sent again only after a status that says it was not taken: any other is ambiguous whatever its body says.
func tokenRefused(method string, resp httpjson.Response) bool {
	switch resp.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden: // the documented ones (dossier 11, row 12)
	default:
		if method != http.MethodGet {
			return false
		}
	}
	switch errorNumber(resp) {
	case "10501", "10502", "30017", "20001":
		return true
	case "10201", "20002": // it is the APIKEY that is refused
		return false
	}
	return resp.Status == http.StatusUnauthorized
}

func errorNumber(resp httpjson.Response) string {
	var r refusal
	if json.Unmarshal(resp.Body, &r) != nil {
		return ""
	}
	code := kyc.CodeLike(strings.TrimSpace(string(r.Error.Code)))
	if strings.Trim(code, "0123456789") != "" {
		return ""
	}
	return code
}

// judged is the error of a status under its number, if that is one we know: the number counts first and the
// status second (dossier 11, row 12).
func judged(op string, resp httpjson.Response, err error) (*kyc.Error, meaning, bool) {
	var e *kyc.Error
	if !errors.As(err, &e) {
		return &kyc.Error{Kind: kyc.KindOf(err), Op: op, Err: err}, meaning{}, false
	}
	out := *e
	out.Op = op
	switch {
	case resp.Status < 400, resp.Status == http.StatusRequestTimeout, resp.Status == http.StatusTooManyRequests, resp.Status == http.StatusServiceUnavailable:
		return &out, meaning{}, false // no answer, or one that says "later" whatever its body says
	}
	number := errorNumber(resp)
	m, known := codes[number]
	if number != "" && number != "0000" {
		out.Code = number
	}
	if known && (resp.Status < 500 || m.kind == kyc.Ambiguous) {
		out.Kind = m.kind
		return &out, m, true
	}
	return &out, meaning{}, false
}

// createError says what became of a creation that was answered with an error, or not at all.
func createError(r kyc.ProcessRequest, resp httpjson.Response, err error) error {
	e, m, known := judged(opCreateProcess, resp, err)
	switch {
	case known && m.kind == kyc.NotFound, !known && e.Kind == kyc.Conflict:
		// What is not there, or not in the right state, is what this process refers to (dossier 7.6).
		e.Kind, e.Path = kyc.Rejected, referencePath(r)
		e.Message = "the provider does not take the process this one refers to"
	case known && m.kind == kyc.Rejected:
		e.Path, e.UserCode, e.Message = m.path.of(r), m.code, m.message
		if e.Code == "10506" && r.Capture.SDKToken != nil {
			e.UserCode, e.Message = kyc.CodeNeedsNewCapture, "the provider does not take this capture: take a new one with its SDK in this app"
		}
	case known:
	case resp.Status == http.StatusNotFound: // of a collection: the path is wrong, which is our mistake
		e.Kind = kyc.Internal
	case resp.Status == http.StatusBadRequest || resp.Status == http.StatusUnprocessableEntity:
		// An explicit refusal under a number nobody documents: the partner sees the number.
		if e.Kind == kyc.Internal && errorNumber(resp) != "" {
			e.Kind, e.Path = kyc.Rejected, []string{"input"}
		}
	}
	return e
}

// readError is the same for the reads, which refuse nobody's data.
func readError(op string, resp httpjson.Response, err error) error {
	e, m, known := judged(op, resp, err)
	if known && m.kind == kyc.Rejected {
		if op == opReusableDocuments && m.path == documentNumber {
			e.Path = []string{"documentNumber"}
			return e
		}
		e.Kind = kyc.Internal
	}
	return e
}

func referencePath(r kyc.ProcessRequest) []string {
	switch {
	case r.Kind == kyc.KindDocumentCapture && r.ReferenceProcessID == "" && r.Subject.ReusableDocumentID != "":
		return []string{"input", "reusableDocumentId"}
	case r.Kind == kyc.KindDocumentCapture:
		return []string{"input", "authProcessId"}
	case r.Kind == kyc.KindFaceValidation:
		return []string{"input", "referenceProcessId"}
	default:
		return []string{"input"}
	}
}

func (p path) of(r kyc.ProcessRequest) []string {
	switch p {
	case documentNumber:
		return []string{"input", "subject", "documentNumber"}
	case name:
		return []string{"input", "subject", "name"}
	case capture:
		switch {
		case r.Capture.SDKToken != nil:
			return []string{"input", "selfie", "sdkToken"}
		case len(r.Capture.Files) > 0:
			return []string{"input", "files"}
		case r.Capture.Image != nil:
			return []string{"input", "selfie", "image"}
		}
		return []string{"input", "selfie"}
	default:
		return []string{"input"}
	}
}
