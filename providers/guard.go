package providers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/providers/httpjson"
)

// Limits is how the calls to one provider are bounded. A zero field takes its default.
type Limits struct {
	Timeout         time.Duration // of one attempt; 10 s
	MaxConcurrent   int           // calls under way, the bulkhead; 10
	RatePerSecond   float64       // departures in any one second; 0 is unlimited
	QueueLimit      int           // callers waiting for the two above; 1,000
	BreakerFailures int           // consecutive failures of an operation that open its breaker; 5
	OpenFor         time.Duration // how long an open breaker lets nothing through; 15 s
}

func (l Limits) withDefaults() Limits {
	l.Timeout = positive(l.Timeout, 10*time.Second)
	l.MaxConcurrent = positive(l.MaxConcurrent, 10)
	l.QueueLimit = positive(l.QueueLimit, 1000)
	l.BreakerFailures = positive(l.BreakerFailures, 5)
	l.OpenFor = positive(l.OpenFor, 15*time.Second)
	return l
}

func positive[N int | time.Duration](n, otherwise N) N {
	if n > 0 {
		return n
	}
	return otherwise
}

// The breaker also opens when half of a busy window fails, for outages that let every other call through.
const (
	breakerWindow   = 30 * time.Second
	breakerBucket   = 3 * time.Second
	breakerMinCalls = 20
)

// Guard is what surrounds the calls to one provider, for those who want to look at it.
type Guard struct {
	provider    string
	displayName string
	limits      Limits
	lane        *lane
	prepare     func(context.Context) // of the provider; may be nil
	metrics     *Metrics
	log         *slog.Logger
	operations  []*operation
}

// Wrap puts the guard around every operation p offers. The order is drawn in the package comment. m and log
// may be nil.
//
// MUST wrap every Op slot of kyc.Provider under its name in snake case: TestGuardWrapsEverySlot.
func Wrap(p kyc.Provider, limits Limits, m *Metrics, log *slog.Logger) (kyc.Provider, *Guard) {
	limits = limits.withDefaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		provider: p.Name, displayName: p.DisplayName, limits: limits,
		lane: newLane(limits), prepare: p.Prepare, metrics: m, log: log.With("provider", p.Name),
	}
	p.AnalyzePerson = guarded(g, "analyze_person", p.AnalyzePerson)
	p.FetchPersonAnalysis = guarded(g, "fetch_person_analysis", p.FetchPersonAnalysis)
	p.RegisterProspect = guarded(g, "register_prospect", p.RegisterProspect)
	p.FetchProspect = guarded(g, "fetch_prospect", p.FetchProspect)
	p.UpdateProspect = guarded(g, "update_prospect", p.UpdateProspect)
	p.FetchCategoryHierarchy = guarded(g, "fetch_category_hierarchy", p.FetchCategoryHierarchy)
	p.RegisterCustomer = guarded(g, "register_customer", p.RegisterCustomer)
	p.FindCustomer = guarded(g, "find_customer", p.FindCustomer)
	p.StartVerification = guarded(g, "start_verification", p.StartVerification)
	p.AcceptConsent = guarded(g, "accept_consent", p.AcceptConsent)
	p.CheckActivation = guarded(g, "check_activation", p.CheckActivation)
	p.ActivateCustomer = guarded(g, "activate_customer", p.ActivateCustomer)
	p.CreateProcess = guarded(g, "create_process", p.CreateProcess)
	p.FetchProcess = guarded(g, "fetch_process", p.FetchProcess)
	p.ReusableDocuments = guarded(g, "reusable_documents", p.ReusableDocuments)
	p.RegisterFace = guarded(g, "register_face", p.RegisterFace)
	p.FetchFace = guarded(g, "fetch_face", p.FetchFace)
	p.FetchFaceByDocument = guarded(g, "fetch_face_by_document", p.FetchFaceByDocument)
	m.watch(g)
	return p, g
}

