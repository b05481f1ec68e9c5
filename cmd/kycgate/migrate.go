package main

import (
	"fmt"

	"github.com/kycgate/kycgate/internal/app"
)

type migrateCmd struct {
	configFlag
}

func (migrateCmd) Help() string {
	return `Run it before a new version starts if you want to know first. A database of a newer version is refused.

Example:

    kycgate migrate --config /etc/kycgate/kycgate.yaml`
}

// Run migrates the database and tells from where to where.
func (c migrateCmd) Run(p *process) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	from, to, err := app.Migrate(p.ctx, cfg, p.log)
	if err != nil {
		return err
	}
	if from == to {
		_, err = fmt.Fprintf(p.stdout, "the database already has schema %d\n", to)
	} else {
		_, err = fmt.Fprintf(p.stdout, "the database went from schema %d to %d\n", from, to)
	}
	return err
}
