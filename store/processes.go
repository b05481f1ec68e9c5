package store

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// processColumns are what processRow reads, with the key that opens it.
const processColumns = `p.partner_id, p.id, p.kind, p.capabilities, p.provider, p.provider_process_id, p.submission, p.status, p.failure_code,
	p.person_id, p.reference_id, p.use_case, p.sealed_content, p.created_at, p.updated_at, p.finished_at, p.version, ` + keyColumns

// processRow is a row of processes.
type processRow struct {
	PartnerID string `db:"partner_id"`
	ID        string `db:"id"`
	wrappedKey
	Kind              string  `db:"kind"`
	Capabilities      string  `db:"capabilities"`
	Provider          string  `db:"provider"`
	ProviderProcessID *string `db:"provider_process_id"`
	Submission        string  `db:"submission"`
	Status            string  `db:"status"`
	FailureCode       *string `db:"failure_code"`
	PersonID          *string `db:"person_id"`
	DocumentIndex     []byte  `db:"document_index"`
	ReferenceID       *string `db:"reference_id"`
	UseCase           *string `db:"use_case"`
	SealedContent     []byte  `db:"sealed_content"`
	CreatedAt         micros  `db:"created_at"`
	UpdatedAt         micros  `db:"updated_at"`
	FinishedAt        *micros `db:"finished_at"`
	Version           int     `db:"version"`
}

// processContent is the document that is sealed: values revealed, because the types of package kyc redact themselves.
type processContent struct {
	DocumentNumber     string           `json:"document_number,omitempty"`
	Name               string           `json:"name,omitempty"`
	Email              string           `json:"email,omitempty"`
	Phone              string           `json:"phone,omitempty"`
	Purpose            string           `json:"purpose,omitempty"`
	ReusableDocumentID string           `json:"reusable_document_id,omitempty"`
	Captured           bool             `json:"captured,omitempty"`
	Wanted             []kyc.Capability `json:"wanted,omitempty"`
	Looks              int              `json:"looks,omitempty"`
	Result             *processResult   `json:"result,omitempty"`
}

type processResult struct {
	Liveness             *kyc.Liveness      `json:"liveness,omitempty"`
	Identity             *kyc.IdentityMatch `json:"identity,omitempty"`
	RiskScore            *int               `json:"risk_score,omitempty"`
	FraudProfile         *kyc.FraudProfile  `json:"fraud_profile,omitempty"`
	Authenticated        *bool              `json:"authenticated,omitempty"`
	GovernmentSimilarity *int               `json:"government_similarity,omitempty"`
	Document             *capturedDocument  `json:"document,omitempty"`
	TransactionID        *string            `json:"transaction_id,omitempty"`
	PersonName           *string            `json:"person_name,omitempty"`
	PersonDocument       *string            `json:"person_document,omitempty"`
	PersonImageURL       *string            `json:"person_image_url,omitempty"`
	Decision             *kyc.Decision      `json:"decision,omitempty"`
}

type capturedDocument struct {
	ID               string          `json:"id"`
	Type             *string         `json:"type,omitempty"`
	CpfMatch         *bool           `json:"cpf_match,omitempty"`
	FaceMatch        *bool           `json:"face_match,omitempty"`
	FaceMatchUnknown bool            `json:"face_match_unknown,omitempty"`
	Content          json.RawMessage `json:"content,omitempty"`
	FileURLs         []string        `json:"file_urls,omitempty"`
	FileURLsExpireAt *time.Time      `json:"file_urls_expire_at,omitempty"`
}

