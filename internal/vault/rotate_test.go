package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestRotation(t *testing.T) {
	t.Parallel()
	path, serving := protected(t)
	old := wrap(t, serving, "key", "here")
	rotating := again(t, serving)

	added, err := rotating.AddPrimary()
	if err != nil || !added || rotating.Masters() != 2 || rotating.Current(old) {
		t.Fatal(added, err, rotating.Masters())
	}
	unwraps(t, rotating, old, "key", "here")
	anew := wrap(t, rotating, "key", "here")
	// The process that serves meets the new master key before anybody told it to look.
	unwraps(t, serving, anew, "key", "here")
	if !serving.Current(anew) || serving.Current(old) {
		t.Error("the process that serves goes on with the old primary")
	}

	must(t, rotating.DropOld())
	for name, k := range map[string]*Keyset{"rotating": rotating, "serving": serving} {
		if _, err := k.Reload(); err != nil || k.Masters() != 1 {
			t.Errorf("%s: %d master keys, %v", name, k.Masters(), err)
		}
		// A reader that holds a row from before the end still gets its key.
		unwraps(t, k, old, "key", "here")
		unwraps(t, k, anew, "key", "here")
	}
	// For a process that starts now the old master key is gone.
	next := opened(t, path)
	if _, err := next.Unwrap(old, []byte("here")); !errors.Is(err, ErrUnwrap) || next.Masters() != 1 {
		t.Errorf("after the rotation: %d master keys, %v", next.Masters(), err)
	}
	unwraps(t, next, anew, "key", "here")
	if !bytes.Equal(next.Index("acme", "cpf", "1"), serving.Index("acme", "cpf", "1")) || !next.Verify([]byte("x"), serving.Sign([]byte("x"))) {
		t.Error("a rotation of the master keys changed the others")
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Nothing is wrapped by an old primary once the file has the new one, without anybody calling Reload.
func TestWrapFollowsTheFile(t *testing.T) {
	t.Parallel()
	_, serving := made(t)
	rotating := again(t, serving)
	for range 3 {
		_, err := rotating.AddPrimary()
		must(t, err)
		if !rotating.Current(wrap(t, serving, "key", "")) {
			t.Fatal("wrapped by the old primary")
		}
		must(t, rotating.DropOld())
		if !rotating.Current(wrap(t, serving, "key", "")) {
			t.Fatal("wrapped by a dropped key")
		}
	}
}

// A rotation that was killed is finished by the next, not begun again.
func TestRotationIsNeverDoubled(t *testing.T) {
	t.Parallel()
	_, k := made(t)
	killed := again(t, k)
	added, err := killed.AddPrimary()
	if err != nil || !added {
		t.Fatal(added, err)
	}
	for _, next := range []*Keyset{again(t, k), k, killed} {
		if added, err := next.AddPrimary(); err != nil || added || next.Masters() != 2 || !killed.Current(wrap(t, next, "key", "")) {
			t.Fatal(added, err, next.Masters())
		}
	}
	must(t, k.DropOld())
	must(t, killed.DropOld())
	must(t, again(t, k).DropOld())
	if again(t, k).Masters() != 1 {
		t.Error("not finished")
	}
}

// Cut off at any point of writing, the old file or the new one is there; what is left over disturbs nobody.
func TestRotationCutOff(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	wrapped := wrap(t, k, "key", "")
	for _, left := range []string{"", "half of a fi"} {
		must(t, os.WriteFile(path+".new", []byte(left), 0o600))
		unwraps(t, again(t, k), wrapped, "key", "")
		_, err := k.AddPrimary()
		must(t, err)
		must(t, k.DropOld())
		if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the temporary file is left: %v", err)
		}
		wrapped = wrap(t, k, "key", "")
	}
}

// Two processes that rotate at the same time make one rotation.
func TestTwoRotations(t *testing.T) {
	t.Parallel()
	_, k := made(t)
	results := make(chan bool)
	for range 4 {
		other := again(t, k)
		go func() {
			added, err := other.AddPrimary()
			if err != nil {
				t.Error(err)
			}
			results <- added
		}()
	}
	begun := 0
	for range 4 {
		if <-results {
			begun++
		}
	}
	if begun != 1 || again(t, k).Masters() != 2 {
		t.Errorf("%d rotations begun, %d master keys", begun, again(t, k).Masters())
	}
}

// A link to the file stays a link.
func TestRotationThroughALink(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	link := filepath.Join(t.TempDir(), "keyset.json")
	must(t, os.Symlink(path, link))
	linked, _, err := OpenSandbox(link)
	must(t, err)
	_, err = linked.AddPrimary()
	must(t, err)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	if changed, err := k.Reload(); err != nil || !changed {
		t.Errorf("the file was not changed: %v", err)
	}
}

// While the file cannot be read, or is another, nothing is wrapped: it could be lost. What was wrapped is
// still read.
func TestFileGoneBad(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	good, err := os.ReadFile(path)
	must(t, err)
	wrapped := wrap(t, k, "key", "")
	another := filepath.Join(t.TempDir(), "another.json")
	must(t, Create(another, Sandbox()))
	other, err := os.ReadFile(another)
	must(t, err)
	// The same head around other keys, as nobody but us can make it.
	f, _, err := read(path)
	must(t, err)
	s, err := newSecrets()
	must(t, err)
	forged, err := seal(f.head(), k.keys().key, s)
	must(t, err)

	for name, tt := range map[string]struct {
		spoil func() error
		says  string
	}{
		"gone":         {func() error { return os.Remove(path) }, "no such file"},
		"truncated":    {func() error { return os.WriteFile(path, good[:100], 0o600) }, "restore your copy"},
		"readable":     {func() error { return os.Chmod(path, 0o644) }, "chmod 600"},
		"another":      {func() error { return os.WriteFile(path, other, 0o600) }, "not the keyset this process started with"},
		"others' keys": {func() error { return os.WriteFile(path, forged.encode(), 0o600) }, "not the keyset this process started with"},
		"wrapped anew": {func() error {
			g := f
			g.Wrapping = wrapping{Argon2id: &argon2id{make([]byte, saltSize), 1, 1 << 16, 1}}
			return os.WriteFile(path, g.encode(), 0o600)
		}, "not the keyset this process started with"},
		"keys cut short": {func() error { g := f; g.Keys = g.Keys[:40]; return os.WriteFile(path, g.encode(), 0o600) }, "restore your copy"},
	} {
		must(t, tt.spoil())
		if _, err := k.Wrap([]byte("key"), nil); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: Wrap gives %v", name, err)
		}
		if changed, err := k.Reload(); err == nil || changed {
			t.Errorf("%s: Reload gives %v", name, err)
		}
		if added, err := k.AddPrimary(); err == nil || added || k.DropOld() == nil {
			t.Errorf("%s: it was rotated: %v", name, err)
		}
		unwraps(t, k, wrapped, "key", "")
		must(t, os.RemoveAll(path))
		must(t, os.WriteFile(path, good, 0o600))
		if wrapped := wrap(t, k, "key", ""); !k.Current(wrapped) {
			t.Errorf("%s: not mended", name)
		}
	}
}

