-- Sources and agents in quarantine for a user, or where user_id is empty, as no user's is, for all of
-- a tenant. An origin is `source:NAME` or `agent:NAME`.
CREATE TABLE quarantines (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    since INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (tenant_id, user_id, origin)
) WITHOUT ROWID;

-- The origins of what a memory is derived from, as JSON text. What was derived before this was
-- there has only its own.
ALTER TABLE passages ADD COLUMN origins TEXT NOT NULL DEFAULT '[]';
