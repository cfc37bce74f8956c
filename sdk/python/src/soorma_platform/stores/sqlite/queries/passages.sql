-- name: collection
SELECT id, tenant_id, user_id, kind, change, parts, model FROM collections
WHERE tenant_id = ? AND user_id IS ? AND kind = ?;

-- name: add_collection
INSERT INTO collections (tenant_id, user_id, kind) VALUES (?, ?, ?) RETURNING id;

-- name: count_changes
-- Counts changes of a collection, and the parts that it has more; returns the last change.
UPDATE collections SET change = change + ?2, parts = parts + ?3 WHERE id = ?1 RETURNING change;

-- name: passage_by_id
SELECT number FROM passages WHERE collection = ? AND id = ?;

-- name: passage
SELECT number, collection, id, digest, recorded_at, updated_at, external_id, subject, attribute,
    aliases, tags, metadata, source, is_public, is_proposed, valid_from, valid_until,
    until_before, closed_at, closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause FROM passages
WHERE number = ?;

-- name: restated_as
SELECT passage FROM restatements WHERE collection = ? AND id = ?;

-- name: passages_by_digest
-- 4611686018427387904 is the end of what is not closed.
SELECT number FROM passages WHERE collection = ? AND digest = ? AND closed_at = 4611686018427387904;

-- name: passages_by_external_id
SELECT number FROM passages WHERE collection = ? AND external_id = ?
    AND closed_at = 4611686018427387904 AND valid_until > ?;

-- name: passages_by_subject
SELECT number FROM passages WHERE collection = ? AND subject = ? AND attribute = ?
    AND closed_at = 4611686018427387904 AND valid_until > ?;

-- name: doomed_passages
-- A passage or interaction, those that it has replaced, those derived from any of these, and so on:
-- in its own collection (?1), and those of what the user knows and how he does it, and of what is
-- public of both.
WITH RECURSIVE
    places (collection) AS (SELECT ?1 UNION SELECT ?3 UNION SELECT ?4 UNION SELECT ?5 UNION SELECT ?6),
    doomed (number, id) AS (
        SELECT number, id FROM passages WHERE number = ?2
        UNION
        SELECT p.number, p.id FROM doomed d JOIN passages p ON p.number IN (
            SELECT r.number FROM places c JOIN passages r
                ON r.collection = c.collection AND r.closed_by = d.id
            UNION ALL
            SELECT f.passage FROM places c JOIN passage_sources f
                ON f.collection = c.collection AND f.source = d.id
            UNION ALL
            SELECT f.passage FROM restatements n JOIN places c JOIN passage_sources f
                ON f.collection = c.collection AND f.source = n.id
            WHERE n.passage = d.number)
    )
SELECT number FROM doomed;

-- name: insert_passage
INSERT INTO passages (
    collection, id, digest, recorded_at, updated_at, external_id, subject, attribute, aliases, tags,
    metadata, source, is_public, is_proposed, valid_from, valid_until, until_before, closed_at,
    closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause, content)
VALUES (
    :collection, :id, :digest, :recorded_at, :updated_at, :external_id, :subject, :attribute,
    :aliases, :tags, :metadata, :source, :is_public, :is_proposed, :valid_from, :valid_until,
    :until_before, :closed_at, :closed_by, :derived_from, :trust, :user_id, :stated, :is_recalled, :revision, :plan_id, :outlives_plan, :origins, :cause,
    :content)
RETURNING number;

-- name: update_passage
UPDATE passages SET updated_at = :updated_at, aliases = :aliases, tags = :tags,
    derived_from = :derived_from,
    metadata = :metadata, source = :source, valid_from = :valid_from, valid_until = :valid_until,
    until_before = :until_before, closed_at = :closed_at, closed_by = :closed_by, stated = :stated, is_recalled = :is_recalled, revision = :revision,
    outlives_plan = :outlives_plan, origins = :origins
WHERE number = :number;

-- name: publish_passage
UPDATE passages SET collection = :collection, is_public = 1, is_proposed = 0,
    valid_until = :valid_until, closed_by = :closed_by, updated_at = :updated_at,
    revision = :revision
WHERE number = :number;

-- name: move_part
UPDATE passage_parts SET collection = ?3, change = ?4, valid_until = ?5
WHERE passage = ?1 AND part = ?2 AND terms IS NOT NULL;