func newProcessContent(p *kyc.Process) processContent {
	s := p.Request
	c := processContent{
		DocumentNumber: s.DocumentNumber.Reveal(), Name: s.Name.Reveal(), Email: s.Email.Reveal(), Phone: s.Phone.Reveal(),
		Purpose: string(s.Purpose), ReusableDocumentID: s.ReusableDocumentID, Captured: s.Captured,
		Wanted: p.Wanted, Looks: p.Looks,
	}
	r := p.Result
	if r == nil {
		return c
	}
	c.Result = &processResult{
		Liveness: r.Liveness, Identity: r.Identity, RiskScore: r.RiskScore, FraudProfile: r.FraudProfile, Authenticated: r.Authenticated,
		GovernmentSimilarity: r.GovernmentSimilarity, TransactionID: r.TransactionID,
		PersonName: revealed(r.PersonName), PersonDocument: revealed(r.PersonDocument), PersonImageURL: revealed(r.PersonImageURL),
		Decision: r.Decision,
	}
	if d := r.Document; d != nil {
		out := &capturedDocument{ID: d.ID, Type: d.Type, CpfMatch: d.CpfMatch, FaceMatch: d.FaceMatch, FaceMatchUnknown: d.FaceMatchUnknown, FileURLsExpireAt: d.FileUrlsExpireAt}
		if d.Content != nil {
			out.Content = json.RawMessage(d.Content.Reveal())
		}
		for _, u := range d.FileUrls {
			out.FileURLs = append(out.FileURLs, u.Reveal())
		}
		c.Result.Document = out
	}
	return c
}

func (c *processContent) request() kyc.ProcessSubject {
	return kyc.ProcessSubject{
		DocumentNumber: kyc.NewDocumentNumber(c.DocumentNumber), Name: kyc.NewName(c.Name), Email: kyc.NewEmailAddress(c.Email),
		Phone: kyc.NewPhoneNumber(c.Phone), Purpose: kyc.DocumentPurpose(c.Purpose), ReusableDocumentID: c.ReusableDocumentID, Captured: c.Captured,
	}
}

func (r *processResult) result() *kyc.ProcessResult {
	if r == nil {
		return nil
	}
	out := &kyc.ProcessResult{
		Liveness: r.Liveness, Identity: r.Identity, RiskScore: r.RiskScore, FraudProfile: r.FraudProfile, Authenticated: r.Authenticated,
		GovernmentSimilarity: r.GovernmentSimilarity, TransactionID: r.TransactionID,
		PersonName: wrapped(r.PersonName, kyc.NewName), PersonDocument: wrapped(r.PersonDocument, kyc.NewDocumentNumber),
		PersonImageURL: wrapped(r.PersonImageURL, kyc.NewPersonalText), Decision: r.Decision,
	}
	if d := r.Document; d != nil {
		out.Document = &kyc.CapturedDocument{ID: d.ID, Type: d.Type, CpfMatch: d.CpfMatch, FaceMatch: d.FaceMatch, FaceMatchUnknown: d.FaceMatchUnknown, FileUrlsExpireAt: d.FileURLsExpireAt}
		if d.Content != nil {
			out.Document.Content = new(kyc.NewPersonalJSON(d.Content))
		}
		for _, u := range d.FileURLs {
			out.Document.FileUrls = append(out.Document.FileUrls, kyc.NewPersonalText(u))
		}
	}
	return out
}

func (t *tx) processRow(q *session, p *kyc.Process) (processRow, error) {
	capabilities := make([]string, len(p.Capabilities))
	for i, c := range p.Capabilities {
		capabilities[i] = string(c)
	}
	r := processRow{
		PartnerID: string(p.PartnerID), ID: string(p.ID), Kind: string(p.Kind), Capabilities: strings.Join(capabilities, " "), Provider: p.Provider,
		ProviderProcessID: p.ProviderProcessID, Submission: string(p.Submission), Status: string(p.Status),
		PersonID: (*string)(p.PersonID), ReferenceID: (*string)(p.ReferenceID), UseCase: p.UseCase,
		DocumentIndex: t.crypt.index(p.PartnerID, documentField, p.Request.DocumentNumber.Reveal()),
		CreatedAt:     newMicros(p.CreatedAt), UpdatedAt: newMicros(p.UpdatedAt), FinishedAt: maybeMicros(p.FinishedAt), Version: p.Version,
	}
	if p.Failure != nil {
		r.FailureCode = (*string)(&p.Failure.Code)
	}
	k, err := t.keyFor(q, p.PartnerID, p.KeyOwner())
	if err != nil {
		return r, err
	}
	r.SealedContent, err = k.sealJSON("processes", "content", r.ID, newProcessContent(p))
	return r, err
}

