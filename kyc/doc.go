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
// leaves no row when it is not; see RegisterFace. A call that timed out, or that a dead process made, is held: look-ups that see
// nothing do not end it before Cadence.HoldAmbiguous has passed. A face that the provider calls a fraud, in its answer or in a
// look-up, is an explicit no and never REGISTERED. Pictures ([Image]) are read within bounds and kept nowhere.
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
// A result stands with COMPLETED only, a failure with the other two. An unknown word leaves it where it is. A 3 that comes
// at once without the word on fraud its caller asked for stays open for three looks: one generation sends it by look-up only.
//
// A creation has no look-up and is never repeated blindly: PLANNED is sent again while its capture lives in memory,
// SENT and AMBIGUOUS never are and end FAILED, ACCEPTED is polled. An explicit processing error of a picture is tried
// again three times. An id that is another process's is no answer: such a creation is AMBIGUOUS. A capture is held in memory for as long as it is valid and nowhere else (captures.go).
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
// Failures are classified by Kind (see Op). None of them ever rejects a person. A provider that does not understand the
// submission or the look-up five times in a row makes the job a dead letter, as it does with a prospect's.
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
// horizon (stuck_after) gets cip.stuckSince and CONTACT_SUPPORT, is kept, and is looked at once a day; so does one whose job is
// dead, which nothing looks at until an operator runs it again.
//
// All partners share one Leap: a user a look-up finds whom another partner has as another person is not linked but refused.
//
// # Customer
//
// A Customer is a person who has an account at a provider. FinHub's is made by RegisterCustomer in one call that holds the
// password, which nothing here keeps. So a lost answer is looked up, and what is not found is the caller's to send again:
//
//	(none) ──insert, SENT──> FinHub says yes ──> visible, Version 1 ──verification, consents, activation──> ACTIVE
//	                    ├──> FinHub says no, or nothing left ──> taken back, its person too if it was made for it
//	                    └──> no answer ──> AMBIGUOUS ──look-up finds it, nothing disagrees──> visible; who registers the same gets it
//	                                                ├──look-up finds somebody else──> taken back: a duplicate
//	                                                ├──FinHub says it is not there──> sent again when its caller comes; taken back after ten minutes
//	                                                └──look-ups show nothing──> may be sent again after ten minutes, ten seconds where there are none; taken back after a week
//
// A look-up that shows nothing is no "not there" (FinHub documents none). A repeat that is refused as a duplicate while nothing shows of
// what is Contested: it is not sent again, its caller is not told that the account is another's, and an operator must look.
//
// What comes after is planned in the row and done by its one job, one call at a time; Customer.step says which.
//
// # Onboarding
//
// Where a person is on the way to being approved, put together of all facts by Evaluate. Each fact gives an answer to a step; of those
// to one step the newest explicit one counts, PASSED or FAILED, whatever came later and was neither. Newer is the fact that was born
// later, so the order in which answers come makes no difference. One no is about the person and not about a try, and stands: that of
// a sanctions list or the compliance team. An answer that is not explicit counts where there is no explicit one;
// after a no also an attempt that is under way. What nobody was answered about yet (version 0, a face SENT) counts for nothing.
//
//	step             fact                               says                                            the step is
//	PERSON           the person                         kyc APPROVED                                    PASSED
//	                 (their newest analysis only)       kyc NOT_REQUIRED, with a document               PASSED
//	                                                    kyc NOT_REQUIRED, without                       MISSING
//	                                                    kyc REJECTED                                    FAILED
//	                                                    kyc IN_REVIEW                                   IN_REVIEW
//	                                                    kyc PENDING, never asked about                  MISSING
//	                                                    kyc PENDING, data refused                       ACTION_REQUIRED  CORRECT_DATA
//	                                                    kyc PENDING, and any other word                 PENDING
//	FACE             a face                             REGISTERED                                      PASSED
//	                                                    AMBIGUOUS, and any other word                   PENDING
//	LIVENESS         a process with that capability     LIVE; or identity YES and no word on it         PASSED
//	                                                    NOT_LIVE                                        FAILED
//	IDENTITY         a process with that capability     YES                                             PASSED
//	                                                    NO; fraud YES whatever the identity             FAILED
//	                                                    YES and a fraud answer we do not know           IN_REVIEW
//	                                                    YES and the fraud asked for was not told        IN_REVIEW
//	                                                    YES and a decision that is not an approval      IN_REVIEW
//	                                                    YES and NOT_LIVE                                ACTION_REQUIRED  NEW_CAPTURE
//	FACE_VALIDATION  a process with that capability     authenticated                                   PASSED
//	                                                    not authenticated                               FAILED
//	                                                    authenticated and fraud, or one we do not know  IN_REVIEW
//	                                                    authenticated and NOT_LIVE                      ACTION_REQUIRED  NEW_CAPTURE
//	DOCUMENT         a process with that capability     cpfMatch, and not another's face                PASSED
//	                                                    not cpfMatch, or another's face                 FAILED
//	                                                    a document, no word on cpfMatch                 IN_REVIEW
//	                                                    cpfMatch, and nobody can read whose face        IN_REVIEW
//	                                                    no document                                     ACTION_REQUIRED  CAPTURE_DOCUMENT
//	all four         such a process                     COMPLETED without a word on it, INCONCLUSIVE    ACTION_REQUIRED  NEW_CAPTURE
//	                                                    FAILED, CANCELED                                ACTION_REQUIRED  the failure's
//	                                                    PROCESSING, DIVERGENT, and any other word       PENDING
//	CIP              a customer of Leap                 ACTIVE                                          PASSED
//	CUSTOMER         a customer of another provider     REJECTED                                        FAILED
//	                                                    REJECTED for OFAC or by compliance              FAILED, whatever is newer
//	                                                    FAILED, which is technical                      ACTION_REQUIRED  RETRY
//	                                                    ACTION_REQUIRED, PENDING_ACTIVATION             ACTION_REQUIRED  the customer's
//	                                                    the same, and all there is to do is to wait     PENDING
//	                                                    COMPLIANCE is looking at it                     IN_REVIEW
//	                                                    PENDING, IN_PROGRESS, and any other word        PENDING
//	every step       no fact                                                                            MISSING
//
// A risk score decides nothing: what it is worth is for the partner to say. The steps the partner requires (PERSON when it names none)
// make the state, and the first line that holds does:
//
//	REJECTED         one has FAILED                                          next: CONTACT_SUPPORT
//	APPROVED         all have PASSED                                         next: nothing
//	NOT_STARTED      all are MISSING                                         next: what begins the first
//	ACTION_REQUIRED  one is ACTION_REQUIRED                                  next: the action of the first such step
//	IN_REVIEW        the rest has PASSED, and one is IN_REVIEW               next: WAIT
//	IN_PROGRESS      anything else                                           next: what begins the first that is MISSING, unless one that begins
//	                                                                         in the same way is still being checked; WAIT when there is none
//
// Every transaction that changes a fact judges its person before it commits (Onboardings.Changed, called by the Store for whoever was
// touched) and, when state, steps or next action are not what they were, makes a new version. Versions are events: onboardingUpdated
// gives each of them as it was.
package kyc