-- name: vector_rows
SELECT rowid FROM part_vectors WHERE passage = ? ORDER BY part;

-- name: move_vector
UPDATE part_vectors SET collection = ?2, change = ?3 WHERE rowid = ?1;

-- name: use_first_model
-- A collection whose first vectors were moved to it.
UPDATE collections SET model = coalesce(
    (SELECT max(model) FROM part_vectors WHERE collection = ?1), 0)
WHERE id = ?1 AND model = 0;

-- name: move_restatements
UPDATE restatements SET collection = ?2 WHERE passage = ?1;

-- name: move_sources
UPDATE passage_sources SET collection = ?2 WHERE passage = ?1;

-- name: remove_passage
DELETE FROM passages WHERE number = ?;

-- name: insert_part
INSERT INTO passage_parts (
    collection, change, passage, part, starts, ends, length, recorded_at, closed_at, valid_from,
    valid_until, until_before, terms)
VALUES (
    :collection, :change, :passage, :part, :starts, :ends, :length, :recorded_at, :closed_at,
    :valid_from, :valid_until, :until_before, :terms);

-- name: update_part
UPDATE passage_parts SET change = ?3, closed_at = ?4, valid_from = ?5, valid_until = ?6,
    until_before = ?7, terms = coalesce(?8, terms)
WHERE passage = ?1 AND part = ?2;

-- name: collection_of
SELECT collection FROM passages WHERE number = ?;

-- name: replace_terms
UPDATE passage_parts SET change = ?3, terms = ?4
WHERE passage = ?1 AND part = ?2 AND terms IS NOT NULL;

-- name: remove_vectors
DELETE FROM part_vectors WHERE passage = ?;

-- name: remove_parts
-- The row that says to an index that they are gone is not one of them.
DELETE FROM passage_parts WHERE passage = ? AND terms IS NOT NULL;

-- name: whole_from
SELECT whole_from FROM collections WHERE id = ?;

-- name: remove_old_removals
DELETE FROM passage_parts WHERE rowid IN (
    SELECT rowid FROM passage_parts WHERE collection = ? AND change <= ? AND terms IS NULL
    ORDER BY change LIMIT 2)
RETURNING change;

-- name: raise_whole_from
UPDATE collections SET whole_from = max(whole_from, ?2) WHERE id = ?1;

-- name: parts_of
SELECT change, passage, part, starts, ends, length, recorded_at, closed_at, valid_from,
    valid_until, until_before, terms FROM passage_parts
WHERE passage = ? AND terms IS NOT NULL ORDER BY part;

-- name: parts_after
SELECT change, passage, part, starts, ends, length, recorded_at, closed_at, valid_from,
    valid_until, until_before, terms FROM passage_parts
WHERE collection = ? AND change > ? ORDER BY change LIMIT ?;

-- name: part_numbers
SELECT part FROM passage_parts WHERE passage = ? AND terms IS NOT NULL ORDER BY part;

-- name: insert_restatement
INSERT INTO restatements (collection, id, passage, plan_id, cause, at, is_recalled)
VALUES (:collection, :id, :passage, :plan_id, :cause, :at, :is_recalled) ON CONFLICT DO NOTHING;

-- name: remove_restatements
DELETE FROM restatements WHERE passage = ?;

-- name: insert_source
INSERT INTO passage_sources (collection, source, passage) VALUES (?, ?, ?) ON CONFLICT DO NOTHING;

-- name: remove_sources
DELETE FROM passage_sources WHERE passage = ?;

-- name: passage_text
SELECT number, collection, id, digest, recorded_at, updated_at, external_id, subject, attribute,
    aliases, tags, metadata, source, is_public, is_proposed, valid_from, valid_until,
    until_before, closed_at, closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause, content FROM passages
WHERE number = ?;

-- name: passages_after
-- ?10, an external id, is NULL here.
SELECT number, collection, id, digest, recorded_at, updated_at, external_id, subject, attribute,
    aliases, tags, metadata, source, is_public, is_proposed, valid_from, valid_until,
    until_before, closed_at, closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause, content FROM passages
