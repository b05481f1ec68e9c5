package finhub

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// wireRegistration is the complete nested body of the seed (dossier B3.1). The singular path also takes the tenant and the
// flat personal data at the top, as its generations show them.
func wireRegistration(r kyc.CustomerRegistration, path Registration) registration {
	first, last, email, password := r.FirstName.Reveal(), r.LastName.Reveal(), r.Email.Reveal(), r.Password.Reveal()
	w := registration{
		FirstName: first, LastName: last, Email: email, Phone: r.Phone.Reveal(), Password: password, MatchingPassword: password,
		RoleIDs:          r.Roles,
		CustomerCategory: customerCategory{ID: r.Category.DatabaseID, Name: r.Category.Name},
		IndividualCustomer: individualCustomer{
			CustomerName: first + " " + last,
			Person: wirePerson{
				FirstName: first, LastName: last, Email: email, DateOfBirth: r.Birthdate.Reveal(), Gender: string(r.Gender), Nationality: r.Nationality,
				Addresses: make([]wireAddress, len(r.Addresses)),
				Contacts:  []wireContact{{"EMAIL", email, true}, {"PHONE", r.Phone.Reveal(), true}},
			},
			User:           wireUser{Username: email, Email: email, Password: password, Status: userPendingActivation, Roles: r.Roles},
			Categorization: wireCategorization(r.Category),
		},
	}
	for i, a := range r.Addresses {
		w.IndividualCustomer.Person.Addresses[i] = wireAddress{
			Type: a.Type, Street: a.Street.Reveal(), City: a.City, PostalCode: a.PostalCode.Reveal(), Country: a.Country, IsPrimary: a.Primary,
		}
		if a.State != nil {
			w.IndividualCustomer.Person.Addresses[i].State = *a.State
		}
	}
	if path == RegisterSingular {
		w.TenantID, w.IndividualCustomer.TenantID = string(r.Tenant), string(r.Tenant)
		w.DateOfBirth, w.Gender, w.Nationality = r.Birthdate.Reveal(), string(r.Gender), r.Nationality
	}
	return w
}

const userPendingActivation = "PENDING_ACTIVATION"

// wireCategorization maps a category as the seed's script does (dossier B2.2). A category without a description sends
// its name.
func wireCategorization(c kyc.CustomerCategory) categorization {
	w := categorization{
		ID: c.ID, Name: c.Name, Description: c.Description, IsActive: true,
		CategoryFeatureRelations: make([]featureRelation, len(c.Features)), Parametrization: []wireParameter{},
	}
	if w.Description == "" {
		w.Description = c.Name
	}
	for i, f := range c.Features {
		relation := featureRelation{Feature: wireFeature{ID: f.ID, Code: f.Code}, Enabled: f.Enabled, Parametrization: make([]wireParameter, len(f.Parameters))}
		for j, p := range f.Parameters {
			relation.Parametrization[j] = wireParameter(p)
		}
		w.CategoryFeatureRelations[i] = relation
	}
	return w
}

// customerStatuses are the words of dossier B3.2 and B10 without "CS_". Every spelling of "registered" means the same: the
// account waits to be activated. Words that are in no document, REJECTED among them, are ours; anything else is unknown
// and stays open.
var customerStatuses = map[string]kyc.CustomerStatus{
	"REGISTRATION_COMPLETE":      kyc.CustomerPendingActivation,
	"REGISTRATION_COMPLETED":     kyc.CustomerPendingActivation,
	"PENDING_VERIFICATION":       kyc.CustomerPendingActivation,
	"PENDING_EMAIL_VERIFICATION": kyc.CustomerPendingActivation,
	"PENDING_ACTIVATION":         kyc.CustomerPendingActivation,
	"ACTIVE":                     kyc.CustomerActive,
	"ACTIVATED":                  kyc.CustomerActive,
	"REJECTED":                   kyc.CustomerRejected,
}

