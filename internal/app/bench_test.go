package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/store"
)

// The workloads of the project's budgets, over loopback HTTP, with authentication, tenancy, masking, metrics and logs on.
// What the figures mean, and how to run them for the table, is in docs/benchmarks.md.
//
// Each workload has three benchmarks: gateway and limit (limit_test.go) ask b.N times each and show time, allocations and
// commits; ratio lets the two take turns, b.N of them, and shows the median of limit over gateway.

const (
	benchPersons = 20_000
	benchPage    = 50
	benchTurn    = 500 * time.Millisecond

	// gatewayGC is the GOGC that serve runs with; the limit has Go's own default.
	gatewayGC = app.GCPercent
	defaultGC = 100

	benchQITech = "acme"   // decided by QI Tech
	benchOpenCo = "bazaar" // decided by nobody
)

func BenchmarkW1Person(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 32, benchTurn, w.queryPerson(b, kyc.PersonsRead, kyc.PIIRead), w.limitPerson("/persons/"))
}

func BenchmarkW1PersonMasked(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 32, benchTurn, w.queryPerson(b, kyc.PersonsRead), w.limitPerson("/masked-persons/"))
}

func BenchmarkW2Persons(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 32, benchTurn, w.queryPersons(b), w.limitPersons())
}

func BenchmarkW3RegistrationOneCaller(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 1, benchTurn, w.register(b, benchOpenCo, notRequired), w.limitRegister("/registrations", notRequired))
}

func BenchmarkW3Registration(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 32, benchTurn, w.register(b, benchOpenCo, notRequired), w.limitRegister("/registrations", notRequired))
}

func BenchmarkW4Analysis(b *testing.B) {
	w := newWorkload(b, 0)
	compare(b, 32, benchTurn, w.register(b, benchQITech, approved), w.limitRegister("/analysed-registrations", approved))
}

func BenchmarkW4AnalysisSlowUpstream(b *testing.B) {
	w := newWorkload(b, 50*time.Millisecond)
	compare(b, 512, 2*benchTurn, w.register(b, benchQITech, approved), w.limitRegister("/analysed-registrations", approved))
}

// BenchmarkW4Added shows what the gateway adds to the median time of calling the upstream directly. An iteration is a turn
// of each.
func BenchmarkW4Added(b *testing.B) {
	w := newWorkload(b, 50*time.Millisecond)
	upstream := &contender{addr: strings.TrimPrefix(w.upstream, "http://"), want: "automatically_approved", request: post("/onboarding/natural_person?analyze=true", "", wireExample), gc: defaultGC}
	contenders := []*contender{w.register(b, benchQITech, approved), w.limitRegister("/analysed-registrations", approved), upstream}
	for _, c := range contenders {
		c.open(b, 64)
	}
	var gateway, limit []float64
	for b.Loop() {
		var p50 [3]float64
		for i, c := range contenders {
			p50[i] = ms(c.run(b, 0, 2*benchTurn).median())
		}
		gateway, limit = append(gateway, p50[0]-p50[2]), append(limit, p50[1]-p50[2])
	}
	b.ReportMetric(median(gateway), "added-p50-ms")
	b.ReportMetric(median(limit), "limit-added-p50-ms")
	b.ReportMetric(0, "ns/op")
}

const (
	notRequired = `"status":"NOT_REQUIRED"`
	approved    = `"status":"APPROVED"`
)

