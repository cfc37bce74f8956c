-- name: group_standings
-- The standing of each group at an uptime. Deliveries are scanned once for all groups, in indexes
-- that cover the query.
SELECT g.id AS group_id, g.name, coalesce(t.events, 0) AS events, coalesce(h.ready, 0) AS ready,
    coalesce(h.later, 0) - coalesce(i.in_hand, 0) AS delayed, coalesce(i.in_hand, 0) AS in_hand,
    coalesce(l.parked, 0) AS parked, coalesce(r.replicas, 0) AS replicas, coalesce(l.letters, 0) AS dead_letters,
    max(?1 - e.at, 0) / 1000.0 AS oldest_seconds
FROM groups g
LEFT JOIN (
    SELECT group_id, count(*) AS events, min(position) AS oldest FROM deliveries GROUP BY group_id
) t ON t.group_id = g.id
LEFT JOIN events e ON e.position = t.oldest
LEFT JOIN (
    SELECT s.group_id, sum(d.ready) AS ready, sum(d.later) AS later
    FROM (
        SELECT subscription_id, count(*) FILTER (WHERE ready_at <= ?1) AS ready,
            count(*) FILTER (WHERE ready_at > ?1) AS later
        FROM (
            SELECT subscription_id, ready_at FROM deliveries
            WHERE ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL
            UNION ALL SELECT subscription_id, ready_at FROM deliveries WHERE replica IS NOT NULL
            UNION ALL SELECT subscription_id, ready_at FROM deliveries
            WHERE suspect IS NOT NULL AND ready_at IS NOT NULL AND replica IS NULL)
        GROUP BY subscription_id
    ) d JOIN subscriptions s ON s.id = d.subscription_id
    GROUP BY s.group_id
) h ON h.group_id = g.id
LEFT JOIN (
    SELECT group_id, count(*) AS in_hand FROM deliveries WHERE replica IS NOT NULL AND ready_at > ?1 GROUP BY group_id
) i ON i.group_id = g.id
LEFT JOIN (SELECT group_id, count(*) AS letters, sum(parked) AS parked FROM dead_letters GROUP BY group_id) l
    ON l.group_id = g.id
LEFT JOIN (SELECT group_id, count(*) AS replicas FROM replicas GROUP BY group_id) r ON r.group_id = g.id;
