package kyc

import (
	"context"
	"crypto/sha256"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SubjectInput says who a process is about (schema: SubjectInput).
type SubjectInput struct {
	PersonID       *PersonID
	DocumentNumber *DocumentNumber
	Name           *Name
	Email          *EmailAddress
	Phone          *PhoneNumber
}

// SelfieInput is a selfie, as a picture or as the provider's SDK encrypted it (schema: SelfieInput).
type SelfieInput struct {
	Image    *Base64
	SDKToken *PersonalText
}

// ProcessPayload is the answer of everything that starts or refreshes a process. When UserErrors is not empty,
// Process is nil and nothing was written.
type ProcessPayload struct {
	Process    *Process
	UserErrors []UserError
}

func refusedProcess(errs ...UserError) *ProcessPayload { return &ProcessPayload{UserErrors: errs} }

func startedProcess(p *Process) *ProcessPayload {
	return &ProcessPayload{Process: p, UserErrors: []UserError{}}
}

// processDraft is one request on its way to becoming a process.
type processDraft struct {
	mutation  string
	kind      ProcessKind
	wanted    []Capability
	subject   SubjectInput
	needsName bool
	useCase   *string
	reference *draftReference
	selfie    *SelfieInput
	files     []Base64
	purpose   DocumentPurpose
	reusable  string
	key       string // idempotency key, "" without one
	payload   JSON   // as received, captures included: hashed and forgotten

	provider Provider
	partner  Partner
	checks   checks
	capture  Capture
	document DocumentNumber // as given, normalised; empty without one
	name     Name
	email    EmailAddress
	phone    PhoneNumber
	now      time.Time

	process     *Process
	referenceID string // the provider's, of the reference
	matched     bool   // the document is that of a person the caller may see
	job         *Job
	replayed    bool
}

// draftReference is another process that this one refers to.
type draftReference struct {
	id    ProcessID
	field string // of the input
	fresh bool   // finished within a day (dossier 4.3)
}

// authProcessLasts is how long a finished process authorises a document (dossier 4.3).
const authProcessLasts = 24 * time.Hour

// maxSDKToken bounds what the SDK sends: a picture of the largest size, encrypted and encoded twice (ours).
const maxSDKToken = 2 << 20

// sdkTokenPattern is what a token of an SDK is written with. Unico's is a JWT, and what is in it is Unico's: the form is not ours to judge. A
// picture has + and / in its base64, so one in the wrong member does not leave with its metadata.
var sdkTokenPattern = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)

// useCasePattern keeps a use case a label and no text about a person: it is stored and answered in the clear.
var useCasePattern = regexp.MustCompile(`^[\p{L}][\p{L}\p{N} _.:/-]{0,63}$`)

// readSelfie checks the selfie of an input and reads it within bounds.
func (d *processDraft) readSelfie() {
	c, in := &d.checks, d.selfie
	if in == nil {
		return
	}
	image := in.Image != nil && in.Image.Reveal() != ""
	token := in.SDKToken != nil && !in.SDKToken.Empty()
	switch {
	case image && token:
		c.invalid("must hold either image or sdkToken, not both", "selfie")
	case image:
		d.capture.Image = d.image(*in.Image, "selfie", "image")
	case token:
		if s := in.SDKToken.Reveal(); len(s) > maxSDKToken || !sdkTokenPattern.MatchString(s) {
			c.add(CodeImageRejected, "must be what the provider's SDK calls encrypted, unchanged", "selfie", "sdkToken")
			return
		}
		d.capture.SDKToken = in.SDKToken
	default:
		c.required("must hold image or sdkToken", "selfie")
	}
}

// image reads one picture within the provider's limits.
func (d *processDraft) image(b Base64, path ...string) *Image {
	i, refusal := b.Image(d.provider.ProcessImages)
	if refusal != nil {
		e := UserError{Code: CodeImageRejected, Message: refusal.Message, Path: append([]string{"input"}, path...), ProviderCode: nonEmpty(string(refusal.Reason)), Retryable: false}
		d.checks.errs = append(d.checks.errs, e)
		return nil
	}
	return &i
}

