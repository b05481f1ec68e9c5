package kyc

import (
	"context"
	"strconv"
	"time"
)

// ExportReader is what only the export of a person asks: all there is of them, accepted or not.
type ExportReader interface {
	// AllRegistrations, Analyses, Callbacks and IdempotentAnswers give all of a person's, oldest first. The keys of
	// answers are left empty: only their hashes are kept.
	AllRegistrations(ctx context.Context, partner PartnerID, person PersonID) ([]*Registration, error)
	Analyses(ctx context.Context, partner PartnerID, person PersonID) ([]*Analysis, error)
	Callbacks(ctx context.Context, partner PartnerID, owner string) ([]*StoredCallback, error)
	IdempotentAnswers(ctx context.Context, partner PartnerID, person PersonID) ([]*IdempotentAnswer, error)
}

// exportSection is one noun of an export. Read gives structs of this package, or slices of them: every exported field
// of them is handed out, personal ones revealed, under its name in lower camel case.
type exportSection struct {
	Name   string   // its key in the JSON document
	Title  string   // its heading in the readable one
	Tables []string // what it covers of the database
	Read   func(ctx context.Context, r Reader, p *Person) (any, error)
}

// exportSections is what an export holds, in this order. A noun that keeps something of a person adds its section
// here; a table with a column for a person that is in none fails TestExportKnowsEveryTable.
var exportSections = []exportSection{
	{"person", "What is known of the person", []string{"persons"}, func(_ context.Context, _ Reader, p *Person) (any, error) {
		return p, nil
	}},
	{"externalIds", "Ids the partner gave to the person", []string{"external_ids"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		ids, err := r.ExternalIDs(ctx, p.PartnerID, []PersonID{p.ID})
		return ids[p.ID], err
	}},
	{"registrations", "Registrations as they were received", []string{"registrations"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		return r.AllRegistrations(ctx, p.PartnerID, p.ID)
	}},
	{"analyses", "Decisions", []string{"analyses"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		return r.Analyses(ctx, p.PartnerID, p.ID)
	}},
	{"faces", "Faces registered for 1:1 comparison", []string{"faces"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		faces, err := r.FacesOf(ctx, p.PartnerID, []PersonID{p.ID}, exportedFaces)
		return faces[p.ID], err
	}},
	{"processes", "Biometric and document checks", []string{"processes"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		found, err := r.ProcessesOf(ctx, p.PartnerID, []PersonID{p.ID}, "", Page{First: exportedProcesses})
		return found[p.ID], err
	}},
	{"customers", "Accounts at providers", []string{"customers"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		customers, err := r.CustomersOf(ctx, p.PartnerID, []PersonID{p.ID})
		return customers[p.ID], err
	}},
	{"onboarding", "Where the onboarding stands", []string{"onboardings"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		kept, err := r.Onboardings(ctx, p.PartnerID, []PersonID{p.ID})
		if err != nil || kept[p.ID] == nil {
			return nil, err
		}
		return kept[p.ID].onboarding(ctx)
	}},
	{"calls", "Where data was sent", []string{"provider_calls"}, exportCalls},
	{"callbacks", "What providers reported", []string{"callbacks"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		stored, err := r.Callbacks(ctx, p.PartnerID, string(p.ID))
		type callback struct {
			Provider, Reference string
			Body                PersonalText
			ReceivedAt          time.Time
		}
		out := make([]callback, len(stored))
		for i, c := range stored {
			out[i] = callback{c.Provider, c.Reference, NewPersonalText(string(c.Body)), c.ReceivedAt}
		}
		return out, err
	}},
	{"requests", "Requests that may be repeated without effect", []string{"idempotency_keys"}, func(ctx context.Context, r Reader, p *Person) (any, error) {
		return r.IdempotentAnswers(ctx, p.PartnerID, p.ID)
	}},
	{"audit", "Who read or changed the data", []string{"audit_log"}, exportAudit},
}

// exportedFaces is more than anybody has.
const exportedFaces = 1_000_000

const exportedProcesses = 1_000_000

// ExportTables lists the tables an export covers.
func ExportTables() (tables []string) {
	for _, s := range exportSections {
		tables = append(tables, s.Tables...)
	}
	return tables
}

