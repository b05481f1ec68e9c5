package kyc

import (
	"context"
	"time"
)

// Store is what we ask of a database. Every row belongs to a partner and every look-up names the
// partner: a row of another one does not exist. Look-ups that find nothing return nil without an error.
// Failures are *Error: Unavailable when the database cannot take the request now (busy, full, closed),
// Conflict on a unique key, Internal otherwise. Their text holds no value of a row.
//
// The conformance suite is store/storetest; each MUST names its case there.
type Store interface {
	Reader

	// Write runs fn in one transaction and returns after it is durable on the device.
	//
	// It MUST leave nothing behind when fn fails or panics (WriteRollsBack), MUST report a failed commit
	// (WriteReportsCommitFailure), and writers MUST see each other's effects one after the other
	// (WriteIsSerial). fn runs on the only writer: it must not call the network or the Store itself.
	// A ctx that ends before fn starts means that fn does not run; one that ends later changes nothing.
	Write(ctx context.Context, fn func(Tx) error) error

	// Scrub makes what was deleted unreadable on the device, its log included, as far as the database can.
	Scrub(ctx context.Context) error

	// Ping reports whether the database takes writes now.
	Ping(ctx context.Context) error
}

// Reader is what can be asked. On a Store it reads what is committed; on a Tx it also sees the
// transaction's own writes.
//
// A person whose Version is 0 was never accepted: its registrations still wait for the provider's first word
// and may be taken back. Lists and counts leave such persons out, and registrations without an outcome;
// single look-ups give them, and the Service hides them.
type Reader interface {
	ExportReader

	PersonByID(ctx context.Context, partner PartnerID, id PersonID) (*Person, error)
	PersonByDocument(ctx context.Context, partner PartnerID, document DocumentNumber) (*Person, error)
	PersonByExternalID(ctx context.Context, partner PartnerID, externalID string) (*Person, error)

	// Persons lists by id, newest first, starting after Page.After; it returns at most Page.First rows and
	// whether there are more.
	Persons(ctx context.Context, partner PartnerID, filter PersonFilter, page Page) (rows []*Person, more bool, err error)
	CountPersons(ctx context.Context, partner PartnerID, filter PersonFilter) (int, error)

	// ExternalIDs gives the mappings of many persons at once, oldest first. Persons without any are absent.
	ExternalIDs(ctx context.Context, partner PartnerID, persons []PersonID) (map[PersonID][]ExternalID, error)

	// Registrations gives one page for each of many persons at once, newest first. It returns up to
	// Page.First+1 rows a person: the extra row says that there are more. Profile is left empty.
	Registrations(ctx context.Context, partner PartnerID, persons []PersonID, page Page) (map[PersonID][]*Registration, error)
	CountRegistrations(ctx context.Context, partner PartnerID, persons []PersonID) (map[PersonID]int, error)

	// Registration gives one with its Profile.
	Registration(ctx context.Context, partner PartnerID, person PersonID, id RegistrationID) (*Registration, error)

	// AcceptedProfiles gives the profiles of a person's accepted registrations, oldest first, up to and without
	// before ("" = all).
	AcceptedProfiles(ctx context.Context, partner PartnerID, person PersonID, before RegistrationID) ([]Profile, error)

	Customer(ctx context.Context, partner PartnerID, id CustomerID) (*Customer, error)
	// CustomerByEmail and CustomerByPhone look at Customer.Unique; the address is compared without case.
	CustomerByEmail(ctx context.Context, partner PartnerID, provider string, email EmailAddress) (*Customer, error)
	CustomerByPhone(ctx context.Context, partner PartnerID, provider string, phone PhoneNumber) (*Customer, error)
	// CustomersOf gives the accepted customers of many persons at once, oldest first. Persons without any are absent.
	CustomersOf(ctx context.Context, partner PartnerID, persons []PersonID) (map[PersonID][]*Customer, error)
	// FaceByID gives a face in any state; FaceByKey one by the provider's key.
	FaceByID(ctx context.Context, partner PartnerID, id FaceID) (*FaceRegistration, error)
	FaceByKey(ctx context.Context, partner PartnerID, provider, key string) (*FaceRegistration, error)
	// FaceByDocument gives the newest registered face of a document.
	FaceByDocument(ctx context.Context, partner PartnerID, document DocumentNumber) (*FaceRegistration, error)
	// OpenFaces gives those of a document that are not known to be registered, oldest first.
	OpenFaces(ctx context.Context, partner PartnerID, document DocumentNumber) ([]*FaceRegistration, error)
	// FacesOf gives the newest registered faces of many persons at once, at most that many each, oldest first.
	FacesOf(ctx context.Context, partner PartnerID, persons []PersonID, most int) (map[PersonID][]*FaceRegistration, error)
	// FaceKeyKnown tells whether any partner has a face of this key, and nothing of whose it is.
	FaceKeyKnown(ctx context.Context, provider, key string) (bool, error)

	// Erasure gives the tombstone of an erased person; Erasures those of all partners, oldest first.
	Erasure(ctx context.Context, partner PartnerID, id PersonID) (*Erasure, error)
	Erasures(ctx context.Context) ([]*Erasure, error)

	// AuditRecords gives one page of the audit log for each of many persons at once, newest first, with up to
	// Page.First+1 records a person. Page.After is the number of a record.
	AuditRecords(ctx context.Context, partner PartnerID, persons []PersonID, page Page) (map[PersonID][]*AuditRecord, error)
	CountAuditRecords(ctx context.Context, partner PartnerID, persons []PersonID) (map[PersonID]int, error)

	// JobBacklog tells for each kind with due, unleased jobs how many there are and since when.
	JobBacklog(ctx context.Context, now time.Time) ([]JobBacklog, error)

	// DeadJobs lists a partner's buried jobs by id, newest first, starting after Page.After; it returns at most Page.First rows
	// and whether there are more.
	DeadJobs(ctx context.Context, partner PartnerID, page Page) (rows []*DeadJob, more bool, err error)
	CountDeadJobs(ctx context.Context, partner PartnerID) (int, error)

	// Calls gives the ledger of each of many references, in the order the calls were made. References without any are absent.
	Calls(ctx context.Context, partner PartnerID, references []string) (map[string][]Call, error)

	// Process gives one. A process whose Version is 0 waits for its caller's answer, like a person: lists and counts
	// leave it out and the Service hides it.
	Process(ctx context.Context, partner PartnerID, id ProcessID) (*Process, error)
	// ProcessByProviderID looks up by the provider's own id: it is asked by verified callbacks, never by a caller.
	ProcessByProviderID(ctx context.Context, provider, id string) (*Process, error)
	// ProcessesByID gives many at once; what is not there is absent.
	ProcessesByID(ctx context.Context, partner PartnerID, ids []ProcessID) (map[ProcessID]*Process, error)
	// Processes lists by id, newest first, like Persons.
	Processes(ctx context.Context, partner PartnerID, filter ProcessFilter, page Page) (rows []*Process, more bool, err error)
	CountProcesses(ctx context.Context, partner PartnerID, filter ProcessFilter) (int, error)
	// ProcessesOf gives one page for each of many persons at once, newest first, of one kind ("" = all). It returns up to
	// Page.First+1 rows a person, like Registrations.
	ProcessesOf(ctx context.Context, partner PartnerID, persons []PersonID, kind ProcessKind, page Page) (map[PersonID][]*Process, error)
	CountProcessesOf(ctx context.Context, partner PartnerID, persons []PersonID, kind ProcessKind) (map[PersonID]int, error)
	// OpenProcesses counts what no final status ended, over all partners.
	OpenProcesses(ctx context.Context) ([]OpenProcesses, error)

	// PersonsByID gives many at once; who is not there is absent.
	PersonsByID(ctx context.Context, partner PartnerID, ids []PersonID) (map[PersonID]*Person, error)
	// OldPersons and OldRegistrations name some of those last changed, or received, before a time, of all partners. The newest
	// accepted registration of a person is never old.
	OldPersons(ctx context.Context, before time.Time, limit int) ([]OldRow, error)
	OldRegistrations(ctx context.Context, before time.Time, limit int) ([]OldRow, error)
	// OldFaces names some registered faces that stand alone and were last changed before a time.
	OldFaces(ctx context.Context, before time.Time, limit int) ([]OldRow, error)
	// OldProcesses names some finished processes of nobody that were last changed before a time.
	OldProcesses(ctx context.Context, before time.Time, limit int) ([]OldRow, error)

	// Onboardings gives what is kept of many persons at once; who has none is absent.
	Onboardings(ctx context.Context, partner PartnerID, persons []PersonID) (map[PersonID]*KeptOnboarding, error)
	// OnboardingFacts gives all facts of a person but those that were not accepted yet; Person is nil when there is none, or was not
	// accepted yet. Require is left empty.
	OnboardingFacts(ctx context.Context, partner PartnerID, person PersonID) (OnboardingFacts, error)
	// StaleOnboardings names persons after one, in the order of their ids, whose onboarding was not judged by this list, or not at all.
	StaleOnboardings(ctx context.Context, partner PartnerID, require []StepKind, after PersonID, limit int) ([]PersonID, error)

	// EventsSince gives up to limit versions of a subject after one, in their order, and the number of its newest; 0 is a subject
	// that does not exist. Whoever is told of a newer one finds all up to it. The events MUST commit with what they tell of
	// (EventsCommitTogether), and the versions of a subject MUST have no gap (EventsHaveNoGap).
	EventsSince(ctx context.Context, partner PartnerID, subject string, version, limit int) (events []Event, newest int, err error)

	// Analysis looks up by id alone: it is asked by our own jobs and by verified callbacks, never by a caller.
	Analysis(ctx context.Context, id AnalysisID) (*Analysis, error)
}

