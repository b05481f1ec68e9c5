package leap

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

const (
	opRegisterProspect = Name + ".register_prospect"
	opFetchProspect    = Name + ".fetch_prospect"
	opUpdateProspect   = Name + ".update_prospect"
)

// registerProspect asks for a registration (dossier A2).
func (l *leap) registerProspect(ctx context.Context, r kyc.ProspectRequest) (kyc.ProspectVerdict, error) {
	return l.submit(ctx, opRegisterProspect, registerPath, r)
}

// updateProspect sends corrected data (ours, see Config.UpdatePath).
func (l *leap) updateProspect(ctx context.Context, r kyc.ProspectRequest) (kyc.ProspectVerdict, error) {
	return l.submit(ctx, opUpdateProspect, l.updatePath, r)
}

func (l *leap) submit(ctx context.Context, op, path string, r kyc.ProspectRequest) (kyc.ProspectVerdict, error) {
	resp, err := l.http.Do(ctx, httpjson.Request{Op: op, Method: http.MethodPost, Path: path, Body: wireProspect(r.Profile)})
	if err != nil {
		return kyc.ProspectVerdict{}, submissionError(op, resp, err)
	}
	return readVerdict(op, resp)
}

// fetchProspect looks a person up by phone or by e-mail (dossier A3).
func (l *leap) fetchProspect(ctx context.Context, id kyc.Identity) (kyc.ProspectVerdict, error) {
	resp, err := l.http.Do(ctx, httpjson.Request{Op: opFetchProspect, Method: http.MethodPost, Path: lookUpPath, Body: wireIdentity(id)})
	if err != nil {
		return kyc.ProspectVerdict{}, lookUpError(resp, err)
	}
	return readVerdict(opFetchProspect, resp)
}

// The wire structs hold revealed personal data. They live as long as one call and are handed to nothing that
// prints.

// user is the body of a registration (dossier A2.1). What is optional and unknown is left out, never sent empty.
type user struct {
	PhoneNumber           string   `json:"phoneNumber"`
	Email                 string   `json:"email,omitempty"`
	FirstName             string   `json:"firstName"`
	MiddleName            string   `json:"middleName,omitempty"`
	LastName              string   `json:"lastName"`
	LastName2             string   `json:"lastName2,omitempty"`
	DOB                   string   `json:"dob,omitempty"`
	Gender                string   `json:"gender,omitempty"`
	Address1              string   `json:"address1"`
	Address2              string   `json:"address2,omitempty"`
	CountryCode           string   `json:"countryCode"`
	City                  string   `json:"city"`
	State                 string   `json:"state"`
	ZipCode               string   `json:"zipCode,omitempty"`
	BirthState            string   `json:"birthState,omitempty"`
	Lang                  string   `json:"lang,omitempty"`
	PlaceDetail           string   `json:"placeDetail,omitempty"` // JSON inside a string
	Latitude              *float64 `json:"latitude,omitempty"`
	Longitude             *float64 `json:"longitude,omitempty"`
	CallLocationLatitude  *float64 `json:"callLocationLatitude,omitempty"`
	CallLocationLongitude *float64 `json:"callLocationLongitude,omitempty"`
}

// identity is the body of a look-up. One of phone and e-mail is sent.
type identity struct {
	PhoneNumber string `json:"phoneNumber,omitempty"`
	CountryCode string `json:"countryCode,omitempty"` // of the number
	Email       string `json:"email,omitempty"`
}

// answer is what all three endpoints answer (dossier A2.3, A3).
type answer struct {
	UserID       lenient `json:"userId"`
	Status       lenient `json:"status"`
	StatusDetail lenient `json:"statusDetail"`
}

// refusal is the body of an error (dossier A7). It may as well be empty or no JSON.
type refusal struct {
	Reason lenient `json:"reason"`
	Code   lenient `json:"code"`
}

// lenient is a string where the schema is not official: null, numbers and objects read as "", so that a field we can
// do without cannot make an answer unreadable.
type lenient string

func (l *lenient) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*l = lenient(s)
	}
	return nil
}

// readVerdict reads a 2xx. Without a userId it is no answer.
func readVerdict(op string, resp httpjson.Response) (kyc.ProspectVerdict, error) {
	var a answer
	if err := httpjson.Decode(op, resp, &a); err != nil {
		return kyc.ProspectVerdict{}, err
	}
	if !isUserID(string(a.UserID)) {
		return kyc.ProspectVerdict{}, httpjson.BadAnswer(op)
	}
	return verdict(a), nil
}

// submissionError judges the statuses of a registration that httpjson leaves to us or cannot know (dossier A7).
func submissionError(op string, resp httpjson.Response, err error) error {
	if kyc.KindOf(err) == kyc.Ambiguous || resp.Status < 400 || resp.Status > 499 {
		return err // no answer, or none that was read to its end
	}
	r, readable := readRefusal(resp)
	if duplicate, code := duplicateOf(r); duplicate {
		return &kyc.Error{Kind: kyc.Conflict, Op: op, Code: code, Err: errDuplicate}
	}
	switch resp.Status {
	case http.StatusNotFound: // of an action: the path is wrong, which is our mistake
		return internal(op, resp.Status)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if !readable {
			return internal(op, resp.Status)
		}
		return rejection(op, resp.Status, r)
	}
	return err
}

// lookUpError tells "there is nobody" (404, USER_NOT_FOUND: dossier A7) from a path that is not Leap's, whose 404 is a
// page or a framework's JSON: after it a registration would be sent again to somebody who is there. A 404 without a body says
// nothing else and is taken for the first (ours).
func lookUpError(resp httpjson.Response, err error) error {
	if kyc.KindOf(err) == kyc.Ambiguous || resp.Status < 400 || resp.Status > 499 {
		return err
	}
	r, _ := readRefusal(resp)
	notFound := resp.Status == http.StatusNotFound
	switch {
	case saysNotFound(r), notFound && (len(resp.Body) == 0 || namesNobody(r)):
		return &kyc.Error{Kind: kyc.NotFound, Op: opFetchProspect, Code: httpjson.StatusCode(resp.Status), Err: errNobody}
	case notFound:
		return internal(opFetchProspect, resp.Status)
	}
	return err
}

// readRefusal reads the body of an error; readable says whether it is a JSON object.
func readRefusal(resp httpjson.Response) (r refusal, readable bool) {
	err := json.Unmarshal(resp.Body, &r)
	return r, err == nil && len(resp.Body) > 0 && string(resp.Body) != "null"
}

func internal(op string, status int) error {
	return &kyc.Error{Kind: kyc.Internal, Op: op, Code: httpjson.StatusCode(status), Err: errOurs}
}

var (
	errOurs      = errors.New("the request was not understood")
	errRefused   = errors.New("the data was refused")
	errDuplicate = errors.New("the phone or e-mail address is registered already")
	errNobody    = errors.New("nobody is registered so")
)
