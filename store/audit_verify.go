package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// AuditReport is what [VerifyAudit] found.
type AuditReport struct {
	Records int64 // that verified
	// BadRecord is the number of the first record that is not as it was written, is missing or was added; 0 when
	// all is well. Problem says what is wrong with it.
	BadRecord int64
	Problem   string
	// SealedNumber and SealedAt are of the newest signed head; zero without one.
	SealedNumber int64
	SealedAt     time.Time
	// BrokenLines of the file of signed heads are no heads: a crash leaves half a line.
	BrokenLines int
}

func (r *AuditReport) bad(number int64, format string, args ...any) {
	if r.BadRecord == 0 {
		r.BadRecord, r.Problem = number, fmt.Sprintf(format, args...)
	}
}

// verifyChunk is how many records are read at once. They are asked for in parts, so that a long check keeps no
// gateway from tidying its log.
const verifyChunk = 5000

// VerifyAudit walks the audit log of a database file from its first record to its head and compares it with the
// signed heads, those in the database and those in the file. It only reads and takes no lock, so a gateway may run on
// the file meanwhile. progress is told how many records of how many are done; it may be nil. The error is for what
// kept it from looking, never for what it found.
func VerifyAudit(ctx context.Context, database, heads string, keys AuditKeys, progress func(done, total int64)) (report AuditReport, err error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	// The database's seals are read first: each of them was in the file before.
	db := openReaders(database)
	defer func() { err = errors.Join(err, db.Close()) }()
	var kept []sealRow
	if err := db.SelectContext(ctx, &kept, `SELECT number, hash, at, signature FROM audit_seals ORDER BY number`); err != nil {
		return report, fmt.Errorf("read the signed heads: %w", err)
	}
	exported, broken, err := readSeals(heads)
	report.BrokenLines = broken
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return report, fmt.Errorf("read the file of signed heads: %w", err)
	}

	w := &auditWalk{report: &report, keys: keys, seals: make(map[int64][]sealRow, len(exported))}
	inFile := make(map[string]bool, len(exported))
	for _, seal := range exported {
		inFile[string(seal.signed())+string(seal.Signature)] = true
		w.seals[seal.Number] = append(w.seals[seal.Number], seal)
		w.newest(seal)
	}
	for _, seal := range kept {
		if !inFile[string(seal.signed())+string(seal.Signature)] {
			w.unexported = append(w.unexported, seal.Number)
			w.seals[seal.Number] = append(w.seals[seal.Number], seal)
			w.newest(seal)
		}
	}
	for report.BadRecord == 0 {
		var rows []auditRow
		// The head is read in the same statement's snapshot as how far the log goes.
		var end struct {
			auditHead
			Found   bool  `db:"found"`
			Last    int64 `db:"last"`
			Present int64 `db:"present"`
		}
		if err := db.GetContext(ctx, &end, `SELECT coalesce(h.number, 0) AS number, coalesce(h.hash, x'') AS hash, coalesce(h.mac, x'') AS mac,
			h.id IS NOT NULL AS found, (SELECT coalesce(max(number), 0) FROM audit_log) AS last, EXISTS (SELECT 1 FROM audit_log WHERE number < 1) AS present
			FROM (SELECT 1) LEFT JOIN audit_head h ON h.id = 1`); err != nil {
			return report, fmt.Errorf("read the head of the audit log: %w", err)
		}
		if end.Present != 0 {
			report.bad(1, "there are records before the first")
			break
		}
		if err := db.SelectContext(ctx, &rows, `SELECT `+auditColumns+` FROM audit_log WHERE number > ? AND number <= ? ORDER BY number LIMIT ?`,
			w.head.Number, end.Last, verifyChunk); err != nil {
			return report, fmt.Errorf("read the audit log: %w", err)
		}
		for i := range rows {
			if w.row(&rows[i]); report.BadRecord != 0 {
				return report, nil
			}
		}
		progress(report.Records, end.Last)
		if w.head.Number < end.Last && len(rows) > 0 {
			continue
		}
		w.end(end.auditHead, end.Found, end.Last)
		break
	}
	switch {
	case report.BadRecord != 0:
	case missing && len(kept) > 0:
		report.bad(kept[0].Number, "the file of signed heads is missing, although heads were signed")
	case len(w.unexported) > 0:
		report.bad(w.unexported[0], "its signed head is in the database and not in the file: a line of the file was changed or dropped")
	}
	return report, nil
}

// auditWalk is how far the check has come.
type auditWalk struct {
	report     *AuditReport
	keys       AuditKeys
	head       auditHead
	seals      map[int64][]sealRow
	unexported []int64
}

func (w *auditWalk) newest(seal sealRow) {
	if seal.Number > w.report.SealedNumber {
		w.report.SealedNumber, w.report.SealedAt = seal.Number, seal.At.time()
	}
}

// row checks the next record.
func (w *auditWalk) row(r *auditRow) {
	next := w.head.Number + 1
	if r.Number != next {
		w.report.bad(next, "it is missing")
		return
	}
	hash := r.hashAfter(w.head.Hash, w.keys)
	if !bytes.Equal(hash, r.Hash) {
		w.report.bad(next, "its hash does not match: it was changed, swapped or inserted, or these are not the keys it was written with")
		return
	}
	w.head = auditHead{Number: next, Hash: hash}
	for _, seal := range w.seals[next] {
		if !w.keys.Verify(seal.signed(), seal.Signature) {
			w.report.bad(next, "a signed head of it carries a signature that does not verify")
			return
		}
		if !bytes.Equal(seal.Hash, hash) {
			w.report.bad(next, "it is not the record whose head was signed: the log was written anew, or an old copy of it was gone on with")
			return
		}
	}
	delete(w.seals, next)
	w.report.Records = next
}

// end checks that the log ends where its head and the signed heads say.
func (w *auditWalk) end(head auditHead, found bool, last int64) {
	next := w.head.Number + 1
	switch {
	case w.head.Number < last:
		w.report.bad(next, "it is missing")
	case !found && last == 0 && len(w.seals) == 0: // nothing was ever recorded
	case !found:
		w.report.bad(next, "the head of the log is missing, so nobody knows whether there were more")
	case !bytes.Equal(head.MAC, head.mac(w.keys)):
		w.report.bad(next, "the head of the log was changed, so nobody knows whether there were more")
	case head.Number > last:
		w.report.bad(next, "it is missing: the head of the log counts %d", head.Number)
	case head.Number < last:
		w.report.bad(head.Number+1, "it stands behind the head of the log")
	case !bytes.Equal(head.Hash, w.head.Hash):
		w.report.bad(last, "the head of the log has another hash for it")
	}
	for number := range w.seals {
		if number > w.head.Number {
			w.report.bad(next, "it is missing: the head of record %d was signed", number)
		} else {
			w.report.bad(next, "a signed head has the number %d, which no record has", number)
		}
	}
}
