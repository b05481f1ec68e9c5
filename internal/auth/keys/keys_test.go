package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

// Public keys of RFC 7517 A.1, RFC 7515 A.3 and RFC 8037 A.1.
const (
	rfcRSA = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB"`
	rfcEC  = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	rfcOKP = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
)

func TestParseSet(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		keys string   // the members of the list
		want []string // kid/alg of the usable keys
		says string   // part of the error
	}{
		{name: "all three", keys: rfcRSA + `,"kid":"a"},` + rfcEC + `,"kid":"b"},` + rfcOKP + `,"kid":"c"}`, want: []string{"a/RS256", "b/ES256", "c/EdDSA"}},
		{name: "no kid", keys: rfcOKP + `}`, want: []string{"/EdDSA"}},
		{name: "two without kid", keys: rfcOKP + `},` + rfcEC + `}`, want: []string{"/EdDSA", "/ES256"}},
		{name: "declared for signing", keys: rfcEC + `,"use":"sig","alg":"ES256","key_ops":["verify"]}`, want: []string{"/ES256"}},
		{name: "the newer name of EdDSA", keys: rfcOKP + `,"alg":"Ed25519"}`, want: []string{"/EdDSA"}},
		{name: "for encryption", keys: rfcRSA + `,"use":"enc"},` + rfcOKP + `}`, want: []string{"/EdDSA"}},
		{name: "for another operation", keys: rfcRSA + `,"key_ops":["encrypt"]},` + rfcOKP + `}`, want: []string{"/EdDSA"}},
		{name: "for another algorithm", keys: rfcRSA + `,"alg":"PS256"},` + rfcOKP + `}`, want: []string{"/EdDSA"}},
		{name: "of another curve", keys: `{"kty":"EC","crv":"P-384","x":"AA","y":"AA"},{"kty":"OKP","crv":"X25519","x":"AA"},` + rfcOKP + `}`, want: []string{"/EdDSA"}},
		{name: "of a type to come", keys: `{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"},` + rfcOKP + `}`, want: []string{"/EdDSA"}},

		{name: "none", keys: ``, says: "no usable key"},
		{name: "none for us", keys: rfcRSA + `,"use":"enc"}`, says: "no usable key"},
		{name: "shared secret", keys: rfcOKP + `},{"kty":"oct","k":"aHVudGVyMg"}`, says: "keys[1] is a shared secret"},
		{name: "private", keys: rfcOKP + `,"d":"aHVudGVyMg"}`, says: "private key material"},
		{name: "private, of another curve", keys: `{"kty":"EC","crv":"P-384","d":"aHVudGVyMg"}`, says: "private key material"},
		{name: "weak for encryption", keys: `{"kty":"RSA","use":"enc","e":"AQAB","n":"` + strings.Repeat("_", 171) + `"}`, says: "at least 2048"},
		{name: "huge", keys: `{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("_", 2000) + `"}`, says: "more than 8192"},
		{name: "even exponent", keys: strings.Replace(rfcRSA, "AQAB", "AQAA", 1) + `}`, says: "well-formed"},
		{name: "exponent of one", keys: strings.Replace(rfcRSA, "AQAB", "AQ", 1) + `}`, says: "well-formed"},
		{name: "exponent that overflows", keys: strings.Replace(rfcRSA, "AQAB", "_____________w", 1) + `}`, says: "well-formed"},
		{name: "off the curve", keys: strings.Replace(rfcEC, `"y":"x`, `"y":"y`, 1) + `}`, says: "not a point"},
		{name: "short coordinate", keys: `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, says: "not a point"},
		{name: "short Ed25519", keys: `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, says: "well-formed"},
		{name: "no modulus", keys: `{"kty":"RSA","e":"AQAB"}`, says: `no readable "n"`},
		{name: "modulus in another alphabet", keys: `{"kty":"RSA","e":"AQAB","n":"++++"}`, says: `no readable "n"`},
		{name: "no type", keys: `{}`, says: `no "kty"`},
		{name: "no object", keys: `1`, says: "not a JSON object"},
		{name: "null", keys: `null`, says: "not a JSON object"},
		{name: "kid that is a number", keys: rfcOKP + `,"kid":1}`, says: "kid"},
		{name: "kid twice", keys: rfcOKP + `,"kid":"a"},` + rfcEC + `,"kid":"a"}`, says: "keys[1] has the kid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := ParseSet([]byte(`{"keys":[` + tt.keys + `]}`))
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("got %v, want an error that says %q", err, tt.says)
				}
				if strings.Contains(err.Error(), "aHVudGVyMg") {
					t.Errorf("the error quotes the key: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range set {
				got = append(got, k.ID+"/"+k.Alg)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"keys":null}`, `{"keys":{}}`, rfcOKP + "}", strings.Repeat(" ", MaxSize+1)} {
		if _, err := ParseSet([]byte(text)); err == nil {
			t.Errorf("%.20q is read as a JWK set", text)
		}
	}
}

func TestMarshalSetRoundTrip(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, public := range map[string]crypto.PublicKey{RS256: &rsaKey.PublicKey, ES256: &ecKey.PublicKey, EdDSA: edKey} {
		data, err := MarshalSet("kid-1", public)
		if err != nil {
			t.Fatal(err)
		}
		set, err := ParseSet(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(set) != 1 || set[0].ID != "kid-1" || set[0].Alg != alg || !Equal(set[0].Key, public) || Equal(set[0].Key, "other") {
			t.Errorf("%s came back as %+v", alg, set)
		}
		if Published(public) {
			t.Errorf("a fresh key counts as published")
		}
	}
	if _, err := MarshalSet("kid-1", "no key"); err == nil {
		t.Error("a text is marshalled as a key")
	}
}

// TestThumbprint holds the RFCs' own examples (RFC 7638, 3.1 and RFC 8037, A.3).
func TestThumbprint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		rfcRSA: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		rfcEC:  "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
		rfcOKP: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		key, usable, err := parseKey(json.RawMessage(text + "}"))
		if err != nil || !usable {
			t.Fatalf("%v %v", usable, err)
		}
		got, err := Thumbprint(key.Key)
		if err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		if !Published(key.Key) {
			t.Errorf("the key %s of an RFC does not count as published", want)
		}
	}
}

func TestParsePrivate(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	sec1 := func(key *ecdsa.PrivateKey) string {
		der, err := x509.MarshalECPrivateKey(key)
		return block("EC PRIVATE KEY", der, err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(ecKey.Public())
	public := block("PUBLIC KEY", publicDER, err)

	for name, tt := range map[string]struct {
		pem, alg, says string
	}{
		"pkcs8 rsa":       {pem: pkcs8(rsaKey), alg: RS256},
		"pkcs8 ec":        {pem: pkcs8(ecKey), alg: ES256},
		"pkcs8 ed25519":   {pem: pkcs8(edKey), alg: EdDSA},
		"pkcs1":           {pem: block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), alg: RS256},
		"sec1":            {pem: sec1(ecKey), alg: ES256},
		"openssl ecparam": {pem: block("EC PARAMETERS", []byte{6, 8}, nil) + sec1(ecKey) + "\n", alg: ES256},
		"weak":            {pem: pkcs8(weakKey), says: "1024 bits"},
		"other curve":     {pem: sec1(p521), says: "unsupported"},
		"public":          {pem: public, says: "public key"},
		"encrypted":       {pem: block("ENCRYPTED PRIVATE KEY", []byte{1}, nil), says: "encrypted"},
		"old encryption":  {pem: "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", says: "encrypted"},
		"broken":          {pem: block("PRIVATE KEY", []byte("hunter2"), nil), says: "cannot be read"},
		"other":           {pem: block("OPENSSH PRIVATE KEY", []byte("hunter2"), nil), says: "no private key"},
		"two":             {pem: pkcs8(edKey) + public, says: "more than one"},
		"parameters only": {pem: block("EC PARAMETERS", []byte{6, 8}, nil), says: "not a PEM"},
		"no pem":          {pem: "hunter2", says: "not a PEM"},
	} {
		key, alg, err := ParsePrivate([]byte(tt.pem))
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got %v, want an error that says %q", name, err, tt.says)
			}
			continue
		}
		if err != nil || alg != tt.alg || key == nil {
			t.Errorf("%s: got %T, %s, %v, want %s", name, key, alg, err, tt.alg)
		}
	}
}

// FuzzParseSet: no set makes the parser panic, and every key it gives is one the rules allow.
func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + rfcRSA + `},` + rfcEC + `},` + rfcOKP + `}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct"},{"kty":"EC","crv":"P-256","x":"AA","y":1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseSet(data)
		if err == nil && len(set) == 0 {
			t.Error("an empty set without an error")
		}
		for _, k := range set {
			if alg, err := algOf(k.Key); err != nil || alg != k.Alg {
				t.Errorf("a key of %s is given for %s", alg, k.Alg)
			}
			if _, err := Thumbprint(k.Key); err != nil {
				t.Error(err)
			}
		}
	})
}