// Tx is one transaction.
type Tx interface {
	Reader

	// InsertPerson fails with Conflict when the partner has the document already.
	InsertPerson(ctx context.Context, p *Person) error
	// UpdatePerson overwrites everything but id, partner and creation time. A person keeps their document: another one fails with
	// Internal.
	UpdatePerson(ctx context.Context, p *Person) error
	// DeletePerson removes the person with external ids, registrations and analyses, and the key their personal data was encrypted
	// with. Calls stay: they are the ledger of what was sent and paid for, and hold no personal data.
	DeletePerson(ctx context.Context, partner PartnerID, id PersonID) error

	// ErasePerson removes all there is of a person, their key and their jobs first among it, and leaves a tombstone. The person need
	// not be there. Calls that are under way end AMBIGUOUS.
	ErasePerson(ctx context.Context, partner PartnerID, id PersonID, reason ErasureReason, at time.Time) (*Erasure, error)

	// MapExternalID fails with Conflict when the partner has mapped it already.
	MapExternalID(ctx context.Context, partner PartnerID, person PersonID, e ExternalID) error
	UnmapExternalID(ctx context.Context, partner PartnerID, externalID string) error

	InsertRegistration(ctx context.Context, r *Registration) error
	// AcceptRegistration gives a registration its outcome, which is what makes it count.
	AcceptRegistration(ctx context.Context, partner PartnerID, person PersonID, id RegistrationID, outcome RegistrationOutcome) error
	DeleteRegistration(ctx context.Context, partner PartnerID, person PersonID, id RegistrationID) error
	// NextAccepted gives the first accepted registration of a person after another one, with its Profile; nil when there is none.
	NextAccepted(ctx context.Context, partner PartnerID, person PersonID, after RegistrationID) (*Registration, error)
	// ReplaceProfile changes the Profile of a registration and nothing else of it.
	ReplaceProfile(ctx context.Context, r *Registration) error
	// RegistrationsLeft tells whether a person has any registration at all, accepted or not, and any with this
	// external id.
	RegistrationsLeft(ctx context.Context, partner PartnerID, person PersonID, externalID *string) (any, withID bool, err error)

	InsertAnalysis(ctx context.Context, a *Analysis) error
	UpdateAnalysis(ctx context.Context, a *Analysis) error
	DeleteAnalysis(ctx context.Context, id AnalysisID) error

	// InsertCustomer fails with Conflict when another customer of the partner at the provider has one of Unique.
	InsertCustomer(ctx context.Context, c *Customer) error
	// UpdateCustomer overwrites everything but ids, provider, person and creation time. It fails with Conflict as
	// InsertCustomer does.
	UpdateCustomer(ctx context.Context, c *Customer) error
	DeleteCustomer(ctx context.Context, partner PartnerID, id CustomerID) error
	InsertProcess(ctx context.Context, p *Process) error
	// UpdateProcess overwrites what may change: submission, status, result, failure, the provider's id, times and version.
	UpdateProcess(ctx context.Context, p *Process) error
	// DeleteProcess removes it, and the key its personal data was encrypted with if that was its own.
	DeleteProcess(ctx context.Context, partner PartnerID, id ProcessID) error

	// KeepEarlyCallback remembers that a verified webhook named something of a provider's that is not known yet: it may be what a
	// call under way is about to be answered. TakeEarlyCallback tells whether there was one, and forgets it.
	KeepEarlyCallback(ctx context.Context, provider, reference string, at time.Time) error
	TakeEarlyCallback(ctx context.Context, provider, reference string) (bool, error)

	// InsertFace fails with Conflict when the partner has the provider's key already.
	InsertFace(ctx context.Context, f *FaceRegistration) error
	// UpdateFace overwrites state, registration key, time and what is known of the call.
	UpdateFace(ctx context.Context, f *FaceRegistration) error
	DeleteFace(ctx context.Context, partner PartnerID, id FaceID) error
	// LinkFaces gives the faces of a document that stand alone to the person of it, their encryption included (FacesLink).
	LinkFaces(ctx context.Context, partner PartnerID, person PersonID, document DocumentNumber) (int, error)
	// LinkProcesses does the same for processes (ProcessesLink). Their version grows, because whose they are shows.
	LinkProcesses(ctx context.Context, partner PartnerID, person PersonID, document DocumentNumber, at time.Time) (int, error)

	// Idempotent gives what a key stands for, or nil when it is free or older than keepSince, and whether the request behind it was
	// the same one. Neither key nor request is kept readable.
	Idempotent(ctx context.Context, partner PartnerID, key string, requestHash []byte, keepSince time.Time) (answer *IdempotentAnswer, same bool, err error)
	// SaveIdempotent replaces an outdated row of the same key.
	SaveIdempotent(ctx context.Context, a *IdempotentAnswer, requestHash []byte) error
	DeleteIdempotent(ctx context.Context, partner PartnerID, key string) error

	// InsertCall records that a call is about to leave; it is committed before the first byte.
	InsertCall(ctx context.Context, c *Call) error
	// EndCall records what became of the newest call without outcome of this reference and operation.
	EndCall(ctx context.Context, reference string, operation string, outcome CallOutcome, code string, at time.Time) error

	// InsertCallback stores a verified webhook; fresh is false when the same delivery is stored already.
	InsertCallback(ctx context.Context, c *StoredCallback) (fresh bool, err error)

	// DeleteOld deletes what is older, of all partners, and tells how much that was.
	DeleteOld(ctx context.Context, what OldKind, before time.Time) (int, error)

	// Audit adds records to the audit log, in this transaction: they are durable with the rest of it or not at all.
	// It is the last thing the transaction does, so the transaction itself does not see them.
	Audit(ctx context.Context, records ...*AuditRecord) error

	// SaveOnboarding replaces what is kept of a person. Only Onboardings calls it, at the end of a transaction that has changed a fact:
	// what state a person is in MUST commit with the facts (OnboardingsCommitTogether).
	SaveOnboarding(ctx context.Context, k *KeptOnboarding) error
	// TouchPerson has a person judged again although no fact has changed.
	TouchPerson(ctx context.Context, partner PartnerID, person PersonID, at time.Time) error

	JobQueue
}

