package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/vektah/gqlparser/v2/ast"
)

const (
	// initWithin is how long a socket may take to say who it is.
	initWithin = 5 * time.Second
	// pongWithin is how long the answer to a ping may take.
	pongWithin = 10 * time.Second
	// burst is how many seconds' worth of messages may come at once.
	burst = 4
)

// closing is why a socket is closed. The texts are constant: the protocol's own name the operation's id, which is
// the caller's.
type closing struct {
	code   websocket.StatusCode
	reason string
}

// The codes of graphql-transport-ws, and of RFC 6455 where it has none. npm graphql-ws comes back by itself after
// 1001, 1013, 4403 and 4408, and not after the others.
var (
	closeDraining     = closing{websocket.StatusGoingAway, "Going away"}
	closeCrowd        = closing{websocket.StatusTryAgainLater, "Too many sockets"}
	closeBadMessage   = closing{4400, "Invalid message"}
	closeUnauthorized = closing{4401, "Unauthorized"}
	closeExpired      = closing{4403, "Forbidden: the token has expired"}
	closeOrigin       = closing{4403, "Forbidden: the origin is not allowed"}
	closeSubprotocol  = closing{4406, "Subprotocol not acceptable"}
	closeInitTimeout  = closing{4408, "Connection initialisation timeout"}
	closeDuplicateID  = closing{4409, "Subscriber already exists"}
	closeManyInits    = closing{4429, "Too many initialisation requests"}
	closeManyMessages = closing{4429, "Too many messages"}
	closeInternal     = closing{4500, "Internal server error"}
	// closeGone is for a client that went first. Nothing is sent.
	closeGone = closing{}
)

var allClosings = []closing{
	closeDraining, closeCrowd, closeBadMessage, closeUnauthorized, closeExpired, closeOrigin, closeSubprotocol,
	closeInitTimeout, closeDuplicateID, closeManyInits, closeManyMessages, closeInternal, closeGone,
}

// socket is one WebSocket. Its goroutines are: serve, which alone closes it; one that reads and handles messages in
// their order; one that sends pings; and one for each operation, which writes its own results. Writing blocks only
// the operations of this socket, and not longer than writeWithin.
type socket struct {
	g        *GraphQL
	conn     *websocket.Conn
	e        *exchange
	r        *http.Request
	origin   string // of a page that is not ours, or ""
	language string // as the handshake or the first message asks for it

	// Operations run under running. Reading and writing do not: the library cuts the connection when one of their
	// contexts ends, and then no close code could be sent.
	running  context.Context
	stop     context.CancelFunc
	wire     context.Context
	cut      context.CancelFunc
	ended    chan closing  // the first is what counts
	acked    chan struct{} // closed when who is set
	gone     chan struct{} // closed when the reader has ended
	messages bucket        // of the reader

	mu         sync.Mutex
	who        *asker
	leave      func() // gives back the principal's socket
	initiated  bool
	draining   bool
	operations map[string]*running
	once       int // operations that are no subscription, or may be none
	idle       chan struct{}
	wait       sync.WaitGroup
}

// running is one operation of a socket.
type running struct {
	id     string
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	once   bool // it is finished before a drain closes the socket
}

func newSocket(g *GraphQL, conn *websocket.Conn, e *exchange, r *http.Request, origin string, who *asker) *socket {
	s := &socket{
		g: g, conn: conn, e: e, r: r, origin: origin, who: who, language: languageOf(r),
		ended: make(chan closing, 1), acked: make(chan struct{}), gone: make(chan struct{}),
		operations: make(map[string]*running), idle: make(chan struct{}, 1), leave: func() {},
		messages: newBucket(g.cfg.Limits.MessagesPerSecond),
	}
	conn.SetReadLimit(maxSocketMessage)
	s.running, s.stop = context.WithCancel(r.Context())
	s.wire, s.cut = context.WithCancel(context.WithoutCancel(r.Context()))
	return s
}

