package kyc

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Onboardings gives where the onboarding of each of many persons stands, with messages in the language of the context.
func (s *Service) Onboardings(ctx context.Context, persons []PersonID) (map[PersonID]*Onboarding, error) {
	c := CallerFrom(ctx)
	if c.IsSubject() {
		persons = slices.DeleteFunc(slices.Clone(persons), func(id PersonID) bool { return id != c.Person })
	}
	kept, err := s.Store.Onboardings(ctx, c.Partner, persons)
	if err != nil {
		return nil, err
	}
	var stale []PersonID
	for _, id := range persons {
		if k := kept[id]; k == nil || !slices.Equal(k.Require, s.onboardings.Require(c.Partner)) {
			stale = append(stale, id)
		}
	}
	if len(stale) > 0 {
		// Of the time before onboardings were kept, or judged by what was required then. RefreshOnboardings gets there too.
		if err := s.judgeAgain(ctx, c.Partner, stale); err != nil {
			return nil, err
		}
		again, err := s.Store.Onboardings(ctx, c.Partner, stale)
		if err != nil {
			return nil, err
		}
		for id, k := range again {
			kept[id] = k
		}
	}
	out := make(map[PersonID]*Onboarding, len(kept))
	for id, k := range kept {
		if out[id], err = k.onboarding(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ReasonFor is a step's reason as a caller may see it: somebody who tries to get through is not told what gave them away.
func (s *OnboardingStep) ReasonFor(c Caller) *StepReason {
	if c.IsSubject() && (s.Status == StepFailed || s.Reason != nil && *s.Reason == ReasonFraud) {
		return nil
	}
	return s.Reason
}

// StepSubject names what decides a step.
type StepSubject struct {
	Person PersonID
	ID     string
}

// Decider names what decides the step.
func (s *OnboardingStep) Decider() StepSubject { return StepSubject{s.person, s.SubjectID} }

// StepSubjects gives what decides many steps at once, as far as the caller may see it: all others are absent.
func (s *Service) StepSubjects(ctx context.Context, subjects []StepSubject) (map[StepSubject]Node, error) {
	c := CallerFrom(ctx)
	var persons, withFaces, withCustomers []PersonID
	var processes []ProcessID
	for _, x := range subjects {
		switch {
		case strings.HasPrefix(x.ID, processPrefix) && (c.IsSubject() || c.Can(ProcessesRead)):
			processes = append(processes, ProcessID(x.ID))
		case strings.HasPrefix(x.ID, customerPrefix) && (c.IsSubject() || c.Can(CustomersRead)):
			withCustomers = append(withCustomers, x.Person)
		case strings.HasPrefix(x.ID, facePrefix):
			withFaces = append(withFaces, x.Person)
		case strings.HasPrefix(x.ID, personPrefix):
			persons = append(persons, x.Person)
		}
	}
	out := make(map[StepSubject]Node, len(subjects))
	foundPersons, err := s.PersonsByID(ctx, persons)
	for id, p := range foundPersons {
		out[StepSubject{id, string(id)}] = p
	}
	if err != nil {
		return nil, err
	}
	foundProcesses, err := s.ProcessesByID(ctx, processes)
	for id, p := range foundProcesses {
		if p.PersonID != nil {
			out[StepSubject{*p.PersonID, string(id)}] = p
		}
	}
	if err != nil {
		return nil, err
	}
	faces, err := s.FaceRegistrations(ctx, withFaces)
	for person, list := range faces {
		for _, f := range list {
			out[StepSubject{person, string(f.ID)}] = f
		}
	}
	if err != nil {
		return nil, err
	}
	customers, err := s.CustomersOf(ctx, withCustomers)
	for person, list := range customers {
		for _, x := range list {
			out[StepSubject{person, string(x.ID)}] = x
		}
	}
	return out, err
}

// refreshBatch is how many persons are judged anew in one transaction.
const refreshBatch = 100

func (s *Service) judgeAgain(ctx context.Context, partner PartnerID, persons []PersonID) error {
	now := s.now()
	for some := range slices.Chunk(persons, refreshBatch) {
		err := s.Store.Write(ctx, func(tx Tx) error {
			for _, id := range some {
				if err := tx.TouchPerson(ctx, partner, id, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RefreshOnboardings judges everybody again whose partner requires something else than when they were judged, so that lists by state
// are right too. It runs beside everything else after a start and tells how many those were.
func (s *Service) RefreshOnboardings(ctx context.Context) (n int, err error) {
	for _, p := range s.Partners {
		require := s.onboardings.Require(p.ID)
		for after := PersonID(""); ; {
			stale, err := s.Store.StaleOnboardings(ctx, p.ID, require, after, refreshBatch)
			if err != nil {
				return n, err
			}
			if len(stale) == 0 {
				break
			}
			if err := s.judgeAgain(ctx, p.ID, stale); err != nil {
				return n, err
			}
			n, after = n+len(stale), stale[len(stale)-1]
		}
	}
	return n, nil
}

// OnboardingUpdated gives every version of a person's onboarding after since, each as it was; see Watch. Without since it begins with
// how it stands now.
func (s *Service) OnboardingUpdated(ctx context.Context, id PersonID, since *int) (<-chan *Onboarding, error) {
	const op = "kyc.onboarding_updated"
	p, err := s.Person(ctx, id)
	if err == nil && p == nil {
		err = &Error{Kind: NotFound, Op: op, Message: "names no person of yours", Path: []string{"personId"}}
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.Onboardings(ctx, []PersonID{id}); err != nil {
		return nil, err // it has a version from here on
	}
	return watchAs(ctx, s, string(id), since, func(e Event) (*Onboarding, bool, error) {
		if e.State == nil {
			return nil, false, nil // of the time before onboardings were kept
		}
		var kept keptState
		if err := json.Unmarshal(e.State, &kept); err != nil {
			return nil, false, E(Internal, op, err)
		}
		return kept.onboarding(ctx, id, e.Version), true, nil
	})
}

// ProcessUpdated gives every version of a process after since, each as it was; see Watch. Without since it begins with how it stands
// now.
func (s *Service) ProcessUpdated(ctx context.Context, id ProcessID, since *int) (<-chan *Process, error) {
	const op = "kyc.process_updated"
	p, err := s.Process(ctx, id)
	if err == nil && p == nil {
		err = &Error{Kind: NotFound, Op: op, Message: "names no process of yours", Path: []string{"id"}}
	}
	if err != nil {
		return nil, err
	}
	return watchAs(ctx, s, string(id), since, func(e Event) (*Process, bool, error) {
		// Read for each: the result is with the process and not in its events.
		p, err := s.Process(ctx, id)
		if err != nil || p == nil {
			return nil, false, err
		}
		var state processState
		if e.State != nil {
			if err := json.Unmarshal(e.State, &state); err != nil {
				return nil, false, E(Internal, op, err)
			}
			state.restore(p)
		}
		p.Version = e.Version
		return p, true, nil
	})
}

// watchAs follows a subject and gives each version as what it is to the caller. A version that cannot be read is tried again until it
// can: leaving it out would be a gap.
func watchAs[T any](ctx context.Context, s *Service, subject string, since *int, as func(Event) (*T, bool, error)) (<-chan *T, error) {
	events, err := s.Watch(ctx, subject, since)
	if err != nil {
		return nil, err
	}
	out := make(chan *T)
	go func() {
		defer close(out)
		for e := range events {
			v, ok, err := as(e)
			for ; err != nil; v, ok, err = as(e) {
				s.Logger.Warn("a version cannot be read; it is tried again", "subject", subject, "version", e.Version, "err", err)
				wait := s.Clock.NewTimer(watchEvery)
				select {
				case <-wait.Chan():
				case <-ctx.Done():
					wait.Stop()
					return
				}
			}
			if !ok {
				continue
			}
			select {
			case out <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// processState is what an event of a process keeps: what may change of it, but for its result, which it has once and for good. It
// holds no personal data.
type processState struct {
	Status            ProcessStatus `json:"status"`
	Failure           FailureCode   `json:"failure,omitempty"`
	ProviderProcessID *string       `json:"provider_process_id,omitempty"`
	UpdatedAt         time.Time     `json:"updated_at"`
	FinishedAt        *time.Time    `json:"finished_at,omitempty"`
}

// State is how a process stands, for its event.
func (p *Process) State() any {
	s := processState{Status: p.Status, ProviderProcessID: p.ProviderProcessID, UpdatedAt: p.UpdatedAt, FinishedAt: p.FinishedAt}
	if p.Failure != nil {
		s.Failure = p.Failure.Code
	}
	return s
}

// restore makes a process what it was. Nothing leaves COMPLETED, so its result is that of the newest version.
func (s processState) restore(p *Process) {
	p.Status, p.ProviderProcessID, p.UpdatedAt, p.FinishedAt, p.Failure = s.Status, s.ProviderProcessID, s.UpdatedAt.UTC(), s.FinishedAt, nil
	if s.Failure != "" {
		p.Failure = NewFailure(s.Failure)
	}
	if p.Status != ProcessCompleted {
		p.Result = nil
	}
}
