package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/simulator"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

const processFields = `id kind capabilities provider providerProcessId status version finishedAt
  result { liveness identity riskScore fraudProfile authenticated governmentSimilarity document { id type cpfMatch faceMatch content fileUrls fileUrlsExpireAt } }
  failure { code message retryable nextAction } person { id } referenceProcess { id }
  attempts { number outcome providerCode durationMs }`

func starting(name string) string {
	return `mutation M($input: ` + strings.ToUpper(name[:1]) + name[1:] + `Input!) { ` + name + `(input: $input) { process { ` + processFields + ` }
	  userErrors { code message path provider providerCode retryable } } }`
}

const readProcess = `query P($id: ID!) { process(id: $id) { ` + processFields + ` } }`

var plainSelfie = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480)), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// marked puts up to 16 bytes into the first quantisation table, where they change what a picture looks like and not
// whether it is one. None may be zero.
func marked(mark string) []byte {
	out := bytes.Clone(plainSelfie())
	at := bytes.Index(out, []byte{0xff, 0xdb}) + 5 // marker, length, table number
	copy(out[at+8:], mark)
	return out
}

var pictures atomic.Int64

// selfie is a picture nobody else has.
func newSelfie() map[string]any {
	return map[string]any{"image": base64.StdEncoding.EncodeToString(marked(fmt.Sprintf("%016d", pictures.Add(1))))}
}

func sdkToken() map[string]any {
	return map[string]any{"sdkToken": unicosim.SDKToken(time.Now())}
}

func input(cpf string, selfie map[string]any, more ...any) map[string]any {
	in := map[string]any{"subject": map[string]any{"documentNumber": cpf, "name": "Maria da Silva"}, "selfie": selfie}
	for i := 0; i < len(more); i += 2 {
		if more[i+1] == nil {
			delete(in, more[i].(string))
		} else {
			in[more[i].(string)] = more[i+1]
		}
	}
	return map[string]any{"input": in}
}

// magic makes the CPF of a scenario of the simulator.
func magic(digits string, serial int) string {
	n := 0
	for _, d := range digits {
		n = 10*n + int(d-'0')
	}
	return apptest.CPF(9, 100*serial+n)
}

// summary is what a table says about a process.
func summary(a apptest.Answer, at string) string {
	var b strings.Builder
	b.WriteString(a.Str(at + ".status"))
	for _, f := range []string{"liveness", "identity", "riskScore", "fraudProfile", "authenticated", "governmentSimilarity"} {
		if v := a.Get(at + ".result." + f); v != nil {
			fmt.Fprintf(&b, " %v", v)
		}
	}
	if a.Str(at+".result.document.id") != "" {
		fmt.Fprintf(&b, " cpf=%v face=%v content=%t urls=%t", a.Get(at+".result.document.cpfMatch"), a.Get(at+".result.document.faceMatch"),
			a.Get(at+".result.document.content") != nil, a.Str(at+".result.document.fileUrls.0") != "" && a.Str(at+".result.document.fileUrlsExpireAt") != "")
	}
	if code := a.Str(at + ".failure.code"); code != "" {
		b.WriteString(" " + code)
	}
	return b.String()
}

// settled waits until a process is final.
func settled(g *apptest.Gateway, token, id string) apptest.Answer {
	return g.Eventually(token, readProcess, map[string]any{"id": id}, func(a apptest.Answer) bool {
		return kyc.ProcessStatus(a.Str("process.status")).Final()
	})
}

func sandboxKeys(keys ...string) func(*config.Config) {
	return func(c *config.Config) {
		c.Providers.Unico.APIKeys = nil
		for _, key := range keys {
			c.Providers.Unico.APIKeys = append(c.Providers.Unico.APIKeys, config.UnicoAPIKey{Key: config.NewSecret(key), Capabilities: unicosim.SandboxKeys()[key]})
		}
	}
}

