package kyc

import (
	"context"
	"time"
)

const mutUpdateProspect = "updateProspect"

// UpdateProspectInput is what is to be corrected of a prospect (schema: UpdateProspectInput). What is left out stays.
type UpdateProspectInput struct {
	CustomerID     CustomerID
	FirstName      *Name
	MiddleName     *Name
	LastName       *Name
	SecondLastName *Name
	Phone          *PhoneNumber
	Email          *EmailAddress
	Birthdate      *Date
	Gender         *ProspectGender
	Address        *PersonalText
	Address2       *PersonalText
	City           *string
	State          *string
	ZipCode        *PersonalText
	Country        *string
	BirthState     *string
	Language       *string
	PlaceDetail    *PersonalJSON
	Latitude       *Degrees
	Longitude      *Degrees
	UserLatitude   *Degrees
	UserLongitude  *Degrees
	IdempotencyKey *string
}

// over lays the correction over what is known, as if all of it had been told at once: the result is checked as a whole.
func (in UpdateProspectInput) over(p ProspectProfile) RegisterProspectInput {
	out := RegisterProspectInput{
		FirstName: orElse(in.FirstName, p.FirstName), MiddleName: firstOf(in.MiddleName, p.MiddleName),
		LastName: orElse(in.LastName, p.LastName), SecondLastName: firstOf(in.SecondLastName, p.SecondLastName),
		Phone: orElse(in.Phone, p.Phone), Email: firstOf(in.Email, p.Email), Birthdate: firstOf(in.Birthdate, p.Birthdate), Gender: firstOf(in.Gender, p.Gender),
		Address: orElse(in.Address, p.Address), Address2: firstOf(in.Address2, p.Address2), City: orElse(in.City, p.City), State: orElse(in.State, p.State),
		ZipCode: firstOf(in.ZipCode, p.ZipCode), Country: orElse(in.Country, p.Country), BirthState: firstOf(in.BirthState, p.BirthState),
		Language: firstOf(in.Language, p.Language), PlaceDetail: in.PlaceDetail, IdempotencyKey: in.IdempotencyKey,
	}
	if out.PlaceDetail == nil && p.PlaceDetail != nil && in.Address == nil {
		known := NewPersonalJSON([]byte(p.PlaceDetail.Reveal()))
		out.PlaceDetail = &known
	}
	out.Latitude, out.Longitude = pairOver(in.Latitude, in.Longitude, p.Location, in.Address == nil)
	out.UserLatitude, out.UserLongitude = pairOver(in.UserLatitude, in.UserLongitude, p.UserLocation, true)
	return out
}

// pairOver keeps a known place unless another is told, or unless it is the place of an address that is replaced.
func pairOver(latitude, longitude *Degrees, known *Coordinates, keep bool) (*Degrees, *Degrees) {
	if latitude == nil && longitude == nil && known != nil && keep {
		return &known.Latitude, &known.Longitude
	}
	return latitude, longitude
}

func orElse[T any](v *T, otherwise T) T {
	if v != nil {
		return *v
	}
	return otherwise
}

// UpdateProspect corrects the data of a prospect that has to be corrected (nextAction CORRECT_DATA). It is stored and
// queued; how Leap takes it shows on the customer. Leap documents no way to correct data (dossier A5): see the provider.
func (s *Service) UpdateProspect(ctx context.Context, in UpdateProspectInput, received JSON) (*ProspectPayload, error) {
	partner, ok := s.partners[CallerFrom(ctx).Partner]
	if !ok {
		return nil, E(Forbidden, "kyc.update_prospect", nil)
	}
	if s.providers[providerLeap].UpdateProspect == nil {
		return &ProspectPayload{UserErrors: []UserError{{Code: CodeProviderNotConfigured, Message: prospectNotConfigured, Path: []string{"input"}, Provider: nonEmpty(providerLeap)}}}, nil
	}
	now := s.now()
	var errs []UserError
	var c *Customer
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		c, errs, err = updateProspect(ctx, tx, partner.ID, in, received, now)
		return err
	})
	switch {
	case len(errs) > 0:
		return &ProspectPayload{UserErrors: errs}, nil
	case err != nil:
		return nil, err
	}
	s.Wake(now)
	return &ProspectPayload{Customer: c, UserErrors: []UserError{}}, nil
}

