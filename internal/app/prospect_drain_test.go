package app_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
)

// prospectsEnv is how many prospects the tests of this file register. The figure is 1,000, which takes minutes on
// a small machine; docs/benchmarks.md has what it showed.
const prospectsEnv = "KYCGATE_TEST_PROSPECTS"

func howManyProspects() int { return size(prospectsEnv, 150) }

// size is how large a test is: the environment's word, for a full run on a machine with time, or else the figure given.
func size(env string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// road is the way to the simulators, which can be closed: "refuse" listens no more, "hang" never answers.
type road struct {
	t       *testing.T
	addr    string
	forward http.Handler
	hang    atomic.Bool

	mu     sync.Mutex
	server *http.Server
	seen   []time.Time // when requests arrived while it was open
}

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	r := &road{t: t, forward: proxy}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	_ = l.Close()
	t.Cleanup(r.close)
	return r
}

func (r *road) url() string { return "http://" + r.addr }

func (r *road) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.hang.Load() {
		<-req.Context().Done()
		return
	}
	r.mu.Lock()
	r.seen = append(r.seen, time.Now())
	r.mu.Unlock()
	r.forward.ServeHTTP(w, req)
}

func (r *road) open() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func(s *http.Server) { _ = s.Serve(l) }(r.server)
}

func (r *road) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		_ = r.server.Close()
		r.server = nil
	}
}

// busiest is the greatest number of requests in any one second.
func (r *road) busiest() (most, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.seen, time.Time.Compare)
	from := 0
	for i, at := range r.seen {
		for at.Sub(r.seen[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most, len(r.seen)
}

const prospectRate = 50

// asker asks one gateway, in this process or another.
type asker func(ctx context.Context, query string, variables map[string]any) (apptest.Answer, error)

// registerMany registers prospects, eight at a time, and gives their ids and the median time of an answer.
func registerMany(t *testing.T, ask asker, n int) (ids []string, median time.Duration) {
	t.Helper()
	ids = make([]string, n)
	times := make([]time.Duration, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				overrides := map[string]any{"idempotencyKey": fmt.Sprint("p", i)}
				if i%3 == 0 {
					overrides["email"] = fmt.Sprintf("p%d@example.com", i)
				}
				began := time.Now()
				a, err := ask(t.Context(), registerLeap, prospect(i, overrides))
				times[i] = time.Since(began)
				if ids[i] = a.Str("registerProspect.customer.id"); err != nil || ids[i] == "" {
					t.Errorf("prospect %d: %v %s", i, err, a.Body)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	slices.Sort(times)
	return ids, times[n/2]
}

// allActive waits until every prospect of the partner is ACTIVE, and gives their ids.
func allActive(t *testing.T, ask asker, n int) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second) // the figure
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	most := 0
	for {
		active := make(map[string]bool)
		failed := error(nil)
		after, more := any(nil), true
		for more {
			a, err := ask(ctx, `query($after: String) { persons(first: 100, after: $after) { nodes { customers { id status } } pageInfo { hasNextPage endCursor } } }`, map[string]any{"after": after})
			if failed = err; err != nil {
				break
			}
			nodes, _ := a.Get("persons.nodes").([]any)
			for i := range nodes {
				if at := fmt.Sprintf("persons.nodes.%d.customers.0.", i); a.Str(at+"status") == "ACTIVE" {
					active[a.Str(at+"id")] = true
				}
			}
			more, after = a.Get("persons.pageInfo.hasNextPage") == true, a.Get("persons.pageInfo.endCursor")
		}
		if most = max(most, len(active)); len(active) >= n {
			return active
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d were ACTIVE within 120 s (the last look: %v)", most, n, failed)
		}
	}
}

// everyoneOnce holds what an outage or a crash must not change: all are there, and none was registered twice.
func everyoneOnce(t *testing.T, sim *leapsim.Sim, ids []string, active map[string]bool) {
	t.Helper()
	for i, id := range ids {
		if !active[id] {
			t.Errorf("prospect %d, which was answered, is not there", i)
		}
	}
	users := sim.Users()
	if len(users) != len(ids) {
		t.Errorf("%d users at Leap, want %d", len(users), len(ids))
	}
	for _, u := range users {
		if u.Posted != 1 {
			t.Errorf("%s was registered %d times", u.UserID, u.Posted)
		}
	}
}

func leapBehind(r *road) func(*config.Config) {
	return func(c *config.Config) {
		l := c.Providers.Leap
		l.BaseURL, l.RatePerSecond, l.PollEvery, l.RetryAfter = r.url()+"/leap", prospectRate, 8*time.Second, 500*time.Millisecond
		l.Breaker.OpenFor = 3 * time.Second
	}
}

// Prospects that are registered while Leap is down are answered at once, and all of them end by themselves when it is back:
// none twice, and never faster than the configured rate.
func TestProspectsWhileLeapIsDown(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"refuses", "hangs"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			n := howManyProspects()
			var r *road
			g := apptest.Start(t, apptest.Options{Leap: leapsim.Config{StepDelay: 50 * time.Millisecond}, Config: func(c *config.Config) {
				r = newRoad(t, trimLeap(c.Providers.Leap.BaseURL))
				leapBehind(r)(c)
			}})
			if how == "hangs" {
				r.hang.Store(true)
				r.open()
			}
			token := g.Token(apptest.Acme)
			ask := func(ctx context.Context, query string, variables map[string]any) (apptest.Answer, error) {
				return g.Do(ctx, token, query, variables)
			}
			ids, median := registerMany(t, ask, n)
			began := time.Now()
			if how == "hangs" {
				r.hang.Store(false)
			} else {
				r.open()
			}
			active := allActive(t, ask, n)
			drained := time.Since(began)
			everyoneOnce(t, g.Leap, ids, active)
			most, all := r.busiest()
			t.Logf("%d prospects while Leap %s: median answer %v; all ACTIVE %v after it was back; %d requests, at most %d in any second (configured %d)", n, how, median, drained.Round(time.Millisecond), all, most, prospectRate)
			// Departures keep to the rate (providers/lane_test.go); what is seen here is arrivals, on a machine that may be busy.
			if most > prospectRate+prospectRate/4 {
				t.Errorf("%d requests in one second", most)
			}
		})
	}
}

