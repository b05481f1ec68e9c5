package providers

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// Whoever came first leaves first, also while others arrive, and whether the bulkhead or the budget is what
// everybody waits for.
func TestLaneIsFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]Limits{
		"bulkhead": {MaxConcurrent: 1, QueueLimit: 1000},
		"budget":   {MaxConcurrent: 1000, QueueLimit: 1000, RatePerSecond: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(limits)
				var order []int
				var wg sync.WaitGroup
				release := make(chan struct{})
				arrive := func(i int) {
					wg.Go(func() {
						if r := l.enter(context.Background(), func() *refusal {
							order = append(order, i) // whoever is asked holds the turn
							return nil
						}); r != nil {
							t.Errorf("%d was refused: %v", i, r.reason)
							return
						}
						<-release
						l.leave()
					})
					synctest.Wait()
				}
				for i := range 100 {
					arrive(i)
				}
				for i := range 100 { // as one leaves, another arrives
					select {
					case release <- struct{}{}:
					default:
					}
					arrive(100 + i)
				}
				close(release)
				wg.Wait()
				if len(order) != 200 || !slices.IsSorted(order) {
					t.Errorf("left in the order %v", order)
				}
				if l.used != 0 || l.turn || l.waiting != 0 {
					t.Errorf("%d slots, the turn (%t) and %d places in the queue are still taken", l.used, l.turn, l.waiting)
				}
			})
		})
	}
}

// Five hundred polls and somebody who waits: the caller leaves at once, never before their turn within the budget, and
// the budget holds whoever spends it.
func TestLanePrefersWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(Limits{MaxConcurrent: 10, QueueLimit: 1000, RatePerSecond: 10})
		l.sweepers = 1000
		var mu sync.Mutex
		var left []time.Time
		done := 0
		var wg sync.WaitGroup
		call := func(p kyc.Priority, note func(waited time.Duration)) {
			start := time.Now()
			if r := l.enter(kyc.WithPriority(context.Background(), p), func() *refusal { return nil }); r != nil {
				t.Errorf("refused: %v", r.reason)
				return
			}
			mu.Lock()
			left = append(left, time.Now())
			done++
			mu.Unlock()
			note(time.Since(start))
			time.Sleep(50 * time.Millisecond)
			l.leave()
		}
		for range 500 {
			wg.Go(func() { call(kyc.Sweep, func(time.Duration) {}) })
		}
		var waited []time.Duration
		for range 40 { // three a second
			time.Sleep(333 * time.Millisecond)
			call(kyc.User, func(d time.Duration) { waited = append(waited, d) })
		}
		for i, d := range waited {
			// The first come while the polls have yet to notice that somebody waits.
			if d > 0 && (i >= 5 || d > 500*time.Millisecond) {
				t.Errorf("caller %d waited %v behind polls", i, d)
			}
		}
		wg.Wait()
		for i := range left {
			if i >= 10 && left[i].Sub(left[i-10]) < time.Second {
				t.Fatalf("eleven departures within %v", left[i].Sub(left[i-10]))
			}
		}
		// The polls must get on too: with nobody waiting eight a second, else six.
		if took := left[len(left)-1].Sub(left[0]); done != 540 || took > 80*time.Second {
			t.Errorf("%d left in %v", done, took)
		}
	})
}

// Whoever is more important leaves first, whenever they came; and one who gives up takes nothing along.
func TestLaneOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(Limits{MaxConcurrent: 1, QueueLimit: 1000})
		if r := l.enter(context.Background(), func() *refusal { return nil }); r != nil {
			t.Fatal(r.reason)
		}
		var order []kyc.Priority
		var wg sync.WaitGroup
		arrive := func(p kyc.Priority, ctx context.Context) {
			wg.Go(func() {
				if r := l.enter(kyc.WithPriority(ctx, p), func() *refusal { order = append(order, p); return nil }); r == nil {
					l.leave()
				}
			})
			synctest.Wait()
		}
		gone, leave := context.WithCancel(context.Background())
		for _, p := range []kyc.Priority{kyc.Sweep, kyc.Hint, kyc.Sweep, kyc.User, kyc.Hint, kyc.User} {
			arrive(p, context.Background())
			arrive(p, gone)
		}
		leave()
		synctest.Wait()
		l.leave()
		wg.Wait()
		if want := []kyc.Priority{kyc.User, kyc.User, kyc.Hint, kyc.Hint, kyc.Sweep, kyc.Sweep}; !slices.Equal(order, want) {
			t.Errorf("left in the order %v, want %v", order, want)
		}
		if l.used != 0 || l.turn || l.waiting != 0 {
			t.Errorf("%d slots, the turn (%t) and %d places in the queue are still taken", l.used, l.turn, l.waiting)
		}
	})
}

// Polls fill no more than their part of the bulkhead and of the line: they hold workers that others need.
func TestLaneKeepsRoomFromPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(Limits{MaxConcurrent: 10, QueueLimit: 1000})
		release := make(chan struct{})
		refused := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				r := l.enter(kyc.WithPriority(context.Background(), kyc.Sweep), func() *refusal { return nil })
				if r != nil {
					mu.Lock()
					refused++
					mu.Unlock()
					return
				}
				<-release
				l.leave()
			})
		}
		synctest.Wait()
		if l.used != 8 || refused != 100-8-20 {
			t.Errorf("%d under way and %d refused, want 8 and 72", l.used, refused)
		}
		for _, p := range []kyc.Priority{kyc.Hint, kyc.User} {
			if r := l.enter(kyc.WithPriority(context.Background(), p), func() *refusal { return nil }); r != nil {
				t.Errorf("priority %d finds no room: %v", p, r.reason)
			}
		}
		l.leave()
		l.leave()
		close(release)
		wg.Wait()
	})
}
