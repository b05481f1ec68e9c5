package server

import (
	"errors"
	"net"
)

// Close gives the addresses back when Serve was never called. After Serve there is nothing left to close.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.public, s.admin} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
