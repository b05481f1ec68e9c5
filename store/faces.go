package store

import (
	"context"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

// faceRow is a row of faces, with the key that opens it.
type faceRow struct {
	ID        string  `db:"id"`
	PartnerID string  `db:"partner_id"`
	PersonID  *string `db:"person_id"`
	wrappedKey
	Provider        string  `db:"provider"`
	RegistrationKey *string `db:"registration_key"`
	DocumentIndex   []byte  `db:"document_index"`
	SealedFace      []byte  `db:"sealed_face"`
	Source          string  `db:"source"`
	State           string  `db:"state"`
	CreatedAt       micros  `db:"created_at"`
	UpdatedAt       micros  `db:"updated_at"`
}

// faceDocument is what is sealed of a face.
type faceDocument struct {
	DocumentNumber string    `json:"document_number,omitempty"`
	Before         string    `json:"before,omitempty"`
	LateSince      time.Time `json:"late_since,omitzero"`
	Request        []byte    `json:"request,omitempty"`
}

// owner is whose key seals it.
func (r *faceRow) owner() string {
	if r.PersonID != nil {
		return *r.PersonID
	}
	return r.ID
}

const faceColumns = `f.id, f.partner_id, f.person_id, f.provider, f.registration_key, f.sealed_face, f.source, f.state, f.created_at, f.updated_at, ` + keyColumns

func (t *tx) faceRow(q *session, f *kyc.FaceRegistration) (faceRow, error) {
	r := faceRow{
		ID: string(f.ID), PartnerID: string(f.PartnerID), Provider: f.Provider,
		Source: string(f.Source), State: string(f.State), CreatedAt: newMicros(f.CreatedAt), UpdatedAt: newMicros(f.UpdatedAt),
	}
	if f.PersonID != "" {
		r.PersonID = new(string(f.PersonID))
	}
	if f.RegistrationKey != "" {
		r.RegistrationKey = &f.RegistrationKey
	}
	if !f.DocumentNumber.Empty() {
		r.DocumentIndex = t.crypt.index(f.PartnerID, documentField, f.DocumentNumber.Reveal())
	}
	k, err := t.keyFor(q, f.PartnerID, r.owner())
	if err != nil {
		return r, err
	}
	r.SealedFace, err = k.sealJSON("faces", "face", r.ID, faceDocument{f.DocumentNumber.Reveal(), f.Before, f.LateSince, f.Request})
	return r, err
}

func (r *faceRow) face(c *crypt, q *session) (*kyc.FaceRegistration, error) {
	k, err := c.open(q, kyc.PartnerID(r.PartnerID), r.owner(), r.wrappedKey)
	if err != nil {
		return nil, err
	}
	var sealed faceDocument
	if err := k.unsealJSON("faces", "face", r.ID, r.SealedFace, &sealed); err != nil {
		return nil, err
	}
	f := &kyc.FaceRegistration{
		ID: kyc.FaceID(r.ID), PartnerID: kyc.PartnerID(r.PartnerID), Provider: r.Provider,
		DocumentNumber: kyc.NewDocumentNumber(sealed.DocumentNumber), Before: sealed.Before, LateSince: sealed.LateSince, Request: sealed.Request,
		Source: kyc.FaceImageSource(r.Source), State: kyc.FaceState(r.State), CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(),
	}
	if r.PersonID != nil {
		f.PersonID = kyc.PersonID(*r.PersonID)
	}
	if r.RegistrationKey != nil {
		f.RegistrationKey = *r.RegistrationKey
	}
	return f, nil
}

// FaceByID implements [kyc.Reader].
func (r reader) FaceByID(ctx context.Context, partner kyc.PartnerID, id kyc.FaceID) (*kyc.FaceRegistration, error) {
	return r.oneFace(ctx, "store.face_by_id", `SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = coalesce(f.person_id, f.id)
		WHERE f.partner_id = ? AND f.id = ?`, partner, id)
}

// FaceByKey implements [kyc.Reader].
func (r reader) FaceByKey(ctx context.Context, partner kyc.PartnerID, provider, key string) (*kyc.FaceRegistration, error) {
	return r.oneFace(ctx, "store.face_by_key", `SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = coalesce(f.person_id, f.id)
		WHERE f.partner_id = ? AND f.provider = ? AND f.registration_key = ?`,
		partner, provider, key)
}

// FaceByDocument implements [kyc.Reader].
func (r reader) FaceByDocument(ctx context.Context, partner kyc.PartnerID, document kyc.DocumentNumber) (*kyc.FaceRegistration, error) {
	return r.oneFace(ctx, "store.face_by_document",
		`SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = coalesce(f.person_id, f.id)
		WHERE f.partner_id = ? AND f.document_index = ? AND f.state = 'REGISTERED' ORDER BY f.id DESC LIMIT 1`,
		partner, r.crypt.index(partner, documentField, document.Reveal()))
}

func (r reader) oneFace(ctx context.Context, op, query string, args ...any) (face *kyc.FaceRegistration, err error) {
	err = r.use(ctx, op, func(_ context.Context, q *session) error {
		var row faceRow
		found, err := q.get(&row, query, args...)
		if found {
			face, err = row.face(r.crypt, q)
		}
		return err
	})
	return face, err
}

// OpenFaces implements [kyc.Reader].
func (r reader) OpenFaces(ctx context.Context, partner kyc.PartnerID, document kyc.DocumentNumber) (faces []*kyc.FaceRegistration, err error) {
	err = r.use(ctx, "store.open_faces", func(ctx context.Context, q *session) error {
		faces, err = r.someFaces(ctx, q, `SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = coalesce(f.person_id, f.id)
		WHERE f.partner_id = ? AND f.document_index = ? AND f.state <> 'REGISTERED' ORDER BY f.id`,
			partner, r.crypt.index(partner, documentField, document.Reveal()))
		return err
	})
	return faces, err
}

// FacesOf implements [kyc.Reader].
func (r reader) FacesOf(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID, most int) (map[kyc.PersonID][]*kyc.FaceRegistration, error) {
	faces := make(map[kyc.PersonID][]*kyc.FaceRegistration, len(persons))
	err := r.forEach(ctx, "store.faces_of", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(`
			WITH page AS (
				SELECT id, row_number() OVER (PARTITION BY person_id ORDER BY id DESC) AS n
				FROM faces WHERE partner_id = ? AND person_id IN (?) AND state = 'REGISTERED')
			SELECT `+faceColumns+` FROM page CROSS JOIN faces f ON f.id = page.id
			CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = f.person_id
			WHERE page.n <= ? ORDER BY f.person_id, f.id`, some, []any{partner}, []any{most})
		if err != nil {
			return err
		}
		found, err := r.someFaces(ctx, q, query, args...)
		for _, f := range found {
			faces[f.PersonID] = append(faces[f.PersonID], f)
		}
		return err
	})
	return faces, err
}

