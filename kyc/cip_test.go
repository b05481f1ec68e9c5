package kyc

import "testing"

// The table of the package comment, cell by cell: a letter for the status, one for what has to happen next.
//
//	status  A ACTIVE  R REJECTED  ! ACTION_REQUIRED  I IN_PROGRESS  P PENDING
//	next    - nothing  d CORRECT_DATA  c CAPTURE_DOCUMENT  t ACCEPT_TERMS  w WAIT  s CONTACT_SUPPORT
var cipTable = map[CipStatus]string{
	//                           NONE ADDR MAIL DOC  INFO PERS PRIV CONT COMP BLCK OFAC UNKN
	CipCompleted:                "A-   Ad   Ad   Ac   Ad   Ad   At   At   Aw   Rs   Rs   Iw",
	CipUpgradePending:           "Pw   !d   !d   !c   !d   !d   !t   !t   Iw   Rs   Rs   Pw",
	CipUpgradeInProgress:        "Iw   !d   !d   !c   !d   !d   !t   !t   Iw   Rs   Rs   Iw",
	CipUpgradeFailed:            "Rs   Rs   Rs   Rs   Rs   Rs   Rs   Rs   Rs   Rs   Rs   Rs",
	CipUpgradeSoftFailed:        "!d   !d   !d   !c   !d   !d   !t   !t   Iw   Rs   Rs   !s",
	CipAccountUpgradeInProgress: "Iw   !d   !d   !c   !d   !d   !t   !t   Iw   Rs   Rs   Iw",
	CipUnknown:                  "Pw   !d   !d   !c   !d   !d   !t   !t   Iw   Rs   Rs   Pw",
}

func TestCipOutcomeTable(t *testing.T) {
	t.Parallel()
	statuses := map[byte]CustomerStatus{'A': CustomerActive, 'R': CustomerRejected, '!': CustomerActionRequired, 'I': CustomerInProgress, 'P': CustomerPending}
	actions := map[byte]NextActionKind{'-': "", 'd': ActionCorrectData, 'c': ActionCaptureDocument, 't': ActionAcceptTerms, 'w': ActionWait, 's': ActionContactSupport}
	cells := 0
	for _, status := range CipStatuses() {
		for i, detail := range CipStatusDetails() {
			cell := cipTable[status][5*i : 5*i+2]
			got, action := CipState{Status: status, Detail: detail}.Outcome()
			var kind NextActionKind
			if action != nil {
				kind = action.Kind
				if action.Message == "" || action.Step == nil || *action.Step != StepCip {
					t.Errorf("%s × %s: %+v", status, detail, action)
				}
			}
			if got != statuses[cell[0]] || kind != actions[cell[1]] {
				t.Errorf("%s × %s: %s and %q, want %s and %q", status, detail, got, kind, statuses[cell[0]], actions[cell[1]])
			}
			cells++
		}
	}
	if cells != 84 {
		t.Errorf("%d cells", cells)
	}
}
