package kyc

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"
)

// ProspectPayload is the answer of registerProspect and updateProspect. When UserErrors is not empty, Customer is nil and
// nothing was written.
type ProspectPayload struct {
	Customer   *Customer
	UserErrors []UserError
}

const (
	providerLeap          = "leap"
	opRegisterProspect    = "register_prospect"
	opUpdateProspect      = "update_prospect"
	mutRegisterProspect   = "registerProspect"
	prospectNotConfigured = "Leap is not configured on this gateway: ask its operator"
)

// Leap validates in its background, so waiting for it brings one thing only: a refusal of the data can still be
// answered as one. It is worth a moment, and only while Leap answers within it (figures ours).
const (
	prospectPatience = time.Second
	prospectsWaiting = 32 // requests that wait at once; the next ones are answered right away
)

// courtesy says whether a request should wait for Leap at all.
type courtesy struct {
	waiting atomic.Int64
	slow    atomic.Bool // the last one who waited did so in vain, and nobody was answered since
}

func (c *courtesy) begin() bool {
	if c.slow.Load() {
		return false
	}
	if c.waiting.Add(1) > prospectsWaiting {
		c.waiting.Add(-1)
		return false
	}
	return true
}

// prospecting is one prospect on its way through RegisterProspect.
type prospecting struct {
	partner  Partner
	personID *PersonID
	profile  ProspectProfile
	key      string // idempotency key, "" without one
	payload  JSON   // as received
	now      time.Time
	waits    bool // the request waits for Leap's first word; until then nobody may see the customer

	customer *Customer
	job      *Job
	replayed bool
}

// prospectEvent is one step a prospect took. One of its fields is set.
type prospectEvent struct {
	customer *Customer  // there is a verdict: the customer as it stands now
	refusal  *UserError // the provider refused the data and the registration was taken back
	again    time.Time  // nothing is known yet; the next step comes then
}

// RegisterProspect registers a person at Leap, which validates them in its background (dossier A2). received is the
// payload to the letter, for the idempotency key.
//
// Accepted means stored and queued: everything is committed before any answer and before any call leaves, and the
// job behind it brings the prospect to its end whatever happens to this request, this process or Leap. The answer waits
// a moment for Leap's first word. A refusal of the data that comes in that moment leaves nothing; one that comes
// later keeps the customer, who then has to correct the data.
func (s *Service) RegisterProspect(ctx context.Context, in RegisterProspectInput, received JSON) (*ProspectPayload, error) {
	deadline := s.Clock.Now().Add(min(s.AnswerWithin, prospectPatience))
	partner, ok := s.partners[CallerFrom(ctx).Partner]
	if !ok {
		return nil, E(Forbidden, "kyc.register_prospect", nil)
	}
	r := &prospecting{partner: partner, personID: in.PersonID, payload: received, now: s.now()}
	var errs []UserError
	r.profile, r.key, errs = in.normalize(r.now)
	if s.providers[providerLeap].RegisterProspect == nil {
		errs = append(errs, UserError{Code: CodeProviderNotConfigured, Message: prospectNotConfigured, Path: []string{"input"}, Provider: nonEmpty(providerLeap)})
	}
	if len(errs) > 0 {
		return &ProspectPayload{UserErrors: errs}, nil
	}
	if r.waits = s.prospects.begin(); r.waits {
		defer s.prospects.waiting.Add(-1)
	}

	var one *waiter[prospectEvent]
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		errs, err = r.write(ctx, tx, s.Lease())
		if err == nil && !r.replayed && r.waits {
			// Inside, so that whoever repeats this request finds us waiting as soon as they can see it.
			one = s.prospectWaiters.join(string(r.customer.ID))
		}
		return err
	})
	if err != nil && one != nil {
		s.prospectWaiters.leave(string(r.customer.ID), one)
	}
	switch {
	case len(errs) > 0:
		return &ProspectPayload{UserErrors: errs}, nil
	case err != nil:
		return nil, err
	case r.replayed:
		return s.awaitProspectReplay(ctx, r, deadline)
	}
	s.background.Go(func() {
		// Detached: once committed, the work must not end with the caller's connection.
		work, cancel := context.WithTimeout(s.alive, s.Lease()-time.Second)
		defer cancel()
		if err := s.advanceProspect(work, r.job, r); err != nil {
			s.Logger.Error("prospect did not advance; its lease will run out and a worker goes on", "customer", r.customer.ID, "err", err)
			s.prospectWaiters.publish(string(r.customer.ID), prospectEvent{again: s.Clock.Now().Add(s.Lease())})
			s.Wake(r.job.RunAt)
		}
	})
	if one == nil {
		return &ProspectPayload{Customer: r.customer, UserErrors: []UserError{}}, nil
	}
	return s.awaitProspect(ctx, r.customer, one, deadline)
}

