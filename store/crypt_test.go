package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
)

// sealedColumns are the columns of ciphertext of this schema, with what names a row.
var sealedColumns = []struct{ table, column, row string }{
	{"persons", "sealed_profile", "id"},
	{"external_ids", "sealed_value", "external_index"},
	{"registrations", "sealed_external_id", "id"},
	{"registrations", "sealed_payload", "id"},
	{"registrations", "sealed_profile", "id"},
	{"data_keys", "wrapped", "owner"},
	{"partner_keys", "wrapped", "partner_id"},
}

// encrypted gives a store with two partners, two persons each, and two registrations each.
func encrypted(t *testing.T) (*Store, []*kyc.Person) {
	t.Helper()
	s := open(t)
	var persons []*kyc.Person
	mustWrite(t, s, func(tx kyc.Tx) error {
		for _, partner := range []kyc.PartnerID{acme, "other"} {
			for range 2 {
				p := newPerson()
				p.PartnerID = partner
				persons = append(persons, p)
				if err := tx.InsertPerson(t.Context(), p); err != nil {
					return err
				}
				for i := range 2 {
					external := fmt.Sprint("ext ", i, p.ID)
					if err := errors.Join(
						tx.MapExternalID(t.Context(), partner, p.ID, kyc.ExternalID{Value: external, MappedAt: epoch}),
						tx.InsertRegistration(t.Context(), &kyc.Registration{ID: kyc.NewRegistrationID(), PartnerID: partner, PersonID: p.ID, ExternalID: &external, Payload: benchPayload, Profile: p.Profile, ReceivedAt: epoch, Outcome: kyc.OutcomeCreated}),
					); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	return s, persons
}

// readAll reads everything of everybody, and gives the first failure.
func readAll(s *Store, persons []*kyc.Person) error {
	ctx := context.Background()
	for _, p := range persons {
		one := []kyc.PersonID{p.ID}
		found, err := s.PersonByID(ctx, p.PartnerID, p.ID)
		if err == nil && (found == nil || found.Name.Reveal() != p.Name.Reveal()) {
			err = errors.New("another person was read")
		}
		if err != nil {
			return err
		}
		if _, err := s.ExternalIDs(ctx, p.PartnerID, one); err != nil {
			return err
		}
		rs, err := s.Registrations(ctx, p.PartnerID, one, kyc.Page{First: 10})
		if err != nil {
			return err
		}
		for _, r := range rs[p.ID] {
			if _, err := s.Registration(ctx, p.PartnerID, p.ID, r.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// refused reports whether reading failed as it must: Internal, naming a ciphertext and holding no value.
func refused(err error) bool {
	return kyc.KindOf(err) == kyc.Internal && errors.Is(err, errSealed) && !strings.Contains(err.Error(), "Maria")
}

// forget makes the store read its partner keys from the database again.
func (s *Store) forgetKeys() { *s.crypt = *newCrypt(s.crypt.keys) }

// TestFlippedBitsAreRefused flips 1,000 bits of ciphertexts, one after the other.
func TestFlippedBitsAreRefused(t *testing.T) {
	t.Parallel()
	s, persons := encrypted(t)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 1000 {
		c := sealedColumns[round%len(sealedColumns)]
		var cells []struct {
			Row    []byte `db:"row"`
			Sealed []byte `db:"sealed"`
		}
		if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
			return q.conn.SelectContext(ctx, &cells, fmt.Sprintf(`SELECT CAST(%s AS BLOB) AS row, %s AS sealed FROM %s WHERE %[2]s IS NOT NULL ORDER BY 1`, c.row, c.column, c.table))
		}); err != nil || len(cells) < 2 {
			t.Fatalf("%d cells of %s.%s, %v", len(cells), c.table, c.column, err)
		}
		cell := cells[random.IntN(len(cells))]
		broken := bytes.Clone(cell.Sealed)
		bit := random.IntN(len(broken) * 8)
		broken[bit/8] ^= 1 << (bit % 8)
		set := func(value []byte) {
			mustWrite(t, s, func(kyc.Tx) error {
				_, err := s.writer.q.conn.ExecContext(t.Context(), fmt.Sprintf(`UPDATE %s SET %s = ? WHERE CAST(%s AS BLOB) = ?`, c.table, c.column, c.row), value, cell.Row)
				return err
			})
			s.forgetKeys()
		}
		set(broken)
		if err := readAll(s, persons); !refused(err) {
			t.Fatalf("bit %d of %s.%s: %v", bit, c.table, c.column, err)
		}
		set(cell.Sealed)
	}
	if err := readAll(s, persons); err != nil {
		t.Fatalf("mended: %v", err)
	}
}

// TestSwappedCiphertextsAreRefused swaps each pair of cells of one column, of two columns of one row, and of two partners.
func TestSwappedCiphertextsAreRefused(t *testing.T) {
	t.Parallel()
	s, persons := encrypted(t)
	type cell struct{ table, column, where string }
	var cells []cell
	for _, c := range sealedColumns {
		var rows []string
		if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
			return q.conn.SelectContext(ctx, &rows, fmt.Sprintf(`SELECT quote(%s) FROM %s WHERE %s IS NOT NULL`, c.row, c.table, c.column))
		}); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			cells = append(cells, cell{c.table, c.column, c.row + " = " + r})
		}
	}
	get := func(c cell) (v []byte) {
		if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
			return q.conn.GetContext(ctx, &v, fmt.Sprintf(`SELECT %s FROM %s WHERE %s`, c.column, c.table, c.where))
		}); err != nil {
			t.Fatal(err)
		}
		return v
	}
	set := func(c cell, v []byte) {
		mustWrite(t, s, func(kyc.Tx) error {
			_, err := s.writer.q.conn.ExecContext(t.Context(), fmt.Sprintf(`UPDATE %s SET %s = ? WHERE %s`, c.table, c.column, c.where), v)
			return err
		})
		s.forgetKeys()
	}
	swaps := 0
	for i, a := range cells {
		for _, b := range cells[i+1:] {
			va, vb := get(a), get(b)
			set(a, vb)
			set(b, va)
			if err := readAll(s, persons); !refused(err) {
				t.Fatalf("%v and %v swapped: %v", a, b, err)
			}
			set(a, va)
			set(b, vb)
			swaps++
		}
	}
	if err := readAll(s, persons); err != nil || swaps < 500 {
		t.Fatalf("after %d swaps: %v", swaps, err)
	}
}

// TestNothingIsReadable looks for what was stored in the raw bytes of database, log and backup.
func TestNothingIsReadable(t *testing.T) {
	t.Parallel()
	s, persons := encrypted(t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{s.path, s.path + "-wal", backup} {
		data := readFile(t, file)
		if file == s.path+"-wal" && len(data) == 0 {
			t.Error("the log is empty: the test looks at less than it should")
		}
		for _, p := range persons {
			for _, text := range []string{
				p.Name.Reveal(), p.DocumentNumber.Reveal(), p.Birthdate.Reveal(), p.Emails[0].Address.Reveal(), p.Phones[0].Number.Reveal(), p.Address.City,
				p.Address.Street.Reveal(), "ext 0", "Ana da Silva",
			} {
				if bytes.Contains(data, []byte(text)) {
					t.Errorf("%s is readable in %s", text, filepath.Base(file))
				}
			}
		}
	}
}

// TestErasureKnowsEveryTable: a table that holds something of a person and is not in the list would survive them.
func TestErasureKnowsEveryTable(t *testing.T) {
	t.Parallel()
	s := open(t)
	var tables []string
	if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
		return q.conn.SelectContext(ctx, &tables, `SELECT DISTINCT m.name FROM sqlite_schema m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND (c.name IN ('person_id', 'owner') OR c.name LIKE 'sealed%')`)
	}); err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{"erasures": true, "audit_log": true} // what is left on purpose: ids and times
	known := make(map[string]bool)
	for _, o := range ofPerson {
		known[o.table] = true
	}
	for _, table := range tables {
		if !known[table] && !kept[table] {
			t.Errorf("%s holds something of persons, and erasing one does not know it", table)
		}
	}
	if len(tables) < 6 {
		t.Errorf("only %v found", tables)
	}
}

// TestErasedPersonIsGone: key, indexes and rows are gone from the file and its log, and nobody else's are.
func TestErasedPersonIsGone(t *testing.T) {
	t.Parallel()
	s, persons := encrypted(t)
	gone := persons[0]
	wrapped := get[[]byte](t, s, `SELECT wrapped FROM data_keys WHERE owner = ?`, gone.ID)
	index := get[[]byte](t, s, `SELECT document_index FROM persons WHERE id = ?`, gone.ID)
	sealed := get[[]byte](t, s, `SELECT sealed_payload FROM registrations WHERE person_id = ? LIMIT 1`, gone.ID)
	mustWrite(t, s, func(tx kyc.Tx) error {
		_, err := tx.ErasePerson(t.Context(), gone.PartnerID, gone.ID, kyc.ErasureRequested, epoch)
		return err
	})
	if err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{s.path, s.path + "-wal"} {
		data := readFile(t, file)
		for what, b := range map[string][]byte{"the wrapped key": wrapped, "the blind index": index, "the payload": sealed[:64]} {
			if bytes.Contains(data, b) {
				t.Errorf("%s is still in %s", what, filepath.Base(file))
			}
		}
	}
	if err := readAll(s, persons[1:]); err != nil {
		t.Errorf("the others: %v", err)
	}
	if find(t, s, gone) != nil {
		t.Error("the person is there")
	}
}

// TestRotation: under reads and writes that never fail, everything ends under the new master key, and the old one is of no use.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := createKeys(t, filepath.Join(dir, "keys"))
	s := openWith(t, filepath.Join(dir, "kycgate.db"), keys)
	var persons []*kyc.Person
	mustWrite(t, s, func(tx kyc.Tx) error {
		for range 3 * rotateBatch {
			p := newPerson()
			persons = append(persons, p)
			if err := tx.InsertPerson(t.Context(), p); err != nil {
				return err
			}
		}
		return nil
	})
	before := keysOf(t, s)

	stop := make(chan struct{})
	var load sync.WaitGroup
	var reads, writes atomic.Int64
	for i := range 4 {
		load.Go(func() {
			for n := i; ; n += 4 {
				select {
				case <-stop:
					return
				default:
				}
				p := persons[n%len(persons)]
				if found, err := s.PersonByID(context.Background(), p.PartnerID, p.ID); err != nil || found == nil || found.Name.Reveal() != p.Name.Reveal() {
					t.Errorf("a read failed: %v", err)
					return
				}
				reads.Add(1)
			}
		})
	}
	load.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			p := newPerson()
			p.PartnerID = kyc.PartnerID(fmt.Sprint("partner ", n%3)) // new partners and new persons meanwhile
			if err := s.Write(context.Background(), insert(p)); err != nil {
				t.Errorf("a write failed: %v", err)
				return
			}
			writes.Add(1)
		}
	})
	for range 3 {
		if added, err := keys.AddPrimary(); err != nil || !added {
			t.Fatalf("added %v, %v", added, err)
		}
		if err := s.RotateKeys(t.Context(), keys.DropOld, nil); err != nil {
			t.Fatal(err)
		}
		if keys.Masters() != 1 {
			t.Errorf("%d master keys are left", keys.Masters())
		}
	}
	close(stop)
	load.Wait()
	if reads.Load() == 0 || writes.Load() == 0 {
		t.Errorf("%d reads, %d writes: the test tests nothing", reads.Load(), writes.Load())
	}
	if left, err := KeysLeft(t.Context(), s.path, keys); left != 0 || err != nil {
		t.Errorf("%d keys are left, %v", left, err)
	}
	after := keysOf(t, s)
	for owner, wrapped := range before {
		if bytes.Equal(after[owner], wrapped) {
			t.Fatalf("the key of %s is wrapped as it was", owner)
		}
	}
	// Another process, with the keyset as it is now, reads everything.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, s.path, openKeys(filepath.Join(dir, "keys")))
	for _, p := range persons {
		if found := find(t, s, p); found == nil || found.Name.Reveal() != p.Name.Reveal() {
			t.Fatalf("%s cannot be read after the rotation", p.ID)
		}
	}
}

