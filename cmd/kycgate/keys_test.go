package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kycgate/kycgate/internal/vault"
)

const goodPassphrase = "correct horse battery staple"

// TestKeysInit changes the environment, so it runs alone.
func TestKeysInit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KYCGATE_TEST_PASSPHRASE", goodPassphrase+"\n")
	t.Setenv("KYCGATE_TEST_EMPTY", "")
	inFile := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(inFile, []byte(goodPassphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, passphrase := range []string{"env:KYCGATE_TEST_PASSPHRASE", "file:" + inFile} {
		out := filepath.Join(dir, fmt.Sprintf("keyset-%d.json", i))
		code, stdout, stderr := kycgate(t, "keys", "init", "--out", out, "--passphrase", passphrase)
		if code != 0 || stderr != "" || !strings.Contains(stdout, out) || !strings.Contains(stdout, "  passphrase: "+passphrase+"\n") || !strings.Contains(stdout, "Keep a copy") {
			t.Errorf("ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
		}
		if _, err := vault.Open(out, vault.Passphrase(goodPassphrase)); err != nil {
			t.Error(err)
		}
	}

	there := filepath.Join(dir, "keyset-0.json")
	before, err := os.ReadFile(there)
	if err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, "fresh.json")
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file":             {[]string{"--passphrase", "env:KYCGATE_TEST_PASSPHRASE"}, exitConfiguration, "--out: is required"},
		"no passphrase":       {[]string{"--out", fresh}, exitConfiguration, "--passphrase: is required"},
		"a secret in the way": {[]string{"--out", fresh, "--passphrase", goodPassphrase}, exitConfiguration, "--passphrase: must be env:NAME or file:PATH"},
		"no variable":         {[]string{"--out", fresh, "--passphrase", "env:KYCGATE_TEST_NONE"}, exitConfiguration, "--passphrase: the environment variable KYCGATE_TEST_NONE is not set"},
		"an empty variable":   {[]string{"--out", fresh, "--passphrase", "env:KYCGATE_TEST_EMPTY"}, exitConfiguration, "is empty"},
		"no such file":        {[]string{"--out", fresh, "--passphrase", "file:" + inFile + "-none"}, exitConfiguration, "no such file"},
		"both":                {[]string{"--out", fresh, "--passphrase", "env:KYCGATE_TEST_PASSPHRASE", "--kms-uri", vault.KMSExample}, exitConfiguration, "--kms-uri: is given together"},
		"another KMS":         {[]string{"--out", fresh, "--kms-uri", "kms://x"}, exitConfiguration, "--kms-uri: must be the URI"},
		"no token":            {[]string{"--out", fresh, "--kms-uri", "hcvault://127.0.0.1:9/transit/keys/k"}, exitConfiguration, "VAULT_TOKEN"},
		"exists":              {[]string{"--out", there, "--passphrase", "env:KYCGATE_TEST_PASSPHRASE"}, 1, "exists already"},
		"no folder":           {[]string{"--out", filepath.Join(dir, "none", "x"), "--passphrase", "env:KYCGATE_TEST_PASSPHRASE"}, 1, "no such file"},
	} {
		t.Setenv("VAULT_TOKEN", "")
		code, stdout, stderr := kycgate(t, append([]string{"keys", "init"}, tt.args...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.says) || strings.Contains(stderr, "horse") {
			t.Errorf("%s: ends with %d\nstdout: %s\nstderr: %s", name, code, stdout, stderr)
		}
		if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a keyset was made: %v", name, err)
		}
	}
	if after, err := os.ReadFile(there); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the keyset that was there is another: %v", err)
	}

	// A sandbox may have a weak one; what production will say is said now.
	t.Setenv("KYCGATE_TEST_PASSPHRASE", "short")
	weak := filepath.Join(dir, "weak.json")
	if code, _, stderr := kycgate(t, "keys", "init", "--out", weak, "--passphrase", "env:KYCGATE_TEST_PASSPHRASE"); code != 0 || !strings.Contains(stderr, "production refuses this passphrase") || strings.Contains(stderr, `"short"`) {
		t.Errorf("ends with %d and says %s", code, stderr)
	}

	// The variable of the flag may hold the passphrase itself.
	t.Setenv("KYCGATE_PASSPHRASE", goodPassphrase)
	own := filepath.Join(dir, "own.json")
	if code, stdout, stderr := kycgate(t, "keys", "init", "--out", own); code != 0 || !strings.Contains(stdout, "  passphrase: env:KYCGATE_PASSPHRASE\n") || strings.Contains(stdout+stderr, "horse") {
		t.Errorf("ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	if _, err := vault.Open(own, vault.Passphrase(goodPassphrase)); err != nil {
		t.Error(err)
	}
	if code, _, stderr := kycgate(t, "keys", "init", "--out", fresh, "--kms-uri", "hcvault://127.0.0.1:9/transit/keys/k"); code != exitConfiguration || !strings.Contains(stderr, "VAULT_TOKEN") {
		t.Errorf("a KMS beside the variable ends with %d and says %s", code, stderr)
	}
}

