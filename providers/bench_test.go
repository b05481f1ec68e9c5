package providers

import (
	"context"
	"testing"

	"github.com/kycgate/kycgate/kyc"
)

func benchmarkGuard(b *testing.B, limits Limits, parallel bool) {
	g := setup(limits, func(context.Context) error { return nil })
	g.guard.lane.window = 0 // the budget's work without its waiting
	ctx := context.Background()
	b.ReportAllocs()
	if parallel {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := g.call(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
		return
	}
	for b.Loop() {
		if err := g.call(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// What the guard adds to a call.
func BenchmarkGuard(b *testing.B) { benchmarkGuard(b, Limits{}, false) }
func BenchmarkGuardParallel(b *testing.B) {
	benchmarkGuard(b, Limits{MaxConcurrent: 64, QueueLimit: 10_000}, true)
}
func BenchmarkGuardWithBudget(b *testing.B) {
	benchmarkGuard(b, Limits{RatePerSecond: 1000}, false)
}

// What a refusal costs, which is what an outage makes of every call.
func BenchmarkRefusal(b *testing.B) {
	g := setup(Limits{OpenFor: 1 << 62}, func(context.Context) error { return errDown })
	ctx := context.Background()
	for range 5 {
		_ = g.call(ctx)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := g.call(ctx); kyc.KindOf(err) != kyc.Refused {
			b.Fatal(err)
		}
	}
}

func BenchmarkHealth(b *testing.B) {
	g := setup(Limits{}, func(context.Context) error { return nil })
	_ = g.call(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		_ = g.guard.Health()
	}
}
