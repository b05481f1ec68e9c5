-- +goose Up

-- How to read these tables:
--   every time is microseconds since 1970 UTC;
--   a column may be NULL exactly where the field in package kyc is a pointer; elsewhere "nothing" is '' ;
--   ids end in a ULID, so their order is the order of birth;
--   partner_id is in every row that belongs to a partner, and in every statement that touches one;
--   personal data is in no column but those named sealed: ciphertext under the data key of its owner, which is bound to
--   partner, owner, table, column and row; a column named …_index is a keyed hash, which finds a value and does not tell it.

-- The keys that data keys are wrapped with, themselves wrapped with the master key of the keyset file. The newest version
-- is for new keys; older ones are there while a rotation is under way.
CREATE TABLE partner_keys (
  partner_id TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  wrapped    BLOB    NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (partner_id, version)
) STRICT, WITHOUT ROWID;

-- One key for all personal data of one owner: a person, or an object as long as its person is not known. Deleting the row
-- is what makes the rest unreadable.
CREATE TABLE data_keys (
  partner_id TEXT    NOT NULL,
  owner      TEXT    NOT NULL,
  version    INTEGER NOT NULL, -- of the partner key
  wrapped    BLOB    NOT NULL,
  PRIMARY KEY (partner_id, owner),
  FOREIGN KEY (partner_id, version) REFERENCES partner_keys (partner_id, version)
) STRICT, WITHOUT ROWID;

-- What a rotation has still to do.
CREATE INDEX data_keys_by_version ON data_keys (partner_id, version);

-- The pair (partner_id, id) is the primary key rather than id alone: the children point at the pair, so the
-- database itself refuses a registration of one partner under a person of another.
CREATE TABLE persons (
  partner_id          TEXT    NOT NULL,
  id                  TEXT    NOT NULL,
  document_index      BLOB,    -- NULL is "none", for UNIQUE takes many NULLs
  sealed_profile      BLOB    NOT NULL, -- JSON; read and replaced as a whole, never searched
  source_kyc          TEXT    NOT NULL CHECK (source_kyc IN ('OPENCO', 'QITECH')),
  kyc_status          TEXT    NOT NULL CHECK (kyc_status IN ('NOT_REQUIRED', 'PENDING', 'IN_REVIEW', 'APPROVED', 'REJECTED')),
  kyc_provider_status TEXT,
  kyc_reason          TEXT,
  kyc_decided_by      TEXT    CHECK (kyc_decided_by IN ('AUTOMATIC', 'MANUAL')),
  kyc_decided_at      INTEGER,
  kyc_analyses        INTEGER NOT NULL,
  latest_analysis_id  TEXT    NOT NULL,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL,
  version             INTEGER NOT NULL, -- 0: no registration was accepted yet; not in any list
  PRIMARY KEY (partner_id, id),
  UNIQUE (partner_id, document_index)
) STRICT;

CREATE INDEX persons_by_kyc_status ON persons (partner_id, kyc_status, id);

