package kyc

import (
	"context"
	"crypto/sha256"
	"time"
)

// keepIdempotencyKeys is how long an idempotency key stands for its first answer (contract: 30 days).
const keepIdempotencyKeys = 30 * 24 * time.Hour

// RegisterPersonInput is what a caller tells about a person (schema: RegisterPersonInput).
type RegisterPersonInput struct {
	ExternalID        *string
	Name              Name
	DocumentNumber    DocumentNumber
	Birthdate         Date
	Emails            []EmailInput
	Phones            []PhoneInput
	Address           AddressInput
	Gender            *Gender
	Nationality       *string
	MonthlyIncome     *Cents
	Occupation        *PersonalText
	MotherName        *Name
	FatherName        *Name
	FaceRecognitionID *UUID
	SessionID         *UUID
	IPAddress         *PersonalText
	DeviceFingerprint *PersonalText
	IdempotencyKey    *string
}

// EmailInput is an e-mail address as received.
type EmailInput struct{ Address EmailAddress }

// PhoneInput is a phone as received.
type PhoneInput struct {
	Number PhoneNumber
	Type   *PhoneType
}

// AddressInput is a postal address as received.
type AddressInput struct {
	Street       PersonalText
	Number       *PersonalText
	Complement   *PersonalText
	Neighborhood *PersonalText
	City         string
	State        string
	PostalCode   PersonalText
	Country      string
}

// RegisterPersonPayload is the answer. When UserErrors is not empty, Person is nil and nothing was written.
type RegisterPersonPayload struct {
	Person     *Person
	Outcome    *RegistrationOutcome
	UserErrors []UserError
}

// normalize checks every field at once and gives the profile as it will be stored.
func (in RegisterPersonInput) normalize(now time.Time, checkDigits bool) (profile Profile, externalID, key string, errs []UserError) {
	var c checks
	key = c.idempotencyKey(in.IdempotencyKey)
	if id := c.optional(in.ExternalID, 255, "externalId"); id != nil {
		externalID = *id
	}
	profile.Name = NewName(c.text(in.Name.Reveal(), 1, 200, "name"))
	profile.DocumentNumber = c.cpf(in.DocumentNumber, checkDigits, "documentNumber")
	profile.Birthdate = c.birthdate(in.Birthdate, now, "birthdate")
	if c.listSize(len(in.Emails), "emails") {
		for i, e := range in.Emails {
			if !validEmail(e.Address.Reveal()) {
				c.invalid("must be an e-mail address", "emails", itoa(i), "address")
				continue
			}
			profile.Emails = append(profile.Emails, Email(e))
		}
	}
	if c.listSize(len(in.Phones), "phones") {
		for i, p := range in.Phones {
			number, ok := ParsePhone(p.Number.Reveal())
			if !ok {
				c.invalid("must be a phone number in E.164, with + and country code", "phones", itoa(i), "number")
				continue
			}
			profile.Phones = append(profile.Phones, Phone{Number: number, Type: p.Type})
		}
	}
	profile.Address = c.address(in.Address, "address")
	profile.Gender = in.Gender
	if in.Nationality != nil {
		profile.Nationality = nonEmpty(c.country(*in.Nationality, "nationality"))
	}
	if in.MonthlyIncome != nil {
		if v := in.MonthlyIncome.Reveal(); v < 0 || v > maxMonthlyIncome {
			c.invalid("must be cents of BRL, from 0 to 10^13", "monthlyIncome")
		}
		profile.MonthlyIncome = in.MonthlyIncome
	}
	profile.Occupation = c.optionalText(in.Occupation, 200, "occupation")
	profile.MotherName = c.optionalName(in.MotherName, "motherName")
	profile.FatherName = c.optionalName(in.FatherName, "fatherName")
	profile.FaceRecognitionID = c.uuid(in.FaceRecognitionID, "faceRecognitionId")
	profile.SessionID = c.uuid(in.SessionID, "sessionId")
	profile.IPAddress = c.ipAddress(in.IPAddress, "ipAddress")
	profile.DeviceFingerprint = c.optionalText(in.DeviceFingerprint, 2000, "deviceFingerprint")
	return profile, externalID, key, c.errs
}

