package resolvers

import (
	"context"
	"sync"

	"github.com/kycgate/kycgate/kyc"
)

// processLoaders are the loaders of processes, on the same plan as those of persons: whoever returns processes
// announces them, and the first field asked for fetches for all.
type processLoaders struct {
	attempts   *keyed[kyc.ProcessID, []*kyc.ProviderAttempt]
	references *keyed[kyc.ProcessID, *kyc.Process]
	persons    *keyed[kyc.PersonID, *kyc.Person]

	mu     sync.Mutex
	pages  map[processPage]*batch[*kyc.ProcessConnection] // one for each set of arguments
	counts map[kyc.ProcessKind]*batch[int]
}

type processPage struct {
	kyc.Page
	kind kyc.ProcessKind
}

func newProcessLoaders(s *kyc.Service) *processLoaders {
	return &processLoaders{
		attempts:   &keyed[kyc.ProcessID, []*kyc.ProviderAttempt]{fetch: s.Attempts},
		references: &keyed[kyc.ProcessID, *kyc.Process]{fetch: s.ProcessesByID},
		persons: &keyed[kyc.PersonID, *kyc.Person]{fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.Person, error) {
			found, err := s.PersonsByID(ctx, ids)
			for _, p := range found {
				know(ctx, p) // all before the first of them is asked for more
			}
			return found, err
		}},
		pages: make(map[processPage]*batch[*kyc.ProcessConnection]), counts: make(map[kyc.ProcessKind]*batch[int]),
	}
}

// knowProcesses announces processes whose fields may be asked for.
func knowProcesses(ctx context.Context, processes ...*kyc.Process) {
	l := loadersFrom(ctx).processes
	for _, p := range processes {
		if p == nil {
			continue
		}
		l.attempts.announce(p.ID)
		if p.ReferenceID != nil {
			l.references.announce(*p.ReferenceID)
		}
		if p.PersonID != nil {
			l.persons.announce(*p.PersonID)
		}
	}
}

// knownProcess announces a process on its way out of a resolver.
func knownProcess(ctx context.Context, p *kyc.Process, err error) (*kyc.Process, error) {
	knowProcesses(ctx, p)
	return p, err
}

// processAnswer announces the process of a payload.
func processAnswer(ctx context.Context, p *kyc.ProcessPayload, err error) (*kyc.ProcessPayload, error) {
	if p != nil {
		knowProcesses(ctx, p.Process)
	}
	return p, err
}

func (l *loaders) processesOf(kind kyc.ProcessKind, page kyc.Page) *batch[*kyc.ProcessConnection] {
	p := l.processes
	p.mu.Lock()
	defer p.mu.Unlock()
	key := processPage{page, kind}
	b, ok := p.pages[key]
	if !ok {
		b = &batch[*kyc.ProcessConnection]{loaders: l, fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]*kyc.ProcessConnection, error) {
			pages, err := l.service.ProcessesOf(ctx, ids, kind, page)
			for _, con := range pages {
				knowProcesses(ctx, con.Nodes...)
			}
			return pages, err
		}}
		p.pages[key] = b
	}
	return b
}

func (l *loaders) countProcesses(kind kyc.ProcessKind) *batch[int] {
	p := l.processes
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.counts[kind]
	if !ok {
		b = &batch[int]{loaders: l, fetch: func(ctx context.Context, ids []kyc.PersonID) (map[kyc.PersonID]int, error) {
			return l.service.CountProcessesOf(ctx, ids, kind)
		}}
		p.counts[kind] = b
	}
	return b
}

// keyed fetches one kind of thing for all keys that were announced and remembers it for the operation.
type keyed[K comparable, V any] struct {
	fetch func(context.Context, []K) (map[K]V, error)

	mu      sync.Mutex
	waiting []K
	got     map[K]V
}

// announce says that a key may be asked for. What is remembered of it is forgotten: a second mutation of the
// operation may have changed it.
func (k *keyed[K, V]) announce(key K) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.got, key)
	k.waiting = append(k.waiting, key)
}

// load fetches under the lock: the siblings that come meanwhile wait for the answer that is theirs too.
func (k *keyed[K, V]) load(ctx context.Context, key K) (V, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.got[key]; ok {
		return v, nil
	}
	keys := append(k.waiting, key)
	found, err := k.fetch(ctx, keys)
	if err != nil {
		var none V
		return none, err
	}
	if k.got == nil {
		k.got = make(map[K]V, len(keys))
	}
	for _, one := range keys {
		k.got[one] = found[one]
	}
	k.waiting = nil
	return k.got[key], nil
}
