package resolvers

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/kycgate/kycgate/graph"
	"github.com/kycgate/kycgate/kyc"
)

func theSchema() *ast.Schema { return NewSchema(nil).Schema() }

// Z09: a field added without a policy does not pass.
func TestEveryFieldCarriesAPolicy(t *testing.T) {
	t.Parallel()
	s := theSchema()
	p, err := NewPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for _, typ := range s.Types {
		if typ.BuiltIn || typ.Kind != ast.Object && typ.Kind != ast.Interface {
			continue
		}
		for _, f := range typ.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			fields++
			if _, ok := p.fields[f]; !ok {
				t.Errorf("%s.%s has no policy", typ.Name, f.Name)
			}
			if f.Description == "" {
				t.Errorf("%s.%s has no description", typ.Name, f.Name)
			}
		}
	}
	if fields < 60 {
		t.Errorf("only %d fields walked", fields)
	}
	// The schema with one more field and no directive must be refused.
	text, err := os.ReadFile("../schema.graphqls")
	if err != nil {
		t.Fatal(err)
	}
	grown := strings.Replace(string(text), "type Viewer {", "type Viewer {\n  secret: String", 1)
	loaded, err := gqlparser.LoadSchema(&ast.Source{Input: grown})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPolicy(loaded); err == nil || !strings.Contains(err.Error(), "Viewer.secret") {
		t.Errorf("a field without @scope passed: %v", err)
	}
}

// A personal Go type without the mark, or a mark on a type that does not mask, is a leak waiting.
func TestPersonalMarksAgreeWithTheTypes(t *testing.T) {
	t.Parallel()
	kinds := map[string]reflect.Type{
		"NAME": reflect.TypeFor[kyc.Name](), "DOCUMENT": reflect.TypeFor[kyc.DocumentNumber](), "EMAIL": reflect.TypeFor[kyc.EmailAddress](),
		"PHONE": reflect.TypeFor[kyc.PhoneNumber](), "DATE": reflect.TypeFor[kyc.Date](), "ADDRESS": reflect.TypeFor[kyc.PersonalText](),
		"INCOME": reflect.TypeFor[kyc.Cents](), "TEXT": reflect.TypeFor[kyc.PersonalText](), "PAYLOAD": reflect.TypeFor[kyc.JSON](), "COORDINATE": reflect.TypeFor[kyc.Degrees](), "PLACE": reflect.TypeFor[kyc.PersonalJSON](),
		"SECRET":   reflect.TypeFor[kyc.Password](),
		"CAPTURE":  reflect.TypeFor[kyc.Base64](),
		"UNMASKED": nil, // shown to every reader, so a type that does not print would only be in the way
	}
	// Kinds whose values come in a second form.
	also := map[string][]reflect.Type{
		"CAPTURE": {reflect.TypeFor[kyc.Base64](), reflect.TypeFor[kyc.PersonalText]()}, "TEXT": {reflect.TypeFor[kyc.PersonalJSON]()},
	}
	personal := make(map[reflect.Type]bool)
	for _, typ := range kinds {
		personal[typ] = typ != nil
	}
	for _, types := range also {
		for _, typ := range types {
			personal[typ] = true
		}
	}
	models := map[string]reflect.Type{
		"Person": reflect.TypeFor[kyc.Person](), "Email": reflect.TypeFor[kyc.Email](), "Phone": reflect.TypeFor[kyc.Phone](), "Address": reflect.TypeFor[kyc.Address](),
		"Registration": reflect.TypeFor[kyc.Registration](), "RegisterPersonInput": reflect.TypeFor[kyc.RegisterPersonInput](), "EmailInput": reflect.TypeFor[kyc.EmailInput](),
		"PhoneInput": reflect.TypeFor[kyc.PhoneInput](), "AddressInput": reflect.TypeFor[kyc.AddressInput](), "ExternalId": reflect.TypeFor[kyc.ExternalID](),
		"CustomerUser": reflect.TypeFor[kyc.CustomerUser](), "RegisterProspectInput": reflect.TypeFor[kyc.RegisterProspectInput](), "UpdateProspectInput": reflect.TypeFor[kyc.UpdateProspectInput](),
		"RegisterCustomerInput": reflect.TypeFor[kyc.RegisterCustomerInput](),
		"CustomerAddressInput":  reflect.TypeFor[kyc.CustomerAddressInput](), "ActivateCustomerInput": reflect.TypeFor[kyc.ActivateCustomerInput](),
		"SubjectInput": reflect.TypeFor[kyc.SubjectInput](), "SelfieInput": reflect.TypeFor[kyc.SelfieInput](), "CaptureDocumentInput": reflect.TypeFor[kyc.CaptureDocumentInput](),
		"Process": reflect.TypeFor[kyc.Process](), "ProcessResult": reflect.TypeFor[kyc.ProcessResult](), "CapturedDocument": reflect.TypeFor[kyc.CapturedDocument](),
		"FaceRegistration": reflect.TypeFor[kyc.FaceRegistration](), "RegisterFaceInput": reflect.TypeFor[kyc.RegisterFaceInput](),
		"PersonExport": reflect.TypeFor[kyc.PersonExport](),
	}
	marked := 0
	for _, typ := range theSchema().Types {
		for _, f := range typ.Fields {
			mark := f.Directives.ForName("pii")
			model, known := models[typ.Name]
			if !known {
				if mark != nil {
					t.Errorf("%s.%s is marked but %s is not in this test", typ.Name, f.Name, typ.Name)
				}
				continue
			}
			sf, ok := model.FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, f.Name) })
			if !ok {
				continue // a resolver
			}
			got := sf.Type
			if got.Kind() == reflect.Pointer || got.Kind() == reflect.Slice && got.Elem().Kind() == reflect.Struct {
				got = got.Elem()
			}
			switch {
			case mark != nil:
				marked++
				kind := mark.Arguments.ForName("kind").Value.Raw
				want, known := kinds[kind]
				if !slices.Contains(also[kind], got) && (!known || want != nil && got != want) {
					t.Errorf("%s.%s is marked %s but is a %s", typ.Name, f.Name, mark.Arguments.ForName("kind").Value.Raw, got)
				}
			case personal[got]:
				t.Errorf("%s.%s is a %s but not marked @pii", typ.Name, f.Name, got)
			}
		}
	}
	if marked < 25 {
		t.Errorf("only %d marks found", marked)
	}
}