// maxMonthlyIncome is a hundred billion reais: a typo guard, not a statement about people (ours).
const maxMonthlyIncome = 10_000_000_000_000

// registration is one registration on its way through RegisterPerson.
type registration struct {
	partner    Partner
	profile    Profile // of this registration alone
	externalID string
	key        string // idempotency key, "" without one
	payload    JSON   // as received
	now        time.Time

	id       RegistrationID
	person   *Person
	outcome  RegistrationOutcome // "" until it is accepted
	analysis *Analysis           // nil for openco
	asked    Profile             // what the analysis is asked about
	job      *Job
	replayed bool
}

// RegisterPerson creates or updates the person of a CPF (dossier C1–C36). received is the payload to the
// letter, for the snapshot.
//
// Everything is committed before any answer and before any call leaves. An openco registration is accepted
// in that transaction. A qitech one is accepted by whatever comes first: the provider's verdict, or our own
// answer that it is PENDING, which is committed before it is given. Until then the registration touches no
// person that exists and makes none that anybody sees, so a provider that refuses the data while the caller
// still waits leaves nothing (dossier C31), whatever else happens to the same person meanwhile.
func (s *Service) RegisterPerson(ctx context.Context, in RegisterPersonInput, received JSON) (*RegisterPersonPayload, error) {
	deadline := s.answerBy(ctx)
	partner, ok := s.partners[CallerFrom(ctx).Partner]
	if !ok {
		return nil, E(Forbidden, "kyc.register_person", nil)
	}
	r := &registration{partner: partner, payload: received, now: s.now()}
	var errs []UserError
	r.profile, r.externalID, r.key, errs = in.normalize(r.now, !s.SkipCheckDigits)
	if partner.SourceKyc == SourceQitech {
		if r.externalID == "" && !hasPath(errs, "externalId") {
			errs = append(errs, UserError{Code: CodeRequired, Message: "is required because this partner's KYC is decided by QI Tech", Path: []string{"input", "externalId"}})
		}
		if s.providers[providerQitech].AnalyzePerson == nil {
			errs = append(errs, UserError{Code: CodeProviderNotConfigured, Message: "QI Tech is not configured on this gateway: ask its operator", Path: []string{"input"}, Provider: nonEmpty(providerQitech)})
		}
	}
	if len(errs) > 0 {
		return &RegisterPersonPayload{UserErrors: errs}, nil
	}

	var refusal *UserError
	var one *waiter[analysisEvent]
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		refusal, err = r.write(ctx, tx, s.Lease())
		if err == nil && r.analysis != nil && !r.replayed {
			// Inside, so that whoever repeats this request finds us waiting as soon as they can see it.
			one = s.waiters.join(string(r.analysis.ID))
		}
		return err
	})
	if err != nil && one != nil {
		s.waiters.leave(string(r.analysis.ID), one)
	}
	switch {
	case refusal != nil:
		return &RegisterPersonPayload{UserErrors: []UserError{*refusal}}, nil
	case err != nil:
		return nil, err
	case r.analysis == nil:
		return r.answer(), nil
	case r.replayed:
		return s.awaitReplay(ctx, r, deadline)
	}

	s.background.Go(func() {
		// Detached: once committed, the work must not end with the caller's connection.
		work, cancel := context.WithTimeout(s.alive, s.Lease()-time.Second)
		defer cancel()
		if err := s.advanceAnalysis(work, r.job, r); err != nil {
			s.Logger.Error("analysis did not advance; its lease will run out and a worker goes on", "analysis", r.analysis.ID, "err", err)
			s.waiters.publish(string(r.analysis.ID), analysisEvent{again: s.Clock.Now().Add(s.Lease())})
			s.Wake(r.job.RunAt)
		}
	})
	return s.awaitAnalysis(ctx, r, one, deadline)
}

// providerQitech is the provider that source_kyc qitech means.
const providerQitech = "qitech"

// errRefused rolls the transaction back; the UserError beside it says why.
var errRefused = &Error{Kind: Rejected, Op: "kyc.register_person"}

