package datamap

// place says what becomes of a personal value after it was received.
type place struct {
	kept   string // columns, or "" for a value that is never kept
	key    key
	sent   string // providers that receive it; "" for none
	expiry expiry
}

// key is what a column is encrypted under.
type key string

const (
	keyNone   key = "—"
	keyPerson key = "person" // the data key of the person
	keyIndex  key = "index"  // no ciphertext but a keyed hash
)

// expiry is the retention class: which setting ends the keeping.
type expiry string

const (
	expiryNever    expiry = "not kept"
	expiryPerson   expiry = "`retention.persons`"
	expirySnapshot expiry = "`retention.registrations`"
	expiryCallback expiry = "`retention.callbacks`"
	expiryCall     expiry = "`retention.calls`"
	expiryRequest  expiry = "30 days"
	expiryTrail    expiry = "for good: ids and names only"
)

const (
	inPerson       = "`persons.sealed_profile`"
	inRegistration = "`registrations.sealed_profile`, `registrations.sealed_payload`"
	inCustomer     = "`customers.sealed_personal`"
	inFace         = "`faces.sealed_face`"
	inProcess      = "`processes.sealed_content`"
	qitech         = "QI Tech"
	finhub         = "FinHub"
	unico          = "Unico"
	leap           = "Leap"
)

var (
	ofPerson = place{inPerson, keyPerson, qitech, expiryPerson}
	ofInput  = place{inPerson + ", " + inRegistration, keyPerson, qitech, expiryPerson}
	unkept   = place{"", keyNone, "", expiryNever}
	// A question is compared by its keyed hash and forgotten.
	asked = unkept
)

// capture is what passes through memory to a provider and is never kept.
func capture(provider string) place { return place{"", keyNone, provider, expiryNever} }

// places has an entry for every type with a marked field, and for every field that differs from the rest of its type.
// Whoever marks a field of a new type adds it here: TestDataMap.
var places = map[string]place{
	"Person":  ofPerson,
	"Email":   ofPerson,
	"Phone":   ofPerson,
	"Address": ofPerson,

	"ExternalId":              {"`external_ids.sealed_value`", keyPerson, "", expiryPerson},
	"Registration.payload":    {"`registrations.sealed_payload`", keyPerson, "", expirySnapshot},
	"Registration.externalId": {"`registrations.sealed_external_id`", keyPerson, "", expirySnapshot},

	"RegisterPersonInput":                   ofInput,
	"RegisterPersonInput.externalId":        {"`external_ids.sealed_value`, `registrations.sealed_external_id`, `registrations.sealed_payload`", keyPerson, "", expiryPerson},
	"RegisterPersonInput.deviceFingerprint": {inPerson + ", " + inRegistration, keyPerson, "", expiryPerson},
	"EmailInput":                            ofInput,
	"PhoneInput":                            ofInput,
	"AddressInput":                          ofInput,

	"RegisterProspectInput":                  {inPerson + ", " + inCustomer, keyPerson, leap, expiryPerson},
	"UpdateProspectInput":                    {inPerson + ", " + inCustomer, keyPerson, leap, expiryPerson},
	"CustomerUser":                           {inCustomer, keyPerson, finhub, expiryPerson},
	"RegisterCustomerInput":                  {inCustomer + ", " + inPerson, keyPerson, finhub, expiryPerson},
	"RegisterCustomerInput.password":         {"", keyNone, finhub, expiryNever},
	"RegisterCustomerInput.matchingPassword": {"", keyNone, finhub, expiryNever},
	"CustomerAddressInput":                   {inCustomer + ", " + inPerson, keyPerson, finhub, expiryPerson},
	"ActivateCustomerInput.code":             {"", keyNone, finhub, expiryNever},
	"FaceRegistration.documentNumber":        {inFace, keyPerson, qitech, expiryPerson},
	"RegisterFaceInput.documentNumber":       {inFace, keyPerson, qitech, expiryPerson},
	"RegisterFaceInput.image":                capture(qitech),

	"SubjectInput":               {inProcess, keyPerson, unico, expiryPerson},
	"SelfieInput":                capture(unico),
	"CaptureDocumentInput.files": capture(unico),
	"ProcessResult":              {inProcess, keyPerson, "", expiryPerson},
	"CapturedDocument":           {inProcess, keyPerson, "", expiryPerson},

	"PersonExport": unkept, // made of the rest, and forgotten

	"Query.faceRegistrationByDocument(documentNumber)": {"", keyNone, qitech, expiryNever}, // asked there when we do not know
	"Query.reusableDocuments(documentNumber)":          {"", keyNone, unico, expiryNever},  // asked there each time
	"Query.personByDocument(documentNumber)":           asked,
	"Query.personByExternalId(externalId)":             asked,
}

// hidden is what is kept and stands in no field of the schema.
var hidden = []struct {
	columns, what string
	key           key
	expiry        expiry
}{
	{"`persons.document_index`", "document number, to find the person by it", keyIndex, expiryPerson},
	{"`external_ids.external_index`", "external id, to find the person by it", keyIndex, expiryPerson},
	{"`registrations.external_index`", "external id a registration came with", keyIndex, expirySnapshot},
	{"`customers.sealed_personal`", "what a provider of accounts was asked, but the password", keyPerson, expiryPerson},
	{"`customers.email_index`", "e-mail address of a customer, of which there is one", keyIndex, expiryPerson},
	{"`customers.phone_index`", "phone of a customer, where there may be one only", keyIndex, expiryPerson},
	{"`customers`", "where a customer stands: status, category, consents, the provider's ids of it", keyNone, expiryPerson},
	{"`faces.document_index`", "document number, to find the face by it", keyIndex, expiryPerson},
	{"`faces.registration_key`", "a provider's key of a face", keyNone, expiryPerson},
	{"`processes.document_index`", "document number, to find whose it becomes", keyIndex, expiryPerson},
	{"`processes`", "what a check was for and how it ended: kind, status, a label, the provider's id of it", keyNone, expiryPerson},
	{"`early_callbacks`", "a provider's id of a process that was not ours yet", keyNone, "1 hour"},
	{"`callbacks.sealed_body`", "webhooks of providers as received", keyPerson, expiryCallback},
	{"`idempotency_keys.key_index`", "idempotency key of a request", keyIndex, expiryRequest},
	{"`idempotency_keys.request_index`", "input of a request, to tell it from another", keyIndex, expiryRequest},
	{"`analyses`", "what a provider decided: status, code, its key of it", keyNone, expiryPerson},
	{"`provider_calls`", "which provider was called when about which of our ids, with which outcome", keyNone, expiryCall},
	{"`audit_log`", "who read or changed which fields of whom, when, with which token and purpose", keyNone, expiryTrail},
	{"`erasures`", "ids of the erased, when and why, and who was sent something", keyNone, expiryTrail},
}
