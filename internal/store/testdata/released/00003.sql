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
CREATE TABLE audit (
    id           TEXT NOT NULL PRIMARY KEY,
    organization TEXT NOT NULL,
    application  TEXT NOT NULL,
    at           INTEGER NOT NULL,
    action       TEXT NOT NULL,
    actor_type   TEXT NOT NULL,
    actor        TEXT NOT NULL, -- public id of the API key
    actor_name   TEXT NOT NULL,
    ip           TEXT NOT NULL,
    target       TEXT NOT NULL,
    count        INTEGER, -- NULL = not counted
    reason       TEXT NOT NULL,
    details      TEXT -- JSON; NULL = none
) STRICT;
CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE denials (
    application TEXT NOT NULL,
    token_id    TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    PRIMARY KEY (application, token_id)
) STRICT;
CREATE TABLE nodes (
    incarnation INTEGER NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    claimed_at  INTEGER NOT NULL,
    beat_at     INTEGER NOT NULL,
    fenced_at   INTEGER NOT NULL
) STRICT;
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
CREATE TABLE rollcall_schema (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
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
    end_text         TEXT NOT NULL, owner_epoch INTEGER NOT NULL DEFAULT 0, lease_seconds INTEGER NOT NULL DEFAULT 0, reporter TEXT NOT NULL DEFAULT '', lease TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (application, id)
) STRICT;
CREATE INDEX api_keys_version ON api_keys (version);
CREATE UNIQUE INDEX applications_number ON applications (number);
CREATE UNIQUE INDEX applications_publishable_key ON applications (publishable_key) WHERE publishable_key <> '';
CREATE INDEX applications_version ON applications (version);
CREATE INDEX audit_action ON audit (organization, action, at, id);
CREATE INDEX audit_application ON audit (application, at, id) WHERE application <> '';
CREATE INDEX audit_organization ON audit (organization, at, id);
CREATE INDEX denials_expires_at ON denials (expires_at);
CREATE INDEX denials_version ON denials (version);
CREATE INDEX organizations_version ON organizations (version);
CREATE INDEX sessions_ended ON sessions (application, created_at, server_id, ended_at, end_reason) WHERE ended_at <> 0;
CREATE INDEX sessions_expiry ON sessions (organization, ended_at) WHERE ended_at <> 0;
CREATE INDEX sessions_leases ON sessions (id) WHERE lease_seconds <> 0 AND reporter = '';
CREATE INDEX sessions_open ON sessions (incarnation, lease_seconds) WHERE ended_at = 0;
CREATE INDEX sessions_reason ON sessions (application, end_reason, ended_at) WHERE ended_at <> 0;
INSERT INTO api_keys VALUES ('0123456789abcdef', '11111111-1111-4111-8111-111111111111', 'Backend', X'0102030000000000000000000000000000000000000000000000000000000000', 'IJKL', '["sessions:read","sessions:disconnect","sessions:create","applications:read","applications:write","account:read","audit:read"]', 0, '["550e8400-e29b-41d4-a716-446655440000"]', 1800000000000, 1750000000000, 1700000003000, '::1', 1700000000003, 3);
INSERT INTO applications VALUES ('550e8400-e29b-41d4-a716-446655440000', '11111111-1111-4111-8111-111111111111', '123456789', 'Desktop', 'paused', 'rca_0123456789abcdef', 300000000000, '["https://a.example"]', 1, 'at-least-32-bytes-of-secret-------', 'https://a.example/jwks', 'i', 'a', 7, 1700000000001, 'admin', 'stolen', 'admin', 1700000001002, 1700000000002, 2);
INSERT INTO audit VALUES ('01a2008e-0c4a-7324-9034-897af9043787', '11111111-1111-4111-8111-111111111111', '550e8400-e29b-41d4-a716-446655440000', 1700000004000, 'sessions.revoked', 'api_key', '0123456789abcdef', 'Backend', '203.0.113.10', 'ab', 3, 'stolen', '{"a":1}');
INSERT INTO counters VALUES ('incarnation', 1);
INSERT INTO counters VALUES ('version', 4);
INSERT INTO denials VALUES ('550e8400-e29b-41d4-a716-446655440000', 'jti:x', 1125899906842624, 4);
INSERT INTO nodes VALUES (1, 'srv-01', 1795305638984, 1795305638984, 0);
INSERT INTO organizations VALUES ('11111111-1111-4111-8111-111111111111', 'Ac''me 🦊', 'Pro', 100, 1, 2592000000000000, 1700000000000, 1);
INSERT INTO rollcall_schema VALUES (1, 0, 1, '2026-11-22 00:00:38');
INSERT INTO rollcall_schema VALUES (2, 1, 1, '2026-11-22 00:00:38');
INSERT INTO rollcall_schema VALUES (3, 2, 1, '2026-11-22 00:00:38');
INSERT INTO rollcall_schema VALUES (4, 3, 1, '2026-11-22 00:00:38');
INSERT INTO secrets VALUES ('token-signing', X'3031323334353637383961626364656630313233343536373839616263646566');
INSERT INTO sessions VALUES ('550e8400-e29b-41d4-a716-446655440000', '01a2008e-0c48-7e76-9ca1-4b396e129be6', '11111111-1111-4111-8111-111111111111', 'srv-01:01a2008e-0c48-7e76-9ca1-4b396e129be6', 1, 1700000001000, '203.0.113.10', '01a2008e-0c48-7e76-9ca1-4b396e129be6', 'john@example.com', 'ABCDEF-123456', 1, 1700000009000, 'abc ff 🦊', 'mbp-14', 'x/1', X'7B226E616D65223A2278227D', 0, 0, '', '', '', 0, 0, '', '');
INSERT INTO sessions VALUES ('550e8400-e29b-41d4-a716-446655440000', '01a2008e-0c48-7e98-944e-e76d0dea6410', '11111111-1111-4111-8111-111111111111', 'srv-01:01a2008e-0c48-7e98-944e-e76d0dea6410', 1, 1700000001001, '203.0.113.10', '01a2008e-0c48-7e98-944e-e76d0dea6410', 'john@example.com', 'ABCDEF-123456', 1, 1700000009000, 'abc ff 🦊', 'mbp-14', 'x/1', X'7B226E616D65223A2278227D', 1700000001999, 1700000002001, 'disconnected', '0123456789abcdef', 'bye', 0, 0, '', '');
INSERT INTO sessions VALUES ('550e8400-e29b-41d4-a716-446655440000', '01a2008e-0c48-7ea8-b6b6-a0375d7ba306', '11111111-1111-4111-8111-111111111111', 'srv-01:01a2008e-0c48-7ea8-b6b6-a0375d7ba306', 1, 1700000001002, '203.0.113.10', '01a2008e-0c48-7ea8-b6b6-a0375d7ba306', 'john@example.com', 'ABCDEF-123456', 1, 1700000009000, 'abc ff 🦊', 'mbp-14', 'x/1', X'7B226E616D65223A2278227D', 1700000001999, 1700000002002, 'disconnected', '0123456789abcdef', 'bye', 3, 90, '0123456789abcdef', '{"epoch":7,"cid":"client-001","named":true,"tokens":{"jti:y":1125899906842624}}');
