-- name: agent_announcement
SELECT id, tenant_id, name, announced_at, announcement FROM agents WHERE tenant_id = ? AND name = ?;

-- name: count_agents
SELECT count(*) FROM agents WHERE tenant_id = ?;

-- name: put_agent
INSERT INTO agents (tenant_id, name, announced_at, announcement) VALUES (:tenant_id, :name, :at, :announcement)
ON CONFLICT DO UPDATE SET announced_at = excluded.announced_at, announcement = excluded.announcement
RETURNING id;

-- name: remove_traits
DELETE FROM agent_traits WHERE agent = ?;

-- name: add_trait
INSERT INTO agent_traits (agent, kind, name) VALUES (?, ?, ?);

-- name: count_other_instances
SELECT count(*) FROM agent_instances WHERE agent = ? AND instance <> ? AND expires_at > ?;

-- name: put_instance
INSERT INTO agent_instances (agent, instance, announced_at, heard_at, expires_at, ttl)
VALUES (:agent, :instance, :at, :at, :expires_at, :ttl)
ON CONFLICT DO UPDATE SET announced_at = excluded.announced_at, heard_at = excluded.heard_at,
    expires_at = excluded.expires_at, ttl = excluded.ttl;

-- name: hear_instance
UPDATE agent_instances SET heard_at = ?4, expires_at = ?5 + ttl
WHERE agent = (SELECT id FROM agents WHERE tenant_id = ?1 AND name = ?2) AND instance = ?3 AND expires_at > ?5
RETURNING instance, announced_at, heard_at, expires_at, ttl;

-- name: hear_agent
-- A replica that renews its leases is alive, even if its event loop is blocked.
UPDATE agent_instances SET heard_at = ?1, expires_at = ?2 + ttl
WHERE expires_at > ?2 AND (agent, instance) = (
    SELECT a.id, r.instance FROM replicas r
    JOIN groups g ON g.id = r.group_id JOIN agents a ON a.tenant_id = g.tenant_id AND a.name = g.name
    WHERE r.id = ?3);

-- name: remove_instance
DELETE FROM agent_instances
WHERE agent = (SELECT id FROM agents WHERE tenant_id = ?1 AND name = ?2) AND instance = ?3
RETURNING agent, expires_at > ?4 AS was_alive;

-- name: live_instances
SELECT instance, announced_at, heard_at, expires_at, ttl FROM agent_instances
WHERE agent = ? AND expires_at > ? ORDER BY announced_at, instance;

-- name: find_agents
SELECT a.id, a.tenant_id, a.name, a.announced_at, a.announcement FROM agents a
WHERE a.tenant_id IN ('', ?1) AND a.id > ?2 AND (?3 IS NULL OR a.name = ?3)
    AND (?4 IS NULL OR EXISTS (
        SELECT 1 FROM agent_traits t WHERE t.agent = a.id AND t.kind = 'capability' AND t.name = ?4))
    AND (?5 IS NULL OR EXISTS (
        SELECT 1 FROM agent_traits t WHERE t.agent = a.id AND t.kind = 'consumes' AND t.name = ?5))
    AND (?6 IS NULL OR EXISTS (
        SELECT 1 FROM agent_traits t WHERE t.agent = a.id AND t.kind = 'produces' AND t.name = ?6))
    AND EXISTS (SELECT 1 FROM agent_instances i WHERE i.agent = a.id AND i.expires_at > ?7)
ORDER BY a.id LIMIT ?8;

-- name: agent
-- A tenant's own agent comes before one of the same name that serves all tenants.
SELECT a.id, a.tenant_id, a.name, a.announced_at, a.announcement FROM agents a
WHERE a.tenant_id IN ('', ?1) AND a.name = ?2
    AND EXISTS (SELECT 1 FROM agent_instances i WHERE i.agent = a.id AND i.expires_at > ?3)
ORDER BY a.tenant_id DESC LIMIT 1;

-- name: expired_instances
SELECT agent, instance FROM agent_instances WHERE expires_at <= ? ORDER BY expires_at LIMIT ?;

-- name: sweep_instance
DELETE FROM agent_instances WHERE agent = ? AND instance = ?;

-- name: has_instances
SELECT 1 FROM agent_instances WHERE agent = ? LIMIT 1;

-- name: remove_agent
DELETE FROM agents WHERE id = ?;

-- name: exact_definition
SELECT type, version, tenant_id, topic, description, schema, mode, defined_at FROM definitions
WHERE tenant_id = ? AND type = ? AND version = ?;

-- name: count_definitions
SELECT count(*) FROM definitions WHERE tenant_id = ?;

-- name: insert_definition
INSERT INTO definitions (type, version, tenant_id, topic, description, schema, mode, defined_at)
VALUES (:type, :version, :tenant_id, :topic, :description, :schema, :mode, :defined_at);

-- name: remove_definition
DELETE FROM definitions WHERE tenant_id = ? AND type = ? AND version = ? RETURNING version;

-- name: definition
-- A tenant's own type hides that of all tenants.
SELECT type, version, tenant_id, topic, description, schema, mode, defined_at FROM definitions
WHERE type = ?2 AND (?3 IS NULL OR version = ?3)
    AND tenant_id = (SELECT max(tenant_id) FROM definitions WHERE tenant_id IN ('', ?1) AND type = ?2)
ORDER BY version DESC LIMIT 1;

-- name: definition_versions
SELECT version FROM definitions WHERE tenant_id = ? AND type = ? ORDER BY version;

-- name: newest_definitions
SELECT d.type, d.version, d.tenant_id, d.topic, d.description, d.schema, d.mode, d.defined_at FROM definitions d
WHERE d.tenant_id IN ('', ?1) AND d.type > ?2 AND (?3 IS NULL OR d.type = ?3) AND (?4 IS NULL OR d.topic = ?4)
    AND d.tenant_id = (SELECT max(o.tenant_id) FROM definitions o WHERE o.tenant_id IN ('', ?1) AND o.type = d.type)
    AND d.version = (SELECT max(n.version) FROM definitions n WHERE n.tenant_id = d.tenant_id AND n.type = d.type)
ORDER BY d.type LIMIT ?5;
