package providers

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// lane is the queue in front of a provider: its bulkhead and its rate budget. Callers stand in one line for each
// priority; the head of the most important line that may leave is given the turn, asks the last question, leaves and
// passes the turn on. So within a line everyone leaves in the order of arrival, and a poll never leaves before somebody
// who waits.
//
// That alone would not help whoever arrives when the polls have just spent the budget, so a part of budget and bulkhead
// is kept from the lower lines.
type lane struct {
	limit    int // of waiting, over all lines
	slots    int // the bulkhead
	window   time.Duration
	budget   int // departures in a window; 0 is no budget
	sweepers int // of waiting in the lowest line: polls hold workers that others need

	mu      sync.Mutex
	lines   [priorities][]*ticket
	waiting int
	used    int  // slots taken, the turn's included
	turn    bool // somebody is on the way out
	timer   *time.Timer
	blocked reason // why the head stands still; what a caller who gives up is told

	// departures is a ring of the last departures, next the oldest.
	departures []time.Time
	next       int
	lively     time.Time // the last departure of somebody who waited for it
}

// priorities counts those of kyc.
const priorities = int(kyc.Sweep) + 1

// ticket is a caller in a line. ready is closed when it has the turn, or is refused.
type ticket struct {
	ready    chan struct{}
	deadline time.Time // zero: none
	granted  bool
	refused  *refusal
}

// slack widens the budget's window, because what we pace is departures and what the upstream counts is
// arrivals: two calls a window apart must not arrive closer together than it, also when this machine is busy and one
// of them carries a picture. 20 ms were not enough: an eleventh call was seen in one second (ours; costs 9 %).
const slack = 100 * time.Millisecond

// livelyFor is how long after somebody waited for a call the polls leave them room for more (ours).
const livelyFor = 5 * time.Second

func newLane(l Limits) *lane {
	lane := &lane{limit: l.QueueLimit, slots: l.MaxConcurrent, sweepers: max(16, 2*l.MaxConcurrent)}
	// A window of departures and not a token bucket (golang.org/x/time/rate): a bucket that holds a burst of
	// b lets rate+b calls leave within one second, and upstreams count seconds. Fractions above one a second
	// are rounded down for the same reason.
	switch rate := l.RatePerSecond; {
	case rate <= 0:
	case rate < 1:
		lane.budget, lane.window = 1, time.Duration(float64(time.Second)/rate)+slack
	default:
		lane.budget, lane.window = int(min(rate, 100_000)), time.Second+slack
	}
	lane.departures = make([]time.Time, lane.budget)
	return lane
}

// enter waits for a slot and a departure. admit is asked last, before the departure is spent, and may still
// refuse. After nil the caller MUST leave.
func (l *lane) enter(ctx context.Context, admit func() *refusal) *refusal {
	p := min(kyc.PriorityFrom(ctx), kyc.Sweep)
	l.mu.Lock()
	if !l.mayGo(p) {
		if r := l.queue(ctx, p); r != nil {
			return r
		}
	}
	l.mu.Unlock()

	admitted := false
	var r *refusal
	defer func() { l.passOn(p, admitted) }() // whatever admit does, the turn goes on
	r = admit()
	admitted = r == nil
	return r
}

// mayGo takes the turn if it is free, nobody as important waits, and there is room. The lock is held.
func (l *lane) mayGo(p kyc.Priority) bool {
	if l.turn {
		return false
	}
	for _, line := range l.lines[:p+1] {
		if len(line) > 0 {
			return false
		}
	}
	now := time.Now()
	if l.used >= l.slotsFor(p) || l.free(p, now).After(now) {
		return false
	}
	l.turn = true
	l.used++
	return true
}

// queue stands in line until it has the turn, and gives back the lock taken. It returns with the lock free when it
// refuses.
func (l *lane) queue(ctx context.Context, p kyc.Priority) *refusal {
	if r := l.full(ctx, p); r != nil {
		l.mu.Unlock()
		return r
	}
	t := &ticket{ready: make(chan struct{})}
	t.deadline, _ = ctx.Deadline()
	l.lines[p] = append(l.lines[p], t)
	l.waiting++
	l.advance()
	l.mu.Unlock()
	select {
	case <-t.ready:
		l.mu.Lock()
		if t.refused != nil {
			l.mu.Unlock()
			return t.refused
		}
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case t.refused != nil:
		return t.refused
	case t.granted: // just now
		l.turn = false
		l.used--
	default:
		i := slices.Index(l.lines[p], t)
		l.lines[p] = slices.Delete(l.lines[p], i, i+1)
		l.waiting--
	}
	r := l.gaveUp(ctx)
	l.advance()
	return r
}

