package providers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Nothing here waits for real but TestRateBudgetForReal: where time matters the test runs in a synctest bubble, whose clock stands
// still while anyone works. gobreaker reads that clock too.

// elapse lets time pass.
func elapse(d time.Duration) { <-time.After(d) }

// bundle is a guarded fake. op is what its AnalyzePerson does; fetch always answers.
type bundle struct {
	analyze kyc.Op[kyc.PersonAnalysisRequest, kyc.Verdict]
	fetch   kyc.Op[kyc.AnalysisID, kyc.Verdict]
	guard   *Guard
	metrics *Metrics
	reg     *prometheus.Registry
	log     *bytes.Buffer
}

func setup(limits Limits, op func(ctx context.Context) error) bundle {
	b := bundle{reg: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	b.metrics = NewMetrics(b.reg)
	p, g := Wrap(kyc.Provider{
		Name: "qitech", DisplayName: "QI Tech",
		AnalyzePerson: func(ctx context.Context, _ kyc.PersonAnalysisRequest) (kyc.Verdict, error) {
			err := op(ctx)
			return kyc.Verdict{Known: true, Status: kyc.KycApproved}, err
		},
		FetchPersonAnalysis: func(context.Context, kyc.AnalysisID) (kyc.Verdict, error) { return kyc.Verdict{Known: true}, nil },
	}, limits, b.metrics, slog.New(slog.NewTextHandler(b.log, nil)))
	b.analyze, b.fetch, b.guard = p.AnalyzePerson, p.FetchPersonAnalysis, g
	return b
}

func (b bundle) call(ctx context.Context) error {
	_, err := b.analyze(ctx, kyc.PersonAnalysisRequest{})
	return err
}

func (b bundle) health() kyc.OperationHealth { return b.guard.Health().Operations[0] }

// refused gives the count of a reason.
func (b bundle) refused(r reason) float64 {
	return value(b.metrics.refused.WithLabelValues("qitech", "analyze_person", r.String()))
}

// observed gives how many attempts ended in an outcome.
func (b bundle) observed(t *testing.T, o outcome) int {
	t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "kycgate_provider_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			if labels := fmt.Sprint(m.GetLabel()); strings.Contains(labels, `"analyze_person"`) && strings.Contains(labels, `"`+o.String()+`"`) {
				return int(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0 // the series of an outcome begins with its first attempt
}

func upstream(kind kyc.Kind, code string) error {
	return &kyc.Error{Kind: kind, Op: "qitech.analyze_person", Code: code, Err: errors.New("x")}
}

var errDown = upstream(kyc.Ambiguous, "HTTP_503")

// want checks kind and code and gives the error.
func want(t *testing.T, err error, kind kyc.Kind, code string) *kyc.Error {
	t.Helper()
	var e *kyc.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Code != code {
		t.Errorf("got %v, want %s %s", err, kind, code)
		return new(kyc.Error)
	}
	return e
}

// Every Op slot of kyc.Provider is wrapped, under its own name: whoever adds one hears of it here.
func TestGuardWrapsEverySlot(t *testing.T) {
	t.Parallel()
	var called []string
	p := kyc.Provider{Name: "fake"}
	v := reflect.ValueOf(&p).Elem()
	var slots []string
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !strings.HasPrefix(field.Type.Name(), "Op[") {
			continue
		}
		slots = append(slots, field.Name)
		v.Field(i).Set(reflect.MakeFunc(field.Type, func([]reflect.Value) []reflect.Value {
			called = append(called, field.Name)
			return []reflect.Value{reflect.Zero(field.Type.Out(0)), reflect.Zero(field.Type.Out(1))}
		}))
	}
	wrapped, guard := Wrap(p, Limits{}, nil, nil)
	v = reflect.ValueOf(wrapped)
	for _, slot := range slots {
		f := v.FieldByName(slot)
		f.Call([]reflect.Value{reflect.ValueOf(t.Context()), reflect.Zero(f.Type().In(1))})
	}
	if !slices.Equal(called, slots) {
		t.Errorf("called %v, want %v", called, slots)
	}
	var names, expected []string
	for _, o := range guard.Health().Operations {
		names = append(names, o.Name)
		if o.Requests != 1 {
			t.Errorf("%s: %d calls went through the guard, want 1", o.Name, o.Requests)
		}
	}
	for _, slot := range slots {
		expected = append(expected, snakeCase(slot))
	}
	if !slices.Equal(names, expected) {
		t.Errorf("operations %v, want %v", names, expected)
	}

	nothing, guard := Wrap(kyc.Provider{Name: "fake"}, Limits{}, nil, nil)
	if nothing.AnalyzePerson != nil || len(guard.Health().Operations) != 0 {
		t.Error("a capability that is not offered must stay nil")
	}
}

func snakeCase(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// How every end of a call counts: the table of the package comment.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	foreign := errors.New("52998224725 at https://example.com")
	tests := map[string]struct {
		err     error
		kind    kyc.Kind
		outcome outcome
		counts  string // by the breaker: success, failure, or nothing
		proper  bool
	}{
		"ok":            {nil, 0, outcomeOK, "success", true},
		"not found":     {upstream(kyc.NotFound, "HTTP_404"), kyc.NotFound, outcomeOK, "success", true},
		"conflict":      {upstream(kyc.Conflict, "HTTP_409"), kyc.Conflict, outcomeOK, "success", true},
		"rejected":      {upstream(kyc.Rejected, "invalid_request"), kyc.Rejected, outcomeRejected, "success", true},
		"another 4xx":   {upstream(kyc.Internal, "HTTP_406"), kyc.Internal, outcomeRejected, "success", false},
		"429":           {upstream(kyc.RateLimited, "HTTP_429"), kyc.RateLimited, outcomeRateLimited, "nothing", false},
		"401":           {upstream(kyc.Credentials, "HTTP_401"), kyc.Credentials, outcomeCredentials, "failure", false},
		"refused":       {upstream(kyc.Unavailable, httpjson.CodeNotReached), kyc.Unavailable, outcomeUnavailable, "failure", false},
		"dial time-out": {upstream(kyc.Unavailable, httpjson.CodeTimeout), kyc.Unavailable, outcomeUnavailable, "failure", false},
		"503":           {errDown, kyc.Ambiguous, outcomeUnavailable, "failure", false},
		"reset":         {upstream(kyc.Ambiguous, httpjson.CodeConnection), kyc.Ambiguous, outcomeUnavailable, "failure", false},
		"time-out":      {upstream(kyc.Ambiguous, httpjson.CodeTimeout), kyc.Ambiguous, outcomeTimeout, "failure", false},
		"bad answer":    {upstream(kyc.Ambiguous, httpjson.CodeBadAnswer), kyc.Ambiguous, outcomeBadAnswer, "failure", false},
		"inner guard":   {upstream(kyc.Refused, "breaker_open"), kyc.Refused, outcomeUnavailable, "nothing", false},
		"foreign":       {foreign, kyc.Internal, outcomeBadAnswer, "failure", false},
		"wrapped":       {fmt.Errorf("wrapped: %w", errDown), kyc.Ambiguous, outcomeUnavailable, "failure", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(Limits{}, func(context.Context) error { return tt.err })
			err := b.call(t.Context())
			if (err == nil) != (tt.err == nil) || err != nil && kyc.KindOf(err) != tt.kind {
				t.Errorf("error %v, want kind %s", err, tt.kind)
			}
			if err != nil && strings.Contains(err.Error(), "example.com") {
				t.Errorf("a foreign error's text came through: %v", err)
			}
			for o := range outcomes {
				want := 0
				if o == tt.outcome {
					want = 1
				}
				if got := b.observed(t, o); got != want {
					t.Errorf("outcome %s observed %d times, want %d", o, got, want)
				}
			}
			c := b.guard.operations[0].breaker.Counts()
			counts := map[string]bool{"success": c.TotalSuccesses == 1, "failure": c.TotalFailures == 1, "nothing": c.TotalExclusions == 1}
			if !counts[tt.counts] || c.Requests != 1 {
				t.Errorf("the breaker counted %+v, want a %s", c, tt.counts)
			}
			if h := b.health(); h.Requests != 1 || (*h.SuccessRate == 1) != tt.proper {
				t.Errorf("health %+v, want a proper answer: %t", h, tt.proper)
			}
		})
	}
}

