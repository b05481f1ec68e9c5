package unico_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
	"github.com/kycgate/kycgate/providers/providertest"
	"github.com/kycgate/kycgate/providers/unico"
)

const (
	apiKey    = "apikey-1234567890-liveness"
	processID = "80371b2a-3ac7-432e-866d-57fe37896ac6"
)

func ptr[T any](v T) *T { return &v }

func secret(s string) func() string { return func() string { return s } }

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// selfie is a photograph of the smallest size Unico takes.
var selfie = sync.OnceValue(func() kyc.Image { return picture(640, 480) })

func picture(width, height int) kyc.Image {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, height)), nil); err != nil {
		panic(err)
	}
	i, refusal := kyc.NewBase64(base64.StdEncoding.EncodeToString(b.Bytes())).Image(kyc.ImageLimits{})
	if refusal != nil {
		panic(refusal.Message)
	}
	return i
}

// tokenHost answers every assertion with a token.
func tokenHost(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"token-1","token_type":"Bearer","expires_in":"3600"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/oauth2/token"
}

func config(base, tokenURL string) unico.Config {
	return unico.Config{
		BaseURL: base, TokenURL: tokenURL, Audience: "https://identity.example.test", ServiceAccount: "acme", TenantID: "t-1", PrivateKey: testKey(),
		WebhookAuth: secret("X-Hook: hook-secret"), Version: "1.2.3",
		APIKeys: []unico.APIKey{
			{Key: secret(apiKey), Capabilities: []kyc.Capability{kyc.CapLiveness}},
			{Key: secret("k-identity"), Capabilities: []kyc.Capability{kyc.CapLiveness, kyc.CapIdentityVerification, kyc.CapFraudProfile, kyc.CapRiskScore}},
			{Key: secret("k-one-to-one"), Capabilities: []kyc.Capability{kyc.CapLiveness, kyc.CapFaceValidation}},
			{Key: secret("k-document"), Capabilities: []kyc.Capability{kyc.CapDocumentCapture}},
		},
	}
}

func newProvider(t testing.TB, c unico.Config) kyc.Provider {
	t.Helper()
	p, err := unico.New(c, httpjson.NewHTTPClient())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func request(kind kyc.ProcessKind) kyc.ProcessRequest {
	image := selfie()
	r := kyc.ProcessRequest{
		ID: "prc_01JQ0000000000000000000000", Kind: kind, Capabilities: []kyc.Capability{kyc.CapLiveness},
		Subject: kyc.ProcessSubject{DocumentNumber: kyc.NewDocumentNumber("52998224725"), Name: kyc.NewName("Ana  Exemplo"), Email: kyc.NewEmailAddress("ana@example.com"), Phone: kyc.NewPhoneNumber("+5511987654321")},
		Capture: kyc.Capture{Image: &image},
	}
	switch kind {
	case kyc.KindIdentityVerification:
		r.Capabilities = []kyc.Capability{kyc.CapLiveness, kyc.CapIdentityVerification, kyc.CapFraudProfile, kyc.CapRiskScore}
		r.UseCase = "Onboarding"
	case kyc.KindFaceValidation:
		r.Capabilities, r.ReferenceProcessID = []kyc.Capability{kyc.CapLiveness, kyc.CapFaceValidation}, processID
	case kyc.KindDocumentCapture:
		r.Capabilities, r.ReferenceProcessID = []kyc.Capability{kyc.CapDocumentCapture}, processID
		r.Subject.Purpose, r.Capture = kyc.PurposeCreditProcess, kyc.Capture{Files: []kyc.Image{selfie(), selfie()}}
	case kyc.KindLiveness:
	}
	return r
}

func TestConformance(t *testing.T) {
	t.Parallel()
	answer := `{"id":"` + processID + `","status":3,"unicoId":{"result":"inconclusive"},"identityFraudsters":{"result":"inconclusive"},"liveness":1,"score":28,` +
		`"processAdditionalInfo":{"transactionId":"6f9619ff-8b86-4011-b42d-00cf4fc964ff","personName":"x","personDocument":"y","personImage":"z"},` +
		`"document":{"id":"b97c3fd9-8b86-4011-b42d-00cf4fc964ff","type":"unico.moja.dictionary.br.rg.v2.Rg","fileUrls":["https://a.test"]}}`
	unknown := `{"id":"` + processID + `","status":9,"liveness":1}`
	createKinds := map[int]kyc.Kind{404: kyc.Internal, 409: kyc.Rejected}
	providertest.Run(t, providertest.Harness{
		New: func(t *testing.T, base string, client *http.Client) kyc.Provider {
			p, err := unico.New(config(base, tokenHost(t)), client)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Canaries: []string{apiKey, "52998224725", "ana@example.com", "Ana  Exemplo"},
		Operations: []providertest.Operation{
			{
				Slot: "CreateProcess",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.CreateProcess(ctx, request(kyc.KindLiveness))
				},
				Answer: answer, Unknown: unknown, Kinds: createKinds,
				Refusal:    providertest.Refusal{Status: 400, Body: `{"error":{"code":"20507","description":"O parâmetro subject.code é inválido."}}`},
				Unreadable: []string{`{"status":3,"liveness":1}`, `{"id":null,"status":3}`},
			},
			{
				Slot: "FetchProcess",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.FetchProcess(ctx, kyc.ProcessReference{ProviderProcessID: processID, Kind: kyc.KindLiveness})
				},
				Answer: answer, Unknown: unknown,
				Answered:   []int{410},
				Unreadable: []string{`{"id":"00000000-3ac7-432e-866d-57fe37896ac6","status":3,"liveness":1}`},
			},
			{
				Slot: "ReusableDocuments",
				Call: func(ctx context.Context, p kyc.Provider) (any, error) {
					return p.ReusableDocuments(ctx, kyc.ReusableDocumentsRequest{DocumentNumber: kyc.NewDocumentNumber("52998224725")})
				},
				Answer:   `{"items":[{"documentType":"unico.moja.dictionary.br.rg.v2.Rg","documentId":"2aaf6037-0153-415d-b9fe-cf7e8198408f"}]}`,
				Refusal:  providertest.Refusal{},
				Answered: []int{404},
				Readable: []string{"[]"},
			},
		},
	})
}

