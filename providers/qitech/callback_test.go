package qitech_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/qitech"
)

// The test vector of dossier A.10.
const (
	vectorBody = `{"natural_person_id": "538509", "analysis_status": "manually_approved", "event_date": "2024-11-13T17:52:50Z", "reason": "manually_approved"}`
	vectorPost = "7b9134913013769d6edbb14c54991289c90d3acc"
	vectorPut  = "a22a3cb5dd9ee91e166e32032a2464974255ef66"
)

func header(signatures ...string) http.Header {
	h := make(http.Header)
	for _, s := range signatures {
		h.Add("signature", s) // header names are case-insensitive
	}
	return h
}

func sign(body string) http.Header {
	mac := hmac.New(sha1.New, []byte("test_signature_key"))
	mac.Write([]byte("https://gateway.example.test/webhooks/qitechPOST" + body))
	return header(hex.EncodeToString(mac.Sum(nil)))
}

func TestCallbackVector(t *testing.T) {
	t.Parallel()
	p := newProvider(t, config("https://api.example.test"))
	for method, signature := range map[string]string{http.MethodPost: vectorPost, http.MethodPut: vectorPut} {
		cb, err := p.ParseCallback(method, header(signature), []byte(vectorBody))
		if err != nil || cb.Reference != "538509" || len(cb.DedupeKey) != 64 {
			t.Errorf("%s: %+v, %v", method, cb, err)
		}
	}
}

func TestCallbackSignatureIsVerified(t *testing.T) {
	t.Parallel()
	p := newProvider(t, config("https://api.example.test"))
	for name, tt := range map[string]struct {
		method, body string
		header       http.Header
	}{
		"missing":         {http.MethodPost, vectorBody, header()},
		"empty":           {http.MethodPost, vectorBody, header("")},
		"two":             {http.MethodPost, vectorBody, header(vectorPost, vectorPost)},
		"odd length":      {http.MethodPost, vectorBody, header(vectorPost[:39])},
		"too long":        {http.MethodPost, vectorBody, header(vectorPost + "00")},
		"upper case":      {http.MethodPost, vectorBody, header(strings.ToUpper(vectorPost))},
		"no hex":          {http.MethodPost, vectorBody, header(strings.Repeat("z", 40))},
		"method changed":  {http.MethodPut, vectorBody, header(vectorPost)},
		"body changed":    {http.MethodPost, vectorBody + " ", header(vectorPost)},
		"unsigned method": {http.MethodGet, vectorBody, header(vectorPost)},
		"no body":         {http.MethodPost, "", header(vectorPost)},
	} {
		if _, err := p.ParseCallback(tt.method, tt.header, []byte(tt.body)); err == nil || kyc.KindOf(err) != kyc.Unauthenticated {
			t.Errorf("%s: %v, want UNAUTHENTICATED", name, err)
		}
	}
	for name, change := range map[string]func(*qitech.Config){
		"another URL": func(c *qitech.Config) { c.CallbackURL += "/" },
		"another key": func(c *qitech.Config) { c.WebhookKey = secret("another") },
		"empty key":   func(c *qitech.Config) { c.WebhookKey = secret("") },
		"no key":      func(c *qitech.Config) { c.WebhookKey = nil },
	} {
		c := config("https://api.example.test")
		change(&c)
		if _, err := newProvider(t, c).ParseCallback(http.MethodPost, header(vectorPost), []byte(vectorBody)); kyc.KindOf(err) != kyc.Unauthenticated {
			t.Errorf("%s: %v, want UNAUTHENTICATED", name, err)
		}
	}
	// An empty key must not be a key: this is what a forger would send.
	c := config("https://api.example.test")
	c.WebhookKey = secret("")
	mac := hmac.New(sha1.New, nil)
	mac.Write([]byte(c.CallbackURL + http.MethodPost + vectorBody))
	if _, err := newProvider(t, c).ParseCallback(http.MethodPost, header(hex.EncodeToString(mac.Sum(nil))), []byte(vectorBody)); kyc.KindOf(err) != kyc.Unauthenticated {
		t.Errorf("signed with the empty key: %v", err)
	}
}

