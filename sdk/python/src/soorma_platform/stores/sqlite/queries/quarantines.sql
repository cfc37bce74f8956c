-- name: quarantine
SELECT origin, since, reason, user_id FROM quarantines
WHERE tenant_id = ? AND user_id = ? AND origin = ?;

-- name: count_quarantines
SELECT count(*) FROM quarantines WHERE tenant_id = ? AND user_id = ?;

-- name: insert_quarantine
INSERT INTO quarantines (tenant_id, user_id, origin, since, reason)
VALUES (:tenant_id, :user_id, :origin, :since, :reason);

-- name: end_quarantine
DELETE FROM quarantines WHERE tenant_id = ? AND user_id = ? AND origin = ?;

-- name: quarantines_of
-- Of a tenant, and of a user of it unless that is empty.
SELECT origin, since, reason, user_id FROM quarantines
WHERE tenant_id = ? AND user_id IN ('', ?) ORDER BY since, origin;

-- name: quarantined_origins
SELECT origin FROM quarantines WHERE tenant_id = ? AND user_id IN ('', ?);

-- name: origins_of
-- Of a memory by an id, also one that it was restated under, in these collections.
WITH named (number) AS (
    SELECT number FROM passages WHERE id = ?1 AND collection IN (?2, ?3, ?4, ?5, ?6)
    UNION
    SELECT passage FROM restatements WHERE id = ?1 AND collection IN (?2, ?3, ?4, ?5, ?6))
SELECT 'source:' || p.source FROM named n JOIN passages p ON p.number = n.number
WHERE p.source IS NOT NULL
UNION
SELECT 'agent:' || (p.cause ->> '$.actor') FROM named n JOIN passages p ON p.number = n.number
WHERE p.cause ->> '$.actor' IS NOT NULL
UNION
SELECT 'agent:' || i.agent_id FROM named n JOIN interactions i ON i.passage = n.number
WHERE i.agent_id IS NOT NULL
UNION
SELECT o.value FROM named n JOIN passages p ON p.number = n.number, json_each(p.origins) o;

-- name: derived_passages
-- What is derived from a passage of a collection (?1, ?2), what is derived from that, and so on, in
-- these collections; not the passage itself, which its own change has written.
WITH RECURSIVE
    places (collection) AS (SELECT ?1 UNION SELECT ?3 UNION SELECT ?4 UNION SELECT ?5 UNION SELECT ?6),
    derived (number, id) AS (
        SELECT number, id FROM passages WHERE number = ?2
        UNION
        SELECT p.number, p.id FROM derived d JOIN passages p ON p.number IN (
            SELECT f.passage FROM places c JOIN passage_sources f
                ON f.collection = c.collection AND f.source = d.id
            UNION ALL
            SELECT f.passage FROM restatements n JOIN places c JOIN passage_sources f
                ON f.collection = c.collection AND f.source = n.id
            WHERE n.passage = d.number)
    )
SELECT number FROM derived WHERE number <> ?2;

-- name: add_origins
UPDATE passages SET origins = (
    SELECT json_group_array(value) FROM (
        SELECT value FROM json_each(origins) UNION SELECT value FROM json_each(?2)))
WHERE number = ?1;