// write is the whole registration as one transaction.
func (r *registration) write(ctx context.Context, tx Tx, lease time.Duration) (*UserError, error) {
	partner := r.partner.ID
	if r.key != "" {
		refusal, err := r.replay(ctx, tx)
		if r.replayed || refusal != nil || err != nil {
			return refusal, err
		}
	}
	existing, err := tx.PersonByDocument(ctx, partner, r.profile.DocumentNumber)
	if err != nil {
		return nil, err
	}
	var mappedTo *Person
	if r.externalID != "" {
		if mappedTo, err = tx.PersonByExternalID(ctx, partner, r.externalID); err != nil {
			return nil, err
		}
	}
	taken, mapIt := decideMapping(existing, mappedTo, r.externalID)
	if taken {
		return &UserError{Code: CodeExternalIDTaken, Message: "belongs to a person with another document", Path: []string{"input", "externalId"}}, errRefused
	}
	r.person = existing
	if existing == nil {
		r.person = &Person{ID: NewPersonID(), PartnerID: partner, Profile: r.profile, SourceKyc: r.partner.SourceKyc, Kyc: KycReview{Status: KycPending}, CreatedAt: r.now, UpdatedAt: r.now}
	}
	openco := r.partner.SourceKyc != SourceQitech
	// What is not accepted yet has changed nothing of the person.
	event := AuditEvent{Partner: partner, Person: r.person.ID, Action: AuditCreate, Fields: []string{fieldPayload}}
	if mapIt {
		event.Fields = append(event.Fields, fieldExternalIDs)
	}
	if openco {
		event.settle(r.person, func() { r.count(r.person, nil, r.now) })
	}
	switch {
	case existing == nil:
		err = tx.InsertPerson(ctx, r.person)
	case openco:
		err = tx.UpdatePerson(ctx, r.person)
	}
	if err != nil {
		return nil, err
	}
	if r.outcome == OutcomeCreated { // of openco only, so far
		if err := link(ctx, tx, r.person, r.now); err != nil {
			return nil, err
		}
	}
	if mapIt {
		// The id is taken from here on, also while the registration is not accepted: of two that bring one new id
		// with different documents, the second must not reach the provider (dossier C23).
		if err := tx.MapExternalID(ctx, partner, r.person.ID, ExternalID{Value: r.externalID, MappedAt: r.now}); err != nil {
			return nil, err
		}
	}
	r.id = NewRegistrationID()
	if !openco {
		event.Object = string(r.id)
	}
	if err := audit(ctx, tx, r.now, event); err != nil {
		return nil, err
	}
	if err := tx.InsertRegistration(ctx, &Registration{
		ID: r.id, PartnerID: partner, PersonID: r.person.ID, ExternalID: nonEmpty(r.externalID), Payload: r.payload, Profile: r.profile, ReceivedAt: r.now,
		Outcome: r.outcome,
	}); err != nil {
		return nil, err
	}
	if !openco {
		if err := r.openAnalysis(ctx, tx, lease); err != nil {
			return nil, err
		}
	}
	if r.key == "" {
		return nil, nil
	}
	answer := &IdempotentAnswer{PartnerID: partner, Key: r.key, Mutation: "registerPerson", PersonID: r.person.ID, ObjectID: string(r.id), CreatedAt: r.now}
	if r.analysis != nil {
		answer.Analysis = r.analysis.ID
	}
	return nil, tx.SaveIdempotent(ctx, answer, r.hash())
}

