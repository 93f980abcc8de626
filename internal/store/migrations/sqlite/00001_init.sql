-- +goose Up

-- Ids are text, times are Unix milliseconds, durations nanoseconds. Zero means "not set". STRICT, so that a value of the wrong type
-- is refused here as it would be by PostgreSQL.

CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('version', 0), ('incarnation', 0);

CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE organizations (
    id                        TEXT NOT NULL PRIMARY KEY,
    name                      TEXT NOT NULL,
    plan_name                 TEXT NOT NULL,
    plan_max_authorized       INTEGER, -- NULL = unlimited
    plan_live_overview        INTEGER NOT NULL,
    plan_history_retention_ns INTEGER NOT NULL,
    created_at                INTEGER NOT NULL,
    version                   INTEGER NOT NULL
) STRICT;
CREATE INDEX organizations_version ON organizations (version);

CREATE TABLE applications (
    id                TEXT NOT NULL PRIMARY KEY,
    organization      TEXT NOT NULL,
    number            TEXT NOT NULL,
    name              TEXT NOT NULL,
    state             TEXT NOT NULL,
    publishable_key   TEXT NOT NULL,
    idle_after_ns     INTEGER NOT NULL,
    allowed_origins   TEXT NOT NULL, -- JSON
    strict_revocation INTEGER NOT NULL,
    hs256_secret      TEXT NOT NULL,
    jwks_url          TEXT NOT NULL,
    issuer            TEXT NOT NULL,
    audience          TEXT NOT NULL,
    epoch             INTEGER NOT NULL,
    revoked_at        INTEGER NOT NULL,
    revoked_by        TEXT NOT NULL,
    revoked_reason    TEXT NOT NULL,
    state_by          TEXT NOT NULL,
    last_connection   INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    version           INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX applications_number ON applications (number);
CREATE UNIQUE INDEX applications_publishable_key ON applications (publishable_key) WHERE publishable_key <> '';
CREATE INDEX applications_version ON applications (version);

CREATE TABLE api_keys (
    public_id        TEXT NOT NULL PRIMARY KEY,
    organization     TEXT NOT NULL,
    name             TEXT NOT NULL,
    secret_hash      BLOB NOT NULL,
    last_four        TEXT NOT NULL,
    scopes           TEXT NOT NULL, -- JSON
    all_applications INTEGER NOT NULL,
    applications     TEXT NOT NULL, -- JSON
    expires_at       INTEGER NOT NULL,
    revoked_at       INTEGER NOT NULL,
    last_used_at     INTEGER NOT NULL,
    last_used_ip     TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    version          INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_version ON api_keys (version);

CREATE TABLE denials (
    application TEXT NOT NULL,
    token_id    TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    PRIMARY KEY (application, token_id)
) STRICT;
CREATE INDEX denials_version ON denials (version);
CREATE INDEX denials_expires_at ON denials (expires_at);

-- A row an incarnation, until its open records are closed. fenced_at is set by the sweep that closes them; no beat is taken after.
CREATE TABLE nodes (
    incarnation INTEGER NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    claimed_at  INTEGER NOT NULL,
    beat_at     INTEGER NOT NULL,
    fenced_at   INTEGER NOT NULL
) STRICT;

-- The key starts with the application, so that a session id can never reach another tenant's record (G8).
CREATE TABLE sessions (
    application      TEXT NOT NULL,
    id               TEXT NOT NULL,
    organization     TEXT NOT NULL,
    server_id        TEXT NOT NULL,
    incarnation      INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    ip               TEXT NOT NULL,
    client_id        TEXT NOT NULL,
    login            TEXT NOT NULL,
    license          TEXT NOT NULL,
    authorized       INTEGER NOT NULL,
    token_expires_at INTEGER NOT NULL,
    name             TEXT NOT NULL,
    hostname         TEXT NOT NULL,
    user_agent       TEXT NOT NULL,
    client_info      BLOB, -- NULL = none
    last_active_at   INTEGER NOT NULL,
    ended_at         INTEGER NOT NULL, -- 0 = open
    end_reason       TEXT NOT NULL,
    ended_by         TEXT NOT NULL,
    end_text         TEXT NOT NULL,
    PRIMARY KEY (application, id)
) STRICT;
CREATE INDEX sessions_open ON sessions (incarnation) WHERE ended_at = 0;
CREATE INDEX sessions_ended ON sessions (application, created_at, server_id) WHERE ended_at <> 0;
CREATE INDEX sessions_expiry ON sessions (organization, ended_at) WHERE ended_at <> 0;
