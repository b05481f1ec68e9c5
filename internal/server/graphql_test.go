package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/kyc"
)

const (
	registerCanary = `mutation{registerPerson(input:{name:"Maria",documentNumber:"` + canary + `",emails:[{address:"` + canaryEmail + `"}]}){person{id}}}`
	strictAccept   = "application/graphql-response+json"
)

func get(query string, pairs ...string) *http.Request {
	values := url.Values{"query": {query}}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return httptest.NewRequest(http.MethodGet, "/graphql?"+values.Encode(), nil)
}

func jsonString(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestExecutes(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for name, r := range map[string]*http.Request{
		"query":         query("{viewer{id}}"),
		"operationName": post(`{"query":"query A{viewer{id}} query B{viewer{name}}","operationName":"A","variables":null,"extensions":null}`),
		"utf-8":         header(query("{viewer{id}}"), "Content-Type", "Application/JSON; charset=UTF-8"),
		"identity":      header(query("{viewer{id}}"), "Content-Encoding", "identity"),
		"GET":           get("query($i:Boolean!){viewer{id@include(if:$i)}}", "variables", `{"i":true}`),
		"GET, empty":    get("{viewer{id}}", "variables", "", "operationName", "", "extensions", "null"),
		"ID by number":  post(`{"query":"query($id:ID=1,$n:[Int!]=[1]){viewer{id}...@skip(if:true){person(id:$id){id}echo(numbers:$n)}}","variables":{"id":7,"n":3}}`),
		"unknown keys":  post(`{"query":"{viewer{id}}","id":"1"}`),
	} {
		a := d.ask(t, r)
		if a.status != 200 || a.body != `{"data":{"viewer":{"id":"x"}}}` || a.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %d %s %s", name, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
	a := d.ask(t, header(query(registerCanary), "Accept", strictAccept))
	if a.status != 200 || d.mutations.Load() != 1 || a.header.Get("Content-Type") != "application/graphql-response+json; charset=utf-8" {
		t.Errorf("mutation: %d %s", a.status, a.body)
	}
	if n := d.documents.accepted.len(); n != 5 {
		t.Errorf("%d documents are cached, want 5", n)
	}
}

// TestHTTPRefusals is every row that is refused before there is a document: P1 and P3.
func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	d := setup(t)
	mega := func(n int) string {
		return `{"query":"{viewer{id}}","variables":{"x":"` + strings.Repeat("a", n-45) + `"}}`
	}
	chunked := func(body string) *http.Request {
		r := post("")
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(strings.NewReader(body)), -1, []string{"chunked"}
		return r
	}
	sum := sha256.Sum256([]byte("{other}"))
	otherHash := hex.EncodeToString(sum[:])
	rows := []struct {
		name   string
		r      *http.Request
		status int
		code   string
	}{
		{"T01 truncated JSON", post(`{"query":"{lookupByCpf(documentNumber:\"` + canary), 400, codeBadRequest},
		{"T01 no body", post(""), 400, codeBadRequest},
		{"T01 invalid UTF-8", post("{\"query\":\"{viewer{id}}\xff" + canary + "\"}"), 400, codeBadRequest},
		{"T01 trailing data", post(`{"query":"{viewer{id}}"}{"query":"` + canary + `"}`), 400, codeBadRequest},
		{"T02 batch of 2", post(`[{"query":"{viewer{id}}"},{"query":"{viewer{id}}"}]`), 400, codeBatchingDisabled},
		{"T02 batch of 10", post("\n [" + strings.Repeat(`{"query":"{viewer{id}}"},`, 9) + `{}]`), 400, codeBatchingDisabled},
		{"T02 batch that is no JSON", post(`[{"query":"` + canary), 400, codeBatchingDisabled},
		{"T03 duplicate query", post(`{"query":"{viewer{id}}","query":` + jsonString(registerCanary) + `}`), 400, codeBadRequest},
		{"T03 duplicate, escaped", post(`{"query":"{viewer{id}}","qu\u0065ry":` + jsonString(registerCanary) + `}`), 400, codeBadRequest},
		{"T03 duplicate variable", post(`{"query":"{viewer{id}}","variables":{"a":1,"a":2}}`), 400, codeBadRequest},
		{"T04 QUERY", post(`{"QUERY":"{__typename}"}`), 400, codeBadRequest},
		{"T04 Query", post(`{"Query":"{__typename}"}`), 400, codeBadRequest},
		{"query is a number", post(`{"query":52998224725}`), 400, codeBadRequest},
		{"query is empty", post(`{"query":""}`), 400, codeBadRequest},
		{"query is null", post(`{"query":null}`), 400, codeBadRequest},
		{"body is null", post(`null`), 400, codeBadRequest},
		{"body is a string", post(`"{viewer{id}}"`), 400, codeBadRequest},
		{"variables are a list", post(`{"query":"{viewer{id}}","variables":["` + canary + `"]}`), 400, codeBadRequest},
		{"operationName is a number", post(`{"query":"{viewer{id}}","operationName":0}`), 400, codeBadRequest},
		{"extensions are false", post(`{"query":"{viewer{id}}","extensions":false}`), 400, codeBadRequest},
		{"T07 1 MiB + 1", post(mega(1<<20 + 1)), 413, codeBadRequest},
		{"T07 1 MiB + 1, chunked", chunked(mega(1<<20 + 1)), 413, codeBadRequest},
		{"T07 100 MiB, chunked", chunked(strings.Repeat(" ", 100<<20)), 413, codeBadRequest},
		{"T08 nesting", post(`{"query":"{viewer{id}}","variables":` + strings.Repeat(`{"a":`, 100_000) + `}`), 400, codeBadRequest},
		{"T08 nesting of lists", post(`{"query":"{viewer{id}}","variables":{"a":` + strings.Repeat(`[`, 100_000) + `}`), 400, codeBadRequest},
		{"T08 too many values", post(`{"query":"{viewer{id}}","variables":{"a":[` + strings.Repeat(`{},`, 20_000) + `1]}}`), 400, codeBadRequest},
		{"T09 text/plain (C03)", header(query(registerCanary), "Content-Type", "text/plain"), 415, codeBadRequest},
		{"T09 form (C03)", header(post("query="+url.QueryEscape(registerCanary)), "Content-Type", "application/x-www-form-urlencoded"), 415, codeBadRequest},
		{"T09 multipart (C03)", header(post("--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n"+registerCanary+"\r\n--x--"), "Content-Type", "multipart/form-data; boundary=x"), 415, codeBadRequest},
		{"T09 application/graphql (C03)", header(post(registerCanary), "Content-Type", "application/graphql"), 415, codeBadRequest},
		{"T09 none", func() *http.Request { r := query(registerCanary); r.Header.Del("Content-Type"); return r }(), 415, codeBadRequest},
		{"T09 two", func() *http.Request { r := query(registerCanary); r.Header.Add("Content-Type", "text/plain"); return r }(), 415, codeBadRequest},
		{"T09 utf-16", header(query(registerCanary), "Content-Type", "application/json; charset=utf-16"), 415, codeBadRequest},
		{"T10 gzip", header(query(registerCanary), "Content-Encoding", "gzip"), 415, codeBadRequest},
		{"T10 gzip among others", header(query(registerCanary), "Content-Encoding", "identity, gzip"), 415, codeBadRequest},
		{"D10 5 MB of commas", post(`{"query":"{viewer{id}}` + strings.Repeat(",", 5<<20) + `"}`), 413, codeBadRequest},
		{"D10 5 MB of comment", post(`{"query":"{viewer{id}}#` + strings.Repeat("c", 5<<20) + `"}`), 413, codeBadRequest},
		{"D18 5 MB string", queryWith("query($d:String!){lookupByCpf(documentNumber:$d){id}}", map[string]any{"d": strings.Repeat("5", 5<<20)}), 413, codeBadRequest},
		{"D21 APQ without a hash", post(`{"extensions":{"persistedQuery":{"version":1}}}`), 400, codeBadRequest},
		{"D21 APQ no object", post(`{"query":"{viewer{id}}","extensions":{"persistedQuery":1}}`), 400, codeBadRequest},
		{"D21 APQ wrong hash", post(`{"query":"{viewer{id}}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + otherHash + `"}}}`), 400, codeBadRequest},
		{"L06 a browser", header(get("{viewer{id}}"), "Accept", "text/html,application/xhtml+xml"), 406, codeBadRequest},
		{"event stream, none wanted", header(query("{viewer{id}}"), "Accept", "text/event-stream;q=0"), 406, codeBadRequest},
		{"C04 preflight", header(httptest.NewRequest(http.MethodOptions, "/graphql", nil), "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"), 405, codeBadRequest},
		{"C04 another page", header(query(registerCanary), "Origin", "https://evil.example"), 403, codeForbidden},
		{"C04 the null page", header(query(registerCanary), "Origin", "null"), 403, codeForbidden},
		{"Accept in another charset", header(query("{viewer{id}}"), "Accept", "application/json; charset=utf-16"), 406, codeBadRequest},
		{"C01 mutation by GET", get(registerCanary), 405, codeBadRequest},
		{"C01 mutation by GET, strict", header(get(registerCanary), "Accept", strictAccept), 405, codeBadRequest},
		{"C01 mutation by GET, by name", get("query A{viewer{id}} "+strings.Replace(registerCanary, "mutation", "mutation B", 1), "operationName", "B"), 405, codeBadRequest},
		{"C02 cookie", header(get("{viewer{id}}"), "Cookie", "session=1"), 403, codeCSRF},
		{"C02 cookie and an empty header", header(get("{viewer{id}}"), "Cookie", "session=1", "X-Kycgate-Csrf", ""), 403, codeCSRF},
		{"C04 preflight", header(httptest.NewRequest(http.MethodOptions, "/graphql", nil), "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"), 405, codeBadRequest},
		{"HEAD", httptest.NewRequest(http.MethodHead, "/graphql", nil), 405, codeBadRequest},
		{"PUT", httptest.NewRequest(http.MethodPut, "/graphql", strings.NewReader("{}")), 405, codeBadRequest},
		{"GET without a query", httptest.NewRequest(http.MethodGet, "/graphql", nil), 400, codeBadRequest},
		{"GET, query twice", httptest.NewRequest(http.MethodGet, "/graphql?query={a}&query={b}", nil), 400, codeBadRequest},
		{"GET, bad escape", httptest.NewRequest(http.MethodGet, "/graphql?query=%zz", nil), 400, codeBadRequest},
		{"GET, variables are a list", get("{viewer{id}}", "variables", `["`+canary+`"]`), 400, codeBadRequest},
		{"GET, variables are broken", get("{viewer{id}}", "variables", `{"a":"`+canary), 400, codeBadRequest},
		{"GET, extensions are a string", get("{viewer{id}}", "extensions", `"x"`), 400, codeBadRequest},
		{"GET, not UTF-8", httptest.NewRequest(http.MethodGet, "/graphql?query=%ff", nil), 400, codeBadRequest},
		{"P3 no token", header(query("{viewer{id}}"), "Authorization", ""), 401, codeUnauthenticated},
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			a := d.ask(t, c.r)
			if a.status != c.status || a.code() != c.code || a.hasData || len(a.parsed.Errors) != 1 {
				t.Fatalf("got %d %s, want %d %s", a.status, a.body, c.status, c.code)
			}
			if n := d.read.Load(); n > 2<<20 {
				t.Errorf("%d bytes of the body were read", n)
			}
			if got, want := a.header.Get("Allow"), map[bool]string{true: "POST", false: ""}[strings.HasPrefix(c.name, "C01")]; strings.HasPrefix(c.name, "C01") && got != want {
				t.Errorf("Allow is %q", got)
			}
		})
	}
	if d.mutations.Load() != 0 {
		t.Fatal("a refused mutation ran")
	}
}

// P3: whatever is wrong with the token, one body, and the request's own body is not touched.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var bodies []string
	for _, r := range []*http.Request{
		header(query("{viewer{id}}"), "Authorization", ""),
		header(post("no json at all"), "Authorization", "Bearer "+canary),
		header(query("{viewer{id}}"), "Authorization", "Basic eDp5", "Accept", strictAccept),
		header(post(strings.Repeat("x", 5<<20)), "Authorization", "Bearer expired"),
		header(get("{"), "Authorization", "Bearer x"),
	} {
		a := d.ask(t, r)
		if a.status != 401 || a.code() != codeUnauthenticated || a.header.Get("WWW-Authenticate") != "Bearer" || d.read.Load() != 0 {
			t.Errorf("%d %s, %d bytes read", a.status, a.body, d.read.Load())
		}
		bodies = append(bodies, a.body)
	}
	if len(slices.Compact(bodies)) != 1 {
		t.Errorf("the bodies differ: %q", bodies)
	}
}

