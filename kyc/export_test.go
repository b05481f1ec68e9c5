package kyc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestExportName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"ID": "id", "ExternalID": "externalId", "IPAddress": "ipAddress", "PersonID": "personId", "Name": "name", "KycStatus": "kycStatus", "FaceRecognitionID": "faceRecognitionId", "JSON": "json"} {
		if got := exportName(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// A value in the readable document is read as itself, whatever it is made of.
func TestExportDocumentEscapes(t *testing.T) {
	t.Parallel()
	type noun struct {
		Name    Name
		Raw     JSON
		Nothing *string
		Numbers []int
		At      time.Time
	}
	d := exportDocument{createdAt: testNow, person: NewPersonID(), partner: "acme", sections: []exportedSection{
		{"nouns", "Nouns", reveal([]noun{{Name: NewName("# Maria\n- [x](http://x) <b>|`"), Raw: JSON("{\"a\":\"```\"}"), Numbers: []int{1, 2}, At: testNow}})},
		{"none", "None", reveal([]noun{})},
	}}
	got := d.markdown()
	for _, want := range []string{"1. - name: \\# Maria - \\[x\\](http://x) \\<b\\>\\|\\`\n", "````json", "   - numbers: 1, 2\n", "   - at: 2026-11-24T12:00:00Z\n", "## None\n\nNothing.\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "nothing:") {
		t.Errorf("what is missing is listed:\n%s", got)
	}
	text, err := d.json()
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Nouns []struct {
			Name    string
			Raw     map[string]string
			Nothing *string
			Numbers []int
		}
		None []any
	}
	if err := json.Unmarshal(text, &back); err != nil || back.Nouns[0].Name != "# Maria\n- [x](http://x) <b>|`" || back.Nouns[0].Raw["a"] != "```" || len(back.Nouns[0].Numbers) != 2 || back.None == nil {
		t.Errorf("%v: %s", err, []byte(text))
	}
}
