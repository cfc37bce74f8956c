-- name: outstanding
SELECT g.name, g.tenant_id, s.type, s.topic, e.event_id, e.type, e.topic, e.tenant_id, e.user_id, e.plan_id, d.attempt, d.ready_at,
    d.fence, d.replica, d.reason,
    EXISTS (SELECT 1 FROM dead_letters l WHERE l.position = d.position AND l.group_id = d.group_id AND l.parked),
    d.aside IS NOT NULL
FROM deliveries d
JOIN groups g ON g.id = d.group_id
JOIN subscriptions s ON s.id = d.subscription_id
JOIN events e ON e.position = d.position
ORDER BY d.position, d.id;

-- name: timer_times
SELECT due_at FROM timers ORDER BY due_at;

-- name: group_ids
SELECT id FROM groups;
