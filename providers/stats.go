package providers

import (
	"math"
	"sync"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// The last five minutes of an operation, in slices that are forgotten one at a time.
const (
	statsSlices = 30
	statsSlice  = 10 * time.Second
)

// Latencies are counted on a scale of 6 steps an octave, so a quantile is at most 6 % off; from 1/8 ms to
// 2 minutes, wider than anything a deadline allows.
const (
	stepsPerOctave = 6
	latencySteps   = 20 * stepsPerOctave
	shortestMs     = 0.125
)

// stats are the sliding figures of one operation. One short lock an ended call, which took longer than
// this by orders of magnitude.
type stats struct {
	start time.Time // slices count from here, so the wall clock may jump

	mu     sync.Mutex
	slices [statsSlices]statsCount
}

type statsCount struct {
	number           int64 // of the slice since start; others in this place are forgotten
	requests, proper int
	latency          [latencySteps]uint32
}

func newStats(start time.Time) *stats { return &stats{start: start} }

func (s *stats) number(now time.Time) int64 { return int64(now.Sub(s.start) / statsSlice) }

func (s *stats) record(now time.Time, took time.Duration, proper bool) {
	n := s.number(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.slices[n%statsSlices]
	if c.number != n {
		*c = statsCount{number: n}
	}
	c.requests++
	if proper {
		c.proper++
	}
	c.latency[latencyStep(took)]++
}

func latencyStep(took time.Duration) int {
	ms := float64(took) / float64(time.Millisecond)
	if ms <= shortestMs {
		return 0
	}
	return min(int(math.Log2(ms/shortestMs)*stepsPerOctave), latencySteps-1)
}

// summary adds up the last five minutes. Rate and latencies are nil without calls.
func (s *stats) summary(now time.Time) (requests int, rate *float64, latency *kyc.LatencyMs) {
	var total statsCount
	n := s.number(now)
	s.mu.Lock()
	for i := range s.slices {
		c := &s.slices[i]
		if c.requests == 0 || c.number <= n-statsSlices {
			continue
		}
		total.requests += c.requests
		total.proper += c.proper
		for step, count := range c.latency {
			total.latency[step] += count
		}
	}
	s.mu.Unlock()
	if total.requests == 0 {
		return 0, nil, nil
	}
	share := float64(total.proper) / float64(total.requests)
	return total.requests, &share, &kyc.LatencyMs{P50: total.quantile(0.50), P95: total.quantile(0.95), P99: total.quantile(0.99)}
}

// quantile gives the middle of the step the quantile falls into, in milliseconds.
func (c *statsCount) quantile(q float64) float64 {
	rank := uint32(math.Ceil(q * float64(c.requests)))
	seen := uint32(0)
	for step, count := range c.latency {
		if seen += count; seen >= rank {
			return shortestMs * math.Exp2((float64(step)+0.5)/stepsPerOctave)
		}
	}
	return 0
}
