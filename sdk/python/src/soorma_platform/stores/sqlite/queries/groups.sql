-- name: upsert_group
INSERT INTO groups (tenant_id, name, created_at) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id;

-- name: upsert_subscription
-- A new subscription is joining.
INSERT INTO subscriptions (group_id, type, topic, ordered, retry, seen_at, seen_uptime, ended_plans, joining)
VALUES (:group_id, :type, :topic, :ordered, :retry, :seen_at, :seen_uptime, :ended_plans, 1)
ON CONFLICT DO UPDATE SET ordered = excluded.ordered, retry = excluded.retry, seen_at = excluded.seen_at,
    seen_uptime = excluded.seen_uptime, ended_plans = excluded.ended_plans
RETURNING id;

-- name: group_subscriptions
SELECT id, type, topic FROM subscriptions WHERE group_id = ?;

-- name: group_id
SELECT id FROM groups WHERE tenant_id = ? AND name = ?;

-- name: known_subscriptions
SELECT id, type, topic, joining FROM subscriptions WHERE group_id = ?;

-- name: joined
UPDATE subscriptions SET joining = 0 WHERE id = ?;

-- name: untaken
SELECT at, position, lane, type, topic, tenant_id, octet_length(envelope) AS size FROM events INDEXED BY events_untaken
WHERE NOT taken AND at >= ?1 AND (at > ?1 OR position > ?2) ORDER BY at, position LIMIT ?3;

-- name: untaken_of_type
SELECT at, position, lane, type, topic, tenant_id, octet_length(envelope) AS size FROM events INDEXED BY events_untaken_by_type
WHERE NOT taken AND type = ?4 AND at >= ?1 AND (at > ?1 OR position > ?2) ORDER BY at, position LIMIT ?3;

-- name: insert_taken
INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: mark_taken
UPDATE events SET taken = 1 WHERE position = ?;

-- name: see_subscriptions
UPDATE subscriptions SET seen_at = ?2, seen_uptime = ?3 WHERE id IN (SELECT value FROM json_each(?1));

-- name: insert_replica
INSERT OR REPLACE INTO replicas (id, group_id, instance, max_concurrency, process, connected_at, heard_at, connection)
VALUES (:id, :group_id, :instance, :max_concurrency, :process, :connected_at, :heard_at, :connection);

-- name: is_outdated
SELECT 1 FROM replicas WHERE process = ? AND instance = ? AND group_id = ? AND connection > ?;

-- name: hear_replica
UPDATE replicas SET heard_at = ? WHERE id = ?;

-- name: drain_replica
UPDATE replicas SET draining = 1 WHERE id = ?;

-- name: remove_replica
DELETE FROM replicas WHERE id = ?;

-- name: forget_replicas
DELETE FROM replicas;

-- name: groups
SELECT id, tenant_id, name, created_at FROM groups
WHERE ?1 IS NULL OR tenant_id IN ('', ?1) ORDER BY name, tenant_id;

-- name: group_subscription_rows
SELECT id, type, topic, ordered, seen_at FROM subscriptions WHERE group_id = ? ORDER BY type, topic;

-- name: group_replicas
SELECT id, instance, max_concurrency, connected_at FROM replicas WHERE group_id = ? ORDER BY connected_at;
