package vault

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/crypto/argon2"
)

// What is wrong when a keyset cannot be opened, for those who name the setting of it. Everything else is
// the file.
var (
	ErrPassphrase = errors.New("the passphrase does not open the keyset")
	ErrKMS        = errors.New("the KMS does not open the keyset")
)

// Wrapper is what a keyset file is encrypted with: a passphrase or a key of a KMS. It does not print.
type Wrapper struct{ at **wrapper } // for the reason of Keyset.at

func newWrapper(w wrapper) Wrapper {
	at := &w
	return Wrapper{&at}
}

// wrapper gives what is inside; of the zero value nothing, which opens nothing.
func (w Wrapper) wrapper() wrapper {
	if w.at == nil {
		return wrapper{}
	}
	return **w.at
}

type wrapper struct {
	passphrase string
	sandbox    bool
	uri        string
	client     registry.KMSClient
}

// Passphrase wraps with a key that argon2id makes of the text.
func Passphrase(text string) Wrapper { return newWrapper(wrapper{passphrase: text}) }

// Sandbox wraps with a key that everybody knows, and says so in the file: no other wrapper opens it.
func Sandbox() Wrapper { return newWrapper(wrapper{sandbox: true}) }

// KMS wraps with the key of a KMS that the URI names. The KMS is asked once, when the file is made or
// opened, and never sees a key of the keyset: it wraps the key that the file is encrypted with.
func KMS(uri string, client registry.KMSClient) Wrapper {
	return newWrapper(wrapper{uri: uri, client: client})
}

// wrapping is how a file is wrapped, in clear in the file. Exactly one is set.
type wrapping struct {
	Argon2id *argon2id `json:"argon2id,omitempty"`
	KMS      *kms      `json:"kms,omitempty"`
	Sandbox  bool      `json:"sandbox,omitempty"` // by nothing
}

// sandboxKey encrypts the files of sandboxes. No derivation could make it a secret.
var sandboxKey = sha256.Sum256([]byte("kycgate sandbox keyset: protects nothing"))

// check refuses what create does not make.
func (h wrapping) check() error {
	ways := 0
	for _, set := range []bool{h.Argon2id != nil, h.KMS != nil, h.Sandbox} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return errNotWhole
	}
	if a := h.Argon2id; a != nil && (len(a.Salt) != saltSize || a.Time < 1 || a.Time > maxArgonTime ||
		a.MemoryKiB < argonMemoryKiB || a.MemoryKiB > maxArgonMemoryKiB || a.Threads < 1) {
		return errNotWhole
	}
	return nil
}

// argon2id are the parameters of the derivation (RFC 9106).
type argon2id struct {
	Salt      []byte `json:"salt"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
}

// kms names the key, and holds the file's key as the KMS wrapped it.
type kms struct {
	URI string `json:"uri"`
	Key []byte `json:"key"`
}

const (
	fileKeySize = 32 // bytes: AES-256
	saltSize    = 16

	// The second recommendation of RFC 9106, 64 MiB: a tenth of a second here, and costly to guess at.
	argonTime      = 3
	argonMemoryKiB = 64 << 10
	argonThreads   = 4

	// A file that asks for more than this is not ours, and must not exhaust the machine.
	maxArgonTime      = 16
	maxArgonMemoryKiB = 1 << 20
)

// kmsAssociated binds what the KMS wraps to this use of its key.
const kmsAssociated = "kycgate keyset 1"

func (a *argon2id) key(passphrase string) []byte {
	// The working memory is needed once in the life of a process: give it back.
	defer debug.FreeOSMemory()
	return argon2.IDKey([]byte(passphrase), a.Salt, a.Time, a.MemoryKiB, a.Threads, fileKeySize)
}

// create makes the key of a new file.
func (w wrapper) create() (wrapping, []byte, error) {
	switch {
	case w.sandbox:
		return wrapping{Sandbox: true}, sandboxKey[:], nil
	case w.passphrase == "" && w.uri == "":
		return wrapping{}, nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	case w.uri == "":
		a := &argon2id{Salt: make([]byte, saltSize), Time: argonTime, MemoryKiB: argonMemoryKiB, Threads: argonThreads}
		_, _ = rand.Read(a.Salt) // never fails
		return wrapping{Argon2id: a}, a.key(w.passphrase), nil
	}
	remote, err := w.kms()
	if err != nil {
		return wrapping{}, nil, err
	}
	key := make([]byte, fileKeySize)
	_, _ = rand.Read(key) // never fails
	wrapped, err := remote.Encrypt(key, []byte(kmsAssociated))
	if err != nil {
		return wrapping{}, nil, fmt.Errorf("%w: it does not encrypt with its key: %w", ErrKMS, err)
	}
	return wrapping{KMS: &kms{URI: w.uri, Key: wrapped}}, key, nil
}

// open gives the key of a file that is wrapped like this.
func (w wrapper) open(how wrapping) ([]byte, error) {
	switch {
	case how.Sandbox && w.sandbox:
		return sandboxKey[:], nil
	case how.Sandbox:
		return nil, errors.New("is a sandbox's and protects nothing: make one with `kycgate keys init`")
	case w.sandbox:
		return nil, errors.New("is not a sandbox's: name it and what it is wrapped by in `keys`")
	case w.passphrase == "" && w.uri == "":
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	case how.Argon2id != nil && w.uri != "":
		return nil, fmt.Errorf("%w: the file is wrapped by a passphrase; give that instead of a KMS key", ErrKMS)
	case how.KMS != nil && w.uri == "":
		return nil, fmt.Errorf("%w: the file is wrapped by a KMS key; give its URI instead of a passphrase", ErrPassphrase)
	case how.Argon2id != nil:
		return how.Argon2id.key(w.passphrase), nil
	case how.KMS.URI != w.uri:
		return nil, fmt.Errorf("%w: the file is wrapped by another key of a KMS; give the URI that is in the file", ErrKMS)
	}
	remote, err := w.kms()
	if err != nil {
		return nil, err
	}
	key, err := remote.Decrypt(how.KMS.Key, []byte(kmsAssociated))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not decrypt with its key: %w", ErrKMS, err)
	}
	if len(key) != fileKeySize {
		return nil, fmt.Errorf("%w: it gave back something else than it was given", ErrKMS)
	}
	return key, nil
}

func (w wrapper) kms() (tink.AEAD, error) {
	if w.client == nil || !w.client.Supported(w.uri) {
		return nil, fmt.Errorf("%w: the URI is not one of a KMS that is supported", ErrKMS)
	}
	remote, err := w.client.GetAEAD(w.uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKMS, err)
	}
	return remote, nil
}
