package kyc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var processTime = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func drawResult(t *rapid.T) *ProcessResult {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	r := &ProcessResult{}
	if maybe("liveness") {
		r.Liveness = new(rapid.SampledFrom([]Liveness{LivenessLive, LivenessNotLive}).Draw(t, "live"))
	}
	if maybe("identity") {
		r.Identity = new(rapid.SampledFrom([]IdentityMatch{IdentityYes, IdentityNo, IdentityInconclusive}).Draw(t, "match"))
	}
	if maybe("fraud") {
		r.FraudProfile = new(rapid.SampledFrom([]FraudProfile{FraudYes, FraudInconclusive, FraudUnknown}).Draw(t, "profile"))
	}
	if maybe("score") {
		r.RiskScore = new(rapid.IntRange(-100, 100).Draw(t, "points"))
	}
	if maybe("similarity") {
		r.GovernmentSimilarity = new(rapid.IntRange(-2, 100).Draw(t, "percent"))
	}
	return r
}

func drawVerdict(t *rapid.T) ProcessVerdict {
	v := ProcessVerdict{
		ProviderProcessID: rapid.SampledFrom([]string{"p-1", "p-1", "p-1", "p-2", ""}).Draw(t, "id"),
		Status:            rapid.SampledFrom([]ProcessStatus{ProcessProcessing, ProcessDivergent, ProcessCompleted, ProcessCanceled, ProcessFailed}).Draw(t, "status"),
		Known:             true, Result: drawResult(t), // also with a status that must not show it
	}
	if rapid.IntRange(0, 4).Draw(t, "unknown word") == 0 {
		v.Status, v.Known = ProcessProcessing, false
	}
	v.Late = v.Status == ProcessCompleted && rapid.IntRange(0, 4).Draw(t, "something is to come") == 0
	return v
}

// Whatever verdicts come, in whatever order and however often: a status only moves forward, nothing leaves a final
// one, and result and failure stand exactly where they belong.
func TestProcessNeverStepsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &Process{Status: ProcessProcessing, Submission: SubmissionSent, Capabilities: rapid.SliceOfDistinct(rapid.SampledFrom(Capabilities()), rapid.ID).Draw(t, "capabilities"), Version: rapid.IntRange(0, 1).Draw(t, "version")}
		now := processTime
		for range rapid.IntRange(1, 12).Draw(t, "verdicts") {
			before := *p
			v := drawVerdict(t)
			now = now.Add(time.Second)
			changed := p.Apply(v, now)
			switch {
			case before.Status.Final() && (changed || !reflect.DeepEqual(before, *p)):
				t.Fatalf("%s was left for %s", before.Status, p.Status)
			case p.Status.rank() < before.Status.rank():
				t.Fatalf("%s went back to %s", before.Status, p.Status)
			case v.Late && p.Status != before.Status:
				t.Fatalf("what is to come was not waited for: %s of %s", p.Status, before.Status)
			case !v.Known && p.Status != before.Status:
				t.Fatalf("a word nobody knows made %s of %s", p.Status, before.Status)
			case before.ProviderProcessID != nil && *p.ProviderProcessID != *before.ProviderProcessID:
				t.Fatal("it became another process of the provider's")
			case before.ProviderProcessID != nil && v.ProviderProcessID != "" && v.ProviderProcessID != *before.ProviderProcessID && changed:
				t.Fatal("a verdict about another process counted")
			case changed != !reflect.DeepEqual(before, *p):
				t.Fatalf("changed = %t", changed)
			case changed && (!p.UpdatedAt.Equal(now) || before.Version > 0 && p.Version != before.Version+1 || before.Version == 0 && p.Version != 0):
				t.Fatalf("updated %v, version %d after %d", p.UpdatedAt, p.Version, before.Version)
			}
			completed, failed := p.Status == ProcessCompleted, p.Status == ProcessCanceled || p.Status == ProcessFailed
			if (p.Result != nil) != completed || (p.Failure != nil) != failed || (p.FinishedAt != nil) != p.Status.Final() {
				t.Fatalf("%s with result %v, failure %v, finished %v", p.Status, p.Result != nil, p.Failure, p.FinishedAt)
			}
			if p.Result == nil {
				continue
			}
			r := p.Result
			switch {
			case r.RiskScore != nil && (r.Identity != nil && *r.Identity != IdentityInconclusive):
				t.Fatal("a decided identity has a score")
			case r.RiskScore != nil && r.FraudProfile != nil && *r.FraudProfile == FraudYes:
				t.Fatal("a fraud hit has a score")
			case r.RiskScore != nil && r.Liveness != nil && *r.Liveness == LivenessNotLive:
				t.Fatal("a selfie that is not live has a score")
			case r.Liveness != nil && !slices.Contains(p.Capabilities, CapLiveness):
				t.Fatal("liveness that nobody checked is shown")
			}
		}
	})
}

