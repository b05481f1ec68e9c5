package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/config"
)

type doctorCmd struct {
	configFlag
}

func (doctorCmd) Help() string {
	return `Each line begins with ok or FAIL. The exit code is 1 if any check fails, also when the configuration does.

Example:

    kycgate doctor --config /etc/kycgate/kycgate.yaml`
}

// Run prints one line a check.
func (c doctorCmd) Run(p *process) error {
	cfg, err := c.load()
	var wrong *config.Error
	var checks []app.Check
	switch {
	case err == nil:
		checks = app.Doctor(p.ctx, cfg, p.log)
	case errors.As(err, &wrong):
		// Nothing else can be checked with half a configuration.
		for _, problem := range wrong.Problems {
			checks = append(checks, app.Check{Name: "configuration", Detail: problem.String()})
		}
	default:
		return err
	}
	return report(p.stdout, checks)
}

func report(w io.Writer, checks []app.Check) error {
	width, failed := 0, false
	for _, check := range checks {
		width = max(width, len(check.Name))
		failed = failed || !check.OK
	}
	oneLine := strings.NewReplacer("\n", " ", "\r", " ")
	for _, check := range checks {
		word := "FAIL"
		if check.OK {
			word = "ok"
		}
		if _, err := fmt.Fprintf(w, "%-4s  %-*s  %s\n", word, width, check.Name, oneLine.Replace(check.Detail)); err != nil {
			return err
		}
	}
	if failed {
		return errSilent
	}
	return nil
}