// openAnalysis writes the analysis, the call that is about to leave, and the job that owns both, leased to
// this request. The call is recorded as SENT here already: this transaction is durable before the first byte
// leaves, and one commit less is a third of the cost. If the guard keeps it from leaving, that is recorded
// next.
func (r *registration) openAnalysis(ctx context.Context, tx Tx, lease time.Duration) error {
	var known Profile
	if r.person.Version > 0 {
		known = r.person.Profile
	}
	r.asked = known.asked(r.profile)
	r.analysis = &Analysis{
		ID: NewAnalysisID(), PartnerID: r.partner.ID, PersonID: r.person.ID, RegistrationID: r.id, Provider: providerQitech,
		Submission: SubmissionSent, Status: KycPending, CreatedAt: r.now, UpdatedAt: r.now,
	}
	if err := tx.InsertAnalysis(ctx, r.analysis); err != nil {
		return err
	}
	if err := tx.InsertCall(ctx, &Call{PartnerID: r.partner.ID, Provider: r.analysis.Provider, Operation: opAnalyzePerson, Reference: string(r.analysis.ID), Number: 1, StartedAt: r.now}); err != nil {
		return err
	}
	r.job = &Job{
		ID: NewJobID(), Kind: JobAnalysis, PartnerID: r.partner.ID, Subject: string(r.analysis.ID),
		RunAt: r.now.Add(lease), Leased: true, Attempt: 1, CreatedAt: r.now,
	}
	return tx.InsertJob(ctx, r.job)
}

// decideMapping is the decision table of dossier section C (rows C12–C19), after the document was
// normalised: whether the external id belongs to another document, and if not, whether it is new.
func decideMapping(existing, mappedTo *Person, externalID string) (taken, mapIt bool) {
	switch {
	case externalID == "":
		return false, false
	case mappedTo == nil:
		return false, true
	case existing == nil || mappedTo.ID != existing.ID:
		return true, false
	default:
		return false, false
	}
}

// count makes the person what this registration says on top of what was accepted before it, and gives the
// registration its outcome. a is the analysis it opened; nil for openco.
func (r *registration) count(p *Person, a *Analysis, now time.Time) {
	r.outcome = OutcomeUpdated
	if p.Version == 0 {
		r.outcome = OutcomeCreated
		p.Profile = Profile{} // what a registration that is not accepted left there does not count
	}
	p.Profile = p.merge(r.profile)
	switch {
	case a == nil:
		p.SourceKyc, p.LatestAnalysis, p.Kyc = SourceOpenco, "", KycReview{Status: KycNotRequired, Analyses: p.Kyc.Analyses}
	case a.ID > p.LatestAnalysis:
		p.SourceKyc, p.LatestAnalysis = SourceQitech, a.ID
		p.Kyc = a.review(p.Kyc.Analyses + 1)
	default:
		p.Kyc.Analyses++ // a later registration was accepted first
	}
	p.Version++
	p.UpdatedAt = now
}

// accept makes a registration count that was written before, and keeps the person's KYC up to its analysis
// when it is the newest. Afterwards r.person and r.outcome are what the store has.
func (r *registration) accept(ctx context.Context, tx Tx, a *Analysis, now time.Time) error {
	p, err := tx.PersonByID(ctx, r.partner.ID, r.person.ID)
	if err != nil {
		return err
	}
	if p == nil {
		return Errorf("kyc.accept", "registration %s has no person", r.id)
	}
	r.person = p
	if r.outcome != "" {
		if p.LatestAnalysis != a.ID {
			return nil // a newer analysis speaks for the person
		}
		p.Kyc = a.review(p.Kyc.Analyses)
		p.Version++
		p.UpdatedAt = now
		event := AuditEvent{Partner: r.partner.ID, Person: p.ID, Object: string(a.ID), Action: AuditUpdate, Fields: []string{fieldKyc}}
		if err := audit(ctx, tx, now, event); err != nil {
			return err
		}
		return tx.UpdatePerson(ctx, p)
	}
	late := a.ID < p.LatestAnalysis
	event := AuditEvent{Partner: r.partner.ID, Person: p.ID, Fields: []string{fieldKyc}}
	before := event.settle(p, func() { r.count(p, a, now) })
	if err := tx.AcceptRegistration(ctx, r.partner.ID, p.ID, r.id, r.outcome); err != nil {
		return err
	}
	if r.outcome == OutcomeCreated {
		// Not before: a person that is not accepted may go again, and their faces and processes stay.
		if err := link(ctx, tx, p, now); err != nil {
			return err
		}
	}
	if late {
		// What was received later overrides, whatever was accepted first. Reading all of it again is the exception:
		// two hundred registrations of one person at once would read twenty thousand, in the only writer there is.
		profile, certain := before.over(r.profile)
		if !certain {
			profiles, err := tx.AcceptedProfiles(ctx, r.partner.ID, p.ID, "")
			if err != nil {
				return err
			}
			profile = fold(profiles)
		}
		p.Profile = profile
		event.Fields = append(changedFields(&before, &p.Profile), fieldKyc)
	}
	if err := audit(ctx, tx, now, event); err != nil {
		return err
	}
	return tx.UpdatePerson(ctx, p)
}

