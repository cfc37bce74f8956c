-- name: plan
SELECT plan_id, created_at, updated_at, id, revision, incarnation, live, keys, size, actions, horizon, history_size,
    expires_at, status, ended_at, outcome, stalled, arranged, past_position, past_timer, updated_uptime, ended_uptime,
    end_position, ended_by
FROM plans WHERE tenant_id = ? AND user_id = ? AND plan_id = ?;

-- name: insert_plan
INSERT INTO plans (
    tenant_id, user_id, plan_id, revision, incarnation, live, keys, size, actions, horizon,
    history_size, created_at, updated_at, expires_at, status, ended_at, outcome, stalled,
    arranged, past_position, past_timer, updated_uptime, ended_uptime, end_position, ended_by)
VALUES (
    :tenant_id, :user_id, :plan_id, :revision, :incarnation, :live, :keys, :size, :actions,
    :horizon, :history_size, :created_at, :updated_at, :expires_at, :status, :ended_at,
    :outcome, :stalled, :arranged, :past_position, :past_timer, :updated_uptime, :ended_uptime,
    :end_position, :ended_by)
RETURNING id;

-- name: count_change
-- Sets no indexed column: most changes need no more, and touch no index.
UPDATE plans SET
    revision = :revision, keys = :keys, size = :size, actions = :actions, history_size =
    :history_size, updated_at = :updated_at, updated_uptime = :updated_uptime
WHERE id = :id;

-- name: update_plan
UPDATE plans SET
    revision = :revision, incarnation = :incarnation, live = :live, keys = :keys, size = :size,
    actions = :actions, horizon = :horizon, history_size = :history_size, updated_at =
    :updated_at, expires_at = :expires_at, status = :status, ended_at = :ended_at, outcome =
    :outcome, stalled = :stalled, arranged = :arranged, past_position = :past_position,
    past_timer = :past_timer, updated_uptime = :updated_uptime, ended_uptime = :ended_uptime,
    end_position = :end_position, ended_by = :ended_by
WHERE id = :id;

-- name: entry
SELECT key, value, revision, updated_at, expires_at FROM held WHERE plan = ? AND incarnation = ? AND key = ?;

-- name: live_entry
SELECT e.key, e.value, e.revision, e.updated_at, e.expires_at
FROM plans p JOIN held e ON e.plan = p.id AND e.incarnation = p.incarnation
WHERE p.tenant_id = ? AND p.user_id = ? AND p.plan_id = ? AND e.key = ?
    AND (p.expires_at IS NULL OR p.expires_at > ?5) AND (e.expires_at IS NULL OR e.expires_at > ?5);

-- name: expired_keys_of_plan
-- Runs in each commit and mostly finds none, so their values are left to another query.
SELECT key FROM entries INDEXED BY entries_expiring_of_plan
WHERE plan = ? AND incarnation = ? AND expires_at <= ? LIMIT 1000;

-- name: hidden_entries
SELECT count(*) AS keys, coalesce(sum(octet_length(e.key) + octet_length(e.value)), 0) AS size
FROM entries x INDEXED BY entries_expiring_of_plan
CROSS JOIN held e ON e.plan = x.plan AND e.incarnation = x.incarnation AND e.key = x.key
WHERE x.plan = ? AND x.incarnation = ? AND x.expires_at <= ?;

-- name: count_live_entries
SELECT count(*) FROM entries WHERE plan = ? AND incarnation = ? AND (expires_at IS NULL OR expires_at > ?);

-- name: put_entry
INSERT INTO entries (plan, incarnation, key, value, seq, revision, updated_at, expires_at)
VALUES (:plan, :incarnation, :key, :value, :seq, :revision, :updated_at, :expires_at)
ON CONFLICT DO UPDATE SET value = excluded.value, seq = excluded.seq, revision = excluded.revision,
    updated_at = excluded.updated_at, expires_at = excluded.expires_at;

-- name: remove_entry
DELETE FROM entries WHERE plan = ? AND incarnation = ? AND key = ?;

-- name: live_entries
SELECT key, value, revision, updated_at, expires_at FROM held
WHERE plan = ?1 AND incarnation = ?2 AND key > ?3 AND (?4 IS NULL OR key >= ?4 AND key < ?5)
    AND (expires_at IS NULL OR expires_at > ?6)
ORDER BY key LIMIT ?7;

-- name: live_plans
SELECT plan_id, created_at, updated_at, id, revision, incarnation, live, keys, size, actions, horizon, history_size,
    expires_at, status, ended_at, outcome, stalled, arranged, past_position, past_timer, updated_uptime, ended_uptime,
    end_position, ended_by
FROM plans
WHERE tenant_id = ?1 AND user_id = ?2 AND plan_id > ?3 AND live AND (expires_at IS NULL OR expires_at > ?4)
    AND (?5 IS NULL OR status = ?5) AND (NOT ?6 OR stalled = revision AND status IN ('active', 'failed'))
ORDER BY plan_id LIMIT ?7;

-- name: insert_history
INSERT INTO history (
    plan, incarnation, revision, seq, op, key, at, action, actor, instance, event_id,
    correlation_id, trace_id, argument)
VALUES (
    :plan, :incarnation, :revision, :seq, :op, :key, :at, :action, :actor, :instance, :event_id,
    :correlation_id, :trace_id, :argument);

-- name: history
SELECT revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action
FROM history
WHERE plan = ?1 AND incarnation = ?2 AND revision > ?3 AND revision <= ?4 AND (?5 IS NULL OR key = ?5
    OR key IS NULL AND op IN ('cleanup', 'expire', 'purge', 'fork'))
ORDER BY revision, seq LIMIT ?6;

-- name: key_history
-- Newest first: the reader stops at the first row that builds on no earlier value.
SELECT revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action
FROM history WHERE plan = ? AND incarnation = ? AND (revision, seq) <= (?, ?) AND key = ?
ORDER BY revision DESC, seq DESC;

-- name: base
SELECT value FROM bases WHERE plan = ? AND incarnation = ? AND key = ?;

-- name: unchanged_entries
-- Entries that were not written since a revision.
SELECT key, value, revision, updated_at, expires_at FROM held
WHERE plan = ?1 AND incarnation = ?2 AND revision <= ?3 AND key > ?4 AND (?5 IS NULL OR key >= ?5 AND key < ?6)
ORDER BY key LIMIT ?7;

-- name: changed_keys
-- Keys that were written since a revision.
SELECT DISTINCT key FROM history
WHERE plan = ?1 AND incarnation = ?2 AND revision > ?3 AND key > ?4 AND (?5 IS NULL OR key >= ?5 AND key < ?6)
ORDER BY key LIMIT ?7;

-- name: keys_history
-- The keys of a JSON list, newest first: the reader stops when it has them all.
SELECT revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action
FROM history WHERE plan = ? AND incarnation = ? AND revision <= ? AND key IN (SELECT value FROM json_each(?))
ORDER BY revision DESC, seq DESC;

-- name: began_as_fork
SELECT 1 FROM history WHERE plan = ? AND incarnation = ? AND revision = ? AND op = 'fork';

-- name: actions
SELECT revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action
FROM history WHERE plan = ? AND incarnation = ? AND action > ? ORDER BY action LIMIT ?;

-- name: add_chore
INSERT OR IGNORE INTO chores (kind, plan, incarnation, position, timer)
VALUES (:kind, :plan, :incarnation, :position, :timer);