// served runs a provider against one body.
func served(t *testing.T, status int, body string) kyc.Provider {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return newProvider(t, config(server.URL, tokenHost(t)))
}

func show(r *kyc.ProcessResult) string {
	if r == nil {
		return "none"
	}
	b, err := json.Marshal(struct {
		L *kyc.Liveness      `json:",omitempty"`
		I *kyc.IdentityMatch `json:",omitempty"`
		F *kyc.FraudProfile  `json:",omitempty"`
		S *int               `json:",omitempty"`
		A *bool              `json:",omitempty"`
		G *int               `json:",omitempty"`
		D *kyc.Decision      `json:",omitempty"`
	}{r.Liveness, r.Identity, r.FraudProfile, r.RiskScore, r.Authenticated, r.GovernmentSimilarity, r.Decision})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Every form of an answer that any generation documents (dossier 5, 11).
func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind   kyc.ProcessKind
		body   string
		status kyc.ProcessStatus
		known  bool
		result string
	}{
		"01 live":                     {kyc.KindLiveness, `"status":3,"liveness":1`, kyc.ProcessCompleted, true, `{"L":"LIVE"}`},
		"01 not live, all text":       {kyc.KindLiveness, `"status":"3","liveness":"2"`, kyc.ProcessCompleted, true, `{"L":"NOT_LIVE"}`},
		"02 yes":                      {kyc.KindIdentityVerification, `"status":3,"unicoId":{"result":"yes"}`, kyc.ProcessCompleted, true, `{"I":"YES"}`},
		"02 no":                       {kyc.KindIdentityVerification, `"status":3,"unicoId":{"result":"no"}`, kyc.ProcessCompleted, true, `{"I":"NO"}`},
		"02 inconclusive":             {kyc.KindIdentityVerification, `"status":3,"unicoId":{"result":"inconclusive"},"liveness":1`, kyc.ProcessCompleted, true, `{"L":"LIVE","I":"INCONCLUSIVE"}`},
		"03 second generation":        {kyc.KindFaceValidation, `"authenticated":true,"liveness":1`, kyc.ProcessCompleted, true, `{"L":"LIVE","A":true}`},
		"03 second, no match":         {kyc.KindFaceValidation, `"authenticated":false,"liveness":1`, kyc.ProcessCompleted, true, `{"L":"LIVE","A":false}`},
		"03 as text":                  {kyc.KindFaceValidation, `"status":3,"authenticated":"true"`, kyc.ProcessCompleted, true, `{"A":true}`},
		"03 third generation":         {kyc.KindFaceValidation, `"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"yes"},"biometryToken":{"result":"true"},"liveness":1`, kyc.ProcessCompleted, true, `{"L":"LIVE","I":"YES","F":"YES","A":true}`},
		"03 third, no match":          {kyc.KindFaceValidation, `"status":3,"biometryToken":{"result":"false"}`, kyc.ProcessCompleted, true, `{"A":false}`},
		"04 sim":                      {kyc.KindIdentityVerification, `"status":3,"unicoId":{"result":"yes"},"identityFraudsters":{"result":"sim"}`, kyc.ProcessCompleted, true, `{"I":"YES","F":"YES"}`},
		"04 a word nobody knows":      {kyc.KindIdentityVerification, `"status":3,"identityFraudsters":{"result":"SUSPICIOUS"}`, kyc.ProcessCompleted, true, `{"F":"UNKNOWN"}`},
		"04 no":                       {kyc.KindIdentityVerification, `"status":3,"identityFraudsters":{"result":"no"}`, kyc.ProcessCompleted, true, `{"F":"UNKNOWN"}`},
		"05 score":                    {kyc.KindIdentityVerification, `"status":3,"unicoId":{"result":"inconclusive"},"liveness":1,"score":-65`, kyc.ProcessCompleted, true, `{"L":"LIVE","I":"INCONCLUSIVE","S":-65}`},
		"05 score nobody can have":    {kyc.KindIdentityVerification, `"status":3,"score":101`, kyc.ProcessCompleted, true, `{}`},
		"05 waiting":                  {kyc.KindIdentityVerification, `"status":1,"unicoId":{"result":"inconclusive"},"liveness":1`, kyc.ProcessProcessing, true, `none`},
		"05 divergence":               {kyc.KindIdentityVerification, `"status":2,"unicoId":{"result":"inconclusive"}`, kyc.ProcessDivergent, true, `none`},
		"07 third generation":         {kyc.KindIdentityVerification, `"status":1,"unicoId":{"result":"inconclusive"},"government":{"serpro":50}`, kyc.ProcessProcessing, true, `none`},
		"serpro":                      {kyc.KindIdentityVerification, `"status":3,"government":{"serpro":87}`, kyc.ProcessCompleted, true, `{"G":87}`},
		"serpro -1":                   {kyc.KindIdentityVerification, `"status":3,"government":{"serpro":-1}`, kyc.ProcessCompleted, true, `{"G":-1}`},
		"serpro -2":                   {kyc.KindIdentityVerification, `"status":3,"government":{"serpro":-2}`, kyc.ProcessCompleted, true, `{"G":-2}`},
		"serpro -3":                   {kyc.KindIdentityVerification, `"status":3,"government":{"serpro":-3}`, kyc.ProcessCompleted, true, `{}`},
		"canceled":                    {kyc.KindLiveness, `"status":4`, kyc.ProcessCanceled, true, `none`},
		"failed":                      {kyc.KindLiveness, `"status":5`, kyc.ProcessFailed, true, `none`},
		"status nobody knows":         {kyc.KindLiveness, `"status":6,"liveness":1`, kyc.ProcessProcessing, false, `none`},
		"no status":                   {kyc.KindLiveness, `"liveness":1`, kyc.ProcessProcessing, false, `none`},
		"status null":                 {kyc.KindLiveness, `"status":null,"liveness":1`, kyc.ProcessProcessing, false, `none`},
		"status as a word":            {kyc.KindLiveness, `"status":"FINISHED","liveness":1`, kyc.ProcessProcessing, false, `none`},
		"capitals":                    {kyc.KindIdentityVerification, `"Status":3,"Liveness":1,"UnicoId":{"Result":"yes"},"Score":28`, kyc.ProcessCompleted, true, `{"L":"LIVE","I":"YES","S":28}`},
		"objects where others expect": {kyc.KindIdentityVerification, `"status":3,"unicoId":"yes","government":87,"document":[],"processAdditionalInfo":null,"liveness":{"a":1}`, kyc.ProcessCompleted, true, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"id":"` + processID + `",` + tt.body + `}`
			p := served(t, 200, body)
			created, err := p.CreateProcess(t.Context(), request(tt.kind))
			if err != nil {
				t.Fatal(err)
			}
			fetched, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID, Kind: tt.kind})
			if err != nil {
				t.Fatal(err)
			}
			for how, v := range map[string]kyc.ProcessVerdict{"created": created, "fetched": fetched} {
				if v.ProviderProcessID != processID || v.Status != tt.status || v.Known != tt.known || show(v.Result) != tt.result {
					t.Errorf("%s: %s known %t %s", how, v.Status, v.Known, show(v.Result))
				}
			}
		})
	}
}

func TestDocumentAnswer(t *testing.T) {
	t.Parallel()
	p := served(t, 200, `{"id":"`+processID+`","status":3,"document":{"id":"b97c3fd9-8b86-4011-b42d-00cf4fc964ff","type":"unico.moja.dictionary.br.rg.v2.Rg",
		"cpfMatch":"true","faceMatch":false,"content":{"numero":"044589731564","filiacao":["A","B"]},"fileUrls":["https://u/1","https://u/2"]},
		"processAdditionalInfo":{"transactionId":"6f9619ff-8b86-4011-b42d-00cf4fc964ff","personName":"Ana","personDocument":"52998224725","personImage":"https://u/3"}}`)
	before := time.Now()
	v, err := p.CreateProcess(t.Context(), request(kyc.KindDocumentCapture))
	if err != nil {
		t.Fatal(err)
	}
	d, r := v.Result.Document, v.Result
	if d.ID != "b97c3fd9-8b86-4011-b42d-00cf4fc964ff" || *d.Type != "unico.moja.dictionary.br.rg.v2.Rg" || !*d.CpfMatch || *d.FaceMatch ||
		d.Content.Reveal() != `{"numero":"044589731564","filiacao":["A","B"]}` || len(d.FileUrls) != 2 || d.FileUrls[1].Reveal() != "https://u/2" {
		t.Errorf("%+v", d)
	}
	if in := d.FileUrlsExpireAt.Sub(before); in < 10*time.Minute || in > 11*time.Minute {
		t.Errorf("the URLs expire in %v", in)
	}
	if *r.TransactionID != "6f9619ff-8b86-4011-b42d-00cf4fc964ff" || r.PersonName.Reveal() != "Ana" || r.PersonDocument.Reveal() != "52998224725" || r.PersonImageURL.Reveal() != "https://u/3" {
		t.Errorf("%+v", r)
	}
}

// None, in every form it is documented in, is an empty list; what is no list at all is no answer (dossier 8.1).
func TestReusableDocuments(t *testing.T) {
	t.Parallel()
	one := `{"documentType":"unico.moja.dictionary.br.rg.v2.Rg","documentId":"2aaf6037-0153-415d-b9fe-cf7e8198408f"}`
	for _, tt := range []struct {
		status int
		body   string
		n      int // -1: no answer
	}{
		{200, `{"items":[]}`, 0}, {200, `{"items":[{}]}`, 0}, {200, `{"items":[{"documentType":"x"}]}`, 0}, {200, `{"items":null}`, 0},
		{200, `[]`, 0}, {200, ` [{}]`, 0}, {200, `[` + one + `]`, 1}, {200, `{"items":[` + one + `,{}]}`, 1},
		{404, `{"error":{"code":"50001","description":"O processo informado não foi encontrado."}}`, 0}, {404, ``, 0},
		{200, `{}`, -1}, {200, `null`, -1}, {200, `{"items":"x"}`, -1}, {200, `["x"]`, -1}, {200, `<html>`, -1}, {200, ``, -1},
		{400, `{"error":{"code":"50001"}}`, 0}, {403, `{"error":{"code":"10201"}}`, -1}, {500, `[]`, -1},
	} {
		list, err := served(t, tt.status, tt.body).ReusableDocuments(t.Context(), kyc.ReusableDocumentsRequest{DocumentNumber: kyc.NewDocumentNumber("52998224725")})
		if tt.n < 0 && err == nil || tt.n >= 0 && (err != nil || list == nil || len(list) != tt.n) {
			t.Errorf("%d %s: %v, %v", tt.status, tt.body, list, err)
		}
	}
}

// What is there and cannot be read is unknown, never absent and never a yes; and somebody is told of it.
func TestUnclearAnswers(t *testing.T) {
	t.Parallel()
	iv, fv := kyc.KindIdentityVerification, kyc.KindFaceValidation
	for _, tt := range []struct {
		kind    kyc.ProcessKind
		body    string
		result  string
		unclear bool
	}{
		{iv, `"status":3,"unicoId":{"result":"yes"},"liveness":1`, `{"L":"LIVE","I":"YES"}`, false},
		{iv, `"status":3,"unicoId":{"result":"sim"}`, `{}`, true}, // a word of the alert's only
		{iv, `"status":3,"unicoId":{"result":true}`, `{}`, true},
		{iv, `"status":3,"unicoId":null,"liveness":null`, `{}`, false},
		{iv, `"status":3,"liveness":3`, `{}`, true},
		{iv, `"status":3,"identityFraudsters":"yes"`, `{"F":"YES"}`, false},
		{iv, `"status":3,"identityFraudsters":"Inconclusive"`, `{"F":"INCONCLUSIVE"}`, false},
		{iv, `"status":3,"identityFraudsters":null`, `{}`, false},
		{iv, `"status":3,"identityFraudsters":{"result":true}`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":{"result":1}`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":{"result":null}`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":{"result":["yes"]}`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":{}`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":[]`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":1`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":false`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"identityFraudsters":""`, `{"F":"UNKNOWN"}`, true},
		{iv, `"status":3,"idCloud":{"result":"approved"}`, `{"D":"APPROVED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"denied"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"reproved"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"critical-risk"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"risk-critical"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"high-risk"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"RISK-HIGH"}`, `{"D":"DENIED"}`, false},
		{iv, `"status":3,"idCloud":{"result":"inconclusive"}`, `{"D":"INCONCLUSIVE"}`, false},
		{iv, `"status":3,"idCloud":{"result":"retry"}`, `{"D":"INCONCLUSIVE"}`, false},
		{iv, `"status":3,"idCloud":{"result":"medium-risk"}`, `{"D":"UNKNOWN"}`, true},
		{iv, `"status":3,"idCloud":7`, `{"D":"UNKNOWN"}`, true},
		{iv, `"status":3,"idCloud":null`, `{}`, false},
		{fv, `"status":3,"authenticated":true,"biometryToken":{"result":"true"}`, `{"A":true}`, false},
		{fv, `"status":3,"authenticated":false,"biometryToken":{"result":"false"}`, `{"A":false}`, false},
		{fv, `"status":3,"authenticated":true,"biometryToken":{"result":"false"}`, `{}`, true},
		{fv, `"status":3,"authenticated":false,"biometryToken":{"result":"true"}`, `{}`, true},
		{fv, `"status":3,"authenticated":true,"biometryToken":{"result":"maybe"}`, `{}`, true},
		{fv, `"status":3,"authenticated":"maybe","biometryToken":{"result":"true"}`, `{}`, true},
		{fv, `"status":3,"authenticated":true,"biometryToken":false`, `{}`, true},
		{fv, `"status":3,"authenticated":true,"biometryToken":{}`, `{"A":true}`, false},
		{fv, `"status":3,"authenticated":true,"biometryToken":null`, `{"A":true}`, false},
		{fv, `"authenticated":true,"biometryToken":{"result":"false"}`, `{}`, true}, // an answer without a status
	} {
		v, err := served(t, 200, `{"id":"`+processID+`",`+tt.body+`}`).CreateProcess(t.Context(), request(tt.kind))
		if err != nil || v.Status != kyc.ProcessCompleted || show(v.Result) != tt.result || v.Unclear != tt.unclear {
			t.Errorf("%s: %s %s, unclear %t, %v", tt.body, v.Status, show(v.Result), v.Unclear, err)
		}
	}
	for match, want := range map[string]string{`true`: "true false", `"false"`: "false false", `"maybe"`: "none true", `1`: "none true", `{}`: "none true", `null`: "none false"} {
		v, err := served(t, 200, `{"id":"`+processID+`","status":3,"document":{"id":"d-1","cpfMatch":true,"faceMatch":`+match+`}}`).CreateProcess(t.Context(), request(kyc.KindDocumentCapture))
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if d := v.Result.Document; d.FaceMatch != nil {
			got = strconv.FormatBool(*d.FaceMatch)
		}
		if got += " " + strconv.FormatBool(v.Result.Document.FaceMatchUnknown); got != want || v.Unclear != strings.HasSuffix(want, "true") {
			t.Errorf("faceMatch %s: %s, want %s", match, got, want)
		}
	}
}

