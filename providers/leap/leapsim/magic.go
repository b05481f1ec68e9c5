package leapsim

import (
	"fmt"
	"strings"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The words of dossier A4. OnProcess is in Leap's example and in none of its lists.
const (
	OnProcess                      = "OnProcess"
	StatusCompleted                = "Completed"
	StatusUpgradePending           = "UpgradePending"
	StatusUpgradeInProgress        = "UpgradeInProgress"
	StatusUpgradeFailed            = "UpgradeFailed"
	StatusUpgradeSoftFailed        = "UpgradeSoftFailed"
	StatusAccountUpgradeInProgress = "AccountUpgradeInProgress"

	DetailNone                  = "None"
	DetailInvalidAddress        = "InvalidAddress"
	DetailInvalidEMail          = "InvalidEMail" // their spelling
	DetailUnreadableDoc         = "UnreadableDoc"
	DetailProvideAdditionalInfo = "ProvideAdditionalInfo"
	DetailInvalidPersonalData   = "InvalidPersonalData"
	DetailOtpPrivacyMissing     = "OtpPrivacyMissing"
	DetailOtpContractMissing    = "OtpContractMissing"
	DetailCompliance            = "Compliance"
	DetailComplianceBlocked     = "ComplianceBlocked"
	DetailOfacFailed            = "OfacFailed"
)

// state is a status with its detail, "" where it has none.
type state struct{ status, detail string }

func (s state) String() string {
	switch {
	case s.status == "":
		return "no status"
	case s.detail == "":
		return s.status
	default:
		return s.status + "/" + s.detail
	}
}

var (
	accepted  = state{OnProcess, ""} // the documented answer to a registration (dossier A2.2)
	checking  = state{StatusUpgradeInProgress, DetailNone}
	opening   = state{StatusAccountUpgradeInProgress, DetailNone}
	completed = state{StatusCompleted, DetailNone} // the one documented pairing (dossier A4)
)

// script is what a user becomes, one state after the other; the last one stays.
type script []state

var completes = script{accepted, checking, opening, completed}

func softFails(detail string) script { return script{accepted, {StatusUpgradeSoftFailed, detail}} }

// magic is a first name that decides what becomes of a user, and the last two digits of a phone that do the same: the
// four digits before them are 0, as in +52 55 0000 0002. All of it is ours: Leap documents no magic values (dossier A9).
var magic = []struct {
	name   string
	digits string
	script script
}{
	{"Immediate", "01", script{completed}},
	{"InvalidAddress", "02", softFails(DetailInvalidAddress)},
	{"InvalidEMail", "03", softFails(DetailInvalidEMail)},
	{"UnreadableDoc", "04", softFails(DetailUnreadableDoc)},
	{"ProvideAdditionalInfo", "05", softFails(DetailProvideAdditionalInfo)},
	{"InvalidPersonalData", "06", softFails(DetailInvalidPersonalData)},
	{"OtpPrivacyMissing", "07", softFails(DetailOtpPrivacyMissing)},
	{"OtpContractMissing", "08", softFails(DetailOtpContractMissing)},
	{"SoftFails", "09", softFails(DetailNone)},
	{"Compliance", "10", script{accepted, {StatusUpgradeInProgress, DetailCompliance}, opening, completed}},
	{"ComplianceBlocked", "11", script{accepted, {StatusUpgradeFailed, DetailComplianceBlocked}}},
	{"OfacFailed", "12", script{accepted, {StatusUpgradeFailed, DetailOfacFailed}}},
	{"Fails", "13", script{accepted, checking, {StatusUpgradeFailed, DetailNone}}},
	{"Stuck", "14", script{accepted, {StatusUpgradePending, DetailNone}}},
	{"OnProcess", "15", script{accepted}},
	{"Silent", "16", script{{}}},
	{"UnknownStatus", "17", script{accepted, {"ManualReview", "PaperworkMissing"}}},
	{"LaterBlocked", "18", script{accepted, completed, {StatusUpgradeFailed, DetailComplianceBlocked}}},
}

// Magic values of refusals.
const (
	FirstNameRefused = "Refused" // 400 for the birth date
)

func (p registration) script() script {
	for _, m := range magic {
		if strings.EqualFold(p.firstName, m.name) || strings.HasSuffix(p.phone, "0000"+m.digits) {
			return m.script
		}
	}
	return completes
}

// magicRefusal is a 400 for data whose form is right.
func (p registration) magicRefusal() string {
	if strings.EqualFold(p.firstName, FirstNameRefused) {
		return "dob does not match the records"
	}
	return ""
}

// Scenarios lists every magic value, as this simulator is configured.
func (s *Sim) Scenarios() []simulator.Scenario {
	var list []simulator.Scenario
	add := func(operation, when, then, source string) {
		list = append(list, simulator.Scenario{Provider: s.Name(), Operation: operation, When: when, Then: then, Source: source})
	}
	add(OpRegisterProspect, "nothing below", s.describe(completes), "ours; the words, dossier A4")
	for _, m := range magic {
		add(OpRegisterProspect, "firstName is "+m.name+", or phoneNumber ends in 0000"+m.digits, s.describe(m.script), "ours; the words, dossier A4")
	}
	add(OpRegisterProspect, "firstName is "+FirstNameRefused, "400 for dob", "ours")
	if !s.config.NoCorrections {
		add(OpRegisterProspect, "phone or e-mail of a user who is UpgradeSoftFailed", "200, the data is corrected: "+s.describe(completes), "ours: no update is documented (dossier A5)")
	}
	add(OpRegisterProspect, "phone or e-mail of any other user", fmt.Sprintf("%d USER_ALREADY_EXISTS", s.config.DuplicateStatus), "dossier A2.1; status and code are ours (A11.8)")
	add(OpFetchProspect, "phone or e-mail of nobody", "404 USER_NOT_FOUND", "dossier A3, A7")
	add(OpFetchProspect, "phone and e-mail", "the e-mail wins and the phone is ignored", "dossier A3")
	add(simulator.AnyOperation, "api_key is not "+SandboxAPIKey+" in a sandbox", "401", "dossier A1, A7; the key is ours")
	add(simulator.AnyOperation, "api_key is "+SandboxUnscopedAPIKey, "403", "dossier A1; the key is ours")
	return list
}

func (s *Sim) describe(c script) string {
	words := make([]string, len(c))
	for i, st := range c {
		words[i] = st.String()
	}
	text := strings.Join(words, ", then ")
	switch {
	case len(c) == 1:
		return text
	case s.config.StepEveryLook:
		return text + ", one with every look-up"
	default:
		return text + ", " + s.config.StepDelay.String() + " each"
	}
}
