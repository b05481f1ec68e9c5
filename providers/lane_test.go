package providers

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
				if len(l.slots) != 0 || len(l.turn) != 0 || l.waiting.Load() != 0 {
					t.Errorf("%d slots, %d turns and %d places in the queue are still taken", len(l.slots), len(l.turn), l.waiting.Load())
				}
			})
		})
	}
}

// A process that is killed and started again, ten times, while its queue never ends: the upstream sees the configured
// rate, and the first call of a process on top of it at the most, although none knows what the one before it spent.
func TestRateHoldsAcrossRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate = 50
		var at []time.Time
		for life := range 10 {
			l := newLane(Limits{RatePerSecond: rate, MaxConcurrent: 10, QueueLimit: 1000})
			ctx, kill := context.WithTimeout(context.Background(), 300*time.Millisecond+time.Duration(life)*170*time.Millisecond)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for ctx.Err() == nil {
						r := l.enter(ctx, func() *refusal {
							at = append(at, time.Now()) // whoever is asked holds the turn
							return nil
						})
						if r != nil {
							<-ctx.Done()
							return
						}
						l.leave()
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			kill()
		}
		from := 0
		for i := range at {
			for at[i].Sub(at[from]) >= time.Second {
				from++
			}
			if n := i - from + 1; n > rate+1 {
				t.Fatalf("%d departures in one second", n)
			}
		}
		if len(at) < 5*rate {
			t.Errorf("only %d departures", len(at))
		}
	})
}
