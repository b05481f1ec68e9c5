// Package store keeps what kycgate knows in one SQLite file. It implements [kyc.Store].
//
// # Connections
//
//	Write ──> queue ──> one goroutine ──> writer connection ──┐
//	                                                          ├──> kycgate.db, -wal, -shm   (mode 0600)
//	reads ──────────> pool of 4 ───────> read-only connections┘    kycgate.db.lock          (flock: one process)
//
// SQLite has one writer at a time, so there is one writing connection and one goroutine that owns it. Readers
// see the last commit and never wait for the writer. Each connection keeps its prepared statements for good
// ([session]); all SQL is written with ? and with one text for a purpose, so there are few of them.
//
// # Group commit
//
// A commit costs an fsync, about a millisecond, against some fifty microseconds for the statements of a
// registration. Writers that come while a commit is under way therefore share the next one:
//
//	BEGIN IMMEDIATE
//	  fn 1                                      nothing to protect yet: no savepoint
//	  SAVEPOINT w  fn 2  RELEASE w
//	  SAVEPOINT w  fn 3  ROLLBACK TO w, RELEASE w      fn 3 failed or panicked: only its own work is undone
//	  …                                         until nobody waits, or 128
//	COMMIT                                      one fsync; then 1 and 2 are answered, 3 with its own error
//	checkpoint, when due                        nobody waits for it
//
// Nobody is answered before the commit is durable (synchronous=FULL), and a failed commit fails everybody in it.
// When the device fails (an I/O error on commit, a failed fsync) nothing is known about what reached it. The
// store then stops for good: [Store.Failed] closes, every Write and Ping is Unavailable, and the process is
// expected to exit; the next start recovers from the log. A full disk and a locked file are not that: the write
// is Unavailable and a later one may succeed.
//
// # Tables
//
//	persons           one row a natural person of a partner; e-mails, phones and address are JSON in it
//	external_ids      the partner's own ids of a person, in the order they were mapped
//	registrations     what was received, byte for byte, and the profile afterwards; clustered by person
//	analyses          one question to a provider about a person
//	provider_calls    the ledger of calls; rows outlive the person and hold no personal data
//	callbacks         verified webhooks, one row a delivery
//	jobs              work that goes on by itself: due time or lease in run_at, fencing token in attempt
//	idempotency_keys  what a key of a partner stands for
//	heartbeat         the row Ping writes
//
// Personal values leave their types of package kyc in the row structs only (rows.go). Errors carry driver codes
// and SQLite's own words, which name columns; an error that could quote a row is replaced (errors.go).
package store
