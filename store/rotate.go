package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/kycgate/kycgate/kyc"
)

// rotateBatch is how many data keys are wrapped anew in one transaction: few enough that nobody waits for them.
const rotateBatch = 200

// RotateKeys leaves nothing wrapped under a master key that is no longer the primary: each partner gets a new key, all data keys
// are wrapped anew with it, and the old partner keys go. Data is not touched. Reads and writes go on meanwhile; a process that dies
// in between leaves a database that works, and the next call goes on where it stood. drop is called inside a transaction that has
// seen that nothing is left: nobody can be about to commit something under an old master key then. progress may be nil.
func (s *Store) RotateKeys(ctx context.Context, drop func() error, progress func(done, total int)) error {
	for {
		if err := s.rotateOnce(ctx, progress); err != nil {
			return err
		}
		err := s.Write(ctx, func(w kyc.Tx) error {
			return w.(*tx).use(ctx, "store.rotate_keys", func(ctx context.Context, q *session) error {
				switch _, left, err := keysLeft(ctx, q, s.crypt); {
				case err != nil:
					return err
				case left > 0:
					return errKeysLeft
				default:
					return drop()
				}
			})
		})
		if !errors.Is(err, errKeysLeft) {
			return err
		}
	}
}

func (s *Store) rotateOnce(ctx context.Context, progress func(done, total int)) error {
	partners, total, err := s.keysLeft(ctx)
	if err != nil {
		return err
	}
	done := 0
	for _, partner := range partners {
		newest, err := s.newPartnerKey(ctx, partner)
		if err != nil {
			return err
		}
		for {
			n, err := s.rewrapSome(ctx, partner, newest)
			if err != nil {
				return err
			}
			if done += n; progress != nil && n > 0 {
				progress(done, max(total, done))
			}
			if n < rotateBatch {
				break
			}
		}
		// The foreign key refuses this as long as a data key is left: one may have been made under the old key while the new one was
		// on its way.
		for {
			err := s.Write(ctx, func(t kyc.Tx) error { return t.(*tx).dropPartnerKeys(ctx, partner, newest) })
			if !errors.Is(err, errKeysLeft) {
				if err != nil {
					return err
				}
				break
			}
			if _, err := s.rewrapSome(ctx, partner, newest); err != nil {
				return err
			}
		}
	}
	return nil
}

var errKeysLeft = errors.New("data keys are left under an old partner key")

// KeysLeft counts what is still wrapped under an old master key or an old partner key. It only reads and takes no lock, so it may be
// asked by another process.
func KeysLeft(ctx context.Context, file string, keys Keys) (left int, err error) {
	db := openReaders(file)
	defer func() { err = errors.Join(err, db.Close()) }()
	q, err := newSession(ctx, db)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	_, left, err = keysLeft(ctx, q, newCrypt(keys))
	return left, err
}

func (s *Store) keysLeft(ctx context.Context) (partners []kyc.PartnerID, left int, err error) {
	err = s.use(ctx, "store.keys_left", func(ctx context.Context, q *session) error {
		partners, left, err = keysLeft(ctx, q, s.crypt)
		return err
	})
	return partners, left, err
}

// keysLeft names the partners that have something to rotate and counts it.
func keysLeft(ctx context.Context, q *session, c *crypt) (partners []kyc.PartnerID, left int, err error) {
	var rows []struct {
		PartnerID string `db:"partner_id"`
		Version   int    `db:"version"`
		Wrapped   []byte `db:"wrapped"`
		Keys      int    `db:"keys"`
	}
	if err := q.all(ctx, &rows, `SELECT p.partner_id, p.version, p.wrapped,
		(SELECT count(*) FROM data_keys k WHERE k.partner_id = p.partner_id AND k.version = p.version) AS keys
		FROM partner_keys p ORDER BY p.partner_id, p.version`); err != nil {
		return nil, 0, err
	}
	for i, r := range rows {
		newest := i == len(rows)-1 || rows[i+1].PartnerID != r.PartnerID
		if newest && c.keys.Current(r.Wrapped) {
			continue
		}
		left += r.Keys + 1
		if n := len(partners); n == 0 || partners[n-1] != kyc.PartnerID(r.PartnerID) {
			partners = append(partners, kyc.PartnerID(r.PartnerID))
		}
	}
	return partners, left, nil
}

