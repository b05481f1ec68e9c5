// Package storetest is the conformance suite of [kyc.Store]: what its comments promise, as tests. Every MUST there
// names a case here. A store's own tests call it in one line:
//
//	func TestConformance(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// CommitFailer is what a store can do in its own tests only: let its next commit fail as a full disk would. Without
// it WriteReportsCommitFailure is skipped.
type CommitFailer interface{ FailNextCommit() }

// Run asks a store everything. open gives an empty one and closes it when the test ends.
func Run(t *testing.T, open func(t *testing.T) kyc.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"WriteRollsBack", writeRollsBack},
		{"WriteReportsCommitFailure", writeReportsCommitFailure},
		{"WriteIsSerial", writeIsSerial},
		{"WriteSeesItself", writeSeesItself},
		{"WriteSurvivesConflict", writeSurvivesConflict},
		{"WriteHonoursContext", writeHonoursContext},
		{"ReadHonoursContext", readHonoursContext},
		{"Ping", ping},
		{"PersonRoundTrip", personRoundTrip},
		{"PersonUpdate", personUpdate},
		{"PersonDelete", personDelete},
		{"PersonsPages", personsPages},
		{"PersonsFilter", personsFilter},
		{"OnePersonADocument", onePersonADocument},
		{"ExternalIDs", externalIDs},
		{"ExternalIDsOfMany", externalIDsOfMany},
		{"Registrations", registrations},
		{"RegistrationsPages", registrationsPages},
		{"RegistrationsAccepted", registrationsAccepted},
		{"Analyses", analyses},
		{"Customers", customers},
		{"Calls", calls},
		{"CallsOf", callsOf},
		{"Callbacks", callbacks},
		{"ProcessRoundTrip", processRoundTrip},
		{"ProcessLists", processLists},
		{"EarlyCallbacks", earlyCallbacks},
		{"Idempotency", idempotency},
		{"Onboardings", onboardings},
		{"OnboardingsCommitTogether", onboardingsCommitTogether},
		{"OnboardingFacts", onboardingFacts},
		{"Events", events},
		{"EventsOfFaces", eventsOfFaces},
		{"EventsCommitTogether", eventsCommitTogether},
		{"EventsHaveNoGap", eventsHaveNoGap},
		{"EventsEnd", eventsEnd},
		{"Audit", audit},
		{"Export", export},
		{"Tenancy", tenancy},
		{"Faces", faces},
		{"FacesLink", facesLink},
		{"ProcessesLink", processesLink},
		{"FacesTenancy", facesTenancy},
		{"JobClaim", jobClaim},
		{"JobFencing", jobFencing},
		{"JobHint", jobHint},
		{"JobBury", jobBury},
		{"JobDead", jobDead},
		{"JobBacklog", jobBacklog},
		{"JobModel", jobModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, &bench{Store: open(t), t: t})
		})
	}
}

// bench is a store with the short words the cases are written in. A failure no case expects ends the test.
type bench struct {
	kyc.Store
	t *testing.T
}

var ctx = context.Background()

// epoch is when most things happen here.
var epoch = time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)

const (
	acme  kyc.PartnerID = "acme"
	other kyc.PartnerID = "other"
)

func (b *bench) write(fn func(kyc.Tx) error) {
	b.t.Helper()
	if err := b.Write(ctx, fn); err != nil {
		b.t.Fatal(err)
	}
}

