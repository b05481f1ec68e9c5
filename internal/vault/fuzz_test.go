package vault

import (
	"bytes"
	"crypto/rand"
	"testing"
)

// FuzzParse: whatever the bytes, no panic, no large allocation, and what is accepted is exactly what would
// be written.
func FuzzParse(f *testing.F) {
	s, err := newSecrets()
	must(f, err)
	key := make([]byte, fileKeySize)
	_, _ = rand.Read(key)
	for _, how := range []wrapping{
		{Argon2id: &argon2id{make([]byte, saltSize), argonTime, argonMemoryKiB, argonThreads}},
		{Argon2id: &argon2id{make([]byte, saltSize), 1 << 31, 1 << 31, 255}}, // would take hours and 2 TiB
		{KMS: &kms{KMSExample, []byte("vault:v1:AAAA")}},
		{Sandbox: true},
		{},
	} {
		file, err := seal(head{formatVersion, byInit, how}, key, s)
		must(f, err)
		f.Add(file.encode())
	}
	f.Add([]byte(`{"kycgate_keyset":2}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(file.encode(), data) {
			t.Error("accepted what we do not write")
		}
		if a := file.Wrapping.Argon2id; a != nil && (a.MemoryKiB > maxArgonMemoryKiB || a.MemoryKiB < argonMemoryKiB || a.Time > maxArgonTime || a.Time < 1 || a.Threads < 1) {
			t.Error("accepted parameters out of bounds")
		}
		if file.Wrapping.check() != nil {
			t.Error("accepted a file without a way to open it")
		}
		if s, ok, err := file.unseal(key); ok && err == nil {
			if _, err := newKeyset("", file, key, s); err != nil {
				t.Error("what was unsealed cannot be used")
			}
		}
	})
}

// FuzzContents: what is inside is ours, but a keyset of a future version or a mistake of ours must be an
// error and not a panic.
func FuzzContents(f *testing.F) {
	_, k := made(f)
	f.Add(decrypted(f, k))
	_, err := k.AddPrimary()
	must(f, err)
	f.Add(decrypted(f, k))
	f.Add([]byte(`{"master":"","index":"","mac":"","signing":""}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		s, err := parseContents(plain)
		if err != nil {
			return
		}
		k, err := newKeyset("", file{}, nil, s)
		if err != nil {
			t.Fatal(err)
		}
		wrapped := wrap(t, k, "key", "here")
		unwraps(t, k, wrapped, "key", "here")
		if !k.Current(wrapped) || !k.Verify([]byte("x"), k.Sign([]byte("x"))) || len(k.Index("a", "b", "c")) != 16 {
			t.Error("accepted a keyset that does not work")
		}
	})
}

// FuzzUnwrap: stored bytes are outside bytes too.
func FuzzUnwrap(f *testing.F) {
	k := inMemory(f)
	f.Add(wrap(f, k, "key", "here"), []byte("there"))
	f.Add([]byte{1, 0, 0, 0, 0}, []byte(nil))
	f.Fuzz(func(t *testing.T, wrapped, associated []byte) {
		if _, err := k.Unwrap(wrapped, associated); err == nil {
			t.Error("unwrapped what was never wrapped there")
		}
		k.Current(wrapped)
	})
}
