-- API keys: '' as tenant_id stands for all tenants, NULL as user_id for all users. The record knows
-- the SHA-256 of a secret, never the secret. `change` counts the changes of all keys, for those who
-- follow them.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    role TEXT,
    grants TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT,
    expires_at INTEGER,
    revoked_at INTEGER,
    used_at INTEGER,
    change INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, change);

-- The family of the key by which an agent took a delivery; NULL on an open platform.
ALTER TABLE deliveries ADD COLUMN family TEXT;