// updateProspect is the whole correction as one transaction.
func updateProspect(ctx context.Context, tx Tx, partner PartnerID, in UpdateProspectInput, received JSON, now time.Time) (*Customer, []UserError, error) {
	refused := func(errs ...UserError) (*Customer, []UserError, error) { return nil, errs, errRefused }
	var c *Customer
	var err error
	if wellFormed(string(in.CustomerID), customerPrefix) {
		c, err = tx.Customer(ctx, partner, in.CustomerID)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case c == nil || c.Version == 0 || c.Provider != providerLeap:
		return refused(UserError{Code: CodeNotFound, Message: "names no prospect of yours", Path: []string{"input", "customerId"}})
	}
	known, phone, err := prospectProfile(c)
	if err != nil {
		return nil, nil, err
	}
	profile, key, errs := in.over(known).normalize(now)
	if len(errs) > 0 {
		return refused(errs...)
	}
	hash := prospectHash(mutUpdateProspect, received)
	if key != "" {
		done, same, err := tx.Idempotent(ctx, partner, key, hash, now.Add(-keepIdempotencyKeys))
		switch {
		case err != nil:
			return nil, nil, err
		case done != nil && (!same || done.Mutation != mutUpdateProspect):
			return refused(*idempotencyConflict())
		case done != nil:
			return c, nil, nil
		}
	}
	if !c.NextAction.isCorrection() || c.Status == CustomerRejected || c.Status == CustomerFailed {
		return refused(UserError{Code: CodeConflict, Message: "has no data to be corrected now: see its nextAction", Path: []string{"input", "customerId"}})
	}
	if c.Submission == SubmissionAccepted && !sameIdentity(known, profile) {
		return refused(UserError{Code: CodeInvalid, Message: "cannot be changed together with the e-mail address, nor where there is none: one of the two has to tell the provider who the person is", Path: []string{"input", "phone"}})
	}
	if errs, err = prospectTaken(ctx, tx, partner, profile, c.ID); err != nil {
		return nil, nil, err
	} else if len(errs) > 0 {
		return refused(errs...)
	}
	if err := c.correct(ctx, tx, known, profile, phone, now); err != nil || key == "" {
		return c, nil, err
	}
	return c, nil, tx.SaveIdempotent(ctx, &IdempotentAnswer{PartnerID: partner, Key: key, Mutation: mutUpdateProspect, PersonID: c.PersonID, ObjectID: string(c.ID), CreatedAt: now}, hash)
}

// sameIdentity reports whether a correction leaves the provider something to know the person by. Without it, the
// correction would make a second person there (ours).
func sameIdentity(known, corrected ProspectProfile) bool {
	if phoneLine(known.Phone) == phoneLine(corrected.Phone) {
		return true
	}
	return known.Email != nil && corrected.Email != nil && emailBox(*known.Email) == emailBox(*corrected.Email)
}

func (a *NextAction) isCorrection() bool { return a != nil && a.Kind == ActionCorrectData }

// correct takes over corrected data and sees to it that a job brings it to Leap. known is the phone Leap has.
func (c *Customer) correct(ctx context.Context, tx Tx, before, profile ProspectProfile, known PhoneNumber, now time.Time) (err error) {
	there := c.Submission == SubmissionAccepted
	if known.Reveal() == profile.Phone.Reveal() || !there {
		known = PhoneNumber{}
	}
	if c.Request, err = profile.request(known.Reveal()); err != nil {
		return err
	}
	c.Unique = profile.unique()
	c.touch(now)
	if c.Status != CustomerActive { // an account is not taken away by correcting an address
		c.Status = CustomerInProgress
	}
	c.NextAction = cipAction(ActionWait, "the corrected data is on its way to the provider: wait")
	if there {
		c.Prospect.Correction = SubmissionPlanned
		err = tx.HintJob(ctx, string(c.ID), now)
	} else {
		c.Submission, c.StatusDetail = SubmissionPlanned, nil // the first registration was refused, so this is the first again
		err = tx.InsertJob(ctx, prospectJob(c, now, now))
	}
	if err != nil {
		return err
	}
	if err := tx.UpdateCustomer(ctx, c); err != nil {
		return err
	}
	if err := audit(ctx, tx, now, c.profileEvent(AuditUpdate, &before, &profile)); err != nil || !c.Prospect.MadePerson {
		return err
	}
	p, err := tx.PersonByID(ctx, c.PartnerID, c.PersonID)
	if err != nil || p == nil || !p.DocumentNumber.Empty() {
		return err
	}
	older := p.Profile
	p.Profile, p.UpdatedAt = profile.person(), now
	p.Version++
	if names := changedFields(&older, &p.Profile); len(names) > 0 {
		if err := audit(ctx, tx, now, AuditEvent{Partner: c.PartnerID, Person: p.ID, Action: AuditUpdate, Fields: names}); err != nil {
			return err
		}
	}
	return tx.UpdatePerson(ctx, p)
}
