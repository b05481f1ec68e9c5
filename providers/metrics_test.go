package providers

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// value reads a counter or gauge.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// Names, labels and label values are the contract's (section 5), and all exist before the first call.
func TestMetricsExistFromTheFirstScrape(t *testing.T) {
	t.Parallel()
	b := setup(Limits{}, func(context.Context) error { return nil })
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]bool{"analyze_person": true, "fetch_person_analysis": true}
	want := map[string]struct {
		series int
		values map[string]string
	}{
		"kycgate_provider_request_duration_seconds": {2, map[string]string{"outcome": "ok"}},
		"kycgate_provider_refused_total":            {6, map[string]string{"reason": "breaker_open bulkhead_full rate_budget"}},
		"kycgate_provider_breaker_state":            {2, nil},
		"kycgate_provider_in_flight":                {1, nil},
		"kycgate_provider_unknown_status_total":     {1, nil},
	}
	for _, f := range families {
		w, ok := want[f.GetName()]
		if !ok {
			t.Errorf("%s is not in the contract", f.GetName())
			continue
		}
		delete(want, f.GetName())
		if len(f.GetMetric()) != w.series {
			t.Errorf("%s has %d series, want %d", f.GetName(), len(f.GetMetric()), w.series)
		}
		if !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: help is not a sentence: %s", f.GetName(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "provider":
				case "operation":
					if !operations[l.GetValue()] {
						t.Errorf("%s: operation %s", f.GetName(), l.GetValue())
					}
				default:
					if !strings.Contains(" "+w.values[l.GetName()]+" ", " "+l.GetValue()+" ") {
						t.Errorf("%s: %s=%s", f.GetName(), l.GetName(), l.GetValue())
					}
				}
			}
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// The gauge tells the truth although nobody calls: an expired open breaker is half-open.
func TestBreakerStateIsReadAtTheScrape(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(Limits{OpenFor: 15 * time.Second}, func(context.Context) error { return errDown })
		state := func() string {
			var values []string
			families, err := b.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "kycgate_provider_breaker_state" {
					for _, m := range f.GetMetric() {
						values = append(values, string(rune('0'+int(m.GetGauge().GetValue()))))
					}
				}
			}
			return strings.Join(values, "")
		}
		if s := state(); s != "00" {
			t.Errorf("at first %s", s)
		}
		for range 5 {
			_ = b.call(t.Context())
		}
		if s := state(); s != "20" {
			t.Errorf("open %s", s)
		}
		elapse(15*time.Second + 1)
		if s := state(); s != "10" {
			t.Errorf("expired %s", s)
		}
	})
}

func TestUnknownStatusIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(Limits{}, func(context.Context) error { return nil })
	b.metrics.UnknownStatus("qitech")
	if got := value(b.metrics.unknownStatus.WithLabelValues("qitech")); got != 1 {
		t.Errorf("%v", got)
	}
}
