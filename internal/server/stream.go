package server

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// An event stream is the answer to one subscription: "distinct connections" of the graphql-sse protocol. The stream
// is written by its handler alone, so nothing is written after the handler has returned.
//
// Why a stream ended is in the stream: an event with the error UNAUTHENTICATED when the token has expired, nothing
// but `complete` when this process is about to stop. After both the client subscribes again with sinceVersion.

const (
	// keepAlive is how often something is sent over an idle stream or socket, so that no proxy takes it for dead
	// and a client that has gone without a word is noticed.
	keepAlive = 15 * time.Second
	// writeWithin is how long one message may take to leave. Whoever reads more slowly is cut off.
	writeWithin = 10 * time.Second
)

var (
	eventNext     = []byte("event: next\ndata: ")
	eventEnd      = []byte("\n\n")
	eventComplete = []byte("event: complete\ndata: \n\n")
	eventComment  = []byte(":\n\n")
)

var errorExpired = errorBody(gqlerror.List{coded(codeUnauthenticated, "The access token has expired.")})

// oneLine makes a JSON text one line, as the value of an event's data must be. A line end is never inside of a
// string of JSON, so it is nothing but space.
func oneLine(b []byte) []byte {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	return b
}

// stream answers a subscription. leave gives back the slot of its caller: a stream that waits for events executes
// nothing, so it is only counted among the streams.
func (g *GraphQL) stream(e *exchange, r *http.Request, q *question, who asker, o *operation, leave func()) *refusal {
	away, refused := g.streams.admit(who.Caller)
	if refused != nil {
		return refused
	}
	defer away()
	defer g.cfg.Metrics.stream(transportEvents)()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	next, refused := o.start(ctx, func() { q.executing = true })
	if refused != nil {
		return refused
	}
	leave()

	events := make(chan result)
	go g.pump(ctx, next, events)
	defer func() {
		cancel()
		for range events { // The handler may not return before the resolvers have.
		}
	}()
	e.Header().Set("Content-Type", mediaEvents.contentType())
	e.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events to itself
	e.WriteHeader(http.StatusOK)
	q.outcome = outcomeOK
	w := eventWriter{e, http.NewResponseController(e)}
	if !w.write(eventComment) {
		q.outcome = outcomeCanceled
		return nil
	}

	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	expired, stop := g.expiry(who)
	defer stop()
	for {
		ok := true
		select {
		case event, more := <-events:
			if !more {
				if r.Context().Err() != nil {
					q.outcome = outcomeCanceled
				}
				w.write(eventComplete)
				return nil
			}
			q.outcome = worse(q.outcome, event.outcome)
			ok = w.write(eventNext, oneLine(event.body), eventEnd)
			idle.Reset(keepAlive)
		case <-idle.C:
			ok = w.write(eventComment)
		case <-expired:
			w.write(eventNext, errorExpired, eventEnd, eventComplete)
			return nil
		case <-g.draining:
			w.write(eventComplete)
			return nil
		case <-r.Context().Done():
			ok = false
		}
		if !ok {
			q.outcome = outcomeCanceled
			return nil
		}
	}
}

// expiry gives a channel that tells when the token has expired.
func (g *GraphQL) expiry(who asker) (expired <-chan time.Time, stop func()) {
	if who.expiry.IsZero() {
		return nil, func() {}
	}
	t := g.cfg.Clock.NewTimer(who.expiry.Sub(g.cfg.Clock.Now()))
	return t.Chan(), func() { t.Stop() }
}

// result is one encoded result of a subscription.
type result struct {
	body    []byte
	outcome string
	last    bool     // there is nothing to ask for any more
	limited *refusal // a part of it was asked too often
}

// pump takes results until there are no more or the context ends, and then closes the channel.
func (g *GraphQL) pump(ctx context.Context, next func() *graphql.Response, to chan<- result) {
	defer close(to)
	for {
		one, ok := g.result(ctx, next)
		if !ok {
			return
		}
		select {
		case to <- one:
		case <-ctx.Done():
			return
		}
		if one.last {
			return
		}
	}
}

// result takes the next result. A panic that no resolver's recover has caught is the last one.
func (g *GraphQL) result(ctx context.Context, next func() *graphql.Response) (one result, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			id := g.cfg.NewErrorID()
			logPanic(ctx, g.cfg.Logger, id, v)
			one = result{body: encodeResponse(&graphql.Response{Errors: gqlerror.List{internalError(id)}}), outcome: outcomeInternal, last: true}
			ok = true
		}
	}()
	response := next()
	if response == nil {
		return result{}, false
	}
	return result{body: encodeResponse(response), outcome: outcomeOf(response.Errors), limited: rateLimited(response.Errors)}, true
}

// worse is the outcome of a stream that had both.
func worse(a, b string) string {
	if a == outcomeInternal || b == outcomeInternal {
		return outcomeInternal
	}
	if a == outcomeErrors || b == outcomeErrors {
		return outcomeErrors
	}
	return b
}

// eventWriter writes events whole and at once.
type eventWriter struct {
	e    *exchange
	ctrl *http.ResponseController
}

// write is false when the client is gone or does not read.
func (w eventWriter) write(parts ...[]byte) bool {
	// http.Server.WriteTimeout runs from the head of the request and would end every stream. A writer without a
	// connection, as in a test, has no deadline.
	_ = w.ctrl.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := w.e.Write(bytes.Join(parts, nil)); err != nil {
		return false
	}
	return w.ctrl.Flush() == nil
}
