package kyc

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func prospectVerdicts() *rapid.Generator[ProspectVerdict] {
	return rapid.Custom(func(t *rapid.T) ProspectVerdict {
		v := ProspectVerdict{UserID: rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "user"), Said: rapid.Bool().Draw(t, "said")}
		v.Cip = CipState{Status: CipUnknown, Detail: CipDetailNone}
		if v.Said {
			word := rapid.SampledFrom([]string{"", "OnProcess", "Word"}).Draw(t, "word")
			v.Cip.Status, v.Cip.Detail = rapid.SampledFrom(CipStatuses()).Draw(t, "status"), rapid.SampledFrom(CipStatusDetails()).Draw(t, "detail")
			v.Cip.ProviderStatus, v.Detail = &word, rapid.SampledFrom([]string{"", "None", "Other"}).Draw(t, "detail word")
			v.Known = v.Cip.Status != CipUnknown && v.Cip.Detail != CipDetailUnknown
		}
		return v
	})
}

// Whatever Leap says and in whatever order: nothing leaves REJECTED, the status is always the table's, only an explicit
// Completed makes ACTIVE, a version is one change, and what says nothing new changes nothing.
func TestApplyProspect(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cip := CipState{Status: CipUnknown, Detail: CipDetailNone}
		status, action := cip.Outcome()
		c := &Customer{Status: status, NextAction: action, Cip: &cip, Prospect: &ProspectState{}, Submission: SubmissionSent, Version: 1}
		now := time.Unix(0, 0)
		for _, v := range rapid.SliceOf(prospectVerdicts()).Draw(t, "verdicts") {
			now = now.Add(time.Second)
			corrected := rapid.Bool().Draw(t, "corrected")
			before := *c
			changed := c.applyProspect(v, corrected, now)
			if before.Status == CustomerRejected && changed {
				t.Fatalf("REJECTED was left by %+v", v)
			}
			if changed != (c.Version == before.Version+1) || !changed && (c.Version != before.Version || c.Status != before.Status || c.Cip != before.Cip) {
				t.Fatalf("changed %v, version %d to %d", changed, before.Version, c.Version)
			}
			if changed {
				if want, _ := c.Cip.Outcome(); c.Status != want || !c.UpdatedAt.Equal(now) || !c.Prospect.ChangedAt.Equal(now) || c.Submission != SubmissionAccepted {
					t.Fatalf("%+v: status %s, the table says %s", v, c.Status, want)
				}
				if again := *c; again.applyProspect(v, false, now) {
					t.Fatalf("%+v changes twice", v)
				}
			}
			if c.Status == CustomerActive && c.Cip.Status != CipCompleted {
				t.Fatalf("ACTIVE by %s", c.Cip.Status)
			}
		}
	})
}

func TestProspectDocumentRoundTrip(t *testing.T) {
	t.Parallel()
	in := goodProspect()
	in.MiddleName, in.SecondLastName, in.Gender = ptr(NewName("María")), ptr(NewName("Gómez")), ptr(ProspectFemale)
	in.Address2, in.ZipCode, in.BirthState, in.Language = ptr(NewPersonalText("2")), ptr(NewPersonalText("77500")), ptr("MX-CMX"), ptr("es")
	in.PlaceDetail, in.Latitude, in.Longitude = ptr(NewPersonalJSON([]byte(`{"a":1}`))), ptr(NewDegrees(1.5)), ptr(NewDegrees(-2))
	in.UserLatitude, in.UserLongitude = ptr(NewDegrees(0)), ptr(NewDegrees(3))
	want, _, errs := in.normalize(testNow)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, known := range []string{"", "+525500001111"} {
		request, err := want.request(known)
		if err != nil {
			t.Fatal(err)
		}
		got, phone, err := prospectProfile(&Customer{Request: request})
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.request(known)
		if err != nil || string(again) != string(request) {
			t.Errorf("%v: not the same document", err)
		}
		if known == "" {
			known = want.Phone.Reveal()
		}
		if phone.Reveal() != known {
			t.Error("another phone")
		}
	}
	p := want.person()
	if p.Name.Reveal() != "Ana María Hernández Gómez" || p.Address.Country != "MEX" || *p.Gender != GenderFemale || p.Birthdate.Reveal() != "1987-06-24" || len(p.Emails) != 1 || *p.Phones[0].Type != PhoneMobile {
		t.Errorf("the person is made wrongly")
	}
}