// The attempt's own deadline is the provider's fault; the end of the caller's context is not.
func TestWhoseTimeWasUp(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return upstream2(kyc.Ambiguous, ctx.Err())
	}
	hangBare := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("Post %q: %w", "https://example.com", context.Cause(ctx))
	}
	hangDialling := func(ctx context.Context) error {
		<-ctx.Done()
		return upstream2(kyc.Unavailable, ctx.Err())
	}
	tests := map[string]struct {
		op      func(context.Context) error
		caller  func(context.Context) (context.Context, context.CancelFunc)
		kind    kyc.Kind
		code    string
		is      error
		outcome outcome
		failure uint32
	}{
		"ours":              {hang, nil, kyc.Ambiguous, "timeout", context.DeadlineExceeded, outcomeTimeout, 1},
		"ours, dialling":    {hangDialling, nil, kyc.Unavailable, "timeout", context.DeadlineExceeded, outcomeUnavailable, 1},
		"caller's deadline": {hang, within(time.Second), kyc.Ambiguous, "canceled", context.DeadlineExceeded, outcomeCanceled, 0},
		"caller went away":  {hang, goesAway(time.Second), kyc.Ambiguous, "canceled", context.Canceled, outcomeCanceled, 0},
		"bare error":        {hangBare, goesAway(time.Second), kyc.Ambiguous, "canceled", context.Canceled, outcomeCanceled, 0},
		"before departure":  {hangDialling, goesAway(time.Second), kyc.Unavailable, "canceled", context.Canceled, outcomeCanceled, 0},
		"answered anyway": {func(ctx context.Context) error { <-ctx.Done(); return upstream(kyc.Rejected, "invalid_request") }, goesAway(time.Second),
			kyc.Rejected, "invalid_request", nil, outcomeRejected, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(Limits{Timeout: 5 * time.Second}, tt.op)
				ctx := t.Context()
				if tt.caller != nil {
					var cancel context.CancelFunc
					ctx, cancel = tt.caller(ctx)
					defer cancel()
				}
				start := time.Now()
				err := b.call(ctx)
				want(t, err, tt.kind, tt.code)
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v is not %v", err, tt.is)
				}
				if b.observed(t, tt.outcome) != 1 {
					t.Errorf("outcome %s was not observed", tt.outcome)
				}
				if c := b.guard.operations[0].breaker.Counts(); c.TotalFailures != tt.failure {
					t.Errorf("the breaker counted %+v", c)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func upstream2(kind kyc.Kind, cause error) error {
	return &kyc.Error{Kind: kind, Op: "qitech.analyze_person", Code: httpjson.CodeTimeout, Err: cause}
}

func within(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
}

func goesAway(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(d, cancel)
		return ctx, cancel
	}
}

func TestPanicBecomesAnError(t *testing.T) {
	t.Parallel()
	var value any = "52998224725"
	b := setup(Limits{BreakerFailures: 2, MaxConcurrent: 1}, func(context.Context) error { panic(value) })
	want(t, b.call(t.Context()), kyc.Internal, "panic")
	var list []int
	b.guard.operations[0].breaker.Counts()
	value = func() (r any) { defer func() { r = recover() }(); return list[3] }()
	want(t, b.call(t.Context()), kyc.Internal, "panic")
	want(t, b.call(t.Context()), kyc.Refused, "breaker_open")
	if log := b.log.String(); strings.Contains(log, "52998224725") || !strings.Contains(log, "index out of range") || !strings.Contains(log, "guard_test.go") {
		t.Errorf("the log must show the place and no value:\n%s", log)
	}
	if h := b.health(); h.InFlight != 0 {
		t.Errorf("%d in flight", h.InFlight)
	}
}

// runtime.Goexit in an operation, as t.FailNow does, must not keep the slot.
func TestGoexitReleasesTheSlot(t *testing.T) {
	t.Parallel()
	exit := true
	b := setup(Limits{MaxConcurrent: 1}, func(context.Context) error {
		if exit {
			(&testing.T{}).SkipNow()
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.call(t.Context()) })
	wg.Wait()
	exit = false
	if err := b.call(t.Context()); err != nil {
		t.Error(err)
	}
}

// R6: an outage reaches the upstream with few calls.
func TestBreakerOpensFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reached, completed, openedAfter atomic.Int32
		b := setup(Limits{MaxConcurrent: 10, Timeout: 5 * time.Second}, func(ctx context.Context) error {
			n := reached.Add(1)
			elapse(time.Duration(n) * time.Millisecond) // they fail one after the other
			completed.Add(1)
			return errDown
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for b.health().Breaker == kyc.BreakerClosed {
					_ = b.call(t.Context())
				}
				openedAfter.CompareAndSwap(0, completed.Load()) // the others are still under way
			})
		}
		wg.Wait()
		if n := openedAfter.Load(); n > 6 {
			t.Errorf("open after %d completed failures, want at most 6", n)
		}
		if n := reached.Load(); n > 16 {
			t.Errorf("%d calls reached the upstream, want at most 16", n)
		}
	})
}