// TestDocumentRefusals is every row of a document that we will not run: P2, in both media types.
func TestDocumentRefusals(t *testing.T) {
	t.Parallel()
	d := setup(t)
	type row struct {
		r    func() *http.Request
		code string
	}
	ask := func(q string) func() *http.Request { return func() *http.Request { return query(q) } }
	with := func(q, variables string) func() *http.Request {
		return func() *http.Request { return post(`{"query":` + jsonString(q) + `,"variables":` + variables + `}`) }
	}
	const register = "mutation($input:RegisterPersonInput!){registerPerson(input:$input){person{id}}}"
	rows := map[string]row{
		"syntax":                 {ask(`{lookupByCpf(documentNumber:"` + canary + `"`), codeParseFailed},
		"syntax, a number":       {ask(`{` + canaryBare + `}`), codeParseFailed},
		"syntax, a string":       {ask(`{viewer "` + canary + `"}`), codeParseFailed},
		"syntax, a name":         {ask(`fragment f no` + canaryBare + ` Viewer{id}`), codeParseFailed},
		"syntax, a bad escape":   {ask(`{lookupByCpf(documentNumber:"\uX` + canary + `"){id}}`), codeParseFailed},
		"syntax, a bad number":   {ask(`{echo(numbers:0` + canaryBare + `)}`), codeParseFailed},
		"syntax, quotes":         {ask(`{lookupByCpf(documentNumber:'` + canary + `'){id}}`), codeParseFailed},
		"no operation":           {ask("fragment f on Viewer{id}"), codeValidationFailed},
		"only a comment":         {ask("# " + canary), codeValidationFailed},
		"@defer":                 {ask("{viewer{...@defer{id}}}"), codeValidationFailed},
		"D07 @aa x10":            {ask("{__typename" + strings.Repeat("@aa", 10) + "}"), codeValidationFailed},
		"D08 300 unknown fields": {ask("{" + strings.Repeat("nothing ", 300) + "}"), codeValidationFailed},
		"D08 5,000 unknown":      {ask("{" + strings.Repeat("no ", 5_000) + "}"), codeQueryTooLarge},
		"D08 300 unused variables": {ask(func() string {
			var b strings.Builder
			for i := range 300 {
				fmt.Fprintf(&b, "$v%d:Int ", i)
			}
			return "query(" + b.String() + "){__typename}"
		}()), codeValidationFailed},
		"D16 __schema":      {ask("{__schema{queryType{name}}}"), codeIntrospectionDisabled},
		"D16 __type":        {ask(`{__type(name:"Query"){name}}`), codeIntrospectionDisabled},
		"D16 in a fragment": {ask(`{...f}fragment f on Query{x:__type(name:"Query"){name}}`), codeIntrospectionDisabled},
		"D16 in an inline":  {ask(`{...on Query{__schema{queryType{name}}}}`), codeIntrospectionDisabled},
		"D16 skipped":       {ask(`{__typename __schema@skip(if:true){queryType{name}}}`), codeIntrospectionDisabled},
		"D16 another operation": {func() *http.Request {
			return post(`{"query":"query A{__typename} query B{__schema{queryType{name}}}","operationName":"A"}`)
		}, codeIntrospectionDisabled},
		"D16 _service":                  {ask("{_service{sdl}}"), codeValidationFailed},
		"D19 _entities":                 {ask(`{_entities(representations:[]){__typename}}`), codeValidationFailed},
		"D21 APQ by hash":               {func() *http.Request { return post(`{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}`) }, codePersistedQueryNotFound},
		"L01 field":                     {ask("{vieweer{id}}"), codeValidationFailed},
		"L01 argument":                  {ask(`{lookupByCpf(documentNumbr:"` + canary + `"){id}}`), codeValidationFailed},
		"L01 type":                      {ask(`{viewer{...on Viewr{id}}}`), codeValidationFailed},
		"L01 fragment type":             {ask(`{viewer{...f}}fragment f on Viewr{id}`), codeValidationFailed},
		"L01 enum":                      {ask(`{echo(status:OPN)}`), codeValidationFailed},
		"L01 enum as a string":          {ask(`{echo(status:"` + canary + `")}`), codeValidationFailed},
		"L01 input field":               {ask(`mutation{registerPerson(input:{nam:"` + canary + `"}){person{id}}}`), codeValidationFailed},
		"L01 directive":                 {ask("{viewer{id@skp(if:true)}}"), codeValidationFailed},
		"L01 directive argument":        {ask("{viewer{id@skip(iff:true)}}"), codeValidationFailed},
		"L01 no selection":              {ask("{viewer}"), codeValidationFailed},
		"value, a number":               {ask(`{lookupByCpf(documentNumber:` + canaryBare + `){id}}`), codeValidationFailed},
		"value, a string":               {ask(`{echo(numbers:["` + canary + `"])}`), codeValidationFailed},
		"value, an object":              {ask(`{echo(text:{a:"` + canary + `"})}`), codeValidationFailed},
		"value, a name":                 {ask(`{echo(text:c` + canaryBare + `)}`), codeValidationFailed},
		"value, null":                   {ask(`{person(id:null){id}}`), codeValidationFailed},
		"value, a default":              {ask(`query($t:Int="` + canary + `"){persons(first:$t){totalCount}}`), codeValidationFailed},
		"digits in an alias":            {ask(`{c` + canaryBare + `:viewer{id} c` + canaryBare + `:person(id:"1"){id}}`), codeValidationFailed},
		"digits in a variable":          {ask(`query($c` + canaryBare + `:Int){__typename}`), codeValidationFailed},
		"digits in an operation":        {ask(`query c` + canaryBare + `($v:Int){__typename}`), codeValidationFailed},
		"unknown operation":             {func() *http.Request { return post(`{"query":"query A{__typename}","operationName":"` + canary + `"}`) }, codeBadRequest},
		"which operation":               {ask("query A{__typename} query B{__typename}"), codeBadRequest},
		"subscription":                  {ask("subscription{ticks}"), codeBadRequest},
		"variable, missing":             {with("query($id:ID!){person(id:$id){id}}", "{}"), codeBadUserInput},
		"variable, null":                {with("query($id:ID!){person(id:$id){id}}", `{"id":null}`), codeBadUserInput},
		"variable, a number":            {with("query($n:[Int!]){echo(numbers:$n)}", `{"n":["`+canary+`"]}`), codeBadUserInput},
		"variable, too large":           {with("query($n:Int){persons(first:$n){totalCount}}", `{"n":529982247255299822472}`), codeBadUserInput},
		"variable, an enum":             {with("query($s:Status){echo(status:$s)}", `{"s":"`+canary+`"}`), codeBadUserInput},
		"variable, an object":           {with("query($t:String){echo(text:$t)}", `{"t":{"a":"`+canary+`"}}`), codeBadUserInput},
		"variable, no object":           {with(register, `{"input":"`+canary+`"}`), codeBadUserInput},
		"variable, unknown key":         {with(register, `{"input":{"`+canary+`":1}}`), codeBadUserInput},
		"variable, deep":                {with(register, `{"input":{"name":"x","documentNumber":"`+canary+`","emails":[{"address":null}]}}`), codeBadUserInput},
		"variable, a deep type":         {with(register, `{"input":{"name":["`+canary+`"],"documentNumber":"x","emails":[]}}`), codeBadUserInput},
		"variable, number for a String": {with("query($t:String){echo(text:$t)}", `{"t":`+canaryBare+`}`), codeBadUserInput},
		"variable, string for an Int":   {with("query($n:[Int!]){echo(numbers:$n)}", `{"n":[1,"2"]}`), codeBadUserInput},
		"variable, fraction for an ID":  {with("query($id:ID!){person(id:$id){id}}", `{"id":1.5}`), codeBadUserInput},
		"variable, enum in lower case":  {with("query($s:Status){echo(status:$s)}", `{"s":"open"}`), codeBadUserInput},
		"variable, number in an input":  {with(register, `{"input":{"name":"x","documentNumber":`+canaryBare+`,"emails":[]}}`), codeBadUserInput},
		"condition is null":             {with("query($b:Boolean=true){viewer{id@skip(if:$b)}}", `{"b":null}`), codeBadUserInput},
		"forbidden":                     {ask(`{node(id:"` + canary + `"){id}}`), codeForbidden},
	}
	for name, s := range shapeRows() {
		if s.want != nil {
			rows["shape "+name] = row{ask(s.query), codeQueryTooLarge}
		}
	}
	for name, c := range rows {
		t.Run(name, func(t *testing.T) {
			for accept, status := range map[string]int{"application/json": 200, strictAccept: 400} {
				if c.code == codeForbidden && status == 400 {
					status = 403
				}
				for range 2 { // the second time from the cache
					a := d.ask(t, header(c.r(), "Accept", accept))
					if a.status != status || a.code() != c.code || a.hasData || len(a.parsed.Errors) == 0 {
						t.Fatalf("%s: got %d %s, want %d %s", accept, a.status, a.body, status, c.code)
					}
					for _, e := range a.parsed.Errors {
						if e.Extensions["code"] != c.code {
							t.Errorf("a code among others: %s", a.body)
						}
					}
				}
			}
		})
	}
	if d.mutations.Load() != 0 {
		t.Fatal("a refused mutation ran")
	}
}

