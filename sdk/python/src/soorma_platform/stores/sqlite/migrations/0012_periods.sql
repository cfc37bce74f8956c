-- A passage that is replaced from a time on stays open until then. `until_before` says until when
-- it was thought to be true before: pairs of 8 bytes, a time at which `valid_until` became earlier,
-- and what it had been.
ALTER TABLE passages ADD COLUMN until_before BLOB;
ALTER TABLE passage_parts ADD COLUMN until_before BLOB;

-- What ended before a passage begins is not loaded to store that one.
DROP INDEX passages_by_external_id;
CREATE INDEX passages_by_external_id ON passages (collection, external_id, closed_at, valid_until)
WHERE external_id IS NOT NULL;
DROP INDEX passages_by_subject;
CREATE INDEX passages_by_subject ON passages (
    collection, subject, attribute, closed_at, valid_until)
WHERE subject IS NOT NULL;
