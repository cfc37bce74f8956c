-- name: procedure
SELECT number, collection, kind, name, newest, activated, updated_at FROM procedures
WHERE collection = ? AND kind = ? AND name = ?;

-- name: count_procedures
SELECT count(*) FROM procedures WHERE collection = ?;

-- name: versions_for_decision
SELECT v.passage, p.id, v.version, p.digest, p.closed_at, p.is_proposed, p.source, p.cause, p.origins
FROM procedure_versions v JOIN passages p ON p.number = v.passage
WHERE v.procedure = ? ORDER BY v.version;

-- name: add_procedure
INSERT INTO procedures (collection, kind, name, newest, activated, updated_at)
VALUES (:collection, :kind, :name, :newest, :activated, :updated_at) RETURNING number;

-- name: update_procedure
UPDATE procedures SET newest = :newest, activated = :activated, updated_at = :updated_at
WHERE number = :number;

-- name: insert_version
INSERT INTO procedure_versions (
    passage, procedure, version, head, description, agents, conditions, sizes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_procedure_file
INSERT INTO procedure_files (passage, path, content) VALUES (?, ?, ?);

-- name: switch_version
UPDATE passages SET closed_at = ?2, is_proposed = ?3, updated_at = ?4, revision = revision + 1
WHERE number = ?1 RETURNING collection;

-- name: use_version
-- Only one that is still there, and that the user may read.
INSERT INTO procedure_uses (tenant_id, user_id, plan_id, passage)
SELECT ?1, ?2, ?3, p.number FROM passages p JOIN procedure_versions v ON v.passage = p.number
WHERE p.id = ?4 AND p.collection IN (?5, ?6)
ON CONFLICT DO NOTHING;

-- name: count_outcome
UPDATE procedure_versions SET succeeded = succeeded + ?2, failed = failed + ?3 WHERE passage = ?1;

-- name: versions_used
SELECT passage FROM procedure_uses WHERE tenant_id = ? AND user_id = ? AND plan_id = ?;

-- name: end_uses
DELETE FROM procedure_uses WHERE tenant_id = ? AND user_id = ? AND plan_id = ?;

-- name: procedure_of
SELECT procedure FROM procedure_versions WHERE passage = ?;

-- name: remove_version
DELETE FROM procedure_versions WHERE passage = ?;

-- name: remove_files
DELETE FROM procedure_files WHERE passage = ?;

-- name: remove_uses
DELETE FROM procedure_uses WHERE passage = ?;

-- name: remove_empty_procedure
DELETE FROM procedures WHERE number = ?1
    AND NOT EXISTS (SELECT 1 FROM procedure_versions WHERE procedure = ?1);

-- name: active_versions
SELECT v.passage, r.name, v.agents, v.conditions, v.succeeded, v.failed, p.is_public
FROM procedures r JOIN procedure_versions v ON v.procedure = r.number
    JOIN passages p ON p.number = v.passage
WHERE r.collection = ?1 AND r.kind = ?2 AND p.closed_at = 4611686018427387904
    AND NOT EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?3 AND q.user_id IN ('', ?4)
            AND (q.origin = 'source:' || p.source
                OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                OR q.origin IN (SELECT value FROM json_each(p.origins))))
ORDER BY r.name;

-- name: stored_version
SELECT p.number, p.id, r.kind, r.name, v.version, p.recorded_at, p.updated_at, p.closed_at, p.trust,
    v.head, v.agents, p.tags, v.sizes, p.is_public, p.is_proposed, v.succeeded, v.failed,
    p.derived_from, p.cause, v.conditions, p.metadata, p.source, p.plan_id, v.description, p.content,
    p.origins
FROM procedure_versions v JOIN passages p ON p.number = v.passage
    JOIN procedures r ON r.number = v.procedure
WHERE v.passage = ?;

-- name: active_version
SELECT v.passage FROM procedure_versions v JOIN passages p ON p.number = v.passage
WHERE v.procedure = ? AND p.closed_at = 4611686018427387904;

-- name: numbered_version
-- A public proposal is read by who has made it, until it is activated.
SELECT v.passage FROM procedure_versions v JOIN passages p ON p.number = v.passage
WHERE v.procedure = ? AND v.version = ?
    AND (p.is_public = 0 OR p.is_proposed = 0 OR p.user_id = ?);

-- name: versions_before
SELECT p.number, p.id, r.kind, r.name, v.version, p.recorded_at, p.updated_at, p.closed_at, p.trust,
    v.head, v.agents, p.tags, v.sizes, p.is_public, p.is_proposed, v.succeeded, v.failed,
    p.derived_from, p.cause, v.conditions, p.metadata, p.source, p.plan_id, v.description
FROM procedure_versions v JOIN passages p ON p.number = v.passage
    JOIN procedures r ON r.number = v.procedure
WHERE v.procedure = ?1 AND v.version < ?2
    AND (p.is_public = 0 OR p.is_proposed = 0 OR p.user_id = ?3)
    AND EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?5 AND q.user_id IN ('', ?3)
            AND (q.origin = 'source:' || p.source
                OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                OR q.origin IN (SELECT value FROM json_each(p.origins)))) = ?6
ORDER BY v.version DESC LIMIT ?4;

-- name: versions_of
-- Those that a user may read.
SELECT v.passage FROM procedure_versions v JOIN passages p ON p.number = v.passage
WHERE v.procedure = ? AND (p.is_public = 0 OR p.is_proposed = 0 OR p.user_id = ?);

-- name: procedures_after
-- Of what a user may read; the description is that of the active version, else of the newest, and
-- what was counted that of the active one.
WITH seen AS (
    SELECT r.number, r.kind, r.name, r.updated_at, v.version, v.description, v.succeeded,
        v.failed, p.is_public, p.is_proposed, p.closed_at = 4611686018427387904 AS is_active,
        row_number() OVER (
            PARTITION BY r.number
            ORDER BY p.closed_at = 4611686018427387904 DESC, v.version DESC) AS place
    FROM procedures r JOIN procedure_versions v ON v.procedure = r.number
        JOIN passages p ON p.number = v.passage
    WHERE r.collection IN (?1, ?2) AND r.number > ?3 AND (?4 IS NULL OR r.kind = ?4)
        AND (p.is_public = 0 OR p.is_proposed = 0 OR p.user_id = ?5)
        AND NOT EXISTS (
            SELECT 1 FROM quarantines q
            WHERE q.tenant_id = ?8 AND q.user_id IN ('', ?5)
                AND (q.origin = 'source:' || p.source
                    OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                    OR q.origin IN (SELECT value FROM json_each(p.origins)))))
SELECT number, kind, name, count(*) AS versions, max(version) AS newest,
    sum(is_proposed) AS proposed, max(is_public) AS is_public, max(updated_at) AS updated_at,
    max(CASE WHEN is_active THEN version END) AS active,
    max(CASE WHEN is_active THEN succeeded ELSE 0 END) AS succeeded,
    max(CASE WHEN is_active THEN failed ELSE 0 END) AS failed,
    max(CASE WHEN place = 1 THEN description END) AS description
FROM seen GROUP BY number, kind, name HAVING ?6 = 0 OR sum(is_proposed) > 0
ORDER BY number LIMIT ?7;

-- name: procedure_file
SELECT content FROM procedure_files WHERE passage = ? AND path = ?;
