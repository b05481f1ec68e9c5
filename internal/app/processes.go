package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kycgate/kycgate/kyc"
)

// openProcesses is read from the store at each scrape: what nobody settles shows here, whoever began it.
type openProcesses struct {
	count     func(context.Context) ([]kyc.OpenProcesses, error)
	providers []string // those that make processes
}

var processesOpen = prometheus.NewDesc("kycgate_processes_open",
	"Processes that no final status ended. One that stays here is settled by nobody.", []string{"provider", "kind", "status"}, nil)

func newOpenProcesses(s *kyc.Service, providers []kyc.Provider) openProcesses {
	c := openProcesses{count: s.OpenProcesses}
	for _, p := range providers {
		if p.CreateProcess != nil {
			c.providers = append(c.providers, p.Name)
		}
	}
	return c
}

func (openProcesses) Describe(ch chan<- *prometheus.Desc) { ch <- processesOpen }

func (c openProcesses) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rows, err := c.count(ctx)
	if err != nil {
		return // a database that does not answer must not take the other metrics with it
	}
	open := make(map[kyc.OpenProcesses]int) // by all but the count
	for _, p := range c.providers {
		for _, k := range kyc.ProcessKinds() {
			for _, s := range kyc.OpenStatuses() {
				open[kyc.OpenProcesses{Provider: p, Kind: k, Status: s}] = 0
			}
		}
	}
	for _, r := range rows {
		n := r.Count
		r.Count = 0
		open[r] = n // also of a provider that is not configured any more
	}
	for o, n := range open {
		ch <- prometheus.MustNewConstMetric(processesOpen, prometheus.GaugeValue, float64(n), o.Provider, string(o.Kind), string(o.Status))
	}
}
