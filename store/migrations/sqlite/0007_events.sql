-- +goose Up

-- What somebody may follow: a row for each version of a subject, written in the transaction that made the version. The
-- subject is an object (prc_…, cus_…) with its own version, or a person (per_…), whose version here counts every change
-- of the person and of all that is theirs, one a transaction. Versions of a subject have no gap.
--
-- state is how the subject stood, so that each version can be answered by itself later. It is JSON without personal
-- data: statuses, codes, ids and times, as in the status columns of the other tables. '' is "not kept".
CREATE TABLE events (
  partner_id TEXT    NOT NULL,
  subject    TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  kind       TEXT    NOT NULL CHECK (kind IN ('PERSON', 'FACE', 'PROCESS', 'CUSTOMER')), -- what changed
  object     TEXT    NOT NULL, -- its id
  person_id  TEXT    NOT NULL, -- whose it is; '' while nobody is known
  state      TEXT    NOT NULL,
  at         INTEGER NOT NULL,
  PRIMARY KEY (partner_id, subject, version)
) STRICT, WITHOUT ROWID;

-- An erasure takes them along, and the retention what is old.
CREATE INDEX events_by_person ON events (partner_id, person_id);
CREATE INDEX events_by_age ON events (at);

-- Whoever is here already can be followed from now on.
INSERT INTO events (partner_id, subject, version, kind, object, person_id, state, at)
  SELECT partner_id, id, 1, 'PERSON', id, id, '', updated_at FROM persons WHERE version > 0;
