package vault

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// rotator makes the test binary rotate a sandbox's keyset without end.
const rotator = "KYCGATE_VAULT_TEST_ROTATE"

func TestMain(m *testing.M) {
	if path := os.Getenv(rotator); path != "" {
		k, _, err := OpenSandbox(path)
		for err == nil {
			if _, err = k.AddPrimary(); err == nil {
				fmt.Println("added")
				err = k.DropOld()
			}
			fmt.Println("dropped")
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Killed at any moment, a rotation leaves a whole keyset that goes on where it stood, and no lock.
func TestRotationKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	k, _, err := OpenSandbox(path)
	must(t, err)
	index := string(k.Index("acme", "cpf", "1"))
	self, err := os.Executable()
	must(t, err)
	unfinished := 0
	for i := range 30 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), rotator+"="+path, "GOCOVERDIR="+t.TempDir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(6) {
			if !lines.Scan() {
				t.Fatalf("it ended by itself: %v", cmd.Wait())
			}
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed

		after, made, err := OpenSandbox(path)
		if err != nil || made {
			t.Fatalf("kill %d: %v", i, err)
		}
		masters := after.Masters()
		if masters > 1 {
			unfinished++
		}
		wrapped := wrap(t, after, "key", "")
		added, err := after.AddPrimary()
		if err != nil || added != (masters == 1) || after.Masters() != 2 {
			t.Fatalf("kill %d: from %d master keys to %d, %v", i, masters, after.Masters(), err)
		}
		unwraps(t, k, wrapped, "key", "")
		must(t, after.DropOld())
		if string(after.Index("acme", "cpf", "1")) != index || after.Masters() != 1 {
			t.Fatalf("kill %d: %d master keys, or another index", i, after.Masters())
		}
	}
	t.Logf("30 kills, %d of them in the middle of a rotation", unfinished)
}
