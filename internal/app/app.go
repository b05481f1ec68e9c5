// Package app wires everything and knows the order of birth and death. It is the only package that sees
// two adapters at once, and it holds no rule of its own.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/erasures"
	"github.com/kycgate/kycgate/internal/server"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/internal/worker"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/resolvers"
	"github.com/kycgate/kycgate/store"
)

// ErrDatabase is wrapped by every failure to open, migrate or recover the database.
var ErrDatabase = errors.New("database.url")

// drainTime is how long calls and jobs under way may go on after the listeners are closed. What is still
// under way then is cut off and looked up by the next process.
const drainTime = 10 * time.Second

// How serve sets the garbage collector: GCPercent was measured on two cores, MemoryLimit is ours (soft, in bytes).
const (
	GCPercent   = 400
	MemoryLimit = 512 << 20
)

// Options is what New needs. Config must have passed its Validate.
type Options struct {
	Config  config.Config
	Logger  *slog.Logger
	Clock   clockwork.Clock // nil means the wall clock
	Version Version
}

// App is a gateway: two listeners, a worker, a database.
type App struct {
	log      *slog.Logger
	clock    clockwork.Clock
	tokens   *auth.Verifier
	keyset   *vault.Keyset
	erasures *erasures.List
	store    *store.Store
	service  *kyc.Service
	worker   *worker.Worker
	server   *server.Server
}

// New opens the database, brings it to this binary's schema, takes over what the last process left, and
// binds the listeners. Nothing is served before Run.
func New(ctx context.Context, o Options) (_ *App, err error) {
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	c := o.Config
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version))

	verifier, err := auth.New(c, o.Clock.Now, &http.Client{Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			verifier.Close()
		}
	}()
	upstreams, err := newUpstreams(ctx, o, reg)
	if err != nil {
		return nil, err
	}
	a := &App{log: o.Logger, clock: o.Clock, tokens: verifier}
	keyset, keysFile, err := openKeys(c, o.Logger)
	if err != nil {
		return nil, err
	}
	a.keyset = keyset
	erased, listed, err := erasures.Open(erasuresFile(c, keysFile), keyset.MAC)
	if err != nil {
		return nil, config.Wrong("keys.erasures_file", "%v", err)
	}
	a.erasures = erased
	defer func() {
		if err != nil {
			err = errors.Join(err, erased.Close())
		}
	}()
	feed, judge := kyc.NewFeed(), kyc.NewOnboardings(partners(c))
	if a.store, err = openStore(ctx, c, keyset, reg, o.Logger, o.Clock, feed, judge); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.store.Close())
		}
	}()
	if err := ownKeys(ctx, c, keyset); err != nil {
		return nil, err
	}
	if err := a.store.OpenAudit(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDatabase, err)
	}

	sign, err := subjectTokens(c, o.Clock)
	if err != nil {
		return nil, err
	}
	a.service = kyc.New(kyc.Config{
		SignSubjectToken: sign,
		Store:            a.store, Providers: upstreams.providers(), Cadences: upstreams.cadences, Partners: partners(c),
		Erasures: erased, Retention: retention(c), Feed: feed,
		Clock: o.Clock, Logger: o.Logger, AnswerWithin: c.AnswerWithin, SkipCheckDigits: !c.Validation.CPFCheckDigits,
		Guesses: c.Limits.DocumentGuesses,
		Wake:    func(at time.Time) { a.worker.Wake(at) }, UnknownStatus: upstreams.unknownStatus, Health: upstreams.health,
		StaleHierarchy: upstreams.metrics.StaleHierarchy,
	})
	again, err := a.service.ReplayErasures(ctx, listed)
	if err != nil {
		return nil, fmt.Errorf("%w: replay the list of erasures: %w", ErrDatabase, err)
	}
	if again > 0 {
		o.Logger.Warn("erased persons were in the database again, as after restoring a backup; they are erased again", "persons", again)
	}
	a.worker = worker.New(worker.Config{
		Store: a.store, Run: a.service.RunJob, Lease: a.service.Lease(), Clock: o.Clock, Logger: o.Logger, Registerer: reg,
	})
	if err := a.service.EnsureRetention(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	reg.MustRegister(newOpenProcesses(a.service, upstreams.providers()))
	graphQL, err := newGraphQL(o, a.service, verifier, reg)
	if err != nil {
		return nil, err
	}
	a.server, err = server.New(server.Config{
		Listen: c.Listen, AdminListen: c.AdminListen, GraphQL: graphQL,
		Callbacks: newCallbacks(a.service, reg, o.Logger, upstreams.names()),
		Registry:  reg, Ready: a.store.Ping, Logger: o.Logger,
		WriteTimeout: c.AnswerWithin + 15*time.Second, NewErrorID: newErrorID,
	})
	if err != nil {
		return nil, err
	}
	if err := a.server.Listen(); err != nil {
		return nil, err
	}
	return a, nil
}