// The ten combinations of the documents, each with every documented outcome, in each form of the answers: what the
// dossier's tables say (5.2 to 5.4) is what the API says.
func TestCombinations(t *testing.T) {
	t.Parallel()
	type row struct {
		digits string
		first  string // status of the first answer, where it is not final; by generation below
		want   string
	}
	fraud, score, gov := []string{"FRAUD_PROFILE"}, []string{"RISK_SCORE"}, []string{"GOVERNMENT_SIMILARITY"}
	both := []string{"FRAUD_PROFILE", "RISK_SCORE"}
	const open = "PROCESSING"
	identity := []struct {
		name   string
		wanted []string
		rows   []row
	}{
		{"02 identity", []string{"IDENTITY_VERIFICATION"}, []row{
			{"00", "", "COMPLETED YES"}, {"20", "", "COMPLETED NO"}, {"30", "", "COMPLETED LIVE INCONCLUSIVE"}, {"10", "", "COMPLETED NOT_LIVE INCONCLUSIVE"},
			{"60", "", "FAILED PROVIDER_ERROR"}, {"62", open, "FAILED PROVIDER_ERROR"}, {"63", open, "CANCELED CANCELED"},
		}},
		{"04 alert", fraud, []row{
			{"00", "late", "COMPLETED YES INCONCLUSIVE"}, {"40", "late", "COMPLETED YES YES"}, {"43", "late", "COMPLETED YES YES"}, {"42", "late", "COMPLETED YES UNKNOWN"},
			{"30", "late", "COMPLETED LIVE INCONCLUSIVE INCONCLUSIVE"}, {"20", "late", "COMPLETED NO INCONCLUSIVE"},
		}},
		{"05 score", score, []row{
			{"00", "", "COMPLETED YES"}, {"20", "", "COMPLETED NO"}, {"30", "score", "COMPLETED LIVE INCONCLUSIVE 28"}, {"31", "score", "COMPLETED LIVE INCONCLUSIVE -65"},
			{"32", "score", "COMPLETED LIVE INCONCLUSIVE 90"}, {"33", "score", "COMPLETED LIVE INCONCLUSIVE 0"}, {"34", "score", "COMPLETED LIVE INCONCLUSIVE 28"},
			{"35", "score", "COMPLETED LIVE INCONCLUSIVE"}, {"10", "", "COMPLETED NOT_LIVE INCONCLUSIVE"},
		}},
		{"07 alert and score", both, []row{
			{"00", "late", "COMPLETED YES INCONCLUSIVE"}, {"41", "late", "COMPLETED LIVE INCONCLUSIVE YES"}, {"30", "late score", "COMPLETED LIVE INCONCLUSIVE 28 INCONCLUSIVE"},
			{"20", "late", "COMPLETED NO INCONCLUSIVE"}, {"10", "late", "COMPLETED NOT_LIVE INCONCLUSIVE INCONCLUSIVE"},
		}},
		{"government", gov, []row{
			{"00", "late", "COMPLETED YES INCONCLUSIVE 87"}, {"50", "late", "COMPLETED YES INCONCLUSIVE -1"}, {"51", "late", "COMPLETED YES INCONCLUSIVE -2"}, {"52", "late", "COMPLETED YES INCONCLUSIVE 12"},
		}},
	}
	for _, generation := range []unicosim.Generation{unicosim.G1, unicosim.G2, unicosim.G3, unicosim.G4} {
		t.Run(fmt.Sprintf("generation %d", generation), func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{
				Unico: unicosim.Config{Generation: generation, Delay: 10 * time.Millisecond, ScoreStatus: 1 + int(generation)%2},
				Config: sandboxKeys(unicosim.KeyLiveness, unicosim.KeyIdentity, unicosim.KeyOneToOne, unicosim.KeyAlert, unicosim.KeyScore, unicosim.KeyDocuments,
					unicosim.KeyAlertScore, unicosim.KeyAlertDocs, unicosim.KeyScoreDocs, unicosim.KeyEverything, unicosim.KeyGovernment),
			})
			token := g.Token(apptest.Acme)
			late, slow := generation <= unicosim.G2, generation != unicosim.G4
			check := func(name string, a apptest.Answer, mutation, first, want string) string {
				t.Helper()
				id := a.Str(mutation + ".process.id")
				if id == "" {
					t.Errorf("%s: %s", name, a.Body)
					return ""
				}
				waits := first == open || late && strings.Contains(first, "late") || slow && strings.Contains(first, "score")
				status := a.Str(mutation + ".process.status")
				if waits == kyc.ProcessStatus(status).Final() {
					t.Errorf("%s: first answer %s, want one that waits: %t", name, status, waits)
				}
				if waits && a.Get(mutation+".process.result") != nil {
					t.Errorf("%s: shows results of an unfinished process", name)
				}
				if generation == unicosim.G4 && strings.HasPrefix(want, "COMPLETED YES") {
					want = strings.Replace(want, "COMPLETED", "COMPLETED LIVE", 1) // the newest sample has both (dossier 11, row 8)
				}
				if got := summary(settled(g, token, id), "process"); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
				return id
			}
			serial := 0
			next := func(digits string) string { serial++; return magic(digits, serial) }

			for _, r := range []row{{"00", "", "COMPLETED LIVE"}, {"10", "", "COMPLETED NOT_LIVE"}, {"60", "", "FAILED PROVIDER_ERROR"}, {"63", open, "CANCELED CANCELED"}} {
				check("01 "+r.digits, g.Query(token, starting("checkLiveness"), input(next(r.digits), newSelfie())), "checkLiveness", r.first, r.want)
			}
			for _, c := range identity {
				for _, r := range c.rows {
					a := g.Query(token, starting("verifyIdentity"), input(next(r.digits), newSelfie(), "capabilities", c.wanted))
					check(c.name+" "+r.digits, a, "verifyIdentity", r.first, r.want)
				}
			}
			for _, r := range []row{{"00", "", "COMPLETED LIVE true"}, {"20", "", "COMPLETED LIVE false"}} {
				cpf := next(r.digits)
				reference := g.Query(token, starting("checkLiveness"), input(cpf, newSelfie())).Str("checkLiveness.process.id")
				a := g.Query(token, starting("validateFace"), input(cpf, newSelfie(), "referenceProcessId", reference))
				check("03 "+r.digits, a, "validateFace", r.first, r.want)
				if got := a.Str("validateFace.process.referenceProcess.id"); got != reference {
					t.Errorf("03: reference %q, want %q", got, reference)
				}
			}
			// 06 and 08 to 10: two processes, the second authorised by the first (dossier 5.4, 06).
			for name, c := range map[string]struct {
				wanted []string
				first  string
				want   string
			}{
				"06": {[]string{"IDENTITY_VERIFICATION"}, "", "COMPLETED YES"}, "08": {fraud, "late", "COMPLETED YES INCONCLUSIVE"},
				"09": {score, "", "COMPLETED YES"}, "10": {both, "late", "COMPLETED YES INCONCLUSIVE"},
			} {
				for digits, document := range map[string]string{
					"00": "COMPLETED cpf=true face=true content=true urls=true", "92": "COMPLETED cpf=false face=true content=true urls=true",
					"93": "COMPLETED cpf=true face=false content=true urls=true", "94": "COMPLETED cpf=false face=true content=false urls=true",
				} {
					cpf := next(digits)
					auth := check(name+" first "+digits, g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie(), "capabilities", c.wanted)), "verifyIdentity", c.first, c.want)
					files := []any{newSelfie()["image"], newSelfie()["image"]}
					in := input(cpf, nil, "selfie", nil, "purpose", "CREDIT_PROCESS", "authProcessId", auth, "files", files)
					check(name+" document "+digits, g.Query(token, starting("captureDocument"), in), "captureDocument", "late", document)
				}
			}
			// A document that is reused, under an identity that was verified.
			cpf := next("00")
			auth := g.Query(token, starting("verifyIdentity"), input(cpf, newSelfie())).Str("verifyIdentity.process.id")
			settled(g, token, auth)
			docs := g.Query(token, `query($d: String!) { reusableDocuments(documentNumber: $d, type: BR_CNH) { documentId } }`, map[string]any{"d": cpf})
			in := input(cpf, nil, "selfie", nil, "purpose", "ONBOARDING", "authProcessId", auth, "reusableDocumentId", docs.Str("reusableDocuments.0.documentId"))
			check("reuse", g.Query(token, starting("captureDocument"), in), "captureDocument", "late", "COMPLETED cpf=true face=true content=true urls=true")
		})
	}
}