// check looks at everything that can be decided without the database.
func (d *processDraft) check(s *Service, idempotencyKey *string) {
	c := &d.checks
	d.key = c.idempotencyKey(idempotencyKey)
	in := d.subject
	if in.DocumentNumber != nil && !in.DocumentNumber.Empty() {
		document, ok := ParseCPF(in.DocumentNumber.Reveal(), !s.SkipCheckDigits)
		if !ok {
			c.invalid("must be a CPF: eleven digits with right check digits", "subject", "documentNumber")
		}
		d.document = document
	}
	if in.PersonID != nil && !wellFormed(string(*in.PersonID), personPrefix) {
		c.add(CodeNotFound, "names no person of yours", "subject", "personId")
	}
	if name := c.optionalName(in.Name, "subject", "name"); name != nil {
		d.name = *name
	}
	if in.Email != nil && !in.Email.Empty() {
		if d.email = *in.Email; !validEmail(d.email.Reveal()) {
			c.invalid("must be an e-mail address", "subject", "email")
		}
	}
	if in.Phone != nil && !in.Phone.Empty() {
		var ok bool
		if d.phone, ok = ParsePhone(in.Phone.Reveal()); !ok {
			c.invalid("must be a phone number in E.164, with + and country code", "subject", "phone")
		}
	}
	if d.useCase != nil {
		useCase := strings.TrimSpace(*d.useCase)
		d.useCase = nonEmpty(useCase)
		if useCase != "" && !useCasePattern.MatchString(useCase) {
			c.invalid("must be a label of at most 64 letters, digits, blanks and _ . : / -, beginning with a letter", "useCase")
		}
	}
	d.readSelfie()
	for i, f := range d.files {
		if image := d.image(f, "files", itoa(i)); image != nil {
			d.capture.Files = append(d.capture.Files, *image)
		}
	}
	if d.reference != nil && !wellFormed(string(d.reference.id), processPrefix) {
		c.add(CodeNotFound, "names no process of yours", d.reference.field)
	}
}

// startProcess is the way of every process: refuse what is wrong, commit the process with the call that is about
// to leave, make the call, and answer what is known within the time there is.
//
// Like a registration, a process is accepted by whatever comes first: the provider's verdict or our own answer.
// A refusal of the data before that leaves nothing.
func (s *Service) startProcess(ctx context.Context, d *processDraft, idempotencyKey *string) (*ProcessPayload, error) {
	deadline := s.Clock.Now().Add(s.AnswerWithin)
	var ok bool
	if d.partner, ok = s.partners[CallerFrom(ctx).Partner]; !ok {
		return nil, E(Forbidden, "kyc.start_process", nil)
	}
	d.now = s.now()
	capabilities := d.chooseProvider(s)
	d.check(s, idempotencyKey)
	d.key = ownKey(CallerFrom(ctx), d.key)
	if len(d.checks.errs) > 0 {
		// It is refused whatever the database says; that is asked so that one answer names everything.
		if _, err := d.person(ctx, s.Store); err != nil {
			return nil, err
		}
		if _, err := d.referred(ctx, s.Store); err != nil {
			return nil, err
		}
		return s.refuseProcess(ctx, d)
	}

	var one *waiter[processEvent]
	err := s.Store.Write(ctx, func(tx Tx) error {
		if err := d.write(ctx, tx, s.Lease(), capabilities); err != nil {
			return err
		}
		if !d.replayed {
			// Inside, so that whoever repeats this request finds us waiting as soon as they can see it.
			one = s.processWaiters.join(string(d.process.ID))
		}
		return nil
	})
	switch {
	case len(d.checks.errs) > 0:
		return s.refuseProcess(ctx, d)
	case err != nil:
		if one != nil {
			s.processWaiters.leave(string(d.process.ID), one)
		}
		return nil, err
	case d.replayed:
		return s.awaitProcessReplay(ctx, d.process, deadline)
	}

	s.captures.hold(d.process.ID, d.capture, d.now)
	s.background.Go(func() {
		// Detached: once committed, the work must not end with the caller's connection.
		work, cancel := context.WithTimeout(WithPriority(s.alive, User), s.Lease()-time.Second)
		defer cancel()
		if err := s.advanceProcess(work, d.job, d); err != nil {
			s.Logger.Error("process did not advance; its lease will run out and a worker goes on", "process", d.process.ID, "err", err)
			s.processWaiters.publish(string(d.process.ID), processEvent{again: s.Clock.Now().Add(s.Lease())})
			s.Wake(d.job.RunAt)
		}
	})
	return s.awaitProcess(ctx, d.process, one, deadline)
}

// refuseProcess answers a draft that nothing came of. What is wrong with it tells whether its document is that of the person it names,
// or of anybody, so that is a look-up of a document and one of nobody is counted as such.
func (s *Service) refuseProcess(ctx context.Context, d *processDraft) (*ProcessPayload, error) {
	if !d.document.Empty() && !d.matched {
		done, err := s.guesses.begin(ctx, CallerFrom(ctx), d.document)
		if err != nil {
			return nil, err
		}
		done(false)
	}
	return refusedProcess(d.checks.errs...), nil
}

