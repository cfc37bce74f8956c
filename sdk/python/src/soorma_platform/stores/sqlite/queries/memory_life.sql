-- name: last_collection
SELECT coalesce(max(id), 0) FROM collections;

-- name: aged_memories
-- Memories of a kind, in a range of collections, that have not changed since a time.
SELECT c.tenant_id, p.user_id, p.number
FROM collections c JOIN passages p ON p.collection = c.id
WHERE c.id > ?1 AND c.id <= ?2 AND c.kind = ?3 AND p.updated_at < ?4 LIMIT ?5;

-- name: long_closed_memories
-- 4611686018427387904 is the end of what is not closed.
SELECT c.tenant_id, p.user_id, p.number
FROM collections c JOIN passages p ON p.collection = c.id
WHERE c.id > ?1 AND c.id <= ?2 AND c.kind = ?3
    AND p.closed_at < 4611686018427387904 AND p.closed_at < ?4 LIMIT ?5;

-- name: users_of_tenant
-- Users who have stored anything, also if all of it is public.
SELECT user_id FROM collections WHERE tenant_id = ?1 AND user_id > ?2
UNION
SELECT p.user_id FROM collections c JOIN passages p ON p.collection = c.id
WHERE c.tenant_id = ?1 AND c.user_id IS NULL AND p.user_id > ?2
ORDER BY 1 LIMIT ?3;

-- name: memories_of_plan
-- Of a collection: those of a plan that do not outlive it, and were not stated from elsewhere, too.
SELECT p.number FROM passages p
WHERE p.collection = ?1 AND p.plan_id = ?2 AND p.outlives_plan = 0
    AND NOT EXISTS (SELECT 1 FROM restatements r WHERE r.passage = p.number AND r.plan_id IS NOT ?2)
LIMIT ?3;
