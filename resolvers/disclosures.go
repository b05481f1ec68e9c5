package resolvers

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/kycgate/kycgate/kyc"
)

// disclosures collects, while an answer is written, which personal fields of whom it shows as they are. The values
// themselves tell (kyc.WithDisclosures), so a resolver cannot forget to, and what was masked, skipped or null is not
// in it.
type disclosures struct {
	mu    sync.Mutex
	seen  map[disclosure]struct{}
	under *graphql.FieldContext // the last parent whose owner was looked for
	owner owner
}

type owner struct {
	person kyc.PersonID
	object string // where no person is known
	apart  bool   // what is below is recorded by its own verb
}

type disclosure struct {
	owner owner
	typ   string
	field *ast.FieldDefinition
}

// tell is told of one value, with the context of its field.
func (d *disclosures) tell(ctx context.Context) {
	fc := graphql.GetFieldContext(ctx)
	for fc != nil && fc.Field.Field == nil { // an item of a list: the field is above
		fc = fc.Parent
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = make(map[disclosure]struct{}, 16)
	}
	if fc == nil {
		d.seen[disclosure{}] = struct{}{} // nobody's: it will not be recorded and so not be answered
		return
	}
	if fc.Field.Definition.Directives.ForName("nonpii") != nil {
		return // JSON that is about nobody
	}
	if d.under == nil || d.under != fc.Parent {
		d.under, d.owner = fc.Parent, ownerOf(fc.Parent)
	}
	if !d.owner.apart {
		d.seen[disclosure{d.owner, fc.Object, fc.Field.Definition}] = struct{}{}
	}
}

// ownerOf looks upwards for the object whose data this is.
func ownerOf(fc *graphql.FieldContext) owner {
	for ; fc != nil; fc = fc.Parent {
		result := fc.Result
		if fc.Field.Field == nil && result != nil { // gqlgen gives a pointer to the item
			if v := reflect.ValueOf(result); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Pointer {
				result = v.Elem().Interface()
			}
		}
		switch r := result.(type) {
		case kyc.AuditedApart:
			return owner{apart: true}
		case kyc.Owned:
			if person, object := r.Owner(); person != "" || object != "" {
				return owner{person: person, object: object}
			}
		}
	}
	return owner{}
}

// take gives what was told since the last time: one event an owner.
func (d *disclosures) take() []kyc.AuditEvent {
	d.mu.Lock()
	defer d.mu.Unlock()
	fields := make(map[owner][]string)
	for s := range d.seen {
		name := ""
		if s.field != nil {
			name = s.typ + "." + s.field.Name
		}
		fields[s.owner] = append(fields[s.owner], name)
	}
	d.seen, d.under = nil, nil
	events := make([]kyc.AuditEvent, 0, len(fields))
	for o, names := range fields {
		events = append(events, kyc.AuditEvent{Person: o.person, Object: o.object, Action: kyc.AuditRead, Fields: names})
	}
	slices.SortFunc(events, func(a, b kyc.AuditEvent) int {
		return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Object, b.Object))
	})
	return events
}
