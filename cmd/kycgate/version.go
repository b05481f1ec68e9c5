package main

import (
	"fmt"

	"github.com/kycgate/kycgate/internal/app"
)

type versionCmd struct{}

func (versionCmd) Help() string {
	return `Example:

    kycgate version`
}

// Run prints what the binary was built from.
func (versionCmd) Run(p *process) error {
	v := app.ReadVersion()
	_, err := fmt.Fprintf(p.stdout, "kycgate %s (commit %s, %s)\n", v.Version, v.Commit, v.Go)
	return err
}