func (r *processRow) process(c *crypt, q *session) (*kyc.Process, error) {
	p := &kyc.Process{
		PartnerID: kyc.PartnerID(r.PartnerID), ID: kyc.ProcessID(r.ID), Kind: kyc.ProcessKind(r.Kind), Provider: r.Provider,
		ProviderProcessID: r.ProviderProcessID, Submission: kyc.Submission(r.Submission), Status: kyc.ProcessStatus(r.Status),
		PersonID: (*kyc.PersonID)(r.PersonID), ReferenceID: (*kyc.ProcessID)(r.ReferenceID), UseCase: r.UseCase,
		CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(), FinishedAt: r.FinishedAt.maybeTime(), Version: r.Version,
	}
	for _, c := range strings.Fields(r.Capabilities) {
		p.Capabilities = append(p.Capabilities, kyc.Capability(c))
	}
	if r.FailureCode != nil {
		p.Failure = kyc.NewFailure(kyc.FailureCode(*r.FailureCode))
	}
	k, err := c.open(q, p.PartnerID, p.KeyOwner(), r.wrappedKey)
	if err != nil {
		return nil, err
	}
	var content processContent
	if err := k.unsealJSON("processes", "content", r.ID, r.SealedContent, &content); err != nil {
		return nil, err
	}
	p.Request, p.Result, p.Wanted, p.Looks = content.request(), content.Result.result(), content.Wanted, content.Looks
	return p, nil
}

// Process implements [kyc.Reader].
func (r reader) Process(ctx context.Context, partner kyc.PartnerID, id kyc.ProcessID) (*kyc.Process, error) {
	return r.process(ctx, "store.process", `SELECT `+processColumns+`
		FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = coalesce(p.person_id, p.id)
		WHERE p.partner_id = ? AND p.id = ?`, partner, id)
}

// ProcessByProviderID implements [kyc.Reader].
func (r reader) ProcessByProviderID(ctx context.Context, provider, id string) (*kyc.Process, error) {
	return r.process(ctx, "store.process_by_provider_id", processByProviderID, provider, id)
}

// processByProviderID is asked for a provider's webhook, which does not know our partners.
const processByProviderID = `SELECT ` + processColumns + `
	FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = coalesce(p.person_id, p.id)
	WHERE p.provider = ? AND p.provider_process_id = ?`

func (r reader) process(ctx context.Context, op, query string, args ...any) (process *kyc.Process, err error) {
	err = r.use(ctx, op, func(_ context.Context, q *session) error {
		var row processRow
		found, err := q.get(&row, query, args...)
		if found {
			process, err = row.process(r.crypt, q)
		}
		return err
	})
	return process, err
}

// ProcessesByID implements [kyc.Reader].
func (r reader) ProcessesByID(ctx context.Context, partner kyc.PartnerID, ids []kyc.ProcessID) (map[kyc.ProcessID]*kyc.Process, error) {
	processes := make(map[kyc.ProcessID]*kyc.Process, len(ids))
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if len(ids) == 0 {
		return processes, nil
	}
	err := r.use(ctx, "store.processes_by_id", func(ctx context.Context, q *session) error {
		for some := range slices.Chunk(ids, maxListed) {
			query, args, err := listed(`SELECT `+processColumns+`
				FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = coalesce(p.person_id, p.id)
				WHERE p.partner_id = ? AND p.id IN (?)`, some, []any{partner}, nil)
			if err != nil {
				return err
			}
			found, err := r.processes(ctx, q, query, args)
			if err != nil {
				return err
			}
			for _, p := range found {
				processes[p.ID] = p
			}
		}
		return nil
	})
	return processes, err
}

