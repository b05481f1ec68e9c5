package kyc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// RegisterCustomerInput is what a caller tells about a customer (schema: RegisterCustomerInput).
type RegisterCustomerInput struct {
	PersonID         *PersonID
	FirstName        Name
	LastName         Name
	Email            EmailAddress
	Phone            PhoneNumber
	Password         Password
	MatchingPassword Password
	Roles            []string
	CategoryID       string
	Parameters       []CategoryParameterInput
	Birthdate        Date
	Gender           Gender
	Nationality      string
	Addresses        []CustomerAddressInput
	IdempotencyKey   *string
}

// CustomerAddressInput is an address of a customer as received.
type CustomerAddressInput struct {
	Type       string
	Street     PersonalText
	City       string
	State      *string
	PostalCode PersonalText
	Country    string
	Primary    bool
}

// RegisterCustomerPayload is the answer. When UserErrors is not empty, Customer is nil and nothing was written.
type RegisterCustomerPayload struct {
	Customer   *Customer
	UserErrors []UserError
}

// customerRoles are the two that FinHub documents for individuals (dossier B12). Its others are its staff's.
var customerRoles = []string{"ACCOUNT_OWNER", "USER"}

var addressType = regexp.MustCompile(`^[A-Z][A-Z_]{0,31}$`)

// normalize checks every field but the category at once. key is the idempotency key.
func (in RegisterCustomerInput) normalize(now time.Time) (r CustomerRegistration, key string, errs []UserError) {
	var c checks
	key = c.idempotencyKey(in.IdempotencyKey)
	r.FirstName = NewName(c.text(in.FirstName.Reveal(), 1, 100, "firstName"))
	r.LastName = NewName(c.text(in.LastName.Reveal(), 1, 100, "lastName"))
	switch {
	case in.Email.Empty():
		c.required("must be an e-mail address", "email")
	case !validEmail(in.Email.Reveal()):
		c.invalid("must be an e-mail address", "email")
	default:
		r.Email = in.Email
	}
	if number, ok := ParsePhone(in.Phone.Reveal()); ok {
		r.Phone = number
	} else {
		c.invalid("must be a phone number in E.164, with + and country code", "phone")
	}
	switch {
	case in.Password.Empty():
		c.required("must not be empty", "password")
	case !strongPassword(in.Password.Reveal()):
		c.invalid("must have 12 to 128 characters with an upper-case and a lower-case letter, a digit and a symbol", "password")
	}
	if in.MatchingPassword.Reveal() != in.Password.Reveal() {
		c.add(CodePasswordMismatch, "must equal password", "matchingPassword")
	}
	r.Password = in.Password
	if c.listSize(len(in.Roles), "roles") {
		for i, role := range in.Roles {
			switch {
			case !slices.Contains(customerRoles, role):
				c.invalid("must be ACCOUNT_OWNER or USER", "roles", itoa(i))
			case slices.Contains(in.Roles[:i], role):
				c.invalid("is given twice", "roles", itoa(i))
			}
		}
		r.Roles = in.Roles
	}
	r.Birthdate = c.birthdate(in.Birthdate, now, "birthdate")
	r.Gender = in.Gender
	r.Nationality = c.alpha2(in.Nationality, "nationality")
	if c.listSize(len(in.Addresses), "addresses") {
		primary := 0
		for i, a := range in.Addresses {
			at := func(field string) []string { return []string{"addresses", itoa(i), field} }
			if !addressType.MatchString(a.Type) {
				c.invalid("must be a word in capitals, such as HOME", at("type")...)
			}
			r.Addresses = append(r.Addresses, CustomerAddress{
				Type: a.Type, Street: NewPersonalText(c.text(a.Street.Reveal(), 1, 200, at("street")...)), City: c.text(a.City, 1, 100, at("city")...),
				State: c.optional(a.State, 100, at("state")...), PostalCode: NewPersonalText(c.text(a.PostalCode.Reveal(), 1, 20, at("postalCode")...)),
				Country: c.alpha2(a.Country, at("country")...), Primary: a.Primary,
			})
			if a.Primary {
				primary++
			}
		}
		if primary != 1 {
			c.invalid("must hold exactly one primary address", "addresses")
		}
	}
	if strings.TrimSpace(in.CategoryID) == "" {
		c.required("must be the id of a category", "categoryId")
	}
	if len(in.Parameters) > 100 {
		c.invalid("must hold at most 100", "parameters")
	}
	return r, key, c.errs
}