func customerStatus(word string) (kyc.CustomerStatus, bool) {
	status, known := customerStatuses[strings.TrimPrefix(word, "CS_")]
	if !known {
		return kyc.CustomerPending, false
	}
	return status, true
}

// customerVerdict reads an answer about a customer. One without an id is no answer: we could not go on with it.
func customerVerdict(op string, a customerAnswer) (kyc.CustomerVerdict, error) {
	v := kyc.CustomerVerdict{
		CustomerID:     first(id(string(a.ID)), id(string(a.CustomerID))),
		UserID:         first(id(string(a.UserID)), id(string(a.User.V.ID))),
		PersonID:       first(id(string(a.PersonID)), id(string(a.Person.V.ID))),
		ProviderStatus: kyc.CodeLike(first(string(a.CustomerStatus), string(a.Status))),
		UserStatus:     kyc.CodeLike(string(a.User.V.Status)),
	}
	if v.CustomerID == "" {
		return kyc.CustomerVerdict{}, httpjson.BadAnswer(op)
	}
	word := v.ProviderStatus
	if word == "" {
		// Only the login's state is told. That it is active does not make the account active (dossier B13, row 6).
		word = v.UserStatus
		if word == "ACTIVE" {
			word = userPendingActivation
		}
	}
	v.Status, v.Known = customerStatus(word)
	return v, nil
}

// verificationStates are the words of dossier B5.2. REJECTED is ours: pages speak of rejecting and show no word for it.
var verificationStates = map[string]kyc.VerificationState{
	"PENDING_DOCUMENTS": kyc.VerificationDocuments,
	"PENDING":           kyc.VerificationOpen,
	"INITIATED":         kyc.VerificationOpen,
	"IN_PROGRESS":       kyc.VerificationOpen,
	"APPROVED":          kyc.VerificationApproved,
	"REJECTED":          kyc.VerificationRejected,
}

func verificationState(word string) (kyc.VerificationState, bool) {
	state, known := verificationStates[word]
	if !known {
		return kyc.VerificationOpen, false
	}
	return state, true
}

func verificationVerdict(op string, a verificationAnswer) (kyc.VerificationVerdict, error) {
	v := kyc.VerificationVerdict{
		ID:                first(id(string(a.VerificationID)), id(string(a.ID))),
		ProviderStatus:    kyc.CodeLike(string(a.Status)),
		RequiredDocuments: codes(a.RequiredDocuments),
	}
	if v.ID == "" {
		return kyc.VerificationVerdict{}, httpjson.BadAnswer(op)
	}
	v.State, v.Known = verificationState(v.ProviderStatus)
	return v, nil
}

// codes keeps what is a code, at most twenty.
func codes(list words) []string {
	var out []string
	for _, w := range list {
		if c := kyc.CodeLike(w); c != "" && c != "unknown" && len(out) < 20 {
			out = append(out, c)
		}
	}
	return out
}

// consentPaths are the three of dossier B7.
var consentPaths = map[kyc.ConsentType]string{
	kyc.ConsentTerms: "terms", kyc.ConsentPrivacy: "privacy", kyc.ConsentDataProcessing: "data-processing",
}

// consentWords are all the names the generations have for them (dossier B7).
var consentWords = map[string]kyc.ConsentType{
	"TERMS": kyc.ConsentTerms, "TERMS_AND_CONDITIONS": kyc.ConsentTerms,
	"PRIVACY": kyc.ConsentPrivacy, "PRIVACY_POLICY": kyc.ConsentPrivacy,
	"DATA_PROCESSING": kyc.ConsentDataProcessing,
}

func consentType(word string) (kyc.ConsentType, bool) {
	t, ok := consentWords[strings.ToUpper(strings.ReplaceAll(word, "-", "_"))]
	return t, ok
}

