package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// HeadsFile is where the signed heads of a database go when nothing else is configured. Beside the database is better
// than nowhere and worse than on another disk: who can take one file back to yesterday can take back both.
func HeadsFile(database string) string { return database + ".audit-heads" }

// sealRow is a row of audit_seals: a head of the audit log that was signed.
type sealRow struct {
	Number    int64  `db:"number"`
	Hash      []byte `db:"hash"`
	At        micros `db:"at"`
	Signature []byte `db:"signature"`
}

// signed is what the signature is over.
func (r sealRow) signed() []byte {
	b := auditHead{Number: r.Number, Hash: r.Hash}.signed("seal")
	return fmt.Appendf(append(b, 0), "%d", r.At)
}

// sealLine is a sealRow as a line of the file, JSON.
type sealLine struct {
	Number    int64     `json:"number"`
	Hash      string    `json:"hash"` // hex
	At        time.Time `json:"at"`
	Signature string    `json:"signature"` // hex
}

func (r sealRow) line() ([]byte, error) {
	b, err := json.Marshal(sealLine{r.Number, hex.EncodeToString(r.Hash), r.At.time(), hex.EncodeToString(r.Signature)})
	return append(b, '\n'), err
}

func parseSeal(line []byte) (sealRow, error) {
	var l sealLine
	if err := json.Unmarshal(line, &l); err != nil {
		return sealRow{}, err
	}
	hash, err := hex.DecodeString(l.Hash)
	signature, err2 := hex.DecodeString(l.Signature)
	return sealRow{Number: l.Number, Hash: hash, At: newMicros(l.At), Signature: signature}, errors.Join(err, err2)
}

// SealDue is told when so many records came since the last seal that the next one should not wait.
func (s *Store) SealDue() <-chan struct{} { return s.writer.audit.due }

// SealAudit signs the head of the audit log, appends it to the file of signed heads and keeps it in the database, in
// this order: what the database has, the file has. It does nothing when no record came since. One caller at a time.
func (s *Store) SealAudit(ctx context.Context) (sealed bool, err error) {
	keys := s.writer.audit.keys
	var seal sealRow
	err = s.use(ctx, "store.seal_audit", func(_ context.Context, q *session) error {
		head, err := readAuditHead(q, keys)
		if err != nil {
			return auditFailure(err)
		}
		var last int64
		if _, err := q.value(ctx, &last, `SELECT coalesce(max(number), 0) FROM audit_seals`); err != nil {
			return err
		}
		if head.Number > last {
			seal = sealRow{Number: head.Number, Hash: head.Hash, At: newMicros(s.now())}
		}
		return nil
	})
	if err != nil || seal.Number == 0 {
		return false, err
	}
	seal.Signature = keys.Sign(seal.signed())
	if err := appendSeal(s.heads, seal); err != nil {
		return false, kyc.E(kyc.Unavailable, "store.seal_audit", fmt.Errorf("the file of signed heads: %w", err))
	}
	err = s.writer.do(ctx, func(t *tx) error {
		return t.use(ctx, "store.seal_audit", func(_ context.Context, q *session) error {
			s.writer.audit.sealed = seal.Number
			_, err := q.execRow(`INSERT INTO audit_seals (number, hash, at, signature) VALUES (:number, :hash, :at, :signature)
				ON CONFLICT (number) DO NOTHING`, seal)
			return err
		})
	})
	return err == nil, err
}

// appendSeal adds a line and returns when it is durable. The file is made when missing, for this user only.
func appendSeal(path string, seal sealRow) (err error) {
	line, err := seal.line()
	if err != nil {
		return err
	}
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A crash may have left half a line. The file is only ever appended to, so it stays, with an end.
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		end := make([]byte, 1)
		if _, err := f.ReadAt(end, size-1); err != nil {
			return err
		}
		if end[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if !errors.Is(missing, fs.ErrNotExist) {
		return nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readSeals reads the file of signed heads. Lines that are none are counted: a crash leaves half of one, and that one
// never came into the database.
func readSeals(path string) (seals []sealRow, broken int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		seal, err := parseSeal(lines.Bytes())
		if err != nil {
			broken++
			continue
		}
		seals = append(seals, seal)
	}
	return seals, broken, lines.Err()
}

// AuditEndsBefore gives the newest signed head that the audit log does not reach, 0 when it reaches all of them. The
// database is then an older copy of itself, restored from a backup or cut off.
func (s *Store) AuditEndsBefore(ctx context.Context) (number int64, err error) {
	seals, _, err := readSeals(s.heads)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, kyc.E(kyc.Unavailable, "store.audit_ends_before", err)
	}
	err = s.use(ctx, "store.audit_ends_before", func(_ context.Context, q *session) error {
		head, err := readAuditHead(q, s.crypt.keys)
		if err != nil {
			return auditFailure(err)
		}
		for _, seal := range seals {
			if seal.Number > max(head.Number, number) && s.crypt.keys.Verify(seal.signed(), seal.Signature) {
				number = seal.Number
			}
		}
		return nil
	})
	return number, err
}