// Dense at first, rare later, dense again after a change, and never denser or rarer than the bounds.
func TestPollSchedule(t *testing.T) {
	t.Parallel()
	const every = 30 * time.Second
	start := time.Unix(0, 0)
	for name, tc := range map[string]struct {
		status CustomerStatus
		stuck  bool
		most   time.Duration
		day    int // looks on the first day, about
	}{
		"open": {CustomerPending, false, time.Hour, 45}, "asked": {CustomerActionRequired, false, time.Hour, 45},
		"stuck": {CustomerPending, true, 24 * time.Hour, 16}, "active": {CustomerActive, false, 24 * time.Hour, 16},
	} {
		c := &Customer{Status: tc.status, Cip: &CipState{}, Prospect: &ProspectState{ChangedAt: start}}
		if tc.stuck {
			c.Cip.StuckSince = &start
		}
		looks, last := 0, time.Duration(0)
		for at := start; at.Before(start.Add(24 * time.Hour)); looks++ {
			wait := pollAfter(c, every, at)
			if wait < every/8 || wait > tc.most || wait < last {
				t.Errorf("%s: %v after %v", name, wait, at.Sub(start))
			}
			at, last = at.Add(wait), wait
		}
		if looks > tc.day || looks < tc.day/2 {
			t.Errorf("%s: %d looks on the first day", name, looks)
		}
		if wait := pollAfter(c, every, start.Add(30*24*time.Hour)); wait != tc.most {
			t.Errorf("%s: %v after a month", name, wait)
		}
	}
}

// Of the requests that could wait for Leap only some do, and none after one of them waited in vain.
func TestCourtesy(t *testing.T) {
	t.Parallel()
	var c courtesy
	for i := range prospectsWaiting {
		if !c.begin() {
			t.Fatalf("%d may not wait", i)
		}
	}
	if c.begin() || c.waiting.Load() != prospectsWaiting {
		t.Error("too many wait")
	}
	c.waiting.Add(-1)
	if !c.begin() {
		t.Error("a free place is not given")
	}
	c.waiting.Store(0)
	c.slow.Store(true)
	if c.begin() || c.waiting.Load() != 0 {
		t.Error("waits for one who does not answer")
	}
}

// All of a prospect's data has a name in the audit log.
func TestProspectAuditFields(t *testing.T) {
	t.Parallel()
	in := goodProspect()
	in.MiddleName, in.SecondLastName, in.Gender = ptr(NewName("María")), ptr(NewName("Gómez")), ptr(ProspectFemale)
	in.Address2, in.ZipCode, in.BirthState, in.Language = ptr(NewPersonalText("2")), ptr(NewPersonalText("77500")), ptr("MX-CMX"), ptr("es")
	in.PlaceDetail, in.Latitude, in.Longitude = ptr(NewPersonalJSON([]byte(`{"a":1}`))), ptr(NewDegrees(1.5)), ptr(NewDegrees(-2))
	in.UserLatitude, in.UserLongitude = ptr(NewDegrees(0)), ptr(NewDegrees(3))
	full, _, errs := in.normalize(testNow)
	if n := reflect.TypeFor[ProspectProfile]().NumField(); len(errs) > 0 || n != len(prospectFields) {
		t.Fatalf("%d fields, %d names, %v", n, len(prospectFields), errs)
	}
	var c Customer
	if got := c.profileEvent(AuditCreate, &ProspectProfile{}, &full).Fields; len(got) != len(prospectFields)+1 {
		t.Errorf("named %v", got)
	}
	for _, name := range AuditFields() {
		if !isCoordinate(name) {
			t.Errorf("%s is no name the log takes", name)
		}
	}
	corrected := full
	corrected.City = "Mérida"
	if got := c.profileEvent(AuditUpdate, &full, &corrected).Fields; len(got) != 2 || got[1] != "RegisterProspectInput.city" {
		t.Errorf("named %v", got)
	}
}
