package finhub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Whatever a hierarchy says, it is decoded within bounds, is safe to show and to put into a URL, and a registration
// never sends a value that is not allowed.
func FuzzDecodeHierarchy(f *testing.F) {
	files, err := filepath.Glob("testdata/hierarchy_*.json")
	if err != nil || len(files) < 6 {
		f.Fatalf("seeds: %v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		`{"data":[{"id":"a","features":[{"code":"F","mandatoryKeys":["k"],"allowedValues":{"k":["1-2"]}}]}]}`,
		`{"categories":{"..":{},"a":{"availableFeatures":{"F":{}}}},"features":["x",7,null]}`, `{"categories":{"a":{"databaseId":12}}}`,
		`{"categories":[{"id":"a","features":[{"code":"F","mandatoryKeys":["riskScore"],"allowedValues":{"riskScore":["9-1","x"]}}]}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, ok := decodeHierarchy(body)
		if !ok {
			return
		}
		if len(h.Categories) > maxCategories {
			t.Fatal("unbounded")
		}
		for _, c := range h.WithDefaults().Categories {
			if c.ID == "" || c.DatabaseID == "" || c.Name == "" || id(c.ID) != c.ID || id(c.DatabaseID) != c.DatabaseID {
				t.Fatalf("category %q %q %q", c.ID, c.DatabaseID, c.Name)
			}
			for _, f := range c.Features {
				if id(f.ID) != f.ID || id(f.Code) != f.Code || f.ID == "" || f.Code == "" || !f.Enabled {
					t.Fatalf("feature %q %q", f.ID, f.Code)
				}
				for _, p := range f.Parameters {
					if !utf8.ValidString(p.Value) || strings.ContainsAny(p.Value, "\r\n\x00") || p.Value == "" {
						t.Fatalf("parameter %q", p)
					}
					// What was chosen would be taken as an override too.
					if _, errs := kyc.Categorize(c, []kyc.CategoryParameterInput{{Feature: f.Code, Name: p.Name, Value: p.Value}}); hasKey(errs, f.Code, p.Name) && !shadowed(c, f) {
						t.Fatalf("chose %q for %s, which is not allowed by %v", p.Value, p.Name, f.AllowedValues)
					}
				}
			}
		}
	})
}

func hasKey(errs []kyc.UserError, feature, key string) bool {
	for _, e := range errs {
		if len(e.Path) == 4 && e.Path[2] == feature && e.Path[3] == key {
			return true
		}
	}
	return false
}

// shadowed: another feature of the same code or id comes first, so that an override means that one.
func shadowed(c kyc.CustomerCategory, f kyc.CategoryFeature) bool {
	n := 0
	for _, other := range c.Features {
		if other.Code == f.Code || other.ID == f.Code {
			n++
		}
	}
	return n > 1
}

// Whatever an upstream answers, no answer is a yes that was not said, and what is taken from it is safe to keep.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`{"data":{"id":"cust_1","status":"REGISTRATION_COMPLETE","user":{"id":"u","status":"PENDING_ACTIVATION"}}}`,
		`{"code":200,"data":{"customerStatus":"CS_ACTIVE","id":7}}`, `{"data":{"verificationId":"v","status":"APPROVED"}}`,
		`{"canActivate":true,"missingConsents":["TERMS",1]}`, `{"code":200,"data":{},"message":"Success"}`, `{"isGranted":"true"}`, `{"code":409}`, `{"success":false}`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		resp, err := hiddenRefusal("fuzz", httpjson.Response{Status: 200, Body: body})
		if err != nil && resp.Status < 400 {
			t.Fatalf("a refusal of status %d", resp.Status)
		}
		_ = registrationError("fuzz", httpjson.Response{Status: 400, Body: body}, kyc.E(kyc.Internal, "fuzz", nil), kyc.CustomerCategory{})
		_ = activationError("fuzz", httpjson.Response{Status: 400, Body: body}, kyc.E(kyc.Internal, "fuzz", nil))
		var customer customerAnswer
		if decode("fuzz", resp, &customer) == nil {
			if v, err := customerVerdict("fuzz", customer); err == nil {
				if id(v.CustomerID) != v.CustomerID || v.CustomerID == "" || kyc.CodeLike(v.ProviderStatus) != v.ProviderStatus || kyc.CodeLike(v.UserStatus) != v.UserStatus {
					t.Fatalf("%+v", v)
				}
				if v.Status == kyc.CustomerActive && !strings.Contains(string(body), "ACTIV") && json.Valid(body) && !strings.Contains(string(body), `\u`) {
					t.Fatalf("active by %s", body)
				}
			}
		}
		var activation activationAnswer
		if decode("fuzz", resp, &activation) == nil {
			if v, err := activationVerdict("fuzz", "c", resp, activation); err == nil && v.Status == kyc.CustomerActive && v.ProviderStatus == "" &&
				(!strings.Contains(string(body), "200") || !strings.Contains(strings.ToLower(string(body)), "success") && !strings.Contains(string(body), `\u`)) {
				t.Fatalf("active by %s", body)
			}
		}
		var check checkAnswer
		if decode("fuzz", resp, &check) == nil {
			if v, err := activationCheck("fuzz", check); err == nil && (v.CanActivate || v.VerificationOK || v.ConsentOK) && !strings.Contains(string(body), "true") {
				t.Fatalf("%+v by %s", v, body)
			}
		}
	})
}
