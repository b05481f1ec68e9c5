package qitech_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

// delivery is a webhook as it arrived.
type delivery struct {
	method string
	header http.Header
	body   []byte
}

// simulate runs the simulator with a receiver of its webhooks.
func simulate(t *testing.T, c qitechsim.Config) (*qitechsim.Sim, kyc.Provider, <-chan delivery) {
	t.Helper()
	deliveries := make(chan delivery, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		deliveries <- delivery{r.Method, r.Header, body}
	}))
	t.Cleanup(receiver.Close)
	c.WebhookURL = receiver.URL + "/callbacks/qitech"
	sim := qitechsim.New(c)
	t.Cleanup(func() { _ = sim.Close() })
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return sim, newProvider(t, qitech.Config{
		BaseURL: server.URL, APIKey: secret(qitechsim.SandboxAPIKey), WebhookKey: secret(qitechsim.SandboxWebhookKey), CallbackURL: c.WebhookURL,
	}), deliveries
}

// The provider and its simulator were written apart, from the same dossier.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	_, p, _ := simulate(t, qitechsim.Config{ManualDelay: qitechsim.Never, PendingDelay: qitechsim.Never})
	for document, want := range map[string]struct {
		status kyc.KycStatus
		reason string
	}{
		"01234567890": {kyc.KycInReview, "in_manual_analysis"},
		"41234567890": {kyc.KycRejected, "document_not_found"},
		"71234567890": {kyc.KycPending, "pending"},
		"81234567890": {kyc.KycRejected, "deceased_person"},
		"91234567890": {kyc.KycApproved, "automatically_approved"},
	} {
		r := full()
		r.ID, r.Profile.DocumentNumber = kyc.AnalysisID("ana_"+document), kyc.NewDocumentNumber(document)
		if _, err := p.FetchPersonAnalysis(t.Context(), r.ID); kyc.KindOf(err) != kyc.NotFound || err == nil {
			t.Errorf("%s before it was sent: %v", document, err)
		}
		submitted, err := p.AnalyzePerson(t.Context(), r)
		if err != nil || submitted.Status != want.status || !submitted.Known || submitted.ProviderKey == "" || submitted.ProviderKey == "unknown" {
			t.Errorf("%s submitted: %+v, %v", document, submitted, err)
		}
		fetched, err := p.FetchPersonAnalysis(t.Context(), r.ID)
		if err != nil || fetched.Status != want.status || fetched.Reason != want.reason || fetched.ProviderKey != submitted.ProviderKey {
			t.Errorf("%s fetched: %+v, %v, want reason %s", document, fetched, err, want.reason)
		}
		if _, err := p.AnalyzePerson(t.Context(), r); kyc.KindOf(err) != kyc.Conflict || err == nil {
			t.Errorf("%s again: %v, want CONFLICT", document, err)
		}
	}

	r := minimal()
	if _, err := p.AnalyzePerson(t.Context(), r); err != nil {
		t.Errorf("only what is required: %v", err)
	}
	r = full()
	r.ID, r.Profile.Emails[0].Address = "ana_unknown", kyc.NewEmailAddress(qitechsim.EmailUnknownStatus)
	if v, err := p.AnalyzePerson(t.Context(), r); err != nil || v.Known || v.Status != kyc.KycPending || v.ProviderStatus != "automatically_challenged" {
		t.Errorf("a word we do not know: %+v, %v", v, err)
	}
	r.ID, r.Profile.Emails[0].Address = "ana_refused", kyc.NewEmailAddress(qitechsim.EmailInvalidDocument)
	wantRefusal(t, p, r, "input.documentNumber")
	r = full()
	r.ID, r.Profile.FaceRecognitionID = "ana_face", ptr(kyc.UUID(qitechsim.FaceKeyInvalid))
	wantRefusal(t, p, r, "input.faceRecognitionId")
	r = full()
	r.ID, r.Profile.Birthdate = "ana_date", kyc.NewDate("no date")
	wantRefusal(t, p, r, "input.birthdate")
}

func wantRefusal(t *testing.T, p kyc.Provider, r kyc.PersonAnalysisRequest, path string) {
	t.Helper()
	_, err := p.AnalyzePerson(t.Context(), r)
	var e *kyc.Error
	if !errors.As(err, &e) || e.Kind != kyc.Rejected || strings.Join(e.Path, ".") != path {
		t.Errorf("got %v %v, want a refusal of %s", err, e, path)
	}
}

// A late outcome: the simulator's signature is accepted, its reference is ours, and asking shows the outcome.
func TestWebhookOfTheSimulator(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]qitechsim.Config{
		"POST, newest first": {ManualDelay: time.Millisecond},
		"PUT, oldest first":  {ManualDelay: time.Millisecond, WebhookPUT: true, OldestFirst: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, deliveries := simulate(t, c)
			r := full()
			r.Profile.DocumentNumber = kyc.NewDocumentNumber("51234567890")
			if _, err := p.AnalyzePerson(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			select {
			case <-ctx.Done():
				t.Fatal("no webhook came")
			case d := <-deliveries:
				cb, err := p.ParseCallback(d.method, d.header, d.body)
				if err != nil || cb.Reference != string(r.ID) {
					t.Fatalf("%+v, %v", cb, err)
				}
				d.body[len(d.body)-2]++
				if _, err := p.ParseCallback(d.method, d.header, d.body); kyc.KindOf(err) != kyc.Unauthenticated {
					t.Errorf("a changed body: %v", err)
				}
			}
			v, err := p.FetchPersonAnalysis(t.Context(), r.ID)
			if err != nil || v.Status != kyc.KycRejected || v.DecidedBy == nil || *v.DecidedBy != kyc.DecidedManual || v.Reason != "manually_reproved" {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// The simulators of production's documents: a wrong key, a key that may not, a duplicate told by 429.
func TestSwitchesOfTheSimulator(t *testing.T) {
	t.Parallel()
	_, p, _ := simulate(t, qitechsim.Config{DuplicateStatus: http.StatusTooManyRequests, SuccessStatus: http.StatusCreated})
	if _, err := p.AnalyzePerson(t.Context(), minimal()); err != nil {
		t.Errorf("201: %v", err)
	}
	if _, err := p.AnalyzePerson(t.Context(), minimal()); kyc.KindOf(err) != kyc.RateLimited {
		t.Errorf("a duplicate as 429: %v", err)
	}
	for _, key := range []string{"wrong", qitechsim.SandboxDisabledAPIKey} {
		sim := qitechsim.New(qitechsim.Config{})
		defer sim.Close()
		server := httptest.NewServer(sim)
		defer server.Close()
		p := newProvider(t, qitech.Config{BaseURL: server.URL, APIKey: secret(key)})
		if _, err := p.FetchPersonAnalysis(t.Context(), "x"); kyc.KindOf(err) != kyc.Credentials {
			t.Errorf("key %s: %v", key, err)
		}
	}
}