// strongPassword is FinHub's policy (dossier B3.3); that a symbol is anything but letter, digit and control, and that a password ends
// at 128 characters, is ours.
func strongPassword(p string) bool {
	n := utf8.RuneCountInString(p)
	if n < 12 || n > 128 || !utf8.ValidString(p) {
		return false
	}
	var upper, lower, digit, symbol bool
	for _, r := range p {
		switch {
		case unicode.IsControl(r):
			return false
		case unicode.IsUpper(r):
			upper = true
		case unicode.IsLower(r):
			lower = true
		case unicode.IsDigit(r):
			digit = true
		case !unicode.IsLetter(r):
			symbol = true
		}
	}
	return upper && lower && digit && symbol
}

// profile is the person behind the customer.
func (r CustomerRegistration) profile() Profile {
	p := Profile{
		Name: fullName(r.FirstName, r.LastName), Birthdate: r.Birthdate, Gender: &r.Gender,
		Emails: []Email{{Address: r.Email}}, Phones: []Phone{{Number: r.Phone}},
	}
	if code, ok := alpha3(r.Nationality); ok {
		p.Nationality = &code
	}
	for _, a := range r.Addresses {
		if !a.Primary {
			continue
		}
		p.Address = Address{Street: a.Street, City: a.City, PostalCode: a.PostalCode}
		p.Address.Country, _ = alpha3(a.Country)
		if a.State != nil {
			p.Address.State = *a.State
		}
	}
	return p
}

// customerRequest is a registration as it is kept: everything that was asked but the password. Two registrations are the same when
// their documents are.
type customerRequest struct {
	FirstName   string              `json:"first_name"`
	LastName    string              `json:"last_name"`
	Email       string              `json:"email"`
	Phone       string              `json:"phone"`
	Roles       []string            `json:"roles"`
	Category    string              `json:"category"`
	Parameters  []Parameter         `json:"parameters"` // of all features, as they are sent
	Birthdate   string              `json:"birthdate"`
	Gender      Gender              `json:"gender"`
	Nationality string              `json:"nationality"`
	Addresses   []map[string]string `json:"addresses"`
	PersonID    PersonID            `json:"person_id,omitempty"`
}

func (r CustomerRegistration) document(person *PersonID) (JSON, error) {
	d := customerRequest{
		FirstName: r.FirstName.Reveal(), LastName: r.LastName.Reveal(), Email: strings.ToLower(r.Email.Reveal()), Phone: r.Phone.Reveal(), Roles: r.Roles,
		Category: r.Category.ID, Birthdate: r.Birthdate.Reveal(), Gender: r.Gender, Nationality: r.Nationality,
	}
	for _, f := range r.Category.Features {
		for _, p := range f.Parameters {
			d.Parameters = append(d.Parameters, Parameter{f.Code + "." + p.Name, p.Value})
		}
	}
	for _, a := range r.Addresses {
		m := map[string]string{"type": a.Type, "street": a.Street.Reveal(), "city": a.City, "postal_code": a.PostalCode.Reveal(), "country": a.Country}
		if a.State != nil {
			m["state"] = *a.State
		}
		if a.Primary {
			m["primary"] = "true"
		}
		d.Addresses = append(d.Addresses, m)
	}
	if person != nil {
		d.PersonID = *person
	}
	b, err := json.Marshal(d)
	return b, err
}

// customerRegistration is one registration on its way through RegisterCustomer. It holds the password and lives as long as the
// request and its call.
type customerRegistration struct {
	partner  Partner
	request  CustomerRegistration
	document JSON
	personID *PersonID
	key      string
	now      time.Time

	customer *Customer
	job      *Job
	attempt  int // of sending it, 1 for the first
	// unknown: an earlier call for this very data, which left at since, has an unknown end.
	unknown bool
	since   time.Time
}

func (r *customerRegistration) hash() []byte {
	sum := sha256.Sum256(append([]byte("registerCustomer\x00"), r.document...))
	return sum[:]
}

