-- The registry: who the agents are, which of their processes are alive, which event types there are.
-- '' as tenant_id: of all tenants.

CREATE TABLE agents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    announced_at INTEGER NOT NULL,
    announcement TEXT NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX agents_in_order ON agents (tenant_id, id);

CREATE TABLE agent_instances (
    agent INTEGER NOT NULL,
    instance TEXT NOT NULL,
    announced_at INTEGER NOT NULL,
    heard_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ttl INTEGER NOT NULL,
    PRIMARY KEY (agent, instance)
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_instances_expiring ON agent_instances (expires_at);

-- What agents are found by: kind is 'capability', 'consumes' or 'produces'.
CREATE TABLE agent_traits (
    agent INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (agent, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE definitions (
    tenant_id TEXT NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    description TEXT NOT NULL,
    schema TEXT NOT NULL,
    mode TEXT,
    defined_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, type, version)
) STRICT, WITHOUT ROWID;
