package kyc

import (
	"context"
	"time"
)

// DeadJob is a job nobody runs any more: it failed in a way that no repetition mends (schema: DeadJob).
type DeadJob struct {
	ID        JobID
	Kind      string // a JobKind
	Subject   string // the id of what it works on
	Reason    string // code-like
	Attempts  int
	CreatedAt time.Time
	DiedAt    time.Time
}

// DeadJobConnection is a page of dead jobs.
type DeadJobConnection struct {
	Edges    []DeadJobEdge
	Nodes    []*DeadJob
	PageInfo PageInfo
}

// DeadJobEdge is a dead job in a page.
type DeadJobEdge struct {
	Cursor string
	Node   *DeadJob
}

// DeadJobs lists the caller's dead jobs, the newest first.
func (s *Service) DeadJobs(ctx context.Context, first *int, after *string) (*DeadJobConnection, error) {
	c := CallerFrom(ctx)
	page, err := pageOf(first, after, jobPrefix)
	if err != nil {
		return nil, err
	}
	rows, more, err := s.Store.DeadJobs(ctx, c.Partner, page)
	if err != nil {
		return nil, err
	}
	con := &DeadJobConnection{Edges: []DeadJobEdge{}, Nodes: []*DeadJob{}}
	for _, j := range rows {
		con.Nodes = append(con.Nodes, j)
		con.Edges = append(con.Edges, DeadJobEdge{Cursor: cursorOf(string(j.ID)), Node: j})
	}
	con.PageInfo = PageInfo{HasNextPage: more, HasPreviousPage: page.After != ""}
	if n := len(con.Edges); n > 0 {
		con.PageInfo.StartCursor, con.PageInfo.EndCursor = &con.Edges[0].Cursor, &con.Edges[n-1].Cursor
	}
	return con, nil
}

// CountDeadJobs counts what DeadJobs lists in all.
func (s *Service) CountDeadJobs(ctx context.Context) (int, error) {
	return s.Store.CountDeadJobs(ctx, CallerFrom(ctx).Partner)
}

// RetryJobInput names the job to run again (schema: RetryJobInput).
type RetryJobInput struct{ JobID JobID }

// RetryJobPayload is the answer: the job as it was while it was dead.
type RetryJobPayload struct {
	Job        *DeadJob
	UserErrors []UserError
}

// RetryJob makes a dead job due now, with its failures forgotten. A job that is not dead, of another partner or unknown is
// refused alike.
func (s *Service) RetryJob(ctx context.Context, in RetryJobInput) (*RetryJobPayload, error) {
	c := CallerFrom(ctx)
	var dead *DeadJob
	now := s.now()
	if wellFormed(string(in.JobID), jobPrefix) {
		if err := s.Store.Write(ctx, func(tx Tx) (err error) {
			dead, err = tx.ReviveJob(ctx, c.Partner, in.JobID, now)
			return err
		}); err != nil {
			return nil, err
		}
	}
	if dead == nil {
		return &RetryJobPayload{UserErrors: []UserError{{Code: CodeNotFound, Message: "names no dead job of yours", Path: []string{"input", "jobId"}}}}, nil
	}
	s.Wake(now)
	return &RetryJobPayload{Job: dead, UserErrors: []UserError{}}, nil
}