// newPartnerKey makes sure that the partner's newest key is under the primary master key and gives its version. All keys of the
// partner are in memory afterwards and stay there: a read that found a data key under the old one must be able to open it although
// the row of the old one has gone meanwhile.
func (s *Store) newPartnerKey(ctx context.Context, partner kyc.PartnerID) (newest int, err error) {
	err = s.Write(ctx, func(w kyc.Tx) error {
		t := w.(*tx)
		return t.use(ctx, "store.new_partner_key", func(_ context.Context, q *session) error {
			var rows []struct {
				Version int    `db:"version"`
				Wrapped []byte `db:"wrapped"`
			}
			if err := q.all(untimed, &rows, `SELECT version, wrapped FROM partner_keys WHERE partner_id = ? ORDER BY version`, partner); err != nil {
				return err
			}
			for _, r := range rows {
				id := partnerKeyID{partner, r.Version}
				key, err := s.crypt.unwrapPartner(id, r.Wrapped)
				if err != nil {
					return err
				}
				t.learned = append(t.learned, learnedKey{id, key})
				newest = r.Version
			}
			if n := len(rows); n > 0 && s.crypt.keys.Current(rows[n-1].Wrapped) {
				return nil
			}
			newest++
			_, _, err := t.addPartnerKey(q, partnerKeyID{partner, newest})
			return err
		})
	})
	return newest, err
}

// rewrapSome wraps some of the data keys that are left anew and tells how many.
func (s *Store) rewrapSome(ctx context.Context, partner kyc.PartnerID, newest int) (n int, err error) {
	err = s.Write(ctx, func(w kyc.Tx) error {
		t := w.(*tx)
		return t.use(ctx, "store.rewrap", func(_ context.Context, q *session) error {
			var rows []struct {
				Owner string `db:"owner"`
				wrappedKey
			}
			if err := q.all(untimed, &rows, `SELECT k.owner, `+keyColumns+` FROM data_keys k WHERE k.partner_id = ? AND k.version < ? LIMIT ?`,
				partner, newest, rotateBatch); err != nil {
				return err
			}
			key, err := s.crypt.partnerKey(q, partnerKeyID{partner, newest})
			if err != nil {
				return err
			}
			for _, r := range rows {
				old, err := s.crypt.partnerKey(q, partnerKeyID{partner, r.KeyVersion})
				if err != nil {
					return err
				}
				bound := associated("data_key", string(partner), r.Owner)
				raw, err := old.Decrypt(r.WrappedKey, bound)
				if err != nil {
					return errSealed
				}
				wrapped, err := key.Encrypt(raw, bound)
				if err != nil {
					return err
				}
				if err := mustChange(q.exec(`UPDATE data_keys SET version = ?, wrapped = ? WHERE partner_id = ? AND owner = ?`, newest, wrapped, partner, r.Owner)); err != nil {
					return err
				}
			}
			n = len(rows)
			return nil
		})
	})
	return n, err
}

func (t *tx) dropPartnerKeys(ctx context.Context, partner kyc.PartnerID, before int) error {
	left := false
	err := t.use(ctx, "store.drop_partner_keys", func(_ context.Context, q *session) error {
		if _, err := q.value(untimed, &left, `SELECT EXISTS (SELECT 1 FROM data_keys WHERE partner_id = ? AND version < ?)`, partner, before); err != nil || left {
			return err
		}
		_, err := q.exec(`DELETE FROM partner_keys WHERE partner_id = ? AND version < ?`, partner, before)
		return err
	})
	if err == nil && left {
		return fmt.Errorf("store.drop_partner_keys: %w", errKeysLeft)
	}
	return err
}
