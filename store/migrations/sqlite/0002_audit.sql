-- +goose Up

-- Who read or changed what of whom. Rows are only ever added; they outlive the person, so there is no foreign key
-- and no value of a person in them: ids, and the names of fields as schema coordinates. hash is a MAC over the
-- record and the hash of the one before, so that nobody without the key can change, drop, swap or insert one.
CREATE TABLE audit_log (
  number     INTEGER NOT NULL PRIMARY KEY, -- 1, 2, 3, … of the whole database, without a gap
  at         INTEGER NOT NULL,
  partner_id TEXT    NOT NULL,
  person_id  TEXT    NOT NULL,
  object_id  TEXT    NOT NULL,
  action     TEXT    NOT NULL CHECK (action IN ('READ', 'CREATE', 'UPDATE', 'DELETE', 'EXPORT', 'ERASE')),
  fields     TEXT    NOT NULL, -- separated by blanks, sorted
  actor      TEXT    NOT NULL,
  token_id   TEXT    NOT NULL,
  purpose    TEXT    NOT NULL,
  request_id TEXT    NOT NULL,
  hash       BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_log_by_person ON audit_log (partner_id, person_id, number);

-- How many records there are and the hash of the last one, under a MAC of its own: the one row that a missing end
-- of the log contradicts.
CREATE TABLE audit_head (
  id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL,
  hash   BLOB    NOT NULL,
  mac    BLOB    NOT NULL
) STRICT;

-- Heads that were signed. Each was written to the file of signed heads before it came here.
CREATE TABLE audit_seals (
  number    INTEGER NOT NULL PRIMARY KEY,
  hash      BLOB    NOT NULL,
  at        INTEGER NOT NULL,
  signature BLOB    NOT NULL
) STRICT;
