-- name: collection_by_id
SELECT id, tenant_id, user_id, kind, change, parts, model FROM collections WHERE id = ?;

-- name: put_likeness
-- Only of passages that are still there: what is forgotten is not noted again.
INSERT INTO passage_likeness (passage, other, cosine)
SELECT ?1, ?2, ?3 FROM passages p JOIN passages o ON o.number = ?2 WHERE p.number = ?1
ON CONFLICT DO NOTHING;

-- name: alike
-- The open passages that seem to state the same as one.
SELECT p.id, l.cosine, p.source, p.cause, p.origins FROM passage_likeness l JOIN passages p ON p.number = l.other
WHERE l.passage = ?1 AND p.closed_at = 4611686018427387904
UNION ALL
SELECT p.id, l.cosine, p.source, p.cause, p.origins FROM passage_likeness l JOIN passages p ON p.number = l.passage
WHERE l.other = ?1 AND p.closed_at = 4611686018427387904
LIMIT ?2;

-- name: remove_likeness
DELETE FROM passage_likeness WHERE passage = ?1;

-- name: remove_likeness_of
DELETE FROM passage_likeness WHERE other = ?1;
