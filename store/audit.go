package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kycgate/kycgate/kyc"
)

// AuditKeys are the keys of the audit log. They are no part of the database: who can write the file and has not got
// them cannot write a log that verifies.
type AuditKeys interface {
	// MAC is a keyed hash; the same bytes give the same MAC.
	MAC(data []byte) []byte
	Sign(data []byte) []byte
	Verify(data, signature []byte) bool
}

// auditRow is a row of audit_log.
type auditRow struct {
	Number    int64  `db:"number"`
	At        micros `db:"at"`
	PartnerID string `db:"partner_id"`
	PersonID  string `db:"person_id"`
	ObjectID  string `db:"object_id"`
	Action    string `db:"action"`
	Fields    string `db:"fields"`
	Actor     string `db:"actor"`
	TokenID   string `db:"token_id"`
	Purpose   string `db:"purpose"`
	RequestID string `db:"request_id"`
	Hash      []byte `db:"hash"`
}

const auditColumns = `number, at, partner_id, person_id, object_id, action, fields, actor, token_id, purpose, request_id, hash`

func newAuditRow(r *kyc.AuditRecord) auditRow {
	return auditRow{
		At: newMicros(r.At), PartnerID: string(r.PartnerID), PersonID: string(r.PersonID), ObjectID: r.Object, Action: string(r.Action),
		Fields: strings.Join(r.Fields, " "), Actor: r.Actor, TokenID: orEmpty(r.TokenID), Purpose: orEmpty(r.Purpose), RequestID: orEmpty(r.RequestID),
	}
}

func (r *auditRow) record() *kyc.AuditRecord {
	return &kyc.AuditRecord{
		Number: r.Number, At: r.At.time(), PartnerID: kyc.PartnerID(r.PartnerID), PersonID: kyc.PersonID(r.PersonID), Object: r.ObjectID, Action: kyc.AuditAction(r.Action),
		Fields: strings.Fields(r.Fields), Actor: r.Actor, TokenID: orNil(r.TokenID), Purpose: orNil(r.Purpose), RequestID: orNil(r.RequestID),
	}
}

// In these columns "" is none: a pointer more would be a case more in the chain.

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// hashAfter is the hash of the row behind one with the hash before: MAC(len ‖ before ‖ len ‖ row). Every part has its
// length in front, so that no two rows are the same bytes.
func (r *auditRow) hashAfter(before []byte, keys AuditKeys) []byte {
	row := make([]byte, 0, 256)
	row = binary.BigEndian.AppendUint64(row, uint64(r.Number))
	row = binary.BigEndian.AppendUint64(row, uint64(r.At))
	for _, text := range []string{r.PartnerID, r.PersonID, r.ObjectID, r.Action, r.Fields, r.Actor, r.TokenID, r.Purpose, r.RequestID} {
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(text))), text...)
	}
	data := make([]byte, 0, len(before)+len(row)+8)
	data = append(binary.BigEndian.AppendUint32(data, uint32(len(before))), before...)
	data = append(binary.BigEndian.AppendUint32(data, uint32(len(row))), row...)
	return keys.MAC(data)
}

// auditHead is the row of audit_head: the end of the chain.
type auditHead struct {
	Number int64  `db:"number"`
	Hash   []byte `db:"hash"`
	MAC    []byte `db:"mac"`
}

// signed is what a head's MAC and signature are over. It cannot be taken for a row: that begins with a length.
func (h auditHead) signed(what string) []byte {
	b := append([]byte("kycgate audit "), what...)
	b = binary.BigEndian.AppendUint64(append(b, 0), uint64(h.Number))
	return append(b, h.Hash...)
}

func (h auditHead) mac(keys AuditKeys) []byte { return keys.MAC(h.signed("head")) }

// auditChain is the end of the chain as the writer's goroutine knows it.
type auditChain struct {
	keys  AuditKeys
	head  auditHead
	known bool // head is what is committed

	sealed int64         // the last number that was signed
	due    chan struct{} // told when sealEvery records came after it
}

// sealEvery is how many records may come before the head is signed again, if no minute has passed.
const sealEvery = 1000

var (
	errAuditHead    = errors.New("the head of the audit log does not verify: it was changed, or these are not its keys; see kycgate audit verify")
	errAuditChanged = errors.New("the audit log was changed by somebody else; see kycgate audit verify")
)

// Audit implements [kyc.Tx]. The records are chained and written when the group commits, which is when it is known
// who is in it and in what order.
func (t *tx) Audit(_ context.Context, records ...*kyc.AuditRecord) error {
	if t.over {
		return failure(untimed, "store.audit", errOver)
	}
	if t.broken != nil {
		return t.broken
	}
	for _, r := range records {
		t.audited = append(t.audited, newAuditRow(r))
	}
	return nil
}

// append writes rows behind the last one: an INSERT for a few of them and one UPDATE of the head.
func (c *auditChain) append(q *session, rows []auditRow) (err error) {
	if len(rows) == 0 {
		return nil
	}
	if !c.known {
		if c.head, err = readAuditHead(q, c.keys); err != nil {
			return err
		}
	}
	c.known = false // until it is committed
	for i := range rows {
		rows[i].Number = c.head.Number + 1
		c.head = auditHead{Number: rows[i].Number, Hash: rows[i].hashAfter(c.head.Hash, c.keys)}
		rows[i].Hash = c.head.Hash
	}
	for len(rows) > 0 {
		n := slices.IndexFunc(auditBatches, func(n int) bool { return n <= len(rows) })
		if err := insertAudit(q, rows[:auditBatches[n]], auditInserts[n]); err != nil {
			return err
		}
		rows = rows[auditBatches[n]:]
	}
	c.head.MAC = c.head.mac(c.keys)
	_, err = q.exec(`INSERT INTO audit_head (id, number, hash, mac) VALUES (1, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET number = excluded.number, hash = excluded.hash, mac = excluded.mac`, c.head.Number, c.head.Hash, c.head.MAC)
	return err
}

