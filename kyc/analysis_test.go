package kyc

import (
	"reflect"
	"strconv"
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

// A later answer without a reason takes none away while the status is the same; another status brings its own, or none.
func TestReasonStaysWithItsStatus(t *testing.T) {
	t.Parallel()
	a := &Analysis{Status: KycPending}
	for i, step := range []struct{ status, reason, want string }{
		{"in_manual_analysis", "document_not_found", "document_not_found"}, {"in_manual_analysis", "", "document_not_found"},
		{"in_manual_analysis", "other", "other"}, {"in_queue", "", ""}, {"in_queue", "queued", "queued"}, {"manually_approved", "", ""},
	} {
		v := Verdict{Status: KycInReview, Known: true, ProviderStatus: step.status, Reason: step.reason}
		if step.status == "manually_approved" {
			v.Status = KycApproved
		}
		if changed := a.Apply(v, time.Unix(int64(i), 0)); a.Reason != step.want || changed == (i == 1) {
			t.Errorf("step %d: %q, changed %t", i, a.Reason, changed)
		}
	}
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

// Registrations are accepted in any order, and the profile is always that of all accepted ones laid over each other in
// the order they were received.
func TestLateRegistrationsGoUnderneath(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		optional := func(label string) *PersonalText {
			if s := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, label); s != "" {
				return ptr(NewPersonalText(s))
			}
			return nil
		}
		n := rapid.IntRange(1, 8).Draw(t, "registrations")
		received := make([]Profile, n)
		for i := range received {
			received[i] = Profile{
				Name: NewName(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")), Emails: []Email{{NewEmailAddress(strconv.Itoa(i))}},
				Occupation: optional("occupation"), DeviceFingerprint: optional("fingerprint"),
			}
		}
		accepted, newest := map[int]bool{}, -1
		var profile Profile
		for _, i := range rapid.Permutation(upTo(n)).Draw(t, "order") {
			accepted[i] = true
			var all []Profile
			for j := range received {
				if accepted[j] {
					all = append(all, received[j])
				}
			}
			if i > newest {
				profile, newest = profile.merge(received[i]), i
			} else if under, certain := profile.over(received[i]); certain {
				profile = under
			} else {
				profile = fold(all)
			}
			if want := fold(all); !reflect.DeepEqual(profile, want) {
				t.Fatalf("after %d: %#v, want %#v", i, profile, want)
			}
		}
	})
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
