package server

import (
	"encoding/json"
	"testing"
)

func TestCost(t *testing.T) {
	t.Parallel()
	d := setup(t)
	number := func(s string) map[string]any { return map[string]any{"n": json.Number(s)} }
	const byVariable = "query($n:Int){persons(first:$n){totalCount}}"
	const byDefault = "query($n:Int=500){persons(first:$n){totalCount}}"
	for _, c := range []struct {
		name, query string
		variables   map[string]any
		code        string
	}{
		{"D13 missing", "{persons{totalCount}}", nil, ""},
		{"D13 first: 1", "{persons(first:1){totalCount}}", nil, ""},
		{"D13 first: 100", "{persons(first:100){totalCount}}", nil, ""},
		{"D13 first: 0", "{persons(first:0){totalCount}}", nil, codeBadUserInput},
		{"D13 first: -1", "{persons(first:-1){totalCount}}", nil, codeBadUserInput},
		{"D13 first: 101", "{persons(first:101){totalCount}}", nil, codeBadUserInput},
		{"D13 first: 2147483648", "{persons(first:2147483648){totalCount}}", nil, codeBadUserInput},
		{"D13 first: null", "{persons(first:null){totalCount}}", nil, codeBadUserInput},
		{"D13 variable 100", byVariable, number("100"), ""},
		{"D13 variable 0", byVariable, number("0"), codeBadUserInput},
		{"D13 variable -1", byVariable, number("-1"), codeBadUserInput},
		{"D13 variable 101", byVariable, number("101"), codeBadUserInput},
		{"D13 variable 2147483648", byVariable, number("2147483648"), codeBadUserInput},
		{"D13 variable null", byVariable, map[string]any{"n": nil}, codeBadUserInput},
		{"D13 variable missing", byVariable, nil, ""},
		{"D13 variable default 500", byDefault, nil, codeBadUserInput},
		{"D13 variable over a default", byDefault, number("5"), ""},
		{"D13 in a fragment", "{...f}fragment f on Query{persons(first:0){totalCount}}", nil, codeBadUserInput},
		{"D13 in an alias", "{p:persons(first:0){totalCount}}", nil, codeBadUserInput},
		{"D14 100 x 100", "{persons(first:100){nodes{processes(first:100){nodes{id}}}}}", nil, ""},
		{"D14 100 x 100 x 100", "{persons(first:100){nodes{processes(first:100){nodes{attempts(first:100){nodes{id}}}}}}}", nil, codeCostExceeded},
		{"D14 100 x 100 x 2", "{persons(first:100){nodes{processes(first:100){nodes{attempts(first:2){nodes{id}}}}}}}", nil, codeCostExceeded},
		{"D14 default pages 25 x 25 x 25", "{persons{nodes{processes{nodes{attempts{nodes{id}}}}}}}", nil, codeCostExceeded},
		{"D14 siblings", "{persons(first:100){nodes{processes(first:60){nodes{id}}registrations(first:60){nodes{id}}}}}", nil, codeCostExceeded},
		{"D14 two of the largest", "{a:persons(first:100){nodes{processes(first:100){nodes{id}}}}b:persons(first:100){nodes{processes(first:100){nodes{id}}}}}", nil, codeCostExceeded},
		{"D14 through fragments", "{persons(first:100){nodes{...f}}}fragment f on Person{processes(first:100){nodes{...g}}}fragment g on Process{attempts(first:100){nodes{id}}}", nil, codeCostExceeded},
		{"D14 through an inline fragment", "{node(id:1){...on Person{processes(first:100){nodes{attempts(first:100){nodes{attempts(first:2){nodes{id}}}}}}}}}", nil, codeCostExceeded},
		{"D14 a page the schema does not bound", "{everything{nodes{processes(first:100){nodes{attempts(first:2){nodes{id}}}}}}}", nil, codeCostExceeded},
		{"D14 what @skip leaves out is counted", "query($no:Boolean!){persons(first:100){nodes{processes(first:100){nodes{attempts(first:9)@skip(if:$no){nodes{id}}}}}}}", map[string]any{"no": true}, codeCostExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := d.ask(t, header(queryWith(c.query, c.variables), "Authorization", adminToken))
			if a.code() != c.code || a.hasData != (c.code == "") || a.status != 200 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			a = d.ask(t, header(queryWith(c.query, c.variables), "Authorization", adminToken, "Accept", "application/graphql-response+json"))
			if (a.status == 400) != (c.code != "") {
				t.Fatalf("got %d %s", a.status, a.body)
			}
		})
	}
}
