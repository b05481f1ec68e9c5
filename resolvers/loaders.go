package resolvers

import (
	"context"
	"sync"

	"github.com/kycgate/kycgate/kyc"
)

// Lists nest: a page of 100 persons asks for the external ids of each. Whoever returns persons tells the
// loaders about all of them, and the first one asked for fetches for all that are known. Unlike a
// batching window this waits for nothing, so a single person costs a single query at once.
type loaders struct {
	externalIDs        *batch[[]*kyc.ExternalID]
	countRegistrations *batch[int]
	customers          *batch[[]*kyc.Customer]
	faces              *batch[[]*kyc.FaceRegistration]
	countAudit         *batch[int]
	onboardings        *batch[*kyc.Onboarding]
	subjects           *keyed[kyc.StepSubject, kyc.Node]

	mu            sync.Mutex
	persons       []kyc.PersonID
	seen          map[kyc.PersonID]*kyc.Person
	registrations map[kyc.Page]*batch[*kyc.RegistrationConnection] // one for each pair of arguments
	audit         map[kyc.Page]*batch[*kyc.AuditConnection]
	service       *kyc.Service

	processes *processLoaders
}

type loadersKey struct{}

func newLoaders(s *kyc.Service) *loaders {
	l := &loaders{service: s, seen: make(map[kyc.PersonID]*kyc.Person), registrations: make(map[kyc.Page]*batch[*kyc.RegistrationConnection]), audit: make(map[kyc.Page]*batch[*kyc.AuditConnection])}
	l.externalIDs = &batch[[]*kyc.ExternalID]{loaders: l, fetch: s.ExternalIDs}
	l.countRegistrations = &batch[int]{loaders: l, fetch: s.CountRegistrations}
	l.customers = &batch[[]*kyc.Customer]{loaders: l, fetch: s.CustomersOf}
	l.processes = newProcessLoaders(s)
	l.faces = &batch[[]*kyc.FaceRegistration]{loaders: l, fetch: s.FaceRegistrations}
	l.countAudit = &batch[int]{loaders: l, fetch: s.CountAuditRecords}
	l.subjects = &keyed[kyc.StepSubject, kyc.Node]{fetch: s.StepSubjects}
	l.onboardings = &batch[*kyc.Onboarding]{loaders: l, fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.Onboarding, error) {
		found, err := s.Onboardings(ctx, ids)
		for _, o := range found {
			for i := range o.Steps {
				l.subjects.announce(o.Steps[i].Decider())
			}
		}
		return found, err
	}}
	return l
}

func loadersFrom(ctx context.Context) *loaders { return ctx.Value(loadersKey{}).(*loaders) }

// know announces persons whose fields may be asked for.
func know(ctx context.Context, persons ...*kyc.Person) {
	l := loadersFrom(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range persons {
		if p != nil {
			l.persons = append(l.persons, p.ID)
			l.seen[p.ID] = p
		}
	}
}

// personOf gives the person something belongs to, "" for nobody. Most are on the way to the answer already: faces are asked for
// below their person.
func (l *loaders) personOf(ctx context.Context, id kyc.PersonID) (*kyc.Person, error) {
	if id == "" {
		return nil, nil
	}
	l.mu.Lock()
	p := l.seen[id]
	l.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := l.service.Person(ctx, id)
	return known(ctx, p, err)
}

func (l *loaders) known() []kyc.PersonID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.persons[:len(l.persons):len(l.persons)]
}

func (l *loaders) registrationsOf(page kyc.Page) *batch[*kyc.RegistrationConnection] {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.registrations[page]
	if !ok {
		b = &batch[*kyc.RegistrationConnection]{loaders: l, fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.RegistrationConnection, error) {
			return l.service.Registrations(ctx, ids, page)
		}}
		l.registrations[page] = b
	}
	return b
}

func (l *loaders) auditOf(page kyc.Page) *batch[*kyc.AuditConnection] {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.audit[page]
	if !ok {
		b = &batch[*kyc.AuditConnection]{loaders: l, fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.AuditConnection, error) {
			return l.service.AuditRecords(ctx, ids, page)
		}}
		l.audit[page] = b
	}
	return b
}

// batch fetches one kind of thing for many persons at once and remembers it for the operation.
type batch[V any] struct {
	loaders *loaders
	fetch   func(context.Context, []kyc.PersonID) (map[kyc.PersonID]V, error)

	mu  sync.Mutex
	got map[kyc.PersonID]V
}

// load fetches under the lock: the siblings that come meanwhile wait for the answer that is theirs too.
func (b *batch[V]) load(ctx context.Context, id kyc.PersonID) (V, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.got[id]; ok {
		return v, nil
	}
	missing := []kyc.PersonID{id}
	asked := map[kyc.PersonID]bool{id: true}
	for _, other := range b.loaders.known() {
		if _, ok := b.got[other]; !ok && !asked[other] {
			asked[other] = true
			missing = append(missing, other)
		}
	}
	found, err := b.fetch(ctx, missing)
	if err != nil {
		var none V
		return none, err
	}
	if b.got == nil {
		b.got = make(map[kyc.PersonID]V, len(missing))
	}
	for _, m := range missing {
		b.got[m] = found[m]
	}
	return b.got[id], nil
}

// known announces a person on its way out of a resolver.
func known(ctx context.Context, p *kyc.Person, err error) (*kyc.Person, error) {
	know(ctx, p)
	return p, err
}

// subject gives what decides a step. What is below it is announced, as by every resolver that returns one.
func (l *loaders) subject(ctx context.Context, step *kyc.OnboardingStep) (kyc.Node, error) {
	n, err := l.subjects.load(ctx, step.Decider())
	switch n := n.(type) {
	case *kyc.Person:
		know(ctx, n)
	case *kyc.Process:
		knowProcesses(ctx, n)
	}
	return n, err
}
