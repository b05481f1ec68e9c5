package store

import (
	"os"
	"testing"

	"github.com/kycgate/kycgate/internal/vault"
)

// testKeys are shared by the tests of one process: a keyset is safe for concurrent use, and every test has its own database.
var testKeys = func() *vault.Keyset {
	if file := os.Getenv(keysHelper); file != "" {
		return openKeys(file)
	}
	k, err := vault.NewInMemory()
	if err != nil {
		panic(err)
	}
	return k
}()

// keysHelper names the keyset file of a process of this test binary that shares a database with others.
const keysHelper = "KYCGATE_STORE_TEST_KEYS"

var testPassphrase = vault.Passphrase("for the tests of this package only")

func openKeys(file string) *vault.Keyset {
	k, err := vault.Open(file, testPassphrase)
	if err != nil {
		panic(err)
	}
	return k
}

func createKeys(t testing.TB, file string) *vault.Keyset {
	t.Helper()
	if err := vault.Create(file, testPassphrase); err != nil {
		t.Fatal(err)
	}
	return openKeys(file)
}
