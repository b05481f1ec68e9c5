// Package vault holds the keys that personal data is protected with: the master keys that wrap the data
// keys of persons, the key of the blind indexes, the key that the audit trail is chained with and the one
// its heads are signed with. They lie in one file, wrapped by a passphrase or by a KMS, and never in the
// database: whoever has a copy of the database alone has nothing.
//
// A running gateway and `kycgate keys rotate` share the file. See [Keyset.AddPrimary] for what holds
// between them.
package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// ErrUnwrap is all that is said of what cannot be unwrapped: it was altered, belongs elsewhere, or its
// master key is gone.
var ErrUnwrap = errors.New("vault: refused to unwrap: altered, moved, or wrapped by a master key that is gone")

const (
	secretSize = 32 // bytes of each secret beside the master keys
	indexSize  = 16 // bytes of a blind index: half a SHA-256, still 2^64 values before two meet
)

// Keyset is the keys that personal data is encrypted with; it never lies in the database. It does not
// print, and is safe for concurrent use.
type Keyset struct {
	// A pointer to a pointer. fmt does not call the methods of a value it reaches through an unexported field
	// of somebody else's struct, but prints its fields; and for a verb that does not fit it follows one
	// pointer, so that %s of such a struct would show every key.
	at **keys
}

func (k *Keyset) keys() *keys { return *k.at }

type keys struct {
	path   string // absolute and without symbolic links, "" in memory
	head   head   // of the file, which a rotation keeps
	key    []byte // the file is encrypted with; kept so that a changed file needs no passphrase and no KMS
	index  []byte
	mac    []byte
	sign   ed25519.PrivateKey
	perKey sync.Map // indexKey -> *sync.Pool of hash.Hash; as many as partners times indexed fields

	now      atomic.Pointer[masters]
	changing sync.Mutex // held by whoever replaces now
}

// masters are the master keys at one moment.
type masters struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32
	ids     []uint32
	// before are the master keys before the last change. A reader can hold a row that was read before a
	// rotation ended, and must still be able to unwrap it. nil before the first change.
	before *masters
	file   os.FileInfo // which file they were read from, nil in memory
}

type indexKey struct{ partner, field string }

// NewInMemory makes a keyset that is never written, for tests.
func NewInMemory() (*Keyset, error) {
	s, err := newSecrets()
	if err != nil {
		return nil, err
	}
	return newKeyset("", file{}, nil, s)
}

func newKeyset(path string, f file, key []byte, s *secrets) (*Keyset, error) {
	m, err := newMasters(s.master)
	if err != nil {
		return nil, err
	}
	k := &keys{path: path, head: f.head(), key: key, index: s.index, mac: s.mac, sign: ed25519.NewKeyFromSeed(s.sign)}
	k.now.Store(m)
	return &Keyset{&k}, nil
}

func newMasters(handle *keyset.Handle) (*masters, error) {
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("vault: the master keys cannot be used: %w", err)
	}
	m := &masters{handle: handle, aead: a}
	for _, info := range handle.KeysetInfo().GetKeyInfo() {
		m.ids = append(m.ids, info.GetKeyId())
	}
	m.primary = handle.KeysetInfo().GetPrimaryKeyId()
	return m, nil
}

// newMaster adds a new AES-256-GCM key and makes it the primary. Its ciphertexts begin with 1 and its id.
func newMaster(m *keyset.Manager) (*keyset.Handle, error) {
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		return nil, fmt.Errorf("vault: a master key cannot be made: %w", err)
	}
	return m.Handle()
}

// Wrap encrypts a data key under the primary master key and binds it to the associated data. It looks
// whether the file was changed first, so that nothing is wrapped by a master key that is about to be
// dropped; when the file cannot be read any more it fails, because what it wrapped could be lost.
func (k *Keyset) Wrap(plain, associated []byte) ([]byte, error) {
	if _, err := k.Reload(); err != nil {
		return nil, err
	}
	wrapped, err := k.keys().now.Load().aead.Encrypt(plain, associated)
	if err != nil {
		return nil, fmt.Errorf("vault: wrap: %w", err)
	}
	return wrapped, nil
}

