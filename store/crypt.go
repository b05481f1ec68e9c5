package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/kycgate/kycgate/kyc"
)

// Keys is what the store asks of the keyset, which is never in the database (internal/vault).
type Keys interface {
	// Wrap encrypts a key under the primary master key; Unwrap takes what any enabled one wrapped. The
	// associated data must be the same both times.
	Wrap(key, associated []byte) ([]byte, error)
	Unwrap(wrapped, associated []byte) ([]byte, error)
	// Current reports whether something is wrapped under the primary master key.
	Current(wrapped []byte) bool
	// Index is a keyed hash of a value, of its own for each partner and field.
	Index(partner, field, value string) []byte

	AuditKeys
}

// The keys, from the outside in:
//
//	master key     keyset file, not here
//	└─ partner key   partner_keys, wrapped with the master key
//	   └─ data key     data_keys, one an owner, wrapped with the partner key
//	      └─ column      AES-256-GCM, bound to partner, owner, table, column and row
//
// A ciphertext that was moved, swapped or changed does not open. Its failure is an Internal error that names where it
// lies and nothing of what is in it.
const (
	keySize = 32
	// sealedVersion begins every ciphertext, so that another scheme can be told from this one.
	sealedVersion = 1
)

var errSealed = errors.New("a ciphertext does not open: it was changed, moved, or its key is not the one it was sealed with")

// crypt knows the partner keys, opened. They are few and stay in memory; data keys are opened for each use, which costs less
// than to look for them in a cache.
type crypt struct {
	keys Keys

	mu       sync.RWMutex
	partners map[partnerKeyID]*subtle.AESGCM
	newest   map[kyc.PartnerID]int
}

type partnerKeyID struct {
	partner kyc.PartnerID
	version int
}

func newCrypt(keys Keys) *crypt {
	return &crypt{keys: keys, partners: make(map[partnerKeyID]*subtle.AESGCM), newest: make(map[kyc.PartnerID]int)}
}

// learn remembers a partner key that is committed. One that is not must never get here: what is sealed under it would be lost
// with its transaction.
func (c *crypt) learn(id partnerKeyID, key *subtle.AESGCM) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partners[id] = key
	c.newest[id.partner] = max(c.newest[id.partner], id.version)
}

// keep remembers a committed partner key that something was read with. It may not be the newest one: what is sealed next asks the
// database which that is.
func (c *crypt) keep(id partnerKeyID, key *subtle.AESGCM) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partners[id] = key
}

func (c *crypt) known(id partnerKeyID) *subtle.AESGCM {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.partners[id]
}

func (c *crypt) newestKnown(partner kyc.PartnerID) (partnerKeyID, *subtle.AESGCM) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	id := partnerKeyID{partner, c.newest[partner]}
	return id, c.partners[id]
}

// index is a blind index: it finds an equal value of the same partner and field, and tells nothing to who has the database only.
func (c *crypt) index(partner kyc.PartnerID, field, value string) []byte {
	return c.keys.Index(string(partner), field, value)
}

func (c *crypt) indexOf(partner kyc.PartnerID, field string, value *string) []byte {
	if value == nil {
		return nil
	}
	return c.index(partner, field, *value)
}

// unwrapPartner opens a row of partner_keys.
func (c *crypt) unwrapPartner(id partnerKeyID, wrapped []byte) (*subtle.AESGCM, error) {
	raw, err := c.keys.Unwrap(wrapped, associated("partner_key", string(id.partner), fmt.Sprint(id.version)))
	if err != nil {
		return nil, errSealed // the keyset's own error may say more than a log should hold
	}
	return subtle.NewAESGCM(raw)
}

// wrapPartner makes a partner key.
func (c *crypt) wrapPartner(id partnerKeyID) (key *subtle.AESGCM, wrapped []byte, err error) {
	raw := newKey()
	if wrapped, err = c.keys.Wrap(raw, associated("partner_key", string(id.partner), fmt.Sprint(id.version))); err != nil {
		return nil, nil, fmt.Errorf("wrap a partner key: %w", err)
	}
	key, err = subtle.NewAESGCM(raw)
	return key, wrapped, err
}

func newKey() []byte {
	raw := make([]byte, keySize)
	_, _ = rand.Read(raw) // it does not fail: the process ends instead
	return raw
}

// wrappedKey is a row of data_keys as it is joined to what it opens.
type wrappedKey struct {
	KeyVersion int    `db:"key_version"`
	WrappedKey []byte `db:"wrapped_key"`
}

// joinKey adds the data key of an owner to a SELECT; keyColumns are its columns there.
const keyColumns = `k.version AS key_version, k.wrapped AS wrapped_key`

// dataKey seals and opens what belongs to one owner.
type dataKey struct {
	partner kyc.PartnerID
	owner   string
	aead    *subtle.AESGCM
}

// open unwraps a data key. The partner key comes from memory or, once a process and rotation, from the database.
// MUST: TestReadersOpenAPartnerKeyOnce.
func (c *crypt) open(q *session, partner kyc.PartnerID, owner string, w wrappedKey) (*dataKey, error) {
	key, err := c.partnerKey(q, partnerKeyID{partner, w.KeyVersion})
	if err != nil {
		return nil, err
	}
	raw, err := key.Decrypt(w.WrappedKey, associated("data_key", string(partner), owner))
	if err != nil {
		return nil, errSealed
	}
	aead, err := subtle.NewAESGCM(raw)
	if err != nil {
		return nil, err
	}
	return &dataKey{partner, owner, aead}, nil
}