// A folder that cannot be written leaves everything as it was.
func TestRotationThatCannotWrite(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	// A folder with something in it, where the temporary file should be: os.Remove cannot take it away.
	must(t, os.MkdirAll(filepath.Join(path+".new", "x"), 0o700))
	wrapped := wrap(t, k, "key", "")
	if added, err := k.AddPrimary(); err == nil || added || !strings.Contains(err.Error(), path) || k.Masters() != 1 || !k.Current(wrapped) {
		t.Errorf("%v, %v, %d master keys", added, err, k.Masters())
	}
}

// What holds between processes: whatever they do in whatever order, everything that is wrapped is read by
// all of them, as long as it was wrapped anew before an old key is dropped.
func TestProcessesAgree(t *testing.T) {
	t.Parallel()
	path, first := made(t)
	good, err := os.ReadFile(path)
	must(t, err)
	rapid.Check(t, func(rt *rapid.T) {
		must(t, os.WriteFile(path, good, 0o600))
		processes := []*Keyset{again(t, first), again(t, first), again(t, first)}
		var rows [][]byte
		process := func() *Keyset { return rapid.SampledFrom(processes).Draw(rt, "process") }
		rt.Repeat(map[string]func(*rapid.T){
			"wrap": func(*rapid.T) { rows = append(rows, wrap(t, process(), "key", "")) },
			"begin": func(rt *rapid.T) {
				if _, err := process().AddPrimary(); err != nil {
					rt.Fatal(err)
				}
			},
			"finish": func(rt *rapid.T) {
				k := process()
				if _, err := k.Reload(); err != nil {
					rt.Fatal(err)
				}
				for i, row := range rows {
					if !k.Current(row) {
						plain, err := k.Unwrap(row, nil)
						if err != nil {
							rt.Fatal(err)
						}
						rows[i] = wrap(t, k, string(plain), "")
					}
				}
				if err := k.DropOld(); err != nil {
					rt.Fatal(err)
				}
			},
			"restart": func(rt *rapid.T) {
				processes[rapid.IntRange(0, len(processes)-1).Draw(rt, "restarted")] = again(t, first)
			},
			"": func(rt *rapid.T) {
				for _, row := range rows {
					if got, err := process().Unwrap(row, nil); err != nil || string(got) != "key" {
						rt.Fatalf("%q, %v", got, err)
					}
				}
			},
		})
	})
}

// Root may rotate, and the user that the gateway runs as can still read the file.
func TestRotationKeepsTheOwner(t *testing.T) {
	t.Parallel()
	path, k := made(t)
	const user, group = 4321, 4322
	if err := os.Chown(path, user, group); err != nil {
		t.Skip(err) // only root gives files away
	}
	_, err := k.AddPrimary()
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != user || s.Gid != group || info.Mode().Perm() != 0o600 {
		t.Errorf("the file belongs to %+v, mode %v", info.Sys(), info.Mode())
	}
}
