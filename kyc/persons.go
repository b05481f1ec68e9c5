package kyc

import (
	"context"
	"encoding/base64"
	"strings"
)

// PageInfo says where a page stands in its list (Relay).
type PageInfo struct {
	HasNextPage     bool
	HasPreviousPage bool
	StartCursor     *string
	EndCursor       *string
}

// PersonConnection is a page of persons.
type PersonConnection struct {
	Edges    []PersonEdge
	Nodes    []*Person
	PageInfo PageInfo
	Filter   PersonFilter // what TotalCount counts
}

// PersonEdge is a person in a page.
type PersonEdge struct {
	Cursor string
	Node   *Person
}

// RegistrationConnection is a page of registrations.
type RegistrationConnection struct {
	Edges    []RegistrationEdge
	Nodes    []*Registration
	PageInfo PageInfo
	PersonID PersonID // whose, for TotalCount
}

// RegistrationEdge is a registration in a page.
type RegistrationEdge struct {
	Cursor string
	Node   *Registration
}

// Viewer is who the token is.
type Viewer struct {
	Partner string
	Subject string
	Scopes  []string
	Person  *Person
}

// visible hides a person that was never accepted from everybody, and every person but their own from a
// subject token, whatever door was used.
func visible(c Caller, p *Person) *Person {
	if p == nil || p.Version == 0 || c.IsSubject() && p.ID != c.Person {
		return nil
	}
	return p
}

// Person gives one person of the caller's partner, or nil.
func (s *Service) Person(ctx context.Context, id PersonID) (*Person, error) {
	c := CallerFrom(ctx)
	if !wellFormed(string(id), personPrefix) {
		return nil, nil
	}
	p, err := s.Store.PersonByID(ctx, c.Partner, id)
	return visible(c, p), err
}

// PersonByDocument gives the person of a CPF, formatted or bare, or nil. A string that is no CPF names nobody. Whoever
// asks for too many that name nobody is refused for a while, with RateLimited.
func (s *Service) PersonByDocument(ctx context.Context, document string) (*Person, error) {
	c := CallerFrom(ctx)
	d, ok := ParseCPF(document, !s.SkipCheckDigits)
	if !ok {
		return nil, nil
	}
	done, err := s.guesses.begin(ctx, c, d)
	if err != nil {
		return nil, err
	}
	found := true // also if the store fails or panics
	defer func() { done(found) }()
	p, err := s.Store.PersonByDocument(ctx, c.Partner, d)
	p = visible(c, p)
	found = p != nil || err != nil
	return p, err
}

// PersonByExternalID gives the person an external id is mapped to, or nil.
func (s *Service) PersonByExternalID(ctx context.Context, externalID string) (*Person, error) {
	c := CallerFrom(ctx)
	externalID = strings.TrimSpace(externalID)
	if externalID == "" || len(externalID) > 4*255 || !printable(externalID) {
		return nil, nil
	}
	p, err := s.Store.PersonByExternalID(ctx, c.Partner, externalID)
	return visible(c, p), err
}

// Node gives any object by its global id, or nil. The prefix says which table to ask.
func (s *Service) Node(ctx context.Context, id string) (Node, error) {
	c := CallerFrom(ctx)
	switch {
	case strings.HasPrefix(id, processPrefix):
		if !c.IsSubject() && !c.Can(ProcessesRead) {
			return nil, nil
		}
		p, err := s.Process(ctx, ProcessID(id))
		if p == nil {
			return nil, err // a nil *Process in the interface would not be null
		}
		return p, err
	case !c.IsSubject() && !c.Can(PersonsRead):
		return nil, nil
	case strings.HasPrefix(id, facePrefix):
		f, err := s.Face(ctx, FaceID(id))
		if f == nil {
			return nil, err
		}
		return f, err
	}
	p, err := s.Person(ctx, PersonID(id))
	if p == nil {
		return nil, err
	}
	return p, err
}

// Persons lists the caller's persons, newest first.
func (s *Service) Persons(ctx context.Context, first *int, after *string, filter *PersonFilter) (*PersonConnection, error) {
	c := CallerFrom(ctx)
	page, err := pageOf(first, after, personPrefix)
	if err != nil {
		return nil, err
	}
	con := &PersonConnection{Edges: []PersonEdge{}, Nodes: []*Person{}}
	if filter != nil {
		con.Filter = *filter
	}
	if c.IsSubject() {
		return con, nil
	}
	rows, more, err := s.Store.Persons(ctx, c.Partner, con.Filter, page)
	if err != nil {
		return nil, err
	}
	for _, p := range rows {
		con.Nodes = append(con.Nodes, p)
		con.Edges = append(con.Edges, PersonEdge{Cursor: cursorOf(string(p.ID)), Node: p})
	}
	con.PageInfo = PageInfo{HasNextPage: more, HasPreviousPage: page.After != ""}
	if n := len(con.Edges); n > 0 {
		con.PageInfo.StartCursor, con.PageInfo.EndCursor = &con.Edges[0].Cursor, &con.Edges[n-1].Cursor
	}
	return con, nil
}