// consentVerdict reads an acceptance. The newest generation answers PENDING to one (dossier B13): taken, and the
// activation check says when it counts.
func consentVerdict(op string, a consentAnswer) (kyc.ConsentVerdict, error) {
	v := kyc.ConsentVerdict{ProviderStatus: kyc.CodeLike(string(a.Status))}
	switch {
	case v.ProviderStatus == "" && !a.IsGranted.given:
		return kyc.ConsentVerdict{}, httpjson.BadAnswer(op)
	case v.ProviderStatus == "ACCEPTED", v.ProviderStatus == "" && a.IsGranted.value:
		v.Accepted, v.Known = true, true
	case v.ProviderStatus == "PENDING":
		v.Known = true
	}
	return v, nil
}

// activationCheck reads both shapes (dossier B8). One that says neither whether it may be activated nor anything else is no
// answer.
func activationCheck(op string, a checkAnswer) (kyc.ActivationCheck, error) {
	can := a.CanActivate
	if !can.given {
		can = a.ActivationAllowed
	}
	if !can.given && !a.VerificationOK.given && !a.ConsentOK.given {
		return kyc.ActivationCheck{}, httpjson.BadAnswer(op)
	}
	out := kyc.ActivationCheck{CanActivate: can.value, VerificationOK: a.VerificationOK.value, ConsentOK: a.ConsentOK.value}
	if a.MissingConsents != nil {
		out.Missing = []kyc.ConsentType{}
		for _, w := range *a.MissingConsents {
			if t, ok := consentType(w); ok && !slices.Contains(out.Missing, t) {
				out.Missing = append(out.Missing, t)
			}
		}
		slices.SortFunc(out.Missing, func(a, b kyc.ConsentType) int {
			return slices.Index(kyc.ConsentTypes(), a) - slices.Index(kyc.ConsentTypes(), b)
		})
	}
	v := &out.Verification
	v.ID, v.ProviderStatus, v.RequiredDocuments = id(string(a.VerificationID)), kyc.CodeLike(string(a.VerificationStatus)), codes(a.RequiredDocuments)
	switch {
	case v.ProviderStatus == "" && out.VerificationOK:
		v.State, v.Known = kyc.VerificationApproved, true
	case v.ProviderStatus == "":
		v.State, v.Known = kyc.VerificationOpen, true
	default:
		v.State, v.Known = verificationState(v.ProviderStatus)
	}
	for _, word := range []text{a.ActivationStatus, a.CustomerStatus} {
		status, _ := customerStatus(string(word))
		out.Active = out.Active || status == kyc.CustomerActive
	}
	return out, nil
}

