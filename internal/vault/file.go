package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// maxFile is the most bytes a keyset file has: a hundred unfinished rotations fit.
const maxFile = 64 << 10

const (
	formatVersion = 1
	byInit        = "kycgate keys init"
	bySandbox     = "kycgate sandbox"
)

// file is a keyset file. Its head is in clear and bound to the rest as associated data.
type file struct {
	Version  int      `json:"kycgate_keyset"`
	MadeBy   string   `json:"made_by"`
	Wrapping wrapping `json:"wrapped_by"`
	// Keys is the JSON of contents, encrypted with AES-256-GCM under the key that Wrapping gives.
	Keys []byte `json:"keys"`
	// Checksum is the SHA-256 of the file without it. It protects from nothing: it tells a damaged file from
	// a wrong passphrase.
	Checksum []byte `json:"checksum"`
}

// head is everything of a file that a rotation keeps.
type head struct {
	Version  int      `json:"kycgate_keyset"`
	MadeBy   string   `json:"made_by"`
	Wrapping wrapping `json:"wrapped_by"`
}

// contents is what is encrypted.
type contents struct {
	Master  []byte `json:"master"` // a Tink keyset
	Index   []byte `json:"index"`
	MAC     []byte `json:"mac"`
	Signing []byte `json:"signing"` // the Ed25519 seed
}

var (
	errNotWhole = errors.New("is damaged or not a keyset: restore your copy of it")
	errReadable = errors.New("can be read by other users: run chmod 600 on it")
	errAnother  = errors.New("is not the keyset this process started with: restore that one, or stop the process first")
)

func (f file) head() head { return head{f.Version, f.MadeBy, f.Wrapping} }

func (h head) bytes() []byte {
	data, err := json.Marshal(h)
	if err != nil {
		panic("vault: " + err.Error()) // strings, numbers and bytes
	}
	return data
}

// encode is the file's bytes. There is exactly one way to write a file down.
func (f file) encode() []byte {
	write := func() []byte {
		data, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			panic("vault: " + err.Error()) // strings, numbers and bytes
		}
		return append(data, '\n')
	}
	f.Checksum = nil
	sum := sha256.Sum256(write())
	f.Checksum = sum[:]
	return write()
}

// parse reads a file without the key. It accepts exactly what encode writes.
func parse(data []byte) (file, error) {
	var f file
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(&f); err != nil {
		return file{}, errNotWhole
	}
	if f.Version > formatVersion {
		return file{}, errors.New("was made by a newer kycgate: run that one")
	}
	if f.Version != formatVersion || (f.MadeBy != byInit && f.MadeBy != bySandbox) {
		return file{}, errNotWhole
	}
	if err := f.Wrapping.check(); err != nil {
		return file{}, err
	}
	if !bytes.Equal(f.encode(), data) {
		return file{}, errNotWhole
	}
	return f, nil
}

// seal makes the file of the secrets.
func seal(h head, key []byte, s *secrets) (file, error) {
	var master bytes.Buffer
	// Clear text only on its way into the AEAD below: Tink's own encrypted form leaves key ids in clear.
	if err := insecurecleartextkeyset.Write(s.master, keyset.NewBinaryWriter(&master)); err != nil {
		return file{}, fmt.Errorf("vault: write the master keys: %w", err)
	}
	plain, err := json.Marshal(contents{master.Bytes(), s.index, s.mac, s.sign})
	if err != nil {
		return file{}, fmt.Errorf("vault: write the keys: %w", err)
	}
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		return file{}, fmt.Errorf("vault: the key of the file: %w", err)
	}
	sealed, err := a.Encrypt(plain, h.bytes())
	if err != nil {
		return file{}, fmt.Errorf("vault: encrypt the keys: %w", err)
	}
	return file{Version: h.Version, MadeBy: h.MadeBy, Wrapping: h.Wrapping, Keys: sealed}, nil
}

// unseal gives the secrets. ok is false when the key is not the file's.
func (f file) unseal(key []byte) (s *secrets, ok bool, err error) {
	plain, err := f.decrypt(key)
	if err != nil {
		return nil, false, nil // why it does not decrypt cannot be told
	}
	s, err = parseContents(plain)
	return s, true, err
}