// RegisterCustomer makes a customer at FinHub from a category and what is known of the person.
//
// The customer is written, with its person if there is none, in one transaction together with the recorded call, the job that
// looks it up if the call's end is not seen, and the idempotency key; nobody sees it before FinHub has said yes. The password is in
// none of that: it goes from the request into the call and nowhere else, so a call that did not get through cannot be repeated by us. Its
// caller is asked to register again, and doing so goes on with the same customer: it is looked up before anything is sent a second
// time, and sent only when FinHub has said that it is not there, or after a while when no look-up says anything; see heldBlind.
func (s *Service) RegisterCustomer(ctx context.Context, in RegisterCustomerInput) (*RegisterCustomerPayload, error) {
	deadline := s.Clock.Now().Add(s.AnswerWithin)
	partner, ok := s.finhubTenant(ctx)
	if partner.ID == "" {
		return nil, E(Forbidden, "kyc.register_customer", nil)
	}
	r := &customerRegistration{partner: partner, personID: in.PersonID, now: s.now()}
	var errs []UserError
	r.request, r.key, errs = in.normalize(r.now)
	if !ok {
		return refuseCustomer(append(errs, notConfigured())...), nil
	}
	r.request.Tenant = partner.FinHubTenant
	more, err := s.categorize(ctx, r, in, deadline)
	if err != nil && len(errs) == 0 {
		return s.customerUnavailable(err), nil
	}
	errs = append(errs, more...)
	if len(errs) > 0 {
		taken, err := s.alreadyWrong(ctx, r)
		return refuseCustomer(append(errs, taken...)...), err
	}
	if r.document, err = r.request.document(in.PersonID); err != nil {
		return nil, Errorf("kyc.register_customer", "the request cannot be written: %T", err)
	}
	for {
		payload, again, err := s.registerOnce(ctx, r, deadline)
		if !again || err != nil {
			return payload, err
		}
	}
}

func refuseCustomer(errs ...UserError) *RegisterCustomerPayload {
	return &RegisterCustomerPayload{UserErrors: errs}
}

func notConfigured() UserError {
	return UserError{Code: CodeProviderNotConfigured, Message: "FinHub is not configured for this partner: ask the gateway's operator", Path: []string{"input"}, Provider: nonEmpty(providerFinhub)}
}

// customerUnavailable is the answer when FinHub did not take the registration, as far as we know. The caller has the password and we
// have not, so they have to come again.
func (s *Service) customerUnavailable(err error) *RegisterCustomerPayload {
	return refuseCustomer(UserError{
		Code: CodeProviderUnavailable, Message: "FinHub did not answer: register again with the same data and password in a moment", Path: []string{"input"},
		Provider: nonEmpty(providerFinhub), ProviderCode: unavailableCode(err), Retryable: true,
	})
}

func unavailableCode(err error) *string {
	if err == nil {
		return nil
	}
	return nonEmpty(codeOf(err))
}

// categorize finds the category and fills in its parameters. err says that FinHub was not reached and nothing is known of its
// categories.
func (s *Service) categorize(ctx context.Context, r *customerRegistration, in RegisterCustomerInput, deadline time.Time) ([]UserError, error) {
	if strings.TrimSpace(in.CategoryID) == "" || len(in.Parameters) > 100 {
		return nil, nil // said already
	}
	ctx, cancel := context.WithTimeout(ctx, deadline.Sub(s.Clock.Now()))
	defer cancel()
	h, err := s.hierarchy(ctx, r.partner.FinHubTenant, hierarchyFresh)
	if err != nil {
		return nil, err
	}
	category, found := h.Category(in.CategoryID)
	if !found {
		if h, err = s.hierarchy(ctx, r.partner.FinHubTenant, hierarchyRecent); err == nil {
			category, found = h.Category(in.CategoryID)
		}
	}
	switch {
	case !found:
		return []UserError{{Code: CodeInvalid, Message: "is not a category of this tenant: see categoryHierarchy", Path: []string{"input", "categoryId"}}}, nil
	case category.RiskLevel != nil && *category.RiskLevel == "PROHIBITED":
		return []UserError{{Code: CodeInvalid, Message: "is a category whose customers may not be registered", Path: []string{"input", "categoryId"}}}, nil
	}
	var errs []UserError
	r.request.Category, errs = Categorize(category, in.Parameters)
	return errs, nil
}

