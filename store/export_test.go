package store

import (
	"github.com/mattn/go-sqlite3"
)

// FailNextCommit implements storetest.CommitFailer.
func (s *Store) FailNextCommit() { s.failNextCommit(sqlite3.Error{Code: sqlite3.ErrFull}) }

func (s *Store) failNextCommit(with error) {
	w := s.writer
	err := w.do(untimed, func(*tx) error { // on the writer's goroutine, which owns the variable
		real, own := w.commit, true
		w.commit = func() error {
			if own { // the commit of this very write
				own = false
				return real()
			}
			w.commit = real
			return with
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// hold keeps the writer busy until release is called, so that what is written meanwhile shares the next commit.
func (s *Store) hold() (release func()) {
	holding, free, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = s.writer.do(untimed, func(*tx) error {
			close(holding)
			<-free
			return nil
		})
	}()
	<-holding
	return func() {
		close(free)
		<-done
	}
}
