-- name: outstanding
SELECT g.name AS "group", g.tenant_id AS group_tenant, s.type AS subscribed_type, s.topic AS subscribed_topic, e.event_id,
    e.type, e.topic, e.tenant_id, e.user_id, e.plan_id, d.attempt, d.ready_at, d.fence, d.replica, d.family, d.reason,
    EXISTS (
        SELECT 1 FROM dead_letters l WHERE l.position = d.position AND l.group_id = d.group_id AND l.parked
    ) AS is_parked,
    d.aside IS NOT NULL AS is_aside
FROM deliveries d
JOIN groups g ON g.id = d.group_id
JOIN subscriptions s ON s.id = d.subscription_id
JOIN events e ON e.position = d.position
ORDER BY d.position, d.id;

-- name: timer_times
SELECT due_at, is_delay FROM timers ORDER BY due_at;

-- name: group_ids
SELECT id FROM groups;