// guarded puts the guard around one slot. A capability that is not offered stays nil.
func guarded[In, Out any](g *Guard, name string, op kyc.Op[In, Out]) kyc.Op[In, Out] {
	if op == nil {
		return nil
	}
	o := g.operation(name)
	return func(ctx context.Context, in In) (Out, error) {
		var out, none Out
		err := o.run(ctx, func(ctx context.Context) (err error) {
			out, err = op(ctx, in)
			return err
		})
		if err != nil {
			return none, err // out may be half written
		}
		return out, nil
	}
}

// operation is one guarded operation of a provider.
type operation struct {
	guard   *Guard
	name    string
	op      string // "qitech.analyze_person", the Op of errors
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	metrics operationMetrics
	stats   *stats

	inFlight atomic.Int64

	// The breaker's times. gobreaker keeps them to itself, and OnStateChange runs under its mutex, so they are
	// atomics: reading the breaker from there, or waiting for a lock, could stop every call.
	openedAt atomic.Pointer[time.Time] // of this outage: kept while probes fail
	retryAt  atomic.Pointer[time.Time] // when the next probe may leave
	changes  chan gobreaker.State      // opened and closed, to be logged outside the mutex
	streak   int                       // failures in a row; owned by gobreaker's mutex

	heldUntil atomic.Pointer[time.Time] // by a 429
	holdMu    sync.Mutex                // writing heldUntil
	heldAt    time.Time                 // when the hold was made
	strikes   int                       // 429s in a row that named no time
}

func (g *Guard) operation(name string) *operation {
	o := &operation{
		guard: g, name: name, op: g.provider + "." + name,
		metrics: g.metrics.operation(g.provider, name),
		stats:   newStats(time.Now()),
		changes: make(chan gobreaker.State, 8),
	}
	o.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:          o.op,
		MaxRequests:   1,
		Interval:      breakerWindow,
		BucketPeriod:  breakerBucket,
		Timeout:       g.limits.OpenFor,
		ReadyToTrip:   o.readyToTrip,
		OnStateChange: o.stateChanged,
		IsExcluded:    func(err error) bool { return errors.Is(err, errNotCounted) },
		IsSuccessful:  o.successful,
	})
	g.operations = append(g.operations, o)
	return o
}

// errNotCounted tells the breaker to leave a call out of its counts.
var errNotCounted = errors.New("not counted")

// successful keeps its own streak: gobreaker's ConsecutiveFailures forgets what has left the window, so at
// one 10 s time-out after the other it would never see five.
func (o *operation) successful(err error) bool {
	if err == nil {
		o.streak = 0
		return true
	}
	o.streak++
	return false
}

func (o *operation) readyToTrip(c gobreaker.Counts) bool {
	counted := c.TotalSuccesses + c.TotalFailures
	return o.streak >= o.guard.limits.BreakerFailures || counted >= breakerMinCalls && 2*c.TotalFailures >= counted
}

func (o *operation) stateChanged(_ string, from, to gobreaker.State) {
	now := time.Now()
	switch to {
	case gobreaker.StateOpen:
		retry := now.Add(o.guard.limits.OpenFor)
		o.retryAt.Store(&retry)
		if from == gobreaker.StateClosed { // a failed probe is the same outage
			o.openedAt.Store(&now)
			o.announce(to)
		}
	case gobreaker.StateClosed:
		o.streak = 0
		o.openedAt.Store(nil)
		o.retryAt.Store(nil)
		o.announce(to)
	case gobreaker.StateHalfOpen:
		o.retryAt.Store(nil)
	}
}

func (o *operation) announce(s gobreaker.State) {
	select {
	case o.changes <- s:
	default: // nobody reports; losing a line is better than waiting here
	}
}

// report logs what the breaker did, after its mutex is free.
func (o *operation) report(ctx context.Context) {
	for {
		select {
		case s := <-o.changes:
			if s == gobreaker.StateOpen {
				o.guard.log.WarnContext(ctx, "breaker opened: calls are refused until a probe succeeds",
					"operation", o.name, "probe_after", o.guard.limits.OpenFor.String())
			} else {
				o.guard.log.InfoContext(ctx, "breaker closed: the operation works again", "operation", o.name)
			}
		default:
			return
		}
	}
}

