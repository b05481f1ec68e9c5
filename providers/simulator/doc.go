// Package simulator is what the simulators of all providers share: the faults an operator switches on, the
// log of what arrived, the list of magic values, the sender of webhooks, and the mux that serves several
// simulators beside each other (contract 2b). It knows no provider.
//
// A simulator is a folder beside its provider, `providers/x/xsim`. It owns the documented behaviour; this
// package surrounds it:
//
//	                  ┌────────────────────── New ───────────────────────┐
//	GET /scenarios ──>│ Scenarios of every simulator                     │
//	/qitech/faults ──>│ Faults  ──┐ asked before each operation          │
//	/qitech/requests >│ RequestLog│<─ told after it, personal data masked│
//	/qitech/… ───────>│ Front.Handle ──> the operation of the simulator  │
//	                  │ Outbox  ──────────────────────────────────────── │──> webhooks to the gateway
//	                  └──────────────────────────────────────────────────┘
//
// A simulator must never be mistaken for the provider. Every answer carries [Header], which a gateway in
// production refuses to talk to, and a request that says it comes from production is refused unread.
package simulator