// chooseProvider finds who can do it, and as what. The first of the catalog that offers everything wanted does.
func (d *processDraft) chooseProvider(s *Service) []Capability {
	offered := false
	for _, p := range s.Providers {
		if p.CreateProcess == nil {
			continue
		}
		if !offered {
			offered, d.provider = true, p // also when it cannot do this: what is wrong with the pictures is told too
		}
		if capabilities, ok := p.ProcessCapabilities(d.kind, d.wanted); ok {
			d.provider = p
			return capabilities
		}
	}
	switch {
	case !offered:
		d.checks.add(CodeProviderNotConfigured, "no provider of processes is configured on this gateway: ask its operator")
	case len(d.wanted) > 0:
		d.checks.add(CodeProviderNotConfigured, "no key of this gateway offers these capabilities together: ask for fewer, or its operator", "capabilities")
	default:
		d.checks.add(CodeProviderNotConfigured, "no key of this gateway offers this: ask its operator")
	}
	return nil
}

// write is the whole beginning as one transaction. It adds to the checks what only the database can tell, and then
// fails, so that nothing is left.
func (d *processDraft) write(ctx context.Context, tx Tx, lease time.Duration, capabilities []Capability) error {
	d.checks.errs = nil
	if done, err := d.replay(ctx, tx); done || err != nil {
		return err
	}
	person, err := d.person(ctx, tx)
	if err != nil {
		return err
	}
	reference, err := d.referred(ctx, tx)
	if err != nil {
		return err
	}
	if len(d.checks.errs) > 0 {
		return errRefused
	}
	d.process = &Process{
		ID: NewProcessID(), PartnerID: d.partner.ID, Kind: d.kind, Capabilities: capabilities, Wanted: d.wanted, Provider: d.provider.Name,
		Submission: SubmissionSent, Status: ProcessProcessing, UseCase: d.useCase, CreatedAt: d.now, UpdatedAt: d.now,
		Request: ProcessSubject{
			DocumentNumber: d.document, Name: d.name, Email: d.email, Phone: d.phone, Purpose: d.purpose, ReusableDocumentID: d.reusable,
			Captured: !d.capture.Empty(),
		},
	}
	if person != nil {
		d.process.PersonID = &person.ID
	}
	if reference != nil {
		d.process.ReferenceID = &reference.ID
		d.referenceID = *reference.ProviderProcessID
	}
	if err := tx.InsertProcess(ctx, d.process); err != nil {
		return err
	}
	if err := audit(ctx, tx, d.now, d.process.event(AuditCreate)); err != nil {
		return err
	}
	// Recorded as SENT here already: this transaction is durable before the first byte leaves. If the guard keeps it
	// from leaving, that is recorded next.
	if err := tx.InsertCall(ctx, &Call{PartnerID: d.partner.ID, Provider: d.provider.Name, Operation: opCreateProcess, Reference: string(d.process.ID), Number: 1, StartedAt: d.now}); err != nil {
		return err
	}
	d.job = &Job{
		ID: NewJobID(), Kind: JobProcess, PartnerID: d.partner.ID, Subject: string(d.process.ID),
		RunAt: d.now.Add(lease), Leased: true, Attempt: 1, CreatedAt: d.now,
	}
	if err := tx.InsertJob(ctx, d.job); err != nil {
		return err
	}
	if d.key == "" {
		return nil
	}
	answer := &IdempotentAnswer{PartnerID: d.partner.ID, Key: d.key, Mutation: d.mutation, ObjectID: string(d.process.ID), CreatedAt: d.now}
	if person != nil {
		answer.PersonID = person.ID
	}
	return tx.SaveIdempotent(ctx, answer, d.hash())
}

// ownKey keeps the idempotency keys of a subject token apart from its partner's and from other persons': what one person's page
// sends answers, takes and tells of nothing of anybody else's. No key that is given holds a NUL.
func ownKey(c Caller, key string) string {
	if key == "" || !c.IsSubject() {
		return key
	}
	return string(c.Person) + "\x00" + key
}

// hash stands for the input of an idempotent request.
func (d *processDraft) hash() []byte {
	h := sha256.New()
	h.Write([]byte(d.mutation + "\x00"))
	h.Write(d.payload)
	return h.Sum(nil)
}

