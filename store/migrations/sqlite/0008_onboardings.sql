-- +goose Up

-- Where each person's onboarding stands, kept with the facts in the transaction that changes them. It holds codes, ids and times.
-- require is the partner's list it was judged by, separated by blanks; content is JSON: steps, next action, and what has to be kept of
-- the facts to judge the next one. version is also that of the person's newest event.
CREATE TABLE onboardings (
  partner_id TEXT    NOT NULL,
  person_id  TEXT    NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('NOT_STARTED', 'IN_PROGRESS', 'ACTION_REQUIRED', 'IN_REVIEW', 'APPROVED', 'REJECTED')),
  require    TEXT    NOT NULL,
  content    TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (partner_id, person_id),
  FOREIGN KEY (partner_id, person_id) REFERENCES persons (partner_id, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX onboardings_by_state ON onboardings (partner_id, state, person_id);