// add stores what it is given.
func (b *bench) add(things ...any) {
	b.t.Helper()
	b.write(func(tx kyc.Tx) error {
		for _, thing := range things {
			var err error
			switch v := thing.(type) {
			case *kyc.Person:
				err = tx.InsertPerson(ctx, v)
			case *kyc.Registration:
				err = tx.InsertRegistration(ctx, v)
			case *kyc.Analysis:
				err = tx.InsertAnalysis(ctx, v)
			case *kyc.Process:
				err = tx.InsertProcess(ctx, v)
			case *kyc.Job:
				err = tx.InsertJob(ctx, v)
			case idempotent:
				err = tx.SaveIdempotent(ctx, v.answer, v.request)
			default:
				err = fmt.Errorf("no way to add a %T", v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// idempotent is an answer with the request it answers.
type idempotent struct {
	answer  *kyc.IdempotentAnswer
	request []byte
}

func (b *bench) person(partner kyc.PartnerID, id kyc.PersonID) *kyc.Person {
	b.t.Helper()
	p, err := b.PersonByID(ctx, partner, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

var documents = newSequence(52_998_224_725)

// newPerson makes one with the required fields only and a document of its own.
func newPerson(partner kyc.PartnerID) *kyc.Person {
	return &kyc.Person{
		ID: kyc.NewPersonID(), PartnerID: partner,
		Profile: kyc.Profile{
			Name:           kyc.NewName("Maria Souza"),
			DocumentNumber: kyc.NewDocumentNumber(fmt.Sprintf("%011d", documents())),
			Birthdate:      kyc.NewDate("1990-02-28"),
			Emails:         []kyc.Email{{Address: kyc.NewEmailAddress("maria@example.com")}},
			Phones:         []kyc.Phone{{Number: kyc.NewPhoneNumber("+5511987654321")}},
			Address: kyc.Address{
				Street: kyc.NewPersonalText("Rua das Flores"), City: "São Paulo", State: "SP",
				PostalCode: kyc.NewPersonalText("01000000"), Country: "BRA",
			},
		},
		SourceKyc: kyc.SourceOpenco, Kyc: kyc.KycReview{Status: kyc.KycNotRequired},
		CreatedAt: epoch, UpdatedAt: epoch, Version: 1,
	}
}

// newFullPerson makes one with every field.
func newFullPerson(partner kyc.PartnerID) *kyc.Person {
	p := newPerson(partner)
	text := func(s string) *kyc.PersonalText { return new(kyc.NewPersonalText(s)) }
	p.Emails = append(p.Emails, kyc.Email{Address: kyc.NewEmailAddress("m+souza@exämple.com")})
	p.Phones = append(p.Phones, kyc.Phone{Number: kyc.NewPhoneNumber("+551133334444"), Type: new(kyc.PhoneResidential)})
	p.Address.Number, p.Address.Complement, p.Address.Neighborhood = text("1000"), text("ap. 4"), text("Centro")
	p.Gender = new(kyc.GenderFemale)
	p.Nationality = new("BRA")
	p.MonthlyIncome = new(kyc.NewCents(1_234_567_890_123))
	p.Occupation = text("médica")
	p.MotherName, p.FatherName = new(kyc.NewName("Ana")), new(kyc.NewName("José"))
	p.FaceRecognitionID = new(kyc.UUID("b7a8f1c2-0000-4000-8000-000000000001"))
	p.SessionID = new(kyc.UUID("b7a8f1c2-0000-4000-8000-000000000002"))
	p.IPAddress, p.DeviceFingerprint = text("203.0.113.7"), text(`{"ua":"x"}`)
	p.SourceKyc = kyc.SourceQitech
	p.Kyc = kyc.KycReview{
		Status: kyc.KycApproved, ProviderStatus: new("automatically_approved"), Reason: new("ok"),
		DecidedBy: new(kyc.DecidedAutomatic), DecidedAt: new(epoch.Add(time.Minute)), Analyses: 3,
	}
	p.LatestAnalysis = kyc.NewAnalysisID()
	p.UpdatedAt = epoch.Add(time.Hour)
	p.Version = 7
	return p
}

func newRegistration(p *kyc.Person) *kyc.Registration {
	return &kyc.Registration{
		ID: kyc.NewRegistrationID(), PartnerID: p.PartnerID, PersonID: p.ID, Payload: kyc.JSON(`{"name":"Maria Souza"}`),
		Profile: p.Profile, ReceivedAt: epoch, Outcome: kyc.OutcomeCreated,
	}
}

func newAnalysis(p *kyc.Person, r *kyc.Registration) *kyc.Analysis {
	return &kyc.Analysis{
		ID: kyc.NewAnalysisID(), PartnerID: p.PartnerID, PersonID: p.ID, RegistrationID: r.ID, Provider: "qitech",
		Submission: kyc.SubmissionPlanned, Status: kyc.KycPending, CreatedAt: epoch, UpdatedAt: epoch,
	}
}

func newJob(subject string, runAt time.Time) *kyc.Job {
	return &kyc.Job{ID: kyc.NewJobID(), Kind: kyc.JobAnalysis, PartnerID: acme, Subject: subject, RunAt: runAt, CreatedAt: epoch}
}

// same compares structs and names the fields that differ. It cannot show them: they redact themselves.
func same[T any](t *testing.T, what string, got, want *T) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	if got == nil || want == nil {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
	t.Fatalf("%s differs in: %s", what, strings.Join(differences("", reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()), ", "))
}

func differences(path string, a, b reflect.Value) []string {
	var names []string
	for i := range a.NumField() {
		name, x, y := path+a.Type().Field(i).Name, a.Field(i), b.Field(i)
		switch {
		case reflect.DeepEqual(x.Interface(), y.Interface()):
		case x.Kind() == reflect.Struct && x.NumField() > 1 && x.Type() != reflect.TypeFor[time.Time]():
			names = append(names, differences(name+".", x, y)...)
		default:
			names = append(names, name)
		}
	}
	return names
}

func wantKind(t *testing.T, err error, kind kyc.Kind) {
	t.Helper()
	var e *kyc.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got error %v, want kind %s", err, kind)
	}
}