func (r reader) processes(ctx context.Context, q *session, query string, args []any) ([]*kyc.Process, error) {
	var rows []processRow
	if err := q.all(ctx, &rows, query, args...); err != nil {
		return nil, err
	}
	out := make([]*kyc.Process, len(rows))
	for i := range rows {
		var err error
		if out[i], err = rows[i].process(r.crypt, q); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Processes implements [kyc.Reader].
func (r reader) Processes(ctx context.Context, partner kyc.PartnerID, filter kyc.ProcessFilter, page kyc.Page) (rows []*kyc.Process, more bool, err error) {
	query, args := filteredProcesses(`SELECT `+processColumns+`
		FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = coalesce(p.person_id, p.id)
		WHERE p.partner_id = ? AND p.version > 0`, partner, filter)
	if page.After != "" {
		query += ` AND p.id < ?`
		args = append(args, page.After)
	}
	first := max(page.First, 0) // SQLite takes a negative limit for none
	query += ` ORDER BY p.id DESC LIMIT ?`
	args = append(args, first+1)
	err = r.use(ctx, "store.processes", func(ctx context.Context, q *session) error {
		found, err := r.processes(ctx, q, query, args)
		if err != nil {
			return err
		}
		more = len(found) > first
		rows = found[:min(first, len(found))]
		return nil
	})
	return rows, more, err
}

// CountProcesses implements [kyc.Reader].
func (r reader) CountProcesses(ctx context.Context, partner kyc.PartnerID, filter kyc.ProcessFilter) (n int, err error) {
	query, args := filteredProcesses(`SELECT count(*) FROM processes p WHERE p.partner_id = ? AND p.version > 0`, partner, filter)
	err = r.use(ctx, "store.count_processes", func(ctx context.Context, q *session) error {
		_, err := q.value(ctx, &n, query, args...)
		return err
	})
	return n, err
}

func filteredProcesses(query string, partner kyc.PartnerID, f kyc.ProcessFilter) (string, []any) {
	args := []any{partner}
	if f.Kind != nil {
		query += ` AND p.kind = ?`
		args = append(args, *f.Kind)
	}
	if f.Status != nil {
		query += ` AND p.status = ?`
		args = append(args, *f.Status)
	}
	if f.Provider != nil {
		query += ` AND p.provider = ?`
		args = append(args, *f.Provider)
	}
	if f.CreatedAfter != nil {
		query += ` AND p.created_at > ?`
		args = append(args, newMicros(*f.CreatedAfter))
	}
	if f.CreatedBefore != nil {
		query += ` AND p.created_at < ?`
		args = append(args, newMicros(*f.CreatedBefore))
	}
	return query, args
}

// ProcessesOf implements [kyc.Reader].
func (r reader) ProcessesOf(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID, kind kyc.ProcessKind, page kyc.Page) (map[kyc.PersonID][]*kyc.Process, error) {
	processes := make(map[kyc.PersonID][]*kyc.Process, len(persons))
	after := page.After
	if after == "" {
		after = afterAll
	}
	err := r.forEach(ctx, "store.processes_of", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`
			WITH page AS (
				SELECT id, row_number() OVER (PARTITION BY person_id ORDER BY id DESC) AS n
				FROM processes WHERE partner_id = ? AND person_id IN (?) AND version > 0 AND id < ? AND (? = '' OR kind = ?))
			SELECT `+processColumns+` FROM page CROSS JOIN processes p ON p.partner_id = ? AND p.id = page.id
			CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = p.person_id
			WHERE page.n <= ? ORDER BY p.person_id, page.n`,
			some, []any{partner}, []any{after, kind, kind, partner, max(page.First, 0) + 1})
		if err != nil {
			return err
		}
		found, err := r.processes(ctx, q, query, args)
		for _, p := range found {
			processes[*p.PersonID] = append(processes[*p.PersonID], p)
		}
		return err
	})
	return processes, err
}

// CountProcessesOf implements [kyc.Reader].
func (r reader) CountProcessesOf(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID, kind kyc.ProcessKind) (map[kyc.PersonID]int, error) {
	return r.countOf(ctx, "store.count_processes_of", `SELECT person_id, count(*) AS n FROM processes
			WHERE partner_id = ? AND person_id IN (?) AND version > 0 AND (? = '' OR kind = ?) GROUP BY person_id`, partner, persons, kind, kind)
}

// openProcesses is asked for the operator's metric, in nobody's name.
const openProcesses = `SELECT provider, kind, status, count(*) AS n FROM processes
	WHERE status IN ('PROCESSING', 'DIVERGENT') GROUP BY provider, kind, status`

// lostCaptures makes the jobs due that waited for a provider to come back: the captures of all partners are gone with the process
// that held them.
const lostCaptures = `UPDATE jobs SET run_at = min(run_at, ?) WHERE dead = 0 AND kind = 'process' AND EXISTS
	(SELECT 1 FROM processes p WHERE p.partner_id = jobs.partner_id AND p.id = jobs.subject AND p.submission = 'PLANNED')`

