-- name: expired_keys
SELECT p.tenant_id, p.user_id, p.plan_id, e.key
FROM entries e JOIN plans p ON p.id = e.plan AND p.incarnation = e.incarnation
WHERE e.expires_at <= ? ORDER BY e.expires_at LIMIT ?;

-- name: expired_plans
SELECT tenant_id, user_id, plan_id, NULL AS key FROM plans WHERE expires_at <= ? ORDER BY expires_at LIMIT ?;

-- name: chores
SELECT kind, plan, incarnation, position, timer FROM chores LIMIT ?;

-- name: remove_chore
DELETE FROM chores WHERE kind = ? AND plan = ? AND incarnation = ?;

-- name: sizes_of_entries
SELECT octet_length(value) FROM entries WHERE plan = ? AND incarnation = ? LIMIT ?;

-- name: sizes_of_history
SELECT octet_length(argument) FROM history WHERE plan = ? AND incarnation = ? LIMIT ?;

-- name: sizes_of_bases
SELECT octet_length(value) FROM bases WHERE plan = ? AND incarnation = ? LIMIT ?;

-- name: sizes_of_compensations
SELECT octet_length(envelope) FROM compensations WHERE plan = ? AND incarnation = ? LIMIT ?;

-- name: sweep_entries
DELETE FROM entries WHERE (plan, incarnation, key) IN (
    SELECT plan, incarnation, key FROM entries WHERE plan = ? AND incarnation = ? LIMIT ?);

-- name: sweep_history
DELETE FROM history WHERE (plan, incarnation, revision, seq) IN (
    SELECT plan, incarnation, revision, seq FROM history WHERE plan = ? AND incarnation = ? LIMIT ?);

-- name: sweep_bases
DELETE FROM bases WHERE (plan, incarnation, key) IN (
    SELECT plan, incarnation, key FROM bases WHERE plan = ? AND incarnation = ? LIMIT ?);

-- name: plan_by_id
SELECT plan_id, created_at, updated_at, id, revision, incarnation, live, keys, size, actions, horizon, history_size,
    expires_at, status, ended_at, outcome, stalled, arranged, past_position, past_timer, updated_uptime, ended_uptime,
    end_position, ended_by
FROM plans WHERE id = ?;

-- name: oldest_history
SELECT revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action
FROM history WHERE plan = ? AND incarnation = ? AND revision <= ? AND action IS NULL
ORDER BY revision, seq LIMIT ?;

-- name: put_base
INSERT INTO bases (plan, incarnation, key, value) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: remove_base
DELETE FROM bases WHERE plan = ? AND incarnation = ? AND key = ?;

-- name: trim_history
DELETE FROM history WHERE plan = ? AND incarnation = ? AND revision <= ? AND action IS NULL;

-- name: raise_horizon
UPDATE plans SET horizon = ?, history_size = history_size - ? WHERE id = ?;

-- name: oldest_events
SELECT position, at,
    NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.position = e.position)
    AND NOT EXISTS (SELECT 1 FROM dead_letters l WHERE l.position = e.position) AS is_free
FROM events e WHERE position > ? ORDER BY position LIMIT ?;

-- name: remove_event
DELETE FROM events WHERE position = ?;

-- name: set_log_horizon
UPDATE log_horizon SET position = max(position, ?);

-- name: stale_subscriptions
SELECT s.id, s.group_id, g.name AS "group", g.tenant_id, s.type, s.topic, s.seen_at, s.seen_uptime
FROM subscriptions s JOIN groups g ON g.id = s.group_id WHERE s.seen_uptime < ?;

-- name: abandoned_deliveries
-- Deliveries that are ready, suspects, set aside, in hand, waiting in lanes of their group, or parked without a lane.
SELECT id, group_id, lane FROM (
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_ready
    WHERE subscription_id = ?1 AND ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL
    UNION ALL
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_suspect
    WHERE subscription_id = ?1 AND suspect IS NOT NULL AND ready_at IS NOT NULL AND replica IS NULL
    UNION ALL
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_aside
    WHERE subscription_id = ?1 AND aside IS NOT NULL
    UNION ALL
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_in_hand
    WHERE replica IS NOT NULL AND subscription_id = ?1
    UNION ALL
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_in_line
    WHERE group_id = (SELECT s.group_id FROM subscriptions s WHERE s.id = ?1) AND lane IS NOT NULL
        AND subscription_id = ?1 AND ready_at IS NULL
    UNION ALL
    SELECT id, group_id, lane FROM deliveries INDEXED BY deliveries_parked
    WHERE subscription_id = ?1 AND ready_at IS NULL AND lane IS NULL AND aside IS NULL
) LIMIT ?2;

