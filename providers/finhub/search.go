package finhub

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Codes of look-ups that tell nothing.
const (
	codeSeveral = "several_customers"
	codeAnother = "another_customer"
)

// findCustomer looks a customer up by e-mail address; see [Config.SearchPath]. The address is in the body: URLs end up
// in logs. FinHub documents no such path, so only what says in so many words that nobody is there is NotFound: an
// upstream without the path answers 404 too.
func (f *finhub) findCustomer(ctx context.Context, r kyc.CustomerSearch) (kyc.FoundCustomer, error) {
	resp, err := f.call(ctx, r.Tenant, httpjson.Request{
		Op: opFind, Method: http.MethodPost, Path: f.config.SearchPath, Body: searchRequest{r.Email.Reveal()},
	})
	switch {
	case saysNobody(resp, err):
		return kyc.FoundCustomer{}, &kyc.Error{Kind: kyc.NotFound, Op: opFind, Code: "not_found", Err: errRefused}
	case kyc.KindOf(err) == kyc.NotFound && err != nil: // of the path
		return kyc.FoundCustomer{}, &kyc.Error{Kind: kyc.Internal, Op: opFind, Code: httpjson.StatusCode(resp.Status), Err: errRefused}
	case err != nil:
		return kyc.FoundCustomer{}, err
	}
	list, ok := customersIn(resp.Body)
	switch {
	case !ok:
		return kyc.FoundCustomer{}, httpjson.BadAnswer(opFind)
	case len(list) == 0:
		return kyc.FoundCustomer{}, &kyc.Error{Kind: kyc.NotFound, Op: opFind, Code: "not_found", Err: errRefused}
	case len(list) > 1:
		return kyc.FoundCustomer{}, &kyc.Error{Kind: kyc.Internal, Op: opFind, Code: codeSeveral, Err: errRefused}
	}
	return foundCustomer(list[0], r.Email)
}

// nobody is how FinHub says that there is no such customer: "Customer not found" (dossier B5.1), "User not found" (B4); its other
// spellings are ours.
var nobody = regexp.MustCompile(`\b(CUSTOMER|USER|INDIVIDUAL|PERSON)S?( WITH .*)?[ _]((WAS|IS|DOES|COULD) )?NOT[ _](BE )?(FOUND|EXIST)|\bNO (SUCH )?(CUSTOMER|USER)\b`)

// saysNobody reports whether an answer is an explicit "not there": FinHub's own envelope (dossier B11), with words for it.
func saysNobody(resp httpjson.Response, err error) bool {
	answered := err == nil || resp.Status == http.StatusNotFound || asCode(err) == codeNotDone
	r, readable := readRefusal(resp.Body)
	if !answered || !readable || r.Code == "" && !r.Success.given {
		return false
	}
	for _, t := range r.texts() {
		if nobody.MatchString(t) {
			return true
		}
	}
	return false
}

// customersIn gives the customers of an answer in its shapes: one, a list, or a page of them, at the root or in `data`. Nothing at all
// counts as none where the envelope says that the call succeeded.
func customersIn(body []byte) (list []json.RawMessage, ok bool) {
	if isList(body) {
		return list, json.Unmarshal(body, &list) == nil
	}
	var root map[string]json.RawMessage
	if json.Unmarshal(body, &root) != nil || root == nil {
		return nil, false
	}
	data, wrapped := root["data"]
	switch {
	case !wrapped:
		data = body
	case isList(data):
		return list, json.Unmarshal(data, &list) == nil
	case !isObject(data):
		return nil, string(data) == "null" && succeeded(body)
	}
	var one map[string]json.RawMessage
	if json.Unmarshal(data, &one) != nil {
		return nil, false
	}
	for _, name := range []string{"content", "customers"} {
		if isList(one[name]) {
			return list, json.Unmarshal(one[name], &list) == nil
		}
	}
	if len(one) == 0 {
		return nil, wrapped && succeeded(body)
	}
	return []json.RawMessage{data}, true
}

func isList(raw json.RawMessage) bool {
	return strings.HasPrefix(strings.TrimLeft(string(raw), " \t\r\n"), "[")
}

