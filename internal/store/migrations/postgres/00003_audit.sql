-- +goose Up

-- What was changed, by whom and from where: appended to, and deleted by retention alone. application, actor, actor_name, ip and target
-- are '' where there is none.
CREATE TABLE audit (
    id           UUID NOT NULL PRIMARY KEY,
    organization UUID NOT NULL,
    application  TEXT COLLATE "C" NOT NULL,
    at           BIGINT NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,
    actor_type   TEXT NOT NULL,
    actor        TEXT NOT NULL, -- public id of the API key
    actor_name   TEXT NOT NULL,
    ip           TEXT NOT NULL,
    target       TEXT NOT NULL,
    count        BIGINT, -- NULL = not counted
    reason       TEXT NOT NULL,
    details      TEXT -- JSON; NULL = none
);
CREATE INDEX audit_organization ON audit (organization, at, id);
CREATE INDEX audit_action ON audit (organization, action, at, id);
CREATE INDEX audit_application ON audit (application, at, id) WHERE application <> '';

-- Lists of ended sessions are filtered by how and when they ended: in the index, where many match, and by this one, where few do.
DROP INDEX sessions_ended;
CREATE INDEX sessions_ended ON sessions (application, created_at, server_id, ended_at, end_reason) WHERE ended_at <> 0;
CREATE INDEX sessions_reason ON sessions (application, end_reason, ended_at) WHERE ended_at <> 0;
