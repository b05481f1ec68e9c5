package kyc

import "time"

// Customer is one person as the customer of one provider that opens accounts: FinHub's individual customers and
// Leap's prospects are both (schema: Customer). What a provider says about it changes it through that provider's
// own verdict only; nothing leaves a final status.
type Customer struct {
	ID        CustomerID
	PartnerID PartnerID
	PersonID  PersonID
	Provider  string // as in metrics: "finhub"

	// The provider's ids, as far as it told them.
	ProviderCustomerID *string
	ProviderUserID     *string
	ProviderPersonID   *string

	Status         CustomerStatus
	ProviderStatus *string // the provider's word, code-like
	StatusDetail   *string // code-like
	User           *CustomerUser
	Category       *CustomerCategory // with the parameters that were sent
	Cip            *CipState
	NextAction     *NextAction

	// Steps is how far a FinHub customer is on its way to an active account; nil elsewhere.
	Steps *CustomerSteps
	// Prospect is how far the work on a Leap customer is; nil elsewhere.
	Prospect *ProspectState
	// Unique is what no two customers of one partner at one provider may share.
	Unique CustomerKeys
	// Request is what the provider was or will be asked, in the form of that provider's verb, so that its job can go
	// on with it. It is personal and never holds a password.
	Request JSON
	// Submission is what we know about the provider having the customer.
	Submission Submission

	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int // 0: the registration was not accepted yet, so nobody may see it
}

// CustomerKeys are the values that are unique among the customers of a partner at a provider. A provider that
// lets two customers share one leaves it out.
type CustomerKeys struct {
	Email *EmailAddress
	Phone *PhoneNumber
}

// CustomerStatus is where a customer stands.
type CustomerStatus string

// The statuses of the contract. Unknown is PENDING; ACTIVE, REJECTED and FAILED are final.
const (
	CustomerPending           CustomerStatus = "PENDING"
	CustomerInProgress        CustomerStatus = "IN_PROGRESS"
	CustomerActionRequired    CustomerStatus = "ACTION_REQUIRED"
	CustomerPendingActivation CustomerStatus = "PENDING_ACTIVATION"
	CustomerActive            CustomerStatus = "ACTIVE"
	CustomerRejected          CustomerStatus = "REJECTED"
	CustomerFailed            CustomerStatus = "FAILED"
)

// Final reports whether nothing leaves this status.
func (s CustomerStatus) Final() bool {
	return s == CustomerActive || s == CustomerRejected || s == CustomerFailed
}

// CustomerUser is the login the provider made with the customer.
type CustomerUser struct {
	ID       *string
	Username EmailAddress // FinHub logs in with the e-mail address
	Status   string       // the provider's word, code-like
	Roles    []string
}

// CustomerCategory is a category of customers at FinHub (schema: CustomerCategory).
type CustomerCategory struct {
	ID         string // what registerCustomer's categoryId names
	DatabaseID string // FinHub's other id of it; also taken as categoryId
	Name       string
	// Description is FinHub's; "" when it gives none.
	Description string
	RiskLevel   *string // FinHub's word
	Features    []CategoryFeature
}

// CategoryFeature is a set of parameters that a category has.
type CategoryFeature struct {
	ID      string // FinHub's databaseId
	Code    string
	Name    *string
	Enabled bool
	// Parameters are those a registration would send by itself; on a customer, those that were sent.
	Parameters    []Parameter
	MandatoryKeys []string
	AllowedValues []AllowedValues
	// MultiValueKeys may be given more than once.
	MultiValueKeys []string
}

// Parameter is one value of a feature.
type Parameter struct{ Name, Value string }

// AllowedValues are the values a key may have. One may be a range, "0-100".
type AllowedValues struct {
	Key    string
	Values []string
}

// CategoryHierarchy is what a tenant of FinHub offers.
type CategoryHierarchy struct {
	TenantID   string
	TenantName *string
	Categories []CustomerCategory
}

// CipState is where Leap's customer identification programme stands.
type CipState struct {
	Status         CipStatus
	Detail         CipStatusDetail
	ProviderStatus *string // Leap's word, code-like
	// StuckSince is set when nothing has moved for so long that somebody should ask Leap; it is still polled, rarely.
	StuckSince *time.Time
}

// CipStatus is Leap's `status`.
type CipStatus string

// The statuses of the contract.
const (
	CipCompleted                CipStatus = "COMPLETED"
	CipUpgradePending           CipStatus = "UPGRADE_PENDING"
	CipUpgradeInProgress        CipStatus = "UPGRADE_IN_PROGRESS"
	CipUpgradeFailed            CipStatus = "UPGRADE_FAILED"
	CipUpgradeSoftFailed        CipStatus = "UPGRADE_SOFT_FAILED"
	CipAccountUpgradeInProgress CipStatus = "ACCOUNT_UPGRADE_IN_PROGRESS"
	CipUnknown                  CipStatus = "UNKNOWN"
)

// CipStatusDetail is Leap's `statusDetail`.
type CipStatusDetail string

// The details of the contract.
const (
	CipDetailNone                  CipStatusDetail = "NONE"
	CipDetailInvalidAddress        CipStatusDetail = "INVALID_ADDRESS"
	CipDetailInvalidEmail          CipStatusDetail = "INVALID_EMAIL"
	CipDetailUnreadableDoc         CipStatusDetail = "UNREADABLE_DOC"
	CipDetailProvideAdditionalInfo CipStatusDetail = "PROVIDE_ADDITIONAL_INFO"
	CipDetailInvalidPersonalData   CipStatusDetail = "INVALID_PERSONAL_DATA"
	CipDetailOtpPrivacyMissing     CipStatusDetail = "OTP_PRIVACY_MISSING"
	CipDetailOtpContractMissing    CipStatusDetail = "OTP_CONTRACT_MISSING"
	CipDetailCompliance            CipStatusDetail = "COMPLIANCE"
	CipDetailComplianceBlocked     CipStatusDetail = "COMPLIANCE_BLOCKED"
	CipDetailOfacFailed            CipStatusDetail = "OFAC_FAILED"
	CipDetailUnknown               CipStatusDetail = "UNKNOWN"
)

// IsNode marks Customer as a Node.
func (*Customer) IsNode() {}
