package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The limits of a connection (T13, T14).
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 9 * time.Second // T14 wants the connection closed within ten
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	maxHeaderLines    = 100

	defaultWriteTimeout = 20 * time.Second // the default answer_within, and fifteen
	defaultDrainTimeout = 15 * time.Second
	cutTimeout          = 2 * time.Second // for sockets to notice that they are cut off
)

// Config is what the two listeners need.
type Config struct {
	Listen      string // of /graphql and /callbacks/{provider}
	AdminListen string // of /metrics, /healthz and /readyz

	GraphQL http.Handler
	// Callbacks are the handlers of /callbacks/{provider} by the provider's name. They get the whole raw body.
	Callbacks map[string]http.Handler

	Registry prometheus.Gatherer
	// Ready says whether the gateway can work now; nil means always. It must return soon after its context ends.
	Ready  func(context.Context) error
	Logger *slog.Logger

	// WriteTimeout bounds a request from its header to the last byte of its answer. It must be above the time
	// an answer may take: answer_within + 15 s. Zero is 20 s.
	WriteTimeout time.Duration
	// DrainTimeout bounds how long requests in flight may go on after Serve's context has ended. Zero is 15 s.
	DrainTimeout time.Duration
	// NewErrorID makes the errorId of an INTERNAL error.
	NewErrorID func() string
}

// Server is the public and the admin listener.
type Server struct {
	cfg           Config
	public, admin net.Listener
	draining      atomic.Bool
	readTimeout   time.Duration // the constant, but shorter in a test
	publicHTTP    *http.Server
	adminHTTP     *http.Server
}

// New makes a server that listens nowhere yet.
func New(cfg Config) (*Server, error) {
	if cfg.GraphQL == nil || cfg.Registry == nil || cfg.Logger == nil {
		return nil, errors.New("server: needs GraphQL, Registry and Logger")
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = defaultWriteTimeout
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = defaultDrainTimeout
	}
	if cfg.NewErrorID == nil {
		cfg.NewErrorID = rand.Text
	}
	return &Server{cfg: cfg, readTimeout: readTimeout}, nil
}

// Listen binds both addresses, so that the caller knows them, and the kernel queues clients, before Serve.
func (s *Server) Listen() error { return s.listen(context.Background()) }

func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	public, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("server: public listener: %w", err)
	}
	admin, err := lc.Listen(ctx, "tcp", s.cfg.AdminListen)
	if err != nil {
		return errors.Join(fmt.Errorf("server: admin listener: %w", err), public.Close())
	}
	s.public, s.admin = public, admin
	return nil
}

// PublicAddr is the address of the public listener, after Listen.
func (s *Server) PublicAddr() net.Addr { return s.public.Addr() }

// AdminAddr is the address of the admin listener, after Listen.
func (s *Server) AdminAddr() net.Addr { return s.admin.Addr() }

// Serve answers until the context ends. Then readiness is false at once, no connection is accepted any more,
// requests in flight have DrainTimeout to finish, and Serve returns nil. The admin listener answers to the end, so
// that a load balancer sees the drain.
func (s *Server) Serve(ctx context.Context) error {
	if s.public == nil {
		if err := s.listen(ctx); err != nil {
			return err
		}
	}
	// A request must outlive ctx, or a drain would cut what it is meant to let finish.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.publicHTTP = s.httpServer(base, http.HandlerFunc(s.servePublic))
	s.publicHTTP.ConnContext = withFramedConn
	s.adminHTTP = s.httpServer(base, s.adminHandler())

	failed := make(chan error, 2)
	go func() { failed <- s.publicHTTP.Serve(framedListener{s.public}) }()
	go func() { failed <- s.adminHTTP.Serve(s.admin) }()

	var err error
	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed: // A listener broke. The other one is drained as if the context had ended.
		running--
		err = fmt.Errorf("server: %w", err)
	}
	s.draining.Store(true)
	s.drain(ctx, cancel)
	for ; running > 0; running-- {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("server: %w", e))
		}
	}
	return err
}

