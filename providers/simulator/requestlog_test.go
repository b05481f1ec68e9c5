package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestMaskBody(t *testing.T) {
	t.Parallel()
	show := newReveal([]string{"id", "list.type", "tags"})
	for _, c := range []struct{ body, want string }{
		{``, ``},
		{`{}`, `{}`},
		{` [ ] `, `[]`},
		{`"Maria"`, `"***"`},
		{`42`, `"***"`},
		{`true`, `true`},
		{`{"id":"a-1","name":"Maria"}`, `{"id":"a-1","name":"***"}`},
		{"{ \"id\" :\t\"a\" ,\n\"name\" : \"M\" , \"ok\" : false, \"no\": null }", `{"id":"a","name":"***","ok":false,"no":null}`},
		{`{"monthly_income":500000,"minus":-1.5e3}`, `{"monthly_income":"***","minus":"***"}`},
		{`{"document":{"id":"123"}}`, `{"document":{"id":"***"}}`},
		{`{"id":{"id":"123","x":["y"]}}`, `{"id":{"id":"***","x":["***"]}}`},
		{`{"id":["1",["2",{"id":"3"}]]}`, `{"id":["1",["2",{"id":"***"}]]}`},
		{`{"list":[{"type":"mobile","number":"9"},{"type":"x"}],"type":"y"}`, `{"list":[{"type":"mobile","number":"***"},{"type":"x"}],"type":"***"}`},
		{`{"list":"plain"}`, `{"list":"***"}`},
		{`{"tags":["a","b"],"name":""}`, `{"tags":["a","b"],"name":""}`},
		{`{"name":"quote \" comma , brace } back \\"}`, `{"name":"***"}`},
		{`{"\u0069d":"escaped names are in no list"}`, `{"***":"***"}`},
		{`{"123.456.789-09":1,"Maria da Silva":1,"maria@x.test":1,"12345":1}`, `{"***":"***","***":"***","***":"***","***":"***"}`},
		{`{"id":"a"`, `"(9 bytes, not JSON)"`},
		{strings.Repeat("[", 200) + strings.Repeat("]", 200), strings.Repeat("[", 200) + strings.Repeat("]", 200)},
		{`"` + strings.Repeat("x", maxLoggedBody) + `"`, fmt.Sprintf(`"(%d bytes)"`, maxLoggedBody+2)},
	} {
		if got := string(maskBody([]byte(c.body), show)); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.body, got, c.want)
		}
	}
}

func FuzzMaskBody(f *testing.F) {
	for _, seed := range []string{`{"id":"1","a":[1,"x",{"id":null}]}`, `"\\\""`, `[1,-2.5e+9 , true ]`, "\xff", `{"a":{"b":[[[]]]}}`} {
		f.Add([]byte(seed))
	}
	show := newReveal([]string{"id"})
	f.Fuzz(func(t *testing.T, body []byte) {
		got := maskBody(body, show)
		if len(body) > 0 && !json.Valid(got) {
			t.Fatalf("%q became %q", body, got)
		}
		if !json.Valid(body) || len(body) > maxLoggedBody {
			return
		}
		// Masking keeps the shape: every string that is left is empty, masked, a name, or below an open id.
		var walk func(v any, open bool)
		walk = func(v any, open bool) {
			switch v := v.(type) {
			case map[string]any:
				for k, v := range v {
					walk(v, k == "id")
				}
			case []any:
				for _, v := range v {
					walk(v, open)
				}
			case string:
				if !open && v != "" && v != masked {
					t.Fatalf("%q shows %q", body, v)
				}
			case float64:
				if !open {
					t.Fatalf("%q shows %v", body, v)
				}
			}
		}
		var v any
		if json.Unmarshal(got, &v) == nil {
			walk(v, false)
		}
	})
}

func TestMaskURL(t *testing.T) {
	t.Parallel()
	l := NewRequestLog("analyze", "deep.name")
	for _, c := range []struct{ url, id, want string }{
		{"/a/b-1/c", "b-1", "/a/b-1/c"},
		{"/document_number/12345678909", "", "/document_number/***********"},
		{"/v1/things/a%2F1", "a/1", "/v*/things/a%2F1"},
		{"/users/maria%40x.test", "", "/users/***"},
		{"/users/maria@x.test", "", "/users/***"},
		{"/x?analyze=true", "", "/x?analyze=true"},
		{"/x?analyze=true&cpf=1&deep=2&123456=3&maria", "", "/x?analyze=true&cpf=***&deep=***&***=***&maria=***"},
		{"/x?&&a=b", "", "/x?a=***"},
		{"/" + strings.Repeat("a", 600), "", "/" + strings.Repeat("a", 511) + "…"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.maskURL(u, c.id); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.url, got, c.want)
		}
	}
}

func TestRequestLogIsBoundedAndCountsExactly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const total = loggedRequests + 234
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < total; i += 4 {
				b.Requests().Record(Request{Operation: []string{"act", "other"}[i%2], Status: i}, []byte(`{"name":"Maria"}`))
			}
		})
	}
	wg.Wait()
	b.Requests().Record(Request{Operation: "act", Path: "/last"}, nil)
	s := b.summary()
	if s.Total != total+1 || s.ByOperation["act"] != total/2+1 || s.ByOperation["other"] != total/2 || len(s.Requests) != loggedRequests {
		t.Errorf("total %d, %v, %d kept", s.Total, s.ByOperation, len(s.Requests))
	}
	if last := s.Requests[loggedRequests-1]; last.Path != "/last" || b.Requests().Count("other") != total/2 {
		t.Errorf("last %+v", last)
	}
	if got := b.do("DELETE", b.url+"/requests", ""); got.status != http.StatusNoContent {
		t.Errorf("DELETE: %d", got.status)
	}
	got := b.do("GET", b.url+"/requests", "").body
	if got != `{"total":0,"by_operation":{},"requests":[]}` {
		t.Errorf("after DELETE: %s", got)
	}
	if got := b.do("PUT", b.url+"/requests", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", got.status)
	}
}

func TestRequestLogOrder(t *testing.T) {
	t.Parallel()
	l := NewRequestLog()
	for i := range 2*loggedRequests + 7 {
		l.Record(Request{Status: i}, nil)
		if i == 10 || i == loggedRequests-1 || i == loggedRequests || i == 2*loggedRequests+6 {
			s := l.Summary()
			for j, e := range s.Requests {
				if want := i + 1 - len(s.Requests) + j; e.Status != want {
					t.Fatalf("after %d: position %d holds %d, want %d", i, j, e.Status, want)
				}
			}
		}
	}
}

func TestRequestLogHoldsNoPersonalData(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const name, cpf, mail = "Canary Silva", "123.456.789-09", "canary@person.test"
	body := fmt.Sprintf(`{"id":"a-1","name":%q,"document_number":%q,"emails":[{"email":%q}],"monthly_income":98765432}`, name, cpf, mail)
	b.do("POST", b.url+"/things/12345678909?email="+mail, body)
	b.do("POST", b.url+"/things/x", body[:len(body)-1]) // not JSON
	text := b.do("GET", b.url+"/requests", "").body
	for _, secret := range []string{name, cpf, mail, "canary", "98765432"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %q: %s", secret, text)
		}
	}
	if !utf8.ValidString(text) || !strings.Contains(text, `"id":"a-1"`) {
		t.Errorf("log %s", text)
	}
}