// passOn ends a turn: with a departure, or without when the last question was answered no.
func (l *lane) passOn(p kyc.Priority, admitted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn = false
	if admitted {
		now := time.Now()
		if l.budget > 0 {
			l.departures[l.next] = now
			l.next = (l.next + 1) % l.budget
		}
		if p != kyc.Sweep {
			l.lively = now
		}
	} else {
		l.used--
	}
	l.advance()
}

// leave gives the slot back.
func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	l.advance()
}

// advance gives the turn to whoever may leave now, or sees to it that somebody will. The lock is held.
func (l *lane) advance() {
	for !l.turn {
		p, t := l.head()
		if t == nil {
			l.stopTimer()
			return
		}
		now := time.Now()
		if l.used >= l.slotsFor(p) {
			l.blocked = bulkheadFull
			l.stopTimer() // whoever leaves comes by here
			return
		}
		free := l.free(p, now)
		if !free.After(now) {
			l.pop(p)
			l.turn, t.granted = true, true
			l.used++
			close(t.ready)
			return
		}
		l.blocked = rateBudget
		if !t.deadline.IsZero() && t.deadline.Before(free) {
			l.pop(p)
			t.refused = &refusal{reason: rateBudget, after: free.Sub(now)}
			close(t.ready)
			continue
		}
		l.startTimer(free.Sub(now))
		return
	}
}

// head is the first of the most important line. A less important line cannot leave before it, because what is kept
// from the more important is kept from the less important too.
func (l *lane) head() (kyc.Priority, *ticket) {
	for p, line := range l.lines {
		if len(line) > 0 {
			return kyc.Priority(p), line[0]
		}
	}
	return 0, nil
}

func (l *lane) pop(p kyc.Priority) {
	l.lines[p][0] = nil
	l.lines[p] = l.lines[p][1:]
	l.waiting--
}

func (l *lane) startTimer(d time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(d, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.advance()
		})
		return
	}
	l.timer.Reset(d)
}

func (l *lane) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// slotsFor is how much of the bulkhead a priority may fill: a tenth is kept from webhooks and a fifth from polls
// (ours). Everybody may have one.
func (l *lane) slotsFor(p kyc.Priority) int {
	switch p {
	case kyc.Hint:
		return max(1, l.slots-(l.slots+9)/10)
	case kyc.Sweep:
		return max(1, l.slots-(l.slots+4)/5)
	default:
		return l.slots
	}
}

// budgetFor is how much of a window a priority may spend: a tenth is kept from webhooks and a fifth from polls, and
// two fifths while somebody has waited lately (ours).
func (l *lane) budgetFor(p kyc.Priority, now time.Time) int {
	switch {
	case p == kyc.User:
		return l.budget
	case p == kyc.Sweep && now.Sub(l.lively) < livelyFor:
		return max(1, l.budget-(2*l.budget+4)/5)
	case p == kyc.Sweep:
		return max(1, l.budget-(l.budget+4)/5)
	default:
		return max(1, l.budget-(l.budget+9)/10)
	}
}

// free is when the budget has a departure for a priority: a window after the n-th last one.
func (l *lane) free(p kyc.Priority, now time.Time) time.Time {
	if l.budget == 0 {
		return time.Time{}
	}
	n := l.budgetFor(p, now)
	return l.departures[(l.next-n+l.budget)%l.budget].Add(l.window)
}

// full refuses a newcomer when the line is too long, or when those ahead alone need longer than the caller
// has: better a quick no with a hint than a no at the end of the deadline.
func (l *lane) full(ctx context.Context, p kyc.Priority) *refusal {
	if l.waiting >= l.limit || p == kyc.Sweep && len(l.lines[p]) >= l.sweepers {
		return &refusal{reason: l.reason(), after: jitter(time.Second)}
	}
	deadline, ok := ctx.Deadline()
	if !ok || l.budget == 0 {
		return nil
	}
	ahead := 0
	for _, line := range l.lines[:p+1] {
		ahead += len(line)
	}
	windows := ahead / l.budget // whole ones, of which the first may be nearly over
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
	if l.blocked != wentAway {
		return l.blocked
	}
	return bulkheadFull
}
