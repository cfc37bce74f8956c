-- name: clock
-- A process that died may have written events after it last kept the clock: none is to be of the future.
SELECT max(uptime, coalesce((SELECT at FROM events ORDER BY position DESC LIMIT 1), 0)), steady, wall,
    unsettled, boot, since_boot
FROM clock;

-- name: keep_clock
INSERT INTO clock (id, uptime, steady, wall, unsettled, boot, since_boot) VALUES (1, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET uptime = excluded.uptime, steady = excluded.steady, wall = excluded.wall,
    unsettled = excluded.unsettled, boot = excluded.boot, since_boot = excluded.since_boot;
