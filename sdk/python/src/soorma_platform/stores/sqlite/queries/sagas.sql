-- name: next_compensation
-- The last one registered that still waits.
SELECT seq, event_id, state, envelope FROM compensations
WHERE plan = ? AND incarnation = ? AND state = 0 ORDER BY seq DESC LIMIT 1;

-- name: compensation_under_way
SELECT seq, event_id, state, envelope FROM compensations WHERE plan = ? AND incarnation = ? AND state = 1 LIMIT 1;

-- name: count_compensations
SELECT count(*) FROM compensations WHERE plan = ? AND incarnation = ?;

-- name: put_compensation
INSERT INTO compensations (plan, incarnation, seq, event_id, state, envelope)
VALUES (:plan, :incarnation, :seq, :event_id, :state, :envelope)
ON CONFLICT DO UPDATE SET state = excluded.state, event_id = excluded.event_id;

-- name: registered_compensation
SELECT envelope FROM compensations WHERE plan = ? AND incarnation = ? AND event_id = ?;

-- name: other_deliveries
-- A dead letter counts too: it blocks the next compensation until it is replayed.
SELECT (SELECT count(*) FROM deliveries WHERE position = ?1 AND id <> ?2)
    + (SELECT count(*) FROM dead_letters WHERE position = ?1);

-- name: compensations
SELECT seq, event_id, state, envelope FROM compensations WHERE plan = ? AND incarnation = ? ORDER BY seq;

-- name: sweep_compensations
DELETE FROM compensations WHERE (plan, incarnation, seq) IN (
    SELECT plan, incarnation, seq FROM compensations WHERE plan = ? AND incarnation = ? LIMIT ?);
