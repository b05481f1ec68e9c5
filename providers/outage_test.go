package providers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers"
	"github.com/kycgate/kycgate/providers/qitech"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/simulator"
)

func request(i int) kyc.PersonAnalysisRequest {
	return kyc.PersonAnalysisRequest{
		ID: kyc.AnalysisID(fmt.Sprintf("ana_%d", i)), PersonID: "per_1", RegisteredAt: time.Now(),
		Profile: kyc.Profile{
			Name: kyc.NewName("Ana Exemplo"), DocumentNumber: kyc.NewDocumentNumber("91234567890"), Birthdate: kyc.NewDate("1990-02-28"),
			Emails:  []kyc.Email{{Address: kyc.NewEmailAddress("ana@example.com")}},
			Phones:  []kyc.Phone{{Number: kyc.NewPhoneNumber("+5511987654321")}},
			Address: kyc.Address{Street: kyc.NewPersonalText("Rua A"), City: "Recife", State: "PE", PostalCode: kyc.NewPersonalText("50010-000"), Country: "BRA"},
		},
	}
}

// R6 and R5 over real connections: a dark upstream is reached by few calls, every one of them is told from
// those that never left, and one probe brings it back.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault   simulator.Fault
		timeout time.Duration
		acts    bool
	}{
		"503":            {fault: simulator.Fault{Kind: simulator.FaultStatus, Value: json.RawMessage("503")}},
		"reset":          {fault: simulator.Fault{Kind: simulator.FaultReset}},
		"truncated":      {fault: simulator.Fault{Kind: simulator.FaultTruncate}, acts: true},
		"act then reset": {fault: simulator.Fault{Kind: simulator.FaultActThenReset}, acts: true},
		"act then hang":  {fault: simulator.Fault{Kind: simulator.FaultActThenHang}, acts: true, timeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := qitechsim.New(qitechsim.Config{})
			t.Cleanup(func() { _ = sim.Close() })
			server := httptest.NewServer(sim)
			t.Cleanup(server.Close)
			set, err := providers.Open(providers.Settings{QITech: &providers.Configured[qitech.Config]{
				Config: qitech.Config{BaseURL: server.URL, APIKey: func() string { return qitechsim.SandboxAPIKey }},
				Limits: providers.Limits{Timeout: tt.timeout, MaxConcurrent: 10, OpenFor: 50 * time.Millisecond},
			}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, _ := set.Provider("qitech")
			tt.fault.Operation = qitechsim.OpAnalyzePerson
			if err := sim.Faults().Add(tt.fault); err != nil {
				t.Fatal(err)
			}
			// Ten callers until each of them has been refused.
			var sent, left atomic.Int32
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for {
						_, err := p.AnalyzePerson(t.Context(), request(int(sent.Add(1))))
						switch kyc.KindOf(err) {
						case kyc.Ambiguous:
							left.Add(1)
						case kyc.Refused:
							return
						case kyc.Unavailable:
							if tt.timeout == 0 { // on a busy machine a second may be over before the connection stands
								t.Errorf("got %v", err)
							}
						default:
							t.Errorf("got %v", err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := left.Load(); n > 16 {
				t.Errorf("%d calls reached the upstream, want at most 16", n)
			}
			h := set.Health()[0]
			if h.Operations[0].Breaker == kyc.BreakerClosed || *h.Operations[0].SuccessRate != 0 || h.Operations[1].Breaker != kyc.BreakerClosed {
				t.Errorf("health %+v", h)
			}
			// What acted is found, what did not is not: the look-up decides, not the failure.
			found := 0
			for i := range int(sent.Load()) {
				if _, err := p.FetchPersonAnalysis(t.Context(), kyc.AnalysisID(fmt.Sprintf("ana_%d", i+1))); err == nil {
					found++
				} else if kyc.KindOf(err) != kyc.NotFound && tt.timeout == 0 {
					t.Errorf("look-up: %v", err)
				}
			}
			if want := int(left.Load()); !tt.acts && found != 0 || found > want || tt.acts && tt.timeout == 0 && found != want {
				t.Errorf("%d analyses are there, %d calls left", found, want)
			}
			// Back again: the first call after OpenFor is the probe.
			sim.Faults().Clear()
			if err := recovers(t, p); err != nil {
				t.Error(err)
			}
			if b := set.Health()[0].Operations[0]; b.Breaker != kyc.BreakerClosed || b.OpenedAt != nil || b.InFlight != 0 {
				t.Errorf("after recovery %+v", b)
			}
		})
	}
}

// recovers calls as often as the guard's hints allow until a call goes through.
func recovers(t *testing.T, p kyc.Provider) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := 0; ; i++ {
		_, err := p.AnalyzePerson(ctx, request(1_000_000+i))
		if kyc.KindOf(err) != kyc.Refused || err == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("it did not recover")
		case <-time.After(kyc.RetryAfter(err)):
		}
	}
}

// A 429 pauses the operation for the time it names and opens nothing.
func TestUpstreamAsksUsToSlowDown(t *testing.T) {
	t.Parallel()
	sim := qitechsim.New(qitechsim.Config{})
	t.Cleanup(func() { _ = sim.Close() })
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	set, err := providers.Open(providers.Settings{QITech: &providers.Configured[qitech.Config]{
		Config: qitech.Config{BaseURL: server.URL, APIKey: func() string { return qitechsim.SandboxAPIKey }},
	}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := set.Provider("qitech")
	if err := sim.Faults().Add(simulator.Fault{Operation: qitechsim.OpAnalyzePerson, Kind: simulator.FaultRateLimit, Value: json.RawMessage("7")}); err != nil {
		t.Fatal(err)
	}
	_, err = p.AnalyzePerson(t.Context(), request(1))
	if kyc.KindOf(err) != kyc.RateLimited || kyc.RetryAfter(err) != 7*time.Second {
		t.Errorf("got %v", err)
	}
	for i := range 20 {
		_, err = p.AnalyzePerson(t.Context(), request(i))
		if after := kyc.RetryAfter(err); kyc.KindOf(err) != kyc.Refused || after > 7*time.Second || after < 5*time.Second {
			t.Errorf("got %v after %v", err, after)
		}
	}
	if _, err := p.FetchPersonAnalysis(t.Context(), "x"); kyc.KindOf(err) != kyc.NotFound || err == nil {
		t.Errorf("another operation: %v", err)
	}
}
