package app_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/store"
)

// leakEnv is how many requests TestNothingLeaks makes; 10000 is the full size.
const leakEnv = "KYCGATE_TEST_REQUESTS"

// TestNothingLeaks (M01, M05): after many mixed requests, with a provider that fails in every way, no marker is in database, log of the
// database, backup, logs, metrics or the list of erasures, in UTF-8, UTF-16, hex, base64 or gzip. Every answer of a request that must
// not repeat what it was sent is looked at too.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	requests := size(leakEnv, 1500)
	dir := t.TempDir()
	g := apptest.Start(t, apptest.Options{Dir: dir, Config: func(c *config.Config) { c.AnswerWithin = 50 * time.Millisecond }})
	putFault(t, g, `[{"operation":"analyze_person","kind":"status","value":503,"probability":0.1},{"operation":"analyze_person","kind":"reset","probability":0.1},
		{"operation":"analyze_person","kind":"truncate","probability":0.1},{"operation":"analyze_person","kind":"act_then_reset","probability":0.1},
		{"operation":"register_face","kind":"act_then_reset","probability":0.2},{"operation":"fetch_face_by_document","kind":"status","value":503,"probability":0.2},
		{"operation":"fetch_person_analysis","kind":"status","value":500,"probability":0.2},{"operation":"analyze_person","kind":"latency","value":"60ms","probability":0.1}]`)

	// Sixty persons of every magic; twelve requests in a row are about one of them.
	cpf := func(i int) string { return apptest.CPF([]int{9, 8, 0, 6, 5, 7}[i/12%6], 83_746_150+i/72%10) }
	formatted := func(s string) string { return s[:3] + "." + s[3:6] + "." + s[6:9] + "-" + s[9:] }
	markers := []string{
		"Zulmira Quintanilha", "Xantipa Vasconcelos", "zulmira.quintanilha@marker.example", "+5585987604321", "85987604321", "Rua Ipirapitinga Azul",
		"1987-06-15", "faroleira de ilha", "marker-fingerprint-77", "203.0.113.77", "7654321", "marker-external",
		gps, selfie(77)[:32], "image/jpeg;base64",
	}
	for i := range 60 {
		markers = append(markers, cpf(12*i), formatted(cpf(12*i)))
	}
	person := func(i int) map[string]any {
		input := apptest.Input(cpf(i), fmt.Sprint("marker-external-", i), map[string]any{
			"name": "Zulmira Quintanilha", "motherName": "Xantipa Vasconcelos", "birthdate": "1987-06-15", "occupation": "faroleira de ilha",
			"emails": []any{map[string]any{"address": "zulmira.quintanilha@marker.example"}}, "phones": []any{map[string]any{"number": "+5585987604321"}},
			"monthlyIncome": 7654321, "deviceFingerprint": "marker-fingerprint-77", "ipAddress": "203.0.113.77",
			"address": map[string]any{"street": "Rua Ipirapitinga Azul", "city": "Fortaleza", "state": "CE", "postalCode": "60000-000", "country": "BRA"},
		})
		if i%3 == 0 {
			input["input"].(map[string]any)["documentNumber"] = formatted(cpf(i))
		}
		return input
	}
	all, masked := g.Token(apptest.Acme), g.Token(apptest.Acme, "persons:read", "persons:write")
	quiet := func(what string, a apptest.Answer, err error) {
		if err != nil {
			return // the answer was not whole; what matters is what stays
		}
		for _, m := range markers {
			if m != "marker-external" && bytes.Contains(a.Body, []byte(m)) { // ids are never masked
				t.Errorf("%s answers %q: %.300s", what, m, a.Body)
				return
			}
		}
	}
	ask := func(i int) {
		ctx := t.Context()
		switch c := formatted(cpf(i)); i % 12 {
		case 3: // a picture that is good, one that is cut, one that is refused, and text where there should be one
			picture := []string{selfie(77), selfie(77)[:64], selfie(qitechsim.MagicWidth("no_faces")), "data:image/jpeg;base64," + c, selfie(77)}[i/12%5]
			a, err := g.Do(ctx, masked, registerFace, face(c, "image", picture, "idempotencyKey", fmt.Sprint(c, " ", i)))
			quiet("registerFace", a, err)
			a, err = g.Do(ctx, masked, faceByDoc, map[string]any{"d": c})
			quiet("faceRegistrationByDocument", a, err)
		case 0, 1, 2:
			a, err := g.Do(ctx, masked, apptest.Register, person(i))
			quiet("registerPerson", a, err)
		case 4: // everything wrong
			in := person(i)
			for _, k := range []string{"documentNumber", "birthdate", "ipAddress", "idempotencyKey", "nationality", "faceRecognitionId"} {
				in["input"].(map[string]any)[k] = "Zulmira Quintanilha " + c
			}
			a, err := g.Do(ctx, all, apptest.Register, in)
			quiet("a refusal", a, err)
		case 5: // of the wrong kind
			in := person(i)
			in["input"].(map[string]any)["emails"] = map[string]any{"Zulmira Quintanilha": c}
			in["input"].(map[string]any)[c] = c
			a, err := g.Do(ctx, all, apptest.Register, in)
			quiet("a wrong kind", a, err)
		case 6:
			a, err := g.Raw(ctx, all, []byte(`{"query":"{ viewer { partner } }","variables":{"cpf":"`+c+`","name":"Zulmira Quintanilha`))
			quiet("malformed JSON", a, err)
		case 7:
			a, err := g.Raw(ctx, all, []byte(`{"query":"query { personByDocument(documentNumber: \"`+c+`\") { id } `+cpf(i)+` }"}`))
			quiet("a document that does not parse", a, err)
		case 8:
			a, err := g.Do(ctx, masked, `query P($c: String!) { personByDocument(documentNumber: $c) { name documentNumber birthdate emails { address } phones { number } address { street } } }`, map[string]any{"c": c})
			quiet("a masked person", a, err)
		case 9:
			_, _ = g.Do(ctx, all, `query P($c: String!) { personByDocument(documentNumber: $c) { name documentNumber registrations { nodes { payload } } } }`, map[string]any{"c": cpf(i)})
		case 10:
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/callbacks/qitech", strings.NewReader(`{"natural_person_id":"`+c+`","reason":"Zulmira Quintanilha"}`))
			req.Header.Set("Signature", "00")
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
			req, _ = http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/graphql?query={"+cpf(i)+"}&name=Zulmira%20Quintanilha", nil)
			req.Header.Set("X-Person", c)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		case 11:
			a, err := g.Do(ctx, all, `query P($c: String!) { personByDocument(documentNumber: $c) { id } }`, map[string]any{"c": c})
			if id := a.Str("personByDocument.id"); err == nil && id != "" && rand.IntN(4) == 0 {
				_, _ = g.Do(ctx, all, erase, map[string]any{"id": id})
			}
		}
	}
	work := make(chan int)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range work {
				ask(i)
			}
		})
	}
	for i := range requests {
		work <- i
	}
	close(work)
	workers.Wait()

	metrics, wal := g.Metrics(), read(t, filepath.Join(dir, "kycgate.db-wal"))
	places := map[string][]byte{"metrics": []byte(metrics), "the log of the database": wal}
	g.Stop()
	places["logs"] = []byte(g.Logs.String())
	places["database"] = read(t, filepath.Join(dir, "kycgate.db"))
	places["the list of erasures"] = read(t, filepath.Join(dir, "kycgate-sandbox-keyset.json.erasures"))
	keys, err := vault.Open(filepath.Join(dir, "kycgate-sandbox-keyset.json"), vault.Sandbox())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "kycgate.db"), Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "backup.db")
	if err := s.Backup(context.Background(), backup); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	places["backup"] = read(t, backup)
	total := 0
	for place, data := range places {
		total += len(data)
		for _, hit := range leaks(data, markers) {
			t.Errorf("%s: %s", place, hit)
		}
	}
	if n := len(places["database"]) + len(wal); n < 200_000 || len(places["logs"]) < 50_000 || len(places["the list of erasures"]) == 0 {
		t.Errorf("%d bytes of database, %d of logs, %d of erasures: the test looks at less than it should", n, len(places["logs"]), len(places["the list of erasures"]))
	}
	t.Logf("%d requests, %d markers, %d bytes looked at", requests, len(markers), total)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leaks looks for the markers in every form they might have.