// OpenProcesses implements [kyc.Reader].
func (r reader) OpenProcesses(ctx context.Context) (open []kyc.OpenProcesses, err error) {
	err = r.use(ctx, "store.open_processes", func(ctx context.Context, q *session) error {
		var found []struct {
			Provider string `db:"provider"`
			Kind     string `db:"kind"`
			Status   string `db:"status"`
			N        int    `db:"n"`
		}
		if err := q.all(ctx, &found, openProcesses); err != nil {
			return err
		}
		for _, f := range found {
			open = append(open, kyc.OpenProcesses{Provider: f.Provider, Kind: kyc.ProcessKind(f.Kind), Status: kyc.ProcessStatus(f.Status), Count: f.N})
		}
		return nil
	})
	return open, err
}

// InsertProcess implements [kyc.Tx].
func (t *tx) InsertProcess(ctx context.Context, p *kyc.Process) error {
	return t.use(ctx, "store.insert_process", func(_ context.Context, q *session) error {
		row, err := t.processRow(q, p)
		if err != nil {
			return err
		}
		_, err = q.execRow(`INSERT INTO processes (partner_id, id, kind, capabilities, provider, provider_process_id, submission, status, failure_code,
			person_id, document_index, reference_id, use_case, sealed_content, created_at, updated_at, finished_at, version)
			VALUES (:partner_id, :id, :kind, :capabilities, :provider, :provider_process_id, :submission, :status, :failure_code,
			:person_id, :document_index, :reference_id, :use_case, :sealed_content, :created_at, :updated_at, :finished_at, :version)`, row)
		if err != nil {
			return err
		}
		return t.processChanged(q, p)
	})
}

// UpdateProcess implements [kyc.Tx]. Updating a process that is not there is our mistake and fails. What it is about never changes, and
// whose it is by LinkProcesses only: who read it before that must read it again, because its key is another one now.
func (t *tx) UpdateProcess(ctx context.Context, p *kyc.Process) error {
	return t.use(ctx, "store.update_process", func(_ context.Context, q *session) error {
		row, err := t.processRow(q, p)
		if err != nil {
			return err
		}
		err = mustChange(q.execRow(`UPDATE processes SET provider_process_id = :provider_process_id, submission = :submission, status = :status,
			failure_code = :failure_code, sealed_content = :sealed_content, updated_at = :updated_at, finished_at = :finished_at, version = :version
			WHERE partner_id = :partner_id AND id = :id AND person_id IS :person_id`, row))
		if err != nil {
			return err
		}
		return t.processChanged(q, p)
	})
}

// LinkProcesses implements [kyc.Tx], as LinkFaces does for faces. The webhooks that were kept with a process go along.
func (t *tx) LinkProcesses(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, document kyc.DocumentNumber, at time.Time) (n int, err error) {
	err = t.use(ctx, "store.link_processes", func(ctx context.Context, q *session) error {
		found, err := t.processes(ctx, q, `SELECT `+processColumns+`
			FROM processes p CROSS JOIN data_keys k ON k.partner_id = p.partner_id AND k.owner = coalesce(p.person_id, p.id)
			WHERE p.partner_id = ? AND p.document_index = ? AND p.person_id IS NULL`,
			[]any{partner, t.crypt.index(partner, documentField, document.Reveal())})
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := t.moveCallbacks(ctx, q, partner, string(p.ID), string(person)); err != nil {
				return err
			}
			p.PersonID = &person
			if p.Version > 0 { // whose it is shows
				p.Version++
				p.UpdatedAt = at
			}
			row, err := t.processRow(q, p)
			if err != nil {
				return err
			}
			if err := mustChange(q.execRow(`UPDATE processes SET person_id = :person_id, sealed_content = :sealed_content, updated_at = :updated_at, version = :version
				WHERE partner_id = :partner_id AND id = :id`, row)); err != nil {
				return err
			}
			if err := t.dropKey(q, partner, string(p.ID)); err != nil {
				return err
			}
			if err := t.linkIdempotent(q, partner, person, string(p.ID)); err != nil {
				return err
			}
			if p.Version > 0 {
				if err := t.processChanged(q, p); err != nil {
					return err
				}
			}
		}
		n = len(found)
		return nil
	})
	return n, err
}