// What a caller may read in a message: names, types and places, so that a mistake can be found.
func TestMessagesHelp(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for body, want := range map[string]string{
		`{"query":"{vieweer{id}}"}`:                                  `Cannot query field \"vieweer\" on type \"Query\".`,
		`{"query":"{viewer{id}"}`:                                    `Syntax error: unexpected \u003cEOF\u003e.`,
		`{"query":"{viewer 1}"}`:                                     `Syntax error: unexpected Int.`,
		`{"query":"{echo(numbers:[\"x\"])}"}`:                        `A value is not of the expected type \"Int\".`,
		`{"query":"{echo(status:[1])}"}`:                             `A value is not of the expected type \"Status\".`,
		`{"query":"mutation{registerPerson(input:{}){person{id}}}"}`: `Field \"RegisterPersonInput.name\" of required type \"String!\" was not provided.`,
		`{"query":"mutation($input:RegisterPersonInput!){registerPerson(input:$input){person{id}}}","variables":{"input":{"name":"x","documentNumber":"y","emails":[{"address":null}]}}}`:              `The value of variable \"$input.emails[0].address\" must not be null.`,
		`{"query":"mutation($input:RegisterPersonInput!){registerPerson(input:$input){person{id}}}","variables":{"input":{"name":"x","documentNumber":"y","emails":[{"address":"z"},{"address":1}]}}}`: `The value of variable \"$input.emails[1].address\" is not of its type.`,
		`{"query":"{persons(first:0){totalCount}}"}`: `The argument \"first\" of \"persons\" must be between 1 and 100.`,
	} {
		if a := d.ask(t, post(body)); !strings.Contains(a.body, want) {
			t.Errorf("%s\n got %s\nwant %s", body, a.body, want)
		}
	}
}

