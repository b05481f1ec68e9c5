package kyc

// CipState is where Leap's CIP (customer identification program) of a prospect stands, in our words.
type CipState struct {
	Status CipStatus
	Detail CipStatusDetail
	// ProviderStatus is Leap's own word for Status, code-like; nil when Leap said none. Leap's fields may be
	// absent, depending on the tenant (dossier A3).
	ProviderStatus *string
}

// CipStatus is one of Leap's six statuses (dossier A4), or UNKNOWN.
type CipStatus string

// The statuses. UNKNOWN is any other word, Leap's own example `OnProcess` among them, and none at all.
const (
	CipCompleted                CipStatus = "COMPLETED"
	CipUpgradePending           CipStatus = "UPGRADE_PENDING"
	CipUpgradeInProgress        CipStatus = "UPGRADE_IN_PROGRESS"
	CipUpgradeFailed            CipStatus = "UPGRADE_FAILED"
	CipUpgradeSoftFailed        CipStatus = "UPGRADE_SOFT_FAILED"
	CipAccountUpgradeInProgress CipStatus = "ACCOUNT_UPGRADE_IN_PROGRESS"
	CipUnknown                  CipStatus = "UNKNOWN"
)

// CipStatuses lists all, in the order of the contract.
func CipStatuses() []CipStatus {
	return []CipStatus{CipCompleted, CipUpgradePending, CipUpgradeInProgress, CipUpgradeFailed, CipUpgradeSoftFailed, CipAccountUpgradeInProgress, CipUnknown}
}

// CipStatusDetail is one of Leap's eleven details (dossier A4), or UNKNOWN.
type CipStatusDetail string

// The details. NONE is also a detail that is absent; UNKNOWN is any other word.
const (
	DetailNone                  CipStatusDetail = "NONE"
	DetailInvalidAddress        CipStatusDetail = "INVALID_ADDRESS"
	DetailInvalidEmail          CipStatusDetail = "INVALID_EMAIL"
	DetailUnreadableDoc         CipStatusDetail = "UNREADABLE_DOC"
	DetailProvideAdditionalInfo CipStatusDetail = "PROVIDE_ADDITIONAL_INFO"
	DetailInvalidPersonalData   CipStatusDetail = "INVALID_PERSONAL_DATA"
	DetailOtpPrivacyMissing     CipStatusDetail = "OTP_PRIVACY_MISSING"
	DetailOtpContractMissing    CipStatusDetail = "OTP_CONTRACT_MISSING"
	DetailCompliance            CipStatusDetail = "COMPLIANCE"
	DetailComplianceBlocked     CipStatusDetail = "COMPLIANCE_BLOCKED"
	DetailOfacFailed            CipStatusDetail = "OFAC_FAILED"
	DetailUnknown               CipStatusDetail = "UNKNOWN"
)

// CipStatusDetails lists all, in the order of the contract.
func CipStatusDetails() []CipStatusDetail {
	return []CipStatusDetail{DetailNone, DetailInvalidAddress, DetailInvalidEmail, DetailUnreadableDoc, DetailProvideAdditionalInfo, DetailInvalidPersonalData,
		DetailOtpPrivacyMissing, DetailOtpContractMissing, DetailCompliance, DetailComplianceBlocked, DetailOfacFailed, DetailUnknown}
}

// Outcome is what a status and its detail mean for the customer, and what has to happen next (nil: nothing).
// It is the table of the package comment ("Prospects"), which is ours: Leap defines none of these words and
// links no detail to a status (dossier A4, A11.10). Leap's word "final" does not exist either; only an
// explicit no is one, and whatever is unknown stays open.
//
// MUST follow the table: TestCipOutcomeTable.
func (c CipState) Outcome() (CustomerStatus, *NextAction) {
	switch {
	case c.Detail == DetailOfacFailed, c.Detail == DetailComplianceBlocked:
		// An explicit no, whatever the status beside it says.
		return CustomerRejected, cipAction(ActionContactSupport, "the provider's compliance check refused this person: contact support")
	case c.Status == CipUpgradeFailed:
		return CustomerRejected, cipAction(ActionContactSupport, "the provider refused this person: contact support")
	}
	status, action := CustomerInProgress, cipAction(ActionWait, "the provider is checking this person: wait")
	switch c.Detail {
	case DetailInvalidAddress:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the address was not accepted: correct it")
	case DetailInvalidEmail:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the e-mail address was not accepted: correct it")
	case DetailInvalidPersonalData:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "names or birth date were not accepted: correct them")
	case DetailProvideAdditionalInfo:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the provider needs more: complete the optional data")
	case DetailUnreadableDoc:
		status, action = CustomerActionRequired, cipAction(ActionCaptureDocument, "the document could not be read: capture it again")
	case DetailOtpPrivacyMissing:
		status, action = CustomerActionRequired, cipAction(ActionAcceptTerms, "the person has not accepted the privacy notice")
	case DetailOtpContractMissing:
		status, action = CustomerActionRequired, cipAction(ActionAcceptTerms, "the person has not accepted the contract")
	case DetailCompliance:
		action = cipAction(ActionWait, "the provider's compliance team is reviewing this person: wait")
	default: // NONE and UNKNOWN: the status speaks
		switch {
		case c.Status == CipUpgradeSoftFailed && c.Detail == DetailNone:
			status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the provider did not accept the data and does not say which: check all of it")
		case c.Status == CipUpgradeSoftFailed:
			status, action = CustomerActionRequired, cipAction(ActionContactSupport, "the provider asks for something this gateway does not know: contact support")
		case c.Status == CipUpgradePending, c.Status == CipUnknown:
			status = CustomerPending
		}
	}
	if c.Status == CipCompleted && c.Detail != DetailUnknown {
		// The yes is explicit. What a known detail asks for beside it is still to be done.
		if status = CustomerActive; c.Detail == DetailNone {
			action = nil
		}
	}
	return status, action
}

func cipAction(kind NextActionKind, message string) *NextAction {
	step := StepCip
	return &NextAction{Kind: kind, Step: &step, Message: message}
}