// link gives a new person what was begun for their document before they were registered.
func link(ctx context.Context, tx Tx, p *Person, now time.Time) error {
	if _, err := tx.LinkFaces(ctx, p.PartnerID, p.ID, p.DocumentNumber); err != nil {
		return err
	}
	_, err := tx.LinkProcesses(ctx, p.PartnerID, p.ID, p.DocumentNumber, now)
	return err
}

// registrationOf gives the registration an analysis belongs to, as the store has it now; nil when it was
// taken back.
func registrationOf(ctx context.Context, tx Tx, a *Analysis) (*registration, error) {
	row, err := tx.Registration(ctx, a.PartnerID, a.PersonID, a.RegistrationID)
	if err != nil || row == nil {
		return nil, err
	}
	r := &registration{
		partner: Partner{ID: a.PartnerID, SourceKyc: SourceQitech}, profile: row.Profile, id: row.ID, outcome: row.Outcome,
		person: &Person{ID: a.PersonID}, analysis: a,
	}
	if row.ExternalID != nil {
		r.externalID = *row.ExternalID
	}
	return r, nil
}

// replay looks at what an idempotency key stands for. A registration that was taken back has freed its key:
// its caller was told to correct the data, and may do so under the same key.
func (r *registration) replay(ctx context.Context, tx Tx) (*UserError, error) {
	done, same, err := tx.Idempotent(ctx, r.partner.ID, r.key, r.hash(), r.now.Add(-keepIdempotencyKeys))
	if err != nil || done == nil {
		return nil, err
	}
	if done.Mutation != "registerPerson" {
		return idempotencyConflict(), errRefused
	}
	row, err := tx.Registration(ctx, r.partner.ID, done.PersonID, RegistrationID(done.ObjectID))
	if err != nil || row == nil {
		return nil, err
	}
	if !same {
		return idempotencyConflict(), errRefused
	}
	if r.person, err = tx.PersonByID(ctx, r.partner.ID, done.PersonID); err != nil {
		return nil, err
	}
	r.replayed, r.id, r.outcome = true, row.ID, row.Outcome
	if done.Analysis != "" {
		r.analysis, err = tx.Analysis(ctx, done.Analysis)
	}
	return nil, err
}

// idempotencyConflict refuses a key that stands for something else.
func idempotencyConflict() *UserError {
	return &UserError{Code: CodeIdempotencyConflict, Message: "was used with another input: use a new key", Path: []string{"input", "idempotencyKey"}}
}

// hash stands for the input of an idempotent request.
func (r *registration) hash() []byte {
	sum := sha256.Sum256(append([]byte("registerPerson\x00"), r.payload...))
	return sum[:]
}

func (r *registration) answer() *RegisterPersonPayload {
	return &RegisterPersonPayload{Person: r.person, Outcome: &r.outcome, UserErrors: []UserError{}}
}

// awaitReplay answers a repeated request as the first one is answered, if that is still under way.
func (s *Service) awaitReplay(ctx context.Context, r *registration, deadline time.Time) (*RegisterPersonPayload, error) {
	one := s.waiters.joinIfAwaited(string(r.analysis.ID))
	if one == nil {
		return s.settleFor(ctx, r)
	}
	// The step may have been recorded before we joined: then no event comes for it.
	a, err := s.Store.Analysis(ctx, r.analysis.ID)
	if err != nil || a == nil || a.Submission != SubmissionSent {
		s.waiters.leave(string(r.analysis.ID), one)
		return s.settleFor(ctx, r)
	}
	return s.awaitAnalysis(ctx, r, one, deadline)
}

