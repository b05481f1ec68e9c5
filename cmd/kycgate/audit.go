package main

import (
	"fmt"
	"time"

	"github.com/kycgate/kycgate/internal/app"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Check that no record of the audit log was changed, dropped, swapped, inserted or cut off."`
}

type auditVerifyCmd struct {
	configFlag
}

func (auditVerifyCmd) Help() string {
	return `It walks the log from the first record to the head and compares it with the signed heads, those in the database and
those in the file of signed heads. It only reads, so a gateway may run meanwhile. The exit code is 1 when a record is not
as it was written, and the line names the first one.

Example:

    kycgate audit verify --config /etc/kycgate/kycgate.yaml`
}

// Run checks the log and tells how it is.
func (c auditVerifyCmd) Run(p *process) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	r, err := app.VerifyAudit(p.ctx, cfg, p.log, p.stdout)
	if err != nil {
		return err
	}
	if r.BrokenLines > 0 {
		if _, err := fmt.Fprintf(p.stdout, "note: %d lines of the file of signed heads are incomplete, as after a crash\n", r.BrokenLines); err != nil {
			return err
		}
	}
	if r.BadRecord != 0 {
		_, _ = fmt.Fprintf(p.stdout, "FAIL, record %d: %s; the %d before it are as they were written\n", r.BadRecord, r.Problem, r.BadRecord-1)
		return errSilent
	}
	sealed := "no head signed yet"
	if r.SealedNumber > 0 {
		sealed = fmt.Sprintf("head signed at %s (record %d)", r.SealedAt.Format(time.RFC3339), r.SealedNumber)
	}
	_, err = fmt.Fprintf(p.stdout, "ok, %d records, %s\n", r.Records, sealed)
	return err
}