func TestPersistedQueryWithItsText(t *testing.T) {
	t.Parallel()
	d := setup(t)
	sum := sha256.Sum256([]byte("{viewer{id}}"))
	body := `{"query":"{viewer{id}}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hex.EncodeToString(sum[:]) + `"}}}`
	if a := d.ask(t, post(body)); a.status != 200 || a.code() != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	const q = `{__typename __schema{queryType{name}}}`
	d := setup(t)
	if a := d.ask(t, header(query(q), "Authorization", adminToken)); a.code() != "" {
		t.Errorf("admin: %s", a.body)
	}
	if a := d.ask(t, query("{__typename viewer{__typename}}")); a.code() != "" {
		t.Errorf("__typename: %s", a.body)
	}
	d = setup(t, func(c *GraphQLConfig) { c.IntrospectionOpen = true })
	if a := d.ask(t, query(q)); a.code() != "" {
		t.Errorf("open: %s", a.body)
	}
	// The question every tool begins with must fit through the shape guard.
	standard, err := os.ReadFile("testdata/introspection.graphql")
	if err != nil {
		t.Fatal(err)
	}
	if a := d.ask(t, query(string(standard))); a.code() != "" {
		t.Errorf("the standard introspection query: %s", a.body)
	}
}

func TestCSRFHeaders(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for _, name := range []string{"X-Apollo-Operation-Name", "Apollo-Require-Preflight", "X-Kycgate-Csrf"} {
		if a := d.ask(t, header(get("{viewer{id}}"), "Cookie", "s=1", name, "1")); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := d.ask(t, header(query("{viewer{id}}"), "Cookie", "s=1")); a.status != 200 {
		t.Errorf("a POST: %d %s", a.status, a.body)
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"*/*": "application/json", "application/*": "application/json", "": "application/json",
		"application/json, application/graphql-response+json":                      "application/json",
		"application/graphql-response+json, application/json;q=0.9":                "application/graphql-response+json",
		"application/json;q=0.5, application/graphql-response+json; charset=utf-8": "application/graphql-response+json",
		"text/html, */*;q=0.1": "application/json",
		"application/json;q=0": "", "text/html": "", "nonsense": "", "application/json;q=x": "",
	} {
		m, ok := negotiate([]string{accept})
		got := ""
		if ok {
			got, _, _ = strings.Cut(m.contentType(), ";")
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", accept, got, want)
		}
	}
}

// L02, L03: a panic and an error of ours answer an opaque id, which is in the log with the type and the stack.
func TestInternalErrors(t *testing.T) {
	t.Parallel()
	for field, inLog := range map[string]string{"boom": `"type":"string"`, "crash": `"type":"string"`, "fail": `"kind":"INTERNAL"`} {
		for _, accept := range []string{"application/json", strictAccept} {
			d := setup(t)
			a := d.ask(t, header(query("{"+field+"}"), "Accept", accept))
			if a.status != 200 || a.code() != codeInternal || !a.hasData || len(a.parsed.Errors) != 1 {
				t.Fatalf("%s: %d %s", field, a.status, a.body)
			}
			id, _ := a.parsed.Errors[0].Extensions["errorId"].(string)
			logs := d.logs.String()
			if id == "" || !strings.Contains(logs, `"error_id":"`+id+`"`) || !strings.Contains(logs, inLog) {
				t.Errorf("%s: the id %q is not in the log: %s", field, id, logs)
			}
			if field != "fail" && !strings.Contains(logs, "fake_test.go:") && !strings.Contains(logs, "graphql_test.go:") {
				t.Errorf("%s: no stack in the log: %s", field, logs)
			}
			if strings.Count(logs, id) != 1 {
				t.Errorf("%s: the id is in the log %d times", field, strings.Count(logs, id))
			}
			if !strings.Contains(logs, `"outcome":"internal"`) {
				t.Errorf("%s: %s", field, logs)
			}
		}
	}
}

func TestPanicBeforeExecution(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) {
		c.Authenticate = func(*http.Request) (kyc.Caller, time.Time, error) { panic(canary) }
	})
	if a := d.ask(t, query("{viewer{id}}")); a.status != 500 || a.code() != codeInternal || a.hasData {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// Our own presenter and recover are the ones that are asked; errors of execution are bounded as well.
func TestPresenter(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) {
		c.Presenter = func(ctx context.Context, err error) *gqlerror.Error {
			code := kyc.KindOf(err).String()
			return &gqlerror.Error{Message: strings.Repeat("m", 1_000), Path: graphql.GetPath(ctx), Extensions: map[string]any{"code": code}}
		}
		c.Recover = func(context.Context, any) error { return kyc.E(kyc.RateLimited, "test", nil) }
	})
	var q strings.Builder
	for i := range 20 {
		fmt.Fprintf(&q, "a%d:refuse ", i)
	}
	a := d.ask(t, query("{"+q.String()+"}"))
	if a.status != 200 || a.code() != "NOT_FOUND" || !a.hasData || len(a.parsed.Errors) != 7 || len(a.body) > 8<<10+1<<10 {
		t.Errorf("%d, %d errors, %d bytes", a.status, len(a.parsed.Errors), len(a.body))
	}
	if a = d.ask(t, query("{boom}")); a.code() != "RATE_LIMITED" {
		t.Errorf("recover was not asked: %s", a.body)
	}
	d.logs.mu.Lock()
	defer d.logs.mu.Unlock()
	if !strings.Contains(d.logs.b.String(), `"outcome":"errors"`) {
		t.Errorf("the outcome is not errors: %s", d.logs.b.String())
	}
}