// What a process may refer to, and what a reuse needs.
func TestProcessReferences(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: unicosim.Config{Generation: unicosim.G3}})
	token, rival := g.Token(apptest.Acme), g.Token(apptest.Rival)
	start := func(token, name, cpf string, more ...any) apptest.Answer {
		return g.Query(token, starting(name), input(cpf, newSelfie(), more...))
	}
	cpf, other := magic("00", 1), magic("00", 2)
	live := start(token, "checkLiveness", cpf).Str("checkLiveness.process.id")
	others := start(token, "checkLiveness", other).Str("checkLiveness.process.id")
	dead := start(token, "checkLiveness", magic("10", 3)).Str("checkLiveness.process.id")
	openOne := start(token, "checkLiveness", magic("36", 4)).Str("checkLiveness.process.id")
	theirs := start(rival, "checkLiveness", cpf).Str("checkLiveness.process.id")
	for name, tt := range map[string]struct {
		cpf, reference, code string
	}{
		"good":                      {cpf, live, ""},
		"of another person":         {cpf, others, "NOT_FOUND"},
		"of another partner":        {cpf, theirs, "NOT_FOUND"},
		"nothing":                   {cpf, "prc_01JQ0000000000000000000000", "NOT_FOUND"},
		"no id":                     {cpf, "x", "NOT_FOUND"},
		"not live":                  {magic("10", 3), dead, "INVALID"},
		"still open":                {magic("36", 4), openOne, "INVALID"},
		"a person instead of a one": {cpf, "per_01JQ0000000000000000000000", "NOT_FOUND"},
	} {
		a := start(token, "validateFace", tt.cpf, "referenceProcessId", tt.reference)
		if got := a.Str("validateFace.userErrors.0.code"); got != tt.code || tt.code != "" && a.Str("validateFace.userErrors.0.path.1") != "referenceProcessId" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	// A reuse is refused under a process that verified nobody.
	a := g.Query(token, starting("captureDocument"), input(cpf, nil, "selfie", nil, "purpose", "FGTS", "authProcessId", live, "reusableDocumentId", "d-1"))
	if a.Str("captureDocument.userErrors.0.code") != "INVALID" || a.Str("captureDocument.userErrors.0.path.1") != "reusableDocumentId" {
		t.Errorf("reuse without a verified identity: %s", a.Body)
	}
	if n := g.Unico.Requests().Count(unicosim.OpCreateProcess); n != 6 {
		t.Errorf("%d creations, want the six that were right", n)
	}
}

// A document known to the partner links the process; the person's data completes what the input leaves out; a subject
// token starts the processes of its person and of nobody else.
func TestProcessSubjects(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Unico: unicosim.Config{Generation: unicosim.G3}})
	token := g.Token(apptest.Acme)
	cpf := magic("00", 7)
	person := g.Query(token, apptest.Register, apptest.Input(cpf, "ext-1", nil)).Str("registerPerson.person.id")
	other := g.Query(token, apptest.Register, apptest.Input(magic("00", 8), "ext-2", nil)).Str("registerPerson.person.id")
	if person == "" || other == "" {
		t.Fatal("no persons")
	}
	about := func(token string, subject map[string]any) apptest.Answer {
		return g.Query(token, starting("verifyIdentity"), map[string]any{"input": map[string]any{"subject": subject, "selfie": newSelfie()}})
	}
	for name, subject := range map[string]map[string]any{
		"by document": {"documentNumber": cpf}, "by id": {"personId": person}, "both": {"personId": person, "documentNumber": cpf},
	} {
		if a := about(token, subject); a.Str("verifyIdentity.process.person.id") != person || a.Str("verifyIdentity.process.status") != "COMPLETED" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if a := about(token, map[string]any{"personId": person, "documentNumber": magic("00", 8)}); a.Str("verifyIdentity.userErrors.0.code") != "INVALID" {
		t.Errorf("another person's document: %s", a.Body)
	}
	const started = `mutation M($input: CheckLivenessInput!) { checkLiveness(input: $input) { process { id status } userErrors { code path } } }`
	mine := g.SubjectToken(apptest.Acme, kyc.PersonID(person), kyc.ProcessesWrite)
	for name, tt := range map[string]struct {
		subject map[string]any
		code    string
	}{
		"themselves":         {map[string]any{}, ""},
		"by id":              {map[string]any{"personId": person}, ""},
		"somebody else":      {map[string]any{"personId": other}, "NOT_FOUND"},
		"another's document": {map[string]any{"documentNumber": magic("00", 8)}, "INVALID"},
	} {
		a := g.Query(mine, started, map[string]any{"input": map[string]any{"subject": tt.subject, "selfie": newSelfie()}})
		if a.Str("checkLiveness.userErrors.0.code") != tt.code || (tt.code == "") != (a.Str("checkLiveness.process.status") == "COMPLETED") {
			t.Errorf("subject token, %s: %s", name, a.Body)
		}
	}
	// A person whose CPF the partner never gave cannot take one over.
	without := g.Query(token, `mutation R($input: RegisterProspectInput!) { registerProspect(input: $input) { customer { person { id } } } }`, prospect(1, nil)).Str("registerProspect.customer.person.id")
	theirs := g.SubjectToken(apptest.Acme, kyc.PersonID(without), kyc.ProcessesWrite)
	a := g.Query(theirs, started, map[string]any{"input": map[string]any{"subject": map[string]any{"documentNumber": magic("00", 8)}, "selfie": newSelfie()}})
	if without == "" || a.Str("checkLiveness.userErrors.0.code") != "INVALID" || a.Get("checkLiveness.process") != nil {
		t.Errorf("a person without a document: %s", a.Body)
	}
	list := g.Query(token, `query($id: ID!) { person(id: $id) { processes(first: 2) { totalCount nodes { kind person { id } attempts { outcome } } pageInfo { hasNextPage endCursor } }
	  live: processes(kind: LIVENESS) { totalCount nodes { kind } } } }`, map[string]any{"id": person})
	if list.Get("person.processes.totalCount") != 5.0 || list.Get("person.processes.pageInfo.hasNextPage") != true || list.Str("person.processes.nodes.1.person.id") != person ||
		list.Get("person.live.totalCount") != 2.0 || list.Str("person.live.nodes.0.kind") != "LIVENESS" || list.Str("person.processes.nodes.0.attempts.0.outcome") != "SUCCEEDED" {
		t.Errorf("%s", list.Body)
	}
}