func newGraphQL(o Options, service *kyc.Service, verifier *auth.Verifier, reg prometheus.Registerer) (http.Handler, error) {
	schema := resolvers.NewSchema(service)
	policy, err := resolvers.NewPolicy(schema.Schema())
	if err != nil {
		return nil, err
	}
	captures := server.Captures(schema.Schema())
	return server.NewGraphQL(server.GraphQLConfig{
		Schema: schema,
		Authenticate: func(r *http.Request) (kyc.Caller, time.Time, error) {
			token, ok := auth.FromRequest(r)
			if !ok {
				return kyc.Caller{}, time.Time{}, auth.ErrUnauthenticated
			}
			return verifier.Verify(r.Context(), token)
		},
		Authorize: func(c kyc.Caller, _ *ast.QueryDocument, op *ast.OperationDefinition, _ map[string]any) *gqlerror.Error {
			return policy.Authorize(c, op)
		},
		MayCapture: func(c kyc.Caller) bool {
			for f := range captures {
				if policy.Allows(c, f) {
					return true
				}
			}
			return false
		},
		Presenter: resolvers.Presenter(o.Logger, newErrorID), Recover: resolvers.Recover(o.Logger, newErrorID),
		IntrospectionOpen: o.Config.Environment == config.Sandbox,
		Metrics:           server.NewMetrics(reg), Logger: o.Logger, NewErrorID: newErrorID,
		// A little over answer_within: the mutation answers PENDING by itself well before.
		AnswerTimeout:  o.Config.AnswerWithin + 5*time.Second,
		AllowedOrigins: allowedOrigins(o.Config), OwnOrigin: o.Config.OwnOrigin(), Clock: o.Clock,
	})
}

// Run serves until ctx ends or the database fails for good. Then it drains: readiness is false at once,
// requests in flight are answered, calls and jobs under way get drainTime.
func (a *App) Run(ctx context.Context) error {
	// A file that may not grow must be an error of the write and not the end of the process (R13).
	signal.Ignore(syscall.SIGXFSZ)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	running.Go(func() { a.worker.Run(ctx, drainTime) })
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-a.store.Failed():
			// After a failed fsync nobody knows what is on the device: stop acknowledging and let the next process
			// read what is there (R15).
			stop(fmt.Errorf("%w: writing to the device failed; restart after mending it", ErrDatabase))
		}
	})
	running.Go(func() { a.watchKeys(ctx) })
	running.Go(func() { a.refreshOnboardings(ctx) })
	running.Go(func() { a.watchKeyset(ctx) })
	// It outlives the others: what they did last is to be under a signed head too.
	sealing, sealed := context.WithCancel(context.WithoutCancel(ctx))
	defer sealed()
	var sealer sync.WaitGroup
	sealer.Go(func() { a.sealAudit(sealing) })
	err := a.server.Serve(ctx)
	stop(nil)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	a.service.Drain(drain)
	running.Wait()
	sealed()
	sealer.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrDatabase) {
		err = errors.Join(cause, err)
	}
	return err
}

// watchKeys tells the operator when the key set cannot be read again: tokens go on being verified with the
// old keys, so nothing else shows it.
func (a *App) watchKeys(ctx context.Context) {
	ticker := a.clock.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.Chan():
			if err := a.tokens.KeysError(); err != nil {
				a.log.Warn("token keys cannot be read again; the old ones stay in use", "err", err)
			}
		}
	}
}

// refreshOnboardings takes over what a partner's changed list means for those who are there already.
func (a *App) refreshOnboardings(ctx context.Context) {
	n, err := a.service.RefreshOnboardings(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		a.log.Warn("not everybody was judged by what partners require now; the others are when they are asked for, and after the next start", "err", err)
	case n > 0:
		a.log.Info("persons were judged again by what their partners require now", "persons", n)
	}
}

