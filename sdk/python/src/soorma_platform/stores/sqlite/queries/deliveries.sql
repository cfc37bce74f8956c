-- name: delivery
SELECT d.id, d.group_id, g.name AS "group", d.subscription_id, e.event_id, d.position, e.tenant_id, e.user_id, e.plan_id,
    d.lane, e.lane AS plan_lane, d.attempt, s.retry, e.envelope, e.type, e.outlives, s.ended_plans, d.failures,
    d.deaths - (d.died > 0) AS deaths, d.silences - (d.died = 2) AS silences, d.cleared, d.alone AS died_alone, d.cohort,
    d.suspect IS NOT NULL AS is_suspect,
    CASE WHEN d.lane IS NULL THEN NULL ELSE (
        SELECT n.id FROM deliveries n
        WHERE n.group_id = d.group_id AND n.lane = d.lane AND n.id <> d.id
        ORDER BY n.position LIMIT 1) END AS next_in_lane
FROM deliveries d
JOIN events e ON e.position = d.position
JOIN groups g ON g.id = d.group_id
JOIN subscriptions s ON s.id = d.subscription_id
WHERE d.fence = ?;

-- name: scope_in_hand
SELECT e.tenant_id, e.user_id FROM deliveries d JOIN events e ON e.position = d.position WHERE d.fence = ?;

-- name: holder
SELECT g.name AS agent, r.instance, e.envelope, e.tenant_id, e.user_id, d.family
FROM deliveries d
JOIN events e ON e.position = d.position
JOIN groups g ON g.id = d.group_id
LEFT JOIN replicas r ON r.id = d.replica
WHERE d.fence = ?;

-- name: in_hand_of
SELECT e.event_id, e.type, d.group_id, g.name AS "group", d.lane
FROM events e
JOIN deliveries d ON d.position = e.position
JOIN groups g ON g.id = d.group_id
WHERE e.tenant_id = ? AND e.event_id = ? AND g.name = ? AND d.fence IS NOT NULL;

-- name: places
SELECT coalesce(sum(max_concurrency), 0) FROM replicas WHERE group_id = ?;

-- name: remove_delivery
DELETE FROM deliveries WHERE id = ?;

-- name: lead_lane
UPDATE deliveries SET ready_at = ? WHERE id = ?;

-- name: retry_delivery
UPDATE deliveries
    -- An agent that responds was not dead, though its connection was lost.
SET ready_at = ?1, reason = ?2, failures = failures + ?3, attempt = attempt - ?4, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE id = ?5;

-- name: park_delivery
UPDATE deliveries SET ready_at = NULL, reason = ?, fence = NULL, replica = NULL, suspect = NULL WHERE id = ?;