// write is the whole registration as one transaction.
func (r *prospecting) write(ctx context.Context, tx Tx, lease time.Duration) ([]UserError, error) {
	partner := r.partner.ID
	if r.key != "" {
		refusal, err := r.replay(ctx, tx)
		if refusal != nil {
			return []UserError{*refusal}, errRefused
		}
		if r.replayed || err != nil {
			return nil, err
		}
	}
	taken, err := prospectTaken(ctx, tx, partner, r.profile, "")
	if err != nil {
		return nil, err
	}
	if len(taken) > 0 {
		return taken, errRefused
	}
	person, refusal, err := personFor(ctx, tx, r.partner, r.personID, r.profile.person(), r.now)
	switch {
	case err != nil:
		return nil, err
	case refusal != nil:
		return []UserError{*refusal}, errRefused
	}
	request, err := r.profile.request("")
	if err != nil {
		return nil, err
	}
	cip := CipState{Status: CipUnknown, Detail: CipDetailNone}
	status, action := cip.Outcome()
	r.customer = &Customer{
		ID: NewCustomerID(), PartnerID: partner, PersonID: person.ID, Provider: providerLeap, Status: status, Cip: &cip, NextAction: action,
		Prospect: &ProspectState{MadePerson: r.personID == nil, ChangedAt: r.now}, Unique: r.profile.unique(), Request: request,
		// SENT is recorded here already: this transaction is durable before the first byte leaves, and one commit less is
		// half of the cost. If the guard keeps it from leaving, that is recorded next.
		Submission: SubmissionSent, CreatedAt: r.now, UpdatedAt: r.now, Version: 1,
	}
	if r.waits {
		r.customer.Version = 0
	}
	if err := tx.InsertCustomer(ctx, r.customer); err != nil {
		return nil, err
	}
	events := []AuditEvent{r.customer.profileEvent(AuditCreate, &ProspectProfile{}, &r.profile)}
	if r.personID == nil {
		events = append(events, AuditEvent{Partner: partner, Person: person.ID, Action: AuditCreate, Fields: changedFields(&Profile{}, &person.Profile)})
	}
	if err := audit(ctx, tx, r.now, events...); err != nil {
		return nil, err
	}
	if err := tx.InsertCall(ctx, &Call{PartnerID: partner, Provider: providerLeap, Operation: opRegisterProspect, Reference: string(r.customer.ID), Number: 1, StartedAt: r.now}); err != nil {
		return nil, err
	}
	r.job = prospectJob(r.customer, r.now.Add(lease), r.now)
	r.job.Leased, r.job.Attempt = true, 1
	if err := tx.InsertJob(ctx, r.job); err != nil || r.key == "" {
		return nil, err
	}
	return nil, tx.SaveIdempotent(ctx, &IdempotentAnswer{
		PartnerID: partner, Key: r.key, Mutation: mutRegisterProspect, PersonID: person.ID, ObjectID: string(r.customer.ID), CreatedAt: r.now,
	}, prospectHash(mutRegisterProspect, r.payload))
}

func prospectJob(c *Customer, runAt, now time.Time) *Job {
	return &Job{ID: NewJobID(), Kind: JobProspect, PartnerID: c.PartnerID, Subject: string(c.ID), RunAt: runAt, CreatedAt: now}
}

// prospectTaken says which of a profile's keys belong to another prospect of the partner than own. The transaction is
// serial, so nobody comes in between; the unique indexes hold it besides.
func prospectTaken(ctx context.Context, tx Tx, partner PartnerID, p ProspectProfile, own CustomerID) (errs []UserError, err error) {
	unique := p.unique()
	other, err := tx.CustomerByPhone(ctx, partner, providerLeap, *unique.Phone)
	if err != nil {
		return nil, err
	}
	if other != nil && other.ID != own {
		errs = append(errs, UserError{Code: CodeDuplicatePhone, Message: "belongs to another prospect of yours", Path: []string{"input", "phone"}})
	}
	if unique.Email != nil {
		if other, err = tx.CustomerByEmail(ctx, partner, providerLeap, *unique.Email); err != nil {
			return nil, err
		}
		if other != nil && other.ID != own {
			errs = append(errs, UserError{Code: CodeDuplicateEmail, Message: "belongs to another prospect of yours", Path: []string{"input", "email"}})
		}
	}
	return errs, nil
}

// prospectHash stands for the input of an idempotent request.
func prospectHash(mutation string, payload JSON) []byte {
	sum := sha256.Sum256(append([]byte(mutation+"\x00"), payload...))
	return sum[:]
}

