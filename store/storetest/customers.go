package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// fullCustomer is one with every field set.
func fullCustomer(p *kyc.Person) *kyc.Customer {
	code, step := "CODE", kyc.StepCustomer
	return &kyc.Customer{
		ID: kyc.NewCustomerID(), PartnerID: p.PartnerID, PersonID: p.ID, Provider: "finhub",
		ProviderCustomerID: &code, ProviderUserID: new("user"), ProviderPersonID: new("person"),
		Status: kyc.CustomerPendingActivation, ProviderStatus: &code, StatusDetail: &code, Submission: kyc.SubmissionAccepted,
		User: &kyc.CustomerUser{ID: new("user"), Username: kyc.NewEmailAddress("Ana@Example.com"), Status: "PENDING_ACTIVATION", Roles: []string{"USER"}},
		Category: &kyc.CustomerCategory{ID: "a", DatabaseID: "b", Name: "Medium", RiskLevel: new("MEDIUM"), Features: []kyc.CategoryFeature{{
			ID: "f", Code: "F", Name: new("Feature"), Enabled: true, Parameters: []kyc.Parameter{{Name: "k", Value: "v"}}, MandatoryKeys: []string{"k"},
			AllowedValues: []kyc.AllowedValues{{Key: "k", Values: []string{"v"}}}, MultiValueKeys: []string{},
		}}},
		Cip:        &kyc.CipState{Status: kyc.CipUpgradePending, Detail: kyc.CipDetailNone, ProviderStatus: &code},
		NextAction: &kyc.NextAction{Kind: kyc.ActionWait, Step: &step, Message: "wait"},
		Steps: &kyc.CustomerSteps{
			Verification: &kyc.CustomerVerification{ProviderID: "v", State: kyc.VerificationOpen, Submission: kyc.SubmissionAccepted, RequiredDocuments: []string{"GOVERNMENT_ID"}, StartedAt: epoch},
			Consents:     []kyc.CustomerConsent{{Type: kyc.ConsentTerms, Version: "1.0", GivenAt: epoch, Submission: kyc.SubmissionPlanned}},
			Missing:      []kyc.ConsentType{kyc.ConsentPrivacy},
		},
		Unique:    kyc.CustomerKeys{Email: new(kyc.NewEmailAddress("Ana@Example.com")), Phone: new(kyc.NewPhoneNumber("+5511987654321"))},
		Request:   kyc.JSON(`{"name":"Ana"}`),
		CreatedAt: epoch, UpdatedAt: epoch.Add(time.Second), Version: 1,
	}
}

func customers(t *testing.T, b *bench) {
	p, q, foreign := newPerson(acme), newPerson(acme), newPerson(other)
	b.add(p, q, foreign)
	c := fullCustomer(p)
	b.write(func(tx kyc.Tx) error { return tx.InsertCustomer(ctx, c) })
	got := func(id kyc.CustomerID) *kyc.Customer {
		t.Helper()
		found, err := b.Customer(ctx, acme, id)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := got(c.ID); !reflect.DeepEqual(found, c) {
		t.Errorf("round trip:\ngot  %+v\nwant %+v", found, c)
	}

	// Found by what is unique, whatever the case of the address, at this provider and of this partner only.
	byEmail := func(partner kyc.PartnerID, provider, email string) *kyc.Customer {
		t.Helper()
		found, err := b.CustomerByEmail(ctx, partner, provider, kyc.NewEmailAddress(email))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if byEmail(acme, "finhub", "aNa@eXample.COM") == nil || byEmail(acme, "leap", "ana@example.com") != nil || byEmail(other, "finhub", "ana@example.com") != nil {
		t.Error("by e-mail")
	}
	if found, err := b.CustomerByPhone(ctx, acme, "finhub", kyc.NewPhoneNumber("+5511987654321")); err != nil || found == nil || found.ID != c.ID {
		t.Errorf("by phone: %v, %v", found, err)
	}
	if found, err := b.Customer(ctx, other, c.ID); found != nil || err != nil {
		t.Errorf("another partner sees %v, %v", found, err)
	}

	// Of two with one address, the second is a conflict; elsewhere it is none, and NULL meets nothing.
	insert := func(change func(*kyc.Customer)) error {
		c := fullCustomer(q)
		change(c)
		return b.Write(ctx, func(tx kyc.Tx) error { return tx.InsertCustomer(ctx, c) })
	}
	var e *kyc.Error
	for name, change := range map[string]func(*kyc.Customer){
		"e-mail": func(c *kyc.Customer) {
			c.Unique.Phone, c.Unique.Email = nil, new(kyc.NewEmailAddress("ANA@example.com"))
		},
		"phone": func(c *kyc.Customer) { c.Unique.Email = nil },
	} {
		if err := insert(change); !errors.As(err, &e) || e.Kind != kyc.Conflict {
			t.Errorf("the same %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*kyc.Customer){
		"neither":          func(c *kyc.Customer) { c.Unique = kyc.CustomerKeys{} },
		"neither again":    func(c *kyc.Customer) { c.Unique = kyc.CustomerKeys{} },
		"another provider": func(c *kyc.Customer) { c.Provider = "leap" },
		"another partner":  func(c *kyc.Customer) { c.PartnerID, c.PersonID = other, foreign.ID },
		"not accepted":     func(c *kyc.Customer) { c.Unique, c.Version = kyc.CustomerKeys{}, 0 },
	} {
		if err := insert(change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := insert(func(c *kyc.Customer) { c.Unique, c.PersonID = kyc.CustomerKeys{}, foreign.ID }); err == nil {
		t.Error("a customer of another partner's person was stored")
	}

	of, err := b.CustomersOf(ctx, acme, []kyc.PersonID{q.ID, p.ID, foreign.ID, q.ID})
	if err != nil || len(of) != 2 || len(of[p.ID]) != 1 || len(of[q.ID]) != 3 || of[q.ID][0].ID > of[q.ID][1].ID {
		t.Errorf("of persons: %v, %v", of, err)
	}

	// An update overwrites, and frees what is no longer used.
	changed := fullCustomer(p)
	changed.ID, changed.CreatedAt = c.ID, c.CreatedAt
	changed.Status, changed.Steps, changed.Cip, changed.User, changed.Category, changed.NextAction = kyc.CustomerActive, nil, nil, nil, nil, nil
	changed.Unique, changed.Request, changed.Version = kyc.CustomerKeys{}, nil, 2
	b.write(func(tx kyc.Tx) error { return tx.UpdateCustomer(ctx, changed) })
	if found := got(c.ID); !reflect.DeepEqual(found, changed) {
		t.Errorf("update:\ngot  %+v\nwant %+v", found, changed)
	}
	if err := insert(func(c *kyc.Customer) { c.Unique.Phone = nil }); err != nil {
		t.Errorf("the address was not freed: %v", err)
	}
	missing := fullCustomer(p)
	missing.Unique = kyc.CustomerKeys{}
	if err := b.Write(ctx, func(tx kyc.Tx) error { return tx.UpdateCustomer(ctx, missing) }); err == nil {
		t.Error("a customer who is not there was updated")
	}

	b.write(func(tx kyc.Tx) error { return tx.DeleteCustomer(ctx, acme, c.ID) })
	if got(c.ID) != nil {
		t.Error("deleted, and still there")
	}
	b.write(func(tx kyc.Tx) error { return tx.DeletePerson(ctx, acme, q.ID) })
	if of, err := b.CustomersOf(ctx, acme, []kyc.PersonID{q.ID}); err != nil || len(of) != 0 {
		t.Errorf("the person is gone, the customers are not: %v, %v", of, err)
	}
}