// One time-out after the other, slower than the window can count them.
func TestBreakerSeesSlowFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(Limits{Timeout: 10 * time.Second}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		for range 5 {
			want(t, b.call(t.Context()), kyc.Ambiguous, "timeout")
			elapse(20 * time.Second)
		}
		if s := b.health().Breaker; s == kyc.BreakerClosed {
			t.Error("five time-outs in a row left the breaker closed")
		}
	})
}

// Every second call failing is an outage too.
func TestBreakerOpensOnHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		b := setup(Limits{}, func(context.Context) error {
			if calls++; calls%2 == 0 {
				return errDown
			}
			return nil
		})
		for b.health().Breaker == kyc.BreakerClosed && calls < 100 {
			_ = b.call(t.Context())
			elapse(100 * time.Millisecond)
		}
		if calls != 20 {
			t.Errorf("opened after %d calls, want 20", calls)
		}
	})
}

// Impatient users, refusals of data and 429 say nothing about the upstream's health.
func TestBreakerStaysClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(Limits{MaxConcurrent: 100, Timeout: time.Minute, QueueLimit: 10_000}, func(ctx context.Context) error {
			<-ctx.Done()
			return upstream2(kyc.Ambiguous, ctx.Err())
		})
		var wg sync.WaitGroup
		for i := range 10_000 {
			ctx, cancel := goesAway(time.Duration(i) * time.Millisecond)(t.Context())
			wg.Go(func() {
				defer cancel()
				if err := b.call(ctx); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if h := b.health(); h.Breaker != kyc.BreakerClosed || h.Requests != 0 || h.InFlight != 0 {
			t.Errorf("after 10,000 cancelled calls: %+v", h)
		}
	})
	for name, err := range map[string]error{
		"rejected": upstream(kyc.Rejected, "x"), "internal": upstream(kyc.Internal, "HTTP_406"), "not found": upstream(kyc.NotFound, "x"),
		"conflict": upstream(kyc.Conflict, "x"), "rate limited": upstream(kyc.RateLimited, "HTTP_429"),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := setup(Limits{}, func(context.Context) error { return err })
			for range 100 {
				if kyc.KindOf(b.call(t.Context())) == kyc.Refused {
					elapse(time.Minute) // held by a 429
				}
			}
			if s := b.health().Breaker; s != kyc.BreakerClosed {
				t.Errorf("%s: breaker %s", name, s)
			}
		})
	}
}

