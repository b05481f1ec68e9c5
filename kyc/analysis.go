package kyc

import "time"

// Analysis is one question to a KYC provider about one person: may we do business with them? A
// registration opens a new one each time (dossier C28).
type Analysis struct {
	ID             AnalysisID // our `id` at the provider, unique there: a repeat answers 409, never a second analysis
	PartnerID      PartnerID
	PersonID       PersonID
	RegistrationID RegistrationID // whose profile is asked about
	Provider       string
	Submission     Submission
	Status         KycStatus
	ProviderStatus string // the provider's word, code-like
	ProviderKey    string // the provider's own key of it
	Reason         string // code-like
	DecidedBy      *DecidedBy
	DecidedAt      *time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Submission is what we know about whether the provider has the analysis.
//
//	PLANNED ──first byte──> SENT ──answer──────────────> ACCEPTED
//	   ^                     │ └──no answer, crash────> AMBIGUOUS ──look-up finds it──> ACCEPTED
//	   └──it never left──────┘                             └──look-up: not there──> SENT again, same id
//	                                                        any ──explicit 4xx──> REFUSED
type Submission string

// The submissions. SENT is committed before the first byte leaves; a SENT found at start is AMBIGUOUS.
const (
	SubmissionPlanned   Submission = "PLANNED"
	SubmissionSent      Submission = "SENT"
	SubmissionAmbiguous Submission = "AMBIGUOUS"
	SubmissionAccepted  Submission = "ACCEPTED"
	SubmissionRefused   Submission = "REFUSED"
)

// Verdict is what a provider says about an analysis now.
type Verdict struct {
	Status         KycStatus
	Known          bool // false: the provider used a word we do not know; Status is then PENDING
	ProviderStatus string
	ProviderKey    string
	Reason         string
	DecidedBy      *DecidedBy
}

// Apply is the one place an analysis changes its status; it reports whether anything changed. Nothing
// leaves APPROVED or REJECTED: a late, repeated or reordered verdict is a no-op. Among open statuses
// the newest word counts.
// MUST: TestApplyNeverLeavesAFinalStatus.
func (a *Analysis) Apply(v Verdict, now time.Time) bool {
	if a.Status.Final() {
		return false
	}
	before := *a
	a.Submission = SubmissionAccepted
	a.Status = v.Status
	a.ProviderStatus = CodeLike(v.ProviderStatus)
	if v.ProviderKey != "" {
		a.ProviderKey = CodeLike(v.ProviderKey)
	}
	if v.Reason != "" || v.Status != before.Status || a.ProviderStatus != before.ProviderStatus {
		a.Reason = CodeLike(v.Reason) // a look-up may leave out what the submission said of the same status
	}
	if v.Status.Final() {
		a.DecidedBy, a.DecidedAt = v.DecidedBy, &now
	}
	changed := before.Submission != a.Submission || before.Status != a.Status ||
		before.ProviderStatus != a.ProviderStatus || before.ProviderKey != a.ProviderKey || before.Reason != a.Reason
	if changed {
		a.UpdatedAt = now
	}
	return changed
}

// review is the analysis as a person's KYC shows it.
func (a *Analysis) review(analyses int) KycReview {
	return KycReview{
		Status: a.Status, ProviderStatus: nonEmpty(a.ProviderStatus), Reason: nonEmpty(a.Reason),
		DecidedBy: a.DecidedBy, DecidedAt: a.DecidedAt, Analyses: analyses,
	}
}

func nonEmpty[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}
