package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jonboulle/clockwork"

	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// follow makes a door's subscription `versions` follow the events of a service.
func follow(d *door, service *kyc.Service) {
	d.fake.resolvers["Subscription.versions"] = func(ctx context.Context, args map[string]any) (any, error) {
		var since *int
		if raw := args["sinceVersion"]; raw != nil {
			n, err := strconv.Atoi(fmt.Sprint(raw))
			if err != nil {
				return nil, err
			}
			since = &n
		}
		events, err := service.Watch(ctx, args["subject"].(string), since)
		if err != nil {
			return nil, err
		}
		s := &source{ctx: ctx, values: make(chan string)}
		go func() {
			defer close(s.values)
			for e := range events {
				select {
				case s.values <- fmt.Sprint(e.Version):
				case <-ctx.Done():
					return
				}
			}
		}()
		return s, nil
	}
}

// The proof that a reconnect misses nothing: subscribers over both transports, cut off at random, come back to one of two gateways
// over one store, of which one is told of commits and the other only looks by itself, as another process would. One is drained and
// replaced in the middle. Everybody must have seen every version once and in order.
//
// KYCGATE_PROOF=full runs it in full: 500 subscribers of 100 persons, 20 cuts each, 5,000 events. Otherwise it is a fifth of that.
func TestEverySubscriberSeesEveryVersionOnce(t *testing.T) {
	t.Parallel()
	subscribers, persons, cuts, events := 100, 20, 20, 1_000
	if os.Getenv("KYCGATE_PROOF") == "full" {
		subscribers, persons, events = 500, 100, 5_000
	}
	perPerson := events / persons

	log := slog.New(slog.DiscardHandler)
	feed := kyc.NewFeed()
	keys, err := vault.NewInMemory()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "kycgate.db"), Keys: keys, Logger: log, Changed: feed.Wake})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The second gateway's time runs a hundred times as fast, so that it looks every 50 ms.
	fast := clockwork.NewFakeClock()
	ticking, stopTicking := context.WithCancel(t.Context())
	var ticker sync.WaitGroup
	ticker.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fast.Advance(5 * time.Second)
			case <-ticking.Done():
				return
			}
		}
	})
	t.Cleanup(func() { stopTicking(); ticker.Wait() })
	woken := kyc.New(kyc.Config{Store: s, Clock: clockwork.NewRealClock(), Logger: log, Feed: feed})
	other := kyc.New(kyc.Config{Store: s, Clock: fast, Logger: log})
	open := func(service *kyc.Service) *gateway {
		g := serve(t)
		follow(g.door, service)
		return g.start()
	}
	var first atomic.Pointer[gateway]
	first.Store(open(woken))
	second := open(other)

	people := make([]*kyc.Person, persons)
	for i := range people {
		people[i] = &kyc.Person{
			ID: kyc.NewPersonID(), PartnerID: "acme", Version: 1, SourceKyc: kyc.SourceOpenco, Kyc: kyc.KycReview{Status: kyc.KycNotRequired},
			Profile: kyc.Profile{Name: kyc.NewName("Maria"), DocumentNumber: kyc.NewDocumentNumber(fmt.Sprintf("%011d", i)), Birthdate: kyc.NewDate("1990-02-28")},
		}
		if err := s.Write(t.Context(), func(tx kyc.Tx) error { return tx.InsertPerson(t.Context(), people[i]) }); err != nil {
			t.Fatal(err)
		}
	}

	var (
		writing, reading sync.WaitGroup
		seen, reconnects atomic.Int64
		half             = make(chan struct{})
		once             sync.Once
	)
	for i := range subscribers {
		reading.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			last, person := 0, people[i%persons]
			for cut := 0; last < perPerson || cut < cuts; cut++ {
				g := second
				if r.IntN(2) == 0 {
					g = first.Load()
				}
				// Some leave before the first event has come, and after the last cut they stay to the end.
				stay := r.IntN(5)
				if cut >= cuts {
					stay = perPerson
				}
				if last == perPerson {
					stay = 0
				}
				subscribe := subscribeByEvents
				if r.IntN(2) == 0 {
					subscribe = subscribeBySocket
				}
				err := subscribe(g.PublicAddr().String(), string(person.ID), last, func(version int) bool {
					if version != last+1 {
						t.Errorf("subscriber %d had version %d after %d", i, version, last)
					}
					last = version
					if seen.Add(1) == int64(subscribers*perPerson/2) {
						once.Do(func() { close(half) })
					}
					stay--
					return stay > 0 && last < perPerson
				}, stay == 0)
				if err != nil && !errors.Is(err, errCutOff) {
					t.Errorf("subscriber %d: %v", i, err)
					return
				}
				reconnects.Add(1)
			}
		})
	}
	for w := range 8 {
		writing.Go(func() {
			for range perPerson - 1 {
				for i := w; i < persons; i += 8 {
					p := people[i]
					p.Version++
					if err := s.Write(t.Context(), func(tx kyc.Tx) error { return tx.UpdatePerson(t.Context(), p) }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	read := make(chan struct{})
	go func() {
		reading.Wait()
		close(read)
	}()
	select {
	case <-half:
		old := first.Load()
		first.Store(open(woken))
		old.shutdown(t)
	case <-read: // all have failed
	}
	writing.Wait()
	<-read
	if got, want := seen.Load(), int64(subscribers*perPerson); got != want {
		t.Errorf("%d versions were seen, want %d", got, want)
	}
	t.Logf("%d subscribers of %d persons saw %d versions over %d connections", subscribers, persons, seen.Load(), reconnects.Load())
}

// errCutOff is for a connection that ended without the subscriber's doing.
var errCutOff = errors.New("cut off")

const versionsQuery = `subscription($s:ID!,$n:Int){versions(subject:$s,sinceVersion:$n)}`

// subscribeByEvents reads versions over an event stream until got says that it is enough, and cuts the connection. With leave it
// does so at once.
func subscribeByEvents(addr, subject string, since int, got func(version int) (more bool), leave bool) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return errCutOff // It is being replaced.
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	body := fmt.Sprintf(`{"query":%s,"variables":{"s":%q,"n":%d}}`, jsonString(versionsQuery), subject, since)
	if _, err := io.WriteString(c, request("POST /graphql", "Content-Type: application/json", "Accept: text/event-stream", fmt.Sprintf("Content-Length: %d", len(body)))+body); err != nil || leave {
		return errCutOff
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return errCutOff
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		version, err := versionIn([]byte("{" + data))
		if err != nil {
			return err
		}
		if !got(version) {
			return nil
		}
	}
	return errCutOff
}

// subscribeBySocket does the same over a WebSocket.
func subscribeBySocket(addr, subject string, since int, got func(version int) (more bool), leave bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/graphql", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"Authorization": {partnerToken}}, Subprotocols: []string{subprotocol},
	})
	if err != nil {
		return errCutOff
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"type":"connection_init"}`)); err != nil {
		return errCutOff
	}
	if _, _, err := conn.Read(ctx); err != nil { // the ack
		return errCutOff
	}
	subscribe := fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":%s,"variables":{"s":%q,"n":%d}}}`, jsonString(versionsQuery), subject, since)
	if err := conn.Write(ctx, websocket.MessageText, []byte(subscribe)); err != nil || leave {
		return errCutOff
	}
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			if code := websocket.CloseStatus(err); code != -1 && code != websocket.StatusGoingAway {
				return err
			}
			return errCutOff
		}
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		if err := json.Unmarshal(b, &m); err != nil || m.Type != "next" {
			return fmt.Errorf("got %s", b)
		}
		version, err := versionIn(m.Payload)
		if err != nil {
			return err
		}
		if !got(version) {
			return nil
		}
	}
}

func versionIn(result []byte) (int, error) {
	var r struct {
		Data   struct{ Versions int }
		Errors json.RawMessage
	}
	if err := json.Unmarshal(result, &r); err != nil || r.Errors != nil {
		return 0, fmt.Errorf("%s %w", result, err)
	}
	return r.Data.Versions, nil
}