// Unwrap decrypts what any enabled master key wrapped. A master key it does not know makes it look at the
// file once more, because a rotation may have begun. What it refuses is [ErrUnwrap]; another error means
// that the file, in which the master key may be, cannot be read.
func (k *Keyset) Unwrap(wrapped, associated []byte) ([]byte, error) {
	id, ok := masterOf(wrapped)
	if !ok {
		return nil, ErrUnwrap
	}
	m := k.keys().now.Load()
	if !m.has(id) && !m.before.has(id) {
		if _, err := k.Reload(); err != nil {
			return nil, err
		}
		m = k.keys().now.Load()
	}
	if !m.has(id) && m.before.has(id) {
		m = m.before
	}
	plain, err := m.aead.Decrypt(wrapped, associated)
	if err != nil {
		return nil, ErrUnwrap
	}
	return plain, nil
}

// Current reports whether something was wrapped by the primary master key, so that a rotation need not
// wrap it anew.
func (k *Keyset) Current(wrapped []byte) bool {
	id, ok := masterOf(wrapped)
	return ok && id == k.keys().now.Load().primary
}

// Masters is the number of enabled master keys: more than one while a rotation is unfinished.
func (k *Keyset) Masters() int { return len(k.keys().now.Load().ids) }

func (m *masters) has(id uint32) bool { return m != nil && slices.Contains(m.ids, id) }

// after makes the masters those that follow others.
func (m *masters) after(was *masters) {
	before := *was
	before.before = nil // one change back is enough, and a chain would grow for ever
	m.before = &before
}

// masterOf reads Tink's output prefix: a 1, then the key id.
func masterOf(wrapped []byte) (id uint32, ok bool) {
	if len(wrapped) < 5 || wrapped[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(wrapped[1:5]), true
}

// Index is the keyed blind index of a value, 16 bytes: equal values of one partner's field have equal
// indexes, and nothing else can be told without the keyset. The caller normalises the value. Partners and
// fields come from configuration and code, never from a request: a key of each is kept.
func (k *Keyset) Index(partner, field, value string) []byte {
	pool := k.keys().indexPool(indexKey{partner, field})
	h, _ := pool.Get().(hash.Hash)
	h.Reset()
	_, _ = h.Write([]byte(value))
	sum := h.Sum(make([]byte, 0, sha256.Size))
	pool.Put(h)
	return sum[:indexSize:indexSize]
}

func (k *keys) indexPool(of indexKey) *sync.Pool {
	if pool, ok := k.perKey.Load(of); ok {
		return pool.(*sync.Pool)
	}
	key := derive(k.index, "kycgate blind index 1", of.partner, of.field)
	pool, _ := k.perKey.LoadOrStore(of, &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }})
	return pool.(*sync.Pool)
}

// derive is HKDF-SHA256 with the lengths of its parts in front of them, so that no two lists of parts
// meet.
func derive(secret []byte, parts ...string) []byte {
	var info bytes.Buffer
	for _, p := range parts {
		_ = binary.Write(&info, binary.BigEndian, uint32(len(p)))
		info.WriteString(p)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, info.String(), secretSize)
	if err != nil {
		panic("vault: " + err.Error()) // for a key longer than 255 hashes only
	}
	return key
}

// MAC is HMAC-SHA256 under a key of its own, 32 bytes: the audit chain and the erasure list.
func (k *Keyset) MAC(data []byte) []byte {
	h := hmac.New(sha256.New, k.keys().mac)
	_, _ = h.Write(data)
	return h.Sum(nil)
}

// Sign signs with Ed25519 under a key of its own: the heads of the audit chain.
func (k *Keyset) Sign(data []byte) []byte { return ed25519.Sign(k.keys().sign, data) }

// Verify reports whether Sign of this keyset made the signature.
func (k *Keyset) Verify(data, signature []byte) bool {
	public, _ := k.keys().sign.Public().(ed25519.PublicKey)
	return ed25519.Verify(public, data, signature)
}

// secrets is what the file holds, decrypted.
type secrets struct {
	master           *keyset.Handle
	index, mac, sign []byte
}

func newSecrets() (*secrets, error) {
	handle, err := newMaster(keyset.NewManager())
	if err != nil {
		return nil, err
	}
	s := &secrets{master: handle, index: make([]byte, secretSize), mac: make([]byte, secretSize), sign: make([]byte, secretSize)}
	for _, secret := range [][]byte{s.index, s.mac, s.sign} {
		_, _ = rand.Read(secret) // never fails
	}
	return s, nil
}