func (f file) decrypt(key []byte) ([]byte, error) {
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, err
	}
	return a.Decrypt(f.Keys, f.head().bytes())
}

// parseContents reads what was encrypted. Only we can have written it, so what is wrong with it was wrong
// when it was written.
func parseContents(plain []byte) (*secrets, error) {
	var c contents
	if err := json.Unmarshal(plain, &c); err != nil || len(c.Index) != secretSize || len(c.MAC) != secretSize || len(c.Signing) != secretSize {
		return nil, errNotWhole
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(c.Master)))
	if err != nil {
		return nil, errNotWhole
	}
	if _, err := newMasters(handle); err != nil {
		return nil, errNotWhole
	}
	return &secrets{handle, c.Index, c.MAC, c.Signing}, nil
}

// Create makes a new keyset file, mode 0600, and has it on the device when it returns. It never replaces a
// file: data encrypted with a keyset that is gone is gone.
func Create(path string, w Wrapper) (err error) {
	exists := fmt.Errorf("%s exists already and is not replaced, because what was encrypted with it would be lost: choose another name: %w", path, os.ErrExist)
	if _, err := os.Lstat(path); err == nil {
		return exists // before anything slow; writeNew asks again
	}
	how, key, err := w.wrapper().create()
	if err != nil {
		return err
	}
	by := byInit
	if how.Sandbox {
		by = bySandbox
	}
	s, err := newSecrets()
	if err != nil {
		return err
	}
	f, err := seal(head{formatVersion, by, how}, key, s)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("%s: %w", path, reason(err))
	}
	err = writeNew(path, f.encode())
	if errors.Is(err, os.ErrExist) {
		return exists
	}
	if err == nil {
		err = syncFolder(path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, reason(err))
	}
	return nil
}

// Open reads a keyset file. Its errors name what to do next, and wrap [ErrPassphrase] or [ErrKMS] when it is
// not the file.
func Open(path string, w Wrapper) (*Keyset, error) {
	abs, err := filepath.Abs(path)
	if err == nil {
		// Resolved once: a rotation replaces the file and not the link to it.
		abs, err = filepath.EvalSymlinks(abs)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: restore your copy of it, or make the first one with `kycgate keys init`: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, reason(err))
	}
	f, info, err := read(abs)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	key, err := w.wrapper().open(f.Wrapping)
	switch {
	case errors.Is(err, ErrPassphrase), errors.Is(err, ErrKMS):
		return nil, fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s %w", path, err)
	}
	s, ok, err := f.unseal(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %w", path, err)
	case !ok && f.Wrapping.Argon2id == nil:
		return nil, fmt.Errorf("%s %w", path, errNotWhole)
	case !ok:
		return nil, fmt.Errorf("%s: %w: give the one it was made with", path, ErrPassphrase)
	}
	k, err := newKeyset(abs, f, key, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k.keys().now.Load().file = info
	return k, nil
}

// OpenSandbox opens the keyset of a sandbox and makes it first if it is not there.
func OpenSandbox(path string) (k *Keyset, made bool, err error) {
	err = Create(path, Sandbox())
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, false, err
	}
	made = err == nil
	k, err = Open(path, Sandbox())
	return k, made, err
}

// MadeBy is the command that made the keyset.
func (k *Keyset) MadeBy() string { return k.keys().head.MadeBy }

// read reads and parses the file. The checks are of the very file that is read.
func read(path string) (_ file, info os.FileInfo, err error) {
	// Not blocking, so that a pipe in its place is an error and not a hang.
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{}, nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	defer func() { _ = in.Close() }()
	if info, err = in.Stat(); err != nil {
		return file{}, nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	if !info.Mode().IsRegular() {
		return file{}, nil, errNotWhole
	}
	if info.Mode().Perm()&0o077 != 0 {
		return file{}, nil, errReadable
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return file{}, nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	if len(data) > maxFile {
		return file{}, nil, errNotWhole
	}
	f, err := parse(data)
	return f, info, err
}

// writeNew writes a file that must not exist, to the device.
func writeNew(path string, data []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// syncFolder brings the folder's entry of a file to the device.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// reason is an error of the system without the path, which the message has already.
func reason(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
