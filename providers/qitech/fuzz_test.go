package qitech

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Whatever a 2xx answer holds, only the two explicit words of each kind decide, and nothing but codes is
// passed on.
func FuzzReadVerdict(f *testing.F) {
	for _, name := range []string{"testdata/answer_submitted.json", "testdata/answer_fetched.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"analysis_status":"pending","reason":1,"analysis_status_events":{"new_status":[]}}`))
	f.Add([]byte(`{"analysis_status":"pending","analysis_status_events":[{"new_status":"pending","analysis_output":[]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := readVerdict("test", "ana_1", httpjson.Response{Status: 200, Body: body})
		if err != nil {
			if kyc.KindOf(err) != kyc.Ambiguous || v != (kyc.Verdict{}) {
				t.Errorf("%+v, %v", v, err)
			}
			return
		}
		for _, s := range []string{v.ProviderStatus, v.ProviderKey, v.Reason} {
			if kyc.CodeLike(s) != s {
				t.Errorf("passed on %q", s)
			}
		}
		var a struct {
			Status string          `json:"analysis_status"`
			Events json.RawMessage `json:"analysis_status_events"`
		}
		_ = json.Unmarshal(body, &a)
		if a.Status == "" { // told in the events only; TestNewestStatus holds which of them counts
			a.Status = string(newestStatus(a.Events))
		}
		approved := a.Status == "automatically_approved" || a.Status == "manually_approved"
		rejected := a.Status == "automatically_reproved" || a.Status == "manually_reproved"
		if approved != (v.Status == kyc.KycApproved) || rejected != (v.Status == kyc.KycRejected) || v.Status.Final() != (v.DecidedBy != nil) {
			t.Errorf("%q became %+v", a.Status, v)
		}
	})
}

// Refusals of any shape map to a kind the job understands and to a path into our input.
func FuzzRefusal(f *testing.F) {
	f.Add(400, []byte(`{"title":"Invalid request","description":"document_number"}`))
	f.Add(422, []byte(`{"title":"image_quality","image_status":"not_center"}`))
	f.Add(400, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status != 400 && status != 422 {
			return
		}
		cause := &kyc.Error{Kind: kyc.Internal, Op: "test"}
		err := submissionError("test", httpjson.Response{Status: status, Body: body}, cause)
		switch kyc.KindOf(err) {
		case kyc.Rejected, kyc.Internal, kyc.Conflict, kyc.Credentials:
		default:
			t.Errorf("%v", err)
		}
	})
}

func TestPhones(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]wirePhone{
		"+5511987654321":  {InternationalDialCode: "55", AreaCode: "11", Number: "987654321"},
		"+551132654321":   {InternationalDialCode: "55", AreaCode: "11", Number: "32654321"},
		"+5540041234":     {InternationalDialCode: "55", Number: "40041234"}, // nationwide
		"+12125550123":    {InternationalDialCode: "1", AreaCode: "212", Number: "5550123"},
		"+442079460000":   {InternationalDialCode: "44", AreaCode: "20", Number: "79460000"},
		"+447911123456":   {InternationalDialCode: "44", Number: "7911123456"}, // a mobile has no area there
		"+351912345678":   {InternationalDialCode: "351", Number: "912345678"},
		"+390612345678":   {InternationalDialCode: "39", AreaCode: "06", Number: "12345678"},  // the zero is part of it
		"+5491123456789":  {InternationalDialCode: "54", AreaCode: "911", Number: "23456789"}, // the mobile 9 belongs to the area
		"not normalised":  {Number: "not normalised"},
		"+999":            {Number: "999"},
		"+59899123456":    {InternationalDialCode: "598", Number: "99123456"},
		"+8613812345678":  {InternationalDialCode: "86", Number: "13812345678"},
		"+5521999999999":  {InternationalDialCode: "55", AreaCode: "21", Number: "999999999"},
		"+4930123456":     {InternationalDialCode: "49", AreaCode: "30", Number: "123456"},
		"+97144123456":    {InternationalDialCode: "971", AreaCode: "4", Number: "4123456"},
		"+55119876543210": {InternationalDialCode: "55", AreaCode: "11", Number: "9876543210"}, // too long: theirs to refuse
	} {
		if got := phone(kyc.Phone{Number: kyc.NewPhoneNumber(number)}); got != want {
			t.Errorf("%s: got %+v, want %+v", number, got, want)
		}
	}
}

func TestSmallMappings(t *testing.T) {
	t.Parallel()
	other := kyc.GenderOther
	male := kyc.GenderMale
	for _, tt := range []struct{ got, want string }{
		{gender(nil, GenderUndefined), ""},
		{gender(&other, ""), ""},
		{gender(&other, GenderOmit), ""},
		{gender(&other, GenderUndefined), "undefined"},
		{gender(&male, GenderUndefined), "male"},
		{maskCPF("11111111111"), "111.111.111-11"},
		{maskCPF("123"), "123"},
		{postalCode("01310100", "BRA"), "01310-100"},
		{postalCode("01310-100", "BRA"), "01310-100"},
		{postalCode("12345678", "USA"), "12345678"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	ip := func(s string) kyc.Profile {
		text := kyc.NewPersonalText(s)
		return kyc.Profile{IPAddress: &text}
	}
	if got := source(ip("2001:db8::1")); got != nil {
		t.Errorf("IPv6 was sent: %+v", got)
	}
	if got := source(ip("::ffff:203.0.113.7")); got == nil || got.IP != "203.0.113.7" {
		t.Errorf("got %+v", got)
	}
	if got := source(kyc.Profile{}); got != nil {
		t.Errorf("got %+v", got)
	}
}
