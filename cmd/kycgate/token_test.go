package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

func TestToken(t *testing.T) {
	t.Parallel()
	file := configuration(t, production)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.New(cfg, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(verifier.Close)

	const person = "per_01JD7XK8Z3N4Q5R6S7T8V9WABC"
	for _, tt := range []struct {
		args []string
		want kyc.Caller
		ttl  time.Duration
	}{
		{nil, kyc.Caller{}, time.Hour},
		{[]string{"--ttl", "15m", "--person", person, "--purpose", "credit_analysis"}, kyc.Caller{Person: person, Purpose: "credit_analysis"}, 15 * time.Minute},
	} {
		args := append([]string{"token", "--config", file, "--partner", "bazaar", "--scope", " persons:read  pii:read"}, tt.args...)
		code, stdout, stderr := kycgate(t, args...)
		if code != 0 || stderr != "" || strings.Count(stdout, "\n") != 1 {
			t.Fatalf("%q ends with %d\nstdout: %s\nstderr: %s", args, code, stdout, stderr)
		}
		tt.want.Partner, tt.want.Subject, tt.want.Scopes = "bazaar", "kycgate-token", kyc.NewScopeSet(kyc.PersonsRead, kyc.PIIRead)
		caller, expiry, err := verifier.Verify(t.Context(), strings.TrimSpace(stdout))
		tt.want.TokenID = caller.TokenID
		if err != nil || caller != tt.want || caller.TokenID == "" {
			t.Errorf("got %+v, refused for %q, want %+v", caller, auth.Reason(err), tt.want)
		}
		if left := time.Until(expiry); left > tt.ttl || left < tt.ttl-time.Minute {
			t.Errorf("%q is valid for %v", tt.args, left)
		}
	}
}

func TestTokenRefuses(t *testing.T) {
	t.Parallel()
	file := configuration(t, production)
	for name, tt := range map[string]struct {
		args []string
		says []string
	}{
		"unknown scope":   {[]string{"--partner", "acme", "--scope", "persons:read persons:fly"}, []string{"persons:fly", "providers:read", "admin"}},
		"wordy purpose":   {[]string{"--partner", "acme", "--scope", "admin", "--purpose", "he asked me"}, []string{"purpose", "credit_analysis"}},
		"no scope":        {[]string{"--partner", "acme", "--scope", " "}, []string{"--scope", "providers:read"}},
		"unknown partner": {[]string{"--partner", "nobody", "--scope", "admin"}, []string{"acme, bazaar"}},
		"odd person":      {[]string{"--partner", "acme", "--scope", "admin", "--person", "per_1"}, []string{"person"}},
		"no time":         {[]string{"--partner", "acme", "--scope", "admin", "--ttl", "0s"}, []string{"time to live"}},
	} {
		code, stdout, stderr := kycgate(t, append([]string{"token", "--config", file}, tt.args...)...)
		if code != 1 || stdout != "" {
			t.Errorf("%s: ends with %d and prints %s", name, code, stdout)
		}
		for _, want := range tt.says {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: %q is not in %s", name, want, stderr)
			}
		}
	}

	noKey := configuration(t, strings.Replace(production, "  signing_key_file: signing.pem\n", "", 1))
	if code, _, stderr := kycgate(t, "token", "--config", noKey, "--partner", "acme", "--scope", "admin"); code != exitConfiguration || !strings.Contains(stderr, "auth.signing_key_file") {
		t.Errorf("without a signing key it ends with %d and says %s", code, stderr)
	}
}
