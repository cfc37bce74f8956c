-- name: set_aside
UPDATE deliveries SET aside = coalesce(lane, ''), lane = NULL, ready_at = NULL, fence = NULL
WHERE id IN (
    SELECT id FROM deliveries
    WHERE subscription_id = ?1 AND ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL
        AND (fence IS NULL OR ready_at <= ?2)
    LIMIT ?3)
RETURNING group_id, aside;

-- name: set_aside_suspects
UPDATE deliveries SET aside = coalesce(lane, ''), lane = NULL, ready_at = NULL, fence = NULL
WHERE id IN (
    SELECT id FROM deliveries
    WHERE subscription_id = ?1 AND suspect IS NOT NULL AND ready_at IS NOT NULL AND replica IS NULL
        AND (fence IS NULL OR ready_at <= ?2)
    LIMIT ?3)
RETURNING group_id, aside;

-- name: to_set_aside
SELECT 1 FROM deliveries
WHERE subscription_id = ?1 AND ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL
UNION ALL SELECT 1 FROM deliveries
WHERE subscription_id = ?1 AND suspect IS NOT NULL AND ready_at IS NOT NULL AND replica IS NULL
LIMIT 1;

-- name: take_back
UPDATE deliveries SET lane = nullif(aside, ''), ready_at = CASE aside WHEN '' THEN ?2 END, aside = NULL
WHERE id IN (
    SELECT id FROM deliveries WHERE subscription_id = ?1 AND aside IS NOT NULL ORDER BY position LIMIT ?3)
RETURNING group_id, lane, position;

-- name: demote
UPDATE deliveries SET ready_at = NULL
WHERE group_id = ?1 AND lane = ?2 AND position > ?3 AND ready_at IS NOT NULL AND attempt = 0;

-- name: lead_free_lane
UPDATE deliveries SET ready_at = ?3
WHERE id = (SELECT id FROM deliveries WHERE group_id = ?1 AND lane = ?2 ORDER BY position LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.group_id = ?1 AND d.lane = ?2 AND d.ready_at IS NOT NULL)
    AND NOT EXISTS (
        SELECT 1 FROM dead_letters l WHERE l.position = deliveries.position AND l.group_id = ?1 AND l.parked);

-- name: count_aside
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE subscription_id = ? AND aside IS NOT NULL LIMIT ?);

-- name: aside_by_subscription
SELECT subscription_id, count(*) AS waiting FROM deliveries WHERE aside IS NOT NULL GROUP BY subscription_id;

-- name: find_subscription
SELECT s.id, s.group_id FROM subscriptions s JOIN groups g ON g.id = s.group_id
WHERE (?1 IS NULL OR g.tenant_id IN ('', ?1)) AND g.name = ?2 AND s.type = ?3 AND s.topic = ?4
ORDER BY g.tenant_id DESC LIMIT 1;

-- name: subscription_names
SELECT g.tenant_id, g.name, s.type, s.topic
FROM subscriptions s JOIN groups g ON g.id = s.group_id WHERE s.id = ?;

-- name: waiting_deliveries
SELECT id, lane FROM deliveries WHERE id > ?2 AND id <= ?2 + ?3 AND subscription_id = ?1;

-- name: last_delivery
SELECT coalesce(max(id), 0) FROM deliveries;

-- name: give_up_unsubscribed
INSERT INTO dead_letters (group_id, subscription_id, position, lane, attempts, failures, deaths, reason, at, parked)
SELECT group_id, subscription_id, position, coalesce(lane, nullif(aside, '')), attempt, failures, deaths, ?2, ?3, 0
FROM deliveries d WHERE id = ?1 AND NOT EXISTS (
    SELECT 1 FROM dead_letters l WHERE l.position = d.position AND l.group_id = d.group_id AND l.parked);

-- name: unpark_letters
UPDATE dead_letters SET parked = 0 WHERE subscription_id = ? AND parked;

-- name: end_subscription
DELETE FROM subscriptions WHERE id = ?;

-- name: stands_in
SELECT s.id FROM dead_letters l JOIN events e ON e.position = l.position
JOIN subscriptions s ON s.group_id = l.group_id AND s.type IN (e.type, '*') AND s.topic IN (e.topic, '*')
WHERE l.id = ? ORDER BY s.id = l.subscription_id DESC, s.type = '*', s.topic = '*' LIMIT 1;
