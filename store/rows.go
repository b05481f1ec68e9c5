package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// The structs of this file are the only place where personal values are plain strings on their way between
// package kyc and the database. They are never logged and never leave the package.

// profileRow is a kyc.Profile twice over: as columns of persons and as the JSON document of a registration. The
// types of package kyc cannot serve here: they redact themselves in JSON.
type profileRow struct {
	DocumentNumber    *string            `db:"document_number" json:"document_number,omitempty"`
	Name              string             `db:"name" json:"name"`
	Birthdate         string             `db:"birthdate" json:"birthdate"`
	Emails            jsonText[[]string] `db:"emails" json:"emails"`
	Phones            jsonText[[]phone]  `db:"phones" json:"phones"`
	Address           jsonText[address]  `db:"address" json:"address"`
	Gender            *string            `db:"gender" json:"gender,omitempty"`
	Nationality       *string            `db:"nationality" json:"nationality,omitempty"`
	MonthlyIncome     *int64             `db:"monthly_income" json:"monthly_income,omitempty"`
	Occupation        *string            `db:"occupation" json:"occupation,omitempty"`
	MotherName        *string            `db:"mother_name" json:"mother_name,omitempty"`
	FatherName        *string            `db:"father_name" json:"father_name,omitempty"`
	FaceRecognitionID *string            `db:"face_recognition_id" json:"face_recognition_id,omitempty"`
	SessionID         *string            `db:"session_id" json:"session_id,omitempty"`
	IPAddress         *string            `db:"ip_address" json:"ip_address,omitempty"`
	DeviceFingerprint *string            `db:"device_fingerprint" json:"device_fingerprint,omitempty"`
}

type phone struct {
	Number string  `json:"number"`
	Type   *string `json:"type,omitempty"`
}

type address struct {
	Street       string  `json:"street"`
	Number       *string `json:"number,omitempty"`
	Complement   *string `json:"complement,omitempty"`
	Neighborhood *string `json:"neighborhood,omitempty"`
	City         string  `json:"city"`
	State        string  `json:"state"`
	PostalCode   string  `json:"postal_code"`
	Country      string  `json:"country"`
}

func newProfileRow(p *kyc.Profile) profileRow {
	r := profileRow{
		Name:      p.Name.Reveal(),
		Birthdate: p.Birthdate.Reveal(),
		Emails:    jsonText[[]string]{make([]string, len(p.Emails))},
		Phones:    jsonText[[]phone]{make([]phone, len(p.Phones))},
		Address: jsonText[address]{address{
			Street:       p.Address.Street.Reveal(),
			Number:       revealed(p.Address.Number),
			Complement:   revealed(p.Address.Complement),
			Neighborhood: revealed(p.Address.Neighborhood),
			City:         p.Address.City,
			State:        p.Address.State,
			PostalCode:   p.Address.PostalCode.Reveal(),
			Country:      p.Address.Country,
		}},
		Gender:            (*string)(p.Gender),
		Nationality:       p.Nationality,
		Occupation:        revealed(p.Occupation),
		MotherName:        revealed(p.MotherName),
		FatherName:        revealed(p.FatherName),
		FaceRecognitionID: (*string)(p.FaceRecognitionID),
		SessionID:         (*string)(p.SessionID),
		IPAddress:         revealed(p.IPAddress),
		DeviceFingerprint: revealed(p.DeviceFingerprint),
	}
	if !p.DocumentNumber.Empty() {
		document := p.DocumentNumber.Reveal()
		r.DocumentNumber = &document
	}
	if p.MonthlyIncome != nil {
		income := p.MonthlyIncome.Reveal()
		r.MonthlyIncome = &income
	}
	for i, e := range p.Emails {
		r.Emails.V[i] = e.Address.Reveal()
	}
	for i, ph := range p.Phones {
		r.Phones.V[i] = phone{Number: ph.Number.Reveal(), Type: (*string)(ph.Type)}
	}
	return r
}