// JobQueue is the jobs table. RunAt is the due time and, while leased, the end of the lease; Attempt is
// the fencing token: who finishes with an older one changes nothing.
type JobQueue interface {
	InsertJob(ctx context.Context, j *Job) error
	// ClaimJobs leases up to limit due jobs until leaseEnd, the longest due first, adding one to Attempt and
	// clearing Hinted in the table: on the jobs it gives, Hinted says that a hint made it due. A job whose lease has run out is
	// due again.
	ClaimJobs(ctx context.Context, now, leaseEnd time.Time, limit int) ([]*Job, error)
	// NextDue tells when the next job is due, leases included; ok is false when there is none.
	NextDue(ctx context.Context) (at time.Time, ok bool, err error)
	// FinishJob deletes the job; ok is false when this lease was lost.
	FinishJob(ctx context.Context, id JobID, attempt int) (ok bool, err error)
	// ReleaseJob ends the lease and makes the job due at at, or at now when a hint came meanwhile. failures is
	// stored as given; due is when it will be due.
	ReleaseJob(ctx context.Context, id JobID, attempt int, at, now time.Time, failures int) (due time.Time, ok bool, err error)
	// BuryJob keeps the job and does not run it again before the next start, which is when an operator has
	// changed something.
	BuryJob(ctx context.Context, id JobID, attempt int, reason string, at time.Time) (ok bool, err error)
	// ReviveJob makes a partner's buried job due now, with no failures, and gives it as it was; nil when there is none.
	ReviveJob(ctx context.Context, partner PartnerID, id JobID, now time.Time) (*DeadJob, error)
	// HintJob makes the job of a subject due now, or, when it is leased, as soon as it is released.
	HintJob(ctx context.Context, subject string, now time.Time) error
	// DeleteJob removes the job of a subject whoever holds it.
	DeleteJob(ctx context.Context, subject string) error
}

