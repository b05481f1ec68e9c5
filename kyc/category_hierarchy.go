package kyc

import (
	"context"
	"sync"
	"time"
)

// providerFinhub is the provider of registerCustomer.
const providerFinhub = "finhub"

// A hierarchy is believed for minutes and served for as long as FinHub does not answer (ours). A category that a caller names and
// the copy does not have is looked for once more, if the copy is not brand-new.
const (
	hierarchyFresh  = 5 * time.Minute
	hierarchyRecent = 5 * time.Second
)

// hierarchies keeps each tenant's hierarchy in memory: it is nobody's data and costs one read after a start.
type hierarchies struct {
	mu       sync.Mutex
	byTenant map[Tenant]*cachedHierarchy
}

type cachedHierarchy struct {
	turn chan struct{} // held while it is fetched: many callers, one call

	mu        sync.Mutex
	hierarchy *CategoryHierarchy // nil before the first
	fetchedAt time.Time
}

func (c *cachedHierarchy) get() (*CategoryHierarchy, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hierarchy, c.fetchedAt
}

// expire makes the next one who asks fetch it anew; it is served on if that fails.
func (c *cachedHierarchy) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetchedAt = time.Time{}
}

func (h *hierarchies) of(t Tenant) *cachedHierarchy {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byTenant == nil {
		h.byTenant = make(map[Tenant]*cachedHierarchy)
	}
	c := h.byTenant[t]
	if c == nil {
		c = &cachedHierarchy{turn: make(chan struct{}, 1)}
		h.byTenant[t] = c
	}
	return c
}

// hierarchy gives a tenant's hierarchy, no older than maxAge unless FinHub does not give a newer one: then the old one is served,
// and that is counted.
func (s *Service) hierarchy(ctx context.Context, tenant Tenant, maxAge time.Duration) (*CategoryHierarchy, error) {
	c := s.hierarchies.of(tenant)
	young := func() (*CategoryHierarchy, bool) {
		h, at := c.get()
		return h, h != nil && s.Clock.Now().Sub(at) < maxAge
	}
	if h, ok := young(); ok {
		return h, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return s.staleHierarchy(c, E(Unavailable, "kyc.hierarchy", ctx.Err()))
	}
	if h, ok := young(); ok { // somebody else fetched it meanwhile
		return h, nil
	}
	h, err := s.providers[providerFinhub].FetchCategoryHierarchy(ctx, tenant)
	if err != nil {
		return s.staleHierarchy(c, err)
	}
	h = h.WithDefaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hierarchy, c.fetchedAt = &h, s.Clock.Now()
	return c.hierarchy, nil
}

func (s *Service) staleHierarchy(c *cachedHierarchy, err error) (*CategoryHierarchy, error) {
	h, at := c.get()
	if h == nil {
		return nil, err
	}
	s.StaleHierarchy(providerFinhub)
	s.Logger.Warn("the category hierarchy cannot be read; an old one is served", "provider", providerFinhub, "age", s.Clock.Now().Sub(at).Round(time.Second).String(),
		"kind", KindOf(err).String(), "code", codeOf(err))
	return h, nil
}

// finhubTenant gives the caller's partner and its tenant at FinHub; ok is false when this gateway cannot speak for it.
func (s *Service) finhubTenant(ctx context.Context) (Partner, bool) {
	partner, known := s.partners[CallerFrom(ctx).Partner]
	p := s.providers[providerFinhub]
	return partner, known && partner.FinHubTenant != "" && p.RegisterCustomer != nil && p.FetchCategoryHierarchy != nil
}

// CategoryHierarchy gives the categories that the caller's partner may register customers in. It fails with NotFound where FinHub is
// not configured, and with Unavailable when FinHub was never reached.
func (s *Service) CategoryHierarchy(ctx context.Context) (*CategoryHierarchy, error) {
	partner, ok := s.finhubTenant(ctx)
	if !ok {
		return nil, E(NotFound, "kyc.category_hierarchy", nil)
	}
	ctx, cancel := context.WithTimeout(ctx, s.AnswerWithin)
	defer cancel()
	h, err := s.hierarchy(ctx, partner.FinHubTenant, hierarchyFresh)
	if err != nil {
		return nil, E(Unavailable, "kyc.category_hierarchy", err)
	}
	return h, nil
}