// BenchmarkStart starts the real binary on an existing database. An iteration is a start, to the first 200 of /readyz.
func BenchmarkStart(b *testing.B) {
	w := newWorkload(b, 0)
	w.stop()
	binary := w.build(b)
	var starts []float64
	for b.Loop() {
		p := w.serve(b, binary)
		starts = append(starts, ms(p.start))
		p.end(b)
	}
	b.ReportMetric(median(starts), "ready-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkMemory drives the real binary with W1 and shows its anonymous resident memory. An iteration is a second.
func BenchmarkMemory(b *testing.B) {
	w := newWorkload(b, 0)
	w.stop()
	p := w.serve(b, w.build(b))
	defer p.end(b)
	idle := p.anonymous(b)
	c := w.queryPerson(b, kyc.PersonsRead, kyc.PIIRead)
	c.addr = p.addr
	c.open(b, 32)
	peak := idle
	for b.Loop() {
		for range 10 {
			c.run(b, 0, 100*time.Millisecond)
			peak = max(peak, p.anonymous(b))
		}
	}
	b.ReportMetric(idle, "idle-MB")
	b.ReportMetric(peak, "peak-MB")
	b.ReportMetric(0, "ns/op")
}

// workload is a gateway and its limit, each on its own copy of the same 20,000 persons.
type workload struct {
	dir, upstream string
	config        config.Config
	signer        *auth.Signer
	addr, admin   string // of the gateway
	limit         *limit
	persons       []kyc.PersonID
	stop          func()
}

func newWorkload(b *testing.B, upstreamAnswers time.Duration) *workload {
	b.Helper()
	w := &workload{dir: b.TempDir()}
	path := filepath.Join(w.dir, "kycgate.db")
	copied := filepath.Join(w.dir, "limit.db")
	w.persons = fill(b, path, copied)

	w.upstream = fakeUpstream(b, upstreamAnswers)
	jwks, signing, err := auth.GenerateKey(w.dir)
	benchMust(b, err)
	c := config.Default()
	c.Environment = config.Sandbox
	c.Listen, c.AdminListen, c.PublicURL = "127.0.0.1:0", "127.0.0.1:0", "http://127.0.0.1:1"
	c.Database.URL = config.NewSecret("sqlite://" + path)
	c.Auth.Issuer, c.Auth.Audience, c.Auth.JWKSFile, c.Auth.SigningKeyFile = "https://issuer.test", "kycgate", jwks, signing
	q := config.DefaultQITech()
	q.BaseURL, q.APIKey, q.MaxConcurrent = w.upstream, config.NewSecret("key"), 512
	c.Providers.QITech = q
	c.Partners = []config.Partner{{ID: benchQITech, SourceKYC: config.SourceQITech}, {ID: benchOpenCo, SourceKYC: config.SourceOpenCo}}
	benchMust(b, c.Validate())
	w.config = c
	w.signer, err = auth.NewSigner(c)
	benchMust(b, err)
	w.start(b)

	w.limit = newLimit(b, copied, w.upstream)
	return w
}

// start starts the gateway in this process, logging like serve does, but to nowhere.
func (w *workload) start(b *testing.B) {
	b.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	benchMust(b, err)
	a, err := app.New(context.Background(), app.Options{Config: w.config, Logger: slog.New(slog.NewJSONHandler(null, nil)), Version: app.ReadVersion()})
	benchMust(b, err)
	w.addr, w.admin = a.PublicAddr(), a.AdminAddr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, a.Close(), null.Close()); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(w.stop)
}

// fill makes the database and the limit's own: every person with two e-mail addresses, a phone, an address, two external ids, a
// registration and an approved analysis.
func fill(b *testing.B, path, limitPath string) []kyc.PersonID {
	b.Helper()
	ctx := context.Background()
	keyset := filepath.Join(filepath.Dir(path), "kycgate-sandbox-keyset.json") // where the gateway of a sandbox looks for it
	benchMust(b, vault.Create(keyset, vault.Sandbox()))
	keys, err := vault.Open(keyset, vault.Sandbox())
	benchMust(b, err)
	s, err := store.Open(ctx, store.Options{Path: path, Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	benchMust(b, err)
	_, _, err = s.Migrate(ctx)
	benchMust(b, err)
	plain := newLimitFiller(b, limitPath)
	ids := make([]kyc.PersonID, 0, benchPersons)
	for len(ids) < benchPersons {
		benchMust(b, s.Write(ctx, func(tx kyc.Tx) error {
			for range min(1000, benchPersons-len(ids)) {
				id, err := fillOne(ctx, tx, plain, len(ids))
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return nil
		}))
	}
	plain.close(b)
	benchMust(b, s.Close())
	return ids
}

func fillOne(ctx context.Context, tx kyc.Tx, plain *limitFiller, n int) (kyc.PersonID, error) {
	at := time.Date(2026, 1, 1, 0, 0, n, 123456000, time.UTC)
	mobile, word, automatic := kyc.PhoneMobile, "automatically_approved", kyc.DecidedAutomatic
	number, neighborhood := kyc.NewPersonalText(strconv.Itoa(n%3000)), kyc.NewPersonalText("Bela Vista")
	cpf := make([]byte, 11)
	putCPF(cpf, n)
	p := &kyc.Person{
		ID: kyc.NewPersonID(), PartnerID: benchQITech, SourceKyc: kyc.SourceQitech, LatestAnalysis: kyc.NewAnalysisID(),
		Kyc:       kyc.KycReview{Status: kyc.KycApproved, ProviderStatus: &word, DecidedBy: &automatic, DecidedAt: &at, Analyses: 1},
		CreatedAt: at, UpdatedAt: at, Version: 2,
		Profile: kyc.Profile{
			Name: kyc.NewName("Maria Aparecida da Silva Souza"), DocumentNumber: kyc.NewDocumentNumber(string(cpf)), Birthdate: kyc.NewDate("1990-02-28"),
			Emails: []kyc.Email{{Address: kyc.NewEmailAddress(fmt.Sprintf("maria.%d@example.com", n))}, {Address: kyc.NewEmailAddress("maria@work.example.com.br")}},
			Phones: []kyc.Phone{{Number: kyc.NewPhoneNumber(fmt.Sprintf("+55119%08d", n)), Type: &mobile}},
			Address: kyc.Address{
				Street: kyc.NewPersonalText("Avenida Paulista"), Number: &number, Neighborhood: &neighborhood,
				City: "São Paulo", State: "SP", PostalCode: kyc.NewPersonalText("01310100"), Country: "BRA",
			},
		},
	}
	external := fmt.Sprintf("liveness-session-%08d", n)
	r := &kyc.Registration{ID: kyc.NewRegistrationID(), PartnerID: p.PartnerID, PersonID: p.ID, ExternalID: &external, Payload: kyc.JSON(`{}`), Profile: p.Profile, ReceivedAt: at, Outcome: kyc.OutcomeCreated}
	r.Payload = kyc.JSON(strings.ReplaceAll(inputExample, cpfPlace, string(cpf)))
	return p.ID, errors.Join(
		tx.InsertPerson(ctx, p),
		tx.MapExternalID(ctx, p.PartnerID, p.ID, kyc.ExternalID{Value: external, MappedAt: at}),
		tx.MapExternalID(ctx, p.PartnerID, p.ID, kyc.ExternalID{Value: "second-" + external, MappedAt: at.Add(time.Hour)}),
		tx.InsertRegistration(ctx, r),
		tx.InsertAnalysis(ctx, &kyc.Analysis{
			ID: p.LatestAnalysis, PartnerID: p.PartnerID, PersonID: p.ID, RegistrationID: r.ID, Provider: "qitech", Submission: kyc.SubmissionAccepted,
			Status: kyc.KycApproved, ProviderStatus: word, DecidedBy: &automatic, DecidedAt: &at, CreatedAt: at, UpdatedAt: at,
		}),
		plain.add(p, r, []string{external, "second-" + external}),
	)
}

// The places of a request that change from one to the next.
const (
	personPlace = "per_00000000000000000000000000"
	cursorPlace = "cGVyXzAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw" // the base64 of personPlace
	cpfPlace    = "00000000000"
	extPlace    = "ext-0000000000"

	inputExample = `{"externalId":"` + extPlace + `","name":"Maria da Silva","documentNumber":"` + cpfPlace + `","birthdate":"1990-02-28","emails":[{"address":"maria@example.com"}],` +
		`"phones":[{"number":"+5511987654321","type":"MOBILE"}],"address":{"street":"Avenida Paulista","number":"1000","neighborhood":"Bela Vista","city":"São Paulo","state":"SP","postalCode":"01310-100","country":"BRA"}}`
	wireExample = `{"id":"ana_00000000000000000000000000","registration_id":"` + personPlace + `","registration_date":"2026-01-31T12:00:00+00:00","name":"Maria da Silva","document_number":"000.000.000-00",` +
		`"birthdate":"1990-02-28","emails":[{"email":"maria@example.com"}],"phones":[{"international_dial_code":"55","area_code":"11","number":"987654321","type":"mobile"}],` +
		`"address":{"street":"Avenida Paulista","number":"1000","neighborhood":"Bela Vista","city":"São Paulo","uf":"SP","postal_code":"01310-100","country":"BRA"}}`

	personQuery = `query Person($id: ID!) { person(id: $id) { id name emails { address } phones { number type }
  address { street number complement neighborhood city state postalCode country }
  kyc { status providerStatus reason decidedBy decidedAt analyses } externalIds { value mappedAt } } }`
	personsQuery = `query Persons($after: String) { persons(first: 50, after: $after) { nodes { id name kyc { status } externalIds { value } }
  pageInfo { hasNextPage endCursor } } }`
	registerMutation = `mutation Register($input: RegisterPersonInput!) { registerPerson(input: $input) {
  outcome person { id kyc { status providerStatus } } userErrors { code message path } } }`
)

func (w *workload) token(b testing.TB, partner string, scopes ...kyc.Scope) string {
	b.Helper()
	token, _, err := w.signer.Sign(auth.Claims{Partner: kyc.PartnerID(partner), Subject: "bench", Scopes: kyc.NewScopeSet(scopes...), TTL: 24 * time.Hour})
	benchMust(b, err)
	return token
}

func graphQL(query, variables string) string {
	q, _ := json.Marshal(query)
	return `{"query":` + string(q) + `,"variables":` + variables + `}`
}

// post is a whole request.
func post(path, token, body string) []byte {
	if token != "" {
		token = "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench.test\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, token, len(body), body)
}

func get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench.test\r\n\r\n", path)
}

func (w *workload) queryPerson(b testing.TB, scopes ...kyc.Scope) *contender {
	b.Helper()
	r := post("/graphql", w.token(b, benchQITech, scopes...), graphQL(personQuery, `{"id":"`+personPlace+`"}`))
	return &contender{addr: w.addr, want: `{"data":{"person":{"id":"per_`, request: r, next: w.anyPerson(r), commits: w.commits, gc: gatewayGC}
}

func (w *workload) limitPerson(path string) *contender {
	r := get(path + personPlace)
	return &contender{addr: w.limit.addr, want: `{"data":{"person":{"id":"per_`, request: r, next: w.anyPerson(r), commits: w.limit.writer.commits.Load, gc: defaultGC}
}

// anyPerson asks for a random person.
func (w *workload) anyPerson(request []byte) func(*caller) {
	at := bytes.Index(request, []byte(personPlace))
	return func(c *caller) { copy(c.request[at:], w.persons[c.rand.IntN(len(w.persons))]) }
}

func (w *workload) queryPersons(b testing.TB) *contender {
	b.Helper()
	r := post("/graphql", w.token(b, benchQITech, kyc.PersonsRead, kyc.PIIRead), graphQL(personsQuery, `{"after":"`+cursorPlace+`"}`))
	return &contender{addr: w.addr, want: `{"data":{"persons":{"nodes":[{"id":"per_`, request: r, next: w.anyPage(r), commits: w.commits, gc: gatewayGC}
}

func (w *workload) limitPersons() *contender {
	r := get("/persons?" + cursorPlace)
	return &contender{addr: w.limit.addr, want: `{"data":{"persons":{"nodes":[{"id":"per_`, request: r, next: w.anyPage(r), commits: w.limit.writer.commits.Load, gc: defaultGC}
}

// anyPage asks for a random page that is not the last.
func (w *workload) anyPage(request []byte) func(*caller) {
	at := bytes.Index(request, []byte(cursorPlace))
	return func(c *caller) {
		after := w.persons[benchPage+1+c.rand.IntN(len(w.persons)-benchPage-1)]
		base64.RawURLEncoding.Encode(c.request[at:], []byte(after))
	}
}

func (w *workload) register(b testing.TB, partner, want string) *contender {
	b.Helper()
	r := post("/graphql", w.token(b, partner, kyc.PersonsWrite, kyc.PIIRead), graphQL(registerMutation, `{"input":`+inputExample+`}`))
	return &contender{addr: w.addr, want: want, request: r, next: newPerson(r), commits: w.commits, gc: gatewayGC}
}

func (w *workload) limitRegister(path, want string) *contender {
	r := post(path, "", inputExample)
	return &contender{addr: w.limit.addr, want: want, request: r, next: newPerson(r), commits: w.limit.writer.commits.Load, gc: defaultGC}
}

// newPerson registers somebody new each time.
func newPerson(request []byte) func(*caller) {
	ext := bytes.Index(request, []byte(extPlace)) + len(extPlace)
	cpf := ext + bytes.Index(request[ext:], []byte(cpfPlace))
	return func(c *caller) {
		n := int(benchSerial.Add(1))
		putCPF(c.request[cpf:], n)
		for i := ext - 1; n > 0; i, n = i-1, n/10 {
			c.request[i] = byte('0' + n%10)
		}
	}
}

var benchSerial atomic.Int64

func init() { benchSerial.Store(benchPersons) }

// putCPF writes the CPF of a number: nine digits and the two that check them.
func putCPF(dst []byte, n int) {
	for i := 8; i >= 0; i, n = i-1, n/10 {
		dst[i] = byte('0' + n%10)
	}
	for check := 9; check <= 10; check++ {
		sum := 0
		for i := range check {
			sum += int(dst[i]-'0') * (check + 1 - i)
		}
		dst[check] = byte('0' + sum*10%11%10)
	}
}

var commitsLine = regexp.MustCompile(`(?m)^kycgate_store_commits_total (\S+)$`)

// commits is how often the gateway has committed, which is how often it waited for the device.
func (w *workload) commits() int64 {
	resp, err := http.Get("http://" + w.admin + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	m := commitsLine.FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	return int64(n)
}

// contender is one who answers a workload, with the callers who ask.
type contender struct {
	addr    string
	request []byte
	next    func(*caller) // makes the request of a caller another one
	want    string        // what every answer contains
	commits func() int64
	gc      int
	callers []*caller
}

// caller is a client that costs next to nothing, so that the ratio of two contenders is theirs: one connection, a request
// that is made already, and no more of HTTP than reading the answer takes.
type caller struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	body    []byte
	rand    *rand.Rand
	took    []time.Duration
}

// open connects the callers and lets each ask once, so that connections and statements are there.
func (c *contender) open(b *testing.B, callers int) {
	b.Helper()
	for i := range callers {
		conn, err := net.Dial("tcp", c.addr)
		benchMust(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		c.callers = append(c.callers, &caller{
			conn: conn, in: bufio.NewReaderSize(conn, 32<<10), request: bytes.Clone(c.request), rand: rand.New(rand.NewPCG(1, uint64(i))),
		})
	}
	for range 4 {
		c.run(b, int64(callers), 0)
	}
}

func (k *caller) ask(want string) error {
	if _, err := k.conn.Write(k.request); err != nil {
		return err
	}
	line, err := k.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
	length := -1
	for len(line) > 2 {
		if line, err = k.in.ReadSlice('\n'); err != nil {
			return err
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length = 0
			for _, d := range bytes.TrimSpace(value) {
				length = 10*length + int(d-'0')
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	k.body = slices.Grow(k.body[:0], length)[:length]
	if _, err := io.ReadFull(k.in, k.body); err != nil {
		return err
	}
	if !ok || !bytes.Contains(k.body, []byte(want)) {
		return fmt.Errorf("not the answer: %s", k.body)
	}
	return nil
}

// turn is what a contender did in its turn.
type turn struct {
	answers int
	took    time.Duration
	cpu     time.Duration // of the whole process: the contender, the callers, the upstream
	each    []time.Duration
}

func (t turn) perSecond() float64    { return float64(t.answers) / t.took.Seconds() }
func (t turn) perCPUSecond() float64 { return float64(t.answers) / t.cpu.Seconds() }

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run asks n times, or, when n is 0, until the time is over.
func (c *contender) run(b *testing.B, n int64, d time.Duration) (t turn) {
	b.Helper()
	var left atomic.Int64
	left.Store(n)
	if n == 0 {
		left.Store(1 << 62)
		defer time.AfterFunc(d, func() { left.Store(0) }).Stop()
	}
	var asking sync.WaitGroup
	var complain sync.Once // one wrong answer says it all
	defer debug.SetGCPercent(debug.SetGCPercent(c.gc))
	start, cpu := time.Now(), cpuTime()
	for _, k := range c.callers {
		k.took = k.took[:0]
		asking.Go(func() {
			for left.Add(-1) >= 0 {
				if c.next != nil {
					c.next(k)
				}
				begin := time.Now()
				if err := k.ask(c.want); err != nil {
					complain.Do(func() { b.Error(err) })
					left.Store(0)
					return
				}
				k.took = append(k.took, time.Since(begin))
			}
		})
	}
	asking.Wait()
	t.took, t.cpu = time.Since(start), cpuTime()-cpu
	for _, k := range c.callers {
		t.answers += len(k.took)
		t.each = append(t.each, k.took...)
	}
	if b.Failed() {
		b.FailNow()
	}
	return t
}

// compare runs the three benchmarks of a workload.
func compare(b *testing.B, callers int, d time.Duration, gateway, limit *contender) {
	b.Helper()
	gateway.open(b, callers)
	limit.open(b, callers)
	sameAnswers(b, gateway, limit)
	for name, c := range map[string]*contender{"gateway": gateway, "limit": limit} {
		b.Run(name, func(b *testing.B) {
			runtime.GC()
			before := c.commits()
			b.ReportAllocs()
			b.ResetTimer()
			t := c.run(b, int64(b.N), 0)
			b.StopTimer()
			b.ReportMetric(ms(t.median()), "p50-ms")
			b.ReportMetric(t.cpu.Seconds()*1e6/float64(b.N), "cpu-µs/op")
			if commits := c.commits() - before; commits > 0 {
				b.ReportMetric(float64(commits)/float64(b.N), "commits/op")
			}
		})
	}
	b.Run("ratio", func(b *testing.B) {
		wall, cpu := make([]float64, b.N), make([]float64, b.N)
		for i := range b.N {
			var g, l turn
			for k := range 2 { // each begins every other time
				runtime.GC()
				if (i+k)%2 == 0 {
					g = gateway.run(b, 0, d)
				} else {
					l = limit.run(b, 0, d)
				}
			}
			wall[i], cpu[i] = g.perSecond()/l.perSecond(), g.perCPUSecond()/l.perCPUSecond()
		}
		b.ReportMetric(median(wall), "ratio")
		b.ReportMetric(median(cpu), "cpu-ratio")
		b.ReportMetric(slices.Min(wall), "ratio-min")
		b.ReportMetric(slices.Max(wall), "ratio-max")
		b.ReportMetric(0, "ns/op")
	})
}

var anyULID = regexp.MustCompile(`_[0-9A-HJKMNP-TV-Z]{26}`)

// sameAnswers holds that both answer a request with the same bytes, but for the ids of what is new.
func sameAnswers(b *testing.B, gateway, limit *contender) {
	b.Helper()
	g, l := gateway.callers[0], limit.callers[0]
	g.rand, l.rand = rand.New(rand.NewPCG(2, 2)), rand.New(rand.NewPCG(2, 2))
	gateway.next(g)
	limit.next(l)
	benchMust(b, errors.Join(g.ask(gateway.want), l.ask(limit.want)))
	one, other := string(g.body), string(l.body)
	if strings.Contains(one, `"registerPerson"`) {
		one, other = anyULID.ReplaceAllString(one, "_"), anyULID.ReplaceAllString(other, "_")
	}
	if one != other {
		b.Fatalf("the gateway and its limit answer differently:\n%s\n%s", one, other)
	}
}

// process is the real binary, serving.
type process struct {
	addr  string
	start time.Duration // until ready
	cmd   *exec.Cmd
}

// build builds the real binary.
func (w *workload) build(b *testing.B) string {
	b.Helper()
	binary := filepath.Join(w.dir, "kycgate")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "../../cmd/kycgate").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// serve starts the real binary on the gateway's database; the gateway of this process must have stopped.
func (w *workload) serve(b *testing.B, binary string) *process {
	b.Helper()
	file := filepath.Join(w.dir, "kycgate.yaml")
	p := &process{addr: unused(b)}
	admin := unused(b)
	benchMust(b, os.WriteFile(file, fmt.Appendf(nil, `
environment: sandbox
listen: %s
admin_listen: %s
public_url: http://127.0.0.1:1
database: {url: "sqlite://%s"}
auth: {issuer: %q, audience: kycgate, jwks_file: %q}
providers: {qitech: {base_url: %q, api_key: key}}
partners: [{id: %s, source_kyc: qitech}, {id: %s}]
`, p.addr, admin, w.config.Database.SQLitePath(), w.config.Auth.Issuer, w.config.Auth.JWKSFile, w.upstream, benchQITech, benchOpenCo), 0o600))
	p.cmd = exec.Command(binary, "serve", "--config", file)
	start := time.Now()
	benchMust(b, p.cmd.Start())
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for {
		if resp, err := client.Get("http://" + admin + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(start) > 20*time.Second {
			_ = p.cmd.Process.Kill()
			b.Fatal("the gateway did not become ready")
		}
		time.Sleep(time.Millisecond)
	}
	p.start = time.Since(start)
	return p
}

func (p *process) end(b *testing.B) {
	b.Helper()
	benchMust(b, errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait()))
}

var rssAnon = regexp.MustCompile(`(?m)^RssAnon:\s+(\d+) kB$`)

// anonymous is the anonymous resident memory in MB.
func (p *process) anonymous(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := rssAnon.FindSubmatch(text)
	if m == nil {
		b.Skipf("this system does not tell the anonymous memory of a process: %v", err)
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	benchMust(b, err)
	return kb / 1000
}

func unused(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	benchMust(b, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (t turn) median() time.Duration {
	slices.Sort(t.each)
	return t.each[len(t.each)/2]
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func benchMust(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
