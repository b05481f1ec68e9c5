package unico

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const (
	opCreateProcess     = Name + ".create_process"
	opFetchProcess      = Name + ".fetch_process"
	opReusableDocuments = Name + ".reusable_documents"
)

// createProcess makes one process (dossier 4). Repeating it would make, and bill, another one.
func (u *unico) createProcess(ctx context.Context, r kyc.ProcessRequest) (kyc.ProcessVerdict, error) {
	key := u.choose(r.Kind, r.Capabilities)
	if key == nil {
		return kyc.ProcessVerdict{}, &kyc.Error{Kind: kyc.Credentials, Op: opCreateProcess, Code: "no_api_key", Err: errNoKey}
	}
	resp, err := u.do(ctx, key, httpjson.Request{Op: opCreateProcess, Method: http.MethodPost, Path: "/processes/v1", Body: wireProcess(r)})
	if err != nil {
		return kyc.ProcessVerdict{}, createError(r, resp, err)
	}
	return readVerdict(opCreateProcess, r.Kind, "", resp, u.now())
}

// fetchProcess reads a process (dossier 6). 410 says that it ended in an error (11, row 15).
func (u *unico) fetchProcess(ctx context.Context, r kyc.ProcessReference) (kyc.ProcessVerdict, error) {
	key := u.keyOf(r.Kind, r.Capabilities)
	resp, err := u.do(ctx, key, httpjson.Request{Op: opFetchProcess, Method: http.MethodGet, Path: "/processes/v1/" + url.PathEscape(r.ProviderProcessID)})
	if resp.Status == http.StatusGone {
		return kyc.ProcessVerdict{ProviderProcessID: r.ProviderProcessID, Status: kyc.ProcessFailed, Known: true, Failure: kyc.FailureProviderError}, nil
	}
	if err != nil {
		return kyc.ProcessVerdict{}, readError(opFetchProcess, resp, err)
	}
	return readVerdict(opFetchProcess, r.Kind, r.ProviderProcessID, resp, u.now())
}

// reusableDocuments lists what Unico has of a person (dossier 8.1). Without a type the second generation's
// value is sent, the only one that stands for all; the newest lists four others (11, row 22).
func (u *unico) reusableDocuments(ctx context.Context, r kyc.ReusableDocumentsRequest) ([]kyc.ReusableDocument, error) {
	kind := r.Type
	if kind == "" {
		kind = kyc.ReusableCPF
	}
	resp, err := u.do(ctx, u.documentKey(), httpjson.Request{
		Op: opReusableDocuments, Method: http.MethodGet, Path: "/documents/v1",
		Query: url.Values{"code": {r.DocumentNumber.Reveal()}, "type": {string(kind)}},
	})
	if err != nil {
		err = readError(opReusableDocuments, resp, err)
		if kyc.KindOf(err) == kyc.NotFound { // unknown, or not this tenant's: nothing to reuse (dossier 7.6)
			return []kyc.ReusableDocument{}, nil
		}
		return nil, err
	}
	return readDocuments(resp)
}

// do makes one call with a token and, when Unico refuses the token, once more with a new one: a call that was
// refused at the door was not taken (dossier 10).
func (u *unico) do(ctx context.Context, key *APIKey, r httpjson.Request) (httpjson.Response, error) {
	for attempt := 1; ; attempt++ {
		token, err := u.tokens.get(ctx)
		if err != nil {
			return httpjson.Response{}, underOp(r.Op, err)
		}
		client := u.http
		client.Header = func(h http.Header) {
			h.Set("Authorization", "Bearer "+token)
			h["APIKEY"] = []string{key.Key()} // as every generation spells it
		}
		resp, err := client.Do(ctx, r)
		if err == nil || attempt > 1 || !tokenRefused(r.Method, resp) {
			return resp, err
		}
		u.tokens.forget(token)
	}
}

// underOp says which operation an error of the token source kept from leaving.
func underOp(op string, err error) error {
	var e *kyc.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	out.Op, out.Err = op, err
	return &out
}

var errNoKey = errors.New("no key of api_keys offers these capabilities any more")

// The wire structs hold revealed personal data. They live as long as one call and are handed to nothing
// that prints.

// process is the body of a creation (dossier 4.1). What is optional and unknown is left out.
type process struct {
	Subject            subject   `json:"subject"`
	UseCase            string    `json:"useCase,omitempty"`
	ImageBase64        string    `json:"imageBase64,omitempty"`
	ReferenceProcessID string    `json:"referenceProcessId,omitempty"`
	Document           *document `json:"document,omitempty"`
}

type subject struct {
	Code    string `json:"code"`
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Phone   string `json:"phone,omitempty"`
	DuiType string `json:"duiType,omitempty"`
}

type document struct {
	Purpose       string `json:"purpose"`
	AuthProcessID string `json:"authProcessId,omitempty"`
	DocumentID    string `json:"documentId,omitempty"`
	Files         []file `json:"files,omitempty"`
}

type file struct {
	Data string `json:"data"`
}

// processAnswer is what both endpoints answer, as far as we read it (dossier 5). encoding/json matches names
// in any case, which is what the oldest generation needs (11, row 10).
type processAnswer struct {
	ID       lenient        `json:"id"`
	Status   number         `json:"status"`
	Liveness number         `json:"liveness"`
	Unico    said           `json:"unicoId"`
	Fraud    said           `json:"identityFraudsters"`
	Decision said           `json:"idCloud"`
	Score    number         `json:"score"`
	Gov      government     `json:"government"`
	Authed   truth          `json:"authenticated"` // a 1:1, second generation
	Biometry biometry       `json:"biometryToken"` // a 1:1, third generation
	Document documentAnswer `json:"document"`
	More     additional     `json:"processAdditionalInfo"`
}

type government struct {
	Serpro number `json:"serpro"`
}

type biometry struct {
	Result truth `json:"result"`
}

type documentAnswer struct {
	ID        lenient `json:"id"`
	Type      lenient `json:"type"`
	CpfMatch  truth   `json:"cpfMatch"`
	FaceMatch truth   `json:"faceMatch"`
	Content   raw     `json:"content"`
	FileURLs  texts   `json:"fileUrls"`
}

type additional struct {
	TransactionID  lenient `json:"transactionId"`
	PersonName     lenient `json:"personName"`
	PersonDocument lenient `json:"personDocument"`
	PersonImage    lenient `json:"personImage"`
}

// documentsAnswer is the object of the third generation; the newest answers with the list alone (dossier 8.1).
type documentsAnswer struct {
	Items json.RawMessage `json:"items"` // null is none, absent is no answer
}

type reusableItem struct {
	DocumentType lenient `json:"documentType"`
	DocumentID   lenient `json:"documentId"`
}

// refusal is the body of an error in all its variants (dossier 7.1).
type refusal struct {
	Error struct {
		Code lenient `json:"code"`
	} `json:"error"`
}
