package providers

import (
	"testing"
	"time"
)

func TestStatsForgetAfterFiveMinutes(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := newStats(start)
	if n, rate, latency := s.summary(start); n != 0 || rate != nil || latency != nil {
		t.Errorf("without calls %d %v %v", n, rate, latency)
	}
	for i := range 100 { // one a second for 100 s, 1 to 100 ms, every tenth failing
		s.record(start.Add(time.Duration(i)*time.Second), time.Duration(i+1)*time.Millisecond, i%10 != 0)
	}
	n, rate, latency := s.summary(start.Add(100 * time.Second))
	if n != 100 || *rate != 0.9 {
		t.Errorf("%d calls, rate %v", n, *rate)
	}
	for _, q := range []struct{ got, want float64 }{{latency.P50, 50}, {latency.P95, 95}, {latency.P99, 99}} {
		if q.got < q.want*0.9 || q.got > q.want*1.1 {
			t.Errorf("quantile %v, want about %v", q.got, q.want)
		}
	}
	if n, _, _ := s.summary(start.Add(4*time.Minute + 59*time.Second)); n != 100 {
		t.Errorf("before five minutes %d", n)
	}
	if n, _, _ := s.summary(start.Add(5*time.Minute + 50*time.Second)); n != 40 {
		t.Errorf("when the first minute has passed %d", n)
	}
	if n, rate, latency := s.summary(start.Add(time.Hour)); n != 0 || rate != nil || latency != nil {
		t.Errorf("after an hour %d %v %v", n, rate, latency)
	}
	s.record(start.Add(time.Hour), time.Second, true) // the old slice in its place is gone
	if n, rate, _ := s.summary(start.Add(time.Hour)); n != 1 || *rate != 1 {
		t.Errorf("after an hour, one call: %d %v", n, *rate)
	}
}

func TestLatencySteps(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-1, 0, time.Microsecond, time.Millisecond, 250 * time.Millisecond, 10 * time.Second, time.Hour, 1 << 62} {
		if step := latencyStep(d); step < 0 || step >= latencySteps {
			t.Errorf("%v is step %d", d, step)
		}
		c := statsCount{requests: 1}
		c.latency[latencyStep(d)] = 1
		if ms := float64(d) / 1e6; ms > shortestMs && ms < 100_000 {
			if got := c.quantile(0.5); got < ms/1.07 || got > ms*1.07 {
				t.Errorf("%v reads back as %v ms", d, got)
			}
		}
	}
}