// Delivering the same verdicts again, in any order, after the end changes nothing: what a webhook that comes late or
// twice amounts to.
func TestProcessVerdictsAreIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &Process{Status: ProcessProcessing, Submission: SubmissionSent, Capabilities: Capabilities(), Version: 1}
		var all []ProcessVerdict
		for range rapid.IntRange(1, 6).Draw(t, "verdicts") {
			v := drawVerdict(t)
			all = append(all, v)
			p.Apply(v, processTime)
		}
		p.Apply(ProcessVerdict{Status: ProcessCompleted, Known: true}, processTime)
		end := *p
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 0, 20).Draw(t, "again") {
			if p.Apply(all[i], processTime.Add(time.Hour)) || !reflect.DeepEqual(end, *p) {
				t.Fatal("a repeated verdict changed a finished process")
			}
		}
	})
}

// 1, then 2, then 3 with a score: nothing is shown before the end.
func TestProcessDiverges(t *testing.T) {
	t.Parallel()
	p := &Process{Status: ProcessProcessing, Submission: SubmissionSent, Capabilities: []Capability{CapLiveness, CapIdentityVerification, CapRiskScore}, Version: 1}
	result := &ProcessResult{Identity: new(IdentityInconclusive), Liveness: new(LivenessLive), RiskScore: new(28)}
	for i, s := range []ProcessStatus{ProcessProcessing, ProcessDivergent, ProcessProcessing, ProcessCompleted} {
		p.Apply(ProcessVerdict{ProviderProcessID: "p-1", Status: s, Known: true, Result: result}, processTime)
		want := []ProcessStatus{ProcessProcessing, ProcessDivergent, ProcessDivergent, ProcessCompleted}[i]
		if p.Status != want || (p.Result != nil) != (want == ProcessCompleted) {
			t.Errorf("after step %d: %s, result %v", i, p.Status, p.Result != nil)
		}
	}
	if *p.Result.RiskScore != 28 || p.Version != 4 || p.Submission != SubmissionAccepted {
		t.Errorf("%+v", p)
	}
}

// What another process may build on.
func TestBiometry(t *testing.T) {
	t.Parallel()
	completed := func(r ProcessResult) *Process {
		return &Process{Kind: KindIdentityVerification, Status: ProcessCompleted, Result: &r}
	}
	for name, tt := range map[string]struct {
		p               *Process
		biometry, reuse bool
	}{
		"yes":           {completed(ProcessResult{Identity: new(IdentityYes)}), true, true},
		"no":            {completed(ProcessResult{Identity: new(IdentityNo)}), false, false},
		"live":          {completed(ProcessResult{Liveness: new(LivenessLive)}), true, false},
		"not live":      {completed(ProcessResult{Liveness: new(LivenessNotLive)}), false, false},
		"score 50":      {completed(ProcessResult{Identity: new(IdentityInconclusive), RiskScore: new(50)}), true, true},
		"score 49":      {completed(ProcessResult{Identity: new(IdentityInconclusive), RiskScore: new(49)}), true, false},
		"denied":        {completed(ProcessResult{Identity: new(IdentityYes), Decision: new(DecisionDenied)}), false, true},
		"1:1 no":        {completed(ProcessResult{Authenticated: new(false)}), false, false},
		"1:1, unknown":  {&Process{Kind: KindFaceValidation, Status: ProcessCompleted, Result: &ProcessResult{Liveness: new(LivenessLive)}}, false, false},
		"1:1 yes":       {&Process{Kind: KindFaceValidation, Status: ProcessCompleted, Result: &ProcessResult{Authenticated: new(true)}}, true, false},
		"fraud":         {completed(ProcessResult{Identity: new(IdentityYes), FraudProfile: new(FraudYes)}), false, true},
		"open":          {&Process{Status: ProcessProcessing}, false, false},
		"a document":    {&Process{Kind: KindDocumentCapture, Status: ProcessCompleted, Result: &ProcessResult{}}, false, false},
		"nothing known": {completed(ProcessResult{}), true, false},
	} {
		if got := tt.p.biometry(); got != tt.biometry {
			t.Errorf("%s: biometry %t", name, got)
		}
		if got := tt.p.allowsReuse(); got != tt.reuse {
			t.Errorf("%s: reuse %t", name, got)
		}
	}
}