func (c *crypt) partnerKey(q *session, id partnerKeyID) (*subtle.AESGCM, error) {
	if key := c.known(id); key != nil {
		return key, nil
	}
	var wrapped []byte
	found, err := q.value(untimed, &wrapped, `SELECT wrapped FROM partner_keys WHERE partner_id = ? AND version = ?`, id.partner, id.version)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errSealed
	}
	key, err := c.unwrapPartner(id, wrapped)
	if err == nil && q.committed {
		c.keep(id, key)
	}
	return key, err
}

// seal encrypts one column of one row.
func (k *dataKey) seal(table, column, row string, plain []byte) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, associated(string(k.partner), k.owner, table, column, row))
	if err != nil {
		return nil, err
	}
	return append([]byte{sealedVersion}, sealed...), nil
}

func (k *dataKey) unseal(table, column, row string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealedVersion {
		return nil, errSealed
	}
	plain, err := k.aead.Decrypt(sealed[1:], associated(string(k.partner), k.owner, table, column, row))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// sealJSON seals a document. It must hold revealed values: the types of package kyc redact themselves in JSON.
func (k *dataKey) sealJSON(table, column, row string, document any) ([]byte, error) {
	plain, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	return k.seal(table, column, row, plain)
}

func (k *dataKey) unsealJSON(table, column, row string, sealed []byte, document any) error {
	plain, err := k.unseal(table, column, row, sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, document)
}

// associated puts strings together so that no two lists give the same bytes.
func associated(parts ...string) []byte {
	size := 0
	for _, p := range parts {
		size += binary.MaxVarintLen32 + len(p)
	}
	b := make([]byte, 0, size)
	for _, p := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	return b
}

// keyFor gives the data key of an owner and makes it when there is none.
func (t *tx) keyFor(q *session, partner kyc.PartnerID, owner string) (*dataKey, error) {
	if k, err := t.keyOf(q, partner, owner); k != nil || err != nil {
		return k, err
	}
	id, key, err := t.partnerKeyFor(q, partner)
	if err != nil {
		return nil, err
	}
	raw := newKey()
	wrapped, err := key.Encrypt(raw, associated("data_key", string(partner), owner))
	if err != nil {
		return nil, err
	}
	if _, err := q.exec(`INSERT INTO data_keys (partner_id, owner, version, wrapped) VALUES (?, ?, ?, ?)`, partner, owner, id.version, wrapped); err != nil {
		return nil, err
	}
	aead, err := subtle.NewAESGCM(raw)
	if err != nil {
		return nil, err
	}
	return t.remember(&dataKey{partner, owner, aead}), nil
}

// keyOf gives the data key of an owner, or nil when there is none.
func (t *tx) keyOf(q *session, partner kyc.PartnerID, owner string) (*dataKey, error) {
	for _, k := range t.opened {
		if k.partner == partner && k.owner == owner {
			return k, nil
		}
	}
	var w wrappedKey
	found, err := q.get(&w, `SELECT `+keyColumns+` FROM data_keys k WHERE k.partner_id = ? AND k.owner = ?`, partner, owner)
	if err != nil || !found {
		return nil, err
	}
	k, err := t.crypt.open(q, partner, owner, w)
	if err != nil {
		return nil, err
	}
	return t.remember(k), nil
}

// remember keeps the keys one transaction works with: a registration seals five times under one.
func (t *tx) remember(k *dataKey) *dataKey {
	t.opened = append(t.opened, k)
	return k
}

// dropKey destroys the data key of an owner, and with it all that was sealed under it.
func (t *tx) dropKey(q *session, partner kyc.PartnerID, owner string) error {
	for i, k := range t.opened {
		if k.partner == partner && k.owner == owner {
			t.opened = append(t.opened[:i:i], t.opened[i+1:]...)
			break
		}
	}
	_, err := q.exec(`DELETE FROM data_keys WHERE partner_id = ? AND owner = ?`, partner, owner)
	return err
}

// partnerKeyFor gives the newest key of a partner and makes the first one.
func (t *tx) partnerKeyFor(q *session, partner kyc.PartnerID) (partnerKeyID, *subtle.AESGCM, error) {
	if id, key := t.crypt.newestKnown(partner); key != nil {
		return id, key, nil
	}
	var row struct {
		Version int    `db:"version"`
		Wrapped []byte `db:"wrapped"`
	}
	found, err := q.get(&row, `SELECT version, wrapped FROM partner_keys WHERE partner_id = ? ORDER BY version DESC LIMIT 1`, partner)
	if err != nil {
		return partnerKeyID{}, nil, err
	}
	if !found {
		return t.addPartnerKey(q, partnerKeyID{partner, 1})
	}
	id := partnerKeyID{partner, row.Version}
	key, err := t.crypt.unwrapPartner(id, row.Wrapped)
	if err != nil {
		return id, nil, err
	}
	t.learned = append(t.learned, learnedKey{id, key})
	return id, key, nil
}

func (t *tx) addPartnerKey(q *session, id partnerKeyID) (partnerKeyID, *subtle.AESGCM, error) {
	key, wrapped, err := t.crypt.wrapPartner(id)
	if err != nil {
		return id, nil, err
	}
	if _, err := q.exec(`INSERT INTO partner_keys (partner_id, version, wrapped, created_at) VALUES (?, ?, ?, ?)`,
		id.partner, id.version, wrapped, newMicros(t.now())); err != nil {
		return id, nil, err
	}
	t.learned = append(t.learned, learnedKey{id, key})
	return id, key, nil
}

// learnedKey is a partner key that a transaction has seen; the store remembers it once that is committed.
type learnedKey struct {
	id  partnerKeyID
	key *subtle.AESGCM
}
