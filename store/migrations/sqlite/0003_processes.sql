-- +goose Up

-- One biometric or document check. What is personal of it, subject and result, is one document in sealed_content, under the key
-- of its person or, while nobody is known, under a key of its own.
CREATE TABLE processes (
  partner_id          TEXT    NOT NULL,
  id                  TEXT    NOT NULL,
  kind                TEXT    NOT NULL CHECK (kind IN ('LIVENESS', 'IDENTITY_VERIFICATION', 'FACE_VALIDATION', 'DOCUMENT_CAPTURE')),
  capabilities        TEXT    NOT NULL, -- separated by blanks
  provider            TEXT    NOT NULL,
  provider_process_id TEXT,
  submission          TEXT    NOT NULL CHECK (submission IN ('PLANNED', 'SENT', 'AMBIGUOUS', 'ACCEPTED', 'REFUSED')),
  status              TEXT    NOT NULL CHECK (status IN ('PROCESSING', 'DIVERGENT', 'COMPLETED', 'CANCELED', 'FAILED')),
  failure_code        TEXT,
  person_id           TEXT,
  document_index      BLOB    NOT NULL, -- whose it becomes when the person is registered later
  reference_id        TEXT,
  use_case            TEXT,
  sealed_content      BLOB    NOT NULL,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL,
  finished_at         INTEGER,
  version             INTEGER NOT NULL, -- 0: its caller was not answered yet; not in any list
  PRIMARY KEY (partner_id, id),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE,
  CHECK ((status IN ('COMPLETED', 'CANCELED', 'FAILED')) = (finished_at IS NOT NULL)),
  CHECK ((status IN ('CANCELED', 'FAILED')) = (failure_code IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX processes_by_person ON processes (partner_id, person_id, id) WHERE person_id IS NOT NULL;
CREATE INDEX processes_of_nobody ON processes (partner_id, document_index) WHERE person_id IS NULL;
CREATE UNIQUE INDEX processes_by_provider_id ON processes (provider, provider_process_id) WHERE provider_process_id IS NOT NULL;
CREATE INDEX processes_by_status ON processes (partner_id, status, id);
-- What the operator's metric counts, and what a start has to look at.
CREATE INDEX processes_open ON processes (provider, kind, status) WHERE status IN ('PROCESSING', 'DIVERGENT');
CREATE INDEX processes_sent ON processes (submission) WHERE submission = 'SENT';

-- Verified webhooks that name something of a provider's before the answer that tells us its name. They hold nothing but that name.
CREATE TABLE early_callbacks (
  provider    TEXT    NOT NULL,
  reference   TEXT    NOT NULL,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (provider, reference)
) STRICT, WITHOUT ROWID;

CREATE INDEX early_callbacks_by_age ON early_callbacks (received_at);
