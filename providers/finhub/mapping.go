package finhub

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
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
	out := kyc.ActivationCheck{
		CanActivate: can.value, VerificationOK: a.VerificationOK.value, ConsentOK: a.ConsentOK.value, ConsentSaid: a.ConsentOK.given,
		Denied: can.given && !can.value, Prohibited: can.given && !can.value && strings.EqualFold(string(a.RiskLevel), "PROHIBITED"),
	}
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

// activationVerdict reads an activation. A yes is a word that says active, or what the newest generation answers: `code` 200 with
// the message "Success" (dossier B8), see saysActivated. Any other answer is no yes: the check says what became of it.
func activationVerdict(op, customer string, resp httpjson.Response, a activationAnswer) (kyc.CustomerVerdict, error) {
	v := kyc.CustomerVerdict{CustomerID: customer, Status: kyc.CustomerPending}
	v.ProviderStatus = kyc.CodeLike(first(string(a.ActivationStatus), string(a.CustomerStatus), string(a.Status)))
	if v.ProviderStatus != "" {
		status, _ := customerStatus(strings.ToUpper(v.ProviderStatus))
		if status == kyc.CustomerActive || status == kyc.CustomerRejected {
			v.Status, v.Known = status, true
		}
		return v, nil
	}
	r, _ := readRefusal(resp.Body)
	n, numbered := r.number()
	switch {
	case n == http.StatusOK && saysActivated(string(r.Message)):
		v.Status, v.Known = kyc.CustomerActive, true
	case !r.Success.value && (!numbered || n < 200 || n > 299):
		return kyc.CustomerVerdict{}, httpjson.BadAnswer(op)
	}
	return v, nil
}

// saysActivated reads the message of an answer without a status. "Success" is documented; sentences that say as much are ours.
func saysActivated(message string) bool {
	m := strings.ToLower(message)
	said := strings.Contains(m, "success") || strings.Contains(m, "activated")
	return said && !slices.ContainsFunc([]string{"not ", "n't", "unsuccess", "queue", "pending", "will be", "fail"}, func(no string) bool { return strings.Contains(m, no) })
}

