-- Tokens that are refused although their issuer has signed them: those of a user (subject), or one
-- (jti). '' as tenant_id stands for all tenants. `change` counts the changes of all blocks, for those
-- who follow them.
CREATE TABLE token_blocks (
    id TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    subject TEXT,
    jti TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT,
    expires_at INTEGER,
    lifted_at INTEGER,
    change INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX token_blocks_of_tenant ON token_blocks (tenant_id, change);
CREATE INDEX token_blocks_of_subject ON token_blocks (subject, issuer) WHERE subject IS NOT NULL;
CREATE INDEX token_blocks_of_jti ON token_blocks (jti, issuer) WHERE jti IS NOT NULL;
