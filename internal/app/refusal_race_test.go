package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

const whole = `query($d: String!) { personByDocument(documentNumber: $d) { id name occupation externalIds { value } kyc { status analyses }
  registrations(first: 100) { totalCount nodes { externalId payload } } } }`

// refused makes a registration that the simulator's QI Tech answers with 400.
func refused(cpf, ext string) map[string]any {
	return apptest.Input(cpf, ext, map[string]any{"name": "Refused Name", "occupation": "refused", "faceRecognitionId": qitechsim.FaceKeyInvalid})
}

// A refused registration that overlaps an accepted one takes nothing of it along: not the external id both
// brought, not the data.
func TestRefusalOverlapsAnAcceptedRegistration(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	for i, ext := range []string{"same", "other"} {
		cpf := apptest.CPF(9, 10+i)
		putFault(t, g, `[{"operation":"analyze_person","kind":"latency","value":"300ms","times":1}]`) // the first one waits
		first := make(chan apptest.Answer, 1)
		go func() {
			a, err := g.Do(context.Background(), token, apptest.Register, refused(cpf, fmt.Sprint("E", i)))
			if err != nil {
				t.Error(err)
			}
			first <- a
		}()
		seen := g.Sim.Requests().Count("analyze_person")
		apptest.Until(t, func() bool { return faultFired(g) }, func() string { return fmt.Sprint("calls: ", seen) })
		id := fmt.Sprint("E", i)
		if ext == "other" {
			id = "F"
		}
		good := g.Query(token, apptest.Register, apptest.Input(cpf, id, nil))
		if good.Str("registerPerson.person.kyc.status") != "APPROVED" || good.Str("registerPerson.outcome") != "CREATED" {
			t.Fatalf("%s", good.Body)
		}
		if a := <-first; a.Str("registerPerson.userErrors.0.code") != "PROVIDER_REJECTED" {
			t.Fatalf("%s", a.Body)
		}
		a := g.Query(token, whole, map[string]any{"d": cpf})
		if a.Str("personByDocument.name") != "Maria da Silva" || a.Get("personByDocument.occupation") != nil || a.Get("personByDocument.registrations.totalCount") != 1.0 ||
			a.Str("personByDocument.externalIds.0.value") != id || a.Get("personByDocument.externalIds.1") != nil || a.Str("personByDocument.kyc.status") != "APPROVED" {
			t.Errorf("%s: %s", ext, a.Body)
		}
	}
}

func faultFired(g *apptest.Gateway) bool {
	for _, f := range g.Sim.Faults().List() {
		if f.Fired > 0 {
			return true
		}
	}
	return false
}

// Whatever overlaps, in the end the store holds what was answered and nothing else: every accepted
// registration with its external id and the newest one's data, nothing of a refused one, and no person
// whose registrations were all refused.
func TestOverlappingRegistrationsAndRefusals(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	putFault(t, g, `[{"operation":"analyze_person","kind":"latency","value":"20ms","probability":0.5},{"operation":"analyze_person","kind":"act_then_reset","probability":0.1},{"operation":"analyze_person","kind":"latency","value":"60ms","probability":0.2}]`)
	serial := 0
	for round := range 12 {
		accepted := map[string][]string{} // CPF to external ids
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 18 {
			serial++
			cpf := apptest.CPF(9, 1000+round*10+rand.IntN(3))
			ext := fmt.Sprintf("%s-%d", cpf, rand.IntN(4))
			bad := rand.IntN(2) == 0
			in := apptest.Input(cpf, ext, nil)
			if bad {
				in = refused(cpf, ext)
			}
			wg.Go(func() {
				a, err := g.Do(context.Background(), token, apptest.Register, in)
				switch {
				case err != nil || len(a.Errors) > 0:
					t.Errorf("%v %s", err, a.Body)
				case bad != (a.Str("registerPerson.userErrors.0.code") == "PROVIDER_REJECTED") || bad != (a.Get("registerPerson.person") == nil):
					t.Errorf("bad %v: %s", bad, a.Body)
				case !bad:
					mu.Lock()
					accepted[cpf] = append(accepted[cpf], ext)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for n := range 3 {
			cpf := apptest.CPF(9, 1000+round*10+n)
			a := g.Eventually(token, whole, map[string]any{"d": cpf}, func(a apptest.Answer) bool {
				return a.Get("personByDocument") == nil || a.Str("personByDocument.kyc.status") == "APPROVED"
			})
			if len(accepted[cpf]) == 0 {
				if a.Get("personByDocument") != nil {
					t.Errorf("a person of refused registrations only: %s", a.Body)
				}
				continue
			}
			var ids []string
			list, _ := a.Get("personByDocument.externalIds").([]any)
			for _, e := range list {
				ids = append(ids, e.(map[string]any)["value"].(string))
			}
			want := slices.Compact(slices.Sorted(slices.Values(accepted[cpf])))
			slices.Sort(ids)
			if !slices.Equal(ids, want) || a.Str("personByDocument.name") != "Maria da Silva" || a.Get("personByDocument.occupation") != nil ||
				a.Get("personByDocument.registrations.totalCount") != float64(len(accepted[cpf])) || a.Get("personByDocument.kyc.analyses") != float64(len(accepted[cpf])) {
				t.Errorf("accepted %v, got %s", accepted[cpf], a.Body)
			}
		}
	}
	for _, a := range g.Sim.Analyses() {
		if a.Posted != 1 {
			t.Errorf("analysis %s was sent %d times", a.ID, a.Posted)
		}
	}
}

// A webhook that arrives while a look-up with the old state is under way is not forgotten (it used to wait
// for the next poll).
func TestHintDuringAFetch(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{Config: func(c *config.Config) { c.Providers.QITech.PollEvery = time.Hour }})
	token := g.Token(apptest.Acme)
	cpf := apptest.CPF(0, 1)
	if a := g.Query(token, apptest.Register, apptest.Input(cpf, "E", nil)); a.Str("registerPerson.person.kyc.status") != "IN_REVIEW" {
		t.Fatalf("%s", a.Body)
	}
	putFault(t, g, `[{"operation":"fetch_person_analysis","kind":"truncate","times":1},{"operation":"fetch_person_analysis","kind":"latency","value":"300ms","times":1}]`)
	if err := g.Sim.Decide(g.Sim.Analyses()[0].ID, "in_queue"); err != nil {
		t.Fatal(err)
	}
	apptest.Until(t, func() bool { return faultFired(g) }, func() string { return "no fetch" })
	if err := g.Sim.Decide(g.Sim.Analyses()[0].ID, "manually_approved"); err != nil {
		t.Fatal(err)
	}
	g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
}
