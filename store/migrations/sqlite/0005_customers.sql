-- +goose Up

-- A person as the customer of a provider that opens accounts. Whatever is personal is in one sealed document; the two
-- indexes are keyed hashes, NULL where a provider lets customers share the value. state is JSON without personal data:
-- category, steps, next action.
CREATE TABLE customers (
  partner_id           TEXT    NOT NULL,
  id                   TEXT    NOT NULL,
  person_id            TEXT    NOT NULL,
  provider             TEXT    NOT NULL,
  provider_customer_id TEXT,
  provider_user_id     TEXT,
  provider_person_id   TEXT,
  status               TEXT    NOT NULL CHECK (status IN ('PENDING', 'IN_PROGRESS', 'ACTION_REQUIRED', 'PENDING_ACTIVATION', 'ACTIVE', 'REJECTED', 'FAILED')),
  provider_status      TEXT,
  status_detail        TEXT,
  submission           TEXT    NOT NULL CHECK (submission IN ('PLANNED', 'SENT', 'AMBIGUOUS', 'ACCEPTED', 'REFUSED')),
  state                TEXT    NOT NULL,
  email_index          BLOB,
  phone_index          BLOB,
  sealed_personal      BLOB    NOT NULL,
  created_at           INTEGER NOT NULL,
  updated_at           INTEGER NOT NULL,
  version              INTEGER NOT NULL, -- 0: its registration was not accepted yet; nobody may see it
  PRIMARY KEY (partner_id, id),
  UNIQUE (partner_id, provider, email_index),
  UNIQUE (partner_id, provider, phone_index),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX customers_by_person ON customers (partner_id, person_id, id);
-- What a start has to look at, and nothing else.
CREATE INDEX customers_sent ON customers (submission) WHERE submission = 'SENT';