// The caller reaches the resolvers by the context, and its token does not.
func TestCallerInContext(t *testing.T) {
	t.Parallel()
	d := setup(t)
	go d.ask(t, query("{slow}"))
	ctx := <-d.entered
	if got := kyc.CallerFrom(ctx); got.Partner != "acme" || !got.Can(kyc.PersonsRead) {
		t.Errorf("the caller is %+v", got)
	}
	if graphql.GetOperationContext(ctx).Headers != nil {
		t.Error("the headers are in the operation context")
	}
	close(d.leave)
}

func TestOverload(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) { c.MaxConcurrent = 2 })
	done := make(chan *answer, 2)
	for range 2 {
		go func() { done <- d.ask(t, query("{slow}")) }()
		<-d.entered
	}
	a := d.ask(t, query("{viewer{id}}"))
	if a.status != 503 || a.code() != codeOverloaded || a.header.Get("Retry-After") != "1" || a.hasData {
		t.Errorf("%d %s", a.status, a.body)
	}
	close(d.leave)
	for range 2 {
		if a := <-done; a.status != 200 {
			t.Errorf("an admitted request: %d %s", a.status, a.body)
		}
	}
	if a := d.ask(t, query("{viewer{id}}")); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
	if m := scrape(t, d.registry); !strings.Contains(m, `kycgate_graphql_refused_total{reason="overloaded"} 1`) {
		t.Errorf("the refusal was not counted:\n%s", m)
	}
}