func leaks(data []byte, markers []string) (hits []string) {
	search := func(form string, in []byte, encode func(string) [][]byte) {
		for _, m := range markers {
			for _, e := range encode(m) {
				if bytes.Contains(in, e) {
					hits = append(hits, m+" in "+form)
					break
				}
			}
		}
	}
	plain := func(m string) [][]byte { return [][]byte{[]byte(m)} }
	search("UTF-8", data, plain)
	search("UTF-16", data, func(m string) [][]byte {
		var le, be []byte
		for _, u := range utf16.Encode([]rune(m)) {
			le, be = binary.LittleEndian.AppendUint16(le, u), binary.BigEndian.AppendUint16(be, u)
		}
		return [][]byte{le, be}
	})
	search("hex", bytes.ToLower(data), func(m string) [][]byte { return [][]byte{[]byte(hex.EncodeToString([]byte(m)))} })
	search("base64", data, func(m string) (forms [][]byte) {
		// Where it begins within three bytes decides what it looks like; the first and last characters depend on what is around it.
		for shift := range 3 {
			b := base64.StdEncoding.EncodeToString(append(make([]byte, shift), m...))
			core := strings.TrimRight(b, "=")
			if shift > 0 {
				core = core[4:]
			}
			if len(core) > 2 {
				core = core[:len(core)-2]
			}
			if len(core) >= 8 {
				forms = append(forms, []byte(core), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(core)))
			}
		}
		return forms
	})
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte{0x1f, 0x8b, 8})
		if i < 0 {
			return hits
		}
		at += i
		if z, err := gzip.NewReader(bytes.NewReader(data[at:])); err == nil {
			inflated, _ := io.ReadAll(io.LimitReader(z, 1<<20))
			search("gzip", inflated, plain)
		}
		at++
	}
}

// TestLeaksAreFound: the search finds what it looks for.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	const marker = "Zulmira Quintanilha"
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte("a " + marker + " b"))
	_ = z.Close()
	for form, text := range map[string]string{
		"UTF-8": marker, "hex": strings.ToUpper(hex.EncodeToString([]byte(marker))), "gzip": zipped.String(),
		"UTF-16": string(utf16le(marker)), "base64": base64.StdEncoding.EncodeToString([]byte("xx" + marker + "yyy")), "base64 of a URL": base64.RawURLEncoding.EncodeToString([]byte("x" + marker)),
	} {
		if hits := leaks([]byte("before "+text+" after"), []string{marker, "Nobody Else"}); len(hits) != 1 {
			t.Errorf("%s: %v", form, hits)
		}
	}
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
