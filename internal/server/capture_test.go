package server

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/kyc"
)

const (
	captureQuery = "mutation F($input:RegisterFaceInput!){registerFace(input:$input){person{id}}}"
	otherQuery   = "mutation($input:RegisterPersonInput!){registerPerson(input:$input){person{id}}}"
)

// picture is variables of about n bytes.
func picture(n int) string {
	return `{"input":{"documentNumber":"` + canary + `","selfie":{"image":"` + strings.Repeat("A", n) + `"}}}`
}

func ordered(members ...string) string { return "{" + strings.Join(members, ",") + "}" }

func member(name, value string) string { return `"` + name + `":` + value }

func mayCapture(c *GraphQLConfig) {
	c.MayCapture = func(caller kyc.Caller) bool { return caller.Can(kyc.Admin) }
}

func asChunks(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/graphql", io.MultiReader(strings.NewReader(body)))
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = -1
	return r
}

// A body above a megabyte is read for those who may take pictures and for nothing but pictures.
func TestCaptureBodies(t *testing.T) {
	t.Parallel()
	d := setup(t, mayCapture)
	q, other := member("query", jsonString(captureQuery)), member("query", jsonString(otherQuery))
	large := member("variables", picture(3<<20))
	const mib = 1 << 20
	rows := map[string]struct {
		body  string
		token string
		want  int // status
		read  int // at most
		ran   bool
	}{
		"query first":                       {ordered(q, large), adminToken, 200, 4 * mib, true},
		"query last":                        {ordered(member("operationName", `"F"`), large, q), adminToken, 200, 4 * mib, true},
		"a comma and blanks before":         {"  {" + strings.Repeat(" ", 100) + q + " , " + large + " }", adminToken, 200, 4 * mib, true},
		"the whole limit":                   {ordered(q, member("variables", picture(8*mib-300))), adminToken, 200, 8 * mib, true},
		"small":                             {ordered(q, member("variables", picture(100))), partnerToken, 200, mib, true},
		"small, by one who may":             {ordered(q, member("variables", picture(100))), adminToken, 200, mib, true},
		"exactly a megabyte":                {pad(ordered(q, member("variables", picture(100))), mib), partnerToken, 200, mib + 1, true},
		"exactly a megabyte, not a picture": {pad(ordered(member("query", `"{viewer{id}}"`)), mib), adminToken, 200, mib + 1, false},

		"no scope":                          {ordered(q, large), partnerToken, 413, 2 * mib, false},
		"above the limit":                   {ordered(q, member("variables", picture(8*mib))), adminToken, 413, 9 * mib, false},
		"above the limit, query last":       {ordered(member("variables", picture(8*mib)), q), adminToken, 413, 9 * mib, false},
		"another mutation":                  {ordered(other, large), adminToken, 413, 2 * mib, false},
		"another mutation, last":            {ordered(large, other), adminToken, 413, 4 * mib, false},
		"a mutation that does nothing":      {ordered(member("query", `"mutation{__typename}"`), large), adminToken, 413, 2 * mib, false},
		"a query":                           {ordered(member("query", `"{viewer{id}}"`), large), adminToken, 413, 2 * mib, false},
		"a picture beside another":          {ordered(member("query", jsonString(`mutation F($input:RegisterFaceInput!,$p:RegisterPersonInput!){registerFace(input:$input){person{id}} registerPerson(input:$p){person{id}}}`)), large), adminToken, 413, 2 * mib, false},
		"another beside, in a fragment":     {ordered(member("query", jsonString(`mutation F($input:RegisterFaceInput!,$p:RegisterPersonInput!){registerFace(input:$input){person{id}} ...R} fragment R on Mutation{registerPerson(input:$p){person{id}}}`)), large), adminToken, 413, 2 * mib, false},
		"another operation of the document": {ordered(member("query", jsonString(captureQuery+" query Q{viewer{id}}")), member("operationName", `"Q"`), large), adminToken, 413, 4 * mib, false},
		"no document":                       {ordered(member("query", `"mutation{"`), large), adminToken, 413, 2 * mib, false},
		"an unknown field":                  {ordered(member("query", `"mutation{registerFaces}"`), large), adminToken, 413, 2 * mib, false},
		"a document of five megabytes":      {ordered(member("query", `"`+strings.Repeat(",", 5*mib)+`"`)), adminToken, 413, 2 * mib, false},
		"query is a number":                 {ordered(member("query", "1"), large), adminToken, 413, 2 * mib, false},
		"no JSON":                           {strings.Repeat("a", 5*mib), adminToken, 413, 2 * mib, false},
		"blanks":                            {strings.Repeat(" ", 5*mib), adminToken, 413, 2 * mib, false},
		"a batch":                           {"[" + ordered(q, large) + "]", adminToken, 413, 2 * mib, false},
		"an object and more":                {ordered(member("variables", "{}")) + strings.Repeat(" ", 5*mib), adminToken, 413, 2 * mib, false},
		"no query at all":                   {ordered(large), adminToken, 400, 4 * mib, false},
		"a broken end":                      {ordered(large, q)[:3<<20], adminToken, 400, 4 * mib, false},
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		row := rows[name]
		for form, request := range map[string]func(string) *http.Request{"": post, ", chunked": asChunks} {
			ran := d.mutations.Load()
			a := d.ask(t, header(request(row.body), "Authorization", row.token))
			if a.status != row.want || (row.want == 200) != (len(a.parsed.Errors) == 0) {
				t.Errorf("%s%s: %d %s", name, form, a.status, a.body)
			}
			if n := d.read.Load(); n > int64(row.read) {
				t.Errorf("%s%s: %d bytes were read", name, form, n)
			}
			if got := d.mutations.Load() > ran; got != row.ran {
				t.Errorf("%s%s: ran %t", name, form, got)
			}
			if held := d.captured.Load(); held != 0 {
				t.Fatalf("%s%s: %d bytes are still held", name, form, held)
			}
		}
	}
}