// alreadyWrong adds what only the store knows to an answer that is a refusal anyway, so that it names everything.
func (s *Service) alreadyWrong(ctx context.Context, r *customerRegistration) (errs []UserError, err error) {
	if r.personID != nil {
		p, err := s.Person(ctx, *r.personID)
		if err != nil {
			return nil, err
		}
		if p == nil {
			errs = append(errs, UserError{Code: CodeNotFound, Message: "names no person of yours", Path: []string{"input", "personId"}})
		}
	}
	if !r.request.Email.Empty() {
		c, err := s.Store.CustomerByEmail(ctx, r.partner.ID, providerFinhub, r.request.Email)
		if err != nil {
			return nil, err
		}
		if c != nil && c.Version > 0 {
			errs = append(errs, duplicateEmail(nil))
		}
	}
	return errs, nil
}

func duplicateEmail(code *string) UserError {
	e := UserError{Code: CodeDuplicateEmail, Message: "belongs to another customer", Path: []string{"input", "email"}}
	if code != nil {
		e.Provider, e.ProviderCode = nonEmpty(providerFinhub), code
	}
	return e
}

// What a registration finds in the store.
type customerFound uint8

const (
	foundNothing customerFound = iota
	foundAnswer                // this very request was answered before, or goes on where it was
	foundWaiting               // a call for this e-mail address is under way: its end decides
	foundOpen                  // an earlier call for this e-mail address has an unknown end: look it up
	foundTaken                 // the e-mail address belongs to another customer
)

// registerOnce is one try. again says that what it waited for has ended and the question is open again.
func (s *Service) registerOnce(ctx context.Context, r *customerRegistration, deadline time.Time) (payload *RegisterCustomerPayload, again bool, err error) {
	var refusal *UserError
	var found customerFound
	var one *waiter[customerEvent]
	err = s.Store.Write(ctx, func(tx Tx) error {
		if one != nil { // this transaction was tried before
			s.customerWaiters.leave(string(r.customer.ID), one)
			one = nil
		}
		var err error
		found, refusal, err = r.write(ctx, tx, s.Lease())
		if err == nil && (found == foundNothing || found == foundWaiting) {
			// Inside, so that no event is missed: whoever ends the call writes after us.
			one = s.customerWaiters.join(string(r.customer.ID))
		}
		return err
	})
	if err != nil && one != nil {
		s.customerWaiters.leave(string(r.customer.ID), one)
	}
	switch {
	case refusal != nil:
		return refuseCustomer(*refusal), false, nil
	case err != nil:
		return nil, false, err
	}
	switch found {
	case foundTaken:
		return refuseCustomer(duplicateEmail(nil)), false, nil
	case foundAnswer:
		return s.claimCustomer(ctx, r)
	case foundOpen:
		return s.resumeCustomer(ctx, r, deadline)
	case foundWaiting:
		defer s.customerWaiters.leave(string(r.customer.ID), one)
		if !s.awaitCustomer(ctx, one, deadline) {
			return s.customerUnavailable(ctx.Err()), false, nil
		}
		return nil, true, nil
	case foundNothing:
	}
	s.startRegistration(r)
	payload, err = s.awaitRegistration(ctx, r, one, deadline)
	return payload, false, err
}

// startRegistration makes the call, detached from the request: once it is recorded its end must be recorded too.
func (s *Service) startRegistration(r *customerRegistration) {
	s.background.Go(func() {
		work, cancel := context.WithTimeout(s.alive, s.Lease()-time.Second)
		defer cancel()
		if err := s.sendRegistration(work, r); err != nil {
			s.Logger.Error("the end of a customer's registration was not recorded; its lease will run out and a worker looks it up", "customer", r.customer.ID, "err", err)
			s.customerWaiters.publish(string(r.customer.ID), customerEvent{unavailable: err})
			s.Wake(r.job.RunAt)
		}
	})
}

