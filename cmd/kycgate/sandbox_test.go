package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// terminateWhen reads lines until one contains the text, then sends SIGTERM and reads the rest.
func terminateWhen(t *testing.T, cmd *exec.Cmd, from io.Reader, text string) string {
	t.Helper()
	return atText(t, from, text, func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	})
}

// atText reads lines until one contains the text, calls do, and reads the rest.
func atText(t *testing.T, from io.Reader, text string, do func()) string {
	t.Helper()
	var seen strings.Builder
	in := bufio.NewReader(from)
	for found := false; ; {
		line, err := in.ReadString('\n')
		seen.WriteString(line)
		if !found && strings.Contains(line, text) {
			found = true
			do()
		}
		if err != nil {
			if !found {
				t.Errorf("%q was never printed:\n%s", text, seen.String())
			}
			return seen.String()
		}
	}
}

// startSandbox starts a sandbox as a process, and gives what it printed and how to end it.
func startSandbox(t *testing.T, args ...string) (printed string, end func()) {
	t.Helper()
	cmd := program(t, append([]string{"sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir())
	var logs bytes.Buffer
	cmd.Stderr = &logs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	in := bufio.NewReader(stdout)
	for !strings.Contains(text.String(), "\nready") {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			t.Fatalf("the sandbox ended: %v\n%s\n%s", cmd.Wait(), text.String(), logs.String())
		}
	}
	return text.String(), func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		rest, _ := io.ReadAll(in)
		if err := cmd.Wait(); err != nil || len(rest) > 0 {
			t.Errorf("after SIGTERM it ends with %v, printing %q\n%s", err, rest, logs.String())
		}
	}
}

// pasted lets a POSIX shell read a printed curl, and does what curl would do. The shell is real and curl is
// not, so that the test needs no more than a shell.
func pasted(t *testing.T, command string) (body []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "curl() { for a in \"$@\"; do printf '%s\\0' \"$a\"; done; }\n"+command)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(args) != 8 || args[0] != "-sS" || args[2] != "-H" || args[4] != "-H" || args[6] != "--data" {
		t.Fatalf("the shell reads %q", args)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, args[1], strings.NewReader(args[7]))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{args[3], args[5]} {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the gateway answers %d %s %v", resp.StatusCode, body, err)
	}
	return body
}

// client is the one that tests ask with.
var client = http.Client{Timeout: 30 * time.Second}

var (
	printedCurl  = regexp.MustCompile(`(?s)curl -sS .*?--data '[^']*'`)
	printedToken = regexp.MustCompile(`(?m)^partner (\w+): (.*)\ntoken \((.*)\): (ey\S+)$`)
	printedURL   = regexp.MustCompile(`(?m)^(\w+) +(\S+)`)
)

