-- What people and applications have done that an operator may have to account for: who, when, to
-- which thing. '' as tenant_id stands for all tenants, NULL as user_id for all users; by_id is the id
-- of a key, NULL where none was asked for. Neither subject nor detail holds content or a secret.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    action TEXT NOT NULL,
    by_id TEXT,
    by_name TEXT,
    subject TEXT,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_of_action ON audit (action);
CREATE INDEX audit_of_tenant ON audit (tenant_id);
CREATE INDEX audit_of_tenant_and_action ON audit (tenant_id, action);