func trimLeap(base string) string { return base[:len(base)-len("/leap")] }

// Killed ten times while it drains, restarted on the same data each time: the same result.
func TestProspectsSurviveKillNine(t *testing.T) {
	t.Parallel()
	n := howManyProspects()
	g := apptest.Start(t, apptest.Options{Leap: leapsim.Config{StepDelay: 50 * time.Millisecond}}) // for its simulators and tokens
	token := g.Token(apptest.Acme)
	r := newRoad(t, g.SimURL)
	dir := t.TempDir()
	file := filepath.Join(dir, "kycgate.yaml")
	yaml := fmt.Sprintf(`
environment: sandbox
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
public_url: http://127.0.0.1:1
answer_within: 300ms
database: {url: "sqlite://%[1]s/killed.db"}
auth: {issuer: %[2]q, audience: kycgate, jwks_file: %[3]q}
providers:
  leap: {base_url: "%[4]s/leap", api_key: %[5]s, poll_every: 8s, retry_after: 200ms, timeout: 1s, rate_per_second: %[6]d, breaker: {open_for: 300ms}}
partners: [{id: acme}]
`, dir, g.Config.Auth.Issuer, g.Config.Auth.JWKSFile, r.url(), leapsim.SandboxAPIKey, prospectRate)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	var child atomic.Pointer[childProcess]
	ask := func(ctx context.Context, query string, variables map[string]any) (apptest.Answer, error) {
		return child.Load().do(ctx, token, query, variables)
	}
	child.Store(startChild(t, file))
	ids, median := registerMany(t, ask, n)
	r.open()
	const kills = 10
	calls := func() int {
		_, all := r.busiest()
		return all
	}
	for k := range kills {
		// The random moment: a number of calls, with others under way.
		before, some := calls(), max(n/kills, 5)+k
		apptest.Until(t, func() bool { return calls() >= before+some }, func() string { return fmt.Sprintf("%d calls after %d", calls()-before, k) })
		child.Load().kill()
		child.Store(startChild(t, file))
	}
	active := allActive(t, ask, n)
	everyoneOnce(t, g.Leap, ids, active)
	most, all := r.busiest()
	t.Logf("%d prospects, %d kills during the drain: median answer %v while Leap was down; %d requests, at most %d in any second", n, kills, median, all, most)
}