// replay looks at what an idempotency key stands for. A process that was taken back has freed its key.
func (d *processDraft) replay(ctx context.Context, tx Tx) (done bool, err error) {
	if d.key == "" {
		return false, nil
	}
	answer, same, err := tx.Idempotent(ctx, d.partner.ID, d.key, d.hash(), d.now.Add(-keepIdempotencyKeys))
	if err != nil || answer == nil {
		return false, err
	}
	conflict := func() (bool, error) {
		d.checks.errs = append(d.checks.errs, *idempotencyConflict())
		return true, errRefused
	}
	if answer.Mutation != d.mutation {
		return conflict()
	}
	p, err := tx.Process(ctx, d.partner.ID, ProcessID(answer.ObjectID))
	if err != nil || p == nil {
		return false, err
	}
	if !same || visibleProcess(CallerFrom(ctx), p) == nil && p.Version > 0 {
		return conflict()
	}
	d.process, d.replayed = p, true
	return true, nil
}

// person finds who the process is about and completes what the input leaves out.
func (d *processDraft) person(ctx context.Context, tx Reader) (*Person, error) {
	caller := CallerFrom(ctx)
	notFound := func(field string) { d.checks.add(CodeNotFound, "names no person of yours", "subject", field) }
	id := d.subject.PersonID
	if id == nil && caller.IsSubject() {
		id = &caller.Person // it can start the processes of one person only
	}
	var p *Person
	var err error
	switch {
	case id != nil && !wellFormed(string(*id), personPrefix): // said already
	case id != nil:
		if p, err = tx.PersonByID(ctx, d.partner.ID, *id); err != nil {
			return nil, err
		}
		if p = visible(caller, p); p == nil {
			notFound("personId")
			return nil, nil
		}
		switch {
		case d.document.Empty():
			d.document = p.DocumentNumber
		case p.DocumentNumber.Empty() && caller.IsSubject():
			// Their word would make the identity of whoever owns the CPF theirs (ours).
			d.checks.invalid("must not be given: the document of this person is not known", "subject", "documentNumber")
			return p, nil
		case p.DocumentNumber.Empty(): // made without one: what the partner says is checked by the provider
		case p.DocumentNumber.Reveal() != d.document.Reveal():
			d.checks.invalid("is not the document of this person", "subject", "documentNumber")
			return p, nil
		}
		d.matched = !p.DocumentNumber.Empty()
	case !d.document.Empty():
		if p, err = tx.PersonByDocument(ctx, d.partner.ID, d.document); err != nil {
			return nil, err
		}
		p = visible(caller, p)
		d.matched = p != nil
	}
	if d.document.Empty() && (d.subject.DocumentNumber == nil || d.subject.DocumentNumber.Empty()) {
		d.checks.required("must be a CPF, unless personId names a person whose CPF is known", "subject", "documentNumber")
	}
	if d.name.Empty() && p != nil {
		d.name = p.Name // also where it is not needed: the documents differ, and one that is sent does no harm (dossier 11, row 18)
	}
	if d.needsName && d.name.Empty() {
		d.checks.required("is required for this", "subject", "name")
	}
	return p, nil
}

// referred finds the process this one refers to: finished, with valid biometry, of the same person, at the same
// provider. One of another person does not exist here.
func (d *processDraft) referred(ctx context.Context, tx Reader) (*Process, error) {
	if d.reference == nil || !wellFormed(string(d.reference.id), processPrefix) {
		return nil, nil
	}
	p, err := tx.Process(ctx, d.partner.ID, d.reference.id)
	if err != nil {
		return nil, err
	}
	p = visibleProcess(CallerFrom(ctx), p)
	at := d.reference.field
	switch {
	case p == nil || !d.document.Empty() && p.Request.DocumentNumber.Reveal() != d.document.Reveal():
		d.checks.add(CodeNotFound, "names no process of this person", at)
	case p.Provider != d.provider.Name || p.ProviderProcessID == nil || p.Kind == KindDocumentCapture:
		d.checks.invalid("must name a liveness, identity or 1:1 process of the same provider", at)
	case !p.Status.Final():
		d.checks.invalid("must name a finished process: this one is still open", at)
	case !p.biometry():
		d.checks.invalid("must name a process that ended in a valid capture of this person", at)
	case d.reference.fresh && d.now.Sub(*p.FinishedAt) > authProcessLasts:
		d.checks.invalid("must name a process that finished within the last 24 hours", at)
	case d.reusable != "" && !p.allowsReuse():
		d.checks.invalid("cannot be reused under this process, which neither verified the identity nor scored 50: capture the document", "reusableDocumentId")
	case d.document.Empty(): // refused already; without it nothing may be compared
	default:
		return p, nil
	}
	return nil, nil
}

