package kyc

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AuditAction is what was done to a person's data. The set is closed (schema: AuditAction).
type AuditAction string

// The actions. READ is an answer that was not masked; a masked one is not recorded.
const (
	AuditRead   AuditAction = "READ"
	AuditCreate AuditAction = "CREATE"
	AuditUpdate AuditAction = "UPDATE"
	AuditDelete AuditAction = "DELETE"
	AuditExport AuditAction = "EXPORT"
	AuditErase  AuditAction = "ERASE"
)

// AuditActions lists all actions.
func AuditActions() []AuditAction {
	return []AuditAction{AuditRead, AuditCreate, AuditUpdate, AuditDelete, AuditExport, AuditErase}
}

// auditActor is who background work is done by.
const auditActor = "kycgate"

// AuditEvent is what a verb tells the audit log: ids and names of fields, never values.
type AuditEvent struct {
	// Partner is needed where there is no caller, as in background work; otherwise it is the caller's.
	Partner PartnerID
	Person  PersonID // "" where none is known yet; then Object is needed
	Object  string   // id of what was read or changed; "" means the person
	Action  AuditAction
	Fields  []string // schema coordinates, as Person.motherName; any order, repeats count once
}

// AuditRecord is one record of the audit log: who did what to which fields of whom, when and with which token.
type AuditRecord struct {
	Number    int64 // its place in the log, from 1; the store gives it
	At        time.Time
	PartnerID PartnerID
	PersonID  PersonID
	Object    string
	Action    AuditAction
	Fields    []string // sorted
	Actor     string   // the token's `sub`, the person of a subject token, or "kycgate"
	TokenID   *string
	Purpose   *string // code-like
	RequestID *string
}

