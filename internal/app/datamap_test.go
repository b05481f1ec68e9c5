package app_test

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
)

// What the data map says a provider receives is what the provider receives: a person with a value of its own in every
// field is registered, and the body that arrives is searched.
func TestDataMapTellsWhatIsSent(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 4)
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case bodies <- body:
		default:
		}
		_, _ = io.WriteString(w, `{"analysis_status":"automatically_approved","natural_person_key":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff"}`)
	})})
	const cpf = "52998224725"
	input := apptest.Input(cpf, "Externo-Zq", map[string]any{
		"name": "Nomeada Zq", "birthdate": "1971-03-09", "gender": "FEMALE", "nationality": "PRT", "monthlyIncome": 7654321, "occupation": "Oficio-Zq", "motherName": "Mae Zq", "fatherName": "Pai Zq",
		"faceRecognitionId": "7b1c1f0e-0c3b-4c52-8d6c-7a6f3c2b1a01", "sessionId": "7b1c1f0e-0c3b-4c52-8d6c-7a6f3c2b1a02", "ipAddress": "203.0.113.77", "deviceFingerprint": "Aparelho-Zq",
		"emails": []any{map[string]any{"address": "correio-zq@example.com"}}, "phones": []any{map[string]any{"number": "+5511912345678"}},
		"address": map[string]any{"street": "Rua-Zq", "number": "N-77", "complement": "Compl-Zq", "neighborhood": "Bairro-Zq", "city": "Cidade-Zq", "state": "AC", "postalCode": "69900-077", "country": "BRA"},
	})
	if a := g.Query(g.Token(apptest.Acme), apptest.Register, input); a.Str("registerPerson.person.id") == "" {
		t.Fatalf("%s", a.Body)
	}
	sent := string(<-bodies)
	// How each value looks on the wire.
	wire := map[string]string{
		"RegisterPersonInput.externalId": "Externo-Zq", "RegisterPersonInput.name": "Nomeada Zq", "RegisterPersonInput.documentNumber": "529.982.247-25", "RegisterPersonInput.birthdate": "1971-03-09",
		"RegisterPersonInput.gender": `"female"`, "RegisterPersonInput.nationality": "PRT", "RegisterPersonInput.monthlyIncome": "7654321", "RegisterPersonInput.occupation": "Oficio-Zq",
		"RegisterPersonInput.motherName": "Mae Zq", "RegisterPersonInput.fatherName": "Pai Zq", "RegisterPersonInput.faceRecognitionId": "7a6f3c2b1a01", "RegisterPersonInput.sessionId": "7a6f3c2b1a02",
		"RegisterPersonInput.ipAddress": "203.0.113.77", "RegisterPersonInput.deviceFingerprint": "Aparelho-Zq", "EmailInput.address": "correio-zq@example.com", "PhoneInput.number": "912345678",
		"AddressInput.street": "Rua-Zq", "AddressInput.number": "N-77", "AddressInput.complement": "Compl-Zq", "AddressInput.neighborhood": "Bairro-Zq", "AddressInput.city": "Cidade-Zq", "AddressInput.state": `"AC"`,
		"AddressInput.postalCode": "69900-077", "AddressInput.country": `"BRA"`,
	}
	var text bytes.Buffer
	if err := app.DataMap(&text); err != nil {
		t.Fatal(err)
	}
	_, received, _ := strings.Cut(text.String(), "## Received")
	said := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:RegisterPerson|Email|Phone|Address)Input\\.\\w+)` \\|(.*)$").FindAllStringSubmatch(received, -1) {
		canary, known := wire[m[1]]
		if !known {
			t.Errorf("%s is not in this test", m[1])
			continue
		}
		said[m[1]] = true
		if says, is := strings.Contains(m[2], "QI Tech"), strings.Contains(sent, canary); says != is {
			t.Errorf("%s: the map says sent %v, and it is %v", m[1], says, is)
		}
	}
	if len(said) != len(wire) {
		t.Errorf("%d of %d fields are in the map", len(said), len(wire))
	}
}