// committed is told that what append wrote is durable.
func (c *auditChain) committed() {
	c.known = true
	if c.head.Number-c.sealed >= sealEvery {
		select {
		case c.due <- struct{}{}:
		default:
		}
	}
}

// auditBatches are how many rows one INSERT takes, the most that fit first: a page of persons is many rows, and so is a group of
// readers.
var auditBatches = []int{16, 4, 1}

var auditInserts = func() (queries []string) {
	for _, n := range auditBatches {
		queries = append(queries, `INSERT INTO audit_log (`+auditColumns+`) VALUES `+auditValues+strings.Repeat(`, `+auditValues, n-1))
	}
	return queries
}()

const auditValues = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func insertAudit(q *session, rows []auditRow, query string) error {
	args := make([]any, 0, 12*len(rows))
	for i := range rows {
		r := &rows[i]
		args = append(args, r.Number, int64(r.At), r.PartnerID, r.PersonID, r.ObjectID, r.Action, r.Fields, r.Actor, r.TokenID, r.Purpose, r.RequestID, r.Hash)
	}
	_, err := q.exec(query, args...)
	if e := failure(untimed, "store.audit", err); kyc.KindOf(e) == kyc.Conflict {
		return errAuditChanged // a Conflict would tell the caller that its own row was there
	}
	return err
}

// readAuditHead reads the end of the chain and makes sure that it is ours. To go on behind a head that somebody has
// changed would put our hash under theirs.
func readAuditHead(q *session, keys AuditKeys) (auditHead, error) {
	var end struct {
		auditHead
		Found    bool   `db:"found"`
		Last     int64  `db:"last"`
		LastHash []byte `db:"last_hash"`
	}
	// One statement is one snapshot: a reader that asked twice would see a commit in between.
	_, err := q.get(&end, `SELECT coalesce(h.number, 0) AS number, coalesce(h.hash, x'') AS hash, coalesce(h.mac, x'') AS mac,
		h.id IS NOT NULL AS found, coalesce(l.number, 0) AS last, coalesce(l.hash, x'') AS last_hash
		FROM (SELECT 1) LEFT JOIN audit_head h ON h.id = 1 LEFT JOIN audit_log l ON l.number = (SELECT max(number) FROM audit_log)`)
	switch {
	case err != nil:
		return auditHead{}, err
	case !end.Found && end.Last == 0:
		return auditHead{}, nil
	case !end.Found || !bytes.Equal(end.MAC, end.mac(keys)) || end.Last != end.Number || !bytes.Equal(end.LastHash, end.Hash):
		return auditHead{}, errAuditHead
	}
	return end.auditHead, nil
}

// OpenAudit reads the end of the audit log and fails when it does not verify: it is called once at the start, after
// [Store.Recover], so that a gateway does not serve what it could not record.
func (s *Store) OpenAudit(ctx context.Context) error {
	return s.writer.do(ctx, func(t *tx) error {
		return t.use(ctx, "store.open_audit", func(_ context.Context, q *session) error {
			c := &s.writer.audit
			head, err := readAuditHead(q, c.keys)
			if err != nil {
				return auditFailure(err)
			}
			c.head, c.known = head, true
			_, err = q.value(untimed, &c.sealed, `SELECT coalesce(max(number), 0) FROM audit_seals`)
			return err
		})
	})
}

// AuditRecords implements [kyc.Reader].
func (r reader) AuditRecords(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID, page kyc.Page) (map[kyc.PersonID][]*kyc.AuditRecord, error) {
	records := make(map[kyc.PersonID][]*kyc.AuditRecord, len(persons))
	after := int64(1<<63 - 1)
	if page.After != "" {
		n, err := strconv.ParseInt(page.After, 10, 64)
		if err != nil {
			return nil, kyc.Errorf("store.audit_records", "the page begins after something that is no number")
		}
		after = n
	}
	err := r.forEach(ctx, "store.audit_records", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`
			WITH page AS (
				SELECT person_id, number, row_number() OVER (PARTITION BY person_id ORDER BY number DESC) AS n
				FROM audit_log WHERE partner_id = ? AND person_id IN (?) AND number < ?)
			SELECT a.number, a.at, a.partner_id, a.person_id, a.object_id, a.action, a.fields, a.actor, a.token_id, a.purpose, a.request_id, a.hash
			FROM page CROSS JOIN audit_log a ON a.number = page.number
			WHERE page.n <= ? ORDER BY page.person_id, page.n`,
			some, []any{partner}, []any{after, max(page.First, 0) + 1})
		if err != nil {
			return err
		}
		var found []auditRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for i := range found {
			person := kyc.PersonID(found[i].PersonID)
			records[person] = append(records[person], found[i].record())
		}
		return nil
	})
	return records, err
}

// CountAuditRecords implements [kyc.Reader].
func (r reader) CountAuditRecords(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID]int, error) {
	return r.countOf(ctx, "store.count_audit_records", `SELECT person_id, count(*) AS n FROM audit_log
			WHERE partner_id = ? AND person_id IN (?) GROUP BY person_id`, partner, persons)
}

// auditFailure is an error of the log's own as what everybody in the group is told.
func auditFailure(err error) error {
	for _, ours := range []error{errAuditHead, errAuditChanged} {
		if errors.Is(err, ours) {
			return kyc.E(kyc.Internal, "store.audit", fmt.Errorf("%w", err))
		}
	}
	return failure(untimed, "store.audit", err)
}
