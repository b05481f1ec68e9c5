package server

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// A request with both Content-Length and Transfer-Encoding, or with two Content-Lengths, may end elsewhere for a
// proxy in front of us than for us, and what lies between is then a smuggled request (T15). net/http reads the
// chunks and drops the length before a handler could see it, and takes two equal lengths for one. So the
// connection looks at the heads itself.
//
// It need not understand HTTP for that. It follows the stream from head to head, over bodies of the length that
// the head names, and each handler takes the verdict on its head, in order. Where it cannot follow, which is
// behind a chunked body, the connection ends with the answer. Bytes that net/http would read otherwise than we do
// are bytes that it refuses, and then it closes the connection too.

// maxHead is above what net/http reads of one head; behind it there is a 431.
const maxHead = 32 << 10

// framing is how a head says where its body ends.
type framing struct {
	ambiguous bool
	chunked   bool
}

// framedConn is a connection that notes the framing of each request.
type framedConn struct {
	net.Conn

	mu   sync.Mutex // net/http reads in the background while the handler runs
	head []byte     // what was read of the current head
	body int64      // what is still to come of the body before it
	lost bool       // we no longer follow
	seen []framing  // of heads that no handler has taken yet
}

func (c *framedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.follow(p[:n])
	}
	return n, err
}

// CloseWrite lets net/http half-close, so that a refusal reaches a client that is still sending.
func (c *framedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c *framedConn) follow(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 && !c.lost {
		if c.body > 0 {
			n := min(c.body, int64(len(b)))
			c.body -= n
			b = b[n:]
			continue
		}
		if len(c.head) == 0 {
			// net/http tolerates line ends between a body and the next head.
			if b = bytes.TrimLeft(b, "\r\n"); len(b) == 0 {
				return
			}
		}
		old := len(c.head)
		c.head = append(c.head, b...)
		end := headEnd(c.head, max(0, old-3)) // the blank line may have begun in the part before
		if end < 0 {
			c.lost = len(c.head) > maxHead
			return
		}
		b = b[end-old:]
		c.note(c.head[:end])
		c.head = c.head[:0]
	}
}

// headEnd finds the end of the blank line, with or without carriage returns: net/http takes both.
func headEnd(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		if i+1 < len(b) && b[i+1] == '\n' {
			return i + 2
		}
		if i+2 < len(b) && b[i+1] == '\r' && b[i+2] == '\n' {
			return i + 3
		}
	}
	return -1
}

// note reads the framing of a complete head.
func (c *framedConn) note(head []byte) {
	lengths, encodings := 0, 0
	var f framing
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			lengths++
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 62)
			f.ambiguous = f.ambiguous || err != nil
			c.body = int64(n) // It has 62 bits at most.
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			encodings++
		}
	}
	f.chunked = encodings > 0
	f.ambiguous = f.ambiguous || lengths > 1 || lengths > 0 && encodings > 0
	c.lost = f.chunked || f.ambiguous
	c.seen = append(c.seen, f)
}

// next takes the verdict on the head that net/http has just read.
func (c *framedConn) next() framing {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 {
		return framing{ambiguous: true} // We have lost the thread, which is no reason to trust it.
	}
	f := c.seen[0]
	c.seen = append(c.seen[:0], c.seen[1:]...)
	return f
}

// framedListener makes every connection a framedConn.
type framedListener struct{ net.Listener }

func (l framedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &framedConn{Conn: c}, nil
}

type framedConnKey struct{}

// withFramedConn is the server's ConnContext hook.
func withFramedConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, framedConnKey{}, c)
}

// framingOf is the framing of a request of ours. It may be asked once.
func framingOf(r *http.Request) framing {
	if c, ok := r.Context().Value(framedConnKey{}).(*framedConn); ok {
		return c.next()
	}
	return framing{}
}

// stopFollowing is for a connection that is about to speak something else than HTTP.
func stopFollowing(r *http.Request) {
	if c, ok := r.Context().Value(framedConnKey{}).(*framedConn); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lost, c.head = true, nil
	}
}
