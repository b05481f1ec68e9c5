package auth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kycgate/kycgate/kyc"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	claims["person"], claims["jti"], claims["purpose"] = personID, "01JD7XK8Z3N4Q5R6S7T8V9WABC", "credit_analysis"
	want := kyc.Caller{Partner: "acme", Subject: "user-1", Scopes: kyc.NewScopeSet(kyc.PersonsRead, kyc.PIIRead), Person: personID, TokenID: "01JD7XK8Z3N4Q5R6S7T8V9WABC", Purpose: "credit_analysis"}
	for _, tt := range []struct {
		method jwt.SigningMethod
		kid    string
		key    any
	}{
		{jwt.SigningMethodEdDSA, "ed", edKey()},
		{jwt.SigningMethodES256, "ec", ecKey()},
		{jwt.SigningMethodRS256, "rsa", rsaKey()},
	} {
		header["kid"] = tt.kid
		token := sign(t, tt.method, tt.key, header, claims)
		for range 2 { // the second time from the cache
			caller, expiry, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatalf("%s: refused for %q", tt.kid, Reason(err))
			}
			if caller != want || !expiry.Equal(clock.Now().Add(time.Hour)) {
				t.Errorf("%s: got %+v, %v, want %+v", tt.kid, caller, expiry, want)
			}
		}
	}
	if n := v.cache.Len(); n != 3 {
		t.Errorf("%d tokens in the cache, want 3", n)
	}
}

// TestWhatTheAuditLogSaysOfAToken: an id and a code, never text of the caller's; a token without an id is known by its hash.
func TestWhatTheAuditLogSaysOfAToken(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	for _, tt := range []struct {
		jti, purpose any
		id, why      string // id "" means the hash
	}{
		{nil, nil, "", ""},
		{"4f6d5c1e-52fd-4a36-9b0a-0c9f8f2f7a11", "onboarding", "4f6d5c1e-52fd-4a36-9b0a-0c9f8f2f7a11", "onboarding"},
		{"id-1", "", "id-1", ""},
		{"52998224725", "52998224725", "", "unknown"},
		{"maria@example.com", "because Maria asked", "", "unknown"},
		{strings.Repeat("j", 300), strings.Repeat("p", 65), "", "unknown"},
		{7, 7, "", "unknown"},
		{"", []string{"onboarding"}, "", "unknown"},
	} {
		header, claims := good(clock.Now())
		if claims["jti"] = tt.jti; tt.jti == nil {
			delete(claims, "jti")
		}
		if claims["purpose"] = tt.purpose; tt.purpose == nil {
			delete(claims, "purpose")
		}
		token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
		for range 2 {
			c := wantAccepted(t, v, token)
			hashed := len(c.TokenID) == len("sha256:")+32 && strings.HasPrefix(c.TokenID, "sha256:")
			if c.Purpose != tt.why || c.TokenID != tt.id && (tt.id != "" || !hashed) {
				t.Errorf("jti %v, purpose %v: got %q, %q", tt.jti, tt.purpose, c.TokenID, c.Purpose)
			}
		}
	}
}