// Every documented number, in both envelopes, as text and as a number (dossier 7).
func TestErrors(t *testing.T) {
	t.Parallel()
	type want struct {
		status int
		kind   kyc.Kind
		user   kyc.UserErrorCode
		path   string
	}
	image, no := "input.selfie.image", kyc.UserErrorCode("")
	for code, tt := range map[string]want{
		"20900": {400, kyc.Rejected, kyc.CodeImageRejected, image}, "20807": {400, kyc.Rejected, kyc.CodeImageRejected, image},
		"20506": {400, kyc.Rejected, kyc.CodeImageRejected, image}, "20505": {400, kyc.Rejected, kyc.CodeImageRejected, image},
		"20009": {400, kyc.Rejected, kyc.CodeImageRejected, image}, "10506": {400, kyc.Rejected, kyc.CodeImageRejected, image},
		"10508": {400, kyc.Rejected, kyc.CodeNeedsNewCapture, image}, "10507": {400, kyc.Rejected, kyc.CodeNeedsNewCapture, image},
		"20507": {400, kyc.Rejected, no, "input.subject.documentNumber"}, "20005": {400, kyc.Rejected, no, "input.subject.documentNumber"},
		"20006": {400, kyc.Rejected, no, "input.subject.name"},
		"20508": {400, kyc.Rejected, no, "input"}, "20019": {400, kyc.Rejected, no, "input"}, "20048": {400, kyc.Rejected, no, "input"}, "20047": {400, kyc.Rejected, no, "input"},
		"20004": {400, kyc.Internal, no, ""}, "20003": {400, kyc.Internal, no, ""}, "20811": {400, kyc.Internal, no, ""},
		"20002": {400, kyc.Credentials, no, ""}, "20001": {400, kyc.Credentials, no, ""}, "30017": {403, kyc.Credentials, no, ""},
		"10502": {403, kyc.Credentials, no, ""}, "10501": {403, kyc.Credentials, no, ""}, "10201": {403, kyc.Credentials, no, ""}, "60001": {400, kyc.Credentials, no, ""},
		"50002": {400, kyc.Unavailable, no, ""}, "40009": {400, kyc.Unavailable, no, ""},
		"50001": {404, kyc.Rejected, no, "input"},
		"99999": {500, kyc.Ambiguous, no, ""}, "510": {500, kyc.Ambiguous, no, ""}, "10700": {500, kyc.Ambiguous, no, ""}, "20502": {500, kyc.Ambiguous, no, ""}, "20503": {500, kyc.Ambiguous, no, ""},
		"12345": {400, kyc.Rejected, no, "input"}, // a number nobody documents is an explicit no all the same
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{
				`{"error":{"code":"` + code + `","description":"52998224725"}}`, `{"error":{"code":` + code + `,"description":"52998224725"}}`, `{"Error":{"Code":"` + code + `","Message":"52998224725"}}`,
			} {
				_, err := served(t, tt.status, body).CreateProcess(t.Context(), request(kyc.KindLiveness))
				var e *kyc.Error
				if !errors.As(err, &e) || e.Kind != tt.kind || e.Code != code || e.UserCode != tt.user || strings.Join(e.Path, ".") != tt.path {
					t.Errorf("%s: %+v", body, e)
				}
				if strings.Contains(err.Error()+e.Message, "52998224725") {
					t.Errorf("%s: repeats the provider's text: %v", body, err)
				}
			}
		})
	}
	_, err := served(t, 410, `{"error":{"code":"41000"}}`).FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID})
	if err != nil {
		t.Errorf("410 is a failed process, not an error: %v", err)
	}
	_, err = served(t, 404, `{"error":{"code":"50001"}}`).FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: processID})
	if kyc.KindOf(err) != kyc.NotFound {
		t.Errorf("50001 on a fetch: %v", err)
	}
}

