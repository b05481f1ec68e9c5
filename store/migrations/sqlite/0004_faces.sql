-- +goose Up

-- Faces that a provider holds, and those it may hold: a row is written before the call leaves and goes again when the
-- provider refuses. How to read the tables is in 0001. person_id and registration_key are NULL where there is none: the
-- first is a foreign key, and UNIQUE takes many NULLs of the second. What is sealed is sealed under the key of the person, or of
-- the face itself as long as no person is known.
CREATE TABLE faces (
  id               TEXT    NOT NULL PRIMARY KEY,
  partner_id       TEXT    NOT NULL,
  person_id        TEXT,
  provider         TEXT    NOT NULL,
  registration_key TEXT,
  document_index   BLOB,    -- NULL where the provider does not say whose face it is
  sealed_face      BLOB    NOT NULL, -- JSON
  source           TEXT    NOT NULL CHECK (source IN ('IMAGE_KEY', 'IMAGE', 'ELSEWHERE')),
  state            TEXT    NOT NULL CHECK (state IN ('SENT', 'AMBIGUOUS', 'REGISTERED')),
  created_at       INTEGER NOT NULL,
  updated_at       INTEGER NOT NULL,
  CHECK ((state = 'REGISTERED') = (registration_key IS NOT NULL)),
  UNIQUE (partner_id, provider, registration_key),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX faces_by_person ON faces (partner_id, person_id, id);
CREATE INDEX faces_by_document ON faces (partner_id, document_index, id);
-- Whether anybody has a key: the one question that is asked over all partners.
CREATE INDEX faces_by_key ON faces (provider, registration_key, partner_id);
-- What a start has to look at, and nothing else.
CREATE INDEX faces_sent ON faces (state) WHERE state = 'SENT';