func (r reader) someFaces(ctx context.Context, q *session, query string, args ...any) (faces []*kyc.FaceRegistration, err error) {
	var found []faceRow
	if err := q.all(ctx, &found, query, args...); err != nil {
		return nil, err
	}
	for i := range found {
		f, err := found[i].face(r.crypt, q)
		if err != nil {
			return nil, err
		}
		faces = append(faces, f)
	}
	return faces, nil
}

// FaceKeyKnown implements [kyc.Reader].
func (r reader) FaceKeyKnown(ctx context.Context, provider, key string) (known bool, err error) {
	err = r.use(ctx, "store.face_key_known", func(ctx context.Context, q *session) error {
		_, err := q.value(ctx, &known, `SELECT EXISTS (SELECT 1 FROM faces WHERE provider = ? AND registration_key = ?)`, provider, key)
		return err
	})
	return known, err
}

// InsertFace implements [kyc.Tx].
func (t *tx) InsertFace(ctx context.Context, f *kyc.FaceRegistration) error {
	return t.use(ctx, "store.insert_face", func(_ context.Context, q *session) error {
		row, err := t.faceRow(q, f)
		if err != nil {
			return err
		}
		_, err = q.execRow(`INSERT INTO faces (id, partner_id, person_id, provider, registration_key, document_index, sealed_face, source, state, created_at, updated_at)
			VALUES (:id, :partner_id, :person_id, :provider, :registration_key, :document_index, :sealed_face, :source, :state, :created_at, :updated_at)`, row)
		if err == nil {
			t.faceChanged(f)
		}
		return err
	})
}

