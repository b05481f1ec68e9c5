package app_test

import (
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

// QI Tech does not understand an analysis, or the look-ups of one: after five times in a row it is a dead letter, and an
// operator who has mended something runs it again.
func TestDeadAnalyses(t *testing.T) {
	t.Parallel()
	const dead = `{ deadJobs { totalCount nodes { id kind subject reason } } }`
	const retry = `mutation($id: ID!) { retryJob(input: {jobId: $id}) { job { id } userErrors { code } } }`
	for operation, first := range map[string]int{qitechsim.OpAnalyzePerson: 9, qitechsim.OpFetchPersonAnalysis: 7} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			g := apptest.Start(t, apptest.Options{NoWebhooks: true, Sim: qitechsim.Config{PendingDelay: time.Millisecond}, Config: func(c *config.Config) {
				c.Providers.QITech.RetryAfter = 4 * time.Millisecond
			}})
			token, cpf := g.Token(apptest.Acme), apptest.CPF(first, 47)
			broken := fault(`{"operation":"` + operation + `","kind":"status","value":405}`)
			if err := g.Sim.Faults().Add(broken); err != nil {
				t.Fatal(err)
			}
			g.Query(token, apptest.Register, apptest.Input(cpf, "ext", nil))
			isDead := func(a apptest.Answer) bool {
				return a.Get("deadJobs.totalCount") == 1.0 && a.Str("deadJobs.nodes.0.kind") == "person_analysis" && a.Str("deadJobs.nodes.0.reason") == "provider_did_not_understand"
			}
			job := g.Eventually(token, dead, nil, isDead).Str("deadJobs.nodes.0.id")
			if n := g.Sim.Requests().Count(operation); n != 5 {
				t.Errorf("asked %d times", n)
			}
			if a := g.Query(token, byDocument, map[string]any{"d": cpf}); a.Get("personByDocument") != nil && a.Str("personByDocument.kyc.status") != "PENDING" {
				t.Errorf("%s", a.Body)
			}
			// Nothing was mended: five more.
			if a := g.Query(token, retry, map[string]any{"id": job}); a.Str("retryJob.job.id") != job {
				t.Fatalf("%s", a.Body)
			}
			g.Eventually(token, dead, nil, isDead)
			if n := g.Sim.Requests().Count(operation); n != 10 {
				t.Errorf("asked %d times", n)
			}
			g.Sim.Faults().Clear()
			g.Query(token, retry, map[string]any{"id": job})
			g.Eventually(token, byDocument, map[string]any{"d": cpf}, func(a apptest.Answer) bool { return a.Str("personByDocument.kyc.status") == "APPROVED" })
			if a := g.Query(token, dead, nil); a.Get("deadJobs.totalCount") != 0.0 {
				t.Errorf("%s", a.Body)
			}
		})
	}
}
