package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
)

const (
	// A key that is taken out of jwks_file is refused within five seconds (security.md, J20): the file is
	// read again when a token comes and it was last read this long ago.
	fileEvery = 2 * time.Second
	// A key set over the network is fetched again in the background this often, which is how long a key that its
	// issuer has taken out still works, and for an unknown kid at most this often: anyone can make up a kid.
	urlEvery        = time.Minute
	unknownKidEvery = time.Minute

	fetchTimeout = 5 * time.Second
	maxRedirects = 3
)

// generation is the keys between two changes. Its address is its identity.
type generation struct {
	keys []keys.Key
}

// find gives the one key that a token may be verified with. known is false if another key set could help.
func (g *generation) find(kid string, hasKid bool, alg string) (key keys.Key, why reason, known bool) {
	if hasKid {
		for _, k := range g.keys {
			if k.ID != kid {
				continue
			}
			if k.Alg != alg {
				return keys.Key{}, wrongAlgorithm, true
			}
			return k, "", true
		}
		return keys.Key{}, unknownKey, false
	}
	// Without a kid there must be no choice.
	found := 0
	for _, k := range g.keys {
		if k.Alg == alg {
			key, found = k, found+1
		}
	}
	if found != 1 {
		return keys.Key{}, unknownKey, true
	}
	return key, "", true
}

// keyring holds the current keys and renews them from their source. A renewal that fails, or gives a set
// that would be refused at start, keeps the old keys.
type keyring struct {
	setting    string // for messages
	load       func(context.Context) ([]byte, error)
	every      time.Duration
	background bool // whether a due renewal is waited for
	production bool

	current atomic.Pointer[generation]
	due     atomic.Int64 // when the next renewal is due, in nanoseconds since 1970

	ctx    context.Context // ends with close, so that no fetch outlives the verifier
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	raw      []byte        // what current was made of
	started  time.Time     // of the last renewal
	running  chan struct{} // closed when the renewal in progress ends; nil if there is none
	failure  error         // of the last renewal
	onChange func()
}

// newKeyring loads the keys for the first time.
func newKeyring(cfg config.Config, now time.Time, client *http.Client, onChange func()) (*keyring, error) {
	r := &keyring{production: cfg.Environment != config.Sandbox, onChange: func() {}}
	if cfg.Auth.JWKSURL != "" {
		r.setting, r.every, r.background = "auth.jwks_url", urlEvery, true
		r.load = fetcher(client, cfg.Auth.JWKSURL)
	} else {
		r.setting, r.every = "auth.jwks_file", fileEvery
		r.load = func(context.Context) ([]byte, error) { return readFile(cfg.Auth.JWKSFile) }
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
	defer cancel()
	if err := r.renew(ctx); err != nil {
		r.cancel()
		return nil, err
	}
	r.started = now
	r.due.Store(now.Add(r.every).UnixNano())
	r.onChange = onChange
	return r, nil
}

func (r *keyring) close() {
	// Under the lock, so that no renewal starts while the last one is waited for.
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.wg.Wait()
}

// keys gives the current keys, and sees to it that they do not grow old.
func (r *keyring) keys(ctx context.Context, now time.Time) *generation {
	if now.UnixNano() >= r.due.Load() {
		done := r.start(now, 0) //nolint:contextcheck // the renewal belongs to everybody who waits for it
		if done != nil && !r.background {
			await(ctx, done)
		}
	}
	return r.current.Load()
}

// again renews the keys because a token names one that is not among them.
func (r *keyring) again(ctx context.Context, now time.Time) *generation {
	done := r.start(now, unknownKidEvery) //nolint:contextcheck // as above
	if done != nil {
		await(ctx, done)
	}
	return r.current.Load()
}

func await(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// start begins a renewal, or joins the one that is running. It gives nil when the last one began less than
// atLeast ago.
func (r *keyring) start(now time.Time, atLeast time.Duration) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil {
		return r.running
	}
	if now.Sub(r.started) < atLeast || r.ctx.Err() != nil {
		return nil
	}
	done := make(chan struct{})
	r.running, r.started = done, now
	r.due.Store(now.Add(r.every).UnixNano())
	r.wg.Go(func() {
		// Not the caller's context: others wait for the same keys, and he may go away.
		ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
		defer cancel()
		err := r.renew(ctx)
		r.mu.Lock()
		r.running, r.failure = nil, err
		r.mu.Unlock()
		close(done)
	})
	return done
}

// renew loads the keys and makes them current if they changed.
func (r *keyring) renew(ctx context.Context) error {
	data, err := r.load(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.setting, err)
	}
	r.mu.Lock()
	same := r.raw != nil && bytes.Equal(r.raw, data)
	r.mu.Unlock()
	if same {
		return nil
	}
	set, err := keys.ParseSet(data)
	if err == nil && r.production {
		err = config.CheckProductionKeys(set)
	}
	if err != nil {
		return config.Wrong(r.setting, "%v", err)
	}
	r.mu.Lock()
	r.raw = data
	r.mu.Unlock()
	r.current.Store(&generation{keys: set})
	r.onChange()
	return nil
}

// err gives the failure of the last renewal, nil if it went well.
func (r *keyring) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readBounded(f)
}

// readBounded reads one byte more than a key set may have, which ParseSet then refuses.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, keys.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return data, nil
}

// fetcher gets a key set over the network. The address comes from the configuration only, never from a
// token.
func fetcher(client *http.Client, address string) func(context.Context) ([]byte, error) {
	var own http.Client // its time-out is the context's
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		// Whoever can answer for a plain address could hand out keys of his own.
		if next.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
			return errors.New("redirected from https to " + next.URL.Scheme)
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, fmt.Errorf("cannot be fetched: %w", err)
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := own.Do(req)
		if err != nil {
			var inner *url.Error
			if errors.As(err, &inner) {
				err = inner.Err
			}
			return nil, fmt.Errorf("cannot be fetched: %w", err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("cannot be fetched: the issuer answered %d", resp.StatusCode)
		}
		return readBounded(resp.Body)
	}
}
