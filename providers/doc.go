// Package providers offers the upstream KYC services to the rest of kycgate: which there are (catalog.go),
// the guard around every call (guard.go), and what is measured of it (metrics.go). An upstream itself is a
// folder below: its wire format, its mapping, its simulator.
//
// # The way of a call
//
//	caller
//	  │
//	  ├─ held?           the operation was told 429 and its Retry-After has not passed ──> Refused rate_budget
//	  ├─ breaker open?   it would be refused at the end anyway, so it need not queue ────> Refused breaker_open
//	  │
//	  ├─ bulkhead        in the order of arrival: a slot of max_concurrent ──────────────> Refused bulkhead_full
//	  ├─ rate budget     waits for a departure, then is asked the two questions again ───> Refused rate_budget
//	  ├─ prepare         with the turn in hand: the access token is there before a departure is counted
//	  ├─ breaker         counts from here on; one probe while half-open ─────────────────> Refused breaker_open
//	  │
//	  ├─ deadline        of this attempt
//	  ├─ the call        exactly one; a panic becomes an Internal error
//	  └─ one observation the latency with its outcome; the sliding five minutes; the breaker's count
//
// Who waits in front of bulkhead and budget stands in one of three lines: callers somebody waits for, fetches that a
// webhook asked for, and work that goes on by itself. The more important line leaves first, and a part of both is kept
// from the others, so that a caller finds room although five hundred polls are due (lane.go).
//
// Bulkhead and rate budget belong to the provider, hold and breaker to one operation of it: a broken
// endpoint must not stop the others. A refused call has used nothing up: no attempt, no part of the rate
// budget, nothing the upstream could bill.
//
// The budget is spent at the moment of departure and not before the bulkhead. Budget bought in advance piles
// up in front of a slow upstream and leaves as one burst when it recovers, which is when it hurts most.
//
// # What counts
//
//	error's kind            outcome              breaker    answered properly
//	nil                     ok                   success    yes
//	NotFound, Conflict      ok                   success    yes
//	Rejected                rejected             success    yes
//	Internal (another 4xx)  rejected             success    no
//	RateLimited             rate_limited         excluded   no
//	Credentials             credentials          failure    no
//	Unavailable             unavailable          failure    no
//	Ambiguous               timeout, bad_answer, failure    no
//	                        or unavailable
//	panic, foreign error    bad_answer           failure    no
//	our caller went away    canceled             excluded   not counted
//
// # What is not here
//
// There is no loop around an attempt. Trying again is the business of the durable job, which records every
// attempt before its first byte leaves and survives the process; a loop in memory would repeat calls that
// no record knows of.
package providers
