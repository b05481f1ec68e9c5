package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

// fakeTransit is Vault's transit engine with one key, transit/keys/kycgate, of type aes256-gcm96
// (Vault's API documentation, "Transit secrets engine", encrypt and decrypt data).
type fakeTransit struct {
	*httptest.Server
	uri      string
	requests atomic.Int32
	answer   atomic.Pointer[http.HandlerFunc] // instead of Vault's
	mu       sync.Mutex
	bodies   []string
}

func newFakeTransit(t *testing.T) *fakeTransit {
	t.Helper()
	a, err := subtle.NewAESGCM(make([]byte, 32))
	must(t, err)
	f := &fakeTransit{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		data, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.bodies = append(f.bodies, string(data))
		f.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(data))
		if other := f.answer.Load(); other != nil {
			(*other)(w, r)
			return
		}
		refuse := func(status int, text string) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{text}})
		}
		var in struct {
			Plaintext  []byte `json:"plaintext"`
			Ciphertext string `json:"ciphertext"`
			Associated []byte `json:"associated_data"`
			Context    []byte `json:"context"`
		}
		switch err := json.Unmarshal(data, &in); {
		case r.Header.Get("X-Vault-Token") != "the-token-of-vault" || r.Header.Get("X-Vault-Request") != "true":
			refuse(403, "permission denied")
		case r.Method != http.MethodPut && r.Method != http.MethodPost:
			refuse(405, "unsupported operation")
		case err != nil || in.Context != nil:
			refuse(400, "bad request")
		case r.URL.Path == "/v1/transit/encrypt/kycgate":
			sealed, err := a.Encrypt(in.Plaintext, in.Associated)
			must(t, err)
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(sealed), "key_version": 1}})
		case r.URL.Path == "/v1/transit/decrypt/kycgate":
			sealed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in.Ciphertext, "vault:v1:"))
			must(t, err)
			plain, err := a.Decrypt(sealed, in.Associated)
			if err != nil {
				refuse(400, "cipher: message authentication failed")
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"plaintext": plain}})
		default:
			refuse(404, "no handler for route")
		}
	}))
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that a test lets fail
	f.StartTLS()
	t.Cleanup(f.Close)
	f.uri = "hcvault://" + f.Listener.Addr().String() + "/transit/keys/kycgate"
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}), 0o600))
	t.Setenv("VAULT_CACERT", ca)
	t.Setenv("VAULT_TOKEN", "the-token-of-vault")
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return f
}

func (f *fakeTransit) wrapper(t *testing.T) Wrapper {
	t.Helper()
	w, err := ForKMS(f.uri)
	must(t, err)
	return w
}

func TestKMS(t *testing.T) {
	f := newFakeTransit(t)
	path := filepath.Join(t.TempDir(), "keyset.json")
	must(t, Create(path, f.wrapper(t)))
	k, err := Open(path, f.wrapper(t))
	must(t, err)
	wrapped := wrap(t, k, "key", "here")

	// The KMS sees the key of the file and nothing of the keyset, and only when a process starts.
	if n := f.requests.Load(); n != 2 {
		t.Errorf("%d requests to make and open a keyset", n)
	}
	if _, err := k.AddPrimary(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, f.wrapper(t))
	must(t, err)
	unwraps(t, again, wrapped, "key", "here")
	must(t, k.DropOld())
	if _, err := again.Reload(); err != nil || again.Masters() != 1 {
		t.Error(err, again.Masters())
	}
	if n := f.requests.Load(); n != 3 {
		t.Errorf("%d requests: a rotation needs none", n)
	}
	f.mu.Lock()
	bodies := f.bodies
	f.mu.Unlock()
	for _, body := range bodies {
		for _, secret := range [][]byte{k.keys().index, k.keys().mac, k.keys().sign.Seed()} {
			if strings.Contains(body, base64.StdEncoding.EncodeToString(secret)) {
				t.Error("a key of the keyset was sent to the KMS")
			}
		}
	}
	data, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(data), f.uri) || strings.Contains(string(data), "the-token") || strings.Contains(string(data), base64.StdEncoding.EncodeToString(k.keys().key)) {
		t.Errorf("the file is %s", data)
	}

	if _, err := Open(path, Passphrase(passphrase)); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), "KMS") {
		t.Errorf("with a passphrase: %v", err)
	}
	other, err := ForKMS(strings.TrimSuffix(f.uri, "kycgate") + "other")
	must(t, err)
	if _, err := Open(path, other); !errors.Is(err, ErrKMS) || !strings.Contains(err.Error(), "another key") {
		t.Errorf("with another key: %v", err)
	}
	if err := Create(filepath.Join(t.TempDir(), "keyset.json"), other); !errors.Is(err, ErrKMS) || !strings.Contains(err.Error(), "404") {
		t.Errorf("a key that is not there: %v", err)
	}
}

