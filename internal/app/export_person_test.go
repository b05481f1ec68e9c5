package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

// Everything that was ever told about a person, decided or reported is in the export, in both of its forms, and
// nothing of anybody else.
func TestExportHoldsEverything(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Sim: qitechsim.Config{ManualDelay: 20 * time.Millisecond}})
	token := g.Token(apptest.Acme)
	full := func(n int, cpf string) (canaries []string) {
		c := func(what string) string {
			s := fmt.Sprintf("%s-Zq%d", what, n)
			canaries = append(canaries, s)
			return s
		}
		amount, face, session := 7000000+n, fmt.Sprintf("7b1c1f0e-0c3b-4c52-8d6c-7a6f3c2b1a%02d", n), fmt.Sprintf("7b1c1f0e-0c3b-4c52-8d6c-7a6f3c2b1b%02d", n)
		canaries = append(canaries, fmt.Sprint(amount), face, session, cpf, fmt.Sprintf("203.0.113.%d", n), fmt.Sprintf("+55119123456%02d", n))
		input := apptest.Input(cpf, c("Externo"), map[string]any{
			"name": c("Nome"), "birthdate": "1971-03-09", "gender": "FEMALE", "nationality": "PRT", "monthlyIncome": amount, "occupation": c("Oficio"), "motherName": c("Mae"), "fatherName": c("Pai"),
			"faceRecognitionId": face, "sessionId": session, "ipAddress": fmt.Sprintf("203.0.113.%d", n), "deviceFingerprint": c("Aparelho"),
			"emails": []any{map[string]any{"address": c("um") + "@example.com"}, map[string]any{"address": c("dois") + "@example.com"}}, "phones": []any{map[string]any{"number": fmt.Sprintf("+55119123456%02d", n)}},
			"address":        map[string]any{"street": c("Rua"), "number": c("N"), "complement": c("Compl"), "neighborhood": c("Bairro"), "city": c("Cidade"), "state": "AC", "postalCode": "69900-077", "country": "BRA"},
			"idempotencyKey": c("Chave"),
		})
		if a := g.Query(token, apptest.Register, input); a.Str("registerPerson.person.id") == "" {
			t.Fatalf("%s", a.Body)
		}
		return canaries
	}
	cpf := apptest.CPF(6, 4711) // reviewed by hand and approved, so that a webhook comes
	mine := append(full(11, cpf), full(12, cpf)...)
	foreign := full(13, apptest.CPF(6, 4712))
	person := g.Eventually(token, `query($d: String!) { personByDocument(documentNumber: $d) { id kyc { status } } }`, map[string]any{"d": cpf}, func(a apptest.Answer) bool {
		return a.Str("personByDocument.kyc.status") == "APPROVED"
	})
	id := person.Str("personByDocument.id")
	start := time.Now()
	a := g.Query(g.Token(apptest.Acme, kyc.Admin, kyc.PIIRead), `mutation($id: ID!) { exportPerson(personId: $id) { export { json document } userErrors { code } } }`, map[string]any{"id": id})
	t.Logf("exported in %v", time.Since(start))
	data, ok := a.Get("exportPerson.export.json").(map[string]any)
	if !ok {
		t.Fatalf("%s", a.Body)
	}
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	unescape := strings.NewReplacer(`\`, ``)
	for form, s := range map[string]string{"JSON": string(text), "document": unescape.Replace(a.Str("exportPerson.export.document"))} {
		for _, canary := range append(mine, "APPROVED", "analyze_person", "SUCCEEDED", "FEMALE", "PRT", "1971-03-09") {
			if !strings.Contains(s, canary) {
				t.Errorf("the %s has no %s", form, canary)
			}
		}
		for _, canary := range foreign {
			if strings.Contains(s, canary) {
				t.Errorf("the %s has somebody else's %s", form, canary)
			}
		}
		if strings.Contains(s, "[REDACTED]") {
			t.Errorf("the %s has something redacted", form)
		}
	}
	for section, least := range map[string]int{"registrations": 2, "analyses": 2, "calls": 2, "callbacks": 1, "requests": 2, "externalIds": 2, "audit": 5} {
		if list, _ := data[section].([]any); len(list) < least {
			t.Errorf("%s has %d items, want at least %d", section, len(list), least)
		}
	}
	// Every decision, with the ids the rest names it by.
	for i := range 2 {
		analysis := a.Str(fmt.Sprintf("exportPerson.export.json.analyses.%d.id", i))
		if !strings.HasPrefix(analysis, "ana_") || a.Str(fmt.Sprintf("exportPerson.export.json.calls.%d.reference", i)) != analysis {
			t.Errorf("decision %d: %s", i, analysis)
		}
	}
	if strings.Contains(g.Logs.String(), "Zq1") {
		t.Error("the log has personal data in it")
	}
	verifyAudit(t, g)
}