-- name: abandon_dead_letters
DELETE FROM dead_letters WHERE subscription_id = ?;

-- name: lead_next
-- The oldest delivery of a lane leads it, unless it does already or is parked.
UPDATE deliveries SET ready_at = ?3
WHERE id = (SELECT id FROM deliveries WHERE group_id = ?1 AND lane = ?2 ORDER BY position LIMIT 1)
    AND ready_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM dead_letters l WHERE l.position = deliveries.position AND l.group_id = ?1 AND l.parked);

-- name: remove_subscription
DELETE FROM subscriptions WHERE id = ? AND seen_uptime < ?;

-- name: remove_empty_group
DELETE FROM groups WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE group_id = ?1)
    AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE group_id = ?1);

-- name: ended_plans
SELECT tenant_id, user_id, plan_id FROM plans WHERE ended_uptime <= ? ORDER BY ended_uptime LIMIT ?;

-- name: sweep_plan_timers
DELETE FROM timers WHERE id IN (
    SELECT t.id FROM timers t JOIN plans p
    ON t.tenant_id = p.tenant_id AND t.user_id = p.user_id AND t.plan_id = p.plan_id
    WHERE p.id = ? AND t.id <= ? LIMIT ?);

-- name: sweep_plan_dead_letters
DELETE FROM dead_letters WHERE id IN (
    SELECT l.id FROM plans p JOIN events e
    ON e.tenant_id = p.tenant_id AND e.user_id = p.user_id AND e.plan_id = p.plan_id
    JOIN dead_letters l ON l.position = e.position
    WHERE p.id = ? AND e.position <= ? LIMIT ?);

-- name: plan_deliveries
SELECT d.id, d.group_id, d.lane FROM plans p JOIN events e
ON e.tenant_id = p.tenant_id AND e.user_id = p.user_id AND e.plan_id = p.plan_id
JOIN deliveries d ON d.position = e.position
WHERE p.id = ? AND e.position <= ? LIMIT ?;

-- name: last_plan
SELECT coalesce(max(id), 0) FROM plans;

-- name: idle_plans
-- Plans in a range of rows that have not moved for a time, and that nothing could move.
SELECT p.tenant_id, p.user_id, p.plan_id, p.revision FROM plans p
WHERE p.id > ?1 AND p.id <= ?2 AND p.live AND p.updated_uptime <= ?3 AND p.stalled <> p.revision
    AND p.expires_at IS NULL
    AND (p.status = 'active' OR p.status = 'failed' AND EXISTS (
        SELECT 1 FROM compensations c WHERE c.plan = p.id AND c.incarnation = p.incarnation AND c.state < 2))
    AND EXISTS (
        SELECT 1 FROM events e WHERE e.tenant_id = p.tenant_id AND e.user_id = p.user_id AND e.plan_id = p.plan_id)
    AND NOT EXISTS (
        SELECT 1 FROM timers t WHERE t.tenant_id = p.tenant_id AND t.user_id = p.user_id AND t.plan_id = p.plan_id)
    AND NOT EXISTS (
        SELECT 1 FROM events e JOIN deliveries d ON d.position = e.position
        WHERE e.tenant_id = p.tenant_id AND e.user_id = p.user_id AND e.plan_id = p.plan_id
            AND (d.ready_at IS NOT NULL OR EXISTS (
                SELECT 1 FROM deliveries o WHERE o.group_id = d.group_id AND o.lane = d.lane AND o.ready_at IS NOT NULL)));

-- name: beat
-- A change that changes nothing: if it gets through, others would too.
UPDATE log_horizon SET position = position;
