package kyc

import "reflect"

// fieldProspectStatus is what the audit log calls whatever a provider's word changes of a prospect.
const fieldProspectStatus = "Customer.status"

// prospectFields is what the data of a prospect is called in the audit log: the input it came by.
// TestProspectAuditFields holds that all of ProspectProfile is here.
var prospectFields = []struct {
	name string
	of   func(*ProspectProfile) any
}{
	{"RegisterProspectInput.firstName", func(p *ProspectProfile) any { return p.FirstName }},
	{"RegisterProspectInput.middleName", func(p *ProspectProfile) any { return p.MiddleName }},
	{"RegisterProspectInput.lastName", func(p *ProspectProfile) any { return p.LastName }},
	{"RegisterProspectInput.secondLastName", func(p *ProspectProfile) any { return p.SecondLastName }},
	{"RegisterProspectInput.phone", func(p *ProspectProfile) any { return p.Phone }},
	{"RegisterProspectInput.email", func(p *ProspectProfile) any { return p.Email }},
	{"RegisterProspectInput.birthdate", func(p *ProspectProfile) any { return p.Birthdate }},
	{"RegisterProspectInput.gender", func(p *ProspectProfile) any { return p.Gender }},
	{"RegisterProspectInput.address", func(p *ProspectProfile) any { return p.Address }},
	{"RegisterProspectInput.address2", func(p *ProspectProfile) any { return p.Address2 }},
	{"RegisterProspectInput.city", func(p *ProspectProfile) any { return p.City }},
	{"RegisterProspectInput.state", func(p *ProspectProfile) any { return p.State }},
	{"RegisterProspectInput.zipCode", func(p *ProspectProfile) any { return p.ZipCode }},
	{"RegisterProspectInput.country", func(p *ProspectProfile) any { return p.Country }},
	{"RegisterProspectInput.birthState", func(p *ProspectProfile) any { return p.BirthState }},
	{"RegisterProspectInput.language", func(p *ProspectProfile) any { return p.Language }},
	{"RegisterProspectInput.placeDetail", func(p *ProspectProfile) any { return p.PlaceDetail }},
	{"RegisterProspectInput.latitude", func(p *ProspectProfile) any { return p.Location }},
	{"RegisterProspectInput.userLatitude", func(p *ProspectProfile) any { return p.UserLocation }},
}

// profileEvent tells the audit log what differs between two profiles of a prospect.
func (c *Customer) profileEvent(action AuditAction, before, after *ProspectProfile) AuditEvent {
	e := AuditEvent{Partner: c.PartnerID, Person: c.PersonID, Object: string(c.ID), Action: action, Fields: []string{fieldProspectStatus}}
	for _, f := range prospectFields {
		if !reflect.DeepEqual(f.of(before), f.of(after)) {
			e.Fields = append(e.Fields, f.name)
		}
	}
	return e
}

// statusEvent tells the audit log that a provider's word changed a prospect.
func (c *Customer) statusEvent(action AuditAction) AuditEvent {
	return AuditEvent{Partner: c.PartnerID, Person: c.PersonID, Object: string(c.ID), Action: action, Fields: []string{fieldProspectStatus}}
}
