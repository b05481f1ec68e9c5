package kyc

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func verdicts() *rapid.Generator[Verdict] {
	return rapid.Custom(func(t *rapid.T) Verdict {
		status := rapid.SampledFrom([]KycStatus{KycPending, KycInReview, KycApproved, KycRejected}).Draw(t, "status")
		return Verdict{Status: status, Known: rapid.Bool().Draw(t, "known"), ProviderStatus: string(status), Reason: rapid.SampledFrom([]string{"", "underage", "CPF 52998224725"}).Draw(t, "reason")}
	})
}

// The first final word stands, whatever comes after it and in whatever order; before it, the newest
// open word counts.
func TestApplyNeverLeavesAFinalStatus(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := Analysis{Status: KycPending, Submission: SubmissionSent}
		want := KycPending
		now := time.Unix(0, 0)
		for _, v := range rapid.SliceOf(verdicts()).Draw(t, "verdicts") {
			now = now.Add(time.Second)
			before := a
			changed := a.Apply(v, now)
			if !want.Final() {
				want = v.Status
			} else if changed || a != before {
				t.Fatalf("a final analysis changed: %+v to %+v", before, a)
			}
			if a.Status != want {
				t.Fatalf("status %s, want %s", a.Status, want)
			}
			if a.Status.Final() != (a.DecidedAt != nil) {
				t.Fatalf("decided at %v with status %s", a.DecidedAt, a.Status)
			}
			if a.Reason != "" && a.Reason != "underage" && a.Reason != "unknown" {
				t.Fatalf("upstream prose was kept")
			}
		}
	})
}

func TestMergeKeepsOmittedOptionals(t *testing.T) {
	t.Parallel()
	older := Profile{Name: NewName("A"), Emails: []Email{{NewEmailAddress("a@x.y")}, {NewEmailAddress("b@x.y")}}, Occupation: ptr(NewPersonalText("baker")), Gender: ptr(GenderFemale)}
	got := older.merge(Profile{Name: NewName("B"), Emails: []Email{{NewEmailAddress("c@x.y")}}, Gender: ptr(GenderOther)})
	if got.Name.Reveal() != "B" || len(got.Emails) != 1 || *got.Gender != GenderOther || got.Occupation == nil || got.Occupation.Reveal() != "baker" {
		t.Errorf("merged wrongly: %v emails, gender %v", len(got.Emails), *got.Gender)
	}
}

func TestScopeSet(t *testing.T) {
	t.Parallel()
	s := NewScopeSet(PersonsRead, "nonsense", Admin)
	if !s.Has(PersonsRead) || !s.Has(Admin) || s.Has(PIIRead) || s.Has("nonsense") || len(s.List()) != 2 {
		t.Errorf("got %v", s.List())
	}
}
