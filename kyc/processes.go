package kyc

import (
	"context"
	"time"
)

// ProcessConnection is a page of processes.
type ProcessConnection struct {
	Edges    []ProcessEdge
	Nodes    []*Process
	PageInfo PageInfo

	// What TotalCount counts: the filter, or one person's of a kind.
	Filter   ProcessFilter
	PersonID PersonID
	Kind     ProcessKind
}

// ProcessEdge is a process in a page.
type ProcessEdge struct {
	Cursor string
	Node   *Process
}

// Process gives one process of the caller's partner, or nil.
func (s *Service) Process(ctx context.Context, id ProcessID) (*Process, error) {
	c := CallerFrom(ctx)
	if !wellFormed(string(id), processPrefix) {
		return nil, nil
	}
	p, err := s.Store.Process(ctx, c.Partner, id)
	return visibleProcess(c, p), err
}

// Processes lists the caller's processes, newest first.
func (s *Service) Processes(ctx context.Context, first *int, after *string, filter *ProcessFilter) (*ProcessConnection, error) {
	c := CallerFrom(ctx)
	page, err := pageOf(first, after, processPrefix)
	if err != nil {
		return nil, err
	}
	var f ProcessFilter
	if filter != nil {
		f = *filter
	}
	if c.IsSubject() {
		return processPage(nil, false, page), nil
	}
	rows, more, err := s.Store.Processes(ctx, c.Partner, f, page)
	if err != nil {
		return nil, err
	}
	con := processPage(rows, more, page)
	con.Filter = f
	return con, nil
}

func processPage(rows []*Process, more bool, page Page) *ProcessConnection {
	con := &ProcessConnection{Edges: []ProcessEdge{}, Nodes: []*Process{}}
	for _, p := range rows {
		con.Nodes = append(con.Nodes, p)
		con.Edges = append(con.Edges, ProcessEdge{Cursor: cursorOf(string(p.ID)), Node: p})
	}
	con.PageInfo = PageInfo{HasNextPage: more, HasPreviousPage: page.After != ""}
	if n := len(con.Edges); n > 0 {
		con.PageInfo.StartCursor, con.PageInfo.EndCursor = &con.Edges[0].Cursor, &con.Edges[n-1].Cursor
	}
	return con
}

// CountProcesses counts what Processes lists in all.
func (s *Service) CountProcesses(ctx context.Context, filter ProcessFilter) (int, error) {
	c := CallerFrom(ctx)
	if c.IsSubject() {
		return 0, nil
	}
	return s.Store.CountProcesses(ctx, c.Partner, filter)
}

// ProcessPage checks the arguments of Person.processes.
func ProcessPage(first *int, after *string) (Page, error) { return pageOf(first, after, processPrefix) }

// ProcessesOf gives one page of processes for each of many persons at once, newest first.
func (s *Service) ProcessesOf(ctx context.Context, persons []PersonID, kind ProcessKind, page Page) (map[PersonID]*ProcessConnection, error) {
	rows, err := s.Store.ProcessesOf(ctx, CallerFrom(ctx).Partner, persons, kind, page)
	if err != nil {
		return nil, err
	}
	out := make(map[PersonID]*ProcessConnection, len(persons))
	for _, id := range persons {
		found := rows[id]
		con := processPage(found[:min(len(found), page.First)], len(found) > page.First, page)
		con.PersonID, con.Kind = id, kind
		out[id] = con
	}
	return out, nil
}

// CountProcessesOf counts the processes of many persons at once.
func (s *Service) CountProcessesOf(ctx context.Context, persons []PersonID, kind ProcessKind) (map[PersonID]int, error) {
	return s.Store.CountProcessesOf(ctx, CallerFrom(ctx).Partner, persons, kind)
}

// ProcessesByID gives many processes at once, those that the caller may see.
func (s *Service) ProcessesByID(ctx context.Context, ids []ProcessID) (map[ProcessID]*Process, error) {
	c := CallerFrom(ctx)
	found, err := s.Store.ProcessesByID(ctx, c.Partner, ids)
	for id, p := range found {
		if visibleProcess(c, p) == nil {
			delete(found, id)
		}
	}
	return found, err
}

// PersonsByID gives many persons at once, those that the caller may see.
func (s *Service) PersonsByID(ctx context.Context, ids []PersonID) (map[PersonID]*Person, error) {
	c := CallerFrom(ctx)
	found, err := s.Store.PersonsByID(ctx, c.Partner, ids)
	for id, p := range found {
		if visible(c, p) == nil {
			delete(found, id)
		}
	}
	return found, err
}

// Attempts gives the calls of many processes at once, in their order. What our own guard kept from leaving was no
// attempt.
func (s *Service) Attempts(ctx context.Context, ids []ProcessID) (map[ProcessID][]*ProviderAttempt, error) {
	references := make([]string, len(ids))
	for i, id := range ids {
		references[i] = string(id)
	}
	calls, err := s.Store.Calls(ctx, CallerFrom(ctx).Partner, references)
	if err != nil {
		return nil, err
	}
	out := make(map[ProcessID][]*ProviderAttempt, len(ids))
	for _, id := range ids {
		list := []*ProviderAttempt{}
		for _, c := range calls[string(id)] {
			if guarded(c) {
				continue
			}
			list = append(list, attemptOf(c, len(list)+1))
		}
		out[id] = list
	}
	return out, nil
}

// guarded reports whether a call never left because of a breaker, a bulkhead or a budget of ours. The words are
// the guard's reasons (contract, section 5).
func guarded(c Call) bool {
	switch c.Code {
	case "breaker_open", "bulkhead_full", "rate_budget":
		return c.Outcome == CallUnavailable
	}
	return false
}

func attemptOf(c Call, number int) *ProviderAttempt {
	a := &ProviderAttempt{Number: number, StartedAt: c.StartedAt, EndedAt: c.EndedAt, ProviderCode: nonEmpty(c.Code)}
	switch c.Outcome {
	case CallSucceeded:
		a.Outcome = AttemptSucceeded
	case CallRejected:
		a.Outcome = AttemptRejected
	case CallUnavailable:
		a.Outcome = AttemptUnavailable
		if c.Code == "timeout" {
			a.Outcome = AttemptTimedOut
		}
	case CallAmbiguous:
		a.Outcome = AttemptAmbiguous
	default:
		a.Outcome = AttemptInFlight
	}
	if c.EndedAt != nil {
		a.DurationMs = new(int(c.EndedAt.Sub(c.StartedAt) / time.Millisecond))
	}
	return a
}

// OpenProcesses counts the open processes of all partners, for the operator.
func (s *Service) OpenProcesses(ctx context.Context) ([]OpenProcesses, error) {
	return s.Store.OpenProcesses(ctx)
}