// R7: one probe decides while a hundred wait, and one success closes.
func TestHalfOpenLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var reached atomic.Int32
		down.Store(true)
		b := setup(Limits{OpenFor: 15 * time.Second, MaxConcurrent: 200}, func(ctx context.Context) error {
			reached.Add(1)
			elapse(time.Second)
			if down.Load() {
				return errDown
			}
			return nil
		})
		fail := func(n int) {
			for range n {
				_ = b.call(t.Context())
			}
		}
		fail(5)
		opened := time.Now()
		e := want(t, b.call(t.Context()), kyc.Refused, "breaker_open")
		if got := time.Duration(e.RetryAfter); got != 15*time.Second {
			t.Errorf("RetryAfter %v, want 15s", got)
		}
		if h := b.health(); h.Breaker != kyc.BreakerOpen || !h.OpenedAt.Equal(opened) || !h.RetryAt.Equal(opened.Add(15*time.Second)) {
			t.Errorf("health %+v", h)
		}

		burst := func() (refused int) {
			reached.Store(0)
			var wg sync.WaitGroup
			var no atomic.Int32
			for range 100 {
				wg.Go(func() {
					err := b.call(t.Context())
					if kyc.KindOf(err) == kyc.Refused && err != nil {
						no.Add(1)
						if after := kyc.RetryAfter(err); after < 500*time.Millisecond || after > 1500*time.Millisecond {
							t.Errorf("while a probe is under way RetryAfter is %v", after)
						}
					}
				})
			}
			wg.Wait()
			return int(no.Load())
		}
		elapse(15*time.Second + time.Millisecond)
		if h := b.health(); h.Breaker != kyc.BreakerHalfOpen || h.RetryAt != nil || h.OpenedAt == nil {
			t.Errorf("health %+v", h)
		}
		if no := burst(); no != 99 || reached.Load() != 1 {
			t.Errorf("half-open: %d refused, %d reached the upstream, want 99 and 1", no, reached.Load())
		}
		if h := b.health(); h.Breaker != kyc.BreakerOpen || !h.OpenedAt.Equal(opened) {
			t.Errorf("after a failed probe: %+v", h)
		}
		down.Store(false)
		elapse(15*time.Second + time.Millisecond)
		if no := burst(); no != 99 || reached.Load() != 1 {
			t.Errorf("half-open: %d refused, %d reached the upstream, want 99 and 1", no, reached.Load())
		}
		if h := b.health(); h.Breaker != kyc.BreakerClosed || h.OpenedAt != nil || h.RetryAt != nil {
			t.Errorf("after a good probe: %+v", h)
		}
		if no := burst(); no != 0 || reached.Load() != 100 {
			t.Errorf("closed: %d refused, %d reached the upstream", no, reached.Load())
		}
		if log := b.log.String(); strings.Count(log, "breaker opened") != 1 || strings.Count(log, "breaker closed") != 1 {
			t.Errorf("opening and closing are logged once each:\n%s", log)
		}
	})
}

