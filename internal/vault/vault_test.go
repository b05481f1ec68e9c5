package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

const passphrase = "correct horse battery staple"

// made makes a keyset file and opens it. It is a sandbox's, which costs no derivation, for all that is not about passphrases.
func made(t testing.TB) (string, *Keyset) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	k, _, err := OpenSandbox(path)
	must(t, err)
	return path, k
}

// protected is made with a passphrase.
func protected(t testing.TB) (string, *Keyset) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	must(t, Create(path, Passphrase(passphrase)))
	return path, opened(t, path)
}

func opened(t testing.TB, path string) *Keyset {
	t.Helper()
	k, err := Open(path, Passphrase(passphrase))
	must(t, err)
	return k
}

// again is another process with the same file, whatever it is wrapped by.
func again(t testing.TB, k *Keyset) *Keyset {
	t.Helper()
	f, info, err := read(k.keys().path)
	must(t, err)
	s, ok, err := f.unseal(k.keys().key)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	other, err := newKeyset(k.keys().path, f, k.keys().key, s)
	must(t, err)
	other.keys().now.Load().file = info
	return other
}

func inMemory(t testing.TB) *Keyset {
	t.Helper()
	k, err := NewInMemory()
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wrap(t testing.TB, k *Keyset, plain, associated string) []byte {
	t.Helper()
	wrapped, err := k.Wrap([]byte(plain), []byte(associated))
	must(t, err)
	return wrapped
}

func unwraps(t testing.TB, k *Keyset, wrapped []byte, plain, associated string) {
	t.Helper()
	if got, err := k.Unwrap(wrapped, []byte(associated)); err != nil || string(got) != plain {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFileKeepsEverything(t *testing.T) {
	t.Parallel()
	path, k := protected(t)
	wrapped, index, mac, signature := wrap(t, k, "key", "here"), k.Index("acme", "cpf", "52998224725"), k.MAC([]byte("row")), k.Sign([]byte("head"))
	other := opened(t, path)
	unwraps(t, other, wrapped, "key", "here")
	if !other.Current(wrapped) || !bytes.Equal(other.Index("acme", "cpf", "52998224725"), index) || !bytes.Equal(other.MAC([]byte("row")), mac) || !other.Verify([]byte("head"), signature) {
		t.Error("the file opened again is another keyset")
	}
	if len(index) != 16 || len(mac) != 32 || other.Masters() != 1 || other.MadeBy() != "kycgate keys init" {
		t.Error(len(index), len(mac), other.Masters(), other.MadeBy())
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Nothing of the keys is in the file in clear, in any of the ways bytes are written.
func TestFileHoldsNoSecret(t *testing.T) {
	t.Parallel()
	path, k := protected(t)
	data, err := os.ReadFile(path)
	must(t, err)
	plain := decrypted(t, k)
	var c contents
	must(t, json.Unmarshal(plain, &c))
	for name, secret := range map[string][]byte{
		"passphrase": []byte(passphrase), "index": c.Index, "mac": c.MAC, "signing": c.Signing, "file key": k.keys().key, "master": c.Master[len(c.Master)-40 : len(c.Master)-8],
	} {
		encoded, err := json.Marshal(secret)
		must(t, err)
		for _, form := range [][]byte{secret, encoded[1 : len(encoded)-3], []byte(hex.EncodeToString(secret))} {
			if bytes.Contains(data, form) {
				t.Errorf("the %s is in the file", name)
			}
		}
	}
	var fields map[string]json.RawMessage
	must(t, json.Unmarshal(data, &fields))
	if len(fields) != 5 {
		t.Errorf("in clear: %s", data)
	}
}

func decrypted(t testing.TB, k *Keyset) []byte {
	t.Helper()
	f, _, err := read(k.keys().path)
	must(t, err)
	plain, err := f.decrypt(k.keys().key)
	must(t, err)
	return plain
}

func TestCreateReplacesNothing(t *testing.T) {
	t.Parallel()
	path, _ := made(t)
	before, err := os.ReadFile(path)
	must(t, err)
	if err := Create(path, Passphrase(passphrase)); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file was replaced")
	}
	for name, path := range map[string]string{"no folder": filepath.Join(filepath.Dir(path), "none", "keyset.json"), "a folder": filepath.Dir(path)} {
		if err := Create(path, Passphrase(passphrase)); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if err := Create(filepath.Join(filepath.Dir(path), "empty.json"), Passphrase("")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("an empty passphrase: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good, _ := protected(t)
	data, err := os.ReadFile(good)
	must(t, err)
	dir := t.TempDir()
	put := func(name string, data []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, mode))
		must(t, os.Chmod(path, mode))
		return path
	}
	altered := bytes.Replace(data, []byte(`"kycgate keys init"`), []byte(`"kycgate sandbox"`), 1)
	sandbox := filepath.Join(dir, "sandbox.json")
	must(t, Create(sandbox, Sandbox()))
	// Whoever repairs the checksum as well changed what is bound to the keys.
	f, err := parse(data)
	must(t, err)
	f.MadeBy = bySandbox
	for name, tt := range map[string]struct {
		path string
		with Wrapper
		is   error
		says string
	}{
		"another passphrase": {good, Passphrase("wrong horse battery staple"), ErrPassphrase, "give the one it was made with"},
		"no passphrase":      {good, Passphrase(""), ErrPassphrase, "empty"},
		"no wrapper":         {good, Wrapper{}, ErrPassphrase, "empty"},
		"a KMS":              {good, KMS("hcvault://vault/transit/keys/kycgate", nil), ErrKMS, "wrapped by a passphrase"},
		"truncated":          {put("truncated", data[:len(data)/2], 0o600), Passphrase(passphrase), errNotWhole, "restore your copy"},
		"empty":              {put("empty", nil, 0o600), Passphrase(passphrase), errNotWhole, "restore your copy"},
		"altered":            {put("altered", altered, 0o600), Passphrase(passphrase), errNotWhole, "restore your copy"},
		"altered with care":  {put("careful", f.encode(), 0o600), Passphrase(passphrase), ErrPassphrase, "made with"},
		"too large":          {put("large", append(data, make([]byte, maxFile)...), 0o600), Passphrase(passphrase), errNotWhole, "restore your copy"},
		"readable by all":    {put("readable", data, 0o604), Passphrase(passphrase), errReadable, "chmod 600"},
		"readable by group":  {put("group", data, 0o640), Passphrase(passphrase), errReadable, "chmod 600"},
		"a folder":           {dir, Passphrase(passphrase), errNotWhole, "restore your copy"},
		"not there":          {filepath.Join(dir, "none"), Passphrase(passphrase), os.ErrNotExist, "kycgate keys init"},
		"a sandbox's":        {sandbox, Passphrase(passphrase), nil, "protects nothing"},
		"for a sandbox":      {good, Sandbox(), nil, "not a sandbox's"},
		"of the future":      {put("future", bytes.Replace(data, []byte(`"kycgate_keyset": 1`), []byte(`"kycgate_keyset": 2`), 1), 0o600), Passphrase(passphrase), nil, "newer kycgate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(tt.path, tt.with)
			if err == nil || (tt.is != nil && !errors.Is(err, tt.is)) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.path) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "horse") {
				t.Errorf("it shows the passphrase: %v", err)
			}
		})
	}
}

// Every bit of the file counts.
func TestEveryBitFlipIsRefused(t *testing.T) {
	t.Parallel()
	path, k := protected(t)
	data, err := os.ReadFile(path)
	must(t, err)
	for i := range len(data) * 8 {
		flipped := bytes.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := parse(flipped); err == nil {
			t.Fatalf("bit %d is not checked", i)
		}
	}
	for n := range data {
		if _, err := parse(data[:n]); err == nil {
			t.Fatalf("the first %d bytes are a file", n)
		}
	}
	f, err := parse(data)
	must(t, err)
	for i := range len(f.Keys) * 8 {
		g := f
		g.Keys = bytes.Clone(f.Keys)
		g.Keys[i/8] ^= 1 << (i % 8)
		if _, ok, err := g.unseal(k.keys().key); ok || err != nil {
			t.Fatalf("bit %d of the encrypted keys: %v, %v", i, ok, err)
		}
	}
}

func TestUnwrapRefuses(t *testing.T) {
	t.Parallel()
	k := inMemory(t)
	wrapped := wrap(t, k, "0123456789abcdef0123456789abcdef", "acme|per_1")
	unwraps(t, k, wrapped, "0123456789abcdef0123456789abcdef", "acme|per_1")
	for i := range len(wrapped) * 8 {
		flipped := bytes.Clone(wrapped)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := k.Unwrap(flipped, []byte("acme|per_1")); !errors.Is(err, ErrUnwrap) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	for n := range wrapped {
		if _, err := k.Unwrap(wrapped[:n], []byte("acme|per_1")); !errors.Is(err, ErrUnwrap) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for _, elsewhere := range []string{"", "acme|per_2", "bazaar|per_1"} {
		if _, err := k.Unwrap(wrapped, []byte(elsewhere)); !errors.Is(err, ErrUnwrap) {
			t.Errorf("at %q: %v", elsewhere, err)
		}
	}
	other := inMemory(t)
	if _, err := other.Unwrap(wrapped, []byte("acme|per_1")); !errors.Is(err, ErrUnwrap) || other.Current(wrapped) {
		t.Errorf("another keyset: %v", err)
	}
}

// The key id stands where the store finds it by itself.
func TestWrappedBeginsWithTheKeyID(t *testing.T) {
	t.Parallel()
	k := inMemory(t)
	wrapped := wrap(t, k, "key", "")
	id, ok := masterOf(wrapped)
	if !ok || id != k.keys().now.Load().primary || !k.Current(wrapped) || k.Current(nil) || k.Current(wrapped[:4]) {
		t.Error(id, ok)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	k, other := inMemory(t), inMemory(t)
	rapid.Check(t, func(t *rapid.T) {
		// Few letters, so that one list of parts is often another one cut at other places.
		part := rapid.StringMatching(`[ab]{0,3}`)
		a := [3]string{part.Draw(t, "partner"), part.Draw(t, "field"), part.Draw(t, "value")}
		b := [3]string{part.Draw(t, "partner 2"), part.Draw(t, "field 2"), part.Draw(t, "value 2")}
		x, y := k.Index(a[0], a[1], a[2]), k.Index(b[0], b[1], b[2])
		if bytes.Equal(x, y) != (a == b) {
			t.Fatalf("%q and %q: %x %x", a, b, x, y)
		}
		if bytes.Equal(x, other.Index(a[0], a[1], a[2])) {
			t.Fatal("two keysets have one index")
		}
		if len(x) != 16 || cap(x) != 16 {
			t.Fatal(len(x), cap(x))
		}
	})
}

func TestSign(t *testing.T) {
	t.Parallel()
	k, other := inMemory(t), inMemory(t)
	signature := k.Sign([]byte("head"))
	if !k.Verify([]byte("head"), signature) || k.Verify([]byte("heat"), signature) || other.Verify([]byte("head"), signature) || k.Verify([]byte("head"), signature[:63]) || k.Verify([]byte("head"), nil) {
		t.Error("a signature is not what it signs")
	}
	if bytes.Equal(k.MAC([]byte("head")), other.MAC([]byte("head"))) {
		t.Error("two keysets have one MAC")
	}
}

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	w := Passphrase(passphrase)
	secret := []string{passphrase, path}
	for _, key := range [][]byte{k.keys().key, k.keys().index, k.keys().mac, k.keys().sign} {
		secret = append(secret, string(key), hex.EncodeToString(key), strings.Trim(fmt.Sprintf("%d", key), "[]"))
	}
	type holder struct {
		Keyset  *Keyset
		Copy    Keyset
		Wrapper Wrapper
		keyset  *Keyset
		copy    Keyset
		wrapper Wrapper
	}
	h := holder{k, *k, w, k, *k, w}
	var out []string
	for _, v := range []any{k, *k, w, &w, h, &h} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		data, err := json.Marshal(v)
		must(t, err)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		out = append(out, string(data), log.String())
	}
	for _, text := range out {
		for _, s := range secret {
			if strings.Contains(text, s) {
				t.Errorf("prints %q", text)
			}
		}
	}
	if got := fmt.Sprintf("%v %s %#v", k, *k, w); got != "[REDACTED] [REDACTED] [REDACTED]" {
		t.Error(got)
	}
}

// All of it at once, for the race detector, while another process rotates.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	_, k := made(t)
	rotator := again(t, k)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				key := make([]byte, 32)
				_, _ = rand.Read(key)
				wrapped, err := k.Wrap(key, []byte("here"))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := k.Unwrap(wrapped, []byte("here")); err != nil || !bytes.Equal(got, key) {
					t.Errorf("not read back: %v", err)
				}
				partner := fmt.Sprint(i % 3)
				if !bytes.Equal(k.Index(partner, "cpf", fmt.Sprint(n)), rotator.Index(partner, "cpf", fmt.Sprint(n))) {
					t.Error("two indexes of one value")
				}
				k.Current(wrapped)
				k.Verify(key, k.Sign(k.MAC(key)))
			}
		})
	}
	for range 10 {
		if _, err := rotator.AddPrimary(); err != nil {
			t.Error(err)
		}
		// Not DropOld: these data keys are not wrapped anew.
		if _, err := k.Reload(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// A sandbox keeps its keyset, and its keyset is no other's.
func TestSandbox(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kycgate-sandbox-keyset.json")
	k, made, err := OpenSandbox(path)
	if err != nil || !made || k.MadeBy() != "kycgate sandbox" {
		t.Fatal(made, err)
	}
	wrapped := wrap(t, k, "key", "")
	again, made, err := OpenSandbox(path)
	if err != nil || made {
		t.Fatal(made, err)
	}
	unwraps(t, again, wrapped, "key", "")
	if other, _, err := OpenSandbox(filepath.Join(t.TempDir(), "keyset.json")); err != nil || bytes.Equal(other.Index("a", "b", "c"), k.Index("a", "b", "c")) {
		t.Errorf("two sandboxes have the same keys: %v", err)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.WriteFile(path, []byte("{}"), 0o600))
	if _, _, err := OpenSandbox(path); !errors.Is(err, errNotWhole) {
		t.Errorf("a damaged one: %v", err)
	}
	if _, _, err := OpenSandbox(filepath.Join(path, "none")); err == nil {
		t.Error("made in a folder that is not there")
	}
}