// activationVerdict reads an activation. The newest generation answers `code` 200 and an empty `data` (dossier B8), which
// is a yes as long as no word is there that says something else.
func activationVerdict(op, customer string, resp httpjson.Response, a activationAnswer) (kyc.CustomerVerdict, error) {
	v := kyc.CustomerVerdict{CustomerID: customer}
	v.ProviderStatus = kyc.CodeLike(first(string(a.ActivationStatus), string(a.CustomerStatus), string(a.Status)))
	if v.ProviderStatus != "" {
		v.Status, v.Known = customerStatus(v.ProviderStatus)
		return v, nil
	}
	var envelope refusal
	_ = json.Unmarshal(resp.Body, &envelope) // it was decoded once already
	code, err := envelope.Code.Int64()
	if (err != nil || code < 200 || code > 299) && !envelope.Success.value {
		return kyc.CustomerVerdict{}, httpjson.BadAnswer(op)
	}
	v.Status, v.Known = kyc.CustomerActive, true
	return v, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var errRefused = errors.New("the upstream refused the call")

// refusal is the body of an error in any of its forms (dossier B3.4, B11). It may as well be empty or no JSON.
type refusal struct {
	Code    json.Number `json:"code"`
	Message text        `json:"message"`
	Success flag        `json:"success"`
	Error   object[struct {
		Code    text `json:"code"`
		Message text `json:"message"`
	}] `json:"error"`
	Data object[refusalData] `json:"data"`
}

type refusalData struct {
	Error         text                    `json:"error"`
	ErrorType     text                    `json:"errorType"`
	Field         text                    `json:"field"`
	Errors        lenient[[]refusalField] `json:"errors"`
	MissingKeys   words                   `json:"missingKeys"`
	InvalidValues lenient[names]          `json:"invalidValues"`
}

type refusalField struct {
	Field   text `json:"field"`
	Message text `json:"message"`
}

// lenient is any value where it may as well be something else, which reads as nothing.
type lenient[T any] struct{ V T }

func (l *lenient[T]) UnmarshalJSON(b []byte) error {
	var v T
	if json.Unmarshal(b, &v) == nil {
		l.V = v
	}
	return nil
}

// names are the names of an object's members, in order.
type names []string

func (n *names) UnmarshalJSON(b []byte) error {
	all, _ := members(b)
	for _, m := range all {
		*n = append(*n, m.name)
	}
	return nil
}

func readRefusal(body []byte) (refusal, bool) {
	var r refusal
	if !isObject(body) || json.Unmarshal(body, &r) != nil {
		return refusal{}, false
	}
	return r, r.Message != "" || r.Code != "" || r.Data.V.Error != "" || r.Error.V.Code != "" || len(r.Data.V.Errors.V) > 0
}

// mentions reports whether any of the words for programs is one of those given.
func (r refusal) mentions(words ...string) bool {
	for _, t := range []text{r.Message, r.Data.V.Error, r.Data.V.ErrorType, r.Error.V.Code, r.Error.V.Message} {
		upper := strings.ToUpper(string(t))
		for _, w := range words {
			if strings.Contains(upper, w) {
				return true
			}
		}
	}
	return false
}

// hiddenRefusal finds a refusal in an answer whose HTTP status is 2xx: the body has a `code` that is the HTTP number
// (dossier B11), and they may differ. `success: false` without one is a refusal of the data (ours).
func hiddenRefusal(op string, resp httpjson.Response) (httpjson.Response, error) {
	var r refusal
	if !isObject(resp.Body) || json.Unmarshal(resp.Body, &r) != nil {
		return resp, nil
	}
	code, err := r.Code.Int64()
	switch {
	case err == nil && code >= 400 && code < 600:
		resp.Status = int(code)
	case r.Success.given && !r.Success.value:
		resp.Status = http.StatusUnprocessableEntity
	default:
		return resp, nil
	}
	return resp, &kyc.Error{Kind: kindOf(resp.Status), Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
}

// kindOf is httpjson's default meaning of an error status.
func kindOf(status int) kyc.Kind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return kyc.Credentials
	case status == http.StatusNotFound:
		return kyc.NotFound
	case status == http.StatusConflict:
		return kyc.Conflict
	case status == http.StatusTooManyRequests:
		return kyc.RateLimited
	case status == http.StatusRequestTimeout, status >= 500:
		return kyc.Ambiguous
	default:
		return kyc.Internal
	}
}

// Codes of FinHub's refusals, ours: its own are sentences.
const (
	codeValidation     = "validation_failed"
	codeCategorization = "categorization_failed"
	codeCategory       = "category_not_available"
	codeDuplicateEmail = "duplicate_email"
	codeActivationCode = "invalid_activation_code"
)

