package kyc

// CipStatuses lists all, in the order of the contract. UNKNOWN is any word but the six of dossier A4, Leap's own
// example OnProcess among them, and none at all.
func CipStatuses() []CipStatus {
	return []CipStatus{CipCompleted, CipUpgradePending, CipUpgradeInProgress, CipUpgradeFailed, CipUpgradeSoftFailed, CipAccountUpgradeInProgress, CipUnknown}
}

// CipStatusDetails lists all, in the order of the contract. NONE is also a detail that is absent; UNKNOWN is any word but
// the eleven of dossier A4.
func CipStatusDetails() []CipStatusDetail {
	return []CipStatusDetail{CipDetailNone, CipDetailInvalidAddress, CipDetailInvalidEmail, CipDetailUnreadableDoc, CipDetailProvideAdditionalInfo, CipDetailInvalidPersonalData,
		CipDetailOtpPrivacyMissing, CipDetailOtpContractMissing, CipDetailCompliance, CipDetailComplianceBlocked, CipDetailOfacFailed, CipDetailUnknown}
}

// Outcome is what a status and its detail mean for the customer, and what has to happen next (nil: nothing).
// It is the table of the package comment ("Prospects"), which is ours: Leap defines none of these words and
// links no detail to a status (dossier A4, A11.10). Leap's word "final" does not exist either; only an
// explicit no is one, and whatever is unknown stays open.
//
// MUST follow the table: TestCipOutcomeTable.
func (c CipState) Outcome() (CustomerStatus, *NextAction) {
	switch {
	case c.Detail == CipDetailOfacFailed, c.Detail == CipDetailComplianceBlocked:
		// An explicit no, whatever the status beside it says.
		return CustomerRejected, cipAction(ActionContactSupport, "the provider's compliance check refused this person: contact support")
	case c.Status == CipUpgradeFailed:
		return CustomerRejected, cipAction(ActionContactSupport, "the provider refused this person: contact support")
	}
	status, action := CustomerInProgress, cipAction(ActionWait, "the provider is checking this person: wait")
	switch c.Detail {
	case CipDetailInvalidAddress:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the address was not accepted: correct it")
	case CipDetailInvalidEmail:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the e-mail address was not accepted: correct it")
	case CipDetailInvalidPersonalData:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "names or birth date were not accepted: correct them")
	case CipDetailProvideAdditionalInfo:
		status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the provider needs more: complete the optional data")
	case CipDetailUnreadableDoc:
		status, action = CustomerActionRequired, cipAction(ActionCaptureDocument, "the document could not be read: capture it again")
	case CipDetailOtpPrivacyMissing:
		status, action = CustomerActionRequired, cipAction(ActionAcceptTerms, "the person has not accepted the privacy notice")
	case CipDetailOtpContractMissing:
		status, action = CustomerActionRequired, cipAction(ActionAcceptTerms, "the person has not accepted the contract")
	case CipDetailCompliance:
		action = cipAction(ActionWait, "the provider's compliance team is reviewing this person: wait")
	default: // NONE and UNKNOWN: the status speaks
		switch {
		case c.Status == CipUpgradeSoftFailed && c.Detail == CipDetailNone:
			status, action = CustomerActionRequired, cipAction(ActionCorrectData, "the provider did not accept the data and does not say which: check all of it")
		case c.Status == CipUpgradeSoftFailed:
			status, action = CustomerActionRequired, cipAction(ActionContactSupport, "the provider asks for something this gateway does not know: contact support")
		case c.Status == CipUpgradePending, c.Status == CipUnknown:
			status = CustomerPending
		}
	}
	if c.Status == CipCompleted && c.Detail != CipDetailUnknown {
		// The yes is explicit. What a known detail asks for beside it is still to be done.
		if status = CustomerActive; c.Detail == CipDetailNone {
			action = nil
		}
	}
	return status, action
}

func cipAction(kind NextActionKind, message string) *NextAction {
	step := StepCip
	return &NextAction{Kind: kind, Step: &step, Message: message}
}
