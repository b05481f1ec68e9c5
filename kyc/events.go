package kyc

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Event is one version of a subject that somebody may follow. It is written in the transaction that made the version, and holds
// no personal data.
type Event struct {
	PartnerID PartnerID
	// Subject is whose version it is: an object with versions of its own (prc_…, cus_…), or a person (per_…), whose events count
	// every change of the person and of all that is theirs.
	Subject string
	Version int // one more than that of the event before
	Kind    EventKind
	Object  string // the id of what changed; the subject itself unless that is a person
	// State is how the subject stood, as JSON of its noun, so that the version can be answered by itself later. Empty when it was
	// not kept: then the newest state is all there is.
	State []byte
	At    time.Time
}

// EventKind is the noun that changed.
type EventKind string

// The kinds.
const (
	EventPerson   EventKind = "PERSON"
	EventFace     EventKind = "FACE"
	EventProcess  EventKind = "PROCESS"
	EventCustomer EventKind = "CUSTOMER"
)

const (
	// watchEvery is how often a watcher looks although nobody has woken it: another process may have written (ours).
	watchEvery = 5 * time.Second
	// watchBatch bounds what a watcher reads at once.
	watchBatch = 100
)

// Feed wakes who follows a subject when it has a new version. It is a courtesy of this process: what there is to tell is in the
// store, and a watcher looks by itself too.
type Feed struct {
	mu       sync.Mutex
	watchers map[feedKey]map[chan struct{}]struct{}
}

type feedKey struct {
	partner PartnerID
	subject string
}

// NewFeed makes a feed.
func NewFeed() *Feed { return &Feed{watchers: make(map[feedKey]map[chan struct{}]struct{})} }

// Wake is called when a subject may have a new version, or may have gone, after that is committed.
func (f *Feed) Wake(partner PartnerID, subject string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for wake := range f.watchers[feedKey{partner, subject}] {
		select {
		case wake <- struct{}{}:
		default: // it is about to look anyway
		}
	}
}

// join gives a channel that is sent to at each Wake since.
func (f *Feed) join(partner PartnerID, subject string) (wake <-chan struct{}, leave func()) {
	key, one := feedKey{partner, subject}, make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[key] == nil {
		f.watchers[key] = make(map[chan struct{}]struct{})
	}
	f.watchers[key][one] = struct{}{}
	return one, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers[key], one)
		if len(f.watchers[key]) == 0 {
			delete(f.watchers, key)
		}
	}
}

// Watch follows a subject of the caller's partner: it gives every version after since, once and in order, and goes on until ctx ends
// or the subject is gone, which closes the channel. Whoever comes back, to another process too, names the last version he has seen
// and misses none. Without since it begins with the newest.
//
// Versions that the retention has removed are not given: then the first is the oldest that is left. A subject that does not exist
// is NotFound, and so is another partner's.
func (s *Service) Watch(ctx context.Context, subject string, since *int) (<-chan Event, error) {
	const op = "kyc.watch"
	w := &watcher{service: s, partner: CallerFrom(ctx).Partner, subject: subject, to: make(chan Event)}
	if since != nil && *since < 0 {
		return nil, &Error{Kind: Invalid, Op: op, Message: "sinceVersion must not be negative", Path: []string{"sinceVersion"}}
	}
	// Joined before the first look, so that nothing falls between the two.
	wake, leave := s.Feed.join(w.partner, subject)
	_, newest, err := s.Store.EventsSince(ctx, w.partner, subject, 0, 0)
	if err == nil && newest == 0 {
		err = E(NotFound, op, nil)
	}
	if err != nil {
		leave()
		return nil, err
	}
	if w.seen = newest - 1; since != nil {
		w.seen = *since
	}
	go func() {
		defer close(w.to)
		defer leave()
		w.follow(ctx, wake)
	}()
	return w.to, nil
}

// watcher follows one subject for one listener.
type watcher struct {
	service *Service
	partner PartnerID
	subject string
	seen    int // the last version that was given
	to      chan Event
}

func (w *watcher) follow(ctx context.Context, wake <-chan struct{}) {
	look := w.service.Clock.NewTicker(watchEvery)
	defer look.Stop()
	for failed := false; ; {
		gone, err := w.catchUp(ctx)
		switch {
		case ctx.Err() != nil || gone:
			return
		case err != nil && !failed:
			// The listener waits. It is told once the store can be read again.
			w.service.Logger.LogAttrs(ctx, slog.LevelWarn, "a subscription cannot be read; it is tried again", slog.Any("err", err))
		}
		failed = err != nil
		select {
		case <-wake:
		case <-look.Chan():
		case <-ctx.Done():
			return
		}
	}
}

// catchUp gives what is new. gone tells that the subject does not exist any more.
func (w *watcher) catchUp(ctx context.Context) (gone bool, err error) {
	for {
		events, newest, err := w.service.Store.EventsSince(ctx, w.partner, w.subject, w.seen, watchBatch)
		if err != nil || newest == 0 {
			return err == nil, err
		}
		for _, e := range events {
			select {
			case w.to <- e:
				w.seen = e.Version
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		if len(events) < watchBatch {
			return false, nil
		}
	}
}