// alreadyActive reports whether a refusal of an activation says that the account is active: the answer to an earlier one was lost.
func alreadyActive(resp httpjson.Response) bool {
	r, readable := readRefusal(resp.Body)
	return readable && slices.Contains([]int{http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity}, resp.Status) &&
		r.mentions("ALREADY_ACTIVE", "ALREADY_ACTIVATED", "ALREADY ACTIVE", "ALREADY ACTIVATED")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var errRefused = errors.New("the upstream refused the call")

// refusal is the body of an error in any of its forms (dossier B3.4, B11). It may as well be empty or no JSON.
type refusal struct {
	Code    text                `json:"code"` // the HTTP number, or a word of the older guides
	Message text                `json:"message"`
	Success flag                `json:"success"`
	Error   refusalError        `json:"error"`
	Data    object[refusalData] `json:"data"`
}

// refusalError is an object, or the code alone. What frameworks write there, "Bad Request", is no code.
type refusalError struct{ Code, Message text }

var errorCode = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`)

func (e *refusalError) UnmarshalJSON(b []byte) error {
	var o object[struct {
		Code    text `json:"code"`
		Message text `json:"message"`
	}]
	var t text
	_, _ = o.UnmarshalJSON(b), t.UnmarshalJSON(b) // neither fails
	switch {
	case errorCode.MatchString(string(t)):
		e.Code = t
	case t != "":
		e.Message = t
	default:
		e.Code, e.Message = o.V.Code, o.V.Message
	}
	return nil
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
	return r, r.Message != "" || r.Code != "" || r.Data.V.Error != "" || r.Error.Code != "" || len(r.Data.V.Errors.V) > 0
}

// number is the HTTP number in `code`, if one is there.
func (r refusal) number() (int, bool) {
	n, err := strconv.Atoi(string(r.Code))
	return n, err == nil
}

// texts are the words for programs and people, in capitals.
func (r refusal) texts() []string {
	var out []string
	for _, t := range []text{r.Code, r.Error.Code, r.Data.V.Error, r.Data.V.ErrorType, r.Message, r.Error.Message} {
		if t != "" {
			out = append(out, strings.ToUpper(string(t)))
		}
	}
	return out
}

// mentions reports whether any of the texts holds any of these words.
func (r refusal) mentions(words ...string) bool {
	for _, t := range r.texts() {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(t, w) }) {
			return true
		}
	}
	return false
}

// refusedCodes are the codes of the older guides that refuse data (dossier B11), by the input they are about.
var refusedCodes = map[string][]string{
	"INVALID_EMAIL": {"email"}, "INVALID_PHONE": {"phone"}, "WEAK_PASSWORD": {"password"}, "INVALID_REQUEST": nil, "VERIFICATION_FAILED": nil,
	"DUPLICATE_EMAIL": {"email"}, "EMAIL_ALREADY_EXISTS": {"email"}, "DUPLICATE_PHONE": {"phone"}, "PHONE_ALREADY_EXISTS": {"phone"},
	"INVALID_CODE": {"code"}, "CODE_EXPIRED": {"code"}, "TOO_MANY_ATTEMPTS": {"code"}, "ALREADY_ACTIVE": nil, "ALREADY_ACTIVATED": nil,
}

// word is the code among the texts, "" for none we know.
func (r refusal) word() string {
	for _, t := range r.texts() {
		if _, known := refusedCodes[t]; known {
			return t
		}
	}
	return ""
}

// explained reports whether a refusal says what is wrong with the data.
func (r refusal) explained() bool {
	d := r.Data.V
	return r.word() != "" || d.Field != "" || len(d.Errors.V)+len(d.MissingKeys)+len(d.InvalidValues.V) > 0 ||
		r.mentions("VALIDATION FAILED", "ALREADY EXISTS", "ALREADY REGISTERED", "ALREADY ACTIVE")
}

// hiddenRefusal finds a refusal in an answer whose HTTP status is 2xx: the body has a `code` that is the HTTP number
// (dossier B11), and they may differ, or one of the older codes. `success: false` that does not say what is wrong is FinHub's trouble
// and not the caller's: it was not done and may be tried again (ours).
func hiddenRefusal(op string, resp httpjson.Response) (httpjson.Response, error) {
	var r refusal
	if !isObject(resp.Body) || json.Unmarshal(resp.Body, &r) != nil {
		return resp, nil
	}
	code, numbered := r.number()
	_, refused := refusedCodes[string(r.Code)]
	failed := r.Success.given && !r.Success.value
	switch {
	case numbered && code >= 400 && code < 600:
		resp.Status = code
	case refused, failed && r.explained():
		resp.Status = http.StatusUnprocessableEntity
	case failed:
		resp.Status = http.StatusServiceUnavailable
		return resp, &kyc.Error{Kind: kyc.Unavailable, Op: op, Code: codeNotDone, Err: errRefused}
	default:
		return resp, nil
	}
	return resp, &kyc.Error{Kind: kindOf(resp.Status), Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
}

// asCode is the code of one of our errors.
func asCode(err error) string {
	var e *kyc.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
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
	codeConflict       = "state_conflict"
	codeActivationCode = "invalid_activation_code"
	codeNotDone        = "not_done"
)

// registrationError judges the statuses of a registration that httpjson leaves to us or cannot know (dossier B3.4).
func registrationError(op string, resp httpjson.Response, err error, category kyc.CustomerCategory) error {
	r, readable := readRefusal(resp.Body)
	conflict := func(code string) error { return &kyc.Error{Kind: kyc.Conflict, Op: op, Code: code, Err: errRefused} }
	switch resp.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed: // of a collection: the path is wrong, which is our mistake
		return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
	case http.StatusConflict:
		return conflict(r.conflict())
	case http.StatusForbidden:
		if readable && r.mentions("CATEGORIZATION", "CATEGORY") {
			return rejected(op, codeCategory, "categoryId")
		}
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		switch {
		case kyc.KindOf(err) == kyc.Ambiguous: // the body did not come through
		case !readable:
			return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
		case r.mentions("DUPLICATE_EMAIL", "DUPLICATE_PHONE", "ALREADY_EXISTS", "EMAIL ALREADY EXISTS", "PHONE ALREADY EXISTS", "ALREADY REGISTERED"):
			return conflict(r.conflict())
		case len(r.Data.V.MissingKeys)+len(r.Data.V.InvalidValues.V) > 0 || r.mentions("CATEGORIZATION"):
			keys := append(slices.Clone(r.Data.V.MissingKeys), r.Data.V.InvalidValues.V...)
			return rejectedAll(op, codeCategorization, refusedKeys(category, keys[:min(len(keys), maxRefused)]))
		default:
			word := r.word()
			paths := refusedInputs(r)
			if paths == nil && refusedCodes[word] != nil {
				paths = [][]string{refusedCodes[word]}
			}
			return rejectedAll(op, first(word, codeValidation), paths)
		}
	}
	return err
}

// otherConflicts are words of a conflict that is about no duplicate: FinHub documents 409 as "duplicate or state conflict" (dossier
// B11) and shows no body (ours).
var otherConflicts = []string{
	"IN PROGRESS", "IN_PROGRESS", "BEING PROCESSED", "STATE CONFLICT", "STATE_CONFLICT", "INVALID STATE", "INVALID_STATE", "ILLEGAL STATE", "CURRENT STATE",
	"CONCURRENT", "LOCKED", "VERSION", "MODIFIED", "SUSPENDED", "MAINTENANCE", "TENANT", "CATEGORY", "CATEGORIZATION", "QUOTA", "LIMIT",
}

// conflict tells what a 409 is about; where it names nothing, the e-mail address.
func (r refusal) conflict() string {
	fields := refusedInputs(r)
	about := func(input string) bool { return len(fields) == 1 && slices.Equal(fields[0], []string{input}) }
	duplicate := r.mentions("DUPLICATE", "EXIST", "REGISTERED", "TAKEN", "IN USE")
	mail := r.mentions("EMAIL", "E-MAIL", "USERNAME")
	switch {
	case about("phone"):
		return kyc.CodeDuplicatePhoneAtProvider
	case about("email"), mail && duplicate:
		return kyc.CodeDuplicateEmailAtProvider
	case !duplicate && r.mentions(otherConflicts...):
		return codeConflict
	case !mail && r.mentions("PHONE", "MOBILE"):
		return kyc.CodeDuplicatePhoneAtProvider
	default:
		return kyc.CodeDuplicateEmailAtProvider
	}
}

// refusedStep judges the steps after the registration. Their refusals are documented as statuses only (dossier B11).
func refusedStep(op string, resp httpjson.Response, err error) error {
	r, readable := readRefusal(resp.Body)
	switch resp.Status {
	case http.StatusNotFound: // of a customer that FinHub made: the path or the tenant is wrong, which is our mistake
		return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
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

// rejectedAll is rejected for every input that is named.
func rejectedAll(op, code string, paths [][]string) error {
	e := &kyc.Error{Kind: kyc.Rejected, Op: op, Code: code, Err: errRefused, Path: []string{"input"}}
	for i, path := range paths {
		path = append([]string{"input"}, path...)
		if i == 0 {
			e.Path = path
		} else {
			e.MorePaths = append(e.MorePaths, path)
		}
	}
	return e
}

// refusedKeys finds the features that refused keys belong to.
func refusedKeys(category kyc.CustomerCategory, refused []string) (paths [][]string) {
	for _, key := range refused {
		for _, f := range category.Features {
			if slices.ContainsFunc(f.Parameters, func(p kyc.Parameter) bool { return p.Name == key }) || slices.Contains(f.MandatoryKeys, key) {
				paths = append(paths, []string{"parameters", f.Code, key})
				break
			}
		}
	}
	if paths == nil {
		return [][]string{{"parameters"}}
	}
	return paths
}

// refusedFields are FinHub's fields by the input they come from. FinHub may name them by their path.
var refusedFields = map[string][]string{
	"firstname": {"firstName"}, "lastname": {"lastName"}, "email": {"email"}, "username": {"email"}, "phone": {"phone"},
	"phonenumber": {"phone"}, "mobile": {"phone"}, "telephonenumbers": {"phone"},
	"password": {"password"}, "matchingpassword": {"matchingPassword"}, "roleids": {"roles"}, "roles": {"roles"},
	"customercategory": {"categoryId"}, "categorization": {"parameters"}, "dateofbirth": {"birthdate"}, "gender": {"gender"},
	"nationality": {"nationality"}, "addresses": {"addresses"}, "street": {"addresses"}, "city": {"addresses"}, "country": {"addresses"},
	"postalcode": {"addresses"}, "state": {"addresses"},
}

// refusedInputs finds which inputs a refusal is about, none when it does not say.
func refusedInputs(r refusal) (paths [][]string) {
	names := []text{r.Data.V.Field}
	for _, f := range r.Data.V.Errors.V {
		names = append(names, f.Field)
	}
	for _, n := range names[:min(len(names), maxRefused)] {
		parts := strings.FieldsFunc(strings.ToLower(string(n)), func(r rune) bool { return r < 'a' || r > 'z' })
		for _, p := range slices.Backward(parts) {
			path := refusedFields[p]
			if path == nil {
				continue
			}
			if !slices.ContainsFunc(paths, func(known []string) bool { return slices.Equal(known, path) }) {
				paths = append(paths, path)
			}
			break
		}
	}
	return paths
}

// maxRefused bounds what is told of one refusal (ours).
const maxRefused = 50