WHERE collection = ?1 AND number > ?2 AND closed_at = 4611686018427387904
    AND (?4 = 0 OR is_proposed = 1) AND (?5 IS NULL OR source = ?5)
    AND (?6 IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?6))
    AND (?7 IS NULL OR (valid_from <= ?7 AND valid_until > ?7))
    AND (?8 IS NULL OR subject = ?8) AND (?9 IS NULL OR attribute = ?9) AND ?10 IS NULL
    AND EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?11 AND q.user_id IN ('', ?12)
            AND (q.origin = 'source:' || passages.source
                OR q.origin = 'agent:' || (passages.cause ->> '$.actor')
                OR q.origin IN (SELECT value FROM json_each(passages.origins)))) = ?13
ORDER BY number LIMIT ?3;

-- name: kind_of_passage
SELECT c.kind FROM passages p JOIN collections c ON c.id = p.collection WHERE p.number = ?;

-- name: passages_of_external_id
-- The plus keeps SQLite from going over all passages in the order of their numbers.
SELECT number, collection, id, digest, recorded_at, updated_at, external_id, subject, attribute,
    aliases, tags, metadata, source, is_public, is_proposed, valid_from, valid_until,
    until_before, closed_at, closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause, content FROM passages
WHERE collection = ?1 AND +number > ?2 AND closed_at = 4611686018427387904
    AND external_id = ?10 AND valid_until > ifnull(?7, -1)
    AND (?4 = 0 OR is_proposed = 1) AND (?5 IS NULL OR source = ?5)
    AND (?6 IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?6))
    AND (?7 IS NULL OR (valid_from <= ?7 AND valid_until > ?7))
    AND (?8 IS NULL OR subject = ?8) AND (?9 IS NULL OR attribute = ?9)
    AND EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?11 AND q.user_id IN ('', ?12)
            AND (q.origin = 'source:' || passages.source
                OR q.origin = 'agent:' || (passages.cause ->> '$.actor')
                OR q.origin IN (SELECT value FROM json_each(passages.origins)))) = ?13
ORDER BY +number LIMIT ?3;

-- name: passages_of_subject
-- ?10, an external id, is NULL here.
SELECT number, collection, id, digest, recorded_at, updated_at, external_id, subject, attribute,
    aliases, tags, metadata, source, is_public, is_proposed, valid_from, valid_until,
    until_before, closed_at, closed_by, derived_from, trust, user_id, stated, is_recalled, revision, plan_id, outlives_plan, origins, cause, content FROM passages
WHERE collection = ?1 AND +number > ?2 AND closed_at = 4611686018427387904
    AND subject = ?8 AND attribute = ?9 AND valid_until > ifnull(?7, -1)
    AND (?4 = 0 OR is_proposed = 1) AND (?5 IS NULL OR source = ?5)
    AND (?6 IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?6))
    AND (?7 IS NULL OR (valid_from <= ?7 AND valid_until > ?7))
    AND ?10 IS NULL
    AND EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?11 AND q.user_id IN ('', ?12)
            AND (q.origin = 'source:' || passages.source
                OR q.origin = 'agent:' || (passages.cause ->> '$.actor')
                OR q.origin IN (SELECT value FROM json_each(passages.origins)))) = ?13
ORDER BY +number LIMIT ?3;

-- name: add_erasure
INSERT INTO erasures DEFAULT VALUES;

-- name: last_erasure
SELECT max(id) FROM erasures;

-- name: end_erasures
DELETE FROM erasures WHERE id <= ?;

-- name: passages_to_forget
-- Of a collection, after a number: of a plan, source, agent, event, session, or from before a time.
SELECT p.number FROM passages p LEFT JOIN interactions i ON i.passage = p.number
    LEFT JOIN sessions s ON s.number = i.session
WHERE p.collection = ?1 AND p.number > ?2 AND p.user_id = ?3
    AND (?4 IS NULL OR p.plan_id = ?4)
    AND (?5 IS NULL OR p.source = ?5)
    AND (?6 IS NULL OR p.cause ->> '$.actor' = ?6 OR i.agent_id = ?6)
    AND (?7 IS NULL OR p.cause ->> '$.event_id' = ?7)
    AND (?8 IS NULL OR s.session_id = ?8)
    AND (?9 IS NULL OR p.recorded_at < ?9)
ORDER BY p.number LIMIT ?10;
