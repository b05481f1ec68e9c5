package server

import "context"

// Drain ends every stream and socket, with `complete` and 1001, and returns when they have ended or ctx has.
// Nothing new begins. Queries and mutations on sockets are answered first.
func (g *GraphQL) Drain(ctx context.Context) {
	g.drainMu.Lock()
	if !g.isDraining() {
		close(g.draining)
	}
	g.drainMu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.open.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (g *GraphQL) isDraining() bool {
	select {
	case <-g.draining:
		return true
	default:
		return false
	}
}

// enter counts a socket for Drain to wait for, unless it has begun to.
func (g *GraphQL) enter() bool {
	g.drainMu.Lock()
	defer g.drainMu.Unlock()
	if g.isDraining() {
		return false
	}
	g.open.Add(1)
	return true
}
