package unicosim

import (
	"maps"
	"slices"
	"strings"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The capabilities, as a key enables them.
const (
	Liveness             = "LIVENESS"
	IdentityVerification = "IDENTITY_VERIFICATION"
	FaceValidation       = "FACE_VALIDATION"
	FraudProfile         = "FRAUD_PROFILE"
	RiskScore            = "RISK_SCORE"
	GovernmentSimilarity = "GOVERNMENT_SIMILARITY"
	DocumentCapture      = "DOCUMENT_CAPTURE"
)

// The keys of the sandbox: one for each of the ten combinations of the documents (dossier 5.4), and three more.
const (
	KeyLiveness      = "unico-sandbox-key-01-liveness"
	KeyIdentity      = "unico-sandbox-key-02-identity"
	KeyOneToOne      = "unico-sandbox-key-03-one-to-one"
	KeyAlert         = "unico-sandbox-key-04-alert"
	KeyScore         = "unico-sandbox-key-05-score"
	KeyDocuments     = "unico-sandbox-key-06-documents"
	KeyAlertScore    = "unico-sandbox-key-07-alert-score"
	KeyAlertDocs     = "unico-sandbox-key-08-alert-documents"
	KeyScoreDocs     = "unico-sandbox-key-09-score-documents"
	KeyEverything    = "unico-sandbox-key-10-alert-score-documents"
	KeyGovernment    = "unico-sandbox-key-11-government"
	KeyDocumentsOnly = "unico-sandbox-key-12-documents-only"
	// KeySDK takes only what the SDK captured (10506).
	KeySDK = "unico-sandbox-key-13-sdk-only"
)

// SandboxKeys gives the keys of the sandbox and what each enables.
func SandboxKeys() map[string][]string {
	iv := []string{Liveness, IdentityVerification}
	with := func(more ...string) []string { return append(slices.Clone(iv), more...) }
	return map[string][]string{
		KeyLiveness:      {Liveness},
		KeyIdentity:      iv,
		KeyOneToOne:      {Liveness, FaceValidation},
		KeyAlert:         with(FraudProfile),
		KeyScore:         with(RiskScore),
		KeyDocuments:     with(DocumentCapture),
		KeyAlertScore:    with(FraudProfile, RiskScore),
		KeyAlertDocs:     with(FraudProfile, DocumentCapture),
		KeyScoreDocs:     with(RiskScore, DocumentCapture),
		KeyEverything:    with(FraudProfile, RiskScore, DocumentCapture),
		KeyGovernment:    with(FraudProfile, RiskScore, GovernmentSimilarity),
		KeyDocumentsOnly: {DocumentCapture},
		KeySDK:           {Liveness},
	}
}

// fate is what becomes of a process, as far as its key asks for it.
type fate struct {
	then string // for Scenarios

	live      int    // 1 or 2
	identity  string // yes, no, inconclusive
	match     bool   // of a 1:1
	alert     string
	score     *int // nil: the engine fails and none comes
	diverges  bool // status 2 before the score
	serpro    int
	end       int // 4, 5: how it ends later instead
	at        int // a status the POST answers at once instead: 5, or one nobody knows
	failFirst int // the first so many creations end in status 5
	forever   bool
	refuse    string // an error number

	docsNone   string // reusable documents: "[]" or "[{}]"
	cpfMatch   bool
	faceMatch  bool
	unreadable bool // the document has no content
}

func fine(then string) fate {
	return fate{then: then, live: 1, identity: "yes", match: true, alert: "inconclusive", serpro: 87, cpfMatch: true, faceMatch: true}
}

// fates are the magic values, ours: Unico documents no fixtures for CPF (dossier 10). The digits that are not
// listed behave like 00.
var fates = func() map[string]fate {
	m := make(map[string]fate)
	add := func(digits, then string, change func(*fate)) {
		f := fine(then)
		if change != nil {
			change(&f)
		}
		m[digits] = f
	}
	inconclusive := func(score *int) func(*fate) {
		return func(f *fate) { f.identity, f.score = "inconclusive", score }
	}
	add("00", "live, identity yes, 1:1 match, alert inconclusive, document of the same person", nil)
	add("10", "not live: identity inconclusive and no score, 1:1 no match", func(f *fate) { f.live, f.identity, f.match = 2, "inconclusive", false })
	add("20", "live, identity no (never a score), 1:1 no match", func(f *fate) { f.identity, f.match = "no", false })
	add("30", "identity inconclusive, score 28", inconclusive(new(28)))
	add("31", "identity inconclusive, score -65", inconclusive(new(-65)))
	add("32", "identity inconclusive, score 90", inconclusive(new(90)))
	add("33", "identity inconclusive, score 0: a capture or registration error", inconclusive(new(0)))
	add("34", "identity inconclusive, status 2 before score 28", func(f *fate) { f.identity, f.score, f.diverges = "inconclusive", new(28), true })
	add("35", "identity inconclusive, the score engine fails: status 3 without a score", inconclusive(nil))
	add("36", "status 1 for ever, until POST /unico/settle", func(f *fate) { f.forever = true })
	add("40", "alert yes, identity yes", func(f *fate) { f.alert = "yes" })
	add("41", "alert yes, identity inconclusive: no score", func(f *fate) { f.alert, f.identity, f.score = "yes", "inconclusive", new(28) })
	add("42", "alert SUSPICIOUS, a word of one late page", func(f *fate) { f.alert = "SUSPICIOUS" })
	add("43", "alert sim, the seed's word for yes", func(f *fate) { f.alert = "sim" })
	add("50", "government similarity -1: no face of this CPF there", func(f *fate) { f.serpro = -1 })
	add("51", "government similarity -2: the government did not answer", func(f *fate) { f.serpro = -2 })
	add("52", "government similarity 12", func(f *fate) { f.serpro = 12 })
	add("60", "status 5 at once, always", func(f *fate) { f.at = 5 })
	add("61", "status 5 for the first two processes of this CPF, then like 00", func(f *fate) { f.failFirst = 2 })
	add("62", "status 1, later 5", func(f *fate) { f.end = 5 })
	add("63", "status 1, later 4", func(f *fate) { f.end = 4 })
	add("64", "status 7, which nobody knows", func(f *fate) { f.at = 7 })
	for i, code := range errorCodes {
		digits := itoa(70 + i)
		r := refusals[code]
		add(digits, itoa(r.status)+" "+code, func(f *fate) { f.refuse = code })
	}
	add("90", "no reusable document, as []", func(f *fate) { f.docsNone = "[]" })
	add("91", "no reusable document, as [{}]", func(f *fate) { f.docsNone = "[{}]" })
	add("92", "the document is of another CPF", func(f *fate) { f.cpfMatch = false })
	add("93", "the face is not the document's", func(f *fate) { f.faceMatch = false })
	add("94", "the document is UNKNOWN and has no content", func(f *fate) { f.unreadable = true })
	return m
}()

// errorCodes are the errors that a CPF can bring about, from 70 on; what else there is in the tables comes about
// by what was sent.
var errorCodes = []string{
	"20900", "20807", "20507", "20506", "20505", "20009", "20006", "20003", "10508", "10507", "10506", "30017", "10201", "99999", "40300",
}

// Magic gives the magic digits of a CPF: the two before its check digits.
func Magic(cpf string) string {
	if len(cpf) != 11 {
		return ""
	}
	return cpf[7:9]
}

func fateOf(cpf string) fate {
	if f, ok := fates[Magic(cpf)]; ok {
		return f
	}
	return fates["00"]
}

// Scenarios lists every magic value, as this simulator is configured.
func (s *Sim) Scenarios() []simulator.Scenario {
	var list []simulator.Scenario
	add := func(operation, when, then, source string) {
		list = append(list, simulator.Scenario{Provider: s.Name(), Operation: operation, When: when, Then: then, Source: source})
	}
	for _, digits := range slices.Sorted(maps.Keys(fates)) {
		operation := OpCreateProcess
		if digits == "90" || digits == "91" {
			operation = OpReusableDocuments
		}
		add(operation, "digits 8 and 9 of the CPF are "+digits, fates[digits].then, "dossier 5, 7; the digits are ours")
	}
	keys := s.config.APIKeys
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		add(OpCreateProcess, "APIKEY is "+key, "the process checks "+strings.Join(keys[key], ", "), "dossier 2; the key is ours")
	}
	add(OpCreateProcess, "APIKEY is "+KeySDK+" and the image is plain", "400 10506", "dossier 4.4")
	add(OpCreateProcess, "imageBase64 is a token of GET /unico/sdk-token that was sent before", "400 10508", "dossier 4.4")
	add(OpCreateProcess, "imageBase64 is a token of GET /unico/sdk-token?age=11m", "400 10507", "dossier 4.4")
	add(OpToken, "iss is "+SandboxServiceAccount+"@"+SandboxTenantID+".iam.acesso.io, signed with GET /unico/private-key", "an access token for "+s.config.TokenLifetime.String(), "dossier 3; the credentials are ours")
	add(OpToken, "the assertion was used before", "401 1.2.7", "dossier 3.3")
	add(OpToken, itoa(maxBadAssertions)+" bad assertions in a row", "401 1.2.18 for "+lockFor.String(), "dossier 3.3; the figures are ours")
	add(simulator.AnyOperation, "more than "+itoa(s.config.Rate)+" requests in a second", "429 with Retry-After "+itoa(s.config.RetryAfter), "dossier 10; a tolerance of two is ours")
	return list
}
