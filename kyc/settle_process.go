package kyc

import (
	"context"
	"time"
)

// settleProcess writes what a step says about a process: the one door through which a creation, a poll, a webhook's
// fetch and a refresh all change one. early says that a webhook about it came before we knew its name.
func settleProcess(ctx context.Context, tx Tx, p *Process, st processStep, now time.Time) (early bool, err error) {
	changed := false
	switch {
	case p.Status.Final():
	case st.refused:
		p.Submission = SubmissionRefused
		changed = p.Fail(refusedAs(st.err), now)
	case st.end != "":
		changed = p.Fail(st.end, now)
	case st.verdict != nil:
		known := p.ProviderProcessID != nil
		changed = p.Apply(*st.verdict, now)
		looks := st.looks
		if p.Status.Final() {
			looks = 0
		}
		if p.Looks != looks {
			p.Looks, changed = looks, true // of nobody's concern, so no new version
		}
		if !known && p.ProviderProcessID != nil {
			if early, err = tx.TakeEarlyCallback(ctx, p.Provider, *p.ProviderProcessID); err != nil {
				return false, err
			}
		}
	case p.Submission != SubmissionAccepted && p.Submission != st.submission:
		p.Submission, p.UpdatedAt, changed = st.submission, now, true
	}
	if st.verdict != nil || p.Status.Final() {
		// There is something to tell: it is accepted by it, whether its caller still waits or not.
		if p.Version == 0 {
			p.Version, changed = 1, true
		}
	}
	if !changed {
		return early, nil
	}
	if p.Result != nil {
		if err := audit(ctx, tx, now, p.event(AuditUpdate)); err != nil {
			return false, err
		}
	}
	return early, tx.UpdateProcess(ctx, p)
}

// refusedAs is the failure of a process whose data was refused after it had been answered.
func refusedAs(err error) FailureCode {
	switch asError(err).UserCode {
	case CodeNeedsNewCapture:
		return FailureNeedsNewCapture
	case CodeImageRejected:
		return FailureImageRejected
	default:
		return FailureRejected
	}
}
