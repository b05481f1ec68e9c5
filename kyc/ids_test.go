package kyc

import (
	"sync"
	"testing"
)

func TestIDsStrictlyIncrease(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := NewPersonID()
			for range 20_000 {
				next := NewPersonID()
				if next <= last || !wellFormed(string(next), personPrefix) {
					t.Errorf("%s after %s", next, last)
					return
				}
				last = next
			}
		})
	}
	wg.Wait()
}
