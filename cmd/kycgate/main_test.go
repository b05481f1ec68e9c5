package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kycgate/kycgate/internal/auth/keys"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/providers/leap/leapsim"
	"github.com/kycgate/kycgate/providers/qitech/qitechsim"
)

// asProgram makes the test binary be kycgate itself, which spares building it for the tests that need a
// process of its own.
const asProgram = "KYCGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is kycgate as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "GOCOVERDIR="+t.TempDir())
	return cmd
}

// kycgate runs kycgate in this process.
func kycgate(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// production is a configuration that serve takes.
const production = `listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
public_url: https://kyc.example.com
environment: production
database:
  url: sqlite://kycgate.db
keys:
  file: keyset.json
  passphrase: correct horse battery staple
auth:
  issuer: https://issuer.example.com
  audience: kycgate
  jwks_file: jwks.json
  signing_key_file: signing.pem
providers:
  qitech:
    base_url: http://127.0.0.1:9 # nobody answers there, so no test asks the network
    api_key: live-key-1
    webhook_secret: a-long-enough-webhook-key
partners:
  - {id: acme, source_kyc: qitech}
  - {id: bazaar}
`

// keyset is a keyset file that the passphrase of production opens. One is enough: its derivation is slow on purpose.
var keyset = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "kycgate-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "keyset.json")
	if err := vault.Create(file, vault.Passphrase("correct horse battery staple")); err != nil {
		panic(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	return data
})

// configuration writes a configuration and what it refers to, and gives its path.
func configuration(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	set, err := keys.MarshalSet("2026-11", public)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"kycgate.yaml": []byte(text),
		"jwks.json":    set,
		"keyset.json":  keyset(),
		"signing.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "kycgate.yaml")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	code, all, _ := kycgate(t, "--help")
	if code != 0 {
		t.Errorf("--help ends with %d", code)
	}
	for command, flags := range map[string][]string{
		"sandbox":  {"--listen", "KYCGATE_LISTEN", "--admin-listen", "KYCGATE_ADMIN_LISTEN", "--data", "KYCGATE_DATA", "127.0.0.1:8080", "127.0.0.1:9090"},
		"serve":    {"--config", "KYCGATE_CONFIG"},
		"simulate": {"--listen", "KYCGATE_LISTEN", "--scenarios", "KYCGATE_SCENARIOS", "127.0.0.1:8090"},
		"token":    {"--config", "--partner", "KYCGATE_PARTNER", "--scope", "KYCGATE_SCOPE", "--person", "KYCGATE_PERSON", "--ttl", "KYCGATE_TTL", "1h", "persons:read"},
		"migrate":  {"--config"},
		"doctor":   {"--config"},
		"keys":     {"init", "rotate", "--passphrase", "--config"},
		"version":  {},
	} {
		if !strings.Contains(all, "\n  "+command+" ") && !strings.Contains(all, "\n  "+command+"\n") {
			t.Errorf("--help does not mention %s:\n%s", command, all)
		}
		code, help, stderr := kycgate(t, command, "--help")
		if code != 0 || stderr != "" {
			t.Errorf("%s --help ends with %d and says %q", command, code, stderr)
		}
		for _, want := range append(flags, "Example", "kycgate "+command, "--log-format", "KYCGATE_LOG_FORMAT") {
			if !strings.Contains(help, want) {
				t.Errorf("%s --help does not mention %s:\n%s", command, want, help)
			}
		}
	}
}

// TestKeysHelp: the commands of a command have a --help of their own.
func TestKeysHelp(t *testing.T) {
	t.Parallel()
	for command, flags := range map[string][]string{
		"init":   {"--out", "KYCGATE_OUT", "--passphrase", "KYCGATE_PASSPHRASE", "--kms-uri", "KYCGATE_KMS_URI", "VAULT_TOKEN", "16 characters", "env:NAME"},
		"rotate": {"--config", "KYCGATE_CONFIG", "interrupted"},
	} {
		code, help, stderr := kycgate(t, "keys", command, "--help")
		if code != 0 || stderr != "" {
			t.Errorf("keys %s --help ends with %d and says %q", command, code, stderr)
		}
		for _, want := range append(flags, "Example", "kycgate keys "+command, "--log-format") {
			if !strings.Contains(help, want) {
				t.Errorf("keys %s --help does not mention %s:\n%s", command, want, help)
			}
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"fly"}, {"serve", "--fast"}, {"token"}, {"--log-format", "xml", "version"}, {"token", "--ttl", "soon"}} {
		code, stdout, stderr := kycgate(t, args...)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "kycgate: ") || !strings.Contains(stderr, "--help") {
			t.Errorf("%q ends with %d\nstdout: %s\nstderr: %s", args, code, stdout, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := kycgate(t, "version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "kycgate ") || !strings.Contains(stdout, "commit") || !strings.Contains(stdout, "go1.") {
		t.Errorf("version ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
}

// TestConfigurationErrors is X01 of security.md: each weakened setting ends with 78 and its name, whichever
// command reads the configuration.
func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	for setting, edit := range map[string][2]string{
		"keys":                            {"keys:\n  file: keyset.json\n  passphrase: correct horse battery staple\n", ""},
		"keys.file":                       {"keyset.json", "none.json"},
		"keys.passphrase":                 {"correct horse battery staple", "changeme-changeme"},
		"environment":                     {"environment: production\n", ""},
		"public_url":                      {"public_url: https:", "public_url: http:"},
		"database.url":                    {"  url: sqlite://kycgate.db", "  {}"},
		"auth.issuer":                     {"  issuer: https://issuer.example.com\n", ""},
		"auth.audience":                   {"  audience: kycgate\n", ""},
		"auth.jwks_file":                  {"  jwks_file: jwks.json\n", ""},
		"auth.signing_key_file":           {"signing.pem", "none.pem"},
		"providers.qitech.api_key":        {"live-key-1", "changeme"},
		"providers.qitech.webhook_secret": {"    webhook_secret: a-long-enough-webhook-key\n", ""},
		"providers.qitech.base_url":       {"http://127.0.0.1:9", "http://10.0.0.1:9"},
		"providers.qitech.base_urll":      {"    api_key:", "    base_urll: x\n    api_key:"},
		"partners":                        {"partners:\n  - {id: acme, source_kyc: qitech}\n  - {id: bazaar}\n", ""},
	} {
		if !strings.Contains(production, edit[0]) {
			t.Fatalf("%q is not in the configuration", edit[0])
		}
		file := configuration(t, strings.Replace(production, edit[0], edit[1], 1))
		for _, args := range [][]string{{"serve"}, {"migrate"}, {"token", "--partner", "acme", "--scope", "admin"}} {
			code, stdout, stderr := kycgate(t, append(args, "--config", file)...)
			if code != exitConfiguration || stdout != "" || !strings.Contains("\n"+stderr, "\nkycgate: configuration: "+setting+": ") {
				t.Errorf("%s without a good %s ends with %d\nstdout: %s\nstderr: %s", args[0], setting, code, stdout, stderr)
			}
			if strings.Contains(stderr, "changeme") {
				t.Errorf("a secret was printed: %s", stderr)
			}
		}
		if code, stdout, _ := kycgate(t, "doctor", "--config", file); code != 1 || !strings.Contains(stdout, "FAIL  configuration  "+setting+": ") {
			t.Errorf("doctor without a good %s ends with %d and prints %s", setting, code, stdout)
		}
	}

	for _, command := range []string{"serve", "migrate"} {
		if code, _, stderr := kycgate(t, command); code != exitConfiguration || !strings.Contains(stderr, "kycgate: configuration: --config: ") {
			t.Errorf("%s without --config ends with %d and says %s", command, code, stderr)
		}
	}
	code, _, stderr := kycgate(t, "serve", "--config", configuration(t, "environment: production\n"))
	if lines := strings.Count(stderr, "\nkycgate: configuration: ") + 1; code != exitConfiguration || lines < 5 {
		t.Errorf("an empty configuration ends with %d and %d problems, each on a line: %s", code, lines, stderr)
	}
}

// TestSandboxCredentialsInProduction holds the configuration against what the simulator accepts.
func TestSandboxCredentialsInProduction(t *testing.T) {
	t.Parallel()
	for _, credential := range []string{qitechsim.SandboxAPIKey, qitechsim.SandboxFaceAPIKey, qitechsim.SandboxWebhookKey, qitechsim.SandboxDisabledAPIKey} {
		for setting, real := range map[string]string{"api_key": "live-key-1", "webhook_secret": "a-long-enough-webhook-key"} {
			_, err := config.Load(configuration(t, strings.Replace(production, real, credential, 1)))
			if err == nil || !strings.Contains(err.Error(), "providers.qitech."+setting) || strings.Contains(err.Error(), credential) {
				t.Errorf("production with %s of the simulator: %v", setting, err)
			}
		}
	}
	for _, credential := range []string{leapsim.SandboxAPIKey, leapsim.SandboxUnscopedAPIKey} {
		_, err := config.Load(configuration(t, strings.Replace(production, "providers:\n", "providers:\n  leap: {base_url: https://raas.example.com, api_key: "+credential+"}\n", 1)))
		if err == nil || !strings.Contains(err.Error(), "providers.leap.api_key") || strings.Contains(err.Error(), credential) {
			t.Errorf("production with Leap's simulator: %v", err)
		}
	}
}

// TestExitCodesOfTheProcess holds what a supervisor sees.
func TestExitCodesOfTheProcess(t *testing.T) {
	t.Parallel()
	for want, args := range map[int][]string{
		0:                 {"version"},
		1:                 {"fly"},
		exitConfiguration: {"serve"},
	} {
		cmd := program(t, args...)
		_ = cmd.Run() // the exit code is what is looked at
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%q ends with %d, want %d", args, got, want)
		}
	}
}

func TestDatabaseThatCannotBeReached(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing") // a mistyped path must not become an empty database
	for _, path := range []string{"/proc/none/kycgate.db", missing + "/kycgate.db"} {
		file := configuration(t, strings.Replace(production, "sqlite://kycgate.db", "sqlite://"+path, 1))
		for _, command := range []string{"serve", "migrate"} {
			code, stdout, stderr := kycgate(t, command, "--config", file)
			if code != 1 || stdout != "" || !strings.Contains(stderr, "database.url") {
				t.Errorf("%s of %s ends with %d\nstdout: %s\nstderr: %s", command, path, code, stdout, stderr)
			}
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestMigrateAndDoctor(t *testing.T) {
	t.Parallel()
	file := configuration(t, production)
	if code, stdout, stderr := kycgate(t, "migrate", "--config", file); code != 0 || !strings.Contains(stdout, "from schema 0 to ") {
		t.Errorf("migrate ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	if code, stdout, stderr := kycgate(t, "migrate", "--config", file); code != 0 || !strings.Contains(stdout, "already has schema") {
		t.Errorf("a second migrate ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	code, stdout, stderr := kycgate(t, "doctor", "--config", file)
	if code != 1 || stderr != "" {
		t.Errorf("doctor with a provider that is down ends with %d and says %q", code, stderr)
	}
	for _, want := range []string{"ok    configuration", "ok    database", "ok    token keys", "ok    keys ", "FAIL  "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("doctor does not print %q:\n%s", want, stdout)
		}
	}
}

// TestServe: a supervisor starts it, reads JSON on stderr and nothing on stdout, and ends it.
func TestServe(t *testing.T) {
	t.Parallel()
	cmd := program(t, "serve", "--config", configuration(t, production))
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := terminateWhen(t, cmd, logs, `"msg":"serving"`)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM it ends with %v\n%s", err, seen)
	}
	if stdout.Len() != 0 {
		t.Errorf("it printed on stdout: %s", stdout.String())
	}
	for line := range strings.Lines(seen) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a log line is not JSON: %s", line)
		}
	}
}

func TestStoppedWhileStarting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"serve", "--config", configuration(t, production)}, &out, &errs); code != 0 {
		t.Errorf("ends with %d: %s", code, errs.String())
	}
}

// What libraries print is a line of JSON without its text: net/http quotes there what an upstream sent after its answer.
func TestLibrariesLogNoData(t *testing.T) {
	t.Parallel()
	if code, _, errs := kycgate(t, "version"); code != 0 {
		t.Fatal(errs)
	}
	if _, ok := log.Writer().(libraryLog); !ok {
		t.Errorf("the standard logger writes to a %T", log.Writer())
	}
	var b bytes.Buffer
	standard := log.New(libraryLog{slog.New(slog.NewJSONHandler(&b, nil))}, "", 0)
	standard.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", `{"code":"52998224725"}`, nil)
	var line struct{ Msg, Kind string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Kind != "unsolicited_response" || strings.Contains(b.String(), "52998224725") {
		t.Errorf("%s %v", b.String(), err)
	}
}