// What is at the address may not be a Vault, and has been sent the key of a file: nothing it says is shown.
func TestKMSFails(t *testing.T) {
	f := newFakeTransit(t)
	path := filepath.Join(t.TempDir(), "keyset.json")
	must(t, Create(path, f.wrapper(t)))
	w := f.wrapper(t)
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			w.WriteHeader(status)
			_, _ = w.Write(append([]byte("canary "), data...))
		}
	}
	refuse := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"errors":["canary"]}`))
		}
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"403":         {refuse(403), "VAULT_TOKEN"},
		"404":         {refuse(404), "mount"},
		"400":         {refuse(400), "type with associated data"},
		"sealed":      {refuse(503), "unsealed"},
		"an echo":     {echo(500), "500"},
		"not a Vault": {echo(200), "names a Vault"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, "something else"},
		"another answer": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{"plaintext":1}}`)) }, "names a Vault"},
		"no answer":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{}}`)) }, "something else"},
		"another key":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{"plaintext":"AAAA"}}`)) }, "something else"},
		"no base64": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":{"plaintext":"canary!"}}`))
		}, "names a Vault"},
		"another right key": {func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"plaintext": make([]byte, 32)}})
		}, "restore your copy"},
	} {
		f.answer.Store(&tt.answer)
		_, err := Open(path, w)
		if err == nil || !strings.Contains(err.Error(), tt.says) || (!errors.Is(err, ErrKMS) && !errors.Is(err, errNotWhole)) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "vault:v1") || strings.Contains(err.Error(), "the-token") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: it shows %v", name, err)
		}
		made := filepath.Join(t.TempDir(), "keyset.json")
		if name == "another key" || name == "another right key" || name == "no base64" || name == "no answer" {
			continue // answers to decrypting
		}
		err = Create(made, w)
		if _, there := os.Stat(made); err == nil || there == nil {
			t.Errorf("%s: a keyset was made: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "plaintext")) {
			t.Errorf("%s: it shows %v", name, err)
		}
	}
	f.answer.Store(nil)
	if _, err := Open(path, w); err != nil {
		t.Errorf("mended: %v", err)
	}
	f.Close()
	if _, err := Open(path, w); !errors.Is(err, ErrKMS) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("not there: %v", err)
	}
}

func TestKMSEnvironment(t *testing.T) {
	f := newFakeTransit(t)
	path := filepath.Join(t.TempDir(), "keyset.json")
	// Neither may send the key elsewhere.
	t.Setenv("VAULT_ADDR", "https://127.0.0.1:1")
	t.Setenv("VAULT_AGENT_ADDR", "https://127.0.0.1:1")
	must(t, Create(path, f.wrapper(t)))
	for name, tt := range map[string]struct{ variable, value, says string }{
		"no token":         {"VAULT_TOKEN", "", "VAULT_TOKEN is not set"},
		"wrong token":      {"VAULT_TOKEN", "another-token-of-vault", "check VAULT_TOKEN"},
		"unchecked":        {"VAULT_SKIP_VERIFY", "true", "VAULT_CACERT"},
		"no such CA":       {"VAULT_CACERT", filepath.Join(t.TempDir(), "none.pem"), "VAULT_CACERT"},
		"of another CA":    {"VAULT_CACERT", "", "cannot be reached"},
		"unreadable limit": {"VAULT_RATE_LIMIT", "many", "VAULT_"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tt.variable, tt.value)
			w, err := ForKMS(f.uri)
			if err == nil {
				_, err = Open(path, w)
			}
			if !errors.Is(err, ErrKMS) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "another-token") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestKMSURI(t *testing.T) {
	t.Parallel()
	for _, good := range []string{KMSExample, "hcvault://127.0.0.1:8200/transit/keys/a", "hcvault://vault/teams/kyc/transit/keys/a-b_c.d"} {
		if err := CheckKMS(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "x", "https://vault/transit/keys/a", "aws-kms://arn:aws:kms:x", "hcvault:vault/transit/keys/a", "hcvault:///transit/keys/a", "hcvault://:8200/transit/keys/a",
		"hcvault://vault", "hcvault://vault/keys/a", "hcvault://vault/transit/a", "hcvault://vault/transit/keys/", "hcvault://vault/transit/keys/a/", "hcvault://vault/../keys/a", "hcvault://vault//keys/a",
		"hcvault://me:canary@vault/transit/keys/a", "hcvault://vault/transit/keys/a?token=canary", "hcvault://vault/transit/keys/a#canary", "hcvault://vault/transit/keys/a#", "hcvault://va ult/transit/keys/a", "hcvault://vault/tran%zzsit/keys/a",
	} {
		err := CheckKMS(bad)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := ForKMS(bad); !errors.Is(err, ErrKMS) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := Create(filepath.Join(t.TempDir(), "keyset.json"), KMS(KMSExample, nil)); !errors.Is(err, ErrKMS) {
		t.Errorf("without a client: %v", err)
	}
}
