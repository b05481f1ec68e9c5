package qitechsim

import (
	"strconv"
	"strings"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The values of analysis_status (dossier A.6), and one of a sibling product that clients must survive.
const (
	StatusAutomaticallyApproved   = "automatically_approved"
	StatusAutomaticallyReproved   = "automatically_reproved"
	StatusInManualAnalysis        = "in_manual_analysis"
	StatusManuallyApproved        = "manually_approved"
	StatusManuallyReproved        = "manually_reproved"
	StatusInQueue                 = "in_queue"
	StatusPending                 = "pending"
	StatusAutomaticallyChallenged = "automatically_challenged"

	statusNotAnalysed = "not_analysed"
)

// final says that nothing follows. An unknown word is not final.
func final(status string) bool {
	switch status {
	case StatusAutomaticallyApproved, StatusAutomaticallyReproved, StatusManuallyApproved, StatusManuallyReproved, statusNotAnalysed:
		return true
	}
	return false
}

// decidable are the words that [Sim.Decide] takes: a typing error must not become an unknown status by
// accident, so the unknown ones are those that sibling products really have (dossier A.6).
var decidable = []string{
	StatusAutomaticallyApproved, StatusAutomaticallyReproved, StatusInManualAnalysis, StatusManuallyApproved, StatusManuallyReproved, StatusInQueue, StatusPending,
	"automatically_challenge", StatusAutomaticallyChallenged, "manually_challenged", "waiting_for_data",
}

// fate is what becomes of an analysis: a status at once, and perhaps another one later.
type fate struct {
	status string
	reason string // empty: the status itself, as in the webhook of dossier A.10
	later  string // empty: nothing follows by itself
	delay  delay
}

// delay names one of the two delays of Config, so that the tables below need none.
type delay int

const (
	manual delay = iota
	slow
)

func (c Config) duration(d delay) time.Duration {
	if d == slow {
		return c.PendingDelay
	}
	return c.ManualDelay
}

// Reasons that a third party's client knows (dossier A.5). Which digit has which is ours.
const (
	documentNotFound = "document_not_found"
	deceasedPerson   = "deceased_person"
)

// currentDigits is the table of QI Tech's introduction (dossier A.11, first column). That 7 resolves, and
// how, is ours: the documents do not say.
var currentDigits = [10]fate{
	0: {status: StatusInManualAnalysis},
	1: {status: StatusInManualAnalysis},
	2: {status: StatusInManualAnalysis},
	3: {status: StatusInManualAnalysis},
	4: {status: StatusAutomaticallyReproved, reason: documentNotFound},
	5: {status: StatusInManualAnalysis, later: StatusManuallyReproved},
	6: {status: StatusInManualAnalysis, later: StatusManuallyApproved},
	7: {status: StatusPending, later: StatusAutomaticallyApproved, delay: slow},
	8: {status: StatusAutomaticallyReproved, reason: deceasedPerson},
	9: {status: StatusAutomaticallyApproved},
}

// zaigDigits is the table of the former brand (dossier A.11, second column). It ends at 4; the digits above
// are those of the current table (ours).
var zaigDigits = func() [10]fate {
	t := currentDigits
	t[0] = fate{status: StatusAutomaticallyApproved}
	t[1] = fate{status: StatusInManualAnalysis, later: StatusManuallyApproved}
	t[2] = fate{status: StatusInManualAnalysis}
	t[3] = fate{status: StatusAutomaticallyReproved, reason: documentNotFound}
	t[4] = fate{status: StatusPending, later: StatusAutomaticallyApproved, delay: slow}
	return t
}()

// Magic values of ours, for what the provider's digits cannot bring about. An address may carry a tag,
// "in-queue+17@kycgate.test", so that many people can have it; case does not matter.
const (
	EmailInQueue         = "in-queue@kycgate.test"
	EmailUnknownStatus   = "unknown-status@kycgate.test"
	EmailInvalidDocument = "invalid-document@kycgate.test"
	FaceKeyInvalid       = "00000000-0000-4000-8000-000000000400"
)

func (p person) hasEmail(magic string) bool {
	local, domain, _ := strings.Cut(strings.ToLower(p.firstEmail), "@")
	local, _, _ = strings.Cut(local, "+")
	return local+"@"+domain == magic
}

// magicRefusal is a 400 for data whose form is right.
func (p person) magicRefusal() *fieldError {
	switch {
	case p.faceKey == FaceKeyInvalid:
		return &fieldError{"face.registration_key", "is not a registered face"}
	case p.hasEmail(EmailInvalidDocument):
		return &fieldError{"document_number", "is not a valid document"}
	}
	return nil
}

// fate decides by the e-mail address first and by the digit then.
func (s *Sim) fate(p person) fate {
	switch {
	case p.hasEmail(EmailInQueue):
		return fate{status: StatusInQueue, later: StatusAutomaticallyApproved}
	case p.hasEmail(EmailUnknownStatus):
		return fate{status: StatusAutomaticallyChallenged}
	}
	return s.digits()[p.document[0]-'0'] // the mask was checked
}

func (s *Sim) digits() *[10]fate {
	if s.config.ZaigDigits {
		return &zaigDigits
	}
	return &currentDigits
}

// Scenarios lists every magic value, as this simulator is configured.
func (s *Sim) Scenarios() []simulator.Scenario {
	var list []simulator.Scenario
	add := func(operation, when, then, source string) {
		list = append(list, simulator.Scenario{Provider: s.Name(), Operation: operation, When: when, Then: then, Source: source})
	}
	for digit, f := range s.digits() {
		source := "dossier A.11, current table"
		if s.config.ZaigDigits {
			source = "dossier A.11, Zaig-era table"
			if digit > 4 {
				source = "ours: the Zaig-era table ends at 4; dossier A.11, current table"
			}
		}
		if f.delay == slow {
			source += "; that it resolves is ours"
		}
		add(OpAnalyzePerson, "document_number starts with "+string(rune('0'+digit)), s.describe(f), source)
	}
	add(OpAnalyzePerson, "emails[0].email is "+EmailInQueue, s.describe(fate{status: StatusInQueue, later: StatusAutomaticallyApproved}), "ours; dossier A.6")
	add(OpAnalyzePerson, "emails[0].email is "+EmailUnknownStatus, s.describe(fate{status: StatusAutomaticallyChallenged}), "ours; dossier A.6, a sibling product's status")
	add(OpAnalyzePerson, "emails[0].email is "+EmailInvalidDocument, "400 \"Invalid request\" for document_number", "ours")
	add(OpAnalyzePerson, "face.registration_key is "+FaceKeyInvalid, "400 \"Invalid request\" for face.registration_key", "ours")
	add(OpAnalyzePerson, "?analyze=false", statusNotAnalysed+", and no outcome will come", "dossier A.6; the parameter, A.2 row 1")
	add(OpAnalyzePerson, "the id was sent before", strconv.Itoa(s.config.DuplicateStatus)+" \"Duplicated external_id\"", "dossier A.9")
	s.faceScenarios(add)
	add(simulator.AnyOperation, "Authorization is "+SandboxDisabledAPIKey, "403 \"Forbidden\"", "dossier A.8; the key is ours")
	add(simulator.AnyOperation, "Authorization is not the bare key of the product ("+SandboxAPIKey+", for faces "+SandboxFaceAPIKey+", in a sandbox)", strconv.Itoa(s.config.BadKeyStatus)+" \"Invalid ApiKey\"", "dossier A.1, A.8; the key is ours")
	return list
}

func (s *Sim) describe(f fate) string {
	text := f.status
	if f.reason != "" {
		text += " (" + f.reason + ")"
	}
	wait := s.config.duration(f.delay)
	switch {
	case final(f.status):
		return text
	case f.later == "", wait < 0:
		return text + ", until POST /qitech/decide"
	}
	return text + ", " + f.later + " after " + wait.String() + " with a webhook"
}
