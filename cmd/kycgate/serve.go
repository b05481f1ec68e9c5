package main

import (
	"errors"
	"os"
	"runtime/debug"

	"github.com/kycgate/kycgate/internal/app"
)

type serveCmd struct {
	configFlag
}

func (serveCmd) Help() string {
	return `It refuses to start, with exit code 78, on any missing or weak security setting and on any key it does not know,
and with exit code 1 when the database cannot be reached. Every problem is named at once. Ctrl-C and SIGTERM drain: requests
under way are answered, then it ends with exit code 0.

Example:

    kycgate serve --config /etc/kycgate/kycgate.yaml`
}

// Run serves until the process is told to stop. It prints nothing on stdout: what it has to say is logged.
func (c serveCmd) Run(p *process) (err error) {
	if err := keepCrashesQuiet(p.log); err != nil {
		return err
	}
	tuneGC()
	cfg, err := c.load()
	if err != nil {
		return err
	}
	for _, warning := range cfg.Warnings() {
		p.log.Warn("configuration", "warning", warning)
	}
	version := app.ReadVersion()
	a, err := app.New(p.ctx, app.Options{Config: cfg, Logger: p.log, Version: version})
	if err != nil {
		return addressTaken(err, cfg.Listen, "`listen` in the configuration", "`admin_listen` in the configuration")
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	p.log.Info("serving", "listen", a.PublicAddr(), "admin_listen", a.AdminAddr(), "environment", string(cfg.Environment),
		"version", version.Version, "commit", version.Commit)
	return a.Run(p.ctx)
}

// tuneGC collects less often than Go's default, which leaves a server of small requests half of its time for them (figures in
// docs/benchmarks.md). The bound keeps images under way from making five times of themselves. Who sets GOGC or GOMEMLIMIT
// knows better.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(app.GCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(app.MemoryLimit)
	}
}