// serve returns when the socket is closed and everything it began has ended.
func (s *socket) serve() {
	defer s.cut()
	defer s.stop()
	if s.conn.Subprotocol() != subprotocol {
		s.close(closeSubprotocol)
		return
	}
	go s.read()
	pings := sync.WaitGroup{}
	pings.Go(s.ping)

	why := s.untilEnd()
	s.stop()
	s.close(why)
	s.cut()
	<-s.gone
	pings.Wait()
	s.wait.Wait()
	s.leave()
}

// untilEnd waits for the reason to close.
func (s *socket) untilEnd() closing {
	initTimeout := time.NewTimer(initWithin)
	defer initTimeout.Stop()
	acked, draining, timeout := s.acked, s.g.draining, initTimeout.C
	var expired <-chan time.Time
	for {
		select {
		case why := <-s.ended:
			return why
		case <-timeout:
			return closeInitTimeout
		case <-acked:
			acked, timeout = nil, nil
			var stop func()
			expired, stop = s.g.expiry(*s.asker())
			defer stop()
		case <-expired:
			return closeExpired
		case <-draining:
			// What was accepted is answered; nothing more is accepted.
			draining = nil
			s.mu.Lock()
			s.draining = true
			s.finishedOnce()
			s.mu.Unlock()
		case <-s.idle:
			return closeDraining
		case <-s.gone:
			return closeGone
		case <-s.r.Context().Done():
			return closeDraining // The time to drain is up.
		}
	}
}

// end asks for the socket to be closed. Only the first reason counts.
func (s *socket) end(why closing) {
	select {
	case s.ended <- why:
	default:
	}
}

func (s *socket) close(why closing) {
	s.g.cfg.Metrics.closed(why)
	if why == closeGone {
		_ = s.conn.CloseNow()
		return
	}
	_ = s.conn.Close(why.code, why.reason) // At most ten seconds, if the client does not answer.
}

func (s *socket) asker() *asker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who
}

// read handles messages in their order until the connection ends.
func (s *socket) read() {
	defer close(s.gone)
	defer s.recovered()
	for {
		kind, data, err := s.conn.Read(s.wire)
		if err != nil {
			return // It has ended, or the library has ended it with the code that RFC 6455 has for it.
		}
		if s.running.Err() != nil {
			continue // It is being closed; only the answer to that is still of interest.
		}
		if !s.messages.take(time.Now()) {
			s.end(closeManyMessages)
			continue
		}
		m, err := parseMessage(string(data))
		if kind != websocket.MessageText || err != nil {
			s.end(closeBadMessage)
			continue
		}
		s.handle(m)
	}
}

func (s *socket) recovered() {
	if v := recover(); v != nil {
		logPanic(s.wire, s.g.cfg.Logger, s.g.cfg.NewErrorID(), v)
		s.end(closeInternal)
	}
}

func (s *socket) handle(m message) {
	switch m.kind {
	case messageInit:
		s.init(m.payload)
	case messagePing:
		s.write(messagePonged)
	case messagePong:
	case messageSubscribe:
		s.subscribe(m)
	case messageComplete:
		s.mu.Lock()
		if o := s.operations[m.id]; o != nil {
			o.cancel()
		}
		s.mu.Unlock()
	}
}