// TestClaims changes one thing of a good token. The ids are those of security.md, 2.5.
func TestClaims(t *testing.T) {
	t.Parallel()
	clock := newClock()
	now := clock.Now()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	const ok reason = ""
	absent := struct{}{}
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	type change map[string]any
	tests := []struct {
		name   string
		header change
		claims change
		want   reason
	}{
		{"J06 kid of a path", change{"kid": "../../dev/null"}, nil, unknownKey},
		{"J06 kid of SQL", change{"kid": "' OR 1=1 --"}, nil, unknownKey},
		{"J07 kid of a URL", change{"kid": "https://evil.example.com/jwks.json"}, nil, unknownKey},
		{"J07 key in the header", change{"jwk": map[string]any{"kty": "OKP"}, "jku": "https://evil.example.com", "kid": "evil"}, nil, unknownKey},
		{"J08 kid of 5 KB", change{"kid": strings.Repeat("k", 5000)}, nil, unknownKey},
		{"J08 kid in another case", change{"kid": "ED"}, nil, unknownKey},
		{"J08 kid of another key", change{"kid": "rsa"}, nil, wrongAlgorithm},
		{"kid that is a number", change{"kid": 1}, nil, malformed},
		{"kid that is null", change{"kid": nil}, nil, malformed},
		{"empty kid", change{"kid": ""}, nil, unknownKey},
		{"no kid, one key of the algorithm", change{"kid": absent}, nil, ok},

		{"J11 expired 61 s ago", nil, change{"exp": at(-61 * time.Second)}, expired},
		{"J11 expired 60 s ago", nil, change{"exp": at(-60 * time.Second)}, expired},
		{"J11 expired 59 s ago", nil, change{"exp": at(-59 * time.Second)}, ok},
		{"no exp", nil, change{"exp": absent}, missingClaim},
		{"exp that is null", nil, change{"exp": nil}, malformed},
		{"exp that is a text", nil, change{"exp": fmt.Sprint(at(time.Hour))}, malformed},
		{"exp that is too large", nil, change{"exp": 1e300}, malformed},
		{"exp after the year 9999", nil, change{"exp": 1e12}, malformed},
		{"exp with a fraction", nil, change{"exp": float64(at(time.Hour)) + 0.5}, ok},

		{"J12 nbf in 10 min", nil, change{"nbf": at(10 * time.Minute)}, notYetValid},
		{"J12 iat in 10 min", nil, change{"iat": at(10 * time.Minute)}, notYetValid},
		{"J12 nbf in 61 s", nil, change{"nbf": at(61 * time.Second)}, notYetValid},
		{"J12 nbf in 60 s", nil, change{"nbf": at(60 * time.Second)}, ok},
		{"J12 iat in 61 s", nil, change{"iat": at(61 * time.Second)}, notYetValid},
		{"J12 iat in 60 s", nil, change{"iat": at(60 * time.Second)}, ok},
		{"no nbf, no iat", nil, change{"nbf": absent, "iat": absent}, ok},
		{"nbf that is a text", nil, change{"nbf": "now"}, malformed},
		{"negative iat", nil, change{"iat": -1e18}, malformed},

		{"J14 another aud", nil, change{"aud": "other"}, wrongAudience},
		{"J14 aud in another case", nil, change{"aud": "KYCgate"}, wrongAudience},
		{"J14 aud list without us", nil, change{"aud": []string{"a", "kycgate2"}}, wrongAudience},
		{"J14 aud list with us", nil, change{"aud": []string{"a", audience}}, ok},
		{"J14 empty aud", nil, change{"aud": ""}, missingClaim},
		{"J14 empty aud list", nil, change{"aud": []string{}}, missingClaim},
		{"J14 no aud", nil, change{"aud": absent}, missingClaim},
		{"aud list with a number", nil, change{"aud": []any{audience, 1}}, malformed},

		{"J15 another iss", nil, change{"iss": "https://evil.example.com"}, wrongIssuer},
		{"J15 iss with a slash", nil, change{"iss": issuer + "/"}, wrongIssuer},
		{"J15 iss in another case", nil, change{"iss": strings.ToUpper(issuer)}, wrongIssuer},
		{"J15 no iss", nil, change{"iss": absent}, missingClaim},
		{"iss that is a list", nil, change{"iss": []string{issuer}}, malformed},

		{"J16 ID token", change{"typ": "JWT"}, nil, wrongType},
		{"J16 refresh token", change{"typ": "rt+jwt"}, nil, wrongType},
		{"J16 no typ", change{"typ": absent}, nil, wrongType},
		{"J16 typ that is a list", change{"typ": []string{"at+jwt"}}, nil, wrongType},
		{"typ in full", change{"typ": "application/at+jwt"}, nil, ok},
		{"typ in another case", change{"typ": "Application/AT+JWT"}, nil, ok},
		{"typ of another media type", change{"typ": "text/at+jwt"}, nil, wrongType},

		{"crit", change{"crit": []string{"b64"}, "b64": false}, nil, criticalHeader},
		{"empty crit", change{"crit": []string{}}, nil, criticalHeader},
		{"crit that is null", change{"crit": nil}, nil, criticalHeader},

		{"J23 bound by DPoP", nil, change{"cnf": map[string]string{"jkt": "x"}}, proofOfHolder},
		{"J23 bound by mTLS", nil, change{"cnf": map[string]string{"x5t#S256": "x"}}, proofOfHolder},

		{"no sub", nil, change{"sub": absent}, wrongSubject},
		{"empty sub", nil, change{"sub": ""}, wrongSubject},
		{"sub that is a number", nil, change{"sub": 1}, wrongSubject},
		{"sub of 256 bytes", nil, change{"sub": strings.Repeat("s", 256)}, wrongSubject},
		{"no partner", nil, change{"partner": absent}, unknownPartner},
		{"empty partner", nil, change{"partner": ""}, unknownPartner},
		{"unknown partner", nil, change{"partner": "evil"}, unknownPartner},
		{"partner in another case", nil, change{"partner": "ACME"}, unknownPartner},
		{"claim that looks like partner", nil, change{"partner": absent, "Partner": "acme"}, unknownPartner},
		{"partner that is a list", nil, change{"partner": []string{"acme"}}, unknownPartner},
		{"no scope", nil, change{"scope": absent}, ok},
		{"scope that is a list", nil, change{"scope": []string{"admin"}}, wrongScope},
		{"scope that is null", nil, change{"scope": nil}, wrongScope},
		{"person", nil, change{"person": personID}, ok},
		{"empty person", nil, change{"person": ""}, wrongPerson},
		{"person that is null", nil, change{"person": nil}, wrongPerson},
		{"person without prefix", nil, change{"person": personID[4:]}, wrongPerson},
		{"person of another type", nil, change{"person": "cus_" + personID[4:]}, wrongPerson},
		{"person too short", nil, change{"person": personID[:29]}, wrongPerson},
		{"person too long", nil, change{"person": personID + "0"}, wrongPerson},
		{"person in lower case", nil, change{"person": strings.ToLower(personID)}, wrongPerson},
		{"person that overflows", nil, change{"person": "per_8" + personID[5:]}, wrongPerson},
		{"person with other letters", nil, change{"person": "per_01JD7XK8Z3N4Q5R6S7T8V9WILU"}, wrongPerson},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header, claims := good(now)
			for to, changes := range map[*map[string]any]change{&header: tt.header, &claims: tt.claims} {
				for name, value := range changes {
					if value == absent {
						delete(*to, name)
					} else {
						(*to)[name] = value
					}
				}
			}
			token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
			if tt.want == ok {
				caller := wantAccepted(t, v, token)
				if _, hasPerson := claims["person"]; hasPerson != caller.IsSubject() {
					t.Errorf("IsSubject() = %v", caller.IsSubject())
				}
				return
			}
			wantRefused(t, v, token, tt.want)
			wantRefused(t, v, token, tt.want) // a failure is never cached as a success, nor forgotten
		})
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	for text, want := range map[string]kyc.ScopeSet{
		"":                               0,
		"admin":                          kyc.NewScopeSet(kyc.Admin),
		" persons:read   pii:read ":      kyc.NewScopeSet(kyc.PersonsRead, kyc.PIIRead),
		"openid ADMIN persons:read:self": 0,
		"persons:read,admin":             0,
	} {
		header, claims := good(clock.Now())
		claims["scope"] = text
		if got := wantAccepted(t, v, sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)).Scopes; got != want {
			t.Errorf("%q gives %v, want %v", text, got.List(), want.List())
		}
	}
}

