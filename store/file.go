//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// secure makes folder and file for this user only, mends a file that others can read, and locks it for this process.
// A folder that exists is left as it is: it may be somebody's home.
func secure(path string) (lock *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	// SQLite gives a new log the mode of the database; an old one is mended with it.
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		if err == nil {
			if err = os.Chmod(name, 0o600); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, unlockFile(lock))
	}
	return lock, nil
}

// lockFile takes a lock that ends with the process, kill -9 included. The file stays: removing it would let two
// processes hold locks on two files of that name.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w by %s: stop that first", ErrInUse, holder(name))
		}
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, unlockFile(f))
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(err, unlockFile(f))
	}
	return f, nil
}

// unlockFile gives the lock back at once. Closing alone would leave it to a child of this process that has been forked and has
// not begun to run its program.
func unlockFile(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// holder names the process that wrote its number into the lock file.
func holder(name string) string {
	b, err := os.ReadFile(name)
	pid := strings.TrimSpace(string(b))
	if _, bad := strconv.Atoi(pid); err != nil || bad != nil {
		return "another process"
	}
	return "process " + pid
}