func (r *profileRow) profile() kyc.Profile {
	p := kyc.Profile{
		Name:      kyc.NewName(r.Name),
		Birthdate: kyc.NewDate(r.Birthdate),
		Address: kyc.Address{
			Street:       kyc.NewPersonalText(r.Address.V.Street),
			Number:       wrapped(r.Address.V.Number, kyc.NewPersonalText),
			Complement:   wrapped(r.Address.V.Complement, kyc.NewPersonalText),
			Neighborhood: wrapped(r.Address.V.Neighborhood, kyc.NewPersonalText),
			City:         r.Address.V.City,
			State:        r.Address.V.State,
			PostalCode:   kyc.NewPersonalText(r.Address.V.PostalCode),
			Country:      r.Address.V.Country,
		},
		Gender:            (*kyc.Gender)(r.Gender),
		Nationality:       r.Nationality,
		MonthlyIncome:     wrapped(r.MonthlyIncome, kyc.NewCents),
		Occupation:        wrapped(r.Occupation, kyc.NewPersonalText),
		MotherName:        wrapped(r.MotherName, kyc.NewName),
		FatherName:        wrapped(r.FatherName, kyc.NewName),
		FaceRecognitionID: (*kyc.UUID)(r.FaceRecognitionID),
		SessionID:         (*kyc.UUID)(r.SessionID),
		IPAddress:         wrapped(r.IPAddress, kyc.NewPersonalText),
		DeviceFingerprint: wrapped(r.DeviceFingerprint, kyc.NewPersonalText),
	}
	if r.DocumentNumber != nil {
		p.DocumentNumber = kyc.NewDocumentNumber(*r.DocumentNumber)
	}
	for _, e := range r.Emails.V {
		p.Emails = append(p.Emails, kyc.Email{Address: kyc.NewEmailAddress(e)})
	}
	for _, ph := range r.Phones.V {
		p.Phones = append(p.Phones, kyc.Phone{Number: kyc.NewPhoneNumber(ph.Number), Type: (*kyc.PhoneType)(ph.Type)})
	}
	return p
}

// personRow is a row of persons.
type personRow struct {
	PartnerID string `db:"partner_id"`
	ID        string `db:"id"`
	profileRow
	SourceKyc      string  `db:"source_kyc"`
	KycStatus      string  `db:"kyc_status"`
	ProviderStatus *string `db:"kyc_provider_status"`
	Reason         *string `db:"kyc_reason"`
	DecidedBy      *string `db:"kyc_decided_by"`
	DecidedAt      *micros `db:"kyc_decided_at"`
	Analyses       int     `db:"kyc_analyses"`
	LatestAnalysis string  `db:"latest_analysis_id"`
	CreatedAt      micros  `db:"created_at"`
	UpdatedAt      micros  `db:"updated_at"`
	Version        int     `db:"version"`
}

func newPersonRow(p *kyc.Person) personRow {
	return personRow{
		PartnerID: string(p.PartnerID), ID: string(p.ID), profileRow: newProfileRow(&p.Profile),
		SourceKyc: string(p.SourceKyc), KycStatus: string(p.Kyc.Status), ProviderStatus: p.Kyc.ProviderStatus, Reason: p.Kyc.Reason,
		DecidedBy: (*string)(p.Kyc.DecidedBy), DecidedAt: maybeMicros(p.Kyc.DecidedAt), Analyses: p.Kyc.Analyses,
		LatestAnalysis: string(p.LatestAnalysis),
		CreatedAt:      newMicros(p.CreatedAt), UpdatedAt: newMicros(p.UpdatedAt), Version: p.Version,
	}
}

func (r *personRow) person() *kyc.Person {
	return &kyc.Person{
		PartnerID: kyc.PartnerID(r.PartnerID), ID: kyc.PersonID(r.ID), Profile: r.profile(),
		SourceKyc: kyc.SourceKyc(r.SourceKyc),
		Kyc: kyc.KycReview{
			Status: kyc.KycStatus(r.KycStatus), ProviderStatus: r.ProviderStatus, Reason: r.Reason,
			DecidedBy: (*kyc.DecidedBy)(r.DecidedBy), DecidedAt: r.DecidedAt.maybeTime(), Analyses: r.Analyses,
		},
		LatestAnalysis: kyc.AnalysisID(r.LatestAnalysis),
		CreatedAt:      r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(), Version: r.Version,
	}
}