// Job is a piece of work that goes on by itself. It carries ids, never personal data.
type Job struct {
	ID        JobID
	Kind      JobKind
	PartnerID PartnerID
	Subject   string // e.g. the AnalysisID
	RunAt     time.Time
	Leased    bool
	Hinted    bool
	Attempt   int // fencing token, grows with every claim
	Failures  int // failed or empty-handed runs in a row, for the backoff; of an analysis see faultUnit
	CreatedAt time.Time
}

// failuresAfter counts a run that ended with err, or empty-handed when err is nil. A call that our own guard kept from
// leaving tells nothing of the provider: counted, a minute of an open breaker would make the first real failure afterwards
// the thirtieth, and its pause the longest there is. MUST: TestRefusedCallsDoNotGrowTheBackoff.
func (j *Job) failuresAfter(err error) int {
	if err != nil && KindOf(err) == Refused {
		return j.Failures
	}
	return j.Failures + 1
}

// JobKind names what a job does; it is a metric label.
type JobKind string

// The kinds.
const (
	// JobAnalysis brings one analysis to its end: submit, look up, poll.
	JobAnalysis JobKind = "person_analysis"
	// JobProspect registers one person at Leap and follows them: submit, look up, correct, poll.
	JobProspect JobKind = "prospect"
	// JobProcess brings one process to its end: create, poll.
	JobProcess JobKind = "process"
	// JobFace looks up one face registration whose call ended without an answer.
	JobFace JobKind = "face_registration"
	// JobCustomer brings a FinHub customer on: look-up, verification, consents, activation.
	JobCustomer JobKind = "customer"
	// JobRetention removes what is too old. There is one.
	JobRetention JobKind = "retention"
)

