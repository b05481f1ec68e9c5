package kyc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"pgregory.net/rapid"
)

func document(i int) DocumentNumber { return NewDocumentNumber(fmt.Sprintf("%011d", i)) }

// N03, N04: a principal may look up so many documents of nobody in a minute, and no others are in its way.
func TestGuesses(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	g := newGuesses(3, clock)
	acme := Caller{Partner: "acme", Subject: "s"}
	look := func(c Caller, i int, found bool) error {
		done, err := g.begin(t.Context(), c, document(i))
		if err == nil {
			done(found)
		}
		return err
	}
	mustLook := func(c Caller, i int, found bool) {
		t.Helper()
		if err := look(c, i, found); err != nil {
			t.Errorf("document %d of %s: %v", i, c.Subject, err)
		}
	}
	for i := range 100 {
		mustLook(acme, i, true) // who is found is no guess
	}
	for i := range 3 {
		mustLook(acme, 200+i, false)
		clock.Advance(time.Second)
	}
	for range 10 {
		mustLook(acme, 202, false) // again is the same guess
	}
	err := look(acme, 300, true) // whether it would be found must not show
	if KindOf(err) != RateLimited || RetryAfter(err) != guessWindow-3*time.Second {
		t.Errorf("the fourth guess: %v, again in %v", err, RetryAfter(err))
	}
	mustLook(Caller{Partner: "acme", Subject: "other"}, 300, false)
	mustLook(Caller{Partner: "rival", Subject: "s"}, 300, false)
	clock.Advance(RetryAfter(err) - 1)
	if look(acme, 300, false) == nil {
		t.Error("a guess was forgotten too early")
	}
	clock.Advance(1)
	mustLook(acme, 300, false)
	if look(acme, 301, false) == nil {
		t.Error("more than one guess was forgotten")
	}
}

// Look-ups under way are neither refused for what they may turn out to be, nor let through beyond the budget.
func TestGuessesUnderWay(t *testing.T) {
	t.Parallel()
	g := newGuesses(2, clockwork.NewFakeClock())
	c := Caller{Partner: "acme", Subject: "s"}
	var dones []func(bool)
	for i := range 2 {
		done, err := g.begin(t.Context(), c, document(i))
		if err != nil {
			t.Fatal(err)
		}
		dones = append(dones, done)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.begin(gone, c, document(9)); !errors.Is(err, context.Canceled) || KindOf(err) != Unavailable {
		t.Errorf("a caller who does not wait got %v", err)
	}
	third := make(chan error)
	go func() {
		done, err := g.begin(context.Background(), c, document(2))
		if err == nil {
			done(false)
		}
		third <- err
	}()
	dones[0](true) // somebody was found, which leaves room for the third
	if err := <-third; err != nil {
		t.Errorf("the third: %v", err)
	}
	dones[1](false)
	if _, err := g.begin(t.Context(), c, document(3)); KindOf(err) != RateLimited {
		t.Errorf("after two guesses: %v", err)
	}
}

// Whatever is asked at one time, no window of a minute holds more guesses than the budget.
func TestGuessesNeverExceedTheBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := clockwork.NewFakeClock()
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		g := newGuesses(limit, clock)
		c := Caller{Partner: "acme", Subject: "s"}
		var mu sync.Mutex
		guessed := make(map[time.Time]map[int]bool) // documents of nobody by when they were looked up
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			var all sync.WaitGroup
			for range rapid.IntRange(1, 10).Draw(t, "at once") {
				i, found := rapid.IntRange(0, 30).Draw(t, "document"), rapid.Bool().Draw(t, "found")
				all.Go(func() {
					done, err := g.begin(context.Background(), c, document(i))
					if err != nil {
						return
					}
					done(found)
					if found {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					now := clock.Now()
					if guessed[now] == nil {
						guessed[now] = make(map[int]bool)
					}
					guessed[now][i] = true
				})
			}
			all.Wait()
			in := make(map[int]bool)
			for at, documents := range guessed {
				if clock.Since(at) < guessWindow {
					for i := range documents {
						in[i] = true
					}
				}
			}
			if len(in) > limit {
				t.Fatalf("%d different guesses within a minute, the budget is %d", len(in), limit)
			}
			clock.Advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
		}
	})
}

// Callers who have nothing to remember are forgotten.
func TestGuessesAreBounded(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	g := newGuesses(1, clock)
	for i := range 5_000 {
		done, err := g.begin(t.Context(), Caller{Partner: "acme", Subject: fmt.Sprint(i)}, document(i))
		if err != nil {
			t.Fatal(err)
		}
		done(false)
		clock.Advance(guessWindow / 500)
	}
	if n := len(g.callers); n > 2_000 {
		t.Errorf("%d callers are remembered", n)
	}
}
