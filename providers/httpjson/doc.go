// Package httpjson makes one JSON call to an upstream and says what became of it.
//
// A call is bounded (time by its context, memory by [Client.MaxBody]), its answer is read to the end and
// closed, redirects are not followed, and every failure is a *kyc.Error whose Kind follows one rule: what
// do we know about the request having arrived?
//
//	nothing left this machine         Unavailable   try again
//	something may have left, and
//	no readable answer came back      Ambiguous     look it up, never repeat blindly
//	an answer came back               by its status, see classify
//
// An error holds fixed words, a status and a code of ours. It never holds the URL, the host, a header,
// the key, the request, the answer or the text of a library's error, because those do.
package httpjson
