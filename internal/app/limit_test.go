package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
	"github.com/oklog/ulid/v2"

	"github.com/kycgate/kycgate/kyc"
)

// The limit: what one writes by hand for one question, with net/http and database/sql, when nothing else is asked.
// It looks up the same rows in the same way, reads only the columns the answer shows, writes the same rows with the
// same durability, and answers the same bytes. It knows no GraphQL, tokens, tenants, limits, metrics or logs, and
// checks nothing. What the gateway is slower than this is what all that costs.
type limit struct {
	addr    string
	readers chan *limitReader
	writer  *limitWriter
	client  *http.Client
	submit  string // the URL of the upstream
}

// newLimit serves the limit on a database of plain columns (testdata/limit.sql).
func newLimit(b *testing.B, path, upstream string) *limit {
	b.Helper()
	l := &limit{
		readers: make(chan *limitReader, limitReaders), submit: upstream + "/onboarding/natural_person?analyze=true",
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /persons/{id}", l.person)
	mux.HandleFunc("GET /masked-persons/{id}", l.maskedPerson)
	mux.HandleFunc("GET /persons", l.persons)
	mux.HandleFunc("POST /registrations", l.register)
	mux.HandleFunc("POST /analysed-registrations", l.registerAnalysed)
	server := httptest.NewServer(mux)
	l.addr = server.Listener.Addr().String()

	reading, err := sql.Open("sqlite3", "file:"+path+"?mode=ro&_query_only=true&_busy_timeout=5000")
	benchMust(b, err)
	for range limitReaders {
		l.readers <- newLimitReader(b, reading)
	}
	l.writer = newLimitWriter(b, path)
	b.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		l.client.CloseIdleConnections()
		_ = reading.Close()
		l.writer.close()
	})
	return l
}

const limitReaders = 4

// limitFiller makes the limit's database of the same persons.
type limitFiller struct {
	db *sql.DB
	tx *sql.Tx
}

func newLimitFiller(b *testing.B, path string) *limitFiller {
	b.Helper()
	schema, err := os.ReadFile("testdata/limit.sql")
	benchMust(b, err)
	db, err := sql.Open("sqlite3", "file:"+path+"?_journal_mode=WAL&_synchronous=FULL&_foreign_keys=on")
	benchMust(b, err)
	_, err = db.ExecContext(context.Background(), string(schema))
	benchMust(b, err)
	tx, err := db.BeginTx(context.Background(), nil)
	benchMust(b, err)
	return &limitFiller{db, tx}
}

func (f *limitFiller) close(b *testing.B) {
	b.Helper()
	benchMust(b, f.tx.Commit())
	benchMust(b, f.db.Close())
}

