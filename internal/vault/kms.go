package vault

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KMSExample is the form of the URIs that [ForKMS] takes.
const KMSExample = "hcvault://vault.example.com:8200/transit/keys/kycgate"

// kmsTimeout bounds a request to the KMS with its repetitions, which a gateway that starts waits for (ours).
const kmsTimeout = 10 * time.Second

// CheckKMS tells what is wrong with the URI of a key, without asking the KMS.
func CheckKMS(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "hcvault" || u.Hostname() == "" || u.Opaque != "" {
		return errors.New("must be the URI of a key of a KMS, such as " + KMSExample)
	}
	// Vault's token comes from the environment; a URI with a password in it would stand in clear in the file.
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(uri, "#") {
		return errors.New("must not hold a user, a password, a query (?) or a fragment (#)")
	}
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(parts) < 3 || parts[len(parts)-2] != "keys" {
		return errors.New("must end with /MOUNT/keys/NAME, such as " + KMSExample)
	}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return errors.New("must end with /MOUNT/keys/NAME, such as " + KMSExample)
		}
	}
	return nil
}

// ForKMS wraps with the key of a KMS that the URI names: of the transit engine of HashiCorp Vault, or of
// what speaks its API. The key must be of a type with associated data, such as aes256-gcm96. The token is
// VAULT_TOKEN; VAULT_CACERT, VAULT_NAMESPACE and the other variables of Vault's own client work as there,
// save the address and VAULT_SKIP_VERIFY, which is refused.
func ForKMS(uri string) (Wrapper, error) {
	if err := CheckKMS(uri); err != nil {
		return Wrapper{}, fmt.Errorf("%w: it %w", ErrKMS, err)
	}
	client, err := newTransit(uri)
	if err != nil {
		return Wrapper{}, fmt.Errorf("%w: %w", ErrKMS, err)
	}
	return KMS(uri, client), nil
}

// transit is Tink's client with errors that are fit for a log: the library's hold the whole answer, and
// whatever answers at that address has been sent a key.
type transit struct{ registry.KMSClient }

func newTransit(uri string) (registry.KMSClient, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("its URI cannot be read")
	}
	c := api.DefaultConfig()
	if c.Error != nil {
		return nil, errors.New("the environment variables of Vault's client cannot be read: check VAULT_CACERT and the others that begin with VAULT_")
	}
	transport, ok := c.HttpClient.Transport.(*http.Transport)
	if !ok || transport.TLSClientConfig.InsecureSkipVerify {
		return nil, errors.New("VAULT_SKIP_VERIFY is set, so that anybody could be the KMS: give its certificate authority in VAULT_CACERT instead")
	}
	// The URI alone says where the key is sent.
	c.Address, c.AgentAddress, c.SRVLookup, c.DisableRedirects = "https://"+u.Host, "", false, true
	c.Timeout, c.MinRetryWait, c.MaxRetryWait = kmsTimeout, 100*time.Millisecond, time.Second
	client, err := api.NewClient(c)
	if err != nil {
		return nil, errors.New("the environment variables of Vault's client cannot be used: check those that begin with VAULT_")
	}
	if client.Token() == "" {
		return nil, errors.New("VAULT_TOKEN is not set: set it before starting")
	}
	inner, err := hcvault.NewClientWithAEADOptions("hcvault://"+u.Host+"/", client.Logical())
	if err != nil {
		return nil, errors.New("its URI cannot be used")
	}
	return transit{inner}, nil
}

// GetAEAD implements [registry.KMSClient].
func (t transit) GetAEAD(uri string) (tink.AEAD, error) {
	a, err := t.KMSClient.GetAEAD(uri)
	if err != nil {
		return nil, errors.New("its URI cannot be used")
	}
	return transitAEAD{a}, nil
}

type transitAEAD struct{ inner tink.AEAD }

// Encrypt implements [tink.AEAD].
func (t transitAEAD) Encrypt(plain, associated []byte) ([]byte, error) {
	out, err := t.inner.Encrypt(plain, associated)
	return out, transitError(err, "encrypt")
}

// Decrypt implements [tink.AEAD].
func (t transitAEAD) Decrypt(cipher, associated []byte) ([]byte, error) {
	out, err := t.inner.Decrypt(cipher, associated)
	return out, transitError(err, "decrypt")
}

func transitError(err error, operation string) error {
	var answer *api.ResponseError
	var network *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusForbidden:
			return fmt.Errorf("it answers 403: check VAULT_TOKEN, and that its policy lets it %s with the key", operation)
		case http.StatusNotFound:
			return errors.New("it answers 404: check the mount and the key in the URI")
		case http.StatusBadRequest:
			return fmt.Errorf("it answers 400: check that the key exists, has a type with associated data and may still %s", operation)
		default:
			return fmt.Errorf("it answers %d: check that it is initialised, unsealed and healthy", answer.StatusCode)
		}
	case errors.As(err, &network):
		return fmt.Errorf("it cannot be reached: %w", network.Err)
	default:
		return errors.New("its answer cannot be read: check that the URI names a Vault")
	}
}