// Every failure says what to do, and nothing of a process or capture prints.
func TestFailuresAndCapturesInText(t *testing.T) {
	t.Parallel()
	for _, code := range []FailureCode{FailureNeedsNewCapture, FailureImageRejected, FailureRejected, FailureProviderError, FailureCanceled, FailureOutcomeUnknown} {
		if f := NewFailure(code); f.Code != code || f.Message == "" || f.NextAction == nil {
			t.Errorf("%s: %+v", code, f)
		}
	}
	token := NewPersonalText("eyJSECRET")
	p := Process{
		Request: ProcessSubject{DocumentNumber: NewDocumentNumber("52998224725SECRET"), Name: NewName("SECRET")},
		Result:  &ProcessResult{Document: &CapturedDocument{Content: new(NewPersonalJSON([]byte(`"SECRET"`))), FileUrls: []PersonalText{NewPersonalText("SECRET")}}},
	}
	capture := Capture{SDKToken: &token}
	var text bytes.Buffer
	for _, v := range []any{p, *p.Result, *p.Result.Document, *p.Result.Document.Content, capture, *capture.SDKToken} {
		fmt.Fprintf(&text, "%v %+v %#v %s", v, v, v, v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	if bytes.Contains(text.Bytes(), []byte("SECRET")) {
		t.Errorf("%s", text.String())
	}
}

// Captures are held for as long as they are worth something, and in bounds.
func TestCapturesAreHeldInBounds(t *testing.T) {
	t.Parallel()
	var c captures
	token := NewPersonalText("eyJ.a.b")
	c.hold("prc_t", Capture{SDKToken: &token}, processTime)
	c.hold("prc_i", Capture{Image: &Image{data: func() []byte { return make([]byte, 1000) }}}, processTime)
	for _, tt := range []struct {
		id    ProcessID
		after time.Duration
		held  bool
	}{
		{"prc_t", 10*time.Minute - 1, true}, {"prc_t", 10 * time.Minute, false}, {"prc_i", 5*time.Minute - 1, true}, {"prc_i", 5 * time.Minute, false}, {"prc_x", 0, false},
	} {
		if _, held := c.get(tt.id, processTime.Add(tt.after)); held != tt.held {
			t.Errorf("%s after %v: held %t", tt.id, tt.after, held)
		}
	}
	large := Capture{Image: &Image{data: func() []byte { return make([]byte, 1<<20) }}}
	for i := range 300 {
		c.hold(ProcessID(fmt.Sprintf("prc_%d", i)), large, processTime)
	}
	if c.size > maxHeld || len(c.held) < 250 {
		t.Errorf("%d bytes in %d captures", c.size, len(c.held))
	}
	for id := range c.held {
		c.drop(id)
		c.drop(id)
	}
	if c.size != 0 {
		t.Errorf("%d bytes are left of nothing", c.size)
	}
}

// What an SDK captured is opaque; what is plainly no token does not leave.
func TestSDKTokenIsOpaque(t *testing.T) {
	for token, want := range map[string]bool{
		"eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln": true, "eyJh.a.b.c.d": true, "eyJh..b.c.d": true, "sdk-token-1": true, "a_b~c.d": true,
		"not a token": false, "/9j/4AAQSkZJRgABAQ": false, "iVBORw0KGgo+AAA=": false, "data:image/jpeg;base64,abcd": false, "a\nb": false, "é": false,
	} {
		value := NewPersonalText(token)
		d := processDraft{selfie: &SelfieInput{SDKToken: &value}}
		d.readSelfie()
		if got := len(d.checks.errs) == 0; got != want {
			t.Errorf("%q: taken %v, want %v", token, got, want)
		}
	}
}