// TestKeysRefused is the part of X01 and X02 that the start finds out: it names the setting and not the secret.
func TestKeysRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change  func(t *testing.T, keyset string) // after the configuration was written
		edit    [2]string
		setting string
		says    string
	}{
		"another passphrase": {nil, [2]string{goodPassphrase, "incorrect horse battery staple"}, "keys.passphrase", "give the one it was made with"},
		"a sandbox's keyset": {func(t *testing.T, keyset string) {
			must(t, os.Remove(keyset))
			must(t, vault.Create(keyset, vault.Sandbox()))
		}, [2]string{}, "keys.file", "protects nothing"},
		"damaged":          {func(t *testing.T, keyset string) { must(t, os.Truncate(keyset, 100)) }, [2]string{}, "keys.file", "restore your copy"},
		"readable by all":  {func(t *testing.T, keyset string) { must(t, os.Chmod(keyset, 0o644)) }, [2]string{}, "keys.file", "chmod 600"},
		"not there":        {func(t *testing.T, keyset string) { must(t, os.Remove(keyset)) }, [2]string{}, "keys.file", "no such file"},
		"a KMS instead":    {nil, [2]string{"passphrase: " + goodPassphrase, "kms_uri: hcvault://127.0.0.1:9/transit/keys/k"}, "keys.kms_uri", "VAULT_TOKEN"},
		"a short one":      {nil, [2]string{goodPassphrase, "fifteen-bytes-x"}, "keys.passphrase", "shorter than 16"},
		"nothing at all":   {nil, [2]string{"  passphrase: " + goodPassphrase + "\n", ""}, "keys.passphrase", "required"},
		"none configured":  {nil, [2]string{"keys:\n  file: keyset.json\n  passphrase: " + goodPassphrase + "\n", ""}, "keys", "kycgate keys init"},
		"both of them":     {nil, [2]string{"passphrase: " + goodPassphrase, "passphrase: " + goodPassphrase + "\n  kms_uri: " + vault.KMSExample}, "keys.kms_uri", "remove one"},
		"an unknown thing": {nil, [2]string{"  passphrase: " + goodPassphrase, "  passphrase: " + goodPassphrase + "\n  pass: x"}, "keys.pass", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := configuration(t, strings.Replace(production, tt.edit[0], tt.edit[1], 1))
			if tt.change != nil {
				tt.change(t, filepath.Join(filepath.Dir(file), "keyset.json"))
			}
			for _, args := range [][]string{{"serve"}, {"migrate"}, {"keys", "rotate"}} {
				code, stdout, stderr := kycgate(t, append(args, "--config", file)...)
				if code != exitConfiguration || stdout != "" || !strings.Contains("\n"+stderr, "\nkycgate: configuration: "+tt.setting+": ") || !strings.Contains(stderr, tt.says) || strings.Contains(stderr, "horse") {
					t.Errorf("%q ends with %d\nstdout: %s\nstderr: %s", args, code, stdout, stderr)
				}
			}
			if code, stdout, _ := kycgate(t, "doctor", "--config", file); code != 1 || !strings.Contains(stdout, tt.setting+": ") || !strings.Contains(stdout, tt.says) || strings.Contains(stdout, "horse") {
				t.Errorf("doctor ends with %d\nstdout: %s", code, stdout)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), "kycgate.db")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a database was made: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeysRotate: the command's words and exit code; what it does to data is held in internal/app.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	file := configuration(t, production)
	keyset := filepath.Join(filepath.Dir(file), "keyset.json")
	before, err := os.ReadFile(keyset)
	must(t, err)
	code, stdout, stderr := kycgate(t, "keys", "rotate", "--config", file)
	if code != 0 || !strings.Contains(stdout, "a new master key") || !strings.Contains(stdout, "done") {
		t.Errorf("ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	after, err := os.ReadFile(keyset)
	must(t, err)
	if bytes.Equal(before, after) {
		t.Error("the keyset is the same")
	}
	if code, stdout, _ := kycgate(t, "doctor", "--config", file); !strings.Contains(stdout, "ok    keys ") || !strings.Contains(stdout, "readable; made by `kycgate keys init`; 1 master key, rotation finished") {
		t.Errorf("doctor ends with %d\nstdout: %s", code, stdout)
	}
	if code, _, stderr := kycgate(t, "keys", "rotate"); code != exitConfiguration || !strings.Contains(stderr, "--config") {
		t.Errorf("without --config it ends with %d and says %s", code, stderr)
	}
}

// TestServeSandboxWithoutKeys: it starts, warns, and keeps a keyset beside the database for the next start.
func TestServeSandboxWithoutKeys(t *testing.T) {
	t.Parallel()
	text := strings.Replace(production, "environment: production", "environment: sandbox", 1)
	text = strings.Replace(text, "keys:\n  file: keyset.json\n  passphrase: "+goodPassphrase+"\n", "", 1)
	file := configuration(t, text)
	keyset := filepath.Join(filepath.Dir(file), "kycgate-sandbox-keyset.json")
	var before []byte
	for range 2 {
		cmd := program(t, "serve", "--config", file)
		logs, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		seen := terminateWhen(t, cmd, logs, `"msg":"serving"`)
		if err := cmd.Wait(); err != nil || !strings.Contains(seen, "protects nothing") {
			t.Errorf("%v\n%s", err, seen)
		}
		data, err := os.ReadFile(keyset)
		must(t, err)
		if before != nil && !bytes.Equal(before, data) {
			t.Error("the second start made another keyset")
		}
		before = data
	}
	info, err := os.Stat(keyset)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

// TestCrashesLeaveNothing is M06: no core file, whatever the limit was, and a word about an environment that shows more.
func TestCrashesLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"serve", "--config", configuration(t, production)}, {"sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}} {
		cmd := program(t, args...)
		cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir(), "GOTRACEBACK=crash")
		logs, err := cmd.StderrPipe()
		must(t, err)
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		from, ready := logs, `"msg":"serving"`
		if args[0] == "sandbox" {
			from, ready = stdout, "ready; "
		}
		must(t, cmd.Start())
		var limits []byte
		seen := atText(t, from, ready, func() {
			limits, err = os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
			must(t, err)
			must(t, cmd.Process.Signal(syscall.SIGTERM))
		})
		if args[0] == "sandbox" {
			var rest bytes.Buffer
			_, _ = rest.ReadFrom(logs)
			seen = rest.String()
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", args[0], err)
		}
		core := ""
		for line := range strings.Lines(string(limits)) {
			if strings.HasPrefix(line, "Max core file size") {
				core = strings.Join(strings.Fields(line)[4:6], " ")
			}
		}
		if core != "0 0" {
			t.Errorf("%s: the limit of core files is %q", args[0], core)
		}
		if !strings.Contains(seen, "GOTRACEBACK is set") {
			t.Errorf("%s: no word about GOTRACEBACK: %s", args[0], seen)
		}
	}
}