func (s *Server) drain(ctx context.Context, cancelRequests context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	inTime, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	// Streams never end by themselves, and sockets are no longer net/http's to wait for.
	streams, _ := s.cfg.GraphQL.(interface{ Drain(ctx context.Context) })
	var streaming sync.WaitGroup
	if streams != nil {
		streaming.Go(func() { streams.Drain(inTime) })
	}
	err := s.publicHTTP.Shutdown(inTime)
	streaming.Wait()
	if err != nil || inTime.Err() != nil {
		cancelRequests()
		_ = s.publicHTTP.Close() // The time is up; the sockets are all that is left to free.
		if streams != nil {
			last, cancel := context.WithTimeout(ctx, cutTimeout)
			streams.Drain(last)
			cancel()
		}
	}
	_ = s.adminHTTP.Close() // Probes and scrapes need no farewell.
}

func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	var onlyHTTP1 http.Protocols
	onlyHTTP1.SetHTTP1(true) // T20 has nothing to reset.
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       s.readTimeout,
		WriteTimeout:      s.cfg.WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &onlyHTTP1,
		// net/http would answer OPTIONS * by itself; every request must come to our handler, which counts them.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(errorLog{s.cfg.Logger}, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return base },
	}
}

var (
	refuseNotFound = atHTTP(http.StatusNotFound, codeNotFound, reasonNone, "There is nothing here.")
	refuseHeaders  = atHTTP(http.StatusRequestHeaderFieldsTooLarge, codeBadRequest, reasonNone,
		"The request has too many headers.")
	refuseFraming = atHTTP(http.StatusBadRequest, codeBadRequest, reasonNone,
		"The request says twice where its body ends.").with("Connection", "close")
)

// servePublic routes by the exact escaped path. http.ServeMux would clean it and redirect, and then `//graphql`
// or `/graphql/..;/metrics` would mean something (T17).
func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	e, done := enter(ctx, w, "other", s.cfg.Logger)
	defer done()
	defer func() {
		if v := recover(); v != nil {
			s.crashed(ctx, e, v)
		}
	}()
	body := framingOf(r)
	if body.chunked {
		e.Header().Set("Connection", "close")
	}
	path := r.URL.EscapedPath()
	switch {
	case body.ambiguous:
		refuseFraming.write(e, mediaJSON)
	case tooManyHeaders(r.Header):
		refuseHeaders.write(e, mediaJSON)
	case path == "/graphql":
		s.cfg.GraphQL.ServeHTTP(e, r)
	case strings.HasPrefix(path, callbackPrefix):
		s.callback(e, r, path)
	default:
		refuseNotFound.write(e, mediaJSON)
	}
}

// tooManyHeaders repeats net/http's limit of bytes, which has a slack of 4 KiB, and adds one of lines (T13).
func tooManyHeaders(h http.Header) bool {
	lines, size := 0, 0
	for name, values := range h {
		lines += len(values)
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	return lines > maxHeaderLines || size > maxHeaderBytes
}

// crashed answers a panic outside GraphQL.
func (s *Server) crashed(ctx context.Context, e *exchange, value any) {
	if value == http.ErrAbortHandler { //nolint:errorlint // net/http compares the value too.
		panic(value)
	}
	id := s.cfg.NewErrorID()
	logPanic(ctx, s.cfg.Logger, id, value)
	if e.status == 0 {
		internalRefusal(id).write(e, mediaJSON)
	}
}

// errorLog takes net/http's own messages. They quote addresses, request lines and the values of panics, so only
// their kind is passed on.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Write(b []byte) (int, error) {
	kind := "other"
	for prefix, k := range map[string]string{
		"http: panic serving":        "panic",
		"http: Accept error":         "accept",
		"http: superfluous response": "superfluous_header",
		"http: TLS handshake error":  "tls_handshake",
		"http: response.Write":       "write_after_answer",
		"http: invalid":              "invalid",
		"http: wrote more than":      "content_length",
	} {
		if strings.HasPrefix(string(b), prefix) {
			kind = k
		}
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "http server", slog.String("kind", kind))
	return len(b), nil
}