// A probe that was cancelled, or met a 429, decides nothing: the next may probe.
func TestUndecidedProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		err := errDown
		b := setup(Limits{}, func(ctx context.Context) error {
			if err == nil {
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		})
		for range 5 {
			_ = b.call(t.Context())
		}
		elapse(16 * time.Second)
		err = nil
		ctx, cancel := goesAway(time.Second)(t.Context())
		defer cancel()
		want(t, b.call(ctx), kyc.Ambiguous, "canceled")
		// A probe that hangs ends by its deadline and opens again.
		want(t, b.call(t.Context()), kyc.Ambiguous, "timeout")
		want(t, b.call(t.Context()), kyc.Refused, "breaker_open")
	})
}

// The breaker is one operation's: fetching goes on while submitting is broken.
func TestBreakerIsPerOperation(t *testing.T) {
	t.Parallel()
	b := setup(Limits{}, func(context.Context) error { return errDown })
	for range 6 {
		_ = b.call(t.Context())
	}
	if _, err := b.fetch(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	h := b.guard.Health()
	if h.Operations[0].Breaker != kyc.BreakerOpen || h.Operations[1].Breaker != kyc.BreakerClosed || h.Name != "qitech" || h.DisplayName != "QI Tech" {
		t.Errorf("%+v", h)
	}
}

// R8: a slow upstream holds its slots and no more; the rest wait in order and give up by their deadline.
func TestBulkhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		release := make(chan struct{})
		b := setup(Limits{MaxConcurrent: 3, QueueLimit: 5, Timeout: time.Hour}, func(context.Context) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			<-release
			return nil
		})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _ = b.call(t.Context()) })
		}
		synctest.Wait()
		// Two give up, three stay.
		for range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				e := want(t, b.call(ctx), kyc.Refused, "bulkhead_full")
				if e.RetryAfter <= 0 || !errors.Is(e, context.DeadlineExceeded) {
					t.Errorf("%+v", e)
				}
			})
			synctest.Wait()
		}
		var mu sync.Mutex
		var order []int
		for i := range 3 {
			wg.Go(func() {
				if err := b.call(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		want(t, b.call(t.Context()), kyc.Refused, "bulkhead_full") // the sixth in the queue
		if h := b.health(); h.InFlight != 3 {
			t.Errorf("%d in flight", h.InFlight)
		}
		if got := value(b.metrics.inFlight.WithLabelValues("qitech")); got != 3 {
			t.Errorf("the gauge shows %v in flight", got)
		}
		elapse(6 * time.Second)
		for range 6 {
			release <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		if most.Load() != 3 || !slices.Equal(order, []int{0, 1, 2}) || b.refused(bulkheadFull) != 3 {
			t.Errorf("%d at once, served in the order %v, %v refused", most.Load(), order, b.refused(bulkheadFull))
		}
	})
}

// A caller that goes away while queueing is told that nothing left, and is no refusal.
func TestQueueIsLeftByCancelling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := setup(Limits{MaxConcurrent: 1, Timeout: time.Hour}, func(context.Context) error { <-release; return nil })
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.call(t.Context()) })
		synctest.Wait()
		ctx, cancel := goesAway(time.Second)(t.Context())
		defer cancel()
		e := want(t, b.call(ctx), kyc.Refused, "canceled")
		if !errors.Is(e, context.Canceled) || e.RetryAfter != 0 {
			t.Errorf("%+v", e)
		}
		close(release)
		wg.Wait()
		want(t, b.call(ctx), kyc.Refused, "canceled") // before anything else
		for r := breakerOpen; r < reasons; r++ {
			if b.refused(r) != 0 {
				t.Errorf("%s counts %v", r, b.refused(r))
			}
		}
	})
}