// CountPersons counts what Persons lists in all.
func (s *Service) CountPersons(ctx context.Context, filter PersonFilter) (int, error) {
	c := CallerFrom(ctx)
	if c.IsSubject() {
		return 0, nil
	}
	return s.Store.CountPersons(ctx, c.Partner, filter)
}

// ExternalIDs gives the external ids of many persons at once, oldest first.
func (s *Service) ExternalIDs(ctx context.Context, persons []PersonID) (map[PersonID][]*ExternalID, error) {
	rows, err := s.Store.ExternalIDs(ctx, CallerFrom(ctx).Partner, persons)
	if err != nil {
		return nil, err
	}
	out := make(map[PersonID][]*ExternalID, len(persons))
	for _, id := range persons {
		list := make([]*ExternalID, len(rows[id]))
		for i := range rows[id] {
			list[i] = &rows[id][i]
		}
		out[id] = list
	}
	return out, nil
}

// RegistrationPage checks the arguments of Person.registrations.
func RegistrationPage(first *int, after *string) (Page, error) {
	return pageOf(first, after, registrationPrefix)
}

// Registrations gives one page of registrations for each of many persons at once, newest first.
func (s *Service) Registrations(ctx context.Context, persons []PersonID, page Page) (map[PersonID]*RegistrationConnection, error) {
	rows, err := s.Store.Registrations(ctx, CallerFrom(ctx).Partner, persons, page)
	if err != nil {
		return nil, err
	}
	out := make(map[PersonID]*RegistrationConnection, len(persons))
	for _, id := range persons {
		con := &RegistrationConnection{Edges: []RegistrationEdge{}, Nodes: []*Registration{}, PersonID: id}
		found := rows[id]
		con.PageInfo = PageInfo{HasNextPage: len(found) > page.First, HasPreviousPage: page.After != ""}
		for _, r := range found[:min(len(found), page.First)] {
			con.Nodes = append(con.Nodes, r)
			con.Edges = append(con.Edges, RegistrationEdge{Cursor: cursorOf(string(r.ID)), Node: r})
		}
		if n := len(con.Edges); n > 0 {
			con.PageInfo.StartCursor, con.PageInfo.EndCursor = &con.Edges[0].Cursor, &con.Edges[n-1].Cursor
		}
		out[id] = con
	}
	return out, nil
}

// CountRegistrations counts the registrations of many persons at once.
func (s *Service) CountRegistrations(ctx context.Context, persons []PersonID) (map[PersonID]int, error) {
	return s.Store.CountRegistrations(ctx, CallerFrom(ctx).Partner, persons)
}

// ProviderHealth says how every configured provider fares.
func (s *Service) ProviderHealth() []*ProviderHealth {
	all := s.Health()
	out := make([]*ProviderHealth, len(all))
	for i := range all {
		out[i] = &all[i]
	}
	return out
}

// Viewer says who the token is.
func (s *Service) Viewer(ctx context.Context) (*Viewer, error) {
	c := CallerFrom(ctx)
	v := &Viewer{Partner: string(c.Partner), Subject: c.Subject, Scopes: []string{}}
	for _, scope := range c.Scopes.List() {
		v.Scopes = append(v.Scopes, string(scope))
	}
	if !c.IsSubject() {
		return v, nil
	}
	var err error
	v.Person, err = s.Person(ctx, c.Person)
	return v, err
}

// PageSize is the default and MaxPageSize the limit of `first`.
const (
	PageSize    = 25
	MaxPageSize = 100
)

func pageOf(first *int, after *string, prefix string) (Page, error) {
	page := Page{First: PageSize}
	if first != nil {
		page.First = *first
	}
	if page.First < 1 || page.First > MaxPageSize {
		return Page{}, &Error{Kind: Invalid, Op: "kyc.page", Message: "first must be from 1 to 100"}
	}
	if after == nil {
		return page, nil
	}
	id, err := base64.RawURLEncoding.DecodeString(*after)
	if err != nil || !wellFormed(string(id), prefix) {
		return Page{}, &Error{Kind: Invalid, Op: "kyc.page", Message: "after is not a cursor of this list"}
	}
	page.After = string(id)
	return page, nil
}

// cursorOf hides the id, so that nobody builds on what a cursor is made of.
func cursorOf(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// wellFormed reports whether an id could be one of ours: prefix and 26 characters of Crockford base 32.
func wellFormed(id, prefix string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	if !ok || len(rest) != 26 {
		return false
	}
	return strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// Node is whatever has a global id (schema: Node).
type Node interface{ IsNode() }

// IsNode marks Person as a Node.
func (*Person) IsNode() {}
