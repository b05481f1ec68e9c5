package unico_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/unico"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

// simulate runs the simulator and a provider with its documented credentials.
func simulate(t *testing.T, c unicosim.Config, change func(*unico.Config)) (*unicosim.Sim, kyc.Provider) {
	t.Helper()
	sim := unicosim.New(c)
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		_ = sim.Close()
		server.Close()
	})
	block, _ := pem.Decode(unicosim.PrivateKeyPEM())
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	config := unico.Config{
		BaseURL: server.URL, TokenURL: server.URL + "/oauth2/token", Audience: server.URL, ServiceAccount: unicosim.SandboxServiceAccount,
		TenantID: unicosim.SandboxTenantID, PrivateKey: key.(*rsa.PrivateKey), WebhookAuth: secret(unicosim.SandboxWebhookAuth),
		APIKeys: []unico.APIKey{
			{Key: secret(unicosim.KeyLiveness), Capabilities: []kyc.Capability{kyc.CapLiveness}},
			{Key: secret(unicosim.KeyDocumentsOnly), Capabilities: []kyc.Capability{kyc.CapDocumentCapture}},
		},
	}
	if change != nil {
		change(&config)
	}
	return sim, newProvider(t, config)
}

func live1(cpf string) kyc.ProcessRequest {
	r := request(kyc.KindLiveness)
	r.Subject.DocumentNumber = kyc.NewDocumentNumber(cpf)
	return r
}