-- seq numbers the mappings of one person: two of the same microsecond keep the order they came in. The value is sealed,
-- because partners put documents and e-mail addresses into their ids.
CREATE TABLE external_ids (
  partner_id     TEXT    NOT NULL,
  external_index BLOB    NOT NULL,
  person_id      TEXT    NOT NULL,
  sealed_value   BLOB    NOT NULL,
  mapped_at      INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  PRIMARY KEY (partner_id, external_index),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX external_ids_by_person ON external_ids (partner_id, person_id, mapped_at, seq);

-- Clustered by person: a page of registrations is one range of the tree.
CREATE TABLE registrations (
  person_id      TEXT    NOT NULL,
  id             TEXT    NOT NULL,
  partner_id     TEXT    NOT NULL,
  external_index BLOB,
  received_at    INTEGER NOT NULL,
  sealed_external_id BLOB,
  sealed_payload BLOB    NOT NULL, -- as received, byte for byte
  sealed_profile BLOB    NOT NULL, -- JSON: the same, normalised
  outcome        TEXT    NOT NULL CHECK (outcome IN ('', 'CREATED', 'UPDATED')), -- '' until it is accepted
  PRIMARY KEY (person_id, id),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE analyses (
  id              TEXT    NOT NULL PRIMARY KEY,
  partner_id      TEXT    NOT NULL,
  person_id       TEXT    NOT NULL,
  registration_id TEXT    NOT NULL,
  provider        TEXT    NOT NULL,
  submission      TEXT    NOT NULL CHECK (submission IN ('PLANNED', 'SENT', 'AMBIGUOUS', 'ACCEPTED', 'REFUSED')),
  status          TEXT    NOT NULL CHECK (status IN ('NOT_REQUIRED', 'PENDING', 'IN_REVIEW', 'APPROVED', 'REJECTED')),
  provider_status TEXT    NOT NULL,
  provider_key    TEXT    NOT NULL,
  reason          TEXT    NOT NULL,
  decided_by      TEXT    CHECK (decided_by IN ('AUTOMATIC', 'MANUAL')),
  decided_at      INTEGER,
  created_at      INTEGER NOT NULL,
  updated_at      INTEGER NOT NULL,
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX analyses_by_person ON analyses (partner_id, person_id);
-- What a start has to look at, and nothing else.
CREATE INDEX analyses_sent ON analyses (submission) WHERE submission = 'SENT';

-- The ledger of what was sent and may be billed. Rows are added, get their outcome once and stay, even when the
-- person goes: hence no foreign key, and no personal data.
CREATE TABLE provider_calls (
  seq        INTEGER NOT NULL PRIMARY KEY,
  partner_id TEXT    NOT NULL,
  provider   TEXT    NOT NULL,
  operation  TEXT    NOT NULL,
  reference  TEXT    NOT NULL,
  number     INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  outcome    TEXT    CHECK (outcome IN ('SUCCEEDED', 'REJECTED', 'UNAVAILABLE', 'AMBIGUOUS')),
  code       TEXT    NOT NULL DEFAULT '',
  ended_at   INTEGER,
  CHECK ((outcome IS NULL) = (ended_at IS NULL))
) STRICT;

CREATE INDEX provider_calls_open ON provider_calls (reference, operation, seq) WHERE outcome IS NULL;
CREATE INDEX provider_calls_of ON provider_calls (partner_id, reference, seq);

-- Verified webhooks. The body is sealed under the key of what it is about.
CREATE TABLE callbacks (
  provider    TEXT    NOT NULL,
  dedupe_key  TEXT    NOT NULL,
  partner_id  TEXT    NOT NULL,
  owner       TEXT    NOT NULL,
  reference   TEXT    NOT NULL,
  sealed_body BLOB    NOT NULL,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (provider, dedupe_key)
) STRICT;

CREATE INDEX callbacks_of ON callbacks (partner_id, owner);

-- run_at is the due time and, while leased, the end of the lease; attempt is the fencing token.
CREATE TABLE jobs (
  id          TEXT    NOT NULL PRIMARY KEY,
  kind        TEXT    NOT NULL, -- no CHECK: every verb to come adds one
  partner_id  TEXT    NOT NULL,
  subject     TEXT    NOT NULL,
  run_at      INTEGER NOT NULL,
  leased      INTEGER NOT NULL CHECK (leased IN (0, 1)),
  hinted      INTEGER NOT NULL CHECK (hinted IN (0, 1)),
  attempt     INTEGER NOT NULL,
  failures    INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  dead        INTEGER NOT NULL DEFAULT 0 CHECK (dead IN (0, 1)),
  dead_reason TEXT    NOT NULL DEFAULT '',
  dead_at     INTEGER,
  UNIQUE (subject, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_due ON jobs (run_at, id) WHERE dead = 0;

-- What a partner's key stands for. The key itself and the request are kept as keyed hashes only.
CREATE TABLE idempotency_keys (
  partner_id    TEXT    NOT NULL,
  key_index     BLOB    NOT NULL,
  mutation      TEXT    NOT NULL,
  request_index BLOB    NOT NULL,
  person_id     TEXT    NOT NULL,
  object_id     TEXT    NOT NULL, -- what the request made: a registration, a process, a face, a customer
  analysis_id   TEXT    NOT NULL,
  created_at    INTEGER NOT NULL,
  PRIMARY KEY (partner_id, key_index)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_of ON idempotency_keys (partner_id, person_id);

-- One row that Ping writes: whether the disk takes a byte is only known by writing one.
CREATE TABLE heartbeat (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  at INTEGER NOT NULL
) STRICT;

-- What is left of an erased person: ids and times. providers is JSON: who was sent something, and under which references.
CREATE TABLE erasures (
  partner_id   TEXT    NOT NULL,
  person_id    TEXT    NOT NULL,
  reason       TEXT    NOT NULL,
  providers    TEXT    NOT NULL,
  completed_at INTEGER NOT NULL,
  PRIMARY KEY (partner_id, person_id)
) STRICT, WITHOUT ROWID;