// TestRotationIsTakenUp: wherever a rotation ends, everything can be read, and the next one finishes it.
func TestRotationIsTakenUp(t *testing.T) {
	t.Parallel()
	keys, err := vault.NewInMemory()
	if err != nil {
		t.Fatal(err)
	}
	s := openWith(t, filepath.Join(t.TempDir(), "kycgate.db"), keys)
	var persons []*kyc.Person
	mustWrite(t, s, func(tx kyc.Tx) error {
		for range 2*rotateBatch + 1 {
			p := newPerson()
			persons = append(persons, p)
			if err := tx.InsertPerson(t.Context(), p); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := keys.AddPrimary(); err != nil {
		t.Fatal(err)
	}
	ends := 0
	for cut := 1; ; cut++ {
		ctx, cancel := context.WithCancel(t.Context())
		batches := 0
		err := s.RotateKeys(ctx, keys.DropOld, func(int, int) {
			if batches++; batches == cut {
				cancel()
			}
		})
		cancel()
		for _, p := range []*kyc.Person{persons[0], persons[len(persons)/2], persons[len(persons)-1]} {
			s.forgetKeys()
			if found := find(t, s, p); found == nil || found.Name.Reveal() != p.Name.Reveal() {
				t.Fatalf("%s cannot be read after a rotation that was cut", p.ID)
			}
		}
		if err == nil {
			break
		}
		ends++
	}
	if left, err := KeysLeft(t.Context(), s.path, keys); left != 0 || err != nil || ends == 0 || keys.Masters() != 1 {
		t.Errorf("%d keys left, %v, cut %d times, %d master keys", left, err, ends, keys.Masters())
	}
}

func keysOf(t *testing.T, s *Store) map[string][]byte {
	t.Helper()
	var rows []struct {
		Owner   string `db:"owner"`
		Wrapped []byte `db:"wrapped"`
	}
	if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
		return q.conn.SelectContext(ctx, &rows, `SELECT owner, wrapped FROM data_keys`)
	}); err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for _, r := range rows {
		out[r.Owner] = r.Wrapped
	}
	return out
}

func get[T any](t *testing.T, s *Store, query string, args ...any) (v T) {
	t.Helper()
	if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error { return q.conn.GetContext(ctx, &v, query, args...) }); err != nil {
		t.Fatal(err)
	}
	return v
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// countingKeys counts the partner keys that are opened.
type countingKeys struct {
	Keys
	unwrapped atomic.Int64
}

func (k *countingKeys) Unwrap(wrapped, associated []byte) ([]byte, error) {
	k.unwrapped.Add(1)
	return k.Keys.Unwrap(wrapped, associated)
}

// A process that only reads opens a partner key once, and still asks the database under which one to seal.
func TestReadersOpenAPartnerKeyOnce(t *testing.T) {
	t.Parallel()
	keys := &countingKeys{Keys: testKeys}
	s := openWith(t, filepath.Join(t.TempDir(), "kycgate.db"), keys)
	p := newPerson()
	mustWrite(t, s, func(tx kyc.Tx) error { return register(tx, p, false) })
	s.forgetKeys() // as after a restart
	before := keys.unwrapped.Load()
	for range 10 {
		if found, err := s.PersonByID(t.Context(), p.PartnerID, p.ID); found == nil || err != nil {
			t.Fatal(found, err)
		}
	}
	if n := keys.unwrapped.Load() - before; n != 1 {
		t.Errorf("ten reads opened %d partner keys", n)
	}
	if id, key := s.crypt.newestKnown(p.PartnerID); key != nil {
		t.Errorf("a reader decided that new keys go under version %d", id.version)
	}
}
