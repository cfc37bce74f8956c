-- name: audit_passages
-- Of a tenant (?1) and a user (?2), each NULL for all; at most ?3 passages are looked at, the
-- user's own ones first. The content is not read, only its length.
SELECT kind, trust, source,
    count(*) FILTER (WHERE closed_at = 4611686018427387904) AS passages,
    count(*) FILTER (WHERE closed_at < 4611686018427387904) AS closed,
    sum(stated) AS stated,
    sum(max(stated - 1, 0)) AS restated,
    sum(is_recalled) + sum((
        SELECT count(*) FROM restatements r WHERE r.passage = number AND r.is_recalled)) AS recalled,
    sum(EXISTS (SELECT 1 FROM passage_likeness l WHERE l.passage = number)
        OR EXISTS (SELECT 1 FROM passage_likeness l WHERE l.other = number)) AS alike,
    count(*) FILTER (WHERE derived_from <> '[]') AS derived,
    count(*) FILTER (WHERE is_public AND closed_at = 4611686018427387904) AS public,
    count(*) FILTER (WHERE is_proposed) AS proposed,
    sum(size) AS bytes, min(recorded_at) AS oldest, max(recorded_at) AS newest
FROM (
    SELECT c.kind, p.number, p.trust, p.source, p.closed_at, p.stated, p.is_recalled,
        p.derived_from, p.is_public, p.is_proposed, p.user_id, p.recorded_at,
        octet_length(p.content) AS size
    FROM collections c CROSS JOIN passages p ON p.collection = c.id
    WHERE (?1 IS NULL OR c.tenant_id = ?1) AND c.user_id IS NOT NULL
        AND (?2 IS NULL OR c.user_id = ?2)
    UNION ALL
    SELECT c.kind, p.number, p.trust, p.source, p.closed_at, p.stated, p.is_recalled,
        p.derived_from, p.is_public, p.is_proposed, p.user_id, p.recorded_at,
        octet_length(p.content) AS size
    FROM collections c CROSS JOIN passages p ON p.collection = c.id
    WHERE (?1 IS NULL OR c.tenant_id = ?1) AND c.user_id IS NULL
    LIMIT ?3)
WHERE ?2 IS NULL OR user_id = ?2
GROUP BY kind, trust, source;

-- name: audit_counts
-- Sessions, procedures and parts of the same; of a user, in his own collections.
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM collections c CROSS JOIN sessions s ON s.collection = c.id
        WHERE (?1 IS NULL OR c.tenant_id = ?1) AND (?2 IS NULL OR c.user_id = ?2) LIMIT ?3)
    ) AS sessions,
    (SELECT count(*) FROM (
        SELECT 1 FROM collections c CROSS JOIN procedures s ON s.collection = c.id
        WHERE (?1 IS NULL OR c.tenant_id = ?1) AND (?2 IS NULL OR c.user_id = ?2) LIMIT ?3)
    ) AS procedures,
    (SELECT count(*) FROM (
        SELECT 1 FROM collections c CROSS JOIN passage_parts s
            ON s.collection = c.id AND s.terms IS NOT NULL
        WHERE (?1 IS NULL OR c.tenant_id = ?1) AND (?2 IS NULL OR c.user_id = ?2) LIMIT ?3)
    ) AS parts,
    (SELECT count(*) FROM (
        SELECT 1 FROM collections c CROSS JOIN passage_parts s
            ON s.collection = c.id AND s.terms IS NOT NULL
            AND s.model < coalesce((SELECT max(id) FROM embedding_models), 1)
        WHERE (?1 IS NULL OR c.tenant_id = ?1) AND (?2 IS NULL OR c.user_id = ?2) LIMIT ?3)
    ) AS unembedded,
    (SELECT count(*) FROM (
        SELECT 1 FROM collections c CROSS JOIN passages p ON p.collection = c.id
        WHERE (?1 IS NULL OR c.tenant_id = ?1)
            AND (?2 IS NULL OR c.user_id IS NULL OR c.user_id = ?2) LIMIT ?3)
    ) AS looked_at;
