-- name: backlog
-- Parts without a vector of the newest model, counted up to ?1; those of no model wait since they
-- were stored, others since the model was changed, which nobody has noted.
SELECT (SELECT name FROM embedding_models ORDER BY id DESC LIMIT 1) AS model,
    (SELECT count(*) FROM (
        SELECT 1 FROM passage_parts
        WHERE model < coalesce((SELECT max(id) FROM embedding_models), 1) AND terms IS NOT NULL
        LIMIT ?1)
    ) AS unembedded,
    (SELECT recorded_at FROM passage_parts WHERE model = 0 AND terms IS NOT NULL
    ORDER BY rowid LIMIT 1) AS oldest_at;

-- name: most_parts
-- The collections of passages with the most parts.
SELECT tenant_id, user_id, parts AS total FROM collections WHERE kind = 0
ORDER BY parts DESC LIMIT ?;

-- name: most_procedures
SELECT c.tenant_id, c.user_id, p.total FROM (
    SELECT collection, count(*) AS total FROM procedures GROUP BY collection
    ORDER BY total DESC LIMIT ?) p
JOIN collections c ON c.id = p.collection ORDER BY p.total DESC;

-- name: largest_searches
-- What a search goes through: a collection, and with a user's the public one of the tenant.
SELECT s.tenant_id, s.user_id, s.parts, coalesce((
        SELECT length(v.vector) FROM part_vectors v
        WHERE v.collection = s.id AND v.model = s.model LIMIT 1), 0) AS vector_bytes
FROM (
    SELECT c.id, c.tenant_id, c.user_id, c.model, c.parts + coalesce(p.parts, 0) AS parts
    FROM collections c
    LEFT JOIN collections p ON p.tenant_id = c.tenant_id AND p.user_id IS NULL
        AND p.kind = c.kind AND c.user_id IS NOT NULL
    ORDER BY c.parts + coalesce(p.parts, 0) DESC LIMIT ?) s
ORDER BY s.parts DESC;

-- name: removals
SELECT count(*) FROM erasures;

-- name: proposals
-- Of knowledge (kind 0) and procedures (kind 2), among the ?1 memories that were stored last.
SELECT count(*) FILTER (WHERE c.kind = 0) AS passages, count(*) FILTER (WHERE c.kind = 2) AS versions
FROM (SELECT collection, is_proposed FROM passages ORDER BY number DESC LIMIT ?1) p
JOIN collections c ON c.id = p.collection WHERE p.is_proposed;

-- name: quarantined
SELECT count(*) FROM quarantines;
