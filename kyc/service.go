package kyc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Partner is a tenant as the configuration describes it.
type Partner struct {
	ID        PartnerID
	SourceKyc SourceKyc
	// FinHubTenant is the partner's tenant at FinHub; "" where it has none.
	FinHubTenant Tenant
	// Require are the steps an onboarding needs to be approved; empty means PERSON alone.
	Require []StepKind
}

// Cadence says how patiently work goes on by itself at one provider.
type Cadence struct {
	PollEvery  time.Duration // between two look-ups of an open analysis; grows after the tenth
	RetryAfter time.Duration // after the first failure; doubles up to a minute
	// StuckAfter flags a prospect of which nothing was heard for so long; 0 never does. Leap only.
	StuckAfter time.Duration
	// HoldAmbiguous is how long a process stays open whose creation may or may not have arrived, and for how long a face
	// registration that timed out is looked for before it may be sent again (contract: at most 60 s); zero is 30 s.
	// Neither has an id of ours at the provider.
	HoldAmbiguous time.Duration
}

// backoff is the pause after that many failures in a row: it doubles up to a minute, or to a longer first one.
func (c Cadence) backoff(failures int) time.Duration {
	d := c.RetryAfter << min(max(failures-1, 0), 16)
	if d <= 0 || d > time.Minute {
		return max(time.Minute, c.RetryAfter)
	}
	return d
}

// operatorPause is the pause while an operator must act; asking often locks accounts.
func (c Cadence) operatorPause(failures int) time.Duration {
	return jitter(min(15*c.RetryAfter*time.Duration(min(failures, 10)), 5*time.Minute))
}

// Config is what a Service needs. Every field but the hooks is required.
type Config struct {
	Store     Store
	Providers []Provider // guarded
	Cadences  map[string]Cadence
	Partners  []Partner
	Clock     clockwork.Clock
	Logger    *slog.Logger

	// AnswerWithin bounds how long a mutation waits for a provider before it answers PENDING.
	AnswerWithin time.Duration
	// SkipCheckDigits takes CPFs with wrong check digits. QI Tech's own examples have them (dossier A.3).
	SkipCheckDigits bool
	// Guesses is how many documents of nobody a principal may look up in a minute. Zero is [DefaultGuesses].
	Guesses int

	// Erasures is the list of erased persons that lies outside of the database. Required.
	Erasures  ErasureLog
	Retention Retention

	// Feed is told by the store who has a new version. Nil is one that nobody tells: watchers look by themselves.
	Feed *Feed

	// SignSubjectToken signs a token for one person; nil where this gateway has no key for it.
	SignSubjectToken func(SubjectToken) (token string, expiry time.Time, err error)

	// Wake is told that a job may be due at that time. UnknownStatus counts a provider's word we do not
	// know. Health reads the guards. All three may be nil.
	Wake          func(at time.Time)
	UnknownStatus func(provider string)
	Health        func() []ProviderHealth
	// StaleHierarchy counts that an old category hierarchy was served because a new one could not be had. It may be nil.
	StaleHierarchy func(provider string)
}

// Service holds the verbs. Resolvers, webhooks and the worker call it; it is safe for concurrent use.
type Service struct {
	Config
	partners    map[PartnerID]Partner
	providers   map[string]Provider
	waiters     waiters[analysisEvent] // for analyses, by their ids
	guesses     *guesses
	onboardings *Onboardings

	prospectWaiters waiters[prospectEvent] // for Leap's customers, by their ids
	prospects       courtesy
	processWaiters  waiters[processEvent]
	captures        captures

	faceLocks locks // by document

	customerWaiters waiters[customerEvent] // for customers, by their ids
	hierarchies     hierarchies
	codes           activationCodes

	// A call that left runs on its own deadline, detached from the request that caused it. background
	// counts those; stop ends them at the end of a drain.
	background sync.WaitGroup
	alive      context.Context
	stop       context.CancelFunc
}

// New builds the service.
func New(c Config) *Service {
	if c.Wake == nil {
		c.Wake = func(time.Time) {}
	}
	if c.UnknownStatus == nil {
		c.UnknownStatus = func(string) {}
	}
	if c.StaleHierarchy == nil {
		c.StaleHierarchy = func(string) {}
	}
	if c.Health == nil {
		c.Health = func() []ProviderHealth { return nil }
	}
	if c.Feed == nil {
		c.Feed = NewFeed()
	}
	s := &Service{Config: c, partners: make(map[PartnerID]Partner), onboardings: NewOnboardings(c.Partners), providers: make(map[string]Provider)}
	if c.Guesses <= 0 {
		c.Guesses = DefaultGuesses
	}
	s.guesses = newGuesses(c.Guesses, c.Clock)
	for _, p := range c.Partners {
		s.partners[p.ID] = p
	}
	for _, p := range c.Providers {
		s.providers[p.Name] = p
	}
	s.alive, s.stop = context.WithCancel(context.Background())
	return s
}

// Lease is how long a job belongs to whoever took it. It outlives every call made under it: the guard's
// deadline is at most AnswerWithin + 8 s (internal/app holds that).
func (s *Service) Lease() time.Duration { return s.AnswerWithin + 10*time.Second }

// Drain waits for the calls under way until ctx ends, then cuts them off. What was cut off is looked up
// by the next process, because it was recorded before it left.
func (s *Service) Drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		s.background.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.stop()
	<-done
}

// RunJob does one claimed job to the end of its next step. The job is finished, released or buried in
// the same transaction as its effect. An error means that nothing was recorded and the lease will run out.
func (s *Service) RunJob(ctx context.Context, job *Job) error {
	priority := Sweep
	switch {
	case s.processWaiters.awaited(job.Subject):
		priority = User
	case job.Hinted:
		priority = Hint
	}
	ctx = WithPriority(ctx, priority)
	switch job.Kind {
	case JobAnalysis:
		return s.advanceAnalysis(ctx, job, nil)
	case JobProspect:
		return s.advanceProspect(ctx, job, nil)
	case JobProcess:
		return s.advanceProcess(ctx, job, nil)
	case JobFace:
		return s.advanceFace(ctx, job)
	case JobRetention:
		return s.enforceRetention(ctx, job)
	case JobCustomer:
		return s.advanceCustomer(ctx, job)
	default:
		return Errorf("kyc.run_job", "no such kind of job")
	}
}

// cutOff reports whether a call ended because this process is stopping. Nothing may be concluded from
// that: its record stays SENT and the next process looks it up.
func (s *Service) cutOff(ctx context.Context, err error) bool {
	return err != nil && errors.Is(context.Cause(ctx), context.Canceled)
}

// analysisEvent is one step an analysis took. One of its fields is set.
type analysisEvent struct {
	person  *Person // there is a verdict: the person as it stands now, with outcome
	outcome RegistrationOutcome
	refusal *Error    // the provider refused the data and the registration was taken back
	fault   error     // we are at fault; the caller is told INTERNAL
	again   time.Time // nothing is known yet; the next step comes then
}