// departures collects when calls left.
type departures struct {
	mu sync.Mutex
	at []time.Time
}

func (d *departures) note() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = append(d.at, time.Now())
}

// most is the greatest number of departures in any window.
func (d *departures) most(window time.Duration) (most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortFunc(d.at, time.Time.Compare)
	for i := range d.at {
		n := 0
		for _, at := range d.at[i:] {
			if at.Sub(d.at[i]) < window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// R7: never more than the budget in any one second, also when a slow upstream lets everybody go at once.
func TestRateBudget(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limits  Limits
		calls   int
		latency func(i int) time.Duration
		window  time.Duration
		most    int
		within  time.Duration
	}{
		"ten a second": {Limits{RatePerSecond: 10}, 100, func(int) time.Duration { return 0 }, time.Second, 10, 11 * time.Second},
		"uneven":       {Limits{RatePerSecond: 10, MaxConcurrent: 4}, 100, func(i int) time.Duration { return time.Duration(i%7) * 37 * time.Millisecond }, time.Second, 10, 15 * time.Second},
		"stalls, then is fast": {Limits{RatePerSecond: 10, MaxConcurrent: 2, Timeout: time.Minute}, 60, func(i int) time.Duration {
			if i < 2 {
				return 8 * time.Second
			}
			return 0
		}, time.Second, 10, 20 * time.Second},
		"a fraction":     {Limits{RatePerSecond: 0.5}, 5, func(int) time.Duration { return 0 }, 2 * time.Second, 1, 9 * time.Second},
		"two and a half": {Limits{RatePerSecond: 2.5}, 10, func(int) time.Duration { return 0 }, time.Second, 2, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d departures
				var n atomic.Int32
				b := setup(tt.limits, func(context.Context) error {
					d.note()
					elapse(tt.latency(int(n.Add(1)) - 1))
					return nil
				})
				start := time.Now()
				var wg sync.WaitGroup
				for range tt.calls {
					wg.Go(func() {
						if err := b.call(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if most := d.most(tt.window); most > tt.most {
					t.Errorf("%d departures in %v, want at most %d", most, tt.window, tt.most)
				}
				if took := time.Since(start); took > tt.within {
					t.Errorf("took %v, want at most %v", took, tt.within)
				}
			})
		})
	}
}

// Calls that wait for an access token leave by the budget when it comes, and not together: at the start, and when a token is lost
// while others are under way. A token that does not come holds one caller for as long as a call would, and no slot of the others.
func TestRateBudgetAfterASlowToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		there := make(chan struct{}) // closed when there is a token
		lose := func() {
			mu.Lock()
			there = make(chan struct{})
			mu.Unlock()
		}
		find := func() {
			mu.Lock()
			close(there)
			mu.Unlock()
		}
		token := func(ctx context.Context) error {
			mu.Lock()
			wait := there
			mu.Unlock()
			select {
			case <-wait:
				return nil
			case <-ctx.Done():
				return upstream(kyc.Unavailable, httpjson.CodeTimeout)
			}
		}
		var d departures
		p, guard := Wrap(kyc.Provider{
			Name: "fake", Prepare: func(ctx context.Context) { _ = token(ctx) },
			FetchPersonAnalysis: func(ctx context.Context, _ kyc.AnalysisID) (kyc.Verdict, error) {
				if err := token(ctx); err != nil {
					return kyc.Verdict{}, err
				}
				d.note()
				return kyc.Verdict{Known: true}, nil
			},
		}, Limits{RatePerSecond: 10, MaxConcurrent: 30, Timeout: 5 * time.Second}, nil, nil)
		elapse(3 * time.Second) // past the gentle start
		var wg sync.WaitGroup
		for round := range 3 {
			for range 40 {
				wg.Go(func() {
					if _, err := p.FetchPersonAnalysis(t.Context(), "x"); err != nil {
						t.Error(err)
					}
				})
			}
			elapse(2 * time.Second)
			if used, _ := held(guard.lane); round == 0 && used != 1 {
				t.Errorf("%d slots are taken by callers without a token", used)
			}
			find()
			elapse(2500 * time.Millisecond)
			lose() // with calls in the queue
		}
		find()
		wg.Wait()
		if most := d.most(time.Second); most > 10 || len(d.at) != 120 {
			t.Errorf("%d departures in one second, %d in all", most, len(d.at))
		}
		lose() // for good
		start := time.Now()
		if _, err := p.FetchPersonAnalysis(t.Context(), "x"); kyc.KindOf(err) != kyc.Unavailable || time.Since(start) > 11100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err := p.FetchPersonAnalysis(ctx, "x")
		if used, turn := held(guard.lane); kyc.KindOf(err) != kyc.Refused || time.Since(start) != time.Second || used != 0 || turn {
			t.Errorf("%v after %v; %d slots, turn %t", err, time.Since(start), used, turn)
		}
	})
}