// UpdateFace implements [kyc.Tx]. Whose face it is changes by LinkFaces only.
func (t *tx) UpdateFace(ctx context.Context, f *kyc.FaceRegistration) error {
	return t.use(ctx, "store.update_face", func(_ context.Context, q *session) error {
		row, err := t.faceRow(q, f)
		if err != nil {
			return err
		}
		err = mustChange(q.execRow(`UPDATE faces SET registration_key = :registration_key, sealed_face = :sealed_face, state = :state, updated_at = :updated_at
			WHERE partner_id = :partner_id AND id = :id AND person_id IS :person_id`, row))
		if err == nil {
			t.faceChanged(f)
		}
		return err
	})
}

func (t *tx) faceChanged(f *kyc.FaceRegistration) {
	if f.PersonID != "" {
		t.touch(touched{partner: f.PartnerID, person: f.PersonID, kind: kyc.EventFace, object: string(f.ID), at: f.UpdatedAt}, new(*f))
	}
}

// DeleteFace implements [kyc.Tx]. The key goes that was the face's own.
func (t *tx) DeleteFace(ctx context.Context, partner kyc.PartnerID, id kyc.FaceID) error {
	return t.use(ctx, "store.delete_face", func(_ context.Context, q *session) error {
		if err := t.touchOwner(q, `SELECT person_id FROM faces WHERE partner_id = ? AND id = ?`, partner, kyc.EventFace, string(id)); err != nil {
			return err
		}
		if _, err := q.exec(`DELETE FROM faces WHERE partner_id = ? AND id = ?`, partner, id); err != nil {
			return err
		}
		return t.dropKey(q, partner, string(id))
	})
}

// LinkFaces implements [kyc.Tx]: what was sealed under the key of each face is sealed anew under the person's, and the old keys are
// destroyed, so that erasing the person takes their faces along.
func (t *tx) LinkFaces(ctx context.Context, partner kyc.PartnerID, person kyc.PersonID, document kyc.DocumentNumber) (n int, err error) {
	err = t.use(ctx, "store.link_faces", func(ctx context.Context, q *session) error {
		found, err := t.someFaces(ctx, q, `SELECT `+faceColumns+` FROM faces f CROSS JOIN data_keys k ON k.partner_id = f.partner_id AND k.owner = coalesce(f.person_id, f.id)
		WHERE f.partner_id = ? AND f.document_index = ? AND f.person_id IS NULL`,
			partner, t.crypt.index(partner, documentField, document.Reveal()))
		if err != nil {
			return err
		}
		for _, f := range found {
			f.PersonID = person
			row, err := t.faceRow(q, f)
			if err != nil {
				return err
			}
			if err := mustChange(q.execRow(`UPDATE faces SET person_id = :person_id, sealed_face = :sealed_face WHERE partner_id = :partner_id AND id = :id`, row)); err != nil {
				return err
			}
			if err := t.dropKey(q, partner, string(f.ID)); err != nil {
				return err
			}
			if err := t.linkIdempotent(q, partner, person, string(f.ID)); err != nil {
				return err
			}
			t.faceChanged(f)
		}
		n = len(found)
		return nil
	})
	return n, err
}