// registrationError judges the statuses of a registration that httpjson leaves to us or cannot know (dossier B3.4).
func registrationError(op string, resp httpjson.Response, err error, category kyc.CustomerCategory) error {
	r, readable := readRefusal(resp.Body)
	duplicate := readable && r.mentions("DUPLICATE_EMAIL", "EMAIL_ALREADY_EXISTS", "EMAIL ALREADY EXISTS", "ALREADY REGISTERED")
	switch resp.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed: // of a collection: the path is wrong, which is our mistake
		return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
	case http.StatusConflict:
		return &kyc.Error{Kind: kyc.Conflict, Op: op, Code: codeDuplicateEmail, Err: errRefused}
	case http.StatusForbidden:
		if readable && r.mentions("CATEGORIZATION", "CATEGORY") {
			return rejected(op, codeCategory, "categoryId")
		}
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		switch {
		case kyc.KindOf(err) == kyc.Ambiguous: // the body did not come through
		case !readable:
			return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
		case duplicate:
			return &kyc.Error{Kind: kyc.Conflict, Op: op, Code: codeDuplicateEmail, Err: errRefused}
		case len(r.Data.V.MissingKeys)+len(r.Data.V.InvalidValues.V) > 0 || r.mentions("CATEGORIZATION"):
			return rejected(op, codeCategorization, refusedKey(category, append(slices.Clone(r.Data.V.MissingKeys), r.Data.V.InvalidValues.V...))...)
		default:
			return rejected(op, codeValidation, refusedInput(r)...)
		}
	}
	return err
}

// refusedStep judges the steps after the registration. Their refusals are documented as statuses only (dossier B11).
func refusedStep(op string, resp httpjson.Response, err error) error {
	r, readable := readRefusal(resp.Body)
	switch resp.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if kyc.KindOf(err) == kyc.Ambiguous {
			return err
		}
		if !readable {
			return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
		}
		code := httpjson.StatusCode(resp.Status)
		if r.mentions("VERIFICATION_FAILED") {
			code = "VERIFICATION_FAILED"
		}
		return rejected(op, code)
	}
	return err
}

// activationError knows the codes of the older guide (dossier B11).
func activationError(op string, resp httpjson.Response, err error) error {
	err = refusedStep(op, resp, err)
	r, readable := readRefusal(resp.Body)
	if readable && kyc.KindOf(err) == kyc.Rejected && r.mentions("INVALID_CODE", "CODE_EXPIRED", "TOO_MANY_ATTEMPTS", "ACTIVATION CODE") {
		return rejected(op, codeActivationCode, "code")
	}
	return err
}

func rejected(op, code string, path ...string) error {
	return &kyc.Error{Kind: kyc.Rejected, Op: op, Code: code, Err: errRefused, Path: append([]string{"input"}, path...)}
}

// refusedKey finds the feature that a refused key belongs to.
func refusedKey(category kyc.CustomerCategory, refused []string) []string {
	for _, key := range refused {
		for _, f := range category.Features {
			if slices.ContainsFunc(f.Parameters, func(p kyc.Parameter) bool { return p.Name == key }) || slices.Contains(f.MandatoryKeys, key) {
				return []string{"parameters", f.Code, key}
			}
		}
	}
	return []string{"parameters"}
}

// refusedFields are FinHub's fields by the input they come from. FinHub may name them by their path.
var refusedFields = map[string][]string{
	"firstname": {"firstName"}, "lastname": {"lastName"}, "email": {"email"}, "username": {"email"}, "phone": {"phone"},
	"password": {"password"}, "matchingpassword": {"matchingPassword"}, "roleids": {"roles"}, "roles": {"roles"},
	"customercategory": {"categoryId"}, "categorization": {"parameters"}, "dateofbirth": {"birthdate"}, "gender": {"gender"},
	"nationality": {"nationality"}, "addresses": {"addresses"}, "street": {"addresses"}, "city": {"addresses"}, "country": {"addresses"},
	"postalcode": {"addresses"}, "state": {"addresses"},
}

// refusedInput finds which input a refusal is about, and answers the input as a whole when it does not say.
func refusedInput(r refusal) []string {
	names := []text{r.Data.V.Field}
	for _, f := range r.Data.V.Errors.V {
		names = append(names, f.Field)
	}
	for _, n := range names {
		parts := strings.FieldsFunc(strings.ToLower(string(n)), func(r rune) bool { return r < 'a' || r > 'z' })
		for _, p := range slices.Backward(parts) {
			if path := refusedFields[p]; path != nil {
				return path
			}
		}
	}
	return nil
}