func pad(body string, n int) string { return body + strings.Repeat(" ", n-len(body)) }

// Above the memory for large bodies the next one is refused before it is read, and the small ones go on.
func TestCaptureMemoryIsBounded(t *testing.T) {
	t.Parallel()
	d := setup(t, mayCapture, func(c *GraphQLConfig) { c.CaptureMemory = 5 << 20 })
	body := ordered(member("query", jsonString(captureQuery)), member("variables", picture(3<<20)))
	half, rest := io.Pipe()
	r := header(asChunks(""), "Authorization", adminToken)
	r.Body, r.ContentLength = half, int64(len(body))
	done := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		done <- w.Code
	}()
	// What is past the first megabyte is read only after it was reserved.
	if _, err := io.WriteString(rest, body[:2<<20]); err != nil {
		t.Fatal(err)
	}
	a := d.ask(t, header(post(body), "Authorization", adminToken))
	if a.status != 503 || a.code() != codeOverloaded || a.header.Get("Retry-After") == "" || d.read.Load() > 2<<20 {
		t.Errorf("%d %s, %d bytes read", a.status, a.body, d.read.Load())
	}
	if a := d.ask(t, header(query("{viewer{id}}"), "Authorization", adminToken)); a.status != 200 {
		t.Errorf("a small one: %d", a.status)
	}
	go func() { _, _ = io.WriteString(rest, body[2<<20:]); _ = rest.Close() }()
	if status := <-done; status != 200 {
		t.Errorf("the one that was there: %d", status)
	}
	if a := d.ask(t, header(post(body), "Authorization", adminToken)); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

func TestCapturesOfASchema(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var names []string
	for f := range Captures(d.cfg.Schema.Schema()) {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if want := []string{"captureDocument", "registerFace"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}

// Whatever a body begins with: nothing panics, what is found is what the whole body says, and a body that says
// something is not given up.
func FuzzFindQuery(f *testing.F) {
	f.Add(`{"query":"{a}","variables":{"a":[1,2,{"b":"c"}]}}`, 10)
	f.Add(`{"variables":{"query":"x","a":"\u00e9\"\\"},"query":"{a}"}`, 30)
	f.Add(`{"a":tru`, 8)
	f.Add(` {"query":1}`, 12)
	f.Fuzz(func(t *testing.T, body string, at int) {
		prefix := body[:min(max(at, 0), len(body))]
		query, found := findQuery(prefix)
		whole, err := parseJSON(body)
		if err != nil {
			return
		}
		members, _ := whole.(map[string]any)
		want, ok := members["query"].(string)
		switch {
		case found == queryFound && (!ok || query != want):
			t.Errorf("found %q in %q, want %q", query, prefix, want)
		case found == queryNone && ok && strings.TrimSpace(prefix) != "" && strings.Index(body, `"query"`) >= len(prefix):
			t.Errorf("gave up at %q", prefix)
		}
	})
}