// held tells how many slots are taken, and whether the turn is.
func held(l *lane) (used int, turn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used, l.turn
}

// The same with the real clock and many callers, where scheduling plays its part.
func TestRateBudgetForReal(t *testing.T) {
	t.Parallel()
	var d departures
	b := setup(Limits{RatePerSecond: 50, MaxConcurrent: 64}, func(context.Context) error { d.note(); return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = b.call(ctx)
			}
		})
	}
	wg.Wait()
	if most := d.most(time.Second); most > 50 || len(d.at) < 50 {
		t.Errorf("%d departures in one second, %d in all", most, len(d.at))
	}
}

// The budget is shared by the operations of a provider, refuses whom it cannot serve in time, and loses
// nothing to calls that did not leave.
func TestRateBudgetRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(Limits{RatePerSecond: 2}, func(context.Context) error { return nil })
		time.Sleep(time.Second) // past the gentle start, in the bubble's time
		_ = b.call(t.Context())
		if _, err := b.fetch(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		e := want(t, b.call(ctx), kyc.Refused, "rate_budget")
		if got := time.Duration(e.RetryAfter); got != time.Second+slack || time.Since(start) != 0 {
			t.Errorf("refused after %v with RetryAfter %v, want at once with the time of the next departure", time.Since(start), got)
		}
		if b.refused(rateBudget) != 1 {
			t.Errorf("%v refusals counted", b.refused(rateBudget))
		}
		// Twenty wait without a deadline, ten seconds' worth. Who has less need not queue.
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = b.call(t.Context()) })
		}
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start = time.Now()
		want(t, b.call(ctx), kyc.Refused, "rate_budget")
		if took := time.Since(start); took != 0 {
			t.Errorf("refused after %v, want at once", took)
		}
		// Who is told by the clock is told the right reason.
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
			defer cancel()
			want(t, b.call(ctx), kyc.Refused, "rate_budget")
		})
		wg.Wait()
	})
}

func TestRefusedCallsSpendNoBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(Limits{RatePerSecond: 10}, func(context.Context) error { return errDown })
		time.Sleep(time.Second) // past the gentle start, in the bubble's time
		for range 5 {
			_ = b.call(t.Context())
		}
		for range 1000 {
			want(t, b.call(t.Context()), kyc.Refused, "breaker_open")
		}
		start := time.Now()
		for range 5 {
			if _, err := b.fetch(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the other operation had to wait %v", took)
		}
	})
}

// A 429 holds the operation until the time it names, and others go on.
func TestHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		theirs := &kyc.Error{Kind: kyc.RateLimited, Code: "HTTP_429", RetryAfter: kyc.RetryHint(7 * time.Second)}
		var err error = theirs
		reached := 0
		b := setup(Limits{}, func(context.Context) error { reached++; return err })
		if got := kyc.RetryAfter(b.call(t.Context())); got != 7*time.Second {
			t.Errorf("RetryAfter %v", got)
		}
		elapse(3 * time.Second)
		e := want(t, b.call(t.Context()), kyc.Refused, "rate_budget")
		if got := time.Duration(e.RetryAfter); got != 4*time.Second {
			t.Errorf("RetryAfter %v, want what is left", got)
		}
		if h := b.health(); h.RetryAt == nil || !h.RetryAt.Equal(time.Now().Add(4*time.Second)) || h.Breaker != kyc.BreakerClosed {
			t.Errorf("health %+v", h)
		}
		if _, err := b.fetch(t.Context(), "x"); err != nil {
			t.Errorf("another operation: %v", err)
		}
		elapse(4 * time.Second)
		err = nil
		if got := b.call(t.Context()); got != nil || reached != 2 {
			t.Errorf("after the hold: %v, %d calls", got, reached)
		}
		if b.health().RetryAt != nil {
			t.Error("the hold is over")
		}

		// Without a time: 1, 2, 4 … 60 s, and from the start after an answer.
		for round := range 2 {
			err = upstream(kyc.RateLimited, "HTTP_429")
			for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
				got := b.call(t.Context())
				if after := kyc.RetryAfter(got); kyc.KindOf(got) != kyc.RateLimited || after != time.Duration(seconds)*time.Second {
					t.Errorf("round %d: %v after %v, want %d s", round, got, after, seconds)
				}
				elapse(kyc.RetryAfter(got))
			}
			err = nil
			if got := b.call(t.Context()); got != nil {
				t.Error(got)
			}
		}

		// A time beyond belief is cut.
		theirs.RetryAfter = kyc.RetryHint(100 * time.Hour)
		err = theirs
		if got := kyc.RetryAfter(b.call(t.Context())); got != time.Hour || time.Duration(theirs.RetryAfter) != 100*time.Hour {
			t.Errorf("RetryAfter %v; the provider's own error says %v", got, time.Duration(theirs.RetryAfter))
		}
	})
}

// Ten calls under way that meet one 429 are one strike, and their answers do not end the hold.
func TestHoldCountsAFlightOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		b := setup(Limits{MaxConcurrent: 20}, func(context.Context) error {
			i := n.Add(1)
			elapse(time.Duration(i) * time.Millisecond)
			if i == 10 {
				return nil
			}
			return upstream(kyc.RateLimited, "HTTP_429")
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if after := kyc.RetryAfter(b.call(t.Context())); after > time.Second {
					t.Errorf("RetryAfter %v", after)
				}
			})
		}
		wg.Wait()
		want(t, b.call(t.Context()), kyc.Refused, "rate_budget")
	})
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := Limits{Timeout: 10 * time.Second, MaxConcurrent: 10, QueueLimit: 1000, BreakerFailures: 5, OpenFor: 15 * time.Second}
	if got := (Limits{}).withDefaults(); got != want {
		t.Errorf("%+v", got)
	}
	want.RatePerSecond, want.MaxConcurrent = 10, 64
	if got := want.withDefaults(); got != want {
		t.Errorf("%+v", got)
	}
}
