-- name: subscribers
SELECT s.id, s.group_id, g.name AS "group", s.type, s.topic, s.ordered
FROM subscriptions s JOIN groups g ON g.id = s.group_id
WHERE s.type IN (?1, '*') AND s.topic IN (?2, '*') AND g.tenant_id IN ('', ?3) AND NOT s.joining;

-- name: lane_is_busy
SELECT 1 FROM deliveries WHERE group_id = ? AND lane = ? LIMIT 1;

-- name: insert_delivery
INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at)
VALUES (:group_id, :subscription_id, :position, :lane, :ready_at);

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

-- name: holder
SELECT g.name AS agent, r.instance, e.envelope
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
    -- Whoever answers was not dead, though its connection was lost.
SET ready_at = ?1, reason = ?2, failures = failures + ?3, attempt = attempt - ?4, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE id = ?5;

-- name: park_delivery
UPDATE deliveries SET ready_at = NULL, reason = ?, fence = NULL, replica = NULL, suspect = NULL WHERE id = ?;

-- name: insert_dead_letter
INSERT INTO dead_letters (group_id, subscription_id, position, lane, attempts, failures, deaths, reason, at, parked)
VALUES (:group_id, :subscription_id, :position, :lane, :attempt, :failures, :deaths, :reason, :at, :parked);

-- name: claim
UPDATE deliveries
SET fence = lower(hex(randomblob(16))), attempt = attempt + 1, ready_at = CASE WHEN silences THEN ?4 ELSE ?3 END,
    replica = ?5, begun = 0, died = 0
WHERE id IN (
    SELECT id FROM deliveries WHERE subscription_id = ?1 AND ready_at <= ?2 AND replica IS NULL AND suspect IS NULL
    ORDER BY ready_at, id LIMIT ?6)
RETURNING id, fence, attempt, subscription_id, position, ready_at;

-- name: claimed_event
SELECT s.group_id, EXISTS (SELECT 1 FROM steps WHERE group_id = s.group_id AND position = e.position) AS has_steps,
    e.tenant_id, e.user_id, e.plan_id, e.envelope, e.type, e.outlives
FROM subscriptions s JOIN events e ON e.position = ?2 WHERE s.id = ?1;

-- name: is_heard_of
SELECT 1 FROM replicas WHERE id = ? AND heard_at >= ?;

-- name: next_ready
SELECT min(ready_at) FROM deliveries
WHERE subscription_id = ? AND ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL;

-- name: renew
UPDATE deliveries SET ready_at = CASE WHEN silences THEN ?3 ELSE ?2 END, begun = 1
WHERE fence = ?1 AND ready_at IS NOT NULL AND died < 2
    -- What was taken from an agent that gave no sign of life is not its any more, even if nobody else has it yet.
RETURNING fence;

-- name: renew_on_the_way
-- What was sent to an agent that is heard of, and that it has not named yet, waits for it in the socket.
UPDATE deliveries SET ready_at = CASE WHEN silences THEN ?3 ELSE ?2 END
WHERE replica = ?1 AND NOT begun AND ready_at IS NOT NULL;

-- name: resume
UPDATE deliveries
    -- It is not dead: its connection was lost.
SET ready_at = ?2, replica = ?3,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE fence = ?1 AND ready_at IS NOT NULL
RETURNING fence;

-- name: release_delivery
UPDATE deliveries
SET ready_at = ?2, attempt = attempt - 1, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE fence = ?1;

-- name: spare_leases
UPDATE deliveries SET ready_at = max(ready_at, ?1), replica = ''
    -- No replica of this run has them, so nobody dies if they run out: a power cut may have ended their agents too.
WHERE fence IS NOT NULL AND replica IS NOT NULL AND ready_at IS NOT NULL;

-- name: upsert_group
INSERT INTO groups (tenant_id, name, created_at) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id;

-- name: upsert_subscription
-- A new one is joining.
INSERT INTO subscriptions (group_id, type, topic, ordered, retry, seen_at, seen_uptime, ended_plans, joining)
VALUES (:group_id, :type, :topic, :ordered, :retry, :seen_at, :seen_uptime, :ended_plans, 1)
ON CONFLICT DO UPDATE SET ordered = excluded.ordered, retry = excluded.retry, seen_at = excluded.seen_at,
    seen_uptime = excluded.seen_uptime, ended_plans = excluded.ended_plans
RETURNING id;

-- name: group_subscriptions
SELECT id, type, topic FROM subscriptions WHERE group_id = ?;

-- name: group_id
SELECT id FROM groups WHERE tenant_id = ? AND name = ?;

-- name: known_subscriptions
SELECT id, type, topic, joining FROM subscriptions WHERE group_id = ?;

-- name: joined
UPDATE subscriptions SET joining = 0 WHERE id = ?;

-- name: untaken
SELECT at, position, lane, type, topic, tenant_id, octet_length(envelope) AS size FROM events INDEXED BY events_untaken
WHERE NOT taken AND at >= ?1 AND (at > ?1 OR position > ?2) ORDER BY at, position LIMIT ?3;

-- name: untaken_of_type
SELECT at, position, lane, type, topic, tenant_id, octet_length(envelope) AS size FROM events INDEXED BY events_untaken_by_type
WHERE NOT taken AND type = ?4 AND at >= ?1 AND (at > ?1 OR position > ?2) ORDER BY at, position LIMIT ?3;

-- name: insert_taken
INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: mark_taken
UPDATE events SET taken = 1 WHERE position = ?;

-- name: see_subscriptions
UPDATE subscriptions SET seen_at = ?2, seen_uptime = ?3 WHERE id IN (SELECT value FROM json_each(?1));

-- name: insert_replica
INSERT OR REPLACE INTO replicas (id, group_id, instance, max_concurrency, process, connected_at, heard_at, connection)
VALUES (:id, :group_id, :instance, :max_concurrency, :process, :connected_at, :heard_at, :connection);

-- name: is_outdated
SELECT 1 FROM replicas WHERE process = ? AND instance = ? AND group_id = ? AND connection > ?;

-- name: hear_replica
UPDATE replicas SET heard_at = ? WHERE id = ?;

-- name: drain_replica
UPDATE replicas SET draining = 1 WHERE id = ?;

-- name: remove_replica
DELETE FROM replicas WHERE id = ?;

-- name: forget_replicas
DELETE FROM replicas;

-- name: groups
SELECT id, tenant_id, name, created_at FROM groups
WHERE ?1 IS NULL OR tenant_id IN ('', ?1) ORDER BY name, tenant_id;

-- name: group_subscription_rows
SELECT id, type, topic, ordered, seen_at FROM subscriptions WHERE group_id = ? ORDER BY type, topic;

-- name: group_replicas
SELECT id, instance, max_concurrency, connected_at FROM replicas WHERE group_id = ? ORDER BY connected_at;

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
