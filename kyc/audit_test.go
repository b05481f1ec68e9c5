package kyc

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What the audit log is told is ids and names. Anything else could be a value and is refused.
func TestAuditRecordHoldsNoValues(t *testing.T) {
	t.Parallel()
	person, registration := NewPersonID(), string(NewRegistrationID())
	clerk := WithCaller(context.Background(), Caller{Partner: "acme", Subject: "clerk-7", TokenID: "t1", Purpose: "credit_analysis", RequestID: "R1"})
	good := AuditEvent{Person: person, Object: registration, Action: AuditUpdate, Fields: []string{"Person.phones", "Person.name", "Person.phones"}}
	r, err := good.record(clerk, testNow)
	if err != nil {
		t.Fatal(err)
	}
	want := &AuditRecord{
		At: testNow, PartnerID: "acme", PersonID: person, Object: registration, Action: AuditUpdate, Fields: []string{"Person.name", "Person.phones"},
		Actor: "clerk-7", TokenID: ptr("t1"), Purpose: ptr("credit_analysis"), RequestID: ptr("R1"),
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
	for name, wrong := range map[string]func(*AuditEvent){
		"a field that is a value":    func(e *AuditEvent) { e.Fields = []string{"52998224725"} },
		"a name as a field":          func(e *AuditEvent) { e.Fields = []string{"Maria da Silva"} },
		"an e-mail as a field":       func(e *AuditEvent) { e.Fields = []string{"maria@example.com"} },
		"a field with digits":        func(e *AuditEvent) { e.Fields = []string{"Person.name52998224725"} },
		"a field without a type":     func(e *AuditEvent) { e.Fields = []string{"name"} },
		"no field":                   func(e *AuditEvent) { e.Fields = nil },
		"an object that is a value":  func(e *AuditEvent) { e.Object = "52998224725" },
		"an object of another form":  func(e *AuditEvent) { e.Object = "per_maria" },
		"a person that is a value":   func(e *AuditEvent) { e.Person = "529.982.247-25" },
		"nobody and nothing":         func(e *AuditEvent) { e.Person, e.Object = "", "" },
		"an action of nobody's":      func(e *AuditEvent) { e.Action = "LOOKED" },
		"an event of another tenant": func(e *AuditEvent) { e.Partner = "rival" },
	} {
		e := good
		wrong(&e)
		if r, err := e.record(clerk, testNow); err == nil {
			t.Errorf("%s was taken: %+v", name, r)
		} else if s := err.Error(); strings.Contains(s, "52998224725") || strings.Contains(s, "aria") {
			t.Errorf("%s is echoed: %s", name, s)
		}
	}
	if r, err := (AuditEvent{Partner: "acme", Person: person, Action: AuditRead, Fields: []string{"Person.name"}}).record(context.Background(), testNow); err != nil || r.Actor != "kycgate" || r.Object != string(person) || r.TokenID != nil || r.Purpose != nil || r.RequestID != nil {
		t.Errorf("background work: %+v, %v", r, err)
	}
	if _, err := (AuditEvent{Person: person, Action: AuditRead, Fields: []string{"Person.name"}}).record(context.Background(), testNow); err == nil {
		t.Error("an event of no partner was taken")
	}
	prose := WithCaller(context.Background(), Caller{Partner: "acme", Subject: "s", Purpose: "because Maria asked"})
	if r, err := good.record(prose, testNow); err != nil || *r.Purpose != "unknown" {
		t.Errorf("a purpose in words: %+v, %v", r, err)
	}
	frontend := WithCaller(context.Background(), Caller{Partner: "acme", Subject: "52998224725", Person: person})
	if r, err := good.record(frontend, testNow); err != nil || r.Actor != string(person) {
		t.Errorf("a subject token: %+v, %v", r, err)
	}
}

// A field of Profile that the audit log does not know would change unseen.
func TestAuditFields(t *testing.T) {
	t.Parallel()
	if n := reflect.TypeFor[Profile]().NumField(); n != len(profileFields) {
		t.Errorf("Profile has %d fields and the audit log knows %d", n, len(profileFields))
	}
	p, _, _, errs := goodInput().normalize(testNow, true)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if names := changedFields(&p, &p); len(names) != 0 {
		t.Errorf("nothing changed and %v did", names)
	}
	names := make(map[string]bool)
	for i, field := range slices.Collect(reflect.TypeFor[Profile]().Fields()) {
		q := p
		v := reflect.ValueOf(&q).Elem().Field(i)
		if v.IsZero() {
			v.Set(reflect.New(v.Type().Elem())) // all that may be missing are pointers
		} else {
			v.SetZero()
		}
		changed := changedFields(&p, &q)
		if len(changed) != 1 || names[changed[0]] {
			t.Errorf("%s is called %v", field.Name, changed)
			continue
		}
		names[changed[0]] = true
		if !strings.EqualFold(changed[0][strings.IndexByte(changed[0], '.')+1:], field.Name) {
			t.Errorf("%s is called %s", field.Name, changed[0])
		}
	}
}

// An id of an analysis or a registration is an object of the log; whoever adds a prefix finds out here.
func TestAuditKnowsOurIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{string(NewPersonID()), string(NewRegistrationID()), string(NewAnalysisID()), string(NewProcessID()), string(NewJobID())} {
		if !isGlobalID(id) {
			t.Errorf("%s is none", id)
		}
	}
}
