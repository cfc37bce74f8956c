-- A large value is written once: it stands in the history, in the row that has set it, and later in the bases.

ALTER TABLE entries ADD COLUMN seq INTEGER; -- of the history row of its revision that holds the value; NULL: it is here

CREATE VIEW held AS
SELECT e.plan, e.incarnation, e.key, e.revision, e.updated_at, e.expires_at,
    CASE WHEN e.seq IS NULL THEN e.value ELSE coalesce(
        (SELECT h.argument FROM history h
            WHERE h.plan = e.plan AND h.incarnation = e.incarnation AND h.revision = e.revision AND h.seq = e.seq),
        -- The history was trimmed, or the plan began as a fork.
        (SELECT b.value FROM bases b WHERE b.plan = e.plan AND b.incarnation = e.incarnation AND b.key = e.key)
    ) END AS value
FROM entries e;

-- By tenant and user first: whoever follows a correlation must not have to pass over what others call the same.
DROP INDEX events_by_correlation;
CREATE INDEX events_by_correlation ON events (tenant_id, user_id, correlation_id, position);

-- The how-manieth connection of its agent it is. What an earlier one says late must not count.
ALTER TABLE replicas ADD COLUMN connection INTEGER NOT NULL DEFAULT 0;