func TestCallbackBodies(t *testing.T) {
	t.Parallel()
	p := newProvider(t, config("https://api.example.test"))
	parse := func(body string) (kyc.Callback, error) {
		return p.ParseCallback(http.MethodPost, sign(body), []byte(body))
	}
	for _, body := range []string{
		"", "null", "[]", "{}", "no json", vectorBody + "{}", `{"natural_person_id":7}`, `{"natural_person_id":null}`,
		`{"legal_person_id":"538509","analysis_status":"manually_approved","event_date":"2024-11-13T17:52:50Z"}`,
		`{"natural_person_id":"` + strings.Repeat("x", 65) + `"}`,
	} {
		if cb, err := parse(body); err == nil || kyc.KindOf(err) != kyc.Invalid {
			t.Errorf("%s: %+v, %v, want INVALID", body, cb, err)
		}
	}
	// Older text has no reason; other fields may come.
	base, err := parse(`{"natural_person_id":"ana_1","analysis_status":"pending","event_date":"2024-11-13T17:52:50Z"}`)
	if err != nil || base.Reference != "ana_1" {
		t.Fatal(base, err)
	}
	repeat, err := parse(`{"event_date":"2024-11-13T17:52:50Z","new":{"a":[1]},"analysis_status":"pending","natural_person_id":"ana_1","reason":"x"}`)
	if err != nil || repeat != base {
		t.Errorf("a repeat gives %+v, %v, want %+v", repeat, err, base)
	}
	seen := map[string]bool{base.DedupeKey: true}
	for _, body := range []string{
		`{"natural_person_id":"ana_2","analysis_status":"pending","event_date":"2024-11-13T17:52:50Z"}`,
		`{"natural_person_id":"ana_1","analysis_status":"in_queue","event_date":"2024-11-13T17:52:50Z"}`,
		`{"natural_person_id":"ana_1","analysis_status":"pending","event_date":"2024-11-13T17:52:51Z"}`,
		`{"natural_person_id":"ana_1p","analysis_status":"ending","event_date":"2024-11-13T17:52:50Z"}`, // the borders count
		`{"natural_person_id":"ana_1"}`,
	} {
		cb, err := parse(body)
		if err != nil || seen[cb.DedupeKey] {
			t.Errorf("%s: %+v, %v, want a key of its own", body, cb, err)
		}
		seen[cb.DedupeKey] = true
	}
}

// Whatever arrives, the parser answers a callback with a reference or one of two kinds of error, and its
// error repeats nothing.
func FuzzParseCallback(f *testing.F) {
	p := newProvider(f, config("https://api.example.test"))
	f.Add(http.MethodPost, vectorPost, []byte(vectorBody), false)
	f.Add(http.MethodPut, vectorPut, []byte(vectorBody), false)
	f.Add(http.MethodPost, "", []byte(`{"natural_person_id":"ana_1","analysis_status":null,"event_date":[1]}`), true)
	f.Add(http.MethodPost, "", []byte(`{"legal_person_id":"1"}`), true)
	f.Fuzz(func(t *testing.T, method, signature string, body []byte, signed bool) {
		h := http.Header{"Signature": {signature}}
		if signed {
			method, h = http.MethodPost, sign(string(body))
		}
		cb, err := p.ParseCallback(method, h, body)
		switch kind := kyc.KindOf(err); {
		case err == nil:
			if cb.Reference == "" || len(cb.Reference) > 64 || len(cb.DedupeKey) != 64 {
				t.Errorf("%+v", cb)
			}
			if !signed && signature != vectorPost && signature != vectorPut {
				t.Errorf("accepted the signature %q", signature)
			}
		case signed && kind != kyc.Invalid, !signed && kind != kyc.Unauthenticated:
			t.Errorf("signed %t: %v", signed, err)
		}
	})
}
