package providers

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// lane is the one queue in front of a provider: its bulkhead and its rate budget. Callers stand in line for
// the turn; who holds it waits for a free slot, then for the budget, and passes the turn on as it leaves. So
// everyone leaves in the order of arrival, nobody holds a slot while waiting for the budget but the head,
// and the ring of departures needs no lock of its own.
//
// The line is kept by channels: the runtime serves blocked senders in order, and a full channel with
// senders waiting never has room for a newcomer. TestLaneIsFirstComeFirstServed holds that.
type lane struct {
	turn    chan struct{}
	slots   chan struct{}
	limit   int64        // of waiting
	waiting atomic.Int64 // callers standing still, the head included
	head    atomic.Int32 // the reason the head stands still; what a caller who gives up is told

	// departures is a ring of the last len() departures, next the oldest. nil is no budget. Owned by the turn.
	departures []time.Time
	next       int
	window     time.Duration
}

// slack widens the budget's window, because what we pace is departures and what the upstream counts is
// arrivals: two calls a window apart must not arrive closer together than it (ours; costs 2 %).
const slack = 20 * time.Millisecond

func newLane(l Limits) *lane {
	lane := &lane{
		turn:  make(chan struct{}, 1),
		slots: make(chan struct{}, l.MaxConcurrent),
		limit: int64(l.QueueLimit),
	}
	// A window of departures and not a token bucket (golang.org/x/time/rate): a bucket that holds a burst of
	// b lets rate+b calls leave within one second, and upstreams count seconds. Fractions above one a second
	// are rounded down for the same reason.
	switch rate := l.RatePerSecond; {
	case rate <= 0:
	case rate < 1:
		lane.departures, lane.window = make([]time.Time, 1), time.Duration(float64(time.Second)/rate)+slack
	default:
		lane.departures, lane.window = make([]time.Time, int(min(rate, 100_000))), time.Second+slack
	}
	// A process that was killed a moment ago may have spent its last second's budget. So the first one of this process
	// is not spent at once but evenly, which is also how a queue that does not end goes on from there.
	start := time.Now().Add(-lane.window)
	for i := range lane.departures {
		lane.departures[i] = start.Add(lane.window * time.Duration(i) / time.Duration(len(lane.departures)))
	}
	return lane
}

// enter waits for a slot and a departure. admit is asked last, before the departure is spent, and may still
// refuse. After nil the caller MUST leave.
func (l *lane) enter(ctx context.Context, admit func() *refusal) *refusal {
	if !try(l.turn) {
		if r := l.full(ctx); r != nil {
			return r
		}
		if r := l.wait(ctx, l.turn); r != nil {
			return r
		}
	}
	defer func() { <-l.turn }()

	if !try(l.slots) {
		l.head.Store(int32(bulkheadFull))
		if r := l.wait(ctx, l.slots); r != nil {
			return r
		}
	}
	if r := l.spend(ctx, admit); r != nil {
		l.leave()
		return r
	}
	return nil
}

// leave gives the slot back.
func (l *lane) leave() { <-l.slots }

func try(c chan<- struct{}) bool {
	select {
	case c <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l *lane) wait(ctx context.Context, c chan<- struct{}) *refusal {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return l.gaveUp(ctx)
	}
}

// spend waits until the budget has a departure and takes it. The caller holds the turn.
func (l *lane) spend(ctx context.Context, admit func() *refusal) *refusal {
	if l.departures == nil {
		return admit()
	}
	free := l.departures[l.next].Add(l.window)
	if pause := time.Until(free); pause > 0 {
		l.head.Store(int32(rateBudget))
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(free) {
			return &refusal{reason: rateBudget, after: pause}
		}
		l.waiting.Add(1)
		defer l.waiting.Add(-1)
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return l.gaveUp(ctx)
		}
	}
	if r := admit(); r != nil {
		return r
	}
	l.departures[l.next] = time.Now()
	l.next = (l.next + 1) % len(l.departures)
	return nil
}

// full refuses a newcomer when the line is too long, or when those ahead alone need longer than the caller
// has: better a quick no with a hint than a no at the end of the deadline. Newcomers racing each other may
// overrun the limit by as many as there are of them, which harms nobody.
func (l *lane) full(ctx context.Context) *refusal {
	ahead := l.waiting.Load()
	if ahead >= l.limit {
		return &refusal{reason: l.reason(), after: jitter(time.Second)}
	}
	deadline, ok := ctx.Deadline()
	if !ok || l.departures == nil {
		return nil
	}
	windows := ahead / int64(len(l.departures)) // whole ones, of which the first may be nearly over
	need := time.Duration(windows-1) * l.window
	if need <= 0 || time.Now().Add(need).Before(deadline) {
		return nil
	}
	return &refusal{reason: rateBudget, after: need}
}

// gaveUp is a caller whose context ended in the queue. One that was cancelled has gone away and was not
// refused; one whose time is up was.
func (l *lane) gaveUp(ctx context.Context) *refusal {
	r := &refusal{cause: ctx.Err()}
	if errors.Is(r.cause, context.DeadlineExceeded) {
		r.reason, r.after = l.reason(), jitter(time.Second)
	}
	return r
}

func (l *lane) reason() reason {
	if r := reason(l.head.Load()); r != wentAway {
		return r
	}
	return bulkheadFull
}
