-- +goose Up

-- The same tables as SQLite's. Times are Unix milliseconds, durations nanoseconds. Zero means "not set". Text that is
-- indexed has the collation C: its order is bytewise, whatever the locale, and outlasts upgrades of the system's.

CREATE TABLE counters (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('version', 0), ('incarnation', 0);

CREATE TABLE secrets (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE organizations (
    id                        UUID NOT NULL PRIMARY KEY,
    name                      TEXT NOT NULL,
    plan_name                 TEXT NOT NULL,
    plan_max_authorized       BIGINT, -- NULL = unlimited
    plan_live_overview        BOOLEAN NOT NULL,
    plan_history_retention_ns BIGINT NOT NULL,
    created_at                BIGINT NOT NULL,
    version                   BIGINT NOT NULL
);
CREATE INDEX organizations_version ON organizations (version);

CREATE TABLE applications (
    id                UUID NOT NULL PRIMARY KEY,
    organization      UUID NOT NULL,
    number            TEXT COLLATE "C" NOT NULL,
    name              TEXT NOT NULL,
    state             TEXT NOT NULL,
    publishable_key   TEXT COLLATE "C" NOT NULL,
    idle_after_ns     BIGINT NOT NULL,
    allowed_origins   TEXT NOT NULL, -- JSON
    strict_revocation BOOLEAN NOT NULL,
    hs256_secret      TEXT NOT NULL,
    jwks_url          TEXT NOT NULL,
    issuer            TEXT NOT NULL,
    audience          TEXT NOT NULL,
    epoch             BIGINT NOT NULL,
    revoked_at        BIGINT NOT NULL,
    revoked_by        TEXT NOT NULL,
    revoked_reason    TEXT NOT NULL,
    state_by          TEXT NOT NULL,
    last_connection   BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    version           BIGINT NOT NULL
);
CREATE UNIQUE INDEX applications_number ON applications (number);
CREATE UNIQUE INDEX applications_publishable_key ON applications (publishable_key) WHERE publishable_key <> '';
CREATE INDEX applications_version ON applications (version);

CREATE TABLE api_keys (
    public_id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization     UUID NOT NULL,
    name             TEXT NOT NULL,
    secret_hash      BYTEA NOT NULL,
    last_four        TEXT NOT NULL,
    scopes           TEXT NOT NULL, -- JSON
    all_applications BOOLEAN NOT NULL,
    applications     TEXT NOT NULL, -- JSON
    expires_at       BIGINT NOT NULL,
    revoked_at       BIGINT NOT NULL,
    last_used_at     BIGINT NOT NULL,
    last_used_ip     TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    version          BIGINT NOT NULL
);
CREATE INDEX api_keys_version ON api_keys (version);

CREATE TABLE denials (
    application UUID NOT NULL,
    token_id    TEXT COLLATE "C" NOT NULL,
    expires_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    PRIMARY KEY (application, token_id)
);
CREATE INDEX denials_version ON denials (version);
CREATE INDEX denials_expires_at ON denials (expires_at);

-- A row an incarnation, until its open records are closed. fenced_at is set by the sweep that closes them; no beat is taken after.
CREATE TABLE nodes (
    incarnation BIGINT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    claimed_at  BIGINT NOT NULL,
    beat_at     BIGINT NOT NULL,
    fenced_at   BIGINT NOT NULL
);

-- The key starts with the application, so that a session id can never reach another tenant's record (G8).
CREATE TABLE sessions (
    application      UUID NOT NULL,
    id               UUID NOT NULL,
    organization     UUID NOT NULL,
    server_id        TEXT COLLATE "C" NOT NULL,
    incarnation      BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    ip               TEXT NOT NULL,
    client_id        TEXT NOT NULL,
    login            TEXT NOT NULL,
    license          TEXT NOT NULL,
    authorized       BOOLEAN NOT NULL,
    token_expires_at BIGINT NOT NULL,
    name             TEXT NOT NULL,
    hostname         TEXT NOT NULL,
    user_agent       TEXT NOT NULL,
    client_info      BYTEA, -- NULL = none
    last_active_at   BIGINT NOT NULL,
    ended_at         BIGINT NOT NULL, -- 0 = open
    end_reason       TEXT NOT NULL,
    ended_by         TEXT NOT NULL,
    end_text         TEXT NOT NULL,
    PRIMARY KEY (application, id)
);
CREATE INDEX sessions_open ON sessions (incarnation) WHERE ended_at = 0;
CREATE INDEX sessions_ended ON sessions (application, created_at, server_id) WHERE ended_at <> 0;
CREATE INDEX sessions_expiry ON sessions (organization, ended_at) WHERE ended_at <> 0;
