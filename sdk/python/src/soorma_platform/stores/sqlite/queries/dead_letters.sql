-- name: insert_dead_letter
INSERT INTO dead_letters (group_id, subscription_id, position, lane, attempts, failures, deaths, reason, at, parked)
VALUES (:group_id, :subscription_id, :position, :lane, :attempt, :failures, :deaths, :reason, :at, :parked);

-- name: dead_letters
SELECT l.id, g.name AS "group", e.event_id, e.type, e.topic, e.tenant_id, e.user_id, e.plan_id, l.attempts, l.failures, l.deaths,
    l.reason, l.at, l.parked, e.envelope
FROM dead_letters l JOIN groups g ON g.id = l.group_id JOIN events e ON e.position = l.position
WHERE l.id > ?1 AND (?2 IS NULL OR g.name = ?2) AND (?3 IS NULL OR e.tenant_id = ?3)
ORDER BY l.id LIMIT ?4;

-- name: dead_letter
SELECT l.id, l.group_id, l.position, l.lane, l.parked, e.tenant_id, e.user_id, e.plan_id, e.type, e.outlives, s.ended_plans
FROM dead_letters l
JOIN events e ON e.position = l.position
LEFT JOIN subscriptions s ON s.id = l.subscription_id WHERE l.id = ?1 AND (?2 IS NULL OR e.tenant_id = ?2);

-- name: remove_dead_letter
DELETE FROM dead_letters WHERE id = ?;

-- name: unpark
UPDATE deliveries
SET ready_at = ?, attempt = 0, failures = 0, deaths = 0, silences = 0, cleared = 0, alone = 0, cohort = NULL,
    suspect = NULL, reason = NULL
WHERE position = ? AND group_id = ?;

-- name: replay_delivery
INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at)
SELECT ?1, ?2, ?3, ?4, CASE WHEN ?4 IS NULL OR NOT EXISTS (
    SELECT 1 FROM deliveries d WHERE d.group_id = ?1 AND d.lane = ?4) THEN ?5 END
ON CONFLICT DO NOTHING;