// registrationRow is a row of registrations. Lists leave Profile out.
type registrationRow struct {
	PersonID   string               `db:"person_id"`
	ID         string               `db:"id"`
	PartnerID  string               `db:"partner_id"`
	ExternalID *string              `db:"external_id"`
	ReceivedAt micros               `db:"received_at"`
	Payload    string               `db:"payload"`
	Profile    jsonText[profileRow] `db:"profile"`
	Outcome    string               `db:"outcome"`
}

func newRegistrationRow(r *kyc.Registration) registrationRow {
	return registrationRow{
		PersonID: string(r.PersonID), ID: string(r.ID), PartnerID: string(r.PartnerID), ExternalID: r.ExternalID,
		ReceivedAt: newMicros(r.ReceivedAt), Payload: string(r.Payload), Profile: jsonText[profileRow]{newProfileRow(&r.Profile)}, Outcome: string(r.Outcome),
	}
}

func (r *registrationRow) registration() *kyc.Registration {
	return &kyc.Registration{
		PersonID: kyc.PersonID(r.PersonID), ID: kyc.RegistrationID(r.ID), PartnerID: kyc.PartnerID(r.PartnerID), ExternalID: r.ExternalID,
		ReceivedAt: r.ReceivedAt.time(), Payload: kyc.JSON(r.Payload), Outcome: kyc.RegistrationOutcome(r.Outcome),
	}
}

// analysisRow is a row of analyses.
type analysisRow struct {
	ID             string  `db:"id"`
	PartnerID      string  `db:"partner_id"`
	PersonID       string  `db:"person_id"`
	RegistrationID string  `db:"registration_id"`
	Provider       string  `db:"provider"`
	Submission     string  `db:"submission"`
	Status         string  `db:"status"`
	ProviderStatus string  `db:"provider_status"`
	ProviderKey    string  `db:"provider_key"`
	Reason         string  `db:"reason"`
	DecidedBy      *string `db:"decided_by"`
	DecidedAt      *micros `db:"decided_at"`
	CreatedAt      micros  `db:"created_at"`
	UpdatedAt      micros  `db:"updated_at"`
}

func newAnalysisRow(a *kyc.Analysis) analysisRow {
	return analysisRow{
		ID: string(a.ID), PartnerID: string(a.PartnerID), PersonID: string(a.PersonID), RegistrationID: string(a.RegistrationID),
		Provider: a.Provider, Submission: string(a.Submission), Status: string(a.Status),
		ProviderStatus: a.ProviderStatus, ProviderKey: a.ProviderKey, Reason: a.Reason,
		DecidedBy: (*string)(a.DecidedBy), DecidedAt: maybeMicros(a.DecidedAt),
		CreatedAt: newMicros(a.CreatedAt), UpdatedAt: newMicros(a.UpdatedAt),
	}
}

func (r *analysisRow) analysis() *kyc.Analysis {
	return &kyc.Analysis{
		ID: kyc.AnalysisID(r.ID), PartnerID: kyc.PartnerID(r.PartnerID), PersonID: kyc.PersonID(r.PersonID), RegistrationID: kyc.RegistrationID(r.RegistrationID),
		Provider: r.Provider, Submission: kyc.Submission(r.Submission), Status: kyc.KycStatus(r.Status),
		ProviderStatus: r.ProviderStatus, ProviderKey: r.ProviderKey, Reason: r.Reason,
		DecidedBy: (*kyc.DecidedBy)(r.DecidedBy), DecidedAt: r.DecidedAt.maybeTime(),
		CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(),
	}
}

