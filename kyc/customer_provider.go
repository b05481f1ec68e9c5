package kyc

// What a provider of customers is asked and answers. FinHub is the only one so far; Tenant is its `X-Tenant-ID`, which
// the partner's configuration names.

// Tenant is a partner's id at FinHub.
type Tenant string

// CustomerRegistration is a customer to be made. Category has the parameters to send. It holds a password and is never
// stored.
type CustomerRegistration struct {
	Tenant      Tenant
	FirstName   Name
	LastName    Name
	Email       EmailAddress
	Phone       PhoneNumber
	Password    Password
	Roles       []string
	Category    CustomerCategory
	Birthdate   Date
	Gender      Gender
	Nationality string // ISO 3166-1 alpha-2
	Addresses   []CustomerAddress
}

// CustomerAddress is an address of a customer.
type CustomerAddress struct {
	Type       string // HOME
	Street     PersonalText
	City       string
	State      *string
	PostalCode PersonalText
	Country    string // ISO 3166-1 alpha-2
	Primary    bool
}

// CustomerSearch asks for a customer by what is unique in the tenant.
type CustomerSearch struct {
	Tenant Tenant
	Email  EmailAddress
}

// CustomerReference names a customer at the provider.
type CustomerReference struct {
	Tenant     Tenant
	CustomerID string
}

// CustomerVerdict is what a provider says about a customer now.
type CustomerVerdict struct {
	CustomerID string
	UserID     string // "" when it did not say, as the next one
	PersonID   string
	Status     CustomerStatus
	Known      bool // false: a word we do not know; Status is then PENDING
	// ProviderStatus and UserStatus are the provider's words, code-like.
	ProviderStatus string
	UserStatus     string
}

// FoundCustomer is a customer that was looked up, and what the provider told of the person; empty what it did not tell.
type FoundCustomer struct {
	CustomerVerdict
	FirstName, LastName, FullName Name
	Phones                        []PhoneNumber
	Birthdate                     Date // as it was told
}

// VerificationRequest asks for the verification of a customer.
type VerificationRequest struct {
	CustomerReference
	UserID string
	Type   string // IDENTITY_VERIFICATION
	Level  string // TENANT_VERIFIED
	High   bool   // of high priority
}

// VerificationVerdict is what a provider says about a verification.
type VerificationVerdict struct {
	ID             string
	State          VerificationState
	Known          bool // false: a word we do not know; State is then OPEN
	ProviderStatus string
	// RequiredDocuments are the provider's codes; nil when it did not say.
	RequiredDocuments []string
}

// ConsentRequest says that a customer consented.
type ConsentRequest struct {
	CustomerReference
	Consent CustomerConsent
}

// ConsentVerdict is what a provider made of a consent.
type ConsentVerdict struct {
	Accepted       bool
	Known          bool
	ProviderStatus string
}

// ActivationCheck is what still stands between a customer and the active account.
type ActivationCheck struct {
	CanActivate    bool
	VerificationOK bool
	ConsentOK      bool
	// Missing are the consents the provider waits for; nil when it did not say.
	Missing []ConsentType
	// ConsentSaid: it said yes or no about the consents.
	ConsentSaid bool
	// Denied: it said that the account may not be activated, Prohibited: because of the customer's risk.
	Denied, Prohibited bool
	// Verification is the provider's word for it; State is OPEN when it did not say.
	Verification VerificationVerdict
	// Active: the provider says that the account is active already.
	Active bool
}

// ActivationRequest activates an account. Code came to the customer by e-mail and is never stored.
type ActivationRequest struct {
	CustomerReference
	UserID string
	Email  EmailAddress
	Code   Password
}
