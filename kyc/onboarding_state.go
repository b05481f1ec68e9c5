package kyc

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// PersonChange is what a transaction has changed of one person, before it commits.
type PersonChange struct {
	PartnerID PartnerID
	PersonID  PersonID
	At        time.Time
	// Facts are the *Person, *Process, *FaceRegistration and *Customer as they are now, in the order of the changes.
	Facts []any
	// Fresh says that the person was made in this transaction, so that there are no other facts. Reread says that Facts are not all
	// that has changed.
	Fresh, Reread bool
}

// PersonVersion is a new version of a person, as their events tell it.
type PersonVersion struct {
	Version int    // 0 is "one more than the newest"
	State   []byte // JSON without personal data
}

// KeptOnboarding is an onboarding as a Store keeps it.
type KeptOnboarding struct {
	PartnerID PartnerID
	PersonID  PersonID
	State     OnboardingState
	Require   []StepKind // what it was judged by
	Content   []byte     // JSON without personal data; ours to read
	Version   int
	UpdatedAt time.Time
}

// Onboardings judges persons inside the transactions that change them. It is the one place where an onboarding gets a version: a
// Store calls Changed for every person of whom a transaction has changed something, so no verb can forget to.
type Onboardings struct {
	require map[PartnerID][]StepKind
}

// NewOnboardings takes what each partner requires.
func NewOnboardings(partners []Partner) *Onboardings {
	o := &Onboardings{require: make(map[PartnerID][]StepKind)}
	for _, p := range partners {
		o.require[p.ID] = p.Require
	}
	return o
}

// Require gives what a partner requires: never nothing, because nobody is approved by an empty list (ours).
func (o *Onboardings) Require(partner PartnerID) []StepKind {
	if list := o.require[partner]; len(list) > 0 {
		return list
	}
	return []StepKind{StepPerson}
}

// Changed judges a person anew and keeps what it finds. It returns nil when state, steps and next action are what they were.
//
// What one fact says replaces what it said before, so nothing else of the person is read; everything is where that is not enough: for
// a person that has no onboarding yet, and where a fact was removed.
func (o *Onboardings) Changed(ctx context.Context, tx Tx, c PersonChange) (*PersonVersion, error) {
	kept, err := tx.Onboardings(ctx, c.PartnerID, []PersonID{c.PersonID})
	if err != nil {
		return nil, err
	}
	require, before := o.Require(c.PartnerID), kept[c.PersonID]
	var was onboardingContent
	if before != nil {
		if err := json.Unmarshal(before.Content, &was); err != nil {
			return nil, E(Internal, "kyc.onboarding", err)
		}
	} else {
		was.Evidence = make(progress)
	}
	now, known := was.Evidence.and(c.Facts)
	if !known || c.Reread || before == nil && !c.Fresh {
		f, err := tx.OnboardingFacts(ctx, c.PartnerID, c.PersonID)
		if err != nil {
			return nil, err
		}
		if f.Person == nil {
			return nil, nil // gone again, or not accepted yet
		}
		now = was.Evidence.again(f)
	}
	if before == nil && !accepted(c) && c.Fresh {
		return nil, nil
	}
	is := now.onboarding(c.PersonID, require)
	is.UpdatedAt = c.At
	next := &KeptOnboarding{PartnerID: c.PartnerID, PersonID: c.PersonID, State: is.State, Require: require, UpdatedAt: c.At, Version: 1}
	content := onboardingContent{keptState: keepState(is), Evidence: now}
	same := before != nil && was.same(content.keptState)
	switch {
	case same && slices.Equal(before.Require, require) && was.Evidence.equal(now):
		return nil, nil
	case same:
		next.Version, next.UpdatedAt, content.keptState = before.Version, before.UpdatedAt, was.keptState
	case before != nil:
		next.Version = before.Version + 1
	default:
		// A person of the time before onboardings were kept may have events.
		_, newest, err := tx.EventsSince(ctx, c.PartnerID, string(c.PersonID), 0, 0)
		if err != nil {
			return nil, err
		}
		next.Version = newest + 1
	}
	if next.Content, err = json.Marshal(content); err != nil {
		return nil, err
	}
	if err := tx.SaveOnboarding(ctx, next); err != nil || same {
		return nil, err
	}
	state, err := json.Marshal(content.keptState)
	return &PersonVersion{Version: next.Version, State: state}, err
}

// accepted reports whether a person that was made in this transaction may be seen.
func accepted(c PersonChange) bool {
	for _, f := range slices.Backward(c.Facts) {
		if p, ok := f.(*Person); ok {
			return p.Version > 0
		}
	}
	return false
}