type registered struct {
	Data struct {
		RegisterPerson struct {
			Outcome string
			Person  struct {
				ID, Name    string
				KYC         struct{ Status string }
				ExternalIDs []struct{ Value string } `json:"externalIds"`
			}
			UserErrors []any
		}
	}
	Errors []any
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	text, end := startSandbox(t)
	curls := printedCurl.FindAllString(text, -1)
	if len(curls) != 2 {
		t.Fatalf("%d curls were printed, want 2:\n%s", len(curls), text)
	}
	var first string
	for i, outcome := range []string{"CREATED", "UPDATED"} {
		body := pasted(t, curls[0])
		var got registered
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		r := got.Data.RegisterPerson
		if len(got.Errors)+len(r.UserErrors) > 0 || r.Outcome != outcome || r.Person.KYC.Status != "APPROVED" || len(r.Person.ExternalIDs) != 1 {
			t.Errorf("pasted %d times it answers %s", i+1, body)
		}
		if i == 0 {
			first = r.Person.ID
		} else if r.Person.ID != first {
			t.Errorf("the second time it is another person: %s", body)
		}
	}
	if body := pasted(t, curls[1]); !strings.Contains(string(body), `"`+first+`"`) || !strings.Contains(string(body), `"Maria da Silva"`) {
		t.Errorf("the second curl answers %s", body)
	}

	urls := make(map[string]string)
	for _, m := range printedURL.FindAllStringSubmatch(text, -1) {
		urls[m[1]] = m[2]
	}
	for name, says := range map[string]string{"Metrics": "kycgate_build_info", "Health": "", "Scenarios": "qitech"} {
		if status, body := get(t, urls[name]); status != http.StatusOK || !strings.Contains(body, says) {
			t.Errorf("%s at %s answers %d %.200s", name, urls[name], status, body)
		}
	}
	if status, _ := get(t, strings.TrimSuffix(urls["GraphQL"], "/graphql")+"/metrics"); status == http.StatusOK {
		t.Error("X04: the metrics are on the public listener")
	}

	var names []string
	for _, m := range printedToken.FindAllStringSubmatch(text, -1) {
		names = append(names, m[3]+"/"+m[1])
		body := pasted(t, curl(strings.TrimSuffix(urls["GraphQL"], "/graphql"), m[4], `{"query":"{ viewer { partner scopes } }"}`))
		var got struct {
			Data struct {
				Viewer struct {
					Partner string
					Scopes  []string
				}
			}
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if v := got.Data.Viewer; v.Partner != m[1] || !slices.Equal(v.Scopes, strings.Fields(m[2])) {
			t.Errorf("the token %s of %s (%s) is %s", m[3], m[1], m[2], body)
		}
	}
	if want := []string{"dashboard/acme", "read-only/acme", "sre/acme", "admin/acme", "dashboard of bazaar/bazaar"}; !slices.Equal(names, want) {
		t.Errorf("the tokens are %v, want %v", names, want)
	}

	folder := urls["Data"]
	if _, err := os.Stat(filepath.Join(folder, "kycgate.db")); err != nil {
		t.Error(err)
	}
	end()
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the temporary folder is left: %v", err)
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestSandboxKeepsItsData: with --data a person and a token outlive the process.
func TestSandboxKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	text, end := startSandbox(t, "--data", dir)
	before := printedCurl.FindAllString(text, -1)
	pasted(t, before[0])
	end()

	text, end = startSandbox(t, "--data", dir)
	defer end()
	// The old token at the new address.
	address := regexp.MustCompile(`http://\S+/graphql`)
	old := address.ReplaceAllString(before[1], address.FindString(text))
	if body := pasted(t, old); !strings.Contains(string(body), `"Maria da Silva"`) {
		t.Errorf("after a restart the person is gone: %s", body)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data folder has mode %v, %v", info.Mode(), err)
	}
}

func TestSandboxAddressTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for flag, other := range map[string]string{"--listen": "--admin-listen", "--admin-listen": "--listen"} {
		code, stdout, stderr := kycgate(t, "sandbox", flag, l.Addr().String(), other, "127.0.0.1:0")
		if code != 1 || stdout != "" || !strings.Contains(stderr, "taken") || !strings.Contains(stderr, " "+flag+"\n") {
			t.Errorf("%s: ends with %d\nstdout: %s\nstderr: %s", flag, code, stdout, stderr)
		}
	}
	if code, _, stderr := kycgate(t, "simulate", "--listen", l.Addr().String()); code != 1 || !strings.Contains(stderr, "--listen") {
		t.Errorf("simulate ends with %d and says %s", code, stderr)
	}
	for _, address := range []string{"here", "192.0.2.1:0", "kyc.example.com:0"} {
		if code, _, stderr := kycgate(t, "sandbox", "--listen", address); code != exitConfiguration || !strings.Contains(stderr, "configuration: --listen: ") {
			t.Errorf("a sandbox on %s ends with %d and says %s", address, code, stderr)
		}
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := kycgate(t, "simulate", "--scenarios")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "PROVIDER") || !strings.Contains(stdout, "qitech") {
		t.Errorf("--scenarios ends with %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}

	cmd := program(t, "simulate", "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if seen := terminateWhen(t, cmd, out, "/scenarios"); !strings.Contains(seen, "/qitech") {
		t.Errorf("it prints %s", seen)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM it ends with %v", err)
	}
}