// run takes one call through the guard.
func (o *operation) run(ctx context.Context, call func(context.Context) error) error {
	var done func(error)
	r := o.closed(ctx)
	if r == nil {
		r = o.guard.lane.enter(ctx, func() (r *refusal) {
			done, r = o.admit(ctx)
			return r
		})
	}
	if r != nil {
		return o.refuse(r)
	}
	defer o.guard.lane.leave()
	return o.attempt(ctx, call, done)
}

// admit is the last question before a call leaves, and the one that counts. The caller MUST tell done how
// the call ended.
func (o *operation) admit(ctx context.Context) (done func(error), r *refusal) {
	if r := o.closed(ctx); r != nil {
		return nil, r
	}
	if o.guard.prepare != nil {
		// With the turn in hand: nobody else can leave without it either, and who waits meanwhile takes no slot and is bounded
		// by the queue.
		o.prepare(ctx)
		if r := o.closed(ctx); r != nil {
			return nil, r
		}
	}
	done, err := o.breaker.Allow()
	if err != nil {
		return nil, o.breakerRefusal(err)
	}
	return done, nil
}

// prepare waits no longer than an attempt would.
func (o *operation) prepare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.guard.limits.Timeout)
	defer cancel()
	o.guard.prepare(ctx)
}

// attempt makes the call and settles it, whatever happens in it.
func (o *operation) attempt(caller context.Context, call func(context.Context) error, done func(error)) (err error) {
	// Every attempt has a deadline: a half-open breaker whose probe never ends would stay shut for ever.
	ctx, cancel := context.WithTimeoutCause(caller, o.guard.limits.Timeout, errDeadline)
	o.inFlight.Add(1)
	o.metrics.inFlight.Inc()
	start := time.Now()
	returned := false
	defer func() {
		if !returned {
			err = o.panicked(ctx, recover())
		}
		o.inFlight.Add(-1)
		o.metrics.inFlight.Dec()
		err = o.settle(ctx, err, start, done)
		cancel()
		o.report(caller)
	}()
	err = call(ctx)
	returned = true
	return err
}

// errDeadline is the cause of the attempt's own deadline, which is how it is told from the caller's.
var errDeadline = errors.New("the attempt's deadline")

// errPanic marks what must count as a failure although its kind is Internal.
var errPanic = errors.New("the provider's code panicked")

// panicked keeps a panic in one operation from ending the process. The value is not printed, it may hold a
// person's data; the runtime's own panics (index, nil map) do not, and say what to mend.
func (o *operation) panicked(ctx context.Context, value any) error {
	what := fmt.Sprintf("%T", value)
	if err, ok := value.(runtime.Error); ok {
		what = err.Error()
	}
	o.guard.log.ErrorContext(ctx, "panic in a provider", "operation", o.name, "panic", what, "stack", string(debug.Stack()))
	return &kyc.Error{Kind: kyc.Internal, Op: o.op, Code: "panic", Err: errPanic}
}

// settle judges the end of an attempt and tells everyone who counts.
func (o *operation) settle(ctx context.Context, err error, start time.Time, done func(error)) error {
	now := time.Now()
	err = o.normalise(ctx, err)
	v := judge(err)
	if kyc.KindOf(err) == kyc.RateLimited {
		err = o.hold(err, start, now)
	} else if v.outcome != outcomeCanceled {
		o.answered()
	}
	o.metrics.durations(v.outcome).Observe(now.Sub(start).Seconds())
	if v.outcome != outcomeCanceled {
		o.stats.record(now, now.Sub(start), v.proper)
	}
	switch v.vote {
	case voteSuccess:
		done(nil)
	case voteExcluded:
		done(errNotCounted)
	case voteFailure:
		done(err)
	}
	return err
}