// and adds what facts say. It reports false when that cannot be told from the evidence.
func (p progress) and(facts []any) (progress, bool) {
	out := make(progress, len(p)+1)
	for step, e := range p {
		out[step] = e
	}
	for _, f := range facts {
		var all []stepAnswer
		switch f := f.(type) {
		case *Person:
			all = f.answers()
		case *Process:
			all = f.answers()
		case *FaceRegistration:
			all = f.answers()
		case *Customer:
			all = f.answers()
		}
		for _, a := range all {
			if !out.add(a) {
				return nil, false
			}
		}
	}
	return out, true
}

// again is the evidence of all facts, which keeps the times of the answers that have not changed.
func (p progress) again(f OnboardingFacts) progress {
	now := evidenceOf(f)
	for step, e := range now {
		for _, a := range []*answer{e.Decided, e.Newest} {
			for _, had := range []*answer{p[step].Decided, p[step].Newest} {
				if a != nil && had != nil && a.same(*had) {
					a.At = had.At
				}
			}
		}
	}
	return now
}

func (p progress) equal(q progress) bool {
	if len(p) != len(q) {
		return false
	}
	for step, e := range p {
		other, ok := q[step]
		if !ok || !sameAnswer(e.Decided, other.Decided) || !sameAnswer(e.Newest, other.Newest) {
			return false
		}
	}
	return true
}

func sameAnswer(a, b *answer) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.same(*b)
}

// onboardingContent is the JSON of KeptOnboarding.Content.
type onboardingContent struct {
	keptState
	Evidence progress `json:"evidence,omitempty"`
}

// keptState is an onboarding as JSON: what an event keeps. Codes, ids and times.
type keptState struct {
	State OnboardingState `json:"state"`
	Steps []keptStep      `json:"steps"`
	Next  *keptNext       `json:"next,omitempty"`
	At    time.Time       `json:"at"`
}

type keptStep struct {
	Kind     StepKind   `json:"kind"`
	Status   StepStatus `json:"status"`
	Required bool       `json:"required,omitempty"`
	Provider string     `json:"provider,omitempty"`
	Reason   StepReason `json:"reason,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	At       *time.Time `json:"at,omitempty"`
}

type keptNext struct {
	Kind NextActionKind `json:"kind"`
	Step StepKind       `json:"step,omitempty"`
}

func keepState(o Onboarding) keptState {
	k := keptState{State: o.State, Steps: make([]keptStep, len(o.Steps)), At: o.UpdatedAt}
	for i, s := range o.Steps {
		k.Steps[i] = keptStep{Kind: s.Kind, Status: s.Status, Required: s.Required, Subject: s.SubjectID, At: s.UpdatedAt}
		if s.Provider != nil {
			k.Steps[i].Provider = *s.Provider
		}
		if s.Reason != nil {
			k.Steps[i].Reason = *s.Reason
		}
	}
	if o.NextAction != nil {
		k.Next = &keptNext{Kind: o.NextAction.Kind}
		if o.NextAction.Step != nil {
			k.Next.Step = *o.NextAction.Step
		}
	}
	return k
}

// same compares everything but times.
func (k keptState) same(other keptState) bool {
	next := k.Next == nil && other.Next == nil || k.Next != nil && other.Next != nil && *k.Next == *other.Next
	return next && k.State == other.State && slices.EqualFunc(k.Steps, other.Steps, func(a, b keptStep) bool {
		a.At, b.At = nil, nil
		return a == b
	})
}

// onboarding is what is kept, with the message in the language of the context.
func (k *KeptOnboarding) onboarding(ctx context.Context) (*Onboarding, error) {
	var content onboardingContent
	if err := json.Unmarshal(k.Content, &content); err != nil {
		return nil, E(Internal, "kyc.onboarding", err)
	}
	return content.onboarding(ctx, k.PersonID, k.Version), nil
}

// onboarding is what was kept, with the message in the language of the context.
func (k keptState) onboarding(ctx context.Context, person PersonID, version int) *Onboarding {
	o := &Onboarding{PersonID: person, State: k.State, Steps: make([]OnboardingStep, len(k.Steps)), UpdatedAt: k.At.UTC(), Version: version}
	for i, s := range k.Steps {
		o.Steps[i] = OnboardingStep{
			person: person, Kind: s.Kind, Status: s.Status, Required: s.Required, Provider: nonEmpty(s.Provider), Reason: nonEmpty(s.Reason), SubjectID: s.Subject,
		}
		if s.At != nil {
			o.Steps[i].UpdatedAt = new(s.At.UTC())
		}
	}
	if k.Next != nil {
		o.NextAction = &NextAction{Kind: k.Next.Kind, Step: nonEmpty(k.Next.Step), Message: ActionMessage(ctx, k.Next.Kind)}
	}
	return o
}