// write finds out what is known about this registration and, if nothing is, writes all of it.
func (r *customerRegistration) write(ctx context.Context, tx Tx, lease time.Duration) (customerFound, *UserError, error) {
	if r.key != "" {
		done, same, err := tx.Idempotent(ctx, r.partner.ID, r.key, r.hash(), r.now.Add(-keepIdempotencyKeys))
		if err != nil {
			return 0, nil, err
		}
		if done != nil {
			c, err := tx.Customer(ctx, r.partner.ID, CustomerID(done.ObjectID))
			if err != nil {
				return 0, nil, err
			}
			switch {
			case done.Mutation != "registerCustomer", c != nil && !same:
				return 0, &UserError{Code: CodeIdempotencyConflict, Message: "was used with another input: use a new key", Path: []string{"input", "idempotencyKey"}}, errRefused
			case c != nil && c.Version > 0:
				r.customer = c
				return foundAnswer, nil, nil
			}
			// A registration that was taken back has freed its key; one whose end is unknown is found by its address.
		}
	}
	existing, err := tx.CustomerByEmail(ctx, r.partner.ID, providerFinhub, r.request.Email)
	if err != nil {
		return 0, nil, err
	}
	if existing != nil {
		r.customer = existing
		switch {
		case existing.Version > 0 && existing.Steps.Unclaimed && bytes.Equal(existing.Request, r.document):
			return foundAnswer, nil, nil
		case existing.Version > 0:
			return foundTaken, nil, nil
		case existing.Submission == SubmissionSent:
			return foundWaiting, nil, nil
		default:
			return foundOpen, nil, nil
		}
	}
	refusal, err := r.insert(ctx, tx, lease)
	return foundNothing, refusal, err
}

// insert writes the customer, its person, the call that is about to leave and the job that owns both, leased to this request.
func (r *customerRegistration) insert(ctx context.Context, tx Tx, lease time.Duration) (*UserError, error) {
	p, refusal, err := personFor(ctx, tx, r.partner, r.personID, r.request.profile(), r.now)
	switch {
	case refusal != nil:
		return refusal, errRefused
	case err != nil:
		return nil, err
	}
	if r.personID == nil {
		p.Version = 0 // nobody may see them before FinHub has said yes
		if err := tx.UpdatePerson(ctx, p); err != nil {
			return nil, err
		}
	}
	email := r.request.Email
	r.attempt, r.unknown = 1, false
	r.customer = &Customer{
		ID: NewCustomerID(), PartnerID: r.partner.ID, PersonID: p.ID, Provider: providerFinhub, Status: CustomerPending,
		Category: &r.request.Category, User: &CustomerUser{Username: email, Roles: r.request.Roles},
		Steps: &CustomerSteps{Attempts: 1}, Unique: CustomerKeys{Email: &email}, Request: r.document, Submission: SubmissionSent,
		CreatedAt: r.now, UpdatedAt: r.now,
	}
	if err := tx.InsertCustomer(ctx, r.customer); err != nil {
		return nil, err
	}
	events := []AuditEvent{r.customer.event(AuditCreate, fieldCustomerUser, fieldCustomerStatus)}
	if r.personID == nil {
		events = append(events, AuditEvent{Partner: p.PartnerID, Person: p.ID, Action: AuditCreate, Fields: changedFields(new(Profile), &p.Profile)})
	}
	if err := audit(ctx, tx, r.now, events...); err != nil {
		return nil, err
	}
	return nil, r.record(ctx, tx, lease)
}

// record writes the call, the job and the idempotency key of one sending.
func (r *customerRegistration) record(ctx context.Context, tx Tx, lease time.Duration) error {
	if err := tx.InsertCall(ctx, &Call{PartnerID: r.partner.ID, Provider: providerFinhub, Operation: opRegisterCustomer, Reference: string(r.customer.ID), Number: r.attempt, StartedAt: r.now}); err != nil {
		return err
	}
	r.job = &Job{
		ID: NewJobID(), Kind: JobCustomer, PartnerID: r.partner.ID, Subject: string(r.customer.ID),
		RunAt: r.now.Add(lease), Leased: true, Attempt: 1, CreatedAt: r.now,
	}
	if err := tx.InsertJob(ctx, r.job); err != nil || r.key == "" {
		return err
	}
	return tx.SaveIdempotent(ctx, &IdempotentAnswer{
		PartnerID: r.partner.ID, Key: r.key, Mutation: "registerCustomer", PersonID: r.customer.PersonID, ObjectID: string(r.customer.ID), CreatedAt: r.now,
	}, r.hash())
}