// What is sent, field by field (dossier 2, 4).
func TestRequests(t *testing.T) {
	t.Parallel()
	var body map[string]any
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body, header = nil, r.Header.Clone()
		_ = json.Unmarshal(b, &body)
		_, _ = io.WriteString(w, `{"id":"`+processID+`","status":3,"liveness":1}`)
	}))
	defer server.Close()
	p := newProvider(t, config(server.URL+"/", tokenHost(t)))
	picture := selfie().RevealBase64()
	subject := map[string]any{"code": "52998224725", "name": "Ana Exemplo", "email": "ana@example.com", "phone": "5511987654321"}
	withType := map[string]any{"code": "52998224725", "name": "Ana Exemplo", "email": "ana@example.com", "phone": "5511987654321", "duiType": "DUI_TYPE_BR_CPF"}
	reuse := request(kyc.KindDocumentCapture)
	reuse.Capture, reuse.Subject.ReusableDocumentID = kyc.Capture{}, "d-1"
	token := request(kyc.KindLiveness)
	token.Capture = kyc.Capture{SDKToken: ptr(kyc.NewPersonalText("eyJ.a.b"))}
	for name, tt := range map[string]struct {
		request kyc.ProcessRequest
		key     string
		want    map[string]any
	}{
		"liveness": {request(kyc.KindLiveness), apiKey, map[string]any{"subject": subject, "imageBase64": picture}},
		"token":    {token, apiKey, map[string]any{"subject": subject, "imageBase64": "eyJ.a.b"}},
		"identity": {request(kyc.KindIdentityVerification), "k-identity", map[string]any{"subject": subject, "useCase": "Onboarding", "imageBase64": picture}},
		"1:1":      {request(kyc.KindFaceValidation), "k-one-to-one", map[string]any{"subject": subject, "imageBase64": picture, "referenceProcessId": processID}},
		"document": {request(kyc.KindDocumentCapture), "k-document", map[string]any{"subject": withType, "document": map[string]any{
			"purpose": "creditprocess", "authProcessId": processID, "files": []any{map[string]any{"data": picture}, map[string]any{"data": picture}},
		}}},
		"reuse": {reuse, "k-document", map[string]any{"subject": withType, "document": map[string]any{"purpose": "creditprocess", "authProcessId": processID, "documentId": "d-1"}}},
	} {
		if _, err := p.CreateProcess(t.Context(), tt.request); err != nil {
			t.Fatal(err)
		}
		got, _ := json.Marshal(body)
		want, _ := json.Marshal(tt.want)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %.300s", name, len(got), len(want), got)
		}
		if header.Get("APIKEY") != tt.key || header.Get("Authorization") != "Bearer token-1" || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: APIKEY %q, %q", name, header.Get("APIKEY"), header.Get("Authorization"))
		}
	}
}

