package server

import (
	"net/http"
	"sync"

	"github.com/kycgate/kycgate/kyc"
)

// Limits bound what may be open at one time. A stream is a subscription, over whichever transport. A principal is a
// token's partner and subject; a person's own page, which has a token about that person, needs far fewer than a
// partner's server, which has one token for all its users.
type Limits struct {
	Streams            int // of the process; 20,000
	StreamsOfPrincipal int // 5,000
	StreamsOfPerson    int // 20
	Sockets            int // of the process, authenticated or not; 20,000
	SocketsOfPrincipal int // 5,000
	SocketsOfPerson    int // 20
	Operations         int // of a socket at one time; 100
	MessagesPerSecond  int // from a socket, in the long run; 50. Four times as many may come at once.
}

func (l Limits) orDefault() Limits {
	for _, one := range []struct {
		field *int
		value int
	}{
		{&l.Streams, 20_000}, {&l.StreamsOfPrincipal, 5_000}, {&l.StreamsOfPerson, 20},
		{&l.Sockets, 20_000}, {&l.SocketsOfPrincipal, 5_000}, {&l.SocketsOfPerson, 20},
		{&l.Operations, 100}, {&l.MessagesPerSecond, 50},
	} {
		if *one.field <= 0 {
			*one.field = one.value
		}
	}
	return l
}

var refuseCrowd = atHTTP(http.StatusTooManyRequests, codeRateLimited, reasonRateLimited,
	"This token's subject has too many open streams or sockets.").with("Retry-After", "10")

// principal is who is counted: not the token, of which one subject may have many.
type principal struct {
	partner kyc.PartnerID
	subject string
	person  kyc.PersonID
}

func principalOf(c kyc.Caller) principal { return principal{c.Partner, c.Subject, c.Person} }

// crowd counts what is open, in all and by principal.
type crowd struct {
	all, each, person int // limits

	mu   sync.Mutex
	open int
	by   map[principal]int
}

func newCrowd(all, each, person int) *crowd {
	return &crowd{all: all, each: each, person: person, by: make(map[principal]int)}
}

// enter counts one more in all, or says that there is no room.
func (c *crowd) enter() (leave func(), refused *refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.all {
		return nil, refuseOverloaded
	}
	c.open++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
	}), nil
}

// join counts one more of a principal, or says that it has enough.
func (c *crowd) join(caller kyc.Caller) (leave func(), refused *refusal) {
	p, limit := principalOf(caller), c.each
	if caller.IsSubject() {
		limit = c.person
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[p] >= limit {
		return nil, refuseCrowd
	}
	c.by[p]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.by[p]--; c.by[p] == 0 {
			delete(c.by, p)
		}
	}), nil
}

// admit counts one more in both.
func (c *crowd) admit(caller kyc.Caller) (leave func(), refused *refusal) {
	leaveAll, refused := c.enter()
	if refused != nil {
		return nil, refused
	}
	leaveOwn, refused := c.join(caller)
	if refused != nil {
		leaveAll()
		return nil, refused
	}
	return func() { leaveOwn(); leaveAll() }, nil
}