// The provider and its simulator were written apart, from the same dossier: every wrong assertion has its number.
func TestAssertionsAtTheSimulator(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*unico.Config)
		code   string
	}{
		"good":                  {nil, ""},
		"tenant":                {func(c *unico.Config) { c.TenantID = "other" }, "1.0.1"},
		"account":               {func(c *unico.Config) { c.ServiceAccount = "other" }, "1.2.11"},
		"audience":              {func(c *unico.Config) { c.Audience = "https://other.test" }, "1.2.5"},
		"audience by path":      {func(c *unico.Config) { c.Audience = c.TokenURL }, "1.2.5"},
		"another key":           {func(c *unico.Config) { c.PrivateKey = testKey() }, "1.2.21"},
		"a clock that is late":  {func(c *unico.Config) { c.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) } }, "1.2.4"},
		"a clock that is early": {func(c *unico.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }, "1.2.5"},
	} {
		_, p := simulate(t, unicosim.Config{}, tt.change)
		_, err := p.CreateProcess(t.Context(), live1("90000010057"))
		var e *kyc.Error
		switch {
		case tt.code == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.code != "" && (!errors.As(err, &e) || e.Kind != kyc.Credentials || e.Code != tt.code):
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
}

// A token that was revoked is renewed; one that expires is, too; the APIKEY's refusal is the operator's.
func TestCredentialsAtTheSimulator(t *testing.T) {
	t.Parallel()
	for _, generation := range []unicosim.Generation{unicosim.G1, unicosim.G2, unicosim.G3, unicosim.G4} {
		sim, p := simulate(t, unicosim.Config{Generation: generation}, nil)
		for range 2 {
			if _, err := p.CreateProcess(t.Context(), live1("90000010057")); err != nil {
				t.Errorf("generation %d: %v", generation, err)
			}
			sim.RevokeTokens()
		}
		if n := sim.Requests().Count(unicosim.OpToken); n != 2 {
			t.Errorf("generation %d: %d tokens", generation, n)
		}
		_, p = simulate(t, unicosim.Config{Generation: generation}, func(c *unico.Config) { c.APIKeys[0].Key = secret("unknown") })
		_, err := p.CreateProcess(t.Context(), live1("90000010057"))
		var e *kyc.Error
		if !errors.As(err, &e) || e.Kind != kyc.Credentials || e.Code != "10201" {
			t.Errorf("generation %d, an unknown APIKEY: %v", generation, err)
		}
	}
}

// An SDK token works once and for ten minutes, and a key for the SDK takes nothing else.
func TestCapturesAtTheSimulator(t *testing.T) {
	t.Parallel()
	sim, p := simulate(t, unicosim.Config{}, nil)
	send := func(token string) error {
		r := live1("90000010057")
		r.Capture = kyc.Capture{SDKToken: ptr(kyc.NewPersonalText(token))}
		_, err := p.CreateProcess(t.Context(), r)
		return err
	}
	token := unicosim.SDKToken(time.Now())
	var e *kyc.Error
	if err := send(token); err != nil {
		t.Error(err)
	}
	if err := send(token); !errors.As(err, &e) || e.Code != "10508" || e.UserCode != kyc.CodeNeedsNewCapture {
		t.Errorf("again: %v", err)
	}
	if err := send(unicosim.SDKToken(time.Now().Add(-11 * time.Minute))); !errors.As(err, &e) || e.Code != "10507" {
		t.Errorf("old: %v", err)
	}
	if err := send("eyJ.eyJ9.x"); !errors.As(err, &e) || e.Code != "10506" || e.UserCode != kyc.CodeNeedsNewCapture {
		t.Errorf("of another app: %v", err)
	}
	if captures, most := sim.Arrivals(); captures != 3 || most != 2 {
		t.Errorf("%d captures, one %d times", captures, most)
	}
	_, p = simulate(t, unicosim.Config{}, func(c *unico.Config) { c.APIKeys[0].Key = secret(unicosim.KeySDK) })
	if _, err := p.CreateProcess(t.Context(), live1("90000010057")); !errors.As(err, &e) || e.Code != "10506" || e.UserCode != kyc.CodeImageRejected {
		t.Errorf("a picture for the SDK's key: %v", err)
	}
}

// The simulator's pace, its late results, its 410 and its second version of the read.
func TestTheSimulator(t *testing.T) {
	t.Parallel()
	hooks := make(chan string, 8)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hooks <- r.Header.Get("X-Webhook-Key") + " " + string(body)
	}))
	defer receiver.Close()
	sim, p := simulate(t, unicosim.Config{Rate: 5, RetryAfter: 7, GoneOnError: true, Delay: time.Millisecond, WebhookURL: receiver.URL}, nil)
	v, err := p.CreateProcess(t.Context(), live1("90000016250")) // 62: later 5
	if err != nil || v.Status != kyc.ProcessProcessing {
		t.Fatalf("%+v, %v", v, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := sim.WaitStatus(ctx, v.ProviderProcessID, 5); err != nil {
		t.Fatal(err)
	}
	select {
	case hook := <-hooks:
		if want := fmt.Sprintf(`{"processId":%q,"state":"PROCESS_STATE_FINISHED","flow":"id"}`, v.ProviderProcessID); !strings.HasSuffix(hook, want) || !strings.HasPrefix(hook, "unico-sandbox-webhook-key ") {
			t.Errorf("webhook %s", hook)
		}
	case <-ctx.Done():
		t.Fatal("no webhook came")
	}
	got, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: v.ProviderProcessID, Kind: kyc.KindLiveness})
	if err != nil || got.Status != kyc.ProcessFailed {
		t.Errorf("410: %+v, %v", got, err)
	}
	limited := 0
	for range 10 {
		if _, err := p.FetchProcess(t.Context(), kyc.ProcessReference{ProviderProcessID: v.ProviderProcessID}); kyc.KindOf(err) == kyc.RateLimited && err != nil {
			limited++
			if kyc.RetryAfter(err) != 7*time.Second {
				t.Errorf("Retry-After %v", kyc.RetryAfter(err))
			}
		}
	}
	if limited == 0 {
		t.Error("twelve requests at once are within five a second")
	}
	if n := len(sim.Scenarios()); n < 50 {
		t.Errorf("%d scenarios", n)
	}
}
