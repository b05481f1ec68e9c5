package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

// childConfig names the configuration a re-executed test binary serves, to be killed.
const childConfig = "KYCGATE_TEST_SERVE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childConfig); path != "" {
		if err := serveChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveChild(path string) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	a, err := app.New(context.Background(), app.Options{Config: c, Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)), Version: app.ReadVersion()})
	if err != nil {
		return err
	}
	fmt.Println("http://" + a.PublicAddr())
	return a.Run(context.Background())
}

// R1, R5: killed at any moment, restarted on the same data, again and again: every answered registration is
// there, every open one ends as the provider decided, and no analysis was sent twice.
func TestKillNine(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{NoWebhooks: true, Sim: qitechsim.Config{ManualDelay: 30 * time.Millisecond}}) // for its simulator and tokens
	token := g.Token(apptest.Acme)
	file := childConfiguration(t, g, "300ms")
	putFault(t, g, `[{"operation":"analyze_person","kind":"act_then_reset","probability":0.2},{"operation":"analyze_person","kind":"latency","value":"30ms","probability":0.3},{"operation":"analyze_person","kind":"status","value":503,"probability":0.1}]`)

	type acked struct{ id, cpf, ext string }
	var mu sync.Mutex
	var answered []acked
	serial := 0
	want := map[byte]string{'9': "APPROVED", '6': "APPROVED", '8': "REJECTED", '5': "REJECTED"}
	firsts := []int{9, 6, 8, 5}

	const rounds = 12
	for range rounds {
		child := startChild(t, file)
		ctx, cancel := context.WithCancel(t.Context())
		acks := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					mu.Lock()
					serial++
					n := serial
					mu.Unlock()
					cpf, ext := apptest.CPF(firsts[n%4], n), fmt.Sprintf("ext-%d", n)
					a, err := child.do(ctx, token, apptest.Register, apptest.Input(cpf, ext, map[string]any{"idempotencyKey": ext}))
					if err != nil {
						return // killed: nothing was answered
					}
					if id := a.Str("registerPerson.person.id"); id != "" {
						mu.Lock()
						answered = append(answered, acked{id, cpf, ext})
						mu.Unlock()
						select {
						case acks <- struct{}{}:
						case <-ctx.Done():
						}
					} else {
						t.Errorf("%s", a.Body)
						return
					}
				}
			})
		}
		for range 10 + rand.IntN(20) { // the random moment: a number of answers, with others under way
			<-acks
		}
		child.kill()
		cancel()
		wg.Wait()
	}

	child := startChild(t, file)
	defer child.kill()
	for _, p := range answered {
		var a apptest.Answer
		apptest.Until(t, func() bool {
			var err error
			a, err = child.do(t.Context(), token, `query($e: String!) { personByExternalId(externalId: $e) { id kyc { status } } }`, map[string]any{"e": p.ext})
			return err == nil && (a.Str("personByExternalId.id") != p.id || a.Str("personByExternalId.kyc.status") == want[p.cpf[0]])
		}, func() string { return p.ext + " " + string(a.Body) })
		if a.Str("personByExternalId.id") != p.id {
			t.Errorf("answered registration %s is lost: %s", p.ext, a.Body)
		}
	}
	sent := 0
	for _, a := range g.Sim.Analyses() {
		sent++
		if a.Posted != 1 {
			t.Errorf("analysis %s was sent %d times", a.ID, a.Posted)
		}
	}
	t.Logf("%d kills, %d registrations answered, %d analyses upstream", rounds, len(answered), sent)
	if len(answered) < 100 {
		t.Errorf("only %d registrations were answered; the test proves little", len(answered))
	}
}

// childConfiguration is a configuration of a child on a database of its own, with the simulator and the tokens of g.
func childConfiguration(t *testing.T, g *apptest.Gateway, answerWithin string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "kycgate.yaml")
	yaml := fmt.Sprintf(`
environment: sandbox
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
public_url: http://127.0.0.1:1
answer_within: %[7]s
database: {url: "sqlite://%[1]s/killed.db"}
auth: {issuer: %[2]q, audience: kycgate, jwks_file: %[3]q}
providers:
  qitech: {base_url: "%[4]s/qitech", api_key: %[5]s, face_api_key: %[6]s, poll_every: 50ms, retry_after: 20ms, timeout: 1s, hold_ambiguous: 300ms, breaker: {open_for: 100ms}}
partners: [{id: acme, source_kyc: qitech}]
`, dir, g.Config.Auth.Issuer, g.Config.Auth.JWKSFile, g.SimURL, qitechsim.SandboxAPIKey, qitechsim.SandboxFaceAPIKey, answerWithin)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

type childProcess struct {
	url  string
	cmd  *exec.Cmd
	once sync.Once
}

func startChild(t *testing.T, file string) *childProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+file)
	var stderr apptest.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("the gateway did not start: %v\n%s", err, stderr.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	c := &childProcess{url: strings.TrimSpace(line), cmd: cmd}
	t.Cleanup(c.kill)
	return c
}

func (c *childProcess) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
}

func (c *childProcess) do(ctx context.Context, token, query string, variables map[string]any) (apptest.Answer, error) {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return apptest.Answer{}, err
	}
	return apptest.Post(ctx, c.url, token, body)
}