// The same key with the same input is the same process; with another it is refused; and a refusal frees it.
func TestProcessIdempotency(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	in := input(magic("00", 1), newSelfie(), "idempotencyKey", "k-1")
	var wg sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		wg.Go(func() { ids[i] = g.Query(token, starting("checkLiveness"), in).Str("checkLiveness.process.id") })
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("twenty repeats answered %v", ids)
		}
	}
	if n := g.Unico.Requests().Count(unicosim.OpCreateProcess); n != 1 {
		t.Errorf("%d creations for one key", n)
	}
	other := input(magic("00", 1), newSelfie(), "idempotencyKey", "k-1")
	if a := g.Query(token, starting("checkLiveness"), other); a.Str("checkLiveness.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("another input: %s", a.Body)
	}
	if a := g.Query(token, starting("verifyIdentity"), in); a.Str("verifyIdentity.userErrors.0.code") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("another mutation: %s", a.Body)
	}
	refused := input(magic("72", 2), newSelfie(), "idempotencyKey", "k-2")
	for range 2 { // the second is a new attempt, not a replay
		if a := g.Query(token, starting("checkLiveness"), refused); a.Str("checkLiveness.userErrors.0.providerCode") != "20507" || a.Get("checkLiveness.process") != nil {
			t.Errorf("refused: %s", a.Body)
		}
	}
	if a := g.Query(token, `{ processes { totalCount } }`, nil); a.Get("processes.totalCount") != 1.0 {
		t.Errorf("a refusal leaves something behind: %s", a.Body)
	}
}

// Each documented error: what the partner can mend is a userError with path and code, what the operator must mend
// leaves the process open, and nobody is told that it is their fault (dossier 7; law 4).
func TestProcessErrors(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.Unico.Breaker.Failures = 3*time.Second, 1000 // what fails here must not stop the rest
	}})
	token := g.Token(apptest.Acme)
	type want struct{ code, path, providerCode, status, failure string }
	for digits, w := range map[string]want{
		"70": {"IMAGE_REJECTED", "input.selfie.image", "20900", "", ""}, "71": {"IMAGE_REJECTED", "input.selfie.image", "20807", "", ""},
		"72": {"PROVIDER_REJECTED", "input.subject.documentNumber", "20507", "", ""}, "73": {"IMAGE_REJECTED", "input.selfie.image", "20506", "", ""},
		"74": {"IMAGE_REJECTED", "input.selfie.image", "20505", "", ""}, "75": {"IMAGE_REJECTED", "input.selfie.image", "20009", "", ""},
		"76": {"PROVIDER_REJECTED", "input.subject.name", "20006", "", ""},
		"77": {"", "", "20003", "PROCESSING", ""}, // we spoke wrongly
		"78": {"", "", "10508", "FAILED", "NEEDS_NEW_CAPTURE"}, "79": {"", "", "10507", "FAILED", "NEEDS_NEW_CAPTURE"},
		"80": {"IMAGE_REJECTED", "input.selfie.image", "10506", "", ""},
		"81": {"", "", "30017", "PROCESSING", ""}, "82": {"", "", "10201", "PROCESSING", ""}, "84": {"", "", "40300", "PROCESSING", ""}, // credentials
		"83": {"", "", "99999", "PROCESSING", ""}, // a 500 may have been taken: AMBIGUOUS
	} {
		t.Run(digits, func(t *testing.T) {
			t.Parallel()
			a := g.Query(token, starting("checkLiveness"), input(magic(digits, 1), newSelfie()))
			const p, e = "checkLiveness.process", "checkLiveness.userErrors.0"
			var path []string
			for i := range 4 {
				if s := a.Str(fmt.Sprintf("%s.path.%d", e, i)); s != "" {
					path = append(path, s)
				}
			}
			got := want{a.Str(e + ".code"), strings.Join(path, "."), a.Str(e + ".providerCode"), a.Str(p + ".status"), a.Str(p + ".failure.code")}
			if got.providerCode == "" {
				got.providerCode = a.Str(p + ".attempts.0.providerCode")
			}
			if got != w || len(a.Errors) > 0 {
				t.Errorf("got %+v, want %+v: %s", got, w, a.Body)
			}
			if digits == "83" && a.Str(p+".attempts.0.outcome") != "AMBIGUOUS" {
				t.Errorf("a 500: %s", a.Body)
			}
		})
	}
}