// succeeded reports whether an envelope says that the call did.
func succeeded(body []byte) bool {
	r, _ := readRefusal(body)
	n, numbered := r.number()
	return numbered && n >= 200 && n <= 299 || r.Code == "" && r.Success.value
}

// toldAnswer is what an answer about a customer tells of the person, in the spellings of dossier B3.1, B4 and B9.
type toldAnswer struct {
	toldPerson
	CustomerName       text               `json:"customerName"`
	Person             object[toldPerson] `json:"person"`
	User               object[toldPerson] `json:"user"`
	IndividualCustomer object[struct {
		Person object[toldPerson] `json:"person"`
	}] `json:"individualCustomer"`
}

type toldPerson struct {
	FirstName        wireName               `json:"firstName"`
	LastName         wireName               `json:"lastName"`
	FullName         text                   `json:"fullName"`
	Email            text                   `json:"email"`
	Username         text                   `json:"username"`
	Phone            text                   `json:"phone"`
	PhoneNumber      text                   `json:"phoneNumber"`
	DateOfBirth      text                   `json:"dateOfBirth"`
	Contacts         lenient[[]toldContact] `json:"contacts"`
	TelephoneNumbers lenient[[]toldContact] `json:"telephoneNumbers"`
}

type toldContact struct {
	Type   text `json:"type"`
	Value  text `json:"value"`
	Number text `json:"number"`
}

// wireName is a name as a string or as the structured form of dossier B9.
type wireName string

func (n *wireName) UnmarshalJSON(b []byte) error {
	var t text
	var structured object[struct {
		Name text `json:"name"`
	}]
	_, _ = t.UnmarshalJSON(b), structured.UnmarshalJSON(b) // neither fails
	*n = wireName(first(string(t), string(structured.V.Name)))
	return nil
}

// foundCustomer reads the one customer that was found. One with another e-mail address was not looked for.
func foundCustomer(raw json.RawMessage, email kyc.EmailAddress) (kyc.FoundCustomer, error) {
	var a customerAnswer
	var told toldAnswer
	if !isObject(raw) || json.Unmarshal(raw, &a) != nil || json.Unmarshal(raw, &told) != nil {
		return kyc.FoundCustomer{}, httpjson.BadAnswer(opFind)
	}
	v, err := customerVerdict(opFind, a)
	if err != nil {
		return kyc.FoundCustomer{}, err
	}
	found := kyc.FoundCustomer{CustomerVerdict: v}
	var firstName, lastName, birthdate string
	fullName := string(told.CustomerName)
	for _, p := range []toldPerson{told.Person.V, told.IndividualCustomer.V.Person.V, told.toldPerson, told.User.V} {
		for _, address := range []text{p.Email, p.Username} {
			if strings.Contains(string(address), "@") && !strings.EqualFold(strings.TrimSpace(string(address)), email.Reveal()) && !strings.Contains(string(address), "*") {
				return kyc.FoundCustomer{}, &kyc.Error{Kind: kyc.Internal, Op: opFind, Code: codeAnother, Err: errRefused}
			}
		}
		firstName, lastName, fullName = first(firstName, string(p.FirstName)), first(lastName, string(p.LastName)), first(fullName, string(p.FullName))
		birthdate = first(birthdate, string(p.DateOfBirth))
		for _, number := range p.phones() {
			found.Phones = append(found.Phones, kyc.NewPhoneNumber(number))
		}
	}
	found.FirstName, found.LastName, found.FullName = kyc.NewName(firstName), kyc.NewName(lastName), kyc.NewName(fullName)
	found.Birthdate = kyc.NewDate(birthdate)
	return found, nil
}

func (p toldPerson) phones() (numbers []string) {
	for _, t := range []text{p.Phone, p.PhoneNumber} {
		if t != "" {
			numbers = append(numbers, string(t))
		}
	}
	for _, c := range append(p.Contacts.V, p.TelephoneNumbers.V...) {
		if number := first(string(c.Number), string(c.Value)); number != "" && c.Type != "EMAIL" {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