// moveCallbacks seals what was kept for one owner anew for another.
func (t *tx) moveCallbacks(ctx context.Context, q *session, partner kyc.PartnerID, from, to string) error {
	var rows []struct {
		Provider  string `db:"provider"`
		DedupeKey string `db:"dedupe_key"`
		Sealed    []byte `db:"sealed_body"`
	}
	if err := q.all(ctx, &rows, `SELECT provider, dedupe_key, sealed_body FROM callbacks WHERE partner_id = ? AND owner = ?`, partner, from); err != nil || len(rows) == 0 {
		return err
	}
	before, err := t.keyFor(q, partner, from)
	if err != nil {
		return err
	}
	after, err := t.keyFor(q, partner, to)
	if err != nil {
		return err
	}
	for _, r := range rows {
		name := r.Provider + " " + r.DedupeKey
		body, err := before.unseal("callbacks", "body", name, r.Sealed)
		if err != nil {
			return err
		}
		sealed, err := after.seal("callbacks", "body", name, body)
		if err != nil {
			return err
		}
		if _, err := q.exec(`UPDATE callbacks SET owner = ?, sealed_body = ? WHERE partner_id = ? AND provider = ? AND dedupe_key = ?`,
			to, sealed, partner, r.Provider, r.DedupeKey); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) processChanged(q *session, p *kyc.Process) error {
	c := change{partner: p.PartnerID, subject: string(p.ID), version: p.Version, kind: kyc.EventProcess, state: p.State(), fact: new(*p), at: p.UpdatedAt}
	if p.PersonID != nil {
		c.person = *p.PersonID
	}
	return t.changed(q, c)
}

// DeleteProcess implements [kyc.Tx].
func (t *tx) DeleteProcess(ctx context.Context, partner kyc.PartnerID, id kyc.ProcessID) error {
	return t.use(ctx, "store.delete_process", func(_ context.Context, q *session) error {
		if err := t.touchOwner(q, `SELECT person_id FROM processes WHERE partner_id = ? AND id = ?`, partner, kyc.EventProcess, string(id)); err != nil {
			return err
		}
		if _, err := q.exec(`DELETE FROM processes WHERE partner_id = ? AND id = ?`, partner, id); err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM callbacks WHERE partner_id = ? AND owner = ?`, // kept for it while it was nobody's
			`DELETE FROM events WHERE partner_id = ? AND subject = ?`,
		} {
			if _, err := q.exec(query, partner, id); err != nil {
				return err
			}
		}
		t.wake = append(t.wake, subjectKey{partner, string(id)}) // who follows it learns that it is gone
		return t.dropKey(q, partner, string(id))                 // its own, if it had one
	})
}

// earlyCallbacksLast is how long a webhook that came too early is remembered: an answer that takes longer is polled for.
const earlyCallbacksLast = time.Hour

// KeepEarlyCallback implements [kyc.Tx].
func (t *tx) KeepEarlyCallback(ctx context.Context, provider, reference string, at time.Time) error {
	return t.use(ctx, "store.keep_early_callback", func(_ context.Context, q *session) error {
		if _, err := q.exec(`DELETE FROM early_callbacks WHERE received_at < ?`, newMicros(at.Add(-earlyCallbacksLast))); err != nil {
			return err
		}
		_, err := q.exec(`INSERT INTO early_callbacks (provider, reference, received_at) VALUES (?, ?, ?) ON CONFLICT (provider, reference) DO NOTHING`,
			provider, reference, newMicros(at))
		return err
	})
}

// TakeEarlyCallback implements [kyc.Tx].
func (t *tx) TakeEarlyCallback(ctx context.Context, provider, reference string) (found bool, err error) {
	err = t.use(ctx, "store.take_early_callback", func(_ context.Context, q *session) error {
		n, err := q.exec(`DELETE FROM early_callbacks WHERE provider = ? AND reference = ?`, provider, reference)
		found = n > 0
		return err
	})
	return found, err
}