// Mutations wait for providers: when all they may have are taken, queries are still answered.
func TestMutationsLeaveRoomForQueries(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) { c.MaxConcurrent = 5 })
	done := make(chan *answer, 4)
	for range 4 {
		go func() { done <- d.ask(t, query("mutation {slow}")) }()
		<-d.entered
	}
	if a := d.ask(t, query("mutation {slow}")); a.status != 503 || a.code() != codeOverloaded || a.header.Get("Retry-After") != "1" {
		t.Errorf("a fifth mutation: %d %s", a.status, a.body)
	}
	if a := d.ask(t, query("{viewer{id}}")); a.status != 200 {
		t.Errorf("a query: %d %s", a.status, a.body)
	}
	close(d.leave)
	for range 4 {
		if a := <-done; a.status != 200 {
			t.Errorf("an admitted mutation: %d %s", a.status, a.body)
		}
	}
	if a := d.ask(t, query("mutation {slow}")); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

// N06: one part of a query that is asked for too often makes the whole of it a 429 without data.
func TestRateLimited(t *testing.T) {
	t.Parallel()
	d := setup(t, func(c *GraphQLConfig) {
		c.Presenter = func(_ context.Context, err error) *gqlerror.Error {
			var e *gqlerror.Error
			errors.As(err, &e)
			return e
		}
	})
	for _, accept := range []string{"application/json", "application/graphql-response+json"} {
		a := d.ask(t, header(query("{viewer{id} often}"), "Accept", accept))
		if a.status != 429 || a.code() != codeRateLimited || a.header.Get("Retry-After") != "7" || a.hasData {
			t.Errorf("%s: %d %s", accept, a.status, a.body)
		}
	}
	if m := scrape(t, d.registry); !strings.Contains(m, `kycgate_graphql_refused_total{reason="rate_limited"} 2`) {
		t.Errorf("the refusals were not counted:\n%s", m)
	}
}

func TestAnswerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := setup(t, func(c *GraphQLConfig) { c.AnswerTimeout = 5 * time.Second })
		a := d.ask(t, query("{slow}"))
		if a.status != 200 || a.code() != codeInternal || !errors.Is((<-d.entered).Err(), context.DeadlineExceeded) {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// M01, M02: the line of a request and the labels of its metrics come from closed sets, whatever the caller names
// his operations and headers.
func TestLogAndMetricsAreClosed(t *testing.T) {
	t.Parallel()
	d := setup(t)
	series := func() int { return strings.Count(scrape(t, d.registry), "\nkycgate_") }
	before := series()
	for i := range 200 {
		name := fmt.Sprintf("c%s_%d", canaryBare, i)
		r := post(`{"query":"query ` + name + `{viewer{id}}","operationName":"` + name + `","variables":{"x":"` + canary + `"}}`)
		d.ask(t, header(r, "X-Request-Id", canary, "User-Agent", canary, "Referer", "https://x/?"+canary))
	}
	d.ask(t, get(`{lookupByCpf(documentNumber:"`+canary+`"){id}}`))
	d.ask(t, query(registerCanary))
	d.ask(t, query("{"))
	d.ask(t, header(query("{viewer{id}}"), "Authorization", canary))
	d.ask(t, header(query("{viewer{id}}"), "Content-Type", canary))

	allowed := []string{"time", "level", "msg", "request_id", "route", "status", "duration", "operation_type", "outcome", "partner"}
	lines := strings.Split(strings.TrimSpace(d.logs.String()), "\n")
	if len(lines) != 205 {
		t.Errorf("%d lines for 205 requests", len(lines))
	}
	for _, line := range lines {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if !slices.Contains(allowed, name) {
				t.Fatalf("the field %s is in the log: %s", name, line)
			}
		}
	}
	if after := series(); after != before || after > 400 {
		t.Errorf("%d series became %d", before, after)
	}
	metrics := scrape(t, d.registry)
	if strings.Contains(metrics, canaryBare) || strings.Contains(metrics, canary) {
		t.Error("a canary is in the metrics")
	}
	for _, r := range allReasons {
		n := 0
		if r == reasonParseFailed || r == reasonUnauthenticated || r == reasonUnsupportedMediaType {
			n = 1
		}
		if want := fmt.Sprintf("kycgate_graphql_refused_total{reason=%q} %d\n", r, n); !strings.Contains(metrics, want) {
			t.Errorf("missing %s", want)
		}
	}
	for labels, n := range map[string]int{
		`operation_type="query",outcome="ok"`: 201, `operation_type="mutation",outcome="ok"`: 1,
		`operation_type="unknown",outcome="refused"`: 3, `operation_type="subscription",outcome="refused"`: 0,
	} {
		want := fmt.Sprintf("kycgate_graphql_request_duration_seconds_count{"+labels+"} %d\n", n)
		if !strings.Contains(metrics, want) {
			t.Errorf("missing %s", want)
		}
	}
	for _, le := range []string{"0.005", "30", "+Inf"} {
		if !strings.Contains(metrics, `operation_type="query",outcome="ok",le="`+le+`"}`) {
			t.Errorf("no bucket %s", le)
		}
	}
}

