-- name: known_event
-- The fingerprint of the event published under an id; NULL if it is a timer that still waits.
SELECT fingerprint FROM events WHERE tenant_id = ?1 AND event_id = ?2
UNION ALL SELECT NULL FROM timers WHERE tenant_id = ?1 AND event_id = ?2
LIMIT 1;

-- name: insert_event
INSERT INTO events (
    tenant_id, user_id, event_id, plan_id, lane, topic, type, correlation_id, at, taken,
    fingerprint, envelope, outlives)
VALUES (
    :tenant_id, :user_id, :event_id, :plan_id, :lane, :topic, :type, :correlation_id, :at,
    :taken, :fingerprint, :envelope, :outlives)
RETURNING position;

-- name: log
SELECT position, tenant_id, user_id, topic, type, correlation_id, envelope
FROM events WHERE position > ? ORDER BY position LIMIT ?;

-- name: log_bounds
SELECT (SELECT position FROM log_horizon) AS horizon,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS "end";

-- name: event
SELECT position, tenant_id, user_id, topic, type, correlation_id, envelope
FROM events WHERE tenant_id = ? AND event_id = ?;

-- name: correlated
SELECT position, tenant_id, user_id, topic, type, correlation_id, envelope
FROM events WHERE correlation_id = ? AND position > ? AND tenant_id = ? AND user_id = ? ORDER BY position LIMIT ?;

-- name: subscribers
SELECT s.id, s.group_id, g.name AS "group", s.type, s.topic, s.ordered
FROM subscriptions s JOIN groups g ON g.id = s.group_id
WHERE s.type IN (?1, '*') AND s.topic IN (?2, '*') AND g.tenant_id IN ('', ?3) AND NOT s.joining;

-- name: lane_is_busy
SELECT 1 FROM deliveries WHERE group_id = ? AND lane = ? LIMIT 1;

-- name: insert_delivery
INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at)
VALUES (:group_id, :subscription_id, :position, :lane, :ready_at);
