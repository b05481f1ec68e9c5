package server

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// subprotocol is the one we speak: GraphQL over WebSocket, as npm graphql-ws defines it.
const subprotocol = "graphql-transport-ws"

var refuseUpgrade = atHTTP(http.StatusUpgradeRequired, codeBadRequest, reasonBadRequest,
	"The WebSocket handshake must be that of RFC 6455, version 13, over HTTP/1.1.").
	with("Upgrade", "websocket").with("Connection", "Upgrade").with("Sec-WebSocket-Version", "13")

// isUpgrade reports whether a request wants to become a WebSocket.
func isUpgrade(r *http.Request) bool {
	return hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// goodHandshake is what the library checks as well; but it answers with the headers it was sent.
func goodHandshake(r *http.Request) bool {
	key := r.Header["Sec-Websocket-Key"]
	if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || r.Header.Get("Sec-WebSocket-Version") != "13" || len(key) != 1 {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key[0]))
	return err == nil && len(b) == 16
}

// upgrade makes a WebSocket of the request and serves it to its end, or says why not. A token in the header is
// verified before that; a browser cannot set one, and sends its token in the first message.
func (g *GraphQL) upgrade(e *exchange, r *http.Request, q *question) *refusal {
	if !goodHandshake(r) {
		return refuseUpgrade
	}
	var who *asker
	origin, ok := g.origins.foreign(r)
	if !ok {
		return refuseOrigin
	}
	if len(r.Header["Authorization"]) > 0 {
		one, refused := g.authenticate(e, r)
		if refused != nil {
			return refused
		}
		who = &one
	} else if origin != "" && !g.origins.any[origin] {
		return refuseOrigin
	}
	leave, refused := g.sockets.enter()
	if refused != nil {
		return refused
	}
	defer leave()
	if !g.enter() {
		return refuseOverloaded
	}
	defer g.open.Done()

	stopFollowing(r)
	conn, err := websocket.Accept(e, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // It is about origins, and they are checked above, by partner.
	})
	if err != nil {
		q.outcome = outcomeInternal
		return nil // The library has answered: this server cannot hand over the connection, as in a test.
	}
	defer g.cfg.Metrics.socket()()
	q.operation, q.outcome = "", "" // Its operations have theirs.
	newSocket(g, conn, e, r, origin, who).serve()
	return nil
}
