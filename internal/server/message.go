package server

import (
	"encoding/json"
	"errors"
)

// message is one message of a client (graphql-transport-ws).
type message struct {
	kind    string
	id      string
	payload map[string]any
}

// The kinds.
const (
	messageInit      = "connection_init"
	messagePing      = "ping"
	messagePong      = "pong"
	messageSubscribe = "subscribe"
	messageComplete  = "complete"
)

const (
	// maxSocketMessage bounds a message in bytes. A body may be larger: captures go by POST.
	maxSocketMessage = 64 << 10
	// maxOperationID bounds the id that a client gives an operation; we send it back with every result.
	maxOperationID = 255
)

var errMessage = errors.New("it is no message of graphql-transport-ws")

// parseMessage reads a message of the kinds that a client may send. The text of its error is constant: what is
// wrong is told, never what was sent.
func parseMessage(text string) (message, error) {
	v, err := parseJSON(text)
	if err != nil {
		return message{}, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return message{}, errMessage
	}
	m := message{}
	kind, ok := members["type"].(string)
	if !ok {
		return message{}, errMessage
	}
	m.kind = kind
	if m.payload, ok = optional[map[string]any](members, "payload"); !ok {
		return message{}, errMessage
	}
	switch m.kind {
	case messageInit, messagePing, messagePong:
		return m, nil
	case messageSubscribe, messageComplete:
		if m.id, ok = members["id"].(string); !ok || m.id == "" || len(m.id) > maxOperationID {
			return message{}, errMessage
		}
		if m.kind == messageSubscribe && m.payload == nil {
			return message{}, errMessage
		}
		return m, nil
	}
	return message{}, errMessage
}

var (
	messageAck    = []byte(`{"type":"connection_ack"}`)
	messagePonged = []byte(`{"type":"pong"}`)
)

// about is a message about one operation. The payload is JSON, or nil for none.
func about(kind, id string, payload []byte) []byte {
	quoted, _ := json.Marshal(id) // a string always encodes
	b := make([]byte, 0, len(payload)+len(quoted)+48)
	b = append(b, `{"id":`...)
	b = append(b, quoted...)
	b = append(b, `,"type":"`...)
	b = append(b, kind...)
	b = append(b, '"')
	if payload != nil {
		b = append(b, `,"payload":`...)
		b = append(b, payload...)
	}
	return append(b, '}')
}
