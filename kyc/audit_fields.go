package kyc

import "reflect"

// What a change of a person is called in the audit log: schema coordinates, for what has no field in an answer those
// of the input. TestAuditFields holds that all of Profile is here and all of it is in the schema.
var profileFields = []struct {
	name string
	of   func(*Profile) any
}{
	{"Person.name", func(p *Profile) any { return p.Name }},
	{"Person.documentNumber", func(p *Profile) any { return p.DocumentNumber }},
	{"Person.birthdate", func(p *Profile) any { return p.Birthdate }},
	{"Person.emails", func(p *Profile) any { return p.Emails }},
	{"Person.phones", func(p *Profile) any { return p.Phones }},
	{"Person.address", func(p *Profile) any { return p.Address }},
	{"Person.gender", func(p *Profile) any { return p.Gender }},
	{"Person.nationality", func(p *Profile) any { return p.Nationality }},
	{"Person.monthlyIncome", func(p *Profile) any { return p.MonthlyIncome }},
	{"Person.occupation", func(p *Profile) any { return p.Occupation }},
	{"Person.motherName", func(p *Profile) any { return p.MotherName }},
	{"Person.fatherName", func(p *Profile) any { return p.FatherName }},
	{"RegisterPersonInput.faceRecognitionId", func(p *Profile) any { return p.FaceRecognitionID }},
	{"RegisterPersonInput.sessionId", func(p *Profile) any { return p.SessionID }},
	{"RegisterPersonInput.ipAddress", func(p *Profile) any { return p.IPAddress }},
	{"RegisterPersonInput.deviceFingerprint", func(p *Profile) any { return p.DeviceFingerprint }},
}

const (
	fieldPayload     = "Registration.payload"
	fieldExternalIDs = "Person.externalIds"
	fieldKyc         = "Person.kyc"

	fieldFaceKey      = "FaceRegistration.registrationKey"
	fieldFaceDocument = "FaceRegistration.documentNumber"

	fieldProcessResult = "Process.result"
)

// Names of a customer's fields.
const (
	fieldCustomerUser   = "CustomerUser.username"
	fieldCustomerStatus = "Customer.status"
)

// event tells the audit log of a customer.
func (c *Customer) event(action AuditAction, fields ...string) AuditEvent {
	return AuditEvent{Partner: c.PartnerID, Person: c.PersonID, Object: string(c.ID), Action: action, Fields: fields}
}

// subjectFields are what a process keeps of its input.
var subjectFields = []struct {
	name string
	set  func(ProcessSubject) bool
}{
	{"SubjectInput.documentNumber", func(s ProcessSubject) bool { return !s.DocumentNumber.Empty() }},
	{"SubjectInput.name", func(s ProcessSubject) bool { return !s.Name.Empty() }},
	{"SubjectInput.email", func(s ProcessSubject) bool { return !s.Email.Empty() }},
	{"SubjectInput.phone", func(s ProcessSubject) bool { return !s.Phone.Empty() }},
}

// event is what the audit log is told of a process.
func (p *Process) event(action AuditAction) AuditEvent {
	e := AuditEvent{Partner: p.PartnerID, Object: string(p.ID), Action: action}
	if p.PersonID != nil {
		e.Person = *p.PersonID
	}
	if action == AuditUpdate {
		e.Fields = []string{fieldProcessResult}
		return e
	}
	for _, f := range subjectFields {
		if f.set(p.Request) {
			e.Fields = append(e.Fields, f.name)
		}
	}
	return e
}

// AuditFields lists every name that a change may have in the audit log. Those of reads come from the schema itself.
func AuditFields() []string {
	names := []string{fieldPayload, fieldExternalIDs, fieldKyc, fieldFaceKey, fieldFaceDocument, fieldProcessResult, fieldCustomerUser, fieldCustomerStatus}
	for _, f := range subjectFields {
		names = append(names, f.name)
	}
	for _, f := range profileFields {
		names = append(names, f.name)
	}
	names = append(names, fieldProspectStatus)
	for _, f := range prospectFields {
		names = append(names, f.name)
	}
	return names
}

// changedFields names what differs between two profiles.
func changedFields(before, after *Profile) (names []string) {
	for _, f := range profileFields {
		if !reflect.DeepEqual(f.of(before), f.of(after)) {
			names = append(names, f.name)
		}
	}
	return names
}

// settle makes the event that of a registration that begins to count: count changes the person, and what differs
// afterwards is what the event names. It gives the profile before.
func (e *AuditEvent) settle(p *Person, count func()) (before Profile) {
	e.Action = AuditCreate
	if p.Version > 0 {
		e.Action, before = AuditUpdate, p.Profile
	}
	count()
	e.Fields = append(e.Fields, changedFields(&before, &p.Profile)...)
	return before
}