// init is the first message: with the token, unless the handshake had it.
func (s *socket) init(payload map[string]any) {
	if s.initiated {
		s.end(closeManyInits)
		return
	}
	s.initiated = true
	if language, given := payload["acceptLanguage"].(string); given {
		s.language = language // a page can choose no header of a socket
	}
	who := s.who
	if raw, given := payload["authorization"]; given {
		value, _ := raw.(string)
		r := s.r.Clone(s.wire)
		r.Header = http.Header{"Authorization": {value}}
		caller, expiry, err := s.g.cfg.Authenticate(r)
		if err != nil {
			s.refuse(refuseUnauthenticated, closeUnauthorized)
			return
		}
		caller.RequestID = s.e.id
		who = &asker{caller, expiry}
	}
	if who == nil {
		s.refuse(refuseUnauthenticated, closeUnauthorized)
		return
	}
	if s.origin != "" && !s.g.origins.allows(who.Partner, s.origin) {
		s.refuse(refuseOrigin, closeOrigin)
		return
	}
	leave, refused := s.g.sockets.join(who.Caller)
	if refused != nil {
		s.refuse(refused, closeCrowd)
		return
	}
	s.mu.Lock()
	s.who, s.leave, s.e.partner = who, leave, who.Partner
	s.mu.Unlock()
	if s.write(messageAck) {
		close(s.acked)
	}
}

// refuse counts a refusal that closes the socket.
func (s *socket) refuse(f *refusal, why closing) {
	s.g.cfg.Metrics.refuse(f.reason)
	s.end(why)
}

func (s *socket) isAcked() bool {
	select {
	case <-s.acked:
		return true
	default:
		return false
	}
}

// subscribe begins an operation.
func (s *socket) subscribe(m message) {
	if !s.isAcked() {
		s.refuse(refuseUnauthenticated, closeUnauthorized)
		return
	}
	p, refused := decodeMembers(m.payload)
	if refused != nil && refused.status != 0 { // It is no request at all.
		s.refuse(refused, closeBadMessage)
		return
	}
	s.mu.Lock()
	if old := s.operations[m.id]; old != nil {
		if old.ctx.Err() == nil {
			s.mu.Unlock()
			s.end(closeDuplicateID)
			return
		}
		// The client has completed it, so the id is free; but its last result may be on its way.
		s.mu.Unlock()
		<-old.done
		s.mu.Lock()
	}
	if s.g.isDraining() {
		s.mu.Unlock()
		return // The client will do it again where it connects next.
	}
	if refused == nil && len(s.operations) >= s.g.cfg.Limits.Operations {
		refused = refuseOperationsOfSocket
	}
	if refused != nil {
		s.mu.Unlock()
		s.g.cfg.Metrics.refuse(refused.reason)
		s.write(about("error", m.id, refused.errors()))
		return
	}
	o := &running{id: m.id, done: make(chan struct{}), once: true}
	o.ctx, o.cancel = context.WithCancel(s.running)
	s.operations[m.id] = o
	s.once++
	s.mu.Unlock()
	s.wait.Go(func() { s.run(o, p) })
}

var refuseOperationsOfSocket = atHTTP(http.StatusTooManyRequests, codeRateLimited, reasonRateLimited,
	"There are too many operations on this socket at once.")

// run takes one operation to its end.
func (s *socket) run(o *running, p *params) {
	start, kind, outcome := time.Now(), operationUnknown, outcomeRefused
	defer func() {
		s.mu.Lock()
		s.streaming(o)
		s.mu.Unlock()
		o.cancel()
		close(o.done)
		s.g.cfg.Metrics.observe(kind, outcome, time.Since(start))
		s.g.cfg.Logger.LogAttrs(s.wire, slog.LevelInfo, "operation",
			slog.String("request_id", s.e.id), slog.String("route", s.e.route),
			slog.Float64("duration", float64(time.Since(start).Microseconds())/1e6),
			slog.String("operation_type", kind), slog.String("outcome", outcome),
			slog.String("partner", string(s.who.Partner)))
	}()
	defer func() {
		if v := recover(); v != nil {
			id := s.g.cfg.NewErrorID()
			logPanic(s.wire, s.g.cfg.Logger, id, v)
			outcome = outcomeInternal
			s.finish(o, about("error", o.id, internalRefusal(id).errors()))
		}
	}()
	if refused := s.operate(o, p, &kind, &outcome); refused != nil {
		s.g.cfg.Metrics.refuse(refused.reason)
		s.finish(o, about("error", o.id, refused.errors()))
		return
	}
	s.finish(o, about("complete", o.id, nil))
}

