package kyc

import "time"

// Retention says how long what is kept. Zero means for good, except for HoldPersons, where it means that nothing holds.
type Retention struct {
	// HoldPersons keeps a person from being erased until so long after their last change, where a law demands it.
	HoldPersons time.Duration
	// Persons are erased so long after their last change.
	Persons time.Duration
	// Registrations, the snapshots, are removed so long after they were received; the newest of a person stays.
	Registrations time.Duration
	// Callbacks, the webhooks as received, are removed so long after they came.
	Callbacks time.Duration
	// Calls, the ledger of what was sent, is removed so long after the call ended.
	Calls time.Duration
}
