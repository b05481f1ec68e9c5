package kyc

import "sync"

// waiters are the requests that wait for something to move, by its id. They are a courtesy of this process: what they wait for is
// in the store and happens without them. The zero value is ready.
type waiters[E any] struct {
	mu        sync.Mutex
	bySubject map[string]map[*waiter[E]]struct{}
}

// waiter is one of them. It gets every event of its subject from the moment it joined.
type waiter[E any] struct{ events chan E }

func (w *waiters[E]) join(subject string) *waiter[E] {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.joinLocked(subject)
}

func (w *waiters[E]) joinLocked(subject string) *waiter[E] {
	one := &waiter[E]{events: make(chan E, 8)}
	if w.bySubject == nil {
		w.bySubject = make(map[string]map[*waiter[E]]struct{})
	}
	if w.bySubject[subject] == nil {
		w.bySubject[subject] = make(map[*waiter[E]]struct{})
	}
	w.bySubject[subject][one] = struct{}{}
	return one
}

// joinIfAwaited joins only when the request that began it all still waits: otherwise no event is about to come.
func (w *waiters[E]) joinIfAwaited(subject string) *waiter[E] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bySubject[subject]) == 0 {
		return nil
	}
	return w.joinLocked(subject)
}

// awaited reports whether anybody waits.
func (w *waiters[E]) awaited(subject string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.bySubject[subject]) > 0
}

func (w *waiters[E]) leave(subject string, one *waiter[E]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.bySubject[subject], one)
	if len(w.bySubject[subject]) == 0 {
		delete(w.bySubject, subject)
	}
}

func (w *waiters[E]) publish(subject string, ev E) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.bySubject[subject] {
		select {
		case one.events <- ev:
		default: // eight unread steps: the reader is about to give up anyway
		}
	}
}