// resumeCustomer goes on with a registration whose call had an unknown end, for a caller who registers again as they were asked to:
// it is looked up first, and only what FinHub does not have is sent again. A look-up that shows nothing is no reason to send before the
// call counts as not having happened.
func (s *Service) resumeCustomer(ctx context.Context, r *customerRegistration, deadline time.Time) (*RegisterCustomerPayload, bool, error) {
	look, cancel := context.WithTimeout(ctx, max(deadline.Sub(s.Clock.Now()), 0))
	seen, verdict, lookErr := s.lookForCustomer(look, r.customer.ID, CustomerSearch{Tenant: r.partner.FinHubTenant, Email: r.request.Email}, r.customer.Request)
	cancel()
	id := r.customer.ID
	var refusal *UserError
	var one *waiter[customerEvent]
	again := false
	err := s.Store.Write(ctx, func(tx Tx) error {
		again, refusal = false, nil
		if one != nil { // this transaction was tried before
			s.customerWaiters.leave(string(r.customer.ID), one)
			one = nil
		}
		c, err := tx.Customer(ctx, r.partner.ID, id)
		if err != nil {
			return err
		}
		if c == nil || c.Version > 0 || c.Submission != SubmissionAmbiguous {
			again = true // somebody else was here meanwhile
			return nil
		}
		r.now = s.now()
		if seen == lookOurs {
			again = true // the next try finds it
			if err := acceptCustomer(ctx, tx, c, verdict, r.now, true); err != nil {
				return err
			}
			return tx.DeleteJob(ctx, string(c.ID))
		}
		same := bytes.Equal(c.Request, r.document)
		if refusal = r.notNow(c, same, seen, lookErr); refusal != nil && seen != lookOther {
			return nil
		}
		if err := tx.DeleteJob(ctx, string(c.ID)); err != nil {
			return err
		}
		switch {
		case seen == lookOther:
			return takeBackCustomer(ctx, tx, c, r.key, r.now)
		case same:
			err = r.repeat(ctx, tx, c, s.Lease())
		default: // others with the same address: nothing of the first is theirs
			if err = takeBackCustomer(ctx, tx, c, "", r.now); err == nil {
				refusal, err = r.insert(ctx, tx, s.Lease())
			}
		}
		if err == nil {
			one = s.customerWaiters.join(string(r.customer.ID))
		}
		return err
	})
	if one != nil && err != nil {
		s.customerWaiters.leave(string(r.customer.ID), one)
	}
	switch {
	case refusal != nil && (err == nil || errors.Is(err, errRefused)):
		return refuseCustomer(*refusal), false, nil
	case err != nil || again:
		return nil, again, err
	}
	s.startRegistration(r)
	payload, err := s.awaitRegistration(ctx, r, one, deadline)
	return payload, false, err
}

// notNow is why a registration is not sent again after a look-up, nil when it is.
func (r *customerRegistration) notNow(c *Customer, same bool, seen customerLook, lookErr error) *UserError {
	switch {
	case c.Steps.Contested && same && seen != lookOther:
		return new(contested(CodeDuplicateEmailAtProvider))
	case seen == lookOther, c.Steps.Contested: // FinHub has said that it has the address
		return new(duplicateEmail(nonEmpty(CodeDuplicateEmailAtProvider)))
	case seen == lookBlind && r.now.Sub(c.UpdatedAt) <= heldBlind(lookErr):
		return &UserError{
			Code: CodeProviderUnavailable, Message: "FinHub has not said what became of an earlier registration with this e-mail address: register again with the same data and password in a moment",
			Path: []string{"input"}, Provider: nonEmpty(providerFinhub), ProviderCode: unavailableCode(lookErr), Retryable: true,
		}
	default:
		return nil
	}
}

// heldBlind is how long a registration with an unknown end is not sent again, although its caller asks for it, after a look-up that
// showed nothing. A look-up that may work again is waited for. Where there is none, its path being undocumented, that would keep every
// caller waiting after each 503; then the call only has to be over, and FinHub, which takes an e-mail address once in a tenant
// (dossier B2), refuses what it has.
func heldBlind(lookErr error) time.Duration {
	if errors.Is(lookErr, errNoLookUp) || endOf(lookErr).fault {
		return blindCustomerFor
	}
	return ambiguousCustomerFor
}

