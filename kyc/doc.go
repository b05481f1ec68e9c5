// Package kyc is what we know: the nouns of the domain, their rules, and the verbs that change them.
// It imports no other package of this module. Every adapter points here.
//
//	resolver ──┐
//	webhook  ──┤                          ┌──> Store     (package store: SQLite)
//	worker   ──┼──> Service (the verbs) ──┤
//	poller   ──┘                          └──> Provider  (package providers: the guard around an upstream)
//
// One verb, one file: register_person.go, register_customer.go, advance_analysis.go, register_face.go, receive_callback.go,
// persons.go and faces.go (reads).
//
// # Person and analysis
//
// A Person is one CPF of one partner. A registration (RegisterPerson) creates or updates it, keeps a
// snapshot, maps the external id, and, when the partner's source_kyc is qitech, opens an Analysis. All of
// that is one transaction, together with the job that brings the analysis to its end.
//
// The status of an analysis, changed in Analysis.Apply only:
//
//	           ┌───────────┐  analyst asked   ┌───────────┐
//	opened ──> │  PENDING  │ <──────────────> │ IN_REVIEW │
//	           └─────┬─────┘                  └─────┬─────┘
//	                 │ explicit yes / explicit no   │
//	           ┌─────┴──────────────────────────────┴────┐
//	           │        APPROVED    or    REJECTED       │   nothing leaves these
//	           └─────────────────────────────────────────┘
//
// A word we do not know keeps it PENDING and counts in a metric. Person.Kyc is the status of the newest
// analysis; a verdict on an older one is kept with that analysis and changes nothing else.
//
// What we know about the provider having it is Submission; see there. Its rule is that a call is recorded
// before its first byte leaves, and one whose end we did not see is looked up, never blindly repeated.
//
// # Face
//
// A FaceRegistration is one face at QI Tech, of a person or standing alone until its document gets one. It is
// SENT while the call is under way, AMBIGUOUS when no answer came, REGISTERED when it is known to be there, and
// leaves no row when it is not; see RegisterFace. Pictures ([Image]) are read within bounds and kept nowhere.
//
// # How an analysis goes on by itself
//
// Its job is born leased to the request that registered the person. If that request sees the end, the job
// is gone. If not (provider slow, down, process killed) the lease or the backoff runs out and a worker
// goes on where it stood:
//
//	PLANNED    submit
//	SENT       (found at start only) treat as AMBIGUOUS
//	AMBIGUOUS  look up; not there: submit again under the same id
//	ACCEPTED   look up until the status is final, at once when a webhook hints
//	REFUSED    done: the provider refused the data
//
// Failures are classified by Kind (see Op). None of them ever rejects a person.
//
// # Customer
//
// A Customer is a person who has an account at a provider. FinHub's is made by RegisterCustomer in one call that holds the
// password, which nothing here keeps. So a lost answer is looked up, and what is not found is the caller's to send again:
//
//	(none) ──insert, SENT──> FinHub says yes ──> visible, Version 1 ──verification, consents, activation──> ACTIVE
//	                    ├──> FinHub says no, or nothing left ──> taken back, its person too if it was made for it
//	                    └──> no answer ──> AMBIGUOUS ──look-up finds it──> visible; the next who registers the same gets it
//	                                                └──ten minutes, not there──> taken back
//
// What comes after is planned in the row and done by its one job, one call at a time; Customer.step says which.
package kyc
