// Package kyc is what we know: the nouns of the domain, their rules, and the verbs that change them.
// It imports no other package of this module. Every adapter points here.
//
//	resolver ──┐
//	webhook  ──┤                          ┌──> Store     (package store: SQLite)
//	worker   ──┼──> Service (the verbs) ──┤
//	poller   ──┘                          └──> Provider  (package providers: the guard around an upstream)
//
// One verb, one file: register_person.go, register_customer.go, advance_analysis.go, register_face.go, receive_callback.go,
// persons.go, faces.go and processes.go (reads).
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
// # Process
//
// A Process is one biometric or document check (check_liveness.go, verify_identity.go, validate_face.go,
// capture_document.go, all through start_process.go). It is written with the call that is about to leave and the job that
// owns both, and goes on by itself (advance_process.go). A creation, a poll, a webhook's fetch and refreshProcess all
// change it through settle_process.go. The status, changed in Process.Apply only; the number is Unico's:
//
//	         ┌──────────────┐  the score takes longer  ┌─────────────┐
//	begun ─> │ PROCESSING 1 │ ───────────────────────> │ DIVERGENT 2 │
//	         └──────┬───────┘                          └──────┬──────┘
//	                └──────────────────┬──────────────────────┘
//	         ┌─────────────┬───────────┴─┬────────────┐
//	         │ COMPLETED 3 │ CANCELED 4  │  FAILED 5  │   nothing leaves these
//	         └─────────────┴─────────────┴────────────┘
//
// A result stands with COMPLETED only, a failure with the other two. An unknown word leaves it where it is.
//
// A creation has no look-up and is never repeated blindly: PLANNED is sent again while its capture lives in memory,
// SENT and AMBIGUOUS never are and end FAILED, ACCEPTED is polled. An explicit processing error of a picture is tried
// again three times. A capture is held in memory for as long as it is valid and nowhere else (captures.go).
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
// # Prospects
//
// A prospect is a person as Leap's customer. Leap validates in its background (CIP) and tells by look-up only, so a
// prospect's job does not end with the registration: it goes on looking, dense at first and rare later, until an explicit
// no. Phone and e-mail address are unique among a partner's prospects; that and Leap's own uniqueness are what makes
// registering again safe after a look-up found nobody.
//
//	PLANNED    register
//	SENT       (found at start only) treat as AMBIGUOUS
//	AMBIGUOUS  look up by phone and by e-mail; both lead to one user: linked; nobody: register again;
//	           anything else: somebody else's, refused
//	ACCEPTED   a correction is PLANNED: send it; else look, also after Completed
//	REFUSED    done, until updateProspect corrects the data
//
// What Leap's status and detail mean for Customer.status (A ACTIVE, R REJECTED, ! ACTION_REQUIRED, I IN_PROGRESS, P PENDING)
// and nextAction (d CORRECT_DATA, c CAPTURE_DOCUMENT, t ACCEPT_TERMS, w WAIT, s CONTACT_SUPPORT, - none). The table is
// ours: Leap defines none of its words (dossier A4). It is CipState.Outcome, and nothing else decides a status:
//
//	                             None  Invalid  Invalid  Unread-  Provide-  Invalid-  Otp-     Otp-      Compli-  Compliance-  Ofac-   any
//	                             or -  Address  EMail    ableDoc  Addit.I.  Pers.Data Privacy  Contract  ance     Blocked      Failed  other
//	Completed                    A -   A d      A d      A c      A d       A d       A t      A t       A w      R s          R s     I w
//	UpgradePending               P w   ! d      ! d      ! c      ! d       ! d       ! t      ! t       I w      R s          R s     P w
//	UpgradeInProgress            I w   ! d      ! d      ! c      ! d       ! d       ! t      ! t       I w      R s          R s     I w
//	AccountUpgradeInProgress     I w   ! d      ! d      ! c      ! d       ! d       ! t      ! t       I w      R s          R s     I w
//	UpgradeSoftFailed            ! d   ! d      ! d      ! c      ! d       ! d       ! t      ! t       I w      R s          R s     ! s
//	UpgradeFailed                R s   R s      R s      R s      R s       R s       R s      R s       R s      R s          R s     R s
//	OnProcess, any other, none   P w   ! d      ! d      ! c      ! d       ! d       ! t      ! t       I w      R s          R s     P w
//
// Only Completed makes ACTIVE, and only UpgradeFailed, ComplianceBlocked and OfacFailed reject. A word we do not know is
// UNKNOWN, stays open and is counted; the word itself is kept. A prospect of which nothing is heard for longer than the
// horizon (stuck_after) gets cip.stuckSince and CONTACT_SUPPORT, is kept, and is looked at once a day.
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
