package kyc

import (
	"sync"
	"time"
)

// How long a capture is worth keeping while its provider cannot be reached (contract). The first is the
// provider's (dossier 4.4); an image is held shorter because nothing forces its person to wait (ours).
const (
	holdSDKToken = 10 * time.Minute
	holdImage    = 5 * time.Minute
	// maxHeld bounds what outages may pile up; beyond it a capture gets its first attempt and no other (ours).
	maxHeld = 256 << 20
)

// captures are held in memory and nowhere else: no disk, no log, no metric. What a process that ends holds is
// gone, and the next one tells whoever asks to capture again. The zero value is ready.
type captures struct {
	mu   sync.Mutex
	held map[ProcessID]heldCapture
	size int
}

type heldCapture struct {
	Capture
	until time.Time
	size  int
}

// hold keeps a capture until it is dropped or too old.
func (c *captures) hold(id ProcessID, capture Capture, now time.Time) {
	h := heldCapture{Capture: capture, until: now.Add(holdImage)}
	if capture.SDKToken != nil {
		h.until, h.size = now.Add(holdSDKToken), len(capture.SDKToken.Reveal())
	}
	if capture.Image != nil {
		h.size += len(capture.Image.Reveal())
	}
	for _, f := range capture.Files {
		h.size += len(f.Reveal())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+h.size > maxHeld {
		return
	}
	if c.held == nil {
		c.held = make(map[ProcessID]heldCapture)
	}
	c.held[id] = h
	c.size += h.size
}

// get gives a capture that may still be sent.
func (c *captures) get(id ProcessID, now time.Time) (Capture, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.held[id]
	return h.Capture, ok && now.Before(h.until)
}

// until tells when a capture ends; ok is false when none is held.
func (c *captures) until(id ProcessID) (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.held[id]
	return h.until, ok
}

// drop forgets a capture.
func (c *captures) drop(id ProcessID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size -= c.held[id].size
	delete(c.held, id)
}