// finish sends the last message of an operation. The id is free before: whoever reads the message may use it again.
func (s *socket) finish(o *running, message []byte) {
	s.mu.Lock()
	if s.operations[o.id] == o {
		delete(s.operations, o.id)
	}
	s.mu.Unlock()
	s.send(o, message)
}

// operate sends the results of an operation, or says why there are none.
func (s *socket) operate(o *running, p *params, kind, outcome *string) *refusal {
	leave, ok := s.g.slot()
	if !ok {
		return refuseOverloaded
	}
	defer leave()
	op, refused := s.g.admit(s.who.Caller, p)
	if refused == nil {
		op.language = s.language
	}
	if refused != nil {
		return refused
	}
	*kind = op.kind()
	subscription := op.op.Operation == ast.Subscription
	ctx := o.ctx
	if subscription {
		away, refused := s.g.streams.admit(s.who.Caller)
		if refused != nil {
			return refused
		}
		defer away()
		defer s.g.cfg.Metrics.stream(transportSocket)()
		s.mu.Lock()
		s.streaming(o)
		s.mu.Unlock()
	} else {
		done, ok := op.room()
		if !ok {
			return refuseOverloaded
		}
		defer done()
		var cancel context.CancelFunc
		ctx, cancel = s.g.withDeadline(ctx)
		defer cancel()
	}
	next, refused := op.start(ctx, func() {})
	if refused != nil {
		return refused
	}
	if subscription {
		leave()
	}
	*outcome = outcomeOK
	for first := true; ; first = false {
		one, more := s.g.result(ctx, next)
		if !more {
			if o.ctx.Err() != nil {
				*outcome = outcomeCanceled
			} else if first && !subscription {
				*outcome = outcomeInternal // It ran out of time.
				return refuseOverloaded
			}
			return nil
		}
		if one.limited != nil && op.op.Operation == ast.Query {
			*outcome = outcomeRefused
			return one.limited
		}
		*outcome = worse(*outcome, one.outcome)
		if !s.send(o, about("next", o.id, one.body)) {
			*outcome = outcomeCanceled
			return nil
		}
		if one.last || !subscription {
			return nil
		}
	}
}

// send writes a message about an operation, unless the client has completed it: then it expects nothing more.
func (s *socket) send(o *running, message []byte) bool {
	return o.ctx.Err() == nil && s.write(message)
}

// write is false when the connection has ended, which a client brings about that does not read.
func (s *socket) write(message []byte) bool {
	ctx, cancel := context.WithTimeout(s.wire, writeWithin)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, message) == nil
}

// streaming notes that a drain need not wait for an operation any more. The lock is held.
func (s *socket) streaming(o *running) {
	if !o.once {
		return
	}
	o.once = false
	s.once--
	s.finishedOnce()
}

// finishedOnce tells serve, while draining, when the last answer that was owed is given. The lock is held.
func (s *socket) finishedOnce() {
	if s.draining && s.once == 0 {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// ping asks for a sign of life now and then. One that does not come ends the connection.
func (s *socket) ping() {
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	for {
		select {
		case <-s.running.Done():
			return
		case <-idle.C:
			ctx, cancel := context.WithTimeout(s.wire, pongWithin)
			err := s.conn.Ping(ctx)
			cancel()
			if err != nil && s.running.Err() == nil {
				s.end(closeGone)
				return
			}
		}
	}
}

// bucket bounds a rate. It is used by one goroutine.
type bucket struct {
	perSecond, tokens float64
	last              time.Time
}

func newBucket(perSecond int) bucket {
	return bucket{perSecond: float64(perSecond), tokens: burst * float64(perSecond), last: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(burst*b.perSecond, b.tokens+b.perSecond*now.Sub(b.last).Seconds())
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
