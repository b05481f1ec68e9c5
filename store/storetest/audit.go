package storetest

import (
	"errors"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// audit: records come back as they were given, newest first, in pages, to their partner only; what is undone leaves none.
func audit(t *testing.T, b *bench) {
	one, two, foreign := kyc.NewPersonID(), kyc.NewPersonID(), kyc.NewPersonID()
	record := func(partner kyc.PartnerID, person kyc.PersonID, i int) *kyc.AuditRecord {
		return &kyc.AuditRecord{
			At: epoch.Add(time.Duration(i) * time.Second), PartnerID: partner, PersonID: person, Object: string(kyc.NewRegistrationID()), Action: kyc.AuditUpdate,
			Fields: []string{"Person.birthdate", "Person.name"}, Actor: "clerk é", TokenID: new("token"), RequestID: new("R" + strconv.Itoa(i)),
		}
	}
	var want []*kyc.AuditRecord
	for i := range 7 {
		b.write(func(tx kyc.Tx) error {
			r := record(acme, one, i)
			want = append([]*kyc.AuditRecord{r}, want...)
			return tx.Audit(ctx, r, record(acme, two, i), record(other, foreign, i))
		})
	}
	failed := errors.New("no")
	if err := b.Write(ctx, func(tx kyc.Tx) error { return errors.Join(tx.Audit(ctx, record(acme, one, 9)), failed) }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	persons := []kyc.PersonID{one, two, foreign, kyc.NewPersonID()}
	page := kyc.Page{First: 3}
	for at := 0; at < len(want); at += 3 {
		got, err := b.AuditRecords(ctx, acme, persons, page)
		if err != nil {
			t.Fatal(err)
		}
		mine := got[one]
		if len(got[foreign]) != 0 || len(got) != 2 || len(got[two]) != min(4, 7-at) || len(mine) != min(4, 7-at) {
			t.Fatalf("after %q: %d and %d records, %d of another partner", page.After, len(mine), len(got[two]), len(got[foreign]))
		}
		for i, r := range mine {
			number := r.Number
			if r.Number = 0; !reflect.DeepEqual(r, want[at+i]) {
				t.Errorf("got  %+v\nwant %+v", *r, *want[at+i])
			}
			if i == 2 {
				// The other person's record of the same page was written right behind it.
				page.After = strconv.FormatInt(number, 10)
			}
		}
	}
	counts, err := b.CountAuditRecords(ctx, acme, persons)
	if err != nil || len(counts) != 2 || counts[one] != 7 || counts[two] != 7 {
		t.Errorf("counted %v, %v", counts, err)
	}
	b.write(func(tx kyc.Tx) error { return tx.Audit(ctx) })
}
