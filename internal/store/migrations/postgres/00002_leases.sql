-- +goose Up

-- A lease is held by requests, not by a connection, so it outlives the process that knew it: another one, with a greater owner_epoch,
-- adopts it. lease_seconds 0 = a connection. lease has what the adopter must know beside the record (JSON), reporter is who reports
-- the session, "" = the client itself.
ALTER TABLE sessions ADD COLUMN owner_epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN lease_seconds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN reporter TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN lease TEXT NOT NULL DEFAULT '';

-- A dead node's connections are closed at once, its leases when they have run out: both are a range of this index.
DROP INDEX sessions_open;
CREATE INDEX sessions_open ON sessions (incarnation, lease_seconds) WHERE ended_at = 0;
-- A client may present a token that names no application.
CREATE INDEX sessions_leases ON sessions (id) WHERE lease_seconds <> 0 AND reporter = '';
