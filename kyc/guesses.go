package kyc

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// DefaultGuesses is how many documents of nobody a principal may look up within [guessWindow] (security N03).
const DefaultGuesses = 60

const guessWindow = time.Minute

// guesses bounds how many documents a principal can try out. Without a bound, a token that sees documents masked finds
// the hidden digits of one by a thousand look-ups, and any token finds out who is a customer.
//
// Only a look-up that finds nobody is a guess: who is found can be listed anyway, and a partner that reads its own
// persons by document must not be slowed down. The same document again within the window is the same guess. While as
// many look-ups are under way as guesses are left, the next one waits for one of them, so that a burst neither gets
// more than the budget nor is refused for guesses that were none.
type guesses struct {
	limit int
	clock clockwork.Clock
	seed  maphash.Seed // documents are kept as hashes that mean nothing outside this process

	mu      sync.Mutex
	callers map[principal]*guesser
}

// principal is who a budget belongs to: everybody with tokens of one subject, from wherever and however they ask.
type principal struct {
	partner PartnerID
	subject string
}

type guesser struct {
	until    map[uint64]time.Time // guesses by document, each with the time it is forgotten
	underWay int
	ended    chan struct{} // closed when one that was under way has ended
}

func newGuesses(limit int, clock clockwork.Clock) *guesses {
	return &guesses{limit: limit, clock: clock, seed: maphash.MakeSeed(), callers: make(map[principal]*guesser)}
}

// begin allows one look-up, or fails with RateLimited. After nil the caller MUST tell done whether it may have found
// somebody, whatever happens to the look-up.
func (g *guesses) begin(ctx context.Context, c Caller, d DocumentNumber) (done func(found bool), err error) {
	who, document := principal{c.Partner, c.Subject}, maphash.String(g.seed, d.Reveal())
	for {
		done, wait, retry := g.try(who, document)
		switch {
		case done != nil:
			return done, nil
		case wait == nil:
			return nil, &Error{Kind: RateLimited, Op: "kyc.guesses", Message: "too many look-ups of documents that name nobody: try again later", RetryAfter: RetryHint(retry)}
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, E(Unavailable, "kyc.guesses", ctx.Err())
		}
	}
}

// try gives one of three: leave to look up, what to wait for, or how long until a guess is forgotten.
func (g *guesses) try(who principal, document uint64) (done func(bool), wait <-chan struct{}, retry time.Duration) {
	now := g.clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.callers[who]
	if one == nil {
		if len(g.callers) >= 1_000 && len(g.callers)%1_000 == 0 {
			g.forget(now)
		}
		one = &guesser{until: make(map[uint64]time.Time), ended: make(chan struct{})}
		g.callers[who] = one
	}
	maps.DeleteFunc(one.until, func(_ uint64, until time.Time) bool { return !now.Before(until) })
	if _, again := one.until[document]; again {
		return func(found bool) { g.end(one, document, found, 0) }, nil, 0
	}
	if len(one.until)+one.underWay < g.limit {
		one.underWay++
		return func(found bool) { g.end(one, document, found, 1) }, nil, 0
	}
	if one.underWay > 0 {
		return nil, one.ended, 0
	}
	first := now.Add(guessWindow)
	for _, until := range one.until {
		if until.Before(first) {
			first = until
		}
	}
	return nil, nil, first.Sub(now)
}

// end settles a look-up that counted for so many while it was under way.
func (g *guesses) end(one *guesser, document uint64, found bool, counted int) {
	now := g.clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	one.underWay -= counted
	if !found {
		one.until[document] = now.Add(guessWindow)
	}
	close(one.ended)
	one.ended = make(chan struct{})
}

// forget drops the callers that have nothing to remember.
func (g *guesses) forget(now time.Time) {
	maps.DeleteFunc(g.callers, func(_ principal, one *guesser) bool {
		maps.DeleteFunc(one.until, func(_ uint64, until time.Time) bool { return !now.Before(until) })
		return one.underWay == 0 && len(one.until) == 0
	})
}