// The APIKEY decides what a process checks, so the capabilities wanted choose the key.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	l, iv, fv, fp, rs, gov, doc := kyc.CapLiveness, kyc.CapIdentityVerification, kyc.CapFaceValidation, kyc.CapFraudProfile, kyc.CapRiskScore, kyc.CapGovernmentSimilarity, kyc.CapDocumentCapture
	c := config("https://api.example.test", "https://identity.example.test/oauth2/token")
	key := func(caps ...kyc.Capability) unico.APIKey { return unico.APIKey{Key: secret("k"), Capabilities: caps} }
	for _, tt := range []struct {
		keys   []unico.APIKey
		kind   kyc.ProcessKind
		wanted []kyc.Capability
		want   []kyc.Capability // nil: none offers it
	}{
		{c.APIKeys, kyc.KindLiveness, nil, []kyc.Capability{l}},
		{c.APIKeys, kyc.KindIdentityVerification, nil, []kyc.Capability{l, iv, fp, rs}},
		{c.APIKeys, kyc.KindIdentityVerification, []kyc.Capability{rs}, []kyc.Capability{l, iv, fp, rs}},
		{c.APIKeys, kyc.KindIdentityVerification, []kyc.Capability{gov}, nil},
		{c.APIKeys, kyc.KindFaceValidation, nil, []kyc.Capability{l, fv}},
		{c.APIKeys, kyc.KindDocumentCapture, nil, []kyc.Capability{doc}},
		// The smallest key, with liveness where there is one.
		{[]unico.APIKey{key(l, iv, fp, rs, doc), key(l, iv), key(iv)}, kyc.KindIdentityVerification, nil, []kyc.Capability{l, iv}},
		{[]unico.APIKey{key(l, iv, fp, rs, doc), key(l, iv), key(iv)}, kyc.KindIdentityVerification, []kyc.Capability{fp}, []kyc.Capability{l, iv, fp, rs}},
		{[]unico.APIKey{key(l, iv, fp, rs, doc)}, kyc.KindDocumentCapture, nil, []kyc.Capability{doc}},
		{[]unico.APIKey{key(iv)}, kyc.KindIdentityVerification, nil, []kyc.Capability{iv}},
		{[]unico.APIKey{key(iv)}, kyc.KindIdentityVerification, []kyc.Capability{l}, nil},
		{[]unico.APIKey{key(l, iv)}, kyc.KindLiveness, nil, nil},
		{[]unico.APIKey{key(l, doc)}, kyc.KindLiveness, nil, []kyc.Capability{l}},
		{[]unico.APIKey{key(l, iv, fv)}, kyc.KindIdentityVerification, nil, nil},
	} {
		c.APIKeys = tt.keys
		got, ok := newProvider(t, c).ProcessCapabilities(tt.kind, tt.wanted)
		if ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%s wanting %v: %v, want %v", tt.kind, tt.wanted, got, tt.want)
		}
	}
	c.APIKeys = c.APIKeys[:1]
	if newProvider(t, c).ReusableDocuments != nil {
		t.Error("without a key for documents there is nothing to ask for them")
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	body := []byte(`{"processId":"` + processID + `","state":"PROCESS_STATE_FINISHED","flow":"id"}`)
	for name, tt := range map[string]struct {
		auth, method string
		header       http.Header
		body         []byte
		kind         kyc.Kind
		ok           bool
	}{
		"good":                 {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret"}}, body, 0, true},
		"without a colon":      {"Bearer s3cret", "POST", http.Header{"Authorization": {"Bearer s3cret"}}, body, 0, true},
		"basic":                {"Authorization: Basic YTpi", "POST", http.Header{"Authorization": {"Basic YTpi"}}, body, 0, true},
		"value with a colon":   {"x-hook:a:b", "POST", http.Header{"X-Hook": {"a:b"}}, body, 0, true},
		"wrong":                {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret2"}}, body, kyc.Unauthenticated, false},
		"missing":              {"X-Hook: s3cret", "POST", http.Header{}, body, kyc.Unauthenticated, false},
		"twice":                {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret", "s3cret"}}, body, kyc.Unauthenticated, false},
		"another method":       {"X-Hook: s3cret", "PUT", http.Header{"X-Hook": {"s3cret"}}, body, kyc.Unauthenticated, false},
		"nothing configured":   {"", "POST", http.Header{"Authorization": {""}}, body, kyc.Unauthenticated, false},
		"an empty value":       {"X-Hook:", "POST", http.Header{"X-Hook": {""}}, body, kyc.Unauthenticated, false},
		"no process":           {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret"}}, []byte(`{"state":"x"}`), kyc.Invalid, false},
		"no JSON":              {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret"}}, []byte(`<`), kyc.Invalid, false},
		"a document as an id":  {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret"}}, []byte(`{"processId":"52998224725"}`), kyc.Invalid, false},
		"unknown, more fields": {"X-Hook: s3cret", "POST", http.Header{"X-Hook": {"s3cret"}}, []byte(`{"processId":"` + processID + `","state":["?"],"new":1}`), 0, true},
	} {
		c := config("https://api.example.test", "https://identity.example.test")
		c.WebhookAuth = secret(tt.auth)
		cb, err := newProvider(t, c).ParseCallback(tt.method, tt.header, tt.body)
		switch {
		case tt.ok && (err != nil || reference(cb) != processID || cb.DedupeKey == ""):
			t.Errorf("%s: %+v, %v", name, cb, err)
		case !tt.ok && (err == nil || kyc.KindOf(err) != tt.kind):
			t.Errorf("%s: %v, want %s", name, err, tt.kind)
		}
	}
}

func reference(cb kyc.Callback) string { return cb.Reference }

func FuzzCallback(f *testing.F) {
	f.Add([]byte(`{"processId":"` + processID + `","state":"PROCESS_STATE_FINISHED","flow":"id"}`))
	c := config("https://api.example.test", "https://identity.example.test")
	p, err := unico.New(c, httpjson.NewHTTPClient())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cb, err := p.ParseCallback("POST", http.Header{"X-Hook": {"hook-secret"}}, body)
		if err == nil && (reference(cb) == "" || len(reference(cb)) > 64 || kyc.CodeLike(reference(cb)) != reference(cb)) {
			t.Errorf("reference %q", reference(cb))
		}
	})
}

// Whatever comes, the answer is a verdict that says only what was said, or one of our errors.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"id":"a","status":3,"unicoId":{"result":"yes"}}`, `{"id":"a","status":"1"}`, `{"ID":"a","Status":2,"document":{"id":"x","fileUrls":[1,"a"]}}`, `{"id":"a","authenticated":"true"}`} {
		f.Add([]byte(seed))
	}
	var mu sync.Mutex
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	f.Cleanup(server.Close)
	p := newProvider(f, config(server.URL, tokenHost(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		body = b
		v, err := p.CreateProcess(t.Context(), request(kyc.KindIdentityVerification))
		var e *kyc.Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Errorf("%v is not one of our errors", err)
		case err == nil && (v.ProviderProcessID == "" || !v.Known && v.Status != kyc.ProcessProcessing || v.Result != nil && v.Status != kyc.ProcessCompleted):
			t.Errorf("%+v", v)
		}
	})
}