// Every root field and every object, with every single scope: what the policy says is what happens.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	s := theSchema()
	p, err := NewPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	caller := func(scopes ...kyc.Scope) kyc.Caller {
		return kyc.Caller{Partner: "p", Scopes: kyc.NewScopeSet(scopes...)}
	}
	subject := kyc.Caller{Partner: "p", Person: "per_x", Scopes: kyc.NewScopeSet(kyc.Scopes()...)}
	const register = `mutation { registerPerson(input: {name: "a", documentNumber: "b", birthdate: "c", emails: [], phones: [], address: {street: "", city: "", state: "", postalCode: "", country: ""}}) { outcome person { id name } } }`
	for _, tc := range []struct {
		name, query string
		caller      kyc.Caller
		allowed     bool
	}{
		{"reader reads", `{ persons { nodes { name externalIds { value } } pageInfo { endCursor } } }`, caller(kyc.PersonsRead), true},
		{"writer does not list", `{ persons { nodes { id } } }`, caller(kyc.PersonsWrite), false},
		{"writer registers and reads the answer", register, caller(kyc.PersonsWrite), true},
		{"reader does not register", register, caller(kyc.PersonsRead), false},
		{"sre sees health", `{ providers { name operations { breaker latencyMs { p99 } } } }`, caller(kyc.ProvidersRead), true},
		{"sre sees no person (Z07)", `{ providers { name } persons { nodes { id } } }`, caller(kyc.ProvidersRead), false},
		{"reader sees no health (Z06)", `{ providers { name } }`, caller(kyc.PersonsRead), false},
		{"payload without pii:read", `{ persons { nodes { registrations { nodes { payload } } } } }`, caller(kyc.PersonsRead), false},
		{"payload with pii:read", `{ persons { nodes { registrations { nodes { payload } } } } }`, caller(kyc.PersonsRead, kyc.PIIRead), true},
		{"payload in a fragment", `{ persons { nodes { ...f } } } fragment f on Person { registrations { ... on RegistrationConnection { nodes { payload } } } }`, caller(kyc.PersonsRead), false},
		{"admin alone reads no person", `{ persons { nodes { id } } }`, caller(kyc.Admin), false},
		{"nobody in particular sees themselves", `{ viewer { partner scopes } __typename }`, caller(), true},
		{"subject sees themselves", `{ viewer { subject person { id } } }`, subject, true},
		{"subject sees no name", `{ viewer { person { name } } }`, subject, false},
		{"subject lists nobody, whatever the scopes", `{ persons { nodes { id } } }`, subject, false},
		{"subject registers nobody", register, subject, false},
		{"reader of processes", `{ processes { nodes { status result { liveness } attempts { outcome } } totalCount } }`, caller(kyc.ProcessesRead), true},
		{"processes are no persons", `{ processes { nodes { person { id } } } }`, caller(kyc.ProcessesRead), false},
		{"persons are no processes", `{ persons { nodes { processes { nodes { id } } } } }`, caller(kyc.PersonsRead), false},
		{"reader starts nothing", `mutation { refreshProcess(id: "x") { process { id } } }`, caller(kyc.ProcessesRead), false},
		{"subject starts their process", `mutation { checkLiveness(input: {subject: {}, selfie: {sdkToken: "x"}}) { process { id status failure { code } } userErrors { code } } }`, subject, true},
		{"subject sees no result", `mutation { checkLiveness(input: {subject: {}, selfie: {sdkToken: "x"}}) { process { result { liveness } } } }`, subject, false},
		{"subject follows their process", `subscription { processUpdated(id: "x") { status failure { code } } }`, subject, true},
		{"subject reads no process", `{ process(id: "x") { status } }`, subject, false},
		{"subject lists no processes", `{ processes { nodes { id } } }`, subject, false},
		{"node by interface", `{ node(id: "x") { id ... on Person { name } } }`, caller(kyc.PersonsRead), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			doc, err := parser.ParseQuery(&ast.Source{Input: tc.query})
			if err != nil {
				t.Fatal(err)
			}
			if errs := validator.ValidateWithRules(s, doc, nil); len(errs) > 0 {
				t.Fatal(errs)
			}
			if got := p.Authorize(tc.caller, doc.Operations[0]); (got == nil) != tc.allowed {
				t.Errorf("allowed %v, want %v: %v", got == nil, tc.allowed, got)
			}
		})
	}
}

