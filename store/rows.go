package store

import (
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// The structs of this file are the only place where personal values are plain strings on their way between
// package kyc and the database. They are never logged and never leave the package.

// profileRow is a kyc.Profile as the JSON document that is sealed in persons and in registrations. The types of package kyc
// cannot serve here: they redact themselves in JSON.
type profileRow struct {
	DocumentNumber    *string  `json:"document_number,omitempty"`
	Name              string   `json:"name"`
	Birthdate         string   `json:"birthdate"`
	Emails            []string `json:"emails"`
	Phones            []phone  `json:"phones"`
	Address           address  `json:"address"`
	Gender            *string  `json:"gender,omitempty"`
	Nationality       *string  `json:"nationality,omitempty"`
	MonthlyIncome     *int64   `json:"monthly_income,omitempty"`
	Occupation        *string  `json:"occupation,omitempty"`
	MotherName        *string  `json:"mother_name,omitempty"`
	FatherName        *string  `json:"father_name,omitempty"`
	FaceRecognitionID *string  `json:"face_recognition_id,omitempty"`
	SessionID         *string  `json:"session_id,omitempty"`
	IPAddress         *string  `json:"ip_address,omitempty"`
	DeviceFingerprint *string  `json:"device_fingerprint,omitempty"`
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
		Emails:    make([]string, len(p.Emails)),
		Phones:    make([]phone, len(p.Phones)),
		Address: address{
			Street:       p.Address.Street.Reveal(),
			Number:       revealed(p.Address.Number),
			Complement:   revealed(p.Address.Complement),
			Neighborhood: revealed(p.Address.Neighborhood),
			City:         p.Address.City,
			State:        p.Address.State,
			PostalCode:   p.Address.PostalCode.Reveal(),
			Country:      p.Address.Country,
		},
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
		r.Emails[i] = e.Address.Reveal()
	}
	for i, ph := range p.Phones {
		r.Phones[i] = phone{Number: ph.Number.Reveal(), Type: (*string)(ph.Type)}
	}
	return r
}