// Status 5 with a picture is tried again up to three times, each a recorded attempt; with an SDK token never.
func TestProcessingErrors(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	last := func(a apptest.Answer) int { return len(a.Get("process.attempts").([]any)) }
	a := g.Query(token, starting("checkLiveness"), input(magic("60", 1), newSelfie()))
	a = settled(g, token, a.Str("checkLiveness.process.id"))
	if got := summary(a, "process"); got != "FAILED PROVIDER_ERROR" || last(a) != 4 || a.Str("process.attempts.3.outcome") != "REJECTED" ||
		a.Str("process.attempts.3.providerCode") != "STATUS_5" || a.Get("process.failure.retryable") != true {
		t.Errorf("always 5: %s", a.Body)
	}
	a = g.Query(token, starting("checkLiveness"), input(magic("61", 1), newSelfie()))
	a = settled(g, token, a.Str("checkLiveness.process.id"))
	if got := summary(a, "process"); got != "COMPLETED LIVE" || last(a) != 3 || a.Str("process.attempts.2.outcome") != "SUCCEEDED" {
		t.Errorf("5 twice: %s", a.Body)
	}
	a = g.Query(token, starting("checkLiveness"), input(magic("60", 2), sdkToken()))
	a = settled(g, token, a.Str("checkLiveness.process.id"))
	if got := summary(a, "process"); got != "FAILED NEEDS_NEW_CAPTURE" || last(a) != 1 || a.Str("process.failure.nextAction") != "NEW_CAPTURE" {
		t.Errorf("a token: %s", a.Body)
	}
}

// A webhook only makes us ask: dropped, duplicated and out of order, a thousand of them end in the simulator's truth.
func TestProcessWebhooks(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{
		Unico: unicosim.Config{Delay: 50 * time.Millisecond},
		Config: func(c *config.Config) {
			c.Providers.Unico.PollEvery, c.Providers.Unico.MaxConcurrent = 3*time.Second, 64
		},
	})
	token := g.Token(apptest.Acme)
	putFaults(t, g, `[{"operation":"webhook","kind":"drop_webhook","probability":0.1},{"operation":"webhook","kind":"duplicate_webhook","value":4,"probability":0.9},
		{"operation":"webhook","kind":"latency","value":"60ms","probability":0.5}]`)
	const processes = 250
	want := []string{"COMPLETED YES INCONCLUSIVE", "COMPLETED LIVE INCONCLUSIVE 28 INCONCLUSIVE", "FAILED PROVIDER_ERROR", "CANCELED CANCELED"}
	digits := []string{"00", "34", "62", "63"}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := worker; n < processes; n += 8 {
				a := g.Query(token, starting("verifyIdentity"), input(magic(digits[n%4], n), newSelfie()))
				id := a.Str("verifyIdentity.process.id")
				a = settled(g, token, id)
				if got := summary(a, "process"); got != want[n%4] {
					t.Errorf("%s ended as %s, want %s: %s", digits[n%4], got, want[n%4], a.Body)
				}
			}
		})
	}
	wg.Wait()
	truth := make(map[string]int)
	for _, p := range g.Unico.Processes() {
		truth[p.ID] = p.Status
	}
	counts := map[string]int{}
	metrics := g.Metrics()
	for _, outcome := range []string{"accepted", "duplicate", "unknown", "unverified"} {
		counts[outcome] = metricValue(t, metrics, `kycgate_callbacks_total{outcome="`+outcome+`",provider="unico"}`)
	}
	t.Logf("%d processes upstream; webhooks %v", len(truth), counts)
	if counts["accepted"] < processes/2 || counts["duplicate"]+counts["unknown"] < 2*processes || counts["unverified"] > 0 {
		t.Errorf("webhooks %v", counts)
	}
	for _, status := range []string{"PROCESSING", "DIVERGENT"} {
		if n := metricValue(t, metrics, `kycgate_processes_open{kind="IDENTITY_VERIFICATION",provider="unico",status="`+status+`"}`); n != 0 {
			t.Errorf("%d processes are left %s", n, status)
		}
	}
}

