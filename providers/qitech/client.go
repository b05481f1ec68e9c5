package qitech

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const (
	opAnalyzePerson       = Name + ".analyze_person"
	opFetchPersonAnalysis = Name + ".fetch_person_analysis"
)

// analyzePerson submits a person for analysis (dossier A.3, A.4).
func (q *qitech) analyzePerson(ctx context.Context, r kyc.PersonAnalysisRequest) (kyc.Verdict, error) {
	resp, err := q.http.Do(ctx, httpjson.Request{
		Op: opAnalyzePerson, Method: http.MethodPost, Path: "/onboarding/natural_person",
		Query: url.Values{"analyze": {"true"}}, // without it some registrations are not_analysed (dossier A.2)
		Body:  wirePerson(r, q.genderOther),
	})
	if err != nil {
		return kyc.Verdict{}, submissionError(opAnalyzePerson, resp, err)
	}
	return readVerdict(opAnalyzePerson, r.ID, resp)
}

// fetchPersonAnalysis reads an analysis by our id (dossier A.5).
func (q *qitech) fetchPersonAnalysis(ctx context.Context, id kyc.AnalysisID) (kyc.Verdict, error) {
	resp, err := q.http.Do(ctx, httpjson.Request{
		Op: opFetchPersonAnalysis, Method: http.MethodGet, Path: "/onboarding/natural_person/" + url.PathEscape(string(id)),
	})
	if err != nil {
		return kyc.Verdict{}, err
	}
	return readVerdict(opFetchPersonAnalysis, id, resp)
}

// The wire structs hold revealed personal data. They live as long as one call and are handed to nothing
// that prints.

// naturalPerson is the body of a submission. What is optional and unknown is left out, never sent empty.
type naturalPerson struct {
	ID               string      `json:"id"`
	RegistrationID   string      `json:"registration_id"`
	RegistrationDate string      `json:"registration_date"`
	Name             string      `json:"name"`
	DocumentNumber   string      `json:"document_number"`
	Birthdate        string      `json:"birthdate"`
	Gender           string      `json:"gender,omitempty"`
	Nationality      string      `json:"nationality,omitempty"`
	MotherName       string      `json:"mother_name,omitempty"`
	FatherName       string      `json:"father_name,omitempty"`
	MonthlyIncome    *int64      `json:"monthly_income,omitempty"`
	Occupation       string      `json:"occupation,omitempty"`
	Emails           []wireEmail `json:"emails"`
	Phones           []wirePhone `json:"phones"`
	Address          wireAddress `json:"address"`
	Source           *wireSource `json:"source,omitempty"`
	Face             *wireFace   `json:"face,omitempty"`
}

type wireEmail struct {
	Email string `json:"email"`
}

type wirePhone struct {
	InternationalDialCode string `json:"international_dial_code"`
	AreaCode              string `json:"area_code,omitempty"`
	Number                string `json:"number"`
	Type                  string `json:"type,omitempty"`
}

type wireAddress struct {
	Street       string `json:"street"`
	Number       string `json:"number,omitempty"`
	Neighborhood string `json:"neighborhood,omitempty"`
	City         string `json:"city"`
	UF           string `json:"uf"`
	Complement   string `json:"complement,omitempty"`
	PostalCode   string `json:"postal_code"`
	Country      string `json:"country"`
}

type wireSource struct {
	SessionID string `json:"session_id,omitempty"`
	IP        string `json:"ip,omitempty"`
}

type wireFace struct {
	RegistrationKey string `json:"registration_key"`
}

// naturalPersonAnswer is what both endpoints answer, as far as we read it: the person is not read back.
type naturalPersonAnswer struct {
	ID               lenient         `json:"id"`
	AnalysisStatus   lenient         `json:"analysis_status"`
	NaturalPersonKey lenient         `json:"natural_person_key"`
	Reason           lenient         `json:"reason"`
	Events           json.RawMessage `json:"analysis_status_events"` // the GET only, official schema unknown (dossier D 5)
}

type analysisEvent struct {
	NewStatus lenient `json:"new_status"`
	Date      lenient `json:"event_date"`
	Output    struct {
		Reason lenient `json:"reason"`
	} `json:"analysis_output"`
}

// refusal is the body of an error (dossier A.8). It may as well be empty or no JSON.
type refusal struct {
	Title       lenient `json:"title"`
	Description lenient `json:"description"`
	ImageStatus lenient `json:"image_status"`
}

// lenient is a string where the schema is not official: null, numbers and objects read as "", so that a
// field we can do without cannot make an answer unreadable.
type lenient string

func (l *lenient) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*l = lenient(s)
	}
	return nil
}

// readVerdict reads an answer to either call. Without a status, or about another analysis than the one asked
// for, it is no answer: nobody is approved by somebody else's verdict.
func readVerdict(op string, asked kyc.AnalysisID, resp httpjson.Response) (kyc.Verdict, error) {
	var a naturalPersonAnswer
	if err := httpjson.Decode(op, resp, &a); err != nil {
		return kyc.Verdict{}, err
	}
	if a.AnalysisStatus == "" {
		a.AnalysisStatus = newestStatus(a.Events)
	}
	if a.AnalysisStatus == "" || a.ID != "" && kyc.AnalysisID(a.ID) != asked {
		return kyc.Verdict{}, httpjson.BadAnswer(op)
	}
	return verdict(a), nil
}

// submissionError judges the statuses of a submission that httpjson leaves to us or cannot know (dossier
// A.8). 409 and 429 pass: both may mean that the id was sent before, and the job looks it up (A.9).
func submissionError(op string, resp httpjson.Response, err error) error {
	switch resp.Status {
	case http.StatusNotFound: // of a collection: the path is wrong, which is our mistake
		return internal(op, resp.Status)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if kyc.KindOf(err) == kyc.Ambiguous { // the body did not come through
			return err
		}
		var r refusal
		if json.Unmarshal(resp.Body, &r) != nil || r.Title == "" {
			return internal(op, resp.Status)
		}
		return rejection(op, resp.Status, r)
	}
	return err
}

func internal(op string, status int) error {
	return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(status), Err: errOurs}
}

var (
	errOurs    = errors.New("the request was not understood")
	errRefused = errors.New("the data was refused")
)