// repeat writes that the same registration is sent once more.
func (r *customerRegistration) repeat(ctx context.Context, tx Tx, c *Customer, lease time.Duration) error {
	r.unknown, r.since = true, c.UpdatedAt
	c.Steps.Attempts++
	c.Steps.GaveUp = false
	c.Category, c.User = &r.request.Category, &CustomerUser{Username: r.request.Email, Roles: r.request.Roles}
	c.Submission, c.UpdatedAt = SubmissionSent, r.now
	if err := tx.UpdateCustomer(ctx, c); err != nil {
		return err
	}
	if err := audit(ctx, tx, r.now, c.event(AuditUpdate, fieldCustomerUser)); err != nil {
		return err
	}
	r.customer, r.attempt = c, c.Steps.Attempts
	return r.record(ctx, tx, lease)
}

// claimCustomer answers a customer who is there: this request, or the one it repeats, made it.
func (s *Service) claimCustomer(ctx context.Context, r *customerRegistration) (*RegisterCustomerPayload, bool, error) {
	again := false
	err := s.Store.Write(ctx, func(tx Tx) error {
		c, err := tx.Customer(ctx, r.partner.ID, r.customer.ID)
		if err != nil {
			return err
		}
		if c == nil {
			again = true // erased meanwhile
			return nil
		}
		r.customer = c
		if !c.Steps.Unclaimed {
			return nil
		}
		c.Steps.Unclaimed = false
		if err := tx.UpdateCustomer(ctx, c); err != nil || r.key == "" {
			return err
		}
		return tx.SaveIdempotent(ctx, &IdempotentAnswer{
			PartnerID: r.partner.ID, Key: r.key, Mutation: "registerCustomer", PersonID: c.PersonID, ObjectID: string(c.ID), CreatedAt: r.now,
		}, r.hash())
	})
	return &RegisterCustomerPayload{Customer: r.customer, UserErrors: []UserError{}}, again, err
}

// awaitRegistration waits for the end of this request's own call.
func (s *Service) awaitRegistration(ctx context.Context, r *customerRegistration, one *waiter[customerEvent], deadline time.Time) (*RegisterCustomerPayload, error) {
	defer s.customerWaiters.leave(string(r.customer.ID), one)
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	for {
		select {
		case ev := <-one.events:
			switch {
			case ev.refusals != nil:
				return refuseCustomer(ev.refusals...), nil
			case ev.fault != nil:
				return nil, ev.fault
			case ev.customer != nil:
				return &RegisterCustomerPayload{Customer: ev.customer, UserErrors: []UserError{}}, nil
			case ev.unavailable != nil:
				// Perhaps a word about an earlier call of this customer, and ours is still under way.
				return s.giveUp(ctx, r, ev.unavailable)
			}
		case <-timer.Chan():
			return s.giveUp(ctx, r, errNoAnswerYet)
		case <-ctx.Done():
			// The answer reaches nobody; what becomes of the call is for whoever comes again.
			payload, err := s.giveUp(context.WithoutCancel(ctx), r, errNoAnswerYet)
			return payload, errors.Join(err, E(Unavailable, "kyc.register_customer", ctx.Err()))
		}
	}
}

// errNoAnswerYet is why a caller is asked to come again while the call is under way.
var errNoAnswerYet = &Error{Kind: Ambiguous, Op: "kyc.register_customer", Code: "timeout"}

// giveUp asks a caller to register again. Who was first is decided in the store: a customer who is accepted
// already is the answer, otherwise the one who comes with the same data takes the customer over.
func (s *Service) giveUp(ctx context.Context, r *customerRegistration, why error) (*RegisterCustomerPayload, error) {
	var accepted *Customer
	err := s.Store.Write(ctx, func(tx Tx) error {
		c, err := tx.Customer(ctx, r.partner.ID, r.customer.ID)
		if err != nil || c == nil {
			return err
		}
		if c.Version > 0 {
			accepted = c
			return nil
		}
		c.Steps.GaveUp = true
		return tx.UpdateCustomer(ctx, c)
	})
	if err != nil {
		return nil, err
	}
	if accepted != nil {
		return &RegisterCustomerPayload{Customer: accepted, UserErrors: []UserError{}}, nil
	}
	return s.customerUnavailable(why), nil
}

// awaitCustomer waits for any end of somebody else's call; false when there was none in time.
func (s *Service) awaitCustomer(ctx context.Context, one *waiter[customerEvent], deadline time.Time) bool {
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	select {
	case <-one.events:
		return true
	case <-timer.Chan():
	case <-ctx.Done():
	}
	return false
}