// exportCalls gives the ledger of everything of the person that was asked about at a provider.
func exportCalls(ctx context.Context, r Reader, p *Person) (any, error) {
	analyses, err := r.Analyses(ctx, p.PartnerID, p.ID)
	if err != nil {
		return nil, err
	}
	references := make([]string, 0, len(analyses))
	for _, a := range analyses {
		references = append(references, string(a.ID))
	}
	faces, err := r.FacesOf(ctx, p.PartnerID, []PersonID{p.ID}, exportedFaces)
	if err != nil {
		return nil, err
	}
	for _, f := range faces[p.ID] {
		references = append(references, string(f.ID))
	}
	processes, err := r.ProcessesOf(ctx, p.PartnerID, []PersonID{p.ID}, "", Page{First: exportedProcesses})
	if err != nil {
		return nil, err
	}
	for _, one := range processes[p.ID] {
		references = append(references, string(one.ID))
	}
	customers, err := r.CustomersOf(ctx, p.PartnerID, []PersonID{p.ID})
	if err != nil {
		return nil, err
	}
	for _, c := range customers[p.ID] {
		references = append(references, string(c.ID))
	}
	return callsOf(ctx, r, p.PartnerID, references)
}

func callsOf(ctx context.Context, r Reader, partner PartnerID, references []string) ([]Call, error) {
	found, err := r.Calls(ctx, partner, references)
	calls := []Call{}
	for _, reference := range references {
		calls = append(calls, found[reference]...)
	}
	return calls, err
}

// exportAudit gives all records, oldest first.
func exportAudit(ctx context.Context, r Reader, p *Person) (any, error) {
	const size = 1000
	records := []*AuditRecord{}
	page := Page{First: size}
	for {
		found, err := r.AuditRecords(ctx, p.PartnerID, []PersonID{p.ID}, page)
		if err != nil {
			return nil, err
		}
		mine := found[p.ID]
		records = append(records, mine[:min(len(mine), size)]...)
		if len(mine) <= size {
			break
		}
		page.After = strconv.FormatInt(mine[size-1].Number, 10)
	}
	for i, j := 0, len(records)-1; i < j; i, j = i+1, j-1 {
		records[i], records[j] = records[j], records[i]
	}
	return records, nil
}

// PersonExport is everything held of a person, for programs and for people (schema: PersonExport).
type PersonExport struct {
	JSON      JSON
	Document  PersonalText // Markdown
	CreatedAt time.Time
}

// AuditedApart marks that the export has its own record.
func (*PersonExport) AuditedApart() {}

// ExportPersonPayload is the answer.
type ExportPersonPayload struct {
	Export     *PersonExport
	UserErrors []UserError
}

// ExportPerson hands out everything held of a person: what is known, what was received and from where, where it was
// sent, every decision, and who looked (LGPD, article 18). The record of it is durable before anything is read.
func (s *Service) ExportPerson(ctx context.Context, id PersonID) (*ExportPersonPayload, error) {
	const op = "kyc.export_person"
	// The policy lets the fields be selected by either scope; what is handed out takes both.
	if c := CallerFrom(ctx); !c.Can(Admin) || !c.Can(PIIRead) || c.IsSubject() {
		return nil, E(Forbidden, op, nil)
	}
	p, err := s.Person(ctx, id)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return &ExportPersonPayload{UserErrors: []UserError{{Code: CodeNotFound, Message: "names no person of yours", Path: []string{"personId"}}}}, nil
	}
	now := s.now()
	if err := s.Store.Write(ctx, func(tx Tx) error {
		return s.audit(ctx, tx, AuditEvent{Person: p.ID, Action: AuditExport, Fields: []string{"PersonExport.document", "PersonExport.json"}})
	}); err != nil {
		return nil, E(Unavailable, op, err)
	}
	document := exportDocument{createdAt: now, person: p.ID, partner: p.PartnerID}
	for _, section := range exportSections {
		data, err := section.Read(ctx, s.Store, p)
		if err != nil {
			return nil, err
		}
		document.sections = append(document.sections, exportedSection{section.Name, section.Title, reveal(data)})
	}
	text, err := document.json()
	if err != nil {
		return nil, Errorf(op, "the export does not encode: %T", err) // the error could quote a value
	}
	return &ExportPersonPayload{Export: &PersonExport{JSON: text, Document: NewPersonalText(document.markdown()), CreatedAt: now}, UserErrors: []UserError{}}, nil
}