// Every enum value of the schema is one the domain can produce, and the other way round: gqlgen would
// answer a value it does not know as it is.
func TestEnumsAgreeWithTheDomain(t *testing.T) {
	t.Parallel()
	domain := map[string][]string{
		"CustomerStatus": {string(kyc.CustomerPending), string(kyc.CustomerInProgress), string(kyc.CustomerActionRequired), string(kyc.CustomerPendingActivation),
			string(kyc.CustomerActive), string(kyc.CustomerRejected), string(kyc.CustomerFailed)},
		"CipStatus": {string(kyc.CipCompleted), string(kyc.CipUpgradePending), string(kyc.CipUpgradeInProgress), string(kyc.CipUpgradeFailed),
			string(kyc.CipUpgradeSoftFailed), string(kyc.CipAccountUpgradeInProgress), string(kyc.CipUnknown)},
		"CipStatusDetail": {string(kyc.CipDetailNone), string(kyc.CipDetailInvalidAddress), string(kyc.CipDetailInvalidEmail), string(kyc.CipDetailUnreadableDoc),
			string(kyc.CipDetailProvideAdditionalInfo), string(kyc.CipDetailInvalidPersonalData), string(kyc.CipDetailOtpPrivacyMissing), string(kyc.CipDetailOtpContractMissing),
			string(kyc.CipDetailCompliance), string(kyc.CipDetailComplianceBlocked), string(kyc.CipDetailOfacFailed), string(kyc.CipDetailUnknown)},
		"ProspectGender": {string(kyc.ProspectMale), string(kyc.ProspectFemale), string(kyc.ProspectOther), string(kyc.ProspectNone)},
		"StepKind": {string(kyc.StepPerson), string(kyc.StepFace), string(kyc.StepLiveness), string(kyc.StepIdentity), string(kyc.StepFaceValidation),
			string(kyc.StepDocument), string(kyc.StepCip), string(kyc.StepCustomer)},
		"Gender":                {string(kyc.GenderMale), string(kyc.GenderFemale), string(kyc.GenderOther)},
		"PhoneType":             {string(kyc.PhoneMobile), string(kyc.PhoneResidential), string(kyc.PhoneCommercial)},
		"SourceKyc":             {string(kyc.SourceOpenco), string(kyc.SourceQitech)},
		"KycStatus":             {string(kyc.KycNotRequired), string(kyc.KycPending), string(kyc.KycInReview), string(kyc.KycApproved), string(kyc.KycRejected)},
		"DecidedBy":             {string(kyc.DecidedAutomatic), string(kyc.DecidedManual)},
		"RegistrationOutcome":   {string(kyc.OutcomeCreated), string(kyc.OutcomeUpdated)},
		"FaceImageSource":       {string(kyc.FaceFromImageKey), string(kyc.FaceFromImage), string(kyc.FaceFromElsewhere)},
		"ErasureStatus":         {string(kyc.ErasureDone), string(kyc.ErasureBlocked)},
		"ProviderErasureStatus": {string(kyc.ProviderErasureManual)},
		"ErasureReason":         words(kyc.ErasureReasons()),
		"AuditAction":           words(kyc.AuditActions()),
		"BreakerState":          {string(kyc.BreakerClosed), string(kyc.BreakerHalfOpen), string(kyc.BreakerOpen)},
		"NextActionKind": words([]kyc.NextActionKind{kyc.ActionRegisterPerson, kyc.ActionCaptureFace, kyc.ActionNewCapture, kyc.ActionCaptureDocument, kyc.ActionCorrectData,
			kyc.ActionAcceptTerms, kyc.ActionWait, kyc.ActionRetry, kyc.ActionContactSupport, kyc.ActionActivateAccount}),
		"OnboardingState": words([]kyc.OnboardingState{kyc.OnboardingNotStarted, kyc.OnboardingInProgress, kyc.OnboardingActionRequired, kyc.OnboardingInReview,
			kyc.OnboardingApproved, kyc.OnboardingRejected}),
		"StepStatus":           words(kyc.StepStatuses()),
		"ProcessKind":          words(kyc.ProcessKinds()),
		"Capability":           words(kyc.Capabilities()),
		"ProcessStatus":        words([]kyc.ProcessStatus{kyc.ProcessProcessing, kyc.ProcessDivergent, kyc.ProcessCompleted, kyc.ProcessCanceled, kyc.ProcessFailed}),
		"Liveness":             words([]kyc.Liveness{kyc.LivenessLive, kyc.LivenessNotLive}),
		"IdentityMatch":        words([]kyc.IdentityMatch{kyc.IdentityYes, kyc.IdentityNo, kyc.IdentityInconclusive}),
		"FraudProfile":         words([]kyc.FraudProfile{kyc.FraudYes, kyc.FraudInconclusive, kyc.FraudUnknown}),
		"AttemptOutcome":       words([]kyc.AttemptOutcome{kyc.AttemptSucceeded, kyc.AttemptRejected, kyc.AttemptUnavailable, kyc.AttemptTimedOut, kyc.AttemptAmbiguous, kyc.AttemptInFlight}),
		"DocumentPurpose":      words([]kyc.DocumentPurpose{kyc.PurposeCreditProcess, kyc.PurposeCarPurchase, kyc.PurposePayByPaycheck, kyc.PurposeOnboarding, kyc.PurposeFGTS}),
		"ReusableDocumentType": words([]kyc.ReusableDocumentType{kyc.ReusableCPF, kyc.ReusableRG, kyc.ReusableCNH, kyc.ReusableCIN, kyc.ReusablePassport}),
		"UserErrorCode": {string(kyc.CodeInvalid), string(kyc.CodeRequired), string(kyc.CodeNotFound), string(kyc.CodeConflict), string(kyc.CodeExternalIDTaken),
			string(kyc.CodeDuplicateEmail), string(kyc.CodeDuplicatePhone), string(kyc.CodePasswordMismatch), string(kyc.CodeCategoryParameter),
			string(kyc.CodeImageRejected), string(kyc.CodeNeedsNewCapture), string(kyc.CodeProviderRejected), string(kyc.CodeProviderNotConfigured), string(kyc.CodeProviderUnavailable), string(kyc.CodeIdempotencyConflict),
			string(kyc.CodeConsentRequired)},
		"ConsentType": {string(kyc.ConsentTerms), string(kyc.ConsentPrivacy), string(kyc.ConsentDataProcessing)},
	}
	ours := map[string]bool{"TokenScope": true, "PersonalData": true}
	for name, typ := range graphEnums(t) {
		want, ok := domain[name]
		if !ok {
			if !ours[name] {
				t.Errorf("enum %s is not in this test", name)
			}
			continue
		}
		if strings.Join(typ, " ") != strings.Join(want, " ") {
			t.Errorf("%s: schema has %v, domain %v", name, typ, want)
		}
	}
	if len(scopeWords) != len(kyc.Scopes()) || len(graph.AllTokenScope) != len(kyc.Scopes())+1 {
		t.Error("TokenScope and kyc.Scopes differ")
	}
}

func words[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func graphEnums(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for _, typ := range theSchema().Types {
		if typ.BuiltIn || typ.Kind != ast.Enum || strings.HasPrefix(typ.Name, "__") {
			continue
		}
		for _, v := range typ.EnumValues {
			out[typ.Name] = append(out[typ.Name], v.Name)
		}
	}
	return out
}
