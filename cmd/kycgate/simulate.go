package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kycgate/kycgate/providers/finhub/finhubsim"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
	"github.com/kycgate/kycgate/providers/simulator"
	"github.com/kycgate/kycgate/providers/unico/unicosim"
)

type simulateCmd struct {
	Listen    string `default:"127.0.0.1:8090" placeholder:"HOST:PORT" help:"Where the simulators listen, by default ${default}."`
	Gateway   string `placeholder:"URL" help:"The public_url of a gateway: webhooks go there, signed with the sandbox's key. Without it nothing is sent and the gateway polls."`
	Scenarios bool   `help:"Print every magic value and what it does, and end."`
}

func (simulateCmd) Help() string {
	return `Each provider is under a path of its own, such as /qitech, and takes its documented sandbox credentials only.
GET /scenarios lists the magic values and GET /unico/private-key is what a gateway signs with for Unico; PUT /PROVIDER/faults makes it fail, GET /PROVIDER/requests shows what arrived.

Examples:

    kycgate simulate --listen 127.0.0.1:8090
    kycgate simulate --gateway http://127.0.0.1:8080
    kycgate simulate --scenarios`
}

// Run serves the simulators until the process is told to stop.
func (c simulateCmd) Run(p *process) (err error) {
	sims := newSimulators(strings.TrimRight(c.Gateway, "/"))
	defer func() { err = errors.Join(err, sims.close()) }()
	if c.Scenarios {
		return simulator.WriteScenarios(p.stdout, sims.list...)
	}
	base, err := sims.listen(p.ctx, c.Listen)
	if err != nil {
		return addressTaken(err, c.Listen, "--listen", "--listen")
	}
	if _, err := fmt.Fprintf(p.stdout, "Simulators  %s\nScenarios   %s/scenarios\n", sims.urls(base), base); err != nil {
		return err
	}
	select {
	case <-p.ctx.Done():
		return nil
	case err := <-sims.failed:
		return err
	}
}

// simulators are the simulators of all providers behind one listener.
type simulators struct {
	list   []simulator.Simulator
	server *http.Server
	failed chan error // the listener's, if it ends by itself
}

// newSimulators makes the simulators. Their webhooks go to the gateway at the address, nowhere if it is "".
func newSimulators(gateway string) *simulators {
	var qitech qitechsim.Config // its zero value takes the documented sandbox credentials
	var unico unicosim.Config
	if gateway != "" {
		qitech.WebhookURL = gateway + "/callbacks/qitech"
		unico.WebhookURL = gateway + "/callbacks/unico"
	}
	return &simulators{list: []simulator.Simulator{qitechsim.New(qitech), unicosim.New(unico), finhubsim.New(finhubsim.Config{}), leapsim.New(leapsim.Config{})}, failed: make(chan error, 1)}
}

// listen starts to serve and gives the simulators' base URL.
func (s *simulators) listen(ctx context.Context, address string) (base string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	s.server = &http.Server{Handler: simulator.New(s.list...), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("simulators: %w", err)
		}
	}()
	return "http://" + reachable(l.Addr().String()), nil
}

// urls lists where each provider is.
func (s *simulators) urls(base string) string {
	text := ""
	for i, sim := range s.list {
		if i > 0 {
			text += " "
		}
		text += base + "/" + sim.Name()
	}
	return text
}

// close ends the simulators. Requests under way are cut: there is nothing to lose in them.
func (s *simulators) close() error {
	var errs []error
	for _, sim := range s.list {
		errs = append(errs, sim.Close())
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	return errors.Join(errs...)
}