// jobRow is a row of jobs.
type jobRow struct {
	ID        string `db:"id"`
	Kind      string `db:"kind"`
	PartnerID string `db:"partner_id"`
	Subject   string `db:"subject"`
	RunAt     micros `db:"run_at"`
	Leased    bool   `db:"leased"`
	Hinted    bool   `db:"hinted"`
	Attempt   int    `db:"attempt"`
	Failures  int    `db:"failures"`
	CreatedAt micros `db:"created_at"`
}

func newJobRow(j *kyc.Job) jobRow {
	return jobRow{
		ID: string(j.ID), Kind: string(j.Kind), PartnerID: string(j.PartnerID), Subject: j.Subject, RunAt: newMicros(j.RunAt),
		Leased: j.Leased, Hinted: j.Hinted, Attempt: j.Attempt, Failures: j.Failures, CreatedAt: newMicros(j.CreatedAt),
	}
}

func (r *jobRow) job() *kyc.Job {
	return &kyc.Job{
		ID: kyc.JobID(r.ID), Kind: kyc.JobKind(r.Kind), PartnerID: kyc.PartnerID(r.PartnerID), Subject: r.Subject, RunAt: r.RunAt.time(),
		Leased: r.Leased, Hinted: r.Hinted, Attempt: r.Attempt, Failures: r.Failures, CreatedAt: r.CreatedAt.time(),
	}
}

// idempotencyRow is a row of idempotency_keys.
type idempotencyRow struct {
	PartnerID    string `db:"partner_id"`
	Key          string `db:"key"`
	Mutation     string `db:"mutation"`
	RequestHash  []byte `db:"request_hash"`
	PersonID     string `db:"person_id"`
	Registration string `db:"registration_id"`
	AnalysisID   string `db:"analysis_id"`
	CreatedAt    micros `db:"created_at"`
}

func newIdempotencyRow(a *kyc.IdempotentAnswer) idempotencyRow {
	return idempotencyRow{
		PartnerID: string(a.PartnerID), Key: a.Key, Mutation: a.Mutation, RequestHash: notNil(a.RequestHash),
		PersonID: string(a.PersonID), Registration: string(a.Registration), AnalysisID: string(a.Analysis), CreatedAt: newMicros(a.CreatedAt),
	}
}

func (r *idempotencyRow) answer() *kyc.IdempotentAnswer {
	return &kyc.IdempotentAnswer{
		PartnerID: kyc.PartnerID(r.PartnerID), Key: r.Key, Mutation: r.Mutation, RequestHash: r.RequestHash,
		PersonID: kyc.PersonID(r.PersonID), Registration: kyc.RegistrationID(r.Registration), Analysis: kyc.AnalysisID(r.AnalysisID), CreatedAt: r.CreatedAt.time(),
	}
}

// micros is an instant as the database keeps it: microseconds since 1970, UTC.
type micros int64

func newMicros(t time.Time) micros { return micros(t.UnixMicro()) }

func maybeMicros(t *time.Time) *micros {
	if t == nil {
		return nil
	}
	m := newMicros(*t)
	return &m
}

func (m micros) time() time.Time { return time.UnixMicro(int64(m)).UTC() }

func (m *micros) maybeTime() *time.Time {
	if m == nil {
		return nil
	}
	t := m.time()
	return &t
}

// jsonText is a value kept as JSON in a TEXT column; inside another JSON document it is just the value.
type jsonText[T any] struct{ V T }

func (j jsonText[T]) Value() (driver.Value, error) {
	b, err := json.Marshal(j.V)
	return string(b), err
}

func (j *jsonText[T]) Scan(src any) error {
	s, ok := src.(string)
	if !ok {
		return errors.New("not a text")
	}
	return json.Unmarshal([]byte(s), &j.V)
}

func (j jsonText[T]) MarshalJSON() ([]byte, error)  { return json.Marshal(j.V) }
func (j *jsonText[T]) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &j.V) }

func revealed[T interface{ Reveal() string }](v *T) *string {
	if v == nil {
		return nil
	}
	s := (*v).Reveal()
	return &s
}

func wrapped[V, T any](v *V, wrap func(V) T) *T {
	if v == nil {
		return nil
	}
	t := wrap(*v)
	return &t
}

// notNil keeps an empty slice from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
