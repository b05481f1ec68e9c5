package kyc

import (
	"context"
	"testing"
)

type noLog struct{ Store }

func (noLog) Append(*Erasure) error       { return nil }
func (noLog) Scrub(context.Context) error { return nil }

// What was captured for a process of an erased person is forgotten at once: the job that would have dropped it is gone.
func TestErasureForgetsCaptures(t *testing.T) {
	t.Parallel()
	s := &Service{Config: Config{Store: noLog{}, Erasures: noLog{}}}
	now := processTime
	theirs, others := NewProcessID(), NewProcessID()
	for _, id := range []ProcessID{theirs, others} {
		s.captures.hold(id, Capture{SDKToken: new(NewPersonalText("a selfie"))}, now)
	}
	if err := s.finishErasure(t.Context(), &Erasure{Subjects: []string{"ana_1", string(theirs)}, CompletedAt: &now}); err != nil {
		t.Fatal(err)
	}
	if _, held := s.captures.until(theirs); held {
		t.Error("the capture of an erased person is held")
	}
	if _, held := s.captures.until(others); !held || s.captures.size != len("a selfie") {
		t.Errorf("another one's: %t, %d bytes", held, s.captures.size)
	}
}