// The document cache holds documents, not bodies, and is bounded (D21, Z12).
func TestDocumentCacheIsBounded(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for i := range cachedDocuments + 50 {
		d.ask(t, query(fmt.Sprintf("query q%d{viewer{id}}", i)))
		d.ask(t, query(fmt.Sprintf("query q%d{nothing}", i)))
	}
	if a, r := d.documents.accepted.len(), d.documents.refused.len(); a != cachedDocuments || r != cachedRefusals {
		t.Errorf("%d documents and %d refusals are cached", a, r)
	}
	// One caller's refusal is not another's: what depends on the caller is never cached.
	const q = "{__schema{queryType{name}}}"
	if a := d.ask(t, header(query(q), "Authorization", adminToken)); a.code() != "" {
		t.Errorf("admin: %s", a.body)
	}
	if a := d.ask(t, query(q)); a.code() != codeIntrospectionDisabled {
		t.Errorf("partner: %s", a.body)
	}
}

func TestNewGraphQLNeedsItsGuards(t *testing.T) {
	t.Parallel()
	full := setup(t).cfg
	for name, drop := range map[string]func(*GraphQLConfig){
		"Schema":       func(c *GraphQLConfig) { c.Schema = nil },
		"Authenticate": func(c *GraphQLConfig) { c.Authenticate = nil },
		"Authorize":    func(c *GraphQLConfig) { c.Authorize = nil },
		"Metrics":      func(c *GraphQLConfig) { c.Metrics = nil },
		"Logger":       func(c *GraphQLConfig) { c.Logger = nil },
	} {
		cfg := full
		drop(&cfg)
		if _, err := NewGraphQL(cfg); err == nil {
			t.Errorf("an endpoint without %s was made", name)
		}
	}
}

// Authorize sees a validated document and the variables as they came.
func TestAuthorizeSeesTheOperation(t *testing.T) {
	t.Parallel()
	var seen string
	d := setup(t, func(c *GraphQLConfig) {
		c.Authorize = func(caller kyc.Caller, doc *ast.QueryDocument, op *ast.OperationDefinition, vars map[string]any) *gqlerror.Error {
			f := op.SelectionSet[0].(*ast.Field)
			seen = fmt.Sprint(caller.Subject, len(doc.Operations), f.Definition.Name, vars["id"])
			return gqlerror.Errorf("no")
		}
	})
	a := d.ask(t, queryWith("query($id:ID!){person(id:$id){id}}", map[string]any{"id": 7}))
	if seen != "s1person7" || a.code() != codeForbidden {
		t.Errorf("%s %s", seen, a.body)
	}
}

// ≤ 50 ms and ≤ 20 MB a case is the contract's "cheap"; here is what cannot be blamed on a busy machine.
func TestRefusalsAllocateLittle(t *testing.T) {
	d := setup(t)
	for name, body := range map[string]string{
		"D04":    `{"query":` + jsonString(fragmentBomb()) + `}`,
		"T08":    `{"query":"{a}","variables":` + strings.Repeat(`{"a":`, 100_000) + `}`,
		"values": `{"query":"{a}","variables":{"a":[` + strings.Repeat(`{"a":1},`, 120_000) + `1]}}`,
		"D08":    `{"query":"{` + strings.Repeat("nothing ", 300) + `}"}`,
	} {
		r := header(post(body), "Authorization", partnerToken)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d.ServeHTTP(httptest.NewRecorder(), r)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	d := setup(b)
	body := []byte(`{"query":"query P($id:ID!){person(id:$id){id name status processes(first:5){nodes{id}}}}","variables":{"id":"per_1"}}`)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/graphql", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", partnerToken)
		d.ServeHTTP(httptest.NewRecorder(), r)
	}
}
