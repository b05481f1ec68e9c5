package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kycgate/kycgate/internal/auth/keys"
)

// GenerateKey makes the key pair of a sandbox in dir: a JWK set and the Ed25519 key that signs for it,
// readable by this user alone. A pair that is there already is kept, so that tokens outlive a restart.
func GenerateKey(dir string) (jwksFile, signingFile string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make a sandbox key: %w", err)
	}
	jwksFile, signingFile = filepath.Join(dir, "jwks.json"), filepath.Join(dir, "signing.pem")
	key, err := sandboxKey(signingFile)
	if err != nil {
		return "", "", fmt.Errorf("make a sandbox key: %w", err)
	}
	if err := sandboxSet(jwksFile, key); err != nil {
		return "", "", fmt.Errorf("make a sandbox key: %w", err)
	}
	return jwksFile, signingFile, nil
}

// sandboxSet writes the JWK set that follows from the key, or checks that the one there holds it.
func sandboxSet(file string, key crypto.Signer) error {
	thumbprint, err := keys.Thumbprint(key.Public())
	if err != nil {
		return err
	}
	data, err := keys.MarshalSet(keys.SandboxPrefix+thumbprint, key.Public())
	if err != nil {
		return err
	}
	if err := writeNew(file, data); !errors.Is(err, os.ErrExist) {
		return err
	}
	there, err := readFile(file)
	if err != nil {
		return err
	}
	set, err := keys.ParseSet(there)
	if err != nil {
		return fmt.Errorf("%s %w; remove it to have a new one made", file, err)
	}
	if !slices.ContainsFunc(set, func(k keys.Key) bool { return keys.Equal(k.Key, key.Public()) }) {
		return fmt.Errorf("%s does not hold the signing key beside it; remove it to have a new one made", file)
	}
	return nil
}

// sandboxKey reads the key, or makes it.
func sandboxKey(file string) (crypto.Signer, error) {
	_, fresh, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, err
	}
	err = writeNew(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err == nil {
		return fresh, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, _, err := keys.ParsePrivate(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w; remove it to have a new one made", file, err)
	}
	return key, nil
}

// writeNew writes a file that must not exist yet.
func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
