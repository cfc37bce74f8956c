-- name: contents
SELECT
    (SELECT count(*) FROM plans WHERE live) AS plans,
    (SELECT coalesce(sum(revision), 0) FROM plans) AS revisions,
    (SELECT count(*) FROM events) AS events,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS log_end,
    (SELECT count(*) FROM deliveries) AS deliveries,
    (SELECT count(*) FROM dead_letters) AS dead_letters;

-- name: free_all
-- Deliveries in hand are ready, as if not begun. Those that wait, back off or are parked stay so.
UPDATE deliveries SET
    attempt = CASE WHEN replica IS NULL THEN attempt ELSE attempt - 1 END,
    ready_at = CASE WHEN replica IS NULL OR ready_at IS NULL THEN ready_at ELSE (SELECT uptime FROM clock) END,
    fence = NULL, replica = NULL, begun = 0
WHERE fence IS NOT NULL;

-- name: begin_positions
INSERT INTO sqlite_sequence (name, seq)
SELECT 'events', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events');

-- name: skip_positions
UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'events';
