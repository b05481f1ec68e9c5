package server

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// mediaType is one of the forms of an answer (GraphQL over HTTP, section 6.4; graphql-sse, distinct connections).
type mediaType uint8

const (
	mediaJSON    mediaType = iota // application/json: a refused document is still a 200
	mediaGraphQL                  // application/graphql-response+json: the status tells the truth
	mediaEvents                   // text/event-stream: what a document leads to is an event of a 200
)

func (m mediaType) contentType() string {
	switch m {
	case mediaGraphQL:
		return "application/graphql-response+json; charset=utf-8"
	case mediaEvents:
		return "text/event-stream; charset=utf-8"
	default:
		return "application/json; charset=utf-8"
	}
}

// acceptsEvents reports whether an event stream is an answer too. Only its name says so: a wildcard comes from
// clients that wait for one answer, and would wait for ever.
func acceptsEvents(accept []string) bool {
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil || name != "text/event-stream" || !utf8Charset(params["charset"]) {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		if params["q"] == "" || err == nil && q > 0 {
			return true
		}
	}
	return false
}

// negotiate picks the form of the answer from the Accept headers. No header, and any wildcard, mean JSON.
// ok is false when the caller accepts none: a browser that asks for HTML (L06).
func negotiate(accept []string) (m mediaType, ok bool) {
	if len(accept) == 0 {
		return mediaJSON, true
	}
	all := strings.Join(accept, ",")
	switch all {
	case "application/json", "*/*", "":
		return mediaJSON, true
	case "application/graphql-response+json":
		return mediaGraphQL, true
	}
	best := 0.0
	for part := range strings.SplitSeq(all, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil || !utf8Charset(params["charset"]) {
			continue
		}
		candidate := mediaJSON
		switch name {
		case "application/json", "application/*", "*/*":
		case "application/graphql-response+json":
			candidate = mediaGraphQL
		case "text/event-stream":
			candidate = mediaEvents
		default:
			continue
		}
		q := 1.0
		if text, given := params["q"]; given {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if q > best { // The first of equals wins.
			m, best, ok = candidate, q, true
		}
	}
	return m, ok
}

// jsonBody reports whether the body is JSON in UTF-8 by its headers. Everything else is refused, also what a
// form can send without a preflight: stock gqlgen executed a multipart mutation (T09, C03).
func jsonBody(h http.Header) bool {
	types := h["Content-Type"]
	if len(types) != 1 {
		return false
	}
	if types[0] == "application/json" {
		return true
	}
	name, params, err := mime.ParseMediaType(types[0])
	return err == nil && name == "application/json" && utf8Charset(params["charset"])
}

func utf8Charset(charset string) bool {
	return charset == "" || strings.EqualFold(charset, "utf-8")
}

// plainBody reports whether the body is not compressed. We never inflate: ten kilobytes can become ten
// megabytes (T10).
func plainBody(h http.Header) bool {
	for _, v := range h["Content-Encoding"] {
		if v != "" && !strings.EqualFold(v, "identity") {
			return false
		}
	}
	return true
}