// normalise makes sure that what an operation returned is one of our errors, and that an ended context says
// whose time was up.
func (o *operation) normalise(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var e *kyc.Error
	classified := errors.As(err, &e)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind, code, cause := kyc.Ambiguous, httpjson.CodeTimeout, context.DeadlineExceeded
		if classified && e.Kind == kyc.Unavailable {
			kind = kyc.Unavailable // the provider knows that nothing had left
		}
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errDeadline) {
			code, cause = httpjson.CodeCanceled, ctx.Err()
		}
		return &kyc.Error{Kind: kind, Op: o.op, Code: code, Err: cause}
	}
	if !classified {
		// Its text is not ours and may hold anything. Its kind is Internal: nobody said otherwise.
		return &kyc.Error{Kind: kyc.Internal, Op: o.op, Code: "unclassified", Err: fmt.Errorf("%w: %T", errUnclassified, err)}
	}
	return err
}

var errUnclassified = errors.New("the provider's code returned an error that is not ours")

// verdict is how the end of an attempt counts.
type verdict struct {
	outcome outcome
	vote    vote
	proper  bool // the provider answered the question, if only with a no
}

type vote uint8

const (
	voteFailure vote = iota
	voteSuccess
	voteExcluded
)

// judge is the table of the package comment.
func judge(err error) verdict {
	if err == nil {
		return verdict{outcomeOK, voteSuccess, true}
	}
	var e *kyc.Error
	if !errors.As(err, &e) || errors.Is(err, errPanic) || errors.Is(err, errUnclassified) {
		return verdict{outcome: outcomeBadAnswer}
	}
	if e.Code == httpjson.CodeCanceled {
		return verdict{outcome: outcomeCanceled, vote: voteExcluded}
	}
	switch e.Kind {
	case kyc.NotFound, kyc.Conflict:
		return verdict{outcomeOK, voteSuccess, true}
	case kyc.Rejected:
		return verdict{outcomeRejected, voteSuccess, true}
	case kyc.RateLimited:
		return verdict{outcome: outcomeRateLimited, vote: voteExcluded}
	case kyc.Credentials:
		return verdict{outcome: outcomeCredentials}
	case kyc.Refused: // an inner guard, of a token endpoint perhaps
		return verdict{outcome: outcomeUnavailable, vote: voteExcluded}
	case kyc.Unavailable:
		return verdict{outcome: outcomeUnavailable}
	case kyc.Ambiguous:
		switch e.Code {
		case httpjson.CodeTimeout:
			return verdict{outcome: outcomeTimeout}
		case httpjson.CodeBadAnswer:
			return verdict{outcome: outcomeBadAnswer}
		}
		return verdict{outcome: outcomeUnavailable}
	default: // Internal and those no upstream call ends in: we spoke wrongly, the upstream is well
		return verdict{outcome: outcomeRejected, vote: voteSuccess}
	}
}

// reason is why the guard did not let a call leave: a metric label and the Code of the error.
type reason int32

const (
	wentAway reason = iota // not a refusal: the caller left the queue
	breakerOpen
	bulkheadFull
	rateBudget
	reasons
)

func (r reason) String() string {
	return [...]string{wentAway: "canceled", breakerOpen: "breaker_open", bulkheadFull: "bulkhead_full", rateBudget: "rate_budget"}[r]
}

// refusal is a call that did not leave.
type refusal struct {
	reason reason
	after  time.Duration
	cause  error // the caller's context, if that ended
}

// refuse turns a refusal into the caller's error. Kind Refused also when the caller went away in the queue:
// what matters to it is that nothing left.
func (o *operation) refuse(r *refusal) error {
	if r.reason != wentAway {
		o.metrics.refused[r.reason].Inc()
	}
	e := &kyc.Error{Kind: kyc.Refused, Op: o.op, Code: r.reason.String(), Err: r.cause}
	if r.reason != wentAway {
		e.RetryAfter = kyc.RetryHint(max(r.after, time.Millisecond)) // zero would mean "no hint"
	}
	return e
}