// awaitAnalysis waits until the analysis has moved as far as it will within the deadline.
func (s *Service) awaitAnalysis(ctx context.Context, r *registration, one *waiter[analysisEvent], deadline time.Time) (*RegisterPersonPayload, error) {
	defer s.waiters.leave(string(r.analysis.ID), one)
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	for {
		select {
		case ev := <-one.events:
			switch {
			case ev.refusal != nil:
				return &RegisterPersonPayload{UserErrors: []UserError{providerRefusal(r.analysis.Provider, ev.refusal)}}, nil
			case ev.fault != nil:
				return nil, ev.fault
			case ev.person != nil:
				r.person, r.outcome = ev.person, ev.outcome
				return r.answer(), nil
			case ev.again.After(deadline):
				return s.settleFor(ctx, r)
			}
		case <-timer.Chan():
			return s.settleFor(ctx, r)
		case <-ctx.Done():
			// Nobody reads what we answer, so nothing is accepted by it. The work goes on and the verdict accepts.
			return nil, E(Unavailable, "kyc.register_person", ctx.Err())
		}
	}
}

// settleFor accepts the registration, so that it may be answered, and answers it as it stands. If the
// provider's refusal was first, that is the answer.
func (s *Service) settleFor(ctx context.Context, r *registration) (*RegisterPersonPayload, error) {
	var refused *Analysis
	err := s.Store.Write(ctx, func(tx Tx) error {
		a, err := tx.Analysis(ctx, r.analysis.ID)
		if err != nil {
			return err
		}
		var current *registration
		if a != nil {
			if current, err = registrationOf(ctx, tx, a); err != nil {
				return err
			}
		}
		if current == nil {
			refused = r.analysis
			return nil
		}
		if current.outcome == "" {
			err = current.accept(ctx, tx, a, s.now())
		} else {
			current.person, err = tx.PersonByID(ctx, r.partner.ID, current.person.ID)
		}
		r.person, r.outcome = current.person, current.outcome
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return &RegisterPersonPayload{UserErrors: []UserError{providerRefusal(refused.Provider, &Error{Kind: Rejected})}}, nil
	default:
		return r.answer(), nil
	}
}

// providerRefusal turns a provider's explicit refusal of the data into what the caller sees.
func providerRefusal(provider string, refusal *Error) UserError {
	path := refusal.Path
	if len(path) == 0 {
		path = []string{"input"}
	}
	return UserError{
		Code: CodeProviderRejected, Message: "the provider refused this value: correct it and register again", Path: path,
		Provider: nonEmpty(provider), ProviderCode: nonEmpty(CodeLike(refusal.Code)),
	}
}

// takeBack removes a registration that was never accepted, so that nothing of it is left: no mapping that no
// other registration brought too, no person without any registration. The ledger of calls stays.
func (r *registration) takeBack(ctx context.Context, tx Tx, now time.Time) error {
	partner, person := r.partner.ID, r.person.ID
	if err := tx.DeleteAnalysis(ctx, r.analysis.ID); err != nil {
		return err
	}
	if err := tx.DeleteRegistration(ctx, partner, person, r.id); err != nil {
		return err
	}
	left, withID, err := tx.RegistrationsLeft(ctx, partner, person, nonEmpty(r.externalID))
	if err != nil {
		return err
	}
	event := AuditEvent{Partner: partner, Person: person, Object: string(r.id), Action: AuditDelete, Fields: []string{fieldPayload}}
	if !withID && r.externalID != "" {
		event.Fields = append(event.Fields, fieldExternalIDs)
	}
	if err := audit(ctx, tx, now, event); err != nil {
		return err
	}
	switch {
	case !left:
		return tx.DeletePerson(ctx, partner, person)
	case !withID && r.externalID != "":
		return tx.UnmapExternalID(ctx, partner, r.externalID)
	default:
		return nil
	}
}

func hasPath(errs []UserError, field string) bool {
	for _, e := range errs {
		if len(e.Path) == 2 && e.Path[1] == field {
			return true
		}
	}
	return false
}