// isCoordinate reports whether a text can be a field of the schema: Type.field, letters and at most one digit at the end (address2).
// No value is.
func isCoordinate(s string) bool {
	typ, field, found := strings.Cut(s, ".")
	if !found || typ == "" || field == "" || len(s) > 128 || typ[0] < 'A' || typ[0] > 'Z' || field[0] < 'a' || field[0] > 'z' {
		return false
	}
	if last := field[len(field)-1]; last >= '0' && last <= '9' {
		field = field[:len(field)-1]
	}
	return strings.Trim(typ, letters) == "" && strings.Trim(field, letters) == ""
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// isGlobalID reports whether a text can be one of our ids, of whatever type.
func isGlobalID(s string) bool {
	const prefix = len("per_")
	return len(s) > prefix && strings.Trim(s[:prefix-1], letters[26:]) == "" && wellFormed(s, s[:prefix-1]+"_")
}

// record makes the record of an event. What is no id and no name of a field could be a value, so it is refused.
func (e AuditEvent) record(ctx context.Context, now time.Time) (*AuditRecord, error) {
	const op = "kyc.audit"
	c := CallerFrom(ctx)
	r := &AuditRecord{
		At: now, PartnerID: e.Partner, PersonID: e.Person, Object: e.Object, Action: e.Action,
		Fields: slices.Compact(slices.Sorted(slices.Values(e.Fields))),
		Actor:  auditActor, TokenID: nonEmpty(c.TokenID), Purpose: nonEmpty(CodeLike(c.Purpose)), RequestID: nonEmpty(c.RequestID),
	}
	if c.Partner != "" {
		if r.PartnerID != "" && r.PartnerID != c.Partner {
			return nil, Errorf(op, "the event is another partner's")
		}
		r.PartnerID, r.Actor = c.Partner, c.Subject
		if c.IsSubject() {
			r.Actor = string(c.Person) // a frontend's `sub` may be anything, a document number too
		}
	}
	if r.Object == "" {
		r.Object = string(r.PersonID)
	}
	switch {
	case r.PartnerID == "":
		return nil, Errorf(op, "the event has no partner")
	case !slices.Contains(AuditActions(), r.Action):
		return nil, Errorf(op, "the event has no known action")
	case r.PersonID != "" && !isGlobalID(string(r.PersonID)), !isGlobalID(r.Object):
		return nil, Errorf(op, "the event names something that is no id")
	case len(r.Fields) == 0:
		return nil, Errorf(op, "the event names no field")
	}
	for _, f := range r.Fields {
		if !isCoordinate(f) {
			return nil, Errorf(op, "the event names something that is no field")
		}
	}
	return r, nil
}

// audit records events in the transaction of the change they tell of.
func (s *Service) audit(ctx context.Context, tx Tx, events ...AuditEvent) error {
	return audit(ctx, tx, s.now(), events...)
}

func audit(ctx context.Context, tx Tx, now time.Time, events ...AuditEvent) error {
	records := make([]*AuditRecord, 0, len(events))
	for _, e := range events {
		r, err := e.record(ctx, now)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	return tx.Audit(ctx, records...)
}

// Disclosed records what an answer is about to disclose, durably, before it is given. When it fails, the answer
// must not be given.
func (s *Service) Disclosed(ctx context.Context, events []AuditEvent) error {
	err := s.Store.Write(ctx, func(tx Tx) error { return s.audit(ctx, tx, events...) })
	if err != nil {
		s.Logger.Error("an unmasked answer was withheld: it could not be recorded", "persons", len(events), "err", err)
		return E(Unavailable, "kyc.disclosed", err)
	}
	return nil
}

// AuditConnection is a page of audit records.
type AuditConnection struct {
	Edges    []AuditEdge
	Nodes    []*AuditRecord
	PageInfo PageInfo
	PersonID PersonID // whose, for TotalCount
}

// AuditEdge is an audit record in a page.
type AuditEdge struct {
	Cursor string
	Node   *AuditRecord
}

// AuditPage checks the arguments of Person.audit. After is the number of a record.
func AuditPage(first *int, after *string) (Page, error) {
	page, err := pageOf(first, nil, "")
	if err != nil || after == nil {
		return page, err
	}
	b, err := base64.RawURLEncoding.DecodeString(*after)
	number, ok := strings.CutPrefix(string(b), auditCursor)
	n, wrong := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || wrong != nil || n < 1 {
		return Page{}, &Error{Kind: Invalid, Op: "kyc.page", Message: "after is not a cursor of this list"}
	}
	page.After = number
	return page, nil
}

const auditCursor = "audit "

// AuditRecords gives one page of the audit log for each of many persons at once, newest first.
func (s *Service) AuditRecords(ctx context.Context, persons []PersonID, page Page) (map[PersonID]*AuditConnection, error) {
	rows, err := s.Store.AuditRecords(ctx, CallerFrom(ctx).Partner, persons, page)
	if err != nil {
		return nil, err
	}
	out := make(map[PersonID]*AuditConnection, len(persons))
	for _, id := range persons {
		con := &AuditConnection{Edges: []AuditEdge{}, Nodes: []*AuditRecord{}, PersonID: id}
		found := rows[id]
		con.PageInfo = PageInfo{HasNextPage: len(found) > page.First, HasPreviousPage: page.After != ""}
		for _, r := range found[:min(len(found), page.First)] {
			con.Nodes = append(con.Nodes, r)
			con.Edges = append(con.Edges, AuditEdge{Cursor: cursorOf(auditCursor + strconv.FormatInt(r.Number, 10)), Node: r})
		}
		if n := len(con.Edges); n > 0 {
			con.PageInfo.StartCursor, con.PageInfo.EndCursor = &con.Edges[0].Cursor, &con.Edges[n-1].Cursor
		}
		out[id] = con
	}
	return out, nil
}

// CountAuditRecords counts the audit records of many persons at once.
func (s *Service) CountAuditRecords(ctx context.Context, persons []PersonID) (map[PersonID]int, error) {
	return s.Store.CountAuditRecords(ctx, CallerFrom(ctx).Partner, persons)
}