// closed says why a call would not leave now, if so. It is asked before a call queues and again at the head
// of the queue, so that a closed operation neither fills the queue nor spends the budget others need.
func (o *operation) closed(ctx context.Context) *refusal {
	if err := ctx.Err(); err != nil {
		return &refusal{cause: err}
	}
	if until := o.heldUntil.Load(); until != nil {
		if pause := time.Until(*until); pause > 0 {
			return &refusal{reason: rateBudget, after: pause}
		}
	}
	switch o.breaker.State() {
	case gobreaker.StateOpen:
		return o.breakerRefusal(gobreaker.ErrOpenState)
	case gobreaker.StateHalfOpen:
		if c := o.breaker.Counts(); c.Requests > c.TotalExclusions {
			return o.breakerRefusal(gobreaker.ErrTooManyRequests)
		}
	case gobreaker.StateClosed:
	}
	return nil
}

func (o *operation) breakerRefusal(err error) *refusal {
	if errors.Is(err, gobreaker.ErrOpenState) {
		if at := o.retryAt.Load(); at != nil {
			return &refusal{reason: breakerOpen, after: time.Until(*at)}
		}
	}
	// A probe is under way and decides soon. Jittered, so that those who wait do not come back as one (ours).
	return &refusal{reason: breakerOpen, after: jitter(time.Second)}
}

// jitter spreads d over half to one and a half of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// The pauses after a 429 that names no time: 1, 2, 4 … 60 s (reliability 4.2). A named one is believed up
// to an hour.
const (
	firstHold = time.Second
	maxHold   = time.Minute
	maxNamed  = time.Hour
)

// hold keeps later calls of the operation from leaving until the upstream wants them, and tells the caller
// when that is.
func (o *operation) hold(err error, start, now time.Time) error {
	o.holdMu.Lock()
	defer o.holdMu.Unlock()
	pause := min(kyc.RetryAfter(err), maxNamed)
	if pause <= 0 {
		// Calls that were under way when the hold was made say nothing new.
		if start.After(o.heldAt) {
			o.strikes++
		}
		pause = min(firstHold<<min(max(o.strikes-1, 0), 6), maxHold)
	}
	until := now.Add(pause)
	if old := o.heldUntil.Load(); old == nil || old.Before(until) {
		o.heldUntil.Store(&until)
		o.heldAt = now
	}
	var e *kyc.Error
	errors.As(err, &e)
	held := *e // a copy: the provider's error is not ours to change
	held.RetryAfter = kyc.RetryHint(pause)
	return &held
}

// answered ends the row of 429s, but not a hold that still runs: an answer to a call that left before the
// hold says nothing about it.
func (o *operation) answered() {
	if o.heldUntil.Load() == nil {
		return // the usual case needs no lock
	}
	o.holdMu.Lock()
	defer o.holdMu.Unlock()
	if until := o.heldUntil.Load(); until != nil && !time.Now().Before(*until) {
		o.strikes = 0
		o.heldUntil.Store(nil)
	}
}

// Health is the provider as this process sees it.
func (g *Guard) Health() kyc.ProviderHealth {
	h := kyc.ProviderHealth{Name: g.provider, DisplayName: g.displayName}
	for _, o := range g.operations {
		h.Operations = append(h.Operations, o.health(time.Now()))
	}
	return h
}

func (o *operation) health(now time.Time) kyc.OperationHealth {
	h := kyc.OperationHealth{Name: o.name, Breaker: o.state(), InFlight: int(o.inFlight.Load())}
	h.Requests, h.SuccessRate, h.LatencyMs = o.stats.summary(now)
	h.OpenedAt = utc(o.openedAt.Load())
	retry := o.retryAt.Load()
	if held := o.heldUntil.Load(); held != nil && (retry == nil || held.After(*retry)) {
		retry = held
	}
	if retry != nil && retry.After(now) {
		h.RetryAt = utc(retry)
	}
	return h
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC().Round(0)
	return &u
}

// state asks the breaker, which is what moves an expired open to half-open.
func (o *operation) state() kyc.BreakerState {
	switch o.breaker.State() {
	case gobreaker.StateOpen:
		return kyc.BreakerOpen
	case gobreaker.StateHalfOpen:
		return kyc.BreakerHalfOpen
	case gobreaker.StateClosed:
	}
	return kyc.BreakerClosed
}