func (r *profileRow) profile() kyc.Profile {
	p := kyc.Profile{
		Name:      kyc.NewName(r.Name),
		Birthdate: kyc.NewDate(r.Birthdate),
		Address: kyc.Address{
			Street:       kyc.NewPersonalText(r.Address.Street),
			Number:       wrapped(r.Address.Number, kyc.NewPersonalText),
			Complement:   wrapped(r.Address.Complement, kyc.NewPersonalText),
			Neighborhood: wrapped(r.Address.Neighborhood, kyc.NewPersonalText),
			City:         r.Address.City,
			State:        r.Address.State,
			PostalCode:   kyc.NewPersonalText(r.Address.PostalCode),
			Country:      r.Address.Country,
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
	for _, e := range r.Emails {
		p.Emails = append(p.Emails, kyc.Email{Address: kyc.NewEmailAddress(e)})
	}
	for _, ph := range r.Phones {
		p.Phones = append(p.Phones, kyc.Phone{Number: kyc.NewPhoneNumber(ph.Number), Type: (*kyc.PhoneType)(ph.Type)})
	}
	return p
}

// personRow is a row of persons, with the key that opens it.
type personRow struct {
	PartnerID string `db:"partner_id"`
	ID        string `db:"id"`
	wrappedKey
	DocumentIndex  []byte  `db:"document_index"`
	SealedProfile  []byte  `db:"sealed_profile"`
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

// documentField is the field of a blind index over document numbers.
const documentField = "document_number"

func (t *tx) personRow(q *session, p *kyc.Person) (personRow, error) {
	r := personRow{
		PartnerID: string(p.PartnerID), ID: string(p.ID),
		SourceKyc: string(p.SourceKyc), KycStatus: string(p.Kyc.Status), ProviderStatus: p.Kyc.ProviderStatus, Reason: p.Kyc.Reason,
		DecidedBy: (*string)(p.Kyc.DecidedBy), DecidedAt: maybeMicros(p.Kyc.DecidedAt), Analyses: p.Kyc.Analyses,
		LatestAnalysis: string(p.LatestAnalysis),
		CreatedAt:      newMicros(p.CreatedAt), UpdatedAt: newMicros(p.UpdatedAt), Version: p.Version,
	}
	if !p.DocumentNumber.Empty() {
		r.DocumentIndex = t.crypt.index(p.PartnerID, documentField, p.DocumentNumber.Reveal())
	}
	k, err := t.keyFor(q, p.PartnerID, string(p.ID))
	if err != nil {
		return r, err
	}
	r.SealedProfile, err = k.sealJSON("persons", "profile", r.ID, newProfileRow(&p.Profile))
	return r, err
}

func (r *personRow) person(c *crypt, q *session) (*kyc.Person, error) {
	k, err := c.open(q, kyc.PartnerID(r.PartnerID), r.ID, r.wrappedKey)
	if err != nil {
		return nil, err
	}
	var profile profileRow
	if err := k.unsealJSON("persons", "profile", r.ID, r.SealedProfile, &profile); err != nil {
		return nil, err
	}
	return &kyc.Person{
		PartnerID: kyc.PartnerID(r.PartnerID), ID: kyc.PersonID(r.ID), Profile: profile.profile(),
		SourceKyc: kyc.SourceKyc(r.SourceKyc),
		Kyc: kyc.KycReview{
			Status: kyc.KycStatus(r.KycStatus), ProviderStatus: r.ProviderStatus, Reason: r.Reason,
			DecidedBy: (*kyc.DecidedBy)(r.DecidedBy), DecidedAt: r.DecidedAt.maybeTime(), Analyses: r.Analyses,
		},
		LatestAnalysis: kyc.AnalysisID(r.LatestAnalysis),
		CreatedAt:      r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(), Version: r.Version,
	}, nil
}

// registrationRow is a row of registrations, with the key that opens it. Lists leave the profile out.
type registrationRow struct {
	PersonID  string `db:"person_id"`
	ID        string `db:"id"`
	PartnerID string `db:"partner_id"`
	wrappedKey
	ExternalIndex    []byte `db:"external_index"`
	ReceivedAt       micros `db:"received_at"`
	SealedExternalID []byte `db:"sealed_external_id"`
	SealedPayload    []byte `db:"sealed_payload"`
	SealedProfile    []byte `db:"sealed_profile"`
	Outcome          string `db:"outcome"`
}

func (t *tx) registrationRow(q *session, r *kyc.Registration) (row registrationRow, err error) {
	row = registrationRow{
		PersonID: string(r.PersonID), ID: string(r.ID), PartnerID: string(r.PartnerID),
		ExternalIndex: t.crypt.indexOf(r.PartnerID, externalIDField, r.ExternalID),
		ReceivedAt:    newMicros(r.ReceivedAt), Outcome: string(r.Outcome),
	}
	k, err := t.keyFor(q, r.PartnerID, string(r.PersonID))
	if err != nil {
		return row, err
	}
	if r.ExternalID != nil {
		if row.SealedExternalID, err = k.seal("registrations", "external_id", row.ID, []byte(*r.ExternalID)); err != nil {
			return row, err
		}
	}
	if row.SealedPayload, err = k.seal("registrations", "payload", row.ID, r.Payload); err != nil {
		return row, err
	}
	row.SealedProfile, err = k.sealJSON("registrations", "profile", row.ID, newProfileRow(&r.Profile))
	return row, err
}

// registration opens a row. Without a sealed profile, as in lists, Profile stays empty.
func (r *registrationRow) registration(c *crypt, q *session) (*kyc.Registration, error) {
	k, err := c.open(q, kyc.PartnerID(r.PartnerID), r.PersonID, r.wrappedKey)
	if err != nil {
		return nil, err
	}
	out := &kyc.Registration{
		PersonID: kyc.PersonID(r.PersonID), ID: kyc.RegistrationID(r.ID), PartnerID: kyc.PartnerID(r.PartnerID),
		ReceivedAt: r.ReceivedAt.time(), Outcome: kyc.RegistrationOutcome(r.Outcome),
	}
	if r.SealedExternalID != nil {
		id, err := k.unseal("registrations", "external_id", r.ID, r.SealedExternalID)
		if err != nil {
			return nil, err
		}
		out.ExternalID = new(string(id))
	}
	payload, err := k.unseal("registrations", "payload", r.ID, r.SealedPayload)
	if err != nil {
		return nil, err
	}
	out.Payload = payload
	if r.SealedProfile != nil {
		if out.Profile, err = r.profile(k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *registrationRow) profile(k *dataKey) (kyc.Profile, error) {
	var profile profileRow
	if err := k.unsealJSON("registrations", "profile", r.ID, r.SealedProfile, &profile); err != nil {
		return kyc.Profile{}, err
	}
	return profile.profile(), nil
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

// callRow is a row of provider_calls.
type callRow struct {
	PartnerID string  `db:"partner_id"`
	Provider  string  `db:"provider"`
	Operation string  `db:"operation"`
	Reference string  `db:"reference"`
	Number    int     `db:"number"`
	StartedAt micros  `db:"started_at"`
	Outcome   *string `db:"outcome"`
	Code      string  `db:"code"`
	EndedAt   *micros `db:"ended_at"`
}

func (r *callRow) call() kyc.Call {
	c := kyc.Call{
		PartnerID: kyc.PartnerID(r.PartnerID), Provider: r.Provider, Operation: r.Operation, Reference: r.Reference, Number: r.Number,
		StartedAt: r.StartedAt.time(), Code: r.Code, EndedAt: r.EndedAt.maybeTime(),
	}
	if r.Outcome != nil {
		c.Outcome = kyc.CallOutcome(*r.Outcome)
	}
	return c
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
	KeyIndex     []byte `db:"key_index"`
	Mutation     string `db:"mutation"`
	RequestIndex []byte `db:"request_index"`
	PersonID     string `db:"person_id"`
	ObjectID     string `db:"object_id"`
	AnalysisID   string `db:"analysis_id"`
	CreatedAt    micros `db:"created_at"`
}

func (r *idempotencyRow) answer(key string) *kyc.IdempotentAnswer {
	return &kyc.IdempotentAnswer{
		PartnerID: kyc.PartnerID(r.PartnerID), Key: key, Mutation: r.Mutation,
		PersonID: kyc.PersonID(r.PersonID), ObjectID: r.ObjectID, Analysis: kyc.AnalysisID(r.AnalysisID), CreatedAt: r.CreatedAt.time(),
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