// JobKinds lists all kinds, for metrics that exist from the first scrape.
func JobKinds() []JobKind {
	return []JobKind{JobAnalysis, JobProcess, JobFace, JobCustomer, JobProspect, JobRetention}
}

// JobBacklog is the due work of one kind.
type JobBacklog struct {
	Kind   JobKind
	Due    int
	Oldest time.Time
}

// Call is one recorded attempt at an upstream: the ledger of what was sent and may be billed.
type Call struct {
	PartnerID PartnerID
	Provider  string
	Operation string
	Reference string // our id at the upstream, e.g. the AnalysisID
	Number    int    // 1 for the first attempt
	StartedAt time.Time

	// What became of it; not set by InsertCall.
	Outcome CallOutcome // "" while it is under way
	Code    string
	EndedAt *time.Time
}

// CallOutcome is what became of a recorded call.
type CallOutcome string

// The outcomes. A call without one that no process holds any more is AMBIGUOUS.
const (
	CallSucceeded   CallOutcome = "SUCCEEDED"
	CallRejected    CallOutcome = "REJECTED"
	CallUnavailable CallOutcome = "UNAVAILABLE" // it never left
	CallAmbiguous   CallOutcome = "AMBIGUOUS"
)

// IdempotentAnswer is what an idempotency key stands for.
type IdempotentAnswer struct {
	PartnerID PartnerID
	Key       string
	Mutation  string
	PersonID  PersonID   // "" when it is about nobody known
	ObjectID  string     // what the request made: a registration, a process, a face, a customer
	Analysis  AnalysisID // "" when none was opened
	CreatedAt time.Time
}

// StoredCallback is a verified webhook as it is kept. Its body is encrypted with the data of its owner: a person, or an object
// whose person is not known.
type StoredCallback struct {
	PartnerID  PartnerID
	Owner      string
	Provider   string
	DedupeKey  string
	Reference  string
	Body       []byte
	ReceivedAt time.Time
}

// PersonFilter narrows a list of persons.
type PersonFilter struct {
	KycStatus       *KycStatus
	OnboardingState *OnboardingState
	CreatedAfter    *time.Time
	CreatedBefore   *time.Time
}

// ProcessFilter narrows a list of processes.
type ProcessFilter struct {
	Kind          *ProcessKind
	Status        *ProcessStatus
	Provider      *string
	CreatedAfter  *time.Time
	CreatedBefore *time.Time
}

// OpenProcesses counts the open processes of one kind and status at one provider.
type OpenProcesses struct {
	Provider string
	Kind     ProcessKind
	Status   ProcessStatus
	Count    int
}

// Page asks for First rows after the row whose id is After ("" = from the start).
type Page struct {
	First int
	After string
}
