-- name: timer
SELECT id, event_id, tenant_id, user_id, plan_id, due_at, incarnation, asked, fingerprint,
    envelope, is_delay, outlives FROM timers
WHERE tenant_id = ? AND event_id = ?;

-- name: insert_timer
INSERT INTO timers (
    event_id, tenant_id, user_id, plan_id, due_at, incarnation, asked, fingerprint, envelope,
    is_delay, outlives)
VALUES (
    :event_id, :tenant_id, :user_id, :plan_id, :due_at, :incarnation, :asked, :fingerprint,
    :envelope, :is_delay, :outlives);

-- name: remove_timer
DELETE FROM timers WHERE id = :id;

-- name: last_timer
SELECT coalesce(max(id), 0) FROM timers;

-- name: count_timers
SELECT count(*) FROM timers WHERE tenant_id = ? AND user_id = ? AND plan_id IS ?;

-- name: due_timers
-- Timers of one clock, the steady or the wall clock.
SELECT id, event_id, tenant_id, user_id, plan_id, due_at, incarnation, asked, fingerprint,
    envelope, is_delay, outlives FROM timers
WHERE is_delay = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?;

-- name: next_timer
SELECT (SELECT min(due_at) FROM timers WHERE is_delay = 1) AS delayed,
    (SELECT min(due_at) FROM timers WHERE is_delay = 0) AS timed;

-- name: timers
SELECT id, event_id, tenant_id, user_id, plan_id, due_at, incarnation, asked, fingerprint,
    envelope, is_delay, outlives FROM timers
WHERE tenant_id = ?1 AND user_id = ?2 AND id > ?3 AND (?4 IS NULL OR plan_id = ?4) ORDER BY id LIMIT ?5;