// replay looks at what an idempotency key stands for. A registration that was taken back has freed its key.
func (r *prospecting) replay(ctx context.Context, tx Tx) (*UserError, error) {
	done, same, err := tx.Idempotent(ctx, r.partner.ID, r.key, prospectHash(mutRegisterProspect, r.payload), r.now.Add(-keepIdempotencyKeys))
	if err != nil || done == nil {
		return nil, err
	}
	if done.Mutation != mutRegisterProspect {
		return idempotencyConflict(), nil
	}
	c, err := tx.Customer(ctx, r.partner.ID, CustomerID(done.ObjectID))
	if err != nil || c == nil {
		return nil, err
	}
	if !same {
		return idempotencyConflict(), nil
	}
	r.customer, r.replayed = c, true
	return nil, nil
}

// awaitProspectReplay answers a repeated request as the first one is answered, if that is still under way.
func (s *Service) awaitProspectReplay(ctx context.Context, r *prospecting, deadline time.Time) (*ProspectPayload, error) {
	if r.customer.Version > 0 {
		return &ProspectPayload{Customer: r.customer, UserErrors: []UserError{}}, nil
	}
	one := s.prospectWaiters.joinIfAwaited(string(r.customer.ID))
	if one == nil {
		return s.settleProspect(ctx, r.customer)
	}
	// The step may have been recorded before we joined: then no event comes for it.
	c, err := s.Store.Customer(ctx, r.customer.PartnerID, r.customer.ID)
	if err != nil || c == nil || c.Submission != SubmissionSent {
		s.prospectWaiters.leave(string(r.customer.ID), one)
		return s.settleProspect(ctx, r.customer)
	}
	return s.awaitProspect(ctx, r.customer, one, deadline)
}

// awaitProspect waits until the prospect has moved as far as it will within the deadline.
func (s *Service) awaitProspect(ctx context.Context, c *Customer, one *waiter[prospectEvent], deadline time.Time) (*ProspectPayload, error) {
	defer s.prospectWaiters.leave(string(c.ID), one)
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	for {
		select {
		case ev := <-one.events:
			switch {
			case ev.refusal != nil:
				return &ProspectPayload{UserErrors: []UserError{*ev.refusal}}, nil
			case ev.customer != nil:
				return &ProspectPayload{Customer: ev.customer, UserErrors: []UserError{}}, nil
			case ev.again.After(deadline):
				s.prospects.slow.Store(true)
				return s.settleProspect(ctx, c)
			}
		case <-timer.Chan():
			s.prospects.slow.Store(true)
			return s.settleProspect(ctx, c)
		case <-ctx.Done():
			// Nobody reads what we answer, so nothing is accepted by it. The work goes on and the verdict accepts.
			return nil, E(Unavailable, "kyc.register_prospect", ctx.Err())
		}
	}
}

// settleProspect accepts the prospect, so that it may be answered, and answers it as it stands. If the provider's
// refusal was first, that is the answer.
func (s *Service) settleProspect(ctx context.Context, c *Customer) (*ProspectPayload, error) {
	var current *Customer
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		if current, err = tx.Customer(ctx, c.PartnerID, c.ID); err != nil || current == nil || current.Version > 0 {
			return err
		}
		current.Version = 1
		return tx.UpdateCustomer(ctx, current)
	})
	switch {
	case err != nil:
		return nil, err
	case current == nil:
		return &ProspectPayload{UserErrors: []UserError{providerRefusal(c.Provider, &Error{Kind: Rejected})}}, nil
	default:
		return &ProspectPayload{Customer: current, UserErrors: []UserError{}}, nil
	}
}

// takeBackProspect removes a prospect that was never accepted, so that nothing of it is left: no job, and no person who was
// made for it and has nothing else. The ledger of calls stays.
func takeBackProspect(ctx context.Context, tx Tx, c *Customer, now time.Time) error {
	if err := audit(ctx, tx, now, c.statusEvent(AuditDelete)); err != nil {
		return err
	}
	if err := tx.DeleteCustomer(ctx, c.PartnerID, c.ID); err != nil || !c.Prospect.MadePerson {
		return err
	}
	registered, _, err := tx.RegistrationsLeft(ctx, c.PartnerID, c.PersonID, nil)
	if err != nil || registered {
		return err
	}
	others, err := tx.CustomersOf(ctx, c.PartnerID, []PersonID{c.PersonID})
	if err != nil || len(others[c.PersonID]) > 0 {
		return err
	}
	if err := audit(ctx, tx, now, AuditEvent{Partner: c.PartnerID, Person: c.PersonID, Action: AuditDelete, Fields: []string{"Person.name"}}); err != nil {
		return err
	}
	return tx.DeletePerson(ctx, c.PartnerID, c.PersonID)
}