// TestAlgorithms is J01 to J05: the token does not choose how its key is read.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	unsigned := func(alg any) string {
		h := map[string]any{"typ": "at+jwt", "kid": "ed", "alg": alg}
		if alg == nil {
			delete(h, "alg")
		}
		return segment(t, h) + "." + segment(t, claims) + "."
	}
	for _, alg := range []any{"none", "None", "nOnE", "NONE", "", nil, 1, "HS256", "HS512", "RS512", "PS256", "ES384", "eddsa", "Ed25519"} {
		wantRefused(t, v, unsigned(alg), wrongAlgorithm)
	}

	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"pem":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"der":   der,
		"n":     rsaKey().N.Bytes(),
		"jwks":  jwks(t, allKeys()),
		"empty": {},
	}
	for name, secret := range secrets {
		for _, alg := range []string{"HS256", "RS256", "EdDSA"} {
			h := map[string]any{"typ": "at+jwt", "kid": "rsa", "alg": alg}
			token := hmacSign(segment(t, h)+"."+segment(t, claims), secret)
			if _, _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("a token with %s as secret for %s passes", name, alg)
			}
		}
	}

	// A right signature under a name of another algorithm.
	header["alg"], header["kid"] = "PS256", "rsa"
	wantRefused(t, v, sign(t, jwt.SigningMethodRS256, rsaKey(), header, claims), wrongAlgorithm)
	header["alg"], header["kid"] = "RS256", "ed"
	wantRefused(t, v, sign(t, jwt.SigningMethodRS256, rsaKey(), header, claims), wrongAlgorithm)
	delete(header, "alg")
	// A right signature of a method we do not take.
	header["kid"] = "rsa"
	wantRefused(t, v, sign(t, jwt.SigningMethodPS256, rsaKey(), header, claims), wrongAlgorithm)
	wantRefused(t, v, sign(t, jwt.SigningMethodRS512, rsaKey(), header, claims), wrongAlgorithm)
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	wantRefused(t, v, sign(t, jwt.SigningMethodEdDSA, edKey2(), header, claims), wrongSignature)

	parts := strings.Split(token, ".")
	other := sign(t, jwt.SigningMethodEdDSA, edKey(), header, map[string]any{"iss": issuer})
	wantRefused(t, v, parts[0]+"."+parts[1]+"."+strings.Split(other, ".")[2], wrongSignature)
	wantRefused(t, v, parts[0]+"."+parts[1]+".", wrongSignature)

	claims["partner"] = "bazaar"
	wantRefused(t, v, parts[0]+"."+segment(t, claims)+"."+parts[2], wrongSignature)

	// Every byte counts: no two texts are one token.
	wantAccepted(t, v, token)
	for i := range len(token) {
		for _, c := range "A_." {
			if token[i] == byte(c) {
				continue
			}
			changed := token[:i] + string(c) + token[i+1:]
			if _, _, err := v.Verify(t.Context(), changed); err == nil {
				t.Fatalf("a token with byte %d changed to %c passes", i, c)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	b64 := base64.RawURLEncoding.EncodeToString
	for name, text := range map[string]string{
		"empty":         "",
		"dots":          "..",
		"one part":      "abc",
		"two parts":     "a.b",
		"four parts":    token + ".x",
		"encrypted":     token + ".x.y",
		"no base64":     "!" + token[1:],
		"padded":        token + "=",
		"blank":         token + " ",
		"newline":       token + "\n",
		"header list":   b64([]byte(`[]`)) + ".e30.AA",
		"header null":   b64([]byte(`null`)) + "." + b64([]byte(`null`)) + ".AA",
		"trailing JSON": b64([]byte(`{"alg":"EdDSA"}{}`)) + ".e30.AA",
		"deep":          b64([]byte(strings.Repeat(`[`, 3000))) + ".e30.AA",
		"utf-8":         b64([]byte("{\"alg\":\"EdDSA\xff\"}")) + ".e30.AA",
		"newlines":      strings.ReplaceAll(token, ".", ".\r\n"),
		"bearer":        "Bearer " + token,
	} {
		if _, _, err := v.Verify(t.Context(), text); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTooLong is J18: a text of 100,000 dots costs next to nothing, and so does one just under the limit.
// It is not parallel, because it counts allocations.
func TestTooLong(t *testing.T) {
	v := newVerifier(t, configuration(t, allKeys()), newClock())
	for _, tt := range []struct {
		token string
		why   reason
	}{
		{strings.Repeat(".", 100_000), tooLong},
		{strings.Repeat(".", maxToken+1), tooLong},
		{strings.Repeat(".", maxToken), malformed},
		{"e30." + strings.Repeat("A", maxToken-4), malformed},
	} {
		wantRefused(t, v, tt.token, tt.why)
		// Allocations stand for work: they do not depend on how busy the machine is.
		ctx := context.Background()
		if n := testing.AllocsPerRun(10, func() { _, _, _ = v.Verify(ctx, tt.token) }); n > 30 {
			t.Errorf("%.10s… of %d bytes makes %v allocations", tt.token, len(tt.token), n)
		}
	}
}

// TestWithoutKid: a token that names no key must leave no choice.
func TestWithoutKid(t *testing.T) {
	t.Parallel()
	clock := newClock()
	header, claims := good(clock.Now())
	delete(header, "kid")
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	two := newVerifier(t, configuration(t, map[string]crypto.PublicKey{"-1": edKey().Public(), "b": edKey2().Public()}), clock)
	wantRefused(t, two, token, unknownKey)
	other := newVerifier(t, configuration(t, map[string]crypto.PublicKey{"rsa": rsaKey().Public()}), clock)
	wantRefused(t, other, token, unknownKey)
	one := newVerifier(t, configuration(t, map[string]crypto.PublicKey{"-1": edKey().Public(), "ec": ecKey().Public()}), clock)
	wantAccepted(t, one, token)
}

func TestCacheEndsWithTheToken(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	wantAccepted(t, v, token)
	clock.advance(time.Hour + Leeway - time.Second)
	wantAccepted(t, v, token)
	clock.advance(time.Second)
	wantRefused(t, v, token, expired)
	if n := v.cache.Len(); n != 0 {
		t.Errorf("%d tokens are left in the cache", n)
	}
}

func TestFailuresAreNotCached(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	claims["nbf"] = clock.Now().Add(2 * time.Minute).Unix()
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims)
	wantRefused(t, v, token, notYetValid)
	if n := v.cache.Len(); n != 0 {
		t.Errorf("%d tokens in the cache after a refusal", n)
	}
	clock.advance(time.Minute)
	wantAccepted(t, v, token)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	clock := newClock()
	v := newVerifier(t, configuration(t, allKeys()), clock)
	header, claims := good(clock.Now())
	for i := range cacheSize {
		v.cache.Add(sha256.Sum256(fmt.Append(nil, i)), verified{})
	}
	for i := range 3 {
		claims["jti"] = fmt.Sprint(i)
		wantAccepted(t, v, sign(t, jwt.SigningMethodEdDSA, edKey(), header, claims))
	}
	if n := v.cache.Len(); n != cacheSize {
		t.Errorf("%d tokens in the cache, want %d", n, cacheSize)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	all := Reasons()
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("the reasons are not a sorted set: %v", all)
	}
	for _, r := range reasons {
		if got := Reason(fmt.Errorf("wrapped: %w", refuse(r))); got != string(r) || !slices.Contains(all, got) {
			t.Errorf("Reason gives %q for %q", got, r)
		}
	}
	if got := Reason(errors.New("hunter2")); got != string(otherwiseReason) {
		t.Errorf("an error of somebody else gives %q", got)
	}
	if got := Reason(ErrUnauthenticated); got != string(otherwiseReason) {
		t.Errorf("a missing token gives %q", got)
	}
	if got := Reason(nil); got != "" {
		t.Errorf("no error gives %q", got)
	}
}

// FuzzVerify: no text makes Verify panic, and none passes that was not signed here.
func FuzzVerify(f *testing.F) {
	clock := newClock()
	v := newVerifier(f, configuration(f, allKeys()), clock)
	header, claims := good(clock.Now())
	signed := sign(f, jwt.SigningMethodEdDSA, edKey(), header, claims)
	f.Add(signed)
	f.Add(strings.Repeat(".", 100_000))
	f.Add(segment(f, map[string]any{"alg": "none", "typ": "at+jwt"}) + "." + segment(f, claims) + ".")
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, token string) {
		caller, _, err := v.Verify(t.Context(), token)
		if token == signed {
			if err != nil {
				t.Errorf("the signed token is refused for %q", Reason(err))
			}
			return
		}
		if !errors.Is(err, ErrUnauthenticated) || caller != (kyc.Caller{}) || !slices.Contains(Reasons(), Reason(err)) {
			t.Errorf("%q gives %+v, %v", token, caller, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	clock := newClock()
	v := newVerifier(b, configuration(b, allKeys()), clock)
	header, claims := good(clock.Now())
	for _, tt := range []struct {
		name   string
		method jwt.SigningMethod
		kid    string
		key    any
	}{
		{"EdDSA", jwt.SigningMethodEdDSA, "ed", edKey()},
		{"ES256", jwt.SigningMethodES256, "ec", ecKey()},
		{"RS256", jwt.SigningMethodRS256, "rsa", rsaKey()},
	} {
		header["kid"] = tt.kid
		token := sign(b, tt.method, tt.key, header, claims)
		b.Run("cached/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("uncached/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.cache.Purge()
				if _, _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("100000 dots", func(b *testing.B) {
		b.ReportAllocs()
		dots := strings.Repeat(".", 100_000)
		for b.Loop() {
			_, _, _ = v.Verify(b.Context(), dots)
		}
	})
}