// subjectTokens signs tokens for the front ends of single persons, where this gateway has a key for it.
func subjectTokens(c config.Config, clock clockwork.Clock) (func(kyc.SubjectToken) (string, time.Time, error), error) {
	if c.Auth.SigningKeyFile == "" {
		return nil, nil
	}
	signer, err := auth.NewSigner(c)
	if err != nil {
		return nil, err
	}
	signer.Clock = clock.Now
	return func(t kyc.SubjectToken) (string, time.Time, error) {
		return signer.Sign(auth.Claims{Partner: t.Partner, Subject: string(t.Person), Person: t.Person, TTL: t.TTL})
	}, nil
}

// Close releases the database and, if Run was never called, the listeners. Call it once, after Run.
func (a *App) Close() error {
	a.tokens.Close()
	return errors.Join(a.server.Close(), a.store.Close(), a.erasures.Close())
}

// PublicAddr is where /graphql and /callbacks are served.
func (a *App) PublicAddr() string { return a.server.PublicAddr().String() }

// AdminAddr is where /metrics, /healthz and /readyz are served.
func (a *App) AdminAddr() string { return a.server.AdminAddr().String() }

// openStore opens, migrates and recovers.
func openStore(ctx context.Context, c config.Config, keys store.Keys, reg prometheus.Registerer, log *slog.Logger, clock clockwork.Clock, feed *kyc.Feed, judge *kyc.Onboardings) (*store.Store, error) {
	if err := checkFolder(c); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{
		Path: c.Database.SQLitePath(), Keys: keys, AuditHeads: headsFile(c), Registerer: reg, Logger: log, Now: clock.Now, Changed: feed.Wake, PersonState: judge.Changed,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	from, to, err := s.Migrate(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrDatabase, err), s.Close())
	}
	leases, ambiguous, err := s.Recover(ctx, clock.Now())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrDatabase, err), s.Close())
	}
	if from != to || leases+ambiguous > 0 {
		log.Info("database is ready", "schema_from", from, "schema_to", to, "jobs_taken_over", leases, "calls_to_look_up", ambiguous)
	}
	return s, nil
}

// checkFolder refuses a database in a folder that does not exist. The store would make it, and a mistyped path or a
// disk that is not mounted would then be an empty database, in which nobody was ever registered.
func checkFolder(c config.Config) error {
	if _, err := os.Stat(filepath.Dir(c.Database.SQLitePath())); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDatabase, errNoFolder)
	}
	return nil
}

var errNoFolder = errors.New("its folder does not exist: create it for the user that runs kycgate")

// Migrate brings the database to this binary's schema and closes it again.
func Migrate(ctx context.Context, c config.Config, log *slog.Logger) (from, to int64, err error) {
	keys, _, err := openKeys(c, log)
	if err != nil {
		return 0, 0, err
	}
	if err := checkFolder(c); err != nil {
		return 0, 0, err
	}
	s, err := store.Open(ctx, store.Options{Path: c.Database.SQLitePath(), Keys: keys, Registerer: prometheus.NewRegistry(), Logger: log, Now: time.Now})
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if from, to, err = s.Migrate(ctx); err != nil {
		return from, to, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	return from, to, nil
}

func partners(c config.Config) []kyc.Partner {
	out := make([]kyc.Partner, 0, len(c.Partners))
	for _, p := range c.Partners {
		source := kyc.SourceOpenco
		if p.SourceKYC == config.SourceQITech {
			source = kyc.SourceQitech
		}
		require := make([]kyc.StepKind, len(p.Require))
		for i, step := range p.Require {
			require[i] = kyc.StepKind(step)
		}
		out = append(out, kyc.Partner{ID: kyc.PartnerID(p.ID), SourceKyc: source, FinHubTenant: kyc.Tenant(p.FinHubTenant), Require: require})
	}
	return out
}

func allowedOrigins(c config.Config) map[kyc.PartnerID][]string {
	out := make(map[kyc.PartnerID][]string)
	for _, p := range c.Partners {
		out[kyc.PartnerID(p.ID)] = p.AllowedOrigins
	}
	return out
}

func newErrorID() string { return "err_" + ulid.Make().String() }

func buildInfo(v Version) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kycgate_build_info", Help: "Which build is running; always 1.",
	}, []string{"version", "commit", "go_version"})
	g.WithLabelValues(v.Version, v.Commit, v.Go).Set(1)
	return g
}
