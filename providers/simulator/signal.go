package simulator

import "sync"

// Signal tells whoever waits that something changed. The zero value is ready. It exists so that tests wait
// on events and never sleep; nobody waiting costs one uncontended lock.
type Signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// Changed returns a channel that the next Notify closes. Take it before looking at the state it is about,
// or a change between the look and the wait is missed.
func (s *Signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Notify wakes everybody who waits.
func (s *Signal) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
