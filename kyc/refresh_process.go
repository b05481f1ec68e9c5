package kyc

import "context"

// RefreshProcess asks the provider about an open process now, and answers what is known then. A provider that does not
// answer leaves the process as it was.
func (s *Service) RefreshProcess(ctx context.Context, id ProcessID) (*ProcessPayload, error) {
	c := CallerFrom(ctx)
	p, err := s.Process(ctx, id)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return refusedProcess(UserError{Code: CodeNotFound, Message: "names no process of yours", Path: []string{"id"}}), nil
	}
	provider, ok := s.providers[p.Provider]
	if p.Status.Final() || p.Submission != SubmissionAccepted || !ok || provider.FetchProcess == nil {
		return startedProcess(p), nil
	}
	work, cancel := context.WithTimeout(WithPriority(ctx, User), s.AnswerWithin)
	defer cancel()
	st := s.fetchProcess(work, provider, p)
	s.logProcess(p, st)
	if st.verdict == nil {
		return startedProcess(p), nil
	}
	if !st.verdict.Known || st.verdict.Unclear {
		s.UnknownStatus(p.Provider)
	}
	now := s.now()
	ctx = context.WithoutCancel(ctx) // what was learned is written even if nobody waits any more
	err = s.Store.Write(ctx, func(tx Tx) error {
		current, err := tx.Process(ctx, c.Partner, id)
		if err != nil {
			return err
		}
		if current == nil {
			p = nil // erased meanwhile
			return nil
		}
		p = current
		if _, err := settleProcess(ctx, tx, p, st, now); err != nil || !p.Status.Final() {
			return err
		}
		return tx.DeleteJob(ctx, string(id))
	})
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return refusedProcess(UserError{Code: CodeNotFound, Message: "names no process of yours", Path: []string{"id"}}), nil
	}
	if p.Status.Final() {
		s.processWaiters.publish(string(id), processEvent{process: p})
	}
	return startedProcess(p), nil
}
