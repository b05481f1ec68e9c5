package app

import (
	"io"

	"github.com/kycgate/kycgate/internal/datamap"
	"github.com/kycgate/kycgate/resolvers"
)

// DataMap writes which personal data goes where, as Markdown.
func DataMap(w io.Writer) error { return datamap.Write(w, resolvers.NewSchema(nil).Schema()) }