func (f *limitFiller) add(p *kyc.Person, r *kyc.Registration, externalIDs []string) error {
	emails := make([]string, len(p.Emails))
	for i, e := range p.Emails {
		emails[i] = e.Address.Reveal()
	}
	phones := make([]limitPhone, len(p.Phones))
	for i, n := range p.Phones {
		phones[i] = limitPhone{Number: n.Number.Reveal(), Type: (*string)(n.Type)}
	}
	revealed := func(t *kyc.PersonalText) *string {
		if t == nil {
			return nil
		}
		s := t.Reveal()
		return &s
	}
	snapshot := limitSnapshot{
		DocumentNumber: p.DocumentNumber.Reveal(), Name: p.Name.Reveal(), Birthdate: p.Birthdate.Reveal(), Emails: emails, Phones: phones,
		Address: limitStoredAddress{
			Street: p.Address.Street.Reveal(), Number: revealed(p.Address.Number), Complement: revealed(p.Address.Complement),
			Neighborhood: revealed(p.Address.Neighborhood), City: p.Address.City, State: p.Address.State,
			PostalCode: p.Address.PostalCode.Reveal(), Country: p.Address.Country,
		},
	}
	text := func(v any) string {
		b, _ := json.Marshal(v) // strings only
		return string(b)
	}
	at := p.CreatedAt.UnixMicro()
	exec := func(query string, args ...any) error {
		_, err := f.tx.ExecContext(context.Background(), query, args...)
		return err
	}
	if err := exec(`INSERT INTO persons (partner_id, id, document_number, name, birthdate, emails, phones, address, source_kyc, kyc_status,
		kyc_provider_status, kyc_decided_by, kyc_decided_at, kyc_analyses, latest_analysis_id, created_at, updated_at, version)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		p.PartnerID, p.ID, snapshot.DocumentNumber, snapshot.Name, snapshot.Birthdate, text(emails), text(phones), text(snapshot.Address), p.SourceKyc,
		p.Kyc.Status, p.Kyc.ProviderStatus, (*string)(p.Kyc.DecidedBy), at, p.Kyc.Analyses, p.LatestAnalysis, at, at, p.Version); err != nil {
		return err
	}
	for i, id := range externalIDs {
		if err := exec(`INSERT INTO external_ids (partner_id, external_id, person_id, mapped_at, seq) VALUES (?, ?, ?, ?, ?)`,
			p.PartnerID, id, p.ID, p.CreatedAt.Add(time.Duration(i)*time.Hour).UnixMicro(), i+1); err != nil {
			return err
		}
	}
	return exec(`INSERT INTO registrations (person_id, id, partner_id, external_id, received_at, payload, profile, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		p.ID, r.ID, p.PartnerID, *r.ExternalID, at, string(r.Payload), text(snapshot), r.Outcome)
}

// limitReader is a connection with its prepared statements. The plus before each parameter is what keeps SQLite 3.54
// from preparing a statement again at every run; see store/session.go.
type limitReader struct{ person, externalIDs, page, pageIDs *sql.Stmt }

func newLimitReader(b *testing.B, db *sql.DB) *limitReader {
	b.Helper()
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	benchMust(b, err)
	_, err = conn.ExecContext(ctx, `PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 268435456`)
	benchMust(b, err)
	prepare := func(query string) *sql.Stmt {
		s, err := conn.PrepareContext(ctx, query)
		benchMust(b, err)
		return s
	}
	return &limitReader{
		person: prepare(`SELECT name, emails, phones, address, kyc_status, kyc_provider_status, kyc_reason, kyc_decided_by, kyc_decided_at, kyc_analyses
			FROM persons WHERE partner_id = +? AND id = +? AND version > 0`),
		externalIDs: prepare(`SELECT external_id, mapped_at FROM external_ids WHERE partner_id = +? AND person_id = +? ORDER BY mapped_at, seq`),
		page:        prepare(`SELECT id, name, kyc_status FROM persons WHERE partner_id = +? AND version > 0 AND id < +? ORDER BY id DESC LIMIT +?`),
		pageIDs: prepare(`SELECT person_id, external_id FROM external_ids WHERE partner_id = +? AND person_id IN (+?` + strings.Repeat(`,+?`, benchPage-1) + `)
			ORDER BY person_id, mapped_at, seq`),
	}
}

func (l *limit) person(w http.ResponseWriter, r *http.Request)       { l.onePerson(w, r, plain) }
func (l *limit) maskedPerson(w http.ResponseWriter, r *http.Request) { l.onePerson(w, r, masked) }

func (l *limit) onePerson(w http.ResponseWriter, r *http.Request, s secrets) {
	q := <-l.readers
	defer func() { l.readers <- q }()
	id := r.PathValue("id")
	var name, emailsJSON, phonesJSON, addressJSON []byte
	var status string
	var providerStatus, reason, decidedBy *string
	var decidedAt *int64
	var analyses int
	//nolint:rowserrcheck // a hand-written limit: one row is read and its absence shows in the answer
	rows, err := q.person.Query(benchQITech, id)
	if err != nil {
		limitFail(w, err)
		return
	}
	found := rows.Next()
	if found {
		err = rows.Scan(&name, &emailsJSON, &phonesJSON, &addressJSON, &status, &providerStatus, &reason, &decidedBy, &decidedAt, &analyses)
	}
	if err = errors.Join(err, rows.Close()); err != nil || !found {
		limitFail(w, err)
		return
	}
	var emails []string
	var phones []struct {
		Number string
		Type   *string
	}
	var address struct {
		Street, City, State, Country     string
		Number, Complement, Neighborhood *string
		PostalCode                       string `json:"postal_code"`
	}
	if err := errors.Join(json.Unmarshal(emailsJSON, &emails), json.Unmarshal(phonesJSON, &phones), json.Unmarshal(addressJSON, &address)); err != nil {
		limitFail(w, err)
		return
	}
	b := make([]byte, 0, 1024)
	b = append(append(append(b, `{"data":{"person":{"id":"`...), id...), `","name":`...)
	b = quoted(b, s.name(string(name)))
	b = append(b, `,"emails":[`...)
	for i, e := range emails {
		b = quoted(append(comma(b, i), `{"address":`...), s.email(e))
		b = append(b, '}')
	}
	b = append(b, `],"phones":[`...)
	for i, p := range phones {
		b = quoted(append(comma(b, i), `{"number":`...), s.phone(p.Number))
		b = append(maybe(append(b, `,"type":`...), p.Type), '}')
	}
	b = quoted(append(b, `],"address":{"street":`...), s.text(address.Street))
	b = maybe(append(b, `,"number":`...), s.maybe(address.Number))
	b = maybe(append(b, `,"complement":`...), s.maybe(address.Complement))
	b = maybe(append(b, `,"neighborhood":`...), s.maybe(address.Neighborhood))
	b = quoted(append(b, `,"city":`...), address.City)
	b = quoted(append(b, `,"state":`...), address.State)
	b = quoted(append(b, `,"postalCode":`...), s.text(address.PostalCode))
	b = quoted(append(b, `,"country":`...), address.Country)
	b = quoted(append(b, `},"kyc":{"status":`...), status)
	b = maybe(append(b, `,"providerStatus":`...), providerStatus)
	b = maybe(append(b, `,"reason":`...), reason)
	b = maybe(append(b, `,"decidedBy":`...), decidedBy)
	b = append(b, `,"decidedAt":`...)
	if decidedAt == nil {
		b = append(b, `null`...)
	} else {
		b = instant(b, *decidedAt)
	}
	b = strconv.AppendInt(append(b, `,"analyses":`...), int64(analyses), 10)
	b = append(b, `},"externalIds":[`...)
	if rows, err = q.externalIDs.Query(benchQITech, id); err != nil {
		limitFail(w, err)
		return
	}
	for i := 0; rows.Next(); i++ {
		var value string
		var at int64
		if err = rows.Scan(&value, &at); err != nil {
			break
		}
		b = quoted(append(comma(b, i), `{"value":`...), value)
		b = append(instant(append(b, `,"mappedAt":`...), at), '}')
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		limitFail(w, err)
		return
	}
	limitAnswer(w, append(b, `]}}}`...))
}

// persons is a page, asked for with the cursor of the one before.
func (l *limit) persons(w http.ResponseWriter, r *http.Request) {
	after, err := base64.RawURLEncoding.DecodeString(r.URL.RawQuery)
	if err != nil {
		limitFail(w, err)
		return
	}
	q := <-l.readers
	defer func() { l.readers <- q }()
	type person struct {
		id, name, status string
		externalIDs      []string
	}
	page := make([]person, 0, benchPage+1)
	rows, err := q.page.Query(benchQITech, string(after), benchPage+1)
	if err != nil {
		limitFail(w, err)
		return
	}
	for rows.Next() {
		var p person
		if err = rows.Scan(&p.id, &p.name, &p.status); err != nil {
			break
		}
		page = append(page, p)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil || len(page) <= benchPage {
		limitFail(w, err)
		return
	}
	page = page[:benchPage]
	args := make([]any, 1, benchPage+1)
	args[0] = benchQITech
	at := make(map[string]int, benchPage)
	for i, p := range page {
		args = append(args, p.id)
		at[p.id] = i
	}
	if rows, err = q.pageIDs.Query(args...); err != nil {
		limitFail(w, err)
		return
	}
	for rows.Next() {
		var id, value string
		if err = rows.Scan(&id, &value); err != nil {
			break
		}
		p := &page[at[id]]
		p.externalIDs = append(p.externalIDs, value)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		limitFail(w, err)
		return
	}
	b := make([]byte, 0, 16<<10)
	b = append(b, `{"data":{"persons":{"nodes":[`...)
	for i, p := range page {
		b = append(append(comma(b, i), `{"id":"`...), p.id...)
		b = quoted(append(b, `","name":`...), p.name)
		b = append(append(append(b, `,"kyc":{"status":"`...), p.status...), `"},"externalIds":[`...)
		for i, e := range p.externalIDs {
			b = append(quoted(append(comma(b, i), `{"value":`...), e), '}')
		}
		b = append(b, `]}`...)
	}
	b = append(b, `],"pageInfo":{"hasNextPage":true,"endCursor":"`...)
	b = base64.RawURLEncoding.AppendEncode(b, []byte(page[benchPage-1].id))
	limitAnswer(w, append(b, `"}}}}`...))
}

// limitInput is what is registered: the same JSON as the mutation's variable.
type limitInput struct {
	ExternalID     string       `json:"externalId"`
	Name           string       `json:"name"`
	DocumentNumber string       `json:"documentNumber"`
	Birthdate      string       `json:"birthdate"`
	Emails         []limitEmail `json:"emails"`
	Phones         []limitPhone `json:"phones"`
	Address        limitAddress `json:"address"`
}

type limitEmail struct {
	Address string `json:"address"`
}

type limitPhone struct {
	Number string  `json:"number"`
	Type   *string `json:"type,omitempty"`
}

type limitAddress struct {
	Street       string  `json:"street"`
	Number       *string `json:"number,omitempty"`
	Complement   *string `json:"complement,omitempty"`
	Neighborhood *string `json:"neighborhood,omitempty"`
	City         string  `json:"city"`
	State        string  `json:"state"`
	PostalCode   string  `json:"postalCode"`
	Country      string  `json:"country"`
}

// limitStoredAddress and limitSnapshot are what the rows hold as JSON.
type limitStoredAddress struct {
	Street       string  `json:"street"`
	Number       *string `json:"number,omitempty"`
	Complement   *string `json:"complement,omitempty"`
	Neighborhood *string `json:"neighborhood,omitempty"`
	City         string  `json:"city"`
	State        string  `json:"state"`
	PostalCode   string  `json:"postal_code"`
	Country      string  `json:"country"`
}

type limitSnapshot struct {
	DocumentNumber string             `json:"document_number"`
	Name           string             `json:"name"`
	Birthdate      string             `json:"birthdate"`
	Emails         []string           `json:"emails"`
	Phones         []limitPhone       `json:"phones"`
	Address        limitStoredAddress `json:"address"`
}

// limitRegistration is one on its way, with everything it writes made before the writer is asked.
type limitRegistration struct {
	limitInput
	payload, emails, phones, address, profile string
	person, registration, analysis, job       string
	now                                       int64
}

func readRegistration(r *http.Request) (*limitRegistration, error) {
	body := bytes.NewBuffer(make([]byte, 0, r.ContentLength+bytes.MinRead))
	if _, err := body.ReadFrom(r.Body); err != nil {
		return nil, err
	}
	g := &limitRegistration{
		payload: body.String(), now: time.Now().UnixMicro(),
		person: "per_" + ulid.Make().String(), registration: "reg_" + ulid.Make().String(),
	}
	if err := json.Unmarshal(body.Bytes(), &g.limitInput); err != nil {
		return nil, err
	}
	s := limitSnapshot{
		DocumentNumber: g.DocumentNumber, Name: g.Name, Birthdate: g.Birthdate, Emails: make([]string, len(g.Emails)), Phones: g.Phones,
		Address: limitStoredAddress(g.Address),
	}
	s.Address.PostalCode = strings.Replace(s.Address.PostalCode, "-", "", 1)
	for i, e := range g.Emails {
		s.Emails[i] = e.Address
	}
	text := func(v any) string {
		b, _ := json.Marshal(v) // it is strings all the way down
		return string(b)
	}
	g.emails, g.phones, g.address, g.profile = text(s.Emails), text(s.Phones), text(s.Address), text(s)
	return g, nil
}

// register is a registration that nobody decides.
func (l *limit) register(w http.ResponseWriter, r *http.Request) {
	g, err := readRegistration(r)
	if err == nil {
		err = l.writer.do(func(q *limitWriter) error { return g.insert(q, benchOpenCo, "OPENCO", "NOT_REQUIRED", "CREATED", 1) })
	}
	if err != nil {
		limitFail(w, err)
		return
	}
	limitAnswer(w, registered(g, "NOT_REQUIRED", nil))
}

// registerAnalysed is a registration that the upstream decides: commit, call, commit.
func (l *limit) registerAnalysed(w http.ResponseWriter, r *http.Request) {
	g, err := readRegistration(r)
	if err != nil {
		limitFail(w, err)
		return
	}
	g.analysis, g.job = "ana_"+ulid.Make().String(), "job_"+ulid.Make().String()
	lease := g.now + 15_000_000
	err = l.writer.do(func(q *limitWriter) error {
		if err := g.insert(q, benchQITech, "QITECH", "PENDING", "", 0); err != nil {
			return err
		}
		if err := q.exec(`INSERT INTO analyses (id, partner_id, person_id, registration_id, provider, submission, status, provider_status, provider_key, reason,
			created_at, updated_at) VALUES (?, ?, ?, ?, 'qitech', 'SENT', 'PENDING', '', '', '', ?, ?)`,
			g.analysis, benchQITech, g.person, g.registration, g.now, g.now); err != nil {
			return err
		}
		if err := q.exec(`INSERT INTO provider_calls (partner_id, provider, operation, reference, number, started_at) VALUES (?, 'qitech', 'analyze_person', ?, 1, ?)`,
			benchQITech, g.analysis, g.now); err != nil {
			return err
		}
		return q.exec(`INSERT INTO jobs (id, kind, partner_id, subject, run_at, leased, hinted, attempt, failures, created_at) VALUES (?, 'person_analysis', ?, ?, ?, 1, 0, 1, 0, ?)`,
			g.job, benchQITech, g.analysis, lease, g.now)
	})
	if err != nil {
		limitFail(w, err)
		return
	}
	verdict, err := l.analyse(r.Context(), g)
	if err != nil {
		limitFail(w, err)
		return
	}
	now := time.Now().UnixMicro()
	err = l.writer.do(func(q *limitWriter) error {
		if err := q.exec(`UPDATE provider_calls SET outcome = 'SUCCEEDED', code = '', ended_at = ?
			WHERE seq = (SELECT max(seq) FROM provider_calls WHERE reference = +? AND operation = 'analyze_person' AND outcome IS NULL)`, now, g.analysis); err != nil {
			return err
		}
		if err := q.exec(`UPDATE analyses SET submission = 'ACCEPTED', status = 'APPROVED', provider_status = ?, provider_key = ?, decided_by = 'AUTOMATIC', decided_at = ?, updated_at = ?
			WHERE id = +? AND status NOT IN ('APPROVED', 'REJECTED')`, verdict.Status, verdict.Key, now, now, g.analysis); err != nil {
			return err
		}
		if err := q.exec(`UPDATE persons SET kyc_status = 'APPROVED', kyc_provider_status = ?, kyc_decided_by = 'AUTOMATIC', kyc_decided_at = ?, kyc_analyses = kyc_analyses + 1,
			latest_analysis_id = ?, updated_at = ?, version = version + 1 WHERE partner_id = +? AND id = +?`, verdict.Status, now, g.analysis, now, benchQITech, g.person); err != nil {
			return err
		}
		if err := q.exec(`UPDATE registrations SET outcome = 'CREATED' WHERE partner_id = +? AND person_id = +? AND id = +?`, benchQITech, g.person, g.registration); err != nil {
			return err
		}
		return q.exec(`DELETE FROM jobs WHERE id = +? AND attempt = 1 AND leased = 1`, g.job)
	})
	if err != nil {
		limitFail(w, err)
		return
	}
	limitAnswer(w, registered(g, "APPROVED", &verdict.Status))
}

func (g *limitRegistration) insert(q *limitWriter, partner, source, status, outcome string, version int) error {
	existing, err := q.value(`SELECT id FROM persons WHERE partner_id = +? AND document_number = +?`, partner, g.DocumentNumber)
	if err != nil {
		return err
	}
	mapped, err := q.value(`SELECT person_id FROM external_ids WHERE partner_id = +? AND external_id = +?`, partner, g.ExternalID)
	if err != nil {
		return err
	}
	if existing != "" || mapped != "" {
		return errors.New("known already: the benchmark registers new persons only")
	}
	if err := q.exec(`INSERT INTO persons (partner_id, id, document_number, name, birthdate, emails, phones, address, source_kyc, kyc_status, kyc_analyses,
		latest_analysis_id, created_at, updated_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, ?)`,
		partner, g.person, g.DocumentNumber, g.Name, g.Birthdate, g.emails, g.phones, g.address, source, status, g.now, g.now, version); err != nil {
		return err
	}
	if err := q.exec(`INSERT INTO external_ids (partner_id, external_id, person_id, mapped_at, seq) VALUES (?, ?, ?, ?, 1)`,
		partner, g.ExternalID, g.person, g.now); err != nil {
		return err
	}
	return q.exec(`INSERT INTO registrations (person_id, id, partner_id, external_id, received_at, payload, profile, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		g.person, g.registration, partner, g.ExternalID, g.now, g.payload, g.profile, outcome)
}

func registered(g *limitRegistration, status string, providerStatus *string) []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"data":{"registerPerson":{"outcome":"CREATED","person":{"id":"`...)
	b = append(append(b, g.person...), `","kyc":{"status":"`...)
	b = maybe(append(append(b, status...), `","providerStatus":`...), providerStatus)
	return append(b, `}},"userErrors":[]}}}`...)
}

type limitSubmission struct {
	ID               string `json:"id"`
	RegistrationID   string `json:"registration_id"`
	RegistrationDate string `json:"registration_date"`
	Name             string `json:"name"`
	DocumentNumber   string `json:"document_number"`
	Birthdate        string `json:"birthdate"`
	Emails           []struct {
		Email string `json:"email"`
	} `json:"emails"`
	Phones  []limitPhone       `json:"phones"`
	Address limitStoredAddress `json:"address"`
}

type limitVerdict struct {
	Status string `json:"analysis_status"`
	Key    string `json:"natural_person_key"`
}

// analyse is the one call.
func (l *limit) analyse(ctx context.Context, g *limitRegistration) (v limitVerdict, err error) {
	s := limitSubmission{
		ID: g.analysis, RegistrationID: g.person, RegistrationDate: time.UnixMicro(g.now).UTC().Format(time.RFC3339), Name: g.Name,
		DocumentNumber: g.DocumentNumber, Birthdate: g.Birthdate, Phones: g.Phones, Address: limitStoredAddress(g.Address),
	}
	for _, e := range g.Emails {
		s.Emails = append(s.Emails, struct {
			Email string `json:"email"`
		}{e.Address})
	}
	body, err := json.Marshal(s)
	if err != nil {
		return v, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.submit, bytes.NewReader(body))
	if err != nil {
		return v, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "key")
	resp, err := l.client.Do(req)
	if err != nil {
		return v, err
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, err
	}
	if v.Status != "automatically_approved" {
		return v, fmt.Errorf("the upstream says %q", v.Status)
	}
	return v, nil
}

// limitWriter is group commit in its simplest form: whoever comes while a group runs is in the next one, each in a savepoint
// of its own, and everyone is answered after the one fsync.
type limitWriter struct {
	db      *sql.DB
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	queue   chan *limitWrite
	ended   chan struct{}
	commits atomic.Int64
}

type limitWrite struct {
	fn   func(*limitWriter) error
	done chan error
}

const limitGroup = 128

func newLimitWriter(b *testing.B, path string) *limitWriter {
	b.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=rw&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=5000&_foreign_keys=on&_secure_delete=on")
	benchMust(b, err)
	w := &limitWriter{db: db, stmts: make(map[string]*sql.Stmt), queue: make(chan *limitWrite, limitGroup), ended: make(chan struct{})}
	w.conn, err = db.Conn(context.Background())
	benchMust(b, err)
	_, err = w.conn.ExecContext(context.Background(), `PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000`)
	benchMust(b, err)
	go w.loop()
	return w
}

func (w *limitWriter) close() {
	close(w.queue)
	<-w.ended
	_ = w.conn.Close()
	_ = w.db.Close()
}

func (w *limitWriter) do(fn func(*limitWriter) error) error {
	r := &limitWrite{fn, make(chan error, 1)}
	w.queue <- r
	return <-r.done
}

func (w *limitWriter) loop() {
	defer close(w.ended)
	members := make([]*limitWrite, 0, limitGroup)
	for r := range w.queue {
		if err := w.exec(`BEGIN IMMEDIATE`); err != nil {
			r.done <- err
			continue
		}
		members = members[:0]
		for more := true; more; {
			if err := w.run(r); err != nil {
				r.done <- err
			} else {
				members = append(members, r)
			}
			if len(members) == limitGroup {
				break
			}
			select {
			case r, more = <-w.queue:
			default:
				more = false
			}
		}
		w.commits.Add(1)
		err := w.exec(`COMMIT`)
		for _, m := range members {
			m.done <- err
		}
	}
}

func (w *limitWriter) run(r *limitWrite) error {
	if err := w.exec(`SAVEPOINT w`); err != nil {
		return err
	}
	err := r.fn(w)
	if err != nil {
		err = errors.Join(err, w.exec(`ROLLBACK TO w`))
	}
	return errors.Join(err, w.exec(`RELEASE w`))
}

func (w *limitWriter) stmt(query string) (*sql.Stmt, error) {
	s := w.stmts[query]
	if s == nil {
		var err error
		if s, err = w.conn.PrepareContext(context.Background(), query); err != nil {
			return nil, err
		}
		w.stmts[query] = s
	}
	return s, nil
}

func (w *limitWriter) exec(query string, args ...any) error {
	s, err := w.stmt(query)
	if err == nil {
		_, err = s.Exec(args...)
	}
	return err
}

func (w *limitWriter) value(query string, args ...any) (v string, err error) {
	s, err := w.stmt(query)
	if err != nil {
		return "", err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return "", err
	}
	if rows.Next() {
		err = rows.Scan(&v)
	}
	return v, errors.Join(err, rows.Err(), rows.Close())
}

func limitAnswer(w http.ResponseWriter, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

func limitFail(w http.ResponseWriter, err error) {
	http.Error(w, fmt.Sprint(err), http.StatusInternalServerError)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func maybe(b []byte, s *string) []byte {
	if s == nil {
		return append(b, `null`...)
	}
	return quoted(b, *s)
}

func instant(b []byte, micros int64) []byte {
	b = time.UnixMicro(micros).UTC().AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"')
}

// quoted appends a JSON string. What needs no escape, which is nearly all, is copied.
func quoted(b []byte, s string) []byte {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&':
			return escaped(b, s)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && (!utf8.ValidString(s) || strings.ContainsAny(s, "\u2028\u2029")) {
		return escaped(b, s)
	}
	return append(append(append(b, '"'), s...), '"')
}

func escaped(b []byte, s string) []byte {
	j, _ := json.Marshal(s)
	return append(b, j...)
}

// secrets is how personal values are shown.
type secrets struct{ name, email, phone, text func(string) string }

func (s secrets) maybe(v *string) *string {
	if v == nil {
		return nil
	}
	shown := s.text(*v)
	return &shown
}

func same(s string) string { return s }

var plain = secrets{same, same, same, same}

// masked is the contract's masks, as far as our 20,000 persons need them: Brazilian phones, ASCII mailboxes.
var masked = secrets{
	name: func(s string) string {
		parts := strings.Fields(s)
		for i, p := range parts {
			_, n := utf8.DecodeRuneInString(p)
			parts[i] = p[:n] + "***"
		}
		return strings.Join(parts, " ")
	},
	email: func(s string) string {
		mailbox, domain, _ := strings.Cut(s, "@")
		return mailbox[:1] + "***@" + domain[:1] + "***" + domain[strings.LastIndexByte(domain, '.'):]
	},
	phone: func(s string) string { return s[:3] + "*******" + s[len(s)-2:] },
	text:  func(string) string { return "***" },
}

// fakeUpstream approves everyone after a while. It is QI Tech for both contenders. The while is spread by a fifth to both sides:
// callers who are all answered at the same moment ask again at the same moment, share one commit and stay in step, and what
// is measured then is their queue.
func fakeUpstream(b *testing.B, after time.Duration) (url string) {
	b.Helper()
	approval := []byte(`{"analysis_status":"automatically_approved","natural_person_key":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff"}`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if after > 0 {
			time.Sleep(after*4/5 + rand.N(after*2/5))
		}
		limitAnswer(w, approval)
	}))
	b.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}
