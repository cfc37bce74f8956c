-- name: embedding_model
SELECT id, (SELECT max(id) FROM embedding_models) AS newest FROM embedding_models WHERE name = ?;

-- name: add_embedding_model
INSERT INTO embedding_models (name) VALUES (?) RETURNING id;

-- name: renew_embedding_model
UPDATE embedding_models SET id = (SELECT max(id) + 1 FROM embedding_models) WHERE id = ?
RETURNING id;

-- name: oldest_unembedded
SELECT collection, passage, part, starts, ends FROM passage_parts
WHERE model < ? AND terms IS NOT NULL ORDER BY model, rowid LIMIT ?;

-- name: newest_unembedded
SELECT collection, passage, part, starts, ends FROM passage_parts
WHERE model = 0 AND terms IS NOT NULL ORDER BY rowid DESC LIMIT ?;

-- name: count_unembedded
-- Counted up to a limit, so that a long backlog costs no more.
SELECT count(*) FROM (
    SELECT 1 FROM passage_parts WHERE model < ? AND terms IS NOT NULL LIMIT ?);

-- name: unembedded_of
SELECT count(*) FROM (
    SELECT 1 FROM passage_parts
    WHERE collection = ? AND model < ? AND terms IS NOT NULL LIMIT ?);

-- name: part_content
SELECT substr(content, ?2 + 1, ?3) FROM passages WHERE number = ?1;

-- name: embed_part
-- Only a part that is still there and has no vector of this model yet.
UPDATE passage_parts SET model = ?3 WHERE passage = ?1 AND part = ?2 AND model < ?3 AND terms IS NOT NULL
RETURNING collection;

-- name: put_vector
INSERT INTO part_vectors (collection, change, passage, part, model, vector)
VALUES (:collection, :change, :passage, :part, :model, :vector);

-- name: switch_model
UPDATE collections SET model = ?2 WHERE id = ?1;

-- name: model_of_collection
SELECT model FROM collections WHERE id = ?;

-- name: sweep_vectors
-- Vectors of earlier models; asked for once everything is embedded by this one.
DELETE FROM part_vectors WHERE rowid IN (SELECT rowid FROM part_vectors WHERE model < ? LIMIT ?);

-- name: vectors_after
SELECT change, passage, part, vector FROM part_vectors
WHERE collection = ? AND model = ? AND change > ? ORDER BY change LIMIT ?;
