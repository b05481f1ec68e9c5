package main

import "github.com/kycgate/kycgate/internal/app"

type dataMapCmd struct{}

func (dataMapCmd) Help() string {
	return `It is a document for people (LGPD, article 37), made of the marks in this binary's schema, in Markdown.

Example:

    kycgate data-map > data-map.md`
}

// Run prints the map.
func (dataMapCmd) Run(p *process) error { return app.DataMap(p.stdout) }
