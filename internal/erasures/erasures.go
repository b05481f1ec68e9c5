// Package erasures keeps the list of erased persons in a file beside the keys, where no backup of the database overwrites it. It is
// read at the start and replayed on the database before the first request, so that a restored backup brings nobody back.
//
//	{"partner":"acme","person":"per_…","objects":["prc_…"],"at":"2026-11-25T12:00:00Z","mac":"…"}
//
// One line an erasure, in ids and times. Each MAC covers the line and the MAC before it, so that no line can be changed, dropped from
// the middle or added by somebody who has not the keys. A list that was cut at its end is completed from the database.
package erasures

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// List is the open file. It is safe for concurrent use.
type List struct {
	path string
	mac  func([]byte) []byte

	mu     sync.Mutex
	file   *os.File
	last   []byte // the MAC of the last line
	listed map[key]bool
	broken error // an append of which nobody knows how far it got
}

type key struct {
	partner kyc.PartnerID
	person  kyc.PersonID
}

type line struct {
	Partner kyc.PartnerID `json:"partner"`
	Person  kyc.PersonID  `json:"person"`
	Objects []string      `json:"objects,omitempty"` // that went along
	At      time.Time     `json:"at"`
	MAC     []byte        `json:"mac"`
}

var errAltered = errors.New("was altered: restore it from where the keys are backed up, or remove the lines that are not ours; erased persons may come back otherwise")

// Open opens the list, makes it when it is missing, and gives what is on it, oldest first. mac is the keyset's. A last line that was
// not written to its end is removed: nobody was told that it was.
func Open(path string, mac func([]byte) []byte) (_ *List, entries []kyc.Erasure, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("the list of erasures cannot be opened: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	l := &List{path: path, mac: mac, file: file, listed: make(map[key]bool)}
	size := int64(0)
	for in := bufio.NewReader(file); ; {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("the list of erasures cannot be read: %w", err)
		}
		var e line
		if json.Unmarshal(text, &e) != nil || !hmac.Equal(e.MAC, l.chain(e)) {
			return nil, nil, fmt.Errorf("the list of erasures %s %w (line %d)", path, errAltered, len(entries)+1)
		}
		size += int64(len(text))
		l.last = e.MAC
		l.listed[key{e.Partner, e.Person}] = true
		at := e.At
		entries = append(entries, kyc.Erasure{PartnerID: e.Partner, PersonID: e.Person, Status: kyc.ErasureDone, CompletedAt: &at, Subjects: e.Objects})
	}
	if err := errors.Join(file.Truncate(size), file.Sync(), syncFolder(path)); err != nil {
		return nil, nil, fmt.Errorf("the list of erasures cannot be written: %w", err)
	}
	if _, err := file.Seek(size, io.SeekStart); err != nil {
		return nil, nil, err
	}
	return l, entries, nil
}

// Append implements [kyc.ErasureLog].
func (l *List) Append(erased *kyc.Erasure) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{erased.PartnerID, erased.PersonID}
	switch {
	case l.broken != nil:
		return l.broken
	case l.listed[k]:
		return nil
	}
	e := line{Partner: erased.PartnerID, Person: erased.PersonID, Objects: erased.Subjects, At: erased.CompletedAt.UTC()}
	e.MAC = l.chain(e)
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(e); err != nil {
		return err
	}
	_, err := l.file.Write(text.Bytes())
	if err = errors.Join(err, l.file.Sync()); err != nil {
		// After a failed sync nobody knows what the device holds. The next start finds out.
		l.broken = fmt.Errorf("the list of erasures cannot be written: %w", err)
		return l.broken
	}
	l.last = e.MAC
	l.listed[k] = true
	return nil
}

// Close closes the file.
func (l *List) Close() error { return l.file.Close() }

func (l *List) chain(e line) []byte {
	var b []byte
	for _, part := range [][]byte{[]byte("kycgate erasure"), l.last, []byte(e.Partner), []byte(e.Person), []byte(e.At.UTC().Format(time.RFC3339Nano))} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	for _, id := range e.Objects { // a line without is as it was before there were any
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	}
	return l.mac(b)
}

// syncFolder makes a new file outlive a crash.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
