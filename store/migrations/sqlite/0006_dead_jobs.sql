-- +goose Up

-- The dead letters of a partner, newest first. There are few, so the index is small.
CREATE INDEX jobs_dead ON jobs (partner_id, id) WHERE dead = 1;
