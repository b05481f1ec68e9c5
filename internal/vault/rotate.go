package vault

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

// AddPrimary begins a rotation: it makes a new master key the primary, in the file first and then here. The
// old master keys go on to unwrap. added is false when a rotation is unfinished already, which is then the
// one to finish.
//
// What holds between this process and those that serve with the same file: from now on nothing is wrapped
// by an old master key, because [Keyset.Wrap] looks at the file each time; and nothing fails to unwrap,
// because [Keyset.Unwrap] looks at it when it meets a new one. What another process has wrapped but not
// committed yet can still be under an old one: see [Keyset.DropOld].
func (k *Keyset) AddPrimary() (added bool, err error) {
	err = k.keys().change(func(m *masters) (*keyset.Handle, error) {
		if len(m.ids) > 1 {
			return nil, nil
		}
		added = true
		return newMaster(keyset.NewManagerFromHandle(m.handle))
	})
	return added && err == nil, err
}

// DropOld ends a rotation: it removes every master key but the primary from the file. What is still wrapped
// by another one is lost, so call it inside a write transaction of the database that has just seen that
// nothing is: no other process can then be between wrapping and committing. It does nothing when there is
// one master key.
//
// Processes that were running go on to unwrap with the dropped keys until they end or the next change, for
// the reader that holds a row from before.
func (k *Keyset) DropOld() error {
	return k.keys().change(func(m *masters) (*keyset.Handle, error) {
		if len(m.ids) == 1 {
			return nil, nil
		}
		manager := keyset.NewManagerFromHandle(m.handle)
		for _, id := range m.ids {
			if id == m.primary {
				continue
			}
			if err := manager.Delete(id); err != nil {
				return nil, fmt.Errorf("vault: drop a master key: %w", err)
			}
		}
		return manager.Handle()
	})
}

// change replaces the master keys, in the file and here. next gives the new ones, or nil to leave them.
func (k *keys) change(next func(*masters) (*keyset.Handle, error)) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	if k.path != "" {
		unlock, err := lockFolder(k.path)
		if err != nil {
			return fmt.Errorf("%s: its folder cannot be locked: %w", k.path, reason(err))
		}
		defer unlock()
		// Nobody else changes the file now: what is in it is what the change builds on.
		if _, err := k.reload(); err != nil {
			return err
		}
	}
	m := k.now.Load()
	handle, err := next(m)
	if err != nil || handle == nil {
		return err
	}
	changed, err := newMasters(handle)
	if err != nil {
		return err
	}
	changed.after(m)
	if k.path != "" {
		if changed.file, err = k.replace(handle, m.file); err != nil {
			return err
		}
	}
	k.now.Store(changed)
	return nil
}

// replace writes the file with other master keys: into a new file, to the device, over the old one, to the
// device. Whenever it is cut off, the old file or the new one is there, whole.
func (k *keys) replace(handle *keyset.Handle, old os.FileInfo) (os.FileInfo, error) {
	fail := func(err error) (os.FileInfo, error) {
		return nil, fmt.Errorf("%s cannot be replaced: %w", k.path, reason(err))
	}
	f, err := seal(k.head, k.key, &secrets{handle, k.index, k.mac, k.sign.Seed()})
	if err != nil {
		return nil, err
	}
	temporary := k.path + ".new"
	// Left by a rotation that was killed; the lock is ours, so nobody is writing it.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	if err := writeNew(temporary, f.encode()); err != nil {
		return fail(err)
	}
	if err := sameOwner(temporary, old); err != nil {
		return fail(errors.Join(fmt.Errorf("it belongs to another user: run this as that user: %w", reason(err)), os.Remove(temporary)))
	}
	// The same inode before and after the rename, whose change of name is no change of content.
	info, err := os.Stat(temporary)
	if err == nil {
		err = os.Rename(temporary, k.path)
	}
	if err == nil {
		err = syncFolder(k.path)
	}
	if err != nil {
		return fail(err)
	}
	return info, nil
}

// sameOwner gives the file to the owner of the old one: root may rotate, and the gateway must still be able
// to read.
func sameOwner(path string, old os.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok || (int(was.Uid) == os.Geteuid() && int(was.Gid) == os.Getegid()) {
		return nil
	}
	return os.Chown(path, int(was.Uid), int(was.Gid))
}

// lockFolder keeps two changes of one file apart. The folder is locked and not the file, because the file
// is replaced. A process that is killed gives the lock back.
func lockFolder(path string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}

// Reload takes over the master keys of a file that was changed, and reports whether it was. It costs one
// stat when it was not. On an error the keys in use stay in use.
func (k *Keyset) Reload() (changed bool, err error) { return k.keys().takeOver() }

func (k *keys) takeOver() (changed bool, err error) {
	if k.path == "" {
		return false, nil
	}
	if same, err := k.unchanged(); same || err != nil {
		return false, err
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	if same, err := k.unchanged(); same || err != nil {
		// Somebody else took it over while this one waited, which is a change all the same.
		return err == nil, err
	}
	return k.reload()
}

func (k *keys) unchanged() (bool, error) {
	info, err := os.Stat(k.path)
	if err != nil {
		return false, fmt.Errorf("%s cannot be read again: %w", k.path, reason(err))
	}
	was := k.now.Load().file
	return os.SameFile(info, was) && info.ModTime().Equal(was.ModTime()) && info.Size() == was.Size() && info.Mode() == was.Mode(), nil
}

// reload reads the file. The caller holds changing.
func (k *keys) reload() (changed bool, err error) {
	f, info, err := read(k.path)
	if err != nil {
		return false, fmt.Errorf("%s %w", k.path, err)
	}
	if string(f.head().bytes()) != string(k.head.bytes()) {
		return false, fmt.Errorf("%s %w", k.path, errAnother)
	}
	s, ok, err := f.unseal(k.key)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s %w", k.path, err)
	case !ok:
		return false, fmt.Errorf("%s %w", k.path, errNotWhole)
	case subtle.ConstantTimeCompare(s.index, k.index)&subtle.ConstantTimeCompare(s.mac, k.mac)&subtle.ConstantTimeCompare(s.sign, k.sign.Seed()) != 1:
		return false, fmt.Errorf("%s %w", k.path, errAnother)
	}
	m, err := newMasters(s.master)
	if err != nil {
		return false, err
	}
	// Whoever replaced it may not have it on the device yet. Nothing may be wrapped by a key that a power
	// failure can take away.
	if err := syncFolder(k.path); err != nil {
		return false, fmt.Errorf("%s: its folder: %w", k.path, reason(err))
	}
	was := k.now.Load()
	m.file, m.before = info, was.before
	if changed = !m.same(was); changed {
		m.after(was)
	}
	k.now.Store(m)
	return changed, nil
}

func (m *masters) same(other *masters) bool {
	if m.primary != other.primary || len(m.ids) != len(other.ids) {
		return false
	}
	for _, id := range m.ids {
		if !other.has(id) {
			return false
		}
	}
	return true
}