// request is what the provider is asked.
func (p *Process) request(capture Capture, referenceID string) ProcessRequest {
	r := ProcessRequest{
		ID: p.ID, Kind: p.Kind, Capabilities: p.Capabilities, Subject: p.Request, Capture: capture, ReferenceProcessID: referenceID,
	}
	if p.UseCase != nil {
		r.UseCase = *p.UseCase
	}
	return r
}

// processEvent is one step a process took. One of its fields is set.
type processEvent struct {
	process *Process   // there is a verdict, or an end: the process as it stands now
	refusal *UserError // the provider refused the data and the process was taken back
	again   time.Time  // nothing is known yet; the next step comes then
}

// awaitProcessReplay answers a repeated request as the first one is answered, if that is still under way.
func (s *Service) awaitProcessReplay(ctx context.Context, p *Process, deadline time.Time) (*ProcessPayload, error) {
	one := s.processWaiters.joinIfAwaited(string(p.ID))
	if one == nil {
		return s.settleProcessFor(ctx, p)
	}
	// The step may have been recorded before we joined: then no event comes for it.
	current, err := s.Store.Process(ctx, p.PartnerID, p.ID)
	if err != nil || current == nil || current.Submission != SubmissionSent {
		s.processWaiters.leave(string(p.ID), one)
		return s.settleProcessFor(ctx, p)
	}
	return s.awaitProcess(ctx, p, one, deadline)
}

// awaitProcess waits until the process has moved as far as it will within the deadline.
func (s *Service) awaitProcess(ctx context.Context, p *Process, one *waiter[processEvent], deadline time.Time) (*ProcessPayload, error) {
	defer s.processWaiters.leave(string(p.ID), one)
	timer := s.Clock.NewTimer(deadline.Sub(s.Clock.Now()))
	defer timer.Stop()
	for {
		select {
		case ev := <-one.events:
			switch {
			case ev.refusal != nil:
				return refusedProcess(*ev.refusal), nil
			case ev.process != nil:
				return startedProcess(ev.process), nil
			case ev.again.After(deadline):
				return s.settleProcessFor(ctx, p)
			}
		case <-timer.Chan():
			return s.settleProcessFor(ctx, p)
		case <-ctx.Done():
			// Nobody reads what we answer, so nothing is accepted by it. The work goes on and its end accepts.
			return nil, E(Unavailable, "kyc.start_process", ctx.Err())
		}
	}
}

// settleProcessFor accepts the process, so that it may be answered, and answers it as it stands. If the provider's
// refusal was first, that is the answer.
func (s *Service) settleProcessFor(ctx context.Context, p *Process) (*ProcessPayload, error) {
	var current *Process
	err := s.Store.Write(ctx, func(tx Tx) (err error) {
		if current, err = tx.Process(ctx, p.PartnerID, p.ID); err != nil || current == nil || current.Version > 0 {
			return err
		}
		current.Version = 1
		return tx.UpdateProcess(ctx, current)
	})
	switch {
	case err != nil:
		return nil, err
	case current == nil:
		return refusedProcess(processRefusal(p.Provider, &Error{Kind: Rejected})), nil
	default:
		return startedProcess(current), nil
	}
}

// processRefusal turns a provider's explicit refusal of the data into what the caller sees.
func processRefusal(provider string, refusal *Error) UserError {
	e := providerRefusal(provider, refusal)
	e.Message = "the provider refused this value: correct it and start again"
	if refusal.Message != "" {
		e.Message = refusal.Message
	}
	e.Code = orDefault(refusal.UserCode, CodeProviderRejected)
	return e
}

// visibleProcess hides a process that was never answered from everybody, and all but those of their own person from
// a subject token.
func visibleProcess(c Caller, p *Process) *Process {
	if p == nil || p.Version == 0 || c.IsSubject() && (p.PersonID == nil || *p.PersonID != c.Person) {
		return nil
	}
	return p
}

// addWanted checks the capabilities asked for: those of other mutations are not for this one.
func (d *processDraft) addWanted(capabilities []Capability) {
	for i, c := range capabilities {
		switch {
		case c == CapFaceValidation, c == CapDocumentCapture:
			d.checks.invalid("belongs to another mutation: validateFace or captureDocument", "capabilities", itoa(i))
		case !slices.Contains(d.wanted, c):
			d.wanted = append(d.wanted, c)
		}
	}
}