// metricValue reads one sample of an exposition.
func metricValue(t *testing.T, metrics, sample string) (n int) {
	t.Helper()
	_, rest, ok := strings.Cut(metrics, "\n"+sample+" ")
	if !ok {
		t.Fatalf("no sample %s", sample)
	}
	if _, err := fmt.Sscanf(rest, "%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// W14: the webhook is there before the answer to our POST is.
func TestWebhookBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	var gateway atomic.Pointer[string]
	var polls, created atomic.Int64
	upstream := http.NewServeMux()
	const id = "80371b2a-3ac7-432e-866d-57fe37896ac6"
	upstream.HandleFunc("POST /unico/oauth2/token", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"access_token":"t","expires_in":3600}`))
	})
	upstream.HandleFunc("POST /unico/processes/v1", func(w http.ResponseWriter, r *http.Request) {
		created.Add(1)
		hook, err := http.NewRequestWithContext(r.Context(), http.MethodPost, *gateway.Load()+"/callbacks/unico", strings.NewReader(`{"processId":"`+id+`","state":"PROCESS_STATE_FINISHED","flow":"id"}`))
		if err != nil {
			t.Error(err)
			return
		}
		name, value, _ := strings.Cut(unicosim.SandboxWebhookAuth, ": ")
		hook.Header.Set(name, value)
		resp, err := http.DefaultClient.Do(hook)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("an early webhook is answered %d: the provider must come again", resp.StatusCode)
		}
		_, _ = w.Write([]byte(`{"id":"` + id + `","status":1}`))
	})
	upstream.HandleFunc("GET /unico/processes/v1/"+id, func(w http.ResponseWriter, _ *http.Request) {
		polls.Add(1)
		_, _ = w.Write([]byte(`{"id":"` + id + `","status":3,"liveness":1}`))
	})
	g := apptest.Start(t, apptest.Options{Upstream: upstream, Config: func(c *config.Config) { c.Providers.Unico.PollEvery = time.Hour }})
	gateway.Store(&g.URL)
	token := g.Token(apptest.Acme)
	a := g.Query(token, starting("checkLiveness"), input(magic("00", 1), newSelfie()))
	if got := summary(a, "checkLiveness.process"); got != "PROCESSING" {
		t.Fatalf("%s", a.Body)
	}
	if got := summary(settled(g, token, a.Str("checkLiveness.process.id")), "process"); got != "COMPLETED LIVE" || polls.Load() != 1 || created.Load() != 1 {
		t.Errorf("%s after %d polls", got, polls.Load())
	}
}

// While the provider is down a capture waits in memory and the process goes on by itself; it is sent once.
func TestProcessOutage(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) {
		c.AnswerWithin, c.Providers.Unico.RetryAfter = 300*time.Millisecond, 50*time.Millisecond
	}})
	token := g.Token(apptest.Acme)
	for name, capture := range map[string]map[string]any{"picture": newSelfie(), "token": sdkToken()} {
		g.Unico.Requests().Clear()
		putFaults(t, g, `[{"operation":"create_process","kind":"rate_limit","value":1,"times":1},{"operation":"token","kind":"status","value":503,"times":2}]`)
		g.Unico.RevokeTokens()
		a := g.Query(token, starting("checkLiveness"), input(magic("00", 1), capture))
		if got := summary(a, "checkLiveness.process"); got != "PROCESSING" || len(a.Errors) > 0 {
			t.Errorf("%s while down: %s", name, a.Body)
		}
		a = settled(g, token, a.Str("checkLiveness.process.id"))
		if got := summary(a, "process"); got != "COMPLETED LIVE" {
			t.Errorf("%s after the outage: %s", name, a.Body)
		}
	}
	if captures, most := g.Unico.Arrivals(); captures != 2 || most != 1 {
		t.Errorf("%d captures, one of them %d times", captures, most)
	}
}

// After a restart there is no capture left: what never arrived, and what may have, asks for a new one.
func TestProcessRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short := func(c *config.Config) {
		c.AnswerWithin, c.Providers.Unico.HoldAmbiguous, c.Providers.Unico.RetryAfter = 300*time.Millisecond, 800*time.Millisecond, 2*time.Second
	}
	g := apptest.Start(t, apptest.Options{Dir: dir, Config: short})
	token := g.Token(apptest.Acme)
	putFaults(t, g, `[{"operation":"create_process","kind":"rate_limit","value":3600,"times":1}]`)
	waiting := g.Query(token, starting("checkLiveness"), input(magic("00", 1), newSelfie()))
	if got := summary(waiting, "checkLiveness.process"); got != "PROCESSING" {
		t.Fatalf("%s", waiting.Body)
	}
	g.Stop()
	g = apptest.Start(t, apptest.Options{Dir: dir, Config: short})
	token = g.Token(apptest.Acme)
	a := settled(g, token, waiting.Str("checkLiveness.process.id"))
	if got := summary(a, "process"); got != "FAILED NEEDS_NEW_CAPTURE" || a.Str("process.failure.nextAction") != "NEW_CAPTURE" {
		t.Errorf("%s", a.Body)
	}
	if n := g.Unico.Requests().Count(unicosim.OpCreateProcess); n != 0 {
		t.Errorf("%d creations after the restart", n)
	}

	putFaults(t, g, `[{"operation":"create_process","kind":"act_then_reset","times":1}]`)
	a = g.Query(token, starting("checkLiveness"), input(magic("00", 2), sdkToken()))
	if got := summary(a, "checkLiveness.process"); got != "PROCESSING" || a.Str("checkLiveness.process.attempts.0.outcome") != "AMBIGUOUS" {
		t.Errorf("an answer that got lost: %s", a.Body)
	}
	a = settled(g, token, a.Str("checkLiveness.process.id"))
	if got := summary(a, "process"); got != "FAILED NEEDS_NEW_CAPTURE" {
		t.Errorf("%s", a.Body)
	}
	// A reuse has no capture; nobody can say what became of it, and it is not sent again either.
	cpf := magic("00", 3)
	docs := g.Query(token, `query($d: String!) { reusableDocuments(documentNumber: $d) { documentId } }`, map[string]any{"d": cpf})
	putFaults(t, g, `[{"operation":"create_process","kind":"act_then_reset","times":1}]`)
	a = g.Query(token, starting("captureDocument"), input(cpf, nil, "selfie", nil, "purpose", "FGTS", "reusableDocumentId", docs.Str("reusableDocuments.0.documentId")))
	a = settled(g, token, a.Str("captureDocument.process.id"))
	if got := summary(a, "process"); got != "FAILED OUTCOME_UNKNOWN" {
		t.Errorf("%s", a.Body)
	}
}

// refreshProcess asks now; a provider that is down leaves the process as it was.
func TestRefreshProcess(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Config: func(c *config.Config) { c.Providers.Unico.PollEvery = time.Hour }})
	token := g.Token(apptest.Acme)
	const refresh = `mutation R($id: ID!) { refreshProcess(id: $id) { process { status version } userErrors { code } } }`
	a := g.Query(token, starting("checkLiveness"), input(magic("36", 1), newSelfie()))
	id, theirs := a.Str("checkLiveness.process.id"), a.Str("checkLiveness.process.providerProcessId")
	if a = g.Query(token, refresh, map[string]any{"id": id}); a.Str("refreshProcess.process.status") != "PROCESSING" {
		t.Errorf("still open: %s", a.Body)
	}
	putFaults(t, g, `[{"operation":"fetch_process","kind":"status","value":503}]`)
	if a = g.Query(token, refresh, map[string]any{"id": id}); a.Str("refreshProcess.process.status") != "PROCESSING" || len(a.Errors) > 0 {
		t.Errorf("down: %s", a.Body)
	}
	putFaults(t, g, `[]`)
	if err := g.Unico.Settle(theirs, 3); err != nil {
		t.Fatal(err)
	}
	if a = g.Query(token, refresh, map[string]any{"id": id}); a.Str("refreshProcess.process.status") != "COMPLETED" {
		t.Errorf("settled: %s", a.Body)
	}
	if a = g.Query(g.Token(apptest.Rival), refresh, map[string]any{"id": id}); a.Str("refreshProcess.userErrors.0.code") != "NOT_FOUND" {
		t.Errorf("another partner: %s", a.Body)
	}
	if n := metricValue(t, g.Metrics(), `kycgate_jobs_due{kind="process"}`); n != 0 {
		t.Errorf("%d jobs are left", n)
	}
}

// What is captured touches no disk and no log, in whatever form.
func TestCapturesAreNotKept(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.AnswerWithin = 300 * time.Millisecond }})
	token := g.Token(apptest.Acme)
	const mark = "MARKOFTHISSELFIE"
	picture := marked(mark)
	sdk := unicosim.SDKToken(time.Now())
	for _, fault := range []string{`[]`, `[{"operation":"create_process","kind":"act_then_reset"}]`, `[{"operation":"create_process","kind":"rate_limit","value":1}]`, `[{"operation":"create_process","kind":"status","value":400}]`} {
		putFaults(t, g, fault)
		g.Query(token, starting("checkLiveness"), input(magic("00", 1), map[string]any{"image": base64.StdEncoding.EncodeToString(picture)}, "idempotencyKey", "k"+fault[len(fault)/2:]))
		g.Query(token, starting("checkLiveness"), input(magic("00", 1), map[string]any{"sdkToken": sdk}))
		files := []any{base64.StdEncoding.EncodeToString(picture)}
		g.Query(token, starting("captureDocument"), input(magic("00", 1), nil, "selfie", nil, "purpose", "FGTS", "files", files))
		body, err := json.Marshal(map[string]any{"query": starting("checkLiveness"), "variables": input(magic("00", 1), map[string]any{"image": string(picture)})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Raw(t.Context(), token, body[:len(body)-1]); err != nil { // malformed, and the mark in the clear
			t.Fatal(err)
		}
	}
	g.Stop()
	text := base64.StdEncoding.EncodeToString(picture)
	at := bytes.Index(picture, []byte(mark))
	markers := []string{mark, text[(at+2)/3*4 : (at+14)/3*4], sdk[40:80], strings.Split(sdk, ".")[1]}
	look := func(name string, data []byte) {
		for _, m := range markers {
			if bytes.Contains(data, []byte(m)) {
				t.Errorf("%s holds a capture (%.12s…)", name, m)
			}
		}
	}
	look("the log", []byte(g.Logs.String()))
	files := 0
	err := filepath.WalkDir(g.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		look(path, data)
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

// Each picture that may not be sent has its own reason, and none of them reaches the provider.
func TestRefusedPictures(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	encode := base64.StdEncoding.EncodeToString
	big := append(bytes.Clone(plainSelfie()[:2]), append(comment(60_000), plainSelfie()[2:]...)...)
	for range 14 {
		big = append(bytes.Clone(big[:2]), append(comment(60_000), big[2:]...)...)
	}
	small := func() []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 639, 480)), nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}()
	seen := make(map[string]string)
	for name, picture := range map[string]string{
		"truncated": encode(plainSelfie()[:len(plainSelfie())/2]), "gif": encode([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02")),
		"svg": encode([]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)), "too many bytes": encode(big), "data url": "data:image/jpeg;base64," + encode(plainSelfie()),
		"too small": encode(small), "not base64": "%%%%",
	} {
		a := g.Query(token, starting("checkLiveness"), input(magic("00", 1), map[string]any{"image": picture}))
		const e = "checkLiveness.userErrors.0"
		message := a.Str(e + ".message")
		if a.Str(e+".code") != "IMAGE_REJECTED" || a.Str(e+".path.2") != "image" || message == "" || seen[message] != "" {
			t.Errorf("%s: %s (the message of %s)", name, a.Body, seen[message])
		}
		seen[message] = name
	}
	if n := g.Unico.Requests().Count(unicosim.OpCreateProcess); n != 0 {
		t.Errorf("%d of them reached the provider", n)
	}
}

// comment is a JPEG segment that holds nothing of the picture.
func comment(n int) []byte {
	return append([]byte{0xff, 0xfe, byte((n + 2) >> 8), byte(n + 2)}, make([]byte, n)...)
}

func putFaults(t *testing.T, g *apptest.Gateway, faults string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, g.SimURL+"/unico/faults", strings.NewReader(faults))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("faults: %d", resp.StatusCode)
	}
}

// processesEnv is how many processes TestKillNineProcesses creates; 2000 is the full size.
const processesEnv = "KYCGATE_TEST_PROCESSES"

// R5, R7: an upstream that acts and then resets, hangs or truncates, with kills in between: no capture arrives twice,
// every process ends, and what cannot be known is AMBIGUOUS in the ledger.
func TestKillNineProcesses(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Unico: unicosim.Config{Delay: 20 * time.Millisecond}}) // for its simulator and tokens
	token := g.Token(apptest.Acme)
	dir := t.TempDir()
	file := filepath.Join(dir, "kycgate.yaml")
	key := filepath.Join(dir, "unico.pem")
	yaml := fmt.Sprintf(`
environment: sandbox
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
public_url: http://127.0.0.1:1
answer_within: 300ms
database: {url: "sqlite://%[1]s/killed.db"}
auth: {issuer: %[2]q, audience: kycgate, jwks_file: %[3]q}
providers:
  unico:
    {base_url: "%[4]s/unico", token_url: "%[4]s/unico/oauth2/token", audience: "%[4]s", service_account: %[5]s, tenant_id: %[6]s, private_key_file: %[7]q,
     api_keys: [{key: %[8]s, capabilities: [LIVENESS]}], hold_ambiguous: 1s, poll_every: 120ms, retry_after: 20ms, timeout: 400ms, rate_per_second: 0,
     max_concurrent: 32, breaker: {open_for: 50ms}}
partners: [{id: acme, source_kyc: openco}]
`, dir, g.Config.Auth.Issuer, g.Config.Auth.JWKSFile, g.SimURL, unicosim.SandboxServiceAccount, unicosim.SandboxTenantID, key, unicosim.KeyLiveness)
	if err := errors.Join(os.WriteFile(file, []byte(yaml), 0o600), os.WriteFile(key, unicosim.PrivateKeyPEM(), 0o600)); err != nil {
		t.Fatal(err)
	}
	putFaults(t, g, `[{"operation":"create_process","kind":"act_then_reset","probability":0.1},{"operation":"create_process","kind":"truncate","probability":0.1},
		{"operation":"create_process","kind":"act_then_hang","probability":0.1}]`)

	var mu sync.Mutex
	answered := make(map[string]bool)
	const rounds = 6
	creations := size(processesEnv, 600)
	var serial atomic.Int64
	for round := range rounds {
		child := startChild(t, file)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		until := int64(creations * (round + 1) / rounds)
		for range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					n := serial.Add(1)
					if n > until {
						return
					}
					capture := newSelfie()
					if n%2 == 0 {
						capture = sdkToken()
					}
					in := input(magic([]string{"00", "10", "36"}[n%3], int(n)), capture)
					a, err := child.do(ctx, token, `mutation M($input: CheckLivenessInput!) { checkLiveness(input: $input) { process { id } userErrors { code } } }`, in)
					if err != nil {
						return // killed: nothing was answered
					}
					id := a.Str("checkLiveness.process.id")
					if id == "" {
						t.Errorf("%s", a.Body)
						return
					}
					mu.Lock()
					answered[id] = true
					mu.Unlock()
				}
			})
		}
		if round < rounds-1 {
			moment := until - int64(rand.IntN(100)) // with others under way
			apptest.Until(t, func() bool { return serial.Load() >= moment }, func() string { return fmt.Sprint(serial.Load()) })
			child.kill()
			cancel()
		}
		wg.Wait()
		cancel()
		if round == rounds-1 {
			defer child.kill()
			var a apptest.Answer
			apptest.Until(t, func() bool {
				// What would stay open for ever by itself; each time, because a creation may still be on its way.
				for _, p := range g.Unico.Processes() {
					if p.Status == 1 {
						_ = g.Unico.Settle(p.ID, 3) // it may have ended meanwhile
					}
				}
				var err error
				a, err = child.do(t.Context(), token, `{ p: processes(filter: {status: PROCESSING}) { totalCount } d: processes(filter: {status: DIVERGENT}) { totalCount } all: processes { totalCount }
					c: processes(filter: {status: COMPLETED}) { totalCount } }`, nil)
				return err == nil && a.Get("p.totalCount") == 0.0 && a.Get("d.totalCount") == 0.0
			}, func() string { return string(a.Body) })
			captures, most := g.Unico.Arrivals()
			t.Logf("%d kills, %d answered, %v processes of which %v completed; %d captures upstream, one at most %d times", rounds-1, len(answered), a.Get("all.totalCount"), a.Get("c.totalCount"), captures, most)
			if most > 1 {
				t.Errorf("a capture arrived %d times", most)
			}
			if all, _ := a.Get("all.totalCount").(float64); int(all) < len(answered) || captures < creations/2 {
				t.Errorf("%v processes for %d answers and %d captures", all, len(answered), captures)
			}
		}
	}
}

// Five hundred processes to poll and somebody who waits: never more than ten requests in one second at the upstream, and
// the callers get on. That they are not delayed is held by TestLanePrefersWhoWaits, where time is exact; here it is told.
func TestPollsLeaveRoomForWhoWaits(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Config: func(c *config.Config) {
		c.Providers.Unico.PollEvery, c.Providers.Unico.MaxConcurrent = time.Hour, 64
	}})
	token := g.Token(apptest.Acme)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for n := worker; n < 500; n += 16 {
				g.Query(token, starting("checkLiveness"), input(magic("36", n), newSelfie()))
			}
		})
	}
	wg.Wait()
	idle := latencies(t, g)
	g.Stop()

	// The same database and upstream, now within the contract's budget, and everything is due soon.
	requests := g.Unico.Requests()
	requests.Clear()
	var due []string
	for _, p := range g.Unico.Processes() {
		due = append(due, p.ID)
	}
	busy := apptest.Start(t, apptest.Options{Dir: g.Dir, NoWebhooks: true, Upstream: simulator.New(g.Sim, g.Unico), Config: func(c *config.Config) {
		c.Providers.Unico.RatePerSecond, c.Providers.Unico.PollEvery = 10, 6*time.Second
	}})
	hint(t, busy, due)
	loaded := latencies(t, busy)
	var at []time.Time
	for _, r := range requests.Summary().Requests {
		if r.Operation == unicosim.OpCreateProcess || r.Operation == unicosim.OpFetchProcess {
			at = append(at, r.At)
		}
	}
	most := 0
	for i := range at {
		n := i
		for n < len(at) && at[n].Sub(at[i]) < time.Second {
			n++
		}
		most = max(most, n-i)
	}
	polls := requests.Count(unicosim.OpFetchProcess)
	t.Logf("idle: median %v, slowest %v; with 500 to poll: median %v, slowest %v; %d polls, at most %d requests in one second",
		middle(idle), slices.Max(idle), middle(loaded), slices.Max(loaded), polls, most)
	if most > 11 { // one more may bunch up on a machine that stalls; departures are exact, see TestRateBudget
		t.Errorf("%d requests in one second", most)
	}
	if polls < 20 {
		t.Errorf("only %d polls: the test proves little", polls)
	}
}

// hint sends the webhook of each process, which makes its job due.
func hint(t *testing.T, g *apptest.Gateway, ids []string) {
	t.Helper()
	name, value, _ := strings.Cut(unicosim.SandboxWebhookAuth, ": ")
	for _, id := range ids {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/callbacks/unico", strings.NewReader(`{"processId":"`+id+`","state":"PROCESS_STATE_FINISHED"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(name, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("webhook: %d", resp.StatusCode)
		}
	}
}

// latencies starts three processes a second, for five seconds.
func latencies(t *testing.T, g *apptest.Gateway) (took []time.Duration) {
	t.Helper()
	token := g.Token(apptest.Acme)
	ticker := time.NewTicker(333 * time.Millisecond)
	defer ticker.Stop()
	for i := range 15 {
		start := time.Now()
		if a := g.Query(token, starting("checkLiveness"), input(magic("00", 1000+i), newSelfie())); a.Str("checkLiveness.process.status") != "COMPLETED" {
			t.Errorf("%s", a.Body)
		}
		took = append(took, time.Since(start))
		<-ticker.C
	}
	return took
}

func middle(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
